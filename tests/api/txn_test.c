/* Transactions: one state of the store, own writes seen, conflicts and only conflicts refused, everything or nothing. */
#include "api.h"

static struct kvfs_txn *begin(struct kvfs_store *store, unsigned flags)
{
	struct kvfs_txn *txn = NULL;

	assert_ok(kvfs_txn_begin(store, flags, &txn));
	assert_non_null(txn);
	return txn;
}

static void txn_text(struct kvfs_txn *txn, const char *key, const char *want, const char *file, int line)
{
	void *data = NULL;
	size_t len = 0;

	support_check_err(kvfs_txn_get(txn, key, &data, &len), 0, key, file, line);
	_assert_true(len == strlen(want) && !memcmp(data, want, len + 1), want, file, line);
	free(data);
}

#define assert_txn_text(txn, key, want) txn_text(txn, key, want, __FILE__, __LINE__)
#define assert_txn_put(txn, key, text) assert_ok(kvfs_txn_put(txn, key, text, strlen(text), NULL))

/* ---- reading ---- */

static void test_snapshot(void **state)
{
	struct api *a = *state;
	char *big = api_bytes(500000, 1), key[20];
	struct kvfs_stat st;
	void *data;
	size_t len;

	assert_ok(api_put(a->store, "a", "old"));
	assert_ok(api_put(a->store, "gone", "still here"));
	assert_ok(kvfs_put(a->store, "big", big, 500000, NULL, NULL));
	struct kvfs_txn *txn = begin(a->store, 0);
	assert_ok(api_put(a->store, "a", "new"));
	assert_ok(api_put(a->store, "b", "new"));
	assert_ok(kvfs_del(a->store, "gone"));
	for (int i = 0; i < 300; i++) {
		sprintf(key, "fill%d", i % 7);
		assert_ok(kvfs_put(a->store, key, big, 100000, NULL, NULL));
		assert_ok(kvfs_put(a->store, "big", big + i, 300000, NULL, NULL));
	}
	assert_ok(kvfs_del(a->store, "big"));
	assert_txn_text(txn, "a", "old");
	assert_txn_text(txn, "gone", "still here");
	assert_err(kvfs_txn_exists(txn, "b"), 0);
	assert_err(kvfs_txn_get(txn, "b", &data, &len), -ENOENT);
	assert_ok(kvfs_txn_get(txn, "big", &data, &len));
	assert_true(api_same_bytes(data, len, big, 500000));
	free(data);
	assert_ok(kvfs_txn_stat(txn, "big", &st));
	assert_int_equal(st.size, 500000);
	assert_err(kvfs_txn_stat(txn, "b", &st), -ENOENT);

	struct kvfs_info info;
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.snapshot_pid, getpid());
	assert_ok(kvfs_txn_commit(&txn));
	assert_null(txn);
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.snapshot_pid, 0);
	kvfs_txn_abort(NULL);
	free(big);
}

static void test_read_only_transactions_change_nothing(void **state)
{
	struct api *a = *state;
	struct kvfs_txn *txn = begin(a->store, 0);
	int64_t sum;

	assert_true(kvfs_txn_put(txn, "k", "v", 1, NULL) < 0);
	assert_true(kvfs_txn_del(txn, "k") < 0);
	assert_true(kvfs_txn_incr(txn, "k", 1, &sum) < 0);
	assert_true(kvfs_txn_rename(txn, "k", "l", 0) < 0);
	assert_ok(kvfs_txn_commit(&txn));
	assert_absent(a->store, "k");
	assert_err(kvfs_txn_begin(a->store, 1u << 15, &txn), -EINVAL);
}

