/* The recorder of trace.h: stands in for the calls of the C library that change files.  Linked with a program, or preloaded as
 * record.so.
 *
 * The order is true because a lock of the trace file, and a mutex among threads, is held over the real call and the record of it.  What a
 * recorded call wrote is taken from the caller's memory afterwards, which no caller here changes meanwhile. */
/* Both names of a call are defined here, and the real headers must not turn one into the other. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"

#define ENV_FILE "KVFS_TRACE_FILE"
#define ENV_DIR "KVFS_TRACE_DIR"
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace_fd = -1; /* protected by lock, as is the next */
static char trace_dir[PATH_MAX];
static size_t trace_dir_len;
static _Atomic bool on;
static const char *boot_file;
static unsigned flush_us;

/* ---- the trace ---- */

static void open_trace(const char *dir, const char *file)
{
	snprintf(trace_dir, sizeof trace_dir, "%s", dir);
	trace_dir_len = strlen(trace_dir);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	trace_fd = fcntl(fd, F_DUPFD_CLOEXEC, 700); /* out of the way of programs that number their descriptors */
	syscall(SYS_close, fd);
	if (trace_fd < 0) {
		fprintf(stderr, "record: %s: %s\n", file, strerror(errno));
		abort();
	}
	on = true;
}

__attribute__((constructor)) static void start(void)
{
	const char *file = getenv(ENV_FILE), *dir = getenv(ENV_DIR);
	if (file && dir)
		open_trace(dir, file);
}

void trace_begin(const char *dir, const char *file)
{
	setenv(ENV_FILE, file, 1);
	setenv(ENV_DIR, dir, 1);
	unlink(file);
	open_trace(dir, file);
}

void trace_end(void)
{
	unsetenv(ENV_FILE);
	unsetenv(ENV_DIR);
	on = false;
	syscall(SYS_close, trace_fd);
	trace_fd = -1;
}

void trace_slow_flush(unsigned us)
{
	flush_us = us;
}

void trace_set_boot(const char *file)
{
	boot_file = file;
}

/* Both ways are async-signal-safe enough: nothing here allocates. */
static void enter(void)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int e = errno;
	pthread_mutex_lock(&lock);
	while (syscall(SYS_fcntl, trace_fd, F_SETLKW, &fl) && errno == EINTR)
		continue;
	errno = e;
}

static void leave(void)
{
	struct flock fl = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 1};
	int e = errno;
	syscall(SYS_fcntl, trace_fd, F_SETLK, &fl);
	pthread_mutex_unlock(&lock);
	errno = e;
}

static void put(struct trace_record rec, const struct iovec *bytes, int n)
{
	struct iovec all[IOV_MAX];
	uint32_t left = rec.len;
	int count = 1, e = errno;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	rec.time_ns = now.tv_sec * 1000000000 + now.tv_nsec;
	rec.pid = (uint32_t)getpid();
	all[0] = (struct iovec){&rec, sizeof rec};
	for (int i = 0; i < n && left; i++) {
		size_t part = bytes[i].iov_len < left ? bytes[i].iov_len : left;
		all[count++] = (struct iovec){bytes[i].iov_base, part};
		left -= (uint32_t)part;
	}
	if (syscall(SYS_writev, trace_fd, all, count) != (ssize_t)(sizeof rec + rec.len)) {
		fprintf(stderr, "record: the trace cannot be written\n");
		abort();
	}
	errno = e;
}

void trace_mark(unsigned kind, uint64_t at)
{
	enter();
	put((struct trace_record){.kind = TRACE_MARK, .file = kind, .at = at}, NULL, 0);
	leave();
}

/* ---- which files ---- */

/* The directory, or in it? */
static bool is_inside(const char *path)
{
	return strncmp(path, trace_dir, trace_dir_len) == 0 && (!path[trace_dir_len] || path[trace_dir_len] == '/');
}

/* And not one of the files that a boot makes anew? */
static bool is_ours(const char *path)
{
	const char *name = is_inside(path) ? strrchr(path + trace_dir_len, '/') : "/doors";
	return !name || (strncmp(name, "/doors", 6) != 0 && strncmp(name, "/lock.mdb", 9) != 0);
}

static bool path_of(int fd, char path[PATH_MAX])
{
	char link[40];
	int e = errno;
	if (!on || fd < 0)
		return false;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, PATH_MAX - 1);
	path[n < 0 ? 0 : n] = 0;
	errno = e;
	return n > 0;
}

static bool fd_is_ours(int fd)
{
	char path[PATH_MAX];
	return path_of(fd, path) && is_ours(path);
}

bool trace_watches(int fd)
{
	char path[PATH_MAX];
	return path_of(fd, path) && is_inside(path);
}

