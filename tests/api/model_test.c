/* Random operations against the model: what every call answers, what open streams see, and the whole store again and again.
 *
 * KVFS_SEED repeats a run, KVFS_OPS sets its length.  A failure says which operation it was and on what. */
#include "api.h"

#include "model.h"

enum { STREAMS = 8, NAMES = 7, XATTRS = 3 };

/* A stream of the store beside what the model says it sees: a snapshot, or a session. */
struct open_stream {
	struct kvfs_stream *stream;
	struct model_bytes *snapshot;
	struct model_session *session;
	struct model_bytes *published; /* by this session; another's publication after it makes what follows a matter of taste */
};

struct run {
	struct api *a;
	struct kvfs_store *store;
	struct model *m;
	struct support_rng rng;
	struct open_stream open[STREAMS];
	size_t inline_max, chunk;
	bool large; /* long values, and little memory for sessions */
	uint64_t base_directories;
	unsigned op;
	char what[12000];
};

/* ---- chance ---- */

static uint64_t below(struct run *r, uint64_t n)
{
	return support_below(&r->rng, n);
}

static const char *some_name(struct run *r)
{
	static char longer[201];
	static const char *const names[NAMES - 1] = {"a", "b", "\xff", "-", "a!", "key.txt"};

	memset(longer, 'n', 200);
	uint64_t i = below(r, NAMES * 3);
	return i == 0 ? longer : names[i % (NAMES - 1)];
}

struct pick {
	struct run *r;
	char *key;
	unsigned seen;
};

static void pick_one(void *arg, const char *key, const struct model_node *node)
{
	struct pick *p = arg;

	(void)node;
	if (below(p->r, ++p->seen) == 0)
		strcpy(p->key, key);
}

/* Mostly a key that is there, else any; sometimes below one that is there. */
static void some_key(struct run *r, char *key)
{
	struct pick p = {r, key, 0};

	*key = '\0';
	if (below(r, 10) < 6)
		model_walk(r->m, pick_one, &p);
	if (*key && below(r, 8))
		return;
	if (strlen(key) > 1500)
		*key = '\0';
	for (uint64_t depth = 1 + below(r, 3); depth > 0; depth--) {
		if (*key)
			strcat(key, "/");
		strcat(key, some_name(r));
	}
}

static size_t some_length(struct run *r)
{
	const size_t edges[] = {r->inline_max, r->chunk, 2 * r->chunk, 4096};

	if (r->large && below(r, 6) == 0)
		return below(r, 40 * r->chunk);
	switch (below(r, 8)) {
	case 0:
		return 0;
	case 1:
		return edges[below(r, 4)] - 3 + below(r, 7);
	case 2:
		return below(r, 5 * r->chunk);
	case 3:
		return below(r, 20000);
	default:
		return below(r, 300);
	}
}

static unsigned char *some_bytes(struct run *r, size_t len)
{
	return api_bytes(len, support_random(&r->rng));
}

/* ---- comparing ---- */

/* Several errors may apply to one call; which of them comes is promised elsewhere. */
static bool same_result(int got, int want)
{
	if (got >= 0 || want >= 0)
		return got == want;
	return true;
}

static void check(struct run *r, int got, int want)
{
	if (same_result(got, want))
		return;
	fail_msg("operation %u, %s: %d (%s), not %d (%s)", r->op, r->what, got, got < 0 ? strerror(-got) : "", want,
		want < 0 ? strerror(-want) : "");
}

#define say(r, ...) snprintf((r)->what, sizeof((r)->what), __VA_ARGS__)

struct comparison {
	struct run *r;
	struct kvfs_store *store; /* or, of a snapshot, */
	struct kvfs_txn *txn;
	struct kvfs_cursor *cursor;
	const struct model_node *seen[4096]; /* those with several names */
	size_t n_seen;
	uint64_t values, directories, others, bytes;
};

static void differ(struct comparison *c, const char *key, const char *what)
{
	fail_msg("after operation %u (%s): '%s': %s", c->r->op, c->r->what, key, what);
}

