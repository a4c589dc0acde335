/* The C half of the Python package `kvfs`: five types over kvfs.h that Python code in kvfs/ builds its mappings from.
 *
 * Invariants:
 *  K1  Counts of references and lists of children change with the GIL held only; the library is called without it.
 *  K2  A handle is closed when nobody is in a call on it and no transaction, cursor, stream or watch of it is left.  Those that ended do not count,
 *      though a variable may still have them.
 *  K3  What belongs to one thread at a time (a transaction with its cursors and streams; a cursor or stream alone; a watch) is used under its
 *      lock.  Nothing that could run Python code happens while that is held.
 *  K4  In a forked child a store opens itself anew; everything else that was opened before is refused, before its lock is looked at. */
#ifndef KVPY_H
#define KVPY_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <errno.h>
#include <kvfs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- module.c ---- */

extern unsigned kvpy_forks; /* grows in each forked child */
extern PyTypeObject *kvpy_store_type, *kvpy_txn_type, *kvpy_view_type, *kvpy_cursor_type, *kvpy_stream_type, *kvpy_watch_type;

/* Raises what errno -r means; `key` and `text` may be NULL.  Always NULL. */
PyObject *kvpy_raise(int r, PyObject *key, const char *text);
/* As kvpy_raise(), for a store that can say more. */
PyObject *kvpy_raise_of(struct kvfs_store *kv, int r, PyObject *key);
PyObject *kvpy_raise_closed(const char *what);
PyObject *kvpy_raise_forked(const char *what);
/* Acquires, without the GIL if it must wait. */
void kvpy_lock(PyThread_type_lock lock);
void *kvpy_alloc(PyTypeObject *type);
void kvpy_free(void *self);
/* The bytes of what `dumps` (may be NULL) makes of a value: of a str in UTF-8, else of its buffer; ret->obj owns them. */
int kvpy_value(PyObject *dumps, PyObject *value, Py_buffer *ret);

/* ---- store.c ---- */

struct handle {
	struct kvfs_store *kv;
	unsigned refs, forks;
};
struct store_object {
	PyObject_HEAD struct handle *handle; /* NULL: closed */
	char *path;
	struct kvfs_options opt;
	PyObject *batches; /* dict: thread -> transaction that its writes go to; NULL: none */
};
/* A reference to the open handle; NULL with an exception. */
struct handle *kvpy_handle_get(struct store_object *store);
void kvpy_handle_put(struct handle *h);
/* The same; *h is NULL from then on, and may be. */
void kvpy_handle_drop(struct handle **h);
bool kvpy_handle_dead(const struct handle *h);
/* The batch of this thread, or NULL; borrowed. */
struct txn_object *kvpy_store_batch(struct store_object *store);
PyTypeObject *kvpy_store_make_type(void);

/* ---- txn.c ---- */

/* A cursor or stream that must end before the transaction does. */
struct child {
	struct child *prev, *next;
	void (*end)(struct child *child); /* with the transaction's lock */
};
struct txn_object {
	PyObject_HEAD struct handle *handle; /* NULL: ended */
	struct kvfs_txn *txn; /* NULL: ended, or nothing in the batch */
	PyThread_type_lock lock;
	PyObject *changed; /* dict: key (bytes) -> whether it is there; NULL: it cannot write */
	struct child children; /* head of a ring */
	bool slices; /* a batch: begun when something is written, committed when it is full or old */
	struct timespec begun;
};
/* A reference to its handle; NULL with an exception. */
struct handle *kvpy_txn_handle(struct txn_object *t);
/* Checks that it can be used, and locks it.  -1 with an exception. */
int kvpy_txn_enter(struct txn_object *t);
void kvpy_txn_leave(struct txn_object *t);
void kvpy_txn_adopt(struct txn_object *t, struct child *child);
void kvpy_txn_disown(struct child *child);
/* Notes a change that was made.  -1 with an exception. */
int kvpy_txn_note(struct txn_object *t, const char *key, bool there);
/* Of a batch: commits what it has, if anything.  -1 with an exception. */
int kvpy_batch_flush(struct txn_object *t);
/* Of a batch: 1 stored, 0 too large for a batch (which has been flushed), -1 with an exception. */
int kvpy_batch_put(struct txn_object *t, const char *key, PyObject *name, const void *data, size_t len);
PyTypeObject *kvpy_txn_make_type(void);

