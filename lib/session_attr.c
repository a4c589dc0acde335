/* Attributes of a write session: of a new key kept here until publication, of an existing inode passed on. */
#include <errno.h>
#include <sys/stat.h>

#include "err.h"
#include "path.h"
#include "session.h"
#include "xattr.h"

void kv_session_free_xattrs(struct kvfs_session *s)
{
	while (s->xattrs) {
		struct kv_session_xattr *x = s->xattrs;
		s->xattrs = x->next;
		free(x->name);
		free(x->value);
		free(x);
	}
}

/* Handles for the inode-level calls want a store handle; ours is the same core. */
static struct kvfs_store store_of(struct kvfs_session *s)
{
	return (struct kvfs_store){.core = s->core};
}

uint64_t kvfs_session_ino(struct kvfs_session *s)
{
	if (kv_core_check(s->core))
		return 0;
	KV_GUARD(&s->lock);
	return s->ino;
}

void kv_session_put_number(struct kvfs_session *s)
{
	if (s->number && --s->number->refs == 0)
		free(s->number);
	s->number = NULL;
}

static struct kv_number *promise(struct kvfs_session *s)
{
	if (!s->number) {
		s->number = calloc(1, sizeof(*s->number));
		if (!s->number)
			return NULL;
		s->number->refs = 1;
	}
	s->number->refs++;
	return s->number;
}

int kvfs_session_share_ino(struct kvfs_session *s, struct kvfs_session *with)
{
	int r = kv_core_check(s->core);
	if (r || s == with)
		return r;
	KV_GUARD(s < with ? &s->lock : &with->lock);
	KV_GUARD(s < with ? &with->lock : &s->lock);
	if (!s->is_new || !with->is_new || (with->number && with->number->used))
		return 0;
	struct kv_number *number = promise(with);
	if (!number)
		return kv_fail(ENOMEM);
	kv_session_put_number(s);
	s->number = number;
	s->ino = with->ino;
	return 0;
}

bool kvfs_session_is_new(struct kvfs_session *s)
{
	if (kv_core_check(s->core))
		return false;
	KV_GUARD(&s->lock);
	return s->is_new;
}

bool kvfs_session_is_dirty(struct kvfs_session *s)
{
	if (kv_core_check(s->core))
		return false;
	KV_GUARD(&s->lock);
	return !s->orphan && (s->dirty || s->times);
}

uint32_t kvfs_session_epoch(struct kvfs_session *s)
{
	if (kv_core_check(s->core))
		return 0;
	KV_GUARD(&s->lock);
	return s->epoch;
}

bool kvfs_session_replaces(struct kvfs_session *s)
{
	if (kv_core_check(s->core))
		return false;
	KV_GUARD(&s->lock);
	return s->replace;
}

int kvfs_session_rename(struct kvfs_session *s, uint64_t parent, const char *name)
{
	int r = kv_core_check(s->core);
	if (r == 0)
		r = kv_name_check(name);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	if (!s->is_new)
		return kv_fail(EINVAL);
	r = kv_session_check_name(s, parent, name);
	if (r)
		return r;
	kv_session_give_back_name(s);
	s->parent = parent;
	strcpy(s->name, name);
	s->excl = false;
	s->displaces = true;
	return 0;
}

int kvfs_session_stat(struct kvfs_session *s, struct kvfs_stat *ret)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	if (!s->is_new) {
		struct kvfs_store store = store_of(s);
		r = kvfs_ll_getattr(&store, s->ino, &s->st);
		if (r == -ESTALE)
			s->st.nlink = 0;
		else if (r)
			return r;
	}
	struct kvfs_stat st = s->st;
	st.ino = s->ino;
	st.size = s->size;
	if (s->orphan && s->is_new)
		st.nlink = 0;
	if (s->dirty) /* what it will take: a guess that is never too small */
		st.allocated = kv_min(
			s->size, (s->base ? s->st.allocated : 0) + s->stored + s->bufs.n * (uint64_t)s->bufs.chunk_size);
	if (s->times & KVFS_SET_ATIME)
		st.atime = s->atime;
	if (s->times & KVFS_SET_MTIME)
		st.mtime = s->mtime;
	*ret = st;
	return 0;
}

