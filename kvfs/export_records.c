/* Export of records: a line, or more of CSV, for each value.
 *
 * A value is read in steps, twice where it must be known before whether it is UTF-8: it is of one snapshot, and never in memory as a whole, unless
 * it has to be parsed as JSON.  What is no record (a link, say, or a name that no typed key has) is told and left out. */
#include "export_records.h"

#include "from.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 3 << 16 }; /* of three bytes, as Base64 */

struct writer {
	struct cli *cli;
	struct kvfs_txn *txn;
	const struct export_records *how;
	char buf[STEP];
};

/* ---- a value ---- */

struct value {
	struct kvfs_stream *stream;
	uint64_t from, size; /* what of the stream it is: a long key's first line is not */
	const char *key; /* for messages */
};

/* Reads up to STEP bytes at `at`, which never is past the end.  Their number, or -1, told. */
static ssize_t read_step(struct writer *w, const struct value *v, uint64_t at)
{
	ssize_t n = kvfs_stream_read(v->stream, w->buf, v->size - at < STEP ? (size_t)(v->size - at) : STEP, at);

	if (n > 0 || at == v->size)
		return n;
	cli_failf(w->cli, v->key, "%s", n < 0 ? cli_reason(w->cli, v->key, (int)n) : "the value is shorter than its size says");
	return -1;
}

/* How many of n bytes are whole characters, if they are UTF-8 at all. */
static size_t whole_characters(const char *s, size_t n)
{
	for (size_t i = 1; i <= 3 && i <= n; i++) {
		unsigned char c = (unsigned char)s[n - i];

		if (c >= 0xc0)
			return (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) > i ? n - i : n;
		if (c < 0x80)
			return n;
	}
	return n;
}

/* 1, 0, or -1, told. */
static int value_is_utf8(struct writer *w, const struct value *v)
{
	for (uint64_t at = v->from; at < v->size;) {
		ssize_t n = read_step(w, v, at);
		size_t whole;

		if (n < 0)
			return -1;
		whole = at + (uint64_t)n == v->size ? (size_t)n : whole_characters(w->buf, (size_t)n);
		if (whole == 0 || !cli_is_utf8(w->buf, whole))
			return 0;
		at += whole;
	}
	return 1;
}

static void csv_text(FILE *out, const char *s, size_t len)
{
	for (const char *quote; (quote = memchr(s, '"', len)); len -= (size_t)(quote + 1 - s), s = quote + 1) {
		fwrite(s, 1, (size_t)(quote + 1 - s), out);
		fputc('"', out);
	}
	fwrite(s, 1, len, out);
}

/* Writes all of a value, each step by `put`.  0, or -1, told. */
static int write_steps(struct writer *w, const struct value *v, void (*put)(FILE *out, const char *s, size_t len))
{
	for (uint64_t at = v->from; at < v->size;) {
		ssize_t n = read_step(w, v, at);

		if (n < 0)
			return -1;
		put(stdout, w->buf, (size_t)n);
		at += (uint64_t)n;
		w->cli->progress.bytes += (uint64_t)n;
		cli_progress_draw(w->cli);
	}
	return 0;
}

static void put_base64(FILE *out, const char *s, size_t len)
{
	cli_json_base64(out, s, len);
}

/* The value as the JSON text that it is, malloc'd, on one line; NULL after telling why not. */
static char *json_of(struct writer *w, const struct value *v)
{
	uint64_t len = v->size - v->from;
	char *text = len <= FROM_RECORD_MAX ? malloc((size_t)len + 1) : NULL;
	json_error_t err;
	json_t *json;

	if (!text) {
		cli_failf(w->cli, v->key, "%s", len <= FROM_RECORD_MAX ? strerror(ENOMEM) : "is larger than 256 MiB");
		return NULL;
	}
	for (uint64_t at = v->from; at < v->size;) {
		ssize_t n = read_step(w, v, at);

		if (n < 0) {
			free(text);
			return NULL;
		}
		memcpy(text + (at - v->from), w->buf, (size_t)n);
		at += (uint64_t)n;
	}
	json = json_loadb(text, (size_t)len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &err);
	if (!json) {
		cli_failf(w->cli, v->key, "is not JSON: %s", err.text);
		free(text);
		return NULL;
	}
	json_decref(json);
	for (uint64_t i = 0; i < len; i++) /* outside of strings: there they would not be JSON */
		if (text[i] == '\n' || text[i] == '\r')
			text[i] = ' ';
	text[len] = '\0';
	return text;
}

/* ---- a key ---- */

/* What a key too long for a name left at the beginning of the value: one line, malloc'd.  0, or -1, told. */
static int read_line(struct writer *w, struct value *v, char **ret, size_t *ret_len)
{
	char *line = NULL, *grown;
	size_t len = 0;

	for (const char *end = NULL; !end && len < FROM_RECORD_MAX && len < v->size;) {
		ssize_t n = read_step(w, v, len);

		grown = n < 0 ? NULL : realloc(line, len + (size_t)n);
		if (!grown) {
			if (n >= 0)
				cli_failf(w->cli, v->key, "%s", strerror(ENOMEM));
			free(line);
			return -1;
		}
		line = grown;
		memcpy(line + len, w->buf, (size_t)n);
		end = memchr(line + len, '\n', (size_t)n);
		len = end ? (size_t)(end + 1 - line) : len + (size_t)n;
	}
	*ret = line;
	*ret_len = v->from = len;
	return 0;
}

