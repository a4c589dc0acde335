/* Salvage; see salvage.h.
 *
 * First the tree of names, from the root down; then what it did not come to: inodes without the entry that they say they have, entries of
 * directories whose records are lost, rings.  A directory is entered by the name that its record says, if that is there, so by one only; others,
 * and inodes with several names, are noted when they are met. */
#include "salvage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "err.h"
#include "path.h"

#define LOST_FOUND "lost+found"
#define DEPTH_MAX 2048 /* components of a key */

/* ---- telling ---- */

void kv_salvage_tell(struct kv_salvage *s, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	if (!s->finding)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	s->finding(s->arg, &(struct kvfs_finding){KVFS_FINDING_LOST, s->len ? s->key : NULL, text});
}

static void lost(struct kv_salvage *s, const char *why)
{
	s->seen.lost++;
	kv_salvage_tell(s, "not saved: %s", why);
}

int kv_salvage_pass(struct kv_salvage *s, int error)
{
	switch (error) {
	case -EEXIST:
	case -EISDIR:
	case -ENOTDIR:
	case -ENOENT:
	case -EINVAL:
	case -ENAMETOOLONG:
	case -E2BIG:
	case -ELOOP:
	case -ERANGE:
	case -EMLINK:
		lost(s, strerror(-error));
		return 0;
	default:
		return error;
	}
}

/* ---- inodes that were met ---- */

static size_t slot_of(const struct kv_salvage *s, uint64_t ino)
{
	size_t at = (ino * 0x9e3779b97f4a7c15) >> 20 & (s->cap - 1);
	while (s->met[at].ino && s->met[at].ino != ino)
		at = (at + 1) & (s->cap - 1);
	return at;
}

const char *kv_salvage_met(const struct kv_salvage *s, uint64_t ino)
{
	return s->cap ? s->met[slot_of(s, ino)].key : NULL;
}

static int grow(struct kv_salvage *s)
{
	struct kv_salvage bigger = {.cap = s->cap ? 2 * s->cap : 1024};
	bigger.met = calloc(bigger.cap, sizeof *bigger.met);
	if (!bigger.met)
		return kv_fail(ENOMEM);
	for (size_t i = 0; i < s->cap; i++)
		if (s->met[i].ino)
			bigger.met[slot_of(&bigger, s->met[i].ino)] = s->met[i];
	free(s->met);
	s->met = bigger.met;
	s->cap = bigger.cap;
	return 0;
}

int kv_salvage_meet(struct kv_salvage *s, uint64_t ino)
{
	if (2 * s->nmet >= s->cap && grow(s))
		return -ENOMEM;
	struct kv_met *m = &s->met[slot_of(s, ino)];
	if (m->key)
		return 0;
	*m = (struct kv_met){ino, strdup(s->key)};
	if (!m->key) {
		m->ino = 0;
		return kv_fail(ENOMEM);
	}
	s->nmet++;
	return 0;
}

/* ---- keys ---- */

/* Goes down to an entry.  False: the key would be too long, which is told. */
static bool descend(struct kv_salvage *s, struct kv_bytes name)
{
	size_t slash = s->len > 0;
	if (s->len + slash + name.len > KVFS_KEY_MAX || !kv_name_is_legal(name.data, name.len)) {
		lost(s, "a name in it is no name, or too long");
		return false;
	}
	if (slash)
		s->key[s->len] = '/';
	memcpy(s->key + s->len + slash, name.data, name.len);
	s->len += slash + name.len;
	s->key[s->len] = 0;
	return true;
}

static void ascend(struct kv_salvage *s, size_t len)
{
	s->len = len;
	s->key[len] = 0;
}

/* ---- directories ---- */

static int save_directory(struct kv_salvage *s, uint64_t ino, const struct kv_inode *inode, unsigned depth);

/* The entry that an inode says it has.  1 it leads to it, 0, or an error. */
static int has_own_name(struct kv_salvage *s, const struct kv_inode *inode)
{
	struct kv_key_name key;
	struct kv_rec_dirent ent = {0};
	if (!inode->rec.parent || !inode->rec.name_len)
		return 0;
	size_t len = kv_key_name(&key, inode->rec.parent, inode->name, inode->rec.name_len);
	int r = kv_rows_get(&s->from->entries, &key, len, NULL);
	if (r == 1 && s->from->entries.value.len >= sizeof ent)
		memcpy(&ent, s->from->entries.value.data, sizeof ent);
	return r < 0 ? r : ent.ino == inode->ino;
}

