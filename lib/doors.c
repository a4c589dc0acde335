/* The table of doors, first part: the file, the slots, who is there.  doors_table.h has the bytes and the invariants. */
#include "doors_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "err.h"

#define TABLE_NAME "doors"
#define TABLE_VERSION 3
#define OPEN_TRIES 200 /* 1 ms apart when somebody is in the way */

/* ---- the process and its door ---- */

static uint64_t read_small(const char *path, char *buf, size_t cap)
{
	KV_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, cap - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? (uint64_t)n : 0;
}

/* Without /proc these are 0, and 0 equals 0: then nothing is known against anybody. */
static uint64_t boot_hash(void)
{
	char id[64];
	uint64_t hash = 0xcbf29ce484222325;

	if (!read_small("/proc/sys/kernel/random/boot_id", id, sizeof id))
		return 0;
	for (const char *p = id; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3;
	return hash;
}

static uint64_t pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino;
}

static uint64_t start_time(void)
{
	char stat_line[1024], *p;
	unsigned long long ticks = 0;

	if (!read_small("/proc/self/stat", stat_line, sizeof stat_line))
		return 0;
	p = strrchr(stat_line, ')'); /* the name before it may hold anything */
	if (p)
		sscanf(p + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &ticks);
	return ticks;
}

static int64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return kv_ns(ts);
}

static int lock_bytes(int fd, int cmd, short type, off_t start, off_t len, struct flock *ret)
{
	*ret = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	return fcntl(fd, cmd, ret) < 0 ? -errno : 0;
}

/* When the kernel cannot tell, a door counts as alive: that only keeps things longer. */
bool kv_doors_slot_alive(struct kv_doors *d, unsigned slot)
{
	struct flock fl;

	if (slot == d->self)
		return true;
	return lock_bytes(d->fd, F_GETLK, F_WRLCK, slot, 1, &fl) < 0 || fl.l_type != F_UNLCK;
}

void kv_doors_incarnate(struct door *door)
{
	door->id = 0; /* first: nobody may take the old entry for that of the new lock holder */
	door->incarnation = door->incarnation % INCARNATIONS + 1;
}

void kv_doors_reap(struct kv_doors *d, unsigned slot)
{
	struct door *door = &d->t->door[slot];
	struct flock fl;

	if (slot == d->self || !door->dirty || kv_doors_slot_alive(d, slot))
		return;
	KV_GUARD(&d->reap_lock);
	if (lock_bytes(d->fd, F_SETLK, F_WRLCK, slot, 1, &fl) < 0)
		return;
	if (door->dirty) {
		kv_doors_incarnate(door);
		kv_doors_sweep(d, slot);
		kv_doors_feed_gone(d, slot);
		door->dirty = 0;
	}
	lock_bytes(d->fd, F_SETLK, F_UNLCK, slot, 1, &fl);
}

/* Text in the table is kept in words, so that a reader and a writer are never in a data race; at worst it is half new. */
static void text_store(_Atomic uint64_t *dst, size_t words, const char *text)
{
	for (size_t i = 0; i < words; i++) {
		char part[8] = {0};
		size_t n = strnlen(text, sizeof part);
		uint64_t word;

		memcpy(part, text, n);
		memcpy(&word, part, sizeof word);
		dst[i] = word;
		text += n;
	}
}

static void text_load(const _Atomic uint64_t *src, size_t words, char *ret)
{
	for (size_t i = 0; i < words; i++) {
		uint64_t word = src[i];

		memcpy(ret + i * sizeof word, &word, sizeof word);
	}
	ret[words * 8 - 1] = '\0';
}

/* ---- opening: the file ---- */

static struct shape shape_of_now(void)
{
	return (struct shape){
		.magic = "KVFSDOOR",
		.version = TABLE_VERSION,
		.header_size = sizeof(struct header),
		.doors = KV_DOORS_MAX,
		.door_size = sizeof(struct door),
		.buckets = BUCKETS,
		.bucket_size = sizeof(struct bucket),
		.ring = RING,
		.file_size = sizeof(struct table),
		.boot = boot_hash(),
	};
}

