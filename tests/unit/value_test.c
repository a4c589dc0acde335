/* Values: random histories of one inode, through sessions, puts and appends, against plain byte arrays (contract, sections 2, 3, 4).
 *
 * The model has two windows, one at the start and one far away, and a hole between: sizes cluster where the layout changes its
 * mind.  Old versions are held and verified to the end. */
#include "support.h"

#include <fcntl.h>
#include <kvfs_ll.h>
#include <stdio.h>
#include <stdlib.h>

#include "core.h"
#include "invariants.h"
#include "session.h"

#define CHUNK 32736u
#define INLINE 3840u
#define WINDOW (6u * CHUNK + 100)
#define FAR ((uint64_t)40000 * 1000 * CHUNK - 777) /* byte where the far window begins */
#define HELD 6
#define SESSIONS 3

struct bytes {
	uint64_t size;
	uint8_t low[WINDOW], far[WINDOW];
};

struct step {
	bool cut;
	uint64_t offset;
	size_t len;
	uint8_t *data;
};

struct open_session {
	struct kvfs_session *s;
	bool replace; /* its view is the whole value */
	bool fresh; /* what it saw at its opening is still the newest */
	bool changed;
	struct bytes view;
	struct step *steps;
	size_t n;
};

struct world {
	struct support_rng rng;
	struct kvfs_store *store;
	uint64_t ino;
	struct bytes now;
	struct {
		struct kvfs_value *v;
		struct bytes was;
	} held[HELD];
	struct open_session open[SESSIONS];
	bool sparse;
};

/* ---- the model ---- */

static uint8_t *byte_at(struct bytes *b, uint64_t at)
{
	if (at < WINDOW)
		return &b->low[at];
	return at >= FAR && at < FAR + WINDOW ? &b->far[at - FAR] : NULL;
}

static void model_write(struct bytes *b, uint64_t offset, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*byte_at(b, offset + i) = data ? data[i] : 0;
	if (len && offset + len > b->size)
		b->size = offset + len;
}

static void zero_from(uint8_t *window, uint64_t start, uint64_t size)
{
	uint64_t at = size > start ? size - start : 0;
	if (at < WINDOW)
		memset(window + at, 0, WINDOW - at);
}

static void model_truncate(struct bytes *b, uint64_t size)
{
	zero_from(b->low, 0, size);
	zero_from(b->far, FAR, size);
	b->size = size;
}

/* ---- chance ---- */

static uint64_t random_size(struct world *w)
{
	static const uint32_t edges[] = {
		0, 1, INLINE, CHUNK, CHUNK + INLINE, 2 * CHUNK, 2 * CHUNK + INLINE, 3 * CHUNK, 5 * CHUNK, 5 * CHUNK + INLINE};
	uint64_t near = edges[support_below(&w->rng, sizeof edges / sizeof *edges)];
	uint64_t wobble = support_below(&w->rng, 4) ? support_below(&w->rng, 4) : support_below(&w->rng, 3000);
	near = support_below(&w->rng, 2) ? near + wobble : near > wobble ? near - wobble : 0;
	if (near > WINDOW)
		near = WINDOW;
	return w->sparse && support_below(&w->rng, 4) == 0 ? FAR + near : near;
}

/* A range inside a window. */
static uint64_t random_range(struct world *w, size_t *ret_len)
{
	uint64_t at = random_size(w), start = at >= FAR ? FAR : 0;
	size_t room = (size_t)(start + WINDOW - at);
	size_t len = support_below(&w->rng, 3) ? support_below(&w->rng, 200) : support_below(&w->rng, 3 * CHUNK);
	*ret_len = len < room ? len : room;
	return at;
}

static uint8_t *random_data(struct world *w, size_t len)
{
	uint8_t *data = malloc(len + 1);
	support_fill(&w->rng, data, len);
	return data;
}

/* ---- comparing ---- */

typedef ssize_t read_fn(void *handle, void *buf, size_t len, uint64_t offset);

static ssize_t read_value(void *handle, void *buf, size_t len, uint64_t offset)
{
	return kvfs_value_read(handle, buf, len, offset);
}

