/* View: the keys of a store below a directory, as a mapping to what a codec makes of their bytes; in a transaction or snapshot, or each call on its own. */
#include "kvpy.h"

#include <sys/stat.h>

/* ---- reading ---- */

/* Does a value begin with the line that the name of its key asks for? */
static bool has_line(const struct loaded *l, const struct key *key)
{
	return l->len >= key->line_len && (!key->line || memcmp(l->data, key->line, key->line_len) == 0);
}

/* `otherwise` for what is not there; NULL: KeyError. */
static PyObject *get(struct view_object *v, PyObject *key, PyObject *otherwise)
{
	struct call c;
	struct loaded l;
	if (kvpy_call_begin(v, key, CALL_READ, &c))
		return NULL;
	int r = c.key.fault ? -EINVAL : kvpy_load(c.kv, c.txn, c.key.path, &l);
	kvpy_call_end(&c);
	size_t skip = c.key.line_len;
	if (r == 0 && !has_line(&l, &c.key)) {
		kvpy_loaded_clear(&l);
		r = -ENOENT;
	}
	bool missing = kvpy_is_missing(r);
	if (kvpy_call_result(&c, missing ? 0 : r, key))
		return NULL;
	if (!missing)
		return kvpy_loaded_take(&l, skip, v->loads);
	if (!otherwise)
		PyErr_SetObject(PyExc_KeyError, key);
	return Py_XNewRef(otherwise);
}

static PyObject *view_subscript(PyObject *self, PyObject *key)
{
	return get((struct view_object *)self, key, NULL);
}

static PyObject *view_get(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	if (n < 1 || n > 2) {
		PyErr_Format(PyExc_TypeError, "get expected 1 or 2 arguments, got %zd", n);
		return NULL;
	}
	return get((struct view_object *)self, args[0], n > 1 ? args[1] : Py_None);
}

/* Is it a value?  0 or -errno. */
static int look(const struct call *c)
{
	struct kvfs_stat st;
	char none;
	if (c->key.fault)
		return -EINVAL;
	if (!c->txn)
		return (int)kvfs_get_into(c->kv, c->key.path, &none, 0, 0);
	int r = kvfs_txn_stat(c->txn, c->key.path, &st);
	return r == 0 && !S_ISREG(st.mode) ? -ENOENT : r;
}

static int view_contains(PyObject *self, PyObject *key)
{
	struct call c;
	if (kvpy_call_begin((struct view_object *)self, key, CALL_READ, &c))
		return -1;
	int r = look(&c);
	kvpy_call_end(&c);
	if (kvpy_call_result(&c, kvpy_is_missing(r) ? 0 : r, key))
		return -1;
	return r == 0;
}

static ssize_t read_at(const struct call *c, void *buf, size_t cap, uint64_t offset)
{
	void *data;
	size_t len;
	if (!c->txn)
		return kvfs_get_into(c->kv, c->key.path, buf, cap, offset);
	int r = kvfs_txn_get(c->txn, c->key.path, &data, &len);
	if (r)
		return r;
	size_t n = offset >= len ? 0 : len - offset < cap ? len - (size_t)offset : cap;
	if (n)
		memcpy(buf, (char *)data + offset, n);
	free(data);
	return (ssize_t)n;
}

static PyObject *view_readinto(PyObject *self, PyObject *args)
{
	struct call c;
	PyObject *key;
	Py_buffer buf;
	unsigned long long offset = 0;
	ssize_t n = -EINVAL;
	if (!PyArg_ParseTuple(args, "Ow*|K:readinto", &key, &buf, &offset))
		return NULL;
	if (kvpy_call_begin((struct view_object *)self, key, CALL_READ, &c)) {
		PyBuffer_Release(&buf);
		return NULL;
	}
	if (!c.key.fault)
		n = read_at(&c, buf.buf, (size_t)buf.len, offset + c.key.line_len);
	kvpy_call_end(&c);
	PyBuffer_Release(&buf);
	bool missing = n < 0 && kvpy_is_missing((int)n);
	if (kvpy_call_result(&c, n < 0 && !missing ? (int)n : 0, key))
		return NULL;
	if (missing)
		PyErr_SetObject(PyExc_KeyError, key);
	return missing ? NULL : PyLong_FromSsize_t(n);
}

