/* Cursor: an iterator over the keys of a view, or keys and values, in the order of kvfs_list(). */
#include "kvpy.h"

#include <sys/stat.h>

enum what { KEYS, ITEMS, NAMES /* bytes, relative to the view, undecoded */ };

struct cursor_object {
	PyObject_HEAD struct child child; /* of `txn` */
	struct handle *handle;
	struct txn_object *txn; /* or NULL: then `lock` is its own */
	PyThread_type_lock lock;
	struct kvfs_cursor *cur; /* NULL: at its end */
	enum what what;
	struct view_object *view;
};

/* ---- making ---- */

static void end(struct child *child)
{
	struct cursor_object *cur = (struct cursor_object *)((char *)child - offsetof(struct cursor_object, child));
	kvfs_cursor_close(cur->cur);
	cur->cur = NULL;
}

/* directory + text, as kvfs_list() wants bounds; `text` None: NULL. */
static int bound(PyObject *directory, PyObject *text, PyObject **owner, const char **ret)
{
	*owner = NULL;
	*ret = NULL;
	if (text == Py_None)
		return 0;
	PyObject *tail = kvpy_text(text);
	if (!tail)
		return -1;
	*owner = Py_NewRef(directory);
	PyBytes_ConcatAndDel(owner, tail);
	if (!*owner)
		return -1;
	*ret = PyBytes_AsString(*owner);
	if (strlen(*ret) == (size_t)PyBytes_Size(*owner))
		return 0;
	PyErr_SetString(PyExc_ValueError, "a key has no NUL");
	return -1;
}

static int open_cursor(const struct kvfs_list_options *opt, struct cursor_object *ret)
{
	struct call c;
	char dir[KVFS_KEY_MAX + 2];
	size_t len = (size_t)PyBytes_Size(ret->view->directory);
	int r;
	memcpy(dir, PyBytes_AsString(ret->view->directory), len + 1);
	dir[len ? len - 1 : 0] = 0;
	if (kvpy_call_begin(ret->view, NULL, CALL_WRITE, &c)) /* what a batch has is not listed, so it is committed */
		return -1;
	r = c.txn ? kvfs_txn_list(c.txn, dir, opt, &ret->cur) : kvfs_list(c.kv, dir, opt, &ret->cur);
	kvpy_call_end(&c);
	if (r == 0 && c.held)
		kvpy_txn_adopt(c.held, &ret->child);
	ret->handle = c.handle;
	ret->handle->refs++;
	ret->txn = (struct txn_object *)Py_XNewRef((PyObject *)c.held);
	return kvpy_call_result(&c, r == -ENOENT || r == -ENOTDIR ? 0 : r, NULL);
}

PyObject *kvpy_cursor_new(struct view_object *v, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"what", "prefix", "start", "stop", "reverse", NULL};
	PyObject *text[3] = {Py_None, Py_None, Py_None}, *owner[3] = {NULL};
	struct kvfs_list_options opt = {.size = sizeof opt, .flags = KVFS_LIST_NO_DIRS};
	int what, reverse = 0;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|OOOp:_cursor", names, &what, &text[0], &text[1], &text[2], &reverse))
		return NULL;
	struct cursor_object *cur = kvpy_alloc(kvpy_cursor_type);
	if (!cur)
		return NULL;
	cur->child.prev = cur->child.next = &cur->child;
	cur->child.end = end;
	cur->what = (enum what)what;
	cur->view = (struct view_object *)Py_NewRef((PyObject *)v);
	opt.flags |= (v->typed ? 0 : KVFS_LIST_RECURSIVE) | (reverse ? KVFS_LIST_REVERSE : 0);
	int r = bound(v->directory, text[0], &owner[0], &opt.prefix);
	if (r == 0)
		r = bound(v->directory, text[1], &owner[1], &opt.from);
	if (r == 0)
		r = bound(v->directory, text[2], &owner[2], &opt.until);
	if (r == 0)
		r = open_cursor(&opt, cur);
	for (int i = 0; i < 3; i++)
		Py_XDECREF(owner[i]);
	if (r == 0 && !cur->txn && !(cur->lock = PyThread_allocate_lock())) {
		PyErr_NoMemory();
		r = -1;
	}
	if (r == 0)
		return (PyObject *)cur;
	Py_DECREF((PyObject *)cur);
	return NULL;
}

/* ---- moving ---- */

struct found {
	char key[KVFS_KEY_MAX + 1];
	struct loaded value;
	bool loaded;
};

