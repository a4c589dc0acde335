/* The program: picks the store and the command, runs it, and sees to it that what was printed was written. */
#include "cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct command cli_commands[] = {
	{"put", cmd_put, "put [--if-absent | --if-version V] [--create] KEY [VALUE]", "store a value",
		"  VALUE is stored as it is, \"-\" too; without VALUE it is read from standard input, and published when that "
		"ends.\n"
		"  --if-absent      only if the key does not exist\n"
		"  --if-version V   only if the value is still the version V that `kvfs stat` showed; the input is\n"
		"                   limited to 64 MiB then\n"
		"  --create         make the store if it does not exist\n"},
	{"get", cmd_get, "get KEY", "print a value",
		"  The bytes as they are; on a terminal a final newline is added when there is none.\n"},
	{"exists", cmd_exists, "exists KEY", "tell by the exit status whether a key exists",
		"  0 it does, 1 it does not, 2 trouble.  Prints nothing.\n"},
	{"incr", cmd_incr, "incr KEY [N]", "add N (1) to a number and print it",
		"  N may be negative.  A key that does not exist counts as 0.\n"},
	{"edit", cmd_edit, "edit KEY", "change a value in an editor",
		"  Uses $VISUAL, $EDITOR or vi.  Published only if nobody else changed the value meanwhile; else what was\n"
		"  written stays in a file that is named.\n"},
	{"del", cmd_del, "del [-rf] KEY...", "delete keys",
		"  -r, --recursive   directories, with all that is in them\n"
		"  -f, --force       a key that does not exist is no error\n"},
	{"rm", cmd_del, "rm [-rf] KEY...", "the same as del",
		"  -r, --recursive   directories, with all that is in them\n"
		"  -f, --force       a key that does not exist is no error\n"},
	{"ls", cmd_ls, "ls [-lRr0adnhpF1] [--no-dirs] [--json] [KEY]", "list a directory",
		"  One name a line, in byte order.  On a terminal odd names are quoted as a shell reads them.\n"
		"  -l               mode, links, owner, group, size, time of publication, name\n"
		"  -h, -n           with -l: sizes like 1.5M; numeric owners\n"
		"  -R, --recursive  the whole tree, depth first: a whole key a line\n"
		"  -r, --reverse    backwards\n"
		"  -d, --directory  the directory itself\n"
		"  -0, --null       end each name with a NUL byte, quote nothing\n"
		"  -p, -F           mark directories by a final / (-F: also links by @, FIFOs |, sockets =)\n"
		"  --no-dirs        leave out directories\n"
		"  --json           one JSON object a line\n"
		"  -a, -1           as in ls(1), for the habit: nothing is ever hidden, and names never stand in columns\n"},
	{"stat", cmd_stat, "stat [--json] KEY", "show what is known about a key", "  --json   one JSON object\n"},
	{"mv", cmd_mv, "mv [-nT] SRC DST", "rename a key or a directory",
		"  If DST is a directory, SRC moves into it.\n"
		"  -n, --no-clobber           an existing DST is an error\n"
		"  -T, --no-target-directory  never into DST\n"},
	{"apply", cmd_apply, "apply", "make many changes in one transaction",
		"  Reads lines from standard input; all of them take effect at once, or none:\n"
		"    put KEY VALUE            del KEY              check KEY VERSION\n"
		"    incr KEY N               mv SRC DST           check KEY absent\n"
		"  Blanks separate words.  A word in double quotes may hold any bytes, by the escapes\n"
		"  \\\\ \\\" \\n \\t \\r and \\xHH.  Empty lines and lines that begin with # mean nothing.\n"
		"  `check` comes before the changes of its key.  The whole fails, with exit status 2, when a check does, or\n"
		"  when somebody else changed one of the keys meanwhile.\n"},
	{"watch", cmd_watch, "watch [-r] [--json] [--since SEQUENCE] [KEY]", "print what changes, as it changes",
		"  A line for each change of the keys in the directory KEY (by default the root), or of the value KEY,\n"
		"  until it is interrupted.\n"
		"  -r, --recursive    of all keys below it\n"
		"  --json             one JSON object a line\n"
		"  --since SEQUENCE   begin after that commit; without it, with the next one\n"},
	{"sync", cmd_sync, "sync", "have everything that was published on the disk",
		"  Waits until all that was published, by whomever, survives a power cut.  Only of use beside doors at relaxed or "
		"none.\n"},
	{"info", cmd_info, "info [--json]", "show sizes, mounts and state of the store", "  --json   one JSON object\n"},
	{"backup", cmd_backup, "backup [--force] DEST", "copy the store, while it is used, into a store of its own",
		"  DEST is the directory that is made: one state of the store, without free space, durable when the command\n"
		"  returns.  To restore it, copy it (`cp -a`).\n"
		"  --force   replace a store that is there, if nobody has it open\n"},
	{"compact", cmd_compact, "compact", "give the free space in the store's file back to the disk",
		"  Writes the file anew; nobody else may have the store open.\n"},
	{"check", cmd_check, "check [--data] [--json] [--repair DEST]", "look whether the store is whole",
		"  Checks the pages of its file and everything that must hold between its records, while others use it, and\n"
		"  changes nothing.  A line for each finding: lost (it cannot be read), wrong (it contradicts something),\n"
		"  space (nobody will free it).  Exit status 0 nothing was found, 1 something was, 2 trouble.\n"
		"  --data          read all values, too\n"
		"  --json          one JSON object a line, the last one the sum\n"
		"  --repair DEST   make a new store at DEST of all that can be read; the damaged one is not touched\n"},
	{"sessions", cmd_sessions, "sessions [--json | --drop ID...]", "list what writers in a mount left unpublished",
		"  Of each: its ID, when it was kept, its size, its key, and why it was not published.\n"
		"  --json   one JSON object a line\n"
		"  --drop   forget these\n"},
	{"recover", cmd_recover, "recover ID [KEY]", "publish one of them after all",
		"  Under its own key, or under KEY.  A session that changed parts of a value changes those of the value as it is "
		"now.\n"},
	{"import", cmd_import,
		"import [--create] [--durability LEVEL] {SOURCE | --from KIND:FILE [--keys=path] [--values=json] [--sort]} [DIR]",
		"copy a directory tree, a tar stream or another store's records into the store",
		"  The content of the directory SOURCE, or of the archive on standard input if SOURCE is \"-\", goes into DIR.\n"
		"  --create             make the store if it does not exist\n"
		"  --durability LEVEL   as before the command; none: much faster, a power cut meanwhile may destroy the whole "
		"store\n"
		"  --from KIND:FILE     keys and values of another kind of store:\n"
		"    sqlite:FILE[#TABLE[,KEY,VALUE]]   a table of SQLite; without #, the one with columns key and value "
		"(sqlitedict)\n"
		"    dbm:FILE                          GNU dbm or dbm.dumb: a shelve too\n"
		"    lmdb:PATH[#NAME]                  a database of an LMDB environment\n"
		"    jsonl:FILE                        lines like {\"key\":\"a\",\"value\":\"b\"}\n"
		"    csv:FILE[#KEY,VALUE]              columns, by name or by number (then the first line is no header)\n"
		"  --keys=escape        any key becomes one name in DIR, readable and reversible, as kvfs.Dict of Python does\n"
		"  --keys=path          a key is a path as it is\n"
		"  --values=json        values are stored as JSON texts, as kvfs.Dict reads them; else as their bytes\n"
		"  --sort               store them in the order of their keys, sorted in $TMPDIR or /var/tmp\n"
		"  A record that cannot be stored is told and left out.  Interrupted, it goes on when it is repeated.\n"},
	{"export", cmd_export, "export {[DIR] TARGET | --to KIND:FILE [--keys=escape] [--values=json] [DIR]}",
		"copy the store into a directory, a tar stream or a file of records",
		"  TARGET is a directory, made if absent, or \"-\" for a tar archive on standard output.\n"
		"  --to KIND:FILE   tar:FILE, csv:FILE or jsonl:FILE; \"-\" is standard output\n"
		"  --keys=escape    of csv and jsonl: undo what the same option of `import` does; else keys are paths\n"
		"  --values=json    of jsonl: values are JSON texts, and stand as such; else they are strings\n"},
	{"init", cmd_init, "init [--shared[=group|MODE]] [STORE]", "make a store",
		"  --shared[=group]   readable and writable by the group of the directory it is in, or that you are in\n"
		"  --shared=MODE      octal permission of the store, as 0770 or 0750\n"},
	{"mount", cmd_mount, "mount [STORE] MOUNTPOINT [-f] [-d] [--create] [-o OPTIONS]", "show the store as files",
		"  -f           stay in the foreground\n"
		"  -d           foreground, with libfuse's debug output\n"
		"  -o OPTIONS   see kvfs(1)\n"
		"  --create     make the store if it does not exist\n"},
	{"mount.kvfs", cmd_mount_helper, "mount.kvfs STORE MOUNTPOINT [-fnsv] [-t kvfs] [-o OPTIONS]",
		"the same for mount(8) and /etc/fstab",
		"  What `mount -t kvfs` runs, by that name.  OPTIONS are those of `kvfs mount`; see mount.kvfs(8).\n"
		"  -f   look at the arguments only\n"
		"  -s   pass over unknown options in the -o that follow\n"
		"  -n, -v, -t kvfs   mean nothing\n"},
	{"umount", cmd_umount, "umount [--dead] MOUNTPOINT", "end a mount",
		"  --dead   only one whose process is gone; when there is none, nothing is to be done\n"},
	{"help", cmd_help, "help [COMMAND]", "explain", ""},
	{0},
};