/* Is this call to fail? */
static bool fails(int fd, enum fault kind)
{
	return fault_due && trace_watches(fd) && fault_due(kind);
}

static uint64_t inode_of(int fd)
{
	struct stat st;
	int e = errno;
	bool ok = fstat(fd, &st) == 0;
	errno = e;
	return ok ? st.st_ino : 0;
}

struct place {
	uint64_t dir;
	const char *name;
	bool ours;
	bool fails; /* errno is set */
};

/* The directory and the last name of a path. */
static struct place place_of(int dirfd, const char *path)
{
	struct place at = {0};
	char parent[PATH_MAX], full[2 * PATH_MAX], link[40];
	const char *slash = strrchr(path, '/');
	int e = errno;
	if (!on)
		return at;
	snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
	at.name = slash ? slash + 1 : path;
	int fd = (int)syscall(SYS_openat, dirfd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(link, full, PATH_MAX - 1);
		if (n > 0) {
			snprintf(full + n, sizeof full - (size_t)n, "/%s", at.name);
			at.ours = strlen(full) > trace_dir_len && is_ours(full);
			at.fails = strlen(full) > trace_dir_len && is_inside(full) && fault_due && fault_due(FAULT_WRITE);
		}
		at.dir = inode_of(fd);
		syscall(SYS_close, fd);
	}
	if (!at.fails)
		errno = e;
	return at;
}

static void put_name(enum trace_kind kind, struct place at, uint64_t file, uint32_t flags)
{
	struct iovec name = {(void *)at.name, strlen(at.name)};
	put((struct trace_record){.kind = kind, .flags = flags, .dir = at.dir, .file = file, .len = (uint32_t)name.iov_len}, &name,
		1);
}

/* ---- bytes ---- */

static void put_write(int fd, const struct iovec *v, int n, off_t at, ssize_t done)
{
	int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
	put((struct trace_record){.kind = TRACE_WRITE,
		    .flags = flags & O_DSYNC ? TRACE_DURABLE : 0,
		    .file = inode_of(fd),
		    .at = (uint64_t)at,
		    .len = (uint32_t)done},
		v, n);
}

static ssize_t any_writev(int fd, const struct iovec *v, int n, off_t at)
{
	if (fails(fd, FAULT_WRITE))
		return -1;
	struct iovec half = {v->iov_base, v->iov_len / 2};
	if (fails(fd, FAULT_SHORT)) {
		v = &half;
		n = 1;
	}
	if (!fd_is_ours(fd))
		return at < 0 ? syscall(SYS_writev, fd, v, n) : syscall(SYS_pwritev, fd, v, n, at, 0);
	enter();
	ssize_t done = at < 0 ? syscall(SYS_writev, fd, v, n) : syscall(SYS_pwritev, fd, v, n, at, 0);
	if (done > 0)
		put_write(fd, v, n, at < 0 ? syscall(SYS_lseek, fd, 0, SEEK_CUR) - done : at, done);
	leave();
	return done;
}

ssize_t write(int fd, const void *data, size_t len)
{
	return any_writev(fd, &(struct iovec){(void *)data, len}, 1, -1);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	return any_writev(fd, v, n, -1);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
	return any_writev(fd, &(struct iovec){(void *)data, len}, 1, at);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off_t at) __attribute__((alias("pwrite")));

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
	return any_writev(fd, v, n, at);
}
ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t at) __attribute__((alias("pwritev")));

static void put_length(int fd)
{
	struct stat st;
	if (fstat(fd, &st) == 0)
		put((struct trace_record){.kind = TRACE_LENGTH, .file = st.st_ino, .at = (uint64_t)st.st_size}, NULL, 0);
}

static int change_length(int fd, long call, long a, long b, long c)
{
	if (fails(fd, FAULT_WRITE))
		return -1;
	bool ours = fd_is_ours(fd);
	if (ours)
		enter();
	int r = (int)syscall(call, fd, a, b, c);
	if (ours && r == 0)
		put_length(fd);
	if (ours)
		leave();
	return r;
}

int ftruncate(int fd, off_t len)
{
	return change_length(fd, SYS_ftruncate, len, 0, 0);
}
int ftruncate64(int fd, off_t len) __attribute__((alias("ftruncate")));

int fallocate(int fd, int mode, off_t at, off_t len)
{
	return change_length(fd, SYS_fallocate, mode, at, len);
}
int fallocate64(int fd, int mode, off_t at, off_t len) __attribute__((alias("fallocate")));

int posix_fallocate(int fd, off_t at, off_t len)
{
	int e = errno, r = change_length(fd, SYS_fallocate, 0, at, len) ? errno : 0;
	errno = e;
	return r;
}
int posix_fallocate64(int fd, off_t at, off_t len) __attribute__((alias("posix_fallocate")));

