/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion scripts, written from the command table.  Both shells get the same plan: find the
 * command among the words, then complete a value after an option that takes one, an option after a
 * dash, else the argument that stands here.
 */
#include "cli/cli.h"

/* ---- bash ---- */

static void
bash_words(const char *const *words, const char *indent)
{
	printf("%smapfile -t COMPREPLY < <(compgen -W '", indent);
	for (size_t i = 0; words[i]; i++)
		printf("%s%s", i ? " " : "", words[i]);
	printf("' -- \"$cur\")\n");
}

static void
bash_complete(enum wr_complete what, const char *const *choices, const char *indent)
{
	switch (what) {
	case WR_COMPLETE_FILE:
	case WR_COMPLETE_DIR:
		printf("%scompopt -o filenames\n", indent);
		printf("%smapfile -t COMPREPLY < <(compgen -%c -- \"$cur\")\n", indent,
		       what == WR_COMPLETE_FILE ? 'f' : 'd');
		break;
	case WR_COMPLETE_CHOICE:
		bash_words(choices, indent);
		break;
	case WR_COMPLETE_COMMAND:
		printf("%smapfile -t COMPREPLY < <(compgen -W \"${!commands[*]}\" -- \"$cur\")\n",
		       indent);
		break;
	case WR_COMPLETE_NONE:
		break;
	}
}

static void
bash_option_pattern(const struct wr_opt *o)
{
	if (o->letter)
		printf("-%c|", o->letter);
	printf("--%s", o->name);
}

/* The case of one command in a function that is given $what: valued, value, options or argument. */
static void
bash_command(const struct wr_cmd *cmd)
{
	const struct wr_opt *o;
	const char *sep = "";

	printf("\t'%s')\n\t\tvalued='", cmd->path);
	for (size_t i = 0; (o = wr_cmd_opt(cmd, i)); i++) {
		if (!o->value)
			continue;
		printf("%s--%s", sep, o->name);
		if (o->letter)
			printf(" -%c", o->letter);
		sep = " ";
	}
	printf("'\n\t\toptions='");
	for (size_t i = 0; (o = wr_cmd_opt(cmd, i)); i++)
		printf("%s--%s", i ? " " : "", o->name);
	printf("'\n\t\t;;\n");
}

static void
bash_values(const struct wr_cmd *cmd)
{
	const struct wr_opt *o;

	printf("\t'%s')\n\t\tcase $1 in\n", cmd->path);
	for (size_t i = 0; (o = wr_cmd_opt(cmd, i)); i++) {
		if (!o->value || o->complete == WR_COMPLETE_NONE)
			continue;
		printf("\t\t");
		bash_option_pattern(o);
		printf(")\n");
		bash_complete(o->complete, o->choices, "\t\t\t");
		printf("\t\t\t;;\n");
	}
	for (size_t i = 0; i < WR_POS_MAX && cmd->pos[i].name; i++) {
		if (cmd->pos[i].complete == WR_COMPLETE_NONE)
			continue;
		if (cmd->pos[i].repeat)
			printf("\t\t[0-9]*)\n");
		else
			printf("\t\t%zu)\n", i);
		bash_complete(cmd->pos[i].complete, cmd->pos[i].choices, "\t\t\t");
		printf("\t\t\t;;\n");
	}
	printf("\t\tesac\n\t\t;;\n");
}

