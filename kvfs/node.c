/* Kernel inodes: node ids, the tables of what is open, and the decisions LOOKUP and OPEN make.  See node.h for the invariants. */
#include "node.h"
#include "process.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- node ids ----
 *
 * Directories, links, special files: the inode number.  A version: its epoch's low bits above the inode number; the rest of the
 * epoch is the generation.  Sessions, and versions whose own id is taken: the top bit and a counter above the inode number. */

enum {
	TAG_BITS = 63 - KVFS_INO_BITS,
	TAG_MASK = (1 << TAG_BITS) - 1,
	OPEN_MAX_NODES = 1000000, /* open things at once, against a runaway program */
	IDLE_MAX = 32768, /* ids that say something else than their number, and that nobody has open */
	CANDIDATES = 8, /* unpublished sessions of one process on one key that are looked at */
};
#define INO_MASK ((UINT64_C(1) << KVFS_INO_BITS) - 1)
#define PRIVATE (UINT64_C(1) << 63)

uint64_t kv_node_ino(uint64_t id)
{
	return id & INO_MASK;
}

/* The id that is the version's by its number alone, and its generation. */
static uint64_t natural_id(uint64_t ino, uint32_t epoch)
{
	return ino | (uint64_t)(epoch & TAG_MASK) << KVFS_INO_BITS;
}

static uint64_t natural_generation(uint32_t epoch)
{
	return (epoch >> TAG_BITS) + UINT64_C(1);
}

static bool is_natural(uint64_t id)
{
	return !(id & PRIVATE);
}

/* ---- tables ---- */

static uint64_t hash_number(uint64_t v)
{
	v = (v ^ v >> 32) * UINT64_C(0x9e3779b97f4a7c15);
	return v ^ v >> 29;
}

static uint64_t hash_name(uint64_t parent, const char *name)
{
	uint64_t h = parent ^ UINT64_C(0xcbf29ce484222325);

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return hash_number(h);
}

static int table_init(struct kv_table *t)
{
	t->size = 64;
	t->slots = calloc(t->size, sizeof(struct kv_link *));
	return t->slots ? 0 : -ENOMEM;
}

static void table_grow(struct kv_table *t)
{
	size_t size = t->size * 2;
	struct kv_link **slots = calloc(size, sizeof(struct kv_link *));

	if (!slots)
		return; /* longer chains, then */
	for (size_t i = 0; i < t->size; i++) {
		for (struct kv_link *l = t->slots[i], *next; l; l = next) {
			struct kv_link **slot = &slots[l->hash & (size - 1)];

			next = l->next;
			l->next = *slot;
			*slot = l;
		}
	}
	free(t->slots);
	t->slots = slots;
	t->size = size;
}

static void table_add(struct kv_table *t, struct kv_link *l, uint64_t hash)
{
	struct kv_link **slot;

	if (t->used >= t->size)
		table_grow(t);
	slot = &t->slots[hash & (t->size - 1)];
	l->hash = hash;
	l->next = *slot;
	*slot = l;
	t->used++;
}

static void table_remove(struct kv_table *t, struct kv_link *l)
{
	struct kv_link **p = &t->slots[l->hash & (t->size - 1)];

	while (*p != l)
		p = &(*p)->next;
	*p = l->next;
	t->used--;
}

static struct kv_link *chain(const struct kv_table *t, uint64_t hash)
{
	return t->slots[hash & (t->size - 1)];
}

#define NODE_OF(link, member) ((struct kv_node *)((char *)(link)-offsetof(struct kv_node, member)))

void kv_nodes_lock(struct kv_nodes *nodes)
{
	pthread_mutex_lock(&nodes->mutex);
}

void kv_nodes_unlock(struct kv_nodes *nodes)
{
	pthread_mutex_unlock(&nodes->mutex);
}

/* ---- open nodes; all static functions here want the lock held ---- */

static struct kv_node *find(struct kv_nodes *nodes, uint64_t id)
{
	for (struct kv_link *l = chain(&nodes->by_id, hash_number(id)); l; l = l->next)
		if (NODE_OF(l, by_id)->id == id)
			return NODE_OF(l, by_id);
	return NULL;
}

