/* Histories that are recorded and cut, as many as it takes, on all processors. */
#ifndef CRASH_JOBS_H
#define CRASH_JOBS_H

#include "replay.h"

struct job {
	uint64_t seed;
	unsigned ops; /* recorded */
	unsigned age; /* done before, in histories that do not begin with the making of the store */
	unsigned syncs; /* one operation in so many is one; 0 as it comes */
	unsigned nap_ms; /* after each operation of one writer */
	bool large; /* values beyond what a session keeps in memory */
	bool several; /* writers */
	bool threads; /* of one process, and not processes */
	bool mount; /* is one of the doors */
	bool unpinned; /* a planted bug (unpin.h) */
	const struct op *menu; /* or NULL: operation i is that of digit i, from the lowest, of the seed less 1 in base `choices` */
	unsigned choices;
	uint64_t
		stride; /* of the menu: the seed less 1 is multiplied by that first, so that few of all histories are of all kinds; 0: 1 */
	const char *base; /* a directory for it */
	struct replay replay; /* level, plant, effort, most */
};

/* Runs jobs seed by seed, from first + 1 on, until `wanted` states are verified, seed `last` was done, or one is wrong.  Returns how
 * many states there were; *ret_bad is the seed of the wrong one, or 0.  Fails the test when a job fails otherwise. */
uint64_t jobs_run(const struct job *like, uint64_t first, uint64_t last, uint64_t wanted, uint64_t *ret_bad);
/* For main(): finds the recorder beside the program, and memory for the files. */
void jobs_init(void);

#endif
