/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that look at projects, make them, and change their settings. */
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "host/node/age.h"
#include "model/text.h"
#include "serve/control/control_int.h"
#include "serve/control/limits.h"
#include "serve/control/notices.h"
#include "serve/control/marks.h"
#include "serve/control/replicas.h"
#include "serve/control/resources.h"
#include "sys/clock.h"
#include "sys/getent.h"

/* ---- looking ---- */

struct listing {
	struct wr_control *c;
	json_t *out;
	const char *state, *name;
	const char *const *label;
	size_t label_count;
};

static bool
has_label(const json_t *labels, const char *wish)
{
	const char *eq = strchr(wish, '=');
	WR_SCOPED(wr_freep)
	char *key = eq ? wr_memdup(wish, (size_t)(eq - wish) + 1) : wr_strdup(wish);
	const char *value;

	if (eq)
		key[eq - wish] = '\0';
	value = wr_json_get_str(labels, key, NULL);
	return value && (!eq || !strcmp(value, eq + 1));
}

static int
list_one(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct listing *l = ctx;
	json_t *item;
	const json_t *labels;
	bool take;

	if (l->name && !wr_glob_name(l->name, r->name))
		return 0;
	item = wr_json_project(l->c, r, WR_ITEM_LIST);
	labels = wr_json_get_obj(item, "labels");
	take = !l->state ||
	       !strcmp(l->state, wr_json_get_str(wr_json_get_obj(item, "state"), "state", ""));
	for (size_t i = 0; i < l->label_count; i++)
		take = take && has_label(labels, l->label[i]);
	if (take)
		json_array_append(l->out, item);
	json_decref(item);
	return 0;
}

int
wr_on_list(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	json_t *o = wr_json_begin("warren.projects/1");
	const char *const *label = NULL;
	struct listing l = {.c = c,
			    .out = wr_json_array(o, "projects"),
			    .state = wr_call_str(&q->call, "state"),
			    .name = wr_call_str(&q->call, "name")};
	int rc;

	l.label_count = wr_call_list(&q->call, "label", &label);
	l.label = label;
	rc = wr_rows_seen(c, &q->who, wr_call_bool(&q->call, "trashed", false), list_one, &l, err);
	free((void *)(uintptr_t)label);
	return wr_req_answer(q, rc, o);
}

int
wr_on_trash(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	json_t *o = wr_json_begin("warren.projects/1");
	struct listing l = {.c = c, .out = wr_json_array(o, "projects")};

	if (wr_rows_seen(c, &q->who, true, list_one, &l, err) < 0) {
		json_decref(o);
		return -1;
	}
	wr_req_reply(q, 200, 0, o);
	return 0;
}

int
wr_on_show(struct wr_control *c, struct wr_req *q, struct wr_err *err WR_UNUSED)
{
	wr_req_reply(q, 200, 0, wr_json_project(c, &q->row, WR_ITEM_SHOW));
	return 0;
}

int
wr_on_state(struct wr_control *c, struct wr_req *q, struct wr_err *err WR_UNUSED)
{
	json_t *o = wr_json_begin("warren.state/1");
	WR_SCOPED(wr_json_freep) json_t *s = NULL;
	struct wr_status st = {0};

	wr_row_status(c, &q->row, &st);
	s = wr_status_json(&st);
	wr_json_str(o, "id", q->row.id.s);
	wr_json_str(o, "name", q->row.name);
	json_object_update_missing(o, s);
	wr_req_reply(q, 200, 0, o);
	return 0;
}

/* ---- settings ---- */

/* change: what was set, "key=value". */
static void
reply_settings(struct wr_req *q, const struct wr_settings *s, const char *const *change, size_t n)
{
	json_t *o = wr_json_begin("warren.settings/1"), *labels, *later;

	wr_json_str(o, "id", s->id.s);
	wr_json_str(o, "name", s->name);
	wr_json_u64(o, "rev", s->rev);
	labels = wr_json_object(o, "labels");
	for (size_t i = 0; i < s->label_count; i++)
		wr_json_str(labels, s->label[i].key, s->label[i].value);
	wr_json_take(o, "settings", wr_settings_show(s));
	later = wr_json_array(o, "at_start");
	for (size_t i = 0; i < n; i++) {
		WR_SCOPED(wr_freep) char *key = wr_strdup(change[i]);
		const struct wr_set_key *k;

		key[strcspn(key, "=")] = '\0';
		k = wr_set_key_find(key);
		if (k && k->at_start)
			wr_json_add_str(later, key);
	}
	wr_req_reply(q, 200, 0, o);
}

