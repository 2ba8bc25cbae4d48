/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/safe.h"

#include "fleet/rules/rules_int.h"

static bool
holds(const struct wr_member *m, const struct wr_version *v, const struct wr_acked *acked,
      size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (wr_node_id_eq(&acked[i].node, &m->node) &&
		    wr_epoch_cmp(&acked[i].v.n, &v->n) == 0 && wr_version_cmp(&acked[i].v, v) >= 0)
			return true;
	return false;
}

struct wr_safe
wr_safe_of(const struct wr_record *e, const struct wr_version *v, const struct wr_acked *acked,
	   size_t acked_count, const struct wr_fleet *f)
{
	struct wr_safe s = {.need = wr_record_majority(e), .voters = wr_record_voters(e)};
	const struct wr_fleet_node *in[WR_MEMBERS_MAX];
	size_t in_count = 0;
	bool writer = false;

	for (size_t i = 0; i < e->member_count; i++) {
		const struct wr_member *m = &e->member[i];
		const struct wr_fleet_node *n = f ? wr_fleet_find(f, &m->node.id) : NULL;
		bool known = false;

		s.data += m->role == WR_ROLE_DATA;
		if (m->role != WR_ROLE_DATA || wr_epoch_cmp(&v->n, &e->n) != 0 ||
		    !holds(m, v, acked, acked_count))
			continue;
		s.in++;
		writer = writer || wr_node_id_eq(&m->node, &e->writer);
		for (size_t k = 0; n && k < in_count; k++)
			known = known || strcmp(in[k]->dc, n->dc) == 0;
		if (n && !known) {
			in[in_count++] = n;
			s.dcs++;
		}
	}
	s.safe = writer && s.in >= s.need;
	return s;
}
