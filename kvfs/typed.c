/* Names of typed keys.
 *
 * A text is made of the key first: a str itself, the others marked by their type.  What no name can hold, or nobody can read, is escaped in it as
 * %XX.  The name is the text; of a text longer than a name can be, its beginning, "%%" and the SHA-256 of the text, and the text is the
 * first line of the value.  No other name has "%%" in it, because two digits follow each '%'. */
#include "typed.h"

#include "cli.h"

#include <errno.h>
#include <math.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 180 }; /* bytes of a long text that its name begins with */

static const char *const marks[] = {[TYPED_STR] = "str:", [TYPED_BYTES] = "bytes:", [TYPED_INT] = "int:", [TYPED_FLOAT] = "float:"};
enum { KINDS = sizeof(marks) / sizeof(marks[0]) };

/* ---- keys ---- */

struct typed_key typed_of_bytes(const void *data, size_t len)
{
	return (struct typed_key){.kind = cli_is_utf8(data, len) ? TYPED_STR : TYPED_BYTES, .data = data, .len = len};
}

struct typed_key typed_of_int(int64_t n, char buf[32])
{
	int len = snprintf(buf, 32, "%jd", (intmax_t)n);

	return (struct typed_key){.kind = TYPED_INT, .data = buf, .len = (size_t)len};
}

/* As Python's repr(): the fewest digits that give x again, an exponent when it is below -4 or above 15, and always a sign that it is no int. */
struct typed_key typed_of_double(double x, char buf[32])
{
	char digits[32];
	int precision = 0, exponent;

	if (!isfinite(x)) {
		strcpy(buf, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
		return (struct typed_key){.kind = TYPED_FLOAT, .data = buf, .len = strlen(buf)};
	}
	for (;; precision++) {
		snprintf(digits, sizeof(digits), "%.*e", precision, x);
		if (precision == 16 || strtod(digits, NULL) == x)
			break;
	}
	exponent = atoi(strchr(digits, 'e') + 1);
	if (exponent < -4 || exponent > 15)
		snprintf(buf, 32, "%s", digits);
	else
		snprintf(buf, 32, "%.*f", precision > exponent ? precision - exponent : 1, x);
	return (struct typed_key){.kind = TYPED_FLOAT, .data = buf, .len = strlen(buf)};
}

/* ---- encoding ---- */

static bool begins(const char *text, size_t len, const char *mark)
{
	size_t n = strlen(mark);

	return len >= n && memcmp(text, mark, n) == 0;
}

/* A str that would be read as something else, or that no file can be called, is marked. */
static const char *mark_of(const struct typed_key *key)
{
	if (key->kind != TYPED_STR)
		return marks[key->kind];
	for (int kind = 0; kind < KINDS; kind++)
		if (begins(key->data, key->len, marks[kind]))
			return marks[TYPED_STR];
	if (key->len == 0 || (key->len <= 2 && memcmp(key->data, "..", key->len) == 0))
		return marks[TYPED_STR];
	return "";
}

static bool is_plain(unsigned char c, bool ascii)
{
	return c >= 0x20 && c != 0x7f && c != '%' && c != '/' && (c < 0x80 || !ascii);
}

/* The text of a key, malloc'd, with room for one byte more; NULL without memory. */
static char *text_of(const struct typed_key *key, size_t *ret_len)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *mark = mark_of(key);
	const unsigned char *data = (const unsigned char *)key->data;
	size_t at = strlen(mark), cap = at + 3 * key->len + 2;
	char *out = malloc(cap);

	if (!out)
		return NULL;
	strcpy(out, mark);
	for (size_t i = 0, odd = 0; i < key->len; i++) {
		/* Half a surrogate pair, which a str of Python may hold. */
		if (key->kind == TYPED_STR && data[i] == 0xed && i + 2 < key->len && data[i + 1] >= 0xa0)
			odd = 3;
		if (!odd && is_plain(data[i], key->kind != TYPED_STR)) {
			out[at++] = (char)data[i];
			continue;
		}
		out[at++] = '%';
		out[at++] = digits[data[i] >> 4];
		out[at++] = digits[data[i] & 15];
		odd -= odd > 0;
	}
	*ret_len = at;
	return out;
}

