/* SPDX-License-Identifier: Apache-2.0 */
/* stop: save, end the processes, take the home away, save what they wrote last. A save that fails
 * is told, it never keeps a project from stopping: dirty stays set, and the files stay. */
#include "host/life/life_int.h"

#include "base/log.h"
#include "base/str.h"

/* A save of a stop; the newest good one goes into the receipt. */
static bool
save(struct wr_life *l, json_t *receipt, struct wr_life_saved *s)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_life_protect(l, NULL, s, &why) < 0) {
		wr_life_warn(l, "save at stop: %s; the files stay, unsaved: warren save %s",
			     why.msg, l->set.name);
		return false;
	}
	if (s->side)
		wr_life_warn(l, "the history of '%s' has moved while it ran; its files are in %s",
			     l->set.name, s->snapshot);
	wr_json_str(s->part, "snapshot", s->snapshot[0] ? s->snapshot : NULL);
	if (s->latest)
		wr_json_err(s->part, "refused", &s->refused);
	json_object_set(receipt, "save", s->part);
	return true;
}

int
wr_life_do_stop(struct wr_life *l, json_t *receipt, struct wr_err *err)
{
	/* The files of a copy that nobody touched are some snapshot's already. */
	bool with_saves = !wr_life_arg_bool(l, "no_save") && !(l->copy && !l->work.dirty), mended;
	bool host_ends = wr_life_arg_bool(l, "comes_back");
	uint64_t grace = wr_settings_u64(&l->set, "stop_timeout");
	WR_SCOPED(wr_life_saved_fini) struct wr_life_saved first = {0}, last = {0};
	struct wr_runner_stopped ended = {0};
	struct wr_runner_status run;
	struct wr_life_mend mend;
	struct wr_err why = WR_ERR_INIT;

	l->changed = true;
	wr_json_null(receipt, "save");
	wr_life_processes(l, &run);
	/* Whatever is wrong with history or files, a stop ends what runs. */
	mended = !l->no_work && wr_life_settle_work(l, &mend, &why) == 0;
	if (!mended && !l->no_work)
		wr_life_warn(l, "before the stop: %s", why.msg);
	if (l->before.active && l->node->config.hook_stopping &&
	    wr_life_hook(l, l->node->config.hook_stopping, &why) < 0)
		wr_life_warn(l, "%s", why.msg);
	if (with_saves && mended && run.processes > 0 && !host_ends) {
		(void)save(l, receipt, &first); /* so that the last one, with nobody working, is
						   short */
		wr_life_crash(l, "first_save");
	}
	wr_life_step(l, "stop_processes");
	if (wr_runner_stop(l->node, &l->project, l->set.uid, l->set.exclusive && l->node->root_mode,
			   WR_MIN(grace, wr_life_arg_u64(l, "grace", grace)), &ended, err) < 0)
		return wr_err_wrap(err, "end the processes of '%s'", l->set.name);
	wr_json_bool(receipt, "stopped", true);
	wr_json_u64(receipt, "processes", ended.processes);
	wr_json_u64(receipt, "killed", ended.killed);
	wr_life_crash(l, "processes");
	wr_life_step(l, "unmount");
	if (wr_life_unpresent(l, err) < 0)
		return -1;
	wr_life_crash(l, "unmounted");
	wr_life_clear_limits(l);
	wr_life_scratch_clear(l);
	if (wr_account_drop(l->node, &l->set, false, &why) < 0)
		wr_life_warn(l, "account: %s", why.msg);
	if (l->held)
		wr_life_warn(l,
			     "somebody who is not of '%s' has files of its home open and may go on "
			     "writing to them; they are saved by the next start or save",
			     l->set.name);
	if (!with_saves || !mended)
		return 0;
	if (host_ends)
		l->no_cancel = false;
	/* Clean only by a save that began when nothing could write any more. */
	if (save(l, receipt, &last)) {
		if (last.latest)
			wr_life_warn(
			    l, "%s; the newest files are saved in its stead, without history: %s",
			    last.refused.msg, last.refused.hint);
		l->skipped = l->skipped || !last.whole;
		if (wr_life_clean(l, &last, &why) < 0)
			wr_life_warn(l, "%s", why.msg);
		if (!l->copy &&
		    (wr_life_note_save(l, last.refs, last.scan_started, &why) < 0 ||
		     wr_life_replicate(l, receipt,
				       wr_life_arg_u64(l, "replicate_wait", WR_REPLICATE_WAIT_S),
				       &why) < 0))
			wr_life_warn(l, "replicate: %s", why.msg);
	}
	return 0;
}

/*
 * W5, the end of a hand-off: all is saved where it counts, nothing runs, and from here on nothing
 * ever runs or saves under this epoch. The grant is what lets a hub name the next writer at once.
 */
static int
release(struct wr_life *l, json_t *receipt, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_member_env env;
	struct wr_grant grant;
	bool changed = false, again;
	int rc;

	if (!l->auth || !l->ms.has_record || !wr_node_id_eq(&l->ms.record.writer, &l->auth->self))
		return wr_err_set(err, WR_E_DENIED, "this node has nothing to hand over of '%s'",
				  l->set.name);
	again = wr_epoch_cmp(&l->ms.released, &l->ms.record.n) == 0;
	if (!again && (l->work.dirty || (!wr_json_get_bool(receipt, "safe", false) &&
					 !wr_life_arg_bool(l, "accept_local")))) {
		wr_err_set(err, WR_E_BUSY, "'%s' is not handed over: its newest files are %s",
			   l->set.name, l->work.dirty ? "not saved" : "safe on this node alone");
		return wr_err_hint(err, "it is stopped; when its replicas answer: ask again");
	}
	wr_life_step(l, "release");
	if (wr_auth_lock(l->auth, &l->project, &lock, err) < 0)
		return -1;
	rc = wr_auth_load(l->auth, &l->project, &l->ms, err);
	wr_life_env(l, &env);
	if (rc == 0)
		rc = wr_writer_release(&l->ms, &env, &l->ms.record.n, &l->auth->key, &grant,
				       &changed, err);
	/* DURABLE: before anyone has the grant. */
	if (rc == 0 && changed)
		rc = wr_auth_store(l->auth, &l->project, &l->ms, err);
	wr_lock_drop(&lock);
	wr_life_crash(l, "released");
	if (rc == 0) {
		WR_SCOPED(wr_freep) char *text = NULL;

		wr_grant_encode(&grant, &b);
		text = wr_base64(b.p, b.len);
		wr_json_str(receipt, "grant", text);
	}
	return rc;
}

json_t *
wr_life_stop(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_runner_status run;

	if (wr_life_begin(l, err) < 0)
		return NULL;
	o = wr_life_receipt(l, "warren.stop/1");
	wr_json_take(o, "dropped", wr_life_arg_list(l, "dropped"));
	if (wr_life_arg_bool(l, "if_idle")) {
		wr_life_processes(l, &run);
		if (run.processes > 0) {
			wr_err_set(err, WR_E_BUSY, "project '%s' is not idle: it has %zu %s",
				   l->set.name, run.processes,
				   run.processes == 1 ? "process" : "processes");
			wr_err_hint(err, "warren stop %s", l->set.name);
			return NULL;
		}
	}
	if (wr_life_do_stop(l, o, err) < 0 ||
	    (wr_life_arg_bool(l, "release") && release(l, o, err) < 0))
		return NULL;
	return wr_steal(&o);
}
