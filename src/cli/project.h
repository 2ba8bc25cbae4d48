/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The project that a command is about.  Where the table says [ID], it may be left out: then
 * $WARREN_PROJECT names it, else it is the project whose home contains the current directory.  "."
 * stands for that one where an ID is written.
 */
#ifndef WR_PROJECT_H
#define WR_PROJECT_H

#include "cli/client.h"

struct wr_target {
	char *id;   /* what to send: as typed, of the environment, or found; owned */
	char *home; /* of one that was found by the current directory; else NULL; owned */
	const char *const *pos; /* the arguments behind the ID; borrowed from the arguments */
	size_t pos_count;
};
/* WR_E_USAGE: none is meant; with a hint how to name one. */
int wr_target_find(struct wr_client *c, const struct wr_args *a, struct wr_target *out,
		   struct wr_err *err);
/* What most commands begin with: a call about the project of the arguments. */
struct wr_about {
	struct wr_client client;
	struct wr_target target;
	struct wr_ask req;
};
int wr_about_begin(struct wr_about *b, const struct wr_args *a, enum wr_api_call_id call,
		   struct wr_err *err);
void wr_about_fini(struct wr_about *b);
/* Is an ID among the arguments? */
bool wr_target_given(const struct wr_args *a);
void wr_target_fini(struct wr_target *t);
/* One that stands alone; NULL or "." means the one here. *out_home may be NULL. */
int wr_target_resolve(struct wr_client *c, const char *ref, char **out_id, char **out_home,
		      struct wr_err *err);
/* A path in the project from one as typed: a full path that lies in its home loses the home.
 * Borrowed from path. */
const char *wr_target_path(const struct wr_target *t, const char *path);
/* For what cannot be undone, and for what must mean the same tomorrow: a full id or a name, never a
 * prefix. */
int wr_target_exact(const char *ref, struct wr_err *err);

/* SNAP[:PATH] cut at the colon that is none of a time's; *out_path: NULL if there is no path.  The
 * caller frees both. */
void wr_snapshot_cut(const char *spec, char **out_snap, char **out_path);

#endif
