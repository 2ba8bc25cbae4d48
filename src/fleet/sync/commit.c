/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refs, under the repository's lock.  Order of a commit, so that a crash anywhere leaves all
 * reachable that was:
 *
 *   what the new list does not reach goes to refs/warren/keep/ (or becomes a side branch)
 *   -> refs of the list are made and moved -> refs that are not in it go -> old keeps go
 *
 * A ref that is in the way of one of the list ("a" of "a/b") goes before that one comes, and is
 * kept, reached or not.
 *
 * refs/warren/latest is replaceable: of what a list on the line had there nothing is kept.  One
 * that no list had came ahead of its history; if that never comes it is all there is, and becomes a
 * side branch; when a newer one comes ahead it goes to refs/warren/keep/.  None takes the place of
 * one that a save names: that is the state which whoever goes on from this save needs.
 */
#include <time.h>

#include "base/str.h"
#include "fleet/sync/sync_int.h"
#include "sys/crash.h"

#define SIDE_REF "refs/heads/" WR_SYNC_SIDE
/* LIMIT: commits of a branch that are looked at for the state that refs/warren/latest stands for.
 */
#define STATE_DEPTH 100000

/* ---- the list ---- */

int
wr_sync_refs(struct wr_repo *r, struct wr_save_rec *s, struct wr_err *err)
{
	static const char *const prefix[] = {"refs/heads/", "refs/tags/", WR_SYNC_LATEST};
	size_t cap = 0;

	wr_assert(s->ref_count == 0);
	for (size_t k = 0; k < WR_ARRAY_LEN(prefix); k++) {
		WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};

		if (wr_refs_list(r, prefix[k], &refs, err) < 0)
			return -1;
		for (size_t i = 0; i < refs.count; i++) {
			struct wr_save_ref *to;

			if (k == 2 && strcmp(refs.ref[i].name, WR_SYNC_LATEST) != 0)
				continue;
			if (wr_id_is_zero(&refs.ref[i].id))
				return wr_err_set(err, WR_E_CORRUPT, "ref '%s' cannot be read",
						  WR_Q(refs.ref[i].name));
			if (s->ref_count == WR_SAVE_REFS_MAX)
				return wr_err_set(err, WR_E_LIMIT, "more than %d branches and tags",
						  WR_SAVE_REFS_MAX);
			wr_grow(&s->ref, &cap, s->ref_count + 1, sizeof(*s->ref));
			to = &s->ref[s->ref_count++];
			to->name = wr_steal(&refs.ref[i].name);
			memcpy(to->id, refs.ref[i].id.b, WR_ID_LEN);
		}
	}
	return 0;
}

static bool
starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Does one stand below the other: "a" and "a/b"? */
static bool
clash(const char *a, const char *b)
{
	size_t n = strlen(a), k = strlen(b);

	return (n < k && b[n] == '/' && !memcmp(a, b, n)) ||
	       (k < n && a[k] == '/' && !memcmp(a, b, k));
}

int
wr_sync_check_list(struct wr_repo *r, const struct wr_sync_list *l, bool sides, struct wr_err *err)
{
	for (size_t i = 0; i < l->count; i++) {
		const char *name = l->ref[i].name;
		struct wr_err why = WR_ERR_INIT;
		struct wr_id id;

		if (sides ? !starts(name, SIDE_REF) || strchr(name + strlen(SIDE_REF), '/')
			  : !starts(name, "refs/heads/") && !starts(name, "refs/tags/") &&
				strcmp(name, WR_SYNC_LATEST) != 0)
			return wr_err_set(err, WR_E_INVALID, "a list may not name '%s'",
					  WR_Q(name));
		/* The reader checks the name as git would. */
		if (strlen(name) > WR_SYNC_NAME_MAX ||
		    (wr_ref_read(r, name, &id, &why) < 0 && why.code == WR_E_INVALID))
			return wr_err_set(err, WR_E_INVALID, "'%s' is not a ref name", WR_Q(name));
		if (wr_id_is_zero(&l->ref[i].id) ||
		    (i > 0 && strcmp(l->ref[i - 1].name, name) >= 0))
			return wr_err_set(err, WR_E_INVALID, "the list is not in order at '%s'",
					  WR_Q(name));
		/* Whatever sorts between "a" and "a/b" ("a-", "a.b") begins with "a" as well. */
		for (size_t k = i; k-- > 0 && starts(name, l->ref[k].name);)
			if (clash(l->ref[k].name, name))
				return wr_err_set(err, WR_E_INVALID, "ref '%s' is below '%s'",
						  WR_Q(name), WR_Q(l->ref[k].name));
	}
	return 0;
}

