/* The mount: what its files share.
 *
 *   kernel -> mount_lookup (names), mount_dir (listings), mount_file (bytes), mount_attr, mount_xattr
 *          -> node (which version or session is meant), writer (when a session is published) -> kvfs_ll.h
 *
 * Operations hold no state of their own and no lock across a call; the store has no logic of the kernel's, the mount none of the
 * store's.  The kernel caches names, attributes and pages until it is told otherwise: of changes made here by whoever makes them
 * (node, mount_notify), of those made through other doors by mount_feed, before the call that made them returns. */
#ifndef KVFS_MOUNT_H
#define KVFS_MOUNT_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <time.h>

#include "node.h"

/* How long the kernel may believe what it is told while nobody tells it otherwise. */
#define KV_TIMEOUT_S 86400.0
/* The same when it cannot be told to forget everything at once (Linux before 6.16): that then takes as long. */
#define KV_LEASE_S 1.0
/* From a LOOKUP or CREATE to the end of its system call: of ids that only that call knows. */
#define KV_SETTLE_S 0.05
/* Bytes of a value whose pages the kernel is not left to drop in the call that deletes it. */
#define KV_LARGE (64ull << 20)

/* The time of CLOCK_MONOTONIC in so many milliseconds, to wait until. */
static inline struct timespec kv_deadline(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += ms * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

struct kv_mount_options {
	const char *source; /* the store, as mount(8) shows it */
	const char *mountpoint; /* absolute */
	const char *kernel; /* options for the kernel and fusermount3, comma-separated; may be empty */
	bool foreground, debug; /* in the foreground a service manager is told, too */
	bool commit_killed; /* what a killed writer wrote is published */
	bool publish_write; /* what is written is published at each write */
	int ready_fd; /* gets one byte when the mount answers; -1 none */
	int fuse_fd; /* where the mount stands already (mount_user.c); -1: it is to be made */
};

/* What is told of damage: DAMAGE_LINES in DAMAGE_WINDOW_S, and how many were not. */
struct kv_telling {
	pthread_mutex_t lock;
	time_t since;
	unsigned told, untold;
};

struct kv_mount {
	struct kvfs_store *store;
	struct kv_nodes *nodes;
	struct fuse_session *se;
	struct kv_notifier *notifier;
	struct kv_feed *feed; /* NULL: nothing is cached, or nothing can change */
	bool lease;
	struct kv_locks *locks;
	struct kv_telling damage;
	const struct kv_mount_options *options;
};

/* Mounts and serves until the mount ends.  0, or a negative errno and, in why[cap], the reason that nothing was mounted. */
int kv_mount_run(struct kvfs_store *store, const struct kv_mount_options *options, char *why, size_t cap);
/* Says what nobody else can be told: on stderr in the foreground, else in the system's log. */
__attribute__((format(printf, 2, 3))) void kv_mount_log(const struct kv_mount *m, const char *fmt, ...);

/* mount_user.c.  Root, who serves as somebody else. */
struct kv_user {
	uid_t uid;
	gid_t gid;
};
/* A name or number; its groups become the process's. -ENOENT */
int kv_user_find(const char *name, struct kv_user *ret);
/* The store is opened as the user after this, */
int kv_user_begin(const struct kv_user *user);
/* and after this, mounted, the process is the user's for good. */
int kv_user_mount(const struct kv_mount_options *o, const struct kv_user *user, int *ret_fd);

/* Whether `path` is where a mount of FUSE type "kvfs" stands, dead or alive; the number of its device, and its store into
 * source[PATH_MAX] (both may be NULL). */
bool kv_mounted_at(const char *path, unsigned *ret_minor, char *ret_source);

/* service.c: tells the service manager that started us, if one did and waits for such words, a state as sd_notify(3) has them.  0 or a
 * negative errno. */
int kv_service_tell(const char *state);

/* cmd_umount.c: whether the process of the mount there is gone.  What the kernel has cached of it still answers: only a request tells, and
 * it comes after all that the kernel has queued before. */
bool mountpoint_dead(const char *path);
/* The absolute name of a mount point into path[PATH_MAX], whose own process may be dead: then only the directory above it can be asked. */
int mountpoint_resolve(const char *arg, char *path);
/* Unmounts it, with fusermount3's help where that is needed; `lazy`: now, whoever still uses it.  Why not, in why[cap].  -EBUSY */
int mountpoint_clear(const char *path, bool lazy, char *why, size_t cap);

static inline struct kv_mount *kv_mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline pid_t kv_tid_of(fuse_req_t req)
{
	return fuse_req_ctx(req)->pid;
}

static inline struct kvfs_cred kv_cred_of(fuse_req_t req)
{
	return (struct kvfs_cred){.uid = fuse_req_ctx(req)->uid, .gid = fuse_req_ctx(req)->gid};
}

/* Answers with 0 or a negative errno. */
void kv_reply(fuse_req_t req, int error);
/* Answers with an entry, or with the error if it is one. */
void kv_reply_face(fuse_req_t req, int error, const struct kv_face *face);
void kv_fill_entry(const struct kv_mount *m, const struct kv_face *face, struct fuse_entry_param *ret);
void kv_fill_stat(const struct kvfs_stat *st, struct stat *ret);
/* Seconds that the kernel may cache what `may` says it may. */
double kv_timeout(const struct kv_mount *m, bool may);

/* mount_notify.c */
struct kv_notifier;
int kv_notifier_start(struct kv_mount *m, struct kv_notifier **ret);
/* Has the kernel drop its pages of a node: of a large deleted value, begun when this returns (nearly always; takes NULL); soon, and gives
 * it back; and then answers the request. */
void kv_notifier_drop_large(struct kv_notifier *n, fuse_ino_t id);
void kv_notifier_drop_spoiled(void *mount, struct kv_node *node);
void kv_notifier_drop_then_reply(struct kv_notifier *n, fuse_ino_t id, fuse_req_t req, int error);
/* Tells the kernel that the attributes it has of a node are no longer true. */
void kv_forget_attr(void *mount, uint64_t id);
/* node.h: drop_from and set_size. */
void kv_drop_from(void *mount, uint64_t id, uint64_t from);
void kv_set_size(void *mount, uint64_t id, uint64_t size, char last);
/* Ends the thread; takes NULL.  False: it hangs in a notice, and still uses the session. */
bool kv_notifier_stop(struct kv_notifier *n);

/* mount_feed.c: what other doors change. */
struct kv_feed;
int kv_feed_start(struct kv_mount *m, struct kv_feed **ret);
/* Answers after the readers of `ino` see what has been appended so far. */
void kv_feed_then_reply_write(struct kv_feed *f, fuse_req_t req, size_t count);
/* Has the kernel look up every name again.  False: this one cannot (Linux before 6.16). */
bool kv_forget_names(const struct kv_mount *m);
/* The name whose removal this thread asks the store for next: the kernel knows of that itself. */
void kv_feed_expect(uint64_t parent, const char *name);
bool kv_feed_stop(struct kv_feed *f);
/* mount_lookup.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags);
void op_readlink(fuse_req_t req, fuse_ino_t id);
/* mount_dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
/* mount_file.c */
void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t size, off_t offset, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length, struct fuse_file_info *fi);
/* mount_lock.c */
void op_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock);
void op_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *lock, int sleep);
void op_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int op);
/* What the locks of a handle belong to. */
uint64_t kv_lock_ino(const struct kv_handle *h);
/* FLUSH, after its publication: ends the process' fcntl(2) locks on the key, whatever was theirs published. */
int kv_lock_flush(fuse_req_t req, struct kv_handle *h, uint64_t owner);
/* RELEASE, after its publication: ends what was locked through the handle. */
void kv_lock_release(struct kv_mount *m, uint64_t ino, const struct kv_handle *h);
/* The mount ends: whoever still waits is told. */
void kv_lock_end(struct kv_mount *m);
/* mount_attr.c */
void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int valid, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t id);
/* mount_xattr.c */
void op_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name);

#endif
