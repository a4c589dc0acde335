/* How chunk size and inline limit were chosen: kvfs's record layout, measured on plain liblmdb.
 *
 *	cc -O2 -std=gnu11 -D_GNU_SOURCE -o layout_bench layout_bench.c -llmdb -lm
 *	layout_bench chunk DIR [ROUNDS]     chunk size on a fresh store: sequential write and read, 4 KiB overwrites
 *	layout_bench aged DIR [ROUNDS]      chunk size on a store whose free list is fragmented
 *	layout_bench inline DIR [ROUNDS]    small values in the inode record or in a chunk of their own
 *	layout_bench scan DIR [ROUNDS]      reading all inode records, for several inline limits
 *
 * DIR must exist; scratch stores are made in it and removed (under 3 GiB at any time).  Each prints a markdown table of
 * medians.  Variants are interleaved: every round runs all of them, odd rounds in reverse order.  LAYOUT.md keeps the
 * figures and what follows from them.
 *
 * It knows nothing of the library on purpose: it must be able to question the format, not only the code.  Two stand-ins
 * are deliberate: the checksum (a multiplicative one, about as fast as a hardware CRC) and the random payload. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	OVERFLOW_HEADER = 16, /* LMDB's, once per run of pages */
	CHUNK_HEADER = 16, /* 4 checksum + 12 */
	INODE_HEADER = 160,
	KEY_LEN = 16,
	ROUNDS_MAX = 16,
	MIB = 1 << 20,
	TXN_BYTES = 4 * MIB,
	SEQUENTIAL_BYTES = 256 * MIB,
	OVERWRITES = 1500,
	AGED_LIVE_BYTES = 512 * MIB,
	AGED_WRITE_BYTES = 128 * MIB,
	AGED_REPLACEMENTS = 20000,
	AGED_SMALL_COMMITS = 1000,
	AGED_READER_EVERY = 50, /* commits between renewals of the pinned reader: sync points pin a version so */
	AGED_VALUES_MAX = 16384,
	INLINE_IN_AGED = 1800,
	INLINE_INODES = 20000,
	INLINE_BLOCK = 250,
	SCAN_INODES = 60000,
};

static const unsigned chunk_pages[] = {1, 2, 4, 8, 16, 32};
static const unsigned inline_sizes[] = {100, 500, 1000, 1900, 2500, 3900, 4000};
static const unsigned inline_limits[] = {0, 512, 1024, 1800, 3920, 4000};

#define MAP_BYTES (2900 * (size_t)MIB)
#define SEED 88172645463325252u
#define COUNT(a) (sizeof(a) / sizeof *(a))

struct store {
	char path[512];
	MDB_env *env;
	MDB_dbi inode, chunk;
	unsigned pages; /* of a full chunk record */
	uint64_t next_blob;
};

static char payload[TXN_BYTES];
static uint64_t random_state = SEED;
static volatile uint64_t sink; /* keeps reads from being optimised away */

/* ---- small helpers ---- */

static void die(const char *what, int rc)
{
	fprintf(stderr, "layout_bench: %s: %s\n", what, mdb_strerror(rc));
	exit(2);
}

#define TRY(call)                                                                                                                  \
	do {                                                                                                                       \
		int rc_ = (call);                                                                                                  \
		if (rc_)                                                                                                           \
			die(#call, rc_);                                                                                           \
	} while (0)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Somewhere in the payload with `len` bytes after it; not random, so that every variant draws the same random numbers. */
static const char *payload_next(size_t len)
{
	static size_t at;

	at = (at + 7919) % (TXN_BYTES - len);
	return payload + at;
}

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Log-uniform: as many values between 100 and 1000 bytes as between 100 kB and 1 MB. */
static size_t random_size(double min, double max)
{
	double unit = (double)(random_next() >> 11) * 0x1p-53;

	return (size_t)(min * exp(unit * log(max / min)));
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts v. */
static double quantile(double *v, size_t n, double q)
{
	qsort(v, n, sizeof *v, compare_doubles);
	return v[(size_t)(q * (double)(n - 1) + 0.5)];
}

/* Bytes this process has passed to write calls: LMDB's dirty pages, whether or not the device has seen them yet. */
static double bytes_written(void)
{
	char line[128];
	unsigned long long n = 0;
	FILE *f = fopen("/proc/self/io", "r");

	if (!f)
		die("/proc/self/io", errno);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "wchar: %llu", &n) == 1)
			break;
	fclose(f);
	return (double)n;
}

