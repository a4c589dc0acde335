/* WiredTiger: a row store with its log on, so that each commit survives what the level says.  Its cache is 32 MB, as the other stores' is little. */
#include "engine.h"

#include <wiredtiger.h>

static WT_CONNECTION *connection;
static WT_SESSION *session;
static WT_CURSOR *cursor;

static void do_open(const char *dir, const char *level)
{
	char config[256];

	snprintf(config, sizeof(config), "create,cache_size=32MB,log=(enabled),transaction_sync=(enabled,method=%s)",
		strcmp(level, "fsync") == 0 ? "fsync" : "none");
	MUST(wiredtiger_open(dir, NULL, config, &connection));
	MUST(connection->open_session(connection, NULL, NULL, &session));
	MUST(session->create(session, "table:bench", "key_format=u,value_format=u"));
	MUST(session->open_cursor(session, "table:bench", NULL, NULL, &cursor));
}

static void do_put(const void *key, const void *value, size_t len)
{
	WT_ITEM k = {.data = key, .size = KEY_BYTES}, v = {.data = value, .size = len};

	cursor->set_key(cursor, &k);
	cursor->set_value(cursor, &v);
	MUST(cursor->insert(cursor));
}

static size_t do_get(const void *key, void *into)
{
	WT_ITEM k = {.data = key, .size = KEY_BYTES}, v;

	cursor->set_key(cursor, &k);
	if (cursor->search(cursor) != 0)
		return 0;
	MUST(cursor->get_value(cursor, &v));
	memcpy(into, v.data, v.size);
	MUST(cursor->reset(cursor));
	return v.size;
}

static void do_begin(void)
{
	MUST(session->begin_transaction(session, NULL));
}

static void do_commit(void)
{
	MUST(session->commit_transaction(session, NULL));
}

static void do_scan(void)
{
	char into[VALUE_MAX];
	WT_ITEM v;

	MUST(cursor->reset(cursor));
	while (cursor->next(cursor) == 0) {
		MUST(cursor->get_value(cursor, &v));
		memcpy(into, v.data, v.size);
		if (!scanned(v.size))
			break;
	}
}

static void do_close(void)
{
	MUST(connection->close(connection, NULL));
}

const struct engine engine = {do_open, do_put, do_get, do_begin, do_commit, do_scan, do_close};
