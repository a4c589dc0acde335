/* The inode-level calls of kvfs_ll.h: argument checks and delegation. */
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "api.h"
#include "err.h"
#include "path.h"
#include "value.h"
#include "xattr.h"

/* ---- reading ---- */

static int begin_read(struct kvfs_store *store, struct kv_txn *ret)
{
	int r = kv_core_check(store->core);
	return r ? r : kv_db_read(store->core->db, ret);
}

static int stale(int r)
{
	return r == -ENOENT ? -ESTALE : r;
}

/* A name is not in `dir`: because the directory is gone, is none, or just has no such name? */
static int why_absent(struct kv_txn *txn, uint64_t dir, int r)
{
	struct kv_inode inode;
	if (r != -ENOENT)
		return r;
	r = stale(kv_inode_load(txn, dir, &inode));
	return r ? r : S_ISDIR(inode.rec.mode) ? -ENOENT : kv_fail(ENOTDIR);
}

int kvfs_ll_lookup(struct kvfs_store *store, uint64_t parent, const char *name, struct kvfs_stat *ret)
{
	struct kv_txn txn;
	struct kv_dirent ent;
	int r = kv_name_check(name);
	if (r == 0)
		r = begin_read(store, &txn);
	if (r)
		return r;
	r = kv_dirent_get(&txn, parent, name, strlen(name), &ent);
	if (r == 0)
		r = kv_inode_stat_at(&txn, &ent, ret);
	else
		r = why_absent(&txn, parent, r);
	kv_db_read_end(&txn);
	return r;
}

int kvfs_ll_getattr(struct kvfs_store *store, uint64_t ino, struct kvfs_stat *ret)
{
	struct kv_txn txn;
	int r = begin_read(store, &txn);
	if (r)
		return r;
	r = stale(kv_inode_stat_of(&txn, ino, ret));
	kv_db_read_end(&txn);
	return r;
}

static int read_inode(struct kvfs_store *store, uint64_t ino, struct kv_inode *ret)
{
	struct kv_txn txn;
	int r = begin_read(store, &txn);
	if (r)
		return r;
	r = stale(kv_inode_load(&txn, ino, ret));
	kv_db_read_end(&txn);
	return r;
}

int kvfs_ll_parent(struct kvfs_store *store, uint64_t dir, uint64_t *ret)
{
	struct kv_inode inode;
	int r = read_inode(store, dir, &inode);
	if (r == 0)
		*ret = inode.rec.parent;
	return r;
}

ssize_t kvfs_ll_readlink(struct kvfs_store *store, uint64_t ino, char *buf, size_t cap)
{
	struct kv_inode inode;
	int r = read_inode(store, ino, &inode);
	if (r)
		return r;
	if (!S_ISLNK(inode.rec.mode))
		return kv_fail(EINVAL);
	if (inode.rec.tail_len >= cap)
		return -ERANGE;
	memcpy(buf, inode.tail, inode.rec.tail_len);
	buf[inode.rec.tail_len] = 0;
	return inode.rec.tail_len;
}

static int fill(
	struct kv_txn *txn, struct kv_bytes name, const struct kv_dirent *ent, bool want_stat, kvfs_ll_fill_fn *fn, void *arg)
{
	char text[KVFS_NAME_MAX + 1];
	struct kvfs_stat st = {.ino = ent->ino, .mode = ent->type};
	memcpy(text, name.data, name.len);
	text[name.len] = 0;
	int r = want_stat ? kv_inode_stat_at(txn, ent, &st) : 0;
	return r ? r : fn(arg, text, &st) ? 1 : 0;
}

