/* Walking a directory or a tree in list order, from where the last step stood: a walk holds no transaction between steps. */
#ifndef KV_WALK_H
#define KV_WALK_H

#include <kvfs.h>

#include "dirent.h"

#define KV_WALK_DEPTH 2049 /* the root, and the components that fit in a key */

struct kv_walk {
	unsigned flags; /* KVFS_LIST_* */
	char *prefix, *from, *until; /* legal keys or NULL; owned */
	char path[KVFS_KEY_MAX + KVFS_NAME_MAX + 2]; /* of the last step */
	/* The directories from the listed one down to the last step's; frame i's path is path[0, len). */
	struct kv_walk_frame {
		uint64_t ino;
		uint32_t len;
		bool started; /* the last step's name follows the frame's path */
	} * frames;
	size_t depth, cap;
	bool done;
	bool too_long; /* something was passed over, because no key can say it */
};

int kv_walk_init(struct kv_walk *w, const char *dir, uint64_t ino, const struct kvfs_list_options *opt);
void kv_walk_free(struct kv_walk *w);
/* The next key: 1 with w->path and *ret, 0 at the end, or a negative errno.  `c` is a cursor on the dirent table. */
int kv_walk_next(struct kv_walk *w, struct kv_cursor *c, struct kv_dirent *ret);

#endif
