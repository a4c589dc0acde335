/* kvfs: a local, daemon-free, shared key-value store that is also a file system.
 *
 * This is the stable interface.  A store is a directory with an LMDB environment in it; any number of processes and
 * threads read and write it at the same time through this library, the `kvfs` command and mounts.
 *
 * Conventions, which hold for every call unless its own text says otherwise:
 *  - Return: 0 or a negative errno; counts and lengths come as ssize_t.  On failure no output argument is touched.
 *  - Keys: NUL-terminated paths, components of 1..255 bytes joined by '/', at most 4,095 bytes in all, no "." or "..".
 *    A leading '/' means nothing.  An illegal key is refused with -EINVAL or -ENAMETOOLONG; kvfs_key_fault() says why.
 *  - Threads: a `struct kvfs_store` may be used by any number of threads at once.  A transaction, a cursor and a stream belong to
 *    one thread at a time.
 *  - Fork: in a child, every handle that the parent opened is dead; each call on it answers -EBADFD and touches nothing.
 *    Open the store again in the child.  The closing calls are safe there and free memory only.
 *  - Durability: a writing call returns when its change is durable by the level the store was opened with.
 *  - A name that a program has reserved (a file of a mount opened with O_EXCL, or a stream with KVFS_STREAM_EXCL, until its close) cannot be made by anybody else: -EEXIST.
 *  - Common errors, not repeated below: -EINVAL illegal key or argument, -ENAMETOOLONG key or component too long, -ENOMEM,
 *    -EIO the disk failed, -ENOSPC the disk is full (nothing was changed), -EROFS opened read-only, -EUCLEAN a record is
 *    damaged (kvfs_damage() says which), -EBADFD the handle was inherited by fork.
 */
#ifndef KVFS_H
#define KVFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVFS_VERSION "0.1.0"

#define KVFS_KEY_MAX 4095 /* bytes of a whole key, without the terminating NUL */
#define KVFS_NAME_MAX 255 /* bytes of one component */
#define KVFS_XATTR_SIZE_MAX 65536 /* bytes of one extended attribute's value (as Linux) */
/* What one write transaction may hold: as much as is committed while others wait for some 20 ms. */
#define KVFS_TXN_OPS_MAX 4000
#define KVFS_TXN_BYTES_MAX (8 << 20) /* bytes of values */

#if defined(__GNUC__)
#define KVFS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define KVFS_MUST_CHECK
#endif

/* What went wrong, in words fit for one line on a terminal.  Filled only by calls that take it, and only when they fail. */
struct kvfs_error {
	int code; /* negative errno, as returned */
	char text[512];
};

/* The version of the library that is linked: KVFS_VERSION of its build. */
const char *kvfs_version(void);

/* The rule of the key syntax that `key` breaks, as a phrase ("a component is longer than 255 bytes"), or NULL for a legal key.
 * The empty key names the root directory: legal to list and stat, never a value. */
const char *kvfs_key_fault(const char *key);

/* ---- store ------------------------------------------------------------------------------------------------------ */

struct kvfs_store;

enum kvfs_durability {
	KVFS_DURABILITY_DEFAULT = 0, /* what the environment variable KVFS_DURABILITY says ("full", "relaxed", "none"), else full */
	KVFS_FULL, /* on stable storage when the call returns */
	KVFS_RELAXED, /* on stable storage within about a second; a power cut takes the store back to what it was then */
	KVFS_NONE, /* visible to every process; a power cut may destroy the store */
};

enum {
	KVFS_RDONLY = 1 << 0, /* refuse every change with -EROFS */
	KVFS_CREATE = 1 << 1, /* make the store when the path is absent or an empty directory */
	KVFS_EXCL = 1 << 2, /* with KVFS_CREATE: refuse a store that exists with -EEXIST */
};

/* Options of kvfs_open().  Zero-initialise, then set `size` to sizeof(struct kvfs_options); a zero field means its default. */
struct kvfs_options {
	size_t size;
	unsigned flags; /* KVFS_RDONLY, KVFS_CREATE, KVFS_EXCL */
	mode_t mode; /* creation: permission of the store's directory; its files get the same without x.  0700 */
	gid_t group; /* creation: group of directory and files when `set_group`; the directory is then setgid */
	bool set_group;
	enum kvfs_durability durability; /* KVFS_DURABILITY_DEFAULT */
	uint64_t map_size; /* bytes of address space to map; 16 TiB, halved until it fits */
	size_t buffer_size; /* bytes of memory for unpublished data, over all sessions of the process.  64 MiB */
	const char *purpose; /* what this door is, shown by `kvfs info`: "library" */
};

