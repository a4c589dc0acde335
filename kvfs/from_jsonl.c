/* JSON lines: an object a line, with `key` and `value`.  Instead of one that is not UTF-8 there is `key_base64` or `value_base64`, as the command
 * prints them.
 *
 * A value that is a string is what the string says; any other is kept as it is written, to the byte: numbers of any size, members in their order.
 * That is why the object is taken apart here; the library says what is JSON, and what a string means. */
#include "cli.h"
#include "from.h"

#include <jansson.h>
#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>

struct jsonl {
	struct from_text text;
	json_t *key, *value; /* of the record in hand: what `ret` points into */
	char number[KVFS_TYPED_NUMBER];
	uint8_t *decoded[2]; /* of key_base64, value_base64 */
};

static void release(struct jsonl *j)
{
	json_decref(j->key);
	json_decref(j->value);
	j->key = j->value = NULL;
	for (int i = 0; i < 2; i++) {
		free(j->decoded[i]);
		j->decoded[i] = NULL;
	}
}

static int jsonl_open(struct from *from)
{
	struct jsonl *j = from->state = calloc(1, sizeof(*j));

	if (!j)
		return from_fail(from, FROM_FAILED, "out of memory");
	if (from->fragment)
		return from_fail(from, FROM_FAILED, "nothing comes after #: JSON lines have the members key and value");
	return from_text_open(from, &j->text);
}

/* The next line, without its end; FROM_BAD when it is too long. */
static int read_line(struct from *from, struct from_text *text)
{
	bool fits = true;
	int c;

	text->len = 0;
	while ((c = from_text_get(text)) != EOF && c != '\n')
		fits = fits && from_text_add(text, c);
	from->bytes = text->offset;
	if (ferror(text->in))
		return from_fail(from, FROM_FAILED, "cannot be read");
	if (c == EOF && text->len == 0)
		return FROM_END;
	return fits ? FROM_RECORD : FROM_BAD;
}

/* What stands at *at, which is moved behind it; its text in [*ret_from, *at).  NULL after filling `err`. */
static json_t *piece(const struct from_text *text, size_t *at, size_t *ret_from, json_error_t *err)
{
	const size_t flags = JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
	json_t *ret;

	while (*at < text->len && strchr(" \t\r", text->buf[*at]) && text->buf[*at])
		++*at;
	*ret_from = *at;
	ret = json_loadb(text->buf + *at, text->len - *at, flags, err);
	if (ret)
		*at += (size_t)err->position;
	return ret;
}

/* Steps over one of the bytes in `which`, blanks before it; it, or 0. */
static char step(const struct from_text *text, size_t *at, const char *which)
{
	while (*at < text->len && text->buf[*at] && strchr(" \t\r", text->buf[*at]))
		++*at;
	return *at < text->len && text->buf[*at] && strchr(which, text->buf[*at]) ? text->buf[(*at)++] : '\0';
}

static bool decode(struct jsonl *j, int which, const json_t *string, const void **data, size_t *len)
{
	struct base64_decode_ctx ctx;
	size_t n = json_string_length(string);
	uint8_t *out = malloc(BASE64_DECODE_LENGTH(n) + 1);

	free(j->decoded[which]);
	j->decoded[which] = out;
	*len = BASE64_DECODE_LENGTH(n) + 1;
	base64_decode_init(&ctx);
	if (!out || !base64_decode_update(&ctx, len, out, n, json_string_value(string)) || !base64_decode_final(&ctx))
		return false;
	*data = out;
	return true;
}

/* A key that is a number. */
static bool number_key(struct jsonl *j, const char *text, size_t len, struct kvfs_typed *ret)
{
	char copy[64];
	int64_t n;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (strpbrk(copy, ".eE"))
		*ret = kvfs_typed_float(json_real_value(j->key), j->number);
	else if (cli_parse_i64(copy, &n))
		*ret = kvfs_typed_int(n, j->number);
	else
		return false;
	return true;
}

