/* Held values; see held.h.
 *
 * Invariant H1: a hold is entered while the value is current, or it is not used.  The opener reads the inode, enters the hold, and looks
 * whether anything was committed since; if so it looks at the inode once more.  Whoever retires the value commits after that look, and the
 * reaper frees in a later commit still (value.c, V3): it must see the hold. */
#include "held.h"

#include <errno.h>
#include <sys/stat.h>

#include "err.h"
#include "namei.h"

#define TRIES 1000

int kv_held_check_type(uint32_t mode)
{
	if (S_ISREG(mode))
		return 0;
	return kv_fail(S_ISDIR(mode) ? EISDIR : S_ISLNK(mode) ? ELOOP : EINVAL);
}

int kv_held_new(struct kv_core *core, const struct kv_inode *inode, bool hold, struct kvfs_value **ret)
{
	struct kvfs_value *v = malloc(sizeof *v + inode->rec.tail_len);
	if (!v)
		return kv_fail(ENOMEM);
	v->core = core;
	v->within = NULL;
	kv_version_of(inode, &v->ver);
	memcpy(v->tail, inode->tail, inode->rec.tail_len);
	v->ver.tail = v->tail;
	if (hold && v->ver.view.blob && core->doors) {
		int r = kv_doors_hold(core->doors, v->ver.view.blob, v->ver.view.gen);
		if (r) {
			free(v);
			return r;
		}
	}
	*ret = v;
	return 0;
}

int kv_held_find(struct kv_txn *txn, const char *key, struct kv_inode *ret)
{
	struct kv_dirent ent;
	int r = kv_namei_lookup(txn, key, &ent);
	if (r == 0)
		r = kv_held_check_type(ent.type);
	return r ? r : kv_inode_get_at(txn, &ent, ret);
}

/* One attempt: -EAGAIN when the value was replaced between reading and holding it.  A key and what it leads to are of one state. */
static int try_open(struct kv_core *core, const char *key, uint64_t ino, struct kvfs_value **ret, struct kvfs_stat *ret_stat)
{
	struct kv_txn txn;
	struct kv_inode inode, again;
	struct kvfs_value *v = NULL;
	int r = kv_db_read(core->db, &txn);
	if (r)
		return r;
	r = key ? kv_held_find(&txn, key, &inode) : kv_inode_get(&txn, ino, &inode);
	if (r == 0)
		r = kv_held_check_type(inode.rec.mode);
	if (r == 0)
		r = kv_held_new(core, &inode, true, &v);
	bool sure = r || !v->ver.view.blob || kv_db_is_newest(&txn);
	if (r == 0 && ret_stat)
		kv_inode_stat(&inode, ret_stat);
	kv_db_read_end(&txn);
	if (!sure) {
		r = kv_db_read(core->db, &txn);
		if (r == 0) {
			r = kv_inode_get(&txn, inode.ino, &again);
			if (r == -ENOENT || (r == 0 && (again.rec.blob != inode.rec.blob || again.rec.gen != inode.rec.gen)))
				r = -EAGAIN;
			kv_db_read_end(&txn);
		}
	}
	if (r == 0)
		*ret = v;
	else
		kvfs_value_close(v);
	return r;
}

int kv_held_open(struct kv_core *core, const char *key, uint64_t ino, struct kvfs_value **ret, struct kvfs_stat *ret_stat)
{
	int r = -EAGAIN;
	for (int i = 0; i < TRIES && r == -EAGAIN; i++)
		r = try_open(core, key, ino, ret, ret_stat);
	return r;
}

bool kv_held_same(const struct kvfs_value *a, const struct kvfs_value *b)
{
	const struct kv_version *x = &a->ver, *y = &b->ver;
	return x->view.blob == y->view.blob && x->view.gen == y->view.gen && x->size == y->size && x->tail_len == y->tail_len &&
	       memcmp(a->tail, b->tail, x->tail_len) == 0;
}

int kvfs_value_open(struct kvfs_store *store, uint64_t ino, struct kvfs_value **ret, struct kvfs_stat *ret_stat)
{
	int r = kv_core_check(store->core);
	if (r)
		return r;
	r = kv_held_open(store->core, NULL, ino, ret, ret_stat);
	return r == -ENOENT ? -ESTALE : r;
}

ssize_t kvfs_value_read(struct kvfs_value *v, void *buf, size_t len, uint64_t offset)
{
	int r = kv_core_check(v->core);
	if (r)
		return r;
	if (v->within)
		return kv_value_read(v->within, &v->core->layout, &v->ver, buf, len, offset);
	struct kv_txn txn = {0};
	r = kv_db_read(v->core->db, &txn);
	if (r)
		return r;
	ssize_t n = kv_value_read(&txn, &v->core->layout, &v->ver, buf, len, offset);
	kv_db_read_end(&txn);
	return n;
}

int64_t kvfs_value_seek(struct kvfs_value *v, uint64_t offset, bool hole)
{
	int r = kv_core_check(v->core);
	if (r)
		return r;
	if (v->within)
		return kv_value_seek(v->within, &v->core->layout, &v->ver, offset, hole);
	struct kv_txn txn;
	r = kv_db_read(v->core->db, &txn);
	if (r)
		return r;
	int64_t at = kv_value_seek(&txn, &v->core->layout, &v->ver, offset, hole);
	kv_db_read_end(&txn);
	return at;
}

void kvfs_value_close(struct kvfs_value *v)
{
	if (!v)
		return;
	if (!v->within && v->ver.view.blob && v->core->doors && kv_core_check(v->core) == 0)
		kv_doors_release(v->core->doors, v->ver.view.blob, v->ver.view.gen);
	free(v);
}
