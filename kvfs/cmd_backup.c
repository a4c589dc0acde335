/* kvfs backup, kvfs compact: the store's file, written anew elsewhere or in its place. */
#include "cli.h"

#include <string.h>

static int fail(struct cli *cli, const char *path, int r, const struct kvfs_error *err)
{
	return cli_failf(cli, NULL, "%s: %s", cli_quote(path), err->text[0] ? err->text : strerror(-r));
}

int cmd_backup(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"force", no_argument, NULL, 'f'}, {0}};
	struct kvfs_error err = {0};
	unsigned flags = 0;
	int r;

	while (cli_option(cli, argc, argv, "f", longs) != -1)
		flags |= KVFS_BACKUP_REPLACE;
	cli_operands(cli, argc, 1, 1);
	if (cli_open(cli, CLI_READ) < 0)
		return CLI_TROUBLE;
	cli_progress_begin(cli);
	r = kvfs_backup(cli->store, argv[optind], flags, cli_progress_part, cli, &err);
	cli_progress_clear(cli);
	return r < 0 ? fail(cli, argv[optind], r, &err) : CLI_DONE;
}

int cmd_compact(struct cli *cli, int argc, char **argv)
{
	struct kvfs_error err = {0};
	uint64_t before, after;
	int r;

	while (cli_option(cli, argc, argv, "", NULL) != -1)
		;
	cli_operands(cli, argc, 0, 0);
	if (cli_choose_store(cli, NULL) < 0)
		return CLI_TROUBLE;
	cli_progress_begin(cli);
	r = kvfs_compact(cli->store_path, cli_progress_part, cli, &before, &after, &err);
	cli_progress_clear(cli);
	if (r < 0)
		return fail(cli, cli->store_path, r, &err);
	printf("%sB before, %sB now\n", cli_human(before).s, cli_human(after).s);
	return CLI_DONE;
}
