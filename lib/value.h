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
};
/* -EOVERFLOW: the blob's bookkeeping is full (many truncations not yet cleaned up); write the whole value anew instead.
 * The caller puts the inode. */
int kv_value_patch(struct kv_edit *ed, struct kv_inode *inode, const struct kv_patch *patch, const struct timespec *mtime);
/* Adds data at the end. */
int kv_value_append(struct kv_edit *ed, struct kv_inode *inode, const void *data, size_t len);

/* The inode is going: its chunks become garbage. */
int kv_value_retire(struct kv_edit *ed, struct kv_inode *inode);
/* A hidden blob that will never be published. */
int kv_value_retire_blob(struct kv_edit *ed, uint64_t blob, uint64_t bytes);
uint64_t kv_value_new_blob(struct kv_edit *ed);

#endif
