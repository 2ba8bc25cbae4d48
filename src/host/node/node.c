/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a node: STATE, RUN, node.json, and every volume by its sentinel. */
#include "host/node/node_int.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ini.h"
#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/getent.h"

#define SYSTEM_CONFIG "/etc/warren/warren.conf"
#define SYSTEM_STATE "/var/lib/warren"
#define SYSTEM_RUN "/run/warren"

/* LIMIT: volumes of one node. */
#define VOLUMES_MAX 64
#define LOCK_WAIT_S 2
#define JSON_WAIT_S 10 /* for those who read, change and write node.json */

struct wr_node *
wr_node_new(void)
{
	struct wr_node *n = wr_calloc(1, sizeof(*n));

	n->state_fd = n->run_fd = -1;
	n->root_mode = geteuid() == 0;
	n->uid = geteuid();
	n->gid = getegid();
	return n;
}

void
wr_volume_fini(struct wr_volume *v)
{
	wr_closep(&v->fd);
	wr_closep(&v->projects_fd);
	wr_closep(&v->repos_fd);
	free(v->path);
	v->path = NULL;
}

void
wr_node_close(struct wr_node *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->volume_count; i++)
		wr_volume_fini(&n->volume[i]);
	free(n->volume);
	wr_closep(&n->state_fd);
	wr_closep(&n->run_fd);
	wr_config_fini(&n->config);
	free(n->root);
	free(n->config_path);
	free(n->state_path);
	free(n->run_path);
	free(n->socket_path);
	free(n);
}

static void
node_freep(struct wr_node **n)
{
	wr_node_close(*n);
}

void
wr_volume_append(struct wr_node *n, const struct wr_volume *taken)
{
	n->volume = wr_reallocarray(n->volume, n->volume_count + 1, sizeof(*n->volume));
	n->volume[n->volume_count++] = *taken;
}

const char *
wr_node_arg(const struct wr_node *n)
{
	return n->root ? n->root : "-";
}

/* ---- places and identity ---- */

#define KEPT_CONFIG "warren.conf"

int
wr_config_keep(const struct wr_node *n, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err why = WR_ERR_INIT;

	if (wr_read_file(AT_FDCWD, n->config_path, WR_INI_MAX, &b, &why) == 0)
		return wr_replace_file(n->run_fd, KEPT_CONFIG, b.p, b.len, 0600, err);
	if (why.code == WR_E_NOT_FOUND) /* all is as it is by default */
		return wr_replace_file(n->run_fd, KEPT_CONFIG, "", 0, 0600, err);
	if (err)
		*err = why;
	return -1;
}

static int
read_config(struct wr_node *n, unsigned flags, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *kept = wr_asprintf("%s/" KEPT_CONFIG, n->run_path);
	struct wr_err why = WR_ERR_INIT;

	if (wr_config_load(n->config_path, &n->config, &why) == 0 ||
	    ((flags & WR_NODE_OF_DAEMON) && access(kept, F_OK) == 0 &&
	     wr_config_load(kept, &n->config, NULL) == 0))
		return 0;
	if (err)
		*err = why;
	return -1;
}

int
wr_node_paths(struct wr_node *n, const char *root, unsigned flags, struct wr_err *err)
{
	if (root) {
		n->root = realpath(root, NULL);
		if (!n->root)
			return wr_err_sys(err, "root '%s'", WR_Q(root));
		n->config_path = wr_asprintf("%s/warren.conf", n->root);
		n->state_path = wr_asprintf("%s/state", n->root);
		n->run_path = wr_asprintf("%s/run", n->root);
	} else {
		n->config_path = wr_strdup(SYSTEM_CONFIG);
		n->state_path = wr_strdup(SYSTEM_STATE);
		n->run_path = wr_strdup(SYSTEM_RUN);
	}
	if (read_config(n, flags, err) < 0)
		return -1;
	n->socket_path = n->config.listen_socket ? wr_strdup(n->config.listen_socket)
						 : wr_asprintf("%s/warren.sock", n->run_path);
	return 0;
}

