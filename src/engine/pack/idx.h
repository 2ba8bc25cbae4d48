/* SPDX-License-Identifier: Apache-2.0 */
/* Pack indexes (.idx), git's versions 1 and 2, and bup's multi-indexes (.midx, version 4). */
#ifndef WR_IDX_H
#define WR_IDX_H

#include "base/buf.h"
#include "engine/object/id.h"

struct wr_idx {
	const uint8_t *map; /* whole file, read-only; thread safe */
	size_t map_len;
	unsigned version; /* 1 or 2 */
	uint32_t count;
	/* tables inside map, set by open */
	const uint8_t *fanout, *ids, *crcs, *offs, *offs64;
	size_t id_stride; /* 20, or 24 in version 1 */
	size_t offs64_count;
	bool mapped; /* close unmaps */
};

/* Map and check the shape: size, fan-out ascending, table bounds. Not the checksum and not the
 * order of the ids (wr_idx_check does). WR_E_CORRUPT names the file. */
int wr_idx_open(struct wr_idx *x, int dirfd, const char *name, struct wr_err *err);
int wr_idx_open_mem(struct wr_idx *x, const void *p, size_t len, struct wr_err *err); /* borrows */
void wr_idx_close(struct wr_idx *x);
/* Position of id, or -1. */
int64_t wr_idx_find(const struct wr_idx *x, const struct wr_id *id);
/* Ids with this prefix of prefix_bits bits: first position; *out_count how many. */
uint32_t wr_idx_prefix(const struct wr_idx *x, const struct wr_id *prefix, unsigned prefix_bits,
		       uint32_t *out_count);
struct wr_id wr_idx_id(const struct wr_idx *x, uint32_t pos);
/* Offset in the pack; UINT64_MAX if the table points outside. */
uint64_t wr_idx_offset(const struct wr_idx *x, uint32_t pos);
bool wr_idx_crc(const struct wr_idx *x, uint32_t pos, uint32_t *out); /* false in version 1 */
/* Trailer SHA-1 of the pack it belongs to. */
struct wr_id wr_idx_pack_sum(const struct wr_idx *x);
/* Own checksum, strictly ascending ids, fan-out equal to what the ids say, offsets in range. */
int wr_idx_check(const struct wr_idx *x, uint64_t pack_size, struct wr_err *err);

struct wr_idx_entry {
	struct wr_id id;
	uint32_t crc;
	uint64_t off;
};
/* Sort the entries by id and append a version 2 index to *out. */
void wr_idx_format(struct wr_buf *out, struct wr_idx_entry *e, size_t count,
		   const struct wr_id *pack_sum);

struct wr_midx {
	const uint8_t *map;
	size_t map_len;
	unsigned bits;
	uint64_t count;
	const uint8_t *table, *ids, *which;
	const char **name; /* idx base names, owned array, strings in map or names_copy */
	char *names_copy;
	size_t name_count;
	bool mapped;
};
int wr_midx_open(struct wr_midx *m, int dirfd, const char *name, struct wr_err *err);
int wr_midx_open_mem(struct wr_midx *m, const void *p, size_t len, struct wr_err *err);
void wr_midx_close(struct wr_midx *m);
/* Number (into name) of an idx that has id, or -1. */
int64_t wr_midx_find(const struct wr_midx *m, const struct wr_id *id);
/* Write dirfd/midx-<40 hex>.midx over these indexes (opened, with base names): temporary file,
 * then rename.  Bounded memory: a merge straight into the file.  bup uses it too. */
int wr_midx_write(int dirfd, const struct wr_idx *const *idx, const char *const *names,
		  size_t count, struct wr_err *err);

#endif
