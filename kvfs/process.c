/* Who calls: see process.h. */
#include "process.h"
#include "node.h"

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

/* What may be asked of a thread.  execve(2) closes descriptors, and waits for our answer to that, while it holds a lock that most of
 * /proc waits for: to follow a link of /proc/<pid>/fd, or to read stat, would be a deadlock.  statm needs no lock: its memory has
 * no program in it then.  A thread that closes its descriptors because it exits has no memory any more. */
enum memory { GONE, IN_EXEC, PROGRAM };

static enum memory memory_of(pid_t tid)
{
	unsigned long size, text;
	char buf[128];

	if (read_proc(tid, "statm", buf, sizeof(buf)) <= 0 || sscanf(buf, "%lu %*u %*u %lu", &size, &text) != 2 || !size)
		return GONE;
	return text ? PROGRAM : IN_EXEC;
}

enum kv_fate kv_process_fate(pid_t tid, int *ret_signal)
{
	enum { FLAGS = 9, PF_EXITING = 4, EXIT_CODE = 52 };
	char buf[2048];

	if (tid <= 0 || memory_of(tid) != GONE || read_proc(tid, "stat", buf, sizeof(buf)) <= 0)
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

/* *ret_ino: as st_ino. */
static bool is_kind(pid_t tid, const char *fd, enum kv_descriptor kind, uint64_t *ret_ino)
{
	unsigned long flags;
	char file[300], buf[512], *p;

	snprintf(file, sizeof(file), "fdinfo/%s", fd);
	if (read_proc(tid, file, buf, sizeof(buf)) < 0)
		return false;
	p = strstr(buf, "\nino:");
	*ret_ino = p ? strtoull(p + 5, NULL, 10) : 0;
	p = strstr(buf, "flags:");
	flags = p ? strtoul(p + 6, NULL, 8) : O_PATH;
	return kind == KV_DESCRIPTOR_WRITE ? (flags & O_ACCMODE) != O_RDONLY : kind == KV_DESCRIPTOR_ANY || !(flags & O_PATH);
}

struct wanted {
	uint64_t node;
	uint32_t generation;
	enum kv_descriptor kind;
	bool by_number; /* links cannot be followed: whatever else has that inode number counts too */
};

static bool is_wanted(pid_t tid, int dir, const char *fd, const struct wanted *w)
{
	uint64_t ino;

	if (w->by_number)
		return is_kind(tid, fd, w->kind, &ino) && ino == kv_node_ino(w->node);
	return is_inode(dir, fd, w->node, w->generation) && (w->kind == KV_DESCRIPTOR_ANY || is_kind(tid, fd, w->kind, &ino));
}

int kv_process_holds(pid_t tid, uint64_t node, uint32_t generation, enum kv_descriptor kind, bool *ret_any)
{
	struct wanted w = {.node = node, .generation = generation, .kind = kind, .by_number = memory_of(tid) == IN_EXEC};
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
		else if (is_wanted(tid, dirfd(d), e->d_name, &w))
			r = 1;
		errno = 0;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	*ret_any = seen > 0;
	return r;
}
