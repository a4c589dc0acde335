/* Groups of edits: what they save, and that nobody in one is harmed by another (contract, sections 3 and 5). */
#include "support.h"

#include <dlfcn.h>
#include <kvfs_ll.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "commit.h"
#include "garbage.h"
#include "invariants.h"

#define CHUNK 32736u
#define WORKERS_MAX 100

/* ---- a disk of our own: LMDB's calls pass here ---- */

static atomic_uint flushes, flush_us; /* how many there were, and how long one takes, instead of a real one */
static atomic_int flushes_fail, writes_fail; /* so many of the next */
static _Atomic off_t disk_end; /* no file grows past it; 0: no end */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool take_one(atomic_int *n)
{
	return atomic_load(n) > 0 && atomic_fetch_sub(n, 1) > 0;
}

int fdatasync(int fd)
{
	(void)fd;
	atomic_fetch_add(&flushes, 1);
	if (flush_us)
		usleep(flush_us);
	if (!take_one(&flushes_fail))
		return 0;
	errno = EIO;
	return -1;
}

static bool is_refused(off_t at, size_t n)
{
	if (!take_one(&writes_fail) && (!disk_end || at + (off_t)n <= disk_end))
		return false;
	errno = ENOSPC;
	return true;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	return is_refused(at, n) ? -1 : REAL(pwrite)(fd, buf, n, at);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	size_t sum = 0;
	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return is_refused(lseek(fd, 0, SEEK_CUR), sum) ? -1 : REAL(writev)(fd, iov, n);
}

/* ---- what the tests share ---- */

static struct kvfs_store *open_sized(uint64_t map_size)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_FULL, .map_size = map_size};
	struct kvfs_store *store;
	assert_ok(kvfs_open(support_store_path(), &opt, &store, NULL));
	store->core->group_ns = INT64_MAX; /* how many join must not depend on how busy the machine is */
	return store;
}

static struct kvfs_store *open_store(void)
{
	return open_sized(1 << 30);
}

static int reset(void **state)
{
	(void)state;
	flush_us = 0;
	flushes_fail = writes_fail = 0;
	disk_end = 0;
	return 0;
}

static void ends_clean(struct kvfs_store *store)
{
	check_invariants(store, NULL);
	kvfs_close(store);
}

/* LMDB transactions so far. */
static uint64_t commits(struct kvfs_store *store)
{
	struct kv_db_info info;
	assert_ok(kv_db_info(store->core->db, &info));
	return info.last_txnid;
}

static uint64_t sequence(struct kvfs_store *store)
{
	struct kv_txn txn;
	struct kv_head head;
	assert_ok(kv_db_read(store->core->db, &txn));
	assert_ok(kv_log_head(&txn, &head));
	kv_db_read_end(&txn);
	return head.seq;
}

static bool has(struct kvfs_store *store, const char *key, const char *text)
{
	void *data;
	size_t len;
	if (kvfs_get(store, key, &data, &len))
		return false;
	bool same = len == strlen(text) && memcmp(data, text, len) == 0;
	free(data);
	return same;
}

struct worker {
	pthread_t thread;
	struct kvfs_store *store;
	int (*fn)(struct worker *w);
	char key[32];
	const char *text;
	const void *data;
	size_t len;
	unsigned flags;
	uint64_t version;
	struct kvfs_txn *txn;
	struct kvfs_session *session;
	int result;
};

static int put(struct worker *w)
{
	struct kvfs_put_options opt = {.size = sizeof opt, .flags = w->flags, .version = w->version};
	const void *data = w->text ? w->text : w->data;
	return kvfs_put(w->store, w->key, data, w->text ? strlen(w->text) : w->len, &opt, w->flags ? NULL : &w->version);
}

static int del(struct worker *w)
{
	return kvfs_del(w->store, w->key);
}

static int incr(struct worker *w)
{
	return kvfs_incr(w->store, w->key, 1, NULL);
}

static int commit_txn(struct worker *w)
{
	return kvfs_txn_commit(&w->txn);
}

static int publish(struct worker *w)
{
	return kvfs_session_publish(w->session);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	w->result = w->fn(w);
	return NULL;
}

static bool are_waiting(struct kv_core *core, unsigned n)
{
	KV_GUARD(&core->queue_lock);
	return core->committing && core->queued == n;
}

/* Runs them as one group (or as many as are needed), in this order; returns the number of LMDB transactions that were committed. */
static uint64_t together(struct kvfs_store *store, struct worker *w, unsigned n)
{
	struct kv_edit ed;
	uint64_t before = commits(store);
	assert_ok(kv_commit_begin(store->core, &ed)); /* so that all have to wait */
	for (unsigned i = 0; i < n; i++) {
		w[i].store = store;
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
		while (!are_waiting(store->core, i))
			usleep(100);
	}
	kv_commit_abort(&ed);
	for (unsigned i = 0; i < n; i++)
		pthread_join(w[i].thread, NULL);
	return commits(store) - before;
}

