/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where groups of processes lie, and what each may take.
 *
 *   systemd is the first process, and this is the system's own node:
 *     warren.slice/warren-projects.slice/warren-projects.scope/{keepers,ID...}
 *     warren.slice/warren-work.slice/warren.service       the daemon, operations, workers, fronts
 *   else below [runner] cgroup, or the mount of the unified hierarchy:
 *     warren-projects.slice/{keepers,ID...}   warren-work.slice
 *
 * The scope is one that systemd hands over (Delegate=yes): what is below such a group it neither
 * limits, moves nor removes, whatever is reloaded, restarted or installed.  It lives as long as a
 * process is in it, so there is one that does nothing, among the keepers; who kills that one ends
 * no other.  A unit for each project would be more for systemd to know, and each start would wait
 * for it.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/clock.h"

#include "host/runner/keeper_int.h"
#include "host/runner/runner.h"
#include "sys/fs.h"

#define SLICE "warren-projects.slice"
#define SCOPE "warren-projects.scope"
#define UNIT "warren.slice/" SLICE "/" SCOPE
/* LIMIT: how long systemd may take to make it; without it there is another place. */
#define SCOPE_MS 20000
#define WORK "warren-work.slice"
/* Warren's own work beside all projects together, which have 100. The same is in
 * warren-work.slice. */
#define WORK_WEIGHT 20

/* ---- the place ---- */

static bool
systemd_rules(void)
{
	return access("/run/systemd/system", F_OK) == 0;
}

/* Nodes elsewhere are for trying out: they leave systemd alone. */
static bool
wants_unit(const struct wr_node *n)
{
	return n->config.cgroup && !strcmp(n->config.cgroup, "auto") && !n->root && n->root_mode &&
	       systemd_rules();
}

