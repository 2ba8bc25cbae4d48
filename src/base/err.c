/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include "base/str.h"

static const struct {
	const char *name;
	int exit_status;
	const char *text;
} codes[] = {
#define X(code, name, ex, http, text) [code] = {name, ex, text},
    WR_ERR_TABLE(X)
#undef X
};

static enum wr_err_code
code_of_errno(int e)
{
	switch (e) {
	case ENOSPC:
	case EDQUOT:
		return WR_E_NOSPACE;
	case ENOENT:
		return WR_E_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return WR_E_DENIED;
	default:
		return WR_E_SYS;
	}
}

int
wr_err_set(struct wr_err *err, enum wr_err_code code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	err->code = code;
	err->sys_errno = 0;
	err->hint[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return -1;
}

int
wr_err_sys(struct wr_err *err, const char *fmt, ...)
{
	int e = errno;
	va_list ap;
	size_t n;

	if (!err)
		return -1;
	err->code = code_of_errno(e);
	err->sys_errno = e;
	err->hint[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(e));
	if (err->code == WR_E_NOSPACE)
		wr_err_hint(err, "free space on that file system, then run the command again; "
				 "what was saved before is untouched");
	return -1;
}

int
wr_err_wrap(struct wr_err *err, const char *fmt, ...)
{
	char prefix[512], rest[sizeof(err->msg)];
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	memcpy(rest, err->msg, sizeof(rest));
	/* The cause stands last; where room ends, its tail is what is cut. */
	if (snprintf(err->msg, sizeof(err->msg), "%s: %s", prefix, rest) < 0)
		memcpy(err->msg, rest, sizeof(rest));
	return -1;
}

int
wr_err_hint(struct wr_err *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
	return -1;
}

int
wr_err_recode(struct wr_err *err, enum wr_err_code code)
{
	if (err)
		err->code = code;
	return -1;
}

void
wr_err_clear(struct wr_err *err)
{
	err->code = WR_E_NONE;
	err->sys_errno = 0;
	err->msg[0] = '\0';
	err->hint[0] = '\0';
}

const char *
wr_err_name(enum wr_err_code code)
{
	return codes[code].name;
}

int
wr_err_exit(enum wr_err_code code)
{
	return codes[code].exit_status;
}

struct wr_quoted
wr_quote(const void *bytes, size_t len)
{
	struct wr_quoted q;
	const uint8_t *b = bytes;
	size_t n = 0, i = 0, max = WR_MIN(len, 200);

	while (i < max) {
		size_t u = wr_utf8_len(b + i, len - i);

		if (u && b[i] != '\\' && b[i] != '\'' && !wr_utf8_acts(wr_utf8_decode(b + i, u))) {
			memcpy(q.s + n, b + i, u);
			n += u;
			i += u;
			continue;
		}
		for (u = u ? u : 1; u; u--)
			n += (size_t)snprintf(q.s + n, sizeof(q.s) - n, "\\x%02x", b[i++]);
	}
	if (len > max) {
		memcpy(q.s + n, "...", 3);
		n += 3;
	}
	q.s[n] = '\0';
	return q;
}
