/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of the fleet record, as a hub changes them: nodes.c, for joining.c, calls_nodes.c,
 * hub_place.c. */
#ifndef WR_CONTROL_NODES_H
#define WR_CONTROL_NODES_H

#include "fleet/trust/trust.h"
#include "serve/control/fleet.h"

/* WR_E_UNSUPPORTED, with who to ask: this node is no hub. */
int wr_nodes_at_hub(const struct wr_control *c, struct wr_err *err);
/* Sign the changed copy of the fleet record and make it ours. */
int wr_nodes_publish(struct wr_control *c, struct wr_fleet *f, struct wr_err *err);

/* One that was found in f, to be changed. */
struct wr_fleet_node *wr_nodes_at(struct wr_fleet *f, const struct wr_fleet_node *n);
/* Valid until the next one. */
struct wr_fleet_node *wr_nodes_insert(struct wr_fleet *f, const struct wr_fleet_node *n);
/* By id or name, also one that was removed; WR_E_NOT_FOUND. */
const struct wr_fleet_node *wr_nodes_find(const struct wr_fleet *f, const char *ref,
					  struct wr_err *err);

/* Does another node than `by` answer under this name?  Its certificate would be as good as that
 * one's for whoever asks there. */
bool wr_nodes_taken(const struct wr_fleet *f, const struct wr_uuid *by, const char *host);
/* A list of names that are its own. */
int wr_nodes_set_names(const struct wr_fleet *f, struct wr_fleet_node *n, const char *list,
		       struct wr_err *err);
/* "" or HOST:PORT. */
int wr_nodes_check_address(const char *what, const char *s, struct wr_err *err);
/* Nobody is reached where another is. */
int wr_nodes_check_claim(const struct wr_fleet *f, const struct wr_uuid *by, const char *address,
			 struct wr_err *err);
/* A certificate of this fleet's CA. */
int wr_nodes_certify(struct wr_control *c, const struct wr_node_id *node, struct wr_der spki,
		     const char *const *name, size_t name_count, struct wr_buf *out,
		     struct wr_err *err);

#endif
