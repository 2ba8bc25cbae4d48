/* SPDX-License-Identifier: Apache-2.0 */
/* A block of the stat cache.  Its checksum is put right first, or no mutation would get past it. */
#include <libdeflate.h>

#include "engine/snap/statcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WR_SCOPED(wr_cached_dir_fini) struct wr_cached_dir d = WR_CACHED_DIR_INIT;
	struct wr_cached c;
	const char *name;
	size_t sum = 0;

	wr_buf_add(&d.storage, data, size);
	if (size > 8 && data[0] != 'x') {
		uint32_t crc = libdeflate_crc32(0, data + 8, size - 8);

		memcpy(d.storage.p + 4, &crc, 4);
	}
	if (wr_cached_dir_parse(&d))
		while (wr_cached_next(&d, &c, &name))
			for (size_t i = 0; i < c.name_len; i++)
				sum += (unsigned char)name[i];
	return sum == SIZE_MAX; /* keeps the reads */
}
