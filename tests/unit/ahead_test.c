/* Sessions of parts that are written ahead of their publication (lib/session_parts.c): what others publish in between, deaths at
 * each step, and what it all costs, in counts. */
#include "support.h"

#include <kvfs_ll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "inode.h"
#include "invariants.h"
#include "session.h"

#define CHUNK 32736u

static struct kvfs_store *open_at(const char *path, unsigned slice)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 4ull << 30};
	struct kvfs_store *store;
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	store->core->slice = slice;
	return store;
}

static void put(struct kvfs_store *store, size_t len, char byte)
{
	char *data = malloc(len);
	memset(data, byte, len);
	assert_ok(kvfs_put(store, "v", data, len, NULL, NULL));
	free(data);
}

static uint64_t ino_of(struct kvfs_store *store)
{
	struct kvfs_stat st;
	assert_ok(kvfs_stat(store, "v", &st));
	return st.ino;
}

static struct kvfs_session *open_session(struct kvfs_store *store)
{
	struct kvfs_session *s;
	assert_ok(kvfs_session_open(store, ino_of(store), false, &s));
	return s;
}

static void write_text(struct kvfs_session *s, const char *text, uint64_t at)
{
	assert_count(kvfs_session_write(s, text, strlen(text), at), (int64_t)strlen(text));
}

/* A byte or two of each chunk in [from, to). */
static void write_chunks(struct kvfs_session *s, const char *text, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		write_text(s, text, i * CHUNK + 100);
}

/* Another session, small enough for one transaction. */
static void change(struct kvfs_store *store, const char *text, uint64_t at)
{
	struct kvfs_session *s = open_session(store);
	write_text(s, text, at);
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
}

static void expect(struct kvfs_store *store, const char *text, uint64_t at)
{
	char got[64];
	assert_count(kvfs_get_into(store, "v", got, strlen(text), at), (int64_t)strlen(text));
	got[strlen(text)] = 0;
	assert_string_equal(got, text);
}

static uint64_t size_of(struct kvfs_store *store)
{
	struct kvfs_stat st;
	assert_ok(kvfs_stat(store, "v", &st));
	return st.size;
}

/* The value has 12 chunks of 'o' and a tail, and a session that has written in ten of them is ready to be published. */
static struct kvfs_session *ready(struct kvfs_store *store)
{
	put(store, 12 * CHUNK + 50, 'o');
	struct kvfs_session *s = open_session(store);
	write_chunks(s, "mine", 1, 11);
	assert_true(kv_session_is_large(s));
	assert_ok(kv_session_spill(s));
	assert_ok(kv_session_write_ahead(s));
	expect(store, "oooo", CHUNK + 100);
	check_invariants(store, NULL);
	return s;
}

/* Published, with what `text` says at `at` (by somebody else), and nothing left behind. */
static void finish(struct kvfs_store *store, struct kvfs_session *s, const char *text, uint64_t at)
{
	check_invariants(store, NULL);
	kvfs_session_close(s);
	expect(store, text, at);
	expect(store, "ooooooomineooo", 5 * CHUNK + 93);
	check_drained(store);
	kvfs_close(store);
}

static void disjoint_chunks_are_published_at_once(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 2);
	struct kvfs_session *s = ready(store);
	change(store, "theirs", 11 * CHUNK + 50);
	assert_ok(kvfs_append(store, "v", "added", 5));
	uint64_t before = store->core->chunks_put;
	assert_ok(kv_session_publish_value(s, false));
	assert_int_equal(store->core->chunks_put, before); /* the tail stays one */
	expect(store, "oadded", 12 * CHUNK + 49);
	finish(store, s, "theirs", 11 * CHUNK + 50);
}

