/* Values and their chunks; see check.h. */
#include <errno.h>

#include "check.h"
#include "chunk.h"
#include "err.h"
#include "garbage.h"

/* One value as its chunks go by. */
struct value {
	struct kv_check *check;
	const struct kv_inode *inode;
	uint64_t chunks; /* that are in the table if none is a hole */
	uint64_t live, bytes; /* chunks, their bytes */
	uint64_t next; /* index that comes next if none is missing */
	uint64_t missing, first_missing; /* of a dense one */
	uint64_t damaged, first_damaged;
	const struct kv_check_range *ranges; /* garbage of its blob */
	size_t nranges;
	uint64_t found; /* index of the chunk that was found last, and one */
};

static void tell(struct value *v, enum kvfs_finding_kind kind, const char *what, uint64_t number)
{
	kv_check_found(v->check, kind, kv_check_key_of(v->check, v->inode), "inode %llu: %s %llu",
		(unsigned long long)v->inode->ino, what, (unsigned long long)number);
}

static void find_ranges(struct value *v)
{
	const struct kv_check *c = v->check;
	size_t lo = 0, hi = c->nranges;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (c->ranges[mid].blob < v->inode->rec.blob)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < c->nranges)
		v->ranges = c->ranges + lo;
	while (lo + v->nranges < c->nranges && v->ranges[v->nranges].blob == v->inode->rec.blob)
		v->nranges++;
}

static bool is_listed(const struct kv_check *c, uint64_t blob, uint32_t index, uint32_t gen)
{
	size_t lo = 0, hi = c->nlisted;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct kv_check_listed *l = &c->listed[mid];
		if (l->blob != blob ? l->blob < blob : l->index != index ? l->index < index : l->gen < gen)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == c->nlisted)
		return false;
	const struct kv_check_listed *l = &c->listed[lo];
	return l->blob == blob && l->index == index && l->gen == gen;
}

enum state { NOBODYS = 0, GARBAGE = 1, AHEAD = 2 };

/* Who has a chunk that is, or may be, not part of the value?  Or an error. */
static int claim(struct value *v, uint32_t index, uint32_t gen)
{
	struct kv_check *c = v->check;
	for (size_t i = 0; i < v->nranges; i++) {
		const struct kv_check_range *g = &v->ranges[i];
		if (g->kind == KV_GARBAGE_TAIL && index >= g->index && gen < g->below)
			return GARBAGE;
		if (g->kind == KV_GARBAGE_TAIL || (g->kind == KV_GARBAGE_UNDER ? gen >= g->below : gen != g->below))
			continue;
		int r = kv_check_has_chunks(c, g->told, &index);
		if (r)
			return r < 0 ? r : g->kind == KV_CHECK_AHEAD ? AHEAD : GARBAGE;
	}
	return is_listed(c, v->inode->rec.blob, index, gen) ? GARBAGE : NOBODYS;
}

bool kv_check_is_live(const struct kv_inode *inode, uint64_t chunks, uint32_t index, uint32_t gen, uint64_t *found)
{
	if (index >= chunks || gen > inode->rec.gen || *found == index + 1ull)
		return false;
	for (int i = 0; i < inode->rec.nskips; i++)
		if ((inode->skips[i] & KV_GEN_MAX) == gen)
			return false;
	*found = index + 1ull;
	for (int i = 0; i < inode->rec.ncuts; i++)
		if (index >= inode->cuts[i].index && gen < inode->cuts[i].gen)
			return false;
	return true;
}

static void count_missing(struct value *v, uint64_t until)
{
	if (!v->missing)
		v->first_missing = v->next;
	v->missing += until - v->next;
	v->next = until;
}

static int see_chunk(struct value *v, uint32_t index, uint32_t gen, uint64_t len)
{
	struct kv_check *c = v->check;
	uint64_t size = c->layout.chunk_size;
	bool live = kv_check_is_live(v->inode, v->chunks, index, gen, &v->found);
	int state = claim(v, index, gen);
	if (state < 0)
		return state;
	if (len > size || (live && index * size + len > v->inode->rec.size))
		tell(v, KVFS_FINDING_WRONG, "too many bytes in chunk", index);
	if (live) {
		v->live++;
		v->bytes += len;
		count_missing(v, index);
		v->next = index + 1ull;
		c->live_chunks++;
		if (state == GARBAGE)
			tell(v, KVFS_FINDING_WRONG, "to be freed, and part of the value, is chunk", index);
	} else if (state == AHEAD) {
		c->ahead_chunks++;
	} else if (state == NOBODYS) {
		tell(v, KVFS_FINDING_SPACE, "nobody will free an old version of chunk", index);
	}
	return 0;
}

