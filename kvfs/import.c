/* Import, the store's side.
 *
 *  1. A small value without anything special waits in a batch; a batch is one transaction.  Where that fails, its halves are tried, and
 *     so on, so that one bad key costs nothing but itself.
 *  2. Any other value goes through a stream; its attributes follow.
 *  3. A directory's own attributes are set when all else is done, because what is put into it changes its times, and could be
 *     refused by its mode.  They wait in a temporary file: there may be any number.
 *  4. A value never has more rights than it had in the source: set-id bits come with the owner, not before. */
#include "import.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
	BATCH_KEYS = 1000, /* a commit of so many small values holds the lock for some milliseconds */
	BATCH_BYTES = 4 << 20,
	SMALL = 128 << 10,
};

struct attr {
	uint32_t mode, uid, gid;
	struct timespec mtime;
};

struct item {
	char *key;
	size_t offset, len; /* of its bytes in `data` */
	struct attr attr;
	bool existed; /* keeps its old attributes, unless told */
	bool record; /* the source knows no attributes */
};

struct import {
	struct cli *cli;
	const char *dir;
	bool once, owners;
	bool dead; /* the store takes nothing more */
	mode_t umask;
	FILE *directories; /* struct directory and the key, each */
	char *data; /* BATCH_BYTES + SMALL */
	size_t data_len, n;
	struct item items[BATCH_KEYS];
	char parent[KVFS_KEY_MAX + 1]; /* the directory that default_gid is about */
	gid_t default_gid; /* that a new key there gets */
};

struct directory {
	struct attr attr;
	uint32_t key_len;
};

/* ---- messages ---- */

/* A failed call on a key.  On a full disk or a dead store, going on would only repeat the same line. */
static int complain_errno(struct import *im, const char *key, int r)
{
	cli_failf(im->cli, key, "%s", cli_reason(im->cli, key, r));
	im->dead |= r == -ENOSPC || r == -EIO || r == -EROFS || r == -EDQUOT || r == -ENOMEM || r == -EUCLEAN;
	return im->dead ? CLI_TROUBLE : CLI_DONE;
}

/* ---- attributes ---- */

static struct attr attr_of(struct archive_entry *entry)
{
	return (struct attr){
		.mode = archive_entry_mode(entry),
		.uid = (uint32_t)archive_entry_uid(entry),
		.gid = (uint32_t)archive_entry_gid(entry),
		.mtime = {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)},
	};
}

static int set_attr(struct import *im, const char *key, const struct attr *attr)
{
	struct kvfs_setattr set = {
		.valid = KVFS_SET_MTIME | (S_ISLNK(attr->mode) ? 0u : KVFS_SET_MODE) |
			 (im->owners ? KVFS_SET_UID | KVFS_SET_GID : 0u),
		.mode = attr->mode & 07777,
		.uid = attr->uid,
		.gid = attr->gid,
		.mtime = attr->mtime,
	};
	int r = kvfs_setattr(im->cli->store, key, &set);

	return r < 0 ? complain_errno(im, key, r) : CLI_DONE;
}

static void set_xattrs(struct import *im, const char *key, struct archive_entry *entry)
{
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		int r = kvfs_setxattr(im->cli->store, key, name, value, size, 0);

		if (r < 0)
			cli_failf(im->cli, key, "extended attribute %s: %s", cli_quote(name), strerror(-r));
	}
}

/* Would a new key in the directory of `key` get this owner by itself?  One look per directory. */
static bool owner_is_default(struct import *im, const char *key, const struct attr *attr)
{
	const char *slash = strrchr(key, '/');
	size_t len = slash ? (size_t)(slash - key) : 0;
	struct kvfs_stat st;

	if (!im->owners)
		return true;
	if (im->default_gid == (gid_t)-1 || strncmp(im->parent, key, len) != 0 || im->parent[len]) {
		memcpy(im->parent, key, len);
		im->parent[len] = '\0';
		im->default_gid = kvfs_stat(im->cli->store, im->parent, &st) == 0 && (st.mode & S_ISGID) ? st.gid : getegid();
	}
	return attr->uid == geteuid() && attr->gid == im->default_gid;
}

