/* Large sessions in little memory: what goes to hidden chunks in the store, stays hidden, is right, and is freed. */
#include "api.h"

#include <malloc.h>

#define MIB ((size_t)1 << 20)

/* The store of these tests gives its sessions one MiB of memory. */
static int setup_small_buffer(void **state)
{
	if (api_setup_dir(state))
		return -1;
	struct api *a = *state;
	struct kvfs_options opt = {
		.size = sizeof(opt), .flags = KVFS_CREATE, .durability = KVFS_NONE, .buffer_size = MIB, .purpose = "test"};
	return kvfs_open(a->path, &opt, &a->store, NULL);
}

static struct kvfs_stream *open_stream(struct kvfs_store *store, const char *key, unsigned flags)
{
	struct kvfs_stream *st = NULL;

	assert_ok(kvfs_stream_open(store, key, flags, 0644, &st));
	return st;
}

static struct kvfs_info info_of(struct kvfs_store *store)
{
	struct kvfs_info info;

	assert_ok(kvfs_info(store, &info));
	return info;
}

static long anonymous_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long kib = -1;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "RssAnon: %ld", &kib);
	fclose(f);
	return kib;
}

static void assert_stream_bytes(struct kvfs_stream *st, const char *want, size_t len)
{
	char *got = malloc(MIB);

	assert_int_equal(kvfs_stream_size(st), len);
	for (size_t at = 0; at < len; at += MIB) {
		size_t n = len - at < MIB ? len - at : MIB;
		assert_count(kvfs_stream_read(st, got, MIB, at), n);
		assert_true(api_same_bytes(got, n, want + at, n));
	}
	free(got);
}

static void assert_key_bytes(struct kvfs_store *store, const char *key, const char *want, size_t len)
{
	struct kvfs_stream *st = open_stream(store, key, KVFS_STREAM_READ);

	assert_stream_bytes(st, want, len);
	assert_ok(kvfs_stream_close(st));
}

/* Commits that have nothing to do with it reclaim what was retired. */
static void commit_often(struct kvfs_store *store, int n)
{
	char key[20];

	for (int i = 0; i < n; i++) {
		sprintf(key, "small%d", i % 10);
		assert_ok(api_put(store, key, "a small value"));
	}
}

static void test_a_long_value_in_order(void **state)
{
	struct api *a = *state;
	const size_t len = (api_is_slow() ? 24 : 100) * MIB;
	char *want = api_bytes(len, 1);

	assert_ok(api_put(a->store, "k", "old"));
	malloc_trim(0);
	long before = anonymous_kib(), most = 0;
	struct kvfs_stream *w = open_stream(a->store, "k", KVFS_STREAM_READ | KVFS_STREAM_WRITE | KVFS_STREAM_TRUNCATE);
	for (size_t at = 0; at < len; at += 128 * 1024) {
		assert_count(kvfs_stream_write(w, want + at, 128 * 1024, at), 128 * 1024);
		if (at % (8 * MIB) == 0 && anonymous_kib() - before > most)
			most = anonymous_kib() - before;
	}
	print_message("\t%ld KiB more memory\n", most);
	assert_true(api_is_slow() || most < 16 * 1024);
	assert_text(a->store, "k", "old");
	assert_stream_bytes(w, want, len);
	uint64_t start = api_now_ms();
	assert_ok(kvfs_stream_publish(w));
	print_message("\tpublished in %" PRIu64 " ms\n", api_now_ms() - start);
	assert_key_bytes(a->store, "k", want, len);
	/* Goes on after publication: some bytes here and there. */
	for (size_t at = 777; at < len; at += 5 * MIB + 3) {
		memcpy(want + at, "changed", 7);
		assert_count(kvfs_stream_write(w, "changed", 7, at), 7);
	}
	assert_stream_bytes(w, want, len);
	assert_ok(kvfs_stream_close(w));
	assert_key_bytes(a->store, "k", want, len);
	free(want);
}

static void random_writes(struct kvfs_stream *w, struct support_rng *rng, char *want, size_t len, int n)
{
	for (int i = 0; i < n; i++) {
		size_t at = support_below(rng, len - 70000), bytes = 1 + support_below(rng, support_below(rng, 4) ? 5000 : 70000);
		support_fill(rng, want + at, bytes);
		assert_count(kvfs_stream_write(w, want + at, bytes, at), bytes);
	}
}

