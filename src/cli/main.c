/* SPDX-License-Identifier: Apache-2.0 */
/* warren: find the command, parse, run it, report once. */
#include <fcntl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/out.h"
#include "model/text.h"
#include "host/life/life.h"
#include "host/life/receive.h"
#include "host/runner/runner.h"
#include "host/task/task.h"
#include "serve/front/front.h"
#include "serve/peer/peer.h"

/* A file opened later must never land on a standard descriptor that the caller closed. */
static void
fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static bool
is_help(const char *s)
{
	return !strcmp(s, "--help") || !strcmp(s, "-h");
}

/* Messages quote what is foreign; should one forget, the terminal still gets no control bytes. */
static void
put_line(const char *label, const char *text)
{
	fputs(label, stderr);
	for (; *text; text++)
		fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, stderr);
	fputc('\n', stderr);
}

static int
report(const char *path, bool json, const struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *label = wr_asprintf("warren%s%s: ", *path ? " " : "", path);

	put_line(label, *err->msg ? err->msg : wr_err_name(err->code));
	if (*err->hint)
		put_line("HINT: ", err->hint);
	if (json)
		wr_json_error(err);
	return wr_err_exit(err->code);
}

/* --json among arguments that could not be parsed: a program still wants its object. */
static bool
wants_json(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--json"))
			return true;
	return false;
}

static int
unknown_command(const char *group, const char *word, struct wr_err *err)
{
	WR_SCOPED(wr_freep) const char **list = wr_cmd_children(group);
	const char *near = wr_near(word, list), *space = *group ? " " : "";

	if (*word == '-') {
		wr_err_set(err, WR_E_USAGE, "unknown option '%s'", WR_Q(word));
		return wr_err_hint(err,
				   "options stand behind the command: warren%s%s COMMAND "
				   "[OPTION]...",
				   space, group);
	}
	wr_err_set(err, WR_E_USAGE, "unknown command '%s%s%s'", group, space, WR_Q(word));
	if (near)
		return wr_err_hint(err, "did you mean 'warren %s%s%s'?", group, space, near);
	return wr_err_hint(err, "'warren%s%s --help' lists the commands", space, group);
}

static int
run(const struct wr_cmd *cmd, int argc, char **argv)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_args args;
	int rc;

	if (wr_args_parse(&args, cmd, argc, argv, &err) < 0)
		return report(cmd->path, wants_json(argc, argv), &err);
	wr_out_init(&args);
	if (wr_arg_flag(&args, "help")) {
		wr_help_print(cmd);
		rc = 0;
	} else {
		rc = cmd->run(&args, &err);
	}
	if (rc >= 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		rc = wr_err_sys(&err, "write standard output");
		wr_err_hint(&err, "%s", ""); /* the one for full disks speaks of repositories */
	}
	if (rc < 0)
		rc = report(cmd->path, wr_out_json(), &err);
	wr_args_fini(&args);
	return rc;
}

/* The daemon's other processes are this image too; their descriptors are as the starter set them.
 */
static const struct {
	const char *word;
	int (*main)(int argc, char **argv);
} parts[] = {
    {"@front", wr_front_main},     {"@peer", wr_peer_main},     {"@op", wr_life_main},
    {"@receive", wr_receive_main}, {"@worker", wr_worker_main}, {"@keeper", wr_keeper_main},
};

int
main(int argc, char **argv)
{
	static char version[] = "version";
	struct wr_err err = WR_ERR_INIT;
	const struct wr_cmd *cmd;
	int words = 0;

	for (size_t i = 0; argc > 1 && *argv[1] == '@' && i < WR_ARRAY_LEN(parts); i++)
		if (!strcmp(argv[1], parts[i].word))
			return parts[i].main(argc - 1, argv + 1);
	fill_standard_fds();
	if (argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")))
		argv[1] = version;
	cmd = wr_cmd_match(argc - 1, (const char *const *)argv + 1, &words);
	argc -= 1 + words;
	argv += 1 + words;
	if (cmd && !(cmd->flags & WR_CMD_GROUP))
		return run(cmd, argc, argv);
	if (argc > 0 && !is_help(argv[0])) {
		unknown_command(cmd ? cmd->path : "", argv[0], &err);
		return report("", wants_json(argc, argv), &err);
	}
	wr_help_print(cmd);
	return fflush(stdout) == 0 ? 0 : 1;
}