/* Opens the store at `path`.  Within one process every open of the same store shares one environment (and the options of
 * the first open; a second open with KVFS_RDONLY stays read-only itself).  The time it takes does not depend on the store's size.
 *   -ENOENT no store there (and no KVFS_CREATE) · -EEXIST with KVFS_EXCL · -ENOTDIR, -EACCES, -EROFS
 *   -EMEDIUMTYPE not a store, or one of another format, page size or byte order · -EUCLEAN damaged
 *   -EXDEV another pid namespace or a network file system: share a mount instead · -EUSERS too many doors or snapshots
 *   -EROFS with KVFS_RDONLY: the power went while it was in use, and it must be opened for writing once · -EBUSY the same, or the disk failed,
 *   and another process still has it open · -ESTALE it is a copy that was made after the power went, before the original was opened
 * `err` may be NULL. */
KVFS_MUST_CHECK int kvfs_open(const char *path, const struct kvfs_options *opt, struct kvfs_store **ret, struct kvfs_error *err);

/* Closes; takes NULL.  All transactions, cursors and streams of this handle must have ended. */
void kvfs_close(struct kvfs_store *store);

/* "full", "relaxed" or "none"; NULL for another number. */
const char *kvfs_durability_name(enum kvfs_durability level);

/* Makes everything that was published before the call durable, at whatever level and by whomever it was published.  Calls at one time share a flush.
 *   -EIO the disk could not.  What was published after the last success may be lost; this process publishes no more (-EROFS) */
KVFS_MUST_CHECK int kvfs_sync(struct kvfs_store *store);

/* The damaged record that the last -EUCLEAN of this store handle was about ("chunk 3 of value 17: checksum"). */
void kvfs_damage(struct kvfs_store *store, struct kvfs_error *ret);

struct kvfs_info {
	char path[4096]; /* absolute */
	char uuid[37];
	uint32_t format; /* version of the store format */
	uint32_t page_size, chunk_size, inline_max; /* bytes */
	uint64_t sequence; /* of the newest commit; grows by at least one each */
	uint64_t values, directories, others; /* inodes by kind, without the root; others: symbolic links and special files */
	uint64_t names; /* keys: those of all of them.  A value, link or special file may have several */
	uint64_t value_bytes; /* sum of the sizes of all values, holes included */
	uint64_t file_bytes; /* length of data.mdb */
	uint64_t used_bytes; /* pages that hold something; file_bytes less the free ones */
	uint64_t free_bytes; /* pages inside data.mdb that the next commits use */
	uint64_t disk_free_bytes; /* what the file system beneath still has */
	uint64_t garbage_bytes; /* data of replaced or deleted values, not yet freed; an estimate */
	uint64_t held_values; /* values held by open descriptors and streams, which keeps them when they are replaced */
	int64_t last_sync_ns; /* CLOCK_REALTIME of the last commit known to be on stable storage, ns; 0 unknown */
	bool relaxed; /* commits are not flushed each, because a door has written at KVFS_RELAXED since the store was last closed by all */
	pid_t snapshot_pid; /* process with the oldest store-wide snapshot; 0 none */
	uint64_t snapshot_age_ms;
	unsigned doors; /* live processes that have the store open, this one included */
	unsigned readers, readers_max; /* LMDB reader slots in use, and there */
};
int kvfs_info(struct kvfs_store *store, struct kvfs_info *ret);

/* A live process that has the store open. */
struct kvfs_door {
	pid_t pid;
	bool lagging; /* a mount that did not answer in time: it may show old names and attributes until it does */
	uint64_t id;
	char purpose[16]; /* "library", "command", "mount" */
	char mountpoint[256]; /* of a mount, absolute; else "" */
	int64_t since_ns; /* CLOCK_REALTIME */
	enum kvfs_durability durability; /* it writes at this level; 0 not at all */
	int failed; /* errno with which the disk refused to flush its changes; it writes no more */
};
/* Fills up to `n` entries and returns how many doors there are (may be more than n), or a negative errno. */
ssize_t kvfs_doors(struct kvfs_store *store, struct kvfs_door *ret, size_t n);

/* ---- what a key has ------------------------------------------------------------------------------------------------ */

