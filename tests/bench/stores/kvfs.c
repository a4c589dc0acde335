/* kvfs by its C library.  A key is a path, so the random bytes are written in hexadecimal. */
#include "engine.h"

#include <kvfs.h>

static struct kvfs_store *store;
static struct kvfs_txn *txn;

static void do_open(const char *dir, const char *level)
{
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .purpose = "bench"};
	struct kvfs_error err;
	char path[4096];

	for (int i = KVFS_FULL; i <= KVFS_NONE; i++)
		if (strcmp(level, kvfs_durability_name(i)) == 0)
			opt.durability = i;
	snprintf(path, sizeof(path), "%s/store", dir);
	if (kvfs_open(path, &opt, &store, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
}

static const char *path_of(const void *key)
{
	static const char digits[] = "0123456789abcdef";
	static char path[2 * KEY_BYTES + 1];
	const unsigned char *bytes = key;

	for (size_t i = 0; i < KEY_BYTES; i++) {
		path[2 * i] = digits[bytes[i] >> 4];
		path[2 * i + 1] = digits[bytes[i] & 15];
	}
	return path;
}

static void do_put(const void *key, const void *value, size_t len)
{
	if (txn)
		MUST(kvfs_txn_put(txn, path_of(key), value, len, NULL));
	else
		MUST(kvfs_put(store, path_of(key), value, len, NULL, NULL));
}

static size_t do_get(const void *key, void *into)
{
	ssize_t n = kvfs_get_into(store, path_of(key), into, VALUE_MAX, 0);

	return n < 0 ? 0 : (size_t)n;
}

static void do_begin(void)
{
	MUST(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
}

static void do_commit(void)
{
	MUST(kvfs_txn_commit(&txn));
}

static void do_scan(void)
{
	char value[VALUE_MAX];
	struct kvfs_cursor *cursor;
	struct kvfs_entry entry;
	ssize_t n;

	MUST(kvfs_list(store, "", NULL, &cursor));
	do
		n = kvfs_cursor_next(cursor, &entry) > 0 ? kvfs_get_into(store, entry.key, value, sizeof(value), 0) : 0;
	while (n > 0 && scanned((size_t)n));
	kvfs_cursor_close(cursor);
}

static void do_close(void)
{
	kvfs_close(store);
}

const struct engine engine = {do_open, do_put, do_get, do_begin, do_commit, do_scan, do_close};
