/* The external sort: in order, nothing lost, the later of equal keys later; whatever the memory. */
#include "sort.h"
#include "support.h"

#include <kvfs.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORDS = 20000, KEYS = 3000 };

/* So little memory that there are runs of several levels, or so much that there is one. */
static void sort_many(size_t memory)
{
	struct support_rng rng = support_rng(memory);
	static unsigned seen[RECORDS];
	char key[64], last[64] = "";
	unsigned before = 0, n = 0;
	struct sorter *s;
	const char *k;
	const void *data;
	size_t len;
	int r;

	memset(seen, 0, sizeof(seen));
	assert_ok(sorter_new(memory, &s));
	for (unsigned i = 0; i < RECORDS; i++) {
		unsigned words[40] = {i};
		unsigned j = (unsigned)support_below(&rng, KEYS);

		snprintf(key, sizeof(key), "%u/%u-%u", j % 7, j, j % 100);
		assert_ok(sorter_add(s, key, words, sizeof(words[0]) * (1 + i % 40)));
	}
	assert_ok(sorter_finish(s));
	while ((r = sorter_next(s, &k, &data, &len)) > 0) {
		unsigned i = *(const unsigned *)data;

		assert_int_equal(len, sizeof(unsigned) * (1 + i % 40));
		assert_true(kvfs_key_compare(last, k) < 0 || (strcmp(last, k) == 0 && before < i));
		assert_int_equal(seen[i]++, 0);
		snprintf(last, sizeof(last), "%s", k);
		before = i;
		n++;
	}
	assert_ok(r);
	assert_int_equal(n, RECORDS);
	sorter_free(s);
}

static void test_in_order_and_stable(void **state)
{
	(void)state;
	sort_many(4 << 10); /* some 500 runs */
	sort_many(64 << 10);
	sort_many(64 << 20);
}

static void test_records_larger_than_the_memory(void **state)
{
	const size_t size = 1 << 20;
	char *large = calloc(1, size);
	const char *key;
	const void *data;
	struct sorter *s;
	size_t len;

	(void)state;
	assert_ok(sorter_new(4096, &s));
	assert_ok(sorter_add(s, "c", "small", 5));
	assert_ok(sorter_add(s, "b", large, size));
	assert_ok(sorter_add(s, "a", "", 0));
	assert_ok(sorter_add(s, "b", large, size - 1));
	assert_ok(sorter_finish(s));
	for (int i = 0; i < 4; i++) {
		assert_count(sorter_next(s, &key, &data, &len), 1);
		assert_string_equal(key, i == 0 ? "a" : i == 3 ? "c" : "b");
		assert_int_equal(len, i == 0 ? 0 : i == 3 ? 5 : size + 1 - (size_t)i);
	}
	assert_count(sorter_next(s, &key, &data, &len), 0);
	sorter_free(s);
	free(large);
}

static void test_nothing(void **state)
{
	const char *key;
	const void *data;
	struct sorter *s;
	size_t len;

	(void)state;
	assert_ok(sorter_new(4096, &s));
	assert_ok(sorter_finish(s));
	assert_count(sorter_next(s, &key, &data, &len), 0);
	sorter_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order_and_stable),
		cmocka_unit_test(test_records_larger_than_the_memory),
		cmocka_unit_test(test_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
