/* The inode-level interface, names and attributes: what rename(2), mkdir(2), unlink(2) and their like ask of a file system. */
#include "api.h"

#include <kvfs_ll.h>
#include <sys/sysmacros.h>

static const struct kvfs_cred me = {1000, 1001};

static uint64_t make_dir(struct kvfs_store *s, uint64_t parent, const char *name)
{
	struct kvfs_stat st = {0};

	assert_ok(kvfs_ll_mkdir(s, parent, name, 0755, me, &st));
	return st.ino;
}

static uint64_t make_file(struct kvfs_store *s, uint64_t parent, const char *name)
{
	struct kvfs_stat st = {0};

	assert_ok(kvfs_ll_mknod(s, parent, name, S_IFREG | 0644, 0, me, &st));
	return st.ino;
}

static uint64_t lookup(struct kvfs_store *s, uint64_t parent, const char *name)
{
	struct kvfs_stat st = {0};
	int rc = kvfs_ll_lookup(s, parent, name, &st);

	assert_true(rc == 0 || rc == -ENOENT);
	return rc ? 0 : st.ino;
}

static struct kvfs_stat getattr(struct kvfs_store *s, uint64_t ino)
{
	struct kvfs_stat st;

	assert_ok(kvfs_ll_getattr(s, ino, &st));
	return st;
}

/* ---- names ---- */

static void test_lookup(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st, again;
	uint64_t parent = 0;

	assert_ok(kvfs_ll_getattr(s, KVFS_ROOT_INO, &st));
	assert_int_equal(st.ino, KVFS_ROOT_INO);
	assert_true(S_ISDIR(st.mode));
	assert_ok(kvfs_ll_parent(s, KVFS_ROOT_INO, &parent));
	assert_int_equal(parent, KVFS_ROOT_INO);
	assert_err(kvfs_ll_lookup(s, KVFS_ROOT_INO, "none", &st), -ENOENT);
	assert_err(kvfs_ll_lookup(s, 123456, "none", &st), -ESTALE);
	assert_err(kvfs_ll_getattr(s, 123456, &st), -ESTALE);
	assert_err(kvfs_ll_getattr(s, 0, &st), -ESTALE);

	uint64_t d = make_dir(s, KVFS_ROOT_INO, "d"), f = make_file(s, d, "f");
	assert_ok(kvfs_ll_lookup(s, d, "f", &st));
	assert_int_equal(st.ino, f);
	assert_int_equal(st.uid, me.uid);
	assert_int_equal(st.gid, me.gid);
	assert_true(f >> KVFS_INO_BITS == 0);
	again = getattr(s, f);
	assert_memory_equal(&st, &again, sizeof(st));
	assert_err(kvfs_ll_lookup(s, f, "x", &st), -ENOTDIR);
	assert_ok(kvfs_ll_parent(s, d, &parent));
	assert_int_equal(parent, KVFS_ROOT_INO);
	/* The same keys as through the other door. */
	assert_value(s, "d/f", "", 0);
	assert_ok(api_put(s, "d/g", "text"));
	assert_int_equal(getattr(s, lookup(s, d, "g")).size, 4);
	assert_ok(kvfs_stat(s, "d/g", &st));
	assert_int_equal(st.ino, lookup(s, d, "g"));
}

static void test_bad_names(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	static const char *const bad[] = {"", ".", "..", "a/b", "/", "a/"};
	char longer[257];
	struct kvfs_stat st;

	uint64_t f = make_file(s, KVFS_ROOT_INO, "f");
	for (int i = 0; i < 6; i++) {
		assert_err(kvfs_ll_mkdir(s, KVFS_ROOT_INO, bad[i], 0755, me, &st), -EINVAL);
		assert_err(kvfs_ll_mknod(s, KVFS_ROOT_INO, bad[i], S_IFREG, 0, me, &st), -EINVAL);
		assert_err(kvfs_ll_symlink(s, "t", KVFS_ROOT_INO, bad[i], me, &st), -EINVAL);
		assert_err(kvfs_ll_link(s, f, KVFS_ROOT_INO, bad[i], &st), -EINVAL);
		assert_err(kvfs_ll_rename(s, KVFS_ROOT_INO, "f", KVFS_ROOT_INO, bad[i], 0, NULL), -EINVAL);
	}
	memset(longer, 'x', 256);
	longer[256] = '\0';
	assert_err(kvfs_ll_lookup(s, KVFS_ROOT_INO, longer, &st), -ENAMETOOLONG);
	assert_err(kvfs_ll_mkdir(s, KVFS_ROOT_INO, longer, 0755, me, &st), -ENAMETOOLONG);
	assert_err(kvfs_ll_rename(s, KVFS_ROOT_INO, "f", KVFS_ROOT_INO, longer, 0, NULL), -ENAMETOOLONG);
	longer[255] = '\0';
	assert_ok(kvfs_ll_mkdir(s, KVFS_ROOT_INO, longer, 0755, me, &st));
	assert_int_equal(lookup(s, KVFS_ROOT_INO, longer), st.ino);
}