/* An entry that says it is a directory's; of one whose own record is lost inode is NULL. */
static int save_subdirectory(
	struct kv_salvage *s, uint64_t dir, struct kv_bytes name, uint64_t ino, const struct kv_inode *inode, unsigned depth)
{
	bool own = inode && inode->rec.parent == dir && inode->rec.name_len == name.len &&
		   memcmp(inode->name, name.data, name.len) == 0;
	if (ino == KV_ROOT || kv_salvage_met(s, ino)) {
		lost(s, "a second name of a directory");
		return 0;
	}
	if (!own) {
		int r = inode ? has_own_name(s, inode) : 0;
		if (r == 1)
			lost(s, "a second name of a directory");
		if (r == 0)
			r = kv_salvage_meet(s, ino);
		if (r)
			return r < 0 ? r : 0;
	}
	return save_directory(s, ino, inode, depth);
}

/* What the entry that the rows stand on leads to, under s->key. */
static int save_entry(struct kv_salvage *s, uint64_t dir, struct kv_bytes name, const struct kv_rec_dirent *ent,
	struct kv_bytes rec, unsigned depth)
{
	KV_FREE struct kv_inode *inode = malloc(sizeof *inode);
	if (!inode)
		return kv_fail(ENOMEM);
	int r = rec.len ? kv_inode_decode(ent->ino, rec, inode) : kv_check_inode(s->from, ent->ino, inode);
	if (r < 0)
		return r;
	if (r == 1 && inode->tail != inode->buf) { /* borrowed from rows that others use meanwhile */
		memcpy(inode->buf, inode->tail, inode->rec.tail_len);
		inode->tail = inode->buf;
	}
	if (r == 1 ? S_ISDIR(inode->rec.mode) : S_ISDIR(ent->type))
		return depth < DEPTH_MAX ? save_subdirectory(s, dir, name, ent->ino, r ? inode : NULL, depth) : 0;
	if (r == 1)
		return kv_salvage_copy(s, inode);
	lost(s, "its inode is lost");
	return 0;
}

/* The entry after `last`.  1 and it is saved, 0 there is none, or an error. */
static int save_next(struct kv_salvage *s, uint64_t dir, char last[256], size_t *last_len, unsigned depth)
{
	struct kv_key_name key;
	struct kv_rec_dirent ent;
	struct kv_rows rows;
	size_t len = kv_key_name(&key, dir, last, *last_len), up = s->len;
	int r = kv_rows_open(&rows, s->from, KV_DIRENT);
	if (r == 0)
		r = kv_rows_seek(&rows, &key, len);
	if (r == 0)
		r = kv_rows_next(&rows);
	if (r == 1 && *last_len && rows.key.len == len && memcmp(rows.key.data, &key, len) == 0)
		r = kv_rows_next(&rows);
	if (r == 1 &&
		(kv_rows_id(&rows) != dir || rows.key.len <= 8 || rows.key.len > 8 + KVFS_NAME_MAX || rows.value.len < sizeof ent))
		r = 0;
	if (r != 1) {
		kv_rows_close(&rows);
		return r;
	}
	*last_len = rows.key.len - 8;
	memcpy(last, (const char *)rows.key.data + 8, *last_len);
	memcpy(&ent, rows.value.data, sizeof ent);
	size_t rec_len = rows.value.len - sizeof ent;
	uint8_t rec[KV_EMBED_MAX];
	memcpy(rec, (const uint8_t *)rows.value.data + sizeof ent, kv_min(rec_len, sizeof rec));
	kv_rows_close(&rows);
	struct kv_bytes name = {last, *last_len};
	if (descend(s, name))
		r = save_entry(s, dir, name, &ent, (struct kv_bytes){rec, kv_min(rec_len, sizeof rec)}, depth + 1);
	ascend(s, up);
	return r < 0 ? r : 1;
}

