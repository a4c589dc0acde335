/* Creation; see create.h.
 *
 * The environment is built in a subdirectory, flushed, and its data.mdb renamed into place last: a store is there from the
 * moment data.mdb is.  LMDB writes its first pages without any order, so a crash in the middle of its own creation would leave a
 * file that can never be opened. */
#include "create.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "ballast.h"
#include "db.h"
#include "edit.h"
#include "err.h"
#include "inode.h"
#include "meta.h"

static int oops(struct kvfs_error *err, const char *what)
{
	int e = errno;
	return kv_explain(err, e, "%s: %s", what, strerror(e));
}

void kv_remove_new(int dirfd)
{
	static const char *const files[] = {KV_NEW_DIR "/data.mdb", KV_NEW_DIR "/lock.mdb", KV_NEW_DIR "/FORMAT"};
	for (size_t i = 0; i < KV_ARRAY_LEN(files); i++)
		unlinkat(dirfd, files[i], 0);
	unlinkat(dirfd, KV_NEW_DIR, AT_REMOVEDIR);
}

/* Only what we may have left ourselves may lie in the directory. */
static int check_empty(int dirfd, struct kvfs_error *err)
{
	static const char *const ours[] = {
		".", "..", KV_NEW_DIR, "FORMAT", "lock.mdb", "doors", "sync", KV_BALLAST_NAME, "lost+found"};
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		int r = oops(err, "directory");
		if (fd >= 0)
			close(fd);
		return r;
	}
	int r = 0;
	struct dirent *e;
	while (r == 0 && (e = readdir(d))) {
		size_t i = 0;
		while (i < KV_ARRAY_LEN(ours) && strcmp(ours[i], e->d_name) != 0)
			i++;
		if (i == KV_ARRAY_LEN(ours) && strncmp(e->d_name, ".doors", 6) != 0 && strncmp(e->d_name, "doors.", 6) != 0 &&
			strncmp(e->d_name, "sync.", 5) != 0)
			r = kv_explain(err, EMEDIUMTYPE, "the directory holds other things ('%s') and no store", e->d_name);
	}
	closedir(d);
	return r;
}

static int fill(struct kv_db *db, const struct kvfs_options *opt, uint32_t page_size, uint8_t uuid[16])
{
	struct kv_edit ed = {.now = kv_now()};
	int r = kv_db_write(db, &ed.txn);
	if (r)
		return r;
	struct kv_rec_super super = {
		.format = KV_FORMAT_VERSION,
		.page_size = page_size,
		.chunk_size = kv_chunk_size_for(page_size),
		.inline_max = KV_INLINE_MAX,
		.created_ns = kv_ns(ed.now),
	};
	memcpy(super.uuid, uuid, sizeof super.uuid);
	struct kv_inode root = {.ino = KV_ROOT};
	struct kv_rec_time now = kv_rec_time(ed.now);
	root.rec = (struct kv_rec_inode){.mode = S_IFDIR | 0755 | (opt->mode & (S_ISGID | S_IWGRP)),
		.uid = geteuid(),
		.gid = opt->set_group ? opt->group : getegid(),
		.nlink = 2,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
		.parent = KV_ROOT};
	ed.head = (struct kv_head){.rec = {.next_ino = KV_ROOT + 1, .next_blob = 1, .time_ns = kv_ns(ed.now)}};
	r = kv_meta_put(&ed.txn, &super);
	if (r == 0)
		r = kv_inode_put(&ed.txn, &root);
	if (r == 0)
		r = kv_log_append(&ed.txn, &ed.head, &ed.changes);
	if (r) {
		kv_db_abort(&ed.txn);
		return r;
	}
	return kv_db_commit(&ed.txn, KV_SYNC_LEVEL);
}

void kv_uuid_text(const uint8_t uuid[16], char ret[37])
{
	char *p = ret;
	for (int i = 0; i < 16; i++)
		p += sprintf(p, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

int kv_format_write(int dirfd, const char *name, uint32_t page_size, const uint8_t uuid[16])
{
	char text[512], id[37];
	kv_uuid_text(uuid, id);
	int n = snprintf(text, sizeof text, "kvfs store\nformat %d\nlmdb 0.9\npage-size %u\nbyte-order %s\nuuid %s\n",
		KV_FORMAT_VERSION, page_size, __BYTE_ORDER == __LITTLE_ENDIAN ? "little" : "big", id);
	KV_FD int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)n) != n)
		return errno ? -errno : -ENOSPC;
	return fsync(fd) ? -errno : 0;
}

