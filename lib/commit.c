/* Commits; see commit.h.
 *
 * Invariant C1: between begin and end nothing waits for anybody: no user code, no pipe, no terminal, no other lock but leaf mutexes. */
#include "commit.h"

#include <errno.h>

#include "err.h"
#include "feed.h"
#include "namei.h"
#include "reap.h"

#define INO_BATCH 256
#define INO_MAX (1ull << 44)

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

int kv_commit_begin(struct kv_core *core, struct kv_edit *ret)
{
	int r = kv_core_check(core);
	if (r)
		return r;
	if (core->rdonly)
		return kv_fail(EROFS);
	struct kv_edit ed = {.layout = core->layout, .reserved = is_reserved, .doors = core->doors};
	r = kv_db_write(core->db, &ed.txn);
	if (r)
		return r;
	r = kv_log_head(&ed.txn, &ed.head);
	if (r == 0 && ed.head.rec.next_ino >= INO_MAX)
		r = kv_fail(EOVERFLOW);
	if (r) {
		kv_db_abort(&ed.txn);
		return r;
	}
	ed.seq = ed.head.seq + 1;
	ed.now = kv_now();
	*ret = ed;
	return 0;
}

void kv_commit_abort(struct kv_edit *ed)
{
	kv_changes_free(&ed->changes);
	kv_db_abort(&ed->txn);
}

int kv_commit_end(struct kv_core *core, struct kv_edit *ed, enum kv_sync sync)
{
	uint64_t most = atomic_load(&core->chunks_put_max);
	atomic_fetch_add(&core->chunks_put, ed->chunks);
	if (ed->chunks > most) /* nobody else has the write lock */
		atomic_store(&core->chunks_put_max, ed->chunks);
	int r = kv_reap(core, ed);
	ed->head.rec.time_ns = kv_ns(ed->now);
	if (r == 0)
		r = kv_log_append(&ed->txn, &ed->head, &ed->changes);
	if (r)
		kv_db_abort(&ed->txn);
	else
		r = kv_feed_commit(core, ed, sync);
	if (r)
		kv_doors_look_again(core->doors); /* what the reaper was told is not done */
	if (r == 0 && sync == KV_SYNC_LEVEL && core->durability == KVFS_FULL)
		kv_doors_set_synced(core->doors, kv_ns(ed->now));
	if (r == 0)
		kv_feed_tell(core, ed);
	kv_changes_free(&ed->changes);
	return r;
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
