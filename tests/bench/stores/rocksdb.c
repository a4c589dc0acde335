/* RocksDB by its C interface.  Write buffers are 8 MiB instead of 64, so that it fits the memory that all stores get. */
#include "engine.h"

#include <rocksdb/c.h>

static rocksdb_t *db;
static rocksdb_options_t *options;
static rocksdb_writeoptions_t *writing;
static rocksdb_readoptions_t *reading;
static rocksdb_writebatch_t *batch;

static void check(char *error)
{
	if (error) {
		fprintf(stderr, "rocksdb: %s\n", error);
		exit(1);
	}
}

static void do_open(const char *dir, const char *level)
{
	char *error = NULL;

	options = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(options, 1);
	rocksdb_options_set_write_buffer_size(options, 8 << 20);
	db = rocksdb_open(options, dir, &error);
	check(error);
	writing = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(writing, strcmp(level, "sync") == 0);
	reading = rocksdb_readoptions_create();
}

static void do_put(const void *key, const void *value, size_t len)
{
	char *error = NULL;

	if (batch)
		rocksdb_writebatch_put(batch, key, KEY_BYTES, value, len);
	else
		rocksdb_put(db, writing, key, KEY_BYTES, value, len, &error);
	check(error);
}

static size_t do_get(const void *key, void *into)
{
	char *error = NULL, *value;
	size_t len = 0;

	value = rocksdb_get(db, reading, key, KEY_BYTES, &len, &error);
	check(error);
	if (!value)
		return 0;
	memcpy(into, value, len);
	rocksdb_free(value);
	return len;
}

static void do_begin(void)
{
	batch = rocksdb_writebatch_create();
}

static void do_commit(void)
{
	char *error = NULL;

	rocksdb_write(db, writing, batch, &error);
	check(error);
	rocksdb_writebatch_destroy(batch);
	batch = NULL;
}

static void do_scan(void)
{
	rocksdb_iterator_t *it = rocksdb_create_iterator(db, reading);
	char into[VALUE_MAX];

	for (rocksdb_iter_seek_to_first(it); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t len;
		const char *value = rocksdb_iter_value(it, &len);

		memcpy(into, value, len);
		if (!scanned(len))
			break;
	}
	rocksdb_iter_destroy(it);
}

static void do_close(void)
{
	rocksdb_close(db);
	rocksdb_readoptions_destroy(reading);
	rocksdb_writeoptions_destroy(writing);
	rocksdb_options_destroy(options);
}

const struct engine engine = {do_open, do_put, do_get, do_begin, do_commit, do_scan, do_close};
