/* Single-key calls: values of every size, conditions, counters, directories that come and go. */
#include "api.h"

#include <pthread.h>

static struct kvfs_stat stat_of(struct kvfs_store *store, const char *key)
{
	struct kvfs_stat st;

	assert_ok(kvfs_stat(store, key, &st));
	return st;
}

/* ---- values ---- */

static void check_size(struct kvfs_store *store, const char *key, size_t len)
{
	void *data = api_bytes(len, len + 1);
	uint64_t version = 0;
	unsigned char part[100];
	const uint64_t ends[] = {0, len / 2, len ? len - 1 : 0, len, len + 1, UINT64_MAX};

	assert_ok(kvfs_put(store, key, data, len, NULL, &version));
	assert_value(store, key, data, len);
	struct kvfs_stat st = stat_of(store, key);
	assert_int_equal(st.size, len);
	assert_true(st.allocated <= len + 65536 * 2);
	assert_true(st.version == version && version > 0);
	for (size_t i = 0; i < 6; i++) {
		size_t want = ends[i] >= len ? 0 : len - ends[i] < sizeof(part) ? len - ends[i] : sizeof(part);
		assert_count(kvfs_get_into(store, key, part, sizeof(part), ends[i]), want);
		if (want)
			assert_memory_equal(part, (char *)data + ends[i], want);
	}
	free(data);
}

static void test_sizes(void **state)
{
	struct api *a = *state;
	struct kvfs_info info;
	size_t sizes[64], n = 0;

	assert_ok(kvfs_info(a->store, &info));
	const size_t edges[] = {0, info.inline_max, info.page_size, info.chunk_size, 2 * (size_t)info.chunk_size,
		7 * (size_t)info.chunk_size, 1 << 20};
	for (size_t i = 0; i < sizeof(edges) / sizeof(*edges); i++)
		for (int d = -2; d <= 2; d++)
			if ((long)edges[i] + d >= 0)
				sizes[n++] = edges[i] + (size_t)d;
	sizes[n++] = 5000011;
	for (size_t i = 0; i < n; i++) {
		check_size(a->store, "fresh", sizes[i]);
		assert_ok(kvfs_del(a->store, "fresh"));
	}
	/* Each kind of value replaced by each other. */
	struct support_rng rng = support_rng(1);
	for (unsigned i = 0; i < api_times(150); i++)
		check_size(a->store, "replaced", sizes[support_below(&rng, n - 1)]);
	assert_ok(kvfs_put(a->store, "null", NULL, 0, NULL, NULL));
	assert_value(a->store, "null", "", 0);
}

static void test_bytes_are_verbatim(void **state)
{
	struct api *a = *state;
	static const char odd[] = "\0a\n\0\r\n\xff\0";

	assert_ok(kvfs_put(a->store, "k", odd, sizeof(odd), NULL, NULL));
	assert_value(a->store, "k", odd, sizeof(odd));
	assert_ok(api_put(a->store, "k", "no newline"));
	assert_text(a->store, "k", "no newline");
}

static void test_absent(void **state)
{
	struct api *a = *state;
	void *data = NULL;
	size_t len = 5;
	struct kvfs_stat st;
	char buf[4];

	assert_err(kvfs_get(a->store, "no", &data, &len), -ENOENT);
	assert_err(kvfs_get(a->store, "no/such/key", &data, &len), -ENOENT);
	assert_null(data);
	assert_int_equal(len, 5);
	assert_err(kvfs_get_into(a->store, "no", buf, 4, 0), -ENOENT);
	assert_err(kvfs_stat(a->store, "no", &st), -ENOENT);
	assert_err(kvfs_del(a->store, "no"), -ENOENT);
	assert_err(kvfs_del_tree(a->store, "no", NULL), -ENOENT);
	assert_err(kvfs_rename(a->store, "no", "nowhere", 0), -ENOENT);
	assert_err(kvfs_link(a->store, "no", "nowhere"), -ENOENT);
	assert_err(kvfs_readlink(a->store, "no", buf, 4), -ENOENT);
	assert_absent(a->store, "no");
	assert_absent(a->store, "nowhere");
}

