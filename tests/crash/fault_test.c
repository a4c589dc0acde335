/* A disk that fails, one that is full, and memory that runs out: at every single call of a short scenario.  Each time there is a clean
 * error, of those that kvfs.h names; the store has the old state or the new one, and goes on, at the latest when it is opened again.
 *
 * The faults are made by the calls themselves (fault.c), one in each child, from the first call until the scenario meets none. */
#include "fault.h"
#include "verify.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "invariants.h"
#include "trace.h"

enum { LIMIT_S = 20, CALLS_MAX = 20000 };

/* What is done to a store that has a value "old" and a tree, and how it is opened. */
static const struct op scenario[] = {
	{.kind = OP_PUT, .key = "a/small", .len = 100, .seed = 1},
	{.kind = OP_PUT, .key = "old", .len = 50000, .seed = 2},
	{.kind = OP_APPEND, .key = "old", .len = 3000, .seed = 3},
	{.kind = OP_UPDATE, .key = "old", .len = 9000, .at = 33000, .seed = 4},
	{.kind = OP_REPLACE, .key = "long", .len = 700000, .seed = 5},
	{.kind = OP_RENAME, .key = "a/small", .other = "long"},
	{.kind = OP_LINK, .key = "old", .other = "b/second"},
	{.kind = OP_SETXATTR, .key = "old", .len = 1000, .seed = 6},
	{.kind = OP_TXN, .key = "t1", .other = "t2", .len = 2000, .seed = 9},
	{.kind = OP_DEL_TREE, .key = "tree"},
	{.kind = OP_DEL, .key = "old"},
	{.kind = OP_SYNC},
};

struct trial {
	enum fault kind;
	int error;
	uint64_t n;
	bool forever; /* all after it fail too */
	bool fresh; /* the store is being made */
};

struct scene {
	char path[PATH_MAX];
	struct kvfs_store *store;
	struct model *m;
	const struct trial *t;
	enum kvfs_durability level;
	bool hit;
};

static bool is_full(const struct trial *t)
{
	return t->error == ENOSPC || t->error == ENOMEM;
}

/* -EROFS: a disk that has failed once is not written to again by this process. */
static bool is_clean(const struct trial *t, int r)
{
	return r == -t->error || r == -EIO || (r == -ENOSPC && t->kind == FAULT_SHORT) ||
	       (r == -EUCLEAN && t->kind == FAULT_READ) || (r == -EROFS && !is_full(t));
}

static int open_it(struct scene *s, unsigned flags, struct kvfs_error *err)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = flags, .durability = s->level, .buffer_size = 256 << 10};
	*err = (struct kvfs_error){0};
	return kvfs_open(s->path, &opt, &s->store, err);
}

static void must_open(struct scene *s, unsigned flags)
{
	struct kvfs_error err;
	if (open_it(s, flags, &err))
		fail_msg("does not open when all is well again: %s", err.text);
}

static void prepare(struct scene *s)
{
	static const struct op before[] = {{.kind = OP_PUT, .key = "old", .len = 70000, .seed = 20},
		{.kind = OP_PUT, .key = "tree/a", .len = 10, .seed = 21},
		{.kind = OP_PUT, .key = "tree/b/c", .len = 5000, .seed = 22}};
	must_open(s, KVFS_CREATE);
	for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
		assert_ok(op_run(&before[i], &(struct doors){.store = s->store}, NULL));
		assert_ok(op_model(&before[i], s->m));
	}
	kvfs_close(s->store);
}

/* The store is what it was, or what the operation would have made of it: which is to be known by its error, unless the disk failed
 * where nobody can know. */
static void find_out(struct scene *s, const struct op *op, int r)
{
	struct model *next = model_clone(s->m);
	char why[200], other[200];
	(void)op_model(op, next);
	if (verify_equals(s->store, s->m, why)) {
		model_free(next);
		return;
	}
	if (r == -ENOSPC || r == -ENOMEM)
		fail_msg("%s failed (%s) and did something: %s", op_text(op), strerror(-r), why);
	if (!verify_equals(s->store, next, other))
		fail_msg("%s failed (%s); now %s; or %s", op_text(op), strerror(-r), why, other);
	model_free(s->m);
	s->m = next;
}

/* After a failed write of a meta page LMDB refuses all until the store is opened anew, and so may kvfs after a disk that failed. */
static bool is_dead(struct scene *s)
{
	return !is_full(s->t) || kvfs_exists(s->store, "old") == -EIO;
}

