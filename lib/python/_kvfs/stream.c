/* Stream: an open value, read or written at offsets.  kvfs/_file.py makes a file object of it. */
#include "kvpy.h"

struct stream_object {
	PyObject_HEAD struct child child; /* of `txn` */
	struct handle *handle;
	struct txn_object *txn; /* or NULL: then `lock` is its own */
	PyThread_type_lock lock;
	struct kvfs_stream *st; /* NULL: closed */
	PyObject *key;
	uint64_t base; /* bytes of the key's line before the value */
};

static void end(struct child *child)
{
	struct stream_object *s = (struct stream_object *)((char *)child - offsetof(struct stream_object, child));
	kvfs_stream_abort(s->st);
	s->st = NULL;
}

/* ---- making ---- */

static int open_stream(struct call *c, unsigned flags, unsigned mode, struct kvfs_stream **ret)
{
	if (c->key.fault)
		return -EINVAL;
	if (c->txn && flags & KVFS_STREAM_WRITE)
		return -EROFS;
	int r = c->txn ? kvfs_txn_stream_open(c->txn, c->key.path, ret) : kvfs_stream_open(c->kv, c->key.path, flags, mode, ret);
	if (r || !c->key.line || !(flags & (KVFS_STREAM_TRUNCATE | KVFS_STREAM_EXCL)))
		return r;
	ssize_t n = kvfs_stream_write(*ret, c->key.line, c->key.line_len, 0);
	if (n < 0)
		kvfs_stream_abort(*ret);
	return n < 0 ? (int)n : 0;
}

PyObject *kvpy_stream_new(struct view_object *v, PyObject *args)
{
	struct call c;
	PyObject *key;
	struct kvfs_stream *st = NULL;
	unsigned flags, mode;
	if (!PyArg_ParseTuple(args, "OII:_stream", &key, &flags, &mode) || kvpy_call_begin(v, key, CALL_WRITE, &c))
		return NULL;
	int r = open_stream(&c, flags, mode, &st);
	kvpy_call_end(&c);
	struct stream_object *s = r ? NULL : kvpy_alloc(kvpy_stream_type);
	if (!s) {
		kvfs_stream_abort(st);
		kvpy_call_result(&c, r, key);
		return NULL;
	}
	s->child.prev = s->child.next = &s->child;
	s->child.end = end;
	s->st = st;
	s->base = c.key.line_len;
	s->key = Py_NewRef(key);
	s->handle = c.handle;
	s->handle->refs++;
	s->txn = (struct txn_object *)Py_XNewRef((PyObject *)c.held);
	if (s->txn)
		kvpy_txn_adopt(s->txn, &s->child);
	kvpy_call_clear(&c);
	if (!s->txn && !(s->lock = PyThread_allocate_lock())) {
		Py_DECREF((PyObject *)s);
		return PyErr_NoMemory();
	}
	return (PyObject *)s;
}

/* ---- use ---- */

static int enter(struct stream_object *s)
{
	if (s->handle && kvpy_handle_dead(s->handle)) {
		kvpy_raise_forked("the file was opened before the fork");
		return -1;
	}
	if (s->txn && kvpy_txn_enter(s->txn))
		return -1;
	if (!s->txn)
		kvpy_lock(s->lock);
	if (s->st)
		return 0;
	PyThread_release_lock(s->txn ? s->txn->lock : s->lock);
	kvpy_raise_closed("the file is closed");
	return -1;
}

/* Lets go; the exception that `r` means, or the number. */
static PyObject *leave(struct stream_object *s, long long r)
{
	struct handle *h = s->handle; /* which another thread may drop, as soon as it has the lock */
	h->refs++;
	PyThread_release_lock(s->txn ? s->txn->lock : s->lock);
	PyObject *ret = r < 0 ? kvpy_raise_of(h->kv, (int)r, s->key) : PyLong_FromLongLong(r);
	kvpy_handle_put(h);
	return ret;
}

static PyObject *stream_readinto(PyObject *self, PyObject *args)
{
	struct stream_object *s = (struct stream_object *)self;
	Py_buffer buf;
	unsigned long long offset;
	PyObject *ret = NULL;
	ssize_t n;
	if (!PyArg_ParseTuple(args, "w*K:readinto", &buf, &offset))
		return NULL;
	if (enter(s) == 0) {
		Py_BEGIN_ALLOW_THREADS;
		n = kvfs_stream_read(s->st, buf.buf, (size_t)buf.len, offset + s->base);
		Py_END_ALLOW_THREADS;
		ret = leave(s, n);
	}
	PyBuffer_Release(&buf);
	return ret;
}

