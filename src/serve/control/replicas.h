/* SPDX-License-Identifier: Apache-2.0 */
/* What copies, open.c, hubs and the calls about several nodes share besides fleet.h. */
#ifndef WR_CONTROL_REPLICAS_H
#define WR_CONTROL_REPLICAS_H

#include "fleet/place/place.h"
#include "serve/control/fleet.h"

/* ---- copies: holdings.c, behind.c, reports.c, orphans.c ---- */

/* Every operation that ended: receipts of saves are looked into, failures put off. Works also
 * before copies.c has begun. */
void wr_copies_op_ended(struct wr_control *c, const struct wr_op_row *op, const json_t *receipt,
			const struct wr_err *why);
/* Ask for an operation that replicates; targets: names or ids, NULL: all. Taken. */
int wr_copies_replicate(struct wr_control *c, const struct wr_proj_row *row, json_t *targets,
			const char *by, struct wr_uuid *out, struct wr_err *err);
/* A node is there (again): who is behind on it is tried at once. */
void wr_copies_seen(struct wr_control *c, const struct wr_uuid *node);
/* Its copy was found damaged: what it acknowledged counts no more. */
void wr_copies_damaged(struct wr_control *c, const struct wr_uuid *project,
		       const struct wr_uuid *node);
/* What this node holds, from its disks, by id and behind after (NULL: all); the caller frees.
 * *out_end: there is no more. */
size_t wr_copies_holds(struct wr_control *c, const char *after, struct wr_report **out,
		       bool *out_end);
/* INVENTORY, RECORDS_ASK */
void wr_copies_inventory(struct wr_asked *k);
void wr_copies_records(struct wr_asked *k);
/* Projects that were made before this host was in a fleet get their first record: at once where
 * the fleet is this node alone, else by a hub, in the background. */
int wr_copies_adopt(struct wr_control *c, struct wr_err *err);
/* What a member holds, as far as this node knows. */
struct wr_holding {
	const struct wr_member *member;
	const struct wr_fleet_node *node; /* NULL: not in the fleet record */
	bool self;
	uint64_t epoch, seq;  /* 0: nothing known */
	int64_t scan_started; /* 0: not known */
	struct wr_replica_row row;
};
/* In the order of the record. */
size_t wr_holdings(struct wr_control *c, const struct wr_member_state *ms,
		   const struct wr_proj_row *row, struct wr_holding out[WR_MEMBERS_MAX]);
/* Up to when a copy has everything: as known before, and as is told of what it holds now. A clock
 * that was ahead must not promise the hours until it is so late. */
int64_t wr_held_until(int64_t before, int64_t told, int64_t now);
/* The newest point in time up to which all that was closed is on a majority; 0: not known. */
int64_t wr_recovery_point(const struct wr_record *e, const struct wr_holding *h, size_t count);
/* By name or id; NULL with err. */
const struct wr_fleet_node *wr_fleet_node_of(struct wr_control *c, const char *ref,
					     struct wr_err *err);

/* A copy's files are brought along as its settings say; the first save that they lack counts. Work
 * that nobody saved goes to a side branch, within seconds. */
void wr_copy_update_later(struct wr_control *c, const struct wr_uuid *project);
/* A record that another node sent, base64. */
void wr_copies_record(struct wr_control *c, const struct wr_uuid *project, const char *b64);

/* ---- sides.c: side branches that are here alone go to the writer (W7) ---- */

struct wr_sides;
struct wr_sides **wr_copies_sides(struct wr_control *c); /* where it keeps itself; NULL: no fleet */
void wr_sides_begin(struct wr_control *c);
void wr_sides_end(struct wr_control *c);
/* Something of the project came or changed. */
void wr_sides_learn(struct wr_control *c, const struct wr_uuid *project);
void wr_sides_op_ended(struct wr_control *c, const struct wr_op_row *op, const json_t *receipt);

