/* Kernel inodes: their references, and what the kernel is told of them.  See node.h for the invariants. */
#include "node_table.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	IDLE_MAX = 32768, /* ids that say something else than their number, and that nobody has open */
};

/* ---- idle nodes ---- */

static void idle_add(struct kv_nodes *nodes, struct kv_node *n)
{
	n->next = &nodes->idle;
	n->prev = nodes->idle.prev;
	n->prev->next = n->next->prev = n;
	nodes->idle_count++;
}

/* Takes a reference, of an idle node too. */
void kv_node_ref(struct kv_nodes *nodes, struct kv_node *n)
{
	if (n->refs++ == 0) {
		n->prev->next = n->next;
		n->next->prev = n->prev;
		nodes->idle_count--;
	}
}

/* Takes an idle node out of everything, for kv_node_free(). */
static void idle_end(struct kv_nodes *nodes, struct kv_node *n)
{
	kv_node_ref(nodes, n);
	kv_node_remove(nodes, n);
}

/* The id shows a version that its number does not say. */
static bool says_more(const struct kv_node *n)
{
	return S_ISREG(n->st.mode) && n->epoch && !n->spoiled && !n->shared &&
	       (n->id != kv_natural_id(n->ino, n->epoch) || n->generation != kv_natural_generation(n->epoch));
}

/* What is left to close when a node has lost its last reference. */
struct rest {
	struct kvfs_session *session;
	struct kvfs_value *value;
	struct kv_node *dead, *evicted;
	bool spoiled;
};

struct kvfs_value *kv_content_put(struct kv_content *c)
{
	struct kvfs_value *value;

	if (!c || --c->refs)
		return NULL;
	value = c->value;
	free(c);
	return value;
}

static void retire(struct kv_nodes *nodes, struct kv_node *n, struct rest *ret)
{
	ret->value = kv_content_put(n->content);
	n->content = NULL;
	ret->session = n->session;
	n->session = NULL;
	kv_node_unname(nodes, n);
	n->handles = n->readers = n->locking = 0;
	n->kernel_id = 0;
	n->lone = n->fresh = n->dropped = n->direct = n->wrote = n->truncates = n->appends = n->privileged = false;
	if (says_more(n)) {
		idle_add(nodes, n);
		if (nodes->idle_count > IDLE_MAX) {
			ret->evicted = nodes->idle.next;
			idle_end(nodes, ret->evicted);
		}
	} else if (n->spoiled && kv_is_natural(n->id)) {
		n->refs = 1; /* the number may be handed out again: not before the kernel has dropped its pages */
		ret->spoiled = true;
	} else {
		kv_node_remove(nodes, n);
		ret->dead = n;
	}
}

struct kv_node *kv_node_get(struct kv_nodes *nodes, uint64_t id)
{
	struct kv_node *n;

	kv_nodes_lock(nodes);
	n = kv_node_find_open(nodes, id);
	if (n && n->refs)
		n->refs++;
	else
		n = NULL;
	kv_nodes_unlock(nodes);
	return n;
}

void kv_node_put(struct kv_nodes *nodes, struct kv_node *n)
{
	struct rest rest = {0};

	if (!n)
		return;
	kv_nodes_lock(nodes);
	if (--n->refs == 0)
		retire(nodes, n, &rest);
	kv_nodes_unlock(nodes);
	kvfs_value_close(rest.value);
	kvfs_session_close(rest.session);
	if (rest.dead)
		kv_node_free(rest.dead);
	if (rest.evicted) {
		nodes->forget_attr(nodes->arg, rest.evicted->id);
		kv_node_free(rest.evicted);
	}
	if (rest.spoiled)
		nodes->drop_pages(nodes->arg, n);
}

void kv_node_drop_pages(struct kv_nodes *nodes, struct kv_node *n)
{
	kv_nodes_lock(nodes);
	n->refs++;
	kv_nodes_unlock(nodes);
	nodes->drop_pages(nodes->arg, n);
}

void kv_node_unspoil(struct kv_nodes *nodes, struct kv_node *n)
{
	kv_nodes_lock(nodes);
	n->spoiled = false;
	n->epoch = 0;
	kv_nodes_unlock(nodes);
	kv_node_put(nodes, n);
}

