/* Damaged stores, for libFuzzer: the input says which mutations of mutate.c are done to a small store, where, and to what; then it is used as a
 * program would that does not know (victim.c).  Other bytes than were stored, and listings in circles, are what it looks for besides what
 * the sanitizers see. */
#include <fcntl.h>
#include <kvfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "mutate.h"
#include "victim.h"

enum { KEYS = 40, MUTATIONS_MAX = 6 };

static struct image original, image;
static char path[200];

/* A call that an assertion of LMDB ended leaves a page behind that it had allocated. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char file[260];
	struct stat st;
	(void)argc;
	(void)argv;
	setenv("KVFS_SEED", "1", 1);
	snprintf(path, sizeof path, "%s", support_store_path());
	victim_build(path, KEYS);
	snprintf(file, sizeof file, "%s/data.mdb", path);
	int fd = open(file, O_RDONLY);
	assert_ok(fstat(fd, &st));
	original.len = (size_t)st.st_size;
	image.cap = original.cap = original.len + IMAGE_ROOM;
	original.data = calloc(1, original.cap);
	image.data = malloc(image.cap);
	assert_int_equal(read(fd, original.data, original.len), original.len);
	close(fd);
	return 0;
}

/* Anew: what else lies beside data.mdb is made when it is opened. */
static void write_store(void)
{
	char file[260];
	support_remove(path);
	assert_ok(mkdir(path, 0700));
	snprintf(file, sizeof file, "%s/data.mdb", path);
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_int_equal(write(fd, image.data, image.len), image.len);
	close(fd);
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
	write_store();
	victim_use(path, forged, check_first, &t, &stage);
	if (t.wrong || t.hangs)
		abort();
	return 0;
}
