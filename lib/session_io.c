/* The bytes of a write session: buffers in memory, hidden chunks in the store when memory is short, the base beneath.
 *
 * Invariants:
 *  S1  Nothing here is visible to anybody else: hidden chunks lie in a blob that no inode names, registered in the session table so that
 *      another door frees them if this one dies.
 *  S2  A chunk's written bytes are in its buffer if there is one, else in its hidden record.
 *  S3  core->buffered is the memory of all buffers; beyond the limit a writer spills its own, then others'. */
#include <errno.h>
#include <fcntl.h>

#include "err.h"
#include "garbage.h"
#include "session.h"

#define RUNS_MAX 200 /* of written bytes in a chunk: more are kept as a bitmap.  As many fit in a leaf of the tree */
#define DROP_SLICE 1024 /* hidden chunks deleted in one transaction */

static uint32_t chunk_size(const struct kvfs_session *s)
{
	return s->core->layout.chunk_size;
}

void kv_session_drop_buffers(struct kvfs_session *s, uint32_t index)
{
	size_t before = s->bufs.n;
	kv_buffers_drop(&s->bufs, index);
	atomic_fetch_sub(&s->core->buffered, (before - s->bufs.n) * kv_buffers_cost(&s->bufs, !s->replace));
}

/* ---- hidden chunks ---- */

/* The mask of hidden chunk `index` into s->mask. */
static int get_mask(struct kvfs_session *s, struct kv_txn *txn, uint32_t index)
{
	size_t size = kv_mask_size(chunk_size(s));
	enum kv_chunk_kind kind;
	struct kv_bytes b;
	if (!s->mask)
		s->mask = malloc(size);
	if (!s->mask)
		return kv_fail(ENOMEM);
	int r = kv_chunk_get_mask(txn, s->blob, index, &kind, &b);
	if (r)
		return r;
	if (kind != KV_CHUNK_RUNS) {
		memcpy(s->mask, b.data, kv_min(b.len, size));
		return b.len == size ? 0 : kv_fail(EUCLEAN);
	}
	memset(s->mask, 0, size);
	for (size_t at = 0; at + sizeof(struct kv_mask_run) <= b.len; at += sizeof(struct kv_mask_run)) {
		struct kv_mask_run run;
		memcpy(&run, (const uint8_t *)b.data + at, sizeof run);
		if (run.at > chunk_size(s) || run.n > chunk_size(s) - run.at)
			return kv_fail(EUCLEAN);
		kv_mask_set(s->mask, run.at, run.n);
	}
	return 0;
}

static int put_mask(struct kvfs_session *s, struct kv_edit *ed, const struct kv_buffer *buf)
{
	struct kv_mask_run runs[RUNS_MAX];
	size_t n = kv_mask_runs(buf->mask, chunk_size(s), runs, RUNS_MAX);
	if (n > RUNS_MAX)
		return kv_chunk_put_mask(&ed->txn, s->blob, buf->index, KV_CHUNK_MASK, buf->mask, kv_mask_size(chunk_size(s)));
	return kv_chunk_put_mask(&ed->txn, s->blob, buf->index, KV_CHUNK_RUNS, runs, n * sizeof *runs);
}

int kv_session_hidden(struct kvfs_session *s, struct kv_txn *txn, uint32_t index, struct kv_bytes *ret, const uint8_t **ret_mask)
{
	struct kv_chunk_view view = {.blob = s->blob};
	struct kv_cursor c;
	if (!s->blob)
		return -ENOENT;
	int r = kv_cursor_open(txn, KV_CHUNK, &c);
	if (r)
		return r;
	r = kv_chunk_get(&c, &view, index, ret, NULL);
	kv_cursor_close(&c);
	if (r || s->replace) {
		*ret_mask = NULL;
		return r;
	}
	r = get_mask(s, txn, index);
	*ret_mask = s->mask;
	return r;
}

int kv_session_spill_one(struct kvfs_session *s, struct kv_edit *ed, struct kv_buffer *buf)
{
	uint64_t start = (uint64_t)buf->index * chunk_size(s);
	size_t len = s->size > start ? kv_min(chunk_size(s), s->size - start) : 0;
	int r = kv_chunk_put(&ed->txn, s->blob, buf->index, 0, kv_buffer_upto(buf, len), len);
	if (r == 0 && buf->mask)
		r = put_mask(s, ed, buf);
	ed->chunks++;
	return r;
}

