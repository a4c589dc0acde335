/* Streams: a held value to read, or a write session, behind one handle. */
#include <errno.h>
#include <sys/stat.h>

#include "api.h"
#include "err.h"
#include "held.h"
#include "path.h"
#include "session.h"

#define TRIES 1000

struct kvfs_stream {
	struct kvfs_value *value; /* reading only */
	struct kvfs_session *session; /* writing */
	bool readable;
	uint64_t size; /* of value */
};

static int find(struct kvfs_store *store, const char *key, struct kv_place *ret)
{
	struct kv_txn txn;
	int r = kv_api_read(store, key, &txn);
	if (r)
		return r;
	r = kv_namei_resolve(&txn, key, ret);
	if (r == 0)
		r = ret->exists ? kv_held_check_type(ret->ent.type) : -ENOENT;
	kv_db_read_end(&txn);
	return r;
}

static int open_reading(struct kvfs_store *store, const char *key, struct kvfs_stream *st)
{
	struct kvfs_stat stat;
	int r = kv_core_check(store->core);
	if (r == 0)
		r = kv_path_check(key);
	if (r == 0)
		r = kv_held_open(store->core, key, 0, &st->value, &stat);
	st->size = r ? 0 : stat.size;
	return r;
}

static int open_there(struct kvfs_store *store, const struct kv_place *place, bool truncate, struct kvfs_session **ret)
{
	int r = kvfs_session_open(store, place->ent.ino, truncate, ret);
	if (r)
		return r;
	(*ret)->parent = place->parent;
	memcpy((*ret)->name, place->name, place->len); /* of a new session: zeros follow */
	return 0;
}

static int open_writing(struct kvfs_store *store, const char *key, unsigned flags, mode_t mode, struct kvfs_stream *st)
{
	struct kv_place place;
	int r = kv_api_writable(store);
	if (r)
		return r;
	r = -ESTALE;
	for (int i = 0; i < TRIES && r == -ESTALE; i++) { /* the value may go before it is opened, and another have its name */
		r = find(store, key, &place);
		if (r == 0 && flags & KVFS_STREAM_EXCL)
			return -EEXIST;
		if (r == 0)
			r = open_there(store, &place, flags & KVFS_STREAM_TRUNCATE, &st->session);
	}
	if (r != -ENOENT || !(flags & KVFS_STREAM_CREATE))
		return r == -ESTALE ? kv_fail(EAGAIN) : r;
	if (!*(key + strspn(key, "/")))
		return kv_fail(EISDIR);
	r = kv_session_new_key(store->core, key, mode & 07777, &st->session);
	if (r == 0 && flags & KVFS_STREAM_EXCL) {
		r = kv_session_reserve(st->session);
		if (r)
			kvfs_session_close(st->session);
	}
	return r;
}

int kvfs_stream_open(struct kvfs_store *store, const char *key, unsigned flags, mode_t mode, struct kvfs_stream **ret)
{
	if (!(flags & (KVFS_STREAM_READ | KVFS_STREAM_WRITE)) ||
		(flags & ~(unsigned)(KVFS_STREAM_READ | KVFS_STREAM_WRITE) && !(flags & KVFS_STREAM_WRITE)))
		return kv_fail(EINVAL);
	struct kvfs_stream *st = calloc(1, sizeof *st);
	if (!st)
		return kv_fail(ENOMEM);
	st->readable = flags & KVFS_STREAM_READ;
	int r = flags & KVFS_STREAM_WRITE ? open_writing(store, key, flags, mode, st) : open_reading(store, key, st);
	if (r) {
		free(st);
		return r;
	}
	*ret = st;
	return 0;
}

ssize_t kvfs_stream_read(struct kvfs_stream *st, void *buf, size_t len, uint64_t offset)
{
	if (!st->readable)
		return kv_fail(EBADF);
	return st->value ? kvfs_value_read(st->value, buf, len, offset) : kvfs_session_read(st->session, buf, len, offset);
}

ssize_t kvfs_stream_write(struct kvfs_stream *st, const void *buf, size_t len, uint64_t offset)
{
	return st->session ? kvfs_session_write(st->session, buf, len, offset) : kv_fail(EBADF);
}

int kvfs_stream_truncate(struct kvfs_stream *st, uint64_t size)
{
	return st->session ? kvfs_session_truncate(st->session, size) : kv_fail(EBADF);
}

uint64_t kvfs_stream_size(struct kvfs_stream *st)
{
	return st->session ? st->session->size : st->size;
}

int64_t kvfs_stream_seek(struct kvfs_stream *st, uint64_t offset, bool hole)
{
	return st->value ? kvfs_value_seek(st->value, offset, hole) : kvfs_session_seek(st->session, offset, hole);
}

int kvfs_stream_publish(struct kvfs_stream *st)
{
	return st->session ? kvfs_session_publish(st->session) : kv_fail(EBADF);
}

int kvfs_stream_close(struct kvfs_stream *st)
{
	int r = st->session ? kvfs_session_publish(st->session) : 0;
	kvfs_stream_abort(st);
	return r;
}

void kvfs_stream_abort(struct kvfs_stream *st)
{
	if (!st)
		return;
	kvfs_value_close(st->value);
	kvfs_session_close(st->session);
	free(st);
}

/* ---- within a transaction: txn.c hands in the inode it found ---- */

int kv_stream_within(struct kv_core *core, struct kv_txn *txn, const struct kv_inode *inode, struct kvfs_stream **ret)
{
	struct kvfs_stream *st = calloc(1, sizeof *st);
	if (!st)
		return kv_fail(ENOMEM);
	int r = kv_held_new(core, inode, false, &st->value);
	if (r) {
		free(st);
		return r;
	}
	st->value->within = txn;
	st->readable = true;
	st->size = inode->rec.size;
	*ret = st;
	return 0;
}