/* ---- refs/warren/keep/ ---- */

struct stamp {
	char s[24];
};

static struct stamp
format_stamp(int64_t now)
{
	time_t t = (time_t)now;
	struct stamp out = {"00000000T000000Z"};
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(out.s, sizeof(out.s), "%Y%m%dT%H%M%SZ", &tm);
	return out;
}

static bool
parse_stamp(const char *s, int64_t *out)
{
	struct tm tm = {0};
	int n = 0;

	if (strspn(s, "0123456789TZ") < 16 || s[8] != 'T' || s[15] != 'Z' ||
	    sscanf(s, "%4d%2d%2dT%2d%2d%2dZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
		   &tm.tm_min, &tm.tm_sec, &n) != 6 ||
	    n != 16)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	*out = timegm(&tm);
	return true;
}

int
wr_sync_drop_keeps(struct wr_repo *r, int64_t now, int64_t floor_s, size_t *out_dropped,
		   struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs keeps = {0};

	*out_dropped = 0;
	if (floor_s < 0)
		return 0;
	if (wr_refs_list(r, WR_SYNC_KEEP, &keeps, err) < 0)
		return -1;
	for (size_t i = 0; i < keeps.count; i++) {
		int64_t at;

		/* A name that is not of this form is somebody else's. */
		if (!parse_stamp(keeps.ref[i].name + strlen(WR_SYNC_KEEP), &at) ||
		    now - at <= floor_s)
			continue;
		if (wr_ref_delete(r, keeps.ref[i].name, &keeps.ref[i].id, err) < 0)
			return -1;
		++*out_dropped;
	}
	return 0;
}

int
wr_sync_tidy(struct wr_repo *r, int64_t now, int64_t floor_s, int64_t stale_s, size_t *out_dropped,
	     struct wr_err *err)
{
	wr_quar_tidy(r, now, stale_s);
	return wr_sync_drop_keeps(r, now, floor_s, out_dropped, err);
}

/* ---- moving ---- */

struct move {
	struct wr_repo *repo;
	enum wr_sync_mode mode;
	const struct wr_sync_commit *c;
	struct wr_sync_result *out;
	struct wr_sync_list want; /* as they shall be named here */
	struct wr_refs now;       /* what makes room for them, and the rest */
	bool *managed;            /* of now */
	bool *first;              /* of now: goes before the list comes */
	bool *reached;            /* of now: the new list reaches it */
	int64_t latest_time;      /* of our refs/warren/latest, if it goes */
};

static const struct wr_save_ref *
held_find(const struct move *m, const char *name)
{
	for (size_t i = 0; m->c->held && i < m->c->held->ref_count; i++)
		if (!strcmp(m->c->held->ref[i].name, name))
			return &m->c->held->ref[i];
	return NULL;
}

/* A side branch that has another name here than where it was listed: its list lets it go? */
static bool
is_let_go(const struct move *m, const struct wr_id *id)
{
	bool held = false;

	for (size_t i = 0; m->c->held && i < m->c->held->ref_count && !held; i++)
		held = starts(m->c->held->ref[i].name, SIDE_REF) &&
		       !memcmp(m->c->held->ref[i].id, id->b, WR_ID_LEN);
	for (size_t i = 0; i < m->want.count && held; i++)
		held = !wr_id_eq(&m->want.ref[i].id, id);
	return held;
}

/* Is this ref of ours in the hands of the lists? */
static bool
is_managed(const struct move *m, const struct wr_ref *ref)
{
	const char *name = ref->name;

	if (m->mode == WR_SYNC_AS_FILL)
		return starts(name, WR_SYNC_FILL);
	if (starts(name, SIDE_REF) && !wr_sync_list_find(&m->want, name))
		return held_find(m, name) != NULL || is_let_go(m, &ref->id);
	return starts(name, "refs/heads/") || starts(name, "refs/tags/") ||
	       starts(name, WR_SYNC_FILL) || !strcmp(name, WR_SYNC_LATEST);
}

