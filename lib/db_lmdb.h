/* What the parts of db share, and nobody else includes: db.c has environments and transactions, db_records.c what is in them. */
#ifndef KV_DB_LMDB_H
#define KV_DB_LMDB_H

#include <lmdb.h>
#include <setjmp.h>
#include <stdatomic.h>

#include "db.h"

#define KV_DB_POOL 64

/* Does the table share the main tree? */
static inline bool kv_db_is_small(enum kv_table table)
{
	return table <= KV_LOG;
}

struct kv_db {
	MDB_env *env;
	MDB_dbi trees[KV_TABLES];
	uint32_t page_size;
	int fd; /* of data.mdb, LMDB's own */
	struct kv_map map;
	bool free_checked; /* the list of free pages was; protected by the write lock */
	pthread_mutex_t lock;
	MDB_txn *pool[KV_DB_POOL]; /* reset reading transactions that keep their slots; protected by lock */
	size_t pooled;
	_Atomic size_t checked_pgno; /* how long the file was when dead readers were last looked for */
	struct kvfs_error damage; /* protected by lock */
	_Atomic unsigned writing; /* transactions from before they have the write lock to their end */
	_Atomic uint64_t reads, writes, descents, bytes_put;
};

/* The one errno for what LMDB returned; 0 and answers too. */
int kv_db_map_error(struct kv_db *db, int rc);
/* What came of a walk in the map: notes what is damaged. */
int kv_db_walked(struct kv_db *db, int r);

/* Where the tree of a table begins, in the transaction's state; of a writing one, that of the commit before it. */
int kv_db_tree(struct kv_txn *txn, enum kv_table table, const struct kv_tree **ret);

/* Where an assertion that fails in LMDB goes. */
extern _Thread_local jmp_buf *kv_db_way_out;

#define KV_DB_ASSERTED (-30700) /* beside LMDB's codes */
#define KV_DB_GUARDED(call)                                                                                                        \
	({                                                                                                                         \
		jmp_buf here_;                                                                                                     \
		kv_db_way_out = &here_;                                                                                            \
		int rc_ = _setjmp(here_) ? KV_DB_ASSERTED : (call);                                                                \
		kv_db_way_out = NULL;                                                                                              \
		rc_;                                                                                                               \
	})

#endif
