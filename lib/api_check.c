/* kvfs_check(): finds the state to check, and keeps it from being overwritten meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "api.h"
#include "check.h"
#include "err.h"

#define TRIES 1000

/* The state that a reading transaction keeps: its meta page is there until the commit after next. */
int kv_api_state(struct kv_core *core, struct kv_txn *ret, struct kv_pages *ret_pages)
{
	int r = -EAGAIN;
	for (int i = 0; r == -EAGAIN && i < TRIES; i++) {
		r = kv_db_read(core->db, ret);
		if (r)
			return r;
		r = kv_pages_open(kv_db_fd(core->db), (uint32_t)sysconf(_SC_PAGESIZE), ret->txnid, ret_pages);
		if (r == -ENOENT)
			r = -EAGAIN;
		if (r)
			kv_db_read_end(ret);
	}
	return r;
}

static int check(const struct kv_pages *pages, const struct kvfs_check_options *opt, struct kvfs_check_result *ret)
{
	struct kv_check *c = calloc(1, sizeof *c);
	if (!c)
		return kv_fail(ENOMEM);
	c->pages = pages;
	c->data = opt->flags & KVFS_CHECK_DATA;
	c->finding = opt->finding;
	c->progress = opt->progress;
	c->arg = opt->arg;
	int r = kv_check(c);
	if (r == 0)
		*ret = c->seen;
	free(c);
	return r;
}

/* A file that LMDB does not open. */
static int open_plain(const char *path, struct kv_source *ret, struct kvfs_error *err)
{
	KV_FD int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret->fd = dirfd < 0 ? -1 : openat(dirfd, "data.mdb", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (ret->fd < 0)
		return kv_explain(err, errno, "data.mdb: %s", strerror(errno));
	int r = kv_pages_open(ret->fd, (uint32_t)sysconf(_SC_PAGESIZE), 0, &ret->pages);
	if (r == 0)
		return 0;
	close(ret->fd);
	if (r == -ENOENT)
		return kv_explain(
			err, EUCLEAN, "both meta pages of data.mdb are damaged: nothing can be found in it; restore a backup");
	return kv_explain(err, -r, "%s", strerror(-r));
}

int kv_source_open(const char *path, struct kv_source *ret, struct kvfs_error *err)
{
	*ret = (struct kv_source){.fd = -1};
	int r = kv_store_pin(path, &ret->store, err);
	if (r == -EUCLEAN)
		return open_plain(path, ret, err);
	if (r)
		return r;
	r = kv_api_state(ret->store->core, &ret->txn, &ret->pages);
	if (r) {
		kv_core_explain(ret->store->core, r, err);
		kvfs_close(ret->store);
		return r;
	}
	return 0;
}

void kv_source_close(struct kv_source *src)
{
	if (src->fd >= 0)
		close(src->fd);
	if (!src->store)
		return;
	kv_db_read_end(&src->txn);
	kvfs_close(src->store);
}

int kvfs_check(const char *path, const struct kvfs_check_options *user, struct kvfs_check_result *ret, struct kvfs_error *err)
{
	struct kvfs_check_options opt = {0};
	struct kv_source src;
	if (user)
		memcpy(&opt, user, kv_min(user->size, sizeof opt));
	if (opt.flags & ~(unsigned)KVFS_CHECK_DATA)
		return kv_explain(err, EINVAL, "unknown options");
	int r = kv_source_open(path, &src, err);
	if (r)
		return r;
	r = check(&src.pages, &opt, ret);
	kv_source_close(&src);
	return r ? kv_explain(err, -r, "%s", strerror(-r)) : 0;
}
