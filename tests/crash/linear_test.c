/* Contract 1, 3 and 4: all doors are one store.  What threads, processes, commands and programs in a mount do to a few keys at the same time
 * has one order (linear.h): a commit is seen by whatever begins after it returned, nothing is lost, nothing is seen by halves.
 *
 * KVFS_LINEAR_S  seconds of histories (6; the long form: 1200)
 * KVFS_SEED      repeats the operations; who is faster is up to the machine
 *
 * Keys 0 and 1 are written by all.  Keys 2 and 3 change places, and what is put there is made elsewhere and renamed: sessions, and whoever
 * opens a file by its path, follow the inode, not the name. */
#include "history.h"
#include "linear.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	CALLS_MAX = 6000, /* of a line in one round */
	ROUND_MS = 400,
	ROUND_LIMIT_S = 60,
	VALUE_MAX = 400 << 10,
	RECORD_MIN = 32,
	TELL_NS = 20000000, /* of a history without an order so much is told */
};

static const char *const keys[LINEAR_KEYS] = {"x", "y", "p/u", "p/v"};
#define TEMP "p/t%u" /* of an actor */

/* What is done wrong, to see that it is noticed. */
enum plant {
	PLANT_NOTHING,
	PLANT_STALE, /* a reader of the mount answers from a handle that it had */
	PLANT_LOST, /* an append reads and puts */
	PLANT_HALVES, /* two keys are put one after the other */
	PLANT_COPY, /* a rename puts and deletes */
};

struct lane {
	struct call call[CALLS_MAX];
	size_t n;
	uint64_t tokens;
	char trouble[200]; /* what must not be */
};

/* One at work. */
struct actor {
	struct lane *lane; /* shared */
	enum door door;
	unsigned number;
	struct doors doors;
	struct support_rng rng;
	enum plant plant;
	bool lags;
	int64_t until;
	int old_fd; /* PLANT_STALE */
	char *bytes; /* VALUE_MAX */
};

/* Who there is; the threads are of one process. */
static const struct {
	enum door door;
	bool thread;
} cast[] = {{DOOR_LIBRARY, false}, {DOOR_LIBRARY, true}, {DOOR_LIBRARY, false}, {DOOR_MOUNT, false}, {DOOR_MOUNT, false},
	{DOOR_COMMAND, false}};
enum {
	ACTORS = sizeof cast / sizeof *cast,
	EVERYBODY = (1 << ACTORS) - 1,
	ONLY_MOUNT = 3 << 3,
	NO_MOUNT = EVERYBODY & ~ONLY_MOUNT
};

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

#define TROUBLE(a, ...)                                                                                                            \
	do {                                                                                                                       \
		if (!*(a)->lane->trouble)                                                                                          \
			snprintf((a)->lane->trouble, sizeof(a)->lane->trouble, __VA_ARGS__);                                       \
	} while (0)

/* ---- values: records of text ---- */

static char *write_record(char *to, uint64_t token, uint64_t len)
{
	sprintf(to, "%016" PRIx64 "%08" PRIx64, token, len);
	memset(to + 24, 'a' + (int)(token % 26), len - 24);
	to[len] = 0;
	return to;
}

/* False: it is no row of whole records. */
static bool parse(const char *text, size_t len, struct value *ret)
{
	static _Thread_local char want[VALUE_MAX + 1];
	*ret = (struct value){0};
	while (len) {
		uint64_t token, n;
		if (len < RECORD_MIN || sscanf(text, "%16" SCNx64 "%8" SCNx64, &token, &n) != 2 || n < RECORD_MIN || n > len ||
			n > VALUE_MAX || memcmp(text, write_record(want, token, n), n) != 0)
			return false;
		*ret = value_append(*ret, token, n);
		text += n;
		len -= n;
	}
	return true;
}

/* What is no row of records is a value that nobody wrote. */
static struct value see(const char *text, size_t len)
{
	struct value v;
	return len && parse(text, len, &v) ? v : (struct value){1, len};
}

/* ---- the library ---- */