/* Spills a slice of buffers from position `at` on, in one transaction. */
static int spill_slice(struct kvfs_session *s, size_t at)
{
	struct kv_edit ed;
	uint64_t blob = s->blob;
	int r = kv_commit_begin(s->core, &ed);
	if (r)
		return r;
	if (!s->blob) {
		s->blob = kv_value_new_blob(&ed);
		struct kv_rec_session rec = {.door = kv_doors_id(s->core->doors), .ino = s->ino, .since_ns = kv_ns(ed.now)};
		r = kv_hidden_put(&ed.txn, s->blob, &rec);
	}
	size_t end = kv_min(s->bufs.n, at + s->core->slice);
	for (size_t i = at; r == 0 && i < end; i++)
		r = kv_session_spill_one(s, &ed, &s->bufs.list[i]);
	if (r)
		kv_commit_abort(&ed);
	else
		r = kv_commit_end(s->core, &ed, KV_SYNC_ORDER);
	if (r)
		s->blob = blob;
	return r;
}

int kv_session_spill(struct kvfs_session *s)
{
	for (size_t at = 0; at < s->bufs.n; at += s->core->slice) {
		int r = spill_slice(s, at);
		if (r)
			return r;
		for (size_t i = at; i < s->bufs.n && i < at + s->core->slice; i++) {
			s->stored += s->bufs.list[i].stored ? 0 : chunk_size(s);
			s->bufs.list[i].stored = true;
		}
	}
	kv_session_drop_buffers(s, 0);
	return 0;
}

/* Deletes hidden chunks at or past `index`, in slices. */
static int drop_hidden(struct kvfs_session *s, uint32_t index)
{
	int r = kv_session_give_up_ahead(s);
	while (r == 0 && s->blob) {
		struct kv_edit ed;
		uint64_t budget = DROP_SLICE, bytes = 0;
		r = kv_commit_begin(s->core, &ed);
		if (r)
			return r;
		r = kv_chunk_reap(&ed.txn, s->blob, index, KV_CHUNK_END, UINT64_MAX, &budget, &bytes, &index);
		bool more = r == 0;
		if (r && r != -ENOENT) {
			kv_commit_abort(&ed);
			return r;
		}
		r = kv_commit_end(s->core, &ed, KV_SYNC_ORDER);
		if (r)
			return r;
		/* exact where it tells a dense value: a session that replaces has no masks beside its chunks */
		s->stored -= kv_min(s->stored, s->replace ? (DROP_SLICE - budget) * chunk_size(s) : bytes);
		if (!more)
			break;
	}
	return r;
}

static int retire_hidden(struct kvfs_session *s)
{
	struct kv_edit ed;
	if (!s->blob)
		return 0;
	int r = kv_commit_begin(s->core, &ed);
	if (r)
		return r;
	r = kv_hidden_del(&ed.txn, s->blob);
	if (r == 0)
		r = kv_value_retire_hidden(&ed, s->blob, s->stored, &s->ahead, s->ino);
	if (r) {
		kv_commit_abort(&ed);
		return r;
	}
	r = kv_commit_end(s->core, &ed, KV_SYNC_ORDER);
	if (r == 0) {
		s->blob = s->stored = 0;
		s->ahead = (struct kv_ahead){0};
	}
	return r;
}

int kv_session_reset(struct kvfs_session *s)
{
	int r = retire_hidden(s); /* first: should it fail, the session has all it had */
	if (r == 0)
		kv_session_drop_buffers(s, 0);
	return r;
}

/* ---- memory ---- */

/* Spills some other session that nobody is using right now. */
static bool spill_another(struct kvfs_session *self)
{
	struct kv_core *core = self->core;
	struct kvfs_session *victim;
	pthread_mutex_lock(&core->sessions_lock);
	for (victim = core->sessions; victim; victim = victim->next) {
		if (victim == self || pthread_mutex_trylock(&victim->lock))
			continue;
		if (victim->bufs.n)
			break;
		pthread_mutex_unlock(&victim->lock);
	}
	pthread_mutex_unlock(&core->sessions_lock);
	if (!victim)
		return false;
	/* it cannot go away: its close waits for its lock */
	bool done = kv_session_spill(victim) == 0;
	free(victim->mask); /* of thousands that wait, these would be as much as what is written */
	victim->mask = NULL;
	pthread_mutex_unlock(&victim->lock);
	return done;
}

