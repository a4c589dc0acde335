/* Import, the store's side: entries of any libarchive source, or records of any other, become keys, small values many to a transaction. */
#ifndef KVFS_IMPORT_H
#define KVFS_IMPORT_H

#include "cli.h"

#include <archive.h>
#include <archive_entry.h>

struct import;

/* Keys go under `dir` ("" the root).  `once`: no name comes twice (a tree), so that order among keys does not matter.  0 or a negative errno. */
int import_begin(struct cli *cli, const char *dir, bool once, struct import **ret);
/* Takes one entry, its data read from `in`.  What cannot be taken is said and remembered; CLI_TROUBLE when going on is useless. */
int import_entry(struct import *im, struct archive *in, struct archive_entry *entry);
/* Takes one record: a whole key, which must be legal, and its value.  What it has in the store otherwise (a directory, a link) is never replaced. */
int import_record(struct import *im, const char *key, const void *data, size_t len);
/* Stores what is pending.  CLI_TROUBLE when the store takes nothing more. */
int import_flush(struct import *im);
/* Stores what is pending, sets the attributes of directories, and frees `im`.  Exit status: CLI_TROUBLE if anything failed. */
int import_end(struct import *im);

#endif
