/* A state of data.mdb, copied into a file without free pages: each page after those it leads to, so that the copy is written from its begin to
 * its end, the meta pages last.  What is damaged is not copied: every page is checked, and every record by who asks for it. */
#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "pages.h"

#define BUFFER ((size_t)4 << 20)

/* ---- writing ---- */

static int write_all(int fd, const uint8_t *data, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, data, len, (off_t)at);
		if (n <= 0 && errno != EINTR)
			return kv_fail(n < 0 ? errno : ENOSPC);
		if (n > 0) {
			data += n;
			len -= (size_t)n;
			at += (uint64_t)n;
		}
	}
	return 0;
}

static int flush(struct kv_copy *c)
{
	int r = write_all(c->to, c->buf, c->fill, c->next * c->from->page_size - c->fill);
	c->fill = 0;
	return r;
}

/* Room for n pages, which get the next numbers; zeros. */
static int next_pages(struct kv_copy *c, uint64_t n, uint8_t **ret)
{
	size_t len = n * c->from->page_size;
	int r = 0;
	if (c->next + n > c->from->end)
		return snprintf(c->damage, sizeof c->damage, "its pages lead in circles"), kv_fail(EUCLEAN);
	if (c->fill + len > BUFFER)
		r = flush(c);
	if (r == 0 && len > BUFFER)
		return kv_fail(EFBIG);
	*ret = c->buf + c->fill;
	memset(*ret, 0, len);
	uint64_t before = c->next;
	c->fill += len;
	c->next += n;
	if (r == 0 && c->progress && before / 1024 != c->next / 1024)
		r = c->progress(c->arg, kv_min(c->next, c->total), c->total);
	return r;
}

/* ---- one tree ---- */

struct tree {
	struct kv_copy *copy;
	const char *name;
	struct kv_lmdb_tree old, new;
};

static int copy_tree(struct kv_copy *c, const char *name, const struct kv_lmdb_tree *old, struct kv_lmdb_tree *ret);

static int damaged(struct tree *t, uint64_t page, const char *why)
{
	snprintf(t->copy->damage, sizeof t->copy->damage, "page %llu of its tree '%s': %s", (unsigned long long)page, t->name, why);
	return kv_fail(EUCLEAN);
}

static int check_record(struct tree *t, const struct kv_lmdb_node *n, uint64_t page, const void *data)
{
	struct kv_copy *c = t->copy;
	if (c->sound && !c->sound(c->arg, t->name, (struct kv_bytes){n->key, n->key_size}, (struct kv_bytes){data, kv_node_len(n)}))
		return damaged(t, page, "a record in it does not match its sum");
	return 0;
}

/* A value on pages of its own: these go first, and their number into the node. */
static int copy_value(struct tree *t, struct kv_lmdb_node *n, uint64_t page_no)
{
	const struct kv_pages *from = t->copy->from;
	uint64_t page, len = kv_node_len(n), need = (len + sizeof(struct kv_lmdb_page) + from->page_size - 1) / from->page_size;
	uint8_t *room;
	memcpy(&page, n->key + n->key_size, sizeof page);
	if (!kv_page_overflow(from, page, len))
		return damaged(t, page, "no value begins there");
	uint64_t number = t->copy->next;
	int r = next_pages(t->copy, need, &room);
	if (r)
		return r;
	if (pread(from->fd, room, len + sizeof(struct kv_lmdb_page), (off_t)(page * from->page_size)) < 0)
		return kv_fail(EIO);
	struct kv_lmdb_page head = {
		.page_no = number, .flags = KV_PAGE_OVERFLOW, .lower = (uint16_t)need, .upper = (uint16_t)(need >> 16)};
	memcpy(room, &head, sizeof head);
	memcpy(n->key + n->key_size, &number, sizeof number);
	t->new.overflow_pages += need;
	return check_record(t, n, page_no, room + sizeof head);
}

/* A tree that the record is the root of. */
static int copy_inner(struct tree *t, struct kv_lmdb_node *n, uint64_t page_no)
{
	struct kv_lmdb_tree inner;
	char name[KV_LMDB_KEY_MAX + 1];
	if (strcmp(t->name, "main") != 0 || kv_node_len(n) != sizeof inner)
		return damaged(t, page_no, "a tree in it is none");
	memcpy(name, n->key, n->key_size);
	name[n->key_size] = 0;
	memcpy(&inner, n->key + n->key_size, sizeof inner);
	int r = copy_tree(t->copy, name, &inner, &inner);
	memcpy(n->key + n->key_size, &inner, sizeof inner);
	return r;
}

static int copy_node(struct tree *t, struct kv_lmdb_node *n, uint64_t page_no)
{
	t->new.entries++;
	if (n->flags & KV_NODE_TREE)
		return copy_inner(t, n, page_no);
	if (n->flags & KV_NODE_OVERFLOW)
		return copy_value(t, n, page_no);
	return check_record(t, n, page_no, n->key + n->key_size);
}

