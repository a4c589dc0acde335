/* A disk that fails or is full, and memory that runs out, inside the programs: at every single call of each command, and of a mount at work.
 * A command does what it says or ends with status 2 and a line, a program in the mount gets an error, the daemon goes on; and the store has
 * the old state or the new one, whole.
 *
 * KVFS_FAULTS  one call in so many fails (12, beginning with any; the long form: 1) */
#include "fault.h"
#include "verify.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "invariants.h"
#include "jobs.h"
#include "trace.h"

enum { LIMIT_S = 20, CALLS_MAX = 20000, LARGE = 1500000 };

struct trial {
	enum fault kind;
	int error;
	uint64_t n;
	bool forever; /* all after it fail too */
};

struct scene {
	char base[PATH_MAX]; /* all that is in it fails */
	char path[PATH_MAX + 8], dest[PATH_MAX + 8], mnt[PATH_MAX + 8], log[PATH_MAX + 8], tree[PATH_MAX + 8];
	struct model *m;
	struct trial t;
	uint64_t runs;
};

static unsigned step_wanted(void)
{
	const char *env = getenv("KVFS_FAULTS");
	return env && *env ? (unsigned)strtoul(env, NULL, 0) : 12;
}

/* Whole, and one of two states (or of one: NULL): true if it is the first. */
static bool must_be_whole(struct scene *s, const struct model *a, const struct model *b, const char *what)
{
	char why[200], other[200];
	struct kvfs_store *store = doors_open(s->path, 0, KVFS_FULL);
	check_invariants(store, NULL);
	bool first = verify_equals(store, a, why);
	if (!first && (!b || !verify_equals(store, b, other)))
		fail_msg("call %llu failing with %s: %s: %s%s%s", (unsigned long long)s->t.n, strerror(s->t.error), what, why,
			b ? "; or " : "", b ? other : "");
	kvfs_close(store);
	return first;
}

static char *text_of(const char *path)
{
	static char text[8192];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	text[n] = 0;
	if (f)
		fclose(f);
	return text;
}

/* ---- commands ---- */

