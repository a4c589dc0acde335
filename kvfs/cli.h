/* What all commands of the program share: the store the user chose, options, errors on one line, output.
 *
 * A command is `int cmd_<name>(struct cli *cli, int argc, char **argv)`, argv[0] being its name; it returns the exit status.
 * Invariants: a failed call that takes a `struct cli` has already printed its one line on stderr; a command prints no second
 * one.  main() closes the store and checks standard output after the command. */
#ifndef KVFS_CLI_H
#define KVFS_CLI_H

#include <getopt.h>
#include <kvfs.h>
#include <stdio.h>
#include <sys/stat.h>

enum { CLI_DONE = 0, CLI_NO_KEY = 1, CLI_TROUBLE = 2 }; /* exit statuses, all there are; of `check` 1 is: something was found */

struct cli;

struct command {
	const char *name;
	int (*run)(struct cli *cli, int argc, char **argv);
	const char *synopsis; /* after "kvfs " */
	const char *summary; /* one line, for the list of commands */
	const char *details; /* options and remarks, whole lines */
};
extern const struct command cli_commands[]; /* ends with a NULL name */
const struct command *cli_command_find(const char *name);
/* Prints what a command does, or the list of all for NULL. */
void cli_help(const struct command *c);

/* How far a command is. */
struct cli_progress {
	bool shown;
	bool drawn;
	uint64_t keys, bytes; /* so far; advanced by the command */
	uint64_t total_keys, total_bytes; /* 0 unknown */
	uint64_t part, whole; /* instead of all these, by who knows no more than that; whole 0: not */
	int64_t began_ns, next_ns;
};

struct cli {
	const struct command *command;
	const char *store_arg; /* of -s, or NULL */
	char *store_path; /* NULL until cli_choose_store() or cli_open() */
	enum { STORE_DEFAULT, STORE_BESIDE, STORE_PATH } store_kind; /* the default one, @NAME, or a path */
	struct kvfs_options options; /* preset by main(): size, purpose "command"; a command may change them before cli_open() */
	struct kvfs_store *store; /* NULL until cli_open() */
	struct cli_progress progress;
	uint64_t failed; /* times that something was said to have failed */
};

/* ---- options ---------------------------------------------------------------------------------------------------- */

/* As getopt_long(), with "--help" added to `longs` (may be NULL): prints the command's help and exits with 0.  A wrong option or a
 * missing argument prints the usage and exits with 2; no store is open then.  Begin `letters` with '+' when operands may look
 * like options. */
int cli_option(struct cli *cli, int argc, char **argv, const char *letters, const struct option *longs);
/* Checks the number of operands left after the options; exits with 2 and the usage when it is outside min..max. */
void cli_operands(struct cli *cli, int argc, int min, int max);
/* Prints `kvfs: COMMAND: why; usage: ...`; returns CLI_TROUBLE. */
__attribute__((format(printf, 2, 3))) int cli_usage(struct cli *cli, const char *fmt, ...);

/* A whole decimal number; false when `s` is anything else or does not fit. */
bool cli_parse_i64(const char *s, int64_t *ret);
bool cli_parse_u64(const char *s, uint64_t *ret);

/* Is `arg` the second of two words?  Prints the usage and exits with 2 when it is neither. */
bool cli_choice(struct cli *cli, const char *option, const char *arg, const char *first, const char *second);

/* A level of durability by its name; prints the usage and exits with 2 when there is none of that name. */
enum kvfs_durability cli_durability(struct cli *cli, const char *name);

/* ---- the store ---------------------------------------------------------------------------------------------------- */

/* Chooses the store: a path, or @NAME for one beside the default store; NULL: what -s said, else $KVFS_STORE, else the default one.
 * Fills store_path (absolute) and store_kind; prints what is wrong. */
KVFS_MUST_CHECK int cli_choose_store(struct cli *cli, const char *store);

enum {
	CLI_READ = 1 << 0, /* the command only reads */
	CLI_MAKE_DEFAULT = 1 << 1, /* the default store is made when it is not there: put, import and mount */
	CLI_MAKE = 1 << 2, /* any store is made when it is not there: --create */
};
/* Opens the chosen store into cli->store, and from then on turns a fatal signal into a line that says the store is damaged.
 * 0, or a negative errno after printing what is wrong and what to do. */
KVFS_MUST_CHECK int cli_open(struct cli *cli, unsigned flags);
/* Names the store in the line that a SIGBUS, SIGSEGV or SIGABRT prints; cli_open() does it. */
void cli_guard(const char *store_path);
/* Makes a directory and those above it, mode 0700. 0 or a negative errno. */
KVFS_MUST_CHECK int cli_make_dirs(const char *path);

/* The KEY that the user typed, checked: not against the rules, not a path under a live mount of this store.  Returns the key without a
 * leading '/', inside `arg`, or NULL after saying what is wrong.  The store must be open. */
const char *cli_key(struct cli *cli, const char *arg);

/* ---- errors --------------------------------------------------------------------------------------------------------- */

