/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of snapshot names: token and path are what was typed, cut at one ':'. */
#include "engine/repo/repo_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_freep) char *text = wr_malloc(size + 1);
	WR_SCOPED(wr_spec_fini) struct wr_spec s = {0};
	size_t n;

	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	wr_spec_parse(text, 1795354200, &s);
	n = strlen(s.token);
	wr_assert(s.leaf <= n && !memcmp(s.token, text, n));
	wr_assert(s.path ? text[n] == ':' && !strcmp(s.path, text + n + 1) : text[n] == '\0');
	return 0;
}
