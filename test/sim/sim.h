/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seeded world in which the product's rules run: nodes with disks that keep only what was made
 * durable, hubs that know any old record, a network that loses, delays, doubles and reorders.  One
 * seed is one run, the same each time.  See README.md.
 */
#ifndef WR_SIM_H
#define WR_SIM_H

#include "fleet/rules/drop.h"
#include "fleet/rules/lease.h"
#include "fleet/rules/raise.h"
#include "fleet/rules/safe.h"

enum {
	NODES_MAX = 5,
	HUBS = 2,
	PROJECTS_MAX = 2,
	COMMITS_MAX = 256,
	RECORDS_MAX = 256,
	SAVES_MAX = 512,
	ADDRESSES = NODES_MAX + HUBS,
};
#define MS (WR_SECOND_NS / 1000)

/* One rule switched off, from outside of the rules: by tampering with what they see. */
enum mutant {
	MUT_NONE,
#define MUTANTS(X)                                                                    \
	X(FENCE, "fence", "M3: a push below the promise is taken")                    \
	X(MAJORITY, "majority", "H2: one promise counts for two")                     \
	X(DURABLE, "durable", "an answer leaves before its state is durable")         \
	X(CLEAN, "clean", "H3: every promise is called clean")                        \
	X(AMNESIA, "amnesia", "M5: a node that was set back goes on voting")          \
	X(HOLD, "hold", "M1: a member forgets at once that it heard the writer")      \
	X(GRACE, "grace", "M1: a member that restarted holds nothing")                \
	X(EXCLUSIVE, "exclusive", "M4: OK to a new writer while another's hold runs") \
	X(RELEASE, "release", "W5: a writer goes on after its release")               \
	X(DAMAGED, "damaged", "F20: a member does not say that its copy is damaged")  \
	X(PROOF, "proof", "X1: who is asked for a proof says yes unseen")             \
	X(BASE, "base", "H2: members report no save")
#define X(id, name, text) MUT_##id,
	MUTANTS(X)
#undef X
	    MUT_COUNT
};

/* What happens more often than elsewhere: some accidents need many steps of one kind. */
enum profile {
	MIXED,
	/* Nothing runs and nobody is held; hubs do little but change members, and die over it. */
	MEMBERS,
	/* All writers run, are cut off, and restart. */
	LEASES,
	/* All writers run; hubs have their consent, and name others. Nobody restarts. */
	LIARS,
};

struct letter {
	struct wr_msg m;
	size_t refs;
};

enum event_kind { EV_NONE, EV_LETTER, EV_COMMIT, EV_TICK, EV_HUB, EV_CHAOS };
struct event {
	uint64_t at, order;
	enum event_kind kind;
	int to, from;
	unsigned life; /* of the node: what was set up before a crash is void */
	struct letter *letter;
};

struct copy { /* one project on one node */
	struct wr_member_state s;
	struct wr_buf disk;                          /* STATE/control/ID.auth; survives */
	struct wr_buf old;                           /* what a set-back node finds */
	bool has[COMMITS_MAX], old_has[COMMITS_MAX]; /* objects; survive */
	struct wr_save_rec fill;                     /* refs/warren/fill */
	bool damaged;                                /* the mark; survives */
	/* RAM */
	uint64_t heard_ns;
	struct wr_node_id heard_from;
	struct wr_lease lease;
	bool want, running, pending; /* pending: a mutant has not written the disk yet */
	uint64_t round;
	struct wr_acked acked[WR_MEMBERS_MAX];
	size_t acked_count;
	struct wr_drop drop;
	bool dropping;
};

struct node {
	struct wr_node_id id;
	struct wr_sign_key key;
	bool up, amnesia;
	unsigned life;
	uint64_t boot_at, rate; /* its clock: per thousand */
	struct copy copy[PROJECTS_MAX];
};

struct hub {
	struct wr_node_id id;
	struct wr_raise *raise;
	int project;
	bool lies; /* whatever it was given, it names another writer: */
	struct wr_record lie;
};

