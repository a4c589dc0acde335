/* Contract 5: after kill -9 of a program, whenever it comes, nothing that returned is lost, what was under way is there whole or not at
 * all, and nobody is in the way: no lock, no reader's slot.
 *
 * KVFS_KILLS  how many (200; the long form: 5000)
 * KVFS_SEED   repeats the operations; when they are killed is up to the machine
 *
 * Two lanes work at once, each on keys of its own; what one does is in order, so that the store must be the model after all that returned,
 * with or without the one operation of each lane that was under way. */
#include "verify.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "invariants.h"
#include "trace.h"

enum { LANES = 2, LIMIT_S = 20 };

enum victim { VICTIM_PROCESSES, VICTIM_THREADS, VICTIM_COMMANDS, VICTIM_MOUNT, VICTIMS };

struct lane {
	struct history *h;
	struct doors doors;
	enum door door;
	unsigned number;
	uint64_t seed;
};

struct scene {
	char path[PATH_MAX - 8], mnt[PATH_MAX];
	struct model *m; /* what the store was at the last look */
	struct history *h[LANES];
	struct support_rng rng;
	unsigned kills, undone, done; /* operations under way that were found undone, done */
	unsigned unmounts;
};

static const char *program(void)
{
	const char *path = getenv("KVFS_BIN");
	assert_non_null(path);
	return path;
}

/* ---- those who are killed ---- */

static bool is_gone(int result)
{
	return result == -ENOTCONN || result == -ECONNABORTED || result == -EIO;
}

static void *work(void *arg)
{
	struct lane *lane = arg;
	struct support_rng rng = {lane->seed};
	char own[8];
	snprintf(own, sizeof own, "p%u/", lane->number);
	for (struct history *h = lane->h; h->n < HISTORY_MAX;) {
		struct op op = op_random(&rng, own, false);
		if (!op_goes_through(&op, lane->door))
			continue;
		struct event *e = &h->event[h->n];
		*e = (struct event){.op = op};
		e->op.door = lane->door;
		__atomic_store_n(&h->n, h->n + 1, __ATOMIC_RELEASE);
		e->result = op_run(&e->op, &lane->doors, NULL);
		if (lane->door == DOOR_MOUNT && is_gone(e->result))
			break;
		__atomic_store_n(&e->done, true, __ATOMIC_RELEASE);
	}
	return NULL;
}

static const enum kvfs_durability levels[] = {KVFS_FULL, KVFS_RELAXED, KVFS_NONE}; /* at each one */

static void victim(struct scene *s, struct lane *lanes, unsigned n)
{
	pthread_t thread[LANES];
	setpgid(0, 0);
	alarm(LIMIT_S);
	trace_slow_flush(s->kills % 2 ? 300 : 0); /* so that one kill in two finds a commit under way */
	if (lanes[0].door == DOOR_LIBRARY) {
		lanes[0].doors.store = doors_open(s->path, 0, levels[s->kills % 6 / 2]);
		for (unsigned i = 1; i < n; i++)
			lanes[i].doors.store = lanes[0].doors.store;
	}
	for (unsigned i = 1; i < n; i++)
		if (pthread_create(&thread[i], NULL, work, &lanes[i]))
			_exit(1);
	work(&lanes[0]);
	_exit(0);
}

static pid_t start(struct scene *s, struct lane *lanes, unsigned n)
{
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		victim(s, lanes, n);
	setpgid(pid, pid);
	return pid;
}

static void nap(uint64_t us)
{
	nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000 * 1000)}, NULL);
}

/* The daemon, in the foreground, so that it is ours to kill. */
static pid_t start_mount(struct scene *s)
{
	struct stat before, now;
	assert_int_equal(stat(s->mnt, &before), 0);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup2(null, 1);
		dup2(null, 2);
		execl(program(), program(), "mount", "-f", s->path, s->mnt, NULL);
		_exit(127);
	}
	for (int i = 0; stat(s->mnt, &now) || now.st_dev == before.st_dev; i++) {
		if (i > 5000)
			fail_msg("the mount does not come up");
		nap(1000);
	}
	return pid;
}

/* Kills, after a while, and waits until all is gone: also a command that a killed lane had started, whose new parent we are. */
static void kill_all(pid_t *pid, unsigned n, uint64_t after_us)
{
	nap(after_us);
	for (unsigned i = 0; i < n; i++)
		kill(-pid[i], SIGKILL);
}

static void reap(void)
{
	alarm(2 * LIMIT_S);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		continue;
	alarm(0);
}

/* ---- looking ---- */

static struct model *model_after(const struct scene *s, unsigned with)
{
	struct model *m = model_clone(s->m);
	for (unsigned lane = 0; lane < LANES; lane++) {
		const struct history *h = s->h[lane];
		for (size_t i = 0; i < h->n; i++) {
			const struct event *e = &h->event[i];
			bool under_way = !e->done;
			if (under_way ? !(with >> lane & 1) : e->result != 0)
				continue;
			int r = op_model(&e->op, m);
			if (!under_way && r)
				fail_msg("%s was done; the model says %d", op_text(&e->op), r);
		}
	}
	return m;
}

static unsigned under_way(const struct scene *s)
{
	unsigned lanes = 0;
	for (unsigned i = 0; i < LANES; i++)
		if (s->h[i]->n && !s->h[i]->event[s->h[i]->n - 1].done)
			lanes |= 1u << i;
	return lanes;
}

