/* The file `sync` (FORMAT.md): which state of data.mdb is known to be whole on the disk, while commits are made that are not flushed each
 * (durable.h).  After a power cut that state is put back before LMDB opens the file.
 *
 * Everything here is done by system calls, none of it by LMDB. */
#ifndef KV_SYNCFILE_H
#define KV_SYNCFILE_H

#include "db.h"

/* Where and when a record is written: what tells a power cut, and a copy of the store. */
struct kv_sync_place {
	uint8_t boot[16]; /* boot id */
	uint64_t ino; /* of data.mdb; 0 where the file system has none that last */
	uint64_t dev, mount;
} KV_PACKED;

struct kv_sync_record {
	bool loose; /* there may be commits after this state that are not flushed */
	bool failed; /* ... and cannot be any more: a flush has failed */
	uint64_t number;
	uint8_t uuid[16];
	struct kv_sync_place place;
	int64_t time_ns;
	struct kv_metas metas;
};

/* -ENOTSUP: the kernel does not say which boot this is. */
int kv_sync_place(int dirfd, struct kv_sync_place *ret);

/* The slot of the file; its bytes. */
#define KV_SYNC_SLOT 512
#define KV_SYNC_FILE 8192
void kv_sync_encode(const struct kv_sync_record *rec, uint8_t ret[KV_SYNC_SLOT]);
bool kv_sync_decode(const uint8_t slot[KV_SYNC_SLOT], struct kv_sync_record *ret);

/* Opens the file, made if need be, with owner, group and mode of data.mdb.  `named`: its name is known to be durable; else it is made so. */
int kv_syncfile_open(int dirfd, bool named, int *ret);
/* The newest record; -ENOENT none is sound. */
int kv_syncfile_read(int fd, struct kv_sync_record *ret);
/* Writes it as the next one, over the older of the two: sets its number.  The caller has the file's lock, and flushes. */
int kv_syncfile_write(int fd, struct kv_sync_record *rec);
/* flock of the file, in which nothing but reading and writing it is done. */
int kv_syncfile_lock(int fd);

/* Before LMDB opens, under the directory's lock: finds out whether the power was cut, and puts the recorded state back.  `uuid` is the store's
 * by FORMAT, zeros unknown.
 * -EROFS a state must be put back and the store is opened read-only · -EBUSY the same and somebody has it open ·
 * -EUCLEAN that state is damaged · -ESTALE the record is of another data.mdb, one that was copied after a power cut. */
int kv_syncfile_settle(int dirfd, bool rdonly, const uint8_t uuid[16], bool *ret_alone, bool *ret_loose, struct kvfs_error *err);
/* After LMDB closed it: says that all is flushed, and sees to it, unless somebody else has the store open.  Under the directory's lock, which is
 * the caller's already if `locked`. */
void kv_syncfile_leave(int dirfd, bool locked);

#endif
