/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STATE/control/ID.auth: what this node promised and accepted for one project.  Nothing here is
 * guessed: a file that cannot be understood is an error, and the node answers nothing for that
 * project.
 */
#include "host/auth/auth_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/str.h"
#include "host/node/room.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* LIMIT: all parts at their largest, and what is around them. */
#define AUTH_BYTES (WR_RECORD_BYTES + WR_SAVE_BYTES + WR_SETTINGS_DOC_BYTES + (64u << 10))
#define LOCK_WAIT_S 10
#define SUFFIX ".auth"
#define REJOIN                                                                                     \
	"it holds what this node promised and took, so nothing is guessed: take this node out of " \
	"the project and add it again, or let the host come back to the fleet as a new "           \
	"incarnation"

/* ---- lock, load, store ---- */

static int
lock(struct wr_auth *a, const struct wr_uuid *project, int wait_s, struct wr_lock *out,
     struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s.lock", project->s);

	if (wr_lock_take(out, a->node->state_fd, name, wait_s, "", NULL, err) < 0)
		return wr_err_wrap(err, "authority of project %s", project->s);
	return 0;
}

int
wr_auth_lock(struct wr_auth *a, const struct wr_uuid *project, struct wr_lock *out,
	     struct wr_err *err)
{
	return lock(a, project, LOCK_WAIT_S, out, err);
}

int
wr_auth_lock_now(struct wr_auth *a, const struct wr_uuid *project, struct wr_lock *out,
		 struct wr_err *err)
{
	return lock(a, project, 0, out, err);
}

/* An emptied STATE is not a node that knows nothing. */
static int
absent(struct wr_auth *a, const struct wr_uuid *project, struct wr_err *err)
{
	if (faccessat(a->node->state_fd, "control", F_OK, 0) < 0)
		return wr_err_set(err, WR_E_CORRUPT, "'%s/control' is gone",
				  WR_Q(a->node->state_path));
	if (wr_auth_forgot(a, project)) {
		wr_err_set(err, WR_E_NOT_FOUND,
			   "what this node promised for project %s is gone: '%s/control/%s" SUFFIX
			   "'",
			   project->s, WR_Q(a->node->state_path), project->s);
		return wr_err_hint(err, REJOIN);
	}
	return wr_err_set(err, WR_E_NOT_FOUND, "nothing is known of project %s here", project->s);
}

int
wr_auth_load(struct wr_auth *a, const struct wr_uuid *project, struct wr_member_state *out,
	     struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s" SUFFIX, project->s);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err why = WR_ERR_INIT;

	wr_member_init(out, project);
	if (wr_auth_read(a->node->state_fd, name, AUTH_BYTES, WR_OPEN_FILE, &b, NULL, NULL, &why) ==
		0 &&
	    wr_member_decode(b.p, b.len, project, out, &why) == 0)
		return 0;
	if (why.code == WR_E_NOT_FOUND)
		return absent(a, project, err);
	if (err)
		*err = why;
	wr_err_wrap(err, "authority record '%s/%s'", WR_Q(a->node->state_path), name);
	if (why.code != WR_E_CORRUPT)
		return -1;
	return wr_err_hint(err, REJOIN);
}

static json_t *
readable(const struct wr_auth *a, const struct wr_record *r)
{
	struct wr_version_text base = wr_version_text(&r->base);
	json_t *o = json_object(), *list;
	char random[17];

	snprintf(random, sizeof(random), "%016" PRIx64, r->n.random);
	wr_json_u64(o, "format", 1);
	wr_json_u64(o, "epoch", r->n.number);
	wr_json_str(o, "random", random);
	wr_json_str(o, "state", r->state == WR_RECORD_LIVE ? "live" : "deleted");
	wr_json_str(o, "base", r->base.n.number ? base.s : NULL);
	wr_json_time(o, "at", r->at);
	list = wr_json_array(o, "members");
	for (size_t i = 0; i < r->member_count; i++) {
		const struct wr_member *m = &r->member[i];
		const struct wr_fleet_node *f = wr_fleet_find(&a->fleet, &m->node.id);
		json_t *e = wr_json_item(list);

		wr_json_str(e, "node", m->node.id.s);
		wr_json_u64(e, "incarnation", m->node.inc);
		wr_json_str(e, "name", f ? f->name : NULL);
		wr_json_str(e, "dc", f ? f->dc : NULL);
		wr_json_str(e, "role", wr_role_name(m->role));
		wr_json_bool(e, "writer", wr_node_id_eq(&m->node, &r->writer));
	}
	return o;
}

