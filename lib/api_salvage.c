/* kvfs_salvage(): the state to read, the store to fill. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "api.h"
#include "err.h"
#include "salvage.h"

/* Fills the store that is in the making. */
static int fill(const struct kv_target *t, const char *dest, const struct kv_pages *pages, struct kv_salvage *s,
	kvfs_progress_fn *progress, struct kvfs_error *err)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .purpose = "repair"};
	char path[4096 + 300];
	size_t len = strlen(dest);
	while (len > 1 && dest[len - 1] == '/')
		len--;
	while (len && dest[len - 1] != '/')
		len--;
	snprintf(path, sizeof path, "%.*s%s", (int)len, dest, t->temp);
	int r = kvfs_open(path, &opt, &s->to, err);
	if (r)
		return r;
	struct kv_check *c = calloc(1, sizeof *c);
	r = c ? 0 : kv_fail(ENOMEM);
	if (r == 0) {
		c->pages = pages;
		c->progress = progress;
		c->arg = s->arg;
		s->from = c;
		r = kv_check_begin(c);
		if (r == 0)
			r = kv_salvage(s);
		kv_check_end(c);
		free(c);
	}
	if (r == 0)
		r = kvfs_sync(s->to);
	kvfs_close(s->to);
	return r ? kv_explain(err, -r, "saving: %s", strerror(-r)) : 0;
}

static int salvage(
	const char *dest, const struct kv_pages *pages, struct kv_salvage *s, kvfs_progress_fn *progress, struct kvfs_error *err)
{
	struct kv_target t = {.parent = -1};
	int r = kv_target_find(dest, "repair", &t, err), dirfd = -1;
	if (r)
		return r;
	r = kv_target_check(&t, err);
	if (r == 0)
		r = kv_target_take(&t, &dirfd, err);
	if (r == 0) {
		close(dirfd); /* whose lock is the store's own now */
		r = fill(&t, dest, pages, s, progress, err);
		dirfd = openat(t.parent, t.temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (r == 0)
			r = kv_target_settle(&t, err);
		if (r && dirfd >= 0 && !t.placed)
			kv_target_drop(&t, dirfd);
	}
	if (dirfd >= 0)
		close(dirfd);
	close(t.parent);
	return r;
}

int kvfs_salvage(const char *path, const char *dest, const struct kvfs_check_options *user, struct kvfs_salvage_result *ret,
	struct kvfs_error *err)
{
	struct kvfs_check_options opt = {0};
	if (user)
		memcpy(&opt, user, kv_min(user->size, sizeof opt));
	struct kv_salvage s = {.finding = opt.finding, .arg = opt.arg};
	struct kv_source src;
	int r = kv_source_open(path, &src, err);
	if (r)
		return r;
	r = salvage(dest, &src.pages, &s, opt.progress, err);
	kv_source_close(&src);
	if (r == 0)
		*ret = s.seen;
	return r;
}
