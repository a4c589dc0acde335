/* Walks; see walk.h.
 *
 * Forward, a directory is listed when it is stepped to and its keys after it; in reverse its keys come first, so it is listed when
 * its frame is left.  Bounds only decide where a frame starts, and which keys are passed over or end the walk. */
#include "walk.h"

#include <errno.h>
#include <sys/stat.h>

#include "err.h"
#include "inode.h"
#include "path.h"

static const char *skip_slash(const char *key)
{
	return key + (*key == '/');
}

static int copy_bound(const char *key, char **ret)
{
	if (!key)
		return 0;
	*ret = strdup(skip_slash(key));
	return *ret ? 0 : kv_fail(ENOMEM);
}

static int push(struct kv_walk *w, uint64_t ino, size_t len)
{
	if (w->depth == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 8;
		void *frames = realloc(w->frames, cap * sizeof *w->frames);
		if (!frames)
			return kv_fail(ENOMEM);
		w->frames = frames;
		w->cap = cap;
	}
	if (w->depth >= KV_WALK_DEPTH)
		return kv_fail(ENAMETOOLONG);
	w->frames[w->depth++] = (struct kv_walk_frame){.ino = ino, .len = (uint32_t)len};
	return 0;
}

int kv_walk_init(struct kv_walk *w, const char *dir, uint64_t ino, const struct kvfs_list_options *opt)
{
	*w = (struct kv_walk){.flags = opt->flags};
	dir = skip_slash(dir);
	strcpy(w->path, dir);
	int r = copy_bound(opt->prefix, &w->prefix);
	if (r == 0)
		r = copy_bound(opt->from, &w->from);
	if (r == 0)
		r = copy_bound(opt->until, &w->until);
	if (r == 0)
		r = push(w, ino, strlen(dir));
	if (r)
		kv_walk_free(w);
	return r;
}

void kv_walk_free(struct kv_walk *w)
{
	free(w->prefix);
	free(w->from);
	free(w->until);
	free(w->frames);
	*w = (struct kv_walk){.done = true};
}

/* If `bound` lies below the frame's directory: its component there, and whether it is the last.  A prefix may have a component that is
 * too long for a name: what a name can have of it leads to the same place. */
static bool component_of(const struct kv_walk *w, const struct kv_walk_frame *f, const char *bound, const char **ret,
	size_t *ret_len, bool *ret_last)
{
	if (!bound || strncmp(bound, w->path, f->len) != 0)
		return false;
	const char *at = bound + f->len;
	if (f->len && *at++ != '/')
		return false;
	if (!*at)
		return false;
	*ret = at;
	size_t n = strcspn(at, "/");
	*ret_len = kv_min(n, KVFS_NAME_MAX);
	*ret_last = at[n] == 0;
	return true;
}

/* Where a frame starts: at the greater of its lower bounds (reverse: the lesser of its upper ones). */
struct start {
	char name[KVFS_NAME_MAX];
	size_t len;
	bool set, at;
};

static void tighten(struct start *s, const char *name, size_t len, bool at, bool reverse)
{
	size_t n = len < s->len ? len : s->len;
	int cmp = memcmp(name, s->name, n);
	if (cmp == 0)
		cmp = (len > s->len) - (len < s->len);
	if (s->set && (reverse ? cmp > 0 : cmp < 0))
		return;
	if (s->set && cmp == 0) {
		s->at = s->at && at;
		return;
	}
	memcpy(s->name, name, len);
	s->len = len;
	s->set = true;
	s->at = at;
}

static struct start frame_start(const struct kv_walk *w, const struct kv_walk_frame *f)
{
	struct start s = {0};
	const char *name;
	size_t len;
	bool last, reverse = w->flags & KVFS_LIST_REVERSE;
	if (!reverse && component_of(w, f, w->from, &name, &len, &last))
		tighten(&s, name, len, true, false);
	if (reverse && component_of(w, f, w->until, &name, &len, &last))
		tighten(&s, name, len, !last, true); /* what holds `until` comes before it */
	if (component_of(w, f, w->prefix, &name, &len, &last)) {
		char top[KVFS_NAME_MAX];
		if (reverse && last) { /* the last name that begins so */
			memset(top, 0xff, sizeof top);
			memcpy(top, name, len);
			name = top;
			len = sizeof top;
		}
		tighten(&s, name, len, true, reverse);
	}
	return s;
}

/* Moves the top frame's entry one on, into w->path.  -ENOENT at its end. */
static int step(struct kv_walk *w, struct kv_cursor *c, struct kv_dirent *ret)
{
	struct kv_walk_frame *f = &w->frames[w->depth - 1];
	bool reverse = w->flags & KVFS_LIST_REVERSE;
	struct kv_bytes name;
	int r;
	if (f->started) {
		const char *last = w->path + f->len + (f->len > 0);
		r = kv_dirent_step(c, f->ino, last, strlen(last), false, reverse, &name, ret);
	} else {
		struct start s = frame_start(w, f);
		r = kv_dirent_step(c, f->ino, s.set ? s.name : NULL, s.len, s.at, reverse, &name, ret);
	}
	if (r)
		return r;
	size_t at = f->len + (f->len > 0);
	if (f->len)
		w->path[f->len] = '/';
	memcpy(w->path + at, name.data, name.len);
	w->path[at + name.len] = 0;
	f->started = true;
	return 0;
}

