/* The reaper: what is replaced, deleted or given up comes back, soon, in slices; what is held stays (contract, sections 4 and 7). */
#include "support.h"

#include <kvfs_ll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "commit.h"
#include "garbage.h"
#include "invariants.h"
#include "session.h"

#define CHUNK 32736u

static struct kvfs_store *open_at(const char *path, size_t buffer_size)
{
	struct kvfs_options opt = {
		.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 1 << 30, .buffer_size = buffer_size};
	struct kvfs_store *store;
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	return store;
}

static struct kvfs_store *open_store(void)
{
	return open_at(support_store_path(), 0);
}

static void put(struct kvfs_store *store, const char *key, size_t len, char fill)
{
	char *data = malloc(len + 1);
	memset(data, fill, len);
	assert_ok(kvfs_put(store, key, data, len, NULL, NULL));
	free(data);
}

static uint64_t ino_of(struct kvfs_store *store, const char *key)
{
	struct kvfs_stat st;
	assert_ok(kvfs_stat(store, key, &st));
	return st.ino;
}

static uint64_t dead_chunks(struct kvfs_store *store)
{
	struct invariants seen;
	check_invariants(store, &seen);
	return seen.dead_chunks;
}

/* All chunk records, without reading them. */
static uint64_t chunks(struct kvfs_store *store)
{
	struct kv_txn txn;
	struct kv_cursor c;
	uint64_t n = 0;
	assert_ok(kv_db_read(store->core->db, &txn));
	assert_ok(kv_cursor_open(&txn, KV_CHUNK, &c));
	c.raw = true;
	for (int r = kv_cursor_seek(&c, NULL, 0); r == 0; r = kv_cursor_next(&c))
		n++;
	kv_cursor_close(&c);
	kv_db_read_end(&txn);
	return n;
}

/* ---- space comes back ---- */

static void a_store_of_replaced_values_does_not_grow(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_info before, after;
	for (int i = 0; i < 60; i++)
		put(store, "v", 40 * CHUNK, 'a');
	assert_ok(kvfs_info(store, &before));
	for (int i = 0; i < 300; i++)
		put(store, "v", 40 * CHUNK, 'b');
	assert_ok(kvfs_info(store, &after));
	assert_true(after.file_bytes <= before.file_bytes + (1 << 20));
	check_drained(store);
	kvfs_close(store);
}

/* Many small entries in one commit are freed as fast as few large ones: here 300 values of one chunk at a time. */
static void transactions_over_many_values_do_not_pile_up_garbage(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	char *data = calloc(1, 5000), key[16];
	for (int round = 0; round < 20; round++) {
		struct kvfs_txn *txn;
		assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
		for (int i = 0; i < 300; i++) {
			snprintf(key, sizeof key, "k%d", i);
			assert_ok(kvfs_txn_put(txn, key, data, 5000, NULL));
		}
		assert_ok(kvfs_txn_commit(&txn));
		assert_true(chunks(store) <= 3 * 300);
	}
	free(data);
	check_drained(store);
	kvfs_close(store);
}

/* So are large transactions: 30 MiB replaced in each. */
static void large_transactions_do_not_pile_up_garbage(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	char *data = calloc(1, 1 << 20), key[16];
	for (int round = 0; round < 5; round++) {
		struct kvfs_txn *txn;
		assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
		for (int i = 0; i < 7; i++) {
			snprintf(key, sizeof key, "k%d", i);
			assert_ok(kvfs_txn_put(txn, key, data, 1 << 20, NULL));
		}
		assert_ok(kvfs_txn_commit(&txn));
		assert_true(chunks(store) <= 2 * 7 * ((1 << 20) / CHUNK + 1));
	}
	free(data);
	check_drained(store);
	kvfs_close(store);
}

/* One commit frees a bounded slice of a large value. */
static void work_per_commit_is_bounded(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	put(store, "v", 3000 * CHUNK, 'a');
	assert_ok(kvfs_del(store, "v"));
	assert_int_equal(chunks(store), 3000);
	uint64_t left = 3000;
	for (int i = 0; left; i++) {
		put(store, "w", 1, 'b');
		uint64_t now = chunks(store);
		assert_true(left - now >= (left < 32 ? left : 31) && left - now <= 32);
		left = now;
		assert_true(i < 200);
	}
	check_drained(store);
	kvfs_close(store);
}

