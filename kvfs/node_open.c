/* What LOOKUP, GETATTR, OPEN and CREATE find: the decisions of node.h. */
#include "intent.h"
#include "node_table.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- what a LOOKUP has made ---- */

/* The node that was made for this OPEN, its reference now the caller's. */
static struct kv_node *take_made(struct kv_intent *i, uint64_t id)
{
	struct kv_node *n = i && i->made && i->made->id == id ? i->made : NULL;

	if (n)
		i->made = NULL;
	return n;
}

/* The same for a writer: a session, or what may become one, because nobody else was told of it.  A thread that was refused to read one
 * value and comes back to write another brings what others may read. */
static struct kv_node *take_made_alone(struct kv_nodes *nodes, struct kv_intent *i, uint64_t id)
{
	struct kv_node *n = take_made(i, id);

	if (!n || n->session || n->lone)
		return n;
	kv_node_put(nodes, n);
	return NULL;
}

/* ---- LOOKUP ---- */

static int session_on(struct kv_nodes *nodes, pid_t tid, uint64_t ino, struct kv_node **ret)
{
	struct kvfs_session *s;
	int r = kvfs_session_open(nodes->store, ino, false, &s);

	return r < 0 ? r : kv_node_session(nodes, tid, s, 0, NULL, ret);
}

/* Whether what an earlier LOOKUP of the same retry has made still is what the name leads to.  Others may know the node, and it may grow. */
static bool is_made(struct kv_nodes *nodes, const struct kv_intent *i, const struct kvfs_stat *st)
{
	const struct kv_node *n = i->made;
	bool r;

	kv_nodes_lock(nodes);
	r = n && (i->want == KV_WRITE ? n->session != NULL : n->content != NULL) && n->ino == st->ino && n->epoch == st->epoch;
	kv_nodes_unlock(nodes);
	return r;
}

