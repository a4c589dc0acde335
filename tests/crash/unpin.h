/* A planted bug: reading transactions of this process let go of their state whenever it begins to write, so that LMDB may use the pages
 * of that state again.  For histories whose operations read nothing meanwhile. */
#ifndef CRASH_UNPIN_H
#define CRASH_UNPIN_H

#include <stdbool.h>

void unpin_set(bool on);

#endif
