/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/object/tree.h"

#define TYPE_BITS 0170000u
#define TYPE_FILE 0100000u
#define TYPE_LINK 0120000u
#define TYPE_TREE 040000u
#define TYPE_GITLINK 0160000u

static bool
is_tree(uint32_t mode)
{
	return (mode & TYPE_BITS) == TYPE_TREE;
}

static int
damaged(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged tree: %s", what);
}

/* The digits at p up to a space; gives the bytes taken, the space included, 0 if there is none. */
static size_t
parse_mode(const uint8_t *p, size_t len, uint32_t *out)
{
	uint32_t mode = 0;
	size_t i;

	for (i = 0; i < len && i < 7; i++) {
		if (p[i] == ' ')
			break;
		if (p[i] < '0' || p[i] > '7' || (i == 0 && p[i] == '0'))
			return 0;
		mode = mode << 3 | (uint32_t)(p[i] - '0');
	}
	if (i == 0 || i == 7 || i == len)
		return 0;
	switch (mode & ~07777u) {
	case TYPE_FILE:
	case TYPE_LINK:
	case TYPE_TREE:
	case TYPE_GITLINK:
		*out = mode;
		return i + 1;
	default:
		return 0;
	}
}

static bool
name_is_sound(const uint8_t *name, size_t len)
{
	if (len == 0 || memchr(name, '/', len))
		return false;
	return name[0] != '.' || len > 2 || (len == 2 && name[1] != '.');
}

int
wr_tree_next(struct wr_rd *r, struct wr_tree_entry *out, struct wr_err *err)
{
	const uint8_t *p = r->p, *name, *nul;
	uint32_t mode;
	size_t n, left = r->left;

	if (r->bad)
		return damaged(err, "cut short");
	if (left == 0)
		return 0;
	n = parse_mode(p, left, &mode);
	if (n == 0)
		return damaged(err, "an entry has a bad mode");
	name = p + n;
	left -= n;
	nul = memchr(name, '\0', left);
	if (!nul || left - (size_t)(nul - name) < 1 + WR_ID_LEN)
		return damaged(err, "cut short");
	n = (size_t)(nul - name);
	if (!name_is_sound(name, n))
		return wr_err_set(err, WR_E_CORRUPT, "damaged tree: bad name '%s'",
				  wr_quote(name, n).s);
	out->mode = mode;
	out->name = name;
	out->name_len = n;
	memcpy(out->id.b, nul + 1, WR_ID_LEN);
	r->p = nul + 1 + WR_ID_LEN;
	r->left = left - n - 1 - WR_ID_LEN;
	return 1;
}

/*
 * Names of non-trees that a later tree could still repeat.  In git's order a tree `a` stands behind
 * its namesake and everything like `a-b` between; each name kept is a prefix of the one above it.
 */
struct open_names {
	struct wr_tree_entry *entry;
	size_t count, cap;
};

static bool
is_prefix(const struct wr_tree_entry *e, const struct wr_tree_entry *of)
{
	return e->name_len <= of->name_len && memcmp(e->name, of->name, e->name_len) == 0;
}

/* Enter the next entry of a sorted tree; true if its name was there already. */
static bool
enter_name(struct open_names *o, const struct wr_tree_entry *e)
{
	while (o->count && !is_prefix(&o->entry[o->count - 1], e))
		o->count--;
	if (o->count && o->entry[o->count - 1].name_len == e->name_len)
		return true;
	if (!is_tree(e->mode)) {
		wr_grow(&o->entry, &o->cap, o->count + 1, sizeof(*o->entry));
		o->entry[o->count++] = *e;
	}
	return false;
}

int
wr_tree_check(const void *p, size_t len, struct wr_err *err)
{
	struct wr_rd r = wr_rd(p, len);
	struct wr_tree_entry e, prev = {0};
	struct open_names open = {0};
	int n;

	while ((n = wr_tree_next(&r, &e, err)) > 0) {
		int c = prev.name ? wr_tree_name_cmp(prev.name, prev.name_len, is_tree(prev.mode),
						     e.name, e.name_len, is_tree(e.mode))
				  : -1;

		if (c > 0) {
			n = wr_err_set(err, WR_E_CORRUPT, "damaged tree: '%s' is out of order",
				       wr_quote(e.name, e.name_len).s);
			break;
		}
		if (c == 0 || enter_name(&open, &e)) {
			n = wr_err_set(err, WR_E_CORRUPT, "damaged tree: '%s' is there twice",
				       wr_quote(e.name, e.name_len).s);
			break;
		}
		prev = e;
	}
	free(open.entry);
	return n;
}

void
wr_tree_add(struct wr_buf *b, uint32_t mode, const void *name, size_t name_len,
	    const struct wr_id *id)
{
	char digits[12];
	size_t at = sizeof(digits);
	uint8_t *p;

	digits[--at] = ' ';
	do
		digits[--at] = (char)('0' + (mode & 7));
	while (mode >>= 3);

	wr_buf_reserve(b, sizeof(digits) + name_len + 1 + WR_ID_LEN);
	p = b->p + b->len;
	memcpy(p, digits + at, sizeof(digits) - at);
	p += sizeof(digits) - at;
	memcpy(p, name, name_len);
	p += name_len;
	*p++ = '\0';
	memcpy(p, id->b, WR_ID_LEN);
	b->len = (size_t)(p - b->p) + WR_ID_LEN;
}

int
wr_tree_name_cmp(const void *a, size_t a_len, bool a_is_tree, const void *b, size_t b_len,
		 bool b_is_tree)
{
	size_t n = WR_MIN(a_len, b_len);
	int c = memcmp(a, b, n), ca, cb;

	if (c)
		return c;
	ca = a_len > n ? ((const uint8_t *)a)[n] : a_is_tree ? '/' : 0;
	cb = b_len > n ? ((const uint8_t *)b)[n] : b_is_tree ? '/' : 0;
	return ca - cb;
}
