/* A store whose values can be told from any other bytes, and what a program does with it that does not know that it is damaged. */
#ifndef TESTS_FUZZ_VICTIM_H
#define TESTS_FUZZ_VICTIM_H

#include <stdbool.h>
#include <stddef.h>

/* What was seen, over all cases; shared with the children, which count in it. */
struct tally {
	_Atomic long cases, refused; /* not opened */
	_Atomic long fine, errors, missing, stale, wrong; /* values read */
	_Atomic long unknown; /* absent or old, and forged */
	_Atomic long written, unwritten; /* changes tried */
	_Atomic long listed, found; /* entries; findings of kvfs_check() */
	_Atomic long older, falsely_listed; /* listings that ended well, of the state before, or of other entries than there were */
	_Atomic long crashes, hangs;
};

enum { VICTIM_KEYS = 260 };
/* Makes it, of so many keys, at most VICTIM_KEYS. */
void victim_build(const char *path, int n);
/* The name of the n-th key, and whether these are bytes that it had at some time. */
void victim_key(int n, char key[80]);
bool victim_had(int n, const void *data, size_t len);
/* Opens it, reads all of it, changes it, reads it again, and checks it, at first or in the end.  *stage says how far it came.  `forged`: what is read may be anything. */
void victim_use(const char *path, bool forged, bool check_first, struct tally *t, const char *volatile *stage);

#endif