/* With `data`, the bytes of a chunk. */
static int read_chunk(struct value *v, struct kv_rows *rows, uint32_t index, bool live)
{
	struct kv_rec_chunk head = {.encoding = 1};
	struct kv_bytes raw, payload;
	int r = kv_scan_value(&rows->scan, &raw);
	if (r == -ENOMEM)
		return r;
	kv_check_tick(v->check, rows->len / v->check->pages->page_size + 1);
	if (r == 0 && kv_db_open_record(KV_CHUNK, rows->key, raw, &payload) && payload.len >= sizeof head)
		memcpy(&head, payload.data, sizeof head);
	if (head.encoding == 0 && head.kind == KV_CHUNK_DATA)
		return 0;
	if (live && !v->damaged++)
		v->first_damaged = index;
	if (!live)
		tell(v, KVFS_FINDING_SPACE, "damaged is an old version of chunk", index);
	return 0;
}

static int see_chunks(struct value *v)
{
	struct kv_key_chunk key = {.blob_be = htobe64(v->inode->rec.blob)};
	struct kv_rows rows;
	uint64_t blob = v->inode->rec.blob, records = 0;
	int r = kv_rows_open(&rows, v->check, KV_CHUNK);
	rows.keys_only = true;
	if (r == 0)
		r = kv_rows_seek(&rows, &key, sizeof key);
	for (; r >= 0 && (r = kv_rows_next(&rows)) == 1 && kv_rows_id(&rows) == blob; records++) {
		if (rows.key.len != sizeof key || rows.len < sizeof(struct kv_rec_chunk)) {
			tell(v, KVFS_FINDING_WRONG, "no chunk is record", records);
			continue;
		}
		memcpy(&key, rows.key.data, sizeof key);
		uint32_t index = be32toh(key.index_be), gen = ~be32toh(key.gen_inv_be);
		uint64_t live = v->live;
		r = see_chunk(v, index, gen, rows.len - sizeof(struct kv_rec_chunk));
		if (r == 0 && v->check->data)
			r = read_chunk(v, &rows, index, v->live > live);
		if (r)
			break;
	}
	kv_rows_close(&rows);
	if (records)
		kv_ledger_plus(&v->check->blobs, blob, 0, 1, NULL);
	return r < 0 ? r : 0;
}

/* A1, and the garbage that a cut waits for. */
static void check_bookkeeping(struct value *v)
{
	const struct kv_inode *inode = v->inode;
	if (inode->rec.gen >= inode->rec.next_gen)
		tell(v, KVFS_FINDING_WRONG, "no generation comes after", inode->rec.gen);
	for (int k = 0; k < inode->rec.nskips; k++) {
		uint32_t gen = inode->skips[k] & KV_GEN_MAX;
		unsigned owners = 0;
		for (size_t i = 0; i < v->nranges; i++)
			owners += v->ranges[i].below == gen &&
				  (v->ranges[i].kind == KV_CHECK_AHEAD || v->ranges[i].kind == KV_GARBAGE_AHEAD);
		if (owners != 1 || (gen <= inode->rec.gen && !(inode->skips[k] & KV_SKIP_DEAD)) ||
			(k && gen <= (inode->skips[k - 1] & KV_GEN_MAX)))
			tell(v, KVFS_FINDING_WRONG, "not as it must be is the reserved generation", gen);
	}
	for (int k = 0; k < inode->rec.ncuts; k++) {
		bool ends = false;
		for (size_t i = 0; i < v->nranges; i++)
			ends |= v->ranges[i].kind == KV_GARBAGE_TAIL && v->ranges[i].below == inode->cuts[k].gen;
		if (!ends ||
			(k && (inode->cuts[k].index <= inode->cuts[k - 1].index || inode->cuts[k].gen <= inode->cuts[k - 1].gen)))
			tell(v, KVFS_FINDING_WRONG, "never ends the truncation at chunk", inode->cuts[k].index);
	}
}