/* A chunk that is written over and over behind a cut keeps more generations than one slice looks at: the slice must get past it. */
static void a_busy_chunk_does_not_stop_the_reaper(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_session *s;
	struct kvfs_value *held[100];
	put(store, "v", 200 * CHUNK, 'a');
	assert_ok(kvfs_value_open(store, ino_of(store, "v"), &held[0], NULL));
	assert_ok(kvfs_session_open(store, ino_of(store, "v"), false, &s));
	assert_ok(kvfs_session_truncate(s, CHUNK));
	assert_count(kvfs_session_write(s, "x", 1, 199 * CHUNK), 1);
	assert_ok(kvfs_session_publish(s));
	for (int i = 1; i < 100; i++) {
		assert_count(kvfs_session_write(s, "y", 1, 50 * CHUNK), 1);
		assert_ok(kvfs_session_publish(s));
		assert_ok(kvfs_value_open(store, ino_of(store, "v"), &held[i], NULL));
	}
	kvfs_session_close(s);
	kvfs_value_close(held[0]);
	/* only what the 99 others read is left: a generation each, and those are set aside */
	for (int i = 0; i < 30; i++)
		put(store, "w", 1, 'b');
	assert_true(dead_chunks(store) <= 99);
	for (int i = 1; i < 100; i++)
		kvfs_value_close(held[i]);
	check_drained(store);
	kvfs_close(store);
}

/* ---- holds ---- */

static void check_fill(struct kvfs_value *v, size_t len, char fill)
{
	char *got = malloc(len);
	assert_count(kvfs_value_read(v, got, len, 0), (int64_t)len);
	for (size_t i = 0; i < len; i += 997)
		assert_int_equal(got[i], fill);
	free(got);
}

static void a_held_value_stays_and_nothing_else_does(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_value *old;
	struct invariants seen;
	put(store, "v", 10 * CHUNK, 'a');
	assert_ok(kvfs_value_open(store, ino_of(store, "v"), &old, NULL));
	for (char fill = 'b'; fill < 'z'; fill++) {
		put(store, "v", 10 * CHUNK, fill);
		put(store, "w", 10 * CHUNK, fill);
	}
	assert_ok(kvfs_del(store, "v"));
	for (int i = 0; i < 5; i++)
		put(store, "x", 1, 'x');
	check_invariants(store, &seen);
	assert_int_equal(seen.dead_chunks, 10);
	assert_int_equal(seen.held_garbage, 1);
	check_fill(old, 10 * CHUNK, 'a');
	kvfs_value_close(old);
	check_drained(store);
	kvfs_close(store);
}

/* Parts replaced under several readers: each reader keeps what it reads until it goes, in any order. */
static void readers_of_many_generations(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct support_rng rng = support_rng(7);
	struct kvfs_value *held[20];
	struct kvfs_session *s;
	char got[20];
	put(store, "v", 8 * CHUNK, '.');
	assert_ok(kvfs_session_open(store, ino_of(store, "v"), false, &s));
	for (int i = 0; i < 20; i++) {
		assert_ok(kvfs_value_open(store, ino_of(store, "v"), &held[i], NULL));
		assert_count(kvfs_session_write(s, "#", 1, (uint64_t)i), 1);
		assert_ok(kvfs_session_publish(s));
	}
	kvfs_session_close(s);
	for (int left = 20; left; left--) {
		int i = 0;
		for (uint64_t n = support_below(&rng, (uint64_t)left); !held[i] || n--;)
			i++;
		assert_count(kvfs_value_read(held[i], got, 20, 0), 20);
		for (int k = 0; k < 20; k++)
			assert_int_equal(got[k], k < i ? '#' : '.');
		kvfs_value_close(held[i]);
		held[i] = NULL;
		put(store, "w", 1, 'x');
		check_invariants(store, NULL);
	}
	check_drained(store);
	kvfs_close(store);
}

/* Hundreds of values held and let go at once: more than the reaper looks at in one commit, and more than the ring tells. */
static void many_holds_let_go_at_once(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_value *held[700];
	struct invariants seen;
	char key[16];
	for (int i = 0; i < 700; i++) {
		snprintf(key, sizeof key, "k%d", i);
		put(store, key, 5000, 'a');
		assert_ok(kvfs_value_open(store, ino_of(store, key), &held[i], NULL));
	}
	assert_ok(kvfs_del_tree(store, "", NULL));
	for (int i = 0; i < 40; i++)
		put(store, "x", 1, 'x');
	check_invariants(store, &seen);
	assert_int_equal(seen.held_garbage, 700);
	for (int i = 0; i < 700; i++)
		kvfs_value_close(held[i]);
	for (int i = 0; i < 80; i++)
		put(store, "x", 1, 'x');
	check_invariants(store, &seen);
	assert_int_equal(seen.dead_chunks, 0);
	check_drained(store);
	kvfs_close(store);
}

/* ---- sessions ---- */