/* When a mount publishes what is written to a key (kvfs(7)). */
enum {
	KVFS_PUBLISH_DEFAULT = 0, /* as the mount says */
	KVFS_PUBLISH_CLOSE, /* when the writer closes it */
	KVFS_PUBLISH_WRITE, /* each write */
};
struct kvfs_stat {
	uint64_t ino; /* number for life, never used again */
	uint64_t
		version; /* of the value: sequence of the commit that published it; changes with every publication, never repeats */
	uint32_t epoch; /* counts the publications of this inode; for the mount */
	uint32_t mode; /* type and permission, as in stat(2) */
	uint32_t uid, gid;
	uint32_t nlink;
	uint32_t rdev;
	uint32_t publish; /* KVFS_PUBLISH_*: what the attribute user.kvfs.publish says */
	uint32_t reserved; /* 0 */
	uint64_t size; /* bytes of the value; of a symbolic link, of its target; of a directory, number of entries */
	uint64_t allocated; /* bytes stored: less than size for a sparse value */
	struct timespec atime, mtime, ctime, btime;
};

/* Single-key calls.  Each is one transaction: readers see it whole or not at all.  A value's symbolic links are not followed:
 * -ELOOP for get and put on one. */

/* Reads a value.  *ret_data is malloc'd, has a NUL after its last byte (not counted), and is the caller's to free().
 *   -ENOENT no such key · -EISDIR a directory · -EINVAL a special file · -EFBIG larger than memory can hold: use a stream */
KVFS_MUST_CHECK int kvfs_get(struct kvfs_store *store, const char *key, void **ret_data, size_t *ret_len);

/* Reads up to `cap` bytes of a value from `offset` into `buf`; returns the number of bytes read, 0 at or past the end. */
KVFS_MUST_CHECK ssize_t kvfs_get_into(struct kvfs_store *store, const char *key, void *buf, size_t cap, uint64_t offset);

enum {
	KVFS_IF_ABSENT = 1 << 0, /* -EEXIST when the key is there */
	KVFS_IF_VERSION = 1 << 1, /* -ECANCELED when the key is absent or its version is another */
};
struct kvfs_put_options {
	size_t size; /* sizeof(struct kvfs_put_options) */
	unsigned flags;
	uint64_t version; /* for KVFS_IF_VERSION */
	mode_t mode; /* permission of a new key; 0644.  A key that exists keeps its own */
	struct timespec mtime; /* if not zero; else the time of publication */
};
/* Writes a whole value and makes the directories it needs.  `opt` may be NULL.  `ret_version` may be NULL.
 *   -EISDIR the key is a directory · -ENOTDIR a part of its path is a value · -EEXIST, -ECANCELED by `flags` */
KVFS_MUST_CHECK int kvfs_put(struct kvfs_store *store, const char *key, const void *data, size_t len,
	const struct kvfs_put_options *opt, uint64_t *ret_version);

/* Deletes a value, link or special file, or an empty directory, and the implicit directories it leaves empty.
 *   -ENOENT · -ENOTEMPTY a directory with keys in it */
KVFS_MUST_CHECK int kvfs_del(struct kvfs_store *store, const char *key);

/* Deletes a key and everything under it; the root loses its keys and stays.  Up to 1,000 keys are one transaction; a
 * larger tree goes from the leaves up in several, each whole.  `ret_count` (may be NULL): keys removed, directories included. */
KVFS_MUST_CHECK int kvfs_del_tree(struct kvfs_store *store, const char *key, uint64_t *ret_count);

/* 1, 0, or a negative errno.  An illegal key is not there: 0. */
KVFS_MUST_CHECK int kvfs_exists(struct kvfs_store *store, const char *key);

KVFS_MUST_CHECK int kvfs_stat(struct kvfs_store *store, const char *key, struct kvfs_stat *ret);

/* Adds `delta` to the decimal integer that the value is (absent: 0), in one transaction, and keeps a final newline if there is one.
 *   -EDOM the value is not a decimal integer of 64 bits · -ERANGE the sum would not be */
KVFS_MUST_CHECK int kvfs_incr(struct kvfs_store *store, const char *key, int64_t delta, int64_t *ret);

/* Adds bytes at the end of a value (made when absent), in one transaction whose cost does not depend on the value's size.
 *   -EFBIG more than 4 MiB at once */
KVFS_MUST_CHECK int kvfs_append(struct kvfs_store *store, const char *key, const void *data, size_t len);

enum {
	KVFS_RENAME_NOREPLACE = 1 << 0, /* -EEXIST when `dst` is there */
	KVFS_RENAME_EXCHANGE = 1 << 1, /* swap the two */
};
/* Renames a value or a whole directory, as rename(2) does, and makes the directories that `dst` needs.
 *   -ENOENT · -EISDIR, -ENOTDIR one is a directory and the other not · -ENOTEMPTY · -EINVAL a directory into itself */
KVFS_MUST_CHECK int kvfs_rename(struct kvfs_store *store, const char *src, const char *dst, unsigned flags);

