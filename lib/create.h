/* Making a store so that a crash leaves all of it or none. */
#ifndef KV_CREATE_H
#define KV_CREATE_H

#include <kvfs.h>

/* Makes a store in the directory `dir` (open as dirfd), which is empty but for what an earlier, interrupted creation left.
 * -EMEDIUMTYPE other things are there.  When another process was faster, its store is there: 0 as well. */
int kv_create(int dirfd, const char *dir, const struct kvfs_options *opt, struct kvfs_error *err);
/* Reads FORMAT: a newer or foreign store is -EMEDIUMTYPE with its remedy; a missing file is nothing to complain about here. The uuid is zeros
 * when it is not said. */
int kv_format_check(int dirfd, uint8_t ret_uuid[16], struct kvfs_error *err);

/* Writes and flushes a FORMAT file. */
int kv_format_write(int dirfd, const char *name, uint32_t page_size, const uint8_t uuid[16]);

/* Where a new data.mdb is made, in the store's directory; means nothing when somebody finds it. */
#define KV_NEW_DIR ".new"
void kv_remove_new(int dirfd);

/* A store's uuid in its usual form, with the NUL. */
void kv_uuid_text(const uint8_t uuid[16], char ret[37]);

#endif
