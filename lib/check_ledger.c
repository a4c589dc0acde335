/* Ledgers; see check.h. */
#include <errno.h>

#include "check.h"
#include "err.h"

#define SUMS 65536u

/* Every bit of the result depends on every bit of both. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	a ^= b * 0x9e3779b97f4a7c15;
	a = (a ^ a >> 30) * 0xbf58476d1ce4e5b9;
	a = (a ^ a >> 27) * 0x94d049bb133111eb;
	return a ^ a >> 31;
}

int kv_ledger_open(struct kv_ledger *l)
{
	*l = (struct kv_ledger){.sums = calloc(SUMS, sizeof *l->sums)};
	return l->sums ? 0 : kv_fail(ENOMEM);
}

void kv_ledger_close(struct kv_ledger *l)
{
	free(l->sums);
	free(l->lines);
	*l = (struct kv_ledger){0};
}

/* The line of a number whose sum is not even; NULL for others, and when there is no room left. */
static struct kv_ledger_line *line_of(struct kv_ledger *l, uint64_t id)
{
	if (!l->sums[mix(id, 1) % SUMS])
		return NULL;
	size_t at = mix(id, 2) % KV_LEDGER_LINES;
	for (size_t i = 0; i < KV_LEDGER_LINES; i++, at = (at + 1) % KV_LEDGER_LINES) {
		struct kv_ledger_line *line = &l->lines[at];
		if (!line->id)
			line->id = id;
		if (line->id == id)
			return line;
	}
	l->full = true;
	return NULL;
}

static void note_place(struct kv_ledger_line *line, const struct kv_spot *where)
{
	if (!where || where->name.len > sizeof line->name)
		return;
	line->dir = where->dir;
	line->name_len = (uint16_t)where->name.len;
	memcpy(line->name, where->name.data, where->name.len);
}

void kv_ledger_plus(struct kv_ledger *l, uint64_t id, uint64_t tag, uint64_t times, const struct kv_spot *where)
{
	uint64_t weight = times * mix(id, mix(tag, 3));
	if (!l->lines) {
		l->sums[mix(id, 1) % SUMS] += weight;
		return;
	}
	struct kv_ledger_line *line = line_of(l, id);
	if (!line)
		return;
	line->plus += times;
	line->balance += weight;
	if (!line->minus)
		note_place(line, where);
}

void kv_ledger_minus(struct kv_ledger *l, uint64_t id, uint64_t tag, const struct kv_spot *where)
{
	uint64_t weight = mix(id, mix(tag, 3));
	if (!l->lines) {
		l->sums[mix(id, 1) % SUMS] -= weight;
		return;
	}
	struct kv_ledger_line *line = line_of(l, id);
	if (!line)
		return;
	line->minus++;
	line->balance -= weight;
	note_place(line, where);
}

bool kv_ledger_is_even(const struct kv_ledger *l)
{
	for (size_t i = 0; i < SUMS; i++)
		if (l->sums[i])
			return false;
	return true;
}

int kv_ledger_look_closer(struct kv_ledger *l)
{
	l->lines = calloc(KV_LEDGER_LINES, sizeof *l->lines);
	return l->lines ? 0 : kv_fail(ENOMEM);
}