static int save_entries(struct kv_salvage *s, uint64_t dir, const struct kv_inode *inode, unsigned depth)
{
	char last[256] = "";
	size_t len = 0;
	uint64_t n = 0;
	int r;
	while ((r = save_next(s, dir, last, &len, depth)) == 1)
		n++;
	if (r == 0 && inode && n < inode->rec.size)
		kv_salvage_tell(
			s, "of the %llu names in it %llu are there", (unsigned long long)inode->rec.size, (unsigned long long)n);
	return r;
}

/* s->key, and what is in it.  An implicit directory comes with its keys. */
static int save_directory(struct kv_salvage *s, uint64_t ino, const struct kv_inode *inode, unsigned depth)
{
	uint64_t told = s->seen.lost;
	int r = 0;
	if (s->len && !(inode && inode->rec.flags & KV_INODE_IMPLICIT))
		r = kv_salvage_pass(s, kvfs_mkdir(s->to, s->key, 0700));
	if (s->seen.lost > told)
		return r;
	if (!inode)
		kv_salvage_tell(s, "the directory's own record is lost: mode, owner and times");
	if (r == 0)
		r = save_entries(s, ino, inode, depth);
	if (r == 0)
		r = kvfs_exists(s->to, s->key);
	s->seen.directories += r == 1 && s->len;
	return r == 1 && inode ? kv_salvage_attributes(s, inode) : r < 0 ? r : 0;
}

/* ---- what the tree did not come to ---- */

/* Where a thing without a name goes: s->key becomes that. */
static int go_to_lost_found(struct kv_salvage *s, uint64_t ino)
{
	ascend(s, 0);
	int r = kvfs_mkdir(s->to, LOST_FOUND, 0700);
	if (r && r != -EEXIST)
		return r;
	s->len = (size_t)snprintf(s->key, sizeof s->key, LOST_FOUND "/#%llu", (unsigned long long)ino);
	s->seen.found++;
	return 0;
}

/* Its own name, if that is free; else lost+found. */
static int go_home(struct kv_salvage *s, const struct kv_inode *inode)
{
	const char *key = kv_check_key_of(s->from, inode);
	if (!key || kvfs_key_fault(key) || kvfs_exists(s->to, key) != 0)
		return go_to_lost_found(s, inode->ino);
	s->len = strlen(key);
	memcpy(s->key, key, s->len + 1);
	return 0;
}

/* Does the way up from a directory come back to it?  1, 0, or an error. */
static int is_in_ring(struct kv_salvage *s, const struct kv_inode *inode)
{
	uint64_t at = inode->rec.parent;
	for (unsigned steps = 0; at != KV_ROOT && at != inode->ino && steps < DEPTH_MAX; steps++) {
		int r = kv_check_inode(s->from, at, &s->from->other);
		if (r != 1)
			return r;
		at = s->from->other.rec.parent;
	}
	return at == inode->ino;
}

/* An inode with a record of its own. */
static int save_orphan(struct kv_salvage *s, struct kv_inode *inode)
{
	if (inode->ino == KV_ROOT || kv_salvage_met(s, inode->ino))
		return 0;
	bool dir = S_ISDIR(inode->rec.mode);
	int r = has_own_name(s, inode), ring = 0;
	if (r == 1 && dir && inode->rec.parent > inode->ino)
		ring = is_in_ring(s, inode);
	if (r < 0 || ring < 0 || (r == 1 && !ring))
		return r < 0 ? r : ring < 0 ? ring : 0; /* the tree came to it, or what is told of elsewhere */
	r = go_home(s, inode);
	if (r == 0)
		r = dir ? kv_salvage_meet(s, inode->ino) : kv_salvage_copy(s, inode);
	return r || !dir ? r : save_directory(s, inode->ino, inode, 1);
}