static void test_stream_in_a_transaction(void **state)
{
	struct api *a = *state;
	char *big = api_bytes(300000, 2), *got = malloc(300000);
	struct kvfs_stream *st;

	assert_ok(kvfs_put(a->store, "big", big, 300000, NULL, NULL));
	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	for (int i = 0; i < 50; i++)
		assert_ok(kvfs_put(a->store, "big", big + i, 200000, NULL, NULL));
	assert_ok(kvfs_txn_stream_open(txn, "big", &st));
	assert_int_equal(kvfs_stream_size(st), 300000);
	assert_count(kvfs_stream_read(st, got, 300000, 0), 300000);
	assert_memory_equal(got, big, 300000);
	assert_true(kvfs_stream_write(st, "x", 1, 0) < 0);
	assert_ok(kvfs_stream_close(st));
	assert_err(kvfs_txn_stream_open(txn, "none", &st), -ENOENT);
	assert_txn_put(txn, "mine", "own");
	/* What it wrote itself is there by kvfs_txn_get(); a stream of it may be refused. */
	int rc = kvfs_txn_stream_open(txn, "mine", &st);
	assert_true(rc == 0 || rc == -EBUSY);
	if (rc == 0) {
		assert_count(kvfs_stream_read(st, got, 10, 0), 3);
		assert_memory_equal(got, "own", 3);
		kvfs_stream_abort(st);
	}
	kvfs_txn_abort(txn);
	free(big);
	free(got);
}

/* ---- writing ---- */

static void test_own_writes(void **state)
{
	struct api *a = *state;
	struct kvfs_put_options opt = {.size = sizeof(opt), .mtime = {.tv_sec = 1234567}};
	struct kvfs_stat st;
	int64_t sum;
	void *data;
	size_t len;

	assert_ok(api_put(a->store, "a", "1"));
	assert_ok(api_put(a->store, "b", "2"));
	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	assert_txn_put(txn, "a", "mine");
	assert_txn_text(txn, "a", "mine");
	assert_ok(kvfs_txn_stat(txn, "a", &st));
	assert_true(st.size == 4 && st.version == 0);
	assert_ok(kvfs_txn_put(txn, "new/dir/k", "six...", 6, &opt));
	assert_ok(kvfs_txn_stat(txn, "new/dir/k", &st));
	assert_true(st.size == 6 && st.mtime.tv_sec == 1234567 && st.version == 0);
	assert_count(kvfs_txn_exists(txn, "new/dir/k"), 1);
	assert_ok(kvfs_txn_del(txn, "b"));
	assert_err(kvfs_txn_exists(txn, "b"), 0);
	assert_err(kvfs_txn_get(txn, "b", &data, &len), -ENOENT);
	assert_err(kvfs_txn_del(txn, "b"), -ENOENT);
	assert_txn_put(txn, "b", "again");
	assert_txn_text(txn, "b", "again");
	assert_ok(kvfs_txn_incr(txn, "n", 40, &sum));
	assert_ok(kvfs_txn_incr(txn, "n", 2, &sum));
	assert_int_equal(sum, 42);
	assert_txn_text(txn, "n", "42");
	assert_ok(kvfs_txn_rename(txn, "a", "moved/a", 0));
	assert_err(kvfs_txn_exists(txn, "a"), 0);
	assert_txn_text(txn, "moved/a", "mine");
	/* Nobody else sees any of it. */
	assert_text(a->store, "a", "1");
	assert_text(a->store, "b", "2");
	assert_absent(a->store, "new");
	assert_absent(a->store, "n");
	assert_ok(kvfs_txn_commit(&txn));
	assert_null(txn);
	assert_absent(a->store, "a");
	assert_text(a->store, "b", "again");
	assert_text(a->store, "new/dir/k", "six...");
	assert_text(a->store, "n", "42");
	assert_text(a->store, "moved/a", "mine");
	assert_ok(kvfs_stat(a->store, "new/dir/k", &st));
	assert_int_equal(st.mtime.tv_sec, 1234567);
}

