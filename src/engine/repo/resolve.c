/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From names as typed to snapshots, and the histories in which those names are found.
 *
 * A name is cut by form alone (wr_spec_parse, pure): time first, since a time may hold a ':' that
 * does not begin a path.  What it means is then asked of the repository.
 */
#include "engine/repo/resolve.h"

#include "base/str.h"
#include "engine/repo/repo_int.h"

/* LIMIT: objects with one abbreviated id that are looked at to find the commit among them. */
#define ABBREV_MAX 65536

void
wr_snap_fini(struct wr_snap *s)
{
	free(s->branch);
	s->branch = NULL;
}

void
wr_snaps_fini(struct wr_snaps *s)
{
	for (size_t i = 0; i < s->count; i++)
		wr_snap_fini(&s->snap[i]);
	free(s->snap);
	*s = (struct wr_snaps){0};
}

/* ---- grammar ---- */

/* n digits as a number; false if there are not n. */
static bool
digits(const char **s, int n, int *out)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		if ((*s)[i] < '0' || (*s)[i] > '9')
			return false;
		v = v * 10 + ((*s)[i] - '0');
	}
	*s += n;
	*out = v;
	return true;
}

static bool
literal(const char **s, char c)
{
	if (**s != c)
		return false;
	++*s;
	return true;
}

/* Does a time end here? */
static bool
ends(const char *s)
{
	return *s == '\0' || *s == ':';
}

/* 2026-11-22[T10:15[:30][Z]], as far as it goes; NULL if s is none. */
static const char *
parse_calendar(const char *s, int64_t *out)
{
	int year, month, day, hour, min, sec;
	const char *end, *more;

	if (!digits(&s, 4, &year) || !literal(&s, '-') || !digits(&s, 2, &month) ||
	    !literal(&s, '-') || !digits(&s, 2, &day))
		return NULL;
	if (!literal(&s, 'T')) {
		if (!wr_utc_seconds(year, month, day, 23, 59, 59, out))
			return NULL;
		return s;
	}
	if (!digits(&s, 2, &hour) || !literal(&s, ':') || !digits(&s, 2, &min) ||
	    !wr_utc_seconds(year, month, day, hour, min, 59, out))
		return NULL;
	end = s;
	(void)literal(&end, 'Z');
	more = s;
	if (literal(&more, ':') && digits(&more, 2, &sec)) {
		int64_t t;

		(void)literal(&more, 'Z');
		/* Only if the seconds end there: in T10:15:30days the path is "30days". */
		if (ends(more) && wr_utc_seconds(year, month, day, hour, min, sec, &t)) {
			*out = t;
			end = more;
		}
	}
	return end;
}

static const char *
parse_relative(const char *s, int64_t now, int64_t *out)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	size_t n = strspn(s, "0123456789");
	int64_t v = 0;

	if (n == 0 || n > 9)
		return NULL;
	for (size_t i = 0; i < n; i++)
		v = v * 10 + (s[i] - '0');
	for (size_t i = 0; i < WR_ARRAY_LEN(units); i++)
		if (s[n] == units[i].unit) {
			*out = now - v * units[i].seconds;
			return s + n + 1;
		}
	return NULL;
}

/* The end of the time that s begins with, NULL if it does not. */
static const char *
parse_time(const char *s, int64_t now, int64_t *out)
{
	static const char *const words[] = {"now", "today", "yesterday"};
	int64_t midnight = now - ((now % 86400) + 86400) % 86400;
	const int64_t ends_at[] = {now, midnight + 86399, midnight - 1};
	const char *end = NULL;

	for (size_t i = 0; i < WR_ARRAY_LEN(words) && !end; i++)
		if (!strncmp(s, words[i], strlen(words[i]))) {
			*out = ends_at[i];
			end = s + strlen(words[i]);
		}
	if (!end)
		end = parse_calendar(s, out);
	if (!end)
		end = parse_relative(s, now, out);
	return end && ends(end) ? end : NULL;
}

void
wr_spec_fini(struct wr_spec *s)
{
	free(s->token);
	free(s->path);
	*s = (struct wr_spec){0};
}

void
wr_spec_parse(const char *spec, int64_t now, struct wr_spec *out)
{
	size_t colon = strcspn(spec, ":");
	size_t leaf = colon;
	const char *end;

	while (leaf > 0 && spec[leaf - 1] != '/')
		leaf--;
	*out = (struct wr_spec){.leaf = leaf};
	end = parse_time(spec + leaf, now, &out->time);
	out->has_time = end;
	if (!end)
		end = spec + colon;
	out->token = wr_memdup(spec, (size_t)(end - spec) + 1);
	out->token[end - spec] = '\0';
	if (*end == ':')
		out->path = wr_strdup(end + 1);
}