/* Prints `kvfs: COMMAND 'KEY': why` for a negative errno of a call on `key`; returns the exit status it means. */
int cli_fail(struct cli *cli, const char *key, int error);
/* For commands that ask for a key that is there: nothing is below a value, so -ENOTDIR is -ENOENT too. */
int cli_missing(int error);
/* `kvfs: COMMAND 'KEY': ...` with one's own words; `key` may be NULL.  Returns CLI_TROUBLE. */
__attribute__((format(printf, 3, 4))) int cli_failf(struct cli *cli, const char *key, const char *fmt, ...);
/* The same of what is no failure. */
__attribute__((format(printf, 3, 4))) void cli_warnf(struct cli *cli, const char *key, const char *fmt, ...);
/* What a command ends with that goes on after a failure: CLI_TROUBLE if there was one. */
int cli_status(const struct cli *cli);
/* What a negative errno means for a key of this store, in words; never NULL. */
const char *cli_reason(struct cli *cli, const char *key, int error);
/* Flushes standard output; CLI_TROUBLE after a line on stderr when something could not be written, else `status`. */
int cli_finish(struct cli *cli, int status);
/* write(2) to standard output until all is out; 0 or CLI_TROUBLE, said. */
int cli_write(struct cli *cli, const void *data, size_t len);

/* ---- output ------------------------------------------------------------------------------------------------------------ */

/* `s` in single quotes, control bytes and what is not UTF-8 as \n, \t, \xHH: safe on a terminal, one line.  The text is valid until the fourth
 * call after this one. */
const char *cli_quote(const char *s);
/* Prints a name as a shell would take it back: plain, 'quoted', or $'with\nescapes'. */
void cli_print_shell(FILE *out, const char *s);
bool cli_is_utf8(const char *s, size_t len);

/* What stands between the quotes of a JSON string: UTF-8, escaped; bytes in Base64 (in pieces: of a multiple of three bytes). */
void cli_json_text(FILE *out, const char *s, size_t len);
void cli_json_base64(FILE *out, const void *data, size_t len);
/* JSON: `"name":` and a value; `*first` places the commas.  A string that is not UTF-8 is not shown as "name" but as "name_base64". */
struct cli_json {
	FILE *out;
	bool first;
};
void cli_json_begin(struct cli_json *j, FILE *out);
void cli_json_end(struct cli_json *j); /* the closing brace */
void cli_json_name(struct cli_json *j, const char *name); /* for a value the caller prints itself */
void cli_json_string(struct cli_json *j, const char *name, const char *s);
void cli_json_uint(struct cli_json *j, const char *name, uint64_t v);
void cli_json_time(struct cli_json *j, const char *name, struct timespec t); /* UTC, "2024-02-29T23:59:59.123456789Z" */
/* All that is known of a key, as members of an object; `target` of a symbolic link, else NULL. */
void cli_json_stat(struct cli_json *j, const char *key, const struct kvfs_stat *st, const char *target);

/* 1536 -> "1.5K": as `ls -h`, powers of 1024.  Local times: with `ns`, "2024-02-29 23:59:59.123456789 +0100", else to the minute. */
struct cli_text {
	char s[48];
};
struct cli_text cli_human(uint64_t bytes);
struct cli_text cli_time(struct timespec t, bool ns);
struct cli_text cli_mode(uint32_t mode); /* "drwxr-xr-x" */
const char *cli_type(uint32_t mode); /* "value", "directory", "link", "fifo", "socket", "char device", "block device" */
/* Name of a user or group, or its number; valid until the next call. */
const char *cli_user(uint32_t uid);
const char *cli_group(uint32_t gid);

/* ---- progress ------------------------------------------------------------------------------------------------------------ */

/* A bar on stderr when that is a terminal, drawn at most ten times a second; else nothing at all. */
void cli_progress_begin(struct cli *cli);
void cli_progress_draw(struct cli *cli);
/* A kvfs_progress_fn; arg is the struct cli. */
int cli_progress_part(void *cli, uint64_t done, uint64_t total);
/* Takes the bar off the terminal until it is drawn again: before output, and at the end.  Errors do it by themselves. */
void cli_progress_clear(struct cli *cli);

/* ---- commands ------------------------------------------------------------------------------------------------------------ */

int cmd_apply(struct cli *cli, int argc, char **argv);
int cmd_backup(struct cli *cli, int argc, char **argv);
int cmd_check(struct cli *cli, int argc, char **argv);
int cmd_compact(struct cli *cli, int argc, char **argv);
int cmd_del(struct cli *cli, int argc, char **argv);
int cmd_edit(struct cli *cli, int argc, char **argv);
int cmd_exists(struct cli *cli, int argc, char **argv);
int cmd_export(struct cli *cli, int argc, char **argv);
int cmd_get(struct cli *cli, int argc, char **argv);
int cmd_help(struct cli *cli, int argc, char **argv);
int cmd_import(struct cli *cli, int argc, char **argv);
int cmd_incr(struct cli *cli, int argc, char **argv);
int cmd_info(struct cli *cli, int argc, char **argv);
int cmd_init(struct cli *cli, int argc, char **argv);
int cmd_ls(struct cli *cli, int argc, char **argv);
int cmd_mount(struct cli *cli, int argc, char **argv);
int cmd_mount_helper(struct cli *cli, int argc, char **argv);
int cmd_mv(struct cli *cli, int argc, char **argv);
int cmd_put(struct cli *cli, int argc, char **argv);
int cmd_recover(struct cli *cli, int argc, char **argv);
int cmd_sessions(struct cli *cli, int argc, char **argv);
int cmd_stat(struct cli *cli, int argc, char **argv);
int cmd_sync(struct cli *cli, int argc, char **argv);
int cmd_umount(struct cli *cli, int argc, char **argv);
int cmd_watch(struct cli *cli, int argc, char **argv);

#endif
