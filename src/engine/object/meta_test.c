/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/object/meta.h"
#include "engine/object/name.h"
#include "engine/object/test_util.h"
#include "engine/object/tree.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#define BYTES(s) ((struct wr_bytes){(const uint8_t *)(s), sizeof(s) - 1})
#define assert_bytes(b, text) assert_bytes_are(&(b), (text), strlen(text))

static void
assert_bytes_are(const struct wr_bytes *b, const char *text, size_t len)
{
	assert_int_equal(b->len, len);
	assert_non_null(b->p);
	assert_memory_equal(b->p, text, len);
}

/* The entry of an empty ext4 directory, as bup wrote it. */
static const uint8_t worked[] = {0x0a, 0x2a, 0xad, 0x87, 0x02, 0x00, 0x04, 'r',  'o',  'o',
				 't',  0x00, 0x04, 'r',  'o',  'o',  't',  0x00, 0x80, 0xd4,
				 0xdb, 0xd2, 0x0f, 0x07, 0x80, 0xc0, 0xf0, 0xf5, 0x0b, 0x80,
				 0x94, 0xef, 0x3a, 0x98, 0xad, 0x97, 0xb0, 0x0d, 0xaa, 0xf9,
				 0xfb, 0xb0, 0x01, 0x41, 0x06, 0x03, 0x80, 0x80, 0x20, 0x00};

static int
decode(const void *p, size_t len, struct wr_meta *m, struct wr_buf *scratch)
{
	struct wr_rd r = wr_rd(p, len);
	struct wr_bytes raw;
	struct wr_err err = WR_ERR_INIT;
	int n = wr_meta_next(&r, m, &raw, scratch, &err);

	assert_int_equal(n < 0, err.code == WR_E_CORRUPT);
	if (n > 0) {
		assert_ptr_equal(raw.p, p);
		assert_int_equal(raw.len + r.left, len);
	}
	if (n < 0)
		assert_int_equal(wr_meta_next(&r, m, &raw, scratch, NULL), -1); /* for ever */
	return n;
}

static void
test_meta__worked_example(WR_UNUSED void **state)
{
	struct wr_buf out = WR_BUF_INIT, scratch = WR_BUF_INIT;
	struct wr_meta m;

	assert_int_equal(decode(worked, sizeof(worked), &m, &scratch), 1);
	assert_true(m.has_common);
	assert_int_equal(m.mode, 040755);
	assert_int_equal(m.uid, 0);
	assert_bytes(m.user, "root");
	assert_int_equal(m.gid, 0);
	assert_bytes(m.group, "root");
	assert_int_equal(m.rdev, 0);
	assert_int_equal(m.atime.s, 2100000000);
	assert_int_equal(m.atime.ns, 7);
	assert_int_equal(m.mtime.s, 1600000000);
	assert_int_equal(m.mtime.ns, 123456000);
	assert_int_equal(m.size, -1);
	assert_int_equal(m.attr, 0x80000);
	assert_null(m.symlink.p);
	assert_null(m.acl[0].p);
	assert_int_equal(m.xattr_count, 0);
	wr_meta_encode(&out, &m);
	assert_int_equal(out.len, sizeof(worked));
	assert_memory_equal(out.p, worked, sizeof(worked));
	wr_buf_fini(&out);
	wr_buf_fini(&scratch);
}

/* Everything an entry can hold. The pairs belong to the caller. */
static struct wr_meta
rich(struct wr_buf *pairs)
{
	struct wr_meta m = {
	    .has_common = true,
	    .mode = 0100644,
	    .uid = UINT32_MAX,
	    .gid = 54321,
	    .user = BYTES(""),
	    .group = BYTES("staff"),
	    .atime = {-1, 999999999},
	    .mtime = {INT64_C(1) << 40, 5},
	    .ctime = {-64, 0},
	    .size = 63,
	    .symlink = BYTES("../target"),
	    .hardlink = BYTES("/a/b"),
	    .acl = {BYTES("u::rw-,u:daemon:r--,g::r--,m::r--,o::---"),
		    BYTES("u::rw-,u:1:r--,g::r--,m::r--,o::---"), BYTES(""), BYTES("")},
	    .attr = 0x80040,
	    .xattr_count = 2,
	};

	wr_meta_xattr_add(pairs, "user.a", 6, "1\0\xff", 3);
	wr_meta_xattr_add(pairs, "user.empty", 10, "", 0);
	m.xattrs = (struct wr_bytes){pairs->p, pairs->len};
	return m;
}

