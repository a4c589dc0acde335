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
	CANDIDATES = 8, /* unpublished sessions of one process on one key that are looked at */
};
#define INO_MASK ((UINT64_C(1) << KVFS_INO_BITS) - 1)
#define PRIVATE (UINT64_C(1) << 63)

uint64_t kv_node_ino(uint64_t id)
{
	return id & INO_MASK;
}

static uint64_t version_id(const struct kvfs_stat *st)
{
	return S_ISREG(st->mode) ? st->ino | (uint64_t)(st->epoch & TAG_MASK) << KVFS_INO_BITS : st->ino;
}

static uint64_t version_generation(const struct kvfs_stat *st)
{
	return S_ISREG(st->mode) ? (st->epoch >> TAG_BITS) + UINT64_C(1) : 1;
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

static struct kv_node *node_new(struct kv_nodes *nodes, uint64_t ino)
{
	struct kv_node *n;

	if (nodes->by_id.used >= OPEN_MAX_NODES)
		return NULL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->ino = ino;
	n->refs = 1;
	pthread_mutex_init(&n->lock, NULL);
	return n;
}

/* The last reference is gone and the node in no table. */
static void node_free(struct kv_node *n)
{
	kvfs_value_close(n->value);
	kvfs_session_close(n->session);
	pthread_mutex_destroy(&n->lock);
	free(n->name);
	free(n);
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

static void unname(struct kv_nodes *nodes, struct kv_node *n)
{
	if (!n->name)
		return;
	table_remove(&nodes->by_name, &n->by_name);
	free(n->name);
	n->name = NULL;
	n->reserved = false;
}

struct kv_node *kv_node_get(struct kv_nodes *nodes, uint64_t id)
{
	struct kv_node *n;

	kv_nodes_lock(nodes);
	n = find_open(nodes, id);
	if (n)
		n->refs++;
	kv_nodes_unlock(nodes);
	return n;
}

void kv_node_put(struct kv_nodes *nodes, struct kv_node *n)
{
	bool last;

	if (!n)
		return;
	kv_nodes_lock(nodes);
	last = --n->refs == 0;
	if (last) {
		table_remove(&nodes->by_id, &n->by_id);
		if (n->session)
			table_remove(&nodes->by_ino, &n->by_ino);
		unname(nodes, n);
	}
	kv_nodes_unlock(nodes);
	if (last)
		node_free(n);
}

void kv_node_face(struct kv_nodes *nodes, const struct kvfs_stat *st, struct kv_face *ret)
{
	struct kv_node *n;

	ret->st = *st;
	ret->id = version_id(st);
	ret->generation = version_generation(st);
	if (!S_ISREG(st->mode))
		return;
	kv_nodes_lock(nodes);
	n = find_open(nodes, ret->id);
	if (n && n->st.epoch != st->epoch)
		/* An old version is still open after exactly a multiple of 2^19 publications: its inode must not be reused.  This
		 * id will do for stat(2), and is refused once for reading, as any that is not current. */
		private_id(nodes, st->ino, &ret->id, &ret->generation);
	kv_nodes_unlock(nodes);
}

/* ---- versions ---- */

int kv_node_version(struct kv_nodes *nodes, uint64_t id, uint64_t generation, const uint32_t *epoch, struct kv_node **ret)
{
	uint64_t ino = kv_node_ino(id);
	struct kvfs_value *value = NULL;
	struct kvfs_stat st;
	struct kv_node *n;
	int r;

	kv_nodes_lock(nodes);
	n = find_open(nodes, id);
	if (n) {
		n->refs++;
		kv_nodes_unlock(nodes);
		r = n->value ? kvfs_ll_getattr(nodes->store, ino, &st) : -ESTALE;
		if (r == 0 && st.epoch != n->st.epoch)
			r = -ESTALE;
		if (r < 0)
			kv_node_put(nodes, n);
		else
			*ret = n;
		return r;
	}
	n = node_new(nodes, ino);
	if (!n) {
		kv_nodes_unlock(nodes);
		return -ENFILE;
	}
	n->id = id;
	n->generation = generation;
	n->opening = true;
	table_add(&nodes->by_id, &n->by_id, hash_number(id));
	kv_nodes_unlock(nodes);

	r = kvfs_value_open(nodes->store, ino, &value, &st);
	if (r == 0 && (epoch ? st.epoch != *epoch : version_id(&st) != id))
		r = -ESTALE;
	kv_nodes_lock(nodes);
	n->opening = false;
	n->value = value;
	if (r == 0) {
		n->st = st;
		if (!(id & PRIVATE))
			n->generation = version_generation(&st);
	} else {
		table_remove(&nodes->by_id, &n->by_id);
	}
	pthread_cond_broadcast(&nodes->opened);
	kv_nodes_unlock(nodes);
	if (r < 0)
		node_free(n);
	else
		*ret = n;
	return r;
}

int kv_node_newest(struct kv_nodes *nodes, uint64_t ino, struct kv_node **ret)
{
	uint64_t id, generation;
	struct kvfs_stat st;
	int r;

	for (int i = 0; i < KV_NODE_TRIES; i++) {
		r = kvfs_ll_getattr(nodes->store, ino, &st);
		if (r < 0)
			return r;
		kv_nodes_lock(nodes);
		private_id(nodes, ino, &id, &generation);
		kv_nodes_unlock(nodes);
		r = kv_node_version(nodes, id, generation, &st.epoch, ret);
		if (r != -ESTALE)
			return r;
	}
	return -EBUSY;
}

/* What an open version is answered with: attributes as they are now, or were (`now` NULL: the inode is gone), and the size that was
 * opened. */
static void version_stat(const struct kv_node *n, const struct kvfs_stat *now, struct kvfs_stat *ret)
{
	*ret = now ? *now : n->st;
	if (!now)
		ret->nlink = 0;
	if (!n->value || (now && now->epoch == n->st.epoch))
		return;
	ret->size = n->st.size;
	ret->allocated = n->st.allocated;
	ret->mtime = n->st.mtime;
	ret->version = n->st.version;
	ret->epoch = n->st.epoch;
}

void kv_node_version_face(struct kv_nodes *nodes, const struct kv_node *n, const struct kvfs_stat *now, struct kv_face *ret)
{
	kv_nodes_lock(nodes);
	version_stat(n, now, &ret->st);
	kv_nodes_unlock(nodes);
	ret->id = n->id;
	ret->generation = n->generation;
}

void kv_node_tell(struct kv_nodes *nodes, pid_t tid, const struct kv_face *face)
{
	struct kv_told *t = &nodes->told[tid & (KV_TOLD_MAX - 1)];

	kv_nodes_lock(nodes);
	t->tid = tid;
	t->id = face->id;
	t->st = face->st;
	kv_nodes_unlock(nodes);
}

/* With the lock held. */
static struct kv_told *find_told(struct kv_nodes *nodes, pid_t tid, uint64_t id)
{
	struct kv_told *t = &nodes->told[tid & (KV_TOLD_MAX - 1)];

	return tid && t->tid == tid && t->id == id ? t : NULL;
}

static int stat_gone(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kvfs_stat *ret)
{
	const struct kv_told *t;

	kv_nodes_lock(nodes);
	t = find_told(nodes, tid, id);
	if (t)
		*ret = t->st;
	kv_nodes_unlock(nodes);
	return t ? 0 : -ESTALE;
}

int kv_node_stat(struct kv_nodes *nodes, pid_t tid, uint64_t id, struct kvfs_stat *ret)
{
	struct kvfs_stat now;
	struct kv_node *n;
	int r;

	/* The store is asked first: a version that is opened after this look at the tables was current then, so its
	 * size is the one that `now` has. */
	r = kvfs_ll_getattr(nodes->store, kv_node_ino(id), &now);
	if (r < 0 && r != -ESTALE)
		return r;
	n = kv_node_get(nodes, id);
	if (n && n->session) {
		r = kvfs_session_stat(n->session, ret);
	} else if (n) {
		struct kv_face face;

		kv_node_version_face(nodes, n, r == 0 ? &now : NULL, &face);
		*ret = face.st;
		r = 0;
	} else if (r == 0) {
		/* Current, or an older one that nobody has open and nobody can open: then the inode as it is now serves stat(2). */
		*ret = now;
	} else {
		r = stat_gone(nodes, tid, id, ret);
	}
	kv_node_put(nodes, n);
	return r;
}

int kv_node_hold(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret)
{
	struct kvfs_stat st;
	struct kv_node *n;
	int r = kvfs_ll_getattr(nodes->store, kv_node_ino(id), &st);

	if (r < 0)
		return r;
	kv_nodes_lock(nodes);
	n = find(nodes, id);
	if (n) {
		n->refs++;
	} else if ((n = node_new(nodes, st.ino))) {
		n->id = id;
		n->generation = 1;
		n->st = st;
		table_add(&nodes->by_id, &n->by_id, hash_number(id));
	}
	kv_nodes_unlock(nodes);
	*ret = n;
	return n ? 0 : -ENFILE;
}

bool kv_node_set_gone(struct kv_nodes *nodes, pid_t tid, uint64_t id, const struct kvfs_setattr *attr)
{
	struct kvfs_stat *st = NULL;
	struct kv_told *t;
	struct kv_node *n;

	kv_nodes_lock(nodes);
	n = find_open(nodes, id);
	t = find_told(nodes, tid, id);
	if (n && !n->session)
		st = &n->st;
	else if (t)
		st = &t->st;
	if (st && attr->valid & KVFS_SET_MODE)
		st->mode = (st->mode & S_IFMT) | (attr->mode & 07777);
	if (st && attr->valid & KVFS_SET_UID)
		st->uid = attr->uid;
	if (st && attr->valid & KVFS_SET_GID)
		st->gid = attr->gid;
	if (st && attr->valid & KVFS_SET_ATIME)
		st->atime = attr->atime;
	if (st && attr->valid & KVFS_SET_MTIME)
		st->mtime = attr->mtime;
	kv_nodes_unlock(nodes);
	return st != NULL;
}

/* ---- sessions ---- */

bool kv_node_own(const struct kv_node *n, pid_t tid)
{
	return kv_process_has(n->opener, tid);
}

int kv_node_session(
	struct kv_nodes *nodes, pid_t tid, struct kvfs_session *s, uint64_t parent, const char *name, struct kv_node **ret)
{
	uint64_t ino = kvfs_session_ino(s);
	char *copy = name ? strdup(name) : NULL;
	pid_t opener = kv_process_of(tid);
	struct kv_node *n = NULL;

	kv_nodes_lock(nodes);
	if (!name || copy)
		n = node_new(nodes, ino);
	if (n) {
		private_id(nodes, ino, &n->id, &n->generation);
		n->kernel_id = n->id;
		n->kernel_generation = n->generation;
		n->session = s;
		n->serial = nodes->serial;
		n->opener = opener;
		n->parent = parent;
		n->name = copy;
		table_add(&nodes->by_id, &n->by_id, hash_number(n->id));
		table_add(&nodes->by_ino, &n->by_ino, hash_number(ino));
		if (copy)
			table_add(&nodes->by_name, &n->by_name, hash_name(parent, copy));
	}
	kv_nodes_unlock(nodes);
	if (!n) {
		kvfs_session_close(s);
		free(copy);
		return -ENFILE;
	}
	*ret = n;
	return 0;
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
		if (NODE_OF(l, by_ino)->ino == ino && !NODE_OF(l, by_ino)->dropped)
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

		if (n->ino == ino && n->handles && !n->dropped && kv_node_own(n, tid)) {
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
	int r = kvfs_session_stat(n->session, &ret->st);

	ret->id = n->id;
	ret->generation = n->generation;
	return r;
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
	nodes->told = calloc(KV_TOLD_MAX, sizeof(*nodes->told));
	if (!nodes->told || table_init(&nodes->by_id) < 0 || table_init(&nodes->by_ino) < 0 || table_init(&nodes->by_name) < 0) {
		kv_nodes_free(nodes);
		return -ENOMEM;
	}
	*ret = nodes;
	return 0;
}

struct kv_node *kv_nodes_any(struct kv_nodes *nodes)
{
	struct kv_node *n = NULL;

	for (size_t i = 0; i < nodes->by_id.size && !n; i++)
		if (nodes->by_id.slots[i])
			n = NODE_OF(nodes->by_id.slots[i], by_id);
	return n;
}

void kv_nodes_free(struct kv_nodes *nodes)
{
	struct kv_node *n;

	if (!nodes)
		return;
	kv_intents_end(nodes);
	while (nodes->by_id.slots && (n = kv_nodes_any(nodes))) {
		n->refs = 1;
		kv_node_put(nodes, n);
	}
	free(nodes->told);
	free(nodes->by_id.slots);
	free(nodes->by_ino.slots);
	free(nodes->by_name.slots);
	pthread_cond_destroy(&nodes->opened);
	pthread_mutex_destroy(&nodes->mutex);
	free(nodes);
}
