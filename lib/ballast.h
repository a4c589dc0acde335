/* Room for deletions on a full disk.
 *
 * A deletion is a commit, and needs pages before it frees any.  When neither data.mdb has a free one nor the disk, nothing could be deleted. So
 * a store keeps a file of KV_BALLAST bytes that is good for nothing: a deletion that finds no room has it emptied, and is made again. What it
 * freed is there for the next one, and what it did not use goes back into the file.  Puts never get it.  Somebody else may take what was given
 * up: then the deletion fails, as it would have. */
#ifndef KV_BALLAST_H
#define KV_BALLAST_H

#include <stdbool.h>

#define KV_BALLAST_NAME "ballast"
#define KV_BALLAST (256 << 10)

/* Both may be called at any time, by any process: errors are told to nobody, for nothing depends on it.
 * Filled if the disk has plenty; with `back`, which says that it was dropped just now, as far as there still is room. */
void kv_ballast_fill(int dirfd, bool back);
/* True: there was something, and the disk has it now. */
bool kv_ballast_drop(int dirfd);

#endif