/* As find(), after any opening of it has ended: for one call into the store, which waits for nobody here. */
static struct kv_node *find_open(struct kv_nodes *nodes, uint64_t id)
{
	struct kv_node *n;

	while ((n = find(nodes, id)) && n->opening)
		pthread_cond_wait(&nodes->opened, &nodes->mutex);
	return n;
}

static struct kv_node *node_new(struct kv_nodes *nodes, uint64_t id, uint64_t generation, uint32_t mode)
{
	struct kv_node *n;

	if (nodes->by_id.used >= OPEN_MAX_NODES)
		return NULL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->id = id;
	n->generation = generation;
	n->ino = kv_node_ino(id);
	n->st.ino = n->ino;
	n->st.mode = mode;
	n->refs = 1;
	pthread_mutex_init(&n->lock, NULL);
	table_add(&nodes->by_id, &n->by_id, hash_number(id));
	table_add(&nodes->by_ino, &n->by_ino, hash_number(n->ino));
	return n;
}

static void node_remove(struct kv_nodes *nodes, struct kv_node *n)
{
	table_remove(&nodes->by_id, &n->by_id);
	table_remove(&nodes->by_ino, &n->by_ino);
}

/* It is in no table, and nobody has it. */
static void node_free(struct kv_node *n)
{
	pthread_mutex_destroy(&n->lock);
	free(n->name);
	free(n);
}

/* The next node of the inode in the chain from `l` on. */
static struct kv_node *of_ino(struct kv_link *l, uint64_t ino)
{
	for (; l; l = l->next)
		if (NODE_OF(l, by_ino)->ino == ino)
			return NODE_OF(l, by_ino);
	return NULL;
}

static struct kv_node *first_of_ino(struct kv_nodes *nodes, uint64_t ino)
{
	return of_ino(chain(&nodes->by_ino, hash_number(ino)), ino);
}

static struct kv_node *next_of_ino(struct kv_node *n)
{
	return of_ino(n->by_ino.next, n->ino);
}

/* An id that no inode the kernel still uses can have. */
static void private_id(struct kv_nodes *nodes, uint64_t ino, uint64_t *ret_id, uint64_t *ret_generation)
{
	do {
		nodes->serial++;
		*ret_id = PRIVATE | (nodes->serial & TAG_MASK) << KVFS_INO_BITS | ino;
		*ret_generation = (uint32_t)(nodes->generation + (nodes->serial >> TAG_BITS));
	} while (find(nodes, *ret_id));
}

static struct kv_node *node_private(struct kv_nodes *nodes, uint64_t ino)
{
	uint64_t id, generation;

	private_id(nodes, ino, &id, &generation);
	return node_new(nodes, id, generation, S_IFREG);
}

static void unname(struct kv_nodes *nodes, struct kv_node *n)
{
	if (!n->name)
		return;
	table_remove(&nodes->by_name, &n->by_name);
	free(n->name);
	n->name = NULL;
	n->reserved = false;
}

/* ---- idle nodes ---- */

static void idle_add(struct kv_nodes *nodes, struct kv_node *n)
{
	n->next = &nodes->idle;
	n->prev = nodes->idle.prev;
	n->prev->next = n->next->prev = n;
	nodes->idle_count++;
}

/* Takes a reference, of an idle node too. */
static void ref(struct kv_nodes *nodes, struct kv_node *n)
{
	if (n->refs++ == 0) {
		n->prev->next = n->next;
		n->next->prev = n->prev;
		nodes->idle_count--;
	}
}

/* Takes an idle node out of everything, for node_free(). */
static void idle_end(struct kv_nodes *nodes, struct kv_node *n)
{
	ref(nodes, n);
	node_remove(nodes, n);
}

/* The id shows a version that its number does not say. */
static bool says_more(const struct kv_node *n)
{
	return S_ISREG(n->st.mode) && n->epoch && !n->spoiled &&
	       (n->id != natural_id(n->ino, n->epoch) || n->generation != natural_generation(n->epoch));
}

/* What is left to close when a node has lost its last reference. */
struct rest {
	struct kvfs_session *session;
	struct kvfs_value *value;
	struct kv_node *dead, *evicted;
	bool spoiled;
};

