/* The mount's life: mounting, the first answer, serving, the orderly end.
 *
 * The end comes in two ways.  A signal: what the kernel has queued is still answered, so that whatever was closed is published; what
 * is still open is dropped.  An unmount: the kernel allows it only when nothing is open any more, but forgets the releases it has
 * queued, so what is left in our tables was closed, and is published if it still has to be. */
#include "mount.h"
#include "locks.h"
#include "process.h"
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_WRITE = 1 << 20,
	MAX_BACKGROUND = 64,
	THREADS = 16, /* one buffer of MAX_WRITE each */
	IDLE_THREADS = 8,
	DRAIN_MS = 2000, /* a busy mount would never be drained */
	MEMORY_TRIES = 1000,
	MEMORY_WAIT_US = 20000,
	DAMAGE_LINES = 10,
	DAMAGE_WINDOW_S = 10,
};

/* ---- telling ---- */

void kv_mount_log(const struct kv_mount *m, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (m->options->foreground)
		fprintf(stderr, "kvfs: mount '%s': %s\n", m->options->mountpoint, text);
	else
		syslog(LOG_ERR, "mount '%s': %s", m->options->mountpoint, text);
}

static void log_kept(void *mount, uint64_t ino, int reason, int error)
{
	const struct kv_mount *m = mount;
	const char *why = reason > 0 ? strsignal(reason) : strerror(-reason);

	if (error == 0)
		kv_mount_log(m, "inode %llu: what was written to it was not published (%s), and is kept: see `kvfs sessions`",
			(unsigned long long)ino, why);
	else
		kv_mount_log(m, "inode %llu: what was written to it was not published (%s), and could not be kept: %s",
			(unsigned long long)ino, why, strerror(-error));
}

static void log_fuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	vsyslog((int)level, fmt, ap);
}

/* Whoever reads what is damaged again and again does not fill the log. */
static void log_damage(struct kv_mount *m)
{
	struct kv_telling *t = &m->damage;
	struct kvfs_error damage = {0};
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&t->lock);
	if (t->told == 0 || now.tv_sec - t->since >= DAMAGE_WINDOW_S) {
		if (t->untold > 0)
			kv_mount_log(m, "%u more requests came to something damaged", t->untold);
		t->since = now.tv_sec;
		t->told = t->untold = 0;
	}
	if (t->told < DAMAGE_LINES) {
		t->told++;
		kvfs_damage(m->store, &damage);
		kv_mount_log(m, "the store is damaged: %s", damage.text);
	} else {
		t->untold++;
	}
	pthread_mutex_unlock(&t->lock);
}

void kv_reply(fuse_req_t req, int error)
{
	if (error == -EUCLEAN)
		log_damage(kv_mount_of(req));
	fuse_reply_err(req, -error);
}

double kv_timeout(const struct kv_mount *m, bool may)
{
	return !may || !m->nodes->caching ? 0 : m->lease ? KV_LEASE_S : KV_TIMEOUT_S;
}

void kv_fill_entry(const struct kv_mount *m, const struct kv_face *face, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){
		.ino = face->id,
		.generation = face->generation,
		.attr_timeout = face->settle ? KV_SETTLE_S : kv_timeout(m, face->cache_attr),
		.entry_timeout = kv_timeout(m, face->cache_name),
	};
	kv_fill_stat(&face->st, &ret->attr);
}

void kv_reply_face(fuse_req_t req, int error, const struct kv_face *face)
{
	struct fuse_entry_param entry;

	if (error < 0) {
		kv_reply(req, error);
		return;
	}
	kv_fill_entry(kv_mount_of(req), face, &entry);
	fuse_reply_entry(req, &entry);
}

/* ---- beginning ---- */

/* Tells the waiting parent that the kernel has spoken to us; from then on this process holds no terminal or pipe of the shell. */
static void detach(struct kv_mount *m)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (write(m->options->ready_fd, "", 1) < 0)
		kv_mount_log(m, "nobody waits for the mount any more");
	close(m->options->ready_fd);
}