void kv_node_forget(struct kv_nodes *nodes, uint64_t id)
{
	struct kv_node *n;

	kv_nodes_lock(nodes);
	n = kv_node_find(nodes, id);
	if (n && !n->refs)
		idle_end(nodes, n);
	else
		n = NULL;
	kv_nodes_unlock(nodes);
	if (!n)
		return;
	nodes->forget_attr(nodes->arg, id); /* a LOOKUP that was under way may have brought it back */
	kv_node_free(n);
}

/* ---- faces ---- */

static bool has_session(struct kv_nodes *nodes, uint64_t ino)
{
	for (struct kv_node *n = kv_node_first_of(nodes, ino); n; n = kv_node_next_of(n))
		if (n->session && n->handles && !n->dropped && !n->shared)
			return true;
	return false;
}

/* The node that shows this version to everybody; NULL: its natural id does. */
static struct kv_node *shown_by(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch)
{
	struct kv_node *n;

	for (n = kv_node_first_of(nodes, ino); n; n = kv_node_next_of(n))
		if (n->epoch == epoch && !n->session && !n->lone && !n->spoiled && !n->opening && !n->shared)
			return n;
	n = kv_node_find(nodes, kv_natural_id(ino, epoch));
	if (!n || n->opening)
		return NULL;
	/* The natural id is a session's, or an old version's that somebody still reads after a multiple of 2^19 publications. */
	n = kv_node_new_private(nodes, ino);
	if (n) {
		n->epoch = epoch;
		n->refs = 0;
		idle_add(nodes, n);
	}
	return n;
}

void kv_node_face(struct kv_nodes *nodes, const struct kvfs_stat *st, struct kv_face *ret)
{
	const struct kv_node *n;

	*ret = (struct kv_face){.id = st->ino, .generation = 1, .st = *st, .cache_name = true, .cache_attr = true};
	if (!S_ISREG(st->mode))
		return;
	if (kv_node_wants_shared(nodes, st)) {
		kv_node_shared_face(nodes, st, ret);
		return;
	}
	kv_nodes_lock(nodes);
	n = shown_by(nodes, st->ino, st->epoch);
	ret->id = n ? n->id : kv_natural_id(st->ino, st->epoch);
	ret->generation = n ? n->generation : kv_natural_generation(st->epoch);
	/* A change is told of one name only; and who holds an old version could not be told from who comes to it by another. */
	ret->cache_name = st->nlink == 1 && !has_session(nodes, st->ino);
	ret->cache_attr = st->nlink == 1;
	kv_nodes_unlock(nodes);
}

struct ids {
	uint64_t *list;
	size_t count, cap;
};

static void ids_add(struct ids *ids, uint64_t id)
{
	if (ids->count == ids->cap) {
		size_t cap = ids->cap ? ids->cap * 2 : 4;
		uint64_t *more = realloc(ids->list, cap * sizeof(*more));

		if (!more)
			return;
		ids->list = more;
		ids->cap = cap;
	}
	ids->list[ids->count++] = id;
}

static void forget_attrs(struct kv_nodes *nodes, struct ids *ids)
{
	for (size_t i = 0; i < ids->count; i++)
		nodes->forget_attr(nodes->arg, ids->list[i]);
	free(ids->list);
}

void kv_node_changed(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch)
{
	struct ids ids = {0};

	if (!nodes->caching)
		return;
	kv_nodes_lock(nodes);
	for (struct kv_node *n = kv_node_first_of(nodes, ino); n; n = kv_node_next_of(n))
		if (!epoch || (n->epoch == epoch && n->id != kv_natural_id(ino, epoch)))
			ids_add(&ids, n->id);
	kv_nodes_unlock(nodes);
	if (epoch)
		nodes->forget_attr(nodes->arg, kv_natural_id(ino, epoch));
	if (nodes->any_shared)
		nodes->forget_attr(nodes->arg, KV_PRIVATE | ino);
	forget_attrs(nodes, &ids);
}

void kv_nodes_forget_attrs(struct kv_nodes *nodes)
{
	struct ids ids = {0};

	kv_nodes_lock(nodes);
	for (size_t i = 0; i < nodes->by_id.size; i++)
		for (struct kv_link *l = nodes->by_id.slots[i]; l; l = l->next)
			ids_add(&ids, KV_NODE_OF(l, by_id)->id);
	kv_nodes_unlock(nodes);
	forget_attrs(nodes, &ids);
}

