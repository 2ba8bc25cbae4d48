/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing one project's objects and refs from one repository to another: two step machines, a
 * sender and a receiver, over bytes.  No sockets, no clocks; the caller moves the bytes (or lets
 * wr_sync_pump do so).  Format on the wire: doc/format/sync.md.
 *
 *   receiver                                   sender
 *     my refs, do I hold objects that came before? ->
 *                                              <- which of them I build on, how many objects
 *     ids of those that I hold ->              <- which of them belong to it
 *                                              <- objects, as entries of git packs
 *     quarantine, hashes, closure (no lock)
 *     READY: the caller judges, takes its locks and commits
 *     done ->                                    DONE
 *
 * Life of a receiver: new, pump until READY, commit (under the lifecycle lock), pump until DONE.
 * When commit gives WR_E_CHANGED the machine is RUNNING again: pump until READY, commit again; what
 * came so far is kept.  A machine is used by one thread and borrows its repository until it is
 * freed.
 *
 * Newest first: to one who lacks much the sender may give the newest state alone, a commit without
 * parents that stands for the tip's tree (wr_commit_latest).  The receiver makes its id from the
 * tip that the list names and commits it as refs/warren/latest; the history comes behind it.  To
 * the receiver's caller that is a commit that gave WR_E_CHANGED.
 */
#ifndef WR_SYNC_H
#define WR_SYNC_H

#include <stdatomic.h>

#include "engine/repo/repo.h"
#include "fleet/record/record.h"

struct wr_sync;

enum wr_sync_status {
	WR_SYNC_RUNNING = 1,
	WR_SYNC_READY,  /* receiver: everything is here and checked; waits for commit or refuse */
	WR_SYNC_DONE,   /* the receiver has committed */
	WR_SYNC_FAILED, /* wr_sync_error tells why */
};

/* ---- the list of refs ---- */

/* refs/heads/, refs/tags/ and refs/warren/latest of a repository, ascending by name: *ref and
 * *ref_count of s are set (they were empty), nothing else of it. WR_E_LIMIT above
 * WR_SAVE_REFS_MAX. */
int wr_sync_refs(struct wr_repo *r, struct wr_save_rec *s, struct wr_err *err);

/* Local only, never in a list: */
#define WR_SYNC_KEEP                                                                             \
	"refs/warren/keep/"              /* UTCTIME-COMMIT8: what a newer list no longer reached \
					  */
#define WR_SYNC_FILL "refs/warren/fill/" /* heads/main, ...: the list of a fill */
#define WR_SYNC_LATEST "refs/warren/latest"
/* Branches of this prefix hold work that was off the line. One that is in no list stays. */
#define WR_SYNC_SIDE "conflict-"
/* The branch whose tip is the newest state. */
#define WR_SYNC_MAIN "refs/heads/main"

/* ---- sender ---- */

struct wr_sync_send_opts {
	/* Bytes that may be sent without need before the whole closure of the base is looked at;
	 * 0: 1 MiB. */
	uint64_t waste_bytes;
	/* Newest state first, where more than one snapshot and at least first_bytes (0: 8 MiB) are
	 * to be sent. */
	bool newest_first;
	uint64_t first_bytes;
};
/* Sends what target.ref names and reaches; the rest of it is not looked at, and it is copied. */
struct wr_sync *wr_sync_send_new(struct wr_repo *r, const struct wr_save_rec *target,
				 const struct wr_sync_send_opts *o);

/* ---- receiver ---- */

enum wr_sync_mode {
	WR_SYNC_PUSH = 1, /* the list becomes the repository's */
	WR_SYNC_AS_FILL,  /* the list goes to refs/warren/fill/, own refs stay */
	/* This repository is damaged. The sender offers all that its list, and those of our refs
	 * that it knows, reach; it sends what we lack or cannot read, if it can read it. No ref
	 * moves. Whether the repository is whole then is for wr_verify to say. */
	WR_SYNC_MEND,
	/* The list's side branches become branches here, under other names where these are taken;
	 * no ref of ours moves. */
	WR_SYNC_AS_SIDES,
};

struct wr_sync_recv_opts {
	enum wr_sync_mode mode;
	int64_t now; /* local clock, seconds: dates quarantines */
	/* LIMITs of one transfer; 0: the default */
	uint64_t max_bytes;   /* of packed objects; unbounded */
	uint64_t max_objects; /* 16 Mi */
	uint64_t max_object;  /* payload of one object; WR_OBJ_MAX */
	uint64_t min_free;    /* bytes that stay free on the file system; 0 */
	int64_t stale_s;      /* unused quarantines older than this are removed; 7 days */
	/* MEND: objects that lie in these packs (by name, "pack-HEX"; borrowed) are read before
	 * they count as here; all_suspect: every object is. */
	const char *const *suspect;
	size_t suspect_count;
	bool all_suspect;
};
/* LIMIT: refs of its own that a receiver tells; beyond it refs/warren/keep/ is left out. */
#define WR_SYNC_REFS_MAX 8192

/* Neither repository nor disk is touched before the first pull. target is copied. */
struct wr_sync *wr_sync_recv_new(struct wr_repo *r, const struct wr_save_rec *target,
				 const struct wr_sync_recv_opts *o);

