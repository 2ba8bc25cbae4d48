/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member of a project remembers (D1..D3, D5: STATE/control/ID.auth) and what it may answer:
 * promises (M1), records (M2), saves (M3), keepalives (M4), proofs (X1); and what the writer among
 * them may do (W2, W4..W6).  Pure: time, facts about the disk and keys are handed in.
 *
 * Every judgement works on the state in place.  A caller loads the state, judges, and when
 * out.changed makes the state durable BEFORE it sends the answer or shows any other effect; where
 * that fails it drops state and answer.  A crash then leaves either the old state and no answer, or
 * the new one.
 *
 *   promised >= record.n always, and greater only between a promise and the record it was for.
 *   save.v.n <= record.n always.
 */
#ifndef WR_MEMBER_H
#define WR_MEMBER_H

#include "fleet/record/msg.h"

#define WR_SECOND_NS UINT64_C(1000000000)
/* L: a writer may run that long after it sent a keepalive that a majority answered. H: a member
 * promises nothing for that long after it heard the writer. 10 s: how often the writer sends. */
#define WR_LEASE_NS (30 * WR_SECOND_NS)
#define WR_HOLD_NS (36 * WR_SECOND_NS)
#define WR_KEEP_EVERY_NS (10 * WR_SECOND_NS)
/* Clocks may run wrong by r = 5 %: H >= L (1 + r) / (1 - r). */
_Static_assert(WR_HOLD_NS * 95 >= WR_LEASE_NS * 105, "a hold outlasts every lease");

struct wr_member_state {
	struct wr_uuid project;
	struct wr_epoch promised; /* D1 */
	bool promised_clean;      /* what that promise said */
	bool has_consent;         /* it was made under the writer's CONSENT: */
	struct wr_node_id consent;
	struct wr_epoch released; /* D1: as writer, never again under this */
	bool has_record;
	struct wr_record record; /* D2 */
	struct wr_buf record_bytes;
	bool has_save;
	struct wr_save_rec save; /* D3 */
	struct wr_buf save_bytes;
	struct wr_buf settings; /* the newest settings doc, signed; empty: none yet */
	uint64_t settings_rev;
	bool hidden; /* D5 */
};
void wr_member_init(struct wr_member_state *s, const struct wr_uuid *project);
void wr_member_fini(struct wr_member_state *s); /* harmless twice */
/* to: initialised; what it held is released. */
void wr_member_copy(struct wr_member_state *to, const struct wr_member_state *from);
/* Appends the image of the file: magic, format, fields, SHA-256 of all before. */
void wr_member_encode(const struct wr_member_state *s, struct wr_buf *out);
/* WR_E_CORRUPT: damaged, cut, or of another project; WR_E_UNSUPPORTED: a newer format. out:
 * initialised. */
int wr_member_decode(const void *p, size_t len, const struct wr_uuid *project,
		     struct wr_member_state *out, struct wr_err *err);
/* The version it holds; number 0: none, or hidden. */
struct wr_version wr_member_version(const struct wr_member_state *s);

/* What the node knows besides. */
struct wr_member_env {
	struct wr_node_id self;
	const struct wr_fleet *fleet;
	uint64_t now_ns;              /* CLOCK_BOOTTIME, as all times here */
	uint64_t held_until_ns;       /* end of the grace after boot: boot + H */
	uint64_t heard_ns;            /* when a writer of this project was last heard; 0: never */
	struct wr_node_id heard_from; /* which; its hold runs H from then, whoever is writer now */
	bool self_runs;               /* own processes of it are unfrozen, or the own lease holds */
	bool amnesia;                 /* M5: this node's memory of the project cannot be trusted */
	bool forgot;           /* M5: it was a member, by what lies here, and has no record */
	bool may_store;        /* its volume takes objects */
	bool damaged;          /* its copy was found damaged: it holds nothing for certain (F20) */
	const char *work_base; /* D4, for PROMISE: commit or NULL */
	bool work_dirty;
};