static int get_value(struct actor *a, struct kvfs_txn *txn, uint8_t key, struct value *ret)
{
	void *data;
	size_t len;
	int r = txn ? kvfs_txn_get(txn, keys[key], &data, &len) : kvfs_get(a->doors.store, keys[key], &data, &len);
	*ret = (struct value){0};
	if (r)
		return r == -ENOENT ? 0 : r;
	*ret = see(data, len);
	free(data);
	return 0;
}

/* Reads and writes in a transaction; one that meets another's change has only read. */
static int library_txn(struct actor *a, struct call *c)
{
	struct kvfs_txn *txn;
	bool reads = c->kind != CALL_PUT_BOTH, writes = c->kind != CALL_READ_BOTH;
	int r = kvfs_txn_begin(a->doors.store, writes ? KVFS_TXN_WRITE : 0, &txn);
	if (r)
		return r;
	if (reads)
		r = get_value(a, txn, c->key, &c->sees[0]);
	if (r == 0 && c->kind == CALL_READ_BOTH)
		r = get_value(a, txn, c->other, &c->sees[1]);
	if (r == 0 && writes)
		r = kvfs_txn_put(txn, keys[c->key], a->bytes, c->len, NULL);
	if (r == 0 && c->kind == CALL_PUT_BOTH)
		r = kvfs_txn_put(txn, keys[c->other], a->bytes, c->len, NULL);
	if (r) {
		kvfs_txn_abort(txn);
		return r;
	}
	r = kvfs_txn_commit(&txn);
	if (r != -ECANCELED || !reads)
		return r;
	c->kind = CALL_READ;
	return 0;
}

static int library_stream(struct actor *a, const struct call *c)
{
	struct kvfs_stream *st;
	unsigned flags = KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | KVFS_STREAM_TRUNCATE;
	int r = kvfs_stream_open(a->doors.store, keys[c->key], flags, 0644, &st);
	if (r)
		return r;
	ssize_t n = kvfs_stream_write(st, a->bytes, c->len / 2, 0);
	if (n >= 0)
		n = kvfs_stream_write(st, a->bytes + c->len / 2, c->len - c->len / 2, c->len / 2);
	if (n >= 0)
		return kvfs_stream_close(st);
	kvfs_stream_abort(st);
	return (int)n;
}

/* What is put under a name that moves. */
static int library_place(struct actor *a, const struct call *c)
{
	char temp[16];
	snprintf(temp, sizeof temp, TEMP, a->number);
	int r = kvfs_put(a->doors.store, temp, a->bytes, c->len, NULL, NULL);
	return r ? r : kvfs_rename(a->doors.store, temp, keys[c->key], c->kind == CALL_PUT_NEW ? KVFS_RENAME_NOREPLACE : 0);
}

static int library_do(struct actor *a, struct call *c)
{
	static const struct kvfs_put_options new = {.size = sizeof new, .flags = KVFS_IF_ABSENT};
	struct kvfs_store *s = a->doors.store;
	struct kvfs_stat st;
	int r;
	if (c->key > 1 && (c->kind == CALL_PUT || c->kind == CALL_PUT_NEW))
		return library_place(a, c);
	switch (c->kind) {
	case CALL_READ:
		return get_value(a, NULL, c->key, &c->sees[0]);
	case CALL_STAT:
		r = kvfs_stat(s, keys[c->key], &st);
		if (r == 0)
			c->sees[0] = (struct value){1, st.size};
		return r == -ENOENT ? 0 : r;
	case CALL_PUT:
		return c->token % 4 ? kvfs_put(s, keys[c->key], a->bytes, c->len, NULL, NULL) : library_stream(a, c);
	case CALL_PUT_NEW:
		return kvfs_put(s, keys[c->key], a->bytes, c->len, &new, NULL);
	case CALL_APPEND:
		return kvfs_append(s, keys[c->key], a->bytes, c->len);
	case CALL_DELETE:
		return kvfs_del(s, keys[c->key]);
	case CALL_RENAME:
	case CALL_EXCHANGE:
		return kvfs_rename(s, keys[c->key], keys[c->other], c->kind == CALL_EXCHANGE ? KVFS_RENAME_EXCHANGE : 0);
	default:
		return library_txn(a, c);
	}
}

/* ---- the command ---- */