static void test_mkdir_and_rmdir(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st;

	uint64_t d = make_dir(s, KVFS_ROOT_INO, "d"), f = make_file(s, d, "f");
	assert_err(kvfs_ll_mkdir(s, KVFS_ROOT_INO, "d", 0755, me, &st), -EEXIST);
	assert_err(kvfs_ll_mkdir(s, d, "f", 0755, me, &st), -EEXIST);
	assert_err(kvfs_ll_mkdir(s, f, "x", 0755, me, &st), -ENOTDIR);
	assert_err(kvfs_ll_mkdir(s, 987654, "x", 0755, me, &st), -ESTALE);
	assert_err(kvfs_ll_rmdir(s, KVFS_ROOT_INO, "d"), -ENOTEMPTY);
	assert_err(kvfs_ll_rmdir(s, d, "f"), -ENOTDIR);
	assert_err(kvfs_ll_rmdir(s, d, "none"), -ENOENT);
	assert_err(kvfs_ll_unlink(s, KVFS_ROOT_INO, "d", NULL), -EISDIR);
	/* The mount made it: it stays when it is empty. */
	assert_ok(kvfs_ll_unlink(s, d, "f", &st));
	assert_int_equal(st.ino, f);
	assert_int_equal(st.nlink, 0);
	assert_int_equal(lookup(s, KVFS_ROOT_INO, "d"), d);
	assert_ok(kvfs_ll_rmdir(s, KVFS_ROOT_INO, "d"));
	assert_int_equal(lookup(s, KVFS_ROOT_INO, "d"), 0);
	assert_err(kvfs_ll_rmdir(s, KVFS_ROOT_INO, "d"), -ENOENT);
	assert_err(kvfs_ll_getattr(s, d, &st), -ESTALE);
	assert_err(kvfs_ll_mknod(s, d, "f", S_IFREG | 0600, 0, me, &st), -ESTALE);
	assert_err(kvfs_ll_unlink(s, KVFS_ROOT_INO, "none", NULL), -ENOENT);
	assert_true(make_dir(s, KVFS_ROOT_INO, "d") != d);
}

static void test_setgid_directories(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE | KVFS_SET_GID, .mode = 02775, .gid = 77};
	struct kvfs_stat st;

	uint64_t d = make_dir(s, KVFS_ROOT_INO, "d");
	assert_ok(kvfs_ll_setattr(s, d, &attr, &st));
	assert_true(st.gid == 77 && (st.mode & 07777) == 02775);
	uint64_t sub = make_dir(s, d, "sub"), f = make_file(s, d, "f");
	assert_int_equal(getattr(s, sub).gid, 77);
	assert_true(getattr(s, sub).mode & S_ISGID);
	assert_int_equal(getattr(s, f).gid, 77);
	assert_false(getattr(s, f).mode & S_ISGID);
	assert_int_equal(getattr(s, f).uid, me.uid);
	struct kvfs_session *ses;
	assert_ok(kvfs_session_create(s, d, "new", 0600, me, false, &ses));
	assert_ok(kvfs_session_publish(ses));
	assert_int_equal(getattr(s, kvfs_session_ino(ses)).gid, 77);
	kvfs_session_close(ses);
}

