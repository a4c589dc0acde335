/* Crafted records, for libFuzzer: one record of any table, with a good sum, is put into a real store, in a transaction; all that reads records
 * reads around there, some changes are tried, and the transaction is dropped.  Key syntax and the slots of `sync` take the same bytes.
 *
 * An input is the table's number, the key's length, the key, the payload.  $FUZZ_SEEDS: a directory that gets each record of the store as one. */
#include <fcntl.h>
#include <kvfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "changelog.h"
#include "core.h"
#include "fuzz.h"
#include "garbage.h"
#include "meta.h"
#include "namei.h"
#include "path.h"
#include "reap.h"
#include "support.h"
#include "syncfile.h"
#include "value.h"
#include "victim.h"
#include "walk.h"
#include "xattr.h"

enum { LOOKS_MAX = 3000 };

static struct kvfs_store *store;

/* ---- seeds ---- */

static void write_seed(const char *dir, unsigned number, enum kv_table table, struct kv_bytes key, struct kv_bytes value)
{
	char path[400];
	uint8_t head[2] = {(uint8_t)table, (uint8_t)key.len};
	snprintf(path, sizeof path, "%s/%s%u", dir, kv_db_table_name(table), number);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, head, 2) != 2 || write(fd, key.data, key.len) < 0 || write(fd, value.data, value.len) < 0)
		abort();
	close(fd);
}

static void write_seeds(const char *dir)
{
	struct kv_txn txn;
	struct kv_cursor c;
	assert_ok(kv_db_read(store->core->db, &txn));
	for (enum kv_table t = 0; t < KV_TABLES; t++) {
		assert_ok(kv_cursor_open(&txn, t, &c));
		int r = kv_cursor_seek(&c, NULL, 0);
		for (unsigned n = 0; r == 0 && n < 40; n++, r = kv_cursor_next(&c))
			if (c.value.len < 6000 && c.key.len < 256)
				write_seed(dir, n, t, c.key, c.value);
		kv_cursor_close(&c);
	}
	kv_db_read_end(&txn);
}

static void close_store(void)
{
	kvfs_close(store);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct kvfs_options opt = {.size = sizeof opt, .durability = KVFS_NONE};
	const char *path = support_store_path(), *seeds = getenv("FUZZ_SEEDS");
	(void)argc;
	(void)argv;
	victim_build(path, 60);
	assert_ok(kvfs_open(path, &opt, &store, NULL));
	atexit(close_store);
	if (seeds)
		write_seeds(seeds);
	return 0;
}

/* ---- reading ---- */

static int note_change(void *arg, const struct kv_change *c)
{
	(void)c;
	return ++*(unsigned *)arg > LOOKS_MAX;
}

static void read_value(struct kv_txn *txn, const struct kv_inode *inode)
{
	static uint8_t buf[100000];
	struct kv_version v;
	const struct kv_layout *lay = &store->core->layout;
	if (!S_ISREG(inode->rec.mode))
		return;
	kv_version_of(inode, &v);
	(void)!kv_value_read(txn, lay, &v, buf, sizeof buf, 0);
	if (v.size > sizeof buf)
		(void)!kv_value_read(txn, lay, &v, buf, 1000, v.size - 500);
	kv_value_seek(txn, lay, &v, 0, true);
	kv_value_seek(txn, lay, &v, v.size / 2, false);
}

static void read_entry(struct kv_txn *txn, const struct kv_dirent *ent)
{
	static char buf[KVFS_KEY_MAX + 1], names[4096];
	struct kv_inode inode;
	struct kvfs_stat st;
	struct kv_bytes value;
	kv_inode_stat_at(txn, ent, &st);
	if (kv_inode_get_at(txn, ent, &inode))
		return;
	kv_namei_key(txn, inode.rec.parent, inode.name, inode.rec.name_len, buf);
	(void)!kv_xattr_list(txn, ent->ino, names, sizeof names);
	kv_xattr_get(txn, ent->ino, "user.note", &value);
	read_value(txn, &inode);
}

static void walk(struct kv_txn *txn, unsigned flags)
{
	struct kvfs_list_options opt = {.size = sizeof opt, .flags = flags};
	struct kv_walk w;
	struct kv_cursor c;
	struct kv_dirent ent;
	if (kv_cursor_open(txn, KV_DIRENT, &c))
		return;
	if (kv_walk_init(&w, "", KV_ROOT, &opt) == 0) {
		for (unsigned n = 0; kv_walk_next(&w, &c, &ent) == 1; n++) {
			if (n > LOOKS_MAX)
				abort(); /* it goes in circles */
			if (n % 16 == 0)
				read_entry(txn, &ent);
		}
		kv_walk_free(&w);
	}
	kv_cursor_close(&c);
}

