/* SPDX-License-Identifier: Apache-2.0 */
/* HOST:PORT and [IPV6]:PORT taken apart. What may stand for a host is the caller's to say. */
#ifndef WR_BASE_HOSTPORT_H
#define WR_BASE_HOSTPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wr_hostport {
	const char *host; /* in the text, without brackets */
	size_t len;
	bool v6; /* it stood in brackets */
	uint16_t port;
};
/* NULL, or what is wrong; *out is written when nothing is. */
const char *wr_hostport_split(const char *s, struct wr_hostport *out);

#endif