/* A program with that on its standard input; what it says goes to the log.  Returns the wait status. */
static int run(struct scene *s, char *const argv[], const char *input)
{
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int in = open(input ? input : "/dev/null", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		int log = open(s->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		fault_arm(false);
		dup2(in, 0);
		dup2(null, 1);
		dup2(log, 2);
		alarm(LIMIT_S);
		setenv("LD_PRELOAD", getenv("KVFS_RECORDER"), 1);
		fault_arm(true);
		execv(argv[0], argv);
		_exit(127);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	fault_arm(false);
	return status;
}

/* What a command does to the model, with the tree that is imported being "tree". */
static const struct command {
	const char *words[6]; /* "DEST": a place for a backup; "TREE": a directory to be imported */
	const char *input; /* in the tree */
	struct op op[3];
	bool changes_by_parts;
	bool finds; /* says by status 1 and on standard output what it found */
} commands[] = {
	{.words = {"put", "a"}, .input = "small", .op = {{.kind = OP_PUT, .key = "a", .len = 300, .seed = 1}}},
	{.words = {"put", "b/large"}, .input = "large", .op = {{.kind = OP_PUT, .key = "b/large", .len = LARGE, .seed = 2}}},
	{.words = {"mv", "-T", "a", "c"}, .op = {{.kind = OP_RENAME, .key = "a", .other = "c"}}},
	{.words = {"del", "c"}, .op = {{.kind = OP_DEL, .key = "c"}}},
	{.words = {"apply"}, .input = "changes", .op = {{.kind = OP_PUT, .key = "d"}, {.kind = OP_PUT, .key = "e"}}},
	{.words = {"import", "TREE", "t"},
		.op = {{.kind = OP_PUT, .key = "t/small", .len = 300, .seed = 1},
			{.kind = OP_PUT, .key = "t/large", .len = LARGE, .seed = 2}, {.kind = OP_PUT, .key = "t/changes"}},
		.changes_by_parts = true},
	{.words = {"get", "b/large"}},
	{.words = {"export", "t", "-"}},
	{.words = {"ls", "-lR"}},
	{.words = {"check", "--data"}, .finds = true},
	{.words = {"backup", "--force", "DEST"}},
	{.words = {"sync"}},
	{.words = {"compact"}},
	{.words = {"del", "-r", "t"}, .op = {{.kind = OP_DEL_TREE, .key = "t"}}, .changes_by_parts = true},
};

static const char changes[] = "put d \"\"\nput e \"\"\n";

static void do_model(const struct command *c, struct model *m)
{
	for (size_t i = 0; i < 3 && *c->op[i].key; i++) {
		if (strcmp(c->op[i].key, "t/changes") == 0)
			assert_ok(model_put(m, c->op[i].key, changes, sizeof changes - 1, 0, 0644));
		else
			assert_ok(op_model(&c->op[i], m));
	}
}

static void make_file(const struct scene *s, const char *name, const void *data, size_t len)
{
	char path[2 * PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", s->tree, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0 && write(fd, data, len) == (ssize_t)len && close(fd) == 0);
}

static int run_command(struct scene *s, const struct command *c)
{
	char input[2 * PATH_MAX];
	char *argv[12] = {getenv("KVFS_BIN"), "-s", s->path};
	for (size_t i = 0; i < 6 && c->words[i]; i++)
		argv[3 + i] = strcmp(c->words[i], "DEST") == 0   ? s->dest
			      : strcmp(c->words[i], "TREE") == 0 ? s->tree
								 : (char *)c->words[i];
	snprintf(input, sizeof input, "%s/%s", s->tree, c->input ? c->input : "");
	return run(s, argv, c->input ? input : NULL);
}

/* One fault in one command.  False: it never came.  *ret_same: the store is what it was. */
static bool try_command(struct scene *s, const struct command *c, bool *ret_same)
{
	struct model *next = model_clone(s->m);
	do_model(c, next);
	fault_set(s->t.kind, s->t.n, s->t.error, s->t.forever);
	int status = run_command(s, c);
	bool hit = fault_hit(), done = status == 0;
	fault_set(FAULT_NONE, 0, 0, false);
	s->runs++;
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 2)
		fail_msg("%s: call %llu failing with %s: wait status %x: %s", c->words[0], (unsigned long long)s->t.n,
			strerror(s->t.error), status, text_of(s->log));
	if (!done && (!hit || !(*text_of(s->log) || (c->finds && WEXITSTATUS(status) == 1))))
		fail_msg("%s: call %llu failing with %s%s: status %x: '%s'", c->words[0], (unsigned long long)s->t.n,
			strerror(s->t.error), hit ? "" : ", which did not come", status, text_of(s->log));
	*ret_same = !done && !c->changes_by_parts;
	if (done)
		must_be_whole(s, next, NULL, c->words[0]);
	else if (*ret_same)
		*ret_same = must_be_whole(s, s->m, next, c->words[0]);
	model_free(next);
	return hit;
}

/* Of each command one call after the other fails, and then it is done. */
static void fail_commands(struct scene *s, enum fault kind, int error, bool forever)
{
	struct support_rng rng = support_rng((uint64_t)kind * 100 + (uint64_t)error);
	unsigned step = step_wanted() * (kind == FAULT_MEMORY && step_wanted() > 1 ? 2 : 1);
	char before[PATH_MAX + 8], keep[PATH_MAX + 16];
	snprintf(before, sizeof before, "%s", s->path);
	snprintf(keep, sizeof keep, "%s.keep", s->path);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		const struct command *c = &commands[i];
		s->t = (struct trial){.kind = kind, .error = error, .forever = forever, .n = 1 + support_below(&rng, step)};
		char *copy[] = {"/bin/cp", "-a", before, keep, NULL}, *back[] = {"/bin/cp", "-a", keep, before, NULL};
		assert_int_equal(support_exec(copy, LIMIT_S, NULL), 0);
		for (bool same; try_command(s, c, &same);) {
			assert_true((s->t.n += step) < CALLS_MAX);
			if (same)
				continue;
			support_remove(before);
			assert_int_equal(support_exec(back, LIMIT_S, NULL), 0);
		}
		support_remove(keep);
		do_model(c, s->m);
		must_be_whole(s, s->m, NULL, "at last");
	}
	print_message("             %llu runs\n", (unsigned long long)s->runs);
}

/* ---- a mount ---- */

static const struct op work[] = {
	{.kind = OP_PUT, .key = "a", .len = 300, .seed = 1},
	{.kind = OP_PUT, .key = "large", .len = LARGE, .seed = 2},
	{.kind = OP_APPEND, .key = "a", .len = 3000, .seed = 3},
	{.kind = OP_UPDATE, .key = "large", .len = 9000, .at = 33000, .seed = 4},
	{.kind = OP_MKDIR, .key = "dir"},
	{.kind = OP_LINK, .key = "a", .other = "dir/b"},
	{.kind = OP_RENAME, .key = "a", .other = "dir/c"},
	{.kind = OP_SETXATTR, .key = "dir/c", .len = 1000, .seed = 5},
	{.kind = OP_CHMOD, .key = "dir/b", .seed = 6},
	{.kind = OP_DEL, .key = "large"},
	{.kind = OP_SYNC},
};

static pid_t start_mount(struct scene *s, const char *options)
{
	struct stat before, now;
	assert_int_equal(stat(s->mnt, &before), 0);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int log = open(s->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		dup2(log, 1);
		dup2(log, 2);
		setenv("LD_PRELOAD", getenv("KVFS_RECORDER"), 1);
		execl(getenv("KVFS_BIN"), "kvfs", "mount", "-f", s->path, s->mnt, "-o", options, NULL);
		_exit(127);
	}
	for (int i = 0; stat(s->mnt, &now) || now.st_dev == before.st_dev; i++) {
		if (i > 5000)
			fail_msg("the mount does not come up: %s", text_of(s->log));
		usleep(1000);
	}
	return pid;
}

static void end_mount(struct scene *s, pid_t pid)
{
	int status;
	if (support_exec((char *[]){"fusermount3", "-u", s->mnt, NULL}, LIMIT_S, NULL))
		fail_msg("call %llu failing with %s: the mount cannot be undone: %s", (unsigned long long)s->t.n,
			strerror(s->t.error), text_of(s->log));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status))
		fail_msg("call %llu failing with %s: the daemon ended with %x: %s", (unsigned long long)s->t.n,
			strerror(s->t.error), status, text_of(s->log));
}

