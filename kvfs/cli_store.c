/* Which store: -s, $KVFS_STORE or the default one; opening it; keys as the user types them.
 *
 * Only the default store is ever made unasked, so that a typo or an unmounted disk never becomes an empty store. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the name of the store ---- */

/* The directory in which the default store and the @NAME ones are; malloc'd, NULL after printing why. */
static char *stores_dir(struct cli *cli)
{
	const char *base = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	char *path = NULL;
	int n;

	if (base && base[0] == '/') { /* the specification has relative ones ignored */
		n = asprintf(&path, "%s/kvfs", base);
	} else {
		struct passwd *pw = home && *home ? NULL : getpwuid(geteuid());

		if (pw)
			home = pw->pw_dir;
		if (!home || !*home) {
			cli_failf(cli, NULL, "no home directory to keep the default store in: set HOME, or name a store with -s");
			return NULL;
		}
		n = asprintf(&path, "%s/.local/share/kvfs", home);
	}
	if (n < 0) {
		cli_failf(cli, NULL, "%s", strerror(ENOMEM));
		return NULL;
	}
	return path;
}

static char *join(const char *dir, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* The current directory may change under us (import and export do that), so the path is made absolute once. */
static char *absolute(const char *path)
{
	char *cwd, *ret;

	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return NULL;
	ret = join(cwd, path);
	free(cwd);
	return ret;
}

int cli_choose_store(struct cli *cli, const char *store)
{
	const char *env = getenv("KVFS_STORE");
	char *path;

	if (!store)
		store = cli->store_arg;
	if (!store && env && *env)
		store = env;
	if (store && !*store)
		return cli_failf(cli, NULL, "the name of the store is empty"), -EINVAL;
	if (store && store[0] == '@' && (kvfs_key_fault(store + 1) || !store[1] || strchr(store, '/')))
		return cli_failf(cli, NULL, "%s names no store: after @ comes one name without '/'", cli_quote(store)), -EINVAL;

	cli->store_kind = !store ? STORE_DEFAULT : store[0] == '@' ? STORE_BESIDE : STORE_PATH;
	if (cli->store_kind == STORE_PATH) {
		path = absolute(store);
		if (!path)
			return cli_failf(cli, NULL, "store %s: %s", cli_quote(store), strerror(errno)), -errno;
	} else {
		char *dir = stores_dir(cli);

		if (!dir)
			return -ENOENT;
		path = join(dir, store ? store + 1 : "default");
		free(dir);
		if (!path)
			return cli_failf(cli, NULL, "%s", strerror(ENOMEM)), -ENOMEM;
	}
	free(cli->store_path);
	cli->store_path = path;
	return 0;
}

int cli_make_dirs(const char *path)
{
	char *copy = strdup(path);
	int r = 0;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; r == 0; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			r = -errno;
		*p = c;
		if (!c)
			break;
	}
	free(copy);
	return r;
}

/* ---- damage that the library cannot see coming ---- */

/* A damaged page can lead LMDB anywhere. Prepared beforehand: the handler may only write. */
static char guard_text[1024];
static size_t guard_len;

static void guard_fatal(int sig)
{
	(void)sig;
	if (write(STDERR_FILENO, guard_text, guard_len) < 0) {
		/* nobody to tell */
	}
	_exit(CLI_TROUBLE);
}

void cli_guard(const char *store_path)
{
	static char stack[16384];
	static const int signals[] = {SIGBUS, SIGSEGV, SIGABRT};
	struct sigaction sa = {.sa_handler = guard_fatal, .sa_flags = SA_ONSTACK | SA_RESETHAND};
	int n;

	n = snprintf(guard_text, sizeof(guard_text),
		"kvfs: store %.900s is damaged: its data could not be read; restore a copy, or export what still can be read\n",
		cli_quote(store_path));
	guard_len = n < 0 ? 0 : (size_t)n < sizeof(guard_text) ? (size_t)n : sizeof(guard_text) - 1;
	sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
}

/* ---- opening ---- */

