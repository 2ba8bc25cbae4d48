/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/follow.h"

#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "model/op.h"
#include "sys/clock.h"

#define POLL_S 1     /* while a progress line is drawn */
#define LONG_S 30    /* while nobody looks */
#define AWAY_S 60    /* a daemon that restarts is back by then */
#define RETRY_MS 200 /* while it is away */

static volatile sig_atomic_t interrupted;

static void
on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

static bool
has_flag(const struct wr_args *a, const char *name)
{
	const struct wr_opt *o;

	for (size_t i = 0; (o = wr_cmd_opt(a->cmd, i)); i++)
		if (!strcmp(o->name, name))
			return wr_arg_flag(a, name);
	return false;
}

static bool
ended(const json_t *op)
{
	enum wr_op_state s = wr_op_state_parse(wr_json_get_str(op, "state", ""));

	return s == WR_OPS_DONE || s == WR_OPS_FAILED || s == WR_OPS_CANCELLED;
}

/* ---- the line that is drawn meanwhile ---- */

struct line {
	const struct wr_args *args;
	struct wr_progress *p;
	char verb[64]; /* "saving: scan" */
};

static const char *
doing(const char *kind)
{
	static const struct {
		const char *kind, *verb;
	} verbs[] = {
	    {"create", "creating"},    {"start", "starting"},      {"stop", "stopping"},
	    {"restart", "restarting"}, {"save", "saving"},         {"restore", "restoring"},
	    {"undo", "undoing"},       {"chown", "giving files"},  {"copy", "copying"},
	    {"delete", "deleting"},    {"undelete", "undeleting"}, {"purge", "purging"},
	};

	for (size_t i = 0; i < WR_ARRAY_LEN(verbs); i++)
		if (!strcmp(verbs[i].kind, kind))
			return verbs[i].verb;
	return "working";
}

static void
line_show(struct line *l, const json_t *op)
{
	const json_t *p = wr_json_get_obj(op, "progress");
	const char *step = wr_json_get_str(op, "step", "");
	char verb[sizeof(l->verb)];

	if (!strcmp(wr_json_get_str(op, "state", ""), "queued"))
		step = "waiting for its turn";
	snprintf(verb, sizeof(verb), "%s%s%.40s", doing(wr_json_get_str(op, "kind", "")),
		 *step ? ": " : "", step);
	for (char *s = verb; *s; s++)
		*s = *s == '_' ? ' ' : *s;
	if (!l->p || strcmp(verb, l->verb) != 0) {
		wr_progress_end(l->p);
		memcpy(l->verb, verb, sizeof(verb));
		l->p = wr_progress_begin(l->args, l->verb);
	}
	wr_progress_total(l->p, wr_json_get_u64(p, "files_total", 0),
			  wr_json_get_u64(p, "bytes_total", 0));
	wr_progress_set(l->p, wr_json_get_u64(p, "files", 0), wr_json_get_u64(p, "bytes", 0));
}

/* ---- waiting ---- */

static int
look(struct wr_client *c, const char *id, uint64_t wait_s, json_t **out, struct wr_err *err)
{
	struct wr_ask r;
	int rc;

	wr_ask_init(&r, WR_API_OP_SHOW, id);
	if (wait_s)
		wr_ask_u64(&r, "wait", wait_s);
	rc = wr_client_ask(c, &r, NULL, out, err);
	wr_ask_fini(&r);
	return rc;
}

static int
still_running(const char *id, const char *why, struct wr_err *err)
{
	wr_err_set(err, WR_E_FAILED, "%s; the operation goes on", why);
	return wr_err_hint(err, "'warren op wait %s' waits for it, 'warren op cancel %s' ends it",
			   id, id);
}