/* Makes room for one more buffer.  When every other session is busy in a call of its own, one buffer more than the limit is
 * the lesser evil: a writer must be able to go on. */
static int reserve(struct kvfs_session *s)
{
	size_t cost = kv_buffers_cost(&s->bufs, !s->replace);
	bool over = atomic_load(&s->core->buffered) + cost > s->core->buffer_limit;
	if (s->bufs.n && (over || s->bufs.n >= KV_SESSION_BUFFERS)) {
		int r = kv_session_spill(s);
		if (r)
			return r;
	}
	while (atomic_load(&s->core->buffered) + cost > s->core->buffer_limit && spill_another(s))
		;
	atomic_fetch_add(&s->core->buffered, cost);
	return 0;
}

static int load_hidden(struct kvfs_session *s, struct kv_buffer *buf)
{
	struct kv_txn txn;
	struct kv_bytes data;
	const uint8_t *mask;
	if (!s->blob)
		return 0;
	int r = kv_db_read(s->core->db, &txn);
	if (r)
		return r;
	r = kv_session_hidden(s, &txn, buf->index, &data, &mask);
	if (r == 0) {
		buf->used = kv_min(data.len, chunk_size(s));
		memcpy(buf->data, data.data, buf->used);
		if (buf->mask)
			memcpy(buf->mask, mask, kv_mask_size(chunk_size(s)));
		buf->stored = true;
	}
	kv_db_read_end(&txn);
	return r == -ENOENT ? 0 : r;
}

static int get_buffer(struct kvfs_session *s, uint32_t index, struct kv_buffer **ret)
{
	struct kv_buffer *buf = kv_buffers_find(&s->bufs, index);
	if (!buf) {
		int r = reserve(s);
		if (r)
			return r;
		buf = kv_buffers_add(&s->bufs, index, !s->replace);
		if (!buf) {
			atomic_fetch_sub(&s->core->buffered, kv_buffers_cost(&s->bufs, !s->replace));
			return kv_fail(ENOMEM);
		}
		r = load_hidden(s, buf);
		if (r) {
			kv_buffers_remove(&s->bufs, buf);
			atomic_fetch_sub(&s->core->buffered, kv_buffers_cost(&s->bufs, !s->replace));
			return r;
		}
	}
	*ret = buf;
	return 0;
}

/* ---- writing ---- */

/* Writes within one chunk; src NULL: zeros. */
static int write_part(struct kvfs_session *s, uint32_t index, size_t at, const uint8_t *src, size_t n)
{
	struct kv_buffer *buf;
	int r = get_buffer(s, index, &buf);
	if (r)
		return r;
	if (src) {
		memcpy(kv_buffer_upto(buf, at) + at, src, n);
		buf->used = kv_max(buf->used, at + n);
	} else {
		memset(kv_buffer_upto(buf, at + n) + at, 0, n);
	}
	if (buf->mask)
		kv_mask_set(buf->mask, at, n);
	uint64_t end = (uint64_t)index * chunk_size(s) + at + n;
	s->end = kv_max(s->end, end);
	s->size = kv_max(s->size, end);
	s->dirty = true;
	return 0;
}

ssize_t kv_session_write(struct kvfs_session *s, const void *buf, size_t len, uint64_t offset)
{
	if (offset > KV_VALUE_MAX || len > KV_VALUE_MAX - offset)
		return kv_fail(EFBIG);
	for (size_t done = 0; done < len;) {
		size_t at = (offset + done) % chunk_size(s), n = kv_min(len - done, chunk_size(s) - at);
		int r = write_part(s, (uint32_t)((offset + done) / chunk_size(s)), at, (const uint8_t *)buf + done, n);
		if (r)
			return r;
		done += n;
	}
	return (ssize_t)len;
}

