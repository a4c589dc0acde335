/* Contract 5: after a power cut at any point the store opens as one state that existed, and nothing that was promised is lost.
 *
 * KVFS_CRASH_STATES  states to verify in each test of many (1000; the long form: 100000)
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
	return env && *env ? strtoull(env, NULL, 0) : 1000;
}

/* So that seed first + 1 begins with the making of a store. */
static uint64_t first_seed(void)
{
	return support_seed() % 1000000 * 1000;
}

static const struct effort usual = {.linear = 6, .random = 6, .exhaustive = 4, .second = 40};

static void must_hold(struct job job)
{
	uint64_t bad, n = jobs_run(&job, first_seed(), UINT64_MAX, states_wanted(), &bad);
	print_message("             %" PRIu64 " states\n", n);
	if (bad)
		fail_msg("the history of seed %" PRIu64 " has a state that must not be", bad);
}

static void test_one_writer(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 25, .age = 150, .replay = {.level = KVFS_FULL, .effort = usual}});
}

static void test_large_values(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 12, .age = 60, .large = true, .replay = {.level = KVFS_FULL, .effort = usual}});
}

static void test_several_processes(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 32, .several = true, .replay = {.level = KVFS_FULL, .effort = usual}});
}

static void test_several_threads(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 32, .several = true, .threads = true, .replay = {.level = KVFS_FULL, .effort = usual}});
}

static void test_mount(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 25, .age = 30, .mount = true, .replay = {.level = KVFS_FULL, .effort = usual}});
}

/* ---- does it notice? ---- */

static void must_notice(enum disk_plant plant, enum kvfs_durability level)
{
	uint64_t bad, n;
	struct job job = {.ops = 40, .replay = {.level = level, .plant = plant, .doomed = true, .effort = usual, .most = 1000}};
	job.replay.effort.second = 0;
	n = jobs_run(&job, first_seed(), UINT64_MAX, 3000, &bad);
	print_message("             noticed after %" PRIu64 " states\n", n);
	if (!bad)
		fail_msg("what was planted was not found in %" PRIu64 " states", n);
}

static void test_notices_that_nothing_is_flushed(void **state)
{
	(void)state;
	must_notice(PLANT_NO_FLUSH, KVFS_FULL);
}

static void test_notices_a_flush_forgotten_now_and_then(void **state)
{
	(void)state;
	must_notice(PLANT_FEW_FLUSHES, KVFS_FULL);
}

static void test_notices_that_the_root_is_not_written_through(void **state)
{
	(void)state;
	must_notice(PLANT_NO_DSYNC, KVFS_FULL);
}

static void test_notices_that_names_are_not_flushed(void **state)
{
	(void)state;
	must_notice(PLANT_NO_NAMES, KVFS_FULL);
}

static void test_notices_a_store_without_durability(void **state)
{
	(void)state;
	must_notice(PLANT_NOTHING, KVFS_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_writer),
		cmocka_unit_test(test_large_values),
		cmocka_unit_test(test_several_processes),
		cmocka_unit_test(test_several_threads),
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_notices_that_nothing_is_flushed),
		cmocka_unit_test(test_notices_a_flush_forgotten_now_and_then),
		cmocka_unit_test(test_notices_that_the_root_is_not_written_through),
		cmocka_unit_test(test_notices_that_names_are_not_flushed),
		cmocka_unit_test(test_notices_a_store_without_durability),
	};

	jobs_init();
	return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
