/* Table xattr: (inode, attribute name) -> value. */
#ifndef KV_XATTR_H
#define KV_XATTR_H

#include "db.h"

/* Bytes of names and values on one inode, and of its names with a NUL each, which is what listxattr(2) can tell; deleting an inode deletes them in
 * the same transaction, so they must be few. */
#define KV_XATTR_TOTAL_MAX (1 << 20)
#define KV_XATTR_NAMES_MAX (64 << 10)

int kv_xattr_get(struct kv_txn *txn, uint64_t ino, const char *name, struct kv_bytes *ret);
/* flags: KVFS_XATTR_*.  -EEXIST, -ENODATA, -ENOSPC, -E2BIG, -ERANGE name too long. */
int kv_xattr_set(struct kv_txn *txn, uint64_t ino, const char *name, const void *value, size_t len, int flags);
int kv_xattr_del(struct kv_txn *txn, uint64_t ino, const char *name);
/* Names one after the other, each with its NUL, as listxattr(2).  cap 0: only the length. */
ssize_t kv_xattr_list(struct kv_txn *txn, uint64_t ino, char *buf, size_t cap);
/* Notes in an inode's record that it has this attribute now; value NULL: no more.  -EINVAL for a value that user.kvfs.publish or
 * user.kvfs.on-kill cannot have. */
int kv_xattr_note(struct kv_rec_inode *rec, const char *name, const void *value, size_t len);
/* What is made in a directory that has attributes of ours gets them, too. */
int kv_xattr_inherit(struct kv_txn *txn, uint64_t dir, uint64_t ino, struct kv_rec_inode *rec);
int kv_xattr_del_all(struct kv_txn *txn, uint64_t ino);

#endif
