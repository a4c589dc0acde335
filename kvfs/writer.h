/* When a write session is published (contract, section 3), and what renames and deletions mean for one that is not yet.
 *
 * Published: at fsync; at the close after which the process that opened the session has no descriptor of it; by each append; else, when
 * that process has passed its descriptors on and is gone, at the last close.  A process that a signal ends before its close publishes
 * nothing: its session is dropped.  Each of these turns holds the session's lock (node.h). */
#ifndef KVFS_WRITER_H
#define KVFS_WRITER_H

#include "node.h"

/* WRITE.  `uid` is the caller's; `flags` are those of this write: the descriptor's as they are now (F_SETFL), and the call's (RWF_*).
 * Bytes written, or a negative errno. */
ssize_t kv_writer_write(
	struct kv_nodes *nodes, struct kv_handle *h, uint32_t uid, int flags, const void *buf, size_t len, uint64_t offset);
/* Whoever is not root takes the set-id bits away by writing and by truncating; the kernel sees to that for cached writes only. */
int kv_writer_take_privileges(struct kv_nodes *nodes, struct kv_node *n, uint32_t uid);
/* Sets the size of a session's content; one that has no descriptors (truncate(2) by path), or appends, is published at once. */
int kv_writer_truncate(struct kv_nodes *nodes, struct kv_node *n, uint64_t size);
/* As fallocate(2). */
int kv_writer_fallocate(struct kv_nodes *nodes, struct kv_handle *h, int mode, uint64_t offset, uint64_t len);
/* Publishes what there is. */
int kv_writer_publish(struct kv_nodes *nodes, struct kv_node *n);
/* Whether a publication has taken others' changes in, so that the pages the kernel has of the session are to be dropped: asked once. */
bool kv_writer_took_others(struct kv_nodes *nodes, struct kv_node *n);
/* Somebody closed a descriptor of `h`.  An error means that nothing was published and nothing will be. */
int kv_writer_flush(struct kv_nodes *nodes, struct kv_handle *h, pid_t tid);
/* Nobody has a descriptor of `h` any more: the last publication, and the end of the handle.  An error can be told to nobody: it is logged, and
 * what was written is kept. */
void kv_writer_release(struct kv_nodes *nodes, struct kv_handle *h);
/* Locks are points of publication.  Before a lock is asked for: a new key is published, for locks belong to an inode number, and those
 * who make the same key at once have one only when it is.  Not what O_EXCL made, which nobody else can open. */
int kv_writer_locking(struct kv_nodes *nodes, struct kv_handle *h);
/* A lock was granted: takes the newest published value.  1 when the pages that the kernel has of it are another's. */
int kv_writer_refresh(struct kv_nodes *nodes, struct kv_handle *h);
/* A lock ends or lets others read: what was written under it is published, before anybody gets a turn.  The error is the unlock's. */
int kv_writer_unlocked(struct kv_nodes *nodes, struct kv_handle *h);
/* Ends a handle that the kernel never took. */
void kv_writer_abandon(struct kv_nodes *nodes, struct kv_handle *h);

/* The caller removed or renamed a name: false, and nothing done, unless its own unpublished sessions are what that name is to it. */
bool kv_writer_unlink(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name);
bool kv_writer_rename(
	struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint64_t parent2, const char *name2, int *ret_error);
/* The caller renames something to a name that it has reserved itself. */
void kv_writer_give_up_name(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name);
/* Publishes the caller's unpublished sessions of a name, for what needs them in the store. */
int kv_writer_publish_name(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name);
/* The inode lost its last name: its sessions go on as on an unlinked file. */
void kv_writer_gone(struct kv_nodes *nodes, uint64_t ino);

/* At the end of a mount.  With `closed`, all that is left was closed already, and is published if that was still to be done;
 * else it is dropped.  Returns how many sessions with something to publish were dropped. */
size_t kv_writer_end(struct kv_nodes *nodes, bool closed);

#endif
