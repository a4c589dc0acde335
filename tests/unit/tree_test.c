/* Trees in the map: what is sound is found, in order; whatever is wrong with a page, nobody uses it.  The trees are made by hand: a branch page
 * over three leaves of five records each, key10 key12 .. key18, key20 .. key28, key30 .. key38, and beside it a list of free pages. */
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tree.h"

enum { PAGE = 4096, BRANCH = 2, LEAF = 3, BIG = 6, FREE = 8, SPARE = 9, PAGES = 12 };

struct world {
	uint8_t *file;
	int fd;
	struct kv_map map;
	struct kv_tree tree, free;
};

/* ---- making pages ---- */

static uint8_t *page_of(struct world *w, uint64_t no)
{
	return w->file + no * PAGE;
}

static struct kv_lmdb_page *head_of(struct world *w, uint64_t no)
{
	return (struct kv_lmdb_page *)page_of(w, no);
}

static void make_page(struct world *w, uint64_t no, unsigned flags)
{
	memset(page_of(w, no), 0, PAGE);
	*head_of(w, no) = (struct kv_lmdb_page){.page_no = no, .flags = (uint16_t)flags, .lower = 16, .upper = PAGE};
}

static struct kv_lmdb_node *add(struct world *w, uint64_t no, const void *key, size_t key_len, const void *value, size_t len)
{
	struct kv_lmdb_page *head = head_of(w, no);
	size_t size = (sizeof(struct kv_lmdb_node) + key_len + len + 1) & ~(size_t)1;
	head->upper = (uint16_t)(head->upper - size);
	uint16_t at = head->upper;
	memcpy(page_of(w, no) + head->lower, &at, sizeof at);
	head->lower = (uint16_t)(head->lower + 2);
	struct kv_lmdb_node *node = (struct kv_lmdb_node *)(page_of(w, no) + at);
	*node = (struct kv_lmdb_node){.lo = (uint16_t)len, .key_size = (uint16_t)key_len};
	memcpy(node->key, key, key_len);
	memcpy(node->key + key_len, value, len);
	return node;
}

static void add_child(struct world *w, uint64_t no, const char *key, uint64_t child)
{
	add(w, no, key, strlen(key), "", 0)->lo = (uint16_t)child;
}

static void add_free(struct world *w, uint64_t txn, const uint64_t *pages, uint64_t n)
{
	uint64_t list[8] = {n};
	memcpy(list + 1, pages, n * sizeof *pages);
	add(w, FREE, &txn, sizeof txn, list, (n + 1) * sizeof *list);
}

static void make_leaf(struct world *w, uint64_t no, int from)
{
	char key[8];
	make_page(w, no, KV_PAGE_LEAF);
	for (int i = 0; i < 10; i += 2) {
		sprintf(key, "key%d", from + i);
		add(w, no, key, 5, key, 5);
	}
}