static struct kvfs_session *spilled(struct kvfs_store *store, const char *name, size_t chunks)
{
	struct kvfs_session *s;
	char *data = calloc(1, CHUNK);
	assert_ok(kvfs_session_create(store, KVFS_ROOT_INO, name, 0644, (struct kvfs_cred){0, 0}, false, &s));
	for (size_t i = 0; i < chunks; i++)
		assert_count(kvfs_session_write(s, data, CHUNK, i * CHUNK), CHUNK);
	free(data);
	pthread_mutex_lock(&s->lock);
	assert_ok(kv_session_spill(s));
	pthread_mutex_unlock(&s->lock);
	return s;
}

static void a_session_given_up_leaves_nothing(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct invariants seen;
	struct kvfs_session *s = spilled(store, "v", 300);
	check_invariants(store, &seen);
	assert_int_equal(seen.hidden, 1);
	assert_int_equal(seen.chunks, 300);
	kvfs_session_close(s);
	check_drained(store);
	check_invariants(store, &seen);
	assert_int_equal(seen.hidden, 0);
	kvfs_close(store);
}

/* Cut, cleared, written again: what was hidden goes at once or is accounted for. */
static void a_session_that_changes_its_mind_leaves_nothing(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct invariants seen;
	struct kvfs_session *s = spilled(store, "v", 50);
	assert_ok(kvfs_session_truncate(s, 10 * CHUNK + 5));
	check_invariants(store, &seen);
	assert_true(seen.chunks <= 11);
	assert_ok(kvfs_session_clear(s));
	assert_count(kvfs_session_write(s, "abc", 3, 0), 3);
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
	s = spilled(store, "w", 5); /* its last chunk is short, and becomes a tail */
	assert_count(kvfs_session_write(s, "tail", 4, 5 * CHUNK), 4);
	pthread_mutex_lock(&s->lock);
	assert_ok(kv_session_spill(s));
	pthread_mutex_unlock(&s->lock);
	assert_count(kvfs_session_write(s, "T", 1, 5 * CHUNK), 1);
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
	check_drained(store);
	kvfs_close(store);
}

static int die_with_hidden_chunks(void *path)
{
	struct kvfs_store *store = open_at(path, 0);
	for (int i = 0; i < 5; i++) {
		char name[16];
		snprintf(name, sizeof name, "v%d", i);
		spilled(store, name, 20);
	}
	_exit(0);
}

/* Hidden chunks of more live sessions than one commit looks at come before those of a door that died: these are found all the same. */
static void a_dead_door_is_cleaned_up_behind(void **state)
{
	(void)state;
	char *path = strdup(support_store_path());
	struct kvfs_store *store = open_at(path, 0);
	struct kvfs_session *mine[100];
	struct invariants seen;
	for (int i = 0; i < 100; i++) {
		char name[16];
		snprintf(name, sizeof name, "m%d", i);
		mine[i] = spilled(store, name, 1);
	}
	assert_child_ok(die_with_hidden_chunks, path, 30);
	for (int i = 0; i < 20; i++)
		put(store, "x", 1, 'x');
	check_invariants(store, &seen);
	assert_int_equal(seen.hidden, 100);
	assert_int_equal(seen.chunks, 100);
	for (int i = 0; i < 100; i++)
		kvfs_session_close(mine[i]);
	check_drained(store);
	kvfs_close(store);
	free(path);
}

static int die_with_a_hold(void *path)
{
	struct kvfs_store *store = open_at(path, 0);
	struct kvfs_value *v;
	assert_ok(kvfs_value_open(store, ino_of(store, "v"), &v, NULL));
	put(store, "v", 20 * CHUNK, 'b');
	for (int i = 0; i < 5; i++)
		put(store, "x", 1, 'x');
	_exit(0);
}

static void the_holds_of_a_dead_door_fall(void **state)
{
	(void)state;
	char *path = strdup(support_store_path());
	struct kvfs_store *store = open_at(path, 0);
	put(store, "v", 20 * CHUNK, 'a');
	assert_child_ok(die_with_a_hold, path, 30);
	for (int i = 0; i < 10; i++)
		put(store, "x", 1, 'x');
	assert_int_equal(dead_chunks(store), 0);
	check_drained(store);
	kvfs_close(store);
	free(path);
}

/* ---- threads ---- */

#define THREADS 4

struct worker {
	struct kvfs_store *store;
	unsigned id;
	bool failed;
};

