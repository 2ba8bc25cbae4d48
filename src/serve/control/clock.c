/* SPDX-License-Identifier: Apache-2.0 */
/* Is this host's wall clock to be believed?  The rule is in host/node/age.h; here it is looked at,
 * other nodes' clocks are held against it, and people are told. */
#include "base/log.h"
#include "base/str.h"
#include "host/node/age.h"
#include "serve/control/control_int.h"
#include "serve/control/fleet.h"
#include "sys/clock.h"

#define LOOK_S 60

char *
wr_clock_doubt(const struct wr_control *c)
{
	if (!c->clock.ahead_s)
		return NULL;
	if (c->clock.ahead_s < 0)
		return wr_asprintf(
		    "this host's clock is %" PRId64
		    " days behind what it was: until other nodes' clocks agree, or 30 days have "
		    "passed, what is deleted now is of the time it would be if it had gone on",
		    (-c->clock.ahead_s + 43200) / 86400);
	return wr_asprintf(
	    "this host's clock jumped %" PRId64
	    " days ahead: until other nodes' clocks agree, or 30 days have passed, what goes "
	    "when it is old enough stays as long as if it had not",
	    (c->clock.ahead_s + 43200) / 86400);
}

void
wr_clock_tick(struct wr_control *c)
{
	const uint64_t now = wr_clock_mono_ns();
	struct wr_err err = WR_ERR_INIT;
	const bool was = c->clock.ahead_s != 0;
	int64_t ahead;

	if (c->clock.looked_ns && now - c->clock.looked_ns < LOOK_S * (uint64_t)WR_SECOND)
		return;
	c->clock.looked_ns = now;
	/* What they said before it jumped is nothing about it now. */
	if (wr_age_look(c->node, was && wr_peers_clocks_agree(c, c->clock.since_ns), &ahead, &err) <
	    0) {
		wr_log_err(WR_LOG_ERROR, "look at the clock", &err);
		return;
	}
	c->clock.ahead_s = ahead;
	if (!was && ahead) {
		WR_SCOPED(wr_freep) char *why = wr_clock_doubt(c);

		c->clock.since_ns = now;
		wr_event(c, "control", NULL, "clock.doubted", why, NULL);
	} else if (was && !ahead) {
		wr_event(c, "control", NULL, "clock.believed",
			 "this host's clock is believed again", NULL);
	}
}