/* Makes a directory that stays when it is empty, and those above it as needed.  -EEXIST */
KVFS_MUST_CHECK int kvfs_mkdir(struct kvfs_store *store, const char *key, mode_t mode);
/* A second name for a value. -EPERM for directories, -EMLINK past 2^31 links. */
KVFS_MUST_CHECK int kvfs_link(struct kvfs_store *store, const char *key, const char *new_key);
/* Makes a symbolic link; `target` is 1..4095 bytes and never interpreted. -EEXIST */
KVFS_MUST_CHECK int kvfs_symlink(struct kvfs_store *store, const char *target, const char *key);
/* Makes a FIFO, socket, device node or an empty value by the type in `mode`. -EEXIST */
KVFS_MUST_CHECK int kvfs_mknod(struct kvfs_store *store, const char *key, mode_t mode, dev_t rdev);
/* Copies the link's target, NUL-terminated, into buf[cap]; returns its length. -EINVAL not a link, -ERANGE buf too small */
KVFS_MUST_CHECK ssize_t kvfs_readlink(struct kvfs_store *store, const char *key, char *buf, size_t cap);

enum {
	KVFS_SET_MODE = 1 << 0,
	KVFS_SET_UID = 1 << 1,
	KVFS_SET_GID = 1 << 2,
	KVFS_SET_ATIME = 1 << 3,
	KVFS_SET_MTIME = 1 << 4,
};
struct kvfs_setattr {
	unsigned valid; /* KVFS_SET_* */
	uint32_t mode; /* permission bits only */
	uint32_t uid, gid;
	struct timespec atime, mtime;
};
KVFS_MUST_CHECK int kvfs_setattr(struct kvfs_store *store, const char *key, const struct kvfs_setattr *attr);

enum { KVFS_XATTR_CREATE = 1, KVFS_XATTR_REPLACE = 2 }; /* as in setxattr(2) */
/* Extended attributes: as the system calls of these names on a key.  -ENODATA no such attribute, -EEXIST, -ERANGE buffer too small,
 * -E2BIG value too long, -ENOSPC more than 1 MiB of attributes, or 64 KiB of names, on one key.  cap 0 asks for the length needed. */
KVFS_MUST_CHECK int kvfs_setxattr(
	struct kvfs_store *store, const char *key, const char *name, const void *value, size_t size, int flags);
KVFS_MUST_CHECK ssize_t kvfs_getxattr(struct kvfs_store *store, const char *key, const char *name, void *buf, size_t cap);
KVFS_MUST_CHECK ssize_t kvfs_listxattr(struct kvfs_store *store, const char *key, char *buf, size_t cap);
KVFS_MUST_CHECK int kvfs_removexattr(struct kvfs_store *store, const char *key, const char *name);

/* ---- listing ----------------------------------------------------------------------------------------------------- */

/* A cursor lists one directory in byte order of names, or a tree depth first in that order: a directory comes before its
 * keys (in reverse: after them), so two lists of the same store merge by kvfs_key_compare().  It holds one batch of names
 * in memory and, outside a transaction, no snapshot: keys that change while it moves are listed or not, others exactly once. */
struct kvfs_cursor;

enum {
	KVFS_LIST_RECURSIVE = 1 << 0, /* the whole tree under the directory */
	KVFS_LIST_REVERSE = 1 << 1,
	KVFS_LIST_STAT = 1 << 2, /* fill kvfs_entry.st whole, not only ino and type */
	KVFS_LIST_NO_DIRS = 1 << 3, /* leave out directories themselves */
};
struct kvfs_list_options {
	size_t size; /* sizeof(struct kvfs_list_options) */
	unsigned flags;
	const char *prefix; /* whole keys that begin with these bytes ("a/b" finds a/b, a/bc and, if recursive, a/b/x) */
	const char *from; /* first key to list, in the order above (inclusive; a lower bound in reverse too) */
	const char *until; /* the list ends before this key (exclusive) */
};
struct kvfs_entry {
	const char *key; /* whole key without leading '/', valid until the next call on the cursor */
	const char *name; /* its last component, inside `key` */
	struct kvfs_stat st; /* ino and the type bits of mode always; the rest with KVFS_LIST_STAT */
};

/* Lists `dir` ("" is the root).  `opt` may be NULL.  -ENOENT, -ENOTDIR.  Its strings are copied. */
KVFS_MUST_CHECK int kvfs_list(
	struct kvfs_store *store, const char *dir, const struct kvfs_list_options *opt, struct kvfs_cursor **ret);