/* -EROFS: a disk that has failed once is not written to again by this process. */
static bool is_clean(const struct scene *s, int r)
{
	bool full = s->t.error == ENOSPC || s->t.error == ENOMEM;
	return r == -s->t.error || r == -EIO || (!full && r == -EROFS) || (s->t.error == ENOMEM && r == -ENFILE);
}

/* Nobody can know whether it was done. */
static void settle(struct scene *s, struct model *next, const struct op *op)
{
	if (must_be_whole(s, s->m, next, op_text(op))) {
		model_free(next);
		return;
	}
	model_free(s->m);
	s->m = next;
}

/* What is done while a call fails: to the end if it is only that memory or space was missing for a moment, else until then. */
static void do_work(struct scene *s)
{
	struct doors doors = {.mount = s->mnt};
	bool full = s->t.error == ENOSPC || s->t.error == ENOMEM;
	for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
		struct op op = work[i];
		struct model *next = model_clone(s->m);
		op.door = DOOR_MOUNT;
		assert_ok(op_model(&op, next));
		int r = op_run(&op, &doors, NULL);
		if (r && (!fault_hit() || !is_clean(s, r)))
			fail_msg("%s: call %llu failing with %s%s: %s: %s", op_text(&op), (unsigned long long)s->t.n,
				strerror(s->t.error), fault_hit() ? "" : ", which did not come", strerror(-r), text_of(s->log));
		if (r && !full) {
			fault_arm(false);
			settle(s, next, &op);
			return;
		}
		fault_arm(!r);
		if (r && op.kind == OP_APPEND && !must_be_whole(s, s->m, next, op_text(&op)))
			r = 0; /* once is enough */
		if (r)
			r = op_run(&op, &doors, NULL);
		if (r == -EIO) { /* the root could not be written: LMDB goes on when it is opened anew */
			settle(s, next, &op);
			return;
		}
		if (r && r != -EEXIST && r != -ENOENT)
			fail_msg("%s: after call %llu failed with %s: %s: %s", op_text(&op), (unsigned long long)s->t.n,
				strerror(s->t.error), strerror(-r), text_of(s->log));
		model_free(s->m);
		s->m = next;
	}
}

