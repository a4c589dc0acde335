/* kvfs edit: a value in the user's editor, published only over the version that was edited.
 *
 * What the user wrote is never thrown away: where it cannot be published, its file stays and is named. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EDIT_MAX = 64 << 20, STEP = 1 << 16 };

struct edit {
	struct cli *cli;
	const char *key;
	struct kvfs_stream *old; /* the version that is edited, held; NULL for a new key */
	uint64_t version; /* its */
	char dir[4096],
		path[4096 + 256]; /* a directory only we may enter, and the file in it, named as the key for the editor's sake */
};

/* Opens the value together with the version it is: nobody may have published between the two. */
static int open_old(struct edit *e)
{
	struct kvfs_stat before, after;
	int r;

	for (;;) {
		r = kvfs_stat(e->cli->store, e->key, &before);
		if (r == -ENOENT)
			return 0;
		if (r == 0)
			r = kvfs_stream_open(e->cli->store, e->key, KVFS_STREAM_READ, 0, &e->old);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0) {
			r = kvfs_stat(e->cli->store, e->key, &after);
			if (r == 0 && before.ino == after.ino && before.version == after.version) {
				e->version = before.version;
				return 0;
			}
			kvfs_stream_abort(e->old);
			e->old = NULL;
			if (r < 0 && r != -ENOENT)
				return r;
		}
	}
}

static int write_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Makes the directory and the file, with the old value in it. */
static int make_file(struct edit *e)
{
	const char *tmp = getenv("TMPDIR"), *slash = strrchr(e->key, '/');
	char buf[STEP];
	uint64_t offset = 0;
	ssize_t n = 0;
	int fd, r;

	snprintf(e->dir, sizeof(e->dir), "%s/kvfs-edit-XXXXXX", tmp && *tmp == '/' && strlen(tmp) < 4000 ? tmp : "/tmp");
	if (!mkdtemp(e->dir))
		return -errno;
	snprintf(e->path, sizeof(e->path), "%s/%s", e->dir, slash ? slash + 1 : e->key);
	fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = 0;
	while (e->old && r == 0 && (n = kvfs_stream_read(e->old, buf, sizeof(buf), offset)) > 0) {
		r = write_all(fd, buf, (size_t)n);
		offset += (uint64_t)n;
	}
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return n < 0 ? (int)n : r;
}

static void remove_file(struct edit *e)
{
	if (*e->path)
		unlink(e->path);
	if (*e->dir)
		rmdir(e->dir); /* stays when the editor left something beside the file */
}

/* Runs the editor and waits for it.  Its variable may hold arguments, so a shell reads it; the file's name is an argument
 * of that shell, never a part of its program. */
static int run_editor(struct edit *e)
{
	const char *editor = getenv("VISUAL");
	struct sigaction ignore = {.sa_handler = SIG_IGN}, old_int, old_quit;
	posix_spawnattr_t attr;
	sigset_t defaults;
	char *program, sh[] = "sh", dash_c[] = "-c";
	pid_t pid;
	int r, status;

	if (!editor || !*editor)
		editor = getenv("EDITOR");
	if (!editor || !*editor)
		editor = "vi";
	if (asprintf(&program, "%s \"$@\"", editor) < 0)
		return -ENOMEM;
	/* Ctrl-C is the editor's while it runs. */
	sigaction(SIGINT, &ignore, &old_int);
	sigaction(SIGQUIT, &ignore, &old_quit);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGINT);
	sigaddset(&defaults, SIGQUIT);
	sigaddset(&defaults, SIGXFSZ);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	r = posix_spawn(&pid, "/bin/sh", NULL, &attr, (char *[]){sh, dash_c, program, program, e->path, NULL}, environ);
	if (r == 0) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		r = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : ECHILD;
	}
	posix_spawnattr_destroy(&attr);
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGQUIT, &old_quit, NULL);
	free(program);
	return -r;
}