/* Fills a new file with an empty table, all of its blocks reserved: a full disk is an error here and not a SIGBUS later. */
static int table_fill(int dirfd, int fd, mode_t mode, gid_t gid)
{
	const struct header h = {.shape = shape_of_now(), .all = 1}; /* what was held before this table is unknown */
	struct stat dir;
	int r;

	do
		r = posix_fallocate(fd, 0, sizeof(struct table));
	while (r == EINTR);
	if (r)
		return kv_fail(r);
	/* Root gives the table to the owner of the store: it must not shut them out. */
	if (fstat(dirfd, &dir) < 0 || (fchown(fd, dir.st_uid, gid) < 0 && gid != (gid_t)-1 && fchown(fd, (uid_t)-1, gid) < 0) ||
		fchmod(fd, mode) < 0)
		return kv_fail(errno);
	if (pwrite(fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
		return kv_fail(EIO);
	return 0;
}

/* Makes the table under a name of its own and links it into place.  0 also when another process was first. */
static int table_make(int dirfd, mode_t mode, gid_t gid)
{
	char name[32];
	uint64_t random;
	int fd, r;

	if (getrandom(&random, sizeof random, 0) != sizeof random)
		return kv_fail(errno);
	snprintf(name, sizeof name, TABLE_NAME ".%016llx", (unsigned long long)random);
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return kv_fail(errno);
	r = table_fill(dirfd, fd, mode, gid);
	if (r == 0 && linkat(dirfd, name, dirfd, TABLE_NAME, 0) < 0 && errno != EEXIST)
		r = kv_fail(errno);
	unlinkat(dirfd, name, 0);
	close(fd); /* before any lock is taken on it */
	return r;
}

/* Is the name still that of the open file? */
static bool table_named(int dirfd, int fd)
{
	struct stat named, opened;

	return fstatat(dirfd, TABLE_NAME, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &opened) == 0 &&
	       named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
}

/* D6: takes the name from a file that is not a table, if nobody lives in it.  -EBUSY */
static int table_discard(int dirfd, int fd, pid_t *ret_user)
{
	struct flock fl;
	int r = lock_bytes(fd, F_SETLK, F_WRLCK, 0, 0, &fl);

	if (r == -EACCES || r == -EAGAIN) {
		lock_bytes(fd, F_GETLK, F_WRLCK, 0, 0, &fl);
		*ret_user = fl.l_type == F_UNLCK ? 0 : fl.l_pid;
		return kv_fail(EBUSY);
	}
	if (r < 0)
		return kv_fail(-r);
	if (table_named(dirfd, fd) && unlinkat(dirfd, TABLE_NAME, 0) < 0)
		return kv_fail(errno);
	return 0;
}

/* 1 a table of this program and boot, 0 not one (*ret_boot: only the boot differs), or a negative errno. */
static int table_look(int fd, bool *ret_boot)
{
	struct shape want = shape_of_now(), have;
	struct stat st;
	ssize_t n;

	*ret_boot = false;
	if (fstat(fd, &st) < 0)
		return kv_fail(errno);
	if (!S_ISREG(st.st_mode))
		return kv_fail(EISDIR);
	n = pread(fd, &have, sizeof have, 0);
	if (n < 0)
		return kv_fail(errno);
	if ((size_t)n < sizeof have || st.st_size != (off_t)sizeof(struct table))
		return 0;
	*ret_boot = have.boot != want.boot;
	have.boot = want.boot;
	if (memcmp(&have, &want, sizeof want) != 0) {
		*ret_boot = false;
		return 0;
	}
	if (*ret_boot)
		return 0;
	/* Copied with holes, say.  Not posix_fallocate(): where the kernel cannot, it would write into a table in use. */
	if (st.st_blocks * 512 < st.st_size && fallocate(fd, 0, 0, st.st_size) < 0 && errno == ENOSPC)
		return kv_fail(ENOSPC);
	return 1;
}

static int explain_file(struct kvfs_error *err, int r)
{
	if (r == -ELOOP || r == -EISDIR || r == -ENXIO)
		return kv_explain(err, EUCLEAN, "the store's file '" TABLE_NAME "' is not a regular file: remove it");
	if (r == -ENOSPC || r == -EDQUOT)
		return kv_explain(err, -r, "no space for the store's file '" TABLE_NAME "' (%zu KiB)", sizeof(struct table) / 1024);
	if (r == -EROFS)
		return kv_explain(err, EROFS, "its disk is read-only: it can be read, and mounted with -o ro, but not changed");
	if (r == -EACCES || r == -EPERM)
		return kv_explain(err, -r,
			"%s: who reads it has to write its file '" TABLE_NAME "', too; use a mount of it, or have it shared",
			strerror(-r));
	return kv_explain(err, -r, "the store's file '" TABLE_NAME "': %s", strerror(-r));
}

/* Opens the table, making or replacing it as needed.  The lock that guards it is not taken here: see D6 and kv_doors_open(). */
static int table_open(int dirfd, mode_t mode, gid_t gid, struct kvfs_error *err)
{
	bool other_boot = false;
	pid_t user = 0;

	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		int fd = openat(dirfd, TABLE_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), r;

		if (fd < 0) {
			r = errno == ENOENT ? table_make(dirfd, mode, gid) : -errno;
			if (r < 0)
				return explain_file(err, r);
			continue;
		}
		r = table_look(fd, &other_boot);
		if (r > 0)
			return fd;
		if (r == 0)
			r = table_discard(dirfd, fd, &user);
		close(fd);
		if (r < 0 && r != -EBUSY)
			return explain_file(err, r);
		if (r == -EBUSY)
			usleep(1000); /* another opener that replaces it, or a door that lives in it */
	}
	if (other_boot)
		return kv_explain(err, EXDEV, "a program on another machine has the store open: use the store on one machine only");
	return kv_explain(err, EUCLEAN,
		"the store's file '" TABLE_NAME
		"' is damaged or of another kvfs version, and process %ld still uses it: end that first",
		(long)user);
}

/* ---- opening: the slot ---- */

static int door_claim(struct kv_doors *d, struct kvfs_error *err)
{
	struct header *h = &d->t->h;
	unsigned slot;
	struct flock fl;
	int r = -EAGAIN;

	for (slot = 0; slot < KV_DOORS_MAX && r < 0; slot++) {
		r = lock_bytes(d->fd, F_SETLK, F_WRLCK, slot, 1, &fl);
		if (r < 0 && r != -EACCES && r != -EAGAIN)
			return kv_explain(err, -r, "cannot lock the store's file '" TABLE_NAME "': %s", strerror(-r));
	}
	if (r < 0)
		return kv_explain(err, EUSERS, "%u processes have the store open already, the most it allows", KV_DOORS_MAX);
	d->self = slot - 1;
	for (uint32_t end = h->doors_end; end < slot;) {
		if (atomic_compare_exchange_weak(&h->doors_end, &end, slot))
			break;
	}
	kv_doors_incarnate(&d->t->door[d->self]);
	d->incarnation = d->t->door[d->self].incarnation;
	if (d->t->door[d->self].dirty) {
		kv_doors_sweep(d, d->self);
		kv_doors_feed_gone(d, d->self);
	}
	d->t->door[d->self].dirty = 1;
	return 0;
}

static void door_fill(struct kv_doors *d, const char *purpose, uint64_t pidns, uint64_t boot)
{
	struct door *door = &d->t->door[d->self];

	door->pid = (uint32_t)getpid();
	door->holds = 0;
	door->started = start_time();
	door->pidns = pidns;
	door->boot = boot;
	door->since = kv_ns(kv_now());
	door->snapshot = 0;
	door->handled = 0;
	text_store(door->purpose, KV_ARRAY_LEN(door->purpose), purpose);
	door->path_changes = 0;
	door->durability = 0;
	door->failed = 0;
	text_store(door->mountpoint, KV_ARRAY_LEN(door->mountpoint), "");
	door->id = d->id;
}

/* A live door that counts processes differently: its pids and ours cannot be compared, and LMDB's reader table breaks. */
static int foreign_check(struct kv_doors *d, uint64_t pidns, uint64_t boot, struct kvfs_error *err)
{
	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		struct door *door = &d->t->door[i];
		uint64_t id = door->id;
		char purpose[16];

		if (i == d->self || !id || (door->pidns == pidns && door->boot == boot) || !kv_doors_slot_alive(d, i))
			continue;
		usleep(1000); /* the lock may be that of a door just taking the slot of a foreign one that is gone */
		if (door->id != id || !kv_doors_slot_alive(d, i))
			continue;
		text_load(door->purpose, KV_ARRAY_LEN(door->purpose), purpose);
		return kv_explain(err, EXDEV,
			"a process of another pid namespace (a container?) has the store open (%s, pid %u there): "
			"mount the store once and share that mount",
			purpose, door->pid);
	}
	return 0;
}

