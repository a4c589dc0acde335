/* Kept sessions: what is kept is there until it is recovered, dropped or too much; nothing leaks, and nothing published is touched. */
#include "support.h"

#include <kvfs_ll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit.h"
#include "garbage.h"
#include "invariants.h"
#include "session.h"

#define CHUNK 32736u

static char *data; /* whose bytes are all sessions' */

static struct kvfs_store *open_at(const char *path, uint64_t map_size)
{
	struct kvfs_options opt = {
		.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = map_size, .buffer_size = 20 * CHUNK};
	struct kvfs_store *store;
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	return store;
}

static struct kvfs_store *open_store(void)
{
	return open_at(support_store_path(), 1 << 30);
}

static struct kvfs_session *new_key(struct kvfs_store *store, const char *name, size_t len)
{
	struct kvfs_session *s;
	assert_ok(kvfs_session_create(store, KVFS_ROOT_INO, name, 0640, (struct kvfs_cred){7, 8}, false, &s));
	assert_count(kvfs_session_write(s, data, len, 0), len);
	return s;
}

static struct kvfs_session *on_key(struct kvfs_store *store, const char *key, bool truncate)
{
	struct kvfs_session *s;
	struct kvfs_stat st;
	assert_ok(kvfs_stat(store, key, &st));
	assert_ok(kvfs_session_open(store, st.ino, truncate, &s));
	return s;
}

static uint64_t newest_kept(struct kvfs_store *store)
{
	struct kvfs_kept *list = calloc(KVFS_KEPT_MAX, sizeof *list);
	ssize_t n = kvfs_kept(store, list, KVFS_KEPT_MAX);
	assert_true(n > 0);
	uint64_t id = list[n - 1].id;
	free(list);
	return id;
}

static void keep_quietly(struct kvfs_session *s, int reason)
{
	assert_ok(kvfs_session_keep(s, reason));
	kvfs_session_close(s);
}

static uint64_t keep(struct kvfs_store *store, struct kvfs_session *s, int reason)
{
	keep_quietly(s, reason);
	check_invariants(store, NULL);
	return newest_kept(store);
}

static void assert_value(struct kvfs_store *store, const char *key, const void *want, size_t len)
{
	void *got;
	size_t n;
	assert_ok(kvfs_get(store, key, &got, &n));
	assert_int_equal(n, len);
	assert_memory_equal(got, want, len);
	free(got);
}

static void ends_clean(struct kvfs_store *store, uint64_t kept)
{
	struct invariants seen;
	check_drained(store);
	check_invariants(store, &seen);
	assert_int_equal(seen.kept, kept);
	assert_int_equal(seen.hidden, kept);
	kvfs_close(store);
}

/* In a record, in buffers, in hidden chunks: as a new key, and over a value. */
static void a_whole_value_comes_back(void **state)
{
	(void)state;
	static const size_t sizes[] = {1, 100, 5000, CHUNK, 3 * CHUNK + 10, 50 * CHUNK, 300 * CHUNK + 9};
	struct kvfs_store *store = open_store();
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct kvfs_kept k;
		struct kvfs_stat st;
		uint64_t id = keep(store, new_key(store, "k", sizes[i]), SIGKILL);
		assert_count(kvfs_exists(store, "k"), 0);
		assert_count(kvfs_kept(store, &k, 1), 1);
		assert_true(k.id == id && k.size == sizes[i] && k.whole && k.reason == SIGKILL && k.time_ns > 0);
		assert_true(k.stored >= k.size && k.stored < k.size + CHUNK);
		assert_string_equal(k.key, "k");
		assert_ok(kvfs_recover(store, id, NULL));
		assert_value(store, "k", data, sizes[i]);
		assert_ok(kvfs_stat(store, "k", &st));
		assert_true((st.mode & 07777) == 0640 && st.uid == 7 && st.gid == 8);
		assert_count(kvfs_kept(store, NULL, 0), 0);
		assert_err(kvfs_recover(store, id, NULL), -ENOENT);

		struct kvfs_session *s = on_key(store, "k", true);
		assert_count(kvfs_session_write(s, data + 1, sizes[i], 0), sizes[i]);
		id = keep(store, s, -EIO);
		assert_value(store, "k", data, sizes[i]);
		assert_ok(kvfs_rename(store, "k", "d/moved", 0));
		assert_count(kvfs_kept(store, &k, 1), 1);
		assert_string_equal(k.key, "d/moved");
		assert_int_equal(k.reason, -EIO);
		assert_ok(kvfs_recover(store, id, NULL));
		assert_value(store, "d/moved", data + 1, sizes[i]);
		assert_ok(kvfs_del(store, "d/moved"));
		check_invariants(store, NULL);
	}
	ends_clean(store, 0);
}

