/* SPDX-License-Identifier: Apache-2.0 */
/* start: files at the tip, home presented, processes running. Each step may be repeated. */
#include "host/life/life_int.h"

#include <unistd.h>

#include "base/log.h"
#include "sys/fs.h"

/* The command must live that long to count as started: enough for a program that is not there or
 * refuses its arguments. Every start waits for it. */
#define SETTLE_MS 50
/* The other members hear that the epoch is open; those that do not answer hear it later. */
#define OPEN_WAIT_S 20

static void
add_env(char ***env, size_t *n, char *taken)
{
	*env = wr_reallocarray(*env, *n + 2, sizeof(char *));
	(*env)[(*n)++] = taken;
	(*env)[*n] = NULL;
}

/* What the project's processes and hooks learn about it; the token only for the processes. */
static char **
make_env(struct wr_life *l, bool with_token)
{
	WR_SCOPED(wr_freep) const char *const *own = NULL;
	size_t own_count = wr_settings_list(&l->set, "env", &own), n = 0;
	const char *socket = getenv("WARREN_SOCKET");
	WR_SCOPED(wr_freep) char *scratch = wr_life_scratch_path(l);
	char **env = NULL;

	for (size_t i = 0; i < own_count; i++)
		add_env(&env, &n, wr_strdup(own[i]));
	add_env(&env, &n, wr_asprintf("WARREN_PROJECT=%s", l->project.s));
	add_env(
	    &env, &n,
	    wr_asprintf("WARREN_URL=unix:%s", socket && *socket ? socket : l->node->socket_path));
	if (scratch)
		add_env(&env, &n, wr_asprintf("WARREN_SCRATCH=%s", scratch));
	if (with_token && l->token)
		add_env(&env, &n, wr_asprintf("WARREN_TOKEN=%s", l->token));
	return env;
}

static void
free_env(char ***env)
{
	for (char **e = *env; e && *e; e++) {
		explicit_bzero(*e, strlen(*e)); /* one holds the token */
		free(*e);
	}
	free(*env);
	*env = NULL;
}

int
wr_life_hook(struct wr_life *l, const char *program, struct wr_err *err)
{
	WR_SCOPED(free_env) char **env = make_env(l, false);
	json_t *args = json_object(), *list;

	wr_life_step(l, "run_hooks");
	wr_json_str(args, "program", program);
	list = wr_json_array(args, "env");
	for (char **e = env; *e; e++)
		wr_json_add_str(list, *e);
	wr_json_u64(args, "timeout", wr_settings_u64(&l->set, "hook_timeout"));
	wr_json_u64(args, "deny", wr_life_deny(l));
	if (wr_life_task(l, WR_TASK_HOOK, args, -1, NULL, err) < 0)
		return wr_err_wrap(err, "hook '%s'", WR_Q(program));
	return 0;
}

/* Files that the template has and the home lacks; the link to the history. A home without them is
 * a home: what fails here is a warning. */
static void
furnish(struct wr_life *l, json_t *receipt)
{
	const char *template = wr_settings_str(&l->set, "template");
	const char *link = wr_settings_str(&l->set, "snapshots_link");
	struct wr_err why = WR_ERR_INIT;

	if (*template) {
		WR_SCOPED(wr_json_freep) json_t *r = NULL;
		json_t *args = json_object();

		wr_life_step(l, "sync_template");
		wr_json_str(args, "template", template);
		if (wr_life_task(l, WR_TASK_SKEL, args, -1, &r, &why) < 0)
			wr_life_warn(l, "template '%s': %s", WR_Q(template), why.msg);
		else
			wr_json_u64(receipt, "skel", wr_json_get_u64(r, "copied", 0));
	}
	/* Where nobody serves histories it would lead nowhere. */
	if (*link && faccessat(l->node->run_fd, "history", F_OK, 0) == 0) {
		json_t *args = json_object();
		WR_SCOPED(wr_freep)
		char *target = wr_asprintf("%s/history/%s", l->node->run_path, l->project.s);

		wr_json_str(args, "name", link);
		wr_json_str(args, "target", target);
		if (wr_life_task(l, WR_TASK_LINK, args, -1, NULL, &why) < 0)
			wr_life_warn(l, "link '%s': %s", WR_Q(link), why.msg);
	}
}

