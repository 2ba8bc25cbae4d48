/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pushes of other nodes.  Control judges the envelope (cheaply, by its own disk) and then starts a
 * process for it, @receive (host/life/receive.h), which has the other end of the stream and judges
 * again under the locks.
 *
 * An envelope of a push comes from an operation, which knows no nonces; one that is played again
 * brings a version that is here already.
 */
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/life/receive.h"
#include "serve/control/deletion.h"
#include "serve/control/drops.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sealed.h"

/* Who finds no place waits that long for one. */
#define WAIT_NS (20 * (uint64_t)WR_SECOND)
/* LIMIT: of those that wait; each has its envelope in memory. */
#define WAITING_MAX 32

struct wr_inbound {
	struct wr_control *c;
	struct wr_inbound *next; /* in the order they came */
	uint32_t life, conn;
	struct wr_msg q;
	struct wr_buf envelope;
	uint64_t since_ns;
	bool known;            /* the index knew the project before */
	struct wr_child child; /* pid 0: it waits */
};

static void
unlink_free(struct wr_inbound *s)
{
	struct wr_inbound **at = &s->c->fleet->peers->inbound;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	wr_child_off(&s->child);
	wr_msg_fini(&s->q);
	wr_buf_fini(&s->envelope);
	free(s);
}

/* ---- refusing ---- */

/* a is taken. */
static void
answer(struct wr_control *c, uint32_t conn, const struct wr_msg *q, struct wr_msg *a)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;

	wr_msg_answer(a, q, &c->fleet->auth->self, a->kind);
	a->nonce = c->fleet->auth->nonce;
	a->counter = c->fleet->auth->counter;
	if (wr_auth_seal(c->fleet->auth, a, &m.payload, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "an answer to a push", &err);
	wr_msg_fini(a);
	m.type = WR_PEER_REFUSE;
	m.conn = conn;
	wr_fleet_touch(c);
	(void)wr_channel_send(c, &m);
}

static void
fail(struct wr_control *c, uint32_t conn, const struct wr_msg *q, const struct wr_err *err)
{
	struct wr_msg a = WR_MSG_INIT;

	a.kind = WR_MSG_ERROR;
	wr_msg_set_err(&a, err);
	answer(c, conn, q, &a);
}

/* ---- judging ---- */

/* Its volume may have gone: then its copy must not be begun anew on another one. */
static int
check_volumes(struct wr_inbound *s, struct wr_err *err)
{
	struct wr_control *c = s->c;
	struct wr_proj_row row = {0};
	int rc = 0;

	s->known = wr_row_find(c, &s->q.project, &row, NULL) == 0;
	if (s->known) {
		rc = wr_row_volumes(c, &row, err);
		wr_proj_row_fini(&row);
		return rc;
	}
	for (size_t i = 0; i < c->node->volume_count; i++)
		if (c->volume_lost[i])
			return wr_err_set(err, WR_E_FAILED,
					  "volume '%s' is not there: a copy may be on it",
					  WR_Q(c->node->volume[i].path));
	return 0;
}

/* 0: let it come. -1: *a is the answer, or err. */
static int
judge(struct wr_inbound *s, struct wr_msg *a, struct wr_err *err)
{
	struct wr_control *c = s->c;
	struct wr_member_state state;
	struct wr_member_env env;
	struct wr_member_out out;
	struct wr_push push = WR_PUSH_INIT;
	enum wr_push_do what = WR_PUSH_REFUSE;

	wr_member_init(&state, &s->q.project);
	if (wr_member_load(c, &s->q.project, &state, err) == 0 && check_volumes(s, err) == 0 &&
	    wr_copy_admit_doc(c, &s->q.project, &s->q.settings, err) == 0) {
		wr_member_env_of(c, &s->q.project, &env);
		what = wr_member_push_check(&state, &env, &s->q, &push, a, &out);
		if (what == WR_PUSH_REFUSE)
			wr_peer_refused(c, &s->q, &out.why);
		/* HAVE is no sign of life: the envelope may have been kept, and played again. */
		out.heard = false;
		wr_heard_judged(c, &s->q.project, &out, &s->q.from);
	}
	wr_push_fini(&push);
	wr_member_fini(&state);
	return what == WR_PUSH_REFUSE || what == WR_PUSH_HAVE ? -1 : 0;
}

