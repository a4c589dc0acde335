/* Names of typed keys (FORMAT.md): pure functions, which know no store.
 *
 * A text is made of the key first: a str itself, the others marked by their type.  What no name can hold, or nobody can read, is escaped in it as
 * %XX.  The name is the text; of a text longer than a name can be, its beginning, "%%" and the SHA-256 of the text, and the text is the
 * first line of the value.  No other name has "%%" in it, because two digits follow each '%'.
 *
 * Decoding undoes that, and then encodes again: what does not encode to these very bytes is a file that somebody else put there. */
#include "err.h"
#include "util.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_MAX = 180 }; /* bytes of a long text that its name begins with */

static const char *const marks[] = {
	[KVFS_TYPED_STR] = "str:", [KVFS_TYPED_BYTES] = "bytes:", [KVFS_TYPED_INT] = "int:", [KVFS_TYPED_FLOAT] = "float:"};

/* ---- numbers ---- */

struct kvfs_typed kvfs_typed_int(int64_t n, char buf[KVFS_TYPED_NUMBER])
{
	int len = snprintf(buf, KVFS_TYPED_NUMBER, "%jd", (intmax_t)n);

	return (struct kvfs_typed){.kind = KVFS_TYPED_INT, .data = buf, .len = (size_t)len};
}

/* Prints x with `precision` digits after the first; does that give it back?  Below a power of two floats are closer together than above, so that of
 * the two numbers of so many digits next to x the farther one may. */
static bool gives_back(double x, int precision, char digits[KVFS_TYPED_NUMBER])
{
	char *last;

	snprintf(digits, KVFS_TYPED_NUMBER, "%.*e", precision, x);
	if (precision == 16 || strtod(digits, NULL) == x)
		return true;
	last = strchr(digits, 'e') - 1;
	if (*last == '9') /* the next one has fewer digits, and did not give it back */
		return false;
	++*last;
	return strtod(digits, NULL) == x;
}

/* As few digits as give x back. */
static void shortest(double x, char buf[KVFS_TYPED_NUMBER])
{
	char digits[KVFS_TYPED_NUMBER];
	/* Of a number of up to 15 digits the 15 of its double are it and zeros, so fewer need not be tried; near to 0 doubles have fewer. */
	int precision = isnormal(x) ? 14 : 0, exponent;
	char *e, *end;

	while (!gives_back(x, precision, digits))
		precision++;
	e = end = strchr(digits, 'e');
	exponent = atoi(e + 1);
	for (; precision > 0 && end[-1] == '0'; precision--)
		end--;
	if (precision == 0 && end[-1] == '.')
		end--;
	memmove(end, e, strlen(e) + 1);
	/* (Powers of two of these sizes are exact in 16 digits: rounding gives what was found.) */
	if (exponent < -4 || exponent > 15)
		strcpy(buf, digits);
	else
		snprintf(buf, KVFS_TYPED_NUMBER, "%.*f", precision > exponent ? precision - exponent : 1, x);
}

struct kvfs_typed kvfs_typed_float(double x, char buf[KVFS_TYPED_NUMBER])
{
	/* The program's locale may have another decimal point.  "C" is always there. */
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), old = uselocale(c);

	if (isfinite(x))
		shortest(x, buf);
	else
		strcpy(buf, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
	uselocale(old);
	freelocale(c);
	return (struct kvfs_typed){.kind = KVFS_TYPED_FLOAT, .data = buf, .len = strlen(buf)};
}

/* ---- encoding ---- */

static bool begins(const char *text, size_t len, const char *mark)
{
	size_t n = strlen(mark);

	return len >= n && memcmp(text, mark, n) == 0;
}

/* A str that would be read as something else, or that no file can be called, is marked. */
static const char *mark_of(const struct kvfs_typed *key)
{
	if (key->kind != KVFS_TYPED_STR)
		return marks[key->kind];
	for (size_t kind = 0; kind < KV_ARRAY_LEN(marks); kind++)
		if (begins(key->data, key->len, marks[kind]))
			return marks[KVFS_TYPED_STR];
	if (key->len == 0 || (key->len <= 2 && memcmp(key->data, "..", key->len) == 0))
		return marks[KVFS_TYPED_STR];
	return "";
}

static bool is_plain(unsigned char c, bool ascii)
{
	return c >= 0x20 && c != 0x7f && c != '%' && c != '/' && (c < 0x80 || !ascii);
}

/* Half of a surrogate pair, in UTF-8. */
static bool is_half(const unsigned char *s, size_t len)
{
	return len > 2 && s[0] == 0xed && s[1] >= 0xa0;
}

/* How many bytes stand for themselves. */
static size_t plain_len(const unsigned char *s, size_t len, bool ascii)
{
	size_t n = 0;

	while (n < len && is_plain(s[n], ascii) && (s[n] != 0xed || !is_half(s + n, len - n)))
		n++;
	return n;
}