static int door_enter(struct kv_doors *d, const char *purpose, struct kvfs_error *err)
{
	uint64_t pidns = pid_namespace(), boot;
	int r;

	assert(d->t);
	boot = d->t->h.shape.boot;
	do {
		if (getrandom(&d->id, sizeof d->id, 0) != sizeof d->id)
			return kv_explain(err, errno, "getrandom: %s", strerror(errno));
	} while (!d->id);
	/* Looked at before, so that those who are refused disturb nobody; and after, so that of two at once not both come in. */
	r = foreign_check(d, pidns, boot, err);
	if (r < 0)
		return r;
	door_fill(d, purpose, pidns, boot);
	return foreign_check(d, pidns, boot, err);
}

static void door_leave(struct kv_doors *d)
{
	struct door *door = &d->t->door[d->self];

	door->id = 0;
	kv_doors_feed_gone(d, d->self);
	door->dirty = 0;
}

/* Opens the table and takes a slot in it.  -EAGAIN: it lost its name between the open and the lock; from the lock on it cannot (D6).
 * On failure the caller unmaps and closes what there is. */
static int doors_try(struct kv_doors *d, int dirfd, mode_t mode, gid_t gid, struct kvfs_error *err)
{
	int r;

	d->fd = table_open(dirfd, mode, gid, err);
	if (d->fd < 0)
		return d->fd;
	d->t = mmap(NULL, sizeof *d->t, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, 0);
	if (d->t == MAP_FAILED) {
		d->t = NULL;
		return explain_file(err, -errno);
	}
	r = door_claim(d, err);
	if (r == 0 && !table_named(dirfd, d->fd))
		r = kv_explain(err, EAGAIN, "the store's file '" TABLE_NAME "' keeps vanishing");
	return r;
}

