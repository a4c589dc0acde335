/* Contract 5: after a power cut at any point the store opens as one state that existed, and nothing that was promised is lost.
 *
 * KVFS_CRASH_STATES  states to verify in each test of many (1000; the long form: 100000)
 * KVFS_SEED          repeats a run; a violation prints the seed of its history
 *
 * A state costs some 3 ms: files are on /dev/shm where there is one, for what is flushed is known from the trace, not from a disk. */
#include "replay.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITERS = 3, VIOLATION = 3 };

/* One history, recorded and cut. */
struct job {
	uint64_t seed;
	unsigned ops;
	bool large; /* values beyond what a session keeps in memory */
	bool several; /* writers */
	bool mount; /* is one of the doors */
	const char *base; /* a directory for it */
	struct replay replay; /* level, plant, effort, most */
};

static uint64_t states_wanted(void)
{
	const char *env = getenv("KVFS_CRASH_STATES");
	return env && *env ? strtoull(env, NULL, 0) : 1000;
}

static struct kvfs_store *open_store(const char *path, unsigned flags, enum kvfs_durability level)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = flags, .durability = level, .buffer_size = 256 << 10};
	struct kvfs_store *store;
	struct kvfs_error err;
	if (kvfs_open(path, &opt, &store, &err))
		fail_msg("%s: %s", path, err.text);
	return store;
}

static uint64_t sequence(struct kvfs_store *store)
{
	struct kvfs_info info;
	assert_ok(kvfs_info(store, &info));
	return info.sequence;
}

/* ---- one writer, whose commits are known one by one ---- */

static void choose_door(struct op *op, const struct doors *doors, struct support_rng *rng)
{
	if (doors->mount && support_below(rng, 3) && op_goes_through(op, DOOR_MOUNT))
		op->door = DOOR_MOUNT;
	else if (doors->program && support_below(rng, 12) == 0 && op_goes_through(op, DOOR_COMMAND))
		op->door = DOOR_COMMAND;
}

static void mount_store(const struct doors *doors, enum kvfs_durability level)
{
	static const char *const options[] = {[KVFS_FULL] = "durability=full", [KVFS_NONE] = "durability=none"};
	const char *argv[] = {doors->program, "mount", doors->path, doors->mount, "-o", options[level], NULL};
	assert_int_equal(mkdir(doors->mount, 0700), 0);
	umask(022);
	if (run_program(argv, NULL, 0))
		fail_msg("%s cannot be mounted", doors->path);
}

static void one_writer(struct history *h, const struct job *job, const char *path)
{
	struct doors doors = {.path = path, .program = getenv("KVFS_BIN")};
	struct support_rng rng = {job->seed};
	char mnt[PATH_MAX];
	snprintf(mnt, sizeof mnt, "%s.mnt", path);
	if (job->mount) {
		doors.mount = mnt;
		mount_store(&doors, job->replay.level);
	}
	doors.store = open_store(path, 0, job->replay.level);
	uint64_t seq = sequence(doors.store);
	for (h->n = 0; h->n < job->ops; h->n++) {
		struct event *e = &h->event[h->n];
		e->op = op_random(&rng, "", job->large);
		choose_door(&e->op, &doors, &rng);
		trace_mark(MARK_BEGIN, h->n);
		e->result = op_run(&e->op, &doors, NULL);
		uint64_t now = sequence(doors.store);
		e->seq = now > seq ? now : 0;
		seq = now;
		if (e->result == 0)
			trace_mark(e->op.kind == OP_SYNC ? MARK_SYNCED : MARK_DONE, h->n);
	}
	kvfs_close(doors.store);
	if (job->mount)
		assert_int_equal(run_program((const char *const[]){doors.program, "umount", mnt, NULL}, NULL, 0), 0);
}

/* ---- several, which share some keys and have some of their own ---- */

static bool changes_surely(const struct op *op)
{
	return op->kind == OP_PUT || (op->kind == OP_APPEND && op->len) || op->kind == OP_DEL || op->kind == OP_MKDIR ||
	       op->kind == OP_SETXATTR || op->kind == OP_REPLACE || (op->kind == OP_RENAME && strcmp(op->key, op->other) != 0);
}

static int writer(struct history *h, const struct job *job, const char *path, unsigned me)
{
	struct doors doors = {.path = path};
	struct support_rng rng = {job->seed * 31 + me};
	char own[8];
	snprintf(own, sizeof own, "p%u/", me);
	doors.store = open_store(path, 0, job->replay.level);
	for (unsigned i = 0; i < job->ops / WRITERS;) {
		bool shared = support_below(&rng, 3) == 0;
		struct op op = op_random(&rng, shared ? "all/" : own, job->large);
		if (shared ? op.kind != OP_PUT : !changes_surely(&op))
			continue;
		size_t n = __atomic_fetch_add(&h->n, 1, __ATOMIC_RELAXED);
		struct event *e = &h->event[n];
		e->op = op;
		e->pid = me;
		trace_mark(MARK_BEGIN, n);
		e->result = op_run(&op, &doors, shared ? &e->seq : NULL);
		if (e->result == 0)
			trace_mark(MARK_DONE, n);
		if (++i % 8 == 0 && kvfs_sync(doors.store))
			return 1;
	}
	kvfs_close(doors.store);
	return 0;
}

