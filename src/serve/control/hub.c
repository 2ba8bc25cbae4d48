/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hub: names and uids of projects, their first records (hub_create.c), raises (hub_raise.c),
 * settings, what nodes report, certificates.  Several hubs may do all this at once; nothing here is
 * needed for safety, which the members see to by their own disks.
 */
#include "base/log.h"
#include "fleet/catalog/catalog.h"
#include "fleet/trust/trust.h"
#include "serve/control/hub_int.h"
#include "serve/control/know.h"
#include "serve/control/marks.h"
#include "serve/control/nodes.h"
#include "serve/control/replicas.h"
#include "sys/clock.h"

#define REPORTED_BYTES (900u << 10)

/* ---- beginnings ---- */

static bool
is_here(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj_row row = {0};
	bool here = wr_row_find(c, project, &row, NULL) == 0 ||
		    wr_place_of_find(c->node, project, &place, NULL) == 0;

	wr_place_of_fini(&place);
	wr_proj_row_fini(&row);
	return here;
}

static int
learn_own(void *ctx, const struct wr_uuid *project, struct wr_err *err)
{
	struct wr_control *c = ctx;
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc doc = {0};
	struct wr_err why = WR_ERR_INIT;
	struct wr_member_state s;
	int rc = 0;

	if (wr_auth_load(c->fleet->auth, project, &s, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "what is known of a project", &why);
	else if (s.has_record && is_here(c, project) &&
		 wr_settings_doc_decode(s.settings.p, s.settings.len, &doc, &why) == 0)
		rc = wr_catalog_project_learn(c->fleet->catalog, &s.record, &s.record_bytes, &doc,
					      &s.settings, err);
	wr_member_fini(&s);
	return rc;
}

/* A catalog that is older than this node's own disk, or empty, must not give away names and uids
 * that projects here have. */
int
wr_hub_begin(struct wr_control *c, struct wr_err *err)
{
	int rc;

	c->fleet->hub = wr_calloc(1, sizeof(*c->fleet->hub));
	if (wr_catalog_begin(c->fleet->catalog, err) < 0)
		return -1;
	rc = wr_auth_each(c->fleet->auth, learn_own, c, err);
	if (rc == 0)
		rc = wr_catalog_commit(c->fleet->catalog, err);
	else
		wr_catalog_abort(c->fleet->catalog);
	if (rc == 0)
		return wr_know_begin(c, err);
	return wr_err_wrap(err, "read this node's projects into the catalog");
}

void
wr_hub_end(struct wr_control *c)
{
	struct wr_hub *h = c->fleet ? c->fleet->hub : NULL;
	struct wr_err why = WR_ERR_INIT;

	wr_know_end(c);
	if (!h)
		return;
	wr_err_set(&why, WR_E_CANCELLED, "the hub is ending");
	wr_hub_raises_end(c, &why);
	free(h);
	c->fleet->hub = NULL;
}

const struct wr_uuid *
wr_hub_pick(struct wr_control *c)
{
	const struct wr_fleet *f = &c->fleet->auth->fleet;
	const struct wr_fleet_node *any = NULL;

	if (c->fleet->hub)
		return &c->fleet->auth->self.id;
	for (size_t i = 0; i < f->node_count; i++) {
		const struct wr_fleet_node *n = &f->node[i];

		if ((n->flags & (WR_FLEET_HUB | WR_FLEET_REMOVED)) != WR_FLEET_HUB)
			continue;
		if (!any || (!*any->peer && *n->peer))
			any = n;
	}
	/* Without any the question goes to ourselves, who say that this is no hub. */
	return any ? &any->node.id : &c->fleet->auth->self.id;
}

/* ---- SETTINGS ---- */

static int
new_settings(struct wr_asked *k, struct wr_cat_project *p, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf doc = WR_BUF_INIT;
	struct wr_settings set = {0};
	int rc = wr_hub_read_settings(&k->q.blob, &k->q.project, &set, err);

	if (rc == 0 && (set.uid != p->uid || set.gid != p->gid))
		rc = wr_err_set(err, WR_E_DENIED, "settings: whose project '%s' is does not change",
				p->name);
	if (rc == 0 && p->settings_rev != k->q.number) {
		rc = wr_err_set(err, WR_E_CHANGED,
				"settings of '%s' are at revision %" PRIu64 ", not %" PRIu64,
				p->name, p->settings_rev, k->q.number);
		wr_err_hint(err, "look at them again: warren settings %s", p->name);
	}
	if (rc == 0) {
		set.rev = k->q.number + 1;
		rc = wr_hub_sign_settings(k->c, &set, &doc, err);
	}
	if (rc == 0) {
		snprintf(p->name, sizeof(p->name), "%s", set.name);
		p->uid = set.uid;
		p->gid = set.gid;
		p->settings_rev = set.rev;
		p->changed = wr_clock_wall().s;
		wr_buf_clear(&p->settings);
		wr_buf_add(&p->settings, doc.p, doc.len);
		rc = wr_catalog_project_put(k->c->fleet->catalog, p, err);
	}
	wr_settings_fini(&set);
	return rc;
}

/* Without any: the newest there are. */
static int
on_settings(struct wr_asked *k, struct wr_err *err)
{
	struct wr_cat_project p = {0};
	struct wr_record e;
	int rc = wr_catalog_project_find(k->c->fleet->catalog, k->q.project.s, &p, err);

	if (rc == 0)
		rc = wr_record_decode(p.record.p, p.record.len, &e, err);
	if (rc == 0)
		rc = wr_hub_may_raise(k, &e, err);
	if (rc == 0 && k->q.blob.len)
		rc = new_settings(k, &p, err);
	if (rc == 0)
		wr_hub_answer_raised(k, NULL, &p.settings);
	wr_cat_project_fini(&p);
	return rc;
}

/* ---- REPORT ---- */

/* Deleted, and the last copy is purged: its name is free. */
static void
look_purged(struct wr_control *c, const struct wr_node_id *from, const struct wr_report *r)
{
	struct wr_hub_elsewhere other = {.asker = from};
	struct wr_cat_project p = {0};
	struct wr_err err = WR_ERR_INIT;

	if (r->state != WR_ST_ABSENT || !wr_epoch_none(&r->held.n) ||
	    wr_catalog_project_find(c->fleet->catalog, r->project.s, &p, NULL) < 0)
		return;
	if (p.deleted &&
	    wr_catalog_copies(c->fleet->catalog, &r->project, NULL, wr_hub_count_elsewhere, &other,
			      &err) == 0 &&
	    !other.copies)
		(void)wr_catalog_project_purged(c->fleet->catalog, &r->project, wr_clock_wall().s,
						&err);
	if (err.code != WR_E_NONE)
		wr_log_err(WR_LOG_ERROR, "catalog a report", &err);
	wr_cat_project_fini(&p);
}

static void
add_blob(struct wr_msg *a, const struct wr_buf *b)
{
	a->blobs = wr_reallocarray(a->blobs, a->blob_count + 1, sizeof(*a->blobs));
	a->blobs[a->blob_count] = (struct wr_buf)WR_BUF_INIT;
	wr_buf_add(&a->blobs[a->blob_count++], b->p, b->len);
}

/* Records newer than what it has, each with its settings; the rest comes with the next report. */
static void
add_newer(struct wr_control *c, const struct wr_report *r, struct wr_msg *a, size_t *io_bytes)
{
	struct wr_cat_project p = {0};

	if (a->blob_count + 2 <= WR_MSG_BLOBS &&
	    wr_catalog_project_find(c->fleet->catalog, r->project.s, &p, NULL) == 0 &&
	    p.record.len && wr_epoch_cmp(&p.n, &r->n) > 0 &&
	    *io_bytes + p.record.len + p.settings.len < REPORTED_BYTES) {
		*io_bytes += p.record.len + p.settings.len;
		add_blob(a, &p.record);
		add_blob(a, &p.settings);
	}
	wr_cat_project_fini(&p);
}

static int
on_report(struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;
	struct wr_msg a = WR_MSG_INIT;
	size_t bytes = 0;

	if (wr_catalog_report(c->fleet->catalog, &k->q.from, k->q.report, k->q.report_count,
			      wr_clock_wall().s, err) < 0)
		return -1;
	wr_know_reported(c, &k->q);
	wr_marks_heard(c, &k->q.from.id, k->q.flag);
	wr_msg_answer(&a, &k->q, &c->fleet->auth->self, WR_MSG_REPORTED);
	for (size_t i = 0; i < k->q.report_count; i++) {
		add_newer(c, &k->q.report[i], &a, &bytes);
		look_purged(c, &k->q.from, &k->q.report[i]);
	}
	wr_asked_answer(k, &a);
	return 0;
}

/* ---- CERT ---- */

/* For the names that the fleet record has of it, and no others. */
static int
on_cert(struct wr_asked *k, struct wr_err *err)
{
	struct wr_control *c = k->c;
	const struct wr_fleet_node *n = wr_fleet_has(&c->fleet->auth->fleet, &k->q.from);
	WR_SCOPED(wr_freep) char(*host)[WR_HOST_SIZE] = wr_calloc(WR_CERT_NAMES, sizeof(*host));
	const char *name[WR_CERT_NAMES], *at;
	struct wr_msg a = WR_MSG_INIT;
	size_t count = 0;

	if (!n || (n->flags & WR_FLEET_REMOVED))
		return wr_err_set(err, WR_E_DENIED, "it is not in the fleet");
	for (at = n->names; count < WR_CERT_NAMES && wr_host_next(&at, host[count]); count++)
		name[count] = host[count];
	wr_msg_answer(&a, &k->q, &c->fleet->auth->self, WR_MSG_CERT_OK);
	if (wr_nodes_certify(c, &k->q.from, (struct wr_der){k->q.blob.p, k->q.blob.len}, name,
			     count, &a.blob, err) < 0) {
		wr_msg_fini(&a);
		return -1;
	}
	wr_event(c, "hub", NULL, "node.certificate", n->name, NULL);
	wr_asked_answer(k, &a);
	return 0;
}

/* ---- ADDRESS ---- */

static bool
address_ok(const char *s)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	return !*s || wr_hostport_parse(s, host, &port);
}