static void tell_manager(const struct kv_mount *m, const char *state)
{
	int r = kv_service_tell(state);

	if (r < 0)
		kv_mount_log(m, "cannot tell the service manager %s: %s", state, strerror(-r));
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct kv_mount *m = userdata;

	conn->max_write = MAX_WRITE;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
	conn->time_gran = 1;
	/* A version's pages never change, whatever its mtime is set to. */
	conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
	/* The kernel takes set-id bits away at chown and truncate; writer.c does at writes. */
	conn->want &= ~(unsigned)FUSE_CAP_HANDLE_KILLPRIV;
	conn->want |= conn->capable & FUSE_CAP_ATOMIC_O_TRUNC;
	/* `ls -l` asks for all of a listing's attributes at once; `find -name` for none after its first page. */
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
	if (m->options->ready_fd >= 0)
		detach(m);
	if (m->options->foreground)
		tell_manager(m, "READY=1");
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.create = op_create,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.getlk = op_getlk,
	.setlk = op_setlk,
	.flock = op_flock,
};

static int add_option(struct fuse_args *args, const char *name, const char *value)
{
	char *option = NULL, *escaped = NULL;
	int r = -1;

	if (asprintf(&option, "%s%s", name, value) >= 0 && fuse_opt_add_opt_escaped(&escaped, option) == 0 &&
		fuse_opt_add_arg(args, "-o") == 0)
		r = fuse_opt_add_arg(args, escaped);
	free(option);
	free(escaped);
	return r;
}

static int make_args(const struct kv_mount_options *o, struct fuse_args *args)
{
	int r = fuse_opt_add_arg(args, "kvfs");

	if (r == 0 && o->debug)
		r = fuse_opt_add_arg(args, "-d");
	if (r == 0)
		r = add_option(args, "fsname=", o->source);
	if (r == 0)
		r = fuse_opt_add_arg(args, "-osubtype=kvfs,default_permissions");
	if (r == 0 && o->kernel[0])
		r = fuse_opt_add_arg(args, "-o") | fuse_opt_add_arg(args, o->kernel);
	return r;
}

/* The last line of what was written to `fd`. */
static void last_line(int fd, char *ret, size_t cap)
{
	char text[4096];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	char *line;

	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	text[n > 0 ? n : 0] = '\0';
	line = strrchr(text, '\n');
	snprintf(ret, cap, "%s", line ? line + 1 : text);
}

/* fusermount3 and libfuse explain a failure on stderr, in lines of their own: they become the reason in our one line. */
static int mount_catching(struct kv_mount *m, char *why, size_t cap)
{
	int saved = dup(STDERR_FILENO), text = memfd_create("kvfs-mount", MFD_CLOEXEC);
	char given[32];
	const char *where = m->options->mountpoint;
	int r;

	if (m->options->fuse_fd >= 0) {
		snprintf(given, sizeof(given), "/dev/fd/%d", m->options->fuse_fd);
		where = given;
	}
	if (saved < 0 || text < 0) {
		r = -errno;
		snprintf(why, cap, "%s", strerror(errno));
	} else {
		if (!m->options->debug)
			dup2(text, STDERR_FILENO);
		r = fuse_session_mount(m->se, where);
		dup2(saved, STDERR_FILENO);
		if (r != 0) {
			r = -EIO;
			last_line(text, why, cap);
			if (!why[0])
				snprintf(why, cap, "the system refused the mount");
		}
	}
	if (saved >= 0)
		close(saved);
	if (text >= 0)
		close(text);
	return r;
}

/* ---- the table of mounts ---- */

/* Undoes \040 and the like, in place. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

bool kv_mounted_at(const char *path, unsigned *ret_minor, char *ret_source)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	bool found = false;

	while (f && getline(&line, &cap, f) >= 0) {
		char where[PATH_MAX], source[PATH_MAX];
		unsigned minor_number;
		const char *type = strstr(line, " - ");

		if (!type || sscanf(line, "%*d %*d %*u:%u %*s %4095s", &minor_number, where) != 2)
			continue;
		unescape(where);
		if (strcmp(where, path) != 0)
			continue;
		/* the last one lies on top */
		found = sscanf(type, " - fuse.kvfs %4095s", source) == 1;
		if (found && ret_minor)
			*ret_minor = minor_number;
		if (found && ret_source) {
			unescape(source);
			strcpy(ret_source, source);
		}
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* ---- end ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Answers what the kernel has queued. */
static void drain(struct fuse_session *se)
{
	struct fuse_buf buf = {0};
	int64_t until = now_ms() + DRAIN_MS;
	int fd = fuse_session_fd(se), flags = fcntl(fd, F_GETFL);

	fuse_session_reset(se);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return;
	while (now_ms() < until && fuse_session_receive_buf(se, &buf) > 0)
		fuse_session_process_buf(se, &buf);
	free(buf.mem);
}

