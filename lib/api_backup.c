/* Copies of a store's file: kvfs_backup() puts one elsewhere, kvfs_compact() in the place of the file itself.
 *
 * Crashes.  A backup is filled under a temporary name, flushed, and renamed; then its parent directory is flushed.  What a crash leaves
 * under the temporary name is removed by the next backup to that place.  A compaction fills `.new/data.mdb` and renames it over data.mdb:
 * before that the old file stands, after it the new one, both whole; lock.mdb is removed before, since it belongs to the old one and is
 * made anew by who opens next.
 *
 * Others.  The lock on the directory is the one under which doors take their slots and open the environment (store.c).  Who has taken it and
 * then sees no other door is alone until he lets it go. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "api.h"
#include "create.h"
#include "err.h"

#define DOORS_NAMED 4
#define REAPED 512 /* chunks */

static int oops(struct kvfs_error *err, const char *what)
{
	int e = errno;
	return kv_explain(err, e, "%s: %s", what, strerror(e));
}

/* ---- the file ---- */

struct copying {
	kvfs_progress_fn *progress;
	void *arg;
};

static bool is_sound(void *arg, const char *tree, struct kv_bytes key, struct kv_bytes value)
{
	struct kv_bytes payload;
	(void)arg;
	if (strcmp(tree, "main") == 0) {
		const uint8_t *k = key.data;
		return key.len && *k && *k <= KV_LOG + 1 &&
		       kv_db_open_record(*k - 1u, (struct kv_bytes){k + 1, key.len - 1}, value, &payload);
	}
	for (enum kv_table t = KV_DIRENT; t < KV_TABLES; t++)
		if (strcmp(tree, kv_db_table_name(t)) == 0)
			return kv_db_open_record(t, key, value, &payload);
	return false;
}

static int progress(void *arg, uint64_t done, uint64_t total)
{
	struct copying *c = arg;
	return c->progress ? c->progress(c->arg, done, total) : 0;
}

int kv_api_copy(struct kv_core *core, int to, kvfs_progress_fn *fn, void *arg, struct kvfs_error *err)
{
	struct copying copying = {fn, arg};
	struct kv_pages pages;
	struct kv_txn txn;
	int r = kv_api_state(core, &txn, &pages);
	if (r)
		return kv_core_explain(core, r, err);
	struct kv_copy copy = {.from = &pages, .to = to, .sound = is_sound, .progress = progress, .arg = &copying};
	r = kv_pages_copy(&copy);
	kv_db_read_end(&txn);
	if (r == -EUCLEAN)
		return kv_explain(err, EUCLEAN, "damaged, so not copied: %s; `kvfs check` says what suffers", copy.damage);
	return r ? kv_explain(err, -r, "%s", strerror(-r)) : 0;
}

/* A new file in `dirfd` with the state in it, and the mode and owner of the store's own. */
static int copy_into(struct kv_core *core, int dirfd, const char *name, kvfs_progress_fn *fn, void *arg, struct kvfs_error *err)
{
	struct stat st;
	KV_FD int to = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0 || fstat(kv_db_fd(core->db), &st))
		return oops(err, "making the copy");
	int r = kv_api_copy(core, to, fn, arg, err);
	if (r)
		return r;
	if (fchown(to, (uid_t)-1, st.st_gid) && errno != EPERM)
		return oops(err, "making the copy");
	return fchmod(to, st.st_mode & 0666) || fsync(to) ? oops(err, "making the copy") : 0;
}

/* ---- who else is there ---- */

