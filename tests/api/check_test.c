/* kvfs_check() from outside: a store that is used as it should be is whole, at any moment, whoever writes; one with a rotted bit is not. */
#include "api.h"

enum { KEYS = 40, WRITERS = 2 };

static void print(void *arg, const struct kvfs_finding *f)
{
	(void)arg;
	fprintf(stderr, "found: %s: %s\n", f->key ? f->key : "", f->text);
}

static int findings(const char *path, struct kvfs_check_result *ret)
{
	struct kvfs_check_options opt = {.size = sizeof(opt), .flags = KVFS_CHECK_DATA, .finding = print};
	struct kvfs_error err;
	int rc = kvfs_check(path, &opt, ret, &err);

	if (rc < 0) {
		fprintf(stderr, "check: %s\n", err.text);
		return rc;
	}
	return (int)(ret->lost + ret->wrong + ret->space);
}

/* ---- somebody who does all kinds of things ---- */

static const char *some_key(struct support_rng *rng, char *buf)
{
	static const char *const dirs[] = {"", "a/", "a/b/", "c/", "c/d/e/"};

	sprintf(buf, "%sk%u", dirs[support_below(rng, 5)], (unsigned)support_below(rng, KEYS / 5));
	return buf;
}

static void write_parts(struct kvfs_store *store, struct support_rng *rng, const char *key, const char *data, size_t cap)
{
	struct kvfs_stream *st;
	unsigned flags = KVFS_STREAM_WRITE | KVFS_STREAM_CREATE;

	if (kvfs_stream_open(store, key, flags, 0644, &st))
		return;
	for (unsigned i = 0; i < 5; i++)
		if (kvfs_stream_write(st, data, support_below(rng, cap), support_below(rng, 2000000)) < 0)
			break;
	if (support_below(rng, 3) == 0 && kvfs_stream_truncate(st, support_below(rng, 1000000)) < 0) {
		/* as it comes */
	}
	if (support_below(rng, 10) == 0)
		kvfs_stream_abort(st);
	else
		(void)!kvfs_stream_close(st);
}

/* What fails, fails: keys are in one another's way. */
static int step(struct kvfs_store *store, struct support_rng *rng, const char *data)
{
	char a[40], b[40];
	uint64_t count;

	some_key(rng, a);
	some_key(rng, b);
	switch (support_below(rng, 12)) {
	case 0:
	case 1:
		return kvfs_put(store, a, data, support_below(rng, 6000), NULL, NULL);
	case 2:
		return kvfs_put(store, a, data, support_below(rng, 300000), NULL, NULL);
	case 3:
		return kvfs_append(store, a, data, support_below(rng, 50000));
	case 4:
	case 5:
		write_parts(store, rng, a, data, 100000);
		return 0;
	case 6:
		return kvfs_rename(store, a, b, support_below(rng, 4) ? 0 : KVFS_RENAME_EXCHANGE);
	case 7:
		return kvfs_link(store, a, b);
	case 8:
		return kvfs_del(store, a);
	case 9:
		return support_below(rng, 8) ? kvfs_symlink(store, b, a) : kvfs_del_tree(store, "c", &count);
	case 10:
		return kvfs_setxattr(store, a, support_below(rng, 2) ? "user.kvfs.publish" : "user.x", "close", 5, 0);
	default:
		return kvfs_mkdir(store, a, 0755);
	}
}

struct writer {
	const char *path;
	uint64_t number, steps;
};

static int write_on(void *arg)
{
	struct writer *w = arg;
	struct support_rng rng = support_rng(w->number);
	char *data = api_bytes(300000, w->number);
	struct kvfs_store *store;

	CHECK(api_open_as(w->path, 0, KVFS_NONE, &store) == 0);
	for (uint64_t i = 0; i < w->steps; i++) {
		int rc = step(store, &rng, data);
		CHECK(rc != -EUCLEAN && rc != -EIO);
	}
	free(data);
	kvfs_close(store);
	return 0;
}

