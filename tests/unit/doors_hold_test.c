/* The table of doors, what is held: counting, full buckets and tables, what is told, and what stays right when processes race or
 * are killed. */
#include "doors_support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

/* ---- holds ---- */

static void test_holds_counted(void **state)
{
	struct kv_doors *d = open_door("test");

	(void)state;
	assert_false(kv_doors_held(d, 7, UINT64_MAX));
	assert_int_equal(kv_doors_hold(d, 7, 5), 0);
	assert_int_equal(kv_doors_hold(d, 7, 5), 0);
	assert_int_equal(kv_doors_hold(d, 7, 9), 0);
	assert_int_equal(kv_doors_holds(d), 2);
	assert_false(kv_doors_held(d, 7, 5));
	assert_true(kv_doors_held(d, 7, 6));
	assert_true(kv_doors_held(d, 7, UINT64_MAX));
	assert_false(kv_doors_held(d, 8, UINT64_MAX));
	kv_doors_release(d, 7, 5);
	assert_true(kv_doors_held(d, 7, 6));
	kv_doors_release(d, 7, 5);
	assert_false(kv_doors_held(d, 7, 9));
	assert_true(kv_doors_held(d, 7, 10));
	kv_doors_release(d, 7, 9);
	assert_false(kv_doors_held(d, 7, UINT64_MAX));
	assert_int_equal(kv_doors_hold(d, UINT64_MAX, UINT32_MAX), 0);
	assert_false(kv_doors_held(d, UINT64_MAX, UINT32_MAX));
	assert_true(kv_doors_held(d, UINT64_MAX, UINT64_MAX));
	assert_int_equal(kv_doors_hold(d, 3, 0), 0);
	assert_true(kv_doors_held(d, 3, 1));
	assert_false(kv_doors_held(d, 3, 0));
	assert_int_equal(kv_doors_holds(d), 2);
	kv_doors_close(d, false); /* gives them back */
	d = open_door("test");
	assert_false(kv_doors_held(d, 3, UINT64_MAX));
	assert_int_equal(kv_doors_holds(d), 0);
	kv_doors_close(d, false);
}

static unsigned bucket_of(uint64_t blob)
{
	return blob * 0x9e3779b97f4a7c15 >> 51;
}

/* The n-th blob at or above `from` whose bucket is `bucket`. */
static uint64_t blob_in(unsigned bucket, unsigned n)
{
	for (uint64_t blob = 1;; blob++) {
		if (bucket_of(blob) == bucket && n-- == 0)
			return blob;
	}
}

static uint32_t sum_of_marks(void)
{
	uint32_t marks[BUCKETS], sum = 0;
	int fd = openat(dir, "doors", O_RDONLY);

	assert_int_equal(pread(fd, marks, sizeof marks, MARKS_AT), sizeof marks);
	close(fd);
	for (int i = 0; i < BUCKETS; i++)
		sum += marks[i];
	return sum;
}

static void test_bucket_overflow(void **state)
{
	struct kv_doors *d = open_door("test");
	uint64_t blob[3][20];

	(void)state;
	for (int b = 0; b < 3; b++) { /* the last bucket, and the two that it runs over into */
		for (int i = 0; i < 20; i++)
			blob[b][i] = blob_in((BUCKETS - 1 + b) % BUCKETS, (unsigned)i);
	}
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 20; i++) {
			for (int b = 0; b < 3; b++) {
				assert_false(kv_doors_held(d, blob[b][i], UINT64_MAX));
				assert_int_equal(kv_doors_hold(d, blob[b][i], 1), 0);
				assert_true(kv_doors_held(d, blob[b][i], 2));
			}
		}
		for (int k = 0; k < 20; k++) {
			int i = round & 1 ? k : 19 - k;

			for (int b = 0; b < 3; b++) {
				assert_true(kv_doors_held(d, blob[b][i], UINT64_MAX));
				kv_doors_release(d, blob[b][i], 1);
				assert_false(kv_doors_held(d, blob[b][i], UINT64_MAX));
			}
			if (round & 2) { /* a hole in front: what lives behind it must still be found */
				for (int j = 0; j < 20; j++) {
					bool gone = round & 1 ? j <= k : j >= 19 - k;

					assert_int_equal(kv_doors_held(d, blob[0][j], UINT64_MAX), !gone);
				}
			}
		}
	}
	kv_doors_close(d, false);
	assert_int_equal(sum_of_marks(), 0);
}

