/* The meta pages of data.mdb, by system calls: which state they name, whether all of it is there, and how they are put back (syncfile.h).
 *
 * All trees of a state are walked, page by page.  Values on pages of their own are not read: their sums tell when they are. */
#include "db.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "err.h"
#include "pages.h"

struct walk {
	int fd;
	uint32_t page_size;
	uint64_t pages; /* that are there */
};

struct walked {
	uint64_t branch_pages, leaf_pages, entries;
	uint64_t most; /* pages that it may have: ends the walk of a tree with a loop */
};

static bool tree_is_there(const struct walk *w, const struct kv_lmdb_tree *tree, unsigned depth);
static bool pages_are_there(const struct walk *w, uint64_t root, unsigned depth, struct walked *sum);

/* Whether what a leaf's node leads to, if anything, is in the file. */
static bool node_is_there(const struct walk *w, const struct kv_lmdb_node *node, const uint8_t *end, unsigned depth)
{
	const uint8_t *data = node->key + node->key_size;
	uint64_t size = node->lo | (uint64_t)node->hi << 16, page_no;
	struct kv_lmdb_tree tree;
	if (node->flags & KV_NODE_TREE) {
		if (data + sizeof tree > end)
			return false;
		memcpy(&tree, data, sizeof tree);
		return tree_is_there(w, &tree, depth + 1);
	}
	if (!(node->flags & KV_NODE_OVERFLOW))
		return true;
	if (data + sizeof page_no > end)
		return false;
	memcpy(&page_no, data, sizeof page_no);
	return page_no < w->pages && w->pages - page_no >= (sizeof(struct kv_lmdb_page) + size + w->page_size - 1) / w->page_size;
}

static bool page_is_there(const struct walk *w, const struct kv_lmdb_page *page, unsigned depth, struct walked *sum)
{
	const uint8_t *end = (const uint8_t *)page + w->page_size;
	unsigned n = (page->lower - (unsigned)sizeof *page) / 2;
	sum->branch_pages += page->flags & KV_PAGE_BRANCH ? 1 : 0;
	sum->leaf_pages += page->flags & KV_PAGE_BRANCH ? 0 : 1;
	sum->entries += page->flags & KV_PAGE_BRANCH ? 0 : n;
	for (unsigned i = 0; i < n; i++) {
		uint16_t at;
		memcpy(&at, (const uint8_t *)page + sizeof *page + 2 * i, sizeof at);
		const struct kv_lmdb_node *node = (const struct kv_lmdb_node *)((const uint8_t *)page + at);
		if (at < sizeof *page || at + sizeof *node > w->page_size || node->key + node->key_size > end)
			return false;
		uint64_t child = node->lo | (uint64_t)node->hi << 16 | (uint64_t)node->flags << 32;
		if (page->flags & KV_PAGE_BRANCH ? !pages_are_there(w, child, depth + 1, sum) : !node_is_there(w, node, end, depth))
			return false;
	}
	return true;
}

static bool pages_are_there(const struct walk *w, uint64_t root, unsigned depth, struct walked *sum)
{
	if (root < 2 || root >= w->pages || depth > KV_DEPTH_MAX || sum->branch_pages + sum->leaf_pages >= sum->most)
		return false;
	KV_FREE struct kv_lmdb_page *page = malloc(w->page_size);
	if (!page || pread(w->fd, page, w->page_size, (off_t)(root * w->page_size)) != (ssize_t)w->page_size)
		return false;
	if (page->page_no != root || !(page->flags & (KV_PAGE_BRANCH | KV_PAGE_LEAF)) || page->lower < sizeof *page ||
		page->lower > w->page_size)
		return false;
	return page_is_there(w, page, depth, sum);
}

static bool tree_is_there(const struct walk *w, const struct kv_lmdb_tree *tree, unsigned depth)
{
	struct walked sum = {.most = kv_min(tree->branch_pages + tree->leaf_pages, w->pages)};
	if (tree->root == KV_NO_PAGE)
		return true;
	return pages_are_there(w, tree->root, depth, &sum) && sum.branch_pages == tree->branch_pages &&
	       sum.leaf_pages == tree->leaf_pages && sum.entries == tree->entries;
}