static void
test_meta_encode__round_trip(WR_UNUSED void **state)
{
	struct wr_buf pairs = WR_BUF_INIT, out = WR_BUF_INIT, again = WR_BUF_INIT;
	struct wr_buf scratch = WR_BUF_INIT;
	struct wr_meta m = rich(&pairs), got;
	struct wr_bytes name, value;
	struct wr_rd r;

	wr_meta_encode(&out, &m);
	assert_int_equal(decode(out.p, out.len, &got, &scratch), 1);
	assert_int_equal(got.uid, UINT32_MAX);
	assert_int_equal(got.user.len, 0);
	assert_bytes(got.group, "staff");
	assert_int_equal(got.atime.s, -1);
	assert_int_equal(got.atime.ns, 999999999);
	assert_true(got.mtime.s == INT64_C(1) << 40);
	assert_int_equal(got.ctime.s, -64);
	assert_int_equal(got.size, 63);
	assert_bytes(got.symlink, "../target");
	assert_bytes(got.hardlink, "/a/b");
	assert_bytes(got.acl[1], "u::rw-,u:1:r--,g::r--,m::r--,o::---");
	assert_int_equal(got.acl[3].len, 0);
	assert_int_equal(got.xattr_count, 2);
	r = wr_rd(got.xattrs.p, got.xattrs.len);
	assert_int_equal(wr_meta_xattr_next(&r, &name, &value), 1);
	assert_bytes(name, "user.a");
	assert_bytes_are(&value, "1\0\xff", 3);
	assert_int_equal(wr_meta_xattr_next(&r, &name, &value), 1);
	assert_bytes(name, "user.empty");
	assert_int_equal(value.len, 0);
	assert_int_equal(wr_meta_xattr_next(&r, &name, &value), 0);
	assert_true(wr_meta_same(&m, &got));
	wr_meta_encode(&again, &got);
	assert_int_equal(again.len, out.len);
	assert_memory_equal(again.p, out.p, out.len);

	/* Without metadata: the lone end tag. */
	wr_buf_clear(&out);
	got = (struct wr_meta){.size = -1};
	wr_meta_encode(&out, &got);
	assert_int_equal(out.len, 1);
	assert_int_equal(out.p[0], 0);
	assert_int_equal(decode(out.p, out.len, &got, &scratch), 1);
	assert_false(got.has_common);
	assert_int_equal(got.size, -1);
	wr_buf_fini(&pairs);
	wr_buf_fini(&out);
	wr_buf_fini(&again);
	wr_buf_fini(&scratch);
}

/* Numbers at the edges of their encodings, and lengths around one and two bytes. */
static void
test_meta_encode__edges(WR_UNUSED void **state)
{
	static const int64_t v[] = {0,         1,         -1,        62,           63,
				    64,        -63,       -64,       127,          128,
				    8191,      8192,      -8192,     1 << 20,      INT32_MAX,
				    INT32_MIN, INT64_MAX, INT64_MIN, INT64_MIN + 1};
	struct wr_buf out = WR_BUF_INIT, scratch = WR_BUF_INIT;
	uint8_t long_name[400];
	struct wr_meta m = {.has_common = true}, got;

	memset(long_name, 'n', sizeof(long_name));
	for (size_t i = 0; i < WR_ARRAY_LEN(v); i++) {
		m.atime.s = m.mtime.s = m.ctime.s = v[i];
		m.size = v[i] < 0 ? -1 : v[i];
		m.rdev = (uint64_t)v[i];
		m.attr = (uint64_t)v[i];
		m.mode = (uint32_t)v[i];
		wr_buf_clear(&out);
		wr_meta_encode(&out, &m);
		assert_int_equal(decode(out.p, out.len, &got, &scratch), 1);
		assert_true(got.atime.s == v[i] && got.ctime.s == v[i]);
		assert_true(got.size == m.size && got.rdev == m.rdev && got.attr == m.attr &&
			    got.mode == m.mode);
	}
	m = (struct wr_meta){.has_common = true, .size = -1};
	for (size_t n = 0; n < sizeof(long_name); n++) {
		m.user = m.symlink = m.hardlink = (struct wr_bytes){long_name, n};
		wr_buf_clear(&out);
		wr_meta_encode(&out, &m);
		assert_int_equal(decode(out.p, out.len, &got, &scratch), 1);
		assert_int_equal(got.user.len, n);
		assert_int_equal(got.symlink.len, n);
		assert_int_equal(got.size, -1);
		assert_int_equal(got.hardlink.len, n);
	}
	wr_buf_fini(&out);
	wr_buf_fini(&scratch);
}

/* ---- records written by hand, in the versions that are only read ---- */

static void
vuint(struct wr_buf *b, uint64_t v)
{
	for (; v > 127; v >>= 7)
		wr_buf_add8(b, (uint8_t)(v | 128));
	wr_buf_add8(b, (uint8_t)v);
}

static void
bvec(struct wr_buf *b, const char *s)
{
	vuint(b, strlen(s));
	wr_buf_adds(b, s);
}

