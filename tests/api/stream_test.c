/* Streams: what a reader keeps, what a writer hides until it publishes, how sessions on one key meet. */
#include "api.h"

#include <pthread.h>
#include <sys/resource.h>

enum {
	RD = KVFS_STREAM_READ,
	WR = KVFS_STREAM_WRITE,
	NEW = KVFS_STREAM_CREATE,
	EXCL = KVFS_STREAM_EXCL,
	TRUNC = KVFS_STREAM_TRUNCATE
};

static struct kvfs_stream *open_stream(struct kvfs_store *store, const char *key, unsigned flags)
{
	struct kvfs_stream *st = NULL;

	assert_ok(kvfs_stream_open(store, key, flags, 0644, &st));
	assert_non_null(st);
	return st;
}

static void put_at(struct kvfs_stream *st, const char *text, uint64_t offset)
{
	assert_count(kvfs_stream_write(st, text, strlen(text), offset), strlen(text));
}

static bool stream_is(struct kvfs_stream *st, const void *want, size_t len)
{
	char *got = malloc(len + 10);
	uint64_t size = kvfs_stream_size(st);
	ssize_t n = kvfs_stream_read(st, got, len + 10, 0);

	bool same = size == len && n >= 0 && api_same_bytes(got, (size_t)n, want, len);
	if (size != len || n < 0)
		print_error("stream: size %" PRIu64 ", read %zd, not %zu\n", size, n, len);
	free(got);
	return same;
}

#define assert_stream(st, want, len) assert_true(stream_is(st, want, len))

static struct kvfs_info info_of(struct kvfs_store *store)
{
	struct kvfs_info info;

	assert_ok(kvfs_info(store, &info));
	return info;
}

/* ---- reading ---- */

/* However often the key is replaced, deleted and made again, the reader's bytes stand; what others retire is used again. */
static void test_reader_keeps_its_value(void **state)
{
	struct api *a = *state;
	const size_t len = 300000;
	char *first = api_bytes(len, 1), *other = api_bytes(len, 2);
	static const size_t sizes[] = {0, 10, 5000, 300000};

	for (int kind = 0; kind < 4; kind++) {
		assert_ok(kvfs_put(a->store, "k", first, sizes[kind], NULL, NULL));
		struct kvfs_stream *st = open_stream(a->store, "k", RD), *again = open_stream(a->store, "k", RD);
		uint64_t before = info_of(a->store).file_bytes;
		for (unsigned i = 0; i < api_times(300); i++) {
			assert_ok(kvfs_put(a->store, "k", other, sizes[(i + (unsigned)kind) % 4], NULL, NULL));
			if (i % 50 == 20)
				assert_ok(kvfs_del(a->store, "k"));
			if (i % 50 == 30)
				assert_ok(kvfs_append(a->store, "k", other, 100));
			if (i % 25 == 0)
				assert_stream(st, first, sizes[kind]);
		}
		assert_stream(again, first, sizes[kind]);
		assert_true(info_of(a->store).file_bytes < before + (16 << 20));
		assert_true(kind < 3 || info_of(a->store).held_values > 0);
		assert_ok(kvfs_stream_close(st));
		assert_stream(again, first, sizes[kind]);
		assert_ok(kvfs_stream_close(again));
		assert_int_equal(info_of(a->store).held_values, 0);
	}
	free(first);
	free(other);
}

/* Reads of any length anywhere, as of an array. */
static void test_random_reads(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(1);
	const size_t len = 1 << 20;
	char *data = api_bytes(len, 3), *got = malloc(len);

	assert_ok(kvfs_put(a->store, "k", data, len, NULL, NULL));
	struct kvfs_stream *st = open_stream(a->store, "k", RD);
	for (unsigned i = 0; i < api_times(2000); i++) {
		uint64_t at = support_below(&rng, len + 1000);
		size_t n = support_below(&rng, support_below(&rng, 4) ? 5000 : 300000);
		size_t want = at >= len ? 0 : len - at < n ? len - at : n;
		assert_count(kvfs_stream_read(st, got, n, at), want);
		if (want)
			assert_memory_equal(got, data + at, want);
	}
	assert_count(kvfs_stream_read(st, got, 10, UINT64_MAX), 0);
	assert_count(kvfs_stream_read(st, got, 0, 0), 0);
	assert_true(kvfs_stream_write(st, "x", 1, 0) < 0);
	assert_true(kvfs_stream_truncate(st, 0) < 0);
	assert_ok(kvfs_stream_close(st));
	assert_value(a->store, "k", data, len);
	free(data);
	free(got);
}

