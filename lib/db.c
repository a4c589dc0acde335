/* LMDB, wrapped: see db.h.
 *
 * Invariants:
 *  DB1  Every record is [sum u32][payload]; the sum covers the payload and is bound to table and key, so that a rotted bit
 *       or a misplaced record is an error and never data.
 *  DB2  Stop signals of a terminal are blocked while this process holds the write lock, or the directory's: nobody can be suspended with it.
 *  DB3  Flags that choose a commit's sync are changed only by the holder of the write lock.
 *  DB4  Readers read by themselves (tree.h), in a state that an LMDB transaction keeps.  Writers go through LMDB, which is let
 *       to no page that was not checked before. */
#include "db_lmdb.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "err.h"

#define GROWTH_CHECK 64 /* pages */
/* What is checked before the first change: */
#define LIST_CHECK (1u << 18) /* numbers of free pages, of 1 GiB: a millisecond */
#define WALK_PAGES 512 /* all of a file that has no more pages: half a millisecond */
#define RENEWALS_MAX 1000
#define MAP_SIZE_MAX (16ull << 40)
#define MAP_SIZE_MIN (1ull << 30)

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

int kv_db_map_error(struct kv_db *db, int rc)
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
	case KV_DB_ASSERTED:
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

/* What came of a walk in the map. */
int kv_db_walked(struct kv_db *db, int r)
{
	char what[256];
	if (r == -EUCLEAN) {
		snprintf(what, sizeof what, "page %llu of data.mdb: %s", (unsigned long long)db->map.bad_page, db->map.why);
		kv_db_set_damage(db, what);
	}
	return r;
}

/* ---- damage that LMDB finds by itself ----
 * It checks little, by assertions, and after a failed one it prints and aborts.  A library does neither: the call jumps out, and
 * the store is damaged.  Nothing is lost by it: a failed call ends its transaction, and the pages of one that did not commit are nobody's. */

_Thread_local jmp_buf *kv_db_way_out;

static void on_assert(MDB_env *env, const char *message)
{
	(void)env;
	(void)message;
	if (kv_db_way_out)
		longjmp(*kv_db_way_out, 1);
	abort();
}

/* ---- environment ---- */

/* Where the trees of a transaction's state begin.  Its meta page is not written before the commit after the next one begins: who finds his
 * state to be the newest afterwards, by LMDB's count, has read it whole. */
static int load_trees(struct kv_db *db, MDB_txn *mdb, bool write, struct kv_trees *ret)
{
	ret->known = 0;
	for (unsigned i = 0; i < RENEWALS_MAX; i++) {
		uint64_t txnid = mdb_txn_id(mdb) - (write ? 1 : 0);
		int r = kv_map_state(&db->map, txnid, &ret->main, &ret->free);
		atomic_thread_fence(memory_order_acquire); /* the look at the newest comes after */
		if (write || kv_db_newest(db) == txnid)
			return kv_db_walked(db, r);
		mdb_txn_reset(mdb);
		int rc = mdb_txn_renew(mdb);
		if (rc)
			return kv_db_map_error(db, rc);
		if (mdb_txn_id(mdb) == txnid) /* the next one's writer may have died before LMDB counted it */
			return kv_db_walked(db, r);
	}
	return kv_fail(EBUSY);
}

/* Each tree is looked for by our own eyes before LMDB opens it, and shows in passing where LMDB has mapped the file. */
static int open_trees(struct kv_db *db, MDB_txn *txn)
{
	struct kv_trees trees;
	struct kv_record rec = {0};
	struct kv_tree tree;
	MDB_val name, v;
	int r = load_trees(db, txn, false, &trees), rc = 0;
	for (enum kv_table t = 0; r == 0 && rc == 0 && t < KV_TABLES; t++) {
		if (!kv_db_is_small(t))
			r = kv_db_walked(db, kv_tree_named(&db->map, &trees.main, kv_db_table_name(t), &tree, &rec));
		if (r == 0)
			rc = KV_DB_GUARDED(mdb_dbi_open(txn, kv_db_is_small(t) ? NULL : kv_db_table_name(t), 0, &db->trees[t]));
		if (r == 0 && rc == 0 && t == KV_TABLES - 1) {
			name = (MDB_val){strlen(kv_db_table_name(t)), (void *)kv_db_table_name(t)};
			rc = KV_DB_GUARDED(mdb_get(txn, db->trees[KV_META], &name, &v));
			if (rc == 0)
				kv_map_set_base(&db->map, v.mv_data, rec.page);
		}
	}
	return r ? r : kv_db_map_error(db, rc);
}

static int make_trees(struct kv_db *db)
{
	MDB_txn *txn;
	MDB_dbi tree;
	int rc = mdb_txn_begin(db->env, NULL, 0, &txn);
	if (rc)
		return kv_db_map_error(db, rc);
	for (enum kv_table t = KV_DIRENT; rc == 0 && t < KV_TABLES; t++)
		rc = mdb_dbi_open(txn, kv_db_table_name(t), MDB_CREATE, &tree);
	if (rc == 0)
		return kv_db_map_error(db, mdb_txn_commit(txn));
	mdb_txn_abort(txn);
	return kv_db_map_error(db, rc);
}

