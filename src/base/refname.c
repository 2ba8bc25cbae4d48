/* SPDX-License-Identifier: Apache-2.0 */
#include "base/refname.h"

#include <string.h>

static bool
part_ok(const char *s, size_t len)
{
	return len > 0 && len <= 250 && s[0] != '.' &&
	       !(len >= 5 && memcmp(s + len - 5, ".lock", 5) == 0);
}

bool
wr_refname_ok(const char *name, size_t len)
{
	size_t start = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		char after = '\0';

		if (i + 1 < len)
			after = name[i + 1];
		if (c <= ' ' || c == 0x7f || strchr("~^:?*[\\", c) || (c == '.' && after == '.') ||
		    (c == '@' && after == '{'))
			return false;
		if (c != '/')
			continue;
		if (!part_ok(name + start, i - start))
			return false;
		start = i + 1;
	}
	return part_ok(name + start, len - start) && name[len - 1] != '.';
}