static void look(struct scene *s)
{
	char why[200], first[200] = "";
	struct kvfs_info info;
	alarm(LIMIT_S); /* a lock that is stuck ends this program */
	struct kvfs_store *store = doors_open(s->path, 0, KVFS_FULL);
	check_invariants(store, NULL);
	struct model *m = NULL;
	unsigned possible = under_way(s);
	for (unsigned with = 0; !m && with < 1 << LANES; with++) {
		if (with & ~possible)
			continue;
		m = model_after(s, with);
		if (verify_equals(store, m, why)) {
			s->done += (unsigned)__builtin_popcount(with);
			s->undone += (unsigned)__builtin_popcount(possible & ~with);
			break;
		}
		if (!*first)
			snprintf(first, sizeof first, "%s", why);
		model_free(m);
		m = NULL;
	}
	if (!m)
		fail_msg("after %u kills: %s", s->kills, first);
	assert_ok(kvfs_put(store, "alive", "", 0, NULL, NULL));
	assert_ok(model_put(m, "alive", "", 0, 0, 0644));
	assert_ok(kvfs_info(store, &info));
	if (info.doors != 1 || info.held_values || info.readers > 24)
		fail_msg("after %u kills: %u doors, %u readers, %llu values held", s->kills, info.doors, info.readers,
			(unsigned long long)info.held_values);
	kvfs_close(store);
	alarm(0);
	model_free(s->m);
	s->m = m;
}

/* ---- */

static void round_of(struct scene *s, enum victim how)
{
	struct lane lanes[LANES];
	pid_t pid[LANES], daemon = 0;
	unsigned n = how == VICTIM_THREADS ? 1 : LANES;
	for (unsigned i = 0; i < LANES; i++) {
		s->h[i]->n = 0;
		lanes[i] = (struct lane){.h = s->h[i],
			.doors = {.path = s->path, .program = program(), .mount = s->mnt},
			.door = how == VICTIM_COMMANDS ? DOOR_COMMAND
				: how == VICTIM_MOUNT  ? DOOR_MOUNT
						       : DOOR_LIBRARY,
			.number = i,
			.seed = support_random(&s->rng)};
	}
	if (how == VICTIM_MOUNT)
		daemon = start_mount(s);
	for (unsigned i = 0; i < n; i++)
		pid[i] = start(s, &lanes[i], how == VICTIM_THREADS ? LANES : 1);
	/* One in four is killed while it opens the store, the others at work. */
	bool at_work = support_below(&s->rng, 4);
	for (int i = 0; at_work && !s->h[0]->n && i < 1000; i++)
		nap(100);
	uint64_t after = support_below(&s->rng, 1 << (5 + support_below(&s->rng, 11)));
	if (how == VICTIM_MOUNT) {
		nap(after);
		kill(daemon, SIGKILL); /* the lanes see that it is gone */
		support_exec((char *[]){"fusermount3", "-uzq", s->mnt, NULL}, 10, NULL);
		after = 20000;
	}
	kill_all(pid, n, after);
	reap();
	s->kills++;
	look(s);
}

static unsigned kills_wanted(void)
{
	const char *env = getenv("KVFS_KILLS");
	return env && *env ? (unsigned)strtoul(env, NULL, 0) : 200;
}

static void kill_many(enum victim how, unsigned times)
{
	struct scene *s = calloc(1, sizeof *s);
	assert_non_null(s);
	snprintf(s->path, sizeof s->path, "%s", support_store_path());
	snprintf(s->mnt, sizeof s->mnt, "%s.mnt", s->path);
	assert_int_equal(mkdir(s->mnt, 0700), 0);
	s->rng = support_rng(how);
	struct kvfs_store *store = doors_open(s->path, KVFS_CREATE, KVFS_FULL);
	s->m = model_new(true);
	for (unsigned i = 0; i < LANES; i++) {
		char key[16];
		snprintf(key, sizeof key, "p%u/d0", i); /* a mount makes no directories by itself */
		assert_ok(kvfs_mkdir(store, key, 0755));
		assert_ok(model_mkdir(s->m, key, 0755));
		s->h[i] = history_new();
	}
	kvfs_close(store);
	while (s->kills < times)
		round_of(s, how);
	print_message("             %u kills; of what was under way %u were done, %u not\n", s->kills, s->done, s->undone);
	if (times >= 40)
		assert_true(s->done + s->undone > times / 2);
	for (unsigned i = 0; i < LANES; i++)
		history_free(s->h[i]);
	model_free(s->m);
	free(s);
}

static void test_processes(void **state)
{
	(void)state;
	kill_many(VICTIM_PROCESSES, kills_wanted() * 3 / 10);
}

static void test_threads(void **state)
{
	(void)state;
	kill_many(VICTIM_THREADS, kills_wanted() * 3 / 10);
}

static void test_commands(void **state)
{
	(void)state;
	kill_many(VICTIM_COMMANDS, kills_wanted() * 2 / 10);
}

static void test_mounts(void **state)
{
	(void)state;
	kill_many(VICTIM_MOUNT, kills_wanted() * 2 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_processes),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_mounts),
	};

	if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	umask(022);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
