/* kvfs put: a value from the command line or from standard input.
 *
 * Nothing is published before the input has ended well: what fits in memory is stored by one kvfs_put(), the rest by a stream,
 * whose session is private until it is closed. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SMALL = 1 << 20, /* inputs up to this size never need a stream */
	VERSIONED_MAX = 64 << 20, /* a stream cannot be published on a condition, so these are held in memory */
};

/* Reads until `buf` is full or the input ends; what it got, or a negative errno. */
static ssize_t read_full(void *buf, size_t cap)
{
	size_t len = 0;

	while (len < cap) {
		ssize_t n = read(STDIN_FILENO, (char *)buf + len, cap - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static int fail_conflict(struct cli *cli, const char *key, int r, const struct kvfs_put_options *opt)
{
	if (r == -ECANCELED && (opt->flags & KVFS_IF_VERSION))
		return cli_failf(cli, key, "is not at version %ju (any more); nothing was stored", (uintmax_t)opt->version);
	if (r == -EEXIST)
		return cli_failf(cli, key, "%s; nothing was stored", cli_reason(cli, key, r));
	if (r == -ENOENT) /* not "no such key": put makes keys */
		return cli_failf(cli, key, "its directory was deleted meanwhile; nothing was stored");
	return cli_fail(cli, key, r);
}

/* Stores the first `len` bytes that were read, and what follows them. */
static int put_stream(struct cli *cli, const char *key, char *buf, size_t len, const struct kvfs_put_options *opt)
{
	unsigned flags = KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE;
	struct kvfs_stream *st;
	uint64_t offset = 0;
	ssize_t n = (ssize_t)len, w;
	int r;

	if (opt->flags & KVFS_IF_ABSENT)
		flags |= KVFS_STREAM_EXCL;
	r = kvfs_stream_open(cli->store, key, flags, opt->mode, &st);
	if (r < 0)
		return fail_conflict(cli, key, r, opt);
	while (n > 0) {
		w = kvfs_stream_write(st, buf, (size_t)n, offset);
		if (w < 0) {
			kvfs_stream_abort(st);
			return cli_fail(cli, key, (int)w);
		}
		offset += (uint64_t)n;
		n = read_full(buf, SMALL);
	}
	if (n < 0) {
		kvfs_stream_abort(st);
		return cli_failf(cli, key, "standard input: %s; nothing was stored", strerror((int)-n));
	}
	r = kvfs_stream_close(st);
	return r < 0 ? fail_conflict(cli, key, r, opt) : CLI_DONE;
}

static int put_stdin(struct cli *cli, const char *key, const struct kvfs_put_options *opt)
{
	size_t cap = opt->flags & KVFS_IF_VERSION ? VERSIONED_MAX : SMALL;
	char *buf = malloc(cap + 1); /* touched only as far as the input goes */
	ssize_t n;
	int r;

	if (!buf)
		return cli_fail(cli, key, -ENOMEM);
	n = read_full(buf, cap + 1);
	if (n < 0) {
		r = cli_failf(cli, key, "standard input: %s; nothing was stored", strerror((int)-n));
	} else if ((size_t)n <= cap) {
		r = kvfs_put(cli->store, key, buf, (size_t)n, opt, NULL);
		r = r < 0 ? fail_conflict(cli, key, r, opt) : CLI_DONE;
	} else if (opt->flags & KVFS_IF_VERSION) {
		r = cli_failf(cli, key, "with --if-version a value may have 64 MiB at most; nothing was stored");
	} else {
		r = put_stream(cli, key, buf, (size_t)n, opt);
	}
	free(buf);
	return r;
}

int cmd_put(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"if-absent", no_argument, NULL, 'a'}, {"if-version", required_argument, NULL, 'v'},
		{"create", no_argument, NULL, 'c'}, {0}};
	struct kvfs_put_options opt = {.size = sizeof(opt)};
	unsigned how = CLI_MAKE_DEFAULT;
	const char *key;
	mode_t mask = umask(0);
	int c, r;

	umask(mask);
	opt.mode = 0666 & ~mask;
	while ((c = cli_option(cli, argc, argv, "+", longs)) != -1) {
		if (c == 'c')
			how |= CLI_MAKE;
		if (c == 'a')
			opt.flags |= KVFS_IF_ABSENT;
		if (c == 'v') {
			opt.flags |= KVFS_IF_VERSION;
			if (!cli_parse_u64(optarg, &opt.version))
				return cli_usage(cli, "%s is no version; `kvfs stat KEY` shows it", cli_quote(optarg));
		}
	}
	cli_operands(cli, argc, 1, 2);
	if ((opt.flags & KVFS_IF_ABSENT) && (opt.flags & KVFS_IF_VERSION))
		return cli_usage(cli, "--if-absent and --if-version exclude each other");
	if (kvfs_key_fault(argv[optind]))
		return cli_fail(cli, argv[optind], -EINVAL); /* before a store is made for it */
	if (cli_open(cli, how) < 0)
		return CLI_TROUBLE;
	key = cli_key(cli, argv[optind]);
	if (!key)
		return CLI_TROUBLE;
	if (optind + 1 == argc)
		return put_stdin(cli, key, &opt);
	r = kvfs_put(cli->store, key, argv[optind + 1], strlen(argv[optind + 1]), &opt, NULL);
	return r < 0 ? fail_conflict(cli, key, r, &opt) : CLI_DONE;
}