static void test_nodes_and_links(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st;
	char buf[10];

	assert_ok(kvfs_ll_mknod(s, KVFS_ROOT_INO, "dev", S_IFCHR | 0600, makedev(1, 3), me, &st));
	assert_true(st.rdev == makedev(1, 3) && st.mode == (S_IFCHR | 0600));
	assert_ok(kvfs_ll_symlink(s, "target", KVFS_ROOT_INO, "link", me, &st));
	assert_true(S_ISLNK(st.mode) && st.size == 6);
	assert_count(kvfs_ll_readlink(s, st.ino, buf, sizeof(buf)), 6);
	assert_string_equal(buf, "target");
	assert_err(kvfs_ll_readlink(s, KVFS_ROOT_INO, buf, sizeof(buf)), -EINVAL);

	uint64_t f = make_file(s, KVFS_ROOT_INO, "f"), d = make_dir(s, KVFS_ROOT_INO, "d");
	assert_ok(kvfs_ll_link(s, f, d, "g", &st));
	assert_true(st.ino == f && st.nlink == 2);
	assert_err(kvfs_ll_link(s, f, d, "g", &st), -EEXIST);
	assert_err(kvfs_ll_link(s, d, KVFS_ROOT_INO, "e", &st), -EPERM);
	assert_err(kvfs_ll_link(s, 98765, KVFS_ROOT_INO, "e", &st), -ESTALE);
	assert_err(kvfs_ll_link(s, f, f, "e", &st), -ENOTDIR);
	assert_ok(kvfs_ll_unlink(s, KVFS_ROOT_INO, "f", &st));
	assert_true(st.ino == f && st.nlink == 1);
	assert_int_equal(lookup(s, d, "g"), f);
	assert_ok(kvfs_ll_unlink(s, d, "g", NULL));
	assert_err(kvfs_ll_getattr(s, f, &st), -ESTALE);
	assert_err(kvfs_ll_link(s, f, d, "again", &st), -ESTALE);
}

/* ---- rename(2) ---- */

static void test_rename(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat gone = {.ino = 5};
	const uint64_t root = KVFS_ROOT_INO;

	uint64_t a = make_dir(s, root, "a"), b = make_dir(s, a, "b"), e = make_dir(s, root, "e");
	uint64_t f = make_file(s, a, "f"), g = make_file(s, root, "g");
	uint64_t parent;

	assert_err(kvfs_ll_rename(s, root, "none", root, "x", 0, &gone), -ENOENT);
	assert_err(kvfs_ll_rename(s, 99999, "none", root, "x", 0, &gone), -ESTALE);
	assert_err(kvfs_ll_rename(s, root, "g", 99999, "x", 0, &gone), -ESTALE);
	assert_err(kvfs_ll_rename(s, root, "g", f, "x", 0, &gone), -ENOTDIR);
	assert_err(kvfs_ll_rename(s, root, "a", b, "x", 0, &gone), -EINVAL);
	assert_err(kvfs_ll_rename(s, root, "a", a, "x", 0, &gone), -EINVAL);
	assert_err(kvfs_ll_rename(s, root, "a", root, "g", 0, &gone), -ENOTDIR);
	assert_err(kvfs_ll_rename(s, root, "g", root, "a", 0, &gone), -EISDIR);
	assert_err(kvfs_ll_rename(s, root, "e", root, "a", 0, &gone), -ENOTEMPTY);
	assert_err(kvfs_ll_rename(s, a, "b", root, "a", 0, &gone), -ENOTEMPTY);
	assert_err(kvfs_ll_rename(s, root, "g", a, "f", KVFS_RENAME_NOREPLACE, &gone), -EEXIST);
	assert_err(kvfs_ll_rename(s, root, "g", root, "g", KVFS_RENAME_NOREPLACE, &gone), -EEXIST);
	assert_err(kvfs_ll_rename(s, root, "g", root, "h", KVFS_RENAME_EXCHANGE, &gone), -ENOENT);
	assert_err(kvfs_ll_rename(s, root, "g", root, "a", 3, &gone), -EINVAL);
	assert_int_equal(gone.ino, 5);

	assert_ok(kvfs_ll_rename(s, root, "g", root, "g", 0, &gone));
	assert_int_equal(gone.ino, 0);
	assert_ok(kvfs_ll_rename(s, root, "g", root, "h", 0, &gone));
	assert_int_equal(gone.ino, 0);
	assert_ok(kvfs_ll_rename(s, root, "h", a, "f", 0, &gone));
	assert_true(gone.ino == f && gone.nlink == 0);
	assert_int_equal(lookup(s, a, "f"), g);
	assert_int_equal(lookup(s, root, "h"), 0);
	/* A directory over an empty one, and its parent is another then. */
	assert_ok(kvfs_ll_rename(s, root, "a", root, "e", 0, &gone));
	assert_int_equal(gone.ino, e);
	assert_int_equal(lookup(s, root, "e"), a);
	assert_ok(kvfs_ll_rename(s, a, "b", root, "b", 0, NULL));
	assert_ok(kvfs_ll_parent(s, b, &parent));
	assert_int_equal(parent, root);
	assert_ok(kvfs_ll_rename(s, root, "e", b, "deep", KVFS_RENAME_NOREPLACE, NULL));
	assert_ok(kvfs_ll_parent(s, a, &parent));
	assert_int_equal(parent, b);
	assert_err(kvfs_ll_rename(s, root, "b", a, "x", 0, NULL), -EINVAL);
}

