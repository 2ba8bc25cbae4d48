/* SPDX-License-Identifier: Apache-2.0 */
/* Text from users: what may stand in it, and which of the words there are was meant by one that
 * there is not. Pure. */
#ifndef WR_MODEL_TEXT_H
#define WR_MODEL_TEXT_H

#include "base/base.h"

/* UTF-8 without control characters; lines: but tabs and line feeds. */
bool wr_text_plain(const void *bytes, size_t len, bool lines);

/* How far word is from a candidate, in edits; WR_NEAR_NO: too far to be worth a hint. */
#define WR_NEAR_NO UINT32_MAX
unsigned wr_near_cost(const char *word, const char *candidate);
/* The nearest of a list that ends with NULL, or NULL. */
const char *wr_near(const char *word, const char *const *list);

#endif