static uint32_t checksum(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t lane[4] = {1, 2, 3, 4}, word;

	for (; len >= 32; len -= 32)
		for (int i = 0; i < 4; i++, p += 8) {
			memcpy(&word, p, 8);
			lane[i] = (lane[i] ^ word) * 0x9e3779b97f4a7c15u;
		}
	for (; len; len--)
		lane[0] = (lane[0] ^ *p++) * 0x9e3779b97f4a7c15u;
	word = lane[0] ^ (lane[1] >> 7) ^ (lane[2] >> 13) ^ (lane[3] >> 17);
	return (uint32_t)(word >> 32);
}

/* ---- stores ---- */

/* The map bounds the file, so a layout that runs away fails instead of filling the disk. */
static void store_map(struct store *s, unsigned flags)
{
	MDB_txn *txn;

	TRY(mdb_env_create(&s->env));
	TRY(mdb_env_set_maxdbs(s->env, 2));
	TRY(mdb_env_set_mapsize(s->env, MAP_BYTES));
	TRY(mdb_env_open(s->env, s->path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0600));
	TRY(mdb_txn_begin(s->env, NULL, 0, &txn));
	TRY(mdb_dbi_open(txn, "inode", MDB_CREATE, &s->inode));
	TRY(mdb_dbi_open(txn, "chunk", MDB_CREATE, &s->chunk));
	TRY(mdb_txn_commit(txn));
}

static void store_open(struct store *s, const char *dir, const char *name, unsigned flags)
{
	snprintf(s->path, sizeof s->path, "%s/layout-%s", dir, name);
	store_map(s, flags);
}

static void store_remove(struct store *s)
{
	char lock[sizeof s->path + sizeof "-lock"];

	mdb_env_close(s->env);
	stpcpy(stpcpy(lock, s->path), "-lock");
	unlink(s->path);
	unlink(lock);
}

/* Writes everything out and drops the file from the page cache; only an unmapped file can be dropped. */
static void store_cool(struct store *s)
{
	int fd;

	TRY(mdb_env_sync(s->env, 1));
	mdb_env_close(s->env);
	fd = open(s->path, O_RDONLY);
	if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die(s->path, errno);
	close(fd);
	store_map(s, MDB_NOSYNC);
}

static double store_file_bytes(const struct store *s)
{
	struct stat st;

	if (stat(s->path, &st))
		die(s->path, errno);
	return (double)st.st_size;
}

/* ---- records ---- */

static size_t chunk_capacity(unsigned pages)
{
	return (size_t)pages * PAGE - OVERFLOW_HEADER - CHUNK_HEADER;
}

static MDB_val chunk_key(unsigned char *buf, uint64_t blob, uint32_t index, uint32_t inverted_gen)
{
	blob = htobe64(blob);
	index = htobe32(index);
	inverted_gen = htobe32(inverted_gen);
	memcpy(buf, &blob, 8);
	memcpy(buf + 8, &index, 4);
	memcpy(buf + 12, &inverted_gen, 4);
	return (MDB_val){KEY_LEN, buf};
}

/* A record of `header` bytes (the first four its checksum, then `word`) and data, built in place. */
static void record_put(
	MDB_txn *txn, MDB_dbi dbi, MDB_val key, size_t header, uint64_t word, const void *data, size_t len, unsigned flags)
{
	MDB_val v = {header + len, NULL};
	unsigned char *p;
	uint32_t sum;

	TRY(mdb_put(txn, dbi, &key, &v, MDB_RESERVE | flags));
	p = v.mv_data;
	memset(p, 0, header);
	memcpy(p + 4, &word, sizeof word);
	memcpy(p + header, data, len);
	sum = checksum(p + 4, v.mv_size - 4);
	memcpy(p, &sum, sizeof sum);
}

/* Writes chunks `from` on, `bytes` in all; blob ids only grow and the blob is the newest, so chunks are appended. */
static uint32_t blob_append(struct store *s, MDB_txn *txn, uint64_t blob, uint32_t from, size_t bytes)
{
	unsigned char buf[KEY_LEN];
	size_t capacity = chunk_capacity(s->pages);

	for (; bytes; from++) {
		size_t len = bytes < capacity ? bytes : capacity;

		record_put(txn, s->chunk, chunk_key(buf, blob, from, UINT32_MAX), CHUNK_HEADER, len, payload_next(len), len,
			MDB_APPEND);
		bytes -= len;
	}
	return from;
}

