/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The @peer process (serve/peer): started, told what it has to know, started again when it ends.
 * What it says is worth nothing but the signatures that come through it.
 */
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "fleet/link/link.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/sandbox.h"

#define PAUSE_MIN_NS (WR_SECOND / 5)
#define PAUSE_MAX_NS (30 * (uint64_t)WR_SECOND)
/* One that lived that long ended for a new reason. */
#define WELL_NS (60 * (uint64_t)WR_SECOND)
#define MAX_FILES 4096
/* LIMIT: remarks of it that become events, a minute. */
#define NOTES_MAX 20
/* LIMITs of what waits for a process that does not read. */
#define OUT_COUNT 16384
#define OUT_BYTES (128u << 20)
/* It gives itself 2 s to say goodbye; then it is ended. */
#define END_NS (3 * (uint64_t)WR_SECOND)

static void start_again(struct wr_timer *t);

/* ---- its end ---- */

static void
clear_out(struct wr_peers *p)
{
	for (size_t i = 0; i < p->out_count; i++)
		wr_peer_msg_fini(&p->out[i]);
	free(p->out);
	p->out = NULL;
	p->out_count = p->out_cap = p->out_bytes = 0;
}

/* Nothing goes there any more; what was asked through it fails, so that it is asked again. */
static void
lost(struct wr_control *c, const char *why)
{
	struct wr_peers *p = c->fleet->peers;

	if (p->sock < 0)
		return;
	wr_watch_off(&c->loop, &p->watch);
	wr_closep(&p->sock);
	clear_out(p);
	p->life++;
	if (why && !c->draining)
		wr_event(c, "fleet", NULL, "peer.ended", why, NULL);
	wr_child_kill(&p->child);
	wr_asks_lost(c);
	wr_inbound_lost(c);
}

void
wr_channel_replace(struct wr_control *c, const char *why)
{
	lost(c, why);
}

static void
on_ended(struct wr_child *ch, int wait_status)
{
	struct wr_peers *p = WR_OWNER(ch, struct wr_peers, child);
	WR_SCOPED(wr_freep) char *why = wr_asprintf("it ended with status %d", wait_status);

	lost(p->c, why);
	if (p->c->draining)
		return;
	if (wr_clock_mono_ns() - p->born_ns > WELL_NS)
		p->pause_ns = 0;
	p->pause_ns = WR_MIN(WR_MAX(2 * p->pause_ns, (uint64_t)PAUSE_MIN_NS), PAUSE_MAX_NS);
	wr_timer_on(&p->c->loop, &p->again, p->pause_ns, start_again);
}

/* ---- messages ---- */

/* It bounds its remarks itself, unless somebody else has taken it over. */
static void
note(struct wr_control *c, const char *text)
{
	unsigned hidden;

	if (wr_tally_pass(&c->fleet->peers->notes, wr_clock_mono_ns(), NOTES_MAX, &hidden))
		wr_event(c, "fleet", NULL, "peer.note", text ? text : "", NULL);
	if (hidden) {
		WR_SCOPED(wr_freep) char *more = wr_asprintf("%u more remarks", hidden);

		wr_event(c, "fleet", NULL, "peer.note", more, NULL);
	}
}

static void
serve(struct wr_control *c, struct wr_peer_msg *m)
{
	switch (m->type) {
	case WR_PEER_CALL:
		wr_asks_call(c, m);
		break;
	case WR_PEER_STREAM:
		wr_inbound_stream(c, m);
		break;
	case WR_PEER_ANSWER:
		wr_asks_answered(c, m);
		break;
	case WR_PEER_FAILED:
		wr_asks_failed(c, m);
		break;
	case WR_PEER_NOTE:
		note(c, m->text);
		break;
	default:
		break; /* the codec lets nothing else pass */
	}
}

static void
flush(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_err err = WR_ERR_INIT;
	size_t done = 0;
	int rc = 1;

	while (done < p->out_count && (rc = wr_peer_send(p->sock, &p->out[done], &err)) > 0) {
		p->out_bytes -= p->out[done].payload.len;
		wr_peer_msg_fini(&p->out[done++]);
	}
	p->out_count -= done;
	if (done)
		memmove(p->out, p->out + done, p->out_count * sizeof(*p->out));
	if (rc < 0)
		lost(c, err.msg);
	else
		wr_watch_change(&c->loop, &p->watch, EPOLLIN | (p->out_count ? EPOLLOUT : 0u));
}

static void
on_message(struct wr_watch *w, uint32_t events)
{
	struct wr_peers *p = WR_OWNER(w, struct wr_peers, watch);
	struct wr_control *c = p->c;
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;
	int rc;

	if ((events & EPOLLOUT) && p->out_count)
		flush(c);
	if (p->sock < 0 || !(events & ~(uint32_t)EPOLLOUT))
		return;
	rc = wr_peer_recv(p->sock, true, &m, &err);
	if (rc < 0 && err.code == WR_E_BUSY)
		return;
	if (rc <= 0) {
		lost(c, rc == 0 ? "its channel ended" : err.msg);
		return;
	}
	serve(c, &m);
}

