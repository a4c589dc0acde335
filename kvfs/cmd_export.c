/* kvfs export: one state of the store, into a directory or a tar stream on standard output; --to: into a file of records (export_records.c), too.
 *
 * Names and values are of one snapshot of the whole store.  libarchive writes both kinds of target, and is told never to go through a
 * symbolic link, so that nothing lands outside of TARGET. */
#include "cli.h"
#include "export_records.h"
#include "hardlink.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	STEP = 1 << 18,
	EXTENTS_MAX = 65536, /* of one sparse value in an archive; what follows is written in full */
};

struct exporter {
	struct cli *cli;
	struct kvfs_txn *txn;
	const char *dir;
	struct stat store; /* the store's own directory */
	bool tar;
	struct archive *out;
	struct archive_entry *entry;
	struct archive_entry_linkresolver *links;
	char *buf; /* STEP */
	char *zeros; /* STEP */
	struct {
		size_t len; /* of its path, a beginning of `inside` */
		struct timespec mtime;
	} open[KVFS_KEY_MAX / 2 + 1]; /* directories of the target that are not finished, outermost first */
	size_t n_open;
	char inside[KVFS_KEY_MAX + 1]; /* path of the innermost of them */
};

/* What libarchive says, which is not always why. */
static void complain_archive(struct exporter *ex, const char *key)
{
	const char *text = archive_error_string(ex->out), *why = strerror(archive_errno(ex->out));

	if (archive_errno(ex->out) <= 0 || (text && strstr(text, why)))
		cli_failf(ex->cli, key, "%s", text ? text : "failed");
	else
		cli_failf(ex->cli, key, "%s%s%s", text ? text : "", text ? ": " : "", why);
}

/* ---- one entry ---- */

static void add_xattrs(struct exporter *ex, const char *key)
{
	struct kvfs_store *store = ex->cli->store;
	ssize_t len = kvfs_listxattr(store, key, NULL, 0), size;
	char *names, *value;

	if (len <= 0)
		return; /* none, or the key has gone since the snapshot */
	names = malloc((size_t)len);
	value = malloc(KVFS_XATTR_SIZE_MAX);
	if (names && value)
		len = kvfs_listxattr(store, key, names, (size_t)len);
	for (char *n = names; names && value && n < names + len; n += strlen(n) + 1) {
		size = kvfs_getxattr(store, key, n, value, KVFS_XATTR_SIZE_MAX);
		if (size >= 0)
			archive_entry_xattr_add_entry(ex->entry, n, value, (size_t)size);
	}
	free(names);
	free(value);
}

static int fill_entry(struct exporter *ex, const struct kvfs_entry *e)
{
	char target[KVFS_KEY_MAX + 1];
	size_t skip = strlen(ex->dir);
	const struct kvfs_stat *st = &e->st;
	ssize_t n;

	archive_entry_clear(ex->entry);
	archive_entry_copy_pathname(ex->entry, e->key + (skip ? skip + 1 : 0));
	archive_entry_set_mode(ex->entry, st->mode);
	archive_entry_set_uid(ex->entry, st->uid);
	archive_entry_set_gid(ex->entry, st->gid);
	archive_entry_set_mtime(ex->entry, st->mtime.tv_sec, st->mtime.tv_nsec);
	archive_entry_set_dev(ex->entry, 1);
	archive_entry_set_ino64(ex->entry, (la_int64_t)st->ino);
	archive_entry_set_nlink(ex->entry, st->nlink);
	if (S_ISCHR(st->mode) || S_ISBLK(st->mode))
		archive_entry_set_rdev(ex->entry, st->rdev);
	if (S_ISREG(st->mode))
		archive_entry_set_size(ex->entry, (la_int64_t)st->size);
	if (S_ISLNK(st->mode)) {
		n = kvfs_readlink(ex->cli->store, e->key, target, sizeof(target));
		if (n < 0)
			return (int)n;
		archive_entry_copy_symlink(ex->entry, target);
	}
	add_xattrs(ex, e->key);
	return 0;
}

