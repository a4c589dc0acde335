/* LMDB, wrapped: see db.h.
 *
 * Invariants:
 *  DB1  Every record is [sum u32][payload]; the sum covers the payload and is bound to table and key, so that a rotted bit
 *       or a misplaced record is an error and never data.
 *  DB2  Stop signals of a terminal are blocked while this process holds the write lock: nobody can be suspended with it.
 *  DB3  Flags that choose a commit's sync are changed only by the holder of the write lock. */
#include "db.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "err.h"

#define POOL_MAX 64
#define GROWTH_CHECK 64 /* pages */
#define MAP_SIZE_MAX (16ull << 40)
#define MAP_SIZE_MIN (1ull << 30)

static const char *const table_names[KV_TABLES] = {
	"meta", "garbage", "session", "log", "dirent", "inode", "chunk", "xattr", "history"};

#define KEY_MAX 511

/* Does the table share the main tree? */
static bool is_small(enum kv_table table)
{
	return table <= KV_LOG;
}

struct full_key {
	uint8_t bytes[KEY_MAX + 1];
	MDB_val val;
};

struct kv_db {
	MDB_env *env;
	MDB_dbi trees[KV_TABLES];
	uint32_t page_size;
	int fd; /* of data.mdb, LMDB's own */
	pthread_mutex_t lock;
	MDB_txn *pool[POOL_MAX]; /* reset reading transactions that keep their slots; protected by lock */
	size_t pooled;
	_Atomic size_t checked_pgno; /* how long the file was when dead readers were last looked for */
	struct kvfs_error damage; /* protected by lock */
	_Atomic unsigned writing; /* transactions from before they have the write lock to their end */
	_Atomic uint64_t reads, writes, descents, bytes_put;
};

/* ---- errors ---- */

/* A short write on a full file system, or at a limit of the process, comes back as EIO from LMDB: look before reporting a failing disk. */
static int io_errno(struct kv_db *db)
{
	struct statvfs vfs;
	if (db && fstatvfs(db->fd, &vfs) == 0 && (uint64_t)vfs.f_bavail * vfs.f_frsize < 1 << 20)
		return ENOSPC;
	struct rlimit lim;
	struct stat st;
	if (db && getrlimit(RLIMIT_FSIZE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY && fstat(db->fd, &st) == 0 &&
		(uint64_t)st.st_size + (1 << 20) > lim.rlim_cur)
		return EFBIG;
	return EIO;
}

static int map_error(struct kv_db *db, int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT; /* an answer, not a fault: no error originates here */
	case MDB_KEYEXIST:
		return -EEXIST;
	case MDB_MAP_FULL:
		return kv_fail(ENOSPC);
	case MDB_READERS_FULL:
		return kv_fail(EUSERS);
	case MDB_TXN_FULL:
		return kv_fail(E2BIG);
	case MDB_MAP_RESIZED:
		return kv_fail(ENOMEM);
	case MDB_PANIC:
		return kv_fail(EIO);
	case MDB_VERSION_MISMATCH:
		return kv_fail(EMEDIUMTYPE);
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_CURSOR_FULL:
	case MDB_INVALID:
	case MDB_INCOMPATIBLE:
	case MDB_BAD_DBI:
		if (db)
			kv_db_set_damage(db, "a page of data.mdb");
		return kv_fail(EUCLEAN);
	case EIO:
		return kv_fail(io_errno(db));
	default:
		return rc > 0 ? kv_fail(rc) : kv_fail(EIO);
	}
}

void kv_db_set_damage(struct kv_db *db, const char *what)
{
	KV_GUARD(&db->lock);
	db->damage.code = -EUCLEAN;
	snprintf(db->damage.text, sizeof db->damage.text, "%s", what);
}

void kv_db_damage(struct kv_db *db, struct kvfs_error *ret)
{
	KV_GUARD(&db->lock);
	*ret = db->damage;
}

