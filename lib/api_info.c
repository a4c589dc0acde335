/* What a store is and how full it is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "api.h"
#include "create.h"
#include "durable.h"
#include "err.h"
#include "held.h"

/* `ret_names` may be NULL. */
static int head_of(struct kv_core *core, struct kv_head *ret, uint64_t *ret_names)
{
	struct kv_txn txn;
	int r = kv_db_read(core->db, &txn);
	if (r)
		return r;
	r = kv_log_head(&txn, ret);
	if (r == 0 && ret_names)
		r = kv_db_count(&txn, KV_DIRENT, ret_names); /* one for each name, and nothing else */
	kv_db_read_end(&txn);
	return r;
}

int kvfs_info(struct kvfs_store *store, struct kvfs_info *ret)
{
	struct kv_core *core = store->core;
	struct kv_db_info db;
	struct kv_head head;
	struct statvfs vfs;
	uint64_t names;
	int r = kv_core_check(core);
	if (r == 0)
		r = head_of(core, &head, &names);
	if (r == 0)
		r = kv_db_info(core->db, &db);
	if (r == 0 && statvfs(core->path, &vfs))
		r = kv_fail(errno);
	if (r)
		return r;
	struct kvfs_info out = {
		.format = core->super.format,
		.page_size = db.page_size,
		.chunk_size = core->layout.chunk_size,
		.inline_max = core->layout.inline_max,
		.sequence = head.seq,
		.values = head.rec.values,
		.directories = head.rec.dirs,
		.others = head.rec.others,
		.names = names,
		.value_bytes = head.rec.value_bytes,
		.file_bytes = db.file_pages * db.page_size,
		.used_bytes = (db.file_pages - db.free_pages) * db.page_size,
		.free_bytes = db.free_pages * db.page_size,
		.disk_free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize,
		.garbage_bytes = head.rec.garbage_bytes,
		.readers = db.readers,
		.readers_max = db.readers_max,
		.doors = 1,
	};
	snprintf(out.path, sizeof out.path, "%s", core->path);
	kv_uuid_text(core->super.uuid, out.uuid);
	if (core->doors) {
		out.relaxed = kv_doors_loose(core->doors);
		out.held_values = kv_doors_holds(core->doors);
		out.last_sync_ns = kv_doors_synced(core->doors);
		kv_doors_oldest_snapshot(core->doors, &out.snapshot_pid, &out.snapshot_age_ms);
		ssize_t n = kv_doors_list(core->doors, NULL, 0);
		out.doors = n > 0 ? (unsigned)n : 1;
	}
	*ret = out;
	return 0;
}

ssize_t kvfs_doors(struct kvfs_store *store, struct kvfs_door *ret, size_t n)
{
	int r = kv_core_check(store->core);
	if (r)
		return r;
	return store->core->doors ? kv_doors_list(store->core->doors, ret, n) : 0;
}

int kvfs_ll_set_mountpoint(struct kvfs_store *store, const char *mountpoint)
{
	int r = kv_core_check(store->core);
	if (r)
		return r;
	return store->core->doors ? kv_doors_set_mountpoint(store->core->doors, mountpoint) : 0;
}

int kvfs_ll_failed(struct kvfs_store *store)
{
	return kv_core_check(store->core) ? 0 : kv_durable_info(store->core).failed;
}

/* Free space as a file system would say it: what the disk has, and what the file can reuse.  Counting the free list takes time in
 * proportion to it, so only the disk's own and the garbage, known at no cost, are added up. */
int kvfs_ll_statfs(struct kvfs_store *store, struct statvfs *ret)
{
	struct kv_core *core = store->core;
	struct kv_head head;
	struct statvfs vfs;
	int r = kv_core_check(core);
	if (r == 0)
		r = head_of(core, &head, NULL);
	if (r == 0 && statvfs(core->path, &vfs))
		r = kv_fail(errno);
	if (r)
		return r;
	vfs.f_files = head.rec.values + head.rec.dirs + head.rec.others + vfs.f_bavail;
	vfs.f_ffree = vfs.f_favail = vfs.f_bavail;
	vfs.f_namemax = KVFS_NAME_MAX;
	*ret = vfs;
	return 0;
}

int kvfs_sync(struct kvfs_store *store)
{
	int r = kv_core_check(store->core);
	if (r || store->core->rdonly)
		return r;
	return kv_durable_sync(store->core);
}

void kvfs_damage(struct kvfs_store *store, struct kvfs_error *ret)
{
	if (kv_core_check(store->core) == 0)
		kv_db_damage(store->core->db, ret);
}
