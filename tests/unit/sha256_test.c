/* SHA-256: the examples of its standard, and every length around the ends of blocks, against sums that were made with coreutils. */
#include "sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void is(const void *data, size_t len, const char *expected)
{
	uint8_t sum[KV_SHA256_SIZE];
	char text[2 * KV_SHA256_SIZE + 1];

	kv_sha256(data, len, sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		snprintf(text + 2 * i, 3, "%02x", sum[i]);
	assert_string_equal(text, expected);
}

static void test_examples(void **state)
{
	static char million[1000000];

	(void)state;
	memset(million, 'a', sizeof(million));
	is(NULL, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	is("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
		"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	is(million, sizeof(million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* The sum of the sums of 0, 1, ... 199 bytes 'x', in base 16, a line each. */
static void test_ends_of_blocks(void **state)
{
	static char sums[200 * (2 * KV_SHA256_SIZE + 1) + 1];
	char data[200];
	uint8_t sum[KV_SHA256_SIZE];
	size_t at = 0;

	(void)state;
	memset(data, 'x', sizeof(data));
	for (size_t len = 0; len < sizeof(data); len++) {
		kv_sha256(data, len, sum);
		for (size_t i = 0; i < sizeof(sum); i++)
			at += (size_t)sprintf(sums + at, "%02x", sum[i]);
		sums[at++] = '\n';
	}
	is(sums, at, "eefa31ba9c6db774cb2535a4059ef29c02021837d737e3a51351ffc7fa629899");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_ends_of_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
