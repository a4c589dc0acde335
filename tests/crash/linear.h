/* Is there one order for operations that ran at the same time, in which a store that does one thing at a time would have answered each as it
 * was answered?  An operation has its place between its call and its return (Herlihy and Wing); only one that may lag can have an earlier
 * one, if no change of its key had returned in between.
 *
 * A value is a row of records, each of a token that is used once, so its digest says all of it.  The search is that of Wing and Gong, with
 * what was tried kept (Lowe): a position in each line, and what the keys are there.  What lags changes nothing, so it has no place in
 * the search: it is answered by the first state that would have answered so. */
#ifndef CRASH_LINEAR_H
#define CRASH_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LINEAR_KEYS = 4, LINEAR_LINES = 8 };

struct value {
	uint64_t digest; /* 0: there is none */
	uint64_t size;
};
/* With one more record behind it; of none, with the first. */
struct value value_append(struct value v, uint64_t token, uint64_t len);

enum call_kind {
	CALL_READ, /* sees[0] */
	CALL_STAT, /* the size of sees[0], and whether there is any */
	CALL_READ_BOTH, /* sees[0] of `key`, sees[1] of `other`, at one time */
	CALL_PUT, /* the record `token`, `len` replaces what is there */
	CALL_PUT_NEW, /* ... if nothing is there */
	CALL_PUT_BOTH, /* in `key` and `other` */
	CALL_CHANGE, /* ... if sees[0] is there; it was */
	CALL_APPEND,
	CALL_DELETE,
	CALL_RENAME, /* `key` to `other` */
	CALL_EXCHANGE,
};

struct call {
	enum call_kind kind;
	uint8_t key, other;
	bool refused; /* the answer was that something is not there, or there (CALL_PUT_NEW) */
	bool lags; /* it changed nothing, and may have seen its key as it was any time after those changes of it that had returned when it began */
	uint64_t token, len;
	struct value sees[2];
	int64_t begin, end; /* ns */
};

/* What one thread did, call after call. */
struct line {
	const struct call *call;
	size_t n;
};

enum linear { LINEAR_YES, LINEAR_NO, LINEAR_UNKNOWN /* too many possibilities */ };
/* From these values on.  `stuck` gets when the longest try ended: what returned first of what it could not place. */
enum linear linear_check(const struct line *lines, unsigned n, const struct value start[LINEAR_KEYS], int64_t *stuck);

#endif
