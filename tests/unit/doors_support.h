/* What the tests of the table of doors share: a directory for each, and other processes that take part. */
#ifndef DOORS_SUPPORT_H
#define DOORS_SUPPORT_H

#include "doors.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

/* The file as FORMAT.md says. */
#define FILE_SIZE 0x14e000
#define BOOT_AT 40
#define DOOR_AT(slot) (0x1000 + 512 * (slot))
#define NAMES_END_AT 96
#define MARKS_AT 0x42000
#define BUCKETS 8192

static const char *dir_path;
static int dir; /* an empty directory for each test */

static inline int setup(void **state)
{
	(void)state;
	dir_path = support_tmpdir();
	dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : 0;
}

static inline int teardown(void **state)
{
	(void)state;
	unlinkat(dir, "doors", 0);
	unlinkat(dir, "doors", AT_REMOVEDIR);
	close(dir);
	return rmdir(dir_path); /* nothing else may be left */
}

static inline struct kv_doors *open_door(const char *purpose)
{
	struct kvfs_error err;
	struct kv_doors *d = NULL;

	if (kv_doors_open(dir, 0600, (gid_t)-1, purpose, &d, &err) < 0)
		fail_msg("%s", err.text);
	return d;
}

static inline struct kvfs_error refused(int error)
{
	struct kvfs_error err = {0};
	struct kv_doors *d = NULL;

	assert_int_equal(kv_doors_open(dir, 0600, (gid_t)-1, "test", &d, &err), error);
	assert_null(d);
	assert_int_equal(err.code, error);
	return err;
}

/* Another process. Its function returns 0 when all was well; it says ready() and waits for go(). */
struct child {
	pid_t pid;
	int to, from;
};
struct child_end {
	int in, out;
};
typedef int child_fn(struct child_end *end);

#define CHECK(cond)                                                                                                                \
	do {                                                                                                                       \
		if (!(cond)) {                                                                                                     \
			fprintf(stderr, "%s:%d: in the child: %s\n", __FILE__, __LINE__, #cond);                                   \
			return 1;                                                                                                  \
		}                                                                                                                  \
	} while (0)

static inline struct child child_start(child_fn *fn)
{
	int to[2], from[2];
	struct child c;

	assert_int_equal(pipe2(to, O_CLOEXEC) | pipe2(from, O_CLOEXEC), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		struct child_end end = {to[0], from[1]};

		alarm(60);
		close(to[1]);
		close(from[0]);
		_exit(fn(&end));
	}
	close(to[0]);
	close(from[1]);
	c.to = to[1];
	c.from = from[0];
	return c;
}

static inline void child_ready(struct child *c)
{
	char byte;

	assert_int_equal(read(c->from, &byte, 1), 1);
}

static inline void child_go(struct child *c)
{
	assert_int_equal(write(c->to, "", 1), 1);
}

static inline int child_status(struct child *c)
{
	int status;

	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	close(c->to);
	close(c->from);
	return status;
}

static inline void child_kill(struct child *c)
{
	kill(c->pid, SIGKILL);
	assert_int_equal(child_status(c), SIGKILL);
}

/* The child's side: says that it is ready and waits. False when the parent is gone. */
static inline bool rendezvous(struct child_end *end)
{
	char byte;

	return write(end->out, "", 1) == 1 && read(end->in, &byte, 1) == 1;
}

static inline struct kv_doors *child_door(void)
{
	struct kvfs_error err;
	struct kv_doors *d = NULL;

	if (kv_doors_open(dir, 0600, (gid_t)-1, "child", &d, &err) < 0)
		fprintf(stderr, "in the child: %s\n", err.text);
	return d;
}

/* Every release and every death that is to be told. */
static inline bool told_all(struct kv_doors *d)
{
	bool any = false, all;
	uint64_t blob[8];

	for (int i = 0; i < KV_DOORS_MAX; i++) {
		while (kv_doors_released(d, blob, 8, &all) == 8)
			any |= all;
		any |= all;
	}
	return any;
}

static inline int child_lives(struct child_end *end)
{
	struct kv_doors *d = child_door();

	CHECK(d && kv_doors_hold(d, 42, 1) == 0 && kv_doors_set_mountpoint(d, "/mnt/child") == 0);
	rendezvous(end);
	kv_doors_close(d, false);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
