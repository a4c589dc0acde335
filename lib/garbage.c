/* Tables garbage and session; see garbage.h. */
#include "garbage.h"

#include <errno.h>
#include <stddef.h>

#include "err.h"

int kv_garbage_put(struct kv_txn *txn, const struct kv_garbage *g)
{
	struct kv_key_garbage key = kv_key_garbage(g->due, g->id);
	struct iovec parts[] = {{(void *)&g->rec, sizeof g->rec}, {(void *)g->list.data, g->list.len}};
	return kv_db_put(txn, KV_GARBAGE, &key, sizeof key, parts, g->list.len ? 2 : 1);
}

int kv_garbage_del(struct kv_txn *txn, uint64_t due, uint64_t id)
{
	struct kv_key_garbage key = kv_key_garbage(due, id);
	return kv_db_del(txn, KV_GARBAGE, &key, sizeof key);
}

int kv_garbage_seek(struct kv_txn *txn, uint64_t due, uint64_t id, struct kv_garbage *ret)
{
	struct kv_key_garbage key = kv_key_garbage(due, id);
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_GARBAGE, &c);
	if (r)
		return r;
	r = kv_cursor_seek(&c, &key, sizeof key);
	if (r == 0 && (c.key.len != sizeof key || c.value.len < sizeof ret->rec)) {
		kv_db_set_damage(txn->db, "garbage record: wrong length");
		r = kv_fail(EUCLEAN);
	}
	if (r == 0) {
		memcpy(&key, c.key.data, sizeof key);
		ret->due = be64toh(key.due_be);
		ret->id = be64toh(key.id_be);
		memcpy(&ret->rec, c.value.data, sizeof ret->rec);
		ret->list = (struct kv_bytes){(const char *)c.value.data + sizeof ret->rec, c.value.len - sizeof ret->rec};
	}
	kv_cursor_close(&c);
	return r;
}

int kv_hidden_put(struct kv_txn *txn, uint64_t blob, const struct kv_rec_session *rec)
{
	struct kv_key_ino key = kv_key_u64(blob);
	struct iovec part = {(void *)rec, sizeof *rec};
	return kv_db_put(txn, KV_SESSION, &key, sizeof key, &part, 1);
}

int kv_hidden_del(struct kv_txn *txn, uint64_t blob)
{
	struct kv_key_ino key = kv_key_u64(blob);
	return kv_db_del(txn, KV_SESSION, &key, sizeof key);
}

int kv_hidden_seek(struct kv_txn *txn, uint64_t blob, uint64_t *ret_blob, struct kv_rec_session *ret)
{
	struct kv_key_ino key = kv_key_u64(blob);
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_SESSION, &c);
	if (r)
		return r;
	r = kv_cursor_seek(&c, &key, sizeof key);
	if (r == 0 && (c.key.len != sizeof key || c.value.len < offsetof(struct kv_rec_session, ahead_blob)))
		r = kv_fail(EUCLEAN);
	if (r == 0) {
		memcpy(&key, c.key.data, sizeof key);
		*ret_blob = be64toh(key.ino_be);
		*ret = (struct kv_rec_session){0}; /* a shorter one is of a time when nothing was written ahead */
		memcpy(ret, c.value.data, kv_min(sizeof *ret, c.value.len));
	}
	kv_cursor_close(&c);
	return r;
}

int kv_kept_put(struct kv_txn *txn, const struct kv_kept *kept)
{
	struct kv_key_ino key = kv_key_u64(kept->id);
	struct kv_rec_kept rec = kept->rec;
	rec.name_len = (uint16_t)strlen(kept->name);
	struct iovec parts[] = {{(void *)&kept->head, sizeof kept->head}, {&rec, sizeof rec}, {(void *)kept->name, rec.name_len}};
	return kv_db_put(txn, KV_SESSION, &key, sizeof key, parts, 3);
}

int kv_kept_get(struct kv_txn *txn, uint64_t id, struct kv_kept *ret)
{
	struct kv_key_ino key = kv_key_u64(id);
	struct kv_bytes b;
	int r = kv_db_get(txn, KV_SESSION, &key, sizeof key, &b);
	if (r)
		return r;
	const char *at = b.data;
	size_t fixed = sizeof ret->head + sizeof ret->rec;
	ret->head = (struct kv_rec_session){0};
	memcpy(&ret->head, at, kv_min(sizeof ret->head, b.len)); /* a door's may be a shorter one */
	if (ret->head.door)
		return -ENOENT;
	if (b.len >= fixed)
		memcpy(&ret->rec, at + sizeof ret->head, sizeof ret->rec);
	if (b.len < fixed || ret->rec.name_len >= sizeof ret->name || b.len != fixed + ret->rec.name_len) {
		kv_db_set_damage(txn->db, "session record: wrong length");
		return kv_fail(EUCLEAN);
	}
	ret->id = id;
	memcpy(ret->name, at + fixed, ret->rec.name_len);
	ret->name[ret->rec.name_len] = 0;
	return 0;
}

bool kv_kept_is_old(int64_t since_ns, struct timespec now)
{
	return kv_ns(now) - since_ns > KVFS_KEPT_DAYS * INT64_C(86400) * 1000000000;
}
