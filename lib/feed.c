/* Following the changes: the observer of a process's own commits, and feeds, which read everybody's from the log.  doors_feed.c has what is
 * shared between processes.
 *
 * Invariant E1: a change counts as one's own exactly if the commit succeeded.  The sequences of all edits in its transaction are entered while it
 * holds the write lock, and feed_lock is held until they stand or are taken out again: a commit that failed leaves its sequences to another door's. */
#include "feed.h"

#include <assert.h>

#include "err.h"

#define OWN 4096 /* more than the log keeps, so that none is overwritten while it can still be read */
#define KICK_EVERY 512 /* commits of this process: often enough that the log keeps what a feed has not read */

static_assert(OWN >= KV_LOG_RECORDS + 2 * KV_LOG_PACK && KICK_EVERY < KV_LOG_RECORDS / 2, "the ring of the log");
static_assert((int)KVFS_CHANGE_PUT == KV_CHANGE_PUT && (int)KVFS_CHANGE_DELETE == KV_CHANGE_DELETE &&
		      (int)KVFS_CHANGE_RENAME_FROM == KV_CHANGE_RENAME_FROM && (int)KVFS_CHANGE_RENAME_TO == KV_CHANGE_RENAME_TO &&
		      (int)KVFS_CHANGE_MKDIR == KV_CHANGE_MKDIR && (int)KVFS_CHANGE_MAKE == KV_CHANGE_MAKE &&
		      (int)KVFS_CHANGE_ATTR == KV_CHANGE_ATTR && (int)KVFS_CHANGE_APPEND == KV_CHANGE_APPEND,
	"what is on disk is what is said");

struct kvfs_feed {
	struct kv_core *core;
	uint64_t seq; /* read so far */
	uint32_t kicks; /* when the last wait ended */
	bool lost; /* the next read has to say that it lost track */
	_Atomic uint64_t own[OWN]; /* sequences of commits of this process */
};

struct teller {
	struct kvfs_feed *feed; /* NULL: all are our own */
	kvfs_ll_change_fn *fn;
	void *arg;
};

static bool is_own(struct kvfs_feed *feed, uint64_t seq)
{
	if (feed->own[seq % OWN] != seq)
		return false;
	KV_GUARD(&feed->core->feed_lock); /* E1: it may be on its way */
	return feed->own[seq % OWN] == seq;
}

static int tell(void *arg, const struct kv_change *c)
{
	const struct teller *t = arg;
	struct kvfs_ll_change change = {
		.kind = (enum kvfs_change_kind)c->rec.kind,
		.own = !t->feed || is_own(t->feed, c->seq),
		.type = c->rec.type,
		.epoch = c->rec.epoch,
		.sequence = c->seq,
		.ino = c->rec.ino,
		.parent = c->rec.parent,
		.name = c->name,
	};
	return t->fn(t->arg, &change);
}

/* ---- committing ---- */

static void enter_own(struct kvfs_feed *feed, const struct kv_edit *ed, bool own)
{
	for (uint64_t seq = ed->first; seq <= ed->head.seq; seq++)
		feed->own[seq % OWN] = own ? seq : 0;
}

int kv_feed_commit(struct kv_core *core, struct kv_edit *ed, enum kv_sync sync)
{
	if (!core->feed || (kv_edit_is_first(ed) && !ed->changes.count))
		return kv_db_commit(&ed->txn, sync);
	KV_GUARD(&core->feed_lock);
	struct kvfs_feed *feed = core->feed;
	if (feed)
		enter_own(feed, ed, true);
	int r = kv_db_commit(&ed->txn, sync);
	if (r && feed)
		enter_own(feed, ed, false);
	return r;
}

void kv_feed_tell(struct kv_core *core, const struct kv_edit *ed)
{
	struct teller t = {NULL, core->observer, core->observer_arg};
	if (!ed->changes.count || !core->doors)
		return;
	if (t.fn) {
		struct kv_change c = {.seq = ed->seq, .time_ns = kv_ns(ed->now)};
		kv_changes_walk(ed->changes.buf, ed->changes.len, &c, tell, &t);
	}
	if (core->feed && (ed->seq - 1) / KICK_EVERY != ed->head.seq / KICK_EVERY)
		kv_doors_feed_kick(core->doors);
	kv_doors_tell(core->doors, ed->head.seq);
}

