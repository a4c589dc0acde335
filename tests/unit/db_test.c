/* The database layer: tables that do not see one another, checksums that see every bit, and what the common calls cost. */
#include "support.h"

#include <fcntl.h>
#include <kvfs_ll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"
#include "session.h"

#define CHUNK 32736u

static struct kvfs_store *open_at(const char *path)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 1 << 28};
	struct kvfs_store *store;
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	return store;
}

/* ---- tables ---- */

static int put(struct kv_txn *txn, enum kv_table table, const char *key, const char *value)
{
	struct iovec part = {(void *)value, strlen(value)};
	return kv_db_put(txn, table, key, strlen(key), &part, 1);
}

static void assert_key(const struct kv_cursor *c, const char *key)
{
	assert_int_equal(c->key.len, strlen(key));
	assert_memory_equal(c->key.data, key, c->key.len);
}

/* A table's cursor ends where the table does, on both sides, whatever lies beside it. */
static void cursors_stay_in_their_table(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path());
	static const enum kv_table tables[] = {KV_XATTR, KV_CHUNK, KV_GARBAGE, KV_SESSION};
	struct kv_txn txn;
	struct kv_cursor c;
	assert_ok(kv_db_write(store->core->db, &txn));
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		enum kv_table t = tables[i];
		assert_ok(kv_cursor_open(&txn, t, &c));
		assert_err(kv_cursor_seek(&c, NULL, 0), -ENOENT);
		assert_err(kv_cursor_last(&c), -ENOENT);
		assert_err(kv_cursor_seek(&c, "bb", 2), -ENOENT);
		assert_err(kv_cursor_seek_before(&c, "bb", 2), -ENOENT);
		kv_cursor_close(&c);
		for (const char *const *k = (const char *const[]){"bb", "aa", "\xff\xff\xff", "cc", NULL}; *k; k++)
			assert_ok(put(&txn, t, *k, *k));
		assert_ok(kv_cursor_open(&txn, t, &c));
		assert_ok(kv_cursor_seek(&c, NULL, 0));
		assert_key(&c, "aa");
		assert_err(kv_cursor_prev(&c), -ENOENT);
		assert_ok(kv_cursor_seek(&c, "ab", 2));
		assert_key(&c, "bb");
		assert_ok(kv_cursor_seek_before(&c, "bb", 2));
		assert_key(&c, "aa");
		assert_err(kv_cursor_seek_before(&c, "aa", 2), -ENOENT);
		assert_ok(kv_cursor_seek_before(&c, "\xff\xff\xff\xff", 4));
		assert_key(&c, "\xff\xff\xff");
		assert_err(kv_cursor_next(&c), -ENOENT);
		assert_ok(kv_cursor_last(&c));
		assert_key(&c, "\xff\xff\xff");
		assert_ok(kv_cursor_prev(&c));
		assert_key(&c, "cc");
		kv_cursor_close(&c);
	}
	kv_db_abort(&txn);
	kvfs_close(store);
}

/* Deleting as one goes leaves the cursor before what came next; all of a large table can go so. */
static void a_cursor_deletes_its_way_through(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path());
	struct kv_txn txn;
	struct kv_cursor c;
	char key[16];
	int r;
	for (int keep = 1; keep < 8; keep += 3) { /* of so many one stays; 1: none */
		assert_ok(kv_db_write(store->core->db, &txn));
		for (int i = 0; i < 5000; i++) {
			snprintf(key, sizeof key, "%05d", i);
			assert_ok(put(&txn, KV_XATTR, key, "a value of some length, so that there are many pages"));
		}
		assert_ok(kv_cursor_open(&txn, KV_XATTR, &c));
		c.raw = true;
		int n = 0;
		for (r = kv_cursor_seek(&c, NULL, 0); r == 0; r = kv_cursor_next(&c), n++) {
			snprintf(key, sizeof key, "%05d", n);
			assert_key(&c, key);
			if (keep == 1 || n % keep)
				assert_ok(kv_cursor_del(&c));
		}
		assert_err(r, -ENOENT);
		assert_int_equal(n, 5000);
		n = 0;
		for (r = kv_cursor_seek(&c, NULL, 0); r == 0; r = kv_cursor_next(&c))
			n++;
		assert_int_equal(n, keep == 1 ? 0 : (5000 + keep - 1) / keep);
		kv_cursor_close(&c);
		kv_db_abort(&txn);
	}
	kvfs_close(store);
}

/* ---- a cursor whose tree is changed under it ---- */

#define MODEL_KEYS 600

struct model {
	struct kv_txn txn;
	struct kv_cursor c;
	enum kv_table table;
	bool has[MODEL_KEYS];
	int at; /* the key that the cursor stands at, or stood at when it was deleted; -1: it is nowhere */
	struct support_rng rng;
};

