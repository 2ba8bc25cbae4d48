/* SPDX-License-Identifier: Apache-2.0 */
/* Output as a program and as a terminal receive it; the terminal is a real one (a pty). */
#include "cli/out.h"

#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/options.h"

static const struct wr_cmd cmd = {.path = "repo try", .summary = "try", .flags = WR_CMD_REPO};

/*
 * Run fn in a child with these words as options; gives what it wrote to standard output and
 * standard error.  tty: both are one terminal.
 */
static char *
run_child(void (*fn)(const struct wr_args *), const char *word, bool tty)
{
	struct wr_buf b = WR_BUF_INIT;
	char chunk[4096];
	int fd, p[2], status = 0;
	ssize_t n;
	pid_t pid;

	fflush(NULL);
	if (tty) {
		pid = forkpty(&fd, NULL, NULL, &(struct winsize){.ws_row = 25, .ws_col = 100});
	} else {
		assert_int_equal(pipe(p), 0);
		pid = fork();
		fd = p[0];
	}
	if (pid == 0) {
		static char text[32];
		char *argv[] = {text, NULL};
		struct wr_args a;

		if (!tty) {
			dup2(p[1], STDOUT_FILENO);
			dup2(p[1], STDERR_FILENO);
		}
		setenv("TERM", "xterm", 1);
		unsetenv("NO_COLOR");
		snprintf(text, sizeof(text), "%s", word);
		if (wr_args_parse(&a, &cmd, *word ? 1 : 0, argv, NULL) < 0)
			_exit(9);
		wr_out_init(&a);
		fn(&a);
		fflush(stdout);
		wr_args_fini(&a);
		_exit(0);
	}
	if (!tty)
		close(p[1]);
	/* A terminal whose other end is gone gives EIO. */
	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		wr_buf_add(&b, chunk, (size_t)n);
	close(fd);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	return wr_buf_detach(&b, NULL);
}

static void
expect(void (*fn)(const struct wr_args *), const char *word, bool tty, const char *want)
{
	char *s = run_child(fn, word, tty);

	assert_string_equal(s, want);
	free(s);
}

/* ---- names and tables ---- */

/* ESC, CSI as one C1 character, right-to-left override, invalid byte, backslash. */
#define EVIL               \
	"a\033[2J\xc2\x9b" \
	"1m\xe2\x80\xae\xff\\\xc3\xa4\n"

static void
print_evil(const struct wr_args *a)
{
	(void)a;
	wr_name_print(EVIL, strlen(EVIL));
}

static void
test_name__raw_in_a_pipe_escaped_on_a_terminal(void **state)
{
	(void)state;
	expect(print_evil, "", false, EVIL);
	expect(print_evil, "", true,
	       "a\\x1b[2J\\xc2\\x9b"
	       "1m\\xe2\\x80\\xae\\xff\\x5c\xc3\xa4\\x0a");
}

static void
print_long(const struct wr_args *a)
{
	char name[4096];

	(void)a;
	memset(name, 'n', sizeof(name));
	wr_name_print(name, sizeof(name));
}

static void
test_name__is_never_cut(void **state)
{
	char *s = run_child(print_long, "", true);

	(void)state;
	assert_int_equal(strlen(s), 4096);
	free(s);
}

static void
print_table(const struct wr_args *a)
{
	static const char *const heads[] = {"NAME", "SIZE", "NOTE"};
	struct wr_table t;

	(void)a;
	wr_table_init(&t, "lrl", heads);
	wr_table_add(&t, "a");
	wr_table_addf(&t, "%d", 12345);
	wr_table_add(&t, "x");
	wr_table_add_name(&t, "\xe6\xbc\xa2\xc3\xa4", 5); /* columns: 2 + 1 */
	wr_table_add(&t, "7");
	wr_table_add(&t, "");
	wr_table_print(&t);
	wr_table_fini(&t);
	wr_table_fini(&t);
}

