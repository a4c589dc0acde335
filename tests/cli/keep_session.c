/* keep_session STORE KEY REASON [OFFSET]: a mount's part in what `kvfs sessions` shows, without a mount.  Writes standard input to a session on
 * KEY, the whole value or, with OFFSET, a part of it, and keeps it. */
#include <kvfs_ll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(struct kvfs_store *store, const char *key, int reason, const char *offset)
{
	struct kvfs_cred cred = {0, 0};
	struct kvfs_session *s;
	struct kvfs_stat st;
	char buf[4096];
	size_t n = fread(buf, 1, sizeof buf, stdin);
	int r = kvfs_ll_lookup(store, KVFS_ROOT_INO, key, &st);

	r = r == 0 ? kvfs_session_open(store, st.ino, !offset, &s)
		   : kvfs_session_create(store, KVFS_ROOT_INO, key, 0644, cred, false, &s);
	if (r)
		return r;
	if (kvfs_session_write(s, buf, n, offset ? strtoull(offset, NULL, 10) : 0) != (ssize_t)n)
		r = -1;
	if (r == 0)
		r = kvfs_session_keep(s, reason);
	kvfs_session_close(s);
	return r;
}

int main(int argc, char **argv)
{
	struct kvfs_store *store;
	struct kvfs_error err;

	if (argc < 4 || kvfs_open(argv[1], NULL, &store, &err))
		return 2;
	int r = run(store, argv[2], atoi(argv[3]), argc > 4 ? argv[4] : NULL);
	kvfs_close(store);
	if (r)
		fprintf(stderr, "%s\n", strerror(-r));
	return r != 0;
}