/* key28 has a value in two pages of its own. */
static void make_big(struct world *w)
{
	uint64_t page = BIG;
	struct kv_lmdb_node *node = kv_page_node(page_of(w, LEAF + 1), 4);
	head_of(w, LEAF + 1)->lower = (uint16_t)(head_of(w, LEAF + 1)->lower - 2);
	head_of(w, LEAF + 1)->upper = (uint16_t)((uint8_t *)node - page_of(w, LEAF + 1) + 18);
	node = add(w, LEAF + 1, "key28", 5, &page, sizeof page);
	node->flags = KV_NODE_OVERFLOW;
	node->lo = 5000;
	make_page(w, BIG, KV_PAGE_OVERFLOW);
	head_of(w, BIG)->lower = 2;
	head_of(w, BIG)->upper = 0;
	memset(page_of(w, BIG) + 16, 'x', 5000);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	char path[200];
	snprintf(path, sizeof path, "%s/file", support_tmpdir());
	w->fd = open(path, O_RDWR | O_CREAT, 0600);
	if (ftruncate(w->fd, PAGES * PAGE))
		return -1;
	w->file = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	make_page(w, BRANCH, KV_PAGE_BRANCH);
	add_child(w, BRANCH, "", LEAF);
	add_child(w, BRANCH, "key20", LEAF + 1);
	add_child(w, BRANCH, "key30", LEAF + 2);
	for (int i = 0; i < 3; i++)
		make_leaf(w, LEAF + (uint64_t)i, 10 + 10 * i);
	make_big(w);
	make_page(w, FREE, KV_PAGE_LEAF);
	add_free(w, 5, (uint64_t[]){11, 10}, 2);
	w->tree = (struct kv_tree){.root = BRANCH, .depth = 2, .end = PAGES, .table = 7};
	w->free = (struct kv_tree){.root = FREE, .depth = 1, .end = PAGES, .entries = 1, .numbers = true};
	assert_ok(kv_map_open(&w->map, w->fd, PAGE, 1 << 20));
	kv_map_set_base(&w->map, w->file, 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	kv_map_close(&w->map);
	munmap(w->file, PAGES * PAGE);
	close(w->fd);
	free(w);
	return 0;
}

/* ---- calls ---- */

static bool all_sound(unsigned table, struct kv_bytes key, struct kv_bytes value)
{
	assert_int_equal(table, 7);
	if (value.len == 5000)
		return key.len == 5 && memcmp(key.data, "key28", 5) == 0;
	return key.len == value.len && memcmp(key.data, value.data, key.len) == 0;
}

static int find(struct world *w, const char *key)
{
	struct kv_record rec;
	return kv_tree_find(&w->map, &w->tree, key, strlen(key), all_sound, &rec);
}

static int prepare(struct world *w, const char *key)
{
	return kv_tree_prepare(&w->map, &w->tree, key, strlen(key), 0);
}

static int walk(struct world *w, bool back, int *ret_n)
{
	struct kv_finger p;
	kv_finger_init(&p, &w->map, &w->tree);
	int n = 0, r = back ? kv_finger_last(&p) : kv_finger_seek(&p, NULL, 0);
	for (; r == 0 && n < 1000; n++)
		r = back ? kv_finger_prev(&p) : kv_finger_next(&p);
	*ret_n = n;
	return r;
}

static int check(struct world *w)
{
	const struct kv_tree *trees[] = {&w->tree};
	return kv_map_check(&w->map, &w->free, trees, 1, 100);
}

/* ---- what is sound ---- */

static void test_finding(void **state)
{
	struct world *w = *state;
	struct kv_finger p;
	struct kv_record rec;
	char key[16], want[16];
	for (int i = 8; i < 42; i++) {
		sprintf(key, "key%02d", i);
		bool there = i >= 10 && i < 40 && i % 2 == 0;
		assert_err(find(w, key), there ? 0 : -ENOENT);
		assert_ok(prepare(w, key));
		kv_finger_init(&p, &w->map, &w->tree);
		assert_err(kv_finger_seek(&p, key, 5), i < 39 ? 0 : -ENOENT);
		if (i >= 39)
			continue;
		sprintf(want, "key%02d", i < 10 ? 10 : i + i % 2);
		assert_ok(kv_finger_get(&p, true, &rec));
		assert_memory_equal(rec.key.data, want, 5);
	}
	int n;
	assert_err(walk(w, false, &n), -ENOENT);
	assert_int_equal(n, 15);
	assert_err(walk(w, true, &n), -ENOENT);
	assert_int_equal(n, 15);
	assert_ok(kv_tree_find(&w->map, &w->tree, "key28", 5, all_sound, &rec));
	assert_int_equal(rec.value.len, 5000);
	assert_int_equal(*(const char *)rec.value.data, 'x');
	uint64_t pages, txns;
	assert_ok(check(w));
	assert_ok(kv_tree_count_free(&w->map, &w->free, &pages, &txns));
	assert_true(pages == 2 && txns == 1);
}

/* ---- what is not ---- */

/* Each spoils something; the key that then cannot be found, and one that can. */
static void spoil_number(struct world *w)
{
	head_of(w, LEAF + 1)->page_no = SPARE;
}

static void spoil_kind(struct world *w)
{
	head_of(w, LEAF + 1)->flags = KV_PAGE_BRANCH;
}

static void spoil_lower(struct world *w)
{
	head_of(w, LEAF + 1)->lower += 2;
}

static void spoil_upper(struct world *w)
{
	head_of(w, LEAF + 1)->upper -= 8;
}

static void spoil_overlap(struct world *w)
{
	uint8_t *page = page_of(w, LEAF + 1);
	memcpy(page + 18, page + 16, 2);
}

static void spoil_length(struct world *w)
{
	kv_page_node(page_of(w, LEAF + 1), 2)->lo = 4000;
}

static void spoil_order(struct world *w)
{
	kv_page_node(page_of(w, LEAF + 1), 1)->key[4] = '6';
}

static void spoil_range(struct world *w)
{
	make_leaf(w, LEAF + 1, 40);
}

static void spoil_child_outside(struct world *w)
{
	kv_page_node(page_of(w, BRANCH), 1)->lo = PAGES;
}

static void spoil_child_loop(struct world *w)
{
	kv_page_node(page_of(w, BRANCH), 1)->lo = BRANCH;
}

static void spoil_child_other(struct world *w)
{
	kv_page_node(page_of(w, BRANCH), 1)->lo = LEAF + 2;
}

static void test_damaged_pages(void **state)
{
	static void (*const spoils[])(struct world *) = {spoil_number, spoil_kind, spoil_lower, spoil_upper, spoil_overlap,
		spoil_length, spoil_order, spoil_range, spoil_child_outside, spoil_child_loop, spoil_child_other};
	(void)state;
	for (size_t i = 0; i < sizeof spoils / sizeof *spoils; i++) {
		void *made;
		int n;
		setup(&made);
		struct world *w = made;
		spoils[i](w);
		print_message("\tspoiled: %zu\n", i);
		assert_err(find(w, "key24"), -EUCLEAN);
		assert_ok(find(w, "key14"));
		/* a neighbour is enough for who will change it, and for who walks past it */
		assert_err(prepare(w, "key14"), -EUCLEAN);
		assert_err(walk(w, false, &n), -EUCLEAN);
		assert_int_equal(n, 5);
		assert_err(walk(w, true, &n), -EUCLEAN);
		assert_err(check(w), -EUCLEAN);
		teardown(&made);
	}
}

static void test_depth(void **state)
{
	struct world *w = *state;
	for (unsigned depth = 0; depth < 70; depth++)
		if (depth != 2) {
			w->tree.depth = (uint16_t)depth;
			assert_err(find(w, "key14"), -EUCLEAN);
			assert_err(prepare(w, "key14"), -EUCLEAN);
		}
	w->tree.root = 0;
	assert_err(find(w, "key14"), -EUCLEAN);
	w->tree.root = KV_NO_PAGE;
	for (uint16_t depth = 0; depth < 2; depth++)
		for (uint64_t entries = 0; entries < 2; entries++) {
			w->tree.depth = depth;
			w->tree.entries = entries;
			assert_err(find(w, "key14"), depth || entries ? -EUCLEAN : -ENOENT);
		}
}

/* Two pages that lead to each other's keys in turn: a walk ends. */
static void test_circles(void **state)
{
	struct world *w = *state;
	int n;
	make_page(w, BRANCH, KV_PAGE_BRANCH);
	add_child(w, BRANCH, "", LEAF);
	for (int i = 0; i < 8; i++)
		add_child(w, BRANCH, (char[]){'l', (char)('a' + i), 0}, LEAF);
	assert_ok(find(w, "key14"));
	assert_err(walk(w, false, &n), -EUCLEAN);
	assert_int_equal(n, 5);
	assert_err(prepare(w, "lc"), -EUCLEAN);
	assert_err(check(w), -EUCLEAN);
}

/* M4: not found is not enough. */
static void test_absence(void **state)
{
	struct world *w = *state;
	kv_page_node(page_of(w, LEAF), 2)->key[4] = '5'; /* key14 rotted to key15 */
	assert_err(find(w, "key14"), -EUCLEAN);
	assert_err(find(w, "key13"), -EUCLEAN);
	assert_ok(find(w, "key16"));
	/* the branch page says that key20 and key22 are in the first leaf, or key18 in the second */
	kv_page_node(page_of(w, LEAF), 2)->key[4] = '4';
	kv_page_node(page_of(w, BRANCH), 1)->key[4] = '3';
	assert_err(find(w, "key22"), -EUCLEAN);
	assert_ok(find(w, "key12"));
	make_leaf(w, LEAF + 1, 20);
	memcpy(kv_page_node(page_of(w, BRANCH), 1)->key, "key17", 5);
	assert_err(find(w, "key18"), -EUCLEAN);
}

/* So is a key that rotted where the value has pages of its own, to what is less or more. */
static void test_absence_beside_large_values(void **state)
{
	struct world *w = *state;
	assert_err(find(w, "key27"), -ENOENT);
	assert_err(find(w, "key29"), -ENOENT);
	for (char c = '7'; c <= '9'; c = (char)(c + 2)) {
		kv_page_node(page_of(w, LEAF + 1), 4)->key[4] = c;
		assert_err(find(w, "key28"), -EUCLEAN);
		assert_err(find(w, "key25"), -ENOENT);
	}
}

/* A page that is known from its own place is led to from another. */
static void test_another_way(void **state)
{
	struct world *w = *state;
	int n;
	assert_ok(find(w, "key34"));
	spoil_child_other(w);
	assert_err(find(w, "key24"), -EUCLEAN);
	assert_err(walk(w, false, &n), -EUCLEAN);
	assert_int_equal(n, 5);
	assert_ok(find(w, "key34"));
}

/* Before the map is known, of a deeper tree: two pages are kept, whatever the way down. */
static void test_pages_that_are_read(void **state)
{
	struct world *w = *state;
	struct kv_map map;
	struct kv_record rec;
	char key[8];
	make_page(w, SPARE, KV_PAGE_BRANCH);
	add_child(w, SPARE, "", BRANCH);
	add_child(w, SPARE, "key40", BRANCH);
	w->tree.root = SPARE;
	w->tree.depth = 3;
	assert_ok(kv_map_open(&map, w->fd, PAGE, 1 << 20));
	for (int i = 10; i < 40; i++) {
		sprintf(key, "key%d", i);
		if (i != 28)
			assert_err(kv_tree_find(&map, &w->tree, key, 5, NULL, &rec), i % 2 ? -ENOENT : 0);
	}
	kv_map_close(&map);
}

/* A leaf of another tree, all of whose records are sound there, is led to. */
static bool none_sound(unsigned table, struct kv_bytes key, struct kv_bytes value)
{
	(void)table, (void)key, (void)value;
	return false;
}

static void test_leaf_of_another_tree(void **state)
{
	struct world *w = *state;
	struct kv_record rec;
	assert_err(find(w, "key15"), -ENOENT);
	assert_err(find(w, "key15"), -ENOENT);
	assert_err(kv_tree_find(&w->map, &w->tree, "key15", 5, none_sound, &rec), -EUCLEAN);
}

/* Of a tree of one page it is known how many records it has. */
static void test_count(void **state)
{
	struct world *w = *state;
	w->tree.root = LEAF;
	w->tree.depth = 1;
	w->tree.entries = 5;
	assert_ok(find(w, "key14"));
	assert_ok(check(w));
	w->tree.entries = 4;
	assert_err(find(w, "key14"), -EUCLEAN);
	assert_err(find(w, "key13"), -EUCLEAN);
	assert_err(prepare(w, "key14"), -EUCLEAN);
	assert_err(check(w), -EUCLEAN);
}

/* Who takes from a leaf may come past leaves that have little; who puts more does not. */
static void test_how_far_lmdb_may_come(void **state)
{
	struct world *w = *state;
	char large[1200] = {0};
	head_of(w, LEAF)->lower += 2;
	assert_err(prepare(w, "key34"), -EUCLEAN);
	assert_err(kv_tree_prepare(&w->map, &w->tree, "key34", 5, 4), -EUCLEAN);
	assert_ok(kv_tree_prepare(&w->map, &w->tree, "key34", 5, 5));
	assert_ok(kv_tree_prepare(&w->map, &w->tree, "key35", 5, 4));
	assert_ok(kv_tree_prepare(&w->map, &w->tree, "key34", 5, KV_UNCHANGED));
	assert_err(kv_tree_prepare(&w->map, &w->tree, "key34", 5, 3000), 0); /* in pages of its own: 8 bytes here */
	make_page(w, LEAF + 1, KV_PAGE_LEAF);
	add(w, LEAF + 1, "key20", 5, large, sizeof large);
	assert_ok(prepare(w, "key34"));
	assert_err(prepare(w, "key22"), -EUCLEAN);
}

static void test_values(void **state)
{
	struct world *w = *state;
	struct kv_lmdb_page good = *head_of(w, BIG);
	static const struct kv_lmdb_page bad[] = {{.page_no = SPARE, .flags = KV_PAGE_OVERFLOW, .lower = 2},
		{.page_no = BIG, .flags = KV_PAGE_LEAF, .lower = 2}, {.page_no = BIG, .flags = KV_PAGE_OVERFLOW, .lower = 1},
		{.page_no = BIG, .flags = KV_PAGE_OVERFLOW, .lower = 3},
		{.page_no = BIG, .flags = KV_PAGE_OVERFLOW, .lower = 2, .upper = 1}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		*head_of(w, BIG) = bad[i];
		assert_err(find(w, "key28"), -EUCLEAN);
		assert_err(prepare(w, "key28"), -EUCLEAN);
		assert_ok(find(w, "key26"));
	}
	*head_of(w, BIG) = good;
	assert_ok(find(w, "key28"));
	/* what is left of a longer one may be any bytes, a page's number, too */
	head_of(w, BIG)->lower = 3;
	memset(page_of(w, BIG + 2) + 8, 'x', PAGE - 8);
	assert_ok(find(w, "key28"));
}

/* A page that is sound in one tree, and in the tree of numbers as well. */
static void test_keys_that_are_no_numbers(void **state)
{
	struct world *w = *state;
	uint64_t pages, txns, none = 0;
	make_page(w, LEAF, KV_PAGE_LEAF);
	add(w, LEAF, "abc", 3, &none, sizeof none);
	assert_ok(find(w, "abc"));
	w->free.root = LEAF;
	assert_err(kv_tree_count_free(&w->map, &w->free, &pages, &txns), -EUCLEAN);
	assert_err(check(w), -EUCLEAN);
}

static void test_free_lists(void **state)
{
	struct world *w = *state;
	static const uint64_t lists[][2] = {{11, LEAF}, {11, BIG + 1}, {11, FREE}, {PAGES, 10}, {11, 1}, {10, 11}, {10, 10}};
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		make_page(w, FREE, KV_PAGE_LEAF);
		add_free(w, 5, lists[i], 2);
		assert_err(check(w), -EUCLEAN);
	}
	make_page(w, FREE, KV_PAGE_LEAF);
	add_free(w, 5, (uint64_t[]){11, 10}, 2);
	add_free(w, 6, (uint64_t[]){10, 9}, 2); /* twice */
	assert_err(check(w), -EUCLEAN);
	make_page(w, FREE, KV_PAGE_LEAF);
	add_free(w, 5, (uint64_t[]){11, 10}, 2);
	memset(kv_page_node(page_of(w, FREE), 0)->key + 8, 0xff, 8); /* how many */
	uint64_t pages, txns;
	assert_err(check(w), -EUCLEAN);
	assert_err(kv_tree_count_free(&w->map, &w->free, &pages, &txns), -EUCLEAN);
}