static void test_holds_against_model(void **state)
{
	struct kv_doors *d = open_door("test");
	enum { BLOBS = 60, GENS = 4 };
	unsigned count[BLOBS][GENS] = {{0}};
	struct support_rng rng = support_rng(1);
	uint64_t blob[BLOBS];

	(void)state;
	for (unsigned i = 0; i < BLOBS; i++)
		blob[i] = i % 2 ? i : blob_in(4000 + i % 3, i);
	for (int step = 0; step < 200000; step++) {
		uint64_t b = support_below(&rng, BLOBS), below = support_below(&rng, GENS + 1);
		uint32_t g = (uint32_t)support_below(&rng, GENS);
		bool held = false;

		if (!count[b][g] || (count[b][g] < 20 && support_below(&rng, 2))) {
			assert_int_equal(kv_doors_hold(d, blob[b], g), 0);
			count[b][g]++;
		} else {
			kv_doors_release(d, blob[b], g);
			count[b][g]--;
		}
		b = support_below(&rng, BLOBS);
		for (unsigned i = 0; i < below; i++)
			held |= count[b][i] > 0;
		if (kv_doors_held(d, blob[b], below) != held)
			fail_msg("step %d: blob %u below %u", step, (unsigned)b, (unsigned)below);
	}
	kv_doors_close(d, false);
	assert_int_equal(sum_of_marks(), 0);
}

static int child_holds_half(struct child_end *end)
{
	struct kv_doors *d = child_door();

	for (uint64_t i = 1; i <= KV_HOLDS_MAX / 2; i++)
		CHECK(kv_doors_hold(d, i, 1) == 0);
	rendezvous(end);
	return 0;
}

static void test_table_full(void **state)
{
	struct kv_doors *d = open_door("test");
	struct child c = child_start(child_holds_half);

	(void)state;
	child_ready(&c);
	assert_int_equal(kv_doors_holds(d), KV_HOLDS_MAX / 2);
	for (uint64_t i = 1; i <= KV_HOLDS_MAX / 2; i++)
		assert_int_equal(kv_doors_hold(d, i * 10, 1), 0);
	assert_int_equal(kv_doors_hold(d, 1, 7), -ENFILE);
	assert_int_equal(kv_doors_hold(d, 10, 1), 0); /* one more handle on a hold that is there */
	kv_doors_release(d, 10, 1);
	assert_int_equal(kv_doors_holds(d), KV_HOLDS_MAX);
	kv_doors_release(d, 20, 1);
	assert_int_equal(kv_doors_hold(d, 1, 7), 0);
	assert_int_equal(kv_doors_hold(d, 1, 8), -ENFILE);
	assert_true(kv_doors_held(d, KV_HOLDS_MAX / 2, 2));
	child_kill(&c);
	assert_false(kv_doors_held(d, KV_HOLDS_MAX / 2 - 1, 2));
	for (uint64_t i = 1; i <= KV_HOLDS_MAX / 2; i++) /* the dead one's slots are there again, all of them */
		assert_int_equal(kv_doors_hold(d, i, 9), 0);
	assert_int_equal(kv_doors_hold(d, 1, 8), -ENFILE);
	assert_int_equal(kv_doors_holds(d), KV_HOLDS_MAX);
	kv_doors_close(d, false);
	assert_int_equal(sum_of_marks(), 0);
}

/* ---- what is told ---- */

