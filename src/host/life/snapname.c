/* SPDX-License-Identifier: Apache-2.0 */
/* What users call a snapshot, looked up by a view (a worker that may only read the repository). */
#include "host/life/life_int.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/fs.h"

/* LIMIT: of a view's answer: some 30,000 tags. */
#define ANSWER_MAX ((size_t)8 << 20)

/* The JSON object that `warren repo ARGV` prints; NULL with its error. */
static json_t *
view(struct wr_life *l, const char *const *argv, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int out = memfd_create("view", MFD_CLOEXEC);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err why = WR_ERR_INIT;
	off_t len;
	pid_t pid;
	int status;

	if (out < 0) {
		wr_err_sys(err, "make a memory file");
		return NULL;
	}
	if (wr_view_begin(&l->place, argv, true, false, out, STDERR_FILENO, &pid, err) < 0)
		return NULL;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR) {
			wr_err_sys(err, "wait for a view");
			return NULL;
		}
	len = lseek(out, 0, SEEK_END);
	if (len < 0 || (uint64_t)len > ANSWER_MAX) {
		wr_err_set(err, WR_E_LIMIT, "the answer of a view is too long");
		return NULL;
	}
	wr_buf_reserve(&b, (size_t)len + 1);
	if (wr_pread_full(out, b.p, (size_t)len, 0) != len) {
		wr_err_sys(err, "read the answer of a view");
		return NULL;
	}
	b.len = (size_t)len;
	o = wr_json_parse(b.p, b.len, &why);
	if (o && wr_json_get_obj(o, "error")) {
		wr_json_get_err(wr_json_get_obj(o, "error"), &why);
		if (err)
			*err = why;
		return NULL;
	}
	/* A whole answer is one, whatever the process did after it. */
	if (!o) {
		wr_err_set(err, WR_E_FAILED, "a look into the repository of '%s' failed",
			   l->set.name);
		wr_err_hint(err, "warren op log %s", l->op.s);
		return NULL;
	}
	return wr_steal(&o);
}

int
wr_life_snap_find(struct wr_life *l, const char *spec, struct wr_life_snap *out, struct wr_err *err)
{
	/* Compared with itself a snapshot has no differences, and is named twice. */
	const char *argv[] = {"diff", "--name-only", spec, spec, NULL};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *a;

	*out = (struct wr_life_snap){0};
	if (spec[0] == '-')
		return wr_err_set(err, WR_E_INVALID, "'%s' is no name of a snapshot", WR_Q(spec));
	o = view(l, argv, err);
	if (!o)
		return -1;
	a = wr_json_get_obj(o, "a");
	snprintf(out->commit, sizeof(out->commit), "%s", wr_json_get_str(a, "commit", ""));
	snprintf(out->name, sizeof(out->name), "%s", wr_json_get_str(a, "snapshot", ""));
	if (strlen(out->commit) != 40)
		return wr_err_set(err, WR_E_INVALID, "'%s' is no snapshot", WR_Q(spec));
	if (!*wr_json_get_str(a, "path", ""))
		return 0;
	out->path = wr_life_get_path(a, "path", err);
	return out->path ? 0 : -1;
}

int
wr_life_snap_before(struct wr_life *l, char *out, size_t size, struct wr_err *err)
{
	static const char *const argv[] = {"tag", NULL};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *tags;
	int64_t newest = INT64_MIN;

	o = view(l, argv, err);
	if (!o)
		return -1;
	snprintf(out, size, "latest");
	tags = wr_json_get_arr(o, "tags");
	for (size_t i = 0; i < json_array_size(tags); i++) {
		const json_t *t = json_array_get(tags, i);
		const char *name = wr_json_get_str(t, "tag", "");
		int64_t when = wr_json_get_time(t, "time", INT64_MIN);

		/* Of an operation: a user's own before-upgrade is none. */
		if (strncmp(name, "before-", 7) != 0 || strlen(name) != 15 ||
		    strlen(name) >= size || strspn(name + 7, "0123456789abcdef") != 8 ||
		    when < newest)
			continue;
		newest = when;
		snprintf(out, size, "%s", name);
	}
	return 0;
}
