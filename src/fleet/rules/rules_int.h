/* SPDX-License-Identifier: Apache-2.0 */
/* Shared within the folder. */
#ifndef WR_RULES_INT_H
#define WR_RULES_INT_H

#include "fleet/rules/member.h"

/* Name of a node for people, by value. */
struct wr_node_text {
	char s[64];
};
struct wr_node_text wr_rules_name(const struct wr_fleet *f, const struct wr_node_id *node);
struct wr_node_text wr_rules_epoch(const struct wr_epoch *n); /* "epoch 7" */
bool wr_rules_voter(const struct wr_member *m);               /* NULL: false */
bool wr_rules_same_voters(const struct wr_record *a, const struct wr_record *b);
/* Decode and verify a record of that project (NULL: any). */
int wr_rules_record(const struct wr_buf *bytes, const struct wr_uuid *project,
		    const struct wr_fleet *f, struct wr_record *out, struct wr_err *err);
/* Is v, with that ref list, exactly the base of e? */
bool wr_rules_is_base(const struct wr_record *e, const struct wr_version *v,
		      const struct wr_digest *refs);

/* X1: a proof as that node gives it.  Who has nothing and has another answer for it, gives a proof
 * of the other's. */
struct wr_digest wr_rules_proof_of(const struct wr_digest *proof, const struct wr_node_id *node);

/* M2 and the first half of M3: may this record, verified, stand where the state's stands? */
int wr_member_judge(const struct wr_member_state *s, const struct wr_member_env *env,
		    const struct wr_record *e, struct wr_err *err);
/* Then: D1 and D2, into the state and *out. */
void wr_member_take_record(struct wr_member_state *s, const struct wr_member_env *env,
			   const struct wr_record *e, struct wr_member_out *out);
/* M4: whose lease may rest on an OK of this member, and since when, with e as its record; ns 0:
 * nobody's. */
struct wr_rules_hold {
	uint64_t ns;
	struct wr_node_id by;
};
struct wr_rules_hold wr_rules_hold(const struct wr_member_state *s, const struct wr_member_env *env,
				   const struct wr_record *e);
void wr_member_take_save(struct wr_member_state *s, struct wr_save_rec *save); /* takes it */
/* The settings doc that came along, verified; *out_rev 0: none came. */
int wr_member_judge_settings(const struct wr_member_state *s, const struct wr_member_env *env,
			     const struct wr_msg *m, uint64_t *out_rev, struct wr_err *err);
bool wr_member_take_settings(struct wr_member_state *s, const struct wr_msg *m, uint64_t rev);
/* Would a save of e leave the tip held by s off the line? Fills push->side, side_name. */
void wr_member_side(const struct wr_member_state *s, const struct wr_member_env *env,
		    const struct wr_record *e, struct wr_push *push);
/* NACK, or ERROR where this node has no vote, with out->why. */
void wr_member_refuse(const struct wr_member_state *s, const struct wr_member_env *env,
		      const struct wr_msg *m, struct wr_msg *answer, struct wr_member_out *out,
		      enum wr_msg_kind kind);

#endif