/* The session that the retry of an OPEN for writing will find. */
static int make_session(struct kv_nodes *nodes, struct kv_intent *i, const struct kvfs_stat *st, struct kv_face *ret)
{
	int r = 0;

	if (!is_made(nodes, i, st)) {
		kv_node_put(nodes, i->made);
		i->made = NULL;
		r = session_on(nodes, i->tid, st->ino, &i->made);
	}
	if (r == 0)
		r = kv_node_session_face(i->made, ret);
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

/* The version that the retry of an OPEN for reading will find, held.  Of a look it is one that nobody else is told, so that it may
 * still be taken over. */
static int make_version(struct kv_nodes *nodes, struct kv_intent *i, const struct kvfs_stat *st, struct kv_face *ret)
{
	int r = 0;

	if (!is_made(nodes, i, st)) {
		kv_node_put(nodes, i->made);
		i->made = NULL;
		if (i->want == KV_READ) {
			kv_node_face(nodes, st, ret);
			r = kv_node_version(nodes, ret->id, &i->made);
		} else {
			r = kv_node_newest(nodes, st->ino, &i->made);
		}
		if (r < 0)
			return r;
	}
	kv_node_version_face(nodes, i->made, st, ret);
	ret->settle = i->made->lone;
	return 0;
}

/* A directory or the like, held for the retry. */
static int make_held(struct kv_nodes *nodes, struct kv_intent *i, const struct kvfs_stat *st, struct kv_face *ret)
{
	kv_node_put(nodes, i->made);
	i->made = NULL;
	kv_node_face(nodes, st, ret);
	return kv_node_hold(nodes, st->ino, &i->made, NULL);
}

/* The retry of a refused system call.  -ESTALE: it was replaced in between. */
static int lookup_again(struct kv_nodes *nodes, struct kv_intent *i, const struct kvfs_stat *st, struct kv_face *ret)
{
	int r;

	i->looked = true;
	if (!S_ISREG(st->mode))
		r = make_held(nodes, i, st, ret);
	else if (i->want == KV_WRITE)
		r = make_session(nodes, i, st, ret);
	else
		r = make_version(nodes, i, st, ret);
	kv_intent_keep(nodes, i);
	ret->cache_name = false;
	return r;
}

static int lookup_pending(
	struct kv_nodes *nodes, pid_t tid, struct kv_node *n, uint64_t parent, const char *name, struct kv_face *ret)
{
	struct kv_intent *i = kv_intent_take(nodes, tid, n->ino);
	int r;

	if (i)
		i->looked = true;
	if (i && i->want == KV_WRITE)
		r = make_pending(nodes, i, n, parent, name, ret);
	else
		r = kv_node_session_face(n, ret);
	kv_intent_keep(nodes, i);
	return r;
}

static int lookup_published(struct kv_nodes *nodes, pid_t tid, const struct kvfs_stat *st, struct kv_face *ret)
{
	struct kv_intent *i = kv_intent_take(nodes, tid, st->ino);
	struct kv_node *n;
	int r = 0;

	if (kv_node_wants_shared(nodes, st)) {
		kv_intent_free(nodes, i);
		kv_node_shared_face(nodes, st, ret);
		return 0;
	}
	if (i)
		return lookup_again(nodes, i, st, ret);
	n = S_ISREG(st->mode) ? kv_node_own_changes(nodes, tid, st->ino) : NULL;
	if (n)
		r = kv_node_session_face(n, ret);
	else
		kv_node_face(nodes, st, ret);
	kv_node_put(nodes, n);
	return r;
}

static int lookup_once(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, struct kv_face *ret, bool *ret_cache)
{
	struct kvfs_stat st;
	struct kv_node *n = kv_node_pending(nodes, tid, parent, name);
	bool pending; /* before it is looked for, or after: it may be published in between */
	int r;

	if (n) {
		r = lookup_pending(nodes, tid, n, parent, name, ret);
		kv_node_put(nodes, n);
		return r;
	}
	pending = kv_node_is_pending(nodes, parent, name);
	r = kvfs_ll_lookup(nodes->store, parent, name, &st);
	*ret_cache = !pending && !kv_node_is_pending(nodes, parent, name);
	if (r == 0)
		return lookup_published(nodes, tid, &st, ret);
	*ret_cache &= r == -ENOENT;
	return r == -ESTALE ? -ENOENT : r; /* the directory is gone, and all names with it */
}

int kv_node_lookup(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, struct kv_face *ret, bool *ret_cache)
{
	int r = -ESTALE;

	for (int tries = 0; r == -ESTALE && tries < KV_NODE_TRIES; tries++) {
		*ret_cache = false;
		r = lookup_once(nodes, tid, parent, name, ret, ret_cache);
	}
	/* A name that is not there ends no intent: beside a rename the second LOOKUP of a retry may find it again. */
	if (r == 0)
		ret->cache_name &= *ret_cache;
	else if (r == -ENOENT && *ret_cache && nodes->caching)
		*ret_cache = kv_absent_again(nodes, parent, name);
	return r == -ESTALE ? -EBUSY : r;
}

/* ---- GETATTR ---- */

/* Whether what the thread asks of a session's id is about the session.  A cached one's id is led to by its descriptors alone; that of
 * one that was taken over by names too, which mean what is published.  An O_PATH descriptor is no claim: it may be of the version
 * that was taken over. */
static bool means_session(struct kv_nodes *nodes, pid_t tid, const struct kv_node *n)
{
	bool own, any, pending;
	int held;

	kv_nodes_lock(nodes);
	pending = n->name;
	own = (!n->direct && !pending) || kv_node_own(n, tid) || (tid == 0 && n->opener == 0);
	kv_nodes_unlock(nodes);
	held = own ? 1 : kv_process_holds(tid, n->kernel_id, 0, KV_DESCRIPTOR_OPEN, &any);
	return pending ? held != 0 : held == 1;
}

static bool is_read(struct kv_nodes *nodes, const struct kv_node *n)
{
	bool r;

	kv_nodes_lock(nodes);
	r = n && n->content && n->readers;
	kv_nodes_unlock(nodes);
	return r;
}

/* Whether the thread asks by a descriptor: fstat(2) does not try again.  What somebody reads may be read by a thread of the kernel, which has
 * none. */
static bool holds(struct kv_nodes *nodes, pid_t tid, uint64_t id, const struct kv_node *n)
{
	bool any;
	int r = kv_process_holds(tid, id, 0, KV_DESCRIPTOR_ANY, &any);

	return r == 1 || (n && r < 0) || (!any && is_read(nodes, n));
}

struct kv_node *kv_node_session_of(struct kv_nodes *nodes, pid_t tid, uint64_t id)
{
	struct kv_node *n = kv_node_get(nodes, id);

	if (n && n->session && (n->shared || means_session(nodes, tid, n)))
		return n;
	kv_node_put(nodes, n);
	return NULL;
}

/* Whether a session has nothing of its own, and what it showed last, or is based on, is what is published now. */
static bool is_current(struct kv_nodes *nodes, const struct kv_node *n, const struct kvfs_stat *now)
{
	bool same;

	kv_nodes_lock(nodes);
	same = now && !n->name && now->epoch == n->epoch;
	kv_nodes_unlock(nodes);
	return same && !kvfs_session_is_dirty(n->session);
}

/* Its writer has closed it, and others have published since: who has no descriptor of it came by a name, which means theirs.  The kernel tells that
 * nobody has it any more a while after close(2) has returned. */
static bool is_over(struct kv_nodes *nodes, pid_t tid, const struct kv_node *n, const struct kvfs_stat *now)
{
	bool old, any;

	kv_nodes_lock(nodes);
	old = n->closed && !n->name && now && now->epoch != n->epoch;
	kv_nodes_unlock(nodes);
	return old && !kvfs_session_is_dirty(n->session) && kv_process_holds(tid, n->kernel_id, 0, KV_DESCRIPTOR_OPEN, &any) == 0;
}

/* Of a session.  Whom a name led here, which the kernel remembers, is sent to look again, unless both are the same: told the size of what is
 * published under this id, the kernel would keep it for that of the session, and then for that of the version which the session becomes, if
 * what tells it the right one happens to come with a notice, and counts for nothing. */
static int stat_session(
	struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_node *n, const struct kvfs_stat *now, struct kv_face *ret)
{
	if (means_session(nodes, tid, n) && !is_over(nodes, tid, n, now))
		return kv_node_session_face(n, ret);
	struct kv_intent *i = kv_intent_take(nodes, tid, kv_node_ino(id));
	if (!is_current(nodes, n, now) && !kv_intent_by_proc(i, id) && !holds(nodes, tid, id, n))
		return kv_intent_refuse(nodes, i, tid, id, KV_LOOK);
	kv_intent_keep(nodes, i);
	if (!now)
		return kv_node_session_face(n, ret);
	*ret = (struct kv_face){.id = n->id, .st = *now};
	return 0;
}

/* Of an id that is not what its names lead to now: refused, unless it is asked for by a descriptor. */
static int stat_old(struct kv_nodes *nodes, pid_t tid, uint64_t id, bool set, struct kv_node *n, const struct kvfs_stat *now,
	struct kv_face *ret)
{
	struct kv_intent *i = kv_intent_take(nodes, tid, kv_node_ino(id));
	bool serve = set || kv_intent_by_proc(i, id) || (i && i->made && i->made->id == id);

	if ((!n && !now) /* it went after it was set: the name is looked up once more */
		|| (!serve && !holds(nodes, tid, id, n)))
		return kv_intent_refuse(nodes, i, tid, id, KV_LOOK);
	kv_intent_keep(nodes, i);
	if (n)
		kv_node_version_face(nodes, n, now, ret);
	else
		*ret = (struct kv_face){.id = id, .st = *now};
	ret->cache_attr = false;
	return 0;
}

int kv_node_stat(struct kv_nodes *nodes, pid_t tid, uint64_t id, bool set, struct kv_face *ret)
{
	struct kvfs_stat now;
	struct kv_node *n;
	int r;

	/* The store is asked first: a version that is opened after this look at the tables was current then, so its
	 * size is the one that `now` has. */
	r = kvfs_ll_getattr(nodes->store, kv_node_ino(id), &now);
	if (r < 0 && r != -ESTALE)
		return r;
	if (kv_node_is_shared_id(id)) {
		r = kv_node_shared_stat(nodes, id, r == 0 ? &now : NULL, ret);
		return r == -ESTALE ? kv_intent_refuse(nodes, kv_intent_take(nodes, tid, kv_node_ino(id)), tid, id, KV_LOOK) : r;
	}
	n = kv_node_get(nodes, id);
	if (n && n->session)
		r = stat_session(nodes, tid, id, n, r == 0 ? &now : NULL, ret);
	else if (r == 0 && kv_node_shows(nodes, id, &now))
		*ret = (struct kv_face){.id = id, .st = now, .cache_attr = !S_ISREG(now.mode) || now.nlink == 1};
	else
		r = stat_old(nodes, tid, id, set, n, r == 0 ? &now : NULL, ret);
	kv_node_put(nodes, n);
	return r;
}

int kv_node_set_gone(struct kv_nodes *nodes, pid_t tid, uint64_t id, const struct kvfs_setattr *attr)
{
	struct kv_node *n = kv_node_get(nodes, id);

	if (!n)
		return kv_intent_refuse(nodes, kv_intent_take(nodes, tid, kv_node_ino(id)), tid, id, KV_LOOK);
	kv_nodes_lock(nodes);
	if (attr->valid & KVFS_SET_MODE)
		n->st.mode = (n->st.mode & S_IFMT) | (attr->mode & 07777);
	if (attr->valid & KVFS_SET_UID)
		n->st.uid = attr->uid;
	if (attr->valid & KVFS_SET_GID)
		n->st.gid = attr->gid;
	if (attr->valid & KVFS_SET_ATIME)
		n->st.atime = attr->atime;
	if (attr->valid & KVFS_SET_MTIME)
		n->st.mtime = attr->mtime;
	kv_nodes_unlock(nodes);
	kv_node_put(nodes, n);
	return 0;
}

/* ---- OPEN ---- */

/* Nobody can map what is open for writing only, and a direct write saves the kernel's question about security.capability.  Appends land
 * where the store says, not where the page cache thinks. */
static bool is_direct(int flags)
{
	return (flags & O_ACCMODE) == O_WRONLY || (flags & O_APPEND);
}

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
		n->direct |= is_direct(flags);
		n->appends = append;
	}
	n->appends &= append;
	n->truncates |= flags & O_TRUNC;
	*ret = (struct kv_handle){.node = n, .write = true, .append = append, .direct = n->direct || append};
	kv_nodes_unlock(nodes);
	return 0;
}