int
wr_on_settings_get(struct wr_control *c WR_UNUSED, struct wr_req *q, struct wr_err *err)
{
	struct wr_settings set = {0};
	int rc = wr_row_settings(&q->row, &set, err);

	if (rc == 0)
		reply_settings(q, &set, NULL, 0);
	wr_settings_fini(&set);
	return rc;
}

/* The row rules, the file is its copy; a crash in between leaves the change undone, and the next
 * operation writes the file again. */
static int
store_settings(struct wr_control *c, struct wr_place_of *place, struct wr_proj_row *row,
	       const struct wr_settings *set, struct wr_err *err)
{
	const bool had_uid = row->exclusive;
	struct wr_lock lock = WR_LOCK_INIT;
	int rc;

	wr_row_from_settings(row, set);
	if (wr_store_begin(c->store, err) < 0)
		return -1;
	if (wr_store_proj_put(c->store, row, err) < 0) {
		wr_store_abort(c->store);
		return -1;
	}
	/* An operation that runs has read its settings once: no need to wait for it. */
	(void)wr_life_lock(place, 0, "settings", &lock, NULL);
	rc = wr_settings_store(place, set, err);
	wr_lock_drop(&lock);
	if (rc < 0) {
		wr_store_abort(c->store);
		return -1;
	}
	if (wr_store_commit(c->store, err) < 0)
		return -1;
	if (had_uid && !row->exclusive)
		wr_limits_shared(c, row);
	else
		wr_limits_changed(c, row);
	wr_resources_changed(c, row);
	wr_notices_check(c, row);
	return 0;
}

/* Where it is presented it is taken away again, by those who know the place from the settings. */
static int
home_moves(struct wr_control *c, struct wr_req *q, const struct wr_settings *set,
	   const char *before, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *home = wr_settings_home(set, "");
	const struct wr_proj *p = wr_proj_find(c, &q->row.id);
	struct wr_status st = {0};

	if (!strcmp(home, before))
		return 0;
	wr_row_status(c, &q->row, &st);
	if (!q->row.desired && !st.active && !(p && (p->run || p->waiting)))
		return 0;
	wr_err_set(err, WR_E_BUSY, "home: project '%s' is in use at its present home", set->name);
	return wr_err_hint(err, "warren stop %s --force, then again", set->name);
}

/* What is signed by now, here as well, and on its way to the others. */
struct changing {
	struct wr_control *c;
	struct wr_req *q;    /* NULL: nobody waits any more */
	wr_settings_fn done; /* or control itself waits */
	void *ctx;
	struct wr_uuid project;
	char by[64];
	char *what;
	const char *const *change; /* as the request has them */
	size_t count;
};

static void
forget_change(struct wr_req *q)
{
	struct changing *k = q->held;

	k->q = NULL;
}

static void
settings_changed(struct wr_control *c, const char *by, const struct wr_settings *set,
		 const char *what)
{
	WR_SCOPED(wr_freep) char *why = wr_asprintf("revision %" PRIu64 ": %s", set->rev, what);

	wr_event(c, by, &set->id, "settings", why, NULL);
}

static int
take_signed(struct changing *k, const struct wr_settings *set, struct wr_err *err)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj_row row = {0};
	struct wr_proj *p = wr_proj_find(k->c, &k->project);
	int rc = wr_row_find(k->c, &k->project, &row, err);

	if (rc == 0)
		rc = wr_place_of_find(k->c->node, &k->project, &place, err);
	if (rc == 0)
		rc = store_settings(k->c, &place, &row, set, err);
	if (rc == 0 && p)
		wr_proj_refresh(p, &row);
	if (rc == 0)
		wr_fleet_tell(k->c, &k->project);
	wr_proj_row_fini(&row);
	wr_place_of_fini(&place);
	return rc;
}