int kvfs_ll_readdir(struct kvfs_store *store, uint64_t dir, const char *after, bool want_stat, kvfs_ll_fill_fn *fn, void *arg)
{
	struct kv_txn txn;
	struct kv_cursor c;
	struct kv_bytes name;
	struct kv_dirent ent;
	int r = begin_read(store, &txn);
	if (r)
		return r;
	r = why_absent(&txn, dir, -ENOENT);
	if (r == -ENOENT)
		r = kv_cursor_open(&txn, KV_DIRENT, &c);
	if (r == 0) {
		r = kv_dirent_step(&c, dir, after, after ? strlen(after) : 0, false, false, &name, &ent);
		while (r == 0) {
			r = fill(&txn, name, &ent, want_stat, fn, arg);
			if (r == 0)
				r = kv_dirent_neighbour(&c, dir, false, &name, &ent);
		}
		kv_cursor_close(&c);
	}
	kv_db_read_end(&txn);
	return r == -ENOENT || r == 1 ? 0 : r;
}

ssize_t kvfs_ll_getxattr(struct kvfs_store *store, uint64_t ino, const char *name, void *buf, size_t cap)
{
	struct kv_txn txn;
	struct kv_bytes value;
	struct kv_inode inode;
	ssize_t r = begin_read(store, &txn);
	if (r)
		return r;
	r = kv_xattr_get(&txn, ino, name, &value);
	if (r == -ENODATA && kv_inode_load(&txn, ino, &inode) == -ENOENT)
		r = -ESTALE;
	if (r == 0 && cap && cap < value.len) {
		r = -ERANGE;
	} else if (r == 0) {
		if (cap)
			memcpy(buf, value.data, value.len);
		r = (ssize_t)value.len;
	}
	kv_db_read_end(&txn);
	return r;
}

ssize_t kvfs_ll_listxattr(struct kvfs_store *store, uint64_t ino, char *buf, size_t cap)
{
	struct kv_txn txn;
	struct kv_inode inode;
	ssize_t r = begin_read(store, &txn);
	if (r)
		return r;
	r = kv_xattr_list(&txn, ino, buf, cap);
	if (r == 0 && kv_inode_load(&txn, ino, &inode) == -ENOENT)
		r = -ESTALE;
	kv_db_read_end(&txn);
	return r;
}

/* ---- changing ---- */

/* The arguments of a change, those that it has, and what it returns. */
struct change {
	uint64_t ino, parent, parent2;
	const char *name, *name2;
	unsigned flags;
	const struct kv_make *make;
	const struct kvfs_setattr *attr;
	const char *xattr;
	int xattr_flags;
	const void *value;
	size_t size;
	struct kv_inode inode;
	struct kvfs_stat st;
};

static int edit(struct kvfs_store *store, kv_edit_fn *fn, struct change *c)
{
	int r = c->name ? kv_name_check(c->name) : 0;
	if (r == 0 && c->name2)
		r = kv_name_check(c->name2);
	if (r == 0)
		r = kv_api_writable(store);
	return r ? r : kv_commit(store->core, fn, c);
}

/* The same, and returns the inode that was changed. */
static int edit_inode(struct kvfs_store *store, kv_edit_fn *fn, struct change *c, struct kvfs_stat *ret)
{
	int r = edit(store, fn, c);
	if (r == 0)
		kv_inode_stat(&c->inode, ret);
	return r;
}

static int edit_make(struct kv_edit *ed, void *arg)
{
	struct change *c = arg;
	int r = stale(kv_namei_make(ed, c->parent, c->name, strlen(c->name), c->make, &c->inode));
	return r == 0 && S_ISREG(c->make->mode) ? kv_value_create_empty(ed, &c->inode) : r;
}

static int make(struct kvfs_store *store, uint64_t parent, const char *name, const struct kv_make *m, struct kvfs_stat *ret)
{
	return edit_inode(store, edit_make, &(struct change){.parent = parent, .name = name, .make = m}, ret);
}

int kvfs_ll_mkdir(
	struct kvfs_store *store, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred, struct kvfs_stat *ret)
{
	return make(
		store, parent, name, &(struct kv_make){.mode = S_IFDIR | (mode & 07777), .uid = cred.uid, .gid = cred.gid}, ret);
}