/* Random places of a value that was there, of one that was not, with a cut and an extension in between. */
static void test_random_places(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(1);
	const size_t len = (api_is_slow() ? 12 : 40) * MIB;
	char *want = api_bytes(len, 2);

	for (int fresh = 0; fresh < 2; fresh++) {
		unsigned flags = KVFS_STREAM_READ | KVFS_STREAM_WRITE | (fresh ? KVFS_STREAM_TRUNCATE : 0);
		assert_ok(kvfs_put(a->store, "k", want, len, NULL, NULL));
		char *old = malloc(len);
		memcpy(old, want, len);
		struct kvfs_stream *w = open_stream(a->store, "k", flags);
		if (fresh)
			memset(want, 0, len);
		assert_ok(kvfs_stream_truncate(w, len));
		random_writes(w, &rng, want, len, (int)api_times(400));
		assert_ok(kvfs_stream_truncate(w, len / 2 + 12345));
		assert_ok(kvfs_stream_truncate(w, len));
		memset(want + len / 2 + 12345, 0, len - len / 2 - 12345);
		random_writes(w, &rng, want, len, (int)api_times(400));
		assert_stream_bytes(w, want, len);
		assert_key_bytes(a->store, "k", old, len);
		assert_ok(kvfs_stream_close(w));
		assert_key_bytes(a->store, "k", want, len);
		free(old);
	}
	free(want);
}

/* Spilled parts meet a value that was replaced meanwhile. */
static void test_spilled_parts_are_merged(void **state)
{
	struct api *a = *state;
	const size_t len = 12 * MIB;
	char *want = api_bytes(len, 3), *part = api_bytes(4 * MIB, 4);

	assert_ok(kvfs_put(a->store, "k", part, 100, NULL, NULL));
	struct kvfs_stream *w = open_stream(a->store, "k", KVFS_STREAM_WRITE);
	for (size_t at = 0; at < 4 * MIB; at += 10000) {
		size_t n = 4 * MIB - at < 5000 ? 4 * MIB - at : 5000;
		assert_count(kvfs_stream_write(w, part + at, n, 3 * MIB + 77 + at), n);
	}
	assert_ok(kvfs_put(a->store, "k", want, len, NULL, NULL));
	for (size_t at = 0; at < 4 * MIB; at += 10000) {
		size_t n = 4 * MIB - at < 5000 ? 4 * MIB - at : 5000;
		memcpy(want + 3 * MIB + 77 + at, part + at, n);
	}
	assert_ok(kvfs_stream_close(w));
	assert_key_bytes(a->store, "k", want, len);
	free(part);
	free(want);
}

/* Many sessions at once share the one MiB. */
static void test_many_sessions(void **state)
{
	struct api *a = *state;
	enum { N = 40 };
	struct kvfs_stream *w[N];
	char *data[N], key[20];
	const size_t len = 300000;

	for (int i = 0; i < N; i++) {
		sprintf(key, "k%d", i);
		w[i] = open_stream(a->store, key, KVFS_STREAM_READ | KVFS_STREAM_WRITE | KVFS_STREAM_CREATE);
		data[i] = api_bytes(len, (uint64_t)i + 10);
	}
	malloc_trim(0);
	long before = anonymous_kib();
	for (size_t at = 0; at < len; at += 10000)
		for (int i = 0; i < N; i++)
			assert_count(kvfs_stream_write(w[i], data[i] + at, 10000, at), 10000);
	long more = anonymous_kib() - before;
	print_message("\t%d sessions with %zu bytes each: %ld KiB more\n", N, len, more);
	assert_true(api_is_slow() || more < 12 * 1024);
	for (int i = 0; i < N; i++) {
		sprintf(key, "k%d", i);
		assert_absent(a->store, key);
		assert_stream_bytes(w[i], data[i], len);
		if (i % 3 == 0) {
			kvfs_stream_abort(w[i]);
			assert_absent(a->store, key);
		} else {
			assert_ok(kvfs_stream_close(w[i]));
			assert_key_bytes(a->store, key, data[i], len);
		}
		free(data[i]);
	}
}

/* ---- space ---- */

static void fill_session(struct kvfs_stream *w, const char *data, size_t len)
{
	for (size_t at = 0; at < len; at += 64 * 1024)
		assert_count(kvfs_stream_write(w, data + at, 64 * 1024, at), 64 * 1024);
}

/* Aborted, replaced, deleted: the store does not grow when it is done over and over. */
static void test_space_comes_back(void **state)
{
	struct api *a = *state;
	const size_t len = 8 * MIB;
	char *data = api_bytes(len, 5);
	uint64_t early = 0;

	for (int round = 0; round < 12; round++) {
		struct kvfs_stream *w = open_stream(a->store, "aborted", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE);
		fill_session(w, data, len);
		kvfs_stream_abort(w);
		assert_absent(a->store, "aborted");
		w = open_stream(a->store, "replaced", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE);
		fill_session(w, data, len);
		assert_ok(kvfs_stream_close(w));
		assert_ok(kvfs_put(a->store, "deleted", data, len, NULL, NULL));
		assert_ok(kvfs_del(a->store, "deleted"));
		commit_often(a->store, 30);
		if (round == 3)
			early = info_of(a->store).file_bytes;
	}
	uint64_t late = info_of(a->store).file_bytes;
	print_message("\tafter 4 rounds %" PRIu64 " MiB, after 12 %" PRIu64 " MiB\n", early >> 20, late >> 20);
	assert_true(late <= early + 8 * MIB);
	assert_true(late < 100 * MIB);
	/* Given some commits, nothing is left to free. */
	assert_ok(kvfs_del(a->store, "replaced"));
	commit_often(a->store, 300);
	struct kvfs_info info = info_of(a->store);
	assert_true(info.garbage_bytes < MIB);
	assert_true(info.used_bytes < 2 * MIB);
	free(data);
}