/* The file as it is now; malloc'd. */
static int read_file(struct edit *e, char **ret, size_t *ret_len)
{
	int fd = open(e->path, O_RDONLY | O_CLOEXEC), r = 0;
	size_t len = 0, cap = STEP;
	char *buf = malloc(cap);

	if (fd < 0 || !buf)
		r = fd < 0 ? -errno : -ENOMEM;
	while (r == 0) {
		ssize_t n = read(fd, buf + len, cap - len);

		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (len > EDIT_MAX)
			r = -EFBIG;
		if (r == 0 && len == cap) {
			char *larger = realloc(buf, cap *= 2);

			if (larger)
				buf = larger;
			else
				r = -ENOMEM;
		}
	}
	if (fd >= 0)
		close(fd);
	if (r < 0) {
		free(buf);
		return r;
	}
	*ret = buf;
	*ret_len = len;
	return 0;
}

/* Is the text the old value, byte by byte?  1, 0, or a negative errno. */
static int is_old(struct edit *e, const char *text, size_t len)
{
	char buf[STEP];

	if (!e->old)
		return len == 0;
	if (kvfs_stream_size(e->old) != len)
		return 0;
	for (size_t at = 0; at < len;) {
		ssize_t n = kvfs_stream_read(e->old, buf, sizeof(buf), at);

		if (n < 0)
			return (int)n;
		if (n == 0 || memcmp(buf, text + at, (size_t)n) != 0)
			return 0;
		at += (size_t)n;
	}
	return 1;
}

static int publish(struct edit *e, const char *text, size_t len)
{
	struct kvfs_put_options opt = {
		.size = sizeof(opt), .flags = e->old ? KVFS_IF_VERSION : KVFS_IF_ABSENT, .version = e->version};
	mode_t mask = umask(0);
	int r;

	umask(mask);
	opt.mode = 0666 & ~mask;
	r = kvfs_put(e->cli->store, e->key, text, len, &opt, NULL);
	if (r == 0)
		return CLI_DONE;
	return cli_failf(e->cli, e->key, "%s; nothing was stored, what you wrote is in %s",
		r == -ECANCELED || r == -EEXIST ? "somebody else changed it meanwhile" : cli_reason(e->cli, e->key, r), e->path);
}

/* From the editor on; *ret_keep: the file holds what is nowhere else. */
static int edit_file(struct edit *e, bool *ret_keep)
{
	int edited, r, status = CLI_DONE;
	char *text;
	size_t len;

	edited = run_editor(e);
	r = read_file(e, &text, &len);
	if (r < 0) {
		*ret_keep = r != -ENOENT;
		return cli_failf(e->cli, e->key, "%s: %s; nothing was stored", e->path, strerror(-r));
	}
	r = is_old(e, text, len);
	*ret_keep = true;
	if (edited < 0)
		status = cli_failf(e->cli, e->key, "the editor %s; nothing was stored%s%s",
			edited == -ECHILD ? "failed" : "could not be run", r == 1 ? "" : ", what you wrote is in ",
			r == 1 ? "" : e->path);
	else if (r < 0)
		status = cli_failf(
			e->cli, e->key, "%s; nothing was stored, what you wrote is in %s", cli_reason(e->cli, e->key, r), e->path);
	else if (r == 1)
		cli_failf(e->cli, e->key, "not changed");
	else
		status = publish(e, text, len);
	*ret_keep = status != CLI_DONE && r != 1;
	free(text);
	return status;
}

int cmd_edit(struct cli *cli, int argc, char **argv)
{
	static struct edit e;
	bool keep = false;
	int r, status;

	while (cli_option(cli, argc, argv, "", NULL) != -1)
		;
	cli_operands(cli, argc, 1, 1);
	e.cli = cli;
	if (cli_open(cli, 0) < 0 || !(e.key = cli_key(cli, argv[optind])))
		return CLI_TROUBLE;
	r = *e.key ? open_old(&e) : -EISDIR;
	if (r < 0) {
		cli_fail(cli, argv[optind], r);
		return CLI_TROUBLE;
	}
	if (e.old && kvfs_stream_size(e.old) > EDIT_MAX) {
		kvfs_stream_abort(e.old);
		return cli_failf(cli, e.key, "has more than 64 MiB: too large to edit");
	}
	r = make_file(&e);
	if (r < 0)
		status = cli_failf(cli, e.key, "cannot prepare %s: %s", *e.path ? e.path : e.dir, strerror(-r));
	else
		status = edit_file(&e, &keep);
	if (!keep)
		remove_file(&e);
	kvfs_stream_abort(e.old);
	return status;
}
