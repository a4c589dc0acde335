/* The tables behind node.h, for node*.c alone.  Everything here wants the lock of the tables held (kv_nodes_lock()), but for the
 * arithmetic of ids. */
#ifndef KVFS_NODE_TABLE_H
#define KVFS_NODE_TABLE_H

#include "node.h"

#include <stddef.h>

/* Ids of sessions, of versions whose own id is taken, of shared keys: not what their number says. */
#define KV_PRIVATE (UINT64_C(1) << 63)
#define KV_NODE_OF(link, member) ((struct kv_node *)((char *)(link)-offsetof(struct kv_node, member)))

/* The id that is the version's by its number alone, and its generation. */
uint64_t kv_natural_id(uint64_t ino, uint32_t epoch);
uint64_t kv_natural_generation(uint32_t epoch);
bool kv_is_natural(uint64_t id);

uint64_t kv_hash_number(uint64_t v);
uint64_t kv_hash_name(uint64_t parent, const char *name);
int kv_table_init(struct kv_table *t);
void kv_table_add(struct kv_table *t, struct kv_link *l, uint64_t hash);
void kv_table_remove(struct kv_table *t, struct kv_link *l);
struct kv_link *kv_table_chain(const struct kv_table *t, uint64_t hash);

struct kv_node *kv_node_find(struct kv_nodes *nodes, uint64_t id);
/* As kv_node_find(), after any opening of it has ended: for one call into the store, which waits for nobody here. */
struct kv_node *kv_node_find_open(struct kv_nodes *nodes, uint64_t id);
/* The nodes of an inode, one by one. */
struct kv_node *kv_node_first_of(struct kv_nodes *nodes, uint64_t ino);
struct kv_node *kv_node_next_of(struct kv_node *n);
/* A new node with one reference, in the tables; NULL: no memory, or too many. */
struct kv_node *kv_node_new(struct kv_nodes *nodes, uint64_t id, uint64_t generation, uint32_t mode);
/* The same under an id that no inode the kernel still uses can have. */
struct kv_node *kv_node_new_private(struct kv_nodes *nodes, uint64_t ino);
void kv_node_remove(struct kv_nodes *nodes, struct kv_node *n);
/* It is in no table, and nobody has it. */
void kv_node_free(struct kv_node *n);
void kv_node_unname(struct kv_nodes *nodes, struct kv_node *n);
/* Takes a reference, of an idle node too. */
void kv_node_ref(struct kv_nodes *nodes, struct kv_node *n);
/* One user of the content less; the value, if that was the last, is the caller's to close without the lock.  Takes NULL. */
struct kvfs_value *kv_content_put(struct kv_content *c);
/* The node of an id that is to be opened: referenced, and `opening` when this call has to do that.  -ESTALE: it is a session's, say. */
int kv_node_begin_opening(struct kv_nodes *nodes, uint64_t id, struct kv_node **ret);
void kv_node_end_opening(struct kv_nodes *nodes, struct kv_node *n);
/* What a node shows is the version that `st` tells of. */
bool kv_node_is_version(const struct kv_node *n, const struct kvfs_stat *st);

/* Names that are not there; these two take the lock themselves. */

/* Whether the kernel may remember that a name is not there: when it is asked for again.  Not the first time, which most often comes just before
 * the name is made: the kernel takes what it remembers of an absent name for true of the new one for a moment, and would show it. */
bool kv_absent_again(struct kv_nodes *nodes, uint64_t parent, const char *name);
/* Whether the kernel surely does not remember the name as absent. */
bool kv_absent_unknown(struct kv_nodes *nodes, uint64_t parent, const char *name);

#endif
