/* Names: resolving keys, and the directory operations, on inodes and entries together.  All checks that rename(2) and its family
 * make are here; permissions are the kernel's (mount) or nobody's (who can open the store can do everything). */
#ifndef KV_NAMEI_H
#define KV_NAMEI_H

#include "dirent.h"
#include "edit.h"
#include "inode.h"

/* Where a key leads: its last directory and name, and the entry if there is one. */
struct kv_place {
	uint64_t parent;
	const char *name; /* inside the key; "" for the root */
	size_t len;
	bool exists;
	struct kv_dirent ent;
};

/* Walks a legal key.  A missing last component is not an error (exists false); -ENOENT a directory on the way is missing,
 * -ENOTDIR something on the way is not a directory. */
int kv_namei_resolve(struct kv_txn *txn, const char *key, struct kv_place *ret);
/* The same, making the directories on the way (implicit ones). */
int kv_namei_resolve_making(struct kv_edit *ed, const char *key, bool implicit, struct kv_place *ret);
/* The entry a key leads to: -ENOENT when there is none. */
int kv_namei_lookup(struct kv_txn *txn, const char *key, struct kv_dirent *ret);

/* The inode of a place that exists, which is not a directory's, to be changed by that name. */
int kv_namei_load(struct kv_edit *ed, const struct kv_place *place, struct kv_inode *ret);
/* The same of an inode number, and the name it was found by, if that is still its own; "": none. */
int kv_namei_load_by(struct kv_edit *ed, uint64_t ino, uint64_t parent, const char *name, struct kv_inode *ret);

/* The key of `name` in `dir` (name "": of the directory itself), as its directories are named in this transaction.  -ENOENT one is gone ·
 * -ENAMETOOLONG directories were moved too deep. */
int kv_namei_key(struct kv_txn *txn, uint64_t dir, const char *name, size_t len, char ret[KVFS_KEY_MAX + 1]);

struct kv_make {
	uint32_t mode; /* with type */
	uint32_t rdev, uid, gid;
	bool implicit; /* directory: goes with its last key */
	const char *target; /* symbolic link */
	uint64_t ino; /* reserved before; 0: the next one */
};
/* Makes an inode and its name; -EEXIST, -ENOENT (-ENOTDIR) the parent is gone (no directory).  *ret is
 * filled, and put unless it is a value: that is put once it is published. */
int kv_namei_make(
	struct kv_edit *ed, uint64_t parent, const char *name, size_t len, const struct kv_make *make, struct kv_inode *ret);
int kv_namei_link(struct kv_edit *ed, uint64_t ino, uint64_t parent, const char *name, size_t len, struct kv_inode *ret);
/* -EISDIR for a directory.  *ret (may be NULL): the inode with the links it has left. */
int kv_namei_unlink(struct kv_edit *ed, uint64_t parent, const char *name, size_t len, struct kvfs_stat *ret);
int kv_namei_rmdir(struct kv_edit *ed, uint64_t parent, const char *name, size_t len);
int kv_namei_rename(
	struct kv_edit *ed, const struct kv_place *src, const struct kv_place *dst, unsigned flags, struct kvfs_stat *ret_replaced);
/* Removes `dir` and those above it while they are implicit and empty. */
int kv_namei_prune(struct kv_edit *ed, uint64_t dir);

#endif
