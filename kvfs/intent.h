/* Intents: what is remembered between a refusal and its retry.
 *
 * The kernel answers ESTALE by walking the path once more with a LOOKUP of every name, and then does to what that found what the
 * system call asks for: GETATTR, OPEN, SETATTR, or first GETATTR to check permissions and then OPEN.  The last LOOKUP may come twice.
 * All of it is one system call of one thread, so an intent is found by thread id.  A second request for the same node id without a
 * LOOKUP in between did not come by a path: it is a descriptor, or a link of /proc/<pid>/fd, which leads to the same kernel
 * inode for ever, and is served where it stands, past the page cache. */
#ifndef KVFS_INTENT_H
#define KVFS_INTENT_H

#include "node.h"

/* What a thread was refused for.  A look (stat, or the check of permissions before anything else) may turn out to be either. */
enum kv_want { KV_LOOK, KV_READ, KV_WRITE };

struct kv_intent {
	struct kv_intent *next;
	pid_t tid;
	enum kv_want want;
	bool looked; /* a LOOKUP came since */
	uint64_t refused; /* the node id */
	struct kv_node *made; /* by that LOOKUP, for the OPEN to come */
	int64_t until_ms;
};

/* Takes out the intent of a thread, and those that nobody came back for.  Callers without a thread id are told apart by what they open, as
 * well as that goes.  NULL: it was refused nothing. */
struct kv_intent *kv_intent_take(struct kv_nodes *nodes, pid_t tid, uint64_t ino);
/* Puts it back, or ends it; both take NULL. */
void kv_intent_keep(struct kv_nodes *nodes, struct kv_intent *i);
void kv_intent_free(struct kv_nodes *nodes, struct kv_intent *i);
/* Answers the kernel to come again; `i`, if any, is what the thread was refused for before.  -ESTALE, -ENOMEM */
int kv_intent_refuse(struct kv_nodes *nodes, struct kv_intent *i, pid_t tid, uint64_t id, enum kv_want want);
/* It comes by a descriptor, or by /proc. */
bool kv_intent_by_proc(const struct kv_intent *i, uint64_t id);

#endif
