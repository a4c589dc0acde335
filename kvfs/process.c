/* Who calls: see process.h. */
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Descriptors looked at before we give up: some 30 ms. */
enum { SCAN_MAX = 16384 };

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* Linux 6.5: a handle to compare, not to open */
#endif
enum { HANDLE_FUSE = 0x81, HANDLE_FUSE_SIZE = 12 }; /* 64 bits of node id, 32 of generation */

static ssize_t read_proc(pid_t tid, const char *file, char *buf, size_t cap)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, cap - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

bool kv_process_has(pid_t process, pid_t tid)
{
	if (process <= 0 || tid <= 0)
		return false;
	/* The null signal only asks whether there is such a thread in such a process: a tenth of the cost of /proc. */
	return process == tid || syscall(SYS_tgkill, process, tid, 0) == 0 || errno == EPERM;
}

pid_t kv_process_of(pid_t tid)
{
	char buf[1024], *p;

	if (tid <= 0)
		return 0;
	if (syscall(SYS_tgkill, tid, tid, 0) == 0 || errno == EPERM)
		return tid; /* the first thread, as nearly always */
	if (read_proc(tid, "status", buf, sizeof(buf)) < 0)
		return 0;
	p = strstr(buf, "\nTgid:");
	return p ? (pid_t)strtol(p + 6, NULL, 10) : 0;
}

/* Field `n` of /proc/<tid>/stat, for n > 2; the second one, in parentheses, may hold anything. */
static unsigned long stat_field(const char *stat, int n)
{
	const char *p = strrchr(stat, ')');

	for (int i = 2; p && i < n; i++)
		p = strchr(p + 1, ' ');
	return p ? strtoul(p + 1, NULL, 10) : 0;
}

enum kv_fate kv_process_fate(pid_t tid, int *ret_signal)
{
	enum { FLAGS = 9, PF_EXITING = 4, EXIT_CODE = 52 };
	char buf[2048];

	if (tid <= 0 || read_proc(tid, "stat", buf, sizeof(buf)) <= 0)
		return KV_FATE_ALIVE;
	if (!(stat_field(buf, FLAGS) & PF_EXITING))
		return KV_FATE_ALIVE;
	*ret_signal = (int)(stat_field(buf, EXIT_CODE) & 0x7f);
	return *ret_signal ? KV_FATE_KILLED : KV_FATE_EXITS;
}

/* The name of a kernel inode, asked of the kernel alone: neither st_ino (sessions and versions of a key share it) nor the path
 * (a name may lead elsewhere by now) tells two sessions apart. */
static bool is_inode(int dir, const char *fd, uint64_t node, uint32_t generation)
{
	union {
		struct file_handle h;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = {.h.handle_bytes = MAX_HANDLE_SZ};
	uint32_t part[3];
	int mount_id, r;

	r = name_to_handle_at(dir, fd, &u.h, &mount_id, AT_SYMLINK_FOLLOW | AT_HANDLE_FID);
	if (r < 0 && errno == EINVAL) { /* an older kernel */
		u.h.handle_bytes = MAX_HANDLE_SZ;
		r = name_to_handle_at(dir, fd, &u.h, &mount_id, AT_SYMLINK_FOLLOW);
	}
	if (r < 0 || u.h.handle_type != HANDLE_FUSE || u.h.handle_bytes != HANDLE_FUSE_SIZE)
		return false;
	memcpy(part, u.space + sizeof(struct file_handle), sizeof(part));
	return ((uint64_t)part[0] << 32 | part[1]) == node && (!generation || generation == part[2]);
}

static bool is_kind(pid_t tid, const char *fd, enum kv_descriptor kind)
{
	unsigned long flags;
	char file[300], buf[512], *p;

	snprintf(file, sizeof(file), "fdinfo/%s", fd);
	if (read_proc(tid, file, buf, sizeof(buf)) < 0)
		return false;
	p = strstr(buf, "flags:");
	flags = p ? strtoul(p + 6, NULL, 8) : O_PATH;
	return kind == KV_DESCRIPTOR_WRITE ? (flags & O_ACCMODE) != O_RDONLY : !(flags & O_PATH);
}

int kv_process_holds(pid_t tid, uint64_t node, uint32_t generation, enum kv_descriptor kind, bool *ret_any)
{
	const struct dirent *e;
	char path[64];
	int r = 0, seen = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)tid);
	d = opendir(path);
	if (!d)
		return -errno;
	errno = 0;
	while (r == 0 && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (++seen > SCAN_MAX)
			r = -EMFILE;
		else if (is_inode(dirfd(d), e->d_name, node, generation) &&
			 (kind == KV_DESCRIPTOR_ANY || is_kind(tid, e->d_name, kind)))
			r = 1;
		errno = 0;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	*ret_any = seen > 0;
	return r;
}
