/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this folder: frames, the machine, histories and walks, quarantines. */
#ifndef WR_SYNC_INT_H
#define WR_SYNC_INT_H

#include "engine/pack/pack.h"
#include "fleet/sync/sync.h"
#include "sys/lock.h"

/* ---- frames (wire.c): u32 length of what follows the type, u8 type ---- */

#define WR_SYNC_MAGIC 0x5753594eu /* WSYN */
#define WR_SYNC_VERSION 1
#define WR_FRAME_HEAD 5
/* LIMIT: what follows the head of a frame. */
#define WR_FRAME_MAX (256u << 10)
/* DATA is cut into pieces of this size. */
#define WR_DATA_LEN ((size_t)64 << 10)

enum wr_frame {
	WR_FRAME_HELLO = 1, /* receiver: magic, version, number of refs, objects lie here? */
	WR_FRAME_REFS,      /* receiver: refs, until that number is reached */
	WR_FRAME_MORE,      /* sender: I do not know your branches; what is below them? */
	WR_FRAME_HAVES,     /* receiver: commits below its branches */
	WR_FRAME_BEGIN,     /* sender: stream, objects, bytes, refs used as base */
	WR_FRAME_HELD,      /* receiver: ids of objects that came before */
	WR_FRAME_DATA,      /* sender: entries, each behind its length */
	WR_FRAME_END,       /* sender: that was all */
	WR_FRAME_DONE,      /* receiver: committed */
	WR_FRAME_FAIL,      /* either: code, text, hint */
	WR_FRAME_WAIT,      /* either: still working */
	WR_FRAME_USE,       /* sender: which of those in HELD belong to the stream */
	WR_FRAME_FIRST,     /* sender: what follows is the newest state alone */
	WR_FRAME_OFFER,     /* sender: ids that it could send, to whom is damaged */
	WR_FRAME_WANT,      /* receiver: which of those in the last OFFER */
};

/* Bits of HELLO: a broken-off stream lies here; objects are wanted singly. */
#define WR_HELLO_RESUME 1
#define WR_HELLO_MEND 2
/* LIMIT: ids in an OFFER. */
#define WR_OFFER_IDS 8192

/* LIMIT: name of a ref on the wire. */
#define WR_SYNC_NAME_MAX 1024
/* LIMIT: commits named in HAVES. */
#define WR_SYNC_HAVES_MAX 4096
/* LIMIT: times that a receiver may begin again within one connection. */
#define WR_SYNC_AGAIN_MAX 16
/* Ids in one HELD; a multiple of 8. LIMIT: of all of them. */
#define WR_SYNC_HELD_STEP 12000u
#define WR_SYNC_HELD_MAX (16u << 20)
/* LIMIT: tags of tags. */
#define WR_SYNC_TAG_DEPTH 8

/* Objects that one slice of work looks at, and slices between two signs of life. */
#define WR_SLICE 256
#define WR_WAIT_EVERY 4

struct wr_sync_ref {
	char *name;
	struct wr_id id;
	bool used; /* receiver's refs: the stream builds on it */
};
struct wr_sync_list {
	struct wr_sync_ref *ref;
	size_t count, cap;
};
void wr_sync_list_add(struct wr_sync_list *l, const char *name, size_t len, const struct wr_id *id);
void wr_sync_list_fini(struct wr_sync_list *l);
const struct wr_sync_ref *wr_sync_list_find(const struct wr_sync_list *l, const char *name);

/* ---- where objects are read: the repository, and a quarantine in front of it ---- */

struct wr_quar;
struct wr_src {
	struct wr_repo *repo;
	struct wr_reader *rd;
	struct wr_quar *quar; /* NULL: none */
};
/* As wr_repo_read with the hash checked. */
int wr_src_read(const struct wr_src *s, const struct wr_id *id, enum wr_obj_type want,
		enum wr_obj_type *out_type, struct wr_buf *out, struct wr_err *err);
int wr_src_stat(const struct wr_src *s, const struct wr_id *id, enum wr_obj_type *out_type,
		struct wr_err *err);
/* What a tag object points to. */
int wr_tag_parse(const struct wr_buf *b, struct wr_id *out, enum wr_obj_type *out_type,
		 struct wr_err *err);

/* ---- closure.c: histories ---- */

/*
 * Two sets of commits, what the target reaches and what the base reaches, found by walking both
 * from the newest dates on until all that only the target reaches is known.  Wrong dates may leave
 * a commit of the base unrecognised, never the other way round.
 *
 * Behind a commit that is neither new nor known to be of the base the receiver does not look: what
 * merely lies in its repository proves nothing.
 */