static void test_open_errors(void **state)
{
	struct api *a = *state;
	struct kvfs_stream *st = NULL;

	assert_ok(api_put(a->store, "v", "v"));
	assert_ok(kvfs_mkdir(a->store, "d", 0755));
	assert_ok(kvfs_mknod(a->store, "fifo", S_IFIFO | 0600, 0));
	assert_err(kvfs_stream_open(a->store, "none", RD, 0, &st), -ENOENT);
	assert_err(kvfs_stream_open(a->store, "none", WR, 0, &st), -ENOENT);
	assert_err(kvfs_stream_open(a->store, "none", WR | TRUNC, 0, &st), -ENOENT);
	assert_err(kvfs_stream_open(a->store, "d", RD, 0, &st), -EISDIR);
	assert_err(kvfs_stream_open(a->store, "d", WR | NEW | TRUNC, 0, &st), -EISDIR);
	assert_err(kvfs_stream_open(a->store, "v/x", WR | NEW, 0, &st), -ENOTDIR);
	assert_err(kvfs_stream_open(a->store, "v", WR | NEW | EXCL, 0, &st), -EEXIST);
	assert_err(kvfs_stream_open(a->store, "fifo", RD, 0, &st), -EINVAL);
	assert_err(kvfs_stream_open(a->store, "v", 0, 0, &st), -EINVAL);
	assert_err(kvfs_stream_open(a->store, "v", 1u << 11 | RD, 0, &st), -EINVAL);
	assert_null(st);
	assert_absent(a->store, "none");
	kvfs_stream_abort(NULL);
}

/* ---- privacy and publication ---- */

static void test_private_until_published(void **state)
{
	struct api *a = *state;
	struct kvfs_stat st, after;

	assert_ok(api_put(a->store, "k", "old value"));
	assert_ok(kvfs_stat(a->store, "k", &st));
	struct kvfs_stream *w = open_stream(a->store, "k", RD | WR | TRUNC), *n = open_stream(a->store, "p/new", RD | WR | NEW);
	assert_int_equal(kvfs_stream_size(w), 0);
	put_at(w, "new", 0);
	put_at(n, "fresh", 0);
	assert_stream(w, "new", 3);
	assert_stream(n, "fresh", 5);
	assert_text(a->store, "k", "old value");
	assert_ok(kvfs_stat(a->store, "k", &after));
	assert_memory_equal(&st, &after, sizeof(st));
	assert_absent(a->store, "p/new");
	assert_absent(a->store, "p");

	assert_ok(kvfs_stream_publish(w));
	assert_ok(kvfs_stream_publish(n));
	assert_text(a->store, "k", "new");
	assert_text(a->store, "p/new", "fresh");
	/* And it goes on from there. */
	put_at(w, "er", 3);
	put_at(n, "F", 0);
	assert_stream(w, "newer", 5);
	assert_stream(n, "Fresh", 5);
	assert_text(a->store, "k", "new");
	assert_text(a->store, "p/new", "fresh");
	assert_ok(kvfs_stream_close(w));
	assert_text(a->store, "k", "newer");
	kvfs_stream_abort(n);
	assert_text(a->store, "p/new", "fresh");

	/* What wrote nothing publishes nothing, except that a new or a truncated key is something. */
	assert_ok(kvfs_stat(a->store, "k", &st));
	assert_ok(kvfs_stream_close(open_stream(a->store, "k", WR)));
	assert_ok(kvfs_stream_close(open_stream(a->store, "k", WR | NEW)));
	assert_ok(kvfs_stat(a->store, "k", &after));
	assert_memory_equal(&st, &after, sizeof(st));
	assert_ok(kvfs_stream_close(open_stream(a->store, "k", WR | TRUNC)));
	assert_value(a->store, "k", "", 0);
	assert_ok(kvfs_stream_close(open_stream(a->store, "empty", WR | NEW | EXCL)));
	assert_value(a->store, "empty", "", 0);
	kvfs_stream_abort(open_stream(a->store, "never", WR | NEW));
	assert_absent(a->store, "never");
}

