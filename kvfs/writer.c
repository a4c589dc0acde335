/* The life of a write session between its opening and its publication: see writer.h. */
#include "writer.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GONE = -1 }; /* the opener has closed all its descriptors, or exits */

static void set_opener_gone(struct kv_nodes *nodes, struct kv_node *n)
{
	kv_nodes_lock(nodes);
	n->opener = GONE;
	kv_nodes_unlock(nodes);
}

static void note_written(struct kv_nodes *nodes, struct kv_node *n)
{
	kv_nodes_lock(nodes);
	n->wrote = true;
	kv_nodes_unlock(nodes);
}

static void note_closed(struct kv_nodes *nodes, struct kv_node *n)
{
	kv_nodes_lock(nodes);
	n->closed = true;
	kv_nodes_unlock(nodes);
}

static bool is_dropped(struct kv_nodes *nodes, const struct kv_node *n)
{
	bool dropped;

	kv_nodes_lock(nodes);
	dropped = n->dropped;
	kv_nodes_unlock(nodes);
	return dropped;
}

/* A key that has been published has no pending name.  With n->lock held. */
static void settle(struct kv_nodes *nodes, struct kv_node *n)
{
	if (n->name && !kvfs_session_is_new(n->session))
		kv_node_settle(nodes, n, kvfs_session_ino(n->session));
}

/* With n->lock held. */
static void drop(struct kv_nodes *nodes, struct kv_node *n)
{
	kvfs_session_orphan(n->session);
	kv_nodes_lock(nodes);
	n->dropped = n->spoiled = true;
	kv_nodes_unlock(nodes);
	kv_node_settle(nodes, n, kvfs_session_ino(n->session));
}

/* Drops what could not be published, or must not: it is kept in the store.  With n->lock held. */
static void give_up(struct kv_nodes *nodes, struct kv_node *n, int reason)
{
	bool lost = n->wrote && kvfs_session_is_dirty(n->session);
	uint64_t ino = kvfs_session_ino(n->session);
	int r = lost ? kvfs_session_keep(n->session, reason) : 0;

	drop(nodes, n);
	if (lost)
		nodes->kept(nodes->arg, ino, reason, r);
}

static void drop_locking(struct kv_nodes *nodes, struct kv_node *n)
{
	pthread_mutex_lock(&n->lock);
	drop(nodes, n);
	pthread_mutex_unlock(&n->lock);
}

/* With n->lock held. */
static int publish(struct kv_nodes *nodes, struct kv_node *n)
{
	bool whole = kvfs_session_replaces(n->session), adopts = n->name && !n->truncates && !n->wrote;
	uint32_t before = kvfs_session_epoch(n->session), after;
	ssize_t r;

	if (n->dropped)
		return 0;
	if (adopts)
		/* `: >> new`, touch, or a database before its first lock: makes the key, but must not empty what others wrote to it meanwhile. */
		r = kvfs_session_append(n->session, "", 0);
	else
		r = kvfs_session_publish(n->session);
	after = kvfs_session_epoch(n->session);
	if (after != before)
		kv_node_published(nodes, n, after, adopts ? after > 1 : !whole && after != before + 1);
	if (adopts && after > 1)
		nodes->forget_attr(nodes->arg, n->id); /* it was empty */
	settle(nodes, n);
	return r < 0 ? (int)r : 0;
}

int kv_writer_publish(struct kv_nodes *nodes, struct kv_node *n)
{
	int r;

	pthread_mutex_lock(&n->lock);
	r = publish(nodes, n);
	pthread_mutex_unlock(&n->lock);
	return r;
}

bool kv_writer_took_others(struct kv_nodes *nodes, struct kv_node *n)
{
	bool took;

	kv_nodes_lock(nodes);
	took = n->spoiled && !n->dropped;
	if (took)
		n->spoiled = false;
	kv_nodes_unlock(nodes);
	return took;
}

/* ---- writing ---- */

int kv_writer_take_privileges(struct kv_nodes *nodes, struct kv_node *n, uint32_t uid)
{
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE};
	struct kvfs_stat st;
	bool privileged;
	int r;

	kv_nodes_lock(nodes);
	privileged = n->privileged;
	kv_nodes_unlock(nodes);
	if (!privileged || uid == 0)
		return 0;
	r = kvfs_session_stat(n->session, &st);
	if (r < 0)
		return r;
	attr.mode = st.mode & 07777 & ~S_ISUID;
	if (st.mode & S_IXGRP)
		attr.mode &= ~(uint32_t)S_ISGID;
	r = kvfs_session_setattr(n->session, &attr);
	if (r == 0) {
		kv_nodes_lock(nodes);
		n->privileged = false;
		kv_nodes_unlock(nodes);
		nodes->forget_attr(nodes->arg, n->id);
	}
	return r;
}