static ssize_t read_session(void *handle, void *buf, size_t len, uint64_t offset)
{
	return kvfs_session_read(handle, buf, len, offset);
}

static void compare_window(read_fn *fn, void *handle, const struct bytes *b, uint64_t start, const uint8_t *want)
{
	static _Thread_local uint8_t got[WINDOW];
	uint64_t len = b->size > start ? b->size - start : 0;
	if (len > WINDOW)
		len = WINDOW;
	memset(got, 0xa5, sizeof got);
	assert_count(fn(handle, got, WINDOW, start), (int64_t)(b->size > start + WINDOW ? WINDOW : len));
	for (size_t i = 0; i < len; i++)
		if (got[i] != want[i])
			fail_msg("byte %llu of %llu is %02x and not %02x", (unsigned long long)(start + i),
				(unsigned long long)b->size, got[i], want[i]);
}

static void compare(read_fn *fn, void *handle, const struct bytes *b)
{
	uint8_t hole[16], zero[16] = {0};
	compare_window(fn, handle, b, 0, b->low);
	compare_window(fn, handle, b, FAR, b->far);
	if (b->size > FAR) {
		assert_count(fn(handle, hole, sizeof hole, FAR - sizeof hole), sizeof hole);
		assert_memory_equal(hole, zero, sizeof hole);
		assert_count(fn(handle, hole, sizeof hole, WINDOW), sizeof hole);
		assert_memory_equal(hole, zero, sizeof hole);
	}
}

/* Between one data and the next hole there are no bytes that a copy by SEEK_DATA would miss. */
static void compare_seek(struct world *w, struct kvfs_value *v, const struct bytes *b)
{
	uint64_t at = b->size ? random_size(w) % b->size : 0;
	int64_t data = kvfs_value_seek(v, at, false), hole = kvfs_value_seek(v, at, true);
	if (at >= b->size) {
		assert_count(data, -ENXIO);
		return;
	}
	assert_true(data == -ENXIO || (data >= (int64_t)at && data < (int64_t)b->size));
	assert_true(hole >= (int64_t)at && hole <= (int64_t)b->size);
	assert_true(data == (int64_t)at || hole == (int64_t)at);
	for (uint64_t i = at; i < b->size && i != (uint64_t)data; i++) {
		const uint8_t *byte = byte_at((struct bytes *)b, i);
		if (!byte && i < FAR) {
			i = (uint64_t)data < FAR ? (uint64_t)data - 1 : FAR - 1;
			continue;
		}
		if (!byte)
			break;
		assert_int_equal(*byte, 0);
	}
}

static void check_current(struct world *w)
{
	struct kvfs_value *v;
	struct kvfs_stat st;
	assert_ok(kvfs_value_open(w->store, w->ino, &v, &st));
	assert_int_equal(st.size, w->now.size);
	compare(read_value, v, &w->now);
	compare_seek(w, v, &w->now);
	kvfs_value_close(v);
}

/* ---- operations ---- */

static void hold_or_verify(struct world *w)
{
	size_t i = support_below(&w->rng, HELD);
	if (w->held[i].v) {
		compare(read_value, w->held[i].v, &w->held[i].was);
		compare_seek(w, w->held[i].v, &w->held[i].was);
		if (support_below(&w->rng, 3))
			return;
		kvfs_value_close(w->held[i].v);
		w->held[i].v = NULL;
		return;
	}
	assert_ok(kvfs_value_open(w->store, w->ino, &w->held[i].v, NULL));
	w->held[i].was = w->now;
}

static void stale(struct world *w)
{
	for (int i = 0; i < SESSIONS; i++)
		w->open[i].fresh = false;
}

static void put(struct world *w)
{
	uint64_t size;
	do
		size = random_size(w);
	while (size >= FAR);
	uint8_t *data = random_data(w, size);
	assert_ok(kvfs_put(w->store, "v", data, size, NULL, NULL));
	w->now = (struct bytes){0};
	model_write(&w->now, 0, data, size);
	free(data);
	stale(w);
}

