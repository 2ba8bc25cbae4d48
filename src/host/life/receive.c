/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a push's envelope to its signed answer:
 *
 *   judge (no lock) -> a repository, if there is none -> worker: quarantine, hashes, closure
 *     -> lifecycle lock -> authority lock -> judge again -> worker: pack, index, refs
 *     -> D2, D3 durable -> answer
 *
 * To a copy that is marked as damaged only objects come that it lacks (WR_PUSH_MEND): nothing is
 * judged by them, no ref moves and nothing is acknowledged; control looks at it anew then.
 *
 * A crash anywhere leaves D3 too low, never too high; what came is found again by the next push.
 * Control has judged before it started this; both judgements here are the ones that count.
 */
#include "host/life/receive.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/auth/auth.h"
#include "host/life/life_int.h"
#include "host/task/stream.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define STREAM_FD 3
#define ENVELOPE_FD 4
/* A save or start of this copy is in the way for that long at most; then the sender tries again. */
#define LIFE_WAIT_S 120
/* LIMIT: for what the worker does while we hold the locks: it has read what strangers sent, so its
 * word that it is still at work is not enough. */
#define COMMIT_S 900
#define POLL_MS 100

struct receive {
	struct wr_life life; /* node, place, settings of the copy */
	struct wr_auth *auth;
	struct wr_msg q;
	struct wr_member_state state;
	struct wr_push push;
	struct wr_msg answer;
	bool begun;        /* WR_STREAM_SYNC was said */
	bool mend, mended; /* the worker takes objects alone; they are installed */
	bool sides;        /* the worker makes branches of them; no ref moves */
	bool latest;       /* there is a refs/warren/latest, which may become a side branch */
	/* the worker */
	struct wr_task task;
	struct wr_task_ear ear;
	pid_t pid; /* 0: none */
	int from, to;
	json_t *result;
};

/* ---- judging ---- */

static void
environment(const struct receive *r, struct wr_member_env *env)
{
	*env = (struct wr_member_env){
	    .self = r->auth->self,
	    .fleet = &r->auth->fleet,
	    .now_ns = wr_clock_boot_ns(),
	    .amnesia = wr_auth_set_back(r->auth),
	    .forgot = wr_auth_forgot(r->auth, &r->q.project),
	    .may_store = wr_volume_takes(r->life.node, &r->life.place),
	    .damaged = wr_flag_is(r->life.node, WR_FLAG_DAMAGED, &r->q.project),
	};
}

static int
load_state(struct receive *r, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	wr_member_fini(&r->state);
	if (wr_auth_load(r->auth, &r->q.project, &r->state, &why) == 0)
		return 0;
	if (why.code != WR_E_NOT_FOUND) {
		*err = why;
		return -1;
	}
	wr_member_init(&r->state, &r->q.project);
	return 0;
}

/* An error of ours as the answer: the sender tries again later. */
static void
answer_error(struct receive *r, const struct wr_err *err)
{
	wr_msg_fini(&r->answer);
	wr_msg_answer(&r->answer, &r->q, &r->auth->self, WR_MSG_ERROR);
	r->answer.project = r->q.project;
	wr_msg_set_err(&r->answer, err);
}

static int
send_answer(struct receive *r, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf sealed = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;

	r->answer.nonce = r->auth->nonce;
	r->answer.counter = r->auth->counter;
	if (wr_auth_seal(r->auth, &r->answer, &sealed, err) < 0)
		return -1;
	if (!r->begun)
		wr_buf_add8(&out, WR_STREAM_ANSWER);
	wr_buf_add32be(&out, (uint32_t)sealed.len);
	wr_buf_add(&out, sealed.p, sealed.len);
	if (wr_write_all(STREAM_FD, out.p, out.len) < 0)
		return wr_err_sys(err, "send the answer");
	return 0;
}

/* ---- the repository ---- */