static void
bash(void)
{
	WR_SCOPED(wr_freep) const char **top = wr_cmd_children("");
	const char *group_sep = "";

	printf("# bash completion for warren; written by 'warren completion bash'\n\n"
	       "_warren_spec()\n{\n\tcase $1 in\n");
	for (const struct wr_cmd *c = wr_commands; c->path; c++)
		if (!(c->flags & WR_CMD_GROUP))
			bash_command(c);
	printf("\tesac\n}\n\n_warren_value()\n{\n\tcase $command in\n");
	for (const struct wr_cmd *c = wr_commands; c->path; c++)
		if (!(c->flags & WR_CMD_GROUP))
			bash_values(c);
	printf("\tesac\n}\n\n_warren()\n{\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tlocal command='' valued='' options='' word i at=0 skip=0\n"
	       "\tlocal -A commands=(");
	for (size_t i = 0; top[i]; i++)
		printf("%s[%s]=1", i ? " " : "", top[i]);
	printf(")\n\tlocal -A groups=(");
	for (const struct wr_cmd *c = wr_commands; c->path; c++)
		if (c->flags & WR_CMD_GROUP) {
			WR_SCOPED(wr_freep) const char **words = wr_cmd_children(c->path);

			printf("%s['%s']='", group_sep, c->path);
			group_sep = " ";
			for (size_t i = 0; words[i]; i++)
				printf("%s%s", i ? " " : "", words[i]);
			printf("'");
		}
	printf(")\n\n"
	       "\tCOMPREPLY=()\n"
	       "\t# bash cuts --option=value in three\n"
	       "\tif [[ $cur == '=' ]]; then\n"
	       "\t\tcur=''\n"
	       "\telif [[ $prev == '=' ]]; then\n"
	       "\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n"
	       "\tfi\n"
	       "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\tword=${COMP_WORDS[i]}\n"
	       "\t\tif [[ -z $command ]]; then\n"
	       "\t\t\tcommand=$word\n"
	       "\t\t\t_warren_spec \"$command\"\n"
	       "\t\telif [[ -n ${groups[$command]} ]]; then\n"
	       "\t\t\tcommand=\"$command $word\"\n"
	       "\t\t\t_warren_spec \"$command\"\n"
	       "\t\telif ((skip)); then\n"
	       "\t\t\t[[ $word == '=' ]] || skip=0\n"
	       "\t\telif [[ \" $valued \" == *\" $word \"* ]]; then\n"
	       "\t\t\tskip=1\n"
	       "\t\telif [[ $word != -* && $word != '=' ]]; then\n"
	       "\t\t\tat=$((at + 1))\n"
	       "\t\tfi\n"
	       "\tdone\n"
	       "\tif [[ -z $command ]]; then\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -W \"${!commands[*]}\" -- \"$cur\")\n"
	       "\telif [[ -n ${groups[$command]} ]]; then\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -W \"${groups[$command]}\" -- \"$cur\")\n"
	       "\telif [[ -n $valued && \" $valued \" == *\" $prev \"* ]]; then\n"
	       "\t\t_warren_value \"$prev\"\n"
	       "\telif [[ $cur == -* ]]; then\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
	       "\telse\n"
	       "\t\t_warren_value \"$at\"\n"
	       "\tfi\n"
	       "}\n\n"
	       "complete -F _warren warren\n");
}

/* ---- zsh ---- */

/* Text inside '...' of an _arguments spec. */
static void
zsh_text(const char *s)
{
	for (; *s; s++) {
		if (strchr("[]:\\", *s))
			putchar('\\');
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	}
}

static void
zsh_action(enum wr_complete what, const char *const *choices)
{
	putchar(':');
	switch (what) {
	case WR_COMPLETE_FILE:
		fputs("_files", stdout);
		break;
	case WR_COMPLETE_DIR:
		fputs("_files -/", stdout);
		break;
	case WR_COMPLETE_CHOICE:
		putchar('(');
		for (size_t i = 0; choices[i]; i++)
			printf("%s%s", i ? " " : "", choices[i]);
		putchar(')');
		break;
	case WR_COMPLETE_COMMAND:
		fputs("_warren_commands", stdout);
		break;
	case WR_COMPLETE_NONE:
		putchar(' ');
		break;
	}
}

