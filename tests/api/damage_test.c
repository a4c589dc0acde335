/* Bad stores and full disks: another format, a cut file, bytes that rotted, no space.
 *
 * Whatever happens to a store's files, each key gives its right bytes or an error.  Every damaged store is opened in a child,
 * so that a crash and a hang are seen and counted. */
#include "api.h"

#include <ctype.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

enum { KEYS = 60, FINE = 0, ERROR = 3, WRONG = 4, MISSING = 5 };

static size_t length_of(int i)
{
	static const size_t lengths[] = {0, 10, 900, 5000, 70000};

	return lengths[i % 5] + (size_t)i;
}

static void key_of(int i, char *key)
{
	sprintf(key, "dir%d/key%d", i % 7, i);
}

/* Keys of every size, some replaced and deleted, so that the file has free pages too. */
static void build(const char *path)
{
	struct kvfs_store *store = api_open(path, KVFS_CREATE);
	char key[40];

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < KEYS; i++) {
			void *data = api_bytes(length_of(i), (uint64_t)i + 1);
			key_of(i, key);
			assert_ok(kvfs_put(store, key, data, length_of(i), NULL, NULL));
			free(data);
		}
	assert_ok(kvfs_put(store, "gone", "x", 1, NULL, NULL));
	assert_ok(kvfs_del(store, "gone"));
	kvfs_close(store);
}

static int judge(struct kvfs_store *store, int i)
{
	char key[40];
	void *got, *want = NULL;
	size_t len;

	key_of(i, key);
	int rc = kvfs_get(store, key, &got, &len);
	if (rc)
		return rc == -ENOENT || rc == -ENOTDIR ? MISSING : ERROR;
	want = api_bytes(length_of(i), (uint64_t)i + 1);
	rc = len == length_of(i) && memcmp(got, want, len) == 0 ? FINE : WRONG;
	free(want);
	free(got);
	return rc;
}

/* Reads everything by name and by list, and tries a change; the result is the worst that it saw. */
static int look(void *arg)
{
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT};
	struct kvfs_store *store;
	struct kvfs_cursor *cur;
	struct kvfs_entry entry;
	int worst = FINE, rc;

	if (freopen("/dev/null", "w", stderr) == NULL)
		return 1;
	if (api_open_as(arg, 0, KVFS_NONE, &store))
		return ERROR;
	for (int i = 0; i < KEYS; i++) {
		rc = judge(store, i);
		worst = rc > worst ? rc : worst;
	}
	rc = kvfs_list(store, "", &opt, &cur);
	if (rc == 0) {
		long entries = 0;
		while ((rc = kvfs_cursor_next(cur, &entry)) == 1 && ++entries < 100000)
			;
		kvfs_cursor_close(cur);
		if (entries >= 100000)
			worst = WRONG;
	}
	if (rc < 0 && worst < ERROR)
		worst = ERROR;
	if ((api_put(store, "dir1/new", "value") || kvfs_del(store, "dir1/new")) && worst < ERROR)
		worst = ERROR;
	kvfs_close(store);
	return worst;
}

struct tally {
	int fine, error, wrong, missing, crash, hang;
};

static void count(struct tally *t, const char *path)
{
	int status = api_wait(api_fork(look, (void *)path, api_is_slow() ? 40 : 10));

	if (WIFSIGNALED(status)) {
		if (WTERMSIG(status) == SIGALRM)
			t->hang++;
		else
			t->crash++;
		return;
	}
	switch (WEXITSTATUS(status)) {
	case FINE:
		t->fine++;
		break;
	case ERROR:
		t->error++;
		break;
	case MISSING:
		t->missing++;
		break;
	case WRONG:
		t->wrong++;
		break;
	default: /* a sanitizer's own exit */
		t->crash++;
	}
}

static void report(const char *what, const struct tally *t)
{
	print_message("\t%s: %d fine, %d errors, %d with missing keys, %d wrong, %d crashed, %d hung\n", what, t->fine, t->error,
		t->missing, t->wrong, t->crash, t->hang);
}

static void *read_all(const char *path, size_t *ret_len)
{
	int fd = open(path, O_RDONLY);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	char *data = malloc((size_t)st.st_size + 1);
	assert_non_null(data);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	data[st.st_size] = '\0';
	close(fd);
	*ret_len = (size_t)st.st_size;
	return data;
}