static void compare_value(struct comparison *c, const char *key, const struct model_node *node)
{
	void *data = NULL;
	size_t len = 0;
	int rc = c->txn ? kvfs_txn_get(c->txn, key, &data, &len) : kvfs_get(c->store, key, &data, &len);

	if (rc)
		differ(c, key, strerror(-rc));
	if (!api_same_bytes(data, len, node->value->data, node->value->len))
		differ(c, key, "other bytes");
	free(data);
}

static void compare_attributes(struct comparison *c, const char *key, const struct model_node *node)
{
	char buf[KVFS_KEY_MAX + 1];

	if (S_ISLNK(node->mode)) {
		ssize_t n = kvfs_readlink(c->store, key, buf, sizeof(buf));
		if (n != (ssize_t)node->value->len || memcmp(buf, node->value->data, (size_t)n))
			differ(c, key, "another target");
	}
	size_t names = 0;
	for (size_t i = 0; i < node->n_xattrs; i++) {
		const struct model_xattr *x = &node->xattrs[i];
		ssize_t n = kvfs_getxattr(c->store, key, x->name, buf, sizeof(buf));
		if (n != (ssize_t)x->value->len || memcmp(buf, x->value->data, (size_t)n))
			differ(c, key, "another attribute");
		names += strlen(x->name) + 1;
	}
	if (kvfs_listxattr(c->store, key, NULL, 0) != (ssize_t)names)
		differ(c, key, "other attributes");
}

static void count(struct comparison *c, const struct model_node *node)
{
	for (size_t i = 0; i < c->n_seen; i++)
		if (c->seen[i] == node)
			return;
	if (node->links > 1 && c->n_seen < sizeof(c->seen) / sizeof(*c->seen))
		c->seen[c->n_seen++] = node;
	if (S_ISREG(node->mode)) {
		c->values++;
		c->bytes += node->value->len;
	} else if (S_ISDIR(node->mode)) {
		c->directories++;
	} else {
		c->others++;
	}
}

static void compare_one(void *arg, const char *key, const struct model_node *node)
{
	struct comparison *c = arg;
	struct kvfs_entry e;
	int rc = kvfs_cursor_next(c->cursor, &e);

	if (rc != 1)
		differ(c, key, rc ? strerror(-rc) : "not listed");
	if (strcmp(e.key, key))
		differ(c, key, "another key is listed there");
	uint64_t size = S_ISDIR(node->mode) ? node->n_entries : node->value->len;
	if (e.st.mode != node->mode || e.st.size != size || (!S_ISDIR(node->mode) && e.st.nlink != node->links))
		fail_msg("after operation %u (%s): '%s': mode %o, size %" PRIu64 ", %u links, not %o, %" PRIu64 ", %u", c->r->op,
			c->r->what, key, e.st.mode, e.st.size, e.st.nlink, node->mode, size, node->links);
	if (S_ISREG(node->mode))
		compare_value(c, key, node);
	if (!c->txn)
		compare_attributes(c, key, node);
	count(c, node);
}

static void compare(struct run *r, const struct model *m, struct kvfs_txn *txn)
{
	struct comparison *c = calloc(1, sizeof(*c));
	struct kvfs_list_options opt = {.size = sizeof(opt), .flags = KVFS_LIST_RECURSIVE | KVFS_LIST_STAT};
	struct kvfs_entry e;
	struct kvfs_info info;

	c->r = r;
	c->store = r->store;
	c->txn = txn;
	assert_ok(txn ? kvfs_txn_list(txn, "", &opt, &c->cursor) : kvfs_list(r->store, "", &opt, &c->cursor));
	model_walk(m, compare_one, c);
	if (kvfs_cursor_next(c->cursor, &e) != 0)
		differ(c, e.key, "is listed and should not be there");
	kvfs_cursor_close(c->cursor);
	if (!txn) {
		assert_ok(kvfs_info(r->store, &info));
		if (info.values != c->values || info.others != c->others || info.value_bytes != c->bytes ||
			info.directories != c->directories + r->base_directories)
			fail_msg("after operation %u (%s): info counts %" PRIu64 " values of %" PRIu64 " bytes, %" PRIu64
				 " directories, %" PRIu64 " others, not %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64,
				r->op, r->what, info.values, info.value_bytes, info.directories - r->base_directories, info.others,
				c->values, c->bytes, c->directories, c->others);
	}
	free(c);
}

/* ---- operations on keys ---- */

