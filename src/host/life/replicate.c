/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operation has to do with the other members of its project: may it write (W3, W4), the
 * record of a save (S, with which this node is its first holder), and the pushes of it.
 *
 * Order of a save: objects and refs (the worker), D3 (here, durable), pushes.  A crash leaves D3
 * too low at worst; the next save or replicate finds the refs ahead of it and makes up for it.
 *
 * A push is a worker per target, with the TLS key and an envelope that this process signed.  What
 * it brings back is the other node's signed answer: a worker cannot make a save safe that is not.
 */
#include "host/life/life_int.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "fleet/link/link.h"
#include "fleet/rules/safe.h"
#include "fleet/trust/trust.h"
#include "host/task/pushkit.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define POLL_MS 100
#define RESOLVE_MS 5000

/* ---- who we are ---- */

int
wr_life_fleet_load(struct wr_life *l, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	wr_auth_close(l->auth);
	l->auth = NULL;
	wr_member_fini(&l->ms);
	if (wr_auth_open(l->node, &l->auth, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		*err = why;
		return wr_err_wrap(err, "this node's place in its fleet");
	}
	if (wr_auth_load(l->auth, &l->project, &l->ms, &why) < 0 &&
	    (why.code != WR_E_NOT_FOUND || wr_auth_forgot(l->auth, &l->project))) {
		*err = why;
		if (why.code == WR_E_NOT_FOUND)
			wr_err_recode(err, WR_E_CORRUPT);
		return wr_err_wrap(err, "what is known of project '%s'", l->project.s);
	}
	if (l->ms.has_record)
		l->set.epoch = l->ms.record.n.number;
	return 0;
}

void
wr_life_env(const struct wr_life *l, struct wr_member_env *env)
{
	*env = (struct wr_member_env){
	    .self = l->auth->self,
	    .fleet = &l->auth->fleet,
	    .now_ns = wr_clock_boot_ns(),
	    .may_store = true,
	    .amnesia = wr_auth_set_back(l->auth),
	    .damaged = wr_flag_is(l->node, WR_FLAG_DAMAGED, &l->project),
	};
}

static const char *
node_name(const struct wr_life *l, const struct wr_uuid *id)
{
	const struct wr_fleet_node *n = wr_fleet_find(&l->auth->fleet, id);

	return n ? n->name : id->s;
}

int
wr_life_may_write(struct wr_life *l, struct wr_err *err)
{
	const struct wr_record *e = &l->ms.record;
	struct wr_member_env env;
	struct wr_err why = WR_ERR_INIT;

	if (!l->auth)
		return 0;
	if (!l->ms.has_record) {
		wr_err_set(err, WR_E_DENIED, "no record says that this node may write project '%s'",
			   l->set.name);
		return wr_err_hint(err, "warren explain %s", l->set.name);
	}
	wr_life_env(l, &env);
	if (wr_writer_stand(&l->ms, &env, &why) != WR_WRITER_NOT)
		return 0;
	if (e->state == WR_RECORD_DELETED) {
		wr_err_set(err, WR_E_DENIED, "project '%s' is deleted", l->set.name);
		return wr_err_hint(err, "warren undelete %s", l->project.s);
	}
	if (!wr_node_id_eq(&e->writer, &l->auth->self)) {
		wr_err_set(err, WR_E_DENIED,
			   "the files of '%s' are kept by node %s (epoch %" PRIu64
			   "); here is a copy",
			   l->set.name, node_name(l, &e->writer.id), e->n.number);
		return wr_err_hint(err, "start it here (warren start %s) or there", l->set.name);
	}
	*err = why;
	return -1;
}

/* ---- the record of a save ---- */

static int
take_refs(const json_t *list, struct wr_save_rec *out, struct wr_err *err)
{
	const json_t *e;
	size_t i;

	out->ref = wr_calloc(json_array_size(list) + 1, sizeof(*out->ref));
	json_array_foreach(list, i, e)
	{
		struct wr_save_ref *r = &out->ref[out->ref_count];
		struct wr_id id;

		if (!wr_id_parse(wr_json_get_str(e, "id", ""), &id))
			return wr_err_set(err, WR_E_CORRUPT, "a ref without id");
		r->name = wr_strdup(wr_json_get_str(e, "name", ""));
		memcpy(r->id, id.b, sizeof(r->id));
		out->ref_count++;
	}
	return 0;
}

static bool
same_refs(const struct wr_save_rec *a, const struct wr_save_rec *b)
{
	struct wr_digest x = wr_save_refs_digest(a), y = wr_save_refs_digest(b);

	return a->ref_count == b->ref_count && !memcmp(x.b, y.b, sizeof(x.b));
}

int
wr_life_note_save(struct wr_life *l, const json_t *refs, int64_t scan_started, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *seen = NULL;
	struct wr_save_rec now = WR_SAVE_REC_INIT;
	struct wr_push none = WR_PUSH_INIT;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_version before = {0};
	struct wr_member_env env;
	int rc = -1;

	if (!l->auth || !l->ms.has_record)
		return 0;
	if (!refs) {
		if (wr_life_task(l, WR_TASK_REFS, json_object(), -1, &seen, err) < 0)
			return wr_err_wrap(err, "list the refs of '%s'", l->set.name);
		refs = wr_json_get_arr(seen, "refs");
	}
	if (take_refs(refs, &now, err) < 0 || wr_auth_lock(l->auth, &l->project, &lock, err) < 0 ||
	    wr_auth_load(l->auth, &l->project, &l->ms, err) < 0)
		goto out;
	wr_life_env(l, &env);
	before = wr_member_version(&l->ms);
	if (wr_writer_stand(&l->ms, &env, NULL) == WR_WRITER_OPEN &&
	    wr_writer_open(&l->ms, &env, NULL, &l->auth->key, &none, err) < 0)
		goto out;
	rc = 0;
	if (same_refs(&now, &l->ms.save) && !wr_version_cmp(&l->ms.save.v, &before))
		goto out;
	/* DURABLE: the refs stand; now this node holds the version, then others hear of it. */
	if (!same_refs(&now, &l->ms.save))
		rc = wr_writer_save(&l->ms, &env, now.ref, now.ref_count, scan_started, 0,
				    &l->auth->key, err);
	if (rc == 0)
		rc = wr_auth_store(l->auth, &l->project, &l->ms, err);
	if (rc == 0)
		wr_life_crash(l, "noted");
out:
	wr_lock_drop(&lock);
	wr_push_fini(&none);
	wr_save_rec_fini(&now);
	return rc;
}

/* ---- pushes ---- */

struct target {
	struct wr_life *l;
	const struct wr_fleet_node *node; /* of the fleet record; NULL: not in it */
	struct wr_node_id id;
	struct wr_status_target *show;
	struct wr_task task;
	struct wr_task_ear ear;
	pid_t pid; /* 0: not running */
	int fd;
	uint64_t request, end_ns;        /* end 0: none */
	const struct wr_save_rec *sides; /* offered are these, not the save; NULL */
	bool ok, spare;                  /* spare: enough others have it */
	int64_t latest; /* it has the newest state of that time, if not its history; 0 */
	struct wr_version acked;
	uint64_t bytes;
	double seconds;
	char *newer; /* base64 of a record that the other has; NULL: none */
	struct wr_err err;
};

static void
set_state(struct target *t, const char *state)
{
	snprintf(t->show->state, sizeof(t->show->state), "%s", state);
}

static void
on_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total, uint64_t bytes,
	    uint64_t bytes_total)
{
	struct target *t = ctx;
	struct wr_status *s = &t->l->status;

	(void)step;
	(void)files;
	(void)files_total;
	t->show->done = bytes;
	t->show->total = bytes_total;
	set_state(t, bytes_total && bytes >= bytes_total ? "waiting" : "sending");
	s->done = s->total = 0;
	for (size_t i = 0; i < s->target_count; i++) {
		s->done += s->target[i].done;
		s->total += s->target[i].total;
	}
	s->bytes = s->done;
	s->bytes_total = s->total;
	snprintf(s->unit, sizeof(s->unit), "bytes");
	wr_life_show(t->l);
}

