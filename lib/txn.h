/* Transactions over many keys. */
#ifndef KV_TXN_H
#define KV_TXN_H

#include "core.h"

struct kv_txn_op;
struct kv_txn_key;

struct kvfs_txn {
	struct kv_core *core;
	struct kv_txn snapshot;
	struct kv_doors_snapshot mark; /* says in the shared table since when */
	bool write;
	struct kv_txn_op *ops, **ops_end; /* changes in order */
	size_t nops, bytes;
	struct kv_txn_key **keys; /* what was read or written, by hash of the key */
	size_t nkeys, cap;
	const char *at; /* the key that the commit is at; NULL: it is about the whole */
};

/* The transaction's snapshot; -EBADFD after fork. */
int kv_txn_snapshot(struct kvfs_txn *txn, struct kv_txn **ret);

#endif