const struct command *cli_command_find(const char *name)
{
	for (const struct command *c = cli_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

/* Options that stand before the command. */
static void global_options(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"store", required_argument, NULL, 's'}, {"durability", required_argument, NULL, 'd'},
		{"version", no_argument, NULL, 'V'}, {"help", no_argument, NULL, 'h'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "+:s:Vh", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			cli->store_arg = optarg;
			break;
		case 'd':
			cli->options.durability = cli_durability(cli, optarg);
			break;
		case 'V':
			printf("kvfs %s\n", kvfs_version());
			exit(cli_finish(cli, CLI_DONE));
		case 'h':
			cli_help(NULL);
			exit(cli_finish(cli, CLI_DONE));
		case ':':
			exit(cli_usage(cli, "option '%s' needs an argument", argv[optind - 1]));
		default:
			exit(cli_usage(cli, "unknown option '%s'", argv[optind - 1]));
		}
	}
}

/* A standard stream that the caller closed would else become the store's file, and be written to.  Opened the wrong way round, so that using
 * it is still the error it would have been. */
static void occupy_standard_streams(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDONLY)) >= 0 && fd <= STDERR_FILENO)
		if (fd == STDIN_FILENO) {
			close(fd);
			if (open("/dev/null", O_WRONLY) < 0)
				exit(CLI_TROUBLE);
		}
	if (fd >= 0)
		close(fd);
}

