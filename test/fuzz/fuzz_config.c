/* SPDX-License-Identifier: Apache-2.0 */
/* Git's configuration syntax, as a repository brings it along. */
#include "engine/repo/repo_int.h"

static void
take(void *ctx, const char *key, const char *value)
{
	size_t *sum = ctx;

	*sum += strlen(key) + (value ? strlen(value) : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_err err = WR_ERR_INIT;
	size_t sum = 0;

	(void)wr_config_parse(data, size, take, &sum, &err);
	return 0;
}
