/* Records and cursors; see db.h.  Readers find them in the map by themselves, writers through LMDB, after a look (tree.h). */
#include "db_lmdb.h"

#include <errno.h>
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "err.h"

static const char *const table_names[KV_TABLES] = {
	"meta", "garbage", "session", "log", "dirent", "inode", "chunk", "xattr", "history"};

#define KEY_MAX 511

struct full_key {
	uint8_t bytes[KEY_MAX + 1];
	MDB_val val;
};

/* ---- records ---- */

static int bad_sum(struct kv_txn *txn, enum kv_table table, const void *key, size_t len)
{
	char what[256];
	uint64_t id = 0;
	if (len >= 8) {
		memcpy(&id, key, 8);
		id = be64toh(id);
	}
	snprintf(what, sizeof what, "%s record %llu: checksum does not match", table_names[table], (unsigned long long)id);
	kv_db_set_damage(txn->db, what);
	return kv_fail(EUCLEAN);
}

/* The bit of the table's tree in `own`. */
static uint32_t own_bit(enum kv_table table)
{
	return 1u << (kv_db_is_small(table) ? KV_META : table);
}

/* Something was put or deleted, or a call failed, which may have left anything. */
static void note_change(struct kv_txn *txn, enum kv_table table)
{
	txn->changed = true;
	txn->own |= own_bit(table);
}

/* In a tree that it has not changed a writer reads as readers do. */
static bool is_own(const struct kv_txn *txn, enum kv_table table)
{
	return txn->own & own_bit(table);
}

static int result(struct kv_txn *txn, enum kv_table table, int rc)
{
	if (rc && rc != MDB_NOTFOUND)
		note_change(txn, table);
	txn->broken |= rc == KV_DB_ASSERTED;
	return kv_db_map_error(txn->db, rc);
}

/* Not XXH3's own seed for the long part: deriving a secret from it costs more than hashing a small record. */
static uint32_t record_sum(enum kv_table table, const void *key, size_t len, const void *data, size_t n)
{
	return (uint32_t)(XXH3_64bits(data, n) ^ XXH3_64bits_withSeed(key, len, table));
}

const char *kv_db_table_name(enum kv_table table)
{
	return table_names[table];
}

bool kv_db_open_record(enum kv_table table, struct kv_bytes key, struct kv_bytes raw, struct kv_bytes *ret)
{
	struct kv_rec_sum head;
	if (raw.len < sizeof head)
		return false;
	memcpy(&head, raw.data, sizeof head);
	struct kv_bytes payload = {(const char *)raw.data + sizeof head, raw.len - sizeof head};
	if (record_sum(table, key.data, key.len, payload.data, payload.len) != head.sum)
		return false;
	*ret = payload;
	return true;
}

static int open_record(struct kv_txn *txn, enum kv_table table, struct kv_bytes key, const MDB_val *val, struct kv_bytes *ret)
{
	if (!kv_db_open_record(table, key, (struct kv_bytes){val->mv_data, val->mv_size}, ret))
		return bad_sum(txn, table, key.data, key.len);
	return 0;
}

static MDB_val *full_key(struct full_key *full, enum kv_table table, const void *key, size_t len)
{
	if (!kv_db_is_small(table)) {
		full->val = (MDB_val){len, (void *)key};
		return &full->val;
	}
	full->bytes[0] = (uint8_t)(table + 1);
	if (len)
		memcpy(full->bytes + 1, key, len);
	full->val = (MDB_val){len + 1, full->bytes};
	return &full->val;
}

/* The key as the table has it; false when the record belongs to another table. */
static bool table_key(enum kv_table table, const MDB_val *key, struct kv_bytes *ret)
{
	if (!kv_db_is_small(table)) {
		*ret = (struct kv_bytes){key->mv_data, key->mv_size};
		return true;
	}
	if (!key->mv_size || *(uint8_t *)key->mv_data != table + 1)
		return false;
	*ret = (struct kv_bytes){(uint8_t *)key->mv_data + 1, key->mv_size - 1};
	return true;
}

