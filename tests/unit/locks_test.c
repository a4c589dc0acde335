/* The table of locks: against a model with one entry for each byte and owner, and rule by rule. */
#include "locks.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

enum { BYTES = 24, OWNERS = 4, INO = 7 };

static struct kv_locks *t;
static struct kv_list turns;

static int setup(void **state)
{
	(void)state;
	t = kv_locks_new(1000, 100);
	kv_list_init(&turns);
	return t ? 0 : -1;
}

/* Nothing is left in the table by those who ended all their locks. */
static int teardown(void **state)
{
	(void)state;
	kv_locks_free(t);
	return 0;
}

static struct kv_lock lock(uint64_t owner, enum kv_lock_type type, uint64_t first, uint64_t last)
{
	return (struct kv_lock){.ino = INO, .owner = owner, .type = type, .first = first, .last = last, .pid = (pid_t)owner};
}

static int set(uint64_t owner, enum kv_lock_type type, uint64_t first, uint64_t last)
{
	struct kv_lock want = lock(owner, type, first, last);

	return kv_locks_set(t, &want, NULL, &turns);
}

/* Requests are told by their address. */
static char requests[200];

static int ask(unsigned request, uint64_t owner, enum kv_lock_type type, uint64_t first, uint64_t last)
{
	struct kv_lock want = lock(owner, type, first, last);

	return kv_locks_set(t, &want, &requests[request], &turns);
}

static int ask_flock(unsigned request, uint64_t owner, enum kv_lock_type type)
{
	struct kv_lock want = lock(owner, type, 0, KV_LOCK_END);

	want.flock = true;
	return kv_locks_set(t, &want, request ? &requests[request] : NULL, &turns);
}

/* Takes the next turn: the number of the request, 0 when there is none. */
static unsigned turn(int result)
{
	struct kv_lock_wait *w = kv_locks_turn(&turns);
	unsigned request;

	if (!w)
		return 0;
	assert_err(w->result, result);
	request = (unsigned)((char *)w->request - requests);
	free(w);
	return request;
}

static bool cancel(unsigned request)
{
	struct kv_lock_wait *w = kv_locks_cancel(t, &requests[request]);

	free(w);
	return w;
}

/* ---- what is held */

static enum kv_lock_type model[OWNERS][BYTES];

static bool model_blocked(unsigned owner, enum kv_lock_type type, unsigned first, unsigned last)
{
	for (unsigned other = 0; other < OWNERS; other++)
		for (unsigned at = first; other != owner && at <= last; at++)
			if (model[other][at] == KV_LOCK_WRITE || (type == KV_LOCK_WRITE && model[other][at] != KV_LOCK_NONE))
				return true;
	return false;
}

/* As few locks as there are runs of one type. */
static size_t model_runs(void)
{
	size_t runs = 0;

	for (unsigned owner = 0; owner < OWNERS; owner++)
		for (unsigned at = 0; at < BYTES; at++)
			runs += model[owner][at] != KV_LOCK_NONE && (at == 0 || model[owner][at - 1] != model[owner][at]);
	return runs;
}

static bool model_yields(unsigned owner, enum kv_lock_type type, unsigned first, unsigned last)
{
	for (unsigned at = first; at <= last; at++)
		if (model[owner][at] > type)
			return true;
	return false;
}

static void test_like_the_model(void **state)
{
	struct support_rng rng = support_rng(1);

	(void)state;
	memset(model, 0, sizeof(model));
	for (int i = 0; i < 200000; i++) {
		unsigned owner = (unsigned)support_below(&rng, OWNERS), first = (unsigned)support_below(&rng, BYTES);
		unsigned last = first + (unsigned)support_below(&rng, BYTES - first);
		enum kv_lock_type type = (enum kv_lock_type)support_below(&rng, 3);
		bool blocked = type != KV_LOCK_NONE && model_blocked(owner, type, first, last);
		struct kv_lock want = lock(owner, type, first, last), found;

		assert_int_equal(kv_locks_blocked(t, &want, &found), blocked);
		if (blocked)
			assert_int_equal(model[found.owner][found.first > first ? found.first : first], found.type);
		assert_int_equal(kv_locks_yields(t, &want), model_yields(owner, type, first, last));
		assert_err(set(owner, type, first, last), blocked ? -EAGAIN : 0);
		for (unsigned at = first; !blocked && at <= last; at++)
			model[owner][at] = type;
		assert_int_equal(t->held, model_runs());
	}
	for (unsigned owner = 0; owner < OWNERS; owner++)
		assert_ok(set(owner, KV_LOCK_NONE, 0, KV_LOCK_END));
	assert_int_equal(t->held, 0);
}

