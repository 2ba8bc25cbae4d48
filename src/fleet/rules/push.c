/* SPDX-License-Identifier: Apache-2.0 */
/* M3: what comes by PUSH and FILL.  Judged before the transfer and, by the same code, after it. */
#include "fleet/rules/rules_int.h"

void
wr_push_fini(struct wr_push *p)
{
	wr_save_rec_fini(&p->save);
	*p = (struct wr_push)WR_PUSH_INIT;
}

/* A node's name where it can stand in the name of a branch, else the start of its id. */
static void
side_name(const struct wr_member_state *s, const struct wr_member_env *env, struct wr_push *push)
{
	struct wr_node_text name = wr_rules_name(env->fleet, &env->self);

	if (name.s[strspn(name.s, "abcdefghijklmnopqrstuvwxyz0123456789_-")] != '\0')
		name = wr_rules_name(NULL, &env->self);
	snprintf(push->side_name, sizeof(push->side_name), "conflict-%s-%s",
		 wr_version_text(&s->save.v).s, name.s);
}

void
wr_member_side(const struct wr_member_state *s, const struct wr_member_env *env,
	       const struct wr_record *e, struct wr_push *push)
{
	struct wr_version mine = wr_member_version(s);

	/* Of an older epoch and not the base itself: it may have been saved beside the line, also
	 * with a version below the base's (decision 0012). Where the new refs reach it, it was not.
	 */
	push->side = !wr_epoch_none(&mine.n) && wr_epoch_cmp(&mine.n, &e->n) < 0 &&
		     wr_version_cmp(&mine, &e->base) != 0;
	if (push->side)
		side_name(s, env, push);
}

static int
read_push(const struct wr_member_state *s, const struct wr_member_env *env, const struct wr_msg *m,
	  struct wr_push *push, uint64_t *rev, struct wr_err *err)
{
	if (wr_rules_record(&m->record, &s->project, env->fleet, &push->record, err) < 0 ||
	    wr_save_rec_decode(m->save.p, m->save.len, &push->save, err) < 0)
		return -1;
	if (strcmp(push->save.project.s, s->project.s) != 0)
		return wr_err_set(err, WR_E_INVALID, "save: it is of project %s",
				  push->save.project.s);
	return wr_member_judge_settings(s, env, m, rev, err);
}

static int
check_role(const struct wr_member_env *env, const struct wr_record *e, struct wr_err *err)
{
	const struct wr_member *me = wr_record_has(e, &env->self);

	if (!me || me->role == WR_ROLE_WITNESS)
		return wr_err_set(err, WR_E_DENIED, "this node %s in %s",
				  me ? "is a witness" : "is no member", wr_rules_epoch(&e->n).s);
	if (e->state != WR_RECORD_LIVE)
		return wr_err_set(err, WR_E_DENIED, "the project is deleted");
	return 0;
}

/* A fill needs no signature of its writer: the record pins version and refs. */
static int
judge_fill(const struct wr_member_state *s, struct wr_push *push, struct wr_err *err)
{
	const struct wr_record *e = &push->record;
	struct wr_digest d = wr_save_refs_digest(&push->save), mine;
	struct wr_version v = wr_member_version(s);

	if (!wr_rules_is_base(e, &push->save.v, &d))
		return wr_err_set(err, WR_E_DENIED, "save %s is not the base of %s",
				  wr_version_text(&push->save.v).s, wr_rules_epoch(&e->n).s);
	push->what = WR_PUSH_FILL;
	if (wr_epoch_none(&v.n) || wr_epoch_cmp(&s->record.n, &e->n) != 0)
		return 0;
	mine = wr_save_refs_digest(&s->save);
	if (wr_epoch_cmp(&v.n, &e->n) == 0 || wr_rules_is_base(e, &v, &mine))
		push->what = WR_PUSH_HAVE;
	return 0;
}

static int
judge_save(const struct wr_member_state *s, const struct wr_member_env *env, struct wr_push *push,
	   struct wr_err *err)
{
	const struct wr_record *e = &push->record;
	const struct wr_save_rec *save = &push->save;
	struct wr_version v = wr_member_version(s);

