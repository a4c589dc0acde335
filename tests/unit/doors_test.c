/* The table of doors, who is there: slots, processes that race, bad files and bad places. */
#include "doors_support.h"

#include <glob.h>
#include <sched.h>
#include <sys/mount.h>
#include <time.h>

/* ---- who is there ---- */

static void test_one_door(void **state)
{
	struct kv_doors *d = open_door("library");
	uint64_t id = kv_doors_id(d);
	struct kvfs_door list[2];
	char longest[257];

	(void)state;
	assert_true(id != 0);
	assert_true(kv_doors_alive(d, id));
	assert_false(kv_doors_alive(d, id + 1));
	assert_false(kv_doors_alive(d, 0));
	assert_int_equal(kv_doors_list(d, list, 2), 1);
	assert_int_equal(kv_doors_list(d, NULL, 0), 1);
	assert_true(list[0].id == id && list[0].pid == getpid());
	assert_string_equal(list[0].purpose, "library");
	assert_string_equal(list[0].mountpoint, "");
	assert_true(llabs(list[0].since_ns / 1000000000 - time(NULL)) < 60);

	memset(longest, 'm', 256);
	longest[256] = '\0';
	assert_int_equal(kv_doors_set_mountpoint(d, "/mnt/kv"), 0);
	assert_int_equal(kv_doors_set_mountpoint(d, longest), -ENAMETOOLONG);
	kv_doors_list(d, list, 1);
	assert_string_equal(list[0].mountpoint, "/mnt/kv");
	longest[255] = '\0';
	assert_int_equal(kv_doors_set_mountpoint(d, longest), 0);
	kv_doors_list(d, list, 1);
	assert_string_equal(list[0].mountpoint, longest);
	kv_doors_close(d, false);

	d = open_door("a purpose that is too long");
	assert_true(kv_doors_id(d) != id);
	assert_false(kv_doors_alive(d, id));
	assert_int_equal(kv_doors_list(d, list, 2), 1);
	assert_string_equal(list[0].purpose, "a purpose that ");
	assert_string_equal(list[0].mountpoint, "");
	kv_doors_close(d, false);
	kv_doors_close(NULL, false);
	kv_doors_close(NULL, true);
}

static uint64_t number_at(const unsigned char *file, size_t at, size_t size)
{
	uint64_t n = 0;

	memcpy(&n, file + at, size);
	return n;
}

