/* Held values: one published version that stays readable however long, and keeps nothing else from being freed. */
#ifndef KV_HELD_H
#define KV_HELD_H

#include <kvfs_ll.h>

#include "core.h"
#include "value.h"

struct kvfs_value {
	struct kv_core *core;
	struct kv_txn *within; /* reads in this transaction, which then holds the value; else NULL */
	struct kv_version ver;
	uint8_t tail[]; /* ver.tail */
};

/* A handle on the version an inode record describes.  With `hold`, its chunks are entered in the shared table: the caller
 * must then make sure that the value was still current afterwards. -ENFILE, -ENOMEM */
int kv_held_new(struct kv_core *core, const struct kv_inode *inode, bool hold, struct kvfs_value **ret);
/* Opens the current version of what `key` leads to (NULL: of that inode), by the protocol of DESIGN.md. */
int kv_held_open(struct kv_core *core, const char *key, uint64_t ino, struct kvfs_value **ret, struct kvfs_stat *ret_stat);
/* Do both read the same bytes, for certain? */
bool kv_held_same(const struct kvfs_value *a, const struct kvfs_value *b);
/* -EISDIR, -ELOOP, -EINVAL for what is not a value. */
int kv_held_check_type(uint32_t mode);
/* The inode of the value of a key. */
int kv_held_find(struct kv_txn *txn, const char *key, struct kv_inode *ret);

/* A stream that reads the version `inode` describes, within a transaction. */
int kv_stream_within(struct kv_core *core, struct kv_txn *txn, const struct kv_inode *inode, struct kvfs_stream **ret);

#endif