static PyObject *stream_write(PyObject *self, PyObject *args)
{
	struct stream_object *s = (struct stream_object *)self;
	Py_buffer buf;
	unsigned long long offset;
	PyObject *ret = NULL;
	ssize_t n;
	if (!PyArg_ParseTuple(args, "y*K:write", &buf, &offset))
		return NULL;
	if (enter(s) == 0) {
		Py_BEGIN_ALLOW_THREADS;
		n = kvfs_stream_write(s->st, buf.buf, (size_t)buf.len, offset + s->base);
		Py_END_ALLOW_THREADS;
		ret = leave(s, n);
	}
	PyBuffer_Release(&buf);
	return ret;
}

static PyObject *stream_truncate(PyObject *self, PyObject *arg)
{
	struct stream_object *s = (struct stream_object *)self;
	unsigned long long size = PyLong_AsUnsignedLongLong(arg);
	int r;
	if ((size == (unsigned long long)-1 && PyErr_Occurred()) || enter(s))
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	r = kvfs_stream_truncate(s->st, size + s->base);
	Py_END_ALLOW_THREADS;
	return leave(s, r);
}

static PyObject *stream_size(PyObject *self, PyObject *unused)
{
	struct stream_object *s = (struct stream_object *)self;
	(void)unused;
	if (enter(s))
		return NULL;
	uint64_t size = kvfs_stream_size(s->st);
	return leave(s, (long long)(size < s->base ? 0 : size - s->base));
}

static PyObject *stream_publish(PyObject *self, PyObject *unused)
{
	struct stream_object *s = (struct stream_object *)self;
	int r;
	(void)unused;
	if (enter(s))
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	r = kvfs_stream_publish(s->st);
	Py_END_ALLOW_THREADS;
	return leave(s, r);
}

static PyObject *stream_end(struct stream_object *s, bool publish)
{
	struct kvfs_stream *st;
	int r = 0;
	if (enter(s))
		return NULL;
	st = s->st;
	s->st = NULL;
	kvpy_txn_disown(&s->child);
	Py_BEGIN_ALLOW_THREADS;
	if (publish)
		r = kvfs_stream_close(st);
	else
		kvfs_stream_abort(st);
	Py_END_ALLOW_THREADS;
	PyObject *ret = leave(s, r);
	kvpy_handle_drop(&s->handle);
	return ret;
}

static PyObject *stream_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	return stream_end((struct stream_object *)self, true);
}

static PyObject *stream_abort(PyObject *self, PyObject *unused)
{
	(void)unused;
	return stream_end((struct stream_object *)self, false);
}

static void stream_dealloc(PyObject *self)
{
	struct stream_object *s = (struct stream_object *)self;
	bool lock = s->txn && s->handle && !kvpy_handle_dead(s->handle);
	if (lock)
		kvpy_lock(s->txn->lock);
	kvpy_txn_disown(&s->child);
	kvfs_stream_abort(s->st);
	if (lock)
		PyThread_release_lock(s->txn->lock);
	Py_XDECREF((PyObject *)s->txn);
	Py_XDECREF(s->key);
	kvpy_handle_drop(&s->handle);
	if (s->lock)
		PyThread_free_lock(s->lock);
	kvpy_free(s);
}

PyTypeObject *kvpy_stream_make_type(void)
{
	static PyMethodDef methods[] = {
		{"readinto", stream_readinto, METH_VARARGS, "readinto(buffer, offset) -> number of bytes; 0 at the end."},
		{"write", stream_write, METH_VARARGS, "write(data, offset) -> number of bytes: all."},
		{"truncate", stream_truncate, METH_O, "truncate(size)"},
		{"size", stream_size, METH_NOARGS, "Bytes of the value as the stream sees it."},
		{"publish", stream_publish, METH_NOARGS, "Publishes what was written so far."},
		{"close", stream_close, METH_NOARGS, "Publishes, if it can write, and closes."},
		{"abort", stream_abort, METH_NOARGS, "Closes; what was not published is dropped."},
		{NULL, NULL, 0, NULL},
	};
	static PyType_Slot slots[] = {
		{Py_tp_doc, "An open value."},
		{Py_tp_dealloc, stream_dealloc},
		{Py_tp_methods, methods},
		{0, NULL},
	};
	static PyType_Spec spec = {"kvfs._kvfs.Stream", sizeof(struct stream_object), 0,
		Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
	return (PyTypeObject *)PyType_FromSpec(&spec);
}
