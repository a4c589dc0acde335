/* See verify.h. */
#include "verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "invariants.h"

/* ---- store and model ---- */

struct comparison {
	struct kvfs_store *store;
	struct kvfs_cursor *cursor;
	char *why; /* empty while they are equal */
};

#define differ(c, key, ...)                                                                                                        \
	do {                                                                                                                       \
		int n_ = snprintf((c)->why, 200, "'%.60s' ", key);                                                                 \
		snprintf((c)->why + n_, 200 - (size_t)n_, __VA_ARGS__);                                                            \
	} while (0)

static void compare_value(struct comparison *c, const char *key, const struct model_node *node)
{
	void *data = NULL;
	size_t len = 0, at = 0;
	int r = kvfs_get(c->store, key, &data, &len);
	if (r)
		differ(c, key, "cannot be read: %s", strerror(-r));
	else if (len != node->value->len)
		differ(c, key, "has %zu bytes, not %zu", len, node->value->len);
	else if (memcmp(data, node->value->data, len) != 0) {
		while (((char *)data)[at] == (char)node->value->data[at])
			at++;
		differ(c, key, "of %zu bytes has another byte %zu", len, at);
	}
	free(data);
}

static void compare_attributes(struct comparison *c, const char *key, const struct model_node *node)
{
	char buf[4096];
	size_t names = 0;
	if (S_ISLNK(node->mode)) {
		ssize_t n = kvfs_readlink(c->store, key, buf, sizeof buf);
		if (n != (ssize_t)node->value->len || memcmp(buf, node->value->data, (size_t)n) != 0)
			differ(c, key, "has another target");
	}
	for (size_t i = 0; i < node->n_xattrs; i++) {
		const struct model_xattr *x = &node->xattrs[i];
		ssize_t n = kvfs_getxattr(c->store, key, x->name, buf, sizeof buf);
		if (n != (ssize_t)x->value->len || memcmp(buf, x->value->data, (size_t)n) != 0)
			differ(c, key, "has another attribute");
		names += strlen(x->name) + 1;
	}
	if (kvfs_listxattr(c->store, key, NULL, 0) != (ssize_t)names)
		differ(c, key, "has other attributes");
}

static void compare_one(void *arg, const char *key, const struct model_node *node)
{
	struct comparison *c = arg;
	struct kvfs_entry e;
	if (*c->why)
		return;
	int r = kvfs_cursor_next(c->cursor, &e);
	if (r != 1 || strcmp(e.key, key) != 0) {
		differ(c, key, "is not there: %.60s", r == 1 ? e.key : r ? strerror(-r) : "the list is at its end");
		return;
	}
	if (e.st.mode != node->mode || (!S_ISDIR(node->mode) && e.st.nlink != node->links))
		differ(c, key, "has mode %o and %u links, not %o and %u", e.st.mode, e.st.nlink, node->mode, node->links);
	else if (S_ISREG(node->mode))
		compare_value(c, key, node);
	if (!*c->why)
		compare_attributes(c, key, node);
}

bool verify_equals(struct kvfs_store *store, const struct model *m, char why[200])
{
	struct kvfs_list_options opt = {.size = sizeof opt, .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT};
	struct comparison c = {.store = store, .why = why};
	struct kvfs_entry e;
	*why = 0;
	assert_ok(kvfs_list(store, "", &opt, &c.cursor));
	model_walk(m, compare_one, &c);
	int r = *why ? 0 : kvfs_cursor_next(c.cursor, &e);
	if (r)
		differ(&c, r == 1 ? e.key : "", "is there");
	kvfs_cursor_close(c.cursor);
	return !*why;
}

/* ---- a store after a crash ---- */

struct op verify_op(void)
{
	return (struct op){.kind = OP_PUT, .key = "after", .len = 5000, .seed = 77};
}

static struct kvfs_store *open_store(const char *path, const struct expectation *want, bool *ret_absent)
{
	struct kvfs_options opt = {.size = sizeof opt, .durability = want->level};
	struct kvfs_store *store = NULL;
	struct kvfs_error err;
	int r = kvfs_open(path, &opt, &store, &err);
	*ret_absent = r == -ENOENT && want->maybe_absent;
	if (*ret_absent) {
		opt.flags = KVFS_CREATE;
		r = kvfs_open(path, &opt, &store, &err);
	}
	if (r)
		fail_msg("the store does not open: %s", err.text);
	return store;
}

/* Between two states it is one of them: a commit that no user sees. */
static struct found find_state(struct kvfs_store *store, const struct expectation *want)
{
	const struct history *h = want->h;
	struct kvfs_info info;
	char why[200], last[200];
	size_t i = h->nstates - 1;
	assert_ok(kvfs_info(store, &info));
	if (info.sequence < want->lowest)
		fail_msg("the store stands at commit %llu; %llu had been promised", (unsigned long long)info.sequence,
			(unsigned long long)want->lowest);
	while (i > 0 && h->state[i].seq > info.sequence)
		i--;
	if (verify_equals(store, h->state[i].m, why))
		return (struct found){info.sequence, h->state[i].m};
	if (info.sequence > h->state[i].seq && i + 1 < h->nstates && verify_equals(store, h->state[i + 1].m, last))
		return (struct found){info.sequence, h->state[i + 1].m};
	fail_msg("at commit %llu: %s", (unsigned long long)info.sequence, why);
	return (struct found){0};
}

static void go_on(struct kvfs_store *store, const struct model *m)
{
	struct model *next = model_clone(m);
	struct op op = verify_op();
	struct doors doors = {.store = store};
	char why[200];
	assert_ok(op_run(&op, &doors, NULL));
	assert_ok(kvfs_sync(store));
	assert_ok(op_model(&op, next));
	if (!verify_equals(store, next, why))
		fail_msg("after a put: %s", why);
	check_invariants(store, NULL);
	model_free(next);
}

struct found verify_store(const char *path, const struct expectation *want)
{
	bool absent;
	struct kvfs_store *store = open_store(path, want, &absent);
	check_invariants(store, NULL);
	struct found found = absent ? (struct found){0} : find_state(store, want);
	go_on(store, absent ? want->h->state[0].m : found.m);
	kvfs_close(store);
	return found;
}