static void append(struct world *w)
{
	uint64_t start = w->now.size >= FAR ? FAR : 0, room = start + WINDOW > w->now.size ? start + WINDOW - w->now.size : 0;
	size_t len;
	random_range(w, &len);
	if (len > room)
		return;
	uint8_t *data = random_data(w, len);
	assert_ok(kvfs_append(w->store, "v", data, len));
	model_write(&w->now, w->now.size, data, len);
	free(data);
	stale(w);
}

static void forget_steps(struct open_session *o)
{
	while (o->n)
		free(o->steps[--o->n].data);
	free(o->steps);
	o->steps = NULL;
	o->changed = false;
}

static void add_step(struct open_session *o, struct step step)
{
	o->steps = realloc(o->steps, (o->n + 1) * sizeof *o->steps);
	o->steps[o->n++] = step;
	o->changed = true;
}

static void open_session(struct world *w, struct open_session *o)
{
	bool truncate = support_below(&w->rng, 4) == 0;
	assert_ok(kvfs_session_open(w->store, w->ino, truncate, &o->s));
	o->view = w->now;
	if (truncate)
		o->view = (struct bytes){0};
	o->replace = o->changed = truncate;
	o->fresh = true;
}

static void session_write(struct world *w, struct open_session *o)
{
	size_t len;
	uint64_t at = random_range(w, &len);
	uint8_t *data = random_data(w, len);
	assert_count(kvfs_session_write(o->s, data, len, at), (int64_t)len);
	model_write(&o->view, at, data, len);
	if (len)
		add_step(o, (struct step){.offset = at, .len = len, .data = data});
	else
		free(data);
}

static void session_truncate(struct world *w, struct open_session *o)
{
	uint64_t size = random_size(w);
	if (size == 0 && o->view.size > 0)
		o->replace = true;
	assert_ok(kvfs_session_truncate(o->s, size));
	model_truncate(&o->view, size);
	add_step(o, (struct step){.cut = true, .offset = size});
}

static void session_publish(struct world *w, struct open_session *o);

/* Only on what the session knows to be the newest: elsewhere, or later, a hole that it saw may have been filled. */
static void session_punch(struct world *w, struct open_session *o)
{
	size_t len;
	uint64_t at = random_range(w, &len);
	if (!o->fresh || len == 0)
		return;
	assert_ok(kvfs_session_fallocate(o->s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len));
	uint64_t end = at + len < o->view.size ? at + len : o->view.size;
	if (at >= end)
		return;
	model_write(&o->view, at, NULL, end - at);
	add_step(o, (struct step){.offset = at, .len = end - at});
	session_publish(w, o);
}

/* What the session did is done again on the value as it is now. */
static void session_publish(struct world *w, struct open_session *o)
{
	compare(read_session, o->s, &o->view);
	assert_ok(kvfs_session_publish(o->s));
	if (!o->changed)
		return;
	stale(w);
	if (o->replace)
		w->now = o->view;
	else
		for (size_t i = 0; i < o->n; i++) {
			const struct step *step = &o->steps[i];
			if (step->cut)
				model_truncate(&w->now, step->offset);
			else
				model_write(&w->now, step->offset, step->data, step->len);
		}
	forget_steps(o);
	o->view = w->now;
	o->replace = false;
	o->fresh = true;
}

static void session_append(struct world *w, struct open_session *o)
{
	uint64_t start = w->now.size >= FAR ? FAR : 0, room = start + WINDOW > w->now.size ? start + WINDOW - w->now.size : 0;
	size_t len;
	random_range(w, &len);
	if (len == 0 || len > room)
		return;
	uint8_t *data = random_data(w, len);
	if (o->changed) {
		assert_count(kvfs_session_append(o->s, data, len), -EBUSY);
	} else {
		assert_count(kvfs_session_append(o->s, data, len), (int64_t)len);
		stale(w);
		model_write(&w->now, w->now.size, data, len);
		o->view = w->now;
		o->fresh = true;
	}
	free(data);
}

static void use_session(struct world *w)
{
	struct open_session *o = &w->open[support_below(&w->rng, SESSIONS)];
	if (!o->s) {
		open_session(w, o);
		return;
	}
	switch (support_below(&w->rng, 12)) {
	case 0 ... 3:
		session_write(w, o);
		break;
	case 4 ... 5:
		session_truncate(w, o);
		break;
	case 6:
		session_punch(w, o);
		break;
	case 7 ... 8:
		session_publish(w, o);
		break;
	case 9:
		session_append(w, o);
		break;
	case 10:
		compare(read_session, o->s, &o->view);
		break;
	default:
		forget_steps(o);
		kvfs_session_close(o->s);
		o->s = NULL;
	}
}

