/* Files: a handle reads a held version, or reads and writes a session. */
#include "mount.h"
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct kv_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct kv_handle *)(uintptr_t)fi->fh;
}

/* What the kernel may do with the handle. */
static void tell(const struct kv_handle *h, struct fuse_file_info *fi)
{
	fi->fh = (uintptr_t)h;
	fi->direct_io = h->direct;
	/* Pages of a version never change; those of a session are written through the same inode. */
	fi->keep_cache = !h->drop_pages;
	fi->noflush = !h->write;
}

static struct kv_handle *keep(struct kv_nodes *nodes, const struct kv_handle *h)
{
	struct kv_handle *copy = malloc(sizeof(*copy));

	if (copy)
		*copy = *h;
	else
		kv_writer_abandon(nodes, &(struct kv_handle){.node = h->node, .write = h->write});
	return copy;
}

void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct kv_nodes *nodes = kv_mount_of(req)->nodes;
	struct kv_handle h, *kept;
	int r = kv_node_open(nodes, kv_tid_of(req), id, fi->flags, &h);

	if (r == 0 && h.write && (fi->flags & O_TRUNC)) {
		r = kv_writer_take_privileges(nodes, h.node, fuse_req_ctx(req)->uid);
		if (r < 0)
			kv_writer_abandon(nodes, &h);
	}
	if (r < 0) {
		kv_reply(req, r);
		return;
	}
	kept = keep(nodes, &h);
	if (!kept) {
		kv_reply(req, -ENOMEM);
		return;
	}
	tell(kept, fi);
	if (fuse_reply_open(req, fi) == -ENOENT) { /* the caller was killed: no RELEASE will come */
		kv_writer_abandon(nodes, kept);
		free(kept);
	}
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct kv_nodes *nodes = kv_mount_of(req)->nodes;
	struct fuse_entry_param entry;
	struct kv_handle h, *kept;
	struct kv_face face;
	int r = kv_node_create(nodes, kv_tid_of(req), parent, name, mode, kv_cred_of(req), fi->flags, &face, &h);

	if (r < 0) {
		kv_reply(req, r);
		return;
	}
	kept = keep(nodes, &h);
	if (!kept) {
		kv_reply(req, -ENOMEM);
		return;
	}
	tell(kept, fi);
	kv_fill_entry(kv_mount_of(req), &face, &entry);
	if (fuse_reply_create(req, &entry, fi) == -ENOENT) {
		kv_writer_abandon(nodes, kept);
		free(kept);
	}
}

void op_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct kv_node *n = handle_of(fi)->node;
	char *buf = malloc(size);
	ssize_t r = -ENOMEM;

	(void)id;
	if (buf && n->session)
		r = kvfs_session_read(n->session, buf, size, (uint64_t)offset);
	else if (buf)
		r = kv_node_read(kv_mount_of(req)->nodes, n, buf, size, (uint64_t)offset);
	if (r < 0)
		kv_reply(req, (int)r);
	else
		fuse_reply_buf(req, buf, (size_t)r);
	free(buf);
}

void op_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_handle *h = handle_of(fi);
	ssize_t r = kv_writer_write(m->nodes, h, fuse_req_ctx(req)->uid, fi->flags, buf, size, (uint64_t)offset);

	(void)id;
	if (r < 0)
		kv_reply(req, (int)r);
	else if ((fi->flags & O_APPEND) && m->feed && kv_node_is_read(m->nodes, h->node->ino))
		kv_feed_then_reply_write(m->feed, req, (size_t)r);
	else
		fuse_reply_write(req, (size_t)r);
}

void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	int r = kv_writer_flush(kv_mount_of(req)->nodes, handle_of(fi), kv_tid_of(req));
	int unlocked = kv_lock_flush(req, handle_of(fi), fi->lock_owner);

	(void)id;
	kv_reply(req, r < 0 ? r : unlocked);
}

void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_handle *h = handle_of(fi);
	int r = h->write ? kv_writer_publish(m->nodes, h->node) : 0;

	(void)datasync;
	if (r == 0)
		r = kvfs_sync(m->store);
	if (h->write && kv_writer_took_others(m->nodes, h->node))
		kv_notifier_drop_then_reply(m->notifier, id, req, r);
	else
		kv_reply(req, r);
}

void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_handle *h = handle_of(fi);
	uint64_t ino = kv_lock_ino(h);

	(void)id;
	kv_writer_release(m->nodes, h);
	kv_lock_release(m, ino, h);
	free(h);
	kv_reply(req, 0);
}

void op_lseek(fuse_req_t req, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct kv_node *n = handle_of(fi)->node;
	int64_t r = -EINVAL;

	(void)id;
	if (offset >= 0 && (whence == SEEK_DATA || whence == SEEK_HOLE))
		r = n->session ? kvfs_session_seek(n->session, (uint64_t)offset, whence == SEEK_HOLE)
			       : kv_node_seek(kv_mount_of(req)->nodes, n, (uint64_t)offset, whence == SEEK_HOLE);
	if (r < 0)
		kv_reply(req, (int)r);
	else
		fuse_reply_lseek(req, r);
}

void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	(void)id;
	kv_reply(req, kv_writer_fallocate(kv_mount_of(req)->nodes, handle_of(fi), mode, (uint64_t)offset, (uint64_t)length));
}
