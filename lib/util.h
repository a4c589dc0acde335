/* Small helpers that every layer may use. */
#ifndef KV_UTIL_H
#define KV_UTIL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define KV_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline uint64_t kv_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t kv_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Bytes somewhere else.  Borrowed: who hands them out says until when they live (for records: until the transaction ends,
 * within a write transaction until its next change). */
struct kv_bytes {
	const void *data;
	size_t len;
};

static inline struct timespec kv_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts;
}

static inline int64_t kv_ns(struct timespec ts)
{
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Cleanup attributes: what is annotated is released on every way out; success takes it out with kv_take(). */
static inline void kv_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void kv_cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void kv_cleanup_unlock(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

#define KV_FREE __attribute__((cleanup(kv_cleanup_free)))
#define KV_FD __attribute__((cleanup(kv_cleanup_fd)))
#define KV_PASTE2(a, b) a##b
#define KV_PASTE(a, b) KV_PASTE2(a, b)
/* Holds `m` until the end of the enclosing block. */
#define KV_GUARD(m)                                                                                                                \
	pthread_mutex_t *KV_PASTE(guard_, __LINE__) __attribute__((cleanup(kv_cleanup_unlock), unused)) = (m);                     \
	pthread_mutex_lock(m)
#define kv_take(p)                                                                                                                 \
	({                                                                                                                         \
		__typeof__(p) taken_ = (p);                                                                                        \
		(p) = NULL;                                                                                                        \
		taken_;                                                                                                            \
	})

#endif