static void test_mode_and_attributes(void **state)
{
	struct api *a = *state;
	struct kvfs_stream *w;
	struct kvfs_stat st;

	assert_ok(kvfs_stream_open(a->store, "k", WR | NEW, 0640, &w));
	assert_ok(kvfs_stream_close(w));
	assert_ok(kvfs_stat(a->store, "k", &st));
	assert_int_equal(st.mode, S_IFREG | 0640);
	uint64_t ino = st.ino;
	assert_ok(kvfs_stream_open(a->store, "k", WR | NEW | TRUNC, 0600, &w));
	put_at(w, "x", 0);
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0444};
	assert_ok(kvfs_setattr(a->store, "k", &attr));
	assert_ok(kvfs_setxattr(a->store, "k", "user.a", "1", 1, 0));
	assert_ok(kvfs_stream_close(w));
	assert_ok(kvfs_stat(a->store, "k", &st));
	assert_true(st.mode == (S_IFREG | 0444) && st.ino == ino);
	assert_count(kvfs_getxattr(a->store, "k", "user.a", NULL, 0), 1);
}

static void test_excl(void **state)
{
	struct api *a = *state;
	struct kvfs_stream *w = open_stream(a->store, "d/k", WR | NEW | EXCL);

	put_at(w, "mine", 0);
	assert_err(api_put(a->store, "d/k", "theirs"), -EEXIST);
	assert_absent(a->store, "d");
	assert_ok(kvfs_stream_close(w));
	assert_text(a->store, "d/k", "mine");
	assert_ok(api_put(a->store, "d/k", "theirs"));
	/* Without EXCL the last published wins. */
	w = open_stream(a->store, "e/k", WR | NEW);
	put_at(w, "mine", 0);
	assert_ok(api_put(a->store, "e/k", "theirs, longer"));
	assert_ok(kvfs_stream_close(w));
	assert_text(a->store, "e/k", "mine");
}

/* What took the name of a session in the way makes its publication fail, and stands. */
static void test_names_taken(void **state)
{
	struct api *a = *state;
	struct kvfs_stream *dir = open_stream(a->store, "x/k", WR | NEW), *value = open_stream(a->store, "y", WR | NEW);
	struct kvfs_stream *link = open_stream(a->store, "z", WR | NEW);

	put_at(dir, "mine", 0);
	put_at(value, "mine", 0);
	put_at(link, "mine", 0);
	assert_ok(api_put(a->store, "x", "a value"));
	assert_ok(api_put(a->store, "y/k", "in a directory"));
	assert_ok(kvfs_symlink(a->store, "t", "z"));
	assert_err(kvfs_stream_publish(dir), -ENOTDIR);
	assert_err(kvfs_stream_close(dir), -ENOTDIR);
	assert_err(kvfs_stream_publish(value), -EISDIR);
	/* It may be tried again. */
	assert_ok(kvfs_del(a->store, "y/k"));
	assert_ok(kvfs_stream_close(value));
	assert_text(a->store, "y", "mine");
	assert_text(a->store, "x", "a value");
	assert_true(kvfs_stream_close(link) < 0);
	char buf[4];
	assert_count(kvfs_readlink(a->store, "z", buf, 4), 1);
}

/* ---- sessions and the inode ---- */

static void test_renamed_and_deleted(void **state)
{
	struct api *a = *state;
	static const unsigned ways[] = {WR, WR | TRUNC, WR | NEW, WR | NEW | TRUNC};

	for (int i = 0; i < 4; i++) {
		assert_ok(api_put(a->store, "a", "abc"));
		struct kvfs_stream *w = open_stream(a->store, "a", ways[i]);
		put_at(w, "X", 0);
		assert_ok(kvfs_rename(a->store, "a", "dir/b", 0));
		assert_ok(api_put(a->store, "a", "another"));
		assert_ok(kvfs_stream_close(w));
		assert_text(a->store, "dir/b", ways[i] & TRUNC ? "X" : "Xbc");
		assert_text(a->store, "a", "another");

		/* Deleted, or replaced by a rename: it goes away with its inode. */
		w = open_stream(a->store, "a", ways[i] | RD);
		put_at(w, "X", 0);
		assert_ok(kvfs_del(a->store, "a"));
		assert_ok(kvfs_stream_publish(w));
		assert_absent(a->store, "a");
		put_at(w, "Y", 1);
		assert_true(kvfs_stream_size(w) >= 2);
		assert_ok(kvfs_stream_close(w));
		assert_absent(a->store, "a");

		assert_ok(api_put(a->store, "a", "abc"));
		w = open_stream(a->store, "a", ways[i]);
		put_at(w, "X", 0);
		assert_ok(kvfs_rename(a->store, "dir/b", "a", 0));
		assert_ok(kvfs_stream_close(w));
		assert_text(a->store, "a", ways[i] & TRUNC ? "X" : "Xbc");
		assert_ok(kvfs_del(a->store, "a"));
	}
	assert_int_equal(info_of(a->store).values, 0);
}

