/* Transactions: a snapshot to read, a list of changes, and a note of every key that was read with the version it had.
 *
 * Commit takes the lock, compares the notes with the store as it is, applies the list in order, and commits: no user code runs
 * under the lock, and nobody waits for a transaction that thinks.
 *
 * Invariants:
 *  T1  A key's note says what the snapshot has (version, or absent) if it was ever read from there, and what this transaction has made of
 *      it since, if anything.
 *  T2  Only what was read can conflict: a key that was only written is written whatever it is. */
#include "txn.h"

#include <errno.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "api.h"
#include "err.h"
#include "held.h"
#include "path.h"
#include "session.h"

enum op_kind { OP_PUT, OP_DEL, OP_RENAME };

struct kv_txn_op {
	enum op_kind kind;
	struct kvfs_put_options opt;
	char *key, *key2;
	void *data;
	size_t len;
	unsigned flags;
	struct kv_txn_op *next;
};

enum state { AS_SNAPSHOT, WRITTEN, DELETED };

struct kv_txn_key {
	char *key;
	bool read; /* the outcome depends on what the snapshot has */
	bool found;
	uint64_t ino, version; /* both: two values of one commit share the version */
	enum state state;
	const struct kv_txn_op *op; /* WRITTEN: the put whose data it has */
	char *alias; /* WRITTEN by a rename: the snapshot's key whose value it has */
	struct kv_txn_key *next;
};

#define SNAPSHOTS_MAX 1000 /* of one process: half of LMDB's reader slots */
#define COST_OP 256 /* bytes of memory that an operation takes besides its data */

/* ---- life ---- */

int kv_txn_snapshot(struct kvfs_txn *txn, struct kv_txn **ret)
{
	int r = kv_core_check(txn->core);
	if (r == 0)
		*ret = &txn->snapshot;
	return r;
}

int kvfs_txn_begin(struct kvfs_store *store, unsigned flags, struct kvfs_txn **ret)
{
	int r = flags & KVFS_TXN_WRITE ? kv_api_writable(store) : kv_core_check(store->core);
	if (r == 0 && flags & ~(unsigned)KVFS_TXN_WRITE)
		r = kv_fail(EINVAL);
	if (r)
		return r;
	struct kvfs_txn *txn = calloc(1, sizeof *txn);
	if (!txn)
		return kv_fail(ENOMEM);
	txn->core = store->core;
	txn->write = flags & KVFS_TXN_WRITE;
	txn->ops_end = &txn->ops;
	r = atomic_fetch_add(&txn->core->snapshots, 1) < SNAPSHOTS_MAX ? kv_db_read(txn->core->db, &txn->snapshot)
								       : kv_fail(EUSERS);
	if (r) {
		atomic_fetch_sub(&txn->core->snapshots, 1);
		free(txn);
		return r;
	}
	if (txn->core->doors)
		kv_doors_snapshot_begin(txn->core->doors, &txn->mark);
	*ret = txn;
	return 0;
}

static void free_op(struct kv_txn_op *op)
{
	free(op->key);
	free(op->key2);
	free(op->data);
	free(op);
}

void kvfs_txn_abort(struct kvfs_txn *txn)
{
	if (!txn)
		return;
	if (kv_core_check(txn->core) == 0) {
		kv_db_read_end(&txn->snapshot);
		atomic_fetch_sub(&txn->core->snapshots, 1);
		if (txn->core->doors)
			kv_doors_snapshot_end(txn->core->doors, &txn->mark);
	}
	while (txn->ops) {
		struct kv_txn_op *op = txn->ops;
		txn->ops = op->next;
		free_op(op);
	}
	for (size_t i = 0; i < txn->cap; i++)
		while (txn->keys[i]) {
			struct kv_txn_key *k = txn->keys[i];
			txn->keys[i] = k->next;
			free(k->key);
			free(k->alias);
			free(k);
		}
	free(txn->keys);
	free(txn);
}

/* ---- notes ---- */

static int grow(struct kvfs_txn *txn)
{
	size_t cap = txn->cap ? txn->cap * 4 : 64;
	struct kv_txn_key **keys = calloc(cap, sizeof(struct kv_txn_key *));
	if (!keys)
		return kv_fail(ENOMEM);
	for (size_t i = 0; i < txn->cap; i++)
		while (txn->keys[i]) {
			struct kv_txn_key *k = txn->keys[i];
			txn->keys[i] = k->next;
			size_t at = XXH3_64bits(k->key, strlen(k->key)) & (cap - 1);
			k->next = keys[at];
			keys[at] = k;
		}
	free(txn->keys);
	txn->keys = keys;
	txn->cap = cap;
	return 0;
}

