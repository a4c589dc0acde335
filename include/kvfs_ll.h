/* kvfs, the inode-level interface that the mount is written on.  UNSTABLE: it follows the mount's needs.
 *
 * Everything here names inodes by number (1 is the root) and entries by (directory inode, name); no path is parsed.
 * The conventions of kvfs.h hold.  Every call may be made from any thread; values and sessions are internally locked.
 * Each changing call is one transaction. A missing inode is -ESTALE where an inode number was passed, -ENOENT where a name was. */
#ifndef KVFS_LL_H
#define KVFS_LL_H

#include <kvfs.h>
#include <sys/statvfs.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVFS_ROOT_INO 1
#define KVFS_INO_BITS 44 /* inode numbers are below 2^44, so that (inode, epoch) fits in a kernel node id */

struct kvfs_cred {
	uint32_t uid, gid; /* owner of what is made; a setgid directory overrides gid, as everywhere */
};

/* ---- names ------------------------------------------------------------------------------------------------------ */

KVFS_MUST_CHECK int kvfs_ll_lookup(struct kvfs_store *store, uint64_t parent, const char *name, struct kvfs_stat *ret);
/* The directory that holds `dir`; the root's is the root. */
KVFS_MUST_CHECK int kvfs_ll_parent(struct kvfs_store *store, uint64_t dir, uint64_t *ret);
KVFS_MUST_CHECK int kvfs_ll_mkdir(
	struct kvfs_store *store, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred, struct kvfs_stat *ret);
KVFS_MUST_CHECK int kvfs_ll_mknod(struct kvfs_store *store, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev,
	struct kvfs_cred cred, struct kvfs_stat *ret);
KVFS_MUST_CHECK int kvfs_ll_symlink(struct kvfs_store *store, const char *target, uint64_t parent, const char *name,
	struct kvfs_cred cred, struct kvfs_stat *ret);
KVFS_MUST_CHECK int kvfs_ll_link(struct kvfs_store *store, uint64_t ino, uint64_t parent, const char *name, struct kvfs_stat *ret);
/* *ret (may be NULL): the inode the name led to, with the links it has left. */
KVFS_MUST_CHECK int kvfs_ll_unlink(struct kvfs_store *store, uint64_t parent, const char *name, struct kvfs_stat *ret);
KVFS_MUST_CHECK int kvfs_ll_rmdir(struct kvfs_store *store, uint64_t parent, const char *name);
/* flags: KVFS_RENAME_*.  *ret_replaced (may be NULL): the inode that `name2` led to, with the links left; ino 0 when none. */
KVFS_MUST_CHECK int kvfs_ll_rename(struct kvfs_store *store, uint64_t parent, const char *name, uint64_t parent2, const char *name2,
	unsigned flags, struct kvfs_stat *ret_replaced);
KVFS_MUST_CHECK ssize_t kvfs_ll_readlink(struct kvfs_store *store, uint64_t ino, char *buf, size_t cap);

/* Calls fn for the entries of `dir` after the name `after` (NULL: from the start), in byte order, until fn returns non-zero or
 * the directory ends.  fn runs inside a read transaction: it must be quick and must not call the store.  st is whole when
 * `want_stat`, else ino and type only; "." and ".." are the caller's business. */
typedef int kvfs_ll_fill_fn(void *arg, const char *name, const struct kvfs_stat *st);
KVFS_MUST_CHECK int kvfs_ll_readdir(
	struct kvfs_store *store, uint64_t dir, const char *after, bool want_stat, kvfs_ll_fill_fn *fn, void *arg);

/* ---- attributes --------------------------------------------------------------------------------------------------- */

KVFS_MUST_CHECK int kvfs_ll_getattr(struct kvfs_store *store, uint64_t ino, struct kvfs_stat *ret);
KVFS_MUST_CHECK int kvfs_ll_setattr(struct kvfs_store *store, uint64_t ino, const struct kvfs_setattr *attr, struct kvfs_stat *ret);
KVFS_MUST_CHECK int kvfs_ll_setxattr(
	struct kvfs_store *store, uint64_t ino, const char *name, const void *value, size_t size, int flags);