static struct kvfs_value *content_put(struct kv_content *c)
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
	ret->value = content_put(n->content);
	n->content = NULL;
	ret->session = n->session;
	n->session = NULL;
	unname(nodes, n);
	n->handles = n->readers = n->locking = 0;
	n->lone = n->fresh = n->dropped = n->direct = n->wrote = n->appends = n->privileged = false;
	if (says_more(n)) {
		idle_add(nodes, n);
		if (nodes->idle_count > IDLE_MAX) {
			ret->evicted = nodes->idle.next;
			idle_end(nodes, ret->evicted);
		}
	} else if (n->spoiled && is_natural(n->id)) {
		n->refs = 1; /* the number may be handed out again: not before the kernel has dropped its pages */
		ret->spoiled = true;
	} else {
		node_remove(nodes, n);
		ret->dead = n;
	}
}

struct kv_node *kv_node_get(struct kv_nodes *nodes, uint64_t id)
{
	struct kv_node *n;

	kv_nodes_lock(nodes);
	n = find_open(nodes, id);
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
		node_free(rest.dead);
	if (rest.evicted) {
		nodes->forget_attr(nodes->arg, rest.evicted->id);
		node_free(rest.evicted);
	}
	if (rest.spoiled)
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
	n = find(nodes, id);
	if (n && !n->refs)
		idle_end(nodes, n);
	else
		n = NULL;
	kv_nodes_unlock(nodes);
	if (!n)
		return;
	nodes->forget_attr(nodes->arg, id); /* a LOOKUP that was under way may have brought it back */
	node_free(n);
}

/* ---- faces ---- */

static bool has_session(struct kv_nodes *nodes, uint64_t ino)
{
	for (struct kv_node *n = first_of_ino(nodes, ino); n; n = next_of_ino(n))
		if (n->session && n->handles && !n->dropped)
			return true;
	return false;
}

/* The node that shows this version to everybody; NULL: its natural id does. */
static struct kv_node *shown_by(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch)
{
	struct kv_node *n;

	for (n = first_of_ino(nodes, ino); n; n = next_of_ino(n))
		if (n->epoch == epoch && !n->session && !n->lone && !n->spoiled && !n->opening)
			return n;
	n = find(nodes, natural_id(ino, epoch));
	if (!n || n->opening)
		return NULL;
	/* The natural id is a session's, or an old version's that somebody still reads after a multiple of 2^19 publications. */
	n = node_private(nodes, ino);
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
	kv_nodes_lock(nodes);
	n = shown_by(nodes, st->ino, st->epoch);
	ret->id = n ? n->id : natural_id(st->ino, st->epoch);
	ret->generation = n ? n->generation : natural_generation(st->epoch);
	ret->cache_name = !has_session(nodes, st->ino);
	ret->cache_attr = st->nlink == 1; /* a change is told of one name only */
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
	for (struct kv_node *n = first_of_ino(nodes, ino); n; n = next_of_ino(n))
		if (!epoch || (n->epoch == epoch && n->id != natural_id(ino, epoch)))
			ids_add(&ids, n->id);
	kv_nodes_unlock(nodes);
	if (epoch)
		nodes->forget_attr(nodes->arg, natural_id(ino, epoch));
	forget_attrs(nodes, &ids);
}

void kv_nodes_forget_attrs(struct kv_nodes *nodes)
{
	struct ids ids = {0};

	kv_nodes_lock(nodes);
	for (size_t i = 0; i < nodes->by_id.size; i++)
		for (struct kv_link *l = nodes->by_id.slots[i]; l; l = l->next)
			ids_add(&ids, NODE_OF(l, by_id)->id);
	kv_nodes_unlock(nodes);
	forget_attrs(nodes, &ids);
}

/* ---- versions ---- */

/* The node of an id that is to be opened: referenced, and `opening` when this call has to do that.  NULL with -ESTALE (a session, say). */
static int begin_opening(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret)
{
	struct kv_node *n = find_open(nodes, id);

	if (n && (n->session || n->spoiled))
		return -ESTALE;
	if (n) {
		ref(nodes, n);
		n->opening = !n->content;
	} else {
		n = node_new(nodes, id, 0, S_IFREG);
		if (!n)
			return -ENFILE;
		n->opening = true;
	}
	*ret = n;
	return 0;
}

