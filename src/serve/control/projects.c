/* SPDX-License-Identifier: Apache-2.0 */
/* Projects in memory, in the index and on the disks. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "host/node/age.h"
#include "serve/control/control_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* ---- in memory ---- */

/* Position of id, or where it belongs. */
static size_t
proj_at(const struct wr_control *c, const struct wr_uuid *id)
{
	size_t lo = 0, hi = c->proj_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(c->proj[mid]->id.s, id->s) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct wr_proj *
wr_proj_find(struct wr_control *c, const struct wr_uuid *id)
{
	size_t i = proj_at(c, id);

	return i < c->proj_count && !strcmp(c->proj[i]->id.s, id->s) ? c->proj[i] : NULL;
}

struct wr_proj *
wr_proj_get(struct wr_control *c, const struct wr_uuid *id)
{
	size_t i = proj_at(c, id);
	struct wr_proj *p;

	if (i < c->proj_count && !strcmp(c->proj[i]->id.s, id->s))
		return c->proj[i];
	p = wr_calloc(1, sizeof(*p));
	p->c = c;
	p->id = *id;
	p->due_s = UINT64_MAX;
	wr_grow(&c->proj, &c->proj_cap, c->proj_count + 1, sizeof(struct wr_proj *));
	memmove(c->proj + i + 1, c->proj + i, (c->proj_count - i) * sizeof(struct wr_proj *));
	c->proj[i] = p;
	c->proj_count++;
	return p;
}

void
wr_proj_rest(struct wr_proj *p)
{
	struct wr_control *c = p->c;
	size_t i;

	if (p->active || p->restless || p->run || p->waiting || p->copying || p->to_copy)
		return;
	i = proj_at(c, &p->id);
	memmove(c->proj + i, c->proj + i + 1, (c->proj_count - i - 1) * sizeof(struct wr_proj *));
	c->proj_count--;
	free(p);
}

void
wr_projs_free(struct wr_control *c)
{
	for (size_t i = 0; i < c->proj_count; i++)
		free(c->proj[i]);
	free(c->proj);
	c->proj = NULL;
	c->proj_count = c->proj_cap = 0;
}

void
wr_proj_refresh(struct wr_proj *p, const struct wr_proj_row *row)
{
	struct wr_settings set = {0};
	uint64_t now_s = wr_clock_mono_ns() / WR_SECOND;

	p->active = row->desired && !row->deleted;
	p->due_s = UINT64_MAX;
	if (!p->active || wr_row_settings(row, &set, NULL) < 0)
		return;
	p->save_every = wr_settings_u64(&set, "save_every");
	p->idle_timeout = wr_settings_u64(&set, "idle_timeout");
	wr_settings_fini(&set);
	if (!p->last_scan_s) {
		int64_t age = row->save_began ? wr_clock_wall().s - row->save_began : 0;
		uint64_t back = WR_MIN((uint64_t)WR_MAX(age, (int64_t)0), p->save_every);

		p->last_scan_s = now_s > back ? now_s - back : 1;
	}
	p->due_s = wr_save_due(p->last_scan_s, p->save_every, p->c->node->config.save_min_interval,
			       &p->id);
}

/* ---- rows ---- */

int
wr_row_find(struct wr_control *c, const struct wr_uuid *id, struct wr_proj_row *out,
	    struct wr_err *err)
{
	return wr_store_proj_find(c->store, id->s, false, true, out, err);
}

void
wr_row_from_settings(struct wr_proj_row *r, const struct wr_settings *s)
{
	struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = wr_settings_json(s);

	r->id = s->id;
	snprintf(r->name, sizeof(r->name), "%s", s->name);
	r->uid = s->uid;
	r->gid = s->gid;
	r->exclusive = s->exclusive;
	r->autostart = wr_settings_bool(s, "autostart");
	r->created = s->created;
	wr_json_write(o, &b);
	free(r->settings);
	r->settings = wr_buf_detach(&b, NULL);
}

int
wr_row_settings(const struct wr_proj_row *r, struct wr_settings *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (!r->settings)
		return wr_err_set(err, WR_E_CORRUPT, "the index has no settings of '%s'", r->name);
	o = wr_json_parse(r->settings, strlen(r->settings), err);
	return o ? wr_settings_parse(o, out, err) : -1;
}

static void
settled(struct wr_control *c, const struct wr_proj_row *r, struct wr_place_of *place,
	const struct wr_status *now, struct wr_status *out)
{
	struct wr_settings set = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_status next;

	*out = *now;
	if (wr_row_settings(r, &set, &err) < 0)
		return;
	if (wr_life_settle(place, &set, now, &next)) {
		WR_SCOPED(wr_freep)
		char *why = wr_asprintf("it was %s, and no operation lives: now %s",
					wr_state_name(now->state), wr_state_name(next.state));

		if (wr_status_store(place, &next, true, &err) < 0) {
			wr_log_err(WR_LOG_ERROR, "put a state right", &err);
		} else {
			*out = next;
			wr_event(c, "control", &r->id, "state.settled", why, NULL);
		}
	}
	wr_settings_fini(&set);
}

/* What is not in memory is told without a look at the disk, so what is not at rest has to be. */
static void
note_rest(struct wr_control *c, const struct wr_uuid *id, const struct wr_status *st)
{
	bool restless = st->active || (st->state != WR_ST_STOPPED && st->state != WR_ST_ABSENT);
	struct wr_proj *p = restless ? wr_proj_get(c, id) : wr_proj_find(c, id);

	if (p)
		p->restless = restless;
}

void
wr_row_status(struct wr_control *c, const struct wr_proj_row *r, struct wr_status *out)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj *p = wr_proj_find(c, &r->id);
	struct wr_status now = {0};

	if (wr_place_of_find(c->node, &r->id, &place, NULL) < 0) {
		/* Being made, in the trash, or gone. */
		*out = (struct wr_status){.state = WR_ST_ABSENT, .when = r->created, .epoch = 1};
		snprintf(out->node, sizeof(out->node), "%s", c->node->id.s);
		if (p && p->run) {
			int fd = wr_opdir_open(c->node, &p->run->row.id, NULL);

			if (fd >= 0 && wr_opdir_progress(fd, &now, NULL) == 0)
				*out = now;
			wr_closep(&fd);
		} else if (!r->deleted) {
			out->state = WR_ST_ERROR;
			wr_err_set(&out->error, WR_E_NOT_FOUND,
				   "its repository is on no volume of this node");
			wr_err_hint(&out->error, "warren doctor");
		}
		wr_place_of_fini(&place);
		return;
	}
	wr_status_load(&place, &now);
	*out = now;
	if (wr_state_transient(now.state) && !(p && p->run)) {
		WR_SCOPED(wr_freep) char *note = NULL;

		/* Someone else at work holds the lock; then the state is his. */
		if (!wr_life_lock_held(&place, &note))
			settled(c, r, &place, &now, out);
	}
	wr_place_of_fini(&place);
	note_rest(c, &r->id, out);
}