KVFS_MUST_CHECK ssize_t kvfs_ll_getxattr(struct kvfs_store *store, uint64_t ino, const char *name, void *buf, size_t cap);
KVFS_MUST_CHECK ssize_t kvfs_ll_listxattr(struct kvfs_store *store, uint64_t ino, char *buf, size_t cap);
KVFS_MUST_CHECK int kvfs_ll_removexattr(struct kvfs_store *store, uint64_t ino, const char *name);
KVFS_MUST_CHECK int kvfs_ll_statfs(struct kvfs_store *store, struct statvfs *ret);
/* The errno with which the disk refused to flush this process's changes, which is final (-EROFS for every other change); 0 it did not. */
int kvfs_ll_failed(struct kvfs_store *store);
/* Tells other doors (`kvfs info`, the command's "did you mean") that this process serves the store at `mountpoint`. */
KVFS_MUST_CHECK int kvfs_ll_set_mountpoint(struct kvfs_store *store, const char *mountpoint);

/* ---- changes ------------------------------------------------------------------------------------------------------- */

/* One change of a commit.  `name` is valid during the call only. */
struct kvfs_ll_change {
	enum kvfs_change_kind kind; /* kvfs.h */
	bool own; /* committed by this process */
	uint32_t type; /* S_IFMT bits of the inode */
	uint32_t epoch; /* PUT, APPEND: the low 16 bits of the inode's epoch after it */
	uint64_t sequence; /* in the log: that of its commit, or one after it if the commit made very many changes */
	uint64_t ino, parent;
	const char *name;
};
/* Must be quick and must not call the store.  Non-zero ends the call that calls it. */
typedef int kvfs_ll_change_fn(void *arg, const struct kvfs_ll_change *change);

/* Has fn called for each change of each commit this process makes on the store, by the committing thread: after the commit, without the
 * write lock, before the call that committed returns. A call on a session has that session's lock then: fn must not take a lock under which
 * anybody calls the store.  One observer per store and process, else -EBUSY; set it before other threads use the store; NULL ends it
 * (no call may be under way). */
KVFS_MUST_CHECK int kvfs_ll_observe(struct kvfs_store *store, kvfs_ll_change_fn *fn, void *arg);

/* The feed of a door that caches what it reads and that others therefore wait for (a mount).  While a feed is open, a commit through a
 * door that has none returns only when kvfs_feed_done() of each feed that caches has covered it, or the deadline has passed: then the feed counts as lagging, nobody
 * waits for it any more, and its next read says that it lost track.  Doors with a feed never wait for one another: while
 * there are two, neither may cache (kvfs_feed_alone()).  One thread reads a feed; kvfs_feed_wake() and _alone() are anyone's. */
struct kvfs_feed;
/* Starts with the newest commit, not caching.  Waits, bounded, until no other feed caches.
 * -ENOTSUP a store without doors (read-only disk) · -EBUSY this process has a feed of this store. */
KVFS_MUST_CHECK int kvfs_feed_open(struct kvfs_store *store, struct kvfs_feed **ret);
/* Waits for a commit by another door, another feed that comes or goes, or kvfs_feed_wake(); at most timeout_ms. 1 or 0 (time is over and
 * there is nothing to read).  Its own process's commits end it now and then only, so that the ring is not overrun: for the others it is enough to
 * be read with the next. A commit whose process was killed before it could tell is found when the time is over: a second is a good timeout. */
int kvfs_feed_wait(struct kvfs_feed *feed, int timeout_ms);
void kvfs_feed_wake(struct kvfs_feed *feed);
/* Calls fn for every change since the last read, in order of commits, this process's own included, in one read transaction.
 * 1 when changes were lost (the log is a ring; or it was given up as lagging): everything may have changed, fn was not called for all; the
 * next read goes on from here.  What fn returned, if not 0: the next read begins where this one did. */
