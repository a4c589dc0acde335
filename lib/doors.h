/* The shared table of doors: a small file, `doors`, in the store's directory, mapped by every process that has the store open.
 *
 * It says who is there (a slot per door, alive as long as the process holds a POSIX lock on the slot's byte: the kernel
 * drops it however the process ends), and which old values are still read (holds).  It is never read for what a value is:
 * losing the file while no door is open loses nothing.
 *
 * One table per process and store: POSIX locks fall when the process closes *any* descriptor of the file, so nobody else in the
 * process may open it (as with LMDB's lock file). */
#ifndef KV_DOORS_H
#define KV_DOORS_H

#include <kvfs.h>

#define KV_DOORS_MAX 512 /* processes that have one store open */
#define KV_HOLDS_MAX 65536 /* different (door, blob, generation) held at once, all doors together */
#define KV_NAMES_MAX 1024 /* names reserved at once, all doors together */

struct kv_doors;

/* Opens or makes the table in directory `dirfd` (used only during the call) and takes a slot.  `mode`/`gid`: of the file if it is made
 * (gid -1: leave).
 * -EXDEV a live door is of another pid namespace (or boot) · -EUSERS no slot free · -ENOSPC · -EUCLEAN the file is not a table this kvfs
 * knows and a process still uses it (else it is replaced) · -EROFS/-EACCES: the caller goes on without doors if it only reads a store
 * that nobody can write.  Fills err (may be NULL) on failure. */
int kv_doors_open(int dirfd, mode_t mode, gid_t gid, const char *purpose, struct kv_doors **ret, struct kvfs_error *err);
/* Gives the slot and the holds back; takes NULL.  `inherited`: in a forked child: unmap and free memory only, leave slot and locks alone
 * (and the descriptor: closing it could drop the locks of a table that the child has opened since). */
void kv_doors_close(struct kv_doors *d, bool inherited);

/* Random, never 0; distinguishes this door from every other, past ones too. */
uint64_t kv_doors_id(const struct kv_doors *d);
bool kv_doors_alive(struct kv_doors *d, uint64_t id);
/* "" when it is gone again.  -ENAMETOOLONG: kept as it was. */
int kv_doors_set_mountpoint(struct kv_doors *d, const char *path);
ssize_t kv_doors_list(struct kv_doors *d, struct kvfs_door *ret, size_t n);

/* ---- holds: "a handle of mine reads (blob, gen)" ----
 * Thread-safe; counted within the process, one shared slot for each (door, blob, gen).  The protocol (DESIGN.md): a reader enters its hold and
 * then looks whether the value is still current; the reaper frees in a later transaction than the one that retired,
 * and asks kv_doors_held() under the write lock.  Both sides order their accesses sequentially consistent.  `blob` is never 0. */
int kv_doors_hold(struct kv_doors *d, uint64_t blob, uint32_t gen); /* -ENFILE: KV_HOLDS_MAX reached · -ENOMEM */
void kv_doors_release(struct kv_doors *d, uint64_t blob, uint32_t gen);
/* Does any live door hold `blob` at a generation below `below`?  (UINT64_MAX: at any.)  Slots of dead doors met on the way are freed.
 * The hold that made the answer true is marked: when it goes, kv_doors_released() tells. */
bool kv_doors_held(struct kv_doors *d, uint64_t blob, uint64_t below);
/* Holds in the table now, all doors. */
uint64_t kv_doors_holds(struct kv_doors *d);

/* Blobs of which a hold went that had made kv_doors_held() answer true, since the last call by anyone: the reaper looks at their garbage
 * again.  Returns how many were stored in ret[n] (more may be left: call again when it was n); *ret_all true when some were lost
 * track of (ring overrun, a door died, a new table): look at every one. */
size_t kv_doors_released(struct kv_doors *d, uint64_t *ret, size_t n, bool *ret_all);
/* The caller could not act on what kv_doors_released() told it (its transaction failed): the next call says `all`. */
void kv_doors_look_again(struct kv_doors *d);
/* The walk through all that was set aside, which `all` asks for, is one for all doors, so that even doors that each live for one
 * commit get through it: where it goes on is kept here, and belongs to whoever has the write lock.  0: none is due. */
