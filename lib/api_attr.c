/* Attribute calls of kvfs.h: a key's inode, then the inode-level call.  (A key that is renamed between the two keeps its inode, so
 * the change reaches what the caller named.) */
#include <errno.h>

#include "api.h"

static int find(struct kvfs_store *store, const char *key, uint64_t *ret)
{
	struct kv_txn txn;
	int r = kv_api_read(store, key, &txn);
	if (r)
		return r;
	struct kv_dirent ent;
	r = kv_namei_lookup(&txn, key, &ent);
	if (r == 0)
		*ret = ent.ino;
	kv_db_read_end(&txn);
	return r;
}

/* The key went away after it was found. */
static ssize_t gone(ssize_t r)
{
	return r == -ESTALE ? -ENOENT : r;
}

ssize_t kvfs_readlink(struct kvfs_store *store, const char *key, char *buf, size_t cap)
{
	uint64_t ino;
	int r = find(store, key, &ino);
	return r ? r : gone(kvfs_ll_readlink(store, ino, buf, cap));
}

int kvfs_setattr(struct kvfs_store *store, const char *key, const struct kvfs_setattr *attr)
{
	uint64_t ino;
	struct kvfs_stat st;
	int r = find(store, key, &ino);
	return r ? r : (int)gone(kvfs_ll_setattr(store, ino, attr, &st));
}

int kvfs_setxattr(struct kvfs_store *store, const char *key, const char *name, const void *value, size_t size, int flags)
{
	uint64_t ino;
	int r = find(store, key, &ino);
	return r ? r : (int)gone(kvfs_ll_setxattr(store, ino, name, value, size, flags));
}

ssize_t kvfs_getxattr(struct kvfs_store *store, const char *key, const char *name, void *buf, size_t cap)
{
	uint64_t ino;
	int r = find(store, key, &ino);
	return r ? r : gone(kvfs_ll_getxattr(store, ino, name, buf, cap));
}

ssize_t kvfs_listxattr(struct kvfs_store *store, const char *key, char *buf, size_t cap)
{
	uint64_t ino;
	int r = find(store, key, &ino);
	return r ? r : gone(kvfs_ll_listxattr(store, ino, buf, cap));
}

int kvfs_removexattr(struct kvfs_store *store, const char *key, const char *name)
{
	uint64_t ino;
	int r = find(store, key, &ino);
	return r ? r : (int)gone(kvfs_ll_removexattr(store, ino, name));
}