/* An inode whose record was in its entry, which may be lost. */
static void look_for_entry(struct kv_salvage *s, uint64_t ino, struct kv_bytes place)
{
	uint64_t dir;
	if (place.len <= sizeof dir || kv_check_inode(s->from, ino, &s->from->inode) == 1)
		return;
	memcpy(&dir, place.data, sizeof dir);
	char copy[256];
	struct kv_bytes name = {copy, kv_min(place.len - sizeof dir, sizeof copy)};
	memcpy(copy, (const char *)place.data + sizeof dir, name.len);
	const char *key = kv_check_key(s->from, dir, name);
	ascend(s, 0);
	if (key)
		snprintf(s->key, sizeof s->key, "%s", key);
	else
		snprintf(s->key, sizeof s->key, "#%llu", (unsigned long long)ino);
	s->len = strlen(s->key);
	lost(s, "its entry is lost, and all of it was there");
}

/* A name that an inode with several lists.  Its record came before. */
static int save_listed(struct kv_salvage *s, const struct kv_rows *rows)
{
	struct kv_key_link link;
	size_t head = sizeof link - sizeof link.name;
	const char *first = kv_salvage_met(s, kv_rows_id(rows));
	if (!first || rows->key.len <= head || rows->key.len > sizeof link)
		return 0;
	memcpy(&link, rows->key.data, rows->key.len);
	const char *key = kv_check_key(s->from, be64toh(link.dir_be), (struct kv_bytes){link.name, rows->key.len - head});
	if (!key || kvfs_key_fault(key) || kvfs_exists(s->to, key) != 0)
		return 0;
	s->len = strlen(key);
	memcpy(s->key, key, s->len + 1);
	int r = kvfs_link(s->to, first, s->key);
	s->seen.values += r == 0;
	return kv_salvage_pass(s, r);
}

static int save_orphans(struct kv_salvage *s)
{
	KV_FREE struct kv_inode *inode = malloc(sizeof *inode);
	struct kv_rows rows;
	if (!inode)
		return kv_fail(ENOMEM);
	int r = kv_rows_open(&rows, s->from, KV_INODE);
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1) {
		const uint8_t *home = rows.value.data;
		struct kv_bytes rest = {home + 1, rows.value.len - 1};
		if (rows.key.len > 8)
			r = save_listed(s, &rows);
		else if (!rows.value.len || rows.key.len < 8)
			continue;
		else if (*home == KV_HOME_ENTRY)
			look_for_entry(s, kv_rows_id(&rows), rest);
		else if (kv_inode_decode(kv_rows_id(&rows), rest, inode))
			r = save_orphan(s, inode);
		if (r < 0)
			break;
	}
	kv_rows_close(&rows);
	return r;
}

/* Entries of directories that nothing tells of. */
static int save_groups(struct kv_salvage *s)
{
	struct kv_rows rows;
	uint64_t dir = 0;
	int r = kv_rows_open(&rows, s->from, KV_DIRENT);
	rows.keys_only = true;
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1) {
		dir = kv_rows_id(&rows);
		int there = dir == KV_ROOT ? 1 : kv_check_inode(s->from, dir, &s->from->inode);
		if (there == 0 && !kv_salvage_met(s, dir)) {
			there = go_to_lost_found(s, dir);
			if (there == 0)
				there = kv_salvage_meet(s, dir);
			if (there == 0)
				there = save_directory(s, dir, NULL, 1);
		}
		uint64_t be = htobe64(dir + 1);
		r = there < 0 ? there : dir == UINT64_MAX ? 0 : kv_rows_seek(&rows, &be, sizeof be);
		if (dir == UINT64_MAX)
			break;
	}
	kv_rows_close(&rows);
	return r;
}

int kv_salvage(struct kv_salvage *s)
{
	KV_FREE struct kv_inode *root = malloc(sizeof *root);
	int r = root ? kv_check_inode(s->from, KV_ROOT, root) : kv_fail(ENOMEM);
	ascend(s, 0);
	if (s->from->bad_free && kv_check_has_bad_trees(s->from))
		kv_salvage_tell(
			s, "the list of free pages is damaged, too: values may be older than they were, and deleted keys be back");
	if (r >= 0)
		r = save_directory(s, KV_ROOT, r == 1 && S_ISDIR(root->rec.mode) ? root : NULL, 0);
	if (r == 0)
		r = save_orphans(s);
	if (r == 0)
		r = save_groups(s);
	for (size_t i = 0; i < s->cap; i++)
		free(s->met[i].key);
	free(s->met);
	return r;
}
