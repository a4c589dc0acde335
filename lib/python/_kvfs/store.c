/* Store: an open store, whose handle lives as long as anything of it is in use. */
#include "kvpy.h"

bool kvpy_handle_dead(const struct handle *h)
{
	return h->forks != kvpy_forks;
}

void kvpy_handle_put(struct handle *h)
{
	if (--h->refs)
		return;
	Py_BEGIN_ALLOW_THREADS;
	kvfs_close(h->kv);
	Py_END_ALLOW_THREADS;
	free(h);
}

void kvpy_handle_drop(struct handle **h)
{
	struct handle *old = *h;
	*h = NULL;
	if (old)
		kvpy_handle_put(old);
}

static struct handle *open_handle(struct store_object *s)
{
	struct kvfs_error err = {0};
	struct handle *h = malloc(sizeof *h);
	int r;
	if (!h)
		return (struct handle *)PyErr_NoMemory();
	Py_BEGIN_ALLOW_THREADS;
	r = kvfs_open(s->path, &s->opt, &h->kv, &err);
	Py_END_ALLOW_THREADS;
	if (r) {
		free(h);
		PyObject *path = PyUnicode_DecodeFSDefault(s->path);
		kvpy_raise(r, path, err.text);
		Py_XDECREF(path);
		return NULL;
	}
	h->refs = 1;
	h->forks = kvpy_forks;
	return h;
}

struct handle *kvpy_handle_get(struct store_object *s)
{
	struct handle *old = s->handle;
	if (!old)
		return (struct handle *)kvpy_raise_closed("the store is closed");
	if (kvpy_handle_dead(old)) {
		struct handle *h = open_handle(s);
		if (!h)
			return NULL;
		if (s->handle == old) { /* and no other thread was faster */
			s->handle = h;
			Py_CLEAR(s->batches);
			kvpy_handle_put(old);
		} else {
			kvpy_handle_put(h);
			return kvpy_handle_get(s);
		}
	}
	s->handle->refs++;
	return s->handle;
}

static int store_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"path", "flags", "mode", "durability", NULL};
	struct store_object *s = (struct store_object *)self;
	PyObject *path = NULL;
	unsigned flags = 0, mode = 0700, durability = 0;
	if (!PyArg_ParseTupleAndKeywords(
		    args, kwargs, "O&|III:Store", names, PyUnicode_FSConverter, &path, &flags, &mode, &durability))
		return -1;
	if (!s->path)
		s->path = strdup(PyBytes_AsString(path));
	Py_DECREF(path);
	if (!s->path || s->handle) {
		PyErr_SetString(PyExc_RuntimeError, "it is open");
		return -1;
	}
	s->opt = (struct kvfs_options){
		.size = sizeof s->opt, .flags = flags, .mode = mode, .durability = durability, .purpose = "python"};
	s->handle = open_handle(s);
	s->opt.flags &= KVFS_RDONLY; /* it exists from now on */
	return s->handle ? 0 : -1;
}

static PyObject *store_close(PyObject *self, PyObject *unused)
{
	struct store_object *s = (struct store_object *)self;
	struct handle *h = s->handle;
	(void)unused;
	s->handle = NULL;
	Py_CLEAR(s->batches);
	if (h)
		kvpy_handle_put(h);
	return Py_NewRef(Py_None);
}

static void store_dealloc(PyObject *self)
{
	struct store_object *s = (struct store_object *)self;
	Py_XDECREF(store_close(self, NULL));
	free(s->path);
	kvpy_free(s);
}

static PyObject *store_sync(PyObject *self, PyObject *unused)
{
	struct handle *h = kvpy_handle_get((struct store_object *)self);
	int r;
	(void)unused;
	if (!h)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	r = kvfs_sync(h->kv);
	Py_END_ALLOW_THREADS;
	PyObject *ret = r ? kvpy_raise_of(h->kv, r, NULL) : Py_NewRef(Py_None);
	kvpy_handle_put(h);
	return ret;
}

/* How many keys it has that have a value.  Each directory has one name; so has a link or special file, unless it was linked again. */
static PyObject *store_count(PyObject *self, PyObject *unused)
{
	struct handle *h = kvpy_handle_get((struct store_object *)self);
	struct kvfs_info info;
	(void)unused;
	if (!h)
		return NULL;
	PyThreadState *state = PyEval_SaveThread();
	int r = kvfs_info(h->kv, &info);
	PyEval_RestoreThread(state);
	PyObject *ret = r ? kvpy_raise_of(h->kv, r, NULL)
			  : PyLong_FromUnsignedLongLong(info.names - info.directories - info.others);
	kvpy_handle_put(h);
	return ret;
}

/* What this thread assigns from now on goes to this batch; None: to no batch. */
static PyObject *store_set_batch(PyObject *self, PyObject *batch)
{
	struct store_object *s = (struct store_object *)self;
	PyObject *thread = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
	int r = thread ? 0 : -1;
	if (r == 0 && batch != Py_None && !s->batches && !(s->batches = PyDict_New()))
		r = -1;
	if (r == 0 && batch != Py_None)
		r = PyDict_SetItem(s->batches, thread, batch);
	else if (r == 0 && s->batches && PyDict_Contains(s->batches, thread) == 1)
		r = PyDict_DelItem(s->batches, thread);
	Py_XDECREF(thread);
	if (s->batches && PyDict_Size(s->batches) == 0)
		Py_CLEAR(s->batches);
	return r ? NULL : Py_NewRef(Py_None);
}

struct txn_object *kvpy_store_batch(struct store_object *s)
{
	if (!s || !s->batches)
		return NULL;
	PyObject *thread = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
	PyObject *batch = thread && s->batches ? PyDict_GetItemWithError(s->batches, thread) : NULL;
	Py_XDECREF(thread);
	return (struct txn_object *)batch;
}

static PyObject *store_get_batch(PyObject *self, void *unused)
{
	PyObject *batch = (PyObject *)kvpy_store_batch((struct store_object *)self);
	(void)unused;
	if (!batch && PyErr_Occurred())
		return NULL;
	return Py_NewRef(batch ? batch : Py_None);
}

static PyObject *store_get_closed(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct store_object *)self)->handle);
}

PyTypeObject *kvpy_store_make_type(void)
{
	static PyMethodDef methods[] = {
		{"close", store_close, METH_NOARGS, "Closes, when all that uses it has ended."},
		{"sync", store_sync, METH_NOARGS, "Makes durable what was published before."},
		{"count", store_count, METH_NOARGS, "How many keys with values it has."},
		{"set_batch", store_set_batch, METH_O, "Has this thread's assignments go to a batch; None: not any more."},
		{NULL, NULL, 0, NULL},
	};
	static PyGetSetDef attributes[] = {
		{"closed", store_get_closed, NULL, "Whether close() was called.", NULL},
		{"batch", store_get_batch, NULL, "The batch that this thread's assignments go to, or None.", NULL},
		{NULL, NULL, NULL, NULL, NULL},
	};
	static PyType_Slot slots[] = {
		{Py_tp_doc, "Store(path, flags=0, mode=0o700, durability=0): an open store."},
		{Py_tp_init, store_init},
		{Py_tp_dealloc, store_dealloc},
		{Py_tp_methods, methods},
		{Py_tp_getset, attributes},
		{0, NULL},
	};
	static PyType_Spec spec = {
		"kvfs._kvfs.Store", sizeof(struct store_object), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
	return (PyTypeObject *)PyType_FromSpec(&spec);
}