KVFS_MUST_CHECK int kvfs_feed_read(struct kvfs_feed *feed, kvfs_ll_change_fn *fn, void *arg);
/* All that was read up to `sequence` has been acted on: wakes who waits for that.  Any thread's, in order. */
void kvfs_feed_done(struct kvfs_feed *feed, uint64_t sequence);
/* The sequence up to which it was read. */
uint64_t kvfs_feed_sequence(const struct kvfs_feed *feed);
/* No other live feed of this store.  A look at shared memory, and at the locks of others if there are any. */
bool kvfs_feed_alone(struct kvfs_feed *feed);
/* true: to be called before anything is cached; others wait for this feed from then on.  False is the answer when it is not alone, and then it must
 * not cache.  false: nothing is cached any more: opening another feed, and commits, wait for that, bounded. */
bool kvfs_feed_set_caching(struct kvfs_feed *feed, bool caching);
void kvfs_feed_close(struct kvfs_feed *feed);

/* ---- values: one published version, held ------------------------------------------------------------------------------ */

struct kvfs_value;

/* Opens the version that stands now; it stays readable, whatever is published, until closed.  *ret_stat (may be NULL): its attributes at that moment.
 * -EISDIR, -EINVAL not a regular file, -ENFILE too many values held. */
KVFS_MUST_CHECK int kvfs_value_open(struct kvfs_store *store, uint64_t ino, struct kvfs_value **ret, struct kvfs_stat *ret_stat);
KVFS_MUST_CHECK ssize_t kvfs_value_read(struct kvfs_value *v, void *buf, size_t len, uint64_t offset);
int64_t kvfs_value_seek(struct kvfs_value *v, uint64_t offset, bool hole);
void kvfs_value_close(struct kvfs_value *v);

/* ---- sessions: private writes --------------------------------------------------------------------------------------- */

/* A write session on an inode, or on a name that has none yet.  What it writes is seen by reads through it and by nobody
 * else until kvfs_session_publish().  Memory is bounded: buffers beyond the store's limit go to hidden chunks in the store. */
struct kvfs_session;

/* On an existing value.  `truncate`: it replaces the value (last published wins, whole); else its changed parts are replayed on the
 * value as it is at publication. */
KVFS_MUST_CHECK int kvfs_session_open(struct kvfs_store *store, uint64_t ino, bool truncate, struct kvfs_session **ret);
/* On a version whose inode is gone: an orphan (kvfs_session_orphan()) that has its content.  Takes `v` over, when it fails too. */
KVFS_MUST_CHECK int kvfs_session_open_gone(
	struct kvfs_store *store, struct kvfs_value *v, const struct kvfs_stat *st, struct kvfs_session **ret);
/* For a new key: nothing is in the store before publication.  `mode` permission bits.  If the name has come to exist by
 * then, its value is replaced.  With `excl` the name is reserved: until the session is published, renamed, an orphan or closed (or its door ends)
 * nobody else makes it, through any door: -EEXIST.
 * -EEXIST the name is another session's reservation, or, with excl, there now · -ENOENT the directory is gone · -ENFILE too many reserved names. */
KVFS_MUST_CHECK int kvfs_session_create(struct kvfs_store *store, uint64_t parent, const char *name, uint32_t mode,
	struct kvfs_cred cred, bool excl, struct kvfs_session **ret);

