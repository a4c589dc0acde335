/* Beginning and ending edits: the one way by which the store changes. */
#ifndef KV_COMMIT_H
#define KV_COMMIT_H

#include "core.h"

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
