/* The table of doors, fifth part: what is flushed, so that doors need not ask the disk.  What the words mean is durable.c's. */
#include "doors_table.h"

void kv_doors_set_synced(struct kv_doors *d, int64_t realtime_ns)
{
	int64_t have = d->t->h.synced;

	while (have < realtime_ns && !atomic_compare_exchange_weak(&d->t->h.synced, &have, realtime_ns)) {
	}
}

int64_t kv_doors_synced(struct kv_doors *d)
{
	return d->t->h.synced;
}

bool kv_doors_loose(struct kv_doors *d)
{
	return d->t->h.loose;
}

void kv_doors_set_loose(struct kv_doors *d)
{
	d->t->h.loose = 1;
}

uint64_t kv_doors_recorded(struct kv_doors *d)
{
	return d->t->h.recorded;
}

void kv_doors_set_recorded(struct kv_doors *d, uint64_t txnid)
{
	uint64_t have = d->t->h.recorded;

	while (have < txnid && !atomic_compare_exchange_weak(&d->t->h.recorded, &have, txnid)) {
	}
}

void kv_doors_begin_sync(struct kv_doors *d, bool loose)
{
	d->t->h.recorded = 0;
	d->t->h.loose = loose;
}

void kv_doors_set_durability(struct kv_doors *d, enum kvfs_durability level, int failed)
{
	d->t->door[d->self].durability = level;
	d->t->door[d->self].failed = (uint32_t)failed;
}
