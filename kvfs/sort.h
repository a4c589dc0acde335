/* Any number of records in the order of the store's keys; of equal keys the later one comes later. */
#ifndef KVFS_SORT_H
#define KVFS_SORT_H

#include <stddef.h>

struct sorter;

/* 0 or a negative errno, from all of them.  Takes so many bytes of memory, or one record if that is larger; files without a name in $TMPDIR, else
 * /var/tmp, take the rest. */
int sorter_new(size_t memory, struct sorter **ret);
int sorter_add(struct sorter *s, const char *key, const void *data, size_t len);
/* After the last record. */
int sorter_finish(struct sorter *s);
/* 1 and a record, valid until the next call; 0 at the end. */
int sorter_next(struct sorter *s, const char **key, const void **data, size_t *len);
void sorter_free(struct sorter *s);

#endif
