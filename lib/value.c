/* Values; see value.h.
 *
 * Invariants:
 *  V1  A value of `size` bytes has chunks 0 .. ceil(size / chunk_size) - 1; an absent one is a hole.  If the record has a tail, it stands for the
 *      last chunk, which then has no record that is part of the value.
 *  V2  A published chunk record never changes, except that an append may lengthen the last one: readers clamp by their size.
 *  V3  What a transaction retires is freed by a later one (reap.c), never by itself: a reader that enters its hold and then still
 *      finds the value current cannot lose it.
 *  V4  A dense value has a record of every chunk: LMDB does not check its pages, and a chunk whose key rotted must not look like a hole.
 *  V5  A chunk written ahead is what publication would write: whoever publishes other bytes in its place takes it away first and marks the
 *      skip; whoever publishes what may touch many (a truncation, chunks of his own that lay ready) gives all others up. */
#include "value.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "err.h"
#include "garbage.h"

void kv_version_of(const struct kv_inode *inode, struct kv_version *ret)
{
	ret->view.blob = inode->rec.blob;
	ret->view.gen = inode->rec.gen;
	ret->view.ncuts = inode->rec.ncuts;
	ret->view.nskips = inode->rec.nskips;
	memcpy(ret->view.cuts, inode->cuts, sizeof inode->cuts);
	memcpy(ret->view.skips, inode->skips, sizeof inode->skips);
	ret->size = inode->rec.size;
	ret->dense = inode->rec.flags & KV_INODE_DENSE || inode->rec.size == 0;
	ret->tail_len = inode->rec.tail_len;
	ret->tail = inode->tail;
}

/* ---- reading ---- */

/* A chunk was not found: a hole, or lost. */
static int absent(struct kv_db *db, const struct kv_version *ver, uint32_t index)
{
	char what[80];
	if (!ver->dense)
		return -ENOENT;
	snprintf(what, sizeof what, "chunk %" PRIu32 " of blob %" PRIu64 ": missing", index, ver->view.blob);
	kv_db_set_damage(db, what);
	return kv_fail(EUCLEAN);
}

/* The stored bytes of chunk `index` (shorter than the chunk: zeros follow); -ENOENT a hole. */
static int chunk_bytes(struct kv_cursor *c, const struct kv_layout *lay, const struct kv_version *ver, uint32_t index,
	struct kv_bytes *ret, uint32_t *ret_gen)
{
	if (ver->tail_len && index == ver->size / lay->chunk_size) {
		*ret = (struct kv_bytes){ver->tail, ver->tail_len};
		return 0;
	}
	if (!ver->view.blob)
		return absent(c->txn->db, ver, index);
	int r = kv_chunk_get(c, &ver->view, index, ret, ret_gen);
	if (r == -ENOENT && !ver->dense)
		r = kv_chunk_check_hole(c, &ver->view, index);
	return r == -ENOENT ? absent(c->txn->db, ver, index) : r;
}

/* Is chunk `index` stored (0), or a hole (-ENOENT)?  For a raw cursor: seeking must not read what it passes. */
static int find_chunk(struct kv_cursor *c, const struct kv_layout *lay, const struct kv_version *ver, uint32_t index)
{
	if (ver->tail_len && index == ver->size / lay->chunk_size)
		return 0;
	return ver->view.blob ? kv_chunk_get(c, &ver->view, index, NULL, NULL) : -ENOENT;
}

/* Copies bytes [at, at + n) of a chunk whose stored bytes are `src`. */
static void copy_part(void *dst, struct kv_bytes src, size_t at, size_t n)
{
	size_t have = at < src.len ? kv_min(n, src.len - at) : 0;
	if (have)
		memcpy(dst, (const uint8_t *)src.data + at, have);
	memset((uint8_t *)dst + have, 0, n - have);
}

