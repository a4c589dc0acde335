/* kvfs mount: shows a store as files.
 *
 * An environment of LMDB and threads do not survive a fork, so the process forks before it opens anything.  The child opens, mounts and
 * serves; the parent waits for its word, asks the mount one question, and returns to the shell only when that is answered.  What
 * goes wrong before is told by the child, on the stderr that both have. */
#include "cli.h"
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- options ---- */

/* What the kernel and fusermount3 understand. */
static const char *const for_kernel[] = {"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync",
	"atime", "noatime", "diratime", "nodiratime", "allow_other", "allow_root", "auto_unmount", NULL};
/* What mount(8), fstab and systemd say to each other; and what is so in any case. */
static const char *const ignored[] = {"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail",
	"_netdev", "silent", "loud", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime",
	"default_permissions", "subtype=kvfs", NULL};
static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

/* Such, with a value. */
static const char *const ignored_prefixes[] = {"x-", "X-", "comment=", NULL};

static bool means_nothing(const char *word)
{
	for (const char *const *p = ignored_prefixes; *p; p++)
		if (strncmp(word, *p, strlen(*p)) == 0)
			return true;
	return !*word || is_one_of(word, ignored);
}

struct request {
	struct kv_mount_options mount;
	char *kernel; /* the options for it so far */
	const char *user; /* who serves, instead of root; or NULL */
	bool read_only, make;
	bool sloppy; /* an unknown option means nothing */
	char mountpoint[PATH_MAX];
};

static bool append(char **list, const char *word)
{
	char *longer = NULL;

	if (asprintf(&longer, "%s%s%s", *list ? *list : "", *list ? "," : "", word) < 0)
		return false;
	free(*list);
	*list = longer;
	return true;
}

static int take_option(struct cli *cli, struct request *q, const char *word)
{
	if (strncmp(word, "durability=", strlen("durability=")) == 0) {
		cli->options.durability = cli_durability(cli, strchr(word, '=') + 1);
	} else if (strcmp(word, "on-kill=commit") == 0 || strcmp(word, "on-kill=drop") == 0) {
		q->mount.commit_killed = strcmp(word, "on-kill=commit") == 0;
	} else if (strcmp(word, "publish=write") == 0 || strcmp(word, "publish=close") == 0) {
		q->mount.publish_write = strcmp(word, "publish=write") == 0;
	} else if (strncmp(word, "publish=", strlen("publish=")) == 0) {
		return cli_usage(cli, "publish is close or write, not %s", cli_quote(strchr(word, '=') + 1));
	} else if (strncmp(word, "on-kill=", strlen("on-kill=")) == 0) {
		return cli_usage(cli, "on-kill is drop or commit, not %s", cli_quote(strchr(word, '=') + 1));
	} else if (strncmp(word, "user=", strlen("user=")) == 0) {
		q->user = strchr(word, '=') + 1;
	} else if (is_one_of(word, for_kernel)) {
		if (strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0)
			q->read_only = word[1] == 'o';
		if (!append(&q->kernel, word))
			return cli_failf(cli, NULL, "%s", strerror(ENOMEM));
	} else if (strcmp(word, "remount") == 0) {
		return cli_usage(cli, "the options of a mount cannot be changed: end it, and mount again");
	} else if (!means_nothing(word) && !q->sloppy) {
		return cli_usage(cli, "unknown mount option %s", cli_quote(word));
	}
	return CLI_DONE;
}

static int take_options(struct cli *cli, struct request *q, char *list)
{
	int status = CLI_DONE;
	char *rest = NULL;

	for (char *word = strtok_r(list, ",", &rest); word && status == CLI_DONE; word = strtok_r(NULL, ",", &rest))
		status = take_option(cli, q, word);
	return status;
}

/* ---- the mount point ---- */

/* Clears a mount whose process died. */
static int clear_dead_mount(struct cli *cli, const char *arg)
{
	char path[PATH_MAX], why[512] = "";
	int r;

	if (!mountpoint_dead(arg))
		return CLI_DONE;
	r = mountpoint_resolve(arg, path);
	if (r < 0)
		return cli_failf(cli, arg, "%s", strerror(-r));
	if (!kv_mounted_at(path, NULL, NULL) || mountpoint_clear(path, true, why, sizeof(why)) < 0)
		return cli_failf(cli, arg,
			"the mount there has lost its process, and cannot be cleared (`fusermount3 -uz` may): %s",
			why[0] ? why : "it is not a store's");
	return CLI_DONE;
}

/* Its absolute name into path[PATH_MAX]. */
static int find_mountpoint(struct cli *cli, const char *arg, char *path)
{
	struct stat st;
	int status = clear_dead_mount(cli, arg);

	if (status != CLI_DONE)
		return status;
	if (!realpath(arg, path) || stat(path, &st) < 0)
		return cli_failf(cli, arg, "%s%s", strerror(errno), errno == ENOENT ? "; make that directory first (mkdir)" : "");
	if (!S_ISDIR(st.st_mode))
		return cli_failf(cli, arg, "not a directory");
	if (kv_mounted_at(path, NULL, NULL))
		return cli_failf(cli, arg, "a store is mounted there already");
	return CLI_DONE;
}