static void
test_table__columns_line_up(void **state)
{
	(void)state;
	expect(print_table, "", false,
	       "NAME   SIZE  NOTE\n"
	       "a     12345  x\n"
	       "\xe6\xbc\xa2\xc3\xa4       7  \n");
	expect(print_table, "", true,
	       "\033[1mNAME\033[0m   \033[1mSIZE\033[0m  \033[1mNOTE\033[0m\r\n"
	       "a     12345  x\r\n"
	       "\xe6\xbc\xa2\xc3\xa4       7  \r\n");
}

static void
print_color(const struct wr_args *a)
{
	setenv("NO_COLOR", "1", 1);
	wr_out_init(a);
	printf("%sx%s", wr_color(WR_RED), wr_color(WR_PLAIN));
}

static void
test_color__no_color_is_honoured(void **state)
{
	(void)state;
	expect(print_color, "", true, "x");
}

/* ---- JSON ---- */

static void
print_json(const struct wr_args *a)
{
	json_t *o = wr_json_begin("warren.try/1"), *item;
	struct wr_id id = {{0xab, 0xcd}};

	(void)a;
	wr_json_path(o, "path", "caf\xc3\xa9/x", 7);
	wr_json_path(o, "odd", "a\xff", 2);
	wr_json_time(o, "time", 0);
	wr_json_id(o, "id", &id);
	wr_json_u64(o, "n", UINT64_MAX);
	wr_json_bool(o, "yes", true);
	wr_json_real(o, "ratio", 0.1);
	wr_json_real(o, "none", 0.0 / 0.0);
	wr_json_str(o, "null", NULL);
	wr_json_str(o, "bad", "\xff");
	item = wr_json_item(wr_json_array(o, "list"));
	wr_json_bool(wr_json_object(item, "in"), "no", false);
	(void)wr_json_print(o, NULL);
}

static void
test_json__members(void **state)
{
	(void)state;
	expect(print_json, "--json", false,
	       "{\"schema\":\"warren.try/1\",\"path\":\"caf\xc3\xa9/x\","
	       "\"odd\":\"a\xef\xbf\xbd\",\"odd_b64\":\"Yf8=\",\"time\":\"1970-01-01T00:00:00Z\","
	       "\"id\":\"abcd000000000000000000000000000000000000\","
	       "\"n\":9223372036854775807,\"yes\":true,\"ratio\":0.1,\"none\":null,\"null\":null,"
	       "\"bad\":\"\xef\xbf\xbd\",\"list\":[{\"in\":{\"no\":false}}]}\n");
}

static void
stream_items(unsigned n, bool fails)
{
	struct wr_err err = WR_ERR_INIT;
	json_t *tail = json_object();

	wr_json_stream_begin(wr_json_begin("warren.try/1"), "items");
	for (unsigned i = 0; i < n; i++) {
		json_t *o = json_object();

		wr_json_u64(o, "i", i);
		(void)wr_json_stream_item(o, NULL);
	}
	if (fails) {
		json_decref(tail);
		wr_err_set(&err, WR_E_CORRUPT, "cut short");
		wr_json_error(&err);
		return;
	}
	wr_json_u64(tail, "count", n);
	(void)wr_json_stream_end(tail, NULL);
}

static void
stream_two(const struct wr_args *a)
{
	(void)a;
	stream_items(2, false);
}

static void
stream_none(const struct wr_args *a)
{
	(void)a;
	wr_json_stream_begin(wr_json_begin("warren.try/1"), "items");
	(void)wr_json_stream_end(NULL, NULL);
	stream_items(0, false);
}

static void
stream_broken(const struct wr_args *a)
{
	(void)a;
	stream_items(1, true);
}

