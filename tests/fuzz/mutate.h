/* Damage for data.mdb: one mutation of each kind that a disk, a bug or an enemy makes.  A mutation is a function of the file and of chance
 * alone, so a case is repeated by its seed, or by the bytes that a fuzzer chose. */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include "pages.h"
#include "support.h"

struct image {
	uint8_t *data;
	size_t len, cap; /* it may grow shorter, or longer by some pages */
};

#define IMAGE_ROOM (16 * 4096u) /* beyond len, that a mutation may use */

struct chance {
	const uint8_t *data; /* what is to happen; then the generator says */
	size_t len;
	struct support_rng rng;
};

struct mutation {
	const char *name;
	void (*apply)(struct image *img, struct chance *rng);
	bool forged; /* records with good sums: what is read then is what the enemy wrote, and only crashes and hangs are faults */
};
extern const struct mutation mutations[];
extern const unsigned mutation_count;

/* A file that can be damaged. */
struct image image_load(const char *path);
/* A store of that file alone, at `path`, in the place of what is there. */
void image_store(const struct image *img, const char *path);
/* Makes the store of one case at `path`, to which mutation number % mutation_count was done. */
void mutate_store(const struct image *original, unsigned long number, const char *path);

#endif
