/* Opening and closing stores: what is made, what is refused and in which words, one store opened twice, doors, forks. */
#include "api.h"

#include <grp.h>
#include <sched.h>
#include <sys/resource.h>

#define NOBODY 65534

/* Opens with `opt` and wants the failure `want`, told in one line of text. */
static void refuse_opt(const char *path, const struct kvfs_options *opt, int want, const char *file, int line)
{
	struct kvfs_store *store = (void *)1;
	struct kvfs_error err = {0};
	int rc = kvfs_open(path, opt, &store, &err);

	support_check_err(rc, want, path, file, line);
	assert_ptr_equal(store, (void *)1);
	assert_int_equal(err.code, rc);
	assert_true(err.text[0] != '\0' && !strchr(err.text, '\n') && strlen(err.text) < sizeof(err.text));
	print_message("\t%s\n", err.text);
	assert_err(kvfs_open(path, opt, &store, NULL), want);
}

static void refuse_flags(const char *path, unsigned flags, int want, const char *file, int line)
{
	struct kvfs_options opt = {.size = sizeof(opt), .flags = flags, .durability = KVFS_NONE};

	refuse_opt(path, &opt, want, file, line);
}

#define assert_refused(path, flags, want) refuse_flags(path, flags, want, __FILE__, __LINE__)

static void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static unsigned mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* ---- making ---- */

static void test_create(void **state)
{
	struct api *a = *state;
	struct kvfs_store *store;
	struct kvfs_info info;

	assert_refused(a->path, 0, -ENOENT);
	assert_int_equal(access(a->path, F_OK), -1);
	assert_refused(a->path, KVFS_RDONLY, -ENOENT);

	store = api_open(a->path, KVFS_CREATE);
	assert_ok(kvfs_info(store, &info));
	assert_string_equal(info.path, a->path);
	assert_int_equal(strlen(info.uuid), 36);
	assert_int_equal(info.values, 0);
	assert_int_equal(info.others, 0);
	assert_int_equal(info.value_bytes, 0);
	assert_true(info.format >= 1 && info.page_size >= 512 && info.chunk_size > info.inline_max && info.file_bytes > 0);
	assert_int_equal(info.doors, 1);
	kvfs_close(store);
	assert_int_equal(mode_of(a->path), 0700);

	assert_refused(a->path, KVFS_CREATE | KVFS_EXCL, -EEXIST);
	store = api_open(a->path, KVFS_CREATE);
	struct kvfs_info again;
	assert_ok(kvfs_info(store, &again));
	assert_string_equal(again.uuid, info.uuid);
	kvfs_close(store);
}

static void test_create_in_an_empty_directory(void **state)
{
	struct api *a = *state;
	char sub[200];

	assert_int_equal(mkdir(a->path, 0755), 0);
	struct kvfs_store *store = api_open(a->path, KVFS_CREATE);
	assert_ok(api_put(store, "k", "v"));
	kvfs_close(store);

	snprintf(sub, sizeof(sub), "%s/absent/store", a->dir);
	assert_refused(sub, KVFS_CREATE, -ENOENT);
}

