/* Table inode; see inode.h. */
#include "inode.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "err.h"

struct kv_rec_time kv_rec_time(struct timespec ts)
{
	return (struct kv_rec_time){ts.tv_sec, (uint32_t)ts.tv_nsec};
}

static struct timespec to_timespec(struct kv_rec_time t)
{
	return (struct timespec){t.sec, t.nsec};
}

static int damaged(struct kv_txn *txn, uint64_t ino)
{
	char what[64];
	snprintf(what, sizeof what, "inode record %llu: contradicts itself", (unsigned long long)ino);
	kv_db_set_damage(txn->db, what);
	return kv_fail(EUCLEAN);
}

/* Fetches the record and checks that its parts add up. */
static int fetch(struct kv_txn *txn, uint64_t ino, struct kv_rec_inode *ret, const uint8_t **ret_rest)
{
	struct kv_key_ino key = kv_key_u64(ino);
	struct kv_bytes b;
	int r = kv_db_get(txn, KV_INODE, &key, sizeof key, &b);
	if (r)
		return r;
	if (b.len < sizeof *ret)
		return damaged(txn, ino);
	memcpy(ret, b.data, sizeof *ret);
	size_t rest = ret->name_len + ret->ncuts * sizeof(struct kv_rec_cut) + ret->nskips * sizeof(uint32_t) + ret->tail_len;
	if (b.len != sizeof *ret + rest || ret->name_len > 255 || ret->ncuts > KV_CUTS_MAX || ret->nskips > KV_SKIPS_MAX ||
		ret->tail_len > KV_TAIL_BUF)
		return damaged(txn, ino);
	*ret_rest = (const uint8_t *)b.data + sizeof *ret;
	return 0;
}

int kv_inode_get(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret)
{
	const uint8_t *at;
	int r = fetch(txn, ino, &ret->rec, &at);
	if (r)
		return r;
	ret->ino = ino;
	memcpy(ret->name, at, ret->rec.name_len);
	ret->name[ret->rec.name_len] = 0;
	at += ret->rec.name_len;
	memcpy(ret->cuts, at, ret->rec.ncuts * sizeof ret->cuts[0]);
	at += ret->rec.ncuts * sizeof ret->cuts[0];
	memcpy(ret->skips, at, ret->rec.nskips * sizeof ret->skips[0]);
	at += ret->rec.nskips * sizeof ret->skips[0];
	ret->tail = at;
	return 0;
}

int kv_inode_load(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret)
{
	int r = kv_inode_get(txn, ino, ret);
	if (r)
		return r;
	memcpy(ret->buf, ret->tail, ret->rec.tail_len);
	ret->tail = ret->buf;
	return 0;
}

int kv_inode_put(struct kv_txn *txn, struct kv_inode *inode, bool fresh)
{
	struct kv_key_ino key = kv_key_u64(inode->ino);
	struct iovec parts[] = {
		{&inode->rec, sizeof inode->rec},
		{inode->name, inode->rec.name_len},
		{inode->cuts, inode->rec.ncuts * sizeof inode->cuts[0]},
		{inode->skips, inode->rec.nskips * sizeof inode->skips[0]},
		{(void *)inode->tail, inode->rec.tail_len},
	};
	return kv_db_put(txn, KV_INODE, &key, sizeof key, parts, KV_ARRAY_LEN(parts), fresh ? KV_PUT_APPEND : 0);
}

int kv_inode_del(struct kv_txn *txn, uint64_t ino)
{
	struct kv_key_ino key = kv_key_u64(ino);
	return kv_db_del(txn, KV_INODE, &key, sizeof key);
}

void kv_inode_set_name(struct kv_inode *inode, uint64_t parent, const char *name, size_t len)
{
	inode->rec.parent = parent;
	inode->rec.name_len = (uint16_t)len;
	memcpy(inode->name, name, len);
	inode->name[len] = 0;
}

void kv_inode_set_tail(struct kv_inode *inode, const void *data, size_t len)
{
	if (len)
		memmove(inode->buf, data, len);
	inode->tail = inode->buf;
	inode->rec.tail_len = (uint16_t)len;
}

static void fill_stat(uint64_t ino, const struct kv_rec_inode *rec, struct kvfs_stat *ret)
{
	*ret = (struct kvfs_stat){
		.ino = ino,
		.version = rec->version,
		.epoch = rec->epoch,
		.mode = rec->mode,
		.uid = rec->uid,
		.gid = rec->gid,
		.nlink = S_ISDIR(rec->mode) ? (uint32_t)(2 + rec->blob) : rec->nlink,
		.rdev = rec->rdev,
		.size = rec->size,
		.allocated = rec->stored + rec->tail_len,
		.atime = to_timespec(rec->atime),
		.mtime = to_timespec(rec->mtime),
		.ctime = to_timespec(rec->ctime),
		.btime = to_timespec(rec->btime),
	};
}

void kv_inode_stat(const struct kv_inode *inode, struct kvfs_stat *ret)
{
	fill_stat(inode->ino, &inode->rec, ret);
}

int kv_inode_stat_of(struct kv_txn *txn, uint64_t ino, struct kvfs_stat *ret)
{
	struct kv_rec_inode rec;
	const uint8_t *rest;
	int r = fetch(txn, ino, &rec, &rest);
	if (r == 0)
		fill_stat(ino, &rec, ret);
	return r;
}