/* 1 and an entry, 0 at the end, or a negative errno. */
KVFS_MUST_CHECK int kvfs_cursor_next(struct kvfs_cursor *cur, struct kvfs_entry *ret);
void kvfs_cursor_close(struct kvfs_cursor *cur);
/* Compares two legal keys in list order: component by component, by bytes. <0, 0, >0 */
int kvfs_key_compare(const char *a, const char *b);

/* ---- transactions --------------------------------------------------------------------------------------------------- */

/* A transaction reads one state of the whole store.  With KVFS_TXN_WRITE it also collects changes, and sees them itself;
 * commit locks, checks that nothing it has read was changed by others meanwhile, applies everything at once, and
 * unlocks.  No lock is held before, so it may live as long as it likes; while it lives, no space that others free is
 * reused (`kvfs info` names the oldest). */
struct kvfs_txn;
enum { KVFS_TXN_WRITE = 1 << 0 };

/* -EUSERS too many snapshots at once. */
KVFS_MUST_CHECK int kvfs_txn_begin(struct kvfs_store *store, unsigned flags, struct kvfs_txn **ret);
/* Ends the transaction in every case; *txn is NULL afterwards.
 *   -ECANCELED something that was read has changed (nothing is applied: begin again) · the error of the operation that
 *   cannot be applied (nothing is applied).  A read-only transaction just ends. */
KVFS_MUST_CHECK int kvfs_txn_commit(struct kvfs_txn **txn);
/* The same; which key the failure is about, as the operation had it, into key[]: "" if about none. */
KVFS_MUST_CHECK int kvfs_txn_commit_key(struct kvfs_txn **txn, char key[KVFS_KEY_MAX + 1]);
void kvfs_txn_abort(struct kvfs_txn *txn);

/* As the calls of the same name without _txn, within the transaction.  -E2BIG past KVFS_TXN_OPS_MAX or KVFS_TXN_BYTES_MAX. */
KVFS_MUST_CHECK int kvfs_txn_get(struct kvfs_txn *txn, const char *key, void **ret_data, size_t *ret_len);
KVFS_MUST_CHECK int kvfs_txn_exists(struct kvfs_txn *txn, const char *key);
/* The committed state: a key that this transaction wrote has the size and mtime it will get, and version 0. */
KVFS_MUST_CHECK int kvfs_txn_stat(struct kvfs_txn *txn, const char *key, struct kvfs_stat *ret);
KVFS_MUST_CHECK int kvfs_txn_put(
	struct kvfs_txn *txn, const char *key, const void *data, size_t len, const struct kvfs_put_options *opt);
KVFS_MUST_CHECK int kvfs_txn_del(struct kvfs_txn *txn, const char *key);
KVFS_MUST_CHECK int kvfs_txn_incr(struct kvfs_txn *txn, const char *key, int64_t delta, int64_t *ret);
/* Values only (-EISDIR a directory): the new key gets the value as this transaction sees it, and the inode's attributes. */
KVFS_MUST_CHECK int kvfs_txn_rename(struct kvfs_txn *txn, const char *src, const char *dst, unsigned flags);
/* Lists the snapshot: not what this transaction itself has changed.  What is listed is not checked at commit: read the keys that matter. */
KVFS_MUST_CHECK int kvfs_txn_list(
	struct kvfs_txn *txn, const char *dir, const struct kvfs_list_options *opt, struct kvfs_cursor **ret);

/* ---- streams ------------------------------------------------------------------------------------------------------- */

/* An open value of any size.  Opened for reading, it keeps the value that stood at the open (and only that: nothing else is kept from
 * being freed).  Opened for writing, it is a private session: it sees its own writes, nobody else does, and all of it is
 * published in one transaction. */
struct kvfs_stream;

enum {
	KVFS_STREAM_READ = 1 << 0,
	KVFS_STREAM_WRITE = 1 << 1,
	KVFS_STREAM_CREATE = 1 << 2, /* make the key, and its directories, when published */
	KVFS_STREAM_EXCL = 1 << 3, /* with CREATE: -EEXIST when it is there; else it is reserved: nobody else makes it meanwhile */
	KVFS_STREAM_TRUNCATE =
		1 << 4, /* replace the whole value; else the parts written replace those of the value as it is then */
};
/* -ENOENT · -EISDIR · -ENFILE too many old values held open, or names reserved. */
KVFS_MUST_CHECK int kvfs_stream_open(
	struct kvfs_store *store, const char *key, unsigned flags, mode_t mode, struct kvfs_stream **ret);
