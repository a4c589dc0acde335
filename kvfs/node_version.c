/* Versions of values that are open to be read, and their growth by appends.  See node.h. */
#include "node_table.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- versions ---- */

/* The node of an id that is to be opened: referenced, and `opening` when this call has to do that.  NULL with -ESTALE (a session, say). */
int kv_node_begin_opening(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret)
{
	struct kv_node *n = kv_node_find_open(nodes, id);

	if (n && (n->session || n->spoiled))
		return -ESTALE;
	if (n) {
		kv_node_ref(nodes, n);
		n->opening = !n->content;
	} else {
		n = kv_node_new(nodes, id, 0, S_IFREG);
		if (!n)
			return -ENFILE;
		n->opening = true;
	}
	*ret = n;
	return 0;
}

void kv_node_end_opening(struct kv_nodes *nodes, struct kv_node *n)
{
	n->opening = false;
	pthread_cond_broadcast(&nodes->opened);
}

/* What a node shows, if that is the version `st` tells of. */
bool kv_node_is_version(const struct kv_node *n, const struct kvfs_stat *st)
{
	return n->epoch ? n->epoch == st->epoch : n->id == kv_natural_id(st->ino, st->epoch);
}

bool kv_node_shows(struct kv_nodes *nodes, uint64_t id, const struct kvfs_stat *st)
{
	const struct kv_node *n;
	bool r;

	if (!S_ISREG(st->mode))
		return id == st->ino;
	if (kv_node_wants_shared(nodes, st))
		return false;
	kv_nodes_lock(nodes);
	n = kv_node_find(nodes, id);
	r = n ? !n->session && !n->spoiled && kv_node_is_version(n, st) : id == kv_natural_id(st->ino, st->epoch);
	kv_nodes_unlock(nodes);
	return r;
}

/* The current value, not yet anybody's; *ret is discarded with content_discard(), also when this fails. */
static int content_open(struct kv_nodes *nodes, uint64_t ino, struct kv_content **ret, struct kvfs_stat *ret_st)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	(*ret)->refs = 1;
	return kvfs_value_open(nodes->store, ino, &(*ret)->value, ret_st);
}

static void content_discard(struct kv_content *c)
{
	if (c)
		kvfs_value_close(c->value);
	free(c);
}

/* Opens the current value for a node that is `opening`. */
static int open_content(struct kv_nodes *nodes, struct kv_node *n, bool any)
{
	struct kv_content *c;
	struct kvfs_stat st;
	int r = content_open(nodes, n->ino, &c, &st);

	kv_nodes_lock(nodes);
	if (r == 0 && !any && (!kv_node_is_version(n, &st) || kv_node_wants_shared(nodes, &st)))
		r = -ESTALE;
	if (r == 0) {
		n->content = c;
		n->st = st;
		n->epoch = n->appended_to = st.epoch;
		if (!n->generation)
			n->generation = kv_natural_generation(st.epoch);
		c = NULL;
	}
	kv_node_end_opening(nodes, n);
	kv_nodes_unlock(nodes);
	content_discard(c);
	if (r < 0)
		kv_node_put(nodes, n);
	return r;
}

int kv_node_version(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret)
{
	struct kvfs_stat st;
	struct kv_node *n;
	bool opening = false;
	int r;

	kv_nodes_lock(nodes);
	r = kv_node_begin_opening(nodes, id, &n);
	if (r == 0)
		opening = n->opening;
	kv_nodes_unlock(nodes);
	if (r < 0)
		return r;
	if (opening) {
		r = open_content(nodes, n, false);
	} else {
		r = kvfs_ll_getattr(nodes->store, n->ino, &st);
		if (r == 0 && (st.epoch != n->epoch || kv_node_wants_shared(nodes, &st)))
			r = -ESTALE;
		if (r < 0)
			kv_node_put(nodes, n);
	}
	if (r == 0)
		*ret = n;
	return r;
}

int kv_node_newest(struct kv_nodes *nodes, uint64_t ino, struct kv_node **ret)
{
	struct kv_node *n;
	int r;

	kv_nodes_lock(nodes);
	n = kv_node_new_private(nodes, ino);
	if (n)
		n->opening = n->lone = true;
	kv_nodes_unlock(nodes);
	if (!n)
		return -ENFILE;
	r = open_content(nodes, n, true);
	if (r == 0)
		*ret = n;
	return r;
}

/* What an open version is answered with: attributes as they are now, or were (`now` NULL: the inode is gone), and the size that was
 * opened. */
static void version_stat(const struct kv_node *n, const struct kvfs_stat *now, struct kvfs_stat *ret)
{
	*ret = now ? *now : n->st;
	if (!now)
		ret->nlink = 0;
	if (!n->content || (now && now->epoch == n->epoch))
		return;
	ret->size = n->st.size;
	ret->allocated = n->st.allocated;
	ret->mtime = n->st.mtime;
	ret->version = n->st.version;
	ret->epoch = n->st.epoch;
}

void kv_node_version_face(struct kv_nodes *nodes, struct kv_node *n, const struct kvfs_stat *now, struct kv_face *ret)
{
	*ret = (struct kv_face){.id = n->id, .generation = n->generation};
	kv_nodes_lock(nodes);
	version_stat(n, now, &ret->st);
	/* Of an old version nothing is cached: a name the kernel remembers may still lead to it. */
	ret->cache_attr = now && now->epoch == n->epoch && now->nlink == 1;
	kv_nodes_unlock(nodes);
}

/* The value that a version has now, for one call. */
static struct kv_content *content_get(struct kv_nodes *nodes, const struct kv_node *n)
{
	struct kv_content *c;

	kv_nodes_lock(nodes);
	c = n->content;
	if (c)
		c->refs++;
	kv_nodes_unlock(nodes);
	return c;
}

