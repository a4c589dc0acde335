/* What other doors change, told to the kernel; and the growth of values that are being read.
 *
 * A thread reads the store's change log as it grows.  Of a change made elsewhere the kernel is told that the name, the attributes of its
 * directory and those of its inode are no longer true; a library door that made it returns only then (kvfs_feed_done()).
 * Changes made here are known to the kernel already, or told by who makes them; two things are not:
 *  - an append, when somebody reads the value: his node grows by it, and the append is answered after that.  Only here are
 *    appends and other changes, from everywhere, seen in the order in which they happened.
 *  - directories that went because their last key did.
 *
 * Invalidating a name takes the lock of its directory in the kernel, which a system call may hold while it waits for one of our workers, or
 * for the lock of a file that is being appended to.  So it has a thread of its own; no answer waits for that, and no worker for long.
 *
 * Two mounts of one store would wait for each other that way.  So while there is a second one, neither lets the kernel cache anything. */
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <time.h>

enum {
	TICK_MS = 1000, /* for what nobody has told of: a mount that was killed, a commit whose door was */
	BATCH_MAX = 20000, /* changes told one by one; of more, everything */
	NAMES_MAX = 100000, /* names to be dropped; of more, everything */
	NAME_WAIT_MS = 20, /* a worker waits at most so long for a name to be dropped */
	NOTIFY_INC_EPOCH = 8, /* Linux 6.16: all names are to be looked up again */
};

struct change {
	enum kvfs_change_kind kind;
	bool own;
	uint32_t type, epoch;
	uint64_t ino, parent;
	char *name;
};

/* A write that is answered when its readers have it. */
struct answer {
	struct answer *next;
	fuse_req_t req;
	size_t count;
};

/* A name to be dropped.  Without one: all before are, and with them all changes up to `sequence` are handled. */
struct drop {
	struct drop *next;
	uint64_t parent, sequence;
	bool waited, done; /* some thread waits for it, and frees it when it is done; else it is the names' thread's */
	char name[];
};

struct kv_feed {
	pthread_t thread, names;
	struct kv_mount *mount;
	struct kvfs_feed *feed;
	_Atomic bool stop;
	pthread_mutex_t mutex;
	pthread_cond_t work, dropped;
	/* protected by mutex */
	struct answer *answers;
	struct drop *first, **last;
	size_t queued;
	/* of the feed's thread alone */
	struct change *batch;
	size_t count, cap;
	bool lost;
	bool failed; /* it was told */
};

/* ---- the kernel ---- */

static void forget_name(struct kv_mount *m, uint64_t parent, const char *name)
{
	(void)fuse_lowlevel_notify_inval_entry(m->se, parent, name, strlen(name));
}

bool kv_forget_names(const struct kv_mount *m)
{
	struct {
		uint32_t len;
		int32_t error;
		uint64_t unique;
	} notice = {sizeof(notice), NOTIFY_INC_EPOCH, 0};

	return write(fuse_session_fd(m->se), &notice, sizeof(notice)) >= 0 || errno != EINVAL;
}

static void forget_everything(struct kv_mount *m)
{
	struct timespec lease = {.tv_sec = (time_t)KV_LEASE_S + 1};

	kv_node_replaced(m->nodes, 0, 0);
	if (m->lease)
		nanosleep(&lease, NULL);
	else
		(void)kv_forget_names(m);
	kv_forget_attr(m, FUSE_ROOT_ID);
	kv_nodes_forget_attrs(m->nodes);
}

/* ---- names ---- */

/* False: there is no memory, or too many wait. */
static bool push(struct kv_feed *f, uint64_t parent, const char *name, uint64_t sequence, struct drop **ret_waited)
{
	struct drop *d = malloc(sizeof(*d) + strlen(name) + 1);
	bool full;

	if (!d)
		return false;
	*d = (struct drop){.parent = parent, .sequence = sequence, .waited = ret_waited != NULL};
	strcpy(d->name, name);
	pthread_mutex_lock(&f->mutex);
	full = f->queued >= NAMES_MAX && *name;
	if (!full) {
		*f->last = d;
		f->last = &d->next;
		f->queued++;
		pthread_cond_signal(&f->work);
	}
	pthread_mutex_unlock(&f->mutex);
	if (full)
		free(d);
	else if (ret_waited)
		*ret_waited = d;
	return !full;
}

/* With the mutex held. */
static struct drop *pop(struct kv_feed *f)
{
	struct drop *d = f->first;

	f->first = d->next;
	if (!f->first)
		f->last = &f->first;
	f->queued--;
	return d;
}

