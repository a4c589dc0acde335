/* Inodes; see inode.h.
 *
 * Invariants:
 *  I1  Table inode has a record for every inode: its own, or the name of the entry that has it.
 *  I2  A record in an entry has that entry's parent and name as its own, and no other copy exists.
 *  I3  An inode of more than one link has all its names listed here; no other has any. */
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
	snprintf(what, sizeof what, "inode %llu: its records contradict each other", (unsigned long long)ino);
	kv_db_set_damage(txn->db, what);
	return kv_fail(EUCLEAN);
}

/* ---- finding a record ---- */

/* Where a record is, and its bytes. */
struct found {
	struct kv_bytes rec;
	enum kv_home home;
	uint64_t parent; /* KV_HOME_ENTRY */
	struct kv_bytes name;
};

static int find_in_entry(struct kv_txn *txn, uint64_t ino, struct kv_bytes place, struct found *ret)
{
	struct kv_dirent ent;
	if (place.len <= sizeof ret->parent || place.len > sizeof ret->parent + KVFS_NAME_MAX)
		return damaged(txn, ino);
	memcpy(&ret->parent, place.data, sizeof ret->parent);
	ret->name = (struct kv_bytes){(const char *)place.data + sizeof ret->parent, place.len - sizeof ret->parent};
	int r = kv_dirent_get(txn, ret->parent, ret->name.data, ret->name.len, &ent);
	if (r == -ENOENT || (r == 0 && ent.ino != ino))
		return damaged(txn, ino);
	ret->rec = ent.inode;
	return r;
}

static int find(struct kv_txn *txn, uint64_t ino, struct found *ret)
{
	struct kv_key_ino key = kv_key_u64(ino);
	struct kv_bytes b;
	int r = kv_db_get(txn, KV_INODE, &key, sizeof key, &b);
	if (r)
		return r;
	if (!b.len)
		return damaged(txn, ino);
	ret->home = *(const uint8_t *)b.data;
	ret->rec = (struct kv_bytes){(const uint8_t *)b.data + 1, b.len - 1};
	if (ret->home == KV_HOME_ENTRY)
		return find_in_entry(txn, ino, ret->rec, ret);
	return ret->home == KV_HOME_HERE ? 0 : damaged(txn, ino);
}

/* ---- decoding ---- */

/* The fixed part; false when the parts do not add up. */
static bool decode_fixed(struct kv_bytes b, struct kv_rec_inode *ret)
{
	if (b.len < sizeof *ret)
		return false;
	memcpy(ret, b.data, sizeof *ret);
	size_t rest = ret->name_len + ret->ncuts * sizeof(struct kv_rec_cut) + ret->nskips * sizeof(uint32_t) + ret->tail_len;
	return b.len == sizeof *ret + rest && ret->name_len <= KVFS_NAME_MAX && ret->ncuts <= KV_CUTS_MAX &&
	       ret->nskips <= KV_SKIPS_MAX && ret->tail_len <= KV_TAIL_BUF;
}

bool kv_inode_decode(uint64_t ino, struct kv_bytes b, struct kv_inode *ret)
{
	if (!decode_fixed(b, &ret->rec))
		return false;
	const uint8_t *at = (const uint8_t *)b.data + sizeof ret->rec;
	ret->ino = ino;
	memcpy(ret->name, at, ret->rec.name_len);
	ret->name[ret->rec.name_len] = 0;
	at += ret->rec.name_len;
	memcpy(ret->cuts, at, ret->rec.ncuts * sizeof ret->cuts[0]);
	at += ret->rec.ncuts * sizeof ret->cuts[0];
	memcpy(ret->skips, at, ret->rec.nskips * sizeof ret->skips[0]);
	at += ret->rec.nskips * sizeof ret->skips[0];
	ret->tail = at;
	return true;
}

static int decode(struct kv_txn *txn, uint64_t ino, struct kv_bytes b, struct kv_inode *ret)
{
	return kv_inode_decode(ino, b, ret) ? 0 : damaged(txn, ino);
}

static void set_home(struct kv_inode *inode, enum kv_home home)
{
	inode->home = home;
	inode->home_parent = inode->rec.parent;
	memcpy(inode->home_name, inode->name, inode->rec.name_len + 1u);
}

