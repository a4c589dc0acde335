/* What the API tests share, on top of support.h: a directory and a store per test, checks of values, children.
 *
 *  1. Only the public headers stand behind it: these tests know what kvfs promises, not how it keeps it.
 *  2. A child never returns into cmocka: it runs one function, whose result is its exit status, and dies of SIGALRM when
 *     that takes too long.  In a child CHECK() stands for cmocka's assertions. */
#ifndef TESTS_API_H
#define TESTS_API_H

#include "support.h"

#include <fcntl.h>
#include <inttypes.h>
#include <kvfs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a test gets: its directory, the path of the store in it, and (API_TEST) that store, open. */
struct api {
	const char *dir;
	char path[160];
	struct kvfs_store *store;
};

#define API_TEST(f) cmocka_unit_test_setup_teardown(f, api_setup, api_teardown)
#define API_TEST_DIR(f) cmocka_unit_test_setup_teardown(f, api_setup_dir, api_teardown)
int api_setup_dir(void **state);
int api_setup(void **state);
int api_teardown(void **state);

/* ---- stores and values ---- */

int api_open_as(const char *path, unsigned flags, enum kvfs_durability durability, struct kvfs_store **ret);
/* Opens without durability (what a power cut does is not these tests' business), or fails the test. */
struct kvfs_store *api_open(const char *path, unsigned flags);
/* A value that is a text, without the NUL. */
int api_put(struct kvfs_store *store, const char *key, const char *text);
bool api_same_bytes(const void *got, size_t got_len, const void *want, size_t want_len);
bool api_has_value(struct kvfs_store *store, const char *key, const void *data, size_t len);

#define assert_value(store, key, data, len) assert_true(api_has_value(store, key, data, len))
#define assert_text(store, key, text) assert_value(store, key, text, strlen(text))
#define assert_absent(store, key) assert_err(kvfs_exists(store, key), 0)
#define assert_present(store, key) assert_count(kvfs_exists(store, key), 1)

/* ---- bytes and time ---- */

/* Bytes that follow from `seed` alone. */
void api_fill(void *buf, size_t len, uint64_t seed);
/* The same, allocated. */
void *api_bytes(size_t len, uint64_t seed);
bool api_under_valgrind(void);
/* Does everything take many times longer (a sanitizer, valgrind), and more memory? */
bool api_is_slow(void);
/* How often to do a thing: fewer times where it is slow. */
unsigned api_times(unsigned n);
uint64_t api_now_ms(void);

/* ---- children ---- */

typedef int api_child_fn(void *arg);

pid_t api_fork(api_child_fn *fn, void *arg, unsigned limit_s);
/* The wait(2) status. */
int api_wait(pid_t pid);
void api_assert_child(pid_t pid, const char *file, int line);
/* Waits, and wants exit status 0. */
#define assert_child(pid) api_assert_child(pid, __FILE__, __LINE__)

/* In a child: says what failed and makes the child's function return 1. */
#define CHECK(cond)                                                                                                                \
	do {                                                                                                                       \
		if (!(cond)) {                                                                                                     \
			fprintf(stderr, "%s:%d: child: %s is false\n", __FILE__, __LINE__, #cond);                                 \
			return 1;                                                                                                  \
		}                                                                                                                  \
	} while (0)

#endif
