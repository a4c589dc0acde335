/* See linear.h. */
#include "linear.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIED_MAX = 1 << 24 };

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ b * 0x9e3779b97f4a7c15) + 0x632be59bd9b4e019;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
	return x ^ x >> 32;
}

struct value value_append(struct value v, uint64_t token, uint64_t len)
{
	return (struct value){mix(mix(v.digest, token), len) | 1, v.size + len};
}

/* ---- what was tried ---- */

struct tried {
	uint64_t *slot; /* 0: empty */
	size_t cap, n;
};

static bool insert(struct tried *t, uint64_t id)
{
	size_t i = id & (t->cap - 1);
	for (; t->slot[i]; i = (i + 1) & (t->cap - 1))
		if (t->slot[i] == id)
			return false;
	t->slot[i] = id;
	t->n++;
	return true;
}

static void grow(struct tried *t)
{
	struct tried next = {.cap = t->cap ? 2 * t->cap : 1 << 12};
	next.slot = calloc(next.cap, sizeof *next.slot);
	if (!next.slot)
		abort();
	for (size_t i = 0; i < t->cap; i++)
		if (t->slot[i])
			insert(&next, t->slot[i]);
	free(t->slot);
	*t = next;
}

/* ---- the store that does one thing at a time ---- */

static bool same(struct value a, struct value b)
{
	return a.digest == b.digest && a.size == b.size;
}

static bool move_value(const struct call *c, struct value v[LINEAR_KEYS])
{
	struct value *from = &v[c->key], *to = &v[c->other], old = *to;
	if (c->refused)
		return !from->digest || (c->kind == CALL_EXCHANGE && !to->digest);
	if (!from->digest || (c->kind == CALL_EXCHANGE && !to->digest))
		return false;
	*to = *from;
	if (c->key != c->other)
		*from = c->kind == CALL_EXCHANGE ? old : (struct value){0};
	return true;
}

/* Would it have answered so?  Then does it. */
static bool apply(const struct call *c, struct value v[LINEAR_KEYS])
{
	struct value *k = &v[c->key], put = value_append((struct value){0}, c->token, c->len);
	switch (c->kind) {
	case CALL_READ:
		return same(*k, c->sees[0]);
	case CALL_STAT:
		return !k->digest == !c->sees[0].digest && k->size == c->sees[0].size;
	case CALL_READ_BOTH:
		return same(*k, c->sees[0]) && same(v[c->other], c->sees[1]);
	case CALL_PUT_BOTH:
		v[c->other] = put;
		*k = put;
		return true;
	case CALL_PUT:
		*k = put;
		return true;
	case CALL_PUT_NEW:
		if (c->refused || k->digest)
			return c->refused && k->digest;
		*k = put;
		return true;
	case CALL_CHANGE:
		if (!same(*k, c->sees[0]))
			return false;
		*k = put;
		return true;
	case CALL_APPEND:
		*k = value_append(*k, c->token, c->len);
		return true;
	case CALL_DELETE:
		if (c->refused || !k->digest)
			return c->refused && !k->digest;
		*k = (struct value){0};
		return true;
	default:
		return move_value(c, v);
	}
}

/* ---- the search ---- */

struct step {
	struct value before[LINEAR_KEYS];
	size_t low, answered;
	uint8_t line, tried; /* tried: a bit for each line */
};

struct search {
	struct call *own[LINEAR_LINES]; /* those that have a place, of each line */
	int64_t (*change[LINEAR_LINES])[LINEAR_KEYS]; /* from each of these on, when the first returned that changes a key */
	size_t n[LINEAR_LINES], next[LINEAR_LINES];
	unsigned lines;
	struct call *look; /* those that lag, as they began */
	size_t looks;
	bool *is_answered;
	size_t *log, answered; /* which of them, in the order of the answers */
	size_t low; /* all before it are answered */
	uint64_t answers; /* a digest */
	struct value now[LINEAR_KEYS];
	struct tried tried;
};

static uint64_t identity(const struct search *s)
{
	uint64_t id = s->answers;
	for (unsigned i = 0; i < s->lines; i++)
		id = mix(id, s->next[i]);
	for (unsigned i = 0; i < LINEAR_KEYS; i++)
		id = mix(id, s->now[i].digest);
	return id ? id : 1;
}

/* This state answers what it can: who lags and began after all changes of his key that are made, and before the next one returned. */
static void answer(struct search *s)
{
	int64_t until[LINEAR_KEYS], last = 0;
	for (unsigned key = 0; key < LINEAR_KEYS; key++) {
		until[key] = INT64_MAX;
		for (unsigned i = 0; i < s->lines; i++)
			if (s->change[i][s->next[i]][key] < until[key])
				until[key] = s->change[i][s->next[i]][key];
		if (until[key] > last)
			last = until[key];
	}
	for (size_t i = s->low; i < s->looks && s->look[i].begin <= last; i++) {
		const struct call *c = &s->look[i];
		if (s->is_answered[i] || c->begin > until[c->key] || !apply(c, s->now))
			continue;
		s->is_answered[i] = true;
		s->log[s->answered++] = i;
		s->answers ^= mix(i, 7);
	}
	while (s->low < s->looks && s->is_answered[s->low])
		s->low++;
}

