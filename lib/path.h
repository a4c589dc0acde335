/* Key syntax (contract, section 2): pure functions on NUL-terminated strings. */
#ifndef KV_PATH_H
#define KV_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* The rule `key` breaks, as a phrase, or NULL.  One leading '/' (and only one) is skipped; "" is legal: the root. A trailing '/', "//", ".", ".." are not legal. */
const char *kv_path_fault(const char *key);
/* 0, -EINVAL, or -ENAMETOOLONG for the two length rules. */
int kv_path_check(const char *key);
/* The same for a single component: not empty, no '/', not "." or "..", at most 255 bytes. */
int kv_name_check(const char *name);
/* The same for bytes from a store, which may have a NUL in them. */
bool kv_name_is_legal(const char *name, size_t len);

/* Walks components: *p starts at the key (leading '/' included); returns false at the end.  Only for checked keys. */
bool kv_path_next(const char **p, const char **ret_name, size_t *ret_len);
/* Component by component, by bytes; a directory sorts before what it holds. */
int kv_path_compare(const char *a, const char *b);

#endif