/* What came of a message, besides the answer. */
struct wr_member_out {
	bool changed;     /* the state: make it durable before the answer goes out */
	bool heard;       /* heard_ns := now_ns, heard_from := the writer, who sent it */
	bool forget;      /* heard_ns := 0: no lease of who was heard can rest on this member */
	uint64_t hold_ns; /* not 0: heard_ns := hold_ns, heard_from := hold_from: not heard, but */
	struct wr_node_id hold_from; /* it may have been before boot, and is writer no more */
	struct wr_err why;           /* code WR_E_NONE: granted; else a refusal, fit for an event */
};

/* Each of these fills *answer (WR_MSG_INIT before; the caller finishes it) as an answer to m and
 * sets *out.  The caller has verified m's envelope and that its sender may ask that: PREPARE comes
 * from hubs, KEEP from the node itself.  A state without a record is a project that this node does
 * not know. */

/* M1: PREPARE -> PROMISE | NACK | ERROR (this node has no vote: unknown project, amnesia). A grant
 * counts when the writer of my record signed it for my epoch, or, as the forced way, when the
 * fleet's recovery key signed it in that writer's name. */
void wr_member_prepare(struct wr_member_state *s, const struct wr_member_env *env,
		       const struct wr_msg *m, struct wr_msg *answer, struct wr_member_out *out);
/* M2: INSTALL -> OK | NACK | ERROR. Also for a project new to this node, when it is in the record:
 * as a learner, or in the project's first record. OK: what is known is at least that record. */
void wr_member_install(struct wr_member_state *s, const struct wr_member_env *env,
		       const struct wr_msg *m, struct wr_msg *answer, struct wr_member_out *out);

/* M4: one entry of KEEP, sent by peer. */
enum wr_keep_say {
	WR_KEEP_OK = 1,
	WR_KEEP_LOST, /* the answer carries s->record_bytes. A writer that sees an older record in
			 it sends INSTALL and asks again. */
	WR_KEEP_WAIT, /* peer is the writer, but the hold of another runs, whose lease may rest on
			 this member: say nothing of it, and it asks again in its next round */
};
enum wr_keep_say wr_member_keep(const struct wr_member_state *s, const struct wr_member_env *env,
				const struct wr_node_id *peer, const struct wr_epoch *n,
				struct wr_member_out *out);
/* Who was heard at heard_ns (0: nobody) holds this member. */
static inline bool
wr_member_hold_runs(uint64_t heard_ns, uint64_t now_ns)
{
	return heard_ns && now_ns < heard_ns + WR_HOLD_NS;
}

/* M3 */
enum wr_push_do {
	WR_PUSH_REFUSE = 1, /* answer: NACK | ERROR */
	WR_PUSH_HAVE,       /* nothing to transfer; answer: ACK with the version held */
	WR_PUSH_TAKE,       /* a save of the writer: its refs become mine */
	WR_PUSH_FILL,       /* E.base: its refs go under refs/warren/fill/, mine stay */
	WR_PUSH_MEND,       /* the copy here is damaged: objects that it lacks, no refs, no ACK */
	WR_PUSH_SIDES,      /* W7, to the writer: new side branches, no ref of mine moves */
	WR_PUSH_NOTE,       /* HAVE, but for newer settings: commit without a transfer */
};
struct wr_push {
	enum wr_push_do what;
	struct wr_record record; /* what came, decoded */
	struct wr_save_rec save;
	/* TAKE: the tip held till now left the line. Unless the new refs reach it, it becomes the
	 * branch side_name first, and is announced. */
	bool side;
	char side_name[128]; /* conflict-VERSION-NODE */
};
#define WR_PUSH_INIT \
	{            \
		0    \
	}
/* LIMIT: side branches that a project's list may come to name this way (W7). */
#define WR_SIDES_MAX 64
/* W7: and so long, where the writer counts. */
#define WR_SIDES_AGE_S (INT64_C(90) * 86400)
/* Is that the name of one? */
bool wr_is_side(const char *ref);
void wr_push_fini(struct wr_push *p); /* harmless twice; leaves WR_PUSH_INIT */
/* Before the transfer, without a lock; REFUSE and HAVE: *answer is the answer. Else it is not
 * touched, let it come. m: PUSH, flag: a FILL; or SIDES. */
enum wr_push_do wr_member_push_check(const struct wr_member_state *s,
				     const struct wr_member_env *env, const struct wr_msg *m,
				     struct wr_push *push, struct wr_msg *answer,
				     struct wr_member_out *out);
