/* SPDX-License-Identifier: Apache-2.0 */
#include "model/state.h"

#include "base/str.h"
#include "model/text.h"
#include "model/uuid.h"

static const char *const names[] = {
    [WR_ST_UNSET] = "unset",       [WR_ST_ABSENT] = "absent",   [WR_ST_STOPPED] = "stopped",
    [WR_ST_STARTING] = "starting", [WR_ST_RUNNING] = "running", [WR_ST_RESTARTING] = "restarting",
    [WR_ST_STOPPING] = "stopping", [WR_ST_SAVING] = "saving",   [WR_ST_ERROR] = "error",
};

const char *
wr_state_name(enum wr_state s)
{
	return names[s];
}

enum wr_state
wr_state_parse(const char *s)
{
	for (unsigned i = WR_ST_UNSET + 1; i < WR_ARRAY_LEN(names); i++)
		if (!strcmp(s, names[i]))
			return i;
	return WR_ST_UNSET;
}

bool
wr_state_transient(enum wr_state s)
{
	return s == WR_ST_STARTING || s == WR_ST_RESTARTING || s == WR_ST_STOPPING ||
	       s == WR_ST_SAVING;
}

/* ---- transitions ---- */

#define S(x) (1u << WR_ST_##x)
#define K(x) (1u << WR_OP_##x)
#define E(x) (1u << WR_EV_##x)
#define STEADY (S(STOPPED) | S(RUNNING) | S(ERROR))
#define ANY_END (E(DONE) | E(FAILED) | E(INTERRUPTED) | E(REFUSED))
#define BAD_END (E(FAILED) | E(INTERRUPTED))
/* Where the project was. */
#define BACK WR_ST_RUNNING, WR_ST_STOPPED
#define BOTH(x) WR_ST_##x, WR_ST_##x
/* As it is, whatever `active` says. */
#define STAYS WR_ST_UNSET, WR_ST_UNSET

/* Every combination of the three sets of a line is a row of the table; none stands in two. */
static const struct {
	unsigned from, kinds, events;
	enum wr_state to_active, to_inactive;
} rules[] = {
    /* Made in a stage and renamed at the end: until then there is no project. */
    {S(ABSENT), K(CREATE) | K(UNDELETE), E(BEGIN) | BAD_END | E(REFUSED), STAYS},
    {S(ABSENT), K(CREATE) | K(UNDELETE), E(DONE), BOTH(STOPPED)},
    {S(ABSENT), K(PURGE), E(BEGIN) | ANY_END, STAYS},

    /* From running: its command ended by itself. */
    {STEADY, K(START), E(BEGIN), BOTH(STARTING)},
    {S(STARTING), K(START), E(DONE), WR_ST_RUNNING, WR_ST_ERROR},
    {S(STARTING), K(START), BAD_END | E(REFUSED), BOTH(ERROR)},

    {STEADY, K(RESTART), E(BEGIN), BOTH(RESTARTING)},
    {S(RESTARTING), K(RESTART), E(DONE), WR_ST_RUNNING, WR_ST_ERROR},
    {S(RESTARTING), K(RESTART), BAD_END | E(REFUSED), BOTH(ERROR)},

    {STEADY, K(STOP), E(BEGIN), BOTH(STOPPING)},
    {S(STOPPING), K(STOP), E(DONE), WR_ST_ERROR, WR_ST_STOPPED},
    {S(STOPPING), K(STOP), BAD_END | E(REFUSED), BOTH(ERROR)},

    /* A save harms nothing, whatever becomes of it. */
    {STEADY, K(SAVE), E(BEGIN), BOTH(SAVING)},
    {S(SAVING), K(SAVE), ANY_END, BACK},

    {STEADY, K(RESTORE) | K(UNDO) | K(COPY), E(BEGIN), BOTH(SAVING)},
    {S(SAVING), K(RESTORE) | K(UNDO) | K(COPY), E(DONE) | E(REFUSED), BACK},
    {S(SAVING), K(RESTORE) | K(UNDO) | K(COPY), BAD_END, BOTH(ERROR)},

    /* Says its step, and can be done again at any time. */
    {STEADY, K(CHOWN) | K(UPDATE) | K(REPLICATE), E(BEGIN) | ANY_END, STAYS},

    /* Stops first where it has to. */
    {STEADY, K(DELETE) | K(DROP), E(BEGIN), BOTH(STOPPING)},
    {S(STOPPING), K(DELETE) | K(DROP), E(DONE), BOTH(ABSENT)},
    {S(STOPPING), K(DELETE) | K(DROP), E(REFUSED), BACK},
    {S(STOPPING), K(DELETE) | K(DROP), BAD_END, BOTH(ERROR)},
};

