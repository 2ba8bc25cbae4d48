/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of other nodes.  Counters last longer than this process (M5: who is behind
 * what was seen of him was set back), the rest is learned anew.
 *
 *   STATE/peers.json {"format":1,"nodes":[{"node","incarnation","counter"}]}
 */
#include "base/log.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"

#define FILE_NAME "peers.json"
#define FILE_BYTES (1u << 20)
#define STORE_EVERY_NS (10 * (uint64_t)WR_SECOND)
#define CLOCK_EVENT_S 60
/* A clock that goes on by so much more, or less, than ours did was set. */
#define CLOCK_SET_S 3600

/* ---- the table ---- */

static size_t
node_at(const struct wr_peers *p, const struct wr_uuid *id)
{
	size_t lo = 0, hi = p->node_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(p->node[mid]->node.id.s, id->s) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void
node_free(struct wr_pnode *n)
{
	free(n->sender);
	free(n);
}

/* Whatever is known of an earlier incarnation says nothing of this one. */
static struct wr_pnode *
node_make(struct wr_peers *p, const struct wr_node_id *node)
{
	size_t i = node_at(p, &node->id);
	struct wr_pnode *n = i < p->node_count ? p->node[i] : NULL;

	if (n && wr_node_id_eq(&n->node, node))
		return n;
	if (!n || strcmp(n->node.id.s, node->id.s) != 0) {
		wr_grow(&p->node, &p->node_cap, p->node_count + 1, sizeof(struct wr_pnode *));
		memmove(p->node + i + 1, p->node + i,
			(p->node_count - i) * sizeof(struct wr_pnode *));
		p->node_count++;
	} else {
		node_free(n);
	}
	n = wr_calloc(1, sizeof(*n));
	n->node = *node;
	p->node[i] = n;
	return n;
}

struct wr_pnode *
wr_pnode_get(struct wr_control *c, const struct wr_node_id *node)
{
	const struct wr_fleet_node *f = wr_fleet_find(&c->fleet->auth->fleet, &node->id);

	return f && wr_node_id_eq(&f->node, node) ? node_make(c->fleet->peers, node) : NULL;
}

void
wr_peers_free(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;

	for (size_t i = 0; i < p->node_count; i++)
		node_free(p->node[i]);
	free(p->node);
	p->node = NULL;
	p->node_count = p->node_cap = 0;
}

/* ---- what they say ---- */

/* A node's counter grows with each start of it, and what a process that made room said is no
 * greater than what is kept of it: so a nonce that is not known is believed with a greater counter
 * only, and nothing that was here comes twice, however old it is. */
static struct wr_sender *
sender_of(struct wr_pnode *n, uint64_t nonce, uint64_t counter)
{
	struct wr_sender *oldest;

	if (!n->sender)
		n->sender = wr_calloc(WR_SENDERS, sizeof(*n->sender));
	oldest = n->sender;
	for (size_t i = 0; i < WR_SENDERS; i++) {
		if (n->sender[i].nonce == nonce)
			return &n->sender[i];
		if (n->sender[i].used < oldest->used)
			oldest = &n->sender[i];
	}
	if (n->sender_gone && counter <= n->sender_gone_counter)
		return NULL;
	if (oldest->nonce) {
		n->sender_gone = true;
		n->sender_gone_counter = WR_MAX(n->sender_gone_counter, oldest->counter);
	}
	*oldest = (struct wr_sender){.nonce = nonce};
	return oldest;
}

bool
wr_pnode_request(struct wr_pnode *n, uint64_t nonce, uint64_t counter, uint64_t request)
{
	struct wr_sender *s = nonce && request ? sender_of(n, nonce, counter) : NULL;
	uint64_t bit, *word;

	if (!s || (s->newest >= WR_REPLAY_WINDOW && request <= s->newest - WR_REPLAY_WINDOW))
		return false;
	if (request > s->newest) {
		if (request - s->newest >= WR_REPLAY_WINDOW)
			memset(s->seen, 0, sizeof(s->seen));
		else
			for (uint64_t i = s->newest + 1; i <= request; i++)
				s->seen[i % WR_REPLAY_WINDOW / 64] &= ~(UINT64_C(1) << i % 64);
		s->newest = request;
	}
	word = &s->seen[request % WR_REPLAY_WINDOW / 64];
	bit = UINT64_C(1) << request % 64;
	if (*word & bit)
		return false;
	*word |= bit;
	s->counter = WR_MAX(s->counter, counter);
	s->used = ++n->sender_uses;
	return true;
}

int
wr_pnode_count(struct wr_control *c, struct wr_pnode *n, uint64_t counter, uint64_t *out_seen,
	       struct wr_err *err)
{
	uint64_t newest = wr_counters_newest(&n->seen);
	bool was_behind = n->behind;

	*out_seen = wr_counters_see(&n->seen, counter, wr_clock_boot_ns());
	if (wr_counters_newest(&n->seen) != newest)
		c->fleet->peers->nodes_changed = true;
	n->behind = *out_seen != 0;
	if (!n->behind)
		return 0;
	wr_err_set(err, WR_E_DENIED,
		   "node '%s' was set back: its counter is %" PRIu64 ", and was %" PRIu64 " before",
		   wr_fleet_name(c, &n->node.id), counter, *out_seen);
	wr_err_hint(err,
		    "it was restored from an image: let it come back as a new incarnation, "
		    "'warren node add --rejoin %s'",
		    wr_fleet_name(c, &n->node.id));
	if (!was_behind) {
		json_t *detail = json_object();

		wr_json_str(detail, "node", n->node.id.s);
		wr_json_u64(detail, "counter", counter);
		wr_json_u64(detail, "seen", *out_seen);
		wr_event(c, "fleet", NULL, "node.behind", err->msg, detail);
	}
	return -1;
}

void
wr_pnode_clock(struct wr_control *c, struct wr_pnode *n, int64_t ahead_s)
{
	const bool far = ahead_s > CLOCK_EVENT_S || ahead_s < -CLOCK_EVENT_S;
	const uint64_t now = wr_clock_mono_ns();
	const int64_t told = wr_clock_wall().s + ahead_s,
		      passed = (int64_t)((now - n->ahead_ns) / WR_SECOND);

	if (n->ahead_known &&
	    (told - n->told_s - passed > CLOCK_SET_S || told - n->told_s - passed < -CLOCK_SET_S))
		n->set_ns = now;
	n->ahead_known = true;
	n->ahead_s = ahead_s;
	n->ahead_ns = now;
	n->told_s = told;
	if (far && !n->ahead_told) {
		WR_SCOPED(wr_freep)
		char *why =
		    wr_asprintf("the clock of node '%s' is %" PRId64 " s %s ours",
				wr_fleet_name(c, &n->node.id), ahead_s < 0 ? -ahead_s : ahead_s,
				ahead_s < 0 ? "behind" : "ahead of");

		wr_event(c, "fleet", NULL, "clock.skew", why, NULL);
	}
	n->ahead_told = far;
}

bool
wr_peers_clocks_agree(struct wr_control *c, uint64_t since_ns)
{
	const struct wr_fleet *f = c->fleet ? &c->fleet->auth->fleet : NULL;
	size_t nodes = 0, agree = 1; /* this one */

	for (size_t i = 0; f && i < f->node_count; i++) {
		const struct wr_pnode *n;

		if (f->node[i].flags & WR_FLEET_REMOVED)
			continue;
		nodes++;
		if (!strcmp(f->node[i].node.id.s, c->node->id.s))
			continue;
		n = wr_pnode_get(c, &f->node[i].node);
		/* One that was set when ours was may have had it from the same wrong place. */
		agree += n && n->ahead_known && n->ahead_ns > since_ns &&
			 n->ahead_s <= CLOCK_EVENT_S && n->ahead_s >= -CLOCK_EVENT_S &&
			 (!n->set_ns || n->set_ns + CLOCK_SET_S * (uint64_t)WR_SECOND < since_ns);
	}
	return agree > 1 && 2 * agree > nodes;
}

void
wr_peer_json(struct wr_control *c, json_t *o, const struct wr_node_id *node)
{
	const struct wr_pnode *n =
	    strcmp(node->id.s, c->node->id.s) != 0 ? wr_pnode_get(c, node) : NULL;

	if (!n)
		return;
	wr_json_bool(o, "there", n->there);
	wr_json_bool(o, "behind", n->behind);
	if (n->ahead_known)
		wr_json_i64(o, "clock_ahead_s", n->ahead_s);
	else
		wr_json_null(o, "clock_ahead_s");
}

/* ---- the file ---- */

void
wr_peers_load(struct wr_control *c)
{
	struct wr_peers *p = c->fleet->peers;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep)
	json_t *o = wr_file_load(c->node->state_fd, FILE_NAME, FILE_BYTES, "format", 1, &err);
	const json_t *e;
	size_t i;

	/* It only makes us notice more: a node must not stay away because it is gone. */
	if (!o) {
		if (err.code != WR_E_NOT_FOUND)
			wr_log_err(WR_LOG_WARNING, "what was seen of other nodes", &err);
		return;
	}
	json_array_foreach(wr_json_get_arr(o, "nodes"), i, e)
	{
		uint64_t inc = wr_json_get_u64(e, "incarnation", 0);
		struct wr_node_id id = {.inc = (uint32_t)inc};

		if (inc > 0 && inc <= UINT32_MAX && i < WR_NODES_MAX &&
		    wr_uuid_parse(wr_json_get_str(e, "node", ""), &id.id))
			wr_counters_init(&node_make(p, &id)->seen,
					 wr_json_get_u64(e, "counter", 0));
	}
}

void
wr_peers_store(struct wr_control *c, bool now)
{
	struct wr_peers *p = c->fleet->peers;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err err = WR_ERR_INIT;
	uint64_t at = wr_clock_mono_ns();
	json_t *list;

	if (!p->nodes_changed || (!now && at - p->stored_ns < STORE_EVERY_NS))
		return;
	p->stored_ns = at;
	o = json_object();
	wr_json_u64(o, "format", 1);
	list = wr_json_array(o, "nodes");
	for (size_t i = 0; i < p->node_count; i++) {
		const struct wr_pnode *n = p->node[i];
		json_t *e;

		if (!wr_counters_newest(&n->seen))
			continue;
		e = wr_json_item(list);
		wr_json_str(e, "node", n->node.id.s);
		wr_json_u64(e, "incarnation", n->node.inc);
		wr_json_u64(e, "counter", wr_counters_newest(&n->seen));
	}
	if (wr_file_store(c->node->state_fd, FILE_NAME, o, FILE_BYTES, 0600, true, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "note what was seen of other nodes", &err);
	else
		p->nodes_changed = false;
}