static void write_all(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

/* ---- the file FORMAT ---- */

static void assert_open_says(const char *path, int want, const char *word)
{
	struct kvfs_options opt = {.size = sizeof(opt), .durability = KVFS_NONE};
	struct kvfs_error err = {0};
	struct kvfs_store *store = NULL;

	assert_err(kvfs_open(path, &opt, &store, &err), want);
	print_message("\t%s\n", err.text);
	assert_true(err.text[0] && !strchr(err.text, '\n'));
	assert_true(!word || strstr(err.text, word));
}

static void test_other_formats(void **state)
{
	struct api *a = *state;
	char file[200];
	size_t len;

	build(a->path);
	snprintf(file, sizeof(file), "%s/FORMAT", a->path);
	char *text = read_all(file, &len);
	print_message("%s", text);

	/* Each number in turn made another: the format's, LMDB's, the page size ... none may be taken for this one's. */
	int numbers = 0;
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)text[i]) || (i && isalnum((unsigned char)text[i - 1])) ||
			(i && strchr(".-", text[i - 1])))
			continue;
		char *changed = malloc(len + 4);
		memcpy(changed, text, i);
		memcpy(changed + i, "77", 2);
		memcpy(changed + i + 2, text + i, len - i);
		write_all(file, changed, len + 2);
		free(changed);
		struct kvfs_store *store;
		int rc = api_open_as(a->path, 0, KVFS_NONE, &store);
		assert_true(rc == 0 || rc == -EMEDIUMTYPE || rc == -EUCLEAN);
		if (rc == 0)
			kvfs_close(store);
		else
			assert_open_says(a->path, rc, NULL);
		if (numbers++ == 0)
			assert_err(rc, -EMEDIUMTYPE);
	}
	assert_true(numbers > 0);

	write_all(file, "", 0);
	assert_open_says(a->path, -EMEDIUMTYPE, NULL);
	write_all(file, "\0\1\2\377binary", 10);
	assert_open_says(a->path, -EMEDIUMTYPE, NULL);
	char *huge = calloc(1, 1 << 20);
	memset(huge, 'k', 1 << 20);
	write_all(file, huge, 1 << 20);
	free(huge);
	assert_open_says(a->path, -EMEDIUMTYPE, NULL);
	/* Without the file there is still the store's own record of its format. */
	assert_int_equal(unlink(file), 0);
	int without = api_wait(api_fork(look, a->path, 20));
	assert_true(without == FINE || without == ERROR << 8);

	write_all(file, text, len);
	free(text);
	assert_int_equal(api_wait(api_fork(look, a->path, 20)), FINE);
}

/* ---- cut files ---- */

static void test_missing_files(void **state)
{
	struct api *a = *state;
	char file[200], aside[200];

	build(a->path);
	/* Without the lock file (a copied store) it is complete; without the data it is not a store, and must not become an empty one. */
	snprintf(file, sizeof(file), "%s/lock.mdb", a->path);
	assert_int_equal(unlink(file), 0);
	snprintf(file, sizeof(file), "%s/doors", a->path);
	assert_true(unlink(file) == 0 || errno == ENOENT);
	assert_int_equal(api_wait(api_fork(look, a->path, 20)), FINE);
	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	snprintf(aside, sizeof(aside), "%s/aside", a->dir);
	assert_int_equal(rename(file, aside), 0);
	struct kvfs_store *store;
	int rc = api_open_as(a->path, 0, KVFS_NONE, &store);
	assert_true(rc == -EUCLEAN || rc == -EMEDIUMTYPE || rc == -ENOENT);
	assert_int_equal(access(file, F_OK), -1);
	assert_int_equal(rename(aside, file), 0);
	assert_int_equal(api_wait(api_fork(look, a->path, 20)), FINE);
}

