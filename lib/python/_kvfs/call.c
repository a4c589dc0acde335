/* What every call for a view begins and ends with. */
#include "kvpy.h"

/* A batch's own assignments are read from it, everything else from the store as it is. */
static bool is_in_batch(struct txn_object *batch, const struct key *key)
{
	PyObject *path = key->path && !key->fault && batch->txn ? PyBytes_FromString(key->path) : NULL;
	bool ret = path && PyDict_Contains(batch->changed, path) == 1;
	Py_XDECREF(path);
	PyErr_Clear();
	return ret;
}

static int choose_txn(struct view_object *v, enum call_kind kind, struct call *c)
{
	struct txn_object *batch = v->txn ? NULL : kvpy_store_batch(v->store);
	int r = 0;
	c->held = (struct txn_object *)Py_XNewRef((PyObject *)v->txn);
	Py_XINCREF((PyObject *)batch); /* another thread may close the store while this one waits */
	if (batch && kind == CALL_WRITE)
		r = kvpy_batch_flush(batch);
	else if (batch && is_in_batch(batch, &c->key))
		c->held = (struct txn_object *)Py_NewRef((PyObject *)batch);
	Py_XDECREF((PyObject *)batch);
	if (r == 0 && c->held)
		r = kvpy_txn_enter(c->held);
	c->txn = r == 0 && c->held ? c->held->txn : NULL;
	return r;
}

int kvpy_call_begin(struct view_object *v, PyObject *key, enum call_kind kind, struct call *c)
{
	memset(c, 0, offsetof(struct call, key) + offsetof(struct key, buf));
	if (!v->store) {
		kvpy_raise_closed("it was never opened");
		return -1;
	}
	if (key && kvpy_key_path(v->directory, v->typed, key, &c->key))
		return -1;
	c->handle = v->txn ? kvpy_txn_handle(v->txn) : kvpy_handle_get(v->store);
	if (!c->handle || choose_txn(v, kind, c)) {
		kvpy_call_clear(c);
		return -1;
	}
	c->kv = c->handle->kv;
	c->state = PyEval_SaveThread();
	return 0;
}

void kvpy_call_end(struct call *c)
{
	PyEval_RestoreThread(c->state);
	if (c->held)
		kvpy_txn_leave(c->held);
}

void kvpy_call_clear(struct call *c)
{
	if (c->handle)
		kvpy_handle_put(c->handle);
	Py_XDECREF((PyObject *)c->held);
	kvpy_key_clear(&c->key);
}

int kvpy_call_result(struct call *c, int r, PyObject *key)
{
	const char *fault = r == -EINVAL || r == -ENAMETOOLONG ? c->key.fault : NULL;
	if (!fault && c->key.path && (r == -EINVAL || r == -ENAMETOOLONG))
		fault = kvfs_key_fault(c->key.path);
	if (r < 0 && fault)
		kvpy_raise(r, key, fault);
	else if (r < 0)
		kvpy_raise_of(c->kv, r, key);
	kvpy_call_clear(c);
	return r < 0 ? -1 : 0;
}

int kvpy_load(struct kvfs_store *kv, struct kvfs_txn *txn, const char *path, struct loaded *l)
{
	void *data = NULL;
	int r = 0;
	ssize_t n = 0;
	if (txn) {
		r = kvfs_txn_get(txn, path, &data, &l->len);
	} else {
		n = kvfs_get_into(kv, path, l->small, sizeof l->small, 0);
		l->len = n < 0 ? 0 : (size_t)n;
		r = n < 0 ? (int)n : l->len == sizeof l->small ? kvfs_get(kv, path, &data, &l->len) : 0;
	}
	l->data = data ? data : l->small;
	return r;
}

void kvpy_loaded_clear(struct loaded *l)
{
	if (l->data != l->small)
		free(l->data);
}

PyObject *kvpy_loaded_take(struct loaded *l, size_t skip, PyObject *loads)
{
	PyObject *bytes = PyBytes_FromStringAndSize(l->data + skip, (Py_ssize_t)(l->len - skip));
	kvpy_loaded_clear(l);
	if (!bytes || !loads)
		return bytes;
	PyObject *ret = PyObject_CallFunctionObjArgs(loads, bytes, NULL);
	Py_DECREF(bytes);
	return ret;
}