/* Opens for reading as the transaction sees it; must be closed before the transaction ends. */
KVFS_MUST_CHECK int kvfs_txn_stream_open(struct kvfs_txn *txn, const char *key, struct kvfs_stream **ret);
/* Reads up to len bytes at byte `offset`; fewer only at the end. */
KVFS_MUST_CHECK ssize_t kvfs_stream_read(struct kvfs_stream *st, void *buf, size_t len, uint64_t offset);
/* Writes len bytes at byte `offset` (past the end: a hole between).  All or an error. -EFBIG past 127 TiB. */
KVFS_MUST_CHECK ssize_t kvfs_stream_write(struct kvfs_stream *st, const void *buf, size_t len, uint64_t offset);
KVFS_MUST_CHECK int kvfs_stream_truncate(struct kvfs_stream *st, uint64_t size);
/* Bytes the stream sees. */
uint64_t kvfs_stream_size(struct kvfs_stream *st);
/* The next data (hole) at or after offset, as lseek(SEEK_DATA, SEEK_HOLE); -ENXIO past the end. */
int64_t kvfs_stream_seek(struct kvfs_stream *st, uint64_t offset, bool hole);
/* Publishes what was written so far and goes on; durable by the store's level. */
KVFS_MUST_CHECK int kvfs_stream_publish(struct kvfs_stream *st);
/* Publishes and closes; the stream is gone in every case.  An error means that the old value stands. */
KVFS_MUST_CHECK int kvfs_stream_close(struct kvfs_stream *st);
/* Closes without publishing; takes NULL. */
void kvfs_stream_abort(struct kvfs_stream *st);

/* ---- changes --------------------------------------------------------------------------------------------------------- */

enum kvfs_change_kind {
	KVFS_CHANGE_PUT = 1, /* a value was published: made, or replaced */
	KVFS_CHANGE_DELETE,
	KVFS_CHANGE_RENAME_FROM, /* always followed by its RENAME_TO */
	KVFS_CHANGE_RENAME_TO,
	KVFS_CHANGE_MKDIR,
	KVFS_CHANGE_MAKE, /* a link, symbolic link or special file was made */
	KVFS_CHANGE_ATTR, /* mode, owner, times, extended attributes */
	KVFS_CHANGE_APPEND, /* a value grew at its end, and changed in no other way */
};

/* A watch follows the changes of a store, made through any door, in the order of their commits.  It costs those who change nothing, and
 * keeps nothing from being freed; the log it reads is a ring of the last 2,000 commits or so. */
struct kvfs_watch;
enum { KVFS_WATCH_RECURSIVE = 1 << 0 /* everything below the directory, not its own entries only */ };
struct kvfs_event {
	enum kvfs_change_kind kind;
	uint64_t sequence; /* of the commit; the later changes of one that made very many have the numbers after it */
	uint64_t ino;
	uint32_t type; /* S_IFMT bits */
	int64_t time_ns; /* CLOCK_REALTIME of the commit */
	const char *key; /* valid until the next call on the watch; as the directories are named when the event is read.  Of a
			    value with several names one that is watched: if it can be, that by which it was changed */
	const char *target; /* of RENAME_FROM (whose RENAME_TO is not told then): the new key; NULL when that is not watched */
};
/* Watches the key `dir` and, if it is a directory ("" is the root), its entries.  It is the name that is watched, whatever has it.
 * `since`: starts after that commit; 0 with the next one.
 *   -ENOENT · -ESTALE the log does not reach back to `since` · -EMFILE no more inotify instances for this user */
KVFS_MUST_CHECK int kvfs_watch_open(
	struct kvfs_store *store, const char *dir, unsigned flags, uint64_t since, struct kvfs_watch **ret);
/* A descriptor that poll(2) reports readable when kvfs_watch_next() may have something again, after it had nothing; the watch's own. */
int kvfs_watch_fd(const struct kvfs_watch *w);
/* 1 and an event, 0 none now, or a negative errno.  -EOVERFLOW changes were lost, because the watch was read too late; it goes on with the next commit. */
KVFS_MUST_CHECK int kvfs_watch_next(struct kvfs_watch *w, struct kvfs_event *ret);
void kvfs_watch_close(struct kvfs_watch *w);

/* ---- kept sessions --------------------------------------------------------------------------------------------------- */

/* What a writer in a mount wrote and could not publish, because a signal ended it or the publication failed.  A store keeps the newest
 * KVFS_KEPT_MAX of them, up to KVFS_KEPT_BYTES in all, for KVFS_KEPT_DAYS days.  Times and extended attributes are not kept. */