static void blob_delete(struct store *s, MDB_txn *txn, uint64_t blob)
{
	unsigned char buf[KEY_LEN];
	uint64_t prefix = htobe64(blob);
	MDB_val k = chunk_key(buf, blob, 0, 0), v;
	MDB_cursor *c;

	TRY(mdb_cursor_open(txn, s->chunk, &c));
	for (int rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE); !rc && !memcmp(k.mv_data, &prefix, 8);
		rc = mdb_cursor_get(c, &k, &v, MDB_GET_CURRENT))
		TRY(mdb_cursor_del(c, 0));
	mdb_cursor_close(c);
}

/* Asks for a whole record at once, where a page fault would read around itself. */
static void record_advise(MDB_val v)
{
	uintptr_t start = (uintptr_t)v.mv_data & ~(uintptr_t)(PAGE - 1);

	madvise((void *)start, (uintptr_t)v.mv_data + v.mv_size - start, MADV_WILLNEED);
}

/* Seconds; every chunk of the blob is verified, as the library does. */
static double blob_read(struct store *s, uint64_t blob, bool advise)
{
	unsigned char buf[KEY_LEN];
	uint64_t prefix = htobe64(blob);
	MDB_val k = chunk_key(buf, blob, 0, 0), v;
	MDB_txn *txn;
	MDB_cursor *c;
	double start = now();

	TRY(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));
	TRY(mdb_cursor_open(txn, s->chunk, &c));
	for (int rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE); !rc && !memcmp(k.mv_data, &prefix, 8);
		rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		if (advise)
			record_advise(v);
		if (memcmp(&(uint32_t){checksum((char *)v.mv_data + 4, v.mv_size - 4)}, v.mv_data, 4))
			die("checksum", MDB_CORRUPTED);
	}
	mdb_cursor_close(c);
	mdb_txn_abort(txn);
	return now() - start;
}

/* Seconds for `bytes` in transactions of TXN_BYTES. */
static double blob_write(struct store *s, uint64_t blob, size_t bytes)
{
	size_t step = TXN_BYTES / chunk_capacity(s->pages) * chunk_capacity(s->pages);
	uint32_t index = 0;
	double start = now();

	while (bytes) {
		size_t len = bytes < step ? bytes : step;
		MDB_txn *txn;

		TRY(mdb_txn_begin(s->env, NULL, 0, &txn));
		index = blob_append(s, txn, blob, index, len);
		TRY(mdb_txn_commit(txn));
		bytes -= len;
	}
	return now() - start;
}

/* Rewrites one chunk as a new generation with `len` bytes of it changed, and deletes the old one. */
static void chunk_overwrite(struct store *s, MDB_txn *txn, uint64_t blob, uint32_t index, size_t at, size_t len)
{
	static char scratch[32 * PAGE];
	unsigned char old_buf[KEY_LEN], new_buf[KEY_LEN];
	MDB_val k = chunk_key(old_buf, blob, index, 0), v, old = {KEY_LEN, old_buf};
	MDB_cursor *c;
	uint32_t inverted_gen;
	size_t data_len;

	TRY(mdb_cursor_open(txn, s->chunk, &c));
	TRY(mdb_cursor_get(c, &k, &v, MDB_SET_RANGE));
	memcpy(old_buf, k.mv_data, KEY_LEN);
	memcpy(&inverted_gen, old_buf + 12, 4);
	data_len = v.mv_size - CHUNK_HEADER;
	memcpy(scratch, (char *)v.mv_data + CHUNK_HEADER, data_len);
	mdb_cursor_close(c);
	memcpy(scratch + at, payload_next(len), len);
	record_put(txn, s->chunk, chunk_key(new_buf, blob, index, be32toh(inverted_gen) - 1), CHUNK_HEADER, data_len, scratch,
		data_len, 0);
	TRY(mdb_del(txn, s->chunk, &old, NULL));
}

/* One 4 KiB write at a page-aligned offset, in a transaction of its own.  Chunks hold a little less than whole pages of
 * data, so the write may touch two. */
