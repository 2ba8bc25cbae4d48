/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of systemd's userdb:
 *   NAME.user, NAME.group    JSON; "org.warren.node" and "org.warren.project" say whose they are
 *   UID.user, GID.group      links to them
 * The link is made last, and taken away last: while it is there, the name is found by the number.
 * A record without its link goes with the next sweep.
 */
#include "host/ident/ident_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/crash.h"
#include "sys/fs.h"

/* LIMIT: of a record; others may have put theirs there. */
#define RECORD_MAX ((size_t)64 << 10)
#define NODE_KEY "org.warren.node"
#define PROJECT_KEY "org.warren.project"
#define FILE_NAME_MAX 128

static const char *const kinds[] = {"user", "group"};

/* -1 with WR_E_NOT_FOUND: there is none, and it is not to be made. */
static int
open_dir(const struct wr_node *n, bool make, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	char *path = n->config.identity_userdb ? wr_strdup(n->config.identity_userdb)
		     : n->root                 ? wr_asprintf("%s/userdb", n->run_path)
					       : wr_strdup("/run/userdb");
	int fd;

	if (make && wr_mkdirs(AT_FDCWD, path, 0755, err) < 0)
		return wr_err_wrap(err, "userdb");
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? wr_err_sys(err, "open '%s'", path) : fd;
}

/* The project whose record it is; false: it is nobody's, or not ours. */
static bool
ours(const struct wr_node *n, int dir, const char *file, struct wr_uuid *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (wr_read_file(dir, file, RECORD_MAX, &b, NULL) < 0)
		return false;
	o = wr_json_parse(b.p, b.len, NULL);
	return !strcmp(wr_json_get_str(o, NODE_KEY, ""), n->id.s) &&
	       wr_uuid_parse(wr_json_get_str(o, PROJECT_KEY, ""), out);
}

/* The name that a number's link leads to, as a file beside it; false: there is none. */
static bool
linked(int dir, const char *link, char out[FILE_NAME_MAX])
{
	ssize_t len = readlinkat(dir, link, out, FILE_NAME_MAX - 1);

	if (len <= 0 || len == FILE_NAME_MAX - 1)
		return false;
	out[len] = '\0';
	return !strchr(out, '/');
}

static json_t *
record_of(const struct wr_node *n, const struct wr_settings *s, bool group)
{
	json_t *o = json_object();

	if (group) {
		wr_json_str(o, "groupName", wr_account_of(s));
		wr_json_u64(o, "gid", s->gid);
	} else {
		WR_SCOPED(wr_freep) char *home = wr_settings_home(s, n->root ? n->root : "");
		WR_SCOPED(wr_freep) char *real = wr_asprintf("project %s", s->name);

		wr_json_str(o, "userName", wr_account_of(s));
		wr_json_str(o, "realName", real);
		wr_json_u64(o, "uid", s->uid);
		wr_json_u64(o, "gid", s->gid);
		wr_json_str(o, "homeDirectory", home);
		wr_json_str(o, "shell", wr_ident_shell(s));
		wr_json_bool(o, "locked", true);
	}
	wr_json_str(o, "disposition", "regular");
	wr_json_str(o, "service", "org.warren");
	wr_json_str(o, NODE_KEY, n->id.s);
	wr_json_str(o, PROJECT_KEY, s->id.s);
	return o;
}

struct files {
	char file[FILE_NAME_MAX], link[FILE_NAME_MAX];
};

static struct files
files_of(const struct wr_settings *s, bool group)
{
	struct files f;

	snprintf(f.file, sizeof(f.file), "%.64s.%s", wr_account_of(s), kinds[group]);
	snprintf(f.link, sizeof(f.link), "%u.%s", group ? s->gid : s->uid, kinds[group]);
	return f;
}

static int
check_one(const struct wr_node *n, int dir, const struct wr_settings *s, bool group,
	  struct wr_err *err)
{
	struct files f = files_of(s, group);
	char there[FILE_NAME_MAX];
	struct wr_uuid whose;

