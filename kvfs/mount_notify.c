/* Giving back the page cache of large values.
 *
 * The kernel keeps the pages of a version after the last close, to drop them when the name goes: an unlink would then wait for as many pages
 * as the value has.  So when a large one is closed its pages are dropped here, by a thread of its own: a notice may wait for
 * requests that only the workers can answer, so no worker sends one.  What is read again comes from the store's own cached pages. */
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { QUEUE_MAX = 64 }; /* more at once are left to the kernel */

struct kv_notifier {
	pthread_t thread;
	struct fuse_session *se;
	pthread_mutex_t mutex;
	pthread_cond_t work;
	/* protected by mutex */
	fuse_ino_t queue[QUEUE_MAX];
	unsigned count;
	bool stop;
};

static void *run(void *arg)
{
	struct kv_notifier *n = arg;

	pthread_mutex_lock(&n->mutex);
	while (!n->stop) {
		if (!n->count) {
			pthread_cond_wait(&n->work, &n->mutex);
			continue;
		}
		fuse_ino_t id = n->queue[--n->count];
		pthread_mutex_unlock(&n->mutex);
		(void)fuse_lowlevel_notify_inval_inode(n->se, id, 0, 0);
		pthread_mutex_lock(&n->mutex);
	}
	pthread_mutex_unlock(&n->mutex);
	return NULL;
}

int kv_notifier_start(struct fuse_session *se, struct kv_notifier **ret)
{
	struct kv_notifier *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->se = se;
	pthread_mutex_init(&n->mutex, NULL);
	pthread_cond_init(&n->work, NULL);
	int r = pthread_create(&n->thread, NULL, run, n);
	if (r) {
		free(n);
		return -r;
	}
	*ret = n;
	return 0;
}

void kv_notifier_drop_pages(struct kv_notifier *n, fuse_ino_t id)
{
	if (!n)
		return;
	pthread_mutex_lock(&n->mutex);
	if (n->count < QUEUE_MAX)
		n->queue[n->count++] = id;
	pthread_cond_signal(&n->work);
	pthread_mutex_unlock(&n->mutex);
}

bool kv_notifier_stop(struct kv_notifier *n)
{
	struct timespec until;

	if (!n)
		return true;
	pthread_mutex_lock(&n->mutex);
	n->stop = true;
	pthread_cond_signal(&n->work);
	pthread_mutex_unlock(&n->mutex);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	/* A notice that waits for a request nobody will answer any more ends with the process. */
	if (pthread_timedjoin_np(n->thread, NULL, &until) != 0)
		return false;
	pthread_mutex_destroy(&n->mutex);
	pthread_cond_destroy(&n->work);
	free(n);
	return true;
}
