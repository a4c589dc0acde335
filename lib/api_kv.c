/* Single-key calls of kvfs.h: each checks its arguments and is one transaction. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "api.h"
#include "err.h"
#include "held.h"
#include "path.h"
#include "session.h"
#include "value.h"

#define PUT_WHOLE_MAX ((size_t)4 << 20) /* a larger value goes through a session: its chunks are written before the lock is taken */
#define TREE_SLICE 1000

const char *kvfs_key_fault(const char *key)
{
	return kv_path_fault(key);
}

int kvfs_key_compare(const char *a, const char *b)
{
	return kv_path_compare(a, b);
}

int kv_api_edit(struct kvfs_store *store, const char *key, kv_edit_fn *fn, void *arg)
{
	int r = kv_api_writable(store);
	if (r == 0)
		r = kv_path_check(key);
	return r ? r : kv_commit(store->core, fn, arg);
}

int kv_api_read(struct kvfs_store *store, const char *key, struct kv_txn *ret)
{
	int r = kv_core_check(store->core);
	if (r == 0)
		r = kv_path_check(key);
	return r ? r : kv_db_read(store->core->db, ret);
}

/* ---- reading ---- */

int kv_api_get(struct kv_core *core, struct kv_txn *txn, const char *key, void **ret_data, size_t *ret_len, uint64_t *ret_version)
{
	struct kv_inode inode;
	struct kv_version ver;
	int r = kv_held_find(txn, key, &inode);
	if (r)
		return r;
	if (inode.rec.size >= SIZE_MAX / 2)
		return kv_fail(EFBIG);
	size_t len = inode.rec.size;
	char *data = malloc(len + 1);
	if (!data)
		return kv_fail(len > 1 << 30 ? EFBIG : ENOMEM);
	kv_version_of(&inode, &ver);
	ssize_t n = kv_value_read(txn, &core->layout, &ver, data, len, 0);
	if (n < 0) {
		free(data);
		return (int)n;
	}
	data[len] = 0;
	*ret_data = data;
	*ret_len = len;
	if (ret_version)
		*ret_version = inode.rec.version;
	return 0;
}

int kvfs_get(struct kvfs_store *store, const char *key, void **ret_data, size_t *ret_len)
{
	struct kv_txn txn;
	int r = kv_api_read(store, key, &txn);
	if (r)
		return r;
	r = kv_api_get(store->core, &txn, key, ret_data, ret_len, NULL);
	kv_db_read_end(&txn);
	return r;
}

ssize_t kvfs_get_into(struct kvfs_store *store, const char *key, void *buf, size_t cap, uint64_t offset)
{
	struct kv_txn txn;
	struct kv_inode inode;
	struct kv_version ver;
	ssize_t r = kv_api_read(store, key, &txn);
	if (r)
		return r;
	r = kv_held_find(&txn, key, &inode);
	if (r == 0) {
		kv_version_of(&inode, &ver);
		r = kv_value_read(&txn, &store->core->layout, &ver, buf, cap, offset);
	}
	kv_db_read_end(&txn);
	return r;
}

