/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a node and its volumes.  A run that is cut off is repeated, and takes up what it finds:
 *
 *   STATE and its directories -> node.json without volumes -> volume.json with the node's id
 *   -> the volume's directories and reserve -> node.json with the volume
 *
 * So a node.json without volumes is a node half made, and a volume with our id that node.json does
 * not name is a volume half added.
 */
#include "host/node/node_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/crash.h"
#include "sys/fs.h"

/* ---- checks ---- */

static int
check_dc(const char *dc, struct wr_err *err)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
	size_t n = dc ? strlen(dc) : 0;

	if (n == 0 || n > 63 || strspn(dc, good) != n || strchr("-_.", dc[0]))
		return wr_err_set(err, WR_E_INVALID,
				  "'%s' is no name of a data centre: 1 to 63 of a-z 0-9 - _ ., a "
				  "letter or digit first",
				  dc ? WR_Q(dc) : "");
	return 0;
}

static int
check_node_name(const char *name, struct wr_err *err)
{
	size_t n = strlen(name);

	if (n == 0 || n > 63 || name[0] == '-' || name[0] == '.' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != n)
		return wr_err_set(err, WR_E_INVALID,
				  "'%s' is no name of a node: 1 to 63 of a-z A-Z 0-9 - _ ., a "
				  "letter, digit or _ first",
				  WR_Q(name));
	return 0;
}

static bool
mount_of(const char *path, uint64_t *out)
{
	struct statx sx;

	if (statx(AT_FDCWD, path, 0, STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & STATX_MNT_ID))
		return false;
	*out = sx.stx_mnt_id;
	return true;
}

/* A subvolume has a device number of its own, a bind mount a mount of its own: either tells. */
static bool
on_root_fs(const char *path)
{
	struct stat a, b;
	uint64_t ma, mb;

	if (stat("/", &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev)
		return true;
	return mount_of("/", &ma) && mount_of(path, &mb) && ma == mb;
}

static int
check_file_system(const char *path, bool allow_root_fs, struct wr_err *err)
{
	if (allow_root_fs || !on_root_fs(path))
		return 0;
	wr_err_set(err, WR_E_DENIED, "volume '%s' is on the root file system", WR_Q(path));
	return wr_err_hint(err, "mount a file system of its own there, so that users' data cannot "
				"fill the system's disk; for a trial give --allow-root-fs");
}

static int
check_empty(int fd, const char *path, struct wr_err *err)
{
	int at = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = at < 0 ? NULL : fdopendir(at);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		wr_err_sys(err, "read directory '%s'", WR_Q(path));
		wr_closep(&at);
		return -1;
	}
	while (rc == 0 && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    !strcmp(e->d_name, "lost+found"))
			continue;
		/* A sentinel that was being written when we were killed. */
		if (!strncmp(e->d_name, "volume.json.tmp-", 16) && unlinkat(fd, e->d_name, 0) == 0)
			continue;
		rc = wr_err_set(err, WR_E_DENIED, "volume '%s' is not empty: it holds '%s'",
				WR_Q(path), WR_Q(e->d_name));
		wr_err_hint(err, "give an empty directory; `warren create --from DIR` imports "
				 "what is there");
	}
	closedir(d);
	return rc;
}

/* ---- directories ---- */

/* Made or found: a descriptor; its mode is what it has to be, whatever the umask. */
static int
make_dir(int dirfd, const char *name, mode_t mode, struct wr_err *err)
{
	int fd;

	if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make directory '%s'", WR_Q(name));
	fd = wr_open_dir(dirfd, name);
	if (fd < 0)
		return wr_err_sys(err, "open directory '%s'", WR_Q(name));
	if (fchmod(fd, mode) < 0) {
		wr_err_sys(err, "change mode of '%s'", WR_Q(name));
		close(fd);
		return -1;
	}
	return fd;
}

static int
make_dirs(int dirfd, mode_t mode, const char *const *names, struct wr_err *err)
{
	for (; *names; names++) {
		int fd = make_dir(dirfd, *names, mode, err);

		if (fd < 0)
			return -1;
		close(fd);
	}
	return 0;
}

/* The last directory of path made if absent; its parent has to be there. */
static int
make_path(const char *path, mode_t mode, struct wr_err *err)
{
	if (mkdir(path, mode) == 0)
		return chmod(path, mode) < 0 ? wr_err_sys(err, "change mode of '%s'", WR_Q(path))
					     : 0;
	return errno == EEXIST ? 0 : wr_err_sys(err, "make directory '%s'", WR_Q(path));
}

