/* Lists: order, directions, bounds and prefixes against a plain sorted array; memory; changes under a moving cursor. */
#include "api.h"

#include <malloc.h>

enum { MAX = 2000 };

/* All keys of a store, directories too, in list order. */
struct keys {
	char *key[MAX];
	bool dir[MAX];
	int n;
};

static int by_key(const void *a, const void *b)
{
	return kvfs_key_compare(*(char *const *)a, *(char *const *)b);
}

static void add_key(struct keys *k, const char *key, size_t len)
{
	for (int i = 0; i < k->n; i++)
		if (strlen(k->key[i]) == len && !memcmp(k->key[i], key, len))
			return;
	assert_true(k->n < MAX);
	k->key[k->n++] = strndup(key, len);
}

/* Puts `n` random keys of few letters, those that the order turns on among them. */
static void make_keys(struct kvfs_store *store, struct support_rng *rng, struct keys *k, int n)
{
	static const char letters[] = "aab!-.\x01\xff";
	char key[64];

	k->n = 0;
	for (int i = 0; i < n; i++) {
		size_t len = 0, depth = 1 + support_below(rng, 4);
		for (size_t d = 0; d < depth; d++) {
			if (d)
				key[len++] = '/';
			key[len++] = "abc\xff!"[support_below(rng, 5)];
			for (size_t c = support_below(rng, 4); c > 0; c--)
				key[len++] = letters[support_below(rng, sizeof(letters) - 1)];
		}
		key[len] = '\0';
		int rc = api_put(store, key, key);
		if (rc == -EISDIR || rc == -ENOTDIR)
			continue;
		assert_ok(rc);
		for (size_t c = 1; c <= len; c++)
			if (key[c] == '/' || key[c] == '\0')
				add_key(k, key, c);
	}
	qsort(k->key, (size_t)k->n, sizeof(*k->key), by_key);
	for (int i = 0; i < k->n; i++) {
		size_t len = strlen(k->key[i]);
		k->dir[i] = i + 1 < k->n && !strncmp(k->key[i + 1], k->key[i], len) && k->key[i + 1][len] == '/';
	}
}

static void free_keys(struct keys *k)
{
	for (int i = 0; i < k->n; i++)
		free(k->key[i]);
}

static bool wanted(const struct keys *k, int i, const char *dir, const struct kvfs_list_options *opt)
{
	const char *key = k->key[i];
	size_t len = strlen(dir);

	if (len && (strncmp(key, dir, len) || key[len] != '/'))
		return false;
	if (!(opt->flags & KVFS_LIST_RECURSIVE) && strchr(key + len + (len > 0), '/'))
		return false;
	if ((opt->flags & KVFS_LIST_NO_DIRS) && k->dir[i])
		return false;
	if (opt->prefix && strncmp(key, opt->prefix, strlen(opt->prefix)))
		return false;
	if (opt->from && kvfs_key_compare(key, opt->from) < 0)
		return false;
	return !opt->until || kvfs_key_compare(key, opt->until) < 0;
}

static void check_entry(const struct kvfs_entry *e, const char *want, bool dir, const struct kvfs_list_options *opt)
{
	const char *slash = strrchr(want, '/');

	assert_string_equal(e->key, want);
	assert_string_equal(e->name, slash ? slash + 1 : want);
	assert_true(e->name >= e->key && e->name <= e->key + strlen(e->key));
	assert_int_equal(e->st.mode & S_IFMT, dir ? S_IFDIR : S_IFREG);
	assert_true(e->st.ino > 1);
	if ((opt->flags & KVFS_LIST_STAT) && !dir)
		assert_true(e->st.size == strlen(want) && e->st.nlink == 1 && e->st.mtime.tv_sec > 0 && e->st.version > 0);
}

