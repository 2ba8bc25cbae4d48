/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between the control processes of two nodes, each in an envelope that its sender signed.
 * Any may be lost, late, repeated or reordered: what they mean is judged by fleet/rules.  Pure.
 */
#ifndef WR_MSG_H
#define WR_MSG_H

#include "fleet/record/record.h"

enum wr_msg_kind {
	WR_MSG_NONE = 0,
	/* anyone to anyone */
	WR_MSG_HELLO = 1,   /* fleet_seq, at -> HELLO_OK */
	WR_MSG_HELLO_OK,    /* fleet_seq, at; blob: the fleet record if the asker's is older */
	WR_MSG_WRONG_NONCE, /* nonce: the answerer's; ask again with it */
	WR_MSG_BEHIND, /* number: a counter that was seen of you; you were restored from an image */
	WR_MSG_FLEET_PUT, /* blob: a fleet record -> OK | ERROR */
	WR_MSG_OK,
	WR_MSG_ERROR, /* code, text, hint: the call cannot be served */

	/* hub to member (H1, H4) */
	WR_MSG_PREPARE = 20, /* project, n, grant (RELEASE or CONSENT) or none -> PROMISE | NACK */
	WR_MSG_PROMISE, /* project, n, record, save (both may be empty), flag: clean; work: base,
			   dirty; damaged: the copy is, and no source */
	WR_MSG_NACK,    /* project, n: promised; record; code, text, hint: why */
	WR_MSG_INSTALL, /* record, settings -> OK | NACK */

	/* writer to member, pairs of nodes */
	WR_MSG_PUSH = 30, /* record, settings, save; flag: a FILL -> by stream, then ACK | NACK */
	WR_MSG_ACK,       /* project, version; digest of the ref list */
	WR_MSG_KEEP,      /* number: which round; keep[]: project, n -> KEPT */
	WR_MSG_KEPT, /* number; keep[]: project, n, ok; blobs of records of those lost, in order;
			who is to ask again in its next round is left out */
	/* a member to the writer (W7) */
	WR_MSG_SIDES, /* record; save, not signed: side branches that no save names -> by stream,
			 then ACK | NACK | ERROR */

	/* hub to writer */
	WR_MSG_GRANT_ASK =
	    40,       /* project, n, next (none: RELEASE, else CONSENT) -> GRANT | NACK | ERROR */
	WR_MSG_GRANT, /* grant */
	/* anyone who needs objects, to a member that has them: push me that (W2); number 0: what
	 * you have, for my copy is damaged */
	WR_MSG_FILL_ASK, /* project, version -> OK (it will come) | NACK | ERROR */
	/* a member to the writer, after a move: make it active there */
	WR_MSG_START, /* project -> OK (it begins) | ERROR */

	/* deleting copies (X1) */
	WR_MSG_ATTEST = 50, /* project, n, digest (of my ref list), save, challenge: nonce, ids[] */
	WR_MSG_YES,         /* project, digest: the answer to the challenge */
	WR_MSG_NO,          /* project, record; code, text */

	/* node to hub */
	WR_MSG_CREATE = 60, /* project, text: name, number: uid wanted or 0, settings (unsigned json
			       in blob) -> CREATED | ERROR */
	WR_MSG_CREATED,     /* record, settings; number: uid */
	WR_MSG_RAISE,       /* project, wish (enum wr_wish), node: new writer or member, flag:
			       accept_loss; record: newest known (may be empty) -> RAISED | ERROR */
	WR_MSG_RAISED,      /* record, settings */
	WR_MSG_SETTINGS,    /* project, number: rev it was made from, blob: json -> RAISED (record
			       empty) | ERROR */
	WR_MSG_REPORT,      /* report[]: what this node holds; flag: it takes no new copies ->
			       REPORTED */
	WR_MSG_REPORTED,    /* blobs: newer records, with their settings docs */
	WR_MSG_CERT, /* blob: public key (SubjectPublicKeyInfo, DER) -> CERT_OK: blob certificate */
	WR_MSG_CERT_OK,
	/* hub to node */
	WR_MSG_INVENTORY, /* what do you hold? text: only behind this id; NULL: all -> HOLDS */
	WR_MSG_HOLDS,     /* report[]: from its disks, by id; flag: there are no more */
	/* node to hub */
	WR_MSG_ADDRESS, /* text: the sender's peer address, hint: of its API; NULL: none -> OK |
			   ERROR */
	/* hub to node */
	WR_MSG_RECORDS_ASK, /* keep[]: which projects' records and settings do you have? -> RECORDS
			     */
	WR_MSG_RECORDS, /* blobs: for each in turn its record and its settings; empty: none. Those
			   that found no room are missing at the end */
	/* anyone to a member: is your copy whole? */
	WR_MSG_AUDIT = 80, /* project, flag: read all of it -> AUDITED */
	WR_MSG_AUDITED, /* project, version; digest: what it holds; flag: it is whole; blob: more,
			   as JSON */
	WR_MSG_MARK,    /* project: what you found damaged of it counts from now on; refill it ->
			   OK | ERROR */
};
const char *wr_msg_kind_name(enum wr_msg_kind k); /* "PREPARE"; "?" of one unknown here */
/* The i-th field of a kind's body, by the name it has in struct wr_msg; NULL behind the last. */
const char *wr_msg_field_name(enum wr_msg_kind kind, size_t i);

