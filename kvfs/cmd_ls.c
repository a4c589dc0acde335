/* kvfs ls: names from a cursor straight to standard output, so that a directory of any size needs no memory. */
#include "cli.h"

#include <errno.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct ls {
	struct cli *cli;
	unsigned flags; /* KVFS_LIST_* */
	bool long_format, human, numeric, json, null, itself;
	bool whole_keys; /* of a tree; else the last component */
	bool quote;
	enum { MARK_NONE, MARK_DIRECTORIES, MARK_ALL } mark;
};

static void print_name(const struct ls *ls, const char *name)
{
	if (ls->quote)
		cli_print_shell(stdout, name);
	else
		fputs(name, stdout);
}

static char mark_of(const struct ls *ls, uint32_t mode)
{
	if (ls->mark != MARK_NONE && S_ISDIR(mode))
		return '/';
	if (ls->mark != MARK_ALL)
		return 0;
	return S_ISLNK(mode) ? '@' : S_ISFIFO(mode) ? '|' : S_ISSOCK(mode) ? '=' : 0;
}

static void print_attributes(const struct ls *ls, const struct kvfs_stat *st)
{
	char size[48];

	if (S_ISCHR(st->mode) || S_ISBLK(st->mode))
		snprintf(size, sizeof(size), "%u, %u", major(st->rdev), minor(st->rdev));
	else if (ls->human && !S_ISDIR(st->mode))
		snprintf(size, sizeof(size), "%s", cli_human(st->size).s);
	else
		snprintf(size, sizeof(size), "%ju", (uintmax_t)st->size);
	printf("%s %2u ", cli_mode(st->mode).s, st->nlink);
	if (ls->numeric)
		printf("%-8u %-8u ", st->uid, st->gid);
	else
		printf("%-8s %-8s ", cli_user(st->uid), cli_group(st->gid));
	printf("%*s %s ", ls->human ? 6 : 10, size, cli_time(st->mtime, false).s);
}

static void print_entry(const struct ls *ls, const char *key, const char *shown, const struct kvfs_stat *st)
{
	char target[KVFS_KEY_MAX + 1], mark;
	bool link = S_ISLNK(st->mode) && (ls->long_format || ls->json) &&
		    kvfs_readlink(ls->cli->store, key, target, sizeof(target)) >= 0;

	if (ls->json) {
		struct cli_json j;

		cli_json_begin(&j, stdout);
		cli_json_stat(&j, key, st, link ? target : NULL);
		cli_json_end(&j);
		putchar('\n');
		return;
	}
	if (ls->long_format)
		print_attributes(ls, st);
	print_name(ls, shown);
	if (link) {
		fputs(" -> ", stdout);
		print_name(ls, target);
	} else if ((mark = mark_of(ls, st->mode))) {
		putchar(mark);
	}
	putchar(ls->null ? '\0' : '\n');
}

static int list(const struct ls *ls, const char *dir)
{
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = ls->flags};
	struct kvfs_cursor *cur;
	struct kvfs_entry e;
	int r;

	r = kvfs_list(ls->cli->store, dir, &opt, &cur);
	if (r < 0)
		return cli_fail(ls->cli, dir, r);
	while (!ferror(stdout) && (r = kvfs_cursor_next(cur, &e)) > 0)
		print_entry(ls, e.key, ls->whole_keys ? e.key : e.name, &e.st);
	kvfs_cursor_close(cur);
	/* a directory deleted while it is listed just ends; what could not be printed is for cli_finish() to tell */
	return r < 0 && r != -ENOENT ? cli_fail(ls->cli, dir, r) : CLI_DONE;
}

static int run(const struct ls *ls, const char *arg)
{
	struct kvfs_stat st;
	const char *key;
	int r;

	if (cli_open(ls->cli, CLI_READ) < 0 || !(key = cli_key(ls->cli, arg)))
		return CLI_TROUBLE;
	r = cli_missing(kvfs_stat(ls->cli->store, key, &st));
	if (r < 0)
		return cli_fail(ls->cli, key, r);
	if (S_ISDIR(st.mode) && !ls->itself)
		return list(ls, key);
	print_entry(ls, key, *key ? key : "/", &st);
	return CLI_DONE;
}

int cmd_ls(struct cli *cli, int argc, char **argv)
{
	enum { NO_DIRS = 1000, JSON };
	static const struct option longs[] = {{"recursive", no_argument, NULL, 'R'}, {"reverse", no_argument, NULL, 'r'},
		{"directory", no_argument, NULL, 'd'}, {"null", no_argument, NULL, '0'}, {"zero", no_argument, NULL, '0'},
		{"human-readable", no_argument, NULL, 'h'}, {"numeric-uid-gid", no_argument, NULL, 'n'},
		{"all", no_argument, NULL, 'a'}, {"no-dirs", no_argument, NULL, NO_DIRS}, {"json", no_argument, NULL, JSON}, {0}};
	static char buffer[1 << 16];
	struct ls ls = {.cli = cli};
	int c;

	while ((c = cli_option(cli, argc, argv, "lRr0adnhpF1", longs)) != -1) {
		ls.long_format |= c == 'l' || c == 'n';
		ls.human |= c == 'h';
		ls.numeric |= c == 'n';
		ls.null |= c == '0';
		ls.itself |= c == 'd';
		ls.json |= c == JSON;
		if (c == 'R')
			ls.flags |= KVFS_LIST_RECURSIVE;
		if (c == 'r')
			ls.flags |= KVFS_LIST_REVERSE;
		if (c == NO_DIRS)
			ls.flags |= KVFS_LIST_NO_DIRS;
		if (c == 'p')
			ls.mark = MARK_DIRECTORIES;
		if (c == 'F')
			ls.mark = MARK_ALL;
	}
	cli_operands(cli, argc, 0, 1);
	if (ls.json && (ls.long_format || ls.null))
		return cli_usage(cli, "--json goes with neither -l nor -0");
	if (ls.long_format || ls.json)
		ls.flags |= KVFS_LIST_STAT;
	ls.whole_keys = ls.flags & KVFS_LIST_RECURSIVE;
	ls.quote = !ls.null && isatty(STDOUT_FILENO);
	if (!isatty(STDOUT_FILENO))
		setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
	return run(&ls, optind < argc ? argv[optind] : "");
}