static int bad_sum(struct kv_txn *txn, enum kv_table table, const void *key, size_t len)
{
	char what[256];
	uint64_t id = 0;
	if (len >= 8) {
		memcpy(&id, key, 8);
		id = be64toh(id);
	}
	snprintf(what, sizeof what, "%s record %llu: checksum does not match", table_names[table], (unsigned long long)id);
	kv_db_set_damage(txn->db, what);
	return kv_fail(EUCLEAN);
}

/* ---- damage that LMDB finds by itself ----
 * It checks little, by assertions, and after a failed one it prints and aborts.  A library does neither: the call jumps out, and
 * the store is damaged.  Nothing is lost by it: a failed call ends its transaction, and the pages of one that did not commit are nobody's. */

static _Thread_local jmp_buf *way_out;

static void on_assert(MDB_env *env, const char *message)
{
	(void)env;
	(void)message;
	if (way_out)
		longjmp(*way_out, 1);
	abort();
}

#define GUARDED(call)                                                                                                              \
	({                                                                                                                         \
		jmp_buf here_;                                                                                                     \
		way_out = &here_;                                                                                                  \
		int rc_ = _setjmp(here_) ? MDB_CORRUPTED : (call);                                                                 \
		way_out = NULL;                                                                                                    \
		rc_;                                                                                                               \
	})

/* ---- environment ---- */

static int open_trees(struct kv_db *db, const struct kv_db_options *opt)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(db->env, NULL, opt->create ? 0 : MDB_RDONLY, &txn);
	if (rc)
		return rc;
	for (enum kv_table t = 0; rc == 0 && t < KV_TABLES; t++)
		rc = mdb_dbi_open(
			txn, is_small(t) ? NULL : table_names[t], opt->create && !is_small(t) ? MDB_CREATE : 0, &db->trees[t]);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn); /* the handles are good from here on */
}

/* The map cannot grow while a transaction lives, so take all the address space we may need at once.  Some processes have less of
 * it (RLIMIT_AS, valgrind, TSan). */
static int open_env(struct kv_db *db, const char *dir, const struct kv_db_options *opt, struct kvfs_error *err)
{
	unsigned flags = MDB_NOTLS | (opt->rdonly ? MDB_RDONLY : 0) | (opt->no_lock ? MDB_NOLOCK : 0);
	uint64_t size = opt->map_size ? opt->map_size : MAP_SIZE_MAX;
	for (;; size /= 2) {
		int rc = mdb_env_create(&db->env);
		if (rc)
			return kv_explain(err, ENOMEM, "out of memory");
		mdb_env_set_maxdbs(db->env, KV_TABLES);
		mdb_env_set_assert(db->env, on_assert);
		mdb_env_set_mapsize(db->env, size);
		rc = mdb_env_open(db->env, dir, flags, opt->mode);
		if (rc == 0)
			return 0;
		mdb_env_close(db->env);
		db->env = NULL;
		if ((rc == ENOMEM || rc == EINVAL) && !opt->map_size && size > MAP_SIZE_MIN)
			continue; /* EINVAL: valgrind's word for it */
		if (rc == ENOMEM)
			return kv_explain(err, ENOMEM, "cannot map %llu MiB of address space (a limit of this process?)",
				(unsigned long long)size >> 20);
		if (rc == EAGAIN)
			return kv_explain(err, EXDEV, "the store is in use from another pid namespace; share one mount instead");
		int e = map_error(NULL, rc);
		return kv_explain(err, -e, "%s", rc < 0 ? mdb_strerror(rc) : strerror(rc));
	}
}

