/* Hostile stores: whatever bytes data.mdb has, each call of the library gives what was stored or an error.  No signal, no hang, no other bytes.
 *
 * Each case is one mutation of a small real store, used in a child with a time limit.  KVFS_FUZZ_CASES=50000 for the long run.
 * KVFS_FUZZ_KEEP=DIR keeps each store that ended badly as DIR/N, and KVFS_FUZZ_STORE=DIR/N uses it again, in this process, for a debugger. */
#include <fcntl.h>
#include <kvfs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mutate.h"
#include "victim.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CASES = 340, LIMIT_S = 60 };
#else
enum { CASES = 2000, LIMIT_S = 10 };
#endif
enum { WORKERS = 2, KINDS_MAX = 32 };

struct shared {
	struct tally kinds[KINDS_MAX];
	const char *volatile stage[WORKERS];
};

static struct shared *shared;
static struct image original;
static char directory[160];

static void keep(unsigned worker, unsigned long number)
{
	const char *dir = getenv("KVFS_FUZZ_KEEP");
	char path[300], kept[300];
	if (!dir)
		return;
	snprintf(path, sizeof path, "%s/%u", directory, worker);
	snprintf(kept, sizeof kept, "%.200s/%lu", dir, number);
	mutate_store(&original, number, path); /* as it was before it was used */
	if (rename(path, kept))
		printf("	cannot keep %s: %s\n", kept, strerror(errno));
}

static void run(const char *path, unsigned long number, const char *volatile *stage)
{
	unsigned kind = (unsigned)(number % mutation_count);
	victim_use(path, mutations[kind].forged, number / mutation_count % 2, &shared->kinds[kind], stage);
}

static void show_output(const char *path)
{
	struct image text = image_load(path);
	fprintf(stdout, "%.4000s\n", (char *)text.data);
	free(text.data);
}

/* What AddressSanitizer says of a malloc() that it let fail is no fault. */
static bool is_silent(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[1000];
	bool silent = f != NULL;
	while (silent && fgets(line, sizeof line, f))
		silent = strstr(line, "WARNING: AddressSanitizer failed to allocate") != NULL;
	if (f)
		fclose(f);
	return silent;
}

static void run_in_child(unsigned worker, unsigned long number)
{
	struct tally *t = &shared->kinds[number % mutation_count];
	char path[200], output[200];
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
	int status;
	snprintf(path, sizeof path, "%s/%u", directory, worker);
	snprintf(output, sizeof output, "%s/output%u", directory, worker);
	mutate_store(&original, number, path);
	shared->stage[worker] = "begin";
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
		for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
			signal(fatal[i], SIG_DFL); /* cmocka's handlers would go on with its next test here */
		alarm(LIMIT_S);
		run(path, number, &shared->stage[worker]);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	t->cases++;
	bool hang = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
	if (status == 0 && is_silent(output))
		return;
	*(hang ? &t->hangs : &t->crashes) += 1;
	printf("\tcase %lu (%s): %s with status %d in `%s`\n", number, mutations[number % mutation_count].name,
		hang ? "hung" : "ended", status, shared->stage[worker]);
	show_output(output);
	keep(worker, number);
}

static void report(struct tally *sum)
{
	printf("\t%-10s %6s %7s %8s %7s %8s %6s %6s %7s %6s %8s %8s %8s %7s %5s\n", "", "cases", "refused", "fine", "errors",
		"missing", "stale", "wrong", "listing", "older", "unknown", "written", "refused", "crashes", "hangs");
	for (unsigned i = 0; i <= mutation_count; i++) {
		const struct tally *t = i < mutation_count ? &shared->kinds[i] : sum;
		printf("\t%-10s %6ld %7ld %8ld %7ld %8ld %6ld %6ld %7ld %6ld %8ld %8ld %8ld %7ld %5ld\n",
			i < mutation_count ? mutations[i].name : "all", t->cases, t->refused, t->fine, t->errors, t->missing,
			t->stale, t->wrong, t->falsely_listed, t->older, t->unknown, t->written, t->unwritten, t->crashes,
			t->hangs);
		_Atomic long *to = (_Atomic long *)sum;
		for (size_t f = 0; i < mutation_count && f < sizeof *t / sizeof *to; f++)
			to[f] += ((const _Atomic long *)t)[f];
	}
}

static int setup(void **state)
{
	char file[260];
	(void)state;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(directory, sizeof directory, "%.150s", support_tmpdir());
	snprintf(file, sizeof file, "%s/good", directory);
	victim_build(file, VICTIM_KEYS);
	strcat(file, "/data.mdb");
	original = image_load(file);
	return shared == MAP_FAILED;
}

/* What the harness itself must see: every value of the unharmed store, and each change to it. */
static void test_unharmed(void **state)
{
	struct tally t = {0};
	const char *volatile stage;
	char path[200];
	(void)state;
	snprintf(path, sizeof path, "%s/unharmed", directory);
	image_store(&original, path);
	victim_use(path, false, true, &t, &stage);
	assert_int_equal(
		t.refused + t.errors + t.missing + t.stale + t.wrong + t.unwritten + t.found + t.falsely_listed + t.older + t.hangs,
		0);
	assert_true(t.fine > 500 && t.written > 50 && t.listed > 250);
}

static void test_mutations(void **state)
{
	const char *one = getenv("KVFS_FUZZ_STORE"), *many = getenv("KVFS_FUZZ_CASES");
	unsigned long cases = many ? strtoul(many, NULL, 10) : CASES;
	pid_t workers[WORKERS];
	int status, failed = 0;
	struct tally sum = {0};
	(void)state;
	support_seed();
	if (one) {
		run(one, strtoul(basename(one), NULL, 10), &shared->stage[0]);
		return;
	}
	fflush(stdout);
	for (unsigned w = 0; w < WORKERS; w++)
		if ((workers[w] = fork()) == 0) {
			for (unsigned long i = w; i < cases; i += WORKERS)
				run_in_child(w, i);
			fflush(stdout);
			_exit(0);
		}
	for (unsigned w = 0; w < WORKERS; w++) {
		waitpid(workers[w], &status, 0);
		failed |= status;
	}
	report(&sum);
	assert_int_equal(failed, 0);
	assert_int_equal(sum.cases, cases);
	assert_int_equal(sum.missing + sum.stale + sum.wrong + sum.falsely_listed + sum.crashes + sum.hangs, 0);
	/* the newest number rots to that before the other: so looks a commit whose last write failed */
	assert_true((unsigned long)sum.older <= cases / 1000 + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unharmed),
		cmocka_unit_test(test_mutations),
	};
	return cmocka_run_group_tests_name("mutations", tests, setup, NULL);
}
