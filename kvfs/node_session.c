/* Write sessions as nodes: made, found, taken over, named.  See node.h. */
#include "node_table.h"
#include "process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	CANDIDATES = 8, /* unpublished sessions of one process on one key that are looked at */
};

/* ---- sessions ---- */

bool kv_node_own(const struct kv_node *n, pid_t tid)
{
	return kv_process_has(n->opener, tid);
}

static bool has_set_id(uint32_t mode)
{
	return (mode & S_ISUID) || (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
}

/* Fills the node of a session. */
static void begin_session(
	struct kv_nodes *nodes, struct kv_node *n, struct kvfs_session *s, uint32_t mode, pid_t opener, bool direct)
{
	n->session = s;
	n->kernel_id = n->id;
	n->kernel_generation = n->generation;
	n->serial = ++nodes->serial;
	n->opener = opener;
	n->dropped = n->wrote = n->closed = n->truncates = n->appends = false;
	n->direct = direct;
	n->privileged = has_set_id(mode);
	n->handles = 0;
}

/* The next session of that name in the chain after `l`, itself included. */
static struct kv_node *named_from(struct kv_link *l, uint64_t parent, const char *name)
{
	for (; l; l = l->next) {
		struct kv_node *n = KV_NODE_OF(l, by_name);

		if (n->parent == parent && strcmp(n->name, name) == 0)
			return n;
	}
	return NULL;
}

static struct kv_node *first_named(struct kv_nodes *nodes, uint64_t parent, const char *name)
{
	if (!nodes->by_name.used)
		return NULL;
	return named_from(kv_table_chain(&nodes->by_name, kv_hash_name(parent, name)), parent, name);
}

static struct kv_node *next_named(struct kv_node *n, uint64_t parent, const char *name)
{
	return named_from(n->by_name.next, parent, name);
}

/* What several processes make under one name has one number for all of them: who has it open may compare it with what the name says, as
 * SQLite does. */
static int share_number(struct kv_nodes *nodes, struct kvfs_session *s, uint64_t parent, const char *name)
{
	struct kv_node *n;
	int r = 0;

	kv_nodes_lock(nodes);
	n = first_named(nodes, parent, name);
	if (n)
		n->refs++;
	kv_nodes_unlock(nodes);
	if (n)
		r = kvfs_session_share_ino(s, n->session);
	kv_node_put(nodes, n);
	return r;
}

int kv_node_session(
	struct kv_nodes *nodes, pid_t tid, struct kvfs_session *s, uint64_t parent, const char *name, struct kv_node **ret)
{
	uint32_t epoch = kvfs_session_epoch(s);
	char *copy = name ? strdup(name) : NULL;
	pid_t opener = kv_process_of(tid);
	struct kvfs_stat st = {0};
	struct kv_node *n = NULL;
	int r = name ? share_number(nodes, s, parent, name) : 0;
	uint64_t ino = kvfs_session_ino(s);

	if (r == 0)
		r = kvfs_session_stat(s, &st);

	kv_nodes_lock(nodes);
	if (r == 0 && (!name || copy))
		n = kv_node_new_private(nodes, ino);
	if (n) {
		begin_session(nodes, n, s, st.mode, opener, false);
		n->fresh = true;
		n->epoch = epoch;
		n->parent = parent;
		n->name = copy;
		if (copy)
			kv_table_add(&nodes->by_name, &n->by_name, kv_hash_name(parent, copy));
	}
	kv_nodes_unlock(nodes);
	if (!n) {
		kvfs_session_close(s);
		free(copy);
		return r < 0 ? r : -ENFILE;
	}
	*ret = n;
	return 0;
}

/* Reserves an idle node, referenced and `opening`. */
static int begin_take_over(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret)
{
	const struct kv_node *have;
	int r;

	kv_nodes_lock(nodes);
	have = kv_node_find(nodes, id);
	r = have && have->refs ? -ESTALE : kv_node_begin_opening(nodes, id, ret);
	kv_nodes_unlock(nodes);
	return r;
}

/* The session that a node becomes.  With its own content, and its inode gone meanwhile, it is one on an unlinked file. */
static int session_for(struct kv_nodes *nodes, struct kv_node *n, struct kvfs_session **ret)
{
	struct kvfs_value *value;
	int r = kvfs_session_open(nodes->store, n->ino, false, ret);

	if (r != -ESTALE || !n->content)
		return r;
	kv_nodes_lock(nodes);
	value = kv_content_put(n->content);
	n->content = NULL;
	kv_nodes_unlock(nodes);
	return value ? kvfs_session_open_gone(nodes->store, value, &n->st, ret) : -ENOENT;
}

/* Makes a node that is `opening`, and this call's, into a session.  With `any` it need not show the current version: nobody else knows it, and
 * the kernel has no pages of it. */
static int become_session(struct kv_nodes *nodes, pid_t tid, struct kv_node *n, bool any)
{
	struct kvfs_session *s = NULL;
	struct kvfs_value *old = NULL;
	struct kvfs_stat st;
	pid_t opener = kv_process_of(tid);
	int r = session_for(nodes, n, &s);

	if (r == 0)
		r = kvfs_session_stat(s, &st);
	kv_nodes_lock(nodes);
	if (r == 0 && !any &&
		(!kv_node_is_version(n, &st) || kv_node_wants_shared(nodes, &st) || kvfs_session_epoch(s) != st.epoch ||
			st.nlink > 1))
		r = -ESTALE;
	if (r == 0) {
		n->epoch = kvfs_session_epoch(s);
		if (!n->generation)
			n->generation = kv_natural_generation(n->epoch);
		n->lone = false;
		old = kv_content_put(n->content);
		n->content = NULL;
		begin_session(nodes, n, s, st.mode, opener, !any);
	}
	kv_node_end_opening(nodes, n);
	kv_nodes_unlock(nodes);
	kvfs_value_close(old);
	if (r < 0) {
		kvfs_session_close(s);
		kv_node_put(nodes, n);
		return r;
	}
	if (!any) /* others have found its size under this id, and are about to see the session's */
		nodes->forget_attr(nodes->arg, n->id);
	return 0;
}

int kv_node_take_over(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kv_node **ret)
{
	int r = begin_take_over(nodes, id, ret);

	return r < 0 ? r : become_session(nodes, tid, *ret, false);
}

int kv_node_convert(struct kv_nodes *nodes, pid_t tid, struct kv_node *n)
{
	kv_nodes_lock(nodes);
	n->opening = true;
	kv_nodes_unlock(nodes);
	return become_session(nodes, tid, n, true);
}

void kv_node_published(struct kv_nodes *nodes, struct kv_node *n, uint32_t epoch, bool merged)
{
	uint64_t ino, parent = 0;

	kv_nodes_lock(nodes);
	n->epoch = epoch;
	n->spoiled |= merged && !n->direct;
	ino = n->ino;
	if (n->name)
		parent = n->parent;
	kv_nodes_unlock(nodes);
	if (parent && nodes->caching)
		nodes->forget_attr(nodes->arg, parent);
	if (!n->shared)
		kv_node_shared_passed(nodes, ino);
	if (epoch > 1)
		kv_node_changed(nodes, ino, epoch - 1);
}

struct kv_node *kv_node_pending(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name)
{
	struct kv_node *best = NULL;

	kv_nodes_lock(nodes);
	for (struct kv_node *n = first_named(nodes, parent, name); n; n = next_named(n, parent, name))
		if (n->handles && (!best || n->serial > best->serial) && kv_node_own(n, tid))
			best = n;
	if (best)
		best->refs++;
	kv_nodes_unlock(nodes);
	return best;
}

bool kv_node_is_pending(struct kv_nodes *nodes, uint64_t parent, const char *name)
{
	bool found;

	kv_nodes_lock(nodes);
	found = first_named(nodes, parent, name) != NULL;
	kv_nodes_unlock(nodes);
	return found;
}

struct kv_node *kv_node_session_on(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *found = NULL;

	kv_nodes_lock(nodes);
	for (struct kv_node *n = kv_node_first_of(nodes, ino); n; n = kv_node_next_of(n))
		if (n->session && !n->dropped)
			found = n;
	if (found)
		found->refs++;
	kv_nodes_unlock(nodes);
	return found;
}

int kv_node_set_name(struct kv_nodes *nodes, struct kv_node *n, uint64_t parent, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return -ENOMEM;
	kv_nodes_lock(nodes);
	kv_node_unname(nodes, n);
	n->parent = parent;
	n->name = copy;
	kv_table_add(&nodes->by_name, &n->by_name, kv_hash_name(parent, copy));
	kv_nodes_unlock(nodes);
	return 0;
}

void kv_node_settle(struct kv_nodes *nodes, struct kv_node *n, uint64_t ino)
{
	kv_nodes_lock(nodes);
	kv_node_unname(nodes, n);
	if (n->ino != ino) {
		kv_table_remove(&nodes->by_ino, &n->by_ino);
		n->ino = ino;
		kv_table_add(&nodes->by_ino, &n->by_ino, kv_hash_number(ino));
	}
	kv_nodes_unlock(nodes);
}

struct kv_node *kv_node_own_changes(struct kv_nodes *nodes, pid_t tid, uint64_t ino)
{
	struct kv_node *some[CANDIDATES], *best = NULL;
	int count = 0;

	kv_nodes_lock(nodes);
	for (struct kv_node *n = kv_node_first_of(nodes, ino); n && count < CANDIDATES; n = kv_node_next_of(n)) {
		if (n->session && n->handles && !n->dropped && !n->shared && kv_node_own(n, tid)) {
			n->refs++;
			some[count++] = n;
		}
	}
	kv_nodes_unlock(nodes);
	for (int i = 0; i < count; i++) {
		/* asked without the lock: it may wait for a write of that session */
		if (kvfs_session_is_dirty(some[i]->session) && (!best || some[i]->serial > best->serial)) {
			kv_node_put(nodes, best);
			best = some[i];
		} else {
			kv_node_put(nodes, some[i]);
		}
	}
	return best;
}

int kv_node_session_face(struct kv_node *n, struct kv_face *ret)
{
	*ret = (struct kv_face){.id = n->id, .generation = n->generation, .settle = n->fresh};
	return kvfs_session_stat(n->session, &ret->st);
}
