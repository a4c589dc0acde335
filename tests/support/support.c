/* See support.h.  Every directory is remembered with the process that made it: only that process removes it. */
#include "support.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void support_check_err(int64_t got, int64_t expected, const char *call, const char *file, int line)
{
	if (got == expected)
		return;
	print_error("%s\n    gave %" PRId64 "%s%s, expected %" PRId64 "%s%s\n", call, got, got < 0 ? " " : "",
		got < 0 ? strerrorname_np((int)-got) : "", expected, expected < 0 ? " " : "",
		expected < 0 ? strerrorname_np((int)-expected) : "");
	_fail(file, line);
}

/* ---- directories */

struct tmpdir {
	struct tmpdir *next;
	pid_t owner;
	char path[PATH_MAX];
	char store[PATH_MAX + 8];
};
static struct tmpdir *tmpdirs;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)ftw;
	/* A directory that a test made unreadable or read-only. */
	if (type == FTW_DNR)
		(void)chmod(path, 0700);
	(void)remove(path);
	return 0;
}

void support_remove(const char *path)
{
	(void)nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void remove_tmpdirs(void)
{
	for (struct tmpdir *t = tmpdirs; t; t = t->next)
		if (t->owner == getpid())
			support_remove(t->path);
}

static struct tmpdir *make_tmpdir(void)
{
	const char *base = getenv("TMPDIR");
	struct tmpdir *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	assert_true(snprintf(t->path, sizeof(t->path), "%s/kvfs-test-XXXXXX", base && *base ? base : "/tmp") < PATH_MAX);
	if (!mkdtemp(t->path))
		fail_msg("mkdtemp %s: %s", t->path, strerror(errno));
	snprintf(t->store, sizeof(t->store), "%s/store", t->path);
	if (!tmpdirs)
		atexit(remove_tmpdirs);
	t->owner = getpid();
	t->next = tmpdirs;
	tmpdirs = t;
	return t;
}

const char *support_tmpdir(void)
{
	return make_tmpdir()->path;
}

const char *support_store_path(void)
{
	return make_tmpdir()->store;
}

/* ---- children */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Polls rather than catching SIGALRM or SIGCHLD: those belong to the code under test. */
static int wait_child(pid_t pid, unsigned timeout_s)
{
	int64_t deadline = now_ms() + timeout_s * 1000LL;
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid)
			return status;
		if (got < 0 && errno != EINTR)
			fail_msg("waitpid: %s", strerror(errno));
		if (now_ms() > deadline)
			break;
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	fail_msg("child still running after %u s", timeout_s);
	return status;
}

int support_fork(int (*fn)(void *arg), void *arg, unsigned timeout_s)
{
	fflush(NULL);
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn(arg));
	return wait_child(pid, timeout_s);
}

static char *read_all(int fd)
{
	off_t len = lseek(fd, 0, SEEK_END);
	char *out = calloc(1, (size_t)len + 1);

	assert_true(len >= 0);
	assert_non_null(out);
	assert_int_equal(pread(fd, out, (size_t)len, 0), len);
	return out;
}

int support_exec(char *const argv[], unsigned timeout_s, char **ret_out)
{
	/* A file takes any amount of output without a reader: no second thread, no deadlock. */
	FILE *out = tmpfile();

	assert_non_null(out);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(STDIN_FILENO);
		if (open("/dev/null", O_RDONLY) < 0 || dup2(fileno(out), STDOUT_FILENO) < 0)
			_exit(126);
		execvp(argv[0], argv);
		_exit(127);
	}
	int status = wait_child(pid, timeout_s);
	if (ret_out)
		*ret_out = read_all(fileno(out));
	fclose(out);
	return status;
}

/* ---- which tests of a program */

__attribute__((constructor)) static void choose_tests(void)
{
	cmocka_set_test_filter(getenv("KVFS_TEST"));
}

/* ---- chance */

uint64_t support_seed(void)
{
	static uint64_t seed;
	const char *given = getenv("KVFS_SEED");

	if (seed)
		return seed;
	if (given && *given)
		seed = strtoull(given, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)time(NULL);
	seed += !seed;
	print_message("KVFS_SEED=%" PRIu64 "\n", seed);
	return seed;
}

/* A counter with a good avalanche: enough chance for tests, and any state is a good one. */
uint64_t support_random(struct support_rng *rng)
{
	uint64_t x = rng->state += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

struct support_rng support_rng(uint64_t stream)
{
	struct support_rng rng = {support_seed() ^ stream * 0xd6e8feb86659fd93};

	return (struct support_rng){support_random(&rng)};
}

uint64_t support_below(struct support_rng *rng, uint64_t n)
{
	return support_random(rng) % n;
}

void support_fill(struct support_rng *rng, void *buf, size_t len)
{
	for (unsigned char *p = buf; len; len -= len < 8 ? len : 8, p += 8) {
		uint64_t x = support_random(rng);

		memcpy(p, &x, len < 8 ? len : 8);
	}
}