/* ---- objects ---- */

int
wr_peel(struct wr_reader *rd, const struct wr_id *id, struct wr_id *out, enum wr_obj_type *out_type,
	struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	struct wr_id at = *id;
	uint64_t size;

	for (int depth = 0; depth <= WR_REF_DEPTH_MAX; depth++) {
		enum wr_obj_type type;
		const char *s;

		if (wr_repo_stat_object(rd, &at, &type, &size, err) < 0)
			return -1;
		if (type != WR_OBJ_TAG) {
			*out = at;
			*out_type = type;
			return 0;
		}
		if (wr_repo_read(rd, &at, WR_OBJ_TAG, true, NULL, &text, err) < 0)
			return -1;
		s = wr_buf_str(&text);
		if (strncmp(s, "object ", 7) != 0 || !wr_id_parse(s + 7, &at))
			return wr_err_set(err, WR_E_CORRUPT, "tag %s names no object",
					  wr_id_hex(&at).s);
	}
	return wr_err_set(err, WR_E_CORRUPT, "tag %s leads through more than %d tags",
			  wr_id_hex(id).s, WR_REF_DEPTH_MAX);
}

static int
snap_of_commit(struct wr_reader *rd, const struct wr_id *id, const char *branch,
	       struct wr_snap *out, struct wr_id *out_parent, struct wr_err *err)
{
	struct wr_commit c = WR_COMMIT_INIT;

	if (wr_repo_read_commit(rd, id, &c, err) < 0) {
		/* A branch says it is there: not an absent name, but damage. */
		if (branch && err && err->code == WR_E_NOT_FOUND) {
			wr_err_recode(err, WR_E_CORRUPT);
			wr_err_hint(err, "run 'warren repo verify' to see what is damaged");
		}
		return -1;
	}
	*out = (struct wr_snap){.commit = *id,
				.tree = c.tree,
				.time = c.author_time,
				.branch = branch ? wr_strdup(branch) : NULL};
	snprintf(out->name, sizeof(out->name), "%s", wr_fmt_snap_name(c.author_time).s);
	if (out_parent)
		*out_parent = c.parent_count ? c.parent[0] : (struct wr_id){{0}};
	wr_commit_fini(&c);
	return 0;
}

/* ---- histories ---- */

/* Whether the walk can end: what was looked for has been seen. */
typedef bool (*enough_fn)(void *ctx, const struct wr_snap *s);

/* Give the snapshots of each run of equal names bup's suffixes: -n-1 for the newest to -0. */
static void
name_runs(struct wr_snaps *s, size_t first)
{
	for (size_t lo = first, hi; lo < s->count; lo = hi) {
		int width;

		for (hi = lo + 1; hi < s->count && !strcmp(s->snap[hi].name, s->snap[lo].name);)
			hi++;
		if (hi - lo == 1)
			continue;
		width = snprintf(NULL, 0, "%zu", hi - lo - 1);
		for (size_t i = lo; i < hi; i++) {
			char *name = s->snap[i].name;
			size_t n = strlen(name);

			snprintf(name + n, sizeof(s->snap[i].name) - n, "-%0*zu", width,
				 hi - 1 - i);
		}
	}
}

/* Append the history of tip to *out until `enough`, and on to the end of a run of equal names. */
static int
walk_history(struct wr_reader *rd, const struct wr_id *tip, const char *branch, enough_fn enough,
	     void *ctx, struct wr_snaps *out, struct wr_id *out_bad, struct wr_err *err)
{
	struct wr_id at = *tip;
	size_t cap = out->count, first = out->count;
	bool done = false;
	int rc = 0;

	while (!wr_id_is_zero(&at)) {
		struct wr_snap s;
		struct wr_id parent;

		rc = snap_of_commit(rd, &at, branch, &s, &parent, err);
		if (rc < 0) {
			*out_bad = at;
			break;
		}
		if (done && strcmp(s.name, out->snap[out->count - 1].name) != 0) {
			wr_snap_fini(&s);
			break;
		}
		wr_grow(&out->snap, &cap, out->count + 1, sizeof(s));
		out->snap[out->count++] = s;
		done |= enough && enough(ctx, &s);
		at = parent;
	}
	name_runs(out, first);
	return rc;
}

