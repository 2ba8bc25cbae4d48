/* SPDX-License-Identifier: Apache-2.0 */
/* Ignore rules: git itself is the judge over many patterns and paths; limits and time by hand. */
#include "engine/snap/ignore.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/snap/glob.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* The tree that patterns are tried on; a trailing '/' makes a directory. */
static const char *const paths[] = {
    "a/",
    "a/b/",
    "a/b/c/",
    "a/b/c/d",
    "a/b/c/foo",
    "a/b/foo",
    "a/b/foo.o",
    "a/b/x.txt",
    "a/foo/",
    "a/foo/bar",
    "a/foo/b/",
    "a/foo/b/foo",
    "a/x.o",
    "a/ab",
    "a/abc",
    "foo",
    "foo.o",
    "foo.c",
    "bar/",
    "bar/foo",
    "bar/x",
    "bar/foo.txt",
    "bar/a/",
    "bar/a/b/",
    "bar/a/b/foo",
    "ab/",
    "ab/foo",
    "ab/b/",
    "ab/b/foo",
    "abc",
    "abd",
    "a]c",
    "a-c",
    "a!c",
    "a^c",
    "A/",
    "A/Foo",
    "FOO.O",
    "b/",
    "b/b/",
    "b/b/b/",
    "b/b/b/b",
    "b/[x]",
    "b/x",
    "b/*",
    "b/\\",
    "b/a\\b",
    "b/?",
    "#c",
    "!d",
    " lead",
    "trail ",
    "trail  ",
    "sp ace",
    "tab\t",
    "x.1",
    "x.2",
    "x.10",
    "x.\xc3\xa9",
    "\xff",
    "cr\r",
    "deep/",
    "deep/a/",
    "deep/a/foo/",
    "deep/a/foo/a/",
    "deep/a/foo/a/foo",
    "deep/aXb/",
    "deep/aXb/c/",
    "deep/aXb/c/b",
    "deep/a/b",
    "build/",
    "build/out/",
    "build/out/o.o",
    "-",
    "_",
    "{x}",
    "~",
    "1",
    "x",
};

/* Whole ignore files. */
static const char *const files[] = {
    "foo\n",
    "/foo\n",
    "foo/\n",
    "*.o\n!foo.o\n",
    "a/b\n",
    "/a/b/\n",
    "a/*\n!a/foo\n",
    "a/**\n",
    "a/**\n!a/b/\n!a/b/foo\n",
    "**/foo\n",
    "**/b/foo\n",
    "a/**/foo\n",
    "**\n",
    "/**\n",
    "**/\n",
    "*\n!*/\n!*.o\n",
    "a**/b\n",
    "/a**\n",
    "a**/foo\n",
    "deep/a**/b\n",
    "deep/*a**/b\n",
    "deep/**b\n",
    "deep/a/**/a\n",
    "deep/**/**/foo\n",
    "deep/***/foo\n",
    "b/**/b\n",
    "[ab]bc\n",
    "a[!b]c\n",
    "a[^b]c\n",
    "a[]]c\n",
    "a[!]]c\n",
    "a[]-]c\n",
    "a[a-c-]c\n",
    "a[b-\\]]c\n",
    "a[\\]]c\n",
    "a[\\!-\\-]c\n",
    "a[z-a]c\n",
    "ab[c-\n",
    "ab[c\n[\n",
    "ab[[:alpha:]]\n",
    "x.[[:digit:]]\n",
    "x.[[:digit:][:alpha:]]*\n",
    "ab[[:bogus:]]\n",
    "ab[[:alpha]\n",
    "ab[[:c]\n",
    "[[:upper:]]*\n",
    "[[:punct:]]\n",
    "[[:space:]]*\n*[[:space:]]\n",
    "*[[:cntrl:]]\n",
    "[![:print:]]\n",
    "[[:graph:]]\n",
    "[[:xdigit:]]\n",
    "[[:alnum:]-_]\n",
    "b/[[]x]\n",
    "b/\\[x\\]\n",
    "b/\\*\n",
    "b/\\?\n",
    "b/\\\\\n",
    "b/a\\\\b\n",
    "b/a\\b\n",
    "foo\\\n",
    "foo\\/\n",
    "b\\/x\n",
    "b\\/**\n",
    "deep/**\\/b\n",
    "#c\n",
    "\\#c\n",
    "!d\n",
    "\\!d\n",
    "foo \n",
    "trail\\ \n",
    "trail\\ \\ \n",
    "trail \\ \n",
    "trail \n",
    "sp ace\n",
    " lead\n",
    "   \n",
    "tab\t\n",
    "foo\t\n",
    "foo\r\n*.c\r\n",
    "cr\r\r\n",
    "cr?\n",
    ("\xef\xbb\xbf"
     "foo\n"),
    "foo",
    "\n\n\nfoo\n\n",
    "/\n",
    "//\n",
    "!\n",
    "!/\n",
    "//foo\n",
    "foo//\n",
    "a//b\n",
    "./foo\n",
    "../foo\n",
    "?\n",
    "/?\n",
    "?/\n",
    "?/?\n",
    "*/foo\n",
    "/*/foo\n",
    "*/*/foo\n",
    "a/?/foo\n",
    "a?b\n",
    "a*b\n",
    "bar/*\n!bar/x\n",
    "/*\n!/bar\n/bar/*\n!/bar/a\n",
    "foo\n!foo\nfoo\n",
    "FOO*\n",
    "x.\xc3?\n",
    "x.?\n",
    "x.??\n",
    "x.[\xc3][\xa9]\n",
    "x.[\x80-\xff]*\n",
    "[\xff]\n",
    "*\\\n",
    "build/\n!build/out\n",
    "build/*\n!build/out\nbuild/out/*\n!build/out/o.o\n",
    "{x}\n~\n",
};

