/* See history.h. */
#include "history.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { VALUE_MAX = 2 << 20 };

struct kvfs_store *doors_open(const char *path, unsigned flags, enum kvfs_durability level)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = flags, .durability = level, .buffer_size = 256 << 10};
	struct kvfs_store *store;
	struct kvfs_error err;
	if (kvfs_open(path, &opt, &store, &err))
		fail_msg("%s: %s", path, err.text);
	return store;
}

/* ---- chance ---- */

static const char *const values[] = {"a", "b", "d0/a", "d0/b", "d1/x/c", "e"};
static const char *const dirs[] = {"d0", "d1", "m0", "m0/n"};

static uint32_t some_length(struct support_rng *rng, bool large)
{
	static const uint32_t edges[] = {374, 1879, 3840, 4096, 32736, 2 * 32736};
	switch (support_below(rng, large ? 9 : 8)) {
	case 0:
		return edges[support_below(rng, 6)] - 2 + (uint32_t)support_below(rng, 5);
	case 1:
		return (uint32_t)support_below(rng, 100000);
	case 2:
		return (uint32_t)support_below(rng, 9000);
	case 8:
		return (uint32_t)support_below(rng, 1500000);
	default:
		return (uint32_t)support_below(rng, 400);
	}
}

struct op op_random(struct support_rng *rng, const char *own, bool large)
{
	static const uint8_t often[OP_KINDS] = {[OP_PUT] = 24,
		[OP_APPEND] = 14,
		[OP_UPDATE] = 14,
		[OP_REPLACE] = 8,
		[OP_DEL] = 10,
		[OP_DEL_TREE] = 1,
		[OP_RENAME] = 8,
		[OP_EXCHANGE] = 2,
		[OP_LINK] = 3,
		[OP_MKDIR] = 3,
		[OP_SYMLINK] = 2,
		[OP_CHMOD] = 2,
		[OP_SETXATTR] = 4,
		[OP_REMOVEXATTR] = 1,
		[OP_TXN] = 6,
		[OP_SYNC] = 3};
	struct op op = {.seed = support_random(rng), .len = some_length(rng, large), .at = (uint32_t)support_below(rng, 70000)};
	unsigned total = 0, pick;
	for (size_t i = 0; i < OP_KINDS; i++)
		total += often[i];
	pick = (unsigned)support_below(rng, total);
	while (pick >= often[op.kind])
		pick -= often[op.kind++];
	bool dir = op.kind == OP_MKDIR || op.kind == OP_DEL_TREE ||
		   ((op.kind == OP_RENAME || op.kind == OP_DEL) && op.seed % 8 == 0);
	snprintf(op.key, sizeof op.key, "%s%s", own, dir ? dirs[support_below(rng, 4)] : values[support_below(rng, 6)]);
	snprintf(op.other, sizeof op.other, "%s%s", own,
		dir && op.seed % 3 ? dirs[support_below(rng, 4)] : values[support_below(rng, 6)]);
	if (op.kind == OP_SYMLINK)
		snprintf(op.key, sizeof op.key, "%ss", own);
	if (op.kind == OP_UPDATE) {
		op.len %= 40000;
		op.cut = op.seed % 4 == 0 ? 1 + (uint32_t)support_below(rng, 50000) : 0;
	}
	return op;
}

const uint8_t *op_bytes(const struct op *op)
{
	static _Thread_local uint8_t bytes[VALUE_MAX];
	uint64_t x = op->seed | 1;
	assert_true(op->len <= VALUE_MAX);
	for (size_t i = 0; i < op->len; i += 8) {
		x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9 + i;
		memcpy(bytes + i, &x, op->len - i < 8 ? op->len - i : 8);
	}
	return bytes;
}

const char *op_text(const struct op *op)
{
	static const char *const names[] = {"put", "append", "update", "replace", "del", "del_tree", "rename", "exchange", "link",
		"mkdir", "symlink", "chmod", "setxattr", "removexattr", "txn", "sync"};
	static const char *const through[] = {"", " by command", " in mount"};
	static char text[256];
	snprintf(text, sizeof text, "%s%s '%s' '%s' len %u at %u cut %u seed %llx", names[op->kind], through[op->door], op->key,
		op->other, op->len, op->at, op->cut, (unsigned long long)op->seed);
	return text;
}

/* ---- the library ---- */