static void end_opening(struct kv_nodes *nodes, struct kv_node *n)
{
	n->opening = false;
	pthread_cond_broadcast(&nodes->opened);
}

/* What a node shows, if that is the version `st` tells of. */
static bool shows(const struct kv_node *n, const struct kvfs_stat *st)
{
	return n->epoch ? n->epoch == st->epoch : n->id == natural_id(st->ino, st->epoch);
}

bool kv_node_shows(struct kv_nodes *nodes, uint64_t id, const struct kvfs_stat *st)
{
	const struct kv_node *n;
	bool r;

	if (!S_ISREG(st->mode))
		return id == st->ino;
	kv_nodes_lock(nodes);
	n = find(nodes, id);
	r = n ? !n->session && !n->spoiled && shows(n, st) : id == natural_id(st->ino, st->epoch);
	kv_nodes_unlock(nodes);
	return r;
}

/* Opens the current value for a node that is `opening`. */
static int open_content(struct kv_nodes *nodes, struct kv_node *n, bool any)
{
	struct kv_content *c = calloc(1, sizeof(*c));
	struct kvfs_stat st;
	int r = c ? kvfs_value_open(nodes->store, n->ino, &c->value, &st) : -ENOMEM;

	kv_nodes_lock(nodes);
	if (r == 0 && !any && !shows(n, &st))
		r = -ESTALE;
	if (r == 0) {
		c->refs = 1;
		n->content = c;
		n->st = st;
		n->epoch = n->appended_to = st.epoch;
		if (!n->generation)
			n->generation = natural_generation(st.epoch);
		c = NULL;
	}
	end_opening(nodes, n);
	kv_nodes_unlock(nodes);
	if (c)
		kvfs_value_close(c->value);
	free(c);
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
	r = begin_opening(nodes, id, &n);
	if (r == 0)
		opening = n->opening;
	kv_nodes_unlock(nodes);
	if (r < 0)
		return r;
	if (opening) {
		r = open_content(nodes, n, false);
	} else {
		r = kvfs_ll_getattr(nodes->store, n->ino, &st);
		if (r == 0 && st.epoch != n->epoch)
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
	n = node_private(nodes, ino);
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

/* While another descriptor of the directory is open, what the kernel caches may be of several states: it then caches nothing. */
static enum kv_may_list may_list(struct kv_nodes *nodes, const struct kv_node *n, uint64_t version)
{
	struct kv_listing *l = &nodes->listings[hash_number(n->ino) & (KV_LISTINGS - 1)];
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
	n = find(nodes, id);
	if (n)
		ref(nodes, n);
	else if ((n = node_new(nodes, id, 1, st.mode)))
		n->st = st;
	if (n && ret_listing)
		*ret_listing = may_list(nodes, n, st.version);
	kv_nodes_unlock(nodes);
	*ret = n;
	return n ? 0 : -ENFILE;
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
	value = content_put(c);
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
	struct kv_content *c = calloc(1, sizeof(*c)), *old = NULL;
	struct kv_node *n = h->node;
	struct kvfs_stat st;
	bool changed;
	int r = c ? kvfs_value_open(nodes->store, n->ino, &c->value, &st) : -ENOMEM;

	kv_nodes_lock(nodes);
	n->locking += !h->locks;
	h->locks = true;
	changed = r == 0 && n->content && st.epoch != n->epoch && n->locking == n->readers;
	if (changed) {
		c->refs = 1;
		old = n->content;
		n->content = c;
		n->st = st;
		n->epoch = n->appended_to = st.epoch;
		c = NULL;
	}
	kv_nodes_unlock(nodes);
	if (c)
		kvfs_value_close(c->value);
	free(c);
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
	for (struct kv_node *n = first_of_ino(nodes, ino); n && !found; n = next_of_ino(n))
		found = n->content && n->appended_to;
	kv_nodes_unlock(nodes);
	return found;
}

bool kv_node_appended(struct kv_nodes *nodes, uint64_t ino, uint32_t epoch)
{
	bool found = false;

	kv_nodes_lock(nodes);
	for (struct kv_node *n = first_of_ino(nodes, ino); n; n = next_of_ino(n)) {
		if (!n->content || !n->appended_to)
			continue;
		if ((uint16_t)(n->appended_to + 1) == (uint16_t)epoch)
			n->appended_to++;
		else if ((int16_t)((uint16_t)epoch - (uint16_t)n->appended_to) > 0)
			n->appended_to = 0; /* something lies between */
		found |= n->appended_to != n->epoch;
	}
	kv_nodes_unlock(nodes);
	return found;
}

void kv_node_replaced(struct kv_nodes *nodes, uint64_t ino)
{
	kv_nodes_lock(nodes);
	for (size_t i = 0; !ino && i < nodes->by_id.size; i++)
		for (struct kv_link *l = nodes->by_id.slots[i]; l; l = l->next)
			NODE_OF(l, by_id)->appended_to = 0;
	for (struct kv_node *n = ino ? first_of_ino(nodes, ino) : NULL; n; n = next_of_ino(n))
		n->appended_to = 0;
	kv_nodes_unlock(nodes);
}

/* A reader's node that has something to grow by, referenced. */
static struct kv_node *growing(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *n;

	kv_nodes_lock(nodes);
	for (n = first_of_ino(nodes, ino); n; n = next_of_ino(n))
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
	struct kv_content *c = calloc(1, sizeof(*c)), *old = NULL;
	struct kvfs_stat st;
	uint64_t from;
	char last = 0;
	bool good = c && kvfs_value_open(nodes->store, n->ino, &c->value, &st) == 0 && st.size &&
		    kvfs_value_read(c->value, &last, 1, st.size - 1) == 1;

	kv_nodes_lock(nodes);
	good = good && st.epoch == n->appended_to;
	from = n->st.size;
	if (good) {
		c->refs = 1;
		old = n->content;
		n->content = c;
		c = NULL;
	} else {
		n->appended_to = 0; /* replaced since: it stays what it is */
	}
	kv_nodes_unlock(nodes);
	if (c)
		kvfs_value_close(c->value);
	free(c);
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
static void begin_session(struct kv_nodes *nodes, struct kv_node *n, struct kvfs_session *s, uint32_t mode, pid_t opener)
{
	n->session = s;
	n->kernel_id = n->id;
	n->kernel_generation = n->generation;
	n->serial = ++nodes->serial;
	n->opener = opener;
	n->dropped = n->wrote = n->closed = n->direct = n->appends = false;
	n->privileged = has_set_id(mode);
	n->handles = 0;
}

int kv_node_session(
	struct kv_nodes *nodes, pid_t tid, struct kvfs_session *s, uint64_t parent, const char *name, struct kv_node **ret)
{
	uint64_t ino = kvfs_session_ino(s);
	uint32_t epoch = kvfs_session_epoch(s);
	char *copy = name ? strdup(name) : NULL;
	pid_t opener = kv_process_of(tid);
	struct kvfs_stat st = {0};
	struct kv_node *n = NULL;
	int r = kvfs_session_stat(s, &st);

	kv_nodes_lock(nodes);
	if (r == 0 && (!name || copy))
		n = node_private(nodes, ino);
	if (n) {
		begin_session(nodes, n, s, st.mode, opener);
		n->fresh = true;
		n->epoch = epoch;
		n->parent = parent;
		n->name = copy;
		if (copy)
			table_add(&nodes->by_name, &n->by_name, hash_name(parent, copy));
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
	have = find(nodes, id);
	r = have && have->refs ? -ESTALE : begin_opening(nodes, id, ret);
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
	value = content_put(n->content);
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
	if (r == 0 && !any && (!shows(n, &st) || kvfs_session_epoch(s) != st.epoch || st.nlink > 1))
		r = -ESTALE;
	if (r == 0) {
		n->epoch = kvfs_session_epoch(s);
		if (!n->generation)
			n->generation = natural_generation(n->epoch);
		n->lone = false;
		old = content_put(n->content);
		n->content = NULL;
		begin_session(nodes, n, s, st.mode, opener);
	}
	end_opening(nodes, n);
	kv_nodes_unlock(nodes);
	kvfs_value_close(old);
	if (r < 0) {
		kvfs_session_close(s);
		kv_node_put(nodes, n);
		return r;
	}
	/* Others have found its size under this id, and are about to see the session's. */
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
	if (epoch > 1)
		kv_node_changed(nodes, ino, epoch - 1);
}

/* The next session of that name in the chain after `l`, itself included. */
static struct kv_node *named(struct kv_link *l, uint64_t parent, const char *name)
{
	for (; l; l = l->next) {
		struct kv_node *n = NODE_OF(l, by_name);

		if (n->parent == parent && strcmp(n->name, name) == 0)
			return n;
	}
	return NULL;
}

struct kv_node *kv_node_pending(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name)
{
	struct kv_node *n, *best = NULL;

	kv_nodes_lock(nodes);
	n = nodes->by_name.used ? named(chain(&nodes->by_name, hash_name(parent, name)), parent, name) : NULL;
	for (; n; n = named(n->by_name.next, parent, name))
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
	found = nodes->by_name.used && named(chain(&nodes->by_name, hash_name(parent, name)), parent, name);
	kv_nodes_unlock(nodes);
	return found;
}

bool kv_node_reserved(struct kv_nodes *nodes, pid_t tid, uint64_t parent, const char *name)
{
	bool reserved = false;
	struct kv_node *n;

	kv_nodes_lock(nodes);
	n = nodes->by_name.used ? named(chain(&nodes->by_name, hash_name(parent, name)), parent, name) : NULL;
	for (; n; n = named(n->by_name.next, parent, name))
		if (n->reserved && !kv_node_own(n, tid))
			reserved = true;
	kv_nodes_unlock(nodes);
	return reserved;
}

struct kv_node *kv_node_session_on(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *found = NULL;

	kv_nodes_lock(nodes);
	for (struct kv_link *l = chain(&nodes->by_ino, hash_number(ino)); l; l = l->next)
		if (NODE_OF(l, by_ino)->ino == ino && NODE_OF(l, by_ino)->session && !NODE_OF(l, by_ino)->dropped)
			found = NODE_OF(l, by_ino);
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
	unname(nodes, n);
	n->parent = parent;
	n->name = copy;
	table_add(&nodes->by_name, &n->by_name, hash_name(parent, copy));
	kv_nodes_unlock(nodes);
	return 0;
}

void kv_node_settle(struct kv_nodes *nodes, struct kv_node *n, uint64_t ino)
{
	kv_nodes_lock(nodes);
	unname(nodes, n);
	if (n->ino != ino) {
		table_remove(&nodes->by_ino, &n->by_ino);
		n->ino = ino;
		table_add(&nodes->by_ino, &n->by_ino, hash_number(ino));
	}
	kv_nodes_unlock(nodes);
}

struct kv_node *kv_node_own_changes(struct kv_nodes *nodes, pid_t tid, uint64_t ino)
{
	struct kv_node *some[CANDIDATES], *best = NULL;
	int count = 0;

	kv_nodes_lock(nodes);
	for (struct kv_link *l = chain(&nodes->by_ino, hash_number(ino)); l && count < CANDIDATES; l = l->next) {
		struct kv_node *n = NODE_OF(l, by_ino);

		if (n->ino == ino && n->session && n->handles && !n->dropped && kv_node_own(n, tid)) {
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
	if (!nodes->listings || table_init(&nodes->by_id) < 0 || table_init(&nodes->by_ino) < 0 ||
		table_init(&nodes->by_name) < 0) {
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
			n = NODE_OF(nodes->by_id.slots[i], by_id);
	return n;
}

struct kv_node *kv_nodes_any_session(struct kv_nodes *nodes)
{
	struct kv_node *found = NULL;

	kv_nodes_lock(nodes);
	for (size_t i = 0; i < nodes->by_id.size && !found; i++)
		for (struct kv_link *l = nodes->by_id.slots[i]; l && !found; l = l->next)
			if (NODE_OF(l, by_id)->session)
				found = NODE_OF(l, by_id);
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
			ref(nodes, n);
		n->refs = 1;
		n->epoch = 0; /* nothing to remember */
		n->spoiled = false;
		kv_node_put(nodes, n);
	}
	free(nodes->listings);
	free(nodes->by_id.slots);
	free(nodes->by_ino.slots);
	free(nodes->by_name.slots);
	pthread_cond_destroy(&nodes->opened);
	pthread_mutex_destroy(&nodes->mutex);
	free(nodes);
}
