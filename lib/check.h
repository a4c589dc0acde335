/* Is a store whole?  Its pages, then its tables against one another, in one state of data.mdb that is read page by page (pages.h): a damaged
 * store is what this is for.
 *
 * No table holds an inode, a chunk or a name of everything: tables are walked side by side in order of their keys, what is in
 * another order is looked up, and where both sides of a relation are too many to look up they are weighed against each other in a ledger.
 *
 *   check.c          the parts in their order, records, findings, paths
 *   check_pages.c    each page in one tree, or free (LMDB's)
 *   check_leaves.c   trees from their leaves, for salvage
 *   check_log.c      meta, log, history                    DESIGN.md's invariants:
 *   check_garbage.c  garbage, sessions                     V3 S1 S7 S8
 *   check_names.c    dirent, inode, xattr                  N1 N2 N3 N4 I1 I2 I3
 *   check_values.c   the value of an inode, chunk          V1 V2 V4 V5 A1
 *   check_ledger.c   sums of both sides */
#ifndef KV_CHECK_H
#define KV_CHECK_H

#include "changelog.h"
#include "edit.h"
#include "inode.h"
#include "pages.h"

/* ---- ledgers ---- */

/* Two sides name numbers, each as often as the other, if all is well: plus and minus come to nothing in each of 2^16 sums.  If not, both
 * sides are gone through again, and only numbers whose sums did not come to nothing are noted one by one.  A fault stays unseen
 * if sums of 64 bits happen to agree. */
#define KV_LEDGER_LINES 1024

struct kv_ledger_line {
	uint64_t id; /* 0 none */
	uint64_t plus, minus;
	uint64_t balance;
	uint64_t dir; /* a place that was named with it, on the minus side if there is one; 0 none */
	uint16_t name_len;
	char name[256];
};

struct kv_ledger {
	uint64_t *sums;
	struct kv_ledger_line *lines; /* of the second time */
	bool full;
};

/* A directory and a name in it. */
struct kv_spot {
	uint64_t dir;
	struct kv_bytes name;
};

int kv_ledger_open(struct kv_ledger *l);
void kv_ledger_close(struct kv_ledger *l);
/* `tag` must be the same on both sides.  `where` may be NULL. */
void kv_ledger_plus(struct kv_ledger *l, uint64_t id, uint64_t tag, uint64_t times, const struct kv_spot *where);
void kv_ledger_minus(struct kv_ledger *l, uint64_t id, uint64_t tag, const struct kv_spot *where);
bool kv_ledger_is_even(const struct kv_ledger *l);
/* Now each by itself. */
int kv_ledger_look_closer(struct kv_ledger *l);

/* ---- the check ---- */

/* The records of a table, in order.  Damaged ones are passed over. */
struct kv_rows {
	struct kv_check *check;
	enum kv_table table;
	struct kv_scan scan;
	bool keys_only; /* values are neither read nor checked */
	bool tell; /* damaged records are findings: one walk of each table says so */
	struct kv_bytes key, value; /* borrowed until it moves */
	uint64_t len; /* of the value */
};

/* Garbage that concerns chunks of a value, or a session that writes ahead of one. */
struct kv_check_range {
	uint64_t blob;
	uint64_t below; /* KV_GARBAGE_TAIL, _UNDER; of the others the generation */
	uint64_t told; /* _UNDER, _AHEAD: the session's blob */
	uint32_t index; /* _TAIL */
	uint8_t kind; /* KV_CHECK_AHEAD or enum kv_garbage_kind */
};
#define KV_CHECK_AHEAD 100 /* of a session that lives */

struct kv_check_listed { /* of KV_GARBAGE_CHUNKS */
	uint64_t blob;
	uint32_t index, gen;
};

struct kv_check {
	const struct kv_pages *pages;
	bool data; /* read all values */
	kvfs_finding_fn *finding;
	kvfs_progress_fn *progress;
	void *arg;
	struct kvfs_check_result seen;

