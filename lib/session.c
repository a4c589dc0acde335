/* The life of a write session: opened, written to (session_io.c), published whole, closed.
 *
 *                 create                 open(truncate)              open
 *                    |                         |                       |
 *                    v                         v                       v
 *               new, replace  --publish-->  replace  --publish-->  changes parts of `base`
 *                    |                         |                       |  ^ publish, append
 *                    +------- orphan ----------+-----------------------+--+
 *                                      (publish does nothing)
 *
 * Invariants:
 *  S4  A publication is one transaction: value, name, attributes and log record together.
 *  S5  On any error the old value stands and the session has all it had: publication may be tried again.
 *  S6  The lock is held while at most a slice of chunks (core->slice) is written: what is more is written before, to hidden chunks (session_io.c)
 *      and, of a session of parts, to chunks ahead of publication (session_parts.c). */
#include "session.h"

#include <errno.h>
#include <sys/stat.h>

#include "err.h"
#include "garbage.h"
#include "namei.h"
#include "path.h"
#include "xattr.h"

/* ---- birth and death ---- */

struct kvfs_session *kv_session_new(struct kv_core *core)
{
	struct kvfs_session *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->core = core;
	s->cut = UINT64_MAX;
	s->bufs.chunk_size = core->layout.chunk_size;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_lock(&core->sessions_lock);
	s->next = core->sessions;
	if (s->next)
		s->next->prev = s;
	core->sessions = s;
	pthread_mutex_unlock(&core->sessions_lock);
	return s;
}

int kv_session_check_store(struct kvfs_store *store)
{
	int r = kv_core_check(store->core);
	if (r)
		return r;
	return store->rdonly || store->core->rdonly ? kv_fail(EROFS) : 0;
}

int kvfs_session_open(struct kvfs_store *store, uint64_t ino, bool truncate, struct kvfs_session **ret)
{
	int r = kv_session_check_store(store);
	if (r)
		return r;
	struct kvfs_session *s = kv_session_new(store->core);
	if (!s)
		return kv_fail(ENOMEM);
	s->ino = ino;
	r = kv_held_open(store->core, NULL, ino, &s->base, &s->st);
	if (r) {
		kvfs_session_close(s);
		return r == -ENOENT ? -ESTALE : r;
	}
	s->epoch = s->st.epoch;
	if (truncate) {
		kvfs_value_close(kv_take(s->base));
		s->replace = s->dirty = true;
	} else {
		s->size = s->st.size;
	}
	*ret = s;
	return 0;
}

void kv_session_give_back_name(struct kvfs_session *s)
{
	if (s->reserved)
		kv_doors_name_give_back(s->core->doors, s->reserved);
	s->reserved = 0;
}

int kv_session_check_name(struct kvfs_session *s, uint64_t parent, const char *name)
{
	struct kv_txn txn;
	int r = kv_db_read(s->core->db, &txn);
	if (r)
		return r;
	bool reserved = kv_commit_name_reserved(s->core->doors, &txn, parent, name, strlen(name), s->reserved);
	kv_db_read_end(&txn);
	return reserved ? -EEXIST : 0;
}

int kvfs_session_open_gone(struct kvfs_store *store, struct kvfs_value *v, const struct kvfs_stat *st, struct kvfs_session **ret)
{
	struct kvfs_session *s = NULL;
	int r = kv_session_check_store(store);
	if (r == 0) {
		s = kv_session_new(store->core);
		r = s ? 0 : kv_fail(ENOMEM);
	}
	if (r) {
		kvfs_value_close(v);
		return r;
	}
	s->ino = st->ino;
	s->st = *st;
	s->st.nlink = 0;
	s->epoch = st->epoch;
	s->size = st->size;
	s->base = v;
	s->orphan = true;
	*ret = s;
	return 0;
}

