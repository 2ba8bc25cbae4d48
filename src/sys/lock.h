/* SPDX-License-Identifier: Apache-2.0 */
/* flock(2) locks: they end with their holder, so a dead one is never in the way. */
#ifndef WR_LOCK_H
#define WR_LOCK_H

#include "base/err.h"

struct wr_lock {
	int fd; /* -1: not held */
};
#define WR_LOCK_INIT     \
	{                \
		.fd = -1 \
	}

/*
 * Take the lock file dirfd/name exclusively (created 0644 if absent).  wait_s: 0 = do not wait,
 * n = at most n seconds, -1 = as long as it takes.  `note` (one line) is written into the file and
 * quoted to others in their refusal.  *out_prev, if not NULL, receives what the last holder left
 * there (caller frees): what it may not have finished.  WR_E_BUSY names the holder.
 */
int wr_lock_take(struct wr_lock *l, int dirfd, const char *name, int wait_s, const char *note,
		 char **out_prev, struct wr_err *err);
/* Replace the note while holding the lock. */
int wr_lock_note(struct wr_lock *l, const char *note, struct wr_err *err);
void wr_lock_drop(struct wr_lock *l); /* harmless twice */

#endif