/* Compares one list with the array; says which on failure. */
static void check_list(struct kvfs_cursor *cur, const struct keys *k, const char *dir, const struct kvfs_list_options *opt)
{
	struct kvfs_entry e;
	bool back = opt->flags & KVFS_LIST_REVERSE;
	int rc = 0;

	for (int at = 0; at < k->n; at++) {
		int i = back ? k->n - 1 - at : at;
		if (!wanted(k, i, dir, opt))
			continue;
		rc = kvfs_cursor_next(cur, &e);
		if (rc != 1 || strcmp(e.key, k->key[i]))
			print_error("list '%s' flags %u prefix '%s' from '%s' until '%s': %d '%s', not '%s'\n", dir, opt->flags,
				opt->prefix ? opt->prefix : "(none)", opt->from ? opt->from : "(none)",
				opt->until ? opt->until : "(none)", rc, rc == 1 ? e.key : "", k->key[i]);
		assert_count(rc, 1);
		check_entry(&e, k->key[i], k->dir[i], opt);
	}
	rc = kvfs_cursor_next(cur, &e);
	if (rc == 1)
		print_error("list '%s' flags %u prefix '%s' from '%s' until '%s': '%s' after its end\n", dir, opt->flags,
			opt->prefix ? opt->prefix : "(none)", opt->from ? opt->from : "(none)", opt->until ? opt->until : "(none)",
			e.key);
	assert_err(rc, 0);
	assert_err(kvfs_cursor_next(cur, &e), 0);
}

/* A bound or prefix: a key that is there, or part of one, or one with a byte more. */
static char *some_key(struct support_rng *rng, const struct keys *k)
{
	char *key = malloc(80);
	size_t len;

	strcpy(key, k->key[support_below(rng, (uint64_t)k->n)]);
	len = strlen(key);
	switch (support_below(rng, 4)) {
	case 0:
		key[1 + support_below(rng, len)] = '\0';
		break;
	case 1:
		strcat(key, support_below(rng, 2) ? "a" : "\x01");
		break;
	}
	return key;
}

static void test_lists_against_an_array(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(1);
	struct keys *k = calloc(1, sizeof(*k));
	struct kvfs_txn *txn;

	make_keys(a->store, &rng, k, 300);
	assert_ok(kvfs_txn_begin(a->store, 0, &txn));
	for (unsigned round = 0; round < api_times(4000); round++) {
		struct kvfs_list_options opt = {.size = sizeof(opt), .flags = (unsigned)support_below(&rng, 16)};
		char *prefix = support_below(&rng, 3) ? NULL : some_key(&rng, k),
		     *from = support_below(&rng, 3) ? NULL : some_key(&rng, k);
		char *until = support_below(&rng, 3) ? NULL : some_key(&rng, k);
		int at = (int)support_below(&rng, (uint64_t)k->n);
		const char *dir = k->dir[at] && support_below(&rng, 2) ? k->key[at] : "";
		struct kvfs_cursor *cur;

		/* A bound is a key; a prefix may be any bytes. */
		if (from && kvfs_key_fault(from))
			from[strlen(from) - 1] = '\0';
		if (until && kvfs_key_fault(until))
			until[strlen(until) - 1] = '\0';
		opt.prefix = prefix;
		opt.from = from;
		opt.until = until;
		if (round % 4)
			assert_ok(kvfs_list(a->store, dir, &opt, &cur));
		else
			assert_ok(kvfs_txn_list(txn, dir, &opt, &cur));
		/* Its strings are copied. */
		struct kvfs_list_options same = opt;
		opt.prefix = opt.from = opt.until = "scribble";
		check_list(cur, k, dir, &same);
		kvfs_cursor_close(cur);
		free(prefix);
		free(from);
		free(until);
	}
	kvfs_txn_abort(txn);
	free_keys(k);
	free(k);
}

static void test_errors(void **state)
{
	struct api *a = *state;
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = 1u << 20};
	struct kvfs_cursor *cur = NULL;
	struct kvfs_entry e;

	assert_ok(api_put(a->store, "d/k", "v"));
	assert_err(kvfs_list(a->store, "none", NULL, &cur), -ENOENT);
	assert_err(kvfs_list(a->store, "d/k", NULL, &cur), -ENOTDIR);
	int rc = kvfs_list(a->store, "d/k/x", NULL, &cur);
	assert_true(rc == -ENOTDIR || rc == -ENOENT);
	assert_err(kvfs_list(a->store, "", &opt, &cur), -EINVAL);
	assert_null(cur);
	kvfs_cursor_close(NULL);
	assert_ok(kvfs_list(a->store, "/d", NULL, &cur));
	assert_count(kvfs_cursor_next(cur, &e), 1);
	assert_string_equal(e.key, "d/k");
	kvfs_cursor_close(cur);
	/* The directory goes while it is listed. */
	assert_ok(kvfs_list(a->store, "d", NULL, &cur));
	assert_ok(kvfs_del(a->store, "d/k"));
	rc = kvfs_cursor_next(cur, &e);
	assert_true(rc == 0 || rc == 1 || rc == -ENOENT);
	kvfs_cursor_close(cur);
}

/* ---- many ---- */

