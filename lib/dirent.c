/* Table dirent; see dirent.h. */
#include "dirent.h"

#include <errno.h>

#include "err.h"
#include "path.h"

static int decode(struct kv_txn *txn, struct kv_bytes rec, struct kv_dirent *ret)
{
	struct kv_rec_dirent raw;
	if (rec.len < sizeof raw) {
		kv_db_set_damage(txn->db, "dirent record: too short");
		return kv_fail(EUCLEAN);
	}
	memcpy(&raw, rec.data, sizeof raw);
	*ret = (struct kv_dirent){raw.ino, raw.type, {(const char *)rec.data + sizeof raw, rec.len - sizeof raw}};
	return 0;
}

int kv_dirent_get(struct kv_txn *txn, uint64_t dir, const char *name, size_t len, struct kv_dirent *ret)
{
	struct kv_key_name key;
	struct kv_bytes rec;
	int r = kv_db_get(txn, KV_DIRENT, &key, kv_key_name(&key, dir, name, len), &rec);
	return r ? r : decode(txn, rec, ret);
}

int kv_dirent_put(struct kv_txn *txn, uint64_t dir, const char *name, size_t len, struct kv_dirent ent)
{
	struct kv_key_name key;
	struct kv_rec_dirent raw = {ent.ino, ent.type};
	struct iovec parts[] = {{&raw, sizeof raw}, {(void *)ent.inode.data, ent.inode.len}};
	return kv_db_put(txn, KV_DIRENT, &key, kv_key_name(&key, dir, name, len), parts, ent.inode.len ? 2 : 1);
}

int kv_dirent_del(struct kv_txn *txn, uint64_t dir, const char *name, size_t len)
{
	struct kv_key_name key;
	return kv_db_del(txn, KV_DIRENT, &key, kv_key_name(&key, dir, name, len));
}

/* What the cursor stands on, if it is still an entry of `dir`.  A crafted store may call it anything: what no key can say would lead a
 * listing in circles, an export out of its directory, and not fit where names are copied to. */
static int here(struct kv_cursor *c, uint64_t dir, struct kv_bytes *ret_name, struct kv_dirent *ret)
{
	uint64_t be = htobe64(dir);
	if (c->key.len <= sizeof be || memcmp(c->key.data, &be, sizeof be) != 0)
		return -ENOENT;
	ret_name->data = (const char *)c->key.data + sizeof be;
	ret_name->len = c->key.len - sizeof be;
	if (!kv_name_is_legal(ret_name->data, ret_name->len)) {
		kv_db_set_damage(c->txn->db, "dirent record: no key can have its name");
		return kv_fail(EUCLEAN);
	}
	return decode(c->txn, c->value, ret);
}

/* Does the step lead on?  In a damaged tree a search may end anywhere, and a listing must not go round for ever. */
static bool in_order(const char *from, size_t len, struct kv_bytes to, bool at, bool reverse)
{
	int cmp = memcmp(from, to.data, kv_min(len, to.len));
	if (cmp == 0)
		cmp = (len > to.len) - (len < to.len);
	return cmp == 0 ? at : reverse ? cmp > 0 : cmp < 0;
}

int kv_dirent_step(struct kv_cursor *c, uint64_t dir, const char *name, size_t len, bool at, bool reverse,
	struct kv_bytes *ret_name, struct kv_dirent *ret)
{
	struct kv_key_name key;
	int r;
	if (!reverse) {
		size_t n = kv_key_name(&key, dir, name ? name : "", len);
		r = kv_cursor_seek(c, &key, n);
		if (r == 0 && name && !at && c->key.len == n && memcmp(c->key.data, &key, n) == 0)
			r = kv_cursor_next(c);
	} else if (name) {
		size_t n = kv_key_name(&key, dir, name, len);
		r = kv_cursor_seek(c, &key, n);
		if (r == 0 && at && c->key.len == n && memcmp(c->key.data, &key, n) == 0)
			return here(c, dir, ret_name, ret);
		r = r == -ENOENT ? kv_cursor_last(c) : r ? r : kv_cursor_prev(c);
	} else {
		r = kv_cursor_seek_before(c, &key, kv_key_name(&key, dir + 1, "", 0));
	}
	r = r ? r : here(c, dir, ret_name, ret);
	if (r == 0 && name && !in_order(name, len, *ret_name, at, reverse)) {
		kv_db_set_damage(c->txn->db, "a directory's entries are out of order");
		return kv_fail(EUCLEAN);
	}
	return r;
}

int kv_dirent_neighbour(struct kv_cursor *c, uint64_t dir, bool reverse, struct kv_bytes *ret_name, struct kv_dirent *ret)
{
	int r = reverse ? kv_cursor_prev(c) : kv_cursor_next(c);
	return r ? r : here(c, dir, ret_name, ret);
}