/* Drops what was written from `size` on, so that it reads as zeros should the value grow again. */
static int forget_from(struct kvfs_session *s, uint64_t size)
{
	uint32_t index = (uint32_t)(size / chunk_size(s));
	size_t at = size % chunk_size(s);
	struct kv_buffer *buf = NULL;
	int r = at ? get_buffer(s, index, &buf) : 0; /* the chunk the cut goes through stays in part */
	if (r == 0)
		r = drop_hidden(s, index + (at > 0));
	if (r)
		return r;
	if (buf) {
		kv_buffer_cut(buf, at);
		if (buf->mask)
			kv_mask_clear(buf->mask, at, chunk_size(s) - at);
	}
	kv_session_drop_buffers(s, index + (at > 0));
	return 0;
}

int kv_session_truncate(struct kvfs_session *s, uint64_t size)
{
	if (size > KV_VALUE_MAX)
		return kv_fail(EFBIG);
	if (size < s->size) {
		if (size == 0) { /* nothing of the base is left: from now on the whole value is the session's */
			int r = kv_session_reset(s);
			if (r)
				return r;
			kvfs_value_close(s->base);
			s->base = NULL;
			s->replace = true;
		} else {
			int r = forget_from(s, size);
			if (r)
				return r;
		}
		s->end = kv_min(s->end, size);
	}
	s->cut = kv_min(s->cut, size); /* also when it lengthens: the value may have grown past it by publication */
	s->size = size;
	s->sized = true;
	s->dirty = true;
	return 0;
}

/* Makes [from, to) read as zeros, chunk by chunk, without storing zeros where there is a hole already. */
static int zero_range(struct kvfs_session *s, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint32_t index = (uint32_t)(from / chunk_size(s));
		size_t at = from % chunk_size(s), n = kv_min(to - from, chunk_size(s) - at);
		int64_t data = kv_session_seek(s, from, false);
		if (data < 0 && data != -ENXIO)
			return (int)data;
		if (data == -ENXIO || (uint64_t)data >= to)
			return 0;
		if ((uint64_t)data >= from + n) {
			from = (uint64_t)data - (uint64_t)data % chunk_size(s);
			continue;
		}
		int r = write_part(s, index, at, NULL, n);
		if (r)
			return r;
		from += n;
	}
	return 0;
}

int kvfs_session_fallocate(struct kvfs_session *s, int mode, uint64_t offset, uint64_t len)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	bool punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	bool zero = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
	if (!punch && !zero && mode != 0 && mode != FALLOC_FL_KEEP_SIZE)
		return kv_fail(EOPNOTSUPP);
	if (len == 0 || offset > KV_VALUE_MAX || len > KV_VALUE_MAX - offset)
		return kv_fail(len ? EFBIG : EINVAL);
	KV_GUARD(&s->lock);
	if (punch || zero) {
		r = zero_range(s, offset, kv_min(offset + len, s->size));
		if (r)
			return r;
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + len > s->size) { /* as if its last byte had been written */
		s->size = s->end = offset + len;
		s->dirty = true;
	}
	return 0;
}

/* ---- reading ---- */

/* Puts what was written of chunk `index` over `out`, which stands for bytes [at, at + n) of it. */
static int overlay(struct kvfs_session *s, struct kv_txn *txn, uint32_t index, uint8_t *out, size_t at, size_t n)
{
	struct kv_buffer *buf = kv_buffers_find(&s->bufs, index);
	if (buf) {
		kv_mask_overlay(out, kv_buffer_upto(buf, at + n) + at, buf->mask, at, n);
		return 0;
	}
	struct kv_bytes data;
	const uint8_t *mask;
	int r = kv_session_hidden(s, txn, index, &data, &mask);
	if (r)
		return r == -ENOENT ? 0 : r;
	size_t have = at < data.len ? kv_min(n, data.len - at) : 0;
	kv_mask_overlay(out, (const uint8_t *)data.data + at, mask, at, have);
	return 0;
}

ssize_t kv_session_read(struct kvfs_session *s, void *buf, size_t len, uint64_t offset)
{
	if (offset >= s->size)
		return 0;
	len = kv_min(len, s->size - offset);
	memset(buf, 0, len);
	if (s->base && offset < s->cut) {
		ssize_t got = kvfs_value_read(s->base, buf, kv_min(len, s->cut - offset), offset);
		if (got < 0)
			return got;
	}
	struct kv_txn txn;
	int r = kv_db_read(s->core->db, &txn);
	for (size_t done = 0; r == 0 && done < len;) {
		size_t at = (offset + done) % chunk_size(s), n = kv_min(len - done, chunk_size(s) - at);
		r = overlay(s, &txn, (uint32_t)((offset + done) / chunk_size(s)), (uint8_t *)buf + done, at, n);
		done += n;
	}
	kv_db_read_end(&txn);
	return r ? r : (ssize_t)len;
}

