/* SPDX-License-Identifier: Apache-2.0 */
/* Where a project's working files, repository and settings lie. */
#include "host/node/node_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host/node/room.h"
#include "sys/fs.h"

void
wr_place_of_fini(struct wr_place_of *p)
{
	wr_closep(&p->conf_fd);
}

/* Which of the volumes has part_fd/ID: 0 none, 1 one (in *out), 2 several; -1: a volume that is
 * there does not tell. */
static int
find_volume(const struct wr_node *n, const char *id, bool repos, size_t *out, struct wr_err *err)
{
	int found = 0;

	for (size_t i = n->volume_count; i-- > 0;) {
		const struct wr_volume *v = &n->volume[i];
		const int part = repos ? v->repos_fd : v->projects_fd;
		struct stat st;

		if (part < 0)
			continue;
		if (fstatat(part, id, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue;
			wr_err_sys(err, "look for project %s on volume '%s'", id, v->path);
			wr_err_recode(err,
				      WR_E_FAILED); /* "not found" is what is said of projects */
			return -1;
		}
		if (!S_ISDIR(st.st_mode))
			continue;
		*out = i;
		found = found ? 2 : 1;
	}
	return found;
}

int
wr_place_of_find(struct wr_node *n, const struct wr_uuid *id, struct wr_place_of *out,
		 struct wr_err *err)
{
	struct wr_place_of p = WR_PLACE_OF_INIT;
	int repos, trees;

	p.node = n;
	p.id = *id;
	repos = find_volume(n, id->s, true, &p.repo_vol, err);
	p.tree_vol = p.repo_vol;
	trees = repos < 0 ? -1 : find_volume(n, id->s, false, &p.tree_vol, err);
	if (trees < 0)
		return -1;
	if ((repos == 0 || trees == 0) && wr_node_missing(n, err) < 0)
		return -1;
	if (repos == 0)
		return wr_err_set(err, WR_E_NOT_FOUND, "no volume holds a project %s", id->s);
	if (repos > 1 || trees > 1) {
		wr_err_set(err, WR_E_CORRUPT, "the %s of project %s lie on several volumes",
			   repos > 1 ? "repositories" : "working files", id->s);
		return wr_err_hint(err, "move the copy that is not wanted out of the volume");
	}
	*out = p;
	return 0;
}

char *
wr_tree_path(const struct wr_place_of *p)
{
	return wr_asprintf("%s/projects/%s", p->node->volume[p->tree_vol].path, p->id.s);
}

char *
wr_repo_path_of(const struct wr_place_of *p)
{
	return wr_asprintf("%s/repos/%s", p->node->volume[p->repo_vol].path, p->id.s);
}

int
wr_tree_open(const struct wr_place_of *p, struct wr_err *err)
{
	int fd = wr_open_dir(p->node->volume[p->tree_vol].projects_fd, p->id.s);

	return fd < 0 ? wr_err_sys(err, "open the working files of project %s", p->id.s) : fd;
}

int
wr_repo_dir_open(const struct wr_place_of *p, struct wr_err *err)
{
	int fd = wr_open_dir(p->node->volume[p->repo_vol].repos_fd, p->id.s);

	return fd < 0 ? wr_err_sys(err, "open the repository of project %s", p->id.s) : fd;
}

int
wr_conf_fd(struct wr_place_of *p, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int repo = -1;

	if (p->conf_fd >= 0)
		return p->conf_fd;
	repo = wr_repo_dir_open(p, err);
	if (repo < 0)
		return -1;
	/* In two steps: a link in place of either is not followed. */
	p->conf_fd = wr_open_dir(repo, "conf");
	if (p->conf_fd < 0)
		return wr_err_sys(err, "open 'conf' of project %s", p->id.s);
	return p->conf_fd;
}

static bool
is_below(const struct wr_volume *v, unsigned percent)
{
	struct wr_room r;

	return v->fd >= 0 && wr_room_look(v, &r, NULL) == 0 && r.permille < percent * 10;
}

uint64_t
wr_volume_mark_free(const struct wr_node *n, const struct wr_place_of *p)
{
	struct statvfs st;
	uint64_t all;

	if (fstatvfs(n->volume[p->repo_vol].repos_fd, &st) < 0)
		return 0;
	all = (uint64_t)st.f_blocks - st.f_bfree + st.f_bavail;
	return all / 100 * (100 - wr_mark_copies_percent(&n->config)) * st.f_frsize;
}

bool
wr_volume_takes(const struct wr_node *n, const struct wr_place_of *p)
{
	if (p && p->node)
		return is_below(&n->volume[p->repo_vol], wr_mark_copies_percent(&n->config));
	for (size_t i = 0; i < n->volume_count; i++)
		if (is_below(&n->volume[i], wr_mark_percent(&n->config, WR_MARK_NEW)))
			return true;
	return false;
}

int
wr_settings_load(struct wr_place_of *p, struct wr_settings *out, struct wr_err *err)
{
	int fd = wr_conf_fd(p, err);
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_settings s = {0};

	if (fd < 0)
		return -1;
	o = wr_file_load(fd, "settings.json", WR_FILE_MAX, "format", WR_NODE_FORMAT, err);
	if (!o || wr_settings_parse(o, &s, err) < 0)
		return wr_err_wrap(err, "settings of project %s", p->id.s);
	if (strcmp(s.id.s, p->id.s) != 0) {
		wr_err_set(err, WR_E_CORRUPT,
			   "settings of project %s: they are those of project %s", p->id.s, s.id.s);
		wr_settings_fini(&s);
		return -1;
	}
	*out = s;
	return 0;
}

int
wr_settings_store(struct wr_place_of *p, const struct wr_settings *s, struct wr_err *err)
{
	int fd = wr_conf_fd(p, err);
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (fd < 0)
		return -1;
	o = wr_settings_json(s);
	if (wr_file_store(fd, "settings.json", o, WR_FILE_MAX, 0644, true, err) < 0)
		return wr_err_wrap(err, "settings of project %s", p->id.s);
	return 0;
}

/* ---- settings that come from other nodes ---- */

/* Is path there, or below it? */
static bool
at_or_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

/* The system's own files, or Warren's. */
static bool
reserved(const struct wr_node *n, const char *path)
{
	static const char *const system[] = {
	    "/bin",   "/boot",      "/dev",     "/etc",     "/lib",      "/lib32",
	    "/lib64", "/proc",      "/root",    "/run",     "/sbin",     "/sys",
	    "/usr",   "/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/spool",
	};

	if (!path[1] || at_or_below(path, n->state_path) || at_or_below(n->state_path, path))
		return true;
	for (size_t i = 0; i < WR_ARRAY_LEN(system); i++)
		if (at_or_below(path, system[i]))
			return true;
	for (size_t i = 0; i < n->volume_count; i++)
		if (at_or_below(path, n->volume[i].path))
			return true;
	return false;
}

/* What it would be made in is root's: a folder in somebody's home is that user's. */
static bool
in_roots(const char *path)
{
	WR_SCOPED(wr_freep) char *dir = wr_strdup(path);
	struct stat st;

	do
		*strrchr(dir, '/') = '\0';
	while (*dir && lstat(dir, &st) < 0);
	return !*dir || (S_ISDIR(st.st_mode) && st.st_uid == 0);
}

/* Root opens it for the project's user: only what all may read anyway, or what is for that. */
static bool
open_to_all(const struct wr_node *n, const char *path)
{
	struct stat st;

	if (at_or_below(path, "/etc/skel") || at_or_below(path, "/usr/share"))
		return true;
	if (reserved(n, path))
		return false;
	return lstat(path, &st) < 0 ? errno == ENOENT
				    : S_ISDIR(st.st_mode) && st.st_uid == 0 &&
					  (st.st_mode & 05) == 05 && in_roots(path);
}

static bool
unchanged(const struct wr_settings *s, const struct wr_settings *have, const char *key)
{
	return have && !strcmp(wr_settings_str(s, key), wr_settings_str(have, key));
}

/* Paths that root acts on, unless they were accepted before. */
static int
admit_paths(const struct wr_node *n, const struct wr_settings *s, const struct wr_settings *have,
	    struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *home = wr_settings_home(s, "");
	const char *template = wr_settings_str(s, "template");

	if (json_object_get(s->set, "home") && !unchanged(s, have, "home") &&
	    (reserved(n, home) || !in_roots(home)))
		return wr_err_set(err, WR_E_DENIED,
				  "home '%s' of project '%s' is no place for one on this host",
				  WR_Q(home), s->name);
	if (*template && !unchanged(s, have, "template") && !open_to_all(n, template))
		return wr_err_set(err, WR_E_DENIED,
				  "template '%s' of project '%s' is not open to all on this host",
				  WR_Q(template), s->name);
	return 0;
}

int
wr_settings_admit(const struct wr_node *n, const struct wr_settings *s,
		  const struct wr_settings *have, struct wr_err *err)
{
	const uint32_t first = n->config.replica_uid_first, last = n->config.replica_uid_last;

	if (have && (s->uid != have->uid || s->gid != have->gid))
		return wr_err_set(err, WR_E_DENIED,
				  "project '%s' is uid %u's and gid %u's here, not %u's and %u's",
				  have->name, have->uid, have->gid, s->uid, s->gid);
	if (!n->root_mode)
		return 0;
	if (!have && (s->uid < first || s->uid > last || s->gid < first || s->gid > last ||
		      s->uid == n->uid || s->gid == n->gid)) {
		wr_err_set(err, WR_E_DENIED, "project '%s' cannot be uid %u's and gid %u's here",
			   s->name, s->uid, s->gid);
		return wr_err_hint(err, "see [replica] uids in warren.conf(5)");
	}
	return admit_paths(n, s, have, err);
}
