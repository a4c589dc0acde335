/* Intents; see intent.h. */
#include "intent.h"
#include "node_table.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum {
	INTENTS_MAX = 1024,
	INTENT_MS = 3000, /* a retry comes within microseconds, or never */
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void kv_intent_free(struct kv_nodes *nodes, struct kv_intent *i)
{
	if (!i)
		return;
	kv_node_put(nodes, i->made);
	free(i);
}

void kv_intent_keep(struct kv_nodes *nodes, struct kv_intent *i)
{
	struct kv_intent *last = NULL;

	if (!i)
		return;
	kv_nodes_lock(nodes);
	i->next = nodes->intents;
	nodes->intents = i;
	if (++nodes->intent_count > INTENTS_MAX) {
		struct kv_intent **p = &nodes->intents;

		while ((*p)->next)
			p = &(*p)->next;
		last = *p;
		*p = NULL;
		nodes->intent_count--;
	}
	kv_nodes_unlock(nodes);
	kv_intent_free(nodes, last);
}

struct kv_intent *kv_intent_take(struct kv_nodes *nodes, pid_t tid, uint64_t ino)
{
	struct kv_intent *found = NULL, *late = NULL, *i, **p;
	int64_t now = now_ms();

	kv_nodes_lock(nodes);
	for (p = &nodes->intents; (i = *p);) {
		bool match = !found && i->tid == tid && (tid || kv_node_ino(i->refused) == ino);

		if (!match && i->until_ms > now) {
			p = &i->next;
			continue;
		}
		*p = i->next;
		nodes->intent_count--;
		if (match) {
			found = i;
		} else {
			i->next = late;
			late = i;
		}
	}
	kv_nodes_unlock(nodes);
	while ((i = late)) {
		late = i->next;
		kv_intent_free(nodes, i);
	}
	return found;
}

void kv_intents_end(struct kv_nodes *nodes)
{
	for (struct kv_intent *i; (i = nodes->intents);) {
		nodes->intents = i->next;
		kv_intent_free(nodes, i);
	}
}

int kv_intent_refuse(struct kv_nodes *nodes, struct kv_intent *i, pid_t tid, uint64_t id, enum kv_want want)
{
	kv_intent_free(nodes, i);
	i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	i->tid = tid;
	i->until_ms = now_ms() + INTENT_MS;
	i->want = want;
	i->refused = id;
	kv_intent_keep(nodes, i);
	return -ESTALE;
}

bool kv_intent_by_proc(const struct kv_intent *i, uint64_t id)
{
	return i && !i->looked && i->refused == id;
}
