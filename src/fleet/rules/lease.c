/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/rules/lease.h"

#include "fleet/rules/rules_int.h"

void
wr_lease_init(struct wr_lease *l, const struct wr_node_id *self)
{
	memset(l, 0, sizeof(*l));
	l->self = *self;
}

static size_t
voter_at(const struct wr_lease *l, const struct wr_node_id *node)
{
	size_t i;

	for (i = 0; i < l->voter_count; i++)
		if (wr_node_id_eq(&l->voter[i], node))
			break;
	return i;
}

static bool
same_voters(const struct wr_lease *l, const struct wr_record *e)
{
	if (wr_record_voters(e) != l->voter_count)
		return false;
	for (size_t i = 0; i < e->member_count; i++)
		if (wr_rules_voter(&e->member[i]) &&
		    voter_at(l, &e->member[i].node) == l->voter_count)
			return false;
	return true;
}

void
wr_lease_record(struct wr_lease *l, const struct wr_record *e)
{
	if (wr_epoch_cmp(&l->n, &e->n) == 0)
		return;
	/* The next raise needs a majority of e, and that meets the majority that answered only if
	 * the voters are the same in every record between. */
	if (wr_epoch_cmp(&l->n, &e->prev) != 0 || !same_voters(l, e) ||
	    !wr_node_id_eq(&e->writer, &l->self))
		l->until_ns = 0;
	memset(l->round, 0, sizeof(l->round));
	l->n = e->n;
	l->voter_count = 0;
	for (size_t i = 0; i < e->member_count; i++)
		if (wr_rules_voter(&e->member[i]))
			l->voter[l->voter_count++] = e->member[i].node;
}

/* true: longer. */
static bool
count(struct wr_lease *l, const struct wr_lease_round *r)
{
	uint64_t until = r->sent_ns + WR_LEASE_NS;
	size_t self = voter_at(l, &l->self);
	size_t ok = (size_t)__builtin_popcount(r->ok);

	if (self == l->voter_count || !(r->ok & 1u << self) || ok < l->voter_count / 2 + 1 ||
	    until <= l->until_ns)
		return false;
	l->until_ns = until;
	return true;
}

void
wr_lease_round_begin(struct wr_lease *l, uint64_t number, uint64_t now_ns, bool self_ok)
{
	struct wr_lease_round *r = &l->round[l->next];
	size_t self = voter_at(l, &l->self);

	wr_assert(number > 0);
	l->next = (l->next + 1) % WR_LEASE_ROUNDS;
	*r = (struct wr_lease_round){.number = number, .sent_ns = now_ns};
	if (self < l->voter_count && self_ok)
		r->ok = 1u << self;
	count(l, r); /* a single voter is its own majority */
}

bool
wr_lease_answer(struct wr_lease *l, uint64_t number, const struct wr_node_id *node,
		const struct wr_epoch *n, bool ok)
{
	size_t i = voter_at(l, node);

	if (!ok || i == l->voter_count || wr_epoch_cmp(n, &l->n) != 0 ||
	    wr_node_id_eq(node, &l->self))
		return false;
	for (size_t k = 0; k < WR_LEASE_ROUNDS; k++) {
		struct wr_lease_round *r = &l->round[k];

		if (number && r->number == number) {
			r->ok |= 1u << i;
			return count(l, r);
		}
	}
	return false;
}

uint64_t
wr_lease_until(const struct wr_lease *l)
{
	return l->until_ns;
}

bool
wr_lease_holds(const struct wr_lease *l, uint64_t now_ns)
{
	return now_ns < l->until_ns;
}

void
wr_lease_drop(struct wr_lease *l)
{
	l->until_ns = 0;
	memset(l->round, 0, sizeof(l->round));
}
