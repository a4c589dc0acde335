/* Buffers of a write session: the chunks it has written, in memory, in order of index. */
#ifndef KV_BUFFER_H
#define KV_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kv_buffer {
	uint32_t index;
	uint8_t *data; /* chunk_size bytes, to be asked for by kv_buffer_upto() */
	size_t used; /* those after the first `used` are zeros that nobody has filled in yet */
	uint8_t *mask; /* a bit for each byte written; NULL: the chunk is wholly the session's */
	bool stored; /* a hidden record of it exists already */
};

struct kv_buffers {
	struct kv_buffer *list;
	size_t n, cap;
	uint32_t chunk_size;
};

/* Memory that one more buffer takes. */
size_t kv_buffers_cost(const struct kv_buffers *b, bool masked);
/* The buffer of `index`, or NULL. */
struct kv_buffer *kv_buffers_find(const struct kv_buffers *b, uint32_t index);
/* The first at or after `index`, or NULL. */
struct kv_buffer *kv_buffers_from(const struct kv_buffers *b, uint32_t index);
/* Its first `end` bytes; unwritten ones are zero.  A few bytes in a chunk of many are the common case, so zeros are filled in when asked for. */
uint8_t *kv_buffer_upto(struct kv_buffer *buf, size_t end);
/* Zeros from `at` on. */
void kv_buffer_cut(struct kv_buffer *buf, size_t at);
/* A new, zeroed one; there must be none of this index.  NULL: out of memory. */
struct kv_buffer *kv_buffers_add(struct kv_buffers *b, uint32_t index, bool masked);
/* Frees those at or after `index`. */
void kv_buffers_drop(struct kv_buffers *b, uint32_t index);
/* Takes one out and frees it. */
void kv_buffers_remove(struct kv_buffers *b, struct kv_buffer *buf);
void kv_buffers_free(struct kv_buffers *b);

size_t kv_mask_size(uint32_t chunk_size);
void kv_mask_set(uint8_t *mask, size_t at, size_t n);
void kv_mask_clear(uint8_t *mask, size_t at, size_t n);
/* The mask as runs: pairs (first byte, length), rising.  Returns their number, or n + 1 when n are not enough. */
struct kv_mask_run {
	uint32_t at, n;
};
size_t kv_mask_runs(const uint8_t *mask, uint32_t chunk_size, struct kv_mask_run *ret, size_t n);
/* dst[i] = src[i] wherever the mask has bit i (mask NULL: everywhere), over bytes [at, at + n); dst and src begin at byte `at`. */
void kv_mask_overlay(uint8_t *dst, const uint8_t *src, const uint8_t *mask, size_t at, size_t n);

#endif