static double seconds(struct timespec t)
{
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The library's name of the view's directory, without the '/' at its end, or of what is at `path` in it. */
static bool name_in(struct view_object *v, PyObject *path, char name[KVFS_KEY_MAX + 1])
{
	size_t len = (size_t)PyBytes_Size(v->directory), n = path ? (size_t)PyBytes_Size(path) : 0;
	if (len + n > KVFS_KEY_MAX || (n && strlen(PyBytes_AsString(path)) != n))
		return false;
	memcpy(name, PyBytes_AsString(v->directory), len + 1);
	if (n)
		memcpy(name + len, PyBytes_AsString(path), n + 1);
	else if (len)
		name[len - 1] = 0;
	return true;
}

/* stat(path): of whatever is there, "" being the view's own directory; None: nothing. */
static PyObject *view_stat(PyObject *self, PyObject *path)
{
	struct view_object *v = (struct view_object *)self;
	struct kvfs_stat st;
	struct call c;
	char name[KVFS_KEY_MAX + 1];
	PyObject *text = kvpy_text(path);
	if (!text)
		return NULL;
	bool legal = name_in(v, text, name);
	Py_DECREF(text);
	if (kvpy_call_begin(v, NULL, CALL_WRITE, &c)) /* the path is not compared with those of a batch: it is committed */
		return NULL;
	int r = !legal ? -EINVAL : c.txn ? kvfs_txn_stat(c.txn, name, &st) : kvfs_stat(c.kv, name, &st);
	kvpy_call_end(&c);
	bool missing = kvpy_is_missing(r);
	if (kvpy_call_result(&c, missing ? 0 : r, path))
		return NULL;
	if (missing)
		return Py_NewRef(Py_None);
	return Py_BuildValue("(KKKKIIIIddd)", (unsigned long long)st.size, (unsigned long long)st.allocated,
		(unsigned long long)st.version, (unsigned long long)st.ino, st.mode, st.nlink, st.uid, st.gid, seconds(st.atime),
		seconds(st.mtime), seconds(st.ctime));
}

/* ---- writing ---- */

/* What is stored: the value, after the key's line if it has one. */
struct stored {
	Py_buffer value;
	const char *data;
	size_t len;
	char *joined; /* owns data, or NULL */
};

static int join(struct stored *s, const struct key *key)
{
	s->data = s->joined ? s->joined : s->value.buf;
	s->len = (size_t)s->value.len + key->line_len;
	if (!key->line || s->joined)
		return 0;
	s->data = s->joined = malloc(s->len);
	if (!s->joined)
		return -ENOMEM;
	memcpy(s->joined, key->line, key->line_len);
	memcpy(s->joined + key->line_len, s->value.buf, (size_t)s->value.len);
	return 0;
}

/* `flags` as of kvfs_put().  1 stored, 0 not because of them, -1 with an exception. */
static int put_now(struct view_object *v, PyObject *key, struct stored *s, unsigned flags)
{
	const struct kvfs_put_options opt = {.size = sizeof opt, .flags = flags};
	struct call c;
	if (kvpy_call_begin(v, key, CALL_WRITE, &c))
		return -1;
	int r = c.key.fault ? -EINVAL : join(s, &c.key);
	if (r == 0)
		r = c.txn ? kvfs_txn_put(c.txn, c.key.path, s->data, s->len, &opt)
			  : kvfs_put(c.kv, c.key.path, s->data, s->len, &opt, NULL);
	kvpy_call_end(&c);
	bool failed = r == 0 && c.txn && kvpy_txn_note(c.held, c.key.path, true);
	bool there = r == -EEXIST && flags;
	return kvpy_call_result(&c, there ? 0 : r, key) || failed ? -1 : !there;
}

/* 1 done, 0 not (no batch, or the value is too large for one), -1 with an exception. */
static int put_in_batch(struct view_object *v, PyObject *key, struct stored *s)
{
	struct txn_object *batch = v->txn ? NULL : kvpy_store_batch(v->store);
	struct key k;
	if (!batch)
		return PyErr_Occurred() ? -1 : 0;
	Py_INCREF((PyObject *)batch);
	int r = kvpy_key_path(v->directory, v->typed, key, &k);
	if (r == 0) {
		r = k.fault || join(s, &k) ? 0 : kvpy_batch_put(batch, k.path, key, s->data, s->len);
		kvpy_key_clear(&k);
	}
	Py_DECREF((PyObject *)batch);
	return r;
}

/* As put_now(), in a batch if there is one and no flag. */
static int put(struct view_object *v, PyObject *key, PyObject *value, unsigned flags)
{
	struct stored s = {.joined = NULL};
	if (kvpy_value(v->dumps, value, &s.value))
		return -1;
	int r = flags ? 0 : put_in_batch(v, key, &s);
	if (r == 0)
		r = put_now(v, key, &s, flags);
	free(s.joined);
	PyBuffer_Release(&s.value);
	return r;
}

static int del(struct view_object *v, PyObject *key)
{
	struct call c;
	if (kvpy_call_begin(v, key, CALL_WRITE, &c))
		return -1;
	int r = look(&c); /* the library deletes links and empty directories as well */
	if (r == 0)
		r = c.txn ? kvfs_txn_del(c.txn, c.key.path) : kvfs_del(c.kv, c.key.path);
	kvpy_call_end(&c);
	if (r == 0 && c.txn && kvpy_txn_note(c.held, c.key.path, false)) {
		kvpy_call_clear(&c);
		return -1;
	}
	bool missing = kvpy_is_missing(r);
	if (kvpy_call_result(&c, missing ? 0 : r, key))
		return -1;
	if (missing)
		PyErr_SetObject(PyExc_KeyError, key);
	return missing ? -1 : 0;
}

static int view_ass_subscript(PyObject *self, PyObject *key, PyObject *value)
{
	struct view_object *v = (struct view_object *)self;
	if (!value)
		return del(v, key);
	return put(v, key, value, 0) < 0 ? -1 : 0;
}

static PyObject *view_add(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	if (n != 2) {
		PyErr_Format(PyExc_TypeError, "add expected 2 arguments, got %zd", n);
		return NULL;
	}
	int r = put((struct view_object *)self, args[0], args[1], KVFS_IF_ABSENT);
	return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *view_append(PyObject *self, PyObject *args)
{
	struct view_object *v = (struct view_object *)self;
	struct call c;
	PyObject *key;
	Py_buffer buf;
	if (!PyArg_ParseTuple(args, "Oy*:append", &key, &buf))
		return NULL;
	int r = -1;
	if (v->txn)
		PyErr_SetString(PyExc_TypeError, "a transaction stores whole values");
	else
		r = kvpy_call_begin(v, key, CALL_WRITE, &c);
	if (r == 0) {
		const struct kvfs_put_options opt = {.size = sizeof opt, .flags = KVFS_IF_ABSENT};
		r = c.key.fault ? -EINVAL : c.key.line ? kvfs_put(c.kv, c.key.path, c.key.line, c.key.line_len, &opt, NULL) : 0;
		if (r == 0 || r == -EEXIST)
			r = kvfs_append(c.kv, c.key.path, buf.buf, (size_t)buf.len);
		kvpy_call_end(&c);
		r = kvpy_call_result(&c, r, key);
	}
	PyBuffer_Release(&buf);
	return r ? NULL : Py_NewRef(Py_None);
}

static PyObject *view_incr(PyObject *self, PyObject *args)
{
	struct call c;
	PyObject *key;
	long long delta = 1;
	int64_t sum = 0;
	if (!PyArg_ParseTuple(args, "O|L:incr", &key, &delta) || kvpy_call_begin((struct view_object *)self, key, CALL_WRITE, &c))
		return NULL;
	int r = c.key.fault  ? -EINVAL
		: c.key.line ? -EDOM /* its value begins with the key */
		: c.txn      ? kvfs_txn_incr(c.txn, c.key.path, delta, &sum)
			     : kvfs_incr(c.kv, c.key.path, delta, &sum);
	kvpy_call_end(&c);
	if (r == 0 && c.txn && kvpy_txn_note(c.held, c.key.path, true)) {
		kvpy_call_clear(&c);
		return NULL;
	}
	return kvpy_call_result(&c, r, key) ? NULL : PyLong_FromLongLong(sum);
}

/* Deletes the view's directory with all that is below it. */
static PyObject *view_del_tree(PyObject *self, PyObject *unused)
{
	struct view_object *v = (struct view_object *)self;
	struct call c;
	char name[KVFS_KEY_MAX + 1];
	uint64_t count;
	(void)unused;
	bool legal = name_in(v, NULL, name);
	if (kvpy_call_begin(v, NULL, CALL_WRITE, &c))
		return NULL;
	int r = c.txn || !legal ? -EINVAL : kvfs_del_tree(c.kv, name, &count);
	kvpy_call_end(&c);
	return kvpy_call_result(&c, r == -ENOENT || r == -ENOTDIR ? 0 : r, NULL) ? NULL : Py_NewRef(Py_None);
}

/* ---- type ---- */

static PyObject *view_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct view_object *v = kvpy_alloc(type);
	(void)args;
	(void)kwargs;
	if (v && !(v->directory = PyBytes_FromString("")))
		Py_CLEAR(v);
	return (PyObject *)v;
}

static int view_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct view_object *v = (struct view_object *)self;
	PyObject *store, *txn, *directory, *dumps = Py_None, *loads = Py_None;
	int typed;
	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!OSp|OO:View", kvpy_store_type, &store, &txn, &directory, &typed, &dumps, &loads))
		return -1;
	if (txn != Py_None && !PyObject_TypeCheck(txn, kvpy_txn_type)) {
		PyErr_SetString(PyExc_TypeError, "txn must be a Txn or None");
		return -1;
	}
	if (PyBytes_Size(directory) > KVFS_KEY_MAX || v->store) {
		PyErr_SetString(PyExc_ValueError, v->store ? "it is open" : "the directory's name is too long");
		return -1;
	}
	Py_XDECREF(v->directory);
	v->store = (struct store_object *)Py_NewRef(store);
	v->txn = txn == Py_None ? NULL : (struct txn_object *)Py_NewRef(txn);
	v->directory = Py_NewRef(directory);
	v->dumps = dumps == Py_None ? NULL : Py_NewRef(dumps);
	v->loads = loads == Py_None ? NULL : Py_NewRef(loads);
	v->typed = typed;
	return 0;
}