int kvfs_ll_observe(struct kvfs_store *store, kvfs_ll_change_fn *fn, void *arg)
{
	struct kv_core *core = store->core;
	int r = kv_core_check(core);
	if (r)
		return r;
	if (fn && core->observer)
		return kv_fail(EBUSY);
	core->observer_arg = arg;
	core->observer = fn;
	return 0;
}

/* ---- the feed ---- */

static int newest(struct kv_core *core, uint64_t *ret)
{
	struct kv_txn txn;
	struct kv_head head;
	int r = kv_db_read(core->db, &txn);
	if (r)
		return r;
	r = kv_log_head(&txn, &head);
	kv_db_read_end(&txn);
	if (r == 0)
		*ret = head.seq;
	return r;
}

static void detach(struct kvfs_feed *feed)
{
	KV_GUARD(&feed->core->feed_lock);
	feed->core->feed = NULL;
}

int kvfs_feed_open(struct kvfs_store *store, struct kvfs_feed **ret)
{
	struct kv_core *core = store->core;
	int r = kv_core_check(core);
	if (r)
		return r;
	if (!core->doors)
		return kv_fail(ENOTSUP);
	KV_FREE struct kvfs_feed *feed = calloc(1, sizeof *feed);
	if (!feed)
		return kv_fail(ENOMEM);
	feed->core = core;
	feed->kicks = kv_doors_feed_kicks(core->doors);
	struct kvfs_feed *none = NULL;
	if (!atomic_compare_exchange_strong(&core->feed, &none, feed))
		return kv_fail(EBUSY);
	kv_doors_feed_begin(core->doors);
	r = newest(core, &feed->seq);
	if (r) {
		kv_doors_feed_end(core->doors);
		detach(feed);
		return r;
	}
	kv_doors_feed_handled(core->doors, feed->seq);
	*ret = kv_take(feed);
	return 0;
}

int kvfs_feed_wait(struct kvfs_feed *feed, int timeout_ms)
{
	struct kv_doors *doors = feed->core->doors;
	uint64_t seq = 0;
	int r = kv_core_check(feed->core);
	if (r)
		return r;
	bool told = kv_doors_feed_sleep(doors, feed->kicks, timeout_ms);
	feed->kicks = kv_doors_feed_kicks(doors); /* before what they tell of is read */
	if (told)
		return 1;
	/* who commits may be killed before it tells */
	r = newest(feed->core, &seq);
	return r ? r : seq != feed->seq;
}

void kvfs_feed_wake(struct kvfs_feed *feed)
{
	if (kv_core_check(feed->core) == 0)
		kv_doors_feed_kick(feed->core->doors);
}

int kvfs_feed_read(struct kvfs_feed *feed, kvfs_ll_change_fn *fn, void *arg)
{
	struct teller t = {feed, fn, arg};
	struct kv_txn txn;
	struct kv_head head;
	int r = kv_core_check(feed->core);
	if (r)
		return r;
	if (kv_doors_feed_caught_lagging(feed->core->doors)) /* before the read begins: doors_feed.c, F3 */
		feed->lost = true;
	r = kv_db_read(feed->core->db, &txn);
	if (r)
		return r;
	r = kv_log_head(&txn, &head);
	if (r == 0 && !feed->lost) {
		r = kv_log_read(&txn, feed->seq, head.seq, tell, &t);
		if (r == -ESTALE || r == -EUCLEAN) { /* what cannot be read is lost too */
			feed->lost = true;
			r = 0;
		}
	}
	kv_db_read_end(&txn);
	if (r)
		return r;
	feed->seq = head.seq;
	bool lost = feed->lost;
	feed->lost = false;
	return lost;
}

uint64_t kvfs_feed_sequence(const struct kvfs_feed *feed)
{
	return feed->seq;
}

void kvfs_feed_done(struct kvfs_feed *feed, uint64_t sequence)
{
	if (kv_core_check(feed->core) == 0)
		kv_doors_feed_handled(feed->core->doors, sequence);
}

bool kvfs_feed_alone(struct kvfs_feed *feed)
{
	return kv_core_check(feed->core) == 0 && kv_doors_feed_alone(feed->core->doors);
}

bool kvfs_feed_set_caching(struct kvfs_feed *feed, bool caching)
{
	return kv_core_check(feed->core) == 0 && kv_doors_feed_set_caching(feed->core->doors, caching);
}

void kvfs_feed_close(struct kvfs_feed *feed)
{
	if (!feed)
		return;
	if (kv_core_check(feed->core) == 0) {
		kv_doors_feed_end(feed->core->doors);
		detach(feed);
	}
	free(feed);
}