	if (!wr_node_id_eq(&save->writer, &e->writer) || wr_epoch_cmp(&save->v.n, &e->n) != 0)
		return wr_err_set(err, WR_E_DENIED, "save %s is not by the writer of %s",
				  wr_version_text(&save->v).s, wr_rules_epoch(&e->n).s);
	if (wr_save_rec_verify(save, env->fleet, err) < 0)
		return -1;
	push->what = WR_PUSH_TAKE;
	if (wr_version_cmp(&v, &save->v) >= 0) {
		/* It is of this epoch, so of this writer, so of this line. */
		if (wr_version_cmp(&v, &save->v) == 0 &&
		    memcmp(save->sig.b, s->save.sig.b, sizeof(save->sig.b)) != 0)
			return wr_err_set(err, WR_E_CORRUPT, "there are two saves %s",
					  wr_version_text(&v).s);
		push->what = WR_PUSH_HAVE;
	}
	return 0;
}

/* Objects of this very project, from a node that keeps a copy: what they are their hashes tell, and
 * nothing moves but them. So the version, and who saved it, do not matter. */
static int
judge_mend(const struct wr_member_env *env, const struct wr_msg *m, struct wr_push *push,
	   struct wr_err *err)
{
	const struct wr_member *from = wr_record_has(&push->record, &m->from);

	if (!from || from->role == WR_ROLE_WITNESS)
		return wr_err_set(err, WR_E_DENIED, "'%s' keeps no copy of it",
				  wr_rules_name(env->fleet, &m->from).s);
	push->what = WR_PUSH_MEND;
	return 0;
}

bool
wr_is_side(const char *ref)
{
	return strncmp(ref, "refs/heads/conflict-", 20) == 0;
}

/* Does my save name this commit, whatever the branch? */
static bool
is_named(const struct wr_member_state *s, const struct wr_save_ref *ref)
{
	for (size_t i = 0; i < s->save.ref_count; i++)
		if (wr_is_side(s->save.ref[i].name) &&
		    memcmp(s->save.ref[i].id, ref->id, sizeof(ref->id)) == 0)
			return true;
	return false;
}

/* W7: work that lies on a member alone comes to the writer, who names it in its next save. */
static int
judge_sides(const struct wr_member_state *s, const struct wr_member_env *env,
	    const struct wr_msg *m, struct wr_push *push, struct wr_err *err)
{
	const struct wr_member *from = wr_record_has(&push->record, &m->from);
	size_t sides = 0, more = 0;

	if (wr_epoch_cmp(&push->record.n, &s->record.n) != 0)
		return wr_err_set(err, WR_E_CHANGED, "here %s is the newest",
				  wr_rules_epoch(&s->record.n).s);
	if (!from || from->role == WR_ROLE_WITNESS)
		return wr_err_set(err, WR_E_DENIED, "'%s' keeps no copy of it",
				  wr_rules_name(env->fleet, &m->from).s);
	if (wr_writer_stand(s, env, err) != WR_WRITER_READY)
		return err->code ? -1
				 : wr_err_set(err, WR_E_BUSY, "%s is not open yet",
					      wr_rules_epoch(&s->record.n).s);
	for (size_t i = 0; i < push->save.ref_count; i++) {
		if (!wr_is_side(push->save.ref[i].name))
			return wr_err_set(err, WR_E_DENIED, "'%s' is no side branch",
					  push->save.ref[i].name);
		more += !is_named(s, &push->save.ref[i]);
	}
	for (size_t i = 0; i < s->save.ref_count; i++)
		sides += wr_is_side(s->save.ref[i].name);
	if (more && sides + more > WR_SIDES_MAX) {
		wr_err_set(err, WR_E_LIMIT,
			   "the project has %zu side branches, at most %d are kept", sides,
			   WR_SIDES_MAX);
		return wr_err_hint(err, "delete those that nobody needs any more");
	}
	push->what = more ? WR_PUSH_SIDES : WR_PUSH_HAVE;
	return 0;
}

/* The fence comes first: even what is here already is acknowledged only to whom nothing higher was
 * promised. */
static int
judge(const struct wr_member_state *s, const struct wr_member_env *env, const struct wr_msg *m,
      struct wr_push *push, struct wr_err *err)
{
	if (wr_member_judge(s, env, &push->record, err) < 0 ||
	    check_role(env, &push->record, err) < 0 ||
	    (m->kind == WR_MSG_SIDES ? judge_sides(s, env, m, push, err)
	     : env->damaged          ? judge_mend(env, m, push, err)
	     : m->flag               ? judge_fill(s, push, err)
				     : judge_save(s, env, push, err)) < 0)
		return -1;
	if (push->what != WR_PUSH_HAVE && !env->may_store)
		return wr_err_set(err, WR_E_NOSPACE, "its volume takes no objects now");
	if (push->what == WR_PUSH_TAKE)
		wr_member_side(s, env, &push->record, push);
	return 0;
}