/* Each has a key of its own, which it fills with one byte at a time through a session, while all spill one another's. */
static void *write_and_read(void *arg)
{
	struct worker *w = arg;
	char key[8], *data = malloc(12 * CHUNK), *got = malloc(12 * CHUNK);
	snprintf(key, sizeof key, "t%u", w->id);
	for (int round = 0; round < 25 && !w->failed; round++) {
		struct kvfs_stream *st;
		size_t len = (size_t)(1 + (round * 7 + (int)w->id) % 12) * CHUNK - (size_t)round;
		memset(data, 'a' + round, len);
		w->failed = kvfs_stream_open(w->store, key,
				    KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | (round % 2 ? KVFS_STREAM_TRUNCATE : 0), 0644,
				    &st) != 0;
		for (size_t at = 0; at < len && !w->failed; at += CHUNK / 2) {
			size_t n = len - at < CHUNK / 2 ? len - at : CHUNK / 2;
			w->failed = kvfs_stream_write(st, data + at, n, at) != (ssize_t)n;
		}
		w->failed = w->failed || kvfs_stream_close(st) != 0;
		w->failed = w->failed || kvfs_get_into(w->store, key, got, len, 0) != (ssize_t)len || memcmp(got, data, len) != 0;
	}
	free(data);
	free(got);
	return NULL;
}

/* Opens what the others publish, and reads it twice: a held value does not change. */
static void *hold_and_read(void *arg)
{
	struct worker *w = arg;
	char key[8], *one = malloc(CHUNK), *two = malloc(CHUNK);
	for (int round = 0; round < 150 && !w->failed; round++) {
		struct kvfs_stream *st;
		snprintf(key, sizeof key, "t%u", (unsigned)round % THREADS);
		if (kvfs_stream_open(w->store, key, KVFS_STREAM_READ, 0, &st))
			continue;
		ssize_t n = kvfs_stream_read(st, one, CHUNK, 0);
		usleep(2000);
		w->failed = n < 0 || kvfs_stream_read(st, two, CHUNK, 0) != n || memcmp(one, two, (size_t)n) != 0;
		for (ssize_t i = 1; i < n && i < (ssize_t)CHUNK - 100 && !w->failed; i++) /* all that every round writes */
			w->failed = one[i] != one[0];
		kvfs_stream_abort(st);
	}
	free(one);
	free(two);
	return NULL;
}

static void threads_share_memory_and_the_reaper(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 1);
	pthread_t thread[THREADS + 1];
	struct worker worker[THREADS + 1];
	for (unsigned i = 0; i <= THREADS; i++) {
		worker[i] = (struct worker){store, i, false};
		assert_int_equal(pthread_create(&thread[i], NULL, i < THREADS ? write_and_read : hold_and_read, &worker[i]), 0);
	}
	for (unsigned i = 0; i <= THREADS; i++) {
		pthread_join(thread[i], NULL);
		assert_false(worker[i].failed);
	}
	assert_int_equal(store->core->buffered, 0);
	check_drained(store);
	kvfs_close(store);
}

/* A session of many parts is written ahead instead of being held in one transaction; others' parts stay. */
static void a_large_session_of_parts_keeps_what_others_wrote(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 1);
	struct kvfs_session *s;
	size_t len = (size_t)KVFS_TXN_BYTES_MAX + 10 * CHUNK;
	char *data = malloc(len), got[4];
	memset(data, 'n', len);
	put(store, "v", 20 * CHUNK, 'o');
	assert_ok(kvfs_session_open(store, ino_of(store, "v"), false, &s));
	assert_count(kvfs_session_write(s, data, len, 3), (int64_t)len);
	put(store, "v", 10, 'x');
	assert_ok(kvfs_session_publish(s));
	assert_count(kvfs_session_read(s, got, 4, 0), 4);
	assert_memory_equal(got, "xxxn", 4);
	kvfs_session_close(s);
	assert_count(kvfs_get_into(store, "v", data, len, 3), (int64_t)len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], 'n');
	free(data);
	check_drained(store);
	kvfs_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_store_of_replaced_values_does_not_grow),
		cmocka_unit_test(transactions_over_many_values_do_not_pile_up_garbage),
		cmocka_unit_test(large_transactions_do_not_pile_up_garbage),
		cmocka_unit_test(work_per_commit_is_bounded),
		cmocka_unit_test(a_busy_chunk_does_not_stop_the_reaper),
		cmocka_unit_test(a_held_value_stays_and_nothing_else_does),
		cmocka_unit_test(readers_of_many_generations),
		cmocka_unit_test(many_holds_let_go_at_once),
		cmocka_unit_test(a_session_given_up_leaves_nothing),
		cmocka_unit_test(a_session_that_changes_its_mind_leaves_nothing),
		cmocka_unit_test(a_dead_door_is_cleaned_up_behind),
		cmocka_unit_test(the_holds_of_a_dead_door_fall),
		cmocka_unit_test(threads_share_memory_and_the_reaper),
		cmocka_unit_test(a_large_session_of_parts_keeps_what_others_wrote),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