/* Named by the caller, by name or id? No list: all are. */
static bool
wanted(const json_t *names, const struct target *t)
{
	const json_t *n;
	size_t i;

	if (json_array_size(names) == 0)
		return true;
	json_array_foreach(names, i, n)
	{
		const char *s = json_string_value(n);

		if (!strcmp(s, t->id.id.s) || (t->node && !strcmp(s, t->node->name)))
			return true;
	}
	return false;
}

static int
check_names(struct wr_life *l, const json_t *names, struct wr_err *err)
{
	const json_t *n;
	size_t i;

	json_array_foreach(names, i, n)
	{
		const char *s = json_string_value(n);
		const struct wr_fleet_node *f = wr_fleet_by_name(&l->auth->fleet, s);
		struct wr_uuid id;

		if (!f && wr_uuid_parse(s, &id))
			f = wr_fleet_find(&l->auth->fleet, &id);
		if (f && wr_record_has(&l->ms.record, &f->node))
			continue;
		wr_err_set(err, WR_E_INVALID, "targets: %s '%s' %s",
			   f ? "node" : "there is no node", WR_Q(s),
			   f ? "keeps no copy of this project" : "");
		return wr_err_hint(err, "warren explain %s", l->set.name);
	}
	return 0;
}

static int
read_part(struct wr_life *l, const char *name, struct wr_buf *out, struct wr_err *err)
{
	return wr_read_file(l->node->state_fd, name, WR_TLS_KEY_BYTES + WR_CERT_BYTES, out, err);
}