static long anonymous_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long kib = -1;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "RssAnon: %ld", &kib);
	fclose(f);
	return kib;
}

static void put_many(struct kvfs_store *store, const char *dir, int n)
{
	struct kvfs_txn *txn;
	char key[64];

	for (int i = 0; i < n;) {
		assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
		for (int end = i + KVFS_TXN_OPS_MAX; i < n && i < end; i++) {
			snprintf(key, sizeof(key), "%s/some-rather-long-name-%08d", dir, i);
			assert_ok(kvfs_txn_put(txn, key, &i, sizeof(i), NULL));
		}
		assert_ok(kvfs_txn_commit(&txn));
	}
}

static void walk_many(struct kvfs_store *store, unsigned flags, int n)
{
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = flags};
	struct kvfs_cursor *cur;
	struct kvfs_entry e;
	int seen = 0, rc;
	char name[40];

	malloc_trim(0);
	long before = anonymous_kib(), most = before;
	assert_ok(kvfs_list(store, "many", &opt, &cur));
	while ((rc = kvfs_cursor_next(cur, &e)) == 1) {
		snprintf(name, sizeof(name), "some-rather-long-name-%08d", flags & KVFS_LIST_REVERSE ? n - 1 - seen : seen);
		if (strcmp(e.name, name))
			fail_msg("'%s', not '%s'", e.name, name);
		if (++seen % 1000 == 0 && anonymous_kib() > most)
			most = anonymous_kib();
	}
	assert_err(rc, 0);
	kvfs_cursor_close(cur);
	assert_int_equal(seen, n);
	print_message("\tflags %u: %ld KiB more while %d keys went by\n", flags, most - before, n);
	assert_true(api_is_slow() || most - before < 2048);
}

static void test_many_keys_in_little_memory(void **state)
{
	struct api *a = *state;
	const int n = api_is_slow() ? 20000 : 100000;

	put_many(a->store, "many", n);
	walk_many(a->store, 0, n);
	walk_many(a->store, KVFS_LIST_RECURSIVE | KVFS_LIST_STAT, n);
	walk_many(a->store, KVFS_LIST_REVERSE, n);
	struct kvfs_stat st;
	assert_ok(kvfs_stat(a->store, "many", &st));
	assert_int_equal(st.size, n);
	uint64_t count;
	assert_ok(kvfs_del_tree(a->store, "many", &count));
	assert_int_equal(count, n + 1);
	assert_absent(a->store, "many");
}

/* A `from` far into a directory is found, not walked to. */
static void test_from_is_found(void **state)
{
	struct api *a = *state;
	const int n = 20000;
	char from[64];

	put_many(a->store, "many", n);
	uint64_t start = api_now_ms();
	for (int i = 0; i < 200; i++) {
		snprintf(from, sizeof(from), "many/some-rather-long-name-%08d", n - 1 - i);
		for (unsigned flags = 0; flags <= KVFS_LIST_RECURSIVE; flags += KVFS_LIST_RECURSIVE) {
			struct kvfs_list_options opt = {.size = sizeof(opt), .from = from, .flags = flags};
			struct kvfs_cursor *cur;
			struct kvfs_entry e;
			assert_ok(kvfs_list(a->store, flags ? "" : "many", &opt, &cur));
			assert_count(kvfs_cursor_next(cur, &e), 1);
			assert_string_equal(e.key, from);
			kvfs_cursor_close(cur);
		}
	}
	uint64_t ms = api_now_ms() - start;
	print_message("\t400 lists from far inside: %" PRIu64 " ms\n", ms);
	assert_true(api_is_slow() || ms < 1500);
}

/* ---- changes while it moves ---- */

/* Keys "s..." stay as they are, everything else comes and goes: each stable one is listed exactly once and in order. */
static void churn(struct kvfs_store *store, struct support_rng *rng)
{
	char key[64], other[64];

	sprintf(key, "d%d/c%d/x%d", (int)support_below(rng, 6), (int)support_below(rng, 4), (int)support_below(rng, 9));
	sprintf(other, "d%d/t%d", (int)support_below(rng, 6), (int)support_below(rng, 40));
	switch (support_below(rng, 6)) {
	case 0:
	case 1:
		assert_ok(api_put(store, key, "v"));
		break;
	case 2:
		(void)!kvfs_del(store, key);
		break;
	case 3:
		(void)!kvfs_rename(store, key, other, 0);
		break;
	case 4:
		(void)!kvfs_del(store, other);
		break;
	default:
		*strrchr(key, '/') = '\0';
		(void)!kvfs_del_tree(store, key, NULL);
	}
}