static int
start_command(struct wr_life *l, const char *command, unsigned deny, struct wr_err *err)
{
	WR_SCOPED(free_env) char **env = make_env(l, true);
	struct wr_runner_start o = {
	    .node = l->node,
	    .id = l->project,
	    .uid = l->set.uid,
	    .gid = l->set.gid,
	    .home = l->home,
	    .account = l->set.account[0] ? l->set.account : l->set.name,
	    .shell = wr_settings_str(&l->set, "shell"),
	    .command = command,
	    .env = (const char *const *)env,
	    .exclusive = l->set.exclusive,
	    .deny = deny,
	    .limits = wr_run_limits_of(&l->set),
	    .settle_ms = SETTLE_MS,
	};
	struct wr_proc_id keeper;

	wr_life_step(l, "start_processes");
	if (wr_runner_start(&o, &keeper, err) < 0) {
		wr_err_wrap(err, "start the command of '%s'", l->set.name);
		if (!err->hint[0])
			wr_err_hint(err,
				    "the home is there; mend the command (warren settings %s "
				    "command=...), then: warren start %s",
				    l->set.name, l->set.name);
		return -1;
	}
	wr_life_crash(l, "processes");
	return 0;
}

/* With a process alive the files belong to it: nothing may change them under its hands. */
static int
files_in_use(struct wr_life *l, const struct wr_tip *tip, struct wr_err *err)
{
	if (!wr_life_on_line(l, tip))
		wr_life_warn(l,
			     "the history of '%s' has moved while it ran; stop and start it to "
			     "get both (its files go to a side branch)",
			     l->set.name);
	if (l->work.dirty)
		return 0;
	l->work.dirty = true;
	return wr_life_work_store(l, err);
}

static int
files_ready(struct wr_life *l, const struct wr_tip *tip, json_t *receipt, struct wr_err *err)
{
	WR_SCOPED(wr_life_brought_fini) struct wr_life_brought b = {0};

	/* Nobody shall write through the home while its files are replaced. */
	if (!wr_life_on_line(l, tip) && wr_life_unpresent(l, err) < 0)
		return -1;
	if (wr_life_bring_up(l, tip, &b, err) < 0)
		return -1;
	if (b.salvaged[0]) {
		wr_json_str(receipt, "salvaged", b.salvaged);
		wr_life_warn(
		    l,
		    "the files of '%s' were not those of its newest snapshot; as they were "
		    "they are in %s",
		    l->set.name, b.salvaged);
	}
	if (b.restored) {
		l->skipped = l->skipped || wr_life_has_skipped(b.restored);
		json_object_set(receipt, "restored", b.restored);
	}
	/* DURABLE: before anything can run: from now on the files may differ from every snapshot.
	 */
	snprintf(l->work.base, sizeof(l->work.base), "%s", tip->has ? tip->commit : "");
	l->work.dirty = true;
	if (wr_life_work_store(l, err) < 0)
		return -1;
	wr_life_crash(l, "dirty");
	return 0;
}

/* A project of an account that means somebody else by now is not started, and nothing is touched.
 */
static int
check_identity(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *doubt = NULL;

	if (!l->node->root_mode)
		return 0;
	if (wr_ident_check(&l->set, &doubt, err) < 0)
		return -1;
	if (doubt)
		wr_life_warn(l, "%s", doubt);
	return 0;
}

/* A project whose number has no name is a project: what fails here is a warning. */
static void
know_account(struct wr_life *l, json_t *receipt)
{
	struct wr_err why = WR_ERR_INIT;
	bool made = false;

	if (wr_accounts_driver(l->node) != WR_ACCOUNTS_NONE && l->set.exclusive) {
		wr_life_step(l, "create_account");
		if (wr_account_make(l->node, &l->set, &made, &why) < 0)
			wr_life_warn(l, "account: %s", why.msg);
		wr_life_crash(l, "account");
	}
	wr_json_str(receipt, "account", made ? wr_account_of(&l->set) : NULL);
}

