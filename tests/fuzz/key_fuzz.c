/* Keys, for libFuzzer: what the library says of any two strings is compared with the rules as they are written down, said once more here in
 * the plainest way; a legal one is then stored, listed and deleted.  The same bytes are also a typed key, the name of one, and numbers:
 * what is encoded decodes to itself, and what decodes encodes to itself.
 *
 * An input is text: a key, another, the first line of a value, each ended by a NUL, and the rest. */
#include <kvfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "fuzz.h"
#include "path.h"
#include "support.h"

enum { PARTS_MAX = 3000 };

static struct kvfs_store *store;

static void close_store(void)
{
	kvfs_close(store);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE};
	(void)argc;
	(void)argv;
	assert_ok(kvfs_open(support_store_path(), &opt, &store, NULL));
	atexit(close_store);
	return 0;
}

/* ---- the rules ---- */

/* The components of a key; -1: it has an illegal one. */
struct parts {
	struct {
		const char *at;
		size_t len;
	} part[PARTS_MAX];
	int n;
};

static int model_check(const char *key, struct parts *ret)
{
	const char *at = key[0] == '/' ? key + 1 : key;
	ret->n = 0;
	if (strlen(at) > 4095)
		return -ENAMETOOLONG;
	if (!*at)
		return 0;
	for (;;) {
		size_t len = 0;
		while (at[len] && at[len] != '/')
			len++;
		if (len > 255)
			return -ENAMETOOLONG;
		if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && at[0] == '.' && at[1] == '.'))
			return -EINVAL;
		ret->part[ret->n].at = at;
		ret->part[ret->n++].len = len;
		at += len;
		if (!*at++)
			return 0;
	}
}

static int sign(int n)
{
	return (n > 0) - (n < 0);
}

static int model_compare(const struct parts *a, const struct parts *b)
{
	for (int i = 0; i < a->n && i < b->n; i++) {
		size_t x = a->part[i].len, y = b->part[i].len;
		int c = memcmp(a->part[i].at, b->part[i].at, x < y ? x : y);
		if (c || x != y)
			return c ? c : x < y ? -1 : 1;
	}
	return sign(a->n - b->n);
}

/* Does one of two keys need the other to be a directory, or are they one key? */
static bool collide(const struct parts *a, const struct parts *b)
{
	for (int i = 0; i < a->n && i < b->n; i++)
		if (a->part[i].len != b->part[i].len || memcmp(a->part[i].at, b->part[i].at, a->part[i].len) != 0)
			return false;
	return true;
}

/* ---- the library ---- */

static void check_rules(const char *key, const struct parts *parts, int fault)
{
	const char *at = key, *name;
	size_t len;
	int n = 0;
	must(kv_path_check(key) == fault);
	must(!kvfs_key_fault(key) == !fault);
	must(kv_name_is_legal(key, strlen(key)) == !kv_name_check(key));
	must(!kv_name_check(key) == (fault == 0 && parts->n == 1 && *key != '/'));
	while (fault == 0 && kv_path_next(&at, &name, &len)) {
		must(n < parts->n && name == parts->part[n].at && len == parts->part[n].len);
		n++;
	}
	must(fault || n == parts->n);
}

static void check_refused(const char *key, int fault)
{
	struct kvfs_cursor *cur;
	struct kvfs_stat st;
	void *data;
	size_t len;
	must(kvfs_put(store, key, "v", 1, NULL, NULL) == fault);
	must(kvfs_get(store, key, &data, &len) == fault);
	must(kvfs_stat(store, key, &st) == fault);
	must(kvfs_mkdir(store, key, 0755) == fault);
	must(kvfs_del(store, key) == fault);
	must(kvfs_exists(store, key) == 0);
	must(kvfs_list(store, key, NULL, &cur) == fault);
	must(kvfs_rename(store, "a", key, 0) == fault && kvfs_rename(store, key, "a", 0) == fault);
	must(kvfs_link(store, "a", key) == fault && kvfs_symlink(store, "a", key) == fault);
}

static void check_value(const char *key, const char *value)
{
	size_t len;
	void *data;
	must(kvfs_get(store, key, &data, &len) == 0 && len == strlen(value) && strcmp(data, value) == 0);
	free(data);
}

/* All that there is, in order, is these. */
static void check_list(const char *const *keys, int n)
{
	struct kvfs_list_options opt = {.size = sizeof opt, .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_NO_DIRS};
	struct kvfs_cursor *cur;
	struct kvfs_entry entry;
	int i = 0;
	must(kvfs_list(store, "", &opt, &cur) == 0);
	for (; kvfs_cursor_next(cur, &entry) == 1; i++)
		must(i < n && strcmp(entry.key, keys[i] + (keys[i][0] == '/')) == 0);
	kvfs_cursor_close(cur);
	must(i == n);
}

