/* The syntax of keys, through every call that takes one: each rule exactly at its limit and one past it. */
#include "api.h"

/* "x" of `len` bytes. */
static char *name_of(size_t len, char c)
{
	char *s = malloc(len + 1);

	assert_non_null(s);
	memset(s, c, len);
	s[len] = '\0';
	return s;
}

/* A key of exactly `len` bytes of components of up to 255. */
static char *key_of(size_t len)
{
	char *s = name_of(len, 'k');

	for (size_t i = 255; i < len; i += 256)
		s[i] = '/';
	if (s[len - 1] == '/')
		s[len - 1] = 'k', s[len - 2] = '/';
	return s;
}

/* Each call refuses `key` with `want`, and leaves its outputs alone. */
static void assert_illegal(struct kvfs_store *store, const char *key, int want)
{
	void *data = store;
	size_t len = 77;
	uint64_t version = 77;
	int64_t sum = 77;
	struct kvfs_stat st = {.ino = 77};
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0600};
	struct kvfs_cursor *cur = NULL;
	struct kvfs_stream *stream = NULL;
	struct kvfs_txn *txn;
	char buf[8];

	assert_non_null(kvfs_key_fault(key));
	assert_err(kvfs_put(store, key, "v", 1, NULL, &version), want);
	assert_err(kvfs_get(store, key, &data, &len), want);
	assert_err(kvfs_get_into(store, key, buf, 8, 0), want);
	assert_err(kvfs_del(store, key), want);
	assert_err(kvfs_del_tree(store, key, &version), want);
	assert_err(kvfs_exists(store, key), 0);
	assert_err(kvfs_stat(store, key, &st), want);
	assert_err(kvfs_incr(store, key, 1, &sum), want);
	assert_err(kvfs_append(store, key, "v", 1), want);
	assert_err(kvfs_rename(store, key, "fine", 0), want);
	assert_err(kvfs_rename(store, "there", key, 0), want);
	assert_err(kvfs_mkdir(store, key, 0755), want);
	assert_err(kvfs_link(store, key, "fine"), want);
	assert_err(kvfs_link(store, "there", key), want);
	assert_err(kvfs_symlink(store, "target", key), want);
	assert_err(kvfs_mknod(store, key, S_IFIFO | 0600, 0), want);
	assert_err(kvfs_readlink(store, key, buf, 8), want);
	assert_err(kvfs_setattr(store, key, &attr), want);
	assert_err(kvfs_setxattr(store, key, "user.a", "v", 1, 0), want);
	assert_err(kvfs_getxattr(store, key, "user.a", buf, 8), want);
	assert_err(kvfs_listxattr(store, key, buf, 8), want);
	assert_err(kvfs_removexattr(store, key, "user.a"), want);
	assert_err(kvfs_list(store, key, NULL, &cur), want);
	assert_err(kvfs_stream_open(store, key, KVFS_STREAM_READ, 0, &stream), want);
	assert_err(kvfs_stream_open(store, key, KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &stream), want);

	assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
	assert_err(kvfs_txn_put(txn, key, "v", 1, NULL), want);
	assert_err(kvfs_txn_get(txn, key, &data, &len), want);
	assert_err(kvfs_txn_exists(txn, key), 0);
	assert_err(kvfs_txn_stat(txn, key, &st), want);
	assert_err(kvfs_txn_del(txn, key), want);
	assert_err(kvfs_txn_incr(txn, key, 1, &sum), want);
	assert_err(kvfs_txn_rename(txn, key, "fine", 0), want);
	assert_err(kvfs_txn_rename(txn, "there", key, 0), want);
	assert_err(kvfs_txn_list(txn, key, NULL, &cur), want);
	assert_err(kvfs_txn_stream_open(txn, key, &stream), want);
	kvfs_txn_abort(txn);

	assert_ptr_equal(data, store);
	assert_true(len == 77 && version == 77 && sum == 77 && st.ino == 77);
	assert_null(cur);
	assert_null(stream);
}

