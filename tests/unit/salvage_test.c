/* kvfs_salvage(): what is there is saved, what is lost is named, the damaged store stays as it is, the new one is whole. */
#include "support.h"

#include "planted.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chunk.h"

static uint64_t hash_file(const char *dir)
{
	char path[200];
	uint64_t h = 1;
	snprintf(path, sizeof path, "%s/data.mdb", dir);
	FILE *f = fopen(path, "re");
	for (int c; (c = getc(f)) != EOF;)
		h = (h ^ (uint64_t)c) * 0x100000001b3;
	fclose(f);
	return h;
}

/* Saves what there is into a new store, which is whole, whatever the old one is; opens it. */
static struct kvfs_store *repair(struct plant *p, struct kvfs_salvage_result *ret, struct findings *told)
{
	static char dest[200];
	struct kvfs_check_options opt = {.size = sizeof opt, .finding = planted_note, .arg = told};
	struct kvfs_options open_opt = {.size = sizeof open_opt, .flags = KVFS_RDONLY};
	struct kvfs_check_result seen;
	struct kvfs_error err = {0};
	struct kvfs_store *store;
	planted_done(p);
	told->n = 0;
	snprintf(dest, sizeof dest, "%s/new", support_tmpdir());
	uint64_t before = hash_file(p->path);
	if (kvfs_salvage(p->path, dest, &opt, ret, &err))
		fail_msg("salvage: %s", err.text);
	assert_true(hash_file(p->path) == before);
	assert_err(kvfs_salvage(p->path, dest, &opt, ret, &err), -EEXIST);
	assert_ok(kvfs_check(dest, &(struct kvfs_check_options){.size = sizeof opt, .flags = KVFS_CHECK_DATA}, &seen, &err));
	assert_int_equal(seen.lost + seen.wrong + seen.space, 0);
	assert_ok(kvfs_open(dest, &open_opt, &store, NULL));
	return store;
}

static void assert_size(struct kvfs_store *store, const char *key, size_t size)
{
	void *data;
	size_t len;
	assert_ok(kvfs_get(store, key, &data, &len));
	assert_int_equal(len, size);
	free(data);
}

static void assert_told(const struct findings *told, const char *key, const char *words)
{
	for (size_t i = 0; i < told->n; i++)
		if (strcmp(told->list[i].key, key) == 0 && strstr(told->list[i].text, words))
			return;
	planted_print(told);
	fail_msg("not told: '%s' %s", key, words);
}

/* Everything is there. */
static void assert_all(struct kvfs_store *store, const struct kvfs_salvage_result *saved)
{
	struct kvfs_stat a, b;
	char buf[20] = "";
	assert_int_equal(saved->values, 304); /* names */
	assert_int_equal(saved->directories, 3);
	assert_int_equal(saved->others, 1);
	assert_int_equal(saved->lost + saved->damaged + saved->found, 0);
	assert_size(store, "dir/big", 10 * CHUNK);
	assert_size(store, "many/key399", 300);
	assert_ok(kvfs_stat(store, "twin", &a));
	assert_ok(kvfs_stat(store, "dir/twin", &b));
	assert_true(a.ino == b.ino && a.nlink == 2 && a.size == 5000);
	assert_count(kvfs_readlink(store, "link", buf, sizeof buf), 6);
	assert_string_equal(buf, "target");
	assert_count(kvfs_getxattr(store, "dir/sub/note", "user.a", buf, sizeof buf), 1);
}

static void test_whole(void **state)
{
	struct plant *p = *state;
	static struct findings told;
	struct kvfs_salvage_result saved;
	struct kvfs_setattr attr = {
		.valid = KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_MTIME, .mode = 04711, .uid = 12, .mtime = {5, 6}};
	struct kvfs_stat st;
	planted_done(p);
	assert_ok(kvfs_setattr(p->store, "dir/big", &attr));
	assert_ok(kvfs_setattr(p->store, "dir", &attr));
	struct kvfs_store *store = repair(p, &saved, &told);
	assert_all(store, &saved);
	assert_int_equal(told.n, 0);
	assert_ok(kvfs_stat(store, "dir/big", &st));
	assert_true((st.mode & 07777) == 04711 && st.uid == 12 && st.mtime.tv_sec == 5 && st.mtime.tv_nsec == 6);
	assert_ok(kvfs_stat(store, "dir", &st));
	assert_true((st.mode & 07777) == 04711 && st.uid == 12 && st.mtime.tv_sec == 5 && st.mtime.tv_nsec == 6);
	kvfs_close(store);
}

/* The ways to the leaves are lost, one by one and all together: nothing else is. */
static void test_branches(void **state)
{
	struct plant *p = *state;
	static const char *const trees[] = {"dirent", "inode", "chunk", NULL};
	static struct findings told;
	struct kvfs_salvage_result saved;
	struct kv_lmdb_tree tree;
	planted_open_file(p);
	for (int i = 0; i < 4; i++) {
		uint64_t root = p->pages.main.root;
		if (trees[i])
			planted_find_tree(p, trees[i], &tree);
		if (trees[i] && tree.depth < 2)
			continue;
		planted_write(p, (trees[i] ? tree.root : root) * p->pages.page_size, "nothing!", 8);
		struct kvfs_store *store = repair(p, &saved, &told);
		assert_all(store, &saved);
		kvfs_close(store);
	}
}

