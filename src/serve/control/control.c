/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon, from start to drain.
 *
 *   node (sentinels), STATE/lock, database, fleet, adopt operations, index and states against the
 * disks, what is wanted, socket, "ready", loop, SIGTERM: no new connections, fronts end, exit
 *
 * Operations and projects are processes of their own and stay.
 */
#include "serve/control/control_int.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "host/task/task.h"
#include "serve/control/deletion.h"
#include "serve/control/drops.h"
#include "serve/control/limits.h"
#include "serve/control/marks.h"
#include "serve/control/notices.h"
#include "serve/control/replicas.h"
#include "serve/control/resources.h"
#include "serve/control/scratch.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* Requests that are open at the end have this long. */
#define DRAIN_S 6

/* ---- the end ---- */

static void
drain_over(struct wr_timer *t)
{
	WR_OWNER(t, struct wr_control, drain_end)->ended = true;
}

static void
store_rate(struct wr_control *c)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_work_rate_store(c->node, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "[work] rate", &err);
}

static void
keep_config(struct wr_control *c)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_config_keep(c->node, &err) < 0)
		wr_log_err(WR_LOG_WARNING, "keep the configuration", &err);
}

/* The numbers of the configuration, while all goes on. */
static void
read_config(struct wr_control *c)
{
	struct wr_config fresh;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_freep) char *text = NULL;
	size_t taken, left;

	if (wr_config_load(c->node->config_path, &fresh, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "read the configuration anew", &err);
		wr_event(c, "control", NULL, "config.refused", err.msg, NULL);
		return;
	}
	taken = wr_config_take(&c->node->config, &fresh, &left);
	wr_config_fini(&fresh);
	keep_config(c);
	store_rate(c);
	for (size_t i = 0; i < c->proj_count; i++) {
		struct wr_proj_row row = {0};

		if (wr_row_find(c, &c->proj[i]->id, &row, NULL) == 0)
			wr_proj_refresh(c->proj[i], &row);
		wr_proj_row_fini(&row);
	}
	text = wr_asprintf("%zu changed; %zu more wait for a restart of the daemon", taken, left);
	wr_event(c, "control", NULL, "config.loaded", text, NULL);
}

static void
on_signal(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_control *c = WR_OWNER(w, struct wr_control, signals);
	struct signalfd_siginfo info;

	if (read(w->fd, &info, sizeof(info)) != (ssize_t)sizeof(info) || c->draining)
		return;
	if (info.ssi_signo == SIGHUP) {
		read_config(c);
		return;
	}
	c->draining = true;
	wr_notify("STOPPING=1");
	wr_event(c, "control", NULL, "node.stopping",
		 info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM", NULL);
	wr_ctl_stop_listening(c);
	wr_net_stop_listening(c);
	wr_fronts_answer_waiting(c);
	wr_fronts_quit(c);
	wr_timer_on(&c->loop, &c->drain_end, DRAIN_S * (uint64_t)WR_SECOND, drain_over);
}

static int
watch_signals(struct wr_control *c, struct wr_err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return wr_err_sys(err, "block signals");
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return wr_err_sys(err, "watch signals");
	wr_watch_on(&c->loop, &c->signals, fd, EPOLLIN, on_signal);
	return 0;
}

/* ---- the beginning ---- */

static int
open_all(struct wr_control *c, const struct wr_serve_opts *o, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *db = NULL;

	if (wr_node_open(o->root, 0, &c->node, err) < 0 || wr_node_lock(c->node, &c->lock, err) < 0)
		return -1;
	c->volume_lost = wr_calloc(c->node->volume_count, sizeof(*c->volume_lost));
	db = wr_asprintf("%s/node.db", c->node->state_path);
	if (wr_store_open(db, false, &c->store, err) < 0 || wr_admins_load(c, err) < 0)
		return -1;
	c->accounts = wr_accounts_driver(c->node);
	return wr_loop_init(&c->loop, err);
}

static int
begin(struct wr_control *c, struct wr_err *err)
{
	struct wr_err front_err = WR_ERR_INIT;

	if (watch_signals(c, err) < 0 || wr_fleet_begin(c, err) < 0 || wr_ops_adopt(c, err) < 0 ||
	    wr_ctl_reconcile(c, err) < 0 || (c->fleet && wr_copies_adopt(c, err) < 0))
		return -1;
	wr_limits_begin(c);
	wr_scratch_begin(c);
	wr_resources_begin(c);
	keep_config(c);
	store_rate(c);
	wr_marks_begin(c);
	wr_notices_begin(c);
	if (wr_bring_back(c, err) < 0)
		return -1;
	wr_crash_point("control.before-listen");
	if (wr_ctl_listen(c, err) < 0 || wr_net_listen(c, err) < 0)
		return -1;
	/* Our own user's front is there before anyone asks; without it we serve all the same. */
	if (!wr_front_of(c, c->self, &front_err))
		wr_log_err(WR_LOG_ERROR, "start a front", &front_err);
	if (c->fleet) {
		wr_drops_begin(c);
		wr_deletions_begin(c);
	}
	wr_schedule_begin(c);
	wr_event(c, "control", NULL, "node.started", WR_VERSION, NULL);
	wr_back_next(c);
	wr_ops_kick(c);
	wr_notify("READY=1");
	wr_log(WR_LOG_NOTICE, "serving socket=\"%s\" node=%s", c->node->socket_path, c->node->id.s);
	return 0;
}

static void
close_all(struct wr_control *c)
{
	int fd = c->signals.fd;

	c->draining = true;
	if (c->listener.fd >= 0)
		wr_ctl_stop_listening(c);
	if (c->net.listener.fd >= 0)
		wr_net_stop_listening(c);
	wr_streams_kill(c);
	if (c->store)
		wr_fronts_kill(c);
	/* Reap what we ended, so that memory checkers see everything given back. */
	for (int i = 0; i < 200 && (c->fronts || c->streams); i++) {
		struct wr_err err = WR_ERR_INIT;

		if (wr_loop_step(&c->loop, &err) < 0)
			break;
	}
	wr_deletions_end(c);
	wr_drops_end(c);
	wr_fleet_end(c);
	wr_notices_end(c);
	wr_scratch_end(c);
	wr_limits_end(c);
	wr_marks_end(c);
	wr_ops_detach(c);
	wr_projs_free(c);
	wr_watch_off(&c->loop, &c->signals);
	wr_closep(&fd);
	wr_loop_fini(&c->loop);
	wr_store_close(c->store);
	wr_lock_drop(&c->lock);
	wr_node_close(c->node);
	free(c->volume_lost);
	free(c->admins);
	free(c->back);
}

int
wr_serve(const struct wr_serve_opts *o, struct wr_err *err)
{
	struct wr_control c = {
	    .lock = WR_LOCK_INIT,
	    .loop = {.epoll_fd = -1},
	    .listener = WR_WATCH_INIT,
	    .net.listener = WR_WATCH_INIT,
	    .signals = WR_WATCH_INIT,
	    .front_program = o->front,
	    .self = geteuid(),
	};
	int rc;

	wr_log_init("control", o->verbose ? WR_LOG_DEBUG : WR_LOG_NOTICE,
		    getenv("JOURNAL_STREAM") != NULL);
	wr_raise_fd_limit();
	umask(022);
	rc = open_all(&c, o, err);
	if (rc == 0)
		rc = begin(&c, err);
	while (rc == 0 && !c.ended) {
		rc = wr_loop_step(&c.loop, err);
		if (c.draining && !c.fronts)
			break;
	}
	close_all(&c);
	return rc;
}
