/* A new store at a place of the user's choice, which has its name only when it is whole: it is made under another name beside it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "api.h"
#include "ballast.h"
#include "create.h"
#include "err.h"

static int oops(struct kvfs_error *err, const char *what)
{
	int e = errno;
	return kv_explain(err, e, "%s: %s", what, strerror(e));
}

int kv_target_find(const char *dest, const char *what, struct kv_target *ret, struct kvfs_error *err)
{
	char path[4096];
	size_t len = strlen(dest);
	while (len > 1 && dest[len - 1] == '/')
		len--;
	if (!len || len >= sizeof path)
		return kv_explain(err, len ? ENAMETOOLONG : EINVAL, "the name of the %s is empty or too long", what);
	memcpy(path, dest, len);
	path[len] = 0;
	char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > KVFS_NAME_MAX - 10)
		return kv_explain(err, EINVAL, "the %s needs a name of its own", what);
	snprintf(ret->name, sizeof ret->name, "%.255s", name);
	snprintf(ret->temp, sizeof ret->temp, ".%.245s.%.8s", name, what);
	ret->what = what;
	ret->placed = false;
	if (slash)
		slash[slash == path] = 0;
	ret->parent = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return ret->parent < 0 ? oops(err, "the directory above") : 0;
}

static int empty(int dirfd)
{
	static const char *const files[] = {"FORMAT", "data.mdb", "lock.mdb", "doors", "sync", KV_BALLAST_NAME};
	kv_remove_new(dirfd);
	for (size_t i = 0; i < KV_ARRAY_LEN(files); i++)
		if (unlinkat(dirfd, files[i], 0) && errno != ENOENT)
			return -errno;
	return 0;
}

void kv_target_drop(const struct kv_target *t, int dirfd)
{
	if (empty(dirfd) == 0)
		unlinkat(t->parent, t->temp, AT_REMOVEDIR);
}

int kv_target_check(const struct kv_target *t, struct kvfs_error *err)
{
	struct stat st;
	return fstatat(t->parent, t->name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? kv_explain(err, EEXIST, "something is there already")
									  : 0;
}

int kv_target_settle(struct kv_target *t, struct kvfs_error *err)
{
	t->placed = renameat2(t->parent, t->temp, t->parent, t->name, RENAME_NOREPLACE) == 0;
	return !t->placed || fsync(t->parent) ? oops(err, "putting it in place") : 0;
}

/* One at a time; and it may have got its own name since we opened it. */
static int claim(const struct kv_target *t, int fd, struct kvfs_error *err)
{
	struct stat a, b;
	if (flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &a) || fstatat(t->parent, t->temp, &b, AT_SYMLINK_NOFOLLOW) ||
		a.st_ino != b.st_ino)
		return kv_explain(err, EBUSY, "another %s to the same place is being made", t->what);
	return empty(fd) ? oops(err, "removing what another left") : 0;
}

int kv_target_take(const struct kv_target *t, int *ret, struct kvfs_error *err)
{
	if (mkdirat(t->parent, t->temp, 0700) && errno != EEXIST)
		return oops(err, "the directory to be filled");
	int fd = openat(t->parent, t->temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return oops(err, "the directory to be filled");
	int r = claim(t, fd, err);
	if (r)
		close(fd);
	else
		*ret = fd;
	return r;
}
