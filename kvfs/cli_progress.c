/* The progress bar of commands that take long. */
#include "cli.h"

#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

void cli_progress_begin(struct cli *cli)
{
	struct cli_progress *p = &cli->progress;

	*p = (struct cli_progress){.shown = isatty(STDERR_FILENO), .began_ns = now_ns()};
	p->next_ns = p->began_ns + INT64_C(300000000); /* what is done before that needs no bar */
}

/* 0..1; below 0 when the total is unknown.  By bytes and keys, as both take time: many small values, few large ones. */
static double fraction(const struct cli_progress *p)
{
	const double key_cost = 16384; /* a key costs about what so many bytes do */
	double total = (double)p->total_bytes + key_cost * (double)p->total_keys;
	double done = (double)p->bytes + (p->total_keys ? key_cost * (double)p->keys : 0);

	if (p->whole)
		return (double)p->part / (double)p->whole;
	return total <= 0 ? -1 : done >= total ? 1 : done / total;
}

void cli_progress_draw(struct cli *cli)
{
	struct cli_progress *p = &cli->progress;
	enum { TEXT = 48 };
	static const char full[] = "########################################################################";
	struct winsize ws;
	int64_t now;
	double f, seconds;
	int width = 80, bar;

	if (!p->shown || (now = now_ns()) < p->next_ns)
		return;
	p->next_ns = now + INT64_C(100000000);
	p->drawn = true;
	seconds = (double)(now - p->began_ns) / 1e9;
	f = fraction(p);
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col)
		width = ws.ws_col;
	bar = width - TEXT - 8;
	if (bar > (int)sizeof(full) - 1)
		bar = sizeof(full) - 1;

	fputs("\r\033[K", stderr);
	if (f >= 0 && bar >= 8)
		fprintf(stderr, "[%-*.*s] %3d%% ", bar, (int)(f * bar), full, (int)(f * 100));
	if (width > TEXT && !p->whole)
		fprintf(stderr, "%" PRIu64 " keys, %sB, %sB/s", p->keys, cli_human(p->bytes).s,
			cli_human((uint64_t)((double)p->bytes / seconds)).s);
	fflush(stderr);
}

int cli_progress_part(void *arg, uint64_t done, uint64_t total)
{
	struct cli *cli = arg;

	cli->progress.part = done;
	cli->progress.whole = total;
	cli_progress_draw(cli);
	return 0;
}

void cli_progress_clear(struct cli *cli)
{
	if (cli->progress.drawn)
		fputs("\r\033[K", stderr);
	cli->progress.drawn = false;
}
