/* Each page of the file is in one tree, or free; see check.h. */
#include <errno.h>

#include "check.h"
#include "err.h"

/* The walk through one tree.  `map` has a bit for each page of the file that something has. */
struct walk {
	struct kv_audit audit;
	struct kv_check *check;
	uint64_t *map;
	uint64_t faults, free_pages;
	const char *tree;
};

/* False: one of them is taken already. */
static bool take(struct walk *w, uint64_t page, uint64_t n)
{
	bool fresh = true;
	for (uint64_t i = page; i < page + n; i++) {
		uint64_t bit = 1ull << (i % 64);
		fresh &= !(w->map[i / 64] & bit);
		w->map[i / 64] |= bit;
	}
	return fresh;
}

static void fault(struct kv_audit *a, uint64_t page, const char *why)
{
	struct walk *w = (struct walk *)a;
	w->faults++;
	kv_check_found(w->check, KVFS_FINDING_LOST, NULL, "page %llu of the tree '%s': %s", (unsigned long long)page, w->tree, why);
}

static bool enter(struct kv_audit *a, uint64_t page, uint64_t n)
{
	struct walk *w = (struct walk *)a;
	kv_check_tick(w->check, n);
	if (take(w, page, n))
		return true;
	w->faults++;
	kv_check_found(w->check, KVFS_FINDING_WRONG, NULL, "page %llu of the tree '%s' belongs to something else too",
		(unsigned long long)page, w->tree);
	return n > 1; /* a value that shares pages has a sound key; a page of the tree could lead in circles */
}

/* What the tree's own record says of it. */
static void compare_counts(struct walk *w, const struct kv_lmdb_tree *t)
{
	const struct kv_audit *a = &w->audit;
	uint64_t pages = a->branch_pages + a->leaf_pages + a->overflow_pages;
	uint64_t told = t->branch_pages + t->leaf_pages + t->overflow_pages;
	if (w->faults || (a->branch_pages == t->branch_pages && a->leaf_pages == t->leaf_pages &&
				 a->overflow_pages == t->overflow_pages && a->entries == t->entries))
		return;
	kv_check_found(w->check, KVFS_FINDING_WRONG, NULL, "the tree '%s' has %llu records on %llu pages, and says %llu on %llu",
		w->tree, (unsigned long long)a->entries, (unsigned long long)pages, (unsigned long long)t->entries,
		(unsigned long long)told);
}

static struct walk begin(struct walk *whole, const char *tree)
{
	return (struct walk){.audit = {.enter = enter, .fault = fault}, .check = whole->check, .map = whole->map, .tree = tree};
}

static int walk_tree(struct walk *whole, const struct kv_lmdb_tree *tree, const char *name, bool *ret_bad)
{
	struct walk w = begin(whole, name);
	struct kv_scan s;
	int r = kv_scan_open(&s, w.check->pages, tree, &w.audit);
	while (r >= 0 && (r = kv_scan_next(&s)) == 1)
		if (w.check->stop)
			r = w.check->stop;
	kv_scan_close(&s);
	if (r == 0)
		compare_counts(&w, tree);
	*ret_bad = w.faults;
	return r;
}

/* A tree that the main tree has a record of. */
static int walk_named(struct walk *main, struct kv_scan *s)
{
	struct kv_check *c = main->check;
	for (enum kv_table t = KV_DIRENT; t < KV_TABLES; t++) {
		const char *name = kv_db_table_name(t);
		if (s->key.len != strlen(name) || memcmp(s->key.data, name, s->key.len) != 0)
			continue;
		if (!(s->flags & KV_NODE_TREE) || s->len != sizeof c->trees[t])
			break;
		memcpy(&c->trees[t], s->data, sizeof c->trees[t]);
		return walk_tree(main, &c->trees[t], name, &c->bad[t]);
	}
	if (s->flags & KV_NODE_TREE || !s->key.len || *(const uint8_t *)s->key.data > KV_LOG + 1 || !*(const uint8_t *)s->key.data)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "the main tree has a record of no table");
	return 0;
}

