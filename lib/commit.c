/* Commits; see commit.h.
 *
 * Edits come in groups.  A thread that finds nobody committing leads: it begins a transaction, makes its own edit, then those of the threads that wait
 * by now, in the order they came, and commits; so the flush, which is most of what a small commit costs, is paid once.  Who comes
 * meanwhile waits, and the first of them leads the next group.  A thread without company meets an uncontended mutex twice.
 *
 * Invariants:
 *  C1  Between begin and end nothing waits for anybody: no user code, no pipe, no terminal, no other lock but leaf mutexes.
 *  C2  The edits of a group are made one after another, each with a sequence and a log record of its own, as if each had been committed.  Nobody is
 *      told how his ended before the group's commit has: the answer, also a refusal, may rest on what the others did.
 *  C3  An edit that failed has left nothing, or its group is dropped; a commit that failed for want of something is nobody's in particular.
 *      In both cases each edit is made again, in a transaction of its own.
 *  C4  A group is bounded: after GROUP_EDITS edits, chunks for one slice, or KV_GROUP_NS under the lock nobody joins. */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <unistd.h>

#include "ballast.h"
#include "durable.h"
#include "err.h"
#include "feed.h"
#include "namei.h"
#include "reap.h"

#define INO_BATCH 256
#define INO_MAX (1ull << 44)
#define GROUP_EDITS 64
#define LINGER_MIN_NS 25000 /* what sleeping and waking cost */
#define LINGER_MAX_NS 2000000

/* ---- one edit ---- */

bool kv_commit_name_reserved(struct kv_doors *doors, struct kv_txn *txn, uint64_t dir, const char *name, size_t len, unsigned own)
{
	char key[KVFS_KEY_MAX + 1];
	if (kv_doors_name_taken(doors, dir, name, len, own))
		return true;
	return kv_doors_any_path(doors) && kv_namei_key(txn, dir, name, len, key) == 0 &&
	       kv_doors_name_taken(doors, KV_ROOT, key, strlen(key), own);
}

static bool is_reserved(struct kv_edit *ed, uint64_t dir, const char *name, size_t len)
{
	return kv_commit_name_reserved(ed->doors, &ed->txn, dir, name, len, ed->own_name);
}

static int check(const struct kv_core *core)
{
	int r = kv_core_check(core);
	return r ? r : core->rdonly ? kv_fail(EROFS) : 0;
}

/* Begins a transaction; *ret has what goes from edit to edit: it and the counters. */
static int begin(struct kv_core *core, struct kv_edit *ret)
{
	struct kv_edit ed = {0};
	int r = kv_durable_write(core, &ed.txn);
	if (r)
		return r;
	r = kv_log_head(&ed.txn, &ed.head);
	if (r == 0 && ed.head.rec.next_ino >= INO_MAX)
		r = kv_fail(EOVERFLOW);
	if (r) {
		kv_db_abort(&ed.txn);
		return r;
	}
	ed.first = ed.head.seq + 1;
	*ret = ed;
	return 0;
}

static struct kv_edit next_edit(struct kv_core *core, const struct kv_edit *before)
{
	struct kv_edit ed = {.txn = before->txn,
		.first = before->first,
		.layout = core->layout,
		.head = before->head,
		.seq = before->head.seq + 1,
		.now = kv_now(),
		.reserved = is_reserved,
		.doors = core->doors};
	ed.txn.changed = false;
	return ed;
}

/* Frees some garbage and writes the log record. */
static int seal(struct kv_core *core, struct kv_edit *ed)
{
	uint64_t most = atomic_load(&core->chunks_put_max);
	atomic_fetch_add(&core->chunks_put, ed->chunks);
	if (ed->chunks > most) /* nobody else has the write lock */
		atomic_store(&core->chunks_put_max, ed->chunks);
	int r = kv_reap(core, ed);
	ed->head.rec.time_ns = kv_ns(ed->now);
	return r ? r : kv_log_append(&ed->txn, &ed->head, &ed->changes);
}

/* Drops sealed edits. */
static void drop(struct kv_core *core, struct kv_edit *ed)
{
	kv_db_abort(&ed->txn);
	kv_doors_look_again(core->doors); /* what the reaper was told is not done */
}

/* Commits the transaction of which `ed` is the last edit. */
static int commit(struct kv_core *core, struct kv_edit *ed, enum kv_sync sync)
{
	int r = kv_feed_commit(core, ed, sync);
	if (r)
		kv_doors_look_again(core->doors);
	return kv_durable_committed(core, &ed->txn, sync, r);
}

