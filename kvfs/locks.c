/* Advisory locks: see locks.h. */
#include "locks.h"

#include <errno.h>
#include <stdlib.h>

enum { DEADLOCK_STEPS = 10000 }; /* of one search; a longer chain is not noticed */

struct held {
	struct kv_list link;
	struct kv_lock lock;
};

/* An inode with locks or waits. */
struct file {
	struct kv_list link;
	uint64_t ino;
	struct kv_list held, queue;
};

#define container(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
/* The head of a for loop that may take `at` out of the list. */
#define each(at, after, head)                                                                                                      \
	(at) = (head)->next, (after) = (at)->next;                                                                                 \
	(at) != (head);                                                                                                            \
	(at) = (after), (after) = (at)->next

/* ---- lists and tables ---- */

void kv_list_init(struct kv_list *l)
{
	l->prev = l->next = l;
}

static void list_add(struct kv_list *head, struct kv_list *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

static void list_take(struct kv_list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	kv_list_init(l);
}

static bool list_empty(const struct kv_list *head)
{
	return head->next == head;
}

static struct kv_list *slot(struct kv_list *slots, uint64_t key)
{
	return &slots[(key * 0x9e3779b97f4a7c15ull) >> 32 & (KV_LOCK_SLOTS - 1)];
}

struct kv_locks *kv_locks_new(size_t held_max, size_t waits_max)
{
	struct kv_locks *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	for (int i = 0; i < KV_LOCK_SLOTS; i++) {
		kv_list_init(&t->files[i]);
		kv_list_init(&t->by_owner[i]);
		kv_list_init(&t->by_request[i]);
	}
	t->held_max = held_max;
	t->waits_max = waits_max;
	pthread_mutex_init(&t->mutex, NULL);
	pthread_cond_init(&t->given, NULL);
	return t;
}

static struct file *file_find(struct kv_locks *t, uint64_t ino)
{
	struct kv_list *at, *after;

	for (each(at, after, slot(t->files, ino)))
		if (container(at, struct file, link)->ino == ino)
			return container(at, struct file, link);
	return NULL;
}

static struct file *file_make(struct kv_locks *t, uint64_t ino)
{
	struct file *f = file_find(t, ino);

	if (!f) {
		f = calloc(1, sizeof(*f));
		if (!f)
			return NULL;
		f->ino = ino;
		kv_list_init(&f->held);
		kv_list_init(&f->queue);
		list_add(slot(t->files, ino), &f->link);
	}
	return f;
}

static void file_settle(struct file *f)
{
	if (list_empty(&f->held) && list_empty(&f->queue)) {
		list_take(&f->link);
		free(f);
	}
}

/* ---- what is held ---- */

static struct kv_lock *held_of(struct kv_list *at)
{
	return &container(at, struct held, link)->lock;
}

static bool overlap(const struct kv_lock *a, const struct kv_lock *b)
{
	return a->first <= b->last && b->first <= a->last;
}

static bool touch(const struct kv_lock *a, const struct kv_lock *b)
{
	return a->first <= b->last + 1 && b->first <= a->last + 1;
}

static bool is_own(const struct kv_lock *l, const struct kv_lock *want)
{
	return l->flock == want->flock && l->owner == want->owner;
}

static bool in_way(const struct kv_lock *l, const struct kv_lock *want)
{
	return l->flock == want->flock && l->owner != want->owner && overlap(l, want) &&
	       (l->type == KV_LOCK_WRITE || want->type == KV_LOCK_WRITE) && want->type != KV_LOCK_NONE;
}

static const struct kv_lock *blocker(struct file *f, const struct kv_lock *want)
{
	struct kv_list *at, *after;

	for (each(at, after, &f->held))
		if (in_way(held_of(at), want))
			return held_of(at);
	return NULL;
}

static bool yields(struct file *f, const struct kv_lock *want)
{
	struct kv_list *at, *after;

	for (each(at, after, &f->held))
		if (is_own(held_of(at), want) && overlap(held_of(at), want) && held_of(at)->type > want->type)
			return true;
	return false;
}

static struct held *held_new(struct kv_locks *t, struct file *f, const struct kv_lock *lock)
{
	struct held *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->lock = *lock;
	list_add(&f->held, &h->link);
	t->held++;
	return h;
}

static void held_end(struct kv_locks *t, struct kv_list *at)
{
	list_take(at);
	free(container(at, struct held, link));
	t->held--;
}

/* Whether what setting `want` adds has room. */
static bool has_room(const struct kv_locks *t, struct file *f, const struct kv_lock *want)
{
	struct kv_list *at, *after;
	size_t more = want->type != KV_LOCK_NONE, less = 0;

	for (each(at, after, &f->held)) {
		const struct kv_lock *l = held_of(at);

		if (!is_own(l, want) || !touch(l, want))
			continue;
		if (l->type == want->type || (l->first >= want->first && l->last <= want->last))
			less++;
		else if (l->first < want->first && l->last > want->last)
			more++;
	}
	return more <= less || t->held + more - less <= t->held_max;
}

/* Takes the bytes of `want` out of a lock of the same owner.  False when there is no memory for what lies behind them. */
static bool cut(struct kv_locks *t, struct file *f, struct kv_list *at, const struct kv_lock *want)
{
	struct kv_lock *l = held_of(at), behind = *l;

	if (l->last > want->last && l->first < want->first) {
		behind.first = want->last + 1;
		if (!held_new(t, f, &behind))
			return false;
	}
	if (l->first < want->first)
		l->last = want->first - 1;
	else if (l->last > want->last)
		l->first = want->last + 1;
	else
		held_end(t, at);
	return true;
}

/* Gives the owner what he wants, nobody being in the way: his locks of that type become one with it, the others give way. */
static int apply(struct kv_locks *t, struct file *f, const struct kv_lock *want)
{
	struct kv_list *at, *after;
	struct held *made = NULL;

	if (!has_room(t, f, want))
		return -ENOLCK;
	if (want->type != KV_LOCK_NONE && !(made = held_new(t, f, want)))
		return -ENOLCK;
	for (each(at, after, &f->held)) {
		struct kv_lock *l = held_of(at);

		if ((made && l == &made->lock) || !is_own(l, want))
			continue;
		if (made && l->type == want->type && touch(l, want)) {
			if (l->first < made->lock.first)
				made->lock.first = l->first;
			if (l->last > made->lock.last)
				made->lock.last = l->last;
			held_end(t, at);
		} else if (overlap(l, want) && !cut(t, f, at, want)) { /* the only one: it covers all of `want` */
			if (made)
				held_end(t, &made->link);
			return -ENOLCK;
		}
	}
	return 0;
}

/* ---- who waits ---- */

static struct kv_lock_wait *wait_of(struct kv_list *at)
{
	return container(at, struct kv_lock_wait, queued);
}

static void wait_end(struct kv_locks *t, struct kv_lock_wait *w)
{
	list_take(&w->queued);
	list_take(&w->by_owner);
	list_take(&w->by_request);
	t->waits--;
}

static void give_turns(struct kv_locks *t, struct file *f, struct kv_list *turns)
{
	struct kv_list *at, *after;
	bool again;

	pthread_cond_broadcast(&t->given);
	do {
		again = false;
		for (each(at, after, &f->queue)) {
			struct kv_lock_wait *w = wait_of(at);

			if (blocker(f, &w->want))
				continue;
			again |= yields(f, &w->want);
			w->result = apply(t, f, &w->want);
			wait_end(t, w);
			list_add(turns, &w->queued);
		}
	} while (again);
}

/* Whether somebody whom the owner would wait for waits, in the end, for him. */
static bool is_deadlock(struct kv_locks *t, const struct kv_lock *want)
{
	struct kv_list *at, *after, *other, *behind;
	struct kv_lock_wait *met = NULL, *w;
	const struct kv_lock *from = want;
	unsigned steps = DEADLOCK_STEPS;

	t->walk++;
	while (from) {
		for (each(at, after, &file_find(t, from->ino)->held)) {
			const struct kv_lock *l = held_of(at);

			if (steps-- == 0)
				return false;
			if (!in_way(l, from))
				continue;
			if (l->owner == want->owner)
				return true;
			for (each(other, behind, slot(t->by_owner, l->owner))) {
				w = container(other, struct kv_lock_wait, by_owner);
				if (steps-- == 0)
					return false;
				if (w->walk == t->walk || !is_own(&w->want, l))
					continue;
				w->walk = t->walk;
				w->met = met;
				met = w;
			}
		}
		w = met;
		from = w ? &w->want : NULL;
		met = w ? w->met : NULL;
	}
	return false;
}

static int wait_begin(struct kv_locks *t, struct file *f, const struct kv_lock *want, void *request)
{
	struct kv_lock_wait *w;

	/* A process that waits for itself with flock(2) is left waiting everywhere. */
	if (!want->flock && is_deadlock(t, want))
		return -EDEADLK;
	w = t->waits < t->waits_max ? calloc(1, sizeof(*w)) : NULL;
	if (!w)
		return -ENOLCK;
	w->want = *want;
	w->request = request;
	list_add(&f->queue, &w->queued);
	list_add(slot(t->by_owner, want->owner), &w->by_owner);
	list_add(slot(t->by_request, (uintptr_t)request), &w->by_request);
	t->waits++;
	return -EINPROGRESS;
}

/* ---- the interface ---- */

int kv_locks_set(struct kv_locks *t, const struct kv_lock *want, void *request, struct kv_list *turns)
{
	struct file *f = want->type == KV_LOCK_NONE ? file_find(t, want->ino) : file_make(t, want->ino);
	struct kv_lock none = *want;
	int r = 0;

	if (!f)
		return want->type == KV_LOCK_NONE ? 0 : -ENOLCK;
	none.type = KV_LOCK_NONE;
	/* flock(2) changes a lock by giving it up first: were it kept while its owner waits, two readers that want to write would wait
	 * for each other. */
	if (want->flock && want->type == KV_LOCK_WRITE && blocker(f, want) && yields(f, &none)) {
		(void)apply(t, f, &none);
		give_turns(t, f, turns);
	}
	if (blocker(f, want)) {
		r = request ? wait_begin(t, f, want, request) : -EAGAIN;
	} else {
		bool given = yields(f, want);

		r = apply(t, f, want);
		if (given)
			give_turns(t, f, turns);
	}
	file_settle(f);
	return r;
}

bool kv_locks_blocked(struct kv_locks *t, const struct kv_lock *want, struct kv_lock *ret)
{
	struct file *f = file_find(t, want->ino);
	const struct kv_lock *l = f ? blocker(f, want) : NULL;

	if (l)
		*ret = *l;
	return l;
}

bool kv_locks_yields(struct kv_locks *t, const struct kv_lock *want)
{
	struct file *f = file_find(t, want->ino);

	return f && yields(f, want);
}

void kv_locks_flushed(struct kv_locks *t, uint64_t ino, const void *handle, bool flushed)
{
	struct file *f = file_find(t, ino);
	struct kv_list *at, *after;

	if (!f)
		return;
	for (each(at, after, &f->held))
		if (held_of(at)->handle == handle)
			held_of(at)->flushed = flushed;
}

void kv_locks_drop(struct kv_locks *t, uint64_t ino, const void *handle, struct kv_list *turns)
{
	struct kv_list *at, *after;
	struct file *f = file_find(t, ino);

	if (!f)
		return;
	for (each(at, after, &f->held))
		if (held_of(at)->handle == handle)
			held_end(t, at);
	give_turns(t, f, turns);
	file_settle(f);
}

static struct kv_lock_wait *cancel(struct kv_locks *t, struct kv_lock_wait *w)
{
	wait_end(t, w);
	file_settle(file_find(t, w->want.ino));
	return w;
}

struct kv_lock_wait *kv_locks_cancel(struct kv_locks *t, const void *request)
{
	struct kv_list *at, *after;

	for (each(at, after, slot(t->by_request, (uintptr_t)request)))
		if (container(at, struct kv_lock_wait, by_request)->request == request)
			return cancel(t, container(at, struct kv_lock_wait, by_request));
	return NULL;
}

struct kv_lock_wait *kv_locks_cancel_any(struct kv_locks *t)
{
	for (int i = 0; t->waits && i < KV_LOCK_SLOTS; i++)
		if (!list_empty(&t->by_request[i]))
			return cancel(t, container(t->by_request[i].next, struct kv_lock_wait, by_request));
	return NULL;
}

struct kv_lock_wait *kv_locks_turn(struct kv_list *turns)
{
	struct kv_list *at = turns->next;

	if (at == turns)
		return NULL;
	list_take(at);
	return wait_of(at);
}

void kv_locks_free(struct kv_locks *t)
{
	struct kv_list *at, *after, *lock, *behind;
	struct kv_lock_wait *w;

	if (!t)
		return;
	while ((w = kv_locks_cancel_any(t)))
		free(w);
	for (int i = 0; i < KV_LOCK_SLOTS; i++)
		for (each(at, after, &t->files[i])) {
			struct file *f = container(at, struct file, link);

			for (each(lock, behind, &f->held))
				held_end(t, lock);
			file_settle(f);
		}
	pthread_cond_destroy(&t->given);
	pthread_mutex_destroy(&t->mutex);
	free(t);
}
