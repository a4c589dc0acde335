/* Who calls: the process of a thread, what became of it, and which descriptors it has, as the system shows them.
 *
 * The kernel names the caller of a request by thread id.  0 is a caller in a pid namespace of its own: unknown, and never equal
 * to another.  Nothing here talks to the mount itself: a worker that did would wait for another worker. */
#ifndef KVFS_PROCESS_H
#define KVFS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The process that thread `tid` belongs to; 0 unknown. */
pid_t kv_process_of(pid_t tid);
/* Whether thread `tid` belongs to `process`. */
bool kv_process_has(pid_t process, pid_t tid);

enum kv_fate { KV_FATE_ALIVE, KV_FATE_EXITS, KV_FATE_KILLED };
/* What is happening to the process of a thread that waits for us in close(2).  Killed is said only where the system lets us see it:
 * same user and group, or root; *ret_signal: by which signal. */
enum kv_fate kv_process_fate(pid_t tid, int *ret_signal);

/* A descriptor of any kind; one that was opened, and not by O_PATH, which nobody is asked for; one that can write. */
enum kv_descriptor { KV_DESCRIPTOR_ANY, KV_DESCRIPTOR_OPEN, KV_DESCRIPTOR_WRITE };
/* Whether thread `tid` has such a descriptor of the kernel inode (node, generation); generation 0 stands for any.
 * *ret_any: it has some descriptor at all, so it is not exiting.  1, 0, or a negative errno when it may not be inspected or has
 * too many. */
int kv_process_holds(pid_t tid, uint64_t node, uint32_t generation, enum kv_descriptor kind, bool *ret_any);
/* Closes what was kept open for the next call. */
void kv_process_end(void);

#endif
