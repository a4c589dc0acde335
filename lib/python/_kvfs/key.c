/* Keys.  Of a tree they are paths as they are.  Of a Dict they are typed: str, bytes, int or float, each with one name in one directory
 * (FORMAT.md, "Names of typed keys").  Encoding is injective, and decode(encode(key)) is key, with its type.
 *
 * A text is made of the key first.  Its name is the text; of a text longer than a name can be: the text's beginning, "%%" and the SHA-256 of
 * the text, and the text is the first line of the value.  Names never contain "%%" otherwise, because each '%' is followed by two digits. */
#include "kvpy.h"

#include <stdio.h>

#define HEAD_MAX 180 /* bytes of a long text that its name begins with */

static const char *const type_words[] = {"str:", "int:", "float:", "bytes:"};

/* ---- encoding ---- */

static bool begins(const char *text, size_t len, const char *word)
{
	size_t n = strlen(word);
	return len >= n && memcmp(text, word, n) == 0;
}

/* A str that would be read as something else, or that no file can be called, is marked. */
static bool needs_mark(const char *text, size_t len)
{
	for (size_t i = 0; i < sizeof type_words / sizeof *type_words; i++)
		if (begins(text, len, type_words[i]))
			return true;
	return len == 0 || (len == 1 && text[0] == '.') || (len == 2 && text[0] == '.' && text[1] == '.');
}

static bool is_plain(unsigned char c, bool ascii)
{
	return c >= 0x20 && c != 0x7f && c != '%' && c != '/' && (c < 0x80 || !ascii);
}

/* mark + data with what cannot be in a name, or cannot be read, as %XX; of a str's bytes those that are not UTF-8 (the surrogates of
 * "surrogatepass") too. */
static PyObject *escape(const char *mark, const unsigned char *data, size_t len, bool ascii)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t at = strlen(mark);
	char *out = malloc(at + 3 * len + 1);
	if (!out)
		return PyErr_NoMemory();
	memcpy(out, mark, at + 1);
	for (size_t i = 0, odd = 0; i < len; i++) {
		if (!ascii && data[i] == 0xed && i + 2 < len && data[i + 1] >= 0xa0)
			odd = 3;
		if (!odd && is_plain(data[i], ascii)) {
			out[at++] = (char)data[i];
			continue;
		}
		out[at++] = '%';
		out[at++] = digits[data[i] >> 4];
		out[at++] = digits[data[i] & 15];
		odd -= odd > 0;
	}
	PyObject *ret = PyBytes_FromStringAndSize(out, (Py_ssize_t)at);
	free(out);
	return ret;
}

static PyObject *str_text(PyObject *key)
{
	Py_ssize_t len;
	const char *text = PyUnicode_AsUTF8AndSize(key, &len);
	PyObject *bytes = NULL;
	if (!text) {
		PyErr_Clear();
		bytes = PyUnicode_AsEncodedString(key, "utf-8", "surrogatepass");
		if (!bytes)
			return NULL;
		text = PyBytes_AsString(bytes);
		len = PyBytes_Size(bytes);
	}
	PyObject *ret = escape(needs_mark(text, (size_t)len) ? "str:" : "", (const unsigned char *)text, (size_t)len, false);
	Py_XDECREF(bytes);
	return ret;
}

static PyObject *int_text(PyObject *key)
{
	int overflow;
	long long n = PyLong_AsLongLongAndOverflow(key, &overflow);
	if (!overflow) {
		char text[32];
		snprintf(text, sizeof text, "int:%lld", n);
		return n == -1 && PyErr_Occurred() ? NULL : PyBytes_FromString(text);
	}
	PyObject *hex = PyNumber_ToBase(key, 16); /* in decimal, it would take long, and Python refuses it from some length on */
	const char *text = hex ? PyUnicode_AsUTF8AndSize(hex, NULL) : NULL;
	PyObject *ret = text ? PyBytes_FromFormat("int:%s", text) : NULL;
	Py_XDECREF(hex);
	return ret;
}

