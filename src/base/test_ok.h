/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: calls that take an error as `err`, which must succeed, or be refused with that code
 * and these words. Behind cmocka.h. */
#ifndef WR_TEST_OK_H
#define WR_TEST_OK_H

#include <string.h>

#include "base/err.h"

#define ok(call)                                                                \
	do {                                                                    \
		struct wr_err ok_err = WR_ERR_INIT, *err = &ok_err;             \
		if ((call) < 0)                                                 \
			fail_msg("line %d: %s: %s", __LINE__, #call, err->msg); \
	} while (0)
#define refused(call, c, says)                                                                    \
	do {                                                                                      \
		struct wr_err no_err = WR_ERR_INIT, *err = &no_err;                               \
		if ((call) != -1 || err->code != (c) ||                                           \
		    !(strstr(err->msg, says) || strstr(err->hint, says)))                         \
			fail_msg("line %d: %s: %d %s (%s)", __LINE__, #call, err->code, err->msg, \
				 err->hint);                                                      \
	} while (0)

#endif