/* -EBUSY with their names. */
static int check_alone(struct kvfs_store *store, const char *what, struct kvfs_error *err)
{
	struct kvfs_door doors[DOORS_NAMED + 1];
	char names[400] = "";
	ssize_t n = kvfs_doors(store, doors, KV_ARRAY_LEN(doors));
	if (n < 0)
		return kv_explain(err, (int)-n, "%s", strerror((int)-n));
	if (n <= 1)
		return 0;
	for (size_t i = 0, at = 0; i < kv_min((uint64_t)n, KV_ARRAY_LEN(doors)) && at < sizeof names; i++)
		if (doors[i].pid != getpid())
			at += (size_t)snprintf(names + at, sizeof names - at, "%sprocess %jd (%s%s%.60s)", at ? ", " : "",
				(intmax_t)doors[i].pid, doors[i].purpose, *doors[i].mountpoint ? " at " : "", doors[i].mountpoint);
	return kv_explain(err, EBUSY, "%s is in use by %s%s", what, names, n > DOORS_NAMED + 1 ? " and others" : "");
}

static int lock_dir(int dirfd, struct kvfs_error *err)
{
	while (flock(dirfd, LOCK_EX))
		if (errno != EINTR)
			return oops(err, "directory");
	return 0;
}

/* ---- compact ---- */

static uint64_t file_size(int dirfd)
{
	struct stat st;
	return fstatat(dirfd, "data.mdb", &st, 0) ? 0 : (uint64_t)st.st_size;
}

/* What was deleted or replaced waits for commits to free it, a slice each.  What cannot be freed is copied: no reason to fail. */
static void free_garbage(struct kv_core *core)
{
	struct kv_edit ed;
	for (uint64_t last = UINT64_MAX; kv_commit_begin(core, &ed) == 0;) {
		uint64_t left = ed.head.rec.garbage_bytes;
		if ((left == 0 || left == last) && !core->dead_walk && !kv_doors_walk(core->doors)) {
			kv_commit_abort(&ed);
			return;
		}
		last = left;
		ed.retiring = REAPED; /* as a commit that retires as much would */
		if (kv_commit_end(core, &ed, KV_SYNC_ORDER))
			return;
	}
}

/* Nobody else has the store open, or can.  The caller closes it, whatever comes of this. */
static int make_new(struct kvfs_store *store, int dirfd, kvfs_progress_fn *fn, void *arg, struct kvfs_error *err)
{
	kv_remove_new(dirfd);
	free_garbage(store->core);
	if (mkdirat(dirfd, KV_NEW_DIR, 0700))
		return oops(err, "making the new file");
	return copy_into(store->core, dirfd, KV_NEW_DIR "/data.mdb", fn, arg, err);
}

static int put_in_place(int dirfd, struct kvfs_error *err)
{
	if ((unlinkat(dirfd, "lock.mdb", 0) && errno != ENOENT) || renameat(dirfd, KV_NEW_DIR "/data.mdb", dirfd, "data.mdb") ||
		fsync(dirfd))
		return oops(err, "putting the new file in place");
	return 0;
}

static int compact(
	const char *path, kvfs_progress_fn *fn, void *arg, uint64_t *ret_before, uint64_t *ret_after, struct kvfs_error *err)
{
	struct kvfs_options opt = {.size = sizeof opt, .purpose = "compact"};
	struct kvfs_store *store;
	int r = kvfs_open(path, &opt, &store, err);
	if (r)
		return r;
	KV_FD int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dirfd < 0 ? oops(err, "directory") : lock_dir(dirfd, err);
	if (r == 0 && !kv_store_claim(store))
		r = kv_explain(err, EBUSY, "this process has the store open");
	if (r == 0)
		r = check_alone(store, "the store", err);
	if (r) {
		kvfs_close(store);
		return r;
	}
	uint64_t before = file_size(dirfd);
	r = make_new(store, dirfd, fn, arg, err);
	kvfs_close(store); /* LMDB must not have the old file open while lock.mdb goes */
	if (r == 0)
		r = put_in_place(dirfd, err);
	kv_remove_new(dirfd);
	if (r == 0 && ret_before)
		*ret_before = before;
	if (r == 0 && ret_after)
		*ret_after = file_size(dirfd);
	return r;
}

