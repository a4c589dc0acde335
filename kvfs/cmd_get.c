/* kvfs get: the bytes of a value on standard output, as they stood when it was opened. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { STEP = 1 << 20 };

static int copy_out(struct cli *cli, const char *key, struct kvfs_stream *st)
{
	char *buf = malloc(STEP), last = '\n';
	uint64_t offset = 0;
	ssize_t n;
	int r = CLI_DONE;

	if (!buf)
		return cli_fail(cli, key, -ENOMEM);
	while ((n = kvfs_stream_read(st, buf, STEP, offset)) > 0) {
		r = cli_write(cli, buf, (size_t)n);
		if (r != CLI_DONE)
			break;
		last = buf[n - 1];
		offset += (uint64_t)n;
	}
	free(buf);
	if (n < 0)
		return cli_fail(cli, key, (int)n);
	if (r == CLI_DONE && last != '\n' && isatty(STDOUT_FILENO))
		r = cli_write(cli, "\n", 1);
	return r;
}

static int fail_open(struct cli *cli, const char *key, int r)
{
	char target[KVFS_KEY_MAX + 1];

	if (r == -ELOOP && kvfs_readlink(cli->store, key, target, sizeof(target)) > 0)
		return cli_failf(cli, key, "is a symbolic link (to %s), which kvfs does not follow", cli_quote(target));
	if (r == -EISDIR && *key)
		return cli_failf(cli, key, "is a directory; `kvfs ls` lists it");
	if (r == -EINVAL)
		return cli_failf(cli, key, "is a special file and has no value");
	return cli_fail(cli, key, r);
}

int cmd_get(struct cli *cli, int argc, char **argv)
{
	struct kvfs_stream *st;
	const char *key;
	int r;

	while (cli_option(cli, argc, argv, "", NULL) != -1)
		;
	cli_operands(cli, argc, 1, 1);
	if (cli_open(cli, CLI_READ) < 0 || !(key = cli_key(cli, argv[optind])))
		return CLI_TROUBLE;
	r = cli_missing(kvfs_stream_open(cli->store, key, KVFS_STREAM_READ, 0, &st));
	if (r < 0)
		return fail_open(cli, key, r);
	r = copy_out(cli, key, st);
	kvfs_stream_abort(st);
	return r;
}
