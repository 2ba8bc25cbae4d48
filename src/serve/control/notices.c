/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices: looked for in what is known anyway (what the file system counts, the newest save, the
 * size of the repository), written where they change.
 *
 *   conf/state.json            the truth, which survives everything
 *   RUN/notice/UID             "NAME: TEXT\nCOMMAND\n" for each project of the uid, which alone may
 *                              read it: the prompt shows it (contrib/profile.d/warren.sh)
 *   [notice] command           one process at a time, the rest waits its turn
 */
#include "serve/control/notices.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/limits.h"
#include "serve/control/resources.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sandbox.h"

/* Each active project is looked at once in so many seconds. */
#define ROUND_S 30
/* LIMITs: notices that wait to be told, and how long the program may take over one. */
#define WAITING_MAX 256
#define PROGRAM_S 30
/* LIMIT: of projects whose last telling is remembered. */
#define TOLD_MAX 1024
#define RESOURCES_LEVEL 95

struct told {
	struct wr_uuid project;
	char code[24];
	uint64_t level, at_ns;
};

struct wr_notices {
	struct wr_control *c;
	int dir_fd;     /* RUN/notice; -1: it cannot be made */
	size_t next;    /* of c->proj */
	char **waiting; /* JSON texts, the oldest first */
	size_t waiting_count, waiting_cap;
	struct wr_child child;
	struct wr_timer end;
	struct told told[TOLD_MAX]; /* a ring */
	size_t told_at;
};

/* ---- the program ---- */

static void run_next(struct wr_notices *n);

static void
on_program_ended(struct wr_child *ch, int wait_status)
{
	struct wr_notices *n = WR_OWNER(ch, struct wr_notices, child);

	wr_timer_off(&n->c->loop, &n->end);
	if (wait_status != 0)
		wr_log(WR_LOG_WARNING, "[notice] command ended with status %d",
		       WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1);
	run_next(n);
}

static void
on_program_late(struct wr_timer *t)
{
	struct wr_notices *n = WR_OWNER(t, struct wr_notices, end);

	wr_log(WR_LOG_WARNING, "[notice] command took more than %d s: ended", PROGRAM_S);
	wr_child_kill(&n->child);
}

static int
run_program(struct wr_notices *n, const char *text, pid_t *out, struct wr_err *err)
{
	const struct wr_node *node = n->c->node;
	const char *program = node->config.notice_command;
	const char *const argv[] = {program, NULL};
	struct wr_sandbox box = {
	    .set_ids = node->root_mode, .uid = node->uid, .gid = node->gid, .no_new_privs = true};
	WR_SCOPED(wr_closep) int in = memfd_create("notice", MFD_CLOEXEC);
	struct wr_spawn s = WR_SPAWN_INIT;

	if (in < 0 || wr_write_all(in, text, strlen(text)) < 0 || lseek(in, 0, SEEK_SET) < 0)
		return wr_err_sys(err, "a file in memory");
	s.path = program;
	s.argv = argv;
	s.fd[0] = in;
	s.new_session = true;
	s.sandbox = &box;
	return wr_spawn(&s, out, err);
}

static void
run_next(struct wr_notices *n)
{
	while (n->waiting_count && !n->child.pid) {
		WR_SCOPED(wr_freep) char *text = n->waiting[0];
		struct wr_err err = WR_ERR_INIT;
		pid_t pid;

		memmove(n->waiting, n->waiting + 1, --n->waiting_count * sizeof(*n->waiting));
		if (run_program(n, text, &pid, &err) < 0) {
			wr_log_err(WR_LOG_ERROR, "[notice] command", &err);
			continue;
		}
		wr_child_on(&n->c->loop, &n->child, pid, -1, on_program_ended);
		wr_timer_on(&n->c->loop, &n->end, PROGRAM_S * UINT64_C(1000000000),
			    on_program_late);
	}
}

/* Not again so soon, unless it grows worse: a project that goes up and down across a mark would
 * fill a mailbox. */