int kvfs_exists(struct kvfs_store *store, const char *key)
{
	struct kv_txn txn;
	struct kv_dirent ent;
	int r = kv_core_check(store->core);
	if (r)
		return r;
	if (kv_path_check(key))
		return 0;
	r = kv_db_read(store->core->db, &txn);
	if (r)
		return r;
	r = kv_namei_lookup(&txn, key, &ent);
	kv_db_read_end(&txn);
	return r == 0 ? 1 : r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

int kvfs_stat(struct kvfs_store *store, const char *key, struct kvfs_stat *ret)
{
	struct kv_txn txn;
	struct kv_dirent ent;
	int r = kv_api_read(store, key, &txn);
	if (r)
		return r;
	r = kv_namei_lookup(&txn, key, &ent);
	if (r == 0)
		r = kv_inode_stat_at(&txn, &ent, ret);
	kv_db_read_end(&txn);
	return r;
}

/* ---- putting ---- */

/* The inode to put to: the key's, or a new one. */
static int put_target(struct kv_edit *ed, const char *key, const struct kvfs_put_options *opt, struct kv_inode *ret)
{
	struct kv_place place;
	int r = kv_namei_resolve_making(ed, key, true, &place);
	if (r)
		return r;
	if (place.exists) {
		r = kv_held_check_type(place.ent.type);
		if (r == 0)
			r = kv_namei_load(ed, &place, ret);
		return r ? r : kv_session_check_cond(opt->flags, opt->version, true, ret->rec.version);
	}
	r = kv_session_check_cond(opt->flags, opt->version, false, 0);
	if (r)
		return r;
	struct kv_make make = {.mode = S_IFREG | (opt->mode ? opt->mode & 07777 : 0644), .uid = geteuid(), .gid = getegid()};
	return kv_namei_make(ed, place.parent, place.name, place.len, &make, ret);
}

static struct kvfs_put_options put_options(const struct kvfs_put_options *user)
{
	struct kvfs_put_options opt = {0};
	if (user)
		memcpy(&opt, user, kv_min(user->size, sizeof opt));
	return opt;
}

int kv_api_put(struct kv_edit *ed, const char *key, const void *data, size_t len, const struct kvfs_put_options *user,
	uint64_t *ret_version)
{
	struct kvfs_put_options opt = put_options(user);
	struct kv_inode inode;
	struct kv_content content;
	bool set_mtime = opt.mtime.tv_sec || opt.mtime.tv_nsec;
	int r = put_target(ed, key, &opt, &inode);
	if (r == 0)
		r = kv_value_content(ed, data, len, &content);
	if (r == 0)
		r = kv_value_replace(ed, &inode, &content, set_mtime ? &opt.mtime : NULL);
	if (r == 0)
		r = kv_inode_put(&ed->txn, &inode);
	if (r == 0 && ret_version)
		*ret_version = inode.rec.version;
	return r;
}

static int put_large(struct kvfs_store *store, const char *key, const void *data, size_t len, const struct kvfs_put_options *user,
	uint64_t *ret_version)
{
	struct kvfs_put_options opt = put_options(user);
	struct kvfs_session *s;
	int r = kv_session_new_key(store->core, key, opt.mode ? opt.mode & 07777 : 0644, &s);
	if (r)
		return r;
	s->cond = opt.flags;
	s->cond_version = opt.version;
	if (opt.mtime.tv_sec || opt.mtime.tv_nsec) {
		s->times = KVFS_SET_MTIME;
		s->mtime = opt.mtime;
	}
	ssize_t n = kvfs_session_write(s, data, len, 0);
	r = n < 0 ? (int)n : kvfs_session_publish(s);
	if (r == 0 && ret_version)
		*ret_version = s->st.version;
	kvfs_session_close(s);
	return r;
}

struct put {
	const char *key;
	const void *data;
	size_t len;
	const struct kvfs_put_options *opt;
	uint64_t version;
};

static int edit_put(struct kv_edit *ed, void *arg)
{
	struct put *p = arg;
	return kv_api_put(ed, p->key, p->data, p->len, p->opt, &p->version);
}

int kvfs_put(struct kvfs_store *store, const char *key, const void *data, size_t len, const struct kvfs_put_options *opt,
	uint64_t *ret_version)
{
	struct put put = {.key = key, .data = data, .len = len, .opt = opt};
	int r = kv_api_writable(store);
	if (r == 0)
		r = kv_path_check(key);
	if (r)
		return r;
	if (len > KV_VALUE_MAX)
		return kv_fail(EFBIG);
	if (len > PUT_WHOLE_MAX)
		return put_large(store, key, data, len, opt, ret_version);
	r = kv_commit(store->core, edit_put, &put);
	if (r == 0 && ret_version)
		*ret_version = put.version;
	return r;
}

static int edit_append(struct kv_edit *ed, void *arg)
{
	const struct put *p = arg;
	struct kv_inode inode;
	struct kvfs_put_options opt = {0};
	int r = put_target(ed, p->key, &opt, &inode);
	if (r == 0)
		r = kv_value_append(ed, &inode, p->data, p->len);
	return r ? r : kv_inode_put(&ed->txn, &inode);
}

int kvfs_append(struct kvfs_store *store, const char *key, const void *data, size_t len)
{
	if (len > PUT_WHOLE_MAX) /* more than one transaction may hold at once */
		return kv_fail(EFBIG);
	return kv_api_edit(store, key, edit_append, &(struct put){.key = key, .data = data, .len = len});
}

int kv_api_add(const char *old, size_t len, int64_t delta, char ret_text[24], size_t *ret_len, int64_t *ret)
{
	char text[32];
	char *end;
	int64_t value = 0, sum;
	bool newline = len && old[len - 1] == '\n';
	if (len >= sizeof text)
		return kv_fail(EDOM);
	if (old) { /* an empty value is no number; an absent one is 0 */
		memcpy(text, old, len - newline);
		text[len - newline] = 0;
		errno = 0;
		value = strtoll(text, &end, 10);
		if (end == text || *end || (size_t)(end - text) != len - newline || strchr(" \t\n\v\f\r", text[0]))
			return kv_fail(EDOM);
		if (errno)
			return kv_fail(EDOM);
	}
	if (__builtin_add_overflow(value, delta, &sum))
		return kv_fail(ERANGE);
	*ret_len = (size_t)snprintf(ret_text, 24, "%" PRId64 "%s", sum, newline ? "\n" : "");
	*ret = sum;
	return 0;
}

struct incr {
	struct kv_core *core;
	const char *key;
	int64_t delta, sum;
};

static int edit_incr(struct kv_edit *ed, void *arg)
{
	struct incr *in = arg;
	void *old = NULL;
	size_t len = 0;
	char text[24];
	int r = kv_api_get(in->core, &ed->txn, in->key, &old, &len, NULL);
	if (r == 0 || r == -ENOENT)
		r = kv_api_add(old, len, in->delta, text, &len, &in->sum);
	free(old);
	return r ? r : kv_api_put(ed, in->key, text, len, NULL, NULL);
}

int kvfs_incr(struct kvfs_store *store, const char *key, int64_t delta, int64_t *ret)
{
	struct incr in = {store->core, key, delta, 0};
	int r = kv_api_edit(store, key, edit_incr, &in);
	if (r == 0 && ret)
		*ret = in.sum;
	return r;
}

/* ---- deleting ---- */

static int remove_place(struct kv_edit *ed, const struct kv_place *place)
{
	if (!place->exists)
		return -ENOENT;
	if (!place->len)
		return kv_fail(EBUSY);
	int r = S_ISDIR(place->ent.type) ? kv_namei_rmdir(ed, place->parent, place->name, place->len)
					 : kv_namei_unlink(ed, place->parent, place->name, place->len, NULL);
	return r ? r : kv_namei_prune(ed, place->parent);
}

int kv_api_del(struct kv_edit *ed, const char *key)
{
	struct kv_place place;
	int r = kv_namei_resolve(&ed->txn, key, &place);
	return r ? r : remove_place(ed, &place);
}

static int edit_del(struct kv_edit *ed, void *arg)
{
	return kv_api_del(ed, arg);
}

int kvfs_del(struct kvfs_store *store, const char *key)
{
	return kv_api_edit(store, key, edit_del, (void *)key);
}

/* The first entry of a directory.  The name is copied: the caller changes the table. */
static int first_entry(struct kv_edit *ed, uint64_t dir, char *ret_name, size_t *ret_len, struct kv_dirent *ret)
{
	struct kv_cursor c;
	struct kv_bytes name;
	int r = kv_cursor_open(&ed->txn, KV_DIRENT, &c);
	if (r)
		return r;
	r = kv_dirent_step(&c, dir, NULL, 0, true, false, &name, ret);
	if (r == 0) {
		memcpy(ret_name, name.data, name.len);
		*ret_len = name.len;
	}
	kv_cursor_close(&c);
	return r;
}

/* Removes up to *budget keys below `top`, leaves first.  0 when none are left, -EAGAIN when there are more. */
static int remove_below(struct kv_edit *ed, uint64_t top, unsigned *budget)
{
	char name[KVFS_NAME_MAX];
	size_t len;
	struct kv_dirent ent;
	struct kv_inode inode;
	uint64_t dir = top;
	while (*budget) {
		int r = first_entry(ed, dir, name, &len, &ent);
		if (r == 0 && S_ISDIR(ent.type)) {
			dir = ent.ino;
			continue;
		}
		if (r == -ENOENT && dir == top)
			return 0;
		if (r == 0) {
			r = kv_namei_unlink(ed, dir, name, len, NULL);
		} else if (r == -ENOENT) {
			r = kv_inode_get(&ed->txn, dir, &inode);
			if (r == 0)
				r = kv_namei_rmdir(ed, inode.rec.parent, inode.name, inode.rec.name_len);
			dir = inode.rec.parent;
		}
		if (r)
			return r;
		--*budget;
	}
	return -EAGAIN;
}

/* One transaction of a deletion; -EAGAIN: done, and more is left. */
static int del_slice(struct kvfs_store *store, const char *key, uint64_t *count)
{
	struct kv_edit ed;
	struct kv_place place;
	unsigned budget = TREE_SLICE;
	int r = kv_commit_begin(store->core, &ed);
	if (r)
		return r;
	r = kv_namei_resolve(&ed.txn, key, &place);
	if (r == 0 && !place.exists)
		r = -ENOENT;
	if (r == 0 && S_ISDIR(place.ent.type))
		r = remove_below(&ed, place.ent.ino, &budget);
	bool more = r == -EAGAIN;
	if (r == 0 && place.len) {
		r = remove_place(&ed, &place);
		budget--;
	}
	r = kv_commit_finish(store->core, &ed, more ? 0 : r);
	if (r)
		return r;
	*count += TREE_SLICE - budget;
	return more ? -EAGAIN : 0;
}

int kvfs_del_tree(struct kvfs_store *store, const char *key, uint64_t *ret_count)
{
	uint64_t count = 0;
	int r = kv_api_writable(store);
	if (r == 0)
		r = kv_path_check(key);
	if (r)
		return r;
	do
		r = del_slice(store, key, &count);
	while (r == -EAGAIN);
	if (r == -ENOENT && count) /* others finished it */
		r = 0;
	if (r == 0 && ret_count)
		*ret_count = count;
	return r;
}

/* ---- names ---- */

int kv_api_rename(struct kv_edit *ed, const char *src, const char *dst, unsigned flags)
{
	struct kv_place from, to;
	int r = kv_namei_resolve(&ed->txn, src, &from);
	if (r == 0 && !from.exists)
		r = -ENOENT;
	if (r == 0)
		r = kv_namei_resolve_making(ed, dst, true, &to);
	if (r == 0)
		r = kv_namei_rename(ed, &from, &to, flags, NULL);
	return r ? r : kv_namei_prune(ed, from.parent);
}

struct two_keys {
	const char *key, *key2;
	unsigned flags;
};

static int edit_rename(struct kv_edit *ed, void *arg)
{
	const struct two_keys *k = arg;
	return kv_api_rename(ed, k->key, k->key2, k->flags);
}

int kvfs_rename(struct kvfs_store *store, const char *src, const char *dst, unsigned flags)
{
	int r = kv_path_check(dst);
	if (r == 0 && (flags & ~3u || flags == 3))
		r = kv_fail(EINVAL);
	return r ? r : kv_api_edit(store, src, edit_rename, &(struct two_keys){src, dst, flags});
}

struct making {
	const char *key;
	struct kv_make *make;
};

static int edit_make(struct kv_edit *ed, void *arg)
{
	const struct making *m = arg;
	struct kv_place place;
	struct kv_inode inode;
	int r = kv_namei_resolve_making(ed, m->key, !S_ISDIR(m->make->mode), &place);
	if (r == 0 && place.exists)
		r = -EEXIST;
	if (r == 0)
		r = kv_namei_make(ed, place.parent, place.name, place.len, m->make, &inode);
	if (r == 0 && S_ISREG(m->make->mode))
		r = kv_value_create_empty(ed, &inode);
	return r;
}

static int make(struct kvfs_store *store, const char *key, struct kv_make *m)
{
	m->uid = geteuid();
	m->gid = getegid();
	return kv_api_edit(store, key, edit_make, &(struct making){key, m});
}

int kvfs_mkdir(struct kvfs_store *store, const char *key, mode_t mode)
{
	return make(store, key, &(struct kv_make){.mode = S_IFDIR | (mode & 07777)});
}

int kvfs_mknod(struct kvfs_store *store, const char *key, mode_t mode, dev_t rdev)
{
	if (S_ISDIR(mode) || S_ISLNK(mode))
		return kv_fail(EINVAL);
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	return make(store, key, &(struct kv_make){.mode = mode, .rdev = (uint32_t)rdev});
}

int kvfs_symlink(struct kvfs_store *store, const char *target, const char *key)
{
	size_t len = strlen(target);
	if (len == 0 || len > KVFS_KEY_MAX)
		return kv_fail(len ? ENAMETOOLONG : EINVAL);
	return make(store, key, &(struct kv_make){.mode = S_IFLNK | 0777, .target = target});
}

static int edit_link(struct kv_edit *ed, void *arg)
{
	const struct two_keys *k = arg;
	struct kv_place place;
	struct kv_inode inode;
	struct kv_dirent ent;
	int r = kv_namei_lookup(&ed->txn, k->key, &ent);
	if (r == 0)
		r = kv_namei_resolve_making(ed, k->key2, true, &place);
	if (r == 0 && place.exists)
		r = -EEXIST;
	if (r == 0)
		r = kv_namei_link(ed, ent.ino, place.parent, place.name, place.len, &inode);
	return r;
}

int kvfs_link(struct kvfs_store *store, const char *key, const char *new_key)
{
	int r = kv_path_check(new_key);
	return r ? r : kv_api_edit(store, key, edit_link, &(struct two_keys){.key = key, .key2 = new_key});
}
