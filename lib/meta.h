/* Table meta: what the store is.  One record, "store". */
#ifndef KV_META_H
#define KV_META_H

#include "db.h"

/* Features this program knows; a store with an unknown incompat bit is refused. */
#define KV_INCOMPAT_KNOWN 0ull

int kv_meta_get(struct kv_txn *txn, struct kv_rec_super *ret); /* -ENOENT not a kvfs store */
int kv_meta_put(struct kv_txn *txn, const struct kv_rec_super *super);

#endif