static int chance(struct model *m, int n)
{
	return (int)support_below(&m->rng, (uint64_t)n);
}

/* The first key of the model from `i` on, upwards or downwards; -1: none. */
static int from(const struct model *m, int i, int step)
{
	while (i >= 0 && i < MODEL_KEYS && !m->has[i])
		i += step;
	return i < MODEL_KEYS ? i : -1;
}

static void change(struct model *m, int i, bool put_it)
{
	static const char filler[200];
	struct iovec part = {(void *)filler, (size_t)chance(m, sizeof filler)};
	char key[8];
	snprintf(key, sizeof key, "%05d", i);
	assert_int_equal(put_it ? kv_db_put(&m->txn, m->table, key, 5, &part, 1) : kv_db_del(&m->txn, m->table, key, 5),
		put_it || m->has[i] ? 0 : -ENOENT);
	m->has[i] = put_it;
}

static void expect(struct model *m, int r, int at)
{
	char key[16];
	snprintf(key, sizeof key, "%05d", at);
	assert_int_equal(r, at < 0 ? -ENOENT : 0);
	if (at >= 0)
		assert_key(&m->c, key);
	m->at = at;
}

static void turn(struct model *m)
{
	char key[8];
	int i = chance(m, MODEL_KEYS);
	snprintf(key, sizeof key, "%05d", i);
	int turns = m->at < 0 ? 3 : m->has[m->at] ? 8 : 5; /* after a deletion where it stands it moves */
	switch (chance(m, turns)) {
	case 0:
		return expect(m, kv_cursor_seek(&m->c, key, 5), from(m, i, 1));
	case 1:
		return expect(m, kv_cursor_seek_before(&m->c, key, 5), from(m, i - 1, -1));
	case 2:
		return expect(m, kv_cursor_last(&m->c), from(m, MODEL_KEYS - 1, -1));
	case 3:
		return expect(m, kv_cursor_prev(&m->c), from(m, m->at - 1, -1));
	case 4:
		return expect(m, kv_cursor_next(&m->c), from(m, m->at + 1, 1));
	case 5: /* LMDB's cursor that stood at the end may not see what is put behind it: nobody here does that */
		return change(m, i % (m->at + 1), true);
	case 6:
		return change(m, i % 8 ? i : m->at, false);
	default:
		assert_ok(kv_cursor_del(&m->c));
		m->has[m->at] = false;
	}
}

static int commit_unflushed(struct kv_txn *txn)
{
	txn->unflushed = true;
	return kv_db_commit(txn, KV_SYNC_LEVEL);
}

/* Reading, it follows the tree as the transaction found it; from the first change on, the tree as it becomes. */
static void a_cursor_goes_on_where_it_stood(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path());
	struct model m = {.rng = support_rng(1)};
	for (int round = 0; round < 400; round++) {
		m.table = round % 2 ? KV_XATTR : KV_GARBAGE;
		m.at = -1;
		memset(m.has, 0, sizeof m.has);
		assert_ok(kv_db_write(store->core->db, &m.txn));
		for (int i = chance(&m, MODEL_KEYS); i > 0; i--)
			change(&m, chance(&m, MODEL_KEYS), true);
		if (round % 4 < 2) {
			assert_ok(commit_unflushed(&m.txn));
			assert_ok(kv_db_write(store->core->db, &m.txn));
		}
		assert_ok(kv_cursor_open(&m.txn, m.table, &m.c));
		for (int i = 0; i < 200; i++)
			turn(&m);
		kv_cursor_close(&m.c);
		kv_db_abort(&m.txn);
		assert_ok(kv_db_write(store->core->db, &m.txn));
		for (int i = 0; i < MODEL_KEYS; i++) {
			char key[8];
			snprintf(key, sizeof key, "%05d", i);
			(void)!kv_db_del(&m.txn, m.table, key, 5);
		}
		assert_ok(commit_unflushed(&m.txn));
	}
	kvfs_close(store);
}

static void a_read_is_one_state(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path());
	struct kv_txn old, txn;
	struct kv_bytes b;
	assert_ok(kv_db_read(store->core->db, &old));
	assert_true(kv_db_is_newest(&old));
	assert_ok(kv_db_write(store->core->db, &txn));
	assert_ok(put(&txn, KV_XATTR, "k", "v"));
	assert_true(kv_db_is_newest(&old));
	assert_ok(kv_db_commit(&txn, KV_SYNC_LEVEL));
	assert_false(kv_db_is_newest(&old));
	assert_err(kv_db_get(&old, KV_XATTR, "k", 1, &b), -ENOENT);
	kv_db_read_end(&old);
	kv_db_read_end(&old);
	assert_ok(kv_db_read(store->core->db, &old));
	assert_ok(kv_db_get(&old, KV_XATTR, "k", 1, &b));
	assert_err(kv_db_get(&old, KV_DIRENT, "k", 1, &b), -ENOENT);
	kv_db_read_end(&old);
	kvfs_close(store);
}