static int run_session(const struct op *op, struct kvfs_store *store)
{
	struct kvfs_stream *s;
	const uint8_t *data = op_bytes(op);
	bool replaces = op->kind == OP_REPLACE;
	unsigned flags = KVFS_STREAM_WRITE | KVFS_STREAM_CREATE | (replaces ? KVFS_STREAM_TRUNCATE : 0u);
	int r = kvfs_stream_open(store, op->key, flags, 0644, &s);
	if (r)
		return r;
	size_t half = replaces ? op->len : op->len / 2;
	if (op->cut)
		r = kvfs_stream_truncate(s, op->cut);
	if (r == 0 && half)
		r = (int)kvfs_stream_write(s, data, half, replaces ? 0 : op->at);
	if (r >= 0 && op->len > half)
		r = (int)kvfs_stream_write(s, data + half, op->len - half, 3);
	if (r < 0) {
		kvfs_stream_abort(s);
		return r;
	}
	return kvfs_stream_close(s);
}

/* The keys of a transaction are values, whatever else is done to them. */
static const char *txn_key(const struct op *op, unsigned i)
{
	return i % 2 ? op->other : op->key;
}

static int run_txn(const struct op *op, struct kvfs_store *store)
{
	struct kvfs_txn *txn;
	int r = kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn);
	if (r)
		return r;
	const uint8_t *data = op_bytes(op);
	for (unsigned i = 0; r == 0 && i < 2; i++) {
		if (op->seed % 5 == i)
			r = kvfs_txn_exists(txn, txn_key(op, i)) ? kvfs_txn_del(txn, txn_key(op, i)) : 0;
		else
			r = kvfs_txn_put(txn, txn_key(op, i), data + i * op->len / 2, op->len / 2, NULL);
	}
	if (r) {
		kvfs_txn_abort(txn);
		return r;
	}
	return kvfs_txn_commit(&txn);
}

static int run_library(const struct op *op, struct kvfs_store *s, uint64_t *ret_version)
{
	struct kvfs_setattr attr = {.valid = KVFS_SET_MODE, .mode = 0600 | (op->seed & 077)};
	switch (op->kind) {
	case OP_PUT:
		return kvfs_put(s, op->key, op_bytes(op), op->len, NULL, ret_version);
	case OP_APPEND:
		return kvfs_append(s, op->key, op_bytes(op), op->len);
	case OP_UPDATE:
	case OP_REPLACE:
		return run_session(op, s);
	case OP_DEL:
		return kvfs_del(s, op->key);
	case OP_DEL_TREE:
		return kvfs_del_tree(s, op->key, NULL);
	case OP_RENAME:
		return kvfs_rename(s, op->key, op->other, 0);
	case OP_EXCHANGE:
		return kvfs_rename(s, op->key, op->other, KVFS_RENAME_EXCHANGE);
	case OP_LINK:
		return kvfs_link(s, op->key, op->other);
	case OP_MKDIR:
		return kvfs_mkdir(s, op->key, 0750);
	case OP_SYMLINK:
		return kvfs_symlink(s, op->other, op->key);
	case OP_CHMOD:
		return kvfs_setattr(s, op->key, &attr);
	case OP_SETXATTR:
		return kvfs_setxattr(s, op->key, "user.x", op_bytes(op), op->len % 2000, 0);
	case OP_REMOVEXATTR:
		return kvfs_removexattr(s, op->key, "user.x");
	case OP_TXN:
		return run_txn(op, s);
	default:
		return kvfs_sync(s);
	}
}

/* ---- the command ---- */