/* A member of the object; why it cannot be, or NULL.  What is unknown is passed over. */
static const char *member(struct jsonl *j, const char *name, json_t *what, size_t from, size_t to, struct record *ret)
{
	const char *text = j->text.buf + from;
	bool string = json_is_string(what);
	const void *data;
	size_t len;

	if (strcmp(name, "key") == 0 || strcmp(name, "key_base64") == 0) {
		json_decref(j->key);
		j->key = json_incref(what);
		data = string ? json_string_value(what) : NULL;
		len = string ? json_string_length(what) : 0;
		if (name[3] && (!string || !decode(j, 0, what, &data, &len)))
			return "key_base64 is not Base64";
		ret->key = (struct kvfs_typed){name[3] ? KVFS_TYPED_BYTES : KVFS_TYPED_STR, data, len};
		if (!string && (!json_is_number(what) || !number_key(j, text, to - from, &ret->key)))
			return "its key is neither a string nor a number of 64 bits";
	} else if (strcmp(name, "value") == 0 || strcmp(name, "value_base64") == 0) {
		json_decref(j->value);
		j->value = json_incref(what);
		ret->is_json = !name[5] && !string;
		data = string ? json_string_value(what) : text;
		len = string ? json_string_length(what) : to - from;
		if (name[5] && (!string || !decode(j, 1, what, &data, &len)))
			return "value_base64 is not Base64";
		ret->data = data;
		ret->len = len;
	}
	return NULL;
}

/* The members of the line in hand.  NULL or what is wrong. */
static const char *take_apart(struct jsonl *j, struct record *ret, json_error_t *err)
{
	const struct from_text *text = &j->text;
	size_t at = 0, from;
	char next = step(text, &at, "{");

	if (!next)
		return "not a JSON object";
	if (step(text, &at, "}"))
		next = '}';
	while (next != '}') {
		json_t *name = piece(text, &at, &from, err), *what;
		const char *wrong;

		if (!json_is_string(name) || !step(text, &at, ":")) {
			wrong = name ? "not a JSON object" : err->text;
			json_decref(name);
			return wrong;
		}
		what = piece(text, &at, &from, err);
		wrong = what ? member(j, json_string_value(name), what, from, at, ret) : err->text;
		json_decref(name);
		json_decref(what);
		if (wrong)
			return wrong;
		next = step(text, &at, ",}");
		if (!next)
			return "not a JSON object";
	}
	step(text, &at, "");
	return at < text->len ? "something follows the JSON object"
	       : !j->key      ? "it has no key"
	       : !j->value    ? "it has no value"
			      : NULL;
}

static int jsonl_next(struct from *from, struct record *ret)
{
	struct jsonl *j = from->state;
	uint64_t line;
	json_error_t err;
	const char *wrong;
	size_t at;
	int r;

	do {
		line = j->text.line;
		r = read_line(from, &j->text);
		if (r == FROM_BAD)
			return from_fail(from, FROM_BAD, "line %ju: longer than 256 MiB", (uintmax_t)line);
		if (r != FROM_RECORD)
			return r;
		at = 0;
		step(&j->text, &at, "");
	} while (at == j->text.len);
	release(j);
	wrong = take_apart(j, ret, &err);
	return wrong ? from_fail(from, FROM_BAD, "line %ju: %s", (uintmax_t)line, wrong) : FROM_RECORD;
}

static size_t jsonl_tell(struct from *from, void *buf, size_t cap)
{
	return from_text_tell(&((struct jsonl *)from->state)->text, buf, cap);
}

static bool jsonl_seek(struct from *from, const void *buf, size_t len)
{
	return from_text_seek(&((struct jsonl *)from->state)->text, buf, len);
}

static void jsonl_close(struct from *from)
{
	struct jsonl *j = from->state;

	if (!j)
		return;
	release(j);
	from_text_close(&j->text);
	free(j);
}

const struct from_kind from_jsonl = {
	.name = "jsonl", .open = jsonl_open, .next = jsonl_next, .tell = jsonl_tell, .seek = jsonl_seek, .close = jsonl_close};
