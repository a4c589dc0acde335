/* Opening and closing stores, and the registry of those this process has open: LMDB must not open one environment twice in a
 * process, and the doors file's locks would fall if it were closed once too often.
 *
 * After a fork the child's registry is empty and everything it inherited is dead (core.h, fork_count). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "ballast.h"
#include "core.h"
#include "create.h"
#include "durable.h"
#include "err.h"
#include "meta.h"
#include "syncfile.h"

#define BUFFER_DEFAULT ((size_t)64 << 20)
#define BUFFER_MIN ((size_t)256 << 10)
#define KV_OPEN_PIN (1u << 16) /* beside the public flags: see kv_store_pin() */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kv_core *registry; /* protected by registry_lock */
static _Atomic uint64_t fork_count;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

uint64_t kv_fork_count(void)
{
	return atomic_load_explicit(&fork_count, memory_order_relaxed);
}

static void before_fork(void)
{
	pthread_mutex_lock(&registry_lock);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&registry_lock);
}

static void after_fork_child(void)
{
	registry = NULL;
	atomic_fetch_add(&fork_count, 1);
	pthread_mutex_unlock(&registry_lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- checks before opening ---- */

/* LMDB's locks and memory maps work between the processes of one machine, on its own file systems. */
static int check_local(int dirfd, struct kvfs_error *err)
{
	static const struct {
		unsigned type;
		const char *name;
	} remote[] = {{0x6969, "NFS"}, {0x517B, "SMB"}, {0xFF534D42, "CIFS"}, {0xFE534D42, "SMB2"}, {0x01021997, "9p"},
		{0x5346414F, "AFS"}, {0x00C36400, "Ceph"}, {0x65735546, "FUSE"}, {0x0BD00BD0, "Lustre"}, {0x013111A8, "IBRIX"},
		{0x47504653, "GPFS"}};
	struct statfs fs;
	if (fstatfs(dirfd, &fs))
		return kv_explain(err, errno, "%s", strerror(errno));
	for (size_t i = 0; i < KV_ARRAY_LEN(remote); i++)
		if ((unsigned)fs.f_type == remote[i].type)
			return kv_explain(err, EXDEV,
				"the store lies on a %s file system; it needs a local disk (share a mount of it instead)",
				remote[i].name);
	return 0;
}

static int open_dir(const char *path, const struct kvfs_options *opt, int *ret, struct kvfs_error *err)
{
	bool made = false;
	if (opt->flags & KVFS_CREATE) {
		made = mkdir(path, 0700) == 0;
		if (!made && errno != EEXIST)
			return kv_explain(err, errno, "cannot make the directory: %s", strerror(errno));
	}
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		int e = errno;
		return kv_explain(err, e, "%s",
			e == ENOENT    ? "no store there"
			: e == ENOTDIR ? "not a directory, so not a store"
				       : strerror(e));
	}
	if (made && ((opt->set_group && fchown(fd, (uid_t)-1, opt->group)) || fchmod(fd, opt->mode))) {
		int e = errno;
		close(fd);
		rmdir(path);
		return kv_explain(err, e, "cannot set group and mode: %s", strerror(e));
	}
	if (made) { /* the name of the new directory must survive what its contents survive */
		KV_FD int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (parent >= 0)
			fsync(parent);
	}
	*ret = fd;
	return 0;
}

/* Openers come one by one: they put back what a power cut left, and LMDB fills a fresh lock file under a lock of its own, but one that fails or is
 * killed in the middle of that leaves those who waited for it with a file that says "transaction 0": their commits would overwrite what
 * others committed.  The lock goes with the descriptor. */
static int lock_dir(int dirfd, struct kvfs_error *err)
{
	while (flock(dirfd, LOCK_EX))
		if (errno != EINTR)
			return kv_explain(err, errno, "%s", strerror(errno));
	return 0;
}

/* What was found before LMDB opened. */
struct found {
	bool alone; /* nobody else has it open */
	bool loose; /* commits are not flushed each (durable.h) */
};

/* Is a sound store there?  Makes one if asked to.  From here on openers wait for one another. */
static int check_store(int dirfd, const char *path, const struct kvfs_options *opt, struct found *ret, struct kvfs_error *err)
{
	struct stat st;
	uint8_t uuid[16];
	int r = check_local(dirfd, err);
	if (r)
		return r;
	if (fstatat(dirfd, "data.mdb", &st, 0)) {
		if (errno != ENOENT)
			return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
		if (!(opt->flags & KVFS_CREATE))
			return kv_explain(err, ENOENT, "no store there (the directory has no data.mdb)");
		r = kv_create(dirfd, path, opt, err);
		if (r)
			return r;
	} else if (opt->flags & KVFS_EXCL) {
		return kv_explain(err, EEXIST, "a store is there already");
	}
	r = kv_format_check(dirfd, uuid, err);
	if (r == 0)
		r = lock_dir(dirfd, err);
	if (r == 0)
		r = kv_syncfile_settle(dirfd, opt->flags & KVFS_RDONLY, uuid, &ret->alone, &ret->loose, err);
	if (r)
		return r;
	r = kv_dbfile_check(dirfd, opt->flags & KV_OPEN_PIN, err);
	return r == -ENOENT ? kv_explain(err, ENOENT, "no store there") : r;
}

int kv_core_explain(struct kv_core *core, int r, struct kvfs_error *err)
{
	pid_t pid = 0;
	uint64_t age_ms;
	if (r == -EUSERS && core->doors)
		kv_doors_oldest_snapshot(core->doors, &pid, &age_ms);
	if (!pid)
		return kv_explain(err, -r, "%s", strerror(-r));
	return kv_explain(err, -r, "there are as many snapshots of it as it allows; end some, the oldest is that of process %jd",
		(intmax_t)pid);
}

static int check_super(struct kv_core *core, struct kvfs_error *err)
{
	struct kv_txn txn;
	int r = kv_db_read(core->db, &txn);
	if (r)
		return kv_explain(err, -r, "%s", strerror(-r));
	r = kv_meta_get(&txn, &core->super);
	kv_db_read_end(&txn);
	if (r == -ENOENT)
		return kv_explain(err, EMEDIUMTYPE, "an LMDB file, but not a kvfs store");
	if (r)
		return kv_explain(err, -r, "the store's own record is damaged; restore a backup");
	const struct kv_rec_super *s = &core->super;
	if (s->format != KV_FORMAT_VERSION || s->incompat & ~KV_INCOMPAT_KNOWN)
		return kv_explain(err, EMEDIUMTYPE,
			"the store has format %u (features %llx), this kvfs (%s) knows format %d; use a newer kvfs", s->format,
			(unsigned long long)s->incompat, KVFS_VERSION, KV_FORMAT_VERSION);
	if (s->chunk_size < 512 || s->chunk_size > 1 << 20 || s->inline_max > 4096 || s->inline_max >= s->chunk_size)
		return kv_explain(err, EUCLEAN, "the store's own record is damaged; restore a backup");
	core->layout = (struct kv_layout){s->chunk_size, s->inline_max};
	return 0;
}

/* ---- the core ---- */

static void free_core(struct kv_core *core, bool inherited)
{
	if (!core)
		return;
	bool leave = core->durable && !inherited && kv_doors_loose(core->doors);
	kv_durable_close(core, inherited);
	kv_db_close(core->db, inherited);
	kv_doors_close(core->doors, inherited);
	KV_FD int dirfd = leave ? open(core->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dirfd >= 0) {
		sigset_t mask;
		kv_db_block_stops(&mask);
		kv_syncfile_leave(dirfd, core->claimed);
		pthread_sigmask(SIG_SETMASK, &mask, NULL);
	}
	pthread_mutex_destroy(&core->ino_lock);
	pthread_mutex_destroy(&core->sessions_lock);
	pthread_mutex_destroy(&core->feed_lock);
	pthread_mutex_destroy(&core->queue_lock);
	free(core->path);
	free(core);
}

/* Is the file system itself read-only, not just our mount of it?  (mountinfo: the options after " - ".) */
static bool is_read_only_disk(dev_t dev)
{
	char *line = NULL;
	size_t cap = 0;
	bool ro = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && getline(&line, &cap, f) > 0) {
		unsigned maj, min;
		char fs[64], source[256], options[32];
		const char *sep = strstr(line, " - ");
		if (sep && sscanf(line, "%*d %*d %u:%u", &maj, &min) == 2 && makedev(maj, min) == dev &&
			sscanf(sep, " - %63s %255s %31s", fs, source, options) == 3 && strncmp(options, "ro", 2) == 0 &&
			(options[2] == ',' || options[2] == 0))
			ro = true;
	}
	free(line);
	if (f)
		fclose(f);
	return ro;
}

