/* The file `ballast`; see ballast.h. */
#include "ballast.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "util.h"

#define ROOM_MIN (16 * KV_BALLAST) /* on a disk that has less it stays empty: others need that more */

static bool has_room(int dirfd)
{
	struct statvfs vfs;
	return fstatvfs(dirfd, &vfs) == 0 && (uint64_t)vfs.f_bavail * vfs.f_frsize >= ROOM_MIN;
}

void kv_ballast_fill(int dirfd, bool back)
{
	struct stat data, st;
	bool there = fstatat(dirfd, KV_BALLAST_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (there && (!S_ISREG(st.st_mode) || st.st_blocks * 512 >= KV_BALLAST))
		return;
	if (fstatat(dirfd, "data.mdb", &data, 0) || (!back && !has_room(dirfd)))
		return;
	KV_FD int fd = openat(dirfd, KV_BALLAST_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (!there) { /* as data.mdb has them, as far as it is ours to say */
		(void)!fchown(fd, (uid_t)-1, data.st_gid);
		(void)!fchmod(fd, data.st_mode & 0666);
	}
	/* a file system that has no such call has no ballast */
	for (off_t size = KV_BALLAST; fallocate(fd, 0, 0, size) && back && errno == ENOSPC && size > 4096; size /= 2)
		;
}

bool kv_ballast_drop(int dirfd)
{
	struct stat st;
	KV_FD int fd = openat(dirfd, KV_BALLAST_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	/* flushed: a journal may keep blocks from being used until it has on the disk that they are free */
	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_blocks && ftruncate(fd, 0) == 0 && fsync(fd) == 0;
}
