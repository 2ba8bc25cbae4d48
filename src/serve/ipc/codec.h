/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between processes of ours, by tables: which kinds there are, which side they come from,
 * whether a descriptor belongs to them, and their parts in order.  Writing and reading walk along
 * the same table, so what one side writes the other reads.
 *
 * A message is u8 type, then its parts; texts and bytes are u32 length and bytes; all numbers big
 * endian.
 */
#ifndef WR_IPC_CODEC_H
#define WR_IPC_CODEC_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* LIMIT: parts of a message. */
#define WR_CODEC_PARTS 6

/* How a part of a message is written, and how it is read and checked: WR_E_INVALID (wr_codec_bad)
 * says what is wrong; the rest of the message stays releasable. */
struct wr_part {
	void (*put)(struct wr_buf *out, const void *m);
	int (*take)(struct wr_rd *r, void *m, struct wr_err *err);
	/* A number in the message: put is not asked, and take, if there is one, only checks it. */
	unsigned bits; /* 8 (uint8_t), 16 (uint16_t), 32 (uint32_t) */
	size_t at;
};
#define WR_PART_NUMBER(type, member, n)                    \
	{                                                  \
		.bits = (n), .at = offsetof(type, member), \
	}

enum wr_codec_fd {
	WR_CODEC_NO_FD = 0,
	WR_CODEC_FD,     /* it has exactly one */
	WR_CODEC_MAY_FD, /* what it is for the parts see to */
};

struct wr_codec_kind {
	uint8_t type;
	enum wr_codec_fd fd;
	const struct wr_part *part[WR_CODEC_PARTS]; /* NULL: no more */
};

struct wr_codec {
	const char *below;   /* "a front": the side whose types begin at first_below; */
	uint8_t first_below; /* the others are control's */
	size_t type_at;      /* of the message: an int, an enum */
	size_t fd_at;        /* an int, -1: none; owned */
	const struct wr_codec_kind *kind;
	size_t count;
};

void wr_codec_put(const struct wr_codec *c, const void *m, struct wr_buf *out);
/* fds: of the message; the first one is m's from now on, whatever is returned, others are closed.
 * from_below: which types are allowed. m: empty; also after a failure to be released. */
int wr_codec_take(const struct wr_codec *c, const void *p, size_t len, const int *fds,
		  size_t fd_count, bool from_below, void *m, struct wr_err *err);

/* ---- for parts ---- */

int wr_codec_bad(struct wr_err *err, const char *what); /* -1 */
void wr_codec_put_bytes(struct wr_buf *out, const void *p, size_t len);
void wr_codec_put_text(struct wr_buf *out, const char *s); /* NULL is "" */
/* Borrowed from the reader, which is bad if they are cut short. */
const uint8_t *wr_codec_take_bytes(struct wr_rd *r, size_t *out_len);
/* A copy with a NUL behind; the old one is released. */
void wr_codec_copy(char **io, const uint8_t *p, size_t len);

#endif