static ssize_t read_chunks(
	struct kv_txn *txn, const struct kv_layout *lay, const struct kv_version *ver, uint8_t *buf, size_t len, uint64_t offset)
{
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_CHUNK, &c);
	size_t done = 0;
	while (r == 0 && done < len) {
		uint32_t index = (uint32_t)((offset + done) / lay->chunk_size);
		size_t at = (offset + done) % lay->chunk_size, n = kv_min(len - done, lay->chunk_size - at);
		struct kv_bytes b = {0};
		r = chunk_bytes(&c, lay, ver, index, &b, NULL);
		if (r == -ENOENT)
			r = 0;
		if (r == 0)
			copy_part(buf + done, b, at, n);
		done += n;
	}
	kv_cursor_close(&c);
	return r ? r : (ssize_t)len;
}

ssize_t kv_value_read(
	struct kv_txn *txn, const struct kv_layout *lay, const struct kv_version *ver, void *buf, size_t len, uint64_t offset)
{
	if (offset >= ver->size)
		return 0;
	len = kv_min(kv_min(len, ver->size - offset), SSIZE_MAX);
	if (ver->view.blob)
		return read_chunks(txn, lay, ver, buf, len, offset);
	/* all tail (or a hole): no chunk table needed */
	if (ver->size / lay->chunk_size == 0) {
		copy_part(buf, (struct kv_bytes){ver->tail, ver->tail_len}, offset, len);
		return (ssize_t)len;
	}
	return read_chunks(txn, lay, ver, buf, len, offset);
}

int64_t kv_value_seek(struct kv_txn *txn, const struct kv_layout *lay, const struct kv_version *ver, uint64_t offset, bool hole)
{
	if (offset >= ver->size)
		return -ENXIO;
	if (ver->dense)
		return (int64_t)(hole ? ver->size : offset);
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_CHUNK, &c);
	if (r)
		return r;
	c.raw = true;
	uint64_t last = (ver->size - 1) / lay->chunk_size, index = offset / lay->chunk_size;
	for (; index <= last; index++) {
		r = find_chunk(&c, lay, ver, (uint32_t)index);
		if (r && r != -ENOENT)
			break;
		if ((r == -ENOENT) == hole)
			break;
		uint32_t next;
		if (!hole && ver->view.blob && kv_chunk_next_index(&c, ver->view.blob, (uint32_t)index + 1, &next) == 0)
			index = kv_min(next, ver->tail_len ? last : UINT32_MAX) - 1; /* skip the hole at once */
		else if (!hole)
			index = last > index && ver->tail_len ? last - 1 : last;
	}
	kv_cursor_close(&c);
	if (r && r != -ENOENT)
		return r;
	if (index > last)
		return hole ? (int64_t)ver->size : -ENXIO;
	return (int64_t)kv_max(offset, index * lay->chunk_size);
}

/* ---- retiring ---- */

static int add_garbage(struct kv_edit *ed, struct kv_garbage *g)
{
	g->due = ed->seq;
	g->id = ed->retired++;
	ed->head.rec.garbage_bytes += g->rec.bytes;
	return kv_garbage_put(&ed->txn, g);
}

int kv_value_retire_blob(struct kv_edit *ed, uint64_t blob, uint64_t bytes)
{
	struct kv_garbage g = {.rec = {.kind = KV_GARBAGE_BLOB, .blob = blob, .below = UINT64_MAX, .bytes = bytes}};
	ed->retiring += bytes / ed->layout.chunk_size + 1;
	return add_garbage(ed, &g);
}

/* Garbage that names a session's blob: which chunks it is about. */
static int retire_by_session(struct kv_edit *ed, const struct kv_rec_garbage *rec, uint64_t hidden)
{
	struct kv_garbage g = {.rec = *rec, .list = {&hidden, sizeof hidden}};
	return add_garbage(ed, &g);
}

