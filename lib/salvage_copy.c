/* One inode of a damaged store, copied; see salvage.h. */
#include <errno.h>
#include <sys/stat.h>

#include "err.h"
#include "salvage.h"

static struct timespec to_timespec(struct kv_rec_time t)
{
	return (struct timespec){t.sec, t.nsec};
}

static int copy_xattrs(struct kv_salvage *s, uint64_t ino)
{
	uint64_t be = htobe64(ino);
	struct kv_rows rows;
	int r = kv_rows_open(&rows, s->from, KV_XATTR);
	if (r == 0)
		r = kv_rows_seek(&rows, &be, sizeof be);
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1 && kv_rows_id(&rows) == ino) {
		char name[KVFS_NAME_MAX + 1];
		size_t len = rows.key.len - sizeof be;
		if (!len || len > KVFS_NAME_MAX)
			continue;
		memcpy(name, (const char *)rows.key.data + sizeof be, len);
		name[len] = 0;
		r = kv_salvage_pass(s, kvfs_setxattr(s->to, s->key, name, rows.value.data, rows.value.len, 0));
		if (r)
			break;
	}
	kv_rows_close(&rows);
	return r < 0 ? r : 0;
}

int kv_salvage_attributes(struct kv_salvage *s, const struct kv_inode *inode)
{
	const struct kv_rec_inode *rec = &inode->rec;
	struct kvfs_setattr attr = {
		.valid = KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_GID | KVFS_SET_ATIME | KVFS_SET_MTIME,
		.mode = rec->mode & 07777,
		.uid = rec->uid,
		.gid = rec->gid,
		.atime = to_timespec(rec->atime),
		.mtime = to_timespec(rec->mtime),
	};
	int r = rec->flags & KV_INODE_XATTRS ? copy_xattrs(s, inode->ino) : 0;
	return r ? r : kv_salvage_pass(s, kvfs_setattr(s->to, s->key, &attr));
}

/* ---- values ---- */

struct value {
	struct kv_salvage *salvage;
	const struct kv_inode *inode;
	struct kvfs_stream *to;
	uint64_t chunks, size; /* in the table if none is a hole; of a chunk */
	uint64_t next, found;
	uint64_t lost, first_lost; /* chunks */
};

static void lose(struct value *v, uint64_t index, uint64_t n)
{
	if (n && !v->lost)
		v->first_lost = index;
	v->lost += n;
}

/* The chunk that the rows stand on. */
static int copy_chunk(struct value *v, struct kv_rows *rows, uint32_t index)
{
	struct kv_rec_chunk head = {.encoding = 1};
	struct kv_bytes raw, rec;
	int r = kv_scan_value(&rows->scan, &raw);
	if (r == -ENOMEM)
		return r;
	if (v->inode->rec.flags & KV_INODE_DENSE && index > v->next)
		lose(v, v->next, index - v->next);
	v->next = index + 1ull;
	kv_check_tick(v->salvage->from, rows->len / v->salvage->from->pages->page_size + 1);
	if (r == 0 && kv_db_open_record(KV_CHUNK, rows->key, raw, &rec) && rec.len >= sizeof head)
		memcpy(&head, rec.data, sizeof head);
	if (head.encoding || head.kind) {
		lose(v, index, 1);
		return 0;
	}
	uint64_t at = index * v->size, len = kv_min(kv_min(rec.len - sizeof head, v->size), v->inode->rec.size - at);
	ssize_t n = kvfs_stream_write(v->to, (const uint8_t *)rec.data + sizeof head, len, at);
	return n < 0 ? (int)n : 0;
}

