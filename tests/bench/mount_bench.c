/* What a call costs in a mount of kvfs beside a file system that does nothing (nothing_fs), both through the kernel: the same calls in
 * turns within one run.  Prints the median, least and greatest ratio over the rounds.  kvfs commits without flushes.  Of what commits, the
 * library does the same to a store without a mount, in the same round: `and` is the ratio of what is left when that is taken off.
 *
 *   mount_bench DIR [ROUNDS [MIB]]     DIR must not exist, and is left there, unmounted; MIB: of the large value (256, 0 for none)
 *
 * KVFS_BIN and NOTHING_FS name the programs; by default those of the build that this one is of. */
#include "pair.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS_MAX = 101, LARGE_ROUNDS = 3, KEYS = 16, LISTED = 1000, PIECE = 128 << 10, PATH_CAP = 256 };
enum { FUSE_MAGIC = 0x65735546 };

/* The two mounts: [0] kvfs, [1] nothing_fs. */
static char mounts[2][PATH_CAP / 2];
static pid_t servers[2];
static struct kvfs_store *bare; /* that has no mount */
static size_t large_mib = 256;
static char piece[PIECE];

static void fail(const char *what, const char *path)
{
	fprintf(stderr, "mount_bench: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

/* ---- mounting ---- */

static pid_t start(char *const argv[])
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM); /* a server unmounts then, even if this program was killed */
		execvp(argv[0], argv);
		fail("cannot run", argv[0]);
	}
	return pid;
}

static void run(char *const argv[])
{
	int status;

	if (waitpid(start(argv), &status, 0) < 0 || status != 0)
		fail("failed:", argv[0]);
}

static void await_mount(int which)
{
	struct statfs fs;

	for (int i = 0; i < 1000; i++) {
		if (statfs(mounts[which], &fs) == 0 && fs.f_type == FUSE_MAGIC)
			return;
		if (waitpid(servers[which], NULL, WNOHANG) != 0)
			break;
		usleep(5000);
	}
	fail("not mounted:", mounts[which]);
}

static void unmount_all(void)
{
	for (int i = 0; i < 2; i++) {
		pid_t pid;

		if (servers[i] <= 0)
			continue;
		pid = start((char *[]){"fusermount3", "-uz", mounts[i], NULL});
		waitpid(pid, NULL, 0);
		waitpid(servers[i], NULL, 0);
	}
}

/* The programs beside this one: build/<variant>/tests/bench/mount_bench. */
static char *program(const char *variable, const char *beside)
{
	static char paths[2][PATH_MAX];
	static int used;
	char *path = paths[used++], *slash;
	ssize_t n;

	if (getenv(variable))
		return getenv(variable);
	n = readlink("/proc/self/exe", path, PATH_MAX - 32);
	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	strcpy(slash ? slash + 1 : path, beside);
	return path;
}

static void mount_both(const char *dir)
{
	static char store[PATH_CAP];
	char *kvfs = program("KVFS_BIN", "../../kvfs"), *nothing = program("NOTHING_FS", "nothing_fs");

	snprintf(store, sizeof(store), "%s/store", dir);
	snprintf(mounts[0], sizeof(mounts[0]), "%s/kvfs", dir);
	snprintf(mounts[1], sizeof(mounts[1]), "%s/nothing", dir);
	if (mkdir(dir, 0700) < 0 || mkdir(mounts[0], 0700) < 0 || mkdir(mounts[1], 0700) < 0)
		fail("cannot make", dir);
	run((char *[]){kvfs, "init", store, NULL});
	atexit(unmount_all);
	servers[0] = start((char *[]){kvfs, "mount", "-f", "-o", "durability=none", store, mounts[0], NULL});
	servers[1] = start((char *[]){nothing, "-f", mounts[1], NULL});
	await_mount(0);
	await_mount(1);
}

static void open_bare(const char *dir)
{
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .durability = KVFS_NONE, .purpose = "bench"};
	struct kvfs_error err;
	char path[PATH_CAP];

	snprintf(path, sizeof(path), "%s/bare", dir);
	if (kvfs_open(path, &opt, &bare, &err) < 0) {
		fprintf(stderr, "mount_bench: %s\n", err.text);
		exit(1);
	}
}

/* ---- what is measured: each returns microseconds for one operation ---- */

struct what {
	const char *name;
	size_t size; /* of the value */
	double (*one)(const struct what *w, const char *mnt, size_t round);
	size_t times;
	bool large; /* of the large value: fewer rounds, and shown as GB/s */
	int (*commit)(const char *key, size_t size); /* the store's part of it; NULL: it commits nothing */
	bool fresh; /* of keys that are not there before the round */
};

