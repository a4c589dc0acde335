/* Watches: the log, read from where a watch stands, as events with whole keys.  inotify on data.mdb tells when there may be something.
 *
 * Invariants:
 *  W1  The descriptor is emptied before the log is read, so a commit after that read makes it readable again.  LMDB writes a commit's last
 *      page, which is when inotify tells of it, a moment before it lets readers see it: in between, the descriptor is left readable.
 *  W2  A watch stands after record `seq` and `skip` changes of the next one; it moves on when events are taken from the log, and a batch is
 *      small: what is not told yet is in the log, not in memory. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "core.h"
#include "err.h"
#include "namei.h"
#include "path.h"

#define BATCH 128
#define NAMES_MAX 1000 /* of one value that are looked at */
#define UNSEEN_TRIES 10 /* 100 us apart */

/* A directory that was deleted: keys in it are named by what the log says of it. */
struct gone {
	uint64_t ino, parent;
	char *name;
};

struct kvfs_watch {
	struct kv_core *core;
	int fd, wd;
	unsigned flags;
	char dir[KVFS_KEY_MAX + 1];
	uint64_t seq;
	unsigned skip;
	struct kvfs_event events[BATCH + 1]; /* the second half of a rename always fits */
	unsigned n, next;
};

/* One reading of the log. */
struct reading {
	struct kvfs_watch *w;
	struct kv_txn txn;
	struct kv_head head;
	uint64_t seq; /* of the record whose changes are counted */
	unsigned index;
	struct gone *gone; /* sorted by ino once loaded */
	size_t ngone, gone_cap;
	bool gone_loaded;
};

/* ---- what a key was ---- */

static int note_gone(void *arg, const struct kv_change *c)
{
	struct reading *rd = arg;
	if (c->rec.kind != KV_CHANGE_DELETE || !S_ISDIR(c->rec.type))
		return 0;
	if (rd->ngone == rd->gone_cap) {
		size_t cap = rd->gone_cap ? rd->gone_cap * 2 : 16;
		struct gone *list = reallocarray(rd->gone, cap, sizeof *list);
		if (!list)
			return kv_fail(ENOMEM);
		rd->gone = list;
		rd->gone_cap = cap;
	}
	struct gone *gone = &rd->gone[rd->ngone];
	*gone = (struct gone){c->rec.ino, c->rec.parent, strdup(c->name)};
	if (!gone->name)
		return kv_fail(ENOMEM);
	rd->ngone++;
	return 0;
}

static int by_ino(const void *a, const void *b)
{
	uint64_t x = ((const struct gone *)a)->ino, y = ((const struct gone *)b)->ino;
	return x < y ? -1 : x > y;
}

/* The deletion of a directory comes after the changes in it: it is in what has not been read yet. */
static int find_gone(struct reading *rd, uint64_t ino, const struct gone **ret)
{
	const struct gone key = {.ino = ino};
	if (!rd->gone_loaded) {
		int r = kv_log_read(&rd->txn, rd->w->seq, rd->head.seq, note_gone, rd);
		if (r)
			return r;
		if (rd->ngone)
			qsort(rd->gone, rd->ngone, sizeof *rd->gone, by_ino);
		rd->gone_loaded = true;
	}
	*ret = rd->ngone ? bsearch(&key, rd->gone, rd->ngone, sizeof key, by_ino) : NULL;
	return *ret ? 0 : -ENOENT;
}

/* Where a directory is, or was. */
static int find_dir(struct reading *rd, struct kv_inode *inode, uint64_t ino)
{
	const struct gone *gone;
	int r = kv_inode_get(&rd->txn, ino, inode);
	if (r != -ENOENT)
		return r;
	r = find_gone(rd, ino, &gone);
	if (r == 0) /* a name has at most 255 bytes: kv_changes_walk() */
		kv_inode_set_name(inode, gone->parent, gone->name, strlen(gone->name));
	return r;
}

/* The whole key of a change, at the end of buf.  -ENOENT when it cannot be known, or is none any more: too long. */
static int key_of(struct reading *rd, const struct kv_change *c, char buf[KVFS_KEY_MAX + 1], const char **ret)
{
	struct kv_inode dir;
	char *p = buf + KVFS_KEY_MAX;
	const char *name = c->name;
	size_t len = c->rec.name_len;
	uint64_t parent = c->rec.parent;
	*p = 0;
	while (c->rec.ino != KV_ROOT) {
		bool last = !*p;
		if (!parent || !len || len + !last > (size_t)(p - buf))
			return -ENOENT;
		if (!last)
			*--p = '/';
		p -= len;
		memcpy(p, name, len);
		if (parent == KV_ROOT)
			break;
		int r = find_dir(rd, &dir, parent);
		if (r)
			return r;
		name = dir.name;
		len = dir.rec.name_len;
		parent = dir.rec.parent;
	}
	*ret = p;
	return 0;
}