static void
record(struct wr_buf *out, uint64_t tag, const struct wr_buf *payload)
{
	vuint(out, tag);
	vuint(out, payload->len);
	wr_buf_add(out, payload->p, payload->len);
}

static void
small_times(struct wr_buf *b)
{
	wr_buf_add(b, "\x01\x02\x03\x04\x45\x06", 6); /* 1.2, 3.4, -5 + 6 ns */
}

static void
test_meta_next__old_versions_and_unknown_tags(WR_UNUSED void **state)
{
	struct wr_buf rec = WR_BUF_INIT, out = WR_BUF_INIT, scratch = WR_BUF_INIT;
	struct wr_meta m;

	/* version 1: plain vuints; 100644 as a vint would read differently */
	vuint(&rec, 0100644);
	vuint(&rec, UINT32_MAX);
	bvec(&rec, "u");
	vuint(&rec, 100);
	bvec(&rec, "g");
	vuint(&rec, 300);
	small_times(&rec);
	record(&out, 2, &rec);
	wr_buf_add8(&out, 0);
	assert_int_equal(decode(out.p, out.len, &m, &scratch), 1);
	assert_int_equal(m.mode, 0100644);
	assert_int_equal(m.uid, UINT32_MAX);
	assert_int_equal(m.gid, 100);
	assert_int_equal(m.rdev, 300);
	assert_int_equal(m.ctime.s, -5);
	assert_int_equal(m.ctime.ns, 6);
	assert_int_equal(m.size, -1);

	/* version 2, between a path, an unknown record and one of NFSv4 */
	wr_buf_clear(&rec);
	wr_buf_clear(&out);
	bvec(&rec, "anything");
	record(&out, 1, &rec);
	record(&out, 1000, &rec);
	wr_buf_clear(&rec);
	wr_buf_add(&rec, "\x80\x41\x05\x01u\x06\x01g\x00", 9); /* vints: mode 4160 */
	small_times(&rec);
	record(&out, 9, &rec);
	record(&out, 5, &rec);
	wr_buf_add8(&out, 0);
	assert_int_equal(decode(out.p, out.len, &m, &scratch), 1);
	assert_int_equal(m.mode, 65 << 6);
	assert_int_equal(m.uid, 5);
	assert_int_equal(m.gid, 6);
	assert_int_equal(m.size, -1);

	/* ACL version 1: LF between entries; with a comma in it, it is dropped */
	wr_buf_clear(&rec);
	wr_buf_clear(&out);
	bvec(&rec, "u::rw-\nu:me:r--\ng::r--\n");
	bvec(&rec, "u::rw-\nu:7:r--\ng::r--");
	bvec(&rec, "");
	bvec(&rec, "\n");
	record(&out, 4, &rec);
	wr_buf_add8(&out, 0);
	assert_int_equal(decode(out.p, out.len, &m, &scratch), 1);
	assert_false(m.has_common);
	assert_bytes(m.acl[0], "u::rw-,u:me:r--,g::r--");
	assert_bytes(m.acl[1], "u::rw-,u:7:r--,g::r--");
	assert_int_equal(m.acl[2].len, 0);
	assert_int_equal(m.acl[3].len, 0);
	out.len--;
	wr_buf_clear(&rec);
	for (size_t i = 0; i < 4; i++)
		bvec(&rec, i == 3 ? "u::rw-,g::r--" : "a text long enough to move the others");
	record(&out, 4, &rec);
	wr_buf_add8(&out, 0);
	assert_int_equal(decode(out.p, out.len, &m, &scratch), 1);
	assert_null(m.acl[0].p);

	wr_buf_fini(&rec);
	wr_buf_fini(&out);
	wr_buf_fini(&scratch);
}

static void
check_bad(uint64_t tag, const char *payload, size_t len)
{
	struct wr_buf rec = WR_BUF_INIT, out = WR_BUF_INIT, scratch = WR_BUF_INIT;
	struct wr_meta m = {.size = 77};

	wr_buf_add(&rec, payload, len);
	record(&out, tag, &rec);
	wr_buf_add8(&out, 0);
	assert_int_equal(decode(out.p, out.len, &m, &scratch), -1);
	assert_int_equal(m.size, 77); /* untouched */
	wr_buf_fini(&rec);
	wr_buf_fini(&out);
	wr_buf_fini(&scratch);
}

#define BAD(tag, payload) check_bad(tag, payload, sizeof(payload) - 1)

