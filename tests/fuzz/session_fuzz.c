/* What a mount asks of the library, for libFuzzer: a sequence of calls on names, held values and write sessions, each done to the model of
 * tests/support/model.h as well.  What every call answers, what each session and each held value reads, and in the end the whole store must
 * be the model's.  Which of several errors comes is not compared.
 *
 * An input is operations, a byte each, and what they need, a byte or two each; when it is over everything is closed. */
#include <fcntl.h>
#include <kvfs_ll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "model.h"
#include "support.h"

enum { SLOTS = 4, HELD = 3, STEPS_MAX = 120 };

struct slot {
	struct kvfs_session *s;
	struct model_session *m;
	struct model_bytes *published; /* by this one; what comes of changes after another's publication is a matter of taste */
};

struct held {
	struct kvfs_value *v;
	struct model_bytes *m;
};

static struct kvfs_store *store;
static char store_path[200];
static struct model *model;
static struct slot slots[SLOTS];
static struct held held[HELD];
static uint8_t bytes[70000];
static const uint8_t zeros[sizeof bytes];
/* The input. */
static const uint8_t *at;
static size_t left;

static void close_store(void)
{
	kvfs_close(store);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .buffer_size = 1 << 17};
	struct support_rng rng = {1};
	(void)argc;
	(void)argv;
	support_fill(&rng, bytes, sizeof bytes);
	snprintf(store_path, sizeof store_path, "%s", support_store_path());
	assert_ok(kvfs_open(store_path, &opt, &store, NULL));
	atexit(close_store);
	return 0;
}

/* ---- what the input says ---- */

static unsigned below(unsigned n)
{
	if (!left)
		return 0;
	left--;
	return *at++ % n;
}

/* Around the ends of what is stored inline, and of chunks, more often than not. */
static size_t some_length(size_t max)
{
	static const size_t edges[] = {0, 0, 1, 50, 100, 200, 300, 500, 1000, 1500, 2000, 2000, 4096, 8192, 32736, 65472};
	size_t n = edges[below(sizeof edges / sizeof *edges)] + below(256);
	n -= n > 128 ? 128 : n;
	return n < max ? n : max;
}

struct place {
	const char *key, *dir, *name;
};

/* Seven names of values in three directories, and the two of them that have a name. */
static const struct place *some_place(void)
{
	static const struct place places[] = {{"a", "", "a"}, {"b", "", "b"}, {"c", "", "c"}, {"d/a", "d", "a"}, {"d/b", "d", "b"},
		{"e/a", "e", "a"}, {"e/c", "e", "c"}, {"d", "", "d"}, {"e", "", "e"}};
	return &places[below(sizeof places / sizeof *places)];
}

/* ---- both sides ---- */

static void same(int64_t got, int64_t want)
{
	must(got < 0 ? want < 0 : got == want);
}

/* The inode of a key; 0: none. */
static uint64_t ino_of(const char *key)
{
	struct kvfs_stat st;
	int r = kvfs_stat(store, key, &st);
	must(r == 0 || r == -ENOENT || r == -ENOTDIR);
	same(r, *key && !model_exists(model, key) ? -ENOENT : 0);
	return r ? 0 : st.ino;
}

static struct model_node *node_of(const char *key)
{
	struct model_node *node;
	return model_find(model, key, &node) ? NULL : node;
}

static bool is_dir(const char *key)
{
	const struct model_node *node = node_of(key);
	return node && S_ISDIR(node->mode);
}

/* A session of a new key has its directory by number, the model's has it by name. */
static bool any_new(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].s && !slots[i].m->node)
			return true;
	return false;
}

/* ---- names ---- */

/* All sessions and puts are one user's: a session of a new key does not become another's, who made the name meanwhile. */
static struct kvfs_cred me(void)
{
	return (struct kvfs_cred){.uid = geteuid(), .gid = getegid()};
}

