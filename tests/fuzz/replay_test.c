/* What fuzzing has found, and what it came through on the way, in tests/fuzz/corpus: each target still comes to the end of all of it. */
#include <glob.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

enum { LIMIT_S = 120 };

static const char *last_lines(const char *text)
{
	size_t len = strlen(text);
	return text + (len > 300 ? len - 300 : 0);
}

static void replay(void **state)
{
	const char *target = *state;
	char pattern[100], program[500], self[400] = "", end[40], *out;
	glob_t files;
	snprintf(pattern, sizeof pattern, "tests/fuzz/corpus/%s/*", target);
	assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
	snprintf(program, sizeof program, "%s/%s_fuzz", dirname(self), target);
	assert_int_equal(glob(pattern, 0, NULL, &files), 0); /* there is a corpus */
	char **argv = calloc(files.gl_pathc + 2, sizeof *argv);
	argv[0] = program;
	memcpy(argv + 1, files.gl_pathv, files.gl_pathc * sizeof *argv);
	int status = support_exec(argv, LIMIT_S, &out);
	free(argv);
	snprintf(end, sizeof end, "\n%zu inputs\n", files.gl_pathc);
	if (status || !strstr(out, end))
		fail_msg("%s ended with status %d after:\n%s", program, status, last_lines(out));
	free(out);
	globfree(&files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{"cli", replay, NULL, NULL, "cli"},
		{"decode", replay, NULL, NULL, "decode"},
		{"key", replay, NULL, NULL, "key"},
		{"session", replay, NULL, NULL, "session"},
		{"store", replay, NULL, NULL, "store"},
	};
	return cmocka_run_group_tests_name("what fuzzing has found", tests, NULL, NULL);
}
