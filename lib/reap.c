/* The reaper.  Garbage waits in order of the commit that retired it.  At each commit the oldest is freed, a slice at a time; what
 * a handle somewhere still reads is set aside under its blob's id and comes back when that hold goes.
 *
 * Invariants:
 *  R1  Nothing retired in this very transaction, by this edit or one before it, is touched (value.c, V3).
 *  R2  Work per edit is bounded: twice the chunks it wrote itself, SLICE_MAX more, LOOKS_MAX entries set aside or brought back.
 *      What is in the store was written by some commit, so this is enough for garbage not to pile up.
 *  R3  Garbage that cannot be read is left where it is: it costs space, and must not cost the commit. */
#include "reap.h"

#include <errno.h>
#include <stdio.h>

#include "chunk.h"
#include "err.h"
#include "garbage.h"
#include "inode.h"
#include "value.h"

#define SLICE_MIN 32 /* chunks: about 1 MiB */
#define SLICE_MAX 1024
#define LOOKS_MAX 64

/* Moves an entry to another due. */
static int requeue(struct kv_edit *ed, struct kv_garbage *g, uint64_t due)
{
	void *list = NULL;
	if (g->list.len) { /* borrowed: the moves below would pull it away */
		list = malloc(g->list.len);
		if (!list)
			return kv_fail(ENOMEM);
		memcpy(list, g->list.data, g->list.len);
		g->list.data = list;
	}
	int r = kv_garbage_del(&ed->txn, g->due, g->id);
	/* ids are unique within a due: under a blob's id or this commit's sequence, number them anew */
	if (r == 0 && due & KV_GARBAGE_HELD) {
		g->id = ed->seq << 20 | (ed->retired++ & 0xfffff);
	} else if (r == 0) {
		g->id = ed->retired++;
	}
	g->due = due;
	if (r == 0)
		r = kv_garbage_put(&ed->txn, g);
	free(list);
	return r;
}

/* Brings back what was set aside for `blob`. */
static int bring_back(struct kv_edit *ed, uint64_t blob, unsigned *looks)
{
	struct kv_garbage g;
	while (*looks < LOOKS_MAX) {
		int r = kv_garbage_seek(&ed->txn, KV_GARBAGE_HELD | blob, 0, &g);
		if (r == -ENOENT || (r == 0 && g.due != (KV_GARBAGE_HELD | blob)))
			return 0;
		if (r == 0)
			r = requeue(ed, &g, ed->seq);
		if (r)
			return r;
		++*looks;
	}
	return -EAGAIN;
}

/* What was held and is not any more.  When some were lost track of, everything set aside is walked through, some at each commit; the
 * shared table keeps where that walk is. */
static int bring_back_released(struct kv_core *core, struct kv_edit *ed)
{
	uint64_t blobs[LOOKS_MAX];
	unsigned looks = 0;
	bool all = false;
	int r = 0;
	size_t n = kv_doors_released(core->doors, blobs, KV_ARRAY_LEN(blobs), &all);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = bring_back(ed, blobs[i], &looks);
	if (r == -EAGAIN) { /* more than one commit should do: the walk finds the rest */
		all = true;
		r = 0;
	}
	if (all) {
		kv_doors_set_walk(core->doors, 1);
		core->dead_walk = 1;
	}
	return r;
}

static int walk_held(struct kv_core *core, struct kv_edit *ed)
{
	struct kv_garbage g;
	uint64_t at = kv_doors_walk(core->doors);
	if (!at)
		return 0;
	for (unsigned looks = 0; looks < LOOKS_MAX; looks++) {
		int r = kv_garbage_seek(&ed->txn, KV_GARBAGE_HELD | at, 0, &g);
		if (r == -ENOENT) {
			kv_doors_set_walk(core->doors, 0);
			return 0;
		}
		if (r)
			return r;
		at = g.due & ~KV_GARBAGE_HELD;
		if (kv_doors_held(core->doors, at, UINT64_MAX)) {
			at++;
			continue;
		}
		r = requeue(ed, &g, ed->seq);
		if (r)
			return r;
	}
	kv_doors_set_walk(core->doors, at);
	return 0;
}

static int bury(struct kv_edit *ed, uint64_t blob, const struct kv_rec_session *rec)
{
	struct kv_ahead ahead = {.blob = rec->ahead_blob, .gen = rec->ahead_gen};
	int r = kv_hidden_del(&ed->txn, blob);
	return r ? r : kv_value_retire_hidden(ed, blob, 0, &ahead, rec->ino);
}