static void
on_signed(void *ctx, struct wr_settings *set, const struct wr_err *why)
{
	struct changing *k = ctx;
	struct wr_err err = WR_ERR_INIT;

	if (why)
		err = *why;
	else if (take_signed(k, set, &err) == 0)
		settings_changed(k->c, k->by, set, k->what);
	if (k->q) {
		k->q->gone = NULL;
		if (err.code != WR_E_NONE)
			wr_req_fail(k->q, &err);
		else
			reply_settings(k->q, set, k->change, k->count);
	}
	if (k->done)
		k->done(k->ctx, err.code != WR_E_NONE ? &err : NULL);
	free(k->what);
	free((void *)(uintptr_t)k->change);
	free(k);
}

/* change is taken. */
static void
ask_settings(struct wr_control *c, struct wr_req *q, const struct wr_settings *set, uint64_t before,
	     const char *const *change, size_t n)
{
	struct changing *k = wr_calloc(1, sizeof(*k));

	k->c = c;
	k->q = q;
	k->project = set->id;
	snprintf(k->by, sizeof(k->by), "%s", q->who.by);
	k->what = wr_asprintf("%s%s", change[0], n > 1 ? " ..." : "");
	k->change = change;
	k->count = n;
	q->held = k;
	q->gone = forget_change;
	wr_fleet_settings(c, set, before, on_signed, k);
}

void
wr_settings_put(struct wr_control *c, const struct wr_proj_row *row, struct wr_settings *set,
		uint64_t before, const char *by, const char *what, wr_settings_fn done, void *ctx)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj *p = wr_proj_find(c, &row->id);
	struct wr_proj_row now = {0};
	struct wr_err err = WR_ERR_INIT;
	struct wr_record e;

	set->rev = before + 1;
	if (c->fleet && wr_fleet_record(c, &row->id, &e)) {
		struct changing *k = wr_calloc(1, sizeof(*k));

		*k = (struct changing){
		    .c = c, .done = done, .ctx = ctx, .project = row->id, .what = wr_strdup(what)};
		snprintf(k->by, sizeof(k->by), "%s", by);
		wr_fleet_settings(c, set, before, on_signed, k);
		return;
	}
	if (wr_row_find(c, &row->id, &now, &err) == 0 &&
	    wr_place_of_find(c->node, &row->id, &place, &err) == 0 &&
	    store_settings(c, &place, &now, set, &err) == 0) {
		if (p)
			wr_proj_refresh(p, &now);
		settings_changed(c, by, set, what);
	}
	wr_proj_row_fini(&now);
	wr_place_of_fini(&place);
	done(ctx, err.code != WR_E_NONE ? &err : NULL);
}