static bool is_watched(const struct kvfs_watch *w, const char *key)
{
	size_t len = strlen(w->dir);
	if (strncmp(key, w->dir, len) != 0)
		return false;
	const char *below = key + len;
	if (!*below)
		return true;
	if (len && *below++ != '/')
		return false;
	return w->flags & KVFS_WATCH_RECURSIVE || !strchr(below, '/');
}

/* The log has one name of a value that has several: is it watched by another? */
static int other_key_of(struct reading *rd, const struct kv_change *c, char buf[KVFS_KEY_MAX + 1], const char **ret)
{
	struct kv_change by = *c;
	struct kv_cursor cur;
	struct kv_bytes name;
	uint64_t dir;
	if (S_ISDIR(c->rec.type) ||
		(c->rec.kind != KV_CHANGE_PUT && c->rec.kind != KV_CHANGE_APPEND && c->rec.kind != KV_CHANGE_ATTR))
		return -ENOENT;
	int r = kv_cursor_open(&rd->txn, KV_INODE, &cur);
	if (r)
		return r;
	for (int n = 0; n < NAMES_MAX; n++) {
		r = kv_inode_next_name(&cur, c->rec.ino, n == 0, &dir, &name);
		if (r)
			break;
		by.rec.parent = dir;
		by.rec.name_len = (uint16_t)name.len;
		memcpy(by.name, name.data, name.len);
		r = key_of(rd, &by, buf, ret);
		if (r != -ENOENT && (r || is_watched(rd->w, *ret)))
			break;
		r = -ENOENT;
	}
	kv_cursor_close(&cur);
	return r;
}

/* The key by which a change is told.  -ENOENT: it is not. */
static int watched_key_of(struct reading *rd, const struct kv_change *c, char buf[KVFS_KEY_MAX + 1], const char **ret)
{
	int r = key_of(rd, c, buf, ret);
	return r == -ENOENT || (r == 0 && !is_watched(rd->w, *ret)) ? other_key_of(rd, c, buf, ret) : r;
}

/* ---- reading the log ---- */

static void drop_events(struct kvfs_watch *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		free((char *)w->events[i].key);
		free((char *)w->events[i].target);
	}
	w->n = w->next = 0;
}

static int add_event(struct kvfs_watch *w, const struct kv_change *c, const char *key)
{
	char *copy = strdup(key);
	if (!copy)
		return kv_fail(ENOMEM);
	if (c->rec.kind == KV_CHANGE_RENAME_TO && w->n) { /* the second half of what was told last? */
		struct kvfs_event *from = &w->events[w->n - 1];
		if (from->kind == KVFS_CHANGE_RENAME_FROM && !from->target && from->ino == c->rec.ino) {
			from->target = copy;
			return 0;
		}
	}
	w->events[w->n++] = (struct kvfs_event){
		.kind = (enum kvfs_change_kind)c->rec.kind,
		.sequence = c->seq,
		.ino = c->rec.ino,
		.type = c->rec.type,
		.time_ns = c->time_ns,
		.key = copy,
	};
	return 0;
}

/* 1: the batch is full. */
static int take_change(void *arg, const struct kv_change *c)
{
	struct reading *rd = arg;
	struct kvfs_watch *w = rd->w;
	char buf[KVFS_KEY_MAX + 1];
	const char *key;
	if (rd->seq != c->seq) {
		rd->seq = c->seq;
		rd->index = 0;
	}
	if (c->seq == w->seq + 1 && rd->index < w->skip) {
		rd->index++;
		return 0;
	}
	int r = w->n >= BATCH && c->rec.kind != KV_CHANGE_RENAME_TO;
	if (r == 0)
		r = watched_key_of(rd, c, buf, &key);
	if (r == 0)
		r = add_event(w, c, key);
	if (r == -ENOENT)
		r = 0;
	rd->index += r == 0;
	return r;
}

