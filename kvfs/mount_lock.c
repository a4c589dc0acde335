/* Advisory locks between the processes of a mount (locks.h), as points of publication (writer.h).
 *
 * The kernel names an owner: the table of descriptors of a process for its fcntl(2) locks, the open file description for others;
 * flock(2) is told apart, OFD locks are not.  A FLUSH names the process, a RELEASE nobody who can be relied on: it ends all that was
 * locked through the handle.  So OFD locks end when they should, and so do those of a process on a descriptor for reading, which
 * sends no FLUSH.
 *
 * Who waits occupies no thread: the request stays unanswered in the table, and the kernel keeps its file open until it is answered.
 *
 * Invariant: a request is in the table only under its mutex, and answered only by who took it out.  An interrupt that libfuse noted
 * before it was put in is seen there; one noted later finds it in the table, for its function waits for the mutex.  libfuse may call
 * that function when the request was answered already: it is looked for by address and not touched. */
#include "mount.h"
#include "locks.h"
#include "process.h"
#include "writer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

enum {
	LINGER_MS = 20, /* a RELEASE that was sent is handled by then */
	LINGER_THREADS = 4, /* of the mount's, at once */
};

static struct kv_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct kv_handle *)(uintptr_t)fi->fh;
}

uint64_t kv_lock_ino(const struct kv_handle *h)
{
	return h->node->session ? kvfs_session_ino(h->node->session) : h->node->ino;
}

static struct kv_lock lock_of(const struct fuse_file_info *fi, const struct flock *lock)
{
	static const enum kv_lock_type types[] = {[F_RDLCK] = KV_LOCK_READ, [F_WRLCK] = KV_LOCK_WRITE, [F_UNLCK] = KV_LOCK_NONE};

	return (struct kv_lock){
		.ino = kv_lock_ino(handle_of(fi)),
		.owner = fi->lock_owner,
		.first = (uint64_t)lock->l_start,
		.last = lock->l_len ? (uint64_t)lock->l_start + (uint64_t)lock->l_len - 1 : KV_LOCK_END,
		.type = types[lock->l_type],
		.pid = lock->l_pid,
		.handle = handle_of(fi),
		.untold = !handle_of(fi)->write, /* its closing sends no FLUSH */
	};
}

/* Answers a lock that was granted, once the kernel has no pages but those of the value that stands now. */
static void answer_locked(fuse_req_t req, struct kv_handle *h)
{
	struct kv_mount *m = kv_mount_of(req);
	int r = kv_writer_refresh(m->nodes, h);

	if (r > 0)
		kv_notifier_drop_then_reply(m->notifier, h->node->kernel_id ? h->node->kernel_id : h->node->id, req, 0);
	else
		kv_reply(req, 0);
}

static void answer_turns(struct kv_list *turns)
{
	struct kv_lock_wait *w;

	while ((w = kv_locks_turn(turns))) {
		if (w->result < 0)
			kv_reply(w->request, w->result);
		else
			answer_locked(w->request, w->want.handle);
		free(w);
	}
}

static void interrupted(fuse_req_t req, void *data)
{
	struct kv_mount *m = data;
	struct kv_lock_wait *w;

	pthread_mutex_lock(&m->locks->mutex);
	w = kv_locks_cancel(m->locks, req);
	pthread_mutex_unlock(&m->locks->mutex);
	if (w)
		kv_reply(req, -EINTR);
	free(w);
}

/* With the table's mutex held.  close(2) waits for the FLUSH, if there is one, but not for the RELEASE that ends an open file description
 * and its locks: who asks right afterwards, and would not wait, is given the time that it takes. */
static int try(struct kv_locks *t, const struct kv_lock *want, struct kv_list *turns)
{
	const struct timespec until = kv_deadline(LINGER_MS);
	struct kv_lock found;
	int r;

	while ((r = kv_locks_set(t, want, NULL, turns)) == -EAGAIN) {
		if (!kv_locks_blocked(t, want, &found) || !(found.flushed || found.untold) || t->lingering == LINGER_THREADS)
			break;
		t->lingering++;
		bool late = pthread_cond_clockwait(&t->given, &t->mutex, CLOCK_MONOTONIC, &until) != 0;
		t->lingering--;
		if (late) {
			kv_locks_flushed(t, found.ino, found.handle, false);
			break;
		}
	}
	return r;
}