/* Tells an archive where the data of a sparse value is, so that it can leave out the rest. */
static void add_extents(struct exporter *ex, struct kvfs_stream *st, uint64_t size)
{
	uint64_t at = 0;

	for (int n = 0; n < EXTENTS_MAX; n++) {
		int64_t data = kvfs_stream_seek(st, at, false), hole;

		if (data < 0 || (uint64_t)data >= size)
			break;
		hole = kvfs_stream_seek(st, (uint64_t)data, true);
		if (n + 1 == EXTENTS_MAX || hole < data)
			hole = (int64_t)size;
		archive_entry_sparse_add_entry(ex->entry, data, hole - data);
		at = (uint64_t)hole;
	}
	if (at == 0 && size) /* nothing but a hole: an entry is needed to say so */
		archive_entry_sparse_add_entry(ex->entry, (la_int64_t)size, 0);
}

/* Data between holes [at, end) into an archive (which takes every byte in order) or a file (which takes blocks at offsets). */
static int write_block(struct exporter *ex, const void *data, size_t len, uint64_t offset)
{
	la_ssize_t r;

	if (!ex->tar)
		return archive_write_data_block(ex->out, data, len, (la_int64_t)offset) < ARCHIVE_WARN ? -1 : 0;
	r = archive_write_data(ex->out, data, len);
	return r < 0 ? -1 : 0;
}

static int write_hole(struct exporter *ex, uint64_t from, uint64_t to)
{
	while (ex->tar && from < to) {
		size_t n = to - from < STEP ? (size_t)(to - from) : STEP;

		if (write_block(ex, ex->zeros, n, from) < 0)
			return -1;
		from += n;
	}
	return 0;
}

/* 0, or an error after it was told. */
static int write_data(struct exporter *ex, const char *key, struct kvfs_stream *st, uint64_t size, bool sparse)
{
	uint64_t at = 0, data_end = sparse ? 0 : size;
	int r = 0;

	while (at < size && r == 0) {
		ssize_t n;

		if (at == data_end) { /* a hole, perhaps of length 0, and the data after it */
			int64_t data = kvfs_stream_seek(st, at, false);
			uint64_t next = data < 0 ? size : (uint64_t)data;

			r = write_hole(ex, at, next);
			data = next < size ? kvfs_stream_seek(st, next, true) : -1;
			at = next;
			data_end = data < 0 ? size : (uint64_t)data;
			continue;
		}
		n = kvfs_stream_read(st, ex->buf, data_end - at < STEP ? (size_t)(data_end - at) : STEP, at);
		if (n <= 0) {
			cli_failf(ex->cli, key, "%s",
				n < 0 ? cli_reason(ex->cli, key, (int)n) : "the value is shorter than its size says");
			return -1;
		}
		r = write_block(ex, ex->buf, (size_t)n, at);
		at += (uint64_t)n;
		ex->cli->progress.bytes += (uint64_t)n;
		cli_progress_draw(ex->cli);
	}
	if (r < 0)
		complain_archive(ex, key);
	return r;
}

/* Times of directories that are complete now that `path` comes (NULL: the end).  libarchive does it for those it makes, not for those it
 * finds. */
static void leave_directories(struct exporter *ex, const char *path)
{
	while (ex->n_open) {
		size_t len = ex->open[ex->n_open - 1].len;
		struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, ex->open[ex->n_open - 1].mtime};

		if (path && strncmp(path, ex->inside, len) == 0 && path[len] == '/')
			return;
		ex->inside[len] = '\0';
		if (utimensat(AT_FDCWD, ex->inside, times, AT_SYMLINK_NOFOLLOW) < 0)
			cli_failf(ex->cli, ex->inside, "time: %s", strerror(errno));
		ex->n_open--;
	}
}

static void enter_directory(struct exporter *ex, const char *path, struct timespec mtime)
{
	ex->open[ex->n_open].len = strlen(path);
	ex->open[ex->n_open].mtime = mtime;
	ex->n_open++;
	memcpy(ex->inside, path, strlen(path) + 1);
}

/* In an archive a name that is not UTF-8 is kept as bytes, which libarchive remarks. */
static bool is_binary_name(struct exporter *ex)
{
	const char *names[] = {
		archive_entry_pathname(ex->entry), archive_entry_symlink(ex->entry), archive_entry_hardlink(ex->entry)};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (ex->tar && names[i] && !cli_is_utf8(names[i], strlen(names[i])))
			return true;
	return false;
}

/* Where a key `data.mdb` would be the end of all others. */
static bool is_store(const struct exporter *ex, const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == ex->store.st_dev && st.st_ino == ex->store.st_ino;
}

