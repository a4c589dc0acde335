/* Table dirent: (directory inode, name) -> inode number and type, and often the inode's record itself (inode.h). */
#ifndef KV_DIRENT_H
#define KV_DIRENT_H

#include "db.h"

struct kv_dirent {
	uint64_t ino;
	uint32_t type; /* S_IFMT bits */
	struct kv_bytes inode; /* its record, if it is kept here; borrowed */
};

int kv_dirent_get(struct kv_txn *txn, uint64_t dir, const char *name, size_t len, struct kv_dirent *ret); /* -ENOENT */
int kv_dirent_put(struct kv_txn *txn, uint64_t dir, const char *name, size_t len, struct kv_dirent ent);
int kv_dirent_del(struct kv_txn *txn, uint64_t dir, const char *name, size_t len);

/* One step of a listing: the entry after (reverse: before) `name`, or the first (last) one when len is 0 and name NULL.
 * `at`: with name: that very entry is acceptable too.  *ret_name is borrowed.  -ENOENT at the end. */
int kv_dirent_step(struct kv_cursor *c, uint64_t dir, const char *name, size_t len, bool at, bool reverse,
	struct kv_bytes *ret_name, struct kv_dirent *ret);
/* The neighbour of where the cursor stands. */
int kv_dirent_neighbour(struct kv_cursor *c, uint64_t dir, bool reverse, struct kv_bytes *ret_name, struct kv_dirent *ret);

#endif