static void
ack(const struct wr_member_env *env, const struct wr_msg *m, const struct wr_save_rec *save,
    struct wr_msg *answer)
{
	wr_msg_answer(answer, m, &env->self, WR_MSG_ACK);
	answer->project = save->project;
	answer->version = save->v;
	answer->digest = wr_save_refs_digest(save);
}

/* REFUSE and HAVE are answered here. */
static enum wr_push_do
judge_push(const struct wr_member_state *s, const struct wr_member_env *env, const struct wr_msg *m,
	   struct wr_push *push, uint64_t *rev, struct wr_msg *answer, struct wr_member_out *out)
{
	struct wr_rules_hold hold;

	memset(out, 0, sizeof(*out));
	wr_push_fini(push);
	push->what = WR_PUSH_REFUSE;
	if (env->amnesia)
		wr_err_set(&out->why, WR_E_DENIED,
			   "this node lost what it knew of the project: it takes no saves");
	if (out->why.code || read_push(s, env, m, push, rev, &out->why) < 0) {
		wr_member_refuse(s, env, m, answer, out, WR_MSG_ERROR);
		return push->what = WR_PUSH_REFUSE;
	}
	if (judge(s, env, m, push, &out->why) < 0) {
		wr_member_refuse(s, env, m, answer, out,
				 s->has_record ? WR_MSG_NACK : WR_MSG_ERROR);
		return push->what = WR_PUSH_REFUSE;
	}
	/* M4: a push that is accepted counts as a keepalive, if it came from the writer itself;
	 * where a keepalive would have to wait, who holds this member goes on doing so. */
	hold = wr_rules_hold(s, env, &push->record);
	out->heard = wr_node_id_eq(&m->from, &push->record.writer) &&
		     (hold.ns == 0 || wr_node_id_eq(&hold.by, &m->from));
	/* A member that was away has the save, and not yet what was set since. */
	if (push->what == WR_PUSH_HAVE && *rev > s->settings_rev)
		push->what = WR_PUSH_NOTE;
	if (push->what == WR_PUSH_HAVE)
		ack(env, m, m->flag ? &push->save : &s->save, answer);
	return push->what;
}

enum wr_push_do
wr_member_push_check(const struct wr_member_state *s, const struct wr_member_env *env,
		     const struct wr_msg *m, struct wr_push *push, struct wr_msg *answer,
		     struct wr_member_out *out)
{
	uint64_t rev;
	enum wr_push_do what = judge_push(s, env, m, push, &rev, answer, out);
	struct wr_rules_hold hold;

	out->heard = out->heard && what == WR_PUSH_HAVE;
	/* Who takes the record may be another process, which does not know whom we heard. */
	if (what == WR_PUSH_TAKE || what == WR_PUSH_FILL) {
		hold = wr_rules_hold(s, env, &push->record);
		if (hold.ns && hold.ns != env->heard_ns) {
			out->hold_ns = hold.ns;
			out->hold_from = hold.by;
		}
	}
	return what;
}

enum wr_push_do
wr_member_push_commit(struct wr_member_state *s, const struct wr_member_env *env,
		      const struct wr_msg *m, struct wr_push *push, struct wr_msg *answer,
		      struct wr_member_out *out)
{
	uint64_t rev;
	enum wr_push_do what = judge_push(s, env, m, push, &rev, answer, out);

	if (what == WR_PUSH_NOTE) {
		ack(env, m, m->flag ? &push->save : &s->save, answer);
		out->changed = wr_member_take_settings(s, m, rev);
		return push->what = WR_PUSH_HAVE;
	}
	if (what == WR_PUSH_SIDES)
		ack(env, m, &s->save, answer);
	if (what != WR_PUSH_TAKE && what != WR_PUSH_FILL)
		return what;
	ack(env, m, &push->save, answer);
	wr_member_take_record(s, env, &push->record, out);
	if (wr_member_take_settings(s, m, rev))
		out->changed = true;
	if (what == WR_PUSH_TAKE) {
		/* The push keeps what it needs for the refs; the state gets the same bytes. */
		struct wr_save_rec save = WR_SAVE_REC_INIT;

		wr_assert(wr_save_rec_decode(m->save.p, m->save.len, &save, NULL) == 0);
		wr_member_take_save(s, &save);
		out->changed = true;
	}
	return what;
}
