/* What the store is, and its change log; see check.h. */
#include <errno.h>

#include "check.h"
#include "err.h"

int kv_check_meta(struct kv_check *c)
{
	struct kv_rec_super super;
	struct kv_rows rows;
	int r = kv_rows_open(&rows, c, KV_META);
	if (r == 0)
		r = kv_rows_get(&rows, "store", 5, NULL);
	bool there = r == 1 && rows.value.len >= sizeof super;
	if (there)
		memcpy(&super, rows.value.data, sizeof super);
	kv_rows_close(&rows);
	if (r < 0)
		return r;
	c->layout = (struct kv_layout){kv_chunk_size_for(c->pages->page_size), KV_INLINE_MAX};
	if (!there) {
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "the store's own record is damaged");
		return 0;
	}
	if (super.format != KV_FORMAT_VERSION || super.page_size != c->pages->page_size || super.chunk_size < 512 ||
		super.chunk_size > 1 << 20 || super.inline_max > KV_TAIL_BUF || super.inline_max >= super.chunk_size) {
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "the store's own record says what cannot be");
		return 0;
	}
	c->layout = (struct kv_layout){super.chunk_size, super.inline_max};
	return 0;
}

/* ---- the log ---- */

#define WINDOW 8192u /* sequences that are looked at: the ring has fewer */

struct ring {
	struct kv_check *check;
	uint64_t from, twice;
	uint8_t there[WINDOW / 8];
	uint32_t changes;
};

static int count_change(void *arg, const struct kv_change *change)
{
	struct ring *ring = arg;
	ring->changes++;
	return change->rec.kind >= KV_CHANGE_PUT && change->rec.kind <= KV_CHANGE_APPEND ? 0 : -EUCLEAN;
}

static void see_record(struct ring *ring, uint64_t seq, struct kv_bytes rec)
{
	struct kv_rec_log log;
	struct kv_change change;
	bool sound = rec.len >= sizeof log;
	if (sound) {
		memcpy(&log, rec.data, sizeof log);
		ring->changes = 0;
		sound = kv_changes_walk(
				(const uint8_t *)rec.data + sizeof log, rec.len - sizeof log, &change, count_change, ring) == 0 &&
			ring->changes == log.nchanges;
	}
	if (!sound)
		kv_check_found(ring->check, KVFS_FINDING_LOST, NULL, "change %llu cannot be read", (unsigned long long)seq);
	uint64_t i = seq - ring->from;
	if (seq < ring->from || i >= WINDOW)
		return;
	ring->twice += ring->there[i / 8] >> (i % 8) & 1;
	ring->there[i / 8] |= (uint8_t)(1u << (i % 8));
}

/* A record in a pack: see changelog.c. */
struct packed {
	uint64_t seq;
	uint32_t len;
} KV_PACKED;

static void see_pack(struct ring *ring, uint64_t key, struct kv_bytes pack)
{
	const uint8_t *p = pack.data;
	uint64_t before = 0;
	for (size_t at = 0; at < pack.len;) {
		struct packed head = {0};
		if (pack.len - at >= sizeof head)
			memcpy(&head, p + at, sizeof head);
		if (pack.len - at < sizeof head || head.len > pack.len - at - sizeof head ||
			(at ? head.seq <= before : head.seq != key)) {
			kv_check_found(ring->check, KVFS_FINDING_LOST, NULL, "history record %llu cannot be read",
				(unsigned long long)key);
			return;
		}
		at += sizeof head;
		see_record(ring, head.seq, (struct kv_bytes){p + at, head.len});
		at += head.len;
		before = head.seq;
	}
}

static int find_head(struct kv_check *c, struct kv_rows *rows)
{
	int r;
	c->headless = true;
	while ((r = kv_rows_next(rows)) == 1) {
		c->headless = rows->key.len != 8 || rows->value.len < sizeof c->head.rec;
		if (c->headless)
			continue;
		c->head.seq = kv_rows_id(rows);
		memcpy(&c->head.rec, rows->value.data, sizeof c->head.rec);
	}
	c->seen.sequence = c->head.seq;
	if (r == 0 && c->headless) {
		kv_check_found(c, KVFS_FINDING_LOST, NULL, "the change log has no last record: the store's counters are not known");
		c->head = (struct kv_head){.seq = UINT64_MAX, .rec = {.next_ino = UINT64_MAX, .next_blob = UINT64_MAX}};
	}
	return r;
}

static int see_table(struct ring *ring, enum kv_table table)
{
	struct kv_rows rows;
	int r = kv_rows_open(&rows, ring->check, table);
	rows.tell = table == KV_HISTORY; /* the log's were told when its last was looked for */
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1) {
		if (rows.key.len != 8)
			kv_check_found(ring->check, KVFS_FINDING_WRONG, NULL, "a key of the change log is none");
		else if (table == KV_LOG)
			see_record(ring, kv_rows_id(&rows), rows.value);
		else
			see_pack(ring, kv_rows_id(&rows), rows.value);
	}
	kv_rows_close(&rows);
	return r;
}

int kv_check_log(struct kv_check *c)
{
	struct kv_rows rows;
	int r = kv_rows_open(&rows, c, KV_LOG);
	rows.tell = true;
	if (r == 0)
		r = find_head(c, &rows);
	kv_rows_close(&rows);
	if (r || c->headless)
		return r;
	uint64_t last = c->head.seq, missing = 0;
	struct ring ring = {.check = c, .from = last >= WINDOW ? last - WINDOW + 1 : 1};
	r = see_table(&ring, KV_HISTORY);
	if (r == 0)
		r = see_table(&ring, KV_LOG);
	/* a pack goes when its key is so far behind, and its records may be 15 after that */
	uint64_t first = last > KV_LOG_RECORDS ? last - KV_LOG_RECORDS + KV_LOG_PACK : 1;
	for (uint64_t i = first - ring.from; i <= last - ring.from; i++)
		missing += !(ring.there[i / 8] >> (i % 8) & 1);
	if (missing || ring.twice)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "of the last changes %llu are not in the log, %llu are there twice",
			(unsigned long long)missing, (unsigned long long)ring.twice);
	return r;
}