/* A codec's functions may lead back to the view. */
static int view_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct view_object *v = (struct view_object *)self;
	Py_VISIT(Py_TYPE(self));
	Py_VISIT((PyObject *)v->store);
	Py_VISIT((PyObject *)v->txn);
	Py_VISIT(v->dumps);
	Py_VISIT(v->loads);
	return 0;
}

static int view_clear(PyObject *self)
{
	struct view_object *v = (struct view_object *)self;
	PyObject *store = (PyObject *)v->store, *txn = (PyObject *)v->txn;
	v->store = NULL;
	v->txn = NULL;
	Py_CLEAR(v->dumps);
	Py_CLEAR(v->loads);
	Py_XDECREF(txn);
	Py_XDECREF(store);
	return 0;
}

static void view_dealloc(PyObject *self)
{
	struct view_object *v = (struct view_object *)self;
	PyObject_GC_UnTrack(self);
	view_clear(self);
	Py_XDECREF(v->directory);
	kvpy_free(v);
}

static PyObject *view_get_store(PyObject *self, void *unused)
{
	(void)unused;
	return Py_XNewRef((PyObject *)((struct view_object *)self)->store);
}

static PyObject *view_get_txn(PyObject *self, void *unused)
{
	PyObject *txn = (PyObject *)((struct view_object *)self)->txn;
	(void)unused;
	return Py_NewRef(txn ? txn : Py_None);
}

