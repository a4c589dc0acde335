/* Names: random operations on directories, links and special files, with the store's invariants checked all along (contract,
 * sections 2 and 6).  What the operations do to keys is the API's model test; here it is what they do to the tables. */
#include "support.h"

#include <kvfs_ll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "commit.h"
#include "inode.h"
#include "invariants.h"
#include "namei.h"

static struct kvfs_store *open_store(void)
{
	struct kvfs_options opt = {.size = sizeof opt, .flags = KVFS_CREATE, .durability = KVFS_NONE, .map_size = 1 << 28};
	struct kvfs_store *store;
	assert_ok(kvfs_open(support_store_path(), &opt, &store, NULL));
	return store;
}

/* Short names and long ones: with a long name a record is too large to be kept in its entry. */
static const char *random_key(struct support_rng *rng, char *out)
{
	char *at = out;
	for (uint64_t depth = 1 + support_below(rng, 3); depth; depth--) {
		size_t len = support_below(rng, 6) ? 1 : 240;
		memset(at, 'a' + (int)support_below(rng, 3), len);
		at += len;
		*at++ = depth > 1 ? '/' : 0;
	}
	return out;
}

/* An answer that POSIX or kvfs.h knows for a name that does not fit. */
static void any(int r)
{
	if (r != 0 && r != -ENOENT && r != -EEXIST && r != -ENOTDIR && r != -EISDIR && r != -ENOTEMPTY && r != -EINVAL &&
		r != -EPERM && r != -ELOOP && r != -EBUSY && r != -ENODATA)
		fail_msg("%d (%s)", r, strerror(-r));
}

static void one_operation(struct support_rng *rng, struct kvfs_store *store)
{
	char a[1000], b[1000], data[6000];
	static const size_t sizes[] = {0, 3, 200, 300, 400, 3000, 6000};
	size_t len = sizes[support_below(rng, sizeof sizes / sizeof *sizes)];
	random_key(rng, a);
	random_key(rng, b);
	memset(data, 'd', sizeof data);
	switch (support_below(rng, 16)) {
	case 0 ... 2:
		any(kvfs_put(store, a, data, len, NULL, NULL));
		break;
	case 3:
		any(kvfs_append(store, a, data, len));
		break;
	case 4:
		any(kvfs_mkdir(store, a, 0755));
		break;
	case 5:
		any(kvfs_symlink(store, len ? "somewhere" : b, a));
		break;
	case 6:
		any(kvfs_mknod(store, a, (len ? S_IFIFO : S_IFREG) | 0600, 0));
		break;
	case 7 ... 8:
		any(kvfs_link(store, a, b));
		break;
	case 9 ... 10:
		any(kvfs_rename(store, a, b, 0));
		break;
	case 11:
		any(kvfs_rename(store, a, b, KVFS_RENAME_EXCHANGE));
		break;
	case 12:
		any(kvfs_rename(store, a, b, KVFS_RENAME_NOREPLACE));
		break;
	case 13:
		any(kvfs_setxattr(store, a, "user.x", data, len, 0));
		break;
	case 14:
		any(support_below(rng, 4) ? kvfs_del(store, a) : kvfs_del_tree(store, a, NULL));
		break;
	default:
		any(kvfs_del(store, a));
	}
}

static void tables_agree_whatever_is_done(void **state)
{
	(void)state;
	for (uint64_t stream = 0; stream < 3; stream++) {
		struct support_rng rng = support_rng(stream);
		struct kvfs_store *store = open_store();
		for (int i = 0; i < 1500; i++) {
			one_operation(&rng, store);
			if (i % 4 == 0)
				check_invariants(store, NULL);
		}
		check_drained(store);
		assert_ok(kvfs_del_tree(store, "", NULL));
		check_drained(store);
		kvfs_close(store);
	}
}