/* Hidden blobs of doors that are gone, and of sessions kept too long, become garbage.  A walk in slices: those of live doors may be many. */
static int bury_dead_sessions(struct kv_core *core, struct kv_edit *ed)
{
	struct kv_rec_session rec;
	uint64_t at = core->dead_walk;
	for (unsigned looks = 0; looks < LOOKS_MAX; looks++, at++) {
		int r = kv_hidden_seek(&ed->txn, at, &at, &rec);
		if (r == -ENOENT) {
			core->dead_walk = 0;
			return 0;
		}
		if (r)
			return r;
		if (rec.door ? kv_doors_alive(core->doors, rec.door) : !kv_kept_is_old(rec.since_ns, ed->now))
			continue;
		r = bury(ed, at, &rec);
		if (r)
			return r;
	}
	core->dead_walk = at;
	return 0;
}

/* One hidden blob whose session could not retire it.  It stays noted until a commit finds it gone, for this one may fail. */
static int bury_given_up(struct kv_core *core, struct kv_edit *ed)
{
	if (!core->ngiven_up)
		return 0;
	KV_GUARD(&core->sessions_lock);
	for (; core->ngiven_up; core->ngiven_up--) {
		struct kv_rec_session rec;
		uint64_t blob = core->given_up[core->ngiven_up - 1], at;
		int r = kv_hidden_seek(&ed->txn, blob, &at, &rec);
		if (r == 0)
			r = at == blob ? bury(ed, blob, &rec) : -ENOENT;
		if (r != -ENOENT)
			return r;
	}
	return 0;
}

/* A truncated tail is gone for good: its cut is no longer needed. */
static int forget_cut(struct kv_edit *ed, const struct kv_garbage *g)
{
	struct kv_inode inode;
	int r = kv_inode_load(&ed->txn, g->rec.ino, &inode);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (inode.rec.blob != g->rec.blob)
		return 0;
	int kept = 0;
	for (int i = 0; i < inode.rec.ncuts; i++)
		if (inode.cuts[i].gen != g->rec.below)
			inode.cuts[kept++] = inode.cuts[i];
	if (kept == inode.rec.ncuts)
		return 0;
	inode.rec.ncuts = (uint8_t)kept;
	return kv_inode_put(&ed->txn, &inode);
}

/* What was written ahead is gone: its generation is free to be anyone's again. */
static int forget_skip(struct kv_edit *ed, const struct kv_garbage *g)
{
	struct kv_inode inode;
	int r = kv_inode_load(&ed->txn, g->rec.ino, &inode);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (inode.rec.blob != g->rec.blob || !kv_value_unreserve(&inode, g->rec.index))
		return 0;
	return kv_inode_put(&ed->txn, &inode);
}

/* Frees some of a run of chunks.  *ret_done when it was the last. */
static int free_run(struct kv_edit *ed, struct kv_garbage *g, uint64_t *budget, uint64_t *bytes, bool *ret_done)
{
	uint32_t index = g->rec.index;
	uint64_t below = g->rec.kind == KV_GARBAGE_BLOB ? UINT64_MAX : g->rec.below;
	int r = kv_chunk_reap(&ed->txn, g->rec.blob, index, KV_CHUNK_END, below, budget, bytes, &index);
	*ret_done = r == -ENOENT;
	if (r == -ENOENT)
		return g->rec.kind == KV_GARBAGE_TAIL ? forget_cut(ed, g) : 0;
	g->rec.index = g->rec.kind == KV_GARBAGE_TAIL ? index : 0;
	return r;
}

/* Frees some of a list of chunks, from its end. */
static int free_list(struct kv_edit *ed, struct kv_garbage *g, uint64_t *budget, uint64_t *bytes, bool *ret_done)
{
	size_t n = g->list.len / 8;
	while (n > 0 && *budget > 0) {
		uint32_t pair[2];
		memcpy(pair, (const uint8_t *)g->list.data + 8 * --n, sizeof pair);
		int r = kv_chunk_del(&ed->txn, g->rec.blob, pair[0], pair[1]);
		if (r && r != -ENOENT)
			return r;
		--*budget;
		*bytes += ed->layout.chunk_size;
	}
	g->list.len = 8 * n;
	*ret_done = n == 0;
	return 0;
}

