/* Notices to the kernel: what it has cached is no longer true.
 *
 * Attributes: any thread sends these, they take no lock that a system call could hold while it waits for us.
 * Pages: invalidating them waits for reads of the same pages, and so for workers; only the thread here does it.  What has to wait
 * for that (an answer, or the reuse of a node id) is handed over with it.
 *
 * Three things need their pages dropped.  A spoiled node, whose number would otherwise lead to pages of no version.  A cached session
 * that took in others' changes, before its fsync or lock is answered.  And a large value that is deleted: the kernel drops the pages of
 * an inode when nobody has it any more, in the call that let it go; the thread here has it while it drops them, so unlink(2) does not
 * wait for as many as the value has. */
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum {
	LARGE_MAX = 64, /* large values waiting; more at once are left to the kernel */
	BEGIN_MS = 10, /* how long one is waited for to begin */
};

struct job {
	struct job *next;
	fuse_ino_t id;
	struct kv_node *spoiled; /* to be given back */
	fuse_req_t req; /* to be answered with `error` */
	int error;
	bool large;
};

struct kv_notifier {
	pthread_t thread;
	struct kv_mount *mount;
	pthread_mutex_t mutex;
	pthread_cond_t work, begin;
	/* protected by mutex */
	struct job *first, **last;
	unsigned large;
	uint64_t pushed, begun; /* jobs, ever */
	bool stop;
};

static void finish(struct kv_mount *m, struct job *j)
{
	if (j->spoiled)
		kv_node_unspoil(m->nodes, j->spoiled);
	if (j->req)
		kv_reply(j->req, j->error);
	free(j);
}

static void *run(void *arg)
{
	struct kv_notifier *n = arg;
	struct job *j;

	pthread_mutex_lock(&n->mutex);
	for (;;) {
		j = n->first;
		if (!j && n->stop)
			break;
		if (!j) {
			pthread_cond_wait(&n->work, &n->mutex);
			continue;
		}
		n->first = j->next;
		if (!n->first)
			n->last = &n->first;
		n->large -= j->large;
		n->begun++;
		pthread_cond_broadcast(&n->begin);
		pthread_mutex_unlock(&n->mutex);
		(void)fuse_lowlevel_notify_inval_inode(n->mount->se, j->id, 0, 0);
		finish(n->mount, j);
		pthread_mutex_lock(&n->mutex);
	}
	pthread_mutex_unlock(&n->mutex);
	return NULL;
}

/* False: not taken. */
static bool push(struct kv_notifier *n, const struct job *job)
{
	struct job *j = n ? malloc(sizeof(*j)) : NULL;

	if (!j)
		return false;
	*j = *job;
	pthread_mutex_lock(&n->mutex);
	if (j->large && n->large >= LARGE_MAX) {
		pthread_mutex_unlock(&n->mutex);
		free(j);
		return false;
	}
	n->large += j->large;
	*n->last = j;
	n->last = &j->next;
	n->pushed++;
	pthread_cond_signal(&n->work);
	pthread_mutex_unlock(&n->mutex);
	return true;
}

int kv_notifier_start(struct kv_mount *m, struct kv_notifier **ret)
{
	struct kv_notifier *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->mount = m;
	n->last = &n->first;
	pthread_mutex_init(&n->mutex, NULL);
	pthread_cond_init(&n->work, NULL);
	pthread_cond_init(&n->begin, NULL);
	int r = pthread_create(&n->thread, NULL, run, n);
	if (r) {
		free(n);
		return -r;
	}
	*ret = n;
	return 0;
}

void kv_notifier_drop_large(struct kv_notifier *n, fuse_ino_t id)
{
	struct timespec until;
	uint64_t turn;

	if (!push(n, &(struct job){.id = id, .large = true}))
		return;
	until = kv_deadline(BEGIN_MS);
	pthread_mutex_lock(&n->mutex);
	turn = n->pushed; /* or a later one's, if others come in between */
	while (n->begun < turn && pthread_cond_clockwait(&n->begin, &n->mutex, CLOCK_MONOTONIC, &until) == 0)
		;
	pthread_mutex_unlock(&n->mutex);
}

void kv_notifier_drop_spoiled(void *mount, struct kv_node *node)
{
	struct kv_mount *m = mount;

	/* Not taken: the node stays in the tables, its number is used for nothing. */
	(void)push(m->notifier, &(struct job){.id = node->id, .spoiled = node});
}

void kv_notifier_drop_then_reply(struct kv_notifier *n, fuse_ino_t id, fuse_req_t req, int error)
{
	if (!push(n, &(struct job){.id = id, .req = req, .error = error}))
		kv_reply(req, error ? error : -ENOMEM);
}

void kv_forget_attr(void *mount, uint64_t id)
{
	const struct kv_mount *m = mount;

	(void)fuse_lowlevel_notify_inval_inode(m->se, id, -1, 0);
}

void kv_drop_from(void *mount, uint64_t id, uint64_t from)
{
	const struct kv_mount *m = mount;

	(void)fuse_lowlevel_notify_inval_inode(m->se, id, (off_t)(from & ~UINT64_C(4095)), 0);
}

/* Only stored bytes make the kernel's size grow; one is enough. */
void kv_set_size(void *mount, uint64_t id, uint64_t size, char last)
{
	const struct kv_mount *m = mount;
	struct fuse_bufvec byte = FUSE_BUFVEC_INIT(1);

	byte.buf[0].mem = &last;
	(void)fuse_lowlevel_notify_store(m->se, id, (off_t)size - 1, &byte, 0);
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
	pthread_cond_destroy(&n->begin);
	free(n);
	return true;
}