/* Header, data and end of one entry.  CLI_TROUBLE when going on is useless. */
static int write_entry(struct exporter *ex, const char *key, struct kvfs_stream *st, uint64_t size, bool sparse)
{
	int r, bad = 0;

	if (!ex->tar && S_ISDIR(archive_entry_mode(ex->entry)) && is_store(ex, archive_entry_pathname(ex->entry)))
		return cli_failf(ex->cli, key, "would be written into the store itself; nothing more is");
	r = archive_write_header(ex->out, ex->entry);
	if (r < ARCHIVE_WARN || (r == ARCHIVE_WARN && !is_binary_name(ex)))
		complain_archive(ex, key);
	if (r == ARCHIVE_FATAL)
		return CLI_TROUBLE;
	if (r < ARCHIVE_WARN)
		return CLI_DONE;
	if (!ex->tar && S_ISDIR(archive_entry_mode(ex->entry)))
		enter_directory(ex, archive_entry_pathname(ex->entry),
			(struct timespec){archive_entry_mtime(ex->entry), archive_entry_mtime_nsec(ex->entry)});
	if (st && archive_entry_size(ex->entry) > 0)
		bad = write_data(ex, key, st, size, sparse);
	r = archive_write_finish_entry(ex->out);
	if (r < ARCHIVE_OK && !bad)
		complain_archive(ex, key);
	if (bad && !ex->tar)
		unlink(archive_entry_pathname(ex->entry)); /* half a value is none */
	return r == ARCHIVE_FATAL || (bad && ex->tar && archive_errno(ex->out) == ENOSPC) ? CLI_TROUBLE : CLI_DONE;
}

static int export_entry(struct exporter *ex, const struct kvfs_entry *e)
{
	struct kvfs_stream *st = NULL;
	bool value = S_ISREG(e->st.mode), sparse;
	int r;

	ex->cli->progress.keys++;
	cli_progress_draw(ex->cli);
	r = fill_entry(ex, e);
	leave_directories(ex, archive_entry_pathname(ex->entry));
	if (r == 0)
		hardlink_resolve(ex->links, ex->entry);
	if (archive_entry_hardlink(ex->entry))
		value = false;
	if (r == 0 && value) {
		r = kvfs_txn_stream_open(ex->txn, e->key, &st);
		if (r == -ENOENT) { /* not in one and the same snapshot */
			cli_failf(ex->cli, e->key, "is listed, but cannot be found: the store is damaged");
			return CLI_DONE;
		}
	}
	if (r < 0) {
		cli_failf(ex->cli, e->key, "%s", cli_reason(ex->cli, e->key, r));
		return CLI_DONE;
	}
	sparse = value && e->st.allocated < e->st.size;
	if (sparse && ex->tar)
		add_extents(ex, st, e->st.size);
	r = write_entry(ex, e->key, st, e->st.size, sparse);
	kvfs_stream_abort(st);
	return r;
}

static void export_all(struct exporter *ex)
{
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT};
	struct kvfs_cursor *cur;
	struct kvfs_entry e;
	int r;

	r = kvfs_txn_list(ex->txn, ex->dir, &opt, &cur);
	if (r == 0) {
		while ((r = kvfs_cursor_next(cur, &e)) > 0)
			if (export_entry(ex, &e) != CLI_DONE) {
				r = 0;
				break;
			}
		kvfs_cursor_close(cur);
	}
	if (r < 0)
		cli_failf(ex->cli, ex->dir, "%s", cli_reason(ex->cli, ex->dir, r));
}

/* ---- targets ---- */

static struct archive *open_tar(void)
{
	struct archive *out = archive_write_new();

	if (out && (archive_write_set_format_pax(out) != ARCHIVE_OK || archive_write_open_fd(out, STDOUT_FILENO) != ARCHIVE_OK)) {
		archive_write_free(out);
		return NULL;
	}
	return out;
}

static struct archive *open_disk(void)
{
	struct archive *out = archive_write_disk_new();
	int flags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
		    ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS;

	if (geteuid() == 0)
		flags |= ARCHIVE_EXTRACT_OWNER;
	if (out)
		archive_write_disk_set_options(out, flags);
	return out;
}

