/* SPDX-License-Identifier: Apache-2.0 */
/* STATE/op/OPID: request, progress, result of one operation. */
#include "host/node/node_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/crash.h"
#include "sys/fs.h"

int
wr_opdir_make(struct wr_node *n, const struct wr_uuid *op, const json_t *request,
	      struct wr_err *err)
{
	union {
		const json_t *in;
		json_t *out;
	} u = {.in = request};
	/* The members are shared, the caller's object is left alone. */
	WR_SCOPED(wr_json_freep) json_t *o = json_copy(u.out);
	WR_SCOPED(wr_closep) int ops = wr_open_dir(n->state_fd, "op");
	WR_SCOPED(wr_closep) int fd = -1;

	wr_assert(o != NULL);
	wr_json_u64(o, "format", WR_NODE_FORMAT);
	wr_json_str(o, "id", op->s);
	if (ops < 0)
		return wr_err_sys(err, "open '%s/op'", WR_Q(n->state_path));
	if (mkdirat(ops, op->s, 0700) < 0)
		return errno == EEXIST
			   ? wr_err_set(err, WR_E_EXISTS, "there is an operation %s already", op->s)
			   : wr_err_sys(err, "make '%s/op/%s'", WR_Q(n->state_path), op->s);
	fd = wr_open_dir(ops, op->s);
	if (fd < 0) {
		wr_err_sys(err, "open '%s/op/%s'", WR_Q(n->state_path), op->s);
		goto fail;
	}
	wr_crash_point("opdir.made");
	/* For a process that is started now: after a power failure there is none, and the row in
	 * node.db tells.  So nothing waits for the disk here. */
	if (wr_file_store(fd, "request.json", o, WR_OP_FILE_MAX, 0600, false, err) < 0)
		goto fail;
	wr_crash_point("opdir.requested");
	return 0;
fail:
	(void)wr_remove_tree(ops, op->s, NULL); /* the first error is the one to tell */
	return wr_err_wrap(err, "operation %s", op->s);
}

int
wr_opdir_open(struct wr_node *n, const struct wr_uuid *op, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int ops = wr_open_dir(n->state_fd, "op");
	int fd = ops < 0 ? -1 : wr_open_dir(ops, op->s);

	return fd < 0 ? wr_err_sys(err, "open the files of operation %s", op->s) : fd;
}

json_t *
wr_opdir_request(int dirfd, struct wr_err *err)
{
	return wr_file_load(dirfd, "request.json", WR_OP_FILE_MAX, "format", WR_NODE_FORMAT, err);
}

int
wr_opdir_result_store(int dirfd, const json_t *result, struct wr_err *err)
{
	union {
		const json_t *in;
		json_t *out;
	} u = {.in = result};
	WR_SCOPED(wr_json_freep) json_t *o = json_copy(u.out);
	WR_SCOPED(wr_closep) int ops = wr_open_dir(dirfd, "..");

	wr_assert(o != NULL);
	if (ops < 0)
		return wr_err_sys(err, "open the directory of operations");
	wr_json_u64(o, "format", WR_NODE_FORMAT);
	if (faccessat(dirfd, "result.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return wr_err_set(err, WR_E_EXISTS, "this operation has its result already");
	wr_crash_point("result.store");
	/* DURABLE: it is on disk, the operation's directory too, before anyone hears of it. */
	if (wr_file_store(dirfd, "result.json", o, WR_OP_FILE_MAX, 0600, true, err) < 0 ||
	    wr_fsync_dir(ops, "..", err) < 0)
		return -1;
	wr_crash_point("result.stored");
	return 0;
}

json_t *
wr_opdir_result(int dirfd, struct wr_err *err)
{
	return wr_file_load(dirfd, "result.json", WR_OP_FILE_MAX, "format", WR_NODE_FORMAT, err);
}

int
wr_opdir_progress_store(int dirfd, const struct wr_status *s, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_status_json(s);

	return wr_file_store(dirfd, "progress.json", o, WR_FILE_MAX, 0600, false, err);
}

int
wr_opdir_progress(int dirfd, struct wr_status *out, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep)
	json_t *o = wr_file_load(dirfd, "progress.json", WR_FILE_MAX, "v", WR_NODE_FORMAT, err);

	return o ? wr_status_parse(o, out, err) : -1;
}

int
wr_opdir_drop(struct wr_node *n, const struct wr_uuid *op, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int ops = wr_open_dir(n->state_fd, "op");
	struct stat st;

	if (ops < 0)
		return wr_err_sys(err, "open '%s/op'", WR_Q(n->state_path));
	if (fstatat(ops, op->s, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	if (wr_remove_tree(ops, op->s, err) < 0)
		return wr_err_wrap(err, "operation %s", op->s);
	return 0;
}
