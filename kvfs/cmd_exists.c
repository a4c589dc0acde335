/* kvfs exists: an answer for scripts, by the exit status alone. */
#include "cli.h"

int cmd_exists(struct cli *cli, int argc, char **argv)
{
	const char *key;
	int r;

	while (cli_option(cli, argc, argv, "", NULL) != -1)
		;
	cli_operands(cli, argc, 1, 1);
	if (cli_open(cli, CLI_READ) < 0 || !(key = cli_key(cli, argv[optind])))
		return CLI_TROUBLE;
	r = kvfs_exists(cli->store, key);
	if (r < 0)
		return cli_fail(cli, key, r);
	return r ? CLI_DONE : CLI_NO_KEY;
}
