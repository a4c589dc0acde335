/* What a kernel inode is: one immutable published version of a value, or one private write session.
 *
 * The kernel keeps one size and one page cache per inode (its "node id"), so privacy and snapshots hold for read, mmap, fstat and
 * sendfile alike only if each version and each session has a node id of its own.  st_ino is another thing: always the key's.
 *
 *                       OPEN to read                     OPEN for writing only, nobody reads it: taken over
 *          +-------+ ----------------> +---------+      +-------------------------------------+
 *          | idle  |   last RELEASE    | version |      |                                     v
 *          |       | <---------------- | (held)  |   [idle]                             +---------+
 *          +-------+                   +---------+                                      | session | <-- CREATE, LOOKUP after a refusal
 *              ^                         |     ^                                        +---------+     (a fresh id)
 *              |                         +-----+ append: it grows                        |  |  ^
 *              |                                                  last RELEASE, published |  |  | fsync, append: published,
 *              +--------------------------------------------------------------------------+  +--+ goes on
 *                                                                                         |
 *                                   last RELEASE: killed, unlinked, or merged with others | (the kernel's size and pages are
 *          [no id of anything] <---- its pages dropped <---- [spoiled] <------------------+  nobody's version)
 *
 * Who comes to an id that is not what its name leads to now, by a name the kernel has cached, is refused with ESTALE: the kernel walks the
 * path once more, asking LOOKUP for each name (intent.h).  So the kernel may cache names and attributes for long: what must
 * be told to it after a change is only that the attributes of the old id are no longer true; it then asks GETATTR, and is refused.
 *
 * Invariants:
 *  1. An id that nothing in the tables speaks for is that of the version whose inode number and epoch it is made of; so most idle nodes
 *     need no state.  The others (sessions that became versions) are kept in a list of bounded length; to forget one is harmless
 *     once the kernel has been told that its attributes are no longer true.
 *  2. The size that a node id is answered with is the one its readers opened, as long as somebody has it open.  It may grow by
 *     whole appends (mount_feed.c).
 *  3. OPEN by path of a version that is not current or of another process's session, and GETATTR of such a version, are refused, once: what
 *     the caller was refused for is remembered (an intent), and the retry's LOOKUP makes what follows find a node of its own, whatever
 *     is published in between.  ESTALE is never answered twice.
 *  4. While a session of a key is open, its names are answered by the caller, and not cached.  A key that is not published is nobody else's, also
 *     where the kernel leads others to it by a name that it remembered as absent a moment ago: they are refused.
 *  5. The id of a session that is cached (who opens to read and write may map it) leads nowhere else: no name does but for its own
 *     process, so all that is asked of it is about the session.  One that was taken over is written past the cache, and strangers whom a
 *     name leads to it are refused: the kernel keeps one size for an id, and must not take the published one for the session's.  It is
 *     told that what it has of its attributes is no longer true before it cuts or writes: it sets the size first, and forgets it after.
 *  6. A key that is published at each write (node_shared.c) has one node for everybody, whose session never has anything unpublished
 *     for long.  Otherwise a version that has readers, or more than one name, is never taken over by a session.
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

/* A value that is read: it stays open while somebody reads, though the node may grow. */
struct kv_content {
	struct kvfs_value *value;
	unsigned refs; /* kv_nodes.lock */
};

/* What is known of a node id that says more than the id itself.  Fields without a remark are fixed once it is in the tables. */
struct kv_node {
	uint64_t id, generation;
	uint64_t ino; /* kv_nodes.lock: a new key that somebody else made first may turn to that one's when it is published */
	struct kv_link by_id, by_ino;
	/* kv_nodes.lock, as all below unless it says otherwise */
	struct kv_node *prev, *next; /* idle: in the list, oldest first */
	unsigned refs; /* open files, intents, calls under way; 0 idle */
	uint32_t epoch; /* of the version it shows, or, of a session, that it is based on */
	bool opening; /* not filled in yet */
	bool lone; /* made for one thread's retry: shown to nobody else */
	bool shared; /* of a key that is published at each write: everybody's (node_shared.c) */
	bool passed; /* such a one: a private session was published, and the kernel may have older pages still */
	bool fresh; /* a session's whose id never showed a version */
	bool spoiled; /* what the kernel has of it is no version's */

