/* An edit: a write transaction together with the counters and the log record it will leave.  namei and value change the store only
 * through one; commit.c begins and commits it. */
#ifndef KV_EDIT_H
#define KV_EDIT_H

#include "changelog.h"
#include "db.h"

/* Sizes fixed when the store was made. */
struct kv_layout {
	uint32_t chunk_size, inline_max;
};

struct kv_edit {
	struct kv_txn txn;
	uint64_t first; /* sequence of the first edit in this transaction, which may be an earlier one than this (commit.h) */
	struct kv_layout layout;
	struct kv_head head; /* counters as they will be after this commit */
	struct kv_changes changes; /* what the log will say */
	uint64_t seq; /* of this commit: the version of what it publishes */
	struct timespec now;
	uint64_t chunks; /* put so far: the reaper frees twice as many */
	uint64_t retiring; /* chunks retired so far, by estimate: and twice as many of these, within bounds */
	uint32_t retired; /* garbage entries so far */
	/* Has somebody but the session that this edit is for reserved the name?  NULL: no name is. */
	bool (*reserved)(struct kv_edit *ed, uint64_t dir, const char *name, size_t len);
	struct kv_doors *doors;
	unsigned own_name; /* that session's reservation; 0 none */
};

/* Does it see what is committed, and nothing else? */
static inline bool kv_edit_is_first(const struct kv_edit *ed)
{
	return ed->seq == ed->first;
}

#endif
