/* A large store beside plain LMDB: the same keys in both, then the time to open each, and single gets of random keys in turns.
 *
 *   scale_bench DIR [KEYS]     DIR must not exist, and is left there; 20 million keys take about 14 GB */
#include "pair.h"

#define GETS 200000
#define OPENS 21

static void key_of(char key[KEY_SIZE], size_t i)
{
	snprintf(key, KEY_SIZE, "key%09zu", i);
}

static void load(struct pair *p, size_t keys)
{
	static char batch[KVFS_TXN_OPS_MAX][KEY_SIZE];
	for (size_t at = 0; at < keys;) {
		size_t n = 0;
		for (; n < KVFS_TXN_OPS_MAX && at < keys; n++, at++)
			key_of(batch[n], at);
		pair_load(p, batch, n);
	}
}

static void time_gets(struct pair *p, size_t keys)
{
	static double plain[GETS], kv[GETS];
	char key[KEY_SIZE];
	for (size_t i = 0; i < GETS; i++) {
		for (int turn = 0; turn < 2; turn++) {
			bool lmdb = (turn ^ i) & 1;
			key_of(key, ((size_t)rand() << 20 ^ (size_t)rand()) % keys);
			double start = now_us();
			if (lmdb)
				plain_get(p, key);
			else
				kvfs_get_copy(p, key);
			*(lmdb ? &plain[i] : &kv[i]) = now_us() - start;
		}
	}
	printf("get us     median %.2f p99 %.2f p99.9 %.2f   plain LMDB median %.2f p99 %.2f p99.9 %.2f\n",
		percentile(kv, GETS, 0.5), percentile(kv, GETS, 0.99), percentile(kv, GETS, 0.999), percentile(plain, GETS, 0.5),
		percentile(plain, GETS, 0.99), percentile(plain, GETS, 0.999));
}

int main(int argc, char **argv)
{
	static double opens[OPENS];
	struct pair p;
	struct kvfs_info info;
	size_t keys = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000000;
	if (argc < 2 || !keys) {
		fprintf(stderr, "usage: scale_bench DIR [KEYS]\n");
		return 2;
	}
	pair_open(&p, argv[1]);
	double start = now_us();
	load(&p, keys);
	printf("load       %zu keys into both: %.0f s\n", keys, (now_us() - start) / 1e6);
	for (int i = 0; i < OPENS; i++) {
		pair_close(&p);
		start = now_us();
		pair_open(&p, argv[1]);
		opens[i] = (now_us() - start) / 1e3;
	}
	printf("open ms    median %.2f max %.2f (both stores)\n", percentile(opens, OPENS, 0.5), opens[OPENS - 1]);
	MUST(kvfs_info(p.kv, &info));
	printf("store      %llu values in %llu MiB\n", (unsigned long long)info.values, (unsigned long long)info.file_bytes >> 20);
	time_gets(&p, keys); /* warms up */
	time_gets(&p, keys);
	pair_close(&p);
	return 0;
}
