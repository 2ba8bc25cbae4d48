/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/refcmd.h"

#include "cli/claim.h"
#include "cli/options.h"
#include "engine/snap/whoami.h"

void
wr_ref_target(struct wr_view *v, const struct wr_id *id, struct wr_ref_target *out)
{
	struct wr_id_hex hex = wr_id_hex(id);
	enum wr_obj_type type;
	struct wr_snap snap;
	char *path = NULL;
	uint64_t size;

	*out = (struct wr_ref_target){.id = *id, .type = "missing"};
	if (wr_repo_stat_object(v->rd, id, &type, &size, NULL) < 0)
		return;
	out->type = wr_obj_type_name(type);
	if (type != WR_OBJ_COMMIT && type != WR_OBJ_TAG)
		return;
	if (wr_resolve(v->rd, hex.s, v->now, &snap, &path, NULL) < 0)
		return;
	out->id = snap.commit;
	out->type = "commit";
	out->is_commit = true;
	out->time = snap.time;
	wr_snap_fini(&snap);
	free(path);
}

static int
print_receipt(const struct wr_refcmd *c, const char *did, const char *name,
	      const struct wr_id *commit, const char *undo, struct wr_err *err)
{
	if (wr_out_json()) {
		json_t *o = wr_json_begin(c->schema), *e = wr_json_object(o, did);

		wr_json_str(e, c->word, name);
		wr_json_id(e, "commit", commit);
		wr_json_str(o, "undo", undo);
		return wr_json_print(o, err);
	}
	if (wr_out_quiet())
		return 0;
	printf("%s %s ", did, c->word);
	wr_name_print(name, strlen(name));
	printf(" at %s\n%s ", wr_id_short(commit).s, "undo with:");
	wr_name_print(undo, strlen(undo));
	putchar('\n');
	return 0;
}

static int
create(const struct wr_refcmd *c, struct wr_view *v, const char *name, const char *spec, int wait,
       struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *ref = wr_asprintf("%s%s", c->prefix, name);
	WR_SCOPED(wr_freep) char *other = wr_asprintf("%s%s", c->other_prefix, name);
	WR_SCOPED(wr_freep) char *undo = wr_asprintf("warren repo %s --delete %s", c->word, name);
	WR_SCOPED(wr_freep) char *what = wr_asprintf("%s %s", c->word, name);
	WR_SCOPED(wr_freep) char *ident = wr_whoami();
	WR_SCOPED(wr_snap_fini) struct wr_snap snap = {0};
	struct wr_id there;

	if (wr_ref_name_check(name, err) < 0 || wr_snap_find(v, spec, &snap, err) < 0 ||
	    wr_repo_lock(v->repo, what, wait, err) < 0)
		return -1;
	if (wr_ref_read(v->repo, ref, &there, NULL) == 0) {
		wr_err_set(err, WR_E_EXISTS, "%s '%s' exists already, at %s", c->word, WR_Q(name),
			   wr_id_short(&there).s);
		return wr_err_hint(err, "'warren repo %s --delete %s' removes it", c->word,
				   WR_Q(name));
	}
	if (wr_ref_read(v->repo, other, &there, NULL) == 0)
		return wr_err_set(err, WR_E_EXISTS, "there is a %s '%s', one would hide the other",
				  c->other_word, WR_Q(name));
	if (wr_ref_update(v->repo, ref, &snap.commit, NULL, ident, what, err) < 0)
		return -1;
	return print_receipt(c, "created", name, &snap.commit, undo, err);
}

static int delete (const struct wr_refcmd *c, struct wr_view *v, const char *name, int wait,
		   struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *ref = wr_asprintf("%s%s", c->prefix, name);
	WR_SCOPED(wr_freep) char *what = wr_asprintf("%s --delete %s", c->word, name);
	WR_SCOPED(wr_freep) char *undo = NULL;
	struct wr_ref_target target;
	struct wr_id id;

	if (wr_repo_lock(v->repo, what, wait, err) < 0)
		return -1;
	if (wr_ref_read(v->repo, ref, &id, err) < 0) {
		if (err->code != WR_E_NOT_FOUND)
			return -1;
		wr_err_set(err, WR_E_NOT_FOUND, "there is no %s '%s'", c->word, WR_Q(name));
		return wr_err_hint(err, "'warren repo %s' lists them", c->word);
	}
	wr_ref_target(v, &id, &target);
	/* What only git could have made, only git can bring back. */
	if (target.is_commit && wr_id_eq(&target.id, &id) && wr_ref_name_check(name, NULL) == 0)
		undo = wr_asprintf("warren repo %s %s %s", c->word, name, wr_id_hex(&id).s);
	else
		undo = wr_asprintf("git update-ref %s %s", ref, wr_id_hex(&id).s);
	if (wr_ref_delete(v->repo, ref, &id, err) < 0)
		return -1;
	return print_receipt(c, "deleted", name, &id, undo, err);
}

int
wr_refcmd_run(const struct wr_refcmd *c, const struct wr_args *a, struct wr_err *err)
{
	const char *doomed = wr_arg_str(a, "delete");
	int wait = (int)wr_arg_u64(a, "wait", 0);
	WR_SCOPED(wr_view_close) struct wr_view v = {0};
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	WR_SCOPED(wr_lock_drop) struct wr_lock claim = WR_LOCK_INIT;

	if (doomed && a->pos_count)
		return wr_err_set(err, WR_E_USAGE, "--delete NAME takes no other argument");
	if (a->pos_count == 1) {
		wr_err_set(err, WR_E_USAGE, "which snapshot is '%s' to name?", WR_Q(a->pos[0]));
		return wr_err_hint(err, "warren repo %s NAME SNAP, for example main/latest",
				   c->word);
	}
	if (wr_view_open(a, &v, err) < 0 ||
	    ((doomed || a->pos_count) && wr_claim(v.repo, a->cmd->path, wait, &claim, err) < 0))
		return -1;
	if (doomed)
		return delete (c, &v, doomed, wait, err);
	if (a->pos_count)
		return create(c, &v, a->pos[0], a->pos[1], wait, err);
	if (wr_refs_list(v.repo, c->prefix, &refs, err) < 0)
		return -1;
	if (!refs.count)
		wr_remark("no %s yet", !strcmp(c->word, "tag") ? "tags" : "branches");
	return c->show(&v, &refs, err);
}
