/* What is on disk: FORMAT.md in C.  Records are packed and native-endian (a store names its byte order and is refused by
 * another machine's); keys are big-endian, so that LMDB's byte order is the order we mean. */
#ifndef KV_FORMAT_H
#define KV_FORMAT_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define KV_FORMAT_VERSION 1
#define KV_PACKED __attribute__((packed))

/* A chunk's record fills this many overflow pages exactly; tests/bench/LAYOUT.md has the measurement. */
#define KV_CHUNK_PAGES 8
#define KV_PAGE_HEADER 16 /* LMDB's, once for a run of overflow pages */
/* Values up to this length live in the inode record, which then (with a name of up to 97 bytes) fills one overflow page at most. */
#define KV_INLINE_MAX 3840
#define KV_CHUNKS_MAX (1ull << 32)
#define KV_VALUE_MAX (127ull << 40) /* less than 2^32 chunks, which hold a little less than 32 KiB each */

#define KV_INO_BITS 44
#define KV_CUTS_MAX 4
#define KV_SKIPS_MAX 4
#define KV_GEN_MAX ((1u << 30) - 1) /* generations of chunks; a session's masks have one of their own above */
#define KV_GEN_MASKS UINT32_MAX

/* The first four share LMDB's main tree, told apart by the first byte of the key (the table's number plus one); the others have a tree
 * each.  The main tree stays tiny, and the log's end lies beside LMDB's own records of the other trees' roots, which every commit
 * writes: so both are one page.  In a tree of its own a table that grows in order of its keys fills its pages. */
enum kv_table { KV_META, KV_GARBAGE, KV_SESSION, KV_LOG, KV_DIRENT, KV_INODE, KV_CHUNK, KV_XATTR, KV_HISTORY, KV_TABLES };

/* Every record begins with the low 32 bits of XXH3-64 over what follows, seeded by table and key (db.c adds and checks it). */
struct kv_rec_sum {
	uint32_t sum;
} KV_PACKED;

/* meta "store" */
struct kv_rec_super {
	uint32_t format;
	uint32_t page_size;
	uint32_t chunk_size; /* bytes of data in a chunk */
	uint32_t inline_max;
	uint64_t compat; /* features an older program may ignore */
	uint64_t incompat; /* features it must not */
	uint8_t uuid[16];
	int64_t created_ns;
} KV_PACKED;

/* Where an inode's record is.  An inode that is no directory and has one name is kept in that entry, while it is small:
 * finding the name has then found everything. */
#define KV_EMBED_MAX 512 /* bytes of such a record: listing names alone must not drag whole values along */
enum kv_home {
	KV_HOME_HERE = 1, /* inode table: the inode record follows */
	KV_HOME_ENTRY = 2, /* inode table: parent u64 and name of the entry that has it follow */
};

/* dirent: key (parent u64 BE, name); an inode record may follow */
struct kv_rec_dirent {
	uint64_t ino;
	uint32_t type; /* S_IFMT bits of the inode's mode */
} KV_PACKED;

struct kv_rec_time {
	int64_t sec;
	uint32_t nsec;
} KV_PACKED;

/* A truncation that is not yet cleaned up: chunks at or past `index` of generations before `gen` read as zeros. */
struct kv_rec_cut {
	uint32_t index;
	uint32_t gen;
} KV_PACKED;

enum {
	KV_INODE_IMPLICIT = 1 << 0, /* a directory that was made only because a key needed it */
	KV_INODE_XATTRS = 1 << 1, /* has (or had) extended attributes */
	KV_INODE_PUBLISH_CLOSE = 1 << 3, /* the attribute user.kvfs.publish says `close` */
	KV_INODE_PUBLISH_WRITE = 1 << 4, /* it says `write` */
	KV_INODE_DENSE = 1 << 2, /* a value without holes: a chunk that is not found is damage */
};

/* A generation reserved for chunks that are written ahead of their publication: not part of the value.  In the low 30 bits. */
#define KV_SKIP_HIT (1u << 30) /* somebody published other bytes where some of them lay, and took those away */
#define KV_SKIP_DEAD (1u << 31) /* they will not be published */