static void one(struct scene *s, const struct op *op)
{
	fault_arm(true);
	int r = op_run(op, &(struct doors){.store = s->store}, NULL);
	fault_arm(false);
	if (r == 0) {
		assert_ok(op_model(op, s->m));
		return;
	}
	if (!fault_hit())
		fail_msg("%s: %s, and nothing had failed", op_text(op), strerror(-r));
	if (!is_clean(s->t, r))
		fail_msg("%s: %s is no clean error", op_text(op), strerror(-r));
	if (is_dead(s)) {
		kvfs_close(s->store);
		must_open(s, 0);
	}
	find_out(s, op, r);
	check_invariants(s->store, NULL);
	r = op_run(op, &(struct doors){.store = s->store}, NULL); /* all is well again */
	if (r == 0)
		assert_ok(op_model(op, s->m));
	s->hit = true;
	fault_set(FAULT_NONE, 0, 0, false);
}

static void open_under_fault(struct scene *s, unsigned flags)
{
	struct kvfs_error err;
	fault_arm(true);
	int r = open_it(s, flags, &err);
	fault_arm(false);
	if (r == 0)
		return;
	if (!fault_hit() || !is_clean(s->t, r) || !*err.text || err.code != r)
		fail_msg("open: %d, '%s'", r, err.text);
	must_open(s, flags);
}

/* Exit status: 0 the fault came and all was well, 77 it never came. */
static int try(void *arg)
{
	struct scene *s = arg;
	char trace[PATH_MAX + 8];
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	s->m = model_new(true);
	snprintf(trace, sizeof trace, "%s.trace", s->path);
	if (!s->t->fresh)
		prepare(s);
	trace_begin(s->path, trace);
	fault_set(s->t->kind, s->t->n, s->t->error, s->t->forever);
	open_under_fault(s, s->t->fresh ? KVFS_CREATE : 0);
	for (size_t i = 0; !s->t->fresh && i < sizeof scenario / sizeof *scenario; i++)
		one(s, &scenario[i]);
	fault_arm(true);
	kvfs_close(s->store);
	fault_arm(false);
	s->hit |= fault_hit();
	fault_set(FAULT_NONE, 0, 0, false);
	trace_end();
	must_open(s, 0);
	char why[200];
	check_invariants(s->store, NULL);
	if (!verify_equals(s->store, s->m, why))
		fail_msg("at the end: %s", why);
	check_drained(s->store);
	kvfs_close(s->store);
	return s->hit ? 0 : 77;
}

/* ---- several threads, whose commits may share a transaction ---- */

enum { THREADS = 4, PUTS = 6 };

struct crew {
	struct scene *s;
	pthread_barrier_t *start;
	unsigned number;
	int result[PUTS];
};

static struct op put_of(unsigned thread, unsigned i)
{
	struct op op = {.kind = OP_PUT, .len = 500 + 4000 * i, .seed = 100 * thread + i};
	snprintf(op.key, sizeof op.key, "%u/%u", thread, i);
	return op;
}

static void *put_some(void *arg)
{
	struct crew *c = arg;
	pthread_barrier_wait(c->start);
	for (unsigned i = 0; i < PUTS; i++) {
		struct op op = put_of(c->number, i);
		c->result[i] = op_run(&op, &(struct doors){.store = c->s->store}, NULL);
	}
	return NULL;
}

/* Each put stands for itself: what failed did not harm its neighbours. */
static void look_at_puts(struct scene *s, const struct crew *crew)
{
	for (unsigned t = 0; t < THREADS; t++) {
		for (unsigned i = 0; i < PUTS; i++) {
			struct op op = put_of(t, i);
			int r = crew[t].result[i], there = kvfs_exists(s->store, op.key);
			if (r && (!s->hit || !is_clean(s->t, r)))
				fail_msg("%s: %s is no clean error", op_text(&op), strerror(-r));
			if (r == 0 ? there != 1 : there && r != -EIO)
				fail_msg("%s gave %d, and %s there", op_text(&op), r, there ? "is" : "is not");
			if (there)
				assert_ok(op_model(&op, s->m));
		}
	}
}

