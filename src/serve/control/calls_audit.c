/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: every member looks at its own copy, in a worker behind all else; who asks compares what
 * they say.  A copy that is found damaged is marked, durably: STATE/damaged/ID.  It proves nothing
 * and is no source of files until an audit finds it whole.  It is not touched: a verifier may be
 * wrong, too.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/drops.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define MARKS "damaged"
#define ASK_MS (uint32_t)(WR_AUDIT_S * 1000u)
/* LIMIT of marks on a node: a thousandth of the copies held, at least this many. */
#define MARKS_LEAST 3
/* LIMIT of what a member says besides. */
#define TOLD_BYTES (64u << 10)

/* ---- the mark ---- */

struct mark {
	char s[64];
};

static struct mark
mark_of(const struct wr_uuid *project)
{
	struct mark m;

	snprintf(m.s, sizeof(m.s), MARKS "/%s", project->s);
	return m;
}

bool
wr_audit_damaged(struct wr_control *c, const struct wr_uuid *project)
{
	return faccessat(c->node->state_fd, mark_of(project).s, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int
count_row(void *ctx, const struct wr_proj_row *r WR_UNUSED, struct wr_err *err WR_UNUSED)
{
	++*(size_t *)ctx;
	return 0;
}

/* F20: a bug of the verifier, or bad memory, is not to condemn everything that a node holds. */
static int
may_mark(struct wr_control *c, int dir_fd, struct wr_err *err)
{
	size_t held = 0, marks = 0;
	int fd = wr_open_dir(dir_fd, ".");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		wr_closep(&fd);
		return wr_err_sys(err, "read directory '" MARKS "'");
	}
	while ((e = readdir(d)))
		marks += e->d_name[0] != '.';
	closedir(d);
	if (wr_store_proj_each(c->store, 0, count_row, &held, err) < 0)
		return -1;
	if (marks < WR_MAX(held / 1000, (size_t)MARKS_LEAST))
		return 0;
	wr_err_set(err, WR_E_LIMIT, "%zu copies are marked as damaged already: no more are", marks);
	return wr_err_hint(err, "look at this host's memory and disks first");
}

static int
set_mark(struct wr_control *c, const struct wr_uuid *project, bool damaged, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int dir = -1;

	if (wr_audit_damaged(c, project) == damaged)
		return 0;
	if (mkdirat(c->node->state_fd, MARKS, 0700) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make directory '" MARKS "'");
	dir = wr_open_dir(c->node->state_fd, MARKS);
	if (dir < 0)
		return wr_err_sys(err, "open directory '" MARKS "'");
	if (!damaged)
		return unlinkat(dir, project->s, 0) < 0 && errno != ENOENT
			   ? wr_err_sys(err, "remove a mark")
			   : 0;
	if (may_mark(c, dir, err) < 0)
		return -1;
	if (fsync(c->node->state_fd) < 0)
		return wr_err_sys(err, "sync the state directory");
	return wr_replace_file(dir, project->s, "", 0, 0600, err);
}

/* ---- who is asked ---- */

static void
tell_mark(struct wr_control *c, const struct wr_uuid *project, const json_t *result)
{
	bool whole = wr_json_get_bool(result, "whole", false), was = wr_audit_damaged(c, project);
	const json_t *list = wr_json_get_arr(result, "damage");
	const char *first = json_string_value(json_array_get(list, 0));
	struct wr_err err = WR_ERR_INIT;

	if (set_mark(c, project, !whole, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "mark a damaged copy", &err);
		if (err.code == WR_E_LIMIT)
			wr_event(c, "audit", NULL, "audit.limit", err.msg, NULL);
	}
	if (!whole && !was)
		wr_event(c, "audit", project, "copy.damaged",
			 first ? first : "it cannot be read whole", NULL);
	else if (whole && was)
		wr_event(c, "audit", project, "copy.whole", "it is whole again, and counts", NULL);
}

static void
on_audited(void *ctx, const json_t *result, const struct wr_err *why)
{
	struct wr_asked *k = ctx;
	struct wr_control *c = k->c;
	const char *text = wr_json_get_str(result, "digest_b64", "");
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_member_state s;

	if (why) {
		wr_asked_fail(k, why);
		return;
	}
	tell_mark(c, &k->q.project, result);
	a.kind = WR_MSG_AUDITED;
	a.project = k->q.project;
	a.flag = wr_json_get_bool(result, "whole", false);
	if (wr_base64_decode(&b, text, strlen(text)) && b.len == sizeof(a.digest.b))
		memcpy(a.digest.b, b.p, b.len);
	wr_json_write(result, &a.blob);
	if (a.blob.len > TOLD_BYTES)
		wr_buf_clear(&a.blob);
	wr_member_init(&s, &k->q.project);
	if (wr_member_load(c, &k->q.project, &s, NULL) == 0)
		a.version = wr_member_version(&s);
	wr_member_fini(&s);
	wr_asked_answer(k, &a);
}

void
wr_audit_asked(struct wr_asked *k)
{
	struct wr_control *c = k->c;
	json_t *args = json_object();
	struct wr_err err = WR_ERR_INIT;

	wr_json_bool(args, "data", k->q.flag);
	wr_json_u64(args, "rate", c->node->config.replica_rate);
	if (!wr_look_begin(c, WR_TASK_AUDIT, &k->q.project, false, args, on_audited, k, &err))
		wr_asked_fail(k, &err);
}

/* ---- who asks ---- */

struct heard {
	struct auditing *all;
	struct wr_node_id node;
	bool answered, whole;
	struct wr_version v;
	struct wr_digest digest;
	json_t *told;
	struct wr_err why;
};
struct auditing {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	struct wr_record e;
	struct heard of[WR_MEMBERS_MAX];
	size_t count, asked;
};

static void
on_gone(struct wr_req *q)
{
	((struct auditing *)q->held)->q = NULL;
}

/* The newest version that is whole; of the writer, if it has it. */
static const struct heard *
reference(const struct auditing *h)
{
	const struct heard *best = NULL;

	for (size_t i = 0; i < h->count; i++) {
		const struct heard *o = &h->of[i];
		int cmp;

		if (!o->answered || !o->whole)
			continue;
		cmp = best ? wr_version_cmp(&o->v, &best->v) : 1;
		if (cmp > 0 || (cmp == 0 && wr_node_id_eq(&o->node, &h->e.writer)))
			best = o;
	}
	return best;
}

static const char *
verdict(const struct heard *o, const struct heard *ref)
{
	if (!o->answered)
		return "unknown";
	if (!o->whole)
		return "damaged";
	if (wr_version_cmp(&o->v, &ref->v) < 0)
		return "behind";
	return memcmp(o->digest.b, ref->digest.b, sizeof(o->digest.b)) == 0 ? "same" : "differs";
}

static json_t *
copy_json(const struct auditing *h, const struct heard *o, const char *is)
{
	const struct wr_fleet_node *f = wr_fleet_has(&h->c->fleet->auth->fleet, &o->node);
	json_t *j = json_object();

	wr_json_str(j, "node", o->node.id.s);
	wr_json_str(j, "name", f ? f->name : NULL);
	wr_json_str(j, "dc", f ? f->dc : NULL);
	wr_json_str(j, "is", is);
	wr_json_str(j, "version", o->answered ? wr_version_text(&o->v).s : NULL);
	wr_json_u64(j, "objects", wr_json_get_u64(o->told, "objects", 0));
	wr_json_u64(j, "bytes", wr_json_get_u64(o->told, "bytes", 0));
	if (wr_json_get_arr(o->told, "damage"))
		json_object_set(j, "damage", wr_json_get_arr(o->told, "damage"));
	else
		(void)wr_json_array(j, "damage");
	if (o->answered)
		wr_json_null(j, "error");
	else
		wr_json_err(j, "error", &o->why);
	return j;
}

static void
all_heard(struct auditing *h)
{
	const struct heard *ref = reference(h);
	json_t *o = wr_json_begin("warren.audit/1"), *list;
	size_t wrong = 0;

	wr_json_str(o, "project", h->e.project.s);
	wr_json_str(o, "name", h->q ? h->q->row.name : NULL);
	wr_json_u64(o, "epoch", h->e.n.number);
	list = wr_json_array(o, "copies");
	for (size_t i = 0; i < h->count; i++) {
		const char *is = verdict(&h->of[i], ref);

		wrong += strcmp(is, "same") != 0;
		json_array_append_new(list, copy_json(h, &h->of[i], is));
		json_decref(h->of[i].told);
	}
	wr_json_u64(o, "wrong", wrong);
	if (h->q) {
		h->q->held = NULL;
		h->q->gone = NULL;
		wr_req_reply(h->q, 200, wrong ? 3 : 0, o);
	} else {
		json_decref(o);
	}
	free(h);
}

static void
on_answer(void *ctx, const struct wr_msg *answer, const struct wr_err *why)
{
	struct heard *o = ctx;
	struct auditing *h = o->all;

	if (answer && answer->kind == WR_MSG_AUDITED &&
	    !strcmp(answer->project.s, h->e.project.s)) {
		o->answered = true;
		o->whole = answer->flag;
		o->v = answer->version;
		o->digest = answer->digest;
		if (answer->blob.len <= TOLD_BYTES)
			o->told =
			    wr_json_parse((const char *)answer->blob.p, answer->blob.len, NULL);
	} else if (answer) {
		wr_msg_get_err(answer, &o->why);
		if (o->why.code == WR_E_NONE)
			wr_err_set(&o->why, WR_E_FAILED, "it answered something else");
	} else {
		o->why = *why;
	}
	if (--h->asked == 0)
		all_heard(h);
}

int
wr_on_audit(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	bool data = wr_call_bool(&q->call, "data", false);
	struct auditing *h;

	if (!c->fleet) {
		wr_err_set(err, WR_E_UNSUPPORTED, "this host belongs to no fleet");
		return wr_err_hint(err, "warren repo verify looks at a repository alone");
	}
	h = wr_calloc(1, sizeof(*h));
	if (!wr_fleet_record(c, &q->row.id, &h->e)) {
		free(h);
		return wr_err_set(err, WR_E_NOT_FOUND, "no record of '%s' is here", q->row.name);
	}
	h->c = c;
	h->q = q;
	q->held = h;
	q->gone = on_gone;
	for (size_t i = 0; i < h->e.member_count; i++)
		if (h->e.member[i].role != WR_ROLE_WITNESS)
			h->of[h->count++] = (struct heard){.all = h, .node = h->e.member[i].node};
	h->asked = h->count;
	for (size_t i = 0; i < h->count; i++) {
		struct wr_msg m = WR_MSG_INIT;

		m.kind = WR_MSG_AUDIT;
		m.project = h->e.project;
		m.flag = data;
		wr_ask(c, &h->of[i].node.id, &m, ASK_MS, on_answer, &h->of[i]);
	}
	return 0;
}