/* A node says where it is reached: its own configuration is the truth of that. */
static int
on_address(struct wr_asked *k, struct wr_err *err)
{
	const char *peer = k->q.text ? k->q.text : "", *api = k->q.hint ? k->q.hint : "";
	struct wr_msg a = WR_MSG_INIT;

	if (!address_ok(peer) || !address_ok(api))
		return wr_err_set(err, WR_E_INVALID, "'%s', '%s': no addresses", WR_Q(peer),
				  WR_Q(api));
	if (wr_fleet_set_address(k->c, &k->q.from, peer, api, err) < 0)
		return -1;
	wr_msg_answer(&a, &k->q, &k->c->fleet->auth->self, WR_MSG_OK);
	wr_asked_answer(k, &a);
	return 0;
}

/* ---- all of them ---- */

void
wr_hub_serve(struct wr_asked *k)
{
	struct wr_err err = WR_ERR_INIT;
	int rc;

	if (!k->c->fleet->hub) {
		wr_err_set(&err, WR_E_UNSUPPORTED, "this node is no hub");
		wr_asked_fail(k, &err);
		return;
	}
	switch (k->q.kind) {
	case WR_MSG_CREATE:
		rc = wr_hub_create(k, &err);
		break;
	case WR_MSG_RAISE:
		rc = wr_hub_raise(k, &err);
		break;
	case WR_MSG_SETTINGS:
		rc = on_settings(k, &err);
		break;
	case WR_MSG_REPORT:
		rc = on_report(k, &err);
		break;
	case WR_MSG_CERT:
		rc = on_cert(k, &err);
		break;
	case WR_MSG_ADDRESS:
		rc = on_address(k, &err);
		break;
	default:
		rc = wr_err_set(&err, WR_E_UNSUPPORTED, "a hub is not asked that");
	}
	if (rc < 0)
		wr_asked_fail(k, &err);
}
