/* SPDX-License-Identifier: Apache-2.0 */
#include "host/node/age.h"

#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/node/node_int.h"
#include "sys/clock.h"
#include "sys/proc.h"

#define FILE_NAME "clock.json"
#define FILE_BYTES 4096
#define DAY_S INT64_C(86400)
/* How far it may be off within a boot, and ahead of a host that was off. */
#define JUMP_S DAY_S
#define AWAY_S (30 * DAY_S)
/* Nobody who looks at his hosts takes longer to see that a clock is wrong. */
#define RUN_S (30 * DAY_S)
/* Remembered so often. */
#define STORE_S 3600
/* The year 9999. */
#define TIME_MAX INT64_C(253402300799)
/* Where what was believed cannot be read: nothing goes. */
#define UNKNOWN_S (100 * 365 * DAY_S)

int64_t
wr_age_judge(struct wr_age *a, uint64_t boot, int64_t boot_s, int64_t wall, bool agreed)
{
	const bool same = boot == a->boot && boot_s >= a->boot_s, doubted = a->doubt_s >= 0;
	const int64_t ran = same ? boot_s - a->boot_s : 0;
	const bool back = !same && wall < a->time, far = wall < a->time + ran - JUMP_S;
	const bool is_right =
	    agreed || (back && boot_s >= RUN_S) || (far && a->ran_s + ran < JUMP_S);

	/* A host without a clock of its own, before it heard the time: it may still be that much
	 * ahead then. */
	if (back && !is_right)
		return far ? wall - a->time : 0;
	a->boot = boot;
	a->boot_s = boot_s;
	a->time += ran;
	a->ran_s += ran;
	if (doubted)
		a->doubt_s += ran;
	if (is_right || a->doubt_s >= RUN_S) {
		a->time = wall;
		a->doubt_s = -1;
		return 0;
	}
	if (!far && wall <= a->time + (same || doubted ? JUMP_S : AWAY_S)) {
		a->time = WR_MAX(a->time, wall);
		a->doubt_s = -1;
		return 0;
	}
	a->doubt_s = WR_MAX(a->doubt_s, 0);
	return wall - a->time;
}

/* ---- the file ---- */

static bool
sound(const struct wr_age *a)
{
	return a->time >= 0 && a->time <= TIME_MAX && a->boot_s >= 0 && a->boot_s <= TIME_MAX &&
	       a->doubt_s >= -1 && a->doubt_s <= TIME_MAX && a->ran_s >= 0 && a->ran_s <= TIME_MAX;
}

/* WR_E_NOT_FOUND: nothing is remembered yet. */
static int
load(const struct wr_node *n, struct wr_age *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep)
	json_t *o = wr_file_load(n->state_fd, FILE_NAME, FILE_BYTES, "format", 1, err);
	struct wr_age a;

	if (!o)
		return -1;
	a = (struct wr_age){
	    .boot = wr_json_get_u64(o, "boot", 0),
	    .boot_s = wr_json_get_i64(o, "boot_s", -1),
	    .time = wr_json_get_time(o, "time", -1),
	    .doubt_s = wr_json_get_i64(o, "doubt_s", -1),
	    .ran_s = wr_json_get_i64(o, "ran_s", 0),
	};
	if (!sound(&a))
		return wr_err_set(err, WR_E_CORRUPT, "'%s' says nothing that could be", FILE_NAME);
	*out = a;
	return 0;
}

static int
store(const struct wr_node *n, const struct wr_age *a, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();

	wr_json_u64(o, "format", 1);
	wr_json_u64(o, "boot", a->boot);
	wr_json_i64(o, "boot_s", a->boot_s);
	wr_json_time(o, "time", a->time);
	wr_json_i64(o, "doubt_s", a->doubt_s);
	wr_json_i64(o, "ran_s", a->ran_s);
	return wr_file_store(n->state_fd, FILE_NAME, o, FILE_BYTES, 0600, true, err);
}

static int
now(struct wr_age *out, struct wr_err *err)
{
	struct wr_proc_id me;

	if (wr_proc_id_of(getpid(), &me, err) < 0)
		return wr_err_wrap(err, "which boot this is");
	*out = (struct wr_age){
	    /* As JSON has it: signed. */
	    .boot = me.boot >> 1,
	    .boot_s = (int64_t)(wr_clock_boot_ns() / UINT64_C(1000000000)),
	    .time = wr_clock_wall().s,
	    .doubt_s = -1,
	};
	return 0;
}

uint64_t
wr_age_span(const struct wr_node *n, uint64_t span_s)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_age a, is = {0};
	int64_t ahead = 0;

	if (span_s == 0)
		return WR_AGE_EVER_S;
	if (load(n, &a, &err) == 0 && now(&is, &err) == 0)
		ahead = WR_MAX(wr_age_judge(&a, is.boot, is.boot_s, is.time, false), INT64_C(0));
	else if (err.code != WR_E_NOT_FOUND)
		ahead = UNKNOWN_S;
	if (err.code != WR_E_NONE && err.code != WR_E_NOT_FOUND)
		wr_log_err(WR_LOG_ERROR, "nothing goes by its age", &err);
	return WR_MIN(span_s, WR_AGE_EVER_S) + (uint64_t)ahead;
}

int64_t
wr_age_stamp(const struct wr_node *n)
{
	struct wr_age a, is = {0};

	if (load(n, &a, NULL) < 0 || now(&is, NULL) < 0)
		return wr_clock_wall().s;
	(void)wr_age_judge(&a, is.boot, is.boot_s, is.time, false);
	return WR_MAX(a.time, is.time);
}

void
wr_age_floor(const struct wr_node *n, json_t *args)
{
	wr_json_i64(args, "floor_s", (int64_t)wr_age_span(n, n->config.replica_floor));
	wr_json_i64(args, "now", wr_age_stamp(n));
}

int
wr_age_look(const struct wr_node *n, bool agreed, int64_t *out_ahead, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_age was, a, is;

	*out_ahead = 0;
	if (now(&is, err) < 0)
		return -1;
	if (load(n, &was, &why) < 0) {
		/* What cannot be read this time may be tomorrow, and may say that it jumped. */
		if (why.code != WR_E_NOT_FOUND && why.code != WR_E_CORRUPT) {
			*err = why;
			return -1;
		}
		if (why.code == WR_E_CORRUPT)
			wr_log_err(WR_LOG_ERROR, "which time was believed", &why);
		return store(n, &is, err);
	}
	a = was;
	*out_ahead = wr_age_judge(&a, is.boot, is.boot_s, is.time, agreed);
	/* What passed since is known without being written. */
	if ((a.boot != was.boot || (a.doubt_s < 0) != (was.doubt_s < 0) || a.time < was.time ||
	     a.time - was.time >= STORE_S) &&
	    store(n, &a, err) < 0)
		return -1;
	return 0;
}
