/* The table of doors, third part: feeds, for which others wait.  doors_table.h has the bytes and the invariants D1 to D6.
 *
 * A door with a feed drops what it has cached of a change before the call that committed the change returns.  What keeps that right, in
 * whatever order the processes run and wherever one is stopped or killed:
 *  F1  A feed says that it caches before it reads what it caches; who commits looks who caches after the commit is visible.  So either
 *      the commit waits for the feed, or the feed has read what is newer.
 *  F2  The low half of `mounts` is a count that is made anew, from `state`, whenever a feed comes, goes or is found dead; the upper half
 *      changes each time, so that of two who count at once the later counts again.  It is never too low, and nobody adds to it.
 *  F3  A feed that is given up is marked first.  The feed takes the mark away before it begins the read that tells it so: what was
 *      committed until then without waiting is in that read, what comes later waits again.
 *  F4  Nobody waits for long: for a process that is stopped or gone LOOK_MS, for another GIVE_UP_MS.  A door with a feed waits for none
 *      while it serves: two mounts that waited for each other would deadlock in the kernel. */
#include "doors_table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define LOOK_MS 20
#define GIVE_UP_MS 2000

#define MOUNTS_COUNT 0xffffu

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return kv_ns(ts) / 1000000;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	syscall(SYS_futex, word, FUTEX_WAIT, seen, &ts, NULL, 0);
}

static void futex_raise(_Atomic uint32_t *word)
{
	++*word;
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool is_feed(struct kv_doors *d, unsigned slot)
{
	return d->t->door[slot].state & DOOR_FEED;
}

/* F2 */
static void count_feeds(struct kv_doors *d)
{
	uint32_t had = d->t->h.mounts, n;

	do {
		n = 0;
		for (unsigned i = 0; i < kv_doors_end(d); i++)
			n += is_feed(d, i);
	} while (!atomic_compare_exchange_strong(&d->t->h.mounts, &had, ((had | MOUNTS_COUNT) + 1) | n));
}

static unsigned feeds(struct kv_doors *d)
{
	return d->t->h.mounts & MOUNTS_COUNT;
}

/* How many there were. */
static unsigned kick_all_but(struct kv_doors *d, unsigned slot)
{
	unsigned n = 0;

	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		if (i == slot || !is_feed(d, i))
			continue;
		futex_raise(&d->t->door[i].kick);
		n++;
	}
	return n;
}

/* ---- waiting for a feed ---- */

/* The process is stopped, by a signal or a debugger.  What cannot be read is taken for running: the deadline ends the wait then. */
static bool is_stopped(const struct door *door)
{
	char path[32], line[256];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%u/stat", door->pid);
	KV_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
	line[n > 0 ? n : 0] = '\0';
	const char *name_end = strrchr(line, ')');
	return name_end && (!strncmp(name_end, ") T", 3) || !strncmp(name_end, ") t", 3));
}

/* F3 */
static void mark_lagging(struct door *door)
{
	uint32_t state = door->state;

	while (state & DOOR_FEED && !atomic_compare_exchange_weak(&door->state, &state, state | DOOR_LAGGING)) {
	}
}

/* True when the wait is to end: the door is gone, or was marked. */
static bool give_up(struct kv_doors *d, unsigned slot, bool late)
{
	if (!kv_doors_slot_alive(d, slot)) {
		kv_doors_reap(d, slot);
		return true;
	}
	if (!late && !is_stopped(&d->t->door[slot]))
		return false;
	mark_lagging(&d->t->door[slot]);
	return true;
}