/* ---- what is saved ---- */

static void those_who_wait_share_a_transaction_and_a_flush(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[8] = {0};
	for (int i = 0; i < 8; i++) {
		w[i] = (struct worker){.fn = put, .text = "v"};
		sprintf(w[i].key, "dir/k%d", i);
	}
	unsigned flushed = flushes;
	uint64_t seq = sequence(store);
	assert_int_equal(together(store, w, 8), 1);
	assert_int_equal(flushes - flushed, 1);
	assert_int_equal(sequence(store), seq + 8);
	for (int i = 0; i < 8; i++) {
		assert_ok(w[i].result);
		assert_int_equal(w[i].version, seq + 1 + (uint64_t)i); /* each is a commit of its own in all but this */
		assert_true(has(store, w[i].key, "v"));
	}
	ends_clean(store);
}

/* Makes this process die of the first futex(2): nothing wakes or waits for another thread. */
static int forbid_futexes(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof code / sizeof *code, code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static int put_alone(void *arg)
{
	struct kvfs_store *store = open_store();
	uint64_t before = commits(store);
	unsigned flushed = flushes;
	(void)arg;
	if (kvfs_put(store, "k", "v", 1, NULL, NULL) || forbid_futexes())
		return 1;
	for (int i = 1; i < 50; i++)
		if (kvfs_put(store, "k", "v", 1, NULL, NULL))
			return 2;
	return commits(store) - before == 50 && flushes - flushed == 50 ? 0 : 3;
}

static void a_thread_alone_waits_for_nobody(void **state)
{
	(void)state;
	assert_child_ok(put_alone, NULL, 60);
}

static int put_50(struct worker *w)
{
	int r = 0;
	for (int i = 0; r == 0 && i < 50; i++)
		r = put(w);
	return r;
}

static void threads_that_commit_in_a_loop_meet_again(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[4];
	uint64_t before = commits(store);
	flush_us = 5000;
	for (int i = 0; i < 4; i++) {
		w[i] = (struct worker){.store = store, .fn = put_50, .text = "v"};
		sprintf(w[i].key, "k%d", i);
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(w[i].thread, NULL);
		assert_ok(w[i].result);
	}
	/* 50 at best; were each group led by who came first, they would be 100 */
	assert_in_range(commits(store) - before, 50, 85);
	ends_clean(store);
}

static void a_group_is_bounded(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	static struct worker w[WORKERS_MAX];
	for (int i = 0; i < WORKERS_MAX; i++) {
		w[i] = (struct worker){.fn = incr};
		strcpy(w[i].key, "n");
	}
	assert_int_equal(together(store, w, WORKERS_MAX), 2);
	assert_true(has(store, "n", "100"));
	store->core->group_ns = 0;
	assert_int_equal(together(store, w, 4), 4);
	void *large = calloc(128, CHUNK);
	for (int i = 0; i < 3; i++) {
		w[i] = (struct worker){.fn = put, .data = large, .len = 127 * CHUNK + 20000};
		sprintf(w[i].key, "large%d", i);
	}
	assert_int_equal(together(store, w, 3), 3);
	free(large);
	for (int i = 0; i < 3; i++)
		assert_ok(w[i].result);
	ends_clean(store);
}

/* ---- neighbours ---- */

static void who_is_refused_harms_nobody(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[5] = {
		{.fn = del, .key = "absent"},
		{.fn = put, .key = "a", .text = "1"},
		{.fn = put, .key = "a", .text = "2", .flags = KVFS_IF_ABSENT}, /* there, by then */
		{.fn = del, .key = "absent"},
		{.fn = put, .key = "b", .text = "3"},
	};
	assert_int_equal(together(store, w, 5), 1);
	assert_err(w[0].result, -ENOENT);
	assert_ok(w[1].result);
	assert_err(w[2].result, -EEXIST);
	assert_err(w[3].result, -ENOENT);
	assert_ok(w[4].result);
	assert_true(has(store, "a", "1") && has(store, "b", "3"));
	ends_clean(store);
}

static void who_fails_in_the_middle_leaves_nothing(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[4] = {
		{.fn = put, .key = "a", .text = "1"},
		{.fn = put,
			.key = "new/dir/k",
			.text = "2",
			.flags = KVFS_IF_VERSION,
			.version = 7}, /* after the directories are made */
		{.fn = put, .key = "b", .text = "3"},
		{.fn = put, .key = "c", .text = "4"},
	};
	struct kvfs_info info;
	together(store, w, 4);
	assert_err(w[1].result, -ECANCELED);
	for (int i = 0; i < 4; i++)
		assert_true(i == 1 || (w[i].result == 0 && has(store, w[i].key, w[i].text)));
	assert_err(kvfs_exists(store, "new"), 0);
	assert_ok(kvfs_info(store, &info));
	assert_int_equal(info.directories, 0);

	/* and alone, or first */
	struct worker first[2] = {w[1], {.fn = put, .key = "d", .text = "5"}};
	assert_int_equal(together(store, first, 2), 1);
	assert_err(first[0].result, -ECANCELED);
	assert_ok(first[1].result);
	assert_err(kvfs_exists(store, "new"), 0);
	ends_clean(store);
}

/* What a refusal rests on must not be something that then did not happen. */
static void a_refusal_stands_only_with_what_caused_it(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[2] = {
		{.fn = put, .key = "k", .text = "1"},
		{.fn = put, .key = "k", .text = "2", .flags = KVFS_IF_ABSENT},
	};
	writes_fail = 2; /* of the group, and of the first alone */
	assert_int_equal(together(store, w, 2), 1);
	assert_err(w[0].result, -ENOSPC);
	assert_ok(w[1].result);
	assert_true(has(store, "k", "2"));
	ends_clean(store);
}

static void fill_steadily(struct kvfs_store *store)
{
	for (int i = 0; i < 100; i++)
		assert_ok(kvfs_put(store, "small0", "v", 1, NULL, NULL));
}

static void who_finds_no_space_harms_nobody(void **state)
{
	(void)state;
	for (int full_map = 0; full_map < 2; full_map++) {
		struct kvfs_store *store = open_sized(full_map ? 3 << 20 : 1 << 30);
		void *large = calloc(100, CHUNK);
		struct worker w[4] = {
			{.fn = put, .key = "small1", .text = "1"},
			{.fn = put, .key = "large", .data = large, .len = 100 * CHUNK},
			{.fn = put, .key = "small2", .text = "2"},
			{.fn = put, .key = "small3", .text = "3"},
		};
		struct kv_db_info info;
		fill_steadily(store);
		assert_ok(kv_db_info(store->core->db, &info));
		disk_end = full_map ? 0 : (off_t)(info.file_pages + 20) * info.page_size;
		/* where the edit itself fails, those who had not joined yet are the next group */
		assert_int_equal(together(store, w, 4), full_map ? 2 : 3);
		assert_err(w[1].result, -ENOSPC);
		for (int i = 0; i < 4; i++)
			assert_true(i == 1 || (w[i].result == 0 && has(store, w[i].key, w[i].text)));
		assert_err(kvfs_exists(store, "large"), 0);
		disk_end = 0;
		free(large);
		ends_clean(store);
	}
}

static void a_failed_flush_is_everybodys(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[4] = {
		{.fn = put, .key = "a", .text = "1"},
		{.fn = put, .key = "a", .text = "2", .flags = KVFS_IF_ABSENT},
		{.fn = put, .key = "b", .text = "3"},
		{.fn = del, .key = "absent"},
	};
	unsigned before = flushes;
	flushes_fail = 1;
	assert_int_equal(together(store, w, 4), 0);
	assert_int_equal(flushes - before, 1); /* the second might seem to succeed */
	for (int i = 0; i < 4; i++)
		assert_err(w[i].result, -EIO);
	assert_err(kvfs_exists(store, "a"), 0);
	ends_clean(store);
}

/* ---- write transactions ---- */

static void transactions_of_one_group_conflict(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[3];
	assert_ok(kvfs_put(store, "k", "0", 1, NULL, NULL));
	for (int i = 0; i < 3; i++) {
		w[i] = (struct worker){.fn = commit_txn};
		assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &w[i].txn));
		if (i < 2)
			assert_ok(kvfs_txn_incr(w[i].txn, "k", 1, NULL)); /* from the same snapshot */
		else
			assert_ok(kvfs_txn_put(w[i].txn, "other", "x", 1, NULL));
	}
	assert_int_equal(together(store, w, 3), 1);
	assert_ok(w[0].result);
	assert_err(w[1].result, -ECANCELED);
	assert_ok(w[2].result);
	assert_true(has(store, "k", "1"));
	ends_clean(store);
}