/* Ask until it has ended; *op holds what is known of it. */
static int
wait_for(struct wr_client *c, struct line *l, json_t **op, uint64_t timeout_s, struct wr_err *err)
{
	static const struct timespec nap = {.tv_nsec = RETRY_MS * 1000000L};
	WR_SCOPED(wr_freep) char *id = wr_strdup(wr_json_get_str(*op, "id", ""));
	uint64_t began = wr_clock_mono_ns(), seen = began;
	uint64_t slice = isatty(STDERR_FILENO) ? POLL_S : LONG_S;

	while (!ended(*op)) {
		uint64_t now = wr_clock_mono_ns(), wait = slice;
		json_t *next = NULL;

		if (timeout_s && now - began >= timeout_s * 1000000000u)
			return still_running(id, "it did not end in time", err);
		if (timeout_s)
			wait = WR_MIN(wait, timeout_s - (now - began) / 1000000000u);
		line_show(l, *op);
		if (look(c, id, wait, &next, err) == 0) {
			json_decref(*op);
			*op = next;
			seen = wr_clock_mono_ns();
			continue;
		}
		if (interrupted)
			return still_running(id, "interrupted", err);
		/* A restart of the daemon ends no operation: it will know of this one again. */
		if (err->code != WR_E_FAILED && err->code != WR_E_SYS)
			return -1;
		if (wr_clock_mono_ns() - seen > AWAY_S * 1000000000ull)
			return -1;
		wr_err_clear(err);
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* What an operation that ended is worth: its receipt or its error. */
static int
result(json_t *op, struct wr_err *err)
{
	const json_t *e = wr_json_get_obj(op, "error");
	json_t *receipt = wr_json_get_obj(op, "receipt");
	uint64_t status = wr_json_get_u64(op, "exit", 0);

	if (strcmp(wr_json_get_str(op, "state", ""), "done") != 0) {
		if (e) {
			wr_json_get_err(e, err);
			return -1;
		}
		return wr_err_set(err, WR_E_FAILED, "%s of '%s': %s",
				  WR_Q(wr_json_get_str(op, "kind", "operation")),
				  WR_Q(wr_json_get_str(op, "name", "?")),
				  WR_Q(wr_json_get_str(op, "state", "failed")));
	}
	if (wr_out_json()) {
		if (wr_json_print(json_incref(receipt ? receipt : op), err) < 0)
			return -1;
	} else if (receipt) {
		(void)wr_report(receipt);
	}
	/* Done in part: the receipt says what, this is why not all. */
	if (wr_json_get_obj(receipt, "refused") && !wr_out_json()) {
		wr_json_get_err(wr_json_get_obj(receipt, "refused"), err);
		return -1;
	}
	return (int)status;
}

static int
follow(struct wr_client *c, const struct wr_args *a, json_t **op, uint64_t timeout_s,
       struct wr_err *err)
{
	/* No SA_RESTART: the read that waits is to end. */
	struct sigaction act = {.sa_handler = on_interrupt}, before;
	struct line l = {.args = a};
	int rc;

	c->stop = &interrupted;
	sigaction(SIGINT, &act, &before);
	rc = wait_for(c, &l, op, timeout_s, err);
	sigaction(SIGINT, &before, NULL);
	c->stop = NULL;
	wr_progress_end(l.p);
	return rc < 0 ? -1 : result(*op, err);
}

int
wr_follow(struct wr_client *c, const struct wr_args *a, const char *id, uint64_t timeout_s,
	  struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *op = NULL;

	if (look(c, id, 0, &op, err) < 0)
		return -1;
	return follow(c, a, &op, timeout_s, err);
}

static bool
is_op(const json_t *o)
{
	return !strcmp(wr_json_get_str(o, "schema", ""), "warren.operation/1");
}

int
wr_operate(struct wr_client *c, const struct wr_args *a, const struct wr_ask *r, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	unsigned status;

	if (wr_client_ask(c, r, &status, &o, err) < 0)
		return -1;
	if (is_op(o) && !(status == 202 && has_flag(a, "no-wait")))
		return follow(c, a, &o, 0, err);
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	if (!is_op(o))
		return wr_report(o);
	wr_report_op(o);
	return 0;
}
