/* The bytes of the table of doors (FORMAT.md) and what a process keeps beside them; for doors.c, who is there, doors_hold.c, what is
 * held, doors_feed.c, who is waited for, doors_names.c, what is reserved, and doors_sync.c, what is flushed.
 *
 * Any process may be killed between any two instructions, and nothing here waits for another process.  What keeps it right:
 *  D1  A door is alive while its process holds the write lock on byte [slot] of the file.  Only who holds that lock writes the slot,
 *      but for what is told to a feed: `kick`, and the mark in `state`.
 *  D2  A slot that is taken gets a new incarnation, and holds name the incarnation: all those of an earlier one are void at once.
 *      `dirty` stays set from the claim to the orderly end: who finds it set sweeps the table and sets `all`.
 *  D3  A hold slot belongs to whoever put its word in `owner` by compare-and-swap; a free one has blob 0.  So what a scan sees
 *      of a slot in transition is at worst a hold too many, and a slot half taken falls with its door.
 *  D4  mark[b] counts the holds that live behind bucket b because it was full.  It is raised before and lowered after the hold is
 *      there; a kill between leaves it too high, which costs a look at one more bucket.
 *  D5  A hold that stood in the reaper's way is marked `wanted`, and its release is told in the ring.  What the ring cannot
 *      take, or a dead door can no longer tell, turns into `all`.
 *  D6  The file's name changes only under a lock on the whole file it names, so no door lives in a table without a name. */
#ifndef KV_DOORS_TABLE_H
#define KV_DOORS_TABLE_H

#include "doors.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "util.h"

#define BUCKET_BITS 13
#define BUCKETS (1u << BUCKET_BITS)
#define BUCKET_SLOTS (KV_HOLDS_MAX / BUCKETS)
#define RING 512
#define INCARNATIONS 0x7fff

/* What makes a file a table for this program at this boot.  Fixed when the file is made; everything else is atomic. */
struct shape {
	char magic[8];
	uint32_t version;
	uint32_t header_size;
	uint32_t doors, door_size;
	uint32_t buckets, bucket_size;
	uint32_t ring;
	uint32_t file_size;
	uint64_t boot; /* hash of the boot id: an older table is void whatever a power cut made of it */
};

struct header {
	struct shape shape;
	_Alignas(64) _Atomic uint32_t doors_end; /* no slot from here on was ever taken */
	_Atomic uint32_t all; /* the ring does not tell everything */
	_Atomic uint32_t pending; /* the ring has something */
	_Atomic uint32_t mounts; /* low half: doors with a feed, give or take those that died; upper half: changes of it */
	_Atomic int64_t synced;
	_Atomic uint64_t walk; /* kv_doors_walk() */
	_Atomic uint32_t names_end; /* no slot of `name` from here on is taken; written under the store's write lock only */
	_Atomic uint32_t
		loose; /* commits are not flushed each; changed under the store's write lock, or by who has the store alone */
	_Atomic uint64_t recorded; /* transaction of the newest state that the file `sync` has on the disk; 0 none */
	uint8_t pad[4096 - 64 - 48];
};

enum {
	DOOR_FEED = 1 << 0, /* it has a feed */
	DOOR_CACHING = 1 << 1, /* which others wait for */
	DOOR_LAGGING = 1 << 2, /* but one did in vain: it has not dropped what it should */
};

struct door {
	_Atomic uint64_t id; /* 0: empty, or being filled or emptied */
	_Atomic uint32_t incarnation; /* 1..INCARNATIONS */
	_Atomic uint32_t dirty;
	_Atomic uint32_t pid;
	_Atomic uint32_t holds;
	_Atomic uint64_t started; /* field 22 of /proc/PID/stat: (pid, started) is a process */
	_Atomic uint64_t pidns; /* inode number of /proc/self/ns/pid */
	_Atomic uint64_t boot;
	_Atomic int64_t since; /* CLOCK_REALTIME, ns */
	_Atomic int64_t snapshot; /* when the oldest one began, CLOCK_MONOTONIC, ns; 0 none */
	_Atomic uint64_t handled; /* log sequence up to which this door has acted on changes */
	_Atomic uint32_t futex; /* grows with it: what others wait on */
	_Atomic uint32_t state; /* DOOR_ flags: the feed */
	_Atomic uint64_t purpose[2];
	_Atomic uint32_t path_changes; /* odd while the mountpoint is being written */
	_Atomic uint32_t kick; /* futex of a mount: grows when there is something for it to handle */
	_Atomic uint64_t mountpoint[32];
	_Atomic uint32_t durability; /* enum kvfs_durability */
	_Atomic uint32_t failed; /* an errno: a flush failed, it writes no more */
	uint64_t pad[18];
};

