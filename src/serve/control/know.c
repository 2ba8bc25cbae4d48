/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hub knows of the projects that nodes hold.  Its catalog may be lost, or an older one may
 * have come back: then names and uids are in use that it does not know of.
 *
 *   a node reports -> INVENTORY, a page -> RECORDS_ASK for what of it is not here, or older
 *                  -> the next page; after the last one everything that it holds is in the catalog:
 *                     the node is known
 *
 * A page is in the catalog before the next one is asked for, so one of each node is in memory, and
 * what was cut off goes on where it was.
 *
 * As long as a node of the fleet record is not known, and not removed, the catalog is recovering:
 * it gives no name away.  Everything else works: raises ask the members.
 *
 *   STATE/hub/catalog.json {"format":1,"starts"}: how often the hub began with its catalog; one
 * that counts less is an older one, and no node is known to it any more.
 *
 * Besides: names of which nobody has heard for an hour are free again, a node has only so many new
 * ones within an hour, and losses that an operator accepted for a node that asks for a raise.
 */
#include "serve/control/know.h"

#include "base/log.h"
#include "base/str.h"
#include "fleet/catalog/catalog.h"
#include "serve/control/fleet_int.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

#define FILE_NAME "hub/catalog.json"
#define FILE_BYTES 4096
#define ASK_MS 5000
#define PAGE_MS 30000
#define AGAIN_NS (86400 * (uint64_t)WR_SECOND)
/* Nodes that are not known yet are asked so often. */
#define SOON_NS (5 * (uint64_t)WR_SECOND)
/* LIMITs */
#define NEWER_MAX 64 /* records that a node is told after a start; the rest as it comes up */
#define FETCH_MAX 128
#define READINGS_MAX 16   /* nodes that are asked on the hub's own account at a time */
#define READ_MAX 10000000 /* copies of one node */
#define BARE_MAX 1000
#define PERMITS_MAX 64
/* A reservation of which nothing was heard is given up after so long. */
#define BARE_S 3600
#define SWEEP_NS (600 * (uint64_t)WR_SECOND)
#define HOUR_NS (3600 * (uint64_t)WR_SECOND)
#define PERMIT_NS HOUR_NS

/* A node that reported. */
struct known {
	struct wr_uuid node;
	uint64_t nonce, asked_ns; /* since which of its boots all that it holds is known */
	/* A reading that began then was cut off behind this (s[0] = 0: none was), after so many
	 * copies of the process with that nonce. */
	struct wr_uuid after;
	int64_t began;
	size_t read;
	uint64_t read_nonce;
	/* Names that it was given since: */
	uint64_t hour_ns;
	unsigned created;
	bool limit_told;
};
/* What one node holds, as it comes in. */
struct reading {
	struct wr_control *c;
	struct wr_node_id node;
	struct wr_uuid after; /* where the page begins; s[0] = 0: at the first */
	struct wr_report *r;  /* the page, ascending by id */
	size_t count;
	int64_t began;  /* by the wall clock; what was made since may not be on its pages */
	size_t read;    /* copies on the pages before, */
	uint64_t nonce; /* all of them of this process of the node */
	size_t told;    /* newer records that it was sent */
	bool all;       /* the node is not known: everything is fetched */
	bool whole;     /* it is the last page */
	size_t next;    /* of r: what is fetched from here on */
	size_t *asked;  /* which ones RECORDS_ASK names */
	size_t asked_count;
	struct reading *link;
};
struct permit {
	struct wr_uuid project;
	struct wr_uuid node;
	uint64_t until_ns;
};
struct wr_know {
	struct wr_control *c;
	struct known *known;
	size_t known_count, known_cap;
	struct reading *readings;
	struct permit permit[PERMITS_MAX];
	size_t permit_count;
	uint64_t whole_seq; /* of the fleet record, all of whose nodes are known */
	struct wr_timer sweep, ask;
};

static struct known *
known_of(struct wr_know *k, const struct wr_uuid *node)
{
	for (size_t i = 0; i < k->known_count; i++)
		if (!strcmp(k->known[i].node.s, node->s))
			return &k->known[i];
	wr_grow(&k->known, &k->known_cap, k->known_count + 1, sizeof(*k->known));
	k->known[k->known_count] = (struct known){.node = *node};
	return &k->known[k->known_count++];
}