int kv_db_open(const char *dir, const struct kv_db_options *opt, struct kv_db **ret, struct kvfs_error *err)
{
	struct kv_db *db = calloc(1, sizeof *db);
	if (!db)
		return kv_explain(err, ENOMEM, "out of memory");
	pthread_mutex_init(&db->lock, NULL);
	int r = open_env(db, dir, opt, err);
	if (r) {
		kv_db_close(db, false);
		return r;
	}
	int dead;
	if (!opt->no_lock)
		mdb_reader_check(db->env, &dead);
	mdb_env_get_fd(db->env, &db->fd);
	MDB_stat st;
	mdb_env_stat(db->env, &st);
	db->page_size = st.ms_psize;
	int rc = opt->pin ? 0 : open_trees(db, opt);
	if (rc) {
		if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE)
			r = kv_explain(err, EMEDIUMTYPE, "an LMDB file, but not a kvfs store");
		else
			r = kv_explain(err, -map_error(db, rc), "%s", rc == EIO ? strerror(-map_error(db, rc)) : mdb_strerror(rc));
		kv_db_close(db, false);
		return r;
	}
	*ret = db;
	return 0;
}

void kv_db_close(struct kv_db *db, bool inherited)
{
	if (!db)
		return;
	if (!inherited && db->env) {
		for (size_t i = 0; i < db->pooled; i++)
			mdb_txn_abort(db->pool[i]);
		mdb_env_close(db->env);
	}
	pthread_mutex_destroy(&db->lock);
	free(db);
}

int kv_db_fd(const struct kv_db *db)
{
	return db->fd;
}

int kv_db_sync(struct kv_db *db)
{
	return map_error(db, mdb_env_sync(db->env, 1));
}

/* Each commit writes the page that the last one did not: while a state is the newest, nobody writes its own. */
int kv_db_metas(const struct kv_txn *txn, struct kv_metas *ret)
{
	int r = kv_metas_read_state(txn->db->fd, txn->db->page_size, txn->txnid, ret);
	return r == 0 && !kv_db_is_newest(txn) ? -EAGAIN : r;
}

uint64_t kv_db_newest(struct kv_db *db)
{
	MDB_envinfo info;
	mdb_env_info(db->env, &info);
	return info.me_last_txnid;
}

uint64_t kv_db_room(struct kv_db *db)
{
	MDB_envinfo info;
	struct statvfs vfs;
	mdb_env_info(db->env, &info);
	uint64_t map = info.me_mapsize - kv_min(info.me_mapsize, ((uint64_t)info.me_last_pgno + 1) * db->page_size);
	return fstatvfs(db->fd, &vfs) ? map : kv_min(map, (uint64_t)vfs.f_bavail * vfs.f_frsize);
}

/* ---- transactions ---- */

static MDB_txn *pool_pop(struct kv_db *db)
{
	KV_GUARD(&db->lock);
	return db->pooled ? db->pool[--db->pooled] : NULL;
}

static bool pool_push(struct kv_db *db, MDB_txn *mdb)
{
	KV_GUARD(&db->lock);
	if (db->pooled == POOL_MAX)
		return false;
	db->pool[db->pooled++] = mdb;
	return true;
}

static int begin_reading(struct kv_db *db, MDB_txn **ret)
{
	MDB_txn *mdb = pool_pop(db);
	int rc = mdb ? mdb_txn_renew(mdb) : mdb_txn_begin(db->env, NULL, MDB_RDONLY, &mdb);
	if (rc == MDB_READERS_FULL) {
		int dead;
		mdb_reader_check(db->env, &dead);
		rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &mdb);
	} else if (rc && mdb) {
		mdb_txn_abort(mdb);
	}
	if (rc == 0)
		*ret = mdb;
	return rc;
}

int kv_db_read(struct kv_db *db, struct kv_txn *ret)
{
	MDB_txn *mdb;
	int rc = begin_reading(db, &mdb);
	if (rc)
		return map_error(db, rc);
	ret->db = db;
	ret->mdb = mdb;
	ret->write = ret->changed = false;
	ret->txnid = mdb_txn_id(mdb);
	ret->descents = 0;
	ret->bytes_put = 0;
	return 0;
}

static void account(struct kv_txn *txn)
{
	atomic_fetch_add_explicit(txn->write ? &txn->db->writes : &txn->db->reads, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&txn->db->descents, txn->descents, memory_order_relaxed);
	if (txn->bytes_put)
		atomic_fetch_add_explicit(&txn->db->bytes_put, txn->bytes_put, memory_order_relaxed);
}