	/* a version that is open; without content, a directory or the like */
	struct kv_content *content;
	struct kvfs_stat st; /* when it was opened; its size grows with appends */
	uint32_t appended_to; /* this epoch's value is that of `epoch` and more appended */
	unsigned readers, locking; /* open files of it, and those of them that have ever locked it */

	/* a session */
	struct kvfs_session *session;
	pthread_mutex_t lock;
	uint64_t serial; /* later ones have higher numbers */
	struct kv_link by_name; /* while the key is not published */
	uint64_t parent;
	char *name; /* NULL once it is published */
	pid_t opener; /* process; 0 unknown, -1 has closed it */
	unsigned handles; /* open file descriptions that can write */
	uint64_t kernel_id; /* the node id that its descriptors are on: `id`, except for those opened in place */
	uint64_t kernel_generation; /* 0: any */
	bool dropped; /* killed, unlinked or replaced: is never published */
	bool direct; /* not through the page cache */
	bool wrote; /* content was written or cut since it was opened */
	bool closed; /* some descriptor of it was */
	bool appends; /* every opening was with O_APPEND */
	bool truncates; /* some opening was with O_TRUNC; otherwise it makes a new key, but empties none */
	bool reserved; /* made with O_EXCL */
	bool privileged; /* has set-id bits that writing takes away */
};

/* The kernel may have cached the listing of a directory as it was at this version. */
struct kv_listing {
	uint64_t ino, version;
};

/* A name that was looked up and not there: by hash. */
struct kv_absent {
	uint64_t hash;
	bool cached; /* the kernel may remember it */
};

enum { KV_LISTINGS = 4096, KV_ABSENT = 4096 }; /* powers of two */

struct kv_nodes {
	struct kvfs_store *store;
	/* Tells the kernel that the attributes it has of a node are no longer true.  Without locks of ours. */
	void (*forget_attr)(void *arg, uint64_t id);
	/* Has the kernel drop its pages of a node from byte `from` on, and waits; has it take `size` for the size, of which `last` is the
	 * last byte.  Not from a worker. */
	void (*drop_from)(void *arg, uint64_t id, uint64_t from);
	void (*set_size)(void *arg, uint64_t id, uint64_t size, char last);
	/* Has the kernel drop its pages of a spoiled node, and then calls kv_node_unspoil(), which gives a reference back. */
	void (*drop_pages)(void *arg, struct kv_node *n);
	/* What a session wrote was not published, for `reason` (a signal or a negative errno): it is kept; `error`: or is not. */
	void (*kept)(void *arg, uint64_t ino, int reason, int error);
	void *arg;
	bool publish_write; /* keys that do not say otherwise are published at each write */
	_Atomic bool any_shared; /* such a node was ever told to the kernel */
	bool commit_killed; /* what a killed writer wrote is published, unless its key says otherwise */
	_Atomic bool caching; /* the kernel may cache names and attributes */
	pthread_mutex_t mutex;
	pthread_cond_t opened; /* some node is no longer `opening` */
	/* all protected by mutex */
	struct kv_table by_id, by_ino, by_name; /* all; all; unpublished names */
	struct kv_node idle; /* head of the list of those that nobody has open */
	unsigned idle_count;
	struct kv_intent *intents; /* newest first */
	unsigned intent_count;
	struct kv_absent *absent; /* the names looked up last */
	struct kv_listing *listings; /* by inode number; who is pushed out is listed anew */
	uint64_t serial; /* of private ids */
	uint32_t generation; /* of this mount: tells its private ids from those of another */
};

/* What the kernel is told about an inode. */
struct kv_face {
	uint64_t id, generation;
	struct kvfs_stat st;
	bool cache_name, cache_attr; /* until it is told otherwise */
	bool settle; /* the attributes hold for this system call: the kernel need not ask for them twice */
};

/* One open file description. */
struct kv_handle {
	struct kv_node *node;
	bool write, append, direct;
	bool drop_pages; /* what the kernel has of the node is another version's */
	bool locks; /* has ever locked it, and so asks for the newest value and not for a snapshot */
};

int kv_nodes_new(struct kvfs_store *store, struct kv_nodes **ret);
/* Drops what is still open, unpublished; takes NULL.  No other thread uses it any more. */
void kv_nodes_free(struct kv_nodes *nodes);

