/* SPDX-License-Identifier: Apache-2.0 */
/* Object ids (SHA-1, 20 bytes), hashing, and sets and maps of ids. */
#ifndef WR_ID_H
#define WR_ID_H

#include "base/err.h"

#define WR_ID_LEN 20

struct wr_id {
	uint8_t b[WR_ID_LEN];
};

struct wr_id_hex {
	char s[2 * WR_ID_LEN + 1];
};

/* Git's type numbers, as packs store them. */
enum wr_obj_type {
	WR_OBJ_NONE = 0,
	WR_OBJ_COMMIT = 1,
	WR_OBJ_TREE = 2,
	WR_OBJ_BLOB = 3,
	WR_OBJ_TAG = 4,
	WR_OBJ_OFS_DELTA = 6, /* only inside packs */
	WR_OBJ_REF_DELTA = 7,
};

static inline int
wr_id_cmp(const struct wr_id *a, const struct wr_id *b)
{
	return memcmp(a->b, b->b, WR_ID_LEN);
}
static inline bool
wr_id_eq(const struct wr_id *a, const struct wr_id *b)
{
	return memcmp(a->b, b->b, WR_ID_LEN) == 0;
}
bool wr_id_is_zero(const struct wr_id *id);
struct wr_id_hex wr_id_hex(const struct wr_id *id);   /* 40 digits */
struct wr_id_hex wr_id_short(const struct wr_id *id); /* the first 10 */
/* Exactly 40 hex digits (either case) at s; what follows is not looked at. */
bool wr_id_parse(const char *s, struct wr_id *out);

const char *wr_obj_type_name(enum wr_obj_type type); /* "blob", ...; "?" if none of the four */
enum wr_obj_type wr_obj_type_parse(const char *name, size_t len); /* WR_OBJ_NONE if none */

/* Id of an object with this payload: SHA-1 of "<type> <size>\0" and the payload. */
struct wr_id wr_obj_id(enum wr_obj_type type, const void *p, size_t len);

/* SHA-1 in pieces; no failure. */
struct wr_sha1 {
	uint64_t opaque[16];
};
void wr_sha1_init(struct wr_sha1 *h);
/* What wr_obj_id hashes before the payload: its len bytes, added, make the object's id. */
void wr_sha1_init_obj(struct wr_sha1 *h, enum wr_obj_type type, size_t len);
void wr_sha1_add(struct wr_sha1 *h, const void *p, size_t len);
/* To both, as two calls of wr_sha1_add; in little more than the time of the longer one, where the
 * CPU has instructions for SHA-1. */
void wr_sha1_add_two(struct wr_sha1 *a, const void *ap, size_t alen, struct wr_sha1 *b,
		     const void *bp, size_t blen);
struct wr_id wr_sha1_end(struct wr_sha1 *h);

/*
 * Open-addressing map from id to a 64-bit value.  Not thread safe.  The hash has a secret of the
 * process in it, since foreign trees may name ids of any pattern: the order of iteration differs
 * from run to run.
 */
struct wr_idmap {
	struct wr_idmap_slot *slot;
	size_t cap, count;
	uint64_t seed; /* set with the first slots */
};
struct wr_idmap_slot {
	struct wr_id id;
	uint32_t used;
	uint64_t value;
};
#define WR_IDMAP_INIT \
	{             \
		0     \
	}
void wr_idmap_fini(struct wr_idmap *m);
uint64_t *wr_idmap_find(const struct wr_idmap *m, const struct wr_id *id); /* NULL = absent */
/* Value of id, inserted as 0 if absent (*out_new tells); valid until the next put. */
uint64_t *wr_idmap_put(struct wr_idmap *m, const struct wr_id *id, bool *out_new);
/* Iterate: for (size_t i = 0; (s = wr_idmap_next(m, &i));) */
struct wr_idmap_slot *wr_idmap_next(const struct wr_idmap *m, size_t *i);

#endif
