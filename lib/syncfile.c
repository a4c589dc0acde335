/* The file `sync`; see syncfile.h.
 *
 * Invariants (DESIGN.md, "Commits without a flush each"):
 *  Y1  A record is written only when all of its state is on the disk, and over the older of two: at each instant one is sound.
 *  Y2  Records only go forward: the next has a higher number, and its state is at least as new.
 *  Y3  A state is put back only while nobody has the store open, and after a walk through all of it.
 *  Y4  A record says "loose" before the first commit after its state that is not flushed, and no more only when all is flushed. */
#include "syncfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "err.h"

#define FILE_NAME "sync"
#define SLOT_VERSION 1
#define SLOT_LOOSE 1
#define SLOT_FAILED 2

struct slot {
	char magic[8];
	uint32_t version, flags;
	uint64_t number;
	uint8_t uuid[16];
	struct kv_sync_place place;
	int64_t time_ns;
	struct kv_metas metas;
	uint8_t reserved[KV_SYNC_SLOT - 8 - 88 - 2 * KV_META_SIZE];
	uint64_t sum;
} KV_PACKED;

static_assert(sizeof(struct slot) == KV_SYNC_SLOT && offsetof(struct slot, metas) == 88, "FORMAT.md");

/* ---- records ---- */

void kv_sync_encode(const struct kv_sync_record *rec, uint8_t ret[KV_SYNC_SLOT])
{
	struct slot s = {.magic = "KVFSSYN",
		.version = SLOT_VERSION,
		.flags = (rec->loose ? SLOT_LOOSE : 0) | (rec->failed ? SLOT_FAILED : 0),
		.number = rec->number,
		.place = rec->place,
		.time_ns = rec->time_ns,
		.metas = rec->metas};
	memcpy(s.uuid, rec->uuid, sizeof s.uuid);
	s.sum = XXH3_64bits(&s, offsetof(struct slot, sum));
	memcpy(ret, &s, sizeof s);
}

bool kv_sync_decode(const uint8_t slot[KV_SYNC_SLOT], struct kv_sync_record *ret)
{
	struct slot s;
	memcpy(&s, slot, sizeof s);
	if (memcmp(s.magic, "KVFSSYN", 8) != 0 || s.version != SLOT_VERSION ||
		s.sum != XXH3_64bits(&s, offsetof(struct slot, sum)) || !kv_metas_sound(&s.metas))
		return false;
	*ret = (struct kv_sync_record){.loose = s.flags & SLOT_LOOSE,
		.failed = s.flags & SLOT_FAILED,
		.number = s.number,
		.place = s.place,
		.time_ns = s.time_ns,
		.metas = s.metas};
	memcpy(ret->uuid, s.uuid, sizeof s.uuid);
	return true;
}

/* ---- where we are ---- */

static bool boot_id(uint8_t ret[16])
{
	char text[64] = "";
	unsigned n = 0;
	KV_FD int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		return false;
	for (const char *p = text; *p && n < 16; p += *p == '-' ? 1 : 2)
		if (*p != '-' && sscanf(p, "%2hhx", &ret[n++]) != 1)
			return false;
	return n == 16;
}

int kv_sync_place(int dirfd, struct kv_sync_place *ret)
{
	struct kv_sync_place place = {0};
	struct statx st;
	struct statfs fs;
	if (!boot_id(place.boot))
		return kv_fail(ENOTSUP);
	if (statx(dirfd, "data.mdb", 0, STATX_INO | STATX_MNT_ID, &st) || fstatfs(dirfd, &fs))
		return kv_fail(errno);
	place.dev = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	place.mount = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0;
	if (fs.f_type != 0x4d44 && fs.f_type != 0x2011BAB0) /* FAT and exFAT make up another number at each mount */
		place.ino = st.stx_ino;
	*ret = place;
	return 0;
}

/* ---- the file ---- */

int kv_syncfile_lock(int fd)
{
	while (flock(fd, LOCK_EX))
		if (errno != EINTR)
			return kv_fail(errno);
	return 0;
}