int kvfs_compact(
	const char *path, kvfs_progress_fn *fn, void *arg, uint64_t *ret_before, uint64_t *ret_after, struct kvfs_error *err)
{
	sigset_t mask;
	kv_db_block_stops(&mask);
	int r = compact(path, fn, arg, ret_before, ret_after, err);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	return r;
}

/* ---- backup ---- */

static int fill(struct kvfs_store *store, int dirfd, kvfs_progress_fn *fn, void *arg, struct kvfs_error *err)
{
	struct kv_core *core = store->core;
	struct stat st, dir;
	if (fstat(kv_db_fd(core->db), &st) || stat(core->path, &dir))
		return oops(err, "making the backup");
	int r = copy_into(core, dirfd, "data.mdb", fn, arg, err);
	if (r)
		return r;
	r = kv_format_write(dirfd, "FORMAT", core->super.page_size, core->super.uuid);
	if (r)
		return kv_explain(err, -r, "making the backup: %s", strerror(-r));
	if ((fchownat(dirfd, "FORMAT", (uid_t)-1, st.st_gid, 0) && errno != EPERM) ||
		fchmodat(dirfd, "FORMAT", st.st_mode & 0666, 0) || (fchown(dirfd, (uid_t)-1, dir.st_gid) && errno != EPERM) ||
		fchmod(dirfd, dir.st_mode & 07777) || fsync(dirfd))
		return oops(err, "making the backup");
	return 0;
}

/* The store that is at `dest` goes away: nobody may have it open. */
static int replace(struct kvfs_store *store, const char *dest, struct kv_target *p, struct kvfs_error *err)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_RDONLY, .purpose = "backup"};
	struct kvfs_store *old = NULL;
	KV_FD int oldfd = openat(p->parent, p->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (oldfd < 0)
		return oops(err, "the old backup");
	int r = kvfs_open(dest, &opt, &old, err);
	bool own = r == 0 && (old->core == store->core || old->core->refs > 1);
	if (r == -EUCLEAN)
		r = 0; /* a damaged one is what is to be replaced */
	if (r)
		return r;
	if (own)
		r = kv_explain(err, EBUSY, "this process has it open");
	if (r == 0)
		r = lock_dir(oldfd, err);
	if (r == 0 && old)
		r = check_alone(old, "the store that is to be replaced", err);
	kvfs_close(old);
	p->placed = r == 0 && renameat2(p->parent, p->temp, p->parent, p->name, RENAME_EXCHANGE) == 0;
	if (r == 0 && (!p->placed || fsync(p->parent)))
		r = oops(err, "putting the backup in place");
	if (r == 0)
		kv_target_drop(p, oldfd);
	return r;
}

static int settle(struct kvfs_store *store, const char *dest, struct kv_target *p, unsigned flags, struct kvfs_error *err)
{
	int r = kv_target_settle(p, err);
	return r == -EEXIST && flags & KVFS_BACKUP_REPLACE ? replace(store, dest, p, err) : r;
}

int kvfs_backup(struct kvfs_store *store, const char *dest, unsigned flags, kvfs_progress_fn *fn, void *arg, struct kvfs_error *err)
{
	struct kv_target p = {.parent = -1};
	int dirfd = -1, r = kv_core_check(store->core);
	if (r || flags & ~(unsigned)KVFS_BACKUP_REPLACE)
		return kv_explain(err, r ? -r : EINVAL, "%s", strerror(r ? -r : EINVAL));
	r = kv_target_find(dest, "backup", &p, err);
	if (r)
		return r;
	if (!(flags & KVFS_BACKUP_REPLACE))
		r = kv_target_check(&p, err);
	if (r == 0)
		r = kv_target_take(&p, &dirfd, err);
	if (r == 0)
		r = fill(store, dirfd, fn, arg, err);
	if (r == 0)
		r = settle(store, dest, &p, flags, err);
	if (r && dirfd >= 0 && !p.placed)
		kv_target_drop(&p, dirfd);
	if (dirfd >= 0)
		close(dirfd);
	close(p.parent);
	return r;
}