/* Under the lock of check_store(), as kvfs_compact() and kvfs_backup() replace files. */
static int open_db(struct kv_core *core, int dirfd, const struct kv_db_options *opt, struct kvfs_error *err)
{
	struct stat here, there;
	int r = fstat(dirfd, &here) || stat(core->path, &there) || here.st_ino != there.st_ino || here.st_dev != there.st_dev
			? kv_explain(err, ESTALE, "the store was replaced just now; try again")
			: 0;
	if (r == 0 && !opt->no_lock)
		r = kv_dbfile_reserve_lock(dirfd, opt->mode, err);
	return r ? r : kv_db_open(core->path, opt, &core->db, err);
}

static int open_core(
	struct kv_core *core, int dirfd, const struct kvfs_options *opt, const struct found *found, struct kvfs_error *err)
{
	struct stat st;
	if (fstatat(dirfd, "data.mdb", &st, 0))
		return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	mode_t mode = st.st_mode & 0666;
	bool no_lock = false;
	int r = kv_doors_open(
		dirfd, mode, opt->set_group ? opt->group : (gid_t)-1, opt->purpose ? opt->purpose : "library", &core->doors, err);
	if (r == -EROFS && core->rdonly) {
		if (!is_read_only_disk(st.st_dev))
			return kv_explain(err, EROFS,
				"mounted read-only here while others may write to it: readers must be able to register in its "
				"files");
		no_lock = true; /* nobody can change what we read */
	} else if (r) {
		return r;
	}
	if (core->doors && found->alone)
		kv_doors_begin_sync(core->doors, found->loose);
	else if (core->doors && found->loose)
		kv_doors_set_loose(core->doors);
	struct kv_db_options dbopt = {
		.rdonly = core->rdonly, .no_lock = no_lock, .pin = core->pin, .map_size = opt->map_size, .mode = mode};
	r = open_db(core, dirfd, &dbopt, err);
	if (r == 0 && !core->pin)
		r = check_super(core, err);
	if (r == 0 && !core->rdonly && !core->pin) {
		r = kv_durable_open(core, dirfd);
		if (r)
			kv_explain(err, -r, "%s", strerror(-r));
		else
			kv_ballast_fill(dirfd, false);
	}
	return r == -EUSERS ? kv_core_explain(core, r, err) : r;
}

