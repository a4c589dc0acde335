/* Names; see namei.h.
 *
 * Invariants:
 *  N1  Every entry leads to an inode, whose type it repeats; an inode that is no directory has as many entries as links.
 *  N2  A directory has one entry, and its inode says which (parent, name); `size` counts its entries, `blob` its subdirectories.
 *  N3  An inode's (parent, name) is one of its entries: of several, that through which it was changed last, as far as that is known.
 *  N4  An inode without links is gone: what is still open on it lives in the doors that hold it. */
#include "namei.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "err.h"
#include "path.h"
#include "value.h"
#include "xattr.h"

/* ---- resolving ---- */

static int step(struct kv_txn *txn, const char **at, struct kv_place *place)
{
	if (place->len) { /* descend into what the step before found */
		if (!place->exists)
			return -ENOENT;
		if (!S_ISDIR(place->ent.type))
			return -ENOTDIR;
		place->parent = place->ent.ino;
	}
	if (!kv_path_next(at, &place->name, &place->len))
		return 1;
	int r = kv_dirent_get(txn, place->parent, place->name, place->len, &place->ent);
	place->exists = r == 0;
	return r == -ENOENT ? 0 : r;
}

static const struct kv_place at_root = {.parent = KV_ROOT, .name = "", .exists = true, .ent = {.ino = KV_ROOT, .type = S_IFDIR}};

static bool is_last(const char *at)
{
	return *at == 0;
}

int kv_namei_resolve(struct kv_txn *txn, const char *key, struct kv_place *ret)
{
	struct kv_place place = at_root;
	const char *at = key;
	while (!is_last(at) && *(at + strspn(at, "/"))) {
		int r = step(txn, &at, &place);
		if (r)
			return r;
	}
	*ret = place;
	return 0;
}

int kv_namei_resolve_making(struct kv_edit *ed, const char *key, bool implicit, struct kv_place *ret)
{
	struct kv_place place = at_root;
	const char *at = key;
	struct kv_inode dir;
	while (!is_last(at) && *(at + strspn(at, "/"))) {
		int r = step(&ed->txn, &at, &place);
		if (r)
			return r;
		if (place.exists || is_last(at))
			continue;
		struct kv_make make = {.mode = S_IFDIR | 0755, .uid = geteuid(), .gid = getegid(), .implicit = implicit};
		r = kv_namei_make(ed, place.parent, place.name, place.len, &make, &dir);
		if (r)
			return r;
		place.exists = true;
		place.ent = (struct kv_dirent){.ino = dir.ino, .type = S_IFDIR};
	}
	*ret = place;
	return 0;
}

int kv_namei_lookup(struct kv_txn *txn, const char *key, struct kv_dirent *ret)
{
	struct kv_place place;
	int r = kv_namei_resolve(txn, key, &place);
	if (r)
		return r;
	if (!place.exists)
		return -ENOENT;
	*ret = place.ent;
	return 0;
}

int kv_namei_key(struct kv_txn *txn, uint64_t dir, const char *name, size_t len, char ret[KVFS_KEY_MAX + 1])
{
	char key[KVFS_KEY_MAX + 1];
	struct kv_inode inode;
	size_t at = KVFS_KEY_MAX;
	if (dir == 0)
		return -ENOENT;
	key[at] = 0;
	memcpy(key + (at -= len), name, len);
	for (; dir != KV_ROOT; dir = inode.rec.parent) {
		int r = kv_inode_get(txn, dir, &inode);
		if (r)
			return r;
		size_t n = inode.rec.name_len, slash = key[at] != 0;
		if (at < n + slash)
			return kv_fail(ENAMETOOLONG);
		if (slash)
			key[--at] = '/';
		memcpy(key + (at -= n), inode.name, n);
	}
	memcpy(ret, key + at, KVFS_KEY_MAX - at + 1);
	return 0;
}

int kv_namei_load(struct kv_edit *ed, const struct kv_place *place, struct kv_inode *ret)
{
	int r = kv_inode_load_at(&ed->txn, &place->ent, ret);
	if (r == 0 && ret->rec.nlink > 1) /* N3 */
		kv_inode_set_name(ret, place->parent, place->name, place->len);
	return r;
}

