/* data.mdb and lock.mdb as files, before LMDB maps them: LMDB trusts both and answers damage with a fatal signal.
 * The layout of the meta pages is that of LMDB 0.9 (mdb.c: MDB_page, MDB_meta, MDB_db). */
#include "db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "err.h"

#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u
#define LOCK_FILE_SIZE (128 << 10) /* room for about 2,000 readers */

struct lmdb_tree {
	uint32_t pad;
	uint16_t flags, depth;
	uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
} KV_PACKED;

struct lmdb_meta {
	uint64_t page_no;
	uint16_t pad, page_flags, lower, upper;
	uint32_t magic, version;
	uint64_t address, map_size;
	struct lmdb_tree free, main;
	uint64_t last_page, txnid;
} KV_PACKED;

#define PAGE_META 0x08
#define PAGE_BRANCH 0x01
#define PAGE_LEAF 0x02
#define NO_PAGE UINT64_MAX

static bool meta_is_sound(const struct lmdb_meta *m)
{
	return m->magic == META_MAGIC && m->version == META_VERSION && m->page_flags & PAGE_META;
}

/* Is the root page of `tree` inside the file, and itself?  -EUCLEAN with err. */
static int check_root(
	int fd, const struct lmdb_tree *tree, uint64_t pages, uint32_t page_size, const char *name, struct kvfs_error *err)
{
	struct {
		uint64_t page_no;
		uint16_t pad, flags, lower, upper;
	} KV_PACKED head;
	if (tree->root == NO_PAGE)
		return 0;
	if (tree->root < 2 || tree->root >= pages)
		return kv_explain(
			err, EUCLEAN, "data.mdb is damaged: the root of its %s tree lies outside the file; restore a backup", name);
	if (pread(fd, &head, sizeof head, (off_t)(tree->root * page_size)) != sizeof head || head.page_no != tree->root ||
		!(head.flags & (PAGE_BRANCH | PAGE_LEAF)) || head.lower < 16 || head.lower > head.upper || head.upper > page_size)
		return kv_explain(
			err, EUCLEAN, "data.mdb is damaged: the root page of its %s tree is not one; restore a backup", name);
	return 0;
}

/* ---- a file that is shorter than its newest meta page says ----
 *
 * LMDB does not write pages that it allocated and dropped again in one transaction, so a sound file may lack some at its end; but no
 * tree leads to those.  A truncated file lacks pages that are in use: all trees are walked to tell the two apart. */

#define DEPTH_MAX 32
#define NODE_OVERFLOW 0x01
#define NODE_TREE 0x02

struct short_file {
	int fd;
	uint32_t page_size;
	uint64_t pages; /* that are there */
};

struct lmdb_page {
	uint64_t page_no;
	uint16_t pad, flags, lower, upper;
	uint8_t rest[];
} KV_PACKED;

struct lmdb_node {
	uint16_t lo, hi, flags, key_size;
	uint8_t key[];
} KV_PACKED;

static bool tree_is_there(const struct short_file *f, uint64_t root, unsigned depth);

/* Whether what a leaf's node leads to, if anything, is in the file. */
static bool node_is_there(const struct short_file *f, const struct lmdb_node *node, const uint8_t *end, unsigned depth)
{
	const uint8_t *data = node->key + node->key_size;
	struct lmdb_tree tree;
	struct lmdb_page head;
	uint64_t page_no;
	if (node->flags & NODE_TREE) {
		if (data + sizeof tree > end)
			return false;
		memcpy(&tree, data, sizeof tree);
		return tree_is_there(f, tree.root, depth + 1);
	}
	if (!(node->flags & NODE_OVERFLOW))
		return true;
	if (data + sizeof page_no > end)
		return false;
	memcpy(&page_no, data, sizeof page_no);
	if (page_no >= f->pages || pread(f->fd, &head, sizeof head, (off_t)(page_no * f->page_size)) != sizeof head)
		return false;
	return f->pages - page_no >= (head.lower | (uint64_t)head.upper << 16); /* of an overflow page: how many */
}

