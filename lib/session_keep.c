/* Kept sessions: what could not be published, because a signal ended its writer or the publication failed, stays for a while.
 *
 * A session is kept where its hidden chunks are: its record in table `session` loses its door and gains what is needed to go on (garbage.h).
 *
 * Invariants:
 *  S7  A kept session is whole: record and last chunks come in one transaction, and it goes in the one that publishes it, drops it, or keeps
 *      another in its place.  Nobody writes to its blob.
 *  S8  There are at most KVFS_KEPT_MAX, of KVFS_KEPT_BYTES together: the oldest make room.  Those older than KVFS_KEPT_DAYS go with the next
 *      one that is kept, or when the reaper comes by. */
#include <errno.h>
#include <sys/stat.h>

#include "err.h"
#include "garbage.h"
#include "namei.h"
#include "path.h"
#include "session.h"

/* ---- all of them ---- */

struct entry {
	uint64_t id, stored;
	int64_t since_ns;
};

struct entries {
	size_t n;
	struct entry list[KVFS_KEPT_MAX];
};

static int compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	return x->since_ns != y->since_ns ? (x->since_ns > y->since_ns) - (x->since_ns < y->since_ns)
					  : (x->id > y->id) - (x->id < y->id);
}

/* Oldest first. */
static int list(struct kv_txn *txn, struct entries *ret)
{
	struct kv_rec_session head;
	struct kv_kept kept;
	uint64_t at = 0;
	int r;
	ret->n = 0;
	for (; (r = kv_hidden_seek(txn, at, &at, &head)) == 0 && ret->n < KVFS_KEPT_MAX; at++) {
		if (head.door)
			continue;
		r = kv_kept_get(txn, at, &kept);
		if (r)
			return r;
		ret->list[ret->n++] = (struct entry){at, kept.rec.stored, head.since_ns};
	}
	qsort(ret->list, ret->n, sizeof *ret->list, compare);
	return r == -ENOENT ? 0 : r;
}

int kv_session_drop_kept(struct kv_edit *ed, uint64_t id)
{
	struct kv_kept kept;
	int r = kv_kept_get(&ed->txn, id, &kept);
	if (r == 0)
		r = kv_hidden_del(&ed->txn, id);
	return r ? r : kv_value_retire_blob(ed, id, kept.rec.stored);
}

/* S8: for one more, of `stored` bytes. */
static int make_room(struct kv_edit *ed, uint64_t stored)
{
	struct entries all;
	uint64_t bytes = stored;
	int r = list(&ed->txn, &all);
	for (size_t i = 0; i < all.n; i++)
		bytes += all.list[i].stored;
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		if (all.n - i < KVFS_KEPT_MAX && bytes <= KVFS_KEPT_BYTES && !kv_kept_is_old(all.list[i].since_ns, ed->now))
			break;
		bytes -= all.list[i].stored;
		r = kv_session_drop_kept(ed, all.list[i].id);
	}
	return r;
}

/* ---- keeping ---- */

/* Where it was to be published.  -ENOENT: its inode is gone, and it with it. */
static int find_name(struct kvfs_session *s, struct kv_txn *txn, struct kv_kept *ret)
{
	struct kv_inode inode;
	if (s->is_new) {
		ret->rec.parent = s->parent;
		strcpy(ret->name, s->name);
		return 0;
	}
	int r = kv_inode_get(txn, s->ino, &inode);
	if (r)
		return r;
	ret->rec.parent = inode.rec.parent;
	memcpy(ret->name, inode.name, inode.rec.name_len);
	ret->name[inode.rec.name_len] = 0;
	return 0;
}

static int put_kept(struct kvfs_session *s, struct kv_edit *ed, int reason)
{
	struct kv_kept kept = {
		.id = s->blob,
		.head = {.ino = s->is_new ? 0 : s->ino, .since_ns = kv_ns(ed->now)},
		.rec = {.size = s->size,
			.cut = s->cut,
			.end = s->end,
			.stored = s->stored,
			.mode = s->st.mode,
			.uid = s->st.uid,
			.gid = s->st.gid,
			.reason = reason,
			.flags = (uint16_t)((s->replace ? KV_KEPT_WHOLE : 0) | (s->sized ? KV_KEPT_SIZED : 0))},
	};
	int r = find_name(s, &ed->txn, &kept);
	for (size_t i = 0; r == 0 && i < s->bufs.n; i++) {
		kept.rec.stored += s->bufs.list[i].stored ? 0 : s->bufs.chunk_size;
		r = kv_session_spill_one(s, ed, &s->bufs.list[i]);
	}
	if (r == 0)
		r = kept.rec.stored > KVFS_KEPT_BYTES ? kv_fail(ENOSPC) : make_room(ed, kept.rec.stored);
	return r ? r : kv_kept_put(&ed->txn, &kept);
}

static int keep(struct kvfs_session *s, int reason)
{
	struct kv_edit ed;
	int r = kv_session_give_up_ahead(s); /* its record will say nothing of that */
	if (r == 0 && s->bufs.n > s->core->slice)
		r = kv_session_spill(s);
	if (r == 0)
		r = kv_commit_begin(s->core, &ed);
	if (r)
		return r;
	uint64_t blob = s->blob;
	if (!s->blob)
		s->blob = kv_value_new_blob(&ed);
	r = kv_commit_finish(s->core, &ed, put_kept(s, &ed, reason));
	if (r)
		s->blob = blob;
	else
		s->blob = s->stored = 0; /* it is nobody's now */
	return r;
}

