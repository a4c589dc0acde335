/* Table inode: inode number -> attributes, where the chunks are, and the value's tail.
 *
 * The tail is the part of the value in its last chunk's place, kept in the record while it is short (inline_max): a small value is
 * all tail.  A symbolic link's tail is its target. */
#ifndef KV_INODE_H
#define KV_INODE_H

#include "db.h"

#define KV_ROOT 1
#define KV_TAIL_BUF 4096

struct kv_inode {
	uint64_t ino;
	struct kv_rec_inode rec; /* the fixed part; name_len, tail_len, ncuts, nskips say how much of the following is in use */
	char name[256];
	struct kv_rec_cut cuts[KV_CUTS_MAX]; /* rising in index and in gen */
	uint32_t skips[KV_SKIPS_MAX]; /* generations up to rec.gen that are not part of the value */
	const uint8_t *tail; /* borrowed after kv_inode_get(); in buf after kv_inode_load() */
	uint8_t buf[KV_TAIL_BUF];
};

/* Reads a record; the tail is borrowed.  -ENOENT, -EUCLEAN. */
int kv_inode_get(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret);
/* The same, with a tail of its own, so that it can be changed and put. */
int kv_inode_load(struct kv_txn *txn, uint64_t ino, struct kv_inode *ret);
/* `fresh`: the number was just handed out and is the greatest. */
int kv_inode_put(struct kv_txn *txn, struct kv_inode *inode, bool fresh);
int kv_inode_del(struct kv_txn *txn, uint64_t ino);

void kv_inode_set_name(struct kv_inode *inode, uint64_t parent, const char *name, size_t len);
void kv_inode_set_tail(struct kv_inode *inode, const void *data, size_t len); /* copies */
void kv_inode_stat(const struct kv_inode *inode, struct kvfs_stat *ret);
/* The attributes alone, without decoding the rest: for listings. */
int kv_inode_stat_of(struct kv_txn *txn, uint64_t ino, struct kvfs_stat *ret);

struct kv_rec_time kv_rec_time(struct timespec ts);

#endif