/* The same within transactions: all of it or nothing, and when one of the operations fails, nothing. */
static void transactions_leave_tables_that_agree(void **state)
{
	(void)state;
	struct support_rng rng = support_rng(9);
	struct kvfs_store *store = open_store();
	int committed = 0;
	for (int i = 0; i < 400; i++) {
		struct kvfs_txn *txn;
		char a[1000], b[1000], data[5000] = {0};
		assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
		for (uint64_t n = support_below(&rng, 5); n; n--) {
			random_key(&rng, a);
			random_key(&rng, b);
			switch (support_below(&rng, 4)) {
			case 0 ... 1:
				any(kvfs_txn_put(txn, a, data, support_below(&rng, sizeof data), NULL));
				break;
			case 2:
				any(kvfs_txn_del(txn, a));
				break;
			default:
				any(kvfs_txn_rename(txn, a, b, 0));
			}
		}
		int r = kvfs_txn_commit(&txn);
		any(r);
		committed += r == 0;
		check_invariants(store, NULL);
	}
	assert_true(committed > 50);
	check_drained(store);
	kvfs_close(store);
}

/* Keys resolve from the root, component by component. */
static void resolving_stops_where_the_tree_does(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kv_txn txn;
	struct kv_place place;
	assert_ok(kvfs_put(store, "a/b/c", "x", 1, NULL, NULL));
	assert_ok(kv_db_read(store->core->db, &txn));
	assert_ok(kv_namei_resolve(&txn, "", &place));
	assert_true(place.exists && place.ent.ino == KV_ROOT && place.len == 0);
	assert_ok(kv_namei_resolve(&txn, "/a/b/c", &place));
	assert_true(place.exists && place.len == 1 && *place.name == 'c' && S_ISREG(place.ent.type));
	assert_ok(kv_namei_resolve(&txn, "a/b/d", &place));
	assert_true(!place.exists && place.len == 1 && *place.name == 'd');
	assert_err(kv_namei_resolve(&txn, "a/x/c", &place), -ENOENT);
	assert_err(kv_namei_resolve(&txn, "a/b/c/d", &place), -ENOTDIR);
	assert_err(kv_namei_resolve(&txn, "a/b/c/d/e", &place), -ENOTDIR);
	kv_db_read_end(&txn);
	kvfs_close(store);
}

static uint64_t ino_of(struct kvfs_store *store, const char *key)
{
	struct kvfs_stat st;
	assert_ok(kvfs_stat(store, key, &st));
	return st.ino;
}

/* A directory goes nowhere below itself, a hundred levels deep or by exchange. */
static void no_directory_holds_itself(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	char key[300] = "d";
	for (int i = 0; i < 100; i++)
		strcat(key, "/d");
	assert_ok(kvfs_mkdir(store, key, 0755));
	strcat(key, "/x");
	assert_err(kvfs_rename(store, "d", key, 0), -EINVAL);
	assert_err(kvfs_rename(store, "d/d", "d/d/d/d", 0), -EINVAL);
	assert_err(kvfs_rename(store, "d", "d/d", KVFS_RENAME_EXCHANGE), -EINVAL);
	assert_err(kvfs_rename(store, "d/d", "d", KVFS_RENAME_EXCHANGE), -EINVAL);
	assert_err(kvfs_rename(store, "d/d", "d", 0), -ENOTEMPTY);
	check_invariants(store, NULL);
	kvfs_close(store);
}

/* A name that leads to the last link of an inode whose recorded name is gone. */
static void links_outlive_their_first_name(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_stat st;
	char got[8];
	assert_ok(kvfs_put(store, "d/a", "value", 5, NULL, NULL));
	assert_ok(kvfs_link(store, "d/a", "e/b"));
	assert_ok(kvfs_link(store, "d/a", "f/c"));
	assert_ok(kvfs_del(store, "f/c"));
	assert_ok(kvfs_del(store, "d/a"));
	check_invariants(store, NULL);
	assert_count(kvfs_get_into(store, "e/b", got, sizeof got, 0), 5);
	assert_ok(kvfs_stat(store, "e/b", &st));
	assert_int_equal(st.nlink, 1);
	assert_ok(kvfs_rename(store, "e/b", "g", 0));
	assert_count(kvfs_exists(store, "e"), 0);
	assert_ok(kvfs_append(store, "g", "s", 1));
	check_invariants(store, NULL);
	assert_ok(kvfs_del(store, "g"));
	assert_err(kvfs_ll_getattr(store, st.ino, &st), -ESTALE);
	check_drained(store);
	kvfs_close(store);
}

