/* kvfs import: walks a directory tree or an archive, and hands each entry to the store's side (import.c); --from: see import_records.c.
 *
 * What cannot be read is told and left out; the rest goes on, and the exit status tells in the end. */
#include "hardlink.h"
#include "import.h"
#include "import_records.h"

#include <errno.h>
#include <ftw.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

enum { SKIPS_MAX = 256 };

struct source {
	struct cli *cli;
	struct import *im;
	struct stat store; /* the store's own directory */
	dev_t mounts[SKIPS_MAX]; /* file systems that are mounts of the store */
	size_t n_mounts;
};

/* ---- a tree ---- */

/* Importing the store's own files, or its keys as a mount shows them, into the store would never end. */
static void find_own(struct source *s)
{
	static struct kvfs_door doors[SKIPS_MAX];
	ssize_t n = kvfs_doors(s->cli->store, doors, SKIPS_MAX);
	struct stat st;

	if (stat(s->cli->store_path, &s->store) < 0)
		memset(&s->store, 0, sizeof(s->store));
	for (ssize_t i = 0; i < n && i < SKIPS_MAX; i++)
		if (*doors[i].mountpoint && stat(doors[i].mountpoint, &st) == 0)
			s->mounts[s->n_mounts++] = st.st_dev;
}

static bool is_own_mount(const struct source *s, dev_t dev)
{
	for (size_t i = 0; i < s->n_mounts; i++)
		if (s->mounts[i] == dev)
			return true;
	return false;
}

static bool is_own(const struct source *s, struct archive_entry *entry)
{
	dev_t dev = archive_entry_dev(entry);

	return is_own_mount(s, dev) || (dev == s->store.st_dev && (ino_t)archive_entry_ino64(entry) == s->store.st_ino);
}

static struct cli_progress *counting;

static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path, (void)ftw;
	counting->total_keys++;
	if (type == FTW_F && S_ISREG(st->st_mode))
		counting->total_bytes += (uint64_t)st->st_size;
	return 0;
}

static int walk(struct source *s, struct archive *disk, struct archive_entry_linkresolver *links, struct archive_entry *entry)
{
	int r;

	for (;;) {
		archive_entry_clear(entry);
		r = archive_read_next_header2(disk, entry);
		if (r == ARCHIVE_EOF)
			return CLI_DONE;
		if (r < ARCHIVE_WARN) {
			const char *path = archive_entry_pathname(entry);

			cli_failf(s->cli, path, "%s", archive_error_string(disk));
			if (r == ARCHIVE_FATAL)
				return CLI_TROUBLE;
			continue;
		}
		if (r == ARCHIVE_WARN) /* an attribute could not be read */
			cli_failf(s->cli, archive_entry_pathname(entry), "%s", archive_error_string(disk));
		if (is_own(s, entry)) {
			cli_warnf(s->cli, archive_entry_pathname(entry), "left out: it is the store itself");
			continue;
		}
		hardlink_resolve(links, entry);
		if (import_entry(s->im, disk, entry) != CLI_DONE)
			return CLI_TROUBLE;
		if (archive_read_disk_can_descend(disk))
			archive_read_disk_descend(disk);
	}
}

static int import_tree(struct source *s, const char *path)
{
	struct archive *disk;
	struct archive_entry_linkresolver *links;
	struct archive_entry *entry;
	struct stat st;

	if (chdir(path) < 0 || stat(".", &st) < 0) {
		if (errno == ENOTDIR)
			return cli_failf(
				s->cli, path, "is not a directory; one value: kvfs put KEY <FILE; an archive: kvfs import - <FILE");
		return cli_failf(s->cli, path, "%s", strerror(errno));
	}
	find_own(s);
	if (is_own_mount(s, st.st_dev))
		return cli_failf(s->cli, path, "is in a mount of this very store; copy it there with `cp -a`");
	if (s->cli->progress.shown) {
		counting = &s->cli->progress;
		nftw(".", count_one, 64, FTW_PHYS);
	}
	disk = archive_read_disk_new();
	links = archive_entry_linkresolver_new();
	entry = archive_entry_new();
	archive_entry_linkresolver_set_strategy(links, ARCHIVE_FORMAT_TAR);
	archive_read_disk_set_symlink_physical(disk);
	archive_read_disk_set_behavior(disk, ARCHIVE_READDISK_NO_ACL | ARCHIVE_READDISK_NO_FFLAGS);
	if (archive_read_disk_open(disk, ".") == ARCHIVE_OK)
		walk(s, disk, links, entry);
	else
		cli_failf(s->cli, path, "%s", archive_error_string(disk));
	archive_entry_free(entry);
	archive_entry_linkresolver_free(links);
	archive_read_free(disk);
	return CLI_DONE;
}

