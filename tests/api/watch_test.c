/* Watches: every change once, in order, with whole keys, and a descriptor that tells of it (contract, section 1). */
#include "api.h"

#include <kvfs_ll.h>
#include <poll.h>

static struct kvfs_watch *watch(struct api *a, const char *dir, unsigned flags)
{
	struct kvfs_watch *w = NULL;

	assert_ok(kvfs_watch_open(a->store, dir, flags, 0, &w));
	return w;
}

static bool readable(struct kvfs_watch *w, int ms)
{
	struct pollfd p = {.fd = kvfs_watch_fd(w), .events = POLLIN};

	return poll(&p, 1, ms) == 1;
}

static void see(struct kvfs_watch *w, enum kvfs_change_kind kind, const char *key, const char *target, int line)
{
	struct kvfs_event e;

	support_check_err(kvfs_watch_next(w, &e), 1, key, __FILE__, line);
	if (strcmp(e.key, key) != 0 || e.kind != kind || !target != !e.target || (target && strcmp(target, e.target) != 0))
		fail_msg("line %d: saw %d '%s' '%s', not %d '%s'", line, e.kind, e.key, e.target ? e.target : "", kind, key);
}
#define assert_event(w, kind, key) see(w, KVFS_CHANGE_##kind, key, NULL, __LINE__)
#define assert_rename(w, key, target) see(w, KVFS_CHANGE_RENAME_FROM, key, target, __LINE__)

static void assert_nothing(struct kvfs_watch *w)
{
	struct kvfs_event e;
	int r = kvfs_watch_next(w, &e);

	if (r == 1)
		fail_msg("saw %d '%s'", e.kind, e.key);
	assert_int_equal(r, 0);
}

static void test_kinds(void **state)
{
	struct api *a = *state;
	struct kvfs_setattr mode = {.valid = KVFS_SET_MODE, .mode = 0600};
	struct kvfs_event e;
	struct kvfs_stat st;

	assert_ok(api_put(a->store, "before", "x"));
	struct kvfs_watch *w = watch(a, "", KVFS_WATCH_RECURSIVE);
	assert_nothing(w);
	assert_false(readable(w, 0));

	assert_ok(api_put(a->store, "d/k", "1"));
	assert_true(readable(w, 1000));
	assert_event(w, MKDIR, "d");
	assert_int_equal(kvfs_watch_next(w, &e), 1);
	assert_ok(kvfs_stat(a->store, "d/k", &st));
	assert_string_equal(e.key, "d/k");
	assert_int_equal(e.kind, KVFS_CHANGE_PUT);
	assert_true(e.ino == st.ino && e.sequence == st.version && e.type == S_IFREG);
	assert_true(llabs(e.time_ns / 1000000000 - time(NULL)) < 60);
	assert_nothing(w);

	assert_ok(kvfs_append(a->store, "d/k", "2", 1));
	assert_ok(kvfs_append(a->store, "d/new", "2", 1));
	assert_ok(kvfs_setattr(a->store, "d/k", &mode));
	assert_ok(kvfs_link(a->store, "d/k", "l"));
	assert_ok(kvfs_symlink(a->store, "x", "s"));
	assert_ok(kvfs_mkdir(a->store, "e", 0755));
	assert_ok(kvfs_setattr(a->store, "", &mode));
	assert_event(w, APPEND, "d/k");
	assert_event(w, PUT, "d/new");
	assert_event(w, ATTR, "d/k");
	assert_event(w, MAKE, "l");
	assert_event(w, MAKE, "s");
	assert_event(w, MKDIR, "e");
	assert_event(w, ATTR, "");
	assert_nothing(w);
	kvfs_watch_close(w);
	kvfs_watch_close(NULL);
}

