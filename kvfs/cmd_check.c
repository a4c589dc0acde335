/* kvfs check: what is damaged, key by key, and what of it can still be read; and that saved into a new store. */
#include "cli.h"

#include <inttypes.h>
#include <string.h>

struct job {
	struct cli *cli;
	bool json;
};

static const char *kind_of(enum kvfs_finding_kind kind)
{
	return kind == KVFS_FINDING_LOST ? "lost" : kind == KVFS_FINDING_WRONG ? "wrong" : "space";
}

static void print_finding(void *arg, const struct kvfs_finding *f)
{
	struct job *job = arg;
	struct cli_json j;

	cli_progress_clear(job->cli);
	if (!job->json) {
		printf("%s: %s%s%s\n", kind_of(f->kind), f->key ? cli_quote(f->key) : "", f->key ? ": " : "", f->text);
		return;
	}
	cli_json_begin(&j, stdout);
	cli_json_string(&j, "finding", kind_of(f->kind));
	if (f->key)
		cli_json_string(&j, "key", f->key);
	cli_json_string(&j, "text", f->text);
	cli_json_end(&j);
	putchar('\n');
}

static int draw(void *arg, uint64_t done, uint64_t total)
{
	return cli_progress_part(((struct job *)arg)->cli, done, total);
}

static void print_result(const struct kvfs_check_result *r)
{
	uint64_t findings = r->lost + r->wrong + r->space;

	if (findings == 0)
		printf("whole: ");
	else
		printf("%ju findings (%ju lost, %ju wrong, %ju space); can be read: ", (uintmax_t)findings, (uintmax_t)r->lost,
			(uintmax_t)r->wrong, (uintmax_t)r->space);
	printf("%ju values (%sB), %ju directories, %ju others; sequence %ju, %ju pages, %ju of them free\n",
		(uintmax_t)(r->values - r->damaged_values), cli_human(r->value_bytes).s, (uintmax_t)r->directories,
		(uintmax_t)r->others, (uintmax_t)r->sequence, (uintmax_t)r->pages, (uintmax_t)r->free_pages);
}

static void print_result_json(const struct kvfs_check_result *r)
{
	struct cli_json j;

	cli_json_begin(&j, stdout);
	cli_json_uint(&j, "lost", r->lost);
	cli_json_uint(&j, "wrong", r->wrong);
	cli_json_uint(&j, "space", r->space);
	cli_json_uint(&j, "sequence", r->sequence);
	cli_json_uint(&j, "pages", r->pages);
	cli_json_uint(&j, "free_pages", r->free_pages);
	cli_json_uint(&j, "values", r->values);
	cli_json_uint(&j, "damaged_values", r->damaged_values);
	cli_json_uint(&j, "directories", r->directories);
	cli_json_uint(&j, "others", r->others);
	cli_json_uint(&j, "value_bytes", r->value_bytes);
	cli_json_uint(&j, "chunks", r->chunks);
	cli_json_uint(&j, "dead_chunks", r->dead_chunks);
	cli_json_uint(&j, "garbage", r->garbage);
	cli_json_uint(&j, "sessions", r->sessions);
	cli_json_uint(&j, "kept", r->kept);
	cli_json_end(&j);
	putchar('\n');
}

static int repair(struct cli *cli, const char *dest, struct job *job)
{
	struct kvfs_check_options opt = {.size = sizeof(opt), .finding = print_finding, .progress = draw, .arg = job};
	struct kvfs_salvage_result saved;
	struct kvfs_error err = {0};
	struct cli_json j;
	int r;

	r = kvfs_salvage(cli->store_path, dest, &opt, &saved, &err);
	cli_progress_clear(job->cli);
	if (r < 0)
		return cli_failf(cli, NULL, "repair into %s: %s", cli_quote(dest), err.text[0] ? err.text : strerror(-r));
	if (!job->json) {
		printf("saved: %ju values, %ju directories, %ju others, of them %ju in lost+found; %ju values with bytes lost; %ju "
		       "names lost\n",
			(uintmax_t)saved.values, (uintmax_t)saved.directories, (uintmax_t)saved.others, (uintmax_t)saved.found,
			(uintmax_t)saved.damaged, (uintmax_t)saved.lost);
		return CLI_DONE;
	}
	cli_json_begin(&j, stdout);
	cli_json_uint(&j, "saved_values", saved.values);
	cli_json_uint(&j, "saved_directories", saved.directories);
	cli_json_uint(&j, "saved_others", saved.others);
	cli_json_uint(&j, "saved_in_lost_found", saved.found);
	cli_json_uint(&j, "saved_damaged", saved.damaged);
	cli_json_uint(&j, "names_lost", saved.lost);
	cli_json_end(&j);
	putchar('\n');
	return CLI_DONE;
}

int cmd_check(struct cli *cli, int argc, char **argv)
{
	static const struct option longs[] = {
		{"data", no_argument, NULL, 'd'}, {"json", no_argument, NULL, 'j'}, {"repair", required_argument, NULL, 'r'}, {0}};
	const char *dest = NULL;
	struct job job = {.cli = cli};
	struct kvfs_check_options opt = {.size = sizeof(opt), .finding = print_finding, .progress = draw, .arg = &job};
	struct kvfs_check_result result;
	struct kvfs_error err = {0};
	int c, r;

	while ((c = cli_option(cli, argc, argv, "", longs)) != -1) {
		if (c == 'd')
			opt.flags |= KVFS_CHECK_DATA;
		else if (c == 'j')
			job.json = true;
		else
			dest = optarg;
	}
	cli_operands(cli, argc, 0, 0);
	if (cli_choose_store(cli, NULL) < 0)
		return CLI_TROUBLE;
	cli_progress_begin(cli);
	r = kvfs_check(cli->store_path, &opt, &result, &err);
	cli_progress_clear(cli);
	if (r < 0)
		return cli_failf(cli, NULL, "store %s: %s", cli_quote(cli->store_path), err.text[0] ? err.text : strerror(-r));
	(job.json ? print_result_json : print_result)(&result);
	if (dest && repair(cli, dest, &job) != CLI_DONE)
		return CLI_TROUBLE;
	return result.lost || result.wrong || result.space ? CLI_NO_KEY : CLI_DONE;
}