int kvfs_ll_mknod(struct kvfs_store *store, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev, struct kvfs_cred cred,
	struct kvfs_stat *ret)
{
	if (S_ISDIR(mode) || S_ISLNK(mode))
		return kv_fail(EINVAL);
	return make(store, parent, name,
		&(struct kv_make){.mode = mode & S_IFMT ? mode : mode | S_IFREG, .rdev = rdev, .uid = cred.uid, .gid = cred.gid},
		ret);
}

int kvfs_ll_symlink(struct kvfs_store *store, const char *target, uint64_t parent, const char *name, struct kvfs_cred cred,
	struct kvfs_stat *ret)
{
	size_t len = strlen(target);
	if (len == 0 || len > KVFS_KEY_MAX)
		return kv_fail(len ? ENAMETOOLONG : ENOENT);
	return make(store, parent, name,
		&(struct kv_make){.mode = S_IFLNK | 0777, .target = target, .uid = cred.uid, .gid = cred.gid}, ret);
}

static int edit_link(struct kv_edit *ed, void *arg)
{
	struct change *c = arg;
	return stale(kv_namei_link(ed, c->ino, c->parent, c->name, strlen(c->name), &c->inode));
}

int kvfs_ll_link(struct kvfs_store *store, uint64_t ino, uint64_t parent, const char *name, struct kvfs_stat *ret)
{
	return edit_inode(store, edit_link, &(struct change){.ino = ino, .parent = parent, .name = name}, ret);
}

static int edit_unlink(struct kv_edit *ed, void *arg)
{
	struct change *c = arg;
	int r = why_absent(&ed->txn, c->parent, kv_namei_unlink(ed, c->parent, c->name, strlen(c->name), &c->st));
	return r ? r : kv_namei_prune(ed, c->parent);
}

int kvfs_ll_unlink(struct kvfs_store *store, uint64_t parent, const char *name, struct kvfs_stat *ret)
{
	struct change c = {.parent = parent, .name = name};
	int r = edit(store, edit_unlink, &c);
	if (r == 0 && ret)
		*ret = c.st;
	return r;
}

static int edit_rmdir(struct kv_edit *ed, void *arg)
{
	const struct change *c = arg;
	int r = why_absent(&ed->txn, c->parent, kv_namei_rmdir(ed, c->parent, c->name, strlen(c->name)));
	return r ? r : kv_namei_prune(ed, c->parent);
}

int kvfs_ll_rmdir(struct kvfs_store *store, uint64_t parent, const char *name)
{
	return edit(store, edit_rmdir, &(struct change){.parent = parent, .name = name});
}

static int find_place(struct kv_edit *ed, uint64_t parent, const char *name, struct kv_place *ret)
{
	struct kv_place place = {.parent = parent, .name = name, .len = strlen(name)};
	int r = kv_dirent_get(&ed->txn, parent, name, place.len, &place.ent);
	place.exists = r == 0;
	*ret = place;
	r = why_absent(&ed->txn, parent, r);
	return r == -ENOENT ? 0 : r;
}

static int edit_rename(struct kv_edit *ed, void *arg)
{
	struct change *c = arg;
	struct kv_place src, dst;
	c->st = (struct kvfs_stat){0};
	int r = find_place(ed, c->parent, c->name, &src);
	if (r == 0)
		r = find_place(ed, c->parent2, c->name2, &dst);
	if (r == 0)
		r = kv_namei_rename(ed, &src, &dst, c->flags, &c->st);
	return r ? r : kv_namei_prune(ed, c->parent);
}

int kvfs_ll_rename(struct kvfs_store *store, uint64_t parent, const char *name, uint64_t parent2, const char *name2, unsigned flags,
	struct kvfs_stat *ret_replaced)
{
	struct change c = {.parent = parent, .name = name, .parent2 = parent2, .name2 = name2, .flags = flags};
	if (flags & ~3u || flags == 3)
		return kv_fail(EINVAL);
	int r = edit(store, edit_rename, &c);
	if (r == 0 && ret_replaced)
		*ret_replaced = c.st;
	return r;
}

