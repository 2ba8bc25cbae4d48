/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that fill up: at which mark each is, what is refused for that, who grew, the reserve
 * filled up again (host/node/room.h), and which other nodes are full.
 */
#ifndef WR_CONTROL_MARKS_H
#define WR_CONTROL_MARKS_H

#include "host/node/room.h"
#include "serve/control/control_int.h"

void wr_marks_begin(struct wr_control *c);
void wr_marks_end(struct wr_control *c);
void wr_marks_tick(struct wr_control *c);

/* As it is now; a mark that is reached or left is an event. */
enum wr_mark wr_marks_now(struct wr_control *c, size_t volume);
/* The volume for a new project: the one that is wished for (id or path), else the one with most
 * room. WR_E_DENIED: it takes, or all take, no new one. sees_all: the caller may know of all
 * projects, so the refusal names those that grew most. */
int wr_marks_pick(struct wr_control *c, const char *wish, bool sees_all, uint32_t *out,
		  struct wr_err *err);
/* May the project make a snapshot? WR_E_DENIED. Its own user reads the reason: it names nobody
 * else. */
int wr_marks_snapshot(struct wr_control *c, const struct wr_proj_row *row, struct wr_err *err);
/* Does no volume take a new project? */
bool wr_marks_full(struct wr_control *c);
/* A node of the fleet said whether it is full. */
void wr_marks_heard(struct wr_control *c, const struct wr_uuid *node, bool full);
bool wr_marks_node_full(struct wr_control *c, const struct wr_uuid *node);
/* What its limits counted now, of an active project. */
void wr_marks_used(struct wr_control *c, const struct wr_uuid *project, uint64_t bytes);
/* total, used, free, inodes, inodes_free, percent, mark, reserve and growers; total is null where
 * it cannot be asked. Gives the mark. */
enum wr_mark wr_marks_json(struct wr_control *c, size_t volume, json_t *o);
/* "93 % full, past its mark of 92 %" */
char *wr_marks_text(struct wr_control *c, size_t volume);

#endif
