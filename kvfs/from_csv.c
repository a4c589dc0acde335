/* CSV as RFC 4180 has it: fields between commas, in double quotes when they hold commas, line ends or (doubled) quotes; any bytes.  Lines may end
 * with LF, too.
 *
 * The first record names the columns, `key` and `value` unless the fragment names two others.  A fragment of two numbers counts columns from 1,
 * and there is no header. */
#include "cli.h"
#include "from.h"

#include <stdlib.h>
#include <string.h>

enum { KEY, VALUE, WANTED, NONE = 1 << 30 };

struct csv {
	struct from_text text;
	bool header; /* it is being read */
	bool bad;
	unsigned n; /* columns seen of the record in hand */
	char *name[WANTED]; /* of the columns */
	unsigned column[WANTED]; /* from 0; NONE not known */
	size_t offset[WANTED], len[WANTED]; /* of the fields, in text.buf */
};

static void end_field(struct csv *csv, size_t began)
{
	size_t len = csv->text.len - began;

	for (int i = 0; i < WANTED; i++) {
		if (csv->header && csv->column[i] == NONE && strlen(csv->name[i]) == len &&
			(len == 0 || memcmp(csv->text.buf + began, csv->name[i], len) == 0))
			csv->column[i] = csv->n;
		if (csv->column[i] == csv->n) {
			csv->offset[i] = began;
			csv->len[i] = len;
		}
	}
	csv->n++;
}

static void add(struct csv *csv, int c)
{
	bool wanted = csv->header || csv->n == csv->column[KEY] || csv->n == csv->column[VALUE];

	if (wanted && !csv->bad && !from_text_add(&csv->text, c))
		csv->bad = true;
}

static int peek(struct csv *csv)
{
	int c = getc_unlocked(csv->text.in);

	if (c != EOF)
		ungetc(c, csv->text.in);
	return c;
}

/* Reads a record.  Of a bad one `bad` is set, and reading goes on behind it. */
static int read_record(struct csv *csv)
{
	enum { BEGIN, PLAIN, QUOTED, QUOTE /* in a quoted field: its end, or the first of two */ } state = BEGIN;
	size_t began = 0;

	csv->text.len = csv->n = 0;
	csv->bad = false;
	for (;;) {
		int c = from_text_get(&csv->text);

		if (state == QUOTED && c == EOF) {
			csv->bad = true;
			return FROM_RECORD;
		}
		if ((state == QUOTED && c != '"') || (state == QUOTE && c == '"')) {
			add(csv, c);
			state = QUOTED;
		} else if (state == QUOTED) {
			state = QUOTE;
		} else if (c == ',' || c == '\n' || c == EOF) {
			if (c != ',' && state == BEGIN && csv->n == 0) {
				if (c == EOF)
					return FROM_END;
				continue; /* an empty line */
			}
			end_field(csv, began);
			if (c != ',')
				return FROM_RECORD;
			began = csv->text.len;
			state = BEGIN;
		} else if (c == '"' && state == BEGIN) {
			state = QUOTED;
		} else if (c != '\r' || peek(csv) != '\n') {
			csv->bad |= state == QUOTE; /* nothing follows a closing quote */
			state = state == QUOTE ? QUOTE : PLAIN;
			add(csv, c);
		}
	}
}

/* The columns by the fragment; true if it is two numbers, so that there is no header. */
static bool choose_columns(struct csv *csv, const char *fragment)
{
	uint64_t number[WANTED];
	char *comma;
	bool numbers = true;

	csv->name[KEY] = strdup(fragment ? fragment : "key,value");
	comma = csv->name[KEY] ? strchr(csv->name[KEY], ',') : NULL;
	if (!comma)
		return false;
	*comma = '\0';
	csv->name[VALUE] = comma + 1;
	for (int i = 0; i < WANTED; i++) {
		csv->column[i] = NONE;
		numbers &= cli_parse_u64(csv->name[i], &number[i]) && number[i] > 0 && number[i] < NONE;
	}
	for (int i = 0; numbers && i < WANTED; i++)
		csv->column[i] = (unsigned)number[i] - 1;
	return numbers;
}

static int csv_open(struct from *from)
{
	struct csv *csv = from->state = calloc(1, sizeof(*csv));
	bool numbers;

	if (!csv)
		return from_fail(from, FROM_FAILED, "out of memory");
	if (from_text_open(from, &csv->text) < 0)
		return FROM_FAILED;
	numbers = choose_columns(csv, from->fragment);
	if (!csv->name[VALUE])
		return from_fail(from, FROM_FAILED, "after # come the columns of key and value, as in #name,text or #1,2");
	if (peek(csv) == 0xef) /* the mark that some programs begin UTF-8 with */
		for (int i = 0; i < 3; i++)
			from_text_get(&csv->text);
	csv->header = !numbers;
	if (csv->header && (read_record(csv) == FROM_END || csv->bad))
		return from_fail(from, FROM_FAILED, "no header can be read: its first line names the columns");
	csv->header = false;
	for (int i = 0; i < WANTED; i++)
		if (csv->column[i] == NONE)
			return from_fail(from, FROM_FAILED, "its first line names no column %s; name two as in #name,text or #1,2",
				cli_quote(csv->name[i]));
	return 0;
}

static int csv_next(struct from *from, struct record *ret)
{
	struct csv *csv = from->state;
	uint64_t line = csv->text.line;

	if (read_record(csv) == FROM_END)
		return ferror(csv->text.in) ? from_fail(from, FROM_FAILED, "cannot be read") : FROM_END;
	from->bytes = csv->text.offset;
	if (csv->bad)
		return from_fail(from, FROM_BAD, "line %ju: not CSV: a quote is not closed, or something follows a closing quote",
			(uintmax_t)line);
	for (int i = 0; i < WANTED; i++)
		if (csv->column[i] >= csv->n)
			return from_fail(from, FROM_BAD, "line %ju: only %u columns", (uintmax_t)line, csv->n);
	if (!csv->text.buf && !from_text_add(&csv->text, 0))
		return from_fail(from, FROM_FAILED, "out of memory");
	ret->key = from_bytes(csv->text.buf + csv->offset[KEY], csv->len[KEY]);
	ret->data = csv->text.buf + csv->offset[VALUE];
	ret->len = csv->len[VALUE];
	return FROM_RECORD;
}

static size_t csv_tell(struct from *from, void *buf, size_t cap)
{
	return from_text_tell(&((struct csv *)from->state)->text, buf, cap);
}

static bool csv_seek(struct from *from, const void *buf, size_t len)
{
	return from_text_seek(&((struct csv *)from->state)->text, buf, len);
}

static void csv_close(struct from *from)
{
	struct csv *csv = from->state;

	if (!csv)
		return;
	from_text_close(&csv->text);
	free(csv->name[KEY]);
	free(csv);
}

const struct from_kind from_csv = {
	.name = "csv", .open = csv_open, .next = csv_next, .tell = csv_tell, .seek = csv_seek, .close = csv_close};