/* ---- a volume ---- */

static int
store_sentinel(int fd, const struct wr_uuid *id, const struct wr_uuid *node, uint64_t reserve,
	       struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();

	wr_json_u64(o, "format", WR_VOLUME_FORMAT);
	wr_json_u64(o, "min_reader", WR_VOLUME_FORMAT);
	wr_json_str(o, "id", id->s);
	wr_json_str(o, "node", node->s);
	if (reserve)
		wr_json_u64(o, "reserve", reserve);
	return wr_file_store(fd, "volume.json", o, WR_FILE_MAX, 0644, true, err);
}

/* Whose is it?  A sentinel of ours is taken up, an empty directory gets one. */
static int
claim(const struct wr_node *n, int fd, uint64_t reserve, struct wr_volume *v, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;
	struct wr_uuid owner;

	if (wr_sentinel_load(fd, v->path, &v->id, &owner, &v->reserve_bytes, &why) == 0) {
		if (!strcmp(owner.s, n->id.s))
			return 0;
		wr_err_set(err, WR_E_DENIED,
			   "volume '%s' belongs to node %s already, this is node %s", WR_Q(v->path),
			   owner.s, n->id.s);
		return wr_err_hint(err, "give another directory; if that node is gone for good, "
					"remove its volume.json and what lies beside it");
	}
	if (why.code != WR_E_NOT_FOUND) {
		if (err)
			*err = why;
		return wr_err_wrap(err, "volume '%s'", WR_Q(v->path));
	}
	if (check_empty(fd, v->path, err) < 0)
		return -1;
	wr_uuid_new(&v->id);
	wr_crash_point("init.sentinel");
	v->reserve_bytes = reserve;
	return store_sentinel(fd, &v->id, &n->id, reserve, err);
}

static int
fill_volume(int fd, uint64_t reserve_bytes, struct wr_err *err)
{
	static const char *const inner[] = {".stage", ".trash", NULL};
	static const char *const outer[] = {"projects", "repos", NULL};

	for (size_t i = 0; outer[i]; i++) {
		/* Users pass through on the way to what is theirs, and list nothing. */
		WR_SCOPED(wr_closep) int part = make_dir(fd, outer[i], 0711, err);

		if (part < 0 || make_dirs(part, 0700, inner, err) < 0 ||
		    wr_fsync_dir(part, ".", err) < 0)
			return -1;
		wr_crash_point("init.part");
	}
	if (wr_room_set_aside(fd, reserve_bytes, err) < 0)
		return -1;
	return wr_fsync_dir(fd, ".", err);
}

static int
check_not_known(const struct wr_node *n, const char *path, struct wr_err *err)
{
	struct stat st, of;

	if (stat(path, &st) < 0)
		return wr_err_sys(err, "stat '%s'", WR_Q(path));
	for (size_t i = 0; i < n->volume_count; i++)
		if (!strcmp(n->volume[i].path, path) ||
		    (stat(n->volume[i].path, &of) == 0 && st.st_dev == of.st_dev &&
		     st.st_ino == of.st_ino))
			return wr_err_set(err, WR_E_EXISTS, "'%s' is a volume of this node already",
					  WR_Q(path));
	return 0;
}

/* Is path the directory, or in it? Both are absolute and real. */
static bool
within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '/' || path[n] == '\0');
}

/* The real path of a directory that is made if only its last part is absent. Caller frees. */
static char *
volume_path(const struct wr_node *n, const char *typed, bool allow_root_fs, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *given = wr_strdup(typed);
	WR_SCOPED(wr_freep) char *path = realpath(typed, NULL);
	WR_SCOPED(wr_freep) char *real_state = NULL;
	const char *slash;
	int e = errno;

	for (size_t len = strlen(given); len > 1 && given[len - 1] == '/';)
		given[--len] = '\0';
	slash = strrchr(given, '/');
	real_state = realpath(n->state_path, NULL); /* NULL: not made yet */
	errno = e;
	if (!path && errno == ENOENT) {
		WR_SCOPED(wr_freep)
		char *parent = slash ? wr_memdup(given, (size_t)(slash - given) + 2) : NULL;

		if (parent)
			parent[slash - given + 1] = '\0';
		/* Looked at before anything is made there. */
		if (check_file_system(parent ? parent : ".", allow_root_fs, err) < 0 ||
		    make_path(given, 0755, err) < 0)
			return NULL;
		path = realpath(given, NULL);
	}
	if (!path) {
		wr_err_sys(err, "volume '%s'", WR_Q(given));
		return NULL;
	}
	if ((n->root && !strcmp(path, n->root)) ||
	    within(path, real_state ? real_state : n->state_path)) {
		wr_err_set(err, WR_E_INVALID,
			   "volume '%s' has to be a directory apart from the node's own state",
			   WR_Q(path));
		return NULL;
	}
	return check_file_system(path, allow_root_fs, err) < 0 ? NULL : wr_steal(&path);
}

