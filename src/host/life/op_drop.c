/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drop: a copy that its record does not count any more goes to the trash (X1).  Control hid it and
 * had the others prove that they hold all it has; the request tells for which record and for which
 * tips.  Here, under the locks, it is judged again: a record or a push may have come since.
 *
 *   hidden (control) -> proofs (control) -> the state holds no save any more -> the work record
 *   says deleted -> tree and repository in the trash
 *
 * A crash before the work record leaves a copy that is un-hidden by the next control and tried
 * again; after it, the same operation again, or undelete, goes on.
 */
#include "host/life/life_int.h"

#include "base/log.h"
#include "base/str.h"
#include "fleet/rules/drop.h"

/* Where the refs lead, as control puts it into what it has proved. */
static int
tips_now(struct wr_life *l, struct wr_digest *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	json_t *args = json_object();
	const json_t *e;
	size_t i;

	wr_json_str(args, "nonce_b64", "AAAAAAAAAAAAAAAAAAAAAA==");
	wr_json_u64(args, "pick", 0);
	if (wr_life_task(l, WR_TASK_PROVE, args, -1, &r, err) < 0)
		return wr_err_wrap(err, "list the refs of '%s'", l->set.name);
	json_array_foreach(wr_json_get_arr(r, "tips"), i, e) wr_buf_adds(&b, json_string_value(e));
	*out = wr_digest_of(b.p, b.len);
	return 0;
}

/* What was proved, as the request says it. */
static int
read_proof(struct wr_life *l, struct wr_epoch *n, struct wr_digest *tips, struct wr_err *err)
{
	const json_t *p = wr_json_get_obj(l->args, "proof");
	const char *text = wr_json_get_str(p, "tips_b64", "");
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!p || !wr_base64_decode(&b, text, strlen(text)) || b.len != sizeof(tips->b)) {
		wr_err_set(err, WR_E_DENIED, "no other node proved that it holds what is here");
		return wr_err_hint(err, "this node asks for proofs by itself, and goes on then");
	}
	memcpy(tips->b, b.p, b.len);
	n->number = wr_json_get_u64(p, "number", 0);
	if (wr_parse_u64(wr_json_get_str(p, "random", ""), &n->random, err) < 0)
		return wr_err_wrap(err, "proof");
	return 0;
}

/* Is what was proved all that is here? */
static int
check_tips(struct wr_life *l, const struct wr_digest *proved, struct wr_err *err)
{
	struct wr_digest now;

	if (tips_now(l, &now, err) < 0)
		return -1;
	if (memcmp(now.b, proved->b, sizeof(now.b)) != 0)
		return wr_err_set(err, WR_E_CHANGED, "the copy changed meanwhile");
	return 0;
}

/* The state holds no save any more, durably. */
static int
give_up(struct wr_life *l, struct wr_err *err)
{
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_drop d = {.verdict = WR_DROP_PROVEN};
	struct wr_member_env env;
	struct wr_digest tips;
	int rc = -1;

	if (wr_auth_lock(l->auth, &l->project, &lock, err) < 0 ||
	    wr_auth_load(l->auth, &l->project, &l->ms, err) < 0)
		goto out;
	wr_life_env(l, &env);
	switch (wr_drop_need(&l->ms, &env, err)) {
	case WR_DROP_NEVER:
		goto out;
	case WR_DROP_FREE: /* the record says deleted: it stays in the trash for a while */
		rc = 0;
		goto out;
	case WR_DROP_PROVE:
		break;
	}
	if (read_proof(l, &d.record.n, &tips, err) < 0 || check_tips(l, &tips, err) < 0)
		goto out;
	if (l->ms.has_save)
		d.refs = wr_save_refs_digest(&l->ms.save);
	rc = wr_drop_commit(&d, &l->ms, &env, err);
	if (rc == 0)
		rc = wr_auth_store(l->auth, &l->project, &l->ms, err);
out:
	wr_lock_drop(&lock);
	return rc;
}

