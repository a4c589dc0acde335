/* Key syntax: every rule at its edge, the phrase and the errno agreeing; order against an independent statement of it. */
#include "path.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <kvfs.h>

/* `n` bytes 'x'; the caller frees. */
static char *filled(size_t n)
{
	char *s = malloc(n + 1);

	assert_non_null(s);
	memset(s, 'x', n);
	s[n] = '\0';
	return s;
}

static void legal(const char *key)
{
	assert_null(kv_path_fault(key));
	assert_int_equal(kv_path_check(key), 0);
}

static void illegal(const char *key, int error, const char *phrase)
{
	const char *fault = kv_path_fault(key);

	assert_non_null(fault);
	assert_non_null(strstr(fault, phrase));
	assert_int_equal(kv_path_check(key), error);
}

static void test_legal_keys(void **state)
{
	(void)state;
	legal("");
	legal("/");
	legal("a");
	legal("/a");
	legal("a/b/c");
	legal("...");
	legal(".a/..b/a./b..");
	legal(" ");
	legal("\n/\t\\*?");
	legal("\x01\xff\xfe/\x80");
}

static void test_illegal_keys(void **state)
{
	(void)state;
	illegal("//", -EINVAL, "empty");
	illegal("//a", -EINVAL, "empty");
	illegal("a/", -EINVAL, "'/' at the end");
	illegal("/a/", -EINVAL, "empty");
	illegal("a//b", -EINVAL, "\"//\"");
	illegal(".", -EINVAL, "\".\"");
	illegal("/.", -EINVAL, "\".\"");
	illegal("a/./b", -EINVAL, "\".\"");
	illegal("..", -EINVAL, "\"..\"");
	illegal("a/..", -EINVAL, "\"..\"");
	illegal("../a", -EINVAL, "\"..\"");
}

static void test_lengths(void **state)
{
	char *s;

	(void)state;
	s = filled(KVFS_NAME_MAX);
	legal(s);
	free(s);
	s = filled(KVFS_NAME_MAX + 1);
	illegal(s, -ENAMETOOLONG, "255");
	free(s);
	for (size_t extra = 0; extra <= 1; extra++) { /* the leading '/' means nothing: it does not count either */
		s = filled(extra + KVFS_KEY_MAX + 1);
		for (size_t i = extra + 200; i < extra + KVFS_KEY_MAX - 1; i += 200)
			s[i] = '/';
		if (extra)
			s[0] = '/';
		illegal(s, -ENAMETOOLONG, "4095");
		s[extra + KVFS_KEY_MAX] = '\0';
		legal(s);
		free(s);
	}
}

static void test_names(void **state)
{
	char *s;

	(void)state;
	assert_int_equal(kv_name_check("a"), 0);
	assert_int_equal(kv_name_check("...") | kv_name_check("a.") | kv_name_check(" "), 0);
	assert_int_equal(kv_name_check(""), -EINVAL);
	assert_int_equal(kv_name_check("."), -EINVAL);
	assert_int_equal(kv_name_check(".."), -EINVAL);
	assert_int_equal(kv_name_check("/"), -EINVAL);
	assert_int_equal(kv_name_check("/a"), -EINVAL);
	assert_int_equal(kv_name_check("a/b"), -EINVAL);
	s = filled(KVFS_NAME_MAX + 1);
	assert_int_equal(kv_name_check(s), -ENAMETOOLONG);
	s[KVFS_NAME_MAX] = '\0';
	assert_int_equal(kv_name_check(s), 0);
	free(s);
}

static void walk(const char *key, const char *joined)
{
	char got[64] = "";
	const char *p = key, *name;
	size_t len;

	while (kv_path_next(&p, &name, &len)) {
		strncat(got, name, len);
		strcat(got, "|");
	}
	assert_string_equal(got, joined);
}

static void test_next(void **state)
{
	(void)state;
	walk("", "");
	walk("/", "");
	walk("a", "a|");
	walk("/a", "a|");
	walk("a/bc/d", "a|bc|d|");
	walk("/a/bc/d", "a|bc|d|");
}

static int sign(int n)
{
	return (n > 0) - (n < 0);
}

/* The order in words: the first components that differ decide, by bytes; else the key that ends first. */
static int compare_by_components(const char *a, const char *b)
{
	const char *na, *nb;
	size_t la, lb;

	for (;;) {
		bool more_a = kv_path_next(&a, &na, &la), more_b = kv_path_next(&b, &nb, &lb);
		int order;

		if (!more_a || !more_b)
			return more_a - more_b;
		order = memcmp(na, nb, la < lb ? la : lb);
		if (order || la != lb)
			return order ? sign(order) : la < lb ? -1 : 1;
	}
}

static void test_compare(void **state)
{
	static const char *const sorted[] = {"", "\x01", "\x01/a", "!", "a", "a/a", "a/a/b", "a/b", "a\x01", "a!", "a.", "a.b",
		"a0", "aa", "b", "\x7f", "\x80", "\xff", "\xff/\x01"};
	size_t n = sizeof(sorted) / sizeof(sorted[0]);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; j < n; j++)
			assert_int_equal(sign(kv_path_compare(sorted[i], sorted[j])), (i > j) - (i < j));
	}
	assert_int_equal(kv_path_compare("/a/b", "a/b"), 0);
	assert_true(kv_path_compare("/", "a") < 0);
	assert_int_equal(kv_path_compare("/", ""), 0);
}

static void random_key(uint32_t *seed, char *ret)
{
	static const char bytes[] = "/ab\x01.0\xff/";
	size_t n = 0;

	for (int i = 0; i < 8; i++) {
		char c;

		*seed = *seed * 1664525 + 1013904223;
		c = bytes[*seed >> 29];
		if (c == '/' && (n == 0 || ret[n - 1] == '/'))
			continue;
		ret[n++] = c;
	}
	while (n && ret[n - 1] == '/')
		n--;
	ret[n] = '\0';
}

static void test_compare_random(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		char a[16], b[16];

		random_key(&seed, a);
		random_key(&seed, b);
		if (sign(kv_path_compare(a, b)) != compare_by_components(a, b))
			fail_msg("order of '%s' and '%s'", a, b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_legal_keys),
		cmocka_unit_test(test_illegal_keys),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_next),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_compare_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
