/* Is a store whole?  A check of all tables against one another, for the end of tests. */
#ifndef KVFS_TEST_INVARIANTS_H
#define KVFS_TEST_INVARIANTS_H

#include <stdint.h>

struct kvfs_store;

/* What the check counted on its way. */
struct invariants {
	uint64_t inodes, chunks; /* records */
	uint64_t dead_chunks; /* of them, those that wait for the reaper */
	uint64_t garbage, held_garbage, hidden, kept; /* records; garbage counts those set aside too, hidden the kept */
};

/* Fails the test at the first contradiction: names and inodes, directories' counts, chunks that neither a value nor garbage nor a
 * session accounts for, cuts without garbage, counters of the log.  `ret` may be NULL. */
void check_invariants(struct kvfs_store *store, struct invariants *ret);
/* Commits until nothing is left to free (or a bound of commits is reached), then checks that it is so. */
void check_drained(struct kvfs_store *store);

#endif