static PyObject *float_text(PyObject *key)
{
	double x = PyFloat_AsDouble(key);
	char *text = PyOS_double_to_string(x, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
	PyObject *ret = text ? PyBytes_FromFormat("float:%s", x != x ? "nan" : text) : NULL;
	PyMem_Free(text);
	return ret;
}

static PyObject *text_of(PyObject *key)
{
	if (PyUnicode_Check(key))
		return str_text(key);
	if (PyBool_Check(key)) {
		PyErr_SetString(
			PyExc_TypeError, "a key is a str, bytes, int or float; a bool would come back as an int: use int(key)");
		return NULL;
	}
	if (PyLong_Check(key))
		return int_text(key);
	if (PyFloat_Check(key))
		return float_text(key);
	if (PyBytes_Check(key))
		return escape("bytes:", (const unsigned char *)PyBytes_AsString(key), (size_t)PyBytes_Size(key), true);
	PyErr_Format(PyExc_TypeError, "a key is a str, bytes, int or float, not %R", Py_TYPE(key));
	return NULL;
}

/* How much of the text a long name begins with: no half character, no half escape. */
static Py_ssize_t head_len(const char *text)
{
	Py_ssize_t n = HEAD_MAX;
	while (((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	if (text[n - 1] == '%')
		return n - 1;
	return text[n - 2] == '%' ? n - 2 : n;
}

static PyObject *long_name(const char *text, Py_ssize_t len)
{
	PyObject *hashlib = PyImport_ImportModule("hashlib");
	PyObject *hash = hashlib ? PyObject_CallMethod(hashlib, "sha256", "y#", text, len) : NULL;
	PyObject *hex = hash ? PyObject_CallMethod(hash, "hexdigest", NULL) : NULL;
	const char *digits = hex ? PyUnicode_AsUTF8AndSize(hex, NULL) : NULL;
	char name[KVFS_NAME_MAX + 1];
	PyObject *ret = NULL;
	if (digits) {
		snprintf(name, sizeof name, "%.*s%s%s", (int)head_len(text), text, KVPY_SEPARATOR, digits);
		ret = PyBytes_FromString(name);
	}
	Py_XDECREF(hex);
	Py_XDECREF(hash);
	Py_XDECREF(hashlib);
	return ret;
}

PyObject *kvpy_key_encode(PyObject *key, PyObject **line)
{
	PyObject *text = text_of(key);
	*line = NULL;
	if (!text || PyBytes_Size(text) <= KVFS_NAME_MAX)
		return text;
	PyObject *name = long_name(PyBytes_AsString(text), PyBytes_Size(text));
	if (name) {
		PyObject *newline = PyBytes_FromStringAndSize("\n", 1);
		if (newline)
			PyBytes_ConcatAndDel(&text, newline);
		if (!newline || !text)
			Py_CLEAR(name);
	}
	if (name)
		*line = text;
	else
		Py_XDECREF(text);
	return name;
}

/* ---- decoding ---- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static PyObject *unescape(const char *text, size_t len)
{
	char *out = malloc(len + 1);
	size_t n = 0;
	if (!out)
		return PyErr_NoMemory();
	for (size_t i = 0; i < len; i++) {
		out[n] = text[i];
		if (text[i] == '%' && i + 2 < len && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
			out[n] = (char)(digit(text[i + 1]) << 4 | digit(text[i + 2]));
			i += 2;
		}
		n++;
	}
	PyObject *ret = PyBytes_FromStringAndSize(out, (Py_ssize_t)n);
	free(out);
	return ret;
}

static PyObject *decode_str(const char *text, size_t len)
{
	if (!memchr(text, '%', len))
		return PyUnicode_DecodeUTF8(text, (Py_ssize_t)len, NULL);
	PyObject *bytes = unescape(text, len);
	PyObject *ret = bytes ? PyUnicode_DecodeUTF8(PyBytes_AsString(bytes), PyBytes_Size(bytes), "surrogatepass") : NULL;
	Py_XDECREF(bytes);
	return ret;
}

static PyObject *decode_number(const char *text, size_t len, bool is_float)
{
	char *copy = malloc(len + 1);
	if (!copy)
		return PyErr_NoMemory();
	memcpy(copy, text, len);
	copy[len] = 0;
	PyObject *ret = NULL;
	if (is_float) {
		double x = PyOS_string_to_double(copy, NULL, NULL);
		ret = PyErr_Occurred() ? NULL : PyFloat_FromDouble(x);
	} else {
		ret = PyLong_FromString(copy, NULL, strchr(copy, 'x') ? 16 : 10);
	}
	free(copy);
	return ret;
}

static PyObject *decode_text(const char *text, size_t len)
{
	if (begins(text, len, "str:"))
		return decode_str(text + 4, len - 4);
	if (begins(text, len, "bytes:"))
		return unescape(text + 6, len - 6);
	if (begins(text, len, "int:"))
		return decode_number(text + 4, len - 4, false);
	if (begins(text, len, "float:"))
		return decode_number(text + 6, len - 6, true);
	return decode_str(text, len);
}

/* What encodes to these very bytes is a key; anything else is a file that somebody else put there. */
static bool is_name_of(PyObject *key, const char *name, size_t len, const char *line, size_t line_len)
{
	PyObject *expected_line, *expected = kvpy_key_encode(key, &expected_line);
	bool same = expected && (size_t)PyBytes_Size(expected) == len && memcmp(PyBytes_AsString(expected), name, len) == 0;
	if (same && expected_line)
		same = (size_t)PyBytes_Size(expected_line) == line_len &&
		       memcmp(PyBytes_AsString(expected_line), line, line_len) == 0;
	Py_XDECREF(expected);
	Py_XDECREF(expected_line);
	return same;
}

PyObject *kvpy_key_decode(const char *name, size_t len, const char *line, size_t line_len)
{
	bool is_long = memmem(name, len, KVPY_SEPARATOR, 2);
	if (is_long && (!line || !line_len))
		return NULL;
	PyObject *key = is_long ? decode_text(line, line_len - 1) : decode_text(name, len);
	if (key && is_name_of(key, name, len, line, line_len))
		return key;
	Py_XDECREF(key);
	PyObject *error = PyErr_Occurred();
	if (error &&
		(PyErr_GivenExceptionMatches(error, PyExc_ValueError) || PyErr_GivenExceptionMatches(error, PyExc_OverflowError)))
		PyErr_Clear();
	return NULL;
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

/* The text of a key that is no typed one: without a copy where that can be. */
static int path_text(PyObject *key, struct key *ret, Py_ssize_t *ret_len)
{
	if (PyUnicode_Check(key)) {
		ret->path = PyUnicode_AsUTF8AndSize(key, ret_len);
		if (ret->path)
			return 0;
		PyErr_Clear();
	}
	ret->path_owner = kvpy_text(key);
	if (!ret->path_owner)
		return -1;
	ret->path = PyBytes_AsString(ret->path_owner);
	*ret_len = PyBytes_Size(ret->path_owner);
	return 0;
}

/* Most keys are a str that is its own name, in need of no copy; false: this one may not be. */
static bool is_own_name(PyObject *key, struct key *ret, Py_ssize_t *ret_len)
{
	const char *text = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, ret_len) : NULL;
	if (!text) {
		PyErr_Clear();
		return false;
	}
	size_t len = (size_t)*ret_len;
	if (len > KVFS_NAME_MAX || needs_mark(text, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_plain((unsigned char)text[i], false))
			return false;
	ret->path = text;
	return true;
}

int kvpy_key_path(PyObject *directory, bool typed, PyObject *key, struct key *ret)
{
	Py_ssize_t len, dir_len = PyBytes_Size(directory);
	memset(ret, 0, offsetof(struct key, buf));
	if (typed && is_own_name(key, ret, &len)) {
		/* nothing to encode */
	} else if (typed) {
		ret->path_owner = kvpy_key_encode(key, &ret->line_owner);
		if (!ret->path_owner)
			return -1;
		ret->path = PyBytes_AsString(ret->path_owner);
		len = PyBytes_Size(ret->path_owner);
		ret->line = ret->line_owner ? PyBytes_AsString(ret->line_owner) : NULL;
		ret->line_len = ret->line ? (size_t)PyBytes_Size(ret->line_owner) : 0;
	} else if (path_text(key, ret, &len)) {
		return -1;
	}
	if (!typed && *ret->path == '/') {
		ret->path++;
		len--;
	}
	if (len <= 0)
		ret->fault = "it is empty";
	else if (*ret->path == '/')
		ret->fault = "a component is empty";
	else if (strlen(ret->path) != (size_t)len)
		ret->fault = "it has a NUL";
	else if (len + dir_len > KVFS_KEY_MAX)
		ret->fault = "it is longer than 4095 bytes";
	if (!ret->fault && dir_len) {
		memcpy(ret->buf, PyBytes_AsString(directory), (size_t)dir_len);
		memcpy(ret->buf + dir_len, ret->path, (size_t)len + 1);
		ret->path = ret->buf;
	}
	return 0;
}

void kvpy_key_clear(struct key *key)
{
	Py_CLEAR(key->path_owner);
	Py_CLEAR(key->line_owner);
}