/* FORMAT.md, on a little-endian machine as on any other: numbers are native. */
static void test_bytes(void **state)
{
	static unsigned char file[FILE_SIZE + 1];
	struct kv_doors *d = open_door("test");
	unsigned long long ticks;
	struct stat st;
	FILE *f;
	int fd = -1;

	(void)state;
	assert_int_equal(kv_doors_hold(d, 77, 3), 0);
	assert_int_equal(kv_doors_set_mountpoint(d, "/m"), 0);
	/* A second descriptor drops our locks when it is closed: after the door. */
	fd = openat(dir, "doors", O_RDONLY);
	assert_int_equal(pread(fd, file, sizeof file, 0), FILE_SIZE);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_true(st.st_blocks * 512 >= FILE_SIZE);
	assert_memory_equal(file, "KVFSDOOR", 8);
	assert_int_equal(number_at(file, 8, 4), 3);
	assert_int_equal(number_at(file, 36, 4), FILE_SIZE);
	assert_int_equal(number_at(file, 64, 4), 1);
	assert_true(number_at(file, DOOR_AT(0), 8) == kv_doors_id(d));
	assert_int_equal(number_at(file, DOOR_AT(0) + 16, 4), getpid());
	f = popen("cut -d' ' -f22 /proc/$PPID/stat", "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &ticks), 1);
	pclose(f);
	assert_true(number_at(file, DOOR_AT(0) + 24, 8) == ticks);
	assert_int_equal(stat("/proc/self/ns/pid", &st), 0);
	assert_true(number_at(file, DOOR_AT(0) + 32, 8) == st.st_ino);
	assert_true(number_at(file, DOOR_AT(0) + 40, 8) == number_at(file, BOOT_AT, 8));
	assert_string_equal((char *)file + DOOR_AT(0) + 80, "test");
	assert_string_equal((char *)file + DOOR_AT(0) + 104, "/m");
	kv_doors_close(d, false);
	close(fd);
}

static void test_two_doors(void **state)
{
	struct kv_doors *d = open_door("parent");
	struct child c = child_start(child_lives);
	struct kvfs_door list[3];

	(void)state;
	child_ready(&c);
	assert_int_equal(kv_doors_list(d, list, 3), 2);
	assert_int_equal(kv_doors_list(d, list, 1), 2);
	assert_int_equal(list[0].pid, getpid());
	assert_int_equal(list[1].pid, c.pid);
	assert_string_equal(list[1].purpose, "child");
	assert_string_equal(list[1].mountpoint, "/mnt/child");
	assert_true(kv_doors_alive(d, list[1].id));
	assert_true(kv_doors_held(d, 42, 2));
	assert_int_equal(kv_doors_holds(d), 1);
	child_go(&c);
	assert_int_equal(child_status(&c), 0);
	assert_false(kv_doors_alive(d, list[1].id));
	assert_false(kv_doors_held(d, 42, 2));
	assert_int_equal(kv_doors_list(d, list, 3), 1);
	assert_int_equal(kv_doors_holds(d), 0);
	kv_doors_close(d, false);
}

static void test_killed(void **state)
{
	struct kv_doors *d = open_door("parent");
	struct kvfs_door list[2];
	struct child c;

	(void)state;
	told_all(d);
	for (int i = 0; i < 3; i++) { /* the same slot again and again */
		c = child_start(child_lives);
		child_ready(&c);
		assert_int_equal(kv_doors_list(d, list, 2), 2);
		assert_false(told_all(d) && i == 0);
		assert_true(kv_doors_held(d, 42, UINT64_MAX));
		child_kill(&c);
		assert_false(kv_doors_alive(d, list[1].id));
		assert_int_equal(kv_doors_list(d, list, 2), 1);
		assert_int_equal(kv_doors_holds(d), 0);
		if (i != 1)
			assert_false(kv_doors_held(d, 42, UINT64_MAX));
		if (i != 2)
			assert_true(told_all(d));
	}
	c = child_start(child_lives); /* takes the slot of one whose death nobody has noticed */
	child_ready(&c);
	assert_true(told_all(d));
	assert_int_equal(kv_doors_holds(d), 1);
	child_kill(&c);
	kv_doors_close(d, false);
}

static struct kv_doors *inherited;

static int child_inherits(struct child_end *end)
{
	struct kv_doors *d = child_door();

	CHECK(d && kv_doors_id(d) != kv_doors_id(inherited));
	CHECK(kv_doors_list(d, NULL, 0) == 2);
	kv_doors_close(inherited, true);
	CHECK(kv_doors_list(d, NULL, 0) == 2);
	CHECK(kv_doors_held(d, 5, 6));
	CHECK(rendezvous(end));
	kv_doors_close(d, false);
	return 0;
}

static void test_fork(void **state)
{
	struct child c;

	(void)state;
	inherited = open_door("parent");
	assert_int_equal(kv_doors_hold(inherited, 5, 5), 0);
	c = child_start(child_inherits);
	child_ready(&c);
	assert_int_equal(kv_doors_list(inherited, NULL, 0), 2);
	child_go(&c);
	assert_int_equal(child_status(&c), 0);
	assert_int_equal(kv_doors_list(inherited, NULL, 0), 1);
	assert_true(kv_doors_held(inherited, 5, 6));
	kv_doors_close(inherited, false);
}

static int child_opens(struct child_end *end)
{
	struct kv_doors *d;

	CHECK(rendezvous(end));
	d = child_door();
	CHECK(d);
	CHECK(rendezvous(end));
	CHECK(kv_doors_list(d, NULL, 0) == 16);
	CHECK(rendezvous(end));
	kv_doors_close(d, false);
	return 0;
}

static void test_sixteen_at_once(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct child c[16];
		int fd;

		unlinkat(dir, "doors", 0);
		if (round % 2) { /* half of the time a broken table is in the way */
			fd = openat(dir, "doors", O_WRONLY | O_CREAT, 0600);
			assert_int_equal(write(fd, "rubbish", 7), 7);
			close(fd);
		}
		for (int i = 0; i < 16; i++)
			c[i] = child_start(child_opens);
		for (int step = 0; step < 3; step++) {
			for (int i = 0; i < 16; i++)
				child_ready(&c[i]);
			for (int i = 0; i < 16; i++)
				child_go(&c[i]);
		}
		for (int i = 0; i < 16; i++)
			assert_int_equal(child_status(&c[i]), 0);
	}
}

