/* SPDX-License-Identifier: Apache-2.0 */
/* What an operation changes in its project's row of the index, and what the row knows from the
 * disks. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "host/node/age.h"
#include "serve/control/control_int.h"
#include "serve/control/queue_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* What is wanted from now on; before anything is done about it. */
void
wr_op_wish_row(struct wr_op *o, struct wr_proj_row *row, int64_t now)
{
	WR_SCOPED(wr_json_freep) json_t *holders = wr_holders_parse(row->holders);
	const char *holder = wr_json_get_str(o->args, "holder", "manual");
	json_t *names, *h;
	size_t i;

	switch (o->row.kind) {
	case WR_OP_START:
	case WR_OP_RESTART:
		if (!o->back && (o->row.kind == WR_OP_START || json_array_size(holders) == 0))
			wr_holders_add(holders, holder, now);
		names = wr_json_array(o->args, "holders");
		json_array_foreach(holders, i, h)
		    wr_json_add_str(names, wr_json_get_str(h, "name", ""));
		row->desired = true;
		break;
	case WR_OP_STOP:
		if (wr_json_get_bool(o->args, "comes_back", false))
			return; /* with the host */
				/* fall through */
	case WR_OP_DELETE:
	case WR_OP_DROP:
		json_array_clear(holders);
		row->desired = false;
		break;
	default:
		return;
	}
	free(row->holders);
	row->holders = wr_holders_text(holders);
	row->used = now;
}

static void
saved_row(struct wr_proj_row *row, const json_t *save)
{
	const bool latest = wr_json_get_bool(save, "latest", false); /* no snapshot */
	const char *commit = latest ? NULL : wr_json_get_str(save, "commit", NULL);
	const char *name = latest ? NULL : wr_json_get_str(save, "snapshot", NULL);

	if (!name && !latest)
		name = wr_json_get_str(save, "name", NULL);
	row->save_began = wr_json_get_time(save, "scan_started", row->save_began);
	row->save_ended = wr_json_get_time(save, "finished", wr_clock_wall().s);
	row->save_ok = true;
	if (commit)
		snprintf(row->commit, sizeof(row->commit), "%s", commit);
	if (name)
		snprintf(row->snapshot, sizeof(row->snapshot), "%s", name);
	row->files = wr_json_get_u64(wr_json_get_obj(save, "files"), "total", row->files);
	row->bytes = wr_json_get_u64(wr_json_get_obj(save, "bytes"), "total", row->bytes);
	if (wr_json_get_bool(save, "made", false))
		row->used = row->save_ended;
}

/* Packs and their indexes are all that grows; there are few, for small ones are rolled up. */
void
wr_row_measure(struct wr_control *c, struct wr_proj_row *row)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_closep) int repo = -1;
	struct dirent *e;
	struct stat st;
	uint64_t sum = 0;
	DIR *d;
	int fd;

	if (wr_place_of_find(c->node, &row->id, &place, NULL) == 0)
		repo = wr_repo_dir_open(&place, NULL);
	wr_place_of_fini(&place);
	fd = repo < 0 ? -1 : wr_open_dir(repo, "objects/pack");
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		wr_closep(&fd);
		return;
	}
	while ((e = readdir(d)))
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	closedir(d);
	row->repo_bytes = sum;
}

/* Where the project lies, from the disks. */
static void
placed_row(struct wr_control *c, struct wr_proj_row *row)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;

	if (wr_place_of_find(c->node, &row->id, &place, NULL) == 0) {
		row->tree_vol = (uint32_t)place.tree_vol;
		row->repo_vol = (uint32_t)place.repo_vol;
	}
	wr_place_of_fini(&place);
}

/* false: the row is to go. */
bool
wr_op_done_row(struct wr_op *o, struct wr_proj_row *row, const json_t *r)
{
	int64_t now = wr_clock_wall().s;

	switch (o->row.kind) {
	case WR_OP_SAVE:
		saved_row(row, r);
		break;
	case WR_OP_STOP:
		if (wr_json_get_obj(r, "save"))
			saved_row(row, wr_json_get_obj(r, "save"));
		break;
	case WR_OP_RESTART:
		if (wr_json_get_obj(wr_json_get_obj(r, "stop"), "save"))
			saved_row(row, wr_json_get_obj(wr_json_get_obj(r, "stop"), "save"));
		break;
	case WR_OP_CREATE: {
		const json_t *in = wr_json_get_obj(r, "imported");

		placed_row(o->c, row);
		row->used = now;
		snprintf(row->commit, sizeof(row->commit), "%s", wr_json_get_str(r, "commit", ""));
		snprintf(row->snapshot, sizeof(row->snapshot), "%s",
			 wr_json_get_str(r, "snapshot", ""));
		if (*row->commit) {
			row->save_began = row->save_ended = now;
			row->save_ok = true;
		}
		row->files = wr_json_get_u64(in, "files", 0);
		row->bytes = wr_json_get_u64(in, "bytes", 0);
		break;
	}
	case WR_OP_DELETE:
	case WR_OP_DROP:
		row->deleted = wr_age_stamp(o->c->node);
		break;
	case WR_OP_UNDELETE:
		row->deleted = 0;
		placed_row(o->c, row);
		break;
	case WR_OP_PURGE:
		return false;
	default:
		break;
	}
	wr_row_measure(o->c, row);
	return true;
}

/* What failed or was cut off may have moved directories all the same: the disks say where they are.
 * false: the row is to go. */
bool
wr_op_undone_row(struct wr_op *o, struct wr_proj_row *row)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	bool there;

	if (o->row.kind == WR_OP_SAVE && o->row.state == WR_OPS_FAILED)
		row->save_ok = false;
	if (o->row.kind != WR_OP_CREATE && o->row.kind != WR_OP_DELETE &&
	    o->row.kind != WR_OP_DROP && o->row.kind != WR_OP_UNDELETE)
		return true;
	there = wr_place_of_find(o->c->node, &row->id, &place, NULL) == 0;
	wr_place_of_fini(&place);
	if (!there && o->row.kind == WR_OP_CREATE)
		return false;
	if (there) {
		row->deleted = 0;
		placed_row(o->c, row);
	} else if (!row->deleted) {
		row->deleted = wr_age_stamp(o->c->node);
	}
	return true;
}
