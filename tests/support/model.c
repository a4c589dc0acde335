/* See model.h.  Slow and obvious on purpose: linear searches, whole copies. */
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { KEY_MAX = 4096 };

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* ---- bytes ---- */

struct model_bytes *model_bytes_new(const void *data, size_t len)
{
	struct model_bytes *b = must(calloc(1, sizeof(*b) + len + 1));

	b->refs = 1;
	b->len = len;
	if (len && data)
		memcpy(b->data, data, len);
	return b;
}

struct model_bytes *model_bytes_ref(struct model_bytes *b)
{
	b->refs++;
	return b;
}

void model_bytes_unref(struct model_bytes *b)
{
	if (b && --b->refs == 0)
		free(b);
}

static struct model_bytes *bytes_resized(const struct model_bytes *b, size_t len)
{
	struct model_bytes *r = model_bytes_new(NULL, len);

	memcpy(r->data, b->data, b->len < len ? b->len : len);
	return r;
}

static struct model_bytes *bytes_written(const struct model_bytes *b, const void *data, size_t len, size_t offset)
{
	struct model_bytes *r = bytes_resized(b, b->len < offset + len && len ? offset + len : b->len);

	if (len)
		memcpy(r->data + offset, data, len);
	return r;
}

/* ---- nodes ---- */

static struct model_node *node_new(mode_t mode, const void *data, size_t len)
{
	struct model_node *n = must(calloc(1, sizeof(*n)));

	n->refs = 1;
	n->mode = mode;
	if (!S_ISDIR(mode))
		n->value = model_bytes_new(data, len);
	return n;
}

static void node_unref(struct model_node *n)
{
	if (!n || --n->refs > 0)
		return;
	for (size_t i = 0; i < n->n_entries; i++) {
		free(n->entries[i].name);
		n->entries[i].node->links--;
		node_unref(n->entries[i].node);
	}
	for (size_t i = 0; i < n->n_xattrs; i++) {
		free(n->xattrs[i].name);
		model_bytes_unref(n->xattrs[i].value);
	}
	model_bytes_unref(n->value);
	free(n->entries);
	free(n->xattrs);
	free(n);
}

static void node_set_value(struct model_node *n, struct model_bytes *value)
{
	model_bytes_unref(n->value);
	n->value = value;
}

/* Where `name` is, or would be. */
static size_t entry_at(const struct model_node *dir, const char *name, bool *ret_found)
{
	size_t i = 0;

	while (i < dir->n_entries && strcmp(dir->entries[i].name, name) < 0)
		i++;
	*ret_found = i < dir->n_entries && strcmp(dir->entries[i].name, name) == 0;
	return i;
}

static struct model_node *entry_get(const struct model_node *dir, const char *name)
{
	bool found;
	size_t i = entry_at(dir, name, &found);

	return found ? dir->entries[i].node : NULL;
}

/* Takes a reference of its own. */
static void entry_add(struct model_node *dir, const char *name, struct model_node *node)
{
	bool found;
	size_t i = entry_at(dir, name, &found);

	dir->entries = must(realloc(dir->entries, (dir->n_entries + 1) * sizeof(*dir->entries)));
	memmove(dir->entries + i + 1, dir->entries + i, (dir->n_entries - i) * sizeof(*dir->entries));
	dir->entries[i] = (struct model_entry){must(strdup(name)), node};
	dir->n_entries++;
	node->links++;
	node->refs++;
}

static void entry_remove(struct model_node *dir, const char *name)
{
	bool found;
	size_t i = entry_at(dir, name, &found);

	if (!found)
		return;
	struct model_entry e = dir->entries[i];
	dir->n_entries--;
	memmove(dir->entries + i, dir->entries + i + 1, (dir->n_entries - i) * sizeof(*dir->entries));
	e.node->links--;
	node_unref(e.node);
	free(e.name);
}

/* ---- the tree ---- */

struct model *model_new(bool implicit)
{
	struct model *m = must(calloc(1, sizeof(*m)));

	m->root = node_new(S_IFDIR | 0755, NULL, 0);
	m->root->links = 1;
	m->root->stays = true;
	m->implicit = implicit;
	return m;
}

void model_free(struct model *m)
{
	if (m)
		node_unref(m->root);
	free(m);
}

/* Originals and their copies: a second name leads to the same copy. */
struct copies {
	const struct model_node **from;
	struct model_node **to;
	size_t n;
};

