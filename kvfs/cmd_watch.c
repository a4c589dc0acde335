/* kvfs watch: a line for each change, as soon as it is committed. */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

static const char *name_of(const struct kvfs_event *e)
{
	switch (e->kind) {
	case KVFS_CHANGE_PUT:
		return "put";
	case KVFS_CHANGE_APPEND:
		return "append";
	case KVFS_CHANGE_DELETE:
		return "delete";
	case KVFS_CHANGE_RENAME_FROM:
		return e->target ? "rename" : "rename-from";
	case KVFS_CHANGE_RENAME_TO:
		return "rename-to";
	case KVFS_CHANGE_MKDIR:
		return "mkdir";
	case KVFS_CHANGE_MAKE:
		return "make";
	case KVFS_CHANGE_ATTR:
		return "attr";
	}
	return "change";
}

static void print_text(const struct kvfs_event *e)
{
	printf("%s ", name_of(e));
	cli_print_shell(stdout, *e->key ? e->key : "/");
	if (e->target) {
		fputs(" -> ", stdout);
		cli_print_shell(stdout, e->target);
	}
	putchar('\n');
}

static void print_json(const struct kvfs_event *e)
{
	struct cli_json j;

	cli_json_begin(&j, stdout);
	cli_json_uint(&j, "sequence", e->sequence);
	cli_json_time(&j, "time", (struct timespec){.tv_sec = e->time_ns / 1000000000, .tv_nsec = e->time_ns % 1000000000});
	cli_json_string(&j, "kind", name_of(e));
	cli_json_string(&j, "key", e->key);
	cli_json_string(&j, "type", cli_type(e->type));
	if (e->target)
		cli_json_string(&j, "target", e->target);
	cli_json_end(&j);
	putchar('\n');
}

/* All there is now.  0, or a negative errno. */
static int print_all(struct kvfs_watch *w, bool json)
{
	struct kvfs_event e;
	int r = 0;

	while (!ferror(stdout) && (r = kvfs_watch_next(w, &e)) != 0) {
		if (r == 1)
			(json ? print_json : print_text)(&e);
		else if (r == -EOVERFLOW)
			puts(json ? "{\"kind\":\"lost\"}" : "lost");
		else
			break;
	}
	fflush(stdout);
	return r < 0 ? r : 0;
}

/* Until it is interrupted, nobody reads what is printed, or something fails. */
static int follow(struct cli *cli, struct kvfs_watch *w, bool json)
{
	struct pollfd fds[] = {{.fd = kvfs_watch_fd(w), .events = POLLIN}, {.fd = STDOUT_FILENO}};
	struct sigaction act = {.sa_handler = interrupt};
	sigset_t block, during;
	int r;

	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigprocmask(SIG_BLOCK, &block, &during); /* let in during the wait only */
	sigaction(SIGINT, &act, NULL);
	sigdelset(&during, SIGINT);
	for (;;) {
		r = print_all(w, json);
		if (r < 0)
			return cli_fail(cli, NULL, r);
		if (interrupted || ferror(stdout) || fds[1].revents)
			return CLI_DONE;
		if (ppoll(fds, 2, NULL, &during) < 0 && errno != EINTR)
			return cli_fail(cli, NULL, -errno);
	}
}

int cmd_watch(struct cli *cli, int argc, char **argv)
{
	enum { JSON = 1000, SINCE };
	static const struct option longs[] = {{"recursive", no_argument, NULL, 'r'}, {"json", no_argument, NULL, JSON},
		{"since", required_argument, NULL, SINCE}, {0}};
	struct kvfs_watch *w;
	uint64_t since = 0;
	unsigned flags = 0;
	bool json = false;
	const char *key;
	int c, r;

	while ((c = cli_option(cli, argc, argv, "r", longs)) != -1) {
		if (c == 'r')
			flags |= KVFS_WATCH_RECURSIVE;
		json |= c == JSON;
		if (c == SINCE && !cli_parse_u64(optarg, &since))
			return cli_usage(cli, "%s is not a sequence number", cli_quote(optarg));
	}
	cli_operands(cli, argc, 0, 1);
	if (cli_open(cli, CLI_READ) < 0 || !(key = cli_key(cli, optind < argc ? argv[optind] : "")))
		return CLI_TROUBLE;
	r = cli_missing(kvfs_watch_open(cli->store, key, flags, since, &w));
	if (r == -ESTALE)
		return cli_failf(cli, NULL, "the log of changes does not reach back to %ju", (uintmax_t)since);
	if (r == -EMFILE)
		return cli_failf(cli, NULL, "you watch too many files already (fs.inotify.max_user_instances)");
	if (r < 0)
		return cli_fail(cli, key, r);
	c = follow(cli, w, json);
	kvfs_watch_close(w);
	return c;
}
