/* Feeds: who commits waits for those who cache, and for nobody else (contract, section 1); the changes that are told. */
#include "support.h"

#include <dlfcn.h>
#include <kvfs_ll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core.h"

/* ---- what the tests share ---- */

/* Stands before the C library's: the library's futex calls pass here. */
static unsigned futexes;
long syscall(long number, ...)
{
	long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	va_list ap;
	long a[6];

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_futex)
		__atomic_fetch_add(&futexes, 1, __ATOMIC_RELAXED);
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static const char *path;

static struct kvfs_store *open_store(void)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 1 << 30};
	struct kvfs_store *store = NULL;

	if (kvfs_open(path, &opt, &store, NULL))
		abort();
	return store;
}

static int setup(void **state)
{
	(void)state;
	path = support_store_path();
	kvfs_close(open_store()); /* made before anybody forks */
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Puts a small value; how long that took, ms. */
static int64_t put(struct kvfs_store *store, const char *key)
{
	int64_t began = now_ms();

	assert_ok(kvfs_put(store, key, key, strlen(key), NULL, NULL));
	return now_ms() - began;
}

static bool is_lagging(struct kvfs_store *store, pid_t pid)
{
	struct kvfs_door doors[8];
	ssize_t n = kvfs_doors(store, doors, 8);

	for (ssize_t i = 0; i < n && i < 8; i++)
		if (doors[i].pid == pid)
			return doors[i].lagging;
	return false;
}

/* ---- another process, which has a feed ---- */

/* What it does and did, in memory that both have. */
struct shared {
	_Atomic bool ready, quit;
	_Atomic unsigned reads, lost, changes;
	_Atomic bool caching, alone;
};

struct server {
	pid_t pid;
	struct shared *s;
};

static int count_change(void *arg, const struct kvfs_ll_change *c)
{
	struct shared *s = arg;

	(void)c;
	s->changes++;
	return 0;
}

/* A mount as far as others see it: caches while it is alone, takes delay_ms over what it reads; never answers at -1. */
static int serve(struct shared *s, int delay_ms)
{
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;

	if (kvfs_feed_open(store, &feed))
		return 1;
	s->caching = kvfs_feed_set_caching(feed, kvfs_feed_alone(feed));
	s->ready = true;
	while (!s->quit) {
		if (kvfs_feed_wait(feed, 50) != 1)
			continue;
		if (delay_ms < 0)
			continue;
		s->alone = kvfs_feed_alone(feed);
		if (s->alone != s->caching)
			s->caching = kvfs_feed_set_caching(feed, s->alone);
		s->lost += kvfs_feed_read(feed, count_change, s) == 1;
		s->reads++;
		usleep((unsigned)delay_ms * 1000);
		kvfs_feed_done(feed, kvfs_feed_sequence(feed));
	}
	kvfs_feed_close(feed);
	kvfs_close(store);
	return 0;
}

static struct server start(int delay_ms)
{
	struct server v = {.s = mmap(NULL, sizeof *v.s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)};

	assert_true(v.s != MAP_FAILED);
	v.pid = fork();
	assert_true(v.pid >= 0);
	if (v.pid == 0) {
		alarm(60);
		_exit(serve(v.s, delay_ms));
	}
	for (int i = 0; i < 5000 && !v.s->ready; i++)
		usleep(1000);
	assert_true(v.s->ready);
	return v;
}

static void stop(struct server *v)
{
	int status;

	v->s->quit = true;
	assert_int_equal(waitpid(v->pid, &status, 0), v->pid);
	assert_int_equal(status, 0);
	munmap(v->s, sizeof *v->s);
}

/* Waits until `cond` holds, 5 s at most. */
#define assert_soon(cond)                                                                                                          \
	do {                                                                                                                       \
		for (int i_ = 0; i_ < 5000 && !(cond); i_++)                                                                       \
			usleep(1000);                                                                                              \
		assert_true(cond);                                                                                                 \
	} while (0)

static int put_in_child(void *key)
{
	struct kvfs_store *store = open_store();
	int r = kvfs_put(store, key, "child", 5, NULL, NULL);

	kvfs_close(store);
	return r ? 1 : 0;
}

/* ---- waiting ---- */

static void test_no_feed_no_call(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();

	put(store, "warm");
	unsigned before = futexes;
	for (int i = 0; i < 100; i++)
		put(store, "k");
	assert_int_equal(futexes, before);
	kvfs_close(store);
}

static void test_put_waits_until_done(void **state)
{
	(void)state;
	struct server v = start(120);
	struct kvfs_store *store = open_store();

	assert_true(v.s->caching);
	assert_true(put(store, "a") >= 115);
	assert_int_equal(v.s->changes, 1);
	assert_true(put(store, "b") >= 115);
	assert_int_equal(v.s->changes, 2);
	assert_false(is_lagging(store, v.pid));
	/* what changes nothing is not waited for */
	assert_ok(kvfs_sync(store));
	stop(&v);
	unsigned before = futexes;
	put(store, "c");
	assert_int_equal(futexes, before);
	kvfs_close(store);
}

static void test_stopped_is_not_waited_for(void **state)
{
	(void)state;
	struct server v = start(0);
	struct kvfs_store *store = open_store();

	put(store, "a");
	kill(v.pid, SIGSTOP);
	assert_int_equal(waitpid(v.pid, NULL, WUNTRACED), v.pid);
	int64_t took = put(store, "b");
	assert_true(took >= 15 && took < 1000);
	assert_true(is_lagging(store, v.pid));
	int64_t began = now_ms();
	for (int i = 0; i < 20; i++)
		put(store, "c");
	assert_true(now_ms() - began < 19 * 20); /* not even looked at again */
	assert_int_equal(v.s->lost, 0);
	kill(v.pid, SIGCONT);
	assert_soon(v.s->lost == 1 && !is_lagging(store, v.pid));
	unsigned had = v.s->changes;
	put(store, "d");
	assert_int_equal(v.s->lost, 1);
	assert_int_equal(v.s->changes, had + 1);
	stop(&v);
	kvfs_close(store);
}

static void test_silent_is_given_up(void **state)
{
	(void)state;
	struct server v = start(-1);
	struct kvfs_store *store = open_store();

	int64_t took = put(store, "a");
	assert_true(took >= 1990 && took < 5000);
	assert_true(is_lagging(store, v.pid));
	assert_true(put(store, "b") < 1000);
	stop(&v);
	kvfs_close(store);
}

static void test_killed_is_not_waited_for(void **state)
{
	(void)state;
	struct server v = start(0);
	struct kvfs_store *store = open_store();

	put(store, "a");
	kill(v.pid, SIGKILL);
	assert_int_equal(waitpid(v.pid, NULL, 0), v.pid);
	assert_true(put(store, "b") < 1000);
	unsigned before = futexes;
	put(store, "c"); /* it is not even counted any more */
	assert_int_equal(futexes, before);
	munmap(v.s, sizeof *v.s);
	kvfs_close(store);
}

static void test_two_feeds(void **state)
{
	(void)state;
	struct server v = start(0);
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed, *other;

	assert_true(v.s->caching);
	assert_ok(kvfs_feed_open(store, &feed));
	assert_soon(!v.s->caching); /* the opening waited for that, but not for the server to say so here */
	assert_err(kvfs_feed_open(store, &other), -EBUSY);
	assert_false(kvfs_feed_alone(feed));
	assert_false(kvfs_feed_set_caching(feed, true));
	assert_soon(!v.s->alone);
	unsigned had = v.s->changes;
	assert_true(put(store, "a") < 1000);
	assert_soon(v.s->changes == had + 1); /* told, not waited for */
	kvfs_feed_close(feed);
	assert_soon(v.s->caching); /* told that it is alone again */
	stop(&v);

	v = start(0);
	assert_ok(kvfs_feed_open(store, &feed));
	kill(v.pid, SIGKILL);
	assert_int_equal(waitpid(v.pid, NULL, 0), v.pid);
	assert_true(kvfs_feed_alone(feed));
	assert_true(kvfs_feed_set_caching(feed, true));
	munmap(v.s, sizeof *v.s);
	kvfs_feed_close(feed);
	kvfs_close(store);
}

/* A mount that is stopped does not keep another from coming. */
static void test_second_feed_beside_a_stopped_one(void **state)
{
	(void)state;
	struct server v = start(0);
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;

	kill(v.pid, SIGSTOP);
	assert_int_equal(waitpid(v.pid, NULL, WUNTRACED), v.pid);
	int64_t began = now_ms();
	assert_ok(kvfs_feed_open(store, &feed));
	assert_true(now_ms() - began < 1000);
	kvfs_feed_close(feed);
	kill(v.pid, SIGCONT);
	assert_soon(v.s->lost == 1);
	stop(&v);
	kvfs_close(store);
}

static void test_closed_store_leaves_no_feed(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;

	assert_ok(kvfs_feed_open(store, &feed));
	assert_true(kvfs_feed_set_caching(feed, true));
	kvfs_close(store); /* the caller's bug */
	store = open_store();
	unsigned before = futexes;
	assert_true(put(store, "a") < 1000);
	assert_int_equal(futexes, before);
	kvfs_close(store);
	free(feed);
}

static int inherited(void *arg)
{
	struct kvfs_feed *feed = arg;

	if (kvfs_feed_read(feed, count_change, NULL) != -EBADFD || kvfs_feed_wait(feed, 0) != -EBADFD || kvfs_feed_alone(feed))
		return 1;
	kvfs_feed_done(feed, kvfs_feed_sequence(feed));
	kvfs_feed_wake(feed);
	kvfs_feed_close(feed);
	return 0;
}

static void test_fork(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;

	assert_ok(kvfs_feed_open(store, &feed));
	assert_child_ok(inherited, feed, 10);
	assert_true(kvfs_feed_set_caching(feed, true));
	kvfs_feed_wake(feed);
	assert_int_equal(kvfs_feed_wait(feed, 0), 1);
	assert_int_equal(kvfs_feed_wait(feed, 0), 0);
	kvfs_feed_close(feed);
	kvfs_close(store);
}

/* ---- what is told ---- */

struct told {
	size_t n;
	struct seen {
		enum kvfs_change_kind kind;
		bool own;
		uint32_t epoch;
		uint64_t sequence, ino;
		char name[64];
	} list[8192];
};
static struct told told;

static int note(void *arg, const struct kvfs_ll_change *c)
{
	struct told *t = arg;

	assert_true(t->n < 8192);
	struct seen *s = &t->list[t->n++];
	*s = (struct seen){c->kind, c->own, c->epoch, c->sequence, c->ino, ""};
	snprintf(s->name, sizeof s->name, "%s", c->name);
	return 0;
}

static void assert_seen(size_t i, enum kvfs_change_kind kind, const char *name, bool own)
{
	assert_true(i < told.n);
	assert_int_equal(told.list[i].kind, kind);
	assert_string_equal(told.list[i].name, name);
	assert_int_equal(told.list[i].own, own);
}

static void test_own(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;

	assert_ok(kvfs_feed_open(store, &feed));
	put(store, "mine");
	assert_child_ok(put_in_child, "theirs", 10);
	put(store, "mine");
	assert_int_equal(kvfs_feed_wait(feed, 1000), 1);
	told.n = 0;
	assert_ok(kvfs_feed_read(feed, note, &told));
	assert_int_equal(told.n, 3);
	assert_seen(0, KVFS_CHANGE_PUT, "mine", true);
	assert_seen(1, KVFS_CHANGE_PUT, "theirs", false);
	assert_seen(2, KVFS_CHANGE_PUT, "mine", true);
	assert_int_equal(told.list[0].epoch, 1);
	assert_int_equal(told.list[2].epoch, 2);
	assert_true(told.list[0].sequence < told.list[1].sequence && told.list[1].sequence < told.list[2].sequence);
	kvfs_feed_done(feed, kvfs_feed_sequence(feed));
	assert_ok(kvfs_feed_read(feed, note, &told));
	assert_int_equal(told.n, 3);
	kvfs_feed_close(feed);
	kvfs_close(store);
}

/* Its sequence is another door's then. */
static void test_a_failed_commit_is_not_own(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;
	struct rlimit had, tiny;
	char *data = calloc(1, 3 << 20);

	assert_ok(kvfs_feed_open(store, &feed));
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &had);
	tiny = had;
	tiny.rlim_cur = 1 << 20;
	setrlimit(RLIMIT_FSIZE, &tiny);
	assert_err(kvfs_put(store, "large", data, 3 << 20, NULL, NULL), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &had);
	assert_child_ok(put_in_child, "theirs", 10);
	told.n = 0;
	assert_ok(kvfs_feed_read(feed, note, &told));
	assert_int_equal(told.n, 1);
	assert_seen(0, KVFS_CHANGE_PUT, "theirs", false);
	free(data);
	kvfs_feed_close(feed);
	kvfs_close(store);
}

