/* kvfs mv: one rename; into DST when that is a directory, as mv(1) does. */
#include "cli.h"

#include <errno.h>
#include <string.h>

/* The key that SRC gets: DST, or SRC's last component inside DST.  `buf` has room for two keys. */
static int destination(struct cli *cli, const char *src, const char *dst, bool never_into, char *buf, size_t cap, const char **ret)
{
	const char *slash = strrchr(src, '/');
	struct kvfs_stat st;
	int r = 0;

	*ret = dst;
	if (never_into)
		return 0;
	if (*dst) {
		r = kvfs_stat(cli->store, dst, &st);
		if (r == -ENOENT || r == -ENOTDIR || (r == 0 && !S_ISDIR(st.mode)))
			return 0;
	}
	if (r < 0)
		return r;
	snprintf(buf, cap, "%s%s%s", dst, *dst ? "/" : "", slash ? slash + 1 : src);
	*ret = buf;
	return kvfs_key_fault(buf) ? -ENAMETOOLONG : 0;
}

static int rename_key(struct cli *cli, const char *src, const char *dst, bool never_into, unsigned flags)
{
	char buf[2 * KVFS_KEY_MAX + 2];
	const char *to;
	int r;

	if (!*src)
		return cli_failf(cli, "/", "the whole store cannot be renamed; move its directory instead");
	r = destination(cli, src, dst, never_into, buf, sizeof(buf), &to);
	if (r < 0)
		return cli_fail(cli, r == -ENAMETOOLONG ? buf : dst, r);
	if (strcmp(src, to) == 0)
		return cli_failf(cli, src, "is the same key as %s", cli_quote(to));
	r = kvfs_rename(cli->store, src, to, flags);
	if (r == -ENOTDIR && kvfs_exists(cli->store, src) == 0)
		r = -ENOENT;
	switch (r) {
	case 0:
		return CLI_DONE;
	case -ENOENT:
		return cli_fail(cli, src, r);
	case -EEXIST:
		return cli_failf(cli, src, "to %s: %s; nothing was renamed", cli_quote(to), cli_reason(cli, to, r));
	case -EINVAL:
		return cli_failf(cli, src, "a directory cannot move into itself (%s)", cli_quote(to));
	case -EISDIR:
		return cli_failf(cli, src, "%s is a directory and this is none", cli_quote(to));
	case -ENOTDIR:
		return cli_failf(cli, src, "%s is, or lies under, something that is not a directory", cli_quote(to));
	case -ENOTEMPTY:
		return cli_failf(cli, src, "the directory %s has keys in it", cli_quote(to));
	default:
		return cli_failf(cli, src, "to %s: %s", cli_quote(to), cli_reason(cli, NULL, r));
	}
}

int cmd_mv(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {
		{"no-clobber", no_argument, NULL, 'n'}, {"no-target-directory", no_argument, NULL, 'T'}, {0}};
	const char *src, *dst;
	bool never_into = false;
	unsigned flags = 0;
	int c;

	while ((c = cli_option(cli, argc, argv, "nT", longs)) != -1) {
		never_into |= c == 'T';
		if (c == 'n')
			flags |= KVFS_RENAME_NOREPLACE;
	}
	cli_operands(cli, argc, 2, 2);
	if (cli_open(cli, 0) < 0 || !(src = cli_key(cli, argv[optind])) || !(dst = cli_key(cli, argv[optind + 1])))
		return CLI_TROUBLE;
	return rename_key(cli, src, dst, never_into, flags);
}
