/* SPDX-License-Identifier: Apache-2.0 */
/* W2, W4..W6: what the writer may do. */
#include "fleet/rules/rules_int.h"

static int
check_writer(const struct wr_member_state *s, const struct wr_member_env *env, struct wr_err *err)
{
	if (env->amnesia)
		return wr_err_set(err, WR_E_DENIED,
				  "this node lost what it knew of the project: it may not write");
	if (!s->has_record)
		return wr_err_set(err, WR_E_NOT_FOUND, "the project is unknown here");
	if (!wr_node_id_eq(&s->record.writer, &env->self)) {
		wr_err_set(err, WR_E_DENIED, "the writer of %s is '%s'",
			   wr_rules_epoch(&s->record.n).s,
			   wr_rules_name(env->fleet, &s->record.writer).s);
		return wr_err_hint(err, "start it there, or move it here");
	}
	return 0;
}

static int
check_may(const struct wr_member_state *s, const struct wr_member_env *env, struct wr_err *err)
{
	if (check_writer(s, env, err) < 0)
		return -1;
	if (s->record.state != WR_RECORD_LIVE)
		return wr_err_set(err, WR_E_DENIED, "the project is deleted");
	if (wr_epoch_cmp(&s->promised, &s->record.n) != 0) {
		wr_err_set(err, WR_E_CHANGED, "%s was promised to a hub",
			   wr_rules_epoch(&s->promised).s);
		return wr_err_hint(err, "wait for its record, or ask a hub for a raise");
	}
	if (wr_epoch_cmp(&s->released, &s->record.n) >= 0) {
		wr_err_set(err, WR_E_DENIED, "it was handed off: nothing more is saved under %s",
			   wr_rules_epoch(&s->record.n).s);
		return wr_err_hint(err, "wait for the next record, or ask a hub for a raise");
	}
	return 0;
}

/* May what is held open the epoch of e? Its base itself, or my own later saves of the base's epoch,
 * which had no other writer, so they stand on it. */
static bool
on_base(const struct wr_member_state *s, const struct wr_record *e, const struct wr_node_id *self)
{
	struct wr_version v = wr_member_version(s);
	struct wr_digest d;

	if (wr_epoch_none(&v.n))
		return false;
	d = wr_save_refs_digest(&s->save);
	return wr_rules_is_base(e, &v, &d) ||
	       (wr_epoch_cmp(&v.n, &e->base.n) == 0 && wr_version_cmp(&v, &e->base) > 0 &&
		wr_node_id_eq(&s->save.writer, self));
}

enum wr_writer_stand
wr_writer_stand(const struct wr_member_state *s, const struct wr_member_env *env,
		struct wr_err *err)
{
	struct wr_version v = wr_member_version(s);

	if (check_may(s, env, err) < 0)
		return WR_WRITER_NOT;
	if (!wr_epoch_none(&v.n) && wr_epoch_cmp(&v.n, &s->record.n) == 0)
		return WR_WRITER_READY;
	if (wr_epoch_none(&s->record.base.n) || on_base(s, &s->record, &env->self))
		return WR_WRITER_OPEN;
	return WR_WRITER_FETCH;
}

static void
copy_refs(struct wr_save_rec *to, const struct wr_save_ref *ref, size_t count)
{
	to->ref = wr_calloc(count, sizeof(*to->ref));
	to->ref_count = count;
	for (size_t i = 0; i < count; i++) {
		to->ref[i] = ref[i];
		to->ref[i].name = wr_strdup(ref[i].name);
	}
}

/* Signs what is to be the save of the state. */
static int
seal(struct wr_member_state *s, const struct wr_member_env *env, struct wr_save_rec *save,
     const struct wr_sign_key *key, struct wr_err *err)
{
	save->project = s->project;
	save->writer = env->self;
	if (wr_save_rec_sign(save, key, err) < 0)
		return -1;
	wr_member_take_save(s, save);
	return 0;
}

int
wr_writer_open(struct wr_member_state *s, const struct wr_member_env *env,
	       const struct wr_save_rec *base, const struct wr_sign_key *key, struct wr_push *side,
	       struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec open = WR_SAVE_REC_INIT;
	struct wr_digest d;

	switch (wr_writer_stand(s, env, err)) {
	case WR_WRITER_NOT:
		return -1;
	case WR_WRITER_READY:
		return wr_err_set(err, WR_E_EXISTS, "%s is open", wr_rules_epoch(&s->record.n).s);
	case WR_WRITER_FETCH:
		if (!base)
			return wr_err_set(err, WR_E_NOT_FOUND, "save %s is not here",
					  wr_version_text(&s->record.base).s);
		d = wr_save_refs_digest(base);
		if (!wr_rules_is_base(&s->record, &base->v, &d))
			return wr_err_set(err, WR_E_CORRUPT, "save %s is not the base of %s",
					  wr_version_text(&base->v).s,
					  wr_rules_epoch(&s->record.n).s);
		copy_refs(&open, base->ref, base->ref_count);
		break;
	case WR_WRITER_OPEN:
		if (!wr_epoch_none(&s->record.base.n))
			copy_refs(&open, s->save.ref, s->save.ref_count);
		break;
	}
	open.v.n = s->record.n;
	open.settings_rev = s->record.settings_rev;
	wr_push_fini(side);
	if (!on_base(s, &s->record, &env->self))
		wr_member_side(s, env, &s->record, side);
	return seal(s, env, &open, key, err);
}