static void test_create_mode_is_not_cut_by_umask(void **state)
{
	struct api *a = *state;
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .mode = 0770, .durability = KVFS_NONE};
	struct kvfs_store *store;
	char file[200];
	mode_t old = umask(077);

	if (geteuid() == 0) {
		opt.set_group = true;
		opt.group = 12345;
	}
	assert_ok(kvfs_open(a->path, &opt, &store, NULL));
	assert_ok(api_put(store, "k", "v"));
	umask(old);

	struct stat st;
	assert_int_equal(stat(a->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0770);
	if (opt.set_group) {
		assert_int_equal(st.st_gid, 12345);
		assert_true(st.st_mode & S_ISGID);
	}
	const char *const names[] = {"data.mdb", "lock.mdb", "FORMAT"};
	for (size_t i = 0; i < 3; i++) {
		snprintf(file, sizeof(file), "%s/%s", a->path, names[i]);
		assert_int_equal(stat(file, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0660);
		assert_true(!opt.set_group || st.st_gid == 12345);
	}
	kvfs_close(store);
}

static int create_child(void *arg)
{
	const struct api *a = arg;
	struct kvfs_store *store;

	CHECK(api_open_as(a->path, KVFS_CREATE, KVFS_NONE, &store) == 0);
	CHECK(kvfs_incr(store, "opened", 1, NULL) == 0);
	kvfs_close(store);
	return 0;
}

static int create_excl_child(void *arg)
{
	const struct api *a = arg;
	struct kvfs_store *store;
	int rc = api_open_as(a->path, KVFS_CREATE | KVFS_EXCL, KVFS_NONE, &store);

	if (rc == 0)
		kvfs_close(store);
	return rc == 0 ? 10 : rc == -EEXIST ? 20 : 1;
}

/* Many make the same store at once: all get the same one; with EXCL exactly one made it. */
static void test_create_race(void **state)
{
	struct api *a = *state;

	for (int round = 0; round < 5; round++) {
		enum { N = 6 };
		pid_t pid[N];
		int made = 0;

		for (int i = 0; i < N; i++)
			pid[i] = api_fork(create_child, a, 20);
		for (int i = 0; i < N; i++)
			assert_child(pid[i]);
		struct kvfs_store *store = api_open(a->path, 0);
		assert_text(store, "opened", "6");
		kvfs_close(store);
		support_remove(a->path);

		for (int i = 0; i < N; i++)
			pid[i] = api_fork(create_excl_child, a, 20);
		for (int i = 0; i < N; i++) {
			int status = api_wait(pid[i]);
			assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 10 || WEXITSTATUS(status) == 20));
			made += WEXITSTATUS(status) == 10;
		}
		assert_int_equal(made, 1);
		support_remove(a->path);
	}
}

static int small_child(void *arg)
{
	struct rlimit lim = {6ull << 30, 6ull << 30};

	/* Sanitizers need all of it, and one of them leaves too little anyway. */
	CHECK(api_is_slow() || setrlimit(RLIMIT_AS, &lim) == 0);
	return create_child(arg);
}

/* Who has little address space tries smaller and smaller maps: none of these attempts may disturb those who open at the same time. */
static void test_openers_with_little_address_space(void **state)
{
	struct api *a = *state;
	enum { N = 6, ROUNDS = 25 };
	pid_t pid[N];
	char want[20];

	for (unsigned round = 0; round < api_times(ROUNDS); round++) {
		for (int i = 0; i < N; i++)
			pid[i] = api_fork(small_child, a, 60);
		for (int i = 0; i < N; i++)
			assert_child(pid[i]);
		struct kvfs_store *store = api_open(a->path, 0);
		snprintf(want, sizeof(want), "%u", (round + 1) * N);
		assert_text(store, "opened", want);
		kvfs_close(store);
	}
}

/* ---- refusing ---- */

static void test_not_a_store(void **state)
{
	struct api *a = *state;
	char file[200], link[200];

	write_file(a->path, "hello", 5);
	assert_refused(a->path, 0, -ENOTDIR);
	assert_refused(a->path, KVFS_CREATE, -ENOTDIR);
	snprintf(file, sizeof(file), "%s/below", a->path);
	assert_refused(file, KVFS_CREATE, -ENOTDIR);
	unlink(a->path);

	/* Somebody's directory is left as it was. */
	assert_int_equal(mkdir(a->path, 0755), 0);
	snprintf(file, sizeof(file), "%s/thesis.tex", a->path);
	write_file(file, "hello", 5);
	assert_refused(a->path, 0, -ENOENT);
	assert_refused(a->path, KVFS_CREATE, -EMEDIUMTYPE);
	assert_int_equal(mode_of(a->path), 0755);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(a->path), 0);

	snprintf(link, sizeof(link), "%s/dangling", a->dir);
	assert_int_equal(symlink("nowhere", link), 0);
	assert_refused(link, 0, -ENOENT);
	snprintf(link, sizeof(link), "%s/loop", a->dir);
	assert_int_equal(symlink("loop", link), 0);
	assert_refused(link, KVFS_CREATE, -ELOOP);
	assert_refused("", KVFS_CREATE, -ENOENT);

	char *longer = calloc(1, 5001);
	memset(longer, 'a', 5000);
	assert_refused(longer, KVFS_CREATE, -ENAMETOOLONG);
	free(longer);
}

