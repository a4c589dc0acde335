/* Values: bytes of any length out of an inode's tail and its blob's chunks.  Reads take a version; changes make the next one. */
#ifndef KV_VALUE_H
#define KV_VALUE_H

#include "chunk.h"
#include "edit.h"
#include "inode.h"

/* One immutable version of a value: all that a reader needs besides the store.  The tail is borrowed from whoever filled it. */
struct kv_version {
	struct kv_chunk_view view;
	uint64_t size;
	bool dense; /* no holes */
	uint32_t tail_len;
	const uint8_t *tail;
};

void kv_version_of(const struct kv_inode *inode, struct kv_version *ret);

/* Reads len bytes at offset; fewer at the end.  Holes are zeros. */
ssize_t kv_value_read(
	struct kv_txn *txn, const struct kv_layout *lay, const struct kv_version *ver, void *buf, size_t len, uint64_t offset);
/* The next data or hole at or after offset, by chunks; -ENXIO past the end. */
int64_t kv_value_seek(struct kv_txn *txn, const struct kv_layout *lay, const struct kv_version *ver, uint64_t offset, bool hole);

/* A whole new value: `size` bytes, of which the chunks (all but the tail) already lie in `blob` (0: there are none). */
struct kv_content {
	uint64_t size, blob, stored;
	bool dense; /* known to have no holes */
	const void *tail;
	uint32_t tail_len;
};
/* Makes `content` the value of the inode and retires the old one.  The caller puts the inode. */
int kv_value_replace(struct kv_edit *ed, struct kv_inode *inode, const struct kv_content *content, const struct timespec *mtime);

/* The first version of a value just made, empty; puts the inode. */
int kv_value_create_empty(struct kv_edit *ed, struct kv_inode *inode);

/* Writes data at `offset` of a fresh blob in this transaction, whole chunks and a last short one; for contents that come at once. */
int kv_value_write_chunks(struct kv_edit *ed, uint64_t blob, const void *data, size_t len, uint64_t *ret_stored);
/* Splits a whole value in memory into chunks and tail. */
int kv_value_content(struct kv_edit *ed, const void *data, size_t len, struct kv_content *ret);

/* Chunks of a patch that lie ready in the value's own blob, under a generation reserved for them (DESIGN.md, "Writing ahead"). */
struct kv_ahead {
	uint64_t blob;
	uint32_t gen; /* 0: there are none */
	uint64_t next; /* index to go on from; 0 begins a pass */
	/* estimates that err upwards: bytes in them, in those they take the place of, and by how much they are more */
	uint64_t bytes, under, more;
	/* counted by the pass */
	uint64_t chunks;
	uint64_t fresh; /* of them, those at or past `keep`, the length that the base had; UINT64_MAX it changed in between */
	uint64_t keep;
};

/* A partial change, replayed on the value as it is now. */
struct kv_patch {
	uint64_t cut; /* the base's bytes from here on are dropped; UINT64_MAX none */
	uint64_t end; /* one past the last byte written; 0 none */
	uint64_t size; /* final size when `sized`; else what base and writes make */
	bool sized;
	bool append; /* adds after the end only: may extend the last chunk in place, readers of older versions lose nothing */
	/* Index of the first written chunk at or after `index`, or -ENOENT. */
	int (*next)(void *arg, uint32_t index, uint32_t *ret);
	/* Puts what was written in chunk `index` over `chunk`. */
	int (*apply)(void *arg, struct kv_txn *txn, uint32_t index, uint8_t *chunk);
	void *arg;
	const struct kv_ahead *ahead; /* all its chunks lie ready: kv_value_ahead_state() was 0; NULL they do not */
};
/* -EOVERFLOW: the blob's bookkeeping is full (many truncations not yet cleaned up); write the whole value anew instead.
 * The caller puts the inode. */
int kv_value_patch(struct kv_edit *ed, struct kv_inode *inode, const struct kv_patch *patch, const struct timespec *mtime);
/* Reserves a generation.  The caller puts the inode.  -EOVERFLOW: none is left, or too many are reserved. */
int kv_value_reserve(struct kv_edit *ed, struct kv_inode *inode, struct kv_ahead *ret);
bool kv_value_unreserve(struct kv_inode *inode, uint32_t gen);
/* 0 what was written ahead is right · -EAGAIN some of it was taken away: another pass · -ECANCELED it cannot be published. */
int kv_value_ahead_state(struct kv_inode *inode, const struct kv_ahead *ahead);
/* Writes the next chunks of a patch, at most so many, after at most so many looks.  Not when the state is -ECANCELED.  -ENOENT: that was all.
 * The caller puts the inode. */
int kv_value_write_ahead(struct kv_edit *ed, struct kv_inode *inode, const struct kv_patch *patch, struct kv_ahead *ahead,
	uint64_t chunks, uint64_t looks);
/* Adds data at the end. */
int kv_value_append(struct kv_edit *ed, struct kv_inode *inode, const void *data, size_t len);

/* The inode is going: its chunks become garbage. */
int kv_value_retire(struct kv_edit *ed, struct kv_inode *inode);
/* A hidden blob that will never be published. */
int kv_value_retire_blob(struct kv_edit *ed, uint64_t blob, uint64_t bytes);
/* The same for a session's, with what it has written ahead, if any, on inode `ino`. */
int kv_value_retire_hidden(struct kv_edit *ed, uint64_t hidden, uint64_t bytes, const struct kv_ahead *ahead, uint64_t ino);
/* What it has written ahead was just published: what that took the place of, and the session's blob. */
int kv_value_retire_under(struct kv_edit *ed, uint64_t hidden, uint64_t bytes, const struct kv_ahead *ahead);
uint64_t kv_value_new_blob(struct kv_edit *ed);

#endif
