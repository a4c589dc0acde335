/* kvfs_backup() and kvfs_compact(): one state, whole, whoever writes or dies meanwhile. */
#include "api.h"

#include <dirent.h>

static uint64_t findings(const char *path, struct kvfs_check_result *ret)
{
	struct kvfs_check_options opt = {.size = sizeof(opt), .flags = KVFS_CHECK_DATA};
	struct kvfs_error err;

	if (kvfs_check(path, &opt, ret, &err)) {
		print_error("check: %s\n", err.text);
		return UINT64_MAX;
	}
	return ret->lost + ret->wrong + ret->space;
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* ---- two keys that are always equal ---- */

static int write_pairs(void *arg)
{
	struct kvfs_store *store;
	char *data = api_bytes(100000, 1);

	CHECK(api_open_as(arg, 0, KVFS_NONE, &store) == 0);
	for (unsigned i = 0; i < 1000000; i++) {
		struct kvfs_txn *txn;
		size_t len = i * 7919u % 100000;
		CHECK(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn) == 0);
		CHECK(kvfs_txn_put(txn, "pair/a", data, len, NULL) == 0);
		CHECK(kvfs_txn_put(txn, "pair/b", data, len, NULL) == 0);
		CHECK(kvfs_txn_commit(&txn) == 0);
	}
	return 0;
}

static void assert_pair(const char *path)
{
	struct kvfs_store *store = api_open(path, 0);
	struct kvfs_stat a, b;
	void *data;
	size_t len;

	assert_ok(kvfs_stat(store, "pair/a", &a));
	assert_ok(kvfs_stat(store, "pair/b", &b));
	assert_int_equal(a.size, b.size);
	assert_int_equal(a.version, b.version);
	assert_ok(kvfs_get(store, "pair/a", &data, &len));
	assert_value(store, "pair/b", data, len);
	free(data);
	assert_ok(api_put(store, "pair/c", "it goes on"));
	kvfs_close(store);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	api_wait(pid);
}

static void test_backup_while_others_write(void **state)
{
	struct api *t = *state;
	struct kvfs_check_result seen;
	struct kvfs_error err;
	char dest[200];

	snprintf(dest, sizeof(dest), "%s/copy", t->dir);
	assert_ok(api_put(t->store, "pair/a", ""));
	pid_t pid = api_fork(write_pairs, t->path, 60);
	while (kvfs_exists(t->store, "pair/b") != 1)
		;
	for (unsigned i = 0; i < api_times(20); i++) {
		int rc = kvfs_backup(t->store, dest, KVFS_BACKUP_REPLACE, NULL, NULL, &err);
		if (rc)
			fail_msg("backup: %s", err.text);
		assert_int_equal(findings(dest, &seen), 0);
		assert_int_equal(seen.free_pages, 0);
		assert_pair(dest);
		assert_int_equal(findings(dest, &seen), 0);
	}
	end(pid);
	assert_int_equal(findings(t->path, &seen), 0);
}

/* The store that is replaced was written at `relaxed`, so it has one file more: nothing of it stays, nor comes into the next one. */
static void test_backup_over_a_relaxed_store(void **state)
{
	struct api *t = *state;
	struct kvfs_check_result seen;
	struct kvfs_store *old;
	char dest[200], temp[200], sync[220];

	snprintf(dest, sizeof dest, "%s/copy", t->dir);
	snprintf(temp, sizeof temp, "%s/.copy.backup", t->dir);
	snprintf(sync, sizeof sync, "%s/sync", dest);
	assert_ok(api_put(t->store, "who", "new"));
	for (int i = 0; i < 2; i++) {
		assert_ok(api_open_as(dest, KVFS_CREATE, KVFS_RELAXED, &old));
		assert_ok(api_put(old, "who", "old"));
		kvfs_close(old);
		assert_true(is_there(sync));
		assert_ok(kvfs_backup(t->store, dest, KVFS_BACKUP_REPLACE, NULL, NULL, NULL));
		assert_false(is_there(sync));
		assert_false(is_there(temp));
		assert_int_equal(findings(dest, &seen), 0);
	}
}

/* ---- somebody dies ---- */

static int back_up_for_ever(void *arg)
{
	char dest[200];
	struct kvfs_store *store;

	snprintf(dest, sizeof(dest), "%s.copy", (char *)arg);
	CHECK(api_open_as(arg, KVFS_RDONLY, KVFS_NONE, &store) == 0);
	for (;;)
		CHECK(kvfs_backup(store, dest, KVFS_BACKUP_REPLACE, NULL, NULL, NULL) == 0);
	return 0;
}

static void fill(struct kvfs_store *store, int keys)
{
	char key[40], *data = api_bytes(70000, 1);

	for (int i = 0; i < keys; i++) {
		sprintf(key, "some/key%d", i);
		assert_ok(kvfs_put(store, key, data, (size_t)i * 977 % 70000, NULL, NULL));
	}
	free(data);
}