uint64_t kv_doors_walk(struct kv_doors *d);
void kv_doors_set_walk(struct kv_doors *d, uint64_t at);

/* ---- feeds (kvfs_ll.h): doors that cache what they read, and that commits through other doors wait for (doors_feed.c) ---- */

/* After a commit whose last record is `seq` and that changed something: has every feed told, and unless this door has one itself, waits until they
 * have handled it.  One look at shared memory when there is no feed. */
void kv_doors_tell(struct kv_doors *d, uint64_t seq);
/* This door has a feed.  Waits, bounded, until no other caches. */
void kv_doors_feed_begin(struct kv_doors *d);
void kv_doors_feed_end(struct kv_doors *d);
bool kv_doors_feed_alone(struct kv_doors *d);
/* False: it may not cache, because it is not alone. */
bool kv_doors_feed_set_caching(struct kv_doors *d, bool caching);
void kv_doors_feed_handled(struct kv_doors *d, uint64_t seq);
/* Somebody gave this feed up since the last call: it has to take everything for changed. */
bool kv_doors_feed_caught_lagging(struct kv_doors *d);
/* How often this feed was told something; and waits until that is another number than `seen`: false when ms are over first. */
uint32_t kv_doors_feed_kicks(struct kv_doors *d);
bool kv_doors_feed_sleep(struct kv_doors *d, uint32_t seen, int ms);
/* Tells it to this door's own feed. */
void kv_doors_feed_kick(struct kv_doors *d);
/* ---- reserved names: "a session of mine will make this name" ----
 * A reservation is a session's, not a door's: `own` is its number, from 1.  All but giving back, and but a look that decides nothing, is done
 * under the store's write lock (D7). */
/* The name must be absent.  A path (with '/') is reserved as such, for directories that may not be there: `dir` is the root then.  -EEXIST somebody has it · -ENFILE KV_NAMES_MAX reached. */
int kv_doors_name_take(struct kv_doors *d, uint64_t dir, const char *name, size_t len, unsigned *ret);
void kv_doors_name_give_back(struct kv_doors *d, unsigned own);
/* Has anybody alive reserved the name, but `own` (0: nobody's)? */
bool kv_doors_name_taken(struct kv_doors *d, uint64_t dir, const char *name, size_t len, unsigned own);
/* Is any path reserved?  Then who makes a name has to ask for its whole key, too. */
bool kv_doors_any_path(struct kv_doors *d);

/* ---- store-wide snapshots, for `kvfs info`: when this door's oldest one began ---- */

/* A live snapshot; the caller's to keep in place from begin to end, and to leave alone. */
struct kv_doors_snapshot {
	struct kv_doors_snapshot *prev, *next;
	int64_t began_ns;
};
void kv_doors_snapshot_begin(struct kv_doors *d, struct kv_doors_snapshot *s);
void kv_doors_snapshot_end(struct kv_doors *d, struct kv_doors_snapshot *s);
/* Process and age of the oldest snapshot over all live doors; pid 0 none. */
void kv_doors_oldest_snapshot(struct kv_doors *d, pid_t *ret_pid, uint64_t *ret_age_ms);

/* ---- what is flushed (doors_sync.c) ---- */

/* Time of the last commit known durable, CLOCK_REALTIME ns, kept for all doors; 0 unknown.  It only moves forward. */
void kv_doors_set_synced(struct kv_doors *d, int64_t realtime_ns);
int64_t kv_doors_synced(struct kv_doors *d);
/* Commits are not flushed each (durable.c).  Set under the store's write lock. */
bool kv_doors_loose(struct kv_doors *d);
void kv_doors_set_loose(struct kv_doors *d);
/* The newest state that the file `sync` has on the disk, by its transaction; only moves forward. */
uint64_t kv_doors_recorded(struct kv_doors *d);
void kv_doors_set_recorded(struct kv_doors *d, uint64_t txnid);
/* For who has the store alone, before LMDB opens: nothing is recorded. */
void kv_doors_begin_sync(struct kv_doors *d, bool loose);
/* What this door's level is, and that a flush of its failed: for `kvfs info`. */
void kv_doors_set_durability(struct kv_doors *d, enum kvfs_durability level, int failed);

#endif
