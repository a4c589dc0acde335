/* Table chunk; see chunk.h.  Generation 0 of a session's blob is its data; KV_GEN_MASKS keeps the dirty mask of the same index. */
#include "chunk.h"

#include <errno.h>
#include <stdio.h>

#include "err.h"

static bool split_key(struct kv_bytes key, struct kv_key_chunk *ret)
{
	if (key.len != sizeof *ret)
		return false;
	memcpy(ret, key.data, sizeof *ret);
	return true;
}

static bool is_skipped(const struct kv_chunk_view *view, uint32_t gen)
{
	for (int i = 0; i < view->nskips; i++)
		if ((view->skips[i] & KV_GEN_MAX) == gen)
			return true;
	return false;
}

static bool is_cut(const struct kv_chunk_view *view, uint32_t index, uint32_t gen)
{
	for (int i = 0; i < view->ncuts; i++)
		if (index >= view->cuts[i].index && gen < view->cuts[i].gen)
			return true;
	return false;
}

static int payload(struct kv_txn *txn, struct kv_bytes rec, struct kv_bytes *ret)
{
	struct kv_rec_chunk head;
	if (rec.len < sizeof head) {
		kv_db_set_damage(txn->db, "chunk record: too short");
		return kv_fail(EUCLEAN);
	}
	memcpy(&head, rec.data, sizeof head);
	if (head.encoding != 0) {
		kv_db_set_damage(txn->db, "chunk record: an encoding this version does not know");
		return kv_fail(EUCLEAN);
	}
	ret->data = (const char *)rec.data + sizeof head;
	ret->len = rec.len - sizeof head;
	return 0;
}

int kv_chunk_get(struct kv_cursor *c, const struct kv_chunk_view *view, uint32_t index, struct kv_bytes *ret, uint32_t *ret_gen)
{
	struct kv_key_chunk want = kv_key_chunk(view->blob, index, view->gen), at;
	int r = kv_cursor_seek(c, &want, sizeof want);
	for (; r == 0; r = kv_cursor_next(c)) {
		if (!split_key(c->key, &at) || at.blob_be != want.blob_be || at.index_be != want.index_be)
			return -ENOENT;
		uint32_t gen = ~be32toh(at.gen_inv_be);
		if (is_skipped(view, gen))
			continue;
		if (is_cut(view, index, gen))
			return -ENOENT;
		if (ret_gen)
			*ret_gen = gen;
		return ret ? payload(c->txn, c->value, ret) : 0;
	}
	return r;
}

int kv_chunk_check_hole(struct kv_cursor *c, const struct kv_chunk_view *view, uint32_t index)
{
	struct kv_key_chunk want = kv_key_chunk(view->blob, index, view->gen);
	int r = kv_cursor_seek_before(c, &want, sizeof want);
	return r == 0 ? -ENOENT : r;
}

int kv_chunk_next_index(struct kv_cursor *c, uint64_t blob, uint32_t index, uint32_t *ret)
{
	struct kv_key_chunk want = {htobe64(blob), htobe32(index), 0}, at;
	int r = kv_cursor_seek(c, &want, sizeof want);
	if (r)
		return r;
	if (!split_key(c->key, &at) || at.blob_be != want.blob_be)
		return -ENOENT;
	*ret = be32toh(at.index_be);
	return 0;
}

static int put(struct kv_txn *txn, uint64_t blob, uint32_t index, uint32_t gen, uint8_t kind, const void *data, size_t len)
{
	struct kv_key_chunk key = kv_key_chunk(blob, index, gen);
	struct kv_rec_chunk head = {.kind = kind};
	struct iovec parts[] = {{&head, sizeof head}, {(void *)data, len}};
	return kv_db_put(txn, KV_CHUNK, &key, sizeof key, parts, 2);
}

bool kv_chunk_exists(struct kv_cursor *c, uint64_t blob, uint32_t index, uint32_t gen)
{
	struct kv_key_chunk want = kv_key_chunk(blob, index, gen);
	return kv_cursor_seek(c, &want, sizeof want) == 0 && c->key.len == sizeof want &&
	       memcmp(c->key.data, &want, sizeof want) == 0;
}

int kv_chunk_put(struct kv_txn *txn, uint64_t blob, uint32_t index, uint32_t gen, const void *data, size_t len)
{
	return put(txn, blob, index, gen, KV_CHUNK_DATA, data, len);
}

int kv_chunk_del(struct kv_txn *txn, uint64_t blob, uint32_t index, uint32_t gen)
{
	struct kv_key_chunk key = kv_key_chunk(blob, index, gen);
	return kv_db_del(txn, KV_CHUNK, &key, sizeof key);
}

int kv_chunk_put_mask(struct kv_txn *txn, uint64_t blob, uint32_t index, enum kv_chunk_kind kind, const void *mask, size_t len)
{
	return put(txn, blob, index, KV_GEN_MASKS, (uint8_t)kind, mask, len);
}

int kv_chunk_get_mask(struct kv_txn *txn, uint64_t blob, uint32_t index, enum kv_chunk_kind *ret_kind, struct kv_bytes *ret)
{
	struct kv_key_chunk key = kv_key_chunk(blob, index, KV_GEN_MASKS);
	struct kv_bytes rec;
	int r = kv_db_get(txn, KV_CHUNK, &key, sizeof key, &rec);
	if (r == 0)
		r = payload(txn, rec, ret);
	if (r == 0)
		*ret_kind = *(const uint8_t *)rec.data;
	return r;
}

int kv_chunk_reap(struct kv_txn *txn, uint64_t blob, uint32_t index, uint64_t end, uint64_t below, uint64_t *budget,
	uint64_t *ret_bytes, uint32_t *ret_index)
{
	struct kv_key_chunk want = {htobe64(blob), htobe32(index), 0}, at;
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_CHUNK, &c);
	if (r)
		return r;
	c.raw = true;
	r = kv_cursor_seek(&c, &want, sizeof want);
	/* Looking at records that stay costs too: they count against the budget. */
	for (; r == 0 && *budget > 0; --*budget) {
		if (!split_key(c.key, &at) || at.blob_be != want.blob_be || be32toh(at.index_be) >= end) {
			r = -ENOENT;
			break;
		}
		uint32_t gen = ~be32toh(at.gen_inv_be);
		*ret_index = be32toh(at.index_be);
		if (gen >= below) { /* stays, and so may any number of this index: over all of them at once */
			want = kv_key_chunk(blob, *ret_index, (uint32_t)(below - 1));
			r = kv_cursor_seek(&c, &want, sizeof want);
			continue;
		}
		if (gen != KV_GEN_MASKS)
			*ret_bytes += c.value.len - sizeof(struct kv_rec_sum) - sizeof(struct kv_rec_chunk);
		r = kv_cursor_del(&c);
		if (r == 0)
			r = kv_cursor_next(&c);
	}
	kv_cursor_close(&c);
	return r;
}