/* ---- sessions ---- */

static void sessions_are_published_again_after_a_failed_group(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_cred cred = {getuid(), getgid()};
	struct worker w[4];
	char name[16], text[24];
	for (int i = 0; i < 4; i++) {
		w[i] = (struct worker){.fn = publish};
		sprintf(name, "s%d", i);
		sprintf(text, "text %d", i);
		assert_ok(kvfs_session_create(store, KVFS_ROOT_INO, name, 0644, cred, true, &w[i].session));
		assert_count(kvfs_session_write(w[i].session, text, 6, 0), 6);
		assert_count(kvfs_session_write(w[i].session, text, 6, 2 * CHUNK), 6);
	}
	writes_fail = 1;
	assert_int_equal(together(store, w, 4), 4);
	assert_int_equal(kv_doors_holds(store->core->doors), 4); /* each its own, once */
	for (int i = 0; i < 4; i++) {
		struct kvfs_session *again;
		char got[6];
		assert_ok(w[i].result);
		assert_count(kvfs_session_read(w[i].session, got, 6, 2 * CHUNK), 6);
		assert_memory_equal(got + 5, &"0123"[i], 1);
		sprintf(name, "s%d", i);
		assert_ok(kvfs_del(store, name));
		assert_ok(kvfs_session_create(store, KVFS_ROOT_INO, name, 0644, cred, true, &again)); /* no reservation is left */
		kvfs_session_close(again);
		kvfs_session_close(w[i].session);
	}
	assert_int_equal(kv_doors_holds(store->core->doors), 0);
	ends_clean(store);
}