static void test_own_writes_meet_the_rules(void **state)
{
	struct api *a = *state;
	struct kvfs_put_options absent = {.size = sizeof(absent), .flags = KVFS_IF_ABSENT};
	int64_t sum;

	assert_ok(api_put(a->store, "v", "text"));
	assert_ok(api_put(a->store, "d/k", "v"));
	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	assert_err(kvfs_txn_put(txn, "v", "x", 1, &absent), -EEXIST);
	assert_err(kvfs_txn_incr(txn, "v", 1, &sum), -EDOM);
	assert_err(kvfs_txn_del(txn, "none"), -ENOENT);
	assert_err(kvfs_txn_rename(txn, "none", "x", 0), -ENOENT);
	assert_err(kvfs_txn_rename(txn, "d", "e", 0), -EISDIR);
	assert_err(kvfs_txn_rename(txn, "v", "d/k", KVFS_RENAME_NOREPLACE), -EEXIST);
	assert_txn_put(txn, "mine", "1");
	assert_err(kvfs_txn_put(txn, "mine", "x", 1, &absent), -EEXIST);
	assert_ok(kvfs_txn_del(txn, "mine"));
	assert_ok(kvfs_txn_put(txn, "mine", "2", 1, &absent));
	/* An operation that was refused left no trace. */
	assert_ok(kvfs_txn_commit(&txn));
	assert_text(a->store, "mine", "2");
	assert_text(a->store, "v", "text");
	assert_text(a->store, "d/k", "v");
	assert_absent(a->store, "e");
}

static void test_rename_keeps_attributes(void **state)
{
	struct api *a = *state;
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0604};
	struct kvfs_stat st;

	assert_ok(api_put(a->store, "a", "1"));
	assert_ok(kvfs_setattr(a->store, "a", &attr));
	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	assert_ok(kvfs_txn_rename(txn, "a", "b", 0));
	assert_txn_put(txn, "a", "fresh");
	assert_ok(kvfs_txn_commit(&txn));
	assert_text(a->store, "a", "fresh");
	assert_text(a->store, "b", "1");
	assert_ok(kvfs_stat(a->store, "b", &st));
	assert_int_equal(st.mode & 07777, 0604);

	txn = begin(a->store, KVFS_TXN_WRITE);
	int rc = kvfs_txn_rename(txn, "a", "b", KVFS_RENAME_EXCHANGE);
	assert_true(rc == 0 || rc == -EINVAL);
	bool swapped = rc == 0;
	assert_txn_text(txn, "a", swapped ? "1" : "fresh");
	assert_txn_text(txn, "b", swapped ? "fresh" : "1");
	assert_ok(kvfs_txn_commit(&txn));
	assert_text(a->store, "a", swapped ? "1" : "fresh");
	assert_text(a->store, "b", swapped ? "fresh" : "1");
}

/* ---- conflicts ---- */

enum read { GET, EXISTS, STAT, INCR, STREAM, DEL, READS };

static void read_by(struct kvfs_txn *txn, enum read how, const char *key)
{
	struct kvfs_stream *stream;
	struct kvfs_stat st;
	void *data = NULL;
	size_t len;
	char c;
	int rc = 0;

	switch (how) {
	case GET:
		rc = kvfs_txn_get(txn, key, &data, &len);
		free(data);
		break;
	case EXISTS:
		rc = kvfs_txn_exists(txn, key) < 0 ? -EIO : 0;
		break;
	case STAT:
		rc = kvfs_txn_stat(txn, key, &st);
		break;
	case INCR:
		rc = kvfs_txn_incr(txn, key, 1, NULL);
		break;
	case STREAM:
		rc = kvfs_txn_stream_open(txn, key, &stream);
		if (rc == 0) {
			assert_true(kvfs_stream_read(stream, &c, 1, 0) >= 0);
			kvfs_stream_abort(stream);
		}
		break;
	default:
		rc = kvfs_txn_del(txn, key);
	}
	assert_true(rc == 0 || rc == -ENOENT);
}

enum change { REPLACE, SAME_BYTES, REMOVE, REMADE, MOVED, REPLACED_BY_RENAME, APPENDED, BY_STREAM, BY_TXN, CHANGES };

