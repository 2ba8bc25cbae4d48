/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the copies of a project go by default: nodes, a policy and a project's id in, an ordered
 * list of nodes out.  Pure; the same input gives the same list on every machine, in whatever order
 * the nodes are given.
 *
 * Weighted rendezvous hashing, as Ceph's straw2 buckets draw straws (Thaler and Ravishankar, "Using
 * name-based mappings to increase hit rates", 1998; Weil et al., "CRUSH", 2006).  Project and node
 * give a number u, evenly spread over (0,1); the node's draw is -log2(u)/weight and the lowest draw
 * wins.  A draw is an exponential variable whose rate is the weight, so the node with the lowest
 * one among several is each of them in proportion to its weight.  A draw depends on nothing but
 * the project, the node and the node's weight: a node that comes takes what it wins and nothing
 * else moves; one that goes, or loses weight, gives away only its own.
 *
 * Data centres need no draw of their own: the lowest among a centre's nodes is an exponential
 * variable too, its rate the sum of their weights, and so the centre with the lowest is taken in
 * proportion to what stands in it.  Hence one rule does it all: take the lowest draw, then the
 * lowest in another centre, and so on; when each centre has one, a second in each, and so on.  A
 * draw per centre, with the sum of weights, would shift whole centres' projects to old nodes
 * whenever a node is added somewhere.
 *
 * All arithmetic is on integers.  u is 64 bits: both ids are 122 random bits already and go through
 * the finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
 * generators", 2014; constants: Stafford's Mix13).  The logarithm is found bit by bit by squaring,
 * to 40 bits after the point, and only for nodes that might still win.
 */
#ifndef WR_PLACE_H
#define WR_PLACE_H

#include "base/err.h"
#include "model/uuid.h"

#define WR_PLACE_REPLICAS_DEFAULT 3
#define WR_PLACE_REPLICAS_MAX 16  /* LIMIT: copies of one project */
#define WR_PLACE_NODES_MAX 100000 /* LIMIT: nodes of a fleet */

/* A node as the fleet record has it. The strings are borrowed. */
struct wr_place_node {
	struct wr_uuid id;
	const char *dc;
	uint32_t weight; /* relative to the others, say TiB; 0: takes nothing */
	bool draining;
	bool experimental;
	bool removed;
	bool full; /* above the mark at which new projects go elsewhere */
};

struct wr_place_policy {
	unsigned replicas; /* 0: the default */
	unsigned per_dc;   /* at most so many in one data centre; 0: as many as it takes */
	bool allow_experimental;
	const char *const *allowed; /* data centres that may have a copy; none: all */
	size_t allowed_count;
	const char *const *first; /* data centres that get one before all others, in this order */
	size_t first_count;
	/* The node where the project is made: first of the list, whatever its state but removed. */
	bool has_fixed;
	size_t fixed;
};

#define WR_PLACE_POLICY_INIT  \
	{                     \
		.replicas = 0 \
	}

/* Why a node was chosen or not. */
enum wr_place_reason {
	WR_PLACE_UNSET,
	WR_PLACE_CHOSEN,
	WR_PLACE_REMOVED,
	WR_PLACE_DRAINING,
	WR_PLACE_EXPERIMENTAL,
	WR_PLACE_FULL,
	WR_PLACE_NO_WEIGHT,
	WR_PLACE_DC_NOT_ALLOWED,
	WR_PLACE_OTHER_DC, /* the copies are in other data centres, whose draws were lower */
	WR_PLACE_LOWER,    /* another node of its data centre was better */
	WR_PLACE_REASONS
};
const char *wr_place_reason_name(enum wr_place_reason r); /* "other_dc": for JSON */
const char *wr_place_reason_text(enum wr_place_reason r); /* for people */

struct wr_placement {
	/* Indexes of the nodes; the first is the writer to be. */
	size_t nodes[WR_PLACE_REPLICAS_MAX];
	size_t count;
	unsigned wanted;     /* count is less: so many could not be placed */
	unsigned dcs;        /* data centres that have one */
	unsigned first_none; /* data centres of `first` in which no node could take it */
};

/* The nodes of a fleet, made ready for many projects. */
struct wr_placer;

/* Copies what it needs. NULL and WR_E_INVALID: a bad or doubled id, no data centre; WR_E_LIMIT. */
struct wr_placer *wr_placer_new(const struct wr_place_node *nodes, size_t count,
				struct wr_err *err);
void wr_placer_free(struct wr_placer *p);
void wr_placer_freep(struct wr_placer **p);

/*
 * Never two copies on one node; a second one in a data centre only when each that may has one.
 * Fewer than wanted is no error, none at all is (WR_E_NOT_FOUND). WR_E_INVALID: a policy that
 * cannot be. why: an element per node as given to wr_placer_new, or NULL.
 * Any thread, any number at a time.
 */
int wr_placer_run(const struct wr_placer *p, const struct wr_uuid *project,
		  const struct wr_place_policy *policy, struct wr_placement *out,
		  enum wr_place_reason *why, struct wr_err *err);

#endif