static bool
told_lately(struct wr_notices *n, const struct wr_uuid *project, const char *code, uint64_t level)
{
	const uint64_t now = wr_clock_mono_ns();
	const uint64_t wait = n->c->node->config.notice_interval * UINT64_C(1000000000);
	struct told *t;

	for (size_t i = 0; i < TOLD_MAX; i++) {
		t = &n->told[i];
		if (strcmp(t->project.s, project->s) != 0 || strcmp(t->code, code) != 0)
			continue;
		if (now - t->at_ns < wait && level <= t->level)
			return true;
		t->at_ns = now;
		t->level = level;
		return false;
	}
	t = &n->told[n->told_at++ % TOLD_MAX];
	*t = (struct told){.project = *project, .level = level, .at_ns = now};
	snprintf(t->code, sizeof(t->code), "%s", code);
	return false;
}

static void
tell_program(struct wr_notices *n, const struct wr_proj_row *r, const struct wr_notice *notice,
	     bool cleared)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_buf b = WR_BUF_INIT;

	if (!n->c->node->config.notice_command || n->waiting_count == WAITING_MAX ||
	    told_lately(n, &r->id, notice->code, cleared ? 0 : notice->level))
		return;
	o = wr_json_begin("warren.notice/1");
	wr_json_str(o, "project", r->id.s);
	wr_json_str(o, "name", r->name);
	wr_json_u64(o, "uid", r->uid);
	wr_json_str(o, "node", n->c->node->name);
	wr_json_bool(o, "cleared", cleared);
	wr_json_take(o, "notice", wr_notice_json(notice));
	wr_json_write(o, &b);
	wr_buf_add8(&b, '\n');
	wr_grow(&n->waiting, &n->waiting_cap, n->waiting_count + 1, sizeof(*n->waiting));
	n->waiting[n->waiting_count++] = wr_buf_detach(&b, NULL);
	run_next(n);
}

/* ---- the file for the prompt ---- */

static void
add_lines(struct wr_buf *out, const struct wr_proj_row *r, const struct wr_notice *worst)
{
	if (worst)
		wr_buf_addf(out, "%s: %s\n%s\n", r->name, worst->text, worst->command);
}

/* Other projects of the uid, where it is shared. */
static void
add_others(struct wr_control *c, struct wr_buf *out, const struct wr_proj_row *r)
{
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj_row other = {0};
		struct wr_status st = {0};

		if (strcmp(c->proj[i]->id.s, r->id.s) != 0 &&
		    wr_row_find(c, &c->proj[i]->id, &other, NULL) == 0 && other.uid == r->uid) {
			wr_row_status(c, &other, &st);
			if (st.active)
				add_lines(out, &other, wr_notice_worst(&st));
		}
		wr_proj_row_fini(&other);
	}
}

static void
show_user(struct wr_notices *n, const struct wr_proj_row *r, const struct wr_notice *worst)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%" PRIu32, r->uid);
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	if (n->dir_fd < 0)
		return;
	add_lines(&text, r, worst);
	if (!r->exclusive)
		add_others(n->c, &text, r);
	if (!text.len) {
		(void)unlinkat(n->dir_fd, name, 0);
		return;
	}
	if (wr_replace_file(n->dir_fd, name, text.p, text.len, 0400, &err) < 0 ||
	    (n->c->node->root_mode &&
	     fchownat(n->dir_fd, name, r->uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0))
		wr_log(WR_LOG_WARNING, "notice for the prompt of '%s': %s", r->name,
		       err.code ? err.msg : strerror(errno));
}

/* Those of projects that are not active any more, or of a time before. */
static void
clear_dir(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		wr_closep(&fd);
		return;
	}
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			(void)unlinkat(dir_fd, e->d_name, 0);
	closedir(d);
}

/* ---- what there is to know ---- */

struct look {
	struct wr_status *st;
	struct wr_notice now[WR_NOTICES_MAX];
	size_t count;
};

static const struct wr_notice *
find(const struct wr_notice *list, size_t count, const char *code)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(list[i].code, code))
			return &list[i];
	return NULL;
}

/* A place for it, as it was if it is as grave as it was; NULL: it is not there now. */
static struct wr_notice *
take(struct look *l, const char *code, uint64_t level, bool *out_fresh)
{
	const struct wr_notice *was = find(l->st->notice, l->st->notice_count, code);
	struct wr_notice *n;

	if (!level || l->count == WR_NOTICES_MAX)
		return NULL;
	n = &l->now[l->count++];
	*out_fresh = !was || was->level != level;
	*n = was ? *was : (struct wr_notice){0};
	if (*out_fresh)
		n->since = wr_clock_wall().s;
	snprintf(n->code, sizeof(n->code), "%s", code);
	n->level = level;
	return n;
}

