/* kvfs stat: all that is known about a key. */
#include "cli.h"

#include <sys/sysmacros.h>

void cli_json_stat(struct cli_json *j, const char *key, const struct kvfs_stat *st, const char *target)
{
	cli_json_string(j, "key", key);
	cli_json_string(j, "type", cli_type(st->mode));
	cli_json_uint(j, "size", st->size);
	cli_json_uint(j, "allocated", st->allocated);
	cli_json_uint(j, "version", st->version);
	cli_json_uint(j, "inode", st->ino);
	cli_json_name(j, "mode");
	fprintf(j->out, "\"%04o\"", st->mode & 07777);
	cli_json_uint(j, "links", st->nlink);
	cli_json_uint(j, "uid", st->uid);
	cli_json_uint(j, "gid", st->gid);
	if (S_ISCHR(st->mode) || S_ISBLK(st->mode)) {
		cli_json_uint(j, "major", major(st->rdev));
		cli_json_uint(j, "minor", minor(st->rdev));
	}
	cli_json_time(j, "accessed", st->atime);
	cli_json_time(j, "modified", st->mtime);
	cli_json_time(j, "changed", st->ctime);
	cli_json_time(j, "born", st->btime);
	if (target)
		cli_json_string(j, "target", target);
}

static void print_text(const char *key, const struct kvfs_stat *st, const char *target)
{
	printf("      key: %s", cli_quote(key));
	if (target)
		printf(" -> %s", cli_quote(target));
	printf("\n     type: %s", cli_type(st->mode));
	if (S_ISCHR(st->mode) || S_ISBLK(st->mode))
		printf(" %u, %u", major(st->rdev), minor(st->rdev));
	if (S_ISDIR(st->mode))
		printf("\n  entries: %ju\n", (uintmax_t)st->size);
	else
		printf("\n     size: %ju bytes, %ju stored\n", (uintmax_t)st->size, (uintmax_t)st->allocated);
	printf("  version: %ju\n", (uintmax_t)st->version);
	printf("    inode: %ju, %u link%s\n", (uintmax_t)st->ino, st->nlink, st->nlink == 1 ? "" : "s");
	printf("     mode: %04o %s\n", st->mode & 07777, cli_mode(st->mode).s);
	printf("    owner: %u %s, group %u %s\n", st->uid, cli_user(st->uid), st->gid, cli_group(st->gid));
	printf(" accessed: %s\n", cli_time(st->atime, true).s);
	printf(" modified: %s\n", cli_time(st->mtime, true).s);
	printf("  changed: %s\n", cli_time(st->ctime, true).s);
	printf("     born: %s\n", cli_time(st->btime, true).s);
}

int cmd_stat(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	char buf[KVFS_KEY_MAX + 1];
	const char *key, *target = NULL;
	struct kvfs_stat st;
	bool json = false;
	int r;

	while (cli_option(cli, argc, argv, "", longs) != -1)
		json = true;
	cli_operands(cli, argc, 1, 1);
	if (cli_open(cli, CLI_READ) < 0 || !(key = cli_key(cli, argv[optind])))
		return CLI_TROUBLE;
	r = cli_missing(kvfs_stat(cli->store, key, &st));
	if (r < 0)
		return cli_fail(cli, key, r);
	if (S_ISLNK(st.mode) && kvfs_readlink(cli->store, key, buf, sizeof(buf)) >= 0)
		target = buf;
	if (json) {
		struct cli_json j;

		cli_json_begin(&j, stdout);
		cli_json_stat(&j, key, &st, target);
		cli_json_end(&j);
		putchar('\n');
	} else {
		print_text(*key ? key : "/", &st, target);
	}
	return CLI_DONE;
}
