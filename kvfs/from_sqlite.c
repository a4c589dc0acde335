/* A table of an SQLite database.  #TABLE, or #TABLE,KEY,VALUE; without a fragment the only table that has the columns `key` and `value`, which is
 * what sqlitedict makes.  Texts are str keys, blobs bytes, numbers numbers.  It is read in one transaction. */
#include "cli.h"
#include "from.h"

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct sqlite {
	sqlite3 *db;
	sqlite3_stmt *rows;
	char *table, *key, *value; /* of the fragment; table malloc'd, the others in it or constant */
	char key_text[KVFS_TYPED_NUMBER], value_text[KVFS_TYPED_NUMBER];
	int64_t rowid; /* of the row in hand; the order is theirs */
	bool has_rowid; /* views and WITHOUT ROWID tables have none, and no way back */
};

static int fail(struct from *from)
{
	struct sqlite *s = from->state;

	return from_fail(from, FROM_FAILED, "SQLite: %s", s->db ? sqlite3_errmsg(s->db) : "out of memory");
}

/* The only table with the columns key and value. */
static int find_table(struct from *from)
{
	static const char query[] =
		"SELECT m.name FROM sqlite_schema m WHERE m.type = 'table'"
		" AND 2 = (SELECT count(*) FROM pragma_table_info(m.name) c WHERE lower(c.name) IN ('key', 'value')) LIMIT 2";
	struct sqlite *s = from->state;
	sqlite3_stmt *q = NULL;
	int n = 0;

	if (sqlite3_prepare_v2(s->db, query, -1, &q, NULL) != SQLITE_OK)
		return fail(from);
	while (sqlite3_step(q) == SQLITE_ROW && n++ == 0)
		s->table = strdup((const char *)sqlite3_column_text(q, 0));
	if (sqlite3_finalize(q) != SQLITE_OK)
		return fail(from);
	if (n != 1)
		return from_fail(from, FROM_FAILED,
			"%s table has the columns key and value; name one as in sqlite:FILE#TABLE,KEY,VALUE",
			n ? "more than one" : "no");
	s->key = "key";
	s->value = "value";
	return 0;
}

static int split_fragment(struct from *from)
{
	struct sqlite *s = from->state;
	char *comma;

	s->table = strdup(from->fragment);
	s->key = "key";
	s->value = "value";
	if (!s->table)
		return from_fail(from, FROM_FAILED, "out of memory");
	comma = strchr(s->table, ',');
	if (!comma)
		return 0;
	*comma = '\0';
	s->key = comma + 1;
	comma = strchr(s->key, ',');
	if (!comma)
		return from_fail(from, FROM_FAILED, "after # come TABLE, or TABLE,KEY,VALUE");
	*comma = '\0';
	s->value = comma + 1;
	return 0;
}

static int prepare(struct from *from, const char *format)
{
	struct sqlite *s = from->state;
	char *query = sqlite3_mprintf(format, s->key, s->value, s->table);
	int r = query ? sqlite3_prepare_v2(s->db, query, -1, &s->rows, NULL) : SQLITE_NOMEM;

	sqlite3_free(query);
	return r;
}

