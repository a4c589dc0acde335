/* A power cut by hand; see powercut.h. */
#include "powercut.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512

static int open_in(const char *dir, const char *name, int flags)
{
	char path[400];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, flags | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

struct image image_of(const char *dir, const char *name)
{
	struct stat st;
	int fd = open_in(dir, name, O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	struct image im = {calloc(1, (size_t)st.st_size + SECTOR), (size_t)st.st_size};
	assert_non_null(im.data);
	assert_int_equal(pread(fd, im.data, im.len, 0), im.len);
	close(fd);
	return im;
}

void image_write(const struct image *im, const char *dir, const char *name)
{
	mkdir(dir, 0700);
	int fd = open_in(dir, name, O_WRONLY | O_CREAT | O_TRUNC);
	assert_int_equal(write(fd, im->data, im->len), im->len);
	close(fd);
}

struct image image_torn(const struct image *flushed, const struct image *later, struct support_rng *rng)
{
	struct image im = {calloc(1, later->len + SECTOR), later->len};
	unsigned percent = (unsigned)support_below(rng, 101);
	memcpy(im.data, flushed->data, flushed->len < later->len ? flushed->len : later->len);
	for (size_t at = 0; at < im.len; at += SECTOR)
		if (support_below(rng, 100) < percent)
			memcpy(im.data + at, later->data + at, im.len - at < SECTOR ? im.len - at : SECTOR);
	return im;
}

struct kv_sync_record record_of(const char *dir)
{
	struct kv_sync_record rec = {0};
	int fd = open_in(dir, "sync", O_RDONLY);
	assert_ok(kv_syncfile_read(fd, &rec));
	close(fd);
	return rec;
}

void write_record_of_other_boot(const char *dir, struct kv_sync_record rec)
{
	struct stat st;
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = open_in(dir, "sync", O_RDWR | O_CREAT | O_TRUNC);
	assert_int_equal(fstatat(dirfd, "data.mdb", &st, 0), 0);
	rec.place.boot[0] ^= 0xff;
	rec.place.ino = st.st_ino;
	assert_ok(kv_syncfile_write(fd, &rec));
	close(fd);
	close(dirfd);
}
