/* Renames, links, symbolic links, special files, attributes and extended attributes, by key. */
#include "api.h"

#include <sys/sysmacros.h>

static struct kvfs_stat stat_of(struct kvfs_store *store, const char *key)
{
	struct kvfs_stat st;

	assert_ok(kvfs_stat(store, key, &st));
	return st;
}

/* ---- renames ---- */

static void test_rename_values(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;

	assert_ok(api_put(s, "a", "1"));
	uint64_t ino = stat_of(s, "a").ino;
	assert_ok(kvfs_rename(s, "a", "x/y/b", 0));
	assert_absent(s, "a");
	assert_text(s, "x/y/b", "1");
	assert_int_equal(stat_of(s, "x/y/b").ino, ino);
	assert_ok(kvfs_rename(s, "x/y/b", "x/y/b", 0));
	assert_text(s, "x/y/b", "1");

	assert_ok(api_put(s, "c", "2"));
	assert_err(kvfs_rename(s, "c", "x/y/b", KVFS_RENAME_NOREPLACE), -EEXIST);
	assert_text(s, "c", "2");
	assert_ok(kvfs_rename(s, "c", "x/y/b", 0));
	assert_absent(s, "c");
	assert_text(s, "x/y/b", "2");
	assert_ok(kvfs_rename(s, "x/y/b", "d", KVFS_RENAME_NOREPLACE));
	assert_absent(s, "x");
	assert_err(kvfs_rename(s, "d", "e", KVFS_RENAME_EXCHANGE), -ENOENT);
	assert_err(kvfs_rename(s, "d", "p/q/e", KVFS_RENAME_EXCHANGE), -ENOENT);
	assert_absent(s, "p");
	assert_err(kvfs_rename(s, "d", "e", KVFS_RENAME_EXCHANGE | KVFS_RENAME_NOREPLACE), -EINVAL);
	assert_err(kvfs_rename(s, "d", "e", 1u << 10), -EINVAL);
	assert_ok(api_put(s, "e", "3"));
	assert_ok(kvfs_rename(s, "d", "e", KVFS_RENAME_EXCHANGE));
	assert_text(s, "d", "3");
	assert_text(s, "e", "2");
	/* A second name of the same inode: rename(2) does nothing, and that is a success. */
	assert_ok(kvfs_link(s, "d", "f"));
	assert_ok(kvfs_rename(s, "d", "f", 0));
	assert_text(s, "d", "3");
	assert_text(s, "f", "3");
	struct kvfs_info info;
	assert_ok(kvfs_info(s, &info));
	assert_int_equal(info.values, 2);
}

static void test_rename_directories(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;

	assert_ok(api_put(s, "a/b/k", "1"));
	assert_ok(kvfs_mkdir(s, "empty", 0700));
	assert_ok(api_put(s, "full/k", "2"));
	assert_ok(api_put(s, "v", "3"));
	assert_err(kvfs_rename(s, "a", "a/b/c", 0), -EINVAL);
	assert_err(kvfs_rename(s, "a", "a/b", 0), -EINVAL);
	assert_err(kvfs_rename(s, "a", "a/new/c", 0), -EINVAL);
	assert_absent(s, "a/new");
	assert_err(kvfs_rename(s, "a/b", "a", 0), -ENOTEMPTY);
	assert_err(kvfs_rename(s, "a", "full", 0), -ENOTEMPTY);
	assert_err(kvfs_rename(s, "a", "v", 0), -ENOTDIR);
	assert_err(kvfs_rename(s, "v", "a", 0), -EISDIR);
	assert_err(kvfs_rename(s, "v", "empty", 0), -EISDIR);
	assert_err(kvfs_rename(s, "a", "v/a", 0), -ENOTDIR);
	assert_ok(kvfs_rename(s, "a", "a", 0));
	assert_text(s, "a/b/k", "1");

	assert_ok(kvfs_rename(s, "a", "empty", 0));
	assert_absent(s, "a");
	assert_text(s, "empty/b/k", "1");
	assert_ok(kvfs_rename(s, "empty/b", "full/b", 0));
	assert_text(s, "full/b/k", "1");
	/* An implicit one came in the place of the explicit one, and it lost its last key. */
	assert_absent(s, "empty");
	assert_ok(kvfs_rename(s, "full", "v", KVFS_RENAME_EXCHANGE));
	assert_text(s, "full", "3");
	assert_text(s, "v/b/k", "1");
	assert_err(kvfs_rename(s, "v", "v/b", KVFS_RENAME_EXCHANGE), -EINVAL);
	assert_err(kvfs_rename(s, "v/b", "v", KVFS_RENAME_EXCHANGE), -EINVAL);
	assert_ok(kvfs_rename(s, "v/b", "v/k", KVFS_RENAME_EXCHANGE));
	assert_text(s, "v/b", "2");
	assert_text(s, "v/k/k", "1");
}

