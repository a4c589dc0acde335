/* Keys that are published at each write: for programs that share a file while they write it.
 *
 * Such a key has one kernel inode for all who open it, so they share its pages, its size and its mappings, as in any file system; behind it is
 * one session, published after each write.  Its id is made of the inode number alone, and is the same whoever asks. */
#include "node_table.h"

#include <errno.h>
#include <sys/stat.h>

bool kv_node_is_shared_id(uint64_t id)
{
	return id == (KV_PRIVATE | kv_node_ino(id));
}

bool kv_node_wants_shared(const struct kv_nodes *nodes, const struct kvfs_stat *st)
{
	return S_ISREG(st->mode) &&
	       (st->publish == KVFS_PUBLISH_WRITE || (nodes->publish_write && st->publish == KVFS_PUBLISH_DEFAULT));
}

void kv_node_shared_face(struct kv_nodes *nodes, const struct kvfs_stat *st, struct kv_face *ret)
{
	nodes->any_shared = true;
	*ret = (struct kv_face){.id = KV_PRIVATE | st->ino,
		.generation = nodes->generation,
		.st = *st,
		.cache_name = st->nlink == 1,
		.cache_attr = st->nlink == 1};
}

/* The node of a shared id when somebody has it open, referenced; NULL. */
static struct kv_node *opened(struct kv_nodes *nodes, uint64_t id)
{
	struct kv_node *n = kv_node_get(nodes, id);

	if (n && !n->session) { /* its opening has failed just now */
		kv_node_put(nodes, n);
		n = NULL;
	}
	return n;
}

int kv_node_shared_stat(struct kv_nodes *nodes, uint64_t id, const struct kvfs_stat *now, struct kv_face *ret)
{
	struct kv_node *n = opened(nodes, id);
	int r = 0;

	if (n)
		r = kv_node_session_face(n, ret);
	else if (!now || !kv_node_wants_shared(nodes, now))
		r = -ESTALE;
	else
		kv_node_shared_face(nodes, now, ret);
	if (n && r == 0)
		ret->cache_attr = ret->st.nlink == 1;
	kv_node_put(nodes, n);
	return r;
}

int kv_node_open_shared(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret, bool *ret_new)
{
	struct kvfs_session *s = NULL;
	struct kvfs_stat now;
	struct kv_node *n;
	int r = kvfs_ll_getattr(nodes->store, kv_node_ino(id), &now);

	if (r == 0 && !kv_node_wants_shared(nodes, &now))
		r = -ESTALE;
	if (r < 0)
		return r;
	*ret_new = false;
	kv_nodes_lock(nodes);
	n = kv_node_find_open(nodes, id);
	if (n && n->session) {
		kv_node_ref(nodes, n);
		*ret_new = n->passed;
		n->passed = false;
		kv_nodes_unlock(nodes);
		*ret = n;
		return 0;
	}
	n = n ? NULL : kv_node_new(nodes, id, nodes->generation, S_IFREG); /* else its opening has failed just now */
	if (n)
		n->opening = n->shared = true;
	kv_nodes_unlock(nodes);
	if (!n)
		return -ENFILE;
	r = kvfs_session_open(nodes->store, n->ino, false, &s);
	kv_nodes_lock(nodes);
	n->session = s;
	n->kernel_id = id;
	n->epoch = s ? kvfs_session_epoch(s) : 0;
	kv_node_end_opening(nodes, n);
	kv_nodes_unlock(nodes);
	if (r < 0) {
		kv_node_put(nodes, n);
		return r;
	}
	*ret_new = true;
	*ret = n;
	return 0;
}

int kv_node_clear_shared(struct kv_nodes *nodes, struct kv_node *n)
{
	int r;

	pthread_mutex_lock(&n->lock);
	r = kvfs_session_clear(n->session);
	if (r == 0)
		r = kvfs_session_publish(n->session);
	pthread_mutex_unlock(&n->lock);
	if (r == 0)
		kv_node_published(nodes, n, kvfs_session_epoch(n->session), false);
	return r;
}

void kv_node_shared_passed(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *n = nodes->any_shared ? opened(nodes, KV_PRIVATE | ino) : NULL;

	if (!n)
		return;
	pthread_mutex_lock(&n->lock);
	if (!n->dropped && kvfs_session_refresh(n->session) > 0) {
		kv_nodes_lock(nodes);
		n->epoch = kvfs_session_epoch(n->session);
		n->passed = true;
		kv_nodes_unlock(nodes);
		kv_node_drop_pages(nodes, n);
	}
	pthread_mutex_unlock(&n->lock);
	kv_node_put(nodes, n);
}

void kv_node_shared_changed(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *n = nodes->any_shared ? opened(nodes, KV_PRIVATE | ino) : NULL;

	if (!nodes->any_shared)
		return;
	if (n && kvfs_session_refresh(n->session) > 0)
		nodes->drop_from(nodes->arg, n->id, 0);
	kv_node_put(nodes, n);
	nodes->forget_attr(nodes->arg, KV_PRIVATE | ino);
}