int kv_value_retire_hidden(struct kv_edit *ed, uint64_t hidden, uint64_t bytes, const struct kv_ahead *ahead, uint64_t ino)
{
	if (!ahead->gen)
		return kv_value_retire_blob(ed, hidden, bytes);
	struct kv_rec_garbage rec = {
		.kind = KV_GARBAGE_AHEAD, .blob = ahead->blob, .index = ahead->gen, .ino = ino, .bytes = bytes + ahead->bytes};
	ed->retiring += 2 * (bytes / ed->layout.chunk_size) + 1;
	return retire_by_session(ed, &rec, hidden);
}

int kv_value_retire_under(struct kv_edit *ed, uint64_t hidden, uint64_t bytes, const struct kv_ahead *ahead)
{
	/* The session's data goes at once; which chunks it had must be known until no old version of them is read any more.  This commit need
	 * not free more for it: those that wrote each chunk twice have. */
	struct kv_garbage data = {.rec = {.kind = KV_GARBAGE_TAIL, .blob = hidden, .below = 1, .bytes = bytes}};
	struct kv_rec_garbage rec = {.kind = KV_GARBAGE_UNDER, .blob = ahead->blob, .below = ahead->gen, .bytes = ahead->under};
	int r = add_garbage(ed, &data);
	return r ? r : retire_by_session(ed, &rec, hidden);
}

int kv_value_retire(struct kv_edit *ed, struct kv_inode *inode)
{
	if (!S_ISREG(inode->rec.mode))
		return 0;
	ed->head.rec.value_bytes -= inode->rec.size;
	return inode->rec.blob ? kv_value_retire_blob(ed, inode->rec.blob, inode->rec.stored) : 0;
}

uint64_t kv_value_new_blob(struct kv_edit *ed)
{
	return ed->head.rec.next_blob++;
}

/* ---- replacing ---- */

/* What every publication does to the inode and the log. */
static int published(struct kv_edit *ed, struct kv_inode *inode, bool append, const struct timespec *mtime)
{
	bool is_new = !inode->rec.epoch;
	inode->rec.version = ed->seq;
	inode->rec.epoch++;
	inode->rec.mtime = kv_rec_time(mtime ? *mtime : ed->now);
	inode->rec.ctime = kv_rec_time(ed->now);
	ed->head.rec.value_bytes += inode->rec.size;
	struct kv_rec_change rec = {
		.kind = append && !is_new ? KV_CHANGE_APPEND : KV_CHANGE_PUT,
		.name_len = inode->rec.name_len,
		.type = inode->rec.mode & S_IFMT,
		.epoch = (uint16_t)inode->rec.epoch,
		.ino = inode->ino,
		.parent = inode->rec.parent,
	};
	return kv_changes_add_rec(&ed->changes, &rec, inode->name);
}

static void set_dense(struct kv_inode *inode, bool dense)
{
	if (dense)
		inode->rec.flags |= KV_INODE_DENSE;
	else
		inode->rec.flags &= (uint16_t)~KV_INODE_DENSE;
}

int kv_value_replace(struct kv_edit *ed, struct kv_inode *inode, const struct kv_content *content, const struct timespec *mtime)
{
	int r = kv_value_retire(ed, inode);
	if (r)
		return r;
	inode->rec.size = content->size;
	inode->rec.blob = content->blob;
	inode->rec.stored = content->stored;
	inode->rec.gen = 0;
	inode->rec.next_gen = 1;
	inode->rec.ncuts = inode->rec.nskips = 0;
	set_dense(inode, content->dense);
	kv_inode_set_tail(inode, content->tail, content->tail_len);
	return published(ed, inode, false, mtime);
}

int kv_value_create_empty(struct kv_edit *ed, struct kv_inode *inode)
{
	struct kv_content nothing = {0};
	int r = kv_value_replace(ed, inode, &nothing, NULL);
	return r ? r : kv_inode_put(&ed->txn, inode);
}