/* The session with this id, if the thread may join it: its own, when it has something unpublished to see; or, with `holder`, one that
 * it has a descriptor of. */
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
	if ((may && kvfs_session_is_dirty(n->session)) ||
		(alive && holder &&
			kv_process_holds(tid, n->kernel_id, (uint32_t)n->kernel_generation, KV_DESCRIPTOR_WRITE, &any) == 1))
		return n;
	kv_node_put(nodes, n);
	return NULL;
}

static void bind_read(struct kv_nodes *nodes, struct kv_node *n, bool direct, struct kv_handle *ret)
{
	*ret = (struct kv_handle){.node = n, .direct = direct};
	kv_nodes_lock(nodes);
	n->readers++;
	kv_nodes_unlock(nodes);
}

static int open_read(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_intent *i, struct kv_handle *ret)
{
	struct kv_node *n = take_made(i, id);
	int r = 0;

	if (!n)
		n = joinable(nodes, tid, id, false);
	if (!n)
		r = kv_node_version(nodes, id, &n);
	if (r == 0)
		bind_read(nodes, n, n->session && n->direct, ret);
	return r;
}

static int open_read_in_place(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_handle *ret)
{
	struct kv_node *n = joinable(nodes, tid, id, true);
	int r = 0;

	if (!n)
		r = kv_node_newest(nodes, kv_node_ino(id), &n);
	if (r == -ESTALE && (n = kv_node_get(nodes, id))) { /* deleted, but still open */
		r = n->content ? 0 : -ENOENT;
		if (r < 0)
			kv_node_put(nodes, n);
	}
	if (r == 0)
		bind_read(nodes, n, true, ret);
	return r == -ESTALE ? -ENOENT : r;
}