static void test_to_the_end(void **state)
{
	struct kv_lock want = lock(2, KV_LOCK_READ, KV_LOCK_END, KV_LOCK_END), found;

	(void)state;
	assert_ok(set(1, KV_LOCK_WRITE, 10, KV_LOCK_END));
	assert_true(kv_locks_blocked(t, &want, &found));
	assert_int_equal(found.first, 10);
	assert_int_equal(found.last, KV_LOCK_END);
	assert_ok(set(1, KV_LOCK_NONE, 20, KV_LOCK_END));
	assert_false(kv_locks_blocked(t, &want, &found));
	assert_ok(set(2, KV_LOCK_WRITE, 20, KV_LOCK_END));
}

static void test_full(void **state)
{
	(void)state;
	kv_locks_free(t);
	t = kv_locks_new(3, 1);
	assert_ok(set(1, KV_LOCK_WRITE, 0, 100));
	assert_ok(set(1, KV_LOCK_NONE, 10, 10));
	assert_ok(set(1, KV_LOCK_NONE, 20, 20));
	/* no more pieces; an unlock that makes none, and a merge, still work */
	assert_err(set(1, KV_LOCK_NONE, 30, 30), -ENOLCK);
	assert_err(set(1, KV_LOCK_READ, 30, 30), -ENOLCK);
	assert_err(set(2, KV_LOCK_READ, 200, 200), -ENOLCK);
	assert_ok(set(1, KV_LOCK_WRITE, 20, 20));
	assert_ok(set(1, KV_LOCK_NONE, 0, 9));
	assert_int_equal(t->held, 1);
	assert_err(ask(1, 2, KV_LOCK_READ, 50, 50), -EINPROGRESS);
	assert_err(ask(2, 3, KV_LOCK_READ, 50, 50), -ENOLCK);
	assert_ok(set(1, KV_LOCK_NONE, 40, 60));
	assert_int_equal(turn(0), 1);
	assert_err(ask(2, 3, KV_LOCK_WRITE, 50, 50), -EINPROGRESS);
	assert_true(cancel(2));
}

/* ---- who waits */

static void test_turns_in_order(void **state)
{
	(void)state;
	assert_ok(ask(1, 1, KV_LOCK_WRITE, 0, 9));
	assert_err(ask(2, 2, KV_LOCK_WRITE, 0, 4), -EINPROGRESS);
	assert_err(ask(3, 3, KV_LOCK_READ, 4, 4), -EINPROGRESS);
	assert_err(ask(4, 4, KV_LOCK_READ, 5, 9), -EINPROGRESS);
	assert_err(ask(5, 5, KV_LOCK_READ, 5, 5), -EINPROGRESS);
	assert_ok(set(1, KV_LOCK_NONE, 0, 1));
	assert_int_equal(turn(0), 0);
	assert_ok(set(1, KV_LOCK_READ, 0, 9));
	assert_int_equal(turn(0), 3);
	assert_int_equal(turn(0), 4);
	assert_int_equal(turn(0), 5);
	assert_int_equal(turn(0), 0);
	assert_ok(set(1, KV_LOCK_NONE, 0, 9));
	assert_int_equal(turn(0), 0);
	assert_ok(set(3, KV_LOCK_NONE, 0, 9));
	assert_int_equal(turn(0), 2);
	assert_int_equal(t->waits, 0);
}

static void test_cancel(void **state)
{
	(void)state;
	assert_ok(set(1, KV_LOCK_WRITE, 0, 9));
	assert_err(ask(2, 2, KV_LOCK_WRITE, 0, 4), -EINPROGRESS);
	assert_err(ask(3, 3, KV_LOCK_WRITE, 0, 4), -EINPROGRESS);
	assert_true(cancel(2));
	assert_false(cancel(2));
	assert_ok(set(1, KV_LOCK_NONE, 0, 9));
	assert_false(cancel(3));
	assert_int_equal(turn(0), 3);
	assert_null(kv_locks_cancel_any(t));
}

/* One turn makes room for another: a wish that had to wait gives up a part. */
static void test_a_turn_that_yields(void **state)
{
	(void)state;
	assert_ok(set(1, KV_LOCK_WRITE, 0, 4));
	assert_ok(set(2, KV_LOCK_WRITE, 5, 9));
	assert_err(ask(3, 3, KV_LOCK_READ, 9, 9), -EINPROGRESS);
	assert_err(ask(2, 2, KV_LOCK_READ, 0, 9), -EINPROGRESS);
	assert_ok(set(1, KV_LOCK_NONE, 0, 4));
	assert_int_equal(turn(0), 2);
	assert_int_equal(turn(0), 3);
}

