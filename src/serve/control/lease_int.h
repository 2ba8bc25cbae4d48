/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of leases share. Each uses those above it:
 *
 *   lease_table.c  which projects have one, and which of them are frozen
 *   lease_marks.c  what earlier daemons and keepers froze
 *   isolation.c    what follows when a lease is lost
 *   lease_round.c  keepalives, and what answers say
 *   lease.c        the clock; beginning and end
 */
#ifndef WR_CONTROL_LEASE_INT_H
#define WR_CONTROL_LEASE_INT_H

#include "fleet/rules/lease.h"
#include "serve/control/fleet_int.h"

/* So long a start waits for a good round. */
#define WR_LEASE_WANT_NS (5 * WR_SECOND_NS)

struct wr_lease_want {
	struct wr_lease_want *next;
	wr_open_fn fn;
	void *ctx;
	uint64_t end_ns;
};

/* A project that lives here, or is about to. */
struct wr_leased {
	struct wr_uuid project;
	struct wr_lease l;
	bool shared;       /* others vote, too: else it needs no lease */
	bool self_ok;      /* it is ours by what this node promised */
	uint64_t grace_ns; /* not judged before */
	bool frozen, lost; /* lost: for good (W6), a stop is asked for */
	bool stop_asked;
	bool isolated; /* its isolation was seen to */
	/* the setting, as of the last round */
	enum { WR_ISO_FREEZE, WR_ISO_RUN, WR_ISO_STOP } isolation;
	uint64_t left_ns; /* the end of its lease, as left for its keeper; 0: not by this daemon */
	bool left;        /* there may be a file */
	int64_t since;    /* of frozen */
	int64_t heard;    /* when they were last heard, if that is why; 0: it is not */
	char why[160];
	uint64_t raise_ns;
	struct wr_epoch promised; /* a later one than its record's, since: */
	uint64_t promised_ns;
	struct wr_lease_want *wants;
};

struct wr_leases {
	struct wr_control *c;
	struct wr_leased **of; /* ascending by project */
	size_t count, cap;
	uint64_t round;   /* number of the newest */
	uint64_t next_ns; /* CLOCK_BOOTTIME */
	uint64_t begun_ns;
	struct wr_timer wake; /* on from the beginning: the clock's call-back stays in it */
	int notify_fd;        /* new marks in RUN/frozen; -1: they are found every round */
	struct wr_watch notify;
	bool marks_due, swept;
};

/* The clock looks at all of them, from the loop. */
static inline void
wr_leases_wake(struct wr_leases *x)
{
	wr_timer_on(&x->c->loop, &x->wake, 0, x->wake.fn);
}

/* ---- lease_table.c ---- */

struct wr_leased *wr_leases_find(const struct wr_leases *x, const struct wr_uuid *project);
/* A new one has a moment before it is judged. */
struct wr_leased *wr_leases_get(struct wr_leases *x, const struct wr_uuid *project);
void wr_leases_drop(struct wr_leases *x, struct wr_leased *l);
/* Is its home presented, by its state? */
bool wr_leases_active(struct wr_control *c, const struct wr_uuid *project);
bool wr_leases_may_run(const struct wr_leased *l, uint64_t now);
/* For its keeper: its lease, before anything runs under it; or none, for it needs none or is seen
 * to here. */
void wr_leases_leave(struct wr_control *c, struct wr_leased *l);
void wr_leases_leave_nothing(struct wr_control *c, struct wr_leased *l);
void wr_leases_freeze(struct wr_control *c, struct wr_leased *l, const char *why);
void wr_leases_thaw(struct wr_control *c, struct wr_leased *l);
void wr_leases_unmark(struct wr_control *c, const struct wr_uuid *project);

/* ---- lease_marks.c ---- */

void wr_leases_watch_marks(struct wr_leases *x);
void wr_leases_read_marks(struct wr_leases *x);
/* Leases of what ended while no daemon was there: a later run must not be frozen by one. */
void wr_leases_sweep(struct wr_leases *x);

/* ---- isolation.c ---- */

void wr_leases_ask_stop(struct wr_control *c, struct wr_leased *l, bool force);
void wr_leases_read_isolation(struct wr_control *c, struct wr_leased *l);
/* No majority for too long. */
void wr_leases_isolate(struct wr_leases *x, struct wr_leased *l, uint64_t now);

/* ---- lease_round.c ---- */

/* 1: it has one; 0: none, so no lease is needed; -1: that cannot be told, and what was known
 * counts, but the lease becomes no longer. */
int wr_leases_read_record(struct wr_leases *x, struct wr_leased *l, struct wr_member_state *s);
/* It may have become longer. */
void wr_leases_look_held(struct wr_leases *x, struct wr_leased *l, uint64_t now);
/* All that lives here, or one. */
void wr_leases_round(struct wr_leases *x, struct wr_leased *only);

#endif