static void change(struct kvfs_session *s, struct support_rng *rng)
{
	for (uint64_t n = 1 + support_below(rng, 5); n; n--) {
		size_t at = support_below(rng, 30 * CHUNK), len = 1 + support_below(rng, support_below(rng, 2) ? 100 : 10 * CHUNK);
		if (support_below(rng, 5) == 0)
			assert_ok(kvfs_session_truncate(s, 1 + at));
		else
			assert_count(kvfs_session_write(s, data + at, len, at), len);
	}
}

/* Recovered, parts make what their publication would have made in that moment. */
static void parts_are_replayed(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct support_rng rng = support_rng(1);
	char *want = malloc(50 * CHUNK);
	for (int round = 0; round < 60; round++) {
		assert_ok(kvfs_put(store, "k", data, support_below(&rng, 20 * CHUNK), NULL, NULL));
		struct kvfs_session *mine = on_key(store, "k", false), *same = on_key(store, "k", false);
		struct support_rng again = rng;
		change(mine, &rng);
		change(same, &again);
		uint64_t id = keep(store, mine, SIGTERM);
		assert_ok(kvfs_put(store, "k", data + 7, support_below(&rng, 20 * CHUNK), NULL, NULL));
		assert_true(kvfs_session_refresh(same) >= 0);
		ssize_t len = kvfs_session_read(same, want, 50 * CHUNK, 0);
		kvfs_session_close(same);
		const char *key = round % 3 ? NULL : "k";
		assert_ok(kvfs_recover(store, id, key));
		assert_value(store, "k", want, (size_t)len);
		check_invariants(store, NULL);
	}
	free(want);
	ends_clean(store, 0);
}

/* More parts than are replayed under the lock: they are merged, and the record goes with the publication of that. */
static void many_parts_are_merged(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	assert_ok(kvfs_put(store, "k", "base", 4, NULL, NULL));
	struct kvfs_session *s = on_key(store, "k", false);
	assert_count(kvfs_session_write(s, data, 300 * CHUNK, 4), 300 * CHUNK);
	uint64_t id = keep(store, s, SIGKILL);
	assert_ok(kvfs_put(store, "k", "BASE", 4, NULL, NULL));
	assert_ok(kvfs_recover(store, id, NULL));
	char *want = malloc(300 * CHUNK + 4);
	memcpy(want, "BASE", 4);
	memcpy(want + 4, data, 300 * CHUNK);
	assert_value(store, "k", want, 300 * CHUNK + 4);
	free(want);
	ends_clean(store, 0);
}

