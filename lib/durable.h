/* When commits reach the disk.
 *
 * A store is *tight* or *loose*.  While it is tight, a commit of a door at `full` is flushed by LMDB itself, and no other file is needed.
 * It becomes loose with the first commit of a door at `relaxed`: then no commit is flushed by itself, by whichever door, but now and then a
 * *sync point* is made: all that is committed is flushed, and its state is recorded in the file `sync` (syncfile.h), to which a power cut
 * takes the store back.  Who must be durable makes one, or waits for one.  It is tight again when the last door has closed it. */
#ifndef KV_DURABLE_H
#define KV_DURABLE_H

#include "core.h"

/* After LMDB opened, and before it closes.  `inherited`: in a forked child. */
int kv_durable_open(struct kv_core *core, int dirfd);
void kv_durable_close(struct kv_core *core, bool inherited);

/* As kv_db_write(), and what the commit needs to be safe by is there before its first change.  -EROFS: a flush failed. */
int kv_durable_write(struct kv_core *core, struct kv_txn *ret);
/* After the commit of such a transaction, which ended in `r`: waits until it is durable, if it has to be.  Returns r, or what went wrong:
 * -EIO the commit stands and everybody sees it, but a power cut may take it back. */
int kv_durable_committed(struct kv_core *core, const struct kv_txn *txn, enum kv_sync sync, int r);

/* Everything committed before the call is durable when it returns.  Callers share flushes: two are made for any number of them. */
int kv_durable_sync(struct kv_core *core);

struct kv_durable_info {
	bool loose;
	int failed; /* errno of a flush that failed: this process writes no more */
	uint64_t flushes; /* made by this process */
	bool pinned; /* it keeps the pages of the recorded state */
};
struct kv_durable_info kv_durable_info(struct kv_core *core);

#endif
