/* What LOOKUP, OPEN and CREATE find: the decisions of node.h, and the intents between a refused OPEN and its retry.
 *
 * The kernel answers ESTALE to an OPEN by walking the path once more with a LOOKUP of every name, and then opens what that found; the
 * last LOOKUP may come twice.  All of it is one system call of one thread, so an intent is found by thread id.  A second OPEN of
 * the same node id without a LOOKUP of a file in between did not come by a path: it is a link of /proc/<pid>/fd, which
 * leads to the same kernel inode for ever, and is served where it stands, past the page cache. */
#include "node.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
	INTENTS_MAX = 1024,
	INTENT_MS = 10000, /* a retry comes within microseconds, or never */
};

struct kv_intent {
	struct kv_intent *next;
	pid_t tid;
	bool write; /* was refused for writing */
	bool looked; /* a LOOKUP came since */
	uint64_t refused; /* the node id */
	struct kv_node *made; /* by that LOOKUP, for the OPEN to come */
	int64_t until_ms;
};

/* ---- intents ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void intent_free(struct kv_nodes *nodes, struct kv_intent *i)
{
	if (!i)
		return;
	kv_node_put(nodes, i->made);
	free(i);
}

static void intent_keep(struct kv_nodes *nodes, struct kv_intent *i)
{
	struct kv_intent *last = NULL;

	if (!i)
		return;
	i->until_ms = now_ms() + INTENT_MS;
	kv_nodes_lock(nodes);
	i->next = nodes->intents;
	nodes->intents = i;
	if (++nodes->intent_count > INTENTS_MAX) {
		struct kv_intent **p = &nodes->intents;

		while ((*p)->next)
			p = &(*p)->next;
		last = *p;
		*p = NULL;
		nodes->intent_count--;
	}
	kv_nodes_unlock(nodes);
	intent_free(nodes, last);
}

/* Takes out the intent of a thread, and those that nobody came back for. Callers without a thread id are told apart by what they
 * open, as well as that goes. */
static struct kv_intent *intent_take(struct kv_nodes *nodes, pid_t tid, uint64_t ino)
{
	struct kv_intent *found = NULL, *late = NULL, *i, **p;
	int64_t now = now_ms();

	kv_nodes_lock(nodes);
	for (p = &nodes->intents; (i = *p);) {
		bool match = !found && i->tid == tid && (tid || kv_node_ino(i->refused) == ino);

		if (!match && i->until_ms > now) {
			p = &i->next;
			continue;
		}
		*p = i->next;
		nodes->intent_count--;
		if (match) {
			found = i;
		} else {
			i->next = late;
			late = i;
		}
	}
	kv_nodes_unlock(nodes);
	while ((i = late)) {
		late = i->next;
		intent_free(nodes, i);
	}
	return found;
}

void kv_intents_end(struct kv_nodes *nodes)
{
	struct kv_intent *i;

	while ((i = nodes->intents)) {
		nodes->intents = i->next;
		intent_free(nodes, i);
	}
}

/* Answers the kernel to come again; `i`, if any, is what the thread was refused for before. */
static int refuse(struct kv_nodes *nodes, struct kv_intent *i, pid_t tid, uint64_t id, bool write)
{
	intent_free(nodes, i);
	i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	i->tid = tid;
	i->write = write;
	i->refused = id;
	intent_keep(nodes, i);
	return -ESTALE;
}

static bool came_by_proc(const struct kv_intent *i, uint64_t id)
{
	return i && !i->looked && i->refused == id;
}

/* The node that was made for this OPEN, its reference now the caller's. */
static struct kv_node *take_made(struct kv_intent *i, uint64_t id)
{
	struct kv_node *n = i && i->made && i->made->id == id ? i->made : NULL;

	if (n)
		i->made = NULL;
	return n;
}

/* ---- LOOKUP ---- */