#define NPATHS WR_ARRAY_LEN(paths)

static char dir[256];

/* One run of git in the tree: which of the paths (indices) it takes as ignored. */
static void
ask_git(const char *fold, bool out[NPATHS])
{
	char list[300], answer[300];
	const char *argv[] = {"git",          "-C", dir,       "-c",         fold,
			      "check-ignore", "-z", "--stdin", "--no-index", NULL};
	posix_spawn_file_actions_t fa;
	struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	int status;
	pid_t pid;

	snprintf(list, sizeof(list), "%s.list", dir);
	snprintf(answer, sizeof(answer), "%s.answer", dir);
	for (size_t i = 0; i < NPATHS; i++) {
		size_t n = strlen(paths[i]);

		wr_buf_add(&b, paths[i], n - (paths[i][n - 1] == '/'));
		wr_buf_add8(&b, 0);
	}
	assert_int_equal(wr_replace_file(AT_FDCWD, list, b.p, b.len, 0600, &err), 0);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, list, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, answer, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(
	    posix_spawnp(&pid, "git", &fa, NULL, (char *const *)(uintptr_t)argv, environ), 0);
	posix_spawn_file_actions_destroy(&fa);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
	wr_buf_clear(&b);
	assert_int_equal(wr_read_file(AT_FDCWD, answer, 1 << 20, &b, &err), 0);
	memset(out, 0, NPATHS * sizeof(*out));
	for (size_t at = 0; at < b.len;) {
		const char *s = (const char *)b.p + at;

		for (size_t i = 0; i < NPATHS; i++) {
			size_t n = strlen(paths[i]);

			n -= paths[i][n - 1] == '/';
			if (strlen(s) == n && memcmp(s, paths[i], n) == 0)
				out[i] = true;
		}
		at += strlen(s) + 1;
	}
	wr_buf_fini(&b);
}

