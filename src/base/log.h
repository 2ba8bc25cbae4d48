/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines of the daemon's processes on standard error: one event per line,
 *   2026-11-22T10:15:30Z level who: text key=value key="quoted value"
 * (under systemd, which stamps lines itself, "<N>" priority instead of time and level).
 * Only programs log; libraries return errors.
 */
#ifndef WR_LOG_H
#define WR_LOG_H

#include "base/err.h"

enum wr_log_level { WR_LOG_ERROR = 3, WR_LOG_WARNING = 4, WR_LOG_NOTICE = 5, WR_LOG_DEBUG = 7 };

/* who: "control", "front", ...; lines above level are dropped. journal: priorities instead of
 * times. Once per process. */
void wr_log_init(const char *who, enum wr_log_level level, bool journal);
/* Never fails; foreign bytes go through WR_Q. Thread safe (one write per line). */
void wr_log(enum wr_log_level level, const char *fmt, ...) WR_PRINTF(2, 3);
/* "what: message", with the hint. */
void wr_log_err(enum wr_log_level level, const char *what, const struct wr_err *err);

#endif
