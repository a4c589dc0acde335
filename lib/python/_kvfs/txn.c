/* Txn: a transaction or snapshot, with the cursors and streams in it; or a batch, which is one transaction after another. */
#include "kvpy.h"

#include <time.h>

#define ENDED "the transaction or snapshot has ended"
#define BATCH_AGE_S 1 /* so long what was assigned may wait, and a snapshot may keep space from being reused */

/* ---- use ---- */

struct handle *kvpy_txn_handle(struct txn_object *t)
{
	if (!t->handle)
		return (struct handle *)kvpy_raise_closed(ENDED);
	t->handle->refs++;
	return t->handle;
}

int kvpy_txn_enter(struct txn_object *t)
{
	if (t->handle && kvpy_handle_dead(t->handle)) {
		kvpy_raise_forked("the transaction was begun before the fork");
		return -1;
	}
	if (t->handle) {
		kvpy_lock(t->lock);
		if (t->handle && (t->txn || t->slices))
			return 0;
		PyThread_release_lock(t->lock);
	}
	kvpy_raise_closed(ENDED);
	return -1;
}

void kvpy_txn_leave(struct txn_object *t)
{
	PyThread_release_lock(t->lock);
}

void kvpy_txn_adopt(struct txn_object *t, struct child *child)
{
	child->prev = t->children.prev;
	child->next = &t->children;
	child->prev->next = child->next->prev = child;
}

void kvpy_txn_disown(struct child *child)
{
	child->prev->next = child->next;
	child->next->prev = child->prev;
	child->prev = child->next = child;
}

int kvpy_txn_note(struct txn_object *t, const char *key, bool there)
{
	PyObject *bytes = PyBytes_FromString(key + (*key == '/'));
	int r = bytes ? PyDict_SetItem(t->changed, bytes, there ? Py_True : Py_False) : -1;
	Py_XDECREF(bytes);
	return r;
}

/* ---- ending ---- */

/* With the lock.  r of the commit; of one that failed also the key that it is about, or "". */
static int finish(struct txn_object *t, bool commit, char key[KVFS_KEY_MAX + 1])
{
	struct kvfs_txn *txn = t->txn;
	int r = 0;
	*key = '\0';
	while (t->children.next != &t->children) {
		struct child *child = t->children.next;
		kvpy_txn_disown(child);
		child->end(child);
	}
	t->txn = NULL;
	Py_BEGIN_ALLOW_THREADS;
	if (commit)
		r = kvfs_txn_commit_key(&txn, key);
	else
		kvfs_txn_abort(txn);
	Py_END_ALLOW_THREADS;
	return r;
}

static PyObject *raise_about(struct kvfs_store *kv, int r, const char *key)
{
	PyObject *name = *key ? PyUnicode_DecodeUTF8(key, (Py_ssize_t)strlen(key), "surrogateescape") : NULL;
	if (*key && !name)
		return NULL;
	PyObject *ret = kvpy_raise_of(kv, r, name);
	Py_XDECREF(name);
	return ret;
}

static PyObject *txn_end(struct txn_object *t, bool commit)
{
	if (kvpy_txn_enter(t))
		return NULL;
	char key[KVFS_KEY_MAX + 1];
	int r = t->txn ? finish(t, commit, key) : 0;
	struct handle *h = t->handle;
	if (t->slices) /* it goes on */
		h->refs++;
	else
		t->handle = NULL;
	kvpy_txn_leave(t);
	PyObject *ret = r ? raise_about(h->kv, r, key) : Py_NewRef(Py_None);
	kvpy_handle_put(h);
	return ret;
}

static PyObject *txn_commit(PyObject *self, PyObject *unused)
{
	(void)unused;
	return txn_end((struct txn_object *)self, true);
}

static PyObject *txn_abort(PyObject *self, PyObject *unused)
{
	(void)unused;
	return txn_end((struct txn_object *)self, false);
}

/* ---- batches ---- */

/* With the lock. */
static int flush(struct txn_object *t, char key[KVFS_KEY_MAX + 1])
{
	int r = t->txn ? finish(t, true, key) : 0;
	PyDict_Clear(t->changed);
	return r;
}

int kvpy_batch_flush(struct txn_object *t)
{
	if (kvpy_txn_enter(t))
		return -1;
	char key[KVFS_KEY_MAX + 1];
	int r = flush(t, key);
	kvpy_txn_leave(t);
	if (r)
		raise_about(t->handle->kv, r, key);
	return r ? -1 : 0;
}