/* While another descriptor of the directory is open, what the kernel caches may be of several states: it then caches nothing. */
static enum kv_may_list may_list(struct kv_nodes *nodes, const struct kv_node *n, uint64_t version)
{
	struct kv_listing *l = &nodes->listings[kv_hash_number(n->ino) & (KV_LISTINGS - 1)];
	bool same = l->ino == n->ino && l->version == version;

	if (n->refs > 1)
		return KV_LIST_UNCACHED;
	*l = (struct kv_listing){n->ino, version};
	return same ? KV_LIST_KEPT : KV_LIST_NEW;
}

int kv_node_hold(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret, enum kv_may_list *ret_listing)
{
	struct kvfs_stat st;
	struct kv_node *n;
	int r = kvfs_ll_getattr(nodes->store, kv_node_ino(id), &st);

	if (r < 0)
		return r;
	kv_nodes_lock(nodes);
	n = kv_node_find(nodes, id);
	if (n)
		kv_node_ref(nodes, n);
	else if ((n = kv_node_new(nodes, id, 1, st.mode)))
		n->st = st;
	if (n && ret_listing)
		*ret_listing = may_list(nodes, n, st.version);
	kv_nodes_unlock(nodes);
	*ret = n;
	return n ? 0 : -ENFILE;
}

/* ---- all of them ---- */

int kv_nodes_new(struct kvfs_store *store, struct kv_nodes **ret)
{
	struct kv_nodes *nodes = calloc(1, sizeof(*nodes));

	if (!nodes)
		return -ENOMEM;
	nodes->store = store;
	pthread_mutex_init(&nodes->mutex, NULL);
	pthread_cond_init(&nodes->opened, NULL);
	if (getrandom(&nodes->generation, sizeof(nodes->generation), GRND_NONBLOCK) < 0)
		nodes->generation = (uint32_t)getpid();
	nodes->generation |= 1; /* 0 means any, see kv_process_holds() */
	nodes->idle.prev = nodes->idle.next = &nodes->idle;
	nodes->listings = calloc(KV_LISTINGS, sizeof(*nodes->listings));
	nodes->absent = calloc(KV_ABSENT, sizeof(*nodes->absent));
	if (!nodes->listings || !nodes->absent || kv_table_init(&nodes->by_id) < 0 || kv_table_init(&nodes->by_ino) < 0 ||
		kv_table_init(&nodes->by_name) < 0) {
		kv_nodes_free(nodes);
		return -ENOMEM;
	}
	*ret = nodes;
	return 0;
}

static struct kv_node *any_node(const struct kv_nodes *nodes)
{
	struct kv_node *n = NULL;

	for (size_t i = 0; i < nodes->by_id.size && !n; i++)
		if (nodes->by_id.slots[i])
			n = KV_NODE_OF(nodes->by_id.slots[i], by_id);
	return n;
}

struct kv_node *kv_nodes_any_session(struct kv_nodes *nodes)
{
	struct kv_node *found = NULL;

	kv_nodes_lock(nodes);
	for (size_t i = 0; i < nodes->by_id.size && !found; i++)
		for (struct kv_link *l = nodes->by_id.slots[i]; l && !found; l = l->next)
			if (KV_NODE_OF(l, by_id)->session)
				found = KV_NODE_OF(l, by_id);
	kv_nodes_unlock(nodes);
	return found;
}

void kv_nodes_free(struct kv_nodes *nodes)
{
	struct kv_node *n;

	if (!nodes)
		return;
	kv_intents_end(nodes);
	while (nodes->by_id.slots && (n = any_node(nodes))) {
		if (!n->refs)
			kv_node_ref(nodes, n);
		n->refs = 1;
		n->epoch = 0; /* nothing to remember */
		n->spoiled = false;
		kv_node_put(nodes, n);
	}
	free(nodes->listings);
	free(nodes->absent);
	free(nodes->by_id.slots);
	free(nodes->by_ino.slots);
	free(nodes->by_name.slots);
	pthread_cond_destroy(&nodes->opened);
	pthread_mutex_destroy(&nodes->mutex);
	free(nodes);
}