static void serve(struct kv_mount *m)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	unsigned minor_number = 0, now = 0;
	bool closed;
	size_t lost;
	int r;

	if (!config) {
		kv_mount_log(m, "%s", strerror(ENOMEM));
		return;
	}
	(void)kv_mounted_at(m->options->mountpoint, &minor_number, NULL);
	fuse_loop_cfg_set_clone_fd(config, 0);
	fuse_loop_cfg_set_max_threads(config, THREADS);
	fuse_loop_cfg_set_idle_threads(config, IDLE_THREADS);
	/* A thread of libfuse's that finds no memory for the next request ends the loop, and the request waits. */
	for (int tries = 0; (r = fuse_session_loop_mt(m->se, config)) == -ENOMEM && tries < MEMORY_TRIES; tries++) {
		usleep(MEMORY_WAIT_US);
		fuse_session_reset(m->se);
	}
	fuse_loop_cfg_destroy(config);
	if (m->options->foreground)
		tell_manager(m, "STOPPING=1");
	if (r > 0) /* a signal */
		drain(m->se);
	else if (r < 0)
		kv_mount_log(m, "ends: %s", strerror(-r));
	/* A connection that was cut (by its `abort` file) leaves the mount standing, and files in it open. */
	closed = r == 0 && !(kv_mounted_at(m->options->mountpoint, &now, NULL) && now == minor_number);
	kv_lock_end(m);
	lost = kv_writer_end(m->nodes, closed);
	if (lost)
		kv_mount_log(m, "ended with %zu write sessions open; they were not published", lost);
}

int kv_mount_run(struct kvfs_store *store, const struct kv_mount_options *options, char *why, size_t cap)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct kv_mount m = {.store = store,
		.options = options,
		.locks = kv_locks_new(KV_LOCKS_MAX, KV_LOCK_WAITS_MAX),
		.damage.lock = PTHREAD_MUTEX_INITIALIZER};
	bool idle = true;
	int r = kv_nodes_new(store, &m.nodes);

	if (r == 0) {
		m.nodes->forget_attr = kv_forget_attr;
		m.nodes->drop_pages = kv_notifier_drop_spoiled;
		m.nodes->drop_from = kv_drop_from;
		m.nodes->set_size = kv_set_size;
		m.nodes->kept = log_kept;
		m.nodes->commit_killed = options->commit_killed;
		m.nodes->publish_write = options->publish_write;
		m.nodes->arg = &m;
	}
	why[0] = '\0';
	if (r == 0 && (!m.locks || make_args(options, &args) != 0))
		r = -ENOMEM;
	if (r == 0) {
		m.se = fuse_session_new(&args, &operations, sizeof(operations), &m);
		r = m.se && fuse_set_signal_handlers(m.se) == 0 ? 0 : -EINVAL;
	}
	if (r < 0)
		snprintf(why, cap, "%s", strerror(-r));
	if (r == 0)
		r = mount_catching(&m, why, cap);
	if (r == 0) {
		int named = kvfs_ll_set_mountpoint(store, options->mountpoint);

		if (named < 0)
			kv_mount_log(&m, "other programs cannot tell that the store is mounted here: %s", strerror(-named));
		if (!options->foreground) {
			/* Not before: an automounter waits for this mount, and lets only its own process group pass to the mount point. */
			setsid();
			openlog("kvfs", LOG_PID, LOG_DAEMON);
			fuse_set_log_func(log_fuse);
		}
		named = kv_notifier_start(&m, &m.notifier);
		if (named < 0)
			kv_mount_log(&m, "the kernel may not cache anything: %s", strerror(-named));
		else
			named = kv_feed_start(&m, &m.feed);
		if (named < 0)
			kv_mount_log(&m, "nothing is cached: %s", strerror(-named));
		serve(&m);
		fuse_session_unmount(m.se);
		idle = kv_feed_stop(m.feed);
		idle = kv_notifier_stop(m.notifier) && idle;
	}
	if (m.se && idle) {
		fuse_remove_signal_handlers(m.se);
		fuse_session_destroy(m.se);
	}
	fuse_opt_free_args(&args);
	kv_locks_free(m.locks);
	kv_nodes_free(m.nodes);
	kv_process_end();
	return r;
}
