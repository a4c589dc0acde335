/* Trees with damaged branch pages, from their leaves; see check.h.
 *
 * A leaf says whose it is by the sums of its records, which are bound to table and key.  Those that a damaged tree does not lead to any more
 * are in no tree and not free, so they are what is looked at.  If the list of free pages is damaged too, leaves of older states may
 * be among them: where two have the same range of keys, one that is led to goes before one that is not, and then that with the newer version. */
#include <errno.h>

#include "check.h"
#include "err.h"

/* A leaf on its way into the list. */
struct found {
	struct kv_leaf leaf;
	uint8_t *last; /* key */
	uint64_t rank;
	uint16_t last_len;
	bool led_to;
};

struct founds {
	struct found *list;
	size_t n;
};

static uint8_t *copy_key(struct kv_bytes key)
{
	uint8_t *copy = malloc(key.len + 1);
	if (copy)
		memcpy(copy, key.data, key.len);
	return copy;
}

static int add(struct founds *all, uint64_t page, struct kv_bytes first, bool led_to)
{
	if (!(all->n & (all->n - 1))) { /* doubles at powers of two */
		struct found *list = realloc(all->list, (all->n ? 2 * all->n : 1) * sizeof *list);
		if (!list)
			return kv_fail(ENOMEM);
		all->list = list;
	}
	struct found *f = &all->list[all->n];
	*f = (struct found){.leaf = {page, copy_key(first), (uint16_t)first.len}, .led_to = led_to};
	if (!f->leaf.first)
		return kv_fail(ENOMEM);
	all->n++;
	return 0;
}

static int set_last(struct found *f, struct kv_bytes key)
{
	free(f->last);
	f->last = copy_key(key);
	f->last_len = (uint16_t)key.len;
	return f->last ? 0 : kv_fail(ENOMEM);
}

/* ---- leaves that the tree leads to ---- */

static int add_tree(struct kv_check *c, const struct kv_lmdb_tree *tree, struct founds *all)
{
	uint8_t last[KV_LMDB_KEY_MAX];
	size_t last_len = 0;
	uint64_t page = 0;
	struct kv_scan s;
	int r = kv_scan_open(&s, c->pages, tree, NULL);
	while (r >= 0 && (r = kv_scan_next(&s)) == 1) {
		if (s.page != page) {
			r = page ? set_last(&all->list[all->n - 1], (struct kv_bytes){last, last_len}) : 0;
			if (r == 0)
				r = add(all, s.page, s.key, true);
			page = s.page;
		}
		last_len = s.key.len;
		memcpy(last, s.key.data, last_len);
	}
	if (r == 0 && page)
		r = set_last(&all->list[all->n - 1], (struct kv_bytes){last, last_len});
	kv_scan_close(&s);
	return r;
}

/* ---- leaves that nothing leads to ---- */

#define MAIN KV_TABLES /* as a table: the main tree */

/* Whose record is it?  -1: nobody's. */
static int table_of(struct kv_bytes key, struct kv_bytes raw, struct kv_bytes *ret)
{
	const uint8_t *k = key.data;
	if (key.len && *k && *k <= KV_LOG + 1 && kv_db_open_record(*k - 1u, (struct kv_bytes){k + 1, key.len - 1}, raw, ret))
		return MAIN;
	for (enum kv_table t = KV_DIRENT; t < KV_TABLES; t++)
		if (kv_db_open_record(t, key, raw, ret))
			return (int)t;
	return -1;
}

/* The version in an inode record, 0 if it is none. */
static uint64_t version_in(int table, struct kv_bytes rec)
{
	struct kv_rec_inode inode;
	size_t head = table == KV_DIRENT ? sizeof(struct kv_rec_dirent) : 1;
	if ((table != KV_DIRENT && table != KV_INODE) || rec.len < head + sizeof inode)
		return 0;
	memcpy(&inode, (const uint8_t *)rec.data + head, sizeof inode);
	return inode.version;
}