/* All of a volume but node.json's line. *out is whole but for its descriptors. */
static int
make_volume(const struct wr_node *n, const char *path, uint64_t reserve_bytes,
	    struct wr_volume *out, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct wr_volume v = {.fd = -1, .projects_fd = -1, .repos_fd = -1};

	if (fd < 0)
		return wr_err_sys(err, "volume '%s'", WR_Q(path));
	v.path = wr_strdup(path);
	if (claim(n, fd, reserve_bytes, &v, err) < 0) {
		wr_volume_fini(&v);
		return -1;
	}
	wr_crash_point("init.claimed");
	if (fill_volume(fd, v.reserve_bytes, err) < 0) {
		wr_err_wrap(err, "volume '%s'", WR_Q(path));
		wr_volume_fini(&v);
		return -1;
	}
	wr_crash_point("init.volume");
	*out = v;
	return 0;
}

static void
tell_volume(json_t *o, const struct wr_volume *v)
{
	WR_SCOPED(wr_freep) char *reserve = wr_asprintf("%s/reserve", v->path);
	struct stat st;

	wr_json_str(o, "id", v->id.s);
	wr_json_path(o, "path", v->path, strlen(v->path));
	wr_json_u64(o, "reserve", stat(reserve, &st) == 0 ? (uint64_t)st.st_size : 0);
}

/* ---- init ---- */

static int
choose_user(struct wr_node *n, const char *user, struct wr_err *err)
{
	const char *name = user && *user ? user : "warren";

	if (!n->root_mode) {
		if (user && *user)
			return wr_err_set(err, WR_E_INVALID,
					  "only root can give repositories to "
					  "another user");
		return 0;
	}
	if (strlen(name) >= sizeof(n->user))
		return wr_err_set(err, WR_E_INVALID, "user '%s' is too long a name", WR_Q(name));
	if (wr_node_user(name, &n->uid, &n->gid, err) < 0)
		return -1;
	if (n->uid == 0) {
		wr_err_set(err, WR_E_DENIED, "user '%s' is root", WR_Q(name));
		return wr_err_hint(err, "repositories belong to a user without rights");
	}
	memcpy(n->user, name, strlen(name) + 1);
	return 0;
}

/* Who and where, from what was asked; nothing is made yet. */
static int
plan(struct wr_node *n, const struct wr_node_init *o, struct wr_err *err)
{
	char host[256] = "";

	if (check_dc(o->dc, err) < 0)
		return -1;
	if (!o->name && (gethostname(host, sizeof(host) - 1) < 0 || !*host))
		return wr_err_set(err, WR_E_INVALID, "this host has no name: give --name");
	if (check_node_name(o->name ? o->name : host, err) < 0)
		return -1;
	snprintf(n->dc, sizeof(n->dc), "%s", o->dc);
	snprintf(n->name, sizeof(n->name), "%s", o->name ? o->name : host);
	if (!o->volume || !*o->volume)
		return wr_err_set(err, WR_E_INVALID, "init needs a directory for the first volume");
	return choose_user(n, o->user, err);
}

