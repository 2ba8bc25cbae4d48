/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hostport.h"

#include <string.h>

/* One way to write each: no zeros in front. */
static bool
read_port(const char *s, uint16_t *out)
{
	uint32_t port = 0;
	size_t n = strspn(s, "0123456789");

	if (n == 0 || n > 5 || s[n] || (n > 1 && *s == '0'))
		return false;
	for (; *s; s++)
		port = port * 10 + (uint32_t)(*s - '0');
	*out = (uint16_t)port;
	return port <= UINT16_MAX;
}

const char *
wr_hostport_split(const char *s, struct wr_hostport *out)
{
	struct wr_hostport h = {.host = s, .v6 = *s == '['};
	const char *end;

	h.host += h.v6;
	end = strchr(h.host, h.v6 ? ']' : ':');
	if (!end || (h.v6 && end[1] != ':'))
		return "it has no port";
	h.len = (size_t)(end - h.host);
	end += 1 + h.v6;
	if (!h.v6 && strchr(end, ':'))
		return "an IPv6 address stands in brackets";
	if (h.len == 0)
		return "that is no host";
	if (!read_port(end, &h.port))
		return "that is no port";
	*out = h;
	return NULL;
}