static int command_read(struct actor *a, struct call *c)
{
	char *argv[] = {(char *)a->doors.program, "-s", (char *)a->doors.path, "get", (char *)keys[c->key], NULL}, *out;
	int status = support_exec(argv, ROUND_LIMIT_S, &out);
	if (status == 0)
		c->sees[0] = see(out, strlen(out));
	free(out);
	return !WIFEXITED(status) || WEXITSTATUS(status) > 1 ? -EPROTO : 0;
}

static int command_do(struct actor *a, struct call *c)
{
	const char *argv[8] = {a->doors.program, "-s", a->doors.path, c->kind == CALL_DELETE ? "del" : "mv", keys[c->key]};
	char *text = NULL;
	int status, n = 0;
	if (c->kind == CALL_READ)
		return command_read(a, c);
	if (c->kind == CALL_PUT_BOTH) {
		argv[3] = "apply";
		argv[4] = NULL;
		n = asprintf(&text, "put %s %s\nput %s %s\n", keys[c->key], a->bytes, keys[c->other], a->bytes);
	} else if (c->key > 1 && c->kind == CALL_PUT) {
		n = asprintf(&text, "put " TEMP " %s\nmv " TEMP " %s\n", a->number, a->bytes, a->number, keys[c->key]);
		argv[3] = "apply";
		argv[4] = NULL;
	} else if (c->kind == CALL_PUT || c->kind == CALL_PUT_NEW) {
		argv[3] = "put";
		argv[4] = c->kind == CALL_PUT ? "--" : "--if-absent";
		argv[5] = keys[c->key];
	} else if (c->kind == CALL_RENAME) {
		argv[5] = keys[c->other];
	}
	status = run_program(argv, text ? text : a->bytes,
		text                                             ? (size_t)n
		: c->kind == CALL_PUT || c->kind == CALL_PUT_NEW ? c->len
								 : 0);
	free(text);
	if (c->kind == CALL_PUT_NEW && status == 2)
		return -EEXIST;
	return status == 1 ? -ENOENT : status ? -EPROTO : 0;
}

/* ---- the mount ---- */

static int read_all(int fd, struct value *ret)
{
	static char text[VALUE_MAX + 1]; /* an actor of the mount is a process */
	size_t len = 0;
	ssize_t n;
	while (len < VALUE_MAX && (n = pread(fd, text + len, VALUE_MAX - len, (off_t)len)) != 0) {
		if (n < 0)
			return -errno;
		len += (size_t)n;
	}
	*ret = see(text, len);
	return 0;
}

static int mount_read(struct actor *a, struct call *c, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (a->plant == PLANT_STALE && c->key == 0) {
		int old = a->old_fd >= 0 ? a->old_fd : dup(fd);
		r = read_all(old, &c->sees[0]);
		close(old);
		a->old_fd = fd;
		return r;
	}
	r = read_all(fd, &c->sees[0]);
	close(fd);
	return r;
}

static int mount_write(const struct actor *a, const struct call *c, const char *path)
{
	bool append = c->kind == CALL_APPEND;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0644), r = 0;
	size_t half = append || c->token % 3 ? c->len : c->len / 2;
	if (fd < 0)
		return -errno;
	errno = EIO; /* of a short write */
	if (write(fd, a->bytes, half) != (ssize_t)half || write(fd, a->bytes + half, c->len - half) != (ssize_t)(c->len - half))
		r = -errno;
	return close(fd) && r == 0 ? -errno : r;
}

static int mount_place(const struct actor *a, const struct call *c, const char *path)
{
	char temp[PATH_MAX];
	snprintf(temp, sizeof temp, "%s/" TEMP, a->doors.mount, a->number);
	int r = mount_write(a, c, temp);
	if (r == 0 && renameat2(AT_FDCWD, temp, AT_FDCWD, path, c->kind == CALL_PUT_NEW ? RENAME_NOREPLACE : 0))
		r = -errno;
	return r;
}