static void change_by(struct kvfs_store *s, enum change how, const char *key)
{
	struct kvfs_stream *st;
	struct kvfs_txn *txn;

	switch (how) {
	case REPLACE:
		assert_ok(api_put(s, key, "7"));
		break;
	case SAME_BYTES:
		assert_ok(api_put(s, key, "1"));
		break;
	case REMOVE:
		assert_ok(kvfs_del(s, key));
		break;
	case REMADE:
		assert_ok(kvfs_del(s, key));
		assert_ok(api_put(s, key, "1"));
		break;
	case MOVED:
		assert_ok(kvfs_rename(s, key, "elsewhere", 0));
		break;
	case REPLACED_BY_RENAME:
		assert_ok(api_put(s, "tmp", "1"));
		assert_ok(kvfs_rename(s, "tmp", key, 0));
		break;
	case APPENDED:
		assert_ok(kvfs_append(s, key, "2", 1));
		break;
	case BY_STREAM:
		assert_ok(kvfs_stream_open(s, key, KVFS_STREAM_WRITE, 0, &st));
		assert_count(kvfs_stream_write(st, "3", 1, 0), 1);
		assert_ok(kvfs_stream_close(st));
		break;
	default:
		txn = begin(s, KVFS_TXN_WRITE);
		assert_txn_put(txn, key, "4");
		assert_ok(kvfs_txn_commit(&txn));
	}
}

/* Whatever was read in whatever way and changed in whatever way: the commit is refused, and nothing of it is seen. */
static void test_conflicts(void **state)
{
	struct api *a = *state;

	/* A deletion is no read of what it deletes. */
	for (int r = 0; r < DEL; r++)
		for (int c = 0; c < CHANGES; c++) {
			assert_ok(kvfs_del_tree(a->store, "", NULL));
			assert_ok(api_put(a->store, "d/k", "1"));
			struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
			read_by(txn, (enum read)r, "d/k");
			assert_txn_put(txn, "result", "x");
			change_by(a->store, (enum change)c, "d/k");
			int rc = kvfs_txn_commit(&txn);
			if (rc != -ECANCELED)
				print_error("read %d, change %d: %d\n", r, c, rc);
			assert_err(rc, -ECANCELED);
			assert_null(txn);
			assert_absent(a->store, "result");
		}
}

/* That a key was absent is something read, too. */
static void test_conflict_with_what_appeared(void **state)
{
	struct api *a = *state;

	for (int r = 0; r < READS; r++)
		for (int deep = 0; deep < 2; deep++) {
			assert_ok(kvfs_del_tree(a->store, "", NULL));
			struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
			read_by(txn, (enum read)r, deep ? "p/q" : "k");
			assert_txn_put(txn, "result", "x");
			assert_ok(api_put(a->store, deep ? "p/q" : "k", "1"));
			int rc = kvfs_txn_commit(&txn);
			if (rc != -ECANCELED)
				print_error("read %d, deep %d: %d\n", r, deep, rc);
			assert_err(rc, -ECANCELED);
			assert_absent(a->store, "result");
		}
}

static void test_conditions_in_a_transaction(void **state)
{
	struct api *a = *state;
	struct kvfs_put_options absent = {.size = sizeof(absent), .flags = KVFS_IF_ABSENT};
	struct kvfs_put_options same = {.size = sizeof(same), .flags = KVFS_IF_VERSION};

	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	assert_ok(kvfs_txn_put(txn, "k", "mine", 4, &absent));
	assert_txn_put(txn, "result", "x");
	assert_ok(api_put(a->store, "k", "first"));
	int rc = kvfs_txn_commit(&txn);
	assert_true(rc == -ECANCELED || rc == -EEXIST);
	assert_text(a->store, "k", "first");
	assert_absent(a->store, "result");

	assert_ok(kvfs_put(a->store, "k", "1", 1, NULL, &same.version));
	txn = begin(a->store, KVFS_TXN_WRITE);
	assert_ok(kvfs_txn_put(txn, "k", "2", 1, &same));
	assert_ok(kvfs_txn_commit(&txn));
	txn = begin(a->store, KVFS_TXN_WRITE);
	assert_err(kvfs_txn_put(txn, "k", "3", 1, &same), -ECANCELED);
	kvfs_txn_abort(txn);
	assert_text(a->store, "k", "2");
}