int kv_session_next(struct kvfs_session *s, struct kv_txn *txn, uint32_t index, uint32_t *ret)
{
	const struct kv_buffer *buf = kv_buffers_from(&s->bufs, index);
	uint32_t hidden;
	int r = -ENOENT;
	if (s->blob) {
		struct kv_cursor c;
		r = kv_cursor_open(txn, KV_CHUNK, &c);
		if (r)
			return r;
		c.raw = true;
		r = kv_chunk_next_index(&c, s->blob, index, &hidden);
		kv_cursor_close(&c);
		if (r && r != -ENOENT)
			return r;
	}
	if (r && !buf)
		return -ENOENT;
	*ret = r ? buf->index : buf ? (uint32_t)kv_min(buf->index, hidden) : hidden;
	return 0;
}

static int patch_next(void *arg, uint32_t index, uint32_t *ret)
{
	struct kv_session_patch *p = arg;
	return kv_session_next(p->s, &p->ed->txn, index, ret);
}

static int patch_apply(void *arg, struct kv_txn *txn, uint32_t index, uint8_t *chunk)
{
	struct kv_session_patch *p = arg;
	return overlay(p->s, txn, index, chunk, 0, chunk_size(p->s));
}

void kv_session_patch(struct kvfs_session *s, struct kv_edit *ed, struct kv_session_patch *ret)
{
	*ret = (struct kv_session_patch){.s = s, .ed = ed};
	ret->patch = (struct kv_patch){.cut = s->cut,
		.end = s->end,
		.size = s->size,
		.sized = s->sized,
		.next = patch_next,
		.apply = patch_apply,
		.arg = ret};
}

/* Where the base has data at or after `offset`: INT64_MAX nowhere that counts. */
static int64_t seek_base(struct kvfs_session *s, uint64_t offset)
{
	int64_t data = s->base && offset < s->cut ? kvfs_value_seek(s->base, offset, false) : -ENXIO;
	return data == -ENXIO || (data >= 0 && (uint64_t)data >= s->cut) ? INT64_MAX : data;
}

/* Is any byte of chunk `index` written, or in the base?  (A chunk is data or hole as a whole.) */
static int chunk_is_data(struct kvfs_session *s, struct kv_txn *txn, uint64_t index)
{
	uint32_t at;
	int r = kv_session_next(s, txn, (uint32_t)index, &at);
	if (r == 0 && at == index)
		return 1;
	if (r && r != -ENOENT)
		return r;
	int64_t data = seek_base(s, index * chunk_size(s));
	return data < 0 ? (int)data : (uint64_t)data < (index + 1) * chunk_size(s);
}

int64_t kv_session_seek(struct kvfs_session *s, uint64_t offset, bool hole)
{
	if (offset >= s->size)
		return -ENXIO;
	struct kv_txn txn;
	int r = kv_db_read(s->core->db, &txn);
	if (r)
		return r;
	uint64_t index = offset / chunk_size(s), last = (s->size - 1) / chunk_size(s);
	while (index <= last && (r = chunk_is_data(s, &txn, index)) == hole) {
		uint32_t next;
		uint64_t skip = index + 1;
		if (!hole) { /* over the hole at once */
			int64_t base = seek_base(s, index * chunk_size(s));
			r = base < 0 ? (int)base : kv_session_next(s, &txn, (uint32_t)index, &next);
			if (r && r != -ENOENT)
				break;
			skip = kv_min((uint64_t)base / chunk_size(s), r == 0 ? next : last + 1);
			r = 0;
		}
		index = kv_max(skip, index + 1);
	}
	kv_db_read_end(&txn);
	if (r < 0)
		return r;
	if (index > last)
		return hole ? (int64_t)s->size : -ENXIO;
	return (int64_t)kv_max(offset, index * chunk_size(s));
}