static void test_overrun(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;

	assert_ok(kvfs_feed_open(store, &feed));
	unsigned before = futexes;
	for (int i = 0; i < 1500; i++)
		put(store, "k");
	assert_true(futexes > before); /* told in time, although they are its own */
	assert_int_equal(kvfs_feed_wait(feed, 0), 1);
	told.n = 0;
	assert_ok(kvfs_feed_read(feed, note, &told));
	assert_int_equal(told.n, 1500);
	for (int i = 0; i < 2200; i++)
		put(store, "k");
	told.n = 0;
	assert_int_equal(kvfs_feed_read(feed, note, &told), 1);
	assert_int_equal(told.n, 0);
	put(store, "last");
	assert_ok(kvfs_feed_read(feed, note, &told));
	assert_int_equal(told.n, 1);
	assert_seen(0, KVFS_CHANGE_PUT, "last", true);
	kvfs_feed_close(feed);
	kvfs_close(store);
}

static void put_many(struct kvfs_store *store, unsigned first, unsigned n)
{
	struct kvfs_txn *txn;
	char key[64];

	assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
	for (unsigned i = first; i < first + n; i++) {
		snprintf(key, sizeof key, "a-name-that-makes-its-record-long-%07u", i);
		assert_ok(kvfs_txn_put(txn, key, "v", 1, NULL));
	}
	assert_ok(kvfs_txn_commit(&txn));
}

