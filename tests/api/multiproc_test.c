/* Several processes on the same keys: every value read is one that somebody published, whole; what was acknowledged before a
 * kill -9 is there, and the store opens; money is neither made nor lost. */
#include "api.h"

#include <pthread.h>

/* ---- values that say what they are ---- */

struct header {
	uint64_t sum; /* over the rest of the header and the bytes behind it */
	uint64_t len; /* of the whole value */
	uint32_t key, writer;
	uint64_t count;
};

static uint64_t sum_of(const unsigned char *p, size_t len)
{
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 8; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3;
	return h;
}

static void make_value(unsigned char *p, size_t len, uint32_t key, uint32_t writer, uint64_t count)
{
	struct header h = {.len = len, .key = key, .writer = writer, .count = count};

	api_fill(p + sizeof(h), len - sizeof(h), count * 64 + writer);
	memcpy(p, &h, sizeof(h));
	h.sum = sum_of(p, len);
	memcpy(p, &h, sizeof(h));
}

static bool is_whole(const unsigned char *p, size_t len, uint32_t key)
{
	struct header h;

	if (len < sizeof(h))
		return false;
	memcpy(&h, p, sizeof(h));
	return h.len == len && h.key == key && h.sum == sum_of(p, len);
}

/* ---- hammering ---- */

enum { KEYS = 6, HAMMERS = 4, LONGEST = 200000 };

struct hammer {
	const char *path;
	int id;
	unsigned turns;
	bool unpublished; /* leaves streams behind when it ends */
	struct kvfs_store *store;
	struct support_rng rng;
	unsigned char *buf;
};

static size_t some_length(struct hammer *h)
{
	static const size_t most[] = {100, 2000, 20000, LONGEST};

	return sizeof(struct header) + support_below(&h->rng, most[support_below(&h->rng, 4)] - sizeof(struct header));
}

static int write_stream(struct hammer *h, const char *key, size_t len)
{
	struct kvfs_stream *st;
	size_t at = 0;

	CHECK(kvfs_stream_open(h->store, key, KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE, 0644, &st) == 0);
	while (at < len) {
		size_t n = 1 + support_below(&h->rng, 30000);
		n = len - at < n ? len - at : n;
		CHECK(kvfs_stream_write(st, h->buf + at, n, at) == (ssize_t)n);
		at += n;
	}
	if (support_below(&h->rng, 5) == 0) {
		kvfs_stream_abort(st);
		return 0;
	}
	CHECK(kvfs_stream_close(st) == 0);
	return 0;
}

static int read_stream(struct hammer *h, const char *key, uint32_t number)
{
	struct kvfs_stream *st;
	size_t at = 0;
	int rc = kvfs_stream_open(h->store, key, KVFS_STREAM_READ, 0, &st);

	if (rc == -ENOENT)
		return 0;
	CHECK(rc == 0);
	size_t size = kvfs_stream_size(st);
	CHECK(size <= LONGEST);
	while (at < size) {
		ssize_t n = kvfs_stream_read(st, h->buf + at, 1 + support_below(&h->rng, 20000), at);
		CHECK(n > 0);
		at += (size_t)n;
	}
	CHECK(at == size && is_whole(h->buf, size, number));
	CHECK(kvfs_stream_close(st) == 0);
	return 0;
}

static int hammer_once(struct hammer *h, unsigned turn)
{
	uint32_t number = (uint32_t)support_below(&h->rng, KEYS);
	char key[40];
	size_t len;
	void *data;
	int rc;

	snprintf(key, sizeof(key), "shared/%u/key", number);
	switch (support_below(&h->rng, 8)) {
	case 0:
	case 1:
		len = some_length(h);
		make_value(h->buf, len, number, (uint32_t)h->id, turn);
		CHECK(kvfs_put(h->store, key, h->buf, len, NULL, NULL) == 0);
		return 0;
	case 2:
		len = some_length(h);
		make_value(h->buf, len, number, (uint32_t)h->id, turn);
		return write_stream(h, key, len);
	case 3:
	case 4:
		return read_stream(h, key, number);
	case 5:
		rc = support_below(&h->rng, 4) ? 0 : kvfs_del(h->store, key);
		CHECK(rc == 0 || rc == -ENOENT);
		CHECK(kvfs_incr(h->store, "turns", 1, NULL) == 0);
		return 0;
	default:
		rc = kvfs_get(h->store, key, &data, &len);
		if (rc == -ENOENT)
			return 0;
		CHECK(rc == 0);
		CHECK(is_whole(data, len, number));
		free(data);
		return 0;
	}
}

