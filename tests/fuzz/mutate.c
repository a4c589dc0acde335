/* Mutations; see mutate.h. */
#include "mutate.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "db.h"

#define PAGE 4096u

/* ---- chance ---- */

static uint64_t any(struct chance *rng, size_t size)
{
	uint64_t v = 0;
	if (!rng->len)
		return support_random(&rng->rng);
	size = kv_min(size, rng->len);
	memcpy(&v, rng->data, size);
	rng->data += size;
	rng->len -= size;
	return v;
}

static uint64_t below(struct chance *rng, uint64_t n)
{
	return n ? any(rng, n <= 1 << 8 ? 1 : n <= 1 << 16 ? 2 : 8) % n : 0;
}

/* Numbers that break things: around the limits of each width, near the old one, anything. */
static uint64_t odd_number(struct chance *rng, uint64_t old)
{
	static const uint64_t odd[] = {0, 1, 2, 3, 7, 8, 15, 16, 17, 18, 255, 256, 511, 512, 2038, 2040, 4079, 4080, 4094, 4095,
		4096, 4097, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x10000, 0x7fffffff, 0xffffffff, 1ull << 47, 1ull << 51, 1ull << 52,
		1ull << 62, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
	switch (below(rng, 4)) {
	case 0:
		return odd[below(rng, sizeof odd / sizeof *odd)];
	case 1:
		return old + below(rng, 9) - 4;
	case 2:
		return old ^ 1ull << below(rng, 64);
	default:
		return any(rng, 8) >> below(rng, 64);
	}
}

static void spoil(struct chance *rng, void *at, size_t size)
{
	uint64_t v = 0;
	memcpy(&v, at, size);
	v = odd_number(rng, v);
	memcpy(at, &v, size);
}

/* ---- what is where ---- */

static uint64_t pages(const struct image *img)
{
	return img->len / PAGE;
}

static uint8_t *page_of(const struct image *img, uint64_t no)
{
	return img->data + no * PAGE;
}

static struct kv_lmdb_page *head_of(const struct image *img, uint64_t no)
{
	return (struct kv_lmdb_page *)page_of(img, no);
}

static struct kv_lmdb_meta *meta_of(const struct image *img)
{
	struct kv_lmdb_meta *a = (struct kv_lmdb_meta *)page_of(img, 0), *b = (struct kv_lmdb_meta *)page_of(img, 1);
	return b->txnid > a->txnid ? b : a;
}

static bool is_sound(const struct image *img, uint64_t no, bool leaf)
{
	return kv_page_fault(page_of(img, no), no, PAGE, leaf) == NULL;
}

/* A page of a tree (`branch`: if there is one), by chance; most are in use. */
static uint64_t some_page(const struct image *img, struct chance *rng, bool branch)
{
	uint64_t no = 2;
	for (unsigned i = 0; i < 400; i++) {
		no = 2 + below(rng, pages(img) - 2);
		if (branch ? is_sound(img, no, false) : is_sound(img, no, true) || is_sound(img, no, false))
			break;
	}
	return no;
}

static struct kv_lmdb_node *some_node(const struct image *img, struct chance *rng)
{
	uint64_t no = some_page(img, rng, below(rng, 3) == 0);
	if (!is_sound(img, no, true) && !is_sound(img, no, false))
		return NULL;
	return kv_page_node(page_of(img, no), (unsigned)below(rng, kv_page_count(page_of(img, no))));
}

/* ---- bytes ---- */

static void flip_bits(struct image *img, struct chance *rng)
{
	for (uint64_t n = 1 + below(rng, 8); n; n--)
		img->data[below(rng, img->len)] ^= (uint8_t)(1u << below(rng, 8));
}

static void set_bytes(struct image *img, struct chance *rng)
{
	uint64_t at = some_page(img, rng, false) * PAGE + below(rng, PAGE);
	static const uint8_t values[] = {0, 0xff, 0x7f, 0x80, 1};
	for (uint64_t n = 1 + below(rng, 16); n && at < img->len; n--)
		img->data[at++] = below(rng, 2) ? values[below(rng, 5)] : (uint8_t)any(rng, 1);
}

static void zero_page(struct image *img, struct chance *rng)
{
	memset(page_of(img, below(rng, pages(img))), 0, PAGE);
}

static void random_page(struct image *img, struct chance *rng)
{
	uint64_t no = 2 + below(rng, pages(img) - 2);
	support_fill(&rng->rng, page_of(img, no), PAGE);
	if (below(rng, 2)) {
		head_of(img, no)->page_no = no;
		head_of(img, no)->flags = below(rng, 2) ? KV_PAGE_LEAF : KV_PAGE_BRANCH;
	}
}

static void truncate_file(struct image *img, struct chance *rng)
{
	img->len = below(rng, img->len);
	if (below(rng, 4))
		img->len -= img->len % PAGE;
}

/* ---- pages ---- */

static void exchange(const struct image *img, uint64_t a, uint64_t b)
{
	uint8_t tmp[PAGE];
	memcpy(tmp, page_of(img, a), PAGE);
	memcpy(page_of(img, a), page_of(img, b), PAGE);
	memcpy(page_of(img, b), tmp, PAGE);
}

static void swap_pages(struct image *img, struct chance *rng)
{
	uint64_t a = some_page(img, rng, false), b = some_page(img, rng, below(rng, 2));
	exchange(img, a, b);
	if (below(rng, 2)) {
		head_of(img, a)->page_no = a;
		head_of(img, b)->page_no = b;
	}
}

static void copy_page(struct image *img, struct chance *rng)
{
	uint64_t a = some_page(img, rng, false), b = some_page(img, rng, below(rng, 2));
	memcpy(page_of(img, a), page_of(img, b), PAGE);
	if (below(rng, 4))
		head_of(img, a)->page_no = a;
}

static void spoil_header(struct image *img, struct chance *rng)
{
	struct kv_lmdb_page *h = head_of(img, some_page(img, rng, below(rng, 2)));
	for (uint64_t n = 1 + below(rng, 2); n; n--)
		switch (below(rng, 6)) {
		case 0:
			spoil(rng, &h->page_no, sizeof h->page_no);
			break;
		case 1:
			spoil(rng, &h->pad, sizeof h->pad);
			break;
		case 2:
			h->flags = (uint16_t)(below(rng, 2) ? h->flags ^ 1u << below(rng, 16) : below(rng, 128));
			break;
		case 3:
			spoil(rng, &h->lower, sizeof h->lower);
			break;
		case 4:
			spoil(rng, &h->upper, sizeof h->upper);
			break;
		default: /* fewer or more nodes than there are */
			h->lower = (uint16_t)(h->lower + 2 * (below(rng, 9) - 4));
		}
}

static void spoil_pointers(struct image *img, struct chance *rng)
{
	uint8_t *page = page_of(img, some_page(img, rng, below(rng, 2)));
	unsigned n = kv_page_count(page) % 2000;
	for (uint64_t times = 1 + below(rng, 3); n && times; times--) {
		uint8_t *at = page + sizeof(struct kv_lmdb_page) + 2 * below(rng, n);
		if (below(rng, 3))
			spoil(rng, at, 2);
		else
			memcpy(at, page + sizeof(struct kv_lmdb_page) + 2 * below(rng, n), 2);
	}
}

static void spoil_node(struct image *img, struct chance *rng)
{
	struct kv_lmdb_node *node = some_node(img, rng);
	if (!node)
		return;
	switch (below(rng, 5)) {
	case 0:
		spoil(rng, &node->lo, 2);
		break;
	case 1:
		spoil(rng, &node->hi, 2);
		break;
	case 2:
		node->flags ^= (uint16_t)(1u << below(rng, below(rng, 2) ? 3 : 16));
		break;
	case 3:
		spoil(rng, &node->key_size, 2);
		break;
	default:
		if (node->key_size)
			node->key[below(rng, node->key_size)] ^= (uint8_t)(1 + below(rng, 255));
	}
}

static void set_child(const struct image *img, uint64_t no, unsigned i, uint64_t to)
{
	struct kv_lmdb_node *node = kv_page_node(page_of(img, no), i);
	node->lo = (uint16_t)to;
	node->hi = (uint16_t)(to >> 16);
	node->flags = (uint16_t)(to >> 32);
}

/* A branch that leads elsewhere: to itself, to a page above it, past the end. */
static void spoil_child(struct image *img, struct chance *rng)
{
	uint64_t no = some_page(img, rng, true), to = below(rng, 3) ? below(rng, pages(img)) : odd_number(rng, no);
	if (!is_sound(img, no, false))
		return;
	unsigned i = (unsigned)below(rng, kv_page_count(page_of(img, no)));
	set_child(img, no, i, below(rng, 4) ? to : no);
}

/* ---- pages that are sound, in the wrong place ---- */

static uint64_t child_of(const struct image *img, uint64_t no, unsigned i)
{
	return kv_node_child(kv_page_node(page_of(img, no), i));
}

/* Two children of a branch page: one leads to both, or each to the other's, or their pages have each other's bytes. */
static void confuse_children(struct image *img, struct chance *rng)
{
	uint64_t no = some_page(img, rng, true);
	if (!is_sound(img, no, false))
		return;
	unsigned n = kv_page_count(page_of(img, no)), i = (unsigned)below(rng, n), j = (unsigned)below(rng, n);
	uint64_t a = child_of(img, no, i), b = child_of(img, no, j);
	if (a >= pages(img) || b >= pages(img))
		return;
	switch (below(rng, 4)) {
	case 0:
		set_child(img, no, i, b);
		break;
	case 1:
		set_child(img, no, i, b);
		set_child(img, no, j, a);
		break;
	case 2:
		memcpy(page_of(img, a), page_of(img, b), PAGE);
		head_of(img, a)->page_no = a;
		break;
	default:
		exchange(img, a, b);
		head_of(img, a)->page_no = a;
		head_of(img, b)->page_no = b;
	}
}

/* A key that is a little more or less, or its neighbour's, or longer or shorter where the page has room. */
static void shift_key(struct image *img, struct chance *rng)
{
	uint64_t no = some_page(img, rng, below(rng, 3) != 0);
	if (!is_sound(img, no, false) && !is_sound(img, no, true))
		return;
	unsigned n = kv_page_count(page_of(img, no)), i = (unsigned)below(rng, n), j = i + 1 < n ? i + 1 : i ? i - 1 : 0;
	struct kv_lmdb_node *node = kv_page_node(page_of(img, no), i), *beside = kv_page_node(page_of(img, no), j);
	size_t common = kv_min(node->key_size, beside->key_size);
	if (!node->key_size)
		return;
	switch (below(rng, 4)) {
	case 0:
		node->key[node->key_size - 1]++;
		break;
	case 1:
		node->key[node->key_size - 1]--;
		break;
	case 2:
		memcpy(node->key, beside->key, common);
		break;
	default: /* what it is rounded up to */
		node->key_size = (uint16_t)(node->key_size ^ 1);
	}
}

/* A sector of another page, or of none, in a page's place. */
static void tear_page(struct image *img, struct chance *rng)
{
	uint64_t a = some_page(img, rng, below(rng, 2)), b = some_page(img, rng, below(rng, 2)), at = 512 * below(rng, 8);
	if (below(rng, 4))
		memcpy(page_of(img, a) + at, page_of(img, b) + at, 512);
	else
		memset(page_of(img, a) + at, 0, 512);
}

static void spoil_flags(struct image *img, struct chance *rng)
{
	uint64_t no = some_page(img, rng, false);
	if (!is_sound(img, no, true))
		return;
	struct kv_lmdb_node *node = kv_page_node(page_of(img, no), (unsigned)below(rng, kv_page_count(page_of(img, no))));
	node->flags ^= (uint16_t)(1 + below(rng, 7));
}

/* ---- LMDB's own records ---- */

static void spoil_tree(struct chance *rng, struct kv_lmdb_tree *t, uint64_t pages)
{
	switch (below(rng, 6)) {
	case 0:
		spoil(rng, &t->flags, 2);
		break;
	case 1:
		spoil(rng, &t->depth, 2);
		break;
	case 2:
		spoil(rng, &t->root, 8);
		break;
	case 3:
		t->root = below(rng, pages);
		break;
	case 4:
		spoil(rng, &t->pad, 4);
		break;
	default:
		spoil(rng, (uint8_t *)t + offsetof(struct kv_lmdb_tree, branch_pages) + 8 * below(rng, 4), 8);
	}
}

static void spoil_meta(struct image *img, struct chance *rng)
{
	struct kv_lmdb_meta *m = below(rng, 3) ? meta_of(img) : (struct kv_lmdb_meta *)page_of(img, below(rng, 2));
	switch (below(rng, 8)) {
	case 0:
		spoil(rng, &m->txnid, 8);
		break;
	case 1:
		spoil(rng, &m->last_page, 8);
		break;
	case 2:
		m->last_page = below(rng, pages(img));
		break;
	case 3:
		spoil(rng, &m->map_size, 8);
		break;
	case 4:
		spoil(rng, &m->address, 8);
		break;
	case 5:
		spoil_tree(rng, &m->free, pages(img));
		break;
	case 6:
		spoil_tree(rng, &m->main, pages(img));
		break;
	default:
		((uint8_t *)m)[below(rng, sizeof *m)] ^= (uint8_t)(1u << below(rng, 8));
	}
}

static void spoil_root(struct image *img, struct chance *rng)
{
	for (unsigned i = 0; i < 3000; i++) {
		struct kv_lmdb_node *node = some_node(img, rng);
		if (!node || !(node->flags & KV_NODE_TREE) || node->key_size > 16)
			continue;
		spoil_tree(rng, (struct kv_lmdb_tree *)(node->key + node->key_size), pages(img));
		return;
	}
}

static void spoil_overflow(struct image *img, struct chance *rng)
{
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t no = 2 + below(rng, pages(img) - 2);
		struct kv_lmdb_page *h = head_of(img, no);
		if (h->flags != KV_PAGE_OVERFLOW || h->page_no != no)
			continue;
		uint32_t n = h->lower | (uint32_t)h->upper << 16;
		n = (uint32_t)odd_number(rng, n);
		h->lower = (uint16_t)n;
		h->upper = (uint16_t)(n >> 16);
		return;
	}
}

