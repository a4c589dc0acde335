/* Sessions and held values by inode number: the mount's way of writing and reading. */
#include "api.h"

#include <kvfs_ll.h>

#include "model.h"

static const struct kvfs_cred me = {54321, 54322}; /* whoever runs this is somebody else */
static const uint64_t root = KVFS_ROOT_INO;

static uint64_t ino_of(struct kvfs_store *s, const char *key)
{
	struct kvfs_stat st;

	assert_ok(kvfs_stat(s, key, &st));
	return st.ino;
}

static struct kvfs_session *open_session(struct kvfs_store *s, const char *key, bool truncate)
{
	struct kvfs_session *ses = NULL;

	assert_ok(kvfs_session_open(s, ino_of(s, key), truncate, &ses));
	return ses;
}

static struct kvfs_session *create(struct kvfs_store *s, uint64_t parent, const char *name, bool excl)
{
	struct kvfs_session *ses = NULL;

	assert_ok(kvfs_session_create(s, parent, name, 0640, me, excl, &ses));
	return ses;
}

static void put_at(struct kvfs_session *ses, const char *text, uint64_t offset)
{
	assert_count(kvfs_session_write(ses, text, strlen(text), offset), strlen(text));
}

static bool session_is(struct kvfs_session *ses, const void *want, size_t len)
{
	char *got = malloc(len + 10);
	struct kvfs_stat st = {0};
	ssize_t n = kvfs_session_read(ses, got, len + 10, 0);
	bool same = kvfs_session_stat(ses, &st) == 0 && st.size == len && n >= 0 && api_same_bytes(got, (size_t)n, want, len);

	free(got);
	return same;
}

#define assert_session(ses, text) assert_true(session_is(ses, text, strlen(text)))

/* ---- new keys ---- */

static void test_create(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st, mine;

	struct kvfs_session *ses = create(s, root, "k", false);
	uint64_t ino = kvfs_session_ino(ses);
	assert_true(ino > 1 && ino >> KVFS_INO_BITS == 0);
	assert_true(kvfs_session_is_new(ses) && kvfs_session_is_dirty(ses));
	assert_err(kvfs_ll_lookup(s, root, "k", &st), -ENOENT);
	assert_err(kvfs_ll_getattr(s, ino, &st), -ESTALE);
	put_at(ses, "hello", 0);
	assert_ok(kvfs_session_stat(ses, &mine));
	assert_true(mine.ino == ino && mine.size == 5 && mine.mode == (S_IFREG | 0640) && mine.uid == me.uid && mine.gid == me.gid);
	assert_int_equal(mine.nlink, 1);
	assert_ok(kvfs_session_publish(ses));
	assert_false(kvfs_session_is_new(ses) || kvfs_session_is_dirty(ses));
	assert_ok(kvfs_ll_lookup(s, root, "k", &st));
	assert_true(st.ino == ino && st.size == 5 && st.mode == (S_IFREG | 0640) && st.uid == me.uid && st.gid == me.gid);
	assert_text(s, "k", "hello");
	put_at(ses, "J", 0);
	assert_true(kvfs_session_is_dirty(ses));
	assert_text(s, "k", "hello");
	kvfs_session_close(ses);
	assert_text(s, "k", "hello");

	/* Dropped: nothing was ever there, and the number is not used again. */
	ses = create(s, root, "never", false);
	uint64_t dropped = kvfs_session_ino(ses);
	put_at(ses, "x", 0);
	kvfs_session_close(ses);
	assert_absent(s, "never");
	ses = create(s, root, "other", false);
	assert_true(kvfs_session_ino(ses) != dropped && kvfs_session_ino(ses) != ino);
	assert_ok(kvfs_session_publish(ses));
	assert_value(s, "other", "", 0);
	kvfs_session_close(ses);
	assert_err(kvfs_session_create(s, 99999, "x", 0600, me, false, &ses), -ENOENT);
	assert_err(kvfs_session_open(s, 99999, false, &ses), -ESTALE);
}

