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

static const struct wr_opt repo_init_opts[] = {
	NUM("split-bits", "N", WR_SPLIT_BITS_MIN, WR_SPLIT_BITS_MAX,
	    "cut files into chunks of about 2^N bytes, 13 to 19 (default: 16; bup 0.33 uses 13)"),
	END,
};

static const struct wr_opt repo_save_opts[] = {
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

static const struct wr_opt repo_snapshots_opts[] = {
	NUM("limit", "N", 1, 0, "show the newest N only"),
	END,
};

static const struct wr_opt repo_ls_opts[] = {
	FLAG("long", 'l', "show mode, owner, size and time as well"),
	FLAG("recursive", 'R', "go down into directories"),
	END,
};

static const struct wr_opt repo_diff_opts[] = {
	FLAG("stat", 0, "show the totals only"),
	FLAG("name-only", 0, "show the paths only"),
	END,
};

static const struct wr_opt repo_find_opts[] = {
	STR("branch", 0, "BRANCH", "look at this branch only (default: all branches)"),
	FLAG("ignore-case", 'i', "take upper and lower case as the same"),
	END,
};

static const struct wr_opt repo_history_opts[] = {
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

static const struct wr_opt repo_restore_opts[] = {
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

/* ---- projects ---- */

#define ID {.name = "ID"}
#define MAYBE_ID {.name = "ID", .lead = true}
#define BUSY_WAIT \
	{.name = "wait", .kind = WR_OPT_DURATION, .value = "TIME", .max = 86400, \
	 .help = "if another operation has the project, wait so long for it (30s, 5min; " \
		 "default: do not wait)"}
#define LIST(n, v, h) {.name = n, .kind = WR_OPT_LIST, .value = v, .help = h}
#define SIZE(n, v, h) {.name = n, .kind = WR_OPT_SIZE, .value = v, .help = h}
#define CHOICE(n, v, c, h) \
	{.name = n, .kind = WR_OPT_CHOICE, .value = v, .choices = c, \
	 .complete = WR_COMPLETE_CHOICE, .help = h}
#define DIR(n, v, h) \
	{.name = n, .kind = WR_OPT_STR, .value = v, .complete = WR_COMPLETE_DIR, .help = h}
#define FILE_OPT(n, l, v, h) \
	{.name = n, .letter = l, .kind = WR_OPT_STR, .value = v, .complete = WR_COMPLETE_FILE, \
	 .help = h}
#define NODE (WR_CMD_NODE | WR_CMD_JSON)
#define CLIENT (WR_CMD_CLIENT | WR_CMD_JSON)
#define OP (CLIENT | WR_CMD_NO_WAIT)
#define ROOT_FS FLAG("allow-root-fs", 0, "take a directory on the root file system too")

static const char *const project_states[] = {"stopped", "starting", "running", "restarting",
					     "stopping", "saving", "error", NULL};
static const char *const op_states[] = {"queued", "running", "done", "failed", "cancelled", NULL};
static const char *const sort_keys[] = {"name", "time", "size", NULL};
static const char *const copy_modes[] = {"update", "overwrite", "keep", NULL};

static const struct wr_opt init_opts[] = {
	STR("dc", 0, "DC", "name of the data centre that this host stands in; needed"),
	STR("name", 0, "NAME", "the node's name (default: the host's)"),
	STR("user", 0, "USER", "who owns the repositories, as root (default: warren)"),
	SIZE("reserve", "SIZE",
	     "room kept free for Warren's own needs (default: a hundredth, at least 1G)"),
	ROOT_FS,
	END,
};

static const struct wr_opt volume_add_opts[] = {
	ROOT_FS,
	END,
};

static const struct wr_opt serve_opts[] = {
	FLAG("verbose", 'v', "log what is of use when something is wrong, too"),
	FILE_OPT("front", 0, "PROGRAM", "run PROGRAM in place of the own front (for tests)"),
	END,
};

static const char *const identities[] = {"range", "nss", "fixed", "derived", NULL};
static const struct wr_opt create_opts[] = {
	STR("name", 0, "NAME", "the project's name (default: made from its id)"),
	DIR("from", "DIR", "import the files of DIR, or with --adopt its history"),
	FLAG("adopt", 0, "DIR is a bup or git repository: take over its history"),
	LIST("label", "KEY=VALUE", "put this label on it; may be given again"),
	LIST("set", "KEY=VALUE", "give it this setting, see settings; may be given again"),
	NUM("uid", "N", 0, UINT32_MAX - 1, "number of its user (default: the next free one)"),
	NUM("gid", "N", 0, UINT32_MAX - 1, "number of its group (default: that of the user)"),
	CHOICE("identity", "DRIVER", identities, "where its user comes from"),
	STR("account", 0, "NAME", "the name of its user (default: the project's)"),
	STR("volume", 0, "VOLUME", "put it on this volume (default: the one with most room)"),
	STR("id", 0, "UUID", "its id (default: a new one)"),
	BUSY_WAIT,
	END,
};

static const struct wr_opt list_opts[] = {
	LIST("label", "KEY[=VALUE]", "show projects with this label only; may be given again"),
	CHOICE("state", "STATE", project_states, "show projects in this state only"),
	STR("name", 0, "PATTERN", "show projects whose name matches, with * and ?"),
	FLAG("trashed", 0, "show what is in the trash instead"),
	END,
};

static const struct wr_opt settings_opts[] = {
	NUM("rev", "N", 1, 0, "change only if the settings are still at revision N"),
	FLAG("keys", 0, "show all keys with their defaults and what they do, of no project"),
	END,
};

static const struct wr_opt start_opts[] = {
	STR("holder", 0, "NAME", "who needs it: it stays active until NAME has stopped it"),
	FLAG("accept-loss", 0, "also where only nodes that are away have the newest saves"),
	BUSY_WAIT,
	END,
};

#define TARGETS LIST("targets", "NODE,...", "send it to these nodes only; may be given again")

static const struct wr_opt replicate_opts[] = {
	TARGETS,
	END,
};

static const struct wr_opt move_opts[] = {
	STR("to", 0, "NODE", "the node that is to keep the files, by name or id"),
	FLAG("accept-loss", 0, "also where only nodes that are away have the newest saves"),
	END,
};

static const struct wr_opt save_all_opts[] = {
	NUM("rf", "N", 1, 9, "be content with N copies (default: all)"),
	NUM("limit", "N", 1, 1000000, "save the first N projects only"),
	FLAG("shutdown", 0, "end what is active, too: this host goes down, and they come back with it"),
	{.name = "within", .kind = WR_OPT_DURATION, .value = "TIME", .min = 1, .max = 240,
	 .help = "with --shutdown: no longer than that (default: [work] shutdown_save)"},
	END,
};

static const struct wr_opt usage_opts[] = {
	FLAG("now", 0, "look at files and history now, instead of at what saves left"),
	END,
};

static const struct wr_opt quota_auto_opts[] = {
	{.name = "factor", .kind = WR_OPT_DECIMAL, .value = "N", .min = 1000, .max = 1000000,
	 .help = "N times what is used (default: 2; 1.5)"},
	{.name = "min", .kind = WR_OPT_SIZE, .value = "SIZE", .min = 1 << 20,
	 .help = "but at least SIZE (default: 4G)"},
	NUM("within", "PERCENT", 0, 100,
	    "leave what differs by less than PERCENT of what it is (default: 5)"),
	FLAG("dry-run", 0, "change nothing"),
	END,
};

static const struct wr_opt stop_opts[] = {
	STR("holder", 0, "NAME", "NAME needs it no longer; it stops when nobody else does"),
	FLAG("force", 0, "stop it whoever needs it; the receipt says who did"),
	FLAG("if-idle", 0, "stop it only if nothing runs and nothing changed for a while"),
	FLAG("no-save", 0, "take no snapshot; the files stay as they are until the next start"),
	BUSY_WAIT,
	END,
};

static const struct wr_opt restart_opts[] = {
	FLAG("force", 0, "restart it also if others need it"),
	BUSY_WAIT,
	END,
};

static const struct wr_opt save_opts[] = {
	STR("tag", 0, "TAG", "give the snapshot this name, so that it is found again"),
	STR("message", 'm', "TEXT", "put TEXT into the snapshot's message"),
	TARGETS,
	{.name = "replicate-wait", .kind = WR_OPT_DURATION, .value = "TIME", .min = 1, .max = 86400,
	 .help = "wait so long for each of the other nodes (default: 1min)"},
	BUSY_WAIT,
	END,
};

static const struct wr_opt snapshots_opts[] = {
	STR("branch", 0, "BRANCH", "show this branch only (default: all)"),
	NUM("limit", "N", 1, 1000000, "show the newest N only"),
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
	STR("branch", 0, "BRANCH", "look at this branch (default: the default branch)"),
	END,
};

static const struct wr_opt restore_opts[] = {
	STR("to", 0, "PATH", "put it at PATH in the project"),
	FLAG("in-place", 0, "put it where it was, over what is there now"),
	FLAG("delete", 0, "also remove what the snapshot does not have"),
	{.name = "overwrite", .kind = WR_OPT_CHOICE, .value = "WHEN", .choices = overwrite_modes,
	 .complete = WR_COMPLETE_CHOICE,
	 .help = "replace existing files: changed (default), always, newer or never"},
	FLAG("live", 0, "restore the whole tree although processes run in it"),
	FLAG("dry-run", 0, "say what would change, change nothing"),
	BUSY_WAIT,
	END,
};

static const struct wr_opt undo_opts[] = {
	FLAG("live", 0, "do it although processes run in it"),
	BUSY_WAIT,
	END,
};

static const struct wr_opt read_opts[] = {
	FLAG("tar", 0, "a folder, or a file, as a tar archive"),
	FLAG("zip", 0, "the same as a zip archive"),
	SIZE("max-size", "SIZE", "refuse what is larger (500M, 4G)"),
	FILE_OPT("output", 'o', "FILE", "write to FILE, which must not exist yet"),
	END,
};

static const struct wr_opt files_opts[] = {
	FLAG("hidden", 'a', "show names that begin with a dot too"),
	CHOICE("sort", "KEY", sort_keys, "by name (default), time (newest first) or size"),
	FLAG("reverse", 0, "the other way round"),
	NUM("start", "N", 0, 0, "leave out the first N"),
	NUM("limit", "N", 1, 100000, "show at most N"),
	END,
};

static const struct wr_opt copy_opts[] = {
	CHOICE("mode", "MODE", copy_modes,
	       "existing files: update (if the source's is newer; default), overwrite, keep"),
	FLAG("delete", 0, "also remove from the destination what the source does not have"),
	BUSY_WAIT,
	END,
};

static const struct wr_opt chown_opts[] = {
	BUSY_WAIT,
	END,
};

static const struct wr_opt delete_opts[] = {
	FLAG("force", 0, "stop it first if it is active"),
	END,
};

static const struct wr_opt purge_opts[] = {
	FLAG("now", 0, "also before its time in the trash is over"),
	END,
};

static const struct wr_opt trash_purge_opts[] = {
	FLAG("now", 0, "also what has to stay longer"),
	NUM("max", "N", 1, 0, "remove at most N projects (default: 10)"),
	FLAG("dry-run", 0, "say what would be removed, remove nothing"),
	END,
};

static const struct wr_opt op_list_opts[] = {
	STR("project", 0, "ID", "show those of this project only"),
	CHOICE("state", "STATE", op_states, "show those in this state only"),
	NUM("limit", "N", 1, 1000, "show the newest N only (default: 50)"),
	END,
};

static const struct wr_opt op_wait_opts[] = {
	{.name = "timeout", .kind = WR_OPT_DURATION, .value = "TIME",
	 .help = "give up waiting after TIME (30s, 5min; default: never)"},
	END,
};

static const struct wr_opt events_opts[] = {
	STR("project", 0, "ID", "show those of this project only"),
	NUM("since", "SEQ", 0, 0, "show what came after event number SEQ (default: the newest)"),
	NUM("limit", "N", 1, 1000, "show at most N (default: 50)"),
	END,
};

static const struct wr_opt top_opts[] = {
	NUM("watch", "SECONDS", 1, 3600, "show it again every so many seconds, on a terminal"),
	END,
};

static const struct wr_opt join_opts[] = {
	DIR("volume", "DIR", "the first volume, for a host that is no node yet; see init"),
	STR("name", 0, "NAME", "take the token only if it is for a node of this name"),
	STR("user", 0, "USER", "who owns the repositories, as root (default: warren)"),
	SIZE("reserve", "SIZE",
	     "room kept free for Warren's own needs (default: a hundredth, at least 1G)"),
	ROOT_FS,
	STR("listen-peer", 0, "HOST:PORT", "write into a new warren.conf: peer in [listen]"),
	STR("listen-api", 0, "HOST:PORT", "write into a new warren.conf: api in [listen]"),
	STR("listen-name", 0, "NAME", "write into a new warren.conf: name in [listen]"),
	END,
};

static const char *const yes_no[] = {"yes", "no", NULL};

static const struct wr_opt node_add_opts[] = {
	STR("name", 0, "NAME", "the new node's name; needed"),
	STR("dc", 0, "DC", "name of the data centre that it stands in; needed"),
	STR("rejoin", 0, "NODE", "let NODE come back, which lost its place but not its files"),
	STR("names", 0, "NAME,...", "what its certificate may say that it is, and nothing else"),
	END,
};

static const struct wr_opt node_set_opts[] = {
	NUM("weight", "N", 1, 100000, "its share of copies; 100 is usual"),
	CHOICE("draining", "WHETHER", yes_no, "it gets no new copies, and gives its own away"),
	CHOICE("experimental", "WHETHER", yes_no, "its copies count for nothing"),
	STR("peer", 0, "HOST:PORT", "where other nodes reach it"),
	STR("api", 0, "HOST:PORT", "where its HTTPS API is"),
	STR("names", 0, "NAME,...", "what its certificate may say that it is"),
	END,
};

static const struct wr_opt permit_loss_opts[] = {
	STR("node", 0, "NODE", "the node that may go on without them; needed"),
	END,
};

static const struct wr_opt node_remove_opts[] = {
	FLAG("force", 0, "also if it has the only copies of projects, as far as is known"),
	END,
};

static const struct wr_opt audit_opts[] = {
	FLAG("all", 0, "every project whose files are kept here, one line each"),
	FLAG("data", 0, "read and hash every object, not only the structure"),
	FLAG("repair", 0, "refill a copy that is marked as damaged now, and wait until it is whole"),
	FLAG("no-wait", 0, "with --repair: do not wait, it goes on by itself"),
	END,
};

static const struct wr_opt replica_add_opts[] = {
	STR("node", 0, "NODE", "the node that is to hold a copy; needed"),
	{.name = "wait", .kind = WR_OPT_DURATION, .value = "TIME", .max = 86400,
	 .help = "wait so long until it has everything and counts (default: do not wait)"},
	FLAG("witness", 0, "it is to vote only, and to hold no copy"),
	END,
};

static const struct wr_opt replica_remove_opts[] = {
	STR("node", 0, "NODE", "the node that is to hold none any more; needed"),
	END,
};

static const struct wr_opt hub_force_opts[] = {
	LIST("dead", "NODE,...", "who is gone for good; needed, may be given again"),
	STR("key", 0, "FILE", "the fleet's recovery key"),
	STR("to", 0, "NODE", "who is to keep the files (default: who has most of them)"),
	FLAG("accept-loss", 0, "also if nobody who is left has the newest save"),
	FLAG("dry-run", 0, "show what would be left and lost, and change nothing"),
	END,
};

static const struct wr_opt token_create_opts[] = {
	STR("scope", 0, "SCOPE", "read (default), operate, admin or project:ID"),
	{.name = "expires", .kind = WR_OPT_DURATION, .value = "TIME", .max = 3650u * 86400,
	 .help = "it ends after TIME (8h, 90d; default: never)"},
	STR("purpose", 0, "TEXT", "what it is for, shown in the list"),
	END,
};

const struct wr_cmd wr_commands[] = {
	{"init", "make this host a node", wr_cmd_init, NODE,
	 {{.name = "VOLUME", .complete = WR_COMPLETE_DIR}}, init_opts},
	{"join", "make this host a node of a fleet", wr_cmd_join, NODE,
	 {{.name = "URL"}, {.name = "TOKEN"}}, join_opts},
	{"volume", "where projects lie on this host", NULL, WR_CMD_GROUP, {END}, NULL},
	{"volume add", "add a volume to this node", wr_cmd_volume_add, NODE,
	 {{.name = "VOLUME", .complete = WR_COMPLETE_DIR}}, volume_add_opts},
	{"volume list", "list this node's volumes", wr_cmd_volume_list, NODE, {END}, NULL},
	{"serve", "run the daemon", wr_cmd_serve, WR_CMD_NODE, {END}, serve_opts},
	{"doctor", "check what this host can do and what is missing", wr_cmd_doctor, CLIENT,
	 {END}, NULL},
	{"config", "the daemon's configuration", NULL, WR_CMD_GROUP, {END}, NULL},
	{"config check", "check a configuration file", wr_cmd_config_check, NODE,
	 {{.name = "FILE", .optional = true, .complete = WR_COMPLETE_FILE}}, NULL},
	{"config get", "show the configuration in force", wr_cmd_config_get, NODE,
	 {{.name = "KEY", .optional = true}}, NULL},
	{"create", "make a project", wr_cmd_create, OP, {END}, create_opts},
	{"list", "list projects", wr_cmd_list, CLIENT, {END}, list_opts},
	{"show", "show all about a project", wr_cmd_show, CLIENT, {MAYBE_ID}, NULL},
	{"status", "show what needs attention, worst first", wr_cmd_status, CLIENT,
	 {{.name = "ID", .optional = true}}, NULL},
	{"state", "show the state of a project on this host", wr_cmd_state, CLIENT,
	 {MAYBE_ID}, NULL},
	{"settings", "show and change the settings of a project", wr_cmd_settings, CLIENT,
	 {MAYBE_ID, {.name = "KEY=VALUE", .optional = true, .repeat = true}}, settings_opts},
	{"start", "make a project active", wr_cmd_start, OP, {MAYBE_ID}, start_opts},
	{"stop", "save a project and make it inactive", wr_cmd_stop, OP, {MAYBE_ID}, stop_opts},
	{"restart", "end the processes of a project and start them again", wr_cmd_restart, OP,
	 {MAYBE_ID}, restart_opts},
	{"save", "take a snapshot of a project", wr_cmd_save, OP, {MAYBE_ID}, save_opts},
	{"save-all", "save every project that may have changes", wr_cmd_save_all, CLIENT, {END},
	 save_all_opts},
	{"replicate", "send what is saved to the nodes that lack it", wr_cmd_replicate, OP,
	 {MAYBE_ID}, replicate_opts},
	{"move", "hand a project to another node, and go on there", wr_cmd_move, OP, {MAYBE_ID},
	 move_opts},
	{"explain", "show who holds a project, and why there", wr_cmd_explain, CLIENT, {MAYBE_ID},
	 NULL},
	{"usage", "show what a project takes, and where", wr_cmd_usage, CLIENT, {MAYBE_ID},
	 usage_opts},
	{"quota", "disk quotas", NULL, WR_CMD_GROUP, {END}, NULL},
	{"quota auto", "set the disk of each project by what it uses", wr_cmd_quota_auto, CLIENT,
	 {END}, quota_auto_opts},
	{"locate", "ask every node what it really holds", wr_cmd_locate, CLIENT,
	 {{.name = "ID", .optional = true}}, NULL},
	{"fleet", "show up to when every project is safe", wr_cmd_fleet, CLIENT, {END}, NULL},
	{"snapshots", "list the snapshots of a project", wr_cmd_snapshots, CLIENT, {MAYBE_ID},
	 snapshots_opts},
	{"ls", "list what is in a snapshot of a project", wr_cmd_ls, CLIENT,
	 {MAYBE_ID, {.name = "SNAP[:PATH]", .optional = true}}, ls_opts},
	{"cat", "print files of a snapshot of a project", wr_cmd_cat, CLIENT,
	 {MAYBE_ID, {.name = "SNAP:PATH", .repeat = true}}, NULL},
	{"diff", "show what changed between two snapshots of a project", wr_cmd_diff, CLIENT,
	 {MAYBE_ID, {.name = "A[:PATH]"}, {.name = "B[:PATH]", .optional = true}}, diff_opts},
	{"find", "find files by name in all snapshots of a project",
	 wr_cmd_project_find, CLIENT,
	 {MAYBE_ID, {.name = "PATTERN"}}, find_opts},
	{"history", "list the versions of a path of a project", wr_cmd_history, CLIENT,
	 {MAYBE_ID, {.name = "PATH"}}, history_opts},
	{"restore", "bring files of a project back", wr_cmd_restore, OP,
	 {MAYBE_ID, {.name = "SNAP[:PATH]"}}, restore_opts},
	{"undo", "take a whole project back to a snapshot", wr_cmd_undo, OP,
	 {MAYBE_ID, {.name = "SNAP", .optional = true}}, undo_opts},
	{"files", "list the files of a project", wr_cmd_files, CLIENT,
	 {MAYBE_ID, {.name = "PATH", .optional = true}}, files_opts},
	{"read", "print a file of a project, or a folder as an archive", wr_cmd_read, CLIENT,
	 {MAYBE_ID, {.name = "PATH"}}, read_opts},
	{"mkdir", "make a folder in a project", wr_cmd_mkdir, CLIENT,
	 {MAYBE_ID, {.name = "PATH"}}, NULL},
	{"copy", "copy files from one project into another", wr_cmd_copy, OP,
	 {{.name = "FROM:PATH"}, {.name = "TO:PATH"}}, copy_opts},
	{"chown", "give all files of a project to its user", wr_cmd_chown, OP, {ID}, chown_opts},
	{"delete", "put a project into the trash", wr_cmd_delete, OP, {ID}, delete_opts},
	{"undelete", "take a project out of the trash", wr_cmd_undelete, OP, {ID}, NULL},
	{"purge", "remove a project from the trash for good", wr_cmd_purge, OP, {ID}, purge_opts},
	{"trash", "deleted projects", NULL, WR_CMD_GROUP, {END}, NULL},
	{"trash list", "list what is in the trash", wr_cmd_trash_list, CLIENT, {END}, NULL},
	{"trash purge", "remove from the trash what has been there long enough",
	 wr_cmd_trash_purge, CLIENT, {END}, trash_purge_opts},
	{"op", "operations", NULL, WR_CMD_GROUP, {END}, NULL},
	{"op list", "list operations, newest first", wr_cmd_op_list, CLIENT, {END}, op_list_opts},
	{"op show", "show an operation", wr_cmd_op_show, CLIENT, {{.name = "OP"}}, NULL},
	{"op wait", "wait for the end of an operation", wr_cmd_op_wait, CLIENT,
	 {{.name = "OP"}}, op_wait_opts},
	{"op cancel", "end an operation before it is done", wr_cmd_op_cancel, CLIENT,
	 {{.name = "OP"}}, NULL},
	{"op log", "print what an operation logged", wr_cmd_op_log, CLIENT, {{.name = "OP"}}, NULL},
	{"events", "show what happened", wr_cmd_events, CLIENT, {END}, events_opts},
	{"node", "the nodes of the fleet", NULL, WR_CMD_GROUP, {END}, NULL},
	{"node add", "make a token with which a host joins the fleet", wr_cmd_node_add, CLIENT,
	 {END}, node_add_opts},
	{"node list", "list the nodes of the fleet", wr_cmd_node_list, CLIENT, {END}, NULL},
	{"node show", "show a node of the fleet", wr_cmd_node_show, CLIENT,
	 {{.name = "NODE", .optional = true}}, NULL},
	{"node set", "change what the fleet knows of a node", wr_cmd_node_set, CLIENT,
	 {{.name = "NODE"}}, node_set_opts},
	{"node remove", "take a node out of the fleet for good", wr_cmd_node_remove, CLIENT,
	 {{.name = "NODE"}}, node_remove_opts},
	{"audit", "have every member look at its copy, and compare", wr_cmd_audit, CLIENT,
	 {MAYBE_ID}, audit_opts},
	{"replica", "which nodes hold copies of a project", NULL, WR_CMD_GROUP, {END}, NULL},
	{"replica add", "have another node hold a copy", wr_cmd_replica_add, CLIENT,
	 {MAYBE_ID}, replica_add_opts},
	{"replica remove", "have a node hold no copy any more", wr_cmd_replica_remove, CLIENT,
	 {MAYBE_ID}, replica_remove_opts},
	{"hub", "what only a hub can do", NULL, WR_CMD_GROUP, {END}, NULL},
	{"hub force", "go on without nodes that are gone for good", wr_cmd_hub_force, CLIENT,
	 {{.name = "ID"}}, hub_force_opts},
	{"hub permit-loss", "let a node go on without a project's newest saves",
	 wr_cmd_hub_permit_loss, CLIENT, {{.name = "ID"}}, permit_loss_opts},
	{"ca", "print the certificates of the fleet's CA", wr_cmd_ca, CLIENT, {END}, NULL},
	{"token", "tokens of the API", NULL, WR_CMD_GROUP, {END}, NULL},
	{"token create", "make a token", wr_cmd_token_create, CLIENT, {END}, token_create_opts},
	{"token list", "list tokens, without their secrets", wr_cmd_token_list, CLIENT, {END}, NULL},
	{"token revoke", "end a token", wr_cmd_token_revoke, CLIENT, {{.name = "TOKEN"}}, NULL},
	{"openapi", "print the API as an OpenAPI document", wr_cmd_openapi, 0, {END}, NULL},
	{"top", "show which project costs what", wr_cmd_top, CLIENT, {END}, top_opts},
	{"repo", "keep and restore snapshots in a bup repository", NULL, WR_CMD_GROUP,
	 {END}, NULL},
	{"repo init", "make a repository", wr_cmd_repo_init, WR_CMD_REPO,
	 {{.name = "REPO", .optional = true, .complete = WR_COMPLETE_DIR}}, repo_init_opts},
	{"repo save", "save a directory as a new snapshot", wr_cmd_repo_save, WR_CMD_REPO,
	 {{.name = "PATH", .complete = WR_COMPLETE_DIR}}, repo_save_opts},
	{"repo snapshots", "list snapshots", wr_cmd_repo_snapshots, WR_CMD_REPO,
	 {{.name = "BRANCH", .optional = true}}, repo_snapshots_opts},
	{"repo ls", "list what is in a snapshot", wr_cmd_repo_ls, WR_CMD_REPO,
	 {{.name = "SNAP[:PATH]"}}, repo_ls_opts},
	{"repo cat", "print files of a snapshot", wr_cmd_repo_cat, WR_CMD_REPO,
	 {{.name = "SNAP:PATH", .repeat = true}}, NULL},
	{"repo diff", "show what changed between two snapshots", wr_cmd_repo_diff, WR_CMD_REPO,
	 {{.name = "A[:PATH]"}, {.name = "B[:PATH]"}}, repo_diff_opts},
	{"repo find", "find files by name in all snapshots", wr_cmd_repo_find, WR_CMD_REPO,
	 {{.name = "PATTERN"}}, repo_find_opts},
	{"repo history", "list the versions of one path", wr_cmd_repo_history, WR_CMD_REPO,
	 {{.name = "PATH"}}, repo_history_opts},
	{"repo tag", "list, set and delete tags", wr_cmd_repo_tag, WR_CMD_REPO,
	 {{.name = "NAME", .optional = true}, {.name = "SNAP"}}, tag_opts},
	{"repo branch", "list, make and delete branches", wr_cmd_repo_branch, WR_CMD_REPO,
	 {{.name = "NAME", .optional = true}, {.name = "SNAP"}}, branch_opts},
	{"repo restore", "bring files back from a snapshot", wr_cmd_repo_restore, WR_CMD_REPO,
	 {{.name = "SNAP[:PATH]"}, {.name = "DEST", .complete = WR_COMPLETE_DIR}}, repo_restore_opts},
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