/* A copy's settings are those that a hub signed; they come along, or are here. */
static int
copy_settings(struct receive *r, struct wr_err *err)
{
	const struct wr_buf *b = r->q.settings.len ? &r->q.settings : &r->state.settings;
	struct wr_settings_doc doc = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	int rc = -1;

	if (!b->len)
		return wr_err_set(err, WR_E_INVALID, "the project's settings did not come along");
	if (wr_settings_doc_decode(b->p, b->len, &doc, err) < 0)
		return -1;
	if (strcmp(doc.project.s, r->q.project.s) != 0)
		wr_err_set(err, WR_E_INVALID, "the settings are those of project %s",
			   doc.project.s);
	else if (wr_settings_doc_verify(&doc, &r->auth->fleet, err) == 0) {
		o = wr_json_parse(doc.json, strlen(doc.json), err);
		rc = o ? wr_settings_parse(o, &r->life.set, err) : -1;
		if (rc == 0 && strcmp(r->life.set.id.s, r->q.project.s) != 0)
			rc = wr_err_set(err, WR_E_INVALID, "they call it project %s",
					r->life.set.id.s);
	}
	wr_settings_doc_fini(&doc);
	return rc < 0 ? wr_err_wrap(err, "settings of project '%s'", r->q.project.s) : 0;
}

/* There is one, or it is made, empty. */
static int
find_copy(struct receive *r, struct wr_err *err)
{
	struct wr_life *l = &r->life;
	struct wr_err why = WR_ERR_INIT;

	l->project = r->q.project;
	if (copy_settings(r, err) < 0)
		return -1;
	if (wr_place_of_find(l->node, &l->project, &l->place, &why) == 0)
		return 0;
	if (why.code != WR_E_NOT_FOUND) {
		*err = why;
		return -1;
	}
	/* From here on root makes what they say. */
	if (wr_settings_admit(l->node, &l->set, NULL, err) < 0)
		return -1;
	if (wr_life_make_copy(l, err) < 0)
		return wr_err_wrap(err, "make a place for project '%s'", l->set.name);
	wr_crash_point("receive.made");
	wr_place_of_fini(&l->place);
	return wr_place_of_find(l->node, &l->project, &l->place, err);
}

/* ---- the worker ---- */

/* A side branch is one state of the working files: what these may not be, it is not. */
static uint64_t
most_bytes(const struct receive *r)
{
	uint64_t most = r->life.node->config.replica_max_size, disk = 0;

	if (r->push.what == WR_PUSH_SIDES)
		disk = wr_settings_u64(&r->life.set, "disk");
	return disk && (!most || disk < most) ? disk : most;
}

static int
begin_worker(struct receive *r, struct wr_err *err)
{
	const struct wr_config *c = &r->life.node->config;
	WR_SCOPED(wr_json_freep) json_t *args = json_object();
	WR_SCOPED(wr_freep) char *save = wr_base64(r->q.save.p, r->q.save.len);
	int p[2];
	int rc;

	wr_json_str(args, "save_b64", save);
	wr_json_bool(args, "fill", r->push.what == WR_PUSH_FILL);
	r->mend = r->push.what == WR_PUSH_MEND;
	wr_json_bool(args, "mend", r->mend);
	r->sides = r->push.what == WR_PUSH_SIDES;
	wr_json_bool(args, "sides", r->sides);
	if (r->mend) {
		json_t *packs = wr_damage_packs(r->life.node, &r->q.project);

		if (packs)
			json_object_set_new(args, "packs", packs);
	}
	wr_json_u64(args, "max_bytes", most_bytes(r));
	wr_json_u64(args, "min_free", wr_volume_mark_free(r->life.node, &r->life.place));
	wr_json_u64(args, "idle_ms", c->replica_timeout * 1000);
	if (pipe2(p, O_CLOEXEC) < 0)
		return wr_err_sys(err, "make a pipe");
	r->to = p[1];
	r->task.kind = WR_TASK_RECEIVE;
	r->task.place = &r->life.place;
	r->task.args = args;
	r->task.source_fd = STREAM_FD;
	r->task.in_fd = p[0];
	r->task.log_fd = STDERR_FILENO;
	rc = wr_task_begin(&r->task, &r->pid, &r->from, err);
	close(p[0]);
	r->task.args = NULL;
	return rc;
}

