/* SPDX-License-Identifier: Apache-2.0 */
/* Where a repository's space goes: sizes, ratios, the largest files, and what each snapshot alone
 * holds, that is what its deletion would free. */
#ifndef WR_SPACE_H
#define WR_SPACE_H

#include "engine/repo/resolve.h"

struct wr_space_file {
	uint64_t bytes;
	char *path; /* in the snapshot, any bytes; owned */
	size_t path_len;
	char *snapshot; /* BRANCH/NAME of the newest it is in; owned */
};

struct wr_space_snap {
	struct wr_id commit;
	char *snapshot; /* BRANCH/NAME; owned */
	int64_t time;
	uint64_t files_bytes; /* all its files as users see them */
	uint64_t alone_bytes; /* stored bytes that no other snapshot needs */
	uint64_t alone_objects;
};

/* LIMIT: how many of the largest files are kept. */
#define WR_SPACE_FILES 10

struct wr_space {
	uint64_t branches, tags, snapshots, packs, objects;
	uint64_t pack_bytes, index_bytes;
	uint64_t raw_bytes;       /* of all packed objects, uncompressed */
	uint64_t original_bytes;  /* all files of all snapshots as users see them */
	uint64_t unreached_bytes; /* stored, in no snapshot: garbage or a killed save's */
	struct wr_space_file file[WR_SPACE_FILES];
	size_t file_count;
	struct wr_space_snap *snap; /* newest first, branch after branch */
	size_t snap_count;
};

/* Memory: 4 bytes per object, 32 per directory tree. progress (may be NULL) gets snapshots done. */
int wr_space_measure(struct wr_repo *r, void (*progress)(void *ctx, uint64_t done, uint64_t total),
		     void *ctx, struct wr_space *out, struct wr_err *err);
void wr_space_fini(struct wr_space *s);

#endif
