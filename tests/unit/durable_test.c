/* Commits without a flush each: records, what is put back after a power cut, pins, who shares a flush, what an I/O error means. */
#include "powercut.h"

#include <fcntl.h>
#include <kvfs_ll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "durable.h"

/* ---- the disk: flushes are counted, can be slow, and can fail ---- */

static _Atomic unsigned flushes, flush_ms;
static _Atomic int flush_errno;

int fdatasync(int fd)
{
	flushes++;
	if (flush_ms)
		usleep(flush_ms * 1000);
	if (flush_errno) {
		errno = flush_errno;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static struct kvfs_store *open_level(const char *path, enum kvfs_durability level)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = level, .map_size = 4ull << 30};
	struct kvfs_store *store;
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	return store;
}

static int put(struct kvfs_store *store, const char *key, const char *value)
{
	return kvfs_put(store, key, value, strlen(value), NULL, NULL);
}

static bool has(struct kvfs_store *store, const char *key, const char *value)
{
	void *data;
	size_t len;
	if (kvfs_get(store, key, &data, &len))
		return value == NULL;
	bool same = value && len == strlen(value) && memcmp(data, value, len) == 0;
	free(data);
	return same;
}

static bool is_pinned(struct kvfs_store *store)
{
	return kv_durable_info(store->core).pinned;
}

/* ---- records ---- */

static struct kv_sync_record a_record(const char *path)
{
	struct kv_sync_record rec = {.loose = true, .number = 7, .time_ns = 9, .uuid = {1, 2, 3}, .place = {.ino = 5, .dev = 6}};
	int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = openat(dirfd, "data.mdb", O_RDONLY | O_CLOEXEC);
	assert_ok(kv_sync_place(dirfd, &rec.place));
	assert_ok(kv_metas_read(fd, (uint32_t)sysconf(_SC_PAGESIZE), &rec.metas));
	close(fd);
	close(dirfd);
	return rec;
}