/* ---- checksums ---- */

/* Something in every table: names, a value inline, one with a long tail, chunks, garbage that is held, a session's hidden chunks. */
static struct kvfs_value *fill_all_tables(struct kvfs_store *store, struct kvfs_session **ret_session)
{
	struct kvfs_value *held;
	struct kvfs_stat st;
	char *data = calloc(1, 3 * CHUNK);
	support_fill(&(struct support_rng){1}, data, 3 * CHUNK);
	assert_ok(kvfs_put(store, "d/small", "some bytes", 10, NULL, NULL));
	assert_ok(kvfs_put(store, "d/tail", data, 3000, NULL, NULL));
	assert_ok(kvfs_put(store, "large", data, 3 * CHUNK, NULL, NULL));
	assert_ok(kvfs_setxattr(store, "large", "user.x", "value", 5, 0));
	assert_ok(kvfs_stat(store, "large", &st));
	assert_ok(kvfs_value_open(store, st.ino, &held, NULL));
	assert_ok(kvfs_put(store, "large", data, 2 * CHUNK, NULL, NULL));
	for (int i = 0; i < KV_LOG_PACK; i++) /* the log's older records go to the history */
		assert_ok(kvfs_put(store, "other", "", 0, NULL, NULL));
	assert_ok(kvfs_session_create(store, KVFS_ROOT_INO, "new", 0644, (struct kvfs_cred){0, 0}, false, ret_session));
	assert_count(kvfs_session_write(*ret_session, data, CHUNK, 0), CHUNK);
	assert_ok(kv_session_spill(*ret_session));
	free(data);
	return held;
}

/* A record as it lies in the file: its sum and what follows. */
struct stored {
	enum kv_table table;
	uint8_t key[512], *bytes;
	size_t key_len, len;
};

static size_t collect(struct kvfs_store *store, struct stored *list, size_t max)
{
	struct kv_txn txn;
	size_t n = 0;
	assert_ok(kv_db_read(store->core->db, &txn));
	for (enum kv_table t = 0; t < KV_TABLES; t++) {
		struct kv_cursor c;
		size_t first = n;
		assert_ok(kv_cursor_open(&txn, t, &c));
		for (int r = kv_cursor_seek(&c, NULL, 0); r == 0 && n < max; r = kv_cursor_next(&c)) {
			struct stored *s = &list[n++];
			s->table = t;
			s->key_len = c.key.len;
			memcpy(s->key, c.key.data, c.key.len);
			s->len = c.value.len + sizeof(struct kv_rec_sum);
			s->bytes = malloc(s->len);
			memcpy(s->bytes, (const uint8_t *)c.value.data - sizeof(struct kv_rec_sum), s->len);
		}
		assert_true(n > first); /* no table is left out */
		kv_cursor_close(&c);
	}
	kv_db_read_end(&txn);
	return n;
}

/* Changes one byte in the file wherever the record stands; older copies of its page are changed as well. */
static void flip(int fd, const struct stored *s, size_t at, uint8_t xor)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *file = malloc((size_t)st.st_size), want[2] = {s->bytes[at], s->bytes[at] ^ xor};
	assert_int_equal(pread(fd, file, (size_t)st.st_size, 0), st.st_size);
	uint8_t *from = file, *end = file + st.st_size, *hit;
	int n = 0;
	while ((hit = memmem(from, (size_t)(end - from), s->bytes, s->len))) {
		assert_int_equal(pwrite(fd, &want[1], 1, hit - file + (off_t)at), 1);
		from = hit + 1;
		n++;
	}
	assert_true(n > 0);
	free(file);
	s->bytes[at] = want[1];
}

static int read_again(struct kvfs_store *store, const struct stored *s)
{
	struct kv_txn txn;
	struct kv_bytes b;
	assert_ok(kv_db_read(store->core->db, &txn));
	int r = kv_db_get(&txn, s->table, s->key, s->key_len, &b);
	kv_db_read_end(&txn);
	return r;
}

