/* MUST(call): a benchmark has no other use for an error than to end with it. */
#ifndef MUST_H
#define MUST_H

#include <stdio.h>
#include <stdlib.h>

#define MUST(x)                                                                                                                    \
	do {                                                                                                                       \
		int must_ = (x);                                                                                                   \
		if (must_) {                                                                                                       \
			fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #x, must_);                                         \
			exit(1);                                                                                                   \
		}                                                                                                                  \
	} while (0)

#endif