/* *out_ours: what is above it is there for us. */
static int
open_slice(const struct wr_node *n, bool *out_unit, bool *out_ours, struct wr_err *err)
{
	const char *where = n->config.cgroup;
	WR_SCOPED(wr_closep) int parent = -1;
	int fd;

	*out_unit = *out_ours = false;
	if (!where || !strcmp(where, "none"))
		return -1;
	if (!strcmp(where, "auto")) {
		if (wants_unit(n) && (fd = wr_cgroup_open_unit(UNIT)) >= 0) {
			*out_unit = true;
			return fd;
		}
		*out_ours = !systemd_rules() || getenv("WARREN_CGROUP");
		return wr_cgroup_open(SLICE, NULL);
	}
	*out_ours = true;
	parent = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return wr_err_sys(err, "control group '%s'", WR_Q(where));
	if (mkdirat(parent, SLICE, 0755) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make control group '%s/%s'", WR_Q(where), SLICE);
	fd = wr_open_dir(parent, SLICE);
	return fd < 0 ? wr_err_sys(err, "open control group '%s/%s'", WR_Q(where), SLICE) : fd;
}

int
wr_run_slice(const struct wr_node *n, struct wr_err *err)
{
	bool unit, ours;

	return open_slice(n, &unit, &ours, err);
}

/* What takes too much memory ends alone: without that policy systemd stops a scope as a whole when
 * the kernel ended anything below it. Versions that know no such policy of scopes run nothing then.
 */
static int
start_holder(bool policy, pid_t *out_pid)
{
	/* clang-format off */
	const char *const argv[] = {
	    "systemd-run", "--scope", "--quiet", "--collect", "--unit=" SCOPE, "--slice=" SLICE,
	    "--description=Processes of Warren's projects", "-p", "Delegate=yes",
	    "-p", "TasksMax=infinity", "-p", "TimeoutStopSec=20",
	    "-p", policy ? "OOMPolicy=continue" : "Delegate=yes", "sleep", "infinity", NULL};
	/* clang-format on */
	struct wr_spawn s = WR_SPAWN_INIT;

	s.path = "/usr/bin/systemd-run";
	s.argv = argv;
	s.new_session = true;
	s.detach = true;
	return wr_spawn(&s, out_pid, NULL);
}

/* Into the keepers' group, for a group that has others below has no processes of its own. */
static bool
move_holder(int scope, pid_t pid)
{
	WR_SCOPED(wr_closep) int keepers = wr_cgroup_make(scope, WR_KEEPERS, NULL);
	WR_SCOPED(wr_closep)
	int procs = keepers < 0 ? -1 : openat(keepers, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	return procs >= 0 && wr_write_all(procs, text, strlen(text)) == 0;
}

static bool
in_scope(int scope, pid_t pid)
{
	pid_t *pids = NULL;
	size_t count = wr_cgroup_pids(scope, ".", &pids);
	bool found = false;

	for (size_t i = 0; i < count; i++)
		found |= pids[i] == pid;
	free(pids);
	return found;
}

/* The scope with its holder in it, or -1. */
static int
make_scope(bool policy)
{
	const uint64_t end = wr_clock_mono_ns() + SCOPE_MS * UINT64_C(1000000);
	const struct timespec nap = {0, 20000000};
	struct wr_proc_id holder;
	int scope = -1;
	pid_t pid;

	if (start_holder(policy, &pid) < 0 || wr_proc_id_of(pid, &holder, NULL) < 0)
		return -1;
	while (wr_proc_alive(&holder) && wr_clock_mono_ns() < end) {
		wr_closep(&scope);
		scope = wr_cgroup_open_unit(UNIT);
		if (scope >= 0 && in_scope(scope, pid) && move_holder(scope, pid))
			break;
		nanosleep(&nap, NULL);
	}
	return scope;
}

void
wr_run_ready(const struct wr_node *n)
{
	int scope = wants_unit(n) ? wr_cgroup_open_unit(UNIT) : -1;

	if (scope < 0 && wants_unit(n))
		scope = make_scope(true);
	if (scope < 0 && wants_unit(n))
		scope = make_scope(false);
	if (scope >= 0)
		(void)wr_cgroup_enable(scope, false);
	wr_closep(&scope);
}

/* Why not everything can be limited, and what to do. */
static void
explain(const struct wr_node *n, struct wr_run_place *p, const struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!p->groups && n->config.cgroup && strcmp(n->config.cgroup, "none") != 0) {
		snprintf(p->why, sizeof(p->why), "%.180s",
			 err->code == WR_E_NONE ? "there are no control groups that Warren may use"
						: err->msg);
		p->hint = "start it as root on a kernel with the unified hierarchy, or name one "
			  "that was delegated: [runner] cgroup = PATH";
	} else if (!p->groups) {
		snprintf(p->why, sizeof(p->why), "[runner] cgroup = none");
		p->hint = "[runner] cgroup = auto";
	} else if (p->controllers != WR_CGROUP_ALL) {
		for (unsigned i = 0; wr_cgroup_ctl_name[i]; i++)
			if (!(p->controllers & 1u << i))
				wr_buf_addf(&b, "%s%s", b.len ? ", " : "", wr_cgroup_ctl_name[i]);
		snprintf(p->why, sizeof(p->why), "controllers that are not there: %s",
			 wr_buf_str(&b));
		p->hint = systemd_rules() && !p->unit
			      ? "systemctl restart warren, then restart projects"
			      : "systemd.unified_cgroup_hierarchy=1 on the kernel's command line; "
				"in a container: a delegated group";
	}
}

void
wr_run_place(const struct wr_node *n, struct wr_run_place *out)
{
	struct wr_err why = WR_ERR_INIT;
	bool ours;
	WR_SCOPED(wr_closep) int slice = -1;

	*out = (struct wr_run_place){0};
	slice = open_slice(n, &out->unit, &ours, &why);
	out->groups = slice >= 0;
	if (slice >= 0)
		out->controllers = wr_cgroup_controllers(slice);
	explain(n, out, &why);
}

/* Only where it brings something; a failure is a daemon that competes as an equal. It may be that
 * groups get controllers only when we are out of the one above them. */
static void
go_to_work(int slice)
{
	const struct wr_cgroup_limits low = {.cpu_weight = WORK_WEIGHT, .io_weight = WORK_WEIGHT};
	WR_SCOPED(wr_closep) int above = openat(slice, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	WR_SCOPED(wr_closep) int work = -1;
	WR_SCOPED(wr_closep) int procs = -1;

	if (above < 0 || !wr_cgroup_available(above))
		return;
	work = wr_cgroup_make(above, WORK, NULL);
	if (work < 0)
		return;
	procs = openat(work, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (procs >= 0)
		(void)wr_write_all(procs, "0", 1);
	(void)wr_cgroup_enable(slice, true);
	(void)wr_cgroup_limit(work, &low);
}

void
wr_run_settle(const struct wr_node *n, struct wr_run_place *out)
{
	bool unit, ours;
	WR_SCOPED(wr_closep) int slice = -1;

	wr_run_ready(n);
	slice = open_slice(n, &unit, &ours, NULL);
	if (slice >= 0 && ours)
		go_to_work(slice);
	if (slice >= 0)
		(void)wr_cgroup_enable(slice, ours);
	wr_run_place(n, out);
}

/* ---- limits of a project ---- */

struct wr_cgroup_limits
wr_run_limits_of(const struct wr_settings *s)
{
	struct wr_cgroup_limits l = {
	    .memory = wr_settings_u64(s, "memory"),
	    .pids = wr_settings_u64(s, "pids"),
	    .cpu_weight = wr_settings_u64(s, "cpu_weight"),
	    .io_weight = wr_settings_u64(s, "io_weight"),
	};

	(void)wr_cpu_parse(wr_settings_str(s, "cpu_max"), &l.cpu_percent); /* checked when set */
	return l;
}

unsigned
wr_run_limit(struct wr_node *n, const struct wr_uuid *id, const struct wr_cgroup_limits *l)
{
	WR_SCOPED(wr_closep) int slice = wr_run_slice(n, NULL);
	WR_SCOPED(wr_closep) int own = slice < 0 ? -1 : wr_open_dir(slice, id->s);

	return own < 0 ? 0 : wr_cgroup_limit(own, l);
}

bool
wr_run_hits(struct wr_node *n, const struct wr_uuid *id, struct wr_cgroup_hits *out)
{
	WR_SCOPED(wr_closep) int slice = wr_run_slice(n, NULL);

	return slice >= 0 && wr_cgroup_hits(slice, id->s, out);
}

/* ---- what was told of it ---- */

#define SEEN_MAX 4096

static char *
seen_name(const struct wr_uuid *id)
{
	return wr_asprintf("run/%s.seen", id->s);
}

void
wr_run_seen_load(struct wr_node *n, const struct wr_uuid *id, struct wr_run_seen *out)
{
	WR_SCOPED(wr_freep) char *name = seen_name(id);
	WR_SCOPED(wr_json_freep)
	json_t *o = wr_file_load(n->run_fd, name, SEEN_MAX, "format", RUN_FORMAT, NULL);

	*out = (struct wr_run_seen){
	    .oom = wr_json_get_u64(o, "oom", 0),
	    .pids = wr_json_get_u64(o, "pids", 0),
	    .oom_at = wr_json_get_time(o, "oom_at", 0),
	    .pids_at = wr_json_get_time(o, "pids_at", 0),
	};
}

void
wr_run_seen_store(struct wr_node *n, const struct wr_uuid *id, const struct wr_run_seen *s)
{
	WR_SCOPED(wr_freep) char *name = seen_name(id);
	WR_SCOPED(wr_json_freep) json_t *o = json_object();

	wr_json_u64(o, "format", RUN_FORMAT);
	wr_json_u64(o, "oom", s->oom);
	wr_json_u64(o, "pids", s->pids);
	if (s->oom_at)
		wr_json_time(o, "oom_at", s->oom_at);
	if (s->pids_at)
		wr_json_time(o, "pids_at", s->pids_at);
	/* Where it cannot be written the next daemon tells it once more. */
	(void)wr_file_store(n->run_fd, name, o, SEEN_MAX, 0600, false, NULL);
}