static void op_put(struct run *r)
{
	char key[KVFS_KEY_MAX + 1];
	struct kvfs_put_options opt = {.size = sizeof(opt), .mode = below(r, 2) ? 0 : 0600};
	size_t len = some_length(r);
	unsigned char *data = some_bytes(r, len);

	some_key(r, key);
	opt.flags = below(r, 4) ? 0 : KVFS_IF_ABSENT;
	say(r, "put '%s' %zu bytes flags %u", key, len, opt.flags);
	check(r, kvfs_put(r->store, key, data, len, &opt, NULL),
		model_put(r->m, key, data, len, opt.flags ? MODEL_IF_ABSENT : 0, opt.mode ? opt.mode : 0644));
	free(data);
}

static void op_append(struct run *r)
{
	char key[KVFS_KEY_MAX + 1];
	size_t len = some_length(r);
	unsigned char *data = some_bytes(r, len);

	some_key(r, key);
	say(r, "append '%s' %zu bytes", key, len);
	check(r, kvfs_append(r->store, key, data, len), model_append(r->m, key, data, len));
	free(data);
}

static void op_del(struct run *r)
{
	char key[KVFS_KEY_MAX + 1];

	some_key(r, key);
	say(r, "del '%s'", key);
	check(r, kvfs_del(r->store, key), model_del(r->m, key));
}

static void op_del_tree(struct run *r)
{
	char key[KVFS_KEY_MAX + 1];

	some_key(r, key);
	say(r, "del_tree '%s'", key);
	check(r, kvfs_del_tree(r->store, key, NULL), model_del_tree(r->m, key));
}

static void op_make(struct run *r)
{
	char key[KVFS_KEY_MAX + 1], target[100];

	some_key(r, key);
	switch (below(r, 4)) {
	case 0:
		memset(target, 't', sizeof(target));
		target[1 + below(r, 98)] = '\0';
		say(r, "symlink '%s'", key);
		check(r, kvfs_symlink(r->store, target, key), model_symlink(r->m, target, key));
		break;
	case 1:
		say(r, "mknod '%s'", key);
		check(r, kvfs_mknod(r->store, key, S_IFIFO | 0600, 0), model_mknod(r->m, key, S_IFIFO | 0600));
		break;
	default:
		say(r, "mkdir '%s'", key);
		check(r, kvfs_mkdir(r->store, key, 0750), model_mkdir(r->m, key, 0750));
	}
}

static void op_rename(struct run *r)
{
	char src[KVFS_KEY_MAX + 1], dst[KVFS_KEY_MAX + 1];
	unsigned how = (unsigned)below(r, 6);
	unsigned flags = how == 0 ? KVFS_RENAME_NOREPLACE : how == 1 ? KVFS_RENAME_EXCHANGE : 0;

	some_key(r, src);
	some_key(r, dst);
	say(r, "rename '%s' '%s' flags %u", src, dst, flags);
	check(r, kvfs_rename(r->store, src, dst, flags),
		model_rename(r->m, src, dst,
			how == 0   ? MODEL_NOREPLACE
			: how == 1 ? MODEL_EXCHANGE
				   : 0));
}

static void op_link(struct run *r)
{
	char src[KVFS_KEY_MAX + 1], dst[KVFS_KEY_MAX + 1];

	some_key(r, src);
	some_key(r, dst);
	say(r, "link '%s' '%s'", src, dst);
	check(r, kvfs_link(r->store, src, dst), model_link(r->m, src, dst));
}

static void op_attributes(struct run *r)
{
	char key[KVFS_KEY_MAX + 1], name[20], data[3000];
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = (uint32_t)below(r, 07777)};
	size_t len = below(r, 10) ? below(r, 50) : below(r, sizeof(data));

	some_key(r, key);
	snprintf(name, sizeof(name), "user.%d", (int)below(r, XATTRS));
	api_fill(data, len, support_random(&r->rng));
	switch (below(r, 3)) {
	case 0:
		say(r, "chmod '%s'", key);
		check(r, kvfs_setattr(r->store, key, &attr), model_chmod(r->m, key, attr.mode));
		break;
	case 1:
		say(r, "setxattr '%s' %s %zu bytes", key, name, len);
		check(r, kvfs_setxattr(r->store, key, name, data, len, 0), model_setxattr(r->m, key, name, data, len));
		break;
	default:
		say(r, "removexattr '%s' %s", key, name);
		check(r, kvfs_removexattr(r->store, key, name), model_removexattr(r->m, key, name));
	}
}