static void test_cut_data(void **state)
{
	struct api *a = *state;
	struct tally t = {0};
	char file[200];
	size_t len;
	struct support_rng rng = support_rng(1);

	build(a->path);
	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	char *data = read_all(file, &len);
	char *longer = calloc(1, len + 5000);
	static const size_t ends[] = {0, 1, 100, 4095, 4096, 8191, 8192, 12288, 20000};
	for (unsigned i = 0; i < 9 + api_times(60); i++) {
		size_t cut = i < 9 ? ends[i] : support_below(&rng, len);
		/* A sound file has whole pages, and may even lack some at its end. */
		cut -= i % 4 ? cut % 4096 : 0;
		write_all(file, data, cut);
		count(&t, a->path);
	}
	report("cut", &t);
	assert_int_equal(t.wrong + t.missing + t.crash + t.hang, 0);
	assert_true(t.error > 0);
	write_all(file, data, len);
	assert_int_equal(api_wait(api_fork(look, a->path, 20)), FINE);

	/* Bytes after the end are nobody's. */
	memcpy(longer, data, len);
	memset(longer + len, 0xa5, 5000);
	write_all(file, longer, len + 5000);
	free(longer);
	free(data);
	assert_int_equal(api_wait(api_fork(look, a->path, 20)), FINE);
}

/* The number of the last transaction that there can be: what came after it would be older than it. */
static void test_last_transaction(void **state)
{
	struct api *a = *state;
	char file[200];
	size_t len;
	const uint64_t last = UINT64_MAX;

	build(a->path);
	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	char *data = read_all(file, &len);
	memcpy(data + 4096 + 144, &last, sizeof(last));
	write_all(file, data, len);
	assert_open_says(a->path, -EUCLEAN, "meta page");
	free(data);
}

/* The number of one of the two transactions rots: it is told.  Not if the newest state has that of the one before the other then, for so does a
 * commit whose last write failed. */
static void test_rotted_transaction(void **state)
{
	struct api *a = *state;
	char file[200];
	size_t len;
	static const int errors[] = {-1000, -4, -3, -1, 1, 2, 3, 4, 1000};
	uint64_t good, bad;

	build(a->path);
	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	char *data = read_all(file, &len);
	for (unsigned i = 0; i < 2 * 9; i++) {
		char *at = data + i % 2 * 4096 + 144;
		memcpy(&good, at, sizeof(good));
		bad = good + (uint64_t)errors[i / 2];
		memcpy(at, &bad, sizeof(bad));
		write_all(file, data, len);
		assert_open_says(a->path, -EUCLEAN, "meta page");
		memcpy(at, &good, sizeof(good));
	}
	write_all(file, data, len);
	free(data);
	assert_int_equal(api_wait(api_fork(look, a->path, 20)), FINE);
}

static int read_but_not_write(void *arg)
{
	struct kvfs_store *store = api_open(arg, 0);
	char key[40];
	int bad = FINE;
	key_of(1, key);
	for (int i = 0; i < KEYS && bad == FINE; i++)
		bad = judge(store, i);
	if (bad == FINE && (kvfs_put(store, key, "x", 1, NULL, NULL) != -EUCLEAN || judge(store, 1) != FINE))
		bad = WRONG;
	kvfs_close(store);
	return bad;
}

/* The list of free pages is for writers: who reads needs it not. */
static void test_damaged_free_list(void **state)
{
	struct api *a = *state;
	char file[200];
	size_t len;
	uint64_t txns[2], root;

	build(a->path);
	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	char *data = read_all(file, &len);
	for (int i = 0; i < 2; i++)
		memcpy(&txns[i], data + i * 4096 + 144, sizeof(txns[i]));
	memcpy(&root, data + (txns[1] > txns[0] ? 4096 : 0) + 80, sizeof(root));
	assert_true(root < len / 4096);
	memset(data + root * 4096, 0, 4096);
	write_all(file, data, len);
	free(data);
	assert_int_equal(api_wait(api_fork(read_but_not_write, a->path, 20)), FINE);
}

