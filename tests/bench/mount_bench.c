/* What a call costs in a mount of kvfs beside a file system that does nothing (nothing_fs), both through the kernel, and beside the file system
 * that DIR is on: the same calls in turns within one run, then storms of them: real programs on a real tree.  Prints the median, least and
 * greatest ratio to nothing_fs over the rounds.  kvfs commits without flushes, or as KVFS_DURABILITY says.  What commits is done once
 * more, to a nothing_fs that commits the same to a kvfs store: what that takes longer than doing nothing is the commit, and `less` the
 * ratio of what is left when the commit is taken off.
 *
 *   mount_bench DIR [ROUNDS [MIB [CSV]]]     DIR must not exist, and is left there, unmounted; MIB: of the large value (256, 0 for none)
 *
 * KVFS_BIN and NOTHING_FS name the programs; by default those of the build that this one is of.  KVFS_BENCH_TREE is the tree (/usr/include/linux).
 * Its git directory is on the file system beneath, for nothing_fs keeps no bytes; for the same reason its grep reads zeros. */
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

enum { ROUNDS_MAX = 101, LARGE_ROUNDS = 3, STORM_ROUNDS = 5, KEYS = 16, LISTED = 1000, PIECE = 128 << 10, PATH_CAP = 256 };
enum { FUSE_MAGIC = 0x65735546 };