static int
make_state(struct wr_node *n, struct wr_err *err)
{
	static const char *const names[] = {"control", "op", "log", NULL};

	if (make_path(n->state_path, 0755, err) < 0)
		return -1;
	n->state_fd = open(n->state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (n->state_fd < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(n->state_path));
	if (make_dirs(n->state_fd, 0700, names, err) < 0)
		return wr_err_wrap(err, "'%s'", WR_Q(n->state_path));
	return make_path(n->run_path, 0755, err);
}

/* Take up the id of a node that was begun: *out_found. WR_E_EXISTS if it is whole. */
static int
look_for_node(struct wr_node *n, bool *out_found, struct wr_err *err)
{
	struct wr_node old = {.state_fd = n->state_fd, .state_path = n->state_path};
	struct wr_err why = WR_ERR_INIT;
	bool found = wr_node_json_load(&old, &why) == 0;
	bool whole = old.volume_count > 0;

	for (size_t i = 0; i < old.volume_count; i++)
		wr_volume_fini(&old.volume[i]);
	free(old.volume);
	if (!found && why.code != WR_E_NOT_FOUND) {
		if (err)
			*err = why;
		return wr_err_wrap(err, "node at '%s'", WR_Q(n->state_path));
	}
	if (whole) {
		wr_err_set(err, WR_E_EXISTS, "there is a node at '%s' already: %s",
			   WR_Q(n->state_path), old.id.s);
		return wr_err_hint(err, "more volumes: warren volume add DIR");
	}
	if (found) {
		n->id = old.id;
		n->counter = old.counter;
	}
	*out_found = found;
	return 0;
}

static int
begin_node(struct wr_node *n, struct wr_lock *lock, struct wr_err *err)
{
	bool found;

	/* Once before the lock: where a daemon serves a node, that there is one says more. */
	if (look_for_node(n, &found, err) < 0 || wr_node_lock(n, lock, err) < 0 ||
	    look_for_node(n, &found, err) < 0)
		return -1;
	if (!found) {
		wr_uuid_new(&n->id);
		n->counter = 1;
	}
	wr_crash_point("init.state");
	return wr_node_json_store(n, err);
}

static void
node_freep(struct wr_node **n)
{
	wr_node_close(*n);
}

json_t *
wr_node_receipt(const struct wr_node *n)
{
	json_t *o = wr_json_begin("warren.init/1");

	wr_json_str(o, "node", n->id.s);
	wr_json_str(o, "name", n->name);
	wr_json_str(o, "dc", n->dc);
	wr_json_str(o, "user", *n->user ? n->user : NULL);
	wr_json_path(o, "state", n->state_path, strlen(n->state_path));
	wr_json_path(o, "run", n->run_path, strlen(n->run_path));
	wr_json_path(o, "config", n->config_path, strlen(n->config_path));
	wr_json_path(o, "socket", n->socket_path, strlen(n->socket_path));
	tell_volume(wr_json_object(o, "volume"), &n->volume[0]);
	return o;
}

/* The system's own node needs rights that only root has. */
static int
check_rights(const struct wr_node *n, struct wr_err *err)
{
	if (n->root || n->root_mode)
		return 0;
	wr_err_set(err, WR_E_DENIED, "only root can make the system's node");
	return wr_err_hint(err, "without root give a place of your own: --root DIR");
}

int
wr_node_init(const struct wr_node_init *o, json_t **out_receipt, struct wr_err *err)
{
	WR_SCOPED(node_freep) struct wr_node *n = wr_node_new();
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;
	WR_SCOPED(wr_freep) char *path = NULL;
	struct wr_volume v;

	if (plan(n, o, err) < 0)
		return -1;
	if (o->root && make_path(o->root, 0755, err) < 0)
		return -1;
	if (wr_node_paths(n, o->root, 0, err) < 0 || check_rights(n, err) < 0)
		return -1;
	path = volume_path(n, o->volume, o->allow_root_fs, err);
	if (!path || make_state(n, err) < 0 || begin_node(n, &lock, err) < 0)
		return -1;
	wr_crash_point("init.begun");
	if (make_volume(n, path, o->reserve_bytes, &v, err) < 0)
		return -1;
	wr_volume_append(n, &v);
	if (wr_node_json_store(n, err) < 0)
		return -1;
	wr_crash_point("init.done");
	if (out_receipt)
		*out_receipt = wr_node_receipt(n);
	return 0;
}

/* Another process may have added one meanwhile, or counted. */
static int
add_line(struct wr_node *fresh, void *ctx, struct wr_err *err)
{
	const struct wr_volume *v = ctx;
	struct wr_volume line = {.id = v->id, .fd = -1, .projects_fd = -1, .repos_fd = -1};

	if (check_not_known(fresh, v->path, err) < 0)
		return -1;
	line.path = wr_strdup(v->path);
	wr_volume_append(fresh, &line);
	return 0;
}

int
wr_volume_add(struct wr_node *n, const char *path, bool allow_root_fs, json_t **out_receipt,
	      struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *real = volume_path(n, path, allow_root_fs, err);
	struct wr_volume v;
	json_t *o;

	if (!real || check_not_known(n, real, err) < 0 || make_volume(n, real, 0, &v, err) < 0)
		return -1;
	if (wr_volume_open(n, &v, err) < 0 || wr_node_change(n, add_line, &v, err) < 0) {
		wr_volume_fini(&v);
		return -1;
	}
	wr_volume_append(n, &v);
	if (out_receipt) {
		o = wr_json_begin("warren.volume/1");
		wr_json_str(o, "node", n->id.s);
		tell_volume(o, &v);
		*out_receipt = o;
	}
	return 0;
}
