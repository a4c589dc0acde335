/* Attributes.  They are answered by the node id alone: the kernel gives the answer to everyone on that inode. */
#include "mount.h"
#include "writer.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { BLOCK = 512, GOOD_IO = 1 << 16 };

void kv_fill_stat(const struct kvfs_stat *st, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = st->ino,
		.st_mode = st->mode,
		.st_nlink = st->nlink,
		.st_uid = st->uid,
		.st_gid = st->gid,
		.st_rdev = st->rdev,
		.st_size = (off_t)st->size,
		.st_blksize = GOOD_IO,
		.st_blocks = (blkcnt_t)((st->allocated + BLOCK - 1) / BLOCK),
		.st_atim = st->atime,
		.st_mtim = st->mtime,
		.st_ctim = st->ctime,
	};
}

static void reply_attr(fuse_req_t req, fuse_ino_t id, bool set)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_face face;
	struct stat attr;
	int r = kv_node_stat(m->nodes, kv_tid_of(req), id, set, &face);

	if (r < 0) {
		kv_reply(req, r);
		return;
	}
	kv_fill_stat(&face.st, &attr);
	fuse_reply_attr(req, &attr, kv_timeout(m, face.cache_attr));
}

void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	(void)fi;
	reply_attr(req, id, false);
}

static void wanted(const struct stat *attr, int valid, struct kvfs_setattr *ret)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	*ret = (struct kvfs_setattr){
		.mode = attr->st_mode & 07777,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.atime = valid & FUSE_SET_ATTR_ATIME_NOW ? now : attr->st_atim,
		.mtime = valid & FUSE_SET_ATTR_MTIME_NOW ? now : attr->st_mtim,
	};
	if (valid & FUSE_SET_ATTR_MODE)
		ret->valid |= KVFS_SET_MODE;
	if (valid & FUSE_SET_ATTR_UID)
		ret->valid |= KVFS_SET_UID;
	if (valid & FUSE_SET_ATTR_GID)
		ret->valid |= KVFS_SET_GID;
	if (valid & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
		ret->valid |= KVFS_SET_ATIME;
	if (valid & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		ret->valid |= KVFS_SET_MTIME;
	/* truncate(2) says "and now": so says publication, without being told */
	if ((valid & FUSE_SET_ATTR_SIZE) && (valid & FUSE_SET_ATTR_MTIME_NOW))
		ret->valid &= ~(unsigned)KVFS_SET_MTIME;
}

/* *ret: what it was done to, referenced: the answer is about that, whatever comes after. */
static int set_size(fuse_req_t req, fuse_ino_t id, uint64_t size, struct fuse_file_info *fi, struct kv_node **ret)
{
	struct kv_nodes *nodes = kv_mount_of(req)->nodes;
	struct kv_handle *h = fi ? (struct kv_handle *)(uintptr_t)fi->fh : NULL;
	int r;

	if (h)
		return h->write ? kv_writer_truncate(nodes, h->node, size) : -EINVAL;
	r = kv_node_truncate(nodes, kv_tid_of(req), id, ret);
	return r < 0 ? r : kv_writer_truncate(nodes, *ret, size);
}

static int set_others(fuse_req_t req, fuse_ino_t id, const struct kvfs_setattr *attr)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_node *n = kv_node_get(m->nodes, id);
	bool session = n && n->session && kv_node_is_meant(m->nodes, kv_tid_of(req), n);
	struct kvfs_stat st;
	int r;

	if (session)
		r = kvfs_session_setattr(n->session, attr);
	else
		r = kvfs_ll_setattr(m->store, kv_node_ino(id), attr, &st);
	if (r == -ESTALE)
		r = kv_node_set_gone(m->nodes, kv_tid_of(req), id, attr);
	else if (r == 0)
		kv_node_changed(m->nodes, kv_node_ino(id), session ? kvfs_session_epoch(n->session) : st.epoch);
	kv_node_put(m->nodes, n);
	return r;
}

void op_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int valid, struct fuse_file_info *fi)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kvfs_setattr others;
	struct kv_node *cut = NULL;
	int r = 0;

	wanted(attr, valid, &others);
	if (valid & FUSE_SET_ATTR_SIZE)
		r = set_size(req, id, (uint64_t)attr->st_size, fi, &cut);
	if (r == 0 && others.valid)
		r = set_others(req, id, &others);
	if (r == 0)
		reply_attr(req, id, true);
	else
		kv_reply(req, r);
	kv_node_put(m->nodes, cut);
}

void op_statfs(fuse_req_t req, fuse_ino_t id)
{
	struct statvfs st = {0};
	int r = kvfs_ll_statfs(kv_mount_of(req)->store, &st);

	(void)id;
	if (r < 0)
		kv_reply(req, r);
	else
		fuse_reply_statfs(req, &st);
}