/* Gives a new file the store's mode and group, flushes it, and moves it into place. */
static int settle(int dirfd, const char *from, const char *to, const struct kvfs_options *opt)
{
	KV_FD int fd = openat(dirfd, from, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (opt->set_group && fchown(fd, (uid_t)-1, opt->group))
		return -errno;
	if (fchmod(fd, opt->mode & 0666) || fsync(fd) || renameat(dirfd, from, dirfd, to))
		return -errno;
	return 0;
}

static int build(int dirfd, const char *dir, const struct kvfs_options *opt, struct kvfs_error *err)
{
	char path[4200];
	uint8_t uuid[16];
	struct kv_db *db;
	struct kv_db_options dbopt = {.create = true, .map_size = 1 << 24, .mode = 0600};
	snprintf(path, sizeof path, "%s/" KV_NEW_DIR, dir);
	if (getrandom(uuid, sizeof uuid, 0) != sizeof uuid)
		return oops(err, "random numbers");
	KV_FD int newfd = openat(dirfd, KV_NEW_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (newfd < 0)
		return oops(err, "creating the store");
	int r = kv_dbfile_reserve_lock(newfd, 0600, err);
	if (r == 0)
		r = kv_db_open(path, &dbopt, &db, err);
	if (r)
		return r;
	r = fill(db, opt, (uint32_t)sysconf(_SC_PAGESIZE), uuid);
	kv_db_close(db, false);
	if (r == 0)
		r = kv_format_write(dirfd, KV_NEW_DIR "/FORMAT", (uint32_t)sysconf(_SC_PAGESIZE), uuid);
	if (r == 0)
		r = settle(dirfd, KV_NEW_DIR "/FORMAT", "FORMAT", opt);
	if (r == 0 && fsync(dirfd))
		r = -errno;
	if (r == 0)
		r = settle(dirfd, KV_NEW_DIR "/data.mdb", "data.mdb", opt);
	if (r == 0 && fsync(dirfd))
		r = -errno;
	return r ? kv_explain(err, -r, "creating the store: %s", strerror(-r)) : 0;
}

int kv_create(int dirfd, const char *dir, const struct kvfs_options *opt, struct kvfs_error *err)
{
	struct stat st;
	/* one creator at a time; the lock goes with the descriptor */
	KV_FD int lock = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX))
		return oops(err, "directory");
	if (fstatat(dirfd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return opt->flags & KVFS_EXCL ? kv_explain(err, EEXIST, "a store is there already") : 0;
	int r = check_empty(dirfd, err);
	if (r)
		return r;
	kv_remove_new(dirfd);
	/* of a data.mdb that is gone: its transaction ids would be taken for ours, its states for ours */
	unlinkat(dirfd, "lock.mdb", 0);
	unlinkat(dirfd, "sync", 0);
	if (mkdirat(dirfd, KV_NEW_DIR, 0700))
		return oops(err, "creating the store");
	r = build(dirfd, dir, opt, err);
	kv_remove_new(dirfd);
	return r;
}

/* ---- FORMAT ---- */

static int compare_line(const char *key, const char *value, struct kvfs_error *err)
{
	if (strcmp(key, "format") == 0 && atoi(value) != KV_FORMAT_VERSION)
		return kv_explain(err, EMEDIUMTYPE,
			"the store has format %.20s, this kvfs (%s) knows format %d; use a newer kvfs, or one that can write it to "
			"export",
			value, KVFS_VERSION, KV_FORMAT_VERSION);
	if (strcmp(key, "lmdb") == 0 && strcmp(value, "0.9") != 0)
		return kv_explain(err, EMEDIUMTYPE,
			"the store was made with LMDB %.20s, this kvfs uses 0.9; move it with export and import", value);
	if (strcmp(key, "page-size") == 0 && atol(value) != sysconf(_SC_PAGESIZE))
		return kv_explain(err, EMEDIUMTYPE,
			"the store has pages of %.20s bytes, this machine %ld; move it with export and import", value,
			sysconf(_SC_PAGESIZE));
	if (strcmp(key, "byte-order") == 0 && strcmp(value, __BYTE_ORDER == __LITTLE_ENDIAN ? "little" : "big") != 0)
		return kv_explain(
			err, EMEDIUMTYPE, "the store is of a %.20s-endian machine; move it with export and import", value);
	return 0;
}

/* Hex digits in pairs, with dashes anywhere between them. */
static void take_uuid(const char *text, uint8_t ret[16])
{
	unsigned n = 0;
	for (; n < 16 && *text; text += *text == '-' ? 1 : 2)
		if (*text != '-' && sscanf(text, "%2hhx", &ret[n++]) != 1)
			break;
	if (n < 16)
		memset(ret, 0, 16);
}

int kv_format_check(int dirfd, uint8_t ret_uuid[16], struct kvfs_error *err)
{
	char text[1024];
	memset(ret_uuid, 0, 16);
	KV_FD int fd = openat(dirfd, "FORMAT", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : oops(err, "FORMAT");
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0)
		return oops(err, "FORMAT");
	text[n] = 0;
	char *save, *line = strtok_r(text, "\n", &save);
	if (!line || strcmp(line, "kvfs store") != 0)
		return kv_explain(err, EMEDIUMTYPE, "its FORMAT file does not say 'kvfs store'");
	while ((line = strtok_r(NULL, "\n", &save))) {
		char *value = strchr(line, ' ');
		if (!value)
			continue;
		*value++ = 0;
		if (strcmp(line, "uuid") == 0)
			take_uuid(value, ret_uuid);
		int r = compare_line(line, value, err);
		if (r)
			return r;
	}
	return 0;
}