/* What a new key will be. */
static int look_at_dir(struct kvfs_session *s, struct kvfs_cred cred, uint32_t mode)
{
	struct kv_txn txn;
	struct kv_inode dir;
	int r = kv_db_read(s->core->db, &txn);
	if (r)
		return r;
	r = kv_inode_get(&txn, s->parent, &dir);
	if (r == 0 && !S_ISDIR(dir.rec.mode))
		r = kv_fail(ENOTDIR);
	kv_db_read_end(&txn);
	if (r)
		return r;
	struct timespec now = kv_now();
	s->st = (struct kvfs_stat){.mode = S_IFREG | (mode & 07777),
		.uid = cred.uid,
		.gid = dir.rec.mode & S_ISGID ? dir.rec.gid : cred.gid,
		.nlink = 1,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now};
	return 0;
}

int kvfs_session_create(struct kvfs_store *store, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred,
	bool excl, struct kvfs_session **ret)
{
	int r = kv_session_check_store(store);
	if (r == 0)
		r = kv_name_check(name);
	if (r)
		return r;
	struct kvfs_session *s = kv_session_new(store->core);
	if (!s)
		return kv_fail(ENOMEM);
	s->is_new = s->replace = s->dirty = true;
	s->parent = parent;
	strcpy(s->name, name);
	r = look_at_dir(s, cred, mode);
	if (r == 0)
		r = excl ? kv_session_reserve(s) : kv_session_check_name(s, parent, name);
	if (r == 0)
		r = kv_commit_reserve_ino(store->core, &s->ino);
	if (r) {
		kvfs_session_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

int kv_session_new_key(struct kv_core *core, const char *key, uint32_t mode, struct kvfs_session **ret)
{
	struct kvfs_session *s = kv_session_new(core);
	if (!s)
		return kv_fail(ENOMEM);
	s->is_new = s->replace = s->dirty = true;
	s->st.mode = S_IFREG | mode;
	s->st.uid = geteuid();
	s->st.gid = getegid();
	s->st.nlink = 1;
	s->key = strdup(key);
	if (!s->key) {
		kvfs_session_close(s);
		return kv_fail(ENOMEM);
	}
	*ret = s;
	return 0;
}

int kv_session_check_cond(unsigned cond, uint64_t want, bool exists, uint64_t version)
{
	if (cond & ~(unsigned)(KVFS_IF_ABSENT | KVFS_IF_VERSION))
		return kv_fail(EINVAL);
	if (cond & KVFS_IF_ABSENT && exists)
		return -EEXIST;
	if (cond & KVFS_IF_VERSION && (!exists || version != want))
		return -ECANCELED;
	return 0;
}

void kvfs_session_close(struct kvfs_session *s)
{
	if (!s)
		return;
	struct kv_core *core = s->core;
	bool inherited = kv_core_check(core);
	if (!inherited) {
		pthread_mutex_lock(&s->lock);
		bool given_up = kv_session_reset(s) != 0;
		kv_session_drop_buffers(s, 0);
		kv_session_give_back_name(s);
		pthread_mutex_lock(&core->sessions_lock);
		if (given_up && core->ngiven_up < KV_ARRAY_LEN(core->given_up)) /* else it goes with this door */
			core->given_up[core->ngiven_up++] = s->blob;
		if (s->prev)
			s->prev->next = s->next;
		else
			core->sessions = s->next;
		if (s->next)
			s->next->prev = s->prev;
		pthread_mutex_unlock(&core->sessions_lock);
		pthread_mutex_unlock(&s->lock);
	}
	kvfs_value_close(s->base);
	kv_buffers_free(&s->bufs);
	kv_session_free_xattrs(s);
	kv_session_put_number(s);
	free(s->key);
	free(s->mask);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

uint64_t kv_session_size_on(const struct kvfs_session *s, uint64_t base)
{
	return s->sized ? s->size : kv_max(base, s->end);
}

/* ---- bytes, locked ---- */

ssize_t kvfs_session_read(struct kvfs_session *s, void *buf, size_t len, uint64_t offset)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	return kv_session_read(s, buf, len, offset);
}

ssize_t kvfs_session_write(struct kvfs_session *s, const void *buf, size_t len, uint64_t offset)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	return kv_session_write(s, buf, len, offset);
}

int kvfs_session_truncate(struct kvfs_session *s, uint64_t size)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	return kv_session_truncate(s, size);
}

int64_t kvfs_session_seek(struct kvfs_session *s, uint64_t offset, bool hole)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	return kv_session_seek(s, offset, hole);
}

