/* What a kernel inode is: one immutable published version of a value, or one private write session.
 *
 * The kernel keeps one size and one page cache per inode (its "node id"), so privacy and snapshots hold for read, mmap, fstat and
 * sendfile alike only if each version and each session has a node id of its own.  st_ino is another thing: always the key's.
 *
 * Invariants:
 *  1. Idle nodes carry no state.  Every node id holds its inode number; that of a version also the low bits of its epoch.  Only what is
 *     open lives in the tables here, so there is nothing to bound and nothing to forget.
 *  2. The size that a node id is answered with is the one its readers opened, as long as somebody has it open.
 *  3. A node id whose version is not current is never opened by path: OPEN is refused once with ESTALE, and the kernel walks the path
 *     again.  What the caller was refused for is remembered (an intent), and the retry's LOOKUP makes what its OPEN will
 *     find, whatever is published in between: ESTALE is never answered twice.
 *  4. A session's node id is answered to its own process only, and never used again.
 *
 * Locks, outermost first:
 *  - kv_node.lock   of a session: the turns of its life (publish, rename, drop).  The store is called while it is held.
 *  - kv_nodes.lock  all tables, reference counts and intents.  No store call, no system call that can wait, while it is held. */
#ifndef KVFS_NODE_H
#define KVFS_NODE_H

#include <kvfs_ll.h>
#include <pthread.h>

struct kv_link {
	struct kv_link *next;
	uint64_t hash;
};

struct kv_table {
	struct kv_link **slots;
	size_t size, used; /* size is a power of two */
};

/* Something open, or about to be.  Fields without a remark are fixed once the node is in the tables. */
struct kv_node {
	uint64_t id, generation;
	uint64_t ino; /* kv_nodes.lock: a new key that somebody else made first turns to that one's when it is published */
	struct kv_link by_id;
	unsigned refs; /* protected by kv_nodes.lock */

	/* a version; without a value, a directory */
	struct kvfs_value *value;
	struct kvfs_stat st; /* when it was opened; kv_nodes.lock */
	bool opening; /* not filled in yet; kv_nodes.lock */

	/* a session */
	struct kvfs_session *session;
	pthread_mutex_t lock;
	uint64_t serial; /* later ones have higher numbers */
	struct kv_link by_ino;
	struct kv_link by_name; /* while the key is not published */
	uint64_t parent; /* kv_nodes.lock, as all below */
	char *name; /* NULL once it is published */
	bool reserved; /* made with O_EXCL: nobody else may make this name */
	pid_t opener; /* process; 0 unknown, -1 has closed it */
	unsigned handles; /* open file descriptions that can write */
	uint64_t kernel_id; /* the node id that its descriptors are on: `id`, except for those opened in place */
	uint64_t kernel_generation; /* 0: any */
	bool dropped; /* killed, unlinked or replaced: is never published */
	bool direct; /* not through the page cache */
	bool wrote; /* content was written or cut since it was opened */
	bool appends; /* made by an opening with O_APPEND */
	bool privileged; /* has set-id bits that writing takes away */
};

/* What a thread was last told about an inode by LOOKUP. */
struct kv_told {
	pid_t tid;
	uint64_t id;
	struct kvfs_stat st;
};

enum { KV_TOLD_MAX = 1024 }; /* a power of two */

struct kv_nodes {
	struct kvfs_store *store;
	pthread_mutex_t mutex;
	pthread_cond_t opened; /* some node is no longer `opening` */
	/* all protected by mutex */
	struct kv_table by_id, by_ino, by_name; /* everything open; sessions; unpublished names */
	struct kv_intent *intents; /* newest first */
	unsigned intent_count;
	struct kv_told *told; /* by thread id */
	uint64_t serial; /* of private ids */
	uint32_t generation; /* of this mount: tells its private ids from those of another */
};

/* What the kernel is told about an inode. */
struct kv_face {
	uint64_t id, generation;
	struct kvfs_stat st;
};

/* One open file description. */
struct kv_handle {
	struct kv_node *node;
	bool write, append, direct;
};

int kv_nodes_new(struct kvfs_store *store, struct kv_nodes **ret);
/* Drops what is still open, unpublished; takes NULL.  No other thread uses it any more. */
void kv_nodes_free(struct kv_nodes *nodes);

