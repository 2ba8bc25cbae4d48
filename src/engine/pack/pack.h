/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs: reading objects (deltas resolved), checking whole packs, rebuilding an index, writing.
 * Files are read with pread into bounded buffers, never mapped: memory stays a budget, and a pack
 * that shrinks under us is an error, not a signal.
 */
#ifndef WR_PACK_H
#define WR_PACK_H

#include "base/buf.h"
#include "engine/object/id.h"
#include "engine/pack/idx.h"
#include "engine/pack/zstream.h"

/* LIMIT: one object held in memory. bup's chunks are far smaller; a tree of 10^6 names is 45 MB. */
#define WR_OBJ_MAX (UINT64_C(256) << 20)
/* LIMIT: length of a delta chain; git writes at most 4095. */
#define WR_DELTA_DEPTH_MAX 4096

struct wr_pack {
	int fd; /* -1: not open */
	uint64_t size;
	uint32_t count;  /* objects, by its header */
	char *name;      /* base name, for messages; owned */
	uint64_t serial; /* one per open in this process: readers know their buffers by it */
};
#define WR_PACK_INIT     \
	{                \
		.fd = -1 \
	}

/* Open and check the header. WR_E_CORRUPT names the file. */
int wr_pack_open(struct wr_pack *p, int dirfd, const char *name, struct wr_err *err);
void wr_pack_close(struct wr_pack *p);

/* Per thread: decoder and scratch. */
struct wr_pack_reader;
struct wr_pack_reader *wr_pack_reader_new(void);
void wr_pack_reader_free(struct wr_pack_reader *r);

/* Find the base of a REF_DELTA: 0 and *out_off in the same pack, or -1. */
typedef int (*wr_ref_base_fn)(void *ctx, const struct wr_id *base, uint64_t *out_off);

/*
 * Read the object at off: *out replaced by its payload, *out_type one of the four types.  idx, if
 * given, finds REF_DELTA bases.  Bounded: WR_E_LIMIT above WR_OBJ_MAX or WR_DELTA_DEPTH_MAX,
 * cycles are WR_E_CORRUPT.  The id is not checked.  Thread safe on one pack with one reader each.
 */
int wr_pack_read(const struct wr_pack *p, const struct wr_idx *idx, struct wr_pack_reader *r,
		 uint64_t off, enum wr_obj_type *out_type, struct wr_buf *out, struct wr_err *err);
/* Type and size of the object at off without its payload (deltas followed for the type). */
int wr_pack_stat(const struct wr_pack *p, const struct wr_idx *idx, struct wr_pack_reader *r,
		 uint64_t off, enum wr_obj_type *out_type, uint64_t *out_size, struct wr_err *err);

/* One object that failed, in wr_pack_verify. why is borrowed during the call. */
typedef void (*wr_pack_bad_fn)(void *ctx, const struct wr_id *id, const char *why);
/* Called now and then with bytes done; nonzero cancels. May be NULL. */
typedef int (*wr_progress_fn)(void *ctx, uint64_t done_bytes);
struct wr_pool;
/*
 * Check everything: trailer SHA-1, every object's CRC-32, inflation and id, and (trees) shape.
 * Reads the pack once in order, objects are checked on all threads of the pool.  Damaged objects go
 * to bad (called under a lock); what concerns the pack as a whole (a trailer that does not match
 * with no bad object, another count than its index has) is reported with a NULL id.  -1 only when
 * the pack cannot be read at all, or WR_E_CANCELLED.
 */
int wr_pack_verify(const struct wr_pack *p, const struct wr_idx *idx, struct wr_pool *pool,
		   wr_pack_bad_fn bad, wr_progress_fn progress, void *ctx, struct wr_err *err);
/* Rebuild the index of a pack that has none: *out receives a version 2 index file.  Objects that
 * cannot be read are left out and reported to bad with a NULL id, as nobody knows it; behind a
 * broken stream nothing can be found, why tells how many are lost.  Fails if nothing is left. */
