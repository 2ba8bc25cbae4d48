/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where groups of processes lie, and what each may take.
 *
 *   systemd is the first process, and our unit is up (contrib/systemd):
 *     warren.slice/warren-projects.slice/warren-projects.service/{keepers,ID...}
 *     warren.slice/warren-work.slice/warren.service       the daemon, operations, workers, fronts
 *   else below [runner] cgroup, or the mount of the unified hierarchy:
 *     warren-projects.slice/{keepers,ID...}   warren-work.slice
 *
 * The unit is one that systemd hands over (Delegate=yes) and that ends with the host alone: what is
 * in such a group systemd neither limits, moves nor removes, whatever is reloaded, restarted or
 * installed.  A unit for each project would be more for it to know, and a start would have to wait
 * for the bus.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/runner/keeper_int.h"
#include "host/runner/runner.h"
#include "sys/fs.h"

#define SLICE "warren-projects.slice"
#define UNIT "warren.slice/warren-projects.slice/warren-projects.service"
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
		if (systemd_rules() && (fd = wr_cgroup_open_unit(UNIT)) >= 0) {
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

/* Why not everything can be limited, and what to do. */
static void
explain(const struct wr_node *n, struct wr_run_place *p, const struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!p->groups && n->config.cgroup && strcmp(n->config.cgroup, "none") != 0) {
		snprintf(p->why, sizeof(p->why), "%s",
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
			      ? "systemctl start warren-projects.service, then restart projects"
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

static bool
has_controllers(int group_fd)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	return wr_read_file(group_fd, "cgroup.controllers", 4096, &b, NULL) == 0 && b.len > 1;
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

	if (above < 0 || !has_controllers(above))
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
	WR_SCOPED(wr_closep) int slice = open_slice(n, &unit, &ours, NULL);

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
