/* Session buffers; see buffer.h. */
#include "buffer.h"

#include "util.h"

#include <stdlib.h>
#include <string.h>

size_t kv_mask_size(uint32_t chunk_size)
{
	return (chunk_size + 7) / 8;
}

size_t kv_buffers_cost(const struct kv_buffers *b, bool masked)
{
	return sizeof(struct kv_buffer) + b->chunk_size + (masked ? kv_mask_size(b->chunk_size) : 0);
}

/* Position of the first buffer at or after `index`. */
static size_t position(const struct kv_buffers *b, uint32_t index)
{
	size_t lo = 0, hi = b->n;
	if (hi && b->list[hi - 1].index < index) /* the ordinary case: at the end */
		return hi;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (b->list[mid].index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct kv_buffer *kv_buffers_from(const struct kv_buffers *b, uint32_t index)
{
	size_t at = position(b, index);
	return at < b->n ? &b->list[at] : NULL;
}

struct kv_buffer *kv_buffers_find(const struct kv_buffers *b, uint32_t index)
{
	struct kv_buffer *buf = kv_buffers_from(b, index);
	return buf && buf->index == index ? buf : NULL;
}

uint8_t *kv_buffer_upto(struct kv_buffer *buf, size_t end)
{
	if (buf->used < end) {
		memset(buf->data + buf->used, 0, end - buf->used);
		buf->used = end;
	}
	return buf->data;
}

void kv_buffer_cut(struct kv_buffer *buf, size_t at)
{
	buf->used = kv_min(buf->used, at);
}

struct kv_buffer *kv_buffers_add(struct kv_buffers *b, uint32_t index, bool masked)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 4;
		struct kv_buffer *list = realloc(b->list, cap * sizeof *list);
		if (!list)
			return NULL;
		b->list = list;
		b->cap = cap;
	}
	struct kv_buffer buf = {.index = index, .data = malloc(b->chunk_size)};
	if (masked)
		buf.mask = calloc(1, kv_mask_size(b->chunk_size));
	if (!buf.data || (masked && !buf.mask)) {
		free(buf.data);
		free(buf.mask);
		return NULL;
	}
	size_t at = position(b, index);
	memmove(b->list + at + 1, b->list + at, (b->n - at) * sizeof *b->list);
	b->list[at] = buf;
	b->n++;
	return &b->list[at];
}

void kv_buffers_drop(struct kv_buffers *b, uint32_t index)
{
	size_t from = position(b, index);
	for (size_t i = from; i < b->n; i++) {
		free(b->list[i].data);
		free(b->list[i].mask);
	}
	b->n = from;
}

void kv_buffers_remove(struct kv_buffers *b, struct kv_buffer *buf)
{
	free(buf->data);
	free(buf->mask);
	size_t at = (size_t)(buf - b->list);
	memmove(buf, buf + 1, (b->n - at - 1) * sizeof *buf);
	b->n--;
}

void kv_buffers_free(struct kv_buffers *b)
{
	kv_buffers_drop(b, 0);
	free(b->list);
	b->list = NULL;
	b->cap = 0;
}

/* Sets or clears n bits from `at`, whole bytes at once. */
static void fill_bits(uint8_t *mask, size_t at, size_t n, bool on)
{
	size_t end = at + n;
	while (at < end && at % 8) {
		mask[at / 8] = (uint8_t)(on ? mask[at / 8] | 1u << at % 8 : mask[at / 8] & ~(1u << at % 8));
		at++;
	}
	size_t whole = (end - at) / 8;
	memset(mask + at / 8, on ? 0xff : 0, whole);
	for (at += whole * 8; at < end; at++)
		mask[at / 8] = (uint8_t)(on ? mask[at / 8] | 1u << at % 8 : mask[at / 8] & ~(1u << at % 8));
}

void kv_mask_set(uint8_t *mask, size_t at, size_t n)
{
	fill_bits(mask, at, n, true);
}

void kv_mask_clear(uint8_t *mask, size_t at, size_t n)
{
	fill_bits(mask, at, n, false);
}

/* The first byte at or after `at` whose bit is `on`; `end` none. */
static uint32_t find_bit(const uint8_t *mask, uint32_t at, uint32_t end, bool on)
{
	while (at < end && (mask[at / 8] >> at % 8 & 1) != on)
		at += at % 8 == 0 && mask[at / 8] == (on ? 0 : 0xff) ? 8 : 1;
	return at < end ? at : end;
}

size_t kv_mask_runs(const uint8_t *mask, uint32_t chunk_size, struct kv_mask_run *ret, size_t n)
{
	size_t found = 0;
	for (uint32_t at = find_bit(mask, 0, chunk_size, true); at < chunk_size; found++) {
		uint32_t end = find_bit(mask, at, chunk_size, false);
		if (found == n)
			return n + 1;
		ret[found] = (struct kv_mask_run){at, end - at};
		at = find_bit(mask, end, chunk_size, true);
	}
	return found;
}

void kv_mask_overlay(uint8_t *dst, const uint8_t *src, const uint8_t *mask, size_t at, size_t n)
{
	if (!mask) {
		memcpy(dst, src, n);
		return;
	}
	for (size_t i = 0; i < n;) {
		size_t bit = at + i;
		if (bit % 8 == 0 && n - i >= 8 && (mask[bit / 8] == 0xff || mask[bit / 8] == 0)) {
			size_t run = 8; /* as far as whole bytes of the mask agree */
			while (n - i - run >= 8 && mask[(bit + run) / 8] == mask[bit / 8])
				run += 8;
			if (mask[bit / 8])
				memcpy(dst + i, src + i, run);
			i += run;
			continue;
		}
		if (mask[bit / 8] >> bit % 8 & 1)
			dst[i] = src[i];
		i++;
	}
}
