/* Extended attributes: a session of a key that is not published keeps its own; all others are the inode's. */
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

/* What the kernel would have to interpret, and does not here: an access list or a label that nobody enforces would lie.  `ls -l` asks for
 * both, and asks no more of a file system that has none. */
static bool is_refused(const char *name)
{
	return strncmp(name, "system.posix_acl_", strlen("system.posix_acl_")) == 0 || strcmp(name, "security.selinux") == 0;
}

/* Of an inode that is gone: a file that is still open takes attributes that nobody will see; a name that led to it is looked up again. */
static int unless_gone(fuse_req_t req, fuse_ino_t id, int r)
{
	static const struct kvfs_setattr nothing;

	return r == -ESTALE ? kv_node_set_gone(kv_mount_of(req)->nodes, kv_tid_of(req), id, &nothing) : r;
}

void op_setxattr(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_node *n = kv_node_get(m->nodes, id);
	int how = (flags & XATTR_CREATE ? KVFS_XATTR_CREATE : 0) | (flags & XATTR_REPLACE ? KVFS_XATTR_REPLACE : 0);
	int r;

	if (is_refused(name))
		r = -EOPNOTSUPP;
	else if (n && n->session && kv_node_is_meant(m->nodes, kv_tid_of(req), n))
		r = kvfs_session_setxattr(n->session, name, value, size, how);
	else
		r = kvfs_ll_setxattr(m->store, kv_node_ino(id), name, value, size, how);
	kv_node_put(m->nodes, n);
	kv_reply(req, unless_gone(req, id, r));
}

void op_removexattr(fuse_req_t req, fuse_ino_t id, const char *name)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_node *n = kv_node_get(m->nodes, id);
	int r;

	if (is_refused(name))
		r = -EOPNOTSUPP;
	else if (n && n->session && kv_node_is_meant(m->nodes, kv_tid_of(req), n))
		r = kvfs_session_removexattr(n->session, name);
	else
		r = kvfs_ll_removexattr(m->store, kv_node_ino(id), name);
	kv_node_put(m->nodes, n);
	kv_reply(req, unless_gone(req, id, r));
}

/* `name` NULL: the list of names. */
static ssize_t get(struct kv_mount *m, fuse_ino_t id, const char *name, char *buf, size_t cap)
{
	struct kv_node *n = kv_node_get(m->nodes, id);
	uint64_t ino = kv_node_ino(id);
	ssize_t r;

	if (n && n->session)
		r = name ? kvfs_session_getxattr(n->session, name, buf, cap) : kvfs_session_listxattr(n->session, buf, cap);
	else
		r = name ? kvfs_ll_getxattr(m->store, ino, name, buf, cap) : kvfs_ll_listxattr(m->store, ino, buf, cap);
	kv_node_put(m->nodes, n);
	return r;
}

static void reply_get(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	char *buf = size ? malloc(size) : NULL;
	ssize_t r = size && !buf ? -ENOMEM : get(kv_mount_of(req), id, name, buf, size);

	if (r == -ESTALE) /* of an inode that is gone; the kernel asks for one before it writes, and goes on whatever it is told */
		r = name ? -ENODATA : 0;
	if (r < 0)
		kv_reply(req, (int)r);
	else if (!size)
		fuse_reply_xattr(req, (size_t)r);
	else
		fuse_reply_buf(req, buf, (size_t)r);
	free(buf);
}

void op_getxattr(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
	if (is_refused(name))
		kv_reply(req, -EOPNOTSUPP);
	else
		reply_get(req, id, name, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t id, size_t size)
{
	reply_get(req, id, NULL, size);
}