static void test_released(void **state)
{
	struct kv_doors *d = open_door("test");
	uint64_t blob[1000], seen = 0;
	bool all;

	(void)state;
	assert_int_equal(kv_doors_released(d, blob, 1000, &all), 0);
	assert_true(all); /* a new table knows nothing of before */
	assert_int_equal(kv_doors_released(d, blob, 1000, &all), 0);
	assert_false(all);

	assert_int_equal(kv_doors_hold(d, 1, 1) | kv_doors_hold(d, 1, 2) | kv_doors_hold(d, 2, 1), 0);
	assert_true(kv_doors_held(d, 1, 2));
	assert_false(kv_doors_held(d, 2, 1));
	kv_doors_release(d, 2, 1); /* was in nobody's way */
	kv_doors_release(d, 1, 2);
	assert_int_equal(kv_doors_released(d, blob, 1000, &all), 0);
	kv_doors_release(d, 1, 1);
	assert_int_equal(kv_doors_released(d, blob, 1000, &all), 1);
	assert_true(blob[0] == 1 && !all);
	assert_int_equal(kv_doors_released(d, blob, 1000, &all), 0);

	for (uint64_t i = 1; i <= 20; i++) { /* in several calls */
		assert_int_equal(kv_doors_hold(d, i, 1), 0);
		assert_true(kv_doors_held(d, i, 2));
		kv_doors_release(d, i, 1);
	}
	assert_int_equal(kv_doors_released(d, blob, 0, &all), 0);
	for (int i = 0; i < 3; i++) {
		size_t n = kv_doors_released(d, blob, 8, &all);

		assert_int_equal(n, i < 2 ? 8 : 4);
		while (n)
			seen += blob[--n];
		assert_false(all);
	}
	assert_true(seen == 210);
	assert_int_equal(kv_doors_walk(d), 0);
	kv_doors_set_walk(d, 17);
	assert_int_equal(kv_doors_walk(d), 17);
	kv_doors_look_again(d);
	assert_int_equal(kv_doors_released(d, blob, 8, &all), 0);
	assert_true(all);

	for (uint64_t i = 1; i <= 5000; i++) { /* more than there is room for */
		assert_int_equal(kv_doors_hold(d, i, 1), 0);
		assert_true(kv_doors_held(d, i, 2));
		kv_doors_release(d, i, 1);
	}
	assert_true(kv_doors_released(d, blob, 1000, &all) > 0);
	assert_true(all);
	assert_int_equal(kv_doors_released(d, blob, 1000, &all), 0);
	assert_false(all);
	kv_doors_close(d, false);
}

static void test_released_by_another(void **state)
{
	struct kv_doors *d = open_door("test");
	struct child c = child_start(child_lives);
	uint64_t blob;
	bool all;

	(void)state;
	child_ready(&c);
	told_all(d);
	assert_true(kv_doors_held(d, 42, UINT64_MAX));
	child_go(&c);
	assert_int_equal(child_status(&c), 0);
	assert_int_equal(kv_doors_released(d, &blob, 1, &all), 1);
	assert_true(blob == 42 && !all);
	kv_doors_close(d, false);
}

/* ---- many at once ---- */

static int hammer(struct kv_doors *d, uint64_t own, int rounds)
{
	for (int i = 0; rounds < 0 || i < rounds; i++) {
		uint64_t blob = own + (uint64_t)i % 50 * 8192;

		CHECK(kv_doors_hold(d, blob, 1) == 0);
		CHECK(kv_doors_held(d, blob, 2));
		if (i % 3)
			CHECK(kv_doors_hold(d, blob, 2) == 0);
		kv_doors_release(d, blob, 1);
		if (i % 3) {
			CHECK(kv_doors_held(d, blob, 3));
			kv_doors_release(d, blob, 2);
		}
		CHECK(!kv_doors_held(d, blob, UINT64_MAX));
	}
	return 0;
}

struct hammer {
	struct kv_doors *d;
	uint64_t own;
	int result;
};

static void *hammer_thread(void *arg)
{
	struct hammer *h = arg;

	h->result = hammer(h->d, h->own, 20000);
	return NULL;
}

static void *watch_thread(void *arg)
{
	struct hammer *h = arg;

	for (int i = 0; i < 2000; i++) {
		struct kvfs_door list[4];
		uint64_t blob[4];
		bool all;

		kv_doors_set_mountpoint(h->d, i % 2 ? "/one/mount/point" : "/another/mount");
		kv_doors_list(h->d, list, 4);
		kv_doors_holds(h->d);
		kv_doors_released(h->d, blob, 4, &all);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct kv_doors *d = open_door("test");
	struct hammer h[5];
	pthread_t thread[5];

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		h[i] = (struct hammer){.d = d, .own = 1 + i};
		assert_int_equal(pthread_create(&thread[i], NULL, i < 4 ? hammer_thread : watch_thread, &h[i]), 0);
	}
	for (int i = 0; i < 5; i++) {
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_int_equal(h[i].result, 0);
	}
	assert_int_equal(kv_doors_holds(d), 0);
	kv_doors_close(d, false);
}