/* ---- key.c ---- */

struct key {
	const char *path; /* the whole key; NULL: */
	const char *fault; /* why it cannot be one */
	char *line; /* malloc'd: the first line that its value has, newline included, because the name cannot tell the whole key; else NULL */
	size_t line_len;
	PyObject *path_owner; /* bytes that `path` points into, or NULL */
	char buf[KVFS_KEY_MAX + 1];
};
/* The name of a typed key.  -1 with an exception. */
int kvpy_key_encode(PyObject *key, struct kvfs_typed_name *ret);
/* The key of a name; as kvfs_typed_decode().  NULL without an exception: none. */
PyObject *kvpy_key_decode(const char *name, const char *line, size_t line_len);
/* Makes a path of what the user gave: the typed encoding of it below `directory`, or itself.  -1 with an exception. */
int kvpy_key_path(PyObject *directory, bool typed, PyObject *key, struct key *ret);
void kvpy_key_clear(struct key *key);
/* The bytes of a str in UTF-8 with surrogateescape, or of bytes.  NULL with an exception. */
PyObject *kvpy_text(PyObject *text);

/* ---- view.c ---- */

struct view_object {
	PyObject_HEAD struct store_object *store;
	struct txn_object *txn; /* NULL: each call is one */
	PyObject *directory; /* bytes: "" or "a/b/" */
	PyObject *dumps, *loads; /* the codec: make what is stored of a value, and a value of bytes; NULL: they are the same */
	bool typed;
};
/* What is there, but no value of a mapping: a directory, a link, a key that cannot be. */
static inline bool kvpy_is_missing(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -EISDIR || r == -ELOOP || r == -EINVAL || r == -ENAMETOOLONG;
}
PyTypeObject *kvpy_view_make_type(void);

/* ---- call.c ---- */

/* One call of the library for a view.  Between begin and end the GIL is not held. */
struct call {
	struct handle *handle;
	struct kvfs_store *kv;
	struct txn_object *held; /* whose lock is held, or NULL */
	struct kvfs_txn *txn; /* of it, or NULL: the call is a transaction of its own */
	PyThreadState *state;
	struct key key; /* key.fault must be looked at first */
};
enum call_kind {
	CALL_READ,
	CALL_WRITE, /* what this thread has in a batch is committed first */
};
/* `key` may be NULL.  -1 with an exception, and nothing to end. */
int kvpy_call_begin(struct view_object *v, PyObject *key, enum call_kind kind, struct call *ret);
void kvpy_call_end(struct call *c);
/* After that: raises what -errno `r` means, if not 0, and lets go.  -1 if it raised. */
int kvpy_call_result(struct call *c, int r, PyObject *key);
void kvpy_call_clear(struct call *c);

#define KVPY_SMALL 4096
struct loaded {
	char *data; /* malloc'd, or `small` */
	size_t len;
	char small[KVPY_SMALL];
};
int kvpy_load(struct kvfs_store *kv, struct kvfs_txn *txn, const char *path, struct loaded *ret);
void kvpy_loaded_clear(struct loaded *l);
/* The value in it, less its first `skip` bytes, as `loads` (may be NULL) makes it; ends with it. */
PyObject *kvpy_loaded_take(struct loaded *l, size_t skip, PyObject *loads);

/* ---- cursor.c, stream.c, watch.c ---- */

PyTypeObject *kvpy_cursor_make_type(void);
PyObject *kvpy_cursor_new(struct view_object *v, PyObject *args, PyObject *kwargs);
PyTypeObject *kvpy_stream_make_type(void);
PyObject *kvpy_stream_new(struct view_object *v, PyObject *args);
PyTypeObject *kvpy_watch_make_type(void);

#endif