static void *drop_names(void *arg)
{
	struct kv_feed *f = arg;
	struct drop *d;

	pthread_mutex_lock(&f->mutex);
	while (!f->stop || f->first) {
		if (!f->first) {
			pthread_cond_wait(&f->work, &f->mutex);
			continue;
		}
		d = pop(f);
		pthread_mutex_unlock(&f->mutex);
		if (d->name[0])
			forget_name(f->mount, d->parent, d->name);
		else
			kvfs_feed_done(f->feed, d->sequence);
		pthread_mutex_lock(&f->mutex);
		d->done = true;
		if (d->waited)
			pthread_cond_broadcast(&f->dropped);
		else
			free(d);
	}
	pthread_mutex_unlock(&f->mutex);
	return NULL;
}

/* ---- changes ---- */

static int collect(void *arg, const struct kvfs_ll_change *c)
{
	struct kv_feed *f = arg;
	struct change *at;

	if (c->own && !(S_ISREG(c->type) && (c->kind == KVFS_CHANGE_PUT || c->kind == KVFS_CHANGE_APPEND) &&
			      kv_node_is_read(f->mount->nodes, c->ino)))
		return 0;
	if (f->count == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		struct change *more = cap <= BATCH_MAX ? realloc(f->batch, cap * sizeof(*more)) : NULL;

		f->lost = !more;
		if (!more)
			return 1;
		f->batch = more;
		f->cap = cap;
	}
	at = &f->batch[f->count];
	*at = (struct change){.kind = c->kind,
		.own = c->own,
		.type = c->type,
		.epoch = c->epoch,
		.ino = c->ino,
		.parent = c->parent,
		.name = strdup(c->name)};
	f->lost = !at->name;
	if (f->lost)
		return 1;
	f->count++;
	return 0;
}

static void tell(struct kv_feed *f, const struct change *c)
{
	struct kv_mount *m = f->mount;
	struct kvfs_stat st;

	if (c->own)
		return;
	if (S_ISREG(c->type))
		kv_node_shared_changed(m->nodes, c->ino);
	if (!m->nodes->caching)
		return;
	if (c->kind != KVFS_CHANGE_ATTR) {
		f->lost |= !push(f, c->parent, c->name, 0, NULL);
		kv_forget_attr(m, c->parent);
	}
	if (S_ISREG(c->type) && c->kind == KVFS_CHANGE_MAKE)
		f->lost |= !kv_forget_names(m); /* a second name: the first may be cached */
	if (!S_ISREG(c->type))
		kv_forget_attr(m, c->ino);
	else if (c->kind != KVFS_CHANGE_PUT && c->kind != KVFS_CHANGE_APPEND)
		kv_node_changed(m->nodes, c->ino, kvfs_ll_getattr(m->store, c->ino, &st) == 0 ? st.epoch : 0);
}

static void apply(struct kv_feed *f)
{
	struct kv_mount *m = f->mount;
	bool grows = false;

	for (size_t i = 0; i < f->count; i++) {
		const struct change *c = &f->batch[i];

		if (c->kind == KVFS_CHANGE_PUT)
			kv_node_replaced(m->nodes, c->ino, c->epoch);
		else if (c->kind == KVFS_CHANGE_APPEND)
			grows |= kv_node_appended(m->nodes, c->ino, c->epoch);
		tell(f, c);
	}
	for (size_t i = 0; grows && i < f->count; i++)
		if (f->batch[i].kind == KVFS_CHANGE_APPEND)
			kv_node_grow(m->nodes, f->batch[i].ino);
}

static void read_changes(struct kv_feed *f)
{
	int r;

	f->lost = false;
	r = kvfs_feed_read(f->feed, collect, f);
	if (r < 0)
		kv_mount_log(f->mount, "the change log cannot be read: %s", strerror(-r));
	if (!r && !f->lost)
		apply(f);
	if (r || f->lost)
		forget_everything(f->mount);
	for (size_t i = 0; i < f->count; i++)
		free(f->batch[i].name);
	f->count = 0;
	(void)push(f, 0, "", kvfs_feed_sequence(f->feed), NULL); /* without memory others wait a little longer */
}

/* Caching begins when others have been told to wait for us, and ends when the kernel has forgotten everything. */
static void set_caching(struct kv_feed *f)
{
	struct kv_mount *m = f->mount;
	bool alone = kvfs_feed_alone(f->feed);

	if (alone == m->nodes->caching)
		return;
	if (alone) {
		alone = kvfs_feed_set_caching(f->feed, true);
		read_changes(f);
		m->nodes->caching = alone;
	} else {
		m->nodes->caching = false;
		forget_everything(m);
		(void)kvfs_feed_set_caching(f->feed, false);
	}
}

/* The flush that failed may be one that nobody waited for: it is said once, within a second. */
static void tell_failure(struct kv_feed *f)
{
	struct kvfs_info info;
	struct tm tm;
	char since[32] = "it was opened";
	int error = f->failed ? 0 : kvfs_ll_failed(f->mount->store);
	time_t t;

	if (!error)
		return;
	f->failed = true;
	if (kvfs_info(f->mount->store, &info) == 0 && info.last_sync_ns) {
		t = (time_t)(info.last_sync_ns / 1000000000);
		if (localtime_r(&t, &tm))
			(void)strftime(since, sizeof(since), "%F %T", &tm);
	}
	kv_mount_log(f->mount,
		"the disk failed to take what was written (%s): what was published since %s may be lost, and nothing more "
		"is published; see to the disk, and mount again",
		strerror(error), since);
}