/* The note of a key, made if needed.  A read is noted with what the snapshot has. */
static int note(struct kvfs_txn *txn, const char *key, struct kv_txn_key **ret)
{
	int r = kv_core_check(txn->core);
	if (r == 0)
		r = kv_path_check(key);
	if (r == 0 && txn->nkeys >= txn->cap)
		r = grow(txn);
	if (r)
		return r;
	key += *key == '/';
	size_t at = XXH3_64bits(key, strlen(key)) & (txn->cap - 1);
	struct kv_txn_key *k = txn->keys[at];
	while (k && strcmp(k->key, key) != 0)
		k = k->next;
	if (!k) {
		if (txn->write && txn->nkeys >= 2 * KVFS_TXN_OPS_MAX)
			return kv_fail(E2BIG);
		k = calloc(1, sizeof *k);
		if (k)
			k->key = strdup(key);
		if (!k || !k->key) {
			free(k);
			return kv_fail(ENOMEM);
		}
		k->next = txn->keys[at];
		txn->keys[at] = k;
		txn->nkeys++;
	}
	*ret = k;
	return 0;
}

/* What the store has under a key; *ret only if it is there. */
static int look(struct kv_txn *txn, const char *key, bool *ret_found, struct kvfs_stat *ret)
{
	struct kv_dirent ent;
	int r = kv_namei_lookup(txn, key, &ent);
	if (r == 0)
		r = kv_inode_stat_at(txn, &ent, ret);
	if (r && r != -ENOENT && r != -ENOTDIR)
		return r;
	*ret_found = r == 0;
	return 0;
}

static int note_read(struct kvfs_txn *txn, struct kv_txn_key *k, struct kvfs_stat *ret)
{
	int r = look(&txn->snapshot, k->key, &k->found, ret);
	if (r == 0) {
		k->read = true;
		k->ino = k->found ? ret->ino : 0;
		k->version = k->found ? ret->version : 0;
	}
	return r;
}

/* ---- reading ---- */

int kvfs_txn_get(struct kvfs_txn *txn, const char *key, void **ret_data, size_t *ret_len)
{
	struct kv_txn_key *k;
	struct kvfs_stat st;
	if (!txn->write) { /* nothing to note: it cannot conflict */
		int r = kv_core_check(txn->core);
		if (r == 0)
			r = kv_path_check(key);
		return r ? r : kv_api_get(txn->core, &txn->snapshot, key, ret_data, ret_len, NULL);
	}
	int r = note(txn, key, &k);
	if (r)
		return r;
	if (k->state == DELETED)
		return -ENOENT;
	if (k->state == WRITTEN && k->op) {
		char *copy = malloc(k->op->len + 1);
		if (!copy)
			return kv_fail(ENOMEM);
		if (k->op->len)
			memcpy(copy, k->op->data, k->op->len);
		copy[k->op->len] = 0;
		*ret_data = copy;
		*ret_len = k->op->len;
		return 0;
	}
	if (k->state == AS_SNAPSHOT) {
		r = note_read(txn, k, &st);
		if (r)
			return r;
	}
	return kv_api_get(txn->core, &txn->snapshot, k->alias ? k->alias : k->key, ret_data, ret_len, NULL);
}

/* Without changes to come there is nothing to note: a snapshot cannot conflict. */
static int stat_snapshot(struct kvfs_txn *txn, const char *key, struct kvfs_stat *ret)
{
	struct kv_dirent ent;
	int r = kv_core_check(txn->core);
	if (r == 0)
		r = kv_path_check(key);
	if (r == 0)
		r = kv_namei_lookup(&txn->snapshot, key, &ent);
	return r ? r : kv_inode_stat_at(&txn->snapshot, &ent, ret);
}

int kvfs_txn_stat(struct kvfs_txn *txn, const char *key, struct kvfs_stat *ret)
{
	struct kv_txn_key *k;
	struct kvfs_stat st = {0};
	if (!txn->write)
		return stat_snapshot(txn, key, ret);
	int r = note(txn, key, &k);
	if (r)
		return r;
	if (k->state == DELETED)
		return -ENOENT;
	if (k->state == AS_SNAPSHOT) {
		r = note_read(txn, k, &st);
		if (r == 0 && !k->found)
			r = -ENOENT;
		if (r == 0)
			*ret = st;
		return r;
	}
	bool found;
	r = look(&txn->snapshot, k->alias ? k->alias : k->key, &found, &st);
	if (r)
		return r;
	if (!found)
		st = (struct kvfs_stat){.mode = S_IFREG | 0644, .uid = geteuid(), .gid = getegid(), .nlink = 1};
	if (k->op) {
		st.size = st.allocated = k->op->len;
		st.mtime = k->op->opt.mtime.tv_sec || k->op->opt.mtime.tv_nsec ? k->op->opt.mtime : kv_now();
	}
	st.version = 0;
	*ret = st;
	return 0;
}