static PyObject *view_get_directory(PyObject *self, void *unused)
{
	(void)unused;
	return Py_XNewRef(((struct view_object *)self)->directory);
}

static PyObject *view_cursor(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return kvpy_cursor_new((struct view_object *)self, args, kwargs);
}

static PyObject *view_stream(PyObject *self, PyObject *args)
{
	return kvpy_stream_new((struct view_object *)self, args);
}

PyTypeObject *kvpy_view_make_type(void)
{
	static PyMethodDef methods[] = {
		{"get", (PyCFunction)(void (*)(void))view_get, METH_FASTCALL, "get(key, default=None)"},
		{"add", (PyCFunction)(void (*)(void))view_add, METH_FASTCALL,
			"add(key, value) -> bool: stores it if the key is absent."},
		{"append", view_append, METH_VARARGS, "append(key, data): adds bytes at the end of a value, in one transaction."},
		{"incr", view_incr, METH_VARARGS, "incr(key, delta=1) -> int: adds to the decimal integer that the value is."},
		{"readinto", view_readinto, METH_VARARGS, "readinto(key, buffer, offset=0) -> number of bytes read."},
		{"_stat", view_stat, METH_O, NULL},
		{"_cursor", (PyCFunction)(void (*)(void))view_cursor, METH_VARARGS | METH_KEYWORDS, NULL},
		{"_stream", view_stream, METH_VARARGS, NULL},
		{"_del_tree", view_del_tree, METH_NOARGS, NULL},
		{NULL, NULL, 0, NULL},
	};
	static PyGetSetDef attributes[] = {
		{"_store", view_get_store, NULL, NULL, NULL},
		{"_txn", view_get_txn, NULL, NULL, NULL},
		{"_directory", view_get_directory, NULL, NULL, NULL},
		{NULL, NULL, NULL, NULL, NULL},
	};
	static PyType_Slot slots[] = {
		{Py_tp_doc, "View(store, txn, directory, typed, dumps=None, loads=None): keys below a directory (b'' or b'a/b/') "
			    "and their values."},
		{Py_tp_new, view_new},
		{Py_tp_init, view_init},
		{Py_tp_dealloc, view_dealloc},
		{Py_tp_traverse, view_traverse},
		{Py_tp_clear, view_clear},
		{Py_tp_methods, methods},
		{Py_tp_getset, attributes},
		{Py_mp_subscript, view_subscript},
		{Py_mp_ass_subscript, view_ass_subscript},
		{Py_sq_contains, view_contains},
		{0, NULL},
	};
	static PyType_Spec spec = {"kvfs._kvfs.View", sizeof(struct view_object), 0,
		Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};
	return (PyTypeObject *)PyType_FromSpec(&spec);
}