void kv_db_read_end(struct kv_txn *txn)
{
	if (!txn->mdb)
		return;
	account(txn);
	mdb_txn_reset(txn->mdb);
	if (!pool_push(txn->db, txn->mdb))
		mdb_txn_abort(txn->mdb);
	txn->mdb = NULL;
}

bool kv_db_is_newest(const struct kv_txn *txn)
{
	/* Order what the caller published in shared memory (a hold) before the look at the newest commit. */
	atomic_thread_fence(memory_order_seq_cst);
	return kv_db_newest(txn->db) == txn->txnid;
}

static void block_stops(sigset_t *old)
{
	sigset_t stops;
	sigemptyset(&stops);
	sigaddset(&stops, SIGTSTP);
	sigaddset(&stops, SIGTTIN);
	sigaddset(&stops, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &stops, old);
}

bool kv_db_is_writing(struct kv_db *db)
{
	return db->writing;
}

int kv_db_write(struct kv_db *db, struct kv_txn *ret)
{
	sigset_t old;
	MDB_txn *mdb;
	block_stops(&old);
	db->writing++;
	int rc = mdb_txn_begin(db->env, NULL, 0, &mdb);
	if (rc) {
		db->writing--;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		return map_error(db, rc);
	}
	*ret = (struct kv_txn){.db = db, .mdb = mdb, .write = true, .txnid = mdb_txn_id(mdb), .mask = old};
	return 0;
}

/* The snapshot of a reader that died pins every page freed since: look for some whenever the file has grown by a few. */
static void check_growth(struct kv_db *db)
{
	MDB_envinfo info;
	int dead;
	mdb_env_info(db->env, &info);
	if (info.me_last_pgno < atomic_load(&db->checked_pgno) + GROWTH_CHECK)
		return;
	atomic_store(&db->checked_pgno, info.me_last_pgno);
	mdb_reader_check(db->env, &dead);
}

/* Unlike the other calls it ends the transaction, unless it was left by the way out. */
static int commit(MDB_txn *mdb)
{
	jmp_buf here;
	int rc = MDB_CORRUPTED;
	way_out = &here;
	if (_setjmp(here))
		mdb_txn_abort(mdb);
	else
		rc = mdb_txn_commit(mdb);
	way_out = NULL;
	return rc;
}

int kv_db_commit(struct kv_txn *txn, enum kv_sync sync)
{
	struct kv_db *db = txn->db;
	mdb_env_set_flags(db->env, MDB_NOSYNC, txn->unflushed);
	mdb_env_set_flags(db->env, MDB_NOMETASYNC, sync == KV_SYNC_ORDER);
	int rc = commit(txn->mdb);
	db->writing--;
	account(txn);
	txn->mdb = NULL;
	pthread_sigmask(SIG_SETMASK, &txn->mask, NULL);
	check_growth(db);
	return map_error(db, rc);
}

void kv_db_abort(struct kv_txn *txn)
{
	if (!txn->mdb)
		return;
	account(txn);
	mdb_txn_abort(txn->mdb);
	txn->db->writing--;
	txn->mdb = NULL;
	pthread_sigmask(SIG_SETMASK, &txn->mask, NULL);
}

/* ---- records ---- */

static int result(struct kv_txn *txn, int rc)
{
	txn->changed |= rc != 0 && rc != MDB_NOTFOUND;
	return map_error(txn->db, rc);
}

/* Not XXH3's own seed for the long part: deriving a secret from it costs more than hashing a small record. */
static uint32_t record_sum(enum kv_table table, const void *key, size_t len, const void *data, size_t n)
{
	return (uint32_t)(XXH3_64bits(data, n) ^ XXH3_64bits_withSeed(key, len, table));
}

const char *kv_db_table_name(enum kv_table table)
{
	return table_names[table];
}