int
wr_life_do_start(struct wr_life *l, json_t *receipt, struct wr_err *err)
{
	const char *command = wr_settings_str(&l->set, "command");
	struct wr_life_mend mend;
	struct wr_runner_status run;
	struct wr_tip tip;
	WR_SCOPED(wr_freep) char *snapshot = NULL;
	bool runs, opened;
	unsigned deny;

	if (check_identity(l, err) < 0)
		return -1;
	l->changed = true;
	wr_json_bool(receipt, "already", false);
	wr_json_str(receipt, "home", l->home);
	wr_json_u64(receipt, "uid", l->set.uid);
	wr_json_u64(receipt, "gid", l->set.gid);
	wr_json_null(receipt, "salvaged");
	wr_json_null(receipt, "restored");
	wr_json_u64(receipt, "skel", 0);
	if (wr_life_settle_work(l, &mend, err) < 0 || wr_life_open(l, &opened, err) < 0 ||
	    wr_life_inspect(l, &tip, err) < 0)
		return -1;
	if (wr_json_get_str(l->args, "given_up", NULL))
		wr_life_warn(l, "%s", wr_json_get_str(l->args, "given_up", ""));
	/* Nothing older becomes safe but through this. */
	if (opened && wr_life_replicate(l, receipt, OPEN_WAIT_S, err) < 0)
		return -1;
	wr_json_str(receipt, "finished_restore", mend.restore_op[0] ? mend.restore_op : NULL);
	wr_life_processes(l, &run);
	runs = run.processes > 0 || run.main;
	if (runs ? files_in_use(l, &tip, err) < 0 : files_ready(l, &tip, receipt, err) < 0)
		return -1;
	furnish(l, receipt);
	know_account(l, receipt);
	wr_life_scratch_ready(l, runs, receipt); /* before the limits of the uid, which has both */
	wr_life_set_limits(l, runs, &deny, receipt);
	wr_life_step(l, "present_home");
	if (wr_life_present(l, err) < 0)
		return -1;
	wr_life_crash(l, "presented");
	if (!runs && l->node->config.hook_started &&
	    wr_life_hook(l, l->node->config.hook_started, err) < 0)
		return -1;
	if (runs && wr_life_runs(l))
		wr_json_bool(receipt, "already", true);
	else if (*command && start_command(l, command, deny, err) < 0)
		return -1;
	wr_life_processes(l, &run);
	if (*tip.name)
		snapshot = wr_asprintf("%s/%s", tip.branch[0] ? tip.branch : "main", tip.name);
	wr_json_str(receipt, "snapshot", snapshot);
	wr_json_str(receipt, "commit", tip.has ? tip.commit : NULL);
	wr_json_bool(receipt, "latest", tip.latest);
	wr_json_u64(receipt, "processes", run.processes);
	wr_json_str(receipt, "command", *command ? command : NULL);
	return 0;
}

/* Asked twice, answered twice: nothing is touched. */
static void
already(struct wr_life *l, json_t *receipt)
{
	const char *command = wr_settings_str(&l->set, "command");
	struct wr_runner_status run;

	wr_life_processes(l, &run);
	wr_json_bool(receipt, "already", true);
	wr_json_str(receipt, "home", l->home);
	wr_json_u64(receipt, "uid", l->set.uid);
	wr_json_u64(receipt, "gid", l->set.gid);
	wr_json_u64(receipt, "processes", run.processes);
	wr_json_str(receipt, "command", *command ? command : NULL);
}

json_t *
wr_life_start(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	o = wr_life_receipt(l, "warren.start/1");
	if (l->nothing_to_do)
		already(l, o);
	else if (wr_life_do_start(l, o, err) < 0)
		return NULL;
	wr_json_take(o, "holders", wr_life_arg_list(l, "holders"));
	return wr_steal(&o);
}

json_t *
wr_life_restart(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	o = wr_life_receipt(l, "warren.restart/1");
	if (wr_life_do_stop(l, wr_json_object(o, "stop"), err) < 0 ||
	    wr_life_do_start(l, wr_json_object(o, "start"), err) < 0)
		return NULL;
	return wr_steal(&o);
}