static int
make_kit(struct wr_life *l, struct wr_push_kit *k, struct wr_err *err)
{
	const struct wr_fleet *f = &l->auth->fleet;

	if (read_part(l, "tls/node.key", &k->key_pem, err) < 0 ||
	    read_part(l, "tls/node.crt", &k->cert_der, err) < 0)
		return wr_err_wrap(err, "this node's certificate");
	for (size_t i = 0; i < WR_ARRAY_LEN(k->ca_der); i++)
		if (f->ca[i])
			wr_buf_add(&k->ca_der[i], f->ca[i], f->ca_len[i]);
	k->fleet = f->id;
	k->fleet_at = f->at;
	return 0;
}

static int
begin_push(struct target *t, struct wr_push_kit *kit, uint64_t wait_s, struct wr_err *err)
{
	const struct wr_config *c = &t->l->node->config;
	struct wr_member_state *ms = &t->l->ms;
	WR_SCOPED(wr_json_freep) json_t *args = json_object();
	WR_SCOPED(wr_closep) int fd = -1;
	struct wr_addr addr[WR_ADDRS_MAX];
	struct wr_msg m = WR_MSG_INIT;
	size_t addr_count;
	int rc;

	if (!t->node || !wr_node_id_eq(&t->node->node, &t->id))
		return wr_err_set(err, WR_E_NOT_FOUND,
				  "it is not in the fleet any more as it was then");
	if (t->node->flags & WR_FLEET_REMOVED)
		return wr_err_set(err, WR_E_DENIED, "it was removed from the fleet");
	if (!t->node->peer[0]) {
		wr_err_set(err, WR_E_NOT_FOUND, "it has no address for other nodes");
		return wr_err_hint(err, "there: [listen] peer = HOST:PORT in its configuration");
	}
	if (wr_addr_resolve(t->node->peer, wr_deadline_ms(RESOLVE_MS), addr, &addr_count, err) < 0)
		return -1;
	wr_auth_msg(t->l->auth, &m, &t->id.id, 0, t->sides ? WR_MSG_SIDES : WR_MSG_PUSH);
	t->request = m.request;
	wr_buf_add(&m.record, ms->record_bytes.p, ms->record_bytes.len);
	if (t->sides) {
		wr_save_rec_encode(t->sides, &m.save);
	} else {
		m.flag = wr_life_arg(t->l, "fill_to") && !wr_life_arg_bool(t->l, "mend");
		wr_buf_add(&m.settings, ms->settings.p, ms->settings.len);
		wr_buf_add(&m.save, ms->save_bytes.p, ms->save_bytes.len);
	}
	wr_buf_clear(&kit->envelope);
	rc = wr_auth_seal(t->l->auth, &m, &kit->envelope, err);
	wr_msg_fini(&m);
	if (rc < 0 || (fd = wr_push_kit_store(kit, err)) < 0)
		return -1;
	/* A number: the worker's walls may hide what resolves names. */
	wr_json_str(args, "address", wr_addr_text(&addr[0]).s);
	wr_json_str(args, "node", t->id.id.s);
	wr_json_u64(args, "inc", t->id.inc);
	wr_json_str(args, "name", t->node->name);
	wr_json_u64(args, "idle_ms", c->replica_timeout * 1000);
	wr_json_u64(args, "rate", c->replica_rate);
	t->task.kind = WR_TASK_PUSH;
	t->task.place = &t->l->place;
	t->task.args = args;
	t->task.source_fd = fd;
	t->task.log_fd = STDERR_FILENO;
	t->task.progress = on_progress;
	t->task.ctx = t;
	rc = wr_task_begin(&t->task, &t->pid, &t->fd, err);
	t->task.args = NULL;
	if (wait_s)
		t->end_ns = wr_clock_mono_ns() + wait_s * UINT64_C(1000000000);
	return rc;
}