bool kv_db_open_record(enum kv_table table, struct kv_bytes key, struct kv_bytes raw, struct kv_bytes *ret)
{
	struct kv_rec_sum head;
	if (raw.len < sizeof head)
		return false;
	memcpy(&head, raw.data, sizeof head);
	struct kv_bytes payload = {(const char *)raw.data + sizeof head, raw.len - sizeof head};
	if (record_sum(table, key.data, key.len, payload.data, payload.len) != head.sum)
		return false;
	*ret = payload;
	return true;
}

static int open_record(struct kv_txn *txn, enum kv_table table, struct kv_bytes key, const MDB_val *val, struct kv_bytes *ret)
{
	if (!kv_db_open_record(table, key, (struct kv_bytes){val->mv_data, val->mv_size}, ret))
		return bad_sum(txn, table, key.data, key.len);
	return 0;
}

static MDB_val *full_key(struct full_key *full, enum kv_table table, const void *key, size_t len)
{
	if (!is_small(table)) {
		full->val = (MDB_val){len, (void *)key};
		return &full->val;
	}
	full->bytes[0] = (uint8_t)(table + 1);
	if (len)
		memcpy(full->bytes + 1, key, len);
	full->val = (MDB_val){len + 1, full->bytes};
	return &full->val;
}

/* The key as the table has it; false when the record belongs to another table. */
static bool table_key(enum kv_table table, const MDB_val *key, struct kv_bytes *ret)
{
	if (!is_small(table)) {
		*ret = (struct kv_bytes){key->mv_data, key->mv_size};
		return true;
	}
	if (!key->mv_size || *(uint8_t *)key->mv_data != table + 1)
		return false;
	*ret = (struct kv_bytes){(uint8_t *)key->mv_data + 1, key->mv_size - 1};
	return true;
}

int kv_db_get(struct kv_txn *txn, enum kv_table table, const void *key, size_t len, struct kv_bytes *ret)
{
	struct full_key full;
	MDB_val v;
	txn->descents++;
	int rc = GUARDED(mdb_get(txn->mdb, txn->db->trees[table], full_key(&full, table, key, len), &v));
	if (rc)
		return result(txn, rc);
	return open_record(txn, table, (struct kv_bytes){key, len}, &v, ret);
}

