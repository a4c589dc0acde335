/* Groups of edits among threads that do as they like: none feels another's failures, and what has returned is there after a kill. */
#include "support.h"

#include <dlfcn.h>
#include <kvfs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"
#include "invariants.h"
#include "model.h"

/* ---- a disk of our own: LMDB's calls pass here ---- */

static atomic_uint full_every, writes; /* every so many writes of pages finds no space; 0: none */

/* Long enough that others come meanwhile. */
int fdatasync(int fd)
{
	(void)fd;
	usleep(300);
	return 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool is_refused(size_t n)
{
	if (!full_every || n < 4096 || ++writes % full_every)
		return false;
	errno = ENOSPC;
	return true;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	return is_refused(n) ? -1 : REAL(pwrite)(fd, buf, n, at);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	return is_refused(4096) ? -1 : REAL(writev)(fd, iov, n);
}

/* ---- what the tests share ---- */

static struct kvfs_store *open_at(const char *path)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_FULL, .map_size = 1 << 30};
	struct kvfs_store *store = NULL;
	return kvfs_open(path, &opt, &store, NULL) ? NULL : store;
}

/* There were groups: a sequence for each edit, a transaction for some together. */
static void assert_groups(struct kvfs_store *store)
{
	struct kv_db_info info;
	struct kv_txn txn;
	struct kv_head head;
	assert_ok(kv_db_info(store->core->db, &info));
	assert_ok(kv_db_read(store->core->db, &txn));
	assert_ok(kv_log_head(&txn, &head));
	kv_db_read_end(&txn);
	assert_true(info.last_txnid < head.seq);
}

/* ---- at random ---- */

#define THREADS 6

struct player {
	pthread_t thread;
	struct kvfs_store *store;
	unsigned id, ops;
	unsigned keys; /* there at the end */
	char wrong[200];
};

static void some_key(struct support_rng *rng, unsigned id, char *key)
{
	static const char *const names[] = {"a", "b", "c"};
	int at = sprintf(key, "t%u", id);
	for (uint64_t depth = 1 + support_below(rng, 3); depth; depth--)
		at += sprintf(key + at, "/%s", names[support_below(rng, 3)]);
}

struct operation {
	uint64_t what;
	char key[32], key2[32], data[64];
	size_t len;
};

static int on_store(struct kvfs_store *store, const struct operation *op)
{
	struct kvfs_put_options absent = {.size = sizeof absent, .flags = KVFS_IF_ABSENT};
	struct kvfs_put_options other = {.size = sizeof other, .flags = KVFS_IF_VERSION, .version = UINT64_MAX};
	switch (op->what) {
	case 0:
		return kvfs_put(store, op->key, op->data, op->len, &absent, NULL);
	case 1: /* fails always, and after the directories are made */
		return kvfs_put(store, op->key, op->data, op->len, &other, NULL);
	case 2:
		return kvfs_append(store, op->key, op->data, op->len);
	case 3:
		return kvfs_del(store, op->key);
	case 4:
		return kvfs_rename(store, op->key, op->key2, 0);
	default:
		return kvfs_put(store, op->key, op->data, op->len, NULL, NULL);
	}
}

static int on_model(struct model *m, const struct operation *op)
{
	switch (op->what) {
	case 0:
		return model_put(m, op->key, op->data, op->len, MODEL_IF_ABSENT, 0644);
	case 1:
		return -ECANCELED;
	case 2:
		return model_append(m, op->key, op->data, op->len);
	case 3:
		return model_del(m, op->key);
	case 4:
		return model_rename(m, op->key, op->key2, 0);
	default:
		return model_put(m, op->key, op->data, op->len, 0, 0644);
	}
}

/* One operation on the store and on the model; false: they differ. */
static bool play_one(struct player *p, struct model *m, struct support_rng *rng)
{
	struct operation op = {.what = support_below(rng, 7), .len = support_below(rng, sizeof op.data)};
	int got = -ENOSPC, want;
	some_key(rng, p->id, op.key);
	some_key(rng, p->id, op.key2);
	support_fill(rng, op.data, op.len);
	want = on_model(m, &op);
	for (int tries = 0; got == -ENOSPC && tries < 20; tries++)
		got = on_store(p->store, &op);
	if ((got < 0) == (want < 0))
		return true;
	snprintf(p->wrong, sizeof p->wrong, "operation %d on %s, %s: %d, not %d", (int)op.what, op.key, op.key2, got, want);
	return false;
}