/* The next call of that line, if it may come now: nothing that has no place yet returned before it began. */
static const struct call *candidate(const struct search *s, unsigned line)
{
	if (s->next[line] == s->n[line])
		return NULL;
	const struct call *c = &s->own[line][s->next[line]];
	for (unsigned i = 0; i < s->lines; i++)
		if (s->next[i] < s->n[i] && s->own[i][s->next[i]].end < c->begin)
			return NULL;
	for (size_t i = s->low; i < s->looks && s->look[i].begin < c->begin; i++)
		if (!s->is_answered[i] && s->look[i].end < c->begin)
			return NULL;
	return c;
}

/* The candidate that returned first: most often it also came first.  False: there is none any more. */
static bool choose(const struct search *s, struct step *step)
{
	const struct call *best = NULL;
	for (unsigned i = 0; i < s->lines; i++) {
		const struct call *c = step->tried >> i & 1 ? NULL : candidate(s, i);
		if (c && (!best || c->end < best->end)) {
			best = c;
			step->line = (uint8_t)i;
		}
	}
	if (best)
		step->tried |= (uint8_t)(1u << step->line);
	return best;
}

static void go_back(struct search *s, const struct step *step)
{
	s->next[step->line]--;
	memcpy(s->now, step->before, sizeof s->now);
	while (s->answered > step->answered) {
		size_t i = s->log[--s->answered];
		s->is_answered[i] = false;
		s->answers ^= mix(i, 7);
	}
	s->low = step->low;
}

/* False: it would not have been answered so, or what comes of it was tried. */
static bool go(struct search *s, struct step *step)
{
	memcpy(step->before, s->now, sizeof s->now);
	step->low = s->low;
	step->answered = s->answered;
	bool ok = apply(&s->own[step->line][s->next[step->line]], s->now);
	s->next[step->line]++;
	if (ok) {
		answer(s);
		if (s->tried.n * 2 >= s->tried.cap)
			grow(&s->tried);
		ok = insert(&s->tried, identity(s));
	}
	if (!ok)
		go_back(s, step);
	return ok;
}

/* ---- before and after ---- */

static int by_begin(const void *a, const void *b)
{
	int64_t x = ((const struct call *)a)->begin, y = ((const struct call *)b)->begin;
	return x < y ? -1 : x > y;
}

static void *need(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);
	if (!p)
		abort();
	return p;
}

static bool changes(const struct call *c, unsigned key)
{
	bool both = c->kind == CALL_PUT_BOTH || c->kind == CALL_RENAME || c->kind == CALL_EXCHANGE;
	return c->kind > CALL_READ_BOTH && !c->refused && (key == c->key || (both && key == c->other));
}

static void note_changes(struct search *s, unsigned line)
{
	s->change[line] = need(s->n[line] + 1, sizeof *s->change[line]);
	for (unsigned key = 0; key < LINEAR_KEYS; key++) {
		int64_t end = INT64_MAX;
		s->change[line][s->n[line]][key] = end;
		for (size_t k = s->n[line]; k-- > 0; s->change[line][k][key] = end)
			end = changes(&s->own[line][k], key) ? s->own[line][k].end : end;
	}
}

static size_t prepare(struct search *s, const struct line *lines)
{
	size_t total = 0, placed = 0;
	for (unsigned i = 0; i < s->lines; i++)
		total += lines[i].n;
	s->look = need(total, sizeof *s->look);
	s->is_answered = need(total, sizeof *s->is_answered);
	s->log = need(total, sizeof *s->log);
	for (unsigned i = 0; i < s->lines; i++) {
		s->own[i] = need(lines[i].n, sizeof *s->own[i]);
		for (const struct call *c = lines[i].call; c < lines[i].call + lines[i].n; c++)
			*(c->lags ? &s->look[s->looks++] : &s->own[i][s->n[i]++]) = *c;
		note_changes(s, i);
		placed += s->n[i];
	}
	qsort(s->look, s->looks, sizeof *s->look, by_begin);
	return placed;
}

static int64_t first_end(const struct search *s)
{
	int64_t first = INT64_MAX;
	for (unsigned i = 0; i < s->lines; i++)
		if (s->next[i] < s->n[i] && s->own[i][s->next[i]].end < first)
			first = s->own[i][s->next[i]].end;
	for (size_t i = s->low; i < s->looks && s->look[i].begin < first; i++)
		if (!s->is_answered[i] && s->look[i].end < first)
			first = s->look[i].end;
	return first;
}

static void release(struct search *s)
{
	for (unsigned i = 0; i < s->lines; i++) {
		free(s->own[i]);
		free(s->change[i]);
	}
	free(s->look);
	free(s->is_answered);
	free(s->log);
	free(s->tried.slot);
}

enum linear linear_check(const struct line *lines, unsigned n, const struct value start[LINEAR_KEYS], int64_t *stuck)
{
	struct search s = {.lines = n};
	size_t total = prepare(&s, lines), depth = 0, longest = 0;
	struct step *steps = need(total + 1, sizeof *steps);
	enum linear found = LINEAR_UNKNOWN;
	memcpy(s.now, start, sizeof s.now);
	answer(&s);
	*stuck = first_end(&s);
	while (s.tried.n <= TRIED_MAX) {
		if (depth == total && s.answered == s.looks) {
			found = LINEAR_YES;
			break;
		}
		if (choose(&s, &steps[depth])) {
			if (!go(&s, &steps[depth]))
				continue;
			steps[++depth].tried = 0;
			if (depth > longest) {
				longest = depth;
				*stuck = first_end(&s);
			}
		} else if (depth) {
			go_back(&s, &steps[--depth]);
		} else {
			found = LINEAR_NO;
			break;
		}
	}
	release(&s);
	free(steps);
	return found;
}