/* Where open.c keeps what is under way. */
struct wr_opening;
struct wr_opening **wr_copies_openings(struct wr_control *c);

/* ---- open.c ---- */

/* START */
void wr_open_asked(struct wr_asked *k);
/* Something of the project came or changed. */
void wr_open_learned(struct wr_control *c, const struct wr_uuid *project);
void wr_open_end(struct wr_control *c);
/* Does a start of it here need other nodes first? */
bool wr_open_needed(struct wr_control *c, const struct wr_uuid *project);

/* ---- hub_create.c ---- */

/* The first record of a project, signed, with its settings, in the catalog. io_set: uid and gid are
 * chosen (pick_uid), rev stays. writer: where it is made. */
int wr_hub_first(struct wr_control *c, const struct wr_node_id *writer, struct wr_settings *io_set,
		 bool pick_uid, struct wr_buf *out_record, struct wr_buf *out_settings,
		 struct wr_err *err);

/* Which nodes a project made at writer goes to, and why others not. out: room for all nodes of the
 * fleet record. io: its members are added; may be NULL. Returns how many nodes there are, 0: err.
 */
struct wr_placed {
	const struct wr_fleet_node *node;
	enum wr_place_reason why;
};
size_t wr_hub_placement(struct wr_control *c, const struct wr_uuid *project,
			const struct wr_node_id *writer, struct wr_placed *out,
			struct wr_record *io, struct wr_err *err);

/* ---- hub_place.c ---- */

/* Of a hub: a node is reached elsewhere. Signs the fleet record anew if that is news. */
int wr_fleet_set_address(struct wr_control *c, const struct wr_node_id *node, const char *peer,
			 const char *api, struct wr_err *err);

/* ---- reserve.c: names asked of a hub ---- */

void wr_reserve_begin(struct wr_control *c);
void wr_reserve_end(struct wr_control *c);
/* Durably, before it is asked for. */
void wr_reserve_note(struct wr_control *c, const struct wr_uuid *project);
/* The project is in the index, or there is nothing to give back. */
void wr_reserve_used(struct wr_control *c, const struct wr_uuid *project);
/* Nothing came of it, or nothing is left: the hub is told until it has heard it. */
void wr_reserve_free(struct wr_control *c, const struct wr_uuid *project);
/* Is the hub being told that of it? Then it cannot be asked for. */
bool wr_reserve_busy(struct wr_control *c, const struct wr_uuid *project);

/* ---- admit.c ---- */

/* May the project be here as a hub signed it? have: as it is here by now; NULL: it is new. */
int wr_copy_admit(struct wr_control *c, const struct wr_uuid *project,
		  const struct wr_settings *set, const struct wr_settings *have,
		  struct wr_err *err);
/* The same of a settings document; none is fine. */
int wr_copy_admit_doc(struct wr_control *c, const struct wr_uuid *project, const struct wr_buf *doc,
		      struct wr_err *err);

/* ---- ask_hub.c: what other calls have to do with hubs ---- */

/* CREATE at a hub, then what it answered on this node's disk; fn from the loop. set: as wished; its
 * uid counts unless pick_uid. out of fn: the settings as signed. */
typedef void (*wr_created_fn)(void *ctx, struct wr_settings *set, const struct wr_err *why);
void wr_fleet_create(struct wr_control *c, const struct wr_settings *set, bool pick_uid,
		     wr_created_fn fn, void *ctx);
/* SETTINGS at a hub: set is the new one, made of revision rev. why NULL: signed and on this node's
 * disk; *set is what was signed. WR_E_CHANGED: there is a newer one, which is here by now. */
void wr_fleet_settings(struct wr_control *c, const struct wr_settings *set, uint64_t rev,
		       wr_created_fn fn, void *ctx);
/* Record and settings as they are here, to the other members at once; who is away gets them with
 * the next push. */
void wr_fleet_tell(struct wr_control *c, const struct wr_uuid *project);

#endif