static void test_drop(void **state)
{
	struct kv_lock by_process = lock(1, KV_LOCK_WRITE, 0, 9), by_file = lock(2, KV_LOCK_WRITE, 20, 29), whole;
	int one, two;

	(void)state;
	by_process.handle = &one;
	by_file.handle = &two;
	whole = lock(3, KV_LOCK_WRITE, 0, KV_LOCK_END);
	whole.flock = true;
	whole.handle = &two;
	assert_ok(kv_locks_set(t, &by_process, NULL, &turns));
	assert_ok(kv_locks_set(t, &by_file, NULL, &turns));
	assert_ok(kv_locks_set(t, &whole, NULL, &turns));
	assert_err(ask(1, 8, KV_LOCK_READ, 0, 0), -EINPROGRESS);
	assert_err(ask(2, 9, KV_LOCK_READ, 25, 25), -EINPROGRESS);
	assert_err(ask_flock(3, 9, KV_LOCK_READ), -EINPROGRESS);
	kv_locks_drop(t, INO + KV_LOCK_SLOTS, &two, &turns);
	assert_int_equal(turn(0), 0);
	kv_locks_drop(t, INO, &two, &turns);
	assert_int_equal(turn(0), 2);
	assert_int_equal(turn(0), 3);
	assert_int_equal(turn(0), 0);
	assert_true(cancel(1));
}

static void test_flock(void **state)
{
	(void)state;
	assert_ok(ask(1, 1, KV_LOCK_WRITE, 0, KV_LOCK_END)); /* of the other kind: in nobody's way here */
	assert_ok(ask_flock(0, 2, KV_LOCK_READ));
	assert_ok(ask_flock(0, 3, KV_LOCK_READ));
	assert_ok(ask_flock(0, 5, KV_LOCK_READ));
	assert_err(ask_flock(4, 4, KV_LOCK_WRITE), -EINPROGRESS);
	/* To become a writer is to give up reading first, even if that is all that comes of it. */
	assert_err(ask_flock(0, 2, KV_LOCK_WRITE), -EAGAIN);
	assert_int_equal(turn(0), 0);
	assert_err(ask_flock(3, 3, KV_LOCK_WRITE), -EINPROGRESS);
	assert_int_equal(t->held, 2); /* of fcntl(2), and of 5 */
	assert_ok(ask_flock(0, 5, KV_LOCK_NONE));
	assert_int_equal(turn(0), 4);
	assert_int_equal(turn(0), 0);
	assert_ok(ask_flock(0, 4, KV_LOCK_READ));
	assert_ok(ask_flock(0, 4, KV_LOCK_WRITE));
	assert_ok(ask_flock(0, 4, KV_LOCK_NONE));
	assert_int_equal(turn(0), 3);
}

/* ---- deadlocks */

static void test_deadlock(void **state)
{
	(void)state;
	/* two readers that both want to write */
	assert_ok(set(1, KV_LOCK_READ, 0, 9));
	assert_ok(set(2, KV_LOCK_READ, 0, 9));
	assert_err(ask(1, 1, KV_LOCK_WRITE, 0, 9), -EINPROGRESS);
	assert_err(ask(2, 2, KV_LOCK_WRITE, 0, 9), -EDEADLK);
	assert_err(set(2, KV_LOCK_WRITE, 0, 9), -EAGAIN);
	assert_ok(set(2, KV_LOCK_NONE, 0, 9));
	assert_int_equal(turn(0), 1);
	/* flock(2) knows none */
	assert_ok(ask_flock(0, 1, KV_LOCK_WRITE));
	assert_err(ask_flock(3, 2, KV_LOCK_WRITE), -EINPROGRESS);
	assert_err(ask(4, 2, KV_LOCK_WRITE, 0, 9), -EINPROGRESS);
	assert_true(cancel(3));
	assert_true(cancel(4));
}

/* Each waits for the next, over several inodes; whoever closes the ring is told, through any of those he would wait for. */
static void test_deadlock_ring(void **state)
{
	enum { RING = 60 };
	struct kv_lock want;

	(void)state;
	for (unsigned i = 0; i < RING; i++) {
		want = lock(i, KV_LOCK_WRITE, i, i);
		want.ino = i % 5;
		assert_ok(kv_locks_set(t, &want, NULL, &turns));
	}
	for (unsigned i = 0; i < RING - 1; i++) {
		want = lock(i, KV_LOCK_READ, i + 1, i + 1);
		want.ino = (i + 1) % 5;
		assert_err(kv_locks_set(t, &want, &requests[i], &turns), -EINPROGRESS);
	}
	want = lock(100, KV_LOCK_READ, 0, BYTES);
	want.ino = 0;
	assert_err(kv_locks_set(t, &want, &requests[100], &turns), -EINPROGRESS);
	want = lock(RING - 1, KV_LOCK_WRITE, 0, 30);
	want.ino = 0;
	assert_err(kv_locks_set(t, &want, &requests[RING], &turns), -EDEADLK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_like_the_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_to_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_turns_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_turn_that_yields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlock_ring, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