static void records_are_whole_or_nothing(void **state)
{
	(void)state;
	const char *path = support_store_path();
	uint8_t slot[KV_SYNC_SLOT];
	struct kv_sync_record rec, back;
	kvfs_close(open_level(path, KVFS_FULL));
	rec = a_record(path);
	kv_sync_encode(&rec, slot);
	assert_true(kv_sync_decode(slot, &back));
	assert_memory_equal(&back.place, &rec.place, sizeof rec.place);
	assert_memory_equal(&back.metas, &rec.metas, sizeof rec.metas);
	assert_memory_equal(back.uuid, rec.uuid, sizeof rec.uuid);
	assert_true(back.loose && !back.failed && back.number == 7 && back.time_ns == 9);
	for (unsigned bit = 0; bit < 8 * KV_SYNC_SLOT; bit++) {
		slot[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(kv_sync_decode(slot, &back));
		slot[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* The next one never takes the place of the newest, so a torn one leaves that. */
static void records_go_forward(void **state)
{
	(void)state;
	const char *path = support_store_path();
	struct kv_sync_record rec, back;
	uint8_t garbage[KV_SYNC_SLOT];
	int fd, dirfd;
	kvfs_close(open_level(path, KVFS_FULL));
	rec = a_record(path);
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(kv_syncfile_open(dirfd, false, &fd));
	assert_err(kv_syncfile_read(fd, &back), -ENOENT);
	memset(garbage, 0x5a, sizeof garbage);
	for (uint64_t n = 1; n < 10; n++) {
		rec.time_ns = (int64_t)n;
		assert_ok(kv_syncfile_write(fd, &rec));
		assert_int_equal(rec.number, n);
		assert_ok(kv_syncfile_read(fd, &back));
		assert_int_equal(back.number, n);
	}
	assert_int_equal(pwrite(fd, garbage, 100, (off_t)(10 % 2) * KV_SYNC_FILE / 2), 100);
	assert_ok(kv_syncfile_read(fd, &back));
	assert_int_equal(back.number, 9);
	assert_int_equal(pwrite(fd, garbage, 100, (off_t)(9 % 2) * KV_SYNC_FILE / 2), 100);
	assert_err(kv_syncfile_read(fd, &back), -ENOENT);
	close(fd);
	close(dirfd);
}

/* ---- levels ---- */

static void a_full_store_needs_no_record(void **state)
{
	(void)state;
	const char *path = support_store_path();
	char name[200];
	struct kvfs_store *store = open_level(path, KVFS_FULL);
	assert_ok(put(store, "a", "1"));
	assert_ok(kvfs_sync(store));
	assert_false(kv_durable_info(store->core).loose);
	kvfs_close(store);
	snprintf(name, sizeof name, "%s/sync", path);
	assert_int_equal(access(name, F_OK), -1);
}

static void relaxed_commits_do_not_wait(void **state)
{
	(void)state;
	const char *path = support_store_path();
	struct kvfs_store *store = open_level(path, KVFS_RELAXED);
	assert_ok(put(store, "first", "1"));
	assert_true(kv_durable_info(store->core).loose && is_pinned(store));
	assert_true(record_of(path).loose);
	unsigned before = flushes;
	for (int i = 0; i < 100; i++)
		assert_ok(put(store, "k", "v"));
	assert_true(flushes - before <= 4); /* a second may have passed */
	kvfs_close(store);
	assert_false(record_of(path).loose);
	store = open_level(path, KVFS_FULL);
	assert_false(kv_durable_info(store->core).loose);
	assert_true(has(store, "k", "v"));
	kvfs_close(store);
}

/* Nobody asks for it: within a second and a bit all is recorded, and the pin is given up when it is of no more use. */
static void sync_points_come_by_themselves(void **state)
{
	(void)state;
	const char *path = support_store_path();
	struct kvfs_store *store = open_level(path, KVFS_RELAXED);
	assert_ok(put(store, "a", "1"));
	assert_ok(put(store, "a", "2"));
	uint64_t newest = kv_db_newest(store->core->db);
	assert_true(kv_doors_recorded(store->core->doors) < newest);
	for (int i = 0; i < 300 && kv_doors_recorded(store->core->doors) < newest; i++)
		usleep(10000);
	assert_true(kv_doors_recorded(store->core->doors) == newest);
	for (int i = 0; i < 300 && is_pinned(store); i++)
		usleep(10000);
	assert_false(is_pinned(store));
	/* Nothing has happened since, so the next pin costs no flush. */
	unsigned before = flushes;
	assert_ok(put(store, "a", "3"));
	assert_true(is_pinned(store));
	assert_int_equal(flushes, before);
	kvfs_close(store);
}

/* ---- power cuts ---- */

#define KEYS 60

static void key_name(char ret[16], unsigned k)
{
	snprintf(ret, 16, "d%u/%u", k % 3, k);
}

/* The state of round `round`: each key has a text that names it, of lengths from a few bytes to some pages. */
static char *text_of(unsigned k, unsigned round)
{
	size_t len = 8 + (k * 7919 + round * 31) % (k % 4 ? 300 : 40000);
	char *text = malloc(len + 1);
	for (size_t i = 0; i < len; i++)
		text[i] = (char)('a' + (k + round + i) % 26);
	text[len] = 0;
	return text;
}

static void put_round(struct kvfs_store *store, unsigned round)
{
	for (unsigned k = 0; k < KEYS; k++) {
		char key[16], *text = text_of(k, round);
		key_name(key, k);
		assert_ok(put(store, key, text));
		free(text);
	}
}

static unsigned wrong_keys(struct kvfs_store *store, unsigned round)
{
	unsigned wrong = 0;
	for (unsigned k = 0; k < KEYS; k++) {
		char key[16], *text = text_of(k, round);
		key_name(key, k);
		wrong += !has(store, key, text);
		free(text);
	}
	return wrong;
}

/* What the disk had at the sync point, and what the kernel had later. */
struct cut {
	struct image flushed, later;
	struct kv_sync_record record;
};

static void cut_free(struct cut *c)
{
	free(c->flushed.data);
	free(c->later.data);
}

/* Takes away what keeps this process's pins: the mutation that shows what they are for.  LMDB's reader table is lines of 64 bytes. */
static void lose_pins(const char *dir)
{
	char name[200];
	snprintf(name, sizeof name, "%s/lock.mdb", dir);
	int fd = open(name, O_RDWR | O_CLOEXEC);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	char *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint32_t pid = (uint32_t)getpid();
	for (off_t at = 128; at + 64 <= st.st_size; at += 64)
		if (memcmp(map + at + 8, &pid, sizeof pid) == 0)
			memset(map + at, 0xff, 8);
	munmap(map, (size_t)st.st_size);
	/* not closed: that would drop LMDB's locks */
}

static struct cut record_cut(const char *path, bool pinned)
{
	struct cut c = {0};
	for (int tries = 0; tries < 10; tries++) {
		struct kvfs_store *store = open_level(path, KVFS_RELAXED);
		put_round(store, 2);
		put_round(store, 3);
		assert_ok(kvfs_sync(store));
		cut_free(&c);
		c = (struct cut){.record = record_of(path), .flushed = image_of(path, "data.mdb")};
		for (unsigned round = 4; round < 8; round++) {
			if (!pinned)
				lose_pins(path);
			put_round(store, round);
		}
		c.later = image_of(path, "data.mdb");
		bool same = record_of(path).number == c.record.number;
		kvfs_close(store);
		if (same) /* no sync point came in between */
			return c;
	}
	fail_msg("a second passes before %d puts are done", 4 * KEYS);
	return c;
}

/* Makes a state that a cut could leave, in `dir`. */
static void build_cut(const struct cut *c, const char *dir, struct support_rng *rng)
{
	struct image torn = image_torn(&c->flushed, &c->later, rng);
	support_remove(dir);
	image_write(&torn, dir, "data.mdb");
	write_record_of_other_boot(dir, c->record);
	free(torn.data);
}

static int open_cut(const char *dir, struct kvfs_store **ret)
{
	struct kvfs_options opt = {.size = sizeof opt, .durability = KVFS_RELAXED, .map_size = 4ull << 30};
	struct kvfs_error err;
	int r = kvfs_open(dir, &opt, ret, &err);
	return r;
}

static void a_cut_goes_back_to_the_sync_point(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(1);
	struct cut c = record_cut(support_store_path(), true);
	const char *dir = support_store_path();
	for (int i = 0; i < 40; i++) {
		struct kvfs_store *store;
		build_cut(&c, dir, &rng);
		assert_ok(open_cut(dir, &store));
		assert_int_equal(wrong_keys(store, 3), 0);
		assert_false(record_of(dir).loose);
		put_round(store, 9); /* and it goes on from there */
		assert_int_equal(wrong_keys(store, 9), 0);
		kvfs_close(store);
	}
	cut_free(&c);
}

/* In a child: what LMDB reads then may be anything. */
static int open_without_pin(void *arg)
{
	struct kvfs_store *store;
	return open_cut(arg, &store) || wrong_keys(store, 3) ? 1 : 0;
}

static void without_a_pin_it_does_not(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(2);
	struct cut c = record_cut(support_store_path(), false);
	char *dir = (char *)support_store_path();
	int bad = 0;
	for (int i = 0; i < 20; i++) {
		build_cut(&c, dir, &rng);
		bad += support_fork(open_without_pin, dir, 30) != 0;
	}
	assert_true(bad > 5);
	cut_free(&c);
}

/* The power goes again while the state is put back: after the first meta page. */
static void a_cut_while_putting_back(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(3);
	struct cut c = record_cut(support_store_path(), true);
	const char *dir = support_store_path();
	for (int i = 0; i < 4; i++) {
		struct kvfs_store *store;
		char name[200];
		build_cut(&c, dir, &rng);
		snprintf(name, sizeof name, "%s/data.mdb", dir);
		int fd = open(name, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, c.record.metas.page[i % 2], KV_META_SIZE, i % 2 * sysconf(_SC_PAGESIZE)), KV_META_SIZE);
		close(fd);
		assert_ok(open_cut(dir, &store));
		assert_int_equal(wrong_keys(store, 3), 0);
		kvfs_close(store);
	}
	cut_free(&c);
}

static void readers_do_not_put_back(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(4);
	struct cut c = record_cut(support_store_path(), true);
	const char *dir = support_store_path();
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_RDONLY, .map_size = 4ull << 30};
	struct kvfs_store *store;
	struct kvfs_error err;
	build_cut(&c, dir, &rng);
	assert_err(kvfs_open(dir, &opt, &store, &err), -EROFS);
	assert_non_null(strstr(err.text, "opened once for writing"));
	assert_ok(open_cut(dir, &store));
	kvfs_close(store);
	assert_ok(kvfs_open(dir, &opt, &store, &err));
	assert_int_equal(wrong_keys(store, 3), 0);
	kvfs_close(store);
	cut_free(&c);
}

/* A disk that said it had flushed, and had not. */
static void a_state_that_is_not_whole_is_refused(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(5);
	struct cut c = record_cut(support_store_path(), true);
	const char *dir = support_store_path();
	struct kvfs_store *store;
	long page = sysconf(_SC_PAGESIZE);
	memset(c.flushed.data + 2 * page, 0, c.flushed.len - (size_t)(2 * page));
	memcpy(c.later.data + 2 * page, c.flushed.data + 2 * page, c.flushed.len - (size_t)(2 * page));
	build_cut(&c, dir, &rng);
	assert_err(open_cut(dir, &store), -EUCLEAN);
	assert_true(record_of(dir).loose); /* nothing was changed */
	cut_free(&c);
}

/* ---- copies ---- */

static void copy(const char *from, const char *to, bool with_sync)
{
	struct image data = image_of(from, "data.mdb"), sync = with_sync ? image_of(from, "sync") : (struct image){0};
	image_write(&data, to, "data.mdb");
	if (with_sync)
		image_write(&sync, to, "sync");
	free(data.data);
	free(sync.data);
}

static void copies_open(void **state)
{
	(void)state;
	const char *path = support_store_path(), *idle = support_store_path(), *dirty = support_store_path();
	struct kvfs_store *store = open_level(path, KVFS_RELAXED), *other;
	put_round(store, 1);
	copy(path, dirty, true); /* as if its doors had been killed: the kernel has all of it */
	kvfs_close(store);
	copy(path, idle, true);
	assert_ok(open_cut(dirty, &other));
	assert_int_equal(wrong_keys(other, 1), 0);
	kvfs_close(other);
	assert_ok(open_cut(idle, &other));
	assert_int_equal(wrong_keys(other, 1), 0);
	kvfs_close(other);
}

/* Copied after the cut, before anybody opened the original: what is in the copy depends on the record, and that is of another file. */
static void a_copy_of_a_cut_store_is_refused(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(6);
	struct cut c = record_cut(support_store_path(), true);
	const char *dir = support_store_path(), *copied = support_store_path();
	struct kvfs_store *store;
	build_cut(&c, dir, &rng);
	copy(dir, copied, true);
	assert_err(open_cut(copied, &store), -ESTALE);
	assert_ok(open_cut(dir, &store));
	assert_int_equal(wrong_keys(store, 3), 0);
	kvfs_close(store);
	cut_free(&c);
}

/* A backup was put over data.mdb: the record is of what was there before. */
static void an_older_file_is_not_touched(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(7);
	const char *path = support_store_path(), *dir = support_store_path();
	struct kvfs_store *store = open_level(path, KVFS_RELAXED);
	put_round(store, 8);
	kvfs_close(store);
	struct image backup = image_of(path, "data.mdb");
	struct cut c = record_cut(path, true);
	build_cut(&c, dir, &rng);
	image_write(&backup, dir, "data.mdb");
	write_record_of_other_boot(dir, c.record);
	assert_ok(open_cut(dir, &store));
	assert_int_equal(wrong_keys(store, 8), 0);
	assert_false(record_of(dir).loose);
	kvfs_close(store);
	free(backup.data);
	cut_free(&c);
}

/* ---- several doors ---- */

struct door {
	const char *path, *key;
	enum kvfs_durability level;
	int go[2], done[2];
	unsigned commits;
};

static int door_run(void *arg)
{
	struct door *d = arg;
	struct kvfs_options opt = {.size = sizeof opt, .durability = d->level, .map_size = 4ull << 30};
	struct kvfs_store *store;
	char value[2] = "";
	close(d->go[1]);
	close(d->done[0]);
	if (kvfs_open(d->path, &opt, &store, NULL))
		return 1;
	while (read(d->go[0], value, 1) == 1) {
		for (unsigned i = 0; i < d->commits; i++)
			if (put(store, d->key, value))
				return 2;
		if (write(d->done[1], value, 1) != 1)
			return 3;
	}
	kvfs_close(store);
	return 0;
}

static pid_t door_begin(struct door *d)
{
	assert_int_equal(pipe(d->go) | pipe(d->done), 0);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(60);
		_exit(door_run(d));
	}
	close(d->go[0]);
	close(d->done[1]);
	return pid;
}

static void door_step(struct door *d)
{
	char c = 'x';
	assert_int_equal(write(d->go[1], &c, 1), 1);
	assert_int_equal(read(d->done[0], &c, 1), 1);
}

static void door_end(struct door *d, pid_t pid, bool kill_it)
{
	int status;
	if (kill_it)
		kill(pid, SIGKILL);
	close(d->go[1]);
	close(d->done[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, kill_it ? SIGKILL : 0);
}

/* What a door at `full` commits while another made the store loose is not lost with what that one did not flush. */
static void full_among_relaxed(void **state)
{
	(void)state;
	const char *path = support_store_path(), *dir = support_store_path();
	struct support_rng rng = support_rng(8);
	struct kvfs_store *store = open_level(path, KVFS_RELAXED), *back;
	struct door d = {.path = path, .key = "full", .level = KVFS_FULL, .commits = 1};
	pid_t pid = door_begin(&d);
	put_round(store, 3);
	door_step(&d);
	struct cut c = {.record = record_of(path), .flushed = image_of(path, "data.mdb")};
	put_round(store, 4);
	c.later = image_of(path, "data.mdb");
	for (int i = 0; i < 10; i++) {
		build_cut(&c, dir, &rng);
		assert_ok(open_cut(dir, &back));
		assert_int_equal(wrong_keys(back, 3), 0);
		assert_int_equal(kvfs_exists(back, "full"), 1);
		kvfs_close(back);
	}
	door_end(&d, pid, false);
	kvfs_close(store);
	cut_free(&c);
}

/* Each has a pin of its own: the death of one, and the clearing of its reader slots, take nothing from the other. */
static void a_door_dies(void **state)
{
	(void)state;
	const char *path = support_store_path(), *dir = support_store_path();
	struct support_rng rng = support_rng(9);
	struct door d = {.path = path, .key = "other", .level = KVFS_RELAXED, .commits = 20};
	struct kvfs_store *store = open_level(path, KVFS_RELAXED), *back;
	pid_t pid = door_begin(&d);
	put_round(store, 3);
	door_step(&d);
	put_round(store, 3);
	assert_ok(kvfs_sync(store));
	struct cut c = {.record = record_of(path), .flushed = image_of(path, "data.mdb")};
	door_step(&d);
	put_round(store, 4);
	door_end(&d, pid, true);
	kvfs_close(open_level(support_store_path(), KVFS_FULL)); /* another one, meanwhile */
	put_round(store, 5);
	c.later = image_of(path, "data.mdb");
	/* The sync point that this process may have made since would be a newer record: it is not older. */
	struct kv_sync_record now = record_of(path);
	if (now.number == c.record.number)
		for (int i = 0; i < 10; i++) {
			build_cut(&c, dir, &rng);
			assert_ok(open_cut(dir, &back));
			assert_int_equal(wrong_keys(back, 3), 0);
			kvfs_close(back);
		}
	kvfs_close(store);
	store = open_level(path, KVFS_FULL);
	assert_int_equal(wrong_keys(store, 5), 0);
	kvfs_close(store);
	cut_free(&c);
}

static int killed_writer(void *arg)
{
	struct kvfs_store *store;
	struct kvfs_options opt = {.size = sizeof opt, .durability = KVFS_RELAXED, .map_size = 4ull << 30};
	if (kvfs_open(arg, &opt, &store, NULL))
		return 1;
	put_round(store, 6);
	kill(getpid(), SIGKILL);
	return 1;
}

/* A program's death loses nothing: who opens next flushes what it left, and the store is tight again. */
static void a_crash_is_no_power_cut(void **state)
{
	(void)state;
	char *path = (char *)support_store_path();
	struct kvfs_store *store;
	kvfs_close(open_level(path, KVFS_FULL));
	assert_int_equal(support_fork(killed_writer, path, 30), SIGKILL);
	assert_true(record_of(path).loose);
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_RDONLY, .map_size = 4ull << 30};
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	assert_int_equal(wrong_keys(store, 6), 0);
	kvfs_close(store);
	store = open_level(path, KVFS_FULL);
	assert_false(record_of(path).loose);
	assert_int_equal(wrong_keys(store, 6), 0);
	kvfs_close(store);
}

/* ---- sharing ---- */

struct syncer {
	struct kvfs_store *store;
	int r;
};

static void *sync_one(void *arg)
{
	struct syncer *s = arg;
	s->r = kvfs_sync(s->store);
	return NULL;
}

static void flushes_are_shared_at(enum kvfs_durability level)
{
	enum { THREADS = 16 };
	struct kvfs_store *store = open_level(support_store_path(), level);
	struct syncer s[THREADS];
	pthread_t t[THREADS];
	assert_ok(put(store, "a", "1"));
	assert_ok(kvfs_sync(store));
	assert_ok(put(store, "a", "2"));
	uint64_t before = kv_durable_info(store->core).flushes;
	flush_ms = 100;
	for (int i = 0; i < THREADS; i++) {
		s[i].store = store;
		assert_int_equal(pthread_create(&t[i], NULL, sync_one, &s[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], NULL);
		assert_ok(s[i].r);
	}
	uint64_t made = kv_durable_info(store->core).flushes - before;
	assert_true(made >= 1 && made <= 2);
	/* Nothing to flush: nothing is. */
	assert_ok(kvfs_sync(store));
	assert_int_equal(kv_durable_info(store->core).flushes - before, made);
	flush_ms = 0;
	kvfs_close(store);
}

static void flushes_are_shared(void **state)
{
	(void)state;
	flushes_are_shared_at(KVFS_RELAXED);
	flushes_are_shared_at(KVFS_NONE);
}

/* ---- the disk fails ---- */

static void a_failed_flush_is_final(void **state)
{
	(void)state;
	const char *path = support_store_path();
	struct kvfs_store *store = open_level(path, KVFS_RELAXED);
	put_round(store, 3);
	assert_ok(kvfs_sync(store));
	assert_ok(put(store, "lost", "1"));
	flush_errno = EIO;
	assert_err(kvfs_sync(store), -EIO);
	flush_errno = 0;
	assert_err(kvfs_sync(store), -EIO);
	assert_err(put(store, "a", "1"), -EROFS);
	assert_true(has(store, "lost", "1"));
	struct kvfs_door self;
	assert_count(kvfs_doors(store, &self, 1), 1);
	assert_int_equal(self.failed, EIO);
	kvfs_close(store);
	/* What could not be flushed is not trusted: back to what was. */
	store = open_level(path, KVFS_RELAXED);
	assert_int_equal(wrong_keys(store, 3), 0);
	assert_true(has(store, "lost", NULL));
	assert_ok(put(store, "a", "1"));
	kvfs_close(store);
}

/* ---- space ---- */

/* What was freed since the recorded state waits for the next one: the file stays within what two sync points let pass. */
static void the_file_stays_bounded(void **state)
{
	(void)state;
	struct kvfs_store *store = open_level(support_store_path(), KVFS_RELAXED);
	struct kvfs_info info;
	char *big = calloc(1, 1 << 20);
	for (int i = 0; i < 600; i++) {
		big[i] = (char)i;
		assert_ok(kvfs_put(store, "big", big, 1 << 20, NULL, NULL));
	}
	assert_ok(kvfs_info(store, &info));
	assert_true(info.file_bytes < (300u << 20));
	free(big);
	kvfs_close(store);
}

/* Where there is little room nothing waits for a second to be used again: what a store at `full` can hold, one at `relaxed` can. */
static void a_small_room_is_used_again(void **state)
{
	(void)state;
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_RELAXED, .map_size = 16 << 20};
	struct kvfs_store *store;
	char *big = calloc(1, 1 << 20);
	assert_ok(kvfs_open(support_store_path(), &opt, &store, NULL));
	for (int i = 0; i < 60; i++)
		assert_ok(kvfs_put(store, "big", big, 1 << 20, NULL, NULL));
	free(big);
	kvfs_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_are_whole_or_nothing),
		cmocka_unit_test(records_go_forward),
		cmocka_unit_test(a_full_store_needs_no_record),
		cmocka_unit_test(relaxed_commits_do_not_wait),
		cmocka_unit_test(sync_points_come_by_themselves),
		cmocka_unit_test(a_cut_goes_back_to_the_sync_point),
		cmocka_unit_test(without_a_pin_it_does_not),
		cmocka_unit_test(a_cut_while_putting_back),
		cmocka_unit_test(readers_do_not_put_back),
		cmocka_unit_test(a_state_that_is_not_whole_is_refused),
		cmocka_unit_test(copies_open),
		cmocka_unit_test(a_copy_of_a_cut_store_is_refused),
		cmocka_unit_test(an_older_file_is_not_touched),
		cmocka_unit_test(full_among_relaxed),
		cmocka_unit_test(a_door_dies),
		cmocka_unit_test(a_crash_is_no_power_cut),
		cmocka_unit_test(flushes_are_shared),
		cmocka_unit_test(a_failed_flush_is_final),
		cmocka_unit_test(the_file_stays_bounded),
		cmocka_unit_test(a_small_room_is_used_again),
	};
	return cmocka_run_group_tests_name("durable", tests, NULL, NULL);
}