static void compare(void *arg, const char *key, const struct model_node *node)
{
	struct player *p = arg;
	void *data;
	size_t len;
	p->keys++;
	if (!node->value) {
		if (kvfs_exists(p->store, key) != 1)
			snprintf(p->wrong, sizeof p->wrong, "%s: no directory", key);
		return;
	}
	if (kvfs_get(p->store, key, &data, &len)) {
		snprintf(p->wrong, sizeof p->wrong, "%s: absent", key);
		return;
	}
	if (len != node->value->len || memcmp(data, node->value->data, len) != 0)
		snprintf(p->wrong, sizeof p->wrong, "%s: other bytes", key);
	free(data);
}

static void *play(void *arg)
{
	struct player *p = arg;
	struct support_rng rng = support_rng(p->id);
	struct model *m = model_new(true);
	for (unsigned i = 0; i < p->ops && play_one(p, m, &rng); i++)
		;
	if (!*p->wrong)
		model_walk(m, compare, p);
	model_free(m);
	return NULL;
}

/* Each thread has keys of its own and a model of them: that it is never wrong means that none feels the others' failures, nor a disk that is full
 * now and then. */
static void threads_do_not_feel_one_another(void **state)
{
	(void)state;
	struct kvfs_info info;
	unsigned keys = 0;
	struct kvfs_store *store = open_at(support_store_path());
	struct player p[THREADS];
	const char *ops = getenv("KVFS_OPS");
	assert_non_null(store);
	support_seed(); /* before there are threads */
	full_every = 50;
	for (unsigned i = 0; i < THREADS; i++) {
		p[i] = (struct player){.store = store, .id = i, .ops = ops ? (unsigned)atoi(ops) : 600};
		assert_int_equal(pthread_create(&p[i].thread, NULL, play, &p[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(p[i].thread, NULL);
	full_every = 0;
	for (unsigned i = 0; i < THREADS; i++) {
		if (*p[i].wrong)
			fail_msg("thread %u: %s", i, p[i].wrong);
		keys += p[i].keys;
	}
	assert_ok(kvfs_info(store, &info));
	assert_int_equal(info.values + info.directories, keys);
	assert_groups(store);
	check_invariants(store, NULL);
	kvfs_close(store);
}

/* ---- killed ---- */

enum { ROUNDS = 15 };

struct shared {
	char path[200];
	_Atomic uint64_t returned[THREADS];
};

struct counter {
	struct kvfs_store *store;
	struct shared *shared;
	unsigned id;
};

static void *count_up(void *arg)
{
	struct counter *c = arg;
	char key[16], text[24];
	sprintf(key, "n%u", c->id);
	for (uint64_t n = c->shared->returned[c->id] + 1;; n++) {
		sprintf(text, "%llu", (unsigned long long)n);
		if (kvfs_put(c->store, key, text, strlen(text), NULL, NULL))
			_exit(1);
		c->shared->returned[c->id] = n;
	}
	return NULL;
}

static void count_until_killed(struct shared *shared)
{
	struct counter c[THREADS];
	pthread_t thread;
	alarm(60);
	for (unsigned i = 0; i < THREADS; i++) {
		c[i] = (struct counter){.shared = shared, .id = i};
		c[i].store = open_at(shared->path);
		if (!c[i].store || pthread_create(&thread, NULL, count_up, &c[i]))
			_exit(1);
	}
	pause();
}

static void what_has_returned_survives_a_kill(void **state)
{
	(void)state;
	struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct support_rng rng = support_rng(99);
	assert_ptr_not_equal(shared, MAP_FAILED);
	strcpy(shared->path, support_store_path());
	for (int round = 0; round < ROUNDS; round++) {
		struct kvfs_store *store;
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			count_until_killed(shared);
			_exit(1);
		}
		while (!shared->returned[0])
			usleep(1000);
		usleep((useconds_t)support_below(&rng, 50000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		store = open_at(shared->path);
		assert_non_null(store);
		for (unsigned i = 0; i < THREADS; i++) {
			char key[16], text[24] = "0";
			sprintf(key, "n%u", i);
			ssize_t n = kvfs_get_into(store, key, text, sizeof text - 1, 0);
			text[n > 0 ? n : 0] = 0;
			uint64_t has_n = strtoull(text, NULL, 10);
			assert_in_range(has_n, shared->returned[i], shared->returned[i] + 1);
			shared->returned[i] = has_n;
		}
		if (round == ROUNDS - 1) /* by then: one that was killed at once may have had none */
			assert_groups(store);
		check_invariants(store, NULL);
		kvfs_close(store);
	}
	munmap(shared, sizeof *shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_do_not_feel_one_another),
		cmocka_unit_test(what_has_returned_survives_a_kill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