int
wr_on_settings_set(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_settings set = {0};
	const char *const *change = NULL;
	size_t n = wr_call_list(&q->call, "set", &change);
	uint64_t rev = wr_call_u64(&q->call, "rev", UINT64_MAX), before;
	bool by_user = !(q->who.rights & WR_RIGHT_OPERATE);
	struct wr_proj *p = wr_proj_find(c, &q->row.id);
	WR_SCOPED(wr_freep) char *what = NULL;
	WR_SCOPED(wr_freep) char *home = NULL;
	struct wr_record e;
	int rc = -1;

	if (wr_row_volumes(c, &q->row, err) < 0 ||
	    wr_place_of_find(c->node, &q->row.id, &place, err) < 0 ||
	    wr_row_settings(&q->row, &set, err) < 0)
		goto out;
	before = set.rev;
	home = wr_settings_home(&set, "");
	if (rev != UINT64_MAX && rev != before) {
		wr_err_set(err, WR_E_CHANGED,
			   "settings of '%s' are at revision %" PRIu64 ", not %" PRIu64, set.name,
			   before, rev);
		wr_err_hint(err, "look at them again: warren settings %s", set.name);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		if (wr_settings_change(&set, change[i], by_user, false, err) < 0)
			goto out;
	if (home_moves(c, q, &set, home, err) < 0)
		goto out;
	if (set.rev != before) {
		set.rev = before + 1; /* one step for all changes of a request */
		if (c->fleet && wr_fleet_record(c, &q->row.id, &e)) {
			ask_settings(c, q, &set, before, wr_steal(&change), n);
			rc = 0;
			goto out;
		}
		if (store_settings(c, &place, &q->row, &set, err) < 0)
			goto out;
		if (p)
			wr_proj_refresh(p, &q->row);
		what = wr_asprintf("%s%s", change[0], n > 1 ? " ..." : "");
		settings_changed(c, q->who.by, &set, what);
	}
	rc = 0;
	reply_settings(q, &set, change, n);
out:
	free((void *)(uintptr_t)change);
	wr_settings_fini(&set);
	wr_place_of_fini(&place);
	return rc;
}

/* ---- create ---- */

struct same_uid {
	uint32_t uid;
	bool found;
	struct wr_uuid alone; /* the one that has it exclusively; "" = none */
};

static int
look_uid(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct same_uid *s = ctx;

	if (r->uid == s->uid) {
		s->found = true;
		if (r->exclusive)
			s->alone = r->id;
	}
	return 0;
}

static void
share_signed(struct wr_control *c, const struct wr_settings *set)
{
	struct changing *k = wr_calloc(1, sizeof(*k));

	k->c = c;
	k->project = set->id;
	snprintf(k->by, sizeof(k->by), "control");
	k->what = wr_strdup("its uid is shared from now on");
	wr_fleet_settings(c, set, set->rev - 1, on_signed, k);
}

/* A second project gets the uid of another: neither has it for itself then. */
static int
share_uid(struct wr_control *c, const struct wr_uuid *id, struct wr_err *err)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};
	struct wr_record e;
	int rc = -1;

	if (wr_row_find(c, id, &row, err) < 0 || wr_row_settings(&row, &set, err) < 0)
		goto out;
	set.exclusive = false;
	set.rev++;
	if (c->fleet && wr_fleet_record(c, id, &e)) {
		/* Before the create, by the same way: the hub takes them in this order. */
		share_signed(c, &set);
		rc = 0;
	} else if (row.deleted) {
		wr_row_from_settings(&row, &set);
		rc = wr_store_proj_put(c->store, &row, err);
	} else if (wr_place_of_find(c->node, id, &place, err) == 0) {
		rc = store_settings(c, &place, &row, &set, err);
	}
out:
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
	wr_place_of_fini(&place);
	return rc;
}

static int
free_uid(void *ctx, uint32_t first, uint32_t last, uint32_t *out, struct wr_err *err)
{
	struct wr_control *c = ctx;

	return wr_store_uid_next(c->store, first, last,
				 wr_age_span(c->node, c->node->config.trash_keep), out, err);
}

/* What was asked for must go together. */
static int
pick_driver(struct wr_control *c, const struct wr_call *call, struct wr_settings *s,
	    struct wr_err *err)
{
	const char *name = wr_call_str(call, "identity");
	bool uid = wr_call_str(call, "uid") != NULL, gid = wr_call_str(call, "gid") != NULL;

	s->identity = name  ? wr_identity_parse(name) /* checked by the table */
		      : uid ? WR_IDENTITY_FIXED
			    : wr_identity_parse(c->node->config.identity_driver);
	if (s->identity == WR_IDENTITY_FIXED && !uid) {
		wr_err_set(err, WR_E_INVALID, "uid: a fixed identity is one that is given");
		return wr_err_hint(err, "--uid N; or another identity than fixed");
	}
	if (s->identity != WR_IDENTITY_FIXED && uid)
		return wr_err_set(err, WR_E_INVALID, "uid: identity '%s' chooses it",
				  wr_identity_name(s->identity));
	if ((s->identity == WR_IDENTITY_NSS || s->identity == WR_IDENTITY_DERIVED) && gid)
		return wr_err_set(err, WR_E_INVALID, "gid: identity '%s' chooses it",
				  wr_identity_name(s->identity));
	return 0;
}