/* ---- parts ---- */

/* Two that change parts are both kept, in values inline and in chunks, in one chunk and in several. */
static void test_parts_are_merged(void **state)
{
	struct api *a = *state;
	struct kvfs_info info = info_of(a->store);
	const size_t lens[] = {50, info.inline_max, info.chunk_size, (size_t)info.chunk_size * 5 + 7};

	for (int i = 0; i < 4; i++) {
		size_t len = lens[i];
		char *want = api_bytes(len, 5);
		assert_ok(kvfs_put(a->store, "k", want, len, NULL, NULL));
		struct kvfs_stream *one = open_stream(a->store, "k", RD | WR), *two = open_stream(a->store, "k", WR);
		put_at(one, "first part", 0);
		put_at(two, "second part", 20);
		put_at(one, "the end", len - 7);
		memcpy(want + 0, "first part", 10);
		memcpy(want + len - 7, "the end", 7);
		assert_stream(one, want, len);
		assert_ok(kvfs_stream_close(two));
		assert_stream(one, want, len);
		assert_ok(kvfs_stream_publish(one));
		memcpy(want + 20, "second part", 11);
		assert_value(a->store, "k", want, len);
		assert_stream(one, want, len);
		/* Where they overlap, the last published. */
		two = open_stream(a->store, "k", WR);
		put_at(one, "1111", 5);
		put_at(two, "2222", 7);
		assert_ok(kvfs_stream_close(one));
		assert_ok(kvfs_stream_close(two));
		memcpy(want + 5, "11", 2);
		memcpy(want + 7, "2222", 4);
		assert_value(a->store, "k", want, len);
		free(want);
	}
}

/* Parts are replayed on the value as it is then, shorter or longer than it was. */
static void test_parts_on_another_value(void **state)
{
	struct api *a = *state;
	char *data = api_bytes(200000, 6), *zero = calloc(1, 200000);

	assert_ok(kvfs_put(a->store, "k", data, 100, NULL, NULL));
	struct kvfs_stream *w = open_stream(a->store, "k", RD | WR);
	put_at(w, "part", 50);
	assert_ok(api_put(a->store, "k", "0123456789"));
	assert_ok(kvfs_stream_close(w));
	memcpy(zero, "0123456789", 10);
	memcpy(zero + 50, "part", 4);
	assert_value(a->store, "k", zero, 54);

	/* Large where it was small. */
	w = open_stream(a->store, "k", WR);
	put_at(w, "part", 150000);
	assert_ok(kvfs_put(a->store, "k", data, 200000, NULL, NULL));
	assert_ok(kvfs_stream_close(w));
	memcpy(data + 150000, "part", 4);
	assert_value(a->store, "k", data, 200000);

	/* Small where it was large. */
	w = open_stream(a->store, "k", WR);
	put_at(w, "PART", 150000);
	assert_ok(api_put(a->store, "k", "0123456789"));
	assert_ok(kvfs_stream_close(w));
	memset(zero, 0, 200000);
	memcpy(zero, "0123456789", 10);
	memcpy(zero + 150000, "PART", 4);
	assert_value(a->store, "k", zero, 150004);

	/* Appends of others are kept, and a truncation cuts them. */
	assert_ok(api_put(a->store, "k", "0123456789"));
	w = open_stream(a->store, "k", WR);
	put_at(w, "x", 3);
	assert_ok(kvfs_append(a->store, "k", "appended", 8));
	assert_ok(kvfs_stream_close(w));
	assert_text(a->store, "k", "012x456789appended");
	w = open_stream(a->store, "k", WR);
	assert_ok(kvfs_stream_truncate(w, 12));
	assert_ok(kvfs_append(a->store, "k", "more", 4));
	assert_ok(kvfs_stream_close(w));
	assert_text(a->store, "k", "012x456789ap");
	free(data);
	free(zero);
}

