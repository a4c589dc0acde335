/* The trees of one state, read in the map that LMDB made, with nothing believed.
 *
 *  M1  No page is used before this process has checked it: that it is the page it says, its records lie in it and fill it, their
 *      keys rise, and lie in the range of what leads to it.  A bit for each page remembers.
 *  M2  Readers read here, and no call of theirs reads a page through LMDB, which would follow a damaged one anywhere.
 *  M3  Before LMDB goes into a tree, each page that it may come to has been checked: those on the way to the key; where records get fewer or
 *      smaller, so many beside it as LMDB may join (tree.c says how many); and the list of free pages, from which it takes those that it writes.
 *
 *  M4  That a record is absent is believed only if the records on both sides of its place are where they should be, the pages on the way have
 *      only keys of their range, and all records in its leaf are sound, of those with pages of their own the ones beside its place: else it may be
 *      one of those whose key rotted, or a branch page may have led past it.
 *
 * What others commit meanwhile is written by LMDB, which makes sound pages of sound ones.  Not held up: who changes or cuts the file under a
 * process that has it open. */
#ifndef KV_TREE_H
#define KV_TREE_H

#include "pages.h"

struct kv_map_part;

/* data.mdb as LMDB has mapped it. */
struct kv_map {
	const uint8_t *base; /* NULL: not known yet; pages are read into `buf` then, for kv_tree_find() alone */
	uint8_t *buf; /* two pages */
	uint64_t in_buf[2]; /* their numbers, when they are sound; else 0 */
	int fd;
	uint32_t page_size;
	uint64_t max; /* pages that the map has room for */
	uint64_t fresh; /* from this page on the file was made by LMDB while we had it open: not crafted */
	_Atomic uint64_t there; /* pages of the file when last looked */
	struct kv_map_part *_Atomic *parts; /* which pages were found sound */
	/* what -EUCLEAN was last about */
	_Atomic uint64_t bad_page;
	const char *_Atomic why;
};

struct kv_tree {
	uint64_t root; /* KV_NO_PAGE: empty */
	uint64_t end; /* pages of its state */
	uint64_t entries; /* as its record says; of more than one page nobody has counted */
	uint16_t depth;
	uint16_t table; /* for kv_sound_fn */
	bool numbers; /* keys are integers in the machine's order: the free tree */
};

/* `max_bytes`: of LMDB's map.  -ENOMEM */
int kv_map_open(struct kv_map *map, int fd, uint32_t page_size, uint64_t max_bytes);
/* From here on pages are read in the map; `in`: anything in page `page_no` there. */
void kv_map_set_base(struct kv_map *map, const void *in, uint64_t page_no);
void kv_map_close(struct kv_map *map); /* takes a zeroed one */

/* Two of a state's trees, as its meta page has them.  -EUCLEAN it has none, or another transaction's: unless a commit came between. */
int kv_map_state(struct kv_map *map, uint64_t txnid, struct kv_tree *ret_main, struct kv_tree *ret_free);

/* A record where it lies. */
struct kv_record {
	struct kv_bytes key, value; /* the latter in the leaf, or in pages of its own */
	uint64_t page; /* its leaf */
};

/* Does the sum of a record agree?  `table` as the tree has it. */
typedef bool kv_sound_fn(unsigned table, struct kv_bytes key, struct kv_bytes value);

/* 0 and the record, -ENOENT, -EUCLEAN.  Without `sound` what M4 says of the leaf is not asked. */
int kv_tree_find(
	struct kv_map *map, const struct kv_tree *tree, const void *key, size_t len, kv_sound_fn *sound, struct kv_record *ret);
/* The tree that a record of the main tree is the root of; ret_record may be NULL. */
int kv_tree_named(
	struct kv_map *map, const struct kv_tree *main, const char *name, struct kv_tree *ret, struct kv_record *ret_record);
/* M3 for a key: 0, -EUCLEAN.  `left`: how many bytes its record will have then; 0: it is taken away, or a cursor moves on from there;
 * KV_UNCHANGED: as many as now. */
#define KV_UNCHANGED UINT64_MAX
int kv_tree_prepare(struct kv_map *map, const struct kv_tree *tree, const void *key, size_t len, uint64_t left);
/* Page numbers and records in the free tree. */
int kv_tree_count_free(struct kv_map *map, const struct kv_tree *free, uint64_t *ret_pages, uint64_t *ret_txns);
/* Whether what is listed as free may be, for about the first `most` numbers: each is a page of the file and listed once.  With `trees`, that is all other
 * trees of the state, they are walked, too, and each page must have one owner. */
int kv_map_check(struct kv_map *map, const struct kv_tree *free, const struct kv_tree *const trees[], size_t n, uint64_t most);

/* A finger: a place in a tree.  Moves give 0, -ENOENT there is no such record, -EUCLEAN; after an error it is nowhere. */
struct kv_finger {
	struct kv_map *map;
	struct kv_tree tree;
	bool strict; /* wherever it comes to, the page's range is compared again */
	unsigned depth; /* levels in use; 0: it is nowhere */
	struct kv_finger_level {
		const uint8_t *page;
		unsigned at, n; /* the node, of so many */
	} levels[KV_DEPTH_MAX];
};
void kv_finger_init(struct kv_finger *p, struct kv_map *map, const struct kv_tree *tree);
int kv_finger_seek(struct kv_finger *p, const void *key, size_t len); /* the first record at or after key */
int kv_finger_last(struct kv_finger *p);
int kv_finger_next(struct kv_finger *p);
int kv_finger_prev(struct kv_finger *p);
/* The record it stands on.  Without `value` only the key.  -EUCLEAN pages of the value's own are damaged. */
int kv_finger_get(struct kv_finger *p, bool value, struct kv_record *ret);

#endif