static void test_while_others_write(void **state)
{
	struct api *t = *state;
	struct writer writers[WRITERS];
	struct kvfs_check_result seen;
	pid_t pids[WRITERS];

	kvfs_close(t->store);
	t->store = NULL;
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){t->path, i + 1, api_times(8000)};
		pids[i] = api_fork(write_on, &writers[i], 100);
	}
	for (unsigned rounds = 0; rounds < 30; rounds++)
		assert_count(findings(t->path, &seen), 0);
	for (unsigned i = 0; i < WRITERS; i++)
		assert_child(pids[i]);
	assert_count(findings(t->path, &seen), 0);
	assert_true(seen.sequence > 1000 / (api_is_slow() ? 10 : 1));
	assert_true(seen.values > 0 && seen.directories > 0);
}

/* In the process that writes, with sessions under way and old values held. */
static void test_own_store(void **state)
{
	struct api *t = *state;
	struct kvfs_stream *held, *parts, *whole;
	struct kvfs_check_result seen;
	char *data = api_bytes(4000000, 1);

	assert_ok(kvfs_put(t->store, "old", data, 400000, NULL, NULL));
	assert_ok(kvfs_stream_open(t->store, "old", KVFS_STREAM_READ, 0, &held));
	assert_ok(kvfs_put(t->store, "old", data, 300000, NULL, NULL));
	assert_ok(kvfs_stream_open(t->store, "old", KVFS_STREAM_WRITE, 0, &parts));
	assert_count(kvfs_stream_write(parts, data, 100000, 150000), 100000);
	assert_ok(kvfs_stream_open(t->store, "new", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE, 0644, &whole));
	for (uint64_t at = 0; at < 40000000; at += 4000000)
		assert_count(kvfs_stream_write(whole, data, 4000000, at), 4000000);
	assert_count(findings(t->path, &seen), 0);
	assert_true(seen.sessions > 0 && seen.garbage > 0);
	assert_ok(kvfs_stream_close(parts));
	assert_count(findings(t->path, &seen), 0);
	assert_ok(kvfs_stream_close(whole));
	assert_count(findings(t->path, &seen), 0);
	kvfs_stream_abort(held);
	free(data);
}

static int stop_at_once(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	assert_true(done <= total);
	return -ECANCELED;
}

static void test_progress(void **state)
{
	struct api *t = *state;
	struct kvfs_check_options opt = {.size = sizeof(opt), .flags = KVFS_CHECK_DATA, .progress = stop_at_once};
	struct kvfs_check_result seen;
	char *data = api_bytes(3 << 20, 1), key[20];

	for (int i = 0; i < 4; i++) {
		sprintf(key, "k%d", i);
		assert_ok(kvfs_put(t->store, key, data, 3 << 20, NULL, NULL));
	}
	assert_err(kvfs_check(t->path, &opt, &seen, NULL), -ECANCELED);
	opt.progress = NULL;
	opt.flags = 1u << 20;
	assert_err(kvfs_check(t->path, &opt, &seen, NULL), -EINVAL);
	free(data);
}

static void test_no_store(void **state)
{
	struct api *t = *state;
	struct kvfs_check_result seen;
	struct kvfs_error err;
	char path[200];
	FILE *f;

	assert_err(kvfs_check(t->dir, NULL, &seen, &err), -ENOENT);
	snprintf(path, sizeof(path), "%s/data.mdb", t->dir);
	f = fopen(path, "w");
	for (int i = 0; i < 10000; i++)
		fputs("no store ", f);
	fclose(f);
	assert_err(kvfs_check(t->dir, NULL, &seen, &err), -EMEDIUMTYPE);
	assert_err(kvfs_check("/nowhere/at/all", NULL, &seen, &err), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_while_others_write), API_TEST(test_own_store), API_TEST(test_progress), API_TEST_DIR(test_no_store)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
