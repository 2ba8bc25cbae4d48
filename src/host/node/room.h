/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How full a volume is, by which marks that counts, and what is set aside on it for what has to
 * work on a full one: stopping, starting, deleting, purging, and the records of all that.
 *
 *   VOLUME/reserve        preallocated bytes: 1 % of the file system, at least 1 GiB, but of a
 *                         small one a tenth at most
 *   VOLUME/reserve.d/NNN  small files: inodes where these are counted, metadata on btrfs
 *   STATE/reserve         likewise and smaller, for the records of projects and operations
 *
 * What is there of them is all the state they have, so a crash at any time leaves nothing to be put
 * right.  Operations take from them, a piece at a time, where less than such a piece is free; only
 * control fills them up.  Both hold the lock of the file.
 */
#ifndef WR_ROOM_H
#define WR_ROOM_H

#include "host/node/node.h"

struct wr_room {
	/* Of what users may have, as df shows it; the reserve counts as used also where it was
	 * taken from, so that taking from it leads below no mark. */
	uint64_t bytes, used, free;
	uint64_t inodes, inodes_free; /* 0, 0: the file system does not count them */
	unsigned permille;            /* used, of bytes or of inodes, whichever is more */
	bool of_inodes;               /* it is the inodes */
	uint64_t reserve, reserve_wanted;
	uint32_t spare, spare_wanted; /* files of reserve.d */
};
/* Also of a volume that is not open (WR_NODE_NO_VOLUMES). */
int wr_room_look(const struct wr_volume *v, struct wr_room *out, struct wr_err *err);
/* "93 %" or "93 % of the inodes" */
struct wr_short wr_room_text(const struct wr_room *r);

/* What a volume does no more from a mark on; each mark includes those before it. */
enum wr_mark {
	WR_MARK_NONE,
	WR_MARK_NEW,      /* it takes no new project and no new copy */
	WR_MARK_ALARM,    /* what is expired goes at once; operators are told */
	WR_MARK_SNAPSHOT, /* what grew most makes no snapshots */
	WR_MARKS
};
const char *wr_mark_name(enum wr_mark m); /* none, new, alarm, snapshot */
/* now: the mark it was at, which is left 1 % below; WR_MARK_NONE where that is not known. */
enum wr_mark wr_mark_of(const struct wr_config *c, const struct wr_room *r, enum wr_mark now);
unsigned wr_mark_percent(const struct wr_config *c, enum wr_mark m);
/* Other nodes' saves of copies that are here go on until so many percent. */
unsigned wr_mark_copies_percent(const struct wr_config *c);

/* Room for a few small files, of bytes and inodes, out of the reserve if there is none: what cannot
 * be given is noticed by who needs it. May wait for the disk. */
void wr_room_make(const struct wr_volume *v);
void wr_room_make_state(const struct wr_node *n);
/* Where the file system takes its time to free what was removed (subvolumes of btrfs), it is to
 * begin now. Does not wait for that. */
void wr_room_hurry(const struct wr_volume *v);
/* Set aside again what is missing, at most so many bytes now, where there is room for more than
 * that. *out_more (may be NULL): there is more to do at once. */
int wr_room_refill(const struct wr_volume *v, uint64_t most, bool *out_more, struct wr_err *err);
int wr_room_refill_state(const struct wr_node *n, struct wr_err *err);

#endif