static void test_create_meets_others(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st;

	struct kvfs_session *plain = create(s, root, "a", false), *excl = create(s, root, "b", true);
	put_at(plain, "mine", 0);
	put_at(excl, "mine", 0);
	assert_ok(api_put(s, "a", "theirs, longer"));
	assert_err(api_put(s, "b", "theirs"), -EEXIST);
	uint64_t theirs = ino_of(s, "a");
	assert_err(kvfs_session_publish(plain), -EEXIST); /* another user's */
	assert_text(s, "a", "theirs, longer");
	assert_ok(kvfs_ll_setattr(s, theirs, &(struct kvfs_setattr){.valid = KVFS_SET_UID, .uid = me.uid}, &st));
	assert_ok(kvfs_session_publish(plain));
	assert_text(s, "a", "mine");
	assert_true(ino_of(s, "a") == theirs || ino_of(s, "a") == kvfs_session_ino(plain));
	assert_ok(kvfs_session_publish(excl));
	assert_text(s, "b", "mine");
	kvfs_session_close(plain);
	kvfs_session_close(excl);
	assert_err(kvfs_session_create(s, root, "a", 0600, me, true, &excl), -EEXIST);

	/* Its name is a directory by then; its directory is gone by then. */
	assert_ok(kvfs_mkdir(s, "d", 0755));
	struct kvfs_session *ses = create(s, root, "x", false), *lost = create(s, ino_of(s, "d"), "k", false);
	assert_ok(kvfs_ll_mkdir(s, root, "x", 0755, me, &st));
	assert_err(kvfs_session_publish(ses), -EISDIR);
	assert_ok(kvfs_ll_rmdir(s, root, "d"));
	assert_err(kvfs_session_publish(lost), -ENOENT);
	kvfs_session_close(ses);
	kvfs_session_close(lost);
	assert_absent(s, "d");
}

/* The number is the key's, whoever publishes first; when that key moved away, the next gets another. */
static void test_shared_number(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_session *a = create(s, root, "k", false), *b = create(s, root, "k", false), *c = create(s, root, "k", false);
	uint64_t ino = kvfs_session_ino(a);

	assert_int_not_equal(kvfs_session_ino(b), ino);
	assert_ok(kvfs_session_share_ino(b, a));
	assert_ok(kvfs_session_share_ino(c, b));
	assert_int_equal(kvfs_session_ino(b), ino);
	assert_int_equal(kvfs_session_ino(c), ino);
	put_at(b, "b", 0);
	assert_ok(kvfs_session_publish(b));
	assert_int_equal(ino_of(s, "k"), ino);
	assert_ok(kvfs_session_publish(a));
	assert_int_equal(ino_of(s, "k"), ino);
	assert_text(s, "k", "");
	assert_ok(kvfs_rename(s, "k", "away", 0));
	assert_ok(kvfs_session_share_ino(c, a)); /* published: nothing happens */
	put_at(c, "c", 0);
	assert_ok(kvfs_session_publish(c));
	assert_int_equal(ino_of(s, "away"), ino);
	assert_int_not_equal(ino_of(s, "k"), ino);
	assert_int_equal(ino_of(s, "k"), kvfs_session_ino(c));
	kvfs_session_close(a);
	kvfs_session_close(b);
	kvfs_session_close(c);
}

static void test_rename_of_the_unpublished(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;

	assert_ok(kvfs_mkdir(s, "d", 0755));
	struct kvfs_session *ses = create(s, root, "a", true);
	put_at(ses, "text", 0);
	assert_ok(kvfs_session_rename(ses, ino_of(s, "d"), "b"));
	assert_ok(kvfs_session_publish(ses));
	assert_absent(s, "a");
	assert_text(s, "d/b", "text");
	assert_err(kvfs_session_rename(ses, root, "c"), -EINVAL);
	/* Once published, it follows its inode. */
	put_at(ses, "more", 4);
	assert_ok(kvfs_rename(s, "d/b", "elsewhere", 0));
	assert_ok(kvfs_session_publish(ses));
	assert_text(s, "elsewhere", "textmore");
	assert_absent(s, "d/b");
	kvfs_session_close(ses);
}

