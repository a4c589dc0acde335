/* Names, inodes and attributes against one another; see check.h.
 *
 * Tables dirent and inode are walked side by side: a directory's entries come when its inode does.  That each inode has as many
 * entries as it says, of its type, or the one that has its record, is weighed in the ledger `names`. */
#include <errno.h>
#include <sys/stat.h>

#include "check.h"
#include "err.h"
#include "path.h"
#include "xattr.h"

#define PUBLISH "user.kvfs.publish"

/* What both sides say of an entry that has its inode's record. */
static uint64_t tag_of_place(struct kv_spot where)
{
	uint64_t h = 0xcbf29ce484222325 ^ where.dir;
	for (size_t i = 0; i < where.name.len; i++)
		h = (h ^ ((const uint8_t *)where.name.data)[i]) * 0x100000001b3;
	return h | 1ull << 63;
}

/* What both say of others. */
static uint64_t tag_of_type(uint32_t mode)
{
	return mode & S_IFMT;
}

/* An inode that says it has the attribute has it; that it says so if it has is seen where the attributes are. */
static int check_publish(struct kv_check *c, const struct kv_inode *inode)
{
	struct kv_key_name key;
	if (!(inode->rec.flags & (KV_INODE_PUBLISH_CLOSE | KV_INODE_PUBLISH_WRITE)))
		return 0;
	bool damaged;
	int r = kv_rows_get(&c->xattrs, &key, kv_key_name(&key, inode->ino, PUBLISH, strlen(PUBLISH)), &damaged);
	if (r == 0 && !damaged)
		kv_check_found(c, KVFS_FINDING_WRONG, kv_check_key_of(c, inode),
			"inode %llu has no attribute " PUBLISH ", and says it has", (unsigned long long)inode->ino);
	return r < 0 ? r : 0;
}

/* The attributes that every inode has, and a value's bytes. */
static int check_inode(struct kv_check *c, const struct kv_inode *inode)
{
	const struct kv_rec_inode *rec = &inode->rec;
	unsigned long long ino = inode->ino;
	if (c->again)
		return S_ISREG(rec->mode) ? kv_check_value(c, inode) : 0;
	int r = check_publish(c, inode);
	if (r)
		return r;
	c->seen.inodes++;
	c->new_inodes += ino >= c->head.rec.next_ino || ino >> KV_INO_BITS;
	if (S_ISDIR(rec->mode)) {
		c->seen.directories += ino != KV_ROOT;
		return 0;
	}
	if (!rec->nlink)
		kv_check_found(c, KVFS_FINDING_WRONG, kv_check_key_of(c, inode), "inode %llu has no links", ino);
	if (!S_ISREG(rec->mode)) {
		c->seen.others++;
		if (S_ISLNK(rec->mode) && (!rec->tail_len || rec->tail_len != rec->size))
			kv_check_found(c, KVFS_FINDING_LOST, kv_check_key_of(c, inode), "the target of the link is not whole");
		return 0;
	}
	c->seen.values++;
	c->seen.value_bytes += rec->size;
	return kv_check_value(c, inode);
}

/* ---- entries ---- */

/* The entries of one directory, as they are counted. */
struct group {
	uint64_t dir, entries, subdirs;
};

/* An entry with its inode's record. */
static int check_embedded(struct kv_check *c, struct kv_spot where, const struct kv_rec_dirent *ent, struct kv_bytes rec)
{
	struct kv_inode *inode = &c->inode;
	if (!kv_inode_decode(ent->ino, rec, inode)) {
		kv_check_found(c, KVFS_FINDING_LOST, kv_check_key(c, where.dir, where.name),
			"the inode record in the entry cannot be read");
		return 0;
	}
	kv_ledger_minus(&c->names, ent->ino, tag_of_place(where), &where);
	if (inode->rec.parent != where.dir || inode->rec.name_len != where.name.len ||
		memcmp(inode->name, where.name.data, where.name.len) != 0 || inode->rec.nlink != 1 || S_ISDIR(inode->rec.mode) ||
		(inode->rec.mode & S_IFMT) != ent->type)
		kv_check_found(c, KVFS_FINDING_WRONG, kv_check_key(c, where.dir, where.name),
			"the inode record in the entry is of another name or type");
	return check_inode(c, inode);
}

