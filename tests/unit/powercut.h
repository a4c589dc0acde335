/* A power cut, by hand: what of a store's files a disk could have had, and the next boot. */
#ifndef KVFS_TEST_POWERCUT_H
#define KVFS_TEST_POWERCUT_H

#include "support.h"

#include "syncfile.h"

/* A file's bytes. */
struct image {
	char *data;
	size_t len;
};
struct image image_of(const char *dir, const char *name);
void image_write(const struct image *im, const char *dir, const char *name);
/* Of `flushed`, with a part of the sectors that `later` has instead: what was written without a flush arrives in any order, or not at all. */
struct image image_torn(const struct image *flushed, const struct image *later, struct support_rng *rng);

/* The newest record of a store's file `sync`. */
struct kv_sync_record record_of(const char *dir);
/* Writes one record, and makes it say that it is of an earlier boot, and of the data.mdb beside it. */
void write_record_of_other_boot(const char *dir, struct kv_sync_record rec);

#endif