/* Under the locks, the pack complete, closure and base refs checked: judges anew. TAKE and FILL:
 * the caller moves the refs, then makes the state durable if changed, then sends *answer. MEND: it
 * installs the objects; neither state nor *answer is touched. SIDES: it makes the branches, and
 * then the next save (wr_writer_save), which names them. HAVE, where it was NOTE: as TAKE, without
 * refs. */
enum wr_push_do wr_member_push_commit(struct wr_member_state *s, const struct wr_member_env *env,
				      const struct wr_msg *m, struct wr_push *push,
				      struct wr_msg *answer, struct wr_member_out *out);

/* X1, whom it is asked: ATTEST -> YES | NO. has_refs: all refs of m->save with their closure are
 * here, in no hidden copy; proof: the answer to the challenge (used if has_refs). */
void wr_member_attest(const struct wr_member_state *s, const struct wr_member_env *env,
		      const struct wr_msg *m, bool has_refs, const struct wr_digest *proof,
		      struct wr_msg *answer, struct wr_member_out *out);

/* ---- the writer ---- */

enum wr_writer_stand {
	WR_WRITER_NOT =
	    1,           /* not the writer, released, promised to a later raise, deleted: see err */
	WR_WRITER_FETCH, /* writer, but E.base is not here: have it filled first */
	WR_WRITER_OPEN,  /* wr_writer_open is next; what it needs is in the state */
	WR_WRITER_READY, /* may save */
};
/* err: filled for NOT only; may be NULL. */
enum wr_writer_stand wr_writer_stand(const struct wr_member_state *s,
				     const struct wr_member_env *env, struct wr_err *err);
/* W1: does its own OK count in a round of KEEP? It is the writer and no other's yet, and no other
 * holds it as a member, whose lease may rest on it. */
bool wr_writer_keeps(const struct wr_member_state *s, const struct wr_member_env *env);
/* W2: makes (n, 0), signs it, puts it into the state. base: the save record of E.base as a fill
 * brought it, or NULL where wr_writer_stand said OPEN. side: as in struct wr_push, set for the own
 * tip. The caller moves the refs to s->save's, then makes the state durable, then pushes. */
int wr_writer_open(struct wr_member_state *s, const struct wr_member_env *env,
		   const struct wr_save_rec *base, const struct wr_sign_key *key,
		   struct wr_push *side, struct wr_err *err);
/* W4: the next save (n, s + 1) with these refs (ascending by name, no duplicates; copied), signed,
 * in the state. The refs were moved before; the state is durable before it is pushed. */
int wr_writer_save(struct wr_member_state *s, const struct wr_member_env *env,
		   const struct wr_save_ref *ref, size_t ref_count, int64_t scan_started,
		   uint32_t scan_ns, const struct wr_sign_key *key, struct wr_err *err);
/* W5, the end of it: all is saved, no process is left, the lease is dropped (env->self_runs is
 * false), and nothing starts again under n. *changed: make the state durable before the grant
 * leaves. The same grant again when asked again. */
int wr_writer_release(struct wr_member_state *s, const struct wr_member_env *env,
		      const struct wr_epoch *n, const struct wr_sign_key *key, struct wr_grant *out,
		      bool *changed, struct wr_err *err);
/* The right to raise my own epoch n to next under my feet. I go on as writer. */
int wr_writer_consent(const struct wr_member_state *s, const struct wr_member_env *env,
		      const struct wr_epoch *n, const struct wr_epoch *next,
		      const struct wr_sign_key *key, struct wr_grant *out, struct wr_err *err);
/* W6 */
enum wr_lost {
	WR_LOST_GO_ON = 1, /* install it, open, go on */
	WR_LOST_STOP,      /* freeze, salvage, stop; then install it */
	WR_LOST_ASK,       /* none newer: ask a hub for a raise with my CONSENT; saves are LOCAL */
	WR_LOST_INFORM,    /* theirs is older: send INSTALL with mine */
};
/* theirs: as LOST brought it, verified; NULL: none. */
enum wr_lost wr_writer_lost(const struct wr_member_state *s, const struct wr_member_env *env,
			    const struct wr_record *theirs);

#endif