static bool yields(struct kv_mount *m, const struct kv_lock *want)
{
	bool r;

	pthread_mutex_lock(&m->locks->mutex);
	r = kv_locks_yields(m->locks, want);
	pthread_mutex_unlock(&m->locks->mutex);
	return r;
}

/* Sets a lock and answers: at once, or when its turn has come. */
static void set(fuse_req_t req, struct kv_lock *want, bool sleep)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_handle *h = want->handle;
	struct kv_list turns;
	int published = 0, r;

	if (want->type != KV_LOCK_NONE) {
		r = kv_writer_locking(m->nodes, h);
		if (r < 0) {
			kv_reply(req, r);
			return;
		}
		want->ino = kv_lock_ino(h);
	}
	if (yields(m, want))
		published = kv_writer_unlocked(m->nodes, h);
	if (sleep)
		fuse_req_interrupt_func(req, interrupted, m);
	kv_list_init(&turns);
	pthread_mutex_lock(&m->locks->mutex);
	if (sleep)
		r = fuse_req_interrupted(req) ? -EINTR : kv_locks_set(m->locks, want, req, &turns);
	else
		r = try(m->locks, want, &turns);
	pthread_mutex_unlock(&m->locks->mutex);
	if (r == 0)
		r = published;
	if (r == 0 && want->type != KV_LOCK_NONE)
		answer_locked(req, h);
	else if (r != -EINPROGRESS) /* else it may be answered by now */
		kv_reply(req, r);
	answer_turns(&turns);
}

void op_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_lock want = lock_of(fi, lock), found = {0};

	(void)id;
	pthread_mutex_lock(&m->locks->mutex);
	(void)kv_locks_blocked(m->locks, &want, &found);
	pthread_mutex_unlock(&m->locks->mutex);
	*lock = (struct flock){.l_type = F_UNLCK};
	if (found.type != KV_LOCK_NONE)
		*lock = (struct flock){
			.l_type = found.type == KV_LOCK_WRITE ? F_WRLCK : F_RDLCK,
			.l_start = (off_t)found.first,
			.l_len = found.last == KV_LOCK_END ? 0 : (off_t)(found.last - found.first + 1),
			.l_pid = found.pid,
		};
	fuse_reply_lock(req, lock);
}

void op_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct kv_lock want = lock_of(fi, lock);

	(void)id;
	set(req, &want, sleep && want.type != KV_LOCK_NONE);
}

void op_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op)
{
	struct kv_lock want = lock_of(fi, &(struct flock){.l_type = F_UNLCK});

	(void)id;
	want.flock = true;
	if (op & LOCK_EX)
		want.type = KV_LOCK_WRITE;
	else if (op & LOCK_SH)
		want.type = KV_LOCK_READ;
	set(req, &want, want.type != KV_LOCK_NONE && !(op & LOCK_NB));
}

int kv_lock_flush(fuse_req_t req, struct kv_handle *h, uint64_t owner)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_lock none = {.ino = kv_lock_ino(h), .owner = owner, .last = KV_LOCK_END};
	struct kv_list turns;
	int r = 0, killer;

	pthread_mutex_lock(&m->locks->mutex);
	kv_locks_flushed(m->locks, none.ino, h, true);
	pthread_mutex_unlock(&m->locks->mutex);
	if (!yields(m, &none))
		return 0;
	/* Not only the process that opened the session may have had a lock, or its last descriptor: what a lock protected is published
	 * with its end.  But half of what a killed process meant to write is not. */
	if (kv_process_fate(kv_tid_of(req), &killer) != KV_FATE_KILLED)
		r = kv_writer_unlocked(m->nodes, h);
	kv_list_init(&turns);
	pthread_mutex_lock(&m->locks->mutex);
	(void)kv_locks_set(m->locks, &none, NULL, &turns);
	pthread_mutex_unlock(&m->locks->mutex);
	answer_turns(&turns);
	return r;
}

void kv_lock_release(struct kv_mount *m, uint64_t ino, const struct kv_handle *h)
{
	struct kv_list turns;

	kv_list_init(&turns);
	pthread_mutex_lock(&m->locks->mutex);
	kv_locks_drop(m->locks, ino, h, &turns);
	pthread_mutex_unlock(&m->locks->mutex);
	answer_turns(&turns);
}

void kv_lock_end(struct kv_mount *m)
{
	struct kv_lock_wait *w;

	/* EINTR would let the kernel ask again. */
	while ((w = kv_locks_cancel_any(m->locks))) {
		kv_reply(w->request, -ENOTCONN);
		free(w);
	}
}
