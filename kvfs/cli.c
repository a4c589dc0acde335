/* Options, the error line, and standard output. */
#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- options ---- */

int cli_usage(struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "kvfs: %s%s", cli->command ? cli->command->name : "", cli->command ? ": " : "");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (cli->command)
		fprintf(stderr, "; usage: kvfs %s\n", cli->command->synopsis);
	else
		fprintf(stderr, "; `kvfs help` lists the commands\n");
	return CLI_TROUBLE;
}

int cli_option(struct cli *cli, int argc, char **argv, const char *letters, const struct option *longs)
{
	enum { MOST = 16, HELP = 0x4e1f };
	struct option all[MOST + 2] = {{"help", no_argument, NULL, HELP}};
	char spec[64];
	int c;

	for (int n = 0; longs && longs[n].name && n < MOST; n++)
		all[n + 1] = longs[n];
	/* The ':' tells a missing argument from an unknown option; it goes after the '+'. */
	snprintf(spec, sizeof(spec), "%s:%s", letters[0] == '+' ? "+" : "", letters + (letters[0] == '+'));
	opterr = 0;
	c = getopt_long(argc, argv, spec, all, NULL);
	if (c == HELP) {
		cli_help(cli->command);
		exit(cli_finish(cli, CLI_DONE));
	}
	if (c == ':')
		exit(cli_usage(cli, "option %s needs an argument", cli_quote(argv[optind - 1])));
	if (c == '?' && optopt && optopt < 128)
		exit(cli_usage(cli, "unknown option '-%c'", optopt));
	if (c == '?')
		exit(cli_usage(cli, "unknown option %s", cli_quote(argv[optind - 1])));
	return c;
}

void cli_operands(struct cli *cli, int argc, int min, int max)
{
	if (argc - optind < min)
		exit(cli_usage(cli, "an argument is missing"));
	if (argc - optind > max)
		exit(cli_usage(cli, "too many arguments"));
}

bool cli_parse_i64(const char *s, int64_t *ret)
{
	char *end;
	intmax_t v;

	if (*s != '-' && *s != '+' && (*s < '0' || *s > '9'))
		return false;
	errno = 0;
	v = strtoimax(s, &end, 10);
	if (errno || *end || end == s)
		return false;
	*ret = v;
	return true;
}

bool cli_parse_u64(const char *s, uint64_t *ret)
{
	char *end;
	uintmax_t v;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	v = strtoumax(s, &end, 10);
	if (errno || *end)
		return false;
	*ret = v;
	return true;
}

enum kvfs_durability cli_durability(struct cli *cli, const char *name)
{
	for (enum kvfs_durability level = KVFS_FULL; kvfs_durability_name(level); level++)
		if (strcmp(name, kvfs_durability_name(level)) == 0)
			return level;
	exit(cli_usage(cli, "durability is full, relaxed or none, not %s", cli_quote(name)));
}

bool cli_choice(struct cli *cli, const char *option, const char *arg, const char *first, const char *second)
{
	if (strcmp(arg, first) != 0 && strcmp(arg, second) != 0)
		exit(cli_usage(cli, "%s is %s or %s, not %s", option, first, second, cli_quote(arg)));
	return strcmp(arg, second) == 0;
}

/* ---- errors ---- */

static const char *reason_in_words(int error)
{
	switch (error) {
	case -ENOENT:
		return "no such key";
	case -EEXIST:
		return "the key exists already";
	case -EISDIR:
		return "is a directory";
	case -ENOTDIR:
		return "a part of its path is a value, not a directory";
	case -ENOTEMPTY:
		return "the directory is not empty";
	case -ELOOP:
		return "is a symbolic link, which kvfs does not follow";
	case -ECANCELED:
		return "changed by somebody else meanwhile; nothing was done";
	case -EROFS:
		return "the store cannot be written";
	case -EUSERS:
		return "too many processes or snapshots use the store at once; try again when some have ended";
	case -ENAMETOOLONG: /* after all that could be listed; a key that is an argument has been told by kvfs_key_fault() */
		return "what is too long for a key there is left out";
	case -ENFILE:
		return "too many old values are held open; end some of their readers";
	default:
		return strerror(-error);
	}
}

const char *cli_reason(struct cli *cli, const char *key, int error)
{
	static struct kvfs_error damage;
	const char *fault;

	if ((error == -EINVAL || error == -ENAMETOOLONG) && key && (fault = kvfs_key_fault(key)))
		return fault;
	if (error == -EISDIR && key && !*key)
		return "is the root directory, not a value";
	if (error == -EEXIST && key && cli->store && kvfs_exists(cli->store, key) == 0)
		return "another program is making it, and asked to be the only one";
	if (error == -EUCLEAN && cli->store) {
		damage = (struct kvfs_error){0};
		kvfs_damage(cli->store, &damage);
		if (damage.text[0]) {
			static char text[sizeof(damage.text) + 32];

			snprintf(text, sizeof(text), "the store is damaged: %s", damage.text);
			return text;
		}
		return "the store is damaged";
	}
	return reason_in_words(error);
}

int cli_missing(int error)
{
	return error == -ENOTDIR ? -ENOENT : error;
}

int cli_fail(struct cli *cli, const char *key, int error)
{
	const char *why = cli_reason(cli, key, error);

	cli_failf(cli, key, "%s", why);
	return error == -ENOENT ? CLI_NO_KEY : CLI_TROUBLE;
}

__attribute__((format(printf, 3, 0))) static void say(struct cli *cli, const char *key, const char *fmt, va_list ap)
{
	fflush(stdout); /* so that a terminal shows things in the order they happened */
	cli_progress_clear(cli);
	fprintf(stderr, "kvfs: %s", cli->command ? cli->command->name : "kvfs");
	if (key)
		fprintf(stderr, " %s", cli_quote(*key ? key : "/"));
	fputs(": ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int cli_failf(struct cli *cli, const char *key, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(cli, key, fmt, ap);
	va_end(ap);
	cli->failed++;
	return CLI_TROUBLE;
}

void cli_warnf(struct cli *cli, const char *key, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(cli, key, fmt, ap);
	va_end(ap);
}

int cli_status(const struct cli *cli)
{
	return cli->failed ? CLI_TROUBLE : CLI_DONE;
}

/* ---- standard output ---- */

int cli_finish(struct cli *cli, int status)
{
	static bool done;

	if (done)
		return status;
	done = true;
	/* close(2) too can be the first to tell that the disk is full.  Closed from the start and never used is fine. */
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout) && (fclose(stdout) == 0 || errno == EBADF))
		return status;
	return cli_failf(cli, NULL, "standard output: %s", strerror(errno ? errno : EIO));
}

int cli_write(struct cli *cli, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(STDOUT_FILENO, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cli_failf(cli, NULL, "standard output: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
	return CLI_DONE;
}