static int new_core(int dirfd, const char *path, const struct kvfs_options *opt, const struct found *found, struct kv_core **ret,
	struct kvfs_error *err)
{
	struct kv_core *core = calloc(1, sizeof *core);
	if (!core)
		return kv_explain(err, ENOMEM, "out of memory");
	pthread_mutex_init(&core->ino_lock, NULL);
	pthread_mutex_init(&core->sessions_lock, NULL);
	pthread_mutex_init(&core->feed_lock, NULL);
	pthread_mutex_init(&core->queue_lock, NULL);
	core->queue_end = &core->queue;
	core->path = realpath(path, NULL);
	core->rdonly = opt->flags & KVFS_RDONLY;
	core->pin = opt->flags & KV_OPEN_PIN;
	core->durability = opt->durability;
	core->slice = KV_SLICE;
	core->group_ns = KV_GROUP_NS;
	core->buffer_limit = kv_max(opt->buffer_size, BUFFER_MIN);
	core->fork_count = kv_fork_count();
	core->dead_walk = 1;
	core->refs = 1;
	int r = core->path ? open_core(core, dirfd, opt, found, err) : kv_explain(err, errno, "%s", strerror(errno));
	if (r) {
		free_core(core, false);
		return r;
	}
	*ret = core;
	return 0;
}

static struct kv_core *find_core(const struct stat *st)
{
	for (struct kv_core *c = registry; c; c = c->next)
		if (c->dev == st->st_dev && c->inode == st->st_ino)
			return c;
	return NULL;
}