static void a_chunk_that_others_changed_is_written_again(void **state)
{
	(void)state;
	for (int last = 0; last < 2; last++) {
		struct kvfs_store *store = open_at(support_store_path(), 2);
		struct kvfs_session *s = ready(store);
		change(store, "theirs", 3 * CHUNK + 95); /* the last byte is mine, too */
		expect(store, "theirs", 3 * CHUNK + 95);
		check_invariants(store, NULL);
		uint64_t before = store->core->chunks_put;
		if (!last) {
			assert_err(kv_session_publish_value(s, false), -EAGAIN);
			assert_ok(kv_session_write_ahead(s));
		}
		assert_ok(kv_session_publish_value(s, last));
		assert_int_equal(store->core->chunks_put, before + 1);
		finish(store, s, "theirmine", 3 * CHUNK + 95);
	}
}

/* What takes the reservation away: a truncation, a whole new value, another session's reserved chunks. */
static void what_is_passed_is_begun_anew(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct kvfs_store *store = open_at(support_store_path(), 2);
		struct kvfs_session *s = ready(store), *other = open_session(store);
		if (how == 0) {
			assert_ok(kvfs_session_truncate(other, 11 * CHUNK + 300));
			assert_ok(kvfs_session_publish(other));
		} else if (how == 1) {
			put(store, 13 * CHUNK, 'o');
		} else {
			write_chunks(other, "their", 0, 9);
			assert_ok(kvfs_session_publish(other));
		}
		assert_err(kv_session_publish_value(s, false), -ECANCELED);
		check_invariants(store, NULL);
		assert_ok(kvfs_session_publish(s));
		assert_int_equal(size_of(store), how == 0 ? 11 * CHUNK + 300 : how == 1 ? 13 * CHUNK : 12 * CHUNK + 50);
		kvfs_session_close(other);
		if (how == 2)
			expect(store, "miner", 2 * CHUNK + 100); /* the later one's bytes, and the other's beside them */
		expect(store, how == 2 ? "their" : "ooooo", 100);
		kvfs_session_close(s);
		expect(store, "mine", 9 * CHUNK + 100);
		check_drained(store);
		kvfs_close(store);
	}
}

/* Old versions read on through it, and space goes when they do. */
static void held_versions_stay(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 2);
	struct kvfs_value *old, *mid;
	char got[4];
	struct kvfs_session *s = ready(store);
	assert_ok(kvfs_value_open(store, ino_of(store), &old, NULL));
	change(store, "theirs", 3 * CHUNK + 95);
	assert_ok(kvfs_value_open(store, ino_of(store), &mid, NULL));
	assert_ok(kvfs_session_publish(s));
	for (int i = 0; i < 100; i++)
		assert_ok(kvfs_put(store, "other", "x", 1, NULL, NULL));
	struct invariants seen;
	check_invariants(store, &seen);
	assert_true(seen.held_garbage > 0);
	for (uint64_t i = 0; i < 12; i++) {
		assert_count(kvfs_value_read(old, got, 4, i * CHUNK + 100), 4);
		assert_memory_equal(got, "oooo", 4);
		assert_count(kvfs_value_read(mid, got, 4, i * CHUNK + 100), 4);
		assert_memory_equal(got, i == 3 ? "sooo" : "oooo", 4);
	}
	kvfs_value_close(old);
	kvfs_value_close(mid);
	finish(store, s, "theirmine", 3 * CHUNK + 95);
}

/* More reservations than an inode has room for: the session is published in another way. */
static void a_full_list_of_reservations(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 2);
	struct kvfs_session *s[KV_SKIPS_MAX + 1];
	s[0] = ready(store);
	for (int i = 1; i <= KV_SKIPS_MAX; i++) {
		s[i] = open_session(store);
		write_chunks(s[i], "mine", 1, 11);
		assert_ok(kv_session_spill(s[i]));
		assert_err(kv_session_write_ahead(s[i]), i < KV_SKIPS_MAX ? 0 : -EOVERFLOW);
	}
	check_invariants(store, NULL);
	write_text(s[KV_SKIPS_MAX], "last", 12 * CHUNK);
	assert_ok(kvfs_session_publish(s[KV_SKIPS_MAX]));
	check_invariants(store, NULL);
	for (int i = 1; i <= KV_SKIPS_MAX; i++)
		kvfs_session_close(s[i]);
	assert_ok(kvfs_session_publish(s[0]));
	finish(store, s[0], "last", 12 * CHUNK);
}

