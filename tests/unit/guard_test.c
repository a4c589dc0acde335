/* M3: LMDB comes to no page of a tree that was not looked at before.  All pages of its map are closed; a second map is the one that kv_tree_prepare()
 * looks at, and which pages it comes to there is seen by their being closed too: those are opened in both.  If LMDB then comes to a closed page,
 * that is a fault.  The trees are odd on purpose: keys so long that there are many levels, leaves of which overwriting left next to nothing. */
#include "support.h"

#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tree.h"

enum { PAGE = 4096, MAP = 256 << 20, KEYS_MAX = 3000 };

#define CHECKED(call) assert_int_equal(call, 0)

struct world {
	struct support_rng rng;
	MDB_env *env;
	MDB_txn *old; /* keeps LMDB from taking free pages, whose lists lie in pages that nobody has to look at here */
	MDB_txn *txn;
	MDB_dbi dbi;
	int keys;
	size_t key_len;
	struct kv_map map;
	struct kv_tree tree, free;
	unsigned deepest;
};

/* ---- what is closed ---- */

static uint8_t *theirs, *ours; /* maps */
static size_t closed; /* bytes of both */

static void on_fault(int sig, siginfo_t *info, void *context)
{
	static const char line[] = "LMDB came to a page that nobody had looked at\n";
	uint8_t *at = info->si_addr;
	(void)sig;
	(void)context;
	if (at < ours || at >= ours + closed) {
		(void)!write(2, line, sizeof line - 1);
		_exit(1);
	}
	size_t page = (size_t)(at - ours) / PAGE * PAGE;
	mprotect(ours + page, PAGE, PROT_READ);
	mprotect(theirs + page, PAGE, PROT_READ);
}

static uint8_t *map_of_lmdb(void)
{
	char line[500];
	unsigned long at = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	while (!at && fgets(line, sizeof line, f))
		if (strstr(line, "data.mdb"))
			sscanf(line, "%lx", &at);
	fclose(f);
	return (uint8_t *)at;
}