static int open_write(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_intent *i, struct kv_handle *ret)
{
	struct kv_node *n = take_made_alone(nodes, i, id);
	bool taken = false;
	int r = 0;

	if (n && !n->session) {
		taken = true;
		r = kv_node_convert(nodes, tid, n);
	} else if (!n) {
		/* A process that changes a key twice at once: to change what it sees, it joins its first session; to replace
		 * it, it gets another one.  But a name it reserved stays one file, or mkstemp() and a fopen() of the same name, both
		 * closed in the end, would publish the emptiness of the first over the second. */
		n = joinable(nodes, tid, id, false);
		if (n && (flags & O_TRUNC) && !n->reserved) {
			kv_node_put(nodes, n);
			return -ESTALE;
		}
		/* What may be mapped is cached, on an id that no name leads to: an answer about the published value would cut its pages. */
		if (!n && !is_direct(flags))
			return -ESTALE;
		if (!n) {
			taken = true;
			r = kv_node_take_over(nodes, tid, id, &n);
		}
	}
	if (r < 0)
		return r;
	r = bind(nodes, n, flags, ret);
	/* Pages of the version that was taken over: what is written past them would leave them wrong. */
	if (r == 0)
		ret->drop_pages = taken && ret->direct;
	return r;
}

static int open_write_in_place(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_handle *ret)
{
	struct kv_node *n = joinable(nodes, tid, id, true);
	int r;

	if (n)
		return bind(nodes, n, flags, ret);
	r = session_on(nodes, tid, kv_node_ino(id), &n);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	kv_nodes_lock(nodes);
	n->kernel_id = id;
	n->kernel_generation = 0;
	n->direct = true;
	kv_nodes_unlock(nodes);
	return bind(nodes, n, flags, ret);
}