static void test_conditions(void **state)
{
	struct api *a = *state;
	struct kvfs_put_options absent = {.size = sizeof(absent), .flags = KVFS_IF_ABSENT};
	struct kvfs_put_options same = {.size = sizeof(same), .flags = KVFS_IF_VERSION};
	uint64_t v1 = 0, v2 = 0, v3 = 0;

	assert_ok(kvfs_put(a->store, "k", "1", 1, &absent, &v1));
	assert_err(kvfs_put(a->store, "k", "2", 1, &absent, &v2), -EEXIST);
	assert_int_equal(v2, 0);
	assert_ok(kvfs_mkdir(a->store, "dir", 0755));
	int rc = kvfs_put(a->store, "dir", "2", 1, &absent, &v2);
	assert_true(rc == -EEXIST || rc == -EISDIR);

	same.version = v1;
	assert_ok(kvfs_put(a->store, "k", "2", 1, &same, &v2));
	assert_true(v2 > v1);
	assert_err(kvfs_put(a->store, "k", "3", 1, &same, &v3), -ECANCELED);
	assert_text(a->store, "k", "2");
	same.version = v2;
	assert_err(kvfs_put(a->store, "other", "3", 1, &same, NULL), -ECANCELED);
	assert_err(kvfs_put(a->store, "x/y/z", "3", 1, &same, NULL), -ECANCELED);
	assert_absent(a->store, "x");

	/* A version never comes back: not with the same bytes, not with a new key of the same name. */
	assert_ok(kvfs_put(a->store, "k", "2", 1, NULL, &v3));
	assert_true(v3 > v2);
	assert_err(kvfs_put(a->store, "k", "4", 1, &same, NULL), -ECANCELED);
	assert_ok(kvfs_del(a->store, "k"));
	same.version = v3;
	assert_err(kvfs_put(a->store, "k", "4", 1, &same, NULL), -ECANCELED);
	assert_ok(kvfs_put(a->store, "k", "5", 1, &absent, &v1));
	assert_true(v1 > v3);
	same.version = 0;
	assert_err(kvfs_put(a->store, "k", "6", 1, &same, NULL), -ECANCELED);
	assert_err(kvfs_put(a->store, "never", "6", 1, &same, NULL), -ECANCELED);

	/* What is not the value does not change its version. */
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0600};
	assert_ok(kvfs_setattr(a->store, "k", &attr));
	assert_ok(kvfs_link(a->store, "k", "l"));
	assert_ok(kvfs_setxattr(a->store, "k", "user.a", "1", 1, 0));
	assert_ok(kvfs_rename(a->store, "l", "m", 0));
	assert_int_equal(stat_of(a->store, "k").version, v1);
	assert_ok(kvfs_append(a->store, "k", "x", 1));
	assert_true(stat_of(a->store, "k").version > v1);
	same.flags = 1u << 9;
	assert_err(kvfs_put(a->store, "k", "6", 1, &same, NULL), -EINVAL);
}

static void test_put_options(void **state)
{
	struct api *a = *state;
	struct kvfs_put_options opt = {.size = sizeof(opt), .mode = 0640, .mtime = {.tv_sec = 1000000000, .tv_nsec = 123456789}};
	time_t now = time(NULL);

	assert_ok(api_put(a->store, "plain", "v"));
	struct kvfs_stat st = stat_of(a->store, "plain");
	assert_int_equal(st.mode, S_IFREG | 0644);
	assert_int_equal(st.nlink, 1);
	assert_int_equal(st.uid, geteuid());
	assert_true(st.mtime.tv_sec >= now - 1 && st.mtime.tv_sec <= now + 60);
	assert_true(st.btime.tv_sec >= now - 1 && st.ctime.tv_sec >= now - 1);

	assert_ok(kvfs_put(a->store, "k", "v", 1, &opt, NULL));
	st = stat_of(a->store, "k");
	assert_int_equal(st.mode, S_IFREG | 0640);
	assert_int_equal(st.mtime.tv_sec, 1000000000);
	assert_int_equal(st.mtime.tv_nsec, 123456789);
	assert_true(st.ctime.tv_sec >= now - 1);

	/* A key that exists keeps its mode, inode and birth; the time is the publication's again. */
	struct timespec born = st.btime;
	uint64_t ino = st.ino;
	opt.mode = 0777;
	opt.mtime = (struct timespec){0};
	assert_ok(kvfs_put(a->store, "k", "w", 1, &opt, NULL));
	st = stat_of(a->store, "k");
	assert_int_equal(st.mode, S_IFREG | 0640);
	assert_true(st.mtime.tv_sec >= now - 1);
	assert_true(st.ino == ino && st.btime.tv_sec == born.tv_sec && st.btime.tv_nsec == born.tv_nsec);

	/* The number of an inode is not given again. */
	assert_ok(kvfs_del(a->store, "k"));
	assert_ok(api_put(a->store, "k", "v"));
	assert_true(stat_of(a->store, "k").ino != ino);
}