/* Without the file's descriptor: see kv_doors_close(). */
static void doors_unmap(struct kv_doors *d)
{
	if (d->t)
		munmap(d->t, sizeof *d->t);
	d->t = NULL;
}

int kv_doors_open(int dirfd, mode_t mode, gid_t gid, const char *purpose, struct kv_doors **ret, struct kvfs_error *err)
{
	KV_FREE struct kv_doors *d = calloc(1, sizeof *d);
	int r = -EAGAIN;

	if (!d)
		return kv_explain(err, ENOMEM, "%s", strerror(ENOMEM));
	d->snapshots.prev = d->snapshots.next = &d->snapshots;
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->reap_lock, NULL);
	for (int tries = 0; tries < OPEN_TRIES && r == -EAGAIN; tries++) {
		r = doors_try(d, dirfd, mode, gid, err);
		if (r == 0) {
			r = door_enter(d, purpose, err);
			if (r < 0)
				door_leave(d);
		}
		if (r < 0) {
			doors_unmap(d);
			kv_cleanup_fd(&d->fd);
		}
	}
	if (r == 0)
		*ret = kv_take(d);
	return r;
}

void kv_doors_close(struct kv_doors *d, bool inherited)
{
	if (!d)
		return;
	if (!inherited) {
		kv_doors_drop_holds(d);
		door_leave(d);
		close(d->fd); /* drops the lock: last */
		pthread_mutex_destroy(&d->reap_lock);
		pthread_mutex_destroy(&d->lock);
	}
	doors_unmap(d);
	free(d->local);
	free(d);
}