/* A later save than was sent, made while that one was under way? Else this node was set back, and
 * the other holds something else. */
static bool
made_since(const struct wr_life *l, const struct wr_version *v)
{
	struct wr_member_state now;
	bool made = wr_version_cmp(v, &l->ms.save.v) > 0 &&
		    wr_epoch_cmp(&v->n, &l->ms.save.v.n) == 0 &&
		    wr_auth_load(l->auth, &l->project, &now, NULL) == 0;

	if (!made)
		return false;
	made = now.has_save && wr_version_cmp(v, &now.save.v) <= 0;
	wr_member_fini(&now);
	return made;
}

/* The other's signed word, or it is as if there were none. */
static int
judge_answer(struct target *t, const struct wr_buf *b, struct wr_err *err)
{
	const struct wr_member_state *ms = &t->l->ms;
	struct wr_digest refs = wr_save_refs_digest(&ms->save);
	struct wr_msg a = WR_MSG_INIT;
	int rc = -1;

	if (wr_auth_open_msg(t->l->auth, b->p, b->len, &a, err) < 0)
		return wr_err_wrap(err, "its answer");
	if (!wr_node_id_eq(&a.from, &t->id) || a.request != t->request) {
		wr_err_set(err, WR_E_DENIED, "its answer is to something else");
	} else if (a.kind == WR_MSG_ACK && t->sides && !strcmp(a.project.s, t->l->project.s)) {
		t->ok = true;
		rc = 0;
	} else if (a.kind == WR_MSG_ACK && !strcmp(a.project.s, t->l->project.s)) {
		t->acked = a.version;
		t->ok = wr_version_cmp(&a.version, &ms->save.v) == 0 &&
			!memcmp(a.digest.b, refs.b, sizeof(refs.b));
		rc = 0;
		if (!t->ok) /* it has more already: a later save was there first */
			t->ok = made_since(t->l, &a.version);
		if (!t->ok)
			rc = wr_err_set(err, WR_E_CHANGED, "it holds version %s instead",
					wr_version_text(&a.version).s);
	} else {
		wr_msg_get_err(&a, err);
		if (err->code == WR_E_NONE)
			wr_err_set(err, WR_E_DENIED, "it refused");
		if (a.record.len)
			t->newer = wr_base64(a.record.p, a.record.len);
	}
	wr_msg_fini(&a);
	return rc;
}

static void
end_push(struct target *t, int status)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const char *text;

	if (wr_task_end(t->ear.text.p, t->ear.text.len, status, &r, &t->err) < 0)
		return;
	t->bytes = wr_json_get_u64(r, "bytes", 0);
	t->seconds = wr_json_get_real(r, "seconds", 0);
	text = wr_json_get_str(r, "answer_b64", "");
	if (!wr_base64_decode(&b, text, strlen(text)))
		wr_err_set(&t->err, WR_E_INVALID, "its answer is not base64");
	else
		(void)judge_answer(t, &b, &t->err);
}