static void
test_stream__is_one_object_whatever_happens(void **state)
{
	(void)state;
	expect(stream_two, "--json", false,
	       "{\"schema\":\"warren.try/1\",\"items\":[\n{\"i\":0},\n{\"i\":1}\n],\"count\":2}\n");
	expect(stream_none, "--json", false,
	       "{\"schema\":\"warren.try/1\",\"items\":[]}\n"
	       "{\"schema\":\"warren.try/1\",\"items\":[],\"count\":0}\n");
	expect(stream_broken, "--json", false,
	       "{\"schema\":\"warren.try/1\",\"items\":[\n{\"i\":0}\n],\"error\":{\"code\":"
	       "\"corrupt\",\"message\":\"cut short\",\"hint\":null}}\n");
}

static void
print_to_full_disk(const struct wr_args *a)
{
	struct wr_err err = WR_ERR_INIT;
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)a;
	dup2(fd, STDOUT_FILENO);
	if (wr_json_print(wr_json_begin("warren.try/1"), &err) == 0)
		fputs("no error", stderr);
	else
		fprintf(stderr, "%d %s", err.code == WR_E_NOSPACE, err.msg);
	clearerr(stdout);
}

static void
test_json__a_full_disk_is_an_error(void **state)
{
	(void)state;
	expect(print_to_full_disk, "--json", false,
	       "1 write standard output: No space left on device");
}

/* ---- remarks and progress ---- */

static void
print_remarks(const struct wr_args *a)
{
	(void)a;
	wr_remark("%d remarks", 2);
	wr_warn("mind the %s", "gap");
}

static void
test_remark__quiet_drops_remarks_not_warnings(void **state)
{
	(void)state;
	expect(print_remarks, "", false,
	       "warren repo try: 2 remarks\nwarren repo try: warning: mind the gap\n");
	expect(print_remarks, "--quiet", false, "warren repo try: warning: mind the gap\n");
	expect(print_remarks, "--json", false, "warren repo try: warning: mind the gap\n");
}

static void
draw_progress(const struct wr_args *a)
{
	struct wr_progress *p = wr_progress_begin(a, "trying");

	wr_progress_total(p, 10, 1000);
	for (int i = 0; i < 12; i++) {
		usleep(80000);
		wr_progress_add(p, 1, 80);
		if (i == 7)
			wr_warn("odd");
	}
	wr_progress_end(p);
	wr_progress_end(NULL);
}

static void
test_progress__on_a_terminal(void **state)
{
	char *s = run_child(draw_progress, "", true), *warning;
	unsigned lines = 0;

	(void)state;
	for (const char *p = s; (p = strstr(p, "trying")); p++)
		lines++;
	/* Not before half a second, then ten times a second at most. */
	assert_in_range(lines, 1, 7);
	assert_non_null(strstr(s, "%  ["));
	assert_non_null(strstr(s, " files  "));
	/* The warning stands on a line of its own, the last thing drawn is erased. */
	warning = strstr(s, "\r\033[Kwarren repo try: warning: odd\r\n");
	assert_non_null(warning);
	assert_true(strlen(s) < 4 || !strcmp(s + strlen(s) - 4, "\r\033[K"));
	free(s);
}

static void
test_progress__nowhere_else(void **state)
{
	(void)state;
	expect(draw_progress, "", false, "warren repo try: warning: odd\n");
	expect(draw_progress, "--no-progress", true, "warren repo try: warning: odd\r\n");
	expect(draw_progress, "--quiet", true, "warren repo try: warning: odd\r\n");
	expect(draw_progress, "--json", true, "warren repo try: warning: odd\r\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_name__raw_in_a_pipe_escaped_on_a_terminal),
	    cmocka_unit_test(test_name__is_never_cut),
	    cmocka_unit_test(test_table__columns_line_up),
	    cmocka_unit_test(test_color__no_color_is_honoured),
	    cmocka_unit_test(test_json__members),
	    cmocka_unit_test(test_stream__is_one_object_whatever_happens),
	    cmocka_unit_test(test_json__a_full_disk_is_an_error),
	    cmocka_unit_test(test_remark__quiet_drops_remarks_not_warnings),
	    cmocka_unit_test(test_progress__on_a_terminal),
	    cmocka_unit_test(test_progress__nowhere_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