int
wr_rows_seen(struct wr_control *c, const struct wr_who *who, bool trashed, wr_proj_fn fn, void *ctx,
	     struct wr_err *err)
{
	int rc = 0;

	if (who->rights & WR_RIGHT_READ)
		return wr_store_proj_each(c->store, trashed ? 1 : 0, fn, ctx, err);
	/* He who has one does not make us look at thousands. */
	for (size_t i = 0; rc == 0 && i < who->own_count; i++) {
		struct wr_proj_row row = {0};

		if (wr_row_find(c, &who->own[i], &row, NULL) == 0 && !row.deleted == !trashed)
			rc = fn(ctx, &row, err);
		wr_proj_row_fini(&row);
	}
	return rc;
}

int
wr_row_volumes(struct wr_control *c, const struct wr_proj_row *r, struct wr_err *err)
{
	const uint32_t at[] = {r->tree_vol, r->repo_vol};

	for (size_t i = 0; i < WR_ARRAY_LEN(at); i++) {
		if (at[i] >= c->node->volume_count || !c->volume_lost[at[i]])
			continue;
		wr_err_set(err, WR_E_FAILED, "volume '%s' of '%s' is not there any more",
			   WR_Q(c->node->volume[at[i]].path), r->name);
		return wr_err_hint(err, "mount its file system again");
	}
	return 0;
}

