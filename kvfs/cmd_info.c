/* kvfs info: sizes and state of the store, and who has it open. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct doors {
	struct kvfs_door *list;
	size_t n;
};

/* Everybody but this process itself.  The table is asked again with more room until it fits: doors come and go meanwhile. */
static int read_doors(struct cli *cli, struct doors *ret)
{
	size_t cap = 64;

	for (;;) {
		struct kvfs_door *list = calloc(cap, sizeof(*list));
		ssize_t n;

		if (!list)
			return -ENOMEM;
		n = kvfs_doors(cli->store, list, cap);
		if (n >= 0 && (size_t)n <= cap) {
			*ret = (struct doors){list, 0};
			for (ssize_t i = 0; i < n; i++)
				if (list[i].pid != getpid())
					list[ret->n++] = list[i];
			return 0;
		}
		free(list);
		if (n < 0)
			return (int)n;
		cap = 2 * (size_t)n;
	}
}

static struct timespec from_ns(int64_t ns)
{
	return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static void print_size(const char *label, uint64_t bytes, const char *remark)
{
	printf("%13s: %s", label, cli_human(bytes).s);
	if (bytes >= 1024)
		printf(" (%ju bytes)", (uintmax_t)bytes);
	else
		printf(" bytes");
	printf("%s\n", remark);
}

static void print_text(const struct kvfs_info *info, const struct doors *doors)
{
	printf("%13s: %s\n", "store", cli_quote(info->path));
	printf("%13s: %u, uuid %s\n", "format", info->format, info->uuid);
	printf("%13s: %ju values, %ju directories, %ju others\n", "keys", (uintmax_t)info->values, (uintmax_t)info->directories,
		(uintmax_t)info->others);
	print_size("values", info->value_bytes, "");
	print_size("file", info->file_bytes, "");
	print_size("used", info->used_bytes, "");
	print_size("free in file", info->free_bytes, "");
	print_size("free on disk", info->disk_free_bytes, "");
	print_size("to be freed", info->garbage_bytes, "");
	printf("%13s: %ju old values still open\n", "held", (uintmax_t)info->held_values);
	printf("%13s: page %u, chunk %u, inline up to %u bytes\n", "layout", info->page_size, info->chunk_size, info->inline_max);
	printf("%13s: %ju\n", "sequence", (uintmax_t)info->sequence);
	printf("%13s: %s\n", "last sync", info->last_sync_ns ? cli_time(from_ns(info->last_sync_ns), true).s : "unknown");
	printf("%13s: %s\n", "commits", info->relaxed ? "flushed about once a second" : "flushed each");
	if (info->snapshot_pid)
		printf("%13s: process %jd, %ju.%03u s old\n", "snapshot", (intmax_t)info->snapshot_pid,
			(uintmax_t)(info->snapshot_age_ms / 1000), (unsigned)(info->snapshot_age_ms % 1000));
	else
		printf("%13s: none\n", "snapshot");
	printf("%13s: %u of %u in use\n", "reader slots", info->readers, info->readers_max);
	for (size_t i = 0; i < doors->n; i++) {
		const struct kvfs_door *d = &doors->list[i];

		printf("%13s: process %jd, %s, since %s", "open by", (intmax_t)d->pid, d->purpose,
			cli_time(from_ns(d->since_ns), false).s);
		if (*d->mountpoint)
			printf(", at %s", cli_quote(d->mountpoint));
		if (d->durability)
			printf(", %s", kvfs_durability_name(d->durability));
		if (d->failed)
			printf(", writes no more: the disk failed (%s)", strerror(d->failed));
		if (d->lagging)
			fputs(", lagging", stdout);
		putchar('\n');
	}
}

static void json_time_or_null(struct cli_json *j, const char *name, int64_t ns)
{
	if (ns)
		cli_json_time(j, name, from_ns(ns));
	else
		cli_json_name(j, name), fputs("null", j->out);
}

static void print_doors_json(struct cli_json *j, const struct doors *doors)
{
	cli_json_name(j, "doors");
	fputc('[', j->out);
	for (size_t i = 0; i < doors->n; i++) {
		const struct kvfs_door *d = &doors->list[i];
		struct cli_json one;

		if (i)
			fputc(',', j->out);
		cli_json_begin(&one, j->out);
		cli_json_uint(&one, "pid", (uint64_t)d->pid);
		cli_json_string(&one, "purpose", d->purpose);
		if (*d->mountpoint)
			cli_json_string(&one, "mountpoint", d->mountpoint);
		json_time_or_null(&one, "since", d->since_ns);
		if (d->durability)
			cli_json_string(&one, "durability", kvfs_durability_name(d->durability));
		if (d->failed)
			cli_json_string(&one, "failed", strerror(d->failed));
		if (d->lagging)
			cli_json_name(&one, "lagging"), fputs("true", stdout);
		cli_json_end(&one);
	}
	fputc(']', j->out);
}

static void print_json(const struct kvfs_info *info, const struct doors *doors)
{
	struct cli_json j;

	cli_json_begin(&j, stdout);
	cli_json_string(&j, "path", info->path);
	cli_json_string(&j, "uuid", info->uuid);
	cli_json_uint(&j, "format", info->format);
	cli_json_uint(&j, "page_size", info->page_size);
	cli_json_uint(&j, "chunk_size", info->chunk_size);
	cli_json_uint(&j, "inline_max", info->inline_max);
	cli_json_uint(&j, "sequence", info->sequence);
	cli_json_uint(&j, "values", info->values);
	cli_json_uint(&j, "directories", info->directories);
	cli_json_uint(&j, "others", info->others);
	cli_json_uint(&j, "value_bytes", info->value_bytes);
	cli_json_uint(&j, "file_bytes", info->file_bytes);
	cli_json_uint(&j, "used_bytes", info->used_bytes);
	cli_json_uint(&j, "free_bytes", info->free_bytes);
	cli_json_uint(&j, "disk_free_bytes", info->disk_free_bytes);
	cli_json_uint(&j, "garbage_bytes", info->garbage_bytes);
	cli_json_uint(&j, "held_values", info->held_values);
	json_time_or_null(&j, "last_sync", info->last_sync_ns);
	cli_json_name(&j, "relaxed"), fputs(info->relaxed ? "true" : "false", stdout);
	if (info->snapshot_pid) {
		cli_json_uint(&j, "snapshot_pid", (uint64_t)info->snapshot_pid);
		cli_json_uint(&j, "snapshot_age_ms", info->snapshot_age_ms);
	}
	cli_json_uint(&j, "readers", info->readers);
	cli_json_uint(&j, "readers_max", info->readers_max);
	print_doors_json(&j, doors);
	cli_json_end(&j);
	putchar('\n');
}

int cmd_info(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	static struct kvfs_info info;
	struct doors doors = {0};
	bool json = false;
	int r;

	while (cli_option(cli, argc, argv, "", longs) != -1)
		json = true;
	cli_operands(cli, argc, 0, 0);
	if (cli_open(cli, CLI_READ) < 0)
		return CLI_TROUBLE;
	r = kvfs_info(cli->store, &info);
	if (r == 0)
		r = read_doors(cli, &doors);
	if (r < 0)
		return cli_failf(cli, NULL, "%s", cli_reason(cli, NULL, r));
	(json ? print_json : print_text)(&info, &doors);
	free(doors.list);
	return CLI_DONE;
}