static void test_illegal_keys(void **state)
{
	struct api *a = *state;
	static const char *const bad[] = {"//", "a/", "/a/", "a//b", "//a", ".", "..", "./a", "../a", "a/.", "a/..", "a/./b",
		"a/../b", "/.", "/..", "a/b/", "a///b"};

	assert_ok(api_put(a->store, "there", "v"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_illegal(a->store, bad[i], -EINVAL);

	char *key = name_of(256, 'n');
	assert_illegal(a->store, key, -ENAMETOOLONG);
	free(key);
	key = name_of(400, 'n');
	key[1] = '/';
	assert_illegal(a->store, key, -ENAMETOOLONG);
	free(key);
	key = key_of(KVFS_KEY_MAX + 1);
	assert_illegal(a->store, key, -ENAMETOOLONG);
	free(key);
	key = key_of(100000);
	assert_illegal(a->store, key, -ENAMETOOLONG);
	free(key);
	assert_text(a->store, "there", "v");
	assert_absent(a->store, "fine");
	struct kvfs_info info;
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.values, 1);
}

static void test_fault_says_the_rule(void **state)
{
	char *longer = name_of(256, 'n'), *whole = key_of(KVFS_KEY_MAX + 1);

	(void)state;
	assert_null(kvfs_key_fault("a/b"));
	assert_null(kvfs_key_fault(""));
	assert_string_not_equal(kvfs_key_fault("a/../b"), kvfs_key_fault("a//b"));
	assert_non_null(strstr(kvfs_key_fault(longer), "255"));
	assert_non_null(strstr(kvfs_key_fault(whole), "4"));
	assert_string_not_equal(kvfs_key_fault(longer), kvfs_key_fault(whole));
	free(longer);
	free(whole);
}

static void test_legal_keys(void **state)
{
	struct api *a = *state;
	static const char *const good[] = {"a", "...", ".a", "a.", "..a", "a..", "..../...", " ", "\n", "\t \r", "-", "--help", "*",
		"\\", "\x01", "\x7f", "\xff\xfe", "\xc3\x28", "\xed\xa0\x80", "\xf0\x9f\x94\x91", "caf\xc3\xa9", "cafe\xcc\x81",
		"A", "\"'", "a\\/b", "~", "%00", "con", "a:b", "x/\xff/y"};
	const size_t n = sizeof(good) / sizeof(*good);
	char text[16], with[64];

	for (size_t i = 0; i < n; i++) {
		assert_null(kvfs_key_fault(good[i]));
		sprintf(text, "value %zu", i);
		assert_ok(api_put(a->store, good[i], text));
	}
	for (size_t i = 0; i < n; i++) {
		sprintf(text, "value %zu", i);
		assert_text(a->store, good[i], text);
		snprintf(with, sizeof(with), "/%s", good[i]);
		assert_text(a->store, with, text);
	}
	for (size_t i = 0; i < n; i++) {
		snprintf(with, sizeof(with), "/%s", good[i]);
		assert_ok(kvfs_del(a->store, i % 2 ? good[i] : with));
		assert_absent(a->store, good[i]);
	}
}

/* Every byte that may stand in a name does. */
static void test_every_byte(void **state)
{
	struct api *a = *state;
	char key[4] = "b/?";

	for (int c = 1; c < 256; c++) {
		key[2] = (char)c;
		if (c != '/' && c != '.')
			assert_ok(kvfs_put(a->store, key, &c, 1, NULL, NULL));
	}
	for (int c = 1; c < 256; c++) {
		key[2] = (char)c;
		if (c != '/' && c != '.')
			assert_value(a->store, key, &c, 1);
	}
	struct kvfs_stat st;
	assert_ok(kvfs_stat(a->store, "b", &st));
	assert_int_equal(st.size, 253);
}

static void test_longest_keys(void **state)
{
	struct api *a = *state;
	char *name = name_of(255, '\xff'), *key = key_of(KVFS_KEY_MAX), *rooted = malloc(KVFS_KEY_MAX + 2);
	char *deep = malloc(KVFS_KEY_MAX + 1);

	assert_ok(api_put(a->store, name, "name"));
	assert_text(a->store, name, "name");
	assert_int_equal(strlen(key), KVFS_KEY_MAX);
	assert_ok(api_put(a->store, key, "key"));
	assert_text(a->store, key, "key");
	/* The leading '/' means nothing: it does not count either. */
	sprintf(rooted, "/%s", key);
	assert_text(a->store, rooted, "key");

	/* As deep as it goes: 2,048 components. */
	for (int i = 0; i < KVFS_KEY_MAX; i++)
		deep[i] = i % 2 ? '/' : 'd';
	deep[KVFS_KEY_MAX] = '\0';
	assert_ok(api_put(a->store, deep, "deep"));
	assert_text(a->store, deep, "deep");
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_NO_DIRS};
	struct kvfs_cursor *cur;
	struct kvfs_entry entry;
	int seen = 0;
	assert_ok(kvfs_list(a->store, "", &opt, &cur));
	while (kvfs_cursor_next(cur, &entry) == 1)
		seen += !strcmp(entry.key, deep) + !strcmp(entry.key, key) + !strcmp(entry.key, name);
	kvfs_cursor_close(cur);
	assert_int_equal(seen, 3);

	assert_ok(kvfs_rename(a->store, deep, "shallow", 0));
	assert_absent(a->store, "d");
	assert_ok(kvfs_rename(a->store, "shallow", deep, 0));
	assert_text(a->store, deep, "deep");
	uint64_t count;
	assert_ok(kvfs_del_tree(a->store, "d", &count));
	assert_int_equal(count, 2048);

	free(name);
	free(key);
	free(rooted);
	free(deep);
}