static void its_key_may_be_gone(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_kept k;
	struct kvfs_stat st;
	struct kvfs_session *s;
	assert_ok(kvfs_mkdir(store, "d", 0755));
	assert_ok(kvfs_stat(store, "d", &st));
	assert_ok(kvfs_session_create(store, st.ino, "k", 0600, (struct kvfs_cred){0, 0}, true, &s));
	assert_count(kvfs_session_write(s, "text", 4, 0), 4);
	uint64_t id = keep(store, s, SIGKILL);
	assert_ok(kvfs_rename(store, "d", "e", 0));
	assert_count(kvfs_kept(store, &k, 1), 1);
	assert_string_equal(k.key, "e/k");
	assert_ok(kvfs_del(store, "e"));
	assert_count(kvfs_kept(store, &k, 1), 1);
	assert_string_equal(k.key, "");
	assert_err(kvfs_recover(store, id, NULL), -ESTALE);
	assert_ok(kvfs_mkdir(store, "a/dir", 0755));
	assert_err(kvfs_recover(store, id, "a/dir"), -EISDIR);
	assert_err(kvfs_recover(store, id, "a//b"), -EINVAL);
	assert_count(kvfs_kept(store, &k, 1), 1);
	assert_ok(kvfs_recover(store, id, "new/k"));
	assert_value(store, "new/k", "text", 4);

	/* Parts: of a value that is gone, under a key that is not there, under one that is. */
	for (int i = 0; i < 2; i++) {
		assert_ok(kvfs_put(store, "k", "0123456789", 10, NULL, NULL));
		s = on_key(store, "k", false);
		assert_count(kvfs_session_write(s, "ab", 2, 3), 2);
		id = keep(store, s, SIGKILL);
		assert_ok(kvfs_del(store, "k"));
		assert_err(kvfs_recover(store, id, NULL), -ESTALE);
		if (i)
			assert_ok(kvfs_put(store, "x/y", "------", 6, NULL, NULL));
		assert_ok(kvfs_recover(store, id, "x/y"));
		assert_value(store, "x/y", i ? "---ab-" : "\0\0\0ab", i ? 6 : 5);
	}

	/* What was deleted before it could be kept is not kept. */
	assert_ok(kvfs_put(store, "k", "0123456789", 10, NULL, NULL));
	s = on_key(store, "k", true);
	assert_count(kvfs_session_write(s, "ab", 2, 3), 2);
	assert_ok(kvfs_del(store, "k"));
	assert_ok(kvfs_session_keep(s, SIGKILL));
	kvfs_session_close(s);
	assert_count(kvfs_kept(store, NULL, 0), 0);
	ends_clean(store, 0);
}

static void there_may_be_nothing_to_keep(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	char got[10];
	assert_ok(kvfs_put(store, "k", "old", 3, NULL, NULL));
	for (int i = 0; i < 4; i++) {
		struct kvfs_session *s = i < 2 ? on_key(store, "k", i) : new_key(store, "n", i == 3);
		if (i == 3)
			kvfs_session_orphan(s);
		assert_ok(kvfs_session_keep(s, SIGKILL));
		assert_ok(kvfs_session_publish(s)); /* an orphan by now */
		kvfs_session_close(s);
		assert_count(kvfs_kept(store, NULL, 0), 0);
	}
	/* Kept, it is an orphan without anything, and what it writes then is nobody's. */
	struct kvfs_session *s = new_key(store, "n", 40 * CHUNK);
	assert_ok(kvfs_session_keep(s, SIGKILL));
	assert_count(kvfs_session_read(s, got, 10, 0), 0);
	assert_count(kvfs_session_write(s, data + 5, 40 * CHUNK, 0), 40 * CHUNK);
	assert_ok(kvfs_session_publish(s));
	assert_ok(kvfs_session_keep(s, SIGKILL));
	kvfs_session_close(s);
	assert_value(store, "k", "old", 3);
	assert_count(kvfs_kept(store, NULL, 0), 1);
	assert_ok(kvfs_recover(store, newest_kept(store), NULL));
	assert_value(store, "n", data, 40 * CHUNK);
	ends_clean(store, 0);
}

/* ---- bounds ---- */

static void pretend(struct kvfs_store *store, uint64_t id, uint64_t stored, int64_t age_s)
{
	struct kv_edit ed;
	struct kv_kept k;
	assert_ok(kv_commit_begin(store->core, &ed));
	assert_ok(kv_kept_get(&ed.txn, id, &k));
	k.rec.stored = stored;
	k.head.since_ns -= age_s * 1000000000;
	assert_ok(kv_kept_put(&ed.txn, &k));
	assert_ok(kv_commit_end(store->core, &ed, KV_SYNC_LEVEL));
}

static bool is_kept(struct kvfs_store *store, uint64_t id)
{
	struct kv_txn txn;
	struct kv_kept k;
	assert_ok(kv_db_read(store->core->db, &txn));
	int r = kv_kept_get(&txn, id, &k);
	kv_db_read_end(&txn);
	return r == 0;
}