int kv_value_write_chunks(struct kv_edit *ed, uint64_t blob, const void *data, size_t len, uint64_t *ret_stored)
{
	uint32_t size = ed->layout.chunk_size, index = 0;
	for (size_t at = 0; at < len; at += size, index++) {
		size_t n = kv_min(size, len - at);
		int r = kv_chunk_put(&ed->txn, blob, index, 0, (const uint8_t *)data + at, n);
		if (r)
			return r;
		*ret_stored += n;
		ed->chunks++;
	}
	return 0;
}

int kv_value_content(struct kv_edit *ed, const void *data, size_t len, struct kv_content *ret)
{
	size_t tail = len % ed->layout.chunk_size;
	*ret = (struct kv_content){.size = len, .dense = true};
	if (tail <= ed->layout.inline_max) {
		ret->tail = (const uint8_t *)data + (len - tail);
		ret->tail_len = (uint32_t)tail;
		len -= tail;
	}
	if (!len)
		return 0;
	ret->blob = kv_value_new_blob(ed);
	return kv_value_write_chunks(ed, ret->blob, data, len, &ret->stored);
}

/* ---- patching ---- */

/* Numbers between the newest generation and one that is reserved: publications that pass it meanwhile without voiding it. */
#define AHEAD_GAP 16384
#define LIST_MAX 480 /* superseded chunks in one record, which the reaper rewrites as it goes: a page */

/* A patch in progress: the base it goes on, and what it leaves behind. */
struct patching {
	struct kv_edit *ed;
	struct kv_inode *inode;
	const struct kv_patch *patch;
	struct kv_version base;
	uint8_t base_tail[KV_TAIL_BUF];
	uint64_t keep; /* bytes of the base that survive */
	uint64_t size; /* of the result */
	uint64_t fresh; /* chunks written where the base has none */
	uint32_t gen; /* of the chunks it writes */
	struct kv_cursor cursor;
	uint8_t *chunk; /* one chunk, being built */
	struct {
		uint32_t index, gen;
	} superseded[LIST_MAX];
	size_t nsuperseded;
	uint64_t superseded_bytes;
};

/* Hands the list of superseded chunks to the reaper. */
static int retire_list(struct patching *p)
{
	struct kv_inode *inode = p->inode;
	struct kv_garbage g = {
		.rec = {.kind = KV_GARBAGE_CHUNKS, .blob = inode->rec.blob, .below = p->gen, .bytes = p->superseded_bytes}};
	if (!p->nsuperseded)
		return 0;
	g.list = (struct kv_bytes){p->superseded, p->nsuperseded * sizeof *p->superseded};
	inode->rec.stored -= kv_min(inode->rec.stored, p->superseded_bytes);
	p->ed->retiring += p->nsuperseded;
	p->nsuperseded = p->superseded_bytes = 0;
	return add_garbage(p->ed, &g);
}

static int supersede(struct patching *p, uint32_t index, uint32_t gen, size_t bytes)
{
	p->superseded[p->nsuperseded].index = index;
	p->superseded[p->nsuperseded++].gen = gen;
	p->superseded_bytes += bytes;
	return p->nsuperseded == LIST_MAX ? retire_list(p) : 0;
}

/* Builds chunk `index` of the result in p->chunk: what survives of the base under what was written.  Returns how the base has it
 * in *ret_gen and *ret_old: bytes of its record, 0 when it has none. */
static int build_chunk(struct patching *p, uint32_t index, uint32_t *ret_gen, size_t *ret_old)
{
	uint32_t size = p->ed->layout.chunk_size;
	uint64_t start = (uint64_t)index * size;
	struct kv_bytes b = {0};
	*ret_old = 0;
	int r = start < p->base.size ? chunk_bytes(&p->cursor, &p->ed->layout, &p->base, index, &b, ret_gen) : -ENOENT;
	if (r && r != -ENOENT)
		return r;
	if (r == 0 && b.data != p->base.tail)
		*ret_old = b.len;
	b.len = p->keep > start ? kv_min(b.len, p->keep - start) : 0;
	copy_part(p->chunk, b, 0, size);
	return p->patch->apply(p->patch->arg, &p->ed->txn, index, p->chunk);
}

