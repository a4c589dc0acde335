/* See unpin.h: stands in for the calls of LMDB that begin transactions. */
#include "unpin.h"

#include <dlfcn.h>
#include <lmdb.h>
#include <pthread.h>
#include <string.h>

enum { READERS = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static MDB_txn *reader[READERS]; /* protected by lock; begun, and not let go */
static bool active;

void unpin_set(bool on)
{
	active = on;
}

static void let_go(void)
{
	MDB_txn *all[READERS];
	pthread_mutex_lock(&lock);
	memcpy(all, reader, sizeof all);
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < READERS; i++)
		if (all[i])
			mdb_txn_reset(all[i]);
}

static void note(MDB_txn *txn)
{
	size_t i = 0;
	pthread_mutex_lock(&lock);
	while (i < READERS && reader[i] && reader[i] != txn)
		i++;
	if (i < READERS)
		reader[i] = txn;
	pthread_mutex_unlock(&lock);
}

static void forget(MDB_txn *txn)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < READERS; i++)
		if (reader[i] == txn)
			reader[i] = NULL;
	pthread_mutex_unlock(&lock);
}

int mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **ret)
{
	static int (*real)(MDB_env *, MDB_txn *, unsigned, MDB_txn **);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "mdb_txn_begin");
	int rc = real(env, parent, flags, ret);
	if (!active || rc)
		return rc;
	if (flags & MDB_RDONLY)
		note(*ret);
	else
		let_go();
	return rc;
}

int mdb_txn_renew(MDB_txn *txn)
{
	static int (*real)(MDB_txn *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "mdb_txn_renew");
	int rc = real(txn);
	if (active && rc == 0)
		note(txn);
	return rc;
}

void mdb_txn_reset(MDB_txn *txn)
{
	static void (*real)(MDB_txn *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "mdb_txn_reset");
	if (active)
		forget(txn);
	real(txn);
}

void mdb_txn_abort(MDB_txn *txn)
{
	static void (*real)(MDB_txn *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "mdb_txn_abort");
	if (active)
		forget(txn);
	real(txn);
}