int kv_session_clear(struct kvfs_session *s)
{
	int r = kv_session_reset(s);
	if (r)
		return r;
	kvfs_value_close(kv_take(s->base));
	s->replace = s->dirty = true;
	s->sized = false;
	s->cut = UINT64_MAX;
	s->size = s->end = 0;
	return 0;
}

int kvfs_session_clear(struct kvfs_session *s)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	return kv_session_clear(s);
}

int kvfs_session_refresh(struct kvfs_session *s)
{
	struct kvfs_value *newest;
	struct kvfs_stat st;
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	if (s->replace || s->orphan)
		return 0;
	r = kv_held_open(s->core, NULL, s->ino, &newest, &st);
	if (r == -ENOENT) { /* deleted meanwhile: it goes on as on an unlinked file */
		s->orphan = true;
		return 0;
	}
	if (r)
		return r;
	uint64_t size = kv_session_size_on(s, st.size);
	bool changed = size != s->size || !kv_held_same(s->base, newest);
	kvfs_value_close(s->base);
	s->base = newest;
	s->size = size;
	s->st = st;
	s->epoch = st.epoch;
	return changed;
}

/* ---- publication ---- */

/* The whole value's chunks into its blob, its tail into tail_buf; only for a session that replaces. */
static int make_content(struct kvfs_session *s, struct kv_edit *ed, uint8_t *tail_buf, struct kv_content *ret)
{
	uint32_t size = ed->layout.chunk_size, last = (uint32_t)(s->size / size);
	size_t tail = s->size % size <= ed->layout.inline_max ? s->size % size : 0;
	struct kv_content out = {.size = s->size, .blob = s->blob, .stored = s->stored, .tail = tail_buf};
	uint64_t chunks = s->stored / size; /* that have a record; of a session that replaces, hidden ones are counted as full */
	for (size_t i = 0; i < s->bufs.n; i++) {
		struct kv_buffer *buf = &s->bufs.list[i];
		uint64_t start = (uint64_t)buf->index * size;
		if (start >= s->size)
			break;
		if (tail && buf->index == last) {
			memcpy(tail_buf, kv_buffer_upto(buf, tail), tail);
			out.tail_len = (uint32_t)tail;
			chunks += !buf->stored;
			int r = buf->stored ? kv_chunk_del(&ed->txn, s->blob, last, 0) : 0;
			if (r)
				return r;
			continue;
		}
		if (!out.blob)
			out.blob = kv_value_new_blob(ed);
		size_t len = kv_min(size, s->size - start);
		int r = kv_chunk_put(&ed->txn, out.blob, buf->index, 0, kv_buffer_upto(buf, len), len);
		if (r)
			return r;
		out.stored += buf->stored ? 0 : len;
		chunks += !buf->stored;
		ed->chunks++;
	}
	if (tail && !out.tail_len && s->blob) { /* spilled: a short last chunk moves into the record */
		struct kv_bytes data;
		const uint8_t *mask;
		int r = kv_session_hidden(s, &ed->txn, last, &data, &mask);
		if (r == 0) {
			out.tail_len = (uint32_t)kv_min(tail, data.len);
			memcpy(tail_buf, data.data, out.tail_len);
			r = kv_chunk_del(&ed->txn, s->blob, last, 0);
		}
		if (r && r != -ENOENT)
			return r;
	}
	out.stored = kv_min(out.stored, s->size - out.tail_len);
	out.dense = chunks == (s->size + size - 1) / size; /* the tail counts as the chunk it stands for */
	*ret = out;
	return 0;
}

static int put_xattrs(struct kvfs_session *s, struct kv_edit *ed, struct kv_inode *inode)
{
	for (const struct kv_session_xattr *x = s->xattrs; x; x = x->next) {
		int r = kv_xattr_set(&ed->txn, inode->ino, x->name, x->value, x->size, 0);
		if (r == 0)
			r = kv_xattr_note(&inode->rec, x->name, x->value, x->size);
		if (r)
			return r;
	}
	return 0;
}