static void one_operation(struct world *w)
{
	switch (support_below(&w->rng, 16)) {
	case 0:
		put(w);
		break;
	case 1 ... 2:
		append(w);
		break;
	case 3 ... 4:
		hold_or_verify(w);
		break;
	default:
		use_session(w);
	}
}

static void finish(struct world *w)
{
	for (int i = 0; i < HELD; i++)
		if (w->held[i].v) {
			compare(read_value, w->held[i].v, &w->held[i].was);
			kvfs_value_close(w->held[i].v);
		}
	for (int i = 0; i < SESSIONS; i++) {
		forget_steps(&w->open[i]);
		kvfs_session_close(w->open[i].s);
	}
	check_drained(w->store);
	check_current(w);
}

static struct kvfs_store *open_store(size_t buffer_size)
{
	struct kvfs_options opt = {
		.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 1 << 30, .buffer_size = buffer_size};
	struct kvfs_store *store;
	assert_ok(kvfs_open(support_store_path(), &opt, &store, NULL));
	assert_int_equal(store->core->layout.chunk_size, CHUNK);
	assert_int_equal(store->core->layout.inline_max, INLINE);
	return store;
}

static uint64_t make_value(struct kvfs_store *store)
{
	struct kvfs_stat st;
	assert_ok(kvfs_put(store, "v", "", 0, NULL, NULL));
	assert_ok(kvfs_stat(store, "v", &st));
	return st.ino;
}

static void history(uint64_t stream, bool sparse, size_t buffer_size, unsigned slice, unsigned operations)
{
	struct world *w = calloc(1, sizeof *w);
	w->rng = support_rng(stream);
	w->sparse = sparse;
	w->store = open_store(buffer_size);
	w->store->core->slice = slice;
	w->ino = make_value(w->store);
	for (unsigned i = 0; i < operations; i++) {
		one_operation(w);
		if (i % 8 == 0)
			check_current(w);
		if (i % 32 == 0)
			check_invariants(w->store, NULL);
	}
	finish(w);
	kvfs_close(w->store);
	free(w);
}

/* Whatever is written, cut, appended and replaced, by several sessions: everybody reads what the model says. */
static void histories_are_the_models(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 6; i++)
		history(i, false, 64 << 20, KV_SLICE, 500);
}

/* The same with so little memory that sessions spill all the time. */
static void histories_with_spilling(void **state)
{
	(void)state;
	for (uint64_t i = 100; i < 104; i++)
		history(i, false, 1, KV_SLICE, 500);
}

static void sparse_histories(void **state)
{
	(void)state;
	for (uint64_t i = 200; i < 204; i++)
		history(i, true, i % 2 ? 1 : 64 << 20, KV_SLICE, 400);
}

/* With transactions of a chunk or two, so that most sessions of parts are written ahead. */
static void histories_written_ahead(void **state)
{
	(void)state;
	for (uint64_t i = 300; i < 306; i++)
		history(i, i % 2, i % 3 ? 64 << 20 : 1, 1 + (unsigned)i % 2, 500);
}

/* ---- single cases: each was a bug ---- */

static uint64_t size_of(struct kvfs_store *store, const char *key)
{
	struct kvfs_stat st;
	assert_ok(kvfs_stat(store, key, &st));
	return st.size;
}

static void check_zeros(struct kvfs_store *store, uint64_t from, size_t len)
{
	uint8_t *buf = malloc(len);
	assert_count(kvfs_get_into(store, "v", buf, len, from), (int64_t)len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], 0);
	free(buf);
}

static void put_filled(struct kvfs_store *store, size_t len)
{
	char *data = malloc(len);
	memset(data, 'x', len);
	assert_ok(kvfs_put(store, "v", data, len, NULL, NULL));
	free(data);
}