static void op_read(struct run *r)
{
	char key[KVFS_KEY_MAX + 1];
	struct model_bytes *want = NULL;
	void *got = NULL;
	size_t len = 0;

	some_key(r, key);
	say(r, "get '%s'", key);
	int rc = kvfs_get(r->store, key, &got, &len), model_rc = model_get(r->m, key, &want);
	check(r, rc, model_rc);
	if (rc == 0)
		check(r, api_same_bytes(got, len, want->data, want->len), true);
	say(r, "exists '%s'", key);
	check(r, kvfs_exists(r->store, key), model_exists(r->m, key));
	if (rc == 0) {
		size_t at = below(r, len + 10), n = below(r, 3000), there = at >= len ? 0 : len - at < n ? len - at : n;
		char *part = malloc(n + 1);
		say(r, "get_into '%s' %zu bytes at %zu", key, n, at);
		check(r, (int)kvfs_get_into(r->store, key, part, n, at), (int)there);
		assert_true(there == 0 || memcmp(part, want->data + at, there) == 0);
		free(part);
	}
	free(got);
	model_bytes_unref(want);
}

/* ---- transactions ---- */

static bool is_directory(const struct model *m, const char *key)
{
	struct model_node *node;

	return model_find(m, key, &node) == 0 && S_ISDIR(node->mode);
}

static void txn_step(struct run *r, struct kvfs_txn *txn, struct model *m, bool *ret_doomed)
{
	char key[KVFS_KEY_MAX + 1], dst[KVFS_KEY_MAX + 1];
	struct model_node *node;
	size_t len = some_length(r);
	unsigned char *data = some_bytes(r, len);
	int rc, want;

	some_key(r, key);
	some_key(r, dst);
	switch (below(r, 5)) {
	case 0:
		say(r, "txn del '%s'", key);
		/* A directory is left to what the transaction allows. */
		if (is_directory(m, key)) {
			free(data);
			return;
		}
		rc = kvfs_txn_del(txn, key);
		want = model_del(m, key);
		break;
	case 1:
		say(r, "txn rename '%s' '%s'", key, dst);
		if ((model_find(m, key, &node) == 0 && node->links > 1) || (model_find(m, dst, &node) == 0 && node->links > 1) ||
			(model_find(m, key, &node) == 0 && !S_ISREG(node->mode))) {
			free(data);
			return;
		}
		rc = kvfs_txn_rename(txn, key, dst, 0);
		want = model_rename(m, key, dst, 0);
		break;
	case 2:
		say(r, "txn exists '%s'", key);
		rc = kvfs_txn_exists(txn, key);
		want = model_exists(m, key);
		/* Directories come and go with the keys at commit: a transaction sees its own changes of keys only. */
		if (is_directory(m, key) || is_directory(r->m, key))
			want = rc;
		break;
	default:
		say(r, "txn put '%s' %zu bytes", key, len);
		rc = kvfs_txn_put(txn, key, data, len, NULL);
		want = model_put(m, key, data, len, 0, 0644);
	}
	free(data);
	if (rc >= 0 && want < 0)
		*ret_doomed = true;
	else
		check(r, rc, want);
}

/* What is written is seen within, and all of it, or nothing, afterwards. */
static void op_txn(struct run *r)
{
	struct kvfs_txn *txn;
	struct model *m = model_clone(r->m);
	bool doomed = false;

	assert_ok(kvfs_txn_begin(r->store, KVFS_TXN_WRITE, &txn));
	for (uint64_t n = 1 + below(r, 8); n > 0 && !doomed; n--)
		txn_step(r, txn, m, &doomed);
	if (below(r, 4) == 0) {
		kvfs_txn_abort(txn);
		model_free(m);
		return;
	}
	int rc = kvfs_txn_commit(&txn);
	assert_null(txn);
	if (doomed ? rc == 0 : rc != 0)
		fail_msg("operation %u, commit after %s: %d, %s", r->op, r->what, rc,
			doomed ? "and one was impossible" : strerror(-rc));
	if (rc) {
		model_free(m);
		return;
	}
	/* Sessions know the nodes of the old model: its tree takes the new content by way of the store's own operations. */
	compare(r, m, NULL);
	for (int i = 0; i < STREAMS; i++)
		if (r->open[i].session) {
			kvfs_stream_abort(r->open[i].stream);
			model_session_close(r->open[i].session);
			model_bytes_unref(r->open[i].published);
			r->open[i] = (struct open_stream){0};
		}
	model_free(r->m);
	m->reserved = NULL;
	r->m = m;
}