/*
 * The next line that is no progress: 1 it is ready, or begins again; 0 it ended well; -1.  limit_s
 * 0: as long as it takes; it keeps the time of the transfer itself.
 */
static int
next_word(struct receive *r, uint64_t limit_s, struct wr_err *err)
{
	uint64_t end = wr_clock_mono_ns() + limit_s * UINT64_C(1000000000);
	int rc, status;

	for (;;) {
		json_t *word = wr_task_word(&r->ear);

		if (word) {
			bool mine = wr_json_get_bool(word, "ready", false) ||
				    wr_json_get_bool(word, "again", false);

			r->latest = wr_json_get_bool(word, "latest", false);
			json_decref(word);
			if (mine)
				return 1;
			continue;
		}
		if (limit_s && wr_clock_mono_ns() >= end)
			return wr_err_set(err, WR_E_FAILED,
					  "the worker has said nothing for %" PRIu64 " s", limit_s);
		rc = wr_task_hear(&r->task, &r->ear, r->from, limit_s ? POLL_MS : -1, err);
		if (rc < 0)
			return -1;
		if (rc == 0)
			break;
	}
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	r->pid = 0;
	return wr_task_end(r->ear.text.p, r->ear.text.len, status, &r->result, err);
}

static int
tell_worker(struct receive *r, json_t *taken, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_json_write(taken, &b);
	json_decref(taken);
	wr_buf_add8(&b, '\n');
	if (wr_write_all(r->to, b.p, b.len) < 0)
		return wr_err_sys(err, "tell the worker");
	return 0;
}

/* ---- under the locks ---- */

/* What the worker does to the refs. 1: they had moved, it begins again, without our locks; 0: done;
 * -1. */
static int
install(struct receive *r, const struct wr_buf *held, struct wr_err *err)
{
	json_t *o = json_object(), *go = wr_json_object(o, "commit");
	WR_SCOPED(wr_freep) char *save = held->len ? wr_base64(held->p, held->len) : NULL;

	wr_age_floor(r->life.node, go);
	wr_json_bool(go, "refs", r->sides);
	/* Before they are there: control looks for those that are here alone, and sends them to the
	 * writer. */
	if ((r->push.side || r->latest) && !r->sides &&
	    wr_flag_set(r->life.node, WR_FLAG_SIDES, &r->q.project, "", 0, err) < 0)
		return -1;
	if (r->push.side)
		wr_json_str(go, "side", r->push.side_name);
	if (save)
		wr_json_str(go, "held_b64", save);
	if (tell_worker(r, o, err) < 0)
		return -1;
	return next_word(r, COMMIT_S, err);
}

/* Before the locks go: what it was told to do it must not do without them. */
static void
end_worker(struct receive *r)
{
	if (r->pid <= 0)
		return;
	kill(r->pid, SIGKILL);
	while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
		;
	r->pid = 0;
}

static void
abort_worker(struct receive *r, const struct wr_err *why)
{
	struct wr_err err = WR_ERR_INIT;
	json_t *o = json_object();

	wr_json_err(o, "abort", why);
	if (tell_worker(r, o, &err) < 0)
		return;
	while (next_word(r, COMMIT_S, &err) > 0)
		;
}

/* W7: this node is the writer, and its next save names them. Cut off before that they are offered
 * once more. */
static int
name_sides(struct receive *r, struct wr_err *err)
{
	struct wr_life *l = &r->life;
	int rc;

	l->auth = r->auth;
	rc = wr_auth_load(l->auth, &l->project, &l->ms, err);
	if (rc == 0)
		rc = wr_life_note_save(l, wr_json_get_arr(r->result, "refs"),
				       r->state.save.scan_started, err);
	wr_member_fini(&l->ms);
	l->auth = NULL; /* not its own */
	return rc;
}