/* What is set before publication is there with it, at once. */
static void test_attributes_before_publication(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_GID | KVFS_SET_MTIME | KVFS_SET_ATIME,
		.mode = 04755,
		.uid = 3,
		.gid = 4,
		.mtime = {.tv_sec = 111, .tv_nsec = 222},
		.atime = {.tv_sec = 333, .tv_nsec = 444}};
	struct kvfs_stat st;
	char buf[40];

	struct kvfs_session *ses = create(s, root, "k", false);
	put_at(ses, "x", 0);
	assert_ok(kvfs_session_setattr(ses, &attr));
	assert_ok(kvfs_session_stat(ses, &st));
	assert_true(
		st.mode == (S_IFREG | 04755) && st.uid == 3 && st.gid == 4 && st.mtime.tv_sec == 111 && st.atime.tv_nsec == 444);
	assert_ok(kvfs_session_setxattr(ses, "user.a", "one", 3, KVFS_XATTR_CREATE));
	assert_ok(kvfs_session_setxattr(ses, "user.b", "two", 3, 0));
	assert_ok(kvfs_session_setxattr(ses, "user.c", "three", 5, 0));
	assert_err(kvfs_session_setxattr(ses, "user.a", "x", 1, KVFS_XATTR_CREATE), -EEXIST);
	assert_err(kvfs_session_setxattr(ses, "user.z", "x", 1, KVFS_XATTR_REPLACE), -ENODATA);
	assert_ok(kvfs_session_setxattr(ses, "user.b", "2", 1, KVFS_XATTR_REPLACE));
	assert_ok(kvfs_session_removexattr(ses, "user.c"));
	assert_err(kvfs_session_removexattr(ses, "user.c"), -ENODATA);
	assert_count(kvfs_session_listxattr(ses, buf, sizeof(buf)), 14);
	assert_count(kvfs_session_getxattr(ses, "user.a", buf, sizeof(buf)), 3);
	assert_err(kvfs_session_getxattr(ses, "user.a", buf, 2), -ERANGE);
	assert_err(kvfs_session_getxattr(ses, "user.c", buf, 2), -ENODATA);
	assert_ok(kvfs_session_publish(ses));
	uint64_t ino = kvfs_session_ino(ses);
	assert_ok(kvfs_ll_getattr(s, ino, &st));
	assert_true(st.mode == (S_IFREG | 04755) && st.uid == 3 && st.gid == 4);
	assert_true(st.mtime.tv_sec == 111 && st.mtime.tv_nsec == 222 && st.atime.tv_sec == 333);
	assert_count(kvfs_ll_getxattr(s, ino, "user.b", buf, 40), 1);
	assert_count(kvfs_ll_listxattr(s, ino, buf, 40), 14);

	/* On a key that is there: mode, owner and attributes at once, times at publication. */
	attr.valid = KVFS_SET_MODE | KVFS_SET_MTIME;
	attr.mode = 0600;
	attr.mtime.tv_sec = 555;
	assert_ok(kvfs_session_setattr(ses, &attr));
	assert_ok(kvfs_session_setxattr(ses, "user.now", "x", 1, 0));
	assert_ok(kvfs_ll_getattr(s, ino, &st));
	assert_true(st.mode == (S_IFREG | 0600) && st.mtime.tv_sec == 111);
	assert_count(kvfs_ll_getxattr(s, ino, "user.now", buf, 40), 1);
	assert_true(kvfs_session_is_dirty(ses));
	assert_ok(kvfs_session_stat(ses, &st));
	assert_int_equal(st.mtime.tv_sec, 555);
	assert_ok(kvfs_session_publish(ses));
	assert_ok(kvfs_ll_getattr(s, ino, &st));
	assert_int_equal(st.mtime.tv_sec, 555);
	/* The session set its time once: the next publication has the time of its own. */
	put_at(ses, "y", 1);
	assert_ok(kvfs_session_publish(ses));
	assert_ok(kvfs_ll_getattr(s, ino, &st));
	assert_true(st.mtime.tv_sec > 1000000 || st.mtime.tv_sec == 555);
	kvfs_session_close(ses);
}

/* ---- keys that are there ---- */

