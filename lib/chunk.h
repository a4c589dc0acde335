/* Table chunk: (blob, index, generation) -> data.
 *
 * A chunk may have several generations: an update adds one, and the older go when nobody reads them any more.  A read at generation g takes
 * the newest at or below g. */
#ifndef KV_CHUNK_H
#define KV_CHUNK_H

#include "db.h"

enum kv_chunk_kind { KV_CHUNK_DATA = 0, KV_CHUNK_MASK = 1, KV_CHUNK_RUNS = 2 };

/* What a reader of a blob needs to know: the value's generation, and what of the blob's records is not part of it. */
struct kv_chunk_view {
	uint64_t blob;
	uint32_t gen;
	uint8_t ncuts, nskips;
	struct kv_rec_cut cuts[KV_CUTS_MAX];
	uint32_t skips[KV_SKIPS_MAX];
};

/* The data of chunk `index` as seen by the view.  -ENOENT a hole.  *ret_gen (may be NULL) which generation it is.  With `ret` NULL only
 * looks whether it is there: enough for a raw cursor. */
int kv_chunk_get(struct kv_cursor *c, const struct kv_chunk_view *view, uint32_t index, struct kv_bytes *ret, uint32_t *ret_gen);
/* Of a chunk that was not found: -ENOENT the records on both sides of its place are sound, so none with a rotted key is in it; -EUCLEAN. */
int kv_chunk_check_hole(struct kv_cursor *c, const struct kv_chunk_view *view, uint32_t index);
/* The first index at or after `index` with any record of the blob (also of generations the view does not see); -ENOENT. */
int kv_chunk_next_index(struct kv_cursor *c, uint64_t blob, uint32_t index, uint32_t *ret);
/* Is there a record of just this generation?  With a raw cursor. */
bool kv_chunk_exists(struct kv_cursor *c, uint64_t blob, uint32_t index, uint32_t gen);
int kv_chunk_put(struct kv_txn *txn, uint64_t blob, uint32_t index, uint32_t gen, const void *data, size_t len);
int kv_chunk_del(struct kv_txn *txn, uint64_t blob, uint32_t index, uint32_t gen);

/* Sessions keep which bytes of a hidden chunk were written in a record beside it: as runs, or, if they are many, as a bitmap. */
int kv_chunk_put_mask(struct kv_txn *txn, uint64_t blob, uint32_t index, enum kv_chunk_kind kind, const void *mask, size_t len);
int kv_chunk_get_mask(struct kv_txn *txn, uint64_t blob, uint32_t index, enum kv_chunk_kind *ret_kind, struct kv_bytes *ret);

/* Deletes up to *budget records of the blob from `index` to before `end` and of generations below `below`, in order; counts *budget down and adds
 * their data to *ret_bytes.  *ret_index: where to go on.  -ENOENT when there are none left. */
int kv_chunk_reap(struct kv_txn *txn, uint64_t blob, uint32_t index, uint64_t end, uint64_t below, uint64_t *budget,
	uint64_t *ret_bytes, uint32_t *ret_index);
#define KV_CHUNK_END UINT64_MAX /* as `end`: all */

#endif
