/* A FUSE file system that does nothing: what any mount costs, for mount_bench to compare with.
 *
 *   nothing_fs [FUSE OPTIONS] MOUNTPOINT     serves until it is unmounted
 *
 * With `-o commit=STORE` it does one thing: what is written, appended or removed here is put, appended or deleted in that kvfs store, without
 * flushes, before the call is answered.  So it costs what any mount costs, and a commit where a mount makes it.
 *
 * Names and sizes are kept, bytes are not: what is written is dropped, what is read is zeros.  The kernel caches all it can: names,
 * attributes, listings and pages.  A writer without reading is direct I/O, and a reader's close is not told, as in kvfs.  One lock over
 * everything: no request holds it for longer than a few lookups. */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <kvfs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BUCKETS = 1 << 16, THREADS = 16, READ_MAX = 1 << 20 };
#define FOREVER_S 3600.0

struct node {
	struct node *next; /* of the same bucket */
	struct node *dir; /* NULL once it has no name */
	struct node **entries; /* of a directory; NULL where one was removed */
	size_t entries_len, entries_cap, index; /* `index`: its own place in dir->entries */
	uint64_t lookups; /* that the kernel has not forgotten */
	struct stat st;
	bool written; /* since its last commit */
	char name[256];
};

static struct node *buckets[BUCKETS];
static struct node root = {.lookups = 1, .st = {.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR | 0755, .st_nlink = 2}};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ino_t last_ino = FUSE_ROOT_ID;
static char zeros[READ_MAX];
static struct kvfs_store *store; /* NULL: nothing is committed */

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}

static fuse_ino_t id_of(const struct node *n)
{
	return n == &root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}

/* ---- names ---- */

static struct node **place(const struct node *dir, const char *name)
{
	size_t hash = (uintptr_t)dir >> 4;
	struct node **at;

	for (const char *c = name; *c; c++)
		hash = hash * 131 + (unsigned char)*c;
	for (at = &buckets[hash % BUCKETS]; *at; at = &(*at)->next)
		if ((*at)->dir == dir && strcmp((*at)->name, name) == 0)
			break;
	return at;
}

static void touch(struct node *dir)
{
	clock_gettime(CLOCK_REALTIME, &dir->st.st_mtim);
	dir->st.st_ctim = dir->st.st_mtim;
}

static struct node *add(fuse_req_t req, struct node *dir, const char *name, mode_t mode)
{
	struct node *n = calloc(1, sizeof(*n));

	if (dir->entries_len == dir->entries_cap) {
		size_t cap = dir->entries_cap ? dir->entries_cap * 2 : 64;
		struct node **more = realloc(dir->entries, cap * sizeof(*more));

		if (!more) {
			free(n);
			return NULL;
		}
		dir->entries = more;
		dir->entries_cap = cap;
	}
	if (!n)
		return NULL;
	n->st = (struct stat){.st_ino = ++last_ino,
		.st_mode = mode,
		.st_nlink = S_ISDIR(mode) ? 2 : 1,
		.st_uid = fuse_req_ctx(req)->uid,
		.st_gid = fuse_req_ctx(req)->gid};
	snprintf(n->name, sizeof(n->name), "%s", name);
	n->dir = dir;
	*place(dir, name) = n;
	n->index = dir->entries_len;
	dir->entries[dir->entries_len++] = n;
	touch(n);
	touch(dir);
	return n;
}

static void drop_if_unused(struct node *n)
{
	if (n == &root || n->dir || n->lookups > 0)
		return;
	free(n->entries);
	free(n);
}

static void reply_entry(fuse_req_t req, struct node *n, const struct fuse_file_info *fi)
{
	struct fuse_entry_param e = {.attr_timeout = FOREVER_S, .entry_timeout = FOREVER_S};

	if (n) {
		e.ino = id_of(n);
		e.attr = n->st;
		n->lookups++;
	}
	if (fi)
		fuse_reply_create(req, &e, fi);
	else
		fuse_reply_entry(req, &e); /* no inode: the kernel remembers that nothing is there */
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	pthread_mutex_lock(&lock);
	reply_entry(req, *place(node_of(parent), name), NULL);
	pthread_mutex_unlock(&lock);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	struct node *n = node_of(ino);

	pthread_mutex_lock(&lock);
	n->lookups -= count;
	drop_if_unused(n);
	pthread_mutex_unlock(&lock);
	fuse_reply_none(req);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, const struct fuse_file_info *fi)
{
	struct node *n;

	pthread_mutex_lock(&lock);
	n = *place(node_of(parent), name) ? NULL : add(req, node_of(parent), name, mode);
	if (n)
		reply_entry(req, n, fi);
	else
		fuse_reply_err(req, EEXIST);
	pthread_mutex_unlock(&lock);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | mode, NULL);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *dir = node_of(parent), **at, *n;

	pthread_mutex_lock(&lock);
	at = place(dir, name);
	n = *at;
	if (n) {
		*at = n->next;
		dir->entries[n->index] = NULL;
		while (dir->entries_len > 0 && !dir->entries[dir->entries_len - 1])
			dir->entries_len--;
		n->dir = NULL;
		touch(dir);
		drop_if_unused(n);
	}
	pthread_mutex_unlock(&lock);
	if (n && store && kvfs_del(store, name) < 0)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_err(req, n ? 0 : ENOENT);
}

