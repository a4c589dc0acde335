/* Import of records: from a source, perhaps through a sorter, into batches.
 *
 * A record that cannot be read or stored is told and left out; the rest goes on, and the number of both is told in the end.
 *
 * An import that was interrupted goes on when it is repeated.  Every second, when all that was read is stored, the place reached in the source is
 * written into an extended attribute of the directory, with a sum of what would make it another import: the source's files and their times, the
 * options.  It is committed after the keys it speaks of, in the same store: so whatever a crash or a power cut leaves, keys are there up to the
 * place at least, and what came after is stored once more, with the same result.  The attribute goes when the source has ended. */
#include "import_records.h"

#include "from.h"
#include "import.h"
#include "sort.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PLACE "user.kvfs.import" /* struct place */

enum { FRAGMENT_MARK = '#', SAVE_NS = 1000000000, SORT_BYTES = 64 << 20 };

static const struct from_kind *const kinds[] = {&from_csv, &from_dbm, &from_jsonl, &from_lmdb, &from_sqlite};

struct place {
	uint8_t id[SHA256_DIGEST_SIZE];
	uint8_t at[KVFS_XATTR_SIZE_MAX - SHA256_DIGEST_SIZE]; /* of the source; of a sorted one the last key */
};

struct loader {
	struct cli *cli;
	const struct import_records *how;
	struct import *im;
	struct from from;
	char *file; /* from.file and from.fragment are in it */
	struct sorter *sorter;
	bool failed; /* the source, or the sorter */
	char *value; /* of the record in hand, where it is not the source's own bytes */
	bool resumable;
	int64_t next_save_ns;
	struct place place;
	char last[KVFS_KEY_MAX + 1]; /* of a sorted import: the key stored last, or to be passed over up to */
	uint64_t records;
};

/* ---- where it comes from ---- */

static const struct from_kind *find_kind(const char *from)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i]->name);

		if (strncmp(from, kinds[i]->name, n) == 0 && from[n] == ':' && from[n + 1])
			return kinds[i];
	}
	return NULL;
}

bool import_records_known(struct cli *cli, const char *from)
{
	if (find_kind(from))
		return true;
	cli_usage(cli, "--from is sqlite:FILE, dbm:FILE, lmdb:PATH, jsonl:FILE or csv:FILE, not %s", cli_quote(from));
	return false;
}

static int open_source(struct loader *l)
{
	const char *file = strchr(l->how->from, ':') + 1;
	struct stat source, store;
	char *mark;

	l->from.kind = find_kind(l->how->from);
	l->from.keep_null = l->how->json;
	l->file = strdup(file);
	if (!l->file)
		return cli_failf(l->cli, NULL, "%s", strerror(ENOMEM));
	mark = strrchr(l->file, FRAGMENT_MARK);
	if (mark && stat(l->file, &source) < 0) { /* not a part of the name of a file that is there */
		*mark = '\0';
		l->from.fragment = mark + 1;
	}
	l->from.file = l->file;
	if (stat(l->file, &source) == 0 && stat(l->cli->store_path, &store) == 0 && source.st_dev == store.st_dev &&
		source.st_ino == store.st_ino)
		return cli_failf(l->cli, file, "is the store itself");
	if (l->from.kind->open(&l->from) == 0)
		return CLI_DONE;
	return cli_failf(l->cli, file, "%s", l->from.why);
}

/* ---- the place ---- */

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* A sum of all that makes two imports the same one.  False when nothing can be said about the source: a pipe. */
static bool identify(struct loader *l, uint8_t id[SHA256_DIGEST_SIZE])
{
	static const char *const suffixes[] = {"", ".dat", ".dir", "-wal", "/data.mdb"};
	struct sha256_ctx sha;
	bool found = false;

	sha256_init(&sha);
	sha256_update(&sha, strlen(l->how->from) + 1, (const uint8_t *)l->how->from);
	sha256_update(&sha, 3, (const uint8_t[]){l->how->paths, l->how->json, l->how->sort});
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		struct stat st;
		char *path = NULL;

		if (asprintf(&path, "%s%s", l->from.file, suffixes[i]) < 0)
			return false;
		if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
			const uint64_t facts[] = {i, st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
				(uint64_t)st.st_mtim.tv_nsec};

			sha256_update(&sha, sizeof(facts), (const uint8_t *)facts);
			found = true;
		}
		free(path);
	}
	sha256_digest(&sha, SHA256_DIGEST_SIZE, id);
	return found;
}

