/* Table xattr; see xattr.h. */
#include "xattr.h"

#include <errno.h>

#include "err.h"

static int make_key(struct kv_key_name *key, uint64_t ino, const char *name, size_t *ret_len)
{
	size_t len = strlen(name);
	if (len == 0 || len > KVFS_NAME_MAX)
		return kv_fail(ERANGE);
	*ret_len = kv_key_name(key, ino, name, len);
	return 0;
}

int kv_xattr_get(struct kv_txn *txn, uint64_t ino, const char *name, struct kv_bytes *ret)
{
	struct kv_key_name key;
	size_t len = 0;
	int r = make_key(&key, ino, name, &len);
	if (r)
		return r;
	r = kv_db_get(txn, KV_XATTR, &key, len, ret);
	return r == -ENOENT ? -ENODATA : r;
}

/* Adds up what the inode has: names and values, and names as they are listed. */
static int measure(struct kv_txn *txn, uint64_t ino, size_t *ret_bytes, size_t *ret_names)
{
	uint64_t be = htobe64(ino);
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_XATTR, &c);
	if (r)
		return r;
	size_t sum = 0, names = 0;
	for (r = kv_cursor_seek(&c, &be, sizeof be); r == 0 && memcmp(c.key.data, &be, sizeof be) == 0; r = kv_cursor_next(&c)) {
		sum += c.key.len - sizeof be + c.value.len;
		names += c.key.len - sizeof be + 1;
	}
	kv_cursor_close(&c);
	*ret_bytes = sum;
	*ret_names = names;
	return r == -ENOENT ? 0 : r;
}

int kv_xattr_set(struct kv_txn *txn, uint64_t ino, const char *name, const void *value, size_t len, int flags)
{
	struct kv_key_name key;
	struct kv_bytes old;
	size_t key_len = 0, total, names;
	if (flags & ~(KVFS_XATTR_CREATE | KVFS_XATTR_REPLACE) || flags == (KVFS_XATTR_CREATE | KVFS_XATTR_REPLACE))
		return kv_fail(EINVAL);
	if (len > KVFS_XATTR_SIZE_MAX)
		return kv_fail(E2BIG);
	int r = make_key(&key, ino, name, &key_len);
	if (r)
		return r;
	r = kv_db_get(txn, KV_XATTR, &key, key_len, &old);
	if (r && r != -ENOENT)
		return r;
	if (r == 0 && flags & KVFS_XATTR_CREATE)
		return -EEXIST;
	if (r == -ENOENT && flags & KVFS_XATTR_REPLACE)
		return -ENODATA;
	size_t before = r == 0 ? old.len + key_len - 8 : 0, listed = r == 0 ? 0 : key_len - 8 + 1;
	r = measure(txn, ino, &total, &names);
	if (r)
		return r;
	if (total - before + key_len - 8 + len > KV_XATTR_TOTAL_MAX || (listed && names + listed > KV_XATTR_NAMES_MAX))
		return kv_fail(ENOSPC);
	struct iovec part = {(void *)value, len};
	return kv_db_put(txn, KV_XATTR, &key, key_len, &part, 1);
}

int kv_xattr_del(struct kv_txn *txn, uint64_t ino, const char *name)
{
	struct kv_key_name key;
	size_t len = 0;
	int r = make_key(&key, ino, name, &len);
	if (r)
		return r;
	r = kv_db_del(txn, KV_XATTR, &key, len);
	return r == -ENOENT ? -ENODATA : r;
}

ssize_t kv_xattr_list(struct kv_txn *txn, uint64_t ino, char *buf, size_t cap)
{
	uint64_t be = htobe64(ino);
	struct kv_cursor c;
	size_t n = 0;
	int r = kv_cursor_open(txn, KV_XATTR, &c);
	if (r)
		return r;
	for (r = kv_cursor_seek(&c, &be, sizeof be); r == 0 && memcmp(c.key.data, &be, sizeof be) == 0; r = kv_cursor_next(&c)) {
		size_t len = c.key.len - sizeof be;
		if (cap && n + len + 1 > cap) {
			r = -ERANGE;
			break;
		}
		if (cap) {
			memcpy(buf + n, (const char *)c.key.data + sizeof be, len);
			buf[n + len] = 0;
		}
		n += len + 1;
	}
	kv_cursor_close(&c);
	return r == 0 || r == -ENOENT ? (ssize_t)n : r;
}

/* ---- attributes that mean something to kvfs ---- */

#define PUBLISH "user.kvfs.publish"
#define ON_KILL "user.kvfs.on-kill"

static bool is(const void *value, size_t len, const char *word)
{
	return value && len == strlen(word) && memcmp(value, word, len) == 0;
}

int kv_xattr_note(struct kv_rec_inode *rec, const char *name, const void *value, size_t len)
{
	if (strcmp(name, ON_KILL) == 0 && value && !is(value, len, "commit") && !is(value, len, "drop"))
		return kv_fail(EINVAL);
	if (strcmp(name, PUBLISH) == 0) {
		unsigned publish = is(value, len, "close")   ? KV_INODE_PUBLISH_CLOSE
				   : is(value, len, "write") ? KV_INODE_PUBLISH_WRITE
							     : 0;
		if (value && !publish)
			return kv_fail(EINVAL);
		rec->flags = (uint16_t)((rec->flags & ~(KV_INODE_PUBLISH_CLOSE | KV_INODE_PUBLISH_WRITE)) | publish);
	}
	if (value)
		rec->flags |= KV_INODE_XATTRS;
	return 0;
}

int kv_xattr_inherit(struct kv_txn *txn, uint64_t dir, uint64_t ino, struct kv_rec_inode *rec)
{
	static const char *const names[] = {PUBLISH, ON_KILL};
	for (size_t i = 0; i < KV_ARRAY_LEN(names); i++) {
		struct kv_bytes b;
		char value[8];
		int r = kv_xattr_get(txn, dir, names[i], &b);
		if (r == -ENODATA || (r == 0 && b.len > sizeof value))
			continue;
		if (r)
			return r;
		size_t len = b.len;
		memcpy(value, b.data, len); /* the page it lies on may be written next */
		r = kv_xattr_set(txn, ino, names[i], value, len, 0);
		if (r == 0)
			r = kv_xattr_note(rec, names[i], value, len);
		if (r)
			return r;
	}
	return 0;
}

int kv_xattr_del_all(struct kv_txn *txn, uint64_t ino)
{
	uint64_t be = htobe64(ino);
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_XATTR, &c);
	if (r)
		return r;
	c.raw = true;
	r = kv_cursor_seek(&c, &be, sizeof be);
	while (r == 0 && memcmp(c.key.data, &be, sizeof be) == 0) {
		r = kv_cursor_del(&c);
		if (r == 0)
			r = kv_cursor_next(&c);
	}
	kv_cursor_close(&c);
	return r == -ENOENT ? 0 : r;
}
