/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share: the parse of an entry's head and the buffered reader. */
#ifndef WR_PACK_INT_H
#define WR_PACK_INT_H

#include "engine/pack/pack.h"

#define WR_PACK_HEAD_LEN 12
#define WR_PACK_SUM_LEN WR_ID_LEN
/* Longest head of an entry: type and size, then an id or an offset. */
#define WR_ENTRY_HEAD_MAX 32
/* First read of an object's stream; longer ones take a second. */
#define WR_PACK_GUESS ((size_t)128 << 10)
/* A buffer that one large object made this large is given back after it. */
#define WR_PACK_KEEP ((size_t)4 << 20)

/* Head of the entry at off. */
struct wr_pack_entry {
	uint64_t off;
	size_t head_len;
	uint64_t size;         /* of what its stream inflates to */
	enum wr_obj_type type; /* deltas included */
	uint64_t base_off;     /* of WR_OBJ_OFS_DELTA */
	struct wr_id base;     /* of WR_OBJ_REF_DELTA */
};

/* Parse the head from the bytes at p, of which len are there and `rest` are left in the pack.
 * Sizes are checked against WR_OBJ_MAX and against what deflate can do. */
int wr_pack_entry_parse(const uint8_t *p, size_t len, uint64_t off, uint64_t rest,
			struct wr_pack_entry *out, struct wr_err *err);
/* The head of a whole object's entry; gives its length. */
size_t wr_pack_head_format(uint8_t head[WR_ENTRY_HEAD_MAX], enum wr_obj_type type, uint64_t size);
static inline bool
wr_pack_is_delta(enum wr_obj_type t)
{
	return t == WR_OBJ_OFS_DELTA || t == WR_OBJ_REF_DELTA;
}

/* LIMIT: bytes of delta bases kept per reader. */
#define WR_PACK_CACHE ((size_t)16 << 20)
/* A reader whose window reads at least step_min and at most step_max bytes ahead. */
struct wr_pack_reader *wr_pack_reader_new_sized(size_t step_min, size_t step_max, size_t cache);
struct wr_inflater *wr_pack_reader_inflater(struct wr_pack_reader *r);

/*
 * Bytes of the pack from off: at least need, or all that the file has (but never none).  On a miss
 * at least nice are read, if that is more.  Borrowed until the reader is used again.
 */
int wr_pack_bytes(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off, size_t need,
		  size_t nice, const uint8_t **out, size_t *out_len, struct wr_err *err);
/* Head of the entry at off. */
int wr_pack_entry_at(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off,
		     struct wr_pack_entry *out, struct wr_err *err);
/* Inflate an entry's stream into *out (replaced). *out_used: length of the stream. */
int wr_pack_entry_inflate(const struct wr_pack *p, struct wr_pack_reader *r,
			  const struct wr_pack_entry *e, struct wr_buf *out, size_t *out_used,
			  struct wr_err *err);

/* As wr_pack_read with any way to find the bases of REF_DELTAs. */
int wr_pack_read_via(const struct wr_pack *p, wr_ref_base_fn base_of, void *base_ctx,
		     struct wr_pack_reader *r, uint64_t off, enum wr_obj_type *out_type,
		     struct wr_buf *out, struct wr_err *err);

/* Inflate a stream whose result is at most room bytes: 1 done, 0 room is too small, -1 damaged. */
int wr_inflate_upto(struct wr_inflater *i, const void *in, size_t in_len, void *out, size_t room,
		    size_t *out_len);
/* The sizes a delta declares. */
int wr_delta_sizes(const void *delta, size_t delta_len, uint64_t *out_base, uint64_t *out_result,
		   struct wr_err *err);
/* Empty a buffer; one that has grown beyond WR_PACK_KEEP is freed. */
void wr_pack_buf_reset(struct wr_buf *b);

/* Map a whole file read-only. WR_E_CORRUPT if it is empty. */
int wr_map_file(int dirfd, const char *name, const uint8_t **out, size_t *out_len,
		struct wr_err *err);
void wr_unmap_file(const uint8_t *map, size_t len);

#endif