static int check_entry(struct kv_check *c, struct kv_rows *rows, struct group *group)
{
	struct kv_spot where = {group->dir, {(const char *)rows->key.data + 8, rows->key.len - 8}};
	struct kv_rec_dirent ent;
	group->entries++;
	if (rows->key.len < 8 || !kv_name_is_legal(where.name.data, where.name.len) || rows->value.len < sizeof ent) {
		kv_check_found(
			c, KVFS_FINDING_LOST, NULL, "an entry of directory %llu cannot be read", (unsigned long long)group->dir);
		return 0;
	}
	memcpy(&ent, rows->value.data, sizeof ent);
	group->subdirs += S_ISDIR(ent.type);
	if (rows->value.len > sizeof ent)
		return check_embedded(c, where, &ent,
			(struct kv_bytes){(const uint8_t *)rows->value.data + sizeof ent, rows->value.len - sizeof ent});
	kv_ledger_minus(&c->names, ent.ino, tag_of_type(ent.type), &where);
	return 0;
}

/* All entries of directories up to `ino`; those of `ino` itself are counted in *ret. */
static int check_entries(struct kv_check *c, struct kv_rows *rows, bool *more, uint64_t ino, struct group *ret)
{
	*ret = (struct group){.dir = ino};
	while (*more && kv_rows_id(rows) <= ino) {
		struct group group = {.dir = kv_rows_id(rows)};
		int r = 0;
		while (r == 0 && *more && kv_rows_id(rows) == group.dir) {
			r = check_entry(c, rows, &group);
			if (r == 0)
				r = kv_rows_next(rows);
			*more = r == 1;
			r = r < 0 ? r : 0;
		}
		if (r)
			return r;
		if (group.dir == ino)
			*ret = group;
		else
			kv_check_found(c, KVFS_FINDING_LOST, NULL,
				"directory %llu is not there, or cannot be read, and has %llu entries",
				(unsigned long long)group.dir, (unsigned long long)group.entries);
	}
	return 0;
}

/* ---- inodes ---- */

/* Does the entry lead to the inode?  1 (also when it is damaged, which is told of elsewhere), 0, or an error. */
static int leads_to(struct kv_check *c, struct kv_spot where, uint64_t ino)
{
	struct kv_key_name key;
	struct kv_rec_dirent ent = {0};
	bool damaged;
	int r = where.name.len > sizeof key.name
			? 0
			: kv_rows_get(&c->entries, &key, kv_key_name(&key, where.dir, where.name.data, where.name.len), &damaged);
	if (r < 0 || where.name.len > sizeof key.name)
		return r;
	if (r == 1 && c->entries.value.len >= sizeof ent)
		memcpy(&ent, c->entries.value.data, sizeof ent);
	return ent.ino == ino || damaged;
}

/* N3: the name that an inode says is its own. */
static int check_own_name(struct kv_check *c, const struct kv_inode *inode)
{
	struct kv_spot where = {inode->rec.parent, {inode->name, inode->rec.name_len}};
	int r = leads_to(c, where, inode->ino);
	if (r == 0)
		kv_check_found(c, KVFS_FINDING_WRONG, kv_check_key_of(c, inode),
			"inode %llu says that this is its name, and it is not", (unsigned long long)inode->ino);
	return r < 0 ? r : 0;
}

/* Does it hang from the root?  A ring has a directory whose number is below its parent's: only from those it is looked for, and a
 * mark that moves on at powers of two is met again in it. */
static int check_way_up(struct kv_check *c, const struct kv_inode *inode)
{
	uint64_t at = inode->rec.parent, mark = inode->ino, steps = 0, next = 1;
	if (at < inode->ino)
		return 0;
	while (at != KV_ROOT && at != mark) {
		if (++steps == next) {
			mark = at;
			next *= 2;
		}
		int r = kv_check_inode(c, at, &c->other);
		if (r != 1)
			return r; /* what is missing is told where it is missed */
		at = c->other.rec.parent;
	}
	if (at == mark && at != KV_ROOT)
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "directory %llu ('%s') does not hang from the root",
			(unsigned long long)inode->ino, inode->name);
	return 0;
}

static int check_directory(struct kv_check *c, const struct kv_inode *inode, const struct group *group)
{
	const struct kv_rec_inode *rec = &inode->rec;
	bool root = inode->ino == KV_ROOT;
	if (c->again)
		return 0;
	const char *key = root ? NULL : kv_check_key_of(c, inode);
	if (rec->size != group->entries || rec->blob != group->subdirs)
		kv_check_found(c, KVFS_FINDING_WRONG, key,
			"directory %llu counts %llu entries, %llu of them directories, and has %llu, %llu",
			(unsigned long long)inode->ino, (unsigned long long)rec->size, (unsigned long long)rec->blob,
			(unsigned long long)group->entries, (unsigned long long)group->subdirs);
	if (!root && rec->flags & KV_INODE_IMPLICIT && !group->entries)
		kv_check_found(c, KVFS_FINDING_WRONG, key, "an implicit directory is empty");
	if (root ? rec->parent != KV_ROOT : !rec->parent || !rec->name_len)
		kv_check_found(
			c, KVFS_FINDING_WRONG, key, "directory %llu does not say where it is", (unsigned long long)inode->ino);
	return root ? 0 : check_way_up(c, inode);
}