/* How much of the text a long name begins with: no half character, no half escape. */
static size_t head_len(const char *text)
{
	size_t n = HEAD_MAX;

	while (((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	if (text[n - 1] == '%')
		return n - 1;
	return text[n - 2] == '%' ? n - 2 : n;
}

static void long_name(const char *text, size_t len, char name[KVFS_NAME_MAX + 1])
{
	struct sha256_ctx sha;
	uint8_t sum[SHA256_DIGEST_SIZE];
	size_t at = head_len(text);

	sha256_init(&sha);
	sha256_update(&sha, len, (const uint8_t *)text);
	sha256_digest(&sha, sizeof(sum), sum);
	memcpy(name, text, at);
	name[at++] = '%';
	name[at++] = '%';
	for (size_t i = 0; i < sizeof(sum); i++)
		at += (size_t)snprintf(name + at, 3, "%02x", sum[i]);
}

int typed_encode(const struct typed_key *key, struct typed_name *ret)
{
	size_t len;
	char *text = text_of(key, &len);

	if (!text)
		return -ENOMEM;
	*ret = (struct typed_name){0};
	if (len <= KVFS_NAME_MAX) {
		memcpy(ret->name, text, len);
		free(text);
		return 0;
	}
	long_name(text, len, ret->name);
	text[len++] = '\n';
	ret->line = text;
	ret->line_len = len;
	return 0;
}

/* ---- decoding ---- */

bool typed_is_long(const char *name)
{
	return strstr(name, "%%");
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t unescape(const char *text, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		out[n] = text[i];
		if (text[i] == '%' && i + 2 < len && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
			out[n] = (char)(digit(text[i + 1]) << 4 | digit(text[i + 2]));
			i += 2;
		}
		n++;
	}
	out[n] = '\0';
	return n;
}

/* Is it what a number of that kind prints as?  (An int past 64 bits, which Python writes in base 16, is.) */
static bool is_number(const struct typed_key *key)
{
	struct typed_key again;
	int64_t n;
	char buf[32], *end;

	if (strlen(key->data) != key->len)
		return false;
	if (key->kind == TYPED_INT) {
		const char *hex = key->data + (*key->data == '-');

		if (begins(hex, strlen(hex), "0x"))
			return strlen(hex) >= 18 && hex[2] != '0' && strspn(hex + 2, "0123456789abcdef") == strlen(hex + 2);
		if (!cli_parse_i64(key->data, &n))
			return false;
		again = typed_of_int(n, buf);
	} else {
		again = typed_of_double(strtod(key->data, &end), buf);
		if (*end)
			return false;
	}
	return again.len == key->len && memcmp(again.data, key->data, key->len) == 0;
}

/* What encodes to these very bytes is a key; anything else is a file that somebody else put there. */
static bool is_name_of(const struct typed_key *key, const char *name, const char *line, size_t line_len)
{
	struct typed_name again;
	bool same;

	if (typed_encode(key, &again) < 0)
		return false;
	same = strcmp(again.name, name) == 0 &&
	       (!again.line || (again.line_len == line_len && memcmp(again.line, line, line_len) == 0));
	free(again.line);
	return same;
}

int typed_decode(const char *name, const char *line, size_t line_len, struct typed_key *ret, char **buf)
{
	const char *text = typed_is_long(name) ? line : name;
	size_t len = text == name ? strlen(name) : line_len - (line_len > 0);

	*buf = NULL;
	if (!text)
		return -EINVAL;
	ret->kind = TYPED_STR;
	for (int kind = 0; kind < KINDS; kind++)
		if (begins(text, len, marks[kind])) {
			ret->kind = (enum typed_kind)kind;
			text += strlen(marks[kind]);
			len -= strlen(marks[kind]);
			break;
		}
	if (ret->kind == TYPED_STR && !cli_is_utf8(text, len))
		return -EINVAL;
	*buf = calloc(1, len + 1);
	if (!*buf)
		return -ENOMEM;
	ret->data = *buf;
	ret->len = unescape(text, len, *buf);
	if ((ret->kind == TYPED_INT || ret->kind == TYPED_FLOAT) && !is_number(ret))
		return -EINVAL;
	return is_name_of(ret, name, line, line_len) ? 0 : -EINVAL;
}