/* ---- links ---- */

static void test_links(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_info before, info;

	assert_ok(kvfs_info(s, &before));
	assert_ok(api_put(s, "a", "1"));
	assert_ok(kvfs_link(s, "a", "d/b"));
	assert_int_equal(stat_of(s, "a").nlink, 2);
	assert_int_equal(stat_of(s, "a").ino, stat_of(s, "d/b").ino);
	assert_ok(api_put(s, "d/b", "two names, one value"));
	assert_text(s, "a", "two names, one value");
	assert_ok(kvfs_append(s, "a", "!", 1));
	assert_text(s, "d/b", "two names, one value!");
	assert_err(kvfs_link(s, "a", "d/b"), -EEXIST);
	assert_err(kvfs_link(s, "a", "a"), -EEXIST);
	assert_err(kvfs_link(s, "d", "e"), -EPERM);
	assert_err(kvfs_link(s, "a", "a/b"), -ENOTDIR);
	assert_ok(kvfs_del(s, "a"));
	assert_text(s, "d/b", "two names, one value!");
	assert_int_equal(stat_of(s, "d/b").nlink, 1);

	char key[20];
	for (int i = 0; i < 500; i++) {
		sprintf(key, "l/%d", i);
		assert_ok(kvfs_link(s, "d/b", key));
	}
	assert_int_equal(stat_of(s, "l/77").nlink, 501);
	assert_ok(kvfs_info(s, &info));
	assert_int_equal(info.values, before.values + 1);
	assert_int_equal(info.names, before.names + 501 + 2);
	assert_int_equal(info.value_bytes, before.value_bytes + 21);
	assert_ok(kvfs_del_tree(s, "l", NULL));
	assert_int_equal(stat_of(s, "d/b").nlink, 1);
	assert_ok(kvfs_del(s, "d/b"));
	assert_ok(kvfs_info(s, &info));
	assert_int_equal(info.values, before.values);
	assert_int_equal(info.value_bytes, before.value_bytes);
}

