/* Garbage and sessions, and which chunks they account for; see check.h. */
#include <errno.h>
#include <stddef.h>

#include "check.h"
#include "err.h"
#include "garbage.h"

int kv_check_has_chunks(struct kv_check *c, uint64_t blob, const uint32_t *index)
{
	struct kv_key_chunk key = {htobe64(blob), htobe32(index ? *index : 0), 0};
	int r = kv_rows_seek(&c->chunks, &key, sizeof key);
	if (r == 0)
		r = kv_rows_next(&c->chunks);
	size_t len = index ? offsetof(struct kv_key_chunk, gen_inv_be) : offsetof(struct kv_key_chunk, index_be);
	return r == 1 ? c->chunks.key.len == sizeof key && memcmp(c->chunks.key.data, &key, len) == 0 : r;
}

/* All records of a blob are accounted for by what is looked at. */
static int own_blob(struct kv_check *c, uint64_t blob)
{
	int r = kv_check_has_chunks(c, blob, NULL);
	if (r == 1)
		kv_ledger_plus(&c->blobs, blob, 0, 1, NULL);
	return r < 0 ? r : 0;
}

/* Makes room for one more; doubles at powers of two. */
static int grow(void **list, size_t n, size_t size)
{
	if (n & (n - 1))
		return 0;
	void *bigger = realloc(*list, (n ? 2 * n : 1) * size);
	if (!bigger)
		return kv_fail(ENOMEM);
	*list = bigger;
	return 0;
}

static int add_range(struct kv_check *c, struct kv_check_range range)
{
	if (c->again)
		return 0;
	int r = grow((void **)&c->ranges, c->nranges, sizeof *c->ranges);
	if (r == 0)
		c->ranges[c->nranges++] = range;
	return r;
}

static int add_listed(struct kv_check *c, uint64_t blob, struct kv_bytes list)
{
	for (size_t at = 0; !c->again && at + 8 <= list.len; at += 8) {
		int r = grow((void **)&c->listed, c->nlisted, sizeof *c->listed);
		if (r)
			return r;
		struct kv_check_listed *l = &c->listed[c->nlisted++];
		l->blob = blob;
		memcpy(&l->index, (const uint8_t *)list.data + at, 4);
		memcpy(&l->gen, (const uint8_t *)list.data + at + 4, 4);
	}
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct kv_check_range *x = a, *y = b;
	return (x->blob > y->blob) - (x->blob < y->blob);
}

static int compare_listed(const void *a, const void *b)
{
	const struct kv_check_listed *x = a, *y = b;
	if (x->blob != y->blob)
		return (x->blob > y->blob) - (x->blob < y->blob);
	if (x->index != y->index)
		return (x->index > y->index) - (x->index < y->index);
	return (x->gen > y->gen) - (x->gen < y->gen);
}

/* ---- garbage ---- */

/* What a record covers. */
static int cover(struct kv_check *c, const struct kv_rec_garbage *rec, struct kv_bytes list)
{
	uint64_t told = 0;
	struct kv_check_range range = {.blob = rec->blob, .below = rec->below, .index = rec->index, .kind = rec->kind};
	switch (rec->kind) {
	case KV_GARBAGE_BLOB:
		return own_blob(c, rec->blob);
	case KV_GARBAGE_TAIL:
		return add_range(c, range);
	case KV_GARBAGE_CHUNKS:
		return add_listed(c, rec->blob, list);
	default:
		memcpy(&told, list.data, sizeof told);
		range.told = told;
		range.below = rec->kind == KV_GARBAGE_UNDER ? rec->below : rec->index;
		int r = add_range(c, range);
		return r ? r : own_blob(c, told);
	}
}

static int check_record(struct kv_check *c, const struct kv_rows *rows)
{
	struct kv_key_garbage key;
	struct kv_rec_garbage rec;
	unsigned long long id = kv_rows_id(rows);
	if (rows->key.len != sizeof key || rows->value.len < sizeof rec) {
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "garbage record %llu cannot be read", id);
		return 0;
	}
	memcpy(&key, rows->key.data, sizeof key);
	memcpy(&rec, rows->value.data, sizeof rec);
	struct kv_bytes list = {(const uint8_t *)rows->value.data + sizeof rec, rows->value.len - sizeof rec};
	uint64_t due = be64toh(key.due_be);
	bool held = due & KV_GARBAGE_HELD;
	c->seen.garbage++;
	c->seen.held_garbage += held;
	c->garbage_bytes += rec.bytes;
	bool sound = held ? due == (KV_GARBAGE_HELD | rec.blob) : due <= c->head.seq;
	if (rec.kind == KV_GARBAGE_CHUNKS)
		sound &= list.len && list.len % 8 == 0;
	else if (rec.kind == KV_GARBAGE_UNDER || rec.kind == KV_GARBAGE_AHEAD)
		sound &= list.len == sizeof(uint64_t);
	else
		sound &= !list.len && (rec.kind == KV_GARBAGE_BLOB || rec.kind == KV_GARBAGE_TAIL);
	if (sound)
		return cover(c, &rec, list);
	kv_check_found(c, KVFS_FINDING_WRONG, NULL, "garbage record %llu says what cannot be", id);
	return 0;
}