static uint64_t
level_of(const struct look *l, const char *code, uint64_t used, uint64_t limit)
{
	const struct wr_notice *was = find(l->st->notice, l->st->notice_count, code);

	return wr_notice_level(used, limit, was ? was->level : 0);
}

/* Short of what an error would say: the command tells all. */
static void WR_PRINTF(3, 4)
    say(struct wr_notice *n, const struct wr_proj_row *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(n->text, sizeof(n->text), fmt, ap);
	va_end(ap);
	snprintf(n->command, sizeof(n->command), "warren usage %s", r->name);
}

static void
look_files(struct look *l, struct wr_control *c, const struct wr_proj_row *r,
	   const struct wr_settings *set)
{
	const uint64_t disk = wr_settings_u64(set, "disk"), most = wr_settings_u64(set, "inodes");
	uint64_t bytes = r->bytes, inodes = r->files;
	struct wr_quota_usage u;
	struct wr_notice *n;
	bool fresh;

	if (wr_limits_usage(c, r, &u)) {
		bytes = u.bytes;
		inodes = u.inodes ? u.inodes : inodes;
	}
	n = take(l, "disk", level_of(l, "disk", bytes, disk), &fresh);
	if (n && fresh && n->level >= 100)
		say(n, r, "the disk quota of %s is used up (%s): make room", wr_fmt_bytes(disk).s,
		    wr_fmt_bytes(bytes).s);
	else if (n && fresh)
		say(n, r, "more than %" PRIu64 " %% of the disk quota of %s is used (%s)", n->level,
		    wr_fmt_bytes(disk).s, wr_fmt_bytes(bytes).s);
	n = take(l, "inodes", level_of(l, "inodes", inodes, most), &fresh);
	if (n && fresh)
		say(n, r, "%s files of the %s that there may be", wr_fmt_count(inodes).s,
		    wr_fmt_count(most).s);
}

static void
look_scratch(struct look *l, struct wr_control *c, const struct wr_proj_row *r,
	     const struct wr_settings *set)
{
	const uint64_t quota = wr_settings_u64(set, "scratch");
	struct wr_quota_usage u;
	struct wr_notice *n;
	bool fresh;

	if (!quota || !wr_limits_scratch(c, r, &u))
		return;
	n = take(l, "scratch", level_of(l, "scratch", u.bytes, quota), &fresh);
	if (n && fresh && n->level >= 100)
		say(n, r, "the scratch of %s is used up (%s): make room", wr_fmt_bytes(quota).s,
		    wr_fmt_bytes(u.bytes).s);
	else if (n && fresh)
		say(n, r, "more than %" PRIu64 " %% of the scratch of %s is used (%s)", n->level,
		    wr_fmt_bytes(quota).s, wr_fmt_bytes(u.bytes).s);
}

static void
look_history(struct look *l, const struct wr_proj_row *r, const struct wr_settings *set)
{
	const uint64_t quota = wr_repo_quota(set);
	struct wr_notice *n;
	bool fresh;

	n = take(l, "history", level_of(l, "history", r->repo_bytes, quota), &fresh);
	if (!n || !fresh)
		return;
	if (n->level >= 100)
		say(n, r,
		    "no new snapshots: the history takes %s, its quota is %s; the newest files are "
		    "still saved",
		    wr_fmt_bytes(r->repo_bytes).s, wr_fmt_bytes(quota).s);
	else
		say(n, r, "more than %" PRIu64 " %% of the quota of the history, %s, is used (%s)",
		    n->level, wr_fmt_bytes(quota).s, wr_fmt_bytes(r->repo_bytes).s);
}

static void
look_resources(struct look *l, struct wr_control *c, const struct wr_proj_row *r,
	       const struct wr_settings *set)
{
	WR_SCOPED(wr_freep) char *text = wr_resources_notice(c, r, set);
	struct wr_notice *n;
	bool fresh;

	n = text ? take(l, "resources", RESOURCES_LEVEL, &fresh) : NULL;
	if (n && strcmp(n->text, text) != 0)
		snprintf(n->text, sizeof(n->text), "%s", text);
}

/* ---- what has changed ---- */

