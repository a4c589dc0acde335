/* External merge sort.
 *
 * A buffer is filled with records from its beginning, and with pointers to them from its end; when they meet, it is sorted and written as a run.
 * When there are FAN runs of one level, they are merged to one of the next: so a record is written once for each level, and open
 * files are few.  Runs stand in the order in which their records came. */
#include "sort.h"

#include <errno.h>
#include <fcntl.h>
#include <kvfs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FAN = 64,
	RUNS_MAX = FAN * 6, /* more than any disk has room for */
};

struct head {
	size_t key_len, len; /* the key with its NUL */
};

struct run {
	FILE *file;
	int level;
	size_t place; /* in sorter.run, that is its age */
	struct head head; /* of the next record; its data are what the file is read for next */
	char key[KVFS_KEY_MAX + 1];
};

struct sorter {
	char *buf;
	size_t cap, used, n; /* of the buffer; records in it */
	struct run *run[RUNS_MAX];
	size_t n_runs;
	struct run **heap; /* of what is being merged: the next record is of heap[0] */
	size_t n_heap;
	bool taken; /* that record was given out */
	char *value;
	size_t value_cap;
};

/* ---- files ---- */

static struct run *run_new(void)
{
	const char *dir = getenv("TMPDIR");
	struct run *run = calloc(1, sizeof(*run));
	int fd, error;