static void test_bad_options(void **state)
{
	struct api *a = *state;
	struct kvfs_store *store;
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE | 1u << 20};

	refuse_opt(a->path, &opt, -EINVAL, __FILE__, __LINE__);
	opt.flags = KVFS_CREATE;
	opt.durability = (enum kvfs_durability)77;
	refuse_opt(a->path, &opt, -EINVAL, __FILE__, __LINE__);
	opt.durability = KVFS_NONE;
	assert_int_equal(access(a->path, F_OK), -1);

	/* No options at all open what is there. */
	opt.flags = KVFS_CREATE;
	assert_ok(kvfs_open(a->path, &opt, &store, NULL));
	kvfs_close(store);
	assert_ok(kvfs_open(a->path, NULL, &store, NULL));
	assert_ok(api_put(store, "k", "v"));
	kvfs_close(store);
	kvfs_close(NULL);
}

static void test_small_map(void **state)
{
	struct api *a = *state;
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 4 << 20};
	struct kvfs_store *store;
	char *big = api_bytes(1 << 20, 7), key[16];
	int rc = 0, stored = 0;

	assert_ok(kvfs_open(a->path, &opt, &store, NULL));
	for (int i = 0; i < 20 && rc == 0; i++) {
		snprintf(key, sizeof(key), "%d", i);
		rc = kvfs_put(store, key, big, 1 << 20, NULL, NULL);
		stored += rc == 0;
	}
	assert_err(rc, -ENOSPC);
	for (int i = 0; i < stored; i++) {
		snprintf(key, sizeof(key), "%d", i);
		assert_value(store, key, big, 1 << 20);
	}
	kvfs_close(store);

	/* The size of the map is the door's, not the store's. */
	store = api_open(a->path, 0);
	for (int i = 0; i < 20; i++) {
		snprintf(key, sizeof(key), "%d", i);
		assert_ok(kvfs_put(store, key, big, 1 << 20, NULL, NULL));
	}
	kvfs_close(store);
	free(big);
}

/* Runs as an ordinary user, with no group but its own; the result is -rc of the open. */
struct as_user {
	const char *path;
	unsigned flags;
};

static int open_as_user(void *arg)
{
	const struct as_user *u = arg;
	struct kvfs_store *store = NULL;

	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY))
		return 200;
	int rc = api_open_as(u->path, u->flags, KVFS_NONE, &store);
	if (rc)
		return -rc;
	if (!api_has_value(store, "k", "v", 1))
		return 201;
	rc = api_put(store, "new", "v");
	kvfs_close(store);
	return u->flags & KVFS_RDONLY ? (rc == -EROFS ? 0 : 202) : -rc;
}