static void make(void)
{
	const struct place *p = some_place();
	struct kvfs_stat st;
	uint64_t dir = ino_of(p->dir);
	unsigned how = below(4);
	if (!dir || (how == 0 && any_new()))
		return;
	if (how == 0)
		same(kvfs_ll_mkdir(store, dir, p->name, 0755, me(), &st), model_mkdir(model, p->key, 0755));
	else if (how == 1)
		same(kvfs_ll_symlink(store, "target", dir, p->name, me(), &st), model_symlink(model, "target", p->key));
	else if (how == 2)
		same(kvfs_ll_mknod(store, dir, p->name, S_IFIFO | 0600, 0, me(), &st), model_mknod(model, p->key, S_IFIFO | 0600));
	else
		same(kvfs_ll_mknod(store, dir, p->name, S_IFREG | 0600, 0, me(), &st),
			model_put(model, p->key, "", 0, MODEL_IF_ABSENT, 0600));
}

static void put(void)
{
	const struct place *p = some_place();
	size_t len = some_length(sizeof bytes);
	if (ino_of(p->dir))
		same(kvfs_put(store, p->key, bytes, len, NULL, NULL), model_put(model, p->key, bytes, len, 0, 0644));
}

static void unlink_one(void)
{
	const struct place *p = some_place();
	uint64_t dir = ino_of(p->dir);
	struct kvfs_stat st;
	if (!dir)
		return;
	if (!is_dir(p->key))
		same(kvfs_ll_unlink(store, dir, p->name, &st), model_del(model, p->key));
	else
		must(kvfs_ll_unlink(store, dir, p->name, &st) < 0);
}

static void rmdir_one(void)
{
	const struct place *p = some_place();
	uint64_t dir = ino_of(p->dir);
	if (!dir || any_new())
		return;
	if (is_dir(p->key))
		same(kvfs_ll_rmdir(store, dir, p->name), model_del(model, p->key));
	else
		must(kvfs_ll_rmdir(store, dir, p->name) < 0);
}

static void rename_one(void)
{
	static const unsigned flags[][2] = {
		{0, 0}, {KVFS_RENAME_NOREPLACE, MODEL_NOREPLACE}, {KVFS_RENAME_EXCHANGE, MODEL_EXCHANGE}, {0, 0}};
	const struct place *p = some_place(), *q = some_place();
	uint64_t from = ino_of(p->dir), to = ino_of(q->dir);
	const unsigned *f = flags[below(4)];
	struct kvfs_stat st;
	if (from && to && !((is_dir(p->key) || is_dir(q->key)) && any_new()))
		same(kvfs_ll_rename(store, from, p->name, to, q->name, f[0], &st), model_rename(model, p->key, q->key, f[1]));
}

static void link_one(void)
{
	const struct place *p = some_place(), *q = some_place();
	uint64_t ino = ino_of(p->key), to = ino_of(q->dir);
	struct kvfs_stat st;
	if (ino && to)
		same(kvfs_ll_link(store, ino, to, q->name, &st), model_link(model, p->key, q->key));
}

static void attributes(void)
{
	const struct place *p = some_place();
	uint64_t ino = ino_of(p->key);
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = below(256)};
	struct kvfs_stat st;
	size_t len = some_length(3000);
	unsigned how = below(3);
	if (!ino)
		return;
	if (how == 0)
		same(kvfs_ll_setattr(store, ino, &attr, &st), model_chmod(model, p->key, attr.mode));
	else if (how == 1)
		same(kvfs_ll_setxattr(store, ino, "user.x", bytes, len, 0), model_setxattr(model, p->key, "user.x", bytes, len));
	else
		same(kvfs_ll_removexattr(store, ino, "user.x"), model_removexattr(model, p->key, "user.x"));
}

struct listing {
	const struct model_node *dir;
	size_t n;
};

