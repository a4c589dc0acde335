/* The table of doors, third part: names that O_EXCL has reserved.  doors_table.h has the bytes.
 *
 * What is reserved is a name in a directory, or a path from the root, of which the directories may not be there; who makes a name asks for both.
 *
 * Invariant D7: a reserved name is in no directory, and only its holder makes it.  A reservation is entered under the store's write lock, while
 * the name is absent; whoever makes a name asks here under the write lock; a holder's publication gives it back under the write lock.  So
 * slots are taken by one process at a time.  Giving back is the holder's own business otherwise, and a dead door's slots are anyone's to empty: the
 * word names the incarnation, which does not come back. */
#include "doors_table.h"

#include <errno.h>
#include <string.h>

#include "err.h"

#define PATH 1 /* in the place of a generation: what is reserved is a key, whatever its directories are */

/* FNV-1a.  Of two names with one hash the second would be refused while the first is being made: less likely than a broken disk. */
static uint64_t name_hash(uint64_t dir, const char *name, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (unsigned i = 0; i < sizeof dir; i++)
		hash = (hash ^ (dir >> 8 * i & 0xff)) * 0x100000001b3;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3;
	return hash;
}

/* Clamped: a damaged word must not lead outside. */
static unsigned names_end(struct kv_doors *d)
{
	return (unsigned)kv_min(d->t->h.names_end, KV_NAMES_MAX);
}

static bool is_taken(struct kv_doors *d, uint64_t hash, unsigned own)
{
	struct table *t = d->t;

	for (unsigned i = 0; i < names_end(d); i++) {
		uint64_t owner = t->name[i].owner;

		if (owner && t->name[i].hash == hash && i + 1 != own && kv_doors_owner_alive(d, owner))
			return true;
	}
	return false;
}

bool kv_doors_name_taken(struct kv_doors *d, uint64_t dir, const char *name, size_t len, unsigned own)
{
	return d->t->h.names_end && is_taken(d, name_hash(dir, name, len), own);
}

bool kv_doors_any_path(struct kv_doors *d)
{
	unsigned i = 0, end = names_end(d);

	while (i < end && (uint32_t)d->t->name[i].owner != PATH)
		i++;
	return i < end;
}

/* The first free slot, or KV_NAMES_MAX.  `deep`: one of a door that died is free, too. */
static unsigned free_slot(struct kv_doors *d, bool deep)
{
	unsigned i = 0;

	for (; i < KV_NAMES_MAX; i++) {
		uint64_t owner = d->t->name[i].owner;

		if (!owner || (deep && !kv_doors_owner_alive(d, owner)))
			break;
	}
	return i;
}

int kv_doors_name_take(struct kv_doors *d, uint64_t dir, const char *name, size_t len, unsigned *ret)
{
	struct table *t = d->t;
	uint64_t hash = name_hash(dir, name, len);
	uint32_t end = names_end(d);
	bool path = memchr(name, '/', len);

	if (is_taken(d, hash, 0))
		return -EEXIST;
	while (end && !t->name[end - 1].owner)
		end--;
	unsigned slot = free_slot(d, false);
	if (slot == KV_NAMES_MAX)
		slot = free_slot(d, true);
	if (slot == KV_NAMES_MAX)
		return kv_fail(ENFILE);
	t->name[slot].owner = 0;
	t->name[slot].hash = hash;
	t->h.names_end = (uint32_t)kv_max(end, slot + 1);
	t->name[slot].owner = kv_owner_word(path ? PATH : 0, d->self, d->incarnation); /* last: a slot with an owner is whole */
	*ret = slot + 1;
	return 0;
}

void kv_doors_name_give_back(struct kv_doors *d, unsigned own)
{
	d->t->name[own - 1].owner = 0;
}

void kv_doors_sweep_names(struct kv_doors *d, unsigned door)
{
	uint32_t now = d->t->door[door].incarnation;

	for (unsigned i = 0; i < KV_NAMES_MAX; i++) {
		uint64_t owner = d->t->name[i].owner;

		if (owner && kv_owner_door(owner) == door && kv_owner_incarnation(owner) != now)
			atomic_compare_exchange_strong(&d->t->name[i].owner, &owner, 0);
	}
}