static int flush(struct cli *cli, int status)
{
	int r = kvfs_sync(cli->store);

	return r < 0 ? cli_failf(cli, NULL, "cannot flush to disk: %s", strerror(-r)) : status;
}

int main(int argc, char **argv)
{
	struct cli cli = {.options = {.size = sizeof(struct kvfs_options), .purpose = "command"}};
	const char *level;
	int status;

	occupy_standard_streams();
	signal(SIGXFSZ, SIG_IGN); /* so that a file size limit is an error that can be told */
	/* mount(8) runs the program as mount.kvfs, or as mount.fuse.kvfs, which is how it shows the type. */
	if (argc && strncmp(basename(argv[0]), "mount.", strlen("mount.")) == 0) {
		cli.command = cli_command_find("mount.kvfs");
		optind = 0;
	} else {
		global_options(&cli, argc, argv);
	}
	level = getenv("KVFS_DURABILITY");
	if (!cli.options.durability && level && *level)
		cli.options.durability = cli_durability(&cli, level);
	if (optind == argc)
		return cli_usage(&cli, "no command given");
	if (!cli.command)
		cli.command = cli_command_find(argv[optind]);
	if (!cli.command)
		return cli_usage(&cli, "unknown command %s", cli_quote(argv[optind]));

	argc -= optind;
	argv += optind;
	optind = 0; /* glibc: begin anew, with all its state */
	status = cli.command->run(&cli, argc, argv);
	if (cli.store && cli.options.durability == KVFS_RELAXED) /* closing would flush as well, but could not say that it failed */
		status = flush(&cli, status);
	kvfs_close(cli.store);
	free(cli.store_path);
	return cli_finish(&cli, status);
}
