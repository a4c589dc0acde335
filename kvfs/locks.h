/* The table of advisory locks of a mount: fcntl(2) record locks, those of a process and those of an open file description, and flock(2).
 *
 * It knows neither FUSE nor the store: it says who holds what and whose turn has come.  A lock belongs to an inode number, which all
 * sessions and versions of a key share, whatever kernel inodes they are on.
 *
 * Invariants:
 *  1. No two locks of different owners overlap on one inode, of one kind, unless both are for reading.
 *  2. The locks of one owner on one inode never overlap; those of one type do not touch either.
 *  3. Whoever waits is in the way of nobody, and is in somebody's way: when what he waits for is given up, that same call gives him his
 *     turn, in the order of coming.  As elsewhere, who comes later and meets no lock need not queue.
 *  4. A wait is answered by whoever takes it out, once: the caller that got its turn, or the one that cancelled it.
 *
 * The caller holds `mutex` in every call; `given` is signalled when a lock ends. */
#ifndef KVFS_LOCKS_H
#define KVFS_LOCKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KV_LOCK_END ((uint64_t)INT64_MAX)

enum { KV_LOCKS_MAX = 65536, KV_LOCK_WAITS_MAX = 65536 };

enum kv_lock_type { KV_LOCK_NONE, KV_LOCK_READ, KV_LOCK_WRITE };

/* A lock, or the wish for one; KV_LOCK_NONE is the wish to have none. */
struct kv_lock {
	uint64_t ino, owner;
	uint64_t first, last; /* bytes, both included */
	enum kv_lock_type type;
	bool flock; /* of flock(2): a world of its own, in which all locks are 0 to KV_LOCK_END */
	pid_t pid; /* for F_GETLK */
	void *handle; /* what it was set through */
	/* That may be closed already, and its end be under way: a descriptor of it was closed; nobody is told before the end. */
	bool flushed, untold;
};

struct kv_list {
	struct kv_list *prev, *next;
};

/* Somebody who waits. */
struct kv_lock_wait {
	struct kv_list queued; /* among those of the inode; once out of it, in a caller's list of turns */
	struct kv_list by_owner, by_request;
	struct kv_lock want;
	void *request;
	int result; /* when its turn has come: 0 or a negative errno */
	uint64_t walk; /* the last search for a deadlock that met it */
	struct kv_lock_wait *met; /* whom that one met before */
};

enum { KV_LOCK_SLOTS = 1024 };

struct kv_locks {
	pthread_mutex_t mutex;
	pthread_cond_t given;
	struct kv_list files[KV_LOCK_SLOTS], by_owner[KV_LOCK_SLOTS], by_request[KV_LOCK_SLOTS];
	size_t held, waits, held_max, waits_max;
	uint64_t walk;
	unsigned lingering; /* threads that wait for `given` */
};

/* NULL when memory is short. */
struct kv_locks *kv_locks_new(size_t held_max, size_t waits_max);
/* Takes NULL. Waits are freed unanswered. */
void kv_locks_free(struct kv_locks *t);

/* Sets or, with KV_LOCK_NONE, ends locks of an owner.  Those whose turn comes thereby are moved to `turns`, to be answered and freed.
 * 0; -ENOLCK; when another's lock is in the way: -EAGAIN, or, with a `request`, -EINPROGRESS (it waits) or -EDEADLK (it would for ever). */
int kv_locks_set(struct kv_locks *t, const struct kv_lock *want, void *request, struct kv_list *turns);
/* F_GETLK: whether another's lock is in the way, and which. */
bool kv_locks_blocked(struct kv_locks *t, const struct kv_lock *want, struct kv_lock *ret);
/* Whether setting `want` takes something from its owner that kept others out. */
bool kv_locks_yields(struct kv_locks *t, const struct kv_lock *want);
/* Notes of what was set through a handle whether it may be at its end. */
void kv_locks_flushed(struct kv_locks *t, uint64_t ino, const void *handle, bool flushed);
/* Ends what was set through a handle, of either kind. */
void kv_locks_drop(struct kv_locks *t, uint64_t ino, const void *handle, struct kv_list *turns);
/* The wait of this request, taken out, to be answered and freed; NULL: it does not wait, or no longer. */
struct kv_lock_wait *kv_locks_cancel(struct kv_locks *t, const void *request);
/* Some wait, taken out likewise; NULL: there is none. */
struct kv_lock_wait *kv_locks_cancel_any(struct kv_locks *t);

void kv_list_init(struct kv_list *l);
/* The first wait of a list of turns, taken out; NULL when it is empty. */
struct kv_lock_wait *kv_locks_turn(struct kv_list *turns);

#endif
