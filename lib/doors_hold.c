/* The table of doors, second part: holds and what became of them.  doors_table.h has the bytes and the invariants.
 *
 * A process counts its handles in a table of its own and enters one shared slot for each (blob, gen), so that only the first handle
 * and the last touch shared memory. */
#include "doors_table.h"

#include <errno.h>
#include <stdlib.h>

#include "err.h"

#define RING_TRIES 8

#define OWNER_WANTED (1ull << 63)

static uint32_t owner_gen(uint64_t owner)
{
	return (uint32_t)owner;
}

/* ---- holds: the shared side ---- */

static unsigned bucket_of(uint64_t blob)
{
	return (unsigned)(blob * 0x9e3779b97f4a7c15 >> (64 - BUCKET_BITS));
}

static struct hold *hold_at(struct table *t, uint32_t slot)
{
	return &t->bucket[slot / BUCKET_SLOTS].slot[slot % BUCKET_SLOTS];
}

/* D4: the buckets from the blob's own to the one before the slot's. */
static void marks_add(struct table *t, uint64_t blob, uint32_t slot, uint32_t delta)
{
	for (unsigned b = bucket_of(blob); b != slot / BUCKET_SLOTS; b = (b + 1) % BUCKETS)
		t->mark[b] += delta;
}

/* D5 */
static void tell_released(struct table *t, uint64_t blob)
{
	unsigned at = bucket_of(blob);

	for (unsigned i = 0; i < RING_TRIES; i++) {
		uint64_t there = 0;

		if (atomic_compare_exchange_strong(&t->ring[(at + i) % RING], &there, blob) || there == blob) {
			t->h.pending = 1;
			return;
		}
	}
	t->h.all = 1;
}

static int64_t free_slot(struct table *t, uint64_t blob)
{
	unsigned b = bucket_of(blob);

	for (unsigned i = 0; i < BUCKETS; i++, b = (b + 1) % BUCKETS) {
		for (unsigned k = 0; k < BUCKET_SLOTS; k++) {
			if (!t->bucket[b].slot[k].owner)
				return b * BUCKET_SLOTS + k;
		}
	}
	return -ENFILE;
}

static int64_t slot_take(struct kv_doors *d, uint64_t blob, uint32_t gen)
{
	struct table *t = d->t;

	for (;;) {
		int64_t slot = free_slot(t, blob);
		uint64_t nobody = 0;

		if (slot < 0)
			return slot;
		marks_add(t, blob, (uint32_t)slot, 1);
		if (atomic_compare_exchange_strong(
			    &hold_at(t, (uint32_t)slot)->owner, &nobody, kv_owner_word(gen, d->self, d->incarnation))) {
			hold_at(t, (uint32_t)slot)->blob = blob;
			return slot;
		}
		marks_add(t, blob, (uint32_t)slot, -1u);
	}
}

static void slot_give_back(struct kv_doors *d, uint64_t blob, uint32_t slot)
{
	struct hold *h = hold_at(d->t, slot);
	uint64_t owner;

	h->blob = 0;
	owner = atomic_exchange(&h->owner, 0);
	marks_add(d->t, blob, slot, -1u);
	if (owner & OWNER_WANTED)
		tell_released(d->t, blob);
}

/* Frees a slot whose owner is dead.  The word names the incarnation, so it cannot have come back meanwhile; taking the slot
 * over first keeps every other recoverer, and every new owner, out until it is clean. */
static void slot_recover(struct kv_doors *d, uint32_t slot, uint64_t dead)
{
	struct hold *h = hold_at(d->t, slot);
	uint64_t mine = kv_owner_word(0, d->self, d->incarnation) | OWNER_WANTED, blob;

	if (!atomic_compare_exchange_strong(&h->owner, &dead, mine))
		return;
	blob = h->blob;
	h->blob = 0;
	h->owner = 0;
	if (blob) {
		marks_add(d->t, blob, slot, -1u);
		tell_released(d->t, blob);
	}
}

void kv_doors_sweep(struct kv_doors *d, unsigned door)
{
	struct table *t = d->t;
	uint32_t now = t->door[door].incarnation;

	for (uint32_t slot = 0; slot < KV_HOLDS_MAX; slot++) {
		uint64_t owner = hold_at(t, slot)->owner;

		if (owner && kv_owner_door(owner) == door && kv_owner_incarnation(owner) != now)
			slot_recover(d, slot, owner);
	}
	t->h.all = 1;
	kv_doors_sweep_names(d, door);
}

static void reap_all(struct kv_doors *d)
{
	for (unsigned slot = 0; slot < kv_doors_end(d); slot++)
		kv_doors_reap(d, slot);
}

/* ---- holds: the counted side ---- */

/* A hold of this process: one shared slot for all its handles on (blob, gen). */
struct local {
	uint64_t blob;
	uint32_t gen;
	uint32_t refs; /* 0: empty */
	uint32_t slot; /* in the table: bucket * BUCKET_SLOTS + place */
};

static size_t local_hash(const struct kv_doors *d, uint64_t blob, uint32_t gen)
{
	uint64_t x = (blob ^ (uint64_t)gen << 40) * 0x9e3779b97f4a7c15;

	return (x ^ x >> 32) & (d->local_size - 1);
}

/* The entry of (blob, gen), or the empty one where it belongs. */
static struct local *local_find(const struct kv_doors *d, uint64_t blob, uint32_t gen)
{
	size_t i = local_hash(d, blob, gen);

	while (d->local[i].refs && (d->local[i].blob != blob || d->local[i].gen != gen))
		i = (i + 1) & (d->local_size - 1);
	return &d->local[i];
}

