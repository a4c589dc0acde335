/* SHA-256 (FIPS 180-4) of bytes in memory: for names that programs without this library can make too. */
#ifndef KV_SHA256_H
#define KV_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { KV_SHA256_SIZE = 32 };

void kv_sha256(const void *data, size_t len, uint8_t ret[KV_SHA256_SIZE]);

#endif