/* ---- the batch ---- */

static bool needs_attr(struct import *im, const struct item *it)
{
	if (it->record)
		return false;
	return it->existed || !owner_is_default(im, it->key, &it->attr);
}

static struct kvfs_put_options put_options(struct import *im, const struct item *it)
{
	uint32_t mode = it->attr.mode & (it->record || owner_is_default(im, it->key, &it->attr) ? 07777 : 0777);

	return (struct kvfs_put_options){.size = sizeof(struct kvfs_put_options), .mode = mode, .mtime = it->attr.mtime};
}

static int batch_commit(struct import *im, size_t first, size_t n)
{
	struct kvfs_txn *txn;
	int r = kvfs_txn_begin(im->cli->store, KVFS_TXN_WRITE, &txn);

	if (r < 0)
		return r;
	for (size_t i = first; i < first + n && r == 0; i++) {
		struct item *it = &im->items[i];
		struct kvfs_put_options opt = put_options(im, it);

		it->existed = !it->record && kvfs_txn_exists(txn, it->key) > 0;
		r = kvfs_txn_put(txn, it->key, im->data + it->offset, it->len, &opt);
	}
	if (r == 0)
		return kvfs_txn_commit(&txn);
	kvfs_txn_abort(txn);
	return r;
}

/* A symbolic link or a special file in the way of a value gives way, as it does for tar; not to a record. */
static int put_one(struct import *im, struct item *it)
{
	struct kvfs_put_options opt = put_options(im, it);
	int r;

	it->existed = true;
	for (bool again = false;; again = true) {
		r = kvfs_put(im->cli->store, it->key, im->data + it->offset, it->len, &opt, NULL);
		if ((r != -ELOOP && r != -EINVAL) || it->record || again || kvfs_del(im->cli->store, it->key) < 0)
			return r;
	}
}

/* Stores some of the items, which are not more than BATCH_KEYS: so deep are the halves at most. */
static void batch_store(struct import *im, size_t first, size_t n)
{
	int r;

	if (im->dead || n == 0)
		return;
	r = batch_commit(im, first, n);
	if (r < 0 && n > 1) {
		batch_store(im, first, n / 2);
		batch_store(im, first + n / 2, n - n / 2);
		return;
	}
	if (r < 0)
		r = put_one(im, &im->items[first]);
	if (r < 0) {
		complain_errno(im, im->items[first].key, r);
		return;
	}
	for (size_t i = first; i < first + n && !im->dead; i++)
		if (needs_attr(im, &im->items[i]))
			set_attr(im, im->items[i].key, &im->items[i].attr);
}

static int batch_flush(struct import *im)
{
	batch_store(im, 0, im->n);
	for (size_t i = 0; i < im->n; i++)
		free(im->items[i].key);
	im->n = 0;
	im->data_len = 0;
	return im->dead ? CLI_TROUBLE : CLI_DONE;
}

/* ---- values ---- */

/* `r` of libarchive: of a broken archive nothing more can be read. */
static int complain_source(struct import *im, struct archive *in, const char *path, int r)
{
	const char *why = archive_error_string(in);

	cli_failf(im->cli, path, "%s", why ? why : "cannot be read");
	return r == ARCHIVE_FATAL ? CLI_TROUBLE : CLI_DONE;
}

static void complain_shrunk(struct import *im, const char *path)
{
	cli_failf(im->cli, path, "became shorter while it was read; stored as it was found");
}

static int import_small(struct import *im, struct archive *in, const char *key, const struct attr *attr, int64_t size)
{
	struct item *it;
	ssize_t len;

	if (im->data_len > BATCH_BYTES && batch_flush(im) != CLI_DONE)
		return CLI_TROUBLE;
	it = &im->items[im->n];
	len = archive_read_data(in, im->data + im->data_len, SMALL);
	if (len < 0)
		return complain_source(im, in, key, (int)len);
	if (len < size)
		complain_shrunk(im, key);
	*it = (struct item){.key = strdup(key), .offset = im->data_len, .len = (size_t)len, .attr = *attr};
	if (!it->key)
		return complain_errno(im, key, -ENOMEM);
	im->data_len += (size_t)len;
	im->cli->progress.bytes += (uint64_t)len;
	im->n++;
	return im->n == BATCH_KEYS ? batch_flush(im) : CLI_DONE;
}