static int mount_do(struct actor *a, struct call *c)
{
	char path[PATH_MAX], other[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof path, "%s/%s", a->doors.mount, keys[c->key]);
	snprintf(other, sizeof other, "%s/%s", a->doors.mount, keys[c->other]);
	switch (c->kind) {
	case CALL_READ:
		return mount_read(a, c, path);
	case CALL_STAT:
		if (stat(path, &st))
			return errno == ENOENT ? 0 : -errno;
		c->sees[0] = (struct value){1, (uint64_t)st.st_size};
		return 0;
	case CALL_DELETE:
		return unlink(path) ? -errno : 0;
	case CALL_RENAME:
	case CALL_EXCHANGE:
		return renameat2(AT_FDCWD, path, AT_FDCWD, other, c->kind == CALL_EXCHANGE ? RENAME_EXCHANGE : 0) ? -errno : 0;
	default:
		return (c->key > 1 ? mount_place : mount_write)(a, c, path);
	}
}

/* ---- what is done ---- */

static bool can(const struct actor *a, const struct call *c)
{
	bool moves = c->key > 1;
	switch (c->kind) {
	case CALL_STAT:
		return a->door != DOOR_COMMAND;
	case CALL_READ_BOTH:
		return a->door == DOOR_LIBRARY && !moves;
	case CALL_PUT_NEW:
		return moves ? a->door != DOOR_COMMAND : a->door != DOOR_MOUNT;
	case CALL_PUT_BOTH:
		return a->door != DOOR_MOUNT && !moves;
	case CALL_CHANGE:
		return a->door == DOOR_LIBRARY && !moves;
	case CALL_APPEND:
		return a->door != DOOR_COMMAND && !moves;
	case CALL_RENAME:
		/* The kernel does nothing where both names lead to one inode, and one of them may still do so until a rename elsewhere returns. */
		return moves && !a->lags;
	case CALL_EXCHANGE:
		return moves && !a->lags && a->door != DOOR_COMMAND;
	default:
		return true;
	}
}

static struct call next_call(struct actor *a)
{
	static const uint8_t kinds[] = {CALL_READ, CALL_READ, CALL_READ, CALL_READ, CALL_STAT, CALL_READ_BOTH, CALL_PUT, CALL_PUT,
		CALL_PUT_NEW, CALL_PUT_BOTH, CALL_CHANGE, CALL_APPEND, CALL_APPEND, CALL_DELETE, CALL_RENAME, CALL_RENAME,
		CALL_EXCHANGE};
	struct call c;
	do {
		c = (struct call){.kind = kinds[support_below(&a->rng, sizeof kinds)], .key = (uint8_t)support_below(&a->rng, 4)};
		c.other = c.key ^ 1;
	} while (!can(a, &c));
	bool large = c.kind != CALL_APPEND && support_below(&a->rng, 16) == 0; /* nothing grows without end */
	c.len = RECORD_MIN + support_below(&a->rng, large ? 70000 : 400);
	return c;
}

static int do_it(struct actor *a, struct call *c)
{
	return a->door == DOOR_LIBRARY ? library_do(a, c) : a->door == DOOR_COMMAND ? command_do(a, c) : mount_do(a, c);
}

/* What was planted; false: there is none in this call. */
static bool do_wrong(struct actor *a, struct call *c, int *ret)
{
	struct kvfs_store *s = a->doors.store;
	void *data;
	size_t len;
	if (a->door != DOOR_LIBRARY)
		return false;
	if (a->plant == PLANT_LOST && c->kind == CALL_APPEND && kvfs_get(s, keys[c->key], &data, &len) == 0) {
		data = realloc(data, len + c->len);
		memcpy((char *)data + len, a->bytes, c->len);
		*ret = kvfs_put(s, keys[c->key], data, len + c->len, NULL, NULL);
	} else if (a->plant == PLANT_HALVES && c->kind == CALL_PUT_BOTH) {
		data = NULL;
		*ret = kvfs_put(s, keys[c->key], a->bytes, c->len, NULL, NULL);
		if (*ret == 0)
			*ret = kvfs_put(s, keys[c->other], a->bytes, c->len, NULL, NULL);
	} else if (a->plant == PLANT_COPY && c->kind == CALL_RENAME && kvfs_get(s, keys[c->key], &data, &len) == 0) {
		*ret = kvfs_put(s, keys[c->other], data, len, NULL, NULL);
		if (*ret == 0)
			*ret = kvfs_del(s, keys[c->key]);
	} else {
		return false;
	}
	free(data);
	return true;
}