static void blob_overwrite(struct store *s, uint64_t blob, size_t blob_bytes)
{
	size_t capacity = chunk_capacity(s->pages), at = random_next() % (blob_bytes / PAGE) * PAGE, left = PAGE;
	MDB_txn *txn;

	TRY(mdb_txn_begin(s->env, NULL, 0, &txn));
	while (left) {
		size_t in = at % capacity, len = capacity - in < left ? capacity - in : left;

		chunk_overwrite(s, txn, blob, (uint32_t)(at / capacity), in, len);
		at += len;
		left -= len;
	}
	TRY(mdb_txn_commit(txn));
}

/* ---- tables of medians ---- */

enum { COLUMNS_MAX = 10, VARIANTS_MAX = 16 };
static double results[VARIANTS_MAX][COLUMNS_MAX][ROUNDS_MAX];
#define RESULT(column) results[variant][column][round]

static double result(unsigned variant, unsigned column, unsigned rounds)
{
	return quantile(results[variant][column], rounds, 0.5);
}

static void print_table(const char *header, const unsigned *names, unsigned variants, unsigned columns, unsigned rounds)
{
	printf("| %s |\n|---|", header);
	for (unsigned i = 0; i < columns; i++)
		printf("---|");
	putchar('\n');
	for (unsigned variant = 0; variant < variants; variant++) {
		printf("| %u |", names[variant]);
		for (unsigned i = 0; i < columns; i++) {
			double x = result(variant, i, rounds);

			printf(" %.*f |", x < 10 ? 2 : x < 100 ? 1 : 0, x);
		}
		putchar('\n');
	}
}

/* Variants forwards in even rounds, backwards in odd ones: a machine that slows down harms none in particular. */
static unsigned turn(unsigned i, unsigned n, unsigned round)
{
	return round % 2 ? n - 1 - i : i;
}

/* ---- chunk: a fresh store ---- */

static void chunk_variant(const char *dir, unsigned variant, unsigned round)
{
	static double times[OVERWRITES];
	struct store s = {.pages = chunk_pages[variant]};
	double mib = SEQUENTIAL_BYTES / (double)MIB, before;

	store_open(&s, dir, "chunk", MDB_NOMETASYNC);
	RESULT(0) = mib / blob_write(&s, 1, SEQUENTIAL_BYTES);
	store_remove(&s);

	store_open(&s, dir, "chunk", MDB_NOSYNC);
	RESULT(1) = mib / blob_write(&s, 1, SEQUENTIAL_BYTES);
	store_cool(&s);
	RESULT(2) = mib / blob_read(&s, 1, false);
	RESULT(3) = mib / blob_read(&s, 1, false);
	RESULT(4) = store_file_bytes(&s) / SEQUENTIAL_BYTES;
	before = bytes_written();
	for (unsigned i = 0; i < OVERWRITES; i++) {
		double start = now();

		blob_overwrite(&s, 1, SEQUENTIAL_BYTES);
		times[i] = (now() - start) * 1e6;
	}
	RESULT(7) = (bytes_written() - before) / PAGE / OVERWRITES;
	RESULT(5) = quantile(times, OVERWRITES, 0.5);
	RESULT(6) = quantile(times, OVERWRITES, 0.99);
	store_remove(&s);
}

/* ---- aged: the same after a long life ---- */

struct population {
	struct {
		uint64_t blob;
		size_t bytes;
	} v[AGED_VALUES_MAX];
	unsigned n;
	size_t bytes;
};

static void inode_put(struct store *s, MDB_txn *txn, uint64_t ino, uint64_t blob, size_t inline_bytes)
{
	uint64_t be = htobe64(ino);

	record_put(txn, s->inode, (MDB_val){8, &be}, INODE_HEADER, blob, payload_next(inline_bytes), inline_bytes, 0);
}

static void population_add(struct store *s, MDB_txn *txn, struct population *p)
{
	size_t bytes = random_size(100, TXN_BYTES);
	uint64_t blob = s->next_blob++;
	bool in_inode = bytes <= INLINE_IN_AGED;

	if (p->n == AGED_VALUES_MAX)
		die("population", ENOSPC);
	if (!in_inode)
		blob_append(s, txn, blob, 0, bytes);
	inode_put(s, txn, blob, blob, in_inode ? bytes : 0);
	p->v[p->n].blob = blob;
	p->v[p->n++].bytes = bytes;
	p->bytes += bytes;
}