/* Frees what lies under (or is) the chunk of generation `g` at `index`, then the session's records that say so. */
static int free_at(struct kv_edit *ed, struct kv_garbage *g, uint64_t hidden, uint32_t index, uint64_t *budget, uint64_t *bytes)
{
	uint64_t end = (uint64_t)index + 1;
	uint32_t at;
	int r = -ENOENT;
	if (g->rec.kind == KV_GARBAGE_UNDER) {
		r = kv_chunk_reap(&ed->txn, g->rec.blob, index, end, g->rec.below, budget, bytes, &at);
	} else {
		r = kv_chunk_del(&ed->txn, g->rec.blob, index, g->rec.index);
		if (r == 0)
			r = -ENOENT;
		--*budget;
		*bytes += ed->layout.chunk_size;
	}
	if (r == -ENOENT && *budget > 0)
		r = kv_chunk_reap(&ed->txn, hidden, index, end, UINT64_MAX, budget, bytes, &at);
	return r == -ENOENT ? 0 : r;
}

/* Frees some of the chunks that are told by those of a session. */
static int free_told(struct kv_edit *ed, struct kv_garbage *g, uint64_t *budget, uint64_t *bytes, bool *ret_done)
{
	uint64_t hidden;
	uint32_t index = 0;
	struct kv_cursor c;
	if (g->list.len != sizeof hidden)
		return kv_fail(EUCLEAN);
	memcpy(&hidden, g->list.data, sizeof hidden);
	int r = kv_cursor_open(&ed->txn, KV_CHUNK, &c);
	c.raw = true;
	while (r == 0 && *budget > 0) {
		r = kv_chunk_next_index(&c, hidden, index, &index);
		if (r == 0)
			r = free_at(ed, g, hidden, index, budget, bytes);
	}
	kv_cursor_close(&c);
	*ret_done = r == -ENOENT;
	if (r == -ENOENT)
		return g->rec.kind == KV_GARBAGE_AHEAD ? forget_skip(ed, g) : 0;
	return r;
}

static int free_chunks(struct kv_edit *ed, struct kv_garbage *g, uint64_t *budget, uint64_t *bytes, bool *ret_done)
{
	switch (g->rec.kind) {
	case KV_GARBAGE_CHUNKS:
		return free_list(ed, g, budget, bytes, ret_done);
	case KV_GARBAGE_UNDER:
	case KV_GARBAGE_AHEAD:
		return free_told(ed, g, budget, bytes, ret_done);
	default:
		return free_run(ed, g, budget, bytes, ret_done);
	}
}

static int free_some(struct kv_edit *ed, struct kv_garbage *g, uint64_t *budget)
{
	KV_FREE void *list = NULL;
	uint64_t bytes = 0;
	bool done = false;
	if (g->list.len) { /* borrowed: deletions would pull it away */
		list = malloc(g->list.len);
		if (!list)
			return kv_fail(ENOMEM);
		g->list.data = memcpy(list, g->list.data, g->list.len);
	}
	int r = free_chunks(ed, g, budget, &bytes, &done);
	if (r)
		return r;
	if (done)
		bytes = g->rec.bytes;
	if (done && *budget && g->rec.kind != KV_GARBAGE_CHUNKS) /* finding the end was work too */
		--*budget;
	bytes = kv_min(bytes, g->rec.bytes);
	g->rec.bytes -= bytes;
	ed->head.rec.garbage_bytes -= kv_min(bytes, ed->head.rec.garbage_bytes);
	return done ? kv_garbage_del(&ed->txn, g->due, g->id) : kv_garbage_put(&ed->txn, g);
}

/* Makes garbage of what has become some.  What it finds done was done by another transaction. */
static int gather(struct kv_core *core, struct kv_edit *ed)
{
	int r = bring_back_released(core, ed);
	if (r == 0)
		r = walk_held(core, ed);
	if (r == 0 && core->dead_walk)
		r = bury_dead_sessions(core, ed);
	return r ? r : bury_given_up(core, ed);
}

static int reap(struct kv_core *core, struct kv_edit *ed)
{
	uint64_t budget = kv_max(2 * ed->chunks + kv_min(2 * ed->retiring, SLICE_MAX), SLICE_MIN);
	int r = kv_edit_is_first(ed) ? gather(core, ed) : 0;
	for (unsigned aside = 0; r == 0 && budget > 0 && aside < LOOKS_MAX;) {
		struct kv_garbage g;
		r = kv_garbage_seek(&ed->txn, 0, 0, &g);
		if (r == -ENOENT || (r == 0 && g.due >= ed->first))
			return 0;
		if (r == 0 && kv_doors_held(core->doors, g.rec.blob, g.rec.below)) {
			r = requeue(ed, &g, KV_GARBAGE_HELD | g.rec.blob);
			aside++;
		} else if (r == 0) {
			r = free_some(ed, &g, &budget);
		}
	}
	return r;
}

int kv_reap(struct kv_core *core, struct kv_edit *ed)
{
	int r = reap(core, ed);
	return r == -EUCLEAN ? 0 : r;
}