static struct model_node *clone_node(const struct model_node *n, struct copies *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->from[i] == n) {
			c->to[i]->refs++;
			return c->to[i];
		}
	struct model_node *copy = node_new(n->mode, NULL, 0);
	copy->stays = n->stays;
	if (n->value)
		node_set_value(copy, model_bytes_ref(n->value));
	copy->n_xattrs = n->n_xattrs;
	copy->xattrs = must(calloc(n->n_xattrs + 1, sizeof(*copy->xattrs)));
	for (size_t i = 0; i < n->n_xattrs; i++)
		copy->xattrs[i] = (struct model_xattr){must(strdup(n->xattrs[i].name)), model_bytes_ref(n->xattrs[i].value)};
	if (n->links > 1) {
		c->from = must(realloc(c->from, (c->n + 1) * sizeof(*c->from)));
		c->to = must(realloc(c->to, (c->n + 1) * sizeof(*c->to)));
		c->from[c->n] = n;
		c->to[c->n++] = copy;
	}
	for (size_t i = 0; i < n->n_entries; i++) {
		struct model_node *child = clone_node(n->entries[i].node, c);
		entry_add(copy, n->entries[i].name, child);
		node_unref(child);
	}
	return copy;
}

struct model *model_clone(const struct model *m)
{
	struct model *copy = must(calloc(1, sizeof(*copy)));
	struct copies c = {0};

	copy->implicit = m->implicit;
	copy->reserved = m->reserved;
	copy->root = clone_node(m->root, &c);
	copy->root->links = 1;
	free(c.from);
	free(c.to);
	return copy;
}

/* A key taken apart: the directories on the way as far as they exist, and the names. */
struct way {
	char text[KEY_MAX]; /* holds the names */
	char *name[KEY_MAX / 2 + 1];
	struct model_node *dir[KEY_MAX / 2 + 1]; /* dir[i] holds name[i]; NULL from where it does not exist */
	size_t n;
	struct model_node *node; /* what the key leads to, or NULL */
};

static int way_find(const struct model *m, const char *key, struct way *w)
{
	struct model_node *at = m->root;

	w->n = 0;
	snprintf(w->text, sizeof(w->text), "%s", key);
	for (char *name = w->text, *end; *name; name = end) {
		end = strchr(name, '/');
		if (end)
			*end++ = '\0';
		else
			end = name + strlen(name);
		if (at && !S_ISDIR(at->mode))
			return -ENOTDIR;
		w->dir[w->n] = at;
		w->name[w->n++] = name;
		at = at ? entry_get(at, name) : NULL;
	}
	w->node = at;
	return 0;
}

/* The directory for the last name; makes what is missing (mkdir: to stay).  Only after all else was checked: a failure makes none. */
static struct model_node *way_parent(struct way *w, bool stay)
{
	for (size_t i = 1; i < w->n; i++) {
		if (w->dir[i])
			continue;
		w->dir[i] = node_new(S_IFDIR | 0755, NULL, 0);
		w->dir[i]->stays = stay;
		w->dir[i]->mode |= w->dir[i - 1]->mode & S_ISGID;
		entry_add(w->dir[i - 1], w->name[i - 1], w->dir[i]);
		node_unref(w->dir[i]);
	}
	return w->dir[w->n - 1];
}

static char *way_name(struct way *w)
{
	return w->name[w->n - 1];
}

/* Does `key` lie under `dir`? */
static bool is_below(const char *key, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(key, dir, len) == 0 && (key[len] == '/' || (len == 0 && *key));
}

/* Would making `key` make a key that another session than `own` has reserved? */
static bool is_reserved(const struct model *m, const char *key, const struct model_session *own)
{
	for (const struct model_session *s = m->reserved; s; s = s->next)
		if (s != own && !model_exists(m, s->key) && (strcmp(key, s->key) == 0 || is_below(key, s->key)))
			return true;
	return false;
}

static void reserve(struct model_session *s, bool on)
{
	struct model_session **at = &s->m->reserved;

	while (*at && *at != s)
		at = &(*at)->next;
	if (on) {
		s->next = s->m->reserved;
		s->m->reserved = s;
	} else if (*at) {
		*at = s->next;
	}
}