/* For people, who find it beside the repository; besides only wr_auth_forgot reads it. */
static void
write_readable(struct wr_auth *a, const struct wr_uuid *project, const struct wr_record *r)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL, *old = NULL;
	int fd;

	if (wr_place_of_find(a->node, project, &place, NULL) == 0 &&
	    (fd = wr_conf_fd(&place, NULL)) >= 0) {
		o = readable(a, r);
		old = wr_file_load(fd, "replicas.json", WR_RECORD_BYTES, "format", 1, NULL);
		if (!old || !json_equal(o, old))
			(void)wr_file_store(fd, "replicas.json", o, WR_RECORD_BYTES, 0644, false,
					    NULL);
	}
	wr_place_of_fini(&place);
}

/* Is this node, as it is now, one of several? */
static bool
names_us(const struct wr_auth *a, const json_t *readable)
{
	const json_t *list = wr_json_get_arr(readable, "members"), *e;
	bool us = false;
	size_t i;

	json_array_foreach(list, i, e)
	{
		us = us || (!strcmp(wr_json_get_str(e, "node", ""), a->self.id.s) &&
			    wr_json_get_u64(e, "incarnation", 0) == a->self.inc);
	}
	return us && json_array_size(list) > 1;
}

bool
wr_auth_forgot(const struct wr_auth *a, const struct wr_uuid *project)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s" SUFFIX, project->s);
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_place_of place = WR_PLACE_OF_INIT;
	int fd;

	if (faccessat(a->node->state_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	/* It is written after the file, so it is never there before it. */
	if (wr_place_of_find(a->node, project, &place, NULL) == 0 &&
	    (fd = wr_conf_fd(&place, NULL)) >= 0)
		o = wr_file_load(fd, "replicas.json", WR_RECORD_BYTES, "format", 1, NULL);
	wr_place_of_fini(&place);
	return o && names_us(a, o);
}

int
wr_auth_store(struct wr_auth *a, const struct wr_uuid *project, const struct wr_member_state *s,
	      struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s" SUFFIX, project->s);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err why = WR_ERR_INIT;
	int rc;

	wr_assert(!strcmp(s->project.s, project->s));
	wr_member_encode(s, &b);
	wr_assert(b.len <= AUTH_BYTES);
	wr_crash_point("auth.store");
	/* DURABLE: an answer that rests on it goes out next. A full disk still votes. */
	rc = wr_replace_file(a->node->state_fd, name, b.p, b.len, 0600, &why);
	if (rc < 0 && why.code == WR_E_NOSPACE) {
		wr_room_make_state(a->node);
		rc = wr_replace_file(a->node->state_fd, name, b.p, b.len, 0600, &why);
	}
	if (rc < 0) {
		if (err)
			*err = why;
		return wr_err_wrap(err, "authority record '%s/%s'", WR_Q(a->node->state_path),
				   name);
	}
	wr_crash_point("auth.stored");
	if (s->has_record)
		write_readable(a, project, &s->record);
	return 0;
}

/* ---- all of them ---- */

struct ids {
	struct wr_uuid *id;
	size_t count, cap;
};

static void
ids_fini(struct ids *l)
{
	free(l->id);
}

static int
by_text(const void *a, const void *b)
{
	const struct wr_uuid *x = a, *y = b;

	return strcmp(x->s, y->s);
}

static int
list_ids(struct wr_auth *a, struct ids *out, struct wr_err *err)
{
	int fd = wr_open_dir(a->node->state_fd, "control");
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		wr_err_sys(err, "read '%s/control'", WR_Q(a->node->state_path));
		wr_closep(&fd);
		return -1;
	}
	while (errno = 0, (e = readdir(d))) {
		struct wr_uuid id;
		char text[sizeof(id.s)];

		if (strlen(e->d_name) != sizeof(id.s) - 1 + strlen(SUFFIX) ||
		    strcmp(e->d_name + sizeof(id.s) - 1, SUFFIX) != 0)
			continue;
		memcpy(text, e->d_name, sizeof(id.s) - 1);
		text[sizeof(id.s) - 1] = '\0';
		if (!wr_uuid_parse(text, &id))
			continue;
		wr_grow(&out->id, &out->cap, out->count + 1, sizeof(*out->id));
		out->id[out->count++] = id;
	}
	if (errno) {
		wr_err_sys(err, "read '%s/control'", WR_Q(a->node->state_path));
		closedir(d);
		return -1;
	}
	closedir(d);
	if (out->count)
		qsort(out->id, out->count, sizeof(*out->id), by_text);
	return 0;
}

int
wr_auth_each(struct wr_auth *a, wr_auth_fn fn, void *ctx, struct wr_err *err)
{
	WR_SCOPED(ids_fini) struct ids l = {0};
	int rc = list_ids(a, &l, err);

	for (size_t i = 0; rc == 0 && i < l.count; i++)
		rc = fn(ctx, &l.id[i], err);
	return rc;
}
