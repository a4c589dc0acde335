/* Walks: random trees, random bounds, both directions, against the sorted list of all keys (contract, section 2: order). */
#include "support.h"

#include <kvfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core.h"
#include "dirent.h"

#define KEYS_MAX 400

struct tree {
	char *key[KEYS_MAX];
	bool dir[KEYS_MAX];
	size_t n;
};

static int by_key(const void *a, const void *b)
{
	return kvfs_key_compare(*(char *const *)a, *(char *const *)b);
}

static struct kvfs_store *open_store(void)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 1 << 28};
	struct kvfs_store *store;
	assert_ok(kvfs_open(support_store_path(), &opt, &store, NULL));
	return store;
}

/* Names that sort around '/' and around one another, one as long as a name can be. */
static void random_name(struct support_rng *rng, char *out)
{
	static const char *const parts[] = {"a", "b", "ab", "a!", "a-", "\x01", "\xff", "z", "abc", "a\xff"};
	if (support_below(rng, 60) == 0) {
		memset(out, support_below(rng, 2) ? 'a' : 0xff, KVFS_NAME_MAX);
		out[KVFS_NAME_MAX] = 0;
		return;
	}
	out[0] = 0;
	for (uint64_t i = support_below(rng, 2) + 1; i; i--)
		strcat(out, parts[support_below(rng, sizeof parts / sizeof *parts)]);
}

static void random_key(struct support_rng *rng, char *out)
{
	out[0] = 0;
	for (uint64_t depth = 1 + support_below(rng, 4); depth; depth--) {
		random_name(rng, out + strlen(out));
		if (depth > 1)
			strcat(out, "/");
	}
}

static bool has(const struct tree *t, const char *key)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->key[i], key) == 0)
			return true;
	return false;
}

static void add(struct tree *t, const char *key, bool dir)
{
	if (!has(t, key)) {
		t->key[t->n] = strdup(key);
		t->dir[t->n++] = dir;
	}
}

static void plant(struct support_rng *rng, struct kvfs_store *store, struct tree *t)
{
	char key[4 * (KVFS_NAME_MAX + 1) + 1];
	while (t->n < KEYS_MAX - 8) {
		random_key(rng, key);
		if (has(t, key) || kvfs_put(store, key, "", 0, NULL, NULL))
			continue;
		add(t, key, false);
		for (char *slash = strrchr(key, '/'); slash; slash = strrchr(key, '/')) {
			*slash = 0;
			add(t, key, true);
		}
	}
	/* sorted together with their kinds */
	char *sorted[KEYS_MAX];
	bool dir[KEYS_MAX];
	memcpy(sorted, t->key, sizeof sorted);
	qsort(sorted, t->n, sizeof *sorted, by_key);
	for (size_t i = 0; i < t->n; i++)
		for (size_t k = 0; k < t->n; k++)
			if (sorted[i] == t->key[k])
				dir[i] = t->dir[k];
	memcpy(t->key, sorted, sizeof sorted);
	memcpy(t->dir, dir, sizeof dir);
}

static void free_tree(struct tree *t)
{
	while (t->n)
		free(t->key[--t->n]);
}

/* Is the key, which lies in the store, to be listed? */
static bool wanted(const char *key, bool is_dir, const char *dir, const struct kvfs_list_options *o)
{
	size_t len = strlen(dir);
	const char *rest = key + len + (len > 0);
	if (len && (strncmp(key, dir, len) != 0 || key[len] != '/'))
		return false;
	if (!(o->flags & KVFS_LIST_RECURSIVE) && strchr(rest, '/'))
		return false;
	if (o->prefix && strncmp(key, o->prefix + (*o->prefix == '/'), strlen(o->prefix + (*o->prefix == '/'))) != 0)
		return false;
	if ((o->from && kvfs_key_compare(key, o->from) < 0) || (o->until && kvfs_key_compare(key, o->until) >= 0))
		return false;
	return !(is_dir && o->flags & KVFS_LIST_NO_DIRS);
}

static void compare(struct kvfs_store *store, const struct tree *t, const char *dir, const struct kvfs_list_options *o)
{
	struct kvfs_cursor *cur;
	struct kvfs_entry e;
	bool reverse = o->flags & KVFS_LIST_REVERSE;
	assert_ok(kvfs_list(store, dir, o, &cur));
	for (size_t i = 0; i < t->n; i++) {
		size_t at = reverse ? t->n - 1 - i : i;
		if (!wanted(t->key[at], t->dir[at], dir, o))
			continue;
		assert_count(kvfs_cursor_next(cur, &e), 1);
		assert_string_equal(e.key, t->key[at]);
		assert_int_equal((e.st.mode & S_IFMT) == S_IFDIR, t->dir[at]);
	}
	assert_count(kvfs_cursor_next(cur, &e), 0);
	kvfs_cursor_close(cur);
}