static int child_takes_all_slots(struct child_end *end)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = KV_DOORS_MAX};
	int fd = openat(dir, "doors", O_RDWR);

	CHECK(fcntl(fd, F_SETLK, &fl) == 0);
	rendezvous(end);
	return 0;
}

static void test_too_many_doors(void **state)
{
	struct child c;

	(void)state;
	kv_doors_close(open_door("test"), false);
	c = child_start(child_takes_all_slots);
	child_ready(&c);
	assert_non_null(strstr(refused(-EUSERS).text, "512"));
	child_kill(&c);
	kv_doors_close(open_door("test"), false);
}

/* ---- snapshots, the sync point ---- */

static int child_snapshots(struct child_end *end)
{
	struct kv_doors *d = child_door();
	struct kv_doors_snapshot s;

	CHECK(d && kv_doors_synced(d) == 1000);
	kv_doors_set_synced(d, 900);
	kv_doors_set_synced(d, 2000);
	kv_doors_snapshot_begin(d, &s);
	CHECK(rendezvous(end));
	kv_doors_snapshot_end(d, &s);
	CHECK(rendezvous(end));
	kv_doors_close(d, false);
	return 0;
}

static void test_snapshots_and_sync(void **state)
{
	struct kv_doors *d = open_door("test");
	struct kv_doors_snapshot a, b;
	struct child c;
	uint64_t age;
	pid_t pid;

	(void)state;
	assert_int_equal(kv_doors_synced(d), 0);
	kv_doors_set_synced(d, 1000);
	kv_doors_oldest_snapshot(d, &pid, &age);
	assert_int_equal(pid, 0);
	c = child_start(child_snapshots);
	child_ready(&c);
	assert_int_equal(kv_doors_synced(d), 2000);
	usleep(30000);
	kv_doors_snapshot_begin(d, &a);
	usleep(20000);
	kv_doors_snapshot_begin(d, &b);
	kv_doors_oldest_snapshot(d, &pid, &age);
	assert_true(pid == c.pid && age >= 50 && age < 60000);
	child_go(&c);
	child_ready(&c);
	kv_doors_oldest_snapshot(d, &pid, &age);
	assert_true(pid == getpid() && age >= 20);
	kv_doors_snapshot_end(d, &a);
	kv_doors_snapshot_begin(d, &a);
	kv_doors_snapshot_end(d, &b);
	kv_doors_oldest_snapshot(d, &pid, &age);
	assert_int_equal(pid, getpid());
	kv_doors_snapshot_end(d, &a);
	kv_doors_oldest_snapshot(d, &pid, &age);
	assert_int_equal(pid, 0);
	child_go(&c);
	assert_int_equal(child_status(&c), 0);
	kv_doors_close(d, false);
}

/* ---- bad files, bad places ---- */

static void put_bytes(off_t at, const void *bytes, size_t len)
{
	int fd = openat(dir, "doors", O_WRONLY | O_CREAT, 0600);

	assert_int_equal(pwrite(fd, bytes, len, at), (ssize_t)len);
	close(fd);
}