/* ---- streams ---- */

static void stream_gone(struct open_stream *o)
{
	model_session_close(o->session);
	model_bytes_unref(o->snapshot);
	model_bytes_unref(o->published);
	*o = (struct open_stream){0};
}

static void op_stream_open(struct run *r, struct open_stream *o)
{
	char key[KVFS_KEY_MAX + 1];
	const unsigned ways[] = {0, MODEL_TRUNCATE, MODEL_CREATE, MODEL_CREATE | MODEL_TRUNCATE, MODEL_CREATE | MODEL_EXCL};
	unsigned way = ways[below(r, 5)], flags = KVFS_STREAM_READ;
	int rc, want;

	some_key(r, key);
	if (below(r, 3) == 0) {
		say(r, "open '%s' to read", key);
		rc = kvfs_stream_open(r->store, key, flags, 0, &o->stream);
		want = model_get(r->m, key, &o->snapshot);
	} else {
		say(r, "open '%s' to write, way %u", key, way);
		flags |= KVFS_STREAM_WRITE | (way & MODEL_CREATE ? KVFS_STREAM_CREATE : 0u) |
			 (way & MODEL_EXCL ? KVFS_STREAM_EXCL : 0u) | (way & MODEL_TRUNCATE ? KVFS_STREAM_TRUNCATE : 0u);
		rc = kvfs_stream_open(r->store, key, flags, 0644, &o->stream);
		want = model_session_open(r->m, key, way, 0644, &o->session);
	}
	check(r, rc, want);
	if (rc)
		*o = (struct open_stream){0};
}

static void stream_compare(struct run *r, struct open_stream *o)
{
	const struct model_bytes *want = o->session ? o->session->view : o->snapshot;
	size_t at = below(r, 2) ? 0 : below(r, want->len + 100), n = below(r, 2) ? want->len + 10 : below(r, 5000);
	size_t there = at >= want->len ? 0 : want->len - at < n ? want->len - at : n;
	char *got = malloc(n + 1);

	if (kvfs_stream_size(o->stream) != want->len)
		fail_msg("operation %u, %s: size %" PRIu64 ", not %zu", r->op, r->what, kvfs_stream_size(o->stream), want->len);
	check(r, (int)kvfs_stream_read(o->stream, got, n, at), (int)there);
	if (there && !api_same_bytes(got, there, want->data + at, there))
		fail_msg("operation %u, %s: other bytes from %zu", r->op, r->what, at);
	free(got);
}

/* After its own publication a session goes on from that value: only while nobody else has published. */
static bool may_publish(const struct open_stream *o)
{
	return !o->published || o->session->node->links == 0 || o->session->node->value == o->published;
}

static void op_stream_end(struct run *r, struct open_stream *o)
{
	say(r, "close stream of '%s'", o->session ? o->session->key : "a reader");
	if (o->session && (below(r, 4) == 0 || !may_publish(o))) {
		kvfs_stream_abort(o->stream);
	} else {
		int want = o->session ? model_session_publish(o->session) : 0;
		check(r, kvfs_stream_close(o->stream), want);
	}
	stream_gone(o);
}