int
wr_node_user(const char *user, uid_t *out_uid, gid_t *out_gid, struct wr_err *err)
{
	struct wr_getent_entry e;
	uint64_t number;
	enum wr_getent_answer rc;

	/* A bare number serves where there is no account, as in containers and tests. */
	if (wr_parse_u64(user, &number, NULL) == 0 && number > 0 && number < UINT32_MAX) {
		*out_uid = (uid_t)number;
		*out_gid = (gid_t)number;
		return 0;
	}
	rc = wr_getent_by_name(false, user, &e);
	/* Nodes are opened by processes that live on. */
	wr_getent_end();
	if (rc == WR_GETENT_FOUND) {
		*out_uid = e.id;
		*out_gid = e.gid;
		return 0;
	}
	if (rc == WR_GETENT_FAILED)
		return wr_err_set(err, WR_E_BUSY, "look up user '%s': %s", WR_Q(user),
				  wr_getent_why());
	wr_err_set(err, WR_E_NOT_FOUND, "there is no user '%s' to own the repositories",
		   WR_Q(user));
	return wr_err_hint(err,
			   "make it: adduser --system --group --no-create-home --home %s "
			   "--shell /usr/sbin/nologin %s",
			   SYSTEM_STATE, WR_Q(user));
}

/* ---- node.json ---- */

static int
take_text(const json_t *o, const char *key, char *out, size_t size, struct wr_err *err)
{
	const char *s = wr_json_get_str(o, key, NULL);

	if (!s || strlen(s) >= size)
		return wr_err_set(err, WR_E_CORRUPT, "'node.json' has no usable '%s'", key);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

/* The first release had a text in the place of the incarnation, and no fleet. */
static int
take_membership(struct wr_node *n, const json_t *o, struct wr_err *err)
{
	const json_t *inc = json_object_get(o, "incarnation"),
		     *counter = json_object_get(o, "counter");
	const char *fleet = wr_json_get_str(o, "fleet", "");

	if (json_is_string(inc) && !*fleet) {
		n->incarnation = 0;
	} else {
		if (!json_is_integer(inc) || json_integer_value(inc) < 0 ||
		    json_integer_value(inc) > UINT32_MAX)
			return wr_err_set(err, WR_E_CORRUPT,
					  "'node.json' has no usable 'incarnation'");
		n->incarnation = (uint32_t)json_integer_value(inc);
	}
	if (!json_is_integer(counter) || json_integer_value(counter) < 0)
		return wr_err_set(err, WR_E_CORRUPT, "'node.json' has no usable 'counter'");
	n->counter = (uint64_t)json_integer_value(counter);
	n->fleet.s[0] = '\0';
	if (*fleet && !wr_uuid_parse(fleet, &n->fleet))
		return wr_err_set(err, WR_E_CORRUPT, "'node.json' has no usable 'fleet'");
	if (!*fleet != !n->incarnation)
		return wr_err_set(err, WR_E_CORRUPT,
				  "'node.json' says a fleet or an incarnation without the other");
	return 0;
}

static int
take_volumes(struct wr_node *n, const json_t *o, struct wr_err *err)
{
	const json_t *list = wr_json_get_arr(o, "volumes"), *item;
	size_t i;

	if (!list || json_array_size(list) > VOLUMES_MAX)
		return wr_err_set(err, WR_E_CORRUPT, "'node.json' has no usable 'volumes'");
	json_array_foreach(list, i, item)
	{
		struct wr_volume v = {.fd = -1, .projects_fd = -1, .repos_fd = -1};
		const char *path = wr_json_get_str(item, "path", "");

		if (*path != '/' || !wr_uuid_parse(wr_json_get_str(item, "id", ""), &v.id))
			return wr_err_set(err, WR_E_CORRUPT,
					  "'node.json' has no usable volume at position %zu", i);
		v.path = wr_strdup(path);
		wr_volume_append(n, &v);
	}
	return 0;
}

int
wr_node_json_load(struct wr_node *n, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep)
	json_t *o =
	    wr_file_load(n->state_fd, "node.json", WR_FILE_MAX, "format", WR_NODE_FORMAT, err);

	if (!o)
		return -1;
	if (!wr_uuid_parse(wr_json_get_str(o, "id", ""), &n->id))
		return wr_err_set(err, WR_E_CORRUPT, "'node.json' has no usable 'id'");
	if (take_membership(n, o, err) < 0 || take_text(o, "dc", n->dc, sizeof(n->dc), err) < 0 ||
	    take_text(o, "name", n->name, sizeof(n->name), err) < 0 ||
	    take_text(o, "user", n->user, sizeof(n->user), err) < 0)
		return -1;
	return take_volumes(n, o, err);
}