/* The host's own accounts have names by others' rules; those that we make have ours. */
static int
take_account(const struct wr_call *call, struct wr_settings *s, struct wr_err *err)
{
	const char *account = wr_call_str(call, "account");
	struct wr_ident_account derived;

	if (!account && s->identity == WR_IDENTITY_DERIVED) {
		derived = wr_ident_derived_account(&s->id);
		account = derived.s;
	} else if (!account && s->identity == WR_IDENTITY_NSS) {
		account = s->name;
	} else if (!account) {
		return 0;
	} else if (s->identity != WR_IDENTITY_NSS && wr_name_check(account, err) < 0) {
		return wr_err_wrap(err, "account");
	}
	if (!*account || strlen(account) >= sizeof(s->account) || strpbrk(account, ":/\n") ||
	    !wr_text_plain(account, strlen(account), false))
		return wr_err_set(err, WR_E_INVALID, "account: '%s' is no name of an account",
				  WR_Q(account));
	memcpy(s->account, account, strlen(account) + 1);
	return 0;
}

static int
choose_numbers(struct wr_control *c, const struct wr_call *call, struct wr_settings *s,
	       struct wr_err *err)
{
	uint64_t gid = wr_call_u64(call, "gid", UINT64_MAX);
	int rc = 0;

	switch (s->identity) {
	case WR_IDENTITY_RANGE:
		rc = wr_ident_next(c->node, free_uid, c, &s->uid, err);
		break;
	case WR_IDENTITY_NSS:
		rc = wr_ident_look_up(s->account, &s->uid, &s->gid, err);
		break;
	case WR_IDENTITY_DERIVED:
		s->uid = wr_ident_derived(&s->id);
		break;
	case WR_IDENTITY_FIXED:
	case WR_IDENTITY_COUNT:
		s->uid = (uint32_t)wr_call_u64(call, "uid", UINT64_MAX);
		break;
	}
	wr_getent_end();
	if (rc == 0 && s->identity != WR_IDENTITY_NSS)
		s->gid = gid == UINT64_MAX ? s->uid : (uint32_t)gid;
	return rc;
}

static int
choose_identity(struct wr_control *c, const struct wr_call *call, struct wr_settings *s,
		struct wr_err *err)
{
	uint64_t uid = wr_call_u64(call, "uid", UINT64_MAX),
		 gid = wr_call_u64(call, "gid", UINT64_MAX);
	const char *driver = wr_call_str(call, "identity");
	struct same_uid same = {0};

	if (!c->node->root_mode) {
		if ((uid != UINT64_MAX && uid != getuid()) ||
		    (gid != UINT64_MAX && gid != getgid()) ||
		    (driver && wr_identity_parse(driver) != WR_IDENTITY_RANGE)) {
			wr_err_set(err, WR_E_DENIED, "uid: without root every project has uid %u",
				   (unsigned)getuid());
			return wr_err_hint(err, "run the daemon as root for identities");
		}
		s->uid = getuid();
		s->gid = getgid();
		return 0;
	}
	if (pick_driver(c, call, s, err) < 0 || take_account(call, s, err) < 0 ||
	    choose_numbers(c, call, s, err) < 0)
		return -1;
	s->exclusive = true;
	if (s->identity == WR_IDENTITY_RANGE)
		return 0;
	if (s->uid == 0 || s->uid == c->node->uid) {
		wr_err_set(err, WR_E_DENIED, "uid: %u is root's or the daemon's own",
			   (unsigned)s->uid);
		return wr_err_hint(err, "leave it out: a free one of [node] uid_range is taken");
	}
	same.uid = s->uid;
	if (wr_store_proj_each(c->store, 2, look_uid, &same, err) < 0)
		return -1;
	/* Two ids that give one number are two users, who did not ask to share it. */
	if (same.found && s->identity == WR_IDENTITY_DERIVED) {
		wr_err_set(err, WR_E_EXISTS, "uid: %u, derived from the id, is another project's",
			   (unsigned)s->uid);
		return wr_err_hint(err, "another identity than derived, or another id");
	}
	/* Processes of an account of the host are not only the project's: no stop may end them all.
	 */
	s->exclusive = !same.found && s->identity != WR_IDENTITY_NSS;
	return *same.alone.s ? share_uid(c, &same.alone, err) : 0;
}

static int
make_settings(struct wr_control *c, const struct wr_call *call, struct wr_settings *s,
	      struct wr_err *err)
{
	const char *name = wr_call_str(call, "name"), *id = wr_call_str(call, "id");
	const char *const *list = NULL;
	size_t n;
	int rc = 0;