/* ---- the index and the disks ---- */

/*
 * Settings that only their file knows, and that lies where the repositories' user can write: the
 * identity is believed if the working files are that user's, for only root can have given them to
 * him; paths that root would act on are not (*out_dropped).
 */
static int
believe(const struct wr_place_of *place, bool trashed, struct wr_settings *set, bool *out_dropped,
	struct wr_err *err)
{
	static const char *const acted_on[] = {"home", "template"};
	const struct wr_volume *v = &place->node->volume[place->tree_vol];
	WR_SCOPED(wr_freep)
	char *at = wr_asprintf("%s%s", trashed ? ".trash/" : "", set->id.s);
	struct stat st;

	*out_dropped = false;
	if (!place->node->root_mode)
		return 0;
	if (set->uid == 0 || set->uid == place->node->uid)
		return wr_err_set(err, WR_E_DENIED, "its settings give it to uid %u",
				  (unsigned)set->uid);
	if (fstatat(v->projects_fd, at, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid != set->uid ||
	    st.st_gid != set->gid) {
		wr_err_set(err, WR_E_DENIED,
			   "its settings give it to uid %u and gid %u, its working files do not",
			   (unsigned)set->uid, (unsigned)set->gid);
		return wr_err_hint(err,
				   "if that is right: install -d -o %u -g %u -m 700 %s/projects/%s",
				   (unsigned)set->uid, (unsigned)set->gid, v->path, at);
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(acted_on); i++)
		*out_dropped |= json_object_del(set->set, acted_on[i]) == 0;
	return 0;
}

static int
index_project(struct wr_control *c, struct wr_place_of *place, bool trashed, struct wr_err *err)
{
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};
	struct wr_work work = {0};
	WR_SCOPED(wr_freep) char *why = NULL;
	bool dropped;
	int rc;

	if (wr_settings_load(place, &set, err) < 0)
		return -1;
	if (believe(place, trashed, &set, &dropped, err) < 0) {
		wr_settings_fini(&set);
		return -1;
	}
	wr_row_from_settings(&row, &set);
	row.tree_vol = (uint32_t)place->tree_vol;
	row.repo_vol = (uint32_t)place->repo_vol;
	if (trashed) {
		row.deleted = wr_age_stamp(c->node);
		if (wr_work_load(c->node, &set.id, &work, NULL) == 0 && work.deleted_at)
			row.deleted = work.deleted_at;
		wr_work_fini(&work);
	}
	rc = wr_store_proj_put(c->store, &row, err);
	why = wr_asprintf("%sunknown to the index%s", trashed ? "in a trash, " : "",
			  dropped ? "; home and template are to be set again" : "");
	if (rc == 0)
		wr_event(c, "control", &set.id, "project.found", why, NULL);
	wr_proj_row_fini(&row);
	wr_settings_fini(&set);
	return rc;
}

/* A repository that the disk has, and perhaps the index. */
static void
reconcile_one(struct wr_control *c, size_t vol, const struct wr_uuid *id, int conf_fd, bool trashed)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;

	place.node = c->node;
	place.id = *id;
	place.tree_vol = place.repo_vol = vol;
	place.conf_fd = conf_fd;
	if (wr_row_find(c, id, &row, NULL) < 0) {
		if (!trashed) {
			wr_place_of_fini(&place);
			place = (struct wr_place_of)WR_PLACE_OF_INIT;
			if (wr_place_of_find(c->node, id, &place, &err) < 0)
				goto out;
		}
		if (index_project(c, &place, trashed, &err) < 0) {
			WR_SCOPED(wr_freep)
			char *why = wr_asprintf("%s%s%s", err.msg, *err.hint ? "; " : "", err.hint);

			wr_event(c, "control", id, "project.unreadable", why, NULL);
		}
		goto out;
	}
	if (!trashed != !row.deleted) {
		/* An operation ended after its directories had moved, before the row had. */
		row.deleted = trashed ? wr_age_stamp(c->node) : 0;
		if (wr_store_proj_put(c->store, &row, &err) < 0)
			wr_log_err(WR_LOG_ERROR, "index a project", &err);
	}
	if (!trashed) {
		struct wr_status st = {0};

		wr_status_load(&place, &st);
		/* Whatever else is not at rest may be out of date: after a reboot nothing runs. */
		if (st.state != WR_ST_STOPPED && st.state != WR_ST_ABSENT &&
		    st.state != WR_ST_ERROR) {
			struct wr_proj *p = wr_proj_find(c, id);
			WR_SCOPED(wr_freep) char *note = NULL;

			if (!(p && p->run) && !wr_life_lock_held(&place, &note))
				settled(c, &row, &place, &st, &st);
		}
		note_rest(c, id, &st);
	}
