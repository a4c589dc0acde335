/* cut_power STORE [KEY VALUE]: what a power cut leaves of a program that wrote at `relaxed`.  Puts the value and syncs, puts "lost" in its place, dies,
 * and makes the store's record say that this was in an earlier boot.  Without KEY only that. */
#include <fcntl.h>
#include <kvfs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SLOT = 512, BOOT_AT = 40, SUM_AT = 504 }; /* FORMAT.md */

static int write_and_die(char **argv)
{
	struct kvfs_options opt = {.size = sizeof(opt), .durability = KVFS_RELAXED};
	struct kvfs_store *store;

	if (kvfs_open(argv[1], &opt, &store, NULL) < 0 || kvfs_put(store, argv[2], argv[3], strlen(argv[3]), NULL, NULL) < 0 ||
		kvfs_sync(store) < 0 || kvfs_put(store, argv[2], "lost", 4, NULL, NULL) < 0)
		return 1;
	return raise(SIGKILL);
}

static int boot_again(int fd, off_t at)
{
	unsigned char slot[SLOT];
	uint64_t sum;

	if (pread(fd, slot, SLOT, at) != SLOT)
		return 1;
	if (memcmp(slot, "KVFSSYN", 8) != 0)
		return 0;
	slot[BOOT_AT] ^= 0xff;
	sum = XXH3_64bits(slot, SUM_AT);
	memcpy(slot + SUM_AT, &sum, sizeof(sum));
	return pwrite(fd, slot, SLOT, at) != SLOT;
}

int main(int argc, char **argv)
{
	char path[4200];
	int fd, status;
	pid_t child = argc == 4 ? fork() : -1;

	if (argc != 2 && argc != 4)
		return 2;
	if (child == 0)
		_exit(write_and_die(argv));
	if (child > 0 && (waitpid(child, &status, 0) != child || !WIFSIGNALED(status)))
		return 1;
	snprintf(path, sizeof(path), "%s/sync", argv[1]);
	fd = open(path, O_RDWR);
	return fd < 0 || boot_again(fd, 0) || boot_again(fd, 4096);
}
