/* The workloads of store_bench on one store, in a process of its own: as work.py, for the stores that are used from C.
 *
 *   ENGINE DIR DATA LEVEL question N SECONDS   insert N with a commit each, read, scan; each phase for SECONDS at most
 *   ENGINE DIR DATA LEVEL fill N               in batches, not timed
 *   ENGINE DIR DATA LEVEL mix N SECONDS SEED   on a store that has N; says `ready`, and begins when a line comes
 *   ENGINE DIR DATA LEVEL bulk N SECONDS       in batches and to the disk, then read and scan for a quarter of SECONDS each
 *
 * DATA has `keys`, random bytes, and `text`.  A value is that piece of the text which its key says, so that what is read can be compared.
 * Prints `PHASE COUNT SECONDS` for each phase, then what memory it took. */
#include "engine.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1000, LOOK = 16 /* operations between two looks at the clock */ };

static const unsigned char *keys, *text;
static size_t keys_len, text_len;
static uint64_t chance = 88172645463325252u;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t below(size_t n)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (size_t)(chance % n);
}

static const unsigned char *map(const char *dir, const char *name, size_t *ret_len)
{
	char path[4096];
	struct stat st;
	void *bytes;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	MUST(fd < 0 || fstat(fd, &st) < 0);
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	MUST(bytes == MAP_FAILED);
	*ret_len = (size_t)st.st_size;
	return bytes;
}

static const void *key_at(size_t i)
{
	return keys + i * KEY_BYTES % (keys_len - keys_len % KEY_BYTES);
}

static const void *value_of(const unsigned char *key, size_t *ret_len)
{
	*ret_len = VALUE_MIN + (key[0] | key[1] << 8) % (VALUE_MAX - VALUE_MIN + 1);
	return text + (size_t)(key[2] | key[3] << 8) % (text_len - VALUE_MAX);
}

static void put(size_t i)
{
	size_t len;
	const void *value = value_of(key_at(i), &len);

	engine.put(key_at(i), value, len);
}

static void get(size_t i)
{
	static char into[VALUE_MAX];
	size_t len;
	const void *value = value_of(key_at(i), &len);

	MUST(engine.get(key_at(i), into) != len || memcmp(into, value, len) != 0);
}

static void told(const char *phase, size_t count, double begin)
{
	printf("%s %zu %.6f\n", phase, count, now() - begin);
}

static size_t load(size_t from, size_t until, double seconds)
{
	double end = now() + seconds;

	for (size_t i = from; i < until;) {
		if (now() > end)
			return i;
		engine.begin();
		for (size_t n = 0; n < BATCH && i < until; n++, i++)
			put(i);
		engine.commit();
	}
	return until;
}

static void read_random(size_t stored, size_t most, double seconds)
{
	double begin = now();
	size_t done = 0;

	while (done < most && (done % LOOK || now() - begin < seconds)) {
		get(below(stored));
		done++;
	}
	told("read", done, begin);
}

static void mix(size_t stored, size_t next, double seconds)
{
	double begin = now();
	size_t done = 0;

	for (; done % LOOK || now() - begin < seconds; done++) {
		if (below(10) == 0)
			put(next++);
		else
			get(below(stored));
	}
	told("mixed", done, begin);
}

static size_t scan_count, scan_bytes;
static double scan_end;

bool scanned(size_t len)
{
	scan_bytes += len;
	return ++scan_count % BATCH || now() < scan_end;
}

static void scan(size_t stored, double seconds)
{
	double begin = now();

	scan_end = begin + seconds;
	engine.scan();
	MUST(scan_bytes < scan_count * VALUE_MIN || (scan_count < stored && now() < scan_end));
	told("scan", scan_count, begin);
}

static void question(size_t n, double seconds)
{
	double begin = now();
	size_t i = 0;

	while (i < n && (i % LOOK || now() - begin < seconds))
		put(i++);
	told("insert", i, begin);
	load(i, n, 1e9);
	read_random(n, n, seconds);
	scan(n, 8 * seconds);
}

/* What is in its files is on the disk, whatever the store itself does for that. */
static void sync_files(const char *dir)
{
	DIR *list = opendir(dir);
	struct dirent *entry;

	while (list && (entry = readdir(list))) {
		char path[4096];
		int fd;

		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			sync_files(path);
		fd = entry->d_type == DT_REG ? open(path, O_RDONLY) : -1;
		if (fd >= 0) {
			fsync(fd);
			close(fd);
		}
	}
	if (list)
		closedir(list);
}

static void bulk(const char *dir, size_t n, double seconds)
{
	double begin = now();
	size_t stored = load(0, n, seconds);

	sync_files(dir);
	told("bulk", stored, begin);
	read_random(stored, stored, seconds / 4);
	scan(stored, seconds / 4);
}

static void tell_memory(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	long kib;

	while (status && fgets(line, sizeof(line), status)) {
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			printf("peak %ld 0\n", kib);
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			printf("anon %ld 0\n", kib);
	}
	if (status)
		fclose(status);
}

int main(int argc, char **argv)
{
	size_t n = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
	double seconds = argc > 6 ? strtod(argv[6], NULL) : 0;
	const char *what = argc > 4 ? argv[4] : "";
	char line[16];

	if (n == 0) {
		fprintf(stderr, "usage: %s DIR DATA LEVEL question|fill|mix|bulk N [SECONDS [SEED]]\n", argv[0]);
		return 2;
	}
	keys = map(argv[2], "keys", &keys_len);
	text = map(argv[2], "text", &text_len);
	engine.open(argv[1], argv[3]);
	if (strcmp(what, "question") == 0) {
		question(n, seconds);
	} else if (strcmp(what, "bulk") == 0) {
		bulk(argv[1], n, seconds);
	} else if (strcmp(what, "fill") == 0) {
		load(0, n, 1e9);
	} else if (argc > 7) {
		size_t seed = strtoul(argv[7], NULL, 10);

		chance += seed * 0x9e3779b97f4a7c15u;
		printf("ready\n");
		fflush(stdout);
		if (fgets(line, sizeof(line), stdin))
			mix(n, n * (seed + 1), seconds);
	}
	tell_memory();
	engine.close();
	return 0;
}