static int hammer_child(void *arg)
{
	struct hammer *h = arg;

	h->buf = malloc(LONGEST);
	CHECK(h->buf);
	h->rng.state += (uint64_t)h->id * 7919;
	CHECK(api_open_as(h->path, 0, KVFS_NONE, &h->store) == 0);
	for (unsigned turn = 0; turn < h->turns; turn++)
		if (hammer_once(h, turn))
			return 1;
	kvfs_close(h->store);
	free(h->buf);
	return 0;
}

static int hammer_through_restarts(void *arg)
{
	struct hammer *h = arg;

	h->turns /= 8;
	for (int i = 0; i < 8; i++) {
		if (hammer_child(h))
			return 1;
	}
	return 0;
}

static void test_every_read_is_whole(void **state)
{
	struct api *a = *state;
	struct hammer h[HAMMERS];
	pid_t pid[HAMMERS];

	for (int i = 0; i < HAMMERS; i++) {
		h[i] = (struct hammer){.path = a->path, .id = i, .turns = api_times(3000), .rng = support_rng(1)};
		pid[i] = api_fork(i == 3 ? hammer_through_restarts : hammer_child, &h[i], 120);
	}
	/* A snapshot of everything, again and again, meanwhile. */
	for (unsigned i = 0; i < api_times(60); i++) {
		struct kvfs_txn *txn;
		char key[40];
		assert_ok(kvfs_txn_begin(a->store, 0, &txn));
		for (uint32_t k = 0; k < KEYS; k++) {
			void *one, *two;
			size_t len_one, len_two;
			snprintf(key, sizeof(key), "shared/%u/key", k);
			int rc = kvfs_txn_get(txn, key, &one, &len_one);
			assert_int_equal(kvfs_txn_get(txn, key, &two, &len_two), rc);
			if (rc)
				continue;
			assert_true(is_whole(one, len_one, k));
			assert_true(len_one == len_two && !memcmp(one, two, len_one));
			free(one);
			free(two);
		}
		assert_ok(kvfs_txn_commit(&txn));
	}
	for (int i = 0; i < HAMMERS; i++)
		assert_child(pid[i]);
	struct kvfs_info info;
	for (int i = 0; i < 300; i++)
		assert_ok(api_put(a->store, "small", "x"));
	assert_ok(kvfs_info(a->store, &info));
	print_message("\tfile %" PRIu64 " KiB, used %" PRIu64 " KiB, garbage %" PRIu64 " bytes\n", info.file_bytes >> 10,
		info.used_bytes >> 10, info.garbage_bytes);
	assert_true(info.used_bytes < (KEYS + 4) * 2 * LONGEST);
	assert_int_equal(info.doors, 1);
}

/* ---- kill -9 ---- */

struct victim {
	const char *path;
	int fd; /* it writes here what it was told is done */
	uint64_t start;
	enum kvfs_durability durability;
};

static int pair_in_a_transaction(struct kvfs_store *store, uint64_t count)
{
	struct kvfs_txn *txn;
	char text[30];
	int n = snprintf(text, sizeof(text), "%" PRIu64, count);

	CHECK(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn) == 0);
	CHECK(kvfs_txn_put(txn, "left", text, (size_t)n, NULL) == 0);
	CHECK(kvfs_txn_put(txn, "right", text, (size_t)n, NULL) == 0);
	CHECK(kvfs_txn_commit(&txn) == 0);
	return 0;
}

static int victim_child(void *arg)
{
	struct victim *v = arg;
	struct kvfs_options opt = {.size = sizeof(opt), .durability = v->durability, .buffer_size = 64 << 10};
	unsigned char *buf = malloc(300000);
	struct kvfs_store *store;
	struct kvfs_stream *st;
	char key[40];

	CHECK(buf && kvfs_open(v->path, &opt, &store, NULL) == 0);
	for (uint64_t count = v->start;; count++) {
		size_t len = sizeof(struct header) + count % 3 * 9000;
		snprintf(key, sizeof(key), "log/%" PRIu64, count);
		make_value(buf, len, 1, 1, count);
		CHECK(kvfs_put(store, key, buf, len, NULL, NULL) == 0);
		if (count % 4 == 0) {
			/* More than it may keep in memory: hidden chunks come and go. */
			make_value(buf, 300000, 2, 1, count);
			CHECK(kvfs_stream_open(
				      store, "big", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE, 0644, &st) == 0);
			CHECK(kvfs_stream_write(st, buf, 300000, 0) == 300000);
			CHECK(kvfs_stream_close(st) == 0);
		}
		if (pair_in_a_transaction(store, count))
			return 1;
		CHECK(write(v->fd, &count, sizeof(count)) == sizeof(count));
	}
}