static void test_overlong_size_of_options(void **state)
{
	struct api *a = *state;
	struct {
		struct kvfs_put_options opt;
		char tail[64];
	} newer = {.opt = {.size = sizeof(newer)}};

	/* A caller built against a later header: its unknown tail may be zero, and nothing else. */
	assert_ok(kvfs_put(a->store, "k", "v", 1, &newer.opt, NULL));
	newer.tail[40] = 1;
	int rc = kvfs_put(a->store, "k", "v", 1, &newer.opt, NULL);
	assert_true(rc == 0 || rc == -E2BIG || rc == -EINVAL);
}

/* ---- counters and appends ---- */

static void test_incr(void **state)
{
	struct api *a = *state;
	int64_t sum = 77;
	static const char *const bad[] = {"", "x", "1x", "x1", "1 ", " ", "0x10", "1.0", "1e3", "--1", "-", "+", "1\n\n", "\n",
		"1\n2", "1 2", "9223372036854775808", "-9223372036854775809", "99999999999999999999999999", "12\r\n"};

	assert_ok(kvfs_incr(a->store, "n", 5, &sum));
	assert_int_equal(sum, 5);
	assert_text(a->store, "n", "5");
	assert_ok(kvfs_incr(a->store, "n", -12, &sum));
	assert_int_equal(sum, -7);
	assert_text(a->store, "n", "-7");
	assert_ok(kvfs_incr(a->store, "n", 7, NULL));
	assert_text(a->store, "n", "0");
	assert_ok(kvfs_incr(a->store, "a/new/counter", 0, &sum));
	assert_text(a->store, "a/new/counter", "0");
	assert_ok(api_put(a->store, "n", "41\n"));
	assert_ok(kvfs_incr(a->store, "n", 1, &sum));
	assert_text(a->store, "n", "42\n");

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_ok(api_put(a->store, "bad", bad[i]));
		uint64_t version = stat_of(a->store, "bad").version;
		sum = 77;
		assert_err(kvfs_incr(a->store, "bad", 1, &sum), -EDOM);
		assert_int_equal(sum, 77);
		assert_text(a->store, "bad", bad[i]);
		assert_int_equal(stat_of(a->store, "bad").version, version);
	}
	assert_ok(kvfs_put(a->store, "bad", "1\0", 2, NULL, NULL));
	assert_err(kvfs_incr(a->store, "bad", 1, &sum), -EDOM);
	char *big = api_bytes(3 << 20, 3);
	assert_ok(kvfs_put(a->store, "bad", big, 3 << 20, NULL, NULL));
	assert_err(kvfs_incr(a->store, "bad", 1, &sum), -EDOM);
	free(big);

	assert_ok(api_put(a->store, "max", "9223372036854775806"));
	assert_ok(kvfs_incr(a->store, "max", 1, &sum));
	assert_true(sum == INT64_MAX);
	assert_err(kvfs_incr(a->store, "max", 1, &sum), -ERANGE);
	assert_text(a->store, "max", "9223372036854775807");
	assert_ok(kvfs_incr(a->store, "max", INT64_MIN, &sum));
	assert_text(a->store, "max", "-1");
	assert_err(kvfs_incr(a->store, "max", INT64_MIN, &sum), -ERANGE);
	assert_ok(kvfs_incr(a->store, "max", -INT64_MAX, &sum));
	assert_text(a->store, "max", "-9223372036854775808");
	assert_ok(kvfs_mkdir(a->store, "d", 0755));
	assert_err(kvfs_incr(a->store, "d", 1, &sum), -EISDIR);
	assert_err(kvfs_incr(a->store, "n/x", 1, &sum), -ENOTDIR);
}

