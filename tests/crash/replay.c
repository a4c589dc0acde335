/* See replay.h.  All is done in a child, so that a state that kills it is a violation like any other. */
#include "replay.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of the child, seen by its parent. */
struct shared {
	uint64_t states;
	bool verifying; /* else what ends the child is a fault of the harness */
	char text[512];
};

struct run {
	struct replay *r;
	struct shared *shared;
	struct expectation want;
	uint64_t acked; /* newest commit of an operation that returned */
	uint64_t promise[HISTORY_MAX]; /* what a sync that began as event i will promise */
	struct {
		uint64_t seq;
		int64_t time_ns;
	} done[HISTORY_MAX]; /* operations that returned, in that order */
	size_t ndone, nold; /* and how many of them so long ago that they must be durable */
	uint64_t points, boots;
	struct support_rng rng;
	bool second; /* this is a cut of a recovery */
	char boot[PATH_MAX];
};

/* After a power cut the kernel has another boot id. */
static void boot(struct run *run)
{
	char id[64];
	int n = snprintf(id, sizeof id, "%08llx-0000-4000-8000-00000000dead\n", (unsigned long long)++run->boots);
	int fd = open(run->boot, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && write(fd, id, (size_t)n) == n);
	close(fd);
	trace_set_boot(run->boot);
}

static void again(struct run *run, struct disk *d, const struct cut *cut, const struct found *found);

static void state(struct run *run, struct disk *d, struct cut cut)
{
	struct replay *r = run->r;
	struct shared *s = run->shared;
	if (r->most && s->states >= r->most)
		return;
	if (r->effort.sparse && support_below(&run->rng, r->effort.sparse))
		return;
	cut.memory = (unsigned)(s->states % 3);
	snprintf(s->text, sizeof s->text,
		"seed %llu, %s, record at %zu of the trace%s; cut %d, unit %u, number %llu, memory %u; at least commit %llu",
		(unsigned long long)r->seed, r->dir, disk_at(d), run->second ? " of the recovery" : "", cut.how, cut.unit,
		(unsigned long long)cut.which, cut.memory, (unsigned long long)run->want.lowest);
	disk_cut(d, &cut);
	boot(run);
	s->verifying = true;
	struct found found = verify_store(r->dir, &run->want);
	s->verifying = false;
	s->states++;
	if (!run->second && found.m && r->effort.second && s->states % r->effort.second == 0)
		again(run, d, &cut, &found);
}

static bool changes(const struct trace_record *rec)
{
	return rec->kind != TRACE_MARK && rec->kind != TRACE_SYNC;
}

/* Is this where most is at stake: the next record makes something durable? */
static bool is_brink(const struct trace_record *next)
{
	return !next || next->kind == TRACE_SYNC || (next->kind == TRACE_WRITE && next->flags & TRACE_DURABLE);
}

static void brink(struct run *run, struct disk *d)
{
	const struct effort *e = &run->r->effort;
	size_t n = disk_pending(d, 4096);
	uint64_t seed = run->r->seed * 1000003 + run->points;
	if (n == 0)
		return;
	for (uint64_t bits = 1; n <= e->exhaustive && bits < (1ull << n) - 1; bits++)
		state(run, d, (struct cut){CUT_SUBSET, 4096, bits, 0});
	for (size_t i = 0; n > e->exhaustive && i < e->linear && i < n; i++) {
		uint64_t which = n <= e->linear ? i : (seed + i * 2654435761u) % n;
		state(run, d, (struct cut){CUT_ALL_BUT, 4096, which, 0});
		state(run, d, (struct cut){CUT_ONLY, 4096, which, 0});
	}
	for (unsigned i = 0; i < e->random; i++)
		state(run, d, (struct cut){CUT_RANDOM, i % 2 ? 4096 : 512, seed * 64 + i, 0});
}