static int copy_page(struct tree *t, uint64_t page_no, unsigned level, uint64_t *ret)
{
	struct kv_copy *c = t->copy;
	bool leaf = level == t->old.depth;
	const char *why = NULL;
	uint8_t *room;
	KV_FREE uint8_t *page = malloc(c->from->page_size);
	int r = page ? kv_page_read(c->from, page_no, leaf, page, &why) : kv_fail(ENOMEM);
	if (r == -EUCLEAN)
		return damaged(t, page_no, why);
	for (unsigned i = 0; r == 0 && i < kv_page_count(page); i++) {
		struct kv_lmdb_node *n = kv_page_node(page, i);
		uint64_t child;
		r = leaf ? copy_node(t, n, page_no) : copy_page(t, kv_node_child(n), level + 1, &child);
		if (r == 0 && !leaf) {
			n->lo = (uint16_t)child;
			n->hi = (uint16_t)(child >> 16);
			n->flags = (uint16_t)(child >> 32);
		}
	}
	*ret = c->next;
	if (r == 0)
		r = next_pages(c, 1, &room);
	if (r)
		return r;
	memcpy(page, ret, sizeof *ret); /* its own number */
	memcpy(room, page, c->from->page_size);
	*(leaf ? &t->new.leaf_pages : &t->new.branch_pages) += 1;
	return 0;
}

static int copy_tree(struct kv_copy *c, const char *name, const struct kv_lmdb_tree *old, struct kv_lmdb_tree *ret)
{
	struct tree t = {.copy = c, .name = name, .old = *old, .new = {.flags = old->flags, .depth = old->depth}};
	int r = 0;
	if (old->root != KV_NO_PAGE && (!old->depth || old->depth > KV_DEPTH_MAX))
		return damaged(&t, old->root, "its tree has no sound depth");
	uint64_t root = KV_NO_PAGE;
	if (old->root != KV_NO_PAGE)
		r = copy_page(&t, old->root, 1, &root);
	t.new.root = root;
	*ret = t.new;
	return r;
}

/* ---- all of it ---- */

/* Pages that the trees say they have. */
static int count_pages(const struct kv_pages *from, uint64_t *ret)
{
	struct kv_scan s;
	int r = kv_scan_open(&s, from, &from->main, NULL);
	*ret = 2 + from->main.branch_pages + from->main.leaf_pages + from->main.overflow_pages;
	while (r >= 0 && (r = kv_scan_next(&s)) == 1)
		if (s.flags & KV_NODE_TREE && s.len == sizeof(struct kv_lmdb_tree)) {
			struct kv_lmdb_tree t;
			memcpy(&t, s.data, sizeof t);
			*ret += t.branch_pages + t.leaf_pages + t.overflow_pages;
		}
	kv_scan_close(&s);
	return r;
}

static int write_metas(struct kv_copy *c, const struct kv_lmdb_tree *main)
{
	const struct kv_pages *from = c->from;
	struct kv_lmdb_meta meta = {.magic = KV_META_MAGIC, .version = KV_META_VERSION, .map_size = c->next * from->page_size};
	KV_FREE uint8_t *pages = calloc(2, from->page_size);
	if (!pages)
		return kv_fail(ENOMEM);
	meta.head = (struct kv_lmdb_page){.flags = KV_PAGE_META};
	meta.free = (struct kv_lmdb_tree){.pad = from->page_size, .flags = from->free.flags, .root = KV_NO_PAGE};
	meta.main = *main;
	meta.last_page = c->next - 1;
	for (uint64_t i = 0; i < 2; i++) {
		meta.head.page_no = i;
		/* a transaction's meta page is that of its number's lowest bit; the other one says the same, and is the older */
		meta.txnid = (from->txnid & 1) == i ? from->txnid : from->txnid - 1;
		memcpy(pages + i * from->page_size, &meta, sizeof meta);
	}
	return write_all(c->to, pages, 2 * (size_t)from->page_size, 0);
}

int kv_pages_copy(struct kv_copy *c)
{
	struct kv_lmdb_tree main;
	c->next = 2;
	c->fill = 0;
	c->damage[0] = 0;
	c->buf = malloc(BUFFER);
	int r = c->buf ? count_pages(c->from, &c->total) : kv_fail(ENOMEM);
	if (r == 0)
		r = copy_tree(c, "main", &c->from->main, &main);
	if (r == 0)
		r = flush(c);
	if (r == 0 && fdatasync(c->to))
		r = kv_fail(errno);
	if (r == 0)
		r = write_metas(c, &main);
	if (r == 0 && fsync(c->to))
		r = kv_fail(errno);
	free(c->buf);
	c->buf = NULL;
	return r;
}