out:
	wr_proj_row_fini(&row);
	wr_place_of_fini(&place);
}

/* All repositories below one directory of a volume. */
static void
reconcile_dir(struct wr_control *c, size_t vol, int dirfd, const char *name, bool trashed)
{
	int fd = wr_open_dir(dirfd, name);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!d) {
		wr_closep(&fd);
		return;
	}
	while ((e = readdir(d))) {
		WR_SCOPED(wr_freep) char *conf = NULL;
		struct wr_uuid id;
		int conf_fd;

		if (!wr_uuid_parse(e->d_name, &id))
			continue;
		conf = wr_asprintf("%s/conf", e->d_name);
		conf_fd = wr_open_dir(fd, conf);
		if (conf_fd < 0)
			wr_event(c, "control", &id, "project.unreadable", "it has no conf", NULL);
		else
			reconcile_one(c, vol, &id, conf_fd, trashed);
	}
	closedir(d);
}

struct orphans {
	struct wr_control *c;
	struct wr_uuid *id;
	size_t count, cap;
};

/* A row whose create never ended has nothing on any disk. */
static int
look_orphan(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct orphans *o = ctx;
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj *p = wr_proj_find(o->c, &r->id);
	struct wr_err why = WR_ERR_INIT;

	if (!(p && (p->run || p->first)) && !r->save_began && !r->used &&
	    wr_place_of_find(o->c->node, &r->id, &place, &why) < 0 && why.code == WR_E_NOT_FOUND) {
		wr_grow(&o->id, &o->cap, o->count + 1, sizeof(*o->id));
		o->id[o->count++] = r->id;
	}
	wr_place_of_fini(&place);
	return 0;
}

/* Does the project's record in userdb stand? */
static bool
is_known_by_name(void *ctx, const struct wr_uuid *project)
{
	struct wr_control *c = ctx;
	struct wr_proj_row row = {0};
	struct wr_status st = {0};

	if (c->accounts == WR_ACCOUNTS_USERDB && wr_row_find(c, project, &row, NULL) == 0)
		wr_row_status(c, &row, &st);
	wr_proj_row_fini(&row);
	return st.active || st.state == WR_ST_STARTING;
}

int
wr_ctl_reconcile(struct wr_control *c, struct wr_err *err)
{
	struct orphans o = {.c = c};
	struct wr_err why = WR_ERR_INIT;
	int rc = 0;

	if (wr_store_begin(c->store, err) < 0)
		return -1;
	for (size_t i = 0; i < c->node->volume_count; i++) {
		reconcile_dir(c, i, c->node->volume[i].repos_fd, ".", false);
		reconcile_dir(c, i, c->node->volume[i].repos_fd, ".trash", true);
	}
	rc = wr_store_proj_each(c->store, 0, look_orphan, &o, err);
	for (size_t i = 0; rc == 0 && i < o.count; i++)
		rc = wr_store_proj_drop(c->store, &o.id[i], err);
	free(o.id);
	if (rc < 0) {
		wr_store_abort(c->store);
		return -1;
	}
	if (wr_store_commit(c->store, err) < 0)
		return -1;
	/* States are settled. What a crash or another configuration left of names goes. */
	if (wr_accounts_sweep(c->node, is_known_by_name, c, &why) < 0)
		wr_log_err(WR_LOG_WARNING, "accounts", &why);
	return 0;
}