/* False: the fault never came. */
static bool try_mount(struct scene *s, const char *options)
{
	support_remove(s->path);
	kvfs_close(doors_open(s->path, KVFS_CREATE, KVFS_FULL));
	model_free(s->m);
	s->m = model_new(true);
	pid_t pid = start_mount(s, options);
	fault_set(s->t.kind, s->t.n, s->t.error, s->t.forever);
	fault_arm(true);
	do_work(s);
	fault_arm(false);
	bool hit = fault_hit();
	fault_set(FAULT_NONE, 0, 0, false);
	end_mount(s, pid);
	must_be_whole(s, s->m, NULL, "at last");
	s->runs++;
	return hit;
}

static void fail_mount(struct scene *s, enum fault kind, int error, bool forever)
{
	struct support_rng rng = support_rng((uint64_t)kind * 100 + (uint64_t)error + 1);
	unsigned step = step_wanted() * (kind == FAULT_MEMORY && step_wanted() > 1 ? 3 : 1);
	s->t = (struct trial){.kind = kind, .error = error, .forever = forever, .n = 1 + support_below(&rng, step)};
	while (try_mount(s, "durability=full"))
		assert_true((s->t.n += step) < CALLS_MAX);
	print_message("             %llu runs\n", (unsigned long long)s->runs);
}

/* The disk is pulled: from one call on, all fail.  Errors, no crash, a mount that ends; and of what was done at least what was promised. */
static bool pull_disk(struct scene *s, bool relaxed)
{
	enum { WORK = sizeof work / sizeof *work };
	struct doors doors = {.mount = s->mnt};
	struct model *states[WORK + 1] = {model_new(true)};
	size_t n = 1, lowest = 0;
	char why[200] = "", name[PATH_MAX + 16], byte;
	support_remove(s->path);
	kvfs_close(doors_open(s->path, KVFS_CREATE, KVFS_FULL));
	pid_t pid = start_mount(s, relaxed ? "durability=relaxed" : "durability=full");
	fault_set(FAULT_DISK, s->t.n, EIO, true);
	fault_arm(true);
	for (size_t i = 0; i < WORK; i++) {
		struct op op = work[i];
		op.door = DOOR_MOUNT;
		int r = op_run(&op, &doors, NULL);
		if (r && (!fault_hit() || (!is_clean(s, r) && r != -ENOENT)))
			fail_msg("%s: pulled at call %llu: %s", op_text(&op), (unsigned long long)s->t.n, strerror(-r));
		states[n] = model_clone(states[n - 1]);
		assert_ok(op_model(&op, states[n++]));
		if (r)
			break;
		if (!relaxed || op.kind == OP_SYNC)
			lowest = n - 1;
	}
	snprintf(name, sizeof name, "%s/a", s->mnt);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, &byte, 1) < 0 && errno != EIO)
		fail_msg("reading, pulled at call %llu: %s", (unsigned long long)s->t.n, strerror(errno));
	close(fd);
	bool hit = fault_hit();
	end_mount(s, pid);
	fault_arm(false);
	fault_set(FAULT_NONE, 0, 0, false);
	struct kvfs_store *store = doors_open(s->path, 0, KVFS_FULL);
	check_invariants(store, NULL);
	size_t k = n;
	while (k > lowest && !verify_equals(store, states[k - 1], why))
		k--;
	if (k <= lowest)
		fail_msg("pulled at call %llu: none of the states since %zu: %s", (unsigned long long)s->t.n, lowest, why);
	kvfs_close(store);
	while (n)
		model_free(states[--n]);
	s->runs++;
	return hit;
}

