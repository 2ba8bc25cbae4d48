/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of a snapshot as people see it: real names, metadata beside each entry, chunk trees
 * shown as the files they are.  Loaded whole; memory is O(entries of this directory).
 */
#ifndef WR_DIRVIEW_H
#define WR_DIRVIEW_H

#include "engine/object/meta.h"
#include "engine/repo/repo.h"

enum wr_kind { WR_KIND_NONE, WR_KIND_FILE, WR_KIND_LINK, WR_KIND_DIR };

struct wr_dirent {
	const char *name; /* real name, NUL-terminated, may hold any byte but '/' and NUL */
	size_t name_len;
	uint32_t git_mode; /* of the tree entry */
	bool chunked;      /* a file stored as a chunk tree */
	struct wr_id id;
	struct wr_bytes raw; /* encoded metadata entry; p NULL if none (directories have none here:
				theirs is self_raw of their own view) */
};

struct wr_dirview {
	struct wr_id tree;
	struct wr_dirent *ent; /* ascending by name, bytewise */
	size_t count;
	struct wr_bytes self_raw; /* the directory's own metadata entry, p NULL if there is none */
	struct wr_buf tree_bytes, bupm_bytes, names; /* storage of the above */
};
#define WR_DIRVIEW_INIT \
	{               \
		0       \
	}

/* Load a directory tree; ids of what is read are checked.  A missing .bupm is fine (git-made
 * trees); one whose entries do not match the tree in number is WR_E_CORRUPT, as is a name that real
 * names cannot be ("", ".", "..", with '/' or NUL, or twice).  Gitlinks (160000) are left out. */
int wr_dirview_load(struct wr_reader *rd, const struct wr_id *tree, struct wr_dirview *out,
		    struct wr_err *err);
/* As above without reading metadata: self_raw and every raw stay NULL. */
int wr_dirview_load_names(struct wr_reader *rd, const struct wr_id *tree, struct wr_dirview *out,
			  struct wr_err *err);
void wr_dirview_fini(struct wr_dirview *v);
/* By binary search; NULL if absent. */
const struct wr_dirent *wr_dirview_find(const struct wr_dirview *v, const void *name, size_t len);

enum wr_kind wr_dirent_kind(const struct wr_dirent *e);
/* Decode the entry's metadata; without any, what git modes say: 0644, 0755 for directories, no
 * owner, time 0, size -1 (has_common stays false).  Borrows from the view and scratch. */
int wr_dirent_meta(const struct wr_dirent *e, struct wr_meta *out, struct wr_buf *scratch,
		   struct wr_err *err);
int wr_dirview_self_meta(const struct wr_dirview *v, struct wr_meta *out, struct wr_buf *scratch,
			 struct wr_err *err);

/* As wr_dirview_self_meta of a directory that is not loaded: reads no more of its .bupm than its
 * own entry needs. Borrows from storage and scratch. */
int wr_dir_meta(struct wr_reader *rd, const struct wr_id *tree, struct wr_meta *out,
		struct wr_buf *storage, struct wr_buf *scratch, struct wr_err *err);

/* Size of a file's content: from its metadata, else from the chunk tree or the blob. */
int wr_dirent_size(struct wr_reader *rd, const struct wr_dirent *e, uint64_t *out,
		   struct wr_err *err);

/* The same for content whose metadata is not at hand. */
int wr_content_size(struct wr_reader *rd, const struct wr_id *id, bool chunked, uint64_t *out,
		    struct wr_err *err);

/* LIMIT: directories within directories, for all that walk trees. */
#define WR_TREE_DEPTH_MAX 10000
/* LIMIT: chunk trees of 16 levels. */
#define WR_CHUNK_DEPTH_MAX 16

/* Hand the content of a file or link, in order and in pieces of at most one chunk, to fn; a nonzero
 * return of fn ends it with that value.  Ids are checked before anything is handed out.  The names
 * of a chunk tree, offsets, are held against what really comes, so the work is bounded by the bytes
 * handed out. */
typedef int (*wr_piece_fn)(void *ctx, const void *p, size_t len, struct wr_err *err);
int wr_content_each(struct wr_reader *rd, const struct wr_id *id, bool chunked, wr_piece_fn fn,
		    void *ctx, struct wr_err *err);

/* What a path inside a snapshot leads to. Symlinks are not followed; "", "." and "/" are the root,
 * ".." is WR_E_INVALID. */
struct wr_at {
	bool is_dir;
	struct wr_id tree;           /* if is_dir: of the directory itself */
	struct wr_dirview in;        /* else: the directory that holds it, */
	const struct wr_dirent *ent; /* and its entry there */
};
#define WR_AT_INIT \
	{          \
		0  \
	}
/* WR_E_NOT_FOUND names the part that is missing. path has len bytes. */
int wr_at_find(struct wr_reader *rd, const struct wr_id *root, const char *path, size_t len,
	       struct wr_at *out, struct wr_err *err);
void wr_at_fini(struct wr_at *a);

#endif
