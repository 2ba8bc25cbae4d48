/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that look at snapshots share. */
#ifndef WR_VIEW_H
#define WR_VIEW_H

#include "cli/out.h"
#include "engine/repo/resolve.h"
#include "engine/snap/dirview.h"

struct wr_args;

struct wr_view {
	struct wr_repo *repo;
	struct wr_reader *rd;
	int64_t now; /* what relative times count from */
};
/* The repository that the arguments name, for reading. */
int wr_view_open(const struct wr_args *a, struct wr_view *v, struct wr_err *err);
void wr_view_close(struct wr_view *v); /* harmless twice */

/* SNAP[:PATH] and where it leads. */
struct wr_place {
	struct wr_snap snap;
	char *path; /* as typed behind the ':', NULL if there is none */
	struct wr_at at;
};
void wr_place_fini(struct wr_place *p);
int wr_place_find(struct wr_view *v, const char *spec, struct wr_place *out, struct wr_err *err);
/* SNAP without a path: WR_E_USAGE if there is one. */
int wr_snap_find(struct wr_view *v, const char *spec, struct wr_snap *out, struct wr_err *err);

/* "main/2026-11-22-101530": how a snapshot is typed; one addressed by id or tag gives its id. */
struct wr_snap_name {
	char s[360];
};
struct wr_snap_name wr_snap_name(const struct wr_snap *s);

/* "file", "directory", "symlink", "fifo", ... of st_mode. */
const char *wr_type_name(uint32_t mode);
/* The same of what a tree alone tells. */
const char *wr_kind_name(enum wr_kind kind);
/* "drwxr-xr-x" */
struct wr_mode_text {
	char s[11];
};
struct wr_mode_text wr_mode_text(uint32_t mode);

/* Members "snapshot", "branch", "name", "time", "commit" of obj; branch and name only if the
 * snapshot was addressed through a branch. */
void wr_json_snap(json_t *obj, const struct wr_snap *s);
/* "mode": "0644" */
void wr_json_mode(json_t *obj, uint32_t mode);

#endif