/* Others have chunks ahead: theirs of this index is not what they would publish now (V5). */
static int hit_ahead(struct patching *p, uint32_t index)
{
	struct kv_inode *inode = p->inode;
	for (int i = 0; i < inode->rec.nskips; i++) {
		if (inode->skips[i] & KV_SKIP_DEAD)
			continue;
		int r = kv_chunk_del(&p->ed->txn, inode->rec.blob, index, inode->skips[i] & KV_GEN_MAX);
		if (r == 0)
			inode->skips[i] |= KV_SKIP_HIT;
		else if (r != -ENOENT)
			return r;
	}
	return 0;
}

static int write_chunk(struct patching *p, uint32_t index)
{
	struct kv_edit *ed = p->ed;
	const struct kv_ahead *ahead = p->patch->ahead;
	uint32_t size = ed->layout.chunk_size, old_gen = 0;
	size_t old;
	int r = build_chunk(p, index, &old_gen, &old);
	if (r == 0)
		r = hit_ahead(p, index);
	if (r)
		return r;
	uint64_t len = kv_min(size, p->size - (uint64_t)index * size);
	if (!ahead) /* else they were counted before */
		p->fresh += (uint64_t)index * size >= p->keep;
	/* An append keeps the generation, so what readers of it have must stay: a record does not become a tail. */
	bool in_place = p->patch->append && old;
	bool is_tail = len < size && len <= ed->layout.inline_max && !in_place;
	if (is_tail) {
		kv_inode_set_tail(p->inode, p->chunk, len);
		r = ahead ? kv_chunk_del(&ed->txn, ahead->blob, index, ahead->gen) : 0;
		if (r && r != -ENOENT)
			return r;
	} else {
		r = kv_chunk_put(&ed->txn, p->inode->rec.blob, index, in_place ? old_gen : p->gen, p->chunk, len);
		if (r)
			return r;
		p->inode->rec.stored += len;
		ed->chunks++;
		if (in_place) {
			p->inode->rec.stored -= old;
			return 0;
		}
	}
	return old && (uint64_t)index * size < p->keep ? supersede(p, index, old_gen, old) : 0;
}

/* The chunks to write, in order: those written to, the one that was the tail (it may be none any more), and the one a cut goes through.
 * Of those that lie ready only the last, which may have to be a tail. */
static int next_index(const struct patching *p, uint64_t from, uint32_t *ret)
{
	uint32_t size = p->ed->layout.chunk_size;
	uint64_t best = UINT64_MAX, last = p->patch->ahead ? (p->size - 1) / size : 0;
	uint32_t index;
	int r = from <= UINT32_MAX ? p->patch->next(p->patch->arg, (uint32_t)kv_max(from, last), &index) : -ENOENT;
	if (r && r != -ENOENT)
		return r;
	if (r == 0)
		best = index;
	uint64_t tail = p->base.size / size, cut = p->keep / size;
	if (p->base.tail_len && tail >= from)
		best = kv_min(best, tail);
	if (p->keep < p->base.size && p->keep % size && cut >= from)
		best = kv_min(best, cut);
	if (best * size >= p->size || best == UINT64_MAX)
		return -ENOENT;
	*ret = (uint32_t)best;
	return 0;
}

/* Nobody's chunks that lie ready may be published any more. */
static void give_up_others(struct kv_inode *inode)
{
	for (int i = 0; i < inode->rec.nskips; i++)
		inode->skips[i] |= KV_SKIP_DEAD;
}

