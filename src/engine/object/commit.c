/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree, parents, author, committer stand in this order in every commit that git reads; further
 * headers, each with any number of continuation lines, follow up to the first empty line.
 */
#include "engine/object/commit.h"

static int
damaged(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_CORRUPT, "damaged commit: %s", what);
}

/* The next line without its LF; false if there is none that ends. */
static bool
next_line(struct wr_rd *r, const char **out, size_t *out_len)
{
	const uint8_t *p = r->p, *lf = r->left ? memchr(p, '\n', r->left) : NULL;

	if (!lf)
		return false;
	*out = (const char *)p;
	*out_len = (size_t)(lf - p);
	r->left -= *out_len + 1;
	r->p = lf + 1;
	return true;
}

/* The value of a line "KEY VALUE" if the next one has that key; takes the line then. */
static bool
take_header(struct wr_rd *r, const char *key, const char **out, size_t *out_len)
{
	size_t n = strlen(key);
	struct wr_rd ahead = *r;

	if (!next_line(&ahead, out, out_len) || *out_len <= n || memcmp(*out, key, n) != 0 ||
	    (*out)[n] != ' ')
		return false;
	*out += n + 1;
	*out_len -= n + 1;
	*r = ahead;
	return true;
}

static bool
take_id(struct wr_rd *r, const char *key, struct wr_id *out)
{
	struct wr_rd ahead = *r;
	const char *v;
	size_t n;

	if (!take_header(&ahead, key, &v, &n) || n != (size_t)2 * WR_ID_LEN || !wr_id_parse(v, out))
		return false;
	*r = ahead;
	return true;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "+hhmm" in minutes. */
static bool
parse_zone(const char *s, size_t len, int *out)
{
	int minutes;

	if (len != 5 || (s[0] != '+' && s[0] != '-'))
		return false;
	for (size_t i = 1; i < 5; i++)
		if (!is_digit(s[i]))
			return false;
	if (s[3] > '5')
		return false;
	minutes = ((s[1] - '0') * 10 + s[2] - '0') * 60 + (s[3] - '0') * 10 + s[4] - '0';
	*out = s[0] == '-' ? -minutes : minutes;
	return true;
}

/* "NAME <MAIL> SECONDS ZONE"; *out_len is the length of "NAME <MAIL>". */
static bool
parse_who(const char *s, size_t len, size_t *out_len, int64_t *out_seconds, int *out_zone)
{
	const char *open = memchr(s, '<', len), *close = memrchr(s, '>', len);
	const char *p, *end = s + len;
	int64_t v = 0;

	if (!open || !close || close < open || end - close < 2 || close[1] != ' ')
		return false;
	p = close + 2;
	if (p == end || !is_digit(*p))
		return false;
	for (; p < end && is_digit(*p); p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			return false;
	if (p == end || *p++ != ' ' || !parse_zone(p, (size_t)(end - p), out_zone))
		return false;
	*out_seconds = v;
	*out_len = (size_t)(close + 1 - s);
	return true;
}

/* The headers that Warren has no use for, and the empty line behind them. */
static bool
skip_headers(struct wr_rd *r)
{
	bool first = true;
	const char *line;
	size_t n;

	while (r->left) {
		if (!next_line(r, &line, &n))
			return false;
		if (n == 0)
			return true;
		if (first && line[0] == ' ')
			return false; /* continues nothing */
		first = false;
	}
	return true; /* git reads a commit that ends with its headers */
}

static char *
dup_string(const void *p, size_t len)
{
	char *s = wr_malloc(len + 1);

	if (len)
		memcpy(s, p, len);
	s[len] = '\0';
	return s;
}

int
wr_commit_parse(const void *p, size_t len, struct wr_commit *out, struct wr_err *err)
{
	struct wr_rd r = wr_rd(p, len);
	struct wr_commit c = WR_COMMIT_INIT;
	const char *author, *committer;
	size_t n, author_len, committer_len, parent_cap = 0;
	struct wr_id id;
	int zone;

	if (!take_id(&r, "tree", &c.tree))
		return damaged(err, "no tree");
	while (take_id(&r, "parent", &id)) {
		wr_grow(&c.parent, &parent_cap, c.parent_count + 1, sizeof(*c.parent));
		c.parent[c.parent_count++] = id;
	}
	if (!take_header(&r, "author", &author, &n) ||
	    !parse_who(author, n, &author_len, &c.author_time, &c.author_zone)) {
		damaged(err, "no author, or a bad one");
		goto fail;
	}
	if (!take_header(&r, "committer", &committer, &n) ||
	    !parse_who(committer, n, &committer_len, &c.committer_time, &zone)) {
		damaged(err, "no committer, or a bad one");
		goto fail;
	}
	if (!skip_headers(&r) || memchr(p, '\0', len - r.left)) {
		damaged(err, "bad header");
		goto fail;
	}
	c.author = dup_string(author, author_len);
	c.committer = dup_string(committer, committer_len);
	c.message = dup_string(r.p, r.left);
	*out = c;
	return 0;
fail:
	free(c.parent);
	return -1;
}

void
wr_commit_fini(struct wr_commit *c)
{
	free(c->parent);
	free(c->author);
	free(c->committer);
	free(c->message);
	*c = (struct wr_commit)WR_COMMIT_INIT;
}

void
wr_commit_format(struct wr_buf *out, const struct wr_id *tree, const struct wr_id *parent,
		 const char *ident, int64_t seconds, const char *message)
{
	int64_t t = WR_MAX(seconds, 0); /* neither git nor bup reads a time before the epoch */

	wr_buf_addf(out, "tree %s\n", wr_id_hex(tree).s);
	if (parent)
		wr_buf_addf(out, "parent %s\n", wr_id_hex(parent).s);
	wr_buf_addf(out, "author %s %" PRId64 " +0000\n", ident, t);
	wr_buf_addf(out, "committer %s %" PRId64 " +0000\n\n", ident, t);
	wr_buf_adds(out, message);
}

/* May this byte stand first or last in a name or mail address? */
static bool
is_edge(char c)
{
	return c != '\0' && !strchr(" .,:;<>\"'\n", c);
}

/*
 * Append what bup accepts of s.  Inside, only NUL, LF, '<' and '>' are out; other control bytes go
 * too, since people see these names on terminals.  With edges trimmed, any length from 1 fits.
 */
static void
add_ident_part(struct wr_buf *out, const char *s)
{
	size_t start = out->len;

	for (; s && *s; s++) {
		bool control = (uint8_t)*s < 0x20 || *s == 0x7f;
		char c = control ? ' ' : *s;

		if (c == '<' || c == '>' || (out->len == start && !is_edge(c)))
			continue;
		wr_buf_add8(out, (uint8_t)c);
	}
	while (out->len > start && !is_edge((char)out->p[out->len - 1]))
		out->len--;
	if (out->len == start)
		wr_buf_adds(out, "unknown");
}

void
wr_commit_latest(struct wr_buf *out, const struct wr_id *tree, int64_t seconds)
{
	wr_commit_format(out, tree, NULL, "warren <latest@warren>", seconds,
			 "the newest state alone; its history is elsewhere\n");
}

char *
wr_ident(const char *name, const char *mail)
{
	struct wr_buf b = WR_BUF_INIT;

	add_ident_part(&b, name);
	wr_buf_adds(&b, " <");
	add_ident_part(&b, mail);
	wr_buf_adds(&b, ">");
	return wr_buf_detach(&b, NULL);
}

char *
wr_commit_trailer(const struct wr_commit *c, const char *key)
{
	const char *s = c->message, *end = s + strlen(s), *line = s, *found = NULL;
	size_t key_len = strlen(key), found_len = 0;

	while (end > s && end[-1] == '\n')
		end--;
	/* An empty line begins a new paragraph, so what was found before it does not count. */
	while (line < end) {
		const char *lf = memchr(line, '\n', (size_t)(end - line));
		size_t n = (size_t)((lf ? lf : end) - line);

		if (n == 0)
			found = NULL;
		if (n > key_len && line[key_len] == ':' && memcmp(line, key, key_len) == 0) {
			found = line + key_len + 1;
			found_len = n - key_len - 1;
		}
		line += n + 1;
	}
	if (!found)
		return NULL;
	while (found_len && (*found == ' ' || *found == '\t'))
		found++, found_len--;
	while (found_len && (found[found_len - 1] == ' ' || found[found_len - 1] == '\t'))
		found_len--;
	return dup_string(found, found_len);
}

int
wr_ref_name_check(const char *name, struct wr_err *err)
{
	const size_t max = 250; /* LIMIT: NAME.lock must fit into one file name */
	size_t n = strlen(name);
	const char *why = NULL;

	if (n == 0)
		why = "it is empty";
	else if (n > max)
		why = "it is too long";
	else if (strchr(name, '/'))
		why = "it has a '/', which bup cannot reach";
	else if (name[0] == '.' || name[0] == '-')
		why = "it begins with '.' or '-'";
	else if (name[n - 1] == '.' || (n >= 5 && strcmp(name + n - 5, ".lock") == 0))
		why = "it ends in '.' or '.lock'";
	else if (strstr(name, "..") || strstr(name, "@{"))
		why = "it has '..' or '@{'";
	else if (strpbrk(name, " ~^:?*[\\"))
		why = "it has a blank or one of ~^:?*[\\";
	else if (strcmp(name, "@") == 0 || strcmp(name, "HEAD") == 0)
		why = "git keeps this name for itself";
	for (const char *p = name; !why && *p; p++)
		if ((uint8_t)*p < 0x20 || *p == 0x7f)
			why = "it has a control character";
	if (!why)
		return 0;
	wr_err_set(err, WR_E_INVALID, "name '%s' cannot be used: %s", WR_Q(name), why);
	return wr_err_hint(err, "names of branches and tags are like 'main' or 'before-upgrade'");
}
