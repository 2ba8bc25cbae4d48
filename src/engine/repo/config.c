/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader of git's configuration syntax, and the few keys of it that matter here.  Includes are
 * not followed: what a repository's format is stands in its own config.
 */
#include "engine/repo/repo_int.h"

#include <ctype.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/str.h"
#include "engine/chunk/split.h"
#include "sys/fs.h"

/* LIMIT: a config file. */
#define CONFIG_MAX (1u << 20)
#define PACK_SIZE_DEFAULT UINT64_C(1000000000)

struct scan {
	const uint8_t *p;
	size_t len, at;
	unsigned line;
	bool end;
};

/* The next character, CR LF as one LF; the end of the file looks like one more LF. */
static int
next(struct scan *s)
{
	int c;

	if (s->at >= s->len) {
		s->end = true;
		return '\n';
	}
	c = s->p[s->at++];
	if (c == '\r' && s->at < s->len && s->p[s->at] == '\n')
		c = s->p[s->at++];
	if (c == '\n')
		s->line++;
	return c;
}

/* "[section]", "[section.sub]" or "[section "sub"]", the bracket already read. */
static bool
read_section(struct scan *s, struct wr_buf *key)
{
	int c;

	wr_buf_clear(key);
	for (c = next(s); isalnum(c) || c == '-' || c == '.'; c = next(s))
		wr_buf_add8(key, (uint8_t)tolower(c));
	if (key->len == 0)
		return false;
	wr_buf_add8(key, '.');
	if (c == ']')
		return true;
	while (c == ' ' || c == '\t')
		c = next(s);
	if (c != '"')
		return false;
	for (c = next(s); c != '"'; c = next(s)) {
		if (c == '\\')
			c = next(s);
		if (c == '\n' || c == '\0')
			return false;
		wr_buf_add8(key, (uint8_t)c);
	}
	wr_buf_add8(key, '.');
	return next(s) == ']';
}

static bool
read_value(struct scan *s, struct wr_buf *value)
{
	bool quoted = false;
	size_t keep = 0; /* length without trailing blanks */

	wr_buf_clear(value);
	for (;;) {
		int c = next(s);

		if (c == '\n') {
			value->len = keep;
			return !quoted;
		}
		if (c == '\0')
			return false;
		if (!quoted && (c == '#' || c == ';')) {
			while (c != '\n')
				c = next(s);
			value->len = keep;
			return true;
		}
		if (!quoted && (c == ' ' || c == '\t')) {
			if (keep > 0)
				wr_buf_add8(value, (uint8_t)c);
			continue;
		}
		if (c == '"') {
			quoted = !quoted;
			/* An opening quote keeps the blanks before it. */
			keep = value->len;
			continue;
		}
		if (c == '\\') {
			c = next(s);
			switch (c) {
			case '\n':
				continue;
			case 't':
				c = '\t';
				break;
			case 'n':
				c = '\n';
				break;
			case 'b':
				c = '\b';
				break;
			case '\\':
			case '"':
				break;
			default:
				return false;
			}
		}
		wr_buf_add8(value, (uint8_t)c);
		keep = value->len;
	}
}