/* Base chunks from the cut on are not part of the result: remember that until the reaper has taken them away. */
static int cut_base(struct patching *p)
{
	struct kv_inode *inode = p->inode;
	uint32_t size = p->ed->layout.chunk_size;
	uint64_t first = (p->keep + size - 1) / size, end = (p->base.size + size - 1) / size;
	if (p->keep >= p->base.size || first >= end || !p->base.view.blob)
		return 0;
	int n = 0;
	while (n < inode->rec.ncuts && inode->cuts[n].index < first) /* the new cut covers those behind it */
		n++;
	if (n == KV_CUTS_MAX)
		return -EOVERFLOW;
	inode->cuts[n] = (struct kv_rec_cut){(uint32_t)first, p->gen};
	inode->rec.ncuts = (uint8_t)(n + 1);
	/* How much lies behind the cut is not known without looking: in a sparse value, perhaps nothing.  `stored` errs upwards, so
	 * that a value with data never seems to have none. */
	uint64_t bytes = inode->rec.stored - kv_min(inode->rec.stored, first * size);
	inode->rec.stored -= bytes;
	struct kv_garbage g = {.rec = {.kind = KV_GARBAGE_TAIL,
				       .blob = inode->rec.blob,
				       .index = (uint32_t)first,
				       .below = p->gen,
				       .ino = inode->ino,
				       .bytes = bytes}};
	p->ed->retiring += end - first;
	return add_garbage(p->ed, &g);
}

/* The generation of what is written: the one reserved for it, or the next. */
static int take_gen(struct patching *p)
{
	struct kv_inode *inode = p->inode;
	const struct kv_ahead *ahead = p->patch->ahead;
	if (ahead) {
		kv_value_unreserve(inode, ahead->gen);
		give_up_others(inode);
		p->gen = ahead->gen;
		p->fresh = ahead->keep == p->keep ? ahead->fresh : 0;
		inode->rec.next_gen = kv_max(inode->rec.next_gen, p->gen + 1);
	} else if (!inode->rec.blob) {
		inode->rec.blob = kv_value_new_blob(p->ed);
		inode->rec.next_gen = 1;
		p->gen = 0;
	} else if (p->patch->append) {
		p->gen = inode->rec.gen;
	} else {
		for (int i = 0; i < inode->rec.nskips; i++) /* rising */
			if ((inode->skips[i] & KV_GEN_MAX) == inode->rec.next_gen) {
				inode->skips[i] |= KV_SKIP_DEAD;
				inode->rec.next_gen++;
			}
		p->gen = inode->rec.next_gen++;
	}
	return p->gen > KV_GEN_MAX ? -EOVERFLOW : 0;
}

static int patch_chunks(struct patching *p)
{
	struct kv_inode *inode = p->inode;
	int r = take_gen(p);
	if (r == 0)
		r = cut_base(p);
	if (r)
		return r;
	if (p->keep < p->base.size)
		give_up_others(inode);
	if (p->patch->ahead)
		inode->rec.stored += p->patch->ahead->more;
	kv_inode_set_tail(inode, NULL, 0); /* written again below, where it belongs now */
	uint32_t index = 0;
	for (uint64_t from = 0; (r = next_index(p, from, &index)) == 0; from = (uint64_t)index + 1) {
		r = write_chunk(p, index);
		if (r)
			return r;
	}
	if (r != -ENOENT)
		return r;
	inode->rec.gen = p->gen;
	return retire_list(p);
}

/* The result fits in the record: build it whole.  (With the blob go the chunks that lie ready.) */
static int patch_small(struct patching *p)
{
	uint32_t gen;
	size_t old;
	int r = build_chunk(p, 0, &gen, &old);
	if (r)
		return r;
	struct kv_content content = {.size = p->size, .tail = p->chunk, .tail_len = (uint32_t)p->size};
	r = p->inode->rec.blob ? kv_value_retire_blob(p->ed, p->inode->rec.blob, p->inode->rec.stored) : 0;
	if (r)
		return r;
	p->inode->rec.blob = p->inode->rec.stored = 0;
	p->inode->rec.ncuts = p->inode->rec.nskips = 0;
	kv_inode_set_tail(p->inode, content.tail, content.tail_len);
	return 0;
}