/* The way to a key that is to be made. */
static int way_new(const struct model *m, const char *key, struct way *w)
{
	int rc = way_find(m, key, w);

	if (rc)
		return rc;
	if (w->n == 0 || w->node || is_reserved(m, key, NULL))
		return -EEXIST;
	if (!m->implicit && !w->dir[w->n - 1])
		return -ENOENT;
	return 0;
}

static int way_old(const struct model *m, const char *key, struct way *w)
{
	int rc = way_find(m, key, w);

	return rc ? rc : w->node ? 0 : -ENOENT;
}

/* Directories above a key that went go too, when nothing else keeps them. */
static void prune(struct model *m, const char *key)
{
	char up[KEY_MAX];
	struct way w;

	snprintf(up, sizeof(up), "%s", key);
	for (char *slash; m->implicit && (slash = strrchr(up, '/'));) {
		*slash = '\0';
		if (way_find(m, up, &w) || !w.node)
			continue;
		if (!S_ISDIR(w.node->mode) || w.node->stays || w.node->n_entries)
			return;
		entry_remove(w.dir[w.n - 1], way_name(&w));
	}
}

static int make(struct model *m, const char *key, struct model_node *node)
{
	struct way w;
	int rc = way_new(m, key, &w);

	if (rc == 0) {
		struct model_node *dir = way_parent(&w, node->stays);
		if (S_ISDIR(node->mode))
			node->mode |= dir->mode & S_ISGID;
		entry_add(dir, way_name(&w), node);
	}
	node_unref(node);
	return rc;
}

/* ---- operations ---- */

int model_find(const struct model *m, const char *key, struct model_node **ret)
{
	struct way w;
	int rc = way_old(m, key, &w);

	if (rc == 0)
		*ret = w.node;
	return rc;
}

bool model_exists(const struct model *m, const char *key)
{
	struct model_node *n;

	return model_find(m, key, &n) == 0;
}

/* Can its value be read and written? */
static int node_check(const struct model_node *n)
{
	return S_ISREG(n->mode) ? 0 : S_ISDIR(n->mode) ? -EISDIR : S_ISLNK(n->mode) ? -ELOOP : -EINVAL;
}

int model_get(const struct model *m, const char *key, struct model_bytes **ret)
{
	struct model_node *n;
	int rc = model_find(m, key, &n);

	if (rc == 0)
		rc = node_check(n);
	if (rc == 0)
		*ret = model_bytes_ref(n->value);
	return rc;
}

int model_put(struct model *m, const char *key, const void *data, size_t len, unsigned flags, mode_t mode)
{
	struct model_node *n;
	int rc = model_find(m, key, &n);

	if (rc == -ENOENT)
		return make(m, key, node_new(S_IFREG | mode, data, len));
	if (rc == 0)
		rc = node_check(n);
	if (rc == 0 && (flags & MODEL_IF_ABSENT))
		rc = -EEXIST;
	if (rc == 0)
		node_set_value(n, model_bytes_new(data, len));
	return rc;
}

int model_append(struct model *m, const char *key, const void *data, size_t len)
{
	struct model_node *n;
	int rc = model_find(m, key, &n);

	if (rc == -ENOENT)
		return make(m, key, node_new(S_IFREG | 0644, data, len));
	if (rc == 0)
		rc = node_check(n);
	if (rc == 0)
		node_set_value(n, bytes_written(n->value, data, len, n->value->len));
	return rc;
}

int model_del(struct model *m, const char *key)
{
	struct way w;
	int rc = way_old(m, key, &w);

	if (rc)
		return rc;
	if (w.n == 0)
		return -EBUSY;
	if (w.node->n_entries)
		return -ENOTEMPTY;
	entry_remove(w.dir[w.n - 1], way_name(&w));
	prune(m, key);
	return 0;
}

int model_del_tree(struct model *m, const char *key)
{
	struct way w;
	int rc = way_old(m, key, &w);

	if (rc)
		return rc;
	if (w.n == 0) {
		while (w.node->n_entries)
			entry_remove(w.node, w.node->entries[0].name);
		return 0;
	}
	entry_remove(w.dir[w.n - 1], way_name(&w));
	prune(m, key);
	return 0;
}

int model_mkdir(struct model *m, const char *key, mode_t mode)
{
	struct model_node *n = node_new(S_IFDIR | mode, NULL, 0);

	n->stays = true;
	return make(m, key, n);
}

int model_mknod(struct model *m, const char *key, mode_t mode)
{
	return make(m, key, node_new(mode, NULL, 0));
}