static void
reap(struct target *t, bool kill_it)
{
	int status = 0;

	if (kill_it)
		kill(t->pid, SIGKILL);
	while (waitpid(t->pid, &status, 0) < 0 && errno == EINTR)
		;
	t->pid = 0;
	if (t->err.code == WR_E_NONE)
		end_push(t, status);
	set_state(t, t->ok ? "done" : "failed");
}

/* S11: as many copies as were asked for are there, this node's own among them. */
static bool
enough(const struct wr_life *l, const struct target *t, size_t n)
{
	uint64_t copies = wr_life_arg_u64(l, "rf", 0), have = 1;

	for (size_t i = 0; i < n; i++)
		have += t[i].ok;
	return copies && have >= copies;
}

static int
hear(struct target *t)
{
	int rc = wr_task_hear(&t->task, &t->ear, t->fd, 0, &t->err);
	json_t *word;

	while ((word = wr_task_word(&t->ear))) {
		t->latest = wr_json_get_time(word, "latest", t->latest);
		json_decref(word);
	}
	return rc;
}

static void
wait_all(struct wr_life *l, struct target *t, size_t n)
{
	for (;;) {
		struct pollfd p[WR_MEMBERS_MAX];
		size_t live = 0;
		uint64_t now = wr_clock_mono_ns();

		for (size_t i = 0; i < n; i++) {
			p[i] = (struct pollfd){.fd = t[i].pid ? t[i].fd : -1, .events = POLLIN};
			live += t[i].pid != 0;
		}
		if (!live)
			return;
		(void)poll(p, n, POLL_MS);
		for (size_t i = 0; i < n; i++) {
			int rc = 1;

			if (!t[i].pid)
				continue;
			if (wr_life_cancelled(l))
				wr_err_set(&t[i].err, WR_E_CANCELLED, "cancelled");
			else if (enough(l, t, n))
				wr_err_set(&t[i].err, WR_E_CANCELLED,
					   "not waited for: there are copies enough");
			else if (t[i].end_ns && now > t[i].end_ns)
				wr_err_set(&t[i].err, WR_E_BUSY,
					   "still being sent; it goes on by itself");
			else if (p[i].revents)
				rc = hear(&t[i]);
			if (t[i].err.code != WR_E_NONE || rc < 0)
				reap(&t[i], true);
			else if (rc == 0)
				reap(&t[i], false);
		}
		wr_life_show(l);
	}
}

/* ---- what is said of it ---- */

static void
tell_target(struct wr_life *l, const struct target *t, json_t *list)
{
	const struct wr_save_rec *s = &l->ms.save;
	json_t *o = json_object();
	const char *name = t->node ? t->node->name : t->id.id.s;

	wr_json_str(o, "node", t->id.id.s);
	wr_json_str(o, "name", name);
	wr_json_str(o, "dc", t->node ? t->node->dc : NULL);
	wr_json_bool(o, "ok", t->ok);
	wr_json_str(o, "version", t->ok ? wr_version_text(&s->v).s : NULL);
	if (t->ok && s->scan_started)
		wr_json_time(o, "since", s->scan_started);
	else
		wr_json_null(o, "since");
	if (!t->ok && t->latest)
		wr_json_time(o, "latest", t->latest);
	else
		wr_json_null(o, "latest");
	wr_json_u64(o, "settings_rev", t->ok ? l->ms.settings_rev : 0);
	wr_json_u64(o, "bytes", t->bytes);
	wr_json_real(o, "seconds", t->seconds);
	if (t->ok) {
		wr_json_null(o, "error");
	} else {
		wr_json_err(o, "error", &t->err);
		if (!t->spare)
			wr_life_warn(l, "replica %s%s%s%s is behind: %s", name, t->node ? " (" : "",
				     t->node ? t->node->dc : "", t->node ? ")" : "", t->err.msg);
	}
	if (t->newer)
		wr_json_str(o, "record", t->newer);
	json_array_append_new(list, o);
}

