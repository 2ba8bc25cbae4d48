/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fleet.c, channel.c, peers.c, ask.c, member.c, inbound.c and leases share.  One thread, the
 * loop of control.
 *
 *   channel.c  the @peer process: its life, messages to and from it
 *   peers.c    what is remembered of other nodes: nonces, counters, clocks
 */
#ifndef WR_FLEET_INT_H
#define WR_FLEET_INT_H

#include "serve/control/fleet.h"
#include "serve/peer/peer.h"

struct wr_ask;
struct wr_asked_in;
struct wr_inbound;

/* LIMIT: how far messages of one process may overtake each other. */
#define WR_REPLAY_WINDOW 1024
/* LIMIT: processes of one node that are told apart; it has one, and another after each start. */
#define WR_SENDERS 16

/* A process of another node: it numbers what it asks from 1 on. */
struct wr_sender {
	uint64_t nonce;   /* 0: none */
	uint64_t newest;  /* of its numbers */
	uint64_t counter; /* the greatest that its node had in them */
	uint64_t used;
	uint64_t seen[WR_REPLAY_WINDOW / 64]; /* by number, modulo the window */
};

/* Another node, in the incarnation that the fleet record names. */
struct wr_pnode {
	struct wr_node_id node;
	uint64_t nonce; /* of its control; 0: unknown */
	struct wr_counters seen;
	struct wr_sender *sender; /* WR_SENDERS of them; NULL: none yet */
	uint64_t sender_uses;
	bool sender_gone; /* one had to make room; its counter, or a later one's: */
	uint64_t sender_gone_counter;
	bool behind;          /* its last message said so */
	bool there;           /* it answered its last HELLO */
	uint64_t answered_ns; /* monotonic; its last good answer; 0: none since our start */
	bool ahead_known, ahead_told;
	int64_t ahead_s;   /* its clock minus ours, */
	uint64_t ahead_ns; /* monotonic: as of then */
	int64_t told_s;    /* the time that it told then */
	uint64_t set_ns;   /* monotonic; its clock was set, by much; 0: not since our start */
	uint64_t hello_ns; /* when to greet it next */
};

struct wr_heard {
	struct wr_uuid project;
	uint64_t ns; /* CLOCK_BOOTTIME */
	struct wr_node_id from;
};

struct wr_peers {
	struct wr_control *c;
	/* peers.c */
	struct wr_pnode **node; /* ascending by id */
	size_t node_count, node_cap;
	bool nodes_changed; /* since they were stored */
	uint64_t stored_ns;
	/* channel.c */
	struct wr_child child;
	int sock; /* -1: no process */
	struct wr_watch watch;
	struct wr_timer again; /* when to start it again */
	uint64_t born_ns, pause_ns;
	uint32_t
	    life; /* which process it is: what came from an earlier one is answered to nobody */
	struct wr_peer_msg *out;
	size_t out_count, out_cap, out_bytes;
	int listen_fd; /* -1: nobody can reach us */
	struct wr_tally notes;
	/* ask.c */
	struct wr_ask *asks;                /* under way */
	struct wr_ask *ready, **ready_tail; /* fn is to be called */
	struct wr_asked_in *asked;          /* not answered yet */
	struct wr_timer soon;
	uint32_t next_id;
	/* member.c */
	struct wr_heard *heard; /* ascending by project */
	size_t heard_count, heard_cap;
	uint64_t held_until_ns;
	struct wr_tally refusals;
	/* inbound.c */
	struct wr_inbound *inbound;
	size_t receiving;
	/* fleet.c */
	struct wr_timer tick;
	bool touched; /* since the counter moved last */
	bool count_failed, large_told;
	uint64_t counted_ns, daily_ns, cert_ns, cert_asked_ns, address_ns;
	uint64_t told_seq;     /* of the fleet record that @peer has */
	int64_t cert_stamp_ns; /* of the files that it has */
	bool cert_asked, address_asked;
};

/* ---- fleet.c ---- */

/* Another node saw us further than we are: M5, for good. */
void wr_fleet_behind(struct wr_control *c, const struct wr_uuid *by, uint64_t seen);
/* The fleet record as a message carries it; nothing if it is too long. */
void wr_fleet_bytes(struct wr_control *c, struct wr_buf *out);
/* Everything the process has to know. */
int wr_fleet_setup(struct wr_control *c, struct wr_buf *out, struct wr_err *err);

