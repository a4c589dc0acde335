/* Sources of records for `kvfs import --from KIND:FILE`: each hands out keys and values one by one, in an order of its own that does not change
 * while the source does not. */
#ifndef KVFS_FROM_H
#define KVFS_FROM_H

#include <kvfs.h>
#include <stdio.h>

enum { FROM_RECORD_MAX = 256 << 20 }; /* bytes of one record: it is in memory as a whole */

struct record {
	struct kvfs_typed key;
	const void *data; /* the value */
	size_t len;
	bool is_json; /* it is a JSON text, and no string */
};

struct from {
	const struct from_kind *kind;
	const char *file; /* what follows KIND:, up to the fragment */
	const char *fragment; /* after '#', or NULL */
	bool keep_null; /* a value that is NULL becomes the JSON text null; else it is a bad record */
	void *state; /* of the kind */
	uint64_t total_keys, total_bytes; /* for a progress bar; 0 unknown */
	uint64_t bytes; /* of total_bytes, read */
	char why[1024]; /* what is wrong, where something is */
};

enum { FROM_FAILED = -1, FROM_END, FROM_RECORD, FROM_BAD };

struct from_kind {
	const char *name;
	/* 0, or FROM_FAILED and `why`; close() is called in any case. */
	int (*open)(struct from *from);
	/* FROM_RECORD, its data valid until the next call; FROM_BAD: this one cannot be read, go on; FROM_END; FROM_FAILED. */
	int (*next)(struct from *from, struct record *ret);
	/* Where the next record begins, as bytes for seek(): their number, 0 if they would not fit into `cap` or there is no way back. */
	size_t (*tell)(struct from *from, void *buf, size_t cap);
	/* False when there is no such place. */
	bool (*seek)(struct from *from, const void *buf, size_t len);
	void (*close)(struct from *from);
};
extern const struct from_kind from_csv, from_dbm, from_jsonl, from_lmdb, from_sqlite;

/* A key of which nothing is known but its bytes: a str if they are UTF-8. */
struct kvfs_typed from_bytes(const void *data, size_t len);

/* Fills `why`; returns `ret`. */
__attribute__((format(printf, 3, 4))) int from_fail(struct from *from, int ret, const char *fmt, ...);

/* ---- text files ---- */

/* A text that is read byte by byte; its place is an offset and a line. */
struct from_text {
	FILE *in;
	uint64_t offset, line; /* of what is read next; line from 1 */
	char *buf; /* the record in hand */
	size_t len, cap;
};
int from_text_open(struct from *from, struct from_text *text); /* "-": standard input */
size_t from_text_tell(struct from_text *text, void *buf, size_t cap);
bool from_text_seek(struct from_text *text, const void *buf, size_t len);
void from_text_close(struct from_text *text);
/* The next byte, or EOF. */
static inline int from_text_get(struct from_text *text)
{
	int c = getc_unlocked(text->in);

	text->offset += c != EOF;
	text->line += c == '\n';
	return c;
}
/* Adds a byte to the record in hand; false when it is larger than FROM_RECORD_MAX, or than memory. */
bool from_text_add(struct from_text *text, int c);

#endif
