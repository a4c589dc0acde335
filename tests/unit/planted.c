/* See planted.h. */
#include "support.h"

#include "planted.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void load(struct plant *p, const char *key, struct kv_inode *ret)
{
	struct kvfs_stat st;
	assert_ok(kvfs_stat(p->store, key, &st));
	assert_ok(kv_inode_load(&p->txn, st.ino, ret));
}

static void build(struct plant *p)
{
	char *data = calloc(10, CHUNK), key[40];
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE};
	p->path = support_store_path();
	assert_ok(kvfs_open(p->path, &opt, &p->store, NULL));
	assert_ok(kvfs_put(p->store, "dir/big", data, 10 * CHUNK, NULL, NULL));
	assert_ok(kvfs_put(p->store, "dir/sub/note", "text", 4, NULL, NULL));
	assert_ok(kvfs_put(p->store, "twin", data, 5000, NULL, NULL));
	assert_ok(kvfs_link(p->store, "twin", "dir/twin"));
	assert_ok(kvfs_symlink(p->store, "target", "link"));
	assert_ok(kvfs_setxattr(p->store, "dir/sub/note", "user.a", "b", 1, 0));
	for (int i = 0; i < 400; i++) {
		sprintf(key, "many/key%d", i);
		assert_ok(kvfs_put(p->store, key, data, 300, NULL, NULL));
	}
	for (int i = 0; i < 100; i++) {
		sprintf(key, "many/key%d", i);
		assert_ok(kvfs_del(p->store, key));
	}
	free(data);
}

int planted_setup(void **state)
{
	struct plant *p = calloc(1, sizeof *p);
	build(p);
	assert_ok(kv_db_write(p->store->core->db, &p->txn));
	assert_ok(kv_log_head(&p->txn, &p->head));
	load(p, "dir/big", &p->big);
	load(p, "twin", &p->twin);
	load(p, "dir", &p->dir);
	load(p, "dir/sub", &p->sub);
	load(p, "dir/sub/note", &p->note);
	load(p, "link", &p->link);
	*state = p;
	return 0;
}

/* Ends the transaction in which faults of records are planted, if it is still there. */
void planted_done(struct plant *p)
{
	if (p->txn.mdb)
		assert_ok(kv_db_commit(&p->txn, KV_SYNC_LEVEL));
}

/* For faults of pages: nobody has the store open. */
void planted_open_file(struct plant *p)
{
	char path[200];
	planted_done(p);
	kvfs_close(p->store);
	p->store = NULL;
	snprintf(path, sizeof path, "%s/data.mdb", p->path);
	p->fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(p->fd >= 0);
	assert_ok(kv_pages_open(p->fd, (uint32_t)sysconf(_SC_PAGESIZE), 0, &p->pages));
}

void planted_write(struct plant *p, uint64_t offset, const void *data, size_t len)
{
	assert_int_equal(pwrite(p->fd, data, len, (off_t)offset), len);
}

int planted_teardown(void **state)
{
	struct plant *p = *state;
	planted_done(p);
	kvfs_close(p->store);
	if (p->fd)
		close(p->fd);
	support_remove(p->path);
	free(p);
	return 0;
}

void planted_note(void *arg, const struct kvfs_finding *f)
{
	struct findings *all = arg;
	if (all->n == 400)
		return;
	all->list[all->n].kind = f->kind;
	snprintf(all->list[all->n].key, 100, "%s", f->key ? f->key : "");
	snprintf(all->list[all->n++].text, 300, "%s", f->text);
}

void planted_print(const struct findings *all)
{
	for (size_t i = 0; i < all->n && i < 20; i++)
		print_error("found: %d '%s' %s\n", all->list[i].kind, all->list[i].key, all->list[i].text);
}

/* Where in the file the main tree's record of a tree is, and what it says. */
uint64_t planted_find_tree(struct plant *p, const char *name, struct kv_lmdb_tree *ret)
{
	struct kv_scan s;
	uint64_t at = 0;
	assert_ok(kv_scan_open(&s, &p->pages, &p->pages.main, NULL));
	while (kv_scan_next(&s) == 1)
		if (s.key.len == strlen(name) && memcmp(s.key.data, name, s.key.len) == 0) {
			memcpy(ret, s.data, sizeof *ret);
			at = s.page * p->pages.page_size + (uint64_t)(s.data - s.levels[s.depth - 1].page);
		}
	kv_scan_close(&s);
	assert_true(at > 0);
	return at;
}
