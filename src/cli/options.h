/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options and commands as data.  From one table (table.c) come parsing, --help, the completions
 * and the test that holds the man pages against it.
 *
 * GNU style: --opt=value, --opt value, -o value, -ovalue, -abc for three flags; "--" ends the
 * options, which may stand among the arguments.  Long names are not shortened: a new option must
 * never change what an old script means.
 */
#ifndef WR_OPTIONS_H
#define WR_OPTIONS_H

#include "base/buf.h"
#include "base/err.h"

enum wr_opt_kind {
	WR_OPT_END = 0,
	WR_OPT_FLAG,
	WR_OPT_STR,
	WR_OPT_LIST, /* a string that may be given several times */
	WR_OPT_SIZE, /* bytes, 500M and the like */
	WR_OPT_U64,
	WR_OPT_DECIMAL,  /* in thousandths, as are min and max; 1.5 */
	WR_OPT_TIME,     /* seconds since the epoch, not before it */
	WR_OPT_DURATION, /* seconds; 90s, 5min, 1h */
	WR_OPT_CHOICE,
};

/* What a shell offers for a value. */
enum wr_complete {
	WR_COMPLETE_NONE = 0,
	WR_COMPLETE_FILE,
	WR_COMPLETE_DIR,
	WR_COMPLETE_COMMAND, /* words of the command table */
	WR_COMPLETE_CHOICE,  /* the words of `choices` */
};

struct wr_opt {
	const char *name; /* long name without dashes */
	char letter;      /* 0 = none */
	enum wr_opt_kind kind;
	const char *value; /* placeholder, "FILE"; NULL for flags */
	const char *help;  /* lower case, no full stop */
	enum wr_complete complete;
	uint64_t min, max;          /* of numbers; max 0 = no bound */
	const char *const *choices; /* ends with NULL */
};

struct wr_pos {
	const char *name; /* as shown, "SNAP[:PATH]"; NULL ends */
	bool optional;    /* it and all behind it may be left out */
	bool lead;        /* the first one: it may be left out though others follow */
	bool repeat;      /* the last one: once or more often */
	enum wr_complete complete;
	const char *const *choices; /* ends with NULL */
};
#define WR_POS_MAX 4

struct wr_args;

enum wr_cmd_flag {
	WR_CMD_GROUP = 1,    /* has commands below it and no function of its own */
	WR_CMD_REPO = 2,     /* takes --repo, --json, --quiet, --no-progress */
	WR_CMD_JSON = 4,     /* takes --json */
	WR_CMD_NODE = 8,     /* works on this host's data root: --root, --quiet */
	WR_CMD_CLIENT = 16,  /* asks the daemon: --root, --socket, --quiet, --no-progress */
	WR_CMD_NO_WAIT = 32, /* takes --no-wait: begins an operation */
};

struct wr_cmd {
	const char *path;    /* "repo save" */
	const char *summary; /* one line: lower case, no full stop */
	/* Exit status 0 or 3, or -1 with *err. NULL for a group. */
	int (*run)(const struct wr_args *a, struct wr_err *err);
	unsigned flags;
	struct wr_pos pos[WR_POS_MAX];
	const struct wr_opt *opts; /* own options, ends with WR_OPT_END; NULL = none */
};

/* Parsed arguments; strings are borrowed from argv. */
struct wr_args {
	const struct wr_cmd *cmd;
	const char **pos; /* the positional arguments */
	size_t pos_count;
	struct wr_optval *val;
	size_t val_count;
};

/* The options of a command, its own first, then the shared ones: NULL behind the last. */
const struct wr_opt *wr_cmd_opt(const struct wr_cmd *cmd, size_t i);
/* "warren-repo-save": the name of its man page; the caller frees it. */
char *wr_cmd_man_name(const struct wr_cmd *cmd);
/* "[OPTION]... SNAP[:PATH] DEST"; the caller frees it. */
char *wr_cmd_synopsis(const struct wr_cmd *cmd);

/* Parse what stands behind the command's words. WR_E_USAGE. --help ends the parsing and is
 * reported as a flag. */
int wr_args_parse(struct wr_args *a, const struct wr_cmd *cmd, int argc, char **argv,
		  struct wr_err *err);
void wr_args_fini(struct wr_args *a);

/* Look-ups by long name; asking for an option that the command does not declare is a bug. */
bool wr_arg_flag(const struct wr_args *a, const char *name);
const char *wr_arg_str(const struct wr_args *a, const char *name); /* NULL = not given */
/* All values of a list in their order; *out is valid as long as a. */
size_t wr_arg_list(const struct wr_args *a, const char *name, const char *const **out);
/* Number of a SIZE, U64, DECIMAL, TIME or DURATION option, or otherwise. */
uint64_t wr_arg_u64(const struct wr_args *a, const char *name, uint64_t otherwise);
/* Position in `choices`, or otherwise. */
int wr_arg_choice(const struct wr_args *a, const char *name, int otherwise);
/* The repository: argument REPO if the command has one, --repo, $WARREN_REPO. WR_E_USAGE. */
const char *wr_arg_repo(const struct wr_args *a, struct wr_err *err);

#endif
