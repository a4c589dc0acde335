/* kvfs_check() finds what is planted, each fault by itself: records with right sums that contradict each other, pages that are not what
 * they should be, bits, a cut file.  A fault is planted in a store that was found whole. */
#include "support.h"

#include "planted.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunk.h"
#include "garbage.h"

/* ---- what is found ---- */

static struct findings *check(struct plant *p, struct kvfs_check_result *seen)
{
	static struct findings all;
	struct kvfs_check_options opt = {.size = sizeof opt, .flags = KVFS_CHECK_DATA, .finding = planted_note, .arg = &all};
	struct kvfs_error err = {0};
	planted_done(p);
	all.n = 0;
	int r = kvfs_check(p->path, &opt, seen, &err);
	if (r)
		fail_msg("check: %s", err.text);
	return &all;
}

/* Something like this is among the findings; key "" is none. */
static void assert_found(struct plant *p, enum kvfs_finding_kind kind, const char *key, const char *words)
{
	struct kvfs_check_result seen;
	struct findings *all = check(p, &seen);
	for (size_t i = 0; i < all->n; i++)
		if (all->list[i].kind == kind && strcmp(all->list[i].key, key) == 0 && strstr(all->list[i].text, words))
			return;
	planted_print(all);
	fail_msg("not found: %d '%s' %s", kind, key, words);
}

/* And nothing else is. */
static void assert_only(struct plant *p, enum kvfs_finding_kind kind, const char *key, const char *words)
{
	struct kvfs_check_result seen;
	struct findings *all = check(p, &seen);
	if (all->n != 1)
		planted_print(all);
	assert_int_equal(all->n, 1);
	assert_found(p, kind, key, words);
}

static void test_whole(void **state)
{
	struct kvfs_check_result seen;
	assert_int_equal(check(*state, &seen)->n, 0);
	assert_int_equal(seen.values, 303);
	assert_int_equal(seen.directories, 3);
	assert_int_equal(seen.others, 1);
	assert_int_equal(seen.damaged_values, 0);
	assert_int_equal(seen.inodes, 308);
	assert_int_equal(seen.chunks - seen.dead_chunks, 11);
}

/* ---- names ---- */

static void test_orphan(void **state)
{
	struct plant *p = *state;
	assert_ok(kv_dirent_del(&p->txn, KV_ROOT, "link", 4));
	assert_found(p, KVFS_FINDING_LOST, "link", "has no name any more");
}

static void test_entry_to_nowhere(void **state)
{
	struct plant *p = *state;
	assert_ok(kv_dirent_put(&p->txn, p->sub.ino, "ghost", 5, (struct kv_dirent){.ino = 4000, .type = S_IFREG}));
	assert_found(p, KVFS_FINDING_LOST, "dir/sub/ghost", "leads to inode 4000, which is not there");
	assert_found(p, KVFS_FINDING_WRONG, "dir/sub", "counts 1 entries");
}

static void test_link_count(void **state)
{
	struct plant *p = *state;
	p->twin.rec.nlink = 3;
	assert_ok(kv_inode_put(&p->txn, &p->twin));
	assert_found(p, KVFS_FINDING_WRONG, "dir/twin", "has 2 names, and counts 3");
	assert_found(p, KVFS_FINDING_WRONG, "", "has 2 names listed, where 3 should be");
}

static void test_listed_names(void **state)
{
	struct plant *p = *state;
	struct kv_key_link key;
	struct iovec none = {NULL, 0};
	assert_ok(kv_db_del(&p->txn, KV_INODE, &key, kv_key_link(&key, p->twin.ino, p->dir.ino, "twin", 4)));
	assert_ok(kv_db_put(&p->txn, KV_INODE, &key, kv_key_link(&key, p->twin.ino, p->sub.ino, "other", 5), &none, 1));
	assert_ok(kv_db_put(&p->txn, KV_INODE, &key, kv_key_link(&key, p->note.ino, p->sub.ino, "note", 4), &none, 1));
	assert_found(p, KVFS_FINDING_WRONG, "dir/sub/other", "lists this as a name of it, and it is not");
	assert_found(p, KVFS_FINDING_WRONG, "", "has 1 names listed, where 0 should be");
}