static void population_drop(struct store *s, MDB_txn *txn, struct population *p)
{
	unsigned i = (unsigned)(random_next() % p->n);
	uint64_t be = htobe64(p->v[i].blob);
	MDB_val k = {8, &be};

	blob_delete(s, txn, p->v[i].blob);
	TRY(mdb_del(txn, s->inode, &k, NULL));
	p->bytes -= p->v[i].bytes;
	p->v[i] = p->v[--p->n];
}

/* Fills to the live size, then replaces and overwrites, with a reader pinning the pages of the last few transactions. */
static void store_age(struct store *s, struct population *p)
{
	MDB_txn *txn, *reader;
	unsigned commits = 0, replaced = 0, victim;

	TRY(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &reader));
	while (replaced < AGED_REPLACEMENTS) {
		if (commits++ % AGED_READER_EVERY == 0) {
			mdb_txn_reset(reader);
			TRY(mdb_txn_renew(reader));
		}
		TRY(mdb_txn_begin(s->env, NULL, 0, &txn));
		population_add(s, txn, p);
		for (; p->bytes > AGED_LIVE_BYTES; replaced++)
			population_drop(s, txn, p);
		TRY(mdb_txn_commit(txn));
		victim = (unsigned)(random_next() % p->n);
		if (p->v[victim].bytes >= PAGE)
			blob_overwrite(s, p->v[victim].blob, p->v[victim].bytes);
	}
	mdb_txn_abort(reader);
}

static void small_commits(struct store *s, double *ret_median, double *ret_p99)
{
	static double times[AGED_SMALL_COMMITS];

	for (unsigned i = 0; i < AGED_SMALL_COMMITS; i++) {
		MDB_txn *txn;
		double start = now();

		TRY(mdb_txn_begin(s->env, NULL, 0, &txn));
		inode_put(s, txn, random_next() % s->next_blob + (1ull << 40), 0, 100);
		TRY(mdb_txn_commit(txn));
		times[i] = (now() - start) * 1e6;
	}
	*ret_median = quantile(times, AGED_SMALL_COMMITS, 0.5);
	*ret_p99 = quantile(times, AGED_SMALL_COMMITS, 0.99);
}

static void aged_variant(const char *dir, unsigned variant, unsigned round)
{
	static struct population p;
	struct store s = {.pages = chunk_pages[variant], .next_blob = 1};
	double mib = AGED_WRITE_BYTES / (double)MIB, start = now();
	MDB_txn *txn;

	memset(&p, 0, sizeof p);
	random_state = SEED + round; /* the same life for every variant */
	store_open(&s, dir, "aged", MDB_NOSYNC);
	store_age(&s, &p);
	RESULT(0) = now() - start;
	RESULT(1) = store_file_bytes(&s) / (double)p.bytes;
	small_commits(&s, &RESULT(2), &RESULT(3));

	/* Room for the sequential value, in the holes of values deleted one by one. */
	for (size_t target = p.bytes - AGED_WRITE_BYTES; p.bytes > target;) {
		TRY(mdb_txn_begin(s.env, NULL, 0, &txn));
		population_drop(&s, txn, &p);
		TRY(mdb_txn_commit(txn));
	}
	RESULT(4) = mib / blob_write(&s, s.next_blob, AGED_WRITE_BYTES);
	/* Plain and advised take turns at being first: what lies below the page cache may remember the first read. */
	for (unsigned i = 0; i < 2; i++) {
		unsigned advise = turn(i, 2, round);

		store_cool(&s);
		RESULT(5 + advise) = mib / blob_read(&s, s.next_blob, advise);
	}
	RESULT(7) = mib / blob_read(&s, s.next_blob, false);
	store_remove(&s);
}

/* ---- inline: where a small value lives ---- */

struct inline_variant {
	struct store s;
	size_t bytes;
	bool in_inode;
	double put_us[INLINE_BLOCK * ROUNDS_MAX], get_us[INLINE_BLOCK * ROUNDS_MAX];
	double pages_written;
};

static void small_value_put(struct store *s, MDB_txn *txn, uint64_t ino, size_t bytes, bool in_inode)
{
	uint64_t blob = s->next_blob++;

	if (!in_inode)
		blob_append(s, txn, blob, 0, bytes);
	inode_put(s, txn, ino, blob, in_inode ? bytes : 0);
}