/* ---- the two processes ---- */

static int serve(struct cli *cli, struct request *q)
{
	unsigned flags = CLI_MAKE_DEFAULT | (q->make ? CLI_MAKE : 0);
	struct kv_user user;
	char why[1024];
	int r = 0;

	if (q->user && geteuid() != 0)
		return cli_failf(cli, NULL, "only root can mount for another user (user=%s)", q->user);
	if (q->user && ((r = kv_user_find(q->user, &user)) < 0 || (r = kv_user_begin(&user)) < 0))
		return cli_failf(
			cli, NULL, "user %s: %s", cli_quote(q->user), r == -ENOENT ? "there is none of that name" : strerror(-r));
	cli->options.purpose = "mount";
	if (!cli->options.durability)
		cli->options.durability = KVFS_RELAXED;
	if (q->read_only)
		flags = CLI_READ;
	if (cli_open(cli, flags) < 0)
		return CLI_TROUBLE;
	q->mount.source = cli->store_path;
	q->mount.kernel = q->kernel ? q->kernel : "";
	q->mount.fuse_fd = -1;
	if (q->user && (r = kv_user_mount(&q->mount, &user, &q->mount.fuse_fd)) < 0)
		return cli_failf(cli, q->mount.mountpoint, "cannot mount: %s", strerror(-r));
	if (kv_mount_run(cli->store, &q->mount, why, sizeof(why)) < 0)
		return cli_failf(cli, q->mount.mountpoint, "%s", why);
	return CLI_DONE;
}

static int serve_detached(struct cli *cli, struct request *q, int ready)
{
	/* Nothing of the shell's but its stderr, and that only until the mount stands: a lock it holds, say, must not stay held. */
	q->mount.ready_fd = STDERR_FILENO + 1;
	if (dup2(ready, q->mount.ready_fd) < 0)
		return cli_failf(cli, NULL, "%s", strerror(errno));
	closefrom(q->mount.ready_fd + 1);
	if (chdir("/") < 0)
		return cli_failf(cli, NULL, "%s", strerror(errno));
	return serve(cli, q);
}

/* 0 when the mount answers; the child has said what else happened, or died. */
static int wait_ready(struct cli *cli, const struct request *q, pid_t child, int ready)
{
	struct statvfs st;
	int status;
	char byte;
	ssize_t n;

	do
		n = read(ready, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1) {
		if (statvfs(q->mount.mountpoint, &st) == 0)
			return CLI_DONE;
		return cli_failf(cli, q->mount.mountpoint, "mounted, but does not answer: %s", strerror(errno));
	}
	if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
		return cli_failf(cli, q->mount.mountpoint, "its process died of signal %d", WTERMSIG(status));
	return CLI_TROUBLE;
}

static int run(struct cli *cli, struct request *q)
{
	int ready[2];
	pid_t child;

	q->mount.ready_fd = -1;
	if (q->mount.foreground)
		return serve(cli, q);
	if (pipe2(ready, O_CLOEXEC) < 0)
		return cli_failf(cli, NULL, "%s", strerror(errno));
	fflush(NULL);
	child = fork();
	if (child < 0)
		return cli_failf(cli, NULL, "%s", strerror(errno));
	if (child == 0)
		return serve_detached(cli, q, ready[1]);
	close(ready[1]);
	return wait_ready(cli, q, child, ready[0]);
}

/* Both commands, the options being read: a store (NULL: the one chosen before) is shown at `where`. */
static int show(struct cli *cli, struct request *q, const char *store, const char *where)
{
	int status = cli_choose_store(cli, store) < 0 ? CLI_TROUBLE : find_mountpoint(cli, where, q->mountpoint);

	q->mount.mountpoint = q->mountpoint;
	return status == CLI_DONE ? run(cli, q) : status;
}

int cmd_mount(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"create", no_argument, NULL, 'c'}, {0}};
	struct request q = {0};
	int c, status = CLI_DONE;

	while (status == CLI_DONE && (c = cli_option(cli, argc, argv, "fdo:", longs)) != -1) {
		if (c == 'o')
			status = take_options(cli, &q, optarg);
		else if (c == 'c')
			q.make = true;
		else
			q.mount.foreground = true;
		q.mount.debug |= c == 'd';
	}
	if (status == CLI_DONE) {
		cli_operands(cli, argc, 1, 2);
		status = show(cli, &q, optind + 1 < argc ? argv[optind] : NULL, argv[argc - 1]);
	}
	free(q.kernel);
	return status;
}

/* mount.kvfs, as mount(8) calls it: with -s before -o. */
int cmd_mount_helper(struct cli *cli, int argc, char **argv)
{
	struct request q = {0};
	int c, status = CLI_DONE;
	bool fake = false;

	while (status == CLI_DONE && (c = cli_option(cli, argc, argv, "fnsvt:o:", NULL)) != -1) {
		q.sloppy |= c == 's';
		fake |= c == 'f';
		if (c == 'o')
			status = take_options(cli, &q, optarg);
	}
	if (status == CLI_DONE)
		cli_operands(cli, argc, 2, 2);
	if (status == CLI_DONE && !fake)
		status = show(cli, &q, argv[optind], argv[optind + 1]);
	free(q.kernel);
	return status;
}