enum { KVFS, NOTHING, BENEATH, COMMITTING, MOUNTS }; /* BENEATH is no mount: a directory */
static char mounts[MOUNTS][PATH_CAP / 2];
static pid_t servers[MOUNTS];
static size_t large_mib = 256;
static char piece[PIECE];
static FILE *csv;

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
	for (int i = 0; i < MOUNTS; i++) {
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

static void mount_all(const char *dir)
{
	static const char *const names[MOUNTS] = {"kvfs", "nothing", "beneath", "committing"};
	static char store[PATH_CAP], commit[PATH_CAP + 16], durability[PATH_CAP];
	const char *level = getenv("KVFS_DURABILITY");
	char *kvfs = program("KVFS_BIN", "../../kvfs"), *nothing = program("NOTHING_FS", "nothing_fs");

	snprintf(store, sizeof(store), "%s/store", dir);
	snprintf(commit, sizeof(commit), "commit=%s/commits", dir);
	snprintf(durability, sizeof(durability), "durability=%s", level ? level : "none");
	if (mkdir(dir, 0700) < 0)
		fail("cannot make", dir);
	for (int i = 0; i < MOUNTS; i++) {
		snprintf(mounts[i], sizeof(mounts[i]), "%s/%s", dir, names[i]);
		if (mkdir(mounts[i], 0700) < 0)
			fail("cannot make", mounts[i]);
	}
	run((char *[]){kvfs, "init", store, NULL});
	atexit(unmount_all);
	servers[KVFS] = start((char *[]){kvfs, "mount", "-f", "-o", durability, store, mounts[KVFS], NULL});
	servers[NOTHING] = start((char *[]){nothing, "-f", mounts[NOTHING], NULL});
	servers[COMMITTING] = start((char *[]){nothing, "-f", "-o", commit, mounts[COMMITTING], NULL});
	for (int i = 0; i < MOUNTS; i++)
		if (i != BENEATH)
			await_mount(i);
}

/* ---- what is measured: each returns microseconds for one operation ---- */

struct what {
	const char *name;
	size_t size; /* of the value */
	double (*one)(const struct what *w, const char *mnt, size_t round);
	size_t times;
	bool large; /* of the large value: fewer rounds, and shown as GB/s */
	bool commits;
	const char *command; /* of a storm */
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

/* ---- storms: a shell's command each, in a mount ---- */

static void shell(const char *command, const char *mnt)
{
	char line[512];

	/* $M, the mount; $D, the directory that it is in; $G, where git keeps what it knows of this one */
	snprintf(line, sizeof(line), "M=%s D=${M%%/*} G=$D/git.${M##*/}; { %s; } >/dev/null", mnt, command);
	run((char *[]){"/bin/sh", "-ec", line, NULL});
}

static void make_tree(const char *dir)
{
	const char *tree = getenv("KVFS_BENCH_TREE");
	char line[512];

	snprintf(line, sizeof(line), "tar chf $M/tree.tar --hard-dereference -C '%s' .", tree ? tree : "/usr/include/linux");
	shell(line, dir);
}

static double time_storm(const struct what *w, const char *mnt, size_t round)
{
	double begin;

	(void)round;
	if (strncmp(w->name, "git", 3) == 0)
		shell("rm -rf $G; git init -q --bare $G; git --git-dir=$G --work-tree=$M/tree add -A", mnt);
	begin = now_us();
	shell(w->command, mnt);
	return now_us() - begin;
}

static const struct what whats[] = {
	{"read 100 B", 100, time_reads, 500, false, false, NULL},
	{"read 4 KiB", 4096, time_reads, 500, false, false, NULL},
	{"read 128 KiB", PIECE, time_reads, 200, false, false, NULL},
	{"stat", 100, time_stats, 2000, false, false, NULL},
	{"overwrite 100 B", 100, time_overwrites, 200, false, true, NULL},
	{"overwrite 4 KiB", 4096, time_overwrites, 200, false, true, NULL},
	{"append 100 B", 100, time_appends, 200, false, true, NULL},
	{"create 100 B", 100, time_creates, 200, false, true, NULL},
	{"unlink", 100, time_unlinks, 200, false, true, NULL},
	{"ls -l of 1,000", 0, time_lists, 5, false, false, NULL},
	{"large write", 0, time_large_write, 1, true, false, NULL},
	{"large cold read", 1, time_large_read, 1, true, false, NULL},
	{"large warm read", 0, time_large_read, 1, true, false, NULL},
	{"untar", 0, time_storm, 1, false, false, "mkdir $M/tree; tar xf $D/tree.tar -C $M/tree"},
	{"git status", 0, time_storm, 1, false, false, "git --git-dir=$G --work-tree=$M/tree status --short"},
	{"grep -r", 0, time_storm, 1, false, false, "! grep -rs 'no such text is there' $M/tree"},
	{"rm -r", 0, time_storm, 1, false, false, "rm -r $M/tree"},
};
enum { WHATS = sizeof(whats) / sizeof(*whats) };

static void load(const char *mnt)
{
	char dir[sizeof(mounts) + 8];
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

static void tell(const struct what *w, double us[][ROUNDS_MAX], double *ratio, double *beneath, size_t rounds)
{
	double median = percentile(ratio, rounds, 0.5), kvfs = percentile(us[KVFS], rounds, 0.5);
	double nothing = percentile(us[NOTHING], rounds, 0.5), plain = percentile(us[BENEATH], rounds, 0.5);

	printf("%-16s ratio %.2f (%.2f .. %.2f)   nothing_fs ", w->name, median, ratio[0], ratio[rounds - 1]);
	if (w->large) {
		double mb = (double)(large_mib << 20) / 1e3;

		printf("%.2f GB/s, kvfs %.2f GB/s, beneath %.2f GB/s", mb / nothing, mb / kvfs, mb / plain);
	} else {
		printf("%.1f us, kvfs %.1f us, beneath %.1f us", nothing, kvfs, plain);
	}
	if (csv)
		fprintf(csv, "\"%s\",%.2f,%.2f,%.2f,%.2f,%.2f\n", w->name, kvfs, nothing, plain, median,
			percentile(beneath, rounds, 0.5));
}

static void measure(const struct what *w, size_t rounds)
{
	static double us[MOUNTS][ROUNDS_MAX], ratio[ROUNDS_MAX], beneath[ROUNDS_MAX], commit[ROUNDS_MAX], rest[ROUNDS_MAX];
	size_t first = w->large ? 0 : 1; /* a small one's first round warms */
	size_t count = w->commits ? MOUNTS : MOUNTS - 1;

	for (size_t r = 0; r < rounds + first; r++) {
		for (size_t turn = 0; turn < count; turn++) {
			size_t which = (turn + r) % count;
			double took = w->one(w, mounts[which], r);

			if (r >= first)
				us[which][r - first] = took;
		}
	}
	for (size_t r = 0; r < rounds; r++) {
		ratio[r] = us[KVFS][r] / us[NOTHING][r];
		beneath[r] = us[KVFS][r] / us[BENEATH][r];
		commit[r] = us[COMMITTING][r] - us[NOTHING][r];
		rest[r] = (us[KVFS][r] - commit[r]) / us[NOTHING][r];
	}
	tell(w, us, ratio, beneath, rounds);
	if (w->commits) {
		double left = percentile(rest, rounds, 0.5);

		printf(", a commit %.1f us, less that %.2f (%.2f .. %.2f)", percentile(commit, rounds, 0.5), left, rest[0],
			rest[rounds - 1]);
	}
	printf("\n");
	fflush(stdout);
}

/* The four of a round belong together: what untar made, rm -r removes. */
static void measure_storms(const struct what *w, size_t kinds, size_t rounds)
{
	static double us[WHATS][MOUNTS][ROUNDS_MAX], ratio[ROUNDS_MAX], beneath[ROUNDS_MAX];

	for (size_t r = 0; r < rounds; r++)
		for (size_t k = 0; k < kinds; k++)
			for (size_t turn = 0; turn < COMMITTING; turn++) {
				size_t which = (turn + r) % COMMITTING;

				us[k][which][r] = w[k].one(&w[k], mounts[which], r);
			}
	for (size_t k = 0; k < kinds; k++) {
		for (size_t r = 0; r < rounds; r++) {
			ratio[r] = us[k][KVFS][r] / us[k][NOTHING][r];
			beneath[r] = us[k][KVFS][r] / us[k][BENEATH][r];
		}
		tell(&w[k], us[k], ratio, beneath, rounds);
		printf("\n");
	}
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 11, i;

	if (argc > 3)
		large_mib = strtoul(argv[3], NULL, 10);
	if (argc < 2 || argc > 5 || rounds < 1 || rounds >= ROUNDS_MAX) {
		fprintf(stderr, "usage: mount_bench DIR [ROUNDS [MIB [CSV]]]\n");
		return 2;
	}
	if (argc > 4) {
		csv = fopen(argv[4], "w");
		if (!csv)
			fail("cannot make", argv[4]);
		fprintf(csv, "call,kvfs_us,nothing_fs_us,beneath_us,to_nothing_fs,to_beneath\n");
	}
	memset(piece, 'v', sizeof(piece));
	mount_all(argv[1]);
	make_tree(argv[1]);
	for (i = 0; i < MOUNTS; i++)
		load(mounts[i]);
	for (i = 0; i < WHATS && !whats[i].command; i++)
		if (!whats[i].large || large_mib > 0)
			measure(&whats[i], whats[i].large && rounds > LARGE_ROUNDS ? LARGE_ROUNDS : rounds);
	measure_storms(&whats[i], WHATS - i, rounds < STORM_ROUNDS ? rounds : STORM_ROUNDS);
	return csv && fclose(csv) != 0;
}