/* What was only written does not conflict: the last commit stands. Nor do changes beside what was read. */
static void test_no_false_conflicts(void **state)
{
	struct api *a = *state;

	assert_ok(api_put(a->store, "d/read", "1"));
	assert_ok(api_put(a->store, "d/blind", "1"));
	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	assert_txn_text(txn, "d/read", "1");
	assert_err(kvfs_txn_exists(txn, "d/absent"), 0);
	assert_txn_put(txn, "d/blind", "mine");
	assert_txn_put(txn, "d/new/x", "mine");
	assert_txn_text(txn, "d/blind", "mine");
	assert_ok(api_put(a->store, "d/blind", "theirs"));
	assert_ok(api_put(a->store, "d/new/y", "theirs"));
	assert_ok(api_put(a->store, "d/other", "theirs"));
	assert_ok(kvfs_del(a->store, "d/other"));
	assert_ok(api_put(a->store, "e/f", "theirs"));
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0755};
	assert_ok(kvfs_setattr(a->store, "d", &attr));
	assert_ok(kvfs_txn_commit(&txn));
	assert_text(a->store, "d/blind", "mine");
	assert_text(a->store, "d/new/x", "mine");
	assert_text(a->store, "d/new/y", "theirs");

	/* Two that write the same keys blindly: both commit. */
	struct kvfs_txn *one = begin(a->store, KVFS_TXN_WRITE), *two = begin(a->store, KVFS_TXN_WRITE);
	assert_txn_put(one, "x", "one");
	assert_txn_put(one, "y", "one");
	assert_txn_put(two, "y", "two");
	assert_txn_put(two, "x", "two");
	assert_ok(kvfs_txn_commit(&two));
	assert_ok(kvfs_txn_commit(&one));
	assert_text(a->store, "x", "one");
	assert_text(a->store, "y", "one");
}

/* Write skew: each reads what the other writes. One of them must go. */
static void test_write_skew(void **state)
{
	struct api *a = *state;

	assert_ok(api_put(a->store, "a", "1"));
	assert_ok(api_put(a->store, "b", "1"));
	struct kvfs_txn *one = begin(a->store, KVFS_TXN_WRITE), *two = begin(a->store, KVFS_TXN_WRITE);
	assert_txn_text(one, "a", "1");
	assert_txn_text(two, "b", "1");
	assert_txn_put(one, "b", "0");
	assert_txn_put(two, "a", "0");
	char about[KVFS_KEY_MAX + 1];
	assert_ok(kvfs_txn_commit_key(&one, about));
	assert_string_equal(about, "");
	assert_err(kvfs_txn_commit_key(&two, about), -ECANCELED);
	assert_string_equal(about, "b");
	assert_text(a->store, "a", "1");
}

/* ---- everything or nothing ---- */

static void test_a_failing_operation_undoes_all(void **state)
{
	struct api *a = *state;
	char key[20];

	assert_ok(api_put(a->store, "keep", "1"));
	for (int kind = 0; kind < 3; kind++) {
		struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
		for (int i = 0; i < 100; i++) {
			sprintf(key, "t/%d", i);
			assert_txn_put(txn, key, "v");
		}
		assert_ok(kvfs_txn_del(txn, "keep"));
		/* Fine in the snapshot, impossible when it is applied. */
		assert_txn_put(txn, kind == 0 ? "x/y" : "x", "v");
		if (kind == 0)
			assert_ok(api_put(a->store, "x", "value"));
		else if (kind == 1)
			assert_ok(api_put(a->store, "x/y", "value"));
		else
			assert_ok(kvfs_mkdir(a->store, "x", 0755));
		char about[KVFS_KEY_MAX + 1];
		int rc = kvfs_txn_commit_key(&txn, about);
		assert_true(rc == (kind == 0 ? -ENOTDIR : -EISDIR) || rc == -ECANCELED);
		assert_null(txn);
		assert_string_equal(about, kind == 0 ? "x/y" : "x");
		assert_absent(a->store, "t");
		assert_text(a->store, "keep", "1");
		assert_ok(kvfs_del_tree(a->store, "x", NULL));
	}
	struct kvfs_info info;
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.values, 1);
}