/* A sparse value without any chunk; what is written makes it dense or does not. */
static void holes_become_chunks(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 2);
	put(store, 0, 0);
	struct kvfs_session *s = open_session(store);
	uint64_t size = 300000ull * CHUNK;
	assert_ok(kvfs_session_truncate(s, size));
	assert_ok(kvfs_session_publish(s));
	uint64_t before = store->core->chunks_put;
	for (uint64_t i = 0; i < 10; i++)
		write_text(s, "mine", i * 30000 * CHUNK + 100);
	assert_ok(kvfs_session_publish(s));
	assert_int_equal(store->core->chunks_put - before, 20);
	for (uint64_t i = 0; i < 10; i++)
		expect(store, "mine", i * 30000 * CHUNK + 100);
	char *hole = calloc(1, CHUNK), *got = malloc(CHUNK);
	assert_count(kvfs_get_into(store, "v", got, CHUNK, 7 * CHUNK), CHUNK);
	assert_memory_equal(got, hole, CHUNK);
	free(hole);
	free(got);
	struct kvfs_stat st;
	assert_ok(kvfs_stat(store, "v", &st));
	assert_true(st.allocated <= 10 * CHUNK);
	kvfs_session_close(s);
	check_drained(store);
	kvfs_close(store);
}

/* ---- counts ---- */

/* No transaction of a large publication writes more than a slice, and all of them what was changed, twice, whatever the value's size. */
static void it_costs_what_was_changed(void **state)
{
	(void)state;
	for (unsigned of = 100; of <= 1600; of *= 4) {
		struct kvfs_store *store = open_at(support_store_path(), 16);
		put(store, of * CHUNK + 10, 'o');
		struct kvfs_session *s = open_session(store);
		assert_ok(kvfs_session_clear(s));
		for (unsigned i = 0; i < of; i += 10)
			write_chunks(s, "old", i, i + 10);
		assert_ok(kvfs_session_publish(s));
		uint64_t before = store->core->chunks_put;
		store->core->chunks_put_max = 0;
		for (uint64_t i = 0; i < 80; i++)
			write_text(s, "mine", i * (of / 80) * CHUNK + 50);
		assert_ok(kvfs_session_publish(s));
		assert_int_equal(store->core->chunks_put - before, 2 * 80);
		assert_true(store->core->chunks_put_max <= 16);
		kvfs_session_close(s);
		check_drained(store);
		kvfs_close(store);
	}
}

/* ---- deaths ---- */

static int die_at(void *arg)
{
	const char *path = ((const char **)arg)[0];
	int step = ((const char **)arg)[1][0] - '0';
	struct kvfs_store *store = open_at(path, 2);
	struct kvfs_session *s = open_session(store), *other = open_session(store);
	write_chunks(s, "dead", 1, 11);
	if (kv_session_spill(s) == 0 && step > 0 && kv_session_write_ahead(s) == 0 && step > 1) {
		change(store, "alive", 3 * CHUNK + 95);
		if (step > 2) {
			write_chunks(other, "alive", 0, 7);
			(void)!kvfs_session_publish(other);
		}
	}
	raise(SIGKILL);
	return 1;
}

static void the_dead_leave_nothing(void **state)
{
	(void)state;
	for (char step = '0'; step < '4'; step++) {
		const char *path = support_store_path(), *arg[] = {path, (char[]){step, 0}};
		struct kvfs_store *store = open_at(path, 2);
		put(store, 12 * CHUNK + 50, 'o');
		kvfs_close(store);
		int status = support_fork(die_at, arg, 20);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		store = open_at(path, 2);
		expect(store, step > '1' ? "alive" : "ooooo", 3 * CHUNK + 95);
		expect(store, "oooo", 9 * CHUNK + 100);
		check_invariants(store, NULL);
		/* the next one is served at once, beside what is being cleaned up */
		struct kvfs_session *s = open_session(store);
		write_chunks(s, "mine", 1, 11);
		assert_ok(kvfs_session_publish(s));
		check_invariants(store, NULL);
		kvfs_session_close(s);
		expect(store, "mineo", 9 * CHUNK + 100);
		check_drained(store);
		kvfs_close(store);
	}
}

