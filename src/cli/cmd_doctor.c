/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warren doctor: what this host can do, what is lost without the rest, and the commands that would
 * get it.  It looks and prints; it changes nothing.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/out.h"
#include "host/ident/ident.h"
#include "host/node/node.h"
#include "host/node/room.h"
#include "host/quota/quota.h"
#include "host/runner/runner.h"
#include "sys/disk.h"
#include "sys/fs.h"
#include "sys/getent.h"
#include "sys/sandbox.h"

#define FULL_PERCENT 85 /* of STATE's space and inodes */
#define DISKS_MAX 16    /* LIMIT: of one volume */

struct doctor {
	json_t *checks; /* borrowed from the object to print */
	size_t missing;
};

enum finding { MISSING, OK, COULD }; /* COULD: all is well, and could be better */

static void
tell(struct doctor *d, const char *name, enum finding f, const char *lost, const char *command,
     const char *text)
{
	static const char *const word[] = {"missing", "ok", "could be"};
	json_t *o = wr_json_item(d->checks);

	if (f == OK)
		lost = command = NULL;
	wr_json_str(o, "check", name);
	wr_json_bool(o, "ok", f != MISSING);
	wr_json_str(o, "found", text);
	wr_json_str(o, "lost", lost);
	wr_json_str(o, "command", command);
	d->missing += f == MISSING;
	if (wr_out_json())
		return;
	printf("%s%-8s%s %-14s ", wr_color(f == MISSING ? WR_YELLOW : WR_GREEN), word[f],
	       wr_color(WR_PLAIN), name);
	wr_name_print(text, strlen(text));
	printf("\n");
	if (lost)
		printf("         %sLost:%s   %s\n", wr_color(WR_DIM), wr_color(WR_PLAIN), lost);
	if (command)
		printf("         %sGet it:%s %s\n", wr_color(WR_DIM), wr_color(WR_PLAIN), command);
}

/* What was found. lost and command (what to type, may be several lines) say what to do about what
 * is missing; NULL where there is nothing to do. */
static void WR_PRINTF(6, 7) found(struct doctor *d, const char *name, bool ok, const char *lost,
				  const char *command, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tell(d, name, ok ? OK : MISSING, lost, command, text);
}

/* ---- kernel ---- */

static void
check_kernel(struct doctor *d)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
	unsigned walls = wr_sandbox_available();
	struct utsname u;
	unsigned major = 0, minor = 0;
	long fd;

	(void)uname(&u); /* cannot fail with a valid address */
	(void)sscanf(u.release, "%5u.%5u", &major, &minor);
	found(d, "kernel", major > 6 || (major == 6 && minor >= 1),
	      "Warren is made for Linux 6.1 and later; older kernels may lack more of what follows",
	      "apt install linux-image-amd64", "%s %s", u.sysname, u.release);
	fd = syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof(how));
	found(d, "openat2", fd >= 0,
	      "paths of users are walked step by step, which is slower, not less safe",
	      "run a kernel from 5.6 on, without a filter that forbids openat2",
	      fd >= 0 ? "there" : "not there");
	if (fd >= 0)
		close((int)fd);
	found(d, "landlock", walls & WR_WALL_LANDLOCK,
	      "workers that are taken over could open files outside their project, as far as "
	      "their user may",
	      "add landlock to the list of lsm= on the kernel's command line",
	      walls & WR_WALL_LANDLOCK ? "there" : "not there");
	found(d, "seccomp", walls & WR_WALL_SECCOMP,
	      "processes that are taken over could use every system call",
	      "run a kernel with CONFIG_SECCOMP_FILTER",
	      walls & WR_WALL_SECCOMP ? "there" : "not there");
}

static void
check_controllers(struct doctor *d, const char *at, const char *text, bool limits, const char *why,
		  const char *hint)
{
	found(d, "cgroup", at,
	      "a project's processes are found by parent and user instead, and cannot be counted "
	      "or ended as one",
	      hint, "%s", at ? at : why);
	found(d, "cgroup limits", limits,
	      "limits of memory, processors, processes and disks are kept but not enforced", hint,
	      "controllers: %s%s%s", *text ? text : "none", at && *why ? "; " : "", at ? why : "");
}

/* Where a node keeps its groups, and what they have. */
static void
check_node_cgroup(struct doctor *d, const struct wr_node *n)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const char *at = NULL;
	struct wr_run_place p;

	wr_run_place(n, &p);
	for (unsigned i = 0; wr_cgroup_ctl_name[i]; i++)
		if (p.controllers & 1u << i)
			wr_buf_addf(&b, "%s%s", b.len ? " " : "", wr_cgroup_ctl_name[i]);
	if (p.groups)
		at = p.unit ? "warren-projects.scope" : "there";
	check_controllers(d, at, wr_buf_str(&b), p.controllers == WR_CGROUP_ALL, p.why, p.hint);
}