static void test_value_and_directory_in_one(void **state)
{
	struct api *a = *state;

	/* Whether at once or at the commit: a key cannot be both. */
	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	assert_txn_put(txn, "other", "v");
	assert_txn_put(txn, "a", "v");
	int rc = kvfs_txn_put(txn, "a/b", "v", 1, NULL);
	if (rc == 0)
		rc = kvfs_txn_commit(&txn);
	else
		kvfs_txn_abort(txn);
	assert_err(rc, -ENOTDIR);
	assert_absent(a->store, "a");
	assert_absent(a->store, "other");

	/* In the right order it is no contradiction. */
	assert_ok(api_put(a->store, "d", "value"));
	assert_ok(api_put(a->store, "e/k", "value"));
	txn = begin(a->store, KVFS_TXN_WRITE);
	assert_ok(kvfs_txn_del(txn, "d"));
	assert_txn_put(txn, "d/k", "v");
	assert_ok(kvfs_txn_del(txn, "e/k"));
	assert_txn_put(txn, "e", "v");
	assert_ok(kvfs_txn_commit(&txn));
	assert_text(a->store, "d/k", "v");
	assert_text(a->store, "e", "v");
}

static void test_abort_and_abandon(void **state)
{
	struct api *a = *state;

	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	assert_txn_put(txn, "k", "v");
	assert_txn_put(txn, "d/k", "v");
	kvfs_txn_abort(txn);
	assert_absent(a->store, "k");
	assert_absent(a->store, "d");
	txn = begin(a->store, KVFS_TXN_WRITE);
	assert_ok(kvfs_txn_commit(&txn));

	/* Many at once, and no lock is held by any: the writers between them are not kept waiting. */
	enum { N = 100 };
	struct kvfs_txn *many[N];
	for (int i = 0; i < N; i++) {
		many[i] = begin(a->store, i % 2 ? KVFS_TXN_WRITE : 0);
		if (i % 2)
			assert_txn_put(many[i], "k", "v");
		assert_ok(kvfs_incr(a->store, "n", 1, NULL));
	}
	for (int i = 0; i < N; i++)
		if (i % 2)
			assert_ok(kvfs_txn_commit(&many[i]));
		else
			kvfs_txn_abort(many[i]);
	assert_text(a->store, "n", "100");
}

static void test_too_many_snapshots(void **state)
{
	struct api *a = *state;
	enum { N = 20000 };
	struct kvfs_txn **many = calloc(N, sizeof(*many));
	int n = 0, rc = 0;

	assert_ok(api_put(a->store, "k", "v"));
	while (n < N && (rc = kvfs_txn_begin(a->store, 0, &many[n])) == 0)
		n++;
	print_message("\t%d snapshots at once: %s\n", n, strerror(-rc));
	assert_true(n >= 100);
	assert_true(rc == 0 || rc == -EUSERS);
	/* Others go on reading and writing. */
	assert_text(a->store, "k", "v");
	assert_ok(api_put(a->store, "k", "w"));
	while (n > 0)
		kvfs_txn_abort(many[--n]);
	struct kvfs_txn *txn = begin(a->store, 0);
	assert_txn_text(txn, "k", "w");
	kvfs_txn_abort(txn);
	free(many);
}

static int hold_snapshots(void *arg)
{
	const int *pipes = arg;
	struct kvfs_store *store;
	struct kvfs_txn *txn;
	char go;
	int n = 0;

	CHECK(api_open_as((const char *)(pipes + 4), KVFS_RDONLY, KVFS_NONE, &store) == 0);
	while (kvfs_txn_begin(store, 0, &txn) == 0)
		n++;
	CHECK(n > 0);
	close(pipes[3]);
	CHECK(write(pipes[1], "x", 1) == 1);
	CHECK(read(pipes[2], &go, 1) == 0);
	return 0;
}