static void count_rows(struct from *from)
{
	struct sqlite *s = from->state;
	sqlite3_stmt *q = NULL;
	char *query = sqlite3_mprintf("SELECT max(_rowid_) FROM \"%w\"", s->table);

	if (query && sqlite3_prepare_v2(s->db, query, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW &&
		sqlite3_column_int64(q, 0) > 0)
		from->total_keys = (uint64_t)sqlite3_column_int64(q, 0); /* more, if rows were deleted */
	sqlite3_finalize(q);
	sqlite3_free(query);
}

static int sqlite_open(struct from *from)
{
	struct sqlite *s = from->state = calloc(1, sizeof(*s));

	if (!s)
		return from_fail(from, FROM_FAILED, "out of memory");
	if (sqlite3_open_v2(from->file, &s->db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		return fail(from);
	sqlite3_busy_timeout(s->db, 5000);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DQS_DML, 0, NULL); /* "x" is a column, never the string x */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	if ((from->fragment ? split_fragment(from) : find_table(from)) < 0)
		return FROM_FAILED;
	s->has_rowid = prepare(from, "SELECT \"%w\", \"%w\", _rowid_ FROM \"%w\" WHERE _rowid_ > ?1 ORDER BY _rowid_") == SQLITE_OK;
	if (!s->has_rowid && prepare(from, "SELECT \"%w\", \"%w\" FROM \"%w\"") != SQLITE_OK)
		return fail(from);
	if (s->has_rowid)
		sqlite3_bind_double(s->rows, 1, -1e19); /* below all of them */
	count_rows(from);
	return 0;
}

static bool take_key(struct sqlite *s, struct kvfs_typed *ret)
{
	const void *data;

	switch (sqlite3_column_type(s->rows, 0)) {
	case SQLITE_INTEGER:
		*ret = kvfs_typed_int(sqlite3_column_int64(s->rows, 0), s->key_text);
		return true;
	case SQLITE_FLOAT:
		*ret = kvfs_typed_float(sqlite3_column_double(s->rows, 0), s->key_text);
		return true;
	case SQLITE_TEXT:
		data = sqlite3_column_text(s->rows, 0);
		*ret = from_bytes(data, (size_t)sqlite3_column_bytes(s->rows, 0));
		return data;
	case SQLITE_BLOB:
		data = sqlite3_column_blob(s->rows, 0); /* NULL when it is empty */
		*ret = (struct kvfs_typed){KVFS_TYPED_BYTES, data ? data : "", (size_t)sqlite3_column_bytes(s->rows, 0)};
		return true;
	default:
		return false;
	}
}

static bool take_value(const struct from *from, struct sqlite *s, struct record *ret)
{
	struct kvfs_typed number;
	int type = sqlite3_column_type(s->rows, 1);

	ret->is_json = type != SQLITE_TEXT && type != SQLITE_BLOB;
	if (type == SQLITE_INTEGER || type == SQLITE_FLOAT) {
		double x = sqlite3_column_double(s->rows, 1);

		number = type == SQLITE_INTEGER ? kvfs_typed_int(sqlite3_column_int64(s->rows, 1), s->value_text)
						: kvfs_typed_float(x, s->value_text);
		ret->data = number.data;
		ret->len = number.len;
		ret->is_json = isfinite(x);
		return true;
	}
	if (type == SQLITE_NULL) {
		ret->data = "null";
		ret->len = 4;
		return from->keep_null;
	}
	ret->data = type == SQLITE_TEXT ? (const void *)sqlite3_column_text(s->rows, 1) : sqlite3_column_blob(s->rows, 1);
	ret->len = (size_t)sqlite3_column_bytes(s->rows, 1);
	if (!ret->data)
		ret->data = "";
	return true;
}

static int sqlite_next(struct from *from, struct record *ret)
{
	struct sqlite *s = from->state;
	int r = sqlite3_step(s->rows);

	if (r == SQLITE_DONE)
		return FROM_END;
	if (r != SQLITE_ROW)
		return fail(from);
	if (s->has_rowid)
		s->rowid = sqlite3_column_int64(s->rows, 2);
	if (!take_key(s, &ret->key))
		return from_fail(from, FROM_BAD, "row %jd: the key is NULL", (intmax_t)s->rowid);
	if (!take_value(from, s, ret))
		return from_fail(from, FROM_BAD, "row %jd: the value is NULL; --values=json keeps that", (intmax_t)s->rowid);
	return FROM_RECORD;
}

static size_t sqlite_tell(struct from *from, void *buf, size_t cap)
{
	struct sqlite *s = from->state;

	if (!s->has_rowid || cap < sizeof(s->rowid))
		return 0;
	memcpy(buf, &s->rowid, sizeof(s->rowid));
	return sizeof(s->rowid);
}

static bool sqlite_seek(struct from *from, const void *buf, size_t len)
{
	struct sqlite *s = from->state;

	if (!s->has_rowid || len != sizeof(s->rowid))
		return false;
	memcpy(&s->rowid, buf, len);
	sqlite3_reset(s->rows);
	return sqlite3_bind_int64(s->rows, 1, s->rowid) == SQLITE_OK;
}

static void sqlite_close(struct from *from)
{
	struct sqlite *s = from->state;

	if (!s)
		return;
	sqlite3_finalize(s->rows);
	sqlite3_close(s->db);
	free(s->table);
	free(s);
}

const struct from_kind from_sqlite = {.name = "sqlite",
	.open = sqlite_open,
	.next = sqlite_next,
	.tell = sqlite_tell,
	.seek = sqlite_seek,
	.close = sqlite_close};
