/* Is a store, found after a crash, one that existed?  And can it go on from there? */
#ifndef CRASH_VERIFY_H
#define CRASH_VERIFY_H

#include "history.h"

struct expectation {
	const struct history *h;
	uint64_t lowest; /* sequence of a commit that must not be lost */
	bool maybe_absent; /* its creation had not returned */
	enum kvfs_durability level; /* that it is opened with */
};

/* Where a store was found to stand. */
struct found {
	uint64_t seq;
	const struct model *m; /* what it equals, of the history; NULL if there was no store */
};

/* Opens the store, checks its invariants, finds the state of the history that it is, writes to it and checks again.  Whatever is wrong
 * ends the process, with a line on standard error. */
struct found verify_store(const char *path, const struct expectation *want);
/* Does the open store equal the model?  If not, `why` says where. */
bool verify_equals(struct kvfs_store *store, const struct model *m, char why[200]);
/* What verify_store() writes. */
struct op verify_op(void);

#endif