struct wr_hist_commit {
	struct wr_id id, tree;
	int64_t time;
	size_t parent; /* the first one in wr_hist.parent */
	uint32_t parents;
	bool target, base, quar; /* quar: it is in the quarantine */
	bool told_target, told_base, queued, unread;
};
struct wr_hist {
	const struct wr_src *src;
	bool strict;           /* errors of the target's commits end the walk */
	struct wr_idmap known; /* id -> number of commit + 1 */
	struct wr_hist_commit *c;
	size_t count, cap;
	struct wr_id *parent;
	size_t parent_count, parent_cap;
	size_t *heap;
	size_t heap_count, heap_cap;
	size_t open; /* queued and of interest */
	struct wr_buf buf;
};
void wr_hist_init(struct wr_hist *h, const struct wr_src *src);
void wr_hist_fini(struct wr_hist *h);
/* Also an id that is no commit or not there: unless strict and target it is then left out. */
int wr_hist_add(struct wr_hist *h, const struct wr_id *id, bool target, bool base,
		struct wr_err *err);
/* At most budget commits: 1 = there is more, 0, -1. */
int wr_hist_step(struct wr_hist *h, size_t budget, struct wr_err *err);
struct wr_hist_commit *wr_hist_find(const struct wr_hist *h, const struct wr_id *id);
/* Numbers of the target's commits that are new (receiver: in the quarantine), parents first;
 * *out is the caller's. */
void wr_hist_new(const struct wr_hist *h, size_t **out, size_t *out_count);
/* Which tree to put beside that of a new commit without parents: of the one before it among those
 * (fresh, as wr_hist_new gave them), else the base's newest; NULL: none. */
const struct wr_id *wr_hist_beside(const struct wr_hist *h, const size_t *fresh, size_t fresh_at);

/* ---- closure.c: trees beside trees ---- */

/*
 * A reference in a tree that is looked at: known says that the tree beside it has it, too.
 * 1: look into it (a tree), 0: leave it, -1.
 */
typedef int (*wr_pair_fn)(void *ctx, const struct wr_id *id, enum wr_obj_type type, bool known,
			  struct wr_err *err);
struct wr_pair_set;
struct wr_pair_job {
	struct wr_id id, with;
	struct wr_pair_set *set; /* ids of the whole chunk tree beside it */
	bool has_with;
	bool chunks; /* with is a chunk tree: make its set */
};
struct wr_pairs {
	const struct wr_src *src;
	wr_pair_fn fn;
	void *ctx;
	/* May this tree stand beside another? NULL: all may. */
	bool (*with_ok)(void *ctx, const struct wr_id *id);
	struct wr_pair_job *job;
	size_t count, cap;
	struct wr_buf a, b, c;
};
void wr_pairs_fini(struct wr_pairs *p);
/* with may be NULL. */
void wr_pairs_push(struct wr_pairs *p, const struct wr_id *tree, const struct wr_id *with);
int wr_pairs_step(struct wr_pairs *p, size_t budget, struct wr_err *err);

/* ---- closure.c: everything that something reaches ---- */

struct wr_id_marks {
	struct wr_repo *repo;
	uint64_t *word, bits; /* one per packed object */
	struct wr_idmap other;
};
void wr_id_marks_init(struct wr_id_marks *m, struct wr_repo *r);
void wr_id_marks_fini(struct wr_id_marks *m);
bool wr_id_marks_has(const struct wr_id_marks *m, const struct wr_id *id);
bool wr_id_marks_set(struct wr_id_marks *m, const struct wr_id *id); /* true: it is new */

/* Every object is told once; 1 ends the walk. */
typedef int (*wr_full_fn)(void *ctx, const struct wr_id *id, enum wr_obj_type type);
struct wr_full_item {
	struct wr_id id;
	uint8_t type;
};
struct wr_full {
	const struct wr_src *src; /* without a quarantine */
	bool lenient;             /* what cannot be read is left out */
	wr_full_fn fn;
	void *ctx;
	bool over;
	struct wr_id_marks marks;
	struct wr_full_item *item;
	size_t count, cap;
	struct wr_buf buf;
};
void wr_full_init(struct wr_full *f, const struct wr_src *src);
void wr_full_fini(struct wr_full *f);
void wr_full_push(struct wr_full *f, const struct wr_id *id, enum wr_obj_type type);
int wr_full_step(struct wr_full *f, size_t budget, struct wr_err *err);

/* ---- quarantine.c: REPO/warren/incoming/STREAM/{lock,pack,idx} ---- */

/* Its first 8 bytes tell the list of refs, the rest the objects in their order. */
struct wr_stream_id {
	uint8_t b[WR_ID_LEN];
};
#define WR_STREAM_LIST_LEN 8

struct wr_quar {
	struct wr_repo *repo;
	struct wr_stream_id stream;
	struct wr_lock lock;
	int dir_fd, fd;
	uint64_t total; /* objects */
	uint64_t bytes; /* of the pack so far, whole entries only */
	struct wr_sha1 sha;
	struct wr_idx_entry *e; /* until sealed; the type stands in the top bits of off */
	size_t count, cap;
	struct wr_buf out; /* not written yet */
	uint64_t out_off;  /* where it goes */
	uint64_t flushed;  /* bytes handed to writeback */
	uint64_t settled;  /* bytes on the disk */
	uint64_t others;   /* bytes of all that came but blobs */
	/* reading an old one again, choosing what to keep */
	struct wr_pack pack;
	struct wr_pack_reader *pr;
	struct wr_buf payload, raw;
	bool keeping;
	size_t keep_at, keep_count; /* entries looked at, of how many */
	uint64_t keep_end;          /* where they ended */
	/* sealed: whole, with trailer and index */
	bool sealed;
	struct wr_id sum;
	struct wr_idx idx;
	uint8_t *type; /* by position in idx */
};
/* The largest one that nobody uses, of whatever stream; NULL: none. To be loaded. */
struct wr_quar *wr_quar_take(struct wr_repo *r, uint64_t max_bytes);
/* A new one, empty. */
struct wr_quar *wr_quar_new(struct wr_repo *r, const struct wr_stream_id *id, uint64_t total,
			    struct wr_err *err);
