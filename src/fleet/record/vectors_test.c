/* SPDX-License-Identifier: Apache-2.0 */
/* doc/format/records.md against the code: vectors, keys, offsets, the table of messages. */
#include <setjmp.h>
#include <stdint.h>

#include "fleet/record/test_values.h"

#include <cmocka.h>

#ifndef WR_RECORDS_DOC /* the build says where it is */
#define WR_RECORDS_DOC "doc/format/records.md"
#endif
#define CELLS 8

/* The document, its lines cut; each test walks along them. */
static struct wr_buf doc;

static int
load(void **state)
{
	char part[4096];
	size_t n;
	FILE *f;

	(void)state;
	f = fopen(WR_RECORDS_DOC, "re");
	if (!f)
		return -1;
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		wr_buf_add(&doc, part, n);
	fclose(f);
	wr_buf_add8(&doc, '\0');
	for (size_t i = 0; i < doc.len; i++)
		if (doc.p[i] == '\n')
			doc.p[i] = '\0';
	return 0;
}

static int
unload(void **state)
{
	(void)state;
	wr_buf_fini(&doc);
	return 0;
}

/* The line behind this one, the first one behind NULL; NULL behind the last. */
static const char *
next_line(const char *line)
{
	const char *end = (const char *)doc.p + doc.len;

	line = line ? line + strlen(line) + 1 : (const char *)doc.p;
	return line < end ? line : NULL;
}

/* The cells of a row, without blanks and backquotes around them; 0 if it is none. */
static size_t
cells(const char *line, char out[CELLS][1024])
{
	size_t count = 0;

	while (*line == '|' && line[1] && count < CELLS) {
		const char *from = line + 1, *to = strchr(from, '|');

		if (!to)
			break;
		line = to;
		while (from < to && strchr(" `", *from))
			from++;
		while (to > from && strchr(" `", to[-1]))
			to--;
		snprintf(out[count++], 1024, "%.*s", (int)(to - from), from);
	}
	return count;
}

static size_t
number(const char *s, char **end)
{
	return (size_t)strtoul(s, end, 10);
}

static void
add_hex(struct wr_buf *b, const char *hex)
{
	while (*hex) {
		char two[3] = {hex[0], hex[1], '\0'}, *end;

		wr_buf_add8(b, (uint8_t)strtoul(two, &end, 16));
		assert_true(end == two + 2);
		hex += 2;
	}
}

static void
test_doc__vectors(void **state)
{
	unsigned count = 0;

	(void)state;
	for (const char *l = next_line(NULL); l; l = next_line(l)) {
		WR_SCOPED(wr_buf_fini) struct wr_buf have = WR_BUF_INIT, want = WR_BUF_INIT;
		struct wr_err err = WR_ERR_INIT;
		enum test_kind k = 0;

		if (strncmp(l, "```hex ", 7) != 0)
			continue;
		while (k < TEST_KINDS && strcmp(test_kind_name[k], l + 7) != 0)
			k++;
		assert_true(k < TEST_KINDS);
		while ((l = next_line(l)) && *l != '`')
			add_hex(&have, l);
		assert_non_null(l);
		test_encoded(k, &want);
		assert_int_equal(have.len, want.len);
		assert_memory_equal(have.p, want.p, have.len);
		assert_true(test_good(k, have.p, have.len, &err));
		count++;
	}
	assert_int_equal(count, TEST_KINDS);
}

/* So that document and code do not change together, unseen: these change with a new format only. */
static void
test_doc__vectors_are_for_ever(void **state)
{
	static const char *const digest[TEST_KINDS] = {
	    [TEST_RECORD] = "7b4e60b9e3d4e1caf78f1922362561dead92c3a9ac1c53c7b2a01d930f2935a7",
	    [TEST_SAVE] = "9f612d7d29d998d31af656b751c4d358389392b0b01316caa2791bd6113238fe",
	    [TEST_SETTINGS] = "e1ad61d95947a22f49901ec2b328e3d5b6a05d15d2d8612be672754ba435ae34",
	    [TEST_GRANT] = "beaa1d118fb44ad5936711da68fbb142dcfa69ccb285190834488a181aa52b29",
	    [TEST_FLEET] = "7f55651b5c62bc766543247fcd97a287029762f49b46f7df44ffee942ec10aec",
	    [TEST_MESSAGE] = "66cbb4d3da042ac8400d1096ed416fd0f2710d66457d7149dd682a9de95ac09a",
	};

	(void)state;
	for (enum test_kind k = 0; k < TEST_KINDS; k++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT, want = WR_BUF_INIT;
		struct wr_digest d;

		test_encoded(k, &b);
		d = wr_digest_of(b.p, b.len);
		add_hex(&want, digest[k]);
		assert_memory_equal(d.b, want.p, sizeof(d.b));
	}
}

static void
test_doc__keys(void **state)
{
	unsigned count = 0;
	char c[CELLS][1024];
	const char *l = NULL;

	(void)state;
	while ((l = next_line(l)) && strncmp(l, "| Key |", 7) != 0)
		;
	assert_non_null(l);
	l = next_line(l);
	while ((l = next_line(l)) && cells(l, c) == 3) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		struct wr_pub pub = test_key(count).pub;

		assert_int_equal(number(c[0], NULL), count);
		add_hex(&b, c[2]);
		assert_int_equal(b.len, sizeof(pub.b));
		assert_memory_equal(b.p, pub.b, sizeof(pub.b));
		count++;
	}
	assert_int_equal(count, 6);
}

/* In each layout an offset is the sum of the sizes before it; what has no fixed one has none. */
static void
test_doc__offsets(void **state)
{
	unsigned tables = 0;
	char c[CELLS][1024];
	const char *l = NULL;

	(void)state;
	while ((l = next_line(l))) {
		bool fixed = true;
		size_t at = 0;

		if (strncmp(l, "| Offset | Size |", 17) != 0)
			continue;
		tables++;
		l = next_line(l);
		while ((l = next_line(l)) && cells(l, c) == 4) {
			char *end;

			assert_int_equal(*c[0] != '\0', fixed);
			if (fixed)
				assert_int_equal(number(c[0], NULL), at);
			at += number(c[1], &end);
			fixed = fixed && !*end && end != c[1];
		}
	}
	assert_int_equal(tables, TEST_KINDS);
}

static void
test_doc__messages(void **state)
{
	unsigned count = 0, known = 0;
	char c[CELLS][1024];
	const char *l = NULL;

	(void)state;
	while ((l = next_line(l)) && strncmp(l, "| Number | Kind |", 17) != 0)
		;
	assert_non_null(l);
	l = next_line(l);
	while ((l = next_line(l)) && cells(l, c) == 3) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		enum wr_msg_kind k = (enum wr_msg_kind)number(c[0], NULL);
		const char *f;

		assert_string_equal(c[1], wr_msg_kind_name(k));
		for (size_t i = 0; (f = wr_msg_field_name(k, i)); i++)
			wr_buf_addf(&b, "%s%s", i ? ", " : "", f);
		assert_string_equal(c[2], b.len ? wr_buf_str(&b) : "none");
		count++;
	}
	for (unsigned k = 0; k < 1000; k++)
		known += strcmp(wr_msg_kind_name(k), "?") != 0;
	assert_int_equal(count, known);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_doc__vectors),  cmocka_unit_test(test_doc__vectors_are_for_ever),
	    cmocka_unit_test(test_doc__keys),     cmocka_unit_test(test_doc__offsets),
	    cmocka_unit_test(test_doc__messages),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
