/* A dbm file: of GNU dbm, or the pair FILE.dir and FILE.dat of Python's dbm.dumb.  A shelve is one of them, its values pickles.
 * Keys are str where they are UTF-8, else bytes. */
#include "cli.h"
#include "from.h"

#include <errno.h>
#include <fcntl.h>
#include <gdbm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- GNU dbm ---- */

struct gnu {
	GDBM_FILE file;
	datum key, value; /* of the record in hand */
};

static int gnu_fail(struct from *from)
{
	const char *system = gdbm_check_syserr(gdbm_errno) ? strerror(errno) : NULL;

	return from_fail(from, FROM_FAILED, "GNU dbm: %s%s%s", gdbm_strerror(gdbm_errno), system ? ": " : "", system ? system : "");
}

static int gnu_open(struct from *from)
{
	struct gnu *g = from->state = calloc(1, sizeof(*g));
	gdbm_count_t count;

	if (!g)
		return from_fail(from, FROM_FAILED, "out of memory");
	g->file = gdbm_open(from->file, 0, GDBM_READER | GDBM_CLOEXEC, 0, NULL);
	if (!g->file && gdbm_errno == GDBM_BAD_MAGIC_NUMBER)
		return from_fail(from, FROM_FAILED,
			"is no GNU dbm file; one of another kind is opened by Python: kvfs.Dict(...).update(dbm.open(...))");
	if (!g->file)
		return gnu_fail(from);
	if (isatty(STDERR_FILENO) && gdbm_count(g->file, &count) == 0)
		from->total_keys = count;
	return 0;
}

static int gnu_next(struct from *from, struct record *ret)
{
	struct gnu *g = from->state;
	datum next = g->key.dptr ? gdbm_nextkey(g->file, g->key) : gdbm_firstkey(g->file);

	free(g->key.dptr);
	free(g->value.dptr);
	g->key = next;
	g->value.dptr = NULL;
	if (!next.dptr)
		return gdbm_errno == GDBM_ITEM_NOT_FOUND || gdbm_errno == GDBM_NO_ERROR ? FROM_END : gnu_fail(from);
	g->value = gdbm_fetch(g->file, next);
	if (!g->value.dptr)
		return gnu_fail(from);
	ret->key = from_bytes(next.dptr, (size_t)next.dsize);
	ret->data = g->value.dptr;
	ret->len = (size_t)g->value.dsize;
	return FROM_RECORD;
}

static size_t gnu_tell(struct from *from, void *buf, size_t cap)
{
	struct gnu *g = from->state;

	if (!g->key.dptr || (size_t)g->key.dsize > cap)
		return 0;
	memcpy(buf, g->key.dptr, (size_t)g->key.dsize);
	return (size_t)g->key.dsize;
}

static bool gnu_seek(struct from *from, const void *buf, size_t len)
{
	struct gnu *g = from->state;
	datum key = {malloc(len + 1), (int)len};

	if (key.dptr)
		memcpy(key.dptr, buf, len);
	if (!key.dptr || !gdbm_exists(g->file, key)) {
		free(key.dptr);
		return false;
	}
	g->key = key;
	return true;
}

static void gnu_close(struct from *from)
{
	struct gnu *g = from->state;

	if (!g)
		return;
	free(g->key.dptr);
	free(g->value.dptr);
	if (g->file)
		gdbm_close(g->file);
	free(g);
}

static const struct from_kind from_gnu = {
	.name = "dbm", .open = gnu_open, .next = gnu_next, .tell = gnu_tell, .seek = gnu_seek, .close = gnu_close};

/* ---- dbm.dumb ---- */

/* FILE.dir has a line for each key: the key as Python writes a str in quotes, a character a byte, and (offset, size) of its value in FILE.dat. */
struct dumb {
	struct from_text dir;
	int dat;
	char *value;
	size_t cap;
};

static int dumb_open(struct from *from)
{
	struct dumb *d = from->state = calloc(1, sizeof(*d));
	const char *base = from->file;
	char *path = NULL;
	int r;

	if (!d)
		return from_fail(from, FROM_FAILED, "out of memory");
	d->dat = -1;
	if (asprintf(&path, "%s.dat", base) < 0)
		return from_fail(from, FROM_FAILED, "out of memory");
	d->dat = open(path, O_RDONLY | O_CLOEXEC);
	if (d->dat < 0) {
		free(path);
		return from_fail(from, FROM_FAILED, "%s", strerror(errno));
	}
	memcpy(path + strlen(base), ".dir", 4);
	from->file = path;
	r = from_text_open(from, &d->dir);
	from->file = base;
	free(path);
	return r;
}