/* Every change once and in order, whichever of log and packs its record is in. */
static void test_order_over_packs(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct support_rng rng = support_rng(1);
	struct kvfs_feed *feed;
	unsigned put_so_far = 0, seen = 0;
	uint64_t last = 0;

	assert_ok(kvfs_feed_open(store, &feed));
	for (int round = 0; round < 300; round++) {
		unsigned n = support_below(&rng, 4) ? 1 : 1 + (unsigned)support_below(&rng, 200);

		put_many(store, put_so_far, n);
		put_so_far += n;
		if (support_below(&rng, 5))
			continue;
		told.n = 0;
		assert_ok(kvfs_feed_read(feed, note, &told));
		for (size_t i = 0; i < told.n; i++, seen++) {
			char key[64];

			snprintf(key, sizeof key, "a-name-that-makes-its-record-long-%07u", seen);
			assert_seen(i, KVFS_CHANGE_PUT, key, true);
			assert_true(told.list[i].sequence >= last);
			last = told.list[i].sequence;
		}
		assert_int_equal(seen, put_so_far);
	}
	assert_true(seen > 0);
	kvfs_feed_close(feed);
	kvfs_close(store);
}

static void test_observer(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_stat st;
	struct kvfs_session *s;

	told.n = 0;
	assert_ok(kvfs_ll_observe(store, note, &told));
	assert_err(kvfs_ll_observe(store, note, &told), -EBUSY);
	assert_ok(kvfs_append(store, "log", "1", 1));
	assert_ok(kvfs_append(store, "log", "2", 1));
	assert_ok(kvfs_stat(store, "log", &st));
	assert_ok(kvfs_session_open(store, st.ino, false, &s));
	assert_count(kvfs_session_append(s, "3", 1), 1);
	kvfs_session_close(s);
	put(store, "log");
	assert_ok(kvfs_link(store, "log", "log2"));
	assert_err(kvfs_del(store, "nothing"), -ENOENT);
	assert_ok(kvfs_ll_observe(store, NULL, NULL));
	put(store, "unseen");
	assert_int_equal(told.n, 5);
	assert_seen(0, KVFS_CHANGE_PUT, "log", true);
	assert_seen(1, KVFS_CHANGE_APPEND, "log", true);
	assert_seen(2, KVFS_CHANGE_APPEND, "log", true);
	assert_seen(3, KVFS_CHANGE_PUT, "log", true);
	assert_seen(4, KVFS_CHANGE_MAKE, "log2", true);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(told.list[i].epoch, i + 1);
	assert_int_equal(told.list[4].epoch, 0);
	assert_true(told.list[4].ino == st.ino);
	kvfs_close(store);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_feed_no_call),
		TEST(test_put_waits_until_done),
		TEST(test_stopped_is_not_waited_for),
		TEST(test_silent_is_given_up),
		TEST(test_killed_is_not_waited_for),
		TEST(test_two_feeds),
		TEST(test_second_feed_beside_a_stopped_one),
		TEST(test_closed_store_leaves_no_feed),
		TEST(test_fork),
		TEST(test_own),
		TEST(test_a_failed_commit_is_not_own),
		TEST(test_overrun),
		TEST(test_order_over_packs),
		TEST(test_observer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
