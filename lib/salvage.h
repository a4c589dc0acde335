/* Salvage: what can be read of a damaged store, written into a new one through the library's own calls, so that the new one is whole whatever
 * the old one is.  salvage.c finds what there is, salvage_copy.c copies one inode. */
#ifndef KV_SALVAGE_H
#define KV_SALVAGE_H

#include "check.h"

/* What was done with an inode that may be met again: one with several names, a directory that was met in an odd way. */
struct kv_met {
	uint64_t ino; /* 0 none */
	char *key; /* its first name in the new store */
};

struct kv_salvage {
	struct kv_check *from;
	struct kvfs_store *to;
	kvfs_finding_fn *finding;
	void *arg;
	struct kvfs_salvage_result seen;
	char key[KVFS_KEY_MAX + 1]; /* that is being made */
	size_t len;
	struct kv_met *met; /* by number, open addressing; cap is a power of two */
	size_t nmet, cap;
};

/* Saves all.  0, or what kept it from going on: an error of writing, -ENOMEM. */
int kv_salvage(struct kv_salvage *s);

/* Tells of the key that is being made. */
__attribute__((format(printf, 2, 3))) void kv_salvage_tell(struct kv_salvage *s, const char *fmt, ...);
/* The first name of an inode that was met; NULL: it was not. */
const char *kv_salvage_met(const struct kv_salvage *s, uint64_t ino);
int kv_salvage_meet(struct kv_salvage *s, uint64_t ino);
/* 0 for what concerns this key only, and is told: the error otherwise. */
int kv_salvage_pass(struct kv_salvage *s, int error);

/* Makes s->key of an inode that is no directory. */
int kv_salvage_copy(struct kv_salvage *s, const struct kv_inode *inode);
/* Mode, owner, times, extended attributes. */
int kv_salvage_attributes(struct kv_salvage *s, const struct kv_inode *inode);

#endif
