/* Contract 5, in the small: every history of one or two operations (KVFS_CRASH_LENGTH=3: of three, of which KVFS_CRASH_HISTORIES may say how
 * many are tried), and a cut at every write of it, also of the recovery: the store has the state before the operation or after it, and
 * nothing else. */
#include "jobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* On a store with the values "a" (short), "b" (of several chunks) and "d/x". */
static const struct op menu[] = {
	{.kind = OP_PUT, .key = "a", .len = 200, .seed = 11},
	{.kind = OP_PUT, .key = "b", .len = 40000, .seed = 12},
	{.kind = OP_PUT, .key = "n/n", .len = 2500, .seed = 13},
	{.kind = OP_APPEND, .key = "b", .len = 700, .seed = 14},
	{.kind = OP_APPEND, .key = "a", .len = 5000, .seed = 15},
	{.kind = OP_UPDATE, .key = "b", .len = 600, .at = 32700, .seed = 16},
	{.kind = OP_UPDATE, .key = "b", .cut = 1000, .seed = 17},
	{.kind = OP_REPLACE, .key = "a", .len = 300000, .seed = 18},
	{.kind = OP_REPLACE, .key = "b", .seed = 19},
	{.kind = OP_RENAME, .key = "a", .other = "b"},
	{.kind = OP_RENAME, .key = "d", .other = "e"},
	{.kind = OP_EXCHANGE, .key = "a", .other = "b"},
	{.kind = OP_LINK, .key = "b", .other = "l"},
	{.kind = OP_DEL, .key = "b"},
	{.kind = OP_DEL_TREE, .key = "d"},
	{.kind = OP_MKDIR, .key = "m"},
	{.kind = OP_DEL, .key = "m"},
	{.kind = OP_SYMLINK, .key = "s", .other = "a"},
	{.kind = OP_CHMOD, .key = "b", .seed = 20},
	{.kind = OP_SETXATTR, .key = "b", .len = 900, .seed = 21},
	{.kind = OP_TXN, .key = "a", .other = "n/o", .len = 3000, .seed = 24},
	{.kind = OP_SYNC},
};

enum { CHOICES = sizeof menu / sizeof *menu, STRIDE = 7919 /* has no divisor in common with any number of choices */ };

static unsigned length_wanted(void)
{
	const char *env = getenv("KVFS_CRASH_LENGTH");
	return env ? (unsigned)atoi(env) : 2;
}

static void all_of(enum kvfs_durability level, unsigned length, struct effort effort)
{
	uint64_t bad, n, histories = 1;
	struct job job = {.ops = length, .menu = menu, .choices = CHOICES, .replay = {.level = level, .effort = effort}};
	for (unsigned i = 0; i < length; i++)
		histories *= CHOICES;
	const char *env = getenv("KVFS_CRASH_HISTORIES");
	if (length > 2 && env && strtoull(env, NULL, 0) < histories) {
		histories = strtoull(env, NULL, 0);
		job.stride = STRIDE;
	}
	n = jobs_run(&job, 0, histories, UINT64_MAX, &bad);
	print_message("             %" PRIu64 " histories, %" PRIu64 " states\n", histories, n);
	if (bad)
		fail_msg("history %" PRIu64 " of %u operations has a state that must not be", bad, length);
}

static void test_one_operation(void **state)
{
	(void)state;
	all_of(KVFS_FULL, 1,
		(struct effort){.linear = 20, .random = 6, .exhaustive = 5, .sparse = length_wanted() > 2 ? 0 : 3, .second = 25});
}

static void test_two_operations(void **state)
{
	(void)state;
	all_of(KVFS_FULL, 2,
		(struct effort){.linear = 1, .random = 2, .exhaustive = 1, .sparse = length_wanted() > 2 ? 0 : 4, .second = 40});
}

static void test_three_operations(void **state)
{
	(void)state;
	if (length_wanted() > 2)
		all_of(KVFS_FULL, 3, (struct effort){.linear = 1, .random = 2, .exhaustive = 1, .sparse = 2, .second = 60});
}

static void test_one_operation_relaxed(void **state)
{
	(void)state;
	all_of(KVFS_RELAXED, 1,
		(struct effort){.linear = 12, .random = 6, .exhaustive = 5, .sparse = length_wanted() > 2 ? 0 : 3, .second = 25});
}

static void test_two_operations_relaxed(void **state)
{
	(void)state;
	all_of(KVFS_RELAXED, 2,
		(struct effort){.linear = 1, .random = 2, .exhaustive = 1, .sparse = length_wanted() > 2 ? 0 : 4, .second = 40});
}

static void test_three_operations_relaxed(void **state)
{
	(void)state;
	if (length_wanted() > 2)
		all_of(KVFS_RELAXED, 3, (struct effort){.linear = 1, .random = 2, .exhaustive = 1, .sparse = 2, .second = 60});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_operation),
		cmocka_unit_test(test_two_operations),
		cmocka_unit_test(test_three_operations),
		cmocka_unit_test(test_one_operation_relaxed),
		cmocka_unit_test(test_two_operations_relaxed),
		cmocka_unit_test(test_three_operations_relaxed),
	};

	jobs_init();
	return cmocka_run_group_tests_name("small", tests, NULL, NULL);
}