static void pull_disks(struct scene *s, bool relaxed)
{
	struct support_rng rng = support_rng(relaxed + 77);
	unsigned step = step_wanted();
	s->t = (struct trial){.kind = FAULT_DISK, .error = EIO, .forever = true, .n = 1 + support_below(&rng, step)};
	while (pull_disk(s, relaxed))
		assert_true((s->t.n += step) < CALLS_MAX);
	print_message("             %llu runs\n", (unsigned long long)s->runs);
}

static void test_mount_whose_disk_is_pulled(void **state)
{
	pull_disks(*state, false);
}

static void test_relaxed_mount_whose_disk_is_pulled(void **state)
{
	pull_disks(*state, true);
}

/* Contract 5: at `relaxed` the flush comes a second later, when nobody waits for it.  That it failed is said, and final; what was flushed
 * before is there when the store is opened again, and of the rest a beginning. */
static void test_mount_whose_background_flush_fails(void **state)
{
	struct scene *s = *state;
	struct op first = {.kind = OP_PUT, .door = DOOR_MOUNT, .key = "a", .len = 300, .seed = 1},
		  sync = {.kind = OP_SYNC, .door = DOOR_MOUNT};
	struct op second = {.kind = OP_PUT, .door = DOOR_MOUNT, .key = "b", .len = 300, .seed = 2}, third = second;
	struct doors doors = {.mount = s->mnt};
	struct kvfs_store *store;
	strcpy(third.key, "c");
	pid_t pid = start_mount(s, "durability=relaxed");
	assert_ok(op_run(&first, &doors, NULL));
	assert_ok(op_model(&first, s->m));
	assert_ok(op_run(&sync, &doors, NULL));
	fault_set(FAULT_FLUSH, 1, EIO, false);
	fault_arm(true);
	assert_ok(op_run(&second, &doors, NULL));
	for (int i = 0; i < 500 && !strstr(text_of(s->log), "the disk failed"); i++)
		usleep(10000);
	if (!strstr(text_of(s->log), "the disk failed"))
		fail_msg("the daemon said only '%s'", text_of(s->log));
	assert_err(op_run(&third, &doors, NULL), -EROFS);
	assert_err(op_run(&sync, &doors, NULL), -EIO);
	assert_err(kvfs_open(s->path, NULL, &store, NULL), -EBUSY);
	assert_null(strstr(strstr(text_of(s->log), "the disk failed") + 1, "the disk failed"));
	end_mount(s, pid);
	struct model *more = model_clone(s->m);
	assert_ok(op_model(&second, more));
	must_be_whole(s, s->m, more, "after the mount");
	model_free(more);
}

/* ---- */

