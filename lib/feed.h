/* What a commit does for those who follow the changes: the observer and the feed of this process, the feeds of others.  The calls that follow
 * them are kvfs_feed_* in kvfs_ll.h. */
#ifndef KV_FEED_H
#define KV_FEED_H

#include "core.h"

/* kv_db_commit() of an edit, of which this process's own feed will know that it is its own. */
int kv_feed_commit(struct kv_core *core, struct kv_edit *ed, enum kv_sync sync);
/* After it: tells the observer; then waits until the feeds of other doors have handled it, unless this one has a feed too. */
void kv_feed_tell(struct kv_core *core, const struct kv_edit *ed);

#endif