int kvfs_session_setattr(struct kvfs_session *s, const struct kvfs_setattr *attr)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	struct kvfs_setattr now = *attr;
	now.valid &= KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_GID;
	if (now.valid && !s->is_new) {
		struct kvfs_store store = store_of(s);
		r = kvfs_ll_setattr(&store, s->ino, &now, &s->st);
		if (r && r != -ESTALE)
			return r;
	} else {
		if (now.valid & KVFS_SET_MODE)
			s->st.mode = (s->st.mode & S_IFMT) | (now.mode & 07777);
		if (now.valid & KVFS_SET_UID)
			s->st.uid = now.uid;
		if (now.valid & KVFS_SET_GID)
			s->st.gid = now.gid;
	}
	if (attr->valid & KVFS_SET_ATIME)
		s->atime = attr->atime;
	if (attr->valid & KVFS_SET_MTIME)
		s->mtime = attr->mtime;
	s->times |= attr->valid & (KVFS_SET_ATIME | KVFS_SET_MTIME);
	return 0;
}

/* ---- extended attributes of a new key ---- */

static struct kv_session_xattr **find(struct kvfs_session *s, const char *name)
{
	struct kv_session_xattr **at = &s->xattrs;
	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	return at;
}

static int set_new(struct kvfs_session *s, const char *name, const void *value, size_t size, int flags)
{
	size_t total = strlen(name) + size, names = strlen(name) + 1;
	if (size > KVFS_XATTR_SIZE_MAX)
		return kv_fail(E2BIG);
	if (!*name || strlen(name) > KVFS_NAME_MAX)
		return kv_fail(ERANGE);
	struct kv_rec_inode noted = {0};
	if (!value)
		value = ""; /* of no bytes */
	int r = kv_xattr_note(&noted, name, value, size);
	if (r)
		return r;
	struct kv_session_xattr **at = find(s, name), *x = *at;
	if (x && flags & KVFS_XATTR_CREATE)
		return -EEXIST;
	if (!x && flags & KVFS_XATTR_REPLACE)
		return -ENODATA;
	for (const struct kv_session_xattr *o = s->xattrs; o; o = o->next) {
		total += o == x ? 0 : strlen(o->name) + o->size;
		names += o == x ? 0 : strlen(o->name) + 1;
	}
	if (total > KV_XATTR_TOTAL_MAX || names > KV_XATTR_NAMES_MAX)
		return kv_fail(ENOSPC);
	void *copy = malloc(size ? size : 1);
	if (!copy)
		return kv_fail(ENOMEM);
	if (size)
		memcpy(copy, value, size);
	if (!x) {
		x = calloc(1, sizeof *x);
		if (x)
			x->name = strdup(name);
		if (!x || !x->name) {
			free(x);
			free(copy);
			return kv_fail(ENOMEM);
		}
		*at = x;
	}
	free(x->value);
	x->value = copy;
	x->size = size;
	return 0;
}

int kvfs_session_setxattr(struct kvfs_session *s, const char *name, const void *value, size_t size, int flags)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	if (s->is_new)
		return set_new(s, name, value, size, flags);
	struct kvfs_store store = store_of(s);
	return kvfs_ll_setxattr(&store, s->ino, name, value, size, flags);
}

ssize_t kvfs_session_getxattr(struct kvfs_session *s, const char *name, void *buf, size_t cap)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	struct kvfs_store store = store_of(s);
	if (!s->is_new)
		return kvfs_ll_getxattr(&store, s->ino, name, buf, cap);
	const struct kv_session_xattr *x = *find(s, name);
	if (!x)
		return -ENODATA;
	if (cap && cap < x->size)
		return -ERANGE;
	if (cap)
		memcpy(buf, x->value, x->size);
	return (ssize_t)x->size;
}

ssize_t kvfs_session_listxattr(struct kvfs_session *s, char *buf, size_t cap)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	struct kvfs_store store = store_of(s);
	if (!s->is_new)
		return kvfs_ll_listxattr(&store, s->ino, buf, cap);
	size_t n = 0;
	for (const struct kv_session_xattr *x = s->xattrs; x; x = x->next) {
		size_t len = strlen(x->name) + 1;
		if (cap && n + len > cap)
			return -ERANGE;
		if (cap)
			memcpy(buf + n, x->name, len);
		n += len;
	}
	return (ssize_t)n;
}

int kvfs_session_removexattr(struct kvfs_session *s, const char *name)
{
	int r = kv_core_check(s->core);
	if (r)
		return r;
	KV_GUARD(&s->lock);
	struct kvfs_store store = store_of(s);
	if (!s->is_new)
		return kvfs_ll_removexattr(&store, s->ino, name);
	struct kv_session_xattr **at = find(s, name), *x = *at;
	if (!x)
		return -ENODATA;
	*at = x->next;
	free(x->name);
	free(x->value);
	free(x);
	return 0;
}