	if (id)
		wr_uuid_parse(id, &s->id); /* checked by the table */
	else
		wr_uuid_new(&s->id);
	s->rev = s->epoch = 1;
	s->created = wr_clock_wall().s;
	s->set = json_object();
	/* An unnamed one is called by the start of its id, with a letter before: no prefix of an
	 * id. */
	if (name)
		snprintf(s->name, sizeof(s->name), "%s", name);
	else
		snprintf(s->name, sizeof(s->name), "p-%.8s", s->id.s);
	if (name && strlen(name) >= sizeof(s->name))
		return wr_err_set(err, WR_E_INVALID, "name: '%s' is too long", WR_Q(name));
	if (wr_name_check(s->name, err) < 0)
		return wr_err_wrap(err, "name");
	if (c->node->config.save_every != 300) {
		WR_SCOPED(wr_freep)
		char *every = wr_asprintf("save_every=%" PRIu64, c->node->config.save_every);

		rc = wr_settings_change(s, every, false, true, err);
	}
	if (rc == 0 &&
	    strcmp(c->node->config.home_pattern, wr_set_key_find("home")->fallback) != 0) {
		WR_SCOPED(wr_freep)
		char *home = wr_asprintf("home=%s", c->node->config.home_pattern);

		rc = wr_settings_change(s, home, false, true, err);
		if (rc < 0)
			wr_err_wrap(err, "[node] home");
	}
	n = wr_call_list(call, "settings", &list);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = wr_settings_change(s, list[i], false, true, err);
	free((void *)(uintptr_t)list);
	list = NULL;
	n = rc == 0 ? wr_call_list(call, "labels", &list) : 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		WR_SCOPED(wr_freep) char *change = wr_asprintf("label.%s", list[i]);

		rc = wr_settings_change(s, change, false, true, err);
	}
	free((void *)(uintptr_t)list);
	return rc == 0 ? choose_identity(c, call, s, err) : -1;
}

/* Everything is chosen: row and operation. args: taken. */
static int
make_project(struct wr_control *c, const struct wr_settings *set, uint32_t volume, json_t *args,
	     const char *by, struct wr_uuid *out_op, struct wr_err *err)
{
	struct wr_proj_row row = {0};
	struct wr_op_wish w = {.row = &row, .kind = WR_OP_CREATE, .by = by, .args = args};
	int rc;

	wr_row_from_settings(&row, set);
	row.tree_vol = row.repo_vol = volume;
	/* Name, id and uid are taken from now on; a create that fails gives them back. */
	if (wr_row_volumes(c, &row, err) < 0 || wr_store_proj_put(c->store, &row, err) < 0) {
		json_decref(args);
		wr_proj_row_fini(&row);
		return -1;
	}
	wr_json_str(w.args, "volume", c->node->volume[volume].path);
	wr_json_str(w.args, "name", set->name);
	wr_json_str(w.args, "id", set->id.s);
	wr_json_u64(w.args, "uid", set->uid);
	wr_json_u64(w.args, "gid", set->gid);
	wr_json_bool(w.args, "exclusive", set->exclusive);
	wr_json_take(w.args, "conf", wr_settings_json(set));
	rc = wr_op_submit(c, &w, out_op, err);
	if (rc < 0)
		(void)wr_store_proj_drop(c->store, &set->id, NULL); /* the error at hand matters */
	wr_proj_row_fini(&row);
	return rc;
}

/* A hub is asked for name, uid and record. */
struct creating {
	struct wr_control *c;
	struct wr_req *q; /* NULL: nobody waits any more */
	char by[64];
	uint32_t volume;
	json_t *args;
	struct wr_settings set; /* of one whose uid was asked for: it may have to be asked twice */
	bool again;
};

static void
forget_create(struct wr_req *q)
{
	struct creating *k = q->held;

	k->q = NULL;
}

