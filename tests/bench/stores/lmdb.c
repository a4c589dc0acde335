/* Plain LMDB: what kvfs itself stands on. */
#include "engine.h"

#include <lmdb.h>

static MDB_env *env;
static MDB_dbi dbi;
static MDB_txn *txn;

static void do_open(const char *dir, const char *level)
{
	unsigned flags = MDB_NOTLS;
	MDB_txn *first;

	if (strcmp(level, "nometasync") == 0)
		flags |= MDB_NOMETASYNC;
	else if (strcmp(level, "nosync") == 0)
		flags |= MDB_NOSYNC;
	MUST(mdb_env_create(&env));
	MUST(mdb_env_set_mapsize(env, (size_t)1 << 40));
	MUST(mdb_env_open(env, dir, flags, 0600));
	MUST(mdb_txn_begin(env, NULL, 0, &first));
	MUST(mdb_dbi_open(first, NULL, 0, &dbi));
	MUST(mdb_txn_commit(first));
}

static void do_begin(void)
{
	MUST(mdb_txn_begin(env, NULL, 0, &txn));
}

static void do_commit(void)
{
	MUST(mdb_txn_commit(txn));
	txn = NULL;
}

static void do_put(const void *key, const void *value, size_t len)
{
	MDB_val k = {KEY_BYTES, (void *)key}, v = {len, (void *)value};
	bool own = !txn;

	if (own)
		do_begin();
	MUST(mdb_put(txn, dbi, &k, &v, 0));
	if (own)
		do_commit();
}

static size_t do_get(const void *key, void *into)
{
	MDB_val k = {KEY_BYTES, (void *)key}, v = {0, NULL};
	MDB_txn *reading;

	MUST(mdb_txn_begin(env, NULL, MDB_RDONLY, &reading));
	if (mdb_get(reading, dbi, &k, &v) == 0)
		memcpy(into, v.mv_data, v.mv_size);
	mdb_txn_abort(reading);
	return v.mv_size;
}

static void do_scan(void)
{
	char value[VALUE_MAX];
	MDB_cursor *cursor;
	MDB_txn *reading;
	MDB_val k, v;

	MUST(mdb_txn_begin(env, NULL, MDB_RDONLY, &reading));
	MUST(mdb_cursor_open(reading, dbi, &cursor));
	while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
		memcpy(value, v.mv_data, v.mv_size);
		if (!scanned(v.mv_size))
			break;
	}
	mdb_cursor_close(cursor);
	mdb_txn_abort(reading);
}

static void do_close(void)
{
	mdb_env_close(env);
}

const struct engine engine = {do_open, do_put, do_get, do_begin, do_commit, do_scan, do_close};