static void test_symlinks(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	char buf[KVFS_KEY_MAX + 2], target[KVFS_KEY_MAX + 2];
	void *data;
	size_t len;
	struct kvfs_stream *st;

	assert_ok(kvfs_symlink(s, "../any where/\xff//..", "d/link"));
	assert_count(kvfs_readlink(s, "d/link", buf, sizeof(buf)), 18);
	assert_string_equal(buf, "../any where/\xff//..");
	assert_int_equal(stat_of(s, "d/link").mode & S_IFMT, S_IFLNK);
	assert_int_equal(stat_of(s, "d/link").size, 18);
	assert_count(kvfs_readlink(s, "d/link", buf, 19), 18);
	buf[0] = 'q';
	assert_err(kvfs_readlink(s, "d/link", buf, 18), -ERANGE);
	assert_err(kvfs_readlink(s, "d/link", buf, 0), -ERANGE);
	assert_int_equal(buf[0], 'q');
	assert_err(kvfs_symlink(s, "x", "d/link"), -EEXIST);
	assert_true(kvfs_symlink(s, "", "d/other") < 0);

	memset(target, 't', sizeof(target));
	target[KVFS_KEY_MAX] = '\0';
	assert_ok(kvfs_symlink(s, target, "long"));
	assert_count(kvfs_readlink(s, "long", buf, sizeof(buf)), KVFS_KEY_MAX);
	assert_string_equal(buf, target);
	target[KVFS_KEY_MAX] = 't';
	target[KVFS_KEY_MAX + 1] = '\0';
	assert_err(kvfs_symlink(s, target, "longer"), -ENAMETOOLONG);

	/* Never followed, at the end or on the way. */
	assert_ok(api_put(s, "v", "value"));
	assert_ok(kvfs_symlink(s, "v", "to-v"));
	assert_ok(kvfs_symlink(s, "d", "to-d"));
	assert_err(kvfs_get(s, "to-v", &data, &len), -ELOOP);
	assert_err(kvfs_get_into(s, "to-v", buf, 1, 0), -ELOOP);
	assert_err(api_put(s, "to-v", "x"), -ELOOP);
	assert_err(kvfs_incr(s, "to-v", 1, NULL), -ELOOP);
	assert_err(kvfs_stream_open(s, "to-v", KVFS_STREAM_READ, 0, &st), -ELOOP);
	assert_err(kvfs_stream_open(s, "to-v", KVFS_STREAM_WRITE | KVFS_STREAM_TRUNCATE, 0, &st), -ELOOP);
	assert_err(api_put(s, "to-d/k", "x"), -ENOTDIR);
	assert_err(kvfs_readlink(s, "v", buf, sizeof(buf)), -EINVAL);
	assert_err(kvfs_readlink(s, "d", buf, sizeof(buf)), -EINVAL);
	assert_text(s, "v", "value");
	assert_ok(kvfs_link(s, "to-v", "to-v2"));
	assert_int_equal(stat_of(s, "to-v2").nlink, 2);
	assert_ok(kvfs_rename(s, "to-v", "moved", 0));
	assert_ok(kvfs_del(s, "moved"));
	assert_ok(kvfs_del(s, "to-v2"));
	assert_present(s, "v");
}

static void test_special_files(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	const mode_t types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
	struct kvfs_info before, info;
	void *data;
	size_t len;
	char key[20];

	assert_ok(kvfs_info(s, &before));
	for (int i = 0; i < 4; i++) {
		sprintf(key, "dev/%d", i);
		assert_ok(kvfs_mknod(s, key, types[i] | 0620, makedev(8, 300)));
		struct kvfs_stat st = stat_of(s, key);
		assert_int_equal(st.mode, types[i] | 0620);
		assert_true(i < 2 || st.rdev == makedev(8, 300));
		assert_err(kvfs_get(s, key, &data, &len), -EINVAL);
		assert_err(kvfs_mknod(s, key, S_IFIFO | 0600, 0), -EEXIST);
		assert_true(api_put(s, key, "x") < 0);
		assert_int_equal(stat_of(s, key).mode, types[i] | 0620);
	}
	assert_ok(kvfs_info(s, &info));
	assert_int_equal(info.others, before.others + 4);
	assert_ok(kvfs_mknod(s, "empty", S_IFREG | 0600, 0));
	assert_value(s, "empty", "", 0);
	assert_int_equal(stat_of(s, "empty").mode, S_IFREG | 0600);
	assert_err(kvfs_mknod(s, "odd", S_IFDIR | 0700, 0), -EINVAL);
	assert_err(kvfs_mknod(s, "odd", S_IFLNK | 0700, 0), -EINVAL);
	assert_absent(s, "odd");
	assert_ok(kvfs_del_tree(s, "dev", NULL));
	assert_ok(kvfs_info(s, &info));
	assert_int_equal(info.others, before.others);
}

/* ---- attributes ---- */