static void test_open_publish_close(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat before, after;

	assert_ok(api_put(s, "k", "0123456789"));
	assert_ok(kvfs_stat(s, "k", &before));
	struct kvfs_session *part = open_session(s, "k", false), *whole = open_session(s, "k", true);
	assert_false(kvfs_session_is_new(part) || kvfs_session_is_dirty(part));
	assert_true(kvfs_session_is_dirty(whole));
	assert_session(part, "0123456789");
	assert_session(whole, "");
	assert_ok(kvfs_session_publish(part));
	assert_ok(kvfs_stat(s, "k", &after));
	assert_int_equal(after.version, before.version);
	put_at(part, "xyz", 8);
	assert_session(part, "01234567xyz");
	assert_ok(kvfs_session_publish(part));
	assert_text(s, "k", "01234567xyz");
	assert_ok(kvfs_stat(s, "k", &after));
	assert_true(after.version > before.version && after.epoch != before.epoch && after.ino == before.ino);

	/* Cleared, a session of parts replaces. */
	put_at(part, "A", 0);
	assert_ok(kvfs_session_clear(part));
	assert_session(part, "");
	put_at(part, "B", 1);
	assert_true(session_is(part, "\0B", 2));
	assert_ok(api_put(s, "k", "something else"));
	assert_ok(kvfs_session_publish(part));
	assert_value(s, "k", "\0B", 2);
	put_at(whole, "whole", 0);
	assert_ok(kvfs_session_publish(whole));
	assert_text(s, "k", "whole");
	kvfs_session_close(part);
	kvfs_session_close(whole);
	assert_ok(kvfs_mkdir(s, "d", 0755));
	assert_true(kvfs_session_open(s, ino_of(s, "d"), false, &part) < 0);
}

static void test_orphans(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st;

	/* Told so, or found out. */
	for (int told = 0; told < 2; told++)
		for (int fresh = 0; fresh < 2; fresh++) {
			struct kvfs_session *ses;
			if (fresh && !told)
				continue;
			assert_ok(api_put(s, "k", "0123456789"));
			ses = fresh ? create(s, root, "fresh", false) : open_session(s, "k", false);
			put_at(ses, "x", 0);
			if (!fresh)
				assert_ok(kvfs_ll_unlink(s, root, "k", &st));
			if (told)
				kvfs_session_orphan(ses);
			assert_ok(kvfs_session_publish(ses));
			assert_session(ses, fresh ? "x" : "x123456789");
			put_at(ses, "y", 1);
			assert_session(ses, fresh ? "xy" : "xy23456789");
			assert_ok(kvfs_session_truncate(ses, 4));
			assert_true(session_is(ses, fresh ? "xy\0\0" : "xy23", 4));
			assert_ok(kvfs_session_publish(ses));
			kvfs_session_close(ses);
			assert_absent(s, "fresh");
			assert_true(fresh || kvfs_exists(s, "k") == 0);
		}
	/* A key of many chunks: the session reads the old ones on. */
	char *big = api_bytes(600000, 3), *got = malloc(600000);
	assert_ok(kvfs_put(s, "k", big, 600000, NULL, NULL));
	struct kvfs_session *ses = open_session(s, "k", false);
	put_at(ses, "changed", 300000);
	memcpy(big + 300000, "changed", 7);
	assert_ok(kvfs_ll_unlink(s, root, "k", &st));
	kvfs_session_orphan(ses);
	for (int i = 0; i < 100; i++)
		assert_ok(kvfs_put(s, "other", big, 300000, NULL, NULL));
	assert_count(kvfs_session_read(ses, got, 600000, 0), 600000);
	assert_true(api_same_bytes(got, 600000, big, 600000));
	kvfs_session_close(ses);
	free(big);
	free(got);
}