/* Which commits were a writer's own operations, the log says. */
static void find_commits(struct history *h, struct kvfs_store *store, uint64_t since)
{
	size_t next[WRITERS] = {0};
	struct kvfs_watch *w;
	struct kvfs_event e;
	uint64_t last = 0;
	int r;
	assert_ok(kvfs_watch_open(store, "", KVFS_WATCH_RECURSIVE, since, &w));
	while ((r = kvfs_watch_next(w, &e)) == 1) {
		if (e.sequence == last || e.key[0] != 'p' || e.key[1] < '0' || e.key[1] >= '0' + WRITERS)
			continue;
		last = e.sequence;
		unsigned me = (unsigned)(e.key[1] - '0');
		size_t *i = &next[me];
		while (*i < h->n && (h->event[*i].pid != me || h->event[*i].result || h->event[*i].op.key[0] != 'p'))
			++*i;
		if (*i == h->n)
			fail_msg("commit %" PRIu64 " (%s) is nobody's", e.sequence, e.key);
		h->event[(*i)++].seq = e.sequence;
	}
	assert_int_equal(r, 0);
	kvfs_watch_close(w);
	for (size_t i = 0; i < h->n; i++)
		if (h->event[i].result == 0 && !h->event[i].seq)
			fail_msg("no commit of %s", op_text(&h->event[i].op));
}

static void several_writers(struct history *h, const struct job *job, const char *path)
{
	struct kvfs_store *store = open_store(path, 0, job->replay.level);
	uint64_t since = sequence(store);
	pid_t pid[WRITERS];
	int status;
	fflush(NULL);
	for (unsigned i = 0; i < WRITERS; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0)
			_exit(writer(h, job, path, i));
	}
	for (unsigned i = 0; i < WRITERS; i++)
		assert_true(waitpid(pid[i], &status, 0) == pid[i] && status == 0);
	find_commits(h, store, since);
	kvfs_close(store);
}

/* ---- jobs ---- */

static const char *base_dir(void)
{
	static char dir[PATH_MAX];
	if (*dir)
		return dir;
	if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	assert_non_null(realpath(support_tmpdir(), dir));
	return dir;
}

/* What a job leaves, however it ended. */
static void clean(const struct job *job)
{
	static const char *const rest[] = {"", ".trace", ".again", ".boot", ".mnt", ".kept", ".kept+"};
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%" PRIu64 ".mnt", job->base, job->seed);
	if (access(path, F_OK) == 0 || errno == ENOTCONN)
		support_exec((char *[]){"/bin/fusermount3", "-uzq", path, NULL}, 10, NULL);
	for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
		snprintf(path, sizeof path, "%s/%" PRIu64 "%s", job->base, job->seed, rest[i]);
		support_remove(path);
	}
}