	struct kv_lmdb_tree main, trees[KV_TABLES]; /* root KV_NO_PAGE: lost */
	uint64_t *map; /* a bit for each page of the file that is in a tree, or free */
	bool bad[KV_TABLES + 1]; /* trees with damaged pages; the last is the main tree */
	bool bad_free; /* the list of free pages is damaged */
	struct kv_leaves leaves[KV_TABLES + 1]; /* of these, for salvage */
	struct kv_layout layout;
	struct kv_head head;
	bool headless; /* the log has no last record: its counters are not known */
	bool again; /* the ledgers are looked at closer: nothing else is told or counted */
	uint64_t done; /* pages, for progress */
	int stop; /* what progress returned */

	struct kv_rows inodes, entries, chunks, xattrs; /* for look-ups: they keep the pages on their way */
	struct kv_inode inode, other; /* that are looked at */

	struct kv_ledger names, blobs;
	struct kv_check_range *ranges; /* sorted by blob */
	size_t nranges;
	struct kv_check_listed *listed; /* sorted */
	size_t nlisted;
	uint64_t new_inodes, new_blobs; /* beyond those that the log says were handed out */
	uint64_t garbage_bytes, kept_bytes, live_chunks, ahead_chunks, hidden_chunks;
};

/* Checks all.  0, or what kept it from going on: -ENOMEM, -EUCLEAN nothing can be told, what progress returned. */
int kv_check(struct kv_check *c);

/* Makes a fresh one ready for look-ups and rows, trees put together from their leaves where they are damaged: for salvage, which then
 * calls kv_check_end(). */
int kv_check_begin(struct kv_check *c);
void kv_check_end(struct kv_check *c);

/* ---- for the parts ---- */

__attribute__((format(printf, 4, 5))) void kv_check_found(
	struct kv_check *c, enum kvfs_finding_kind kind, const char *key, const char *fmt, ...);
/* The key of a place, by the records of the directories above it; NULL when they do not lead to the root.  Valid until the next call. */
const char *kv_check_key(struct kv_check *c, uint64_t dir, struct kv_bytes name);
/* Of an inode by what its record says. */
const char *kv_check_key_of(struct kv_check *c, const struct kv_inode *inode);
void kv_check_tick(struct kv_check *c, uint64_t pages);

int kv_rows_open(struct kv_rows *rows, struct kv_check *c, enum kv_table table);
void kv_rows_close(struct kv_rows *rows);
int kv_rows_next(struct kv_rows *rows); /* 1, 0 at the end, or an error that ends the check */
int kv_rows_seek(struct kv_rows *rows, const void *key, size_t len);
/* 1, 0 it is not there or damaged (*ret_damaged, may be NULL), or an error. */
int kv_rows_get(struct kv_rows *rows, const void *key, size_t len, bool *ret_damaged);
/* The record of an inode.  1, 0, or an error. */
int kv_check_inode(struct kv_check *c, uint64_t ino, struct kv_inode *ret);
/* The inode number, blob, or sequence that a key begins with; 0: it is too short. */
uint64_t kv_rows_id(const struct kv_rows *rows);

int kv_check_pages(struct kv_check *c);
int kv_check_leaves(struct kv_check *c);
bool kv_check_has_bad_trees(const struct kv_check *c);
void kv_check_free_leaves(struct kv_check *c);
int kv_check_meta(struct kv_check *c);
int kv_check_log(struct kv_check *c);
int kv_check_garbage(struct kv_check *c);
int kv_check_sessions(struct kv_check *c);
int kv_check_names(struct kv_check *c);
int kv_check_inodes(struct kv_check *c); /* the same without the ledger */
int kv_check_xattrs(struct kv_check *c);
/* Is the record of chunk `index` of generation `gen` part of the value, which has `chunks`?  Those of one index come newest first; *found is 0 at the begin. */
bool kv_check_is_live(const struct kv_inode *inode, uint64_t chunks, uint32_t index, uint32_t gen, uint64_t *found);
/* The value of a regular inode. */
int kv_check_value(struct kv_check *c, const struct kv_inode *inode);
int kv_check_chunks(struct kv_check *c);
/* Has blob any record (at this index)?  1, 0, or an error. */
int kv_check_has_chunks(struct kv_check *c, uint64_t blob, const uint32_t *index);

#endif