struct wr_sync_commit {
	int64_t now;       /* local clock, seconds: dates refs/warren/keep/ */
	int64_t floor_s;   /* of refs/warren/keep/; negative: they stay for ever */
	const char *ident; /* for reflogs; as wr_ident makes it */
	/* Own tips off the line become branches of this name (with -2, -3 ... if there are more);
	 * NULL: they go to refs/warren/keep/ as everything else does. Begins with WR_SYNC_SIDE. */
	const char *side;
	/* The list of the save that was held so far; NULL: none. Of own branches that begin with
	 * WR_SYNC_SIDE only those that are in it make room. */
	const struct wr_save_rec *held;
	int lock_wait_s; /* for the repository's lock, as wr_lock_take */
};
struct wr_sync_result {
	uint64_t objects, bytes;                    /* installed */
	size_t refs_moved, refs_kept, refs_dropped; /* dropped: from refs/warren/keep/ */
	size_t sides; /* branches made for tips off the line, or that came as such */
};
/*
 * Only when READY, under the caller's locks: takes the repository's lock, checks base refs and
 * closure again, installs, moves the refs; durable when it returns 0.  The machine is DONE then and
 * has one frame left that says so to the sender: pump.  WR_E_CHANGED: RUNNING again, see above.
 * WR_E_BUSY (the lock): still READY.  Any other error: FAILED.  A crash in between leaves refs that
 * a commit of the same or a newer list sets right, and nothing that was reachable unreachable.
 */
int wr_sync_recv_commit(struct wr_sync *m, const struct wr_sync_commit *c,
			struct wr_sync_result *out, struct wr_err *err);
/* End it (either side, any status): the other side fails with this error, so does this one. What
 * came is kept for a resumption. */
void wr_sync_refuse(struct wr_sync *m, const struct wr_err *why);
/* Sign of life while READY, for the far side's idle limit; goes out with the next pull. */
void wr_sync_alive(struct wr_sync *m);

/* Drop what refs/warren/keep/ holds for longer than floor_s, and quarantines older than stale_s
 * (negative: leave alone), under the repository's lock, which the caller holds. */
int wr_sync_tidy(struct wr_repo *r, int64_t now, int64_t floor_s, int64_t stale_s,
		 size_t *out_dropped, struct wr_err *err);

struct wr_sync_weed {
	int64_t now, side_s, floor_s; /* floor_s: of refs/warren/keep/, as above */
	const char *ident;
	bool ahead; /* refs/warren/latest came ahead of its history */
};
/* Of the writer's own repository what its next list shall not have, under the repository's lock,
 * which the caller holds: side branches that are here for longer than side_s go to
 * refs/warren/keep/; a state that came ahead of its history goes when that is here, else it becomes
 * a side branch. And what refs/warren/keep/ holds for too long. */
int wr_sync_weed(struct wr_repo *r, const struct wr_sync_weed *w, struct wr_err *err);

/* ---- both ---- */

void wr_sync_free(struct wr_sync *m); /* NULL is fine; what a receiver holds on disk stays */
/* Bytes that came in, cut anywhere. Never fails: status tells. */
void wr_sync_feed(struct wr_sync *m, const void *p, size_t len);
/* What came behind the end of a machine that is DONE, or FAILED because the far side said so:
 * something else that runs over the same stream. Borrowed; 2 MiB at most. */
const void *wr_sync_rest(const struct wr_sync *m, size_t *out_len);
/* The far side has closed: FAILED, unless there was nothing more to come. */
void wr_sync_eof(struct wr_sync *m);
/* The next bytes to go out, at most cap; does a slice of the machine's own work when there are
 * none. 0: nothing now. */
size_t wr_sync_pull(struct wr_sync *m, void *p, size_t cap);
/* Has work of its own to do: pull again, whether or not something comes in. */
bool wr_sync_busy(const struct wr_sync *m);
enum wr_sync_status wr_sync_status(const struct wr_sync *m);
const struct wr_err *wr_sync_error(const struct wr_sync *m);

enum wr_sync_phase {
	WR_SYNC_PHASE_NEGOTIATE = 1,
	WR_SYNC_PHASE_OBJECTS,
	WR_SYNC_PHASE_CHECK,  /* sender: the receiver checks, or waits for its lock */
	WR_SYNC_PHASE_COMMIT, /* receiver: READY and after */
};
struct wr_sync_progress {
	enum wr_sync_phase phase;
	uint64_t objects, objects_total; /* of the transfer; total 0: not known yet */
	uint64_t bytes, bytes_total;
	uint64_t wire_in, wire_out; /* bytes of this machine */
	/* Sender: the far side has the newest state, which is of this time (seconds); 0: nothing
	 * is known of that. */
	int64_t first;
};
void wr_sync_progress(const struct wr_sync *m, struct wr_sync_progress *out);

/* ---- over descriptors ---- */

struct wr_sync_limits {
	uint64_t idle_ms; /* no byte in or out while waiting; 0: 30 s */
	/* Of waiting slow_ms in all, in which fewer than slow_bytes came, no more is given; then it
	 * begins anew. 0: none. */
	uint64_t slow_ms, slow_bytes;
	uint64_t total_ms; /* 0: none */
	uint64_t rate;     /* bytes per second going out; 0: none */
	uint64_t burst;    /* bytes; 0: a quarter of a second's worth */
};
typedef void (*wr_sync_progress_fn)(void *ctx, const struct wr_sync_progress *p);
/*
 * Move bytes until the machine is READY or DONE (0, and all it had to say is written) or FAILED (-1
 * with its error; what it had to say is offered, not waited for).  in_fd and out_fd: pipes or
 * stream sockets, perhaps the same; made non-blocking for the time.  progress (may be NULL) is
 * called at most ten times a second; *cancel (may be NULL) is looked at as often.
 */
int wr_sync_pump(struct wr_sync *m, int in_fd, int out_fd, const struct wr_sync_limits *l,
		 wr_sync_progress_fn progress, void *ctx, const atomic_bool *cancel,
		 struct wr_err *err);

#endif