static void test_renames(void **state)
{
	struct api *a = *state;

	assert_ok(api_put(a->store, "d/k", "1"));
	assert_ok(api_put(a->store, "e/k", "1"));
	struct kvfs_watch *all = watch(a, "", KVFS_WATCH_RECURSIVE), *d = watch(a, "d", 0);
	assert_ok(kvfs_rename(a->store, "d/k", "d/m", 0));
	assert_ok(kvfs_rename(a->store, "e/k", "d/k", 0));
	assert_ok(kvfs_rename(a->store, "d/m", "out", 0));
	assert_ok(api_put(a->store, "d/m", "2"));
	assert_ok(kvfs_rename(a->store, "d/m", "d/k", KVFS_RENAME_EXCHANGE));
	assert_rename(d, "d/k", "d/m");
	assert_event(d, RENAME_TO, "d/k");
	assert_event(d, RENAME_FROM, "d/m");
	assert_event(d, PUT, "d/m");
	assert_rename(d, "d/m", "d/k");
	assert_rename(d, "d/k", "d/m");
	assert_nothing(d);
	assert_rename(all, "d/k", "d/m");
	assert_rename(all, "e/k", "d/k");
	assert_event(all, DELETE, "e");
	assert_rename(all, "d/m", "out");
	assert_event(all, PUT, "d/m");
	assert_rename(all, "d/m", "d/k");
	assert_rename(all, "d/k", "d/m");
	assert_nothing(all);
	kvfs_watch_close(d);
	kvfs_watch_close(all);
}

static void test_what_is_watched(void **state)
{
	struct api *a = *state;

	assert_ok(api_put(a->store, "d/e/k", "1"));
	assert_ok(api_put(a->store, "d/k", "1"));
	struct kvfs_watch *root = watch(a, "", 0), *flat = watch(a, "/d", 0), *deep = watch(a, "d", KVFS_WATCH_RECURSIVE),
			  *key = watch(a, "d/k", 0);
	assert_ok(api_put(a->store, "d/e/k", "2"));
	assert_ok(api_put(a->store, "d/k", "2"));
	assert_ok(api_put(a->store, "dk", "2"));
	assert_ok(api_put(a->store, "d/kk", "2"));
	assert_event(root, PUT, "dk");
	assert_nothing(root);
	assert_event(flat, PUT, "d/k");
	assert_event(flat, PUT, "d/kk");
	assert_nothing(flat);
	assert_event(deep, PUT, "d/e/k");
	assert_event(deep, PUT, "d/k");
	assert_event(deep, PUT, "d/kk");
	assert_nothing(deep);
	assert_event(key, PUT, "d/k");
	assert_nothing(key);
	/* the name, whatever has it; and the names of directories that are gone by now */
	assert_ok(kvfs_del_tree(a->store, "d", NULL));
	assert_ok(api_put(a->store, "d/k", "3"));
	assert_event(key, DELETE, "d/k");
	assert_event(key, PUT, "d/k");
	assert_nothing(key);
	assert_event(deep, DELETE, "d/e/k");
	assert_event(deep, DELETE, "d/e");
	assert_event(deep, DELETE, "d/k");
	assert_event(deep, DELETE, "d/kk");
	assert_event(deep, DELETE, "d");
	assert_event(deep, MKDIR, "d");
	assert_event(deep, PUT, "d/k");
	assert_nothing(deep);
	kvfs_watch_close(root);
	kvfs_watch_close(flat);
	kvfs_watch_close(deep);
	kvfs_watch_close(key);
}

static void test_since(void **state)
{
	struct api *a = *state;
	struct kvfs_watch *w;
	struct kvfs_stat one, two;
	struct kvfs_event e;

	assert_ok(api_put(a->store, "one", "1"));
	assert_ok(api_put(a->store, "two", "2"));
	assert_ok(kvfs_stat(a->store, "one", &one));
	assert_ok(kvfs_stat(a->store, "two", &two));
	assert_ok(kvfs_watch_open(a->store, "", 0, one.version, &w));
	assert_event(w, PUT, "two");
	assert_nothing(w);
	kvfs_watch_close(w);
	assert_ok(kvfs_watch_open(a->store, "", 0, two.version, &w));
	assert_nothing(w);
	for (int i = 0; i < 2200; i++)
		assert_ok(api_put(a->store, "k", "v"));
	assert_err(kvfs_watch_next(w, &e), -EOVERFLOW);
	assert_nothing(w);
	assert_ok(api_put(a->store, "k", "v"));
	assert_event(w, PUT, "k");
	kvfs_watch_close(w);
	assert_err(kvfs_watch_open(a->store, "", 0, one.version, &w), -ESTALE);
	assert_err(kvfs_watch_open(a->store, "", 0, UINT64_MAX, &w), -ESTALE);
	assert_err(kvfs_watch_open(a->store, "nothing", 0, 0, &w), -ENOENT);
	assert_err(kvfs_watch_open(a->store, "a//b", 0, 0, &w), -EINVAL);
	assert_err(kvfs_watch_open(a->store, "", 2, 0, &w), -EINVAL);
}