static void spoil_free_list(struct image *img, struct chance *rng)
{
	uint64_t no = meta_of(img)->free.root;
	if (no >= pages(img) || !is_sound(img, no, true))
		return;
	struct kv_lmdb_node *node = kv_page_node(page_of(img, no), (unsigned)below(rng, kv_page_count(page_of(img, no))));
	uint8_t *value = node->key + node->key_size;
	size_t n = kv_node_len(node) / 8;
	if (node->flags || n > PAGE / 8)
		return;
	for (uint64_t times = 1 + below(rng, 3); times; times--) {
		uint8_t *at = value + 8 * below(rng, n);
		uint64_t page = below(rng, pages(img));
		if (below(rng, 2))
			memcpy(at, &page, 8);
		else
			spoil(rng, below(rng, 4) ? at : node->key, 8);
	}
}

/* ---- records with good sums ---- */

static uint32_t sum_of(unsigned table, const void *key, size_t len, const void *data, size_t n)
{
	return (uint32_t)(XXH3_64bits(data, n) ^ XXH3_64bits_withSeed(key, len, table));
}

/* Whose is a record?  Its key without the table's byte. */
static bool owner_of(const struct kv_lmdb_node *node, const uint8_t *value, unsigned *ret_table, struct kv_bytes *ret_key)
{
	struct kv_bytes raw = {value, kv_node_len(node)}, rec;
	for (unsigned t = 0; t < KV_TABLES; t++) {
		unsigned skip = t <= KV_LOG ? 1 : 0;
		if (node->key_size < skip || (skip && node->key[0] != t + 1))
			continue;
		*ret_key = (struct kv_bytes){node->key + skip, node->key_size - skip};
		*ret_table = t;
		if (kv_db_open_record((enum kv_table)t, *ret_key, raw, &rec))
			return true;
	}
	return false;
}