int kv_inode_get(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret)
{
	struct found f;
	int r = find(txn, ino, &f);
	if (r == 0)
		r = decode(txn, ino, f.rec, ret);
	if (r == 0)
		set_home(ret, f.home);
	/* a record says itself in which entry it is */
	if (r == 0 && f.home == KV_HOME_ENTRY &&
		(ret->rec.parent != f.parent || ret->rec.name_len != f.name.len || memcmp(ret->name, f.name.data, f.name.len) != 0))
		return damaged(txn, ino);
	return r;
}

/* An entry leads to an inode: without it the store is damaged, the key is not absent. */
static int must_be(struct kv_txn *txn, uint64_t ino, int r)
{
	return r == -ENOENT ? damaged(txn, ino) : r;
}

int kv_inode_get_at(struct kv_txn *txn, const struct kv_dirent *ent, struct kv_inode *ret)
{
	if (!ent->inode.len)
		return must_be(txn, ent->ino, kv_inode_get(txn, ent->ino, ret));
	int r = decode(txn, ent->ino, ent->inode, ret);
	if (r == 0)
		set_home(ret, KV_HOME_ENTRY);
	return r;
}

static int own_tail(int r, struct kv_inode *inode)
{
	if (r)
		return r;
	memcpy(inode->buf, inode->tail, inode->rec.tail_len);
	inode->tail = inode->buf;
	return 0;
}

int kv_inode_load(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret)
{
	return own_tail(kv_inode_get(txn, ino, ret), ret);
}

int kv_inode_load_at(struct kv_txn *txn, const struct kv_dirent *ent, struct kv_inode *ret)
{
	return own_tail(kv_inode_get_at(txn, ent, ret), ret);
}

/* ---- writing ---- */

#define PARTS 5

static size_t encode(struct kv_inode *inode, struct iovec parts[PARTS])
{
	parts[0] = (struct iovec){&inode->rec, sizeof inode->rec};
	parts[1] = (struct iovec){inode->name, inode->rec.name_len};
	parts[2] = (struct iovec){inode->cuts, inode->rec.ncuts * sizeof inode->cuts[0]};
	parts[3] = (struct iovec){inode->skips, inode->rec.nskips * sizeof inode->skips[0]};
	parts[4] = (struct iovec){(void *)inode->tail, inode->rec.tail_len};
	size_t len = 0;
	for (int i = 0; i < PARTS; i++)
		len += parts[i].iov_len;
	return len;
}

static bool is_renamed(const struct kv_inode *inode)
{
	return !inode->home || inode->home_parent != inode->rec.parent || strcmp(inode->home_name, inode->name) != 0;
}