static bool state_is_there(int fd, const struct kv_lmdb_meta *m, uint32_t page_size, uint64_t pages)
{
	struct walk w = {fd, page_size, kv_min(pages, m->last_page + 1)};
	return tree_is_there(&w, &m->free, 0) && tree_is_there(&w, &m->main, 0);
}

/* ---- meta pages, kept and put back ---- */

static_assert(sizeof(struct kv_lmdb_meta) == KV_META_SIZE, "LMDB's");

static struct kv_lmdb_meta meta_of(const struct kv_metas *metas, unsigned i)
{
	struct kv_lmdb_meta m;
	memcpy(&m, metas->page[i], sizeof m);
	return m;
}

static unsigned newest_of(const struct kv_metas *metas)
{
	return meta_of(metas, 1).txnid > meta_of(metas, 0).txnid;
}

uint64_t kv_metas_txnid(const struct kv_metas *metas)
{
	return meta_of(metas, newest_of(metas)).txnid;
}

uint32_t kv_metas_page_size(const struct kv_metas *metas)
{
	return meta_of(metas, 0).free.pad;
}

bool kv_metas_sound(const struct kv_metas *metas)
{
	struct kv_lmdb_meta a = meta_of(metas, 0), b = meta_of(metas, 1);
	uint32_t size = a.free.pad;
	return kv_lmdb_meta_is_sound(&a) && kv_lmdb_meta_is_sound(&b) && size == b.free.pad && size >= 512 && size <= 65536 &&
	       !(size & (size - 1));
}

bool kv_metas_older(const struct kv_metas *metas, const struct kv_metas *than)
{
	for (unsigned i = 0; i < 2; i++)
		if (meta_of(metas, i).txnid < meta_of(than, i).txnid)
			return true;
	return false;
}

int kv_metas_read(int fd, uint32_t page_size, struct kv_metas *ret)
{
	for (unsigned i = 0; i < 2; i++) {
		ssize_t n = pread(fd, ret->page[i], sizeof ret->page[i], (off_t)i * page_size);
		if (n != (ssize_t)sizeof ret->page[i])
			return kv_fail(n < 0 ? errno : EUCLEAN);
	}
	return 0;
}

int kv_metas_read_state(int fd, uint32_t page_size, uint64_t txnid, struct kv_metas *ret)
{
	unsigned i = txnid & 1; /* LMDB's rule */
	ssize_t n = pread(fd, ret->page[i], sizeof ret->page[i], (off_t)i * page_size);
	if (n != (ssize_t)sizeof ret->page[i])
		return kv_fail(n < 0 ? errno : EUCLEAN);
	struct kv_lmdb_meta m = meta_of(ret, i);
	if (m.txnid != txnid)
		return -EAGAIN;
	m.head.page_no = !i;
	m.txnid--;
	memcpy(ret->page[!i], &m, sizeof m);
	return 0;
}

bool kv_metas_whole(int fd, const struct kv_metas *metas)
{
	struct kv_lmdb_meta m = meta_of(metas, newest_of(metas));
	struct stat st;
	return kv_metas_sound(metas) && fstat(fd, &st) == 0 &&
	       state_is_there(fd, &m, m.free.pad, (uint64_t)st.st_size / m.free.pad);
}

int kv_metas_write(int fd, const struct kv_metas *metas)
{
	off_t page_size = meta_of(metas, 0).free.pad;
	for (unsigned i = 0; i < 2; i++) {
		ssize_t n = pwrite(fd, metas->page[i], sizeof metas->page[i], i * page_size);
		if (n != (ssize_t)sizeof metas->page[i])
			return kv_fail(n < 0 ? errno : EIO);
	}
	return fdatasync(fd) ? kv_fail(errno) : 0;
}
