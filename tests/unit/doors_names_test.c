/* The table of doors: names that O_EXCL has reserved.  The store's write lock, which its callers have, is nobody's here: all is done in turns. */
#include "doors_support.h"

static void test_one_holder(void **state)
{
	struct kv_doors *d = open_door("test");
	unsigned a, b;

	(void)state;
	assert_false(kv_doors_name_taken(d, 1, "k", 1, 0));
	assert_ok(kv_doors_name_take(d, 1, "k", 1, &a));
	/* Two sessions of one process are two holders. */
	assert_err(kv_doors_name_take(d, 1, "k", 1, &b), -EEXIST);
	assert_ok(kv_doors_name_take(d, 2, "k", 1, &b));
	assert_true(a && b && a != b);
	assert_true(kv_doors_name_taken(d, 1, "k", 1, 0));
	assert_true(kv_doors_name_taken(d, 1, "k", 1, b));
	assert_false(kv_doors_name_taken(d, 1, "k", 1, a));
	assert_false(kv_doors_name_taken(d, 1, "kk", 2, 0));
	assert_false(kv_doors_name_taken(d, 3, "k", 1, 0));
	kv_doors_name_give_back(d, a);
	assert_false(kv_doors_name_taken(d, 1, "k", 1, 0));
	assert_true(kv_doors_name_taken(d, 2, "k", 1, 0));
	assert_ok(kv_doors_name_take(d, 1, "k", 1, &a));
	kv_doors_name_give_back(d, a);
	kv_doors_name_give_back(d, b);
	kv_doors_close(d, false);
}

static void test_paths(void **state)
{
	struct kv_doors *d = open_door("test");
	unsigned a, b;

	(void)state;
	assert_false(kv_doors_any_path(d));
	assert_ok(kv_doors_name_take(d, 1, "k", 1, &a));
	assert_false(kv_doors_any_path(d));
	assert_ok(kv_doors_name_take(d, 1, "d/k", 3, &b));
	assert_true(kv_doors_any_path(d));
	assert_err(kv_doors_name_take(d, 1, "d/k", 3, &b), -EEXIST);
	assert_true(kv_doors_name_taken(d, 1, "d/k", 3, a));
	kv_doors_name_give_back(d, a);
	assert_true(kv_doors_any_path(d));
	kv_doors_name_give_back(d, b);
	assert_false(kv_doors_any_path(d));
	kv_doors_close(d, false);
}

static int child_reserves(struct child_end *end)
{
	struct kv_doors *d = child_door();
	unsigned own;

	CHECK(d && kv_doors_name_take(d, 1, "childs", 6, &own) == 0);
	rendezvous(end);
	kv_doors_close(d, false);
	return 0;
}

/* A reservation ends with its door, however that ends, and whoever has the slot then. */
static void test_the_dead_reserve_nothing(void **state)
{
	struct kv_doors *d = open_door("test");
	unsigned own;
	bool all;

	(void)state;
	for (int way = 0; way < 3; way++) {
		struct child c = child_start(child_reserves);
		child_ready(&c);
		assert_true(kv_doors_name_taken(d, 1, "childs", 6, 0));
		assert_err(kv_doors_name_take(d, 1, "childs", 6, &own), -EEXIST);
		if (way == 0) {
			child_go(&c);
			assert_int_equal(child_status(&c), 0);
		} else {
			child_kill(&c);
		}
		for (int i = 0; way == 2 && i < KV_DOORS_MAX; i++) /* somebody cleans up behind it */
			kv_doors_released(d, &(uint64_t){0}, 1, &all);
		assert_false(kv_doors_name_taken(d, 1, "childs", 6, 0));
		struct child next = child_start(child_lives);
		child_ready(&next);
		assert_false(kv_doors_name_taken(d, 1, "childs", 6, 0));
		assert_ok(kv_doors_name_take(d, 1, "childs", 6, &own));
		kv_doors_name_give_back(d, own);
		child_kill(&next);
	}
	kv_doors_close(d, false);
}

static int child_fills(struct child_end *end)
{
	struct kv_doors *d = child_door();
	unsigned own;

	CHECK(d);
	for (uint64_t i = 1; i <= KV_NAMES_MAX; i++)
		CHECK(kv_doors_name_take(d, i, "n", 1, &own) == 0);
	CHECK(kv_doors_name_take(d, 1 << 20, "n", 1, &own) == -ENFILE);
	rendezvous(end);
	return 0;
}

static void test_full(void **state)
{
	struct kv_doors *d = open_door("test");
	struct child c = child_start(child_fills);
	unsigned own;

	(void)state;
	child_ready(&c);
	assert_err(kv_doors_name_take(d, 1 << 20, "n", 1, &own), -ENFILE);
	assert_err(kv_doors_name_take(d, 77, "n", 1, &own), -EEXIST);
	child_kill(&c);
	for (uint64_t i = 1; i <= KV_NAMES_MAX; i++)
		assert_ok(kv_doors_name_take(d, i, "n", 1, &own));
	assert_err(kv_doors_name_take(d, 1 << 20, "n", 1, &own), -ENFILE);
	for (unsigned i = 1; i <= KV_NAMES_MAX; i++)
		kv_doors_name_give_back(d, i);
	/* Given back, all of them cost nothing any more once one is taken. */
	assert_ok(kv_doors_name_take(d, 1, "n", 1, &own));
	uint32_t end;
	int fd = openat(dir, "doors", O_RDONLY | O_CLOEXEC); /* ends this process's door: locks fall */
	assert_int_equal(pread(fd, &end, sizeof end, NAMES_END_AT), sizeof end);
	close(fd);
	assert_int_equal(end, 1);
	kv_doors_close(d, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_holder),
		TEST(test_paths),
		TEST(test_the_dead_reserve_nothing),
		TEST(test_full),
	};

	return cmocka_run_group_tests_name("doors_names", tests, NULL, NULL);
}
