/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decisions of control, apart from what carries them out: who may call what, which saves are
 * joined, when a save is due, how many refusals are told.  Pure.
 */
#ifndef WR_CONTROL_RULES_H
#define WR_CONTROL_RULES_H

#include "base/json.h"
#include "model/api.h"
#include "model/uuid.h"

/* ---- authority ---- */

enum wr_right { WR_RIGHT_READ = 1, WR_RIGHT_OPERATE = 2, WR_RIGHT_ADMIN = 4 };

/* Who is behind a call, from evidence that control checked itself. */
struct wr_who {
	uint32_t uid;
	unsigned rights; /* enum wr_right, over all projects; ADMIN and OPERATE include READ */
	struct wr_uuid own[2]; /* projects of his own: by uid, by token */
	size_t own_count;
	char by[64]; /* "uid 1000", "token ab12" */
};
void wr_who_init(struct wr_who *w, uint32_t uid);
/* Another piece of evidence: rights only ever grow. project may be NULL. */
void wr_who_grant(struct wr_who *w, enum wr_scope scope, const struct wr_uuid *project);
bool wr_who_owns(const struct wr_who *w, const struct wr_uuid *project);
/* May he see this project in lists? NULL: things of the node itself. */
bool wr_who_sees(const struct wr_who *w, const struct wr_uuid *project);
/* project: the one the call names, NULL if it names none. */
bool wr_who_may(const struct wr_who *w, const struct wr_api_call *api,
		const struct wr_uuid *project);

/* ---- rates ---- */

struct wr_rate {
	uint64_t began_ns;
	unsigned told, hidden;
};
/* One more at now: true if it is among the first `most` of its minute. *out_hidden: how many the
 * minute before kept hidden, if a new one begins with this call. */
bool wr_rate_pass(struct wr_rate *r, uint64_t now_ns, unsigned most, unsigned *out_hidden);
/* The hidden ones of a minute that is over; 0 if there are none or it is not over. */
unsigned wr_rate_flush(struct wr_rate *r, uint64_t now_ns);

/* ---- saves ---- */

/* Is the wish (its arguments) fulfilled by a save that waits with these? *out_merged, if not NULL:
 * arguments that fulfil both (new reference). */
bool wr_save_joins(const json_t *waiting, const json_t *wish, json_t **out_merged);

/* Second (of a monotonic clock) at which a project is to be saved whose last scan began at last_s:
 * at its own phase of the interval, so that many projects are spread, never later than every_s
 * after the last nor sooner than min_s. every_s 0: never (UINT64_MAX). */
uint64_t wr_save_due(uint64_t last_s, uint64_t every_s, uint64_t min_s, const struct wr_uuid *id);

/* ---- holders: JSON [{"name","since"}] ---- */

/* From the text in the index; NULL or damaged text gives an empty array. New reference. */
json_t *wr_holders_parse(const char *text);
/* false: it was there already. */
bool wr_holders_add(json_t *holders, const char *name, int64_t now);
bool wr_holders_drop(json_t *holders, const char *name);
char *wr_holders_text(const json_t *holders); /* caller frees */
int wr_holder_check(const char *name, struct wr_err *err);
/* WR_E_LIMIT if there are too many others. */
int wr_holder_room(const json_t *holders, const char *name, struct wr_err *err);

/* A pattern of names with * and ?. */
bool wr_glob_name(const char *pattern, const char *name);

#endif