KVFS_MUST_CHECK ssize_t kvfs_session_read(struct kvfs_session *s, void *buf, size_t len, uint64_t offset);
KVFS_MUST_CHECK ssize_t kvfs_session_write(struct kvfs_session *s, const void *buf, size_t len, uint64_t offset);
KVFS_MUST_CHECK int kvfs_session_truncate(struct kvfs_session *s, uint64_t size);
/* The session becomes one that replaces the value, now empty (open(2) with O_TRUNC on a session that was joined). */
KVFS_MUST_CHECK int kvfs_session_clear(struct kvfs_session *s);
/* As fallocate(2): mode 0 or FALLOC_FL_KEEP_SIZE, PUNCH_HOLE (with KEEP_SIZE), ZERO_RANGE; -EOPNOTSUPP for others. */
KVFS_MUST_CHECK int kvfs_session_fallocate(struct kvfs_session *s, int mode, uint64_t offset, uint64_t len);
int64_t kvfs_session_seek(struct kvfs_session *s, uint64_t offset, bool hole);
/* Attributes as the writer sees them: its size, its times if it set them. */
KVFS_MUST_CHECK int kvfs_session_stat(struct kvfs_session *s, struct kvfs_stat *ret);
/* Times are the session's until publication.  Mode and owner: of an existing inode at once, of a new key at publication. */
KVFS_MUST_CHECK int kvfs_session_setattr(struct kvfs_session *s, const struct kvfs_setattr *attr);
/* On an existing inode these are the kvfs_ll_ calls; for a new key they are kept until publication. */
KVFS_MUST_CHECK int kvfs_session_setxattr(struct kvfs_session *s, const char *name, const void *value, size_t size, int flags);
KVFS_MUST_CHECK ssize_t kvfs_session_getxattr(struct kvfs_session *s, const char *name, void *buf, size_t cap);
KVFS_MUST_CHECK ssize_t kvfs_session_listxattr(struct kvfs_session *s, char *buf, size_t cap);
KVFS_MUST_CHECK int kvfs_session_removexattr(struct kvfs_session *s, const char *name);
/* The inode number that the session has or will have; it changes only when somebody else makes a new key's name first. */
uint64_t kvfs_session_ino(struct kvfs_session *s);
/* For a new key that `with`, of the same store, is for too: has the number that `with` has from now on, so that the key has it, whichever
 * is published first.  Nothing happens when the number is somebody's by now.  -ENOMEM */
KVFS_MUST_CHECK int kvfs_session_share_ino(struct kvfs_session *s, struct kvfs_session *with);
/* The epoch of the version that the session is based on: opened, refreshed or published last.  0 of a new key. */
uint32_t kvfs_session_epoch(struct kvfs_session *s);
/* True while the session replaces the whole value. */
bool kvfs_session_replaces(struct kvfs_session *s);
/* True from creation until the first publication of a new key. */
bool kvfs_session_is_new(struct kvfs_session *s);
/* True when there is something to publish: written, truncated, times set, or a new key. */
bool kvfs_session_is_dirty(struct kvfs_session *s);
/* A new key is renamed before it is published. -EINVAL when it is published already, -EEXIST the new name is reserved. */
KVFS_MUST_CHECK int kvfs_session_rename(struct kvfs_session *s, uint64_t parent, const char *name);
/* Others may make the name from now on. */
void kvfs_session_unreserve(struct kvfs_session *s);
/* The key was unlinked or replaced: publish does nothing from now on; reads and writes go on as on an unlinked file. */
void kvfs_session_orphan(struct kvfs_session *s);
/* Publishes everything so far in one transaction and goes on from there; 0 when there is nothing to publish or the
 * inode is gone.  On error the old value stands and the session keeps its data: it may be tried again.
 * -ENOSPC, -EIO, -ENOENT its directory is gone, -EISDIR its name is a directory now, -EEXIST by excl, or
 * another user has made the key. */
KVFS_MUST_CHECK int kvfs_session_publish(struct kvfs_session *s);
/* Adds at the end of the published value, whole, in one transaction, past whatever others added; the session then sees that value.
 * A new key is published by it.  Session must have no unpublished writes (-EBUSY). */
KVFS_MUST_CHECK ssize_t kvfs_session_append(struct kvfs_session *s, const void *buf, size_t len);
/* Takes the newest published value for the part that the session has not written. 1 when that changed what it reads, 0, or an error.
 * A session that replaces the value, or whose key is new or gone, stays as it is: 0. */
KVFS_MUST_CHECK int kvfs_session_refresh(struct kvfs_session *s);
/* Keeps what was not published, in the store, for kvfs_recover(); the session is then an orphan, and empty.  `reason`: the signal that ended its
 * writer, or a negative errno of the publication that failed.  0 also when there is nothing to keep: nothing written, or its key is gone.  Times and
 * extended attributes are not kept.  On error the session has all it had.  -ENOSPC: more than the store keeps. */
KVFS_MUST_CHECK int kvfs_session_keep(struct kvfs_session *s, int reason);
/* Drops whatever is not published. */
void kvfs_session_close(struct kvfs_session *s);

#ifdef __cplusplus
}
#endif
#endif
