/* See disk.h. */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 32, NAMES = 64, NAME = 64, MAP = 1 << 30 };

struct file {
	uint64_t ino;
	uint8_t *data; /* durable */
	size_t len, cap;
	const struct trace_record **pending; /* writes and lengths */
	size_t n;
};

struct name {
	uint64_t dir, file;
	bool is_dir;
	char text[NAME];
};

struct names {
	struct name list[NAMES];
	size_t n;
};

struct disk {
	char dir[PATH_MAX], kept[PATH_MAX];
	uint64_t root;
	const char *trace;
	size_t size, at;
	enum disk_plant plant;
	unsigned flushes;
	struct file files[FILES];
	size_t nfiles;
	struct names durable;
	const struct trace_record *renaming[NAMES]; /* changes of names that are not durable */
	size_t nrenaming;
	uint64_t db; /* inode of data.mdb */
	int db_fd;
	uint8_t *db_map;
	struct {
		uint8_t *data;
		size_t len;
	} doors, lock; /* at the end of the trace */
	uint16_t *count, *keep; /* of each unit of the file being built */
	size_t units;
};

#define need(cond)                                                                                                                 \
	do {                                                                                                                       \
		if (!(cond)) {                                                                                                     \
			fprintf(stderr, "disk.c:%d: %s (%s)\n", __LINE__, #cond, strerror(errno));                                 \
			abort();                                                                                                   \
		}                                                                                                                  \
	} while (0)

static const uint8_t *bytes_of(const struct trace_record *rec)
{
	return (const uint8_t *)(rec + 1);
}

static size_t max(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- files and names ---- */

static struct file *file_of(struct disk *d, uint64_t ino)
{
	for (size_t i = 0; i < d->nfiles; i++)
		if (d->files[i].ino == ino)
			return &d->files[i];
	need(d->nfiles < FILES);
	d->files[d->nfiles] = (struct file){.ino = ino};
	return &d->files[d->nfiles++];
}

static void reach(struct file *f, size_t len)
{
	if (len > f->cap) {
		size_t cap = len + len / 2 + 4096;
		f->data = realloc(f->data, cap);
		need(f->data);
		memset(f->data + f->cap, 0, cap - f->cap);
		f->cap = cap;
	}
	if (len > f->len)
		f->len = len;
}

static void settle_one(struct file *f, const struct trace_record *rec)
{
	if (rec->kind == TRACE_WRITE) {
		reach(f, rec->at + rec->len);
		memcpy(f->data + rec->at, bytes_of(rec), rec->len);
		return;
	}
	if (rec->at < f->len)
		memset(f->data + rec->at, 0, f->len - rec->at);
	reach(f, rec->at);
	f->len = rec->at;
}

static void settle(struct file *f)
{
	for (size_t i = 0; i < f->n; i++)
		settle_one(f, f->pending[i]);
	f->n = 0;
}

static void pend(struct file *f, const struct trace_record *rec)
{
	if (!(f->n & (f->n - 1))) {
		f->pending = realloc(f->pending, max(1, 2 * f->n) * sizeof *f->pending);
		need(f->pending);
	}
	f->pending[f->n++] = rec;
}

static struct name *name_of(struct names *names, uint64_t dir, const char *text, size_t len)
{
	for (size_t i = 0; i < names->n; i++)
		if (names->list[i].dir == dir && strlen(names->list[i].text) == len && memcmp(names->list[i].text, text, len) == 0)
			return &names->list[i];
	return NULL;
}

static void drop_name(struct names *names, struct name *name)
{
	if (name)
		*name = names->list[--names->n];
}

static void set_name(struct names *names, uint64_t dir, const char *text, size_t len, uint64_t file, bool is_dir)
{
	drop_name(names, name_of(names, dir, text, len));
	need(names->n < NAMES && len < NAME);
	struct name *name = &names->list[names->n++];
	*name = (struct name){.dir = dir, .file = file, .is_dir = is_dir};
	memcpy(name->text, text, len);
}

static void apply_name(struct names *names, const struct trace_record *rec)
{
	const char *text = (const char *)bytes_of(rec);
	if (rec->kind == TRACE_NAME) {
		set_name(names, rec->dir, text, rec->len, rec->file, rec->flags & TRACE_DIRECTORY);
		return;
	}
	size_t len = strnlen(text, rec->len);
	drop_name(names, name_of(names, rec->dir, text, len));
	if (rec->kind == TRACE_RENAME)
		set_name(names, rec->dir2, text + len + 1, rec->len - len - 1, rec->file, rec->flags & TRACE_DIRECTORY);
}

/* Does `rec` make the name that `rename` takes away? */
static bool is_origin(const struct trace_record *rec, const struct trace_record *rename)
{
	const char *text = (const char *)bytes_of(rename);
	return rec->kind == TRACE_NAME && rename->kind == TRACE_RENAME && rec->dir == rename->dir && rec->len == strlen(text) &&
	       memcmp(bytes_of(rec), text, rec->len) == 0;
}

/* A rename that is durable is so whole: its old name does not come back. */
static void settle_names(struct disk *d, uint64_t dir)
{
	size_t n = 0;
	for (size_t i = 0; i < d->nrenaming; i++) {
		const struct trace_record *rec = d->renaming[i];
		if (rec->dir != dir && (rec->kind != TRACE_RENAME || rec->dir2 != dir)) {
			d->renaming[n++] = rec;
			continue;
		}
		apply_name(&d->durable, rec);
		size_t kept = 0;
		for (size_t k = 0; k < n; k++)
			if (!is_origin(d->renaming[k], rec))
				d->renaming[kept++] = d->renaming[k];
		n = kept;
	}
	d->nrenaming = n;
}

static bool is_directory(const struct disk *d, uint64_t ino)
{
	for (size_t i = 0; i < d->durable.n; i++)
		if (d->durable.list[i].file == ino && d->durable.list[i].is_dir)
			return true;
	for (size_t i = 0; i < d->nrenaming; i++)
		if (d->renaming[i]->file == ino && d->renaming[i]->flags & TRACE_DIRECTORY)
			return true;
	return ino == d->root;
}

/* ---- loading ---- */

static uint8_t *read_file(const char *path, size_t *ret_len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	*ret_len = 0;
	if (fd < 0)
		return NULL;
	need(fstat(fd, &st) == 0);
	uint8_t *data = malloc((size_t)st.st_size + 1);
	need(data);
	for (ssize_t n; (n = read(fd, data + *ret_len, (size_t)st.st_size - *ret_len)) > 0;)
		*ret_len += (size_t)n;
	close(fd);
	return data;
}

static void load(struct disk *d, const char *path, uint64_t dir)
{
	DIR *list = opendir(path);
	struct dirent *e;
	need(list);
	while ((e = readdir(list))) {
		char full[PATH_MAX + NAME];
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strncmp(e->d_name, "doors", 5) == 0 ||
			strncmp(e->d_name, "lock.mdb", 8) == 0)
			continue;
		snprintf(full, sizeof full, "%s/%s", path, e->d_name);
		need(lstat(full, &st) == 0);
		set_name(&d->durable, dir, e->d_name, strlen(e->d_name), st.st_ino, S_ISDIR(st.st_mode));
		if (S_ISDIR(st.st_mode)) {
			load(d, full, st.st_ino);
			continue;
		}
		struct file *f = file_of(d, st.st_ino);
		free(f->data);
		f->data = read_file(full, &f->len);
		f->cap = f->len;
	}
	closedir(list);
}

struct disk *disk_new(const char *dir)
{
	struct disk *d = calloc(1, sizeof *d);
	struct stat st;
	need(d && stat(dir, &st) == 0);
	snprintf(d->dir, sizeof d->dir, "%s", dir);
	d->root = st.st_ino;
	d->db_fd = -1;
	load(d, dir, d->root);
	return d;
}

void disk_record(struct disk *d, const char *trace, enum disk_plant plant)
{
	char path[PATH_MAX + NAME];
	struct stat st;
	int fd = open(trace, O_RDONLY | O_CLOEXEC);
	need(fd >= 0 && fstat(fd, &st) == 0);
	d->size = (size_t)st.st_size;
	d->trace = d->size ? mmap(NULL, d->size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	need(d->trace != MAP_FAILED);
	close(fd);
	d->plant = plant;
	snprintf(path, sizeof path, "%s/doors", d->dir);
	d->doors.data = read_file(path, &d->doors.len);
	snprintf(path, sizeof path, "%s/lock.mdb", d->dir);
	d->lock.data = read_file(path, &d->lock.len);
	snprintf(path, sizeof path, "%s/data.mdb", d->dir);
	need(stat(path, &st) == 0);
	d->db = st.st_ino;
	snprintf(d->kept, sizeof d->kept, "%.*s.kept", PATH_MAX - 40, d->dir);
	while (access(d->kept, F_OK) == 0) /* of a recovery, the first one's is there */
		strcat(d->kept, "+");
	need(link(path, d->kept) == 0);
	d->db_fd = open(d->kept, O_RDWR | O_CLOEXEC);
	d->db_map = mmap(NULL, MAP, PROT_READ | PROT_WRITE, MAP_SHARED, d->db_fd, 0);
	need(d->db_fd >= 0 && d->db_map != MAP_FAILED);
}

void disk_free(struct disk *d)
{
	if (d->trace)
		munmap((void *)d->trace, d->size);
	if (d->db_fd >= 0) {
		munmap(d->db_map, MAP);
		close(d->db_fd);
		unlink(d->kept);
	}
	for (size_t i = 0; i < d->nfiles; i++) {
		free(d->files[i].data);
		free(d->files[i].pending);
	}
	free(d->doors.data);
	free(d->lock.data);
	free(d->count);
	free(d->keep);
	free(d);
}

/* ---- going on ---- */

size_t disk_at(const struct disk *d)
{
	return d->at;
}

const struct trace_record *disk_peek(const struct disk *d)
{
	return d->at + sizeof(struct trace_record) <= d->size ? (const void *)(d->trace + d->at) : NULL;
}

/* The record of the newest state that is known to be whole. */
static bool is_sync_file(const struct disk *d, uint64_t ino)
{
	const struct name *name = name_of((struct names *)&d->durable, d->root, "sync", 4);
	return name && name->file == ino;
}

static bool is_forgotten(struct disk *d, const struct trace_record *rec)
{
	if (d->plant == PLANT_NO_NAMES)
		return is_directory(d, rec->file);
	if (d->plant == PLANT_STALE_RECORD)
		return is_sync_file(d, rec->file);
	if (rec->file != d->db)
		return false;
	return d->plant == PLANT_NO_FLUSH || (d->plant == PLANT_FEW_FLUSHES && d->flushes++ % 4 == 3);
}

const struct trace_record *disk_step(struct disk *d)
{
	const struct trace_record *rec = disk_peek(d);
	if (!rec)
		return NULL;
	d->at += sizeof *rec + rec->len;
	need(d->at <= d->size);
	switch (rec->kind) {
	case TRACE_WRITE:
	case TRACE_LENGTH:
		pend(file_of(d, rec->file), rec);
		break;
	case TRACE_SYNC:
		if (is_forgotten(d, rec))
			break;
		if (is_directory(d, rec->file))
			settle_names(d, rec->file);
		else
			settle(file_of(d, rec->file));
		break;
	case TRACE_NAME:
	case TRACE_GONE:
	case TRACE_RENAME:
		need(d->nrenaming < NAMES);
		d->renaming[d->nrenaming++] = rec;
		break;
	default:
		break;
	}
	return rec;
}

/* ---- what is lost ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ b * 0x9e3779b97f4a7c15) + 0x632be59bd9b4e019;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
	return x ^ x >> 32;
}

/* Of `n` things that happened one after the other to one unit, how many have reached the disk?  `thing` counts over the whole cut. */
static size_t how_many(const struct cut *cut, size_t thing, size_t n)
{
	uint64_t chance = mix(cut->which, thing);
	switch (cut->how) {
	case CUT_ALL:
		return n;
	case CUT_NONE:
		return 0;
	case CUT_ALL_BUT:
		return cut->which == thing ? 0 : n;
	case CUT_ONLY:
		return cut->which == thing ? n : 0;
	case CUT_SUBSET:
		return thing < 64 && cut->which >> thing & 1 ? n : 0;
	case CUT_RANDOM:
		break;
	}
	switch (cut->which % 4) {
	case 0:
		return chance % 8 ? n : 0;
	case 1:
		return chance % 8 ? 0 : n;
	case 2:
		return chance % (n + 1);
	default:
		return chance % 2 ? n : 0;
	}
}

/* ---- building ---- */

static size_t units_of(const struct trace_record *rec, unsigned unit, size_t *ret_first)
{
	*ret_first = rec->at / unit;
	return rec->len ? (rec->at + rec->len - 1) / unit - *ret_first + 1 : 0;
}

static size_t longest(const struct file *f)
{
	size_t len = f->len;
	for (size_t i = 0; i < f->n; i++)
		len = max(len, f->pending[i]->at + f->pending[i]->len);
	return len;
}

/* Decides, unit by unit in the order of the file, how many of the writes that touch it are there. */
static void decide(struct disk *d, const struct file *f, const struct cut *cut, size_t *thing)
{
	size_t units = longest(f) / cut->unit + 1, first;
	if (units > d->units) {
		d->count = realloc(d->count, units * sizeof *d->count);
		d->keep = realloc(d->keep, units * sizeof *d->keep);
		need(d->count && d->keep);
		d->units = units;
	}
	memset(d->count, 0, units * sizeof *d->count);
	memset(d->keep, 0, units * sizeof *d->keep);
	for (size_t i = 0; i < f->n; i++) {
		const struct trace_record *rec = f->pending[i];
		bool sure = rec->flags & TRACE_DURABLE && d->plant != PLANT_NO_DSYNC;
		for (size_t n = units_of(rec, cut->unit, &first); n > 0; n--, first++) {
			need(d->count[first] < UINT16_MAX);
			d->count[first]++;
			if (sure)
				d->keep[first] = d->count[first];
		}
	}
	for (size_t u = 0; u < units; u++)
		if (d->count[u] > d->keep[u])
			d->keep[u] = (uint16_t)max(d->keep[u], how_many(cut, (*thing)++, d->count[u]));
}

static size_t length_after(const struct disk *d, const struct file *f, size_t n)
{
	size_t len = f->len;
	for (size_t i = 0; i < f->n; i++) {
		const struct trace_record *rec = f->pending[i];
		if (i >= n && (!(rec->flags & TRACE_DURABLE) || d->plant == PLANT_NO_DSYNC))
			continue;
		len = rec->kind == TRACE_LENGTH ? rec->at : max(len, rec->at + rec->len);
	}
	return len;
}

/* Writes what is left of the file to `to`, where there is room for all of it.  Returns its length. */
static size_t fill(struct disk *d, const struct file *f, const struct cut *cut, size_t *thing, uint8_t *to)
{
	size_t len = length_after(d, f, how_many(cut, (*thing)++, f->n)), most = longest(f), first;
	decide(d, f, cut, thing);
	memset(d->count, 0, (most / cut->unit + 1) * sizeof *d->count);
	if (f->len)
		memcpy(to, f->data, f->len);
	memset(to + f->len, 0, most - f->len);
	for (size_t i = 0; i < f->n; i++) {
		const struct trace_record *rec = f->pending[i];
		for (size_t n = units_of(rec, cut->unit, &first); n > 0; n--, first++) {
			if (++d->count[first] > d->keep[first])
				continue;
			size_t from = max(first * cut->unit, rec->at), end = min((first + 1) * cut->unit, rec->at + rec->len);
			memcpy(to + from, bytes_of(rec) + (from - rec->at), end - from);
		}
	}
	return len;
}

static void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	need(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	close(fd);
}

static void build_file(struct disk *d, const struct cut *cut, const char *path, uint64_t ino, size_t *thing)
{
	struct file *f = file_of(d, ino);
	if (ino == d->db) {
		need(ftruncate(d->db_fd, (off_t)longest(f)) == 0 && longest(f) <= MAP);
		size_t len = fill(d, f, cut, thing, d->db_map);
		need(ftruncate(d->db_fd, (off_t)len) == 0 && link(d->kept, path) == 0);
		return;
	}
	uint8_t *data = malloc(longest(f) + 1);
	need(data);
	size_t len = fill(d, f, cut, thing, data);
	write_file(path, data, len);
	free(data);
}

static void build_dir(
	struct disk *d, const struct cut *cut, const struct names *names, const char *path, uint64_t dir, size_t *thing)
{
	for (size_t i = 0; i < names->n; i++) {
		const struct name *name = &names->list[i];
		char full[PATH_MAX + NAME];
		if (name->dir != dir)
			continue;
		snprintf(full, sizeof full, "%.*s/%s", PATH_MAX - 1, path, name->text);
		if (!name->is_dir) {
			build_file(d, cut, full, name->file, thing);
			continue;
		}
		need(mkdir(full, 0700) == 0);
		build_dir(d, cut, names, full, name->file, thing);
	}
}

static void empty(const char *path)
{
	DIR *list = opendir(path);
	struct dirent *e;
	need(list);
	while ((e = readdir(list))) {
		char full[PATH_MAX + NAME];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(full, sizeof full, "%s/%s", path, e->d_name);
		if (unlink(full) == 0)
			continue;
		empty(full);
		need(rmdir(full) == 0);
	}
	closedir(list);
}

static void build_memory(const struct disk *d, unsigned how)
{
	char path[PATH_MAX + NAME];
	for (int i = 0; how && i < 2; i++) {
		size_t len = i ? d->lock.len : d->doors.len;
		snprintf(path, sizeof path, "%s/%s", d->dir, i ? "lock.mdb" : "doors");
		write_file(path, i ? d->lock.data : d->doors.data, how == 2 ? len : 0);
		need(truncate(path, (off_t)len) == 0);
	}
}

size_t disk_pending(const struct disk *d, unsigned unit)
{
	size_t n = d->nrenaming;
	for (size_t i = 0; i < d->nfiles; i++) {
		const struct file *f = &d->files[i];
		size_t first, units = longest(f) / unit + 1, dirty = 0;
		uint8_t *seen = f->n ? calloc(units, 1) : NULL;
		for (size_t k = 0; k < f->n; k++)
			for (size_t left = units_of(f->pending[k], unit, &first); left > 0; left--, first++) {
				dirty += !seen[first];
				seen[first] = 1;
			}
		free(seen);
		n += dirty ? dirty + 1 : 0;
	}
	return n;
}

void disk_cut(struct disk *d, const struct cut *cut)
{
	static struct names names;
	size_t thing = 0;
	/* A journal keeps the order of names; what has none does not. */
	size_t kept = cut->how == CUT_RANDOM && cut->which % 2 ? mix(cut->which, 1) % (d->nrenaming + 1) : SIZE_MAX;
	names = d->durable;
	for (size_t i = 0; i < d->nrenaming; i++)
		if (kept == SIZE_MAX ? how_many(cut, thing++, 1) : i < kept)
			apply_name(&names, d->renaming[i]);
	if (d->plant == PLANT_NO_RECORD)
		drop_name(&names, name_of(&names, d->root, "sync", 4));
	empty(d->dir);
	build_dir(d, cut, &names, d->dir, d->root, &thing);
	build_memory(d, cut->memory);
}