	if (!run) {
		errno = ENOMEM;
		return NULL;
	}
	fd = open(dir && *dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	run->file = fd < 0 ? NULL : fdopen(fd, "w+");
	if (run->file)
		return run;
	error = errno;
	if (fd >= 0)
		close(fd);
	free(run);
	errno = error;
	return NULL;
}

static void run_free(struct run *run)
{
	if (!run)
		return;
	fclose(run->file);
	free(run);
}

static int run_write(struct run *run, const struct head *head, const char *key, const void *data)
{
	if (fwrite(head, sizeof(*head), 1, run->file) != 1 || fwrite(key, head->key_len, 1, run->file) != 1 ||
		(head->len && fwrite(data, head->len, 1, run->file) != 1))
		return errno ? -errno : -EIO;
	return 0;
}

/* Goes to the first record: of a run that was written. */
static int run_rewind(struct run *run)
{
	return fflush(run->file) || fseeko(run->file, 0, SEEK_SET) ? -errno : 0;
}

/* Reads the next record's head and key.  1, 0 at the end, or a negative errno. */
static int run_next(struct run *run)
{
	if (fread(&run->head, sizeof(run->head), 1, run->file) != 1)
		return ferror(run->file) ? -EIO : 0;
	if (run->head.key_len > sizeof(run->key) || fread(run->key, run->head.key_len, 1, run->file) != 1)
		return -EIO;
	return 1;
}

/* ---- merging ---- */

/* Among equal keys the older run goes first. */
static bool goes_first(const struct run *a, const struct run *b)
{
	int d = kvfs_key_compare(a->key, b->key);

	return d < 0 || (d == 0 && a->place < b->place);
}

static void sift_down(struct sorter *s, size_t i)
{
	for (size_t child; (child = 2 * i + 1) < s->n_heap; i = child) {
		struct run *run = s->heap[i];

		if (child + 1 < s->n_heap && goes_first(s->heap[child + 1], s->heap[child]))
			child++;
		if (!goes_first(s->heap[child], run))
			return;
		s->heap[i] = s->heap[child];
		s->heap[child] = run;
	}
}

/* Begins to merge the last n runs. */
static int merge_begin(struct sorter *s, size_t n)
{
	s->n_heap = 0;
	s->taken = false;
	for (size_t i = s->n_runs - n; i < s->n_runs; i++) {
		int r = run_rewind(s->run[i]);

		if (r == 0)
			r = run_next(s->run[i]);
		if (r < 0)
			return r;
		s->run[i]->place = i;
		if (r > 0)
			s->heap[s->n_heap++] = s->run[i];
	}
	for (size_t i = s->n_heap; i-- > 0;)
		sift_down(s, i);
	return 0;
}

/* The next record of the merge: its run, and its data in s->value.  1, 0 at the end, or a negative errno. */
static int merge_next(struct sorter *s, struct run **ret)
{
	struct run *run;
	size_t len;
	int r;

	if (s->taken && s->n_heap) {
		r = run_next(s->heap[0]);
		if (r < 0)
			return r;
		if (r == 0)
			s->heap[0] = s->heap[--s->n_heap];
		sift_down(s, 0);
	}
	if (s->n_heap == 0)
		return 0;
	run = s->heap[0];
	len = run->head.len;
	if (len > s->value_cap) {
		free(s->value);
		s->value = malloc(len);
		s->value_cap = s->value ? len : 0;
	}
	if (len && !s->value)
		return -ENOMEM;
	if (len && fread(s->value, len, 1, run->file) != 1)
		return -EIO;
	s->taken = true;
	*ret = run;
	return 1;
}

/* The last FAN runs become one of the next level. */
static int merge_last(struct sorter *s)
{
	struct run *merged = run_new(), *run;
	int r;

	if (!merged)
		return -errno;
	merged->level = s->run[s->n_runs - 1]->level + 1;
	r = merge_begin(s, FAN);
	while (r == 0 && (r = merge_next(s, &run)) > 0)
		r = run_write(merged, &run->head, run->key, s->value);
	if (r < 0) {
		run_free(merged);
		return r;
	}
	for (int i = 0; i < FAN; i++)
		run_free(s->run[--s->n_runs]);
	s->run[s->n_runs++] = merged;
	return 0;
}

/* ---- the buffer ---- */

static char **pointers(const struct sorter *s)
{
	return (char **)(void *)(s->buf + s->cap) - s->n;
}

static int compare(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	int d = kvfs_key_compare(x + sizeof(struct head), y + sizeof(struct head));

	return d ? d : x < y ? -1 : 1;
}

static int write_buffer(struct sorter *s)
{
	char **p = pointers(s);
	struct run *run;
	int r = 0;

	if (s->n == 0)
		return 0;
	if (s->n_runs == RUNS_MAX)
		return -EFBIG;
	run = run_new();
	if (!run)
		return -errno;
	qsort(p, s->n, sizeof(*p), compare);
	for (size_t i = 0; i < s->n && r == 0; i++) {
		const struct head *head = (const void *)p[i];
		const char *key = p[i] + sizeof(*head);

		r = run_write(run, head, key, key + head->key_len);
	}
	if (r < 0) {
		run_free(run);
		return r;
	}
	s->run[s->n_runs++] = run;
	s->n = s->used = 0;
	while (r == 0 && s->n_runs >= FAN && s->run[s->n_runs - FAN]->level == s->run[s->n_runs - 1]->level)
		r = merge_last(s);
	return r;
}

int sorter_add(struct sorter *s, const char *key, const void *data, size_t len)
{
	struct head head = {strlen(key) + 1, len};
	size_t need = (sizeof(head) + head.key_len + len + 7) & ~(size_t)7;
	int r;

	if (s->cap - s->used - s->n * sizeof(char *) < need + sizeof(char *)) {
		r = write_buffer(s);
		if (r < 0)
			return r;
	}
	if (need + sizeof(char *) > s->cap) { /* of one that is larger than the buffer, the memory is needed anyhow */
		char *buf = realloc(s->buf, need + sizeof(char *));

		if (!buf)
			return -ENOMEM;
		s->buf = buf;
		s->cap = need + sizeof(char *);
	}
	memcpy(s->buf + s->used, &head, sizeof(head));
	memcpy(s->buf + s->used + sizeof(head), key, head.key_len);
	if (len)
		memcpy(s->buf + s->used + sizeof(head) + head.key_len, data, len);
	s->n++;
	*pointers(s) = s->buf + s->used;
	s->used += need;
	return 0;
}

/* ---- begin and end ---- */

int sorter_new(size_t memory, struct sorter **ret)
{
	struct sorter *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->cap = memory & ~(size_t)7;
	s->buf = malloc(s->cap);
	s->heap = calloc(RUNS_MAX, sizeof(struct run *));
	if (!s->buf || !s->heap) {
		sorter_free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

int sorter_finish(struct sorter *s)
{
	int r = write_buffer(s);

	free(s->buf);
	s->buf = NULL;
	return r < 0 ? r : merge_begin(s, s->n_runs);
}

int sorter_next(struct sorter *s, const char **key, const void **data, size_t *len)
{
	struct run *run;
	int r = merge_next(s, &run);

	if (r <= 0)
		return r;
	*key = run->key;
	*data = s->value;
	*len = run->head.len;
	return 1;
}

void sorter_free(struct sorter *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_runs; i++)
		run_free(s->run[i]);
	free(s->buf);
	free(s->heap);
	free(s->value);
	free(s);
}