enum wr_state
wr_state_next(enum wr_state from, enum wr_op_kind kind, enum wr_state_event ev, bool active)
{
	for (size_t i = 0; i < WR_ARRAY_LEN(rules); i++) {
		enum wr_state to = active ? rules[i].to_active : rules[i].to_inactive;

		if (rules[i].from >> from & rules[i].kinds >> kind & rules[i].events >> ev & 1)
			return to ? to : from;
	}
	return WR_ST_UNSET;
}

/* The number of the n-th bit that is set, and of all of them. */
static unsigned
nth_bit(unsigned set, unsigned n)
{
	while (n--)
		set &= set - 1;
	return (unsigned)__builtin_ctz(set);
}

static unsigned
bits(unsigned set)
{
	return (unsigned)__builtin_popcount(set);
}

bool
wr_state_row(size_t i, struct wr_transition *out)
{
	for (size_t r = 0; r < WR_ARRAY_LEN(rules); r++) {
		unsigned f = bits(rules[r].from), k = bits(rules[r].kinds),
			 e = bits(rules[r].events), at;

		if (i >= (size_t)f * k * e) {
			i -= (size_t)f * k * e;
			continue;
		}
		at = (unsigned)i;
		out->ev = nth_bit(rules[r].events, at % e);
		out->kind = nth_bit(rules[r].kinds, at / e % k);
		out->from = nth_bit(rules[r].from, at / e / k);
		out->to_active = wr_state_next(out->from, out->kind, out->ev, true);
		out->to_inactive = wr_state_next(out->from, out->kind, out->ev, false);
		return true;
	}
	return false;
}

/* ---- steps ---- */

const char *const wr_step_names[] = {
    "init_repo",      "import",        "restore",      "salvage",   "create_account",
    "set_quota",      "sync_template", "present_home", "run_hooks", "start_processes",
    "stop_processes", "unmount",       "scan",         "snapshot",  "replicate",
    "thin",           "rebuild",       "chown",        "trash",     "purge",
    "copy",           "open",          "release",      "update",    NULL};

bool
wr_step_known(const char *step)
{
	for (const char *const *s = wr_step_names; *s; s++)
		if (!strcmp(*s, step))
			return true;
	return false;
}

/* ---- notices ---- */

/* A mark is left that much below it, or it would come and go. */
#define NOTICE_SLACK 3

uint64_t
wr_notice_level(uint64_t used, uint64_t limit, uint64_t was)
{
	static const uint64_t mark[] = {80, 95, 100};
	double percent = limit ? (double)used / (double)limit * 100 : 0;
	uint64_t level = 0;

	for (size_t i = 0; i < WR_ARRAY_LEN(mark); i++)
		if (percent >= (double)mark[i] ||
		    (was >= mark[i] && percent > (double)(mark[i] - NOTICE_SLACK)))
			level = mark[i];
	return level;
}

const struct wr_notice *
wr_notice_worst(const struct wr_status *s)
{
	const struct wr_notice *worst = NULL;

	for (size_t i = 0; i < s->notice_count; i++)
		if (!worst || s->notice[i].level > worst->level)
			worst = &s->notice[i];
	return worst;
}

json_t *
wr_notice_json(const struct wr_notice *n)
{
	json_t *o;

	if (!n)
		return json_null();
	o = json_object();
	wr_json_str(o, "code", n->code);
	wr_json_u64(o, "level", n->level);
	wr_json_str(o, "text", n->text);
	wr_json_str(o, "command", *n->command ? n->command : NULL);
	if (n->since)
		wr_json_time(o, "since", n->since);
	else
		wr_json_null(o, "since");
	return o;
}