/* ---- is it whole? ---- */

size_t
wr_know_missing(struct wr_control *c, json_t *out_names)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	struct wr_err err = WR_ERR_INIT;
	size_t n = 0;

	if (c->fleet->know->whole_seq == f->seq)
		return 0;
	for (size_t i = 0; i < f->node_count; i++) {
		const struct wr_fleet_node *e = &f->node[i];

		if (wr_fleet_find(f, &e->node.id) != e || (e->flags & WR_FLEET_REMOVED))
			continue;
		if (wr_catalog_node_is_known(c->fleet->catalog, &e->node.id, NULL, &err) > 0)
			continue;
		n++;
		if (out_names)
			wr_json_add_str(out_names, e->name);
	}
	if (err.code != WR_E_NONE)
		wr_log_err(WR_LOG_ERROR, "look at the catalog", &err);
	if (!n)
		c->fleet->know->whole_seq = f->seq;
	return n;
}

int
wr_know_new_node(struct wr_control *c, const struct wr_uuid *node, struct wr_err *err)
{
	return wr_catalog_node_known(c->fleet->catalog, node, wr_clock_wall().s, err);
}

static void
now_known(struct reading *r)
{
	struct wr_control *c = r->c;
	struct wr_err err = WR_ERR_INIT;

	if (wr_catalog_node_known(c->fleet->catalog, &r->node.id, wr_clock_wall().s, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "catalog a node", &err);
		return;
	}
	if (!r->all)
		return;
	{
		WR_SCOPED(wr_freep)
		char *why = wr_asprintf("all %zu projects that node '%s' holds are in the catalog",
					r->read, wr_fleet_name(c, &r->node.id));

		wr_event(c, "hub", NULL, "hub.recovering", why, NULL);
	}
	if (wr_know_missing(c, NULL) == 0)
		wr_event(c, "hub", NULL, "hub.recovered",
			 "the catalog knows what every node holds: names are given again", NULL);
}

/* ---- names of which nothing came ---- */

struct bare {
	const struct reading *r; /* NULL: only who could tell */
	struct wr_know *k;
	struct wr_uuid *id;
	size_t count, cap;
};

static int
look_bare(void *ctx, const struct wr_cat_project *p, struct wr_err *err WR_UNUSED)
{
	struct bare *b = ctx;
	struct wr_record e;

	if (wr_record_decode(p->record.p, p->record.len, &e, NULL) < 0 ||
	    (e.n.number != 1 && e.member_count != 1))
		return 0;
	if (!b->r) {
		known_of(b->k, &e.writer.id)->asked_ns = 0;
		return 0;
	}
	/* Who was to make it said that it has none; no other ever said it had one. */
	if (strcmp(e.writer.id.s, b->r->node.id.s) != 0)
		return 0;
	wr_grow(&b->id, &b->cap, b->count + 1, sizeof(*b->id));
	b->id[b->count++] = p->id;
	return 0;
}

static void
free_bare(struct reading *r)
{
	struct wr_catalog *cat = r->c->fleet->catalog;
	struct bare b = {.r = r, .k = r->c->fleet->know};
	const int64_t now = wr_clock_wall().s;
	struct wr_err err = WR_ERR_INIT;

	if (wr_know_missing(r->c, NULL) == 0)
		(void)wr_catalog_project_bare(cat, r->began - BARE_S, BARE_MAX, look_bare, &b,
					      &err);
	for (size_t i = 0; i < b.count && err.code == WR_E_NONE; i++)
		if (wr_catalog_project_purged(cat, &b.id[i], now, &err) == 0)
			wr_event(r->c, "hub", &b.id[i], "hub.name-free",
				 "it was reserved, and never made: its name is free again", NULL);
	if (err.code != WR_E_NONE)
		wr_log_err(WR_LOG_ERROR, "look for names that nobody uses", &err);
	free(b.id);
}

