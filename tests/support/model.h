/* A store in memory, written for plainness: what kvfs must equal after any sequence of operations.
 *
 * Keys are legal and have no leading '/'; "" is the root.  Results are 0 or a negative errno; when several errors apply, which
 * one comes is not promised.  Memory that runs out ends the process: this is for tests. */
#ifndef KVFS_TEST_MODEL_H
#define KVFS_TEST_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A value that never changes: who keeps a reference has a snapshot. */
struct model_bytes {
	unsigned refs;
	size_t len;
	unsigned char data[];
};
struct model_bytes *model_bytes_new(const void *data, size_t len);
struct model_bytes *model_bytes_ref(struct model_bytes *b);
void model_bytes_unref(struct model_bytes *b);

struct model_entry {
	char *name;
	struct model_node *node;
};

struct model_xattr {
	char *name;
	struct model_bytes *value;
};

/* An inode. */
struct model_node {
	unsigned refs; /* names and sessions */
	unsigned links; /* names */
	mode_t mode; /* type and permission */
	bool stays; /* a directory that was made by mkdir */
	struct model_bytes *value; /* of a regular file; of a symbolic link, its target */
	struct model_entry *entries; /* of a directory, sorted by bytes */
	size_t n_entries;
	struct model_xattr *xattrs; /* sorted */
	size_t n_xattrs;
};

struct model {
	struct model_node *root;
	/* Directories that a key needs are made, and go with their last key; else they must be there (a file system). */
	bool implicit;
	struct model_session *reserved; /* those that alone may make their keys */
};

struct model *model_new(bool implicit);
void model_free(struct model *m);
/* The whole tree, sharing the values; names of one inode stay names of one inode.  Sessions stay with the original;
 * what they have reserved is so in the copy as long as they live. */
struct model *model_clone(const struct model *m);

/* ---- operations: as kvfs.h has them ---- */

enum { MODEL_IF_ABSENT = 1, MODEL_NOREPLACE = 2, MODEL_EXCHANGE = 4 };

int model_find(const struct model *m, const char *key, struct model_node **ret);
bool model_exists(const struct model *m, const char *key);
/* *ret is a new reference. */
int model_get(const struct model *m, const char *key, struct model_bytes **ret);
int model_put(struct model *m, const char *key, const void *data, size_t len, unsigned flags, mode_t mode);
int model_append(struct model *m, const char *key, const void *data, size_t len);
int model_del(struct model *m, const char *key);
int model_del_tree(struct model *m, const char *key);
int model_mkdir(struct model *m, const char *key, mode_t mode);
int model_mknod(struct model *m, const char *key, mode_t mode);
int model_symlink(struct model *m, const char *target, const char *key);
int model_link(struct model *m, const char *key, const char *new_key);
int model_rename(struct model *m, const char *src, const char *dst, unsigned flags);
int model_chmod(struct model *m, const char *key, mode_t mode);
int model_setxattr(struct model *m, const char *key, const char *name, const void *data, size_t len);
int model_removexattr(struct model *m, const char *key, const char *name);

/* Calls fn for every key in list order: depth first, by bytes, a directory before its keys. */
typedef void model_walk_fn(void *arg, const char *key, const struct model_node *node);
void model_walk(const struct model *m, model_walk_fn *fn, void *arg);

/* ---- write sessions ---- */

enum { MODEL_CREATE = 1, MODEL_EXCL = 2, MODEL_TRUNCATE = 4 };

struct model_step {
	bool cut; /* a truncation to `offset`, else a write of `data` there */
	size_t offset;
	struct model_bytes *data;
};

/* What a session of parts did is kept as steps, to be done again on the value as it is at publication. */
struct model_session {
	struct model *m;
	struct model_node *node; /* NULL: a key that is not there yet */
	char *key;
	mode_t mode;
	bool excl, replaces, dirty;
	struct model_session *next; /* in m->reserved */
	struct model_bytes *view;
	struct model_step *steps;
	size_t n_steps;
};

int model_session_open(struct model *m, const char *key, unsigned flags, mode_t mode, struct model_session **ret);
void model_session_write(struct model_session *s, const void *data, size_t len, size_t offset);
void model_session_truncate(struct model_session *s, size_t size);
int model_session_publish(struct model_session *s);
/* Drops what is not published. */
void model_session_close(struct model_session *s);

#endif