/* A session that lengthened the value to a size is replayed on one that has grown past it: what is cut off stays away. */
static void growth_replayed_on_a_longer_value_leaves_no_stale_bytes(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store(0);
	struct kvfs_session *s;
	uint64_t ino = make_value(store);
	put_filled(store, 1000);
	assert_ok(kvfs_session_open(store, ino, false, &s));
	assert_ok(kvfs_session_truncate(s, 2 * CHUNK));
	put_filled(store, 5 * CHUNK);
	assert_ok(kvfs_session_publish(s));
	assert_int_equal(size_of(store, "v"), 2 * CHUNK);
	assert_ok(kvfs_session_truncate(s, 5 * CHUNK));
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
	check_zeros(store, 2 * CHUNK, 3 * CHUNK);
	check_drained(store);
	kvfs_close(store);
}

/* The same, lengthened twice: the first size decides what is left of the other's growth. */
static void growth_in_two_steps_is_replayed_step_by_step(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store(0);
	struct kvfs_session *s;
	uint64_t ino = make_value(store);
	put_filled(store, 1000);
	assert_ok(kvfs_session_open(store, ino, false, &s));
	assert_ok(kvfs_session_truncate(s, 2 * CHUNK));
	assert_ok(kvfs_session_truncate(s, 5 * CHUNK));
	put_filled(store, 4 * CHUNK);
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
	check_zeros(store, 2 * CHUNK, 3 * CHUNK);
	kvfs_close(store);
}

/* fallocate makes room; it does not cut off what others have added meanwhile. */
static void fallocate_keeps_what_others_append(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store(0);
	struct kvfs_session *s;
	uint64_t ino = make_value(store);
	assert_ok(kvfs_session_open(store, ino, false, &s));
	assert_ok(kvfs_session_fallocate(s, 0, 0, 1000));
	put_filled(store, 3 * CHUNK);
	assert_ok(kvfs_session_publish(s));
	assert_int_equal(size_of(store, "v"), 3 * CHUNK);
	kvfs_session_close(s);
	kvfs_close(store);
}

/* A sparse value that is cut short still owns to have data: programs take a file without blocks for one hole. */
static void a_cut_sparse_value_has_its_blocks(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store(0);
	struct kvfs_session *s;
	struct kvfs_stat st;
	uint64_t ino = make_value(store);
	assert_ok(kvfs_session_open(store, ino, true, &s));
	assert_count(kvfs_session_write(s, "data", 4, 0), 4);
	assert_ok(kvfs_session_truncate(s, 1000 * (uint64_t)CHUNK));
	assert_ok(kvfs_session_publish(s));
	assert_ok(kvfs_session_truncate(s, 10 * CHUNK));
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
	assert_ok(kvfs_stat(store, "v", &st));
	assert_true(st.allocated >= 4);
	assert_true(st.allocated <= st.size);
	check_drained(store);
	kvfs_close(store);
}

/* Old versions held at every step: more cuts than a record has room for, so that the value is written anew, on the value as it
 * is then and not as the session found it. */
static void a_staircase_of_cuts_keeps_what_others_wrote(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store(0);
	struct kvfs_session *s, *other;
	struct kvfs_value *held[12];
	uint64_t ino = make_value(store);
	char got[4];
	char *more = malloc(2 * CHUNK);
	memset(more, 'x', 2 * CHUNK);
	put_filled(store, 4 * CHUNK);
	for (unsigned i = 0; i < 12; i++) { /* each cut lies behind the one before */
		assert_ok(kvfs_value_open(store, ino, &held[i], NULL));
		assert_ok(kvfs_session_open(store, ino, false, &s));
		assert_ok(kvfs_session_open(store, ino, false, &other));
		assert_count(kvfs_session_write(other, "abc", 3, 10 * i), 3);
		assert_ok(kvfs_session_truncate(s, (3 + i) * CHUNK));
		assert_ok(kvfs_session_publish(other));
		assert_ok(kvfs_session_publish(s));
		assert_int_equal(size_of(store, "v"), (3 + i) * CHUNK);
		assert_count(kvfs_get_into(store, "v", got, 3, 10 * i), 3);
		assert_memory_equal(got, "abc", 3);
		kvfs_session_close(s);
		kvfs_session_close(other);
		assert_ok(kvfs_append(store, "v", more, 2 * CHUNK));
	}
	free(more);
	check_invariants(store, NULL);
	for (unsigned i = 0; i < 12; i++) {
		assert_count(kvfs_value_read(held[i], got, 3, (4 + i) * CHUNK - 2), 2);
		assert_memory_equal(got, "xx", 2);
		kvfs_value_close(held[i]);
	}
	check_drained(store);
	kvfs_close(store);
}