static void test_append(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(2);
	size_t len = 0, cap = 1 << 20;
	char *want = malloc(cap);

	assert_ok(kvfs_append(a->store, "new/log", "", 0));
	assert_value(a->store, "new/log", "", 0);
	/* Across the inline limit and several chunks, by records of any length. */
	while (len < cap - 30000) {
		size_t n = support_below(&rng, 8) ? support_below(&rng, 200) : support_below(&rng, 30000);
		support_fill(&rng, want + len, n);
		assert_ok(kvfs_append(a->store, "log", want + len, n));
		len += n;
		if (support_below(&rng, 20) == 0)
			assert_value(a->store, "log", want, len);
	}
	assert_value(a->store, "log", want, len);
	assert_int_equal(stat_of(a->store, "log").size, len);
	assert_int_equal(stat_of(a->store, "log").mode & 07777, 0644);
	free(want);
	assert_ok(kvfs_mkdir(a->store, "d", 0755));
	assert_err(kvfs_append(a->store, "d", "x", 1), -EISDIR);
	assert_err(kvfs_append(a->store, "log/x", "x", 1), -ENOTDIR);
	assert_ok(kvfs_symlink(a->store, "log", "s"));
	assert_err(kvfs_append(a->store, "s", "x", 1), -ELOOP);
}

/* The cost of an append is not that of the value: the store hardly grows, and the time stays. */
static void test_append_to_a_big_value(void **state)
{
	struct api *a = *state;
	char *big = api_bytes(64 << 20, 4), record[100];
	struct kvfs_info before, after;
	const int n = 300;

	memset(record, 'r', sizeof(record));
	assert_ok(kvfs_put(a->store, "big", big, 64 << 20, NULL, NULL));
	assert_ok(kvfs_info(a->store, &before));
	uint64_t start = api_now_ms();
	for (int i = 0; i < n; i++)
		assert_ok(kvfs_append(a->store, "big", record, sizeof(record)));
	uint64_t ms = api_now_ms() - start;
	assert_ok(kvfs_info(a->store, &after));
	print_message("\t%d appends to 64 MiB: %" PRIu64 " ms\n", n, ms);
	assert_true(after.file_bytes <= before.file_bytes + (24 << 20));
	assert_true(api_is_slow() || ms < 3000);
	assert_int_equal(stat_of(a->store, "big").size, (64 << 20) + n * 100);
	assert_count(kvfs_get_into(a->store, "big", big, 50, (64 << 20) + 29950), 50);
	assert_memory_equal(big, record, 50);
	free(big);
}

struct appender {
	struct kvfs_store *store;
	int id, rc;
};

static void *append_thread(void *arg)
{
	struct appender *ap = arg;
	char record[64];

	for (int i = 0; i < 200 && ap->rc == 0; i++) {
		int n = snprintf(record, sizeof(record), "writer %d record %03d of some length\n", ap->id, i);
		ap->rc = kvfs_append(ap->store, "log", record, (size_t)n);
		if (ap->rc == 0)
			ap->rc = kvfs_incr(ap->store, "count", 1, NULL);
	}
	return NULL;
}

static void test_concurrent_appends_and_incrs(void **state)
{
	struct api *a = *state;
	struct appender ap[4];
	pthread_t thread[4];
	int next[4] = {0}, id, i;
	void *data;
	size_t len;

	for (int t = 0; t < 4; t++) {
		ap[t] = (struct appender){.store = a->store, .id = t};
		assert_int_equal(pthread_create(&thread[t], NULL, append_thread, &ap[t]), 0);
	}
	for (int t = 0; t < 4; t++) {
		pthread_join(thread[t], NULL);
		assert_ok(ap[t].rc);
	}
	assert_text(a->store, "count", "800");
	assert_ok(kvfs_get(a->store, "log", &data, &len));
	int records = 0;
	for (char *line = strtok(data, "\n"); line; line = strtok(NULL, "\n"), records++) {
		assert_int_equal(sscanf(line, "writer %d record %d of some length", &id, &i), 2);
		assert_int_equal(i, next[id]++);
	}
	assert_int_equal(records, 800);
	free(data);
}

/* ---- directories ---- */

