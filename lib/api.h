/* What the public calls have in common: argument checks, and single-key edits. */
#ifndef KV_API_H
#define KV_API_H

#include <kvfs_ll.h>

#include "commit.h"
#include "namei.h"
#include "pages.h"

/* Checks a handle for writing. */
static inline int kv_api_writable(const struct kvfs_store *store)
{
	int r = kv_core_check(store->core);
	return r ? r : store->rdonly ? -EROFS : 0;
}

/* The newest state of data.mdb, kept from being overwritten until the caller ends the transaction. */
int kv_api_state(struct kv_core *core, struct kv_txn *ret, struct kv_pages *ret_pages);
/* The state of a store that may be damaged, to be read page by page (api_check.c).  A file that LMDB does not open is read as it is: nobody writes to it. */
struct kv_source {
	struct kvfs_store *store; /* NULL: LMDB does not open it */
	struct kv_txn txn;
	int fd;
	struct kv_pages pages;
};
int kv_source_open(const char *path, struct kv_source *ret, struct kvfs_error *err);
void kv_source_close(struct kv_source *src);
/* Writes the newest state into an empty file and flushes it, every record's sum compared.  Fills err. */
int kv_api_copy(struct kv_core *core, int to, kvfs_progress_fn *progress, void *arg, struct kvfs_error *err);

/* A store in the making (api_target.c): `.NAME.WHAT` beside NAME. */
struct kv_target {
	int parent; /* open directory; the caller's to close */
	bool placed; /* it has its own name now */
	const char *what;
	char name[256], temp[256];
};
int kv_target_find(const char *dest, const char *what, struct kv_target *ret, struct kvfs_error *err);
int kv_target_check(const struct kv_target *t, struct kvfs_error *err); /* -EEXIST */
/* The temporary directory, empty and locked as long as *ret is open. */
int kv_target_take(const struct kv_target *t, int *ret, struct kvfs_error *err);
/* Gives it its name, durably.  -EEXIST */
int kv_target_settle(struct kv_target *t, struct kvfs_error *err);
/* Removes a store's files from dirfd, which is what has the temporary name now, and that. */
void kv_target_drop(const struct kv_target *t, int dirfd);

/* Checks handle and key, and commits an edit. */
int kv_api_edit(struct kvfs_store *store, const char *key, kv_edit_fn *fn, void *arg);
/* Checks handle and key, and begins to read. */
int kv_api_read(struct kvfs_store *store, const char *key, struct kv_txn *ret);

/* The single-key changes, within an edit: shared by the calls and by write transactions. */
int kv_api_put(struct kv_edit *ed, const char *key, const void *data, size_t len, const struct kvfs_put_options *opt,
	uint64_t *ret_version);
int kv_api_del(struct kv_edit *ed, const char *key);
int kv_api_rename(struct kv_edit *ed, const char *src, const char *dst, unsigned flags);
/* Reads a value whole into memory of its own. */
int kv_api_get(struct kv_core *core, struct kv_txn *txn, const char *key, void **ret_data, size_t *ret_len, uint64_t *ret_version);
/* Parses a decimal integer value, adds, and formats; -EDOM, -ERANGE. */
int kv_api_add(const char *old, size_t len, int64_t delta, char ret_text[24], size_t *ret_len, int64_t *ret);

#endif
