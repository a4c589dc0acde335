/* Table garbage: what to free, and since when; and table session: hidden blobs of live doors, and of sessions that are kept. */
#ifndef KV_GARBAGE_H
#define KV_GARBAGE_H

#include "db.h"

struct kv_garbage {
	uint64_t due, id;
	struct kv_rec_garbage rec;
	struct kv_bytes list; /* of KV_GARBAGE_CHUNKS: pairs (index u32, gen u32); of _UNDER and _AHEAD: blob u64; borrowed */
};

int kv_garbage_put(struct kv_txn *txn, const struct kv_garbage *g);
int kv_garbage_del(struct kv_txn *txn, uint64_t due, uint64_t id);
/* The first entry at or after (due, id).  -ENOENT. */
int kv_garbage_seek(struct kv_txn *txn, uint64_t due, uint64_t id, struct kv_garbage *ret);

int kv_hidden_put(struct kv_txn *txn, uint64_t blob, const struct kv_rec_session *rec);
int kv_hidden_del(struct kv_txn *txn, uint64_t blob);
/* The first session record at or after `blob`.  -ENOENT. */
int kv_hidden_seek(struct kv_txn *txn, uint64_t blob, uint64_t *ret_blob, struct kv_rec_session *ret);

/* A session that is kept for kvfs_recover(): a session record without a door. */
struct kv_kept {
	uint64_t id; /* its blob */
	struct kv_rec_session head; /* ino 0: a new key */
	struct kv_rec_kept rec; /* name_len: of what was read */
	char name[256];
};
int kv_kept_put(struct kv_txn *txn, const struct kv_kept *kept);
/* -ENOENT also when that blob is a live session's. */
int kv_kept_get(struct kv_txn *txn, uint64_t id, struct kv_kept *ret);
/* Is it beyond KVFS_KEPT_DAYS? */
bool kv_kept_is_old(int64_t since_ns, struct timespec now);

#endif