static void test_implicit_directories(void **state)
{
	struct api *a = *state;
	struct kvfs_info before, info;

	assert_ok(kvfs_info(a->store, &before));
	assert_ok(api_put(a->store, "a/b/c/one", "1"));
	assert_ok(api_put(a->store, "a/b/two", "2"));
	assert_int_equal(stat_of(a->store, "a/b").mode & S_IFMT, S_IFDIR);
	assert_int_equal(stat_of(a->store, "a/b").size, 2);
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.directories, before.directories + 3);
	assert_int_equal(info.values, 2);
	assert_ok(kvfs_del(a->store, "a/b/c/one"));
	assert_absent(a->store, "a/b/c");
	assert_present(a->store, "a/b");
	assert_ok(kvfs_del(a->store, "a/b/two"));
	assert_absent(a->store, "a");

	/* mkdir makes ones that stay. */
	assert_ok(kvfs_mkdir(a->store, "x/y", 0750));
	assert_int_equal(stat_of(a->store, "x/y").mode, S_IFDIR | 0750);
	assert_ok(api_put(a->store, "x/y/z/k", "v"));
	assert_ok(kvfs_del(a->store, "x/y/z/k"));
	assert_absent(a->store, "x/y/z");
	assert_present(a->store, "x/y");
	assert_ok(kvfs_del(a->store, "x/y"));
	assert_present(a->store, "x");
	assert_ok(kvfs_del(a->store, "x"));

	/* mkdir of one that is there only by its keys: it exists. */
	assert_ok(api_put(a->store, "x/k", "v"));
	assert_err(kvfs_mkdir(a->store, "x", 0755), -EEXIST);
	assert_err(kvfs_mkdir(a->store, "x/k", 0755), -EEXIST);
	assert_err(kvfs_mkdir(a->store, "x/k/d", 0755), -ENOTDIR);
	assert_err(kvfs_del(a->store, "x"), -ENOTEMPTY);
	assert_ok(kvfs_del(a->store, "x/k"));
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.directories, before.directories);
	assert_int_equal(info.values, 0);
}

/* Every way in which a last key leaves takes the implicit directories along, and every way of making one makes them. */
static void test_implicit_directories_by_other_ways(void **state)
{
	struct api *a = *state;
	struct kvfs_store *s = a->store;
	struct kvfs_txn *txn;
	struct kvfs_stream *st;

	assert_ok(api_put(s, "a/b/k", "v"));
	assert_ok(kvfs_rename(s, "a/b/k", "c/d/k", 0));
	assert_absent(s, "a");
	assert_ok(kvfs_rename(s, "c/d", "e/f", 0));
	assert_absent(s, "c");
	assert_text(s, "e/f/k", "v");
	assert_ok(kvfs_del_tree(s, "e/f", NULL));
	assert_absent(s, "e");

	assert_ok(kvfs_symlink(s, "t", "l/m/s"));
	assert_ok(kvfs_mknod(s, "l/n/f", S_IFIFO | 0600, 0));
	assert_ok(kvfs_del(s, "l/m/s"));
	assert_ok(kvfs_del(s, "l/n/f"));
	assert_absent(s, "l");

	assert_ok(api_put(s, "k", "v"));
	assert_ok(kvfs_link(s, "k", "p/q/k"));
	assert_ok(kvfs_del(s, "p/q/k"));
	assert_absent(s, "p");

	assert_ok(kvfs_txn_begin(s, KVFS_TXN_WRITE, &txn));
	assert_ok(kvfs_txn_put(txn, "t/u/k", "v", 1, NULL));
	assert_ok(kvfs_txn_put(txn, "t/w/k", "v", 1, NULL));
	assert_ok(kvfs_txn_commit(&txn));
	assert_present(s, "t/w");
	assert_ok(kvfs_txn_begin(s, KVFS_TXN_WRITE, &txn));
	assert_ok(kvfs_txn_del(txn, "t/u/k"));
	assert_ok(kvfs_txn_rename(txn, "t/w/k", "t2/k", 0));
	assert_ok(kvfs_txn_commit(&txn));
	assert_absent(s, "t");
	assert_present(s, "t2/k");

	assert_ok(kvfs_stream_open(s, "st/r/k", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &st));
	assert_absent(s, "st");
	assert_count(kvfs_stream_write(st, "v", 1, 0), 1);
	assert_absent(s, "st");
	assert_ok(kvfs_stream_close(st));
	assert_text(s, "st/r/k", "v");
	assert_ok(kvfs_append(s, "ap/k", "v", 1));
	assert_ok(kvfs_incr(s, "in/k", 1, NULL));
	assert_ok(kvfs_del_tree(s, "", NULL));
	struct kvfs_info info;
	assert_ok(kvfs_info(s, &info));
	assert_true(info.values == 0 && info.others == 0 && info.value_bytes == 0);
}

