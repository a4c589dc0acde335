/* Beginning and ending edits: the one way by which the store changes. */
#ifndef KV_COMMIT_H
#define KV_COMMIT_H

#include "core.h"

/* Makes a change through `ed`, or fails; then what it did is undone.  It runs under the write lock, in whatever thread of the process has it,
 * while the thread that asked for it waits.  It may be run again where the first time came to nothing, so what it leaves in memory must not be in its own way. */
typedef int kv_edit_fn(struct kv_edit *ed, void *arg);

/* Makes an edit and commits it, in one transaction with those that other threads of this process want to make at the same time.  When it returns the
 * edit is durable by the level of the store, or it failed and the others did not by its fault. */
int kv_commit(struct kv_core *core, kv_edit_fn *fn, void *arg);

/* ---- an edit that shares its transaction with nobody ---- */

/* Takes the write lock.  -EROFS, -EBADFD. */
int kv_commit_begin(struct kv_core *core, struct kv_edit *ret);
/* Writes the log record, frees some garbage and commits.  The edit is gone in every case. */
int kv_commit_end(struct kv_core *core, struct kv_edit *ed, enum kv_sync sync);
void kv_commit_abort(struct kv_edit *ed);
/* Ends by `r`: commits on 0, else aborts and returns r. */
static inline int kv_commit_finish(struct kv_core *core, struct kv_edit *ed, int r)
{
	if (r == 0)
		return kv_commit_end(core, ed, KV_SYNC_LEVEL);
	kv_commit_abort(ed);
	return r;
}

/* Has another session than that of reservation `own` (0 none) reserved the name, or the key that it is? */
bool kv_commit_name_reserved(struct kv_doors *doors, struct kv_txn *txn, uint64_t dir, const char *name, size_t len, unsigned own);

/* A number for an inode that will exist when its session is published. */
int kv_commit_reserve_ino(struct kv_core *core, uint64_t *ret);

#endif
