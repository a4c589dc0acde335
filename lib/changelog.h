/* Tables log and history: sequence -> what a commit changed; together a bounded ring.  The log has the newest few, on a page that every
 * commit writes anyway; its last record also carries the store's counters, so a commit writes them at no cost of their own.
 * Every so many commits the older ones are packed together and put into the history. */
#ifndef KV_CHANGELOG_H
#define KV_CHANGELOG_H

#include "db.h"

#define KV_LOG_RECORDS 2048 /* kept, give or take a pack */
#define KV_LOG_PACK 16 /* the log has at most this many, and one */
#define KV_LOG_BYTES 1536 /* of changes in one record; a larger commit has several */

struct kv_head {
	uint64_t seq; /* of the last record; 0 an empty store */
	struct kv_rec_log rec;
};

/* The newest record's counters.  -EUCLEAN when there is none. */
int kv_log_head(struct kv_txn *txn, struct kv_head *ret);

/* Changes of one commit, packed as they will be stored. */
struct kv_changes {
	uint8_t *buf;
	size_t len, cap;
	uint32_t count;
};
int kv_changes_add(struct kv_changes *ch, enum kv_change_kind kind, uint32_t type, uint64_t ino, uint64_t parent, const char *name,
	size_t len);
/* The same, whole; the name has rec->name_len bytes. */
int kv_changes_add_rec(struct kv_changes *ch, const struct kv_rec_change *rec, const char *name);
void kv_changes_free(struct kv_changes *ch);

/* A change as it is read.  Valid during the call only; non-zero ends the walk, which returns it. */
struct kv_change {
	struct kv_rec_change rec;
	char name[256]; /* rec.name_len bytes and a NUL */
	uint64_t seq; /* of the record it is in */
	int64_t time_ns;
};
typedef int kv_change_fn(void *arg, const struct kv_change *c);
/* All changes in buf[len]; seq and time_ns of *c are the caller's. */
int kv_changes_walk(const void *buf, size_t len, struct kv_change *c, kv_change_fn *fn, void *arg);
/* All changes of the records after `after` up to `last`, in order.  -ESTALE when the ring has dropped some of them. */
int kv_log_read(struct kv_txn *txn, uint64_t after, uint64_t last, kv_change_fn *fn, void *arg);

/* Appends the records of a commit after head->seq and moves head on to the last of them; trims the ring. */
int kv_log_append(struct kv_txn *txn, struct kv_head *head, const struct kv_changes *ch);

#endif
