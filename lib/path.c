/* Key syntax (contract, section 2): pure functions on NUL-terminated strings.
 *
 * There is one statement of the rules, component_fault() and kv_path_fault(); the checks with an errno are read off its answer, so that
 * the phrase a user sees and the code a program sees cannot disagree. */
#include "path.h"

#include <errno.h>
#include <string.h>

#include <kvfs.h>

static const char key_too_long[] = "the key is longer than 4095 bytes";
static const char name_too_long[] = "a component is longer than 255 bytes";

_Static_assert(KVFS_KEY_MAX == 4095 && KVFS_NAME_MAX == 255, "the phrases above say the limits");

static const char *skip_root(const char *key)
{
	return key + (*key == '/');
}

static const char *component_fault(const char *name, size_t len)
{
	if (len == 0)
		return "a component is empty (\"//\", or a '/' at the end)";
	if (len > KVFS_NAME_MAX)
		return name_too_long;
	if (len == 1 && name[0] == '.')
		return "a component is \".\"";
	if (len == 2 && name[0] == '.' && name[1] == '.')
		return "a component is \"..\"";
	return NULL;
}

static int fault_errno(const char *fault)
{
	if (!fault)
		return 0;
	return fault == key_too_long || fault == name_too_long ? -ENAMETOOLONG : -EINVAL;
}

const char *kv_path_fault(const char *key)
{
	const char *name = skip_root(key);
	const char *end = memchr(name, '\0', KVFS_KEY_MAX + 1);

	if (!end)
		return key_too_long;
	if (name == end)
		return NULL;
	for (;;) {
		const char *slash = memchr(name, '/', (size_t)(end - name));
		const char *fault = component_fault(name, (size_t)((slash ? slash : end) - name));

		if (fault || !slash)
			return fault;
		name = slash + 1;
	}
}

int kv_path_check(const char *key)
{
	return fault_errno(kv_path_fault(key));
}

bool kv_name_is_legal(const char *name, size_t len)
{
	return !component_fault(name, len) && !memchr(name, '/', len) && !memchr(name, '\0', len);
}

int kv_name_check(const char *name)
{
	size_t len = strnlen(name, KVFS_NAME_MAX + 1);

	if (memchr(name, '/', len))
		return -EINVAL;
	return fault_errno(component_fault(name, len));
}

bool kv_path_next(const char **p, const char **ret_name, size_t *ret_len)
{
	const char *name = skip_root(*p);
	size_t len = strcspn(name, "/");

	if (len == 0)
		return false;
	*ret_name = name;
	*ret_len = len;
	*p = name + len;
	return true;
}

/* The end of a key sorts first, then the end of a component, then the bytes: that alone makes the comparison one by components. */
static int rank(char c)
{
	return c == '\0' ? -1 : c == '/' ? 0 : (unsigned char)c;
}

int kv_path_compare(const char *a, const char *b)
{
	a = skip_root(a);
	b = skip_root(b);
	while (*a == *b && *a)
		a++, b++;
	return rank(*a) - rank(*b);
}