static bool page_is_there(const struct short_file *f, const struct lmdb_page *page, unsigned depth)
{
	const uint8_t *end = (const uint8_t *)page + f->page_size;
	for (unsigned i = 0; i < (page->lower - sizeof *page) / 2; i++) {
		uint16_t at;
		memcpy(&at, page->rest + 2 * i, sizeof at);
		const struct lmdb_node *node = (const struct lmdb_node *)((const uint8_t *)page + at);
		if (at < sizeof *page || at + sizeof *node > f->page_size || node->key + node->key_size > end)
			return false;
		uint64_t child = node->lo | (uint64_t)node->hi << 16 | (uint64_t)node->flags << 32;
		if (page->flags & PAGE_BRANCH ? !tree_is_there(f, child, depth + 1) : !node_is_there(f, node, end, depth))
			return false;
	}
	return true;
}

static bool tree_is_there(const struct short_file *f, uint64_t root, unsigned depth)
{
	if (root == NO_PAGE)
		return true;
	if (root >= f->pages || depth > DEPTH_MAX)
		return false;
	KV_FREE struct lmdb_page *page = malloc(f->page_size);
	if (!page || pread(f->fd, page, f->page_size, (off_t)(root * f->page_size)) != (ssize_t)f->page_size)
		return false;
	if (page->page_no != root || !(page->flags & (PAGE_BRANCH | PAGE_LEAF)) || page->lower < sizeof *page ||
		page->lower > f->page_size)
		return false;
	return page_is_there(f, page, depth);
}

static int check_newest(int fd, const struct lmdb_meta *m, uint32_t page_size, struct kvfs_error *err)
{
	struct stat st;
	if (fstat(fd, &st))
		return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	uint64_t need = m->last_page + 1;
	struct short_file f = {fd, page_size, (uint64_t)st.st_size / page_size};
	if (need > f.pages && !(tree_is_there(&f, m->free.root, 0) && tree_is_there(&f, m->main.root, 0)))
		return kv_explain(err, EUCLEAN, "data.mdb is truncated: %llu bytes where it had %llu; restore a backup",
			(unsigned long long)st.st_size, (unsigned long long)(need * page_size));
	int r = check_root(fd, &m->free, f.pages, page_size, "free", err);
	return r ? r : check_root(fd, &m->main, f.pages, page_size, "main", err);
}

int kv_dbfile_check(int dirfd, struct kvfs_error *err)
{
	struct lmdb_meta meta[2];
	KV_FD int fd = openat(dirfd, "data.mdb", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	ssize_t n = pread(fd, &meta[0], sizeof meta[0], 0);
	if (n < 0)
		return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	if (n < (ssize_t)sizeof meta[0] || meta[0].magic != META_MAGIC)
		return kv_explain(err, n == 0 ? EUCLEAN : EMEDIUMTYPE,
			n == 0 ? "data.mdb is empty: damaged; restore a backup" : "data.mdb is not an LMDB file: not a kvfs store");
	if (meta[0].version != META_VERSION)
		return kv_explain(err, EMEDIUMTYPE,
			"data.mdb is of LMDB data version %u, this kvfs reads %u; move it with export and import", meta[0].version,
			META_VERSION);
	uint32_t page_size = meta[0].free.pad;
	if (page_size < 512 || page_size > 65536 || page_size & (page_size - 1))
		return kv_explain(err, EUCLEAN, "data.mdb is damaged: page size %u; restore a backup", page_size);
	if (page_size != (uint32_t)sysconf(_SC_PAGESIZE))
		return kv_explain(err, EMEDIUMTYPE,
			"data.mdb has pages of %u bytes, this machine %ld; move it with export and import", page_size,
			sysconf(_SC_PAGESIZE));
	n = pread(fd, &meta[1], sizeof meta[1], page_size);
	if (n < (ssize_t)sizeof meta[1] || !meta_is_sound(&meta[0]) || !meta_is_sound(&meta[1]))
		return kv_explain(err, EUCLEAN, "data.mdb is damaged: a meta page is not one; restore a backup");
	return check_newest(fd, &meta[meta[1].txnid > meta[0].txnid], page_size, err);
}

int kv_dbfile_reserve_lock(int dirfd, mode_t mode, struct kvfs_error *err)
{
	struct stat st;
	if (fstatat(dirfd, "lock.mdb", &st, 0) == 0 && st.st_size > 0)
		return 0;
	KV_FD int fd = openat(dirfd, "lock.mdb", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return kv_explain(err, errno, "lock.mdb: %s", strerror(errno));
	int e = posix_fallocate(fd, 0, LOCK_FILE_SIZE);
	if (e)
		return kv_explain(err, e, "lock.mdb: %s", strerror(e));
	fchmod(fd, mode);
	return 0;
}