/* The list of an inode's names has lost one: nothing is done that would make it worse. */
static void a_name_that_is_not_listed_is_damage(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_stat st;
	struct kv_edit ed;
	assert_ok(kvfs_put(store, "a", "value", 5, NULL, NULL));
	assert_ok(kvfs_link(store, "a", "b"));
	assert_ok(kvfs_stat(store, "a", &st));
	assert_ok(kv_commit_begin(store->core, &ed));
	assert_ok(kv_inode_del_name(&ed.txn, st.ino, KV_ROOT, "a", 1));
	assert_ok(kv_commit_end(store->core, &ed, KV_SYNC_LEVEL));
	assert_err(kvfs_del(store, "a"), -EUCLEAN);
	assert_err(kvfs_rename(store, "a", "c", 0), -EUCLEAN);
	assert_err(kvfs_del(store, "b"), -EUCLEAN);
	assert_ok(kvfs_put(store, "b", "more", 4, NULL, NULL));
	assert_ok(kvfs_stat(store, "a", &st));
	assert_int_equal(st.nlink, 2);
	assert_int_equal(st.size, 4);
	kvfs_close(store);
}

/* Two values of one commit have one version: a transaction that read a key notices when the other takes its place. */
static void a_transaction_tells_values_of_one_commit_apart(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_txn *txn;
	void *data;
	size_t len;
	assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
	assert_ok(kvfs_txn_put(txn, "a", "1", 1, NULL));
	assert_ok(kvfs_txn_put(txn, "b", "2", 1, NULL));
	assert_ok(kvfs_txn_commit(&txn));
	assert_ok(kvfs_txn_begin(store, KVFS_TXN_WRITE, &txn));
	assert_ok(kvfs_txn_get(txn, "a", &data, &len));
	assert_ok(kvfs_txn_put(txn, "copy", data, len, NULL));
	free(data);
	assert_ok(kvfs_rename(store, "b", "a", 0));
	assert_err(kvfs_txn_commit(&txn), -ECANCELED);
	kvfs_close(store);
}

/* In a transaction that only reads, too, nothing is below a value. */
static void below_a_value_there_is_nothing(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_txn *txn;
	assert_ok(kvfs_put(store, "a", "1", 1, NULL, NULL));
	for (unsigned flags = 0; flags < 2; flags++) {
		assert_ok(kvfs_txn_begin(store, flags ? KVFS_TXN_WRITE : 0, &txn));
		assert_count(kvfs_txn_exists(txn, "a/b"), 0);
		assert_count(kvfs_txn_exists(txn, "b/b"), 0);
		kvfs_txn_abort(txn);
	}
	kvfs_close(store);
}

/* Times set on a key that is gone since: nothing to publish, and no error. */
static void times_of_a_deleted_key_are_nobodys(void **state)
{
	(void)state;
	struct kvfs_store *store = open_store();
	struct kvfs_session *s;
	struct kvfs_setattr attr = {.valid = KVFS_SET_MTIME, .mtime = {1, 0}};
	assert_ok(kvfs_put(store, "a", "1", 1, NULL, NULL));
	assert_ok(kvfs_session_open(store, ino_of(store, "a"), false, &s));
	assert_ok(kvfs_session_setattr(s, &attr));
	assert_ok(kvfs_del(store, "a"));
	assert_ok(kvfs_session_publish(s));
	kvfs_session_close(s);
	kvfs_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_agree_whatever_is_done),
		cmocka_unit_test(transactions_leave_tables_that_agree),
		cmocka_unit_test(resolving_stops_where_the_tree_does),
		cmocka_unit_test(no_directory_holds_itself),
		cmocka_unit_test(links_outlive_their_first_name),
		cmocka_unit_test(a_name_that_is_not_listed_is_damage),
		cmocka_unit_test(a_transaction_tells_values_of_one_commit_apart),
		cmocka_unit_test(below_a_value_there_is_nothing),
		cmocka_unit_test(times_of_a_deleted_key_are_nobodys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
