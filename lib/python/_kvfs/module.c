/* The module `kvfs._kvfs`: its types and constants, and what all of its files share. */
#include "kvpy.h"

#include <pthread.h>

unsigned kvpy_forks;
PyTypeObject *kvpy_store_type, *kvpy_txn_type, *kvpy_view_type, *kvpy_cursor_type, *kvpy_stream_type, *kvpy_watch_type;
static PyObject *error_of; /* kvfs._errors.error */

static void after_fork_child(void)
{
	kvpy_forks++;
}

PyObject *kvpy_raise(int r, PyObject *key, const char *text)
{
	if (r == -ENOMEM)
		return PyErr_NoMemory();
	PyObject *error = PyObject_CallFunction(error_of, "iOz", -r, key ? key : Py_None, text);
	if (error) {
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
		Py_DECREF(error);
	}
	return NULL;
}

PyObject *kvpy_raise_of(struct kvfs_store *kv, int r, PyObject *key)
{
	struct kvfs_error err = {0};
	if (r == -EUCLEAN)
		kvfs_damage(kv, &err);
	return kvpy_raise(r, key, err.text[0] ? err.text : NULL);
}

PyObject *kvpy_raise_closed(const char *what)
{
	return kvpy_raise(-EBADF, NULL, what);
}

PyObject *kvpy_raise_forked(const char *what)
{
	return kvpy_raise(-EBADFD, NULL, what);
}

void kvpy_lock(PyThread_type_lock lock)
{
	if (PyThread_acquire_lock(lock, NOWAIT_LOCK))
		return;
	Py_BEGIN_ALLOW_THREADS;
	PyThread_acquire_lock(lock, WAIT_LOCK);
	Py_END_ALLOW_THREADS;
}

void *kvpy_alloc(PyTypeObject *type)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	return alloc(type, 0);
}

void kvpy_free(void *self)
{
	PyTypeObject *type = Py_TYPE((PyObject *)self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
	release(self);
	Py_DECREF(type);
}

static int bytes_of(PyObject *value, Py_buffer *ret)
{
	if (PyUnicode_Check(value)) {
		Py_ssize_t len;
		const char *text = PyUnicode_AsUTF8AndSize(value, &len);
		return text ? PyBuffer_FillInfo(ret, value, (void *)text, len, 1, PyBUF_SIMPLE) : -1;
	}
	if (PyObject_CheckBuffer(value))
		return PyObject_GetBuffer(value, ret, PyBUF_SIMPLE);
	PyErr_Format(PyExc_TypeError, "a value is bytes, or str to be stored as UTF-8, not %R", Py_TYPE(value));
	return -1;
}

int kvpy_value(PyObject *dumps, PyObject *value, Py_buffer *ret)
{
	PyObject *made = dumps ? PyObject_CallFunctionObjArgs(dumps, value, NULL) : Py_NewRef(value);
	int r = made ? bytes_of(made, ret) : -1;
	Py_XDECREF(made);
	return r;
}

static PyObject *encode_key(PyObject *module, PyObject *key)
{
	struct kvfs_typed_name name;
	(void)module;
	if (kvpy_key_encode(key, &name))
		return NULL;
	PyObject *ret = Py_BuildValue("(yy#)", name.name, name.line, (Py_ssize_t)name.line_len);
	free(name.line);
	return ret;
}

static PyObject *decode_name(PyObject *module, PyObject *args)
{
	const char *name, *line = NULL;
	Py_ssize_t line_len = 0;
	(void)module;
	if (!PyArg_ParseTuple(args, "y|z#:decode_name", &name, &line, &line_len))
		return NULL;
	PyObject *key = kvpy_key_decode(name, line, (size_t)line_len);
	if (!key && !PyErr_Occurred())
		PyErr_SetString(PyExc_LookupError, "no key of a Dict has this name");
	return key;
}

static PyMethodDef functions[] = {
	{"encode_key", encode_key, METH_O, "encode_key(key) -> (name, first line of the value or None): how a Dict names a key."},
	{"decode_name", decode_name, METH_VARARGS, "decode_name(name, line=None) -> key: undoes encode_key(); LookupError."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "kvfs._kvfs",
	.m_doc = "libkvfs for Python: what the package kvfs is made of.",
	.m_size = -1,
	.m_methods = functions,
};

static int add_types(PyObject *module)
{
	struct {
		const char *name;
		PyTypeObject **type;
		PyTypeObject *(*make)(void);
	} types[] = {
		{"Store", &kvpy_store_type, kvpy_store_make_type},
		{"Txn", &kvpy_txn_type, kvpy_txn_make_type},
		{"View", &kvpy_view_type, kvpy_view_make_type},
		{"Cursor", &kvpy_cursor_type, kvpy_cursor_make_type},
		{"Stream", &kvpy_stream_type, kvpy_stream_make_type},
		{"Watch", &kvpy_watch_type, kvpy_watch_make_type},
	};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		*types[i].type = types[i].make();
		if (!*types[i].type || PyModule_AddObjectRef(module, types[i].name, (PyObject *)*types[i].type))
			return -1;
	}
	return 0;
}

static int add_constants(PyObject *module)
{
	static const struct {
		const char *name;
		long value;
	} constants[] = {
		{"RDONLY", KVFS_RDONLY},
		{"CREATE", KVFS_CREATE},
		{"STREAM_READ", KVFS_STREAM_READ},
		{"STREAM_WRITE", KVFS_STREAM_WRITE},
		{"STREAM_CREATE", KVFS_STREAM_CREATE},
		{"STREAM_EXCL", KVFS_STREAM_EXCL},
		{"STREAM_TRUNCATE", KVFS_STREAM_TRUNCATE},
	};
	for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
		if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value))
			return -1;
	return PyModule_AddStringConstant(module, "version", kvfs_version());
}

PyMODINIT_FUNC PyInit__kvfs(void);
PyMODINIT_FUNC PyInit__kvfs(void)
{
	PyObject *errors = PyImport_ImportModule("kvfs._errors");
	if (!errors)
		return NULL;
	error_of = PyObject_GetAttrString(errors, "error");
	Py_DECREF(errors);
	PyObject *module = error_of ? PyModule_Create(&definition) : NULL;
	if (!module)
		return NULL;
	if (pthread_atfork(NULL, NULL, after_fork_child)) {
		PyErr_NoMemory();
	} else if (add_types(module) == 0 && add_constants(module) == 0) {
		return module;
	}
	Py_DECREF(module);
	return NULL;
}