/* Where a new key's name is to be; a key's directories are made on the way. */
static int find_place(struct kvfs_session *s, struct kv_edit *ed, struct kv_place *ret)
{
	if (s->key)
		return kv_namei_resolve_making(ed, s->key, true, ret);
	*ret = (struct kv_place){.parent = s->parent, .name = s->name, .len = strlen(s->name)};
	int r = kv_dirent_get(&ed->txn, ret->parent, ret->name, ret->len, &ret->ent);
	ret->exists = r == 0;
	return r == -ENOENT ? 0 : r;
}

/* The write lock is what makes it sound (doors_names.c, D7): nothing is written, directories made on the way are dropped again. */
int kv_session_reserve(struct kvfs_session *s)
{
	const char *name = s->key ? s->key + (*s->key == '/') : s->name;
	struct kv_edit ed;
	struct kv_place place;
	int r = kv_commit_begin(s->core, &ed);
	if (r)
		return r;
	s->excl = true;
	r = find_place(s, &ed, &place);
	if (r == 0 && (place.exists || ed.reserved(&ed, place.parent, place.name, place.len)))
		r = -EEXIST;
	if (r == 0)
		r = kv_doors_name_take(s->core->doors, s->key ? KV_ROOT : s->parent, name, strlen(name), &s->reserved);
	kv_commit_abort(&ed);
	return r;
}

/* Finds the inode to publish to, or makes it.  -ENOENT: its key is gone (of a new key: its directory). */
static int find_target(struct kvfs_session *s, struct kv_edit *ed, struct kv_inode *ret)
{
	struct kv_place place;
	ed->own_name = s->reserved;
	if (!s->is_new) {
		int r = kv_namei_load_by(ed, s->ino, s->parent, s->name, ret);
		return r ? r : kv_session_check_cond(s->cond, s->cond_version, true, ret->rec.version);
	}
	int r = find_place(s, ed, &place);
	if (r)
		return r;
	if (place.exists && s->displaces && !S_ISDIR(place.ent.type)) {
		struct kvfs_stat gone;
		r = kv_namei_unlink(ed, place.parent, place.name, place.len, &gone);
		if (r)
			return r;
		place.exists = false;
	}
	if (place.exists) {
		if (s->excl)
			return -EEXIST;
		if (!S_ISREG(place.ent.type))
			return kv_fail(S_ISDIR(place.ent.type) ? EISDIR : S_ISLNK(place.ent.type) && s->key ? ELOOP : EEXIST);
		r = kv_namei_load(ed, &place, ret);
		/* Whoever made the name meanwhile had to be asked before his file is written, or shown to who has this one open. */
		if (r == 0 && !s->key && !s->kept && ret->rec.uid != s->st.uid)
			return kv_fail(EEXIST);
		return r ? r : kv_session_check_cond(s->cond, s->cond_version, true, ret->rec.version);
	}
	r = kv_session_check_cond(s->cond, s->cond_version, false, 0);
	if (r)
		return r;
	struct kv_make make = {.mode = s->st.mode, .uid = s->st.uid, .gid = s->st.gid, .ino = s->ino};
	if (s->number && s->number->user && s->number->user != s)
		make.ino = 0; /* another's, whose key was removed or renamed since */
	else if (s->number)
		s->number->user = s;
	r = kv_namei_make(ed, place.parent, place.name, place.len, &make, ret);
	if (r == 0 && !s->key)
		ret->rec.gid = s->st.gid; /* chown before publication outranks the directory's setgid bit */
	return r ? r : put_xattrs(s, ed, ret);
}

/* What was changed into the inode: written now, or ahead.  -EAGAIN some of what was written ahead has to be again; -ECANCELED all.
 * `last`: what has to be again is now. */
static int put_parts(struct kvfs_session *s, struct kv_edit *ed, struct kv_inode *inode, bool last, const struct timespec *mtime)
{
	struct kv_session_patch p;
	kv_session_patch(s, ed, &p);
	if (s->ahead.gen) {
		int r = kv_value_ahead_state(inode, &s->ahead);
		if (r == -EAGAIN && last) {
			s->ahead.next = 0;
			r = kv_value_write_ahead(ed, inode, &p.patch, &s->ahead, UINT32_MAX, UINT64_MAX);
		}
		if (r && r != -ENOENT)
			return r;
		p.patch.ahead = &s->ahead;
	}
	return kv_value_patch(ed, inode, &p.patch, mtime);
}

