/* Tables log and history; see changelog.h. */
#include "changelog.h"

#include <errno.h>

#include "err.h"

int kv_log_head(struct kv_txn *txn, struct kv_head *ret)
{
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_LOG, &c);
	if (r)
		return r;
	r = kv_cursor_last(&c);
	if (r == 0 && (c.value.len < sizeof ret->rec || c.key.len != 8))
		r = kv_fail(EUCLEAN);
	if (r == 0) {
		memcpy(&ret->rec, c.value.data, sizeof ret->rec);
		memcpy(&ret->seq, c.key.data, sizeof ret->seq);
		ret->seq = be64toh(ret->seq);
	}
	kv_cursor_close(&c);
	if (r == -ENOENT || r == -EUCLEAN) {
		kv_db_set_damage(txn->db, "the change log has no last record");
		return kv_fail(EUCLEAN);
	}
	return r;
}

/* Room for n more bytes. */
static int grow(struct kv_changes *ch, size_t n)
{
	if (ch->buf && ch->len + n <= ch->cap)
		return 0;
	size_t cap = kv_max(ch->len + n, ch->cap ? ch->cap * 2 : 512);
	uint8_t *buf = realloc(ch->buf, cap);
	if (!buf)
		return kv_fail(ENOMEM);
	ch->buf = buf;
	ch->cap = cap;
	return 0;
}

int kv_changes_add_rec(struct kv_changes *ch, const struct kv_rec_change *rec, const char *name)
{
	int r = grow(ch, sizeof *rec + rec->name_len);
	if (r)
		return r;
	memcpy(ch->buf + ch->len, rec, sizeof *rec);
	if (rec->name_len)
		memcpy(ch->buf + ch->len + sizeof *rec, name, rec->name_len);
	ch->len += sizeof *rec + rec->name_len;
	ch->count++;
	return 0;
}

int kv_changes_add(
	struct kv_changes *ch, enum kv_change_kind kind, uint32_t type, uint64_t ino, uint64_t parent, const char *name, size_t len)
{
	struct kv_rec_change rec = {
		.kind = (uint8_t)kind, .type = (uint16_t)type, .name_len = (uint16_t)len, .ino = ino, .parent = parent};
	return kv_changes_add_rec(ch, &rec, name);
}

int kv_changes_walk(const void *buf, size_t len, struct kv_change *c, kv_change_fn *fn, void *arg)
{
	const uint8_t *p = buf;
	for (size_t at = 0; at < len; at += c->rec.name_len) {
		if (len - at < sizeof c->rec)
			return kv_fail(EUCLEAN);
		memcpy(&c->rec, p + at, sizeof c->rec);
		at += sizeof c->rec;
		if (c->rec.name_len >= sizeof c->name || c->rec.name_len > len - at)
			return kv_fail(EUCLEAN);
		memcpy(c->name, p + at, c->rec.name_len);
		c->name[c->rec.name_len] = 0;
		int r = fn(arg, c);
		if (r)
			return r;
	}
	return 0;
}

void kv_changes_free(struct kv_changes *ch)
{
	free(ch->buf);
	*ch = (struct kv_changes){0};
}

/* As many whole changes from `at` as fit in a record, at least one. */
static size_t slice(const struct kv_changes *ch, size_t at, uint32_t *ret_count)
{
	size_t end = at;
	*ret_count = 0;
	while (end < ch->len) {
		struct kv_rec_change rec;
		memcpy(&rec, ch->buf + end, sizeof rec);
		size_t n = sizeof rec + rec.name_len;
		if (end > at && end + n - at > KV_LOG_BYTES)
			break;
		end += n;
		++*ret_count;
	}
	return end;
}

/* ---- the ring's older part ---- */

/* One record of a pack, in front of its bytes. */
struct packed {
	uint64_t seq;
	uint32_t len;
} KV_PACKED;

static int put_pack(struct kv_txn *txn, uint64_t first, const struct iovec *parts, int n)
{
	struct kv_key_ino key = kv_key_u64(first);
	return kv_db_put(txn, KV_HISTORY, &key, sizeof key, parts, n);
}

/* Drops packs that the ring has left behind. */
static int trim(struct kv_txn *txn, uint64_t last)
{
	struct kv_cursor c;
	int r = kv_cursor_open(txn, KV_HISTORY, &c);
	if (r)
		return r;
	c.raw = true;
	r = kv_cursor_seek(&c, NULL, 0);
	while (r == 0) {
		uint64_t seq;
		memcpy(&seq, c.key.data, sizeof seq);
		if (be64toh(seq) + KV_LOG_RECORDS > last)
			break;
		r = kv_cursor_del(&c);
		if (r == 0)
			r = kv_cursor_next(&c);
	}
	kv_cursor_close(&c);
	return r == -ENOENT ? 0 : r;
}