/* Two that replace: the last published, whole. */
static void test_last_replacement_wins(void **state)
{
	struct api *a = *state;
	char *one = api_bytes(300000, 1), *two = api_bytes(100000, 2);

	assert_ok(api_put(a->store, "k", "old"));
	struct kvfs_stream *s1 = open_stream(a->store, "k", WR | TRUNC), *s2 = open_stream(a->store, "k", WR | NEW | TRUNC);
	assert_count(kvfs_stream_write(s1, one, 300000, 0), 300000);
	assert_count(kvfs_stream_write(s2, two, 100000, 0), 100000);
	assert_ok(kvfs_stream_close(s1));
	assert_value(a->store, "k", one, 300000);
	assert_ok(kvfs_stream_close(s2));
	assert_value(a->store, "k", two, 100000);
	free(one);
	free(two);
}

/* ---- truncation ---- */

/* What lay behind the new end never comes back: in the session, after publication, in a later session. */
static void test_cut_and_extended_reads_zeros(void **state)
{
	struct api *a = *state;
	struct kvfs_info info = info_of(a->store);
	const size_t c = info.chunk_size, max = 4 * c;
	const size_t ends[] = {
		0, 1, info.inline_max - 1, info.inline_max, info.inline_max + 1, c - 1, c, c + 1, 2 * c + 100, 3 * c, max};
	enum { N = sizeof(ends) / sizeof(*ends) };
	char *data = api_bytes(max, 7), *want = malloc(max);

	for (int cut = 0; cut < N; cut++)
		for (int up = cut; up < N; up++)
			for (int how = 0; how < 3; how++) {
				size_t full = up > 6 ? max : c + 5;
				memcpy(want, data, full);
				memset(want + ends[cut], 0, max - ends[cut]);
				assert_ok(kvfs_put(a->store, "k", data, full, NULL, NULL));
				struct kvfs_stream *w = open_stream(a->store, "k", RD | WR);
				assert_ok(kvfs_stream_truncate(w, ends[cut]));
				if (how > 0)
					assert_ok(kvfs_stream_publish(w));
				if (how > 1) {
					assert_ok(kvfs_stream_close(w));
					w = open_stream(a->store, "k", RD | WR);
				}
				assert_stream(w, want, ends[cut]);
				assert_ok(kvfs_stream_truncate(w, ends[up]));
				assert_stream(w, want, ends[up]);
				assert_ok(kvfs_stream_close(w));
				assert_value(a->store, "k", want, ends[up]);
			}
	free(data);
	free(want);
}

static void test_write_after_a_cut(void **state)
{
	struct api *a = *state;
	struct kvfs_info info = info_of(a->store);
	const size_t c = info.chunk_size;
	char *want = api_bytes(3 * c, 8);

	assert_ok(kvfs_put(a->store, "k", want, 3 * c, NULL, NULL));
	struct kvfs_stream *w = open_stream(a->store, "k", RD | WR);
	put_at(w, "lost", 2 * c + 50);
	assert_ok(kvfs_stream_truncate(w, c + 10));
	put_at(w, "far", 2 * c + 500);
	memset(want + c + 10, 0, 2 * c - 10);
	memcpy(want + 2 * c + 500, "far", 3);
	assert_stream(w, want, 2 * c + 503);
	assert_ok(kvfs_stream_close(w));
	assert_value(a->store, "k", want, 2 * c + 503);
	free(want);
}

/* ---- sparse ---- */

