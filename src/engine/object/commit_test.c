/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/object/commit.h"
#include "engine/object/test_util.h"

#include <regex.h>

#define TREE "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
#define P1 "1111111111111111111111111111111111111111"
#define P2 "2222222222222222222222222222222222222222"
#define WHO "A U Thor <a@example.org> 1700000000 +0545"
#define HEADS "tree " TREE "\nauthor " WHO "\ncommitter " WHO "\n"

static int
parse(const char *text, struct wr_commit *c)
{
	struct wr_err err = WR_ERR_INIT;
	char *copy = wr_memdup(text, strlen(text)); /* no NUL behind it */
	int n = wr_commit_parse(copy, strlen(text), c, &err);

	free(copy);
	assert_int_equal(n < 0, err.code == WR_E_CORRUPT);
	return n;
}

static void
test_commit_parse__plain(WR_UNUSED void **state)
{
	struct wr_commit c = WR_COMMIT_INIT;

	assert_int_equal(parse("tree " TREE "\nparent " P1 "\nparent " P2 "\nauthor " WHO
			       "\ncommitter C <> 1700000001 -0130\n\nsubject\n\nbody\n",
			       &c),
			 0);
	assert_string_equal(wr_id_hex(&c.tree).s, TREE);
	assert_int_equal(c.parent_count, 2);
	assert_string_equal(wr_id_hex(&c.parent[0]).s, P1);
	assert_string_equal(wr_id_hex(&c.parent[1]).s, P2);
	assert_string_equal(c.author, "A U Thor <a@example.org>");
	assert_string_equal(c.committer, "C <>");
	assert_int_equal(c.author_time, 1700000000);
	assert_int_equal(c.committer_time, 1700000001);
	assert_int_equal(c.author_zone, 5 * 60 + 45);
	assert_string_equal(c.message, "subject\n\nbody\n");
	wr_commit_fini(&c);
	wr_commit_fini(&c);
}

static void
test_commit_parse__further_headers(WR_UNUSED void **state)
{
	struct wr_commit c = WR_COMMIT_INIT;

	assert_int_equal(parse(HEADS
			       "encoding ISO-8859-1\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n"
			       " abcd\n -----END PGP SIGNATURE-----\n"
			       "mergetag object " P1 "\n type commit\n \n parent " P2 "\n"
			       "\nm",
			       &c),
			 0);
	assert_int_equal(c.parent_count, 0);
	assert_string_equal(c.message, "m");
	wr_commit_fini(&c);
	assert_int_equal(parse(HEADS, &c), 0); /* git reads it as an empty message */
	assert_string_equal(c.message, "");
	wr_commit_fini(&c);
	assert_int_equal(parse(HEADS "\n", &c), 0);
	assert_string_equal(c.message, "");
	wr_commit_fini(&c);
	assert_int_equal(
	    parse("tree " TREE "\nauthor  <x> 0 -0000\ncommitter <a>b> 9 +1400\n\n", &c), 0);
	assert_int_equal(c.author_time, 0);
	assert_string_equal(c.committer, "<a>b>");
	wr_commit_fini(&c);
}

static void
test_commit_parse__damage(WR_UNUSED void **state)
{
	static const char *const bad[] = {
	    "",
	    "tree " TREE,
	    "tree " TREE "\n",
	    "tree 4b825dc642cb6eb9a060e54bf8d69288fbee490\nauthor " WHO "\ncommitter " WHO "\n\n",
	    "tree " TREE "a\nauthor " WHO "\ncommitter " WHO "\n\n",
	    "Tree " TREE "\nauthor " WHO "\ncommitter " WHO "\n\n",
	    "parent " P1 "\ntree " TREE "\nauthor " WHO "\ncommitter " WHO "\n\n",
	    "tree " TREE "\nparent xx\nauthor " WHO "\ncommitter " WHO "\n\n",
	    "tree " TREE "\nfoo bar\nauthor " WHO "\ncommitter " WHO "\n\n",
	    "tree " TREE "\nauthor " WHO "\n\n",
	    "tree " TREE "\ncommitter " WHO "\n\n",
	    "tree " TREE "\nauthor " WHO "\ncommitter " WHO,
	    "tree " TREE "\nauthor " WHO "\nparent " P1 "\ncommitter " WHO "\n\n",
	    HEADS "gpgsig cut",
	    HEADS " continues nothing\n\n",
	};
	static const char *const bad_who[] = {
	    "",
	    "A a@b 1 +0000",
	    "A >a< 1 +0000",
	    "A <a>",
	    "A <a> ",
	    "A <a>1 +0000",
	    "A <a> 1",
	    "A <a> 1 ",
	    "A <a> x +0000",
	    "A <a> -5 +0000",
	    "A <a> 1x +0000",
	    "A <a>  1 +0000",
	    "A <a> 1 0000",
	    "A <a> 1 +000",
	    "A <a> 1 +00000",
	    "A <a> 1 +0060",
	    "A <a> 1 +0a00",
	    "A <a> 9223372036854775808 +0000",
	    "A <a> 99999999999999999999999 +0000",
	};
	struct wr_commit c = {.parent_count = 77};

	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++)
		assert_int_equal(parse(bad[i], &c), -1);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad_who); i++) {
		char *s =
		    wr_asprintf("tree " TREE "\nauthor %s\ncommitter " WHO "\n\n", bad_who[i]);

		assert_int_equal(parse(s, &c), -1);
		free(s);
		s = wr_asprintf("tree " TREE "\nauthor " WHO "\ncommitter %s\n\n", bad_who[i]);
		assert_int_equal(parse(s, &c), -1);
		free(s);
	}
	assert_int_equal(wr_commit_parse(HEADS "x\0y\n\n", sizeof(HEADS "x\0y\n\n") - 1, &c, NULL),
			 -1);
	assert_int_equal(c.parent_count, 77); /* untouched */
}

