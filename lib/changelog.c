/* Table log; see changelog.h. */
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

int kv_changes_add(
	struct kv_changes *ch, enum kv_change_kind kind, uint32_t type, uint64_t ino, uint64_t parent, const char *name, size_t len)
{
	struct kv_rec_change rec = {.kind = (uint8_t)kind, .type = type, .name_len = (uint16_t)len, .ino = ino, .parent = parent};
	size_t need = ch->len + sizeof rec + len;
	if (need > ch->cap) {
		size_t cap = kv_max(need, ch->cap ? ch->cap * 2 : 512);
		uint8_t *buf = realloc(ch->buf, cap);
		if (!buf)
			return kv_fail(ENOMEM);
		ch->buf = buf;
		ch->cap = cap;
	}
	memcpy(ch->buf + ch->len, &rec, sizeof rec);
	if (len)
		memcpy(ch->buf + ch->len + sizeof rec, name, len);
	ch->len = need;
	ch->count++;
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

static int trim(struct kv_txn *txn, uint64_t last)
{
	struct kv_cursor c;
	if (last < KV_LOG_RECORDS + KV_LOG_TRIM)
		return 0;
	int r = kv_cursor_open(txn, KV_LOG, &c);
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

int kv_log_append(struct kv_txn *txn, struct kv_head *head, const struct kv_changes *ch)
{
	uint64_t first = head->seq;
	size_t at = 0;
	do {
		uint32_t count;
		size_t end = slice(ch, at, &count);
		head->rec.nchanges = count;
		struct kv_key_ino key = kv_key_u64(++head->seq);
		struct iovec parts[] = {{&head->rec, sizeof head->rec}, {ch->buf + at, end - at}};
		int r = kv_db_put(txn, KV_LOG, &key, sizeof key, parts, end > at ? 2 : 1);
		if (r)
			return r;
		at = end;
	} while (at < ch->len);
	if (first / KV_LOG_TRIM == head->seq / KV_LOG_TRIM)
		return 0;
	return trim(txn, head->seq);
}
