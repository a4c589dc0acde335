/* The core of an open store: what all handles of one process on it share.  store.c opens and closes it; the modules of layer F
 * (commit, reap, session) work on it. */
#ifndef KV_CORE_H
#define KV_CORE_H

#include <errno.h>
#include <stdatomic.h>

#include <kvfs_ll.h>

#include "db.h"
#include "doors.h"
#include "edit.h"

struct kv_durable;

#define KV_SLICE 128u /* chunks: 4 MiB */
#define KV_GROUP_NS 5000000

struct kv_core {
	struct kv_db *db;
	struct kv_doors *doors; /* NULL: a read-only file system, where nothing can change */
	struct kv_layout layout;
	struct kv_rec_super super;
	bool rdonly, pin; /* pin: opened by kv_store_pin() */
	bool claimed; /* by kv_store_claim(); protected by the registry's lock */
	enum kvfs_durability durability;
	struct kv_durable *durable; /* NULL when rdonly */
	uint64_t fork_count; /* kv_fork_count() when it was opened */
	char *path; /* absolute */

	/* inode numbers reserved for sessions on new keys; protected by ino_lock */
	pthread_mutex_t ino_lock;
	uint64_t ino_next, ino_end;

	/* commit.c: edits that wait for the one who commits; protected by queue_lock, a leaf */
	pthread_mutex_t queue_lock;
	struct kv_waiting *queue, **queue_end;
	unsigned queued;
	bool committing; /* somebody does, or waits for company: */
	struct kv_waiting *lingers;
	unsigned crowd; /* how many wanted to commit when the last group ended, those in it included */
	int64_t flush_ns; /* what its commit took */

	/* memory of unpublished data */
	size_t buffer_limit;
	_Atomic size_t buffered;
	pthread_mutex_t sessions_lock; /* order: a session's own lock, then this; from here to a session's only by trying */
	struct kvfs_session *sessions; /* those that hold buffers */

	/* feed.c: who is told of this process's own commits */
	pthread_mutex_t feed_lock; /* a leaf: held for the commit itself while there is a feed */
	struct kvfs_feed *_Atomic feed; /* changed under feed_lock */
	kvfs_ll_change_fn *observer;
	void *observer_arg;

	int64_t group_ns; /* after so long under the write lock no edit joins: KV_GROUP_NS; tests take more */
	unsigned slice; /* chunks written in one transaction, where one can choose: KV_SLICE; tests take less */
	_Atomic uint64_t chunks_put, chunks_put_max; /* so far, and the most by one commit: for tests and benchmarks */

	_Atomic unsigned snapshots; /* transactions that live: a bound keeps reader slots for everybody else */

	/* hidden blobs of closed sessions that could not be retired then: the reaper tries again; protected by sessions_lock */
	uint64_t given_up[64];
	_Atomic unsigned ngiven_up;

	uint64_t dead_walk; /* under the write lock: hidden blobs of doors that are gone may be there, from this one on; 0 none */

	/* registry; protected by its lock */
	dev_t dev;
	ino_t inode;
	unsigned refs;
	struct kv_core *next;
};

struct kvfs_store {
	struct kv_core *core;
	bool rdonly;
};

/* Opens a store, damaged or not, for kv_db_read() alone: to keep a state from being overwritten.  A process that has it open gets that one. */
int kv_store_pin(const char *path, struct kvfs_store **ret, struct kvfs_error *err);

/* Why no state of it could be read, which kv_db_read() failed with: fills `err` and returns r. */
int kv_core_explain(struct kv_core *core, int r, struct kvfs_error *err);

/* Nobody else in this process opens it until it is closed, which the caller does under the directory's lock.  False: somebody has it open. */
bool kv_store_claim(struct kvfs_store *store);

/* How often this process came out of a fork as the child: a core of another count is dead. */
uint64_t kv_fork_count(void);

static inline int kv_core_check(const struct kv_core *core)
{
	return core->fork_count == kv_fork_count() ? 0 : -EBADFD;
}

#endif