static int local_reserve(struct kv_doors *d)
{
	struct local *old = d->local, *bigger;
	size_t old_size = d->local_size, size = old_size ? old_size * 2 : 64;

	if (d->nlocal < old_size / 2)
		return 0;
	bigger = calloc(size, sizeof *bigger);
	if (!bigger)
		return kv_fail(ENOMEM);
	d->local = bigger;
	d->local_size = size;
	for (size_t i = 0; i < old_size; i++) {
		if (old[i].refs)
			*local_find(d, old[i].blob, old[i].gen) = old[i];
	}
	free(old);
	return 0;
}

/* Closes the gap, so that no search stops at it too early. */
static void local_remove(struct kv_doors *d, struct local *gone)
{
	size_t mask = d->local_size - 1, gap = (size_t)(gone - d->local);

	for (size_t i = (gap + 1) & mask; d->local[i].refs; i = (i + 1) & mask) {
		size_t home = local_hash(d, d->local[i].blob, d->local[i].gen);

		if (((i - home) & mask) >= ((i - gap) & mask)) {
			d->local[gap] = d->local[i];
			gap = i;
		}
	}
	d->local[gap].refs = 0;
	d->nlocal--;
}

int kv_doors_hold(struct kv_doors *d, uint64_t blob, uint32_t gen)
{
	struct local *l;
	int64_t slot;

	assert(blob);
	KV_GUARD(&d->lock);
	if (local_reserve(d) < 0)
		return kv_fail(ENOMEM);
	l = local_find(d, blob, gen);
	if (l->refs) {
		l->refs++;
		return 0;
	}
	slot = slot_take(d, blob, gen);
	if (slot < 0) {
		reap_all(d);
		slot = slot_take(d, blob, gen);
	}
	if (slot < 0)
		return kv_fail(ENFILE);
	*l = (struct local){.blob = blob, .gen = gen, .refs = 1, .slot = (uint32_t)slot};
	d->nlocal++;
	atomic_store_explicit(&d->t->door[d->self].holds, (uint32_t)d->nlocal, memory_order_relaxed);
	/* The caller's next look at the store is no atomic access of ours: it must not slip before the hold. */
	__sync_synchronize();
	return 0;
}

void kv_doors_release(struct kv_doors *d, uint64_t blob, uint32_t gen)
{
	struct local *l;
	uint32_t slot;

	KV_GUARD(&d->lock);
	assert(d->local_size);
	l = local_find(d, blob, gen);
	assert(l->refs);
	if (--l->refs)
		return;
	slot = l->slot;
	l->refs = 1; /* an entry, until it is removed */
	local_remove(d, l);
	slot_give_back(d, blob, slot);
	atomic_store_explicit(&d->t->door[d->self].holds, (uint32_t)d->nlocal, memory_order_relaxed);
}

void kv_doors_drop_holds(struct kv_doors *d)
{
	for (size_t i = 0; i < d->local_size; i++) {
		if (d->local[i].refs)
			slot_give_back(d, d->local[i].blob, d->local[i].slot);
	}
	d->nlocal = d->local_size = 0;
	free(kv_take(d->local));
}

/* ---- holds: the reaper's questions ---- */

static bool slot_holds(struct kv_doors *d, uint32_t slot, uint64_t blob, uint64_t below)
{
	struct hold *h = hold_at(d->t, slot);

	for (;;) {
		uint64_t owner = h->owner;

		if (!owner || h->blob != blob || owner_gen(owner) >= below)
			return false;
		if (!kv_doors_owner_alive(d, owner)) {
			slot_recover(d, slot, owner);
			continue;
		}
		/* The mark is on this hold if the blob is still there after it: who gives back takes the blob out first. */
		if (!atomic_compare_exchange_strong(&h->owner, &owner, owner | OWNER_WANTED) || h->blob != blob)
			continue;
		return true;
	}
}

bool kv_doors_held(struct kv_doors *d, uint64_t blob, uint64_t below)
{
	unsigned home = bucket_of(blob), b = home;

	__sync_synchronize(); /* as in kv_doors_hold(): what the caller has read comes before */
	do {
		for (unsigned k = 0; k < BUCKET_SLOTS; k++) {
			if (slot_holds(d, b * BUCKET_SLOTS + k, blob, below))
				return true;
		}
	} while (d->t->mark[b] && (b = (b + 1) % BUCKETS) != home);
	return false;
}

uint64_t kv_doors_holds(struct kv_doors *d)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < kv_doors_end(d); i++) {
		uint32_t holds = d->t->door[i].id ? d->t->door[i].holds : 0;

		if (holds && kv_doors_slot_alive(d, i))
			sum += holds;
	}
	return sum;
}

size_t kv_doors_released(struct kv_doors *d, uint64_t *ret, size_t n, bool *ret_all)
{
	struct table *t = d->t;
	size_t count = 0;

	/* A death is seen by nobody but who looks: one slot a call is cheap and soon all of them. */
	kv_doors_reap(d, atomic_fetch_add(&d->next_reap, 1) % kv_doors_end(d));
	*ret_all = t->h.all && atomic_exchange(&t->h.all, 0);
	if (!t->h.pending || !atomic_exchange(&t->h.pending, 0))
		return 0;
	for (unsigned i = 0; i < RING; i++) {
		if (!t->ring[i])
			continue;
		if (count == n) {
			t->h.pending = 1;
			break;
		}
		ret[count] = atomic_exchange(&t->ring[i], 0);
		count += ret[count] != 0;
	}
	return count;
}

void kv_doors_look_again(struct kv_doors *d)
{
	d->t->h.all = 1;
}

uint64_t kv_doors_walk(struct kv_doors *d)
{
	return d->t->h.walk;
}

void kv_doors_set_walk(struct kv_doors *d, uint64_t at)
{
	d->t->h.walk = at;
}