/* Which project, and that its sender's own memory is not in doubt. */
static int
admit(struct wr_inbound *s, struct wr_err *err)
{
	struct wr_pnode *n = wr_pnode_get(s->c, &s->q.from);
	struct wr_record e;

	if (s->q.kind != WR_MSG_PUSH && s->q.kind != WR_MSG_SIDES)
		return wr_err_set(err, WR_E_INVALID, "%s comes by no stream",
				  wr_msg_kind_name(s->q.kind));
	if (!n || n->behind)
		return wr_err_set(err, WR_E_DENIED, "node '%s' was set back: it has to rejoin",
				  wr_fleet_name(s->c, &s->q.from.id));
	/* Messages say of which project they are by what they carry. */
	if (!s->q.project.s[0]) {
		if (wr_record_decode(s->q.record.p, s->q.record.len, &e, err) < 0)
			return -1;
		s->q.project = e.project;
	}
	return 0;
}

/* ---- the process ---- */

static void begin_next(struct wr_control *c);

static void
tell_sides(const struct wr_inbound *s)
{
	WR_SCOPED(wr_freep)
	char *why = wr_asprintf("side branches of node %s are here, and go to all members",
				wr_fleet_name(s->c, &s->q.from.id));

	wr_event(s->c, "fleet", &s->q.project, "side.came", why, NULL);
}

static void
on_ended(struct wr_child *ch, int wait_status)
{
	struct wr_inbound *s = WR_OWNER(ch, struct wr_inbound, child);
	struct wr_control *c = s->c;
	bool took = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
	struct wr_proj_row row = {0};
	struct wr_record e;
	bool new;

	c->fleet->peers->receiving--;
	if (took) {
		/* M4: as good as a keepalive, if it is the writer's own. */
		if (wr_record_decode(s->q.record.p, s->q.record.len, &e, NULL) == 0 &&
		    wr_node_id_eq(&e.writer, &s->q.from))
			wr_heard_now(c, &s->q.project, &s->q.from);
		wr_fleet_touch(c);
		wr_lease_learn(c, &s->q.project);
		wr_fleet_learn(c, &s->q.project);
		if (s->q.kind == WR_MSG_SIDES)
			tell_sides(s);
		new = !s->known &&wr_row_find(c, &s->q.project, &row, NULL) == 0;
		if (new) {
			WR_SCOPED(wr_freep)
			char *why = wr_asprintf("a copy of '%s' is kept here, from node %s",
						row.name, wr_fleet_name(c, &s->q.from.id));

			wr_event(c, "fleet", &s->q.project, "replica.new", why, NULL);
			wr_proj_row_fini(&row);
		}
	} else if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == WR_RECEIVE_MENDED) {
		wr_mend_received(c, &s->q.project);
	} else if (!WIFEXITED(wait_status)) {
		wr_event(c, "fleet", &s->q.project, "replica.failed",
			 "the process that received it was killed", NULL);
	}
	unlink_free(s);
	begin_next(c);
}

static int
spawn(struct wr_inbound *s, int stream, struct wr_err *err)
{
	struct wr_control *c = s->c;
	const char *argv[] = {"warren", "@receive", wr_node_arg(c->node), NULL};
	WR_SCOPED(wr_closep) int file = wr_sealed_make(s->envelope.p, s->envelope.len, err);
	struct wr_spawn sp = WR_SPAWN_INIT;
	char **env;
	pid_t pid;
	int rc;

	if (file < 0)
		return -1;
	env = wr_part_environment(c, NULL);
	sp.argv = argv;
	sp.envp = (const char *const *)env;
	sp.fd[2] = STDERR_FILENO;
	sp.fd[3] = stream;
	sp.fd[4] = file;
	sp.fd_count = 5;
	sp.new_session = true;
	rc = wr_spawn(&sp, &pid, err);
	wr_part_environment_free(env);
	if (rc < 0)
		return wr_err_wrap(err, "start @receive");
	wr_child_on(&c->loop, &s->child, pid, -1, on_ended);
	c->fleet->peers->receiving++;
	return 0;
}

static int
begin(struct wr_inbound *s, struct wr_err *err)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return wr_err_sys(err, "make a pair of sockets");
	rc = spawn(s, pair[1], err);
	close(pair[1]);
	if (rc < 0) {
		close(pair[0]);
		return -1;
	}
	wr_buf_fini(&s->envelope);
	m.type = WR_PEER_GO;
	m.conn = s->conn;
	m.fd = pair[0];
	(void)wr_channel_send(s->c, &m); /* gone: then @receive reads the end */
	return 0;
}