static void forge_one(struct image *img, struct chance *rng)
{
	struct kv_lmdb_node *node = NULL;
	unsigned table = 0;
	struct kv_bytes key = {0};
	uint8_t *value = NULL;
	for (unsigned i = 0; i < 200; i++) {
		node = some_node(img, rng);
		value = node ? node->key + node->key_size : NULL;
		if (node && !node->flags && owner_of(node, value, &table, &key) && kv_node_len(node) > 4)
			break;
		node = NULL;
	}
	if (!node)
		return;
	size_t n = kv_node_len(node) - 4;
	for (uint64_t times = 1 + below(rng, 4); times; times--) {
		size_t size = (size_t)1 << below(rng, 4), at = below(rng, n);
		/* the fixed part, which counts and lengths are in, more often than what follows */
		if (below(rng, 2))
			at = below(rng, kv_min(n, 160));
		if (at + size <= n)
			spoil(rng, value + 4 + at, size);
	}
	if (below(rng, 4) == 0 && key.len) {
		spoil(rng, (uint8_t *)(uintptr_t)key.data + below(rng, key.len), 1);
	}
	if (below(rng, 4) ==
		0) { /* shorter than it says; what was behind it is then not accounted for, so only by what the page rounds to */
		uint32_t cut = n & 1 ? 1 : 0;
		n -= cut;
		node->lo = (uint16_t)(node->lo - cut);
	}
	uint32_t sum = sum_of(table, key.data, key.len, value + 4, n);
	memcpy(value, &sum, sizeof sum);
}

