/* Trees in the map; see tree.h. */
#include "tree.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "err.h"

#define HEADER sizeof(struct kv_lmdb_page)
#define PART_PAGES 32768u

struct kv_map_part {
	_Atomic uint64_t sound[PART_PAGES / 64]; /* M1 */
	_Atomic uint64_t whole[PART_PAGES / 64]; /* M4: leaves */
};

/* ---- the map ---- */

static size_t part_count(const struct kv_map *m)
{
	return (size_t)(m->max / PART_PAGES + 1);
}

int kv_map_open(struct kv_map *m, int fd, uint32_t page_size, uint64_t max_bytes)
{
	*m = (struct kv_map){.fd = fd, .page_size = page_size, .max = max_bytes / page_size};
	/* 1 MiB for 16 TiB, of which no page is touched without need; calloc() might clear it */
	void *parts = mmap(NULL, part_count(m) * sizeof *m->parts, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (parts == MAP_FAILED)
		return kv_fail(ENOMEM);
	m->parts = parts;
	m->buf = malloc(2 * (size_t)page_size);
	if (!m->buf)
		return kv_fail(ENOMEM);
	struct stat st;
	if (fstat(fd, &st))
		return kv_fail(errno);
	m->there = m->fresh = (uint64_t)st.st_size / page_size;
	return 0;
}

void kv_map_set_base(struct kv_map *m, const void *in, uint64_t page_no)
{
	uintptr_t page = (uintptr_t)in & ~((uintptr_t)m->page_size - 1); /* pages are the machine's, so the map begins at one */
	m->base = (const uint8_t *)(page - page_no * m->page_size);
	free(kv_take(m->buf));
}

void kv_map_close(struct kv_map *m)
{
	if (m->parts) {
		/* a page is looked at only when it is in the file, so none is noted behind its end */
		for (size_t i = 0; i < part_count(m) && i * PART_PAGES <= m->there; i++)
			free(m->parts[i]);
		munmap(m->parts, part_count(m) * sizeof *m->parts);
	}
	free(m->buf);
	*m = (struct kv_map){0};
}

static int damaged(struct kv_map *m, uint64_t page, const char *why)
{
	m->bad_page = page;
	m->why = why;
	return kv_fail(EUCLEAN);
}

/* Are n pages from `page` on in the file?  It grows. */
static bool is_there(struct kv_map *m, uint64_t page, uint64_t n)
{
	struct stat st;
	if (page >= m->max || n > m->max - page)
		return false;
	if (page + n <= atomic_load_explicit(&m->there, memory_order_relaxed))
		return true;
	if (fstat(m->fd, &st))
		return false;
	m->there = (uint64_t)st.st_size / m->page_size;
	return page + n <= m->there;
}

/* What is known of the page's part of the file.  NULL: no memory, so pages are checked each time. */
static struct kv_map_part *part_of(struct kv_map *m, uint64_t page)
{
	struct kv_map_part *_Atomic *at = &m->parts[page / PART_PAGES];
	struct kv_map_part *part = *at, *fresh;
	if (!part) {
		fresh = calloc(1, sizeof *fresh);
		if (!fresh)
			return NULL;
		if (atomic_compare_exchange_strong(at, &part, fresh))
			part = fresh;
		else
			free(fresh);
	}
	return part;
}

static bool has_bit(const _Atomic uint64_t *bits, uint64_t page)
{
	return atomic_load_explicit(&bits[page % PART_PAGES / 64], memory_order_relaxed) >> (page % 64) & 1;
}

static void set_bit(_Atomic uint64_t *bits, uint64_t page)
{
	atomic_fetch_or_explicit(&bits[page % PART_PAGES / 64], 1ull << (page % 64), memory_order_relaxed);
}

int kv_map_state(struct kv_map *m, uint64_t txnid, struct kv_tree *ret_main, struct kv_tree *ret_free)
{
	struct kv_lmdb_meta meta;
	uint64_t page = txnid & 1; /* LMDB's rule */
	if (m->base)
		memcpy(&meta, m->base + page * m->page_size, sizeof meta);
	else if (pread(m->fd, &meta, sizeof meta, (off_t)(page * m->page_size)) != sizeof meta)
		return damaged(m, page, "it cannot be read");
	if (!kv_lmdb_meta_is_sound(&meta) || meta.txnid != txnid)
		return damaged(m, page, "it is not the meta page of the newest state");
	/* LMDB takes the order of keys from here, and whether a key may have several values */
	if (meta.main.flags || meta.free.flags != KV_TREE_NUMBERS)
		return damaged(m, page, "its trees are of a kind that none is");
	uint64_t end = meta.last_page + 1;
	*ret_main = (struct kv_tree){.root = meta.main.root, .depth = meta.main.depth, .end = end, .entries = meta.main.entries};
	*ret_free = (struct kv_tree){
		.root = meta.free.root, .depth = meta.free.depth, .end = end, .entries = meta.free.entries, .numbers = true};
	return 0;
}

/* ---- pages ---- */

static uint64_t page_no(const uint8_t *page)
{
	uint64_t no;
	memcpy(&no, page, sizeof no);
	return no;
}

#define ELSEWHERE "its keys belong to another place"

/* The nodes of a branch page between which the keys of a child are; NULL: no bound. */
struct span {
	const struct kv_lmdb_node *from, *to;
};

static struct span span_of(const uint8_t *page, unsigned at)
{
	unsigned n = kv_page_count(page);
	return (struct span){at ? kv_page_node(page, at) : NULL, at + 1 < n ? kv_page_node(page, at + 1) : NULL};
}

/* Bytes that no record of a sound page takes. */
static size_t room_of(const uint8_t *page)
{
	struct kv_lmdb_page head;
	memcpy(&head, page, sizeof head);
	return head.upper - head.lower;
}

static int compare(bool numbers, const struct kv_lmdb_node *a, const struct kv_lmdb_node *b)
{
	return kv_key_compare(numbers, a->key, a->key_size, b->key, b->key_size);
}

/* What is wrong with the keys and records of a page whose header and nodes are sound. */
static const char *fault_of_records(const uint8_t *page, const struct kv_tree *t, bool leaf)
{
	unsigned n = kv_page_count(page), first = leaf ? 0 : 1; /* the first key of a branch page is not one */
	for (unsigned i = first; i < n; i++) {
		const struct kv_lmdb_node *node = kv_page_node(page, i);
		if (i > first && compare(t->numbers, kv_page_node(page, i - 1), node) >= 0)
			return "its keys are out of order";
		if (t->numbers && node->key_size != sizeof(uint64_t))
			return "a key in it is damaged";
		if (leaf && node->flags & KV_NODE_TREE &&
			(node->flags != KV_NODE_TREE || kv_node_len(node) != sizeof(struct kv_lmdb_tree)))
			return "a tree in it is none";
	}
	return NULL;
}

/* Are the keys of a sound page between those two? */
static bool is_within(const uint8_t *page, const struct kv_tree *t, bool leaf, struct span span)
{
	unsigned n = kv_page_count(page), first = leaf ? 0 : 1;
	return first >= n || ((!span.from || compare(t->numbers, kv_page_node(page, first), span.from) >= 0) &&
				     (!span.to || compare(t->numbers, kv_page_node(page, n - 1), span.to) < 0));
}

/* Before the map is known: pages on the way to a name, of which the next one shares most. */
static const uint8_t *read_page(struct kv_map *m, uint64_t no, unsigned level)
{
	uint8_t *page = m->buf + (size_t)(level & 1) * m->page_size;
	m->in_buf[level & 1] = 0;
	if (pread(m->fd, page, m->page_size, (off_t)(no * m->page_size)) != (ssize_t)m->page_size)
		return damaged(m, no, "it cannot be read"), NULL;
	return page;
}

/* A page of the tree, checked (M1); NULL: it is damaged. */
static const uint8_t *page_at(struct kv_map *m, const struct kv_tree *t, uint64_t no, unsigned level, struct span span)
{
	bool leaf = level + 1 == t->depth;
	if (no < 2 || no >= t->end || !is_there(m, no, 1))
		return damaged(m, no, "it lies outside the file"), NULL;
	if (!m->base && m->in_buf[level & 1] == no)
		return m->buf + (size_t)(level & 1) * m->page_size;
	const uint8_t *page = m->base ? m->base + no * m->page_size : read_page(m, no, level);
	struct kv_map_part *part = m->base && no < m->fresh ? part_of(m, no) : NULL;
	bool sound = m->base && !t->numbers && (no >= m->fresh || (part && has_bit(part->sound, no)));
	/* what it is may have changed since it was checked, if it was free meanwhile; sound in another tree, it need not have numbers */
	if (!page || (sound && kv_page_is(page, no, leaf ? KV_PAGE_LEAF : KV_PAGE_BRANCH)))
		return page;
	const char *why = kv_page_fault(page, no, m->page_size, leaf);
	if (!why)
		why = fault_of_records(page, t, leaf);
	if (!why && !is_within(page, t, leaf, span))
		why = ELSEWHERE;
	if (why)
		return damaged(m, no, why), NULL;
	if (part)
		set_bit(part->sound, no);
	else if (!m->base)
		m->in_buf[level & 1] = no;
	return page;
}

/* The child of a branch page at `level`. */
static const uint8_t *child_at(struct kv_map *m, const struct kv_tree *t, const uint8_t *page, unsigned at, unsigned level)
{
	return page_at(m, t, kv_node_child(kv_page_node(page, at)), level + 1, span_of(page, at));
}

static int check_depth(struct kv_map *m, const struct kv_tree *t)
{
	if (t->root == KV_NO_PAGE && !t->depth && !t->entries)
		return -ENOENT;
	return t->depth && t->depth <= KV_DEPTH_MAX ? 0 : damaged(m, t->root, "its tree has no sound depth");
}

/* Where one page is the whole tree, an older version of it, left in its place, mostly has another number of records. */
static const uint8_t *root_of(struct kv_map *m, const struct kv_tree *t)
{
	const uint8_t *page = page_at(m, t, t->root, 0, (struct span){0});
	if (page && t->depth == 1 && kv_page_count(page) != t->entries)
		return damaged(m, t->root, "its tree is said to have another number of records"), NULL;
	return page;
}

/* How many pages there are said to be where a value begins. */
static uint64_t pages_of_value(const uint8_t *page)
{
	struct kv_lmdb_page head;
	memcpy(&head, page, sizeof head);
	return head.lower | (uint64_t)head.upper << 16;
}

/* Is this the first page of something? */
static bool begins_there(const struct kv_map *m, uint64_t no)
{
	const uint8_t *page = m->base + no * m->page_size;
	return kv_page_is(page, no, KV_PAGE_OVERFLOW) || !kv_page_fault(page, no, m->page_size, true) ||
	       !kv_page_fault(page, no, m->page_size, false);
}

/* A value in pages of its own. */
static int overflow(struct kv_map *m, const struct kv_tree *t, const struct kv_lmdb_node *node, struct kv_bytes *ret)
{
	uint64_t page, len = kv_node_len(node), need = (len + HEADER + m->page_size - 1) / m->page_size;
	memcpy(&page, node->key + node->key_size, sizeof page);
	if (!m->base || page < 2 || page >= t->end || t->end - page < need || !is_there(m, page, need))
		return damaged(m, page, "it lies outside the file");
	const uint8_t *at = m->base + page * m->page_size;
	uint64_t have = pages_of_value(at);
	if (!kv_page_is(at, page, KV_PAGE_OVERFLOW) || have < need || have > t->end - page)
		return damaged(m, page, "no value begins there");
	/* A value that was made shorter within its transaction keeps the pages it had.  LMDB frees as many as there are said to be, so
	 * none of those may be the first page of anything else.  What is in them is a user's. */
	for (uint64_t i = page + need; i < page + have; i++)
		if (!is_there(m, i, 1) || begins_there(m, i))
			return damaged(m, page, "its header is damaged");
	*ret = (struct kv_bytes){at + HEADER, len};
	return 0;
}

static int value_of(struct kv_map *m, const struct kv_tree *t, const struct kv_lmdb_node *node, struct kv_bytes *ret)
{
	if (node->flags & KV_NODE_OVERFLOW)
		return overflow(m, t, node, ret);
	*ret = (struct kv_bytes){node->key + node->key_size, kv_node_len(node)};
	return 0;
}

/* ---- fingers ---- */

void kv_finger_init(struct kv_finger *p, struct kv_map *m, const struct kv_tree *tree)
{
	p->map = m;
	p->tree = *tree;
	p->strict = true;
	p->depth = 0;
}

enum side { BY_KEY, FIRST, LAST };

static int nowhere(struct kv_finger *p, int r)
{
	p->depth = 0;
	return r;
}

/* Between which nodes of the pages above the next level's keys are.  A first or last child is bounded by a page further up. */
static struct span span_below(const struct kv_finger *p)
{
	struct span span = {0};
	for (unsigned i = p->depth; i-- > 0 && (!span.from || !span.to);) {
		struct span wide = span_of(p->levels[i].page, p->levels[i].at);
		span.from = span.from ? span.from : wide.from;
		span.to = span.to ? span.to : wide.to;
		if (!p->map->base) /* of the pages that are read, those further up are gone */
			break;
	}
	return span;
}

/* The page below the last level in use. */
static const uint8_t *below(struct kv_finger *p)
{
	const struct kv_finger_level *level = &p->levels[p->depth - 1];
	struct span span = span_below(p);
	const uint8_t *child = page_at(p->map, &p->tree, kv_node_child(kv_page_node(level->page, level->at)), p->depth, span);
	/* sound where it was come to before, but this may be another way */
	if (child && p->strict && !is_within(child, &p->tree, p->depth + 1 == p->tree.depth, span))
		return damaged(p->map, page_no(child), ELSEWHERE), NULL;
	return child;
}

/* From a page, which becomes the level below those in use, down to a leaf. */
static int go_down(struct kv_finger *p, const uint8_t *page, enum side side, const void *key, size_t len)
{
	while (page) {
		struct kv_finger_level *level = &p->levels[p->depth++];
		bool leaf = p->depth == p->tree.depth;
		level->page = page;
		level->n = kv_page_count(page);
		level->at = side == FIRST ? 0 : side == LAST ? level->n - 1 : kv_page_search(page, leaf, p->tree.numbers, key, len);
		if (leaf)
			return 0;
		page = below(p);
	}
	return nowhere(p, -EUCLEAN);
}

static int begin(struct kv_finger *p, enum side side, const void *key, size_t len)
{
	p->depth = 0;
	int r = check_depth(p->map, &p->tree);
	return r ? r : go_down(p, root_of(p->map, &p->tree), side, key, len);
}

/* Beyond the last page in use, or (back) before it: from there to a leaf. */
static int step_over(struct kv_finger *p, bool back)
{
	struct kv_finger_level *level = &p->levels[p->depth - 1];
	do {
		if (--p->depth == 0)
			return -ENOENT;
		level--;
	} while (level->at == (back ? 0 : level->n - 1));
	level->at += back ? -1u : 1;
	return go_down(p, below(p), back ? LAST : FIRST, NULL, 0);
}

/* The same from a leaf.  Keys must go on rising: a crafted tree could lead in circles. */
static int next_leaf(struct kv_finger *p, bool back)
{
	const struct kv_finger_level *level = &p->levels[p->depth - 1];
	const struct kv_lmdb_node *old = kv_page_node(level->page, back ? 0 : level->n - 1);
	int r = step_over(p, back);
	if (r)
		return r;
	level = &p->levels[p->depth - 1];
	int c = compare(p->tree.numbers, kv_page_node(level->page, level->at), old);
	return (back ? c < 0 : c > 0) ? 0 : nowhere(p, damaged(p->map, page_no(level->page), ELSEWHERE));
}

int kv_finger_next(struct kv_finger *p)
{
	if (!p->depth)
		return -ENOENT;
	struct kv_finger_level *level = &p->levels[p->depth - 1];
	if (level->at + 1 >= level->n)
		return next_leaf(p, false);
	level->at++;
	return 0;
}

int kv_finger_prev(struct kv_finger *p)
{
	if (!p->depth)
		return -ENOENT;
	struct kv_finger_level *level = &p->levels[p->depth - 1];
	if (level->at == 0)
		return next_leaf(p, true);
	level->at--;
	return 0;
}

static int compare_key(const struct kv_finger *p, const void *key, size_t len)
{
	const struct kv_finger_level *level = &p->levels[p->depth - 1];
	const struct kv_lmdb_node *node = kv_page_node(level->page, level->at);
	return kv_key_compare(p->tree.numbers, node->key, node->key_size, key, len);
}

static int beside(struct kv_finger *p)
{
	return nowhere(p, damaged(p->map, page_no(p->levels[p->tree.depth - 1].page), ELSEWHERE));
}

/* To the first record at or after the key.  Where that is at the edge of a leaf, the leaf beside it shows whether the branch pages led right (M4). */
static int seek(struct kv_finger *p, const void *key, size_t len)
{
	int r = begin(p, BY_KEY, key, len);
	if (r)
		return r;
	struct kv_finger_level *level = &p->levels[p->depth - 1];
	if (level->at == level->n) {
		level->at--;
		r = next_leaf(p, false);
		return r == 0 && compare_key(p, key, len) < 0 ? beside(p) : r;
	}
	if (level->at || compare_key(p, key, len) == 0)
		return 0;
	struct kv_finger before = *p;
	r = next_leaf(&before, true);
	if (r == 0 && compare_key(&before, key, len) >= 0)
		r = beside(&before);
	return r == -EUCLEAN ? nowhere(p, r) : 0;
}

int kv_finger_seek(struct kv_finger *p, const void *key, size_t len)
{
	return len ? seek(p, key, len) : begin(p, FIRST, NULL, 0);
}

int kv_finger_last(struct kv_finger *p)
{
	return begin(p, LAST, NULL, 0);
}

int kv_finger_get(struct kv_finger *p, bool value, struct kv_record *ret)
{
	const struct kv_finger_level *level = &p->levels[p->depth - 1];
	const struct kv_lmdb_node *node = kv_page_node(level->page, level->at);
	ret->key = (struct kv_bytes){node->key, node->key_size};
	ret->value = (struct kv_bytes){NULL, kv_node_len(node)};
	ret->page = page_no(level->page);
	return value ? value_of(p->map, &p->tree, node, &ret->value) : 0;
}

/* ---- trees ---- */

/* Are all records of a leaf sound, as far as they are in it?  Where that is known, one tells that they are of this tree. */
static int check_leaf(struct kv_map *m, const struct kv_tree *t, const uint8_t *page, kv_sound_fn *sound)
{
	struct kv_map_part *part = part_of(m, page_no(page));
	bool known = part && has_bit(part->whole, page_no(page));
	for (unsigned i = 0; i < kv_page_count(page); i++) {
		const struct kv_lmdb_node *node = kv_page_node(page, i);
		struct kv_bytes key = {node->key, node->key_size}, value = {node->key + node->key_size, kv_node_len(node)};
		if (node->flags)
			continue;
		if (!sound(t->table, key, value))
			return damaged(m, page_no(page), "a record in it does not match its sum");
		if (known)
			return 0;
	}
	if (part)
		set_bit(part->whole, page_no(page));
	return 0;
}

/* A record whose key rotted stands where it stood, beside the place where it is looked for.  Those with pages of their own were passed over. */
static int check_sides(struct kv_map *m, const struct kv_tree *t, const struct kv_finger_level *level, kv_sound_fn *sound)
{
	int r = 0;
	for (unsigned i = level->at ? level->at - 1 : 0; r == 0 && i <= level->at && i < level->n; i++) {
		const struct kv_lmdb_node *node = kv_page_node(level->page, i);
		struct kv_bytes key = {node->key, node->key_size}, value;
		if (!(node->flags & KV_NODE_OVERFLOW))
			continue;
		r = overflow(m, t, node, &value);
		if (r == 0 && !sound(t->table, key, value))
			r = damaged(m, page_no(level->page), "a record in it does not match its sum");
	}
	return r;
}

int kv_tree_find(struct kv_map *m, const struct kv_tree *t, const void *key, size_t len, kv_sound_fn *sound, struct kv_record *ret)
{
	struct kv_finger p;
	kv_finger_init(&p, m, t);
	p.strict = false; /* of what is found the sum tells whether it is the right one */
	int r = begin(&p, BY_KEY, key, len);
	if (r)
		return r;
	const struct kv_finger_level *level = &p.levels[p.depth - 1];
	if (level->at < level->n && compare_key(&p, key, len) == 0)
		return kv_finger_get(&p, true, ret);
	if (!sound)
		return -ENOENT;
	r = check_leaf(m, t, level->page, sound);
	if (r == 0)
		r = check_sides(m, t, level, sound);
	p.strict = true;
	if (r == 0)
		r = seek(&p, key, len);
	return r == -EUCLEAN ? r : -ENOENT;
}

int kv_tree_named(struct kv_map *m, const struct kv_tree *main, const char *name, struct kv_tree *ret, struct kv_record *ret_record)
{
	struct kv_lmdb_tree t;
	struct kv_record rec;
	int r = kv_tree_find(m, main, name, strlen(name), NULL, &rec);
	if (r)
		return r;
	const struct kv_lmdb_node *node = (const struct kv_lmdb_node *)((const uint8_t *)rec.key.data - sizeof *node);
	memcpy(&t, rec.value.data, kv_min(rec.value.len, sizeof t));
	if (node->flags != KV_NODE_TREE || t.flags)
		return damaged(m, rec.page, "a tree in it is none");
	*ret = (struct kv_tree){.root = t.root, .depth = t.depth, .end = main->end, .entries = t.entries};
	if (ret_record)
		*ret_record = rec;
	r = check_depth(m, ret);
	return r == -ENOENT ? 0 : r;
}

/* ---- before LMDB changes a tree ----
 *
 * Which pages LMDB will come to is to be known from the tree as it was before the transaction, for of those that this has changed nothing is seen here.
 * It joins a leaf that is less than a quarter full with one beside it, a branch page that has one child left with one beside that; it looks for the
 * least key below a branch page, and who moves a least key leaves what was before it to the page on the left.  So it comes to an unchanged page only from
 * one beside which that is at its level, or by the way down along an edge of such a one.
 *
 * Between a leaf from which something was taken and that page are leaves from which nothing was: all of their records are now in the leaf that LMDB joins, so
 * they had less than a quarter of a page.  If it joins a branch page over leaves, that one's are in a single leaf; one level further up in three, for the
 * last child that a branch page is left with was made of one with one child and one with two at most; above, there are two of a kind at
 * each level on the way up, however large. */

enum { SIBLINGS = 3 };

/* To one side of a leaf, up to the first page that LMDB cannot come to. */
static int look_beside(const struct kv_finger *from, bool back)
{
	struct kv_finger p = *from, edge;
	const unsigned depth = p.tree.depth;
	size_t room = p.map->page_size - HEADER, reach = depth > 3 ? 3 * room + 1 : depth > 2 ? room + 1 : room / 4;
	int r = 0;
	for (size_t seen = 0; r == 0 && seen < reach;) {
		r = next_leaf(&p, back);
		if (r == 0)
			seen += room - room_of(p.levels[depth - 1].page);
	}
	for (unsigned up = 1; up + 4 <= depth; up++)
		for (unsigned i = 0; r == 0 && i < SIBLINGS; i++) {
			p.depth = depth - up;
			r = step_over(&p, back);
			edge = p;
			edge.depth = depth - up - 1;
			if (r == 0)
				r = go_down(&edge, below(&edge), back ? FIRST : LAST, NULL, 0);
		}
	return r == -ENOENT ? 0 : r;
}

/* Bytes in its leaf, of a value. */
static uint64_t bytes_in_leaf(const struct kv_map *m, size_t key_len, uint64_t len)
{
	return kv_node_is_large(m->page_size, key_len, len) ? sizeof(uint64_t) : len;
}

int kv_tree_prepare(struct kv_map *m, const struct kv_tree *t, const void *key, size_t len, uint64_t left)
{
	struct kv_finger p;
	struct kv_bytes value;
	kv_finger_init(&p, m, t);
	int r = begin(&p, BY_KEY, key, len);
	if (r)
		return r == -ENOENT ? 0 : r;
	const struct kv_finger_level *level = &p.levels[p.depth - 1];
	bool fewer = left == 0;
	if (level->at < level->n && compare_key(&p, key, len) == 0) {
		const struct kv_lmdb_node *node = kv_page_node(level->page, level->at);
		/* LMDB frees as many pages as the first of them says */
		r = value_of(m, t, node, &value);
		uint64_t now = node->flags & KV_NODE_OVERFLOW ? sizeof(uint64_t) : kv_node_len(node);
		fewer |= left != KV_UNCHANGED && bytes_in_leaf(m, len, left) < now;
	}
	if (r || !fewer)
		return r;
	r = look_beside(&p, true);
	return r ? r : look_beside(&p, false);
}

/* ---- what is free ---- */

/* Which pages have an owner, a bit for each. */
struct owners {
	uint64_t *bits;
	uint64_t end;
};

/* False: one of them has. */
static bool own(struct owners *o, uint64_t page, uint64_t n)
{
	for (uint64_t i = page; i < page + n; i++) {
		uint64_t bit = 1ull << (i % 64);
		if (i >= o->end || o->bits[i / 64] & bit)
			return false;
		o->bits[i / 64] |= bit;
	}
	return true;
}

/* The pages of its own that a value has. */
static int own_value(struct kv_map *m, const struct kv_tree *t, struct owners *o, const struct kv_lmdb_node *node)
{
	struct kv_bytes value;
	int r = overflow(m, t, node, &value);
	if (r)
		return r;
	const uint8_t *page = (const uint8_t *)value.data - HEADER;
	return own(o, page_no(page), pages_of_value(page)) ? 0 : damaged(m, page_no(page), "it is in two places");
}

static int own_page(struct kv_map *m, const struct kv_tree *t, struct owners *o, const uint8_t *page, unsigned level)
{
	bool leaf = level + 1 == t->depth;
	int r = 0;
	if (!page)
		return -EUCLEAN;
	if (!own(o, page_no(page), 1))
		return damaged(m, page_no(page), "it is in two places");
	for (unsigned i = 0; r == 0 && i < kv_page_count(page); i++) {
		const struct kv_lmdb_node *node = kv_page_node(page, i);
		if (!leaf)
			r = own_page(m, t, o, child_at(m, t, page, i, level), level + 1);
		else if (node->flags & KV_NODE_OVERFLOW)
			r = own_value(m, t, o, node);
	}
	return r;
}

static int own_tree(struct kv_map *m, const struct kv_tree *t, struct owners *o)
{
	int r = check_depth(m, t);
	if (r)
		return r == -ENOENT ? 0 : r;
	return own_page(m, t, o, root_of(m, t), 0);
}

/* A record of the free tree: how many pages, then their numbers, falling. */
static int check_list(struct kv_map *m, const struct kv_tree *t, const struct kv_record *rec, struct owners *o, uint64_t *ret)
{
	uint64_t n = 0, page, before = t->end;
	*ret = 0;
	if (rec->value.len >= sizeof n)
		memcpy(&n, rec->value.data, sizeof n);
	if (rec->value.len < sizeof n || n > rec->value.len / sizeof n - 1)
		return damaged(m, rec->page, "a list of free pages in it is damaged");
	for (uint64_t i = 1; i <= n && o; i++, before = page) {
		memcpy(&page, (const uint8_t *)rec->value.data + i * sizeof page, sizeof page);
		if (page < 2 || page >= before || !own(o, page, 1))
			return damaged(m, rec->page, "a list of free pages in it is damaged");
	}
	*ret = n;
	return 0;
}

/* All of the free tree.  At most `most` numbers are looked at. */
static int check_lists(
	struct kv_map *m, const struct kv_tree *t, struct owners *o, uint64_t most, uint64_t *ret_pages, uint64_t *ret_txns)
{
	struct kv_finger p;
	struct kv_record rec;
	uint64_t n;
	kv_finger_init(&p, m, t);
	*ret_pages = *ret_txns = 0;
	int r = begin(&p, FIRST, NULL, 0);
	while (r == 0 && (r = kv_finger_get(&p, true, &rec)) == 0) {
		r = check_list(m, t, &rec, *ret_pages < most ? o : NULL, &n);
		*ret_pages += n;
		*ret_txns += 1;
		r = r ? r : kv_finger_next(&p);
	}
	return r == -ENOENT ? 0 : r;
}

int kv_tree_count_free(struct kv_map *m, const struct kv_tree *t, uint64_t *ret_pages, uint64_t *ret_txns)
{
	return check_lists(m, t, NULL, 0, ret_pages, ret_txns);
}

int kv_map_check(struct kv_map *m, const struct kv_tree *free, const struct kv_tree *const trees[], size_t n, uint64_t most)
{
	uint64_t pages, txns;
	struct owners o = {.end = kv_min(free->end, m->max)};
	KV_FREE uint64_t *bits = o.bits = calloc(o.end / 64 + 1, sizeof *bits);
	if (!bits)
		return kv_fail(ENOMEM);
	int r = n ? own_tree(m, free, &o) : 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = own_tree(m, trees[i], &o);
	return r ? r : check_lists(m, free, &o, most, &pages, &txns);
}