#define KVFS_KEPT_MAX 256
#define KVFS_KEPT_BYTES (UINT64_C(1) << 30)
#define KVFS_KEPT_DAYS 30
struct kvfs_kept {
	uint64_t id; /* never used again */
	char key[4096]; /* that it was for, as it and its directories are named now; "" when they are gone */
	uint64_t size; /* bytes of the value as the writer saw it */
	uint64_t stored; /* bytes that it wrote, in whole chunks */
	bool whole; /* a whole value; else parts, which recovery replays on the value as it is then */
	int reason; /* the signal that ended the writer, or a negative errno */
	int64_t time_ns; /* CLOCK_REALTIME when it was kept */
};
/* Fills up to n entries, oldest first; returns how many there are. */
KVFS_MUST_CHECK ssize_t kvfs_kept(struct kvfs_store *store, struct kvfs_kept *ret, size_t n);
/* Publishes a kept session under its key, or under `key` if not NULL, in one transaction, and forgets it.
 * Parts are replayed on the value that the key has then; on nothing if it has none.
 *   -ENOENT no such id · -ESTALE its key is gone: name one · errors of a publication, which leave it kept */
KVFS_MUST_CHECK int kvfs_recover(struct kvfs_store *store, uint64_t id, const char *key);
/* Forgets it. */
KVFS_MUST_CHECK int kvfs_kept_drop(struct kvfs_store *store, uint64_t id);

/* ---- names of typed keys --------------------------------------------------------------------------------------------- */

/* For programs whose keys are no paths, as those of a dict: a text, a byte string, an integer or a floating-point number, of any length, each with
 * a name in one directory, readable where it can be (FORMAT.md has the rule).  No two keys share a name; 1, 1.0, "1" and bytes "1" are four.  The
 * calls know no store: a value is put under the name, and if the key is too long for one, the value begins with it, in a line of its own. */
enum kvfs_typed_kind { KVFS_TYPED_STR, KVFS_TYPED_BYTES, KVFS_TYPED_INT, KVFS_TYPED_FLOAT };
struct kvfs_typed {
	enum kvfs_typed_kind kind;
	const char *data; /* UTF-8 of a str, where half a surrogate pair is a character as well; of a number its text.  Borrowed */
	size_t len; /* bytes; NULs count */
};
struct kvfs_typed_name {
	char name[KVFS_NAME_MAX + 1]; /* one component of a path */
	char *line; /* malloc'd, the caller's to free(): what the value begins with, a whole line; NULL for most keys */
	size_t line_len;
};
#define KVFS_TYPED_NUMBER 32 /* bytes that hold the text of any int64_t or double */
/* The keys of numbers, printed into `buf`, which they point to.  Every NaN is one key; -0.0 and 0.0 are two. */
struct kvfs_typed kvfs_typed_int(int64_t n, char buf[KVFS_TYPED_NUMBER]);
struct kvfs_typed kvfs_typed_float(double x, char buf[KVFS_TYPED_NUMBER]);
/* The name of a key.  What `data` holds is not checked: of an int past 64 bits it is "0x" or "-0x" and digits in base 16, lower case. */
KVFS_MUST_CHECK int kvfs_typed_encode(const struct kvfs_typed *key, struct kvfs_typed_name *ret);
/* Is it the name of a key too long for it?  Then kvfs_typed_decode() needs the line that the value begins with. */
bool kvfs_typed_is_long(const char *name);
/* The key that has this name; `line` (its newline included) may be NULL if the name is not long.  ret->data points into *ret_buf, has a NUL after its
 * last byte, and lives until the caller frees *ret_buf.
 *   -EINVAL no key has this name: a file that somebody else put there */
KVFS_MUST_CHECK int kvfs_typed_decode(const char *name, const char *line, size_t line_len, struct kvfs_typed *ret, char **ret_buf);

/* ---- checking, saving ------------------------------------------------------------------------------------------------- */

enum kvfs_finding_kind {
	KVFS_FINDING_LOST = 1, /* something stored cannot be read any more */
	KVFS_FINDING_WRONG, /* what is stored contradicts itself */
	KVFS_FINDING_SPACE, /* space that nothing uses and nobody will free */
};
struct kvfs_finding {
	enum kvfs_finding_kind kind;
	const char *key; /* what it is about; NULL: no key, or not known which.  Valid during the call only, as is `text` */
	const char *text; /* one line, without the key */
};
/* Called for each finding, by the thread that checks.  Must not call the store. */
typedef void kvfs_finding_fn(void *arg, const struct kvfs_finding *finding);
/* Now and then: how much of how much is done, in units of no meaning.  Non-zero ends the call, which returns it. */
typedef int kvfs_progress_fn(void *arg, uint64_t done, uint64_t total);

