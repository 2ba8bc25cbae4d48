/* SPDX-License-Identifier: Apache-2.0 */
/* Object ids and their hash, through libcrypto's low-level SHA-1: it needs no context on the heap
 * and no lookup of an algorithm, which for small objects would cost more than the hashing. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "engine/object/id.h"

#include <openssl/sha.h>
#include <sys/auxv.h>

_Static_assert(sizeof(SHA_CTX) <= sizeof(struct wr_sha1), "wr_sha1 is too small");
_Static_assert(_Alignof(SHA_CTX) <= _Alignof(struct wr_sha1), "wr_sha1 is not aligned");
_Static_assert(SHA_DIGEST_LENGTH == WR_ID_LEN, "ids are SHA-1");

static const struct {
	const char *name;
	size_t len;
} types[] = {
    [WR_OBJ_COMMIT] = {"commit", 6},
    [WR_OBJ_TREE] = {"tree", 4},
    [WR_OBJ_BLOB] = {"blob", 4},
    [WR_OBJ_TAG] = {"tag", 3},
};

bool
wr_id_is_zero(const struct wr_id *id)
{
	static const struct wr_id zero;

	return wr_id_eq(id, &zero);
}

static void
put_hex(const struct wr_id *id, char *out, size_t bytes)
{
	static const char digit[] = "0123456789abcdef";

	for (size_t i = 0; i < bytes; i++) {
		out[2 * i] = digit[id->b[i] >> 4];
		out[2 * i + 1] = digit[id->b[i] & 15];
	}
	out[2 * bytes] = '\0';
}

struct wr_id_hex
wr_id_hex(const struct wr_id *id)
{
	struct wr_id_hex h;

	put_hex(id, h.s, WR_ID_LEN);
	return h;
}

struct wr_id_hex
wr_id_short(const struct wr_id *id)
{
	struct wr_id_hex h;

	put_hex(id, h.s, 5);
	return h;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool
wr_id_parse(const char *s, struct wr_id *out)
{
	struct wr_id id;

	for (size_t i = 0; i < WR_ID_LEN; i++) {
		int hi = hex_value(s[2 * i]), lo;

		if (hi < 0) /* s may end here */
			return false;
		lo = hex_value(s[2 * i + 1]);
		if (lo < 0)
			return false;
		id.b[i] = (uint8_t)(hi << 4 | lo);
	}
	*out = id;
	return true;
}

const char *
wr_obj_type_name(enum wr_obj_type type)
{
	size_t i = (size_t)type;

	return i < WR_ARRAY_LEN(types) && types[i].name ? types[i].name : "?";
}

enum wr_obj_type
wr_obj_type_parse(const char *name, size_t len)
{
	for (size_t i = WR_OBJ_COMMIT; i < WR_ARRAY_LEN(types); i++)
		if (types[i].len == len && memcmp(types[i].name, name, len) == 0)
			return (enum wr_obj_type)i;
	return WR_OBJ_NONE;
}

/* The state is touched by libcrypto alone, never as the integers it is declared as. */
static SHA_CTX *
state_of(struct wr_sha1 *h)
{
	void *p = h->opaque;

	return p;
}

void
wr_sha1_init(struct wr_sha1 *h)
{
	SHA1_Init(state_of(h));
}

void
wr_sha1_init_obj(struct wr_sha1 *h, enum wr_obj_type type, size_t len)
{
	char head[32]; /* "commit ", at most 20 digits, NUL */
	char *end = head + sizeof(head), *s = end;

	wr_assert(type >= WR_OBJ_COMMIT && type <= WR_OBJ_TAG);
	*--s = '\0';
	do
		*--s = (char)('0' + len % 10);
	while (len /= 10);
	*--s = ' ';
	s -= types[type].len;
	memcpy(s, types[type].name, types[type].len);
	wr_sha1_init(h);
	wr_sha1_add(h, s, (size_t)(end - s));
}

void
wr_sha1_add(struct wr_sha1 *h, const void *p, size_t len)
{
	SHA1_Update(state_of(h), p, len);
}

struct wr_id
wr_sha1_end(struct wr_sha1 *h)
{
	struct wr_id id;

	SHA1_Final(id.b, state_of(h));
	return id;
}

struct wr_id
wr_obj_id(enum wr_obj_type type, const void *p, size_t len)
{
	struct wr_sha1 h;

	wr_sha1_init_obj(&h, type, len);
	wr_sha1_add(&h, p, len);
	return wr_sha1_end(&h);
}

/*
 * The map keeps at least a quarter of its slots free and probes linearly.  Ids are hashes already,
 * but those in a foreign tree need not be the ids of anything: with a hash that anybody can
 * compute, a tree made for it would put all of them into one run of slots.
 */
static uint64_t
fold(uint64_t a, uint64_t b)
{
	__extension__ typedef unsigned __int128 u128;
	u128 m = (u128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static size_t
start_of(const struct wr_idmap *m, const struct wr_id *id)
{
	const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t a, b, h;
	uint32_t c;

	memcpy(&a, id->b, 8);
	memcpy(&b, id->b + 8, 8);
	memcpy(&c, id->b + 16, 4);
	h = fold(a ^ m->seed, b ^ (m->seed * odd));
	return (size_t)fold(h ^ c ^ odd, m->seed | 1) & (m->cap - 1);
}

/* The slot of id, or the free one where it belongs. */
static struct wr_idmap_slot *
probe(const struct wr_idmap *m, const struct wr_id *id)
{
	size_t i = start_of(m, id);

	while (m->slot[i].used && !wr_id_eq(&m->slot[i].id, id))
		i = (i + 1) & (m->cap - 1);
	return &m->slot[i];
}

static uint64_t
process_secret(void)
{
	unsigned long at = getauxval(AT_RANDOM); /* 16 random bytes from the kernel */
	uint64_t v = 0;

	if (at)
		memcpy(&v, (const void *)at, sizeof(v));
	return v;
}

static void
enlarge(struct wr_idmap *m)
{
	struct wr_idmap big = {.count = m->count, .seed = m->seed};

	if (m->cap == 0)
		big.seed = process_secret();
	big.cap = m->cap ? m->cap * 2 : 64;
	big.slot = wr_calloc(big.cap, sizeof(*big.slot));
	for (size_t i = 0; i < m->cap; i++)
		if (m->slot[i].used)
			*probe(&big, &m->slot[i].id) = m->slot[i];
	free(m->slot);
	*m = big;
}

void
wr_idmap_fini(struct wr_idmap *m)
{
	free(m->slot);
	*m = (struct wr_idmap)WR_IDMAP_INIT;
}

uint64_t *
wr_idmap_find(const struct wr_idmap *m, const struct wr_id *id)
{
	struct wr_idmap_slot *s;

	if (m->cap == 0)
		return NULL;
	s = probe(m, id);
	return s->used ? &s->value : NULL;
}

uint64_t *
wr_idmap_put(struct wr_idmap *m, const struct wr_id *id, bool *out_new)
{
	struct wr_idmap_slot *s;

	if (m->count >= m->cap - m->cap / 4)
		enlarge(m);
	s = probe(m, id);
	if (out_new)
		*out_new = !s->used;
	if (!s->used) {
		*s = (struct wr_idmap_slot){.id = *id, .used = 1};
		m->count++;
	}
	return &s->value;
}

struct wr_idmap_slot *
wr_idmap_next(const struct wr_idmap *m, size_t *i)
{
	while (*i < m->cap) {
		struct wr_idmap_slot *s = &m->slot[(*i)++];

		if (s->used)
			return s;
	}
	return NULL;
}