static void test_sparse_tebibyte(void **state)
{
	struct api *a = *state;
	const uint64_t tib = 1ull << 40;
	uint64_t file = info_of(a->store).file_bytes;
	char *buf = malloc(1 << 20);
	struct kvfs_stat st;

	struct kvfs_stream *w = open_stream(a->store, "big", RD | WR | NEW);
	put_at(w, "first", 0);
	put_at(w, "middle", tib / 2);
	put_at(w, "last", tib - 4);
	assert_int_equal(kvfs_stream_size(w), tib);
	assert_ok(kvfs_stream_publish(w));
	assert_ok(kvfs_stat(a->store, "big", &st));
	assert_int_equal(st.size, tib);
	assert_true(st.allocated < 1 << 20);
	assert_true(info_of(a->store).file_bytes < file + (8 << 20));
	assert_count(kvfs_stream_read(w, buf, 1 << 20, tib / 4), 1 << 20);
	for (int i = 0; i < 1 << 20; i++)
		assert_true(buf[i] == 0);
	assert_count(kvfs_stream_read(w, buf, 100, tib - 10), 10);
	assert_memory_equal(buf, "\0\0\0\0\0\0last", 10);
	assert_ok(kvfs_stream_truncate(w, tib / 2 + 3));
	assert_ok(kvfs_stream_close(w));
	assert_count(kvfs_get_into(a->store, "big", buf, 100, tib / 2 - 2), 5);
	assert_memory_equal(buf, "\0\0mid", 5);
	w = open_stream(a->store, "big", WR);
	assert_ok(kvfs_stream_truncate(w, tib * 100));
	assert_ok(kvfs_stream_close(w));
	assert_ok(kvfs_stat(a->store, "big", &st));
	assert_int_equal(st.size, tib * 100);
	assert_count(kvfs_get_into(a->store, "big", buf, 100, tib * 100 - 100), 100);
	uint64_t start = api_now_ms();
	assert_ok(kvfs_del(a->store, "big"));
	assert_true(api_now_ms() - start < 1000);
	free(buf);
}

static void test_limit_of_size(void **state)
{
	struct api *a = *state;
	const uint64_t max = 127ull << 40;

	struct kvfs_stream *w = open_stream(a->store, "k", RD | WR | NEW);
	assert_err(kvfs_stream_write(w, "x", 1, max), -EFBIG);
	assert_err(kvfs_stream_write(w, "xy", 2, max - 1), -EFBIG);
	assert_err(kvfs_stream_write(w, "x", 1, UINT64_MAX), -EFBIG);
	assert_err(kvfs_stream_truncate(w, max + 1), -EFBIG);
	assert_err(kvfs_stream_truncate(w, UINT64_MAX), -EFBIG);
	assert_int_equal(kvfs_stream_size(w), 0);
	put_at(w, "x", max - 1);
	assert_int_equal(kvfs_stream_size(w), max);
	assert_ok(kvfs_stream_close(w));
	struct kvfs_stat st;
	assert_ok(kvfs_stat(a->store, "k", &st));
	assert_int_equal(st.size, max);
	assert_ok(kvfs_del(a->store, "k"));
}

static int get_too_much(void *arg)
{
	const struct api *a = arg;
	struct rlimit lim = {1 << 30, 1 << 30};
	struct kvfs_store *store;
	void *data = NULL;
	size_t len = 7;

	CHECK(setrlimit(RLIMIT_DATA, &lim) == 0);
	CHECK(api_open_as(a->path, 0, KVFS_NONE, &store) == 0);
	CHECK(kvfs_get(store, "big", &data, &len) == -EFBIG);
	CHECK(data == NULL && len == 7);
	kvfs_close(store);
	return 0;
}

/* A value that memory cannot hold is for streams: said so, and nothing is filled up in the attempt. */
static void test_get_of_more_than_memory(void **state)
{
	struct api *a = *state;

	if (api_is_slow())
		skip();
	struct kvfs_stream *w = open_stream(a->store, "big", WR | NEW);
	assert_ok(kvfs_stream_truncate(w, 1ull << 40));
	assert_ok(kvfs_stream_close(w));
	assert_child(api_fork(get_too_much, a, 20));
}

/* lseek(2)'s rules: data and holes as they may be seen, every byte that is not zero in what is called data. */
static void check_seek(struct kvfs_stream *st, const char *want, size_t len)
{
	uint64_t at = 0;

	while (at < len) {
		int64_t data = kvfs_stream_seek(st, at, false), end;
		size_t next = data < 0 ? len : (size_t)data;
		assert_true(data == -ENXIO || (data >= (int64_t)at && data < (int64_t)len));
		for (size_t i = at; i < next; i++)
			assert_true(want[i] == 0);
		if (data < 0)
			return;
		assert_count(kvfs_stream_seek(st, (uint64_t)data, false), data);
		end = kvfs_stream_seek(st, (uint64_t)data, true);
		assert_true(end > data && end <= (int64_t)len);
		at = (uint64_t)end;
	}
	assert_err(kvfs_stream_seek(st, len, false), -ENXIO);
	assert_err(kvfs_stream_seek(st, len, true), -ENXIO);
	assert_err(kvfs_stream_seek(st, UINT64_MAX, true), -ENXIO);
}

