/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/object/id.h"
#include "engine/object/test_util.h"

static void
test_id_hex__round_trip(WR_UNUSED void **state)
{
	static const char hex[] = "0123456789abcdef0123456789abcdef01234567";
	struct wr_id id, upper, zero = {{0}};

	assert_true(wr_id_parse(hex, &id));
	assert_string_equal(wr_id_hex(&id).s, hex);
	assert_string_equal(wr_id_short(&id).s, "0123456789");
	assert_true(wr_id_parse("0123456789ABCDEF0123456789abCDEF01234567 and more", &upper));
	assert_id_equal(&id, &upper);
	assert_false(wr_id_is_zero(&id));
	assert_true(wr_id_is_zero(&zero));
	assert_true(wr_id_eq(&id, &upper));
	assert_true(wr_id_cmp(&zero, &id) < 0);
}

static void
test_id_parse__refuses_at_every_place(WR_UNUSED void **state)
{
	static const char bad[] = "gG/:@`\x7f\xff\n ";
	struct wr_id id = {{42}}, before = id;
	char s[41];

	for (size_t at = 0; at < 40; at++) {
		for (size_t b = 0; b < sizeof(bad); b++) { /* with the NUL: a short string */
			memset(s, 'a', 40);
			s[40] = '\0';
			s[at] = bad[b];
			assert_false(wr_id_parse(s, &id));
			assert_id_equal(&id, &before);
		}
	}
}

static void
test_obj_type__names(WR_UNUSED void **state)
{
	static const enum wr_obj_type t[] = {WR_OBJ_COMMIT, WR_OBJ_TREE, WR_OBJ_BLOB, WR_OBJ_TAG};

	for (size_t i = 0; i < WR_ARRAY_LEN(t); i++) {
		const char *name = wr_obj_type_name(t[i]);

		assert_int_equal(wr_obj_type_parse(name, strlen(name)), t[i]);
		assert_int_equal(wr_obj_type_parse(name, strlen(name) - 1), WR_OBJ_NONE);
	}
	assert_string_equal(wr_obj_type_name(WR_OBJ_NONE), "?");
	assert_string_equal(wr_obj_type_name(WR_OBJ_OFS_DELTA), "?");
	assert_int_equal(wr_obj_type_parse("blobs", 5), WR_OBJ_NONE);
	assert_int_equal(wr_obj_type_parse("", 0), WR_OBJ_NONE);
}