static void test_leaf(void **state)
{
	struct plant *p = *state;
	static struct findings told;
	struct kvfs_salvage_result saved;
	struct kv_lmdb_tree tree;
	struct kv_scan s;
	unsigned names = 0;
	planted_open_file(p);
	planted_find_tree(p, "dirent", &tree);
	assert_ok(kv_scan_open(&s, &p->pages, &tree, NULL));
	uint64_t page = 0;
	while (kv_scan_next(&s) == 1) { /* the last leaf */
		names = s.page == page ? names + 1 : 1;
		page = s.page;
	}
	kv_scan_close(&s);
	planted_write(p, page * p->pages.page_size, "nothing!", 8);
	struct kvfs_store *store = repair(p, &saved, &told);
	assert_int_equal(saved.lost, names);
	assert_int_equal(saved.values, 304 - names);
	assert_told(&told, "many", "of the 300 names in it");
	assert_told(&told, "many/key399", "its entry is lost");
	kvfs_close(store);
}

static void test_names(void **state)
{
	struct plant *p = *state;
	static struct findings told;
	struct kvfs_salvage_result saved;
	assert_ok(kv_dirent_del(&p->txn, KV_ROOT, "dir", 3)); /* it says itself where it was */
	assert_ok(kv_dirent_del(&p->txn, KV_ROOT, "link", 4)); /* all of it was there */
	assert_ok(kv_dirent_put(&p->txn, p->sub.ino, "ghost", 5, (struct kv_dirent){.ino = 4000, .type = S_IFREG}));
	p->twin.rec.nlink = 1;
	p->twin.rec.parent = 0;
	p->twin.rec.name_len = 0;
	p->twin.name[0] = 0;
	assert_ok(kv_inode_put(&p->txn, &p->twin));
	assert_ok(kv_dirent_del(&p->txn, KV_ROOT, "twin", 4));
	assert_ok(kv_dirent_del(&p->txn, p->dir.ino, "twin", 4));
	struct kvfs_store *store = repair(p, &saved, &told);
	char key[50];
	assert_size(store, "dir/big", 10 * CHUNK);
	assert_size(store, "dir/sub/note", 4);
	sprintf(key, "lost+found/#%llu", (unsigned long long)p->twin.ino);
	assert_size(store, key, 5000);
	assert_int_equal(saved.found, 1);
	assert_int_equal(saved.lost, 2);
	assert_told(&told, "link", "its entry is lost");
	assert_told(&told, "dir/sub/ghost", "its inode is lost");
	kvfs_close(store);
}

/* An inode lists its names: one whose entry is lost comes back. */
static void test_listed(void **state)
{
	struct plant *p = *state;
	static struct findings told;
	struct kvfs_salvage_result saved;
	assert_ok(kv_dirent_del(&p->txn, p->dir.ino, "twin", 4));
	assert_ok(kv_dirent_del(&p->txn, KV_ROOT, "twin", 4));
	struct kvfs_store *store = repair(p, &saved, &told);
	assert_all(store, &saved);
	kvfs_close(store);
}

static void test_ring(void **state)
{
	struct plant *p = *state;
	static struct findings told;
	struct kvfs_salvage_result saved;
	assert_ok(kv_dirent_del(&p->txn, KV_ROOT, "dir", 3));
	assert_ok(kv_dirent_put(&p->txn, p->sub.ino, "dir", 3, (struct kv_dirent){.ino = p->dir.ino, .type = S_IFDIR}));
	p->dir.rec.parent = p->dir.home_parent = p->sub.ino;
	assert_ok(kv_inode_put(&p->txn, &p->dir));
	struct kvfs_store *store = repair(p, &saved, &told);
	char key[50];
	sprintf(key, "lost+found/#%llu/%s", (unsigned long long)p->dir.ino, "big");
	assert_size(store, key, 10 * CHUNK);
	assert_int_equal(saved.found, 1);
	kvfs_close(store);
}

static void test_directory(void **state)
{
	struct plant *p = *state;
	static struct findings told;
	struct kvfs_salvage_result saved;
	assert_ok(kv_inode_del(&p->txn, p->dir.ino));
	assert_ok(kv_inode_del(&p->txn, p->sub.ino));
	assert_ok(kv_dirent_del(&p->txn, p->dir.ino, "sub", 3));
	struct kvfs_store *store = repair(p, &saved, &told);
	char key[50];
	assert_size(store, "dir/big", 10 * CHUNK);
	assert_told(&told, "dir", "own record is lost");
	sprintf(key, "lost+found/#%llu/note", (unsigned long long)p->sub.ino);
	assert_size(store, key, 4);
	kvfs_close(store);
}

static void test_chunks(void **state)
{
	struct plant *p = *state;
	static struct findings told;
	struct kvfs_salvage_result saved;
	assert_ok(kv_chunk_del(&p->txn, p->big.rec.blob, 3, 0));
	assert_ok(kv_chunk_del(&p->txn, p->big.rec.blob, 9, 0));
	assert_ok(kv_chunk_put(&p->txn, p->big.rec.blob, 5, 7, "not yet part of it", 18));
	struct kvfs_store *store = repair(p, &saved, &told);
	assert_size(store, "dir/big", 10 * CHUNK);
	assert_told(&told, "dir/big", "2 of its 10 chunks of 32736 bytes are lost, the first is chunk 3");
	assert_int_equal(saved.damaged, 1);
	assert_int_equal(told.n, 1);
	kvfs_close(store);
}

int main(void)
{
#define PLANT(f) cmocka_unit_test_setup_teardown(f, planted_setup, planted_teardown)
	const struct CMUnitTest tests[] = {PLANT(test_whole), PLANT(test_branches), PLANT(test_leaf), PLANT(test_names),
		PLANT(test_listed), PLANT(test_ring), PLANT(test_directory), PLANT(test_chunks)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
