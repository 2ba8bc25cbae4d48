/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/view.h"

#include <sys/stat.h>

#include "cli/options.h"
#include "sys/clock.h"

int
wr_view_open(const struct wr_args *a, struct wr_view *v, struct wr_err *err)
{
	const char *path = wr_arg_repo(a, err);
	struct wr_repo *r;

	if (!path || wr_repo_open(path, &r, err) < 0)
		return -1;
	*v = (struct wr_view){.repo = r, .rd = wr_reader_new(r), .now = wr_clock_wall().s};
	return 0;
}

void
wr_view_close(struct wr_view *v)
{
	if (!v->repo)
		return;
	wr_reader_free(v->rd);
	wr_repo_close(v->repo);
	*v = (struct wr_view){0};
}

void
wr_place_fini(struct wr_place *p)
{
	wr_snap_fini(&p->snap);
	free(p->path);
	wr_at_fini(&p->at);
	*p = (struct wr_place){0};
}

int
wr_place_find(struct wr_view *v, const char *spec, struct wr_place *out, struct wr_err *err)
{
	WR_SCOPED(wr_place_fini) struct wr_place p = {0};
	const char *path;

	if (wr_resolve(v->rd, spec, v->now, &p.snap, &p.path, err) < 0)
		return -1;
	path = p.path ? p.path : "";
	if (wr_at_find(v->rd, &p.snap.tree, path, strlen(path), &p.at, err) < 0)
		return wr_err_wrap(err, "snapshot '%s'", WR_Q(wr_snap_name(&p.snap).s));
	*out = p;
	p = (struct wr_place){0};
	return 0;
}

int
wr_snap_find(struct wr_view *v, const char *spec, struct wr_snap *out, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *path = NULL;
	struct wr_snap s;

	if (wr_resolve(v->rd, spec, v->now, &s, &path, err) < 0)
		return -1;
	if (path) {
		wr_snap_fini(&s);
		return wr_err_set(err, WR_E_USAGE, "'%s' names a path, not a snapshot", WR_Q(spec));
	}
	*out = s;
	return 0;
}

struct wr_snap_name
wr_snap_name(const struct wr_snap *s)
{
	struct wr_snap_name n;

	if (s->branch)
		snprintf(n.s, sizeof(n.s), "%.300s/%s", s->branch, s->name);
	else
		snprintf(n.s, sizeof(n.s), "%s", wr_id_short(&s->commit).s);
	return n;
}

const char *
wr_type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	default:
		return "file";
	}
}

const char *
wr_kind_name(enum wr_kind kind)
{
	return kind == WR_KIND_DIR ? "directory" : kind == WR_KIND_LINK ? "symlink" : "file";
}

static char
type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	default:
		return '-';
	}
}

struct wr_mode_text
wr_mode_text(uint32_t mode)
{
	static const char rwx[] = "rwxrwxrwx";
	struct wr_mode_text t;

	t.s[0] = type_letter(mode);
	for (int i = 0; i < 9; i++)
		t.s[1 + i] = mode >> (8 - i) & 1 ? rwx[i] : '-';
	if (mode & S_ISUID)
		t.s[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		t.s[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		t.s[9] = mode & S_IXOTH ? 't' : 'T';
	t.s[10] = '\0';
	return t;
}

void
wr_json_snap(json_t *obj, const struct wr_snap *s)
{
	wr_json_str(obj, "snapshot", wr_snap_name(s).s);
	if (s->branch) {
		wr_json_str(obj, "branch", s->branch);
		wr_json_str(obj, "name", s->name);
	}
	wr_json_time(obj, "time", s->time);
	wr_json_id(obj, "commit", &s->commit);
}

void
wr_json_mode(json_t *obj, uint32_t mode)
{
	char text[8];

	snprintf(text, sizeof(text), "%04o", mode & 07777);
	wr_json_str(obj, "mode", text);
}
