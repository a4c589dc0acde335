/* See api.h. */
#include "api.h"

int api_setup_dir(void **state)
{
	struct api *a = calloc(1, sizeof(*a));

	if (!a)
		return -1;
	a->dir = support_tmpdir();
	snprintf(a->path, sizeof(a->path), "%.150s/store", a->dir);
	*state = a;
	return 0;
}

int api_setup(void **state)
{
	if (api_setup_dir(state))
		return -1;
	struct api *a = *state;
	return api_open_as(a->path, KVFS_CREATE, KVFS_NONE, &a->store);
}

int api_teardown(void **state)
{
	struct api *a = *state;

	kvfs_close(a->store);
	support_remove(a->dir);
	free(a);
	return 0;
}

int api_open_as(const char *path, unsigned flags, enum kvfs_durability durability, struct kvfs_store **ret)
{
	struct kvfs_options opt = {.size = sizeof(opt), .flags = flags, .durability = durability, .purpose = "test"};
	struct kvfs_error err = {0};
	int rc = kvfs_open(path, &opt, ret, &err);

	if (rc && rc != err.code)
		fprintf(stderr, "\tkvfs_open: returns %d, its error says %d: %s\n", rc, err.code, err.text);
	return rc;
}

struct kvfs_store *api_open(const char *path, unsigned flags)
{
	struct kvfs_store *store = NULL;

	assert_ok(api_open_as(path, flags, KVFS_NONE, &store));
	assert_non_null(store);
	return store;
}

int api_put(struct kvfs_store *store, const char *key, const char *text)
{
	return kvfs_put(store, key, text, strlen(text), NULL, NULL);
}

bool api_same_bytes(const void *got, size_t got_len, const void *want, size_t want_len)
{
	const unsigned char *g = got, *w = want;
	size_t i = 0;

	while (i < got_len && i < want_len && g[i] == w[i])
		i++;
	if (i == got_len && i == want_len)
		return true;
	fprintf(stderr, "\tlength %zu, not %zu; first difference at byte %zu\n", got_len, want_len, i);
	return false;
}

bool api_has_value(struct kvfs_store *store, const char *key, const void *data, size_t len)
{
	void *got = NULL;
	size_t got_len = 0;
	int rc = kvfs_get(store, key, &got, &got_len);

	if (rc) {
		fprintf(stderr, "\tget '%.60s': %s\n", key, strerror(-rc));
		return false;
	}
	bool same = api_same_bytes(got, got_len, data, len) && ((const char *)got)[got_len] == '\0';
	free(got);
	return same;
}

void api_fill(void *buf, size_t len, uint64_t seed)
{
	struct support_rng rng = {seed};

	support_fill(&rng, buf, len);
}

void *api_bytes(size_t len, uint64_t seed)
{
	void *buf = malloc(len + 1);

	assert_non_null(buf);
	api_fill(buf, len, seed);
	return buf;
}

bool api_under_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded && strstr(preloaded, "vgpreload");
}

bool api_is_slow(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#else
	return api_under_valgrind();
#endif
}

unsigned api_times(unsigned n)
{
	return api_is_slow() ? n / 5 + 1 : n;
}

uint64_t api_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

pid_t api_fork(api_child_fn *fn, void *arg, unsigned limit_s)
{
	/* cmocka's handlers would jump back into the parent's test. */
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGALRM};

	fflush(NULL);
	pid_t pid = fork();
	if (pid)
		return pid;
	for (size_t i = 0; i < sizeof(fatal) / sizeof(*fatal); i++)
		signal(fatal[i], SIG_DFL);
	alarm(limit_s);
	_exit(fn(arg));
}

int api_wait(pid_t pid)
{
	int status = 0;

	assert_true(pid > 0);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

void api_assert_child(pid_t pid, const char *file, int line)
{
	int status = api_wait(pid);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	if (WIFSIGNALED(status))
		print_error("child died of signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
	_fail(file, line);
}