static int flush(int fd, long call)
{
	if (flush_us)
		usleep(flush_us);
	if (fails(fd, FAULT_FLUSH))
		return -1;
	bool ours = fd_is_ours(fd);
	if (ours)
		enter();
	int r = (int)syscall(call, fd);
	if (ours && r == 0)
		put((struct trace_record){.kind = TRACE_SYNC, .file = inode_of(fd)}, NULL, 0);
	if (ours)
		leave();
	return r;
}

int fsync(int fd)
{
	return flush(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return flush(fd, SYS_fdatasync);
}

/* ---- names ---- */

static int open_new(int dirfd, const char *path, int flags, mode_t mode)
{
	struct place at = place_of(dirfd, path);
	struct stat st;
	if (at.fails)
		return -1;
	if (!at.ours)
		return (int)syscall(SYS_openat, dirfd, path, flags, mode);
	enter();
	int e = errno;
	bool was = fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
	errno = e;
	int fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
	if (fd >= 0 && !was)
		put_name(TRACE_NAME, at, inode_of(fd), 0);
	else if (fd >= 0 && flags & O_TRUNC && st.st_size)
		put_length(fd);
	leave();
	return fd;
}

int openat(int dirfd, const char *path, int flags, ...)
{
	mode_t mode = 0;
	if (flags & (O_CREAT | O_TMPFILE)) {
		va_list args;
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	if (boot_file && strcmp(path, BOOT_ID) == 0)
		path = boot_file;
	if (on && flags & (O_CREAT | O_TRUNC))
		return open_new(dirfd, path, flags, mode);
	return (int)syscall(SYS_openat, dirfd, path, flags, mode);
}
int openat64(int dirfd, const char *path, int flags, ...) __attribute__((alias("openat")));

int open(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	return openat(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int mkdirat(int dirfd, const char *path, mode_t mode)
{
	struct place at = place_of(dirfd, path);
	struct stat st;
	if (at.fails)
		return -1;
	if (!at.ours)
		return (int)syscall(SYS_mkdirat, dirfd, path, mode);
	enter();
	int r = (int)syscall(SYS_mkdirat, dirfd, path, mode);
	if (r == 0 && fstatat(dirfd, path, &st, 0) == 0)
		put_name(TRACE_NAME, at, st.st_ino, TRACE_DIRECTORY);
	leave();
	return r;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

int linkat(int olddir, const char *oldpath, int newdir, const char *newpath, int flags)
{
	struct place at = place_of(newdir, newpath);
	struct stat st;
	if (at.fails)
		return -1;
	if (!at.ours)
		return (int)syscall(SYS_linkat, olddir, oldpath, newdir, newpath, flags);
	enter();
	int r = (int)syscall(SYS_linkat, olddir, oldpath, newdir, newpath, flags);
	if (r == 0 && fstatat(newdir, newpath, &st, 0) == 0)
		put_name(TRACE_NAME, at, st.st_ino, 0);
	leave();
	return r;
}

int unlinkat(int dirfd, const char *path, int flags)
{
	struct place at = place_of(dirfd, path);
	if (at.fails)
		return -1;
	if (!at.ours)
		return (int)syscall(SYS_unlinkat, dirfd, path, flags);
	enter();
	int r = (int)syscall(SYS_unlinkat, dirfd, path, flags);
	if (r == 0)
		put_name(TRACE_GONE, at, 0, 0);
	leave();
	return r;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int renameat2(int olddir, const char *old, int newdir, const char *new, unsigned flags)
{
	struct place from = place_of(olddir, old), to = place_of(newdir, new);
	struct stat st;
	if (from.fails || to.fails)
		return -1;
	if (!from.ours && !to.ours)
		return (int)syscall(SYS_renameat2, olddir, old, newdir, new, flags);
	enter();
	int r = (int)syscall(SYS_renameat2, olddir, old, newdir, new, flags);
	if (r == 0 && fstatat(newdir, new, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		struct iovec names[] = {{(void *)from.name, strlen(from.name) + 1}, {(void *)to.name, strlen(to.name)}};
		put((struct trace_record){.kind = TRACE_RENAME,
			    .flags = S_ISDIR(st.st_mode) ? TRACE_DIRECTORY : 0,
			    .file = st.st_ino,
			    .dir = from.dir,
			    .dir2 = to.dir,
			    .len = (uint32_t)(names[0].iov_len + names[1].iov_len)},
			names, 2);
	}
	leave();
	return r;
}

int renameat(int olddir, const char *old, int newdir, const char *new)
{
	return renameat2(olddir, old, newdir, new, 0);
}

int rename(const char *old, const char *new)
{
	return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}