static void forge(struct image *img, struct chance *rng)
{
	for (uint64_t n = 1 + below(rng, 4); n; n--)
		forge_one(img, rng);
}

/* Many at once, of every kind. */
static void mix(struct image *img, struct chance *rng)
{
	for (uint64_t n = 2 + below(rng, 6); n; n--) {
		const struct mutation *m = &mutations[below(rng, mutation_count)];
		if (m->apply != mix && m->apply != truncate_file)
			m->apply(img, rng);
	}
}

const struct mutation mutations[] = {
	{"bits", flip_bits, false},
	{"bytes", set_bytes, false},
	{"zeros", zero_page, false},
	{"noise", random_page, false},
	{"cut", truncate_file, false},
	{"swap", swap_pages, false},
	{"copy", copy_page, false},
	{"header", spoil_header, false},
	{"pointers", spoil_pointers, false},
	{"node", spoil_node, false},
	{"child", spoil_child, false},
	{"meta", spoil_meta, false},
	{"root", spoil_root, false},
	{"overflow", spoil_overflow, false},
	{"free list", spoil_free_list, false},
	{"children", confuse_children, false},
	{"keys", shift_key, false},
	{"torn", tear_page, false},
	{"flags", spoil_flags, false},
	{"forged", forge, true},
	{"mix", mix, true},
};
const unsigned mutation_count = sizeof mutations / sizeof *mutations;

/* ---- files ---- */

struct image image_load(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	struct image img = {.len = (size_t)st.st_size, .cap = (size_t)st.st_size + IMAGE_ROOM};
	img.data = calloc(1, img.cap);
	assert_int_equal(read(fd, img.data, img.len), img.len);
	close(fd);
	return img;
}

void image_store(const struct image *img, const char *path)
{
	char file[300];
	support_remove(path);
	snprintf(file, sizeof file, "%s/data.mdb", path);
	int fd = mkdir(path, 0700) ? -1 : open(file, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0 || write(fd, img->data, img->len) != (ssize_t)img->len)
		abort();
	close(fd);
}

void mutate_store(const struct image *original, unsigned long number, const char *path)
{
	struct chance chance = {.rng = support_rng(number)};
	struct image img = {.data = malloc(original->cap), .len = original->len, .cap = original->cap};
	memcpy(img.data, original->data, original->cap);
	mutations[number % mutation_count].apply(&img, &chance);
	image_store(&img, path);
	free(img.data);
}
