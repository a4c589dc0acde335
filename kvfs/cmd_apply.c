/* kvfs apply: a batch of changes as one transaction.
 *
 * The format is lines of words; see `kvfs help apply`.  It is safe for any bytes: what is not plain stands in double quotes, escaped, so
 * that a line is always a line.  The whole input is read, and checked, before anything is locked or changed. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	WORDS_MAX = 3,
	LINE_MAX_BYTES = 4 * KVFS_TXN_BYTES_MAX + 65536, /* the largest value, each byte written as \xHH */
};

struct word {
	char *text; /* inside the line; a NUL follows */
	size_t len;
};

struct batch {
	struct cli *cli;
	struct kvfs_txn *txn;
	uint64_t line; /* number of the line in hand, from 1 */
	mode_t mode; /* of new keys */
};

struct operation {
	const char *name;
	size_t words; /* arguments */
	int (*run)(struct batch *b, const struct word *w);
};

static int fail_line(struct batch *b, const char *key, int r)
{
	const char *why = r == -E2BIG ? "a batch holds 4,000 changes and 8 MiB of values at most: split it"
				      : cli_reason(b->cli, key, r);
	cli_failf(b->cli, key, "line %ju: %s; nothing was applied", (uintmax_t)b->line, why);
	return r == -ENOENT ? CLI_NO_KEY : CLI_TROUBLE;
}

static int fail_words(struct batch *b, const char *why)
{
	return cli_failf(b->cli, NULL, "line %ju: %s; nothing was applied", (uintmax_t)b->line, why);
}

/* ---- operations ---- */

static int run_put(struct batch *b, const struct word *w)
{
	struct kvfs_put_options opt = {.size = sizeof(opt), .mode = b->mode};
	int r = kvfs_txn_put(b->txn, w[0].text, w[1].text, w[1].len, &opt);

	return r < 0 ? fail_line(b, w[0].text, r) : CLI_DONE;
}

static int run_del(struct batch *b, const struct word *w)
{
	int r = kvfs_txn_del(b->txn, w[0].text);

	return r < 0 ? fail_line(b, w[0].text, r) : CLI_DONE;
}

static int run_incr(struct batch *b, const struct word *w)
{
	int64_t delta, sum;
	int r;

	if (strlen(w[1].text) != w[1].len || !cli_parse_i64(w[1].text, &delta))
		return fail_words(b, "incr: N is not a whole number of 64 bits");
	r = kvfs_txn_incr(b->txn, w[0].text, delta, &sum);
	if (r == -EDOM)
		return fail_words(b, "incr: the value is not a whole number of 64 bits");
	return r < 0 ? fail_line(b, w[0].text, r) : CLI_DONE;
}

static int run_mv(struct batch *b, const struct word *w)
{
	int r;

	if (strlen(w[1].text) != w[1].len)
		return fail_words(b, "mv: a key holds no NUL byte");
	r = kvfs_txn_rename(b->txn, w[0].text, w[1].text, 0);
	return r < 0 ? fail_line(b, r == -ENOENT ? w[0].text : w[1].text, r) : CLI_DONE;
}

static int run_check(struct batch *b, const struct word *w)
{
	bool absent = strcmp(w[1].text, "absent") == 0;
	uint64_t version = 0;
	struct kvfs_stat st;
	int r;

	if (!absent && (strlen(w[1].text) != w[1].len || !cli_parse_u64(w[1].text, &version)))
		return fail_words(b, "check: neither a version nor \"absent\"");
	r = kvfs_txn_stat(b->txn, w[0].text, &st);
	if (r < 0 && r != -ENOENT)
		return fail_line(b, w[0].text, r);
	if (absent ? r == -ENOENT : r == 0 && st.version == version)
		return CLI_DONE;
	if (r == -ENOENT)
		return cli_failf(b->cli, w[0].text, "line %ju: the check failed, there is no such key; nothing was applied",
			(uintmax_t)b->line);
	return cli_failf(b->cli, w[0].text, "line %ju: the check failed, the key is at version %ju; nothing was applied",
		(uintmax_t)b->line, (uintmax_t)st.version);
}

static const struct operation operations[] = {
	{"put", 2, run_put},
	{"del", 1, run_del},
	{"incr", 2, run_incr},
	{"mv", 2, run_mv},
	{"check", 2, run_check},
};

/* ---- lines ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undoes the escape that follows a backslash at *p; the byte, or -1. */
static int unescape(char **p, const char *end)
{
	int high, low;

	if (*p == end)
		return -1;
	switch (*(*p)++) {
	case '\\':
		return '\\';
	case '"':
		return '"';
	case 'n':
		return '\n';
	case 't':
		return '\t';
	case 'r':
		return '\r';
	case 'x':
		if (end - *p < 2 || (high = hex_digit((*p)[0])) < 0 || (low = hex_digit((*p)[1])) < 0)
			return -1;
		*p += 2;
		return high << 4 | low;
	default:
		return -1;
	}
}