/* Reads how far the victim came: the pipe keeps it after the kill. */
static uint64_t last_told(int fd, uint64_t before)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) == sizeof(count))
		before = count;
	return before;
}

static void check_after_kill(struct kvfs_store *store, uint64_t first, uint64_t done)
{
	char key[40], text[30];
	void *left, *right, *data;
	size_t left_len, right_len, len;

	if (done == 0)
		return;
	for (uint64_t i = first; i <= done; i++) {
		snprintf(key, sizeof(key), "log/%" PRIu64, i);
		assert_ok(kvfs_get(store, key, &data, &len));
		assert_true(is_whole(data, len, 1));
		free(data);
	}
	assert_ok(kvfs_get(store, "left", &left, &left_len));
	assert_ok(kvfs_get(store, "right", &right, &right_len));
	assert_true(left_len == right_len && !memcmp(left, right, left_len));
	snprintf(text, sizeof(text), "%" PRIu64, done);
	assert_true(strtoull(left, NULL, 10) >= done);
	free(left);
	free(right);
	int rc = kvfs_get(store, "big", &data, &len);
	assert_true(rc == 0 || (rc == -ENOENT && done < 5));
	if (rc == 0) {
		assert_true(is_whole(data, len, 2));
		free(data);
	}
}

static void test_killed_again_and_again(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(2);
	uint64_t done = 0;
	struct hammer other = {.path = a->path, .id = 9, .turns = api_times(2500), .rng = support_rng(3)};
	pid_t beside = api_fork(hammer_child, &other, 120);
	int pipes[2];

	for (int round = 0; round < 50; round++) {
		struct victim v = {.path = a->path, .start = done + 1, .durability = round % 2 ? KVFS_FULL : KVFS_NONE};
		assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
		v.fd = pipes[1];
		pid_t pid = api_fork(victim_child, &v, 60);
		close(pipes[1]);
		usleep((useconds_t)(3000 + support_below(&rng, api_is_slow() ? 150000 : 30000)));
		kill(pid, SIGKILL);
		int status = api_wait(pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		uint64_t before = done;
		done = last_told(pipes[0], done);
		close(pipes[0]);
		/* Through the door that was open all the time, and through a new one. */
		check_after_kill(a->store, before + 1, done);
		if (round % 5 == 0) {
			kvfs_close(a->store);
			a->store = api_open(a->path, 0);
			check_after_kill(a->store, 1, done);
		}
		assert_ok(kvfs_put(a->store, "still", "writable", 8, NULL, NULL));
	}
	print_message("\t50 kills, %" PRIu64 " rounds acknowledged\n", done);
	assert_true(done > 20);
	assert_child(beside);
	assert_ok(kvfs_del_tree(a->store, "", NULL));
	for (int i = 0; i < 400; i++)
		assert_ok(api_put(a->store, "small", "x"));
	struct kvfs_info info;
	assert_ok(kvfs_info(a->store, &info));
	print_message("\tused %" PRIu64 " KiB of %" PRIu64 " KiB, garbage %" PRIu64 " bytes, %u doors\n", info.used_bytes >> 10,
		info.file_bytes >> 10, info.garbage_bytes, info.doors);
	assert_true(info.used_bytes < 1 << 20);
	assert_int_equal(info.doors, 1);
}

static int open_once_child(void *arg)
{
	const struct victim *v = arg;
	struct kvfs_store *store;

	CHECK(api_open_as(v->path, 0, KVFS_NONE, &store) == 0);
	CHECK(kvfs_incr(store, "opened", 1, NULL) == 0);
	CHECK(write(v->fd, "", 1) == 1);
	kvfs_close(store);
	return 0;
}

/* Openers that are killed in the middle, while nobody else has the store open, leave nothing that misleads those beside them. */
static void test_killed_while_opening(void **state)
{
	struct api *a = *state;
	struct support_rng rng = support_rng(5);
	unsigned told = 0;
	char *text, done[64];
	size_t len;
	int pipes[2];
	enum { N = 4 };

	kvfs_close(a->store);
	assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	for (unsigned round = 0; round < api_times(60); round++) {
		struct victim v = {.path = a->path, .fd = pipes[1]};
		pid_t pid[N];
		for (int i = 0; i < N; i++)
			pid[i] = api_fork(open_once_child, &v, 60);
		usleep((useconds_t)support_below(&rng, api_is_slow() ? 60000 : 5000));
		kill(pid[0], SIGKILL);
		kill(pid[1], SIGKILL);
		for (int i = 0; i < N; i++) {
			int status = api_wait(pid[i]);
			assert_true(i < 2 || status == 0);
		}
		ssize_t n = read(pipes[0], done, sizeof(done));
		told += n > 0 ? (unsigned)n : 0;
	}
	close(pipes[0]);
	close(pipes[1]);
	a->store = api_open(a->path, 0);
	assert_ok(kvfs_get(a->store, "opened", (void **)&text, &len));
	print_message("\t%u were told of their commit, %s committed\n", told, text);
	assert_true(strtoul(text, NULL, 10) >= told);
	free(text);
}

/* ---- money ---- */

enum { ACCOUNTS = 12, EACH = 1000, TELLERS = 4 };

struct teller {
	struct kvfs_store *store;
	struct support_rng rng;
	unsigned transfers, conflicts;
	int rc;
};

static int balance(struct kvfs_txn *txn, unsigned account, long *ret)
{
	char key[20];
	void *data;
	size_t len;

	snprintf(key, sizeof(key), "account/%u", account);
	int rc = kvfs_txn_get(txn, key, &data, &len);
	if (rc)
		return rc;
	*ret = strtol(data, NULL, 10);
	free(data);
	return 0;
}

static int set_balance(struct kvfs_txn *txn, unsigned account, long amount)
{
	char key[20], text[20];

	snprintf(key, sizeof(key), "account/%u", account);
	return kvfs_txn_put(txn, key, text, (size_t)snprintf(text, sizeof(text), "%ld", amount), NULL);
}

static int transfer(struct teller *t)
{
	unsigned from = (unsigned)support_below(&t->rng, ACCOUNTS), to = (unsigned)support_below(&t->rng, ACCOUNTS);
	long a, b, amount = (long)support_below(&t->rng, 100);
	struct kvfs_txn *txn;
	int rc = kvfs_txn_begin(t->store, KVFS_TXN_WRITE, &txn);

	if (rc || from == to) {
		if (!rc)
			kvfs_txn_abort(txn);
		return rc;
	}
	if ((rc = balance(txn, from, &a)) || (rc = balance(txn, to, &b)) || (rc = set_balance(txn, from, a - amount)) ||
		(rc = set_balance(txn, to, b + amount))) {
		kvfs_txn_abort(txn);
		return rc;
	}
	return kvfs_txn_commit(&txn);
}

static void *teller_thread(void *arg)
{
	struct teller *t = arg;

	for (unsigned done = 0; done < t->transfers && t->rc == 0;) {
		int rc = transfer(t);
		if (rc == -ECANCELED)
			t->conflicts++;
		else if (rc)
			t->rc = rc;
		else
			done++;
	}
	return NULL;
}

static int audit(struct kvfs_store *store, long *ret)
{
	struct kvfs_txn *txn;
	long amount;
	int rc = kvfs_txn_begin(store, 0, &txn);

	*ret = 0;
	for (unsigned i = 0; i < ACCOUNTS && rc == 0; i++) {
		rc = balance(txn, i, &amount);
		*ret += amount;
	}
	kvfs_txn_abort(txn);
	return rc;
}

static int bank_child(void *arg)
{
	struct hammer *h = arg;
	struct teller t[TELLERS];
	pthread_t thread[TELLERS];
	unsigned conflicts = 0;

	CHECK(api_open_as(h->path, 0, KVFS_NONE, &h->store) == 0);
	for (int i = 0; i < TELLERS; i++) {
		t[i] = (struct teller){
			.store = h->store, .rng = {h->rng.state + (uint64_t)(h->id * TELLERS + i) * 104729}, .transfers = h->turns};
		CHECK(pthread_create(&thread[i], NULL, teller_thread, &t[i]) == 0);
	}
	for (int i = 0; i < TELLERS; i++) {
		pthread_join(thread[i], NULL);
		if (t[i].rc)
			fprintf(stderr, "teller: %s\n", strerror(-t[i].rc));
		CHECK(t[i].rc == 0);
		conflicts += t[i].conflicts;
	}
	fprintf(stderr, "\t%u transfers, %u conflicts\n", TELLERS * h->turns, conflicts);
	kvfs_close(h->store);
	return 0;
}

static void test_transfers(void **state)
{
	struct api *a = *state;
	struct kvfs_txn *txn;
	struct hammer h[HAMMERS];
	pid_t pid[HAMMERS];
	long sum;

	assert_ok(kvfs_txn_begin(a->store, KVFS_TXN_WRITE, &txn));
	for (unsigned i = 0; i < ACCOUNTS; i++)
		assert_ok(set_balance(txn, i, EACH));
	assert_ok(kvfs_txn_commit(&txn));
	for (int i = 0; i < HAMMERS; i++) {
		h[i] = (struct hammer){.path = a->path, .id = i, .turns = api_times(150), .rng = support_rng(4)};
		pid[i] = api_fork(bank_child, &h[i], 120);
	}
	for (int i = 0; i < 300; i++) {
		assert_ok(audit(a->store, &sum));
		assert_int_equal(sum, ACCOUNTS * EACH);
		usleep(2000);
	}
	for (int i = 0; i < HAMMERS; i++)
		assert_child(pid[i]);
	assert_ok(audit(a->store, &sum));
	assert_int_equal(sum, ACCOUNTS * EACH);
}

/* ---- stopped and abandoned ---- */

static int abandon_child(void *arg)
{
	const struct api *a = arg;
	struct kvfs_store *store;
	struct kvfs_txn *txn;
	struct kvfs_stream *st;

	CHECK(api_open_as(a->path, 0, KVFS_NONE, &store) == 0);
	CHECK(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn) == 0);
	CHECK(kvfs_txn_put(txn, "abandoned/txn", "x", 1, NULL) == 0);
	CHECK(kvfs_stream_open(store, "abandoned/stream", KVFS_STREAM_WRITE | KVFS_STREAM_CREATE, 0644, &st) == 0);
	CHECK(kvfs_stream_write(st, "x", 1, 0) == 1);
	CHECK(kvfs_stream_open(store, "read", KVFS_STREAM_READ, 0, &st) == 0);
	raise(SIGKILL);
	return 1;
}