static void
test_commit_parse__cut_or_changed_anywhere(WR_UNUSED void **state)
{
	static const char text[] = "tree " TREE "\nparent " P1 "\nauthor " WHO "\ncommitter " WHO
				   "\ngpgsig a\n b\n\nmessage";
	const size_t len = sizeof(text) - 1;
	uint64_t seed = 11;

	for (size_t i = 0; i < len + 20000; i++) {
		char *copy = wr_memdup(text, len);
		size_t n = i < len ? i : len;
		struct wr_commit c = WR_COMMIT_INIT;

		if (i >= len)
			for (size_t k = 1 + test_random(&seed) % 3; k--;)
				copy[test_random(&seed) % len] = (char)test_random(&seed);
		if (i < len)
			copy = wr_realloc(copy, n);
		if (wr_commit_parse(copy, n, &c, NULL) == 0)
			assert_true(strlen(c.author) < len && strlen(c.message) <= len);
		wr_commit_fini(&c);
		free(copy);
	}
}

/* Commits that git itself writes, with all it puts into them. */
static void
test_commit_parse__written_by_git(WR_UNUSED void **state)
{
	struct wr_buf out = WR_BUF_INIT;
	struct wr_commit c = WR_COMMIT_INIT;

	assert_int_equal(
	    run(&out,
		"git init -q --bare repo && T=$(git mktree </dev/null) && "
		"export GIT_AUTHOR_NAME='J. Ö' GIT_AUTHOR_EMAIL=j@x "
		"GIT_AUTHOR_DATE='1234567890 -0330' GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@y "
		"GIT_COMMITTER_DATE='1234567891 +1245' && "
		"A=$(git commit-tree -m a $T) && B=$(git commit-tree -m b $T) && "
		"git -c i18n.commitEncoding=ISO-8859-1 commit-tree -p $A -p $B -m 'c d' $T > last "
		"&& "
		"git cat-file commit $(cat last)"),
	    0);
	assert_non_null(strstr(wr_buf_str(&out), "\nencoding "));
	assert_int_equal(wr_commit_parse(out.p, out.len, &c, NULL), 0);
	assert_int_equal(c.parent_count, 2);
	assert_string_equal(c.author, "J. \xc3\x96 <j@x>");
	assert_int_equal(c.author_time, 1234567890);
	assert_int_equal(c.author_zone, -(3 * 60 + 30));
	assert_int_equal(c.committer_time, 1234567891);
	assert_string_equal(c.message, "c d\n");
	wr_commit_fini(&c);
	wr_buf_fini(&out);
}

static void
test_commit_format__round_trip(WR_UNUSED void **state)
{
	struct wr_buf b = WR_BUF_INIT;
	struct wr_commit c = WR_COMMIT_INIT;
	struct wr_id tree, parent;

	assert_true(wr_id_parse(TREE, &tree) && wr_id_parse(P1, &parent));
	wr_commit_format(&b, &tree, &parent, "a b <c@d>", 1234, "line\n\nX: y\n");
	assert_string_equal(wr_buf_str(&b),
			    "tree " TREE "\nparent " P1 "\nauthor a b <c@d> 1234 +0000\n"
			    "committer a b <c@d> 1234 +0000\n\nline\n\nX: y\n");
	assert_int_equal(wr_commit_parse(b.p, b.len, &c, NULL), 0);
	assert_id_equal(&c.parent[0], &parent);
	assert_string_equal(c.message, "line\n\nX: y\n");
	wr_commit_fini(&c);
	wr_buf_clear(&b);
	wr_commit_format(&b, &tree, NULL, "a <b>", -5, "");
	assert_int_equal(wr_commit_parse(b.p, b.len, &c, NULL), 0);
	assert_int_equal(c.parent_count, 0);
	assert_int_equal(c.author_time, 0);
	wr_commit_fini(&c);
	wr_buf_fini(&b);
}