/* ---- the reaper ---- */

static bool has_garbage(struct kvfs_store *store)
{
	struct kv_txn txn;
	struct kv_garbage g;
	assert_ok(kv_db_read(store->core->db, &txn));
	int r = kv_garbage_seek(&txn, 0, 0, &g);
	kv_db_read_end(&txn);
	return r == 0;
}

static void nothing_is_freed_in_the_transaction_that_retired_it(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	void *old = calloc(4, CHUNK);
	struct worker w[3] = {
		{.fn = put, .key = "k", .text = "new"},
		{.fn = put, .key = "a", .text = "1"},
		{.fn = put, .key = "b", .text = "2"},
	};
	assert_ok(kvfs_put(store, "k", old, 4 * CHUNK, NULL, NULL));
	check_drained(store);
	assert_int_equal(together(store, w, 3), 1);
	assert_true(has_garbage(store)); /* readers of the state before may still come for it (R1) */
	check_drained(store);
	assert_false(has_garbage(store));
	free(old);
	ends_clean(store);
}

/* ---- who is told ---- */

struct told {
	unsigned n, own;
};

static int tell(void *arg, const struct kvfs_ll_change *c)
{
	struct told *t = arg;
	t->n++;
	t->own += c->own;
	return 0;
}

static void the_feed_knows_all_of_a_group_as_its_own(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_feed *feed;
	struct worker w[6];
	assert_ok(kvfs_feed_open(store, &feed));
	for (int failed = 0; failed < 2; failed++) {
		struct told told = {0};
		for (int i = 0; i < 6; i++) {
			w[i] = (struct worker){.fn = put, .text = "v"};
			sprintf(w[i].key, "k%d", i);
		}
		writes_fail = failed;
		assert_int_equal(together(store, w, 6), failed ? 6 : 1);
		assert_int_equal(kvfs_feed_read(feed, tell, &told), 0);
		assert_int_equal(told.n, 6);
		assert_int_equal(told.own, 6);
	}
	kvfs_feed_close(feed);
	ends_clean(store);
}

/* ---- threads that are cancelled ---- */

static void who_is_cancelled_while_waiting_leaves_no_hole(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct worker w[3];
	struct kv_edit ed;
	assert_ok(kv_commit_begin(store->core, &ed));
	for (int i = 0; i < 3; i++) {
		w[i] = (struct worker){.store = store, .fn = put, .text = "v"};
		sprintf(w[i].key, "k%d", i);
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
		while (!are_waiting(store->core, (unsigned)i))
			usleep(100);
	}
	pthread_cancel(w[0].thread); /* it leads */
	pthread_cancel(w[1].thread);
	kv_commit_abort(&ed);
	for (int i = 0; i < 3; i++)
		pthread_join(w[i].thread, NULL);
	for (int i = 0; i < 3; i++)
		assert_true(has(store, w[i].key, "v"));
	assert_ok(kvfs_put(store, "after", "v", 1, NULL, NULL));
	ends_clean(store);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, reset)
	const struct CMUnitTest tests[] = {
		TEST(those_who_wait_share_a_transaction_and_a_flush),
		TEST(a_thread_alone_waits_for_nobody),
		TEST(threads_that_commit_in_a_loop_meet_again),
		TEST(a_group_is_bounded),
		TEST(who_is_refused_harms_nobody),
		TEST(who_fails_in_the_middle_leaves_nothing),
		TEST(a_refusal_stands_only_with_what_caused_it),
		TEST(who_finds_no_space_harms_nobody),
		TEST(a_failed_flush_is_everybodys),
		TEST(transactions_of_one_group_conflict),
		TEST(sessions_are_published_again_after_a_failed_group),
		TEST(nothing_is_freed_in_the_transaction_that_retired_it),
		TEST(the_feed_knows_all_of_a_group_as_its_own),
		TEST(who_is_cancelled_while_waiting_leaves_no_hole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