int kv_namei_load_by(struct kv_edit *ed, uint64_t ino, uint64_t parent, const char *name, struct kv_inode *ret)
{
	struct kv_dirent ent;
	size_t len = strlen(name);
	int r = kv_inode_load(&ed->txn, ino, ret);
	if (r || ret->rec.nlink == 1 || !len)
		return r;
	r = kv_dirent_get(&ed->txn, parent, name, len, &ent);
	if (r == 0 && ent.ino == ino)
		kv_inode_set_name(ret, parent, name, len);
	return r == -ENOENT ? 0 : r;
}

/* ---- directories' own records ---- */

/* Notes in a directory's inode that it gained or lost entries. */
static int touch_dir(struct kv_edit *ed, struct kv_inode *dir, int entries, int subdirs)
{
	dir->rec.size += (uint64_t)entries;
	dir->rec.blob += (uint64_t)subdirs;
	dir->rec.mtime = dir->rec.ctime = kv_rec_time(ed->now);
	dir->rec.version = ed->seq;
	return kv_inode_put(&ed->txn, dir);
}

static int load_dir(struct kv_edit *ed, uint64_t ino, struct kv_inode *ret)
{
	int r = kv_inode_load(&ed->txn, ino, ret);
	if (r)
		return r;
	return S_ISDIR(ret->rec.mode) ? 0 : kv_fail(ENOTDIR);
}

static void count(struct kv_edit *ed, uint32_t mode, int by)
{
	if (S_ISREG(mode))
		ed->head.rec.values += (uint64_t)by;
	else if (S_ISDIR(mode))
		ed->head.rec.dirs += (uint64_t)by;
	else
		ed->head.rec.others += (uint64_t)by;
}

/* ---- making ---- */

static void init_inode(struct kv_edit *ed, struct kv_inode *inode, const struct kv_make *make, const struct kv_inode *dir)
{
	struct kv_rec_time now = kv_rec_time(ed->now);
	inode->ino = make->ino ? make->ino : ed->head.rec.next_ino++;
	inode->home = 0;
	inode->rec = (struct kv_rec_inode){
		.mode = make->mode,
		.uid = make->uid,
		.gid = dir->rec.mode & S_ISGID ? dir->rec.gid : make->gid,
		.nlink = 1,
		.rdev = make->rdev,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
		.version = ed->seq,
		.next_gen = 1,
		.flags = make->implicit ? KV_INODE_IMPLICIT : 0,
	};
	if (S_ISDIR(make->mode) && dir->rec.mode & S_ISGID)
		inode->rec.mode |= S_ISGID;
	kv_inode_set_tail(inode, NULL, 0);
	if (make->target) {
		inode->rec.size = strlen(make->target);
		kv_inode_set_tail(inode, make->target, inode->rec.size);
	}
}

static int log_made(struct kv_edit *ed, const struct kv_inode *inode)
{
	/* a value is logged by its publication */
	if (S_ISREG(inode->rec.mode))
		return 0;
	return kv_changes_add(&ed->changes, S_ISDIR(inode->rec.mode) ? KV_CHANGE_MKDIR : KV_CHANGE_MAKE, inode->rec.mode & S_IFMT,
		inode->ino, inode->rec.parent, inode->name, inode->rec.name_len);
}

/* May an entry be made here?  A name that a session has reserved counts as there (doors_names.c, D7). */
static int check_free(struct kv_edit *ed, uint64_t parent, const char *name, size_t len)
{
	struct kv_dirent ent;
	int r = kv_dirent_get(&ed->txn, parent, name, len, &ent);
	if (r != -ENOENT)
		return r ? r : -EEXIST;
	return ed->reserved && ed->reserved(ed, parent, name, len) ? -EEXIST : 0;
}