static void test_directory_counts(void **state)
{
	struct plant *p = *state;
	p->dir.rec.size++;
	assert_ok(kv_inode_put(&p->txn, &p->dir));
	assert_only(p, KVFS_FINDING_WRONG, "dir", "counts 4 entries, 1 of them directories, and has 3, 1");
}

static void test_type_in_entry(void **state)
{
	struct plant *p = *state;
	assert_ok(kv_dirent_put(&p->txn, KV_ROOT, "twin", 4, (struct kv_dirent){.ino = p->twin.ino, .type = S_IFIFO}));
	assert_only(p, KVFS_FINDING_WRONG, "dir/twin", "another type");
}

static void test_own_name(void **state)
{
	struct plant *p = *state;
	kv_inode_set_name(&p->twin, p->sub.ino, "other", 5);
	p->twin.home = KV_HOME_HERE; /* as if it were there */
	p->twin.home_parent = p->sub.ino;
	strcpy(p->twin.home_name, "other");
	assert_ok(kv_inode_put(&p->txn, &p->twin));
	assert_only(p, KVFS_FINDING_WRONG, "dir/sub/other", "says that this is its name");
}

/* dir is in dir/sub, which is in dir. */
static void test_ring(void **state)
{
	struct plant *p = *state;
	assert_ok(kv_dirent_del(&p->txn, KV_ROOT, "dir", 3));
	assert_ok(kv_dirent_put(&p->txn, p->sub.ino, "dir", 3, (struct kv_dirent){.ino = p->dir.ino, .type = S_IFDIR}));
	p->dir.rec.parent = p->dir.home_parent = p->sub.ino;
	assert_ok(kv_inode_put(&p->txn, &p->dir));
	assert_found(p, KVFS_FINDING_LOST, "", "does not hang from the root");
}

static void test_record_in_two_places(void **state)
{
	struct plant *p = *state;
	struct kv_dirent ent;
	char copy[KV_EMBED_MAX];
	assert_ok(kv_dirent_get(&p->txn, p->sub.ino, "note", 4, &ent));
	assert_true(ent.inode.len > 0);
	memcpy(copy, ent.inode.data, ent.inode.len);
	ent.inode.data = copy;
	assert_ok(kv_dirent_put(&p->txn, KV_ROOT, "note", 4, ent));
	assert_found(p, KVFS_FINDING_WRONG, "note", "of another name");
	assert_found(p, KVFS_FINDING_WRONG, "dir/sub/note", "has 2 names, and counts 1");
}

static void test_attributes(void **state)
{
	struct plant *p = *state;
	struct kv_key_name key;
	struct iovec part = {"close", 5};
	size_t len = kv_key_name(&key, p->note.ino, "user.kvfs.publish", 17);
	assert_ok(kv_db_put(&p->txn, KV_XATTR, &key, len, &part, 1));
	assert_only(p, KVFS_FINDING_WRONG, "dir/sub/note", "does not say what extended attributes");
}

static void test_publish_without_attribute(void **state)
{
	struct plant *p = *state;
	p->note.rec.flags |= KV_INODE_PUBLISH_WRITE;
	assert_ok(kv_inode_put(&p->txn, &p->note));
	assert_found(p, KVFS_FINDING_WRONG, "dir/sub/note", "has no attribute");
}

static void test_attribute_of_nobody(void **state)
{
	struct plant *p = *state;
	struct kv_key_name key;
	struct iovec part = {"b", 1};
	size_t len = kv_key_name(&key, 5000, "user.a", 6);
	assert_ok(kv_db_put(&p->txn, KV_XATTR, &key, len, &part, 1));
	assert_only(p, KVFS_FINDING_LOST, "", "inode 5000 has extended attributes");
}

/* ---- values ---- */

static void test_missing_chunk(void **state)
{
	struct plant *p = *state;
	assert_ok(kv_chunk_del(&p->txn, p->big.rec.blob, 3, 0));
	assert_only(p, KVFS_FINDING_LOST, "dir/big", "1 of its 10 chunks are missing, the first at byte 98208");
}