/* Branch pages, each with the next one as every child, above a leaf with smaller numbers than are looked for: that does not go through all of
 * the ways down. */
static void test_newest_in_circles(void **state)
{
	struct world *w = *state;
	struct kv_pages pages;
	const uint64_t small = 1, large = 100;
	enum { TOP = 2, DEPTH = 8 };
	for (uint64_t no = TOP; no < TOP + DEPTH - 1; no++) {
		make_page(w, no, KV_PAGE_BRANCH);
		for (int i = 0; i < 200; i++)
			add(w, no, &large, sizeof large, "", 0)->lo = (uint16_t)(no + 1);
	}
	make_page(w, TOP + DEPTH - 1, KV_PAGE_LEAF);
	add(w, TOP + DEPTH - 1, &small, sizeof small, "", 0);
	for (uint64_t no = 0; no < 2; no++) {
		struct kv_lmdb_meta meta = {.head = {.page_no = no, .flags = KV_PAGE_META},
			.magic = KV_META_MAGIC,
			.version = KV_META_VERSION,
			.free = {.pad = PAGE, .depth = DEPTH, .root = TOP},
			.main = {.root = KV_NO_PAGE},
			.last_page = PAGES - 1,
			.txnid = 10 + no};
		memcpy(page_of(w, no), &meta, sizeof meta);
	}
	alarm(20);
	assert_ok(kv_pages_open(w->fd, PAGE, 0, &pages));
	alarm(0);
	assert_true(pages.unsure);
	head_of(w, TOP + 1)->page_no++; /* a list that is damaged itself does not tell */
	assert_ok(kv_pages_open(w->fd, PAGE, 0, &pages));
	assert_false(pages.unsure);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_finding, setup, teardown),
		cmocka_unit_test(test_damaged_pages),
		cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_circles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absence_beside_large_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages_that_are_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leaf_of_another_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_count, setup, teardown),
		cmocka_unit_test_setup_teardown(test_how_far_lmdb_may_come, setup, teardown),
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys_that_are_no_numbers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_free_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_newest_in_circles, setup, teardown),
	};
	return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