static int walk_main(struct walk *whole)
{
	struct kv_check *c = whole->check;
	struct walk w = begin(whole, "main");
	struct kv_scan s;
	int r = kv_scan_open(&s, c->pages, &c->main, &w.audit);
	while (r >= 0 && (r = kv_scan_next(&s)) == 1)
		r = walk_named(&w, &s);
	kv_scan_close(&s);
	if (r < 0)
		return r;
	compare_counts(&w, &c->main);
	c->bad[KV_TABLES] = w.faults;
	for (enum kv_table t = KV_DIRENT; t < KV_TABLES; t++)
		if (!c->trees[t].depth && c->trees[t].root != KV_NO_PAGE) {
			c->trees[t].root = KV_NO_PAGE;
			c->bad[t] = true;
			kv_check_found(c, KVFS_FINDING_LOST, NULL, "the tree '%s' is not there", kv_db_table_name(t));
		}
	return 0;
}

/* ---- what is free ---- */

/* A record of the free tree: how many pages, then their numbers, falling. */
static void free_record(struct walk *w, struct kv_bytes value)
{
	uint64_t n = 0, page, before = UINT64_MAX, bad = 0, taken = 0;
	if (value.len >= sizeof n)
		memcpy(&n, value.data, sizeof n);
	if (value.len < sizeof n || n > value.len / sizeof n - 1) {
		fault(&w->audit, 0, "a record of it is damaged");
		return;
	}
	for (uint64_t i = 1; i <= n; i++, before = page) {
		memcpy(&page, (const uint8_t *)value.data + i * sizeof page, sizeof page);
		if (page < 2 || page >= w->check->pages->end || page >= before)
			bad++;
		else if (page < w->check->pages->there && !take(w, page, 1))
			taken++;
		w->free_pages++;
	}
	if (bad)
		kv_check_found(w->check, KVFS_FINDING_WRONG, NULL, "the list of free pages names %llu that cannot be",
			(unsigned long long)bad);
	if (taken)
		kv_check_found(w->check, KVFS_FINDING_WRONG, NULL, "the list of free pages names %llu that are in use, or twice",
			(unsigned long long)taken);
}

static int walk_free(struct walk *whole)
{
	struct walk w = begin(whole, "free");
	struct kv_scan s;
	struct kv_bytes value;
	int r = kv_scan_open(&s, w.check->pages, &w.check->pages->free, &w.audit);
	while (r >= 0 && (r = kv_scan_next(&s)) == 1) {
		r = kv_scan_value(&s, &value);
		if (r == 0)
			free_record(&w, value);
		else if (r != -ENOMEM)
			r = 0; /* the page is told of already */
	}
	kv_scan_close(&s);
	if (r < 0)
		return r;
	compare_counts(&w, &w.check->pages->free);
	whole->free_pages = w.free_pages;
	w.check->bad_free = w.faults;
	return 0;
}

static void count_lost(const struct walk *w)
{
	uint64_t lost = 0, end = w->check->pages->there;
	for (uint64_t i = 0; i < end; i += 64) { /* a crafted file may say that it is very long, and be */
		uint64_t out = ~w->map[i / 64];
		if (i == 0)
			out &= ~UINT64_C(3);
		if (end - i < 64)
			out &= (UINT64_C(1) << (end - i)) - 1;
		lost += (uint64_t)__builtin_popcountll(out);
	}
	if (lost)
		kv_check_found(
			w->check, KVFS_FINDING_SPACE, NULL, "%llu pages are in no tree, and not free", (unsigned long long)lost);
}

int kv_check_pages(struct kv_check *c)
{
	c->map = calloc(c->pages->there / 64 + 1, sizeof *c->map);
	struct walk w = {.check = c, .map = c->map};
	if (!w.map)
		return kv_fail(ENOMEM);
	if (c->pages->metas < 2)
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "one of the two meta pages is damaged: the newest changes may be gone");
	if (c->pages->unsure)
		kv_check_found(c, KVFS_FINDING_LOST, NULL,
			"the two meta pages are not of transactions that follow each other: the newest changes may be gone");
	/* the free list last: what it has wrongly is a page of a tree that its readers may trust */
	int r = walk_main(&w);
	if (r == 0)
		r = walk_free(&w);
	if (r == 0)
		count_lost(&w);
	c->seen.pages = c->pages->end;
	c->seen.free_pages = w.free_pages;
	return r;
}
