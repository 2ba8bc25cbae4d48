/* SPDX-License-Identifier: Apache-2.0 */
/* .bupm records, their xattrs and ACLs. */
#include "engine/object/meta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
walk_xattrs(const struct wr_meta *m)
{
	struct wr_rd r = wr_rd(m->xattrs.p, m->xattrs.len);
	struct wr_bytes name, value;
	struct wr_buf text = WR_BUF_INIT;

	while (wr_meta_xattr_next(&r, &name, &value) > 0) {
		wr_buf_clear(&text);
		(void)wr_acl_text(value.p, value.len, NULL, NULL, &text, NULL);
	}
	wr_buf_fini(&text);
}

/* What is encoded decodes to the same, as far as a user can see. */
static void
round_trip(const struct wr_meta *m)
{
	struct wr_buf b = WR_BUF_INIT, scratch = WR_BUF_INIT, again = WR_BUF_INIT;
	struct wr_meta back;
	struct wr_bytes raw;
	struct wr_rd r;

	wr_meta_encode(&b, m);
	r = wr_rd(b.p, b.len);
	wr_assert(wr_meta_next(&r, &back, &raw, &scratch, NULL) == 1);
	wr_assert(r.left == 0 && raw.len == b.len);
	wr_assert(wr_meta_same(m, &back));
	wr_meta_encode(&again, &back);
	wr_assert(again.len == b.len && !memcmp(again.p, b.p, b.len));
	wr_buf_fini(&b);
	wr_buf_fini(&scratch);
	wr_buf_fini(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_rd r = wr_rd(data, size);
	struct wr_buf scratch = WR_BUF_INIT, acl = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	struct wr_meta m;
	struct wr_bytes raw;
	size_t used = 0;
	int rc;

	while ((rc = wr_meta_next(&r, &m, &raw, &scratch, &err)) > 0) {
		used += raw.len;
		wr_assert(raw.len > 0 && raw.p >= data && raw.p + raw.len <= data + size);
		walk_xattrs(&m);
		for (int i = 0; i < 4; i++)
			if (m.acl[i].p)
				(void)wr_acl_parse(m.acl[i].p, m.acl[i].len, &acl, NULL);
		wr_buf_clear(&acl);
		round_trip(&m);
	}
	wr_assert(rc < 0 ? err.code == WR_E_CORRUPT : used == size);
	(void)wr_acl_parse(data, size, &acl, NULL);
	wr_buf_clear(&acl);
	(void)wr_acl_text(data, size, NULL, NULL, &acl, NULL);
	wr_buf_fini(&acl);
	wr_buf_fini(&scratch);
	return 0;
}
