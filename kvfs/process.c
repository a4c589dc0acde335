/* Who calls: see process.h. */
#include "process.h"
#include "node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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

static int open_proc(pid_t tid, const char *file, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	return fd < 0 ? -errno : fd;
}

static ssize_t read_proc(pid_t tid, const char *file, char *buf, size_t cap)
{
	int fd = open_proc(tid, file, 0);
	ssize_t n;

	if (fd < 0)
		return fd;
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

/* ---- a look at a process ---- */

/* What /proc says of a thread, opened: a program that closes one file closes another soon, and to open these two costs as much as to look.  They
 * are the thread's for ever: when it is gone they say so, whoever has its number by then. */
struct look {
	pid_t tid; /* 0: none */
	int statm, fds;
	uint64_t used;
};

enum {
	LOOKS = 8, /* kept */
	LISTING = 4096, /* bytes of a listing at a time */
};

static struct {
	pthread_mutex_t mutex;
	/* protected by mutex */
	struct look kept[LOOKS]; /* not those that are in use */
	uint64_t clock;
} looks = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void look_close(const struct look *l)
{
	if (!l->tid)
		return;
	close(l->statm);
	close(l->fds);
}

/* Takes a look that was kept out. */
static bool look_take(pid_t tid, struct look *ret)
{
	bool found = false;

	pthread_mutex_lock(&looks.mutex);
	for (int i = 0; i < LOOKS && !found; i++) {
		found = looks.kept[i].tid == tid;
		if (found) {
			*ret = looks.kept[i];
			looks.kept[i] = (struct look){0};
		}
	}
	pthread_mutex_unlock(&looks.mutex);
	return found;
}

/* Keeps it, in the place of the one that was used least lately. */
static void look_keep(const struct look *l)
{
	struct look last;
	int at = 0;

	pthread_mutex_lock(&looks.mutex);
	for (int i = 1; i < LOOKS; i++)
		if (looks.kept[i].used < looks.kept[at].used)
			at = i;
	last = looks.kept[at];
	looks.kept[at] = *l;
	looks.kept[at].used = ++looks.clock;
	pthread_mutex_unlock(&looks.mutex);
	look_close(&last);
}

void kv_process_end(void)
{
	for (int i = 0; i < LOOKS; i++) {
		look_close(&looks.kept[i]);
		looks.kept[i] = (struct look){0};
	}
}

/* What may be asked of a thread.  execve(2) closes descriptors, and waits for our answer to that, while it holds a lock that most of
 * /proc waits for: to follow a link of /proc/<pid>/fd, or to read stat, would be a deadlock.  statm needs no lock: its memory has
 * no program in it then.  A thread that closes its descriptors because it exits has no memory any more. */
enum memory { GONE, IN_EXEC, PROGRAM };

/* -ESRCH: there is no such thread any more. */
static int memory_of(int statm)
{
	enum { SIZE, RESIDENT, SHARED, TEXT, FIELDS };
	unsigned long field[FIELDS];
	char buf[128], *p = buf;
	ssize_t n = pread(statm, buf, sizeof(buf) - 1, 0);

	if (n < 0)
		return -errno;
	buf[n] = '\0';
	for (int i = 0; i < FIELDS; i++)
		field[i] = strtoul(p, &p, 10);
	if (!field[SIZE])
		return GONE;
	return field[TEXT] ? PROGRAM : IN_EXEC;
}

/* The memory of the thread, or why it cannot be looked at: then nothing is open. */
static int look_memory(const struct look *l)
{
	int r = memory_of(l->statm);

	if (r < 0)
		look_close(l);
	return r;
}

static int look_open(pid_t tid, struct look *ret)
{
	*ret = (struct look){.tid = tid, .statm = open_proc(tid, "statm", 0)};
	if (ret->statm < 0)
		return ret->statm;
	ret->fds = open_proc(tid, "fd", O_DIRECTORY);
	if (ret->fds < 0) {
		close(ret->statm);
		return ret->fds;
	}
	return look_memory(ret);
}

/* A look at a thread that is there now: its memory, or a negative errno. */
static int look_at(pid_t tid, struct look *ret)
{
	int r = look_take(tid, ret) ? look_memory(ret) : -ESRCH;

	return r < 0 ? look_open(tid, ret) : r;
}

static bool is_gone(pid_t tid)
{
	int statm = open_proc(tid, "statm", 0), r;

	if (statm < 0)
		return true;
	r = memory_of(statm);
	close(statm);
	return r <= GONE;
}

enum kv_fate kv_process_fate(pid_t tid, int *ret_signal)
{
	enum { FLAGS = 9, PF_EXITING = 4, EXIT_CODE = 52 };
	char buf[2048];

	if (tid <= 0 || !is_gone(tid) || read_proc(tid, "stat", buf, sizeof(buf)) <= 0)
		return KV_FATE_ALIVE;
	if (!(stat_field(buf, FLAGS) & PF_EXITING))
		return KV_FATE_ALIVE;
	*ret_signal = (int)(stat_field(buf, EXIT_CODE) & 0x7f);
	return *ret_signal ? KV_FATE_KILLED : KV_FATE_EXITS;
}

/* ---- its descriptors ---- */

/* The name of a kernel inode, asked of the kernel alone: neither st_ino (sessions and versions of a key share it) nor the path
 * (a name may lead elsewhere by now) tells two sessions apart.  -EACCES: we may not look. */
static int is_inode(int dir, const char *fd, uint64_t node, uint32_t generation)
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
	if (r < 0 && errno == EACCES)
		return -EACCES;
	if (r < 0 || u.h.handle_type != HANDLE_FUSE || u.h.handle_bytes != HANDLE_FUSE_SIZE)
		return 0;
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

static int is_wanted(pid_t tid, int dir, const char *fd, const struct wanted *w)
{
	uint64_t ino;
	int r;

	if (w->by_number)
		return is_kind(tid, fd, w->kind, &ino) && ino == kv_node_ino(w->node);
	r = is_inode(dir, fd, w->node, w->generation);
	return r > 0 ? w->kind == KV_DESCRIPTOR_ANY || is_kind(tid, fd, w->kind, &ino) : r;
}

/* Whether one of the descriptors that a listing names is wanted: 1, 0; -EACCES: some cannot be looked at. */
static int find_in(const struct look *l, const char *listing, ssize_t len, const struct wanted *w, int *seen)
{
	int r = 0, one;

	for (ssize_t at = 0; at < len && r <= 0;) {
		const struct dirent64 *e = (const struct dirent64 *)(listing + at);

		at += e->d_reclen;
		if (e->d_name[0] == '.')
			continue;
		if (++*seen > SCAN_MAX)
			return -EMFILE;
		one = is_wanted(l->tid, l->fds, e->d_name, w);
		if (one)
			r = one;
	}
	return r;
}

static int find(const struct look *l, const struct wanted *w, int *seen)
{
	_Alignas(struct dirent64) char listing[LISTING];
	ssize_t len = 0;
	int r = 0, some;

	if (lseek(l->fds, 0, SEEK_SET) < 0)
		return -errno;
	while (r <= 0 && r != -EMFILE && (len = getdents64(l->fds, listing, sizeof(listing))) > 0) {
		some = find_in(l, listing, len, w, seen);
		if (some)
			r = some;
	}
	return r == 0 && len < 0 ? -errno : r;
}

int kv_process_holds(pid_t tid, uint64_t node, uint32_t generation, enum kv_descriptor kind, bool *ret_any)
{
	struct wanted w = {.node = node, .generation = generation, .kind = kind};
	struct look l;
	int seen = 0;
	int r = look_at(tid, &l);

	*ret_any = false;
	if (r < 0)
		return r;
	w.by_number = r == IN_EXEC;
	r = find(&l, &w, &seen);
	look_keep(&l);
	*ret_any = seen > 0;
	return r;
}