static void
make_want(struct move *m, const struct wr_sync_list *target)
{
	for (size_t i = 0; i < target->count; i++) {
		const struct wr_sync_ref *t = &target->ref[i];
		WR_SCOPED(wr_freep) char *name = NULL;

		/* refs/heads/main -> refs/warren/fill/heads/main */
		name = m->mode == WR_SYNC_AS_FILL
			   ? wr_asprintf(WR_SYNC_FILL "%s", t->name + strlen("refs/"))
			   : wr_strdup(t->name);
		wr_sync_list_add(&m->want, name, strlen(name), &t->id);
	}
}

static bool
stays(const struct move *m, size_t i)
{
	const struct wr_sync_ref *w = wr_sync_list_find(&m->want, m->now.ref[i].name);

	return !m->managed[i] || (w && wr_id_eq(&w->id, &m->now.ref[i].id));
}

/* The commit that an id stands for; false: none. */
static bool
to_commit(const struct wr_src *src, const struct wr_id *id, struct wr_id *out, bool *out_tag)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	enum wr_obj_type type = WR_OBJ_NONE;

	*out = *id;
	*out_tag = false;
	for (int depth = 0; depth < WR_SYNC_TAG_DEPTH; depth++) {
		if (wr_src_stat(src, out, &type, NULL) < 0)
			return false;
		if (type != WR_OBJ_TAG)
			return type == WR_OBJ_COMMIT;
		*out_tag = true;
		if (wr_src_read(src, out, WR_OBJ_TAG, NULL, &b, NULL) < 0 ||
		    wr_tag_parse(&b, out, &type, NULL) < 0)
			return false;
	}
	return false;
}

/* Which of the tips that go are reached by what stays or comes?  Found by history; what is not
 * found for a wrong date is kept without need. */
static void
find_reached(struct move *m)
{
	struct wr_src src = {.repo = m->repo, .rd = wr_reader_new(m->repo)};
	struct wr_idmap after = WR_IDMAP_INIT;
	struct wr_hist h;
	struct wr_id id;
	bool fresh, tag;

	wr_hist_init(&h, &src);
	for (size_t i = 0; i < m->want.count; i++) {
		wr_idmap_put(&after, &m->want.ref[i].id, &fresh);
		if (to_commit(&src, &m->want.ref[i].id, &id, &tag))
			(void)wr_hist_add(&h, &id, false, true, NULL); /* never fails */
	}
	for (size_t i = 0; i < m->now.count; i++) {
		/* Of refs/warren/keep/ nothing counts: they go sooner than what goes there now. */
		if (!stays(m, i) || starts(m->now.ref[i].name, WR_SYNC_KEEP))
			continue;
		wr_idmap_put(&after, &m->now.ref[i].id, &fresh);
		if (to_commit(&src, &m->now.ref[i].id, &id, &tag))
			(void)wr_hist_add(&h, &id, false, true, NULL);
	}
	for (size_t i = 0; i < m->now.count; i++)
		if (!stays(m, i) && to_commit(&src, &m->now.ref[i].id, &id, &tag) && !tag)
			(void)wr_hist_add(&h, &id, true, false, NULL);
	while (wr_hist_step(&h, SIZE_MAX, NULL) > 0)
		;
	for (size_t i = 0; i < m->now.count; i++) {
		const struct wr_hist_commit *c = wr_hist_find(&h, &m->now.ref[i].id);

		m->reached[i] = wr_idmap_find(&after, &m->now.ref[i].id) || (c && c->base);
	}
	wr_hist_fini(&h);
	wr_idmap_fini(&after);
	wr_reader_free(src.rd);
}

/* Does a branch of the list, or the history below it, have this tree? Times rise along a branch. */
static bool
has_state(struct wr_reader *rd, const struct wr_id *tip, const struct wr_id *tree, int64_t time)
{
	struct wr_id at = *tip;

	for (unsigned depth = 0; depth < STATE_DEPTH; depth++) {
		struct wr_commit c = WR_COMMIT_INIT;
		bool same, on;

		if (wr_repo_read_commit(rd, &at, &c, NULL) < 0)
			return false;
		same = wr_id_eq(&c.tree, tree);
		on = c.committer_time > time && c.parent_count > 0;
		if (on)
			at = c.parent[0];
		wr_commit_fini(&c);
		if (same || !on)
			return same;
	}
	return false;
}

/* Our refs/warren/latest that goes: is what it stands for in the list, or was it ever the list's?
 */
