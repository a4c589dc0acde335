/* See jobs.h. */
#include "jobs.h"

#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unpin.h"

enum { WRITERS = 4, VIOLATION = 3 /* an exit status */ };

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
	static const char *const options[] = {
		[KVFS_FULL] = "durability=full", [KVFS_RELAXED] = "durability=relaxed", [KVFS_NONE] = "durability=none"};
	const char *argv[] = {doors->program, "mount", doors->path, doors->mount, "-o", options[level], NULL};
	assert_int_equal(mkdir(doors->mount, 0700), 0);
	umask(022);
	if (run_program(argv, NULL, 0))
		fail_msg("%s cannot be mounted", doors->path);
}

/* Is all up to it durable when it returns, at any level?  A command's own level is `full`. */
static bool is_promise(const struct op *op)
{
	return op->kind == OP_SYNC || op->door == DOOR_COMMAND;
}

static void one_writer(struct history *h, const struct job *job, const char *path)
{
	struct doors doors = {.path = path, .program = getenv("KVFS_BIN")};
	struct support_rng rng = {job->seed};
	uint64_t digits = (job->seed - 1) * (job->stride ? job->stride : 1);
	char mnt[PATH_MAX];
	snprintf(mnt, sizeof mnt, "%s.mnt", path);
	if (job->mount) {
		doors.mount = mnt;
		mount_store(&doors, job->replay.level);
	}
	doors.store = doors_open(path, 0, job->replay.level);
	uint64_t seq = sequence(doors.store);
	for (h->n = 0; h->n < job->ops; h->n++) {
		struct event *e = &h->event[h->n];
		if (job->menu) {
			e->op = job->menu[digits % job->choices];
			digits /= job->choices;
		} else {
			e->op = op_random(&rng, "", job->large);
			choose_door(&e->op, &doors, &rng);
		}
		if (job->syncs && h->n % job->syncs == job->syncs - 1)
			e->op = (struct op){.kind = OP_SYNC, .door = doors.mount && h->n % 2 ? DOOR_MOUNT : DOOR_LIBRARY};
		trace_mark(MARK_BEGIN, h->n);
		e->result = op_run(&e->op, &doors, NULL);
		uint64_t now = sequence(doors.store);
		e->seq = now > seq ? now : 0;
		seq = now;
		if (e->result == 0)
			trace_mark(is_promise(&e->op) ? MARK_SYNCED : MARK_DONE, h->n);
		usleep(1000 * job->nap_ms);
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

/* A promise of all that returned before it. */
static void sync_point(struct history *h, const struct doors *doors)
{
	size_t n = __atomic_fetch_add(&h->n, 1, __ATOMIC_RELAXED);
	h->event[n].op = (struct op){.kind = OP_SYNC};
	h->event[n].pid = WRITERS;
	trace_mark(MARK_BEGIN, n);
	assert_ok(op_run(&h->event[n].op, doors, NULL));
	trace_mark(MARK_SYNCED, n);
}

static int writer(struct history *h, const struct job *job, const char *path, unsigned me)
{
	struct doors doors = {.path = path};
	struct support_rng rng = {job->seed * 31 + me};
	char own[8];
	snprintf(own, sizeof own, "p%u/", me);
	doors.store = doors_open(path, 0, job->replay.level);
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
		if (++i % 6 == 0)
			sync_point(h, &doors);
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
		if (h->event[i].result == 0 && !h->event[i].seq && h->event[i].op.kind != OP_SYNC)
			fail_msg("no commit of %s", op_text(&h->event[i].op));
}

struct writer_thread {
	struct history *h;
	const struct job *job;
	const char *path;
	unsigned me;
	int result;
};

static void *writer_thread(void *arg)
{
	struct writer_thread *w = arg;
	w->result = writer(w->h, w->job, w->path, w->me);
	return NULL;
}

static void several_threads(struct history *h, const struct job *job, const char *path)
{
	pthread_t thread[WRITERS];
	struct writer_thread arg[WRITERS];
	for (unsigned i = 0; i < WRITERS; i++) {
		arg[i] = (struct writer_thread){h, job, path, i, 0};
		assert_int_equal(pthread_create(&thread[i], NULL, writer_thread, &arg[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		assert_true(pthread_join(thread[i], NULL) == 0 && arg[i].result == 0);
}

static void several_processes(struct history *h, const struct job *job, const char *path)
{
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
}

static void several_writers(struct history *h, const struct job *job, const char *path)
{
	struct kvfs_store *store = doors_open(path, 0, job->replay.level);
	uint64_t since = sequence(store);
	(job->threads ? several_threads : several_processes)(h, job, path);
	find_commits(h, store, since);
	kvfs_close(store);
}

/* ---- jobs ---- */

static const char *base_dir(void)
{
	static char dir[PATH_MAX];
	if (*dir)
		return dir;
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
		support_exec((char *[]){"fusermount3", "-uzq", path, NULL}, 10, NULL);
	for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
		snprintf(path, sizeof path, "%s/%" PRIu64 "%s", job->base, job->seed, rest[i]);
		support_remove(path);
	}
}

/* Makes a store that is not new.  Returns the model of it. */
static struct model *grow_old(const struct job *job, const char *dir)
{
	static const struct op for_menu[] = {{.kind = OP_PUT, .key = "a", .len = 300, .seed = 1},
		{.kind = OP_PUT, .key = "b", .len = 50000, .seed = 2}, {.kind = OP_PUT, .key = "d/x", .len = 4000, .seed = 3}};
	struct support_rng rng = {job->seed + 7};
	struct model *m = model_new(true);
	struct doors doors = {.store = doors_open(dir, KVFS_CREATE, job->replay.level)};
	unsigned n = job->menu ? sizeof for_menu / sizeof *for_menu : job->age;
	for (unsigned i = 0; i < n; i++) {
		struct op op = job->menu ? for_menu[i] : op_random(&rng, "", job->large);
		int r = op_run(&op, &doors, NULL), want = op_model(&op, m);
		if ((r == 0) != (want == 0))
			fail_msg("%s: %d, the model says %d", op_text(&op), r, want);
	}
	kvfs_close(doors.store);
	return m;
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
	r.fresh = !job->menu && job->seed % 4 == 1;
	struct model *start = r.fresh ? model_new(true) : grow_old(job, dir);
	r.disk = disk_new(dir);
	trace_begin(dir, trace);
	trace_mark(MARK_BEGIN, HISTORY_MAX);
	struct kvfs_store *store = doors_open(dir, KVFS_CREATE, job->replay.level);
	trace_mark(MARK_DONE, HISTORY_MAX);
	uint64_t start_seq = sequence(store);
	kvfs_close(store);
	unpin_set(job->unpinned);
	trace_slow_flush(job->threads ? 200 : 0);
	(job->several ? several_writers : one_writer)(h, job, dir);
	unpin_set(false);
	trace_slow_flush(0);
	trace_end();
	history_close(h, start, start_seq);
	r.dir = dir;
	r.trace = trace;
	r.h = h;
	r.seed = job->seed;
	bool ok = replay_run(&r);
	*ret_states = r.states;
	disk_free(r.disk);
	history_free(h);
	model_free(start);
	return ok;
}

/* ---- many jobs ---- */

enum { LANES = 2 };

struct crowd {
	struct job like;
	uint64_t *states; /* of each lane, shared with its child */
	struct {
		pid_t pid;
		uint64_t seed;
	} lane[LANES];
	unsigned alive;
	uint64_t total, bad, broken; /* broken: a seed whose job failed, and not by a state */
};

static void start_job(struct crowd *c, size_t i, uint64_t seed)
{
	fflush(NULL);
	c->lane[i].seed = c->like.seed = seed;
	c->lane[i].pid = fork();
	assert_true(c->lane[i].pid >= 0);
	if (c->lane[i].pid == 0) {
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		exit(run_job(&c->like, &c->states[i]) ? 0 : VIOLATION);
	}
	c->alive++;
}

static void end_job(struct crowd *c)
{
	int status;
	pid_t pid = wait(&status);
	size_t i = 0;
	while (c->lane[i].pid != pid)
		assert_true(++i < LANES);
	c->total += c->states[i];
	c->states[i] = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == VIOLATION)
		c->bad = c->lane[i].seed;
	else if (status)
		c->broken = c->lane[i].seed;
	clean(&(struct job){.base = c->like.base, .seed = c->lane[i].seed});
	c->lane[i].pid = 0;
	c->alive--;
}

uint64_t jobs_run(const struct job *like, uint64_t first, uint64_t last, uint64_t wanted, uint64_t *ret_bad)
{
	struct crowd c = {.like = *like};
	uint64_t seed = first;
	size_t lanes = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? LANES : 1;
	c.like.base = base_dir();
	c.states = mmap(NULL, LANES * sizeof *c.states, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(c.states != MAP_FAILED);
	for (;;) {
		for (size_t i = 0; i < lanes && c.total < wanted && seed < last && !c.bad && !c.broken; i++)
			if (!c.lane[i].pid)
				start_job(&c, i, ++seed);
		if (!c.alive)
			break;
		end_job(&c);
	}
	munmap(c.states, LANES * sizeof *c.states);
	if (c.broken)
		fail_msg("the job of seed %" PRIu64 " failed, and not by a state", c.broken);
	*ret_bad = c.bad;
	return c.total;
}

/* The programs that a history runs are recorded by the library beside this program, which is in build/<variant>/tests/crash. */
void jobs_init(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 20);
	path[n < 0 ? 0 : n] = 0;
	strcpy(strrchr(path, '/') + 1, "record.so");
	setenv("KVFS_RECORDER", path, 1);
	strcpy(strrchr(path, '/') + 1, "../../kvfs");
	setenv("KVFS_BIN", path, 0);
	if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
}