static int copy_chunks(struct value *v)
{
	const struct kv_inode *inode = v->inode;
	struct kv_key_chunk key = {.blob_be = htobe64(inode->rec.blob)};
	struct kv_rows rows;
	int r = kv_rows_open(&rows, v->salvage->from, KV_CHUNK);
	rows.keys_only = true;
	if (r == 0)
		r = kv_rows_seek(&rows, &key, sizeof key);
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1 && kv_rows_id(&rows) == inode->rec.blob) {
		if (rows.key.len != sizeof key)
			continue;
		memcpy(&key, rows.key.data, sizeof key);
		uint32_t index = be32toh(key.index_be);
		if (kv_check_is_live(inode, v->chunks, index, ~be32toh(key.gen_inv_be), &v->found))
			r = copy_chunk(v, &rows, index);
		if (r < 0)
			break;
	}
	kv_rows_close(&rows);
	return r < 0 ? r : 0;
}

static int copy_bytes(struct value *v)
{
	const struct kv_rec_inode *rec = &v->inode->rec;
	int r = rec->blob ? copy_chunks(v) : 0;
	if (r == 0 && rec->flags & KV_INODE_DENSE)
		lose(v, v->next, v->chunks - kv_min(v->next, v->chunks));
	if (r == 0 && rec->tail_len) {
		ssize_t n = kvfs_stream_write(v->to, v->inode->tail, rec->tail_len, rec->size / v->size * v->size);
		r = n < 0 ? (int)n : 0;
	}
	return r ? r : kvfs_stream_truncate(v->to, rec->size);
}

static int copy_value(struct kv_salvage *s, const struct kv_inode *inode)
{
	const struct kv_rec_inode *rec = &inode->rec;
	struct value v = {.salvage = s, .inode = inode, .size = s->from->layout.chunk_size};
	if (rec->size > KV_VALUE_MAX || rec->tail_len > rec->size % v.size) {
		kv_salvage_tell(s, "its record says what cannot be: the content is lost");
		return 0;
	}
	v.chunks = (rec->size + v.size - 1) / v.size - (rec->tail_len > 0);
	if (!rec->blob && rec->size == rec->tail_len)
		return kv_salvage_pass(s, kvfs_put(s->to, s->key, inode->tail, rec->tail_len, NULL, NULL));
	int r = kvfs_stream_open(s->to, s->key, KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE, 0600, &v.to);
	if (r)
		return kv_salvage_pass(s, r);
	r = copy_bytes(&v);
	if (r) {
		kvfs_stream_abort(v.to);
		return r;
	}
	if (v.lost) {
		kv_salvage_tell(s, "%llu of its %llu chunks of %llu bytes are lost, the first is chunk %llu: there are zeros now",
			(unsigned long long)v.lost, (unsigned long long)v.chunks, (unsigned long long)v.size,
			(unsigned long long)v.first_lost);
		s->seen.damaged++;
	}
	return kv_salvage_pass(s, kvfs_stream_close(v.to));
}

/* ---- all kinds ---- */

static int copy_link(struct kv_salvage *s, const struct kv_inode *inode)
{
	char target[KV_TAIL_BUF + 1];
	memcpy(target, inode->tail, inode->rec.tail_len);
	target[inode->rec.tail_len] = 0;
	return kv_salvage_pass(s, kvfs_symlink(s->to, target, s->key));
}

int kv_salvage_copy(struct kv_salvage *s, const struct kv_inode *inode)
{
	const struct kv_rec_inode *rec = &inode->rec;
	const char *first = kv_salvage_met(s, inode->ino);
	uint64_t lost = s->seen.lost;
	int r;
	if (first)
		r = kv_salvage_pass(s, kvfs_link(s->to, first, s->key));
	else if (S_ISREG(rec->mode))
		r = copy_value(s, inode);
	else if (S_ISLNK(rec->mode))
		r = copy_link(s, inode);
	else
		r = kv_salvage_pass(s, kvfs_mknod(s->to, s->key, rec->mode, rec->rdev));
	if (r || s->seen.lost > lost)
		return r;
	*(S_ISREG(rec->mode) ? &s->seen.values : &s->seen.others) += 1;
	if (first)
		return 0;
	r = kv_salvage_attributes(s, inode);
	return r || rec->nlink == 1 ? r : kv_salvage_meet(s, inode->ino);
}
