/* Write sessions inside: what session.c (life and publication), session_io.c (bytes), session_attr.c (attributes) and
 * session_keep.c (what is kept of those that end unpublished) share. */
#ifndef KV_SESSION_H
#define KV_SESSION_H

#include <kvfs_ll.h>

#include "buffer.h"
#include "commit.h"
#include "held.h"

struct kv_session_xattr {
	char *name;
	void *value;
	size_t size;
	struct kv_session_xattr *next;
};

/* An inode number that several new keys were promised: one gets it. */
struct kv_number {
	_Atomic unsigned refs;
	const struct kvfs_session *_Atomic user; /* set under the write lock: who has published with it, or tried; NULL nobody */
	_Atomic bool used; /* published, and so found by name: promised to nobody any more */
};

struct kvfs_session {
	struct kv_core *core;
	struct kvfs_session *prev, *next; /* protected by core->sessions_lock */
	pthread_mutex_t lock; /* protects all that follows */

	/* what it will be published as */
	uint64_t ino;
	struct kv_number *number; /* is_new: `ino` is promised to others too; else NULL */
	uint64_t parent; /* where it will be named, or by which name it was opened: "" not known */
	char name[KVFS_NAME_MAX + 1];
	char *key; /* is_new, instead of parent and name: a whole key, whose directories are made then */
	unsigned cond; /* with key: KVFS_IF_* */
	uint64_t cond_version;
	bool is_new; /* has no inode yet */
	bool excl; /* is_new: the name must still be free then */
	bool displaces; /* is_new: it was renamed to that name, and replaces what is there as rename(2) does */
	unsigned reserved; /* number of the reservation of parent and name; 0 none */
	bool orphan; /* never: its key is gone */
	struct kvfs_stat st; /* is_new: mode, owner; else as last seen */
	uint32_t epoch; /* of the version it is based on: as opened, refreshed or published last; 0 of a new key */

	/* what was written: `bufs` over hidden chunks of `blob` over (unless replace) `base` */
	bool dirty;
	bool replace; /* the whole value is the session's; else only bytes marked as written are */
	struct kvfs_value *base; /* NULL: replace */
	uint64_t size; /* as the writer sees it */
	uint64_t cut; /* base bytes from here on are gone; UINT64_MAX none */
	uint64_t end; /* one past the last byte written */
	bool sized; /* a truncation decided the size */
	struct kv_buffers bufs;
	uint64_t blob; /* of hidden chunks; 0 none yet */
	uint64_t stored; /* bytes in them */
	uint64_t kept; /* id of the kept session that this one is the recovery of; 0 none */
	uint8_t *mask; /* of the hidden chunk looked at last */
	struct kv_ahead ahead; /* chunks written ahead of the publication under way (session_parts.c, A2) */

	/* attributes to publish with it */
	unsigned times; /* KVFS_SET_ATIME, KVFS_SET_MTIME */
	struct timespec atime, mtime;
	struct kv_session_xattr *xattrs; /* is_new */
};

/* A session on a key that need not exist, nor its directories; `mode` of the value if it is made. */
int kv_session_new_key(struct kv_core *core, const char *key, uint32_t mode, struct kvfs_session **ret);
/* An empty one, for what only looks like a session. */
struct kvfs_session *kv_session_new(struct kv_core *core);
int kv_session_check_store(struct kvfs_store *store);
/* What KVFS_IF_ABSENT and KVFS_IF_VERSION ask of an existing inode; `exists` false: of none. */
int kv_session_check_cond(unsigned cond, uint64_t want, bool exists, uint64_t version);

/* All with s->lock held. */
/* Another session's reservation: -EEXIST.  What a publication decides, told early. */
int kv_session_check_name(struct kvfs_session *s, uint64_t parent, const char *name);
/* Of a new one: it is to make its name, and nobody else until then.  -EEXIST, -ENFILE. */
int kv_session_reserve(struct kvfs_session *s);
void kv_session_give_back_name(struct kvfs_session *s);
int kv_session_publish(struct kvfs_session *s);
/* In one transaction.  `last`: do not ask for another round (session_parts.c). */
int kv_session_publish_value(struct kvfs_session *s, bool last);
int kv_session_publish_parts(struct kvfs_session *s);
/* More parts than one transaction should hold. */
bool kv_session_is_large(const struct kvfs_session *s);
/* One pass; all that was written must be in hidden chunks. -ECANCELED, -ENOENT the key is gone, -EOVERFLOW. */
int kv_session_write_ahead(struct kvfs_session *s);
int kv_session_give_up_ahead(struct kvfs_session *s);
/* The size that a session of parts gives to a value of `base` bytes: as kv_value_patch() will. */
uint64_t kv_session_size_on(const struct kvfs_session *s, uint64_t base);
ssize_t kv_session_read(struct kvfs_session *s, void *buf, size_t len, uint64_t offset);
ssize_t kv_session_write(struct kvfs_session *s, const void *buf, size_t len, uint64_t offset);
int kv_session_truncate(struct kvfs_session *s, uint64_t size);
int kv_session_clear(struct kvfs_session *s);
/* Forgets a kept session; its blob becomes garbage.  -ENOENT */
int kv_session_drop_kept(struct kv_edit *ed, uint64_t id);
/* Puts one buffer into the hidden blob. */
int kv_session_spill_one(struct kvfs_session *s, struct kv_edit *ed, struct kv_buffer *buf);
/* Moves all buffers to hidden chunks. */
int kv_session_spill(struct kvfs_session *s);
/* Forgets everything written: buffers freed, hidden chunks retired. */
int kv_session_reset(struct kvfs_session *s);
void kv_session_drop_buffers(struct kvfs_session *s, uint32_t index);
/* What was written in chunk `index`, from hidden chunks. *ret_mask NULL: all of it, else valid until the next call.  -ENOENT */
int kv_session_hidden(struct kvfs_session *s, struct kv_txn *txn, uint32_t index, struct kv_bytes *ret, const uint8_t **ret_mask);
/* The first index at or after `index` that was written to; -ENOENT. */
int kv_session_next(struct kvfs_session *s, struct kv_txn *txn, uint32_t index, uint32_t *ret);
struct kv_session_patch {
	struct kv_patch patch;
	struct kvfs_session *s;
	struct kv_edit *ed;
};
/* What a session of parts changes, as a patch within an edit. */
void kv_session_patch(struct kvfs_session *s, struct kv_edit *ed, struct kv_session_patch *ret);
/* As kvfs_session_seek. */
int64_t kv_session_seek(struct kvfs_session *s, uint64_t offset, bool hole);
void kv_session_free_xattrs(struct kvfs_session *s);
void kv_session_put_number(struct kvfs_session *s);

#define KV_SESSION_BUFFERS 256u /* chunks one session keeps in memory: 8 MiB */

#endif
