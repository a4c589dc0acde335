/* Names: finding, making, moving and removing them.
 *
 * To the process that has an unpublished session of a name, that session is what the name leads to; to everyone else the name is not
 * there, or leads to what is published.  A name that is reserved (O_EXCL) can be made by its process only. */
#include "mount.h"
#include "writer.h"

#include <errno.h>
#include <stdio.h>

/* A directory that is gone has no names, and takes none. */
static int named(int r)
{
	return r == -ESTALE ? -ENOENT : r;
}

static void reply_made(fuse_req_t req, int error, const struct kvfs_stat *st)
{
	struct kv_face face;

	if (error == 0)
		kv_node_face(kv_mount_of(req)->nodes, st, &face);
	kv_reply_face(req, named(error), &face);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct kv_mount *m = kv_mount_of(req);
	struct fuse_entry_param none = {0};
	struct kv_face face;
	bool cache;
	int r = kv_node_lookup(m->nodes, kv_tid_of(req), parent, name, &face, &cache);

	if (r == -ENOENT && kv_timeout(m, cache) > 0) {
		none.entry_timeout = kv_timeout(m, cache);
		fuse_reply_entry(req, &none);
		return;
	}
	kv_reply_face(req, r, &face);
}

void op_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup)
{
	(void)nlookup;
	kv_node_forget(kv_mount_of(req)->nodes, id);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		kv_node_forget(kv_mount_of(req)->nodes, forgets[i].ino);
	fuse_reply_none(req);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct kvfs_stat st;
	int r = kvfs_ll_mkdir(kv_mount_of(req)->store, parent, name, mode & 07777, kv_cred_of(req), &st);

	reply_made(req, r, &st);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct kvfs_stat st;
	int r = kvfs_ll_mknod(kv_mount_of(req)->store, parent, name, mode, (uint32_t)rdev, kv_cred_of(req), &st);

	reply_made(req, r, &st);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct kvfs_stat st;
	int r = kvfs_ll_symlink(kv_mount_of(req)->store, target, parent, name, kv_cred_of(req), &st);

	reply_made(req, r, &st);
}

void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent, const char *name)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kv_node *n = kv_node_session_of(m->nodes, kv_tid_of(req), id);
	uint64_t ino = kv_node_ino(id);
	struct kvfs_stat st;
	int r = 0;

	/* Two names for one value: so there must be a value. */
	if (n && kvfs_session_is_new(n->session)) {
		r = kv_writer_publish(m->nodes, n);
		ino = kvfs_session_ino(n->session);
	}
	kv_node_put(m->nodes, n);
	if (r == 0)
		r = kvfs_ll_link(m->store, ino, parent, name, &st);
	if (r == 0)
		kv_node_changed(m->nodes, ino, st.epoch);
	if (r == 0 && st.nlink == 2)
		(void)kv_forget_names(m); /* it had one name, which may be cached; of several, none is */
	reply_made(req, r, &st);
}

/* The inode of a value has lost its last name. */
static void gone(struct kv_mount *m, const struct kvfs_stat *st)
{
	struct kv_face face;

	kv_writer_gone(m->nodes, st->ino);
	if (!S_ISREG(st->mode) || st->size < KV_LARGE)
		return;
	kv_node_face(m->nodes, st, &face);
	kv_notifier_drop_large(m->notifier, face.id);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct kv_mount *m = kv_mount_of(req);
	struct kvfs_stat st;
	int r;

	if (kv_writer_unlink(m->nodes, kv_tid_of(req), parent, name)) {
		kv_reply(req, 0);
		return;
	}
	r = kvfs_ll_unlink(m->store, parent, name, &st);
	if (r == 0 && st.nlink == 0)
		gone(m, &st);
	else if (r == 0)
		kv_node_changed(m->nodes, st.ino, st.epoch);
	kv_reply(req, named(r));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	int r;

	kv_feed_expect(parent, name);
	r = kvfs_ll_rmdir(kv_mount_of(req)->store, parent, name);
	kv_feed_expect(0, NULL);
	kv_reply(req, named(r));
}

/* Whether the rename is of an unpublished name, and then *ret_error what came of it. */
static bool rename_pending(
	fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags, int *ret_error)
{
	struct kv_mount *m = kv_mount_of(req);
	pid_t tid = kv_tid_of(req);
	struct kv_node *n = kv_node_pending(m->nodes, tid, parent, name);
	struct kvfs_stat st;
	bool pending = n != NULL;

	kv_node_put(m->nodes, n);
	if (!pending)
		return false;
	if (flags & RENAME_NOREPLACE) {
		*ret_error = kvfs_ll_lookup(m->store, parent2, name2, &st);
		if (*ret_error != -ENOENT) {
			*ret_error = *ret_error == 0 ? -EEXIST : *ret_error;
			return true;
		}
	}
	return kv_writer_rename(m->nodes, tid, parent, name, parent2, name2, ret_error);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
	struct kv_mount *m = kv_mount_of(req);
	pid_t tid = kv_tid_of(req);
	struct kvfs_stat replaced = {0};
	unsigned how = 0;
	int r = flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ? -EINVAL : 0;

	if (flags & RENAME_NOREPLACE)
		how |= KVFS_RENAME_NOREPLACE;
	if (flags & RENAME_EXCHANGE) {
		/* Both must be there to change places. */
		how |= KVFS_RENAME_EXCHANGE;
		if (r == 0)
			r = kv_writer_publish_name(m->nodes, tid, parent, name);
		if (r == 0)
			r = kv_writer_publish_name(m->nodes, tid, parent2, name2);
	} else if (r == 0 && rename_pending(req, parent, name, parent2, name2, flags, &r)) {
		kv_reply(req, named(r));
		return;
	} else if (r == 0) {
		kv_writer_give_up_name(m->nodes, tid, parent2, name2);
	}
	kv_feed_expect(parent2, name2);
	if (r == 0)
		r = kvfs_ll_rename(m->store, parent, name, parent2, name2, how, &replaced);
	kv_feed_expect(0, NULL);
	if (r == 0 && !(flags & RENAME_EXCHANGE)) {
		(void)kv_writer_unlink(m->nodes, tid, parent2, name2);
		if (replaced.ino && replaced.nlink == 0)
			gone(m, &replaced);
		else if (replaced.ino)
			kv_node_changed(m->nodes, replaced.ino, replaced.epoch);
	}
	kv_reply(req, named(r));
}

void op_readlink(fuse_req_t req, fuse_ino_t id)
{
	char target[4096];
	ssize_t n = kvfs_ll_readlink(kv_mount_of(req)->store, kv_node_ino(id), target, sizeof(target));

	if (n < 0)
		kv_reply(req, (int)n);
	else
		fuse_reply_readlink(req, target);
}
