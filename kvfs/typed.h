/* Names of typed keys: those that kvfs.Dict of the Python package gives its keys, any str, bytes, int or float of any length (FORMAT.md, "Names
 * of typed keys").  Encoding is injective; decode(encode(key)) is key. */
#ifndef KVFS_TYPED_H
#define KVFS_TYPED_H

#include <kvfs.h>

enum typed_kind { TYPED_STR, TYPED_BYTES, TYPED_INT, TYPED_FLOAT };
struct typed_key {
	enum typed_kind kind;
	const char *data; /* UTF-8 of a str; of a number its text, as Python prints it */
	size_t len;
};

struct typed_name {
	char name[KVFS_NAME_MAX + 1];
	char *line; /* malloc'd: what the value of a key too long for a name begins with, a whole line; else NULL */
	size_t line_len;
};

/* A key of which nothing is known but its bytes: a str if they are UTF-8. */
struct typed_key typed_of_bytes(const void *data, size_t len);
/* A float, printed into `buf`. */
struct typed_key typed_of_double(double x, char buf[32]);
/* An int, printed into `buf`. */
struct typed_key typed_of_int(int64_t n, char buf[32]);

/* 0 or -ENOMEM. */
int typed_encode(const struct typed_key *key, struct typed_name *ret);
/* Is it the name of a key too long for it, for which typed_decode() needs the value's first line? */
bool typed_is_long(const char *name);
/* The key of a name, its data in *buf (malloc'd, in every case the caller's to free).  -EINVAL no key has this name. */
int typed_decode(const char *name, const char *line, size_t line_len, struct typed_key *ret, char **buf);

#endif