static int read_log(struct reading *rd)
{
	struct kvfs_watch *w = rd->w;
	int r = kv_log_head(&rd->txn, &rd->head);
	if (r || rd->head.seq == w->seq)
		return r;
	r = kv_log_read(&rd->txn, w->seq, rd->head.seq, take_change, rd);
	if (r == 1 || r == -ENOMEM) { /* goes on there */
		w->seq = rd->seq - 1;
		w->skip = rd->index;
		return r < 0 ? r : 0;
	}
	w->seq = rd->head.seq;
	w->skip = 0;
	return r == -ESTALE ? kv_fail(EOVERFLOW) : r;
}

static int watch_file(struct kvfs_watch *w)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof path, "%s/data.mdb", w->core->path) >= (int)sizeof path)
		return kv_fail(ENAMETOOLONG);
	w->wd = inotify_add_watch(w->fd, path, IN_MODIFY);
	return w->wd < 0 ? kv_fail(errno == ENOSPC ? EMFILE : errno) : 0; /* ENOSPC is its limit of watches */
}

/* *ret_newest: there is no newer commit that readers do not see yet. */
static int read_once(struct kvfs_watch *w, bool *ret_newest)
{
	struct reading rd = {.w = w};
	int r = kv_db_read(w->core->db, &rd.txn);
	if (r)
		return r;
	r = read_log(&rd);
	*ret_newest = kv_db_is_newest(&rd.txn);
	kv_db_read_end(&rd.txn);
	for (size_t i = 0; i < rd.ngone; i++)
		free(rd.gone[i].name);
	free(rd.gone);
	return r;
}

static int refill(struct kvfs_watch *w)
{
	char events[4096];
	bool newest;
	drop_events(w);
	while (read(w->fd, events, sizeof events) > 0) /* W1 */
		;
	for (int tries = 0; tries < UNSEEN_TRIES; tries++) {
		int r = read_once(w, &newest);
		if (r || w->n || newest)
			return r;
		usleep(100);
	}
	/* who commits does not get on: taking the watch away is an event, too */
	inotify_rm_watch(w->fd, w->wd);
	return watch_file(w);
}

/* ---- the calls ---- */

static int no_change(void *arg, const struct kv_change *c)
{
	(void)arg, (void)c;
	return 0;
}

/* Is there what is watched, and does the log reach back? */
static int find_start(struct kvfs_watch *w, uint64_t since)
{
	struct kv_txn txn;
	struct kv_head head;
	struct kv_dirent ent;
	int r = kv_db_read(w->core->db, &txn);
	if (r)
		return r;
	r = kv_namei_lookup(&txn, w->dir, &ent);
	if (r == 0)
		r = kv_log_head(&txn, &head);
	if (r == 0 && since > head.seq)
		r = kv_fail(ESTALE);
	if (r == 0 && since && since < head.seq)
		r = kv_log_read(&txn, since, since + 1, no_change, NULL);
	if (r == 0)
		w->seq = since ? since : head.seq;
	kv_db_read_end(&txn);
	return r;
}

int kvfs_watch_open(struct kvfs_store *store, const char *dir, unsigned flags, uint64_t since, struct kvfs_watch **ret)
{
	int r = kv_core_check(store->core);
	if (r == 0 && flags & ~(unsigned)KVFS_WATCH_RECURSIVE)
		r = kv_fail(EINVAL);
	if (r == 0)
		r = kv_path_check(dir);
	if (r)
		return r;
	struct kvfs_watch *w = calloc(1, sizeof *w);
	if (!w)
		return kv_fail(ENOMEM);
	w->core = store->core;
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	w->flags = flags;
	strcpy(w->dir, dir + (*dir == '/'));
	r = w->fd < 0 ? kv_fail(errno) : watch_file(w); /* before it is known where to start */
	if (r == 0)
		r = find_start(w, since);
	if (r) {
		kvfs_watch_close(w);
		return r;
	}
	*ret = w;
	return 0;
}

int kvfs_watch_fd(const struct kvfs_watch *w)
{
	return w->fd;
}

int kvfs_watch_next(struct kvfs_watch *w, struct kvfs_event *ret)
{
	int r = kv_core_check(w->core);
	if (r == 0 && w->next == w->n)
		r = refill(w);
	if (r)
		return r;
	if (w->next == w->n)
		return 0;
	*ret = w->events[w->next++];
	return 1;
}

void kvfs_watch_close(struct kvfs_watch *w)
{
	if (!w)
		return;
	drop_events(w);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}
