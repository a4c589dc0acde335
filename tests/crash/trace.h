/* What a program did to the files of one directory, in one order over all its threads and processes: writes, flushes, names, and marks
 * that the program itself puts in.  record.c stands between the program and the C library and writes it; disk.c reads it.
 *
 * Files that are memory with a name (the table of doors, LMDB's lock file) are left out: a boot makes them anew. */
#ifndef CRASH_TRACE_H
#define CRASH_TRACE_H

#include <stdbool.h>
#include <stdint.h>

enum trace_kind {
	TRACE_WRITE = 1, /* bytes at `at` of `file` */
	TRACE_LENGTH, /* `file` is `at` bytes long */
	TRACE_SYNC, /* `file`, or directory, was flushed */
	TRACE_NAME, /* bytes: a name in `dir` leads to `file` */
	TRACE_GONE, /* bytes: that name in `dir` is gone */
	TRACE_RENAME, /* bytes: a name in `dir` of `file`, NUL, its new name in `dir2` */
	TRACE_MARK, /* `file` is the mark's kind, `at` what it is about */
};

enum { TRACE_DURABLE = 1, /* of a write: through O_DSYNC */ TRACE_DIRECTORY = 2 /* of a name: that of a directory */ };

struct trace_record {
	uint32_t kind, flags;
	uint64_t file; /* inode number */
	uint64_t at;
	uint64_t dir, dir2; /* inode numbers */
	int64_t time_ns; /* CLOCK_MONOTONIC */
	uint32_t len; /* of the bytes that follow */
	uint32_t pid;
};

/* Marks of a workload. */
enum {
	MARK_BEGIN = 1, /* operation `at` is called */
	MARK_DONE, /* it returned, and was successful */
	MARK_SYNCED, /* the same, and it was one that promises that all before it is durable */
};

/* Of a program that record.c is linked with: records what it does in `dir` (an absolute real path) into a new file.  Programs that it
 * starts with record.so preloaded go on in the same file: the environment says so. */
void trace_begin(const char *dir, const char *file);
void trace_mark(unsigned kind, uint64_t at);
void trace_end(void);

/* Is the descriptor the directory or anything in it, while something is recorded? */
bool trace_watches(int fd);

/* A flush takes so long, as on a disk, that others come meanwhile. */
void trace_slow_flush(unsigned us);

/* What the kernel's boot id is for this program from here on: after a power cut it is another.  NULL: what it really is. */
void trace_set_boot(const char *file);

#endif
