/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON, the only door to jansson: members are made here, so no raw bytes of a name ever reach it,
 * and foreign text is parsed with bounds.
 */
#ifndef WR_JSON_H
#define WR_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

void wr_json_freep(json_t **o); /* for WR_SCOPED; NULL is fine */

/* ---- making ---- */

/* {"schema": schema}: a new reference. */
json_t *wr_json_begin(const char *schema);
/* New members; wr_json_object and wr_json_array give a borrowed reference to what they made,
 * wr_json_item one to a new object at the end of an array. */
json_t *wr_json_object(json_t *obj, const char *key);
json_t *wr_json_array(json_t *obj, const char *key);
json_t *wr_json_item(json_t *array);
void wr_json_u64(json_t *obj, const char *key, uint64_t v);
void wr_json_i64(json_t *obj, const char *key, int64_t v);
void wr_json_real(json_t *obj, const char *key, double v);
void wr_json_bool(json_t *obj, const char *key, bool v);
void wr_json_null(json_t *obj, const char *key);
void wr_json_str(json_t *obj, const char *key, const char *s); /* NULL = null; made valid UTF-8 */
/* key: UTF-8 with invalid bytes as U+FFFD; key_b64 as well, only where that loses something. */
void wr_json_path(json_t *obj, const char *key, const void *bytes, size_t len);
void wr_json_time(json_t *obj, const char *key, int64_t seconds);         /* RFC 3339, UTC */
void wr_json_time_or_null(json_t *obj, const char *key, int64_t seconds); /* 0: null */
/* A reference of the caller's becomes a member. */
void wr_json_take(json_t *obj, const char *key, json_t *taken);
void wr_json_add_str(json_t *array, const char *s);
/* {"code", "message", "hint"} as member key; the hint only if there is one. */
void wr_json_err(json_t *obj, const char *key, const struct wr_err *err);

/* Compact text, appended; key order as made. */
void wr_json_write(const json_t *o, struct wr_buf *out);

/* ---- reading ---- */

/* LIMITs for foreign text: 32 levels; the caller bounds its length. Duplicate keys, NUL in strings
 * and text behind the value are refused. WR_E_INVALID with line and column. New reference. */
json_t *wr_json_parse(const void *p, size_t len, struct wr_err *err);

/* Members of objects we expect: absent or of another type gives the default. Borrowed. */
const char *wr_json_get_str(const json_t *obj, const char *key, const char *otherwise);
uint64_t wr_json_get_u64(const json_t *obj, const char *key, uint64_t otherwise); /* >= 0 only */
int64_t wr_json_get_i64(const json_t *obj, const char *key, int64_t otherwise);
bool wr_json_get_bool(const json_t *obj, const char *key, bool otherwise);
double wr_json_get_real(const json_t *obj, const char *key, double otherwise);
/* An RFC 3339 UTC time member as seconds; otherwise if absent or malformed. */
int64_t wr_json_get_time(const json_t *obj, const char *key, int64_t otherwise);
json_t *wr_json_get_obj(const json_t *obj, const char *key); /* NULL if absent or no object */
json_t *wr_json_get_arr(const json_t *obj, const char *key);
/* An object made by wr_json_err. */
void wr_json_get_err(const json_t *obj, struct wr_err *out);

#endif