/* ---- channel.c ---- */

int wr_channel_begin(struct wr_control *c, struct wr_err *err);
void wr_channel_end(struct wr_control *c);
/* Parts of m are taken. false: there is no process now. */
bool wr_channel_send(struct wr_control *c, struct wr_peer_msg *m);
void wr_channel_setup(struct wr_control *c);
/* It does not do what it promised: another one takes its place. */
void wr_channel_replace(struct wr_control *c, const char *why);

/* ---- peers.c ---- */

void wr_peers_load(struct wr_control *c);
/* At most every 10 s, unless now. */
void wr_peers_store(struct wr_control *c, bool now);
void wr_peers_free(struct wr_control *c);
/* Of a node in the fleet, made when it is new; NULL: the fleet record has no such incarnation. */
struct wr_pnode *wr_pnode_get(struct wr_control *c, const struct wr_node_id *node);
/* A message of it is fresh. WR_E_DENIED: it is behind; *out_seen is the counter that was seen. */
int wr_pnode_count(struct wr_control *c, struct wr_pnode *n, uint64_t counter, uint64_t *out_seen,
		   struct wr_err *err);
/* A message of its process nonce, the request-th, with that counter. false: it was here before, or
 * may have been. */
bool wr_pnode_request(struct wr_pnode *n, uint64_t nonce, uint64_t counter, uint64_t request);
/* Its clock, as it answered at now. */
void wr_pnode_clock(struct wr_control *c, struct wr_pnode *n, int64_t ahead_s);

/* ---- ask.c ---- */

void wr_asks_answered(struct wr_control *c, struct wr_peer_msg *m);
void wr_asks_failed(struct wr_control *c, struct wr_peer_msg *m);
/* Its process is gone. */
void wr_asks_lost(struct wr_control *c);
void wr_asks_end(struct wr_control *c);
/* Does the process keep an answer, or its failure, longer than it may? */
bool wr_asks_overdue(struct wr_control *c);
/* A call came. */
void wr_asks_call(struct wr_control *c, struct wr_peer_msg *m);
/* Serve it once more in a moment: a lock is held. false: it waited long enough. */
bool wr_asked_again(struct wr_asked *k);

/* ---- member.c ---- */

void wr_members_end(struct wr_control *c);
/* env, for judgements about that project. */
void wr_member_env_of(struct wr_control *c, const struct wr_uuid *project,
		      struct wr_member_env *env);
/* Fills whom it heard into env. */
void wr_heard_env(struct wr_control *c, const struct wr_uuid *project, struct wr_member_env *env);
/* Its writer was heard now. Nothing happens while the hold of another runs. */
void wr_heard_now(struct wr_control *c, const struct wr_uuid *project,
		  const struct wr_node_id *from);
/* What judging said besides its answer, of whom was heard. from: who sent what was judged. */
void wr_heard_judged(struct wr_control *c, const struct wr_uuid *project,
		     const struct wr_member_out *out, const struct wr_node_id *from);
/* What is known of it, or nothing; fails where that cannot be told. */
int wr_member_load(struct wr_control *c, const struct wr_uuid *project, struct wr_member_state *out,
		   struct wr_err *err);

/* ---- inbound.c ---- */

void wr_inbound_stream(struct wr_control *c, struct wr_peer_msg *m);
/* Is a push of it under way, or waiting? */
bool wr_inbound_runs(struct wr_control *c, const struct wr_uuid *project);
void wr_inbound_tick(struct wr_control *c);
/* Its process is gone: nobody waits for what waits. */
void wr_inbound_lost(struct wr_control *c);
void wr_inbound_end(struct wr_control *c);

/* ---- leases (lease_int.h) ---- */

/* Is it in use here: active, or an operation works on it? */
bool wr_lease_lives(struct wr_control *c, const struct wr_uuid *project);
/* Does it run unfrozen, or might it? */
bool wr_lease_runs(struct wr_control *c, const struct wr_uuid *project);
/* W6: its processes stand still from now on, and a stop is asked for. */
void wr_lease_lost(struct wr_control *c, const struct wr_uuid *project, const char *why);
/* Its record changed on this node's disk. */
void wr_lease_learn(struct wr_control *c, const struct wr_uuid *project);
/* Nothing runs, nothing may: no lease any more. */
void wr_lease_give_up(struct wr_control *c, const struct wr_uuid *project);

#endif
