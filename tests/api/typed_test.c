/* Names of typed keys: those that FORMAT.md gives, to the byte, because stores hold them; back again; and nothing else is one. */
#include "api.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* sha256sum of 256 'x', and of "int:0x" and 300 'f' */
#define SUM_X "85e62acd750c4eb56b7b6a1d66dca5bfaac5f062608a1a893410d0288936c09a"
#define SUM_F "77f8e55d9a6e47e3b2d601cf1e898cc0336a7e0ae533a6e01b572f7bdc250c83"

static void assert_same_key(const struct kvfs_typed *a, const struct kvfs_typed *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->data, b->data, a->len);
}

/* The key's name is this one, which gives it back; the caller frees ret->line. */
static void assert_encodes(struct kvfs_typed key, const char *name, struct kvfs_typed_name *ret)
{
	struct kvfs_typed back;
	char *buf;

	assert_ok(kvfs_typed_encode(&key, ret));
	assert_string_equal(ret->name, name);
	assert_null(kvfs_key_fault(name));
	assert_int_equal(kvfs_typed_is_long(name), ret->line != NULL);
	assert_ok(kvfs_typed_decode(ret->name, ret->line, ret->line_len, &back, &buf));
	assert_same_key(&back, &key);
	assert_int_equal(buf[back.len], 0);
	free(buf);
}

static void assert_name(enum kvfs_typed_kind kind, const char *data, size_t len, const char *name)
{
	struct kvfs_typed_name got;

	assert_encodes((struct kvfs_typed){kind, data, len}, name, &got);
	assert_null(got.line);
}

static void assert_int_name(int64_t n, const char *name)
{
	char buf[KVFS_TYPED_NUMBER];
	struct kvfs_typed key = kvfs_typed_int(n, buf);

	assert_name(key.kind, key.data, key.len, name);
}

static void assert_float_name(double x, const char *name)
{
	char buf[KVFS_TYPED_NUMBER];
	struct kvfs_typed key = kvfs_typed_float(x, buf);

	assert_name(key.kind, key.data, key.len, name);
}

static void assert_none(const char *name, const char *line)
{
	struct kvfs_typed key = {.len = 7};
	char *buf = (char *)&key;

	assert_int_equal(kvfs_typed_decode(name, line, line ? strlen(line) : 0, &key, &buf), -EINVAL);
	assert_int_equal(key.len, 7);
	assert_ptr_equal(buf, &key);
}