static void
tell(struct wr_notices *n, const struct wr_proj_row *r, const struct wr_notice *notice,
     const char *what, bool cleared)
{
	WR_SCOPED(wr_freep) char *text = wr_asprintf("%s%s", cleared ? "over: " : "", notice->text);
	json_t *detail = json_object();

	wr_json_str(detail, "code", notice->code);
	wr_json_u64(detail, "level", notice->level);
	wr_event(n->c, "control", &r->id, what, text, detail);
	tell_program(n, r, notice, cleared);
}

/* Gives whether anything differs. */
static bool
compare(struct wr_notices *n, const struct wr_proj_row *r, const struct look *l)
{
	bool differs = false;

	for (size_t i = 0; i < l->count; i++) {
		const struct wr_notice *now = &l->now[i],
				       *was = find(l->st->notice, l->st->notice_count, now->code);

		if (!was || was->level != now->level)
			tell(n, r, now, was && was->level > now->level ? "notice.eased" : "notice",
			     false);
		differs |= !was || was->level != now->level || strcmp(was->text, now->text) != 0;
	}
	for (size_t i = 0; i < l->st->notice_count; i++) {
		const struct wr_notice *was = &l->st->notice[i];

		if (find(l->now, l->count, was->code))
			continue;
		tell(n, r, was, "notice.cleared", true);
		differs = true;
	}
	return differs;
}

void
wr_notices_check(struct wr_control *c, const struct wr_proj_row *r)
{
	struct wr_proj *p = wr_proj_find(c, &r->id);
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0};
	struct wr_status st = {0};
	struct look l = {.st = &st};
	struct wr_err err = WR_ERR_INIT;

	if (!c->notices || (p && p->run) || r->deleted || wr_row_settings(r, &set, NULL) < 0)
		return;
	if (wr_place_of_find(c->node, &r->id, &place, NULL) < 0)
		goto out;
	wr_row_status(c, r, &st);
	if (wr_state_transient(st.state))
		goto out; /* somebody else is at work */
	look_files(&l, c, r, &set);
	look_scratch(&l, c, r, &set);
	look_history(&l, r, &set);
	if (st.active)
		look_resources(&l, c, r, &set);
	if (compare(c->notices, r, &l)) {
		memcpy(st.notice, l.now, sizeof(st.notice));
		st.notice_count = l.count;
		if (wr_status_store(&place, &st, true, &err) < 0)
			wr_log_err(WR_LOG_WARNING, r->name, &err);
	} else if (p && p->noticed == st.active) {
		goto out; /* its user sees it already */
	}
	show_user(c->notices, r, st.active ? wr_notice_worst(&st) : NULL);
	if (p)
		p->noticed = st.active;
out:
	wr_settings_fini(&set);
	wr_place_of_fini(&place);
}

/* ---- the frame ---- */

void
wr_notices_begin(struct wr_control *c)
{
	struct wr_notices *n = wr_calloc(1, sizeof(*n));

	n->c = c;
	(void)mkdirat(c->node->run_fd, "notice", 0711);
	n->dir_fd = wr_open_dir(c->node->run_fd, "notice");
	/* 0711 whatever the umask: a name has to be known, and is its user's. */
	if (n->dir_fd < 0 || fchmod(n->dir_fd, 0711) < 0)
		wr_log(WR_LOG_WARNING, "no notices for prompts: '%s/notice': %s", c->node->run_path,
		       strerror(errno));
	else
		clear_dir(n->dir_fd);
	c->notices = n;
}

void
wr_notices_end(struct wr_control *c)
{
	struct wr_notices *n = c->notices;

	if (!n)
		return;
	wr_timer_off(&c->loop, &n->end);
	wr_child_off(&n->child);
	for (size_t i = 0; i < n->waiting_count; i++)
		free(n->waiting[i]);
	free(n->waiting);
	wr_closep(&n->dir_fd);
	free(n);
	c->notices = NULL;
}

void
wr_notices_tick(struct wr_control *c)
{
	for (size_t k = c->proj_count / ROUND_S + 1; k > 0 && c->proj_count; k--) {
		struct wr_proj_row row = {0};

		if (c->notices->next >= c->proj_count)
			c->notices->next = 0;
		if (wr_row_find(c, &c->proj[c->notices->next++]->id, &row, NULL) == 0)
			wr_notices_check(c, &row);
		wr_proj_row_fini(&row);
	}
}
