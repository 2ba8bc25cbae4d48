/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File content to object id: read, cut, hash, store.  One wr_content per thread of a pool; the
 * chunks of a large block are hashed and compressed by all idle threads.
 */
#ifndef WR_CONTENT_H
#define WR_CONTENT_H

#include "engine/object/id.h"

struct wr_pool;
struct wr_sink;

struct wr_content; /* buffers of one thread */

/* sink NULL: only compute ids. */
struct wr_content *wr_content_new(struct wr_pool *pool, struct wr_sink *sink, unsigned split_bits);
void wr_content_free(struct wr_content *c);

/* Add the bytes read from files to *counter, atomically, block by block, and tell who listens
 * (progress); tick may be NULL. */
void wr_content_count(struct wr_content *c, uint64_t *counter, void (*tick)(void *ctx), void *ctx);

/* What is stored from now on adds to *counter, atomically; NULL: nothing does. */
void wr_content_stored(struct wr_content *c, uint64_t *counter);

struct wr_content_result {
	struct wr_id id;
	bool chunked;   /* id is a chunk tree */
	uint64_t bytes; /* of content; holes count */
	uint64_t read;  /* bytes really read */
};

/* The content of fd from offset 0, to its end or, if it grows meanwhile, to at least one block
 * behind size_hint = st_size. sparse: ask for holes before reading.
 * WR_E_SYS: reading failed (the caller lists the file); any other code: storing failed. */
int wr_content_fd(struct wr_content *c, int fd, uint64_t size_hint, bool sparse,
		  struct wr_content_result *out, struct wr_err *err);
/* Content at hand, cut the same way (.bupm). */
int wr_content_mem(struct wr_content *c, const void *p, size_t len, struct wr_content_result *out,
		   struct wr_err *err);
/* One blob, never cut (symlink targets, the empty blob of special files). */
int wr_content_blob(struct wr_content *c, const void *p, size_t len, struct wr_id *out,
		    struct wr_err *err);
int wr_content_tree(struct wr_content *c, const void *p, size_t len, struct wr_id *out,
		    struct wr_err *err);

#endif
