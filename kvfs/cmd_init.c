/* kvfs init: makes a store, private or shared as `git init --shared` does. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --shared: the group is the one that files made beside the store would get. */
static int share_with_group(struct cli *cli)
{
	char *parent = strdup(cli->store_path), *end;
	struct stat st;
	int r;

	if (!parent)
		return -ENOMEM;
	for (end = parent + strlen(parent); end > parent + 1 && end[-1] == '/';)
		*--end = '\0';
	end = strrchr(parent, '/');
	end[end == parent] = '\0';
	r = stat(parent, &st) < 0 ? -errno : 0;
	free(parent);
	if (r < 0)
		return r;
	cli->options.group = st.st_mode & S_ISGID ? st.st_gid : getegid();
	cli->options.set_group = true;
	return 0;
}

/* What --shared says, into the options of the store to be made. */
static int shared_option(struct cli *cli, const char *how)
{
	char *end;
	unsigned long mode;

	if (!how || strcmp(how, "group") == 0) {
		cli->options.mode = 0770;
		return share_with_group(cli);
	}
	mode = strtoul(how, &end, 8);
	if (*end || end == how || *how == '-' || mode > 07777)
		return cli_usage(cli, "--shared=%s: neither \"group\" nor an octal mode", how), -EINVAL;
	if ((mode & 0700) != 0700)
		return cli_usage(cli, "--shared=%s: the owner needs 7 (read, write and enter)", how), -EINVAL;
	cli->options.mode = (mode_t)mode & 0777;
	if (mode & 0070)
		return share_with_group(cli);
	return 0;
}

int cmd_init(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"shared", optional_argument, NULL, 's'}, {0}};
	const char *how = NULL;
	bool shared = false;
	int r;

	while (cli_option(cli, argc, argv, "", longs) != -1) {
		shared = true;
		how = optarg;
	}
	cli_operands(cli, argc, 0, 1);
	if (optind < argc && cli->store_arg)
		return cli_usage(cli, "the store is named twice");
	if (cli_choose_store(cli, optind < argc ? argv[optind] : NULL) < 0)
		return CLI_TROUBLE;
	if (shared) {
		r = shared_option(cli, how);
		if (r == -EINVAL)
			return CLI_TROUBLE;
		if (r < 0)
			return cli_failf(cli, cli->store_path, "%s", strerror(-r));
	}
	cli->options.flags |= KVFS_EXCL;
	return cli_open(cli, CLI_MAKE) < 0 ? CLI_TROUBLE : CLI_DONE;
}
