/* Error origin; see err.h. */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>

int kv_fail(int errnum)
{
	return -errnum;
}

int kv_explain(struct kvfs_error *err, int errnum, const char *fmt, ...)
{
	if (err) {
		va_list ap;
		va_start(ap, fmt);
		err->code = -errnum;
		vsnprintf(err->text, sizeof err->text, fmt, ap);
		va_end(ap);
	}
	return kv_fail(errnum);
}
