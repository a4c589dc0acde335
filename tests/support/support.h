/* What every cmocka program here needs: directories that go away, children that cannot hang, chance that can be repeated,
 * and checks of 0-or-negative-errno results that say what they saw.  Include it instead of <cmocka.h>. */
#ifndef KVFS_TEST_SUPPORT_H
#define KVFS_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

/* ---- checks of results */

/* The call returned exactly this errno, given negative: assert_err(kvfs_del(s, "x"), -ENOENT). */
#define assert_err(call, expected) support_check_err((call), (expected), #call, __FILE__, __LINE__)
/* The call returned 0. */
#define assert_ok(call) assert_err(call, 0)
/* The call returned this count, not an errno. */
#define assert_count(call, expected) assert_err(call, expected)
void support_check_err(int64_t got, int64_t expected, const char *call, const char *file, int line);

/* ---- directories */

/* Makes an empty directory (under $TMPDIR or /tmp) that is removed, with all in it, when this process exits; a forked child
 * removes nothing.  The string lives until then. */
const char *support_tmpdir(void);
/* A path for a store that does not exist yet, in a directory as above. */
const char *support_store_path(void);
/* Removes a tree; what is not there is no error. */
void support_remove(const char *path);

/* ---- children */

/* Runs fn(arg) in a forked child, which exits with its result (0..255); returns the wait(2) status.  After timeout_s the child is
 * killed with SIGKILL, and the test fails. */
int support_fork(int (*fn)(void *arg), void *arg, unsigned timeout_s);
/* The same, but the child must exit with 0. */
#define assert_child_ok(fn, arg, timeout_s) assert_int_equal(support_fork(fn, arg, timeout_s), 0)
/* Runs a program with stdin closed; *ret_out (may be NULL) gets what it wrote to stdout, NUL-terminated, to be freed. */
int support_exec(char *const argv[], unsigned timeout_s, char **ret_out);

/* ---- chance */

/* The seed of this run: $KVFS_SEED, else of the kernel.  Printed at its first use, so that a failure can be repeated. */
uint64_t support_seed(void);

struct support_rng {
	uint64_t state;
};
/* Distinct streams of one seed: threads and tests do not disturb one another's sequence. */
struct support_rng support_rng(uint64_t stream);
uint64_t support_random(struct support_rng *rng);
/* 0 <= result < n; n > 0. */
uint64_t support_below(struct support_rng *rng, uint64_t n);
void support_fill(struct support_rng *rng, void *buf, size_t len);

#endif