int
wr_config_parse(const void *p, size_t len, wr_config_fn fn, void *ctx, struct wr_err *err)
{
	struct scan s = {.p = p, .len = len, .line = 1};
	WR_SCOPED(wr_buf_fini)
	struct wr_buf section = WR_BUF_INIT, key = WR_BUF_INIT, value = WR_BUF_INIT;
	unsigned line = 1;

	if (len >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		s.at = 3;
	for (;;) {
		int c = next(&s);

		if (s.end)
			return 0;
		line = c == '\n' ? s.line : line;
		if (isspace(c))
			continue;
		line = s.line;
		if (c == '#' || c == ';') {
			while (c != '\n')
				c = next(&s);
			continue;
		}
		if (c == '[') {
			if (!read_section(&s, &section))
				break;
			continue;
		}
		if (!isalpha(c) || section.len == 0)
			break;
		wr_buf_clear(&key);
		wr_buf_add(&key, section.p, section.len);
		for (; isalnum(c) || c == '-'; c = next(&s))
			wr_buf_add8(&key, (uint8_t)tolower(c));
		while (c == ' ' || c == '\t')
			c = next(&s);
		if (c == '\n') {
			fn(ctx, wr_buf_str(&key), NULL);
			continue;
		}
		if (c != '=' || !read_value(&s, &value))
			break;
		fn(ctx, wr_buf_str(&key), wr_buf_str(&value));
	}
	return wr_err_set(err, WR_E_CORRUPT, "line %u is not git configuration", line);
}

/* ---- the keys ---- */

struct keys {
	struct wr_repo *r;
	uint64_t format;
	bool bad_format;
	char object_format[32], ref_storage[32];
	char unknown_extension[64];
};

static void
copy(char *out, size_t out_size, const char *value)
{
	snprintf(out, out_size, "%s", value ? value : "");
}

static bool
truth(const char *v)
{
	uint64_t n;

	if (!v || !strcasecmp(v, "true") || !strcasecmp(v, "yes") || !strcasecmp(v, "on"))
		return true;
	return wr_parse_u64(v, &n, NULL) == 0 && n != 0;
}

/* Git's integers: k, m and g are powers of 1024. */
static bool
git_uint(const char *v, uint64_t *out)
{
	char digits[24];
	size_t n = v ? strspn(v, "0123456789") : 0;
	unsigned shift = 0;
	uint64_t x;

	if (n == 0 || n >= sizeof(digits) || (v[n] && v[n + 1]))
		return false;
	switch (v[n]) {
	case '\0':
		break;
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	default:
		return false;
	}
	memcpy(digits, v, n);
	digits[n] = '\0';
	if (wr_parse_u64(digits, &x, NULL) < 0 || x > UINT64_MAX >> shift)
		return false;
	*out = x << shift;
	return true;
}

static void
set_split(struct wr_repo *r, const char *value)
{
	uint64_t n;

	r->split_unknown = true;
	if (!value || strncmp(value, "legacy:", 7) != 0 || wr_parse_u64(value + 7, &n, NULL) < 0 ||
	    n < WR_SPLIT_BITS_MIN || n > WR_SPLIT_BITS_MAX)
		return;
	r->config.split_bits = (unsigned)n;
	r->split_unknown = false;
}

static void
take_key(void *ctx, const char *key, const char *value)
{
	/* Extensions that change neither where objects and refs lie nor what they mean. */
	static const char *const harmless[] = {"noop", "noop-v1", "preciousobjects",
					       "worktreeconfig", "relativeworktrees"};
	struct keys *k = ctx;
	struct wr_repo *r = k->r;
	uint64_t n;

	if (!strcmp(key, "core.repositoryformatversion")) {
		if (!git_uint(value, &k->format))
			k->bad_format = true;
	} else if (!strcmp(key, "extensions.objectformat")) {
		copy(k->object_format, sizeof(k->object_format), value);
	} else if (!strcmp(key, "extensions.refstorage")) {
		copy(k->ref_storage, sizeof(k->ref_storage), value);
	} else if (!strncmp(key, "extensions.", 11)) {
		for (size_t i = 0; i < WR_ARRAY_LEN(harmless); i++)
			if (!strcmp(key + 11, harmless[i]))
				return;
		copy(k->unknown_extension, sizeof(k->unknown_extension), key + 11);
	} else if (!strcmp(key, "pack.packsizelimit")) {
		/* As in git, 0 is no limit of the user's. */
		if (git_uint(value, &n) && n > 0)
			r->config.pack_size_limit = n;
	} else if (!strcmp(key, "bup.split.files")) {
		set_split(r, value);
	} else if (!strcmp(key, "bup.split.trees")) {
		r->config.split_trees = truth(value);
	} else if (!strcmp(key, "bup.repo.id")) {
		copy(r->config.id, sizeof(r->config.id), value);
	}
}

static int
refuse(struct wr_err *err, const char *what, const char *value)
{
	return wr_err_set(err, WR_E_UNSUPPORTED, "%s '%s' is not supported", what, WR_Q(value));
}

int
wr_repo_config_load(struct wr_repo *r, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	struct keys k = {.r = r};
	struct stat st;

	r->config = (struct wr_repo_config){.split_bits = WR_SPLIT_BITS_MIN,
					    .pack_size_limit = PACK_SIZE_DEFAULT};
	if (fstatat(r->fd, "config", &st, 0) < 0) {
		if (errno == ENOENT)
			return 0;
		return wr_err_sys(err, "stat 'config'");
	}
	if (!S_ISREG(st.st_mode))
		return wr_err_set(err, WR_E_CORRUPT, "'config' is not a file");
	if (wr_read_file(r->fd, "config", CONFIG_MAX, &text, err) < 0)
		return -1;
	if (wr_config_parse(text.p, text.len, take_key, &k, err) < 0)
		return wr_err_wrap(err, "'config'");
	if (k.bad_format)
		return wr_err_set(err, WR_E_CORRUPT,
				  "'config': core.repositoryformatversion is not a number");
	if (k.format > 1)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "repository format %" PRIu64 " is not supported", k.format);
	if (*k.object_format && strcasecmp(k.object_format, "sha1") != 0)
		return refuse(err, "object format", k.object_format);
	if (*k.ref_storage && strcasecmp(k.ref_storage, "files") != 0)
		return refuse(err, "ref storage", k.ref_storage);
	/* Git ignores extensions it does not know in a repository of format 0. */
	if (k.format == 1 && *k.unknown_extension)
		return refuse(err, "repository extension", k.unknown_extension);
	return 0;
}