static int status_as_user(const char *path, unsigned flags)
{
	struct as_user u = {path, flags};
	int status = api_wait(api_fork(open_as_user, &u, 20));

	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void set_modes(const char *path, mode_t dir, mode_t files)
{
	static const char *const names[] = {"data.mdb", "lock.mdb", "FORMAT", "doors"};
	char file[200];

	for (size_t i = 0; i < 4; i++) {
		snprintf(file, sizeof(file), "%s/%s", path, names[i]);
		if (chmod(file, files) && errno != ENOENT)
			fail();
	}
	assert_int_equal(chmod(path, dir), 0);
}

static void test_permissions(void **state)
{
	struct api *a = *state;
	struct kvfs_store *store;
	char sub[200];

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(a->dir, 0755), 0);
	store = api_open(a->path, KVFS_CREATE);
	assert_ok(api_put(store, "k", "v"));
	kvfs_close(store);

	assert_int_equal(status_as_user(a->path, 0), EACCES);
	assert_int_equal(status_as_user(a->path, KVFS_RDONLY), EACCES);
	set_modes(a->path, 0755, 0600);
	assert_int_equal(status_as_user(a->path, 0), EACCES);
	assert_int_equal(status_as_user(a->path, KVFS_RDONLY), EACCES);

	/* May read the files, but write nothing: refused for writing, and for reading served or refused, never a crash. */
	set_modes(a->path, 0755, 0644);
	assert_int_equal(status_as_user(a->path, 0), EACCES);
	int got = status_as_user(a->path, KVFS_RDONLY);
	assert_true(got == 0 || got == EACCES || got == EROFS);

	set_modes(a->path, 0777, 0666);
	assert_int_equal(status_as_user(a->path, 0), 0);
	assert_int_equal(status_as_user(a->path, KVFS_RDONLY), 0);

	snprintf(sub, sizeof(sub), "%s/other", a->dir);
	assert_int_equal(status_as_user(sub, KVFS_CREATE), EACCES);
	assert_int_equal(access(sub, F_OK), -1);
}

/* ---- reading only, and opening twice ---- */

static void test_read_only(void **state)
{
	struct api *a = *state;
	struct kvfs_store *store = api_open(a->path, KVFS_CREATE);
	struct kvfs_txn *txn = NULL;
	struct kvfs_stream *st = NULL;
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0600};
	int64_t sum;

	assert_ok(api_put(store, "k", "v"));
	kvfs_close(store);
	store = api_open(a->path, KVFS_RDONLY);
	assert_text(store, "k", "v");
	assert_err(api_put(store, "k", "w"), -EROFS);
	assert_err(kvfs_del(store, "k"), -EROFS);
	assert_err(kvfs_del_tree(store, "", NULL), -EROFS);
	assert_err(kvfs_append(store, "k", "w", 1), -EROFS);
	assert_err(kvfs_incr(store, "n", 1, &sum), -EROFS);
	assert_err(kvfs_rename(store, "k", "l", 0), -EROFS);
	assert_err(kvfs_mkdir(store, "d", 0755), -EROFS);
	assert_err(kvfs_link(store, "k", "l"), -EROFS);
	assert_err(kvfs_symlink(store, "k", "l"), -EROFS);
	assert_err(kvfs_mknod(store, "l", S_IFIFO | 0600, 0), -EROFS);
	assert_err(kvfs_setattr(store, "k", &attr), -EROFS);
	assert_err(kvfs_setxattr(store, "k", "user.x", "1", 1, 0), -EROFS);
	assert_err(kvfs_removexattr(store, "k", "user.x"), -EROFS);
	assert_err(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn), -EROFS);
	assert_err(kvfs_stream_open(store, "k", KVFS_STREAM_WRITE, 0, &st), -EROFS);
	assert_err(kvfs_stream_open(store, "n", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &st), -EROFS);
	assert_null(txn);
	assert_null(st);

	assert_ok(kvfs_stream_open(store, "k", KVFS_STREAM_READ, 0, &st));
	assert_ok(kvfs_stream_close(st));
	assert_ok(kvfs_txn_begin(store, 0, &txn));
	assert_ok(kvfs_txn_commit(&txn));
	kvfs_close(store);
}

static void test_one_store_opened_twice(void **state)
{
	struct api *a = *state;
	char link[200], cwd[4096], odd[200];

	snprintf(link, sizeof(link), "%s/link", a->dir);
	snprintf(odd, sizeof(odd), "%s/./store/", a->dir);
	assert_int_equal(symlink("store", link), 0);
	struct kvfs_store *one = api_open(a->path, KVFS_CREATE);
	struct kvfs_store *two = api_open(link, 0);
	struct kvfs_store *three = api_open(odd, KVFS_RDONLY);
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_int_equal(chdir(a->dir), 0);
	struct kvfs_store *four = api_open("store", 0);
	assert_int_equal(chdir(cwd), 0);
	assert_ptr_not_equal(one, two);

	assert_ok(api_put(one, "a", "1"));
	assert_text(two, "a", "1");
	assert_ok(api_put(two, "a", "2"));
	assert_text(three, "a", "2");
	assert_err(api_put(three, "a", "3"), -EROFS);
	kvfs_close(one);
	assert_ok(api_put(two, "a", "4"));
	assert_text(three, "a", "4");
	assert_text(four, "a", "4");
	kvfs_close(two);
	kvfs_close(four);
	assert_text(three, "a", "4");
	one = api_open(a->path, 0);
	struct kvfs_info info;
	assert_ok(kvfs_info(one, &info));
	assert_int_equal(info.doors, 1);
	kvfs_close(three);
	kvfs_close(one);
}