/* The key of a chunk rots: the place where it was is no hole. */
static void test_rotted_chunk_of_sparse_value(void **state)
{
	struct api *a = *state;
	struct kvfs_stream *st;
	char file[200], part[3000];
	size_t len;
	int rotted = 0;
	enum { FAR = 6 * 32736, ALSO = 4 };

	memset(part, 7, sizeof(part));
	struct kvfs_store *store = api_open(a->path, KVFS_CREATE);
	assert_ok(kvfs_stream_open(store, "sparse", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0, &st));
	for (int at = 0; at < 3; at++) /* with an end that is another chunk */
		assert_int_equal(kvfs_stream_write(st, part, sizeof(part), (uint64_t)at * FAR), sizeof(part));
	assert_ok(kvfs_stream_close(st));
	kvfs_close(store);

	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	char *data = read_all(file, &len);
	static const char zeros[6];
	for (char *key = data + 8; key + 16 < data + len; key++) /* of 16 bytes: blob, index, generation */
		if (key[-2] == 16 && key[-4] == 1 && !memcmp(key, zeros, 6) && !memcmp(key + 8, "\0\0\0\6", 4))
			key[11] = ALSO, rotted++;
	assert_int_equal(rotted, 1);
	write_all(file, data, len);
	free(data);

	store = api_open(a->path, 0);
	assert_ok(kvfs_stream_open(store, "sparse", KVFS_STREAM_READ, 0, &st));
	assert_int_equal(kvfs_stream_read(st, part, 100, 0), 100);
	assert_int_equal(kvfs_stream_read(st, part, 100, FAR), -EUCLEAN);
	assert_int_equal(kvfs_stream_read(st, part, 100, FAR / 6 * ALSO), -EUCLEAN);
	kvfs_stream_abort(st);
	kvfs_close(store);
}

/* Other files in the place of data.mdb and of the files beside it. */
static void test_foreign_files(void **state)
{
	struct api *a = *state;
	struct tally t = {0};
	char file[200];
	static const char *const names[] = {"data.mdb", "lock.mdb", "doors"};
	size_t len;

	build(a->path);
	for (int n = 0; n < 3; n++) {
		snprintf(file, sizeof(file), "%s/%s", a->path, names[n]);
		if (access(file, F_OK))
			continue;
		char *good = read_all(file, &len);
		char *junk = api_bytes(65536, 99);
		struct tally one = {0};
		write_all(file, junk, 65536);
		count(&one, a->path);
		write_all(file, junk, 17);
		count(&one, a->path);
		memset(junk, 0, 65536);
		write_all(file, junk, 65536);
		count(&one, a->path);
		unlink(file);
		assert_int_equal(mkfifo(file, 0600), 0);
		count(&one, a->path);
		report(names[n], &one);
		t.wrong += one.wrong + one.missing;
		t.hang += one.hang;
		t.crash += one.crash;
		free(junk);
		unlink(file);
		write_all(file, good, len);
		free(good);
	}
	assert_int_equal(t.wrong + t.hang + t.crash, 0);
	assert_int_equal(api_wait(api_fork(look, a->path, 20)), FINE);
}

/* ---- rot ---- */

/* A page, or one byte anywhere: right bytes or an error, and no key is missing without one. */
static void test_rot(void **state)
{
	struct api *a = *state;
	struct tally bytes = {0}, pages = {0};
	struct support_rng rng = support_rng(1);
	char file[200];
	size_t len;

	build(a->path);
	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	unsigned char *data = read_all(file, &len);
	unsigned char *bad = malloc(len);
	for (unsigned i = 0; i < api_times(250); i++) {
		memcpy(bad, data, len);
		bad[support_below(&rng, len)] ^= (unsigned char)(1 + support_below(&rng, 255));
		write_all(file, bad, len);
		count(&bytes, a->path);
	}
	report("one byte", &bytes);
	for (unsigned i = 0; i < api_times(100); i++) {
		size_t at = support_below(&rng, len / 4096) * 4096;
		memcpy(bad, data, len);
		api_fill(bad + at, 4096, support_random(&rng));
		write_all(file, bad, len);
		count(&pages, a->path);
	}
	report("one page", &pages);
	free(bad);
	free(data);
	assert_int_equal(bytes.wrong + bytes.missing + bytes.crash + bytes.hang, 0);
	assert_int_equal(pages.wrong + pages.missing + pages.crash + pages.hang, 0);
	assert_true(bytes.error > 0 && pages.error > 0);
}