static int fail_missing(struct cli *cli, unsigned flags)
{
	const char *path = cli_quote(cli->store_path);

	if (cli->store_kind == STORE_DEFAULT)
		cli_failf(cli, NULL, "there is no store at %s yet: `kvfs put`, `kvfs import` or `kvfs mount` makes it", path);
	else if (flags & CLI_MAKE_DEFAULT)
		cli_failf(cli, NULL, "there is no store at %s: make it with `kvfs init` or --create, or mount its disk", path);
	else
		cli_failf(cli, NULL, "there is no store at %s: make it with `kvfs init`, or mount its disk", path);
	return -ENOENT;
}

/* Makes the directory that holds the stores: only of those that kvfs itself places. */
static int make_parents(struct cli *cli)
{
	char *parent, *slash;
	int r;

	if (cli->store_kind == STORE_PATH)
		return 0;
	parent = strdup(cli->store_path);
	if (!parent)
		return -ENOMEM;
	slash = strrchr(parent, '/');
	*slash = '\0';
	r = cli_make_dirs(parent);
	if (r < 0)
		cli_failf(cli, NULL, "cannot make the directory %s: %s", cli_quote(parent), strerror(-r));
	free(parent);
	return r;
}

/* After a power cut a store must be opened for writing once before it can be read. */
static int open_store(struct cli *cli, struct kvfs_error *err)
{
	struct kvfs_options writing = cli->options;
	int r = kvfs_open(cli->store_path, &cli->options, &cli->store, err);

	if (r != -EROFS || !(writing.flags & KVFS_RDONLY))
		return r;
	writing.flags &= ~(unsigned)KVFS_RDONLY;
	r = kvfs_open(cli->store_path, &writing, &cli->store, NULL);
	if (r < 0)
		return -EROFS;
	kvfs_close(cli->store);
	cli->store = NULL;
	return kvfs_open(cli->store_path, &cli->options, &cli->store, err);
}

int cli_open(struct cli *cli, unsigned flags)
{
	struct kvfs_error err = {0};
	bool make;
	int r;

	if (!cli->store_path) {
		r = cli_choose_store(cli, NULL);
		if (r < 0)
			return r;
	}
	make = (flags & CLI_MAKE) || (cli->store_kind == STORE_DEFAULT && (flags & CLI_MAKE_DEFAULT));
	if (flags & CLI_READ)
		cli->options.flags |= KVFS_RDONLY;
	if (make) {
		cli->options.flags |= KVFS_CREATE;
		r = make_parents(cli);
		if (r < 0)
			return r;
	}
	cli_guard(cli->store_path);
	r = open_store(cli, &err);
	if (r == -ENOENT && !make)
		return fail_missing(cli, flags);
	if (r < 0)
		cli_failf(cli, NULL, "store %s: %s", cli_quote(cli->store_path), err.text[0] ? err.text : strerror(-r));
	return r;
}

/* ---- keys ---- */

/* The door whose mountpoint `path` lies under; what follows it in *ret_rest. */
static const char *mount_above(struct cli *cli, const char *path, const char **ret_rest)
{
	enum { DOORS = 256 };
	static struct kvfs_door doors[DOORS];
	ssize_t n = kvfs_doors(cli->store, doors, DOORS);

	for (ssize_t i = 0; i < n && i < DOORS; i++) {
		const char *m = doors[i].mountpoint;
		size_t len = strlen(m);

		if (len > 1 && strncmp(path, m, len) == 0 && (path[len] == '/' || !path[len])) {
			*ret_rest = path + len + strspn(path + len, "/");
			return m;
		}
	}
	return NULL;
}

const char *cli_key(struct cli *cli, const char *arg)
{
	const char *fault, *mountpoint, *rest;

	if (arg[0] == '/' && arg[1] && (mountpoint = mount_above(cli, arg, &rest))) {
		cli_failf(cli, arg, "is a path in the mount at %s, not a key; did you mean %s?", cli_quote(mountpoint),
			cli_quote(*rest ? rest : "/"));
		return NULL;
	}
	fault = kvfs_key_fault(arg);
	if (fault) {
		cli_failf(cli, arg, "not a key: %s", fault);
		return NULL;
	}
	return arg + (arg[0] == '/');
}