static void test_chunk_of_nobody(void **state)
{
	struct plant *p = *state;
	p->head.rec.next_blob++;
	assert_ok(kv_chunk_put(&p->txn, p->head.rec.next_blob - 1, 0, 0, "x", 1));
	assert_ok(kv_log_append(&p->txn, &p->head, &(struct kv_changes){0}));
	assert_only(p, KVFS_FINDING_SPACE, "", "is nobody's");
}

static void test_old_chunk(void **state)
{
	struct plant *p = *state;
	assert_ok(kv_chunk_put(&p->txn, p->big.rec.blob, 3, 7, "x", 1));
	assert_only(p, KVFS_FINDING_SPACE, "dir/big", "nobody will free an old version of chunk 3");
}

static void test_blob_of_two(void **state)
{
	struct plant *p = *state;
	p->note.rec.blob = p->big.rec.blob;
	assert_ok(kv_inode_put(&p->txn, &p->note));
	assert_found(p, KVFS_FINDING_WRONG, "", "has 2 owners");
}

static void put_garbage(struct plant *p, struct kv_rec_garbage rec)
{
	struct kv_garbage g = {.due = p->head.seq, .id = 99, .rec = rec};
	assert_ok(kv_garbage_put(&p->txn, &g));
}

static void test_garbage_of_live_blob(void **state)
{
	struct plant *p = *state;
	put_garbage(p, (struct kv_rec_garbage){.kind = KV_GARBAGE_BLOB, .blob = p->big.rec.blob, .below = UINT64_MAX});
	assert_only(p, KVFS_FINDING_WRONG, "", "has 2 owners");
}

static void test_garbage_of_live_chunks(void **state)
{
	struct plant *p = *state;
	put_garbage(p, (struct kv_rec_garbage){.kind = KV_GARBAGE_TAIL, .blob = p->big.rec.blob, .index = 9, .below = 1});
	assert_only(p, KVFS_FINDING_WRONG, "dir/big", "to be freed, and part of the value, is chunk 9");
}

static void test_garbage_bytes(void **state)
{
	struct plant *p = *state;
	put_garbage(p, (struct kv_rec_garbage){.kind = KV_GARBAGE_BLOB, .blob = 1000, .below = UINT64_MAX, .bytes = 77});
	assert_only(p, KVFS_FINDING_WRONG, "", "bytes of garbage");
}

static void test_cut_and_skip(void **state)
{
	struct plant *p = *state;
	p->big.rec.ncuts = 1;
	p->big.cuts[0] = (struct kv_rec_cut){20, 1};
	p->big.rec.nskips = 1;
	p->big.skips[0] = 5;
	assert_ok(kv_inode_put(&p->txn, &p->big));
	assert_found(p, KVFS_FINDING_WRONG, "dir/big", "never ends the truncation at chunk 20");
	assert_found(p, KVFS_FINDING_WRONG, "dir/big", "the reserved generation 5");
}

static void test_size(void **state)
{
	struct plant *p = *state;
	p->big.rec.size -= CHUNK;
	assert_ok(kv_inode_put(&p->txn, &p->big));
	assert_found(p, KVFS_FINDING_SPACE, "dir/big", "nobody will free an old version of chunk 9");
	assert_found(p, KVFS_FINDING_WRONG, "", "bytes of values");
}

static void test_kept(void **state)
{
	struct plant *p = *state;
	struct kv_kept kept = {.id = 1, .rec = {.reason = 9, .stored = CHUNK, .flags = KV_KEPT_WHOLE}, .name = "n"};
	assert_ok(kv_kept_put(&p->txn, &kept));
	assert_found(p, KVFS_FINDING_LOST, "", "the kept session 1 is not whole");
}

/* ---- the store's own records ---- */

static void test_counters(void **state)
{
	struct plant *p = *state;
	p->head.rec.values++;
	assert_ok(kv_log_append(&p->txn, &p->head, &(struct kv_changes){0}));
	assert_only(p, KVFS_FINDING_WRONG, "", "the store counts 304 values");
}