int
wr_history(struct wr_reader *rd, const struct wr_id *tip, const char *branch, struct wr_snaps *out,
	   struct wr_id *out_bad, struct wr_err *err)
{
	*out = (struct wr_snaps){0};
	return walk_history(rd, tip, branch, NULL, NULL, out, out_bad, err);
}

static int
branch_tip(struct wr_reader *rd, const char *branch, struct wr_id *out, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *ref = wr_asprintf("refs/heads/%s", branch);

	return wr_ref_read(rd->repo, ref, out, err);
}

/* "refs/heads/NAME" of every branch; the hint's list of what there is. */
static int
hint_branches(struct wr_reader *rd, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf list = WR_BUF_INIT;

	if (!err || wr_refs_list(rd->repo, "refs/heads/", &refs, NULL) < 0)
		return -1;
	for (size_t i = 0; i < refs.count && list.len < 300; i++)
		wr_buf_addf(&list, "%s%s", i ? ", " : "", WR_Q(refs.ref[i].name + 11));
	if (refs.count)
		wr_err_hint(err, "there are the branches %s", wr_buf_str(&list));
	else
		wr_err_hint(err, "the repository has no snapshots yet");
	return -1;
}

int
wr_default_branch(struct wr_reader *rd, char **out, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	WR_SCOPED(wr_freep) char *head = wr_head_branch(rd->repo);
	struct wr_id id;

	if (head && branch_tip(rd, head, &id, NULL) == 0) {
		*out = wr_steal(&head);
		return 0;
	}
	if (branch_tip(rd, "main", &id, NULL) == 0) {
		*out = wr_strdup("main");
		return 0;
	}
	if (wr_refs_list(rd->repo, "refs/heads/", &refs, err) < 0)
		return -1;
	if (refs.count == 1) {
		*out = wr_strdup(refs.ref[0].name + 11);
		return 0;
	}
	wr_err_set(err, WR_E_NOT_FOUND,
		   refs.count ? "no branch is the default" : "the repository has no snapshots");
	return refs.count ? hint_branches(rd, err) : -1;
}

int
wr_snaps_list(struct wr_reader *rd, const char *branch, struct wr_snaps *out, struct wr_err *err)
{
	WR_SCOPED(wr_refs_fini) struct wr_refs refs = {0};
	WR_SCOPED(wr_snaps_fini) struct wr_snaps snaps = {0};
	struct wr_id tip, bad;

	if (branch) {
		if (branch_tip(rd, branch, &tip, err) < 0)
			return err && err->code == WR_E_NOT_FOUND ? hint_branches(rd, err) : -1;
		if (walk_history(rd, &tip, branch, NULL, NULL, &snaps, &bad, err) < 0)
			return wr_err_wrap(err, "history of '%s'", WR_Q(branch));
	} else {
		if (wr_refs_list(rd->repo, "refs/heads/", &refs, err) < 0)
			return -1;
		for (size_t i = 0; i < refs.count; i++) {
			const char *name = refs.ref[i].name + 11;

			/* Reads it again if it is broken, for the reason. */
			if ((wr_id_is_zero(&refs.ref[i].id) &&
			     wr_ref_read(rd->repo, refs.ref[i].name, &refs.ref[i].id, err) < 0) ||
			    walk_history(rd, &refs.ref[i].id, name, NULL, NULL, &snaps, &bad, err) <
				0)
				return wr_err_wrap(err, "history of '%s'", WR_Q(name));
		}
	}
	*out = snaps;
	snaps = (struct wr_snaps){0};
	return 0;
}

/* ---- resolving ---- */

/* What is looked for in a history. */
struct search {
	bool by_time;
	int64_t time;
	const char *name; /* whole or shortened */
};

static bool
time_reached(void *ctx, const struct wr_snap *s)
{
	const struct search *q = ctx;

	return s->time <= q->time;
}

static int
take_snap(struct wr_snaps *from, size_t i, struct wr_snap *out)
{
	*out = from->snap[i];
	from->snap[i].branch = NULL;
	return 0;
}

static int
hint_names(const struct wr_snaps *s, size_t around, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf list = WR_BUF_INIT;
	size_t lo = around > 2 ? around - 2 : 0;

	for (size_t i = lo; i < s->count && i < lo + 5; i++)
		wr_buf_addf(&list, "%s%s", i > lo ? ", " : "", s->snap[i].name);
	return wr_err_hint(err, "the nearest of the %zu snapshots: %s", s->count,
			   wr_buf_str(&list));
}