static void test_backup_killed(void **state)
{
	struct api *t = *state;
	struct kvfs_check_result seen;
	struct support_rng rng = support_rng(1);
	char dest[200];

	snprintf(dest, sizeof(dest), "%s.copy", t->path);
	fill(t->store, 60);
	assert_ok(kvfs_backup(t->store, dest, 0, NULL, NULL, NULL));
	for (unsigned i = 0; i < api_times(40); i++) {
		pid_t pid = api_fork(back_up_for_ever, t->path, 60);
		usleep((useconds_t)(2000 + support_below(&rng, 20000)));
		end(pid);
		assert_int_equal(findings(dest, &seen), 0);
		assert_int_equal(seen.values, 60);
	}
	assert_ok(kvfs_backup(t->store, dest, KVFS_BACKUP_REPLACE, NULL, NULL, NULL));
	snprintf(dest, sizeof(dest), "%s/.%s.copy.backup", t->dir, strrchr(t->path, '/') + 1);
	assert_false(is_there(dest));
}

static int compact_for_ever(void *arg)
{
	for (;;)
		CHECK(kvfs_compact(arg, NULL, NULL, NULL, NULL, NULL) == 0);
	return 0;
}

static void test_compact_killed(void **state)
{
	struct api *t = *state;
	struct kvfs_check_result seen;
	struct support_rng rng = support_rng(2);

	fill(t->store, 60);
	kvfs_close(t->store);
	t->store = NULL;
	for (unsigned i = 0; i < api_times(40); i++) {
		pid_t pid = api_fork(compact_for_ever, t->path, 60);
		usleep((useconds_t)(2000 + support_below(&rng, 20000)));
		end(pid);
		assert_int_equal(findings(t->path, &seen), 0);
		assert_int_equal(seen.values, i ? 61 : 60);
		struct kvfs_store *store = api_open(t->path, 0);
		assert_ok(api_put(store, "more", "again"));
		kvfs_close(store);
	}
}

/* ---- doors that come and go ---- */

enum { COUNTS = 150 };

static int count_up(void *arg)
{
	for (unsigned i = 0; i < COUNTS; i++) {
		struct kvfs_options opt = {.size = sizeof(opt), .durability = i % 2 ? KVFS_RELAXED : KVFS_NONE};
		struct kvfs_store *store;
		struct kvfs_error err;
		int64_t n;
		int rc = kvfs_open(arg, &opt, &store, &err);
		if (rc)
			fprintf(stderr, "open: %s\n", err.text);
		CHECK(rc == 0);
		CHECK(kvfs_incr(store, "count", 1, &n) == 0);
		kvfs_close(store);
	}
	return 0;
}

static void test_compact_while_doors_come(void **state)
{
	struct api *t = *state;
	unsigned compacted = 0, busy = 0;
	pid_t pids[2];
	int status = 0;

	fill(t->store, 10);
	kvfs_close(t->store);
	t->store = NULL;
	for (int i = 0; i < 2; i++)
		pids[i] = api_fork(count_up, t->path, 100);
	while (waitpid(pids[0], &status, WNOHANG) == 0) {
		int rc = kvfs_compact(t->path, NULL, NULL, NULL, NULL, NULL);
		if (rc && rc != -EBUSY)
			assert_ok(rc);
		*(rc ? &busy : &compacted) += 1;
	}
	assert_int_equal(status, 0);
	assert_child(pids[1]);
	assert_ok(kvfs_compact(t->path, NULL, NULL, NULL, NULL, NULL));
	t->store = api_open(t->path, 0);
	assert_text(t->store, "count", "300");
	if (getenv("KVFS_VERBOSE"))
		print_message("%u compacted, %u busy\n", compacted, busy);
}

/* At `relaxed`, as mounts are: who closes such a store looks under the directory's lock whether he is the last. */
static int compact_is_refused(void *arg)
{
	CHECK(kvfs_compact(arg, NULL, NULL, NULL, NULL, NULL) == -EBUSY);
	return 0;
}

static void test_compact_beside_a_relaxed_door(void **state)
{
	struct api *t = *state;

	kvfs_close(t->store);
	assert_ok(api_open_as(t->path, 0, KVFS_RELAXED, &t->store));
	assert_ok(api_put(t->store, "a", "1"));
	assert_child(api_fork(compact_is_refused, t->path, 20));
	assert_ok(api_put(t->store, "a", "2"));
	kvfs_close(t->store);
	t->store = NULL;
	assert_ok(kvfs_compact(t->path, NULL, NULL, NULL, NULL, NULL));
	t->store = api_open(t->path, 0);
	assert_text(t->store, "a", "2");
}

static int press_stop(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	(void)done;
	(void)total;
	return kill(getpid(), SIGTSTP);
}

