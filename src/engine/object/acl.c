/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX ACLs.  The xattr: le32 version 2, then entries of le16 tag, le16 permissions, le32 id.
 * The text: "u:ID:rwx" and so on, comma-separated.  Both are ordered by tag, then id, as libacl
 * orders them; the kernel asks only for the order of tags.
 */
#include "engine/object/meta.h"

#define XATTR_VERSION 2
#define NO_ID UINT32_MAX /* of entries that need none */

enum acl_tag {
	ACL_USER_OBJ = 0x01,
	ACL_USER = 0x02,
	ACL_GROUP_OBJ = 0x04,
	ACL_GROUP = 0x08,
	ACL_MASK = 0x10,
	ACL_OTHER = 0x20,
};

struct acl_entry {
	uint32_t tag, perm, id;
};

struct acl {
	struct acl_entry *e;
	size_t count, cap;
};

static void
acl_fini(struct acl *a)
{
	free(a->e);
}

static int
entry_cmp(const void *va, const void *vb)
{
	const struct acl_entry *a = va, *b = vb;

	if (a->tag != b->tag)
		return a->tag < b->tag ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static uint32_t
get_le(const uint8_t *p, size_t bytes)
{
	uint32_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static void
add_le(struct wr_buf *out, uint32_t v, size_t bytes)
{
	for (; bytes--; v >>= 8)
		wr_buf_add8(out, (uint8_t)v);
}

static int
damaged(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged ACL: %s", what);
}

static bool
is_named(uint32_t tag)
{
	return tag == ACL_USER || tag == ACL_GROUP;
}

static char
letter_of(uint32_t tag)
{
	switch (tag) {
	case ACL_USER_OBJ:
	case ACL_USER:
		return 'u';
	case ACL_GROUP_OBJ:
	case ACL_GROUP:
		return 'g';
	case ACL_MASK:
		return 'm';
	case ACL_OTHER:
		return 'o';
	default:
		return '\0';
	}
}

static void
add_perm(struct wr_buf *out, uint32_t perm)
{
	const char s[3] = {perm & 4 ? 'r' : '-', perm & 2 ? 'w' : '-', perm & 1 ? 'x' : '-'};

	wr_buf_add(out, s, sizeof(s));
}

/* A name as libacl writes it: what would end it is escaped. */
static void
add_name(struct wr_buf *out, const char *name)
{
	for (; *name; name++) {
		if (strchr(":, \t\n\r\\", *name))
			wr_buf_addf(out, "\\%03o", (uint8_t)*name);
		else
			wr_buf_add8(out, (uint8_t)*name);
	}
}

int
wr_acl_text(const void *xattr, size_t len, wr_name_of_fn name_of, void *ctx, struct wr_buf *out,
	    struct wr_err *err)
{
	WR_SCOPED(acl_fini) struct acl a = {0};
	const uint8_t *p = xattr;

	if (len < 4 || (len - 4) % 8 != 0)
		return damaged(err, "it has a wrong size");
	if (get_le(p, 4) != XATTR_VERSION)
		return damaged(err, "it is not of version 2");
	a.count = (len - 4) / 8;
	a.e = wr_reallocarray(NULL, a.count, sizeof(*a.e));
	p += 4;
	for (size_t i = 0; i < a.count; i++, p += 8) {
		a.e[i] = (struct acl_entry){get_le(p, 2), get_le(p + 2, 2), get_le(p + 4, 4)};
		if (!letter_of(a.e[i].tag) || a.e[i].perm > 7)
			return damaged(err, "it has an unknown entry");
	}
	if (a.count)
		qsort(a.e, a.count, sizeof(*a.e), entry_cmp);

	for (size_t i = 0; i < a.count; i++) {
		const struct acl_entry *e = &a.e[i];

		if (i)
			wr_buf_add8(out, ',');
		wr_buf_addf(out, "%c:", letter_of(e->tag));
		if (is_named(e->tag)) {
			const char *name =
			    name_of ? name_of(ctx, e->tag == ACL_GROUP, e->id) : NULL;

			if (name)
				add_name(out, name);
			else
				wr_buf_addf(out, "%" PRIu32, e->id);
		}
		wr_buf_add8(out, ':');
		add_perm(out, e->perm);
	}
	return 0;
}

void
wr_acl_text_of_mode(uint32_t mode, struct wr_buf *out)
{
	wr_buf_adds(out, "u::");
	add_perm(out, mode >> 6);
	wr_buf_adds(out, ",g::");
	add_perm(out, mode >> 3);
	wr_buf_adds(out, ",o::");
	add_perm(out, mode);
}

/* One entry "u:ID:rwx" of len bytes. */
static bool
parse_entry(const char *s, size_t len, struct acl_entry *out)
{
	static const char rwx[] = "rwx";
	const char *end = s + len, *p;
	uint64_t id = 0;
	bool named;

	if (len < 6 || s[1] != ':')
		return false;
	p = s + 2;
	named = *p != ':';
	for (; *p != ':'; p++) {
		if (*p < '0' || *p > '9' || end - p <= 4)
			return false;
		id = id * 10 + (uint64_t)(*p - '0');
		if (id > UINT32_MAX)
			return false;
	}
	if (end - ++p != 3)
		return false;
	*out = (struct acl_entry){.id = named ? (uint32_t)id : NO_ID};
	for (size_t i = 0; i < 3; i++) {
		if (p[i] != rwx[i] && p[i] != '-')
			return false;
		out->perm = out->perm << 1 | (p[i] != '-');
	}
	switch (s[0]) {
	case 'u':
		out->tag = named ? ACL_USER : ACL_USER_OBJ;
		return true;
	case 'g':
		out->tag = named ? ACL_GROUP : ACL_GROUP_OBJ;
		return true;
	case 'm':
		out->tag = ACL_MASK;
		return !named;
	case 'o':
		out->tag = ACL_OTHER;
		return !named;
	default:
		return false;
	}
}

/* What the kernel asks for: owner, group and others once, a mask at most once and always beside
 * named entries. */
static bool
is_complete(const struct acl *a)
{
	size_t count[ACL_OTHER + 1] = {0};

	for (size_t i = 0; i < a->count; i++)
		count[a->e[i].tag]++;
	return count[ACL_USER_OBJ] == 1 && count[ACL_GROUP_OBJ] == 1 && count[ACL_OTHER] == 1 &&
	       count[ACL_MASK] <= 1 && (count[ACL_MASK] || count[ACL_USER] + count[ACL_GROUP] == 0);
}

int
wr_acl_parse(const void *text, size_t len, struct wr_buf *out, struct wr_err *err)
{
	WR_SCOPED(acl_fini) struct acl a = {0};
	const char *s = text, *end = s + len;

	for (;;) {
		const char *comma = s < end ? memchr(s, ',', (size_t)(end - s)) : NULL;
		size_t n = (size_t)((comma ? comma : end) - s);
		struct acl_entry e;

		if (!parse_entry(s, n, &e))
			return wr_err_set(err, WR_E_CORRUPT, "damaged ACL: bad entry '%s'",
					  wr_quote(s, n).s);
		wr_grow(&a.e, &a.cap, a.count + 1, sizeof(*a.e));
		a.e[a.count++] = e;
		if (!comma)
			break;
		s = comma + 1;
	}
	if (!is_complete(&a))
		return damaged(err, "an entry is missing, or there twice");
	qsort(a.e, a.count, sizeof(*a.e), entry_cmp);
	add_le(out, XATTR_VERSION, 4);
	for (size_t i = 0; i < a.count; i++) {
		add_le(out, a.e[i].tag, 2);
		add_le(out, a.e[i].perm, 2);
		add_le(out, a.e[i].id, 4);
	}
	return 0;
}