static void test_append(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;

	assert_ok(api_put(s, "k", "one."));
	struct kvfs_session *ses = open_session(s, "k", false), *other = open_session(s, "k", false);
	assert_count(kvfs_session_append(ses, "two.", 4), 4);
	assert_text(s, "k", "one.two.");
	assert_ok(kvfs_append(s, "k", "three.", 6));
	assert_count(kvfs_session_append(other, "four.", 5), 5);
	assert_count(kvfs_session_append(ses, "five.", 5), 5);
	assert_text(s, "k", "one.two.three.four.five.");
	/* Past what others added, and the session sees all of it. */
	assert_session(ses, "one.two.three.four.five.");
	put_at(ses, "x", 0);
	assert_err(kvfs_session_append(ses, "six.", 4), -EBUSY);
	assert_ok(kvfs_session_publish(ses));
	assert_count(kvfs_session_append(ses, "six.", 4), 4);
	assert_text(s, "k", "xne.two.three.four.five.six.");
	kvfs_session_close(ses);
	kvfs_session_close(other);

	ses = create(s, root, "log", false);
	assert_count(kvfs_session_append(ses, "first", 5), 5);
	assert_false(kvfs_session_is_new(ses));
	assert_text(s, "log", "first");
	kvfs_session_close(ses);
	assert_text(s, "log", "first");
	/* A megabyte at once. */
	char *big = api_bytes(1 << 20, 2);
	ses = open_session(s, "log", false);
	assert_count(kvfs_session_append(ses, big, 1 << 20), 1 << 20);
	kvfs_session_close(ses);
	char *got = malloc(1 << 20);
	assert_count(kvfs_get_into(s, "log", got, 1 << 20, 5), 1 << 20);
	assert_memory_equal(got, big, 1 << 20);
	free(big);
	free(got);
}

static void test_fallocate(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	const size_t len = 500000;
	char *want = api_bytes(len + 1000, 4);
	enum { KEEP = 1, PUNCH = 2, COLLAPSE = 8, ZERO = 16 };

	assert_ok(kvfs_put(s, "k", want, len, NULL, NULL));
	struct kvfs_session *ses = open_session(s, "k", false);
	assert_ok(kvfs_session_fallocate(ses, 0, 0, len));
	assert_ok(kvfs_session_fallocate(ses, KEEP, len, 5000));
	assert_true(session_is(ses, want, len));
	assert_ok(kvfs_session_fallocate(ses, 0, len - 10, 1010));
	memset(want + len, 0, 1000);
	assert_true(session_is(ses, want, len + 1000));
	assert_ok(kvfs_session_fallocate(ses, PUNCH | KEEP, 1000, 300000));
	memset(want + 1000, 0, 300000);
	assert_true(session_is(ses, want, len + 1000));
	assert_ok(kvfs_session_fallocate(ses, ZERO, 400000, 33));
	memset(want + 400000, 0, 33);
	assert_ok(kvfs_session_fallocate(ses, ZERO | KEEP, len, 9000000));
	assert_ok(kvfs_session_fallocate(ses, PUNCH | KEEP, len + 900, 9000000));
	assert_true(session_is(ses, want, len + 1000));
	assert_err(kvfs_session_fallocate(ses, COLLAPSE, 0, 4096), -EOPNOTSUPP);
	assert_true(kvfs_session_fallocate(ses, PUNCH, 0, 4096) < 0);
	assert_ok(kvfs_session_publish(ses));
	assert_value(s, "k", want, len + 1000);
	kvfs_session_close(ses);
	free(want);
}

/* ---- held values ---- */

