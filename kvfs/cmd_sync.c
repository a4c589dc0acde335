/* kvfs sync: what was published is on stable storage when it ends, whoever published it. */
#include "cli.h"

int cmd_sync(struct cli *cli, int argc, char **argv)
{
	int r;

	while (cli_option(cli, argc, argv, "", NULL) != -1)
		;
	cli_operands(cli, argc, 0, 0);
	if (cli_open(cli, 0) < 0)
		return CLI_TROUBLE;
	r = kvfs_sync(cli->store);
	return r < 0 ? cli_failf(cli, NULL, "cannot flush to disk: %s", cli_reason(cli, NULL, r)) : CLI_DONE;
}