/* A store put in the place of another is another store, although a handle on the first is open. */
static void test_replaced_directory(void **state)
{
	struct api *a = *state;
	char aside[200];

	struct kvfs_store *old = api_open(a->path, KVFS_CREATE);
	assert_ok(api_put(old, "which", "old"));
	snprintf(aside, sizeof(aside), "%s/aside", a->dir);
	assert_int_equal(rename(a->path, aside), 0);
	struct kvfs_store *new = api_open(a->path, KVFS_CREATE | KVFS_EXCL);
	assert_ok(api_put(new, "which", "new"));
	assert_text(old, "which", "old");
	struct kvfs_store *again = api_open(aside, 0);
	assert_text(again, "which", "old");
	kvfs_close(old);
	kvfs_close(again);
	assert_text(new, "which", "new");
	kvfs_close(new);
}

static void test_reopening_many_times(void **state)
{
	struct api *a = *state;
	struct kvfs_info info;

	kvfs_close(api_open(a->path, KVFS_CREATE));
	for (unsigned i = 0; i < api_times(300); i++) {
		struct kvfs_store *store = api_open(a->path, 0);
		assert_ok(kvfs_incr(store, "n", 1, NULL));
		assert_ok(kvfs_info(store, &info));
		assert_int_equal(info.doors, 1);
		kvfs_close(store);
	}
	int fd = open("/dev/null", O_RDONLY);
	assert_true(fd >= 0 && fd < 32);
	close(fd);
}

static void test_full_durability_and_sync(void **state)
{
	struct api *a = *state;
	struct kvfs_info info;
	struct kvfs_store *store;

	assert_ok(api_open_as(a->path, KVFS_CREATE, KVFS_DURABILITY_DEFAULT, &store));
	assert_ok(api_put(store, "k", "v"));
	assert_ok(kvfs_info(store, &info));
	assert_true(info.last_sync_ns > 0);
	assert_ok(kvfs_sync(store));
	kvfs_close(store);

	store = api_open(a->path, 0);
	assert_ok(api_put(store, "k", "w"));
	int64_t before = info.last_sync_ns;
	assert_ok(kvfs_sync(store));
	assert_ok(kvfs_info(store, &info));
	assert_true(info.last_sync_ns >= before);
	assert_text(store, "k", "w");
	kvfs_close(store);
}

/* ---- doors ---- */

static int door_child(void *arg)
{
	int *pipes = arg;
	char path[200], c;
	struct kvfs_store *store;
	ssize_t n = read(pipes[0], path, sizeof(path));

	CHECK(n > 0);
	CHECK(api_open_as(path, 0, KVFS_NONE, &store) == 0);
	CHECK(write(pipes[3], "!", 1) == 1);
	return read(pipes[0], &c, 1) == 1 ? 0 : 1;
}