uint64_t kv_node_ino(uint64_t id);
/* The face of what is published: an entry made or found in the store. */
void kv_node_face(struct kv_nodes *nodes, const struct kvfs_stat *st, struct kv_face *ret);

/* LOOKUP, answered by the caller. -ENOENT */
int kv_node_lookup(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, struct kv_face *ret);
/* GETATTR, answered by the node id alone: the kernel gives the answer to all who use it.  Of an inode that is gone, a thread is told what
 * it was told when it found it: its stat(2) has begun before.  -ESTALE */
int kv_node_stat(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kvfs_stat *ret);
/* Keeps an inode that is not a regular file answerable while it is open, though it may be removed; kv_node_put() ends that. */
int kv_node_hold(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret);
/* Notes an attribute that was set on something whose inode is gone.  False when it is not open, and the thread did not just find it. */
bool kv_node_set_gone(struct kv_nodes *nodes, pid_t tid, uint64_t id, const struct kvfs_setattr *attr);

/* OPEN.  -ESTALE: the kernel tries again, and finds another node. */
int kv_node_open(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_handle *ret);
/* CREATE. */
int kv_node_create(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred,
	int flags, struct kv_face *ret_face, struct kv_handle *ret);
/* The session in which `tid` may cut the value `id` by path: its own, referenced in *ret.  -ESTALE as with kv_node_open(). */
int kv_node_truncate(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_node **ret);

/* The open node with this id, referenced; NULL when it is idle. */
struct kv_node *kv_node_get(struct kv_nodes *nodes, uint64_t id);
/* Gives a reference back; takes NULL. */
void kv_node_put(struct kv_nodes *nodes, struct kv_node *n);

/* ---- between node.c, node_open.c and writer.c ---- */

enum { KV_NODE_TRIES = 1000 }; /* of what fails when a value is published in between */

void kv_nodes_lock(struct kv_nodes *nodes);
void kv_nodes_unlock(struct kv_nodes *nodes);
/* Remembers what LOOKUP answers to a thread. */
void kv_node_tell(struct kv_nodes *nodes, pid_t tid, const struct kv_face *face);
/* Some open node, or NULL; the lock is held, or nobody else is left. */
struct kv_node *kv_nodes_any(struct kv_nodes *nodes);
void kv_intents_end(struct kv_nodes *nodes);

/* Opens the current version of the inode under `id`, or shares it; `epoch` (NULL: that of the id) must be the current one, else
 * -ESTALE. */
int kv_node_version(struct kv_nodes *nodes, uint64_t id, uint64_t generation, const uint32_t *epoch, struct kv_node **ret);
/* The face of an open version; `now` as kv_node_stat() found it, NULL when the inode is gone. */
void kv_node_version_face(struct kv_nodes *nodes, const struct kv_node *n, const struct kvfs_stat *now, struct kv_face *ret);
/* The newest version, under an id the kernel does not know: for descriptors that are on another inode of that key. */
int kv_node_newest(struct kv_nodes *nodes, uint64_t ino, struct kv_node **ret);

/* Makes a session's node, with `name` if the key is not published yet. Takes `s` over, when it fails too. */
int kv_node_session(
	struct kv_nodes *nodes, pid_t tid, struct kvfs_session *s, uint64_t parent, const char *name, struct kv_node **ret);
int kv_node_session_face(struct kv_node *n, struct kv_face *ret);
/* Whether `tid` belongs to the process that opened the session. */
bool kv_node_own(const struct kv_node *n, pid_t tid);
/* The caller's own unpublished session of this name, the newest one, referenced; else NULL. */
struct kv_node *kv_node_pending(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name);
/* The caller's newest session on a published key that has something to publish, referenced; else NULL. */
struct kv_node *kv_node_own_changes(struct kv_nodes *nodes, pid_t tid, uint64_t ino);
/* True when another process has reserved the name. */
bool kv_node_reserved(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name);
/* A session on `ino` that is not dropped, referenced; else NULL. */
struct kv_node *kv_node_session_on(struct kv_nodes *nodes, uint64_t ino);
/* Moves an unpublished session to another name. */
int kv_node_set_name(struct kv_nodes *nodes, struct kv_node *n, uint64_t parent, const char *name);
/* A session that waits for its name no longer: it is published, now on `ino`, or dropped. */
void kv_node_settle(struct kv_nodes *nodes, struct kv_node *n, uint64_t ino);

#endif