int kv_commit_begin(struct kv_core *core, struct kv_edit *ret)
{
	struct kv_edit ed;
	int r = check(core);
	if (r == 0)
		r = begin(core, &ed);
	if (r == 0)
		*ret = next_edit(core, &ed);
	return r;
}

void kv_commit_abort(struct kv_edit *ed)
{
	kv_changes_free(&ed->changes);
	kv_db_abort(&ed->txn);
}

int kv_commit_end(struct kv_core *core, struct kv_edit *ed, enum kv_sync sync)
{
	int r = seal(core, ed);
	if (r)
		drop(core, ed);
	else
		r = commit(core, ed, sync);
	if (r == 0)
		kv_feed_tell(core, ed);
	kv_changes_free(&ed->changes);
	return kv_durable_committed(core, &ed->txn, sync, r);
}

int kv_commit_reserve_ino(struct kv_core *core, uint64_t *ret)
{
	KV_GUARD(&core->ino_lock);
	if (core->ino_next == core->ino_end) {
		struct kv_edit ed;
		int r = kv_commit_begin(core, &ed);
		if (r)
			return r;
		uint64_t first = ed.head.rec.next_ino;
		ed.head.rec.next_ino += INO_BATCH;
		r = kv_commit_end(core, &ed, KV_SYNC_ORDER);
		if (r)
			return r;
		core->ino_next = first;
		core->ino_end = first + INO_BATCH;
	}
	*ret = core->ino_next++;
	return 0;
}

/* ---- groups ---- */

/* A thread that wants an edit to be made, on its stack. */
struct kv_waiting {
	kv_edit_fn *fn;
	void *arg;
	struct kv_edit ed;
	int result;
	bool leads;
	sem_t woken;
	struct kv_waiting *next; /* in the queue, then in its group */
};

struct group {
	struct kv_edit ed; /* the last that was made */
	struct kv_waiting **end;
	int64_t began;
	unsigned n, made;
	uint64_t chunks;
	bool spoiled; /* an edit that failed may have left something */
	int64_t flush_ns;
};

static bool enqueue(struct kv_core *core, struct kv_waiting *w)
{
	KV_GUARD(&core->queue_lock);
	w->leads = !core->committing;
	core->committing = true;
	if (!w->leads) {
		*core->queue_end = w;
		core->queue_end = &w->next;
		core->queued++;
		if (core->lingers && core->queued + 1 >= core->crowd)
			sem_post(&core->lingers->woken);
	}
	return w->leads;
}

static struct kv_waiting *dequeue(struct kv_core *core)
{
	struct kv_waiting *w = core->queue;
	if (w) {
		core->queue = w->next;
		if (!core->queue)
			core->queue_end = &core->queue;
		core->queued--;
		w->next = NULL;
	}
	return w;
}

/* Not of the clock that is set. */
static struct timespec ticks(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts;
}

/* C4 */
static bool is_full(const struct kv_core *core, const struct group *g)
{
	return g->spoiled || g->n >= GROUP_EDITS || g->chunks >= core->slice || kv_ns(ticks()) - g->began > core->group_ns;
}

/* One more for the group, if somebody waits. */
static struct kv_waiting *join(struct kv_core *core, struct group *g)
{
	KV_GUARD(&core->queue_lock);
	if (!core->queue || is_full(core, g))
		return NULL;
	struct kv_waiting *w = dequeue(core);
	*g->end = w;
	return w;
}

/* Threads that commit in a loop come back a moment after their last group, and the first of them would commit alone.  So where there was a crowd
 * it waits for the others: for a part of what a flush costs, and if that is worth a sleep.  Who does not come is not waited for again. */
static void linger(struct kv_core *core, struct kv_waiting *self)
{
	pthread_mutex_lock(&core->queue_lock);
	int64_t most = kv_min(core->flush_ns / 2, LINGER_MAX_NS);
	if (core->queued + 1 < core->crowd && most >= LINGER_MIN_NS) {
		struct timespec until = ticks();
		until.tv_nsec += most;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		core->lingers = self;
		pthread_mutex_unlock(&core->queue_lock);
		while (sem_clockwait(&self->woken, CLOCK_MONOTONIC, &until) && errno == EINTR)
			;
		pthread_mutex_lock(&core->queue_lock);
		core->lingers = NULL;
	}
	pthread_mutex_unlock(&core->queue_lock);
}