/* ---- conf/state.json ---- */

static void
str_or_null(json_t *o, const char *key, const char *s)
{
	wr_json_str(o, key, *s ? s : NULL);
}

static void
u64_or_null(json_t *o, const char *key, uint64_t v, bool known)
{
	if (known)
		wr_json_u64(o, key, v);
	else
		wr_json_null(o, key);
}

/* Each place that a save goes to. */
static void
add_targets(json_t *o, const struct wr_status *s)
{
	json_t *list;

	if (!s->target_count)
		return;
	list = wr_json_array(o, "targets");
	for (size_t i = 0; i < s->target_count; i++) {
		const struct wr_status_target *t = &s->target[i];
		json_t *e = json_object();

		wr_json_str(e, "node", t->node);
		wr_json_str(e, "name", t->name);
		wr_json_str(e, "state", t->state);
		wr_json_u64(e, "done", t->done);
		u64_or_null(e, "total", t->total, t->total > 0);
		json_array_append_new(list, e);
	}
}

static int get_word(const json_t *o, const char *key, char *out, size_t size, struct wr_err *err);

static int
get_targets(const json_t *o, struct wr_status *s, struct wr_err *err)
{
	const json_t *list = wr_json_get_arr(o, "targets"), *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		struct wr_status_target *t = &s->target[i];
		struct wr_uuid id;

		if (i >= WR_STATUS_TARGETS)
			return wr_err_set(err, WR_E_CORRUPT, "state: more than %d targets",
					  WR_STATUS_TARGETS);
		if (get_word(e, "node", t->node, sizeof(t->node), err) < 0 ||
		    get_word(e, "state", t->state, sizeof(t->state), err) < 0)
			return -1;
		if (!wr_uuid_parse(t->node, &id))
			return wr_err_set(err, WR_E_CORRUPT, "state: a target is no node");
		snprintf(t->name, sizeof(t->name), "%s", wr_json_get_str(e, "name", ""));
		t->done = wr_json_get_u64(e, "done", 0);
		t->total = wr_json_get_u64(e, "total", 0);
		s->target_count = i + 1;
	}
	return 0;
}

static void
add_progress(json_t *o, const struct wr_status *s)
{
	json_t *p;

	if (!*s->unit) {
		wr_json_null(o, "progress");
		return;
	}
	p = wr_json_object(o, "progress");
	wr_json_u64(p, "done", s->done);
	u64_or_null(p, "total", s->total, s->total > 0);
	wr_json_str(p, "unit", s->unit);
	/* Files grow while they are counted: never more than all. */
	u64_or_null(p, "percent",
		    s->total ? (uint64_t)WR_MIN((double)s->done / (double)s->total * 100, 100.0)
			     : 0,
		    s->total > 0);
	wr_json_u64(p, "files", s->files);
	u64_or_null(p, "files_total", s->files_total, s->files_total > 0);
	wr_json_u64(p, "bytes", s->bytes);
	u64_or_null(p, "bytes_total", s->bytes_total, s->bytes_total > 0);
}

json_t *
wr_status_json(const struct wr_status *s)
{
	json_t *o = json_object(), *list;

	wr_json_u64(o, "v", 1);
	wr_json_str(o, "state", wr_state_name(s->state));
	wr_json_time(o, "when", s->when);
	str_or_null(o, "step", s->step);
	add_progress(o, s);
	add_targets(o, s);
	str_or_null(o, "op", s->op);
	str_or_null(o, "op_kind", s->op_kind);
	wr_json_bool(o, "active", s->active);
	wr_json_u64(o, "epoch", s->epoch);
	str_or_null(o, "node", s->node);
	if (s->error.code)
		wr_json_err(o, "error", &s->error);
	else
		wr_json_null(o, "error");
	wr_json_take(o, "notice", wr_notice_json(wr_notice_worst(s)));
	list = wr_json_array(o, "notices");
	for (size_t i = 0; i < s->notice_count; i++)
		json_array_append_new(list, wr_notice_json(&s->notice[i]));
	return o;
}

