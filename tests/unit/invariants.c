/* The store's invariants; see invariants.h.  It is kvfs_check() that looks, and reads all data too. */
#include "support.h"

#include "invariants.h"

#include <inttypes.h>

#include "core.h"
#include "garbage.h"

static void print_finding(void *arg, const struct kvfs_finding *f)
{
	(void)arg;
	print_error("invariant: %s%s%s\n", f->key ? f->key : "", f->key ? ": " : "", f->text);
}

void check_invariants(struct kvfs_store *store, struct invariants *ret)
{
	struct kvfs_check_options opt = {.size = sizeof opt, .flags = KVFS_CHECK_DATA, .finding = print_finding};
	struct kvfs_check_result seen;
	assert_ok(kvfs_check(store->core->path, &opt, &seen, NULL));
	if (seen.lost || seen.wrong || seen.space)
		fail_msg("the store contradicts itself");
	if (ret)
		*ret = (struct invariants){
			seen.inodes, seen.chunks, seen.dead_chunks, seen.garbage, seen.held_garbage, seen.sessions, seen.kept};
}

void check_drained(struct kvfs_store *store)
{
	struct invariants seen = {.garbage = 1};
	for (int i = 0; i < 2000 && seen.garbage; i++) {
		struct kv_txn txn;
		struct kv_garbage g;
		assert_ok(kvfs_put(store, "drain", "", 0, NULL, NULL));
		assert_ok(kv_db_read(store->core->db, &txn));
		seen.garbage = kv_garbage_seek(&txn, 0, 0, &g) == 0;
		kv_db_read_end(&txn);
	}
	check_invariants(store, &seen);
	if (seen.garbage || seen.dead_chunks)
		fail_msg("%" PRIu64 " garbage records, %" PRIu64 " dead chunks", seen.garbage, seen.dead_chunks);
}