/* What a member that was away has not heard of: the save is here, newer settings came with it. */
static int
note(struct receive *r, struct wr_err *err)
{
	struct wr_lock auth = WR_LOCK_INIT;
	struct wr_member_env env;
	struct wr_member_out out;
	int rc = -1;

	if (wr_auth_lock(r->auth, &r->q.project, &auth, err) < 0 || load_state(r, err) < 0)
		goto out;
	environment(r, &env);
	/* Anything else than HAVE: refused meanwhile, or it is to be sent after all. */
	rc = 0;
	if (wr_member_push_commit(&r->state, &env, &r->q, &r->push, &r->answer, &out) !=
	    WR_PUSH_HAVE) {
		if (out.why.code == WR_E_NONE)
			rc = wr_err_set(err, WR_E_CHANGED, "what is here changed meanwhile");
	} else if (out.changed) {
		rc = wr_auth_store(r->auth, &r->q.project, &r->state, err);
	}
out:
	wr_lock_drop(&auth);
	return rc;
}

/* 1: pump again; 0: r->answer is the answer; -1. */
static int
commit(struct receive *r, struct wr_err *err)
{
	struct wr_lock life = WR_LOCK_INIT, auth = WR_LOCK_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf held = WR_BUF_INIT;
	WR_SCOPED(wr_freep)
	char *note = wr_asprintf("op %s receive by node %s since %s pid %d", r->life.op.s,
				 r->q.from.id.s, wr_fmt_utc(wr_clock_wall().s).s, (int)getpid());
	struct wr_work work = {0};
	struct wr_member_env env;
	struct wr_member_out out;
	enum wr_push_do what;
	int rc = -1;

	if (wr_life_lock(&r->life.place, LIFE_WAIT_S, note, &life, err) < 0)
		return -1;
	wr_crash_point("receive.locked");
	if (wr_work_load(r->life.node, &r->q.project, &work, err) < 0)
		goto out;
	/* It was dropped or deleted while the objects came. */
	if (work.deleted) {
		wr_err_set(err, WR_E_CHANGED, "project '%s' went to the trash here meanwhile",
			   r->q.project.s);
		goto out;
	}
	if (wr_auth_lock(r->auth, &r->q.project, &auth, err) < 0 || load_state(r, err) < 0)
		goto out;
	if (r->state.has_save)
		wr_buf_add(&held, r->state.save_bytes.p, r->state.save_bytes.len);
	environment(r, &env);
	wr_msg_fini(&r->answer);
	what = wr_member_push_commit(&r->state, &env, &r->q, &r->push, &r->answer, &out);
	if (what != WR_PUSH_TAKE && what != WR_PUSH_FILL && what != WR_PUSH_MEND &&
	    what != WR_PUSH_SIDES) {
		abort_worker(r, &out.why);
		rc = 0;
		goto out;
	}
	if (r->mend != (what == WR_PUSH_MEND)) {
		wr_err_set(err, WR_E_CHANGED, "the copy here %s meanwhile",
			   r->mend ? "became whole" : "was found damaged");
		goto out;
	}
	rc = install(r, &held, err);
	if (rc < 0)
		end_worker(r);
	if (rc != 0)
		goto out;
	if (r->mend) {
		r->mended = true;
		wr_crash_point("receive.mended");
		rc = wr_err_set(err, WR_E_CORRUPT,
				"the copy there was found damaged: it took what it lacked, and is "
				"looked at again before it counts");
		goto out;
	}
	wr_crash_point("receive.moved");
	if (r->sides) {
		wr_lock_drop(&auth);
		rc = name_sides(r, err);
		goto out;
	}
	/* DURABLE: the refs stand; D3 after them, the answer after D3. */
	if (out.changed && wr_auth_store(r->auth, &r->q.project, &r->state, err) < 0)
		rc = -1;
	wr_crash_point("receive.stored");
out:
	wr_work_fini(&work);
	wr_lock_drop(&auth);
	wr_lock_drop(&life);
	return rc;
}

/* ---- all of it ---- */

static int
transfer(struct receive *r, struct wr_err *err)
{
	static const char go = WR_STREAM_SYNC;
	int rc;

	if (find_copy(r, err) < 0)
		return -1;
	if (wr_write_all(STREAM_FD, &go, 1) < 0)
		return wr_err_sys(err, "answer the sender");
	r->begun = true;
	if (begin_worker(r, err) < 0)
		return -1;
	do {
		rc = next_word(r, 0, err);
		if (rc == 0)
			return wr_err_set(err, WR_E_FAILED, "the worker ended before it was told");
		if (rc > 0)
			rc = commit(r, err);
	} while (rc > 0);
	return rc;
}

