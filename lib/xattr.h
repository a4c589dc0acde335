/* Table xattr: (inode, attribute name) -> value. */
#ifndef KV_XATTR_H
#define KV_XATTR_H

#include "db.h"

/* Bytes of names and values on one inode; deleting an inode deletes them in the same transaction, so they must be few. */
#define KV_XATTR_TOTAL_MAX (1 << 20)

int kv_xattr_get(struct kv_txn *txn, uint64_t ino, const char *name, struct kv_bytes *ret);
/* flags: KVFS_XATTR_*.  -EEXIST, -ENODATA, -ENOSPC, -E2BIG, -ERANGE name too long. */
int kv_xattr_set(struct kv_txn *txn, uint64_t ino, const char *name, const void *value, size_t len, int flags);
int kv_xattr_del(struct kv_txn *txn, uint64_t ino, const char *name);
/* Names one after the other, each with its NUL, as listxattr(2).  cap 0: only the length. */
ssize_t kv_xattr_list(struct kv_txn *txn, uint64_t ino, char *buf, size_t cap);
int kv_xattr_del_all(struct kv_txn *txn, uint64_t ino);

#endif
