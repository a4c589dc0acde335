/* Power cuts of a recorded run: builds the states that one may leave at every point (disk.h), and verifies each (verify.h). */
#ifndef CRASH_REPLAY_H
#define CRASH_REPLAY_H

#include "disk.h"
#include "verify.h"

/* How many states. At each point: nothing lost, and all that can be; before each flush also: */
struct effort {
	unsigned linear; /* so many of the things that can be lost, each alone and all but each */
	unsigned random; /* so many choices by chance, of sectors and of pages in turn */
	unsigned exhaustive; /* all subsets of up to so many things */
	unsigned sparse; /* only one state in so many, by chance; 0 all */
	unsigned second; /* one state in so many is cut again while it is opened and written to; 0 none */
};

struct replay {
	const char *dir; /* of the store */
	const char *trace;
	struct disk *disk; /* as it was before the run */
	const struct history *h;
	enum kvfs_durability level;
	enum disk_plant plant;
	struct effort effort;
	uint64_t seed;
	bool doomed; /* a violation is what is wanted: says nothing about it */
	bool fresh; /* the trace begins with the making of the store */
	unsigned lag_ms; /* what returned so long ago is durable; 0 no such promise */
	uint64_t states; /* verified */
	uint64_t most; /* it ends after so many; 0 no limit */
};

/* Runs in a child: ends without a violation, or tells it on standard error and returns false. */
bool replay_run(struct replay *r);

#endif