static void test_doors(void **state)
{
	struct api *a = *state;
	struct kvfs_door door[8];
	struct kvfs_info info;
	int pipes[4];
	char c;

	struct kvfs_store *store = api_open(a->path, KVFS_CREATE);
	assert_int_equal(kvfs_doors(store, door, 8), 1);
	assert_int_equal(door[0].pid, getpid());
	assert_string_equal(door[0].purpose, "test");
	assert_string_equal(door[0].mountpoint, "");
	int64_t now = (int64_t)time(NULL) * 1000000000;
	assert_true(door[0].since_ns > now - 60000000000 && door[0].since_ns < now + 60000000000);

	assert_int_equal(pipe(pipes) + pipe(pipes + 2), 0);
	pid_t pid = api_fork(door_child, pipes, 20);
	assert_true(write(pipes[1], a->path, strlen(a->path) + 1) > 0);
	assert_int_equal(read(pipes[2], &c, 1), 1);
	assert_int_equal(kvfs_doors(store, door, 8), 2);
	assert_true(door[0].pid == pid || door[1].pid == pid);
	assert_int_not_equal(door[0].id, door[1].id);
	assert_int_equal(kvfs_doors(store, door, 1), 2);
	assert_int_equal(kvfs_doors(store, NULL, 0), 2);
	assert_ok(kvfs_info(store, &info));
	assert_int_equal(info.doors, 2);

	/* However it ends, it is gone. */
	kill(pid, SIGKILL);
	api_wait(pid);
	assert_int_equal(kvfs_doors(store, door, 8), 1);
	assert_int_equal(door[0].pid, getpid());
	kvfs_close(store);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
}

static int foreign_child(void *arg)
{
	const struct api *a = arg;
	struct kvfs_store *store;

	return api_open_as(a->path, 0, KVFS_NONE, &store) == -EXDEV ? 0 : 1;
}