int kvfs_session_keep(struct kvfs_session *s, int reason)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	bool nothing = s->orphan || !s->dirty || (s->replace && s->size == 0);
	if (!nothing && s->stored > KVFS_KEPT_BYTES)
		return kv_fail(ENOSPC);
	r = nothing ? 0 : keep(s, reason);
	if (r && r != -ENOENT)
		return r;
	s->orphan = true;
	kv_session_give_back_name(s);
	return r == 0 && !nothing ? kv_session_clear(s) : 0;
}

/* ---- listing ---- */

static int describe(struct kv_txn *txn, const struct entry *e, struct kvfs_kept *ret)
{
	struct kv_kept kept;
	struct kv_inode inode;
	int r = kv_kept_get(txn, e->id, &kept);
	if (r)
		return r;
	*ret = (struct kvfs_kept){
		.id = e->id,
		.size = kept.rec.size,
		.stored = kept.rec.stored,
		.whole = kept.rec.flags & KV_KEPT_WHOLE,
		.reason = kept.rec.reason,
		.time_ns = kept.head.since_ns,
	};
	uint64_t parent = kept.rec.parent;
	const char *name = kept.name;
	r = kept.head.ino ? kv_inode_get(txn, kept.head.ino, &inode) : -ENOENT;
	if (r == 0) { /* it may have been renamed since */
		parent = inode.rec.parent;
		memcpy(kept.name, inode.name, inode.rec.name_len);
		kept.name[inode.rec.name_len] = 0;
	}
	if (r == 0 || r == -ENOENT)
		r = kv_namei_key(txn, parent, name, strlen(name), ret->key);
	return r == -ENOENT || r == -ENAMETOOLONG ? 0 : r;
}

ssize_t kvfs_kept(struct kvfs_store *store, struct kvfs_kept *ret, size_t n)
{
	struct kv_txn txn;
	struct entries all;
	int r = kv_core_check(store->core);
	if (r == 0)
		r = kv_db_read(store->core->db, &txn);
	if (r)
		return r;
	r = list(&txn, &all);
	for (size_t i = 0; r == 0 && i < all.n && i < n; i++)
		r = describe(&txn, &all.list[i], &ret[i]);
	kv_db_read_end(&txn);
	return r ? r : (ssize_t)all.n;
}

/* ---- recovering, dropping ---- */

static int read_kept(struct kv_core *core, uint64_t id, struct kv_kept *ret)
{
	struct kv_txn txn;
	int r = kv_db_read(core->db, &txn);
	if (r)
		return r;
	r = kv_kept_get(&txn, id, ret);
	kv_db_read_end(&txn);
	return r;
}

/* What to publish to.  Parts under another key are replayed on the value it has. */
static int aim(struct kvfs_session *s, const struct kv_kept *kept, const char *key)
{
	struct kv_txn txn;
	struct kv_dirent ent;
	if (!key) {
		s->ino = kept->head.ino;
		s->is_new = s->ino == 0;
		s->parent = kept->rec.parent;
		strcpy(s->name, kept->name);
		return 0;
	}
	int r = kv_db_read(s->core->db, &txn);
	if (r)
		return r;
	r = kv_namei_lookup(&txn, key, &ent);
	kv_db_read_end(&txn);
	if (r && r != -ENOENT)
		return r;
	if (r == 0) {
		s->ino = ent.ino;
		return kv_held_check_type(ent.type);
	}
	s->is_new = true;
	s->key = strdup(key);
	return s->key ? 0 : kv_fail(ENOMEM);
}

static void rebuild(struct kvfs_session *s, const struct kv_kept *kept)
{
	s->dirty = true;
	s->replace = kept->rec.flags & KV_KEPT_WHOLE;
	s->sized = kept->rec.flags & KV_KEPT_SIZED;
	s->size = kept->rec.size;
	s->cut = kept->rec.cut;
	s->end = kept->rec.end;
	s->blob = s->kept = kept->id;
	s->stored = kept->rec.stored;
	s->st.mode = S_IFREG | (kept->rec.mode & 07777);
	s->st.uid = kept->rec.uid;
	s->st.gid = kept->rec.gid;
}

static int recover(struct kvfs_session *s, struct kv_kept *kept, const char *key)
{
	uint64_t id = kept->id;
	int r = aim(s, kept, key);
	if (r)
		return r;
	rebuild(s, kept);
	r = kv_session_publish(s);
	if (r == 0 && s->orphan)
		r = -ENOENT;
	if (s->blob == id) /* not this session's to retire */
		s->blob = 0;
	if (r == 0 || read_kept(s->core, id, kept) == -ENOENT) /* or somebody else has recovered or dropped it */
		return r ? -ENOENT : 0;
	return r == -ENOENT ? -ESTALE : r;
}

int kvfs_recover(struct kvfs_store *store, uint64_t id, const char *key)
{
	struct kv_kept kept;
	int r = kv_session_check_store(store);
	if (r == 0 && key)
		r = kv_path_check(key);
	if (r == 0)
		r = read_kept(store->core, id, &kept);
	if (r)
		return r;
	struct kvfs_session *s = kv_session_new(store->core);
	if (!s)
		return kv_fail(ENOMEM);
	pthread_mutex_lock(&s->lock);
	r = recover(s, &kept, key);
	pthread_mutex_unlock(&s->lock);
	kvfs_session_close(s);
	return r;
}

int kvfs_kept_drop(struct kvfs_store *store, uint64_t id)
{
	struct kv_edit ed;
	int r = kv_session_check_store(store);
	if (r == 0)
		r = kv_commit_begin(store->core, &ed);
	return r ? r : kv_commit_finish(store->core, &ed, kv_session_drop_kept(&ed, id));
}
