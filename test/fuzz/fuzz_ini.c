/* SPDX-License-Identifier: Apache-2.0 */
/* INI text, as a project may bring it along. */
#include "base/ini.h"

#include "base/str.h"

static int
take(void *ctx, unsigned line, const char *section, const char *key, const char *value,
     struct wr_err *err)
{
	size_t *sum = ctx;

	wr_assert(line > 0 && *key);
	wr_assert(wr_utf8_valid(section, strlen(section)) && wr_utf8_valid(key, strlen(key)) &&
		  wr_utf8_valid(value, strlen(value)));
	*sum += strlen(value);
	return !strcmp(key, "stop") ? wr_err_set(err, WR_E_INVALID, "stop") : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_err err = WR_ERR_INIT;
	size_t sum = 0;

	if (wr_ini_parse("fuzz", data, size, take, &sum, &err) < 0)
		wr_assert(*err.msg);
	wr_assert(sum <= size);
	return 0;
}