/* No node yet, or not ours: what the host has. */
static void
check_cgroup(struct doctor *d)
{
	static const char *const places[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	char text[512] = "";
	const char *at = NULL;

	for (size_t i = 0; i < WR_ARRAY_LEN(places) && !at; i++) {
		WR_SCOPED(wr_freep) char *file = wr_asprintf("%s/cgroup.controllers", places[i]);
		FILE *f = fopen(file, "re");

		if (!f)
			continue;
		at = places[i];
		if (!fgets(text, sizeof(text), f))
			text[0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		(void)fclose(f);
	}
	check_controllers(d, at, text,
			  strstr(text, "memory") && strstr(text, "cpu") && strstr(text, "pids"),
			  at ? "" : "no unified hierarchy",
			  "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line");
}

/* ---- programs, libraries, users ---- */

static void
check_library(struct doctor *d, const char *name, const char *file, const char *lost,
	      const char *command)
{
	void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	found(d, name, lib, lost, command, "%s", lib ? file : "not there");
	if (lib)
		dlclose(lib);
}

static void
check_fuse(struct doctor *d)
{
	bool device = access("/dev/fuse", R_OK | W_OK) == 0;
	bool helper = geteuid() == 0 || access("/usr/bin/fusermount3", X_OK) == 0;

	found(d, "fuse", device && helper,
	      "histories cannot be mounted; ls, cat, diff and restore work without",
	      "apt install fuse3 && modprobe fuse", "%s",
	      !device  ? "/dev/fuse is not to be opened"
	      : helper ? "there"
		       : "no fusermount3");
}

static void
check_user(struct doctor *d, const struct wr_node *n)
{
	const char *user = n && *n->user ? n->user : "warren";
	bool root = geteuid() == 0, there;
	struct wr_getent_entry e;
	WR_SCOPED(wr_freep)
	char *command = wr_asprintf("adduser --system --group --no-create-home %s", user);
	uint64_t number;

	found(d, "root", root,
	      "one user for all: no identities, no mounts, no walls between projects",
	      "run the daemon as root, with 'systemctl start warren'", root ? "yes" : "no, uid %u",
	      (unsigned)geteuid());
	if (!root)
		return;
	there = wr_parse_u64(user, &number, NULL) == 0 ||
		wr_getent_by_name(false, user, &e) == WR_GETENT_FOUND;
	found(d, "user", there, "nobody can own the repositories, so no node can be made", command,
	      "%s%s", user, there ? "" : " does not exist");
}

/* ---- identities ---- */

/* Nobody has that name, so every service has to be asked. */
#define NO_ACCOUNT "warren-doctor-asks"

static void
check_names(struct doctor *d)
{
	WR_SCOPED(wr_freep) char *services = wr_getent_services("passwd");
	struct wr_getent_entry e;
	enum wr_getent_answer a = wr_getent_by_name(false, NO_ACCOUNT, &e);

	found(d, "names", a != WR_GETENT_FAILED,
	      "projects of identity nss are started by the numbers that were stored, and owners "
	      "are saved by number; nothing waits for it",
	      "getent passwd " NO_ACCOUNT "; the services stand in /etc/nsswitch.conf",
	      a == WR_GETENT_FAILED ? "%s: %s" : "%s answer%s", services,
	      a == WR_GETENT_FAILED ? wr_getent_why() : "");
}

static void
check_uids(struct doctor *d, const struct wr_node *n)
{
	WR_SCOPED(wr_ident_taken_fini) struct wr_ident_taken taken = {0}, doubtful = {0};
	const uint32_t first = n->config.uid_first, last = n->config.uid_last;
	const struct wr_ident_range *r = NULL;
	struct wr_err err = WR_ERR_INIT;

	if (wr_ident_taken_load(n, &taken, &err) < 0 ||
	    wr_ident_doubtful_load(n, &doubtful, &err) < 0) {
		found(d, "uids", false, "no project of identity range can be made", NULL, "%s",
		      err.msg);
		return;
	}
	r = wr_ident_taken_find(&taken, first, last);
	if (!r)
		r = wr_ident_taken_find(&doubtful, first, last);
	found(d, "uids", !r,
	      "numbers that others have are left out; those that others take later are then two "
	      "users' at once",
	      "set [node] uid_range in warren.conf for new projects",
	      r ? "%u-%u, of which %u-%u are %s" : "%u-%u", first, last, r ? r->first : 0,
	      r ? r->last : 0, r ? r->whose : "");
}

static void
check_clock(struct doctor *d)
{
	struct timex t = {0};
	int rc = adjtimex(&t);
	bool ok = rc >= 0 && rc != TIME_ERROR && !(t.status & STA_UNSYNC);

	found(d, "clock", ok,
	      "snapshots may be named by a wrong time, and hosts may disagree about it",
	      "apt install systemd-timesyncd && timedatectl set-ntp true",
	      ok ? "synchronised" : "not synchronised");
}

/* ---- volumes ---- */

static void
check_space(struct doctor *d, const char *name, const char *path)
{
	struct statvfs s;
	uint64_t used, inodes;

	if (statvfs(path, &s) < 0 || !s.f_blocks) {
		found(d, name, false, NULL, NULL, "'%s' does not answer", path);
		return;
	}
	used = 100 - (uint64_t)s.f_bavail * 100 / s.f_blocks;
	inodes = s.f_files ? 100 - (uint64_t)s.f_favail * 100 / s.f_files : 0;
	found(d, name, used < FULL_PERCENT && inodes < FULL_PERCENT,
	      "where it is full, operations fail whose records cannot be written",
	      "make room on that file system",
	      "%s: %s free, %" PRIu64 " %% used, %" PRIu64 " %% of the inodes", path,
	      wr_fmt_bytes((uint64_t)s.f_bavail * s.f_frsize).s, used, inodes);
}

/* Which of the marks it is at, and whether its reserve is whole. */
static void
check_marks(struct doctor *d, const struct wr_node *n, const struct wr_volume *v)
{
	static const char *const lost[WR_MARKS] = {
	    [WR_MARK_NEW] = "it takes no new projects and no new copies",
	    [WR_MARK_ALARM] = "it takes nothing new, and is about to be full",
	    [WR_MARK_SNAPSHOT] = "projects that grew most make no snapshots there",
	};
	struct wr_err err = WR_ERR_INIT;
	struct wr_room r;
	enum wr_mark mark;

	if (wr_room_look(v, &r, &err) < 0) {
		found(d, "space", false, NULL, NULL, "%s", err.msg);
		return;
	}
	mark = wr_mark_of(&n->config, &r, WR_MARK_NONE);
	found(d, "space", mark == WR_MARK_NONE, lost[mark],
	      "warren volume list\nwarren trash purge, or warren volume add DIRECTORY",
	      "%s: %s free, %s used, mark: %s", v->path, wr_fmt_bytes(r.free).s, wr_room_text(&r).s,
	      wr_mark_name(mark));
	found(d, "reserve", r.reserve >= r.reserve_wanted && r.spare >= r.spare_wanted,
	      "on a full volume less can be deleted and stopped",
	      "make room there: the daemon fills it up by itself", "%s: %s of %s", v->path,
	      wr_fmt_bytes(r.reserve).s, wr_fmt_bytes(r.reserve_wanted).s);
}

/* What the volume's file system keeps of a project's limits; nothing is turned on by looking. */
static void
check_quota(struct doctor *d, const struct wr_node *n, const char *path)
{
	WR_SCOPED(wr_quota_close) struct wr_quota q = WR_QUOTA_INIT;
	WR_SCOPED(wr_freep) char *projects = wr_asprintf("%s/projects", path);
	WR_SCOPED(wr_closep) int fd = open(projects, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct wr_err err = WR_ERR_INIT;
	bool wanted = strcmp(n->config.volume_quota, "none") != 0;

	if (fd < 0) {
		found(d, "quota", false, NULL, NULL, "'%s' does not answer", projects);
		return;
	}
	/* The descriptor of STATE is for marking trees, which nobody does here. */
	if (wr_quota_open(fd, fd, path, n->config.volume_quota, false, &q, &err) < 0) {
		found(d, "quota", false, NULL, NULL, "%s", err.msg);
		return;
	}
	if (!q.caps.bytes)
		found(
		    d, "quota", !wanted,
		    "limits of disk and files are kept in the settings, and nothing enforces them",
		    *q.hint ? q.hint : NULL, "%s: driver %s: %s", path, q.caps.driver, q.why);
	else
		found(d, "quota", !*q.why,
		      "processes that Warren did not start could leave their limits",
		      *q.hint ? q.hint : NULL, "%s: driver %s: bytes%s%s%s%s%s", path,
		      q.caps.driver, q.caps.inodes ? ", files" : "", q.caps.df ? ", df" : "",
		      q.caps.tamperproof ? ", tamperproof" : "", *q.why ? "; " : "", q.why);
}

/* Do its disks heed io_weight, where there is a controller for it? Many are fast enough without. */
static void
check_disks(struct doctor *d, const struct wr_node *n, const char *path)
{
	struct wr_disk disk[DISKS_MAX];
	size_t count = wr_disks_below(path, disk, DISKS_MAX);
	struct wr_run_place p;

	wr_run_place(n, &p);
	if (!(p.controllers & WR_CGROUP_IO))
		return;
	for (size_t i = 0; i < count; i++) {
		WR_SCOPED(wr_freep)
		char *text =
		    wr_asprintf("%s: %s, scheduler %s%s", path, disk[i].name, disk[i].scheduler,
				disk[i].weights ? ": io_weight counts" : "");
		WR_SCOPED(wr_freep)
		char *command = wr_asprintf(
		    "echo 'ACTION==\"add|change\", KERNEL==\"%s\", ATTR{queue/scheduler}=\"bfq\"' "
		    ">>/etc/udev/rules.d/60-io-weight.rules\n"
		    "udevadm control --reload && udevadm trigger /sys/class/block/%s\n"
		    "or, for fast disks, io.cost: see io.cost.qos in the kernel's cgroup-v2 text",
		    disk[i].name, disk[i].name);

		tell(d, "disk", disk[i].weights ? OK : COULD,
		     "io_weight has no effect there: who reads or writes most is served most",
		     command, text);
	}
}

static void
check_node(struct doctor *d, const struct wr_args *a, const struct wr_node *n,
	   const struct wr_err *why)
{
	const char *root = wr_client_root(a);
	struct wr_node *whole;
	struct wr_err err = WR_ERR_INIT;

	if (!n) {
		found(d, "node", false, "this host holds no projects",
		      root ? "warren init --root DIR --dc DC VOLUME" : "warren init --dc DC VOLUME",
		      "%s", why->msg);
		return;
	}
	found(d, "node", true, NULL, NULL, "%s (%s), data centre %s", n->name, n->id.s, n->dc);
	for (size_t i = 0; i < n->volume_count; i++) {
		check_quota(d, n, n->volume[i].path);
		check_marks(d, n, &n->volume[i]);
		if (n->root_mode || n->uid == geteuid())
			check_disks(d, n, n->volume[i].path);
	}
	check_space(d, "space", n->state_path);
	if (wr_node_open(root, 0, &whole, &err) == 0) {
		found(d, "volumes", true, NULL, NULL, "%zu, each with its sentinel",
		      whole->volume_count);
		wr_node_close(whole);
	} else {
		found(d, "volumes", false, "the daemon refuses to start",
		      *err.hint ? err.hint : NULL, "%s", err.msg);
	}
}

static void
check_daemon(struct doctor *d, const struct wr_args *a)
{
	struct wr_client c;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_ask r;
	int rc = wr_client_init(&c, a, &err);

	if (rc == 0) {
		wr_ask_init(&r, WR_API_HEALTH, NULL);
		rc = wr_client_ask(&c, &r, NULL, &o, &err);
		wr_ask_fini(&r);
	}
	if (rc == 0)
		found(d, "daemon", true, NULL, NULL, "answers at %s, version %s",
		      c.to.socket ? c.to.socket : wr_wire_name(&c.to).s,
		      wr_json_get_str(o, "version", "unknown"));
	else
		found(d, "daemon", false, "only 'warren repo' and 'warren state' work",
		      "systemctl start warren", "%s", err.msg);
	wr_client_fini(&c);
}

int
wr_cmd_doctor(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_begin("warren.doctor/1");
	struct doctor d = {.checks = wr_json_array(o, "checks")};
	struct wr_err why = WR_ERR_INIT;
	struct wr_node *n = NULL;

	if (wr_node_open(wr_client_root(a), WR_NODE_NO_VOLUMES, &n, &why) < 0)
		n = NULL;
	check_kernel(&d);
	if (n && (n->root_mode || n->uid == geteuid()))
		check_node_cgroup(&d, n);
	else
		check_cgroup(&d);
	check_fuse(&d);
	check_user(&d, n);
	check_names(&d);
	if (n && n->root_mode)
		check_uids(&d, n);
	check_clock(&d);
	check_library(&d, "libmicrohttpd", "libmicrohttpd.so.12", "the daemon cannot answer anyone",
		      "apt install libmicrohttpd12");
	check_library(&d, "libarchive", "libarchive.so.13",
		      "'warren read' gives no folders as tar or zip", "apt install libarchive13");
	check_node(&d, a, n, &why);
	check_daemon(&d, a);
	wr_node_close(n);
	wr_json_u64(o, "missing", d.missing);
	if (wr_out_json() && wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return d.missing ? WR_EXIT_WARNINGS : 0;
}