static int see(void *arg, const char *name, const struct kvfs_stat *st)
{
	struct listing *l = arg;
	must(l->n < l->dir->n_entries && strcmp(name, l->dir->entries[l->n].name) == 0);
	const struct model_node *node = l->dir->entries[l->n++].node;
	must(st->mode == node->mode && (S_ISDIR(node->mode) || st->nlink == node->links));
	must(S_ISDIR(node->mode) || st->size == node->value->len);
	return 0;
}

static void list(void)
{
	const struct place *p = some_place();
	if (!is_dir(p->dir) && *p->dir)
		return;
	struct listing l = {.dir = *p->dir ? node_of(p->dir) : model->root};
	must(kvfs_ll_readdir(store, ino_of(p->dir), NULL, true, see, &l) == 0);
	must(l.n == l.dir->n_entries);
}

/* ---- held values ---- */

static void read_held(struct held *h)
{
	static uint8_t got[sizeof bytes];
	size_t from = some_length(h->m->len), there = h->m->len - from;
	there = there < sizeof got ? there : sizeof got;
	must(kvfs_value_read(h->v, got, there, from) == (ssize_t)there);
	must(memcmp(got, h->m->data + from, there) == 0);
}

static void close_held(struct held *h)
{
	if (h->v)
		read_held(h);
	kvfs_value_close(h->v);
	model_bytes_unref(h->m);
	*h = (struct held){0};
}

static void hold(void)
{
	struct held *h = &held[below(HELD)];
	const struct place *p = some_place();
	uint64_t ino = ino_of(p->key);
	close_held(h);
	if (ino)
		same(kvfs_value_open(store, ino, &h->v, NULL), model_get(model, p->key, &h->m));
}

/* ---- sessions ---- */

static void compare_session(struct slot *t)
{
	static uint8_t got[sizeof bytes];
	const struct model_bytes *view = t->m->view;
	struct kvfs_stat st;
	size_t from = some_length(view->len), there = view->len - from;
	must(kvfs_session_stat(t->s, &st) == 0 && st.size == view->len);
	there = there < sizeof got ? there : sizeof got;
	must(kvfs_session_read(t->s, got, sizeof got, from) == (ssize_t)there);
	must(memcmp(got, view->data + from, there) == 0);
	int64_t data = kvfs_session_seek(t->s, from, false);
	size_t hole = (data < 0 ? view->len : (size_t)data) - from;
	must(memcmp(view->data + from, zeros, hole < sizeof zeros ? hole : sizeof zeros) == 0);
}

static void close_session(struct slot *t)
{
	if (t->s)
		compare_session(t);
	kvfs_session_close(t->s);
	model_session_close(t->m);
	model_bytes_unref(t->published);
	*t = (struct slot){0};
}

static void open_session(void)
{
	struct slot *t = &slots[below(SLOTS)];
	const struct place *p = some_place();
	uint64_t ino, dir = ino_of(p->dir);
	bool flag = below(2);
	int r;
	close_session(t);
	if (!dir)
		return;
	ino = ino_of(p->key);
	if (ino) {
		r = kvfs_session_open(store, ino, flag, &t->s);
		same(r, model_session_open(model, p->key, flag ? MODEL_TRUNCATE : 0, 0644, &t->m));
		return;
	}
	r = kvfs_session_create(store, dir, p->name, 0644, me(), flag, &t->s);
	int want = model_session_open(model, p->key, MODEL_CREATE | (flag ? MODEL_EXCL : 0), 0644, &t->m);
	if (r == -EEXIST && want == 0 && model->reserved) { /* the model tells it at publication only */
		model_session_close(t->m);
		t->m = NULL;
		return;
	}
	same(r, want);
}

static bool may_publish(const struct slot *t)
{
	return !t->published || t->m->node->links == 0 || t->m->node->value == t->published;
}

static void note_published(struct slot *t)
{
	model_bytes_unref(t->published);
	t->published = t->m->node ? model_bytes_ref(t->m->node->value) : NULL;
}

static void publish(struct slot *t)
{
	if (!may_publish(t))
		return;
	int want = model_session_publish(t->m);
	same(kvfs_session_publish(t->s), want);
	if (want == 0)
		note_published(t);
}