static void test_seek(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(2);
	const size_t c = info_of(a->store).chunk_size, len = 40 * c + 17;
	char *want = calloc(1, len);

	struct kvfs_stream *w = open_stream(a->store, "k", RD | WR | NEW);
	assert_ok(kvfs_stream_truncate(w, len));
	check_seek(w, want, len);
	assert_err(kvfs_stream_seek(w, 0, false), -ENXIO);
	assert_count(kvfs_stream_seek(w, 5, true), 5);
	for (int i = 0; i < 6; i++) {
		size_t at = support_below(&rng, len - 3000), n = 1 + support_below(&rng, 3000);
		support_fill(&rng, want + at, n);
		assert_count(kvfs_stream_write(w, want + at, n, at), n);
		check_seek(w, want, len);
		if (i == 3)
			assert_ok(kvfs_stream_publish(w));
	}
	/* There is a hole somewhere, and it is told. */
	assert_true(kvfs_stream_seek(w, 0, true) < (int64_t)len);
	assert_ok(kvfs_stream_close(w));
	w = open_stream(a->store, "k", RD);
	check_seek(w, want, len);
	assert_ok(kvfs_stream_close(w));
	assert_value(a->store, "k", want, len);
	assert_ok(kvfs_put(a->store, "small", "0123456789", 10, NULL, NULL));
	w = open_stream(a->store, "small", RD);
	check_seek(w, "0123456789", 10);
	assert_count(kvfs_stream_seek(w, 3, true), 10);
	assert_ok(kvfs_stream_close(w));
	free(want);
}

/* ---- threads ---- */

struct worker {
	struct kvfs_store *store;
	int id, rc;
};

/* Each thread writes its own stripes of one value, a session per stripe. */
static void *stripe_thread(void *arg)
{
	struct worker *wk = arg;
	struct kvfs_stream *st;
	char stripe[1000];

	memset(stripe, 'A' + wk->id, sizeof(stripe));
	for (int i = 0; i < 50 && wk->rc == 0; i++) {
		wk->rc = kvfs_stream_open(wk->store, "k", WR, 0, &st);
		if (wk->rc)
			break;
		ssize_t n = kvfs_stream_write(st, stripe, sizeof(stripe), (uint64_t)(i * 4 + wk->id) * 1000);
		wk->rc = kvfs_stream_close(st);
		if (n != 1000)
			wk->rc = -EIO;
	}
	return NULL;
}

static void test_stripes_by_threads(void **state)
{
	struct api *a = *state;
	struct worker wk[4];
	pthread_t thread[4];
	char *want = malloc(200000);

	assert_ok(api_put(a->store, "k", ""));
	for (int t = 0; t < 4; t++) {
		wk[t] = (struct worker){.store = a->store, .id = t};
		assert_int_equal(pthread_create(&thread[t], NULL, stripe_thread, &wk[t]), 0);
	}
	for (int t = 0; t < 4; t++) {
		pthread_join(thread[t], NULL);
		assert_ok(wk[t].rc);
	}
	for (int i = 0; i < 200; i++)
		memset(want + i * 1000, 'A' + i % 4, 1000);
	assert_value(a->store, "k", want, 200000);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_reader_keeps_its_value),
		API_TEST(test_random_reads),
		API_TEST(test_open_errors),
		API_TEST(test_private_until_published),
		API_TEST(test_mode_and_attributes),
		API_TEST(test_excl),
		API_TEST(test_names_taken),
		API_TEST(test_renamed_and_deleted),
		API_TEST(test_parts_are_merged),
		API_TEST(test_parts_on_another_value),
		API_TEST(test_last_replacement_wins),
		API_TEST(test_cut_and_extended_reads_zeros),
		API_TEST(test_write_after_a_cut),
		API_TEST(test_sparse_tebibyte),
		API_TEST(test_limit_of_size),
		API_TEST(test_get_of_more_than_memory),
		API_TEST(test_seek),
		API_TEST(test_stripes_by_threads),
	};

	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
