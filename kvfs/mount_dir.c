/* Listings.
 *
 * Entries are numbered in the order they are given, from 1 (".") on; an entry's number is its offset for the kernel.  A handle keeps
 * the names of its last answer, because the kernel may come back to any of them: it goes on after that name, whatever was made
 * or removed meanwhile.  Older offsets (seekdir(3)) are found by counting from the start. */
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DOT = 1, DOT_DOT = 2 };

struct dir {
	struct kv_node *node; /* for fstat(2) of a directory that was removed meanwhile */
	pthread_mutex_t lock; /* of all below; the kernel sends one request at a time, but need not */
	uint64_t first; /* number of the first name kept */
	size_t count; /* names kept */
	char *names; /* one after the other, each with its NUL */
	size_t used, cap;
};

static struct dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir *)(uintptr_t)fi->fh;
}

static void dir_free(struct kv_nodes *nodes, struct dir *d)
{
	kv_node_put(nodes, d->node);
	pthread_mutex_destroy(&d->lock);
	free(d->names);
	free(d);
}

void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct kv_nodes *nodes = kv_mount_of(req)->nodes;
	struct dir *d = calloc(1, sizeof(*d));
	enum kv_may_list may = KV_LIST_UNCACHED;
	int r = d ? kv_node_hold(nodes, id, &d->node, &may) : -ENOMEM;

	if (r < 0) {
		free(d);
		kv_reply(req, r);
		return;
	}
	pthread_mutex_init(&d->lock, NULL);
	fi->fh = (uintptr_t)d;
	fi->cache_readdir = may != KV_LIST_UNCACHED;
	fi->keep_cache = may == KV_LIST_KEPT;
	if (fuse_reply_open(req, fi) == -ENOENT)
		dir_free(nodes, d);
}

void op_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	(void)id;
	dir_free(kv_mount_of(req)->nodes, dir_of(fi));
	kv_reply(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	(void)id, (void)datasync, (void)fi;
	kv_reply(req, kvfs_sync(kv_mount_of(req)->store));
}

/* ---- an answer in the making ---- */

struct answer {
	fuse_req_t req;
	struct dir *dir;
	uint64_t node; /* of the directory */
	bool plus;
	uint64_t number; /* of the entry given last */
	char *buf;
	size_t used, cap;
	int error;
};

/* False when it does not fit any more. */
static bool add(struct answer *a, const char *name, const struct kv_face *face, bool real)
{
	struct fuse_entry_param entry;
	size_t size, left = a->cap - a->used;

	kv_fill_entry(kv_mount_of(a->req), face, &entry);
	if (!real)
		entry.ino = 0; /* "." and "..": not looked up by being listed */
	if (a->plus)
		size = fuse_add_direntry_plus(a->req, a->buf + a->used, left, name, &entry, (off_t)a->number + 1);
	else
		size = fuse_add_direntry(a->req, a->buf + a->used, left, name, &entry.attr, (off_t)a->number + 1);
	if (size > left)
		return false;
	a->used += size;
	a->number++;
	return true;
}

static bool remember(struct dir *d, const char *name)
{
	size_t len = strlen(name) + 1;

	if (d->used + len > d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 4096;
		char *names = realloc(d->names, cap);

		if (!names)
			return false;
		d->names = names;
		d->cap = cap;
	}
	memcpy(d->names + d->used, name, len);
	d->used += len;
	d->count++;
	return true;
}

static int fill(void *arg, const char *name, const struct kvfs_stat *st)
{
	struct answer *a = arg;
	struct kv_nodes *nodes = kv_mount_of(a->req)->nodes;
	struct kv_face face = {.id = st->ino, .st = *st};

	if (a->plus) {
		kv_node_face(nodes, st, &face);
		face.cache_name &= !kv_node_is_pending(nodes, a->node, name);
	}
	if (!add(a, name, &face, true))
		return 1;
	if (!remember(a->dir, name)) {
		a->error = -ENOMEM;
		return 1;
	}
	return 0;
}

struct counted {
	uint64_t left;
	char name[KVFS_NAME_MAX + 1];
};

static int count(void *arg, const char *name, const struct kvfs_stat *st)
{
	struct counted *c = arg;

	(void)st;
	if (--c->left)
		return 0;
	strncpy(c->name, name, KVFS_NAME_MAX);
	return 1;
}

/* The name of entry `number` into name[]: "" for the dots, and nothing (-ENOENT) for one past the end. */
static int name_at(struct kvfs_store *store, struct dir *d, uint64_t dir, uint64_t number, char *ret)
{
	struct counted c = {.left = number - DOT_DOT};
	const char *p = d->names;
	int r;

	ret[0] = '\0';
	if (number <= DOT_DOT)
		return 0;
	if (number >= d->first && number - d->first < d->count) {
		for (uint64_t i = d->first; i < number; i++)
			p += strlen(p) + 1;
		strcpy(ret, p);
		return 0;
	}
	r = kvfs_ll_readdir(store, dir, NULL, false, count, &c);
	strcpy(ret, c.name);
	return r < 0 ? r : c.left ? -ENOENT : 0;
}

static int add_dots(struct answer *a, struct kvfs_store *store, uint64_t dir)
{
	struct kv_face face = {.st = {.ino = dir, .mode = S_IFDIR}};
	int r;

	if (a->number < DOT && !add(a, ".", &face, false))
		return 1;
	if (a->number < DOT_DOT) {
		r = kvfs_ll_parent(store, dir, &face.st.ino);
		if (r < 0)
			return r;
		if (!add(a, "..", &face, false))
			return 1;
	}
	return 0;
}

static int answer(struct answer *a, struct kvfs_store *store, uint64_t dir)
{
	char after[KVFS_NAME_MAX + 1];
	int r = name_at(store, a->dir, dir, a->number, after);

	if (r == 0)
		r = add_dots(a, store, dir);
	if (r == 0) {
		a->dir->first = a->number + 1;
		a->dir->count = a->dir->used = 0;
		r = kvfs_ll_readdir(store, dir, after[0] ? after : NULL, a->plus, fill, a);
		if (r >= 0)
			r = a->error;
	}
	/* a directory that is gone, and offsets past its end, have nothing to list */
	return r == -ENOENT || r == -ESTALE || r > 0 ? 0 : r;
}

static void list(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi, bool plus)
{
	struct answer a = {.req = req,
		.dir = dir_of(fi),
		.node = id,
		.plus = plus,
		.number = (uint64_t)offset,
		.buf = malloc(size),
		.cap = size};
	int r = -ENOMEM;

	if (a.buf) {
		pthread_mutex_lock(&a.dir->lock);
		r = answer(&a, kv_mount_of(req)->store, id);
		pthread_mutex_unlock(&a.dir->lock);
	}
	if (r < 0 && !a.used)
		kv_reply(req, r);
	else
		fuse_reply_buf(req, a.buf, a.used);
	free(a.buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, id, size, offset, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	list(req, id, size, offset, fi, true);
}