static void await_feed(struct kv_doors *d, unsigned slot, uint64_t seq, int64_t deadline)
{
	struct door *door = &d->t->door[slot];
	int64_t look = now_ms() + LOOK_MS;

	for (;;) {
		uint32_t word = door->futex; /* before what it tells of */

		if ((door->state & (DOOR_FEED | DOOR_CACHING | DOOR_LAGGING)) != (DOOR_FEED | DOOR_CACHING) || door->handled >= seq)
			return;
		int64_t now = now_ms();
		if (now >= look) {
			if (give_up(d, slot, now >= deadline))
				return;
			look = now + LOOK_MS;
			futex_raise(&door->kick); /* it may have come too late for the first */
		}
		futex_wait(&door->futex, word, look - now);
	}
}

static void await_others(struct kv_doors *d, uint64_t seq)
{
	int64_t deadline = now_ms() + GIVE_UP_MS;

	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		if (i != d->self && is_feed(d, i))
			await_feed(d, i, seq, deadline);
	}
}

void kv_doors_tell(struct kv_doors *d, uint64_t seq)
{
	bool serves;

	atomic_thread_fence(memory_order_seq_cst); /* F1: the commit was no atomic access of ours */
	if (!feeds(d))
		return;
	serves = is_feed(d, d->self);
	if (serves && feeds(d) == 1)
		return;
	if (!kick_all_but(d, d->self))
		count_feeds(d); /* somebody was killed while counting */
	else if (!serves)
		await_others(d, seq);
}

/* ---- a feed of this door ---- */

void kv_doors_feed_begin(struct kv_doors *d)
{
	d->t->door[d->self].handled = 0;
	d->t->door[d->self].state = DOOR_FEED;
	count_feeds(d);
	/* They stop caching, because we do not wait for them when we commit. */
	if (kick_all_but(d, d->self))
		await_others(d, UINT64_MAX);
}

void kv_doors_feed_gone(struct kv_doors *d, unsigned slot)
{
	struct door *door = &d->t->door[slot];

	if (!(atomic_exchange(&door->state, 0) & DOOR_FEED))
		return;
	count_feeds(d);
	futex_raise(&door->futex);
	kick_all_but(d, slot);
}

void kv_doors_feed_end(struct kv_doors *d)
{
	kv_doors_feed_gone(d, d->self);
}

bool kv_doors_feed_alone(struct kv_doors *d)
{
	bool alone = true;

	if (feeds(d) <= 1)
		return true;
	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		if (i == d->self || !is_feed(d, i))
			continue;
		kv_doors_reap(d, i);
		alone = alone && !is_feed(d, i);
	}
	return alone;
}

bool kv_doors_feed_set_caching(struct kv_doors *d, bool caching)
{
	struct door *door = &d->t->door[d->self];

	if (caching) {
		door->state |= DOOR_CACHING;
		atomic_thread_fence(memory_order_seq_cst); /* F1 */
		/* one that came meanwhile has not seen that we cache, or waits for us */
		caching = kv_doors_feed_alone(d);
	}
	if (!caching) {
		door->state &= ~(uint32_t)DOOR_CACHING;
		futex_raise(&door->futex);
	}
	return caching;
}

void kv_doors_feed_handled(struct kv_doors *d, uint64_t seq)
{
	d->t->door[d->self].handled = seq;
	futex_raise(&d->t->door[d->self].futex);
}

bool kv_doors_feed_caught_lagging(struct kv_doors *d)
{
	return atomic_fetch_and(&d->t->door[d->self].state, ~(uint32_t)DOOR_LAGGING) & DOOR_LAGGING;
}

uint32_t kv_doors_feed_kicks(struct kv_doors *d)
{
	return d->t->door[d->self].kick;
}

void kv_doors_feed_kick(struct kv_doors *d)
{
	futex_raise(&d->t->door[d->self].kick);
}

bool kv_doors_feed_sleep(struct kv_doors *d, uint32_t seen, int ms)
{
	_Atomic uint32_t *kick = &d->t->door[d->self].kick;
	int64_t end = now_ms() + ms, now;

	while (*kick == seen && (now = now_ms()) < end)
		futex_wait(kick, seen, end - now);
	return *kick != seen;
}
