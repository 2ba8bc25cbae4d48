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
	struct wr_uuid by_uid; /* the one that is his by his uid; s[0] = 0: none */
	bool nobody;           /* came by a network: his uid is none */
	char by[64];           /* "uid 1000", "token ab12", "address 192.0.2.1" */
};
void wr_who_init(struct wr_who *w, uint32_t uid);
/* Someone at the other end of a network: nothing but a token says who he is. */
void wr_who_init_nobody(struct wr_who *w, const char *address);
/* Another piece of evidence: rights only ever grow. project may be NULL. */
void wr_who_grant(struct wr_who *w, enum wr_scope scope, const struct wr_uuid *project);
bool wr_who_owns(const struct wr_who *w, const struct wr_uuid *project);
/* May he see this project in lists? NULL: things of the node itself. */
bool wr_who_sees(const struct wr_who *w, const struct wr_uuid *project);
/* project: the one the call names, NULL if it names none. */
bool wr_who_may(const struct wr_who *w, const struct wr_api_call *api,
		const struct wr_uuid *project);
/* May he make, see and revoke tokens of that project (NULL: of others)? A token of a project makes
 * no further ones: it may be short-lived, and they would outlive it. */
bool wr_who_mints(const struct wr_who *w, const struct wr_uuid *project);

/* ---- rates ---- */

struct wr_tally {
	uint64_t began_ns;
	unsigned told, hidden;
};
/* One more at now: true if it is among the first `most` of its minute. *out_hidden: how many the
 * minute before kept hidden, if a new one begins with this call. */
bool wr_tally_pass(struct wr_tally *r, uint64_t now_ns, unsigned most, unsigned *out_hidden);
/* The hidden ones of a minute that is over; 0 if there are none or it is not over. */
unsigned wr_tally_flush(struct wr_tally *r, uint64_t now_ns);

/* ---- wrong tokens ---- */

/* Where a connection came from: an IPv4 address, or the network of an IPv6 one. */
struct wr_from {
	uint8_t b[16];
};
/* LIMIT: addresses remembered; who comes as one more takes the place of the oldest. */
#define WR_WRONGS_MAX 128
struct wr_wrongs {
	struct {
		struct wr_from from;
		uint64_t began_ns; /* 0: free */
		unsigned count;
	} of[WR_WRONGS_MAX];
};
/* Did so many come from there within a minute that no further token is looked at? */
bool wr_wrongs_too_many(const struct wr_wrongs *w, const struct wr_from *from, uint64_t now_ns,
			unsigned most);
/* One more. True if it is the last one that is looked at in its minute. */
bool wr_wrongs_add(struct wr_wrongs *w, const struct wr_from *from, uint64_t now_ns, unsigned most);

/* ---- counters of other nodes (M5) ---- */

/* LIMIT: numbers that are younger than a minute. A node's grows at most every 10 s. */
#define WR_COUNTER_SLOTS 8
struct wr_counters {
	uint64_t settled; /* the greatest one that was first seen more than a minute ago */
	struct {
		uint64_t counter, at_ns;
	} young[WR_COUNTER_SLOTS]; /* ascending, both */
	size_t count;
};
void wr_counters_init(struct wr_counters *k, uint64_t settled);
/* A message with that counter came. 0: fine; else it is behind this one, which was seen for longer
 * than any message is on its way. */
uint64_t wr_counters_see(struct wr_counters *k, uint64_t counter, uint64_t now_ns);
uint64_t wr_counters_newest(const struct wr_counters *k);

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