int kv_namei_make(
	struct kv_edit *ed, uint64_t parent, const char *name, size_t len, const struct kv_make *make, struct kv_inode *ret)
{
	struct kv_inode dir;
	int r = load_dir(ed, parent, &dir);
	if (r == 0)
		r = check_free(ed, parent, name, len);
	if (r)
		return r;
	init_inode(ed, ret, make, &dir);
	kv_inode_set_name(ret, parent, name, len);
	if (dir.rec.flags & KV_INODE_XATTRS && (S_ISREG(make->mode) || S_ISDIR(make->mode)))
		r = kv_xattr_inherit(&ed->txn, parent, ret->ino, &ret->rec);
	if (r == 0 && !S_ISREG(make->mode))
		r = kv_inode_put(&ed->txn, ret);
	if (r == 0)
		r = touch_dir(ed, &dir, 1, S_ISDIR(make->mode));
	if (r)
		return r;
	count(ed, make->mode, 1);
	return log_made(ed, ret);
}

int kv_namei_link(struct kv_edit *ed, uint64_t ino, uint64_t parent, const char *name, size_t len, struct kv_inode *ret)
{
	struct kv_inode dir;
	int r = kv_inode_load(&ed->txn, ino, ret);
	if (r)
		return r;
	if (S_ISDIR(ret->rec.mode))
		return kv_fail(EPERM);
	if (ret->rec.nlink >= INT_MAX)
		return kv_fail(EMLINK);
	r = load_dir(ed, parent, &dir);
	if (r == 0)
		r = check_free(ed, parent, name, len);
	if (r == 0 && ret->rec.nlink == 1)
		r = kv_inode_add_name(&ed->txn, ino, ret->rec.parent, ret->name, ret->rec.name_len);
	if (r == 0)
		r = kv_inode_add_name(&ed->txn, ino, parent, name, len);
	if (r)
		return r;
	ret->rec.nlink++;
	ret->rec.ctime = kv_rec_time(ed->now);
	kv_inode_set_name(ret, parent, name, len);
	r = kv_inode_put(&ed->txn, ret);
	if (r == 0)
		r = touch_dir(ed, &dir, 1, 0);
	if (r)
		return r;
	return kv_changes_add(&ed->changes, KV_CHANGE_MAKE, ret->rec.mode & S_IFMT, ino, parent, name, len);
}

/* ---- removing ---- */

/* One of several names goes. */
static int drop_name(struct kv_edit *ed, struct kv_inode *inode, uint64_t parent, const char *name, size_t len)
{
	bool own = inode->rec.parent == parent && inode->rec.name_len == len && memcmp(inode->name, name, len) == 0;
	int r = kv_inode_del_name(&ed->txn, inode->ino, parent, name, len);
	if (r == 0 && own)
		r = kv_inode_take_name(&ed->txn, inode);
	if (r == 0 && inode->rec.nlink == 1)
		r = kv_inode_del_name(&ed->txn, inode->ino, inode->rec.parent, inode->name, inode->rec.name_len);
	return r ? r : kv_inode_put(&ed->txn, inode);
}

/* One name fewer: without any the inode goes. */
static int drop_link(struct kv_edit *ed, struct kv_inode *inode, uint64_t parent, const char *name, size_t len)
{
	inode->rec.nlink--;
	inode->rec.ctime = kv_rec_time(ed->now);
	if (inode->rec.nlink)
		return drop_name(ed, inode, parent, name, len);
	count(ed, inode->rec.mode, -1);
	int r = kv_value_retire(ed, inode);
	if (r == 0 && inode->rec.flags & KV_INODE_XATTRS)
		r = kv_xattr_del_all(&ed->txn, inode->ino);
	return r ? r : kv_inode_del(&ed->txn, inode->ino);
}

int kv_namei_unlink(struct kv_edit *ed, uint64_t parent, const char *name, size_t len, struct kvfs_stat *ret)
{
	struct kv_inode dir, inode;
	struct kv_dirent ent;
	int r = kv_dirent_get(&ed->txn, parent, name, len, &ent);
	if (r)
		return r;
	if (S_ISDIR(ent.type))
		return kv_fail(EISDIR);
	r = kv_inode_load_at(&ed->txn, &ent, &inode);
	if (r == 0)
		r = kv_dirent_del(&ed->txn, parent, name, len);
	if (r == 0)
		r = drop_link(ed, &inode, parent, name, len);
	if (r == 0)
		r = load_dir(ed, parent, &dir);
	if (r == 0)
		r = touch_dir(ed, &dir, -1, 0);
	if (r)
		return r;
	if (ret)
		kv_inode_stat(&inode, ret);
	return kv_changes_add(&ed->changes, KV_CHANGE_DELETE, ent.type, ent.ino, parent, name, len);
}