/* A sealed one is to be loaded again. */
int wr_quar_unseal(struct wr_quar *q, struct wr_err *err);
/* At most budget entries: 1 = there is more, 0 = all that was whole is loaded, -1. */
int wr_quar_load(struct wr_quar *q, size_t budget, struct wr_err *err);
/* After it: keep the entries whose bit is set (lowest first) for a stream of total objects; what is
 * behind them moves up. Returns as wr_quar_load. */
int wr_quar_keep(struct wr_quar *q, const uint8_t *bits, uint64_t total, size_t budget,
		 struct wr_err *err);
/* The id of an object that came. The same entry is the next to be added, if any is: it goes into
 * the pack's trailer. */
struct wr_id wr_quar_hash(struct wr_quar *q, enum wr_obj_type type, const struct wr_buf *payload,
			  const void *raw, size_t len);
int wr_quar_add(struct wr_quar *q, enum wr_obj_type type, const struct wr_id *id, uint32_t crc,
		const void *raw, size_t len, struct wr_err *err);
/* All are there: trailer, index. WR_E_CORRUPT: an object came twice. */
int wr_quar_seal(struct wr_quar *q, struct wr_err *err);
int wr_quar_sync(struct wr_quar *q, struct wr_err *err);
/* Position in the sealed one's index, -1. */
int64_t wr_quar_find_id(const struct wr_quar *q, const struct wr_id *id);
int wr_quar_read(struct wr_quar *q, uint32_t pos, enum wr_obj_type *out_type, struct wr_buf *out,
		 struct wr_err *err);
/* Publish as a pack of the repository (locked); the quarantine is gone then. */
int wr_quar_install(struct wr_quar *q, struct wr_err *err);
void wr_quar_drop(struct wr_quar *q);  /* remove from the disk too */
void wr_quar_close(struct wr_quar *q); /* what is there stays; NULL is fine */
/* Remove those that nobody uses and that were not touched for stale_s. */
void wr_quar_tidy(struct wr_repo *r, int64_t now, int64_t stale_s);

/* ---- commit.c ---- */

/* May the list be a repository's: names, order, none below another? sides: all are side branches.
 */
int wr_sync_check_list(struct wr_repo *r, const struct wr_sync_list *l, bool sides,
		       struct wr_err *err);
int wr_sync_move_refs(struct wr_repo *r, enum wr_sync_mode mode, const struct wr_sync_list *target,
		      const struct wr_sync_commit *c, struct wr_sync_result *out,
		      struct wr_err *err);
/* A newest state came ahead of its history. */
int wr_sync_put_latest(struct wr_repo *r, const struct wr_id *id, const struct wr_sync_commit *c,
		       struct wr_err *err);
int wr_sync_drop_keeps(struct wr_repo *r, int64_t now, int64_t floor_s, size_t *out_dropped,
		       struct wr_err *err);
/* First bytes of the digest of a list. */
void wr_sync_list_digest(const struct wr_sync_list *l, uint8_t out[WR_ID_LEN]);

/* ---- the machine ---- */

struct wr_sync_ops {
	/* One frame of the far side, but WAIT and FAIL. */
	int (*frame)(struct wr_sync *m, enum wr_frame type, struct wr_rd *r, struct wr_err *err);
	/* A slice of own work; only called while busy. */
	int (*work)(struct wr_sync *m, struct wr_err *err);
	bool (*busy)(const struct wr_sync *m);
	void (*free)(struct wr_sync *m);
};

struct wr_sync {
	const struct wr_sync_ops *ops;
	enum wr_sync_status status;
	struct wr_err err;
	struct wr_src src; /* rd is made when first needed */
	struct wr_sync_list target;
	struct wr_buf in, out;
	size_t in_at, out_at;
	bool eof;
	unsigned slices; /* since the last sign of life */
	struct wr_sync_progress progress;
};
void wr_sync_init(struct wr_sync *m, const struct wr_sync_ops *ops, struct wr_repo *r,
		  const struct wr_save_rec *target);
void wr_sync_fail(struct wr_sync *m, const struct wr_err *why);
/* Append a frame: begin gives where its body starts, end closes it. */
size_t wr_frame_begin(struct wr_sync *m, enum wr_frame type);
void wr_frame_end(struct wr_sync *m, size_t at);
/* Refs of a REFS frame. */
void wr_frame_add_ref(struct wr_buf *b, const char *name, const struct wr_id *id);
int wr_sync_out_of_turn(enum wr_frame type, struct wr_err *err);

#endif