/* A put that fails leaves none of the directories it would have needed. */
static void test_failed_put_leaves_no_directories(void **state)
{
	struct api *a = *state;
	struct kvfs_put_options same = {.size = sizeof(same), .flags = KVFS_IF_VERSION, .version = 12345};

	assert_ok(api_put(a->store, "v", "v"));
	assert_err(kvfs_put(a->store, "p/q/r", "x", 1, &same, NULL), -ECANCELED);
	assert_err(kvfs_rename(a->store, "none", "p/q/r", 0), -ENOENT);
	assert_err(kvfs_link(a->store, "none", "p/q/r"), -ENOENT);
	assert_absent(a->store, "p");
	assert_err(kvfs_rename(a->store, "v", "v/w", 0), -ENOTDIR);
	assert_text(a->store, "v", "v");
}

static void test_value_or_directory(void **state)
{
	struct api *a = *state;
	void *data;
	size_t len;
	char c;

	assert_ok(api_put(a->store, "v", "v"));
	assert_ok(api_put(a->store, "d/k", "v"));
	assert_err(api_put(a->store, "v/k", "x"), -ENOTDIR);
	assert_err(api_put(a->store, "v/k/l/m", "x"), -ENOTDIR);
	assert_err(api_put(a->store, "d", "x"), -EISDIR);
	assert_err(kvfs_get(a->store, "d", &data, &len), -EISDIR);
	assert_err(kvfs_get_into(a->store, "d", &c, 1, 0), -EISDIR);
	int rc = kvfs_get(a->store, "v/k", &data, &len);
	assert_true(rc == -ENOENT || rc == -ENOTDIR);
	rc = kvfs_del(a->store, "v/k");
	assert_true(rc == -ENOENT || rc == -ENOTDIR);
	assert_absent(a->store, "v/k");
	assert_text(a->store, "v", "v");
	assert_text(a->store, "d/k", "v");
	assert_ok(kvfs_del(a->store, "v"));
	assert_ok(api_put(a->store, "v/k", "x"));
	assert_ok(kvfs_del(a->store, "d/k"));
	assert_ok(api_put(a->store, "d", "x"));
}

static void test_del_tree(void **state)
{
	struct api *a = *state;
	char key[64];
	uint64_t count = 0;
	struct kvfs_info info;
	const int n = 2500;

	for (int i = 0; i < n; i++) {
		sprintf(key, "t/%d/%d/k%d", i % 10, i % 50, i);
		assert_ok(api_put(a->store, key, "v"));
	}
	assert_ok(api_put(a->store, "tt", "stays"));
	assert_ok(api_put(a->store, "single", "v"));
	assert_ok(kvfs_del_tree(a->store, "single", &count));
	assert_int_equal(count, 1);
	assert_ok(kvfs_del_tree(a->store, "t/3", &count));
	assert_int_equal(count, n / 10 + 5 + 1);
	assert_ok(kvfs_del_tree(a->store, "t", &count));
	assert_int_equal(count, n - n / 10 + 45 + 9 + 1);
	assert_absent(a->store, "t");
	assert_text(a->store, "tt", "stays");
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.values, 1);
	assert_int_equal(info.value_bytes, 5);
	assert_ok(kvfs_mkdir(a->store, "e/f", 0755));
	assert_ok(kvfs_del_tree(a->store, "", &count));
	assert_int_equal(count, 3);
	assert_ok(kvfs_del_tree(a->store, "", &count));
	assert_int_equal(count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_sizes),
		API_TEST(test_bytes_are_verbatim),
		API_TEST(test_absent),
		API_TEST(test_conditions),
		API_TEST(test_put_options),
		API_TEST(test_overlong_size_of_options),
		API_TEST(test_incr),
		API_TEST(test_append),
		API_TEST(test_append_to_a_big_value),
		API_TEST(test_concurrent_appends_and_incrs),
		API_TEST(test_implicit_directories),
		API_TEST(test_implicit_directories_by_other_ways),
		API_TEST(test_failed_put_leaves_no_directories),
		API_TEST(test_value_or_directory),
		API_TEST(test_del_tree),
	};

	return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
