/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <time.h>

size_t
wr_utf8_len(const uint8_t *p, size_t len)
{
	size_t need;
	uint32_t cp;

	if (len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		need = 2, cp = p[0] & 0x1f;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		need = 3, cp = p[0] & 0x0f;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		need = 4, cp = p[0] & 0x07;
	else
		return 0;
	if (len < need)
		return 0;
	for (size_t i = 1; i < need; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3f);
	}
	if ((need == 3 && cp < 0x800) || (need == 4 && (cp < 0x10000 || cp > 0x10ffff)))
		return 0; /* overlong or out of range */
	if (cp >= 0xd800 && cp <= 0xdfff)
		return 0; /* surrogate */
	return need;
}

uint32_t
wr_utf8_decode(const uint8_t *p, size_t len)
{
	static const uint8_t first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32_t c = p[0] & first[len];

	for (size_t i = 1; i < len; i++)
		c = c << 6 | (p[i] & 0x3f);
	return c;
}

bool
wr_utf8_acts(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

bool
wr_utf8_valid(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len;) {
		size_t n = wr_utf8_len(p + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

char *
wr_utf8_lossy(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	char *out = wr_malloc(len * 3 + 1);
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		size_t u = wr_utf8_len(p + i, len - i);

		if (u == 0 || p[i] == 0) {
			memcpy(out + n, "\xef\xbf\xbd", 3);
			n += 3;
			i++;
			continue;
		}
		memcpy(out + n, p + i, u);
		n += u;
		i += u;
	}
	out[n] = '\0';
	return out;
}

char *
wr_base64(const void *bytes, size_t len)
{
	static const char abc[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = bytes;
	char *out = wr_malloc((len + 2) / 3 * 4 + 1), *o = out;

	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i;
		uint32_t v = (uint32_t)p[i] << 16;

		if (left > 1)
			v |= (uint32_t)p[i + 1] << 8;
		if (left > 2)
			v |= p[i + 2];
		*o++ = abc[v >> 18];
		*o++ = abc[v >> 12 & 63];
		*o++ = left > 1 ? abc[v >> 6 & 63] : '=';
		*o++ = left > 2 ? abc[v & 63] : '=';
	}
	*o = '\0';
	return out;
}

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool
wr_base64_decode(struct wr_buf *out, const char *s, size_t len)
{
	size_t pad = 0;
	uint32_t bits = 0;

	if (len % 4)
		return false;
	while (pad < 2 && pad < len && s[len - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < len; i++) {
		int v = i < len - pad ? base64_value(s[i]) : 0;

		if (v < 0)
			return false;
		bits = bits << 6 | (uint32_t)v;
		if (i % 4 != 3)
			continue;
		for (size_t k = 0; k < 3 - (i + 1 == len ? pad : 0); k++)
			wr_buf_add8(out, (uint8_t)(bits >> (16 - 8 * k)));
	}
	return true;
}

int
wr_parse_u64(const char *s, uint64_t *out, struct wr_err *err)
{
	uint64_t v = 0;

	if (!*s)
		return wr_err_set(err, WR_E_INVALID, "a number is missing");
	for (const char *p = s; *p; p++) {
		if (*p < '0' || *p > '9')
			return wr_err_set(err, WR_E_INVALID, "'%s' is not a number", WR_Q(s));
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return wr_err_set(err, WR_E_INVALID, "'%s' is too large", WR_Q(s));
	}
	*out = v;
	return 0;
}

int
wr_parse_decimal(const char *s, uint64_t *out_thousandths, struct wr_err *err)
{
	size_t whole = strspn(s, "0123456789"), more = 0;
	WR_SCOPED(wr_freep) char *digits = NULL;

	if (s[whole] == '.')
		more = strspn(s + whole + 1, "0123456789");
	if (whole == 0 || s[whole + (more ? more + 1 : 0)]) {
		wr_err_set(err, WR_E_INVALID, "'%s' is not a number", WR_Q(s));
		return wr_err_hint(err, "it is written 2 or 1.5");
	}
	if (more > 3)
		return wr_err_set(err, WR_E_INVALID,
				  "'%s' has more than three digits behind the point", WR_Q(s));
	digits = wr_asprintf("%.*s%.*s%.*s", (int)whole, s, (int)more, s + whole + (more > 0),
			     (int)(3 - more), "000");
	return wr_parse_u64(digits, out_thousandths, err);
}

int
wr_parse_size(const char *s, uint64_t *out, struct wr_err *err)
{
	static const char units[] = "KMGTP";
	size_t n = strspn(s, "0123456789");
	WR_SCOPED(wr_freep) char *digits = wr_memdup(s, n + 1);
	const char *u = s + n, *at;
	uint64_t v, factor = 1;

	digits[n] = '\0';
	if (wr_parse_u64(digits, &v, err) < 0)
		return wr_err_hint(err, "sizes are written 500M, 4G or in bytes");
	if (*u) {
		char c = *u >= 'a' && *u <= 'z' ? (char)(*u - 32) : *u;

		at = strchr(units, c);
		if (at &&
		    (!u[1] || !strcmp(u + 1, "iB") || !strcmp(u + 1, "i") || !strcmp(u + 1, "B")))
			factor = (uint64_t)1 << (10 * (at - units + 1));
		else if (strcmp(u, "B") != 0) {
			wr_err_set(err, WR_E_INVALID, "'%s' is not a size", WR_Q(s));
			return wr_err_hint(err, "sizes are written 500M, 4G or in bytes");
		}
	}
	if (__builtin_mul_overflow(v, factor, &v))
		return wr_err_set(err, WR_E_INVALID, "size '%s' is too large", WR_Q(s));
	*out = v;
	return 0;
}

static const struct {
	const char *name;
	uint64_t seconds;
} duration_units[] = {{"w", 604800}, {"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}};

int
wr_parse_duration(const char *s, uint64_t *out_s, struct wr_err *err)
{
	size_t n = strspn(s, "0123456789"), u;
	WR_SCOPED(wr_freep) char *digits = wr_memdup(s, n + 1);
	uint64_t v, factor = 1;

	if (!strcmp(s, "never")) {
		*out_s = 0;
		return 0;
	}
	digits[n] = '\0';
	if (wr_parse_u64(digits, &v, err) < 0)
		goto bad;
	if (s[n]) {
		for (u = 0; u < WR_ARRAY_LEN(duration_units); u++)
			if (!strcmp(s + n, duration_units[u].name))
				break;
		if (u == WR_ARRAY_LEN(duration_units)) {
			wr_err_set(err, WR_E_INVALID, "'%s' is not a duration", WR_Q(s));
			goto bad;
		}
		factor = duration_units[u].seconds;
	}
	if (__builtin_mul_overflow(v, factor, &v))
		return wr_err_set(err, WR_E_INVALID, "duration '%s' is too long", WR_Q(s));
	*out_s = v;
	return 0;
bad:
	return wr_err_hint(err, "durations are written 90s, 5min, 12h, 30d, 4w, or never");
}

int
wr_parse_bool(const char *s, bool *out, struct wr_err *err)
{
	static const char *const words[][2] = {
	    {"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};

	for (size_t i = 0; i < WR_ARRAY_LEN(words); i++)
		for (size_t v = 0; v < 2; v++)
			if (!strcmp(s, words[i][v])) {
				*out = v == 1;
				return 0;
			}
	return wr_err_set(err, WR_E_INVALID, "'%s' is neither yes nor no", WR_Q(s));
}

int
wr_parse_utc(const char *s, int64_t *out, struct wr_err *err)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:ddZ";
	int part[6] = {0};
	size_t at = 0;

	for (size_t i = 0; i < sizeof(shape); i++) { /* the NUL belongs to the shape */
		if (shape[i] == 'd' && s[i] >= '0' && s[i] <= '9')
			part[at] = part[at] * 10 + (s[i] - '0');
		else if (shape[i] != 'd' && s[i] == shape[i])
			at++;
		else
			goto bad;
	}
	if (!wr_utc_seconds(part[0], part[1], part[2], part[3], part[4], part[5], out))
		goto bad;
	return 0;
bad:
	wr_err_set(err, WR_E_INVALID, "'%s' is not a time", WR_Q(s));
	return wr_err_hint(err, "times are written 2026-11-22T10:15:30Z");
}

struct wr_short
wr_fmt_bytes(uint64_t bytes)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	struct wr_short r;
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1024 && u + 1 < WR_ARRAY_LEN(unit))
		v /= 1024, u++;
	snprintf(r.s, sizeof(r.s), u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, unit[u]);
	return r;
}

struct wr_short
wr_fmt_count(uint64_t n)
{
	struct wr_short r;
	char d[24];
	size_t len = (size_t)snprintf(d, sizeof(d), "%" PRIu64, n), o = 0;

	for (size_t i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			r.s[o++] = ',';
		r.s[o++] = d[i];
	}
	r.s[o] = '\0';
	return r;
}

static bool
break_down(int64_t seconds, struct tm *out, struct wr_short *fallback)
{
	time_t t = (time_t)seconds;

	if (gmtime_r(&t, out) && out->tm_year < 8100 && out->tm_year > -1900)
		return true;
	snprintf(fallback->s, sizeof(fallback->s), "@%" PRId64, seconds);
	return false;
}

struct wr_short
wr_fmt_utc(int64_t seconds)
{
	struct wr_short r;
	struct tm tm;

	if (break_down(seconds, &tm, &r))
		strftime(r.s, sizeof(r.s), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return r;
}

struct wr_short
wr_fmt_snap_name(int64_t seconds)
{
	struct wr_short r;
	struct tm tm;

	if (break_down(seconds, &tm, &r))
		strftime(r.s, sizeof(r.s), "%Y-%m-%d-%H%M%S", &tm);
	return r;
}

struct wr_short
wr_fmt_seconds(double s)
{
	struct wr_short r;

	if (s < 60)
		snprintf(r.s, sizeof(r.s), s < 10 ? "%.2f s" : "%.1f s", s);
	else if (s < 3600)
		snprintf(r.s, sizeof(r.s), "%d min %d s", (int)(s / 60), (int)s % 60);
	else
		snprintf(r.s, sizeof(r.s), "%d h %d min", (int)(s / 3600), (int)(s / 60) % 60);
	return r;
}

struct wr_short
wr_fmt_duration(uint64_t s)
{
	struct wr_short r = {"0"};

	for (size_t u = 0; s && u < WR_ARRAY_LEN(duration_units); u++)
		if (s % duration_units[u].seconds == 0) {
			snprintf(r.s, sizeof(r.s), "%" PRIu64 "%s", s / duration_units[u].seconds,
				 duration_units[u].name);
			break;
		}
	return r;
}

struct wr_short
wr_fmt_size(uint64_t bytes)
{
	static const char units[][2] = {"", "K", "M", "G", "T", "P"};
	struct wr_short r;
	size_t u = 0;

	while (bytes && bytes % 1024 == 0 && u + 1 < WR_ARRAY_LEN(units))
		bytes /= 1024, u++;
	snprintf(r.s, sizeof(r.s), "%" PRIu64 "%s", bytes, units[u]);
	return r;
}

bool
wr_utc_seconds(int year, int month, int day, int hour, int min, int sec, int64_t *out)
{
	struct tm tm = {.tm_year = year - 1900,
			.tm_mon = month - 1,
			.tm_mday = day,
			.tm_hour = hour,
			.tm_min = min,
			.tm_sec = sec};
	struct tm back = tm;
	time_t t = timegm(&back);

	if (back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday || back.tm_hour != tm.tm_hour ||
	    back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
		return false; /* 30 February and the like */
	*out = (int64_t)t;
	return true;
}
