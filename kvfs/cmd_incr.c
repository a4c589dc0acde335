/* kvfs incr: a counter, in one transaction. */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>

int cmd_incr(struct cli *cli, int argc, char **argv)
{
	int64_t delta = 1, sum;
	const char *key;
	int r;

	while (cli_option(cli, argc, argv, "+", NULL) != -1) /* N may begin with '-' */
		;
	cli_operands(cli, argc, 1, 2);
	if (optind + 1 < argc && !cli_parse_i64(argv[optind + 1], &delta))
		return cli_usage(cli, "%s is not a whole number of 64 bits", cli_quote(argv[optind + 1]));
	if (cli_open(cli, 0) < 0 || !(key = cli_key(cli, argv[optind])))
		return CLI_TROUBLE;
	r = kvfs_incr(cli->store, key, delta, &sum);
	if (r == -EDOM)
		return cli_failf(cli, key, "the value is not a whole number of 64 bits");
	if (r == -ERANGE)
		return cli_failf(cli, key, "the sum would not fit in 64 bits; nothing was changed");
	if (r < 0)
		return cli_fail(cli, key, r);
	printf("%" PRId64 "\n", sum);
	return CLI_DONE;
}