/* Short-lived doors without any other keep a store from growing, too. */
static void test_space_comes_back_to_short_lived_doors(void **state)
{
	struct api *a = *state;
	char *data = api_bytes(4 * MIB, 6);
	uint64_t early = 0, late = 0;

	kvfs_close(a->store);
	a->store = NULL;
	for (int round = 0; round < 40; round++) {
		struct kvfs_store *store = api_open(a->path, 0);
		assert_ok(kvfs_put(store, "k", data, 4 * MIB, NULL, NULL));
		late = info_of(store).file_bytes;
		if (round == 8)
			early = late;
		kvfs_close(store);
	}
	print_message("\tafter 9 doors %" PRIu64 " MiB, after 40 %" PRIu64 " MiB\n", early >> 20, late >> 20);
	assert_true(late <= early + 4 * MIB && late < 40 * MIB);
	free(data);
}

static int spill_and_die(void *arg)
{
	const struct api *a = arg;
	struct kvfs_options opt = {.size = sizeof(opt), .durability = KVFS_NONE, .buffer_size = MIB};
	struct kvfs_store *store;
	struct kvfs_stream *w;
	char *data = calloc(1, 65536);

	CHECK(data && kvfs_open(a->path, &opt, &store, NULL) == 0);
	CHECK(kvfs_stream_open(store, "died", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &w) == 0);
	for (uint64_t at = 0; at < 8 * MIB; at += 65536)
		CHECK(kvfs_stream_write(w, data, 65536, at) == 65536);
	raise(SIGKILL);
	return 1;
}

/* The hidden chunks of a session that was killed are freed by those who live on. */
static void test_space_of_the_dead(void **state)
{
	struct api *a = *state;
	uint64_t early = 0;

	kvfs_close(a->store);
	a->store = NULL;
	for (int round = 0; round < 10; round++) {
		int status = api_wait(api_fork(spill_and_die, a, 30));
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		struct kvfs_store *store = api_open(a->path, 0);
		assert_absent(store, "died");
		commit_often(store, 60);
		uint64_t now = info_of(store).file_bytes;
		if (round == 4)
			early = now;
		if (round == 9) {
			print_message("\tafter 5 deaths %" PRIu64 " MiB, after 10 %" PRIu64 " MiB\n", early >> 20, now >> 20);
			assert_true(now <= early + 8 * MIB);
		}
		kvfs_close(store);
	}
}

/* A value of any size goes at once. */
static void test_deletion_is_bounded(void **state)
{
	struct api *a = *state;
	const size_t len = (api_is_slow() ? 32 : 200) * MIB;
	char *part = api_bytes(MIB, 7);

	struct kvfs_stream *w = open_stream(a->store, "k", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE);
	for (size_t at = 0; at < len; at += MIB)
		assert_count(kvfs_stream_write(w, part, MIB, at), MIB);
	assert_ok(kvfs_stream_close(w));
	uint64_t file = info_of(a->store).file_bytes, start = api_now_ms();
	assert_ok(kvfs_del(a->store, "k"));
	uint64_t ms = api_now_ms() - start;
	print_message("\t%zu MiB deleted in %" PRIu64 " ms\n", len / MIB, ms);
	assert_true(api_is_slow() || ms < 100);
	/* Freed in slices: no commit takes long. */
	uint64_t worst = 0;
	for (int i = 0; i < 200; i++) {
		start = api_now_ms();
		assert_ok(api_put(a->store, "small", "x"));
		ms = api_now_ms() - start;
		worst = ms > worst ? ms : worst;
	}
	print_message("\tslowest small commit meanwhile: %" PRIu64 " ms\n", worst);
	assert_true(api_is_slow() || worst < 200);
	w = open_stream(a->store, "k", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE);
	for (size_t at = 0; at < len; at += MIB)
		assert_count(kvfs_stream_write(w, part, MIB, at), MIB);
	assert_ok(kvfs_stream_close(w));
	assert_true(info_of(a->store).file_bytes < file + len / 4);
	free(part);
}

#define SPILL_TEST(f) cmocka_unit_test_setup_teardown(f, setup_small_buffer, api_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SPILL_TEST(test_a_long_value_in_order),
		SPILL_TEST(test_random_places),
		SPILL_TEST(test_spilled_parts_are_merged),
		SPILL_TEST(test_many_sessions),
		SPILL_TEST(test_space_comes_back),
		SPILL_TEST(test_space_comes_back_to_short_lived_doors),
		SPILL_TEST(test_space_of_the_dead),
		SPILL_TEST(test_deletion_is_bounded),
	};

	return cmocka_run_group_tests_name("spill", tests, NULL, NULL);
}