int kv_db_tree(struct kv_txn *txn, enum kv_table table, const struct kv_tree **ret)
{
	struct kv_map *map = &txn->db->map;
	struct kv_trees *trees = &txn->trees;
	if (kv_db_is_small(table)) {
		*ret = &trees->main;
		return 0;
	}
	struct kv_tree *tree = &trees->named[table - KV_DIRENT];
	*ret = tree;
	if (trees->known >> table & 1)
		return 0;
	const char *name = table_names[table];
	int r = txn->write ? kv_tree_prepare(map, &trees->main, name, strlen(name), KV_UNCHANGED)
			   : 0; /* a commit writes the root there */
	if (r == 0)
		r = kv_tree_named(map, &trees->main, name, tree, NULL);
	if (r == -ENOENT) {
		kv_db_set_damage(txn->db, "a tree of data.mdb is not there");
		return kv_fail(EUCLEAN);
	}
	tree->table = (uint16_t)table;
	trees->known |= r == 0 ? 1u << table : 0;
	return kv_db_walked(txn->db, r);
}

/* Before LMDB goes to a record, or to a place between two; `left` as kv_tree_prepare() takes it. */
static int prepare(struct kv_txn *txn, enum kv_table table, const MDB_val *key, uint64_t left)
{
	const struct kv_tree *tree;
	int r = kv_db_tree(txn, table, &tree);
	return r ? r : kv_db_walked(txn->db, kv_tree_prepare(&txn->db->map, tree, key->mv_data, key->mv_size, left));
}

static bool record_is_sound(unsigned table, struct kv_bytes key, struct kv_bytes value)
{
	struct kv_bytes rec, own = key;
	const uint8_t *k = key.data;
	if (table == KV_META) { /* the main tree: the key's first byte says whose it is */
		if (!key.len || !*k || *k > KV_LOG + 1)
			return false;
		table = *k - 1u;
		own = (struct kv_bytes){k + 1, key.len - 1};
	}
	return kv_db_open_record((enum kv_table)table, own, value, &rec);
}

static int find(struct kv_txn *txn, enum kv_table table, MDB_val *key, MDB_val *ret)
{
	const struct kv_tree *tree;
	struct kv_record rec;
	bool own = is_own(txn, table);
	int r = own ? prepare(txn, table, key, KV_UNCHANGED) : kv_db_tree(txn, table, &tree);
	if (r)
		return r;
	if (own)
		return result(txn, table, KV_DB_GUARDED(mdb_get(txn->mdb, txn->db->trees[table], key, ret)));
	r = kv_db_walked(txn->db, kv_tree_find(&txn->db->map, tree, key->mv_data, key->mv_size, record_is_sound, &rec));
	if (r == 0)
		*ret = (MDB_val){rec.value.len, (void *)rec.value.data};
	return r;
}

int kv_db_get(struct kv_txn *txn, enum kv_table table, const void *key, size_t len, struct kv_bytes *ret)
{
	struct full_key full;
	MDB_val v = {0};
	txn->descents++;
	int r = find(txn, table, full_key(&full, table, key, len), &v);
	return r ? r : open_record(txn, table, (struct kv_bytes){key, len}, &v, ret);
}