/* At the end of a session that has other changes too.  Of one that only appends these are truncations, which it published with this. */
static ssize_t write_at_end(struct kv_nodes *nodes, struct kv_node *n, const void *buf, size_t len)
{
	struct kvfs_stat st;
	bool appends;
	int published = 0;
	ssize_t r = kvfs_session_stat(n->session, &st);

	if (r == 0)
		r = kvfs_session_write(n->session, buf, len, st.size);
	if (r <= 0)
		return r;
	note_written(nodes, n);
	kv_nodes_lock(nodes);
	appends = n->appends;
	kv_nodes_unlock(nodes);
	if (appends || n->shared)
		published = publish(nodes, n);
	return published < 0 ? published : r;
}

/* One append, published by itself, unless the session has other changes, which it keeps to itself. */
static ssize_t append(struct kv_nodes *nodes, struct kv_node *n, const void *buf, size_t len)
{
	ssize_t r;

	pthread_mutex_lock(&n->lock);
	r = n->dropped ? -EBUSY : kvfs_session_append(n->session, buf, len);
	if (r >= 0)
		kv_node_published(nodes, n, kvfs_session_epoch(n->session), true);
	if (r == -EBUSY)
		r = write_at_end(nodes, n, buf, len);
	settle(nodes, n);
	pthread_mutex_unlock(&n->lock);
	return r;
}

/* While the write that it is for is not answered.  With n->lock held. */
static int publish_dropping(struct kv_nodes *nodes, struct kv_node *n)
{
	int r = publish(nodes, n);

	if (kv_writer_took_others(nodes, n))
		kv_node_drop_pages(nodes, n);
	return r;
}

static ssize_t write_shared(struct kv_nodes *nodes, struct kv_node *n, const void *buf, size_t len, uint64_t offset)
{
	ssize_t r;
	int published;

	pthread_mutex_lock(&n->lock);
	r = kvfs_session_write(n->session, buf, len, offset);
	published = r > 0 ? publish_dropping(nodes, n) : 0;
	pthread_mutex_unlock(&n->lock);
	return published < 0 ? published : r;
}

static ssize_t write_private(struct kv_nodes *nodes, struct kv_node *n, const void *buf, size_t len, uint64_t offset)
{
	ssize_t r = kvfs_session_write(n->session, buf, len, offset);

	if (r > 0)
		note_written(nodes, n);
	return r;
}

/* What O_SYNC and O_DSYNC ask of each write. */
static int publish_durably(struct kv_nodes *nodes, struct kv_node *n)
{
	int r;

	pthread_mutex_lock(&n->lock);
	r = publish_dropping(nodes, n);
	pthread_mutex_unlock(&n->lock);
	return r < 0 ? r : kvfs_sync(nodes->store);
}

ssize_t kv_writer_write(
	struct kv_nodes *nodes, struct kv_handle *h, uint32_t uid, int flags, const void *buf, size_t len, uint64_t offset)
{
	struct kv_node *n = h->node;
	ssize_t r = kv_writer_take_privileges(nodes, n, uid);
	int durable = 0;

	if (r < 0)
		return r;
	if (h->direct && (flags & O_APPEND)) /* of a cached one the kernel knows where it ends */
		r = append(nodes, n, buf, len);
	else if (n->shared)
		r = write_shared(nodes, n, buf, len, offset);
	else
		r = write_private(nodes, n, buf, len, offset);
	if (r > 0 && (flags & O_DSYNC))
		durable = publish_durably(nodes, n);
	return durable < 0 ? durable : r;
}

int kv_writer_truncate(struct kv_nodes *nodes, struct kv_node *n, uint64_t size)
{
	bool once;
	int r = kvfs_session_truncate(n->session, size);

	if (r < 0)
		return r;
	kv_nodes_lock(nodes);
	n->wrote = true;
	once = n->handles == 0 || n->shared || n->appends;
	n->spoiled |= n->handles == 0 && !n->shared; /* the kernel is not done with it when it is answered */
	kv_nodes_unlock(nodes);
	return once ? kv_writer_publish(nodes, n) : 0;
}