static void test_rename_links_and_exchange(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_stat st, gone = {0};
	const uint64_t root = KVFS_ROOT_INO;

	uint64_t f = make_file(s, root, "f"), d = make_dir(s, root, "d");
	assert_ok(kvfs_ll_link(s, f, d, "g", &st));
	/* Two names of one inode: nothing happens. */
	assert_ok(kvfs_ll_rename(s, root, "f", d, "g", 0, &gone));
	assert_int_equal(gone.ino, 0);
	assert_int_equal(lookup(s, root, "f"), f);
	assert_int_equal(lookup(s, d, "g"), f);
	make_file(s, root, "other");
	assert_ok(kvfs_ll_rename(s, root, "other", d, "g", 0, &gone));
	assert_true(gone.ino == f && gone.nlink == 1);

	/* A value and a directory swap; the directory's parent goes along. */
	uint64_t sub = make_dir(s, d, "sub"), parent;
	assert_ok(kvfs_ll_rename(s, root, "f", d, "sub", KVFS_RENAME_EXCHANGE, &gone));
	assert_int_equal(lookup(s, root, "f"), sub);
	assert_int_equal(lookup(s, d, "sub"), f);
	assert_ok(kvfs_ll_parent(s, sub, &parent));
	assert_int_equal(parent, root);
	uint64_t deep = make_dir(s, sub, "deep");
	assert_err(kvfs_ll_rename(s, root, "f", sub, "deep", KVFS_RENAME_EXCHANGE, NULL), -EINVAL);
	assert_err(kvfs_ll_rename(s, sub, "deep", root, "f", KVFS_RENAME_EXCHANGE, NULL), -EINVAL);
	assert_int_equal(lookup(s, sub, "deep"), deep);
	assert_ok(kvfs_stat(s, "", &st));
	assert_int_equal(st.size, 2);
}

/* Times of directories follow what happens in them. */
static void test_directory_times(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_setattr past = {.valid = KVFS_SET_MTIME, .mtime = {.tv_sec = 1000}};
	struct kvfs_stat st;

	uint64_t d = make_dir(s, KVFS_ROOT_INO, "d"), e = make_dir(s, KVFS_ROOT_INO, "e");
	for (int i = 0; i < 5; i++) {
		assert_ok(kvfs_ll_setattr(s, d, &past, &st));
		assert_ok(kvfs_ll_setattr(s, e, &past, &st));
		switch (i) {
		case 0:
			make_file(s, d, "f");
			break;
		case 1:
			make_dir(s, d, "s");
			break;
		case 2:
			assert_ok(kvfs_ll_rename(s, d, "f", e, "f", 0, NULL));
			assert_true(getattr(s, e).mtime.tv_sec > 1000);
			break;
		case 3:
			assert_ok(kvfs_ll_rmdir(s, d, "s"));
			break;
		default:
			assert_ok(kvfs_ll_symlink(s, "t", d, "l", me, &st));
		}
		assert_true(getattr(s, d).mtime.tv_sec > 1000);
		assert_true(getattr(s, d).ctime.tv_sec > 1000);
	}
}

/* ---- listing ---- */

struct filled {
	char last[256];
	int n, stop_after;
	bool stat;
};

static int fill(void *arg, const char *name, const struct kvfs_stat *st)
{
	struct filled *f = arg;

	assert_true(strcmp(f->last, name) < 0);
	assert_true(st->ino > 1);
	assert_true((st->mode & S_IFMT) == (name[0] == 'd' ? S_IFDIR : S_IFREG));
	if (f->stat)
		assert_true(st->nlink >= 1 && st->ctime.tv_sec > 0);
	strcpy(f->last, name);
	f->n++;
	return f->n == f->stop_after;
}