int kvfs_txn_exists(struct kvfs_txn *txn, const char *key)
{
	struct kvfs_stat st;
	if (kv_path_check(key))
		return 0;
	int r = kvfs_txn_stat(txn, key, &st);
	return r == 0 ? 1 : r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

int kvfs_txn_stream_open(struct kvfs_txn *txn, const char *key, struct kvfs_stream **ret)
{
	struct kv_txn_key *k = NULL;
	struct kvfs_stat st = {0};
	struct kv_inode inode;
	int r = txn->write ? note(txn, key, &k) : stat_snapshot(txn, key, &st);
	if (r)
		return r;
	if (k) {
		if (k->state != AS_SNAPSHOT) /* what it wrote itself is small enough for kvfs_txn_get() */
			return k->state == DELETED ? -ENOENT : kv_fail(EBUSY);
		r = note_read(txn, k, &st);
		if (r == 0 && !k->found)
			r = -ENOENT;
	}
	if (r == 0)
		r = kv_held_check_type(st.mode);
	if (r == 0)
		r = kv_inode_get(&txn->snapshot, st.ino, &inode);
	return r ? r : kv_stream_within(txn->core, &txn->snapshot, &inode, ret);
}

/* ---- changing ---- */

static int add_op(struct kvfs_txn *txn, enum op_kind kind, const char *key, const char *key2, const void *data, size_t len,
	struct kv_txn_op **ret)
{
	if (!txn->write)
		return kv_fail(EROFS);
	if (txn->nops >= KVFS_TXN_OPS_MAX || len > KVFS_TXN_BYTES_MAX || txn->bytes + len > KVFS_TXN_BYTES_MAX)
		return kv_fail(E2BIG);
	struct kv_txn_op *op = calloc(1, sizeof *op);
	if (!op)
		return kv_fail(ENOMEM);
	op->kind = kind;
	op->key = strdup(key);
	op->key2 = key2 ? strdup(key2) : NULL;
	op->data = malloc(len ? len : 1);
	op->len = len;
	if (!op->key || (key2 && !op->key2) || !op->data) {
		free_op(op);
		return kv_fail(ENOMEM);
	}
	if (len)
		memcpy(op->data, data, len);
	*txn->ops_end = op;
	txn->ops_end = &op->next;
	txn->nops++;
	txn->bytes += len;
	*ret = op;
	return 0;
}

static void set_state(struct kv_txn_key *k, enum state state, const struct kv_txn_op *op)
{
	k->state = state;
	k->op = op;
	free(k->alias);
	k->alias = NULL;
}

/* Does the key exist as the transaction sees it, and with which version? */
static int present(struct kvfs_txn *txn, struct kv_txn_key *k, bool *ret, struct kvfs_stat *st)
{
	*ret = k->state == WRITTEN;
	if (k->state != AS_SNAPSHOT)
		return 0;
	int r = note_read(txn, k, st);
	*ret = k->found;
	return r;
}

int kvfs_txn_put(struct kvfs_txn *txn, const char *key, const void *data, size_t len, const struct kvfs_put_options *user)
{
	struct kv_txn_key *k;
	struct kv_txn_op *op;
	struct kvfs_put_options opt = {0};
	struct kvfs_stat st = {0};
	bool there;
	int r = note(txn, key, &k);
	if (r)
		return r;
	if (user)
		memcpy(&opt, user, kv_min(user->size, sizeof opt));
	if (!*k->key)
		return kv_fail(EISDIR);
	if (opt.flags) { /* decided now, on what the transaction sees; the note makes it hold at commit */
		r = present(txn, k, &there, &st);
		if (r == 0)
			r = kv_session_check_cond(opt.flags, opt.version, there, st.version);
		if (r)
			return r;
		opt.flags = 0;
	}
	r = add_op(txn, OP_PUT, k->key, NULL, data, len, &op);
	if (r)
		return r;
	opt.size = sizeof opt;
	op->opt = opt;
	set_state(k, WRITTEN, op);
	return 0;
}

int kvfs_txn_del(struct kvfs_txn *txn, const char *key)
{
	struct kv_txn_key *k;
	struct kv_txn_op *op;
	struct kvfs_stat st;
	bool there;
	int r = note(txn, key, &k);
	if (r == 0)
		r = present(txn, k, &there, &st);
	if (r)
		return r;
	if (!there)
		return -ENOENT;
	r = add_op(txn, OP_DEL, k->key, NULL, NULL, 0, &op);
	if (r == 0)
		set_state(k, DELETED, NULL);
	return r;
}

int kvfs_txn_incr(struct kvfs_txn *txn, const char *key, int64_t delta, int64_t *ret)
{
	void *old = NULL;
	size_t len = 0;
	char text[24];
	int64_t sum = 0;
	int r = kvfs_txn_get(txn, key, &old, &len);
	if (r == 0 || r == -ENOENT)
		r = kv_api_add(old, len, delta, text, &len, &sum);
	free(old);
	if (r == 0)
		r = kvfs_txn_put(txn, key, text, len, NULL);
	if (r == 0 && ret)
		*ret = sum;
	return r;
}

int kvfs_txn_rename(struct kvfs_txn *txn, const char *src, const char *dst, unsigned flags)
{
	struct kv_txn_key *from, *to;
	struct kv_txn_op *op;
	struct kvfs_stat st = {.mode = S_IFREG};
	bool there;
	if (flags & ~(unsigned)KVFS_RENAME_NOREPLACE)
		return kv_fail(EINVAL);
	int r = note(txn, src, &from);
	if (r == 0)
		r = note(txn, dst, &to);
	if (r == 0)
		r = present(txn, from, &there, &st);
	if (r)
		return r;
	if (!there)
		return -ENOENT;
	if (S_ISDIR(st.mode))
		return kv_fail(EISDIR);
	if (flags & KVFS_RENAME_NOREPLACE) {
		r = present(txn, to, &there, &st);
		if (r || there)
			return r ? r : -EEXIST;
	}
	if (from == to)
		return 0;
	char *alias = from->op ? NULL : strdup(from->alias ? from->alias : from->key);
	if (!from->op && !alias)
		return kv_fail(ENOMEM);
	r = add_op(txn, OP_RENAME, from->key, to->key, NULL, 0, &op);
	if (r) {
		free(alias);
		return r;
	}
	op->flags = flags;
	set_state(to, WRITTEN, from->op);
	to->alias = alias;
	set_state(from, DELETED, NULL);
	return 0;
}

/* ---- commit ---- */

static int validate(struct kvfs_txn *txn, struct kv_edit *ed)
{
	for (size_t i = 0; i < txn->cap; i++)
		for (const struct kv_txn_key *k = txn->keys[i]; k; k = k->next) {
			struct kvfs_stat st;
			bool found;
			if (!k->read)
				continue;
			int r = look(&ed->txn, k->key, &found, &st);
			txn->at = k->key;
			if (r)
				return r;
			if (found != k->found || (found && (st.ino != k->ino || st.version != k->version)))
				return kv_fail(ECANCELED);
		}
	return 0;
}

static int apply(struct kvfs_txn *txn, struct kv_edit *ed)
{
	int r = 0;
	for (const struct kv_txn_op *op = txn->ops; r == 0 && op; op = op->next) {
		txn->at = op->key;
		switch (op->kind) {
		case OP_PUT:
			r = kv_api_put(ed, op->key, op->data, op->len, &op->opt, NULL);
			break;
		case OP_DEL:
			r = kv_api_del(ed, op->key);
			break;
		case OP_RENAME:
			r = kv_api_rename(ed, op->key, op->key2, op->flags);
			break;
		}
	}
	if (r == 0)
		txn->at = NULL; /* what fails from now on is the whole */
	return r;
}

static int edit(struct kv_edit *ed, void *arg)
{
	struct kvfs_txn *txn = arg;
	/* Nothing was changed since the snapshot: what was read is as it was. */
	bool same = kv_edit_is_first(ed) && kv_db_is_newest(&txn->snapshot);
	int r = same ? 0 : validate(txn, ed);
	return r ? r : apply(txn, ed);
}

static int commit(struct kvfs_txn *txn)
{
	int r = kv_core_check(txn->core);
	return r || !txn->ops ? r : kv_commit(txn->core, edit, txn);
}

int kvfs_txn_commit_key(struct kvfs_txn **at, char key[KVFS_KEY_MAX + 1])
{
	struct kvfs_txn *txn = kv_take(*at);
	int r = commit(txn);
	strcpy(key, r && txn->at ? txn->at : "");
	kvfs_txn_abort(txn);
	return r;
}

int kvfs_txn_commit(struct kvfs_txn **at)
{
	char key[KVFS_KEY_MAX + 1];
	return kvfs_txn_commit_key(at, key);
}
