/* A disk under a store, as a power cut may leave it: what a trace (trace.h) has flushed, and any choice of what it has not.
 *
 *  - A flush makes the bytes and the length of its file durable, one of a directory its names; nothing else does.
 *  - Of what is not durable, each unit (512 bytes or 4 KiB, written whole or not at all) is as it was after any one of the writes since,
 *    or before all of them; units, lengths and names are lost independently of one another.  A rename happens whole.
 *  - A write through O_DSYNC is durable itself and makes nothing else so.
 *
 * States are built in the very directory that was recorded, and data.mdb stays the inode that it was: a store may remember both. */
#ifndef CRASH_DISK_H
#define CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace.h"

struct disk;

/* What the disk is made to forget, to see that it is noticed. */
enum disk_plant {
	PLANT_NOTHING,
	PLANT_NO_FLUSH, /* flushes of data.mdb */
	PLANT_FEW_FLUSHES, /* one in four of them */
	PLANT_NO_DSYNC, /* what O_DSYNC promises */
	PLANT_NO_NAMES, /* flushes of directories */
	PLANT_NO_RECORD, /* the file `sync` altogether: nobody puts a state back */
	PLANT_STALE_RECORD, /* flushes of `sync`: an old state may be put back */
};

/* The directory as it is now is durable. */
struct disk *disk_new(const char *dir);
/* Then something was done in it, which is in this trace. */
void disk_record(struct disk *d, const char *trace, enum disk_plant plant);
void disk_free(struct disk *d);

/* Goes one record on; NULL at the end. */
const struct trace_record *disk_step(struct disk *d);
/* The next one. */
const struct trace_record *disk_peek(const struct disk *d);
/* How many records there are, and the number of the next. */
size_t disk_at(const struct disk *d);

enum cut_how {
	CUT_ALL, /* nothing is lost */
	CUT_NONE, /* all that is not durable is */
	CUT_ALL_BUT, /* one thing, number `which`, is lost */
	CUT_ONLY, /* all but that one */
	CUT_SUBSET, /* thing i is kept if bit i of `which` is set */
	CUT_RANDOM, /* by the seed `which` */
};
struct cut {
	enum cut_how how;
	unsigned unit; /* bytes */
	uint64_t which;
	unsigned memory; /* the files that a boot makes anew: 0 are gone, 1 zeros, 2 as they were at the end */
};
/* How many things may be lost by themselves: units, lengths and names. */
size_t disk_pending(const struct disk *d, unsigned unit);
/* Puts the directory in the state after that cut, here. */
void disk_cut(struct disk *d, const struct cut *cut);

#endif
