/* Keys.  Of a tree they are paths as they are.  Of a Dict they are typed: str, bytes, int or float, each with one name in one directory, which is the
 * library's to tell (kvfs.h, "names of typed keys"); here Python's objects become what it calls a key, and back. */
#include "kvpy.h"

/* ---- typed keys ---- */

/* `owner`: what ret->data points into, or NULL; the key itself and `buf` may be as well. */
static int typed_str(PyObject *key, struct kvfs_typed *ret, PyObject **owner)
{
	Py_ssize_t len;
	ret->kind = KVFS_TYPED_STR;
	ret->data = PyUnicode_AsUTF8AndSize(key, &len);
	if (!ret->data) { /* half a surrogate pair */
		PyErr_Clear();
		*owner = PyUnicode_AsEncodedString(key, "utf-8", "surrogatepass");
		if (!*owner)
			return -1;
		ret->data = PyBytes_AsString(*owner);
		len = PyBytes_Size(*owner);
	}
	ret->len = (size_t)len;
	return 0;
}

static int typed_int(PyObject *key, struct kvfs_typed *ret, char buf[KVFS_TYPED_NUMBER], PyObject **owner)
{
	int overflow;
	Py_ssize_t len;
	long long n = PyLong_AsLongLongAndOverflow(key, &overflow);
	if (!overflow) {
		*ret = kvfs_typed_int(n, buf);
		return n == -1 && PyErr_Occurred() ? -1 : 0;
	}
	*owner = PyNumber_ToBase(key, 16); /* in decimal, it would take long, and Python refuses it from some length on */
	ret->kind = KVFS_TYPED_INT;
	ret->data = *owner ? PyUnicode_AsUTF8AndSize(*owner, &len) : NULL;
	ret->len = ret->data ? (size_t)len : 0;
	return ret->data ? 0 : -1;
}

static int typed_of(PyObject *key, struct kvfs_typed *ret, char buf[KVFS_TYPED_NUMBER], PyObject **owner)
{
	*owner = NULL;
	if (PyUnicode_Check(key))
		return typed_str(key, ret, owner);
	if (PyBool_Check(key)) {
		PyErr_SetString(
			PyExc_TypeError, "a key is a str, bytes, int or float; a bool would come back as an int: use int(key)");
		return -1;
	}
	if (PyLong_Check(key))
		return typed_int(key, ret, buf, owner);
	if (PyFloat_Check(key)) {
		*ret = kvfs_typed_float(PyFloat_AsDouble(key), buf);
		return 0;
	}
	if (PyBytes_Check(key)) {
		*ret = (struct kvfs_typed){KVFS_TYPED_BYTES, PyBytes_AsString(key), (size_t)PyBytes_Size(key)};
		return 0;
	}
	PyErr_Format(PyExc_TypeError, "a key is a str, bytes, int or float, not %R", Py_TYPE(key));
	return -1;
}

int kvpy_key_encode(PyObject *key, struct kvfs_typed_name *ret)
{
	struct kvfs_typed typed;
	char buf[KVFS_TYPED_NUMBER];
	PyObject *owner;
	int r = typed_of(key, &typed, buf, &owner);
	if (r == 0 && kvfs_typed_encode(&typed, ret)) {
		PyErr_NoMemory();
		r = -1;
	}
	Py_XDECREF(owner);
	return r;
}

PyObject *kvpy_key_decode(const char *name, const char *line, size_t line_len)
{
	struct kvfs_typed typed;
	char *buf;
	PyObject *ret = NULL;
	int r = kvfs_typed_decode(name, line, line_len, &typed, &buf);
	if (r)
		return r == -ENOMEM ? PyErr_NoMemory() : NULL;
	switch (typed.kind) {
	case KVFS_TYPED_STR:
		ret = PyUnicode_DecodeUTF8(typed.data, (Py_ssize_t)typed.len, "surrogatepass");
		break;
	case KVFS_TYPED_BYTES:
		ret = PyBytes_FromStringAndSize(typed.data, (Py_ssize_t)typed.len);
		break;
	case KVFS_TYPED_INT:
		ret = PyLong_FromString(typed.data, NULL, strchr(typed.data, 'x') ? 16 : 10);
		break;
	case KVFS_TYPED_FLOAT: {
		double x = PyOS_string_to_double(typed.data, NULL, NULL);
		ret = PyErr_Occurred() ? NULL : PyFloat_FromDouble(x);
		break;
	}
	}
	free(buf);
	return ret;
}

/* ---- paths ---- */

PyObject *kvpy_text(PyObject *text)
{
	if (PyBytes_Check(text))
		return Py_NewRef(text);
	if (PyUnicode_Check(text))
		return PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape");
	PyErr_Format(PyExc_TypeError, "a key is a str (or bytes), not %R", Py_TYPE(text));
	return NULL;
}

/* The text of a key that is no typed one, without its first '/': without a copy where that can be. */
static const char *path_text(PyObject *key, PyObject **owner, Py_ssize_t *ret_len)
{
	const char *text = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, ret_len) : NULL;
	if (!text) {
		PyErr_Clear();
		*owner = kvpy_text(key);
		if (!*owner)
			return NULL;
		text = PyBytes_AsString(*owner);
		*ret_len = PyBytes_Size(*owner);
	}
	*ret_len -= *text == '/';
	return text + (*text == '/');
}

int kvpy_key_path(PyObject *directory, bool typed, PyObject *key, struct key *ret)
{
	struct kvfs_typed_name name;
	const char *path = name.name;
	Py_ssize_t len, dir_len = PyBytes_Size(directory);
	memset(ret, 0, offsetof(struct key, buf));
	if (typed) {
		if (kvpy_key_encode(key, &name))
			return -1;
		ret->line = name.line;
		ret->line_len = name.line_len;
		len = (Py_ssize_t)strlen(path);
	} else {
		path = path_text(key, &ret->path_owner, &len);
		if (!path)
			return -1;
	}
	if (len <= 0)
		ret->fault = "it is empty";
	else if (*path == '/')
		ret->fault = "a component is empty";
	else if (strlen(path) != (size_t)len)
		ret->fault = "it has a NUL";
	else if (len + dir_len > KVFS_KEY_MAX)
		ret->fault = "it is longer than 4095 bytes";
	if (ret->fault)
		return 0;
	ret->path = path;
	if (typed || dir_len) {
		memcpy(ret->buf, PyBytes_AsString(directory), (size_t)dir_len);
		memcpy(ret->buf + dir_len, path, (size_t)len + 1);
		ret->path = ret->buf;
	}
	return 0;
}

void kvpy_key_clear(struct key *key)
{
	Py_CLEAR(key->path_owner);
	free(key->line);
	key->line = NULL;
}