/* The damaged record is named. */
static void test_damage_is_named(void **state)
{
	struct api *a = *state;
	char file[200];
	size_t len;
	struct kvfs_error err = {0};

	struct kvfs_store *store = api_open(a->path, KVFS_CREATE);
	char *value = api_bytes(300000, 5);
	assert_ok(kvfs_put(store, "big", value, 300000, NULL, NULL));
	assert_ok(api_put(store, "small", "good"));
	kvfs_close(store);
	snprintf(file, sizeof(file), "%s/data.mdb", a->path);
	char *data = read_all(file, &len);
	char *at = memmem(data, len, value + 150000, 64);
	assert_non_null(at);
	at[3] ^= 1;
	write_all(file, data, len);
	free(data);

	store = api_open(a->path, 0);
	void *got = NULL;
	char part[10];
	size_t got_len = 0;
	assert_err(kvfs_get(store, "big", &got, &got_len), -EUCLEAN);
	assert_null(got);
	kvfs_damage(store, &err);
	print_message("\t%s\n", err.text);
	assert_int_equal(err.code, -EUCLEAN);
	assert_true(strlen(err.text) > 10 && !strchr(err.text, '\n'));
	assert_err(kvfs_get_into(store, "big", part, 10, 150000), -EUCLEAN);
	assert_err(kvfs_get_into(store, "big", part, 10, 0), 10);
	assert_memory_equal(part, value, 10);
	assert_text(store, "small", "good");
	assert_ok(kvfs_put(store, "big", value, 300000, NULL, NULL));
	assert_value(store, "big", value, 300000);
	kvfs_close(store);
	free(value);
}

/* ---- full disks ---- */

static bool mount_small(const char *path, const char *size)
{
	char opt[64];

	snprintf(opt, sizeof(opt), "size=%s,mode=0755", size);
	return (mkdir(path, 0755) == 0 || errno == EEXIST) && mount("tmpfs", path, "tmpfs", 0, opt) == 0;
}

struct full {
	const char *dir;
	char path[200];
	enum kvfs_durability level;
};

/* Fills the disk from inside and outside, and wants all that was acknowledged. */
static int fill_child(void *arg)
{
	struct full *f = arg;
	struct kvfs_store *store;
	char key[40], value[3000];
	int n = 0, rc = 0;

	CHECK(api_open_as(f->path, KVFS_CREATE, KVFS_FULL, &store) == 0);
	while (rc == 0 && n < 20000) {
		api_fill(value, sizeof(value), (uint64_t)n);
		snprintf(key, sizeof(key), "k%d", n);
		rc = kvfs_put(store, key, value, sizeof(value), NULL, NULL);
		n += rc == 0;
	}
	fprintf(stderr, "\tfull after %d values: %s\n", n, strerror(-rc));
	CHECK(rc == -ENOSPC);
	CHECK(n > 100);
	/* What is tried again and again may find room in the end, and is then there; what failed is not. */
	rc = -ENOSPC;
	for (int i = 0; i < 20 && rc; i++)
		rc = kvfs_put(store, "again", value, sizeof(value), NULL, NULL);
	CHECK(kvfs_exists(store, "again") == (rc == 0));
	for (int i = 0; i < n; i++) {
		api_fill(value, sizeof(value), (uint64_t)i);
		snprintf(key, sizeof(key), "k%d", i);
		CHECK(api_has_value(store, key, value, sizeof(value)));
	}
	kvfs_close(store);

	/* A full store opens, and deleting makes room. */
	CHECK(api_open_as(f->path, 0, KVFS_FULL, &store) == 0);
	int deleted = 0;
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		deleted += kvfs_del(store, key) == 0;
	}
	fprintf(stderr, "\tdeleted %d of %d on the full disk\n", deleted, n);
	CHECK(deleted == n);
	CHECK(kvfs_put(store, "again", value, sizeof(value), NULL, NULL) == 0);
	kvfs_close(store);
	return 0;
}