/* bup's rule of what may stand in a commit, written down a second time. */
#define S "[^ .,:;<>\"'\n]"
#define PART "(" S "{1,2}|" S "[^<>\n]*" S ")"

static void
test_ident__fits_bup_s_expression(WR_UNUSED void **state)
{
	static const char alphabet[] = " .,:;<>\"'\n\t\x01\x7f"
				       "ab]["
				       "\xc3\xbc\xff\\";
	uint64_t seed = 5;
	regex_t re;

	assert_int_equal(regcomp(&re, "^" PART " <" PART ">$", REG_EXTENDED | REG_NOSUB), 0);
	/* The expression itself refuses what is known to break bup. */
	assert_int_equal(regexec(&re, "J. R. <a>", 0, NULL, 0), REG_NOMATCH);
	assert_int_equal(regexec(&re, "\"Q\" <a>", 0, NULL, 0), REG_NOMATCH);
	assert_int_equal(regexec(&re, "A <>", 0, NULL, 0), REG_NOMATCH);
	assert_int_equal(regexec(&re, "A <a@host.>", 0, NULL, 0), REG_NOMATCH);
	assert_int_equal(regexec(&re, "A. B] <a@b.c>", 0, NULL, 0), 0);
	for (size_t i = 0; i < 100000; i++) {
		char name[10], mail[10], *ident;

		for (size_t k = 0; k < sizeof(name); k++) {
			name[k] = alphabet[test_random(&seed) % (sizeof(alphabet) - 1)];
			mail[k] = alphabet[test_random(&seed) % (sizeof(alphabet) - 1)];
		}
		name[test_random(&seed) % sizeof(name)] = '\0';
		mail[test_random(&seed) % sizeof(mail)] = '\0';
		ident = wr_ident(name, mail);
		if (regexec(&re, ident, 0, NULL, 0) != 0)
			fail_msg("'%s' for '%s' and '%s'", WR_Q(ident), WR_Q(name), WR_Q(mail));
		free(ident);
	}
	regfree(&re);
}

static const struct {
	const char *name, *mail, *want;
} idents[] = {
    {"Jane Doe", "jane@host", "Jane Doe <jane@host>"},
    {"J. R.", "j@host.", "J. R <j@host>"},
    {"\"Q\"", "q@h", "Q <q@h>"},
    {"A", "", "A <unknown>"},
    {"", "", "unknown <unknown>"},
    {NULL, NULL, "unknown <unknown>"},
    {" .,:;<>\"'\n", "...", "unknown <unknown>"},
    {"Jon Doe Jr.", "<jon@h>", "Jon Doe Jr <jon@h>"},
    {"a\nb", "c\td", "a b <c d>"},
    {"x", "y", "x <y>"},
    {"a<b>c", "'a'", "abc <a>"},
    {"\xc3\x96zg\xc3\xbcr", "\xff@h", "\xc3\x96zg\xc3\xbcr <\xff@h>"},
    {"O'Neil, Pat", "p.o@h", "O'Neil, Pat <p.o@h>"},
    {"a <b", "b> c", "a b <b c>"},
};

static void
test_ident__examples(WR_UNUSED void **state)
{
	for (size_t i = 0; i < WR_ARRAY_LEN(idents); i++) {
		char *s = wr_ident(idents[i].name, idents[i].mail);

		assert_string_equal(s, idents[i].want);
		free(s);
	}
}

/* The judge: bup lists a repository whose commits carry these names, and would not otherwise. */
static void
test_ident__bup_lists_the_branches(WR_UNUSED void **state)
{
	struct wr_buf b = WR_BUF_INIT, out = WR_BUF_INIT;
	struct wr_id tree = wr_obj_id(WR_OBJ_TREE, "", 0), id;

	assert_int_equal(run(NULL, "bup init 2>/dev/null && git mktree </dev/null >/dev/null"), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(idents); i++) {
		char *ident = wr_ident(idents[i].name, idents[i].mail);

		wr_buf_clear(&b);
		wr_commit_format(&b, &tree, NULL, ident, 1700000000, "m");
		id = git_hash("-w -t commit", b.p, b.len);
		assert_int_equal(
		    run(NULL, "git update-ref refs/heads/b%zu %s", i, wr_id_hex(&id).s), 0);
		assert_int_equal(run(&out, "bup ls /b%zu 2>&1", i), 0);
		assert_non_null(strstr(wr_buf_str(&out), "2023-11-14-221320"));
		free(ident);
	}
	assert_int_equal(run(NULL, "git fsck --strict >/dev/null 2>&1"), 0);
	assert_int_equal(run(NULL, "bup ls / >/dev/null 2>&1"), 0);

	wr_buf_clear(&b);
	wr_commit_format(&b, &tree, NULL, "J. R. <a@b>", 1700000000, "m");
	id = git_hash("-w -t commit", b.p, b.len);
	assert_int_equal(run(NULL, "git update-ref refs/heads/bad %s", wr_id_hex(&id).s), 0);
	assert_int_not_equal(run(NULL, "bup ls /bad >/dev/null 2>&1"), 0);
	wr_buf_fini(&b);
	wr_buf_fini(&out);
}