static const char *path_of(const char *mnt, const char *fmt, size_t a, size_t b)
{
	static char path[PATH_CAP];
	int n = snprintf(path, sizeof(path), "%s/", mnt);

	snprintf(path + n, sizeof(path) - (size_t)n, fmt, a, b);
	return path;
}

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		fail("cannot open", path);
	return fd;
}

static void must_close(int fd, const char *path)
{
	if (close(fd) < 0)
		fail("cannot close", path);
}

static void write_value(const char *path, int flags, size_t size)
{
	int fd = must_open(path, O_WRONLY | flags);

	for (size_t left = size; left > 0;) {
		ssize_t n = write(fd, piece, left < PIECE ? left : PIECE);

		if (n <= 0)
			fail("cannot write", path);
		left -= (size_t)n;
	}
	must_close(fd, path);
}

static void read_value(const char *path, size_t size)
{
	static char into[PIECE];
	int fd = must_open(path, O_RDONLY);
	size_t got = 0;
	ssize_t n;

	/* As whoever knows the size: no read past the end. */
	while (got < size && (n = read(fd, into, PIECE)) > 0)
		got += (size_t)n;
	if (got != size)
		fail("short:", path);
	must_close(fd, path);
}

static double time_reads(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();

	(void)round;
	for (size_t i = 0; i < w->times; i++)
		read_value(path_of(mnt, "value%zu-%zu", w->size, i % KEYS), w->size);
	return (now_us() - begin) / (double)w->times;
}

static double time_stats(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();
	struct stat st;

	(void)round;
	for (size_t i = 0; i < w->times; i++)
		if (stat(path_of(mnt, "value%zu-%zu", w->size, i % KEYS), &st) < 0)
			fail("cannot stat", mnt);
	return (now_us() - begin) / (double)w->times;
}

static double time_overwrites(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();

	(void)round;
	for (size_t i = 0; i < w->times; i++)
		write_value(path_of(mnt, "over%zu-%zu", w->size, i % KEYS), O_TRUNC, w->size);
	return (now_us() - begin) / (double)w->times;
}

static double time_appends(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();

	(void)round;
	for (size_t i = 0; i < w->times; i++)
		write_value(path_of(mnt, "log%zu-%zu", i % KEYS, 0), O_APPEND, w->size);
	return (now_us() - begin) / (double)w->times;
}

static double time_creates(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();

	for (size_t i = 0; i < w->times; i++)
		write_value(path_of(mnt, "new%zu-%zu", round, i), O_CREAT | O_TRUNC, w->size);
	return (now_us() - begin) / (double)w->times;
}

/* What creates made in the same round. */
static double time_unlinks(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();

	for (size_t i = 0; i < w->times; i++)
		if (unlink(path_of(mnt, "new%zu-%zu", round, i)) < 0)
			fail("cannot unlink in", mnt);
	return (now_us() - begin) / (double)w->times;
}

/* A listing, and the attributes of each. */
static double time_lists(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();
	struct dirent *entry;
	struct stat st;

	(void)round;
	for (size_t i = 0; i < w->times; i++) {
		DIR *dir = opendir(path_of(mnt, "list", 0, 0));
		size_t seen = 0;

		while (dir && (entry = readdir(dir)))
			seen += fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0;
		if (!dir || closedir(dir) < 0 || seen < LISTED)
			fail("cannot list in", mnt);
	}
	return (now_us() - begin) / (double)w->times;
}

static double time_large_write(const struct what *w, const char *mnt, size_t round)
{
	double begin = now_us();

	(void)round, (void)w;
	write_value(path_of(mnt, "large", 0, 0), O_CREAT | O_TRUNC, large_mib << 20);
	return now_us() - begin;
}

static double time_large_read(const struct what *w, const char *mnt, size_t round)
{
	const char *path = path_of(mnt, "large", 0, 0);
	double begin;

	(void)round;
	if (w->size) { /* cold: the kernel's pages of it are dropped; those of the store's file are not */
		int fd = must_open(path, O_RDONLY);

		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		must_close(fd, path);
	}
	begin = now_us();
	read_value(path, large_mib << 20);
	return now_us() - begin;
}

static int put(const char *key, size_t size)
{
	return kvfs_put(bare, key, piece, size, NULL, NULL);
}

static int append(const char *key, size_t size)
{
	return kvfs_append(bare, key, piece, size);
}

static int delete (const char *key, size_t size)
{
	(void)size;
	return kvfs_del(bare, key);
}

static double time_commits(const struct what *w, size_t round)
{
	double begin = now_us();
	char key[PATH_CAP];

	for (size_t i = 0; i < w->times; i++) {
		snprintf(key, sizeof(key), "%s%zu-%zu", w->fresh ? "new" : w->name, w->fresh ? round : 0, w->fresh ? i : i % KEYS);
		MUST(w->commit(key, w->size));
	}
	return (now_us() - begin) / (double)w->times;
}