/* Enters TARGET, which is made if absent.  1 made, 0 it was there, -1 after saying why not. */
static int enter_target(struct exporter *ex, const char *target)
{
	struct cli *cli = ex->cli;
	int made = mkdir(target, 0700) == 0;

	if (is_store(ex, target))
		return cli_failf(cli, target, "is the store itself"), -1;
	if (!made && errno != EEXIST)
		return cli_failf(cli, target, "cannot make the directory: %s", strerror(errno)), -1;
	if (chdir(target) == 0)
		return made;
	if (errno == ENOTDIR)
		cli_failf(cli, target, "is there and no directory; an archive: kvfs export - >FILE");
	else
		cli_failf(cli, target, "%s", strerror(errno));
	return -1;
}

/* A target that was made is a copy of the directory that was exported; one that was there keeps its attributes. */
static void finish_target(struct exporter *ex, const char *target, const struct kvfs_stat *st)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st->mtime};

	if ((geteuid() == 0 && chown(".", st->uid, st->gid) < 0) || chmod(".", st->mode & 07777) < 0 ||
		utimensat(AT_FDCWD, ".", times, 0) < 0)
		cli_failf(ex->cli, target, "attributes: %s", strerror(errno));
}

static void count_all(struct exporter *ex)
{
	static struct kvfs_info info;

	if (*ex->dir || !ex->cli->progress.shown || kvfs_info(ex->cli->store, &info) < 0)
		return;
	ex->cli->progress.total_keys = info.values + info.directories + info.others;
	ex->cli->progress.total_bytes = info.value_bytes;
}

static int run(struct exporter *ex, const char *target)
{
	struct cli *cli = ex->cli;
	struct kvfs_stat st;
	int r, made = 0;

	r = kvfs_txn_stat(ex->txn, ex->dir, &st);
	if (r < 0)
		return cli_fail(cli, ex->dir, r);
	if (!S_ISDIR(st.mode))
		return cli_failf(cli, ex->dir, "is not a directory; one value: kvfs get KEY >FILE");
	if (!ex->tar && (made = enter_target(ex, target)) < 0)
		return CLI_TROUBLE;
	ex->out = ex->tar ? open_tar() : open_disk();
	ex->entry = archive_entry_new();
	ex->links = archive_entry_linkresolver_new();
	ex->buf = malloc(STEP);
	ex->zeros = calloc(1, STEP);
	if (!ex->out || !ex->entry || !ex->links || !ex->buf || !ex->zeros)
		return cli_failf(cli, NULL, "%s", strerror(ENOMEM));
	archive_entry_linkresolver_set_strategy(ex->links, ARCHIVE_FORMAT_TAR);
	cli_progress_begin(cli);
	count_all(ex);
	export_all(ex);
	leave_directories(ex, NULL);
	if (archive_write_close(ex->out) < ARCHIVE_OK)
		complain_archive(ex, NULL);
	if (made)
		finish_target(ex, target, &st);
	cli_progress_clear(cli);
	return cli_status(cli);
}

/* ---- --to KIND:FILE ---- */

/* The file is written as FILE.part, in the place of standard output, and renamed when it is complete; a device or a pipe is written to. */
struct part {
	const char *file;
	char *name; /* NULL: nothing to rename */
};

static int part_begin(struct exporter *ex, const char *file, struct part *ret)
{
	struct cli *cli = ex->cli;
	const char *slash = strrchr(file, '/');
	char *dir;
	bool own;
	struct stat st;
	int fd;

	*ret = (struct part){.file = file};
	if (strcmp(file, "-") == 0)
		return CLI_DONE;
	dir = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
	own = dir && is_store(ex, dir);
	free(dir);
	if (own)
		return cli_failf(cli, file, "is in the store itself");
	if (stat(file, &st) < 0 || S_ISREG(st.st_mode)) {
		if (asprintf(&ret->name, "%s.part", file) < 0)
			return cli_failf(cli, NULL, "%s", strerror(ENOMEM));
		unlink(ret->name);
	}
	fd = open(ret->name ? ret->name : file, O_WRONLY | O_CLOEXEC | (ret->name ? O_CREAT | O_EXCL : 0), 0666);
	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
		return cli_failf(cli, ret->name ? ret->name : file, "%s", strerror(errno));
	close(fd);
	return CLI_DONE;
}