static bool has_set_id(uint32_t mode)
{
	return (mode & S_ISUID) || (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
}

static int session_on(struct kv_nodes *nodes, pid_t tid, uint64_t ino, struct kv_node **ret)
{
	struct kvfs_session *s;
	int r = kvfs_session_open(nodes->store, ino, false, &s);

	return r < 0 ? r : kv_node_session(nodes, tid, s, 0, NULL, ret);
}

/* The session that the retry of an OPEN for writing will find. */
static int make_session(struct kv_nodes *nodes, struct kv_intent *i, uint64_t ino, struct kv_face *ret)
{
	int r = 0;

	if (!i->made || !i->made->session || i->made->ino != ino) {
		kv_node_put(nodes, i->made);
		i->made = NULL;
		r = session_on(nodes, i->tid, ino, &i->made);
	}
	if (r == 0)
		r = kv_node_session_face(i->made, ret);
	if (r == 0)
		i->made->privileged = has_set_id(ret->st.mode);
	return r;
}

/* The same for a key that only the caller's own session `first` has made so far. */
static int make_pending(struct kv_nodes *nodes, struct kv_intent *i, const struct kv_node *first, uint64_t parent, const char *name,
	struct kv_face *ret)
{
	struct kvfs_session *s;
	struct kvfs_stat st;
	int r;

	if (i->made && i->made->name && i->made->parent == parent && strcmp(i->made->name, name) == 0)
		return kv_node_session_face(i->made, ret);
	r = kvfs_session_stat(first->session, &st);
	if (r < 0)
		return r;
	r = kvfs_session_create(
		nodes->store, parent, name, st.mode & 07777, (struct kvfs_cred){.uid = st.uid, .gid = st.gid}, false, &s);
	if (r < 0)
		return r;
	kv_node_put(nodes, i->made);
	i->made = NULL;
	r = kv_node_session(nodes, i->tid, s, parent, name, &i->made);
	return r < 0 ? r : kv_node_session_face(i->made, ret);
}

/* The version that the retry of an OPEN for reading will find, held. */
static int make_version(struct kv_nodes *nodes, struct kv_intent *i, const struct kvfs_stat *st, struct kv_face *ret)
{
	int r;

	kv_node_face(nodes, st, ret);
	if (!i->made || !i->made->value || i->made->ino != st->ino) {
		kv_node_put(nodes, i->made);
		i->made = NULL;
		r = kv_node_version(nodes, ret->id, ret->generation, &st->epoch, &i->made);
		if (r < 0)
			return r;
	}
	kv_node_version_face(nodes, i->made, st, ret);
	return 0;
}

static int lookup_pending(
	struct kv_nodes *nodes, pid_t tid, struct kv_node *n, uint64_t parent, const char *name, struct kv_face *ret)
{
	struct kv_intent *i = intent_take(nodes, tid, n->ino);
	int r;

	if (i)
		i->looked = true;
	if (i && i->write)
		r = make_pending(nodes, i, n, parent, name, ret);
	else
		r = kv_node_session_face(n, ret);
	intent_keep(nodes, i);
	return r;
}

static int lookup_published(struct kv_nodes *nodes, pid_t tid, const struct kvfs_stat *st, struct kv_face *ret)
{
	struct kv_intent *i = intent_take(nodes, tid, st->ino);
	struct kv_node *n;
	int r = 0;

	if (i) {
		i->looked = true;
		r = i->write ? make_session(nodes, i, st->ino, ret) : make_version(nodes, i, st, ret);
		intent_keep(nodes, i);
		return r;
	}
	n = kv_node_own_changes(nodes, tid, st->ino);
	if (n)
		r = kv_node_session_face(n, ret);
	else
		kv_node_face(nodes, st, ret);
	kv_node_put(nodes, n);
	return r;
}

static int lookup_once(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, struct kv_face *ret)
{
	struct kvfs_stat st;
	struct kv_node *n = kv_node_pending(nodes, tid, parent, name);
	int r;

	if (n) {
		r = lookup_pending(nodes, tid, n, parent, name, ret);
		kv_node_put(nodes, n);
		return r;
	}
	r = kvfs_ll_lookup(nodes->store, parent, name, &st);
	if (r == -ESTALE)
		return -ENOENT; /* the directory is gone, and all names with it */
	if (r < 0)
		return r;
	if (S_ISREG(st.mode))
		return lookup_published(nodes, tid, &st, ret);
	kv_node_face(nodes, &st, ret);
	return 0;
}

int kv_node_lookup(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, struct kv_face *ret)
{
	int r = -ESTALE;

	for (int tries = 0; r == -ESTALE && tries < KV_NODE_TRIES; tries++)
		r = lookup_once(nodes, tid, parent, name, ret);
	if (r == 0)
		kv_node_tell(nodes, tid, ret);
	return r == -ESTALE ? -EBUSY : r;
}

/* ---- OPEN ---- */

/* Makes `n`, whose reference it takes, the session of an open file description. */
static int bind(struct kv_nodes *nodes, struct kv_node *n, int flags, struct kv_handle *ret)
{
	bool append = flags & O_APPEND;
	int r = 0;

	if (flags & O_TRUNC)
		r = kvfs_session_clear(n->session);
	if (r < 0) {
		kv_node_put(nodes, n);
		return r;
	}
	kv_nodes_lock(nodes);
	if (n->handles++ == 0) {
		/* Nobody can map what is open for writing only, and a direct write saves the kernel's question about
		 * security.capability.  Appends land where the store says, not where the page cache thinks. */
		n->direct |= (flags & O_ACCMODE) == O_WRONLY || append;
		n->appends = append && !(flags & O_TRUNC);
	}
	*ret = (struct kv_handle){.node = n, .write = true, .append = append, .direct = n->direct || append};
	kv_nodes_unlock(nodes);
	return 0;
}

/* The session with this id, if the thread may join it: its own, or, with `holder`, one that it has a descriptor of. */
static struct kv_node *joinable(struct kv_nodes *nodes, pid_t tid, uint64_t id, bool holder)
{
	struct kv_node *n = kv_node_get(nodes, id);
	bool alive, may, any;

	if (!n)
		return NULL;
	kv_nodes_lock(nodes);
	alive = n->session && !n->dropped && n->handles;
	may = alive && kv_node_own(n, tid);
	kv_nodes_unlock(nodes);
	if (may || (alive && holder && kv_process_holds(tid, n->kernel_id, n->kernel_generation, &any) == 1))
		return n;
	kv_node_put(nodes, n);
	return NULL;
}

static int open_read(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_intent *i, struct kv_handle *ret)
{
	struct kv_node *n = take_made(i, id);
	int r = 0;

	if (!n)
		n = joinable(nodes, tid, id, false);
	if (!n)
		r = kv_node_version(nodes, id, 0, NULL, &n);
	if (r == 0)
		*ret = (struct kv_handle){.node = n, .direct = n->session && n->direct};
	return r;
}

static int open_read_in_place(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_handle *ret)
{
	struct kv_node *n = joinable(nodes, tid, id, true);
	int r = 0;

	if (!n)
		r = kv_node_newest(nodes, kv_node_ino(id), &n);
	if (r == -ESTALE && (n = kv_node_get(nodes, id))) { /* deleted, but still open */
		r = n->value ? 0 : -ENOENT;
		if (r < 0)
			kv_node_put(nodes, n);
	}
	if (r == 0)
		*ret = (struct kv_handle){.node = n, .direct = true};
	return r == -ESTALE ? -ENOENT : r;
}

static int open_write(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_intent *i, struct kv_handle *ret)
{
	struct kv_node *n = take_made(i, id);

	if (n && !n->session) {
		kv_node_put(nodes, n);
		n = NULL;
	}
	if (!n) {
		/* A process that changes a key twice at once: to change what it sees, it joins its first session; to replace
		 * it, it gets another one.  But a name it reserved stays one file, or mkstemp() and a fopen() of the same name, both
		 * closed in the end, would publish the emptiness of the first over the second. */
		n = joinable(nodes, tid, id, false);
		if (n && (flags & O_TRUNC) && !n->reserved) {
			kv_node_put(nodes, n);
			n = NULL;
		}
	}
	return n ? bind(nodes, n, flags, ret) : -ESTALE;
}

static int open_write_in_place(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_handle *ret)
{
	struct kv_node *n = joinable(nodes, tid, id, true);
	struct kv_face face;
	int r;

	if (n)
		return bind(nodes, n, flags, ret);
	r = session_on(nodes, tid, kv_node_ino(id), &n);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	if (kv_node_session_face(n, &face) == 0)
		n->privileged = has_set_id(face.st.mode);
	kv_nodes_lock(nodes);
	n->kernel_id = id;
	n->kernel_generation = 0;
	n->direct = true;
	kv_nodes_unlock(nodes);
	return bind(nodes, n, flags, ret);
}

int kv_node_open(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_handle *ret)
{
	struct kv_intent *i = intent_take(nodes, tid, kv_node_ino(id));
	bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
	int r;

	if (write)
		r = open_write(nodes, tid, id, flags, i, ret);
	else
		r = open_read(nodes, tid, id, i, ret);
	if (r == -ESTALE && !came_by_proc(i, id))
		return refuse(nodes, i, tid, id, write);
	if (r == -ESTALE && write)
		r = open_write_in_place(nodes, tid, id, flags, ret);
	else if (r == -ESTALE)
		r = open_read_in_place(nodes, tid, id, ret);
	intent_free(nodes, i);
	return r;
}

/* A session for a name that CREATE was sent for; somebody may have published it since the LOOKUP that did not find it. */
static int create_session(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint32_t mode,
	struct kvfs_cred cred, int flags, struct kv_node **ret)
{
	struct kvfs_session *s;
	struct kvfs_stat st;
	int r;

	if (kv_node_reserved(nodes, tid, parent, name))
		return -EEXIST;
	for (int tries = 0; !(flags & O_EXCL) && tries < KV_NODE_TRIES; tries++) {
		r = kvfs_ll_lookup(nodes->store, parent, name, &st);
		if (r == -ENOENT)
			break;
		if (r < 0)
			return r == -ESTALE ? -ENOENT : r;
		if (!S_ISREG(st.mode))
			return -ESTALE; /* which makes the kernel look again */
		r = session_on(nodes, tid, st.ino, ret);
		if (r != -ESTALE)
			return r;
	}
	r = kvfs_session_create(nodes->store, parent, name, mode & 07777, cred, flags & O_EXCL, &s);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	r = kv_node_session(nodes, tid, s, parent, name, ret);
	if (r == 0) {
		kv_nodes_lock(nodes);
		(*ret)->reserved = flags & O_EXCL;
		kv_nodes_unlock(nodes);
	}
	return r;
}

int kv_node_create(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred,
	int flags, struct kv_face *ret_face, struct kv_handle *ret)
{
	struct kv_node *n;
	int r;

	intent_free(nodes, intent_take(nodes, tid, 0));
	r = create_session(nodes, tid, parent, name, mode, cred, flags, &n);
	if (r < 0)
		return r;
	r = kv_node_session_face(n, ret_face);
	if (r < 0) {
		kv_node_put(nodes, n);
		return r;
	}
	n->privileged = has_set_id(ret_face->st.mode);
	r = bind(nodes, n, flags, ret);
	if (r == 0 && (flags & O_TRUNC))
		ret_face->st.size = ret_face->st.allocated = 0;
	return r;
}

int kv_node_truncate(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_node **ret)
{
	struct kv_intent *i = intent_take(nodes, tid, kv_node_ino(id));
	struct kv_node *n = take_made(i, id);
	int r = 0;

	if (n && !n->session) {
		kv_node_put(nodes, n);
		n = NULL;
	}
	if (!n)
		n = joinable(nodes, tid, id, false);
	if (!n && !came_by_proc(i, id))
		return refuse(nodes, i, tid, id, true);
	if (!n)
		r = session_on(nodes, tid, kv_node_ino(id), &n);
	intent_free(nodes, i);
	if (r == 0)
		*ret = n;
	return r;
}