static void test_setattr(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_GID | KVFS_SET_ATIME | KVFS_SET_MTIME,
		.mode = 06750,
		.uid = 1000,
		.gid = 2000,
		.atime = {.tv_sec = -1000, .tv_nsec = 999999999},
		.mtime = {.tv_sec = 5000000000, .tv_nsec = 1}};

	assert_err(kvfs_setattr(s, "k", &attr), -ENOENT);
	assert_ok(api_put(s, "k", "v"));
	uint64_t version = stat_of(s, "k").version;
	assert_ok(kvfs_setattr(s, "k", &attr));
	struct kvfs_stat st = stat_of(s, "k");
	assert_int_equal(st.mode, S_IFREG | 06750);
	assert_true(st.uid == 1000 && st.gid == 2000);
	assert_true(st.atime.tv_sec == -1000 && st.atime.tv_nsec == 999999999);
	assert_true(st.mtime.tv_sec == 5000000000 && st.mtime.tv_nsec == 1);
	assert_int_equal(st.version, version);
	assert_text(s, "k", "v");

	/* One at a time leaves the others. */
	attr = (struct kvfs_setattr){.valid = KVFS_SET_UID, .uid = 7, .mode = 0777};
	assert_ok(kvfs_setattr(s, "k", &attr));
	st = stat_of(s, "k");
	assert_true(st.uid == 7 && st.gid == 2000 && st.mode == (S_IFREG | 06750) && st.mtime.tv_sec == 5000000000);
	/* The type is not to be changed. */
	attr = (struct kvfs_setattr){.valid = KVFS_SET_MODE, .mode = S_IFDIR | 0700};
	int rc = kvfs_setattr(s, "k", &attr);
	assert_true(rc == 0 || rc == -EINVAL);
	assert_int_equal(stat_of(s, "k").mode & S_IFMT, S_IFREG);
	attr.valid = 1u << 12;
	assert_err(kvfs_setattr(s, "k", &attr), -EINVAL);
	attr.valid = KVFS_SET_MTIME;
	attr.mtime.tv_nsec = 1000000000;
	assert_err(kvfs_setattr(s, "k", &attr), -EINVAL);

	attr = (struct kvfs_setattr){.valid = KVFS_SET_MODE, .mode = 01777};
	assert_ok(kvfs_mkdir(s, "d", 0755));
	assert_ok(kvfs_setattr(s, "d", &attr));
	assert_int_equal(stat_of(s, "d").mode, S_IFDIR | 01777);
	/* Large values keep their bytes, and reading moves no time. */
	char *big = api_bytes(300000, 1);
	assert_ok(kvfs_put(s, "big", big, 300000, NULL, NULL));
	assert_ok(kvfs_setattr(s, "big", &attr));
	struct kvfs_stat before = stat_of(s, "big");
	assert_value(s, "big", big, 300000);
	st = stat_of(s, "big");
	assert_memory_equal(&before, &st, sizeof(st));
	free(big);
}

static void test_xattr(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	char buf[256], longer[300], *big = api_bytes(KVFS_XATTR_SIZE_MAX + 1, 8), *got = malloc(KVFS_XATTR_SIZE_MAX);

	assert_err(kvfs_setxattr(s, "k", "user.a", "1", 1, 0), -ENOENT);
	assert_ok(api_put(s, "k", "v"));
	uint64_t version = stat_of(s, "k").version;
	assert_count(kvfs_listxattr(s, "k", buf, sizeof(buf)), 0);
	assert_err(kvfs_getxattr(s, "k", "user.a", buf, 1), -ENODATA);
	assert_err(kvfs_removexattr(s, "k", "user.a"), -ENODATA);
	assert_err(kvfs_setxattr(s, "k", "user.a", "1", 1, KVFS_XATTR_REPLACE), -ENODATA);
	assert_ok(kvfs_setxattr(s, "k", "user.a", "one", 3, KVFS_XATTR_CREATE));
	assert_err(kvfs_setxattr(s, "k", "user.a", "1", 1, KVFS_XATTR_CREATE), -EEXIST);
	assert_ok(kvfs_setxattr(s, "k", "user.empty", NULL, 0, 0));
	assert_count(kvfs_getxattr(s, "k", "user.a", buf, 3), 3);
	assert_memory_equal(buf, "one", 3);
	assert_count(kvfs_getxattr(s, "k", "user.a", NULL, 0), 3);
	assert_err(kvfs_getxattr(s, "k", "user.a", buf, 2), -ERANGE);
	assert_count(kvfs_getxattr(s, "k", "user.empty", buf, 2), 0);
	assert_count(kvfs_listxattr(s, "k", NULL, 0), 18);
	assert_count(kvfs_listxattr(s, "k", buf, 18), 18);
	assert_true(!memcmp(buf, "user.a\0user.empty\0", 18) || !memcmp(buf, "user.empty\0user.a\0", 18));
	assert_err(kvfs_listxattr(s, "k", buf, 17), -ERANGE);
	assert_err(kvfs_setxattr(s, "k", "user.a", "1", 1, 1 << 7), -EINVAL);
	assert_err(kvfs_setxattr(s, "k", "user.a", "1", 1, KVFS_XATTR_CREATE | KVFS_XATTR_REPLACE), -EINVAL);

	assert_ok(kvfs_setxattr(s, "k", "user.big", big, KVFS_XATTR_SIZE_MAX, 0));
	assert_count(kvfs_getxattr(s, "k", "user.big", got, KVFS_XATTR_SIZE_MAX), KVFS_XATTR_SIZE_MAX);
	assert_memory_equal(got, big, KVFS_XATTR_SIZE_MAX);
	assert_err(kvfs_setxattr(s, "k", "user.big", big, KVFS_XATTR_SIZE_MAX + 1, 0), -E2BIG);
	memset(longer, 'n', sizeof(longer));
	memcpy(longer, "user.", 5);
	longer[255] = '\0';
	assert_ok(kvfs_setxattr(s, "k", longer, "1", 1, 0));
	assert_count(kvfs_getxattr(s, "k", longer, buf, 1), 1);
	longer[255] = 'n';
	longer[256] = '\0';
	assert_err(kvfs_setxattr(s, "k", longer, "1", 1, 0), -ERANGE);
	assert_true(kvfs_setxattr(s, "k", "", "1", 1, 0) < 0);
	assert_int_equal(stat_of(s, "k").version, version);
	assert_text(s, "k", "v");
	free(big);
	free(got);
}