static void a_flipped_bit_is_seen_in_every_table(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(1);
	const char *path = support_store_path();
	char file[4200];
	struct kvfs_store *store = open_at(path);
	struct kvfs_session *s;
	struct kvfs_value *held = fill_all_tables(store, &s);
	static struct stored list[100];
	size_t n = collect(store, list, 100);
	snprintf(file, sizeof file, "%s/data.mdb", path);
	int fd = open(file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (size_t i = 0; i < n; i++) {
		struct kvfs_error err = {0};
		size_t at = support_below(&rng, list[i].len);
		uint8_t xor = (uint8_t)(1 << support_below(&rng, 8));
		assert_ok(read_again(store, &list[i]));
		flip(fd, &list[i], at, xor);
		assert_err(read_again(store, &list[i]), -EUCLEAN);
		kvfs_damage(store, &err);
		assert_int_equal(err.code, -EUCLEAN);
		assert_non_null(strstr(err.text, "checksum"));
		flip(fd, &list[i], at, xor);
		assert_ok(read_again(store, &list[i]));
		free(list[i].bytes);
	}
	close(fd);
	kvfs_session_close(s);
	kvfs_value_close(held);
	kvfs_close(store);
}

/* Garbage that cannot be read costs its space, and no commit. */
static void damaged_garbage_stops_nobody(void **state)
{
	(void)state;
	const char *path = support_store_path();
	char file[4200];
	struct kvfs_store *store = open_at(path);
	struct kvfs_session *s;
	struct kvfs_value *held = fill_all_tables(store, &s);
	static struct stored list[100];
	size_t n = collect(store, list, 100);
	snprintf(file, sizeof file, "%s/data.mdb", path);
	int fd = open(file, O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < n; i++) {
		if (list[i].table == KV_GARBAGE)
			flip(fd, &list[i], list[i].len / 2, 1);
		free(list[i].bytes);
	}
	close(fd);
	kvfs_value_close(held);
	kvfs_session_close(s);
	for (int i = 0; i < 5; i++)
		assert_ok(kvfs_put(store, "d/small", "more", 4, NULL, NULL));
	kvfs_close(store);
}

/* ---- costs ---- */

struct cost {
	uint64_t reads, writes, descents;
};

static void assert_cost(struct kvfs_store *store, struct kv_db_counts before, struct cost max, const char *what)
{
	struct kv_db_counts now = kv_db_counts(store->core->db);
	struct cost got = {now.reads - before.reads, now.writes - before.writes, now.descents - before.descents};
	if (got.reads > max.reads || got.writes > max.writes || got.descents > max.descents)
		fail_msg("%s: %llu reads, %llu writes, %llu descents", what, (unsigned long long)got.reads,
			(unsigned long long)got.writes, (unsigned long long)got.descents);
}

#define COST(call, ...)                                                                                                            \
	do {                                                                                                                       \
		struct kv_db_counts before_ = kv_db_counts(store->core->db);                                                       \
		assert_true((call) >= 0);                                                                                          \
		assert_cost(store, before_, (struct cost){__VA_ARGS__}, #call);                                                    \
	} while (0)

/* Transactions and searches of the common calls, counted: they do not depend on the machine.  (reads, writes, descents) */
static void common_calls_cost_what_they_did(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path());
	struct kvfs_stat st;
	struct kvfs_value *v;
	char buf[200] = {0}, *large = calloc(1, 4 * CHUNK);
	assert_ok(kvfs_put(store, "d/large", large, 4 * CHUNK, NULL, NULL));
	COST(kvfs_put(store, "k", buf, 100, NULL, NULL), 0, 1, 9);
	COST(kvfs_get_into(store, "k", buf, 100, 0), 1, 0, 1);
	COST(kvfs_stat(store, "k", &st), 1, 0, 1);
	COST(kvfs_ll_getattr(store, st.ino, &st), 1, 0, 2);
	COST(kvfs_ll_lookup(store, KVFS_ROOT_INO, "k", &st), 1, 0, 1);
	COST(kvfs_exists(store, "k"), 1, 0, 1);
	COST(kvfs_put(store, "k", buf, 100, NULL, NULL), 0, 1, 5);
	COST(kvfs_append(store, "k", buf, 10), 0, 1, 5);
	COST(kvfs_get_into(store, "d/large", large, 4 * CHUNK, 0), 1, 0, 6);
	COST(kvfs_value_open(store, st.ino, &v, NULL), 1, 0, 2);
	kvfs_value_close(v);
	COST(kvfs_append(store, "d/large", buf, 10), 0, 1, 6);
	COST(kvfs_del(store, "k"), 0, 1, 9);
	free(large);
	kvfs_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursors_stay_in_their_table),
		cmocka_unit_test(a_cursor_deletes_its_way_through),
		cmocka_unit_test(a_cursor_goes_on_where_it_stood),
		cmocka_unit_test(a_read_is_one_state),
		cmocka_unit_test(a_flipped_bit_is_seen_in_every_table),
		cmocka_unit_test(damaged_garbage_stops_nobody),
		cmocka_unit_test(common_calls_cost_what_they_did),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