static void the_oldest_make_room(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	uint64_t id[KVFS_KEPT_MAX + 5];
	for (size_t i = 0; i < KVFS_KEPT_MAX + 5; i++)
		id[i] = keep(store, new_key(store, "k", 10), SIGKILL);
	assert_count(kvfs_kept(store, NULL, 0), KVFS_KEPT_MAX);
	assert_false(is_kept(store, id[4]));
	assert_true(is_kept(store, id[5]));
	for (size_t i = 5; i < KVFS_KEPT_MAX + 5; i++)
		assert_ok(kvfs_kept_drop(store, id[i]));
	assert_err(kvfs_kept_drop(store, id[5]), -ENOENT);

	for (size_t i = 0; i < 4; i++)
		id[i] = keep(store, new_key(store, "k", 10), SIGKILL);
	for (size_t i = 0; i < 4; i++)
		pretend(store, id[i], 300 << 20, i == 2);
	keep_quietly(new_key(store, "k", 10), SIGKILL);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(is_kept(store, id[i]), i != 2);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(kvfs_kept_drop(store, id[i]), i == 2 ? -ENOENT : 0);
	assert_ok(kvfs_kept_drop(store, newest_kept(store)));

	/* Too old: with the next that is kept, or when the reaper comes by. */
	for (int way = 0; way < 2; way++) {
		id[0] = keep(store, new_key(store, "k", 10), SIGKILL);
		id[1] = keep(store, new_key(store, "k", 10), SIGKILL);
		pretend(store, id[0], CHUNK, KVFS_KEPT_DAYS * 86400 + 1);
		pretend(store, id[1], CHUNK, KVFS_KEPT_DAYS * 86400 - 100);
		if (way == 0)
			keep_quietly(new_key(store, "k", 10), SIGKILL);
		else
			store->core->dead_walk = 1;
		assert_ok(kvfs_put(store, "x", "", 0, NULL, NULL));
		assert_false(is_kept(store, id[0]));
		assert_true(is_kept(store, id[1]));
	}
	ends_clean(store, 3);
}

static void more_than_the_store_keeps(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	uint64_t id = keep(store, new_key(store, "k", 10), SIGKILL);
	struct kvfs_session *s = new_key(store, "n", 2 * CHUNK);
	s->stored = KVFS_KEPT_BYTES - CHUNK;
	assert_err(kvfs_session_keep(s, SIGKILL), -ENOSPC);
	s->stored = KVFS_KEPT_BYTES + 1;
	assert_err(kvfs_session_keep(s, SIGKILL), -ENOSPC);
	s->stored = 0;
	assert_true(is_kept(store, id));
	assert_ok(kvfs_session_publish(s)); /* it has lost nothing by it */
	assert_value(store, "n", data, 2 * CHUNK);
	kvfs_session_close(s);
	ends_clean(store, 1);
}

/* ---- trouble ---- */

/* No space, early or late: the session has all it had, the store what it had, and nothing stays behind. */
static void a_full_store(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 4 << 20);
	int full = 0;
	assert_ok(kvfs_put(store, "old", data, 5000, NULL, NULL));
	for (size_t n = 20; n < 150; n += 3) {
		struct kvfs_session *s = new_key(store, "k", n > 60 ? 60 * CHUNK : n * CHUNK);
		int r = n > 60 ? (int)kvfs_session_write(s, data + 60 * CHUNK, (n - 60) * CHUNK, 60 * CHUNK) : 0;
		bool all = r >= 0;
		if (all) {
			r = kvfs_session_keep(s, SIGKILL);
			assert_true(r == 0 || r == -ENOSPC);
		}
		if (r < 0) {
			char *got = malloc(n * CHUNK);
			full++;
			assert_int_equal(kvfs_session_read(s, got, n * CHUNK, 0) > 0, 1);
			assert_memory_equal(got, data, 20 * CHUNK);
			free(got);
		}
		kvfs_session_close(s);
		assert_value(store, "old", data, 5000);
		if (r >= 0) {
			assert_ok(kvfs_recover(store, newest_kept(store), NULL));
			assert_value(store, "k", data, n * CHUNK);
			assert_ok(kvfs_del(store, "k"));
		}
		check_drained(store);
	}
	assert_true(full > 0);
	ends_clean(store, 0);
}