int kv_namei_rmdir(struct kv_edit *ed, uint64_t parent, const char *name, size_t len)
{
	struct kv_inode dir, gone;
	struct kv_dirent ent;
	int r = kv_dirent_get(&ed->txn, parent, name, len, &ent);
	if (r)
		return r;
	if (!S_ISDIR(ent.type))
		return kv_fail(ENOTDIR);
	r = load_dir(ed, ent.ino, &gone);
	if (r)
		return r;
	if (gone.rec.size)
		return -ENOTEMPTY;
	r = kv_dirent_del(&ed->txn, parent, name, len);
	if (r == 0 && gone.rec.flags & KV_INODE_XATTRS)
		r = kv_xattr_del_all(&ed->txn, gone.ino);
	if (r == 0)
		r = kv_inode_del(&ed->txn, gone.ino);
	if (r == 0)
		r = load_dir(ed, parent, &dir);
	if (r == 0)
		r = touch_dir(ed, &dir, -1, -1);
	if (r)
		return r;
	count(ed, S_IFDIR, -1);
	return kv_changes_add(&ed->changes, KV_CHANGE_DELETE, S_IFDIR, ent.ino, parent, name, len);
}

int kv_namei_prune(struct kv_edit *ed, uint64_t dir)
{
	struct kv_inode inode;
	while (dir != KV_ROOT) {
		int r = kv_inode_load(&ed->txn, dir, &inode);
		if (r == -ENOENT) /* removed by the operation itself */
			return 0;
		if (r || !(inode.rec.flags & KV_INODE_IMPLICIT) || inode.rec.size)
			return r;
		r = kv_namei_rmdir(ed, inode.rec.parent, inode.name, inode.rec.name_len);
		if (r)
			return r;
		dir = inode.rec.parent;
	}
	return 0;
}

/* ---- renaming ---- */

/* Is `dir` at or below `top`? */
static int is_below(struct kv_txn *txn, uint64_t dir, uint64_t top)
{
	struct kv_inode inode;
	while (dir != top) {
		if (dir == KV_ROOT || dir == 0)
			return 0;
		int r = kv_inode_get(txn, dir, &inode);
		if (r)
			return r;
		dir = inode.rec.parent;
	}
	return 1;
}

static int check_rename(struct kv_edit *ed, const struct kv_place *src, const struct kv_place *dst, unsigned flags)
{
	if (!src->exists)
		return -ENOENT;
	if (!src->len || !dst->len)
		return kv_fail(EBUSY); /* the root */
	if (dst->exists && flags & KVFS_RENAME_NOREPLACE)
		return -EEXIST;
	if (!dst->exists && flags & KVFS_RENAME_EXCHANGE)
		return -ENOENT;
	int r = dst->exists ? 0 : check_free(ed, dst->parent, dst->name, dst->len);
	if (r)
		return r;
	bool src_dir = S_ISDIR(src->ent.type), dst_dir = dst->exists && S_ISDIR(dst->ent.type);
	r = src_dir ? is_below(&ed->txn, dst->parent, src->ent.ino) : 0;
	if (r == 0 && flags & KVFS_RENAME_EXCHANGE && dst_dir)
		r = is_below(&ed->txn, src->parent, dst->ent.ino);
	if (r)
		return r < 0 ? r : kv_fail(EINVAL);
	if (dst->exists && !(flags & KVFS_RENAME_EXCHANGE) && src_dir != dst_dir)
		return kv_fail(dst_dir ? EISDIR : ENOTDIR);
	return 0;
}