static int add_loose(struct kv_scan *s, uint64_t page, struct founds lists[KV_TABLES + 1])
{
	struct found *f = NULL;
	int r = kv_scan_leaf(s, page), table = -1;
	while (r == 1 && (r = kv_scan_next(s)) == 1) {
		struct kv_bytes raw, rec;
		int whose = kv_scan_value(s, &raw) == 0 ? table_of(s->key, raw, &rec) : -1;
		if (whose < 0 || (table >= 0 && whose != table))
			continue;
		if (table < 0) {
			table = whose;
			r = add(&lists[table], page, s->key, false);
			f = r ? NULL : &lists[table].list[lists[table].n - 1];
			if (!f)
				return r;
		}
		f->rank = kv_max(f->rank, version_in(table, rec));
		r = set_last(f, s->key) ? -ENOMEM : 1;
	}
	return r;
}

/* ---- one list of both ---- */

static int compare_keys(const uint8_t *a, size_t an, const uint8_t *b, size_t bn)
{
	int c = memcmp(a, b, an < bn ? an : bn);
	return c ? c : (an > bn) - (an < bn);
}

static int compare(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	return compare_keys(x->leaf.first, x->leaf.first_len, y->leaf.first, y->leaf.first_len);
}

static bool goes_before(const struct found *a, const struct found *b)
{
	return a->led_to != b->led_to ? a->led_to : a->rank > b->rank;
}

/* Sorts them, and of two that overlap keeps the better. */
static int settle(struct founds *all, struct kv_leaves *ret)
{
	size_t n = 0;
	if (!all->n)
		return 0;
	qsort(all->list, all->n, sizeof *all->list, compare);
	for (size_t i = 0; i < all->n; i++) {
		struct found *f = &all->list[i];
		bool keep = true;
		while (keep && n &&
			compare_keys(all->list[n - 1].last, all->list[n - 1].last_len, f->leaf.first, f->leaf.first_len) >= 0) {
			keep = goes_before(f, &all->list[n - 1]);
			struct found *worse = keep ? &all->list[--n] : f;
			free(worse->leaf.first);
			free(worse->last);
			*worse = (struct found){0};
		}
		if (keep) {
			struct found moved = *f;
			*f = (struct found){0};
			all->list[n++] = moved;
		}
	}
	all->n = n;
	ret->list = malloc(n * sizeof *ret->list);
	if (!ret->list)
		return kv_fail(ENOMEM);
	for (size_t i = 0; i < n; i++) {
		ret->list[i] = all->list[i].leaf;
		all->list[i].leaf.first = NULL;
	}
	ret->n = n;
	return 0;
}

static void free_founds(struct founds *all)
{
	for (size_t i = 0; i < all->n; i++) {
		free(all->list[i].leaf.first);
		free(all->list[i].last);
	}
	free(all->list);
}

bool kv_check_has_bad_trees(const struct kv_check *c)
{
	bool any = false;
	for (unsigned t = KV_DIRENT; t <= MAIN; t++)
		any |= c->bad[t];
	return any;
}

int kv_check_leaves(struct kv_check *c)
{
	struct founds lists[KV_TABLES + 1] = {0};
	struct kv_scan s;
	int r = 0;
	if (!kv_check_has_bad_trees(c))
		return 0;
	for (unsigned t = KV_DIRENT; r == 0 && t <= MAIN; t++)
		if (c->bad[t])
			r = add_tree(c, t == MAIN ? &c->main : &c->trees[t], &lists[t]);
	const struct kv_lmdb_tree none = {.root = KV_NO_PAGE};
	int opened = kv_scan_open(&s, c->pages, &none, NULL);
	for (uint64_t page = 2; r == 0 && opened == 0 && page < c->pages->there; page++)
		if (!(c->map[page / 64] >> (page % 64) & 1))
			r = add_loose(&s, page, lists);
	kv_scan_close(&s);
	for (unsigned t = KV_DIRENT; t <= MAIN; t++) {
		if (r == 0 && c->bad[t])
			r = settle(&lists[t], &c->leaves[t]);
		free_founds(&lists[t]);
	}
	return r ? r : opened;
}

void kv_check_free_leaves(struct kv_check *c)
{
	for (unsigned t = 0; t <= MAIN; t++) {
		for (size_t i = 0; i < c->leaves[t].n; i++)
			free(c->leaves[t].list[i].first);
		free(c->leaves[t].list);
		c->leaves[t] = (struct kv_leaves){0};
	}
}