static int compact_and_stop(void *arg)
{
	CHECK(kvfs_compact(arg, press_stop, NULL, NULL, NULL, NULL) == 0);
	return 0;
}

static int open_once(void *arg)
{
	struct kvfs_store *store;

	CHECK(api_open_as(arg, 0, KVFS_NONE, &store) == 0);
	kvfs_close(store);
	return 0;
}

/* Who stops it from the terminal stops it when it is done: others wait for it. */
static void test_compact_stopped(void **state)
{
	struct api *t = *state;
	int status;

	fill(t->store, 60);
	kvfs_close(t->store);
	t->store = NULL;
	pid_t pid = api_fork(compact_and_stop, t->path, 60);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_child(api_fork(open_once, t->path, 20));
	if (WIFSTOPPED(status)) { /* not where nobody could wake it up */
		kill(pid, SIGCONT);
		assert_child(pid);
	} else {
		assert_int_equal(status, 0);
	}
}

/* What has been deleted just now goes, although no commit has come by to free it. */
static void test_compact_frees_what_waits(void **state)
{
	struct api *t = *state;
	struct kvfs_check_result seen;
	char *data = api_bytes(4 << 20, 1);
	uint64_t after;

	assert_ok(kvfs_mkdir(t->store, "d", 0700));
	for (int i = 0; i < 12; i++)
		assert_ok(kvfs_put(t->store, (char[]){'d', '/', (char)('a' + i), 0}, data, 4 << 20, NULL, NULL));
	free(data);
	assert_ok(kvfs_del_tree(t->store, "d", NULL));
	kvfs_close(t->store);
	t->store = NULL;
	assert_ok(kvfs_compact(t->path, NULL, NULL, NULL, &after, NULL));
	assert_true(after < 1 << 20);
	assert_int_equal(findings(t->path, &seen), 0);
	assert_int_equal(seen.chunks, 0);
}

/* ---- refusals ---- */

static int stop(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	assert_true(done <= total);
	return -ECANCELED;
}

static void test_refusals(void **state)
{
	struct api *t = *state;
	struct kvfs_error err;
	struct kvfs_check_result seen;
	uint64_t before, after;
	char dest[200], temp[200], *data = api_bytes(8 << 20, 1);

	snprintf(dest, sizeof(dest), "%s/copy", t->dir);
	snprintf(temp, sizeof(temp), "%s/.copy.backup", t->dir);
	for (int i = 0; i < 4; i++)
		assert_ok(kvfs_put(t->store, i % 2 ? "a" : "b", data, 8 << 20, NULL, NULL));
	free(data);
	assert_err(kvfs_backup(t->store, dest, 0, stop, NULL, &err), -ECANCELED);
	assert_false(is_there(dest));
	assert_false(is_there(temp));
	assert_err(kvfs_backup(t->store, dest, 1u << 20, NULL, NULL, &err), -EINVAL);
	assert_err(kvfs_backup(t->store, "", 0, NULL, NULL, &err), -EINVAL);
	assert_err(kvfs_compact(t->path, NULL, NULL, NULL, NULL, &err), -EBUSY);
	kvfs_close(t->store);
	t->store = NULL;
	assert_err(kvfs_compact(t->path, stop, NULL, NULL, NULL, &err), -ECANCELED);
	assert_int_equal(findings(t->path, &seen), 0);
	assert_ok(kvfs_compact(t->path, NULL, NULL, &before, &after, &err));
	assert_true(after < before);
	assert_int_equal(findings(t->path, &seen), 0);
	assert_err(kvfs_compact(t->dir, NULL, NULL, NULL, NULL, &err), -ENOENT);
}

/* The directory of a store that nobody has open, copied by any means, is a store. */
static void test_plain_copy(void **state)
{
	struct api *t = *state;
	struct kvfs_check_result seen;
	char dest[200];

	snprintf(dest, sizeof(dest), "%s/copy", t->dir);
	fill(t->store, 60);
	kvfs_close(t->store);
	t->store = NULL;
	char *argv[] = {"/bin/cp", "-a", t->path, dest, NULL};
	assert_int_equal(support_exec(argv, 60, NULL), 0);
	assert_int_equal(findings(dest, &seen), 0);
	struct kvfs_store *a = api_open(t->path, 0), *b = api_open(dest, 0);
	assert_ok(api_put(a, "who", "a"));
	assert_ok(api_put(b, "who", "b"));
	assert_text(a, "who", "a");
	assert_text(b, "who", "b");
	kvfs_close(a);
	kvfs_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {API_TEST(test_backup_while_others_write), API_TEST(test_backup_over_a_relaxed_store),
		API_TEST(test_backup_killed), API_TEST(test_compact_killed), API_TEST(test_compact_while_doors_come),
		API_TEST(test_compact_beside_a_relaxed_door), API_TEST(test_compact_frees_what_waits),
		API_TEST(test_compact_stopped), API_TEST(test_refusals), API_TEST(test_plain_copy)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
