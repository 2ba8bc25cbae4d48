/* SPDX-License-Identifier: Apache-2.0 */
/* bup's mangling of file names in trees (bup-format.md 5). Pure. */
#ifndef WR_NAME_H
#define WR_NAME_H

#include "base/buf.h"

/* Append the stored name of an entry. chunked: a file stored as a chunk tree. */
void wr_name_mangle(struct wr_buf *out, const void *name, size_t len, bool chunked);

/* Real name of a stored one: the length of the part that is the name; *out_chunked tells a chunk
 * tree.  is_tree: its mode is 040000.  The directory's own ".bupm" gives length 0. */
size_t wr_name_unmangle(const void *stored, size_t len, bool is_tree, bool *out_chunked);

#endif