int kv_writer_fallocate(struct kv_nodes *nodes, struct kv_handle *h, int mode, uint64_t offset, uint64_t len)
{
	int r = h->write ? kvfs_session_fallocate(h->node->session, mode, offset, len) : -EBADF;

	if (r == 0)
		note_written(nodes, h->node);
	return r == 0 && h->node->shared ? kv_writer_publish(nodes, h->node) : r;
}

/* ---- closing ---- */

enum turn { KEEP, PUBLISH, PUBLISH_WRITTEN, DROP };

#define ON_KILL "user.kvfs.on-kill"

/* Whether what a killed writer wrote is published: as the key says, or the directory that a new one is for, or the mount. */
static bool commits_killed(struct kv_nodes *nodes, struct kv_node *n)
{
	char value[8] = "";
	uint64_t parent = 0;
	ssize_t r;

	kv_nodes_lock(nodes);
	if (n->name)
		parent = n->parent;
	kv_nodes_unlock(nodes);
	r = kvfs_session_getxattr(n->session, ON_KILL, value, sizeof(value) - 1);
	if (r < 0 && parent)
		r = kvfs_ll_getxattr(nodes->store, parent, ON_KILL, value, sizeof(value) - 1);
	if (r > 0 && strcmp(value, "commit") == 0)
		return true;
	if (r > 0 && strcmp(value, "drop") == 0)
		return false;
	return nodes->commit_killed;
}

/* What the close of a descriptor by `tid` means; *ret_signal: that ended its process. */
static enum turn turn_at_close(struct kv_nodes *nodes, struct kv_node *n, pid_t tid, int *ret_signal)
{
	uint64_t id, generation;
	bool any = false;
	pid_t opener;
	int holds;

	kv_nodes_lock(nodes);
	opener = n->opener;
	id = n->kernel_id;
	generation = n->kernel_generation;
	kv_nodes_unlock(nodes);
	if (opener == 0)
		return PUBLISH_WRITTEN; /* nobody can be asked */
	if (!kv_process_has(opener, tid))
		return KEEP;
	holds = kv_process_holds(tid, id, (uint32_t)generation, KV_DESCRIPTOR_WRITE, &any);
	if (holds > 0)
		return KEEP;
	/* A process that still has descriptors is not exiting, which saves a look. */
	switch (any ? KV_FATE_ALIVE : kv_process_fate(tid, ret_signal)) {
	case KV_FATE_KILLED:
		return commits_killed(nodes, n) ? PUBLISH : DROP;
	case KV_FATE_EXITS:
		return PUBLISH;
	default:
		/* Not allowed to look: a shell closes its copy before the command has written anything. */
		return holds < 0 ? PUBLISH_WRITTEN : PUBLISH;
	}
}

int kv_writer_flush(struct kv_nodes *nodes, struct kv_handle *h, pid_t tid)
{
	struct kv_node *n = h->node;
	enum turn turn;
	int r = 0, killer = 0;

	if (!h->write)
		return 0;
	note_closed(nodes, n);
	if (is_dropped(nodes, n) || !kvfs_session_is_dirty(n->session))
		return 0;
	turn = turn_at_close(nodes, n, tid, &killer);
	pthread_mutex_lock(&n->lock);
	if (turn == PUBLISH_WRITTEN)
		turn = n->wrote ? PUBLISH : KEEP;
	else if (turn != KEEP)
		set_opener_gone(nodes, n);
	if (turn == PUBLISH)
		r = publish(nodes, n);
	/* What close() has reported as failed must not succeed later, at the release. */
	if (turn == DROP)
		give_up(nodes, n, killer);
	else if (r < 0)
		drop(nodes, n);
	pthread_mutex_unlock(&n->lock);
	return r;
}

void kv_writer_abandon(struct kv_nodes *nodes, struct kv_handle *h)
{
	if (h->write) {
		kv_nodes_lock(nodes);
		h->node->handles--;
		kv_nodes_unlock(nodes);
	} else {
		kv_node_read_end(nodes, h);
	}
	kv_node_put(nodes, h->node);
}

/* Nobody has a descriptor of the session any more. */
static void end(struct kv_nodes *nodes, struct kv_node *n)
{
	int r = 0;

	pthread_mutex_lock(&n->lock);
	if (!n->closed && !n->wrote && !n->shared)
		drop(nodes, n); /* its opener was killed in open(2), and never had a descriptor */
	else
		r = publish(nodes, n);
	if (r < 0)
		give_up(nodes, n, r);
	pthread_mutex_unlock(&n->lock);
}