static void
judge_latest(struct move *m, size_t i)
{
	const struct wr_save_ref *listed = held_find(m, WR_SYNC_LATEST);
	struct wr_reader *rd = wr_reader_new(m->repo);
	struct wr_commit c = WR_COMMIT_INIT;

	/* Off the line nothing that follows was made of it. */
	m->reached[i] |=
	    listed && !m->c->side && !memcmp(listed->id, m->now.ref[i].id.b, WR_ID_LEN);
	if (!m->reached[i] && wr_repo_read_commit(rd, &m->now.ref[i].id, &c, NULL) == 0) {
		m->latest_time = c.committer_time;
		for (size_t k = 0; k < m->want.count && !m->reached[i]; k++)
			if (starts(m->want.ref[k].name, "refs/heads/"))
				m->reached[i] =
				    has_state(rd, &m->want.ref[k].id, &c.tree, c.committer_time);
	}
	wr_commit_fini(&c);
	wr_reader_free(rd);
}

/* Make ref NAME, or NAME-2 ... if it exists with another id. 1 = made, 0 = it was there. */
static int
make_free(struct move *m, const char *name, const struct wr_id *id, struct wr_err *err)
{
	for (unsigned n = 1; n < 1000; n++) {
		WR_SCOPED(wr_freep)
		char *at = n == 1 ? wr_strdup(name) : wr_asprintf("%s-%u", name, n);
		struct wr_err why = WR_ERR_INIT;
		struct wr_id old;

		if (wr_sync_list_find(&m->want, at))
			continue; /* taken in a moment */
		if (wr_ref_read(m->repo, at, &old, &why) == 0) {
			if (wr_id_eq(&old, id))
				return 0;
			continue;
		}
		if (why.code != WR_E_NOT_FOUND) {
			if (err)
				*err = why;
			return -1;
		}
		return wr_ref_update(m->repo, at, id, NULL, m->c->ident, "warren: kept", err) < 0
			   ? -1
			   : 1;
	}
	return wr_err_set(err, WR_E_LIMIT, "too many refs are named '%s'", WR_Q(name));
}

/* Under which branch what goes is found again; NULL: it goes to refs/warren/keep/. The caller frees
 * it. */
static char *
side_name(const struct move *m, size_t i)
{
	const struct wr_ref *ref = &m->now.ref[i];
	const struct wr_save_ref *listed;

	if (m->reached[i] || m->mode != WR_SYNC_PUSH)
		return NULL;
	if (!strcmp(ref->name, WR_SYNC_LATEST))
		return wr_asprintf(SIDE_REF "latest-%s", format_stamp(m->latest_time).s);
	if (starts(ref->name, SIDE_REF)) {
		/* It went on here after it was listed, or another one has its name. */
		listed = held_find(m, ref->name);
		return (listed && !memcmp(listed->id, ref->id.b, WR_ID_LEN)) ||
			       is_let_go(m, &ref->id)
			   ? NULL
			   : wr_strdup(ref->name);
	}
	return m->c->side && starts(ref->name, "refs/heads/")
		   ? wr_asprintf("refs/heads/%s", m->c->side)
		   : NULL;
}

static int
keep_one(struct move *m, size_t i, struct wr_err *err)
{
	const struct wr_ref *ref = &m->now.ref[i];
	WR_SCOPED(wr_freep) char *name = side_name(m, i);
	bool side = name != NULL;
	int rc;

	if (!side)
		name = wr_asprintf(WR_SYNC_KEEP "%s-%.8s", format_stamp(m->c->now).s,
				   wr_id_hex(&ref->id).s);
	rc = make_free(m, name, &ref->id, err);

	if (rc < 0)
		return -1;
	if (side)
		m->out->sides += (size_t)rc;
	else
		m->out->refs_kept += (size_t)rc;
	wr_crash_point("sync.kept");
	return 0;
}

static int
delete_one(struct move *m, size_t i, struct wr_err *err)
{
	if (wr_ref_delete(m->repo, m->now.ref[i].name, &m->now.ref[i].id, err) < 0)
		return -1;
	m->out->refs_moved++;
	wr_crash_point("sync.deleted");
	return 0;
}

/* Refs in the way of new ones; two sorted lists of a few hundred names. */
static void
find_clashes(struct move *m)
{
	for (size_t i = 0; i < m->now.count; i++) {
		if (!m->managed[i] || wr_sync_list_find(&m->want, m->now.ref[i].name))
			continue;
		for (size_t k = 0; k < m->want.count && !m->first[i]; k++)
			m->first[i] = clash(m->now.ref[i].name, m->want.ref[k].name);
	}
}

