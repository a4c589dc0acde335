/* Watch: the changes of a store as an iterator's steps, waited for in short turns, so that signals and close() are heard. */
#include "kvpy.h"

#include <poll.h>
#include <stdio.h>
#include <time.h>

#define TURN_MS 200

struct watch_object {
	PyObject_HEAD struct handle *handle;
	struct kvfs_watch *w; /* NULL: closed */
	PyThread_type_lock lock;
	bool closing;
};

static int watch_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct watch_object *w = (struct watch_object *)self;
	struct store_object *store;
	unsigned long long since = 0;
	int r;
	(void)kwargs;
	if (!PyArg_ParseTuple(args, "O!|K:Watch", kvpy_store_type, &store, &since))
		return -1;
	if (w->handle || !(w->lock = PyThread_allocate_lock())) {
		PyErr_NoMemory();
		return -1;
	}
	w->handle = kvpy_handle_get(store);
	if (!w->handle)
		return -1;
	Py_BEGIN_ALLOW_THREADS;
	r = kvfs_watch_open(w->handle->kv, "", KVFS_WATCH_RECURSIVE, since, &w->w);
	Py_END_ALLOW_THREADS;
	if (r)
		kvpy_raise_of(w->handle->kv, r, NULL);
	return r ? -1 : 0;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* 1 and an event, 0 none within `wait` seconds, or -errno. */
static int turn(struct kvfs_watch *w, double wait, struct kvfs_event *ret)
{
	struct pollfd fd = {.fd = kvfs_watch_fd(w), .events = POLLIN};
	int r = kvfs_watch_next(w, ret);
	if (r || wait <= 0)
		return r;
	poll(&fd, 1, wait * 1000 < TURN_MS ? (int)(wait * 1000) + 1 : TURN_MS);
	return kvfs_watch_next(w, ret);
}

static int enter(struct watch_object *w)
{
	if (w->handle && kvpy_handle_dead(w->handle)) {
		kvpy_raise_forked("the watch was opened before the fork");
		return -1;
	}
	if (w->handle) {
		kvpy_lock(w->lock);
		if (w->w && !w->closing)
			return 0;
		PyThread_release_lock(w->lock);
	}
	kvpy_raise_closed("the watch is closed");
	return -1;
}

/* An event with its keys copied, because they are the watch's own. */
struct told {
	struct kvfs_event e;
	char key[KVFS_KEY_MAX + 1], target[KVFS_KEY_MAX + 1];
};

static int copy(struct told *t)
{
	snprintf(t->key, sizeof t->key, "%s", t->e.key);
	if (t->e.target)
		snprintf(t->target, sizeof t->target, "%s", t->e.target);
	return 1;
}

static PyObject *event(const struct told *t)
{
	return Py_BuildValue("(iyyKId)", t->e.kind, t->key, t->e.target ? t->target : "", (unsigned long long)t->e.sequence,
		t->e.type, (double)t->e.time_ns / 1e9);
}

/* next(timeout): a tuple, or None when the time is over; a negative timeout is none. */
static PyObject *watch_next(PyObject *self, PyObject *arg)
{
	struct watch_object *w = (struct watch_object *)self;
	double timeout = PyFloat_AsDouble(arg), until = now() + timeout, left;
	struct handle *h;
	struct told t;
	int r;
	if (PyErr_Occurred())
		return NULL;
	do {
		if (PyErr_CheckSignals() || enter(w))
			return NULL;
		h = w->handle; /* which close() drops, as soon as it has the lock */
		h->refs++;
		left = timeout < 0 ? 1 : until - now();
		PyThreadState *state = PyEval_SaveThread();
		r = turn(w->w, left, &t.e);
		r = r == 1 ? copy(&t) : r;
		PyEval_RestoreThread(state);
		PyThread_release_lock(w->lock);
		if (r < 0)
			kvpy_raise_of(h->kv, r, NULL);
		kvpy_handle_put(h);
	} while (r == 0 && left > 0);
	return r < 0 ? NULL : r ? event(&t) : Py_NewRef(Py_None);
}

static PyObject *watch_fileno(PyObject *self, PyObject *unused)
{
	struct watch_object *w = (struct watch_object *)self;
	(void)unused;
	if (enter(w))
		return NULL;
	int fd = kvfs_watch_fd(w->w);
	PyThread_release_lock(w->lock);
	return PyLong_FromLong(fd);
}

static PyObject *watch_close(PyObject *self, PyObject *unused)
{
	struct watch_object *w = (struct watch_object *)self;
	bool lock = w->handle && !kvpy_handle_dead(w->handle);
	(void)unused;
	w->closing = true;
	if (lock)
		kvpy_lock(w->lock);
	if (w->w)
		kvfs_watch_close(w->w);
	w->w = NULL;
	if (lock)
		PyThread_release_lock(w->lock);
	kvpy_handle_drop(&w->handle);
	return Py_NewRef(Py_None);
}

static void watch_dealloc(PyObject *self)
{
	struct watch_object *w = (struct watch_object *)self;
	if (w->w)
		Py_XDECREF(watch_close(self, NULL));
	kvpy_handle_drop(&w->handle);
	if (w->lock)
		PyThread_free_lock(w->lock);
	kvpy_free(w);
}

PyTypeObject *kvpy_watch_make_type(void)
{
	static PyMethodDef methods[] = {
		{"next", watch_next, METH_O,
			"next(timeout) -> (kind, key, target or b'', sequence, type, time) or None; < 0: no timeout."},
		{"fileno", watch_fileno, METH_NOARGS, "A descriptor that is readable when there may be an event."},
		{"close", watch_close, METH_NOARGS, "Ends it; who waits is told within a fifth of a second."},
		{NULL, NULL, 0, NULL},
	};
	static PyType_Slot slots[] = {
		{Py_tp_doc, "Watch(store, since=0): the changes of a store."},
		{Py_tp_init, watch_init},
		{Py_tp_dealloc, watch_dealloc},
		{Py_tp_methods, methods},
		{0, NULL},
	};
	static PyType_Spec spec = {"kvfs._kvfs.Watch", sizeof(struct watch_object), 0, Py_TPFLAGS_DEFAULT, slots};
	return (PyTypeObject *)PyType_FromSpec(&spec);
}
