/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into a repository: thread-safe, deduplicating, children before parents.
 *
 * Invariant: a pack is published only when every object put before its last one is in it or in an
 * earlier pack, so a published tree never lacks what its writer put before it.  An object counts as
 * stored if a pack has it; the caller may not put a parent before its children's puts returned.
 */
#ifndef WR_SINK_H
#define WR_SINK_H

#include "engine/repo/repo.h"

struct wr_sink;

struct wr_sink_stats {
	uint64_t objects_new, bytes_new; /* bytes: compressed, as stored */
	uint64_t raw_new;                /* payload bytes of the new objects */
	uint64_t packs;
};

struct wr_sink_opts {
	int level;    /* of wr_deflater_new */
	bool dry_run; /* compute ids, store nothing */
	unsigned threads;
	/* An object for which this says true is stored again although a pack has it (repair). */
	bool (*damaged)(void *ctx, const struct wr_id *id);
	bool only_damaged; /* everything else counts as stored */
	void *ctx;
};

/* The repository must be locked unless dry_run. */
struct wr_sink *wr_sink_open(struct wr_repo *r, const struct wr_sink_opts *o, struct wr_err *err);
/* Store one object unless it is there. thread: 0 .. threads-1, the caller's own number. */
int wr_sink_put(struct wr_sink *s, unsigned thread, enum wr_obj_type type, const void *p,
		size_t len, struct wr_id *out, struct wr_err *err);
/* Likewise, and the bytes that it took as it is stored are added to *counter, atomically. */
int wr_sink_put_counted(struct wr_sink *s, unsigned thread, enum wr_obj_type type, const void *p,
			size_t len, struct wr_id *out, uint64_t *counter, struct wr_err *err);
/* Was it put in this session, or is it in a pack? */
bool wr_sink_has(struct wr_sink *s, const struct wr_id *id);
void wr_sink_stats(const struct wr_sink *s, struct wr_sink_stats *out);
/* Publish all; durable when it returns. Freed either way. wr_sink_abort drops the open pack. */
int wr_sink_commit(struct wr_sink *s, struct wr_sink_stats *out, struct wr_err *err);
void wr_sink_abort(struct wr_sink *s);

#endif