/* A bound near what is there: a key of the tree, one just beside it, or any. */
static const char *random_bound(struct support_rng *rng, const struct tree *t, char *buf)
{
	switch (support_below(rng, 5)) {
	case 0:
		return NULL;
	case 1:
		random_key(rng, buf);
		return buf;
	default:
		strcpy(buf, t->key[support_below(rng, t->n)]);
		if (support_below(rng, 3) == 0) {
			size_t len = strlen(buf);
			size_t name = len - (strrchr(buf, '/') ? (size_t)(strrchr(buf, '/') + 1 - buf) : 0);
			if (name < KVFS_NAME_MAX)
				strcpy(buf + len, support_below(rng, 2) ? "!" : "/x");
		}
		return buf;
	}
}

static const char *random_prefix(struct support_rng *rng, const struct tree *t, char *buf)
{
	if (support_below(rng, 2))
		return NULL;
	strcpy(buf, t->key[support_below(rng, t->n)]);
	size_t cut = support_below(rng, strlen(buf) + 1);
	if (support_below(rng, 4))
		buf[cut] = 0;
	else if (support_below(rng, 2))
		strcat(buf, "/");
	return buf;
}

static void lists_equal_the_sorted_tree(void **state)
{
	(void)state;
	for (uint64_t stream = 0; stream < 3; stream++) {
		struct support_rng rng = support_rng(stream);
		struct kvfs_store *store = open_store();
		struct tree t = {.n = 0};
		plant(&rng, store, &t);
		for (int i = 0; i < 700; i++) {
			char from[2000], until[2000], prefix[2000];
			struct kvfs_list_options o = {.size = sizeof o};
			o.flags = (unsigned)support_below(&rng, 16);
			o.from = random_bound(&rng, &t, from);
			o.until = random_bound(&rng, &t, until);
			o.prefix = random_prefix(&rng, &t, prefix);
			size_t dir = support_below(&rng, t.n);
			compare(store, &t, support_below(&rng, 3) && t.dir[dir] ? t.key[dir] : "", &o);
		}
		free_tree(&t);
		kvfs_close(store);
	}
}

/* More keys than one batch of a cursor, with and without a transaction around it. */
static void batches_join_without_a_seam(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_txn *txn;
	char key[32];
	assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
	for (int i = 0; i < 3000; i++) {
		snprintf(key, sizeof key, "d%02d/k%04d", i % 30, i);
		assert_ok(kvfs_txn_put(txn, key, "", 0, NULL));
	}
	assert_ok(kvfs_txn_commit(&txn));
	for (unsigned reverse = 0; reverse < 2; reverse++) {
		struct kvfs_list_options o = {.size = sizeof o, .flags = KVFS_LIST_RECURSIVE | (reverse ? KVFS_LIST_REVERSE : 0)};
		struct kvfs_cursor *cur;
		struct kvfs_entry e;
		char last[32] = "";
		int n = 0;
		assert_ok(kvfs_list(store, "", &o, &cur));
		for (; kvfs_cursor_next(cur, &e) == 1; n++) {
			if (n)
				assert_true(reverse ? kvfs_key_compare(e.key, last) < 0 : kvfs_key_compare(e.key, last) > 0);
			strcpy(last, e.key);
		}
		assert_int_equal(n, 3030);
		kvfs_cursor_close(cur);
	}
	kvfs_close(store);
}

/* Deletes what it lists, as `kvfs del` by a list would: nothing is left out. */
static void keys_deleted_behind_the_cursor_are_no_trouble(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_list_options o = {.size = sizeof o, .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_NO_DIRS};
	struct kvfs_cursor *cur;
	struct kvfs_entry e;
	char key[32];
	for (int i = 0; i < 700; i++) {
		snprintf(key, sizeof key, "d%d/k%03d", i / 300, i);
		assert_ok(kvfs_put(store, key, "", 0, NULL, NULL));
	}
	assert_ok(kvfs_list(store, "", &o, &cur));
	int n = 0, r;
	while ((r = kvfs_cursor_next(cur, &e)) == 1) {
		assert_ok(kvfs_del(store, e.key));
		n++;
	}
	assert_int_equal(r, 0);
	assert_int_equal(n, 700);
	kvfs_cursor_close(cur);
	assert_count(kvfs_exists(store, "d0"), 0);
	kvfs_close(store);
}