static void
tell_safety(struct wr_life *l, json_t *receipt, const struct target *t, size_t n)
{
	struct wr_acked acked[WR_MEMBERS_MAX + 1];
	size_t count = 0;
	struct wr_safe safe;

	/* F20: what this copy acknowledges is worth nothing while it is damaged. */
	if (!wr_flag_is(l->node, WR_FLAG_DAMAGED, &l->project))
		acked[count++] = (struct wr_acked){l->auth->self, l->ms.save.v};
	else
		wr_life_warn(l,
			     "this node's copy was found damaged and does not count: warren "
			     "audit %s",
			     l->set.name);
	for (size_t i = 0; i < n; i++)
		if (t[i].ok)
			acked[count++] = (struct wr_acked){t[i].id, l->ms.save.v};
	safe = wr_safe_of(&l->ms.record, &l->ms.save.v, acked, count, &l->auth->fleet);
	json_object_del(receipt, "safe");
	json_object_del(receipt, "safe_in");
	json_object_del(receipt, "members");
	wr_json_str(receipt, "version", wr_version_text(&l->ms.save.v).s);
	wr_json_bool(receipt, "safe", safe.safe);
	wr_json_u64(receipt, "safe_in", safe.in);
	wr_json_u64(receipt, "members", safe.data);
	wr_json_u64(receipt, "dcs", safe.dcs);
}

int
wr_life_replicate(struct wr_life *l, json_t *receipt, uint64_t wait_s, struct wr_err *err)
{
	const char *fill_to = wr_life_arg(l, "fill_to");
	WR_SCOPED(wr_json_freep)
	json_t *names = fill_to ? json_array() : wr_life_arg_list(l, "targets");
	struct target t[WR_MEMBERS_MAX];
	struct wr_push_kit kit = {0};
	size_t n = 0;
	json_t *list;

	if (!l->auth || !l->ms.has_record || !l->ms.has_save)
		return 0;
	if (fill_to)
		wr_json_add_str(names, fill_to);
	if (check_names(l, names, err) < 0)
		return -1;
	wr_life_step(l, "replicate");
	for (size_t i = 0; i < l->ms.record.member_count; i++) {
		const struct wr_member *m = &l->ms.record.member[i];

		if (m->role == WR_ROLE_WITNESS || wr_node_id_eq(&m->node, &l->auth->self))
			continue;
		t[n] = (struct target){.l = l,
				       .id = m->node,
				       .node = wr_fleet_find(&l->auth->fleet, &m->node.id),
				       .task = WR_TASK_INIT,
				       .fd = -1};
		if (!wanted(names, &t[n]))
			continue;
		t[n].show = &l->status.target[n];
		*t[n].show = (struct wr_status_target){.state = "connecting"};
		snprintf(t[n].show->node, sizeof(t[n].show->node), "%s", m->node.id.s);
		snprintf(t[n].show->name, sizeof(t[n].show->name), "%s", node_name(l, &m->node.id));
		n++;
	}
	l->status.target_count = n;
	if (n && make_kit(l, &kit, err) < 0) {
		wr_push_kit_fini(&kit);
		return -1;
	}
	for (size_t i = 0; i < n; i++)
		if (begin_push(&t[i], &kit, wait_s, &t[i].err) < 0)
			set_state(&t[i], "failed");
	wr_push_kit_fini(&kit);
	wait_all(l, t, n);
	for (size_t i = 0; i < n; i++)
		t[i].spare = !t[i].ok && enough(l, t, n);
	list = wr_json_array(receipt, "replicas");
	for (size_t i = 0; i < n; i++)
		tell_target(l, &t[i], list);
	tell_safety(l, receipt, t, n);
	for (size_t i = 0; i < n; i++) {
		wr_closep(&t[i].fd);
		wr_task_ear_fini(&t[i].ear);
		free(t[i].newer);
	}
	return 0;
}

/* ---- W7: side branches that are here alone ---- */