static int open_map(struct kv_db *db, bool create, struct kvfs_error *err)
{
	MDB_envinfo info;
	MDB_txn *txn = NULL;
	mdb_env_info(db->env, &info);
	int r = kv_map_open(&db->map, db->fd, db->page_size, info.me_mapsize);
	if (r == 0 && create)
		r = make_trees(db);
	if (r == 0)
		r = kv_db_map_error(db, mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn));
	if (r == 0)
		r = open_trees(db, txn);
	if (r == 0)
		r = kv_db_map_error(db, mdb_txn_commit(txn)); /* the handles are good from here on */
	else if (txn)
		mdb_txn_abort(txn);
	if (r == -ENOENT)
		return kv_explain(err, EMEDIUMTYPE, "an LMDB file, but not a kvfs store");
	if (r == -EUCLEAN)
		return kv_explain(err, EUCLEAN, "damaged: %s; restore a backup", db->damage.text);
	return r ? kv_explain(err, -r, "%s", strerror(-r)) : 0;
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
		int e = kv_db_map_error(NULL, rc);
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
	r = opt->pin ? 0 : open_map(db, opt->create, err);
	if (r) {
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
	kv_map_close(&db->map);
	pthread_mutex_destroy(&db->lock);
	free(db);
}

int kv_db_fd(const struct kv_db *db)
{
	return db->fd;
}

int kv_db_sync(struct kv_db *db)
{
	return kv_db_map_error(db, mdb_env_sync(db->env, 1));
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
	if (db->pooled == KV_DB_POOL)
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
		return kv_db_map_error(db, rc);
	int r = db->map.base ? load_trees(db, mdb, false, &ret->trees) : 0;
	if (r) {
		mdb_txn_abort(mdb);
		return r;
	}
	ret->db = db;
	ret->mdb = mdb;
	ret->write = ret->changed = ret->broken = false;
	ret->own = 0;
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

void kv_db_block_stops(sigset_t *old)
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

/* LMDB takes from the list of free pages what it is about to write: it must be sound. */
static int check_free(struct kv_txn *txn)
{
	struct kv_db *db = txn->db;
	const struct kv_tree *trees[KV_TABLES] = {&txn->trees.main};
	size_t n = 1;
	if (txn->trees.main.end > WALK_PAGES)
		return kv_db_walked(db, kv_map_check(&db->map, &txn->trees.free, NULL, 0, LIST_CHECK));
	for (enum kv_table t = KV_DIRENT; t < KV_TABLES; t++) {
		int r = kv_db_tree(txn, t, &trees[n++]);
		if (r)
			return r;
	}
	return kv_db_walked(db, kv_map_check(&db->map, &txn->trees.free, trees, n, LIST_CHECK));
}

static int look_before_writing(struct kv_txn *txn)
{
	struct kv_db *db = txn->db;
	int r = load_trees(db, txn->mdb, true, &txn->trees);
	if (r == 0 && !db->free_checked)
		r = check_free(txn);
	db->free_checked |= r == 0;
	return r;
}

int kv_db_write(struct kv_db *db, struct kv_txn *ret)
{
	sigset_t old;
	MDB_txn *mdb;
	kv_db_block_stops(&old);
	db->writing++;
	int rc = mdb_txn_begin(db->env, NULL, 0, &mdb);
	if (rc) {
		db->writing--;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		return kv_db_map_error(db, rc);
	}
	struct kv_txn txn = {.db = db, .mdb = mdb, .write = true, .txnid = mdb_txn_id(mdb), .mask = old};
	int r = look_before_writing(&txn);
	if (r)
		kv_db_abort(&txn);
	*ret = txn;
	return r;
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

/* A call that an assertion of LMDB ended has left a cursor of its own, on its stack, in the transaction's lists, and aborting would free it. A
 * new cursor comes first in the list of its tree, and its own first word is what leads on: so the rest is cut off.  Cursors of ours
 * are freed by who closes them. */
static void forget_cursors(struct kv_db *db, MDB_txn *mdb)
{
	for (unsigned t = KV_META; t < KV_TABLES; t++) {
		MDB_cursor *first;
		if (t != KV_META && kv_db_is_small(t))
			continue;
		if (mdb_cursor_open(mdb, db->trees[t], &first))
			abort();
		*(void **)first = NULL;
	}
}

static void abort_txn(struct kv_db *db, MDB_txn *mdb, bool broken)
{
	if (broken)
		forget_cursors(db, mdb);
	mdb_txn_abort(mdb);
}

/* Unlike the other calls it ends the transaction, unless it was left by the way out. */
static int commit(struct kv_db *db, MDB_txn *mdb)
{
	jmp_buf here;
	int rc = MDB_CORRUPTED;
	kv_db_way_out = &here;
	if (_setjmp(here))
		abort_txn(db, mdb, true);
	else
		rc = mdb_txn_commit(mdb);
	kv_db_way_out = NULL;
	return rc;
}

int kv_db_commit(struct kv_txn *txn, enum kv_sync sync)
{
	struct kv_db *db = txn->db;
	mdb_env_set_flags(db->env, MDB_NOSYNC, txn->unflushed);
	mdb_env_set_flags(db->env, MDB_NOMETASYNC, sync == KV_SYNC_ORDER);
	int rc = commit(db, txn->mdb);
	db->writing--;
	account(txn);
	txn->mdb = NULL;
	pthread_sigmask(SIG_SETMASK, &txn->mask, NULL);
	check_growth(db);
	return kv_db_map_error(db, rc);
}

void kv_db_abort(struct kv_txn *txn)
{
	if (!txn->mdb)
		return;
	account(txn);
	abort_txn(txn->db, txn->mdb, txn->broken);
	txn->db->writing--;
	txn->mdb = NULL;
	pthread_sigmask(SIG_SETMASK, &txn->mask, NULL);
}

/* ---- figures ---- */

/* Sums the free list.  Its records grow with the free space, so this comes, once, to each of their first pages. */
static int count_free(struct kv_db *db, uint64_t *ret_pages, uint64_t *ret_txns)
{
	struct kv_txn txn = {0};
	int r = kv_db_read(db, &txn);
	if (r)
		return r;
	r = kv_db_walked(db, kv_tree_count_free(&db->map, &txn.trees.free, ret_pages, ret_txns));
	kv_db_read_end(&txn);
	return r;
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