/* inode: key (ino u64 BE); enum kv_home u8, then this (or: in an entry, after kv_rec_dirent); followed by name[name_len], cuts[ncuts], skips[nskips] (u32), tail[tail_len] */
struct kv_rec_inode {
	uint16_t flags;
	uint16_t encoding; /* reserved: how chunks are packed; 0 verbatim */
	uint32_t mode, uid, gid, nlink, rdev;
	struct kv_rec_time atime, mtime, ctime, btime;
	int64_t expires_ns; /* reserved: CLOCK_REALTIME; 0 never */
	uint64_t version; /* log sequence of the commit that published the value (made the directory's last change) */
	uint32_t epoch; /* publications of this inode */
	uint64_t parent; /* a directory that names it: with `name` below the way back up */
	uint64_t size; /* value: bytes; symbolic link: length; directory: entries */
	uint64_t blob; /* value: id of its chunks, 0 none; directory: number of subdirectories */
	uint64_t stored; /* bytes in chunks */
	uint32_t gen; /* newest generation of chunks that is part of the value */
	uint32_t next_gen; /* the next one to hand out */
	uint16_t name_len, tail_len;
	uint8_t ncuts, nskips;
} KV_PACKED;

/* chunk: key (blob u64 BE, index u32 BE, ~gen u32 BE); followed by data; short data: the rest is zeros */
struct kv_rec_chunk {
	uint8_t kind; /* 0 data; 1, 2 dirty mask of a session's chunk of the same index: bitmap, runs */
	uint8_t encoding;
	uint16_t reserved;
	uint64_t reserved2;
} KV_PACKED;

/* log: key (seq u64 BE); followed by changes.  The last record carries the store's counters. */
struct kv_rec_log {
	uint64_t next_ino, next_blob;
	uint64_t values, dirs, others; /* keys by kind */
	uint64_t value_bytes;
	uint64_t garbage_bytes;
	int64_t time_ns;
	uint32_t nchanges;
} KV_PACKED;

enum kv_change_kind {
	KV_CHANGE_PUT = 1, /* a value was published */
	KV_CHANGE_DELETE,
	KV_CHANGE_RENAME_FROM, /* always followed by its RENAME_TO */
	KV_CHANGE_RENAME_TO,
	KV_CHANGE_MKDIR,
	KV_CHANGE_MAKE, /* link, symbolic link, special file */
	KV_CHANGE_ATTR,
	KV_CHANGE_APPEND, /* a value grew at its end, and changed in no other way */
};
struct kv_rec_change {
	uint8_t kind;
	uint8_t reserved;
	uint16_t name_len;
	uint16_t type; /* S_IFMT bits */
	uint16_t epoch; /* PUT, APPEND: low bits of the inode's epoch after it; else 0 */
	uint64_t ino, parent;
} KV_PACKED;

/* garbage: key (due u64 BE, id u64 BE).  due: log sequence of the commit that retired it, or KV_GARBAGE_HELD | blob while a
 * handle still reads it. */
#define KV_GARBAGE_HELD (1ull << 63)
enum kv_garbage_kind {
	KV_GARBAGE_BLOB = 1, /* every chunk of `blob` */
	KV_GARBAGE_TAIL, /* chunks at or past `index`, of generations before `below` */
	KV_GARBAGE_CHUNKS, /* the chunks listed behind: (index, gen) pairs */
	KV_GARBAGE_UNDER, /* chunks of generations before `below` where the session's blob, named behind, has any; and that blob */
	KV_GARBAGE_AHEAD, /* chunks of generation `index` where the session's blob, named behind, has any; and that blob */
};
struct kv_rec_garbage {
	uint8_t kind;
	uint8_t reserved[3];
	uint32_t index;
	uint64_t blob;
	uint64_t below; /* holds at a generation below this block it; UINT64_MAX any */
	uint64_t ino; /* whose cut is forgotten when a TAIL is done, whose skip when an AHEAD is */
	uint64_t bytes; /* estimate of what it will free */
} KV_PACKED;