/* The old record is read first in both cases: its attributes must be kept, and it names the blob to delete. */
static void small_value_replace(struct inline_variant *v)
{
	uint64_t ino = random_next() % INLINE_INODES, be = htobe64(ino), old_blob;
	MDB_val k = {8, &be}, old;
	MDB_txn *txn;

	TRY(mdb_txn_begin(v->s.env, NULL, 0, &txn));
	TRY(mdb_get(txn, v->s.inode, &k, &old));
	memcpy(&old_blob, (char *)old.mv_data + 4, sizeof old_blob);
	small_value_put(&v->s, txn, ino, v->bytes, v->in_inode);
	if (!v->in_inode)
		blob_delete(&v->s, txn, old_blob);
	TRY(mdb_txn_commit(txn));
}

static void small_value_get(struct inline_variant *v)
{
	static char copy[2 * PAGE];
	unsigned char buf[KEY_LEN];
	uint64_t be = htobe64(random_next() % INLINE_INODES), blob;
	MDB_val k = {8, &be}, record;
	MDB_txn *txn;

	TRY(mdb_txn_begin(v->s.env, NULL, MDB_RDONLY, &txn));
	TRY(mdb_get(txn, v->s.inode, &k, &record));
	sink += checksum((char *)record.mv_data + 4, record.mv_size - 4);
	if (!v->in_inode) {
		memcpy(&blob, (char *)record.mv_data + 4, sizeof blob);
		k = chunk_key(buf, blob, 0, UINT32_MAX);
		TRY(mdb_get(txn, v->s.chunk, &k, &record));
		sink += checksum((char *)record.mv_data + 4, record.mv_size - 4);
	}
	memcpy(copy, record.mv_data, record.mv_size);
	mdb_txn_abort(txn);
}

/* Seconds to read every inode's header, as `ls -l` of everything does; nothing of the inline value is touched. */
static double inodes_scan(struct store *s)
{
	MDB_val k, v;
	MDB_txn *txn;
	MDB_cursor *c;
	uint64_t word;
	double start = now();

	TRY(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));
	TRY(mdb_cursor_open(txn, s->inode, &c));
	while (!mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
		memcpy(&word, (char *)v.mv_data + 4, sizeof word);
		sink += word;
	}
	mdb_cursor_close(c);
	mdb_txn_abort(txn);
	return now() - start;
}

static void inline_fill(struct inline_variant *v, const char *dir, unsigned number)
{
	char name[32];
	MDB_txn *txn;

	snprintf(name, sizeof name, "inline-%u", number);
	v->s.pages = 8;
	v->s.next_blob = 1;
	store_open(&v->s, dir, name, MDB_NOSYNC);
	for (unsigned i = 0; i < INLINE_INODES;) {
		TRY(mdb_txn_begin(v->s.env, NULL, 0, &txn));
		do
			small_value_put(&v->s, txn, i, v->bytes, v->in_inode);
		while (++i % 1000);
		TRY(mdb_txn_commit(txn));
	}
}

static void inline_round(struct inline_variant *v, unsigned round)
{
	double before = bytes_written(), start;

	for (unsigned i = 0; i < INLINE_BLOCK; i++) {
		start = now();
		small_value_replace(v);
		v->put_us[round * INLINE_BLOCK + i] = (now() - start) * 1e6;
	}
	v->pages_written += (bytes_written() - before) / PAGE / INLINE_BLOCK;
	for (unsigned i = 0; i < INLINE_BLOCK; i++) {
		start = now();
		small_value_get(v);
		v->get_us[round * INLINE_BLOCK + i] = (now() - start) * 1e6;
	}
}

static void bench_inline(const char *dir, unsigned rounds)
{
	enum { VARIANTS = 2 * COUNT(inline_sizes) };
	static struct inline_variant variants[VARIANTS];

	for (unsigned i = 0; i < VARIANTS; i++) {
		variants[i].bytes = inline_sizes[i / 2];
		variants[i].in_inode = i % 2 == 0;
		inline_fill(&variants[i], dir, i);
	}
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < VARIANTS; i++) {
			unsigned n = turn(i, VARIANTS, round);

			inline_round(&variants[n], round);
			results[n][0][round] = inodes_scan(&variants[n].s) / INLINE_INODES * 1e9;
		}
	puts("| value bytes | where | put us | pages written | get us | scan ns/inode | file MiB |\n|---|---|---|---|---|---|---|");
	for (unsigned i = 0; i < VARIANTS; i++) {
		struct inline_variant *v = &variants[i];
		size_t n = (size_t)rounds * INLINE_BLOCK;

		printf("| %zu | %s | %.1f | %.1f | %.2f | %.0f | %.0f |\n", v->bytes, v->in_inode ? "inode" : "chunk",
			quantile(v->put_us, n, 0.5), v->pages_written / rounds, quantile(v->get_us, n, 0.5), result(i, 0, rounds),
			store_file_bytes(&v->s) / MIB);
		store_remove(&v->s);
	}
}

