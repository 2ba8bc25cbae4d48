/* SPDX-License-Identifier: Apache-2.0 */
/* Text: UTF-8 checks, units, times, numbers from users. Pure. */
#ifndef WR_STR_H
#define WR_STR_H

#include "base/buf.h"
#include "base/err.h"

/* Length in bytes of the well-formed UTF-8 sequence at p (1..4), 0 if there is none. */
size_t wr_utf8_len(const uint8_t *p, size_t len);
/* The character of a well-formed sequence of len bytes, as wr_utf8_len found it. */
uint32_t wr_utf8_decode(const uint8_t *p, size_t len);
/* Would this character act on a terminal, or reorder what stands around it? */
bool wr_utf8_acts(uint32_t c);
bool wr_utf8_valid(const void *bytes, size_t len);
/* Copy with every invalid byte replaced by U+FFFD; the caller frees it. */
char *wr_utf8_lossy(const void *bytes, size_t len);
/* Standard base64 with padding; the caller frees it. */
char *wr_base64(const void *bytes, size_t len);
/* Append what wr_base64 made of it; false, with part of it appended, if it is something else. */
bool wr_base64_decode(struct wr_buf *out, const char *s, size_t len);

/* Whole decimal number without sign, all of s. */
int wr_parse_u64(const char *s, uint64_t *out, struct wr_err *err);
/* In thousandths: digits, then perhaps a point and one to three more. */
int wr_parse_decimal(const char *s, uint64_t *out_thousandths, struct wr_err *err);
/* Bytes: digits with an optional K, M, G, T, P (1024-based; KiB, MiB, ... also taken). */
int wr_parse_size(const char *s, uint64_t *out, struct wr_err *err);

/* Seconds: digits with an optional s, min, h, d, w; "0" and "never" give 0. */
int wr_parse_duration(const char *s, uint64_t *out_s, struct wr_err *err);
/* yes, true, on, 1 and no, false, off, 0. */
int wr_parse_bool(const char *s, bool *out, struct wr_err *err);
/* RFC 3339 in UTC, as wr_fmt_utc prints it. */
int wr_parse_utc(const char *s, int64_t *out, struct wr_err *err);

/* By value, so nobody owns them. */
struct wr_short {
	char s[40];
};
struct wr_short wr_fmt_bytes(uint64_t bytes);      /* 1.5 MiB */
struct wr_short wr_fmt_count(uint64_t n);          /* 64,000 */
struct wr_short wr_fmt_utc(int64_t seconds);       /* 2026-11-22T10:15:30Z (RFC 3339) */
struct wr_short wr_fmt_snap_name(int64_t seconds); /* 2026-11-22-101530, UTC */
struct wr_short wr_fmt_seconds(double s);          /* 0.42 s, 3 min 10 s */
struct wr_short wr_fmt_duration(uint64_t s); /* 90s, 5min, 30d: what wr_parse_duration reads */
struct wr_short wr_fmt_size(uint64_t bytes); /* 3G, 500M: what wr_parse_size reads, exactly */

/* Seconds since the epoch of a UTC calendar time; month 1..12. False when out of range. */
bool wr_utc_seconds(int year, int month, int day, int hour, int min, int sec, int64_t *out);

#endif
