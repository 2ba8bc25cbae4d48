/* SPDX-License-Identifier: Apache-2.0 */
/* Files in memory that can never change again: whoever gets one may read it without fear. */
#ifndef WR_SYS_SEALED_H
#define WR_SYS_SEALED_H

#include "base/buf.h"
#include "base/err.h"

/* Descriptor or -1; it stands behind the bytes. */
int wr_sealed_make(const void *p, size_t len, struct wr_err *err);
/* Append one that another process made. WR_E_INVALID: it is not sealed, so it could change, block
 * or shrink meanwhile; it is empty, or longer than max. */
int wr_sealed_read(int fd, size_t max, struct wr_buf *out, struct wr_err *err);

#endif