static void test_changes_while_it_moves(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(2);
	char key[64];
	struct kvfs_entry e;
	struct kvfs_cursor *cur;

	for (int i = 0; i < 600; i++) {
		sprintf(key, "d%d/s%03d%s", i / 100, i % 100, i % 10 ? "" : "/deep/er");
		assert_ok(api_put(a->store, key, "stable"));
	}
	for (unsigned round = 0; round < api_times(24); round++) {
		struct kvfs_list_options opt = {.size = sizeof(opt),
			.flags = KVFS_LIST_RECURSIVE | KVFS_LIST_NO_DIRS | (round % 2 ? KVFS_LIST_REVERSE : 0) |
				 (round % 4 < 2 ? KVFS_LIST_STAT : 0)};
		int seen = 0, rc;
		char last[64] = "";

		assert_ok(kvfs_list(a->store, "", &opt, &cur));
		while ((rc = kvfs_cursor_next(cur, &e)) == 1) {
			if (*last)
				assert_true((kvfs_key_compare(last, e.key) < 0) == (round % 2 == 0));
			strcpy(last, e.key);
			int i = round % 2 ? 599 - seen : seen;
			sprintf(key, "d%d/s%03d%s", i / 100, i % 100, i % 10 ? "" : "/deep/er");
			seen += !strcmp(e.key, key);
			if (e.key[3] == 's')
				assert_string_equal(e.key, key);
			churn(a->store, &rng);
			churn(a->store, &rng);
		}
		assert_err(rc, 0);
		assert_int_equal(seen, 600);
		kvfs_cursor_close(cur);
	}
}

/* In reverse a directory comes after what is in it: meanwhile it may have gone, or have another name. */
static void test_directories_that_go_meanwhile(void **state)
{
	struct api *a = *state;
	struct kvfs_list_options opt = {
		.size = sizeof(opt), .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_REVERSE | KVFS_LIST_STAT, .from = "b"};
	struct kvfs_entry e;
	struct kvfs_cursor *cur;

	assert_ok(api_put(a->store, "a", "before"));
	assert_ok(api_put(a->store, "b", "before"));
	for (int renamed = 0; renamed < 2; renamed++) {
		put_many(a->store, "d/d", 300);
		assert_ok(kvfs_list(a->store, "", &opt, &cur));
		assert_int_equal(kvfs_cursor_next(cur, &e), 1);
		assert_string_equal(e.name, "some-rather-long-name-00000299");
		assert_ok(renamed ? kvfs_rename(a->store, "d", "z", 0) : kvfs_del_tree(a->store, "d", NULL));
		while (strcmp(e.key, "b") != 0) {
			assert_false(S_ISDIR(e.st.mode) && renamed && !strcmp(e.key, "d"));
			assert_int_equal(kvfs_cursor_next(cur, &e), 1);
		}
		assert_int_equal(kvfs_cursor_next(cur, &e), 0);
		kvfs_cursor_close(cur);
	}
}

/* In a transaction the list is of its snapshot, whatever goes on. */
static void test_transaction_lists_its_snapshot(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(3);
	struct keys *k = calloc(1, sizeof(*k));
	struct kvfs_txn *txn;
	struct kvfs_cursor *cur;
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT};

	make_keys(a->store, &rng, k, 200);
	assert_ok(kvfs_txn_begin(a->store, KVFS_TXN_WRITE, &txn));
	assert_ok(kvfs_txn_put(txn, "own", "not in its own list", 19, NULL));
	assert_ok(kvfs_txn_list(txn, "", &opt, &cur));
	assert_ok(kvfs_del_tree(a->store, "", NULL));
	assert_ok(api_put(a->store, "zzz", "v"));
	check_list(cur, k, "", &opt);
	kvfs_cursor_close(cur);
	assert_ok(kvfs_txn_list(txn, "", &opt, &cur));
	check_list(cur, k, "", &opt);
	kvfs_cursor_close(cur);
	kvfs_txn_abort(txn);
	free_keys(k);
	free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_lists_against_an_array),
		API_TEST(test_errors),
		API_TEST(test_many_keys_in_little_memory),
		API_TEST(test_from_is_found),
		API_TEST(test_changes_while_it_moves),
		API_TEST(test_directories_that_go_meanwhile),
		API_TEST(test_transaction_lists_its_snapshot),
	};

	return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