/* What a record by itself leads to. */
static void read_record(struct kv_txn *txn, const uint8_t *key, size_t len)
{
	struct kv_inode inode;
	struct kv_dirent ent;
	uint64_t ino;
	if (len < 8)
		return;
	memcpy(&ino, key, 8);
	ino = be64toh(ino);
	if (kv_inode_get(txn, ino, &inode) == 0) {
		read_entry(txn, &(struct kv_dirent){.ino = ino, .type = inode.rec.mode & S_IFMT});
		kv_inode_take_name(txn, &inode);
	}
	if (len > 8 && kv_dirent_get(txn, ino, (const char *)key + 8, len - 8, &ent) == 0)
		read_entry(txn, &ent);
}

static void read_tables(struct kv_txn *txn)
{
	struct kv_garbage g;
	struct kv_rec_session s;
	struct kv_kept kept;
	struct kv_rec_super super;
	uint64_t blob = 0, due = 0, id = 0;
	unsigned n = 0;
	kv_meta_get(txn, &super);
	kv_log_read(txn, 0, UINT64_MAX, note_change, &n);
	n = 0;
	kv_log_read(txn, 400, UINT64_MAX, note_change, &n);
	for (n = 0; n < 100 && kv_garbage_seek(txn, due, id, &g) == 0; n++) {
		due = g.due;
		id = g.id + 1;
	}
	for (n = 0; n < 100 && kv_hidden_seek(txn, blob, &blob, &s) == 0; n++)
		kv_kept_get(txn, blob++, &kept);
}

/* ---- changing ---- */

static void change(struct kv_txn *txn, const uint8_t *key, size_t len)
{
	struct kv_core *core = store->core;
	struct kv_edit ed = {.txn = *txn, .layout = core->layout, .now = kv_now(), .doors = core->doors};
	struct kv_inode inode;
	uint64_t ino = 0;
	if (kv_log_head(&ed.txn, &ed.head) == 0) {
		ed.seq = ed.first = ed.head.seq + 1;
		if (len >= 8)
			memcpy(&ino, key, 8);
		if (kv_inode_load(&ed.txn, be64toh(ino), &inode) == 0 && S_ISREG(inode.rec.mode) &&
			kv_value_append(&ed, &inode, "more", 4) == 0)
			(void)!kv_inode_put(&ed.txn, &inode);
		if (len > 8)
			(void)!kv_namei_unlink(&ed, be64toh(ino), (const char *)key + 8, len - 8, NULL);
		ed.chunks = 4;
		(void)!kv_reap(core, &ed);
		(void)!kv_log_append(&ed.txn, &ed.head, &ed.changes);
		kv_changes_free(&ed.changes);
	}
	*txn = ed.txn;
}

/* ---- one input ---- */

static void try_text(const uint8_t *data, size_t len)
{
	uint8_t slot[KV_SYNC_SLOT] = {0};
	struct kv_sync_record rec;
	struct kv_dirent ent;
	struct kv_txn txn;
	char *text = calloc(1, len + 1);
	memcpy(text, data, len);
	if (kv_path_check(text) == 0 && kv_db_read(store->core->db, &txn) == 0) {
		kv_namei_lookup(&txn, text, &ent);
		kv_db_read_end(&txn);
	}
	kvfs_key_fault(text);
	kv_name_check(text);
	kv_path_compare(text, text + len / 2);
	free(text);
	memcpy(slot, data, kv_min(len, sizeof slot));
	kv_sync_decode(slot, &rec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct kv_txn txn;
	if (len < 2 || data[0] > KV_TABLES)
		return 0;
	if (data[0] == KV_TABLES) {
		try_text(data + 2, len - 2);
		return 0;
	}
	size_t key_len = data[1];
	if (!key_len || key_len > len - 2)
		return 0;
	const uint8_t *key = data + 2;
	struct iovec payload = {(void *)(uintptr_t)(key + key_len), len - 2 - key_len};
	if (kv_db_write(store->core->db, &txn))
		abort();
	if (kv_db_put(&txn, (enum kv_table)data[0], key, key_len, &payload, 1) == 0) {
		read_record(&txn, key, key_len);
		read_tables(&txn);
		walk(&txn, KVFS_LIST_RECURSIVE | (data[1] & 1 ? KVFS_LIST_REVERSE : 0));
		change(&txn, key, key_len);
	}
	kv_db_abort(&txn);
	return 0;
}
