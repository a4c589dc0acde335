/* Put before every file of lib/ but err.c when clang-tidy reads it: the analyzer does not see into err.c, and would go on as if
 * a failure could be 0 and leave a result unset. */
#include "../../lib/err.h"

#define kv_fail(errnum) (-(errnum))
#define kv_explain(err, errnum, ...) ((void)kv_explain(err, errnum, __VA_ARGS__), -(errnum))