static void test_root(void **state)
{
	struct api *a = *state;
	struct kvfs_stat st;
	struct kvfs_cursor *cur;
	struct kvfs_stream *stream = NULL;
	struct kvfs_entry entry;
	void *data = NULL;
	size_t len;
	static const char *const roots[] = {"", "/"};

	for (int i = 0; i < 2; i++) {
		const char *root = roots[i];
		assert_null(kvfs_key_fault(root));
		assert_err(kvfs_exists(a->store, root), 1);
		assert_ok(kvfs_stat(a->store, root, &st));
		assert_int_equal(st.ino, 1);
		assert_int_equal(st.mode & S_IFMT, S_IFDIR);
		assert_err(kvfs_get(a->store, root, &data, &len), -EISDIR);
		assert_err(api_put(a->store, root, "v"), -EISDIR);
		assert_err(kvfs_append(a->store, root, "v", 1), -EISDIR);
		assert_err(kvfs_stream_open(a->store, root, KVFS_STREAM_READ, 0, &stream), -EISDIR);
		assert_err(kvfs_stream_open(a->store, root, KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &stream), -EISDIR);
		assert_err(kvfs_mkdir(a->store, root, 0755), -EEXIST);
		assert_err(kvfs_symlink(a->store, "x", root), -EEXIST);
		assert_err(kvfs_mknod(a->store, root, S_IFREG | 0644, 0), -EEXIST);
		assert_true(kvfs_del(a->store, root) < 0);
		assert_true(kvfs_rename(a->store, root, "x", 0) < 0);
		assert_ok(api_put(a->store, "v", "v"));
		assert_true(kvfs_rename(a->store, "v", root, 0) < 0);
		assert_true(kvfs_link(a->store, "v", root) < 0);
		assert_err(kvfs_link(a->store, root, "x"), -EPERM);
		assert_true(kvfs_del(a->store, root) < 0);
		assert_ok(kvfs_del_tree(a->store, root, NULL));
		assert_ok(kvfs_list(a->store, root, NULL, &cur));
		assert_err(kvfs_cursor_next(cur, &entry), 0);
		assert_err(kvfs_cursor_next(cur, &entry), 0);
		kvfs_cursor_close(cur);
	}
	assert_ok(kvfs_setxattr(a->store, "", "user.a", "v", 1, 0));
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0711};
	assert_ok(kvfs_setattr(a->store, "", &attr));
	assert_ok(kvfs_stat(a->store, "", &st));
	assert_int_equal(st.mode & 07777, 0711);
}

static void test_compare(void **state)
{
	static const char *const order[] = {"", "\x01", "!", "-", "a", "a/!", "a/b", "a/b/c", "a/b/c/d", "a/b!", "a/bb", "a!",
		"a!/x", "a-b", "a.b", "a0", "ab", "ab/a", "b", "\x7f", "\x80", "\xff", "\xff/a", "\xff\xff"};
	const int n = sizeof(order) / sizeof(*order);

	(void)state;
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			int c = kvfs_key_compare(order[i], order[j]);
			assert_int_equal(c < 0 ? -1 : c > 0, i < j ? -1 : i > j);
		}
	assert_int_equal(kvfs_key_compare("/a/b", "a/b"), 0);
	assert_int_equal(kvfs_key_compare("/", ""), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_illegal_keys),
		cmocka_unit_test(test_fault_says_the_rule),
		API_TEST(test_legal_keys),
		API_TEST(test_every_byte),
		API_TEST(test_longest_keys),
		API_TEST(test_root),
		cmocka_unit_test(test_compare),
	};

	return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