/* Records a history and cuts it; true when all was well. */
static bool run_job(struct job *job, uint64_t *ret_states)
{
	char dir[PATH_MAX - 8], trace[PATH_MAX];
	snprintf(dir, sizeof dir, "%s/%" PRIu64, job->base, job->seed);
	snprintf(trace, sizeof trace, "%s.trace", dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	struct replay r = job->replay;
	struct history *h = history_new();
	r.fresh = job->seed % 4 == 1;
	if (!r.fresh)
		kvfs_close(open_store(dir, KVFS_CREATE, job->replay.level));
	r.disk = disk_new(dir);
	trace_begin(dir, trace);
	trace_mark(MARK_BEGIN, HISTORY_MAX);
	struct kvfs_store *store = open_store(dir, KVFS_CREATE, job->replay.level);
	trace_mark(MARK_DONE, HISTORY_MAX);
	uint64_t start = sequence(store);
	struct model *empty = model_new(true);
	kvfs_close(store);
	(job->several ? several_writers : one_writer)(h, job, dir);
	trace_end();
	history_close(h, empty, start);
	r.dir = dir;
	r.trace = trace;
	r.h = h;
	r.seed = job->seed;
	bool ok = replay_run(&r);
	*ret_states = r.states;
	disk_free(r.disk);
	history_free(h);
	model_free(empty);
	return ok;
}

/* Runs jobs in as many processes as there are processors, seed by seed, until `wanted` states are verified or one is wrong;
 * the first, and one in four, with the making of the store.  Returns how many states there were; *ret_bad the seed of the wrong one, or 0. */
static uint64_t run_jobs(const struct job *like, uint64_t wanted, uint64_t *ret_bad)
{
	struct {
		uint64_t states[2];
	} *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct {
		pid_t pid;
		uint64_t seed;
	} child[2] = {0};
	uint64_t total = 0, seed = support_seed() % 1000000 * 1000;
	size_t lanes = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1, alive = 0;
	assert_true(shared != MAP_FAILED);
	*ret_bad = 0;
	while (alive || (total < wanted && !*ret_bad)) {
		for (size_t i = 0; i < lanes && total < wanted && !*ret_bad; i++) {
			if (child[i].pid)
				continue;
			struct job job = *like;
			job.base = base_dir();
			job.seed = child[i].seed = ++seed;
			fflush(NULL);
			child[i].pid = fork();
			assert_true(child[i].pid >= 0);
			if (child[i].pid == 0) {
				setenv("CMOCKA_TEST_ABORT", "1", 1);
				exit(run_job(&job, &shared->states[i]) ? 0 : VIOLATION);
			}
			alive++;
		}
		int status;
		pid_t pid = wait(&status);
		size_t i = child[0].pid == pid ? 0 : 1;
		total += shared->states[i];
		shared->states[i] = 0;
		if (status && (!WIFEXITED(status) || WEXITSTATUS(status) != VIOLATION))
			fail_msg("the job of seed %" PRIu64 " failed, and not by a state", child[i].seed);
		if (status)
			*ret_bad = child[i].seed;
		clean(&(struct job){.base = base_dir(), .seed = child[i].seed});
		child[i].pid = 0;
		alive--;
	}
	munmap(shared, sizeof *shared);
	return total;
}

static const struct effort usual = {.linear = 6, .random = 6, .exhaustive = 4, .second = 40};

static void must_hold(struct job job)
{
	uint64_t bad, n = run_jobs(&job, states_wanted(), &bad);
	print_message("             %" PRIu64 " states\n", n);
	if (bad)
		fail_msg("the history of seed %" PRIu64 " has a state that must not be", bad);
}

static void test_one_writer(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 25, .replay = {.level = KVFS_FULL, .effort = usual}});
}

static void test_large_values(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 12, .large = true, .replay = {.level = KVFS_FULL, .effort = usual}});
}

static void test_several_writers(void **state)
{
	(void)state;
	must_hold((struct job){.ops = 30, .several = true, .replay = {.level = KVFS_FULL, .effort = usual}});
}

static void test_mount(void **state)
{
	(void)state;
	assert_non_null(getenv("KVFS_BIN"));
	must_hold((struct job){.ops = 25, .mount = true, .replay = {.level = KVFS_FULL, .effort = usual}});
}

/* ---- does it notice? ---- */

static void must_notice(enum disk_plant plant, enum kvfs_durability level)
{
	uint64_t bad, n;
	struct job job = {.ops = 40, .replay = {.level = level, .plant = plant, .doomed = true, .effort = usual, .most = 1000}};
	job.replay.effort.second = 0;
	n = run_jobs(&job, 3000, &bad);
	print_message("             noticed after %" PRIu64 " states\n", n);
	if (!bad)
		fail_msg("what was planted was not found in %" PRIu64 " states", n);
}

static void test_notices_that_nothing_is_flushed(void **state)
{
	(void)state;
	must_notice(PLANT_NO_FLUSH, KVFS_FULL);
}

static void test_notices_a_flush_forgotten_now_and_then(void **state)
{
	(void)state;
	must_notice(PLANT_FEW_FLUSHES, KVFS_FULL);
}

static void test_notices_that_the_root_is_not_written_through(void **state)
{
	(void)state;
	must_notice(PLANT_NO_DSYNC, KVFS_FULL);
}

static void test_notices_that_names_are_not_flushed(void **state)
{
	(void)state;
	must_notice(PLANT_NO_NAMES, KVFS_FULL);
}

static void test_notices_a_store_without_durability(void **state)
{
	(void)state;
	must_notice(PLANT_NOTHING, KVFS_NONE);
}

/* The programs that a history runs are recorded by the library beside this program. */
static void find_recorder(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 20);
	path[n < 0 ? 0 : n] = 0;
	strcpy(strrchr(path, '/') + 1, "record.so");
	setenv("KVFS_RECORDER", path, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_writer),
		cmocka_unit_test(test_large_values),
		cmocka_unit_test(test_several_writers),
		cmocka_unit_test(test_mount),
		cmocka_unit_test(test_notices_that_nothing_is_flushed),
		cmocka_unit_test(test_notices_a_flush_forgotten_now_and_then),
		cmocka_unit_test(test_notices_that_the_root_is_not_written_through),
		cmocka_unit_test(test_notices_that_names_are_not_flushed),
		cmocka_unit_test(test_notices_a_store_without_durability),
	};

	find_recorder();
	return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