uint64_t kv_node_ino(uint64_t id);
/* The face of what is published: an entry made or found in the store. */
void kv_node_face(struct kv_nodes *nodes, const struct kvfs_stat *st, struct kv_face *ret);

/* LOOKUP, answered by the caller. -ENOENT; *ret_cache: which the kernel may remember. */
int kv_node_lookup(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, struct kv_face *ret, bool *ret_cache);
/* GETATTR, answered by the node id alone: the kernel gives the answer to all who use it.  -ESTALE: the kernel looks again. `set`: the
 * answer to a SETATTR, which is done. */
int kv_node_stat(struct kv_nodes *nodes, pid_t tid, uint64_t id, bool set, struct kv_face *ret);
/* Keeps an inode that is not a regular file answerable while it is open, though it may be removed; kv_node_put() ends that.
 * *ret_listing (may be NULL): what the kernel may do with the listing of a directory. */
enum kv_may_list { KV_LIST_UNCACHED, KV_LIST_NEW, KV_LIST_KEPT /* what it has cached is right */ };
int kv_node_hold(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret, enum kv_may_list *ret_listing);
/* Notes an attribute that was set on something that is open though its inode is gone.  -ESTALE: it is not open, and the kernel looks again. */
int kv_node_set_gone(struct kv_nodes *nodes, pid_t tid, uint64_t id, const struct kvfs_setattr *attr);

/* OPEN.  -ESTALE: the kernel tries again, and finds another node. */
int kv_node_open(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_handle *ret);
/* CREATE. */
int kv_node_create(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred,
	int flags, struct kv_face *ret_face, struct kv_handle *ret);
/* The session in which `tid` may cut the value `id` by path: its own, referenced in *ret.  -ESTALE as with kv_node_open(). */
int kv_node_truncate(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_node **ret);
/* FORGET: the kernel does not know the node any more. */
void kv_node_forget(struct kv_nodes *nodes, uint64_t id);

/* The open node with this id, referenced; NULL when it is idle. */
struct kv_node *kv_node_get(struct kv_nodes *nodes, uint64_t id);
/* Has the kernel drop its pages of a node that is open, soon. */
void kv_node_drop_pages(struct kv_nodes *nodes, struct kv_node *n);
void kv_node_unspoil(struct kv_nodes *nodes, struct kv_node *n);
/* The session with this id, referenced, if the thread means it, by a descriptor or as its own; NULL: it means the inode, to which a name that
 * the kernel remembers has led it. */
struct kv_node *kv_node_session_of(struct kv_nodes *nodes, pid_t tid, uint64_t id);
/* Gives a reference back; takes NULL. */
void kv_node_put(struct kv_nodes *nodes, struct kv_node *n);
/* As kvfs_value_read() and kvfs_value_seek(), of an open version. */
ssize_t kv_node_read(struct kv_nodes *nodes, struct kv_node *n, void *buf, size_t len, uint64_t offset);
int64_t kv_node_seek(struct kv_nodes *nodes, struct kv_node *n, uint64_t offset, bool hole);

/* What the kernel has cached of the attributes of `ino`, under the ids that show the version `epoch` (0: any that is open), is no longer
 * true. */
void kv_node_changed(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch);

/* The same of everything that is known. */
void kv_nodes_forget_attrs(struct kv_nodes *nodes);

/* A reader who locks asks for the newest value, not for a snapshot: 1 when it is another now.  While others read the same
 * version who never did that, it stays. */
int kv_node_refresh(struct kv_nodes *nodes, struct kv_handle *h);
/* An open file that reads a version ends, but for its reference. */
void kv_node_read_end(struct kv_nodes *nodes, const struct kv_handle *h);

/* ---- keys that are published at each write: node_shared.c ---- */

