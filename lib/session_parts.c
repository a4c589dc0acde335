/* Publishing a session of parts that is too large for one transaction: its chunks are written ahead, a slice at a time, into the value's own
 * blob under a reserved generation, and publication makes that generation the value's.  What it costs is what was changed.
 *
 *     reserved --pass--> ready --publish--> published
 *        ^                |  |
 *        +---- -EAGAIN ---+  +-- -ECANCELED --> given up, and anew
 *
 * Invariants:
 *  A1  A generation that is written ahead is among the inode's skips, and in the record of the session whose blob has every index that was
 *      written: so whoever outlives the session finds both.
 *  A2  Outside of a publication nothing is written ahead, unless giving it up failed: then that comes first, before what the session's blob
 *      has may shrink.
 *  A3  Rounds are bounded.  The last one looks for what others took away under the lock; where it is of no use, all is one transaction. */
#include <errno.h>

#include "err.h"
#include "garbage.h"
#include "session.h"

#define COPY_BYTES (1 << 20)
#define MERGES_MAX 10
#define ROUNDS_MAX 8
#define LOOKS_PER_CHUNK 8 /* a look costs that much less than a chunk written */

bool kv_session_is_large(const struct kvfs_session *s)
{
	uint64_t chunks = s->stored / s->core->layout.chunk_size;
	for (size_t i = 0; i < s->bufs.n; i++)
		chunks += !s->bufs.list[i].stored;
	return !s->replace && chunks > s->core->slice;
}

/* ---- writing ahead ---- */

/* Notes in the session's record what it writes ahead (A1). */
static int note(struct kvfs_session *s, struct kv_edit *ed)
{
	struct kv_rec_session rec;
	uint64_t blob;
	int r = kv_hidden_seek(&ed->txn, s->blob, &blob, &rec);
	if (r == 0 && blob != s->blob)
		r = -ENOENT;
	if (r)
		return r == -ENOENT ? kv_fail(EIO) : r; /* someone took it for a dead door's */
	rec.ahead_blob = s->ahead.blob;
	rec.ahead_gen = s->ahead.gen;
	return kv_hidden_put(&ed->txn, s->blob, &rec);
}

static int reserve(struct kvfs_session *s, struct kv_edit *ed, struct kv_inode *inode)
{
	int r = kv_value_reserve(ed, inode, &s->ahead);
	return r ? r : note(s, ed);
}

/* Writes some more of a pass.  -EAGAIN: to be called again. -ENOENT: the key is gone. */
static int write_slice(struct kvfs_session *s)
{
	struct kv_edit ed;
	struct kv_inode inode;
	struct kv_ahead before = s->ahead;
	int r = kv_commit_begin(s->core, &ed);
	if (r)
		return r;
	r = kv_inode_load(&ed.txn, s->ino, &inode);
	if (r == 0)
		r = s->ahead.gen ? kv_value_ahead_state(&inode, &s->ahead) : reserve(s, &ed, &inode);
	bool more = false;
	if (r == 0 || r == -EAGAIN) {
		struct kv_session_patch patch;
		kv_session_patch(s, &ed, &patch);
		r = kv_value_write_ahead(&ed, &inode, &patch.patch, &s->ahead, s->core->slice, s->core->slice * LOOKS_PER_CHUNK);
		more = r == 0;
		if (r == -ENOENT)
			r = 0;
		if (r == 0)
			r = kv_inode_put(&ed.txn, &inode);
	}
	bool idle = before.next > 0 && ed.chunks == 0; /* only looked */
	if (r || idle)
		kv_commit_abort(&ed);
	else
		r = kv_commit_end(s->core, &ed, KV_SYNC_ORDER);
	if (r)
		s->ahead = before;
	return r ? r : more ? -EAGAIN : 0;
}

int kv_session_write_ahead(struct kvfs_session *s)
{
	int r;
	s->ahead.next = 0;
	do
		r = write_slice(s);
	while (r == -EAGAIN);
	return r;
}

/* Deletes some of what was written ahead; from `*index` on.  -EAGAIN: to be called again. */
static int give_up_slice(struct kvfs_session *s, uint64_t *index)
{
	struct kv_edit ed;
	struct kv_inode inode;
	struct kv_ahead ahead = s->ahead;
	uint32_t at;
	int r = kv_commit_begin(s->core, &ed);
	if (r)
		return r;
	for (unsigned n = 0; r == 0 && n < s->core->slice * LOOKS_PER_CHUNK; n++) {
		r = *index <= UINT32_MAX ? kv_session_next(s, &ed.txn, (uint32_t)*index, &at) : -ENOENT;
		if (r)
			break;
		*index = (uint64_t)at + 1;
		r = kv_chunk_del(&ed.txn, ahead.blob, at, ahead.gen);
		if (r == -ENOENT)
			r = 0;
	}
	bool more = r == 0;
	if (r == -ENOENT) {
		r = kv_inode_load(&ed.txn, s->ino, &inode);
		if (r == 0 && inode.rec.blob == ahead.blob && kv_value_unreserve(&inode, ahead.gen))
			r = kv_inode_put(&ed.txn, &inode);
		s->ahead = (struct kv_ahead){0};
		if (r == 0 || r == -ENOENT)
			r = note(s, &ed);
	}
	if (r)
		kv_commit_abort(&ed);
	else
		r = kv_commit_end(s->core, &ed, KV_SYNC_ORDER);
	if (r)
		s->ahead = ahead;
	return r ? r : more ? -EAGAIN : 0;
}