/* Not a page is free, in the file or on the disk: puts of a byte fail, deletions do not, and what they free is used. */
static int no_page_child(void *arg)
{
	struct full *f = arg;
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .durability = f->level};
	struct kvfs_store *store;
	char key[40], value[3000], filler[220];
	int n = 0, rc = 0;

	CHECK(kvfs_open(f->path, &opt, &store, NULL) == 0);
	snprintf(filler, sizeof(filler), "%s/filler", f->dir);
	int fd = open(filler, O_WRONLY | O_CREAT, 0600);
	CHECK(fd >= 0);
	for (; rc == 0 && n < 20000; n++) {
		api_fill(value, sizeof(value), (uint64_t)n);
		snprintf(key, sizeof(key), "k%d", n);
		rc = kvfs_put(store, key, value, sizeof(value), NULL, NULL);
	}
	CHECK(rc == -ENOSPC);
	for (int failed = 0, i = 0; failed < 20 && i < 20000; i++) { /* what is free in the file */
		while (write(fd, value, 512) > 0)
			;
		snprintf(key, sizeof(key), "small%d", i);
		failed = kvfs_put(store, key, "v", 1, NULL, NULL) == -ENOSPC ? failed + 1 : 0;
	}
	int deleted = 0, first = -1;
	for (int i = 0; i < n - 1; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		rc = kvfs_del(store, key);
		deleted += rc == 0;
		if (rc && first < 0)
			first = i;
	}
	fprintf(stderr, "\tdeleted %d of %d without a free page; the first that failed: %d\n", deleted, n - 1, first);
	CHECK(deleted == n - 1);
	CHECK(kvfs_put(store, "again", value, sizeof(value), NULL, NULL) == 0);
	close(fd);
	kvfs_close(store);
	return 0;
}

/* The same handle goes on when there is space again; streams and transactions that do not fit change nothing. */
static int grow_child(void *arg)
{
	struct full *f = arg;
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .durability = KVFS_NONE, .buffer_size = 1 << 20};
	struct kvfs_store *store;
	struct kvfs_stream *st;
	char *big = malloc(64 << 20);
	int rc;

	CHECK(big);
	api_fill(big, 64 << 20, 3);
	CHECK(kvfs_open(f->path, &opt, &store, NULL) == 0);
	CHECK(api_put(store, "big", "old value") == 0);
	rc = kvfs_put(store, "big", big, 64 << 20, NULL, NULL);
	CHECK(rc == -ENOSPC);
	CHECK(api_has_value(store, "big", "old value", 9));
	CHECK(kvfs_stream_open(store, "big", KVFS_STREAM_WRITE | KVFS_STREAM_TRUNCATE, 0, &st) == 0);
	rc = 0;
	for (int i = 0; i < 64 && rc >= 0; i++)
		rc = (int)kvfs_stream_write(st, big + ((size_t)i << 20), 1 << 20, (uint64_t)i << 20);
	CHECK(rc == -ENOSPC);
	CHECK(kvfs_stream_close(st) != 0);
	CHECK(api_has_value(store, "big", "old value", 9));
	CHECK(mount("tmpfs", f->dir, "tmpfs", MS_REMOUNT, "size=400m") == 0);
	for (int i = 0; i < 3; i++)
		CHECK(kvfs_put(store, "big", big, 64 << 20, NULL, NULL) == 0);
	CHECK(api_has_value(store, "big", big, 64 << 20));
	kvfs_close(store);
	free(big);
	return 0;
}

static void on_small_disk_at(struct api *a, const char *size, api_child_fn *fn, enum kvfs_durability level)
{
	struct full f = {.dir = a->path, .level = level};

	if (!mount_small(a->path, size))
		skip();
	snprintf(f.path, sizeof(f.path), "%s/s", a->path);
	int status = api_wait(api_fork(fn, &f, 60));
	assert_int_equal(umount2(a->path, MNT_DETACH), 0);
	assert_int_equal(status, 0);
}

static void on_small_disk(struct api *a, const char *size, api_child_fn *fn)
{
	on_small_disk_at(a, size, fn, KVFS_FULL);
}

static void test_no_page_free(void **state)
{
	on_small_disk_at(*state, "12m", no_page_child, KVFS_FULL);
}

static void test_no_page_free_relaxed(void **state)
{
	on_small_disk_at(*state, "12m", no_page_child, KVFS_RELAXED);
}

static void test_full_disk(void **state)
{
	on_small_disk(*state, "6m", fill_child);
}

static void test_disk_that_grows(void **state)
{
	on_small_disk(*state, "20m", grow_child);
}