int
wr_node_json_store(const struct wr_node *n, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	json_t *list;

	wr_json_u64(o, "format", WR_NODE_FORMAT);
	wr_json_str(o, "id", n->id.s);
	wr_json_u64(o, "incarnation", n->incarnation);
	wr_json_u64(o, "counter", n->counter);
	wr_json_str(o, "fleet", n->fleet.s);
	wr_json_str(o, "dc", n->dc);
	wr_json_str(o, "name", n->name);
	wr_json_str(o, "user", n->user);
	list = wr_json_array(o, "volumes");
	for (size_t i = 0; i < n->volume_count; i++) {
		json_t *item = wr_json_item(list);

		wr_json_str(item, "id", n->volume[i].id.s);
		wr_json_str(item, "path", n->volume[i].path);
	}
	return wr_file_store(n->state_fd, "node.json", o, WR_FILE_MAX, 0644, true, err);
}

static void
fresh_fini(struct wr_node *fresh)
{
	for (size_t i = 0; i < fresh->volume_count; i++)
		wr_volume_fini(&fresh->volume[i]);
	free(fresh->volume);
}

int
wr_node_change(struct wr_node *n, int (*fn)(struct wr_node *, void *, struct wr_err *), void *ctx,
	       struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;
	struct wr_node fresh = {.state_fd = n->state_fd};
	int rc;

	rc = wr_lock_take(&lock, n->state_fd, "node.lock", JSON_WAIT_S, "", NULL, err);
	if (rc == 0)
		rc = wr_node_json_load(&fresh, err);
	if (rc == 0)
		rc = fn(&fresh, ctx, err);
	/* DURABLE: what is told to others rests on it. */
	if (rc == 0)
		rc = wr_node_json_store(&fresh, err);
	if (rc == 0) {
		n->incarnation = fresh.incarnation;
		n->counter = fresh.counter;
		n->fleet = fresh.fleet;
	}
	fresh_fini(&fresh);
	return rc < 0 ? wr_err_wrap(err, "change node at '%s'", WR_Q(n->state_path)) : 0;
}

static int
step_counter(struct wr_node *fresh, void *ctx, struct wr_err *err)
{
	const struct wr_node *held = ctx;

	(void)err;
	fresh->counter = WR_MAX(fresh->counter, held->counter) + 1;
	return 0;
}

int
wr_node_count(struct wr_node *n, struct wr_err *err)
{
	return wr_node_change(n, step_counter, n, err);
}

struct membership {
	const struct wr_uuid *fleet;
	uint32_t inc;
};

static int
enter_fleet(struct wr_node *fresh, void *ctx, struct wr_err *err)
{
	const struct membership *m = ctx;

	if (fresh->fleet.s[0] && strcmp(fresh->fleet.s, m->fleet->s) != 0) {
		wr_err_set(err, WR_E_EXISTS, "this node belongs to fleet %s", fresh->fleet.s);
		return wr_err_hint(err, "a node that is to change its fleet is made anew, with a "
					"STATE and volumes of its own");
	}
	if (m->inc < fresh->incarnation)
		return wr_err_set(err, WR_E_INVALID,
				  "this node was incarnation %" PRIu32 " already, not %" PRIu32,
				  fresh->incarnation, m->inc);
	fresh->fleet = *m->fleet;
	fresh->incarnation = m->inc;
	return 0;
}

int
wr_node_set_fleet(struct wr_node *n, const struct wr_uuid *fleet, uint32_t inc, struct wr_err *err)
{
	struct membership m = {fleet, inc};

	wr_assert(inc > 0 && fleet->s[0]);
	return wr_node_change(n, enter_fleet, &m, err);
}

/* ---- volumes ---- */

int
wr_sentinel_load(int fd, const char *path, struct wr_uuid *out_id, struct wr_uuid *out_node,
		 uint64_t *out_reserve, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep)
	json_t *o = wr_file_load(fd, "volume.json", WR_FILE_MAX, "format", UINT64_MAX, err);
	uint64_t need;

	if (!o)
		return -1;
	/* A newer writer may still leave a volume that we understand; it says so. */
	need = wr_json_get_u64(o, "min_reader", wr_json_get_u64(o, "format", 0));
	if (need > WR_VOLUME_FORMAT) {
		wr_err_set(err, WR_E_UNSUPPORTED,
			   "volume '%s' has format %" PRIu64 " and needs a program that reads "
			   "format %" PRIu64 ", this program reads up to %d",
			   WR_Q(path), wr_json_get_u64(o, "format", 0), need, WR_VOLUME_FORMAT);
		return wr_err_hint(err, "a newer release made it; run that release or a later one");
	}
	if (!wr_uuid_parse(wr_json_get_str(o, "id", ""), out_id) ||
	    !wr_uuid_parse(wr_json_get_str(o, "node", ""), out_node))
		return wr_err_set(err, WR_E_CORRUPT, "'volume.json' names no volume or no node");
	*out_reserve = wr_json_get_u64(o, "reserve", 0);
	return 0;
}

