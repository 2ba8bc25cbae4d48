/* SPDX-License-Identifier: Apache-2.0 */
/* After a start of the daemon: operations that run, ended, or still wait are found again. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/str.h"
#include "serve/control/control_int.h"
#include "serve/control/queue_int.h"
#include "sys/fs.h"

/* The process of an operation whose row has no id of one: the row was not written any more. */
static pid_t
find_process(const struct wr_control *c, const char *op)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	while (d && !found && (e = readdir(d))) {
		struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
		WR_SCOPED(wr_freep) char *path = NULL;
		uint64_t pid;
		const char *at, *word[4] = {NULL};
		struct stat st;

		/* Anybody may call his process so; it would never end. */
		if (wr_parse_u64(e->d_name, &pid, NULL) < 0 ||
		    fstatat(dirfd(d), e->d_name, &st, 0) < 0 || st.st_uid != c->self)
			continue;
		path = wr_asprintf("/proc/%s/cmdline", e->d_name);
		if (wr_read_file(AT_FDCWD, path, 4096, &b, NULL) < 0)
			continue;
		wr_buf_add8(&b, 0);
		at = (const char *)b.p;
		for (size_t i = 0; i < 4 && at < (const char *)b.p + b.len; i++) {
			word[i] = at;
			at += strlen(at) + 1;
		}
		if (word[3] && !strcmp(word[1], "@op") && !strcmp(word[3], op))
			found = (pid_t)pid;
	}
	if (d)
		closedir(d);
	return found;
}

struct old_ops {
	struct wr_op_row *row;
	size_t count, cap;
};

static int
collect_old(void *ctx, const struct wr_op_row *r, struct wr_err *err WR_UNUSED)
{
	struct old_ops *l = ctx;
	struct wr_op_row *to;

	wr_grow(&l->row, &l->cap, l->count + 1, sizeof(*l->row));
	to = &l->row[l->count++];
	*to = *r;
	to->args = wr_strdup(r->args ? r->args : "{}");
	to->receipt = to->error = NULL;
	return 0;
}

/* An end that the database did not take, or of which a power failure left it nothing. */
static bool
has_ended(struct wr_control *c, const struct wr_uuid *op)
{
	WR_SCOPED(wr_closep) int fd = wr_opdir_open(c->node, op, NULL);
	WR_SCOPED(wr_json_freep) json_t *result = fd < 0 ? NULL : wr_opdir_result(fd, NULL);

	return result != NULL;
}

static void
adopt_one(struct wr_control *c, const struct wr_op_row *row)
{
	struct wr_proj *p = wr_proj_get(c, &row->project);
	struct wr_op *o = wr_calloc(1, sizeof(*o));
	struct wr_err err = WR_ERR_INIT;
	int pidfd = -1;
	pid_t pid;

	o->c = c;
	o->p = p;
	o->lock = (struct wr_lock)WR_LOCK_INIT;
	o->row = *row;
	o->row.args = wr_strdup(row->args);
	o->args = wr_json_parse(row->args, strlen(row->args), &err);
	if (!json_is_object(o->args)) {
		json_decref(o->args);
		o->args = json_object();
	}
	o->scheduled = !strcmp(row->by, "schedule");
	if (row->state == WR_OPS_QUEUED) {
		if (has_ended(c, &row->id)) {
			wr_op_append(o);
			wr_op_collect(o, -1);
			return;
		}
		/* What sends to other nodes is asked for again by whoever lacks it. */
		if (row->kind == WR_OP_REPLICATE ||
		    (row->kind == WR_OP_COPY && !json_object_get(o->args, "from_snapshot"))) {
			struct wr_err why = WR_ERR_INIT;

			wr_err_set(&why, WR_E_FAILED, "interrupted before it began");
			wr_err_hint(&why, "%s again", wr_op_kind_name(row->kind));
			wr_op_append(o);
			wr_op_end(o, WR_OPS_FAILED, NULL, &why, "");
			return;
		}
		wr_op_append(o);
		wr_op_wait(o, WR_OP_PATIENCE_S);
		return;
	}
	wr_op_set_running(o);
	if (!wr_proc_parse(row->proc, &o->proc)) {
		pid = find_process(c, row->id.s);
		if (pid && wr_proc_id_of(pid, &o->proc, NULL) == 0)
			snprintf(o->row.proc, sizeof(o->row.proc), "%s",
				 wr_proc_format(&o->proc).s);
	}
	if (o->proc.pid > 0)
		pidfd = wr_proc_pidfd(&o->proc);
	if (pidfd < 0) {
		wr_op_collect(o, -1);
		return;
	}
	wr_op_watch_process(o, o->proc.pid, pidfd);
	if (wr_op_store(o, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "record an operation", &err);
	wr_event(c, "control", &row->project, "op.adopted", wr_op_kind_name(row->kind), NULL);
}

int
wr_ops_adopt(struct wr_control *c, struct wr_err *err)
{
	static const enum wr_op_state state[] = {WR_OPS_RUNNING, WR_OPS_QUEUED};
	int rc = 0;

	/* What runs first; the queue in the order in which it was asked for. */
	for (size_t k = 0; k < WR_ARRAY_LEN(state); k++) {
		struct old_ops l = {0};

		rc = wr_store_op_each(c->store, NULL, state[k], 0, collect_old, &l, err);
		for (size_t i = l.count; i-- > 0;) {
			if (rc == 0)
				adopt_one(c, &l.row[i]);
			wr_op_row_fini(&l.row[i]);
		}
		free(l.row);
		if (rc < 0)
			return -1;
	}
	return 0;
}