/* The session's value into the inode. */
static int put_value(struct kvfs_session *s, struct kv_edit *ed, struct kv_inode *inode, bool last)
{
	const struct timespec *mtime = s->times & KVFS_SET_MTIME ? &s->mtime : NULL;
	uint8_t tail[KV_TAIL_BUF];
	struct kv_content content;
	if (!s->replace)
		return put_parts(s, ed, inode, last, mtime);
	int r = make_content(s, ed, tail, &content);
	return r ? r : kv_value_replace(ed, inode, &content, mtime);
}

/* The session's blob has become the value's, or nobody needs it any more. */
static int settle_blob(struct kvfs_session *s, struct kv_edit *ed, const struct kv_inode *inode)
{
	if (!s->blob)
		return 0;
	int r = kv_hidden_del(&ed->txn, s->blob);
	if (r || inode->rec.blob == s->blob)
		return r;
	return s->ahead.gen ? kv_value_retire_under(ed, s->blob, s->stored, &s->ahead)
			    : kv_value_retire_blob(ed, s->blob, s->stored);
}

/* After a publication the session goes on as one that changes parts of what it published. */
static void settle(struct kvfs_session *s, const struct kv_inode *inode, struct kvfs_value *base)
{
	kv_session_drop_buffers(s, 0);
	kvfs_value_close(s->base);
	s->base = base;
	if (s->number && s->number->user == s)
		s->number->used = true;
	s->ino = inode->ino;
	s->epoch = inode->rec.epoch;
	s->size = inode->rec.size;
	s->is_new = s->replace = s->dirty = s->sized = false;
	s->cut = UINT64_MAX;
	s->end = s->blob = s->stored = s->kept = 0;
	s->ahead = (struct kv_ahead){0};
	s->times = s->cond = 0;
	kv_session_free_xattrs(s);
	kv_inode_stat(inode, &s->st);
}

static void put_times(const struct kvfs_session *s, struct kv_inode *inode, struct timespec now)
{
	if (s->times & KVFS_SET_ATIME)
		inode->rec.atime = kv_rec_time(s->atime);
	if (s->times & KVFS_SET_MTIME)
		inode->rec.mtime = kv_rec_time(s->mtime);
	inode->rec.ctime = kv_rec_time(now);
}

/* Everything of a publication but the commit itself.  *ret_base: a hold on what will be published.  -ENOENT only of the key. */
static int prepare(struct kvfs_session *s, struct kv_edit *ed, struct kv_inode *inode, bool last, struct kvfs_value **ret_base)
{
	int r = find_target(s, ed, inode);
	if (r)
		return r;
	r = put_value(s, ed, inode, last);
	if (r == 0) {
		put_times(s, inode, ed->now);
		r = kv_inode_put(&ed->txn, inode);
	}
	if (r == 0 && s->kept && s->kept != s->blob)
		r = kv_session_drop_kept(ed, s->kept);
	if (r == 0)
		r = settle_blob(s, ed, inode);
	/* entered before the value becomes current, so no look is needed after (held.c, H1) */
	if (r == 0)
		r = kv_held_new(s->core, inode, true, ret_base);
	return r == -ENOENT ? kv_fail(EIO) : r; /* not the key, but hidden chunks that someone took for a dead door's */
}

/* The same of an append, which is a transaction of its own. */
static int prepare_append(struct kvfs_session *s, struct kv_edit *ed, const void *buf, size_t len, struct kv_inode *inode,
	struct kvfs_value **ret_base)
{
	int r = find_target(s, ed, inode);
	if (r == 0 && inode->rec.size > KV_VALUE_MAX - len)
		r = kv_fail(EFBIG);
	if (r == 0)
		r = kv_value_append(ed, inode, buf, len);
	if (r == 0) {
		put_times(s, inode, ed->now);
		r = kv_inode_put(&ed->txn, inode);
	}
	return r ? r : kv_held_new(s->core, inode, true, ret_base);
}

/* A publication, or an append, as an edit. */
struct publication {
	struct kvfs_session *s;
	bool last; /* put_parts() */
	bool append; /* of bytes[len] */
	const void *bytes;
	size_t len;
	struct kv_ahead ahead; /* as it was before */
	bool gave_back; /* its name */
	bool gone; /* the key is deleted */
	struct kv_inode inode;
	struct kvfs_value *base;
};