int kv_db_put(struct kv_txn *txn, enum kv_table table, const void *key, size_t len, const struct iovec *parts, int n)
{
	struct full_key full;
	struct kv_rec_sum head;
	MDB_val v = {sizeof head, NULL};
	for (int i = 0; i < n; i++)
		v.mv_size += parts[i].iov_len;
	size_t payload = v.mv_size - sizeof head;
	txn->descents++;
	int r = prepare(txn, table, full_key(&full, table, key, len), v.mv_size);
	if (r)
		return r;
	note_change(txn, table);
	int rc = KV_DB_GUARDED(mdb_put(txn->mdb, txn->db->trees[table], &full.val, &v, MDB_RESERVE));
	if (rc)
		return result(txn, table, rc);
	char *at = (char *)v.mv_data + sizeof head;
	for (int i = 0; i < n; i++) {
		if (parts[i].iov_len)
			memcpy(at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	head.sum = record_sum(table, key, len, (char *)v.mv_data + sizeof head, payload);
	memcpy(v.mv_data, &head, sizeof head);
	txn->bytes_put += payload;
	return 0;
}

int kv_db_del(struct kv_txn *txn, enum kv_table table, const void *key, size_t len)
{
	struct full_key full;
	txn->descents++;
	int r = prepare(txn, table, full_key(&full, table, key, len), 0);
	if (r)
		return r;
	int rc = KV_DB_GUARDED(mdb_del(txn->mdb, txn->db->trees[table], &full.val, NULL));
	if (rc == 0)
		note_change(txn, table);
	return result(txn, table, rc);
}

int kv_db_count(struct kv_txn *txn, enum kv_table table, uint64_t *ret)
{
	const struct kv_tree *tree;
	int r = kv_db_tree(txn, table, &tree);
	if (r == 0)
		*ret = tree->entries;
	return r;
}

/* ---- cursors ---- */

int kv_cursor_open(struct kv_txn *txn, enum kv_table table, struct kv_cursor *ret)
{
	const struct kv_tree *tree;
	int r = kv_db_tree(txn, table, &tree);
	if (r)
		return r;
	ret->txn = txn;
	ret->mdb = NULL;
	ret->table = table;
	ret->raw = false;
	ret->key = ret->value = (struct kv_bytes){0};
	kv_finger_init(&ret->finger, &txn->db->map, tree);
	return 0;
}

void kv_cursor_close(struct kv_cursor *c)
{
	if (c->mdb)
		mdb_cursor_close(c->mdb);
	c->mdb = NULL;
}

static int step_finger(struct kv_cursor *c, MDB_cursor_op op, MDB_val *key, MDB_val *ret)
{
	struct kv_record rec;
	int r = op == MDB_NEXT   ? kv_finger_next(&c->finger)
		: op == MDB_PREV ? kv_finger_prev(&c->finger)
		: op == MDB_LAST ? kv_finger_last(&c->finger)
				 : kv_finger_seek(&c->finger, key->mv_data, key->mv_size);
	if (r == 0)
		r = kv_finger_get(&c->finger, !c->raw, &rec);
	if (r)
		return kv_db_walked(c->txn->db, r);
	*key = (MDB_val){rec.key.len, (void *)rec.key.data};
	*ret = (MDB_val){rec.value.len, (void *)rec.value.data};
	return 0;
}

/* Where it stands has been prepared, so the next record and the one before are. */
static int step_lmdb(struct kv_cursor *c, MDB_cursor_op op, MDB_val *key, MDB_val *ret)
{
	static const uint8_t high[KEY_MAX] = {[0 ... KEY_MAX - 1] = 0xff};
	const MDB_val end = {KEY_MAX, (void *)high};
	int r = op == MDB_NEXT || op == MDB_PREV ? 0 : prepare(c->txn, c->table, op == MDB_LAST ? &end : key, 0);
	if (r)
		return r;
	r = result(c->txn, c->table, KV_DB_GUARDED(mdb_cursor_get(c->mdb, key, ret, op)));
	return r ? r : prepare(c->txn, c->table, key, 0);
}

static int open_lmdb(struct kv_cursor *c)
{
	return result(c->txn, c->table, mdb_cursor_open(c->txn->mdb, c->txn->db->trees[c->table], &c->mdb));
}

/* A finger points into the tree as it was when the transaction began; from its first change on LMDB's cursor goes on from there: MDB_NEXT,
 * MDB_PREV, or to the record itself, which somebody may have deleted. */
static int leave_finger(struct kv_cursor *c, MDB_cursor_op op, MDB_val *key, MDB_val *ret)
{
	struct kv_record rec;
	int r = c->finger.depth ? kv_db_walked(c->txn->db, kv_finger_get(&c->finger, false, &rec)) : -ENOENT;
	if (r == 0)
		r = open_lmdb(c);
	if (r)
		return r;
	*key = (MDB_val){rec.key.len, (void *)rec.key.data};
	r = step_lmdb(c, MDB_SET_RANGE, key, ret);
	if (op == MDB_PREV && (r == 0 || r == -ENOENT))
		return step_lmdb(c, r ? MDB_LAST : MDB_PREV, key, ret);
	bool same = r == 0 && key->mv_size == rec.key.len && memcmp(key->mv_data, rec.key.data, rec.key.len) == 0;
	if (op == MDB_NEXT)
		return same ? step_lmdb(c, op, key, ret) : r;
	return r == 0 && !same ? -ENOENT : r;
}

static int step(struct kv_cursor *c, MDB_cursor_op op, MDB_val *key, MDB_val *ret)
{
	bool on = op == MDB_NEXT || op == MDB_PREV;
	if (!on)
		c->txn->descents++;
	if (!c->mdb && is_own(c->txn, c->table)) {
		if (on)
			return leave_finger(c, op, key, ret);
		int r = open_lmdb(c);
		if (r)
			return r;
	}
	return c->mdb ? step_lmdb(c, op, key, ret) : step_finger(c, op, key, ret);
}

static int move(struct kv_cursor *c, MDB_cursor_op op, const MDB_val *key)
{
	MDB_val k = key ? *key : (MDB_val){0, (void *)""}, v = {0};
	int r = step(c, op, &k, &v);
	if (r)
		return r;
	if (!table_key(c->table, &k, &c->key))
		return -ENOENT;
	if (c->raw) {
		c->value = (struct kv_bytes){NULL, v.mv_size};
		return 0;
	}
	return open_record(c->txn, c->table, c->key, &v, &c->value);
}

/* To the last record of the tree before `key`, in whatever table it is. */
static int move_before(struct kv_cursor *c, const MDB_val *key)
{
	MDB_val k = *key, v = {0};
	int r = step(c, MDB_SET_RANGE, &k, &v);
	if (r && r != -ENOENT)
		return r;
	bool last = r == -ENOENT;
	/* the record after the place must be sound, too: in the leaf of another tree the place would not be the right one */
	if (!last && !c->raw && !kv_db_is_small(c->table))
		r = open_record(c->txn, c->table, (struct kv_bytes){k.mv_data, k.mv_size}, &v, &c->value);
	return r == -EUCLEAN ? r : move(c, last ? MDB_LAST : MDB_PREV, NULL);
}

int kv_cursor_seek(struct kv_cursor *c, const void *key, size_t len)
{
	struct full_key full;
	if (!kv_db_is_small(c->table) && !len)
		return move(c, MDB_FIRST, NULL);
	return move(c, MDB_SET_RANGE, full_key(&full, c->table, key, len));
}

int kv_cursor_seek_before(struct kv_cursor *c, const void *key, size_t len)
{
	struct full_key full;
	return move_before(c, full_key(&full, c->table, key, len));
}

int kv_cursor_last(struct kv_cursor *c)
{
	uint8_t next = (uint8_t)(c->table + 2);
	return !kv_db_is_small(c->table) ? move(c, MDB_LAST, NULL) : move_before(c, &(MDB_val){1, &next});
}

int kv_cursor_next(struct kv_cursor *c)
{
	return move(c, MDB_NEXT, NULL);
}

int kv_cursor_prev(struct kv_cursor *c)
{
	return move(c, MDB_PREV, NULL);
}

int kv_cursor_del(struct kv_cursor *c)
{
	MDB_val key, v;
	int r = c->mdb ? 0 : leave_finger(c, MDB_GET_CURRENT, &key, &v);
	if (r)
		return r;
	note_change(c->txn, c->table);
	return result(c->txn, c->table, KV_DB_GUARDED(mdb_cursor_del(c->mdb, 0)));
}
