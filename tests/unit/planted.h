/* A store with something of everything, to plant faults in: records with right sums, within `txn`; pages, after planted_open_file(). */
#ifndef KVFS_TEST_PLANTED_H
#define KVFS_TEST_PLANTED_H

#include "changelog.h"
#include "core.h"
#include "inode.h"
#include "pages.h"

#define CHUNK 32736u

struct plant {
	const char *path;
	struct kvfs_store *store;
	struct kv_txn txn;
	struct kv_head head;
	struct kv_inode big, twin, dir, sub, note, link;
	int fd;
	struct kv_pages pages;
};

int planted_setup(void **state);
int planted_teardown(void **state);
/* Ends the transaction in which faults of records are planted, if it is still there. */
void planted_done(struct plant *p);
/* For faults of pages: nobody has the store open. */
void planted_open_file(struct plant *p);
void planted_write(struct plant *p, uint64_t offset, const void *data, size_t len);
/* Where in the file the main tree's record of a tree is, and what it says. */
uint64_t planted_find_tree(struct plant *p, const char *name, struct kv_lmdb_tree *ret);

struct findings {
	size_t n;
	struct {
		enum kvfs_finding_kind kind;
		char key[100], text[300];
	} list[400];
};

/* A kvfs_finding_fn; arg is a struct findings. */
void planted_note(void *arg, const struct kvfs_finding *f);
void planted_print(const struct findings *all);

#endif