static int get_core(const char *path, const struct kvfs_options *opt, struct kv_core **ret, struct kvfs_error *err)
{
	KV_FD int dirfd = -1;
	struct stat st;
	int r = open_dir(path, opt, &dirfd, err);
	if (r)
		return r;
	KV_GUARD(&registry_lock);
	struct kv_core *core = fstatat(dirfd, "data.mdb", &st, 0) == 0 ? find_core(&st) : NULL;
	if (core) {
		if (opt->flags & KVFS_EXCL)
			return kv_explain(err, EEXIST, "a store is there already");
		if (core->claimed)
			return kv_explain(err, EBUSY, "this process is writing the store anew");
		if (core->pin && !(opt->flags & KV_OPEN_PIN))
			return kv_explain(err, EBUSY, "this process is checking the store");
		if (core->rdonly && !(opt->flags & KVFS_RDONLY))
			return kv_explain(err, EROFS, "this process has the store open read-only");
		core->refs++;
		*ret = core;
		return 0;
	}
	struct found found = {0};
	r = check_store(dirfd, path, opt, &found, err);
	if (r == 0)
		r = new_core(dirfd, path, opt, &found, &core, err);
	if (r)
		return r;
	fstatat(dirfd, "data.mdb", &st, 0);
	core->dev = st.st_dev;
	core->inode = st.st_ino;
	core->next = registry;
	registry = core;
	*ret = core;
	return 0;
}

const char *kvfs_durability_name(enum kvfs_durability level)
{
	static const char *const names[] = {NULL, "full", "relaxed", "none"};
	return level < KV_ARRAY_LEN(names) ? names[level] : NULL;
}

static int level_of(const char *name, enum kvfs_durability *ret)
{
	for (unsigned i = KVFS_FULL; i <= KVFS_NONE; i++)
		if (strcmp(name, kvfs_durability_name((enum kvfs_durability)i)) == 0) {
			*ret = (enum kvfs_durability)i;
			return 0;
		}
	return -EINVAL;
}

static int open_store(const char *path, struct kvfs_options opt, struct kvfs_store **ret, struct kvfs_error *err)
{
	if (!opt.mode)
		opt.mode = 0700;
	if (opt.set_group)
		opt.mode |= S_ISGID;
	const char *level = opt.durability ? NULL : secure_getenv("KVFS_DURABILITY");
	if (!opt.durability)
		opt.durability = KVFS_FULL;
	if (level && *level && level_of(level, &opt.durability))
		return kv_explain(err, EINVAL, "KVFS_DURABILITY is '%.20s': there are full, relaxed and none", level);
	if (!opt.buffer_size)
		opt.buffer_size = BUFFER_DEFAULT;
	pthread_once(&fork_once, watch_forks);
	struct kvfs_store *store = calloc(1, sizeof *store);
	if (!store)
		return kv_explain(err, ENOMEM, "out of memory");
	sigset_t mask;
	kv_db_block_stops(&mask); /* while the directory is locked */
	int r = get_core(path, &opt, &store->core, err);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (r) {
		free(store);
		return r;
	}
	store->rdonly = opt.flags & KVFS_RDONLY;
	*ret = store;
	return 0;
}

int kvfs_open(const char *path, const struct kvfs_options *user, struct kvfs_store **ret, struct kvfs_error *err)
{
	struct kvfs_options opt = {0};
	if (user)
		memcpy(&opt, user, kv_min(user->size, sizeof opt));
	if (opt.flags & ~(unsigned)(KVFS_RDONLY | KVFS_CREATE | KVFS_EXCL) || opt.durability > KVFS_NONE ||
		(opt.flags & KVFS_RDONLY && opt.flags & KVFS_CREATE))
		return kv_explain(err, EINVAL, "unknown or contradicting options");
	return open_store(path, opt, ret, err);
}

int kv_store_pin(const char *path, struct kvfs_store **ret, struct kvfs_error *err)
{
	return open_store(path, (struct kvfs_options){.flags = KVFS_RDONLY | KV_OPEN_PIN, .purpose = "check"}, ret, err);
}

bool kv_store_claim(struct kvfs_store *store)
{
	KV_GUARD(&registry_lock);
	store->core->claimed = store->core->refs == 1;
	return store->core->claimed;
}

void kvfs_close(struct kvfs_store *store)
{
	if (!store)
		return;
	struct kv_core *core = store->core;
	free(store);
	if (kv_core_check(core)) { /* in a child: the memory is a copy, everything else is the parent's */
		if (--core->refs == 0)
			free_core(core, true);
		return;
	}
	KV_GUARD(&registry_lock);
	if (--core->refs)
		return;
	struct kv_core **at = &registry;
	while (*at != core)
		at = &(*at)->next;
	*at = core->next;
	free_core(core, false);
}

const char *kvfs_version(void)
{
	return KVFS_VERSION;
}
