/* kvfs export --to csv: and jsonl:, records. */
#ifndef KVFS_EXPORT_RECORDS_H
#define KVFS_EXPORT_RECORDS_H

#include "cli.h"

enum export_kind { EXPORT_TAR, EXPORT_CSV, EXPORT_JSONL };
struct export_records {
	enum export_kind kind;
	const char *dir;
	bool typed; /* names are those of typed keys, which are written; else the paths are */
	bool json; /* values are JSON texts, and stand as such */
};
/* Writes the values below `dir` to standard output, as the transaction sees them.  Exit status; everything is told. */
int export_records(struct cli *cli, struct kvfs_txn *txn, const struct export_records *how);

#endif