bool kv_node_is_shared_id(uint64_t id);
bool kv_node_wants_shared(const struct kv_nodes *nodes, const struct kvfs_stat *st);
void kv_node_shared_face(struct kv_nodes *nodes, const struct kvfs_stat *st, struct kv_face *ret);
/* GETATTR of a shared id; `now` NULL: its inode is gone.  -ESTALE */
int kv_node_shared_stat(struct kv_nodes *nodes, uint64_t id, const struct kvfs_stat *now, struct kv_face *ret);
/* The open node of a shared id, opened if need be, referenced; *ret_new: what the kernel has cached of it may be old. */
int kv_node_open_shared(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret, bool *ret_new);
/* O_TRUNC. */
int kv_node_clear_shared(struct kv_nodes *nodes, struct kv_node *n);
/* The key was published by a session of this mount that was opened before it was one of these, or after: takes it. */
void kv_node_shared_passed(struct kv_nodes *nodes, uint64_t ino);
/* The key was changed through another door: takes it, and has the kernel forget what it has of it. */
void kv_node_shared_changed(struct kv_nodes *nodes, uint64_t ino);

/* ---- growth by appends: the feed's thread ---- */

/* Bytes were appended to the value of `ino`: low 16 bits of its epoch since.  Whether somebody reads what grows by it. */
bool kv_node_appended(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch);
/* The same of something else than an append: versions from before do not grow any more.  ino 0: none of any inode. */
void kv_node_replaced(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch);
/* Whether somebody reads a version of it that may grow. */
bool kv_node_is_read(struct kv_nodes *nodes, uint64_t ino);
/* Has the readers of `ino` see what was appended. */
void kv_node_grow(struct kv_nodes *nodes, uint64_t ino);

/* ---- between node.c, node_open.c and writer.c ---- */

enum { KV_NODE_TRIES = 1000 }; /* of what fails when a value is published in between */

void kv_nodes_lock(struct kv_nodes *nodes);
void kv_nodes_unlock(struct kv_nodes *nodes);
/* Some session, or NULL. */
struct kv_node *kv_nodes_any_session(struct kv_nodes *nodes);
void kv_intents_end(struct kv_nodes *nodes);

/* Opens the version that `id` shows, or shares it; it must be the current one, else -ESTALE. */
int kv_node_version(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret);
/* Whether the id shows the version that `st` tells of, and is not a session's. */
bool kv_node_shows(struct kv_nodes *nodes, uint64_t id, const struct kvfs_stat *st);
/* The newest version, under an id that nobody else is told. */
int kv_node_newest(struct kv_nodes *nodes, uint64_t ino, struct kv_node **ret);
/* The face of an open version; `now`: its inode as it is, NULL when it is gone. */
void kv_node_version_face(struct kv_nodes *nodes, struct kv_node *n, const struct kvfs_stat *now, struct kv_face *ret);

/* Makes a session's node, with `name` if the key is not published yet. Takes `s` over, when it fails too. */
int kv_node_session(
	struct kv_nodes *nodes, pid_t tid, struct kvfs_session *s, uint64_t parent, const char *name, struct kv_node **ret);
/* Makes the idle node `id` that shows the current version into a session.  -ESTALE: it is not that. */
int kv_node_take_over(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_node **ret);
/* The same of a version that only the caller knows, referenced; on failure the reference is gone. */
int kv_node_convert(struct kv_nodes *nodes, pid_t tid, struct kv_node *n);
int kv_node_session_face(struct kv_node *n, struct kv_face *ret);
/* Whether `tid` belongs to the process that opened the session. */
bool kv_node_own(const struct kv_node *n, pid_t tid);
/* The caller's own unpublished session of this name, the newest one, referenced; else NULL. */
struct kv_node *kv_node_pending(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name);
/* Whether anybody has an unpublished session of this name. */
bool kv_node_is_pending(struct kv_nodes *nodes, uint64_t parent, const char *name);
/* The caller's newest session on a published key that has something to publish, referenced; else NULL. */
struct kv_node *kv_node_own_changes(struct kv_nodes *nodes, pid_t tid, uint64_t ino);
/* A session on `ino` that is not dropped, referenced; else NULL. */
struct kv_node *kv_node_session_on(struct kv_nodes *nodes, uint64_t ino);
/* Moves an unpublished session to another name. */
int kv_node_set_name(struct kv_nodes *nodes, struct kv_node *n, uint64_t parent, const char *name);
/* A session that waits for its name no longer: it is published, now on `ino`, or dropped. */
void kv_node_settle(struct kv_nodes *nodes, struct kv_node *n, uint64_t ino);
/* A session was published, by others' changes too if `merged`: the kernel's pages of it are then wrong, if it has any. */
void kv_node_published(struct kv_nodes *nodes, struct kv_node *n, uint32_t epoch, bool merged);

#endif