int kv_db_put(struct kv_txn *txn, enum kv_table table, const void *key, size_t len, const struct iovec *parts, int n)
{
	struct full_key full;
	struct kv_rec_sum head;
	MDB_val v = {sizeof head, NULL};
	for (int i = 0; i < n; i++)
		v.mv_size += parts[i].iov_len;
	size_t payload = v.mv_size - sizeof head;
	txn->descents++;
	txn->changed = true;
	int rc = GUARDED(mdb_put(txn->mdb, txn->db->trees[table], full_key(&full, table, key, len), &v, MDB_RESERVE));
	if (rc)
		return map_error(txn->db, rc);
	char *at = (char *)v.mv_data + sizeof head;
	for (int i = 0; i < n; i++) {
		if (parts[i].iov_len)
			memcpy(at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	head.sum = record_sum(table, key, len, (char *)v.mv_data + sizeof head, payload);
	memcpy(v.mv_data, &head, sizeof head);
	txn->bytes_put += payload;
	return 0;
}

int kv_db_del(struct kv_txn *txn, enum kv_table table, const void *key, size_t len)
{
	struct full_key full;
	txn->descents++;
	int rc = GUARDED(mdb_del(txn->mdb, txn->db->trees[table], full_key(&full, table, key, len), NULL));
	txn->changed |= rc == 0;
	return result(txn, rc);
}

/* ---- cursors ---- */

int kv_cursor_open(struct kv_txn *txn, enum kv_table table, struct kv_cursor *ret)
{
	MDB_cursor *mdb;
	int rc = mdb_cursor_open(txn->mdb, txn->db->trees[table], &mdb);
	if (rc)
		return result(txn, rc);
	*ret = (struct kv_cursor){.txn = txn, .mdb = mdb, .table = table};
	return 0;
}

void kv_cursor_close(struct kv_cursor *c)
{
	if (c->mdb)
		mdb_cursor_close(c->mdb);
	c->mdb = NULL;
}

static int move(struct kv_cursor *c, MDB_cursor_op op, MDB_val *key)
{
	MDB_val k = key ? *key : (MDB_val){0}, v;
	if (op != MDB_NEXT && op != MDB_PREV)
		c->txn->descents++;
	int rc = GUARDED(mdb_cursor_get(c->mdb, &k, &v, op));
	if (rc)
		return result(c->txn, rc);
	if (!table_key(c->table, &k, &c->key))
		return -ENOENT;
	if (c->raw) {
		c->value = (struct kv_bytes){NULL, v.mv_size};
		return 0;
	}
	return open_record(c->txn, c->table, c->key, &v, &c->value);
}

int kv_cursor_seek(struct kv_cursor *c, const void *key, size_t len)
{
	struct full_key full;
	if (!is_small(c->table) && !len)
		return move(c, MDB_FIRST, NULL);
	return move(c, MDB_SET_RANGE, full_key(&full, c->table, key, len));
}

/* To the last record of the tree before `key`, in whatever table it is. */
static int move_before(struct kv_cursor *c, MDB_val *key)
{
	MDB_val k = *key, v;
	c->txn->descents++;
	int rc = GUARDED(mdb_cursor_get(c->mdb, &k, &v, MDB_SET_RANGE));
	if (rc && rc != MDB_NOTFOUND)
		return result(c->txn, rc);
	return move(c, rc ? MDB_LAST : MDB_PREV, NULL);
}

int kv_cursor_seek_before(struct kv_cursor *c, const void *key, size_t len)
{
	struct full_key full;
	return move_before(c, full_key(&full, c->table, key, len));
}

int kv_cursor_last(struct kv_cursor *c)
{
	uint8_t next = (uint8_t)(c->table + 2);
	return !is_small(c->table) ? move(c, MDB_LAST, NULL) : move_before(c, &(MDB_val){1, &next});
}

int kv_cursor_next(struct kv_cursor *c)
{
	return move(c, MDB_NEXT, NULL);
}

int kv_cursor_prev(struct kv_cursor *c)
{
	return move(c, MDB_PREV, NULL);
}

int kv_cursor_del(struct kv_cursor *c)
{
	c->txn->changed = true;
	return map_error(c->txn->db, GUARDED(mdb_cursor_del(c->mdb, 0)));
}

/* ---- figures ---- */

/* Sums the free list.  Its records grow with the free space, so this reads, once, eight bytes for each free page. */
static int count_free(struct kv_db *db, uint64_t *ret_pages, uint64_t *ret_txns)
{
	struct kv_txn txn = {0};
	int r = kv_db_read(db, &txn);
	if (r)
		return r;
	MDB_cursor *cur;
	MDB_val k, v;
	uint64_t pages = 0, txns = 0;
	int rc = mdb_cursor_open(txn.mdb, 0, &cur);
	if (rc == 0) {
		while ((rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
			size_t n;
			memcpy(&n, v.mv_data, sizeof n);
			pages += n;
			txns++;
		}
		mdb_cursor_close(cur);
	}
	kv_db_read_end(&txn);
	if (rc != MDB_NOTFOUND)
		return map_error(db, rc);
	*ret_pages = pages;
	*ret_txns = txns;
	return 0;
}

int kv_db_info(struct kv_db *db, struct kv_db_info *ret)
{
	MDB_envinfo info;
	struct kv_db_info out = {.page_size = db->page_size};
	int r = count_free(db, &out.free_pages, &out.reclaimable_txns);
	if (r)
		return r;
	mdb_env_info(db->env, &info);
	out.file_pages = info.me_last_pgno + 1;
	out.last_txnid = info.me_last_txnid;
	out.readers = info.me_numreaders;
	out.readers_max = info.me_maxreaders;
	*ret = out;
	return 0;
}

struct kv_db_counts kv_db_counts(struct kv_db *db)
{
	return (struct kv_db_counts){db->reads, db->writes, db->descents, db->bytes_put};
}