/* ---- who is there ---- */

uint64_t kv_doors_id(const struct kv_doors *d)
{
	return d->id;
}

bool kv_doors_alive(struct kv_doors *d, uint64_t id)
{
	if (!id)
		return false;
	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		if (d->t->door[i].id == id)
			return kv_doors_slot_alive(d, i);
	}
	return false;
}

int kv_doors_set_mountpoint(struct kv_doors *d, const char *path)
{
	struct door *door = &d->t->door[d->self];

	if (strlen(path) >= sizeof door->mountpoint)
		return kv_fail(ENAMETOOLONG);
	KV_GUARD(&d->lock);
	door->path_changes++;
	text_store(door->mountpoint, KV_ARRAY_LEN(door->mountpoint), path);
	door->path_changes++;
	return 0;
}

static void door_describe(const struct door *door, uint64_t id, struct kvfs_door *ret)
{
	uint32_t before;
	int tries = 1000;

	static_assert(sizeof door->purpose == sizeof ret->purpose && sizeof door->mountpoint == sizeof ret->mountpoint, "whole");
	ret->pid = (pid_t)door->pid;
	ret->id = id;
	ret->since_ns = door->since;
	ret->lagging = door->state & DOOR_LAGGING;
	ret->durability = (enum kvfs_durability)door->durability;
	ret->failed = (int)door->failed;
	text_load(door->purpose, KV_ARRAY_LEN(door->purpose), ret->purpose);
	do {
		before = door->path_changes;
		text_load(door->mountpoint, KV_ARRAY_LEN(door->mountpoint), ret->mountpoint);
	} while ((before % 2 || door->path_changes != before) && --tries);
}

ssize_t kv_doors_list(struct kv_doors *d, struct kvfs_door *ret, size_t n)
{
	size_t count = 0;

	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		uint64_t id = d->t->door[i].id;

		if (!id || !kv_doors_slot_alive(d, i))
			continue;
		if (count < n)
			door_describe(&d->t->door[i], id, &ret[count]);
		count++;
	}
	return (ssize_t)count;
}

/* ---- snapshots, the sync point ---- */

static void snapshot_publish(struct kv_doors *d)
{
	struct kv_doors_snapshot *oldest = d->snapshots.next;

	d->t->door[d->self].snapshot = oldest == &d->snapshots ? 0 : oldest->began_ns;
}

void kv_doors_snapshot_begin(struct kv_doors *d, struct kv_doors_snapshot *s)
{
	KV_GUARD(&d->lock);
	s->began_ns = monotonic_ns();
	s->next = &d->snapshots;
	s->prev = d->snapshots.prev;
	s->prev->next = s->next->prev = s;
	snapshot_publish(d);
}

void kv_doors_snapshot_end(struct kv_doors *d, struct kv_doors_snapshot *s)
{
	KV_GUARD(&d->lock);
	s->prev->next = s->next;
	s->next->prev = s->prev;
	snapshot_publish(d);
}

void kv_doors_oldest_snapshot(struct kv_doors *d, pid_t *ret_pid, uint64_t *ret_age_ms)
{
	int64_t oldest = INT64_MAX, now = monotonic_ns();
	pid_t pid = 0;

	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		struct door *door = &d->t->door[i];
		int64_t began = door->id ? door->snapshot : 0;

		if (began && began < oldest && kv_doors_slot_alive(d, i)) {
			oldest = began;
			pid = (pid_t)door->pid;
		}
	}
	*ret_pid = pid;
	*ret_age_ms = pid && now > oldest ? (uint64_t)(now - oldest) / 1000000 : 0;
}