int wr_pack_index(const struct wr_pack *p, struct wr_buf *out, wr_pack_bad_fn bad, void *ctx,
		  struct wr_err *err);

/*
 * Writing one pack.  Life: open, add ..., commit or abort.  Lies in
 * objects/pack-tmp-warren-XXXXXXXXXXXX/ until commit: patch the count, hash, fsync, write and
 * fsync the index, rename pack, rename index, fsync objects/pack.  Not thread safe.
 */
struct wr_packw;
/* objects_fd: the repository's objects directory, borrowed. */
struct wr_packw *wr_packw_open(int objects_fd, struct wr_err *err);
/* Append one object: its zlib stream z and the size of its payload. */
int wr_packw_add(struct wr_packw *w, enum wr_obj_type type, const struct wr_id *id, uint64_t size,
		 const void *z, size_t z_len, struct wr_err *err);
uint64_t wr_packw_bytes(const struct wr_packw *w);
uint32_t wr_packw_count(const struct wr_packw *w);
/* Publish; *out_name (caller frees) is "pack-<hex>", without suffix; NULL if nothing was
 * added. A pack of that name that exists already is the same pack: it is replaced, in case its
 * bytes have rotted. The writer is freed also on failure. */
int wr_packw_commit(struct wr_packw *w, char **out_name, struct wr_err *err);
void wr_packw_abort(struct wr_packw *w); /* NULL is fine */
/* Remove what killed writers left; only under the repository's lock. */
int wr_packw_clean(int objects_fd, struct wr_err *err);

/* DURABLE: the last steps of publishing: from_fd/pack and from_fd/idx, both synced, become
 * objects/pack/NAME.pack and .idx, the index last; then the directory is synced. */
int wr_pack_publish(int from_fd, int objects_fd, const char *name, struct wr_err *err);

/*
 * Entries as bytes (raw.c), for those who move packs.  An entry is head and zlib stream; only whole
 * objects are taken, no deltas.
 */
/* Append the entry in [off, end) of a pack as it is: 1; 0: it is a delta, nothing appended. With
 * crc its CRC-32 must be that: WR_E_CORRUPT. Nothing is inflated. */
int wr_pack_raw(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off, uint64_t end,
		const uint32_t *crc, struct wr_buf *out, struct wr_err *err);
/* Append an entry made of a payload. */
void wr_pack_entry_make(struct wr_deflater *d, enum wr_obj_type type, const void *p, size_t len,
			struct wr_buf *out);
/* Take apart an entry that fills the bytes exactly: *out replaced by its payload of at most max
 * bytes. */
int wr_pack_entry_open(struct wr_inflater *i, const void *p, size_t len, uint64_t max,
		       enum wr_obj_type *out_type, uint32_t *out_crc, struct wr_buf *out,
		       struct wr_err *err);
/* As above for the entry at off of a pack that need not be finished; *raw replaced by its bytes. */
int wr_pack_scan(const struct wr_pack *p, struct wr_pack_reader *r, uint64_t off,
		 enum wr_obj_type *out_type, uint32_t *out_crc, struct wr_buf *out,
		 struct wr_buf *raw, struct wr_err *err);

/* Loose objects, read only: objects/ab/cdef... WR_E_NOT_FOUND if absent. */
int wr_loose_read(int objects_fd, const struct wr_id *id, enum wr_obj_type *out_type,
		  struct wr_buf *out, struct wr_err *err);
bool wr_loose_exists(int objects_fd, const struct wr_id *id);
/* Decode the bytes of a loose object's file. */
int wr_loose_parse(const void *p, size_t len, enum wr_obj_type *out_type, struct wr_buf *out,
		   struct wr_err *err);

/* Apply a git delta to base; *out replaced. Bounded by the size it declares (<= WR_OBJ_MAX). */
int wr_delta_apply(const void *base, size_t base_len, const void *delta, size_t delta_len,
		   struct wr_buf *out, struct wr_err *err);

#endif