static void
on_sweep(struct wr_timer *t)
{
	struct wr_know *k = WR_OWNER(t, struct wr_know, sweep);
	struct bare b = {.k = k};
	struct wr_err err = WR_ERR_INIT;

	wr_timer_on(&k->c->loop, t, SWEEP_NS, on_sweep);
	if (wr_catalog_project_bare(k->c->fleet->catalog, wr_clock_wall().s - BARE_S, BARE_MAX,
				    look_bare, &b, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "look for names that nobody uses", &err);
}

/* ---- reading what a node holds ---- */

static void
reading_free(struct reading *r)
{
	struct reading **at = &r->c->fleet->know->readings;

	while (*at != r)
		at = &(*at)->link;
	*at = r->link;
	wr_ask_forget(r->c, r);
	free(r->r);
	free(r->asked);
	free(r);
}

/* Is its record to be fetched? */
static bool
is_wanted(const struct reading *r, const struct wr_report *is)
{
	struct wr_cat_project p = {0};
	bool wanted = r->all ||
		      wr_catalog_project_find(r->c->fleet->catalog, is->project.s, &p, NULL) < 0 ||
		      wr_epoch_cmp(&is->n, &p.n) > 0;

	wr_cat_project_fini(&p);
	return wanted;
}

static int
learn(struct wr_control *c, const struct wr_uuid *project, const struct wr_buf *record,
      const struct wr_buf *settings, struct wr_err *err)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc doc = {0};
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	struct wr_record e;

	if (!record->len)
		return 0;
	if (wr_record_decode(record->p, record->len, &e, err) < 0 ||
	    wr_record_verify(&e, f, err) < 0)
		return -1;
	if (settings->len && (wr_settings_doc_decode(settings->p, settings->len, &doc, err) < 0 ||
			      wr_settings_doc_verify(&doc, f, err) < 0))
		return -1;
	if (strcmp(e.project.s, project->s) != 0 ||
	    (settings->len && strcmp(doc.project.s, project->s) != 0))
		return wr_err_set(err, WR_E_DENIED, "it is of another project");
	return wr_catalog_project_learn(c->fleet->catalog, &e, record, settings->len ? &doc : NULL,
					settings, err);
}

static void fetch(struct reading *r);
static void ask_page(struct reading *r);

/* The next one goes on from here. */
static void
cut_off(struct reading *r)
{
	struct known *n = known_of(r->c->fleet->know, &r->node.id);

	n->after = r->after;
	n->began = r->began;
	n->read = r->read;
	n->read_nonce = r->nonce;
	reading_free(r);
}

static void
on_records(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct reading *r = ctx;
	size_t got = answer && answer->kind == WR_MSG_RECORDS ? answer->blob_count / 2 : 0;
	struct wr_err err = WR_ERR_INIT;

	got = WR_MIN(got, r->asked_count);
	if (!got || wr_catalog_begin(r->c->fleet->catalog, &err) < 0) {
		if (err.code != WR_E_NONE)
			wr_log_err(WR_LOG_ERROR, "catalog what a node holds", &err);
		cut_off(r); /* it reports again */
		return;
	}
	for (size_t i = 0; i < got; i++) {
		struct wr_err bad = WR_ERR_INIT;

		/* One that lies must not keep the others' names from being known. */
		if (learn(r->c, &r->r[r->asked[i]].project, &answer->blobs[2 * i],
			  &answer->blobs[2 * i + 1], &bad) < 0)
			wr_peer_refused(r->c, answer, &bad);
	}
	if (wr_catalog_commit(r->c->fleet->catalog, &err) < 0) {
		wr_log_err(WR_LOG_ERROR, "catalog what a node holds", &err);
		cut_off(r);
		return;
	}
	r->next = r->asked[got - 1] + 1;
	fetch(r);
}

/* All of the page is here. */
static void
page_done(struct reading *r)
{
	r->read += r->count;
	if (r->count)
		r->after = r->r[r->count - 1].project;
	r->count = 0;
	if (!r->whole && r->read < READ_MAX) {
		ask_page(r);
		return;
	}
	if (r->whole) {
		now_known(r);
		free_bare(r);
	}
	reading_free(r);
}

static void
fetch(struct reading *r)
{
	struct wr_msg m = WR_MSG_INIT;

	r->asked_count = 0;
	m.keep = wr_calloc(FETCH_MAX, sizeof(*m.keep));
	for (size_t i = r->next; i < r->count && m.keep_count < FETCH_MAX; i++) {
		if (!is_wanted(r, &r->r[i]))
			continue;
		r->asked[r->asked_count++] = i;
		m.keep[m.keep_count++] =
		    (struct wr_keep){.project = r->r[i].project, .n = r->r[i].n};
	}
	if (m.keep_count) {
		m.kind = WR_MSG_RECORDS_ASK;
		wr_ask(r->c, &r->node.id, &m, PAGE_MS, on_records, r);
		return;
	}
	wr_msg_fini(&m);
	page_done(r);
}