static int
no_volume(const struct wr_volume *v, struct wr_err *err)
{
	return wr_err_hint(err,
			   "mount the file system of volume %s at '%s', then try again; nothing "
			   "is made there without its volume.json",
			   v->id.s, WR_Q(v->path));
}

/* The directory at the volume's path, which must be this node's volume: a descriptor. */
static int
open_checked(const struct wr_node *n, const struct wr_volume *v, uint64_t *out_reserve,
	     struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = open(v->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct wr_err why = WR_ERR_INIT;
	struct wr_uuid id, node;
	int out;

	if (fd < 0) {
		wr_err_sys(err, "volume '%s'", WR_Q(v->path));
		return errno == ENOENT || errno == ENOTDIR ? no_volume(v, err) : -1;
	}
	if (wr_sentinel_load(fd, v->path, &id, &node, out_reserve, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND) {
			wr_err_set(err, WR_E_NOT_FOUND,
				   "volume '%s' has no volume.json: is its file system mounted?",
				   WR_Q(v->path));
			return no_volume(v, err);
		}
		if (err)
			*err = why;
		return why.code == WR_E_UNSUPPORTED
			   ? -1
			   : wr_err_wrap(err, "volume '%s'", WR_Q(v->path));
	}
	if (strcmp(node.s, n->id.s) != 0) {
		wr_err_set(err, WR_E_DENIED, "volume '%s' belongs to node %s, this is node %s",
			   WR_Q(v->path), node.s, n->id.s);
		return wr_err_hint(err, "mount this node's volume there, or start the node whose "
					"volume it is");
	}
	if (strcmp(id.s, v->id.s) != 0) {
		wr_err_set(err, WR_E_DENIED, "at '%s' lies volume %s, where volume %s was expected",
			   WR_Q(v->path), id.s, v->id.s);
		return wr_err_hint(err, "are two volumes mounted in each other's place?");
	}
	out = fd;
	fd = -1;
	return out;
}

/* Readable for those who list it; who may only pass through gets a descriptor that does for that.
 */
static int
open_part(const struct wr_volume *v, const char *name, struct wr_err *err)
{
	int fd = wr_open_dir(v->fd, name);

	if (fd < 0 && errno == EACCES)
		fd = openat(v->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		wr_err_sys(err, "volume '%s': open '%s'", WR_Q(v->path), name);
	return fd;
}

int
wr_volume_open(const struct wr_node *n, struct wr_volume *v, struct wr_err *err)
{
	v->fd = open_checked(n, v, &v->reserve_bytes, err);
	if (v->fd < 0)
		return -1;
	v->projects_fd = open_part(v, "projects", err);
	if (v->projects_fd >= 0)
		v->repos_fd = open_part(v, "repos", err);
	if (v->repos_fd >= 0)
		return 0;
	wr_closep(&v->projects_fd);
	wr_closep(&v->fd);
	return -1;
}

int
wr_node_missing(const struct wr_node *n, struct wr_err *err)
{
	for (size_t i = 0; i < n->volume_count; i++) {
		struct wr_volume v = {.path = wr_strdup(n->volume[i].path),
				      .fd = -1,
				      .projects_fd = -1,
				      .repos_fd = -1};
		int rc;

		if (n->volume[i].fd >= 0) {
			wr_volume_fini(&v);
			continue;
		}
		v.id = n->volume[i].id;
		rc = wr_volume_open(n, &v, err);
		if (rc == 0) /* it has come this moment */
			wr_err_set(err, WR_E_BUSY, "volume '%s' was not there", WR_Q(v.path));
		else /* "not found" is what is said of projects */
			wr_err_recode(err, WR_E_FAILED);
		wr_volume_fini(&v);
		return -1;
	}
	return 0;
}

int
wr_node_check_volumes(struct wr_node *n, struct wr_err *err)
{
	for (size_t i = 0; i < n->volume_count; i++) {
		const struct wr_volume *v = &n->volume[i];
		uint64_t reserve;
		WR_SCOPED(wr_closep) int fd = open_checked(n, v, &reserve, err);
		struct stat now, held;

		if (fd < 0)
			return -1;
		if (fstat(fd, &now) < 0 || fstat(v->fd, &held) < 0)
			return wr_err_sys(err, "stat volume '%s'", WR_Q(v->path));
		if (now.st_dev != held.st_dev || now.st_ino != held.st_ino) {
			wr_err_set(err, WR_E_CHANGED, "volume '%s' was mounted anew meanwhile",
				   WR_Q(v->path));
			return wr_err_hint(err, "restart the daemon; projects' processes go on");
		}
	}
	return 0;
}

/* ---- open ---- */

static int
open_state(struct wr_node *n, struct wr_err *err)
{
	n->state_fd = open(n->state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (n->state_fd < 0 && errno == ENOENT) {
		wr_err_set(err, WR_E_NOT_FOUND, "there is no node at '%s'", WR_Q(n->state_path));
		return wr_err_hint(err, "make one: warren init %s%s%s--dc DC VOLUME",
				   n->root ? "--root " : "", n->root ? n->root : "",
				   n->root ? " " : "");
	}
	if (n->state_fd < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(n->state_path));
	return 0;
}

/* What ended init half-way is repeated, not served. */
static int
half_made(const struct wr_node *n, struct wr_err *err)
{
	wr_err_set(err, WR_E_NOT_FOUND, "the node at '%s' was never finished", WR_Q(n->state_path));
	return wr_err_hint(err, "run `warren init` again, as before");
}

static int
find_user(struct wr_node *n, bool must, struct wr_err *err)
{
	if (n->root_mode && *n->user)
		return wr_node_user(n->user, &n->uid, &n->gid, err);
	if (n->root_mode && must) {
		struct stat st;

		if (fstat(n->state_fd, &st) < 0)
			return wr_err_sys(err, "stat '%s'", WR_Q(n->state_path));
		wr_err_set(err, WR_E_DENIED, "the node at '%s' was made without root, by uid %u",
			   WR_Q(n->state_path), st.st_uid);
		return wr_err_hint(err, "run this as that user");
	}
	return 0;
}

/* It lies in memory and is gone after a reboot. Who may not make it goes without. */
static void
open_run(struct wr_node *n, bool make)
{
	if (make && mkdir(n->run_path, 0755) == 0)
		(void)chmod(n->run_path, 0755); /* whatever the umask was */
	n->run_fd = open(n->run_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (make && n->run_fd >= 0)
		(void)mkdirat(n->run_fd, "run", 0700); /* who needs it tells what is wrong */
}

int
wr_node_open(const char *root, unsigned flags, struct wr_node **out, struct wr_err *err)
{
	WR_SCOPED(node_freep) struct wr_node *n = wr_node_new();
	bool volumes = !(flags & WR_NODE_NO_VOLUMES);
	struct wr_err why = WR_ERR_INIT;
	size_t there = 0;

	if (wr_node_paths(n, root, flags, err) < 0 || open_state(n, err) < 0)
		return -1;
	if (wr_node_json_load(n, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return half_made(n, err);
		if (err)
			*err = why;
		return wr_err_wrap(err, "node at '%s'", WR_Q(n->state_path));
	}
	if (n->volume_count == 0)
		return half_made(n, err);
	if (find_user(n, volumes, err) < 0)
		return -1;
	open_run(n, volumes);
	for (size_t i = 0; volumes && i < n->volume_count; i++) {
		if (wr_volume_open(n, &n->volume[i], err) == 0)
			there++;
		else if (!(flags & WR_NODE_SOME_VOLUMES))
			return -1;
	}
	if (volumes && !there)
		return -1;
	*out = wr_steal(&n);
	return 0;
}

int
wr_node_lock(struct wr_node *n, struct wr_lock *out, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	char *note = wr_asprintf("pid %d since %s", (int)getpid(), wr_now_text().s);
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_freep) char *holder = NULL;
	WR_SCOPED(wr_closep) int control_fd = -1;

	/* A child of a daemon that was killed may hold it between fork and exec. */
	if (wr_lock_take(out, n->state_fd, "lock", LOCK_WAIT_S, note, NULL, &why) < 0) {
		if (why.code != WR_E_BUSY) {
			if (err)
				*err = why;
			return wr_err_wrap(err, "node at '%s'", WR_Q(n->state_path));
		}
		holder = wr_note_read(n->state_fd, "lock");
		wr_err_set(err, WR_E_BUSY, "a daemon serves the node at '%s' already (%s)",
			   WR_Q(n->state_path), holder ? WR_Q(holder) : "it left no note");
		return wr_err_hint(err, "stop that one first");
	}
	/* Operations may be writing now; what is that old was left by a dead one. */
	wr_file_sweep(n->state_fd, 60);
	control_fd = wr_open_dir(n->state_fd, "control");
	if (control_fd >= 0)
		wr_file_sweep(control_fd, 60);
	return 0;
}