static void test_log_gap(void **state)
{
	struct plant *p = *state;
	p->head.seq++;
	assert_ok(kv_log_append(&p->txn, &p->head, &(struct kv_changes){0}));
	assert_only(p, KVFS_FINDING_WRONG, "", "of the last changes 1 are not in the log");
}

static void test_no_log(void **state)
{
	struct plant *p = *state;
	for (uint64_t seq = p->head.seq; seq > p->head.seq - 20; seq--) {
		struct kv_key_ino key = kv_key_u64(seq);
		assert_true(kv_db_del(&p->txn, KV_LOG, &key, sizeof key) <= 0);
	}
	assert_found(p, KVFS_FINDING_LOST, "", "the change log has no last record");
}

static void test_no_meta(void **state)
{
	struct plant *p = *state;
	assert_ok(kv_db_del(&p->txn, KV_META, "store", 5));
	assert_only(p, KVFS_FINDING_LOST, "", "the store's own record is damaged");
}

static void test_numbers(void **state)
{
	struct plant *p = *state;
	p->head.rec.next_ino = 5;
	p->head.rec.next_blob = 1;
	assert_ok(kv_log_append(&p->txn, &p->head, &(struct kv_changes){0}));
	assert_only(p, KVFS_FINDING_WRONG, "", "304 inodes and 2 blobs have numbers that were never handed out");
}

/* ---- pages ---- */

static void test_page_in_two_trees(void **state)
{
	struct plant *p = *state;
	struct kv_lmdb_tree a, b;
	planted_open_file(p);
	uint64_t at = planted_find_tree(p, "xattr", &a);
	planted_find_tree(p, "chunk", &b);
	planted_write(p, at + offsetof(struct kv_lmdb_tree, root), &b.root, sizeof b.root);
	assert_found(p, KVFS_FINDING_WRONG, "", "belongs to something else too");
	assert_found(p, KVFS_FINDING_SPACE, "", "1 pages are in no tree");
}

static void test_tree_counts(void **state)
{
	struct plant *p = *state;
	struct kv_lmdb_tree a;
	planted_open_file(p);
	uint64_t at = planted_find_tree(p, "xattr", &a);
	a.entries = 17;
	planted_write(p, at, &a, sizeof a);
	assert_only(p, KVFS_FINDING_WRONG, "", "the tree 'xattr' has 1 records on 1 pages, and says 17 on 1");
}

static void test_free_and_used(void **state)
{
	struct plant *p = *state;
	struct kv_lmdb_tree a;
	struct kv_scan s;
	planted_open_file(p);
	planted_find_tree(p, "chunk", &a);
	assert_ok(kv_scan_open(&s, &p->pages, &p->pages.free, NULL));
	assert_int_equal(kv_scan_next(&s), 1);
	assert_int_equal(kv_scan_overflow(&s), 0);
	uint64_t n, at = s.page * p->pages.page_size + (uint64_t)(s.data - s.levels[s.depth - 1].page);
	memcpy(&n, s.data, sizeof n);
	assert_true(n > 0);
	kv_scan_close(&s);
	for (uint64_t i = 1; i <= n; i++) /* all of them, so that one is in its place */
		planted_write(p, at + 8 * i, &a.root, sizeof a.root);
	assert_found(p, KVFS_FINDING_WRONG, "", "the list of free pages names");
}

static void test_bit_in_data(void **state)
{
	struct plant *p = *state;
	struct kv_lmdb_tree a;
	struct kv_scan s;
	planted_open_file(p);
	planted_find_tree(p, "chunk", &a);
	struct kv_key_chunk key = kv_key_chunk(p->big.rec.blob, 4, 0);
	assert_ok(kv_scan_open(&s, &p->pages, &a, NULL));
	assert_ok(kv_scan_seek(&s, &key, sizeof key));
	assert_int_equal(kv_scan_next(&s), 1);
	planted_write(p, kv_scan_overflow(&s) * p->pages.page_size + 12345, "\1", 1);
	kv_scan_close(&s);
	assert_only(p, KVFS_FINDING_LOST, "dir/big", "1 of its 10 chunks are damaged, the first at byte 130944");
}

