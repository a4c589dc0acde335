/* Cursors: a walk, read in batches. */
#include <errno.h>
#include <sys/stat.h>

#include "api.h"
#include "err.h"
#include "path.h"
#include "txn.h"
#include "walk.h"

#define BATCH 256
#define ARENA (64 << 10) /* bytes of keys in a batch; the last one may go past it */

struct item {
	uint32_t key, name; /* offsets in the arena */
	struct kvfs_stat st;
};

struct kvfs_cursor {
	struct kv_core *core;
	struct kv_txn *within; /* lists in this transaction; NULL: a fresh one for each batch */
	struct kv_walk walk;
	struct item items[BATCH];
	size_t n, at;
	int failed; /* with which the batch ended; told after its items */
	char arena[ARENA + KVFS_KEY_MAX + 1];
};

static int check_options(const struct kvfs_list_options *opt)
{
	const unsigned all = KVFS_LIST_RECURSIVE | KVFS_LIST_REVERSE | KVFS_LIST_STAT | KVFS_LIST_NO_DIRS;
	int r = opt->flags & ~all ? kv_fail(EINVAL) : 0;
	if (r == 0 && opt->from)
		r = kv_path_check(opt->from);
	if (r == 0 && opt->until)
		r = kv_path_check(opt->until);
	if (r == 0 && opt->prefix && strlen(opt->prefix) > KVFS_KEY_MAX)
		r = kv_fail(ENAMETOOLONG);
	return r;
}

static int open_cursor(
	struct kv_core *core, struct kv_txn *txn, const char *dir, const struct kvfs_list_options *user, struct kvfs_cursor **ret)
{
	struct kvfs_list_options opt = {0};
	struct kv_dirent ent;
	if (user)
		memcpy(&opt, user, kv_min(user->size, sizeof opt));
	int r = check_options(&opt);
	if (r == 0)
		r = kv_namei_lookup(txn, dir, &ent);
	if (r == 0 && !S_ISDIR(ent.type))
		r = -ENOTDIR;
	if (r)
		return r;
	struct kvfs_cursor *cur = malloc(sizeof *cur);
	if (!cur)
		return kv_fail(ENOMEM);
	cur->core = core;
	cur->within = NULL;
	cur->n = cur->at = 0;
	cur->failed = 0;
	r = kv_walk_init(&cur->walk, dir, ent.ino, &opt);
	if (r) {
		free(cur);
		return r;
	}
	*ret = cur;
	return 0;
}

int kvfs_list(struct kvfs_store *store, const char *dir, const struct kvfs_list_options *opt, struct kvfs_cursor **ret)
{
	struct kv_txn txn;
	int r = kv_api_read(store, dir, &txn);
	if (r)
		return r;
	r = open_cursor(store->core, &txn, dir, opt, ret);
	kv_db_read_end(&txn);
	return r;
}

int kvfs_txn_list(struct kvfs_txn *txn, const char *dir, const struct kvfs_list_options *opt, struct kvfs_cursor **ret)
{
	struct kv_txn *snapshot;
	int r = kv_txn_snapshot(txn, &snapshot);
	if (r == 0)
		r = kv_path_check(dir);
	if (r == 0)
		r = open_cursor(txn->core, snapshot, dir, opt, ret);
	if (r == 0)
		(*ret)->within = snapshot;
	return r;
}

/* Takes the walk on by one batch. */
static int fill(struct kvfs_cursor *cur, struct kv_txn *txn)
{
	struct kv_cursor c;
	struct kv_dirent ent;
	size_t used = 0;
	int r = kv_cursor_open(txn, KV_DIRENT, &c);
	if (r)
		return r;
	cur->n = cur->at = 0;
	while (cur->n < BATCH && used < ARENA && (r = kv_walk_next(&cur->walk, &c, &ent)) == 1) {
		struct item *it = &cur->items[cur->n];
		size_t len = strlen(cur->walk.path);
		const char *slash = strrchr(cur->walk.path, '/');
		it->st = (struct kvfs_stat){.ino = ent.ino, .mode = ent.type};
		if (cur->walk.flags & KVFS_LIST_STAT) {
			r = kv_inode_stat_at(txn, &ent, &it->st);
			if (r)
				break;
		}
		it->key = (uint32_t)used;
		it->name = (uint32_t)(used + (slash ? (size_t)(slash + 1 - cur->walk.path) : 0));
		memcpy(cur->arena + used, cur->walk.path, len + 1);
		used += len + 1;
		cur->n++;
	}
	kv_cursor_close(&c);
	cur->failed = r < 0 ? r : 0;
	return 0;
}

static int fill_again(struct kvfs_cursor *cur)
{
	struct kv_txn txn;
	if (cur->within)
		return fill(cur, cur->within);
	int r = kv_db_read(cur->core->db, &txn);
	if (r)
		return r;
	r = fill(cur, &txn);
	kv_db_read_end(&txn);
	return r;
}

int kvfs_cursor_next(struct kvfs_cursor *cur, struct kvfs_entry *ret)
{
	int r = kv_core_check(cur->core);
	if (r)
		return r;
	if (cur->at == cur->n && !cur->failed && !cur->walk.done) {
		r = fill_again(cur);
		if (r)
			return r;
	}
	if (cur->at == cur->n) {
		r = cur->failed;
		cur->failed = 0;
		return r;
	}
	const struct item *it = &cur->items[cur->at++];
	*ret = (struct kvfs_entry){.key = cur->arena + it->key, .name = cur->arena + it->name, .st = it->st};
	return 1;
}

void kvfs_cursor_close(struct kvfs_cursor *cur)
{
	if (!cur)
		return;
	kv_walk_free(&cur->walk);
	free(cur);
}