static int create_child(void *arg)
{
	struct full *f = arg;
	struct kvfs_store *store;
	struct kvfs_error err = {0};
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE};
	char filler[220];

	/* With every amount of room from none: a store, or an error and nothing that stands in the way of the next attempt. */
	snprintf(filler, sizeof(filler), "%s/filler", f->dir);
	int fd = open(filler, O_RDWR | O_CREAT, 0600), rc = -1;
	struct statvfs vfs;
	CHECK(fd >= 0 && statvfs(f->dir, &vfs) == 0);
	off_t room = (off_t)(vfs.f_bfree * vfs.f_bsize), keep = 0;
	for (; keep <= room && rc != 0; keep += 4096) {
		CHECK(ftruncate(fd, 0) == 0 && posix_fallocate(fd, 0, room - keep) == 0);
		rc = kvfs_open(f->path, &opt, &store, &err);
		if (rc == 0)
			break;
		if (rc != -ENOSPC)
			fprintf(stderr, "\twith %ld bytes free: %s (%s)\n", (long)keep, strerror(-rc), err.text);
		CHECK(rc == -ENOSPC);
	}
	fprintf(stderr, "\ta store is made when %ld bytes are free\n", (long)keep);
	CHECK(rc == 0);
	kvfs_close(store);

	/* No byte free, and neither lock file nor table of doors there: an answer, not a crash. */
	snprintf(filler, sizeof(filler), "%s/lock.mdb", f->path);
	unlink(filler);
	snprintf(filler, sizeof(filler), "%s/doors", f->path);
	unlink(filler);
	CHECK(statvfs(f->dir, &vfs) == 0);
	CHECK(posix_fallocate(fd, 0, room - keep + (off_t)(vfs.f_bfree * vfs.f_bsize)) == 0);
	for (unsigned flags = 0; flags <= KVFS_RDONLY; flags++) {
		opt.flags = flags;
		rc = kvfs_open(f->path, &opt, &store, &err);
		fprintf(stderr, "\topening it without a byte free: %s\n", rc ? err.text : "works");
		CHECK(rc == 0 || rc == -ENOSPC);
		if (rc == 0)
			kvfs_close(store);
	}
	close(fd);
	return 0;
}

static void test_creation_on_full_disk(void **state)
{
	on_small_disk(*state, "2m", create_child);
}

static int limit_child(void *arg)
{
	const struct api *a = arg;
	struct rlimit lim = {3 << 20, 3 << 20};
	struct kvfs_store *store;
	char *big = malloc(8 << 20);

	CHECK(big);
	api_fill(big, 8 << 20, 1);
	CHECK(setrlimit(RLIMIT_FSIZE, &lim) == 0);
	signal(SIGXFSZ, SIG_IGN);
	CHECK(api_open_as(a->path, KVFS_CREATE, KVFS_NONE, &store) == 0);
	CHECK(api_put(store, "k", "v") == 0);
	int rc = kvfs_put(store, "big", big, 8 << 20, NULL, NULL);
	fprintf(stderr, "\tpast the limit of file size: %s\n", strerror(-rc));
	CHECK(rc == -EFBIG || rc == -ENOSPC);
	CHECK(api_has_value(store, "k", "v", 1));
	CHECK(api_put(store, "k", "w") == 0);
	CHECK(kvfs_exists(store, "big") == 0);
	kvfs_close(store);
	free(big);
	return 0;
}

static void test_file_size_limit(void **state)
{
	assert_child(api_fork(limit_child, *state, 20));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST_DIR(test_other_formats),
		API_TEST_DIR(test_missing_files),
		API_TEST_DIR(test_cut_data),
		API_TEST_DIR(test_last_transaction),
		API_TEST_DIR(test_rotted_transaction),
		API_TEST_DIR(test_damaged_free_list),
		API_TEST_DIR(test_rotted_chunk_of_sparse_value),
		API_TEST_DIR(test_foreign_files),
		API_TEST_DIR(test_rot),
		API_TEST_DIR(test_damage_is_named),
		API_TEST_DIR(test_full_disk),
		API_TEST_DIR(test_no_page_free),
		API_TEST_DIR(test_no_page_free_relaxed),
		API_TEST_DIR(test_disk_that_grows),
		API_TEST_DIR(test_creation_on_full_disk),
		API_TEST_DIR(test_file_size_limit),
	};

	return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
