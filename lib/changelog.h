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
void kv_changes_free(struct kv_changes *ch);

/* Appends the records of a commit after head->seq and moves head on to the last of them; trims the ring. */
int kv_log_append(struct kv_txn *txn, struct kv_head *head, const struct kv_changes *ch);

#endif