static int put_in_entry(struct kv_txn *txn, struct kv_inode *inode, struct iovec parts[PARTS], size_t len)
{
	uint8_t buf[KV_EMBED_MAX], *at = buf;
	struct kv_dirent ent = {inode->ino, inode->rec.mode & S_IFMT, {buf, len}};
	for (int i = 0; i < PARTS; i++) {
		if (parts[i].iov_len)
			memcpy(at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	int r = kv_dirent_put(txn, inode->rec.parent, inode->name, inode->rec.name_len, ent);
	if (r || (inode->home == KV_HOME_ENTRY && !is_renamed(inode)))
		return r;
	struct kv_key_ino key = kv_key_u64(inode->ino);
	uint8_t home = KV_HOME_ENTRY;
	uint64_t parent = inode->rec.parent;
	struct iovec place[] = {{&home, 1}, {&parent, sizeof parent}, {inode->name, inode->rec.name_len}};
	return kv_db_put(txn, KV_INODE, &key, sizeof key, place, KV_ARRAY_LEN(place));
}

/* An entry without the record.  `mine`: only if the entry still leads to this inode. */
static int put_plain_entry(struct kv_txn *txn, const struct kv_inode *inode, uint64_t parent, const char *name, bool mine)
{
	struct kv_dirent ent;
	if (mine) {
		int r = kv_dirent_get(txn, parent, name, strlen(name), &ent);
		if (r || ent.ino != inode->ino)
			return r == -ENOENT ? 0 : r;
	}
	ent = (struct kv_dirent){.ino = inode->ino, .type = inode->rec.mode & S_IFMT};
	return kv_dirent_put(txn, parent, name, strlen(name), ent);
}

static int put_here(struct kv_txn *txn, struct kv_inode *inode, struct iovec parts[PARTS])
{
	struct kv_key_ino key = kv_key_u64(inode->ino);
	uint8_t home = KV_HOME_HERE;
	struct iovec all[PARTS + 1] = {{&home, 1}};
	memcpy(all + 1, parts, PARTS * sizeof *parts);
	int r = kv_db_put(txn, KV_INODE, &key, sizeof key, all, PARTS + 1);
	if (r == 0 && inode->home == KV_HOME_ENTRY) /* the entry it was in must not keep the old record */
		r = put_plain_entry(txn, inode, inode->home_parent, inode->home_name, true);
	if (r == 0 && is_renamed(inode) && inode->rec.name_len)
		r = put_plain_entry(txn, inode, inode->rec.parent, inode->name, false);
	return r;
}

int kv_inode_put(struct kv_txn *txn, struct kv_inode *inode)
{
	struct iovec parts[PARTS];
	size_t len = encode(inode, parts);
	bool embed = !S_ISDIR(inode->rec.mode) && inode->rec.nlink == 1 && inode->rec.name_len && len <= KV_EMBED_MAX;
	int r = embed ? put_in_entry(txn, inode, parts, len) : put_here(txn, inode, parts);
	if (r == 0)
		set_home(inode, embed ? KV_HOME_ENTRY : KV_HOME_HERE);
	return r;
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

/* ---- the names of an inode that has several ---- */

int kv_inode_add_name(struct kv_txn *txn, uint64_t ino, uint64_t dir, const char *name, size_t len)
{
	struct kv_key_link key;
	return kv_db_put(txn, KV_INODE, &key, kv_key_link(&key, ino, dir, name, len), NULL, 0);
}

int kv_inode_del_name(struct kv_txn *txn, uint64_t ino, uint64_t dir, const char *name, size_t len)
{
	struct kv_key_link key;
	return must_be(txn, ino, kv_db_del(txn, KV_INODE, &key, kv_key_link(&key, ino, dir, name, len)));
}

int kv_inode_next_name(struct kv_cursor *c, uint64_t ino, bool first, uint64_t *ret_dir, struct kv_bytes *ret_name)
{
	struct kv_key_link key;
	size_t fixed = kv_key_link(&key, ino, 0, "", 0);
	int r = first ? kv_cursor_seek(c, &key, fixed) : kv_cursor_next(c);
	if (r)
		return r;
	if (c->key.len <= fixed || memcmp(c->key.data, &key, sizeof key.ino_be) != 0)
		return -ENOENT;
	if (c->key.len > sizeof key)
		return damaged(c->txn, ino);
	memcpy(&key.dir_be, (const char *)c->key.data + sizeof key.ino_be, sizeof key.dir_be);
	*ret_dir = be64toh(key.dir_be);
	*ret_name = (struct kv_bytes){(const char *)c->key.data + fixed, c->key.len - fixed};
	return 0;
}

int kv_inode_take_name(struct kv_txn *txn, struct kv_inode *inode)
{
	struct kv_cursor c;
	struct kv_bytes name;
	uint64_t dir;
	int r = kv_cursor_open(txn, KV_INODE, &c);
	if (r)
		return r;
	r = kv_inode_next_name(&c, inode->ino, true, &dir, &name);
	if (r == 0)
		kv_inode_set_name(inode, dir, name.data, name.len);
	kv_cursor_close(&c);
	return must_be(txn, inode->ino, r);
}

/* ---- attributes ---- */

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
		.publish = rec->flags & KV_INODE_PUBLISH_WRITE   ? KVFS_PUBLISH_WRITE
			   : rec->flags & KV_INODE_PUBLISH_CLOSE ? KVFS_PUBLISH_CLOSE
								 : KVFS_PUBLISH_DEFAULT,
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

static int stat_bytes(struct kv_txn *txn, uint64_t ino, struct kv_bytes b, struct kvfs_stat *ret)
{
	struct kv_rec_inode rec;
	if (!decode_fixed(b, &rec))
		return damaged(txn, ino);
	fill_stat(ino, &rec, ret);
	return 0;
}

int kv_inode_stat_of(struct kv_txn *txn, uint64_t ino, struct kvfs_stat *ret)
{
	struct found f;
	int r = find(txn, ino, &f);
	return r ? r : stat_bytes(txn, ino, f.rec, ret);
}

int kv_inode_stat_at(struct kv_txn *txn, const struct kv_dirent *ent, struct kvfs_stat *ret)
{
	if (ent->inode.len)
		return stat_bytes(txn, ent->ino, ent->inode, ret);
	return must_be(txn, ent->ino, kv_inode_stat_of(txn, ent->ino, ret));
}
