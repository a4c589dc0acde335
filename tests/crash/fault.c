/* See fault.h. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "trace.h"

#define ENV_FILE "KVFS_FAULT_FILE"

struct setting {
	enum fault wanted;
	uint64_t at;
	int code;
	bool always;
	_Atomic bool is_armed, was_hit;
	_Atomic uint64_t count;
};

static struct setting own, *set = &own;
static bool exempt; /* this process only sets them */

static void join(const char *file)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *map = MAP_FAILED;
	if (fd >= 0 && syscall(SYS_ftruncate, fd, sizeof own) == 0)
		map = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		abort();
	syscall(SYS_close, fd);
	set = map;
}

__attribute__((constructor)) static void start(void)
{
	const char *file = getenv(ENV_FILE);
	if (file)
		join(file);
}

void fault_share(const char *file)
{
	setenv(ENV_FILE, file, 1);
	join(file);
	exempt = true;
}

void fault_set(enum fault kind, uint64_t n, int error, bool forever)
{
	set->wanted = kind;
	set->at = n;
	set->code = error;
	set->always = forever;
	set->count = 0;
	set->was_hit = false;
}

void fault_arm(bool armed)
{
	set->is_armed = armed;
}

bool fault_hit(void)
{
	return set->was_hit;
}

bool fault_due(enum fault kind)
{
	bool disk = set->wanted == FAULT_DISK && (kind == FAULT_WRITE || kind == FAULT_READ || kind == FAULT_FLUSH);
	if (!set->is_armed || exempt || !(disk || kind == set->wanted))
		return false;
	uint64_t n = ++set->count;
	if (n != set->at && !(set->always && n > set->at))
		return false;
	set->was_hit = true;
	errno = set->code;
	return true;
}

/* ---- memory ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t align, size_t size);

void *malloc(size_t size)
{
	return fault_due(FAULT_MEMORY) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fault_due(FAULT_MEMORY) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return fault_due(FAULT_MEMORY) ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
	void *p = fault_due(FAULT_MEMORY) ? NULL : __libc_memalign(align, size);
	if (p)
		*ret = p;
	return p ? 0 : ENOMEM;
}

/* ---- reads ---- */

ssize_t read(int fd, void *buf, size_t len)
{
	return trace_watches(fd) && fault_due(FAULT_READ) ? -1 : syscall(SYS_read, fd, buf, len);
}

ssize_t pread(int fd, void *buf, size_t len, off_t from)
{
	return trace_watches(fd) && fault_due(FAULT_READ) ? -1 : syscall(SYS_pread64, fd, buf, len, from);
}
ssize_t pread64(int fd, void *buf, size_t len, off_t from) __attribute__((alias("pread")));