/* The typed key of a name; *buf is the caller's to free.  0, or -1, told. */
static int key_of(struct writer *w, const char *name, struct value *v, struct kvfs_typed *ret, char **buf)
{
	char *line = NULL;
	size_t len = 0;
	int r;

	*buf = NULL;
	if (!w->how->typed) {
		*ret = from_bytes(name, strlen(name));
		return 0;
	}
	if (kvfs_typed_is_long(name) && read_line(w, v, &line, &len) < 0)
		return -1;
	r = strchr(name, '/') ? -EINVAL : kvfs_typed_decode(name, line, len, ret, buf);
	free(line);
	if (r == 0)
		return 0;
	cli_failf(w->cli, v->key, "%s", r == -ENOMEM ? strerror(-r) : "is not the name of a key of a dict; --keys=path writes it");
	return -1;
}

/* `"key":` and what it is.  0, or -1, told. */
static int json_key(struct writer *w, const struct value *v, const struct kvfs_typed *key)
{
	bool number = key->kind == KVFS_TYPED_INT || key->kind == KVFS_TYPED_FLOAT;

	if (number && key->data[strspn(key->data, "+-.0123456789e")]) {
		cli_failf(w->cli, v->key, "no number in JSON: %s", key->data);
		return -1;
	}
	if (key->kind == KVFS_TYPED_STR && !cli_is_utf8(key->data, key->len)) {
		cli_failf(w->cli, v->key, "holds half a surrogate pair, which is not UTF-8");
		return -1;
	}
	if (number) {
		printf("{\"key\":%s", key->data);
		return 0;
	}
	fputs(key->kind == KVFS_TYPED_STR ? "{\"key\":\"" : "{\"key_base64\":\"", stdout);
	(key->kind == KVFS_TYPED_STR ? cli_json_text : put_base64)(stdout, key->data, key->len);
	putchar('"');
	return 0;
}

/* ---- a record ---- */

static int write_json(struct writer *w, const struct value *v, const struct kvfs_typed *key)
{
	int utf8 = w->how->json ? 1 : value_is_utf8(w, v), r = 0;
	char *json = w->how->json ? json_of(w, v) : NULL;

	if (utf8 < 0 || (w->how->json && !json) || json_key(w, v, key) < 0) {
		free(json);
		return 0;
	}
	if (json) {
		printf(",\"value\":%s}\n", json);
		free(json);
		return 0;
	}
	fputs(utf8 ? ",\"value\":\"" : ",\"value_base64\":\"", stdout);
	r = write_steps(w, v, utf8 ? cli_json_text : put_base64);
	fputs("\"}\n", stdout);
	return r;
}

static int write_csv(struct writer *w, const struct value *v, const struct kvfs_typed *key)
{
	int r;

	putchar('"');
	csv_text(stdout, key->data, key->len);
	fputs("\",\"", stdout);
	r = write_steps(w, v, csv_text);
	fputs("\"\r\n", stdout);
	return r;
}

/* -1: going on is useless. */
static int write_record(struct writer *w, const struct kvfs_entry *e)
{
	const char *name = e->key + (*w->how->dir ? strlen(w->how->dir) + 1 : 0);
	struct value v = {.key = e->key, .size = e->st.size};
	struct kvfs_typed key;
	char *buf;
	int r;

	w->cli->progress.keys++;
	cli_progress_draw(w->cli);
	if (!S_ISREG(e->st.mode)) {
		cli_failf(w->cli, e->key, "is a %s, not a value", cli_type(e->st.mode));
		return 0;
	}
	r = kvfs_txn_stream_open(w->txn, e->key, &v.stream);
	if (r < 0) {
		cli_failf(w->cli, e->key, "%s", cli_reason(w->cli, e->key, r));
		return 0;
	}
	if (key_of(w, name, &v, &key, &buf) == 0)
		r = w->how->kind == EXPORT_CSV ? write_csv(w, &v, &key) : write_json(w, &v, &key);
	free(buf);
	kvfs_stream_abort(v.stream);
	if (ferror(stdout)) {
		cli_failf(w->cli, NULL, "output: %s", strerror(errno));
		__fpurge(stdout); /* so that nobody tells it again */
		clearerr(stdout);
		return -1;
	}
	return r; /* half a record was written */
}

int export_records(struct cli *cli, struct kvfs_txn *txn, const struct export_records *how)
{
	const struct kvfs_list_options opt = {
		.size = sizeof(opt), .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT | KVFS_LIST_NO_DIRS};
	static struct writer w;
	struct kvfs_cursor *cur;
	struct kvfs_entry e;
	int r;

	w = (struct writer){.cli = cli, .txn = txn, .how = how};
	r = kvfs_txn_list(txn, how->dir, &opt, &cur);
	if (r < 0)
		return cli_fail(cli, how->dir, r);
	cli_progress_begin(cli);
	if (how->kind == EXPORT_CSV)
		fputs("key,value\r\n", stdout);
	while ((r = kvfs_cursor_next(cur, &e)) > 0 && write_record(&w, &e) == 0)
		;
	kvfs_cursor_close(cur);
	if (r < 0)
		cli_failf(cli, how->dir, "%s", cli_reason(cli, how->dir, r));
	cli_progress_clear(cli);
	if (r == 0 && cli->failed) /* else not all was looked at */
		cli_failf(cli, NULL, "%ju of %ju were left out", (uintmax_t)cli->failed, (uintmax_t)cli->progress.keys);
	return cli_status(cli);
}