static int part_end(struct cli *cli, struct part *part, int status)
{
	struct stat st;

	if (part->name && (fflush(stdout) != 0 || fsync(STDOUT_FILENO) < 0))
		status = cli_failf(cli, part->name, "%s", strerror(errno));
	if (part->name && status != CLI_DONE && fstat(STDOUT_FILENO, &st) == 0 && st.st_size == 0)
		unlink(part->name);
	else if (part->name && status != CLI_DONE)
		cli_failf(cli, part->file, "is not complete, and left as it was; what could be written is in %s",
			cli_quote(part->name));
	else if (part->name && rename(part->name, part->file) < 0)
		status = cli_failf(cli, part->file, "%s", strerror(errno));
	free(part->name);
	return status;
}

/* The FILE of --to, of whichever kind; exits with 2 if there is no such kind. */
static const char *choose_kind(struct cli *cli, const char *to, struct export_records *records)
{
	static const char *const kinds[] = {"tar:", "csv:", "jsonl:"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i]);

		if (strncmp(to, kinds[i], n) != 0 || !to[n])
			continue;
		records->kind = (enum export_kind)i;
		return to + n;
	}
	exit(cli_usage(cli, "--to is tar:FILE, csv:FILE or jsonl:FILE, not %s", cli_quote(to)));
}

static int export_to(struct exporter *ex, const char *target, struct export_records *records, bool to)
{
	struct part part = {0};
	int status = to ? part_begin(ex, target, &part) : CLI_DONE;

	ex->tar = to || strcmp(target, "-") == 0;
	if (status != CLI_DONE) {
		free(part.name);
		return status;
	}
	if (ex->tar && records->kind == EXPORT_TAR && isatty(STDOUT_FILENO))
		return cli_failf(ex->cli, NULL, "an archive is not written to a terminal");
	records->dir = ex->dir;
	status = records->kind == EXPORT_TAR ? run(ex, target) : export_records(ex->cli, ex->txn, records);
	return part_end(ex->cli, &part, status);
}

static void parse_options(struct cli *cli, int argc, char **argv, struct export_records *records, const char **to)
{
	static const struct option longs[] = {{"to", required_argument, NULL, 't'}, {"keys", required_argument, NULL, 'k'},
		{"values", required_argument, NULL, 'v'}, {0}};
	bool only_records = false;
	int c;

	while ((c = cli_option(cli, argc, argv, "", longs)) != -1) {
		only_records |= c == 'k' || c == 'v';
		if (c == 't')
			*to = choose_kind(cli, optarg, records);
		if (c == 'k')
			records->typed = cli_choice(cli, "--keys", optarg, "path", "escape");
		if (c == 'v')
			records->json = cli_choice(cli, "--values", optarg, "bytes", "json");
	}
	if (only_records && records->kind == EXPORT_TAR)
		exit(cli_usage(cli, "--keys and --values are for --to csv: and --to jsonl:"));
	if (records->json && records->kind == EXPORT_CSV)
		exit(cli_usage(cli, "--values=json is for --to jsonl:"));
}

int cmd_export(struct cli *cli, int argc, char **argv)
{
	static struct exporter ex;
	struct export_records records = {0};
	const char *target = NULL;
	bool to;
	int r;

	parse_options(cli, argc, argv, &records, &target);
	to = target;
	cli_operands(cli, argc, !to, 1 + !to);
	ex = (struct exporter){.cli = cli, .dir = ""};
	if (!to)
		target = argv[argc - 1];
	if (cli_open(cli, CLI_READ) < 0 || (argc - optind == 1 + !to && !(ex.dir = cli_key(cli, argv[optind]))))
		return CLI_TROUBLE;
	if (stat(cli->store_path, &ex.store) < 0)
		return cli_failf(cli, NULL, "%s", strerror(errno));
	setlocale(LC_CTYPE, "C.UTF-8"); /* keys that are UTF-8 are written as such into an archive */
	r = kvfs_txn_begin(cli->store, 0, &ex.txn);
	if (r < 0)
		return cli_failf(cli, NULL, "%s", cli_reason(cli, NULL, r));
	r = export_to(&ex, target, &records, to);
	kvfs_txn_abort(ex.txn);
	archive_write_free(ex.out);
	archive_entry_free(ex.entry);
	archive_entry_linkresolver_free(ex.links);
	free(ex.buf);
	free(ex.zeros);
	return r;
}
