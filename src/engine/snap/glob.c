/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled form is a list of tokens; state i means "tokens 0 .. i-1 have matched".  All states
 * that the text so far allows are kept in a bit set.  Tokens that may match nothing let their
 * follower in at once (see enter), and always to the right, so one pass over the set is enough.
 */
#include "engine/snap/glob.h"

enum tok_kind {
	TOK_BYTE, /* this byte */
	TOK_ANY,  /* one byte, over paths not '/' */
	TOK_SET,  /* one byte of a class, over paths not '/' */
	TOK_STAR, /* any bytes, over paths without '/' */
	TOK_DEEP, /* any bytes */
	TOK_DIRS, /* nothing, or any bytes that end in '/'; the loop over them is the next token */
	TOK_DIRS_LOOP,
};

struct wr_glob_tok {
	uint8_t kind;
	uint8_t byte;
	uint16_t set;
};

#define STATE_WORDS ((WR_GLOB_MAX + 1 + 63) / 64)

static void
set_add(uint8_t *set, unsigned c)
{
	set[c >> 3] |= (uint8_t)(1u << (c & 7));
}

static uint8_t
fold(const struct wr_glob *g, uint8_t c)
{
	return (g->flags & WR_GLOB_FOLD) && c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static bool
set_has(const uint8_t *set, unsigned c)
{
	return set[c >> 3] >> (c & 7) & 1;
}

/* Git's idea of the classes: ASCII only, and white space without vertical tab and form feed. */
static bool
class_has(const char *name, size_t len, unsigned c, bool *out_known)
{
	static const char names[][8] = {"alnum", "alpha", "blank", "cntrl", "digit", "graph",
					"lower", "print", "punct", "space", "upper", "xdigit"};
	bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z';
	bool digit = c >= '0' && c <= '9', graph = c > 0x20 && c < 0x7f;
	size_t i;

	for (i = 0; i < WR_ARRAY_LEN(names); i++)
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			break;
	*out_known = i < WR_ARRAY_LEN(names);
	switch (i) {
	case 0:
		return lower || upper || digit;
	case 1:
		return lower || upper;
	case 2:
		return c == ' ' || c == '\t';
	case 3:
		return c < 0x20 || c == 0x7f;
	case 4:
		return digit;
	case 5:
		return graph;
	case 6:
		return lower;
	case 7:
		return graph || c == ' ';
	case 8:
		return graph && !lower && !upper && !digit;
	case 9:
		return c == ' ' || c == '\t' || c == '\n' || c == '\r';
	case 10:
		return upper;
	case 11:
		return digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
	default:
		return false;
	}
}

/* The class behind '[' at p[i]; gives the position behind its ']', 0 if it is malformed. */
static size_t
parse_set(const struct wr_glob *g, const uint8_t *p, size_t len, size_t i, uint8_t set[static 32])
{
	bool negated = i < len && (p[i] == '!' || p[i] == '^'), first = true;
	unsigned prev = 0; /* what a range may begin with */

	if (negated)
		i++;
	memset(set, 0, 32);
	for (;; first = false) {
		if (i >= len)
			return 0;
		if (p[i] == ']' && !first)
			break;
		if (p[i] == '\\') {
			if (++i >= len)
				return 0;
			prev = p[i++];
			set_add(set, prev);
		} else if (p[i] == '-' && prev && i + 1 < len && p[i + 1] != ']') {
			i++;
			if (p[i] == '\\' && ++i >= len)
				return 0;
			for (unsigned c = prev; c <= p[i]; c++)
				set_add(set, c);
			i++;
			prev = 0;
		} else if (p[i] == '[' && i + 1 < len && p[i + 1] == ':') {
			size_t from = i + 2, to = from;
			bool known = false;

			while (to < len && p[to] != ']')
				to++;
			if (to >= len)
				return 0;
			if (to == from || p[to - 1] != ':') {
				prev = p[i++]; /* just a bracket */
				set_add(set, prev);
				continue;
			}
			for (unsigned c = 0; c < 256; c++)
				if (class_has((const char *)p + from, to - 1 - from, c, &known))
					set_add(set, c);
			if (!known)
				return 0;
			i = to + 1;
			prev = 0;
		} else {
			prev = p[i++];
			set_add(set, prev);
		}
	}
	if (g->flags & WR_GLOB_FOLD) /* texts come folded */
		for (unsigned c = 'A'; c <= 'Z'; c++)
			if (set_has(set, c))
				set_add(set, c + 32);
	if (negated)
		for (size_t k = 0; k < 32; k++)
			set[k] = (uint8_t)~set[k];
	return i + 1;
}

static void
emit(struct wr_glob *g, enum tok_kind kind, uint8_t byte, size_t set)
{
	g->tok[g->count++] =
	    (struct wr_glob_tok){.kind = (uint8_t)kind, .byte = byte, .set = (uint16_t)set};
}

/* A run of stars at p[*i]. */
static void
parse_stars(struct wr_glob *g, const uint8_t *p, size_t len, size_t *i, bool plain_so_far)
{
	size_t from = *i, to = from;
	bool left, right;

	while (to < len && p[to] == '*')
		to++;
	*i = to;
	/* Git cuts the wildcard-free head off before it looks at the rest, so that two stars right
	 * behind it count as standing at the beginning. */
	left = plain_so_far || p[from - 1] == '/';
	right = to == len || p[to] == '/' || (p[to] == '\\' && to + 1 < len && p[to + 1] == '/');
	if (!(g->flags & WR_GLOB_PATHS) || to - from == 1 || !left || !right) {
		emit(g, TOK_STAR, 0, 0);
	} else if (to < len && p[to] == '/') {
		emit(g, TOK_DIRS, 0, 0);
		emit(g, TOK_DIRS_LOOP, 0, 0);
		*i = to + 1;
	} else {
		emit(g, TOK_DEEP, 0, 0);
	}
}

int
wr_glob_compile(struct wr_glob *g, const char *pattern, size_t len, unsigned flags,
		struct wr_err *err)
{
	const uint8_t *p = (const uint8_t *)pattern;
	struct wr_glob out = {.flags = flags};
	bool plain = true;
	size_t next;

	if (len > WR_GLOB_MAX)
		return wr_err_set(err, WR_E_LIMIT, "pattern is longer than %d bytes", WR_GLOB_MAX);
	out.tok = wr_reallocarray(NULL, len + 1, sizeof(*out.tok));
	for (size_t i = 0; i < len && !out.never;) {
		switch (p[i]) {
		case '*':
			parse_stars(&out, p, len, &i, plain);
			plain = false;
			break;
		case '?':
			emit(&out, TOK_ANY, 0, 0);
			plain = false;
			i++;
			break;
		case '[':
			wr_grow(&out.sets, &out.set_cap, out.set_count + 1, sizeof(*out.sets));
			next = parse_set(&out, p, len, i + 1, out.sets[out.set_count]);
			emit(&out, TOK_SET, 0, out.set_count++);
			out.never = next == 0;
			plain = false;
			i = next;
			break;
		case '\\':
			plain = false;
			if (++i == len) {
				out.never = true;
				break;
			}
			/* fall through */
		default:
			emit(&out, TOK_BYTE, fold(&out, p[i++]), 0);
		}
	}
	while (out.head < out.count && out.tok[out.head].kind == TOK_BYTE)
		out.head++;
	while (out.tail < out.count - out.head &&
	       out.tok[out.count - 1 - out.tail].kind == TOK_BYTE)
		out.tail++;
	*g = out;
	return 0;
}

void
wr_glob_fini(struct wr_glob *g)
{
	free(g->tok);
	free(g->sets);
	*g = (struct wr_glob)WR_GLOB_INIT;
}

/* Allow state i and all that follow from it without a byte. A state already there has brought its
 * followers along, so a whole step costs no more than one visit per state. */
static void
enter(const struct wr_glob *g, uint64_t *states, size_t i)
{
	for (;;) {
		uint64_t bit = UINT64_C(1) << (i & 63);

		if (states[i >> 6] & bit)
			return;
		states[i >> 6] |= bit;
		if (i == g->count)
			return;
		switch (g->tok[i].kind) {
		case TOK_STAR:
		case TOK_DEEP:
			i++;
			break;
		case TOK_DIRS:
			states[(i + 1) >> 6] |= UINT64_C(1) << ((i + 1) & 63);
			i += 2;
			break;
		default:
			return;
		}
	}
}

static void
step(const struct wr_glob *g, uint64_t *next, size_t i, uint8_t c)
{
	const struct wr_glob_tok *t = &g->tok[i];
	bool wild = !(g->flags & WR_GLOB_PATHS) || c != '/';

	switch ((enum tok_kind)t->kind) {
	case TOK_BYTE:
		if (c == t->byte)
			enter(g, next, i + 1);
		break;
	case TOK_ANY:
		if (wild)
			enter(g, next, i + 1);
		break;
	case TOK_SET:
		if (wild && set_has(g->sets[t->set], c))
			enter(g, next, i + 1);
		break;
	case TOK_STAR:
		if (wild)
			enter(g, next, i);
		break;
	case TOK_DEEP:
		enter(g, next, i);
		break;
	case TOK_DIRS:
		break;
	case TOK_DIRS_LOOP:
		next[i >> 6] |= UINT64_C(1) << (i & 63);
		if (c == '/')
			enter(g, next, i + 1);
		break;
	}
}

bool
wr_glob_match(const struct wr_glob *g, const char *text, size_t len)
{
	uint64_t a[STATE_WORDS], b[STATE_WORDS];
	uint64_t *now = a, *next = b, *swap;
	size_t words = g->count / 64 + 1;

	/* Most patterns fail at their literal ends. */
	if (g->never || len < g->head + g->tail)
		return false;
	for (size_t i = 0; i < g->head; i++)
		if (g->tok[i].byte != fold(g, (uint8_t)text[i]))
			return false;
	for (size_t i = 0; i < g->tail; i++)
		if (g->tok[g->count - 1 - i].byte != fold(g, (uint8_t)text[len - 1 - i]))
			return false;
	if (g->head == g->count)
		return len == g->count;

	memset(now, 0, words * sizeof(*now));
	enter(g, now, g->head);
	for (size_t k = g->head; k < len; k++) {
		uint64_t any = 0;
		uint8_t c = fold(g, (uint8_t)text[k]);

		memset(next, 0, words * sizeof(*next));
		for (size_t w = 0; w < words; w++) {
			for (uint64_t bits = now[w]; bits; bits &= bits - 1) {
				size_t i = w * 64 + (size_t)__builtin_ctzll(bits);

				if (i < g->count)
					step(g, next, i, c);
			}
		}
		for (size_t w = 0; w < words; w++)
			any |= next[w];
		if (!any)
			return false;
		swap = now, now = next, next = swap;
	}
	return now[g->count >> 6] >> (g->count & 63) & 1;
}
