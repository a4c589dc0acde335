/* Operations that can be done to a store through any door, and to the model, and told from one another afterwards: what was done,
 * in which order it was committed, and what the store is after each commit. */
#ifndef CRASH_HISTORY_H
#define CRASH_HISTORY_H

#include "support.h"

#include <kvfs.h>

#include "model.h"

enum op_kind {
	OP_PUT,
	OP_APPEND,
	OP_UPDATE, /* a session that changes one or two parts of a value, or cuts it */
	OP_REPLACE, /* a session that replaces it */
	OP_DEL,
	OP_DEL_TREE,
	OP_RENAME,
	OP_EXCHANGE,
	OP_LINK,
	OP_MKDIR,
	OP_SYMLINK,
	OP_CHMOD,
	OP_SETXATTR,
	OP_REMOVEXATTR,
	OP_TXN, /* several keys */
	OP_SYNC,
	OP_KINDS
};

enum door { DOOR_LIBRARY, DOOR_COMMAND, DOOR_MOUNT };

struct op {
	enum op_kind kind;
	enum door door;
	char key[48], other[48];
	uint32_t len, at, cut; /* bytes; OP_UPDATE cuts at `cut` unless that is 0 */
	uint64_t seed; /* of the bytes */
};

/* Ways into one store. */
struct doors {
	const char *path; /* of the store */
	struct kvfs_store *store; /* the library */
	const char *program; /* kvfs */
	const char *mount; /* where it is mounted, or NULL */
};

/* The library's, with little memory for what is written; fails the test. */
struct kvfs_store *doors_open(const char *path, unsigned flags, enum kvfs_durability level);
/* An operation by chance on one of few keys; `own` (may be "") is put before each key. */
struct op op_random(struct support_rng *rng, const char *own, bool large);
/* Its bytes, which follow from its seed; in a static buffer of the thread. */
const uint8_t *op_bytes(const struct op *op);
bool op_goes_through(const struct op *op, enum door door);
/* 0 or a negative errno; of a command or a mount, any.  `ret_version` (may be NULL) of OP_PUT in the library. */
int op_run(const struct op *op, const struct doors *doors, uint64_t *ret_version);
int op_model(const struct op *op, struct model *m);
/* Runs a program, recorded if $KVFS_RECORDER says by what, with that on its standard input; returns its exit status. */
int run_program(const char *const argv[], const void *input, size_t len);
/* A line about it, in a static buffer. */
const char *op_text(const struct op *op);

/* ---- what was done */

enum { HISTORY_MAX = 20000 };

struct event {
	struct op op;
	uint64_t seq; /* of its commit; 0 it changed nothing */
	int result;
	unsigned pid;
	bool done; /* it returned */
};

struct history {
	size_t n;
	struct event event[HISTORY_MAX]; /* in the order of beginning; event i is i of the marks */
	/* Filled by history_close(): */
	size_t nstates;
	struct {
		uint64_t seq;
		struct model *m;
	} * state; /* after each commit that changed something, in order; state[0] is the beginning */
};

/* Memory that children share. */
struct history *history_new(void);
/* Puts the events in the order of their commits and makes the states; fails the test when an event's result is not the model's. */
void history_close(struct history *h, const struct model *start, uint64_t start_seq);
void history_free(struct history *h);

#endif