/* Ours: a path is out if it or a directory above it is. */
static bool
ask_us(struct wr_ignore *root, struct wr_ignore *below_a, const char *path)
{
	size_t n = strlen(path);
	bool dir_last = path[n - 1] == '/';

	n -= dir_last;
	for (size_t i = 1; i <= n; i++) {
		char part[256];
		const char *slash;
		bool in_a;

		if (i < n && path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		slash = strrchr(part, '/');
		in_a = below_a && strncmp(part, "a/", 2) == 0;
		if (wr_ignore_match(in_a ? below_a : root, part, i, slash ? slash + 1 : part,
				    i < n || dir_last))
			return true;
	}
	return false;
}

static void
compare(const void *text, size_t len, const void *text_a, size_t len_a)
{
	struct wr_ignore *root = wr_ignore_new(NULL, ""), *below_a = NULL;
	struct wr_err err = WR_ERR_INIT;
	char name[300];
	bool git[NPATHS];

	snprintf(name, sizeof(name), "%s/.gitignore", dir);
	assert_int_equal(wr_replace_file(AT_FDCWD, name, text, len, 0600, &err), 0);
	assert_int_equal(wr_ignore_add_file(root, text, len, &err), 0);
	snprintf(name, sizeof(name), "%s/a/.gitignore", dir);
	unlink(name);
	if (text_a) {
		assert_int_equal(wr_replace_file(AT_FDCWD, name, text_a, len_a, 0600, &err), 0);
		below_a = wr_ignore_new(root, "a");
		assert_int_equal(wr_ignore_add_file(below_a, text_a, len_a, &err), 0);
	}
	ask_git("core.ignorecase=false", git);
	for (size_t i = 0; i < NPATHS; i++)
		if (git[i] != ask_us(root, below_a, paths[i]))
			fail_msg("git says %d of '%s' under '%s' and '%s'", git[i],
				 wr_quote(paths[i], strlen(paths[i])).s, wr_quote(text, len).s,
				 wr_quote(text_a ? text_a : "", len_a).s);
	wr_ignore_unref(below_a);
	wr_ignore_unref(root);
}

static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	const char *argv[] = {"git", "init", "-q", dir, NULL};
	int status;
	pid_t pid;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/wr-ignore-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
	if (posix_spawnp(&pid, "git", NULL, NULL, (char *const *)(uintptr_t)argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		return -1;
	for (size_t i = 0; i < NPATHS; i++) {
		char name[512];
		size_t n = strlen(paths[i]);
		int fd;

		snprintf(name, sizeof(name), "%s/%s", dir, paths[i]);
		if (paths[i][n - 1] == '/') {
			if (mkdir(name, 0700) < 0)
				return -1;
		} else {
			fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
			if (fd < 0)
				return -1;
			close(fd);
		}
	}
	return 0;
}

static int
teardown(void **state)
{
	char name[300];

	(void)state;
	snprintf(name, sizeof(name), "%s.list", dir);
	unlink(name);
	snprintf(name, sizeof(name), "%s.answer", dir);
	unlink(name);
	return wr_remove_tree(AT_FDCWD, dir, NULL);
}

static void
test_ignore__as_git_by_hand(void **state)
{
	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(files); i++)
		compare(files[i], strlen(files[i]), NULL, 0);
}

static uint32_t seed;

static uint32_t
rnd(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

static void
random_file(struct wr_buf *b)
{
	static const char *const pieces[] = {
	    "a",           "b",   "foo",  "bar",  "/",   "/",    "/",    "*",    "*",
	    "**",          "**/", "/**",  "?",    ".",   "x",    "[ab]", "[!a]", "[a-f]",
	    "[",           "]",   "\\",   "o",    "c",   "deep", " ",    "!",    "-",
	    "[[:alpha:]]", "X",   "[^/]", "[a/]", "***", "\\/"};
	uint32_t lines = 1 + rnd(4);

	wr_buf_clear(b);
	while (lines--) {
		if (rnd(4) == 0)
			wr_buf_add8(b, '!');
		for (uint32_t n = 1 + rnd(6); n--;)
			wr_buf_adds(b, pieces[rnd(WR_ARRAY_LEN(pieces))]);
		wr_buf_add8(b, '\n');
	}
}

static void
test_ignore__as_git_at_random(void **state)
{
	struct wr_buf b = WR_BUF_INIT, c = WR_BUF_INIT;
	const char *n = getenv("WR_IGNORE_ROUNDS");

	(void)state;
	for (uint32_t i = 0, rounds = n ? (uint32_t)strtoul(n, NULL, 10) : 300; i < rounds; i++) {
		seed = i;
		random_file(&b);
		random_file(&c);
		compare(b.p, b.len, i % 2 ? c.p : NULL, c.len);
	}
	wr_buf_fini(&b);
	wr_buf_fini(&c);
}

static void
test_ignore__levels(void **state)
{
	struct wr_ignore *top = wr_ignore_new(NULL, ""), *mid, *low;

	(void)state;
	mid = wr_ignore_new(top, "src");
	low = wr_ignore_new(mid, "src/gen");
	assert_true(wr_ignore_empty(low));
	assert_int_equal(wr_ignore_add(top, "*.o", 3, NULL), 0);
	assert_int_equal(wr_ignore_add(mid, "!keep.o", 7, NULL), 0);
	assert_int_equal(wr_ignore_add(low, "/here", 5, NULL), 0);
	wr_ignore_unref(top); /* its children keep it */
	wr_ignore_unref(mid);
	assert_false(wr_ignore_empty(low));
	assert_true(wr_ignore_match(low, "src/gen/a.o", 11, "a.o", false));
	assert_false(wr_ignore_match(low, "src/gen/keep.o", 14, "keep.o", false));
	assert_true(wr_ignore_match(low, "src/gen/here", 12, "here", false));
	assert_false(wr_ignore_match(low, "src/gen/x/here", 14, "here", false));
	assert_false(wr_ignore_match(low, "src/genuine/here", 16, "here", false));
	wr_ignore_unref(low);
	wr_ignore_unref(NULL);
}

static void
test_ignore__limits(void **state)
{
	struct wr_ignore *ig = wr_ignore_new(NULL, "");
	struct wr_err err = WR_ERR_INIT;
	char *big = wr_malloc(WR_IGNORE_FILE_MAX + 1);

	(void)state;
	memset(big, 'x', WR_IGNORE_FILE_MAX + 1);
	assert_int_equal(wr_ignore_add_file(ig, big, WR_IGNORE_FILE_MAX + 1, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	assert_int_equal(wr_ignore_add(ig, big, WR_GLOB_MAX, &err), 0);
	assert_int_equal(wr_ignore_add(ig, big, WR_GLOB_MAX + 1, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	for (size_t i = 0; i < 30000; i++)
		big[i] = i % 3 == 2 ? '\n' : 'y';
	assert_int_equal(wr_ignore_add_file(ig, big, 29997, &err), 0); /* 9,999 lines more */
	assert_int_equal(wr_ignore_add_file(ig, "\na\n", 3, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	assert_non_null(strstr(err.msg, "line 2"));
	free(big);
	wr_ignore_unref(ig);
}

static void
test_glob__time_is_bounded(void **state)
{
	struct wr_glob g = WR_GLOB_INIT;
	struct wr_buf p = WR_BUF_INIT, t = WR_BUF_INIT;
	uint64_t from = wr_clock_mono_ns();

	(void)state;
	for (size_t i = 0; i < 1000; i++)
		wr_buf_adds(&p, i % 2 ? "**/" : "*a*");
	wr_buf_adds(&p, "b");
	for (size_t i = 0; i < 4000; i++)
		wr_buf_add8(&t, i % 17 ? 'a' : '/');
	wr_buf_adds(&t, "b/c");
	assert_int_equal(wr_glob_compile(&g, (char *)p.p, p.len, WR_GLOB_PATHS, NULL), 0);
	assert_false(wr_glob_match(&g, (char *)t.p, t.len));
	assert_false(wr_glob_match(&g, (char *)t.p, t.len - 2));
	wr_glob_fini(&g);
	assert_true(wr_clock_mono_ns() - from < UINT64_C(5000000000));
	wr_buf_fini(&p);
	wr_buf_fini(&t);
}

static void
test_glob__fold(void **state)
{
	static const struct {
		const char *p, *t;
		bool yes;
	} c[] = {{"*.TXT", "a.txt", true},   {"readme*", "README.md", true},
		 {"[A-C]x", "bX", true},     {"[!a]x", "Ax", false},
		 {"[[:upper:]]", "q", true}, {"\xc3\x89", "\xc3\xa9", false},
		 {"a*Z", "AzzzzY", false},   {"A", "a", true}};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(c); i++) {
		struct wr_glob g;

		assert_int_equal(wr_glob_compile(&g, c[i].p, strlen(c[i].p), WR_GLOB_FOLD, NULL),
				 0);
		assert_int_equal(wr_glob_match(&g, c[i].t, strlen(c[i].t)), c[i].yes);
		wr_glob_fini(&g);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ignore__as_git_by_hand),
	    cmocka_unit_test(test_ignore__as_git_at_random),
	    cmocka_unit_test(test_ignore__levels),
	    cmocka_unit_test(test_ignore__limits),
	    cmocka_unit_test(test_glob__time_is_bounded),
	    cmocka_unit_test(test_glob__fold),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
