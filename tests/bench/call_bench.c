/* What one call costs beside plain LMDB: get, overwrite and create of a 100-byte value, each in a transaction of its own and without
 * flushes, in turns on the same keys within one run.  Prints the median, least and greatest ratio over the rounds.
 *
 *   call_bench DIR [KEYS [ROUNDS]]     DIR must not exist, and is left there; with KVFS_DURABILITY=relaxed at that level */
#include "pair.h"

#define GETS 20000
#define PUTS 2000
#define ROUNDS_MAX 101

static void key_of(char key[KEY_SIZE], size_t i)
{
	snprintf(key, KEY_SIZE, "key%08u", (unsigned)((i * 2654435761u) % 100000000u));
}

static void new_key(char key[KEY_SIZE], size_t round, size_t i)
{
	snprintf(key, KEY_SIZE, "new%03zu%08u", round, (unsigned)((i * 2654435761u) % 100000000u));
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

static double gets(struct pair *p, size_t keys, bool plain)
{
	char key[KEY_SIZE];
	double start = now_us();
	for (int i = 0; i < GETS; i++) {
		key_of(key, (size_t)rand() % keys);
		if (plain)
			plain_get(p, key);
		else
			kvfs_get_copy(p, key);
	}
	return (now_us() - start) / GETS;
}

static double puts_of(struct pair *p, size_t keys, size_t round, bool create, bool plain)
{
	char key[KEY_SIZE];
	double start = now_us();
	for (size_t i = 0; i < PUTS; i++) {
		if (create)
			new_key(key, round, i);
		else
			key_of(key, (size_t)rand() % keys);
		if (plain)
			plain_put(p, key);
		else
			MUST(kvfs_put(p->kv, key, p->value, sizeof p->value, NULL, NULL));
	}
	return (now_us() - start) / PUTS;
}

static void report(const char *what, double *ratio, double *plain, double *kv, size_t n)
{
	double median = percentile(ratio, n, 0.5);
	printf("%-10s ratio %.2f (%.2f .. %.2f)   plain LMDB %.2f us, kvfs %.2f us\n", what, median, ratio[0], ratio[n - 1],
		percentile(plain, n, 0.5), percentile(kv, n, 0.5));
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"get", "overwrite", "create"};
	static double ratio[3][ROUNDS_MAX], plain[3][ROUNDS_MAX], kv[3][ROUNDS_MAX];
	struct pair p;
	size_t keys = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000, rounds = argc > 3 ? strtoul(argv[3], NULL, 10) : 21;
	if (argc < 2 || !keys || !rounds || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: call_bench DIR [KEYS [ROUNDS]]\n");
		return 2;
	}
	pair_open(&p, argv[1]);
	load(&p, keys);
	puts_of(&p, keys, 0, false, true); /* leave the state that loading in bulk made */
	puts_of(&p, keys, 0, false, false);
	for (size_t r = 0; r < rounds; r++)
		for (int what = 0; what < 3; what++)
			for (int turn = 0; turn < 2; turn++) {
				bool lmdb = (turn ^ r) & 1;
				double us = what == 0 ? gets(&p, keys, lmdb) : puts_of(&p, keys, r, what == 2, lmdb);
				*(lmdb ? &plain[what][r] : &kv[what][r]) = us;
			}
	for (int what = 0; what < 3; what++) {
		for (size_t r = 0; r < rounds; r++)
			ratio[what][r] = kv[what][r] / plain[what][r];
		report(names[what], ratio[what], plain[what], kv[what], rounds);
	}
	pair_close(&p);
	return 0;
}
