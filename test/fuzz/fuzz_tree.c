/* SPDX-License-Identifier: Apache-2.0 */
/* Tree objects, and the mangled names in them. */
#include "engine/object/name.h"
#include "engine/object/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_rd r = wr_rd(data, size);
	struct wr_buf back = WR_BUF_INIT, name = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_tree_entry e;
	int rc;

	while ((rc = wr_tree_next(&r, &e, &err)) > 0) {
		bool is_tree = e.mode == WR_MODE_TREE, chunked;
		size_t len = wr_name_unmangle(e.name, e.name_len, is_tree, &chunked);

		wr_assert(e.name_len > 0 && !memchr(e.name, '/', e.name_len));
		wr_assert(len <= e.name_len);
		/* A name that was mangled is found again, whatever it looks like. */
		wr_buf_clear(&name);
		wr_name_mangle(&name, e.name, e.name_len, false);
		wr_assert(wr_name_unmangle(name.p, name.len, false, &chunked) == e.name_len);
		wr_tree_add(&back, e.mode, e.name, e.name_len, &e.id);
	}
	if (rc == 0) {
		/* What was taken must come out again, up to zeros in front of a mode. */
		wr_assert(back.len <= size);
	} else {
		wr_assert(err.code == WR_E_CORRUPT);
		wr_assert(wr_tree_check(data, size, NULL) < 0);
	}
	/* The sorted form of what checks is itself: it must check again. */
	if (wr_tree_check(data, size, NULL) == 0)
		wr_assert(rc == 0 && wr_tree_check(back.p, back.len, NULL) == 0);
	wr_buf_fini(&back);
	wr_buf_fini(&name);
	return 0;
}
