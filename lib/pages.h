/* data.mdb page by page: one state of it, read by system calls.  Nothing in the file is believed: each page is checked before it is used, so
 * that a damaged or crafted file gives less, or other, records and never a fault of the reader.  LMDB itself believes its file; so
 * this reads before LMDB does (dbfile.c), and where it must not (check.c, salvage).
 *
 * The layout is that of LMDB 0.9 (mdb.c: MDB_page, MDB_node, MDB_meta, MDB_db). */
#ifndef KV_PAGES_H
#define KV_PAGES_H

#include "format.h"
#include "util.h"
#include <kvfs.h>

#define KV_META_MAGIC 0xBEEFC0DEu
#define KV_META_VERSION 1u
#define KV_NO_PAGE UINT64_MAX
#define KV_TXNID_MAX                                                                                                               \
	(UINT64_C(1)                                                                                                               \
		<< 62) /* no store comes there; beyond the last one LMDB would begin again at 0, and what it commits would be older */
#define KV_LMDB_KEY_MAX 511
#define KV_DEPTH_MAX 32 /* as LMDB */
#define KV_PAGE_SIZE_MAX 65536u

enum { KV_PAGE_BRANCH = 0x01, KV_PAGE_LEAF = 0x02, KV_PAGE_OVERFLOW = 0x04, KV_PAGE_META = 0x08 };
enum { KV_NODE_OVERFLOW = 0x01, KV_NODE_TREE = 0x02 };
enum { KV_TREE_NUMBERS = 0x08 }; /* flag of a tree: its keys are integers in the machine's order */

struct kv_lmdb_tree {
	uint32_t pad; /* of the free tree in a meta page: the page size */
	uint16_t flags, depth;
	uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
} KV_PACKED;

struct kv_lmdb_page {
	uint64_t page_no;
	uint16_t pad, flags, lower, upper; /* of an overflow page the last two together: how many pages it is */
} KV_PACKED;

struct kv_lmdb_node {
	uint16_t lo,
		hi; /* of a leaf: length of the value, or (KV_NODE_OVERFLOW) of what is on its pages; of a branch a page's number, with */
	uint16_t flags; /* KV_NODE_*; of a branch the number's upper bits */
	uint16_t key_size;
	uint8_t key[];
} KV_PACKED;

struct kv_lmdb_meta {
	struct kv_lmdb_page head;
	uint32_t magic, version;
	uint64_t address, map_size;
	struct kv_lmdb_tree free, main;
	uint64_t last_page, txnid;
} KV_PACKED;

static inline bool kv_lmdb_meta_is_sound(const struct kv_lmdb_meta *m)
{
	return m->magic == KV_META_MAGIC && m->version == KV_META_VERSION && m->head.flags & KV_PAGE_META &&
	       m->txnid < KV_TXNID_MAX;
}

static inline unsigned kv_page_count(const uint8_t *page)
{
	struct kv_lmdb_page head;
	memcpy(&head, page, sizeof head);
	return (head.lower - (unsigned)sizeof head) / 2;
}

static inline struct kv_lmdb_node *kv_page_node(const uint8_t *page, unsigned i)
{
	uint16_t at;
	memcpy(&at, page + sizeof(struct kv_lmdb_page) + 2 * (size_t)i, sizeof at);
	return (struct kv_lmdb_node *)(page + at);
}

static inline uint32_t kv_node_len(const struct kv_lmdb_node *n)
{
	return n->lo | (uint32_t)n->hi << 16;
}

static inline uint64_t kv_node_child(const struct kv_lmdb_node *n)
{
	return n->lo | (uint64_t)n->hi << 16 | (uint64_t)n->flags << 32;
}

/* Is a value so long that LMDB gives it pages of its own?  Two records fit into each page (me_nodemax). */
static inline bool kv_node_is_large(uint32_t page_size, size_t key_len, uint64_t len)
{
	uint64_t most = (((page_size - sizeof(struct kv_lmdb_page)) / 2) & ~UINT64_C(1)) - sizeof(uint16_t);
	return sizeof(struct kv_lmdb_node) + key_len + len > most;
}

bool kv_page_is(const uint8_t *page, uint64_t page_no, unsigned kind);
/* What is wrong with a page of a tree, NULL if nothing: its header, and nodes, which lie in it and fill it.  Not looked at: the order of keys. */
const char *kv_page_fault(const uint8_t *page, uint64_t page_no, uint32_t page_size, bool leaf);
/* The node of a sound page to begin with: of a leaf the first at or after key, of a branch the one that it is under. */
unsigned kv_page_search(const uint8_t *page, bool leaf, bool numbers, const void *key, size_t len);
/* As LMDB orders keys: as bytes, or (the free tree) as integers in the machine's order. */
int kv_key_compare(bool numbers, const void *a, size_t an, const void *b, size_t bn);

/* One state of the file.  Somebody keeps its pages from being used anew, or nobody writes. */
struct kv_pages {
	int fd;
	uint32_t page_size;
	uint64_t end; /* pages of the state */
	uint64_t
		there; /* of these, pages that the file has: LMDB does not write those that it allocated and dropped in one transaction */
	uint64_t txnid;
	unsigned metas; /* sound meta pages, of two */
	bool unsure; /* both are, and the number of a transaction rotted: this may not be the newest */
	struct kv_lmdb_tree free, main;
};