static int open_value(struct import *im, const char *key, mode_t mode, struct kvfs_stream **ret)
{
	const unsigned flags = KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE;
	int r;

	for (bool again = false;; again = true) {
		r = kvfs_stream_open(im->cli->store, key, flags, mode, ret);
		if ((r != -ELOOP && r != -EINVAL) || again || kvfs_del(im->cli->store, key) < 0)
			return r;
	}
}

/* The end of what the source says is data: before a hole at the end. */
static int64_t data_end(struct archive_entry *entry)
{
	la_int64_t offset = 0, len = 0;

	if (archive_entry_sparse_reset(entry) == 0)
		return archive_entry_size(entry);
	while (archive_entry_sparse_next(entry, &offset, &len) == ARCHIVE_OK)
		;
	return offset + len;
}

enum { SOURCE_FAILED = 1, SOURCE_ENDED = 2 };

/* Copies blocks where they belong, leaving holes.  0, a negative errno of the store, or SOURCE_*: the source failed, which was told. */
static int copy_blocks(struct import *im, struct archive *in, struct archive_entry *entry, const char *key, struct kvfs_stream *st)
{
	la_int64_t offset, end = 0, size = archive_entry_size(entry);
	const void *block;
	size_t len;
	ssize_t n;
	int r;

	while ((r = archive_read_data_block(in, &block, &len, &offset)) == ARCHIVE_OK) {
		n = len ? kvfs_stream_write(st, block, len, (uint64_t)offset) : 0;
		if (n < 0)
			return (int)n;
		if (len)
			end = offset + (la_int64_t)len;
		im->cli->progress.bytes += len;
		cli_progress_draw(im->cli);
	}
	if (r != ARCHIVE_EOF)
		return complain_source(im, in, key, r) == CLI_DONE ? SOURCE_FAILED : SOURCE_ENDED;
	if (end >= data_end(entry))
		return size > end ? kvfs_stream_truncate(st, (uint64_t)size) : 0;
	complain_shrunk(im, key);
	return 0;
}

static int import_stream(
	struct import *im, struct archive *in, struct archive_entry *entry, const char *key, const struct attr *attr)
{
	struct kvfs_stream *st;
	int r;

	r = open_value(im, key, attr->mode & 0777, &st);
	if (r < 0)
		return complain_errno(im, key, r);
	r = copy_blocks(im, in, entry, key, st);
	if (r == 0)
		r = kvfs_stream_close(st);
	else
		kvfs_stream_abort(st);
	if (r < 0)
		return complain_errno(im, key, r);
	if (r > 0)
		return r == SOURCE_ENDED ? CLI_TROUBLE : CLI_DONE;
	set_xattrs(im, key, entry);
	return set_attr(im, key, attr);
}

static int import_value(
	struct import *im, struct archive *in, struct archive_entry *entry, const char *key, const struct attr *attr)
{
	bool small = archive_entry_size(entry) <= SMALL && archive_entry_sparse_reset(entry) == 0 &&
		     archive_entry_xattr_reset(entry) == 0;

	if (small)
		return import_small(im, in, key, attr, archive_entry_size(entry));
	if (!im->once && batch_flush(im) != CLI_DONE)
		return CLI_TROUBLE;
	return import_stream(im, in, entry, key, attr);
}

/* ---- everything else ---- */

