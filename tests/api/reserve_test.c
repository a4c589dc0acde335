/* O_EXCL reserves a name at the open, through every door (contract, section 3). */
#include "api.h"

#include <kvfs_ll.h>

static const struct kvfs_cred me = {1000, 1001};
static const uint64_t root = KVFS_ROOT_INO;

static int create(struct kvfs_store *s, const char *name, bool excl, struct kvfs_session **ret)
{
	return kvfs_session_create(s, root, name, 0640, me, excl, ret);
}

static uint64_t ino_of(struct kvfs_store *s, const char *key)
{
	struct kvfs_stat st;

	assert_ok(kvfs_stat(s, key, &st));
	return st.ino;
}

/* Every way by which a name comes to be, tried on "k"; all must answer `want`. */
static int try_all(struct kvfs_store *s, int want)
{
	struct kvfs_session *ses;
	struct kvfs_stream *st;
	struct kvfs_txn *txn;
	struct kvfs_stat stat;

	CHECK(kvfs_put(s, "k", "x", 1, NULL, NULL) == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_append(s, "k", "x", 1) == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_incr(s, "k", 1, &(int64_t){0}) == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_put(s, "k/below", "x", 1, NULL, NULL) == want);
	CHECK(want || kvfs_del(s, "k/below") == 0);
	CHECK(kvfs_mkdir(s, "k", 0755) == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_mknod(s, "k", S_IFIFO | 0600, 0) == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_symlink(s, "target", "k") == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_link(s, "there", "k") == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_rename(s, "there", "k", 0) == want);
	CHECK(want || kvfs_rename(s, "k", "there", 0) == 0);
	CHECK(kvfs_rename(s, "dir", "k", 0) == want);
	CHECK(want || kvfs_rename(s, "k", "dir", 0) == 0);
	CHECK(kvfs_ll_mkdir(s, root, "k", 0755, me, &stat) == want);
	CHECK(want || kvfs_ll_rmdir(s, root, "k") == 0);
	CHECK(kvfs_txn_begin(s, KVFS_TXN_WRITE, &txn) == 0);
	CHECK(kvfs_txn_put(txn, "k", "x", 1, NULL) == 0);
	CHECK(kvfs_txn_commit(&txn) == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	CHECK(kvfs_stream_open(s, "k", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &st) == 0);
	CHECK(kvfs_stream_close(st) == want);
	CHECK(want || kvfs_del(s, "k") == 0);
	for (int excl = 0; excl < 2; excl++) {
		CHECK(create(s, "k", excl, &ses) == want);
		if (want == 0)
			kvfs_session_close(ses);
	}
	CHECK(create(s, "other", true, &ses) == 0);
	CHECK(kvfs_session_rename(ses, root, "k") == want);
	kvfs_session_close(ses);
	return 0;
}

struct other {
	const char *path;
	int want;
};

static int other_door(void *arg)
{
	const struct other *o = arg;
	struct kvfs_store *s;

	CHECK(api_open_as(o->path, 0, KVFS_NONE, &s) == 0);
	CHECK(try_all(s, o->want) == 0);
	kvfs_close(s);
	return 0;
}

static void check_all(struct api *a, int want)
{
	struct other o = {a->path, want};

	assert_int_equal(try_all(a->store, want), 0);
	assert_child(api_fork(other_door, &o, 60));
}

static void test_nobody_else_makes_it(void **state)
{
	struct api *a = *state;
	struct kvfs_store *s = a->store;
	struct kvfs_session *ses, *before;

	assert_ok(api_put(s, "there", "x"));
	assert_ok(kvfs_mkdir(s, "dir", 0755));
	check_all(a, 0);
	assert_ok(create(s, "k", false, &before)); /* was before: its publication is what fails */
	assert_ok(create(s, "k", true, &ses));
	check_all(a, -EEXIST);
	assert_err(kvfs_session_publish(before), -EEXIST);
	assert_count(kvfs_session_append(before, "x", 1), -EEXIST);
	assert_ok(api_put(s, "d/k", "another directory's"));
	assert_absent(s, "k");

	/* The holder's own publication passes, and ends it. */
	assert_count(kvfs_session_write(ses, "mine", 4, 0), 4);
	assert_ok(kvfs_session_publish(ses));
	assert_text(s, "k", "mine");
	assert_ok(kvfs_del(s, "k"));
	check_all(a, 0);
	kvfs_session_close(ses);
	assert_ok(kvfs_session_publish(before));
	assert_ok(kvfs_del(s, "k"));
	kvfs_session_close(before);

	/* So do an append, a rename, the end of its key, a close. */
	for (int way = 0; way < 4; way++) {
		assert_ok(create(s, "k", true, &ses));
		assert_err(api_put(s, "k", "x"), -EEXIST);
		if (way == 0) {
			assert_count(kvfs_session_append(ses, "x", 1), 1);
			assert_ok(kvfs_del(s, "k"));
		} else if (way == 1) {
			assert_ok(kvfs_session_rename(ses, root, "z"));
		} else if (way == 2) {
			kvfs_session_orphan(ses);
		} else {
			kvfs_session_close(ses);
		}
		check_all(a, 0);
		if (way < 3)
			kvfs_session_close(ses);
	}
}

/* A publication that fails leaves the name reserved. */
static void test_a_failed_publication_keeps_it(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_session *ses;
	uint64_t dir;

	assert_ok(kvfs_mkdir(s, "d", 0755));
	dir = ino_of(s, "d");
	assert_ok(kvfs_session_create(s, dir, "k", 0600, me, true, &ses));
	assert_ok(kvfs_ll_rmdir(s, root, "d"));
	assert_err(kvfs_session_publish(ses), -ENOENT);
	assert_ok(kvfs_session_rename(ses, root, "k"));
	assert_ok(kvfs_session_publish(ses));
	kvfs_session_close(ses);
	assert_err(create(s, "k", true, &ses), -EEXIST);
}

static int open_excl(struct kvfs_store *s, const char *key, struct kvfs_stream **ret)
{
	return kvfs_stream_open(s, key, KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_EXCL, 0644, ret);
}

/* A stream reserves a whole key, and its directories may come and go meanwhile. */
static void test_streams_reserve_keys(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stream *st, *other;
	struct kvfs_session *ses;
	struct kvfs_stat stat;

	assert_ok(api_put(s, "there", "x"));
	for (int turn = 0; turn < 3; turn++) {
		assert_ok(open_excl(s, turn == 1 ? "/x/y/k" : "x/y/k", &st));
		assert_absent(s, "x");
		assert_err(open_excl(s, "x/y/k", &other), -EEXIST);
		assert_err(api_put(s, "x/y/k", "x"), -EEXIST);
		assert_err(api_put(s, "x/y/k/below", "x"), -EEXIST);
		assert_absent(s, "x");
		assert_ok(api_put(s, "x/k", "x"));
		assert_ok(api_put(s, "y/k", "x"));
		assert_ok(api_put(s, "x/y/other", "x"));
		uint64_t dir = ino_of(s, "x/y");
		assert_err(api_put(s, "/x/y/k", "x"), -EEXIST);
		assert_err(open_excl(s, "/x/y/k", &other), -EEXIST);
		assert_err(kvfs_rename(s, "there", "x/y/k", 0), -EEXIST);
		assert_err(kvfs_ll_mkdir(s, dir, "k", 0755, me, &stat), -EEXIST);
		for (int excl = 0; excl < 2; excl++)
			assert_err(kvfs_session_create(s, dir, "k", 0600, me, excl, &ses), -EEXIST);
		if (turn == 1)
			assert_ok(kvfs_del_tree(s, "x", NULL));
		assert_count(kvfs_stream_write(st, "mine", 4, 0), 4);
		if (turn < 2) {
			assert_ok(kvfs_stream_publish(st));
			assert_text(s, "x/y/k", "mine");
			assert_ok(kvfs_del(s, "x/y/k"));
			assert_ok(api_put(s, "x/y/k", "free"));
			assert_ok(kvfs_stream_close(st));
		} else {
			kvfs_stream_abort(st);
			assert_ok(api_put(s, "x/y/k", "free"));
		}
		assert_err(open_excl(s, "x/y/k", &st), -EEXIST);
		assert_ok(kvfs_del_tree(s, "x", NULL));
	}
	assert_err(open_excl(s, "there/k", &st), -ENOTDIR);
}

/* It is one promise, whoever gave it. */
static void test_keys_and_names(void **state)
{
	struct api *a = *state;
	struct kvfs_store *s = a->store;
	struct kvfs_stream *st;
	struct kvfs_session *ses;

	assert_ok(api_put(s, "there", "x"));
	assert_ok(kvfs_mkdir(s, "dir", 0755));
	assert_ok(open_excl(s, "k", &st));
	check_all(a, -EEXIST);
	kvfs_stream_abort(st);
	check_all(a, 0);

	assert_ok(kvfs_session_create(s, ino_of(s, "dir"), "k", 0600, me, true, &ses));
	assert_err(open_excl(s, "dir/k", &st), -EEXIST);
	assert_ok(kvfs_rename(s, "dir", "moved", 0));
	assert_err(open_excl(s, "moved/k", &st), -EEXIST);
	assert_ok(open_excl(s, "dir/k", &st));
	/* A directory that brings the name with it is not looked at: the publication finds out. */
	kvfs_session_close(ses);
	assert_ok(api_put(s, "moved/k", "theirs"));
	assert_ok(kvfs_rename(s, "moved", "dir", 0));
	assert_err(kvfs_stream_close(st), -EEXIST);
	assert_text(s, "dir/k", "theirs");
}

static int reserve_and_wait(void *arg)
{
	struct kvfs_store *s;
	struct kvfs_session *ses;

	CHECK(api_open_as(arg, 0, KVFS_NONE, &s) == 0);
	CHECK(create(s, "k", true, &ses) == 0);
	for (;;)
		pause();
	return 0;
}

static void test_it_ends_with_its_door(void **state)
{
	struct api *a = *state;
	pid_t pid = api_fork(reserve_and_wait, a->path, 60);
	struct kvfs_session *ses;
	int r = 0;

	for (int i = 0; i < 5000 && r == 0; i++) {
		r = create(a->store, "k", false, &ses);
		if (r == 0)
			kvfs_session_close(ses);
		usleep(1000);
	}
	assert_err(r, -EEXIST);
	assert_err(api_put(a->store, "k", "x"), -EEXIST);
	kill(pid, SIGKILL);
	api_wait(pid);
	assert_ok(api_put(a->store, "k", "x"));
}

/* ---- the race ---- */

enum { RACERS = 4, NAMES = 3 };

struct racer {
	const char *path;
	unsigned turns;
	int id;
};

/* Who got the name holds it against everybody until it is published: no publication of a holder fails, and what it
 * published is what is there until it deletes it. */
static int race(void *arg)
{
	const struct racer *r = arg;
	struct support_rng rng = support_rng((uint64_t)r->id);
	struct kvfs_store *s;
	struct kvfs_session *ses;
	char name[8], text[32], got[32];
	unsigned won = 0;

	CHECK(api_open_as(r->path, 0, KVFS_NONE, &s) == 0);
	for (unsigned i = 0; i < r->turns; i++) {
		sprintf(name, "n%d", (int)support_below(&rng, NAMES));
		int len = sprintf(text, "%d %u", r->id, i);
		if (r->id == 0) { /* makes it without asking */
			struct kvfs_put_options opt = {.size = sizeof opt, .flags = KVFS_IF_ABSENT};
			int rc = kvfs_put(s, name, text, (size_t)len, &opt, NULL);
			CHECK(rc == 0 || rc == -EEXIST);
			CHECK(rc || kvfs_del(s, name) == 0);
			continue;
		}
		int rc = create(s, name, true, &ses);
		CHECK(rc == 0 || rc == -EEXIST);
		if (rc)
			continue;
		CHECK(kvfs_session_write(ses, text, (size_t)len, 0) == len);
		if (support_below(&rng, 4)) {
			won++;
			CHECK(kvfs_session_publish(ses) == 0);
			CHECK(kvfs_get_into(s, name, got, sizeof got, 0) == len && memcmp(got, text, (size_t)len) == 0);
			CHECK(kvfs_del(s, name) == 0);
		}
		kvfs_session_close(ses);
	}
	CHECK(r->id == 0 || won > 0);
	kvfs_close(s);
	return 0;
}

static void test_race(void **state)
{
	struct api *a = *state;
	struct racer r[RACERS];
	pid_t pid[RACERS];

	support_seed();
	for (int i = 0; i < RACERS; i++) {
		r[i] = (struct racer){a->path, api_times(3000), i};
		pid[i] = api_fork(race, &r[i], 120);
	}
	for (int i = 0; i < RACERS; i++)
		assert_child(pid[i]);
	assert_ok(api_put(a->store, "n0", "free"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_nobody_else_makes_it),
		API_TEST(test_a_failed_publication_keeps_it),
		API_TEST(test_streams_reserve_keys),
		API_TEST(test_keys_and_names),
		API_TEST(test_it_ends_with_its_door),
		API_TEST(test_race),
	};

	return cmocka_run_group_tests_name("reserve", tests, NULL, NULL);
}