/* With the lock, without the GIL.  A batch reads nothing, so it cannot conflict. */
static int put(struct txn_object *t, const char *key, const void *data, size_t len)
{
	int r = 0;
	if (!t->txn) {
		clock_gettime(CLOCK_MONOTONIC_COARSE, &t->begun);
		r = kvfs_txn_begin(t->handle->kv, KVFS_TXN_WRITE, &t->txn);
	}
	return r ? r : kvfs_txn_put(t->txn, key, data, len, NULL);
}

int kvpy_batch_put(struct txn_object *t, const char *key, PyObject *name, const void *data, size_t len)
{
	char at[KVFS_KEY_MAX + 1] = "";
	struct timespec now;
	int r = 0;
	if (kvpy_txn_enter(t))
		return -1;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (t->txn && now.tv_sec > t->begun.tv_sec + BATCH_AGE_S)
		r = flush(t, at);
	for (int turn = 0; r == 0 && turn < 2; turn++) {
		Py_BEGIN_ALLOW_THREADS;
		r = put(t, key, data, len);
		Py_END_ALLOW_THREADS;
		if (r != -E2BIG)
			break;
		r = flush(t, at);
		if (r == 0 && turn == 1)
			r = -E2BIG;
	}
	kvpy_txn_leave(t);
	if (r == -E2BIG)
		return 0;
	if (r && *at) /* what was put before */
		raise_about(t->handle->kv, r, at);
	else if (r)
		kvpy_raise_of(t->handle->kv, r, name);
	return r || kvpy_txn_note(t, key, true) ? -1 : 1;
}

/* ---- type ---- */

static int txn_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"store", "write", "slices", NULL};
	struct txn_object *t = (struct txn_object *)self;
	struct store_object *store;
	int write = 0, slices = 0, r = 0;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|pp:Txn", names, kvpy_store_type, &store, &write, &slices))
		return -1;
	if (t->handle) {
		PyErr_SetString(PyExc_RuntimeError, "it has begun");
		return -1;
	}
	t->children.prev = t->children.next = &t->children;
	t->slices = slices;
	if (write && !(t->changed = PyDict_New()))
		return -1;
	t->lock = PyThread_allocate_lock();
	if (!t->lock) {
		PyErr_NoMemory();
		return -1;
	}
	t->handle = kvpy_handle_get(store);
	if (!t->handle)
		return -1;
	if (!slices) {
		Py_BEGIN_ALLOW_THREADS;
		r = kvfs_txn_begin(t->handle->kv, write ? KVFS_TXN_WRITE : 0, &t->txn);
		Py_END_ALLOW_THREADS;
	}
	if (r)
		kvpy_raise_of(t->handle->kv, r, NULL);
	return r ? -1 : 0;
}

static void txn_dealloc(PyObject *self)
{
	struct txn_object *t = (struct txn_object *)self;
	if (t->txn)
		finish(t, false, (char[KVFS_KEY_MAX + 1]){0}); /* its children hold references to it, so there are none */
	kvpy_handle_drop(&t->handle);
	if (t->lock)
		PyThread_free_lock(t->lock);
	Py_XDECREF(t->changed);
	kvpy_free(t);
}

static PyObject *txn_get_changed(PyObject *self, void *unused)
{
	PyObject *changed = ((struct txn_object *)self)->changed;
	(void)unused;
	return Py_NewRef(changed ? changed : Py_None);
}

static PyObject *txn_get_ended(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct txn_object *)self)->txn);
}

PyTypeObject *kvpy_txn_make_type(void)
{
	static PyMethodDef methods[] = {
		{"commit", txn_commit, METH_NOARGS, "Applies everything, or nothing and raises."},
		{"abort", txn_abort, METH_NOARGS, "Ends without a change."},
		{NULL, NULL, 0, NULL},
	};
	static PyGetSetDef attributes[] = {
		{"changed", txn_get_changed, NULL, "Key (bytes) -> whether it is there, of what was changed; None: read only.",
			NULL},
		{"ended", txn_get_ended, NULL, "Whether it was committed or aborted.", NULL},
		{NULL, NULL, NULL, NULL, NULL},
	};
	static PyType_Slot slots[] = {
		{Py_tp_doc, "Txn(store, write=False, slices=False): a snapshot, a transaction, or a batch."},
		{Py_tp_init, txn_init},
		{Py_tp_dealloc, txn_dealloc},
		{Py_tp_methods, methods},
		{Py_tp_getset, attributes},
		{0, NULL},
	};
	static PyType_Spec spec = {"kvfs._kvfs.Txn", sizeof(struct txn_object), 0, Py_TPFLAGS_DEFAULT, slots};
	return (PyTypeObject *)PyType_FromSpec(&spec);
}
