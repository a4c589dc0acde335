/* The check as a whole; see check.h. */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "err.h"

/* ---- findings ---- */

void kv_check_found(struct kv_check *c, enum kvfs_finding_kind kind, const char *key, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	if (c->again)
		return;
	*(kind == KVFS_FINDING_LOST ? &c->seen.lost : kind == KVFS_FINDING_WRONG ? &c->seen.wrong : &c->seen.space) += 1;
	if (!c->finding)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	c->finding(c->arg, &(struct kvfs_finding){kind, key, text});
}

void kv_check_tick(struct kv_check *c, uint64_t pages)
{
	uint64_t before = c->done;
	c->done += pages;
	if (c->progress && !c->stop && before / 1024 != c->done / 1024)
		c->stop = c->progress(c->arg, kv_min(c->done, 2 * c->pages->there), 2 * c->pages->there);
}

/* ---- records ---- */

static bool is_small(enum kv_table table)
{
	return table <= KV_LOG;
}

int kv_rows_open(struct kv_rows *rows, struct kv_check *c, enum kv_table table)
{
	*rows = (struct kv_rows){.check = c, .table = table};
	const struct kv_leaves *leaves = &c->leaves[is_small(table) ? KV_TABLES : table];
	int r = leaves->n ? kv_scan_open_leaves(&rows->scan, c->pages, leaves)
			  : kv_scan_open(&rows->scan, c->pages, is_small(table) ? &c->main : &c->trees[table], NULL);
	return r || !is_small(table) ? r : kv_rows_seek(rows, NULL, 0);
}

void kv_rows_close(struct kv_rows *rows)
{
	kv_scan_close(&rows->scan);
}

int kv_rows_seek(struct kv_rows *rows, const void *key, size_t len)
{
	uint8_t full[KV_LMDB_KEY_MAX + 1] = {(uint8_t)(rows->table + 1)};
	if (!is_small(rows->table))
		return kv_scan_seek(&rows->scan, key, len);
	if (len)
		memcpy(full + 1, key, len);
	return kv_scan_seek(&rows->scan, full, len + 1);
}

uint64_t kv_rows_id(const struct kv_rows *rows)
{
	uint64_t be;
	if (rows->key.len < sizeof be)
		return 0;
	memcpy(&be, rows->key.data, sizeof be);
	return be64toh(be);
}

static void tell_damaged(struct kv_rows *rows)
{
	struct kv_check *c = rows->check;
	uint64_t id = kv_rows_id(rows);
	const char *table = kv_db_table_name(rows->table), *key = NULL;
	if (!rows->tell)
		return;
	if (rows->table == KV_DIRENT && rows->key.len > 8)
		key = kv_check_key(c, id, (struct kv_bytes){(const char *)rows->key.data + 8, rows->key.len - 8});
	kv_check_found(c, KVFS_FINDING_LOST, key, "%s record %llu is damaged", table, (unsigned long long)id);
}

int kv_rows_next(struct kv_rows *rows)
{
	struct kv_scan *s = &rows->scan;
	for (;;) {
		struct kv_bytes raw;
		int r = kv_scan_next(s);
		if (r != 1)
			return r;
		rows->key = s->key;
		if (is_small(rows->table)) {
			if (*(const uint8_t *)s->key.data != rows->table + 1)
				return 0;
			rows->key = (struct kv_bytes){(const uint8_t *)s->key.data + 1, s->key.len - 1};
		}
		rows->len = s->len < sizeof(struct kv_rec_sum) ? 0 : s->len - sizeof(struct kv_rec_sum);
		if (rows->check->stop)
			return rows->check->stop;
		if (rows->keys_only)
			return 1;
		r = s->flags & KV_NODE_TREE ? -EUCLEAN : kv_scan_value(s, &raw);
		if (r == -ENOMEM)
			return r;
		if (r == 0 && kv_db_open_record(rows->table, rows->key, raw, &rows->value))
			return 1;
		tell_damaged(rows);
	}
}

int kv_rows_get(struct kv_rows *rows, const void *key, size_t len, bool *ret_damaged)
{
	struct kv_bytes raw;
	if (ret_damaged)
		*ret_damaged = false;
	int r = kv_rows_seek(rows, key, len);
	if (r == 0)
		r = kv_scan_next(&rows->scan);
	if (r <= 0)
		return r;
	struct kv_bytes at = rows->scan.key;
	size_t prefix = is_small(rows->table);
	if (at.len != len + prefix || memcmp((const uint8_t *)at.data + prefix, key, len) != 0)
		return 0;
	rows->key = (struct kv_bytes){(const uint8_t *)at.data + prefix, len};
	r = kv_scan_value(&rows->scan, &raw);
	if (r == 0 && kv_db_open_record(rows->table, rows->key, raw, &rows->value))
		return 1;
	if (ret_damaged)
		*ret_damaged = true;
	return r == -ENOMEM ? r : 0;
}

/* A record that is in an entry. */
static int inode_in_entry(struct kv_check *c, uint64_t ino, struct kv_bytes place, struct kv_inode *ret)
{
	struct kv_key_name key;
	struct kv_rec_dirent ent;
	uint64_t dir;
	if (place.len <= sizeof dir || place.len > sizeof dir + KVFS_NAME_MAX)
		return 0;
	memcpy(&dir, place.data, sizeof dir);
	size_t len = kv_key_name(&key, dir, (const char *)place.data + sizeof dir, place.len - sizeof dir);
	int r = kv_rows_get(&c->entries, &key, len, NULL);
	if (r != 1 || c->entries.value.len < sizeof ent)
		return r < 0 ? r : 0;
	memcpy(&ent, c->entries.value.data, sizeof ent);
	struct kv_bytes rec = {(const uint8_t *)c->entries.value.data + sizeof ent, c->entries.value.len - sizeof ent};
	return ent.ino == ino && kv_inode_decode(ino, rec, ret);
}

