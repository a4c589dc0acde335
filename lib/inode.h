/* Inodes: attributes, where the chunks are, and the value's tail.  A record is kept in table inode, or, if the inode has just one
 * name and is small, in that entry of table dirent, with a pointer to it in table inode: this module knows which.
 *
 * The tail is the part of the value in its last chunk's place, kept in the record while it is short (inline_max): a small value is
 * all tail.  A symbolic link's tail is its target. */
#ifndef KV_INODE_H
#define KV_INODE_H

#include "db.h"
#include "dirent.h"

#define KV_ROOT 1
#define KV_TAIL_BUF 4096

struct kv_inode {
	uint64_t ino;
	struct kv_rec_inode rec; /* the fixed part; name_len, tail_len, ncuts, nskips say how much of the following is in use */
	char name[256];
	/* where the record is now, for kv_inode_put(): 0 nowhere yet */
	enum kv_home home;
	uint64_t home_parent; /* KV_HOME_ENTRY: the entry it is in */
	char home_name[256];
	struct kv_rec_cut cuts[KV_CUTS_MAX]; /* rising in index and in gen */
	uint32_t skips[KV_SKIPS_MAX]; /* generations up to rec.gen that are not part of the value */
	const uint8_t *tail; /* borrowed after kv_inode_get(); in buf after kv_inode_load() */
	uint8_t buf[KV_TAIL_BUF];
};

/* A record's bytes, wherever they were; all but where it is.  The tail is borrowed.  False: its parts do not add up. */
bool kv_inode_decode(uint64_t ino, struct kv_bytes b, struct kv_inode *ret);
/* Reads a record; the tail is borrowed.  -ENOENT, -EUCLEAN. */
int kv_inode_get(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret);
/* The same for an entry just read, from the entry if the record is there. */
int kv_inode_get_at(struct kv_txn *txn, const struct kv_dirent *ent, struct kv_inode *ret);
/* The same two, with a tail of its own, so that it can be changed and put. */
int kv_inode_load(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret);
int kv_inode_load_at(struct kv_txn *txn, const struct kv_dirent *ent, struct kv_inode *ret);
/* Writes the record where it belongs, and the entry (parent, name) if the record is in it or the name is new. */
int kv_inode_put(struct kv_txn *txn, struct kv_inode *inode);
/* Removes it from table inode; its entries are the caller's business. */
int kv_inode_del(struct kv_txn *txn, uint64_t ino);

void kv_inode_set_name(struct kv_inode *inode, uint64_t parent, const char *name, size_t len);
void kv_inode_set_tail(struct kv_inode *inode, const void *data, size_t len); /* copies */
void kv_inode_stat(const struct kv_inode *inode, struct kvfs_stat *ret);
/* The attributes alone, without decoding the rest: for listings. */
int kv_inode_stat_of(struct kv_txn *txn, uint64_t ino, struct kvfs_stat *ret);
int kv_inode_stat_at(struct kv_txn *txn, const struct kv_dirent *ent, struct kvfs_stat *ret);

/* The names of an inode that has several: a list beside its record, for when the one in the record goes. */
int kv_inode_add_name(struct kv_txn *txn, uint64_t ino, uint64_t dir, const char *name, size_t len);
int kv_inode_del_name(struct kv_txn *txn, uint64_t ino, uint64_t dir, const char *name, size_t len);
/* Makes the first of them that in the record. */
int kv_inode_take_name(struct kv_txn *txn, struct kv_inode *inode);
/* The first of them, or the next after what the cursor (of table inode) stands on; borrowed.  -ENOENT no (other) one. */
int kv_inode_next_name(struct kv_cursor *c, uint64_t ino, bool first, uint64_t *ret_dir, struct kv_bytes *ret_name);

struct kv_rec_time kv_rec_time(struct timespec ts);

#endif