static void
zsh_option(const struct wr_opt *o)
{
	bool again = o->kind == WR_OPT_LIST;

	printf(" \\\n\t\t\t");
	if (o->letter)
		printf("'(-%c --%s)'{-%c%s,--%s%s}'[", o->letter, o->name, o->letter,
		       o->value ? "+" : "", o->name, o->value ? "=" : "");
	else
		printf("'%s--%s%s[", again ? "*" : "", o->name, o->value ? "=" : "");
	zsh_text(o->help);
	putchar(']');
	if (o->value) {
		putchar(':');
		zsh_text(o->value);
		zsh_action(o->complete, o->choices);
	}
	putchar('\'');
}

static void
zsh_list(const char *function, const char *group)
{
	WR_SCOPED(wr_freep) const char **words = wr_cmd_children(group);

	printf("%s()\n{\n\tlocal -a list=(\n", function);
	for (size_t i = 0; words[i]; i++) {
		WR_SCOPED(wr_freep)
		char *path = wr_asprintf("%s%s%s", group, *group ? " " : "", words[i]);

		printf("\t\t'%s:", words[i]);
		zsh_text(wr_cmd_find(path)->summary);
		printf("'\n");
	}
	printf("\t)\n\t_describe command list\n}\n\n");
}

static void
zsh_command(const struct wr_cmd *cmd)
{
	const struct wr_opt *o;

	printf("\t'%s')\n\t\t_arguments -s -S", cmd->path);
	for (size_t i = 0; (o = wr_cmd_opt(cmd, i)); i++)
		zsh_option(o);
	for (size_t i = 0; i < WR_POS_MAX && cmd->pos[i].name; i++) {
		printf(" \\\n\t\t\t'%s", cmd->pos[i].repeat ? "*" : "");
		if (!cmd->pos[i].repeat)
			printf("%zu", i + 1);
		putchar(':');
		zsh_text(cmd->pos[i].name);
		zsh_action(cmd->pos[i].complete, cmd->pos[i].choices);
		putchar('\'');
	}
	printf("\n\t\t;;\n");
}

static void
zsh(void)
{
	printf(
	    "#compdef warren\n# zsh completion for warren; written by 'warren completion zsh'\n\n");
	zsh_list("_warren_commands", "");
	for (const struct wr_cmd *c = wr_commands; c->path; c++)
		if (c->flags & WR_CMD_GROUP) {
			WR_SCOPED(wr_freep) char *name = wr_asprintf("_warren_%s", c->path);

			zsh_list(name, c->path);
		}
	printf("_warren()\n{\n\tlocal command=${words[2]} n=2\n\n"
	       "\tif ((CURRENT == 2)); then\n\t\t_warren_commands\n\t\treturn\n\tfi\n");
	for (const struct wr_cmd *c = wr_commands; c->path; c++)
		if (c->flags & WR_CMD_GROUP)
			printf("\tif [[ $command == '%s' ]]; then\n"
			       "\t\tif ((CURRENT == 3)); then\n\t\t\t_warren_%s\n\t\t\treturn\n"
			       "\t\tfi\n"
			       "\t\tcommand=\"$command ${words[3]}\"\n\t\tn=3\n\tfi\n",
			       c->path, c->path);
	printf("\twords=(\"${(@)words[n,-1]}\")\n\t((CURRENT -= n - 1))\n\tcase $command in\n");
	for (const struct wr_cmd *c = wr_commands; c->path; c++)
		if (!(c->flags & WR_CMD_GROUP))
			zsh_command(c);
	printf("\tesac\n}\n\n"
	       "if [[ $funcstack[1] == _warren ]]; then\n\t_warren \"$@\"\nelse\n"
	       "\tcompdef _warren warren\nfi\n");
}

int
wr_cmd_completion(const struct wr_args *a, struct wr_err *err)
{
	if (!strcmp(a->pos[0], "bash")) {
		bash();
		return 0;
	}
	if (!strcmp(a->pos[0], "zsh")) {
		zsh();
		return 0;
	}
	wr_err_set(err, WR_E_USAGE, "no completions for shell '%s'", WR_Q(a->pos[0]));
	return wr_err_hint(err, "there are some for bash and zsh");
}