enum wr_wish {
	WR_WISH_WRITER = 1,
	WR_WISH_ADD,
	WR_WISH_REMOVE,
	WR_WISH_VOTER,
	WR_WISH_DELETE,
	WR_WISH_UNDELETE,
	WR_WISH_WITNESS /* a learner that is to vote, and hold nothing */
};

struct wr_keep {
	struct wr_uuid project;
	struct wr_epoch n;
	bool ok;
};
/* One project as a node holds it (S12: from its disks). */
struct wr_report {
	struct wr_uuid project;
	struct wr_epoch n;      /* of its record */
	struct wr_version held; /* of its D3 */
	int64_t scan_started;   /* of that save */
	uint64_t repo_bytes, tree_bytes;
	bool dirty, hidden, running;
	uint8_t state; /* enum wr_state */
};

/* LIMITs of one message. */
#define WR_MSG_BYTES (1u << 20)
#define WR_MSG_KEEPS 4096
#define WR_MSG_REPORTS 4096
#define WR_MSG_IDS 64
#define WR_MSG_BLOBS 512

struct wr_msg {
	/* the envelope */
	struct wr_node_id from;
	struct wr_uuid to;
	uint64_t to_nonce, nonce; /* nonce: the sender's own, in every message */
	uint64_t counter;
	uint64_t request; /* an answer repeats it */
	enum wr_msg_kind kind;
	/* the body: what the kind says; the rest is empty */
	struct wr_uuid project;
	struct wr_epoch n, next;
	struct wr_version version;
	struct wr_node_id node;
	uint64_t number, fleet_seq;
	int64_t at;
	unsigned wish;
	bool flag;
	struct wr_buf record, save, settings, grant, blob; /* encoded; empty: none */
	struct wr_digest digest;
	char base[41]; /* work record: commit, "" = none */
	bool dirty;
	bool damaged;
	enum wr_err_code code;
	char *text, *hint; /* owned; NULL: none */
	struct wr_keep *keep;
	size_t keep_count;
	struct wr_report *report;
	size_t report_count;
	struct wr_buf *blobs;
	size_t blob_count;
	uint8_t challenge[16];
	uint8_t (*ids)[20];
	size_t id_count;
};
#define WR_MSG_INIT \
	{           \
		0   \
	}
void wr_msg_fini(struct wr_msg *m); /* harmless twice; leaves WR_MSG_INIT */
/* An answer to q: from, to, request, nonces are set; kind given. The own nonce is the one that q
 * was sent to: who answers WRONG_NONCE, or a q that knew none, sets it. The counter, too. */
void wr_msg_answer(struct wr_msg *a, const struct wr_msg *q, const struct wr_node_id *self,
		   enum wr_msg_kind kind);
/* ERROR or NACK with an error's code and texts. */
void wr_msg_set_err(struct wr_msg *m, const struct wr_err *e);
void wr_msg_get_err(const struct wr_msg *m, struct wr_err *out);
/* Encode and sign with the sender's signing key; appended. WR_E_LIMIT above WR_MSG_BYTES,
 * WR_E_INVALID for what wr_msg_open would refuse. */
int wr_msg_seal(const struct wr_msg *m, const struct wr_sign_key *key, struct wr_buf *out,
		struct wr_err *err);
/* Decode; checks form only. WR_E_UNSUPPORTED: a kind or format of a later version. Which bytes
 * were signed stays with the caller: */
int wr_msg_open(const void *p, size_t len, struct wr_msg *out, struct wr_err *err);
/* Is the envelope signed by the node it names, as the fleet record knows it (that incarnation, not
 * removed)? WR_E_DENIED says why not. */
int wr_msg_verify(const void *p, size_t len, const struct wr_msg *m, const struct wr_fleet *f,
		  struct wr_err *err);
/* Only the envelope's head, for those who carry messages: who, to whom, what. The
 * kind may be one that is unknown here. */
int wr_msg_peek(const void *p, size_t len, struct wr_msg *out, struct wr_err *err);

#endif
