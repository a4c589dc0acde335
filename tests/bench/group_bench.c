/* What threads of one process gain by committing together: puts of 100 bytes, each durable when it returns, by 1, 2, 4 and 8 threads in turns within
 * one run.  Prints the median, least and greatest rate over the rounds, and the ratio to one thread.  DIR should be on a real disk.
 *
 *   group_bench DIR [full|none [SECONDS [ROUNDS]]]     DIR must not exist, and is left there; one turn takes SECONDS */
#include <pthread.h>
#include <stdatomic.h>

#include "pair.h"

#define THREADS_MAX 8
#define ROUNDS_MAX 101
#define KEYS 100000

static struct kvfs_store *store;
static atomic_bool stop;

struct putter {
	pthread_t thread;
	unsigned seed;
	size_t puts;
};

static void *put_all(void *arg)
{
	struct putter *p = arg;
	char key[KEY_SIZE], value[VALUE_SIZE];
	memset(value, 'v', sizeof value);
	for (p->puts = 0; !stop; p->puts++) {
		snprintf(key, sizeof key, "key%08u", (unsigned)rand_r(&p->seed) % KEYS);
		MUST(kvfs_put(store, key, value, sizeof value, NULL, NULL));
	}
	return NULL;
}

/* Puts per second. */
static double turn(size_t threads, double seconds)
{
	static unsigned seed;
	struct putter p[THREADS_MAX];
	struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
	size_t puts = 0;
	stop = false;
	double start = now_us();
	for (size_t i = 0; i < threads; i++) {
		p[i].seed = ++seed;
		MUST(pthread_create(&p[i].thread, NULL, put_all, &p[i]));
	}
	nanosleep(&t, NULL);
	stop = true;
	for (size_t i = 0; i < threads; i++) {
		pthread_join(p[i].thread, NULL);
		puts += p[i].puts;
	}
	return (double)puts * 1e6 / (now_us() - start);
}

int main(int argc, char **argv)
{
	static const size_t threads[] = {1, 2, 4, 8};
	static double rate[4][ROUNDS_MAX], ratio[4][ROUNDS_MAX];
	double seconds = argc > 3 ? strtod(argv[3], NULL) : 0.5;
	size_t rounds = argc > 4 ? strtoul(argv[4], NULL, 10) : 7;
	bool full = argc < 3 || strcmp(argv[2], "full") == 0;
	struct kvfs_options opt = {
		.size = sizeof opt, .flags = KVFS_CREATE, .durability = full ? KVFS_FULL : KVFS_NONE, .purpose = "bench"};
	if (argc < 2 || (!full && strcmp(argv[2], "none") != 0) || seconds <= 0 || !rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: group_bench DIR [full|none [SECONDS [ROUNDS]]]\n");
		return 2;
	}
	MUST(kvfs_open(argv[1], &opt, &store, NULL));
	for (size_t r = 0; r < rounds; r++)
		for (size_t i = 0; i < 4; i++) {
			rate[i][r] = turn(threads[i], seconds);
			ratio[i][r] = rate[i][r] / rate[0][r];
		}
	for (size_t i = 0; i < 4; i++) {
		double median = percentile(rate[i], rounds, 0.5);
		printf("%zu threads   %8.0f puts/s (%.0f .. %.0f)   ratio %.2f\n", threads[i], median, rate[i][0],
			rate[i][rounds - 1], percentile(ratio[i], rounds, 0.5));
	}
	kvfs_close(store);
	return 0;
}