static const struct what whats[] = {
	{"read 100 B", 100, time_reads, 500, false, NULL, false},
	{"read 4 KiB", 4096, time_reads, 500, false, NULL, false},
	{"read 128 KiB", PIECE, time_reads, 200, false, NULL, false},
	{"stat", 100, time_stats, 2000, false, NULL, false},
	{"overwrite 100 B", 100, time_overwrites, 200, false, put, false},
	{"overwrite 4 KiB", 4096, time_overwrites, 200, false, put, false},
	{"append 100 B", 100, time_appends, 200, false, append, false},
	{"create 100 B", 100, time_creates, 200, false, put, true},
	{"unlink", 100, time_unlinks, 200, false, delete, true},
	{"ls -l of 1,000", 0, time_lists, 5, false, NULL, false},
	{"large write", 0, time_large_write, 1, true, NULL, false},
	{"large cold read", 1, time_large_read, 1, true, NULL, false},
	{"large warm read", 0, time_large_read, 1, true, NULL, false},
};
enum { WHATS = sizeof(whats) / sizeof(*whats) };

static void load(const char *mnt)
{
	char dir[PATH_CAP];
	static const size_t sizes[] = {100, 4096, PIECE};

	for (size_t i = 0; i < KEYS; i++) {
		for (size_t s = 0; s < 3; s++) {
			write_value(path_of(mnt, "value%zu-%zu", sizes[s], i), O_CREAT, sizes[s]);
			read_value(path_of(mnt, "value%zu-%zu", sizes[s], i), sizes[s]);
			write_value(path_of(mnt, "over%zu-%zu", sizes[s], i), O_CREAT, sizes[s]);
		}
		write_value(path_of(mnt, "log%zu-%zu", i, 0), O_CREAT, 100);
	}
	snprintf(dir, sizeof(dir), "%s/list", mnt);
	if (mkdir(dir, 0755) < 0)
		fail("cannot make", dir);
	for (size_t i = 0; i < LISTED; i++)
		write_value(path_of(dir, "entry%zu", i, 0), O_CREAT, 10);
}

static void measure(const struct what *w, size_t rounds)
{
	static double us[2][ROUNDS_MAX], ratio[ROUNDS_MAX], commit[ROUNDS_MAX], rest[ROUNDS_MAX];
	size_t first = w->large ? 0 : 1; /* a small one's first round warms */
	double median;

	for (size_t r = 0; r < rounds + first; r++) {
		double own = w->commit ? time_commits(w, r) : 0;

		for (size_t turn = 0; turn < 2; turn++) {
			size_t which = (turn ^ r) & 1;
			double took = w->one(w, mounts[which], r);

			if (r >= first)
				us[which][r - first] = took;
		}
		if (r >= first)
			commit[r - first] = own;
	}
	for (size_t r = 0; r < rounds; r++) {
		ratio[r] = us[0][r] / us[1][r];
		rest[r] = (us[0][r] - commit[r]) / us[1][r];
	}
	median = percentile(ratio, rounds, 0.5);
	printf("%-16s ratio %.2f (%.2f .. %.2f)   nothing_fs ", w->name, median, ratio[0], ratio[rounds - 1]);
	if (w->large) {
		double mb = (double)(large_mib << 20) / 1e3;

		printf("%.2f GB/s, kvfs %.2f GB/s\n", mb / percentile(us[1], rounds, 0.5), mb / percentile(us[0], rounds, 0.5));
	} else {
		printf("%.1f us, kvfs %.1f us", percentile(us[1], rounds, 0.5), percentile(us[0], rounds, 0.5));
		if (w->commit)
			printf(", its commit %.1f us and %.2f", percentile(commit, rounds, 0.5), percentile(rest, rounds, 0.5));
		printf("\n");
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 11;

	if (argc > 3)
		large_mib = strtoul(argv[3], NULL, 10);
	if (argc < 2 || argc > 4 || rounds < 1 || rounds >= ROUNDS_MAX) {
		fprintf(stderr, "usage: mount_bench DIR [ROUNDS [MIB]]\n");
		return 2;
	}
	memset(piece, 'v', sizeof(piece));
	mount_both(argv[1]);
	open_bare(argv[1]);
	load(mounts[0]);
	load(mounts[1]);
	for (size_t i = 0; i < WHATS; i++)
		if (!whats[i].large || large_mib > 0)
			measure(&whats[i], whats[i].large && rounds > LARGE_ROUNDS ? LARGE_ROUNDS : rounds);
	return 0;
}