/* Who ends without a word leaves nothing: no key, no lock, no snapshot, no held value. */
static void test_abandoned(void **state)
{
	struct api *a = *state;
	char *big = api_bytes(200000, 1);
	struct kvfs_info info;

	assert_ok(kvfs_put(a->store, "read", big, 200000, NULL, NULL));
	for (int i = 0; i < 30; i++) {
		int status = api_wait(api_fork(abandon_child, a, 20));
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	for (int i = 0; i < 100; i++)
		assert_ok(kvfs_put(a->store, "read", big, 200000, NULL, NULL));
	assert_absent(a->store, "abandoned");
	assert_ok(kvfs_info(a->store, &info));
	assert_int_equal(info.doors, 1);
	assert_int_equal(info.held_values, 0);
	assert_int_equal(info.snapshot_pid, 0);
	assert_true(info.file_bytes < 8 << 20);
	free(big);
}

static int stopping_child(void *arg)
{
	const struct api *a = arg;
	struct kvfs_store *store;

	/* The kernel does not stop what is in an orphaned process group. */
	CHECK(setpgid(0, 0) == 0);
	CHECK(api_open_as(a->path, 0, KVFS_NONE, &store) == 0);
	for (;;)
		CHECK(kvfs_incr(store, "busy", 1, NULL) == 0);
}

/* A writer that is stopped from its terminal never stands still with the lock in its hand. */
static void test_stopped_writers(void **state)
{
	struct api *a = *state;
	pid_t pid = api_fork(stopping_child, a, 60);
	uint64_t worst = 0;

	for (unsigned i = 0; i < api_times(60); i++) {
		usleep(3000 + i % 7 * 500);
		kill(pid, SIGTSTP);
		uint64_t start = api_now_ms();
		assert_ok(api_put(a->store, "mine", "x"));
		uint64_t ms = api_now_ms() - start;
		worst = ms > worst ? ms : worst;
		kill(pid, SIGCONT);
	}
	print_message("\tlongest wait beside a stopped writer: %" PRIu64 " ms\n", worst);
	assert_true(worst < 2000);
	kill(pid, SIGKILL);
	api_wait(pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		API_TEST(test_every_read_is_whole),
		API_TEST(test_killed_again_and_again),
		API_TEST(test_killed_while_opening),
		API_TEST(test_transfers),
		API_TEST(test_abandoned),
		API_TEST(test_stopped_writers),
	};

	return cmocka_run_group_tests_name("multiproc", tests, NULL, NULL);
}
