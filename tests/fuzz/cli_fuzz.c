/* The command line, for libFuzzer: commands are run one after the other, in this process, on a store that begins empty.  Whatever they are
 * told they end, with 0, 1 or 2, and leave a store that is whole.
 *
 * An input is lines of words, a tab between them, one command each; after an empty line what they find on standard input, and in the file
 * `in`.  Options before the command are global ones.  What asks a terminal, waits for others or mounts is left out, and so is LMDB as a
 * source: its own library reads that. */
#include <fcntl.h>
#include <getopt.h>
#include <kvfs.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "support.h"

enum { WORDS_MAX = 12, COMMANDS_MAX = 6 };

int kvfs_main(int argc, char **argv);
_Noreturn void __real_exit(int status);
_Noreturn void __wrap_exit(int status);
int __real_fclose(FILE *f);
int __wrap_fclose(FILE *f);

static struct kvfs_store *store; /* kept open, so that each command finds it open */
static char store_path[200], work[200];
static jmp_buf back;
static bool running;
static int exit_status;
static int home; /* where files are named from that are not the commands' */

/* A usage error exits where it is, and leaves what it had. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:handle_segv=2:handle_sigbus=2:handle_abort=2:allocator_may_return_null=1";
}

void __wrap_exit(int status)
{
	exit_status = status;
	if (running)
		longjmp(back, 1);
	__real_exit(status);
}

/* The next command prints too. */
int __wrap_fclose(FILE *f)
{
	return running && f == stdout ? fflush(f) : __real_fclose(f);
}

static void close_store(void)
{
	kvfs_close(store);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE};
	(void)argc;
	(void)argv;
	snprintf(store_path, sizeof store_path, "%s", support_store_path());
	snprintf(work, sizeof work, "%s/work", support_tmpdir());
	setenv("XDG_DATA_HOME", work, 1);
	setenv("TMPDIR", work, 1);
	setenv("KVFS_DURABILITY", "none", 1);
	unsetenv("KVFS_STORE");
	home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(home >= 0);
	assert_ok(kvfs_open(store_path, &opt, &store, NULL));
	atexit(close_store);
	return 0;
}

/* ---- where they run ---- */

/* An empty directory, and standard input. */
static void prepare(const uint8_t *data, size_t len)
{
	support_remove(work);
	must(mkdir(work, 0700) == 0);
	must(chdir(work) == 0);
	int fd = open("in", O_RDWR | O_CREAT | O_TRUNC, 0600);
	must(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	must(dup2(fd, STDIN_FILENO) == STDIN_FILENO);
	close(fd);
}

static void rewind_input(void)
{
	must(chdir(work) == 0 && lseek(STDIN_FILENO, 0, SEEK_SET) == 0);
	clearerr(stdin);
	fflush(stdin);
}

/* ---- words ---- */

static bool is_one_of(const char *word, const char *const *list)
{
	while (*list && strcmp(*list, word) != 0)
		list++;
	return *list;
}

/* Nothing outside of `work` is named: of what takes a path no word has a '/', nor is one "..". */
static void confine(char *word)
{
	for (char *c = word; *c; c++)
		if (*c == '/')
			*c = '_';
	if (strstr(word, ".."))
		*word = '\0';
}

static bool is_left_out(int argc, char **argv)
{
	static const char *const keys_only[] = {
		"put", "get", "exists", "incr", "del", "rm", "ls", "stat", "mv", "apply", "sync", NULL};
	static const char *const others[] = {
		"info", "backup", "compact", "check", "sessions", "recover", "import", "export", "init", "help", NULL};
	bool only = false, known = false;
	for (int i = 3; i < argc; i++) {
		only = only || (!known && is_one_of(argv[i], keys_only));
		known = known || only || is_one_of(argv[i], others);
		if (!only)
			confine(argv[i]);
		if (strncmp(argv[i], "lmdb:", 5) == 0 || strstr(argv[i], "=lmdb:"))
			return true;
	}
	return !known;
}

static int call(int argc, char **argv)
{
	running = true;
	if (setjmp(back) == 0)
		exit_status = kvfs_main(argc, argv);
	running = false;
	return exit_status;
}

static void run_command(char *line)
{
	char *argv[WORDS_MAX + 4] = {"kvfs", "-s", store_path};
	int argc = 3;
	for (char *word; argc < WORDS_MAX + 3 && (word = strsep(&line, "\t"));)
		argv[argc++] = word;
	if (is_left_out(argc, argv))
		return;
	rewind_input();
	optind = 0; /* glibc: begin anew */
	int status = call(argc, argv);
	must(status >= 0 && status <= 2);
}

/* ---- one input ---- */

static void check_store(void)
{
	static unsigned turn;
	struct kvfs_check_options opt = {.size = sizeof opt, .flags = KVFS_CHECK_DATA};
	struct kvfs_check_result result;
	if (turn++ % 64 == 0) {
		must(kvfs_check(store_path, &opt, &result, NULL) == 0);
		must(result.lost == 0 && result.wrong == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const uint8_t *gap = memmem(data, len, "\n\n", 2);
	size_t head = gap ? (size_t)(gap - data) : len;
	char *text = malloc(head + 1), *rest = text, *line;
	must(text);
	memcpy(text, data, head); /* no string: no NUL ends it */
	text[head] = '\0';
	prepare(gap ? gap + 2 : data, gap ? len - head - 2 : 0);
	for (int n = 0; n < COMMANDS_MAX && (line = strsep(&rest, "\n")); n++)
		run_command(line);
	free(text);
	must(fchdir(home) == 0);
	check_store();
	must(kvfs_del_tree(store, "", NULL) == 0);
	return 0;
}
