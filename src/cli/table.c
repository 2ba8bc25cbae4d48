/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of this release.  Everything a user can type is declared here and nowhere else. */
#include "cli/cli.h"

#include <limits.h>

#include "engine/chunk/split.h"
#include "engine/snap/restore.h"

static const char *const shells[] = {"bash", "zsh", NULL};
static const char *const overwrite_modes[] = {
    [WR_OVERWRITE_CHANGED] = "changed", [WR_OVERWRITE_ALWAYS] = "always",
    [WR_OVERWRITE_NEWER] = "newer",     [WR_OVERWRITE_NEVER] = "never",
    [WR_OVERWRITE_NEVER + 1] = NULL,
};

/* clang-format off */
#define END {0}
#define FLAG(n, l, h) {.name = n, .letter = l, .kind = WR_OPT_FLAG, .help = h}
#define STR(n, l, v, h) {.name = n, .letter = l, .kind = WR_OPT_STR, .value = v, .help = h}
#define NUM(n, v, lo, hi, h) \
	{.name = n, .kind = WR_OPT_U64, .value = v, .min = lo, .max = hi, .help = h}
#define WAIT NUM("wait", "SECONDS", 0, INT_MAX, \
		 "wait so long for another writer to end (default: do not wait)")
#define THREADS NUM("threads", "N", 1, 256, "work with N threads (default: one per CPU)")

static const struct wr_opt init_opts[] = {
	NUM("split-bits", "N", WR_SPLIT_BITS_MIN, WR_SPLIT_BITS_MAX,
	    "cut files into chunks of about 2^N bytes, 13 to 19 (default: 16; bup 0.33 uses 13)"),
	END,
};

static const struct wr_opt save_opts[] = {
	STR("name", 'n', "BRANCH", "save to this branch (default: the repository's default branch)"),
	{.name = "date", .letter = 'd', .kind = WR_OPT_TIME, .value = "EPOCH_SECONDS",
	 .help = "the snapshot's time (default: now)"},
	{.name = "exclude", .kind = WR_OPT_LIST, .value = "PATTERN",
	 .help = "leave out what matches, in .gitignore's syntax; may be given again"},
	{.name = "exclude-from", .kind = WR_OPT_STR, .value = "FILE", .complete = WR_COMPLETE_FILE,
	 .help = "read such patterns from FILE, one per line"},
	FLAG("one-file-system", 'x', "do not descend into other file systems"),
	{.name = "max-file-size", .kind = WR_OPT_SIZE, .value = "SIZE",
	 .help = "leave out files larger than SIZE (500M, 4G; default: 1T)"},
	FLAG("dry-run", 0, "read and count everything, store nothing"),
	FLAG("force", 0, "make a snapshot also when nothing changed"),
	FLAG("trust-mtime", 0, "without a stat cache take files of equal size and mtime as unchanged"),
	WAIT,
	THREADS,
	END,
};

static const struct wr_opt snapshots_opts[] = {
	NUM("limit", "N", 1, 0, "show the newest N only"),
	END,
};

static const struct wr_opt ls_opts[] = {
	FLAG("long", 'l', "show mode, owner, size and time as well"),
	FLAG("recursive", 'R', "go down into directories"),
	END,
};

static const struct wr_opt diff_opts[] = {
	FLAG("stat", 0, "show the totals only"),
	FLAG("name-only", 0, "show the paths only"),
	END,
};

static const struct wr_opt find_opts[] = {
	STR("branch", 0, "BRANCH", "look at this branch only (default: all branches)"),
	FLAG("ignore-case", 'i', "take upper and lower case as the same"),
	END,
};

static const struct wr_opt history_opts[] = {
	STR("branch", 0, "BRANCH", "look at this branch (default: the repository's default branch)"),
	END,
};

static const struct wr_opt tag_opts[] = {
	STR("delete", 0, "NAME", "delete this tag; the receipt tells how to undo it"),
	WAIT,
	END,
};

static const struct wr_opt branch_opts[] = {
	STR("delete", 0, "NAME", "delete this branch; the receipt tells how to undo it"),
	WAIT,
	END,
};

static const struct wr_opt restore_opts[] = {
	FLAG("delete", 0, "also remove from DEST what the snapshot does not have"),
	FLAG("dry-run", 0, "say what would change, change nothing"),
	FLAG("no-owner", 0, "leave owner and group as the system sets them"),
	FLAG("names", 0, "set owners by name where the name is known here (default: by number)"),
	{.name = "overwrite", .kind = WR_OPT_CHOICE, .value = "WHEN", .choices = overwrite_modes,
	 .complete = WR_COMPLETE_CHOICE,
	 .help = "replace existing files: changed (default), always, newer or never"},
	FLAG("no-safety", 0, "save no snapshot of DEST before changing it"),
	WAIT,
	THREADS,
	END,
};

