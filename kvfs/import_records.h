/* kvfs import --from: records of a source that is no tree. */
#ifndef KVFS_IMPORT_RECORDS_H
#define KVFS_IMPORT_RECORDS_H

#include "cli.h"

struct import_records {
	const char *from; /* KIND:FILE[#FRAGMENT] */
	const char *dir; /* keys go under it; "" the root */
	bool paths; /* a key is a path as it is; else it gets the name that kvfs.Dict would give it */
	bool json; /* values are JSON texts */
	bool sort;
};
/* False, with a usage line, when `from` names no kind there is. */
bool import_records_known(struct cli *cli, const char *from);
/* Exit status; everything is told. */
int import_records(struct cli *cli, const struct import_records *how);

#endif
