/* What the paired benchmarks share: a kvfs store and a plain LMDB environment with the same keys and values, side by side. */
#ifndef PAIR_H
#define PAIR_H

#include "must.h"

#include <kvfs.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define VALUE_SIZE 100
#define KEY_SIZE 32

struct pair {
	struct kvfs_store *kv;
	MDB_env *env;
	MDB_dbi dbi;
	char value[VALUE_SIZE];
};

static inline double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static inline double percentile(double *v, size_t n, double p)
{
	qsort(v, n, sizeof *v, by_value);
	return v[(size_t)((double)(n - 1) * p)];
}

/* Opens (makes) both below `dir`, without flushes, or the store as KVFS_DURABILITY says. */
static inline void pair_open(struct pair *p, const char *dir)
{
	char path[4096];
	MDB_txn *txn;
	struct kvfs_error err;
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .purpose = "bench"};
	if (!getenv("KVFS_DURABILITY"))
		opt.durability = KVFS_NONE;
	memset(p->value, 'v', sizeof p->value);
	mkdir(dir, 0700);
	snprintf(path, sizeof path, "%s/kvfs", dir);
	if (kvfs_open(path, &opt, &p->kv, &err)) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	snprintf(path, sizeof path, "%s/lmdb", dir);
	mkdir(path, 0700);
	MUST(mdb_env_create(&p->env));
	MUST(mdb_env_set_mapsize(p->env, (size_t)1 << 40));
	MUST(mdb_env_open(p->env, path, MDB_NOSYNC | MDB_NOTLS, 0600));
	MUST(mdb_txn_begin(p->env, NULL, 0, &txn));
	MUST(mdb_dbi_open(txn, NULL, 0, &p->dbi));
	MUST(mdb_txn_commit(txn));
}

static inline void pair_close(struct pair *p)
{
	kvfs_close(p->kv);
	mdb_env_close(p->env);
}

/* Puts keys[n] into both, one transaction each. */
static inline void pair_load(struct pair *p, char (*keys)[KEY_SIZE], size_t n)
{
	MDB_txn *txn;
	struct kvfs_txn *kt;
	MUST(mdb_txn_begin(p->env, NULL, 0, &txn));
	MUST(kvfs_txn_begin(p->kv, KVFS_TXN_WRITE, &kt));
	for (size_t i = 0; i < n; i++) {
		MDB_val k = {strlen(keys[i]), keys[i]}, v = {sizeof p->value, p->value};
		MUST(mdb_put(txn, p->dbi, &k, &v, 0));
		MUST(kvfs_txn_put(kt, keys[i], p->value, sizeof p->value, NULL));
	}
	MUST(mdb_txn_commit(txn));
	MUST(kvfs_txn_commit(&kt));
}

/* One lookup in a transaction of its own, with a copy of the value, as kvfs_get() gives one. */
static inline void plain_get(struct pair *p, char *key)
{
	MDB_txn *txn;
	MDB_val k = {strlen(key), key}, v;
	MUST(mdb_txn_begin(p->env, NULL, MDB_RDONLY, &txn));
	MUST(mdb_get(txn, p->dbi, &k, &v));
	void *copy = malloc(v.mv_size);
	memcpy(copy, v.mv_data, v.mv_size);
	mdb_txn_abort(txn);
	free(copy);
}

static inline void plain_put(struct pair *p, char *key)
{
	MDB_txn *txn;
	MDB_val k = {strlen(key), key}, v = {sizeof p->value, p->value};
	MUST(mdb_txn_begin(p->env, NULL, 0, &txn));
	MUST(mdb_put(txn, p->dbi, &k, &v, 0));
	MUST(mdb_txn_commit(txn));
}

static inline void kvfs_get_copy(struct pair *p, const char *key)
{
	void *data;
	size_t len;
	MUST(kvfs_get(p->kv, key, &data, &len));
	free(data);
}

#endif