static void test_names_are_as_documented(void **state)
{
	static const struct {
		enum kvfs_typed_kind kind;
		const char *data;
		size_t len;
		const char *name;
	} names[] = {
		{KVFS_TYPED_STR, "hello", 5, "hello"},
		{KVFS_TYPED_STR, "\xc3\xa9 ~", 4, "\xc3\xa9 ~"},
		{KVFS_TYPED_STR, "", 0, "str:"},
		{KVFS_TYPED_STR, ".", 1, "str:."},
		{KVFS_TYPED_STR, "..", 2, "str:.."},
		{KVFS_TYPED_STR, "...", 3, "..."},
		{KVFS_TYPED_STR, "int:5", 5, "str:int:5"},
		{KVFS_TYPED_STR, "str:", 4, "str:str:"},
		{KVFS_TYPED_STR, "a/b", 3, "a%2Fb"},
		{KVFS_TYPED_STR, "100%", 4, "100%25"},
		{KVFS_TYPED_STR, "a\nb\0", 4, "a%0Ab%00"},
		{KVFS_TYPED_STR, "\x7f", 1, "%7F"},
		{KVFS_TYPED_STR, "\xed\xa0\x80", 3, "%ED%A0%80"},
		{KVFS_TYPED_STR, "\xed\x9f\xbf", 3, "\xed\x9f\xbf"},
		{KVFS_TYPED_STR, "\xf4\x8f\xbf\xbf", 4, "\xf4\x8f\xbf\xbf"},
		{KVFS_TYPED_BYTES, "", 0, "bytes:"},
		{KVFS_TYPED_BYTES, "hello", 5, "bytes:hello"},
		{KVFS_TYPED_BYTES, "\xc3\xa9", 2, "bytes:%C3%A9"},
		{KVFS_TYPED_BYTES, "\xff/%\0", 4, "bytes:%FF%2F%25%00"},
		{KVFS_TYPED_INT, "0x8000000000000000", 18, "int:0x8000000000000000"},
		{KVFS_TYPED_INT, "-0x8000000000000001", 19, "int:-0x8000000000000001"},
		{KVFS_TYPED_INT, "0x10000000000000000", 19, "int:0x10000000000000000"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_name(names[i].kind, names[i].data, names[i].len, names[i].name);
}

static void test_numbers(void **state)
{
	(void)state;
	assert_int_name(0, "int:0");
	assert_int_name(-5, "int:-5");
	assert_int_name(INT64_MAX, "int:9223372036854775807");
	assert_int_name(INT64_MIN, "int:-9223372036854775808");
	assert_float_name(0.0, "float:0.0");
	assert_float_name(-0.0, "float:-0.0");
	assert_float_name(1, "float:1.0");
	assert_float_name(-1.5, "float:-1.5");
	assert_float_name(0.1, "float:0.1");
	assert_float_name(0.1 + 0.2, "float:0.30000000000000004");
	assert_float_name(1e15, "float:1000000000000000.0");
	assert_float_name(1e16, "float:1e+16");
	assert_float_name(0.0001, "float:0.0001");
	assert_float_name(0.00001, "float:1e-05");
	assert_float_name(123456789012345680, "float:1.2345678901234568e+17");
	assert_float_name(1e300, "float:1e+300");
	assert_float_name(9007199254740992, "float:9007199254740992.0");
	assert_float_name(DBL_MAX, "float:1.7976931348623157e+308");
	assert_float_name(DBL_MIN, "float:2.2250738585072014e-308");
	assert_float_name(0x1p-1074, "float:5e-324");
	/* of 16 digits the nearest to it is another number: the next one is not */
	assert_float_name(0x1p-44, "float:5.684341886080802e-14");
	assert_float_name(-0x1p-44, "float:-5.684341886080802e-14");
	assert_float_name(INFINITY, "float:inf");
	assert_float_name(-INFINITY, "float:-inf");
	assert_float_name(NAN, "float:nan");
	assert_float_name(-(double)NAN, "float:nan");
}

/* Whatever double it is, its text gives it back, and no shorter one does. */
static void test_floats_come_back(void **state)
{
	struct support_rng rng = support_rng(1);

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint64_t bits = i < 4096 ? (uint64_t)i << 52 : support_random(&rng); /* powers of two first */
		char buf[KVFS_TYPED_NUMBER], shorter[40], *end;
		double x;

		memcpy(&x, &bits, sizeof(x));
		if (!isfinite(x))
			continue;
		kvfs_typed_float(x, buf);
		assert_true(strtod(buf, &end) == x && *end == '\0');
		assert_true(strpbrk(buf, ".e"));
		for (int digits = 0; digits < 16; digits++) {
			snprintf(shorter, sizeof(shorter), "%.*e", digits, x);
			if (strtod(shorter, NULL) == x) {
				size_t n = strspn(buf + (*buf == '-'), "0123456789.");

				if (strchr(buf, 'e')) /* (else zeros may stand at its ends) */
					assert_true(n <= (size_t)digits + 1 + (digits > 0));
				break;
			}
		}
	}
}

static void test_long_keys(void **state)
{
	struct kvfs_typed_name got;
	char data[310], name[KVFS_NAME_MAX + 1];

	(void)state;
	memset(data, 'x', sizeof(data));
	memset(name, 'x', sizeof(name));
	name[255] = '\0';
	assert_name(KVFS_TYPED_STR, data, 255, name);
	strcpy(name + 180, "%%" SUM_X);
	assert_encodes((struct kvfs_typed){KVFS_TYPED_STR, data, 256}, name, &got);
	assert_int_equal(got.line_len, 257);
	assert_memory_equal(got.line, data, 256);
	assert_int_equal(got.line[256], '\n');

	/* without its line, with another's, with a part of it */
	assert_none(name, NULL);
	assert_none(name, "");
	assert_none(name, "x\n");
	got.line[255] = '\n';
	struct kvfs_typed key;
	char *buf;
	assert_int_equal(kvfs_typed_decode(name, got.line, 256, &key, &buf), -EINVAL);
	free(got.line);

	memcpy(data, "0x", 2);
	memset(data + 2, 'f', 300);
	memcpy(name, "int:0x", 6);
	memset(name + 6, 'f', 174);
	strcpy(name + 180, "%%" SUM_F);
	assert_encodes((struct kvfs_typed){KVFS_TYPED_INT, data, 302}, name, &got);
	free(got.line);
}

/* The beginning of a long name ends before a character, or an escape, that it would cut. */
static void test_long_names_are_whole_characters(void **state)
{
	static const char *const pieces[] = {"\xe6\xbc\xa2", "/", "\xf0\x9f\x98\x80", "\xc3\xa9"};

	(void)state;
	for (size_t piece = 0; piece < 4; piece++)
		for (size_t shift = 0; shift < 5; shift++) {
			struct kvfs_typed_name got;
			char data[1024] = "", name[KVFS_NAME_MAX + 1];
			size_t n = strlen(pieces[piece]), step = piece == 1 ? 3 : n, head;

			memset(data, 'x', shift);
			for (size_t at = shift; at + n < sizeof(data); at += n)
				strcpy(data + at, pieces[piece]);
			head = shift + (180 - shift) / step * step;
			assert_ok(kvfs_typed_encode(&(struct kvfs_typed){KVFS_TYPED_STR, data, strlen(data)}, &got));
			assert_int_equal(strstr(got.name, "%%") - got.name, head);
			memcpy(name, got.line, head);
			assert_memory_equal(got.name, name, head);
			assert_null(kvfs_key_fault(got.name));
			free(got.line);
		}
}

static void test_what_is_no_name_is_no_key(void **state)
{
	static const char *const none[] = {"", ".", "..", "%", "%4", "%41", "%zz", "int:", "int:01", "int:+1", "int: 1", "int:x",
		"int:-0", "int:1 ", "int:0x1", "int:0x7fffffffffffffff", "int:-0x8000000000000000", "int:0x08000000000000000",
		"int:0x800000000000000G", "int:-0x", "int:0X8000000000000000", "int:0x800000000000000A", "int:9223372036854775808",
		"int:%31", "float:1", "float:1.00", "float:NaN", "float:-nan", "float:infinity", "float:0x1p3", "float:1e5",
		"float:", "float: 1.0", "float:5.6843418860808015e-14", "bytes:\xff", "bytes:%41", "str:hello", "str:%2E", "\xff",
		"\xc3", "\xc0\x80", "\xe0\x80\x80", "\xf5\x80\x80\x80", "\xf4\x90\x80\x80", "\xf0\x80\x80\x80", "\xed\xa0\x80",
		"\xc3\xa9\xa9", "%C3%A9", "a%2fb", "a\nb", "a/b", "x%", "x%%" SUM_X};

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
		assert_none(none[i], NULL);
		assert_none(none[i], "x\n");
	}
}

