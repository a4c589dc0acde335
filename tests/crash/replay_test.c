/* Contract 5: after a power cut at any point the store opens as one state that existed, and nothing that was promised is lost.
 *
 * KVFS_CRASH_STATES  states to verify in each test of many (600, one in four of each history; the long form, all: 100000)
 * KVFS_SEED          repeats a run; a violation prints the seed of its history
 *
 * A state costs some 3 ms: files are on /dev/shm where there is one, for what is flushed is known from the trace, not from a disk. */
#include "jobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t states_wanted(void)
{
	const char *env = getenv("KVFS_CRASH_STATES");
	return env && *env ? strtoull(env, NULL, 0) : 600;
}

/* So that seed first + 1 begins with the making of a store. */
static uint64_t first_seed(void)
{
	return support_seed() % 1000000 * 1000;
}

static const struct effort usual = {.linear = 6, .random = 6, .exhaustive = 4, .second = 40};

static void must_hold(struct job job)
{
	uint64_t bad, n;
	job.replay.effort.sparse = states_wanted() < 5000 ? 4 : 0;
	n = jobs_run(&job, first_seed(), UINT64_MAX, states_wanted(), &bad);
	print_message("             %" PRIu64 " states\n", n);
	if (bad)
		fail_msg("the history of seed %" PRIu64 " has a state that must not be", bad);
}

#define HOLDS(name, at, ...)                                                                                                       \
	static void name(void **state)                                                                                             \
	{                                                                                                                          \
		(void)state;                                                                                                       \
		must_hold((struct job){.replay = {.level = at, .effort = usual}, __VA_ARGS__});                                    \
	}
HOLDS(test_one_writer, KVFS_FULL, .ops = 25, .age = 150)
HOLDS(test_large_values, KVFS_FULL, .ops = 12, .age = 60, .large = true)
HOLDS(test_several_processes, KVFS_FULL, .ops = 32, .several = true)
HOLDS(test_several_threads, KVFS_FULL, .ops = 32, .several = true, .threads = true)
HOLDS(test_mount, KVFS_FULL, .ops = 25, .age = 30, .mount = true)

/* The store goes back to a sync point; each of these has several. */
HOLDS(test_relaxed_one_writer, KVFS_RELAXED, .syncs = 7, .ops = 40, .age = 150)
HOLDS(test_relaxed_large_values, KVFS_RELAXED, .syncs = 7, .ops = 20, .age = 60, .large = true)
HOLDS(test_relaxed_several_processes, KVFS_RELAXED, .ops = 48, .several = true)
HOLDS(test_relaxed_several_threads, KVFS_RELAXED, .ops = 48, .several = true, .threads = true)
HOLDS(test_relaxed_mount, KVFS_RELAXED, .syncs = 7, .ops = 40, .age = 30, .mount = true)

/* These read nothing while they write. */
static const struct op writes[] = {{.kind = OP_PUT, .key = "a", .len = 3000, .seed = 1},
	{.kind = OP_PUT, .key = "b", .len = 9000, .seed = 2}, {.kind = OP_PUT, .key = "c", .len = 100, .seed = 3},
	{.kind = OP_PUT, .key = "a", .len = 300, .seed = 4}};
#define WRITES .syncs = 6, .menu = writes, .choices = sizeof writes / sizeof *writes
HOLDS(test_relaxed_small_writes, KVFS_RELAXED, .ops = 40, WRITES)

/* While a door is open, what returned a while ago is on the disk: about a second; more where the machine is busy. */
static void test_relaxed_is_a_second_behind(void **state)
{
	struct job job = {.ops = 30, .age = 20, .nap_ms = 200};
	uint64_t bad, n;
	(void)state;
	job.replay = (struct replay){.level = KVFS_RELAXED, .effort = usual, .lag_ms = 2500};
	n = jobs_run(&job, first_seed() + 1, first_seed() + 3, UINT64_MAX, &bad);
	print_message("             %" PRIu64 " states\n", n);
	if (bad)
		fail_msg("the history of seed %" PRIu64 " has a state that is too old", bad);
}

/* ---- does it notice? ---- */

static void must_notice(struct job job)
{
	uint64_t bad, n;
	job.replay.doomed = true;
	job.replay.most = 1000;
	job.replay.effort = usual;
	job.replay.effort.second = 0;
	n = jobs_run(&job, first_seed(), UINT64_MAX, 3000, &bad);
	print_message("             noticed after %" PRIu64 " states\n", n);
	if (!bad)
		fail_msg("what was planted was not found in %" PRIu64 " states", n);
}

#define NOTICES(name, at, what, ...)                                                                                               \
	static void name(void **state)                                                                                             \
	{                                                                                                                          \
		(void)state;                                                                                                       \
		must_notice((struct job){.ops = 40, .replay = {.level = at, .plant = what}, __VA_ARGS__});                         \
	}
NOTICES(test_notices_that_nothing_is_flushed, KVFS_FULL, PLANT_NO_FLUSH)
NOTICES(test_notices_a_flush_forgotten_now_and_then, KVFS_FULL, PLANT_FEW_FLUSHES)
NOTICES(test_notices_that_the_root_is_not_written_through, KVFS_FULL, PLANT_NO_DSYNC)
NOTICES(test_notices_that_names_are_not_flushed, KVFS_FULL, PLANT_NO_NAMES)
NOTICES(test_notices_that_sync_points_are_not_flushed, KVFS_RELAXED, PLANT_NO_FLUSH, .syncs = 5)
NOTICES(test_notices_that_no_state_is_put_back, KVFS_RELAXED, PLANT_NO_RECORD, .syncs = 5)
NOTICES(test_notices_that_an_old_state_is_put_back, KVFS_RELAXED, PLANT_STALE_RECORD, .syncs = 5)
NOTICES(test_notices_a_store_that_is_behind, KVFS_RELAXED, PLANT_NOTHING, .nap_ms = 50, .replay.lag_ms = 100)
NOTICES(test_notices_that_nothing_is_pinned, KVFS_RELAXED, PLANT_NOTHING, WRITES, .unpinned = true)
NOTICES(test_notices_a_store_without_durability, KVFS_NONE, PLANT_NOTHING)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_writer),
		cmocka_unit_test(test_large_values),
		cmocka_unit_test(test_several_processes),
		cmocka_unit_test(test_several_threads),
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_relaxed_one_writer),
		cmocka_unit_test(test_relaxed_large_values),
		cmocka_unit_test(test_relaxed_several_processes),
		cmocka_unit_test(test_relaxed_several_threads),
		cmocka_unit_test(test_relaxed_mount),
		cmocka_unit_test(test_relaxed_small_writes),
		cmocka_unit_test(test_relaxed_is_a_second_behind),
		cmocka_unit_test(test_notices_a_store_that_is_behind),
		cmocka_unit_test(test_notices_that_sync_points_are_not_flushed),
		cmocka_unit_test(test_notices_that_no_state_is_put_back),
		cmocka_unit_test(test_notices_that_an_old_state_is_put_back),
		cmocka_unit_test(test_notices_that_nothing_is_pinned),
		cmocka_unit_test(test_notices_that_nothing_is_flushed),
		cmocka_unit_test(test_notices_a_flush_forgotten_now_and_then),
		cmocka_unit_test(test_notices_that_the_root_is_not_written_through),
		cmocka_unit_test(test_notices_that_names_are_not_flushed),
		cmocka_unit_test(test_notices_a_store_without_durability),
	};

	jobs_init();
	return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