/* An inode whose record is in its own table. */
static int check_here(struct kv_check *c, uint64_t ino, struct kv_bytes rec, const struct group *group, uint64_t *ret_listed)
{
	struct kv_inode *inode = &c->inode;
	if (!kv_inode_decode(ino, rec, inode)) {
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "inode %llu cannot be read", (unsigned long long)ino);
		return 0;
	}
	bool dir = S_ISDIR(inode->rec.mode);
	struct kv_spot where = {inode->rec.parent, {inode->name, inode->rec.name_len}};
	if (ino != KV_ROOT)
		kv_ledger_plus(&c->names, ino, tag_of_type(inode->rec.mode), dir ? 1 : inode->rec.nlink, &where);
	if (!dir && group->entries)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "inode %llu is no directory, and has %llu entries",
			(unsigned long long)ino, (unsigned long long)group->entries);
	int r = 0;
	*ret_listed = !c->again && !dir && inode->rec.nlink > 1 ? inode->rec.nlink : 0;
	if (!c->again && ino != KV_ROOT)
		r = check_own_name(c, inode);
	if (r == 0)
		r = dir ? check_directory(c, inode, group) : 0;
	return r ? r : check_inode(c, inode);
}

/* I3: the names that are listed after the record of an inode with several. */
struct listed {
	uint64_t ino, want, have;
};

static void end_of_list(struct kv_check *c, const struct listed *l)
{
	if (l->want != l->have)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "inode %llu has %llu names listed, where %llu should be",
			(unsigned long long)l->ino, (unsigned long long)l->have, (unsigned long long)l->want);
}

/* A name in the list is an entry that leads to the inode; that no other entry does, the ledger tells by their number. */
static int check_listed(struct kv_check *c, const struct kv_rows *rows, struct listed *l)
{
	struct kv_key_link link;
	if (c->again)
		return 0;
	if (kv_rows_id(rows) != l->ino) {
		end_of_list(c, l);
		*l = (struct listed){.ino = kv_rows_id(rows)}; /* its record is damaged, or there is none */
	}
	l->have++;
	size_t head = sizeof link - sizeof link.name;
	if (rows->key.len <= head || rows->key.len > sizeof link || rows->value.len) {
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "a name of inode %llu is none", (unsigned long long)l->ino);
		return 0;
	}
	memcpy(&link, rows->key.data, rows->key.len);
	struct kv_spot where = {be64toh(link.dir_be), {link.name, rows->key.len - head}};
	int leads = leads_to(c, where, l->ino);
	if (leads == 0)
		kv_check_found(c, KVFS_FINDING_WRONG, kv_check_key(c, where.dir, where.name),
			"inode %llu lists this as a name of it, and it is not", (unsigned long long)l->ino);
	return leads < 0 ? leads : 0;
}

/* A record of table inode. */
static int check_row(struct kv_check *c, const struct kv_rows *rows, const struct group *group, struct listed *l)
{
	uint64_t ino = kv_rows_id(rows), dir;
	const uint8_t *home = rows->value.data;
	if (rows->key.len > sizeof ino)
		return check_listed(c, rows, l);
	end_of_list(c, l);
	*l = (struct listed){.ino = ino};
	if (rows->key.len == sizeof ino && rows->value.len && *home == KV_HOME_HERE)
		return check_here(c, ino, (struct kv_bytes){home + 1, rows->value.len - 1}, group, &l->want);
	if (rows->key.len != sizeof ino || !rows->value.len || *home != KV_HOME_ENTRY || rows->value.len <= 1 + sizeof dir) {
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "inode %llu cannot be read", (unsigned long long)ino);
		return 0;
	}
	memcpy(&dir, home + 1, sizeof dir);
	struct kv_spot where = {dir, {(const char *)home + 1 + sizeof dir, rows->value.len - 1 - sizeof dir}};
	kv_ledger_plus(&c->names, ino, tag_of_place(where), 1, &where);
	return 0;
}

int kv_check_inodes(struct kv_check *c)
{
	struct kv_rows inodes, entries;
	struct group group = {0};
	struct listed listed = {0};
	bool root = false;
	int r = kv_rows_open(&inodes, c, KV_INODE), s = kv_rows_open(&entries, c, KV_DIRENT);
	inodes.tell = entries.tell = true;
	r = r ? r : s ? s : kv_rows_next(&entries);
	bool more = r == 1;
	while (r >= 0 && (r = kv_rows_next(&inodes)) == 1) {
		uint64_t ino = kv_rows_id(&inodes);
		root |= ino == KV_ROOT && inodes.key.len == sizeof ino;
		if (inodes.key.len == sizeof ino)
			r = check_entries(c, &entries, &more, ino, &group);
		if (r >= 0)
			r = check_row(c, &inodes, &group, &listed);
	}
	end_of_list(c, &listed);
	if (r == 0)
		r = check_entries(c, &entries, &more, UINT64_MAX, &group);
	if (r == 0 && !root)
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "the root directory is not there, or cannot be read");
	kv_rows_close(&inodes);
	kv_rows_close(&entries);
	return r;
}

