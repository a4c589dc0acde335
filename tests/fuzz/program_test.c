/* Hostile stores behind the program's doors: the commands, and a mount, on the stores that mutate_test uses in the library.  Each ends by itself, in
 * time and by no signal, nor by its guard against one; and a value that it gives is one that was stored.
 *
 * KVFS_FUZZ_PROGRAMS=1000 for the long run.  A number that failed: KVFS_FUZZ_FIRST=N KVFS_FUZZ_PROGRAMS=1, with its KVFS_SEED. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mutate.h"
#include "victim.h"

enum { CASES = 60, LIMIT_S = 20, GETS = 8, ENTRIES_MAX = 10000 };

static struct image original;
static char store[200], mountpoint[200], output[200];
static unsigned long number;
static bool forged;
static struct {
	unsigned long mounts, refused, fine, errors;
} seen;

static const char *program(void)
{
	const char *bin = getenv("KVFS_BIN");
	return bin ? bin : "build/plain/kvfs";
}

/* ---- children ---- */

/* Its standard output and error go to `output`. */
static pid_t start(char *const argv[])
{
	pid_t pid = fork();
	if (pid == 0) {
		int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC, 0600), null = open("/dev/null", O_RDONLY);
		dup2(null, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		alarm(LIMIT_S);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void assert_ended_well(const char *what, int status)
{
	struct image text = image_load(output);
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 2 || memmem(text.data, text.len, "its data could not be read", 26))
		fail_msg("case %lu (%s): %s: status %d: %.2000s", number, mutations[number % mutation_count].name, what, status,
			(char *)text.data);
	free(text.data);
}

static int run(const char *command, const char *argument)
{
	char *argv[] = {(char *)program(), "-s", store, (char *)command, (char *)argument, NULL};
	int status;
	waitpid(start(argv), &status, 0);
	assert_ended_well(command, status);
	return WEXITSTATUS(status);
}

/* ---- commands ---- */

static void compare(int n, const char *door, const void *data, size_t len)
{
	if (!forged && !victim_had(n, data, len))
		fail_msg("case %lu: %s: key %d has %zu bytes that were never stored", number, door, n, len);
	seen.fine++;
}

static void compare_output(int n)
{
	struct image got = image_load(output);
	compare(n, "get", got.data, got.len);
	free(got.data);
}

static void be_told_absent(int n, const char *door)
{
	if (!forged)
		fail_msg("case %lu: %s: key %d is said to be absent", number, door, n);
	seen.errors++;
}

static void use_commands(void)
{
	char key[80];
	int status;
	run("ls", "-lR");
	for (int i = 0; i < GETS; i++) {
		int n = (int)((number * 31 + (unsigned)i * 37) % VICTIM_KEYS);
		victim_key(n, key);
		status = run("get", key);
		if (status == 1)
			be_told_absent(n, "get");
		else if (status)
			seen.errors++;
		else
			compare_output(n);
	}
	run("check", "--data");
}

/* ---- a mount ---- */

/* True when it is there (a root that cannot be read is), false when the program has ended before; its limit ends it if it does neither. */
static bool comes_up(pid_t pid, dev_t before, int *ret_status)
{
	struct stat st;
	while (stat(mountpoint, &st) == 0 && st.st_dev == before) {
		if (waitpid(pid, ret_status, WNOHANG) == pid)
			return false;
		usleep(2000);
	}
	return true;
}

static void read_file(int n)
{
	static uint8_t data[200000];
	char key[80], path[300];
	size_t len = 0;
	ssize_t r = -1;
	victim_key(n, key);
	snprintf(path, sizeof path, "%s/%s", mountpoint, key);
	int fd = open(path, O_RDONLY);
	while (fd >= 0 && len < sizeof data && (r = read(fd, data + len, sizeof data - len)) > 0)
		len += (size_t)r;
	if (r == 0)
		compare(n, "mount", data, len);
	else if (fd < 0 && errno == ENOENT)
		be_told_absent(n, "mount");
	else
		seen.errors++;
	if (fd >= 0)
		close(fd);
}

static unsigned entries;

static int count_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path, (void)st, (void)type, (void)ftw;
	return ++entries > ENTRIES_MAX;
}

static void list_all(void)
{
	entries = 0;
	nftw(mountpoint, count_entry, 16, FTW_PHYS);
	assert_true(entries <= ENTRIES_MAX); /* else it goes in circles */
}

static void change_something(void)
{
	char key[80], path[300];
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/new%u", mountpoint, i);
		int fd = open(path, O_WRONLY | O_CREAT, 0600);
		(void)!write(fd, path, sizeof path);
		close(fd);
	}
	victim_key((int)(number % VICTIM_KEYS), key);
	snprintf(path, sizeof path, "%s/%s", mountpoint, key);
	unlink(path);
}

static void use_mount(void)
{
	char *argv[] = {(char *)program(), "mount", "-f", store, mountpoint, NULL};
	struct stat st;
	int status;
	assert_int_equal(stat(mountpoint, &st), 0);
	pid_t pid = start(argv);
	if (comes_up(pid, st.st_dev, &status)) {
		seen.mounts++;
		list_all();
		for (int i = 0; i < 3 * GETS; i++)
			read_file((int)((number * 31 + (unsigned)i * 37) % VICTIM_KEYS));
		change_something();
		if (umount2(mountpoint, 0))
			umount2(mountpoint, MNT_DETACH);
		waitpid(pid, &status, 0);
	} else {
		seen.refused++;
	}
	umount2(mountpoint, MNT_DETACH); /* of one that died */
	assert_ended_well("mount", status);
}

/* ---- cases ---- */

static int setup(void **state)
{
	const char *directory = support_tmpdir();
	char good[250];
	(void)state;
	snprintf(store, sizeof store, "%.150s/store", directory);
	snprintf(mountpoint, sizeof mountpoint, "%.150s/mnt", directory);
	snprintf(output, sizeof output, "%.150s/output", directory);
	snprintf(good, sizeof good, "%s.good", store);
	victim_build(good, VICTIM_KEYS);
	strcat(good, "/data.mdb");
	original = image_load(good);
	return mkdir(mountpoint, 0700);
}

static unsigned long number_in(const char *variable, unsigned long otherwise)
{
	const char *text = getenv(variable);
	return text ? strtoul(text, NULL, 10) : otherwise;
}

static void test_program(void **state)
{
	unsigned long first = number_in("KVFS_FUZZ_FIRST", 0), cases = number_in("KVFS_FUZZ_PROGRAMS", CASES);
	(void)state;
	support_seed();
	for (number = first; number < first + cases; number++) {
		forged = mutations[number % mutation_count].forged;
		mutate_store(&original, number, store);
		use_commands();
		mutate_store(&original, number, store);
		use_mount();
	}
	printf("\t%lu stores: %lu mounted, %lu not; of the values asked for %lu were given, %lu refused\n", cases, seen.mounts,
		seen.refused, seen.fine, seen.errors);
	assert_true(seen.mounts && seen.fine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_program)};
	return cmocka_run_group_tests_name("hostile stores and the program", tests, setup, NULL);
}
