/* What store_bench asks of a store: its workloads (main.c) know each only by these calls.
 *
 * Keys are KEY_BYTES random bytes.  A call that cannot do what it was asked ends the program with a message: a benchmark has no other use for
 * errors.  `level` is one of those that systems.py lists for the engine. */
#ifndef ENGINE_H
#define ENGINE_H

#include "../must.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 10, VALUE_MIN = 200, VALUE_MAX = 1000 };

struct engine {
	void (*open)(const char *dir, const char *level); /* `dir` exists; the store is made if it is not there */
	void (*put)(const void *key, const void *value, size_t len); /* in a transaction of its own, if none is begun */
	size_t (*get)(const void *key, void *into); /* copies the value, and returns its length; 0: not there */
	void (*begin)(void); /* what is put until commit() is one transaction, the engine's quick way to load */
	void (*commit)(void);
	void (*scan)(void); /* copies every value, and calls scanned() for each, until that says false */
	void (*close)(void);
};
extern const struct engine engine;

bool scanned(size_t len);

#endif