static void test_xattr_limits_and_life(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	char *big = api_bytes(KVFS_XATTR_SIZE_MAX, 9), name[32];
	int rc = 0, n = 0;

	assert_ok(api_put(s, "k", "v"));
	for (; n < 40 && rc == 0; n += rc == 0) {
		sprintf(name, "user.%d", n);
		rc = kvfs_setxattr(s, "k", name, big, KVFS_XATTR_SIZE_MAX, 0);
	}
	assert_err(rc, -ENOSPC);
	assert_true(n >= 15 && n <= 16);
	/* One that replaces another counts once. */
	assert_ok(kvfs_setxattr(s, "k", "user.3", big, KVFS_XATTR_SIZE_MAX, 0));
	assert_ok(kvfs_removexattr(s, "k", "user.3"));
	assert_err(kvfs_getxattr(s, "k", "user.3", NULL, 0), -ENODATA);
	assert_ok(kvfs_setxattr(s, "k", "user.3", big, KVFS_XATTR_SIZE_MAX, 0));

	/* They belong to the inode: a put, a rename and a second name keep them, deletion ends them. */
	assert_ok(api_put(s, "k", "w"));
	assert_ok(kvfs_link(s, "k", "l"));
	assert_ok(kvfs_rename(s, "k", "m", 0));
	assert_count(kvfs_getxattr(s, "m", "user.5", NULL, 0), KVFS_XATTR_SIZE_MAX);
	assert_count(kvfs_getxattr(s, "l", "user.5", NULL, 0), KVFS_XATTR_SIZE_MAX);
	assert_ok(kvfs_del(s, "l"));
	assert_ok(kvfs_del(s, "m"));
	assert_ok(api_put(s, "k", "v"));
	assert_count(kvfs_listxattr(s, "k", NULL, 0), 0);
	assert_ok(kvfs_mkdir(s, "d", 0755));
	assert_ok(kvfs_setxattr(s, "d", "user.x", "1", 1, 0));
	assert_count(kvfs_getxattr(s, "d", "user.x", NULL, 0), 1);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_rename_values),
		API_TEST(test_rename_directories),
		API_TEST(test_links),
		API_TEST(test_symlinks),
		API_TEST(test_special_files),
		API_TEST(test_setattr),
		API_TEST(test_xattr),
		API_TEST(test_xattr_limits_and_life),
	};

	return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
