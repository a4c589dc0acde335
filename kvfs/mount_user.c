/* -o user=NAME: mounted by root, served by somebody else.
 *
 * libfuse mounts and serves as one user.  So the kernel is asked here, and libfuse gets the descriptor.  The order: the store is opened as
 * the user, so that its files are his and root's power over them is never used; root mounts; then every privilege goes for good.  Such a
 * process cannot unmount: when it ends by itself, the mount point stays, dead, until root unmounts it.
 *
 * Whoever serves says what a key's owner, mode and type are: a mount that heeded set-user-ID bits or devices would make that user root.
 * So `suid` and `dev`, which mount(8) adds by itself to `user=`, never hold. */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

int kv_user_find(const char *name, struct kv_user *ret)
{
	const struct passwd *pw = getpwnam(name);
	char *end = NULL;

	if (!pw && *name) {
		unsigned long uid = strtoul(name, &end, 10);

		if (!*end && uid < UINT32_MAX)
			pw = getpwuid((uid_t)uid);
	}
	if (!pw)
		return -ENOENT;
	*ret = (struct kv_user){.uid = pw->pw_uid, .gid = pw->pw_gid};
	return initgroups(pw->pw_name, pw->pw_gid) < 0 ? -errno : 0;
}

int kv_user_begin(const struct kv_user *user)
{
	return setegid(user->gid) < 0 || seteuid(user->uid) < 0 ? -errno : 0;
}

/* ---- mounting ---- */

static const struct {
	const char *name;
	unsigned long flag;
	bool set;
} flags[] = {{"ro", MS_RDONLY, true}, {"rw", MS_RDONLY, false}, {"exec", MS_NOEXEC, false}, {"noexec", MS_NOEXEC, true},
	{"sync", MS_SYNCHRONOUS, true}, {"async", MS_SYNCHRONOUS, false}, {"dirsync", MS_DIRSYNC, true},
	{"atime", MS_NOATIME, false}, {"noatime", MS_NOATIME, true}, {"diratime", MS_NODIRATIME, false},
	{"nodiratime", MS_NODIRATIME, true}};

/* mount(2)'s flags; false: what is none of them, as `allow_other`, which is FUSE's. */
static bool take_flag(const char *word, unsigned long *ret)
{
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
		if (strcmp(word, flags[i].name) == 0) {
			*ret = flags[i].set ? *ret | flags[i].flag : *ret & ~flags[i].flag;
			return true;
		}
	return false;
}

static int ask_kernel(const struct kv_mount_options *o, const struct kv_user *user, int fd)
{
	unsigned long what = MS_NOSUID | MS_NODEV;
	char data[256], *list = strdup(o->kernel), *rest = NULL;
	const char *others = "";

	if (!list)
		return -ENOMEM;
	for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
		if (!take_flag(word, &what) && strcmp(word, "allow_other") == 0)
			others = ",allow_other";
	free(list);
	snprintf(data, sizeof(data), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,default_permissions%s", fd, user->uid, user->gid,
		others);
	return mount(o->source, o->mountpoint, "fuse.kvfs", what, data) < 0 ? -errno : 0;
}

int kv_user_mount(const struct kv_mount_options *o, const struct kv_user *user, int *ret_fd)
{
	int fd, r;

	if (seteuid(0) < 0)
		return -errno;
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = ask_kernel(o, user, fd);
	if (r == 0 && (setresgid(user->gid, user->gid, user->gid) < 0 || setresuid(user->uid, user->uid, user->uid) < 0)) {
		r = -errno;
		(void)umount2(o->mountpoint, MNT_DETACH);
	}
	if (r < 0)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}