int model_symlink(struct model *m, const char *target, const char *key)
{
	return make(m, key, node_new(S_IFLNK | 0777, target, strlen(target)));
}

int model_link(struct model *m, const char *key, const char *new_key)
{
	struct model_node *n;
	int rc = model_find(m, key, &n);

	if (rc)
		return rc;
	if (S_ISDIR(n->mode))
		return -EPERM;
	n->refs++;
	return make(m, new_key, n);
}

static int rename_check(
	const struct model *m, const struct way *from, const struct way *to, const char *src, const char *dst, unsigned flags)
{
	bool src_dir = S_ISDIR(from->node->mode), dst_dir = to->node && S_ISDIR(to->node->mode);

	if (from->n == 0 || to->n == 0)
		return -EBUSY;
	if (src_dir && is_below(dst, src))
		return -EINVAL;
	if (flags & MODEL_EXCHANGE)
		return !to->node ? -ENOENT : dst_dir && is_below(src, dst) ? -EINVAL : 0;
	if (!to->node && is_reserved(m, dst, NULL))
		return -EEXIST;
	if (!to->node)
		return m->implicit || to->dir[to->n - 1] ? 0 : -ENOENT;
	if (flags & MODEL_NOREPLACE)
		return -EEXIST;
	if (src_dir != dst_dir)
		return src_dir ? -ENOTDIR : -EISDIR;
	return to->node->n_entries && to->node != from->node ? -ENOTEMPTY : 0;
}

int model_rename(struct model *m, const char *src, const char *dst, unsigned flags)
{
	struct way from, to = {.n = 0};
	int rc = way_old(m, src, &from);

	if (rc == 0)
		rc = way_find(m, dst, &to);
	if (rc == 0)
		rc = rename_check(m, &from, &to, src, dst, flags);
	if (rc || from.node == to.node)
		return rc;
	struct model_node *a = from.node, *b = to.node, *dir = way_parent(&to, false);
	a->refs++;
	if (b)
		b->refs++;
	entry_remove(from.dir[from.n - 1], way_name(&from));
	entry_remove(dir, way_name(&to));
	entry_add(dir, way_name(&to), a);
	if (flags & MODEL_EXCHANGE)
		entry_add(from.dir[from.n - 1], way_name(&from), b);
	else
		prune(m, src);
	node_unref(a);
	node_unref(b);
	return 0;
}

int model_chmod(struct model *m, const char *key, mode_t mode)
{
	struct model_node *n;
	int rc = model_find(m, key, &n);

	if (rc == 0)
		n->mode = (n->mode & S_IFMT) | (mode & 07777);
	return rc;
}

int model_setxattr(struct model *m, const char *key, const char *name, const void *data, size_t len)
{
	struct model_node *n;
	size_t i = 0;
	int rc = model_find(m, key, &n);

	if (rc)
		return rc;
	while (i < n->n_xattrs && strcmp(n->xattrs[i].name, name) < 0)
		i++;
	if (i < n->n_xattrs && strcmp(n->xattrs[i].name, name) == 0) {
		model_bytes_unref(n->xattrs[i].value);
	} else {
		n->xattrs = must(realloc(n->xattrs, (n->n_xattrs + 1) * sizeof(*n->xattrs)));
		memmove(n->xattrs + i + 1, n->xattrs + i, (n->n_xattrs - i) * sizeof(*n->xattrs));
		n->xattrs[i].name = must(strdup(name));
		n->n_xattrs++;
	}
	n->xattrs[i].value = model_bytes_new(data, len);
	return 0;
}

int model_removexattr(struct model *m, const char *key, const char *name)
{
	struct model_node *n;
	int rc = model_find(m, key, &n);

	if (rc)
		return rc;
	for (size_t i = 0; i < n->n_xattrs; i++) {
		if (strcmp(n->xattrs[i].name, name))
			continue;
		free(n->xattrs[i].name);
		model_bytes_unref(n->xattrs[i].value);
		n->n_xattrs--;
		memmove(n->xattrs + i, n->xattrs + i + 1, (n->n_xattrs - i) * sizeof(*n->xattrs));
		return 0;
	}
	return -ENODATA;
}