static void one(struct actor *a)
{
	static const char *const names[] = {"library", "command", "mount"};
	struct lane *lane = a->lane;
	struct call c = next_call(a);
	int r;
	c.token = (uint64_t)(a->number + 1) << 40 | ++lane->tokens;
	write_record(a->bytes, c.token, c.len);
	c.begin = now_ns();
	if (!do_wrong(a, &c, &r))
		r = do_it(a, &c);
	c.end = now_ns();
	c.refused = r == (c.kind == CALL_PUT_NEW ? -EEXIST : -ENOENT);
	c.lags = a->lags && (c.refused || c.kind <= CALL_READ_BOTH);
	if (r && !c.refused)
		TROUBLE(a, "%s: call %d on '%s': %s", names[a->door], (int)c.kind, keys[c.key], strerror(-r));
	lane->call[lane->n++] = c;
}

static void *work(void *arg)
{
	struct actor *a = arg;
	struct lane *lane = a->lane;
	a->bytes = malloc(VALUE_MAX + 1);
	while (lane->n < CALLS_MAX && !*lane->trouble && now_ns() < a->until)
		one(a);
	free(a->bytes);
	return NULL;
}

/* ---- rounds ---- */

struct scene {
	char path[PATH_MAX - 8], mnt[PATH_MAX];
	struct lane *lane; /* of each actor, shared, and one for what is read at the end of a round */
	struct value start[LINEAR_KEYS];
	struct support_rng rng;
	uint64_t calls;
	unsigned present; /* actors, a bit for each */
	enum plant plant;
};

static struct actor actor_of(struct scene *s, unsigned i, int64_t until)
{
	return (struct actor){.lane = &s->lane[i],
		.door = cast[i].door,
		.number = i,
		.doors = {.path = s->path, .program = getenv("KVFS_BIN"), .mount = s->mnt},
		.rng = {support_random(&s->rng)},
		.plant = s->plant,
		.lags = s->present == EVERYBODY && cast[i].door == DOOR_MOUNT,
		.until = until,
		.old_fd = -1};
}

/* A process with the actor and the threads that follow. */
static int play(struct scene *s, unsigned first, int64_t until)
{
	struct actor a[ACTORS];
	pthread_t thread[ACTORS];
	unsigned n = first + 1;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	alarm(ROUND_LIMIT_S);
	dup2(null, 2); /* a command says what is not there */
	a[first] = actor_of(s, first, until);
	if (a[first].door == DOOR_LIBRARY)
		a[first].doors.store = doors_open(s->path, 0, first ? KVFS_FULL : KVFS_RELAXED);
	for (; n < ACTORS && cast[n].thread; n++) {
		a[n] = actor_of(s, n, until);
		a[n].rng.state += n;
		a[n].doors.store = a[first].doors.store;
		if (pthread_create(&thread[n], NULL, work, &a[n]))
			return 1;
	}
	work(&a[first]);
	while (--n > first)
		pthread_join(thread[n], NULL);
	kvfs_close(a[first].doors.store);
	return 0;
}

/* Nobody is there any more: what there is now is what the next round begins with. */
static void read_all_keys(struct scene *s)
{
	struct actor a = {.lane = &s->lane[ACTORS], .door = DOOR_LIBRARY};
	a.lane->n = 0;
	a.doors.store = doors_open(s->path, 0, KVFS_FULL);
	for (uint8_t i = 0; i < LINEAR_KEYS; i++) {
		struct call c = {.kind = CALL_READ, .key = i, .begin = now_ns()};
		assert_ok(library_do(&a, &c));
		c.end = now_ns();
		a.lane->call[a.lane->n++] = c;
		s->start[i] = c.sees[0];
	}
	kvfs_close(a.doors.store);
	assert_string_equal(a.lane->trouble, "");
}

/* The calls about one pair of keys, which the other pair has nothing to do with. */
static size_t pick(const struct lane *lane, unsigned pair, struct call *ret)
{
	size_t n = 0;
	for (size_t i = 0; i < lane->n; i++)
		if (lane->call[i].key / 2 == pair)
			ret[n++] = lane->call[i];
	return n;
}