/* ---- the ledger ---- */

static void tell_line(struct kv_check *c, const struct kv_ledger_line *line)
{
	unsigned long long ino = line->id;
	const char *key = line->dir ? kv_check_key(c, line->dir, (struct kv_bytes){line->name, line->name_len}) : NULL;
	if (line->plus && !line->minus)
		kv_check_found(c, KVFS_FINDING_LOST, key, "inode %llu has no name any more", ino);
	else if (!line->plus)
		kv_check_found(c, KVFS_FINDING_LOST, key, "the name leads to inode %llu, which %s", ino,
			ino == KV_ROOT ? "is the root" : "is not there, or cannot be read");
	else if (line->plus != line->minus)
		kv_check_found(c, KVFS_FINDING_WRONG, key, "inode %llu has %llu names, and counts %llu", ino,
			(unsigned long long)line->minus, (unsigned long long)line->plus);
	else
		kv_check_found(c, KVFS_FINDING_WRONG, key, "the name says another type, or place, than its inode %llu", ino);
}

int kv_check_names(struct kv_check *c)
{
	int r = kv_check_inodes(c);
	if (r || kv_ledger_is_even(&c->names))
		return r;
	r = kv_ledger_look_closer(&c->names);
	c->again = true;
	if (r == 0)
		r = kv_check_inodes(c);
	c->again = false;
	for (size_t i = 0; r == 0 && i < KV_LEDGER_LINES; i++)
		if (c->names.lines[i].id && c->names.lines[i].balance)
			tell_line(c, &c->names.lines[i]);
	if (r == 0 && c->names.full)
		kv_check_found(
			c, KVFS_FINDING_LOST, NULL, "and more names and inodes that do not match than can be told one by one");
	return r;
}

/* ---- extended attributes ---- */

struct attrs {
	uint64_t ino, bytes;
	uint16_t publish; /* flag that the attribute asks for */
};

static int end_of_inode(struct kv_check *c, const struct attrs *a)
{
	if (!a->ino)
		return 0;
	int r = kv_check_inode(c, a->ino, &c->inode);
	if (r < 0)
		return r;
	unsigned long long ino = a->ino;
	if (r == 0) {
		kv_check_found(
			c, KVFS_FINDING_LOST, NULL, "inode %llu has extended attributes, and is not there, or cannot be read", ino);
		return 0;
	}
	uint16_t publish = c->inode.rec.flags & (KV_INODE_PUBLISH_CLOSE | KV_INODE_PUBLISH_WRITE);
	if (!(c->inode.rec.flags & KV_INODE_XATTRS) || publish != a->publish || a->bytes > KV_XATTR_TOTAL_MAX)
		kv_check_found(c, KVFS_FINDING_WRONG, kv_check_key_of(c, &c->inode),
			"inode %llu does not say what extended attributes it has", ino);
	return 0;
}

static void see_attr(struct kv_check *c, struct attrs *a, const struct kv_rows *rows)
{
	struct kv_bytes name = {(const char *)rows->key.data + 8, rows->key.len - 8};
	if (rows->key.len <= 8 || name.len > KVFS_NAME_MAX || memchr(name.data, 0, name.len))
		kv_check_found(
			c, KVFS_FINDING_WRONG, NULL, "an extended attribute of inode %llu has no name", (unsigned long long)a->ino);
	a->bytes += rows->key.len - 8 + rows->value.len;
	if (name.len != strlen(PUBLISH) || memcmp(name.data, PUBLISH, name.len) != 0)
		return;
	struct kv_rec_inode rec = {0};
	if (kv_xattr_note(&rec, PUBLISH, rows->value.data, rows->value.len) == 0)
		a->publish = rec.flags & (KV_INODE_PUBLISH_CLOSE | KV_INODE_PUBLISH_WRITE);
}

int kv_check_xattrs(struct kv_check *c)
{
	struct attrs a = {0};
	struct kv_rows rows;
	int r = kv_rows_open(&rows, c, KV_XATTR);
	rows.tell = true;
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1) {
		if (kv_rows_id(&rows) != a.ino) {
			r = end_of_inode(c, &a);
			a = (struct attrs){.ino = kv_rows_id(&rows)};
		}
		see_attr(c, &a, &rows);
	}
	kv_rows_close(&rows);
	return r ? r : end_of_inode(c, &a);
}
