/* When commits reach the disk; see durable.h, and DESIGN.md, "Commits without a flush each", for why it is right.
 *
 * Invariants:
 *  P1  Who changes pages of a loose store holds a *pin*: a reading transaction at the recorded state or an older one, which keeps LMDB from using
 *      that state's pages again.  It is there before the transaction's first change, and until it ended.
 *  P2  A pin is given up for one at a newer state only when that is recorded on the disk; without another only while no thread of this process
 *      has the write lock or waits for it.
 *  P3  A state is recorded only after all of it is flushed (Y1); its meta page is copied while it is the newest.
 *  P4  The store becomes loose under the write lock, so no commit that LMDB flushes by itself overlaps with one that relies on records.
 *  P5  A failed flush is final: this process makes no more records and no more commits. */
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>

#include "err.h"
#include "syncfile.h"

#define TICK_MS 1000 /* no commit waits longer for its flush to begin */
#define WEIGHT_MAX ((uint64_t)64 << 20) /* nor do more bytes than these */
#define ROOM_MIN WEIGHT_MAX /* with less room to grow, nothing that was freed waits */
#define LOOK_EVERY (1 << 20) /* bytes written: how often that is looked at */
#define TRIES 100

struct kv_durable {
	struct kv_core *core;
	int dirfd;
	struct kv_sync_place place;
	pthread_mutex_t lock; /* a leaf; protects what follows */
	pthread_cond_t changed;
	int syncfd; /* -1 until it is needed */
	bool busy; /* somebody makes a sync point */
	uint64_t flushed; /* transaction: it and all before are durable */
	uint64_t last; /* newest transaction of this process that was not flushed by itself */
	uint64_t weight; /* bytes written by all of these */
	uint64_t weight_flushed;
	struct kv_txn pin;
	bool pinned;
	bool used; /* since the thread last looked */
	bool crowded; /* there is little room */
	uint64_t look_at; /* weight: when to look again */
	uint64_t flushes;
	_Atomic int failed; /* errno */
	pthread_t thread;
	bool running, stop;
};

static void *run(void *arg);

/* ---- pins ---- */

/* Who holds a pin must give it up in time, or nothing is ever used again: the thread does, and makes the sync points that are due. */
static void hold(struct kv_durable *d, struct kv_txn *pin)
{
	sigset_t all, old;
	d->pin = *pin;
	d->pinned = true;
	if (!d->running) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		d->running = pthread_create(&d->thread, NULL, run, d) == 0;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_cond_broadcast(&d->changed);
}

/* P1, within a transaction that has changed nothing yet.  When the newest state is the recorded one a pin costs nothing. */
static bool is_pinned(struct kv_durable *d, const struct kv_txn *txn)
{
	struct kv_txn pin = {0};
	KV_GUARD(&d->lock);
	if (d->pinned)
		return true;
	if (kv_doors_recorded(d->core->doors) != txn->txnid - 1 || kv_db_read(d->core->db, &pin))
		return false;
	d->flushed = txn->txnid - 1;
	hold(d, &pin);
	return true;
}

/* P2.  Whoever is on the way to the write lock asks for the pin after he has it, and so after this. */
static void give_up_pin(struct kv_durable *d)
{
	KV_GUARD(&d->lock);
	if (d->last > d->flushed || !d->pinned || kv_db_is_writing(d->core->db))
		return;
	kv_db_read_end(&d->pin);
	d->pinned = false;
}

/* ---- sync points ---- */

struct point {
	bool loose;
	uint64_t txnid, weight;
	int64_t time_ns;
	struct kv_metas metas;
	struct kv_txn pin;
};

/* P4 */
static int make_loose(struct kv_core *core)
{
	struct kv_txn txn;
	int r = kv_db_write(core->db, &txn);
	if (r)
		return r;
	kv_doors_set_loose(core->doors);
	kv_db_abort(&txn);
	return 0;
}

