/* The one place where errors originate: one breakpoint, and one fault-injection point, catch them all. */
#ifndef KV_ERR_H
#define KV_ERR_H

#include <kvfs.h>

/* -errnum, from here. */
int kv_fail(int errnum);
/* Fills err (may be NULL) with a sentence and returns -errnum. */
__attribute__((format(printf, 3, 4))) int kv_explain(struct kvfs_error *err, int errnum, const char *fmt, ...);

#endif