static void walk(const struct model_node *dir, char *key, size_t len, model_walk_fn *fn, void *arg)
{
	for (size_t i = 0; i < dir->n_entries; i++) {
		const struct model_entry *e = &dir->entries[i];
		size_t end = len + (size_t)snprintf(key + len, KEY_MAX - len, "%s%s", len ? "/" : "", e->name);
		fn(arg, key, e->node);
		if (S_ISDIR(e->node->mode))
			walk(e->node, key, end, fn, arg);
	}
}

void model_walk(const struct model *m, model_walk_fn *fn, void *arg)
{
	char key[KEY_MAX] = "";

	walk(m->root, key, 0, fn, arg);
}

/* ---- sessions ---- */

int model_session_open(struct model *m, const char *key, unsigned flags, mode_t mode, struct model_session **ret)
{
	struct way w;
	int rc = way_find(m, key, &w);

	if (rc)
		return rc;
	if (w.node && (rc = node_check(w.node)))
		return rc;
	if (flags & MODEL_EXCL && (w.node || is_reserved(m, key, NULL)))
		return -EEXIST;
	if (!w.node && (!(flags & MODEL_CREATE) || (!m->implicit && !w.dir[w.n - 1])))
		return -ENOENT;
	struct model_session *s = must(calloc(1, sizeof(*s)));
	s->m = m;
	s->key = must(strdup(key));
	s->mode = mode;
	s->excl = flags & MODEL_EXCL;
	s->node = w.node;
	s->replaces = !w.node || (flags & MODEL_TRUNCATE);
	s->dirty = s->replaces;
	s->view = s->replaces ? model_bytes_new(NULL, 0) : model_bytes_ref(w.node->value);
	if (s->node)
		s->node->refs++;
	if (s->excl)
		reserve(s, true);
	*ret = s;
	return 0;
}

static struct model_bytes *step_done(const struct model_step *step, const struct model_bytes *b)
{
	return step->cut ? bytes_resized(b, step->offset) : bytes_written(b, step->data->data, step->data->len, step->offset);
}

static void session_step(struct model_session *s, struct model_step step)
{
	struct model_bytes *view = step_done(&step, s->view);

	model_bytes_unref(s->view);
	s->view = view;
	s->dirty = true;
	s->steps = must(realloc(s->steps, (s->n_steps + 1) * sizeof(*s->steps)));
	s->steps[s->n_steps++] = step;
}

void model_session_write(struct model_session *s, const void *data, size_t len, size_t offset)
{
	if (len)
		session_step(s, (struct model_step){false, offset, model_bytes_new(data, len)});
}

void model_session_truncate(struct model_session *s, size_t size)
{
	session_step(s, (struct model_step){true, size, NULL});
}

static void session_forget_steps(struct model_session *s)
{
	for (size_t i = 0; i < s->n_steps; i++)
		model_bytes_unref(s->steps[i].data);
	s->n_steps = 0;
}

/* A new key's session finds what came to have its name. */
static int session_take_name(struct model_session *s)
{
	struct way w;
	int rc = way_find(s->m, s->key, &w);

	if (rc)
		return rc;
	if (w.node ? s->excl : is_reserved(s->m, s->key, s))
		return -EEXIST;
	if (w.node && (rc = node_check(w.node)))
		return rc;
	if (!w.node) {
		w.node = node_new(S_IFREG | s->mode, NULL, 0);
		entry_add(way_parent(&w, false), way_name(&w), w.node);
		node_unref(w.node);
	}
	reserve(s, false);
	s->node = w.node;
	s->node->refs++;
	return 0;
}

int model_session_publish(struct model_session *s)
{
	int rc = s->node ? 0 : session_take_name(s);

	if (rc || !s->dirty)
		return rc;
	/* Its inode is gone: there is nothing to publish to, and it goes on alone. */
	if (s->node->links == 0)
		return 0;
	struct model_bytes *value = model_bytes_ref(s->replaces ? s->view : s->node->value);
	for (size_t i = 0; !s->replaces && i < s->n_steps; i++) {
		struct model_bytes *next = step_done(&s->steps[i], value);
		model_bytes_unref(value);
		value = next;
	}
	node_set_value(s->node, model_bytes_ref(value));
	model_bytes_unref(s->view);
	s->view = value;
	s->replaces = s->dirty = false;
	session_forget_steps(s);
	return 0;
}

void model_session_close(struct model_session *s)
{
	if (!s)
		return;
	reserve(s, false);
	session_forget_steps(s);
	free(s->steps);
	node_unref(s->node);
	model_bytes_unref(s->view);
	free(s->key);
	free(s);
}