json_t *
wr_life_drop(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_freep) char *undo = NULL;
	struct wr_runner_status run;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	if (!l->auth) {
		wr_err_set(err, WR_E_UNSUPPORTED, "this host belongs to no fleet");
		return NULL;
	}
	o = wr_life_receipt(l, "warren.drop/1");
	wr_life_processes(l, &run);
	if (l->before.active || run.processes > 0) {
		wr_err_set(err, WR_E_BUSY, "project '%s' is in use here", l->set.name);
		return NULL;
	}
	/* What nobody else can have, no proof is about. */
	if (l->work.dirty) {
		wr_err_set(err, WR_E_BUSY, "files of '%s' are not saved yet", l->set.name);
		wr_err_hint(err, "they are saved to the side by the next update of the copy");
		return NULL;
	}
	if (!l->work.deleted) {
		if (give_up(l, err) < 0)
			return NULL;
		wr_life_crash(l, "given-up");
		/* DURABLE: from here on nothing is received into it, and undelete finds it. */
		l->work.deleted = true;
		l->work.deleted_at = wr_age_stamp(l->node);
		if (wr_life_work_store(l, err) < 0)
			return NULL;
	}
	wr_life_crash(l, "marked");
	l->changed = true;
	wr_life_step(l, "trash");
	if (wr_life_to_trash(l, err) < 0)
		return NULL;
	undo = wr_asprintf("warren undelete %s", l->project.s);
	wr_json_time(o, "trash_until",
		     l->work.deleted_at +
			 (int64_t)wr_age_span(l->node, l->node->config.trash_keep));
	wr_json_str(o, "undo", undo);
	return wr_steal(&o);
}

int
wr_life_purge_check(struct wr_life *l, struct wr_err *err)
{
	struct wr_member_env env;
	struct wr_digest tips;
	struct wr_epoch n;

	/* What a purge began with was proved then. Hidden is what was dropped here; what somebody
	 * deleted goes if its record says so too, or if it was nowhere else. */
	if (!l->auth || !l->ms.has_record || l->work.purged ||
	    (!l->ms.hidden && l->ms.record.member_count == 1))
		return 0;
	wr_life_env(l, &env);
	switch (wr_drop_need(&l->ms, &env, err)) {
	case WR_DROP_NEVER:
		return -1;
	case WR_DROP_FREE:
		return 0;
	case WR_DROP_PROVE:
		break;
	}
	if (read_proof(l, &n, &tips, err) < 0)
		return -1;
	if (wr_epoch_cmp(&n, &l->ms.record.n) != 0)
		return wr_err_set(err, WR_E_CHANGED, "there is a newer record than the proved one");
	return check_tips(l, &tips, err);
}

int
wr_life_disown(struct wr_life *l, struct wr_err *err)
{
	struct wr_lock lock = WR_LOCK_INIT;
	int rc;

	if (!l->auth || !l->ms.has_record || l->ms.record.state != WR_RECORD_DELETED)
		return 0;
	rc = wr_auth_lock(l->auth, &l->project, &lock, err);
	if (rc == 0)
		rc = wr_auth_load(l->auth, &l->project, &l->ms, err);
	if (rc == 0 && l->ms.has_save) {
		wr_save_rec_fini(&l->ms.save);
		l->ms.save = (struct wr_save_rec)WR_SAVE_REC_INIT;
		wr_buf_clear(&l->ms.save_bytes);
		l->ms.has_save = false;
		rc = wr_auth_store(l->auth, &l->project, &l->ms, err);
	}
	wr_lock_drop(&lock);
	return rc;
}

int
wr_life_unhide(struct wr_life *l, struct wr_err *err)
{
	struct wr_lock lock = WR_LOCK_INIT;
	int rc;

	if (!l->auth || !l->ms.hidden)
		return 0;
	rc = wr_auth_lock(l->auth, &l->project, &lock, err);
	if (rc == 0)
		rc = wr_auth_load(l->auth, &l->project, &l->ms, err);
	if (rc == 0 && l->ms.hidden) {
		l->ms.hidden = false;
		rc = wr_auth_store(l->auth, &l->project, &l->ms, err);
	}
	wr_lock_drop(&lock);
	return rc;
}