void kv_writer_release(struct kv_nodes *nodes, struct kv_handle *h)
{
	struct kv_node *n = h->node;
	bool last = false;

	if (h->write) {
		kv_nodes_lock(nodes);
		last = n->handles == 1;
		kv_nodes_unlock(nodes);
	}
	if (last)
		end(nodes, n);
	kv_writer_abandon(nodes, h);
}

/* ---- locks ---- */

int kv_writer_locking(struct kv_nodes *nodes, struct kv_handle *h)
{
	struct kv_node *n = h->node;
	bool reserved;

	if (!n->session || !kvfs_session_is_new(n->session))
		return 0;
	kv_nodes_lock(nodes);
	reserved = n->reserved;
	kv_nodes_unlock(nodes);
	return reserved ? 0 : kv_writer_publish(nodes, n);
}

int kv_writer_refresh(struct kv_nodes *nodes, struct kv_handle *h)
{
	struct kv_node *n = h->node;
	int r;

	if (!n->session)
		return kv_node_refresh(nodes, h);
	pthread_mutex_lock(&n->lock);
	r = n->dropped ? 0 : kvfs_session_refresh(n->session);
	kv_nodes_lock(nodes);
	if (r > 0)
		n->epoch = kvfs_session_epoch(n->session);
	kv_nodes_unlock(nodes);
	pthread_mutex_unlock(&n->lock);
	if (r >= 0 && kv_writer_took_others(nodes, n)) /* when it was published, a moment ago */
		r = 1;
	if (r > 0)
		nodes->forget_attr(nodes->arg, n->id);
	return r > 0 && n->direct ? 0 : r;
}

int kv_writer_unlocked(struct kv_nodes *nodes, struct kv_handle *h)
{
	return h->write && kvfs_session_is_dirty(h->node->session) ? kv_writer_publish(nodes, h->node) : 0;
}

/* ---- names ---- */

bool kv_writer_unlink(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name)
{
	bool found = false;
	struct kv_node *n;

	while ((n = kv_node_pending(nodes, tid, parent, name))) {
		found = true;
		drop_locking(nodes, n);
		kv_node_put(nodes, n);
	}
	return found;
}

bool kv_writer_rename(
	struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name, uint64_t parent2, const char *name2, int *ret_error)
{
	bool found = false;
	struct kv_node *n;

	*ret_error = 0;
	while (*ret_error == 0 && (n = kv_node_pending(nodes, tid, parent, name))) {
		pthread_mutex_lock(&n->lock);
		if (n->name) { /* else it was published a moment ago */
			if (!found)
				(void)kv_writer_unlink(nodes, tid, parent2, name2); /* what it replaces, to its own eyes */
			found = true;
			*ret_error = kvfs_session_rename(n->session, parent2, name2);
			if (*ret_error == 0)
				*ret_error = kv_node_set_name(nodes, n, parent2, name2);
		}
		pthread_mutex_unlock(&n->lock);
		kv_node_put(nodes, n);
	}
	return found;
}

void kv_writer_give_up_name(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name)
{
	struct kv_node *n = kv_node_pending(nodes, tid, parent, name);

	if (n)
		kvfs_session_unreserve(n->session);
	kv_node_put(nodes, n);
}

int kv_writer_publish_name(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name)
{
	struct kv_node *n;
	int r = 0;

	while (r == 0 && (n = kv_node_pending(nodes, tid, parent, name))) {
		r = kv_writer_publish(nodes, n);
		kv_node_put(nodes, n);
	}
	return r;
}

void kv_writer_gone(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *n;

	while ((n = kv_node_session_on(nodes, ino))) {
		drop_locking(nodes, n);
		kv_node_put(nodes, n);
	}
}

size_t kv_writer_end(struct kv_nodes *nodes, bool closed)
{
	size_t lost = 0;
	struct kv_node *n;

	kv_intents_end(nodes);
	while ((n = kv_nodes_any_session(nodes))) {
		bool dirty = !n->dropped && kvfs_session_is_dirty(n->session);

		if (dirty && (!closed || kv_writer_publish(nodes, n) < 0))
			lost++;
		n->refs = 1;
		kv_node_put(nodes, n);
	}
	return lost;
}
