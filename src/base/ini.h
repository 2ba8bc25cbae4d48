/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INI text: [section], key = value, # and ; comments at the start of a line only (a value may hold
 * both).  Blanks around key and value are cut; a value in double quotes keeps its blanks.  No
 * continuation lines, no includes.  Pure; calls back per key in order.
 */
#ifndef WR_INI_H
#define WR_INI_H

#include "base/err.h"

/* LIMITs: 1 MiB of text, lines of 4096 bytes, valid UTF-8 without control bytes. */
#define WR_INI_MAX (1u << 20)

/* -1 with err ends the reading; line counts from 1. Strings are valid during the call. */
typedef int (*wr_ini_fn)(void *ctx, unsigned line, const char *section, const char *key,
			 const char *value, struct wr_err *err);
/* WR_E_INVALID names what (a file name) and the line. */
int wr_ini_parse(const char *what, const void *p, size_t len, wr_ini_fn fn, void *ctx,
		 struct wr_err *err);

#endif