/* It was away when they were made. */
static void
tell_newer(struct reading *r)
{
	struct wr_control *c = r->c;

	for (size_t i = 0; i < r->count && r->told < NEWER_MAX; i++) {
		struct wr_cat_project p = {0};
		struct wr_msg m = WR_MSG_INIT;

		if (wr_catalog_project_find(c->fleet->catalog, r->r[i].project.s, &p, NULL) == 0 &&
		    p.record.len && wr_epoch_cmp(&p.n, &r->r[i].n) > 0) {
			m.kind = WR_MSG_INSTALL;
			m.project = r->r[i].project;
			wr_buf_add(&m.record, p.record.p, p.record.len);
			wr_buf_add(&m.settings, p.settings.p, p.settings.len);
			wr_ask(c, &r->node.id, &m, ASK_MS, NULL, NULL);
			r->told++;
		}
		wr_cat_project_fini(&p);
	}
}

static void
on_page(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct reading *r = ctx;
	struct wr_err err = WR_ERR_INIT;

	if (!answer || answer->kind != WR_MSG_HOLDS || (!answer->flag && !answer->report_count)) {
		cut_off(r);
		return;
	}
	/* What another process of it said counts no more: it may have come back emptied. */
	if (*r->after.s && answer->nonce != r->nonce) {
		r->after = (struct wr_uuid){{0}};
		r->began = wr_clock_wall().s;
		r->read = 0;
		ask_page(r);
		return;
	}
	r->nonce = answer->nonce;
	r->whole = answer->flag;
	r->count = answer->report_count;
	r->next = 0;
	if (r->count)
		memcpy(r->r, answer->report, r->count * sizeof(*r->r));
	if (wr_catalog_report_page(r->c->fleet->catalog, &answer->from, r->after.s, r->r, r->count,
				   r->whole, wr_clock_wall().s, &err) < 0) {
		if (err.code == WR_E_INVALID) {
			wr_peer_refused(r->c, answer, &err);
			reading_free(r);
			return;
		}
		wr_log_err(WR_LOG_ERROR, "catalog a report", &err);
		cut_off(r);
		return;
	}
	tell_newer(r);
	fetch(r);
}

static void
ask_page(struct reading *r)
{
	struct wr_msg m = WR_MSG_INIT;

	m.kind = WR_MSG_INVENTORY;
	m.text = *r->after.s ? wr_strdup(r->after.s) : NULL;
	wr_ask(r->c, &r->node.id, &m, PAGE_MS, on_page, r);
}

static void
begin_reading(struct wr_control *c, const struct wr_node_id *node, bool all)
{
	struct wr_know *k = c->fleet->know;
	struct known *n = known_of(k, &node->id);
	struct reading *r;

	for (r = k->readings; r; r = r->link)
		if (!strcmp(r->node.id.s, node->id.s))
			return;
	n->asked_ns = wr_clock_boot_ns();
	r = wr_calloc(1, sizeof(*r));
	r->c = c;
	r->node = *node;
	r->all = all;
	r->after = n->after;
	r->began = *n->after.s ? n->began : wr_clock_wall().s;
	r->read = n->read;
	r->nonce = n->read_nonce;
	r->r = wr_calloc(WR_MSG_REPORTS, sizeof(*r->r));
	r->asked = wr_calloc(FETCH_MAX, sizeof(*r->asked));
	r->link = k->readings;
	k->readings = r;
	n->after = (struct wr_uuid){{0}};
	n->read = 0;
	ask_page(r);
}

/* After a start of the node or of the hub, and once a day. */
void
wr_know_reported(struct wr_control *c, const struct wr_msg *report)
{
	struct known *n = known_of(c->fleet->know, &report->from.id);
	bool is_known =
	    wr_catalog_node_is_known(c->fleet->catalog, &report->from.id, NULL, NULL) > 0;

	if (n->asked_ns && n->nonce == report->nonce &&
	    (!is_known || wr_clock_boot_ns() - n->asked_ns < AGAIN_NS))
		return;
	n->nonce = report->nonce;
	begin_reading(c, &report->from, !is_known);
}