static void fill_up(struct kvfs_store *store, size_t len)
{
	char key[32], *data = calloc(1, len);
	int n = 0, r;
	do
		snprintf(key, sizeof key, "fill/%zu-%d", len, n++);
	while ((r = kvfs_put(store, key, data, len, NULL, NULL)) == 0);
	assert_err(r, -ENOSPC);
	free(data);
}

static int try_change(struct kvfs_session *s, int what)
{
	switch (what) {
	case 0:
		return kvfs_session_publish(s);
	case 1:
		return kvfs_session_clear(s);
	case 2:
		return kvfs_session_truncate(s, 0);
	default:
		return kvfs_session_truncate(s, CHUNK + 10);
	}
}

/* On a full store publication, clearing and truncation fail whole: the old value stands, and the session has all it had. */
static void full_store(bool replace, int what, unsigned slice)
{
	struct kvfs_options opt = {
		.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 8 << 20, .buffer_size = 1};
	struct kvfs_store *store;
	struct kvfs_session *s;
	struct bytes *want = calloc(1, sizeof *want);
	uint8_t *data = malloc(6 * CHUNK);
	const char *path = support_store_path();
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	store->core->slice = slice;
	uint64_t ino = make_value(store);
	put_filled(store, 3 * CHUNK);
	if (!replace)
		model_write(want, 0, memset(data, 'x', 3 * CHUNK), 3 * CHUNK);
	assert_ok(kvfs_session_open(store, ino, replace, &s));
	memset(data, 'y', 6 * CHUNK);
	assert_count(kvfs_session_write(s, data, 6 * CHUNK - 50, 50), 6 * CHUNK - 50);
	model_write(want, 50, data, 6 * CHUNK - 50);
	pthread_mutex_lock(&s->lock);
	assert_ok(kv_session_spill(s));
	pthread_mutex_unlock(&s->lock);
	assert_count(kvfs_session_write(s, "in memory", 9, 2 * CHUNK - 4), 9);
	model_write(want, 2 * CHUNK - 4, (const uint8_t *)"in memory", 9);
	fill_up(store, 20 * CHUNK);
	fill_up(store, 5000);
	fill_up(store, 10);
	int r = try_change(s, what); /* what needs next to nothing may just fit */
	if (r) {
		assert_err(r, -ENOSPC);
		compare(read_session, s, want);
	}
	uint64_t size = r == 0 && what == 0 ? want->size : 3 * CHUNK;
	check_invariants(store, NULL);
	assert_int_equal(size_of(store, "v"), size);
	/* what could not even be given up goes when its door has gone and there is room */
	kvfs_session_close(s);
	kvfs_close(store);
	opt.map_size = 1 << 26;
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	assert_int_equal(size_of(store, "v"), size);
	check_drained(store);
	free(data);
	free(want);
	kvfs_close(store);
}

static void a_session_survives_a_full_store(void **state)
{
	(void)state;
	for (int what = 0; what < 4; what++) {
		full_store(false, what, KV_SLICE);
		full_store(false, what, 2); /* written ahead */
		full_store(true, what, KV_SLICE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(histories_are_the_models),
		cmocka_unit_test(histories_with_spilling),
		cmocka_unit_test(sparse_histories),
		cmocka_unit_test(histories_written_ahead),
		cmocka_unit_test(growth_replayed_on_a_longer_value_leaves_no_stale_bytes),
		cmocka_unit_test(growth_in_two_steps_is_replayed_step_by_step),
		cmocka_unit_test(fallocate_keeps_what_others_append),
		cmocka_unit_test(a_cut_sparse_value_has_its_blocks),
		cmocka_unit_test(a_staircase_of_cuts_keeps_what_others_wrote),
		cmocka_unit_test(a_session_survives_a_full_store),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