int kv_check_inode(struct kv_check *c, uint64_t ino, struct kv_inode *ret)
{
	struct kv_key_ino key = kv_key_u64(ino);
	int r = kv_rows_get(&c->inodes, &key, sizeof key, NULL);
	if (r != 1 || !c->inodes.value.len)
		return r < 0 ? r : 0;
	struct kv_bytes rec = {(const uint8_t *)c->inodes.value.data + 1, c->inodes.value.len - 1};
	switch (*(const uint8_t *)c->inodes.value.data) {
	case KV_HOME_HERE:
		return kv_inode_decode(ino, rec, ret);
	case KV_HOME_ENTRY:
		return inode_in_entry(c, ino, rec, ret);
	default:
		return 0;
	}
}

/* ---- paths ---- */

const char *kv_check_key(struct kv_check *c, uint64_t dir, struct kv_bytes name)
{
	static _Thread_local char buf[KVFS_KEY_MAX + 1];
	struct kv_inode *up = &c->other;
	size_t at = sizeof buf - 1;
	buf[at] = 0;
	if (!name.len || name.len > KVFS_NAME_MAX || memchr(name.data, 0, name.len))
		return NULL;
	memcpy(buf + (at -= name.len), name.data, name.len);
	for (; dir != KV_ROOT; dir = up->rec.parent) {
		if (kv_check_inode(c, dir, up) != 1 || !S_ISDIR(up->rec.mode) || !up->rec.name_len || at < up->rec.name_len + 1u)
			return NULL;
		buf[--at] = '/';
		memcpy(buf + (at -= up->rec.name_len), up->name, up->rec.name_len);
	}
	return buf + at;
}

const char *kv_check_key_of(struct kv_check *c, const struct kv_inode *inode)
{
	return inode->rec.parent ? kv_check_key(c, inode->rec.parent, (struct kv_bytes){inode->name, inode->rec.name_len}) : NULL;
}

/* ---- all of it ---- */

static int check_counters(struct kv_check *c)
{
	const struct kv_rec_log *log = &c->head.rec;
	struct kvfs_check_result *seen = &c->seen;
	if (c->headless)
		return 0;
	if (log->values != seen->values || log->dirs != seen->directories || log->others != seen->others)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL,
			"the store counts %llu values, %llu directories, %llu others, and has %llu, %llu, %llu",
			(unsigned long long)log->values, (unsigned long long)log->dirs, (unsigned long long)log->others,
			(unsigned long long)seen->values, (unsigned long long)seen->directories, (unsigned long long)seen->others);
	if (c->new_inodes || c->new_blobs)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "%llu inodes and %llu blobs have numbers that were never handed out",
			(unsigned long long)c->new_inodes, (unsigned long long)c->new_blobs);
	if (log->value_bytes != seen->value_bytes)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "the store counts %llu bytes of values, and has %llu",
			(unsigned long long)log->value_bytes, (unsigned long long)seen->value_bytes);
	if (log->garbage_bytes != c->garbage_bytes)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "the store counts %llu bytes of garbage, and has %llu",
			(unsigned long long)log->garbage_bytes, (unsigned long long)c->garbage_bytes);
	return 0;
}

typedef int part_fn(struct kv_check *c);

static int open_lookups(struct kv_check *c)
{
	int r = kv_rows_open(&c->inodes, c, KV_INODE);
	if (r == 0)
		r = kv_rows_open(&c->entries, c, KV_DIRENT);
	if (r == 0)
		r = kv_rows_open(&c->chunks, c, KV_CHUNK);
	if (r == 0)
		r = kv_rows_open(&c->xattrs, c, KV_XATTR);
	c->chunks.keys_only = true;
	return r;
}

static int begin(struct kv_check *c)
{
	c->main = c->pages->main;
	for (enum kv_table t = 0; t < KV_TABLES; t++)
		c->trees[t] = (struct kv_lmdb_tree){0};
	return kv_check_pages(c);
}

int kv_check_begin(struct kv_check *c)
{
	int r = begin(c);
	if (r == 0)
		r = kv_check_leaves(c);
	if (r == 0)
		r = open_lookups(c);
	return r ? r : kv_check_meta(c);
}

void kv_check_end(struct kv_check *c)
{
	kv_rows_close(&c->inodes);
	kv_rows_close(&c->entries);
	kv_rows_close(&c->chunks);
	kv_rows_close(&c->xattrs);
	kv_ledger_close(&c->names);
	kv_ledger_close(&c->blobs);
	kv_check_free_leaves(c);
	free(c->ranges);
	free(c->listed);
	free(c->map);
}

int kv_check(struct kv_check *c)
{
	/* those that know what is told of blobs come before those that look at the chunks */
	static part_fn *const parts[] = {begin, open_lookups, kv_check_meta, kv_check_log, kv_check_garbage, kv_check_sessions,
		kv_check_names, kv_check_xattrs, kv_check_chunks, check_counters};
	int r = kv_ledger_open(&c->names);
	if (r == 0)
		r = kv_ledger_open(&c->blobs);
	for (size_t i = 0; r == 0 && i < KV_ARRAY_LEN(parts); i++)
		r = parts[i](c);
	kv_check_end(c);
	return r;
}