/* Is one of the same project under way? The later one waits: it may be no news then. */
static bool
crowded(const struct wr_inbound *s)
{
	for (const struct wr_inbound *o = s->c->fleet->peers->inbound; o; o = o->next)
		if (o != s && o->child.pid && !strcmp(o->q.project.s, s->q.project.s))
			return true;
	return false;
}

/* One node does not take all places: it may send a byte now and then, and stay for ever. */
static bool
greedy(const struct wr_inbound *s)
{
	uint64_t most = s->c->node->config.replica_parallel, its = 0;

	for (const struct wr_inbound *o = s->c->fleet->peers->inbound; o; o = o->next)
		its += o->child.pid && !strcmp(o->q.from.id.s, s->q.from.id.s);
	return most > 1 && its >= most - 1;
}

/* Answered, or begun. */
static void
proceed(struct wr_inbound *s)
{
	struct wr_control *c = s->c;
	struct wr_msg a = WR_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;

	if (!wr_deletion_offered(c, &s->q, &err) && judge(s, &a, &err) == 0 && begin(s, &err) == 0)
		return;
	if (a.kind) {
		answer(c, s->conn, &s->q, &a);
	} else {
		wr_log_err(WR_LOG_WARNING, "a push", &err);
		fail(c, s->conn, &s->q, &err);
	}
	wr_msg_fini(&a);
	unlink_free(s);
}

static void
begin_next(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_inbound *s;

	while (p->receiving < c->node->config.replica_parallel && !c->draining) {
		for (s = p->inbound; s && (s->child.pid || crowded(s) || greedy(s)); s = s->next)
			;
		if (!s)
			return;
		proceed(s);
	}
}

/* ---- from outside ---- */

static size_t
waiting(const struct wr_peers *p)
{
	size_t n = 0;

	for (const struct wr_inbound *s = p->inbound; s; s = s->next)
		n += !s->child.pid;
	return n;
}

static void
no_place(struct wr_inbound *s)
{
	struct wr_err err = WR_ERR_INIT;

	wr_err_set(&err, WR_E_BUSY, "node '%s' receives as many as it may: [replica] parallel",
		   wr_fleet_name(s->c, &s->c->node->id));
	fail(s->c, s->conn, &s->q, &err);
	unlink_free(s);
}

void
wr_inbound_stream(struct wr_control *c, struct wr_peer_msg *m)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_inbound *s = wr_calloc(1, sizeof(*s)), **at = &p->inbound;
	struct wr_err err = WR_ERR_INIT;

	s->c = c;
	s->life = p->life;
	s->conn = m->conn;
	s->since_ns = wr_clock_mono_ns();
	while (*at)
		at = &(*at)->next;
	*at = s;
	if (wr_auth_open_msg(c->fleet->auth, m->payload.p, m->payload.len, &s->q, &err) < 0 ||
	    admit(s, &err) < 0) {
		if (!s->q.kind && wr_msg_peek(m->payload.p, m->payload.len, &s->q, NULL) < 0) {
			s->q.from = c->fleet->auth->self;
			s->q.to = c->fleet->auth->self.id;
		}
		wr_peer_refused(c, &s->q, &err);
		fail(c, s->conn, &s->q, &err);
		unlink_free(s);
		return;
	}
	s->envelope = m->payload;
	m->payload = (struct wr_buf)WR_BUF_INIT;
	if (waiting(p) > WAITING_MAX) {
		no_place(s);
		return;
	}
	begin_next(c);
}

bool
wr_inbound_runs(struct wr_control *c, const struct wr_uuid *project)
{
	for (const struct wr_inbound *s = c->fleet->peers->inbound; s; s = s->next)
		if (!strcmp(s->q.project.s, project->s))
			return true;
	return false;
}

void
wr_inbound_tick(struct wr_control *c)
{
	uint64_t now = wr_clock_mono_ns();
	struct wr_inbound *next;

	for (struct wr_inbound *s = c->fleet->peers->inbound; s; s = next) {
		next = s->next;
		if (!s->child.pid && now - s->since_ns > WAIT_NS)
			no_place(s);
	}
}

void
wr_inbound_lost(struct wr_control *c)
{
	struct wr_inbound *next;

	for (struct wr_inbound *s = c->fleet->peers->inbound; s; s = next) {
		next = s->next;
		if (!s->child.pid)
			unlink_free(s);
	}
}

/* Those that run read the end of their streams, and end. */
void
wr_inbound_end(struct wr_control *c)
{
	while (c->fleet->peers->inbound)
		unlink_free(c->fleet->peers->inbound);
}