static void test_replaced(void **state)
{
	static char rubbish[FILE_SIZE];
	struct support_rng rng = support_rng(1);
	struct stat st;

	(void)state;
	put_bytes(0, "", 0); /* empty */
	kv_doors_close(open_door("test"), false);
	memset(rubbish, 0xa5, sizeof rubbish);
	put_bytes(0, rubbish, sizeof rubbish);
	kv_doors_close(open_door("test"), false);
	put_bytes(8, "\2", 1); /* another version */
	kv_doors_close(open_door("test"), false);
	put_bytes(BOOT_AT, "12345678", 8); /* left by another boot */
	kv_doors_close(open_door("test"), false);
	put_bytes(FILE_SIZE, "x", 1); /* too long */
	kv_doors_close(open_door("test"), false);
	assert_int_equal(fstatat(dir, "doors", &st, 0), 0);
	assert_int_equal(st.st_size, FILE_SIZE);
	support_fill(&rng, rubbish, sizeof rubbish);
	put_bytes(64, rubbish, FILE_SIZE - 64); /* a good head on a broken body must not hurt, whatever it then says */
	for (int i = 0; i < 3; i++) {
		struct kv_doors *d = open_door("test");
		struct kvfs_door list[4];
		uint64_t blob[8];
		bool all;

		kv_doors_list(d, list, 4);
		kv_doors_alive(d, 0xa5a5a5a5a5a5a5a5);
		kv_doors_held(d, 0xa5a5a5a5a5a5a5a5, UINT64_MAX);
		kv_doors_released(d, blob, 8, &all);
		kv_doors_holds(d);
		if (kv_doors_hold(d, 1, 1) == 0)
			kv_doors_release(d, 1, 1);
		kv_doors_close(d, false);
	}
}

static void test_bad_while_used(void **state)
{
	char pid[16];
	struct child c;

	(void)state;
	c = child_start(child_lives);
	child_ready(&c);
	put_bytes(BOOT_AT, "12345678", 8);
	assert_non_null(strstr(refused(-EXDEV).text, "machine"));
	put_bytes(0, "rubbish", 7);
	snprintf(pid, sizeof pid, "%d", (int)c.pid);
	assert_non_null(strstr(refused(-EUCLEAN).text, pid));
	child_kill(&c);
	kv_doors_close(open_door("test"), false);
}

static void test_not_a_file(void **state)
{
	(void)state;
	assert_int_equal(mkdirat(dir, "doors", 0700), 0);
	assert_non_null(strstr(refused(-EUCLEAN).text, "not a regular file"));
	assert_int_equal(unlinkat(dir, "doors", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("/dev/null", dir, "doors"), 0);
	refused(-EUCLEAN);
	assert_int_equal(unlinkat(dir, "doors", 0), 0);
	assert_int_equal(mkfifoat(dir, "doors", 0600), 0);
	refused(-EUCLEAN);
}

/* Not with <dirent.h>: the library has a header of that name. */
static size_t entries(const char *path)
{
	char pattern[80];
	glob_t g;
	size_t n;

	snprintf(pattern, sizeof pattern, "%s/*", path);
	n = glob(pattern, 0, NULL, &g) == 0 ? g.gl_pathc : 0;
	globfree(&g);
	return n;
}

static int child_full_disk(struct child_end *end)
{
	struct kvfs_error err = {0};
	struct kv_doors *d = NULL;
	int fd;

	(void)end;
	CHECK(unshare(CLONE_NEWNS) == 0);
	CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("none", dir_path, "tmpfs", 0, "size=64k") == 0);
	fd = open(dir_path, O_RDONLY | O_DIRECTORY);
	CHECK(kv_doors_open(fd, 0600, (gid_t)-1, "test", &d, &err) == -ENOSPC);
	CHECK(err.code == -ENOSPC && strstr(err.text, "doors"));
	CHECK(entries(dir_path) == 0);
	CHECK(mount("none", dir_path, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) == 0);
	CHECK(kv_doors_open(fd, 0600, (gid_t)-1, "test", &d, &err) == -EROFS);
	CHECK(strstr(err.text, "-o ro"));
	CHECK(mount("none", dir_path, "tmpfs", MS_REMOUNT, "size=2m") == 0);
	CHECK(kv_doors_open(fd, 0640, 12345, "test", &d, &err) == 0);
	CHECK(entries(dir_path) == 1);
	kv_doors_close(d, false);
	return 0;
}

