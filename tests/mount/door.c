/* door STORE: the library's door for the mount's tests.  It stays open, so that what is measured and hurried is an operation, not the
 * start of a process.
 *
 * Asked on stdin, a line each: an operation and its arguments, which hold no blanks; `put`, `append` and `patch` are followed by LEN bytes.
 *	put KEY LEN		append KEY LEN		patch KEY LEN OFFSET...	(one session; the bytes are cut evenly over the offsets)
 *	get KEY			stat KEY (mode size)	ls DIR (a name a line; / is the root)	del KEY
 *	mv KEY KEY		swap KEY KEY		mkdir KEY		chmod KEY MODE
 * Answers `STATUS LEN` and a newline, then LEN bytes: STATUS is 0 or a negative errno. */
#include <kvfs.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 80, LINE = 4096, DATA_MAX = 64 << 20 };

struct order {
	char *word[WORDS_MAX];
	size_t words;
	char *data;
	size_t len;
};

struct answer {
	char *text;
	size_t len;
};

static int do_patch(struct kvfs_store *store, const struct order *o)
{
	struct kvfs_stream *st;
	size_t parts = o->words - 3, each = o->len / parts;
	int r = kvfs_stream_open(store, o->word[1], KVFS_STREAM_WRITE, 0644, &st);

	for (size_t i = 0; r == 0 && i < parts; i++) {
		ssize_t n = kvfs_stream_write(st, o->data + i * each, each, strtoull(o->word[3 + i], NULL, 10));

		if (n < 0) {
			kvfs_stream_abort(st);
			return (int)n;
		}
	}
	return r == 0 ? kvfs_stream_close(st) : r;
}

static int do_stat(struct kvfs_store *store, const char *key, struct answer *ret)
{
	struct kvfs_stat st;
	int r = kvfs_stat(store, key, &st), n = -1;

	if (r == 0)
		n = asprintf(&ret->text, "%o %llu", st.mode, (unsigned long long)st.size);
	if (n >= 0)
		ret->len = (size_t)n;
	return r;
}

static int do_ls(struct kvfs_store *store, const char *dir, struct answer *ret)
{
	struct kvfs_cursor *cur;
	struct kvfs_entry entry;
	FILE *out = open_memstream(&ret->text, &ret->len);
	int r = out ? kvfs_list(store, dir, NULL, &cur) : -ENOMEM;

	if (r == 0) {
		while ((r = kvfs_cursor_next(cur, &entry)) > 0)
			fprintf(out, "%s\n", entry.name);
		kvfs_cursor_close(cur);
	}
	if (out && fclose(out) != 0 && r == 0)
		r = -ENOMEM;
	return r;
}

static int do_get(struct kvfs_store *store, const char *key, struct answer *ret)
{
	void *data = NULL;
	int r = kvfs_get(store, key, &data, &ret->len);

	ret->text = data;
	return r;
}

static int do_order(struct kvfs_store *store, const struct order *o, struct answer *ret)
{
	const char *verb = o->word[0], *key = o->word[1];

	if (strcmp(verb, "put") == 0)
		return kvfs_put(store, key, o->data, o->len, NULL, NULL);
	if (strcmp(verb, "append") == 0)
		return kvfs_append(store, key, o->data, o->len);
	if (strcmp(verb, "patch") == 0 && o->words > 3)
		return do_patch(store, o);
	if (strcmp(verb, "get") == 0)
		return do_get(store, key, ret);
	if (strcmp(verb, "stat") == 0)
		return do_stat(store, key, ret);
	if (strcmp(verb, "ls") == 0)
		return do_ls(store, key, ret);
	if (strcmp(verb, "del") == 0)
		return kvfs_del(store, key);
	if (strcmp(verb, "mkdir") == 0)
		return kvfs_mkdir(store, key, 0755);
	if (strcmp(verb, "mv") == 0 && o->words > 2)
		return kvfs_rename(store, key, o->word[2], 0);
	if (strcmp(verb, "swap") == 0 && o->words > 2)
		return kvfs_rename(store, key, o->word[2], KVFS_RENAME_EXCHANGE);
	if (strcmp(verb, "chmod") == 0 && o->words > 2) {
		struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = (uint32_t)strtoul(o->word[2], NULL, 8)};

		return kvfs_setattr(store, key, &attr);
	}
	return -ENOSYS;
}

static bool has_data(const char *verb)
{
	return strcmp(verb, "put") == 0 || strcmp(verb, "append") == 0 || strcmp(verb, "patch") == 0;
}

/* False at the end of the orders, or of sense. */
static bool read_order(char *line, struct order *ret)
{
	char *rest = NULL;

	*ret = (struct order){0};
	if (!fgets(line, LINE, stdin))
		return false;
	for (char *word = strtok_r(line, " \n", &rest); word && ret->words < WORDS_MAX; word = strtok_r(NULL, " \n", &rest))
		ret->word[ret->words++] = word;
	if (ret->words < 2)
		return false;
	if (!has_data(ret->word[0]))
		return true;
	ret->len = ret->words > 2 ? strtoull(ret->word[2], NULL, 10) : DATA_MAX + 1;
	if (ret->len > DATA_MAX || !(ret->data = malloc(ret->len + 1)))
		return false;
	return fread(ret->data, 1, ret->len, stdin) == ret->len;
}

int main(int argc, char **argv)
{
	char line[LINE];
	struct kvfs_options options = {.size = sizeof(options), .durability = KVFS_NONE, .purpose = "test door"};
	struct kvfs_store *store;
	struct kvfs_error err;
	struct order order;

	if (argc != 2) {
		fprintf(stderr, "usage: door STORE\n");
		return 2;
	}
	if (kvfs_open(argv[1], &options, &store, &err) < 0) {
		fprintf(stderr, "door: %s\n", err.text);
		return 2;
	}
	while (read_order(line, &order)) {
		struct answer answer = {0};
		int r = do_order(store, &order, &answer);

		if (r < 0)
			answer.len = 0;
		printf("%d %zu\n", r, answer.len);
		if (answer.len > 0)
			fwrite(answer.text, 1, answer.len, stdout);
		fflush(stdout);
		free(answer.text);
		free(order.data);
	}
	free(order.data);
	kvfs_close(store);
	return 0;
}