	if (faccessat(dir, f.file, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (!ours(n, dir, f.file, &whose) || strcmp(whose.s, s->id.s) != 0))
		return wr_err_set(err, WR_E_EXISTS, "userdb: '%s' is somebody else's", f.file);
	if (faccessat(dir, f.link, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (!linked(dir, f.link, there) || strcmp(there, f.file) != 0))
		return wr_err_set(err, WR_E_EXISTS, "userdb: '%s' is somebody else's", f.link);
	return 0;
}

static int
make_one(const struct wr_node *n, int dir, const struct wr_settings *s, bool group,
	 struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = record_of(n, s, group);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct files f = files_of(s, group);

	wr_json_write(o, &b);
	wr_buf_add8(&b, '\n');
	if (wr_replace_file(dir, f.file, b.p, b.len, 0644, err) < 0)
		return wr_err_wrap(err, "userdb");
	wr_crash_point("ident.record");
	if (symlinkat(f.file, dir, f.link) < 0 && errno != EEXIST)
		return wr_err_sys(err, "userdb: link '%s'", f.link);
	return 0;
}

int
wr_userdb_make(const struct wr_node *n, const struct wr_settings *s, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int dir = open_dir(n, true, err);
	bool group = s->gid == s->uid;

	if (dir < 0 || check_one(n, dir, s, false, err) < 0 ||
	    (group && check_one(n, dir, s, true, err) < 0) ||
	    (group && make_one(n, dir, s, true, err) < 0))
		return -1;
	return make_one(n, dir, s, false, err);
}

static int
away(int dir, const char *file, struct wr_err *err)
{
	if (unlinkat(dir, file, 0) < 0 && errno != ENOENT)
		return wr_err_sys(err, "userdb: remove '%s'", file);
	return 0;
}

int
wr_userdb_drop(const struct wr_node *n, const struct wr_settings *s, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int dir = open_dir(n, false, &why);

	if (dir < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	for (size_t i = 0; i < WR_ARRAY_LEN(kinds); i++) {
		char link[FILE_NAME_MAX], file[FILE_NAME_MAX];
		struct wr_uuid whose;

		snprintf(link, sizeof(link), "%u.%s", i ? s->gid : s->uid, kinds[i]);
		if (!linked(dir, link, file))
			continue;
		if (faccessat(dir, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
		    (!ours(n, dir, file, &whose) || strcmp(whose.s, s->id.s) != 0))
			continue;
		if (away(dir, file, err) < 0 || away(dir, link, err) < 0)
			return -1;
	}
	return 0;
}

/* Is it NAME.user or NAME.group, and not a link? */
static bool
is_record(int dir, const char *name)
{
	const char *dot = strrchr(name, '.');
	struct stat st;

	return dot && dot != name && (!strcmp(dot + 1, kinds[0]) || !strcmp(dot + 1, kinds[1])) &&
	       fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static int
sweep_one(int dir, const char *file, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	bool group = !strcmp(strrchr(file, '.') + 1, kinds[1]);
	char link[FILE_NAME_MAX], there[FILE_NAME_MAX];

	if (wr_read_file(dir, file, RECORD_MAX, &b, err) < 0)
		return -1;
	o = wr_json_parse(b.p, b.len, NULL);
	snprintf(link, sizeof(link), "%" PRIu64 ".%s",
		 wr_json_get_u64(o, group ? "gid" : "uid", UINT64_MAX), kinds[group]);
	if (away(dir, file, err) < 0)
		return -1;
	return linked(dir, link, there) && !strcmp(there, file) ? away(dir, link, err) : 0;
}

int
wr_userdb_sweep(const struct wr_node *n, bool (*active)(void *ctx, const struct wr_uuid *project),
		void *ctx, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	int dir = open_dir(n, false, &why), rc = 0;
	const struct dirent *e;
	DIR *list;

	if (dir < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	list = fdopendir(dir);
	if (!list) {
		wr_err_sys(err, "list userdb");
		close(dir);
		return -1;
	}
	while (rc == 0 && (e = readdir(list))) {
		struct wr_uuid whose;

		if (is_record(dir, e->d_name) && ours(n, dir, e->d_name, &whose) &&
		    !active(ctx, &whose))
			rc = sweep_one(dir, e->d_name, err);
	}
	closedir(list);
	return rc;
}