/* A state that is the newest for so long as to be copied.  The write lock is taken only if others commit without end: a process that is
 * stopped while its thread has it would stop them all. */
static int take_state(struct kv_durable *d, struct point *p)
{
	struct kv_txn txn = {0};
	int r = -EAGAIN;
	for (unsigned i = 0; r == -EAGAIN && i <= TRIES; i++) {
		bool lock = i == TRIES;
		r = lock ? kv_db_write(d->core->db, &txn) : 0;
		if (r == 0)
			r = kv_db_read(d->core->db, &p->pin);
		if (r == 0)
			r = kv_db_metas(&p->pin, &p->metas);
		if (r)
			kv_db_read_end(&p->pin);
		if (lock)
			kv_db_abort(&txn);
	}
	p->txnid = p->pin.txnid;
	return r;
}

/* P3: its state is flushed.  A process that died between writing its record and flushing it leaves a newer one than is known to be on the disk. */
static int write_record(struct kv_durable *d, const struct point *p)
{
	struct kv_sync_record last, rec = {.loose = true, .place = d->place, .time_ns = p->time_ns, .metas = p->metas};
	memcpy(rec.uuid, d->core->super.uuid, sizeof rec.uuid);
	int r = kv_syncfile_read(d->syncfd, &last);
	if (r && r != -ENOENT)
		return r;
	bool mine = r || !last.loose;
	if (!mine && last.failed)
		return kv_fail(EIO);
	return mine || kv_metas_txnid(&last.metas) < p->txnid ? kv_syncfile_write(d->syncfd, &rec) : 0;
}

/* Flushed after the lock is given back: a slot is there or not, and the record that it may replace is not the newest (Y1). */
static int record(struct kv_durable *d, const struct point *p)
{
	if (kv_doors_recorded(d->core->doors) >= p->txnid)
		return 0;
	int r = kv_syncfile_lock(d->syncfd);
	if (r == 0) {
		r = write_record(d, p);
		flock(d->syncfd, LOCK_UN);
	}
	if (r == 0 && fdatasync(d->syncfd))
		r = kv_fail(errno);
	if (r == 0)
		kv_doors_set_recorded(d->core->doors, p->txnid);
	return r;
}

/* P5.  What is in the kernel's memory may never reach the disk, and the next flush would not say so. */
static int fail(struct kv_durable *d, int r)
{
	d->failed = -r;
	kv_doors_set_durability(d->core->doors, d->core->durability, -r);
	return kv_fail(EIO);
}

/* The same, told to other processes: to those that are there, and to the next one, which goes back to the recorded state. */
static int fail_all(struct kv_durable *d, int r)
{
	struct kv_sync_record last;
	if (d->syncfd >= 0 && kv_syncfile_lock(d->syncfd) == 0) {
		if (kv_syncfile_read(d->syncfd, &last) == 0 && last.loose) {
			last.failed = true;
			kv_syncfile_write(d->syncfd, &last);
		}
		flock(d->syncfd, LOCK_UN);
	}
	return fail(d, r);
}

static int flush_point(struct kv_durable *d, struct point *p)
{
	int r = p->loose ? take_state(d, p) : 0;
	if (r)
		return r;
	r = kv_db_sync(d->core->db);
	bool final = r;
	if (r == 0 && p->loose)
		r = record(d, p);
	if (final || (r && r != -ENOSPC && r != -EDQUOT)) /* a record can be written again as a whole */
		r = fail_all(d, r);
	if (r)
		kv_db_read_end(&p->pin);
	return r;
}

/* `loosen`: from here on commits are not flushed each. */
static int make_point(struct kv_durable *d, bool loosen, struct point *p)
{
	struct kv_core *core = d->core;
	int r = 0;
	p->time_ns = kv_ns(kv_now());
	p->txnid = kv_db_newest(core->db);
	p->loose = loosen || kv_doors_loose(core->doors);
	if (p->loose && d->syncfd < 0)
		r = kv_syncfile_open(d->dirfd, kv_doors_recorded(core->doors) != 0, &d->syncfd);
	if (r == 0 && loosen && !kv_doors_loose(core->doors))
		r = make_loose(core);
	if (r == 0)
		r = flush_point(d, p);
	if (r == 0)
		kv_doors_set_synced(core->doors, p->time_ns);
	return r;
}