/* A word in double quotes, *p after the first of them; undone in place, since it never grows.  NULL or what is wrong. */
static const char *quoted_word(char **p, const char *end, struct word *ret)
{
	char *to = ret->text = *p;

	while (*p < end && **p != '"') {
		int c = (unsigned char)*(*p)++;

		if (c == '\\' && (c = unescape(p, end)) < 0)
			return "a backslash begins none of \\\\ \\\" \\n \\t \\r \\xHH";
		*to++ = (char)c;
	}
	if (*p == end)
		return "a double quote is not closed";
	(*p)++;
	if (*p < end && **p != ' ' && **p != '\t')
		return "after a closing double quote comes a blank";
	ret->len = (size_t)(to - ret->text);
	*to = '\0'; /* at the latest, on the closing quote */
	return NULL;
}

static const char *plain_word(char **p, const char *end, struct word *ret)
{
	ret->text = *p;
	while (*p < end && **p != ' ' && **p != '\t') {
		if (**p == '"' || **p == '\\')
			return "a word with a double quote or a backslash in it must stand in double quotes";
		(*p)++;
	}
	ret->len = (size_t)(*p - ret->text);
	if (*p < end)
		*(*p)++ = '\0';
	return NULL;
}

/* Splits [line, end), which a NUL follows, into at most n words.  NULL or what is wrong. */
static const char *split(char *line, const char *end, struct word *words, size_t n, size_t *ret)
{
	char *p = line;

	for (*ret = 0;; (*ret)++) {
		const char *wrong;

		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (p == end)
			return NULL;
		if (*ret == n)
			return "too many words; one with blanks in it stands in double quotes";
		if (*p == '"') {
			p++;
			wrong = quoted_word(&p, end, &words[*ret]);
		} else {
			wrong = plain_word(&p, end, &words[*ret]);
		}
		if (wrong)
			return wrong;
	}
}

static int apply_line(struct batch *b, char *line, size_t len)
{
	struct word words[WORDS_MAX] = {0};
	const char *wrong, *key;
	size_t n = 0;

	wrong = *line == '#' ? NULL : split(line, line + len, words, WORDS_MAX, &n);
	if (wrong)
		return fail_words(b, wrong);
	if (n == 0)
		return CLI_DONE;
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		const struct operation *op = &operations[i];

		if (strcmp(words[0].text, op->name) != 0)
			continue;
		if (n - 1 != op->words || !words[1].text)
			return fail_words(b, "a word is missing, or one too many");
		if (strlen(words[1].text) != words[1].len)
			return fail_words(b, "a key holds no NUL byte");
		key = kvfs_key_fault(words[1].text);
		if (key)
			return cli_failf(b->cli, words[1].text, "line %ju: %s; nothing was applied", (uintmax_t)b->line, key);
		return op->run(b, words + 1);
	}
	return fail_words(b, "begins with none of put, del, incr, mv, check");
}

/* One line without its newline, with a NUL after it: 1, 0 at the end of the input, or a negative errno. */
static int read_line(char **buf, size_t *cap, size_t *ret_len)
{
	size_t len = 0;
	int c;

	errno = 0;
	while ((c = getc_unlocked(stdin)) != EOF && c != '\n') {
		if (len + 1 >= *cap) {
			size_t more = *cap ? 2 * *cap : 4096;
			char *larger = len < LINE_MAX_BYTES ? realloc(*buf, more) : NULL;

			if (!larger)
				return len < LINE_MAX_BYTES ? -ENOMEM : -E2BIG;
			*buf = larger;
			*cap = more;
		}
		(*buf)[len++] = (char)c;
	}
	if (ferror(stdin))
		return errno ? -errno : -EIO;
	if (c == EOF && len == 0)
		return 0;
	if (*cap)
		(*buf)[len] = '\0';
	*ret_len = len;
	return 1;
}

static int apply_input(struct batch *b)
{
	char *line = NULL;
	size_t cap = 0, len = 0;
	int r, status = CLI_DONE;

	while (status == CLI_DONE && (r = read_line(&line, &cap, &len)) != 0) {
		b->line++;
		if (r < 0)
			status = cli_failf(b->cli, NULL, "line %ju: %s; nothing was applied", (uintmax_t)b->line,
				r == -E2BIG ? "too long" : strerror(-r));
		else if (len)
			status = apply_line(b, line, len);
	}
	free(line);
	return status;
}

int cmd_apply(struct cli *cli, int argc, char **argv)
{
	struct batch b = {.cli = cli};
	char key[KVFS_KEY_MAX + 1];
	mode_t mask = umask(0);
	int r, status;

	umask(mask);
	b.mode = 0666 & ~mask;
	while (cli_option(cli, argc, argv, "", NULL) != -1)
		;
	cli_operands(cli, argc, 0, 0);
	if (cli_open(cli, 0) < 0)
		return CLI_TROUBLE;
	r = kvfs_txn_begin(cli->store, KVFS_TXN_WRITE, &b.txn);
	if (r < 0)
		return cli_failf(cli, NULL, "%s", cli_reason(cli, NULL, r));
	status = apply_input(&b);
	if (status != CLI_DONE) {
		kvfs_txn_abort(b.txn);
		return status;
	}
	r = kvfs_txn_commit_key(&b.txn, key);
	if (r == -ECANCELED)
		return cli_failf(cli, key, "somebody else changed it meanwhile; nothing was applied, try again");
	if (r < 0)
		return cli_failf(cli, *key ? key : NULL, "%s; nothing was applied", cli_reason(cli, key, r));
	return CLI_DONE;
}