static void test_held_values(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	const size_t len = 400000;
	char *data = api_bytes(len, 5), *other = api_bytes(len, 6), *got = malloc(len);
	struct kvfs_value *v[3];
	struct kvfs_stat st;
	struct kvfs_info info;

	for (int kind = 0; kind < 3; kind++) {
		size_t n = kind == 0 ? 100 : kind == 1 ? 5000 : len;
		assert_ok(kvfs_put(s, "k", data, n, NULL, NULL));
		for (int i = 0; i < 3; i++)
			assert_ok(kvfs_value_open(s, ino_of(s, "k"), &v[i], &st));
		assert_int_equal(st.size, n);
		assert_ok(kvfs_put(s, "k", other, len, NULL, NULL));
		assert_ok(kvfs_ll_unlink(s, root, "k", &st));
		assert_err(kvfs_ll_getattr(s, st.ino, &st), -ESTALE);
		for (int i = 0; i < 200; i++)
			assert_ok(kvfs_put(s, "churn", other + i, len / 2, NULL, NULL));
		for (int i = 0; i < 3; i++) {
			assert_count(kvfs_value_read(v[i], got, len, 0), n);
			assert_true(api_same_bytes(got, n, data, n));
			assert_count(kvfs_value_read(v[i], got, 50, n - 10), 10);
			assert_count(kvfs_value_read(v[i], got, 50, n), 0);
			assert_count(kvfs_value_seek(v[i], 0, false), 0);
			assert_count(kvfs_value_seek(v[i], 0, true), n);
			assert_err(kvfs_value_seek(v[i], n, true), -ENXIO);
			kvfs_value_close(v[i]);
		}
	}
	/* Let go, it is freed. */
	for (int i = 0; i < 50; i++)
		assert_ok(api_put(s, "small", "x"));
	assert_ok(kvfs_info(s, &info));
	assert_int_equal(info.held_values, 0);
	assert_true(info.garbage_bytes < 2 * len);

	assert_ok(kvfs_mkdir(s, "d", 0755));
	assert_ok(kvfs_symlink(s, "t", "l"));
	assert_err(kvfs_value_open(s, ino_of(s, "d"), &v[0], NULL), -EISDIR);
	assert_true(kvfs_value_open(s, ino_of(s, "l"), &v[0], NULL) < 0);
	assert_err(kvfs_value_open(s, 99999, &v[0], NULL), -ESTALE);
	free(data);
	free(other);
	free(got);
}

static void test_many_held(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	enum { N = 3000 };
	struct kvfs_value **v = calloc(N, sizeof(*v));
	char *data = api_bytes(20000, 1), got[8], key[20];
	int n = 0, rc = 0;

	for (; n < N; n++) {
		sprintf(key, "k%d", n);
		assert_ok(kvfs_put(s, key, data + n, 10000, NULL, NULL));
		rc = kvfs_value_open(s, ino_of(s, key), &v[n], NULL);
		if (rc)
			break;
		assert_ok(kvfs_put(s, key, data, 10, NULL, NULL));
	}
	print_message("\t%d old values held: %s\n", n, strerror(-rc));
	assert_true(rc == 0 || rc == -ENFILE);
	assert_true(n >= 500);
	for (int i = 0; i < n; i++) {
		assert_count(kvfs_value_read(v[i], got, 8, 0), 8);
		assert_memory_equal(got, data + i, 8);
		kvfs_value_close(v[i]);
	}
	assert_ok(kvfs_put(s, "k0", data, 10000, NULL, NULL));
	assert_ok(kvfs_value_open(s, ino_of(s, "k0"), &v[0], NULL));
	kvfs_value_close(v[0]);
	free(v);
	free(data);
}

/* ---- taking the newest value under what was written ---- */

static void test_refresh(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st;

	/* Nothing written: it sees the newest value, and says whether that is news. */
	assert_ok(api_put(s, "k", "one"));
	struct kvfs_session *ses = open_session(s, "k", false);
	assert_count(kvfs_session_refresh(ses), 0);
	assert_ok(api_put(s, "k", "second"));
	assert_session(ses, "one");
	assert_count(kvfs_session_refresh(ses), 1);
	assert_session(ses, "second");
	assert_false(kvfs_session_is_dirty(ses));
	assert_ok(kvfs_append(s, "k", "!", 1));
	assert_count(kvfs_session_refresh(ses), 1);
	assert_count(kvfs_session_refresh(ses), 0);
	assert_session(ses, "second!");

	/* Parts stay on top, and reach as far as they reach. */
	put_at(ses, "SE", 0);
	put_at(ses, "??", 8);
	assert_ok(api_put(s, "k", "xy"));
	assert_count(kvfs_session_refresh(ses), 1);
	assert_true(session_is(ses, "SE\0\0\0\0\0\0??", 10));
	assert_ok(api_put(s, "k", "a longer value"));
	assert_count(kvfs_session_refresh(ses), 1);
	assert_session(ses, "SElonger??alue");
	kvfs_session_close(ses);
	assert_text(s, "k", "a longer value");

	/* What replaces the value, is new, or gone, stays as it is. */
	struct kvfs_session *whole = open_session(s, "k", true), *fresh = create(s, root, "n", false);
	ses = open_session(s, "k", false);
	put_at(whole, "w", 0);
	put_at(fresh, "f", 0);
	assert_ok(api_put(s, "n", "other"));
	assert_ok(api_put(s, "k", "other"));
	assert_count(kvfs_session_refresh(whole), 0);
	assert_count(kvfs_session_refresh(fresh), 0);
	assert_session(whole, "w");
	assert_session(fresh, "f");
	assert_ok(kvfs_ll_unlink(s, root, "k", &st));
	assert_count(kvfs_session_refresh(ses), 0);
	assert_session(ses, "a longer value");
	kvfs_session_close(whole);
	kvfs_session_close(fresh);
	kvfs_session_close(ses);
}

