/* The tables of nodes: by id, by inode, by unpublished name.  See node_table.h. */
#include "node_table.h"
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
};
#define INO_MASK ((UINT64_C(1) << KVFS_INO_BITS) - 1)

uint64_t kv_node_ino(uint64_t id)
{
	return id & INO_MASK;
}

/* The id that is the version's by its number alone, and its generation. */
uint64_t kv_natural_id(uint64_t ino, uint32_t epoch)
{
	return ino | (uint64_t)(epoch & TAG_MASK) << KVFS_INO_BITS;
}

uint64_t kv_natural_generation(uint32_t epoch)
{
	return (epoch >> TAG_BITS) + UINT64_C(1);
}

bool kv_is_natural(uint64_t id)
{
	return !(id & KV_PRIVATE);
}

/* ---- tables ---- */

uint64_t kv_hash_number(uint64_t v)
{
	v = (v ^ v >> 32) * UINT64_C(0x9e3779b97f4a7c15);
	return v ^ v >> 29;
}

uint64_t kv_hash_name(uint64_t parent, const char *name)
{
	uint64_t h = parent ^ UINT64_C(0xcbf29ce484222325);

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return kv_hash_number(h);
}

int kv_table_init(struct kv_table *t)
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

void kv_table_add(struct kv_table *t, struct kv_link *l, uint64_t hash)
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

void kv_table_remove(struct kv_table *t, struct kv_link *l)
{
	struct kv_link **p = &t->slots[l->hash & (t->size - 1)];

	while (*p != l)
		p = &(*p)->next;
	*p = l->next;
	t->used--;
}

struct kv_link *kv_table_chain(const struct kv_table *t, uint64_t hash)
{
	return t->slots[hash & (t->size - 1)];
}

void kv_nodes_lock(struct kv_nodes *nodes)
{
	pthread_mutex_lock(&nodes->mutex);
}

void kv_nodes_unlock(struct kv_nodes *nodes)
{
	pthread_mutex_unlock(&nodes->mutex);
}

/* ---- open nodes; all static functions here want the lock held ---- */

struct kv_node *kv_node_find(struct kv_nodes *nodes, uint64_t id)
{
	for (struct kv_link *l = kv_table_chain(&nodes->by_id, kv_hash_number(id)); l; l = l->next)
		if (KV_NODE_OF(l, by_id)->id == id)
			return KV_NODE_OF(l, by_id);
	return NULL;
}

/* As kv_node_find(), after any opening of it has ended: for one call into the store, which waits for nobody here. */
struct kv_node *kv_node_find_open(struct kv_nodes *nodes, uint64_t id)
{
	struct kv_node *n;

	while ((n = kv_node_find(nodes, id)) && n->opening)
		pthread_cond_wait(&nodes->opened, &nodes->mutex);
	return n;
}

struct kv_node *kv_node_new(struct kv_nodes *nodes, uint64_t id, uint64_t generation, uint32_t mode)
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
	kv_table_add(&nodes->by_id, &n->by_id, kv_hash_number(id));
	kv_table_add(&nodes->by_ino, &n->by_ino, kv_hash_number(n->ino));
	return n;
}

void kv_node_remove(struct kv_nodes *nodes, struct kv_node *n)
{
	kv_table_remove(&nodes->by_id, &n->by_id);
	kv_table_remove(&nodes->by_ino, &n->by_ino);
}

/* It is in no table, and nobody has it. */
void kv_node_free(struct kv_node *n)
{
	pthread_mutex_destroy(&n->lock);
	free(n->name);
	free(n);
}

/* The next node of the inode in the chain from `l` on. */
static struct kv_node *of_ino(struct kv_link *l, uint64_t ino)
{
	for (; l; l = l->next)
		if (KV_NODE_OF(l, by_ino)->ino == ino)
			return KV_NODE_OF(l, by_ino);
	return NULL;
}

struct kv_node *kv_node_first_of(struct kv_nodes *nodes, uint64_t ino)
{
	return of_ino(kv_table_chain(&nodes->by_ino, kv_hash_number(ino)), ino);
}

struct kv_node *kv_node_next_of(struct kv_node *n)
{
	return of_ino(n->by_ino.next, n->ino);
}

/* An id that no inode the kernel still uses can have. */
static void private_id(struct kv_nodes *nodes, uint64_t ino, uint64_t *ret_id, uint64_t *ret_generation)
{
	do {
		nodes->serial++;
		*ret_id = KV_PRIVATE | (nodes->serial & TAG_MASK) << KVFS_INO_BITS | ino;
		*ret_generation = (uint32_t)(nodes->generation + (nodes->serial >> TAG_BITS));
	} while (!(nodes->serial & TAG_MASK) || kv_node_find(nodes, *ret_id)); /* without a tag it is a shared key's */
}

struct kv_node *kv_node_new_private(struct kv_nodes *nodes, uint64_t ino)
{
	uint64_t id, generation;

	private_id(nodes, ino, &id, &generation);
	return kv_node_new(nodes, id, generation, S_IFREG);
}

void kv_node_unname(struct kv_nodes *nodes, struct kv_node *n)
{
	if (!n->name)
		return;
	kv_table_remove(&nodes->by_name, &n->by_name);
	free(n->name);
	n->name = NULL;
	n->reserved = false;
}

/* ---- absent names ---- */

bool kv_absent_again(struct kv_nodes *nodes, uint64_t parent, const char *name)
{
	uint64_t hash = kv_hash_name(parent, name);
	struct kv_absent *a = &nodes->absent[hash & (KV_ABSENT - 1)];
	bool again;

	kv_nodes_lock(nodes);
	again = a->hash == hash;
	*a = (struct kv_absent){hash, again};
	kv_nodes_unlock(nodes);
	return again;
}

bool kv_absent_unknown(struct kv_nodes *nodes, uint64_t parent, const char *name)
{
	uint64_t hash = kv_hash_name(parent, name);
	const struct kv_absent *a = &nodes->absent[hash & (KV_ABSENT - 1)];
	bool sure;

	kv_nodes_lock(nodes);
	sure = a->hash == hash && !a->cached;
	kv_nodes_unlock(nodes);
	return sure;
}