/* ---- two processes at random ----
 *
 * Each chunk has cells of 64 bytes: those of each process, which nobody else writes, and one that every session writes in all chunks.  So a
 * reader must always see its own cells as it last wrote them, and the common ones all alike. */

#define CELLS (CHUNK / 64)
#define CHUNKS 14u
#define PROCESSES 2u

struct cells {
	uint32_t mine[CHUNKS][CELLS];
};

static uint64_t cell_at(unsigned chunk, unsigned cell)
{
	return (uint64_t)chunk * CHUNK + cell * 64;
}

static int check_cells(struct kvfs_store *store, uint64_t ino, unsigned who, const struct cells *c)
{
	static char got[CHUNKS * CHUNK];
	struct kvfs_value *v;
	uint32_t common, n;
	if (kvfs_value_open(store, ino, &v, NULL) || kvfs_value_read(v, got, sizeof got, 0) != sizeof got)
		return 2;
	kvfs_value_close(v);
	for (unsigned i = 0; i < CHUNKS; i++) {
		memcpy(&n, got + cell_at(i, 0), sizeof n);
		if (i == 0)
			common = n;
		if (n != common)
			return 3;
		for (unsigned k = 1 + who; c && k < CELLS; k += PROCESSES) {
			memcpy(&n, got + cell_at(i, k), sizeof n);
			if (n != c->mine[i][k])
				return 4;
		}
	}
	return 0;
}

static int one_session(struct kvfs_store *store, uint64_t ino, unsigned who, struct support_rng *rng, struct cells *c)
{
	struct kvfs_session *s;
	uint32_t id = (uint32_t)support_random(rng);
	bool all = support_below(rng, who ? 10 : 2) ==
		   0; /* the other process makes small changes mostly, which hit what lies ready */
	if (kvfs_session_open(store, ino, false, &s))
		return 5;
	for (unsigned i = 0; all && i < CHUNKS; i++)
		if (kvfs_session_write(s, &id, sizeof id, cell_at(i, 0)) != sizeof id)
			return 6;
	for (unsigned n = (unsigned)support_below(rng, who ? 3 : 30); n > 0; n--) {
		unsigned i = (unsigned)support_below(rng, CHUNKS),
			 k = 1 + who + PROCESSES * (unsigned)support_below(rng, CELLS / PROCESSES - 2);
		c->mine[i][k] = (uint32_t)support_random(rng);
		if (kvfs_session_write(s, &c->mine[i][k], 4, cell_at(i, k)) != 4)
			return 6;
	}
	int r = kvfs_session_publish(s);
	kvfs_session_close(s);
	if (r)
		fprintf(stderr, "publish: %d\n", r);
	return r ? 7 : 0;
}

struct worker {
	const char *path;
	uint64_t seed;
	unsigned who, rounds;
};

static int work(void *arg)
{
	const struct worker *w = arg;
	static struct cells c;
	struct kvfs_store *store = open_at(w->path, 3);
	struct support_rng rng = {w->seed};
	uint64_t ino = ino_of(store);
	int r = 0;
	for (unsigned i = 0; r == 0 && i < w->rounds; i++) {
		r = one_session(store, ino, w->who, &rng, &c);
		if (r == 0)
			r = check_cells(store, ino, w->who, &c);
	}
	kvfs_close(store);
	return r;
}

static pid_t start(struct worker *w)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(60);
		_exit(work(w));
	}
	assert_true(pid > 0);
	return pid;
}