int kv_check_garbage(struct kv_check *c)
{
	struct kvfs_check_result seen = c->seen;
	uint64_t bytes = c->garbage_bytes;
	struct kv_rows rows;
	int r = kv_rows_open(&rows, c, KV_GARBAGE);
	rows.tell = true;
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1)
		r = check_record(c, &rows);
	kv_rows_close(&rows);
	if (c->again) {
		c->seen = seen;
		c->garbage_bytes = bytes;
	}
	return r;
}

/* ---- sessions ---- */

/* What is in the chunks of a session: hidden ones, and of a kept one all that it says. */
static int count_hidden(struct kv_check *c, uint64_t blob, uint64_t *ret_data, uint64_t *ret_masks)
{
	struct kv_key_chunk key = {.blob_be = htobe64(blob)};
	struct kv_rows rows;
	int r = kv_rows_open(&rows, c, KV_CHUNK);
	*ret_data = *ret_masks = 0;
	rows.keys_only = !c->data;
	rows.tell = true;
	if (r == 0)
		r = kv_rows_seek(&rows, &key, sizeof key);
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1 && kv_rows_id(&rows) == blob && rows.key.len == sizeof key) {
		memcpy(&key, rows.key.data, sizeof key);
		uint32_t gen = ~be32toh(key.gen_inv_be);
		*(gen == KV_GEN_MASKS ? ret_masks : ret_data) += 1;
		if (gen && gen != KV_GEN_MASKS)
			kv_check_found(c, KVFS_FINDING_WRONG, NULL, "session %llu has a chunk of generation %u",
				(unsigned long long)blob, gen);
	}
	kv_rows_close(&rows);
	return r < 0 ? r : 0;
}

static void check_kept(struct kv_check *c, uint64_t blob, struct kv_bytes value, uint64_t data, uint64_t masks)
{
	struct kv_rec_kept rec;
	size_t head = sizeof(struct kv_rec_session);
	bool sound = value.len >= head + sizeof rec;
	c->seen.kept++;
	if (sound) {
		memcpy(&rec, (const uint8_t *)value.data + head, sizeof rec);
		uint64_t bytes = data * c->layout.chunk_size;
		bool whole = rec.flags & KV_KEPT_WHOLE;
		c->kept_bytes += rec.stored;
		sound = value.len == head + sizeof rec + rec.name_len && rec.name_len && rec.reason &&
			(whole ? bytes == rec.stored && !masks : bytes <= rec.stored && masks == data);
	}
	if (!sound)
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "the kept session %llu is not whole", (unsigned long long)blob);
}

static int check_session(struct kv_check *c, const struct kv_rows *rows)
{
	struct kv_rec_session rec = {0};
	uint64_t blob = kv_rows_id(rows), data, masks;
	if (rows->key.len != sizeof blob || rows->value.len < offsetof(struct kv_rec_session, ahead_blob) ||
		blob >= c->head.rec.next_blob) {
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "session record %llu cannot be", (unsigned long long)blob);
		return 0;
	}
	memcpy(&rec, rows->value.data, kv_min(sizeof rec, rows->value.len));
	int r = own_blob(c, blob);
	if (r || c->again)
		return r;
	c->seen.sessions++;
	r = count_hidden(c, blob, &data, &masks);
	c->hidden_chunks += data + masks;
	if (r == 0 && !rec.door)
		check_kept(c, blob, rows->value, data, masks);
	if (r || !rec.ahead_gen)
		return r;
	return add_range(
		c, (struct kv_check_range){.blob = rec.ahead_blob, .below = rec.ahead_gen, .told = blob, .kind = KV_CHECK_AHEAD});
}

int kv_check_sessions(struct kv_check *c)
{
	struct kv_rows rows;
	int r = kv_rows_open(&rows, c, KV_SESSION);
	rows.tell = true;
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1)
		r = check_session(c, &rows);
	kv_rows_close(&rows);
	if (r || c->again)
		return r;
	if (c->seen.kept > KVFS_KEPT_MAX || c->kept_bytes > KVFS_KEPT_BYTES)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "more sessions are kept than should be");
	if (c->nranges)
		qsort(c->ranges, c->nranges, sizeof *c->ranges, compare_ranges);
	if (c->nlisted)
		qsort(c->listed, c->nlisted, sizeof *c->listed, compare_listed);
	return 0;
}