static int open_shared(struct kv_nodes *nodes, uint64_t id, int flags, struct kv_handle *ret)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC), new;
	struct kv_node *n;
	int r = kv_node_open_shared(nodes, id, &n, &new);

	if (r < 0)
		return r;
	*ret = (struct kv_handle){
		.node = n, .write = write, .append = flags & O_APPEND, .direct = flags & O_APPEND, .drop_pages = new};
	if (flags & O_TRUNC)
		r = kv_node_clear_shared(nodes, n);
	if (r < 0) {
		kv_node_put(nodes, n);
		return r;
	}
	kv_nodes_lock(nodes);
	if (write)
		n->handles++;
	else
		n->readers++;
	kv_nodes_unlock(nodes);
	return 0;
}

int kv_node_open(struct kv_nodes *nodes, pid_t tid, uint64_t id, int flags, struct kv_handle *ret)
{
	struct kv_intent *i = kv_intent_take(nodes, tid, kv_node_ino(id));
	bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
	int r;

	if (kv_node_is_shared_id(id)) {
		r = open_shared(nodes, id, flags, ret);
		if (r != -ESTALE) {
			kv_intent_free(nodes, i);
			return r;
		}
		return kv_intent_refuse(nodes, i, tid, id, write ? KV_WRITE : KV_READ);
	}
	if (write)
		r = open_write(nodes, tid, id, flags, i, ret);
	else
		r = open_read(nodes, tid, id, i, ret);
	if (r == -ESTALE && !kv_intent_by_proc(i, id))
		return kv_intent_refuse(nodes, i, tid, id, write ? KV_WRITE : KV_READ);
	if (r == -ESTALE && write)
		r = open_write_in_place(nodes, tid, id, flags, ret);
	else if (r == -ESTALE)
		r = open_read_in_place(nodes, tid, id, ret);
	kv_intent_free(nodes, i);
	return r;
}

/* Whether the kernel would surely let the caller open a key to write, which it has not asked itself: there was none. */
static bool may_open(const struct kvfs_stat *st, struct kvfs_cred cred, int flags)
{
	uint32_t need = (flags & O_ACCMODE) == O_RDWR ? S_IRUSR | S_IWUSR : S_IWUSR;

	return cred.uid == 0 || (cred.uid == st->uid && (st->mode & need) == need);
}

