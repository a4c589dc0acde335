/* The store that is damaged; see victim.h. */
#include "victim.h"

#include <fcntl.h>
#include <kvfs.h>
#include <kvfs_ll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "support.h"

enum { ENTRIES_MAX = 100000, LISTING = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT };

static int keys;

void victim_key(int i, char key[80])
{
	sprintf(key, "dir%d/a longer name than needed %d", i % 9, i);
}

static size_t length_of(int i, int generation)
{
	static const size_t lengths[] = {0, 10, 300, 900, 2000, 5000, 41000};
	return lengths[i % 40 ? i % 6 : 6] + (size_t)i + 7 * (size_t)generation;
}

/* Each byte follows from the key's number, the generation, and its place.  Made once, before the cases. */
static const uint8_t *value_of(int i, int generation)
{
	static uint8_t *values[VICTIM_KEYS][3];
	uint64_t x = ((uint64_t)i << 8 | (unsigned)generation) * UINT64_C(0x9E3779B97F4A7C15) + 1;
	uint8_t *data = values[i][generation];
	if (data)
		return data;
	data = values[i][generation] = malloc(length_of(i, generation) + 1);
	for (size_t at = 0; at < length_of(i, generation); at++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[at] = (uint8_t)x;
	}
	return data;
}

static bool is_value(const uint8_t *got, size_t len, int i, int generation)
{
	return len == length_of(i, generation) && memcmp(got, value_of(i, generation), len) == 0;
}

bool victim_had(int i, const void *data, size_t len)
{
	for (int generation = 0; generation < 3; generation++)
		if (is_value(data, len, i, generation))
			return true;
	return false;
}

static int generation_of(int i)
{
	return i % 3 == 0;
}

static int put(struct kvfs_store *store, int i, int generation)
{
	char key[80];
	victim_key(i, key);
	return kvfs_put(store, key, value_of(i, generation), length_of(i, generation), NULL, NULL);
}

/* ---- listings ---- */

/* What a sound store's listing has: entries, and a sum over their names. */
static struct listing {
	long entries;
	uint64_t names;
} sound, sound_before; /* it is told from nothing that the state before the last commit was not the newest */

static uint64_t sum_of_name(const char *name)
{
	uint64_t sum = UINT64_C(14695981039346656037);
	for (; *name; name++)
		sum = (sum ^ (uint8_t)*name) * UINT64_C(1099511628211);
	return sum;
}

/* The error that the listing ended with. */
static int list_all(struct kvfs_store *store, unsigned flags, struct listing *ret)
{
	struct kvfs_list_options opt = {.size = sizeof opt, .flags = flags};
	struct kvfs_cursor *cur;
	struct kvfs_entry entry;
	char buf[4096];
	int r = kvfs_list(store, "", &opt, &cur);
	*ret = (struct listing){0};
	if (r)
		return r;
	while (ret->entries < ENTRIES_MAX && (r = kvfs_cursor_next(cur, &entry)) == 1) {
		ret->entries++;
		ret->names += sum_of_name(entry.key);
		if (kvfs_listxattr(store, entry.key, buf, sizeof buf) > 0)
			(void)!kvfs_getxattr(store, entry.key, buf, buf, sizeof buf);
		if (S_ISLNK(entry.st.mode))
			(void)!kvfs_readlink(store, entry.key, buf, sizeof buf);
	}
	kvfs_cursor_close(cur);
	return r;
}

/* ---- making it ---- */

/* A little of all that a store can have. */
static void decorate(struct kvfs_store *store)
{
	char key[80];
	for (int i = 0; i < 12; i++) {
		victim_key(i, key);
		assert_ok(kvfs_setxattr(store, key, "user.note", "something to say of it", 22, 0));
	}
	victim_key(1, key);
	assert_ok(kvfs_link(store, key, "links/second"));
	assert_ok(kvfs_link(store, key, "links/third"));
	assert_ok(kvfs_symlink(store, "links/second", "links/symbolic"));
	assert_ok(kvfs_mknod(store, "links/fifo", S_IFIFO | 0600, 0));
	assert_ok(kvfs_mkdir(store, "empty", 0755));
	for (int i = 0; i < 5; i++)
		assert_ok(kvfs_append(store, "log", "a line of the log\n", 18));
	struct kvfs_session *s;
	assert_ok(kvfs_session_create(store, 1, "lost", 0644, (struct kvfs_cred){0, 0}, false, &s));
	assert_count(kvfs_session_write(s, "what nobody published", 21, 40000), 21);
	assert_ok(kvfs_session_keep(s, 9));
	kvfs_session_close(s);
	struct kvfs_stream *st;
	assert_ok(kvfs_stream_open(store, "sparse", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0, &st));
	assert_count(kvfs_stream_write(st, "begin", 5, 0), 5);
	assert_count(kvfs_stream_write(st, "end", 3, 200000), 3);
	assert_ok(kvfs_stream_close(st));
	assert_ok(kvfs_stream_open(store, "sparse", KVFS_STREAM_WRITE, 0, &st));
	assert_count(kvfs_stream_write(st, "middle", 6, 100), 6);
	assert_ok(kvfs_stream_truncate(st, 90000));
	assert_ok(kvfs_stream_close(st));
}

void victim_build(const char *path, int n)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE};
	struct kvfs_store *store;
	keys = n;
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	for (int i = 0; i < keys; i++) {
		value_of(i, 2);
		assert_ok(put(store, i, 0));
	}
	decorate(store);
	for (int i = 0; i < keys; i++)
		if (generation_of(i))
			assert_ok(put(store, i, 1));
	for (int i = 0; i < 40; i++) { /* free pages, and garbage that waits */
		char key[40];
		sprintf(key, "gone/%d", i);
		assert_ok(kvfs_put(store, key, path, strlen(path), NULL, NULL));
		assert_ok(list_all(store, LISTING, &sound_before));
		assert_ok(kvfs_del(store, key));
	}
	assert_ok(list_all(store, LISTING, &sound));
	kvfs_close(store);
}