static void append(struct slot *t)
{
	size_t len = some_length(5000);
	if (!t->m->node || t->m->dirty || node_of(t->m->key) != t->m->node)
		return;
	must(kvfs_session_append(t->s, bytes, len) == (ssize_t)len);
	must(model_append(model, t->m->key, bytes, len) == 0);
	if (len) {
		model_bytes_unref(t->m->view);
		t->m->view = model_bytes_ref(t->m->node->value);
		note_published(t);
	}
}

static void punch(struct slot *t)
{
	size_t from = some_length(t->m->view->len), len = some_length(sizeof bytes), end = t->m->view->len - from;
	if (!len)
		return;
	must(kvfs_session_fallocate(t->s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, len) == 0);
	model_session_write(t->m, zeros, len < end ? len : end, from);
}

static void use_session(void)
{
	struct slot *t = &slots[below(SLOTS)];
	unsigned what = below(12);
	size_t len = some_length(sizeof bytes), from = some_length(SIZE_MAX) + some_length(SIZE_MAX);
	if (!t->s)
		return;
	if (what < 5) {
		must(kvfs_session_write(t->s, bytes + (sizeof bytes - len), len, from) == (ssize_t)len);
		model_session_write(t->m, bytes + (sizeof bytes - len), len, from);
	} else if (what < 7) {
		must(kvfs_session_truncate(t->s, from) == 0);
		model_session_truncate(t->m, from);
	} else if (what < 9) {
		publish(t);
	} else if (what == 9) {
		append(t);
	} else if (what == 10) {
		punch(t);
	} else {
		close_session(t);
	}
	if (t->s)
		compare_session(t);
}

/* ---- one input ---- */

static void compare_one(void *arg, const char *key, const struct model_node *node)
{
	struct kvfs_entry e;
	void *data;
	size_t len;
	must(kvfs_cursor_next(arg, &e) == 1 && strcmp(e.key, key) == 0 && e.st.mode == node->mode);
	if (!S_ISREG(node->mode))
		return;
	must(kvfs_get(store, key, &data, &len) == 0 && len == node->value->len);
	must(memcmp(data, node->value->data, len) == 0);
	free(data);
}

static void compare_all(void)
{
	static unsigned turn;
	struct kvfs_check_options check = {.size = sizeof check, .flags = KVFS_CHECK_DATA};
	struct kvfs_check_result result;
	struct kvfs_list_options opt = {.size = sizeof opt, .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT};
	struct kvfs_cursor *cursor;
	struct kvfs_entry e;
	must(kvfs_list(store, "", &opt, &cursor) == 0);
	model_walk(model, compare_one, cursor);
	must(kvfs_cursor_next(cursor, &e) == 0);
	kvfs_cursor_close(cursor);
	if (turn++ % 32 == 0) {
		must(kvfs_check(store_path, &check, &result, NULL) == 0);
		must(result.lost == 0 && result.wrong == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static void (*const operations[])(void) = {make, put, unlink_one, rmdir_one, rename_one, link_one, attributes, list, hold,
		open_session, open_session, use_session, use_session, use_session, use_session, use_session};
	struct kvfs_stat st;
	at = data;
	left = len;
	model = model_new(false);
	must(kvfs_ll_mkdir(store, KVFS_ROOT_INO, "d", 0755, me(), &st) == 0 && model_mkdir(model, "d", 0755) == 0);
	for (int n = 0; left && n < STEPS_MAX; n++) {
		operations[below(sizeof operations / sizeof *operations)]();
		struct held *h = &held[n % HELD];
		if (h->v)
			read_held(h);
	}
	for (int i = 0; i < SLOTS; i++)
		close_session(&slots[i]);
	for (int i = 0; i < HELD; i++)
		close_held(&held[i]);
	compare_all();
	model_free(model);
	must(kvfs_del_tree(store, "", NULL) == 0);
	return 0;
}