static int
receive(struct receive *r, struct wr_err *err)
{
	struct wr_member_env env;
	struct wr_member_out out;
	struct wr_err why = WR_ERR_INIT;
	enum wr_push_do what;

	if (load_state(r, err) < 0)
		return -1;
	(void)wr_place_of_find(r->life.node, &r->q.project, &r->life.place, NULL);
	environment(r, &env);
	wr_place_of_fini(&r->life.place);
	what = wr_member_push_check(&r->state, &env, &r->q, &r->push, &r->answer, &out);
	if (what == WR_PUSH_REFUSE || what == WR_PUSH_HAVE)
		return 0;
	if ((what == WR_PUSH_NOTE ? note(r, &why) : transfer(r, &why)) < 0) {
		wr_log_err(WR_LOG_WARNING, "receive", &why);
		answer_error(r, &why);
	}
	return 0;
}

static int
open_all(struct receive *r, const char *root, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_record e;
	struct stat st;

	if (wr_node_open(strcmp(root, "-") ? root : NULL, WR_NODE_OF_DAEMON | WR_NODE_SOME_VOLUMES,
			 &r->life.node, err) < 0 ||
	    wr_auth_open(r->life.node, &r->auth, err) < 0)
		return -1;
	if (fstat(ENVELOPE_FD, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > WR_MSG_BYTES)
		return wr_err_set(err, WR_E_USAGE, "this is started by the daemon alone");
	wr_buf_reserve(&b, (size_t)st.st_size);
	if (wr_pread_full(ENVELOPE_FD, b.p, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
		return wr_err_sys(err, "read the envelope");
	if (wr_auth_open_msg(r->auth, b.p, (size_t)st.st_size, &r->q, err) < 0)
		return -1;
	if (r->q.kind != WR_MSG_PUSH && r->q.kind != WR_MSG_SIDES)
		return wr_err_set(err, WR_E_INVALID, "a stream that is no push");
	if (wr_record_decode(r->q.record.p, r->q.record.len, &e, err) < 0)
		return -1;
	r->q.project = e.project; /* which a push says by its record alone */
	wr_uuid_new(&r->life.op); /* names this transfer in the lock's note */
	return 0;
}

int
wr_receive_main(int argc, char **argv)
{
	struct receive r = {.life = {.place = WR_PLACE_OF_INIT,
				     .op_fd = -1,
				     .lock = WR_LOCK_INIT,
				     .kind = WR_OP_CREATE,
				     .started = wr_clock_wall().s,
				     .begin_ns = wr_clock_mono_ns()},
			    .task = WR_TASK_INIT,
			    .from = -1,
			    .to = -1};
	struct wr_err err = WR_ERR_INIT;
	int status = 1;

	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	umask(022);
	wr_log_init("receive", WR_LOG_NOTICE, false);
	r.life.warnings = json_array();
	if (argc != 2)
		wr_err_set(&err, WR_E_USAGE, "this is started by the daemon alone");
	else if (open_all(&r, argv[1], &err) == 0 && receive(&r, &err) == 0 &&
		 send_answer(&r, &err) == 0)
		status = r.mended ? WR_RECEIVE_MENDED : r.answer.kind == WR_MSG_ACK ? 0 : 4;
	if (err.code != WR_E_NONE)
		wr_log_err(WR_LOG_ERROR, "receive", &err);
	end_worker(&r);
	wr_closep(&r.from);
	wr_closep(&r.to);
	wr_task_ear_fini(&r.ear);
	json_decref(r.result);
	json_decref(r.life.warnings);
	wr_push_fini(&r.push);
	wr_member_fini(&r.state);
	wr_msg_fini(&r.q);
	wr_msg_fini(&r.answer);
	wr_settings_fini(&r.life.set);
	wr_place_of_fini(&r.life.place);
	wr_auth_close(r.auth);
	wr_node_close(r.life.node);
	return status;
}