static int new_session(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred,
	int flags, struct kv_node **ret)
{
	struct kvfs_session *s;
	int r = kvfs_session_create(nodes->store, parent, name, mode & 07777, cred, flags & O_EXCL, &s);

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

/* A session for a name that CREATE was sent for.  Somebody may have published it since the LOOKUP that did not find it.  It is looked for when the
 * session is in the tables: who publishes after that has given it the number that he publishes with. */
static int create_session(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint32_t mode,
	struct kvfs_cred cred, int flags, struct kv_node **ret)
{
	struct kvfs_stat st;
	int r = -ESTALE;

	for (int tries = 0; r == -ESTALE && tries < KV_NODE_TRIES; tries++) {
		r = new_session(nodes, tid, parent, name, mode, cred, flags, ret);
		if (r < 0 || (flags & O_EXCL))
			return r;
		r = kvfs_ll_lookup(nodes->store, parent, name, &st);
		if (r == -ENOENT)
			return 0;
		kv_node_put(nodes, *ret);
		if (r < 0)
			return r == -ESTALE ? -ENOENT : r;
		if (!S_ISREG(st.mode) || !may_open(&st, cred, flags)) /* the kernel looks again, and decides */
			return kv_intent_refuse(nodes, NULL, tid, kv_natural_id(st.ino, st.epoch), KV_WRITE);
		r = session_on(nodes, tid, st.ino, ret);
	}
	return r == -ESTALE ? -EBUSY : r;
}

/* A new key that is published at each write is published empty. 1: it is not one. */
static int create_shared(struct kv_nodes *nodes, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred, int flags,
	struct kv_face *ret_face, struct kv_handle *ret)
{
	struct kvfs_stat st;
	int r = kvfs_ll_getattr(nodes->store, parent, &st);

	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	st.mode = S_IFREG; /* as what is made in it will be */
	if (!kv_node_wants_shared(nodes, &st))
		return 1;
	r = kvfs_ll_mknod(nodes->store, parent, name, S_IFREG | (mode & 07777), 0, cred, &st);
	if (r == -EEXIST && !(flags & O_EXCL))
		return 1; /* made since the LOOKUP */
	if (r < 0)
		return r;
	kv_node_shared_face(nodes, &st, ret_face);
	return open_shared(nodes, ret_face->id, flags & ~O_TRUNC, ret);
}

int kv_node_create(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint32_t mode, struct kvfs_cred cred,
	int flags, struct kv_face *ret_face, struct kv_handle *ret)
{
	struct kv_node *n;
	int r;

	kv_intent_free(nodes, kv_intent_take(nodes, tid, 0));
	r = create_shared(nodes, parent, name, mode, cred, flags, ret_face, ret);
	if (r <= 0)
		return r;
	r = create_session(nodes, tid, parent, name, mode, cred, flags, &n);
	if (r < 0)
		return r;
	r = kv_node_session_face(n, ret_face);
	if (r < 0) {
		kv_node_put(nodes, n);
		return r;
	}
	ret_face->settle &= kv_absent_unknown(nodes, parent, name);
	r = bind(nodes, n, flags, ret);
	if (r == 0 && (flags & O_TRUNC))
		ret_face->st.size = ret_face->st.allocated = 0;
	return r;
}

int kv_node_truncate(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_node **ret)
{
	struct kv_intent *i = kv_intent_take(nodes, tid, kv_node_ino(id));
	struct kv_node *n = take_made_alone(nodes, i, id);
	bool new;
	int r = 0;

	if (kv_node_is_shared_id(id)) {
		kv_intent_free(nodes, i);
		kv_node_put(nodes, n);
		return kv_node_open_shared(nodes, id, ret, &new);
	}
	if (n && !n->session) {
		r = kv_node_convert(nodes, tid, n);
	} else if (!n) {
		/* Nothing is taken over: the kernel cuts its pages only after our answer, when others may be reading here already. */
		n = joinable(nodes, tid, id, false);
		r = n ? 0 : -ESTALE;
	}
	if (r == -ESTALE && kv_intent_by_proc(i, id))
		r = session_on(nodes, tid, kv_node_ino(id), &n);
	if (r == -ESTALE)
		return kv_intent_refuse(nodes, i, tid, id, KV_WRITE);
	kv_intent_free(nodes, i);
	if (r == 0)
		*ret = n;
	return r;
}