int kv_session_give_up_ahead(struct kvfs_session *s)
{
	uint64_t index = 0;
	int r = 0;
	if (s->ahead.gen)
		do
			r = give_up_slice(s, &index);
		while (r == -EAGAIN);
	return r;
}

/* -ECANCELED: others were quicker, each time.  -EOVERFLOW: no generation could be reserved. */
static int publish_ahead(struct kvfs_session *s)
{
	int r = kv_session_spill(s);
	for (int round = 1; r == 0 && round <= ROUNDS_MAX; round++) {
		r = kv_session_write_ahead(s);
		if (r == 0)
			r = kv_session_publish_value(s, round == ROUNDS_MAX);
		if (r == -ENOENT) {
			s->orphan = true;
			return 0;
		}
		if (r != -EAGAIN && r != -ECANCELED)
			break;
		r = r == -ECANCELED ? kv_session_give_up_ahead(s) : 0;
		if (r == 0 && round == ROUNDS_MAX)
			r = -ECANCELED;
	}
	int up = r ? kv_session_give_up_ahead(s) : 0;
	return up && (r == -ECANCELED || r == -EOVERFLOW) ? up : r;
}

/* ---- merging: as a whole new value, where the blob's bookkeeping is full ---- */

/* Exchanges what was written, and all that says how it is to be read. */
static void swap_contents(struct kvfs_session *a, struct kvfs_session *b)
{
	struct kvfs_session t = *a;
#define TAKE(to, from)                                                                                                             \
	do {                                                                                                                       \
		(to)->dirty = (from)->dirty;                                                                                       \
		(to)->replace = (from)->replace;                                                                                   \
		(to)->base = (from)->base;                                                                                         \
		(to)->size = (from)->size;                                                                                         \
		(to)->cut = (from)->cut;                                                                                           \
		(to)->end = (from)->end;                                                                                           \
		(to)->sized = (from)->sized;                                                                                       \
		(to)->bufs = (from)->bufs;                                                                                         \
		(to)->blob = (from)->blob;                                                                                         \
		(to)->stored = (from)->stored;                                                                                     \
	} while (0)
	TAKE(a, b);
	TAKE(b, &t);
#undef TAKE
}

/* Writes what `s` sees to `whole`, holes left out. */
static int copy_all(struct kvfs_session *s, struct kvfs_session *whole)
{
	KV_FREE uint8_t *buf = malloc(COPY_BYTES);
	if (!buf)
		return kv_fail(ENOMEM);
	for (uint64_t at = 0; at < s->size;) {
		int64_t data = kv_session_seek(s, at, false);
		if (data < 0)
			return data == -ENXIO ? 0 : (int)data;
		ssize_t n = kv_session_read(s, buf, COPY_BYTES, (uint64_t)data);
		if (n > 0)
			n = kv_session_write(whole, buf, (size_t)n, (uint64_t)data);
		if (n < 0)
			return (int)n;
		at = (uint64_t)data + (uint64_t)n;
	}
	return 0;
}

/* Makes `whole` the newest value, nothing if there is none, with the parts of `s` in it. */
static int merge(struct kvfs_session *s, struct kvfs_session *whole)
{
	struct kvfs_value *newest = NULL, *base = s->base;
	struct kvfs_stat st = {0};
	uint64_t size = s->size;
	int r = s->is_new ? 0 : kv_held_open(s->core, NULL, s->ino, &newest, &st);
	if (r)
		return r;
	s->base = newest;
	s->size = kv_session_size_on(s, st.size);
	whole->ino = s->ino;
	whole->replace = whole->dirty = true;
	r = copy_all(s, whole);
	whole->size = s->size;
	s->base = base;
	s->size = size;
	kvfs_value_close(newest);
	s->cond = s->is_new ? KVFS_IF_ABSENT : KVFS_IF_VERSION;
	s->cond_version = st.version;
	return r;
}

/* -ECANCELED when the value has changed meanwhile. */
static int publish_merged(struct kvfs_session *s)
{
	struct kvfs_session *whole = kv_session_new(s->core);
	if (!whole)
		return kv_fail(ENOMEM);
	pthread_mutex_lock(&whole->lock);
	uint64_t kept = s->kept;
	int r = merge(s, whole);
	if (r == 0) {
		swap_contents(s, whole);
		r = kv_session_publish_value(s, false);
		if (r) /* as it was */
			swap_contents(s, whole);
	} else if (r == -ENOENT) {
		s->orphan = true;
		r = 0;
	}
	s->cond = 0;
	if (kept && whole->blob == kept) /* not the session's to retire */
		whole->blob = 0;
	pthread_mutex_unlock(&whole->lock);
	kvfs_session_close(whole);
	return r;
}

/* A recovered one has nowhere to write ahead if its key is new, and nowhere to note it: nobody writes to a kept session's record (S7).  So what
 * is much, and of its value, is merged. */
static bool must_merge(const struct kvfs_session *s)
{
	return s->kept && (s->is_new || (s->stored > KVFS_TXN_BYTES_MAX && s->stored > s->size / 16));
}

int kv_session_publish_parts(struct kvfs_session *s)
{
	bool large = kv_session_is_large(s);
	int r = must_merge(s) ? -EOVERFLOW : large && !s->kept ? publish_ahead(s) : kv_session_publish_value(s, false);
	if (r == -EOVERFLOW) {
		r = -ECANCELED;
		for (int i = 0; i < MERGES_MAX && r == -ECANCELED; i++)
			r = publish_merged(s);
		if (r == -ECANCELED && !large)
			return kv_fail(EAGAIN);
	}
	return r == -ECANCELED ? kv_session_publish_value(s, false) : r;
}