static void two_processes(void **state)
{
	(void)state;
	const char *path = support_store_path();
	struct support_rng rng = support_rng(1);
	struct kvfs_store *store = open_at(path, 3);
	put(store, CHUNKS * CHUNK, 0);
	kvfs_close(store); /* before forking */
	pid_t pid[PROCESSES];
	for (unsigned i = 0; i < PROCESSES; i++) {
		struct worker w = {path, support_random(&rng), i, i ? 1000 : 250};
		pid[i] = start(&w);
	}
	for (unsigned i = 0; i < PROCESSES; i++) {
		int status;
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	store = open_at(path, 3);
	check_invariants(store, NULL);
	check_drained(store);
	kvfs_close(store);
}

/* The same, killed again and again: values are whole, and nothing is left of the dead. */
static void processes_that_are_killed(void **state)
{
	(void)state;
	const char *path = support_store_path();
	struct support_rng rng = support_rng(2);
	struct kvfs_store *store = open_at(path, 3);
	put(store, CHUNKS * CHUNK, 0);
	kvfs_close(store);
	for (unsigned round = 0; round < 12; round++) {
		pid_t pid[PROCESSES];
		for (unsigned i = 0; i < PROCESSES; i++) {
			struct worker w = {path, support_random(&rng), i, UINT32_MAX};
			pid[i] = start(&w);
		}
		usleep(20000 + (useconds_t)support_below(&rng, 100000));
		for (unsigned i = 0; i < PROCESSES; i++)
			kill(pid[i], SIGKILL);
		for (unsigned i = 0; i < PROCESSES; i++)
			assert_int_equal(waitpid(pid[i], NULL, 0), pid[i]);
		store = open_at(path, 3);
		check_invariants(store, NULL);
		assert_int_equal(check_cells(store, ino_of(store), 0, NULL), 0);
		if (round % 4 == 3)
			check_drained(store);
		kvfs_close(store);
	}
}

/* Kept, it has nothing ahead: recovered, it does what it would have done. */
static void it_is_kept_without_what_it_wrote_ahead(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 2);
	struct kvfs_session *s = ready(store);
	struct kvfs_kept kept;
	assert_ok(kvfs_session_keep(s, SIGTERM));
	check_invariants(store, NULL);
	expect(store, "oooo", CHUNK + 100);
	assert_count(kvfs_kept(store, &kept, 1), 1);
	change(store, "theirs", 11 * CHUNK + 50);
	assert_ok(kvfs_recover(store, kept.id, NULL));
	assert_count(kvfs_kept(store, NULL, 0), 0);
	finish(store, s, "theirs", 11 * CHUNK + 50);
}

/* Closed while no commit can begin, it leaves its blob and what it wrote ahead, which the next commit finds. */
static void both_are_freed_after_a_close_that_failed(void **state)
{
	(void)state;
	struct kvfs_store *store = open_at(support_store_path(), 2);
	struct kvfs_session *s = ready(store);
	store->core->rdonly = true;
	kvfs_session_close(s);
	store->core->rdonly = false;
	check_invariants(store, NULL);
	change(store, "theirs", 3 * CHUNK);
	check_invariants(store, NULL);
	expect(store, "theirs", 3 * CHUNK);
	expect(store, "oooo", CHUNK + 100);
	check_drained(store);
	kvfs_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disjoint_chunks_are_published_at_once),
		cmocka_unit_test(a_chunk_that_others_changed_is_written_again),
		cmocka_unit_test(what_is_passed_is_begun_anew),
		cmocka_unit_test(held_versions_stay),
		cmocka_unit_test(a_full_list_of_reservations),
		cmocka_unit_test(holes_become_chunks),
		cmocka_unit_test(it_costs_what_was_changed),
		cmocka_unit_test(the_dead_leave_nothing),
		cmocka_unit_test(two_processes),
		cmocka_unit_test(processes_that_are_killed),
		cmocka_unit_test(it_is_kept_without_what_it_wrote_ahead),
		cmocka_unit_test(both_are_freed_after_a_close_that_failed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
