/* SPDX-License-Identifier: Apache-2.0 */
/* W4: when is a save SAFE?  When a majority of the record's voters hold it as data members, the
 * writer among them; less is LOCAL.  A witness votes but holds nothing, a learner holds but does
 * not count.  Pure. */
#ifndef WR_SAFE_H
#define WR_SAFE_H

#include "fleet/record/record.h"

/* What a node acknowledged: the newest ACK of it, the writer's own by its D3. */
struct wr_acked {
	struct wr_node_id node;
	struct wr_version v;
};
struct wr_safe {
	bool safe;
	size_t in;     /* data members that hold it */
	size_t need;   /* how many must: more than half of the voters */
	size_t data;   /* data members: "safe in IN of DATA" */
	size_t voters; /* data members and witnesses */
	size_t dcs;    /* data centres among those that hold it; 0 without a fleet record */
};
/* v: a save of epoch e->n; of any other none is safe. f: NULL is allowed. */
struct wr_safe wr_safe_of(const struct wr_record *e, const struct wr_version *v,
			  const struct wr_acked *acked, size_t acked_count,
			  const struct wr_fleet *f);

#endif
