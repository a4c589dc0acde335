/* kvfs umount: ends a mount, and waits for its process, so that what was closed is in the store when the shell goes on. */
#include "cli.h"
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { PATIENCE_MS = 60000 };

bool mountpoint_dead(const char *path)
{
	struct statvfs st;

	/* The first to ask may be told that its own request was aborted. */
	return statvfs(path, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

int mountpoint_resolve(const char *arg, char *path)
{
	char *copy, *slash, *name, above[PATH_MAX];
	int r = 0;

	if (realpath(arg, path))
		return 0;
	if (errno != ENOTCONN && errno != ECONNABORTED)
		return -errno;
	copy = strdup(arg);
	if (!copy)
		return -ENOMEM;
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	if (slash == copy)
		strcpy(above, "/");
	else if (slash)
		*slash = '\0';
	if (slash != copy && !realpath(slash ? copy : ".", above))
		r = -errno;
	if (r == 0 && snprintf(path, PATH_MAX, "%s/%s", strcmp(above, "/") == 0 ? "" : above, name) >= PATH_MAX)
		r = -ENAMETOOLONG;
	free(copy);
	return r;
}

/* A descriptor of the process that serves the mount, which says so in its store; -1 when that cannot be seen. */
static int daemon_of(const char *source, const char *path)
{
	enum { DOORS = 256 };
	struct kvfs_options options = {.size = sizeof(options), .flags = KVFS_RDONLY, .purpose = "command"};
	static struct kvfs_door doors[DOORS];
	struct kvfs_store *store;
	ssize_t n;
	int fd = -1;

	if (kvfs_open(source, &options, &store, NULL) < 0)
		return -1;
	n = kvfs_doors(store, doors, DOORS);
	for (ssize_t i = 0; i < n && i < DOORS && fd < 0; i++)
		if (strcmp(doors[i].mountpoint, path) == 0)
			fd = pidfd_open(doors[i].pid, 0);
	kvfs_close(store);
	return fd;
}

/* fusermount3, which may do what we may not; 0 or the exit status, and what it said in why[cap]. */
static int fusermount(const char *path, bool lazy, char *why, size_t cap)
{
	char *argv[] = {(char *)"fusermount3", (char *)(lazy ? "-uz" : "-u"), (char *)"--", (char *)path, NULL};
	int text = memfd_create("kvfs-umount", MFD_CLOEXEC), status = -1, r;
	posix_spawn_file_actions_t actions;
	ssize_t n = 0;
	pid_t child;

	posix_spawn_file_actions_init(&actions);
	if (text >= 0)
		posix_spawn_file_actions_adddup2(&actions, text, STDERR_FILENO);
	r = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0) {
		snprintf(why, cap, "fusermount3: %s", strerror(r));
	} else {
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		n = pread(text, why, cap - 1, 0);
		why[n > 0 ? n : 0] = '\0';
		why[strcspn(why, "\n")] = '\0';
	}
	if (text >= 0)
		close(text);
	return status;
}

int mountpoint_clear(const char *path, bool lazy, char *why, size_t cap)
{
	why[0] = '\0';
	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno != EPERM) {
		snprintf(why, cap, "%s", strerror(errno));
		return -errno;
	}
	if (fusermount(path, lazy, why, cap) == 0)
		return 0;
	return strstr(why, "busy") ? -EBUSY : -EPERM;
}

static int unmount(struct cli *cli, const char *arg, const char *path, bool dead)
{
	char why[512];
	int r = mountpoint_clear(path, dead, why, sizeof(why));

	if (r == 0)
		return CLI_DONE;
	if (r == -EBUSY)
		return cli_failf(cli, arg, "in use: a program has something in it open, or works in it (`fuser -vm` tells which)");
	/* By that file fusermount3 knows whose mount it is; a root made by hand may lack it. */
	return cli_failf(cli, arg, "%s%s", why[0] ? why : strerror(-r),
		strstr(why, "/etc/mtab") ? "; as root: ln -s ../proc/self/mounts /etc/mtab" : "");
}

int cmd_umount(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"dead", no_argument, NULL, 'd'}, {0}};
	char path[PATH_MAX], source[PATH_MAX] = "";
	bool dead, only_dead = false;
	int process = -1, status, r;

	while (cli_option(cli, argc, argv, "", longs) != -1)
		only_dead = true;
	cli_operands(cli, argc, 1, 1);
	dead = mountpoint_dead(argv[optind]);
	if (only_dead && !dead)
		return CLI_DONE;
	r = mountpoint_resolve(argv[optind], path);
	if (r < 0)
		return cli_failf(cli, argv[optind], "%s", strerror(-r));
	if (!kv_mounted_at(path, NULL, source))
		return cli_failf(cli, argv[optind], "no store is mounted there");
	if (!dead)
		process = daemon_of(source, path);
	status = unmount(cli, argv[optind], path, dead);
	if (status == CLI_DONE && process >= 0 && poll(&(struct pollfd){.fd = process, .events = POLLIN}, 1, PATIENCE_MS) == 0)
		status = cli_failf(cli, argv[optind], "unmounted, but its process is still at work");
	if (process >= 0)
		close(process);
	return status;
}
