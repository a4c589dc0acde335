/* The database beneath: tables of checksummed records in transactions.  db.c is the only user of <lmdb.h>; LMDB's error
 * codes do not leave it. */
#ifndef KV_DB_H
#define KV_DB_H

#include <signal.h>
#include <sys/uio.h>

#include "format.h"
#include "tree.h"
#include "util.h"
#include <kvfs.h>

struct MDB_txn;
struct MDB_cursor;
struct kv_db;

struct kv_db_options {
	bool create; /* a new environment: make its trees */
	bool rdonly;
	bool no_lock; /* a read-only file system: nobody can write, no lock file can be made */
	bool pin; /* for transactions that only keep a state from being overwritten: no page but the meta pages is touched */
	uint64_t map_size; /* 0: as much as fits, from 16 TiB down */
	mode_t mode; /* of files it makes */
};

/* What a commit is for. */
enum kv_sync {
	KV_SYNC_LEVEL, /* durable when it returns, if the level says so */
	KV_SYNC_ORDER, /* a step on the way: may be lost itself, so its root need not be flushed */
};

/* Opens the environment in `dir`, which must be a kvfs store's unless `create`.  Not twice per process and store: the registry in
 * store.c sees to it.  Fills err. */
int kv_db_open(const char *dir, const struct kv_db_options *opt, struct kv_db **ret, struct kvfs_error *err);
/* `inherited`: in a forked child, where LMDB must not be called: frees memory only. */
void kv_db_close(struct kv_db *db, bool inherited);
/* Of data.mdb, for reading. */
int kv_db_fd(const struct kv_db *db);
/* Everything committed before is durable when it returns. */
int kv_db_sync(struct kv_db *db);
/* The record that the last -EUCLEAN was about. */
void kv_db_damage(struct kv_db *db, struct kvfs_error *ret);
void kv_db_set_damage(struct kv_db *db, const char *what);

/* Where the trees of a state begin; of a writing transaction those that it began with. */
struct kv_trees {
	struct kv_tree main, free, named[KV_TABLES - KV_DIRENT];
	unsigned known; /* a bit for each table: looked up in the main tree */
};

/* A transaction: one state of all tables.  A reading one may be used by one thread at a time, moved between threads freely. */
struct kv_txn {
	struct kv_db *db;
	struct MDB_txn *mdb;
	struct kv_trees trees;
	bool write;
	bool broken; /* writing: an assertion of LMDB ended a call */
	bool changed; /* writing: something was put or deleted, or a call failed in LMDB, which may have left anything */
	uint32_t own; /* the same for each tree, and never taken back: a bit for each table, KV_META's for the main tree's */
	uint64_t txnid; /* reading: of the commit it reads; writing: of the commit it will be */
	bool unflushed, loose; /* writing: the commit is not to be flushed; and relies on what durable.c says of it */
	sigset_t mask; /* writing: signals blocked before; a stopped process must not hold the lock (facts: stop signals) */
	unsigned descents; /* B-tree searches made */
	uint64_t bytes_put;
};

int kv_db_read(struct kv_db *db, struct kv_txn *ret); /* -EUSERS no reader slot left */
void kv_db_read_end(struct kv_txn *txn); /* takes an ended one */
/* True when nothing was committed since this reading transaction began. */
bool kv_db_is_newest(const struct kv_txn *txn);

/* Whether a transaction of this process has the write lock, or waits for it. */
bool kv_db_is_writing(struct kv_db *db);
/* Blocks the stop signals of a terminal (DB2), in this thread: who stops with a lock that others wait for stops them, too. */
void kv_db_block_stops(sigset_t *ret_old);
/* Blocks until the write lock is ours.  Nothing of a user runs between here and the commit. */
int kv_db_write(struct kv_db *db, struct kv_txn *ret);
/* Ends the transaction in every case. */
int kv_db_commit(struct kv_txn *txn, enum kv_sync sync) KVFS_MUST_CHECK;
void kv_db_abort(struct kv_txn *txn); /* takes an ended one */

/* -ENOENT, -EUCLEAN checksum.  The bytes are borrowed. */
int kv_db_get(struct kv_txn *txn, enum kv_table table, const void *key, size_t len, struct kv_bytes *ret);