/* Does every chunk behind those of the base come from this patch? */
static bool is_dense(const struct patching *p)
{
	uint64_t size = p->ed->layout.chunk_size;
	return p->size <= p->ed->layout.inline_max ||
	       (p->base.dense && p->fresh == (p->size + size - 1) / size - (p->keep + size - 1) / size);
}

static int begin_patch(struct patching *p, struct kv_edit *ed, struct kv_inode *inode, const struct kv_patch *patch)
{
	*p = (struct patching){.ed = ed, .inode = inode, .patch = patch};
	kv_version_of(inode, &p->base);
	memcpy(p->base_tail, inode->tail, inode->rec.tail_len);
	p->base.tail = p->base_tail;
	p->keep = kv_min(p->base.size, patch->cut);
	p->size = patch->sized ? patch->size : kv_max(p->keep, patch->end);
	p->keep = kv_min(p->keep, p->size);
	if (p->size > KV_VALUE_MAX)
		return kv_fail(EFBIG);
	p->chunk = malloc(ed->layout.chunk_size);
	if (!p->chunk)
		return kv_fail(ENOMEM);
	return kv_cursor_open(&ed->txn, KV_CHUNK, &p->cursor);
}

static void end_patch(struct patching *p)
{
	kv_cursor_close(&p->cursor);
	free(p->chunk);
}

int kv_value_patch(struct kv_edit *ed, struct kv_inode *inode, const struct kv_patch *patch, const struct timespec *mtime)
{
	struct patching p;
	int r = begin_patch(&p, ed, inode, patch);
	if (r == 0)
		r = p.size <= ed->layout.inline_max ? patch_small(&p) : patch_chunks(&p);
	end_patch(&p);
	if (r)
		return r;
	ed->head.rec.value_bytes -= p.base.size;
	inode->rec.size = p.size;
	inode->rec.stored = kv_min(inode->rec.stored, p.size - inode->rec.tail_len);
	set_dense(inode, is_dense(&p));
	return published(ed, inode, patch->append, mtime);
}

/* ---- writing ahead ---- */

static uint32_t *find_skip(struct kv_inode *inode, uint32_t gen)
{
	for (int i = 0; i < inode->rec.nskips; i++)
		if ((inode->skips[i] & KV_GEN_MAX) == gen)
			return &inode->skips[i];
	return NULL;
}

int kv_value_reserve(struct kv_edit *ed, struct kv_inode *inode, struct kv_ahead *ret)
{
	uint32_t n = inode->rec.nskips;
	if (n == KV_SKIPS_MAX)
		return -EOVERFLOW;
	if (!inode->rec.blob) {
		inode->rec.blob = kv_value_new_blob(ed);
		inode->rec.gen = 0;
		inode->rec.next_gen = 1;
	}
	uint32_t gen = kv_max(inode->rec.next_gen, n ? (inode->skips[n - 1] & KV_GEN_MAX) + 1 : 0) + AHEAD_GAP;
	if (gen > KV_GEN_MAX)
		return -EOVERFLOW;
	inode->skips[n] = gen;
	inode->rec.nskips++;
	*ret = (struct kv_ahead){.blob = inode->rec.blob, .gen = gen};
	return 0;
}

bool kv_value_unreserve(struct kv_inode *inode, uint32_t gen)
{
	uint32_t *skip = find_skip(inode, gen), *end = inode->skips + inode->rec.nskips;
	if (!skip)
		return false;
	memmove(skip, skip + 1, (size_t)(end - skip - 1) * sizeof *skip);
	inode->rec.nskips--;
	return true;
}