static int try_threads(void *arg)
{
	struct scene *s = arg;
	struct crew crew[THREADS];
	pthread_t thread[THREADS];
	pthread_barrier_t start;
	char trace[PATH_MAX + 8], why[200];
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	s->m = model_new(true);
	snprintf(trace, sizeof trace, "%s.trace", s->path);
	must_open(s, KVFS_CREATE);
	trace_begin(s->path, trace);
	trace_slow_flush(200);
	fault_set(s->t->kind, s->t->n, s->t->error, s->t->forever);
	pthread_barrier_init(&start, NULL, THREADS + 1);
	for (unsigned t = 0; t < THREADS; t++) {
		crew[t] = (struct crew){.s = s, .start = &start, .number = t};
		assert_int_equal(pthread_create(&thread[t], NULL, put_some, &crew[t]), 0);
	}
	fault_arm(true);
	pthread_barrier_wait(&start);
	for (unsigned t = 0; t < THREADS; t++)
		assert_int_equal(pthread_join(thread[t], NULL), 0);
	fault_arm(false);
	s->hit = fault_hit();
	kvfs_close(s->store);
	trace_end();
	must_open(s, 0);
	check_invariants(s->store, NULL);
	look_at_puts(s, crew);
	if (!verify_equals(s->store, s->m, why))
		fail_msg("%s", why);
	kvfs_close(s->store);
	return s->hit ? 0 : 77;
}

/* ---- what is lost is the end ----
 *
 * A disk that fails ends what a process may write.  Whoever opens the store then finds what was promised, and of the rest a beginning. */

enum { LINE = 24 };

static struct op step_of(unsigned i)
{
	struct op op = {.kind = i % 6 == 5 ? OP_SYNC : i % 6 == 3 ? OP_APPEND : OP_PUT, .len = 200 + i % 4 * 9000, .seed = i};
	snprintf(op.key, sizeof op.key, "k%u", i % 5);
	return op;
}

/* Goes on until something fails.  `states` gets the model after each step that was done, and after one that failed as if it had been;
 * returns how many; *ret_lowest is the newest that was promised. */
static unsigned go_on(struct scene *s, struct model **states, unsigned *ret_lowest)
{
	unsigned n = 0;
	states[n++] = model_clone(s->m);
	*ret_lowest = 0;
	for (unsigned i = 0; i < LINE; i++) {
		struct op op = step_of(i);
		fault_arm(true);
		int r = op_run(&op, &(struct doors){.store = s->store}, NULL);
		fault_arm(false);
		if (r && (!fault_hit() || !is_clean(s->t, r)))
			fail_msg("%s: %s is no clean error", op_text(&op), strerror(-r));
		assert_ok(op_model(&op, s->m));
		states[n++] = model_clone(s->m);
		if (r)
			break;
		if (op.kind == OP_SYNC || s->level == KVFS_FULL)
			*ret_lowest = n - 1;
	}
	return n;
}

static int try_line(void *arg)
{
	struct scene *s = arg;
	struct model *states[LINE + 1];
	char trace[PATH_MAX + 8], why[200];
	unsigned lowest, n;
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	s->m = model_new(true);
	snprintf(trace, sizeof trace, "%s.trace", s->path);
	must_open(s, KVFS_CREATE);
	trace_begin(s->path, trace);
	fault_set(s->t->kind, s->t->n, s->t->error, s->t->forever);
	n = go_on(s, states, &lowest);
	fault_arm(true);
	kvfs_close(s->store);
	fault_arm(false);
	s->hit = fault_hit();
	trace_end();
	must_open(s, 0);
	check_invariants(s->store, NULL);
	while (n > lowest && !verify_equals(s->store, states[n - 1], why))
		n--;
	if (n <= lowest)
		fail_msg("not one of the states since step %u: %s", lowest, why);
	kvfs_close(s->store);
	return s->hit ? 0 : 77;
}

/* ---- */

static void fail_in(int (*trial)(void *), enum kvfs_durability level, enum fault kind, int error, bool fresh, bool forever)
{
	const char *base = support_tmpdir();
	struct trial t = {.kind = kind, .error = error, .fresh = fresh, .forever = forever};
	for (t.n = 1;; t.n++) {
		struct scene *s = calloc(1, sizeof *s);
		assert_non_null(s);
		s->t = &t;
		s->level = level;
		snprintf(s->path, sizeof s->path, "%s/%llu", base, (unsigned long long)t.n);
		assert_int_equal(mkdir(s->path, 0700), 0);
		int status = support_fork(trial, s, LIMIT_S);
		support_remove(s->path);
		free(s);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			break;
		if (status)
			fail_msg("call %llu failing with %s: wait status %x", (unsigned long long)t.n, strerror(error), status);
		assert_true(t.n < CALLS_MAX);
	}
	print_message("             %llu calls\n", (unsigned long long)t.n - 1);
	assert_true(t.n > 1);
}