static void
test_obj_id__as_git_hashes(WR_UNUSED void **state)
{
	static const size_t size[] = {0,  1,  9,  10, 54,  55,   56,    57,
				      63, 64, 65, 99, 100, 4096, 100001};
	uint8_t *p = wr_malloc(100001);
	uint64_t seed = 1;
	struct wr_id id;

	for (size_t i = 0; i < 100001; i++)
		p[i] = (uint8_t)test_random(&seed);
	assert_int_equal(run(NULL, "git init -q --bare repo"), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(size); i++) {
		struct wr_id theirs = git_hash("-t blob", p, size[i]);

		id = wr_obj_id(WR_OBJ_BLOB, p, size[i]);
		assert_id_equal(&id, &theirs);
	}
	id = wr_obj_id(WR_OBJ_TREE, "", 0);
	assert_string_equal(wr_id_hex(&id).s, "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
	free(p);
}

static void
test_sha1__in_pieces(WR_UNUSED void **state)
{
	static const char text[] = "commit 5\0hello";
	struct wr_id want = wr_obj_id(WR_OBJ_COMMIT, "hello", 5), got;
	struct wr_sha1 h;

	for (size_t cut = 0; cut < sizeof(text); cut++) {
		wr_sha1_init(&h);
		wr_sha1_add(&h, text, cut);
		wr_sha1_add(&h, text + cut, sizeof(text) - 1 - cut);
		got = wr_sha1_end(&h);
		assert_id_equal(&got, &want);
	}
	wr_sha1_init(&h);
	wr_sha1_add(&h, "abc", 3);
	got = wr_sha1_end(&h);
	assert_string_equal(wr_id_hex(&got).s, "a9993e364706816aba3e25717850c26c9cd0d89d");
}

/* Lengths around blocks, beginnings within one, and where one of the two is much longer. */
static void
test_sha1__two_at_a_time(WR_UNUSED void **state)
{
	static const size_t len[] = {0, 1, 11, 55, 63, 64, 65, 127, 128, 200, 1000, 70000};
	static const size_t begun[] = {0, 1, 12, 63, 64};
	uint8_t *p = wr_malloc(2 * 70000), *q = p + 70000;

	for (size_t i = 0; i < 70000; i++) {
		p[i] = (uint8_t)(i * 7 + (i >> 8));
		q[i] = (uint8_t)(i * 13 + (i >> 9));
	}
	for (size_t n = 0; n < WR_ARRAY_LEN(begun) * WR_ARRAY_LEN(len) * WR_ARRAY_LEN(len); n++) {
		const size_t a = len[n % WR_ARRAY_LEN(len)];
		const size_t b = len[n / WR_ARRAY_LEN(len) % WR_ARRAY_LEN(len)];
		const size_t k = begun[n / WR_ARRAY_LEN(len) / WR_ARRAY_LEN(len)];
		struct wr_sha1 one[2], two[2];

		for (int i = 0; i < 2; i++) {
			wr_sha1_init(&one[i]);
			/* The first of the two alone is in the middle of a block. */
			wr_sha1_add(&one[i], q, i ? 0 : k);
			two[i] = one[i];
		}
		wr_sha1_add(&one[0], p, a);
		wr_sha1_add(&one[1], q, b);
		wr_sha1_add_two(&two[0], p, a, &two[1], q, b);
		for (int i = 0; i < 2; i++) {
			struct wr_id want, got;

			/* It can go on with either. */
			wr_sha1_add(&one[i], p, 77);
			wr_sha1_add(&two[i], p, 77);
			want = wr_sha1_end(&one[i]);
			got = wr_sha1_end(&two[i]);
			assert_id_equal(&got, &want);
		}
	}
	free(p);
}

static void
test_sha1__of_an_object(WR_UNUSED void **state)
{
	struct wr_id want = wr_obj_id(WR_OBJ_TREE, "hello", 5), got;
	struct wr_sha1 h;

	wr_sha1_init_obj(&h, WR_OBJ_TREE, 5);
	wr_sha1_add(&h, "hello", 5);
	got = wr_sha1_end(&h);
	assert_id_equal(&got, &want);
}

static struct wr_id
numbered(uint32_t n)
{
	return wr_obj_id(WR_OBJ_BLOB, &n, sizeof(n));
}

static void
test_idmap__holds_what_was_put(WR_UNUSED void **state)
{
	const uint32_t count = 10000;
	struct wr_idmap m = WR_IDMAP_INIT;
	uint8_t *seen = wr_calloc(count, 1);
	struct wr_idmap_slot *s;
	size_t met = 0;
	bool is_new;

	for (uint32_t i = 0; i < count; i++) {
		struct wr_id id = numbered(i);

		assert_null(wr_idmap_find(&m, &id));
		uint64_t *v = wr_idmap_put(&m, &id, &is_new);
		assert_true(is_new);
		assert_int_equal(*v, 0);
		*v = (uint64_t)i + 1;
		v = wr_idmap_put(&m, &id, &is_new);
		assert_false(is_new);
		assert_int_equal(*v, i + 1);
	}
	assert_int_equal(m.count, count);
	for (uint32_t i = 0; i < 2 * count; i++) {
		struct wr_id id = numbered(i);
		uint64_t *v = wr_idmap_find(&m, &id);

		if (i < count)
			assert_int_equal(*v, i + 1);
		else
			assert_null(v);
	}
	for (size_t i = 0; (s = wr_idmap_next(&m, &i)); met++) {
		assert_in_range(s->value, 1, count);
		assert_false(seen[s->value - 1]);
		seen[s->value - 1] = 1;
	}
	assert_int_equal(met, count);
	wr_idmap_fini(&m);
	wr_idmap_fini(&m);
	free(seen);
}

/* Ids that share their first or last 16 bytes still spread: no lookup walks far. */
static void
test_idmap__ids_of_a_pattern_spread(WR_UNUSED void **state)
{
	for (size_t at = 0; at <= 16; at += 4) {
		struct wr_idmap m = WR_IDMAP_INIT;
		size_t run_len = 0, longest = 0;

		for (uint32_t i = 0; i < 50000; i++) {
			struct wr_id id = {{0}};

			memcpy(id.b + at, &i, sizeof(i));
			wr_idmap_put(&m, &id, NULL);
		}
		for (size_t i = 0; i < m.cap; i++) {
			run_len = m.slot[i].used ? run_len + 1 : 0;
			longest = WR_MAX(longest, run_len);
		}
		assert_in_range(longest, 1, 2000);
		wr_idmap_fini(&m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_id_hex__round_trip),
	    cmocka_unit_test(test_id_parse__refuses_at_every_place),
	    cmocka_unit_test(test_obj_type__names),
	    cmocka_unit_test_setup_teardown(test_obj_id__as_git_hashes, setup_dir, teardown_dir),
	    cmocka_unit_test(test_sha1__in_pieces),
	    cmocka_unit_test(test_sha1__two_at_a_time),
	    cmocka_unit_test(test_sha1__of_an_object),
	    cmocka_unit_test(test_idmap__holds_what_was_put),
	    cmocka_unit_test(test_idmap__ids_of_a_pattern_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