/* A record as it lies in its tree: checks its sum and takes it off.  False: damaged. */
bool kv_db_open_record(enum kv_table table, struct kv_bytes key, struct kv_bytes raw, struct kv_bytes *ret);
/* "dirent" ..., which of KV_DIRENT and after is LMDB's name of its tree too. */
const char *kv_db_table_name(enum kv_table table);

/* Puts the concatenation of parts[n].  The parts must not be borrowed from this transaction. */
int kv_db_put(struct kv_txn *txn, enum kv_table table, const void *key, size_t len, const struct iovec *parts, int n);
int kv_db_del(struct kv_txn *txn, enum kv_table table, const void *key, size_t len); /* -ENOENT */

/* A place in one table, within its transaction. */
struct kv_cursor {
	struct kv_txn *txn;
	struct MDB_cursor *mdb; /* in a tree that the transaction has changed; else NULL */
	struct kv_finger finger; /* reading */
	enum kv_table table;
	bool raw; /* do not read, and so not check, the values: for deleting */
	struct kv_bytes key, value; /* borrowed; of the record it stands on */
};
int kv_cursor_open(struct kv_txn *txn, enum kv_table table, struct kv_cursor *ret);
void kv_cursor_close(struct kv_cursor *c); /* takes a zeroed one */
/* Moves to the first record at or after key (len 0: the first of all), the last one, the next, the previous; all -ENOENT when there is none.
 * _before: to the last record before key. */
int kv_cursor_seek(struct kv_cursor *c, const void *key, size_t len);
int kv_cursor_seek_before(struct kv_cursor *c, const void *key, size_t len);
int kv_cursor_last(struct kv_cursor *c);
int kv_cursor_next(struct kv_cursor *c);
int kv_cursor_prev(struct kv_cursor *c);
int kv_cursor_del(struct kv_cursor *c); /* then next() moves to the record after */

struct kv_db_info {
	uint32_t page_size;
	uint64_t file_pages, free_pages, reclaimable_txns;
	uint64_t last_txnid;
	unsigned readers, readers_max;
};
int kv_db_info(struct kv_db *db, struct kv_db_info *ret);

/* How many records a table has that has a tree of its own. */
int kv_db_count(struct kv_txn *txn, enum kv_table table, uint64_t *ret);

/* The meta pages of data.mdb: which state is the newest, and where its trees begin. */
#define KV_META_SIZE 152
struct kv_metas {
	uint8_t page[2][KV_META_SIZE];
};
/* Of the state that this transaction reads.  -EAGAIN it is the newest no more. */
int kv_db_metas(const struct kv_txn *txn, struct kv_metas *ret);
uint64_t kv_db_newest(struct kv_db *db); /* the newest commit's txnid */
uint64_t kv_db_room(struct kv_db *db); /* bytes by which the file can still grow */

/* What this process asked of the database so far, for tests and benchmarks. */
struct kv_db_counts {
	uint64_t reads, writes, descents, bytes_put;
};
struct kv_db_counts kv_db_counts(struct kv_db *db);

/* ---- dbfile.c: the file before LMDB maps it ---- */

/* Looks at data.mdb without mapping it: meta pages, page size, and unless `metas_only` length and root pages.  Constant time, but for a file that
 * is shorter than it says.  -ENOENT no such file. */
int kv_dbfile_check(int dirfd, bool metas_only, struct kvfs_error *err);
/* Whether any process has the environment open. */
bool kv_dbfile_in_use(int dirfd);
int kv_metas_read(int fd, uint32_t page_size, struct kv_metas *ret);
/* Of this state alone: its own meta page, and the same as if it were of the transaction before.  -EAGAIN it is of another one. */
int kv_metas_read_state(int fd, uint32_t page_size, uint64_t txnid, struct kv_metas *ret);
int kv_metas_write(int fd, const struct kv_metas *metas); /* durable when it returns */
uint64_t kv_metas_txnid(const struct kv_metas *metas);
uint32_t kv_metas_page_size(const struct kv_metas *metas);
bool kv_metas_sound(const struct kv_metas *metas);
bool kv_metas_older(const struct kv_metas *metas, const struct kv_metas *than); /* either of them */
/* Walks all trees of the newest state: reads each page but those of large values. */
bool kv_metas_whole(int fd, const struct kv_metas *metas);
/* Makes sure that the lock file exists with its blocks reserved: LMDB maps it, and a full disk would be SIGBUS. */
int kv_dbfile_reserve_lock(int dirfd, mode_t mode, struct kvfs_error *err);

#endif