static void fail_everywhere(enum fault kind, int error, bool fresh, bool forever)
{
	fail_in(try, KVFS_FULL, kind, error, fresh, forever);
}

static void test_threads_on_a_full_disk(void **state)
{
	(void)state;
	fail_in(try_threads, KVFS_FULL, FAULT_WRITE, ENOSPC, true, false);
}

static void test_threads_on_a_disk_that_stays_full(void **state)
{
	(void)state;
	fail_in(try_threads, KVFS_FULL, FAULT_WRITE, ENOSPC, true, true);
}

static void test_threads_when_a_flush_fails(void **state)
{
	(void)state;
	fail_in(try_threads, KVFS_FULL, FAULT_FLUSH, EIO, true, false);
}

static void test_threads_without_memory(void **state)
{
	(void)state;
	fail_in(try_threads, KVFS_FULL, FAULT_MEMORY, ENOMEM, true, false);
}

static void line_at(enum kvfs_durability level)
{
	fail_in(try_line, level, FAULT_WRITE, ENOSPC, true, false);
	fail_in(try_line, level, FAULT_WRITE, ENOSPC, true, true);
	fail_in(try_line, level, FAULT_WRITE, EIO, true, false);
	fail_in(try_line, level, FAULT_SHORT, 0, true, false);
	fail_in(try_line, level, FAULT_FLUSH, EIO, true, false);
	fail_in(try_line, level, FAULT_FLUSH, EIO, true, true);
	fail_in(try_line, level, FAULT_MEMORY, ENOMEM, true, false);
}

static void test_what_is_lost_is_the_end(void **state)
{
	(void)state;
	line_at(KVFS_FULL);
}

static void test_relaxed_what_is_lost_is_the_end(void **state)
{
	(void)state;
	line_at(KVFS_RELAXED);
}

#define FAULT_TEST(name, kind, error, fresh, forever)                                                                              \
	static void name(void **state)                                                                                             \
	{                                                                                                                          \
		(void)state;                                                                                                       \
		fail_everywhere(kind, error, fresh, forever);                                                                      \
	}
FAULT_TEST(test_disk_full_at_a_write, FAULT_WRITE, ENOSPC, false, false)
FAULT_TEST(test_disk_full_from_a_write_on, FAULT_WRITE, ENOSPC, false, true)
FAULT_TEST(test_write_fails, FAULT_WRITE, EIO, false, false)
FAULT_TEST(test_write_is_short, FAULT_SHORT, 0, false, false)
FAULT_TEST(test_flush_fails, FAULT_FLUSH, EIO, false, false)
FAULT_TEST(test_read_fails, FAULT_READ, EIO, false, false)
FAULT_TEST(test_no_memory, FAULT_MEMORY, ENOMEM, false, false)
FAULT_TEST(test_making_a_store_on_a_full_disk, FAULT_WRITE, ENOSPC, true, false)
FAULT_TEST(test_making_a_store_on_a_failing_disk, FAULT_WRITE, EIO, true, false)
FAULT_TEST(test_making_a_store_a_flush_fails, FAULT_FLUSH, EIO, true, false)
FAULT_TEST(test_making_a_store_without_memory, FAULT_MEMORY, ENOMEM, true, false)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disk_full_at_a_write),
		cmocka_unit_test(test_disk_full_from_a_write_on),
		cmocka_unit_test(test_write_fails),
		cmocka_unit_test(test_write_is_short),
		cmocka_unit_test(test_flush_fails),
		cmocka_unit_test(test_read_fails),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_what_is_lost_is_the_end),
		cmocka_unit_test(test_relaxed_what_is_lost_is_the_end),
		cmocka_unit_test(test_threads_on_a_full_disk),
		cmocka_unit_test(test_threads_on_a_disk_that_stays_full),
		cmocka_unit_test(test_threads_when_a_flush_fails),
		cmocka_unit_test(test_threads_without_memory),
		cmocka_unit_test(test_making_a_store_on_a_full_disk),
		cmocka_unit_test(test_making_a_store_on_a_failing_disk),
		cmocka_unit_test(test_making_a_store_a_flush_fails),
		cmocka_unit_test(test_making_a_store_without_memory),
	};

	if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
