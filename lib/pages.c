/* Pages; see pages.h. */
#include "pages.h"

#include <errno.h>
#include <sys/stat.h>

#include "err.h"

#define HEADER sizeof(struct kv_lmdb_page)

/* 0 or -EIO; what lies behind the end of the file reads as damage. */
static int read_at(const struct kv_pages *p, uint64_t page, void *buf, size_t len)
{
	ssize_t n = pread(p->fd, buf, len, (off_t)(page * p->page_size));
	if (n < 0)
		return kv_fail(EIO);
	return n == (ssize_t)len ? 0 : kv_fail(EUCLEAN);
}

/* ---- one page ---- */

static struct kv_lmdb_page head_of(const uint8_t *page)
{
	struct kv_lmdb_page head;
	memcpy(&head, page, sizeof head);
	return head;
}

bool kv_page_is(const uint8_t *page, uint64_t page_no, unsigned kind)
{
	struct kv_lmdb_page head = head_of(page);
	return head.page_no == page_no && head.flags == kind;
}

/* Bytes that a node takes in its page; 0: more than the page has, or than LMDB puts into one. */
static size_t node_size(const struct kv_lmdb_node *n, bool leaf, size_t room, uint32_t page_size)
{
	if (room < sizeof *n || n->key_size > KV_LMDB_KEY_MAX)
		return 0;
	uint64_t len = !leaf ? 0 : n->flags & KV_NODE_OVERFLOW ? sizeof(uint64_t) : kv_node_len(n);
	if (kv_node_is_large(page_size, n->key_size, len))
		return 0;
	uint64_t size = sizeof *n + n->key_size + len;
	size += size & 1;
	return size <= room ? (size_t)size : 0;
}

/* Where nodes begin, a bit for every two bytes of the page. */
struct begins {
	uint64_t bits[KV_PAGE_SIZE_MAX / 2 / 64];
};

static bool set_begin(struct begins *b, unsigned at)
{
	uint64_t bit = 1ull << (at / 2 % 64), *word = &b->bits[at / 2 / 64];
	bool fresh = !(*word & bit);
	*word |= bit;
	return fresh;
}

/* What is wrong with the nodes; NULL: each is sound, and they lie one behind the other up to the end of the page. */
static const char *fault_of_nodes(const uint8_t *page, unsigned upper, uint32_t page_size, bool leaf)
{
	struct begins b;
	unsigned n = kv_page_count(page), seen = 0;
	memset(b.bits, 0, page_size / 16);
	for (unsigned i = 0; i < n; i++) {
		uint16_t at;
		memcpy(&at, page + HEADER + 2 * (size_t)i, sizeof at);
		if (at < upper || at >= page_size || at & 1 || !set_begin(&b, at))
			return "a record in it is damaged";
	}
	for (unsigned at = upper; at < page_size; seen++) {
		const struct kv_lmdb_node *node = (const struct kv_lmdb_node *)(page + at);
		size_t size = b.bits[at / 2 / 64] >> (at / 2 % 64) & 1 ? node_size(node, leaf, page_size - at, page_size) : 0;
		if (!size || (leaf && (node->flags & ~(KV_NODE_OVERFLOW | KV_NODE_TREE) || !node->key_size)))
			return "a record in it is damaged";
		at += (unsigned)size;
	}
	return seen == n ? NULL : "its records do not fill it";
}

const char *kv_page_fault(const uint8_t *page, uint64_t page_no, uint32_t page_size, bool leaf)
{
	struct kv_lmdb_page head = head_of(page);
	if (head.page_no != page_no)
		return "it is another page";
	if (head.flags != (leaf ? KV_PAGE_LEAF : KV_PAGE_BRANCH))
		return leaf ? "it is not a leaf page" : "it is not a branch page";
	if (head.lower < HEADER + 2 || head.lower & 1 || head.lower > head.upper || head.upper > page_size || head.upper & 1)
		return "its header is damaged";
	return fault_of_nodes(page, head.upper, page_size, leaf);
}