static int hex(int c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What follows a backslash; -1 nothing that stands there. */
static int unescape(struct from_text *dir)
{
	int c = from_text_get(dir), high;

	switch (c) {
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case '\\':
	case '\'':
	case '"':
		return c;
	case 'x':
		high = hex(from_text_get(dir));
		c = hex(from_text_get(dir));
		return high < 0 || c < 0 ? -1 : high << 4 | c;
	default:
		return -1;
	}
}

static bool read_key(struct from_text *dir, int quote)
{
	int c;

	while ((c = from_text_get(dir)) != quote) {
		if (c == EOF || c == '\n' || (c == '\\' && (c = unescape(dir)) < 0) || !from_text_add(dir, c))
			return false;
	}
	return true;
}

static int dumb_next(struct from *from, struct record *ret)
{
	struct dumb *d = from->state;
	uint64_t line = d->dir.line;
	uintmax_t offset = 0, size = 0;
	char rest[64] = "";
	int c, n = 0, quote = from_text_get(&d->dir);
	bool bad;

	if (quote == EOF)
		return FROM_END;
	d->dir.len = 0;
	bad = (quote != '\'' && quote != '"') || !read_key(&d->dir, quote);
	for (size_t i = 0; d->dir.line == line && (c = from_text_get(&d->dir)) != EOF;)
		if (c != '\n' && i + 1 < sizeof(rest))
			rest[i++] = (char)c;
	from->bytes = d->dir.offset;
	if (bad || sscanf(rest, " , ( %ju , %ju )%n", &offset, &size, &n) < 2 || n == 0 || !from_text_add(&d->dir, '\0'))
		return from_fail(from, FROM_BAD, "line %ju of its .dir: not what dbm.dumb writes", (uintmax_t)line);
	if (size > FROM_RECORD_MAX)
		return from_fail(from, FROM_BAD, "line %ju of its .dir: larger than 256 MiB", (uintmax_t)line);
	if (size + 1 > d->cap) {
		free(d->value);
		d->value = malloc(size + 1);
		d->cap = d->value ? size + 1 : 0;
	}
	if (!d->value)
		return from_fail(from, FROM_FAILED, "out of memory");
	if (pread(d->dat, d->value, size, (off_t)offset) != (ssize_t)size)
		return from_fail(from, FROM_BAD, "line %ju of its .dir: the value cannot be read in its .dat", (uintmax_t)line);
	ret->key = from_bytes(d->dir.buf, d->dir.len - 1);
	ret->data = d->value;
	ret->len = size;
	return FROM_RECORD;
}

static size_t dumb_tell(struct from *from, void *buf, size_t cap)
{
	return from_text_tell(&((struct dumb *)from->state)->dir, buf, cap);
}

static bool dumb_seek(struct from *from, const void *buf, size_t len)
{
	return from_text_seek(&((struct dumb *)from->state)->dir, buf, len);
}

static void dumb_close(struct from *from)
{
	struct dumb *d = from->state;

	if (!d)
		return;
	from_text_close(&d->dir);
	if (d->dat >= 0)
		close(d->dat);
	free(d->value);
	free(d);
}

static const struct from_kind from_dumb = {
	.name = "dbm", .open = dumb_open, .next = dumb_next, .tell = dumb_tell, .seek = dumb_seek, .close = dumb_close};

/* ---- which ---- */

static int dbm_open(struct from *from)
{
	char *dir = NULL;
	bool dumb = access(from->file, F_OK) < 0 && asprintf(&dir, "%s.dir", from->file) >= 0 && access(dir, F_OK) == 0;

	free(dir);
	if (from->fragment)
		return from_fail(from, FROM_FAILED, "nothing comes after #");
	from->kind = dumb ? &from_dumb : &from_gnu;
	return from->kind->open(from);
}

const struct from_kind from_dbm = {.name = "dbm", .open = dbm_open};