/* The root of the entries: all names are lost, and all that is left is told of. */
static void test_branch_page(void **state)
{
	struct plant *p = *state;
	struct kv_lmdb_tree a;
	struct kvfs_check_result seen;
	planted_open_file(p);
	planted_find_tree(p, "dirent", &a);
	assert_true(a.depth > 1);
	planted_write(p, a.root * p->pages.page_size, "\1\2\3\4\5\6\7\10", 8);
	assert_found(p, KVFS_FINDING_LOST, "", "of the tree 'dirent': it is another page");
	assert_found(p, KVFS_FINDING_WRONG, "", "counts 4 entries, 2 of them directories, and has 0, 0");
	check(p, &seen);
	assert_int_equal(seen.values, 1); /* the one whose record is not in an entry */
}

static void test_truncated(void **state)
{
	struct plant *p = *state;
	struct kvfs_check_result seen;
	planted_open_file(p);
	assert_int_equal(ftruncate(p->fd, (off_t)(p->pages.there / 2 * p->pages.page_size)), 0);
	assert_true(check(p, &seen)->n > 0);
	assert_true(seen.lost > 0);
	assert_int_equal(ftruncate(p->fd, 8192), 0);
	assert_found(p, KVFS_FINDING_LOST, "", "the tree 'dirent' is not there");
	assert_int_equal(ftruncate(p->fd, 0), 0);
	struct kvfs_error err;
	int r = kvfs_check(p->path, NULL, &seen, &err);
	if (r != -EUCLEAN)
		fail_msg("%d %s", r, err.text);
}

static void test_meta_page(void **state)
{
	struct plant *p = *state;
	struct kvfs_check_result seen;
	planted_open_file(p);
	planted_write(p, 16, "\0\0\0\0", 4);
	planted_write(p, 4096 + 16, "\0\0\0\0", 4);
	assert_true(kvfs_check(p->path, NULL, &seen, NULL) < 0);
}

/* Any one byte, anywhere: a fault of what is in use is found, and nothing else happens. */
static void test_bytes(void **state)
{
	struct plant *p = *state;
	struct support_rng rng = support_rng(1);
	struct kvfs_check_result seen;
	unsigned found = 0, rounds = getenv("KVFS_SLOW") ? 20 : 150;
	planted_open_file(p);
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t page = 2 + support_below(&rng, p->pages.there - 2),
			 at = page * 4096 + support_below(&rng, i % 2 ? 4096 : 16);
		uint8_t old, new;
		assert_int_equal(pread(p->fd, &old, 1, (off_t)at), 1);
		new = old ^ (uint8_t)(1 + support_below(&rng, 255));
		planted_write(p, at, &new, 1);
		found += check(p, &seen)->n > 0;
		planted_write(p, at, &old, 1);
	}
	assert_int_equal(check(p, &seen)->n, 0);
	assert_true(found > rounds / 3);
}

int main(void)
{
#define PLANT(f) cmocka_unit_test_setup_teardown(f, planted_setup, planted_teardown)
	const struct CMUnitTest tests[] = {PLANT(test_whole), PLANT(test_orphan), PLANT(test_entry_to_nowhere),
		PLANT(test_link_count), PLANT(test_listed_names), PLANT(test_directory_counts), PLANT(test_type_in_entry),
		PLANT(test_own_name), PLANT(test_ring), PLANT(test_record_in_two_places), PLANT(test_attributes),
		PLANT(test_publish_without_attribute), PLANT(test_attribute_of_nobody), PLANT(test_missing_chunk),
		PLANT(test_chunk_of_nobody), PLANT(test_old_chunk), PLANT(test_blob_of_two), PLANT(test_garbage_of_live_blob),
		PLANT(test_garbage_of_live_chunks), PLANT(test_garbage_bytes), PLANT(test_cut_and_skip), PLANT(test_size),
		PLANT(test_kept), PLANT(test_counters), PLANT(test_log_gap), PLANT(test_no_log), PLANT(test_no_meta),
		PLANT(test_numbers), PLANT(test_page_in_two_trees), PLANT(test_tree_counts), PLANT(test_free_and_used),
		PLANT(test_bit_in_data), PLANT(test_branch_page), PLANT(test_truncated), PLANT(test_meta_page), PLANT(test_bytes)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