/* Who is not known yet. */
static void
on_ask(struct wr_timer *t)
{
	struct wr_know *k = WR_OWNER(t, struct wr_know, ask);
	struct wr_control *c = k->c;
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	size_t n = 0;

	wr_timer_on(&c->loop, t, SOON_NS, on_ask);
	if (wr_know_missing(c, NULL) == 0)
		return;
	for (struct reading *r = k->readings; r; r = r->link)
		n++;
	for (size_t i = 0; i < f->node_count && n < READINGS_MAX; i++) {
		const struct wr_fleet_node *e = &f->node[i];

		if (wr_fleet_find(f, &e->node.id) != e || (e->flags & WR_FLEET_REMOVED) ||
		    !*e->peer ||
		    wr_catalog_node_is_known(c->fleet->catalog, &e->node.id, NULL, NULL) > 0)
			continue;
		n++;
		begin_reading(c, &e->node, true);
	}
}

/* ---- new names ---- */

static int
check_whole(struct wr_control *c, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *names = json_array();
	WR_SCOPED(wr_buf_fini) struct wr_buf list = WR_BUF_INIT;
	size_t n = wr_know_missing(c, names), i;
	const char *mute = NULL;
	const json_t *e;

	if (!n)
		return 0;
	json_array_foreach(names, i, e)
	{
		const struct wr_fleet_node *f =
		    wr_fleet_by_name(&c->fleet->auth->fleet, json_string_value(e));

		if (i < 5)
			wr_buf_addf(&list, "%s%s", i ? ", " : "", json_string_value(e));
		if (f && !*f->peer)
			mute = f->name;
	}
	wr_err_set(
	    err, WR_E_BUSY,
	    "the hub's catalog is recovering: it does not know yet which names are in use on "
	    "%s%s",
	    wr_buf_str(&list), n > 5 ? ", ..." : "");
	if (mute)
		return wr_err_hint(err,
				   "node %s has no address for other nodes, so it cannot be asked: "
				   "[listen] peer = HOST:PORT in its configuration",
				   mute);
	return wr_err_hint(err, "nodes report by themselves; one that is gone for good: 'warren "
				"node remove NAME --force'");
}

int
wr_know_may_create(struct wr_control *c, const struct wr_node_id *node, struct wr_err *err)
{
	const uint64_t most = c->node->config.hub_creates, now = wr_clock_boot_ns();
	struct known *n;

	if (check_whole(c, err) < 0)
		return -1;
	/* Who is root here needs no limit. */
	if (!most || wr_node_id_eq(node, &c->fleet->auth->self))
		return 0;
	n = known_of(c->fleet->know, &node->id);
	if (!n->hour_ns || now - n->hour_ns >= HOUR_NS) {
		n->hour_ns = now;
		n->created = 0;
		n->limit_told = false;
	}
	if (n->created < most) {
		n->created++;
		return 0;
	}
	wr_err_set(err, WR_E_LIMIT, "node '%s' made %u projects within the hour, as many as it may",
		   wr_fleet_name(c, &node->id), n->created);
	wr_err_hint(err, "[hub] creates in warren.conf(5) of the hub");
	if (!n->limit_told)
		wr_event(c, "hub", NULL, "hub.create-limit", err->msg, NULL);
	n->limit_told = true;
	return -1;
}

/* ---- losses that are accepted ---- */

static void
permits_trim(struct wr_know *k, const struct wr_uuid *but_not)
{
	uint64_t now = wr_clock_boot_ns();
	size_t n = 0;

	for (size_t i = 0; i < k->permit_count; i++)
		if (now < k->permit[i].until_ns &&
		    (!but_not || strcmp(k->permit[i].project.s, but_not->s) != 0))
			k->permit[n++] = k->permit[i];
	k->permit_count = n;
}

bool
wr_know_loss_permitted(struct wr_control *c, const struct wr_uuid *project,
		       const struct wr_node_id *node)
{
	struct wr_know *k = c->fleet->know;

	permits_trim(k, NULL);
	for (size_t i = 0; i < k->permit_count; i++)
		if (!strcmp(k->permit[i].project.s, project->s) &&
		    !strcmp(k->permit[i].node.s, node->id.s))
			return true;
	return false;
}

void
wr_know_loss_done(struct wr_control *c, const struct wr_uuid *project)
{
	permits_trim(c->fleet->know, project);
}

