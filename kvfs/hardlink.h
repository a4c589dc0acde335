/* Second names of what an archive or a tree has met before. */
#ifndef KVFS_HARDLINK_H
#define KVFS_HARDLINK_H

#include <archive_entry.h>

/* Makes `entry` a hard link if it is one.  libarchive's resolver thinks that devices have one name: for its look they are FIFOs. */
static inline void hardlink_resolve(struct archive_entry_linkresolver *links, struct archive_entry *entry)
{
	const unsigned type = archive_entry_filetype(entry);
	struct archive_entry *spare = NULL, *same = entry;

	if (type == AE_IFCHR || type == AE_IFBLK)
		archive_entry_set_filetype(entry, AE_IFIFO);
	if (type != AE_IFDIR)
		archive_entry_linkify(links, &same, &spare);
	archive_entry_set_filetype(entry, type);
}

#endif
