/* Session buffers and dirty masks against plain arrays of bytes and bools. */
#include "support.h"

#include <stdlib.h>

#include "buffer.h"

#define SIZE 1003u /* no multiple of 8 */

static void masks_are_sets_of_bytes(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(1);
	for (int round = 0; round < 200; round++) {
		uint8_t *mask = calloc(1, kv_mask_size(SIZE)), src[SIZE], dst[SIZE], want[SIZE];
		bool model[SIZE] = {false};
		for (uint64_t ops = support_below(&rng, 12); ops; ops--) {
			size_t at = support_below(&rng, SIZE), n = support_below(&rng, SIZE - at + 1);
			bool on = support_below(&rng, 3) != 0;
			(on ? kv_mask_set : kv_mask_clear)(mask, at, n);
			memset(model + at, on, n);
		}
		support_fill(&rng, src, SIZE);
		support_fill(&rng, dst, SIZE);
		memcpy(want, dst, SIZE);
		size_t at = support_below(&rng, SIZE), n = support_below(&rng, SIZE - at + 1);
		for (size_t i = at; i < at + n; i++)
			want[i] = model[i] ? src[i] : want[i];
		kv_mask_overlay(dst + at, src + at, mask, at, n);
		assert_memory_equal(dst, want, SIZE);
		for (size_t i = 0; i < SIZE; i++)
			assert_int_equal(mask[i / 8] >> i % 8 & 1, model[i]);
		struct kv_mask_run runs[SIZE / 2 + 1];
		uint8_t again[SIZE / 8 + 1] = {0};
		size_t found = kv_mask_runs(mask, SIZE, runs, SIZE / 2 + 1);
		for (size_t i = 0; i < found; i++) {
			kv_mask_set(again, runs[i].at, runs[i].n);
			assert_true(i == 0 || runs[i].at > runs[i - 1].at + runs[i - 1].n);
		}
		assert_memory_equal(again, mask, sizeof again);
		if (found)
			assert_int_equal(kv_mask_runs(mask, SIZE, runs, found - 1), found);
		kv_mask_overlay(dst + at, src + at, NULL, at, n);
		assert_memory_equal(dst + at, src + at, n);
		free(mask);
	}
}

#define INDEXES 40u

static void check(const struct kv_buffers *b, const bool *there)
{
	size_t n = 0;
	for (uint32_t i = 0; i < INDEXES; i++) {
		struct kv_buffer *buf = kv_buffers_find(b, i), *from = kv_buffers_from(b, i);
		uint32_t next = i;
		while (next < INDEXES && !there[next])
			next++;
		assert_int_equal(buf != NULL, there[i]);
		assert_true(next == INDEXES ? !from : from && from->index == next);
		if (buf)
			assert_int_equal(buf->data[0], i);
		n += there[i];
	}
	assert_int_equal(b->n, n);
}

static void buffers_are_found_by_index(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(2);
	for (int round = 0; round < 50; round++) {
		struct kv_buffers b = {.chunk_size = 64};
		bool there[INDEXES] = {false}, masked = round % 2;
		for (int op = 0; op < 60; op++) {
			uint32_t i = (uint32_t)support_below(&rng, INDEXES);
			struct kv_buffer *buf = kv_buffers_find(&b, i);
			if (!buf) {
				buf = kv_buffers_add(&b, i, masked);
				assert_true(buf && buf->index == i && !buf->stored && (buf->mask != NULL) == masked);
				assert_int_equal(kv_buffer_upto(buf, 64)[63], 0);
				buf->data[0] = (uint8_t)i;
				there[i] = true;
			} else if (support_below(&rng, 4)) {
				kv_buffers_remove(&b, buf);
				there[i] = false;
			} else {
				kv_buffers_drop(&b, i);
				memset(there + i, 0, INDEXES - i);
			}
			check(&b, there);
		}
		kv_buffers_free(&b);
		assert_int_equal(b.n, 0);
	}
}

/* In memory that held something else before, and after a cut. */
static void bytes_nobody_wrote_are_zero(void **state)
{
	(void)state;
	struct kv_buffers b = {.chunk_size = 64};
	void *dirty = malloc(64);
	memset(dirty, 'x', 64);
	free(dirty);
	struct kv_buffer *buf = kv_buffers_add(&b, 0, false);
	memset(kv_buffer_upto(buf, 20) + 10, 'a', 10);
	const uint8_t *data = kv_buffer_upto(buf, 64);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(data[i], i >= 10 && i < 20 ? 'a' : 0);
	kv_buffer_cut(buf, 15);
	kv_buffer_cut(buf, 30);
	data = kv_buffer_upto(buf, 64);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(data[i], i >= 10 && i < 15 ? 'a' : 0);
	kv_buffers_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(masks_are_sets_of_bytes),
		cmocka_unit_test(buffers_are_found_by_index),
		cmocka_unit_test(bytes_nobody_wrote_are_zero),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