/* session: key (blob u64 BE): a hidden blob that a live door is writing; garbage when that door is gone.  Without a door: a kept
 * session; kv_rec_kept and name[name_len] follow. */
struct kv_rec_session {
	uint64_t door;
	uint64_t ino;
	int64_t since_ns;
	uint64_t ahead_blob; /* where its chunks are written ahead of publication, and their generation; 0 they are not */
	uint32_t ahead_gen;
} KV_PACKED;

enum {
	KV_KEPT_WHOLE = 1 << 0, /* the whole value is the session's; else bytes that masks mark */
	KV_KEPT_SIZED = 1 << 1, /* a truncation decided the size */
};
struct kv_rec_kept {
	uint64_t parent; /* of the name that it was for */
	uint64_t size, cut, end, stored; /* as in struct kvfs_session */
	uint32_t mode, uid, gid; /* if the key has to be made */
	int32_t reason; /* the signal that ended the writer, or a negative errno */
	uint16_t flags;
	uint16_t name_len;
} KV_PACKED;

static_assert(sizeof(struct kv_rec_inode) == 138, "inode record");
static_assert(sizeof(struct kv_rec_chunk) == 12, "chunk header");
static_assert(sizeof(struct kv_rec_log) == 68, "log record");
static_assert(sizeof(struct kv_rec_change) == 24, "change");
static_assert(sizeof(struct kv_rec_garbage) == 40, "garbage record");
static_assert(sizeof(struct kv_rec_session) == 36 && sizeof(struct kv_rec_kept) == 60, "session record");
static_assert(sizeof(struct kv_rec_dirent) == 12, "dirent record");

/* Bytes of data in one chunk for a page size: the record and its checksum fill the pages exactly. */
static inline uint32_t kv_chunk_size_for(uint32_t page_size)
{
	uint32_t pages = page_size >= 32768 ? 1 : KV_CHUNK_PAGES * 4096 / page_size;
	return pages * page_size - KV_PAGE_HEADER - sizeof(struct kv_rec_sum) - sizeof(struct kv_rec_chunk);
}

/* ---- keys ---- */

struct kv_key_ino {
	uint64_t ino_be;
} KV_PACKED;

struct kv_key_chunk {
	uint64_t blob_be;
	uint32_t index_be;
	uint32_t gen_inv_be;
} KV_PACKED;

struct kv_key_garbage {
	uint64_t due_be;
	uint64_t id_be;
} KV_PACKED;

/* (inode, name): dirent and xattr */
struct kv_key_name {
	uint64_t ino_be;
	char name[255];
} KV_PACKED;

/* inode: one name of an inode that has several; an empty record */
struct kv_key_link {
	uint64_t ino_be, dir_be;
	char name[255];
} KV_PACKED;

static inline struct kv_key_ino kv_key_u64(uint64_t v)
{
	return (struct kv_key_ino){htobe64(v)};
}

static inline struct kv_key_chunk kv_key_chunk(uint64_t blob, uint32_t index, uint32_t gen)
{
	return (struct kv_key_chunk){htobe64(blob), htobe32(index), htobe32(~gen)};
}

static inline struct kv_key_garbage kv_key_garbage(uint64_t due, uint64_t id)
{
	return (struct kv_key_garbage){htobe64(due), htobe64(id)};
}

/* These return the key's length. */
static inline size_t kv_key_link(struct kv_key_link *key, uint64_t ino, uint64_t dir, const char *name, size_t len)
{
	key->ino_be = htobe64(ino);
	key->dir_be = htobe64(dir);
	memcpy(key->name, name, len);
	return sizeof key->ino_be + sizeof key->dir_be + len;
}

static inline size_t kv_key_name(struct kv_key_name *key, uint64_t ino, const char *name, size_t len)
{
	key->ino_be = htobe64(ino);
	memcpy(key->name, name, len);
	return sizeof key->ino_be + len;
}

#endif