/* A hub that lost its catalog may choose what a project here has for itself. */
static int
check_uid(struct wr_control *c, const struct wr_settings *set, struct wr_err *err)
{
	struct same_uid same = {.uid = set->uid};

	if (!set->exclusive)
		return 0;
	if (wr_store_proj_each(c->store, 2, look_uid, &same, err) < 0)
		return -1;
	if (!same.found)
		return 0;
	wr_err_set(err, WR_E_BUSY, "the hub chose uid %" PRIu32 ", which another project has here",
		   set->uid);
	return wr_err_hint(err, "again: it chooses another one");
}

static void
on_record(void *ctx, struct wr_settings *set, const struct wr_err *why)
{
	struct creating *k = ctx;
	struct wr_err err = WR_ERR_INIT;
	struct wr_uuid op;

	/* The uid is another's, too, which is told to share it at the same time. */
	if (why && why->code == WR_E_EXISTS && *k->set.name && !k->again) {
		k->again = true;
		wr_fleet_create(k->c, &k->set, false, on_record, k);
		return;
	}
	if (why) {
		err = *why;
		json_decref(k->args);
	} else if (check_uid(k->c, set, &err) < 0) {
		json_decref(k->args);
	} else {
		(void)make_project(k->c, set, k->volume, k->args, k->by, &op, &err);
	}
	if (k->q) {
		k->q->gone = NULL;
		if (err.code != WR_E_NONE)
			wr_req_fail(k->q, &err);
		else
			wr_req_reply_op(k->q, &op);
	}
	wr_settings_fini(&k->set);
	free(k);
}

static void
ask_record(struct wr_control *c, struct wr_req *q, const struct wr_settings *set, uint32_t volume)
{
	struct creating *k = wr_calloc(1, sizeof(*k));

	k->c = c;
	k->q = q;
	snprintf(k->by, sizeof(k->by), "%s", q->who.by);
	k->volume = volume;
	k->args = wr_json_args(&q->call);
	q->held = k;
	q->gone = forget_create;
	if (set->identity == WR_IDENTITY_FIXED || set->identity == WR_IDENTITY_NSS)
		wr_settings_copy(&k->set, set);
	wr_fleet_create(c, set, c->node->root_mode && set->identity == WR_IDENTITY_RANGE, on_record,
			k);
}

int
wr_on_create(struct wr_control *c, struct wr_req *q, struct wr_err *err)
{
	struct wr_proj_row row = {0};
	struct wr_settings set = {0};
	const char *from = wr_call_str(&q->call, "from");
	uint32_t volume = 0;
	struct wr_uuid op;
	int rc = -1;

	if (from && *from != '/')
		return wr_err_set(err, WR_E_INVALID, "from: '%s' is no absolute path", WR_Q(from));
	if (!from && wr_call_bool(&q->call, "adopt", false))
		return wr_err_set(err, WR_E_INVALID,
				  "adopt: without 'from' there is nothing to adopt");
	if (wr_marks_pick(c, wr_call_str(&q->call, "volume"), q->who.rights & WR_RIGHT_READ,
			  &volume, err) < 0 ||
	    make_settings(c, &q->call, &set, err) < 0)
		goto out;
	if (wr_call_str(&q->call, "id") && wr_row_find(c, &set.id, &row, NULL) == 0) {
		wr_err_set(err, WR_E_EXISTS, "id: there is a project '%s' with it", row.name);
		goto out;
	}
	if (c->fleet && wr_reserve_busy(c, &set.id)) {
		wr_err_set(err, WR_E_BUSY, "id: a hub is being told that it is free");
		goto out;
	}
	/* Said at once, and by this node's own words. */
	if (c->fleet && wr_store_proj_find(c->store, set.name, false, true, &row, NULL) == 0 &&
	    !strcmp(row.name, set.name)) {
		wr_err_set(err, WR_E_EXISTS, "there is a project named '%s' already", set.name);
		wr_err_hint(err, "it may be in the trash: 'warren trash list' shows it");
		goto out;
	}
	rc = 0;
	if (c->fleet) {
		ask_record(c, q, &set, volume);
		goto out;
	}
	rc = make_project(c, &set, volume, wr_json_args(&q->call), q->who.by, &op, err);
	if (rc == 0)
		wr_req_reply_op(q, &op);
out:
	wr_settings_fini(&set);
	wr_proj_row_fini(&row);
	return rc;
}