static int setup(void **state)
{
	static struct op small = {.kind = OP_PUT, .key = "a", .len = 300, .seed = 1}, large = {.len = LARGE, .seed = 2};
	struct scene *s = calloc(1, sizeof *s);
	char file[PATH_MAX + 8];
	assert_non_null(s);
	assert_non_null(realpath(support_tmpdir(), s->base));
	snprintf(s->path, sizeof s->path, "%s/store", s->base);
	snprintf(s->dest, sizeof s->dest, "%s/dest", s->base);
	snprintf(s->log, sizeof s->log, "%s.log", s->base);
	snprintf(s->mnt, sizeof s->mnt, "%s.mnt", s->base);
	snprintf(s->tree, sizeof s->tree, "%s.tree", s->base);
	assert_true(mkdir(s->mnt, 0700) == 0 && mkdir(s->tree, 0755) == 0);
	make_file(s, "small", op_bytes(&small), small.len);
	make_file(s, "large", op_bytes(&large), large.len);
	make_file(s, "changes", changes, sizeof changes - 1);
	s->m = model_new(true);
	kvfs_close(doors_open(s->path, KVFS_CREATE, KVFS_FULL));
	snprintf(file, sizeof file, "%s.fault", s->base);
	fault_share(file);
	snprintf(file, sizeof file, "%s.trace", s->base);
	trace_begin(s->base, file);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	static const char *const rest[] = {".log", ".mnt", ".tree", ".fault", ".trace"};
	struct scene *s = *state;
	char path[PATH_MAX + 8];
	fault_arm(false);
	trace_end();
	support_exec((char *[]){"fusermount3", "-uzq", s->mnt, NULL}, 10, NULL);
	for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
		snprintf(path, sizeof path, "%s%s", s->base, rest[i]);
		support_remove(path);
	}
	model_free(s->m);
	free(s);
	return 0;
}

#define COMMAND_TEST(name, kind, error, forever)                                                                                   \
	static void name(void **state)                                                                                             \
	{                                                                                                                          \
		fail_commands(*state, kind, error, forever);                                                                       \
	}
COMMAND_TEST(test_commands_when_the_disk_is_full_once, FAULT_WRITE, ENOSPC, false)
COMMAND_TEST(test_commands_when_the_disk_is_full, FAULT_WRITE, ENOSPC, true)
COMMAND_TEST(test_commands_when_a_write_fails, FAULT_WRITE, EIO, false)
COMMAND_TEST(test_commands_when_a_flush_fails, FAULT_FLUSH, EIO, false)
COMMAND_TEST(test_commands_when_a_read_fails, FAULT_READ, EIO, false)
COMMAND_TEST(test_commands_without_memory, FAULT_MEMORY, ENOMEM, false)

#define MOUNT_TEST(name, kind, error, forever)                                                                                     \
	static void name(void **state)                                                                                             \
	{                                                                                                                          \
		fail_mount(*state, kind, error, forever);                                                                          \
	}
MOUNT_TEST(test_mount_when_the_disk_is_full_once, FAULT_WRITE, ENOSPC, false)
MOUNT_TEST(test_mount_when_a_write_fails, FAULT_WRITE, EIO, false)
MOUNT_TEST(test_mount_when_a_flush_fails, FAULT_FLUSH, EIO, false)
MOUNT_TEST(test_mount_without_memory, FAULT_MEMORY, ENOMEM, false)

#define PROGRAM_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROGRAM_TEST(test_commands_when_the_disk_is_full_once),
		PROGRAM_TEST(test_commands_when_the_disk_is_full),
		PROGRAM_TEST(test_commands_when_a_write_fails),
		PROGRAM_TEST(test_commands_when_a_flush_fails),
		PROGRAM_TEST(test_commands_when_a_read_fails),
		PROGRAM_TEST(test_commands_without_memory),
		PROGRAM_TEST(test_mount_when_the_disk_is_full_once),
		PROGRAM_TEST(test_mount_when_a_write_fails),
		PROGRAM_TEST(test_mount_when_a_flush_fails),
		PROGRAM_TEST(test_mount_without_memory),
		PROGRAM_TEST(test_mount_whose_disk_is_pulled),
		PROGRAM_TEST(test_relaxed_mount_whose_disk_is_pulled),
		PROGRAM_TEST(test_mount_whose_background_flush_fails),
	};

	jobs_init();
	umask(022);
	return cmocka_run_group_tests_name("program", tests, NULL, NULL);
}
