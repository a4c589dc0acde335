/* Table meta; see meta.h. */
#include "meta.h"

#include <errno.h>

#include "err.h"

static const char key[] = "store";

int kv_meta_get(struct kv_txn *txn, struct kv_rec_super *ret)
{
	struct kv_bytes rec;
	int r = kv_db_get(txn, KV_META, key, sizeof key - 1, &rec);
	if (r)
		return r;
	if (rec.len < sizeof *ret)
		return kv_fail(EUCLEAN);
	memcpy(ret, rec.data, sizeof *ret);
	return 0;
}

int kv_meta_put(struct kv_txn *txn, const struct kv_rec_super *super)
{
	struct iovec part = {(void *)super, sizeof *super};
	return kv_db_put(txn, KV_META, key, sizeof key - 1, &part, 1);
}