int kv_syncfile_read(int fd, struct kv_sync_record *ret)
{
	uint8_t bytes[KV_SYNC_SLOT];
	struct kv_sync_record rec;
	bool found = false;
	for (unsigned i = 0; i < 2; i++) {
		ssize_t n = pread(fd, bytes, sizeof bytes, (off_t)i * (KV_SYNC_FILE / 2));
		if (n < 0)
			return kv_fail(errno);
		if (n == sizeof bytes && kv_sync_decode(bytes, &rec) && (!found || rec.number > ret->number)) {
			*ret = rec;
			found = true;
		}
	}
	return found ? 0 : -ENOENT;
}

int kv_syncfile_write(int fd, struct kv_sync_record *rec)
{
	uint8_t bytes[KV_SYNC_SLOT];
	struct kv_sync_record last = {0};
	int r = kv_syncfile_read(fd, &last);
	if (r && r != -ENOENT)
		return r;
	rec->number = last.number + 1;
	kv_sync_encode(rec, bytes);
	ssize_t n = pwrite(fd, bytes, sizeof bytes, (off_t)(rec->number & 1) * (KV_SYNC_FILE / 2));
	return n == sizeof bytes ? 0 : kv_fail(n < 0 ? errno : EIO);
}

/* Its blocks are reserved: a full disk is an error here, once, and not at a sync point. */
static int fill(int dirfd, int fd)
{
	static const uint8_t zeros[KV_SYNC_FILE];
	struct stat st;
	if (fstatat(dirfd, "data.mdb", &st, 0) || fchmod(fd, st.st_mode & 0666))
		return kv_fail(errno);
	if (fchown(fd, st.st_uid, st.st_gid) && fchown(fd, (uid_t)-1, st.st_gid) && geteuid() == 0)
		return kv_fail(errno); /* others than root may not give it away, and need not */
	ssize_t n = pwrite(fd, zeros, sizeof zeros, 0);
	if (n != sizeof zeros)
		return kv_fail(n < 0 ? errno : ENOSPC);
	return fsync(fd) ? kv_fail(errno) : 0;
}

/* Makes it under a name of its own and links it into place; who is slower takes the other's. */
static int make(int dirfd)
{
	char name[32];
	uint64_t random;
	if (getrandom(&random, sizeof random, 0) != sizeof random)
		return kv_fail(errno);
	snprintf(name, sizeof name, FILE_NAME ".%016llx", (unsigned long long)random);
	KV_FD int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return kv_fail(errno);
	int r = fill(dirfd, fd);
	if (r == 0 && linkat(dirfd, name, dirfd, FILE_NAME, 0) && errno != EEXIST)
		r = kv_fail(errno);
	unlinkat(dirfd, name, 0);
	return r;
}

