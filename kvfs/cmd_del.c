/* kvfs del, rm: each key is a transaction of its own; one that fails does not keep the others from going. */
#include "cli.h"

#include <errno.h>

static int delete_one(struct cli *cli, const char *arg, bool recursive, bool force)
{
	const char *key;
	int r;

	if (!*arg) /* an empty variable of a script must not be the whole store */
		return cli_failf(cli, NULL, "the key '' is empty; the whole store is '/'");
	key = cli_key(cli, arg);
	if (!key)
		return CLI_TROUBLE;
	if (!*key && !recursive)
		return cli_failf(cli, arg, "is the whole store; -r deletes all its keys");
	r = cli_missing(recursive ? kvfs_del_tree(cli->store, key, NULL) : kvfs_del(cli->store, key));
	if (r == 0 || (r == -ENOENT && force))
		return CLI_DONE;
	if (r == -ENOTEMPTY && !recursive)
		return cli_failf(cli, key, "is a directory with keys in it; -r deletes those too");
	return cli_fail(cli, key, r);
}

int cmd_del(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"recursive", no_argument, NULL, 'r'}, {"force", no_argument, NULL, 'f'}, {0}};
	bool recursive = false, force = false;
	int c, status = CLI_DONE;

	while ((c = cli_option(cli, argc, argv, "rRf", longs)) != -1) {
		recursive |= c == 'r' || c == 'R';
		force |= c == 'f';
	}
	cli_operands(cli, argc, force ? 0 : 1, argc);
	if (cli_open(cli, 0) < 0)
		return CLI_TROUBLE;
	for (int i = optind; i < argc; i++) {
		int one = delete_one(cli, argv[i], recursive, force);

		if (one > status)
			status = one;
	}
	return status;
}