/* ---- using it ---- */

static void blame(const char *key, const char *what, _Atomic long *count, bool forged)
{
	++*count;
	if (!forged)
		dprintf(1, "%s: %s\n", key, what);
}

static void read_all(struct kvfs_store *store, bool forged, bool changed, struct tally *t)
{
	for (int i = 0; i < keys; i++) {
		char key[80];
		void *got;
		size_t len;
		victim_key(i, key);
		int r = kvfs_get(store, key, &got, &len);
		if (r == -ENOENT || r == -ENOTDIR)
			blame(key, "absent", forged ? &t->unknown : &t->missing, forged);
		else if (r)
			t->errors++;
		else if (is_value(got, len, i, generation_of(i)) || (changed && i % 10 == 4 && is_value(got, len, i, 2)))
			t->fine++;
		else if (is_value(got, len, i, 0))
			blame(key, "old", forged ? &t->unknown : &t->stale, forged);
		else if (!forged)
			blame(key, "wrong", &t->wrong, forged);
		if (r == 0)
			free(got);
	}
}

static bool is_listing(const struct listing *a, const struct listing *b)
{
	return a->entries == b->entries && a->names == b->names;
}

static void judge_listing(int r, const struct listing *seen, bool forged, struct tally *t)
{
	t->listed += seen->entries;
	if (seen->entries == ENTRIES_MAX) /* it goes in circles */
		t->hangs++;
	else if (r || forged || is_listing(seen, &sound))
		return;
	else if (is_listing(seen, &sound_before))
		t->older++;
	else {
		t->falsely_listed++;
		dprintf(1, "the listing has %ld entries, not %ld\n", seen->entries, sound.entries);
	}
}

static void look_around(struct kvfs_store *store)
{
	struct kvfs_info info;
	struct kvfs_stream *st;
	struct kvfs_watch *w;
	struct kvfs_event event;
	static struct kvfs_kept kept[4];
	static char buf[70000];
	(void)!kvfs_info(store, &info);
	if (kvfs_stream_open(store, "sparse", KVFS_STREAM_READ, 0, &st) == 0) {
		(void)!kvfs_stream_read(st, buf, sizeof buf, 0);
		(void)!kvfs_stream_seek(st, 0, true);
		(void)!kvfs_stream_seek(st, 1000, false);
		kvfs_stream_abort(st);
	}
	if (kvfs_watch_open(store, "", KVFS_WATCH_RECURSIVE, 3, &w) == 0 ||
		kvfs_watch_open(store, "", KVFS_WATCH_RECURSIVE, 250, &w) == 0) {
		for (int i = 0; i < 3000 && kvfs_watch_next(w, &event) == 1; i++)
			;
		kvfs_watch_close(w);
	}
	(void)!kvfs_kept(store, kept, 4);
}

static void count(struct tally *t, int r)
{
	if (r < 0)
		t->unwritten++;
	else
		t->written++;
}

static void change(struct kvfs_store *store, struct tally *t)
{
	char key[80];
	struct kvfs_stream *st;
	static struct kvfs_kept kept[4];
	for (int i = 4; i < keys; i += 10)
		count(t, put(store, i, 2));
	for (int i = 0; i < 30; i++) {
		sprintf(key, "new/%d", i);
		count(t, kvfs_put(store, key, key, strlen(key), NULL, NULL));
	}
	for (int i = 0; i < 30; i += 2) {
		sprintf(key, "new/%d", i);
		count(t, kvfs_del(store, key));
	}
	count(t, kvfs_append(store, "log", "one more\n", 9));
	count(t, kvfs_rename(store, "links", "renamed", 0));
	count(t, kvfs_del_tree(store, "empty", NULL));
	count(t, kvfs_setxattr(store, "log", "user.x", "y", 1, 0));
	if (kvfs_stream_open(store, "sparse", KVFS_STREAM_WRITE, 0, &st) == 0) {
		(void)!kvfs_stream_write(st, "more", 4, 50000);
		count(t, kvfs_stream_close(st));
	}
	if (kvfs_kept(store, kept, 4) > 0)
		count(t, kvfs_recover(store, kept[0].id, "recovered"));
}

static void check(const char *path, struct tally *t)
{
	struct kvfs_check_options opt = {.size = sizeof opt, .flags = KVFS_CHECK_DATA};
	struct kvfs_check_result result = {0};
	if (kvfs_check(path, &opt, &result, NULL) == 0)
		t->found += (long)(result.lost + result.wrong);
}

void victim_use(const char *path, bool forged, bool check_first, struct tally *t, const char *volatile *stage)
{
	struct kvfs_options opt = {.size = sizeof opt, .durability = KVFS_NONE};
	struct kvfs_store *store;
	struct listing listing;
	*stage = "check";
	if (check_first)
		check(path, t);
	*stage = "open";
	if (kvfs_open(path, &opt, &store, NULL)) {
		t->refused++;
		return;
	}
	*stage = "read";
	read_all(store, forged, false, t);
	*stage = "list";
	int r = list_all(store, LISTING | (check_first ? KVFS_LIST_REVERSE : 0), &listing);
	judge_listing(r, &listing, forged, t);
	*stage = "look";
	look_around(store);
	*stage = "change";
	change(store, t);
	*stage = "read again";
	read_all(store, forged, true, t);
	*stage = "close";
	kvfs_close(store);
	*stage = "check";
	if (!check_first)
		check(path, t);
}