static void somebody_else(struct kvfs_store *s, struct model *m, struct support_rng *rng, const char *data)
{
	size_t len = support_below(rng, 90000), at = support_below(rng, 90000);
	struct kvfs_stream *other;
	struct model_session *theirs;

	switch (support_below(rng, 4)) {
	case 0:
		assert_ok(kvfs_put(s, "k", data, len, NULL, NULL));
		assert_ok(model_put(m, "k", data, len, 0, 0644));
		break;
	case 1:
		assert_ok(kvfs_append(s, "k", data, len / 100));
		assert_ok(model_append(m, "k", data, len / 100));
		break;
	default:
		assert_ok(kvfs_stream_open(s, "k", KVFS_STREAM_WRITE, 0, &other));
		assert_ok(model_session_open(m, "k", 0, 0, &theirs));
		if (len % 2) {
			assert_count(kvfs_stream_write(other, data + at, len / 30, at), len / 30);
			model_session_write(theirs, data + at, len / 30, at);
		} else {
			assert_ok(kvfs_stream_truncate(other, at));
			model_session_truncate(theirs, at);
		}
		assert_ok(model_session_publish(theirs));
		model_session_close(theirs);
		assert_ok(kvfs_stream_close(other));
	}
}

/* After a refresh a session reads exactly what its publication at that moment makes, and that is what the model says. */
static void test_refresh_is_what_publication_makes(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct support_rng rng = support_rng(77);
	char *data = api_bytes(200000, 5);
	struct model *m = model_new(true);

	assert_ok(api_put(s, "k", "start"));
	assert_ok(model_put(m, "k", "start", 5, 0, 0644));
	for (unsigned round = 0; round < api_times(300); round++) {
		struct kvfs_session *ses = open_session(s, "k", false);
		struct model_session *mine;
		struct model_bytes *want;
		assert_ok(model_session_open(m, "k", 0, 0, &mine));
		for (uint64_t steps = support_below(&rng, 6); steps; steps--) {
			size_t at = support_below(&rng, 90000), len = support_below(&rng, 3) ? support_below(&rng, 40) : at;
			switch (support_below(&rng, 4)) {
			case 0:
				assert_ok(kvfs_session_truncate(ses, at));
				model_session_truncate(mine, at);
				break;
			case 1:
				somebody_else(s, m, &rng, data);
				assert_true(kvfs_session_refresh(ses) >= 0);
				break;
			default:
				assert_count(kvfs_session_write(ses, data + at, len, at), len);
				model_session_write(mine, data + at, len, at);
			}
		}
		somebody_else(s, m, &rng, data);
		assert_true(kvfs_session_refresh(ses) >= 0);
		assert_ok(model_session_publish(mine));
		assert_ok(model_get(m, "k", &want));
		assert_true(session_is(ses, want->data, want->len));
		assert_ok(kvfs_session_publish(ses));
		assert_value(s, "k", want->data, want->len);
		assert_count(kvfs_session_refresh(ses), 0);
		model_bytes_unref(want);
		model_session_close(mine);
		kvfs_session_close(ses);
	}
	model_free(m);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_create),
		API_TEST(test_create_meets_others),
		API_TEST(test_shared_number),
		API_TEST(test_rename_of_the_unpublished),
		API_TEST(test_attributes_before_publication),
		API_TEST(test_open_publish_close),
		API_TEST(test_orphans),
		API_TEST(test_append),
		API_TEST(test_fallocate),
		API_TEST(test_refresh),
		API_TEST(test_refresh_is_what_publication_makes),
		API_TEST(test_held_values),
		API_TEST(test_many_held),
	};

	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