/* Takes away what stands at the destination of a rename. */
static int displace(struct kv_edit *ed, const struct kv_place *dst, struct kvfs_stat *ret)
{
	if (S_ISDIR(dst->ent.type)) {
		int r = ret ? kv_inode_stat_of(&ed->txn, dst->ent.ino, ret) : 0;
		if (r == 0)
			r = kv_namei_rmdir(ed, dst->parent, dst->name, dst->len);
		if (r == 0 && ret)
			ret->nlink = 0;
		return r;
	}
	return kv_namei_unlink(ed, dst->parent, dst->name, dst->len, ret);
}

/* Gives an inode the name of `to` instead of that of `from`; its entry then is there. */
static int rehang(struct kv_edit *ed, struct kv_inode *inode, const struct kv_place *from, const struct kv_place *to)
{
	bool several = inode->rec.nlink > 1 && !S_ISDIR(inode->rec.mode);
	inode->rec.ctime = kv_rec_time(ed->now);
	kv_inode_set_name(inode, to->parent, to->name, to->len);
	int r = several ? kv_inode_del_name(&ed->txn, inode->ino, from->parent, from->name, from->len) : 0;
	if (r == 0 && several)
		r = kv_inode_add_name(&ed->txn, inode->ino, to->parent, to->name, to->len);
	return r ? r : kv_inode_put(&ed->txn, inode);
}

static int log_rename(struct kv_edit *ed, const struct kv_place *from, const struct kv_place *to)
{
	int r = kv_changes_add(
		&ed->changes, KV_CHANGE_RENAME_FROM, from->ent.type, from->ent.ino, from->parent, from->name, from->len);
	return r ? r
		 : kv_changes_add(&ed->changes, KV_CHANGE_RENAME_TO, from->ent.type, from->ent.ino, to->parent, to->name, to->len);
}

static int update_dir(struct kv_edit *ed, uint64_t ino, int entries, int subdirs)
{
	struct kv_inode dir;
	int r = load_dir(ed, ino, &dir);
	return r ? r : touch_dir(ed, &dir, entries, subdirs);
}

static int exchange(struct kv_edit *ed, const struct kv_place *src, const struct kv_place *dst)
{
	int moved = (int)S_ISDIR(src->ent.type) - (int)S_ISDIR(dst->ent.type);
	struct kv_inode one, other; /* both before either takes the other's place */
	int r = kv_inode_load(&ed->txn, src->ent.ino, &one);
	if (r == 0)
		r = kv_inode_load(&ed->txn, dst->ent.ino, &other);
	if (r == 0)
		r = rehang(ed, &one, src, dst);
	if (r == 0)
		r = rehang(ed, &other, dst, src);
	if (r == 0)
		r = update_dir(ed, src->parent, 0, -moved);
	if (r == 0)
		r = update_dir(ed, dst->parent, 0, moved);
	if (r == 0)
		r = log_rename(ed, src, dst);
	return r ? r : log_rename(ed, dst, src);
}

int kv_namei_rename(
	struct kv_edit *ed, const struct kv_place *src, const struct kv_place *dst, unsigned flags, struct kvfs_stat *ret_replaced)
{
	int r = check_rename(ed, src, dst, flags);
	if (r)
		return r;
	if (dst->exists && dst->ent.ino == src->ent.ino)
		return 0; /* two names of one inode, or one name: POSIX leaves both */
	if (flags & KVFS_RENAME_EXCHANGE)
		return exchange(ed, src, dst);
	if (dst->exists) {
		r = displace(ed, dst, ret_replaced);
		if (r)
			return r;
	}
	int subdir = S_ISDIR(src->ent.type);
	struct kv_inode inode;
	r = kv_inode_load(&ed->txn, src->ent.ino, &inode);
	if (r == 0)
		r = rehang(ed, &inode, src, dst);
	if (r == 0)
		r = kv_dirent_del(&ed->txn, src->parent, src->name, src->len);
	if (r == 0)
		r = update_dir(ed, src->parent, -1, -subdir);
	if (r == 0)
		r = update_dir(ed, dst->parent, 1, subdir);
	return r ? r : log_rename(ed, src, dst);
}
