/* The store's invariants; see invariants.h.  Everything is read in one transaction, and every record's checksum with it. */
#include "support.h"

#include "invariants.h"

#include <sys/stat.h>

#include "core.h"
#include "changelog.h"
#include "chunk.h"
#include "garbage.h"
#include "inode.h"
#include "value.h"

struct node {
	struct kv_inode inode;
	uint64_t names, entries, subdirs, live;
	uint64_t listed; /* names beside its record */
	bool named; /* by the (parent, name) that its record has */
	bool xattrs;
};

struct trash {
	struct kv_garbage g;
	uint32_t (*list)[2];
	size_t n;
};

struct world {
	struct kv_txn txn;
	struct kv_layout layout;
	struct kv_head head;
	struct node *nodes;
	size_t nnodes;
	struct trash *trash;
	size_t ntrash;
	struct hidden {
		uint64_t blob;
		struct kv_rec_session rec;
	} * hidden;
	size_t nhidden;
	uint64_t kept_bytes;
	struct invariants seen;
};

#define need(cond, ...)                                                                                                            \
	do {                                                                                                                       \
		if (!(cond)) {                                                                                                     \
			print_error("invariant: %s: ", #cond);                                                                     \
			print_error(__VA_ARGS__);                                                                                  \
			fail_msg("%s", "the store contradicts itself");                                                            \
		}                                                                                                                  \
	} while (0)

static void *grow(void *list, size_t n, size_t size)
{
	if (n & (n - 1)) /* doubles at powers of two */
		return list;
	list = realloc(list, (n ? 2 * n : 1) * size);
	assert_non_null(list);
	return list;
}

static struct node *find(const struct world *w, uint64_t ino)
{
	size_t lo = 0, hi = w->nnodes;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (w->nodes[mid].inode.ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < w->nnodes && w->nodes[lo].inode.ino == ino ? &w->nodes[lo] : NULL;
}

/* Moves on; false at the end. */
static bool next(struct kv_cursor *c, bool *started)
{
	int r = *started ? kv_cursor_next(c) : kv_cursor_seek(c, NULL, 0);
	*started = true;
	need(r == 0 || r == -ENOENT, "table %d: %d\n", c->table, r);
	return r == 0;
}

static uint64_t be_id(const void *key)
{
	uint64_t be;
	memcpy(&be, key, sizeof be);
	return be64toh(be);
}

static void load_inodes(struct world *w)
{
	struct kv_cursor c;
	bool started = false;
	assert_ok(kv_cursor_open(&w->txn, KV_INODE, &c));
	while (next(&c, &started)) {
		if (c.key.len > 8) { /* a name of the inode before it */
			need(w->nnodes && w->nodes[w->nnodes - 1].inode.ino == be_id(c.key.data), "a name of inode %llu\n",
				(unsigned long long)be_id(c.key.data));
			w->nodes[w->nnodes - 1].listed++;
			continue;
		}
		w->nodes = grow(w->nodes, w->nnodes, sizeof *w->nodes);
		struct node *n = &w->nodes[w->nnodes++];
		*n = (struct node){0};
		assert_ok(kv_inode_get(&w->txn, be_id(c.key.data), &n->inode));
		n->inode.tail = NULL;
		need(n->inode.ino < w->head.rec.next_ino, "inode %llu\n", (unsigned long long)n->inode.ino);
	}
	kv_cursor_close(&c);
	w->seen.inodes = w->nnodes;
}

static void load_garbage(struct world *w)
{
	struct kv_cursor c;
	bool started = false;
	uint64_t bytes = 0;
	assert_ok(kv_cursor_open(&w->txn, KV_GARBAGE, &c));
	while (next(&c, &started)) {
		struct kv_key_garbage key;
		w->trash = grow(w->trash, w->ntrash, sizeof *w->trash);
		struct trash *t = &w->trash[w->ntrash++];
		*t = (struct trash){0};
		memcpy(&key, c.key.data, sizeof key);
		assert_ok(kv_garbage_seek(&w->txn, be64toh(key.due_be), be64toh(key.id_be), &t->g));
		t->n = t->g.list.len / 8;
		t->list = malloc(t->g.list.len + 1);
		memcpy(t->list, t->g.list.data, t->g.list.len);
		bytes += t->g.rec.bytes;
		if (t->g.due & KV_GARBAGE_HELD) {
			w->seen.held_garbage++;
			need(t->g.due == (KV_GARBAGE_HELD | t->g.rec.blob), "garbage of blob %llu\n",
				(unsigned long long)t->g.rec.blob);
		} else {
			need(t->g.due <= w->head.seq, "garbage due %llu\n", (unsigned long long)t->g.due);
		}
		bool listed = t->g.rec.kind == KV_GARBAGE_CHUNKS || t->g.rec.kind == KV_GARBAGE_UNDER ||
			      t->g.rec.kind == KV_GARBAGE_AHEAD;
		need(listed == (t->n > 0), "garbage kind %d, list of %zu\n", t->g.rec.kind, t->n);
	}
	kv_cursor_close(&c);
	w->seen.garbage = w->ntrash;
	need(bytes == w->head.rec.garbage_bytes, "garbage_bytes %llu, in the table %llu\n",
		(unsigned long long)w->head.rec.garbage_bytes, (unsigned long long)bytes);
}

/* A kept session has all that it says: its chunks, of parts each with its mask. */
static void check_kept(struct world *w, uint64_t id)
{
	struct kv_kept kept;
	struct kv_cursor c;
	uint64_t bytes = 0;
	uint32_t index = 0;
	assert_ok(kv_kept_get(&w->txn, id, &kept));
	need(kept.rec.reason && *kept.name && !kept.head.ahead_gen, "kept session %llu\n", (unsigned long long)id);
	assert_ok(kv_cursor_open(&w->txn, KV_CHUNK, &c));
	for (; kv_chunk_next_index(&c, id, index, &index) == 0; index++) {
		enum kv_chunk_kind kind;
		struct kv_bytes mask;
		bytes += w->layout.chunk_size;
		need(kv_chunk_get_mask(&w->txn, id, index, &kind, &mask) == (kept.rec.flags & KV_KEPT_WHOLE ? -ENOENT : 0),
			"kept session %llu: mask of chunk %u\n", (unsigned long long)id, index);
	}
	kv_cursor_close(&c);
	need(kept.rec.flags & KV_KEPT_WHOLE ? bytes == kept.rec.stored : bytes <= kept.rec.stored,
		"kept session %llu: %llu bytes, %llu stored\n", (unsigned long long)id, (unsigned long long)bytes,
		(unsigned long long)kept.rec.stored);
	w->seen.kept++;
	w->kept_bytes += kept.rec.stored;
}

static void load_hidden(struct world *w)
{
	struct kv_rec_session rec;
	for (uint64_t at = 0; kv_hidden_seek(&w->txn, at, &at, &rec) == 0; at++) {
		w->hidden = grow(w->hidden, w->nhidden, sizeof *w->hidden);
		w->hidden[w->nhidden++] = (struct hidden){at, rec};
		need(at < w->head.rec.next_blob, "session %llu\n", (unsigned long long)at);
		if (!rec.door)
			check_kept(w, at);
	}
	w->seen.hidden = w->nhidden;
	need(w->seen.kept <= KVFS_KEPT_MAX && w->kept_bytes <= KVFS_KEPT_BYTES, "%llu sessions kept\n",
		(unsigned long long)w->seen.kept);
}

/* ---- names ---- */

/* Is it listed beside the inode's record? */
static bool is_listed(struct world *w, uint64_t ino, uint64_t dir, const char *name, size_t len)
{
	struct kv_key_link key;
	struct kv_bytes rec;
	return kv_db_get(&w->txn, KV_INODE, &key, kv_key_link(&key, ino, dir, name, len), &rec) == 0;
}

static void check_entries(struct world *w)
{
	struct kv_cursor c;
	bool started = false;
	assert_ok(kv_cursor_open(&w->txn, KV_DIRENT, &c));
	while (next(&c, &started)) {
		struct kv_rec_dirent ent;
		assert_true(c.value.len >= sizeof ent);
		memcpy(&ent, c.value.data, sizeof ent);
		bool embeds = c.value.len > sizeof ent;
		const char *name = (const char *)c.key.data + 8;
		int len = (int)c.key.len - 8;
		struct node *dir = find(w, be_id(c.key.data)), *n = find(w, ent.ino);
		need(dir && S_ISDIR(dir->inode.rec.mode), "entry '%.*s' of no directory\n", len, name);
		need(n, "entry '%.*s' leads nowhere\n", len, name);
		need((n->inode.rec.mode & S_IFMT) == ent.type, "entry '%.*s' has another type\n", len, name);
		dir->entries++;
		dir->subdirs += S_ISDIR(ent.type);
		n->names++;
		need(n->inode.rec.nlink < 2 || S_ISDIR(ent.type) || is_listed(w, n->inode.ino, dir->inode.ino, name, (size_t)len),
			"name '%.*s' is not listed\n", len, name);
		if (n->inode.rec.parent == dir->inode.ino && n->inode.rec.name_len == len &&
			memcmp(n->inode.name, name, (size_t)len) == 0)
			n->named = true;
		bool home = n->inode.home == KV_HOME_ENTRY && n->inode.home_parent == dir->inode.ino &&
			    strlen(n->inode.home_name) == (size_t)len && memcmp(n->inode.home_name, name, (size_t)len) == 0;
		need(home == embeds, "entry '%.*s' %s inode %llu's record\n", len, name, embeds ? "has" : "has not",
			(unsigned long long)n->inode.ino);
	}
	kv_cursor_close(&c);
}

static void check_dir(const struct world *w, const struct node *n)
{
	unsigned long long ino = n->inode.ino;
	const struct kv_rec_inode *rec = &n->inode.rec;
	need(rec->size == n->entries, "directory %llu: %llu entries counted\n", ino, (unsigned long long)n->entries);
	need(rec->blob == n->subdirs, "directory %llu: %llu subdirectories counted\n", ino, (unsigned long long)n->subdirs);
	if (ino == KV_ROOT) {
		need(n->names == 0 && rec->parent == KV_ROOT, "the root has a name\n");
		return;
	}
	need(n->names == 1 && n->named, "directory %llu: %llu names\n", ino, (unsigned long long)n->names);
	need(rec->size || !(rec->flags & KV_INODE_IMPLICIT), "directory %llu is implicit and empty\n", ino);
	size_t steps = 0;
	for (const struct node *up = n; up->inode.ino != KV_ROOT; up = find(w, up->inode.rec.parent))
		need(++steps <= w->nnodes, "directory %llu does not hang from the root\n", ino);
}

static void check_nodes(const struct world *w)
{
	uint64_t values = 0, dirs = 0, others = 0, bytes = 0;
	need(find(w, KV_ROOT), "no root\n");
	for (size_t i = 0; i < w->nnodes; i++) {
		const struct node *n = &w->nodes[i];
		const struct kv_rec_inode *rec = &n->inode.rec;
		unsigned long long ino = n->inode.ino;
		if (S_ISDIR(rec->mode)) {
			dirs += ino != KV_ROOT;
			check_dir(w, n);
		} else {
			need(rec->nlink == n->names && n->names, "inode %llu: %llu names\n", ino, (unsigned long long)n->names);
			need(n->named, "inode %llu: its name is not its own\n", ino);
			need(n->listed == (rec->nlink > 1 ? rec->nlink : 0), "inode %llu: %llu names listed\n", ino,
				(unsigned long long)n->listed);
			values += S_ISREG(rec->mode);
			others += !S_ISREG(rec->mode);
		}
		need(!n->xattrs || rec->flags & KV_INODE_XATTRS, "inode %llu: attributes without the flag\n", ino);
		if (!S_ISREG(rec->mode))
			continue;
		bytes += rec->size;
		need(rec->tail_len <= w->layout.inline_max && rec->tail_len <= rec->size % w->layout.chunk_size,
			"inode %llu: tail\n", ino);
		need(n->live <= rec->stored && rec->stored <= rec->size, "inode %llu: stored %llu, live %llu of %llu bytes\n", ino,
			(unsigned long long)rec->stored, (unsigned long long)n->live, (unsigned long long)rec->size);
	}
	const struct kv_rec_log *log = &w->head.rec;
	need(log->values == values && log->dirs == dirs && log->others == others, "counters: %llu %llu %llu\n",
		(unsigned long long)values, (unsigned long long)dirs, (unsigned long long)others);
	need(log->value_bytes == bytes, "value_bytes %llu, summed %llu\n", (unsigned long long)log->value_bytes,
		(unsigned long long)bytes);
}

static void check_xattrs(struct world *w)
{
	struct kv_cursor c;
	bool started = false;
	assert_ok(kv_cursor_open(&w->txn, KV_XATTR, &c));
	while (next(&c, &started)) {
		struct node *n = find(w, be_id(c.key.data));
		need(n, "extended attribute of no inode\n");
		n->xattrs = true;
	}
	kv_cursor_close(&c);
}

/* ---- chunks ---- */

static struct node *owner_of(const struct world *w, uint64_t blob)
{
	for (size_t i = 0; i < w->nnodes; i++)
		if (S_ISREG(w->nodes[i].inode.rec.mode) && w->nodes[i].inode.rec.blob == blob)
			return &w->nodes[i];
	return NULL;
}

static bool is_hidden(const struct world *w, uint64_t blob)
{
	for (size_t i = 0; i < w->nhidden; i++)
		if (w->hidden[i].blob == blob)
			return true;
	return false;
}

/* Has blob `hidden` any record of this index? */
static bool has_index(struct world *w, uint64_t hidden, uint32_t index)
{
	struct kv_cursor c;
	uint32_t at;
	assert_ok(kv_cursor_open(&w->txn, KV_CHUNK, &c));
	c.raw = true;
	bool has = kv_chunk_next_index(&c, hidden, index, &at) == 0 && at == index;
	kv_cursor_close(&c);
	return has;
}

static uint64_t named(const struct trash *t)
{
	uint64_t blob;
	memcpy(&blob, t->list, sizeof blob);
	return blob;
}

/* Is it written ahead, by a session that lives on? */
static bool is_ahead(struct world *w, uint64_t blob, uint32_t index, uint32_t gen)
{
	for (size_t i = 0; i < w->nhidden; i++)
		if (w->hidden[i].rec.ahead_blob == blob && w->hidden[i].rec.ahead_gen == gen)
			return has_index(w, w->hidden[i].blob, index);
	return false;
}

/* Will the reaper free it? */
static bool is_trash(struct world *w, uint64_t blob, uint32_t index, uint32_t gen)
{
	for (size_t i = 0; i < w->ntrash; i++) {
		const struct trash *t = &w->trash[i];
		bool told = t->g.rec.kind == KV_GARBAGE_UNDER || t->g.rec.kind == KV_GARBAGE_AHEAD;
		if (told && named(t) == blob)
			return true;
		if (t->g.rec.blob != blob)
			continue;
		if (told && (t->g.rec.kind == KV_GARBAGE_UNDER ? gen < t->g.rec.below : gen == t->g.rec.index) &&
			has_index(w, named(t), index))
			return true;
		if (t->g.rec.kind == KV_GARBAGE_BLOB ||
			(t->g.rec.kind == KV_GARBAGE_TAIL && index >= t->g.rec.index && gen < t->g.rec.below))
			return true;
		for (size_t k = 0; !told && k < t->n; k++)
			if (t->list[k][0] == index && t->list[k][1] == gen)
				return true;
	}
	return false;
}

/* Which generation of chunk `index` is part of the value now; UINT32_MAX none. */
static uint32_t live_gen(struct world *w, const struct kv_inode *inode, uint32_t index)
{
	struct kv_version ver;
	struct kv_bytes b;
	struct kv_cursor c;
	uint32_t gen;
	kv_version_of(inode, &ver);
	uint64_t size = w->layout.chunk_size;
	if (index >= (ver.size + size - 1) / size || (ver.tail_len && index == ver.size / size))
		return UINT32_MAX;
	assert_ok(kv_cursor_open(&w->txn, KV_CHUNK, &c));
	int r = kv_chunk_get(&c, &ver.view, index, &b, &gen);
	kv_cursor_close(&c);
	return r == 0 ? gen : UINT32_MAX;
}

static void check_chunk(struct world *w, const struct kv_key_chunk *key, size_t len)
{
	uint64_t blob = be64toh(key->blob_be);
	uint32_t index = be32toh(key->index_be), gen = ~be32toh(key->gen_inv_be);
	struct node *n = owner_of(w, blob);
	w->seen.chunks++;
	need(blob < w->head.rec.next_blob, "blob %llu\n", (unsigned long long)blob);
	if (is_hidden(w, blob)) {
		need(!n && (gen == 0 || gen == KV_GEN_MASKS), "blob %llu: hidden and not\n", (unsigned long long)blob);
		return;
	}
	if (n && live_gen(w, &n->inode, index) == gen) {
		need(!is_trash(w, blob, index, gen), "chunk (%llu, %u, %u) is live and garbage\n", (unsigned long long)blob, index,
			gen);
		need(index * (uint64_t)w->layout.chunk_size + len <= n->inode.rec.size && len <= w->layout.chunk_size,
			"chunk (%llu, %u, %u): %zu bytes\n", (unsigned long long)blob, index, gen, len);
		n->live += len;
		return;
	}
	if (n && is_ahead(w, blob, index, gen)) {
		need(len <= w->layout.chunk_size, "chunk (%llu, %u, %u): %zu bytes\n", (unsigned long long)blob, index, gen, len);
		return;
	}
	w->seen.dead_chunks++;
	need(is_trash(w, blob, index, gen), "chunk (%llu, %u, %u) of inode %llu (gen %u, size %llu): nobody will free it\n",
		(unsigned long long)blob, index, gen, n ? (unsigned long long)n->inode.ino : 0, n ? n->inode.rec.gen : 0,
		n ? (unsigned long long)n->inode.rec.size : 0);
}

static void check_chunks(struct world *w)
{
	struct kv_cursor c;
	bool started = false;
	assert_ok(kv_cursor_open(&w->txn, KV_CHUNK, &c));
	while (next(&c, &started)) {
		struct kv_key_chunk key;
		assert_int_equal(c.key.len, sizeof key);
		memcpy(&key, c.key.data, sizeof key);
		check_chunk(w, &key, c.value.len - sizeof(struct kv_rec_chunk));
	}
	kv_cursor_close(&c);
}

/* A reserved generation has an owner: a session that lives, or what it left behind. */
static void check_skips(const struct world *w, const struct kv_inode *inode)
{
	for (int k = 0; k < inode->rec.nskips; k++) {
		uint32_t gen = inode->skips[k] & KV_GEN_MAX;
		unsigned owners = 0;
		for (size_t i = 0; i < w->nhidden; i++)
			owners += w->hidden[i].rec.ahead_blob == inode->rec.blob && w->hidden[i].rec.ahead_gen == gen;
		for (size_t i = 0; i < w->ntrash; i++)
			owners += w->trash[i].g.rec.kind == KV_GARBAGE_AHEAD && w->trash[i].g.rec.blob == inode->rec.blob &&
				  w->trash[i].g.rec.index == gen;
		need(owners == 1, "inode %llu: generation %u has %u owners\n", (unsigned long long)inode->ino, gen, owners);
		need(gen > inode->rec.gen || inode->skips[k] & KV_SKIP_DEAD, "inode %llu: generation %u was passed\n",
			(unsigned long long)inode->ino, gen);
		need(k == 0 || gen > (inode->skips[k - 1] & KV_GEN_MAX), "inode %llu: skips out of order\n",
			(unsigned long long)inode->ino);
	}
}

/* A cut waits for the garbage that will take it away; two inodes never share a blob. */
static void check_blobs(const struct world *w)
{
	for (size_t i = 0; i < w->nnodes; i++) {
		const struct kv_inode *inode = &w->nodes[i].inode;
		if (!S_ISREG(inode->rec.mode) || !inode->rec.blob)
			continue;
		need(owner_of(w, inode->rec.blob) == &w->nodes[i], "blob %llu has two owners\n",
			(unsigned long long)inode->rec.blob);
		check_skips(w, inode);
		need(inode->rec.gen < inode->rec.next_gen, "inode %llu: generation\n", (unsigned long long)inode->ino);
		for (int k = 0; k < inode->rec.ncuts; k++) {
			bool there = false;
			for (size_t j = 0; j < w->ntrash; j++)
				there |= w->trash[j].g.rec.kind == KV_GARBAGE_TAIL && w->trash[j].g.rec.blob == inode->rec.blob &&
					 w->trash[j].g.rec.below == inode->cuts[k].gen;
			need(there, "inode %llu: cut at %u never ends\n", (unsigned long long)inode->ino, inode->cuts[k].index);
		}
	}
}

void check_invariants(struct kvfs_store *store, struct invariants *ret)
{
	struct world w = {.layout = store->core->layout};
	assert_ok(kv_db_read(store->core->db, &w.txn));
	assert_ok(kv_log_head(&w.txn, &w.head));
	load_inodes(&w);
	load_garbage(&w);
	load_hidden(&w);
	check_entries(&w);
	check_xattrs(&w);
	check_chunks(&w);
	check_nodes(&w);
	check_blobs(&w);
	kv_db_read_end(&w.txn);
	if (ret)
		*ret = w.seen;
	for (size_t i = 0; i < w.ntrash; i++)
		free(w.trash[i].list);
	free(w.trash);
	free(w.nodes);
	free(w.hidden);
}

void check_drained(struct kvfs_store *store)
{
	struct invariants seen = {.garbage = 1};
	for (int i = 0; i < 2000 && seen.garbage; i++) {
		struct kv_txn txn;
		struct kv_garbage g;
		assert_ok(kvfs_put(store, "drain", "", 0, NULL, NULL));
		assert_ok(kv_db_read(store->core->db, &txn));
		seen.garbage = kv_garbage_seek(&txn, 0, 0, &g) == 0;
		kv_db_read_end(&txn);
	}
	check_invariants(store, &seen);
	need(seen.garbage == 0 && seen.dead_chunks == 0, "%llu garbage records, %llu dead chunks\n",
		(unsigned long long)seen.garbage, (unsigned long long)seen.dead_chunks);
}