static void check_stored(const char *a, const struct parts *pa, const char *b, const struct parts *pb)
{
	const char *both[2] = {a, b};
	must(kvfs_put(store, a, a, strlen(a), NULL, NULL) == 0);
	int r = kvfs_put(store, b, b, strlen(b), NULL, NULL);
	if (collide(pa, pb) && pa->n != pb->n) {
		must(r == (pa->n < pb->n ? -ENOTDIR : -EISDIR));
		check_list(&a, 1);
	} else {
		must(r == 0);
		check_value(b, b);
		if (model_compare(pa, pb) > 0)
			both[0] = b, both[1] = a;
		check_list(both, collide(pa, pb) ? 1 : 2);
		must(kvfs_del(store, b) == 0);
	}
	if (kvfs_exists(store, a)) {
		check_value(a, a);
		must(kvfs_del(store, a) == 0);
	}
	check_list(NULL, 0);
}

static void check_keys(const char *a, const char *b)
{
	static struct parts pa, pb;
	int fa = model_check(a, &pa), fb = model_check(b, &pb);
	check_rules(a, &pa, fa);
	check_rules(b, &pb, fb);
	must(sign(kvfs_key_compare(a, b)) == -sign(kvfs_key_compare(b, a)));
	must(fa || fb || sign(kvfs_key_compare(a, b)) == sign(model_compare(&pa, &pb)));
	if (fa)
		check_refused(a, fa);
	else if (!fb && pa.n && pb.n)
		check_stored(a, &pa, b, &pb);
}

/* ---- typed keys ---- */

static void check_typed(const struct kvfs_typed *key)
{
	struct kvfs_typed_name name;
	struct kvfs_typed again;
	char *buf;
	must(kvfs_typed_encode(key, &name) == 0);
	must(kv_name_check(name.name) == 0 && cli_is_utf8(name.name, strlen(name.name)));
	must(kvfs_typed_is_long(name.name) == (name.line != NULL));
	for (const char *c = name.name; *c; c++)
		must((unsigned char)*c >= 0x20 && *c != 0x7f);
	must(!name.line || memchr(name.line, '\n', name.line_len) == name.line + name.line_len - 1);
	must(kvfs_typed_decode(name.name, name.line, name.line_len, &again, &buf) == 0);
	must(again.kind == key->kind && again.len == key->len && memcmp(again.data, key->data, key->len) == 0);
	free(buf);
	free(name.line);
}

/* Any name, any line: no key, or the one that is encoded so. */
static void check_name(const char *name, const char *line)
{
	size_t n = strcspn(line, "\n");
	struct kvfs_typed key;
	char *buf = NULL, *text = malloc(n + 1);
	memcpy(text, line, n);
	text[n] = '\n';
	if (kv_name_check(name) == 0 && kvfs_typed_decode(name, text, n + 1, &key, &buf) == 0)
		check_typed(&key);
	free(buf);
	free(text);
}

static void check_numbers(const uint8_t *data, size_t len)
{
	int64_t n = 0;
	double x;
	char text[32], *end;
	memcpy(&n, data, len < sizeof n ? len : sizeof n);
	memcpy(&x, &n, sizeof x);
	struct kvfs_typed key = kvfs_typed_int(n, text);
	check_typed(&key);
	key = kvfs_typed_float(x, text);
	check_typed(&key);
	double again = strtod(text, &end);
	must(!*end && (again == x || (again != again && x != x)));
}

/* ---- one input ---- */

static const char *take_text(const uint8_t **data, size_t *len)
{
	size_t n = strnlen((const char *)*data, *len);
	char *text = calloc(1, n + 1);
	memcpy(text, *data, n);
	n += n < *len;
	*data += n;
	*len -= n;
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct kvfs_typed key = {.kind = cli_is_utf8((const char *)data, len) ? KVFS_TYPED_STR : KVFS_TYPED_BYTES,
		.data = (const char *)data,
		.len = len};
	check_typed(&key);
	key.kind = KVFS_TYPED_BYTES;
	check_typed(&key);
	check_numbers(data, len);
	const char *a = take_text(&data, &len), *b = take_text(&data, &len), *line = take_text(&data, &len);
	check_keys(a, b);
	check_name(a, line);
	free((char *)a);
	free((char *)b);
	free((char *)line);
	return 0;
}