static int child_hammers(struct child_end *end)
{
	struct kv_doors *d = child_door();

	CHECK(d && write(end->out, "", 1) == 1);
	return hammer(d, (uint64_t)getpid() * 100, -1);
}

/* Processes die at any instruction while others work on the same buckets. */
static void test_killed_anywhere(void **state)
{
	struct support_rng rng = support_rng(2);
	struct kv_doors *d = open_door("test");
	struct child c[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		c[i] = child_start(child_hammers);
	for (int i = 0; i < 3; i++)
		child_ready(&c[i]);
	for (int i = 0; i < 150; i++) {
		usleep((useconds_t)support_below(&rng, 1000));
		child_kill(&c[i % 3]);
		if (i % 5 == 0)
			told_all(d);
		assert_int_equal(hammer(d, 10, 50), 0);
		c[i % 3] = child_start(child_hammers);
		child_ready(&c[i % 3]);
	}
	for (int i = 0; i < 3; i++)
		child_kill(&c[i]);
	assert_int_equal(kv_doors_holds(d), 0);
	for (uint64_t i = 1; i <= KV_HOLDS_MAX; i++) /* no slot is lost */
		assert_int_equal(kv_doors_hold(d, i, 1), 0);
	kv_doors_close(d, false);
}

/* The protocol of a reader and the reaper: not both may miss the other. */
enum { RACES = 30000 };
static struct race {
	atomic_uint reader_at, reaper_at;
	volatile char retired[RACES]; /* plain, as what LMDB reads */
	char saw_current[RACES];
} * race;

/* The two meet only on two processors; where there is one, the test shows little. */
static void pin(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

/* Both start the round as nearly together as can be, and then at a random distance. */
static void race_start(atomic_uint *mine, atomic_uint *other, unsigned round, struct support_rng *rng, unsigned delay)
{
	*mine = round + 1;
	for (unsigned spins = 1; *other <= round; spins++) {
		if (spins % 4096 == 0)
			sched_yield();
	}
	for (uint64_t spin = support_below(rng, delay); spin; spin--)
		atomic_signal_fence(memory_order_seq_cst);
}

static int child_reads(struct child_end *end)
{
	struct support_rng rng = support_rng(3);
	struct kv_doors *d = child_door();

	CHECK(d && rendezvous(end));
	pin(1);
	for (unsigned i = 0; i < RACES; i++) {
		race_start(&race->reader_at, &race->reaper_at, i, &rng, 100);
		CHECK(kv_doors_hold(d, i + 1, 1) == 0);
		race->saw_current[i] = !race->retired[i];
		if (i >= 100)
			kv_doors_release(d, i - 99, 1);
	}
	race->reader_at = RACES + 1;
	rendezvous(end);
	return 0;
}

static void test_reader_against_reaper(void **state)
{
	struct kv_doors *d = open_door("test");
	struct support_rng rng = support_rng(4);
	static bool held[RACES];
	unsigned seen = 0;
	cpu_set_t before;
	struct child c;

	(void)state;
	race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(race, MAP_FAILED);
	c = child_start(child_reads);
	child_ready(&c);
	child_go(&c);
	sched_getaffinity(0, sizeof before, &before);
	pin(0);
	for (unsigned i = 0; i < RACES; i++) {
		race_start(&race->reaper_at, &race->reader_at, i, &rng, 1000);
		race->retired[i] = 1;
		held[i] = kv_doors_held(d, i + 1, 2);
	}
	child_ready(&c);
	sched_setaffinity(0, sizeof before, &before);
	for (unsigned i = 0; i < RACES; i++) {
		seen += race->saw_current[i];
		if (race->saw_current[i] && !held[i])
			fail_msg("round %u: freed under the reader", i);
	}
	child_kill(&c);
	munmap(race, sizeof *race);
	kv_doors_close(d, false);
	print_message("             the reader came first in %u of %u\n", seen, RACES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_holds_counted),
		TEST(test_bucket_overflow),
		TEST(test_holds_against_model),
		TEST(test_table_full),
		TEST(test_released),
		TEST(test_released_by_another),
		TEST(test_threads),
		TEST(test_killed_anywhere),
		TEST(test_reader_against_reaper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