/* Goes on where the same import stopped, if there was one. */
static void resume(struct loader *l)
{
	uint8_t id[SHA256_DIGEST_SIZE];
	ssize_t n;

	l->resumable = identify(l, id);
	l->next_save_ns = now_ns() + SAVE_NS / 10;
	n = kvfs_getxattr(l->cli->store, l->how->dir, PLACE, &l->place, sizeof(l->place));
	if (!l->resumable || n <= SHA256_DIGEST_SIZE || memcmp(l->place.id, id, sizeof(id)) != 0) {
		memcpy(l->place.id, id, sizeof(id));
		return;
	}
	n -= SHA256_DIGEST_SIZE;
	if (l->how->sort && (size_t)n < sizeof(l->last))
		memcpy(l->last, l->place.at, (size_t)n);
	else if (l->how->sort || !l->from.kind->seek(&l->from, l->place.at, (size_t)n))
		return;
	cli_warnf(l->cli, l->how->from, "goes on where it was interrupted");
}

/* CLI_TROUBLE when the store takes nothing more. */
static int save_place(struct loader *l)
{
	const size_t cap = sizeof(l->place.at);
	size_t n;

	if (!l->resumable || now_ns() < l->next_save_ns)
		return CLI_DONE;
	if (import_flush(l->im) != CLI_DONE)
		return CLI_TROUBLE;
	if (l->how->sort) {
		n = strlen(l->last);
		memcpy(l->place.at, l->last, n);
	} else {
		n = l->from.kind->tell(&l->from, l->place.at, cap);
	}
	if (n > 0 && kvfs_setxattr(l->cli->store, l->how->dir, PLACE, &l->place, SHA256_DIGEST_SIZE + n, 0) < 0) {
		/* It begins anew, then, when it is repeated: the result is the same. */
	}
	l->next_save_ns = now_ns() + SAVE_NS;
	return CLI_DONE;
}

/* ---- one record ---- */

/* The key that a record gets, without the directory.  NULL, or why it gets none. */
static const char *name_of(struct loader *l, const struct record *record, struct kvfs_typed_name *ret, char key[KVFS_KEY_MAX + 1])
{
	if (!l->how->paths) {
		if (kvfs_typed_encode(&record->key, ret) < 0)
			return strerror(ENOMEM);
		strcpy(key, ret->name);
		return NULL;
	}
	*ret = (struct kvfs_typed_name){0};
	if (memchr(record->key.data, 0, record->key.len))
		return "a key holds no NUL byte";
	if (record->key.len > KVFS_KEY_MAX)
		return "a key is longer than 4095 bytes";
	memcpy(key, record->key.data, record->key.len);
	key[record->key.len] = '\0';
	return kvfs_key_fault(key);
}

/* The value as it is stored: the first line of a long key before it; of what is to be JSON and is none, the JSON string. */
static const char *value_of(
	struct loader *l, const struct record *record, const struct kvfs_typed_name *name, const void **data, size_t *len)
{
	bool string = l->how->json && !record->is_json;
	FILE *out;

	*data = record->data;
	*len = record->len;
	if (!string && !name->line)
		return NULL;
	if (string && !cli_is_utf8(record->data, record->len))
		return "its value is not UTF-8, so it cannot be a JSON string";
	free(l->value);
	l->value = NULL;
	out = open_memstream(&l->value, len);
	if (!out)
		return strerror(errno);
	if (name->line)
		fwrite(name->line, 1, name->line_len, out);
	if (string) {
		fputc('"', out);
		cli_json_text(out, record->data, record->len);
		fputc('"', out);
	} else {
		fwrite(record->data, 1, record->len, out);
	}
	if (fclose(out) != 0)
		return strerror(errno);
	*data = l->value;
	return NULL;
}

/* Into the store, under the directory. */
static int store(struct loader *l, const char *name, const void *data, size_t len)
{
	char key[KVFS_KEY_MAX + 2];
	size_t dir = strlen(l->how->dir), n = strlen(name);

	name += *name == '/';
	if (dir + 1 + n > KVFS_KEY_MAX) {
		cli_failf(l->cli, name, "a key is longer than 4095 bytes");
		return CLI_DONE;
	}
	snprintf(key, sizeof(key), "%s%s%s", l->how->dir, dir ? "/" : "", name);
	if (!*name) {
		cli_failf(l->cli, name, "is the root directory, not a value");
		return CLI_DONE;
	}
	return import_record(l->im, key, data, len);
}

/* The key as far as it can be shown: with a NUL in it only escaped. */
static int bad_key(struct loader *l, const struct record *record, const char *why)
{
	struct kvfs_typed_name name = {0};
	char key[KVFS_KEY_MAX + 1];

	snprintf(key, sizeof(key), "%.*s", (int)record->key.len, record->key.data);
	if (memchr(record->key.data, 0, record->key.len) && kvfs_typed_encode(&record->key, &name) == 0)
		strcpy(key, name.name);
	free(name.line);
	cli_failf(l->cli, key, "%s", why);
	return CLI_DONE;
}

