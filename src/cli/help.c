/* SPDX-License-Identifier: Apache-2.0 */
/* Help and version, from the command table. */
#include "cli/cli.h"
#include "cli/out.h"

#define WIDTH 80
#define HELP_COLUMN 28

/* Words of text from column `at` on, wrapped, continued at column `indent`. */
static void
print_wrapped(const char *text, size_t at, size_t indent)
{
	bool first = true;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (!first && at + 1 + n > WIDTH) {
			printf("\n%*s", (int)indent, "");
			at = indent;
		} else if (!first) {
			putchar(' ');
			at++;
		}
		printf("%.*s", (int)n, text);
		at += n;
		text += n + (text[n] == ' ');
		first = false;
	}
	putchar('\n');
}

/* One line of a list: a term, then its explanation in a column of its own. */
static void
print_item(const char *term, const char *text)
{
	size_t at = 2 + strlen(term);

	printf("  %s", term);
	if (at + 2 > HELP_COLUMN) {
		putchar('\n');
		at = 0;
	}
	printf("%*s", (int)(HELP_COLUMN - at), "");
	print_wrapped(text, HELP_COLUMN, HELP_COLUMN);
}

static void
print_options(const struct wr_cmd *cmd)
{
	const struct wr_opt *o;

	printf("\n%sOptions%s\n", wr_color(WR_BOLD), wr_color(WR_PLAIN));
	for (size_t i = 0; (o = wr_cmd_opt(cmd, i)); i++) {
		struct wr_buf b = WR_BUF_INIT;

		if (o->letter)
			wr_buf_addf(&b, "-%c, ", o->letter);
		else
			wr_buf_adds(&b, "    ");
		wr_buf_addf(&b, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
		print_item(wr_buf_str(&b), o->help);
		wr_buf_fini(&b);
	}
}

static void
print_commands(const char *group)
{
	WR_SCOPED(wr_freep) const char **words = wr_cmd_children(group);

	printf("\n%sCommands%s\n", wr_color(WR_BOLD), wr_color(WR_PLAIN));
	for (size_t i = 0; words[i]; i++) {
		/* A child's word is the tail of its path, so the path begins before it. */
		WR_SCOPED(wr_freep)
		char *path = wr_asprintf("%s%s%s", group, *group ? " " : "", words[i]);
		const struct wr_cmd *c = wr_cmd_find(path);

		print_item(words[i], c->summary);
	}
}

void
wr_help_print(const struct wr_cmd *cmd)
{
	WR_SCOPED(wr_freep) char *synopsis = cmd ? wr_cmd_synopsis(cmd) : NULL;
	WR_SCOPED(wr_freep) char *man = cmd ? wr_cmd_man_name(cmd) : NULL;

	if (!cmd) {
		printf("warren keeps homes and directories safe in snapshots that it can bring "
		       "back\n\n"
		       "Usage: warren COMMAND [OPTION]...\n");
		print_commands("");
		printf("\n'warren COMMAND --help' tells more about a command, "
		       "'man warren' about all.\n");
		return;
	}
	printf("warren %s: %s\n\nUsage: warren %s %s\n", cmd->path, cmd->summary, cmd->path,
	       synopsis);
	if (cmd->flags & WR_CMD_GROUP) {
		print_commands(cmd->path);
		printf("\n'warren %s COMMAND --help' tells more about a command.\n", cmd->path);
	} else {
		print_options(cmd);
	}
	printf("\nExit status: 0 done, 1 failed, 2 wrong usage, 3 done with warnings, 4 refused,\n"
	       "5 not found.  Manual: man %s\n",
	       man);
}

static void
json_command(json_t *array, const struct wr_cmd *cmd)
{
	WR_SCOPED(wr_freep) char *synopsis = wr_cmd_synopsis(cmd);
	WR_SCOPED(wr_freep) char *man = wr_cmd_man_name(cmd);
	json_t *c = wr_json_item(array), *options;
	const struct wr_opt *o;

	wr_json_str(c, "command", cmd->path);
	wr_json_str(c, "summary", cmd->summary);
	wr_json_str(c, "synopsis", synopsis);
	wr_json_str(c, "manual", man);
	wr_json_bool(c, "group", cmd->flags & WR_CMD_GROUP);
	options = wr_json_array(c, "options");
	for (size_t i = 0; (o = wr_cmd_opt(cmd, i)); i++) {
		json_t *j = wr_json_item(options);
		char letter[2] = {o->letter, '\0'};

		wr_json_str(j, "name", o->name);
		wr_json_str(j, "letter", o->letter ? letter : NULL);
		wr_json_str(j, "value", o->value);
		wr_json_str(j, "help", o->help);
	}
}

int
wr_cmd_help(const struct wr_args *a, struct wr_err *err)
{
	const struct wr_cmd *cmd;
	int words = 0;

	if (wr_out_json()) {
		json_t *obj = wr_json_begin("warren.commands/1");
		json_t *array = wr_json_array(obj, "commands");

		for (const struct wr_cmd *c = wr_commands; c->path; c++)
			json_command(array, c);
		return wr_json_print(obj, err);
	}
	cmd = wr_cmd_match((int)a->pos_count, a->pos, &words);
	if ((size_t)words < a->pos_count) {
		wr_err_set(err, WR_E_USAGE, "unknown command '%s'", WR_Q(a->pos[words]));
		return wr_err_hint(err, "'warren --help' lists the commands");
	}
	wr_help_print(cmd);
	return 0;
}

int
wr_cmd_version(const struct wr_args *a, struct wr_err *err)
{
	(void)a;
	if (wr_out_json()) {
		json_t *obj = wr_json_begin("warren.version/1");

		wr_json_str(obj, "version", WR_VERSION);
		return wr_json_print(obj, err);
	}
	puts("warren " WR_VERSION);
	return 0;
}