static void test_full_disk(void **state)
{
	struct child c;

	(void)state;
	if (geteuid() != 0)
		skip();
	c = child_start(child_full_disk);
	assert_int_equal(child_status(&c), 0);
}

/* Runs `fn` as pid 1 of a new namespace. */
static int in_new_pid_namespace(child_fn *fn, struct child_end *end)
{
	int status;
	pid_t pid;

	CHECK(unshare(CLONE_NEWPID) == 0);
	pid = fork();
	if (pid == 0)
		_exit(fn(end));
	CHECK(waitpid(pid, &status, 0) == pid);
	return status != 0;
}

static int foreign_refused(struct child_end *end)
{
	struct kvfs_error err = {0};
	struct kv_doors *d = NULL;

	(void)end;
	CHECK(kv_doors_open(dir, 0600, (gid_t)-1, "test", &d, &err) == -EXDEV);
	CHECK(strstr(err.text, "pid namespace") && strstr(err.text, "share that mount"));
	return 0;
}

static int child_foreign_refused(struct child_end *end)
{
	return in_new_pid_namespace(foreign_refused, end);
}

static int child_foreign_lives(struct child_end *end)
{
	return in_new_pid_namespace(child_lives, end);
}

static void test_other_pid_namespace(void **state)
{
	struct kv_doors *d;
	struct child c;

	(void)state;
	if (geteuid() != 0)
		skip();
	d = open_door("test");
	c = child_start(child_foreign_refused);
	assert_int_equal(child_status(&c), 0);
	assert_int_equal(kv_doors_list(d, NULL, 0), 1);
	kv_doors_close(d, false);

	c = child_start(child_foreign_lives);
	child_ready(&c);
	assert_non_null(strstr(refused(-EXDEV).text, "child"));
	child_go(&c);
	assert_int_equal(child_status(&c), 0);
	kv_doors_close(open_door("test"), false); /* what it left behind is no reason */
}

static int child_no_rights(struct child_end *end)
{
	struct kvfs_error err = {0};
	struct kv_doors *d = NULL;

	(void)end;
	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	CHECK(kv_doors_open(dir, 0600, (gid_t)-1, "test", &d, &err) == -EACCES);
	CHECK(strstr(err.text, "mount of it"));
	CHECK(strstr(err.text, "doors"));
	return 0;
}

static void test_rights(void **state)
{
	struct child c;
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(fchmod(dir, 0755), 0);
	c = child_start(child_no_rights); /* cannot make one */
	assert_int_equal(child_status(&c), 0);
	assert_int_equal(fchown(dir, 65533, 65533), 0);
	kv_doors_close(open_door("test"), false); /* root makes it for the owner of the store */
	assert_int_equal(fstatat(dir, "doors", &st, 0), 0);
	assert_true(st.st_uid == 65533 && st.st_mode == (S_IFREG | 0600));
	c = child_start(child_no_rights); /* cannot open it */
	assert_int_equal(child_status(&c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_door),
		TEST(test_bytes),
		TEST(test_two_doors),
		TEST(test_killed),
		TEST(test_fork),
		TEST(test_sixteen_at_once),
		TEST(test_too_many_doors),
		TEST(test_snapshots_and_sync),
		TEST(test_replaced),
		TEST(test_bad_while_used),
		TEST(test_not_a_file),
		TEST(test_full_disk),
		TEST(test_other_pid_namespace),
		TEST(test_rights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