static void write_by_number(struct api *a, uint64_t ino)
{
	struct kvfs_session *s;

	assert_ok(kvfs_session_open(a->store, ino, true, &s));
	assert_count(kvfs_session_write(s, "x", 1, 0), 1);
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
}

/* A value with several names is told by the one it was changed by, or by one that is watched. */
static void test_several_names(void **state)
{
	struct api *a = *state;
	struct kvfs_setattr mode = {.valid = KVFS_SET_MODE, .mode = 0600};
	struct kvfs_stat st;
	struct kvfs_stream *stream;

	assert_ok(api_put(a->store, "d/a", "1"));
	assert_ok(api_put(a->store, "d/other", "1"));
	assert_ok(kvfs_link(a->store, "d/a", "e/b"));
	assert_ok(kvfs_link(a->store, "d/a", "c"));
	assert_ok(kvfs_stat(a->store, "c", &st));
	struct kvfs_watch *all = watch(a, "", KVFS_WATCH_RECURSIVE), *d = watch(a, "d", 0), *b = watch(a, "e/b", 0);
	assert_ok(api_put(a->store, "e/b", "2"));
	assert_ok(kvfs_stream_open(a->store, "/d/a", KVFS_STREAM_WRITE, 0, &stream));
	assert_count(kvfs_stream_write(stream, "3", 1, 0), 1);
	assert_ok(kvfs_stream_close(stream));
	assert_ok(kvfs_append(a->store, "c", "4", 1));
	assert_ok(kvfs_setattr(a->store, "e/b", &mode));
	assert_event(all, PUT, "e/b");
	assert_event(all, PUT, "d/a");
	assert_event(all, APPEND, "c");
	assert_event(all, ATTR, "c");
	assert_nothing(all);
	for (int i = 0; i < 2; i++) {
		struct kvfs_watch *w = i ? b : d;
		const char *key = i ? "e/b" : "d/a";
		assert_event(w, PUT, key);
		assert_event(w, PUT, key);
		assert_event(w, APPEND, key);
		assert_event(w, ATTR, key);
		assert_nothing(w);
	}
	/* the name it was known by goes, by each of the ways */
	assert_ok(kvfs_del(a->store, "c"));
	write_by_number(a, st.ino);
	assert_event(all, DELETE, "c");
	assert_event(all, PUT, "d/a");
	assert_ok(kvfs_rename(a->store, "d/other", "d/a", 0));
	write_by_number(a, st.ino);
	assert_event(all, DELETE, "d/a");
	assert_rename(all, "d/other", "d/a");
	assert_event(all, PUT, "e/b");
	assert_ok(kvfs_rename(a->store, "e/b", "z", 0));
	write_by_number(a, st.ino);
	assert_rename(all, "e/b", "z");
	assert_event(all, DELETE, "e");
	assert_event(all, PUT, "z");
	assert_nothing(all);
	kvfs_watch_close(all);
	kvfs_watch_close(d);
	kvfs_watch_close(b);
}

/* A session knows by which of them it was opened, unless that has gone. */
static void test_the_name_of_a_session(void **state)
{
	struct api *a = *state;
	struct kvfs_stream *stream;

	assert_ok(api_put(a->store, "a", "1"));
	assert_ok(kvfs_link(a->store, "a", "b"));
	assert_ok(kvfs_link(a->store, "a", "c"));
	struct kvfs_watch *w = watch(a, "", 0);
	assert_ok(kvfs_stream_open(a->store, "a", KVFS_STREAM_WRITE, 0, &stream));
	for (int i = 0; i < 3; i++) {
		assert_count(kvfs_stream_write(stream, "3", 1, 0), 1);
		assert_ok(kvfs_stream_publish(stream));
		if (i == 0)
			assert_ok(api_put(a->store, "b", "2"));
		if (i == 1)
			assert_ok(kvfs_rename(a->store, "a", "d", 0));
	}
	assert_event(w, PUT, "a");
	assert_event(w, PUT, "b");
	assert_event(w, PUT, "a");
	assert_rename(w, "a", "d");
	assert_event(w, PUT, "d");
	assert_ok(api_put(a->store, "a", "another"));
	assert_event(w, PUT, "a");
	assert_count(kvfs_stream_write(stream, "4", 1, 0), 1);
	assert_ok(kvfs_stream_close(stream));
	assert_event(w, PUT, "d");
	assert_nothing(w);
	kvfs_watch_close(w);
}