/* Any bytes: what decodes encodes to them; and any key comes back. */
static void test_random_names_and_keys(void **state)
{
	static const char letters[] = "aZ0:%/.\n\x7f\xc3\xa9\xed\xa0\xb0\xff"
				      "intfloabyesr2F";
	struct support_rng rng = support_rng(2);

	(void)state;
	for (int i = 0; i < 50000; i++) {
		static const char *const begins[] = {"", "", "int:", "float:", "str:", "bytes:"};
		char text[400], *buf;
		size_t len = (size_t)sprintf(text, "%s", begins[support_below(&rng, 6)]);
		size_t max = support_below(&rng, 20) ? 6 : 300;
		struct kvfs_typed_name name;
		struct kvfs_typed key, back;

		for (size_t n = support_below(&rng, max); n > 0; n--)
			text[len++] = letters[support_below(&rng, sizeof(letters))];
		text[len] = '\0';
		if (strlen(text) <= KVFS_NAME_MAX && kvfs_typed_decode(text, NULL, 0, &key, &buf) == 0) {
			assert_ok(kvfs_typed_encode(&key, &name));
			assert_string_equal(name.name, text);
			free(buf);
		}
		key = (struct kvfs_typed){KVFS_TYPED_BYTES, text, len};
		assert_ok(kvfs_typed_encode(&key, &name));
		assert_ok(kvfs_typed_decode(name.name, name.line, name.line_len, &back, &buf));
		assert_same_key(&back, &key);
		free(buf);
		free(name.line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_as_documented),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_floats_come_back),
		cmocka_unit_test(test_long_keys),
		cmocka_unit_test(test_long_names_are_whole_characters),
		cmocka_unit_test(test_what_is_no_name_is_no_key),
		cmocka_unit_test(test_random_names_and_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