/* ---- scan: a mixed population under several inline limits ---- */

static void scan_fill(struct store *s, size_t limit)
{
	MDB_txn *txn;

	random_state = SEED; /* the same population under every limit */
	for (unsigned i = 0; i < SCAN_INODES;) {
		TRY(mdb_txn_begin(s->env, NULL, 0, &txn));
		do {
			size_t bytes = random_size(64, 8192);

			small_value_put(s, txn, i, bytes, bytes <= limit);
		} while (++i % 1000);
		TRY(mdb_txn_commit(txn));
	}
}

static double inode_table_mib(struct store *s)
{
	MDB_stat st;
	MDB_txn *txn;

	TRY(mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn));
	TRY(mdb_stat(txn, s->inode, &st));
	mdb_txn_abort(txn);
	return (double)(st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) * PAGE / MIB;
}

static void scan_variant(const char *dir, unsigned variant, unsigned round)
{
	struct store s = {.pages = 8, .next_blob = 1};

	store_open(&s, dir, "scan", MDB_NOSYNC);
	scan_fill(&s, inline_limits[variant]);
	store_cool(&s);
	RESULT(0) = inodes_scan(&s) * 1e3;
	inodes_scan(&s); /* the page faults of a fresh mapping */
	RESULT(1) = inodes_scan(&s) * 1e9 / SCAN_INODES;
	RESULT(2) = inode_table_mib(&s);
	RESULT(3) = store_file_bytes(&s) / MIB;
	store_remove(&s);
}

/* ---- which to run ---- */

static const struct bench {
	const char *name, *header;
	const unsigned *variants;
	unsigned variants_n, columns, rounds;
	void (*measure)(const char *dir, unsigned variant, unsigned round);
} benches[] = {
	{"chunk",
		"pages | write, flushed MiB/s | write, NOSYNC MiB/s | read, cold MiB/s | read, warm MiB/s | file / data "
		"| 4 KiB overwrite us | p99 us | pages written",
		chunk_pages, COUNT(chunk_pages), 8, 4, chunk_variant},
	{"aged",
		"pages | ageing s | file / live | small commit us | p99 us | write, NOSYNC MiB/s | read, cold MiB/s "
		"| cold, advised MiB/s | read, warm MiB/s",
		chunk_pages, COUNT(chunk_pages), 8, 3, aged_variant},
	{"scan", "limit bytes | scan, cold ms | scan, warm ns/inode | inode table MiB | file MiB", inline_limits,
		COUNT(inline_limits), 4, 5, scan_variant},
};

static void bench_run(const struct bench *b, const char *dir, unsigned rounds)
{
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < b->variants_n; i++)
			b->measure(dir, turn(i, b->variants_n, round), round);
	print_table(b->header, b->variants, b->variants_n, b->columns, rounds);
}

static int usage(void)
{
	fprintf(stderr, "usage: layout_bench chunk|aged|inline|scan DIR [ROUNDS, at most %d]\n", ROUNDS_MAX);
	return 2;
}

int main(int argc, char **argv)
{
	int rounds = argc == 4 ? atoi(argv[3]) : 0;

	if (argc < 3 || argc > 4 || (argc == 4 && (rounds < 1 || rounds > ROUNDS_MAX)))
		return usage();
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (char)(random_next() >> 32);
	if (!strcmp(argv[1], "inline"))
		return bench_inline(argv[2], rounds ? (unsigned)rounds : ROUNDS_MAX), 0;
	for (size_t i = 0; i < COUNT(benches); i++)
		if (!strcmp(argv[1], benches[i].name)) {
			bench_run(&benches[i], argv[2], rounds ? (unsigned)rounds : benches[i].rounds);
			return 0;
		}
	return usage();
}