int run_program(const char *const argv[], const void *input, size_t len)
{
	int pipes[2], status;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(pipes[0], 0);
		dup2(null, 1);
		dup2(null, 2);
		if (getenv("KVFS_RECORDER"))
			setenv("LD_PRELOAD", getenv("KVFS_RECORDER"), 1);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(pipes[0]);
	for (size_t done = 0; done < len;) {
		ssize_t part = write(pipes[1], (const char *)input + done, len - done);
		if (part <= 0)
			break;
		done += (size_t)part;
	}
	close(pipes[1]);
	assert_true(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Two puts in one transaction; no byte of a value stands for itself. */
static int run_apply(const char *const argv[], const struct op *op)
{
	const uint8_t *data = op_bytes(op);
	size_t half = op->len / 2, n = 0;
	char *text = malloc(8 * half + 300);
	assert_non_null(text);
	for (unsigned i = 0; i < 2; i++) {
		n += (size_t)sprintf(text + n, "put %s \"", txn_key(op, i));
		for (size_t k = 0; k < half; k++)
			n += (size_t)sprintf(text + n, "\\x%02x", data[i * half + k]);
		n += (size_t)sprintf(text + n, "\"\n");
	}
	int r = run_program(argv, text, n);
	free(text);
	return r ? -EINVAL : 0;
}

static int run_command(const struct op *op, const struct doors *doors)
{
	const char *argv[10] = {doors->program, "-s", doors->path};
	switch (op->kind) {
	case OP_TXN:
		argv[3] = "apply";
		return run_apply(argv, op);
	case OP_RENAME:
		argv[3] = "mv";
		argv[4] = "-T";
		argv[5] = op->key;
		argv[6] = op->other;
		break;
	default:
		argv[3] = op->kind == OP_PUT ? "put" : "del";
		argv[4] = op->key;
	}
	return run_program(argv, op_bytes(op), op->kind == OP_PUT ? op->len : 0) ? -EINVAL : 0;
}

/* ---- the mount ---- */

static int run_file(const struct op *op, const char *path)
{
	int flags = op->kind == OP_PUT || op->kind == OP_REPLACE ? O_TRUNC : op->kind == OP_APPEND ? O_APPEND : 0, r = 0;
	int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);
	const uint8_t *data = op_bytes(op);
	size_t half = op->kind == OP_UPDATE ? op->len / 2 : op->len;
	if (fd < 0)
		return -errno;
	if (op->kind == OP_UPDATE && op->cut && ftruncate(fd, op->cut))
		r = -errno;
	errno = EIO; /* of a short write */
	if (r == 0 && half && (op->kind == OP_UPDATE ? pwrite(fd, data, half, op->at) : write(fd, data, half)) != (ssize_t)half)
		r = -errno;
	if (r == 0 && op->len > half && pwrite(fd, data + half, op->len - half, 3) != (ssize_t)(op->len - half))
		r = -errno;
	return close(fd) ? -errno : r;
}

static int run_fsync(const char *mount)
{
	int fd = open(mount, O_RDONLY | O_DIRECTORY);
	int r = fd < 0 || fsync(fd) ? -errno : 0;
	close(fd);
	return r;
}

static int run_mount(const struct op *op, const char *mount)
{
	char path[400], other[400];
	int r;
	snprintf(path, sizeof path, "%s/%s", mount, op->key);
	snprintf(other, sizeof other, "%s/%s", mount, op->other);
	switch (op->kind) {
	case OP_DEL:
		r = unlink(path);
		if (r && errno == EISDIR)
			r = rmdir(path);
		break;
	case OP_RENAME:
		r = rename(path, other);
		break;
	case OP_LINK:
		r = link(path, other);
		break;
	case OP_MKDIR:
		r = mkdir(path, 0750);
		break;
	case OP_SETXATTR:
		r = setxattr(path, "user.x", op_bytes(op), op->len % 2000, 0);
		break;
	case OP_CHMOD:
		r = chmod(path, 0600 | (op->seed & 077));
		break;
	case OP_SYNC:
		return run_fsync(mount);
	default:
		return run_file(op, path);
	}
	return r ? -errno : 0;
}

bool op_goes_through(const struct op *op, enum door door)
{
	static const uint32_t command = 1 << OP_PUT | 1 << OP_DEL | 1 << OP_RENAME | 1 << OP_TXN,
			      mount = 1 << OP_PUT | 1 << OP_DEL | 1 << OP_RENAME | 1 << OP_APPEND | 1 << OP_UPDATE |
				      1 << OP_REPLACE | 1 << OP_LINK | 1 << OP_MKDIR | 1 << OP_CHMOD | 1 << OP_SETXATTR |
				      1 << OP_SYNC;
	if (door == DOOR_COMMAND && op->kind == OP_TXN)
		return op->seed % 5 > 1 && op->len < 20000; /* nothing is deleted */
	return door == DOOR_LIBRARY || (door == DOOR_COMMAND ? command : mount) >> op->kind & 1;
}

int op_run(const struct op *op, const struct doors *doors, uint64_t *ret_version)
{
	switch (op->door) {
	case DOOR_COMMAND:
		return run_command(op, doors);
	case DOOR_MOUNT:
		return run_mount(op, doors->mount);
	default:
		return run_library(op, doors->store, ret_version);
	}
}

/* ---- the model ---- */

static int model_session(const struct op *op, struct model *m)
{
	struct model_session *s;
	const uint8_t *data = op_bytes(op);
	bool replaces = op->kind == OP_REPLACE;
	int r = model_session_open(m, op->key, MODEL_CREATE | (replaces ? MODEL_TRUNCATE : 0u), 0644, &s);
	if (r)
		return r;
	size_t half = replaces ? op->len : op->len / 2;
	if (op->cut)
		model_session_truncate(s, op->cut);
	model_session_write(s, data, half, replaces ? 0 : op->at);
	model_session_write(s, data + half, op->len - half, 3);
	r = model_session_publish(s);
	model_session_close(s);
	return r;
}

/* All or nothing: tried on a copy. */
static int model_txn(const struct op *op, struct model *m)
{
	struct model *copy = model_clone(m);
	const uint8_t *data = op_bytes(op);
	int r = 0;
	for (int turn = 0; r == 0 && turn < 2; turn++) {
		struct model *to = turn ? m : copy;
		for (unsigned i = 0; r == 0 && i < 2; i++) {
			if (op->seed % 5 == i)
				r = model_exists(to, txn_key(op, i)) ? model_del(to, txn_key(op, i)) : 0;
			else
				r = model_put(to, txn_key(op, i), data + i * op->len / 2, op->len / 2, 0, 0644);
		}
	}
	model_free(copy);
	return r;
}

int op_model(const struct op *op, struct model *m)
{
	switch (op->kind) {
	case OP_PUT:
		return model_put(m, op->key, op_bytes(op), op->len, 0, 0644);
	case OP_APPEND:
		return model_append(m, op->key, op_bytes(op), op->len);
	case OP_UPDATE:
	case OP_REPLACE:
		return model_session(op, m);
	case OP_DEL:
		return model_del(m, op->key);
	case OP_DEL_TREE:
		return model_del_tree(m, op->key);
	case OP_RENAME:
		return model_rename(m, op->key, op->other, 0);
	case OP_EXCHANGE:
		return model_rename(m, op->key, op->other, MODEL_EXCHANGE);
	case OP_LINK:
		return model_link(m, op->key, op->other);
	case OP_MKDIR:
		return model_mkdir(m, op->key, 0750);
	case OP_SYMLINK:
		return model_symlink(m, op->other, op->key);
	case OP_CHMOD:
		return model_chmod(m, op->key, 0600 | (op->seed & 077));
	case OP_SETXATTR:
		return model_setxattr(m, op->key, "user.x", op_bytes(op), op->len % 2000);
	case OP_REMOVEXATTR:
		return model_removexattr(m, op->key, "user.x");
	case OP_TXN:
		return model_txn(op, m);
	default:
		return 0;
	}
}

/* ---- histories ---- */

struct history *history_new(void)
{
	struct history *h = mmap(NULL, sizeof *h, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(h != MAP_FAILED);
	return h;
}

static int by_seq(const void *a, const void *b)
{
	uint64_t x = (*(const struct event *const *)a)->seq, y = (*(const struct event *const *)b)->seq;
	return x < y ? -1 : x > y;
}

void history_close(struct history *h, const struct model *start, uint64_t start_seq)
{
	const struct event **order = calloc(h->n + 1, sizeof *order);
	struct model *m = model_clone(start);
	size_t n = 0;
	for (size_t i = 0; i < h->n; i++)
		if (h->event[i].seq)
			order[n++] = &h->event[i];
	qsort(order, n, sizeof *order, by_seq);
	h->state = calloc(n + 1, sizeof *h->state);
	h->state[0].seq = start_seq;
	h->state[0].m = model_clone(m);
	for (size_t i = 0; i < n; i++) {
		int want = op_model(&order[i]->op, m);
		if ((want == 0) != (order[i]->result == 0))
			fail_msg("%s: %d, the model says %d", op_text(&order[i]->op), order[i]->result, want);
		h->state[i + 1].seq = order[i]->seq;
		h->state[i + 1].m = model_clone(m);
	}
	h->nstates = n + 1;
	model_free(m);
	free(order);
}

void history_free(struct history *h)
{
	for (size_t i = 0; i < h->nstates; i++)
		model_free(h->state[i].m);
	free(h->state);
	munmap(h, sizeof *h);
}