struct hold {
	_Atomic uint64_t owner; /* kv_owner_word(), OWNER_WANTED; 0 free */
	_Atomic uint64_t blob; /* 0 while the slot is being taken or given back */
};

struct bucket {
	struct hold slot[BUCKET_SLOTS];
};

/* A name that O_EXCL has reserved. */
struct reserved_name {
	_Atomic uint64_t owner; /* kv_owner_word() with generation 0; 0 free */
	_Atomic uint64_t hash; /* of (directory, name); means nothing in a free slot */
};

struct table {
	struct header h;
	struct door door[KV_DOORS_MAX];
	_Atomic uint64_t ring[RING]; /* blobs; 0 free */
	_Atomic uint32_t mark[BUCKETS];
	struct bucket bucket[BUCKETS];
	struct reserved_name name[KV_NAMES_MAX];
};

static_assert(sizeof(struct header) == 4096 && sizeof(struct door) == 512 && sizeof(struct bucket) == 128, "FORMAT.md");
static_assert(offsetof(struct header, doors_end) == 64 && offsetof(struct door, mountpoint) == 104, "FORMAT.md");
static_assert(offsetof(struct table, ring) == 0x41000 && offsetof(struct table, mark) == 0x42000, "FORMAT.md");
static_assert(
	offsetof(struct table, bucket) == 0x4a000 && offsetof(struct table, name) == 0x14a000 && sizeof(struct table) == 0x14e000,
	"FORMAT.md");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock inside an atomic would not be shared");

struct kv_doors {
	int fd;
	struct table *t;
	unsigned self; /* our slot */
	uint32_t incarnation;
	uint64_t id;
	atomic_uint next_reap;

	pthread_mutex_t lock; /* protects what follows */
	struct local *local; /* open addressing, linear; at most half full */
	size_t nlocal, local_size; /* the size is a power of 2 */
	struct kv_doors_snapshot snapshots; /* ring in order of time */

	pthread_mutex_t reap_lock; /* POSIX locks do not keep two threads of a process apart */
};

/* D1; our own slot is alive. */
bool kv_doors_slot_alive(struct kv_doors *d, unsigned slot);
/* Gives a slot its next incarnation; the caller has the lock on its byte. */
void kv_doors_incarnate(struct door *door);
/* The same, and voids what the slot's earlier incarnations left. */
void kv_doors_sweep(struct kv_doors *d, unsigned slot);
/* Cleans up behind a door that died.  Harmless when it lives. */
void kv_doors_reap(struct kv_doors *d, unsigned slot);
/* A feed that was in the slot is there no more.  Harmless when there was none. */
void kv_doors_feed_gone(struct kv_doors *d, unsigned slot);
/* The same for names. */
void kv_doors_sweep_names(struct kv_doors *d, unsigned slot);
/* Gives every hold of this process back. */
void kv_doors_drop_holds(struct kv_doors *d);

/* Who owns a slot of the table: generation in bits 0..31, door in 32..47, incarnation in 48..62 */
static inline uint64_t kv_owner_word(uint32_t gen, unsigned door, uint32_t incarnation)
{
	return gen | (uint64_t)door << 32 | (uint64_t)incarnation << 48;
}

static inline unsigned kv_owner_door(uint64_t owner)
{
	return (owner >> 32) % KV_DOORS_MAX; /* the modulo: a damaged word must not lead outside */
}

static inline uint32_t kv_owner_incarnation(uint64_t owner)
{
	return (owner >> 48) & INCARNATIONS;
}

/* D2 */
static inline bool kv_doors_owner_alive(struct kv_doors *d, uint64_t owner)
{
	unsigned door = kv_owner_door(owner);

	return kv_owner_incarnation(owner) == d->t->door[door].incarnation && kv_doors_slot_alive(d, door);
}

/* Slots from here on were never taken. */
static inline unsigned kv_doors_end(struct kv_doors *d)
{
	return (unsigned)kv_min(kv_max(d->t->h.doors_end, d->self + 1), KV_DOORS_MAX);
}

#endif