/* Where a name that is not there would stand, newest first. */
static size_t
place_of_name(const struct wr_snaps *s, const char *name)
{
	size_t i = 0;

	while (i < s->count && strcmp(s->snap[i].name, name) > 0)
		i++;
	return WR_MIN(i, s->count ? s->count - 1 : 0);
}

static int
search_branch(struct wr_reader *rd, const char *branch, const struct wr_id *tip, struct search *q,
	      struct wr_snap *out, struct wr_err *err)
{
	WR_SCOPED(wr_snaps_fini) struct wr_snaps s = {0};
	struct wr_id bad;
	size_t hits = 0, hit = 0;
	size_t n = q->name ? strlen(q->name) : 0;

	if (walk_history(rd, tip, branch, q->by_time ? time_reached : NULL, q, &s, &bad, err) < 0 &&
	    !(q->by_time && s.count && s.snap[s.count - 1].time <= q->time))
		return wr_err_wrap(err, "history of '%s'", WR_Q(branch));
	if (q->by_time) {
		for (size_t i = 0; i < s.count; i++)
			if (s.snap[i].time <= q->time)
				return take_snap(&s, i, out);
		wr_err_set(err, WR_E_NOT_FOUND, "'%s' has no snapshot as old as %s", WR_Q(branch),
			   wr_fmt_utc(q->time).s);
		return wr_err_hint(err, "the oldest of the %zu snapshots is %s", s.count,
				   s.snap[s.count - 1].name);
	}
	for (size_t i = 0; i < s.count; i++) {
		if (!strcmp(s.snap[i].name, q->name))
			return take_snap(&s, i, out);
		if (!strncmp(s.snap[i].name, q->name, n)) {
			hit = i;
			hits++;
		}
	}
	if (hits == 1)
		return take_snap(&s, hit, out);
	if (hits > 1) {
		wr_err_set(err, WR_E_INVALID, "'%s' fits %zu snapshots of '%s'", WR_Q(q->name),
			   hits, WR_Q(branch));
		return hint_names(&s, hit > hits / 2 ? hit - hits / 2 : 0, err);
	}
	wr_err_set(err, WR_E_NOT_FOUND, "'%s' has no snapshot '%s'", WR_Q(branch), WR_Q(q->name));
	return hint_names(&s, place_of_name(&s, q->name), err);
}

static bool
always(void *ctx, const struct wr_snap *s)
{
	(void)ctx, (void)s;
	return true;
}

static int
tip_snap(struct wr_reader *rd, const char *branch, const struct wr_id *tip, struct wr_snap *out,
	 struct wr_err *err)
{
	WR_SCOPED(wr_snaps_fini) struct wr_snaps s = {0};
	struct wr_id bad;

	/* Its elders are read only for the suffix of its name. */
	if (walk_history(rd, tip, branch, always, NULL, &s, &bad, err) < 0 && s.count == 0)
		return wr_err_wrap(err, "branch '%s'", WR_Q(branch));
	return take_snap(&s, 0, out);
}

/* Part of a branch: latest, a time, or a name. */
static int
in_branch(struct wr_reader *rd, const char *branch, const struct wr_id *tip, const char *leaf,
	  const struct wr_spec *spec, struct wr_snap *out, struct wr_err *err)
{
	struct search q = {.by_time = spec->has_time, .time = spec->time, .name = leaf};

	if (!strcmp(leaf, "latest"))
		return tip_snap(rd, branch, tip, out, err);
	return search_branch(rd, branch, tip, &q, out, err);
}

/* What a tag or an id stands for. */
static int
snap_of_object(struct wr_reader *rd, const struct wr_id *id, const char *what, struct wr_snap *out,
	       struct wr_err *err)
{
	struct wr_id target;
	enum wr_obj_type type;

	if (wr_peel(rd, id, &target, &type, err) < 0)
		return wr_err_wrap(err, "'%s'", WR_Q(what));
	if (type == WR_OBJ_COMMIT)
		return snap_of_commit(rd, &target, NULL, out, NULL, err);
	if (type != WR_OBJ_TREE)
		return wr_err_set(err, WR_E_INVALID, "'%s' is a %s, not a snapshot", WR_Q(what),
				  wr_obj_type_name(type));
	*out = (struct wr_snap){.tree = target};
	snprintf(out->name, sizeof(out->name), "%.10s", wr_id_short(&target).s);
	return 0;
}