static int import_directory(struct import *im, struct archive_entry *entry, const char *key, const struct attr *attr)
{
	struct directory d = {.attr = *attr, .key_len = (uint32_t)strlen(key)};
	struct kvfs_stat st;
	bool top = strcmp(key, im->dir) == 0;
	int r;

	r = *key ? kvfs_mkdir(im->cli->store, key, attr->mode & 0777) : -EEXIST;
	if (r == -EEXIST) {
		if (top)
			return CLI_DONE; /* the directory the user named, and had, keeps its own attributes */
		r = kvfs_stat(im->cli->store, key, &st);
		if (r == 0 && !S_ISDIR(st.mode)) {
			cli_failf(im->cli, key, "is a value in the store, and a directory in the source");
			return CLI_DONE;
		}
	}
	if (r < 0)
		return complain_errno(im, key, r);
	if (fwrite(&d, sizeof(d), 1, im->directories) != 1 || fwrite(key, 1, d.key_len, im->directories) != d.key_len) {
		cli_failf(im->cli, key, "temporary file: %s", strerror(errno));
		return CLI_TROUBLE;
	}
	set_xattrs(im, key, entry);
	return CLI_DONE;
}

/* Makes a key that is no value or directory; `target` of a link, or NULL. */
static int make_special(struct import *im, const char *key, const char *target, bool hard, const struct attr *attr, dev_t rdev)
{
	struct kvfs_store *store = im->cli->store;

	for (bool again = false;; again = true) {
		int r = hard     ? kvfs_link(store, target, key)
			: target ? kvfs_symlink(store, target, key)
				 : kvfs_mknod(store, key, attr->mode, rdev);

		if (r != -EEXIST || again || kvfs_del(store, key) < 0)
			return r;
	}
}

static int import_special(struct import *im, struct archive_entry *entry, const char *key, const struct attr *attr)
{
	const char *target = S_ISLNK(attr->mode) ? archive_entry_symlink(entry) : NULL;
	int r;

	if (!im->once && batch_flush(im) != CLI_DONE)
		return CLI_TROUBLE;
	if (S_ISLNK(attr->mode) && !target) {
		cli_failf(im->cli, key, "a link without a target");
		return CLI_DONE;
	}
	r = make_special(im, key, target, false, attr, archive_entry_rdev(entry));
	if (r < 0)
		return complain_errno(im, key, r);
	set_xattrs(im, key, entry);
	return set_attr(im, key, attr);
}

static int import_hard_link(struct import *im, const char *first, const char *key, const struct attr *attr)
{
	int r;

	if (batch_flush(im) != CLI_DONE) /* the first name may be in it */
		return CLI_TROUBLE;
	if (strcmp(first, key) == 0)
		return CLI_DONE;
	r = make_special(im, key, first, true, attr, 0);
	if (r == -ENOENT) {
		cli_failf(im->cli, key, "is a second name of %s, which is not there", cli_quote(first));
		return CLI_DONE;
	}
	return r < 0 ? complain_errno(im, key, r) : CLI_DONE;
}

/* The key for a path of the source, "./" and the like taken out.  False after saying why there is none. */
static bool key_of(struct import *im, const char *path, char *buf, size_t cap)
{
	size_t at = strlen(im->dir);
	const char *why = path ? NULL : "has no name that can be read";

	memcpy(buf, im->dir, at);
	for (const char *p = path; p && *p && !why;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0) {
			why = "has a \"..\" in its path";
		} else if (n && !(n == 1 && *p == '.')) {
			if (at + n + 2 > cap) {
				why = "a key is longer than 4095 bytes";
				break;
			}
			if (at)
				buf[at++] = '/';
			memcpy(buf + at, p, n);
			at += n;
		}
		p += n + (p[n] == '/');
	}
	buf[at] = '\0';
	if (!why)
		why = kvfs_key_fault(buf);
	if (why)
		cli_failf(im->cli, path ? path : "?", "%s", why);
	return !why;
}