static void apply(struct kv_inode *inode, const struct kvfs_setattr *attr)
{
	if (attr->valid & KVFS_SET_MODE)
		inode->rec.mode = (inode->rec.mode & S_IFMT) | (attr->mode & 07777);
	if (attr->valid & KVFS_SET_UID)
		inode->rec.uid = attr->uid;
	if (attr->valid & KVFS_SET_GID)
		inode->rec.gid = attr->gid;
	if (attr->valid & KVFS_SET_ATIME)
		inode->rec.atime = kv_rec_time(attr->atime);
	if (attr->valid & KVFS_SET_MTIME)
		inode->rec.mtime = kv_rec_time(attr->mtime);
}

/* Puts an inode whose attributes changed, and says so in the log. */
static int changed(struct kv_edit *ed, struct kv_inode *inode)
{
	inode->rec.ctime = kv_rec_time(ed->now);
	int r = kv_inode_put(&ed->txn, inode);
	return r ? r
		 : kv_changes_add(&ed->changes, KV_CHANGE_ATTR, inode->rec.mode & S_IFMT, inode->ino, inode->rec.parent,
			   inode->name, inode->rec.name_len);
}

static bool is_time(unsigned valid, unsigned bit, struct timespec t)
{
	return !(valid & bit) || (t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
}

static int edit_attr(struct kv_edit *ed, void *arg)
{
	struct change *c = arg;
	int r = stale(kv_inode_load(&ed->txn, c->ino, &c->inode));
	if (r)
		return r;
	apply(&c->inode, c->attr);
	return changed(ed, &c->inode);
}

int kvfs_ll_setattr(struct kvfs_store *store, uint64_t ino, const struct kvfs_setattr *attr, struct kvfs_stat *ret)
{
	const unsigned all = KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_GID | KVFS_SET_ATIME | KVFS_SET_MTIME;
	if (attr->valid & ~all || !is_time(attr->valid, KVFS_SET_ATIME, attr->atime) ||
		!is_time(attr->valid, KVFS_SET_MTIME, attr->mtime))
		return kv_fail(EINVAL);
	return edit_inode(store, edit_attr, &(struct change){.ino = ino, .attr = attr}, ret);
}

static int edit_setxattr(struct kv_edit *ed, void *arg)
{
	struct change *c = arg;
	int r = stale(kv_inode_load(&ed->txn, c->ino, &c->inode));
	if (r == 0)
		r = kv_xattr_note(&c->inode.rec, c->xattr, c->value, c->size);
	if (r == 0)
		r = kv_xattr_set(&ed->txn, c->ino, c->xattr, c->value, c->size, c->xattr_flags);
	return r ? r : changed(ed, &c->inode);
}

int kvfs_ll_setxattr(struct kvfs_store *store, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
	if (!value)
		value = ""; /* of no bytes */
	return edit(store, edit_setxattr,
		&(struct change){.ino = ino, .xattr = name, .value = value, .size = size, .xattr_flags = flags});
}

static int edit_removexattr(struct kv_edit *ed, void *arg)
{
	struct change *c = arg;
	int r = stale(kv_inode_load(&ed->txn, c->ino, &c->inode));
	if (r == 0)
		r = kv_xattr_del(&ed->txn, c->ino, c->xattr);
	if (r == 0)
		r = kv_xattr_note(&c->inode.rec, c->xattr, NULL, 0);
	return r ? r : changed(ed, &c->inode);
}

int kvfs_ll_removexattr(struct kvfs_store *store, uint64_t ino, const char *name)
{
	return edit(store, edit_removexattr, &(struct change){.ino = ino, .xattr = name});
}