/* Only times were set: no new version of the value. */
static int edit_times(struct kv_edit *ed, void *arg)
{
	const struct kvfs_session *s = arg;
	struct kv_inode inode;
	int r = kv_inode_load(&ed->txn, s->ino, &inode);
	if (r == 0) {
		put_times(s, &inode, ed->now);
		r = kv_inode_put(&ed->txn, &inode);
	}
	return r ? r
		 : kv_changes_add(&ed->changes, KV_CHANGE_ATTR, inode.rec.mode & S_IFMT, inode.ino, inode.rec.parent, inode.name,
			   inode.rec.name_len);
}

static int publish_times(struct kvfs_session *s)
{
	int r = kv_commit(s->core, edit_times, s);
	if (r == -ENOENT) { /* deleted meanwhile */
		s->orphan = true;
		return 0;
	}
	if (r == 0)
		s->times = 0;
	return r;
}

/* Whatever an earlier run of this edit left is made undone.  With the commit the name will be there, so the reservation goes before it, while the lock
 * still keeps everybody out. */
static int edit_value(struct kv_edit *ed, void *arg)
{
	struct publication *p = arg;
	struct kvfs_session *s = p->s;
	kvfs_value_close(kv_take(p->base));
	s->ahead = p->ahead;
	int r = p->append ? prepare_append(s, ed, p->bytes, p->len, &p->inode, &p->base)
			  : prepare(s, ed, &p->inode, p->last, &p->base);
	p->gone = r == -ENOENT && !s->is_new;
	if (r == 0 && s->reserved) {
		kv_session_give_back_name(s);
		p->gave_back = true;
	}
	return r;
}

/* Should there be no commit after all, the name is reserved anew, unless somebody was faster: the next try finds out.  Where its key is gone the
 * session is an orphan. */
static int publish(struct publication *p)
{
	struct kvfs_session *s = p->s;
	p->ahead = s->ahead;
	int r = kv_commit(s->core, edit_value, p);
	if (r == 0) {
		settle(s, &p->inode, p->base);
		return 0;
	}
	kvfs_value_close(p->base);
	int again = p->gave_back ? kv_session_reserve(s) : 0;
	(void)again;
	if (r == -ENOENT && p->gone)
		s->orphan = true;
	return r;
}

int kv_session_publish_value(struct kvfs_session *s, bool last)
{
	struct publication p = {.s = s, .last = last};
	int r = s->replace && s->bufs.n > s->core->slice ? kv_session_spill(s) : 0;
	if (r == 0)
		r = publish(&p);
	return s->orphan ? 0 : r;
}

int kv_session_publish(struct kvfs_session *s)
{
	if (s->orphan)
		return 0;
	if (!s->dirty)
		return s->times ? publish_times(s) : 0;
	int r = kv_session_give_up_ahead(s);
	if (r)
		return r;
	return s->replace ? kv_session_publish_value(s, false) : kv_session_publish_parts(s);
}

int kvfs_session_publish(struct kvfs_session *s)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	return kv_session_publish(s);
}

ssize_t kvfs_session_append(struct kvfs_session *s, const void *buf, size_t len)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	if (s->orphan) /* nobody else can add to it any more */
		return kv_session_write(s, buf, len, s->size);
	if (s->dirty && !(s->is_new && s->size == 0))
		return kv_fail(EBUSY);
	if (len == 0 && !s->is_new)
		return 0;
	struct publication p = {.s = s, .append = true, .bytes = buf, .len = len};
	r = publish(&p);
	if (s->orphan)
		return kv_session_write(s, buf, len, s->size);
	return r ? r : (ssize_t)len;
}

void kvfs_session_unreserve(struct kvfs_session *s)
{
	if (kv_core_check(s->core))
		return;
	KV_GUARD(&s->lock);
	s->excl = false;
	kv_session_give_back_name(s);
}

void kvfs_session_orphan(struct kvfs_session *s)
{
	if (kv_core_check(s->core))
		return;
	KV_GUARD(&s->lock);
	s->orphan = true;
	kv_session_give_back_name(s);
}