static void *run(void *arg)
{
	struct kv_feed *f = arg;
	struct answer *answers, *next;

	while (!f->stop) {
		(void)kvfs_feed_wait(f->feed, TICK_MS);
		pthread_mutex_lock(&f->mutex);
		answers = f->answers;
		f->answers = NULL;
		pthread_mutex_unlock(&f->mutex);
		read_changes(f);
		set_caching(f);
		tell_failure(f);
		for (; answers; answers = next) {
			next = answers->next;
			fuse_reply_write(answers->req, answers->count);
			free(answers);
		}
	}
	return NULL;
}

/* ---- what is done here ---- */

static _Thread_local struct {
	uint64_t parent;
	const char *name;
} expected;

void kv_feed_expect(uint64_t parent, const char *name)
{
	expected.parent = parent;
	expected.name = name;
}

/* Has the kernel forget a name, and waits for that, if it does not take long. */
static void drop_name(struct kv_feed *f, uint64_t parent, const char *name)
{
	struct timespec until;
	struct drop *d;

	if (!push(f, parent, name, 0, &d))
		return;
	until = kv_deadline(NAME_WAIT_MS);
	pthread_mutex_lock(&f->mutex);
	while (!d->done && pthread_cond_clockwait(&f->dropped, &f->mutex, CLOCK_MONOTONIC, &until) == 0) {
	}
	if (d->done)
		free(d);
	else
		d->waited = false;
	pthread_mutex_unlock(&f->mutex);
}

/* A commit of ours, told by the worker that made it. */
static int observe(void *arg, const struct kvfs_ll_change *c)
{
	struct kv_feed *f = arg;
	bool asked = expected.name && expected.parent == c->parent && strcmp(expected.name, c->name) == 0;

	if (c->kind == KVFS_CHANGE_DELETE && S_ISDIR(c->type) && !asked && f->mount->nodes->caching) {
		kv_forget_attr(f->mount, c->ino);
		kv_forget_attr(f->mount, c->parent);
		drop_name(f, c->parent, c->name);
	}
	return 0;
}

void kv_feed_then_reply_write(struct kv_feed *f, fuse_req_t req, size_t count)
{
	struct answer *a = malloc(sizeof(*a));

	if (!a) {
		fuse_reply_write(req, count); /* it is written; only its readers may learn of it a little later */
		kvfs_feed_wake(f->feed);
		return;
	}
	a->req = req;
	a->count = count;
	pthread_mutex_lock(&f->mutex);
	a->next = f->answers;
	f->answers = a;
	pthread_mutex_unlock(&f->mutex);
	kvfs_feed_wake(f->feed);
}

/* ---- life ---- */

static void feed_free(struct kv_feed *f)
{
	int r = kvfs_ll_observe(f->mount->store, NULL, NULL);

	(void)r;
	kvfs_feed_close(f->feed);
	while (f->first)
		free(pop(f));
	pthread_cond_destroy(&f->work);
	pthread_cond_destroy(&f->dropped);
	pthread_mutex_destroy(&f->mutex);
	free(f->batch);
	free(f);
}

static void stop(struct kv_feed *f)
{
	pthread_mutex_lock(&f->mutex);
	f->stop = true;
	pthread_cond_signal(&f->work);
	pthread_mutex_unlock(&f->mutex);
	kvfs_feed_wake(f->feed);
}

int kv_feed_start(struct kv_mount *m, struct kv_feed **ret)
{
	struct kv_feed *f = calloc(1, sizeof(*f));
	int r = f ? kvfs_feed_open(m->store, &f->feed) : -ENOMEM;

	if (r < 0) {
		free(f);
		return r;
	}
	f->mount = m;
	f->last = &f->first;
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->work, NULL);
	pthread_cond_init(&f->dropped, NULL);
	m->lease = !kv_forget_names(m);
	r = kvfs_ll_observe(m->store, observe, f);
	if (r == 0)
		r = -pthread_create(&f->names, NULL, drop_names, f);
	if (r == 0) {
		set_caching(f);
		r = -pthread_create(&f->thread, NULL, run, f);
		if (r < 0) {
			m->nodes->caching = false;
			stop(f);
			pthread_join(f->names, NULL);
		}
	}
	if (r < 0)
		feed_free(f);
	else
		*ret = f;
	return r;
}

bool kv_feed_stop(struct kv_feed *f)
{
	struct timespec until;

	if (!f)
		return true;
	stop(f);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	/* A notice that waits for a request nobody will answer any more ends with the process. */
	if (pthread_timedjoin_np(f->thread, NULL, &until) != 0 || pthread_timedjoin_np(f->names, NULL, &until) != 0)
		return false;
	feed_free(f);
	return true;
}