static void
check_trailer(const char *message, const char *key, const char *want)
{
	struct wr_commit c = {.message = wr_strdup(message)};
	char *got = wr_commit_trailer(&c, key);

	if (want) {
		assert_non_null(got);
		assert_string_equal(got, want);
	} else {
		assert_null(got);
	}
	free(got);
	wr_commit_fini(&c);
}

static void
test_commit_trailer__last_paragraph(WR_UNUSED void **state)
{
	check_trailer("s\n\nA: 1\nB:  two words \n", "A", "1");
	check_trailer("s\n\nA: 1\nB:  two words \n", "B", "two words");
	check_trailer("s\n\nA: 1\nB: 2", "B", "2");
	check_trailer("s\n\nA: 1\n\nB: 2\n\n\n", "A", NULL);
	check_trailer("s\n\nA: 1\n\nB: 2\n\n\n", "B", "2");
	check_trailer("s\n\nA: 1\n", "AA", NULL);
	check_trailer("s\n\nAA: 1\n", "A", NULL);
	check_trailer("s\n\nA 1\n", "A", NULL);
	check_trailer("s\n\nA:\n", "A", "");
	check_trailer("s\n\nA: 1\nA: 2\n", "A", "2");
	check_trailer("A: 1", "A", "1");
	check_trailer("", "A", NULL);
	check_trailer("\n\n\n", "A", NULL);
}

static void
test_ref_name__agrees_with_git(WR_UNUSED void **state)
{
	static const char *const good[] = {"main", "a",       "A-b_c.d", "x@y",      "2026-11-22",
					   "@x",   "a.lockx", "a{b",     "\xc3\xbc", "lock",
					   "a'b",  "HEADS",   "$x",      "a;b"};
	static const char *const bad[] = {
	    "",     ".a",  "a.",     "a..b",  "a b",   "a~",    "a^",  "a:b", "a?",   "a*",  "a[",
	    "a\\b", "a@{", "a.lock", ".lock", "a\x01", "a\x7f", "a\n", "-a",  "HEAD", "a\tb"};
	struct wr_err err = WR_ERR_INIT;
	char longest[256];

	for (size_t i = 0; i < WR_ARRAY_LEN(good); i++) {
		assert_int_equal(wr_ref_name_check(good[i], &err), 0);
		write_file("name", good[i], strlen(good[i]));
		assert_int_equal(
		    run(NULL, "git check-ref-format --branch \"$(cat name)\" >/dev/null"), 0);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		assert_int_equal(wr_ref_name_check(bad[i], &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
		write_file("name", bad[i], strlen(bad[i]));
		/* The x keeps a trailing LF, which $() would drop. */
		assert_int_not_equal(run(NULL, "n=$(cat name; echo x); "
					       "git check-ref-format --branch \"${n%%x}\" "
					       ">/dev/null 2>&1"),
				     0);
	}
	assert_int_equal(wr_ref_name_check("a/b", &err), -1); /* git would, bup could not read it */
	assert_int_equal(wr_ref_name_check("@", &err), -1);   /* HEAD, for git */
	memset(longest, 'x', sizeof(longest));
	longest[250] = '\0';
	assert_int_equal(wr_ref_name_check(longest, &err), 0);
	memset(longest, 'x', sizeof(longest));
	longest[251] = '\0';
	assert_int_equal(wr_ref_name_check(longest, &err), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_commit_parse__plain),
	    cmocka_unit_test(test_commit_parse__further_headers),
	    cmocka_unit_test(test_commit_parse__damage),
	    cmocka_unit_test(test_commit_parse__cut_or_changed_anywhere),
	    cmocka_unit_test_setup_teardown(test_commit_parse__written_by_git, setup_dir,
					    teardown_dir),
	    cmocka_unit_test(test_commit_format__round_trip),
	    cmocka_unit_test(test_ident__fits_bup_s_expression),
	    cmocka_unit_test(test_ident__examples),
	    cmocka_unit_test_setup_teardown(test_ident__bup_lists_the_branches, setup_dir,
					    teardown_dir),
	    cmocka_unit_test(test_commit_trailer__last_paragraph),
	    cmocka_unit_test_setup_teardown(test_ref_name__agrees_with_git, setup_dir,
					    teardown_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