/* Does the key begin with the prefix (1), hold keys that do (0), or neither (-1)? */
static int match_prefix(const struct kv_walk *w)
{
	if (!w->prefix)
		return 1;
	size_t len = strlen(w->prefix), n = strlen(w->path);
	if (strncmp(w->path, w->prefix, len) == 0)
		return 1;
	return n < len && strncmp(w->path, w->prefix, n) == 0 && w->prefix[n] == '/' ? 0 : -1;
}

/* Is the key to be listed?  Sets w->done when the walk has passed its far bound. */
static bool wanted(struct kv_walk *w, uint32_t type)
{
	bool reverse = w->flags & KVFS_LIST_REVERSE;
	bool low = w->from && kv_path_compare(w->path, w->from) < 0;
	bool high = w->until && kv_path_compare(w->path, w->until) >= 0;
	if (reverse ? low : high)
		w->done = true;
	if (low || high || (w->flags & KVFS_LIST_NO_DIRS && S_ISDIR(type)))
		return false;
	return match_prefix(w) == 1;
}

/* Past the names with the prefix (of a directory on its way: past that one name) there are none again. */
static bool past_prefix(const struct kv_walk *w)
{
	const struct kv_walk_frame *f = &w->frames[w->depth - 1];
	const char *name;
	size_t len;
	bool last;
	if (match_prefix(w) >= 0 || !component_of(w, f, w->prefix, &name, &len, &last))
		return false;
	const char *here = w->path + f->len + (f->len > 0);
	int cmp = strncmp(here, name, len);
	if (cmp == 0 && !last)
		cmp = here[len] != 0;
	return w->flags & KVFS_LIST_REVERSE ? cmp < 0 : cmp > 0;
}

/* Does the entry that the walk stands on lead to this directory?  The directory's record says which is its only one (N2).  1, 0, error. */
static int is_its_entry(const struct kv_walk *w, struct kv_txn *txn, uint64_t ino)
{
	const struct kv_walk_frame *f = &w->frames[w->depth - 1];
	const char *name = w->path + f->len + (f->len > 0);
	struct kv_inode inode;
	int r = kv_inode_get(txn, ino, &inode);
	if (r)
		return r == -ENOENT ? 0 : r;
	return inode.rec.parent == f->ino && inode.rec.name_len == strlen(name) && memcmp(inode.name, name, strlen(name)) == 0;
}

/* A crafted store could lead in circles. */
static int enter(struct kv_walk *w, struct kv_txn *txn, uint64_t ino)
{
	int r = is_its_entry(w, txn, ino);
	if (r == 0) {
		kv_db_set_damage(txn->db, "an entry leads to a directory that has another");
		return kv_fail(EUCLEAN);
	}
	return r < 0 ? r : push(w, ino, strlen(w->path));
}

/* Leaves the top frame; in reverse its directory's turn has come, if it is still there: the walk may have entered it in an earlier transaction.
 * 1 there is something to list, 0, error. */
static int leave(struct kv_walk *w, struct kv_txn *txn, struct kv_dirent *ret)
{
	struct kv_walk_frame top = w->frames[--w->depth];
	if (w->depth == 0) {
		w->done = true;
		return 0;
	}
	w->path[top.len] = 0;
	*ret = (struct kv_dirent){.ino = top.ino, .type = S_IFDIR};
	return w->flags & KVFS_LIST_REVERSE && wanted(w, S_IFDIR) ? is_its_entry(w, txn, top.ino) : 0;
}

int kv_walk_next(struct kv_walk *w, struct kv_cursor *c, struct kv_dirent *ret)
{
	bool reverse = w->flags & KVFS_LIST_REVERSE, recursive = w->flags & KVFS_LIST_RECURSIVE;
	while (!w->done) {
		int r = step(w, c, ret);
		if (r == -ENOENT || (r == 0 && past_prefix(w))) {
			r = leave(w, c->txn, ret);
			if (r)
				return r;
			continue;
		}
		if (r)
			return r;
		if (strlen(w->path) > KVFS_KEY_MAX) { /* made through a mount, by relative names; no key can say it */
			w->too_long = true;
			continue;
		}
		bool into = recursive && S_ISDIR(ret->type) && match_prefix(w) >= 0;
		if (into && reverse) {
			r = enter(w, c->txn, ret->ino);
			if (r)
				return r;
			continue;
		}
		bool list = wanted(w, ret->type);
		if (w->done)
			break;
		if (into) {
			r = enter(w, c->txn, ret->ino);
			if (r)
				return r;
		}
		if (list)
			return 1;
	}
	if (!w->too_long)
		return 0;
	w->too_long = false;
	return kv_fail(ENAMETOOLONG); /* after all that has a key */
}