static int foreign_namespace(void *arg)
{
	if (unshare(CLONE_NEWPID))
		return 77;
	int status = api_wait(api_fork(foreign_child, arg, 10));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Process ids mean nothing across pid namespaces: such a door is refused, and the first one is not disturbed. */
static void test_other_pid_namespace(void **state)
{
	struct api *a = *state;

	struct kvfs_store *store = api_open(a->path, KVFS_CREATE);
	assert_ok(api_put(store, "k", "v"));
	int status = api_wait(api_fork(foreign_namespace, a, 20));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		kvfs_close(store);
		skip();
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_text(store, "k", "v");
	assert_ok(api_put(store, "k", "w"));
	kvfs_close(store);
}

/* ---- fork ---- */

struct inherited {
	const struct api *a;
	struct kvfs_store *store;
	struct kvfs_txn *reader, *writer;
	struct kvfs_cursor *cursor;
	struct kvfs_stream *in, *out;
};

static int inherited_child(void *arg)
{
	struct inherited *h = arg;
	struct kvfs_entry entry;
	struct kvfs_info info;
	struct kvfs_stat st;
	struct kvfs_txn *txn = NULL;
	struct kvfs_store *store;
	void *data;
	size_t len;
	char c;

	CHECK(kvfs_get(h->store, "k", &data, &len) == -EBADFD);
	CHECK(api_put(h->store, "k", "child") == -EBADFD);
	CHECK(kvfs_stat(h->store, "k", &st) == -EBADFD);
	CHECK(kvfs_exists(h->store, "k") == -EBADFD);
	CHECK(kvfs_del(h->store, "k") == -EBADFD);
	CHECK(kvfs_sync(h->store) == -EBADFD);
	CHECK(kvfs_info(h->store, &info) == -EBADFD);
	CHECK(kvfs_doors(h->store, NULL, 0) == -EBADFD);
	CHECK(kvfs_txn_begin(h->store, 0, &txn) == -EBADFD);
	CHECK(kvfs_txn_get(h->reader, "k", &data, &len) == -EBADFD);
	CHECK(kvfs_txn_put(h->writer, "t", "x", 1, NULL) == -EBADFD);
	CHECK(kvfs_cursor_next(h->cursor, &entry) == -EBADFD);
	CHECK(kvfs_stream_read(h->in, &c, 1, 0) == -EBADFD);
	CHECK(kvfs_stream_write(h->out, "x", 1, 0) == -EBADFD);
	CHECK(kvfs_stream_publish(h->out) == -EBADFD);

	/* Opened again, before and after the dead ones are closed. */
	CHECK(api_open_as(h->a->path, 0, KVFS_NONE, &store) == 0);
	CHECK(api_has_value(store, "k", "v", 1));
	kvfs_cursor_close(h->cursor);
	int rc = kvfs_stream_close(h->in);
	CHECK(rc == 0 || rc == -EBADFD);
	kvfs_stream_abort(h->out);
	kvfs_txn_abort(h->reader);
	CHECK(kvfs_txn_commit(&h->writer) == -EBADFD);
	CHECK(h->writer == NULL);
	kvfs_close(h->store);
	CHECK(api_put(store, "child", "was here") == 0);
	kvfs_close(store);
	CHECK(api_open_as(h->a->path, 0, KVFS_NONE, &store) == 0);
	CHECK(api_has_value(store, "child", "was here", 8));
	kvfs_close(store);
	return 0;
}

static void test_fork(void **state)
{
	struct api *a = *state;
	struct inherited h = {.a = a};
	struct kvfs_entry entry;
	void *data;
	size_t len;
	char c = 0;

	/* What a child inherits of LMDB it must not touch, not even to free it: to valgrind, a leak that fails the child. */
	if (api_under_valgrind())
		skip();
	h.store = api_open(a->path, KVFS_CREATE);
	assert_ok(api_put(h.store, "k", "v"));
	assert_ok(kvfs_txn_begin(h.store, 0, &h.reader));
	assert_ok(kvfs_txn_begin(h.store, KVFS_TXN_WRITE, &h.writer));
	assert_ok(kvfs_txn_put(h.writer, "t", "parent", 6, NULL));
	assert_ok(kvfs_list(h.store, "", NULL, &h.cursor));
	assert_ok(kvfs_stream_open(h.store, "k", KVFS_STREAM_READ, 0, &h.in));
	assert_ok(kvfs_stream_open(h.store, "s", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &h.out));
	assert_err(kvfs_stream_write(h.out, "parent", 6, 0), 6);
	for (int i = 0; i < 3; i++) {
		assert_child(api_fork(inherited_child, &h, 20));
		assert_ok(api_put(h.store, "k", "changed"));
		assert_ok(api_put(h.store, "k", "v"));
	}
	/* The parent's are as they were, snapshot included. */
	assert_err(kvfs_txn_exists(h.reader, "child"), 0);
	assert_ok(kvfs_txn_get(h.reader, "k", &data, &len));
	free(data);
	kvfs_txn_abort(h.reader);
	assert_ok(kvfs_txn_commit(&h.writer));
	assert_err(kvfs_cursor_next(h.cursor, &entry), 1);
	kvfs_cursor_close(h.cursor);
	assert_err(kvfs_stream_read(h.in, &c, 1, 0), 1);
	assert_int_equal(c, 'v');
	assert_ok(kvfs_stream_close(h.in));
	assert_ok(kvfs_stream_close(h.out));
	assert_text(h.store, "t", "parent");
	assert_text(h.store, "s", "parent");
	assert_text(h.store, "child", "was here");
	kvfs_close(h.store);
}

static void test_version(void **state)
{
	(void)state;
	assert_string_equal(kvfs_version(), KVFS_VERSION);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version),
		API_TEST_DIR(test_create),
		API_TEST_DIR(test_create_in_an_empty_directory),
		API_TEST_DIR(test_create_mode_is_not_cut_by_umask),
		API_TEST_DIR(test_create_race),
		API_TEST_DIR(test_openers_with_little_address_space),
		API_TEST_DIR(test_not_a_store),
		API_TEST_DIR(test_bad_options),
		API_TEST_DIR(test_small_map),
		API_TEST_DIR(test_permissions),
		API_TEST_DIR(test_read_only),
		API_TEST_DIR(test_one_store_opened_twice),
		API_TEST_DIR(test_replaced_directory),
		API_TEST_DIR(test_reopening_many_times),
		API_TEST_DIR(test_full_durability_and_sync),
		API_TEST_DIR(test_doors),
		API_TEST_DIR(test_other_pid_namespace),
		API_TEST_DIR(test_fork),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