static const struct wr_opt verify_opts[] = {
	FLAG("data", 0, "read and hash every object, not only the structure"),
	FLAG("repair", 0, "rebuild indexes, store good copies again; never edits or deletes"),
	{.name = "from", .kind = WR_OPT_STR, .value = "PATH", .complete = WR_COMPLETE_DIR,
	 .help = "with --repair: take lost contents from the files below PATH"},
	WAIT,
	THREADS,
	END,
};

const struct wr_cmd wr_commands[] = {
	{"repo", "keep and restore snapshots in a bup repository", NULL, WR_CMD_GROUP,
	 {END}, NULL},
	{"repo init", "make a repository", wr_cmd_repo_init, WR_CMD_REPO,
	 {{.name = "REPO", .optional = true, .complete = WR_COMPLETE_DIR}}, init_opts},
	{"repo save", "save a directory as a new snapshot", wr_cmd_repo_save, WR_CMD_REPO,
	 {{.name = "PATH", .complete = WR_COMPLETE_DIR}}, save_opts},
	{"repo snapshots", "list snapshots", wr_cmd_repo_snapshots, WR_CMD_REPO,
	 {{.name = "BRANCH", .optional = true}}, snapshots_opts},
	{"repo ls", "list what is in a snapshot", wr_cmd_repo_ls, WR_CMD_REPO,
	 {{.name = "SNAP[:PATH]"}}, ls_opts},
	{"repo cat", "print files of a snapshot", wr_cmd_repo_cat, WR_CMD_REPO,
	 {{.name = "SNAP:PATH", .repeat = true}}, NULL},
	{"repo diff", "show what changed between two snapshots", wr_cmd_repo_diff, WR_CMD_REPO,
	 {{.name = "A[:PATH]"}, {.name = "B[:PATH]"}}, diff_opts},
	{"repo find", "find files by name in all snapshots", wr_cmd_repo_find, WR_CMD_REPO,
	 {{.name = "PATTERN"}}, find_opts},
	{"repo history", "list the versions of one path", wr_cmd_repo_history, WR_CMD_REPO,
	 {{.name = "PATH"}}, history_opts},
	{"repo tag", "list, set and delete tags", wr_cmd_repo_tag, WR_CMD_REPO,
	 {{.name = "NAME", .optional = true}, {.name = "SNAP"}}, tag_opts},
	{"repo branch", "list, make and delete branches", wr_cmd_repo_branch, WR_CMD_REPO,
	 {{.name = "NAME", .optional = true}, {.name = "SNAP"}}, branch_opts},
	{"repo restore", "bring files back from a snapshot", wr_cmd_repo_restore, WR_CMD_REPO,
	 {{.name = "SNAP[:PATH]"}, {.name = "DEST", .complete = WR_COMPLETE_DIR}}, restore_opts},
	{"repo verify", "check that every snapshot is whole, and repair", wr_cmd_repo_verify,
	 WR_CMD_REPO, {END}, verify_opts},
	{"repo stat", "show sizes, ratios and what holds space", wr_cmd_repo_stat, WR_CMD_REPO,
	 {END}, NULL},
	{"help", "show help for a command", wr_cmd_help, WR_CMD_JSON,
	 {{.name = "COMMAND", .optional = true, .repeat = true, .complete = WR_COMPLETE_COMMAND}},
	 NULL},
	{"version", "show the version", wr_cmd_version, WR_CMD_JSON, {END}, NULL},
	{"completion", "print completions for a shell", wr_cmd_completion, 0,
	 {{.name = "SHELL", .complete = WR_COMPLETE_CHOICE, .choices = shells}}, NULL},
	END,
};
/* clang-format on */

const struct wr_cmd *
wr_cmd_find(const char *path)
{
	for (const struct wr_cmd *c = wr_commands; c->path; c++)
		if (!strcmp(c->path, path))
			return c;
	return NULL;
}

const struct wr_cmd *
wr_cmd_match(int argc, const char *const *argv, int *out_words)
{
	const struct wr_cmd *best = NULL;

	for (const struct wr_cmd *c = wr_commands; c->path; c++) {
		const char *p = c->path;
		int words = 0;

		while (*p && words < argc) {
			size_t n = strcspn(p, " ");

			if (strlen(argv[words]) != n || memcmp(argv[words], p, n) != 0)
				break;
			words++;
			p += n + (p[n] == ' ');
		}
		if (!*p && (!best || words > *out_words)) {
			best = c;
			*out_words = words;
		}
	}
	return best;
}

/* The last word of c if it stands directly below group, else NULL. */
static const char *
child_word(const struct wr_cmd *c, const char *group)
{
	size_t n = strlen(group);
	const char *word = c->path;

	if (n) {
		if (strncmp(word, group, n) != 0 || word[n] != ' ')
			return NULL;
		word += n + 1;
	}
	return strchr(word, ' ') ? NULL : word;
}

const char **
wr_cmd_children(const char *group)
{
	const char **list = wr_calloc(WR_ARRAY_LEN(wr_commands), sizeof(*list));
	size_t n = 0;

	for (const struct wr_cmd *c = wr_commands; c->path; c++) {
		const char *word = child_word(c, group);

		if (word)
			list[n++] = word;
	}
	return list;
}