int import_entry(struct import *im, struct archive *in, struct archive_entry *entry)
{
	char key[KVFS_KEY_MAX + 2], first[KVFS_KEY_MAX + 2];
	struct attr attr = attr_of(entry);

	if (!im->owners && attr.uid != geteuid()) /* it will be ours: not with the rights of another */
		attr.mode &= ~(uint32_t)(S_ISDIR(attr.mode) ? S_ISUID : S_ISUID | S_ISGID);
	im->cli->progress.keys++;
	cli_progress_draw(im->cli);
	if (!key_of(im, archive_entry_pathname(entry), key, sizeof(key)))
		return CLI_DONE;
	if (archive_entry_hardlink(entry))
		return key_of(im, archive_entry_hardlink(entry), first, sizeof(first)) ? import_hard_link(im, first, key, &attr)
										       : CLI_DONE;
	switch (archive_entry_filetype(entry)) {
	case AE_IFDIR:
		return import_directory(im, entry, key, &attr);
	case AE_IFREG:
		if (*key)
			return import_value(im, in, entry, key, &attr);
		cli_failf(im->cli, archive_entry_pathname(entry), "names no key");
		return CLI_DONE;
	case AE_IFLNK:
	case AE_IFIFO:
	case AE_IFSOCK:
	case AE_IFCHR:
	case AE_IFBLK:
		return import_special(im, entry, key, &attr);
	default:
		cli_failf(im->cli, key, "is of a type that kvfs does not know");
		return CLI_DONE;
	}
}

/* ---- records ---- */

static int record_large(struct import *im, const char *key, const void *data, size_t len)
{
	struct kvfs_put_options opt = {.size = sizeof(opt), .mode = 0666 & ~im->umask};
	int r;

	if (batch_flush(im) != CLI_DONE) /* the same key may be in it */
		return CLI_TROUBLE;
	r = kvfs_put(im->cli->store, key, data, len, &opt, NULL);
	return r < 0 ? complain_errno(im, key, r) : CLI_DONE;
}

int import_record(struct import *im, const char *key, const void *data, size_t len)
{
	struct item *it;

	im->cli->progress.bytes += len;
	if (len > SMALL)
		return record_large(im, key, data, len);
	if (im->data_len > BATCH_BYTES && batch_flush(im) != CLI_DONE)
		return CLI_TROUBLE;
	it = &im->items[im->n];
	*it = (struct item){.key = strdup(key), .offset = im->data_len, .len = len, .record = true};
	it->attr.mode = 0666 & ~im->umask;
	if (!it->key)
		return complain_errno(im, key, -ENOMEM);
	memcpy(im->data + im->data_len, data, len);
	im->data_len += len;
	im->n++;
	return im->n == BATCH_KEYS ? batch_flush(im) : CLI_DONE;
}

int import_flush(struct import *im)
{
	return batch_flush(im);
}

/* ---- begin and end ---- */

int import_begin(struct cli *cli, const char *dir, bool once, struct import **ret)
{
	struct import *im = calloc(1, sizeof(*im));

	if (!im)
		return -ENOMEM;
	*im = (struct import){.cli = cli, .dir = dir, .once = once, .owners = geteuid() == 0, .default_gid = (gid_t)-1};
	im->umask = umask(0);
	umask(im->umask);
	im->data = malloc(BATCH_BYTES + SMALL);
	im->directories = tmpfile();
	if (!im->data || !im->directories) {
		int r = im->data ? -errno : -ENOMEM;

		if (im->directories)
			fclose(im->directories);
		free(im->data);
		free(im);
		return r;
	}
	*ret = im;
	return 0;
}

static void finish_directories(struct import *im)
{
	char key[KVFS_KEY_MAX + 1];
	struct directory d;

	if (fflush(im->directories) || fseek(im->directories, 0, SEEK_SET)) {
		cli_failf(im->cli, NULL, "temporary file: %s", strerror(errno));
		return;
	}
	while (fread(&d, sizeof(d), 1, im->directories) == 1 && d.key_len < sizeof(key) &&
		fread(key, 1, d.key_len, im->directories) == d.key_len) {
		key[d.key_len] = '\0';
		if (set_attr(im, key, &d.attr) != CLI_DONE)
			break;
	}
}

int import_end(struct import *im)
{
	struct cli *cli = im->cli;

	if (batch_flush(im) == CLI_DONE)
		finish_directories(im);
	fclose(im->directories);
	free(im->data);
	free(im);
	return cli_status(cli);
}
