/* Old values without hoarding (contract, section 4): what is held keeps its own old data, and nothing else's. */
#include "api.h"

#include <kvfs_ll.h>

#define MIB ((size_t)1 << 20)

enum {
	HELD = 10000, /* values held open; */
	REPLACED = 10, /* of them, those that are replaced meanwhile */
	OTHERS = 24, /* values nobody holds */
	REWRITES = 10
};
#define SMALL 12000u
#define PARTS (16 * MIB)

static uint64_t ino_of(struct kvfs_store *s, const char *key)
{
	struct kvfs_stat st;

	assert_ok(kvfs_stat(s, key, &st));
	return st.ino;
}

/* What value i has after its n-th writing, from `data`. */
static const char *bytes_of(const char *data, unsigned i, unsigned n)
{
	return data + i % 5000 + 7 * n;
}

static size_t size_of(unsigned i)
{
	return i < REPLACED ? MIB : SMALL;
}

static void put_value(struct kvfs_store *s, const char *data, unsigned i, unsigned n)
{
	char key[20];

	sprintf(key, "held/%u", i);
	assert_ok(kvfs_put(s, key, bytes_of(data, i, n), size_of(i), NULL, NULL));
}

/* Writes what nobody holds: most by replacing it, one value in parts, of which some lie where the time before had some, and some do not. */
static void rewrite(struct kvfs_store *s, const char *data, unsigned n)
{
	struct kvfs_session *session;
	char key[20];

	for (unsigned i = 0; i < OTHERS; i++) {
		sprintf(key, "others/%u", i);
		assert_ok(kvfs_put(s, key, bytes_of(data, i, n), 2 * MIB, NULL, NULL));
	}
	assert_ok(kvfs_session_open(s, ino_of(s, "parts"), n == 0, &session));
	for (size_t at = n * 1000; at + 30000 < PARTS; at += n ? 30000 + n * 500 : 30000)
		assert_count(kvfs_session_write(session, data + at % MIB, 30000, at), 30000);
	assert_ok(kvfs_session_publish(session));
	kvfs_session_close(session);
}

static void verify(struct kvfs_value *v, const char *want, size_t len)
{
	char *got = malloc(len + 1);

	for (size_t at = 0; at < len; at += MIB)
		assert_count(
			kvfs_value_read(v, got + at, len - at < MIB ? len - at + 1 : MIB, at), len - at < MIB ? len - at : MIB);
	assert_true(api_same_bytes(got, len, want, len));
	free(got);
}

/* Each handle reads its own version to the end, and the file stays within twice of what lives, and the old versions held. */
static void test_a_store_rewritten_under_ten_thousand_handles(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	const unsigned held = api_is_slow() ? HELD / 10 : HELD;
	struct kvfs_value **v = calloc(held, sizeof(*v));
	char *data = api_bytes(4 * MIB, 1), key[20];
	struct kvfs_info info;
	uint64_t most = 0;

	assert_ok(api_put(s, "parts", ""));
	rewrite(s, data, 0);
	for (unsigned i = 0; i < held; i++) {
		put_value(s, data, i, 0);
		sprintf(key, "held/%u", i);
		assert_ok(kvfs_value_open(s, ino_of(s, key), &v[i], NULL));
	}
	for (unsigned n = 1; n <= REWRITES; n++) {
		for (unsigned i = 0; i < REPLACED; i++)
			put_value(s, data, i, n);
		rewrite(s, data, n);
		assert_ok(kvfs_info(s, &info));
		most = info.file_bytes > most ? info.file_bytes : most;
		verify(v[n % REPLACED], bytes_of(data, n % REPLACED, 0), MIB);
	}
	print_message("\t%" PRIu64 " MiB live, %u held; the file: %" PRIu64 " MiB\n", (uint64_t)(info.value_bytes / MIB), REPLACED,
		(uint64_t)(most / MIB));
	assert_true(most <= 2 * info.value_bytes + REPLACED * MIB);
	for (unsigned i = 0; i < held; i++) {
		verify(v[i], bytes_of(data, i, 0), size_of(i));
		kvfs_value_close(v[i]);
	}
	for (unsigned i = 0; i < REPLACED; i++) {
		sprintf(key, "held/%u", i);
		assert_value(s, key, bytes_of(data, i, REWRITES), MIB);
	}
	for (unsigned i = 0; i < 200; i++) /* what was held goes with those who held it */
		assert_ok(api_put(s, "small", "x"));
	assert_ok(kvfs_info(s, &info));
	assert_true(info.garbage_bytes < MIB);
	free(v);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_a_store_rewritten_under_ten_thousand_handles),
	};

	return cmocka_run_group_tests_name("old", tests, NULL, NULL);
}
