/* See fault.h. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include "fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "trace.h"

static enum fault wanted;
static uint64_t at;
static int code;
static bool always;
static _Atomic bool is_armed, was_hit;
static _Atomic uint64_t count;

void fault_set(enum fault kind, uint64_t n, int error, bool forever)
{
	wanted = kind;
	at = n;
	code = error;
	always = forever;
	count = 0;
	was_hit = false;
}

void fault_arm(bool armed)
{
	is_armed = armed;
}

bool fault_hit(void)
{
	return was_hit;
}

bool fault_due(enum fault kind)
{
	if (!is_armed || kind != wanted)
		return false;
	uint64_t n = ++count;
	if (n != at && !(always && n > at))
		return false;
	was_hit = true;
	errno = code;
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
