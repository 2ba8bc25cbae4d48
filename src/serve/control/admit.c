/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings that a hub signed and other nodes wrote.  One node of the fleet that lies must not
 * become another user, or root, on all hosts that keep copies: what is done with files and
 * processes here is judged here.
 */
#include "fleet/record/record.h"
#include "serve/control/replicas.h"

struct same_uid {
	const struct wr_settings *set;
	char other[sizeof(((struct wr_proj_row *)NULL)->name)]; /* "": nobody */
};

static int
look(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct same_uid *s = ctx;

	if (r->uid == s->set->uid && strcmp(r->id.s, s->set->id.s) != 0 &&
	    (r->exclusive || s->set->exclusive))
		snprintf(s->other, sizeof(s->other), "%s", r->name);
	return 0;
}

int
wr_copy_admit(struct wr_control *c, const struct wr_uuid *project, const struct wr_settings *set,
	      const struct wr_settings *have, struct wr_err *err)
{
	struct same_uid same = {.set = set};

	if (strcmp(set->id.s, project->s) != 0)
		return wr_err_set(err, WR_E_INVALID, "settings of project %s call it %s",
				  project->s, set->id.s);
	if (wr_settings_admit(c->node, set, have, err) < 0)
		return -1;
	if (have || !c->node->root_mode)
		return 0;
	if (wr_store_proj_each(c->store, 2, look, &same, err) < 0)
		return -1;
	if (!*same.other)
		return 0;
	return wr_err_set(err, WR_E_EXISTS, "uid %" PRIu32 " of project '%s' is that of '%s' here",
			  set->uid, set->name, same.other);
}

int
wr_copy_admit_doc(struct wr_control *c, const struct wr_uuid *project, const struct wr_buf *doc,
		  struct wr_err *err)
{
	WR_SCOPED(wr_settings_doc_fini) struct wr_settings_doc d = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_settings set = {0}, have = {0};
	struct wr_proj_row row = {0};
	bool known;
	int rc = -1;

	if (!doc->len)
		return 0;
	known = wr_row_find(c, project, &row, NULL) == 0 && wr_row_settings(&row, &have, NULL) == 0;
	if (wr_settings_doc_decode(doc->p, doc->len, &d, err) == 0 &&
	    wr_settings_doc_verify(&d, &c->fleet->auth->fleet, err) == 0 &&
	    (o = wr_json_parse(d.json, strlen(d.json), err)) &&
	    wr_settings_parse(o, &set, err) == 0)
		rc = wr_copy_admit(c, project, &set, known ? &have : NULL, err);
	wr_settings_fini(&set);
	wr_settings_fini(&have);
	wr_proj_row_fini(&row);
	return rc;
}