static void test_readdir(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct filled f = {.n = 0};
	char name[20], after[256];

	uint64_t d = make_dir(s, KVFS_ROOT_INO, "dir");
	for (int i = 0; i < 500; i++) {
		sprintf(name, "%c%d", i % 5 ? 'f' : 'd', i);
		if (i % 5)
			make_file(s, d, name);
		else
			make_dir(s, d, name);
	}
	assert_ok(kvfs_ll_readdir(s, d, NULL, false, fill, &f));
	assert_int_equal(f.n, 500);
	for (int step = 1; step < 200; step += 37) {
		int total = 0;
		*after = '\0';
		for (;;) {
			f = (struct filled){.stop_after = step, .stat = true};
			strcpy(f.last, after);
			assert_true(kvfs_ll_readdir(s, d, *after ? after : NULL, true, fill, &f) >= 0);
			total += f.n;
			if (f.n < step)
				break;
			strcpy(after, f.last);
			/* The name to go on from may be gone by then. */
			if (total == step) {
				uint64_t parent = d;
				assert_ok(*after == 'd' ? kvfs_ll_rmdir(s, parent, after) : kvfs_ll_unlink(s, parent, after, NULL));
			}
		}
		assert_true(total == 500 - (step - 1) / 37);
	}
	f = (struct filled){.n = 0};
	assert_err(kvfs_ll_readdir(s, 99999, NULL, false, fill, &f), -ESTALE);
	assert_err(kvfs_ll_readdir(s, lookup(s, d, "f2"), NULL, false, fill, &f), -ENOTDIR);
	assert_int_equal(f.n, 0);
}

/* ---- attributes ---- */

static void test_attributes(void **state)
{
	struct kvfs_store *s = ((struct api *)*state)->store;
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_ATIME,
		.mode = 04711,
		.uid = 5,
		.atime = {.tv_sec = 9, .tv_nsec = 8}};
	struct kvfs_stat st;
	struct statvfs vfs;
	char buf[20];

	uint64_t f = make_file(s, KVFS_ROOT_INO, "f");
	assert_ok(kvfs_ll_setattr(s, f, &attr, &st));
	assert_true(
		st.mode == (S_IFREG | 04711) && st.uid == 5 && st.gid == me.gid && st.atime.tv_sec == 9 && st.atime.tv_nsec == 8);
	assert_err(kvfs_ll_setattr(s, 98765, &attr, &st), -ESTALE);
	assert_ok(kvfs_ll_setxattr(s, f, "user.a", "12", 2, KVFS_XATTR_CREATE));
	assert_err(kvfs_ll_setxattr(s, f, "user.a", "12", 2, KVFS_XATTR_CREATE), -EEXIST);
	assert_count(kvfs_ll_getxattr(s, f, "user.a", buf, 20), 2);
	assert_count(kvfs_ll_listxattr(s, f, buf, 20), 7);
	assert_ok(kvfs_ll_removexattr(s, f, "user.a"));
	assert_err(kvfs_ll_removexattr(s, f, "user.a"), -ENODATA);
	assert_err(kvfs_ll_getxattr(s, f, "user.a", buf, 20), -ENODATA);
	assert_err(kvfs_ll_getxattr(s, 98765, "user.a", buf, 20), -ESTALE);
	assert_err(kvfs_ll_setxattr(s, 98765, "user.a", "1", 1, 0), -ESTALE);

	assert_ok(kvfs_ll_statfs(s, &vfs));
	assert_true(vfs.f_bsize > 0 && vfs.f_blocks >= vfs.f_bfree && vfs.f_bfree >= vfs.f_bavail && vfs.f_blocks > 0);
	assert_int_equal(vfs.f_namemax, 255);
	assert_ok(kvfs_ll_set_mountpoint(s, "/mnt/there"));
	struct kvfs_door door[2];
	assert_int_equal(kvfs_doors(s, door, 2), 1);
	assert_string_equal(door[0].mountpoint, "/mnt/there");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_lookup),
		API_TEST(test_bad_names),
		API_TEST(test_mkdir_and_rmdir),
		API_TEST(test_setgid_directories),
		API_TEST(test_nodes_and_links),
		API_TEST(test_rename),
		API_TEST(test_rename_links_and_exchange),
		API_TEST(test_directory_times),
		API_TEST(test_readdir),
		API_TEST(test_attributes),
	};

	return cmocka_run_group_tests_name("ll", tests, NULL, NULL);
}