/* A prefix is no key: a component of it may be longer than any name. */
static void a_prefix_may_be_longer_than_a_name(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	char name[KVFS_NAME_MAX + 1], prefix[KVFS_KEY_MAX + 1];
	struct kvfs_entry e;
	memset(name, 0xff, KVFS_NAME_MAX);
	name[KVFS_NAME_MAX] = 0;
	assert_ok(kvfs_put(store, name, "", 0, NULL, NULL));
	assert_ok(kvfs_put(store, "d/x", "", 0, NULL, NULL));
	for (size_t len = KVFS_NAME_MAX - 1; len <= KVFS_KEY_MAX; len = len < KVFS_NAME_MAX + 3 ? len + 1 : len * 2)
		for (unsigned flags = 0; flags < 4; flags++) {
			struct kvfs_list_options o = {.size = sizeof o, .flags = flags, .prefix = prefix};
			struct kvfs_cursor *cur;
			memset(prefix, 0xff, len);
			prefix[len] = 0;
			assert_ok(kvfs_list(store, "", &o, &cur));
			assert_count(kvfs_cursor_next(cur, &e), len <= KVFS_NAME_MAX);
			kvfs_cursor_close(cur);
		}
	kvfs_close(store);
}

/* The deepest key that can be said: 2,048 components, the last one a directory or a value. */
static void the_deepest_tree_is_listed(void **state)
{
	(void)state;
	char key[KVFS_KEY_MAX + 1];
	for (size_t i = 0; i < KVFS_KEY_MAX; i++)
		key[i] = i % 2 ? '/' : 'a';
	key[KVFS_KEY_MAX] = 0;
	for (int dir = 0; dir < 2; dir++) {
		struct kvfs_store *store = open_store();
		if (dir)
			assert_ok(kvfs_mkdir(store, key, 0755));
		else
			assert_ok(kvfs_put(store, key, "", 0, NULL, NULL));
		for (unsigned reverse = 0; reverse < 2; reverse++) {
			struct kvfs_list_options o = {
				.size = sizeof o, .flags = KVFS_LIST_RECURSIVE | (reverse ? KVFS_LIST_REVERSE : 0)};
			struct kvfs_cursor *cur;
			struct kvfs_entry e;
			int n = 0, r;
			assert_ok(kvfs_list(store, "", &o, &cur));
			while ((r = kvfs_cursor_next(cur, &e)) == 1)
				n++;
			assert_int_equal(r, 0);
			assert_int_equal(n, 2048);
			kvfs_cursor_close(cur);
		}
		kvfs_close(store);
	}
}

/* A crafted entry that leads back to a directory above it. */
static void a_ring_ends_the_walk(void **state)
{
	struct kvfs_store *store = open_store();
	struct kvfs_stat st;
	struct kv_txn txn;
	(void)state;
	assert_ok(kvfs_put(store, "a/b/key", "", 0, NULL, NULL));
	assert_ok(kvfs_stat(store, "a", &st));
	uint64_t a = st.ino;
	assert_ok(kvfs_stat(store, "a/b", &st));
	assert_ok(kv_db_write(store->core->db, &txn));
	assert_ok(kv_dirent_put(&txn, st.ino, "ring", 4, (struct kv_dirent){.ino = a, .type = S_IFDIR}));
	assert_ok(kv_db_commit(&txn, KV_SYNC_LEVEL));
	for (unsigned reverse = 0; reverse < 2; reverse++) {
		struct kvfs_list_options o = {.size = sizeof o, .flags = KVFS_LIST_RECURSIVE | (reverse ? KVFS_LIST_REVERSE : 0)};
		struct kvfs_cursor *cur;
		struct kvfs_entry e;
		int n = 0, r;
		assert_ok(kvfs_list(store, "", &o, &cur));
		while ((r = kvfs_cursor_next(cur, &e)) == 1)
			n++;
		assert_int_equal(r, -EUCLEAN);
		assert_true(n <= 4);
		kvfs_cursor_close(cur);
	}
	kvfs_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_equal_the_sorted_tree),
		cmocka_unit_test(batches_join_without_a_seam),
		cmocka_unit_test(keys_deleted_behind_the_cursor_are_no_trouble),
		cmocka_unit_test(a_prefix_may_be_longer_than_a_name),
		cmocka_unit_test(the_deepest_tree_is_listed),
		cmocka_unit_test(a_ring_ends_the_walk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