static void op_stream_write(struct run *r, struct open_stream *o)
{
	const size_t now = o->session->view->len;
	size_t len = some_length(r), at = below(r, 3) ? below(r, now + 1) : below(r, 6 * r->chunk);
	unsigned char *data = some_bytes(r, len);

	switch (below(r, 6)) {
	case 0:
		at = below(r, 2) ? below(r, now + 1) : below(r, 6 * r->chunk);
		say(r, "stream of '%s': truncate to %zu", o->session->key, at);
		check(r, kvfs_stream_truncate(o->stream, at), 0);
		model_session_truncate(o->session, at);
		break;
	case 1:
		say(r, "stream of '%s': publish", o->session->key);
		if (!may_publish(o))
			break;
		int want = model_session_publish(o->session);
		check(r, kvfs_stream_publish(o->stream), want);
		model_bytes_unref(o->published);
		o->published = want == 0 && o->session->node ? model_bytes_ref(o->session->node->value) : NULL;
		break;
	default:
		say(r, "stream of '%s': write %zu bytes at %zu", o->session->key, len, at);
		check(r, (int)kvfs_stream_write(o->stream, data, len, at), (int)len);
		model_session_write(o->session, data, len, at);
	}
	free(data);
}

static void op_stream(struct run *r)
{
	struct open_stream *o = &r->open[below(r, STREAMS)];

	if (!o->stream) {
		op_stream_open(r, o);
		return;
	}
	uint64_t what = below(r, 10);
	if (what == 0)
		op_stream_end(r, o);
	else if (o->session && what < 7)
		op_stream_write(r, o);
	if (o->stream)
		stream_compare(r, o);
}

/* ---- runs ---- */

static void open_store(struct run *r)
{
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .durability = KVFS_NONE, .buffer_size = r->large};

	assert_ok(kvfs_open(r->a->path, &opt, &r->store, NULL));
}

static void reopen(struct run *r)
{
	for (int i = 0; i < STREAMS; i++)
		if (r->open[i].stream)
			op_stream_end(r, &r->open[i]);
	compare(r, r->m, NULL);
	kvfs_close(r->store);
	open_store(r);
	compare(r, r->m, NULL);
}

static void one_operation(struct run *r)
{
	static void (*const ops[])(struct run *) = {op_put, op_put, op_put, op_append, op_del, op_del, op_make, op_rename,
		op_rename, op_link, op_attributes, op_read, op_read, op_stream, op_stream, op_stream, op_stream, op_stream,
		op_stream};

	if (below(r, 60) == 0)
		op_txn(r);
	else if (below(r, 120) == 0)
		op_del_tree(r);
	else
		ops[below(r, sizeof(ops) / sizeof(*ops))](r);
}

/* A snapshot of the whole store, kept over some hundred operations. */
static void keep_snapshot(struct run *r, struct kvfs_txn **txn, struct model **then)
{
	if (*txn) {
		compare(r, *then, *txn);
		assert_ok(kvfs_txn_commit(txn));
		model_free(*then);
	} else {
		assert_ok(kvfs_txn_begin(r->store, 0, txn));
		*then = model_clone(r->m);
	}
}

static void run(struct api *a, unsigned ops, bool large)
{
	struct run *r = calloc(1, sizeof(*r));
	struct kvfs_info info;
	struct kvfs_txn *snapshot = NULL;
	struct model *then = NULL;

	*r = (struct run){.a = a, .large = large, .m = model_new(true), .rng = support_rng(large)};
	open_store(r);
	assert_ok(kvfs_info(r->store, &info));
	r->inline_max = info.inline_max;
	r->chunk = info.chunk_size;
	r->base_directories = info.directories;
	for (r->op = 1; r->op <= ops; r->op++) {
		one_operation(r);
		if (r->op % 250 == 0)
			compare(r, r->m, NULL);
		if (r->op % 1000 == 100 || r->op % 1000 == 700)
			keep_snapshot(r, &snapshot, &then);
		else if (r->op % 1000 == 900)
			reopen(r);
	}
	if (snapshot)
		keep_snapshot(r, &snapshot, &then);
	reopen(r);
	kvfs_close(r->store);
	model_free(r->m);
	free(r);
}

static unsigned operations(void)
{
	const char *env = getenv("KVFS_OPS");

	return env && *env ? (unsigned)strtoul(env, NULL, 0) : api_times(20000);
}

static void test_random_operations(void **state)
{
	run(*state, operations(), false);
}

/* Sessions that live in hidden chunks more than in memory. */
static void test_random_operations_on_large_values(void **state)
{
	run(*state, operations() / 4, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST_DIR(test_random_operations),
		API_TEST_DIR(test_random_operations_on_large_values),
	};

	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