/* With the lock: what a sync point changes. */
static void note_point(struct kv_durable *d, struct point *p, bool keep)
{
	struct kv_txn old = d->pin;
	d->flushes++;
	d->flushed = kv_max(d->flushed, p->txnid);
	d->weight_flushed = p->weight;
	if (d->pinned)
		kv_db_read_end(&old);
	if (d->pinned || (keep && p->loose))
		hold(d, &p->pin);
	else
		kv_db_read_end(&p->pin);
}

/* Until all up to `txnid` is durable or, with `pin`, there is a pin.  One thread at a time makes sync points.  One that begins after the call covers
 * it, one under way may: so two are enough for any number of callers. */
static int wait_for(struct kv_durable *d, bool pin, uint64_t txnid)
{
	int r = 0;
	pthread_mutex_lock(&d->lock);
	while (r == 0 && !(pin ? d->pinned : d->flushed >= txnid)) {
		if (d->failed) {
			r = kv_fail(EIO);
		} else if (d->busy) {
			pthread_cond_wait(&d->changed, &d->lock);
		} else {
			struct point p = {0};
			uint64_t weight = d->weight;
			d->busy = true;
			pthread_mutex_unlock(&d->lock);
			r = make_point(d, pin, &p);
			pthread_mutex_lock(&d->lock);
			p.weight = weight;
			if (r == 0)
				note_point(d, &p, pin);
			d->busy = false;
			pthread_cond_broadcast(&d->changed);
		}
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

/* While there is a pin: once a second, or when much was written, what is not flushed is; and a pin that was of no use goes. */
static void *run(void *arg)
{
	struct kv_durable *d = arg;
	pthread_mutex_lock(&d->lock);
	while (!d->stop) {
		struct timespec until;
		int rc = 0;
		if (!d->pinned || d->failed) {
			pthread_cond_wait(&d->changed, &d->lock);
			continue;
		}
		d->used = false;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += TICK_MS / 1000;
		while (rc == 0 && !d->stop && d->weight - d->weight_flushed < WEIGHT_MAX)
			rc = pthread_cond_timedwait(&d->changed, &d->lock, &until);
		rc = 0;
		uint64_t last = d->last;
		bool due = last > d->flushed, idle = !due && !d->used;
		if (d->stop)
			break;
		pthread_mutex_unlock(&d->lock);
		if (due)
			rc = wait_for(d, false, last);
		else if (idle)
			give_up_pin(d);
		pthread_mutex_lock(&d->lock);
		if (rc) /* no space for it: again after a second */
			d->weight_flushed = d->weight;
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* ---- what commits call ---- */

/* A pin keeps what was freed from being used, for a second or some MiB: not where the disk, or the map, is all but full. */
static bool needs_room(struct kv_durable *d)
{
	KV_GUARD(&d->lock);
	if (d->last <= d->flushed)
		return false;
	if (d->weight >= d->look_at) {
		d->crowded = kv_db_room(d->core->db) < ROOM_MIN;
		d->look_at = d->weight + LOOK_EVERY;
	}
	return d->crowded;
}

int kv_durable_write(struct kv_core *core, struct kv_txn *ret)
{
	struct kv_durable *d = core->durable;
	for (unsigned i = 0; i < TRIES; i++) {
		if (d->failed)
			return kv_fail(EROFS);
		int r = needs_room(d) ? kv_durable_sync(core) : 0;
		if (r == 0)
			r = kv_db_write(core->db, ret);
		if (r)
			return r;
		bool loose = kv_doors_loose(core->doors);
		if (loose ? is_pinned(d, ret) : core->durability != KVFS_RELAXED) {
			ret->loose = loose;
			ret->unflushed = loose || core->durability == KVFS_NONE;
			return 0;
		}
		kv_db_abort(ret);
		r = wait_for(d, true, 0);
		if (r)
			return r;
	}
	return kv_fail(EAGAIN);
}

/* Pages written, roughly: LMDB does not say.  A commit copies each page that it changes, and the way there from each root. */
static uint64_t weight_of(const struct kv_core *core, const struct kv_txn *txn)
{
	return txn->bytes_put + (4 + (uint64_t)txn->descents) * core->super.page_size;
}

/* LMDB did it: all before it and itself. */
static void note_flushed(struct kv_durable *d, uint64_t txnid)
{
	KV_GUARD(&d->lock);
	d->flushed = kv_max(d->flushed, txnid);
	kv_doors_set_synced(d->core->doors, kv_ns(kv_now()));
}

int kv_durable_committed(struct kv_core *core, const struct kv_txn *txn, enum kv_sync sync, int r)
{
	struct kv_durable *d = core->durable;
	bool must = sync == KV_SYNC_LEVEL && core->durability == KVFS_FULL;
	if (r == -EIO && !txn->unflushed)
		return fail(d, r);
	if (!txn->loose) {
		if (r == 0 && must)
			note_flushed(d, txn->txnid);
		return r;
	}
	if (r)
		return r;
	pthread_mutex_lock(&d->lock);
	d->used = true;
	d->last = kv_max(d->last, txn->txnid);
	d->weight += weight_of(core, txn);
	uint64_t unflushed = d->weight - d->weight_flushed;
	if (unflushed >= WEIGHT_MAX)
		pthread_cond_broadcast(&d->changed);
	must = must || !d->running || unflushed >= 2 * WEIGHT_MAX; /* the disk is slower than we: no faster than it */
	pthread_mutex_unlock(&d->lock);
	return must && wait_for(d, false, txn->txnid) ? kv_fail(EIO) : 0;
}

int kv_durable_sync(struct kv_core *core)
{
	return wait_for(core->durable, false, kv_db_newest(core->db));
}

struct kv_durable_info kv_durable_info(struct kv_core *core)
{
	struct kv_durable *d = core->durable;
	struct kv_durable_info info = {0};
	if (core->doors)
		info.loose = kv_doors_loose(core->doors);
	if (d) {
		KV_GUARD(&d->lock);
		info.failed = d->failed;
		info.flushes = d->flushes;
		info.pinned = d->pinned;
	}
	return info;
}

/* ---- opening and closing ---- */

int kv_durable_open(struct kv_core *core, int dirfd)
{
	pthread_condattr_t attr;
	struct kv_durable *d = calloc(1, sizeof *d);
	if (!d)
		return kv_fail(ENOMEM);
	d->core = core;
	d->syncfd = -1;
	d->dirfd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->dirfd < 0) {
		free(d);
		return kv_fail(errno);
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (kv_sync_place(dirfd, &d->place) && core->durability == KVFS_RELAXED)
		core->durability = KVFS_FULL; /* a power cut could not be told */
	kv_doors_set_durability(core->doors, core->durability, 0);
	core->durable = d;
	return 0;
}

/* What this process committed and did not flush it flushes now: others may not be there for long. */
static void end(struct kv_durable *d)
{
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
	if (d->running)
		pthread_join(d->thread, NULL);
	if (d->last > d->flushed)
		wait_for(d, false, d->last);
	if (d->pinned)
		kv_db_read_end(&d->pin);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
}

void kv_durable_close(struct kv_core *core, bool inherited)
{
	struct kv_durable *d = core->durable;
	if (!d)
		return;
	if (!inherited)
		end(d);
	kv_cleanup_fd(&d->syncfd);
	close(d->dirfd);
	free(d);
	core->durable = NULL;
}