/* What was going on when no try went on. */
static void tell(const struct line *line, int64_t stuck)
{
	static const char *const kinds[] = {
		"read", "stat", "read both", "put", "put new", "put both", "change", "append", "delete", "rename", "exchange"};
	static const char *const doors[] = {"library", "command", "mount"};
	for (unsigned i = 0; i <= ACTORS; i++) {
		for (const struct call *c = line[i].call; c < line[i].call + line[i].n; c++) {
			struct value put = value_append((struct value){0}, c->token, c->len);
			if (c->end < stuck - TELL_NS || c->begin > stuck)
				continue;
			print_message("%8.3f to %8.3f ms %u %s: %s '%s'%s", (double)(c->begin - stuck) / 1e6,
				(double)(c->end - stuck) / 1e6, i, i < ACTORS ? doors[cast[i].door] : "end", kinds[c->kind],
				keys[c->key], c->refused ? ", refused" : "");
			if (c->kind <= CALL_READ_BOTH || c->kind == CALL_CHANGE)
				print_message(", sees %016" PRIx64 "/%" PRIu64 " %016" PRIx64 "/%" PRIu64, c->sees[0].digest,
					c->sees[0].size, c->sees[1].digest, c->sees[1].size);
			if (c->kind >= CALL_PUT && c->kind <= CALL_APPEND)
				print_message(", token %" PRIx64 "/%" PRIu64 " (%016" PRIx64 ")", c->token, c->len, put.digest);
			print_message("\n");
		}
	}
}

static bool fails(const struct line *line, const struct value start[LINEAR_KEYS], int64_t *stuck)
{
	return linear_check(line, ACTORS + 1, start, stuck) == LINEAR_NO;
}

/* Leaves out what only looked, as long as there is no order for the rest. */
static void shrink(struct line *line, struct call *const own[], const struct value start[LINEAR_KEYS], int64_t *stuck)
{
	int64_t now;
	for (unsigned i = 0; i <= ACTORS; i++) {
		for (size_t k = line[i].n; k-- > 0;) {
			struct call c = own[i][k];
			if ((c.kind > CALL_READ_BOTH && !c.refused) || c.begin > *stuck || c.end < *stuck - TELL_NS)
				continue;
			memmove(&own[i][k], &own[i][k + 1], (--line[i].n - k) * sizeof c);
			if (fails(line, start, &now) && now <= *stuck)
				continue;
			memmove(&own[i][k + 1], &own[i][k], (line[i].n++ - k) * sizeof c);
			own[i][k] = c;
		}
	}
	fails(line, start, stuck);
}

/* True: there is an order. */
static bool check_pair(const struct scene *s, unsigned pair, const struct value start[LINEAR_KEYS])
{
	struct line line[ACTORS + 1];
	struct call *own[ACTORS + 1];
	int64_t stuck;
	for (unsigned i = 0; i <= ACTORS; i++) {
		own[i] = malloc((s->lane[i].n + 1) * sizeof *own[i]);
		line[i] = (struct line){own[i], pick(&s->lane[i], pair, own[i])};
	}
	enum linear found = linear_check(line, ACTORS + 1, start, &stuck);
	if (found == LINEAR_UNKNOWN)
		fail_msg("too many possible orders");
	if (found == LINEAR_NO && !s->plant) {
		shrink(line, own, start, &stuck);
		tell(line, stuck);
	}
	for (unsigned i = 0; i <= ACTORS; i++)
		free(own[i]);
	return found == LINEAR_YES;
}

static void play_all(struct scene *s)
{
	pid_t pid[ACTORS] = {0};
	int64_t until = now_ns() + ROUND_MS * 1000000LL;
	int status;
	fflush(NULL);
	for (unsigned i = 0; i < ACTORS; i++)
		s->lane[i].n = 0; /* before anybody begins: a thread's process is forked before its turn comes here */
	for (unsigned i = 0; i < ACTORS; i++) {
		support_random(&s->rng);
		if (cast[i].thread || !(s->present >> i & 1))
			continue;
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0)
			_exit(play(s, i, until));
	}
	for (unsigned i = 0; i < ACTORS; i++)
		if (pid[i] && (waitpid(pid[i], &status, 0) != pid[i] || status))
			fail_msg("actor %u ended with %x", i, status);
}