/* ---- an archive ---- */

static void read_archive(struct source *s, struct archive *in, bool sized)
{
	struct archive_entry *entry;
	int r;

	while ((r = archive_read_next_header(in, &entry)) != ARCHIVE_EOF) {
		const char *name = r < ARCHIVE_WARN ? NULL : archive_entry_pathname(entry);

		/* A name that is not UTF-8 is remarked, and kept as bytes. */
		if (r < ARCHIVE_OK && (!name || cli_is_utf8(name, strlen(name))))
			cli_failf(s->cli, name, "archive: %s", archive_error_string(in));
		if (r == ARCHIVE_FATAL)
			return;
		if (r < ARCHIVE_WARN)
			continue;
		if (import_entry(s->im, in, entry) != CLI_DONE)
			return;
		if (sized)
			s->cli->progress.bytes = (uint64_t)archive_filter_bytes(in, -1);
	}
}

static int import_archive(struct source *s)
{
	struct archive *in = archive_read_new();
	struct stat st;
	bool sized = fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode);

	if (sized)
		s->cli->progress.total_bytes = (uint64_t)st.st_size;
	archive_read_support_filter_all(in);
	archive_read_support_format_tar(in);
	if (archive_read_open_fd(in, STDIN_FILENO, 1 << 16) == ARCHIVE_OK)
		read_archive(s, in, sized);
	else
		cli_failf(s->cli, NULL, "archive: %s", archive_error_string(in));
	archive_read_free(in);
	return CLI_DONE;
}

/* ---- the command ---- */

/* Everything of SOURCE, or the records that `records` says, if that has a source. */
static int run(struct cli *cli, const char *path, const struct import_records *records)
{
	struct source s = {.cli = cli};
	struct kvfs_stat st;
	int r;

	r = kvfs_stat(cli->store, records->dir, &st);
	if (r == 0 && !S_ISDIR(st.mode))
		return cli_failf(cli, records->dir, "is not a directory");
	if (r < 0 && r != -ENOENT)
		return cli_fail(cli, records->dir, r);
	if (records->from)
		return import_records(cli, records);
	cli_progress_begin(cli);
	r = import_begin(cli, records->dir, strcmp(path, "-") != 0, &s.im);
	if (r < 0)
		return cli_failf(cli, NULL, "temporary file: %s", strerror(-r));
	if (strcmp(path, "-") != 0)
		import_tree(&s, path);
	else
		import_archive(&s);
	r = import_end(s.im);
	cli_progress_clear(cli);
	return r;
}

int cmd_import(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"create", no_argument, NULL, 'c'}, {"durability", required_argument, NULL, 'd'},
		{"from", required_argument, NULL, 'f'}, {"keys", required_argument, NULL, 'k'}, {"sort", no_argument, NULL, 's'},
		{"values", required_argument, NULL, 'v'}, {0}};
	struct import_records records = {.dir = ""};
	unsigned how = CLI_MAKE_DEFAULT;
	bool only_records = false;
	int c, status;

	while ((c = cli_option(cli, argc, argv, "", longs)) != -1) {
		only_records |= c == 'k' || c == 's' || c == 'v';
		if (c == 'c')
			how |= CLI_MAKE;
		if (c == 'd')
			cli->options.durability = cli_durability(cli, optarg);
		if (c == 'f')
			records.from = optarg;
		if (c == 'k')
			records.paths = cli_choice(cli, "--keys", optarg, "escape", "path");
		if (c == 's')
			records.sort = true;
		if (c == 'v')
			records.json = cli_choice(cli, "--values", optarg, "bytes", "json");
	}
	if (only_records && !records.from)
		return cli_usage(cli, "--keys, --values and --sort are for records: --from says whence");
	if (records.from && !import_records_known(cli, records.from))
		return CLI_TROUBLE;
	cli_operands(cli, argc, !records.from, 1 + !records.from);
	if (cli->options.durability == KVFS_NONE)
		cli_failf(cli, NULL, "with --durability none a power cut before the end may destroy the whole store");
	if (cli_open(cli, how) < 0)
		return CLI_TROUBLE;
	if (optind + !records.from < argc && !(records.dir = cli_key(cli, argv[argc - 1])))
		return CLI_TROUBLE;
	setlocale(LC_CTYPE, "C.UTF-8"); /* libarchive converts the names of an archive to the locale's; keys are UTF-8, or bytes */
	status = run(cli, argv[optind], &records);
	if (cli->options.durability == KVFS_NONE) {
		int r = kvfs_sync(cli->store);

		if (r < 0)
			status = cli_failf(cli, NULL, "cannot flush to disk: %s", strerror(-r));
	}
	return status;
}