/* More than is kept in memory at once, renames at the seams too. */
static void test_large_commits(void **state)
{
	struct api *a = *state;
	struct kvfs_txn *txn;
	char key[32], other[32];
	enum { N = 1500 };

	struct kvfs_watch *w = watch(a, "", KVFS_WATCH_RECURSIVE);
	assert_ok(kvfs_txn_begin(a->store, KVFS_TXN_WRITE, &txn));
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof key, "d/%04d", i);
		assert_ok(kvfs_txn_put(txn, key, "v", 1, NULL));
	}
	assert_ok(kvfs_txn_commit(&txn));
	assert_ok(kvfs_txn_begin(a->store, KVFS_TXN_WRITE, &txn));
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof key, "d/%04d", i);
		snprintf(other, sizeof other, "d/moved-%04d", i);
		assert_ok(kvfs_txn_rename(txn, key, other, 0));
	}
	assert_ok(kvfs_txn_commit(&txn));
	assert_ok(kvfs_del_tree(a->store, "d", NULL));
	assert_event(w, MKDIR, "d");
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof key, "d/%04d", i);
		assert_event(w, PUT, key);
	}
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof key, "d/%04d", i);
		snprintf(other, sizeof other, "d/moved-%04d", i);
		assert_rename(w, key, other);
	}
	for (int i = 0; i < N; i++) {
		snprintf(other, sizeof other, "d/moved-%04d", i);
		assert_event(w, DELETE, other);
	}
	assert_event(w, DELETE, "d");
	assert_nothing(w);
	kvfs_watch_close(w);
}

static int put_some(void *path)
{
	struct kvfs_store *store;

	CHECK(api_open_as(path, 0, KVFS_NONE, &store) == 0);
	for (int i = 0; i < 500; i++)
		CHECK(kvfs_incr(store, "n", 1, NULL) == 0);
	kvfs_close(store);
	return 0;
}

/* Nobody polls: each commit of another process is told by the descriptor, and none is missed. */
static void test_other_processes(void **state)
{
	struct api *a = *state;
	struct kvfs_watch *w = watch(a, "", 0);
	struct kvfs_event e;
	int seen = 0, r = 0;

	pid_t one = api_fork(put_some, a->path, 60), two = api_fork(put_some, a->path, 60);
	while (seen < 1000) {
		assert_true(readable(w, 20000));
		while ((r = kvfs_watch_next(w, &e)) == 1) {
			assert_string_equal(e.key, "n");
			seen++;
		}
		assert_int_equal(r, 0);
	}
	assert_child(one);
	assert_child(two);
	assert_nothing(w);
	kvfs_watch_close(w);
}

static int inherited(void *arg)
{
	struct kvfs_event e;

	CHECK(kvfs_watch_next(arg, &e) == -EBADFD);
	kvfs_watch_close(arg);
	return 0;
}

static void test_fork(void **state)
{
	struct api *a = *state;
	struct kvfs_watch *w = watch(a, "", 0);

	assert_child(api_fork(inherited, w, 20));
	assert_ok(api_put(a->store, "k", "v"));
	assert_true(readable(w, 1000));
	assert_event(w, PUT, "k");
	kvfs_watch_close(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_kinds),
		API_TEST(test_renames),
		API_TEST(test_what_is_watched),
		API_TEST(test_several_names),
		API_TEST(test_the_name_of_a_session),
		API_TEST(test_since),
		API_TEST(test_large_commits),
		API_TEST(test_other_processes),
		API_TEST(test_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