static void
test_meta_next__bad_records(WR_UNUSED void **state)
{
	/* mode, uid, user, gid, group, rdev, three times, size: each field out of its range */
	BAD(10, "\x41\0\0\0\0\0\0\0\0\0\0\0\0");                     /* mode -1 */
	BAD(10, "\x80\x80\x80\x80\x80\x01\0\0\0\0\0\0\0\0\0\0\0\0"); /* mode 2^34 */
	BAD(10, "\0\x41\0\0\0\0\0\0\0\0\0\0\0");                     /* uid -1 */
	BAD(10, "\0\0\0\x41\0\0\0\0\0\0\0\0\0");                     /* gid -1 */
	BAD(10, "\0\0\0\x80\x80\x80\x80\x20\0\0\0\0\0\0\0\0\0");     /* gid 2^32 */
	BAD(10, "\0\0\0\0\0\x41\0\0\0\0\0\0\0");                     /* rdev -1 */
	BAD(10, "\0\0\0\0\0\0\0\x80\x94\xeb\xdc\x03\0\0\0\0\0");     /* ns 10^9 */
	BAD(10, "\0\0\0\0\0\0\0\0\0\0\0\0\x42");                     /* size -2 */
	BAD(10, "\0\0\0\0\0\0\0\0\0\0\0\0");                         /* no size */
	BAD(10, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0");                     /* too long */
	BAD(10, "\0\0\x09\0\0\0\0\0\0\0\0\0\0\0");                   /* user cut */
	BAD(10, "");
	BAD(10, "\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\0\0"); /* 2^64 */
	BAD(2, "\x80\x80\x80\x80\x10\0\0\0\0\0\0\0\0\0\0\0"); /* v1 mode 2^32 */
	BAD(2, "\0\x80\x80\x80\x80\x10\0\0\0\0\0\0\0\0\0\0"); /* v1 uid 2^32 */
	BAD(6, "");
	BAD(6, "\x80");
	BAD(6, "\x01\x01");
	BAD(6, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");     /* 2^64 and more */
	BAD(6, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x00"); /* 11 groups */
	BAD(7, "");
	BAD(7, "\x01");
	BAD(7, "\x01\x01n");
	BAD(7, "\x02\x01n\x01v");
	BAD(7, "\x01\x01n\x02v");
	BAD(7, "\x00\x01n\x01v");
	BAD(7, "\x01\x01n\x01v+");
	BAD(7, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01n\x01v");
	BAD(11, "");
	BAD(11, "\0\0\0");
	BAD(11, "\0\0\0\x01");
	BAD(11, "\0\0\0\0\0");
	BAD(4, "\0\0\0\x01");
	BAD(10, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void
test_meta_next__largest_number(WR_UNUSED void **state)
{
	static const char entry[] =
	    "\x06\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"; /* and NUL */
	struct wr_buf scratch = WR_BUF_INIT;
	struct wr_meta m;

	assert_int_equal(decode(entry, sizeof(entry), &m, &scratch), 1);
	assert_true(m.attr == UINT64_MAX);
	wr_buf_fini(&scratch);
}

static void
test_meta_next__cut_or_changed_anywhere(WR_UNUSED void **state)
{
	struct wr_buf pairs = WR_BUF_INIT, out = WR_BUF_INIT, scratch = WR_BUF_INIT;
	struct wr_buf again = WR_BUF_INIT;
	struct wr_meta m = rich(&pairs), got;
	uint64_t seed = 13;
	size_t first;

	wr_meta_encode(&out, &m);
	first = out.len;
	wr_buf_add(&out, worked, sizeof(worked));
	for (size_t i = 0; i < out.len + 100000; i++) {
		size_t len = WR_MIN(i, out.len);
		uint8_t *copy = wr_memdup(out.p, len);
		struct wr_bytes raw;
		struct wr_rd r = wr_rd(copy, len);
		int n;

		if (i > out.len)
			for (size_t k = 1 + test_random(&seed) % 3; k--;)
				copy[test_random(&seed) % len] = (uint8_t)test_random(&seed);
		while ((n = wr_meta_next(&r, &got, &raw, &scratch, NULL)) > 0) {
			wr_buf_clear(&again); /* what was read can be written and compared */
			wr_meta_encode(&again, &got);
			assert_true(wr_meta_same(&got, &got));
			(void)wr_meta_same(&got, &m);
		}
		if (i <= out.len)
			assert_int_equal(n == 0, len == 0 || len == first || len == out.len);
		free(copy);
	}
	wr_buf_fini(&pairs);
	wr_buf_fini(&out);
	wr_buf_fini(&scratch);
	wr_buf_fini(&again);
}

/* ---- wr_meta_same ---- */

#define DIFFERS(change)                             \
	do {                                        \
		struct wr_meta b = a;               \
		b.change;                           \
		assert_false(wr_meta_same(&a, &b)); \
		assert_false(wr_meta_same(&b, &a)); \
	} while (0)
#define SAME(change)                               \
	do {                                       \
		struct wr_meta b = a;              \
		b.change;                          \
		assert_true(wr_meta_same(&a, &b)); \
		assert_true(wr_meta_same(&b, &a)); \
	} while (0)

static void
test_meta_same__what_a_user_sees(WR_UNUSED void **state)
{
	struct wr_buf pairs = WR_BUF_INIT;
	struct wr_meta a = rich(&pairs);

	DIFFERS(has_common = false);
	DIFFERS(mode = 0100645);
	DIFFERS(uid = 1);
	DIFFERS(gid = 1);
	DIFFERS(rdev = 1);
	DIFFERS(mtime.s = 1);
	DIFFERS(mtime.ns = 6);
	DIFFERS(size = 64);
	DIFFERS(symlink = BYTES("../targex"));
	DIFFERS(symlink = ((struct wr_bytes){0}));
	DIFFERS(hardlink = BYTES("/a/c"));
	DIFFERS(hardlink = ((struct wr_bytes){0}));
	DIFFERS(acl[1] = BYTES("u::rw-,u:2:r--,g::r--,m::r--,o::---"));
	DIFFERS(acl[3] = BYTES("u::rw-,g::r--,o::---"));
	DIFFERS(attr ^= 0x10); /* immutable */
	DIFFERS(attr ^= 0x40); /* nodump */
	DIFFERS(xattrs = BYTES("\x06user.a\x03"
			       "1\0\xfe\x0auser.empty\0"));
	DIFFERS(xattr_count = 0; b.xattrs = (struct wr_bytes){0});

	SAME(atime.s = 1);
	SAME(ctime.s = 1);
	SAME(user = BYTES("x"));
	SAME(group = BYTES("x"));
	SAME(acl[0] = BYTES("u::rw-,u:other:r--,g::r--,m::r--,o::---"));
	SAME(acl[2].p = NULL);
	SAME(attr ^= 0x80000); /* extents */
	SAME(attr ^= 0x1000);  /* indexed directory */
	SAME(xattrs = BYTES("\x0auser.empty\0\x06user.a\x03"
			    "1\0\xff"));

	a.mode = 010644; /* fifo: bup writes 0 or -1 */
	SAME(size = 0);
	SAME(size = -1);
	a.mode = 0120777;
	DIFFERS(size = 64);
	wr_buf_fini(&pairs);
}

static void
test_meta_same__acl_attributes(WR_UNUSED void **state)
{
	struct wr_buf one = WR_BUF_INIT, two = WR_BUF_INIT, plain = WR_BUF_INIT;
	struct wr_meta a = rich(&plain);

	wr_meta_xattr_add(&one, "system.posix_acl_access", 23, "1", 1);
	wr_meta_xattr_add(&two, "system.posix_acl_access", 23, "2", 1);
	a.xattr_count = 1;
	a.xattrs = (struct wr_bytes){one.p, one.len};
	DIFFERS(xattrs = ((struct wr_bytes){two.p, two.len}));
	DIFFERS(xattr_count = 0; b.xattrs = (struct wr_bytes){0});
	SAME(acl[1] = BYTES("u::rw-,u:unknown:r--,g::r--,m::r--,o::---"));
	wr_buf_fini(&one);
	wr_buf_fini(&two);
	wr_buf_fini(&plain);
}

/* A hostile pair of entries with very many attributes in opposite orders. */
static void
test_meta_same__many_xattrs(WR_UNUSED void **state)
{
	const uint32_t count = 100000;
	struct wr_buf up = WR_BUF_INIT, down = WR_BUF_INIT;
	struct wr_meta a = {.xattr_count = count}, b = a;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = count - 1 - i;

		wr_meta_xattr_add(&up, &i, sizeof(i), "", 0);
		wr_meta_xattr_add(&down, &k, sizeof(k), "", 0);
	}
	a.xattrs = (struct wr_bytes){up.p, up.len};
	b.xattrs = (struct wr_bytes){down.p, down.len};
	assert_true(wr_meta_same(&a, &b));
	down.p[1] ^= 0x80;
	assert_false(wr_meta_same(&a, &b));
	wr_buf_fini(&up);
	wr_buf_fini(&down);
}

/* ---- ACLs ---- */

static const char *
some_names(WR_UNUSED void *ctx, bool group, uint32_t id)
{
	if (id == 1)
		return group ? "staff" : "daemon";
	return id == 2 ? "a:b, c\\d" : NULL;
}

static void
test_acl__text_and_back(WR_UNUSED void **state)
{
	static const char text[] =
	    "u::rw-,u:1:r--,u:2:-w-,u:4294967290:--x,g::r-x,g:1:rwx,m::rwx,o::---";
	struct wr_buf x = WR_BUF_INIT, out = WR_BUF_INIT;

	assert_int_equal(wr_acl_parse(text, strlen(text), &x, NULL), 0);
	assert_int_equal(x.len, 4 + 8 * 8);
	assert_memory_equal(x.p, "\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x01\0\0\0",
			    20);
	assert_int_equal(wr_acl_text(x.p, x.len, NULL, NULL, &out, NULL), 0);
	assert_string_equal(wr_buf_str(&out), text);
	wr_buf_clear(&out);
	assert_int_equal(wr_acl_text(x.p, x.len, some_names, NULL, &out, NULL), 0);
	assert_string_equal(wr_buf_str(&out), "u::rw-,u:daemon:r--,u:a\\072b\\054\\040c\\134d:-w-,"
					      "u:4294967290:--x,g::r-x,g:staff:rwx,m::rwx,o::---");
	wr_buf_clear(&out);
	wr_acl_text_of_mode(0102751, &out);
	assert_string_equal(wr_buf_str(&out), "u::rwx,g::r-x,o::--x");
	wr_buf_clear(&x);
	assert_int_equal(wr_acl_parse(out.p, out.len, &x, NULL), 0);
	assert_int_equal(x.len, 4 + 3 * 8);
	wr_buf_fini(&x);
	wr_buf_fini(&out);
}

static void
test_acl__bad_input(WR_UNUSED void **state)
{
	static const char *const bad[] = {"",
					  ",",
					  "u::rwx",
					  "u::rwx,g::rwx",
					  "u::rwx,g::rwx,o::rwx,",
					  "u::rwx,g::rwx,o::rwx,o::rwx",
					  "u::rwx,u::rwx,g::rwx,o::rwx",
					  "u::rwx,u:1:rwx,g::rwx,o::rwx",
					  "u::rwx,g::rwx,m::rwx,m::rwx,o::rwx",
					  "u::rwx,u:me:rwx,g::rwx,m::rwx,o::rwx",
					  "u::rwx,u:4294967296:rwx,g::rwx,m::rwx,o::rwx",
					  "u::rwx,u:99999999999999999999:rwx,g::rwx,m::rwx,o::rwx",
					  "u::rwx,g::rwx,m:1:rwx,o::rwx",
					  "u::rwx,g::rwx,o:1:rwx",
					  "u::rw,g::rwx,o::rwx",
					  "u::xwr,g::rwx,o::rwx",
					  "u::rwxx,g::rwx,o::rwx",
					  "user::rwx,g::rwx,o::rwx",
					  "x::rwx,g::rwx,o::rwx",
					  "u:rwx,g::rwx,o::rwx",
					  "u:1rwx,g::rwx,o::rwx",
					  "u:11111",
					  "u::rwx\ng::rwx\no::rwx"};
	static const char ok[] = "\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff";
	struct wr_err err = WR_ERR_INIT;
	struct wr_buf out = WR_BUF_INIT;
	uint8_t x[12];

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		char *copy = wr_memdup(bad[i], strlen(bad[i]));

		wr_err_clear(&err);
		assert_int_equal(wr_acl_parse(copy, strlen(bad[i]), &out, &err), -1);
		assert_int_equal(err.code, WR_E_CORRUPT);
		assert_int_equal(out.len, 0);
		free(copy);
	}
	assert_int_equal(wr_acl_text(ok, 12, NULL, NULL, &out, NULL), 0);
	assert_string_equal(wr_buf_str(&out), "u::rwx");
	wr_buf_clear(&out);
	for (size_t len = 0; len < 12; len++)
		assert_int_equal(wr_acl_text(ok, len, NULL, NULL, &out, NULL), len == 4 ? 0 : -1);
	for (size_t at = 0; at < 8; at++) { /* version, tag, permissions */
		memcpy(x, ok, 12);
		x[at] ^= 0x88;
		assert_int_equal(wr_acl_text(x, 12, NULL, NULL, &out, NULL), -1);
	}
	assert_int_equal(out.len, 0);
	wr_buf_fini(&out);
}

/* ---- against real bup ---- */

static void
make_tree(void)
{
	assert_int_equal(
	    run(NULL, "umask 022 && mkdir -p src/sub/empty && cd src && "
		      "echo hello > file && echo x > odd.bup && ln -s file link && "
		      "ln file hard && mkfifo -m 600 fifo && echo s > suid && chmod 6755 suid && "
		      "touch -d '1969-12-31 23:59:58.5' old && "
		      "touch -d '2300-01-01 00:00:00.000000001' late && "
		      "head -c 100000 /dev/zero > large && echo a > acl && echo b > sub/inner && "
		      "touch -d '2020-02-02 02:02:02.123456789' sub"),
	    0);
}

static void
set_xattr(const char *file, const char *name, const void *p, size_t len)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/src/%s", test_dir, file);
	assert_int_equal(setxattr(path, name, p, len, 0), 0);
}

/* The .bupm of a directory of branch b; it may be a tree of chunks. */
static void
read_bupm(const char *dir, struct wr_buf *out)
{
	assert_int_equal(run(out,
			     "case $(git cat-file -t 'b:%s.bupm') in "
			     "blob) git cat-file blob 'b:%s.bupm';; "
			     "*) git ls-tree -r 'b:%s.bupm' | while read -r m t id n; do "
			     "git cat-file blob $id; done;; esac",
			     dir, dir, dir),
			 0);
	assert_true(out->len > 0);
}

static void
check_against_stat(const struct wr_meta *m, const char *path)
{
	char full[2048], target[100];
	struct stat st;

	snprintf(full, sizeof(full), "%s/src/%s", test_dir, path);
	assert_int_equal(lstat(full, &st), 0);
	assert_true(m->has_common);
	assert_int_equal(m->mode, st.st_mode);
	assert_int_equal(m->uid, st.st_uid);
	assert_int_equal(m->gid, st.st_gid);
	assert_int_equal(m->mtime.s, st.st_mtim.tv_sec);
	assert_int_equal(m->mtime.ns, st.st_mtim.tv_nsec);
	assert_int_equal(m->ctime.s, st.st_ctim.tv_sec);
	assert_int_equal(m->ctime.ns, st.st_ctim.tv_nsec);
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
		assert_int_equal(m->size, st.st_size);
	else
		assert_int_equal(m->size, -1);
	assert_int_equal(m->hardlink.p != NULL, S_ISREG(st.st_mode) && st.st_nlink > 1);
	assert_int_equal(m->symlink.p != NULL, S_ISLNK(st.st_mode));
	if (m->symlink.p) {
		ssize_t n = readlink(full, target, sizeof(target));

		assert_int_equal(m->symlink.len, n);
		assert_memory_equal(m->symlink.p, target, m->symlink.len);
	}
}

/* Names and numbers of the ACL as libacl wrote them for bup, against the attribute beside them. */
static size_t
check_acl(const struct wr_meta *m)
{
	static const char prefix[] = "system.posix_acl_";
	struct wr_rd r = wr_rd(m->xattrs.p, m->xattrs.len);
	struct wr_bytes name, value;
	size_t met = 0;

	while (wr_meta_xattr_next(&r, &name, &value) > 0) {
		struct wr_buf b = WR_BUF_INIT;
		size_t at;

		if (name.len < sizeof(prefix) || memcmp(name.p, prefix, sizeof(prefix) - 1) != 0)
			continue;
		at = name.p[sizeof(prefix) - 1] == 'a' ? 0 : 2; /* access or default */
		assert_int_equal(wr_acl_text(value.p, value.len, some_names, NULL, &b, NULL), 0);
		assert_bytes_are(&m->acl[at], wr_buf_str(&b), b.len);
		wr_buf_clear(&b);
		assert_int_equal(wr_acl_text(value.p, value.len, NULL, NULL, &b, NULL), 0);
		assert_bytes_are(&m->acl[at + 1], wr_buf_str(&b), b.len);
		wr_buf_clear(&b);
		assert_int_equal(wr_acl_parse(m->acl[at + 1].p, m->acl[at + 1].len, &b, NULL), 0);
		assert_int_equal(b.len, value.len);
		met++;
		wr_buf_fini(&b);
	}
	return met;
}

static void
check_dir(const char *dir, const char *const *names, size_t count, size_t *acls)
{
	struct wr_buf bupm = WR_BUF_INIT, again = WR_BUF_INIT, scratch = WR_BUF_INIT;
	struct wr_bytes raw;
	struct wr_meta m;
	struct wr_rd r;
	char path[1024];

	read_bupm(dir, &bupm);
	r = wr_rd(bupm.p, bupm.len);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(wr_meta_next(&r, &m, &raw, &scratch, NULL), 1);
		snprintf(path, sizeof(path), "%s%s", dir, names[i]);
		check_against_stat(&m, path);
		*acls += check_acl(&m);
		wr_meta_encode(&again, &m);
	}
	assert_int_equal(wr_meta_next(&r, &m, &raw, &scratch, NULL), 0);
	assert_int_equal(again.len, bupm.len);
	assert_memory_equal(again.p, bupm.p, bupm.len);
	wr_buf_fini(&bupm);
	wr_buf_fini(&again);
	wr_buf_fini(&scratch);
}

static void
test_meta__as_bup_writes(WR_UNUSED void **state)
{
	static const char acl[] =
	    "u::rw-,u:1:r--,u:54321:--x,g::r--,g:4294967290:r--,m::r-x,o::---";
	static const char *const top[] = {"",     "acl",  "fifo",    "file", "hard", "large",
					  "late", "link", "odd.bup", "old",  "suid"};
	static const char *const sub[] = {"", "inner"};
	static const char *const empty[] = {""};
	struct wr_buf x = WR_BUF_INIT;
	size_t acls = 0;

	make_tree();
	set_xattr("file", "user.binary", "\0\x01\xff", 3);
	set_xattr("file", "user.empty", "", 0);
	assert_int_equal(wr_acl_parse(acl, strlen(acl), &x, NULL), 0);
	set_xattr("acl", "system.posix_acl_access", x.p, x.len);
	set_xattr("sub", "system.posix_acl_default", x.p, x.len);
	assert_int_equal(run(NULL, "bup init 2>/dev/null && bup index src 2>/dev/null && "
				   "bup save -q --strip -n b src 2>/dev/null"),
			 0);
	check_dir("", top, WR_ARRAY_LEN(top), &acls);
	check_dir("sub/", sub, WR_ARRAY_LEN(sub), &acls);
	check_dir("sub/empty/", empty, 1, &acls);
	assert_int_equal(acls, 2);
	wr_buf_fini(&x);
}

/* What is written here, bup reads: an entry with every record, listed and restored by it. */
static void
test_meta__bup_reads_what_is_encoded(WR_UNUSED void **state)
{
	struct wr_buf bupm = WR_BUF_INIT, tree = WR_BUF_INIT, out = WR_BUF_INIT,
		      pairs = WR_BUF_INIT;
	struct wr_meta m = {.has_common = true, .mode = 040755, .size = -1};
	struct wr_id id;

	m.uid = getuid();
	m.gid = getgid();
	m.mtime.s = 86400;
	wr_meta_encode(&bupm, &m);
	m.mode = 0100640;
	m.size = 5;
	m.mtime = (struct wr_ts){-1, 500000000};
	wr_meta_xattr_add(&pairs, "user.k", 6, "value", 5);
	m.xattr_count = 1;
	m.xattrs = (struct wr_bytes){pairs.p, pairs.len};
	wr_meta_encode(&bupm, &m);

	assert_int_equal(run(NULL, "bup init 2>/dev/null"), 0);
	id = git_hash("-w -t blob", bupm.p, bupm.len);
	wr_tree_add(&tree, WR_MODE_FILE, ".bupm", 5, &id);
	id = git_hash("-w -t blob", "hello", 5);
	wr_name_mangle(&out, "f.bup", 5, false);
	wr_tree_add(&tree, WR_MODE_FILE, out.p, out.len, &id);
	id = git_hash("-w -t tree", tree.p, tree.len);
	assert_int_equal(run(NULL,
			     "GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a "
			     "GIT_COMMITTER_EMAIL=a; export GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL "
			     "GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL; "
			     "git update-ref refs/heads/b $(git commit-tree -m m %s)",
			     wr_id_hex(&id).s),
			 0);
	assert_int_equal(run(&out, "bup ls -ln /b/latest 2>&1"), 0);
	assert_non_null(strstr(wr_buf_str(&out), "-rw-r-----"));
	assert_non_null(strstr(wr_buf_str(&out), " f.bup\n"));
	assert_int_equal(run(NULL, "bup restore -q -C back /b/latest/. >/dev/null 2>&1"), 0);
	assert_int_equal(run(&out, "cd back && stat -c '%%a %%s %%.9Y' f.bup && cat f.bup"), 0);
	assert_string_equal(wr_buf_str(&out), "640 5 -0.500000000\nhello");
	wr_buf_fini(&bupm);
	wr_buf_fini(&tree);
	wr_buf_fini(&out);
	wr_buf_fini(&pairs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_meta__worked_example),
	    cmocka_unit_test(test_meta_encode__round_trip),
	    cmocka_unit_test(test_meta_encode__edges),
	    cmocka_unit_test(test_meta_next__old_versions_and_unknown_tags),
	    cmocka_unit_test(test_meta_next__bad_records),
	    cmocka_unit_test(test_meta_next__largest_number),
	    cmocka_unit_test(test_meta_next__cut_or_changed_anywhere),
	    cmocka_unit_test(test_meta_same__what_a_user_sees),
	    cmocka_unit_test(test_meta_same__acl_attributes),
	    cmocka_unit_test(test_meta_same__many_xattrs),
	    cmocka_unit_test(test_acl__text_and_back),
	    cmocka_unit_test(test_acl__bad_input),
	    cmocka_unit_test_setup_teardown(test_meta__as_bup_writes, setup_dir, teardown_dir),
	    cmocka_unit_test_setup_teardown(test_meta__bup_reads_what_is_encoded, setup_dir,
					    teardown_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
