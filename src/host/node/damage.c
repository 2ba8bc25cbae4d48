/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the mark of a damaged copy holds: which of its packs are not to be trusted.  A mark that
 * cannot be read is one all the same: then none is.
 */
#include "host/node/node_int.h"

/* LIMIT of a mark: packs that it can name. */
#define PACKS_MAX 2000
#define MARK_BYTES (256u << 10)

int
wr_damage_set(struct wr_node *n, const struct wr_uuid *project, const json_t *packs,
	      struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (packs && json_array_size(packs) <= PACKS_MAX)
		json_object_set(o, "packs", (json_t *)(uintptr_t)packs);
	else
		wr_json_null(o, "packs");
	wr_json_write(o, &b);
	return wr_flag_set(n, WR_FLAG_DAMAGED, project, b.p, b.len, err);
}

json_t *
wr_damage_packs(struct wr_node *n, const struct wr_uuid *project)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	json_t *list;

	if (wr_flag_load(n, WR_FLAG_DAMAGED, project, MARK_BYTES, &b, NULL) < 0)
		return NULL;
	o = wr_json_parse((const char *)b.p, b.len, NULL);
	list = o ? wr_json_get_arr(o, "packs") : NULL;
	return list ? json_incref(list) : NULL;
}