/* A text member that is NULL, or short words of [a-z0-9_-]. */
static int
get_word(const json_t *o, const char *key, char *out, size_t size, struct wr_err *err)
{
	const json_t *v = json_object_get(o, key);
	const char *s = json_string_value(v);

	out[0] = '\0';
	if (!v || json_is_null(v))
		return 0;
	if (!s || strlen(s) >= size || s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-")])
		return wr_err_set(err, WR_E_CORRUPT, "state: member '%s' is malformed", key);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int
get_id(const json_t *o, const char *key, char out[37], struct wr_err *err)
{
	struct wr_uuid id;

	if (get_word(o, key, out, 37, err) < 0)
		return -1;
	if (*out && !wr_uuid_parse(out, &id))
		return wr_err_set(err, WR_E_CORRUPT, "state: member '%s' is no id", key);
	return 0;
}

static int
get_plain(const json_t *o, const char *key, char *out, size_t size, struct wr_err *err)
{
	const char *s = wr_json_get_str(o, key, "");

	if (strlen(s) >= size || !wr_text_plain(s, strlen(s), false))
		return wr_err_set(err, WR_E_CORRUPT, "state: member '%s' of a notice is malformed",
				  key);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int
get_notices(const json_t *o, struct wr_status *s, struct wr_err *err)
{
	const json_t *list = wr_json_get_arr(o, "notices"), *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		struct wr_notice *n = &s->notice[i];

		if (i >= WR_NOTICES_MAX)
			return wr_err_set(err, WR_E_CORRUPT, "state: more than %d notices",
					  WR_NOTICES_MAX);
		if (get_word(e, "code", n->code, sizeof(n->code), err) < 0 ||
		    get_plain(e, "text", n->text, sizeof(n->text), err) < 0 ||
		    get_plain(e, "command", n->command, sizeof(n->command), err) < 0)
			return -1;
		n->level = wr_json_get_u64(e, "level", 0);
		n->since = wr_json_get_time(e, "since", 0);
		s->notice_count = i + 1;
	}
	return 0;
}

int
wr_status_parse(const json_t *o, struct wr_status *out, struct wr_err *err)
{
	struct wr_status s = {0};
	const json_t *p = wr_json_get_obj(o, "progress"), *e = wr_json_get_obj(o, "error");
	uint64_t v = wr_json_get_u64(o, "v", 0);
	const char *state = wr_json_get_str(o, "state", ""), *when = wr_json_get_str(o, "when", "");

	if (!v)
		return wr_err_set(err, WR_E_CORRUPT, "state: no JSON object with a version");
	if (v > 1)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "state: version %" PRIu64 ", this program reads up to 1", v);
	s.state = wr_state_parse(state);
	if (!s.state)
		return wr_err_set(err, WR_E_CORRUPT, "state: '%s' is no state", WR_Q(state));
	if (wr_parse_utc(when, &s.when, NULL) < 0 || s.when < 0)
		return wr_err_set(err, WR_E_CORRUPT, "state: member 'when' is no time");
	if (get_word(o, "step", s.step, sizeof(s.step), err) < 0 ||
	    get_word(o, "op_kind", s.op_kind, sizeof(s.op_kind), err) < 0 ||
	    get_id(o, "op", s.op, err) < 0 || get_id(o, "node", s.node, err) < 0 ||
	    (p && get_word(p, "unit", s.unit, sizeof(s.unit), err) < 0))
		return -1;
	if (p) {
		s.done = wr_json_get_u64(p, "done", 0);
		s.total = wr_json_get_u64(p, "total", 0);
		s.files = wr_json_get_u64(p, "files", 0);
		s.files_total = wr_json_get_u64(p, "files_total", 0);
		s.bytes = wr_json_get_u64(p, "bytes", 0);
		s.bytes_total = wr_json_get_u64(p, "bytes_total", 0);
	}
	if (get_targets(o, &s, err) < 0 || get_notices(o, &s, err) < 0)
		return -1;
	s.active = wr_json_get_bool(o, "active", false);
	s.epoch = wr_json_get_u64(o, "epoch", 1);
	if (e)
		wr_json_get_err(e, &s.error);
	*out = s;
	return 0;
}