/* What really happened, as nobody in the world knows it. */
struct ghost_record {
	struct wr_record e;
	uint64_t
	    accepted[WR_MEMBERS_MAX]; /* 1 + newest s of that epoch each member holds durably */
	uint64_t safe;                /* 1 + newest s that is SAFE; 0: none */
};
struct ghost_save {
	struct wr_version v;
	int commit;
	struct wr_sig sig;
};
/* The newest version that somebody who promised n had in a copy that is not damaged. */
struct ghost_said {
	struct wr_epoch n;
	struct wr_version v;
};
struct ghost {
	int parent[COMMITS_MAX];
	int commits;
	struct ghost_record record[RECORDS_MAX];
	int records;
	struct ghost_save save[SAVES_MAX];
	int saves;
	struct ghost_said said[RECORDS_MAX * 2];
	int said_count;
	int safe_tip; /* commit; -1: none */
};

struct world {
	uint64_t seed, rng, now, order;
	enum mutant mutant;
	bool verbose, calm, full;
	enum profile profile;
	bool wrote; /* did the last durable() reach the disk? */
	int nodes, projects;
	struct wr_uuid project[PROJECTS_MAX];
	struct node node[NODES_MAX];
	struct hub hub[HUBS];
	struct wr_sign_key hub_key;
	struct wr_fleet fleet;
	bool cut[ADDRESSES][ADDRESSES];
	unsigned loss; /* per thousand */
	struct event *heap;
	size_t heap_len, heap_cap;
	struct ghost ghost[PROJECTS_MAX];
	unsigned new_members; /* how eager chaos is to change members, per thousand */
	char violation[256];
	uint64_t request;
	struct {
		uint64_t saves, safe, raises, failed, starts, drops, crashes;
	} count;
};

/* world.c */
uint64_t rnd(struct world *w, uint64_t below);
bool chance(struct world *w, unsigned per_thousand);
void say(struct world *w, const char *fmt, ...) WR_PRINTF(2, 3);
void violated(struct world *w, const char *fmt, ...) WR_PRINTF(2, 3);
void later(struct world *w, enum event_kind kind, int to, uint64_t delay);
void later_letter(struct world *w, enum event_kind kind, int from, int to, unsigned life,
		  struct letter *l, uint64_t delay);
/* Takes what m owns. */
void send_msg(struct world *w, int from, int to, struct wr_msg *m);
int address(const struct world *w, const struct wr_node_id *id); /* -1: none now */
void world_init(struct world *w, uint64_t seed, enum mutant mutant, enum profile profile,
		bool verbose);
void world_fini(struct world *w);
void world_step(struct world *w);
void world_heal(struct world *w);
const char *who(const struct world *w, int address);

/* node.c */
struct wr_member_env node_env(struct world *w, int i, int p);
uint64_t node_clock(const struct world *w, int i);
void node_letter(struct world *w, int i, int from, struct wr_msg *m);
void node_commit(struct world *w, int i, int from, struct wr_msg *m);
void node_tick(struct world *w, int i);
void node_crash(struct world *w, int i);
void node_boot(struct world *w, int i);
void node_set_back(struct world *w, int i);
void node_drop(struct world *w, int i, int p);
bool node_unfrozen(struct world *w, int i, int p);

/* hub.c */
struct raise_wish {
	unsigned wish, ask_grant;
	struct wr_node_id node;
	enum wr_role role;
	bool lies;
	bool newest;      /* it knows the newest record */
	bool accept_loss; /* I2 holds for all that is SAFE even so */
};
void hub_raise(struct world *w, int h, int p, const struct raise_wish *wish);
void hub_random_raise(struct world *w, int h);
void hub_letter(struct world *w, int h, int from, struct wr_msg *m);
void hub_tick(struct world *w, int h);
void hub_crash(struct world *w, int h);

/* ghost.c: each looks for what must never be */
void ghost_init(struct ghost *g);
int ghost_commit(struct world *w, int p, int parent);          /* a new one; -1: no room */
bool ghost_within(const struct ghost *g, int commit, int tip); /* ancestor or equal */
void ghost_record(struct world *w, int p, const struct wr_record *e);
void ghost_save(struct world *w, int p, const struct ghost_save *s);
void ghost_accept(struct world *w, int p, const struct wr_node_id *node,
		  const struct wr_version *v);
void ghost_promise(struct world *w, int p, const struct wr_epoch *n,
		   const struct wr_version *whole);
void ghost_delete(struct world *w, int p, const struct wr_epoch *n, int commit);
void ghost_runners(struct world *w);
int ghost_newest(const struct ghost *g);
int commit_of(const struct wr_save_rec *s); /* -1: no refs */

#endif