static void tell_lost(struct value *v, const char *what, uint64_t number, uint64_t first)
{
	uint64_t at = first * v->check->layout.chunk_size;
	if (number)
		kv_check_found(v->check, KVFS_FINDING_LOST, kv_check_key_of(v->check, v->inode),
			"%llu of its %llu chunks are %s, the first at byte %llu", (unsigned long long)number,
			(unsigned long long)v->chunks, what, (unsigned long long)at);
}

int kv_check_value(struct kv_check *c, const struct kv_inode *inode)
{
	const struct kv_rec_inode *rec = &inode->rec;
	uint64_t size = c->layout.chunk_size;
	if (c->again) { /* only whose blob it is */
		int has = rec->blob ? kv_check_has_chunks(c, rec->blob, NULL) : 0;
		if (has == 1)
			kv_ledger_plus(&c->blobs, rec->blob, 0, 1, NULL);
		return has < 0 ? has : 0;
	}
	struct value v = {.check = c, .inode = inode};
	if (rec->size > KV_VALUE_MAX || rec->tail_len > c->layout.inline_max || rec->tail_len > rec->size % size || rec->encoding) {
		tell(&v, KVFS_FINDING_WRONG, "what its record says cannot be, of a size of", rec->size);
		return 0;
	}
	v.chunks = (rec->size + size - 1) / size - (rec->tail_len > 0);
	if (rec->blob) {
		find_ranges(&v);
		check_bookkeeping(&v);
		int r = see_chunks(&v);
		if (r)
			return r;
	}
	count_missing(&v, v.chunks);
	if (!(rec->flags & KV_INODE_DENSE))
		v.missing = 0;
	tell_lost(&v, "missing", v.missing, v.first_missing);
	tell_lost(&v, "damaged", v.damaged, v.first_damaged);
	c->seen.damaged_values += v.missing || v.damaged;
	if (!v.missing && !v.damaged && (v.bytes > rec->stored || rec->stored > rec->size))
		tell(&v, KVFS_FINDING_WRONG, "it counts another number of stored bytes than", v.bytes);
	return 0;
}

/* ---- the table ---- */

/* Each blob that has chunks. */
static int walk(struct kv_check *c)
{
	struct kv_rows rows;
	uint64_t blob = 0, number = 0;
	int r = kv_rows_open(&rows, c, KV_CHUNK);
	rows.keys_only = true;
	while (r >= 0 && (r = kv_rows_next(&rows)) == 1) {
		number++;
		if (kv_rows_id(&rows) == blob)
			continue;
		blob = kv_rows_id(&rows);
		kv_ledger_minus(&c->blobs, blob, 0, NULL);
		c->new_blobs += blob >= c->head.rec.next_blob;
	}
	kv_rows_close(&rows);
	c->seen.chunks = number;
	return r;
}

static void tell_blob(struct kv_check *c, const struct kv_ledger_line *line)
{
	if (line->plus)
		kv_check_found(c, KVFS_FINDING_WRONG, NULL, "blob %llu has %llu owners", (unsigned long long)line->id,
			(unsigned long long)line->plus);
	else
		kv_check_found(c, KVFS_FINDING_SPACE, NULL,
			"blob %llu is nobody's: the value that had it is lost, or nobody will free it",
			(unsigned long long)line->id);
}

int kv_check_chunks(struct kv_check *c)
{
	int r = walk(c);
	c->seen.dead_chunks = c->seen.chunks - kv_min(c->seen.chunks, c->live_chunks + c->hidden_chunks + c->ahead_chunks);
	if (r || kv_ledger_is_even(&c->blobs))
		return r;
	r = kv_ledger_look_closer(&c->blobs);
	c->again = true;
	if (r == 0)
		r = kv_check_garbage(c);
	if (r == 0)
		r = kv_check_sessions(c);
	if (r == 0)
		r = kv_check_inodes(c);
	if (r == 0)
		r = walk(c);
	c->again = false;
	for (size_t i = 0; r == 0 && i < KV_LEDGER_LINES; i++)
		if (c->blobs.lines[i].id && c->blobs.lines[i].balance)
			tell_blob(c, &c->blobs.lines[i]);
	return r;
}