static const struct wr_ref *
now_find(const struct move *m, const char *name)
{
	size_t lo = 0, hi = m->now.count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(m->now.ref[mid].name, name);

		if (c == 0)
			return &m->now.ref[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static int
move_all(struct move *m, struct wr_err *err)
{
	for (size_t i = 0; i < m->now.count; i++)
		if (!stays(m, i) && (!m->reached[i] || m->first[i]) && keep_one(m, i, err) < 0)
			return -1;
	for (size_t i = 0; i < m->now.count; i++)
		if (m->first[i] && delete_one(m, i, err) < 0)
			return -1;
	for (size_t i = 0; i < m->want.count; i++) {
		const struct wr_sync_ref *w = &m->want.ref[i];
		const struct wr_ref *old = now_find(m, w->name);

		if (old && wr_id_eq(&old->id, &w->id))
			continue;
		if (wr_ref_update(m->repo, w->name, &w->id, old ? &old->id : NULL, m->c->ident,
				  "warren: received", err) < 0)
			return -1;
		m->out->refs_moved++;
		wr_crash_point("sync.moved");
	}
	for (size_t i = 0; i < m->now.count; i++)
		if (m->managed[i] && !m->first[i] &&
		    !wr_sync_list_find(&m->want, m->now.ref[i].name) && delete_one(m, i, err) < 0)
			return -1;
	return 0;
}

/* Side branches of another node: new branches, and nothing else changes. */
static int
add_sides(struct wr_repo *r, const struct wr_sync_list *target, const struct wr_sync_commit *c,
	  struct wr_sync_result *out, struct wr_err *err)
{
	struct move m = {.repo = r, .mode = WR_SYNC_AS_SIDES, .c = c, .out = out};
	int rc = wr_refs_list(r, SIDE_REF, &m.now, err);

	for (size_t i = 0; rc >= 0 && i < target->count; i++) {
		bool here = false;

		for (size_t k = 0; k < m.now.count && !here; k++)
			here = wr_id_eq(&m.now.ref[k].id, &target->ref[i].id);
		if (here)
			continue;
		rc = make_free(&m, target->ref[i].name, &target->ref[i].id, err);
		if (rc > 0)
			out->sides++;
		wr_crash_point("sync.side");
	}
	wr_refs_fini(&m.now);
	return rc < 0 ? -1 : 0;
}

int
wr_sync_move_refs(struct wr_repo *r, enum wr_sync_mode mode, const struct wr_sync_list *target,
		  const struct wr_sync_commit *c, struct wr_sync_result *out, struct wr_err *err)
{
	struct move m = {.repo = r, .mode = mode, .c = c, .out = out};
	bool any = false;
	int rc;

	wr_assert(!c->side || starts(c->side, WR_SYNC_SIDE));
	if (mode == WR_SYNC_AS_SIDES)
		return add_sides(r, target, c, out, err);
	if (wr_refs_list(r, "refs/", &m.now, err) < 0)
		return -1;
	make_want(&m, target);
	m.managed = wr_calloc(m.now.count, sizeof(*m.managed));
	m.first = wr_calloc(m.now.count, sizeof(*m.first));
	m.reached = wr_calloc(m.now.count, sizeof(*m.reached));
	for (size_t i = 0; i < m.now.count; i++)
		m.managed[i] = is_managed(&m, &m.now.ref[i]);
	for (size_t i = 0; i < m.now.count; i++)
		any |= !stays(&m, i);
	if (any) {
		find_clashes(&m);
		find_reached(&m);
		for (size_t i = 0; i < m.now.count; i++)
			if (!stays(&m, i) && !strcmp(m.now.ref[i].name, WR_SYNC_LATEST))
				judge_latest(&m, i);
	}
	rc = move_all(&m, err);
	wr_sync_list_fini(&m.want);
	wr_refs_fini(&m.now);
	free(m.managed);
	free(m.first);
	free(m.reached);
	return rc;
}

/* ---- a newest state that comes ahead ---- */

/* Did this one come ahead of its history, too? */
static bool
came_ahead(struct wr_repo *r, const struct wr_id *id)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_reader *rd = wr_reader_new(r);
	struct wr_commit c = WR_COMMIT_INIT;
	struct wr_id made = {{0}};

	if (wr_repo_read_commit(rd, id, &c, NULL) == 0) {
		wr_commit_latest(&b, &c.tree, c.committer_time);
		made = wr_obj_id(WR_OBJ_COMMIT, b.p, b.len);
	}
	wr_commit_fini(&c);
	wr_reader_free(rd);
	return wr_id_eq(&made, id);
}

int
wr_sync_put_latest(struct wr_repo *r, const struct wr_id *id, const struct wr_sync_commit *c,
		   struct wr_err *err)
{
	struct move m = {.repo = r, .c = c};
	struct wr_err why = WR_ERR_INIT;
	struct wr_id old;
	bool is = wr_ref_read(r, WR_SYNC_LATEST, &old, &why) == 0;

	if (!is && why.code != WR_E_NOT_FOUND) {
		if (err)
			*err = why;
		return -1;
	}
	if (is && !wr_id_eq(&old, id)) {
		WR_SCOPED(wr_freep)
		char *name =
		    wr_asprintf(WR_SYNC_KEEP "%s-%.8s", format_stamp(c->now).s, wr_id_hex(&old).s);

		if (!came_ahead(r, &old))
			return wr_err_set(err, WR_E_DENIED,
					  "'" WR_SYNC_LATEST "' is part of what was saved here");
		if (make_free(&m, name, &old, err) < 0)
			return -1;
	}
	if (wr_ref_update(r, WR_SYNC_LATEST, id, is ? &old : NULL, c->ident, "warren: newest state",
			  err) < 0)
		return -1;
	wr_crash_point("sync.first");
	return 0;
}

/* ---- what a writer's own list lets go ---- */

/* It goes to NAME, or is there already by that id, and is gone then. */
static int
send_away(struct move *m, const struct wr_ref *ref, const char *name, struct wr_err *err)
{
	if (name && make_free(m, name, &ref->id, err) < 0)
		return -1;
	wr_crash_point("sync.weeded");
	return wr_ref_delete(m->repo, ref->name, &ref->id, err);
}

static int
weed_side(struct move *m, const struct wr_sync_weed *w, const struct wr_ref *ref,
	  struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = NULL;
	int64_t since;

	if (wr_id_is_zero(&ref->id))
		return 0; /* the list says so */
	/* Its days are counted from when it came here, for it may be made of old work. */
	if (!wr_ref_since(m->repo, ref->name, &since))
		return wr_ref_update(m->repo, ref->name, &ref->id, &ref->id, w->ident,
				     "warren: found", err);
	if (w->now - since <= w->side_s)
		return 0;
	name = wr_asprintf(WR_SYNC_KEEP "%s-%.8s", format_stamp(w->now).s, wr_id_hex(&ref->id).s);
	return send_away(m, ref, name, err);
}

static int
weed_latest(struct move *m, const struct wr_refs *heads, struct wr_err *err)
{
	struct wr_ref ref = {.name = (char[]){WR_SYNC_LATEST}};
	struct wr_reader *rd = wr_reader_new(m->repo);
	struct wr_commit c = WR_COMMIT_INIT;
	WR_SCOPED(wr_freep) char *name = NULL;
	bool known = false;
	int rc = wr_ref_read(m->repo, WR_SYNC_LATEST, &ref.id, err);

	if (rc == 0)
		rc = wr_repo_read_commit(rd, &ref.id, &c, err);
	for (size_t i = 0; rc == 0 && i < heads->count && !known; i++)
		known = has_state(rd, &heads->ref[i].id, &c.tree, c.committer_time);
	if (rc == 0 && !known)
		name = wr_asprintf(SIDE_REF "latest-%s", format_stamp(c.committer_time).s);
	if (rc == 0)
		rc = send_away(m, &ref, name, err);
	wr_commit_fini(&c);
	wr_reader_free(rd);
	return rc;
}

int
wr_sync_weed(struct wr_repo *r, const struct wr_sync_weed *w, struct wr_err *err)
{
	const struct wr_sync_commit c = {.now = w->now, .ident = w->ident};
	struct move m = {.repo = r, .mode = WR_SYNC_PUSH, .c = &c};
	WR_SCOPED(wr_refs_fini) struct wr_refs heads = {0};
	size_t dropped;

	if (wr_refs_list(r, "refs/heads/", &heads, err) < 0)
		return -1;
	for (size_t i = 0; i < heads.count; i++)
		if (starts(heads.ref[i].name, SIDE_REF) && weed_side(&m, w, &heads.ref[i], err) < 0)
			return -1;
	if (w->ahead && weed_latest(&m, &heads, err) < 0)
		return -1;
	return wr_sync_drop_keeps(r, w->now, w->floor_s, &dropped, err);
}
