/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named points at which a test can end the process as kill -9 would:
 * WARREN_CRASH=save.pack-renamed or, for the third passage, save.pack-renamed:3.
 * Without the variable a point costs one branch.
 */
#ifndef WR_CRASH_H
#define WR_CRASH_H

void wr_crash_point(const char *name);

#endif