static void content_done(struct kv_nodes *nodes, struct kv_content *c)
{
	struct kvfs_value *value;

	kv_nodes_lock(nodes);
	value = kv_content_put(c);
	kv_nodes_unlock(nodes);
	kvfs_value_close(value);
}

ssize_t kv_node_read(struct kv_nodes *nodes, struct kv_node *n, void *buf, size_t len, uint64_t offset)
{
	struct kv_content *c = content_get(nodes, n);
	ssize_t r;

	if (!c)
		return -EISDIR;
	r = kvfs_value_read(c->value, buf, len, offset);
	content_done(nodes, c);
	return r;
}

int64_t kv_node_seek(struct kv_nodes *nodes, struct kv_node *n, uint64_t offset, bool hole)
{
	struct kv_content *c = content_get(nodes, n);
	int64_t r;

	if (!c)
		return -EISDIR;
	r = kvfs_value_seek(c->value, offset, hole);
	content_done(nodes, c);
	return r;
}

void kv_node_read_end(struct kv_nodes *nodes, const struct kv_handle *h)
{
	kv_nodes_lock(nodes);
	h->node->readers--;
	h->node->locking -= h->locks;
	kv_nodes_unlock(nodes);
}

int kv_node_refresh(struct kv_nodes *nodes, struct kv_handle *h)
{
	struct kv_content *c, *old = NULL;
	struct kv_node *n = h->node;
	struct kvfs_stat st;
	bool changed;
	int r = content_open(nodes, n->ino, &c, &st);

	kv_nodes_lock(nodes);
	n->locking += !h->locks;
	h->locks = true;
	changed = r == 0 && n->content && st.epoch != n->epoch && n->locking == n->readers;
	if (changed) {
		old = n->content;
		n->content = c;
		n->st = st;
		n->epoch = n->appended_to = st.epoch;
		c = NULL;
	}
	kv_nodes_unlock(nodes);
	content_discard(c);
	if (!changed)
		return r == -ESTALE ? 0 : r; /* deleted: it stays what it was */
	content_done(nodes, old);
	nodes->forget_attr(nodes->arg, n->id);
	return 1;
}

/* ---- growth ---- */

bool kv_node_is_read(struct kv_nodes *nodes, uint64_t ino)
{
	bool found = false;

	kv_nodes_lock(nodes);
	for (struct kv_node *n = kv_node_first_of(nodes, ino); n && !found; n = kv_node_next_of(n))
		found = n->content && n->appended_to;
	kv_nodes_unlock(nodes);
	return found;
}

/* Of the low 16 bits of epochs. */
static bool is_after(uint32_t a, uint32_t b)
{
	return (int16_t)((uint16_t)a - (uint16_t)b) > 0;
}

bool kv_node_appended(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch)
{
	bool found = false;

	kv_nodes_lock(nodes);
	for (struct kv_node *n = kv_node_first_of(nodes, ino); n; n = kv_node_next_of(n)) {
		if (!n->content || !n->appended_to)
			continue;
		if ((uint16_t)(n->appended_to + 1) == (uint16_t)epoch)
			n->appended_to++;
		else if (is_after(epoch, n->appended_to))
			n->appended_to = 0; /* something lies between */
		found |= n->appended_to != n->epoch;
	}
	kv_nodes_unlock(nodes);
	return found;
}

void kv_node_replaced(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch)
{
	kv_nodes_lock(nodes);
	for (size_t i = 0; !ino && i < nodes->by_id.size; i++)
		for (struct kv_link *l = nodes->by_id.slots[i]; l; l = l->next)
			KV_NODE_OF(l, by_id)->appended_to = 0;
	for (struct kv_node *n = ino ? kv_node_first_of(nodes, ino) : NULL; n; n = kv_node_next_of(n))
		if (is_after(epoch, n->appended_to))
			n->appended_to = 0;
	kv_nodes_unlock(nodes);
}

/* A reader's node that has something to grow by, referenced. */
static struct kv_node *growing(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *n;

	kv_nodes_lock(nodes);
	for (n = kv_node_first_of(nodes, ino); n; n = kv_node_next_of(n))
		if (n->content && n->appended_to && n->appended_to != n->epoch)
			break;
	if (n)
		n->refs++;
	kv_nodes_unlock(nodes);
	return n;
}

/* In an order in which no reader sees zeros at the end, or an end that he cannot read to: the bytes, then no page that ends before them, then
 * the size for whoever asks, then for the kernel, which forgets with that what it had been told before. */
static void grow(struct kv_nodes *nodes, struct kv_node *n)
{
	struct kv_content *c, *old = NULL;
	struct kvfs_stat st;
	uint64_t from;
	char last = 0;
	bool good = content_open(nodes, n->ino, &c, &st) == 0 && st.size && kvfs_value_read(c->value, &last, 1, st.size - 1) == 1;

	kv_nodes_lock(nodes);
	good = good && st.epoch == n->appended_to;
	from = n->st.size;
	if (good) {
		old = n->content;
		n->content = c;
		c = NULL;
	} else {
		n->appended_to = 0; /* replaced since: it stays what it is */
	}
	kv_nodes_unlock(nodes);
	content_discard(c);
	if (!good)
		return;
	content_done(nodes, old);
	nodes->drop_from(nodes->arg, n->id, from);
	kv_nodes_lock(nodes);
	n->st = st;
	n->epoch = st.epoch;
	kv_nodes_unlock(nodes);
	nodes->set_size(nodes->arg, n->id, st.size, last);
}

void kv_node_grow(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *n;

	while ((n = growing(nodes, ino))) {
		grow(nodes, n);
		kv_node_put(nodes, n);
	}
}
