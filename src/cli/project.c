/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/project.h"

#include <ctype.h>
#include <limits.h>
#include <unistd.h>

#include "cli/options.h"
#include "model/uuid.h"

/* ---- is there an ID among the arguments? ---- */

static bool
could_be_ref(const char *s)
{
	return !strcmp(s, ".") || wr_project_ref(s) != WR_REF_BAD;
}

bool
wr_target_given(const struct wr_args *a)
{
	const struct wr_pos *pos = a->cmd->pos;
	size_t need = 0, max = 0;
	bool endless = false;

	if (!a->pos_count)
		return false;
	if (!pos[0].lead)
		return true;
	for (size_t i = 1; i < WR_POS_MAX && pos[i].name; i++) {
		need += !pos[i].optional;
		max++;
		endless |= pos[i].repeat;
	}
	/* The number of arguments decides; where it leaves both open, their form does. */
	if (a->pos_count <= need)
		return false;
	if (a->pos_count > max && !endless)
		return true;
	return could_be_ref(a->pos[0]);
}

/* ---- the one here ---- */

/* Length of dir if path is dir or lies in it, else 0. */
static size_t
inside(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/')
		n--;
	if (n < 2 || strncmp(path, dir, n) != 0 || (path[n] && path[n] != '/'))
		return 0;
	return n;
}

/* Does the current directory lie in the home? Without mounts a home is a link, so that getcwd(2)
 * tells the place behind it, which bears the project's id. */
static size_t
home_contains(const char *home, const char *id, const char *cwd)
{
	size_t n = inside(cwd, home);
	char real[PATH_MAX];

	if (n || !strstr(cwd, id) || !realpath(home, real))
		return n;
	return inside(cwd, real);
}

static int
find_here(struct wr_client *c, char **out_id, char **out_home, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_ask r;
	char cwd[PATH_MAX];
	const json_t *item, *best = NULL;
	size_t i, most = 0;
	int rc;

	if (!getcwd(cwd, sizeof(cwd)))
		return wr_err_sys(err, "find the current directory");
	wr_ask_init(&r, WR_API_LIST, NULL);
	rc = wr_client_ask(c, &r, NULL, &o, err);
	wr_ask_fini(&r);
	if (rc < 0)
		return -1;
	json_array_foreach(wr_json_get_arr(o, "projects"), i, item)
	{
		size_t n = home_contains(wr_json_get_str(item, "home", ""),
					 wr_json_get_str(item, "id", "?"), cwd);

		if (n > most) {
			most = n;
			best = item;
		}
	}
	if (!best) {
		wr_err_set(err, WR_E_USAGE, "no project is named, and '%s' is in no project's home",
			   WR_Q(cwd));
		return wr_err_hint(err, "give its ID or name ('warren list' shows them), or set "
					"$WARREN_PROJECT");
	}
	*out_id = wr_strdup(wr_json_get_str(best, "id", ""));
	*out_home = wr_strdup(wr_json_get_str(best, "home", ""));
	return 0;
}

static int
bad_ref(const char *ref, struct wr_err *err)
{
	return wr_err_set(err, WR_E_USAGE, "'%s' is neither a project's id nor its name",
			  WR_Q(ref));
}

int
wr_target_resolve(struct wr_client *c, const char *ref, char **out_id, char **out_home,
		  struct wr_err *err)
{
	const char *env = getenv("WARREN_PROJECT"), *home = getenv("HOME");
	char *id, *found = NULL;

	if (ref && strcmp(ref, ".") != 0) {
		if (wr_project_ref(ref) == WR_REF_BAD)
			return bad_ref(ref, err);
		id = wr_strdup(ref);
	} else if (env && *env) {
		id = wr_strdup(env);
		/* Warren sets both for a project's processes. */
		found = home ? wr_strdup(home) : NULL;
	} else if (find_here(c, &id, &found, err) < 0) {
		return -1;
	}
	*out_id = id;
	if (out_home)
		*out_home = wr_steal(&found);
	free(found);
	return 0;
}

int
wr_target_find(struct wr_client *c, const struct wr_args *a, struct wr_target *out,
	       struct wr_err *err)
{
	bool given = wr_target_given(a);
	struct wr_target t = {.pos = a->pos + given, .pos_count = a->pos_count - given};

	if (wr_target_resolve(c, given ? a->pos[0] : NULL, &t.id, &t.home, err) < 0)
		return -1;
	*out = t;
	return 0;
}

void
wr_target_fini(struct wr_target *t)
{
	free(t->id);
	free(t->home);
	*t = (struct wr_target){0};
}

int
wr_about_begin(struct wr_about *b, const struct wr_args *a, enum wr_api_call_id call,
	       struct wr_err *err)
{
	if (wr_client_init(&b->client, a, err) < 0 ||
	    wr_target_find(&b->client, a, &b->target, err) < 0)
		return -1;
	wr_ask_init(&b->req, call, b->target.id);
	return 0;
}

void
wr_about_fini(struct wr_about *b)
{
	wr_ask_fini(&b->req);
	wr_target_fini(&b->target);
	wr_client_fini(&b->client);
}

const char *
wr_target_path(const struct wr_target *t, const char *path)
{
	size_t n = t->home && path ? inside(path, t->home) : 0;

	return n ? path + n + strspn(path + n, "/") : path;
}

int
wr_target_exact(const char *ref, struct wr_err *err)
{
	enum wr_ref_kind kind = wr_project_ref(ref);

	if (kind == WR_REF_ID || kind == WR_REF_NAME)
		return 0;
	if (kind == WR_REF_BAD)
		return bad_ref(ref, err);
	wr_err_set(err, WR_E_USAGE, "'%s' is only the beginning of an id", WR_Q(ref));
	return wr_err_hint(err, "this command takes a full id or a name, so that it cannot hit "
				"another project");
}

/* ---- SNAP:PATH ---- */

/* How many bytes of s are digits in the shape of "ddd-dd", in which d is any digit? */
static bool
shaped(const char *s, const char *shape)
{
	for (; *shape; s++, shape++)
		if (*shape == 'd' ? !isdigit((unsigned char)*s) : *s != *shape)
			return false;
	return true;
}

void
wr_snapshot_cut(const char *spec, char **out_snap, char **out_path)
{
	const char *colon = strchr(spec, ':'), *more;

	/* In a time, 2026-11-22T10:15[:30][Z], the first colons are its own. */
	if (colon && colon - spec >= 13 && shaped(colon - 13, "dddd-dd-ddTdd:dd")) {
		colon += 3;
		colon += *colon == 'Z';
		if (shaped(colon, ":dd")) {
			more = colon + 3;
			more += *more == 'Z';
			if (!*more || *more == ':')
				colon = more;
		}
		if (*colon != ':')
			colon = *colon ? strchr(colon, ':') : NULL;
	}
	if (!colon) {
		*out_snap = wr_strdup(spec);
		*out_path = NULL;
		return;
	}
	*out_snap = wr_asprintf("%.*s", (int)(colon - spec), spec);
	*out_path = wr_strdup(colon + 1);
}