bool
wr_channel_send(struct wr_control *c, struct wr_peer_msg *m)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_err err = WR_ERR_INIT;
	int rc = 0;

	if (p->sock >= 0 && !p->out_count)
		rc = wr_peer_send(p->sock, m, &err);
	if (p->sock < 0 || rc != 0) {
		wr_peer_msg_fini(m);
		if (rc < 0)
			lost(c, err.msg);
		return rc > 0;
	}
	if (p->out_count >= OUT_COUNT || p->out_bytes + m->payload.len > OUT_BYTES) {
		wr_peer_msg_fini(m);
		lost(c, "it does not take its messages");
		return false;
	}
	wr_grow(&p->out, &p->out_cap, p->out_count + 1, sizeof(*p->out));
	p->out_bytes += m->payload.len;
	p->out[p->out_count++] = *m;
	*m = (struct wr_peer_msg)WR_PEER_MSG_INIT;
	wr_watch_change(&c->loop, &p->watch, EPOLLIN | EPOLLOUT);
	return true;
}

/* ---- its beginning ---- */

void
wr_channel_setup(struct wr_control *c)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	struct wr_err err = WR_ERR_INIT;

	m.type = WR_PEER_SETUP;
	if (wr_fleet_setup(c, &m.payload, &err) < 0) {
		/* It goes on with what it has. */
		wr_event(c, "fleet", NULL, "peer.note", err.msg, NULL);
		wr_secret_fini(&m.payload);
		return;
	}
	(void)wr_channel_send(c, &m);
}

static pid_t
spawn(struct wr_control *c, int sock, struct wr_err *err)
{
	static const char *const argv[] = {"warren", "@peer", NULL};
	const char *level = getenv("ASAN_OPTIONS");
	/* A leak checker traces its process, which the walls forbid. */
	WR_SCOPED(wr_freep)
	char *asan = wr_asprintf("ASAN_OPTIONS=%s:detect_leaks=0", level ? level : "");
	const char *envp[] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", asan, NULL};
	struct wr_spawn s = WR_SPAWN_INIT;
	/* The last walls are its own: it has to load the parts of the resolver before. */
	struct wr_sandbox box = {
	    .set_ids = c->node->root_mode,
	    .uid = c->node->uid,
	    .gid = c->node->gid,
	    .no_new_privs = true,
	    .max_files = MAX_FILES,
	};
	pid_t pid;

	s.argv = argv;
	s.envp = envp;
	s.fd[2] = STDERR_FILENO;
	s.fd[3] = sock;
	s.fd_count = 4;
	s.new_session = true;
	s.sandbox = &box;
	return wr_spawn(&s, &pid, err) < 0 ? wr_err_wrap(err, "start @peer") : pid;
}

static int
start(struct wr_control *c, struct wr_err *err)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_peer_msg m = WR_PEER_MSG_INIT;
	WR_SCOPED(wr_closep) int theirs = -1;
	int pair[2];
	pid_t pid;

	if (wr_msg_pair(pair, err) < 0)
		return -1;
	theirs = pair[1];
	(void)fcntl(pair[0], F_SETFL, O_NONBLOCK); /* a socket of ours: cannot fail */
	pid = spawn(c, theirs, err);
	if (pid < 0) {
		close(pair[0]);
		return -1;
	}
	p->sock = pair[0];
	p->born_ns = wr_clock_mono_ns();
	wr_watch_on(&c->loop, &p->watch, p->sock, EPOLLIN, on_message);
	wr_child_on(&c->loop, &p->child, pid, -1, on_ended);
	wr_channel_setup(c);
	m.type = WR_PEER_LISTEN;
	m.fd = p->listen_fd < 0 ? -1 : fcntl(p->listen_fd, F_DUPFD_CLOEXEC, 0);
	if (m.fd >= 0)
		(void)wr_channel_send(c, &m);
	return 0;
}

static void
start_again(struct wr_timer *t)
{
	struct wr_peers *p = WR_OWNER(t, struct wr_peers, again);
	struct wr_err err = WR_ERR_INIT;

	if (p->c->draining || start(p->c, &err) == 0)
		return;
	wr_log_err(WR_LOG_ERROR, "the process for other nodes", &err);
	p->pause_ns = WR_MIN(2 * p->pause_ns, PAUSE_MAX_NS);
	wr_timer_on(&p->c->loop, t, p->pause_ns, start_again);
}

int
wr_channel_begin(struct wr_control *c, struct wr_err *err)
{
	struct wr_peers *p = c->fleet->peers;
	const char *where = c->node->config.listen_peer;

	p->sock = -1;
	p->watch = (struct wr_watch)WR_WATCH_INIT;
	p->listen_fd = -1;
	if (where && *where && (p->listen_fd = wr_net_socket(where, err)) < 0)
		return wr_err_wrap(err, "[listen] peer");
	return start(c, err);
}

static void
too_slow(struct wr_timer *t)
{
	wr_child_kill(&WR_OWNER(t, struct wr_peers, again)->child);
}

void
wr_channel_end(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_peer_msg quit = {.type = WR_PEER_QUIT, .fd = -1};
	struct wr_err err = WR_ERR_INIT;

	wr_timer_off(&c->loop, &p->again);
	(void)wr_channel_send(c, &quit);
	wr_timer_on(&c->loop, &p->again, END_NS, too_slow);
	/* Answers that wait go out before it ends. */
	while (p->child.pid && wr_loop_step(&c->loop, &err) == 0)
		;
	wr_timer_off(&c->loop, &p->again);
	lost(c, NULL);
	wr_child_off(&p->child);
	wr_closep(&p->listen_fd);
}
