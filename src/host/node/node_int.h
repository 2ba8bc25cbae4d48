/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: small JSON files below a descriptor, never through a link,
 * of bounded length in both directions; the layout of STATE and volumes. */
#ifndef WR_NODE_INT_H
#define WR_NODE_INT_H

#include "host/node/node.h"

#define WR_NODE_FORMAT 1   /* of every file of ours */
#define WR_VOLUME_FORMAT 1 /* of volume.json: what we write, and the newest we read */

/* LIMIT: files of one project and of the node; requests and results of operations. */
#define WR_FILE_MAX (64u << 10)
#define WR_OP_FILE_MAX (4u << 20)

/* Remove temporary files that a killed process left in dirfd longer ago than age_s. */
void wr_file_sweep(int dirfd, int64_t age_s);
/* The first line of a lock file; caller frees; NULL if there is none. */
char *wr_note_read(int dirfd, const char *name);

/* RFC 3339 of now. */
struct wr_short wr_now_text(void);

/* As node.json says it; who owns repositories is looked up by name, or is a number. */
int wr_node_user(const char *user, uid_t *out_uid, gid_t *out_gid, struct wr_err *err);
/* Fill root and the paths below it. config is read on the way; flags as of wr_node_open. */
int wr_node_paths(struct wr_node *n, const char *root, unsigned flags, struct wr_err *err);
/* node.json of an open state_fd. WR_E_NOT_FOUND. Volumes get path and id, descriptors -1. */
int wr_node_json_load(struct wr_node *n, struct wr_err *err);
int wr_node_json_store(const struct wr_node *n, struct wr_err *err);
/* Read node.json under STATE/node.lock, let fn change what was read, store it durably; n takes over
 * what says who it is. */
int wr_node_change(struct wr_node *n, int (*fn)(struct wr_node *fresh, void *ctx, struct wr_err *),
		   void *ctx, struct wr_err *err);
struct wr_node *wr_node_new(void);
void wr_volume_fini(struct wr_volume *v);
void wr_volume_append(struct wr_node *n, const struct wr_volume *taken);

/* The sentinel in the directory fd. WR_E_NOT_FOUND: there is none. *out_reserve: as it was asked
 * for; 0: by the size of the file system. */
int wr_sentinel_load(int fd, const char *path, struct wr_uuid *out_id, struct wr_uuid *out_node,
		     uint64_t *out_reserve, struct wr_err *err);
/* All of a new volume's reserve, or an error (room.c). */
int wr_room_set_aside(int fd, uint64_t wanted, struct wr_err *err);
/* Open it and look at its sentinel; descriptors are set. */
int wr_volume_open(const struct wr_node *n, struct wr_volume *v, struct wr_err *err);

#endif