static int take(struct loader *l, const struct record *record)
{
	struct kvfs_typed_name name;
	char key[KVFS_KEY_MAX + 1] = "";
	const void *data = NULL;
	size_t len = 0;
	const char *wrong;
	int r = CLI_DONE;

	wrong = name_of(l, record, &name, key);
	if (wrong)
		return bad_key(l, record, wrong);
	wrong = value_of(l, record, &name, &data, &len);
	if (wrong) {
		cli_failf(l->cli, key, "%s", wrong);
	} else if (l->sorter) {
		int e = sorter_add(l->sorter, key + (*key == '/'), data, len);

		if (e < 0) {
			cli_failf(l->cli, NULL, "sorting: temporary file: %s", strerror(-e));
			r = CLI_TROUBLE;
		}
	} else {
		r = store(l, key, data, len);
	}
	free(name.line);
	return r;
}

/* ---- all of them ---- */

static int read_all(struct loader *l)
{
	for (;;) {
		struct record record = {0};
		int r = l->from.kind->next(&l->from, &record);

		if (r == FROM_END)
			return CLI_DONE;
		if (r == FROM_FAILED) {
			cli_failf(l->cli, l->from.file, "%s", l->from.why);
			return CLI_TROUBLE;
		}
		l->records++;
		l->cli->progress.keys++;
		if (l->from.total_bytes)
			l->cli->progress.bytes = l->from.bytes;
		cli_progress_draw(l->cli);
		if (r == FROM_BAD)
			cli_failf(l->cli, l->from.file, "%s", l->from.why);
		else if (take(l, &record) != CLI_DONE)
			return CLI_TROUBLE;
		if (!l->sorter && save_place(l) != CLI_DONE)
			return CLI_TROUBLE;
	}
}

static int store_sorted(struct loader *l)
{
	const char *key;
	const void *data;
	size_t len;
	int r = sorter_finish(l->sorter);

	l->cli->progress.total_keys = l->records;
	l->cli->progress.total_bytes = l->cli->progress.keys = l->cli->progress.bytes = 0;
	while (r == 0 && (r = sorter_next(l->sorter, &key, &data, &len)) > 0) {
		r = 0;
		l->cli->progress.keys++;
		cli_progress_draw(l->cli);
		/* Of what has one key all was stored, or the place would be before it: a later one may stand in the next batch. */
		if (*l->last && kvfs_key_compare(key, l->last) < 0)
			continue;
		if (store(l, key, data, len) != CLI_DONE)
			return CLI_TROUBLE;
		strcpy(l->last, key);
		if (save_place(l) != CLI_DONE)
			return CLI_TROUBLE;
	}
	if (r < 0)
		cli_failf(l->cli, NULL, "sorting: temporary file: %s", strerror(-r));
	return r < 0 ? CLI_TROUBLE : CLI_DONE;
}

static int run(struct loader *l)
{
	uint64_t failed;
	int r, status;

	cli_progress_begin(l->cli);
	l->cli->progress.total_keys = l->from.total_bytes ? 0 : l->from.total_keys;
	l->cli->progress.total_bytes = l->from.total_bytes;
	r = import_begin(l->cli, l->how->dir, false, &l->im);
	if (r == 0 && l->how->sort)
		r = sorter_new(SORT_BYTES, &l->sorter);
	if (r < 0)
		return cli_failf(l->cli, NULL, "%s", strerror(-r));
	resume(l);
	r = read_all(l);
	if (r == CLI_DONE && l->sorter)
		r = store_sorted(l);
	if (import_flush(l->im) == CLI_DONE && r == CLI_DONE && l->resumable &&
		kvfs_removexattr(l->cli->store, l->how->dir, PLACE) < 0) {
		/* There is none, in an import of less than a second. */
	}
	failed = l->cli->failed;
	status = import_end(l->im);
	cli_progress_clear(l->cli);
	if (r == CLI_DONE && failed)
		cli_failf(l->cli, l->from.file, "%ju of %ju records were left out", (uintmax_t)failed, (uintmax_t)l->records);
	return status;
}

int import_records(struct cli *cli, const struct import_records *how)
{
	struct loader *l = calloc(1, sizeof(*l));
	int status;

	if (!l)
		return cli_failf(cli, NULL, "%s", strerror(ENOMEM));
	l->cli = cli;
	l->how = how;
	status = open_source(l);
	if (status == CLI_DONE)
		status = run(l);
	if (l->from.kind->close)
		l->from.kind->close(&l->from);
	sorter_free(l->sorter);
	free(l->value);
	free(l->file);
	free(l);
	return status;
}