int kv_syncfile_open(int dirfd, bool named, int *ret)
{
	int fd = openat(dirfd, FILE_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT) {
		int r = make(dirfd);
		if (r)
			return r;
		fd = openat(dirfd, FILE_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd < 0)
		return kv_fail(errno);
	if (!named && fsync(dirfd)) { /* whoever linked it may not have come this far */
		close(fd);
		return kv_fail(EIO);
	}
	*ret = fd;
	return 0;
}

/* ---- before LMDB opens, and after it closed ---- */

enum verdict { KEEP, WALK, PUT_BACK, FOREIGN, AMBIGUOUS };

/* What the record means for the file that is there.  The newest state is whole in the memory of the kernel that wrote it, whatever the
 * disk has.  On another device or mount that memory may not be what is seen; after another boot it is gone. */
static enum verdict judge(
	const struct kv_sync_record *rec, const struct kv_sync_place *here, const struct kv_metas *now, const uint8_t uuid[16])
{
	static const uint8_t unknown[16];
	bool same_boot = memcmp(rec->place.boot, here->boot, sizeof here->boot) == 0;
	bool same_file = rec->place.ino == here->ino || !rec->place.ino || !here->ino;
	if (memcmp(uuid, unknown, 16) != 0 && memcmp(uuid, rec->uuid, 16) != 0)
		return FOREIGN;
	/* What was flushed before the record was written cannot be older: another file has been put in its place. */
	if (kv_metas_sound(now) && kv_metas_older(now, &rec->metas))
		return FOREIGN;
	if (same_boot && rec->failed)
		return PUT_BACK;
	if (same_boot)
		return same_file && rec->place.dev == here->dev && rec->place.mount == here->mount ? KEEP : WALK;
	return same_file ? PUT_BACK : AMBIGUOUS;
}

struct settling {
	int datafd, syncfd;
	bool rdonly, alone;
	struct kv_sync_record rec;
};

static int put_back(const struct settling *s, struct kvfs_error *err)
{
	const char *what = s->rec.failed ? "the disk failed" : "the power went";
	if (!s->alone && s->rec.failed && s->rdonly)
		return 0;
	if (!s->alone)
		return kv_explain(
			err, EBUSY, "%s while the store was in use, and a program still has it open: end that first", what);
	if (s->rdonly)
		return kv_explain(err, EROFS,
			"%s while the store was in use: it has to be opened once for writing (`kvfs sync`), then it can be read",
			what);
	if (!kv_metas_whole(s->datafd, &s->rec.metas))
		return kv_explain(err, EUCLEAN,
			"%s, and what had been flushed before is not whole on the disk; restore a backup, or remove the store's "
			"file "
			"'" FILE_NAME "' to read what can be read",
			what);
	int r = kv_metas_write(s->datafd, &s->rec.metas);
	return r ? kv_explain(err, -r, "data.mdb: %s", strerror(-r)) : 0;
}

/* Everything that was written is flushed, and the record says so. */
static int tighten(int datafd, int syncfd, struct kv_sync_record *rec)
{
	if (fdatasync(datafd))
		return kv_fail(errno);
	rec->loose = rec->failed = false;
	int r = kv_syncfile_write(syncfd, rec);
	return r || fdatasync(syncfd) == 0 ? r : kv_fail(errno);
}

static int settle(const struct settling *s, enum verdict v, struct kvfs_error *err)
{
	if (v == AMBIGUOUS)
		return kv_explain(err, ESTALE,
			"it was copied after the power went and before the original was opened; open that, or remove the file "
			"'" FILE_NAME "' here if this data.mdb was not copied so");
	if (v == PUT_BACK || (v == WALK && s->alone)) {
		struct kv_metas now;
		if (v == WALK && kv_metas_read(s->datafd, kv_metas_page_size(&s->rec.metas), &now) == 0 &&
			kv_metas_whole(s->datafd, &now))
			return 0;
		return put_back(s, err);
	}
	return 0;
}

int kv_syncfile_settle(int dirfd, bool rdonly, const uint8_t uuid[16], bool *ret_alone, bool *ret_loose, struct kvfs_error *err)
{
	struct settling s = {.rdonly = rdonly, .alone = !kv_dbfile_in_use(dirfd)};
	struct kv_sync_place here = {0};
	struct kv_metas now;
	*ret_alone = s.alone;
	*ret_loose = false;
	KV_FD int syncfd = openat(dirfd, FILE_NAME, (rdonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (syncfd < 0)
		return errno == ENOENT ? 0 : kv_explain(err, errno, "the store's file '" FILE_NAME "': %s", strerror(errno));
	int r = kv_syncfile_read(syncfd, &s.rec);
	if (r || !s.rec.loose)
		return r == -ENOENT ? 0 : r ? kv_explain(err, -r, "the store's file '" FILE_NAME "': %s", strerror(-r)) : 0;
	KV_FD int datafd = openat(dirfd, "data.mdb", (rdonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
	if (datafd < 0)
		return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	if (kv_metas_read(datafd, kv_metas_page_size(&s.rec.metas), &now))
		return 0; /* too short to be what the record is about */
	s.datafd = datafd;
	s.syncfd = syncfd;
	kv_sync_place(dirfd, &here);
	enum verdict v = judge(&s.rec, &here, &now, uuid);
	r = settle(&s, v, err);
	*ret_loose = v != FOREIGN;
	if (r || rdonly || !s.alone)
		return r;
	r = tighten(datafd, syncfd, &s.rec);
	*ret_loose = false;
	return r ? kv_explain(err, -r, "cannot flush: %s", strerror(-r)) : 0;
}

void kv_syncfile_leave(int dirfd, bool locked)
{
	struct kv_sync_record rec = {0};
	KV_FD int lock = locked ? -1 : openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if ((!locked && (lock < 0 || kv_syncfile_lock(lock))) || kv_dbfile_in_use(dirfd))
		return;
	KV_FD int syncfd = openat(dirfd, FILE_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	KV_FD int datafd = openat(dirfd, "data.mdb", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (syncfd >= 0 && datafd >= 0 && kv_syncfile_read(syncfd, &rec) == 0 && rec.loose && !rec.failed)
		tighten(datafd, syncfd, &rec);
}
