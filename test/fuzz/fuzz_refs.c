/* SPDX-License-Identifier: Apache-2.0 */
/* The files that refs lie in: one loose ref, and packed-refs. What is accepted must be sound. */
#include "engine/repo/repo_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	WR_SCOPED(wr_freep) char *target = NULL;
	struct wr_err err = WR_ERR_INIT;
	struct wr_id id;

	if (wr_loose_ref_parse(data, size, &id, &target, &err) == 0 && target)
		wr_assert(wr_ref_full_ok(target, strlen(target)) && !strstr(target, ".."));
	if (wr_packed_refs_parse(data, size, &refs, &err) < 0)
		return 0;
	for (size_t i = 0; i < refs.count; i++) {
		wr_assert(wr_ref_full_ok(refs.ref[i].name, strlen(refs.ref[i].name)));
		wr_assert(i == 0 || strcmp(refs.ref[i - 1].name, refs.ref[i].name) < 0);
	}
	return 0;
}