int kv_key_compare(bool numbers, const void *a, size_t an, const void *b, size_t bn)
{
	uint64_t x, y;
	if (numbers && an == sizeof x && bn == sizeof y) {
		memcpy(&x, a, sizeof x);
		memcpy(&y, b, sizeof y);
		return (x > y) - (x < y);
	}
	int c = memcmp(a, b, an < bn ? an : bn);
	return c ? c : (an > bn) - (an < bn);
}

unsigned kv_page_search(const uint8_t *page, bool leaf, bool numbers, const void *key, size_t len)
{
	unsigned lo = leaf ? 0 : 1, hi = kv_page_count(page);
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct kv_lmdb_node *n = kv_page_node(page, mid);
		int c = kv_key_compare(numbers, n->key, n->key_size, key, len);
		if (leaf ? c < 0 : c <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return leaf ? lo : lo - 1;
}

int kv_page_read(const struct kv_pages *p, uint64_t page_no, bool leaf, uint8_t *buf, const char **ret_why)
{
	*ret_why = "it lies outside the file";
	if (page_no < 2 || page_no >= p->there)
		return -EUCLEAN;
	int r = read_at(p, page_no, buf, p->page_size);
	*ret_why = r ? "it cannot be read" : kv_page_fault(buf, page_no, p->page_size, leaf);
	return r ? r : *ret_why ? -EUCLEAN : 0;
}

uint64_t kv_page_overflow(const struct kv_pages *p, uint64_t page, uint64_t len)
{
	struct kv_lmdb_page head;
	uint64_t need = (len + HEADER + p->page_size - 1) / p->page_size;
	if (page < 2 || page >= p->there || p->there - page < need)
		return 0;
	if (read_at(p, page, &head, sizeof head) || head.page_no != page || head.flags != KV_PAGE_OVERFLOW)
		return 0;
	uint64_t have = head.lower | (uint64_t)head.upper << 16;
	return have >= need && have <= p->there - page ? have : 0;
}

/* ---- a place in a tree ---- */

int kv_scan_open(struct kv_scan *s, const struct kv_pages *pages, const struct kv_lmdb_tree *tree, struct kv_audit *audit)
{
	*s = (struct kv_scan){.pages = pages, .tree = *tree, .audit = audit, .numbers = tree == &pages->free};
	return kv_scan_seek(s, NULL, 0);
}

int kv_scan_open_leaves(struct kv_scan *s, const struct kv_pages *pages, const struct kv_leaves *leaves)
{
	*s = (struct kv_scan){.pages = pages, .leaves = leaves, .tree = {.depth = 1}};
	return kv_scan_seek(s, NULL, 0);
}

void kv_scan_close(struct kv_scan *s)
{
	for (unsigned i = 0; i < KV_DEPTH_MAX; i++)
		free(s->levels[i].page);
	free(s->big);
	*s = (struct kv_scan){0};
}

static void tell(struct kv_scan *s, uint64_t page, const char *why)
{
	if (s->audit)
		s->audit->fault(s->audit, page, why);
}

/* Loads a page as the level below those in use.  1, 0 it is damaged, -ENOMEM. */
static int push(struct kv_scan *s, uint64_t page_no)
{
	struct kv_scan_level *level = &s->levels[s->depth];
	bool leaf = s->depth + 1 == s->tree.depth;
	if (s->audit && page_no < s->pages->there && !s->audit->enter(s->audit, page_no, 1))
		return 0;
	if (!page_no || level->page_no != page_no) {
		if (!level->page && !(level->page = malloc(s->pages->page_size)))
			return kv_fail(ENOMEM);
		level->page_no = 0;
		const char *why;
		if (kv_page_read(s->pages, page_no, leaf, level->page, &why)) {
			tell(s, page_no, why);
			return 0;
		}
		level->page_no = page_no;
	}
	level->at = 0;
	level->n = kv_page_count(level->page);
	if (s->audit)
		*(leaf ? &s->audit->leaf_pages : &s->audit->branch_pages) += 1;
	s->depth++;
	return 1;
}

/* May `key` come now?  `equal`: the one after it may be the same. */
static bool rises(struct kv_scan *s, const void *key, size_t len, bool equal)
{
	int c = s->has_last ? kv_key_compare(s->numbers, key, len, s->last, s->last_len) : 1;
	if (c < 0 || (c == 0 && !s->equal))
		return false;
	memcpy(s->last, key, len);
	s->last_len = len;
	s->has_last = true;
	s->equal = equal;
	return true;
}

/* Stands on a record of a leaf. */
static void stand(struct kv_scan *s, const struct kv_scan_level *level, const struct kv_lmdb_node *n)
{
	s->key = (struct kv_bytes){n->key, n->key_size};
	s->flags = n->flags;
	s->len = kv_node_len(n);
	s->page = level->page_no;
	s->data = n->key + n->key_size;
}

static bool audit_record(struct kv_scan *s)
{
	uint64_t page = kv_scan_overflow(s);
	s->audit->entries++;
	if (!page)
		return true;
	uint64_t n = kv_page_overflow(s->pages, page, s->len);
	if (!n) {
		tell(s, page, "it is not the begin of a value");
		return true; /* the record is there; who reads its value will see */
	}
	s->audit->overflow_pages += n;
	return s->audit->enter(s->audit, page, n);
}

/* Goes to the next of the leaves, if the tree is those.  1, 0 there is none, -ENOMEM. */
static int next_leaf(struct kv_scan *s)
{
	int r = 0;
	while (r == 0 && s->leaves && s->next_leaf < s->leaves->n)
		r = push(s, s->leaves->list[s->next_leaf++].page_no);
	return r;
}

int kv_scan_next(struct kv_scan *s)
{
	for (;;) {
		int r = s->depth ? 1 : next_leaf(s);
		if (r != 1)
			return r;
		struct kv_scan_level *level = &s->levels[s->depth - 1];
		if (level->at == level->n) {
			s->depth--;
			continue;
		}
		bool leaf = s->depth == s->tree.depth, first = level->at == 0;
		const struct kv_lmdb_node *n = kv_page_node(level->page, level->at++);
		/* the first key of a branch page is not one */
		if ((leaf || !first) && !rises(s, n->key, n->key_size, !leaf)) {
			tell(s, level->page_no, "its keys are out of order");
			continue;
		}
		if (leaf) {
			stand(s, level, n);
			if (!s->audit || audit_record(s))
				return 1;
			continue;
		}
		r = push(s, kv_node_child(n));
		if (r < 0)
			return r;
	}
}

/* To the leaf that has the key, if one has. */
static int seek_leaf(struct kv_scan *s, const void *key, size_t len)
{
	size_t lo = 0, hi = s->leaves->n;
	while (len && lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct kv_leaf *leaf = &s->leaves->list[mid];
		if (kv_key_compare(s->numbers, leaf->first, leaf->first_len, key, len) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	s->next_leaf = lo ? lo - 1 : 0;
	int r = next_leaf(s);
	if (r == 1 && len) {
		s->levels[0].at = kv_page_search(s->levels[0].page, true, s->numbers, key, len);
		rises(s, key, len, true);
	}
	return r < 0 ? r : 0;
}

int kv_scan_seek(struct kv_scan *s, const void *key, size_t len)
{
	s->depth = 0;
	s->has_last = false;
	if (s->leaves)
		return seek_leaf(s, key, len);
	if (s->tree.root == KV_NO_PAGE)
		return 0;
	if (!s->tree.depth || s->tree.depth > KV_DEPTH_MAX) {
		tell(s, s->tree.root, "its tree has no sound depth");
		return 0;
	}
	for (uint64_t page = s->tree.root; s->depth < s->tree.depth;) {
		int r = push(s, page);
		if (r <= 0 || !len)
			return r < 0 ? r : 0;
		struct kv_scan_level *level = &s->levels[s->depth - 1];
		bool leaf = s->depth == s->tree.depth;
		level->at = kv_page_search(level->page, leaf, s->numbers, key, len);
		if (!leaf)
			page = kv_node_child(kv_page_node(level->page, level->at++));
	}
	if (len)
		rises(s, key, len, true);
	return 0;
}

int kv_scan_leaf(struct kv_scan *s, uint64_t page)
{
	s->tree.depth = 1;
	s->depth = 0;
	s->has_last = false;
	return push(s, page);
}

/* ---- values ---- */

uint64_t kv_scan_overflow(const struct kv_scan *s)
{
	uint64_t page = 0;
	if (s->flags & KV_NODE_OVERFLOW)
		memcpy(&page, s->data, sizeof page);
	return page;
}

int kv_scan_value(struct kv_scan *s, struct kv_bytes *ret)
{
	if (!(s->flags & KV_NODE_OVERFLOW)) {
		*ret = (struct kv_bytes){s->data, s->len};
		return 0;
	}
	uint64_t page = kv_scan_overflow(s);
	if (!kv_page_overflow(s->pages, page, s->len))
		return kv_fail(EUCLEAN);
	if (s->big_cap < s->len + HEADER) {
		free(s->big);
		s->big_cap = 0;
		s->big = malloc(s->len + HEADER);
		if (!s->big)
			return kv_fail(ENOMEM);
		s->big_cap = s->len + HEADER;
	}
	int r = read_at(s->pages, page, s->big, s->len + HEADER);
	*ret = (struct kv_bytes){s->big + HEADER, s->len};
	return r;
}

/* ---- states ---- */

/* LMDB writes its two meta pages in turn, one for each transaction; in a new file both have 0. */
static bool are_in_turn(const struct kv_lmdb_meta metas[2])
{
	uint64_t a = metas[0].txnid, b = metas[1].txnid;
	return (a == 0 && b == 0) || (a % 2 == 0 && (b == a + 1 || b + 1 == a));
}

/* Is what the state's transaction freed listed under its number?  A copy has nothing free.  Where the list itself is damaged it does not tell,
 * and readers need it not.  1, 0, -ENOMEM. */
static int has_its_number(const struct kv_pages *p)
{
	struct kv_scan s;
	if (p->free.root == KV_NO_PAGE)
		return 1;
	int r = kv_scan_open(&s, p, &p->free, NULL);
	if (r == 0)
		r = kv_scan_seek(&s, &p->txnid, sizeof p->txnid);
	if (r == 0 && (!s.depth || s.depth < s.tree.depth)) {
		r = 1;
	} else if (r == 0) {
		/* only in the leaf where it belongs: of a crafted tree the ways to others may have no end */
		const struct kv_scan_level *leaf = &s.levels[s.depth - 1];
		r = leaf->at < leaf->n ? kv_scan_next(&s) : 0;
		if (r == 1)
			r = s.key.len == sizeof p->txnid && memcmp(s.key.data, &p->txnid, s.key.len) == 0;
	}
	kv_scan_close(&s);
	return r;
}

int kv_pages_open(int fd, uint32_t page_size, uint64_t txnid, struct kv_pages *ret)
{
	struct kv_lmdb_meta metas[2];
	const struct kv_lmdb_meta *best = NULL;
	*ret = (struct kv_pages){.fd = fd, .page_size = page_size};
	for (uint64_t i = 0; i < 2; i++) {
		const struct kv_lmdb_meta *m = &metas[i];
		int r = read_at(ret, i, &metas[i], sizeof *m);
		if (r == -EIO)
			return r;
		if (r || !kv_lmdb_meta_is_sound(m) || m->free.pad != page_size)
			continue;
		ret->metas++;
		if (txnid ? m->txnid != txnid : best && m->txnid <= best->txnid)
			continue;
		best = m;
	}
	if (!best)
		return -ENOENT;
	struct stat st;
	if (fstat(fd, &st))
		return kv_fail(EIO);
	ret->end = best->last_page + 1;
	ret->there = kv_min(ret->end, (uint64_t)st.st_size / page_size);
	ret->txnid = best->txnid;
	ret->free = best->free;
	ret->main = best->main;
	if (txnid || ret->metas < 2)
		return 0;
	int r = are_in_turn(metas) ? has_its_number(ret) : 0;
	ret->unsure = r == 0;
	return r < 0 ? r : 0;
}