enum {
	KVFS_CHECK_DATA = 1 << 0, /* read all values */
};
/* Zero-initialise, then set `size`. */
struct kvfs_check_options {
	size_t size; /* sizeof(struct kvfs_check_options) */
	unsigned flags; /* KVFS_CHECK_* */
	kvfs_finding_fn *finding; /* may be NULL */
	kvfs_progress_fn *progress; /* may be NULL */
	void *arg; /* of both */
};
struct kvfs_check_result {
	uint64_t lost, wrong, space; /* findings of each kind */
	uint64_t sequence; /* of the state that was checked */
	uint64_t pages, free_pages;
	uint64_t inodes; /* that could be read: */
	uint64_t values, directories, others;
	uint64_t value_bytes;
	uint64_t damaged_values; /* of `values`, those that cannot be read whole, as far as was looked */
	uint64_t chunks, dead_chunks; /* records; of them, those that wait to be freed */
	uint64_t garbage, held_garbage, sessions, kept; /* records; garbage counts those set aside too, sessions the kept */
};
/* Checks the store at `path`: the pages of its file, and everything that must hold between its records, in one state, whatever others write
 * meanwhile.  It reads the file by system calls, so that damage cannot hurt the caller, and changes nothing.  A damaged store is no
 * error: 0 and the findings are in *ret.  Memory: a bit for each page of the file, some 10 MiB, 16 bytes for each replaced chunk and
 * 40 for each truncation not yet freed.
 *   -ENOENT, -EMEDIUMTYPE no store this kvfs reads · -EUCLEAN damaged so that nothing can be told about it */
KVFS_MUST_CHECK int kvfs_check(
	const char *path, const struct kvfs_check_options *opt, struct kvfs_check_result *ret, struct kvfs_error *err);

struct kvfs_salvage_result {
	uint64_t values, directories, others; /* names that the new store has: */
	uint64_t damaged; /* of the values, those with bytes that could not be read and are zeros now */
	uint64_t lost; /* names whose content, or that themselves, are lost, as far as something still tells of them */
	uint64_t found; /* without a name, so put into `lost+found` */
};
/* Makes a new store at `dest` of all that can be read in the one at `path`, damaged or not, which is not written to.  Branch pages are not needed: leaves are
 * looked for in the whole file.  Each loss is a finding, with its key.  An inode whose entry is lost gets its own name back, or is
 * `lost+found/#NUMBER`.  Values, directories, links, special files with mode, owner, times and extended attributes are saved; inode numbers
 * and versions are new, unpublished and kept sessions are not saved.  Memory as kvfs_check(), and some 50 bytes for each leaf page of a damaged tree,
 * 100 for each inode with several names.  It is made as `.NAME.repair` beside `dest`, and durable when it gets its name.
 * Errors as kvfs_check() and kvfs_backup(). */
KVFS_MUST_CHECK int kvfs_salvage(const char *path, const char *dest, const struct kvfs_check_options *opt,
	struct kvfs_salvage_result *ret, struct kvfs_error *err);

enum {
	KVFS_BACKUP_REPLACE = 1 << 0, /* a store that is at `dest`, and that nobody has open, is replaced */
};
/* Writes one state of the store as a store of its own at `dest`, while others go on; it has the same uuid, and no free space in its file.  All
 * sums are compared on the way.  It is made under another name beside `dest`, `.NAME.backup`, and is durable when it gets its own: an interrupted
 * backup leaves that name, which the next one begins with.  While it runs, no space that others free is reused.
 *   -EEXIST something is at `dest` · -EBUSY somebody has the store there open, or makes the same backup · -EUCLEAN the store is damaged
 * What `progress` (may be NULL) returned, if not 0. */
KVFS_MUST_CHECK int kvfs_backup(
	struct kvfs_store *store, const char *dest, unsigned flags, kvfs_progress_fn *progress, void *arg, struct kvfs_error *err);

/* Writes the file of the store anew, without the free space in it, and puts it in the place of the old one.  Nobody else may have the store
 * open, nor this process; who wants to open it meanwhile waits.  It needs the disk space of the new file.  A crash leaves the old file
 * or the new one, whole.  *ret_before, *ret_after (may be NULL): bytes of the file.
 *   -EBUSY it is open elsewhere: err says by whom · -EUCLEAN it is damaged (nothing is changed) */
KVFS_MUST_CHECK int kvfs_compact(
	const char *path, kvfs_progress_fn *progress, void *arg, uint64_t *ret_before, uint64_t *ret_after, struct kvfs_error *err);

#ifdef __cplusplus
}
#endif
#endif
