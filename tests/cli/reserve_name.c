/* reserve_name STORE KEY COMMAND: runs a shell command while a session holds KEY, as one that a mount opened with O_EXCL. */
#include <kvfs_ll.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct kvfs_cred cred = {0, 0};
	struct kvfs_session *s;
	struct kvfs_store *store;
	struct kvfs_error err;

	if (argc != 4 || kvfs_open(argv[1], NULL, &store, &err))
		return 2;
	if (kvfs_session_create(store, KVFS_ROOT_INO, argv[2], 0644, cred, true, &s))
		return 2;
	int status = system(argv[3]);
	kvfs_session_close(s);
	kvfs_close(store);
	return status != 0;
}
