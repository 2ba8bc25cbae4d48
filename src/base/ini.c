/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ini.h"

#include "base/str.h"

#define LINE_MAX_BYTES 4096

struct reader {
	wr_ini_fn fn;
	void *ctx;
	char section[LINE_MAX_BYTES];
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Cut blanks at both ends of s, in place; gives the start. */
static char *
trim(char *s)
{
	size_t n;

	while (is_blank(*s))
		s++;
	for (n = strlen(s); n && is_blank(s[n - 1]); n--)
		;
	s[n] = '\0';
	return s;
}

static bool
is_text(const char *s, size_t len)
{
	const uint8_t *p = (const uint8_t *)s;

	for (size_t i = 0; i < len;) {
		size_t n = wr_utf8_len(p + i, len - i);
		uint32_t c = n ? wr_utf8_decode(p + i, n) : 0;

		if (n == 0 || (c < 0x20 && c != '\t') || (c >= 0x7f && c < 0xa0))
			return false;
		i += n;
	}
	return true;
}

static int
take_section(struct reader *r, char *s, struct wr_err *err)
{
	size_t n = strlen(s);

	if (s[n - 1] != ']')
		return wr_err_set(err, WR_E_INVALID, "']' is missing after '%s'", WR_Q(s));
	s[n - 1] = '\0';
	s = trim(s + 1);
	if (!*s)
		return wr_err_set(err, WR_E_INVALID, "a section without a name");
	if (strpbrk(s, "[]"))
		return wr_err_set(err, WR_E_INVALID, "'%s' is no name of a section", WR_Q(s));
	memcpy(r->section, s, strlen(s) + 1);
	return 0;
}

static int
take_value(struct reader *r, unsigned line, const char *key, char *value, struct wr_err *err)
{
	size_t n = strlen(value);

	if (*value == '"') {
		if (n < 2 || strchr(value + 1, '"') != value + n - 1)
			return wr_err_set(err, WR_E_INVALID,
					  "a quoted value of '%s' has to end with its second quote",
					  WR_Q(key));
		value[n - 1] = '\0';
		value++;
	}
	return r->fn(r->ctx, line, r->section, key, value, err);
}

static int
take_line(struct reader *r, unsigned line, const char *p, size_t len, struct wr_err *err)
{
	char text[LINE_MAX_BYTES + 1], *s, *eq;

	if (len && p[len - 1] == '\r')
		len--;
	if (len > LINE_MAX_BYTES)
		return wr_err_set(err, WR_E_INVALID, "a line of more than %d bytes",
				  LINE_MAX_BYTES);
	if (!is_text(p, len))
		return wr_err_set(err, WR_E_INVALID, "this is not UTF-8 text");
	memcpy(text, p, len);
	text[len] = '\0';
	s = trim(text);
	if (!*s || *s == '#' || *s == ';')
		return 0;
	if (*s == '[')
		return take_section(r, s, err);
	eq = strchr(s, '=');
	if (!eq)
		return wr_err_set(err, WR_E_INVALID, "'%s' is neither 'key = value' nor [section]",
				  WR_Q(s));
	*eq = '\0';
	s = trim(s);
	if (!*s)
		return wr_err_set(err, WR_E_INVALID, "a value without a key");
	return take_value(r, line, s, trim(eq + 1), err);
}

int
wr_ini_parse(const char *what, const void *bytes, size_t len, wr_ini_fn fn, void *ctx,
	     struct wr_err *err)
{
	struct reader r = {.fn = fn, .ctx = ctx};
	const char *p = bytes, *end = p + len;
	unsigned line = 0;

	if (len > WR_INI_MAX)
		return wr_err_set(err, WR_E_INVALID, "'%s' is larger than %u bytes", WR_Q(what),
				  WR_INI_MAX);
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);

		if (take_line(&r, ++line, p, n, err) < 0)
			return wr_err_wrap(err, "%s:%u", WR_Q(what), line);
		p += nl ? n + 1 : n;
	}
	return 0;
}
