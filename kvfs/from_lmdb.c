/* Another LMDB environment, a directory or a file: its main database, or #NAME.  Keys are str where they are UTF-8, else bytes.  It is read in one
 * transaction.
 *
 * LMDB trusts the file it maps: of a damaged source the process may die, as of a damaged store. */
#include "cli.h"
#include "from.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

struct lmdb {
	MDB_env *env;
	MDB_txn *txn;
	MDB_cursor *cursor;
	MDB_val key; /* of the record in hand */
	bool main; /* the main database has the names of the others among its keys */
	bool sought; /* the record in hand is not the next, but was read already */
};

static int fail(struct from *from, int r)
{
	return from_fail(from, FROM_FAILED, "LMDB: %s", r == MDB_NOTFOUND ? "no database of this name in it" : mdb_strerror(r));
}

/* Others may write to it; where its lock file cannot be had, nobody is expected to. */
static int open_env(struct from *from, struct lmdb *l)
{
	struct stat st;
	unsigned flags = MDB_RDONLY;
	int r;

	if (stat(from->file, &st) < 0)
		return errno;
	if (!S_ISDIR(st.st_mode))
		flags |= MDB_NOSUBDIR;
	for (;; flags |= MDB_NOLOCK) {
		r = mdb_env_create(&l->env);
		if (r)
			return r;
		mdb_env_set_maxdbs(l->env, 2);
		r = mdb_env_open(l->env, from->file, flags, 0600);
		if ((r != EACCES && r != EROFS) || (flags & MDB_NOLOCK))
			return r;
		mdb_env_close(l->env);
		l->env = NULL;
	}
}

static int lmdb_open(struct from *from)
{
	struct lmdb *l = from->state = calloc(1, sizeof(*l));
	MDB_stat st;
	MDB_dbi db;
	int r;

	if (!l)
		return from_fail(from, FROM_FAILED, "out of memory");
	l->main = !from->fragment;
	r = open_env(from, l);
	if (r == 0)
		r = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &l->txn);
	if (r == 0)
		r = mdb_dbi_open(l->txn, from->fragment, 0, &db);
	if (r == 0)
		r = mdb_cursor_open(l->txn, db, &l->cursor);
	if (r)
		return fail(from, r);
	if (mdb_stat(l->txn, db, &st) == 0)
		from->total_keys = st.ms_entries;
	return 0;
}

/* Is the record in hand, of the main database, one that describes another database? */
static bool is_database(struct lmdb *l, const MDB_val *data)
{
	char name[512];
	MDB_dbi db;

	if (!l->main || data->mv_size != 48 || l->key.mv_size >= sizeof(name) || memchr(l->key.mv_data, 0, l->key.mv_size))
		return false;
	memcpy(name, l->key.mv_data, l->key.mv_size);
	name[l->key.mv_size] = '\0';
	if (mdb_dbi_open(l->txn, name, 0, &db))
		return false;
	mdb_dbi_close(l->env, db);
	return true;
}

static int bad(struct from *from, const struct kvfs_typed *key, const char *why)
{
	struct kvfs_typed_name name;

	if (kvfs_typed_encode(key, &name) < 0)
		return from_fail(from, FROM_FAILED, "out of memory");
	free(name.line);
	return from_fail(from, FROM_BAD, "the key %s %s", cli_quote(name.name), why);
}

static int lmdb_next(struct from *from, struct record *ret)
{
	struct lmdb *l = from->state;
	MDB_val last = l->key, data;
	int r = mdb_cursor_get(l->cursor, &l->key, &data, MDB_NEXT);

	if (r == MDB_NOTFOUND)
		return FROM_END;
	if (r)
		return fail(from, r);
	ret->key = from_bytes(l->key.mv_data, l->key.mv_size);
	ret->data = data.mv_data;
	ret->len = data.mv_size;
	if (last.mv_data && last.mv_size == l->key.mv_size && memcmp(last.mv_data, l->key.mv_data, last.mv_size) == 0)
		return bad(from, &ret->key, "has more than one value; the first is kept");
	if (is_database(l, &data))
		return bad(from, &ret->key, "is a database of its own, for an import from lmdb:PATH#NAME");
	return FROM_RECORD;
}

static size_t lmdb_tell(struct from *from, void *buf, size_t cap)
{
	struct lmdb *l = from->state;

	if (!l->key.mv_data || l->key.mv_size > cap)
		return 0;
	memcpy(buf, l->key.mv_data, l->key.mv_size);
	return l->key.mv_size;
}

static bool lmdb_seek(struct from *from, const void *buf, size_t len)
{
	struct lmdb *l = from->state;
	MDB_val key = {len, (void *)buf}, data;

	if (mdb_cursor_get(l->cursor, &key, &data, MDB_SET_KEY))
		return false;
	l->key = key;
	return true;
}

static void lmdb_close(struct from *from)
{
	struct lmdb *l = from->state;

	if (!l)
		return;
	if (l->cursor)
		mdb_cursor_close(l->cursor);
	if (l->txn)
		mdb_txn_abort(l->txn);
	if (l->env)
		mdb_env_close(l->env);
	free(l);
}

const struct from_kind from_lmdb = {
	.name = "lmdb", .open = lmdb_open, .next = lmdb_next, .tell = lmdb_tell, .seek = lmdb_seek, .close = lmdb_close};