/* Without the GIL: the next key that has a value, and the value where it is wanted, or where the key is in it. */
static int step(struct cursor_object *cur, struct found *ret)
{
	struct kvfs_entry ent;
	int r;
	while ((r = kvfs_cursor_next(cur->cur, &ent)) == 1) {
		if (!S_ISREG(ent.st.mode))
			continue;
		ret->loaded = cur->what == ITEMS || (cur->what == KEYS && cur->view->typed && kvfs_typed_is_long(ent.name));
		strcpy(ret->key, ent.key);
		if (!ret->loaded)
			return 1;
		r = kvpy_load(cur->handle->kv, cur->txn ? cur->txn->txn : NULL, ent.key, &ret->value);
		if (r == 0)
			return 1;
		if (!kvpy_is_missing(r)) /* else it is gone meanwhile */
			return r;
	}
	return r;
}

/* NULL without an exception: it is none of ours. */
static PyObject *key_of(struct cursor_object *cur, struct found *f, size_t *ret_skip)
{
	const char *name = f->key + PyBytes_Size(cur->view->directory);
	size_t len = strlen(name);
	*ret_skip = 0;
	if (cur->what == NAMES)
		return PyBytes_FromStringAndSize(name, (Py_ssize_t)len);
	if (!cur->view->typed)
		return PyUnicode_DecodeUTF8(name, (Py_ssize_t)len, "surrogateescape");
	if (!kvfs_typed_is_long(name))
		return kvpy_key_decode(name, NULL, 0);
	const char *newline = memchr(f->value.data, '\n', f->value.len);
	if (newline)
		*ret_skip = (size_t)(newline + 1 - f->value.data);
	return newline ? kvpy_key_decode(name, f->value.data, *ret_skip) : NULL;
}

static PyObject *make_item(struct cursor_object *cur, struct found *f)
{
	size_t skip;
	PyObject *key = key_of(cur, f, &skip);
	if (!key || cur->what != ITEMS) {
		if (f->loaded)
			kvpy_loaded_clear(&f->value);
		return key;
	}
	PyObject *value = kvpy_loaded_take(&f->value, skip, cur->view->loads);
	if (value)
		return Py_BuildValue("(NN)", key, value);
	Py_DECREF(key);
	return NULL;
}

static int enter(struct cursor_object *cur)
{
	if (cur->txn)
		return kvpy_txn_enter(cur->txn);
	if (kvpy_handle_dead(cur->handle)) {
		kvpy_raise_forked("the iteration was begun before the fork");
		return -1;
	}
	kvpy_lock(cur->lock);
	return 0;
}

static void leave(struct cursor_object *cur)
{
	if (cur->txn)
		kvpy_txn_leave(cur->txn);
	else
		PyThread_release_lock(cur->lock);
}

static PyObject *cursor_next(PyObject *self)
{
	struct cursor_object *cur = (struct cursor_object *)self;
	struct found f;
	PyObject *ret = NULL;
	int r = 1;
	while (r == 1 && !ret && !PyErr_Occurred()) {
		if (enter(cur))
			return NULL;
		r = 0;
		if (cur->cur) {
			Py_BEGIN_ALLOW_THREADS;
			r = step(cur, &f);
			Py_END_ALLOW_THREADS;
		}
		leave(cur);
		if (r == 1)
			ret = make_item(cur, &f);
	}
	if (r < 0)
		kvpy_raise_of(cur->handle->kv, r, NULL);
	return ret;
}

static PyObject *cursor_iter(PyObject *self)
{
	return Py_NewRef(self);
}

static int cursor_traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT((PyObject *)((struct cursor_object *)self)->view);
	return 0;
}

static void cursor_dealloc(PyObject *self)
{
	struct cursor_object *cur = (struct cursor_object *)self;
	PyObject_GC_UnTrack(self);
	bool lock = cur->txn && !kvpy_handle_dead(cur->handle);
	if (lock)
		kvpy_lock(cur->txn->lock);
	kvpy_txn_disown(&cur->child);
	kvfs_cursor_close(cur->cur);
	if (lock)
		PyThread_release_lock(cur->txn->lock);
	Py_XDECREF((PyObject *)cur->txn);
	Py_XDECREF((PyObject *)cur->view);
	if (cur->handle)
		kvpy_handle_put(cur->handle);
	if (cur->lock)
		PyThread_free_lock(cur->lock);
	kvpy_free(cur);
}

PyTypeObject *kvpy_cursor_make_type(void)
{
	static PyType_Slot slots[] = {
		{Py_tp_doc, "An iterator over keys, or keys and values."},
		{Py_tp_dealloc, cursor_dealloc},
		{Py_tp_traverse, cursor_traverse},
		{Py_tp_iter, cursor_iter},
		{Py_tp_iternext, cursor_next},
		{0, NULL},
	};
	static PyType_Spec spec = {"kvfs._kvfs.Cursor", sizeof(struct cursor_object), 0,
		Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_HAVE_GC, slots};
	return (PyTypeObject *)PyType_FromSpec(&spec);
}
