/* Freeing what was retired, in slices, as part of every commit. */
#ifndef KV_REAP_H
#define KV_REAP_H

#include "core.h"

/* Frees at least twice as many chunks as the edit put or retired, if there are that many that nobody reads. */
int kv_reap(struct kv_core *core, struct kv_edit *ed);

#endif