/* Who comes when all reader slots are taken is told whom to end; when that is done, everything goes on. */
static void test_all_reader_slots_are_taken(void **state)
{
	struct api *a = *state;
	struct {
		int pipes[4];
		char path[160];
	} arg;
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_RDONLY};
	struct kvfs_check_result seen;
	struct kvfs_error err;
	struct kvfs_store *store;
	pid_t pids[3];
	char x;

	assert_ok(api_put(a->store, "k", "v"));
	kvfs_close(a->store);
	a->store = NULL;
	assert_int_equal(pipe2(arg.pipes, O_CLOEXEC), 0);
	assert_int_equal(pipe2(arg.pipes + 2, O_CLOEXEC), 0);
	snprintf(arg.path, sizeof arg.path, "%s", a->path);
	for (int i = 0; i < 3; i++) {
		pids[i] = api_fork(hold_snapshots, &arg, 60);
		assert_int_equal(read(arg.pipes[0], &x, 1), 1);
	}
	assert_err(kvfs_open(a->path, &opt, &store, &err), -EUSERS);
	assert_non_null(strstr(err.text, "process "));
	assert_err(kvfs_check(a->path, NULL, &seen, &err), -EUSERS);
	assert_non_null(strstr(err.text, "process "));
	for (int i = 0; i < 4; i++)
		close(arg.pipes[i]);
	for (int i = 0; i < 3; i++)
		assert_child(pids[i]);
	a->store = api_open(a->path, 0);
	assert_text(a->store, "k", "v");
}

static void test_limits(void **state)
{
	struct api *a = *state;
	struct kvfs_txn *txn = begin(a->store, KVFS_TXN_WRITE);
	char key[32], *big = calloc(1, KVFS_TXN_BYTES_MAX + 1);

	for (int i = 0; i < KVFS_TXN_OPS_MAX; i++) {
		sprintf(key, "d%d/k%d", i % 10, i);
		assert_ok(kvfs_txn_put(txn, key, key, 4, NULL));
	}
	assert_err(kvfs_txn_put(txn, "more", "x", 1, NULL), -E2BIG);
	assert_err(kvfs_txn_del(txn, "d0/k0"), -E2BIG);
	assert_txn_text(txn, "d0/k10", "d0/k");
	assert_ok(kvfs_txn_commit(&txn));
	struct kvfs_info info;
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.values, KVFS_TXN_OPS_MAX);
	assert_absent(a->store, "more");

	txn = begin(a->store, KVFS_TXN_WRITE);
	assert_err(kvfs_txn_put(txn, "big", big, KVFS_TXN_BYTES_MAX + 1, NULL), -E2BIG);
	assert_ok(kvfs_txn_put(txn, "big", big, KVFS_TXN_BYTES_MAX - 10, NULL));
	assert_err(kvfs_txn_put(txn, "small", big, 11, NULL), -E2BIG);
	assert_ok(kvfs_txn_put(txn, "small", big, 10, NULL));
	assert_ok(kvfs_txn_commit(&txn));
	struct kvfs_stat st;
	assert_ok(kvfs_stat(a->store, "big", &st));
	assert_int_equal(st.size, KVFS_TXN_BYTES_MAX - 10);
	assert_absent(a->store, "more");
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_snapshot),
		API_TEST(test_read_only_transactions_change_nothing),
		API_TEST(test_stream_in_a_transaction),
		API_TEST(test_own_writes),
		API_TEST(test_own_writes_meet_the_rules),
		API_TEST(test_rename_keeps_attributes),
		API_TEST(test_conflicts),
		API_TEST(test_conflict_with_what_appeared),
		API_TEST(test_conditions_in_a_transaction),
		API_TEST(test_no_false_conflicts),
		API_TEST(test_write_skew),
		API_TEST(test_a_failing_operation_undoes_all),
		API_TEST(test_value_and_directory_in_one),
		API_TEST(test_abort_and_abandon),
		API_TEST(test_too_many_snapshots),
		API_TEST(test_all_reader_slots_are_taken),
		API_TEST(test_limits),
	};

	return cmocka_run_group_tests_name("txn", tests, NULL, NULL);
}