int
wr_writer_save(struct wr_member_state *s, const struct wr_member_env *env,
	       const struct wr_save_ref *ref, size_t ref_count, int64_t scan_started,
	       uint32_t scan_ns, const struct wr_sign_key *key, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec next = WR_SAVE_REC_INIT;

	switch (wr_writer_stand(s, env, err)) {
	case WR_WRITER_NOT:
		return -1;
	case WR_WRITER_FETCH:
	case WR_WRITER_OPEN:
		return wr_err_set(err, WR_E_FAILED, "%s is not open yet",
				  wr_rules_epoch(&s->record.n).s);
	case WR_WRITER_READY:
		break;
	}
	if (ref_count > WR_SAVE_REFS_MAX)
		return wr_err_set(err, WR_E_LIMIT, "a save has at most %d refs", WR_SAVE_REFS_MAX);
	copy_refs(&next, ref, ref_count);
	next.v = s->save.v;
	next.v.s++;
	next.scan_started = scan_started;
	next.scan_ns = scan_ns;
	next.settings_rev = WR_MAX(s->settings_rev, s->record.settings_rev);
	return seal(s, env, &next, key, err);
}

static int
check_epoch(const struct wr_member_state *s, const struct wr_member_env *env,
	    const struct wr_epoch *n, struct wr_err *err)
{
	if (check_writer(s, env, err) < 0)
		return -1;
	if (wr_epoch_cmp(&s->record.n, n) != 0)
		return wr_err_set(err, WR_E_CHANGED, "it is writer of %s, not of %s",
				  wr_rules_epoch(&s->record.n).s, wr_rules_epoch(n).s);
	return 0;
}

static struct wr_grant
grant_of(const struct wr_member_state *s, const struct wr_member_env *env, enum wr_grant_kind kind)
{
	return (struct wr_grant){
	    .kind = kind, .project = s->project, .n = s->record.n, .writer = env->self};
}

int
wr_writer_release(struct wr_member_state *s, const struct wr_member_env *env,
		  const struct wr_epoch *n, const struct wr_sign_key *key, struct wr_grant *out,
		  bool *changed, struct wr_err *err)
{
	struct wr_grant g;

	if (check_epoch(s, env, n, err) < 0)
		return -1;
	if (env->self_runs)
		return wr_err_set(err, WR_E_BUSY, "its processes run");
	g = grant_of(s, env, WR_GRANT_RELEASE);
	if (wr_grant_sign(&g, key, err) < 0)
		return -1;
	*changed = wr_epoch_cmp(&s->released, n) != 0;
	s->released = *n;
	*out = g;
	return 0;
}

int
wr_writer_consent(const struct wr_member_state *s, const struct wr_member_env *env,
		  const struct wr_epoch *n, const struct wr_epoch *next,
		  const struct wr_sign_key *key, struct wr_grant *out, struct wr_err *err)
{
	struct wr_grant g;

	if (check_epoch(s, env, n, err) < 0)
		return -1;
	if (wr_epoch_cmp(&s->released, n) == 0)
		return wr_err_set(err, WR_E_DENIED, "it was handed off");
	if (wr_epoch_cmp(next, n) <= 0)
		return wr_err_set(err, WR_E_INVALID, "the raise is not to a later epoch");
	g = grant_of(s, env, WR_GRANT_CONSENT);
	g.next = *next;
	if (wr_grant_sign(&g, key, err) < 0)
		return -1;
	*out = g;
	return 0;
}

bool
wr_writer_keeps(const struct wr_member_state *s, const struct wr_member_env *env)
{
	struct wr_member_out out;

	return s->has_record &&
	       wr_member_keep(s, env, &env->self, &s->record.n, &out) == WR_KEEP_OK &&
	       wr_epoch_cmp(&s->released, &s->record.n) < 0;
}

enum wr_lost
wr_writer_lost(const struct wr_member_state *s, const struct wr_member_env *env,
	       const struct wr_record *theirs)
{
	int c = theirs && s->has_record ? wr_epoch_cmp(&theirs->n, &s->record.n) : 1;

	if (!theirs || c == 0)
		return WR_LOST_ASK;
	if (c < 0)
		return WR_LOST_INFORM;
	if (!wr_node_id_eq(&theirs->writer, &env->self) || theirs->state != WR_RECORD_LIVE)
		return WR_LOST_STOP;
	/* Not opened yet, and the same base again: nothing of mine stands between. */
	if (s->has_record && wr_version_cmp(&theirs->base, &s->record.base) == 0)
		return WR_LOST_GO_ON;
	return on_base(s, theirs, &env->self) ? WR_LOST_GO_ON : WR_LOST_STOP;
}