int kv_value_ahead_state(struct kv_inode *inode, const struct kv_ahead *ahead)
{
	const uint32_t *skip = inode->rec.blob == ahead->blob ? find_skip(inode, ahead->gen) : NULL;
	return !skip || *skip & KV_SKIP_DEAD ? -ECANCELED : *skip & KV_SKIP_HIT ? -EAGAIN : 0;
}

static int write_ahead(struct patching *p, struct kv_ahead *ahead, struct kv_cursor *look, uint32_t index)
{
	uint64_t size = p->ed->layout.chunk_size, start = index * size, len = kv_min(size, p->size - start);
	uint32_t old_gen;
	size_t old;
	ahead->fresh += start >= p->keep;
	ahead->chunks++;
	if (kv_chunk_exists(look, ahead->blob, index, ahead->gen))
		return 0;
	int r = build_chunk(p, index, &old_gen, &old);
	if (r == 0)
		r = kv_chunk_put(&p->ed->txn, ahead->blob, index, ahead->gen, p->chunk, len);
	if (r)
		return r;
	if (start >= p->keep) /* the cut's, not ours to count */
		old = 0;
	p->ed->chunks++;
	ahead->bytes += len;
	ahead->under += old;
	ahead->more += len - kv_min(len, old);
	return 0;
}

int kv_value_write_ahead(struct kv_edit *ed, struct kv_inode *inode, const struct kv_patch *patch, struct kv_ahead *ahead,
	uint64_t chunks, uint64_t looks)
{
	struct patching p;
	struct kv_cursor look = {0};
	uint32_t index;
	int r = begin_patch(&p, ed, inode, patch);
	if (r == 0)
		r = kv_cursor_open(&ed->txn, KV_CHUNK, &look);
	look.raw = true;
	if (ahead->next == 0) { /* a pass begins */
		*find_skip(inode, ahead->gen) &= ~KV_SKIP_HIT;
		ahead->keep = p.keep;
		ahead->fresh = ahead->chunks = 0;
	}
	if (ahead->keep != p.keep)
		ahead->keep = UINT64_MAX;
	for (chunks += ed->chunks; r == 0 && looks > 0 && ed->chunks < chunks; looks--) {
		r = ahead->next <= UINT32_MAX ? patch->next(patch->arg, (uint32_t)ahead->next, &index) : -ENOENT;
		if (r == 0)
			r = write_ahead(&p, ahead, &look, index);
		if (r == 0)
			ahead->next = (uint64_t)index + 1;
	}
	kv_cursor_close(&look);
	end_patch(&p);
	return r;
}

/* ---- appending: a patch whose writes lie in one piece of memory ---- */

struct appending {
	const uint8_t *data;
	uint64_t start, end;
	uint32_t chunk_size;
};

static int append_next(void *arg, uint32_t index, uint32_t *ret)
{
	const struct appending *a = arg;
	uint64_t first = kv_max(index, a->start / a->chunk_size);
	if (first * a->chunk_size >= a->end)
		return -ENOENT;
	*ret = (uint32_t)first;
	return 0;
}

static int append_apply(void *arg, struct kv_txn *txn, uint32_t index, uint8_t *chunk)
{
	const struct appending *a = arg;
	(void)txn;
	uint64_t base = (uint64_t)index * a->chunk_size;
	uint64_t from = kv_max(base, a->start), to = kv_min(base + a->chunk_size, a->end);
	if (from < to)
		memcpy(chunk + (from - base), a->data + (from - a->start), to - from);
	return 0;
}

int kv_value_append(struct kv_edit *ed, struct kv_inode *inode, const void *data, size_t len)
{
	struct appending a = {data, inode->rec.size, inode->rec.size + len, ed->layout.chunk_size};
	struct kv_patch patch = {
		.cut = UINT64_MAX, .end = a.end, .append = true, .next = append_next, .apply = append_apply, .arg = &a};
	return kv_value_patch(ed, inode, &patch, NULL);
}