/* Writes the text of a key to `out`, if that is not NULL, and returns its length. */
static size_t text_of(const struct kvfs_typed *key, const char *mark, char *out)
{
	static const char digits[] = "0123456789ABCDEF";
	const unsigned char *s = (const unsigned char *)key->data, *end = s + key->len;
	bool ascii = key->kind != KVFS_TYPED_STR;
	size_t at = strlen(mark), n;

	if (out)
		strcpy(out, mark);
	while (s < end) {
		n = plain_len(s, (size_t)(end - s), ascii);
		if (out)
			memcpy(out + at, s, n);
		at += n;
		s += n;
		n = s == end ? 0 : !ascii && is_half(s, (size_t)(end - s)) ? 3 : 1;
		for (; n > 0; n--, at += 3, s++)
			if (out)
				memcpy(out + at, (char[]){'%', digits[*s >> 4], digits[*s & 15]}, 3);
	}
	return at;
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
	struct sha256_ctx ctx;
	uint8_t sum[SHA256_DIGEST_SIZE];
	size_t at = head_len(text);

	sha256_init(&ctx);
	sha256_update(&ctx, len, (const uint8_t *)text);
	sha256_digest(&ctx, sizeof(sum), sum);
	memcpy(name, text, at);
	name[at++] = '%';
	name[at++] = '%';
	for (size_t i = 0; i < sizeof(sum); i++)
		at += (size_t)snprintf(name + at, 3, "%02x", sum[i]);
}

int kvfs_typed_encode(const struct kvfs_typed *key, struct kvfs_typed_name *ret)
{
	const char *mark = mark_of(key);
	size_t len = text_of(key, mark, NULL);
	char *text = NULL;

	if (len > KVFS_NAME_MAX && !(text = malloc(len + 1)))
		return kv_fail(ENOMEM);
	text_of(key, mark, text ? text : ret->name);
	ret->line = text;
	ret->line_len = 0;
	if (text) {
		long_name(text, len, ret->name);
		text[len] = '\n';
		ret->line_len = len + 1;
	} else {
		ret->name[len] = '\0';
	}
	return 0;
}

/* ---- decoding ---- */

bool kvfs_typed_is_long(const char *name)
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

/* Bytes of the character that s begins with, halves of surrogate pairs being some; 0: none. */
static size_t char_len(const unsigned char *s, size_t len)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

	if (n > len || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static bool is_text(const struct kvfs_typed *key)
{
	const unsigned char *s = (const unsigned char *)key->data;

	for (size_t at = 0, n; at < key->len; at += n) {
		n = char_len(s + at, key->len - at);
		if (n == 0)
			return false;
	}
	return true;
}

/* Is it how an int past 64 bits is written, in base 16? */
static bool is_large(const char *text)
{
	bool minus = *text == '-';
	const char *hex = text + minus + 2;
	size_t n = strspn(hex, "0123456789abcdef");

	if (hex[n] || n < 16 || *hex == '0')
		return false;
	return n > 16 || (*hex >= '8' && !(minus && strcmp(hex, "8000000000000000") == 0));
}

/* Is it what a number of that kind is written as? */
static bool is_number(const struct kvfs_typed *key)
{
	struct kvfs_typed again;
	char buf[KVFS_TYPED_NUMBER];

	if (strlen(key->data) != key->len)
		return false;
	if (key->kind == KVFS_TYPED_FLOAT) {
		locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
		double x = strtod_l(key->data, NULL, c);

		freelocale(c);
		again = kvfs_typed_float(x, buf);
	} else if (begins(key->data, key->len, "0x") || begins(key->data, key->len, "-0x")) {
		return is_large(key->data);
	} else {
		again = kvfs_typed_int(strtoll(key->data, NULL, 10), buf); /* one that is out of range gets another text */
	}
	return again.len == key->len && memcmp(again.data, key->data, key->len) == 0;
}

static bool is_of_kind(const struct kvfs_typed *key)
{
	return key->kind == KVFS_TYPED_BYTES || (key->kind == KVFS_TYPED_STR ? is_text(key) : is_number(key));
}

/* 1 or 0: do name and line say this key?  Or -errno. */
static int is_name_of(const struct kvfs_typed *key, const char *name, const char *line, size_t line_len)
{
	struct kvfs_typed_name again;
	bool same;
	int r = kvfs_typed_encode(key, &again);

	if (r)
		return r;
	same = strcmp(again.name, name) == 0 &&
	       (!again.line || (again.line_len == line_len && memcmp(again.line, line, line_len) == 0));
	free(again.line);
	return same;
}

int kvfs_typed_decode(const char *name, const char *line, size_t line_len, struct kvfs_typed *ret, char **ret_buf)
{
	bool is_long = kvfs_typed_is_long(name);
	const char *text = is_long ? line : name;
	size_t len = is_long ? line_len : strlen(name);
	struct kvfs_typed key = {.kind = KVFS_TYPED_STR};
	KV_FREE char *buf = NULL;
	int r;

	if (is_long && (!line || len-- == 0))
		return kv_fail(EINVAL);
	for (size_t kind = 0; kind < KV_ARRAY_LEN(marks); kind++)
		if (begins(text, len, marks[kind])) {
			key.kind = (enum kvfs_typed_kind)kind;
			text += strlen(marks[kind]);
			len -= strlen(marks[kind]);
			break;
		}
	buf = calloc(1, len + 1);
	if (!buf)
		return kv_fail(ENOMEM);
	key.data = buf;
	key.len = unescape(text, len, buf);
	if (!is_of_kind(&key))
		return kv_fail(EINVAL);
	r = is_name_of(&key, name, line, line_len);
	if (r <= 0)
		return r ? r : kv_fail(EINVAL);
	*ret = key;
	*ret_buf = kv_take(buf);
	return 0;
}
