/* Kept sessions through the public interface: kept by one process, listed, recovered and dropped by others. */
#include "api.h"

#include <kvfs_ll.h>

static const struct kvfs_cred me = {1000, 1001};

struct writer {
	const char *path;
	const char *key;
	int reason;
};

/* A door that keeps what it wrote, and is killed. */
static int keep_and_die(void *arg)
{
	const struct writer *w = arg;
	struct kvfs_store *s;
	struct kvfs_session *ses;

	CHECK(api_open_as(w->path, 0, KVFS_NONE, &s) == 0);
	CHECK(kvfs_session_create(s, KVFS_ROOT_INO, w->key, 0600, me, true, &ses) == 0);
	CHECK(kvfs_session_write(ses, w->key, strlen(w->key), 0) == (ssize_t)strlen(w->key));
	CHECK(kvfs_session_keep(ses, w->reason) == 0);
	raise(SIGKILL);
	return 0;
}

static void keep(struct api *a, const char *key, int reason)
{
	struct writer w = {a->path, key, reason};
	int status = api_wait(api_fork(keep_and_die, &w, 60));

	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Its door is gone, and others commit: it stays. */
static void test_outlives_its_door(void **state)
{
	struct api *a = *state;
	struct kvfs_kept k[3];

	keep(a, "one", SIGTERM);
	keep(a, "two", -ENOSPC);
	keep(a, "three", SIGKILL);
	kvfs_close(a->store);
	a->store = api_open(a->path, 0);
	for (int i = 0; i < 100; i++)
		assert_ok(api_put(a->store, "x", "y"));
	assert_absent(a->store, "one");
	assert_count(kvfs_kept(a->store, NULL, 0), 3);
	assert_count(kvfs_kept(a->store, k, 2), 3);
	assert_string_equal(k[0].key, "one");
	assert_string_equal(k[1].key, "two");
	assert_true(k[0].reason == SIGTERM && k[1].reason == -ENOSPC);
	assert_true(k[0].id != k[1].id && k[0].time_ns <= k[1].time_ns && k[0].size == 3 && k[0].whole);

	/* The reservation of its name is over. */
	assert_ok(api_put(a->store, "one", "another's"));
	assert_ok(kvfs_recover(a->store, k[0].id, NULL));
	assert_text(a->store, "one", "one");
	assert_ok(kvfs_recover(a->store, k[1].id, "elsewhere/2"));
	assert_text(a->store, "elsewhere/2", "two");
	assert_absent(a->store, "two");
	assert_count(kvfs_kept(a->store, k, 3), 1);
	assert_ok(kvfs_kept_drop(a->store, k[0].id));
	assert_err(kvfs_kept_drop(a->store, k[0].id), -ENOENT);
	assert_err(kvfs_recover(a->store, k[0].id, NULL), -ENOENT);
	assert_count(kvfs_kept(a->store, k, 3), 0);
}

static void test_refusals(void **state)
{
	struct api *a = *state;
	struct kvfs_store *rd;
	struct kvfs_session *ses;
	struct kvfs_kept k;

	keep(a, "one", SIGTERM);
	assert_count(kvfs_kept(a->store, &k, 1), 1);
	assert_ok(api_open_as(a->path, KVFS_RDONLY, KVFS_NONE, &rd));
	assert_count(kvfs_kept(rd, &k, 1), 1);
	assert_err(kvfs_recover(rd, k.id, NULL), -EROFS);
	assert_err(kvfs_kept_drop(rd, k.id), -EROFS);
	kvfs_close(rd);
	assert_err(kvfs_recover(a->store, k.id + 1000, NULL), -ENOENT);
	assert_err(kvfs_recover(a->store, k.id, "a/../b"), -EINVAL);

	/* Another's reservation and another's directory stand in its way: it stays kept. */
	assert_ok(kvfs_session_create(a->store, KVFS_ROOT_INO, "one", 0600, me, true, &ses));
	assert_err(kvfs_recover(a->store, k.id, NULL), -EEXIST);
	kvfs_session_close(ses);
	assert_ok(kvfs_mkdir(a->store, "one", 0755));
	assert_err(kvfs_recover(a->store, k.id, NULL), -EISDIR);
	assert_ok(kvfs_del(a->store, "one"));
	assert_ok(kvfs_recover(a->store, k.id, NULL));
	assert_text(a->store, "one", "one");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_outlives_its_door),
		API_TEST(test_refusals),
	};

	return cmocka_run_group_tests_name("kept", tests, NULL, NULL);
}