/* Of the refs here, those side branches that no save names; the list is as long as one offer. */
static int
find_sides(struct wr_life *l, struct wr_save_rec *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *r = NULL;
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec all = WR_SAVE_REC_INIT;

	if (wr_life_task(l, WR_TASK_REFS, json_object(), -1, &r, err) < 0 ||
	    take_refs(wr_json_get_arr(r, "refs"), &all, err) < 0)
		return wr_err_wrap(err, "list the refs of '%s'", l->set.name);
	out->project = l->project;
	out->v.n = l->ms.record.n;
	out->writer = l->auth->self;
	out->ref = wr_calloc(WR_SIDES_MAX, sizeof(*out->ref));
	for (size_t i = 0; i < all.ref_count && out->ref_count < WR_SIDES_MAX; i++) {
		struct wr_save_ref *ref = &all.ref[i];
		bool named = !wr_is_side(ref->name);

		for (size_t k = 0; k < l->ms.save.ref_count && !named; k++)
			named = wr_is_side(l->ms.save.ref[k].name) &&
				!memcmp(l->ms.save.ref[k].id, ref->id, sizeof(ref->id));
		if (named)
			continue;
		out->ref[out->ref_count] = *ref;
		out->ref_count++;
		ref->name = NULL;
	}
	return 0;
}

static int
offer(struct wr_life *l, const struct wr_save_rec *sides, json_t *receipt, struct wr_err *err)
{
	struct wr_push_kit kit = {0};
	struct target t = {.l = l,
			   .id = l->ms.record.writer,
			   .node = wr_fleet_find(&l->auth->fleet, &l->ms.record.writer.id),
			   .task = WR_TASK_INIT,
			   .show = &l->status.target[0],
			   .sides = sides,
			   .fd = -1};
	int rc = make_kit(l, &kit, err);

	*t.show = (struct wr_status_target){.state = "connecting"};
	snprintf(t.show->node, sizeof(t.show->node), "%s", t.id.id.s);
	snprintf(t.show->name, sizeof(t.show->name), "%s", node_name(l, &t.id.id));
	l->status.target_count = 1;
	if (rc == 0 && begin_push(&t, &kit, 0, &t.err) == 0)
		wait_all(l, &t, 1);
	wr_push_kit_fini(&kit);
	wr_json_bool(receipt, "ok", t.ok);
	wr_json_str(receipt, "to", node_name(l, &t.id.id));
	if (t.newer)
		wr_json_str(receipt, "record", t.newer);
	if (!t.ok && rc == 0)
		wr_json_err(receipt, "error", &t.err);
	wr_closep(&t.fd);
	wr_task_ear_fini(&t.ear);
	free(t.newer);
	return rc;
}

/* The mark goes if all are named, and so are what every member keeps. Who makes one holds the
 * lifecycle lock from before its mark until it is there: then this is tried again later. */
static int
end_sides(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec sides = WR_SAVE_REC_INIT;
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_err why = WR_ERR_INIT;
	int rc;

	if (wr_life_lock(&l->place, 0, "side branches", &lock, &why) < 0) {
		if (why.code == WR_E_BUSY)
			return 0;
		*err = why;
		return -1;
	}
	rc = find_sides(l, &sides, err);
	if (rc == 0 && sides.ref_count == 0)
		rc = wr_flag_clear(l->node, WR_FLAG_SIDES, &l->project, err);
	wr_lock_drop(&lock);
	return rc;
}

int
wr_life_offer_sides(struct wr_life *l, json_t *receipt, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec sides = WR_SAVE_REC_INIT;
	json_t *list = wr_json_array(receipt, "sides");

	if (!l->auth || !l->ms.has_record)
		return 0;
	wr_life_step(l, "replicate");
	if (find_sides(l, &sides, err) < 0)
		return -1;
	for (size_t i = 0; i < sides.ref_count; i++)
		wr_json_add_str(list, sides.ref[i].name + strlen("refs/heads/"));
	if (sides.ref_count == 0)
		return end_sides(l, err);
	if (wr_node_id_eq(&l->ms.record.writer, &l->auth->self))
		return 0; /* its next save names them */
	return offer(l, &sides, receipt, err);
}
