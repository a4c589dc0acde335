/* data.mdb and lock.mdb as files, before LMDB maps them: LMDB trusts both and answers damage with a fatal signal.
 * Nothing here maps the file. */
#include "db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "err.h"
#include "pages.h"

#define PAGES_MAX (UINT64_C(16) << 40 >> 12)
#define LOCK_FILE_SIZE (128 << 10) /* room for about 2,000 readers */

/* ---- a file that is shorter than its newest meta page says ----
 *
 * LMDB does not write pages that it allocated and dropped again in one transaction, so a sound file may lack some at its end; but no
 * tree leads to those.  A truncated file lacks pages that are in use: all trees are walked to tell the two apart. */

struct fit {
	struct kv_audit audit;
	uint64_t budget; /* pages: a crafted file may lead to the same ones again and again */
	bool bad;
};

static bool fit_enter(struct kv_audit *a, uint64_t page, uint64_t n)
{
	struct fit *f = (struct fit *)a;
	(void)page;
	if (f->budget < n)
		f->bad = true;
	else
		f->budget -= n;
	return !f->bad;
}

static void fit_fault(struct kv_audit *a, uint64_t page, const char *why)
{
	(void)page;
	(void)why;
	((struct fit *)a)->bad = true;
}

/* Is all that the tree leads to, and what its records name as trees, in the file? */
static bool tree_fits(const struct kv_pages *p, const struct kv_lmdb_tree *tree, struct fit *f)
{
	struct kv_scan s;
	int r = kv_scan_open(&s, p, tree, &f->audit);
	while (r >= 0 && !f->bad && (r = kv_scan_next(&s)) == 1) {
		struct kv_lmdb_tree inner;
		if (!(s.flags & KV_NODE_TREE))
			continue;
		if (s.len != sizeof inner || tree != &p->main) {
			f->bad = true;
			continue;
		}
		memcpy(&inner, s.data, sizeof inner);
		tree_fits(p, &inner, f);
	}
	kv_scan_close(&s);
	return r == 0 && !f->bad;
}

enum { LOOKS = 100 }; /* at both meta pages and what the newest leads to, between which others may commit */

static int check_newest(int fd, uint32_t page_size, bool whole, struct kvfs_error *err)
{
	struct stat st;
	struct kv_pages p;
	if (fstat(fd, &st))
		return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	for (unsigned i = 0; i < LOOKS && (i == 0 || p.unsure); i++) {
		int r = kv_pages_open(fd, page_size, 0, &p);
		if (r)
			return kv_explain(err, -r, "data.mdb: %s", strerror(-r));
	}
	struct fit f = {.audit = {.enter = fit_enter, .fault = fit_fault}, .budget = p.there};
	if (whole && p.end > p.there && !(tree_fits(&p, &p.free, &f) && tree_fits(&p, &p.main, &f)))
		return kv_explain(err, EUCLEAN, "data.mdb is truncated: %llu bytes where it had %llu; restore a backup",
			(unsigned long long)st.st_size, (unsigned long long)(p.end * page_size));
	if (p.unsure)
		return kv_explain(err, EUCLEAN,
			"data.mdb is damaged: its meta pages are not of transactions that follow each other; restore a backup");
	return 0;
}

int kv_dbfile_check(int dirfd, bool metas_only, struct kvfs_error *err)
{
	struct kv_lmdb_meta meta[2];
	KV_FD int fd = openat(dirfd, "data.mdb", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	ssize_t n = pread(fd, &meta[0], sizeof meta[0], 0);
	if (n < 0)
		return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	bool other = pread(fd, &meta[1], sizeof meta[1], sysconf(_SC_PAGESIZE)) == sizeof meta[1] &&
		     kv_lmdb_meta_is_sound(&meta[1]);
	if (n == (ssize_t)sizeof meta[0] && meta[0].magic != KV_META_MAGIC && other)
		return kv_explain(err, EUCLEAN, "data.mdb is damaged: a meta page is not one; restore a backup");
	if (n < (ssize_t)sizeof meta[0] || meta[0].magic != KV_META_MAGIC)
		return kv_explain(err, n == 0 ? EUCLEAN : EMEDIUMTYPE,
			n == 0 ? "data.mdb is empty: damaged; restore a backup" : "data.mdb is not an LMDB file: not a kvfs store");
	if (meta[0].version != KV_META_VERSION)
		return kv_explain(err, EMEDIUMTYPE,
			"data.mdb is of LMDB data version %u, this kvfs reads %u; move it with export and import", meta[0].version,
			KV_META_VERSION);
	uint32_t page_size = meta[0].free.pad;
	if (page_size < 512 || page_size > 65536 || page_size & (page_size - 1))
		return kv_explain(err, EUCLEAN, "data.mdb is damaged: page size %u; restore a backup", page_size);
	if (page_size != (uint32_t)sysconf(_SC_PAGESIZE))
		return kv_explain(err, EMEDIUMTYPE,
			"data.mdb has pages of %u bytes, this machine %ld; move it with export and import", page_size,
			sysconf(_SC_PAGESIZE));
	n = pread(fd, &meta[1], sizeof meta[1], page_size);
	/* LMDB maps at least as much as there is said to be */
	if (n < (ssize_t)sizeof meta[1] || !kv_lmdb_meta_is_sound(&meta[0]) || !kv_lmdb_meta_is_sound(&meta[1]) ||
		meta[1].free.pad != page_size || kv_max(meta[0].last_page, meta[1].last_page) >= PAGES_MAX)
		return kv_explain(err, EUCLEAN, "data.mdb is damaged: a meta page is not one; restore a backup");
	return check_newest(fd, page_size, !metas_only, err);
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

/* LMDB keeps a lock on the first byte for as long as the environment is open.  A process that has it open itself must not ask: closing the
 * descriptor would drop its own locks. */
bool kv_dbfile_in_use(int dirfd)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	KV_FD int fd = openat(
		dirfd, "lock.mdb", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* a FIFO would wait for a writer */
	if (fd < 0)
		return errno != ENOENT;
	return fcntl(fd, F_GETLK, &fl) || fl.l_type != F_UNLCK;
}