/* Moves all records before `last` from the log to one pack in the history. */
static int pack(struct kv_txn *txn, uint64_t last)
{
	struct kv_changes buf = {0}; /* used for its memory only */
	struct kv_cursor c;
	uint64_t first = 0;
	int r = kv_cursor_open(txn, KV_LOG, &c);
	if (r)
		return r;
	r = kv_cursor_seek(&c, NULL, 0);
	while (r == 0) {
		uint64_t be;
		memcpy(&be, c.key.data, sizeof be);
		if (be64toh(be) >= last)
			break;
		struct packed head = {be64toh(be), (uint32_t)c.value.len};
		first = first ? first : head.seq;
		r = grow(&buf, sizeof head + head.len);
		if (r)
			break;
		memcpy(buf.buf + buf.len, &head, sizeof head);
		memcpy(buf.buf + buf.len + sizeof head, c.value.data, head.len);
		buf.len += sizeof head + head.len;
		r = kv_cursor_del(&c);
		if (r == 0)
			r = kv_cursor_next(&c);
	}
	kv_cursor_close(&c);
	struct iovec part = {buf.buf, buf.len};
	if ((r == 0 || r == -ENOENT) && first)
		r = put_pack(txn, first, &part, 1);
	kv_changes_free(&buf);
	return r == -ENOENT ? 0 : r ? r : trim(txn, last);
}

/* ---- appending ---- */

int kv_log_append(struct kv_txn *txn, struct kv_head *head, const struct kv_changes *ch)
{
	uint64_t first = head->seq;
	size_t at = 0;
	do {
		uint32_t count;
		size_t end = slice(ch, at, &count);
		head->rec.nchanges = count;
		struct kv_key_ino key = kv_key_u64(++head->seq);
		struct packed alone = {head->seq, (uint32_t)(sizeof head->rec + end - at)};
		struct iovec parts[] = {
			{&alone, sizeof alone}, {&head->rec, sizeof head->rec}, {end > at ? ch->buf + at : NULL, end - at}};
		int n = end > at ? 3 : 2;
		/* of a large commit only the last record is the newest one, and goes through the log */
		int r = end < ch->len ? put_pack(txn, head->seq, parts, n)
				      : kv_db_put(txn, KV_LOG, &key, sizeof key, parts + 1, n - 1);
		if (r)
			return r;
		at = end;
	} while (at < ch->len);
	if (first / KV_LOG_PACK == head->seq / KV_LOG_PACK)
		return 0;
	return pack(txn, head->seq);
}

/* ---- reading ---- */

/* The records of one block of KV_LOG_PACK sequences.  A commit that takes the sequence into another block packs what came before, so
 * every pack that has a record of the block has its key in it too. */
struct block {
	uint64_t first;
	struct kv_bytes rec[KV_LOG_PACK]; /* data NULL: not there */
};

static void block_add(struct block *b, uint64_t seq, const void *data, size_t len)
{
	if (seq >= b->first && seq - b->first < KV_LOG_PACK)
		b->rec[seq - b->first] = (struct kv_bytes){data, len};
}

static int unpack(struct block *b, struct kv_bytes pack)
{
	const uint8_t *p = pack.data;
	for (size_t at = 0; at < pack.len;) {
		struct packed head;
		if (pack.len - at < sizeof head)
			return kv_fail(EUCLEAN);
		memcpy(&head, p + at, sizeof head);
		at += sizeof head;
		if (head.len > pack.len - at)
			return kv_fail(EUCLEAN);
		block_add(b, head.seq, p + at, head.len);
		at += head.len;
	}
	return 0;
}

static int block_load(struct kv_txn *txn, enum kv_table table, struct block *b)
{
	struct kv_key_ino key = kv_key_u64(b->first);
	struct kv_cursor c;
	int r = kv_cursor_open(txn, table, &c);
	if (r)
		return r;
	for (r = kv_cursor_seek(&c, &key, sizeof key); r == 0; r = kv_cursor_next(&c)) {
		uint64_t be;
		if (c.key.len != sizeof be) {
			r = kv_fail(EUCLEAN);
			break;
		}
		memcpy(&be, c.key.data, sizeof be);
		if (be64toh(be) - b->first >= KV_LOG_PACK)
			break;
		if (table == KV_LOG)
			block_add(b, be64toh(be), c.value.data, c.value.len);
		else
			r = unpack(b, c.value);
		if (r)
			break;
	}
	kv_cursor_close(&c);
	return r == -ENOENT ? 0 : r;
}

int kv_log_read(struct kv_txn *txn, uint64_t after, uint64_t last, kv_change_fn *fn, void *arg)
{
	struct block b = {.first = UINT64_MAX};
	struct kv_change c;
	for (uint64_t seq = after + 1; seq <= last; seq++) {
		int r = 0;
		if (b.first != seq / KV_LOG_PACK * KV_LOG_PACK) {
			b = (struct block){.first = seq / KV_LOG_PACK * KV_LOG_PACK};
			r = block_load(txn, KV_HISTORY, &b);
			if (r == 0)
				r = block_load(txn, KV_LOG, &b);
			if (r)
				return r;
		}
		struct kv_bytes rec = b.rec[seq - b.first];
		struct kv_rec_log log;
		if (!rec.data)
			return -ESTALE;
		if (rec.len < sizeof log)
			return kv_fail(EUCLEAN);
		memcpy(&log, rec.data, sizeof log);
		c.seq = seq;
		c.time_ns = log.time_ns;
		r = kv_changes_walk((const uint8_t *)rec.data + sizeof log, rec.len - sizeof log, &c, fn, arg);
		if (r)
			return r;
	}
	return 0;
}