/* True: there is an order. */
static bool round_of(struct scene *s)
{
	struct value start[LINEAR_KEYS];
	memcpy(start, s->start, sizeof start);
	play_all(s);
	read_all_keys(s);
	for (unsigned i = 0; i <= ACTORS; i++) {
		if (*s->lane[i].trouble)
			fail_msg("%s", s->lane[i].trouble);
		s->calls += s->lane[i].n;
	}
	return check_pair(s, 0, start) && check_pair(s, 1, start);
}

/* ---- */

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof *s);
	assert_non_null(s);
	snprintf(s->path, sizeof s->path, "%s", support_store_path());
	snprintf(s->mnt, sizeof s->mnt, "%s.mnt", s->path);
	s->rng = support_rng(1);
	s->lane = mmap(NULL, (ACTORS + 1) * sizeof *s->lane, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(s->lane != MAP_FAILED && mkdir(s->mnt, 0700) == 0);
	*state = s;
	struct kvfs_store *store = doors_open(s->path, KVFS_CREATE, KVFS_FULL);
	assert_ok(kvfs_mkdir(store, "p", 0755));
	kvfs_close(store);
	assert_int_equal(run_program((const char *const[]){getenv("KVFS_BIN"), "mount", s->path, s->mnt, NULL}, NULL, 0), 0);
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	support_exec((char *[]){"fusermount3", "-uzq", s->mnt, NULL}, 10, NULL);
	munmap(s->lane, (ACTORS + 1) * sizeof *s->lane);
	free(s);
	return 0;
}

static void must_have_order(struct scene *s, unsigned present, unsigned share)
{
	const char *env = getenv("KVFS_LINEAR_S");
	int64_t until = now_ns() + (env && *env ? atoll(env) : 6) * 1000000000 / share;
	unsigned rounds = 0;
	s->present = present;
	do {
		if (!round_of(s))
			fail_msg("there is no order for what was seen in round %u", rounds);
		rounds++;
	} while (now_ns() < until);
	print_message("             %u histories, %" PRIu64 " calls\n", rounds, s->calls);
	assert_true(s->calls / rounds > 100);
}

/* One mount is a store, and so are library and command ... */
static void test_mount_has_one_order(void **state)
{
	must_have_order(*state, ONLY_MOUNT, 4);
}

static void test_library_and_command_have_one_order(void **state)
{
	must_have_order(*state, NO_MOUNT, 4);
}

/* ... but what a mount shows may be older than a commit elsewhere that has not returned yet. */
static void test_all_have_one_order(void **state)
{
	must_have_order(*state, EVERYBODY, 2);
}

static void must_notice(struct scene *s, enum plant plant)
{
	s->plant = plant;
	s->present = EVERYBODY;
	for (unsigned i = 0; i < 20; i++)
		if (!round_of(s))
			return;
	fail_msg("what was planted was not found in %" PRIu64 " calls", s->calls);
}

#define NOTICES(name, plant)                                                                                                       \
	static void name(void **state)                                                                                             \
	{                                                                                                                          \
		must_notice(*state, plant);                                                                                        \
	}
NOTICES(test_notices_a_handle_that_was_kept, PLANT_STALE)
NOTICES(test_notices_an_append_that_takes_another_back, PLANT_LOST)
NOTICES(test_notices_a_transaction_by_halves, PLANT_HALVES)
NOTICES(test_notices_a_rename_that_copies, PLANT_COPY)

#define LINEAR_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINEAR_TEST(test_mount_has_one_order),
		LINEAR_TEST(test_library_and_command_have_one_order),
		LINEAR_TEST(test_all_have_one_order),
		LINEAR_TEST(test_notices_a_handle_that_was_kept),
		LINEAR_TEST(test_notices_an_append_that_takes_another_back),
		LINEAR_TEST(test_notices_a_transaction_by_halves),
		LINEAR_TEST(test_notices_a_rename_that_copies),
	};

	if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	umask(022);
	return cmocka_run_group_tests_name("linear", tests, NULL, NULL);
}