/* 0 = found, 1 = there is no such ref, -1. */
static int
try_ref(struct wr_reader *rd, const char *prefix, const char *name, struct wr_id *out,
	struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *ref = wr_asprintf("%s%s", prefix, name);
	struct wr_err why = WR_ERR_INIT;

	if (!wr_ref_full_ok(ref, strlen(ref)))
		return 1;
	if (wr_ref_read(rd->repo, ref, out, &why) == 0)
		return 0;
	if (why.code == WR_E_NOT_FOUND)
		return 1;
	if (err)
		*err = why;
	return -1;
}

/* The commits among the objects whose ids begin alike. */
struct commits {
	struct wr_reader *rd;
	struct wr_id id, other;
	unsigned count, seen;
};

static int
take_commit(void *ctx, const struct wr_id *id)
{
	struct commits *c = ctx;
	enum wr_obj_type type;
	uint64_t size;

	if (++c->seen > ABBREV_MAX)
		return 1;
	if (c->count && wr_id_eq(&c->id, id))
		return 0;
	if (wr_repo_stat_object(c->rd, id, &type, &size, NULL) < 0 ||
	    (type != WR_OBJ_COMMIT && type != WR_OBJ_TAG))
		return 0;
	if (c->count == 0)
		c->id = *id;
	else
		c->other = *id;
	return ++c->count == 2;
}

/* 0 = found, 1 = it is no abbreviated id of a commit, -1. */
static int
try_commit_id(struct wr_reader *rd, const char *hex, struct wr_id *out, struct wr_err *err)
{
	struct commits c = {.rd = rd};

	if (wr_abbrev_each(rd->repo, hex, take_commit, &c, NULL) < 0 || c.count == 0)
		return 1;
	if (c.count > 1) {
		wr_err_set(err, WR_E_INVALID, "more than one commit's id begins with '%s'", hex);
		return wr_err_hint(err, "give more digits: %s, %s", wr_id_hex(&c.id).s,
				   wr_id_hex(&c.other).s);
	}
	*out = c.id;
	return 0;
}

/* Could it be a snapshot's name, or its beginning? Two years' digits alone are more likely an id.
 */
static bool
looks_like_name(const char *s)
{
	return strlen(s) >= 5 && strspn(s, "0123456789") == 4 && s[4] == '-' &&
	       strspn(s, "0123456789-") == strlen(s);
}

static int
resolve_token(struct wr_reader *rd, const struct wr_spec *spec, struct wr_snap *out,
	      struct wr_err *err)
{
	const char *token = spec->token, *leaf = token + spec->leaf;
	WR_SCOPED(wr_freep) char *branch = NULL;
	struct wr_id id;
	int rc = try_ref(rd, "refs/heads/", token, &id, err);

	if (rc == 0)
		return tip_snap(rd, token, &id, out, err);
	if (rc == 1 && (rc = try_ref(rd, "refs/tags/", token, &id, err)) == 0)
		return snap_of_object(rd, &id, token, out, err);
	if (rc == 1 && !strncmp(token, "refs/", 5) && (rc = try_ref(rd, "", token, &id, err)) == 0)
		return snap_of_object(rd, &id, token, out, err);
	if (rc < 0)
		return -1;
	if (spec->leaf > 0) {
		branch = wr_strdup(token);
		branch[spec->leaf - 1] = '\0';
		rc = try_ref(rd, "refs/heads/", branch, &id, err);
		if (rc == 1) {
			wr_err_set(err, WR_E_NOT_FOUND, "there is no branch '%s'", WR_Q(branch));
			return hint_branches(rd, err);
		}
		return rc < 0 ? -1 : in_branch(rd, branch, &id, leaf, spec, out, err);
	}
	if (spec->has_time || !strcmp(leaf, "latest") || looks_like_name(leaf)) {
		if (wr_default_branch(rd, &branch, err) < 0 || branch_tip(rd, branch, &id, err) < 0)
			return -1;
		return in_branch(rd, branch, &id, leaf, spec, out, err);
	}
	rc = try_commit_id(rd, token, &id, err);
	if (rc == 0)
		return snap_of_object(rd, &id, token, out, err);
	if (rc < 0)
		return -1;
	wr_err_set(err, WR_E_NOT_FOUND, "there is no branch, tag or snapshot '%s'", WR_Q(token));
	return hint_branches(rd, err);
}

int
wr_resolve(struct wr_reader *rd, const char *spec, int64_t now, struct wr_snap *out,
	   char **out_path, struct wr_err *err)
{
	WR_SCOPED(wr_spec_fini) struct wr_spec s = {0};

	wr_spec_parse(spec, now, &s);
	if (resolve_token(rd, &s, out, err) < 0)
		return -1;
	if (out_path)
		*out_path = wr_steal(&s.path);
	return 0;
}