static void close_pages(struct world *w)
{
	int fd;
	struct stat st;
	mdb_env_get_fd(w->env, &fd);
	theirs = map_of_lmdb();
	CHECKED(kv_map_open(&w->map, fd, PAGE, MAP));
	ours = mmap(NULL, MAP, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(ours, MAP_FAILED);
	kv_map_set_base(&w->map, ours, 0);
	CHECKED(kv_map_state(&w->map, mdb_txn_id(w->txn) - 1, &w->tree, &w->free));
	w->deepest = kv_max(w->deepest, w->tree.depth);
	CHECKED(fstat(fd, &st));
	closed = (size_t)st.st_size;
	CHECKED(mprotect(theirs + 2 * PAGE, closed - 2 * PAGE, PROT_NONE)); /* meta pages are looked at by kv_map_state() */
	CHECKED(mprotect(ours + 2 * PAGE, closed - 2 * PAGE, PROT_NONE));
	CHECKED(kv_map_check(&w->map, &w->free, NULL, 0, 1 << 20));
}

static void open_pages(struct world *w)
{
	CHECKED(mprotect(theirs, closed, PROT_READ));
	munmap(ours, MAP);
	kv_map_close(&w->map);
}

/* ---- changes ---- */

static MDB_val key_of(struct world *w, unsigned i, char *buf)
{
	memset(buf, 'k', w->key_len);
	buf[sprintf(buf, "%08u", i)] = 'k';
	return (MDB_val){w->key_len, buf};
}

static MDB_val some_value(struct world *w, unsigned kind)
{
	static char bytes[3000];
	static const size_t most[] = {20, 10, 1000, 1200, 3000};
	size_t len = 1 + support_below(&w->rng, most[kind]);
	return (MDB_val){kind == 1 && support_below(&w->rng, 8) == 0 ? 1000 : len, bytes};
}

/* Without a look: what the tree is made of. */
static void fill(struct world *w, int n)
{
	char buf[512];
	unsigned kind = (unsigned)support_below(&w->rng, 5), from = (unsigned)support_below(&w->rng, (uint64_t)w->keys);
	bool in_order = support_below(&w->rng, 2);
	CHECKED(mdb_txn_begin(w->env, NULL, 0, &w->txn));
	CHECKED(mdb_dbi_open(w->txn, NULL, 0, &w->dbi));
	for (int i = 0; i < n; i++) {
		unsigned at = in_order ? from + (unsigned)i : (unsigned)support_below(&w->rng, (uint64_t)w->keys);
		MDB_val key = key_of(w, at % (unsigned)w->keys, buf), value = some_value(w, kind);
		CHECKED(mdb_put(w->txn, w->dbi, &key, &value, 0));
	}
	CHECKED(mdb_txn_commit(w->txn));
}

static void look(struct world *w, const MDB_val *key, uint64_t left)
{
	CHECKED(kv_tree_prepare(&w->map, &w->tree, key->mv_data, key->mv_size, left));
}

static void walk(struct world *w, MDB_cursor *c, MDB_val key)
{
	char buf[512];
	MDB_val value;
	MDB_cursor_op on = support_below(&w->rng, 2) ? MDB_NEXT : MDB_PREV;
	look(w, &key, 0);
	int r = mdb_cursor_get(c, &key, &value, MDB_SET_RANGE);
	for (uint64_t n = support_below(&w->rng, 8); r == 0 && n; n--) {
		memcpy(buf, key.mv_data, key.mv_size);
		key.mv_data = buf;
		look(w, &key, 0);
		if (support_below(&w->rng, 3) == 0)
			CHECKED(mdb_cursor_del(c, 0));
		r = mdb_cursor_get(c, &key, &value, on);
	}
	assert_true(r == 0 || r == MDB_NOTFOUND);
}

static void change(struct world *w, MDB_cursor *c, MDB_val key, unsigned kind)
{
	uint64_t what = support_below(&w->rng, 20);
	MDB_val value = some_value(w, kind);
	if (what < 3) {
		walk(w, c, key);
	} else if (what < 6) {
		look(w, &key, value.mv_size);
		CHECKED(mdb_put(w->txn, w->dbi, &key, &value, 0));
	} else {
		look(w, &key, 0);
		int r = mdb_del(w->txn, w->dbi, &key, NULL);
		assert_true(r == 0 || r == MDB_NOTFOUND);
	}
}

/* One transaction: up, down, in a small place, or anywhere. */
static void change_with_a_look(struct world *w, int n)
{
	char buf[512];
	MDB_cursor *c;
	unsigned keys = (unsigned)w->keys, kind = (unsigned)support_below(&w->rng, 5), way = (unsigned)support_below(&w->rng, 4);
	unsigned at = (unsigned)support_below(&w->rng, keys);
	CHECKED(mdb_txn_begin(w->env, NULL, 0, &w->txn));
	CHECKED(mdb_cursor_open(w->txn, w->dbi, &c));
	close_pages(w);
	for (int i = 0; i < n; i++) {
		unsigned near = at + (unsigned)support_below(&w->rng, 40), any = (unsigned)support_below(&w->rng, keys);
		at = (at + (way == 0 ? 1 : way == 1 ? keys - 1 : 0)) % keys;
		change(w, c, key_of(w, way < 2 ? at : way == 2 ? near % keys : any, buf), kind);
	}
	mdb_cursor_close(c);
	if (support_below(&w->rng, 4))
		CHECKED(mdb_txn_commit(w->txn));
	else
		mdb_txn_abort(w->txn);
	open_pages(w);
}

/* ---- */

static void one_tree(struct world *w, const char *dir, bool deep)
{
	static const size_t lengths[] = {10, 30, 100, 250, 400, 490};
	w->key_len = lengths[deep ? 5 : support_below(&w->rng, 6)];
	w->keys = deep ? KEYS_MAX : 300 + (int)support_below(&w->rng, KEYS_MAX - 300);
	CHECKED(mdb_env_create(&w->env));
	CHECKED(mdb_env_set_mapsize(w->env, MAP));
	CHECKED(mdb_env_open(w->env, dir, MDB_NOSYNC | MDB_NOTLS, 0600));
	fill(w, 1);
	CHECKED(mdb_txn_begin(w->env, NULL, MDB_RDONLY, &w->old));
	fill(w, w->keys);
	fill(w, w->keys);
	for (int i = 0; i < 3; i++) {
		change_with_a_look(w, 1 + (int)support_below(&w->rng, support_below(&w->rng, 4) ? 200 : 1500));
		fill(w, (int)support_below(&w->rng, 2) * w->keys / 3);
	}
	mdb_txn_abort(w->old);
	mdb_env_close(w->env);
}

static void test_lmdb_comes_to_no_other_page(void **state)
{
	struct world w = {.rng = support_rng(1)};
	struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before;
	const char *times = getenv("KVFS_GUARD_TREES");
	(void)state;
	assert_int_equal(sysconf(_SC_PAGESIZE), PAGE);
	sigaction(SIGSEGV, &act, &before);
	for (int i = times ? atoi(times) : 12; i > 0; i--) {
		char dir[200], file[220];
		snprintf(dir, sizeof dir, "%s/env", support_tmpdir());
		CHECKED(mkdir(dir, 0700));
		one_tree(&w, dir, i == 1);
		snprintf(file, sizeof file, "%s/data.mdb", dir);
		unlink(file);
		snprintf(file, sizeof file, "%s/lock.mdb", dir);
		unlink(file);
		rmdir(dir);
	}
	sigaction(SIGSEGV, &before, NULL);
	print_message("\ttrees of up to %u levels\n", w.deepest);
	assert_true(w.deepest >= 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lmdb_comes_to_no_other_page),
	};
	return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