static uint64_t more(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void mark(struct run *run, const struct trace_record *rec)
{
	const struct history *h = run->want.h;
	if (rec->at >= HISTORY_MAX) { /* the store was made */
		run->want.maybe_absent &= rec->file != MARK_DONE;
		return;
	}
	uint64_t seq = h->event[rec->at].seq;
	if (rec->file == MARK_BEGIN)
		run->promise[rec->at] = run->acked;
	if (rec->file != MARK_BEGIN)
		run->acked = more(run->acked, seq);
	if (rec->file == MARK_DONE) {
		run->done[run->ndone].seq = seq;
		run->done[run->ndone++].time_ns = rec->time_ns;
	}
	if (rec->file == MARK_SYNCED) /* a sync, or an operation through a door that flushes each */
		run->want.lowest = more(run->want.lowest, more(run->promise[rec->at], seq));
	if (run->r->level == KVFS_FULL)
		run->want.lowest = run->acked;
}

/* At the time of this record, what is old? */
static void grow_old(struct run *run, const struct trace_record *rec)
{
	int64_t since = rec->time_ns - run->r->lag_ms * 1000000ll;
	while (run->r->lag_ms && run->nold < run->ndone && run->done[run->nold].time_ns < since)
		run->want.lowest = more(run->want.lowest, run->done[run->nold++].seq);
}

static void cut_everywhere(struct run *run, struct disk *d)
{
	const struct trace_record *rec;
	bool fresh = true; /* nothing was built since the last flush */
	while ((rec = disk_peek(d))) {
		if (is_brink(rec))
			brink(run, d);
		disk_step(d);
		run->points++;
		uint64_t was = run->want.lowest;
		grow_old(run, rec);
		if (rec->kind == TRACE_MARK)
			mark(run, rec);
		fresh |= run->want.lowest != was;
		if (rec->kind == TRACE_SYNC)
			fresh = true;
		if (changes(rec))
			state(run, d, (struct cut){CUT_ALL, 4096, 0, 0});
		if (fresh && (changes(rec) || rec->kind == TRACE_MARK)) {
			state(run, d, (struct cut){CUT_NONE, 4096, 0, 0});
			fresh = false;
		}
		if (run->r->most && run->shared->states >= run->r->most)
			return;
	}
	brink(run, d);
}

/* ---- a second cut, while a store recovers from the first ---- */

/* The state once more, but now what opens it and writes to it is recorded, and that is cut everywhere. */
static void again(struct run *run, struct disk *first, const struct cut *cut, const struct found *found)
{
	struct replay r = *run->r;
	struct run *next = calloc(1, sizeof *next);
	struct history *h = history_new();
	struct kvfs_options opt = {.size = sizeof opt, .durability = r.level};
	struct kvfs_store *store;
	struct kvfs_info info;
	char trace[PATH_MAX];
	assert_non_null(next);
	disk_cut(first, cut);
	boot(run);
	snprintf(trace, sizeof trace, "%s.again", r.dir);
	struct disk *d = disk_new(r.dir);
	trace_begin(r.dir, trace);
	assert_ok(kvfs_open(r.dir, &opt, &store, NULL));
	h->event[0].op = verify_op();
	trace_mark(MARK_BEGIN, 0);
	assert_ok(op_run(&h->event[0].op, &(struct doors){.store = store}, &h->event[0].seq));
	trace_mark(MARK_DONE, 0);
	h->n = 2;
	h->event[1].op = (struct op){.kind = OP_SYNC};
	trace_mark(MARK_BEGIN, 1);
	assert_ok(kvfs_sync(store));
	trace_mark(MARK_SYNCED, 1);
	assert_ok(kvfs_info(store, &info));
	kvfs_close(store);
	trace_end();
	history_close(h, found->m, found->seq);
	disk_record(d, trace, PLANT_NOTHING);
	*next = (struct run){.r = &r,
		.shared = run->shared,
		.want = {.h = h, .lowest = run->want.lowest, .level = r.level},
		.acked = run->want.lowest,
		.boots = run->boots + 1000,
		.second = true};
	memcpy(next->boot, run->boot, sizeof next->boot);
	r.effort.linear = 2;
	r.effort.random = 2;
	r.effort.exhaustive = 2;
	r.effort.sparse = 0;
	r.lag_ms = 0;
	cut_everywhere(next, d);
	run->boots = next->boots;
	disk_free(d);
	history_free(h);
	free(next);
}

/* ---- the child ---- */

static void child(struct replay *r, struct shared *shared)
{
	struct run *run = calloc(1, sizeof *run);
	assert_non_null(run);
	*run = (struct run){.r = r,
		.shared = shared,
		.want = {.h = r->h, .lowest = r->fresh ? 0 : r->h->state[0].seq, .maybe_absent = r->fresh, .level = r->level},
		.acked = r->h->state[0].seq,
		.rng = {r->seed}};
	snprintf(run->boot, sizeof run->boot, "%s.boot", r->dir);
	disk_record(r->disk, r->trace, r->plant);
	cut_everywhere(run, r->disk);
	disk_free(r->disk);
	free(run);
}

bool replay_run(struct replay *r)
{
	struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	assert_true(shared != MAP_FAILED);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed check ends this process, and not only the test */
		alarm(3600);
		if (r->doomed) /* what it finds is no news */
			assert_non_null(freopen("/dev/null", "w", stderr));
		child(r, shared);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	r->states = shared->states;
	if (status && !r->doomed)
		print_error("violation (%s %d): %s\n", WIFSIGNALED(status) ? "signal" : "exit",
			WIFSIGNALED(status) ? WTERMSIG(status) : status, shared->text);
	if (status && !shared->verifying)
		fail_msg("the harness failed: %s", shared->text);
	munmap(shared, sizeof *shared);
	return status == 0;
}