/* The state of transaction `txnid`, or (0) the newest one that has a sound meta page; `unsure` is told of that alone, and others must
 * not commit meanwhile.  -ENOENT none does · -EIO · -ENOMEM */
int kv_pages_open(int fd, uint32_t page_size, uint64_t txnid, struct kv_pages *ret);

/* Reads a page of a tree and checks it.  0, -EUCLEAN with why, -EIO with why. */
int kv_page_read(const struct kv_pages *p, uint64_t page_no, bool leaf, uint8_t *buf, const char **ret_why);
/* How many pages a value of `len` bytes has from `page` on; 0: no value begins there. */
uint64_t kv_page_overflow(const struct kv_pages *p, uint64_t page, uint64_t len);

/* Who wants to know about each page that a scan comes to. */
struct kv_audit {
	/* n pages from `page` on are the tree's.  False: not to be entered. */
	bool (*enter)(struct kv_audit *a, uint64_t page, uint64_t n);
	/* What is at or under the page cannot be read, or (a fault of one record) the record. */
	void (*fault)(struct kv_audit *a, uint64_t page, const char *why);
	uint64_t branch_pages, leaf_pages, overflow_pages, entries; /* counted */
};

/* Leaf pages in order of their keys, in the place of branch pages that are damaged. */
struct kv_leaves {
	struct kv_leaf {
		uint64_t page_no;
		uint8_t *first; /* key */
		uint16_t first_len;
	} * list;
	size_t n;
};

/* A place in a tree.  Records come in strictly rising order of keys, each page is entered at most once by a scan without seeks; what is damaged
 * is passed over. Memory: a page for each level, and the largest value that was asked for. */
struct kv_scan {
	const struct kv_pages *pages;
	struct kv_lmdb_tree tree;
	struct kv_audit *audit; /* may be NULL */
	const struct kv_leaves *leaves; /* if not NULL, the tree is these */
	size_t next_leaf;
	bool numbers; /* keys are integers in the machine's order: the free tree */
	unsigned depth; /* levels in use */
	struct kv_scan_level {
		uint64_t page_no; /* 0: not loaded */
		uint8_t *page;
		unsigned at, n; /* the next node, of so many */
	} levels[KV_DEPTH_MAX];
	uint8_t last[KV_LMDB_KEY_MAX]; /* the least that the next key may be */
	size_t last_len;
	bool has_last, equal; /* equal: it may be `last` itself */
	/* the record it stands on: valid until it moves */
	struct kv_bytes key;
	uint16_t flags; /* KV_NODE_* */
	uint64_t len; /* of its value */
	uint64_t page; /* on which it is */
	const uint8_t *data; /* in the leaf: the value, or the number of its overflow page */
	uint8_t *big;
	size_t big_cap;
};

/* To be closed also after -ENOMEM. */
int kv_scan_open(struct kv_scan *s, const struct kv_pages *pages, const struct kv_lmdb_tree *tree, struct kv_audit *audit);
int kv_scan_open_leaves(struct kv_scan *s, const struct kv_pages *pages, const struct kv_leaves *leaves);
void kv_scan_close(struct kv_scan *s); /* takes a zeroed one */
/* 1 and a record, 0 at the end, -ENOMEM. */
int kv_scan_next(struct kv_scan *s);
/* The next record is the first one at or after `key`.  Not with an audit. */
int kv_scan_seek(struct kv_scan *s, const void *key, size_t len);
/* The value of the record it stands on; borrowed until the next call.  -EUCLEAN its pages are damaged, -EIO, -ENOMEM. */
int kv_scan_value(struct kv_scan *s, struct kv_bytes *ret);
/* First page of a value in pages of its own; 0: it is in the leaf. */
uint64_t kv_scan_overflow(const struct kv_scan *s);

/* The next records are those of this leaf page: for salvage, where no tree leads to it.  1, 0 it is no sound leaf, -ENOMEM. */
int kv_scan_leaf(struct kv_scan *s, uint64_t page);

/* ---- pages_copy.c ---- */

struct kv_copy {
	const struct kv_pages *from;
	int to; /* an empty file */
	/* Is a record what it should be?  `tree`: "main", or as the main tree has it.  May be NULL. */
	bool (*sound)(void *arg, const char *tree, struct kv_bytes key, struct kv_bytes value);
	kvfs_progress_fn *progress; /* in pages; may be NULL */
	void *arg; /* of both */
	/* as it goes */
	uint64_t next, total; /* pages */
	uint8_t *buf; /* of pages that come before `next` and are not yet written */
	size_t fill;
	char damage[128]; /* filled with -EUCLEAN: what is damaged */
};
/* Writes the state as a file of its own that has no free pages, with the same transaction id, and flushes it.
 * -EUCLEAN a page or record is damaged · -ENOSPC, -EIO ... of writing · what progress returned. */
int kv_pages_copy(struct kv_copy *c);

#endif