/* ---- attributes ---- */

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	pthread_mutex_lock(&lock);
	fuse_reply_attr(req, &node_of(ino)->st, FOREVER_S);
	pthread_mutex_unlock(&lock);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int what, struct fuse_file_info *fi)
{
	pthread_mutex_lock(&lock);
	if (what & FUSE_SET_ATTR_SIZE)
		node_of(ino)->st.st_size = attr->st_size;
	pthread_mutex_unlock(&lock);
	op_getattr(req, ino, fi);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino, (void)size;
	/* No labels and no ACLs: `ls -l` asks for them once, not for each entry. */
	fuse_reply_err(req, strcmp(name, "security.capability") == 0 ? ENODATA : EOPNOTSUPP);
}

/* ---- bytes ---- */

static void set_face(struct fuse_file_info *fi)
{
	int how = fi->flags & O_ACCMODE;

	fi->keep_cache = 1;
	fi->noflush = how == O_RDONLY;
	fi->direct_io = how == O_WRONLY;
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	set_face(fi);
	make(req, parent, name, S_IFREG | mode, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	set_face(fi);
	if (fi->flags & O_TRUNC) {
		pthread_mutex_lock(&lock);
		node_of(ino)->st.st_size = 0;
		pthread_mutex_unlock(&lock);
	}
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	off_t left = node_of(ino)->st.st_size - offset;

	(void)fi;
	if (left < 0)
		left = 0;
	if (size > READ_MAX)
		size = READ_MAX;
	fuse_reply_buf(req, zeros, (off_t)size < left ? size : (size_t)left);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	bool append = fi->flags & O_APPEND;

	pthread_mutex_lock(&lock);
	if (n->st.st_size < offset + (off_t)size)
		n->st.st_size = offset + (off_t)size;
	n->written |= !append;
	pthread_mutex_unlock(&lock);
	if (store && append && kvfs_append(store, n->name, data, size) < 0)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_write(req, size);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	size_t size;
	bool commit;

	(void)fi;
	pthread_mutex_lock(&lock);
	commit = store && n->written;
	n->written = false;
	size = n->st.st_size < READ_MAX ? (size_t)n->st.st_size : READ_MAX;
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, commit && kvfs_put(store, n->name, zeros, size, NULL, NULL) < 0 ? EIO : 0);
}

/* ---- listings ---- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->keep_cache = 1;
	fi->cache_readdir = 1;
	fuse_reply_open(req, fi);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool plus)
{
	struct node *dir = node_of(ino);
	char *text = malloc(size);
	size_t used = 0;

	if (!text) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	pthread_mutex_lock(&lock);
	for (size_t i = (size_t)offset; i < dir->entries_len; i++) {
		struct node *n = dir->entries[i];
		struct fuse_entry_param e = {.attr_timeout = FOREVER_S, .entry_timeout = FOREVER_S};
		size_t room = size - used, need;

		if (!n)
			continue;
		e.ino = id_of(n);
		e.attr = n->st;
		need = plus ? fuse_add_direntry_plus(req, text + used, room, n->name, &e, (off_t)i + 1)
			    : fuse_add_direntry(req, text + used, room, n->name, &e.attr, (off_t)i + 1);
		if (need > room)
			break;
		used += need;
		n->lookups += plus;
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, text, used);
	free(text);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, offset, true);
}

/* ---- life ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_write = READ_MAX;
	conn->max_background = 64;
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_READDIRPLUS_AUTO);
	conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS);
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink, /* of its names, nobody asks for those inside */
	.getattr = op_getattr,
	.setattr = op_setattr,
	.getxattr = op_getxattr,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
};

static int serve(struct fuse_session *se, const char *mountpoint)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r = -1;

	if (!config || fuse_set_signal_handlers(se) != 0)
		goto out;
	fuse_loop_cfg_set_max_threads(config, THREADS);
	fuse_loop_cfg_set_idle_threads(config, THREADS / 2);
	if (fuse_session_mount(se, mountpoint) == 0) {
		r = fuse_session_loop_mt(se, config);
		fuse_session_unmount(se);
	}
	fuse_remove_signal_handlers(se);
out:
	if (config)
		fuse_loop_cfg_destroy(config);
	return r;
}

static int open_store(const char *path)
{
	struct kvfs_options opt = {.size = sizeof(opt), .flags = KVFS_CREATE, .durability = KVFS_NONE, .purpose = "bench"};
	struct kvfs_error err;

	if (kvfs_open(path, &opt, &store, &err) == 0)
		return 0;
	fprintf(stderr, "nothing_fs: %s\n", err.text);
	return -1;
}

struct options {
	char *commit; /* the path of a store; NULL: none */
};

static const struct fuse_opt option_list[] = {{"commit=%s", offsetof(struct options, commit), 0}, FUSE_OPT_END};

int main(int argc, char **argv)
{
	struct options options = {0};
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts opts;
	struct fuse_session *se;
	int r = 1;

	if (fuse_opt_parse(&args, &options, option_list, NULL) != 0 || fuse_parse_cmdline(&args, &opts) != 0 || !opts.mountpoint ||
		fuse_opt_add_arg(&args, "-odefault_permissions") != 0) {
		fprintf(stderr, "usage: nothing_fs [-o commit=STORE] [FUSE OPTIONS] MOUNTPOINT\n");
		return 2;
	}
	if (options.commit && open_store(options.commit) < 0)
		return 1;
	root.st.st_uid = getuid();
	root.st.st_gid = getgid();
	touch(&root);
	se = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (se) {
		r = serve(se, opts.mountpoint) < 0;
		fuse_session_destroy(se);
	}
	kvfs_close(store);
	free(opts.mountpoint);
	fuse_opt_free_args(&args);
	return r;
}