/* A hidden blob that its session could not retire is retired by a later commit of the same door. */
static void a_give_up_that_fails_is_made_good(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct invariants seen;
	struct kvfs_session *s[60];
	for (int i = 0; i < 60; i++) {
		s[i] = new_key(store, "k", 2 * CHUNK);
		assert_ok(kv_session_spill(s[i]));
	}
	store->core->rdonly = true; /* what keeps every commit from beginning */
	for (int i = 0; i < 60; i++)
		kvfs_session_close(s[i]);
	store->core->rdonly = false;
	check_invariants(store, &seen);
	assert_int_equal(seen.hidden, 60);
	ends_clean(store, 0);
}

static void keep_and_recover(void *path)
{
	struct kvfs_store *store = open_at(path, 1 << 30);
	struct support_rng rng = support_rng((uint64_t)getpid());
	for (;;) {
		struct kvfs_kept k[8];
		struct kvfs_session *s = support_below(&rng, 2) ? new_key(store, "n", 1 + support_below(&rng, 60 * CHUNK))
								: on_key(store, "k", false);
		change(s, &rng);
		assert_ok(kvfs_session_keep(s, SIGKILL));
		kvfs_session_close(s);
		ssize_t n = kvfs_kept(store, k, 8);
		for (ssize_t i = 0; n > 4 && i < n && i < 8; i++) {
			int r = support_below(&rng, 2) ? kvfs_recover(store, k[i].id, NULL) : kvfs_kept_drop(store, k[i].id);
			assert_true(r == 0 || r == -ENOENT); /* the other one was faster */
		}
	}
}

/* Doors are killed anywhere: a kept session is whole or not there, and outlives its door. */
static void killed_anywhere(void **state)
{
	(void)state;
	char *path = strdup(support_store_path());
	struct kvfs_store *store = open_at(path, 1 << 30);
	struct support_rng rng = support_rng(9);
	struct kvfs_kept k[32];
	assert_ok(kvfs_put(store, "k", data, 10 * CHUNK, NULL, NULL));
	for (int round = 0; round < 25; round++) {
		pid_t pid[2];
		for (int i = 0; i < 2; i++) {
			pid[i] = fork();
			assert_true(pid[i] >= 0);
			if (pid[i] == 0) {
				alarm(30);
				keep_and_recover(path);
			}
		}
		usleep((useconds_t)(5000 + support_below(&rng, 30000)));
		for (int i = 0; i < 2; i++) {
			int status;
			kill(pid[i], SIGKILL);
			assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		}
		check_invariants(store, NULL);
	}
	for (int i = 0; i < 20; i++)
		assert_ok(kvfs_put(store, "x", "", 0, NULL, NULL));
	keep_quietly(new_key(store, "n", 5), SIGKILL);
	ssize_t n = kvfs_kept(store, k, 32);
	assert_true(n > 0 && n <= 32);
	for (ssize_t i = 0; i < n; i++)
		assert_ok(kvfs_recover(store, k[i].id, NULL));
	ends_clean(store, 0);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_value_comes_back),
		cmocka_unit_test(parts_are_replayed),
		cmocka_unit_test(many_parts_are_merged),
		cmocka_unit_test(its_key_may_be_gone),
		cmocka_unit_test(there_may_be_nothing_to_keep),
		cmocka_unit_test(the_oldest_make_room),
		cmocka_unit_test(more_than_the_store_keeps),
		cmocka_unit_test(a_full_store),
		cmocka_unit_test(a_give_up_that_fails_is_made_good),
		cmocka_unit_test(killed_anywhere),
	};
	data = malloc(400 * CHUNK);
	for (size_t i = 0; i < 400 * CHUNK; i++)
		data[i] = (char)(1 + i * 2654435761u % 255 % 251);
	int failed = cmocka_run_group_tests_name("keep", tests, NULL, NULL);
	free(data);
	return failed;
}