static int
find_project(struct wr_control *c, const char *ref, struct wr_uuid *out, char name[64],
	     struct wr_err *err)
{
	struct wr_cat_project p = {0};

	if (wr_catalog_project_find(c->fleet->catalog, ref, &p, err) < 0)
		return -1;
	*out = p.id;
	snprintf(name, 64, "%s", p.name);
	wr_cat_project_fini(&p);
	return 0;
}

int
wr_on_permit_loss(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	const char *ref = wr_call_str(&q->call, "node");
	const struct wr_fleet_node *n;
	struct permit p = {.until_ns = wr_clock_boot_ns() + PERMIT_NS};
	struct wr_know *k = c->fleet ? c->fleet->know : NULL;
	WR_SCOPED(wr_freep) char *why = NULL;
	char name[64];
	json_t *o;

	if (!k)
		return wr_err_set(err, WR_E_UNSUPPORTED, "this node is no hub of a fleet");
	n = wr_fleet_node_of(c, ref, err);
	if (!n || find_project(c, wr_call_str(&q->call, "project"), &p.project, name, err) < 0)
		return -1;
	p.node = n->node.id;
	permits_trim(k, &p.project);
	if (k->permit_count >= PERMITS_MAX)
		return wr_err_set(err, WR_E_LIMIT, "%d such permits are open", PERMITS_MAX);
	k->permit[k->permit_count++] = p;
	why = wr_asprintf("node '%s' may go on without the newest saves of '%s', within an hour",
			  n->name, name);
	wr_event(c, q->who.by, &p.project, "hub.loss-permitted", why, NULL);
	o = wr_json_begin("warren.permit-loss/1");
	wr_json_str(o, "project", p.project.s);
	wr_json_str(o, "name", name);
	wr_json_str(o, "node", n->node.id.s);
	wr_json_str(o, "node_name", n->name);
	wr_json_time(o, "until", wr_clock_wall().s + (int64_t)(PERMIT_NS / WR_SECOND));
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- beginning and end ---- */

static int
count_start(struct wr_control *c, bool *out_older, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep)
	json_t *was = wr_file_load(c->node->state_fd, FILE_NAME, FILE_BYTES, "format", 1, &why);
	WR_SCOPED(wr_json_freep) json_t *is = json_object();
	uint64_t count;

	/* One that cannot be read says nothing. */
	if (!was && why.code != WR_E_NOT_FOUND)
		wr_log_err(WR_LOG_WARNING, "how often the catalog was opened", &why);
	if (wr_catalog_started(c->fleet->catalog, wr_json_get_u64(was, "starts", 0), &count,
			       out_older, err) < 0)
		return -1;
	wr_json_u64(is, "format", 1);
	wr_json_u64(is, "starts", count);
	return wr_file_store(c->node->state_fd, FILE_NAME, is, FILE_BYTES, 0600, true, err);
}

int
wr_know_begin(struct wr_control *c, struct wr_err *err)
{
	struct wr_know *k = wr_calloc(1, sizeof(*k));
	bool older = false;

	k->c = c;
	k->whole_seq = UINT64_MAX;
	c->fleet->know = k;
	/* What lies here was read just now. */
	if (count_start(c, &older, err) < 0 ||
	    wr_catalog_node_known(c->fleet->catalog, &c->fleet->auth->self.id, wr_clock_wall().s,
				  err) < 0)
		return wr_err_wrap(err, "look how old the catalog is");
	if (wr_know_missing(c, NULL) > 0)
		wr_event(c, "hub", NULL, "hub.recovering",
			 older ? "the catalog is an older one: what the nodes hold is read anew"
			       : "the catalog does not know yet what all nodes hold",
			 NULL);
	wr_timer_on(&c->loop, &k->sweep, SWEEP_NS, on_sweep);
	wr_timer_on(&c->loop, &k->ask, WR_SECOND, on_ask);
	return 0;
}

void
wr_know_end(struct wr_control *c)
{
	struct wr_know *k = c->fleet ? c->fleet->know : NULL;

	if (!k)
		return;
	while (k->readings)
		reading_free(k->readings);
	wr_timer_off(&c->loop, &k->sweep);
	wr_timer_off(&c->loop, &k->ask);
	free(k->known);
	free(k);
	c->fleet->know = NULL;
}
