/* Damaged stores, for libFuzzer: the input says which mutations of mutate.c are done to a small store, where, and to what; then it is used as a
 * program would that does not know (victim.c).  Other bytes than were stored, and listings in circles, are what it looks for besides what
 * the sanitizers see. */
#include <kvfs.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"
#include "mutate.h"
#include "victim.h"

enum { KEYS = 40, MUTATIONS_MAX = 6 };

static struct image original, image;
static char path[200];

/* A call that an assertion of LMDB ended leaves a page behind that it had allocated; and a forged size is more memory than there is. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:allocator_may_return_null=1";
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char file[260];
	(void)argc;
	(void)argv;
	setenv("KVFS_SEED", "1", 1);
	snprintf(path, sizeof path, "%s", support_store_path());
	victim_build(path, KEYS);
	snprintf(file, sizeof file, "%s/data.mdb", path);
	original = image_load(file);
	image = (struct image){.data = malloc(original.cap), .cap = original.cap};
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct chance chance = {.data = data, .len = len, .rng = {1}};
	struct tally t = {0};
	const char *volatile stage = NULL;
	bool forged = false;
	if (!len)
		return 0;
	bool check_first = *data & 0x80;
	memcpy(image.data, original.data, original.cap);
	image.len = original.len;
	for (int i = 0; chance.len && i < MUTATIONS_MAX; i++) {
		uint8_t kind = *chance.data & 0x7f;
		const struct mutation *m = &mutations[kind % mutation_count];
		chance.data++;
		chance.len--;
		m->apply(&image, &chance);
		forged |= m->forged;
		if (image.len < original.len) /* the others take the file to be whole */
			break;
	}
	image_store(&image, path); /* what else lies beside data.mdb is made when it is opened */
	victim_use(path, forged, check_first, &t, &stage);
	if (t.wrong || t.hangs)
		abort();
	return 0;
}
