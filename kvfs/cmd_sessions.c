/* kvfs sessions, recover: what writers in a mount left unpublished, and publishing it after all. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reason {
	char s[96];
};

static struct reason reason_of(const struct kvfs_kept *k)
{
	const char *name = k->reason > 0 ? sigabbrev_np(k->reason) : NULL;
	struct reason r;

	if (k->reason < 0)
		snprintf(r.s, sizeof(r.s), "not published: %s", strerror(-k->reason));
	else if (name)
		snprintf(r.s, sizeof(r.s), "killed by SIG%s", name);
	else
		snprintf(r.s, sizeof(r.s), "killed by signal %d", k->reason);
	return r;
}

static struct timespec time_of(const struct kvfs_kept *k)
{
	return (struct timespec){.tv_sec = k->time_ns / 1000000000, .tv_nsec = k->time_ns % 1000000000};
}

static void print_text(const struct kvfs_kept *k)
{
	printf("%ju  %s  %s%s  ", (uintmax_t)k->id, cli_time(time_of(k), false).s, cli_human(k->size).s,
		k->whole ? "" : " (parts)");
	if (*k->key)
		cli_print_shell(stdout, k->key);
	else
		fputs("(its key is gone)", stdout);
	printf("  %s\n", reason_of(k).s);
}

static void print_json(const struct kvfs_kept *k)
{
	struct cli_json j;

	cli_json_begin(&j, stdout);
	cli_json_uint(&j, "id", k->id);
	if (*k->key)
		cli_json_string(&j, "key", k->key);
	cli_json_uint(&j, "size", k->size);
	cli_json_uint(&j, "stored", k->stored);
	cli_json_name(&j, "whole");
	fputs(k->whole ? "true" : "false", stdout);
	cli_json_string(&j, "reason", reason_of(k).s);
	cli_json_time(&j, "time", time_of(k));
	cli_json_end(&j);
	putchar('\n');
}

/* The ID that the user typed; wrong ones exit. */
static uint64_t parse_id(struct cli *cli, const char *arg)
{
	uint64_t id;

	if (!cli_parse_u64(arg, &id))
		exit(cli_usage(cli, "%s is no ID; `kvfs sessions` lists them", cli_quote(arg)));
	return id;
}

static int fail(struct cli *cli, uint64_t id, int r)
{
	if (r == -ENOENT)
		return cli_failf(cli, NULL, "no session %ju is kept; `kvfs sessions` lists them", (uintmax_t)id);
	if (r == -ESTALE)
		return cli_failf(
			cli, NULL, "the key of session %ju is gone; name one: kvfs recover %ju KEY", (uintmax_t)id, (uintmax_t)id);
	return cli_failf(cli, NULL, "session %ju: %s", (uintmax_t)id, cli_reason(cli, NULL, r));
}

static int list(struct cli *cli, bool json)
{
	struct kvfs_kept *all = calloc(KVFS_KEPT_MAX, sizeof(*all));
	ssize_t n = all ? kvfs_kept(cli->store, all, KVFS_KEPT_MAX) : -ENOMEM;

	for (ssize_t i = 0; i < n && i < KVFS_KEPT_MAX; i++)
		(json ? print_json : print_text)(&all[i]);
	free(all);
	return n < 0 ? cli_failf(cli, NULL, "%s", cli_reason(cli, NULL, (int)n)) : CLI_DONE;
}

int cmd_sessions(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {"drop", no_argument, NULL, 'D'}, {0}};
	bool json = false, drop = false;
	int c, status = CLI_DONE;

	while ((c = cli_option(cli, argc, argv, "", longs)) != -1) {
		json |= c == 'j';
		drop |= c == 'D';
	}
	if (json && drop)
		return cli_usage(cli, "--json and --drop exclude each other");
	cli_operands(cli, argc, drop ? 1 : 0, drop ? argc : 0);
	for (int i = optind; i < argc; i++)
		parse_id(cli, argv[i]);
	if (cli_open(cli, drop ? 0 : CLI_READ) < 0)
		return CLI_TROUBLE;
	if (!drop)
		return list(cli, json);
	for (int i = optind; i < argc; i++) {
		uint64_t id = parse_id(cli, argv[i]);
		int r = kvfs_kept_drop(cli->store, id);

		if (r < 0)
			status = fail(cli, id, r);
	}
	return status;
}

int cmd_recover(struct cli *cli, int argc, char **argv)
{
	const char *key = NULL;
	uint64_t id;
	int r;

	while (cli_option(cli, argc, argv, "", NULL) != -1) {
	}
	cli_operands(cli, argc, 1, 2);
	id = parse_id(cli, argv[optind]);
	if (cli_open(cli, 0) < 0 || (optind + 1 < argc && !(key = cli_key(cli, argv[optind + 1]))))
		return CLI_TROUBLE;
	r = kvfs_recover(cli->store, id, key);
	if (r == 0)
		return CLI_DONE;
	return key && r != -ENOENT && r != -ESTALE ? cli_fail(cli, key, r) : fail(cli, id, r);
}
