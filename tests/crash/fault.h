/* Calls that fail on demand: the n-th of a kind, counted while armed.  record.c asks here before each call on a file of the directory it
 * watches; fault.c itself stands in for the allocator and for reads. */
#ifndef CRASH_FAULT_H
#define CRASH_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault {
	FAULT_NONE,
	FAULT_WRITE, /* bytes, lengths, names */
	FAULT_SHORT, /* a write that does half of it */
	FAULT_READ,
	FAULT_FLUSH,
	FAULT_MEMORY,
	FAULT_DISK, /* writes, reads and flushes: it was pulled */
};

/* The n-th call (from 1) of that kind gives this errno; with `forever`, all after it too. */
void fault_set(enum fault kind, uint64_t n, int error, bool forever);
/* Only while armed are calls counted, of all threads. */
void fault_arm(bool armed);
/* What is set counts from here on for the programs that are started with record.so preloaded, and not for this one: they have it in this new file. */
void fault_share(const char *file);
/* Did it come to that? */
bool fault_hit(void);

/* Is this call the one?  Sets errno. */
bool fault_due(enum fault kind) __attribute__((weak));

#endif
