/* SPDX-License-Identifier: Apache-2.0 */
/*
 * W1: how long a writer's processes may run unfrozen.  The node sends rounds of KEEP, numbered; the
 * lease ends L after the *sending* of the newest round that a majority of the record's voters
 * answered with OK, the writer itself among them.  One struct wr_lease per running project.  Pure;
 * times are CLOCK_BOOTTIME.
 */
#ifndef WR_LEASE_H
#define WR_LEASE_H

#include "fleet/rules/member.h"

/* Rounds under way at once; an answer to an older one is of no use. */
#define WR_LEASE_ROUNDS 8

struct wr_lease {
	struct wr_node_id self;
	struct wr_epoch n;
	struct wr_node_id voter[WR_MEMBERS_MAX];
	size_t voter_count;
	struct wr_lease_round {
		uint64_t number, sent_ns; /* number 0: unused */
		unsigned ok;              /* bit per voter */
	} round[WR_LEASE_ROUNDS];
	size_t next;       /* slot of the next round */
	uint64_t until_ns; /* 0: none */
};
void wr_lease_init(struct wr_lease *l, const struct wr_node_id *self);
/* The record that it is writer under, at first and when it changes. The lease goes on only from a
 * record to the very next one with the same voters (a raise with its CONSENT); else it is none
 * until the next round. */
void wr_lease_record(struct wr_lease *l, const struct wr_record *e);
/* number > 0, each larger than the one before. self_ok: this node is no other's yet, promised = n.
 */
void wr_lease_round_begin(struct wr_lease *l, uint64_t number, uint64_t now_ns, bool self_ok);
/* One entry of KEPT. true: the lease became longer. */
bool wr_lease_answer(struct wr_lease *l, uint64_t number, const struct wr_node_id *node,
		     const struct wr_epoch *n, bool ok);
/* Until when it may run; 0: not at all. */
uint64_t wr_lease_until(const struct wr_lease *l);
bool wr_lease_holds(const struct wr_lease *l, uint64_t now_ns);
/* After RELEASE, or when it stops. */
void wr_lease_drop(struct wr_lease *l);

#endif
