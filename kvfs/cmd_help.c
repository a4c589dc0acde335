/* kvfs help: the command table, printed. */
#include "cli.h"

void cli_help(const struct command *c)
{
	if (c) {
		printf("usage: kvfs [-s STORE] %s\n\n%c%s.\n", c->synopsis, c->summary[0] - 'a' + 'A', c->summary + 1);
		if (*c->details)
			printf("\n%s", c->details);
		return;
	}
	printf("usage: kvfs [-s STORE] COMMAND [ARGUMENT...]\n\n"
	       "A key-value store without a server, which can also be mounted as files.\n\n"
	       "STORE is a directory, or @NAME for one beside the default store; without -s it is $KVFS_STORE, else\n"
	       "${XDG_DATA_HOME:-~/.local/share}/kvfs/default.\n"
	       "Before COMMAND there may also be --durability full (the default), relaxed or none: see kvfs(7).\n\n");
	for (c = cli_commands; c->name; c++)
		printf("  %-10s %s\n", c->name, c->summary);
	printf("\n`kvfs help COMMAND` explains one.\n"
	       "Exit status: 0 done, 1 no such key, 2 anything else.\n");
}

int cmd_help(struct cli *cli, int argc, char **argv)
{
	const struct command *c = NULL;

	while (cli_option(cli, argc, argv, "", NULL) != -1)
		;
	cli_operands(cli, argc, 0, 1);
	if (optind < argc && !(c = cli_command_find(argv[optind])))
		return cli_usage(cli, "there is no command %s", cli_quote(argv[optind]));
	cli_help(c);
	return CLI_DONE;
}