static void make(struct kv_core *core, struct group *g, struct kv_waiting *w)
{
	kv_changes_free(&w->ed.changes); /* of a first time that came to nothing */
	w->ed = next_edit(core, &g->ed);
	int r = w->fn(&w->ed, w->arg);
	if (r == 0)
		r = seal(core, &w->ed);
	g->n++;
	g->ed.txn = w->ed.txn;
	w->result = r;
	if (r) {
		g->spoiled = w->ed.txn.changed;
	} else {
		g->ed = w->ed;
		g->made++;
		g->chunks += w->ed.chunks + w->ed.retiring;
	}
	g->end = &w->next;
}

/* Ends the transaction in which the edits from `w` on were made.  False: nothing has happened, and whose fault it is is not known. */
static bool end(struct kv_core *core, struct group *g, struct kv_waiting *w)
{
	int r = 0;
	if (g->made == 0) { /* each has seen what is committed and nothing else, so the answers stand */
		kv_db_abort(&g->ed.txn);
	} else if (g->spoiled) {
		drop(core, &g->ed);
		return false;
	} else {
		int64_t began = kv_ns(ticks());
		r = commit(core, &g->ed, KV_SYNC_LEVEL);
		g->flush_ns = kv_ns(ticks()) - began;
	}
	if (r && r != -EIO && g->n > 1) /* a disk that failed is not asked again */
		return false;
	for (unsigned i = 0; r && i < g->n; i++, w = w->next)
		w->result = r;
	return true;
}

/* Makes the edit of `first` and, unless it is to be alone, those of who waits.  False: each has to be made alone. */
static bool commit_group(struct kv_core *core, struct kv_waiting *first, struct group *g, bool alone)
{
	*g = (struct group){0};
	first->result = begin(core, &g->ed);
	if (first->result)
		return true;
	g->began = kv_ns(ticks());
	struct kv_waiting *w = first;
	do
		make(core, g, w);
	while (!alone && (w = join(core, g)));
	return end(core, g, first);
}

/* Commits `self` and who joins it, then hands over to who has come since. */
static void lead(struct kv_core *core, struct kv_waiting *self)
{
	struct kv_waiting *w, *next;
	struct group g, one;
	linger(core, self);
	if (!commit_group(core, self, &g, false))
		for (w = self; w; w = w->next)
			commit_group(core, w, &one, true);
	pthread_mutex_lock(&core->queue_lock);
	core->crowd = g.n + core->queued;
	if (g.flush_ns)
		core->flush_ns = g.flush_ns;
	next = dequeue(core);
	core->committing = next;
	pthread_mutex_unlock(&core->queue_lock);
	if (next) {
		next->leads = true;
		sem_post(&next->woken);
	}
	for (w = self->next; w; w = next) {
		next = w->next; /* once it is woken it is gone */
		sem_post(&w->woken);
	}
}

/* ---- a full disk ---- */

static int is_other(void *arg, const struct kv_change *c)
{
	(void)arg;
	return c->rec.kind != KV_CHANGE_DELETE;
}

/* Was it refused for want of room, and would make some?  If it did not even begin, what failed is what deletions need, too. */
static bool needs_ballast(const struct kv_waiting *w)
{
	struct kv_change c;
	bool began = w->ed.doors;
	return (w->result == -ENOSPC || w->result == -EDQUOT) && (!began || w->ed.changes.len) &&
	       kv_changes_walk(w->ed.changes.buf, w->ed.changes.len, &c, is_other, NULL) == 0;
}

static void run(struct kv_core *core, struct kv_waiting *self)
{
	sem_init(&self->woken, 0, 0);
	if (!enqueue(core, self))
		while (sem_wait(&self->woken))
			; /* a signal came */
	if (self->leads)
		lead(core, self);
	sem_destroy(&self->woken);
}

static void run_on_ballast(struct kv_core *core, struct kv_waiting *self)
{
	KV_FD int dirfd = open(core->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 || !kv_ballast_drop(dirfd))
		return;
	kv_changes_free(&self->ed.changes);
	*self = (struct kv_waiting){.fn = self->fn, .arg = self->arg};
	run(core, self);
	kv_ballast_fill(dirfd, true);
}

int kv_commit(struct kv_core *core, kv_edit_fn *fn, void *arg)
{
	struct kv_waiting self = {.fn = fn, .arg = arg};
	int cancel, r = check(core);
	if (r)
		return r;
	/* a thread that is cancelled would leave the others waiting for it, or for what was on its stack */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	run(core, &self);
	if (needs_ballast(&self))
		run_on_ballast(core, &self);
	if (self.result == 0)
		kv_feed_tell(core, &self.ed);
	kv_changes_free(&self.ed.changes);
	pthread_setcancelstate(cancel, NULL);
	return self.result;
}
