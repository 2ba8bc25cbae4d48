/* SPDX-License-Identifier: Apache-2.0 */
/* warren files, read, mkdir: the files of a project as they are now. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"
#include "cli/view.h"

static int
begin(struct wr_about *l, const struct wr_args *a, enum wr_api_call_id call, struct wr_err *err)
{
	if (wr_about_begin(l, a, call, err) < 0)
		return -1;
	if (l->target.pos_count)
		wr_ask_path(&l->req, "path", wr_target_path(&l->target, l->target.pos[0]));
	return 0;
}

/* ---- files ---- */

static uint32_t
type_bits(const char *type)
{
	static const struct {
		const char *type;
		uint32_t bits;
	} types[] = {{"directory", S_IFDIR},
		     {"link", S_IFLNK},
		     {"fifo", S_IFIFO},
		     {"socket", S_IFSOCK},
		     {"device", S_IFCHR}};

	for (size_t i = 0; i < WR_ARRAY_LEN(types); i++)
		if (!strcmp(type, types[i].type))
			return types[i].bits;
	return S_IFREG;
}

static void
files_table(const json_t *list)
{
	const json_t *f;
	struct wr_table t;
	size_t i;

	wr_table_init(&t, "lrll", NULL);
	json_array_foreach(list, i, f)
	{
		uint32_t bits = type_bits(wr_json_get_str(f, "type", "file"));
		bool dir = bits == S_IFDIR;
		WR_SCOPED(wr_freep) char *name = wr_json_path_bytes(f, "name");
		WR_SCOPED(wr_freep) char *target = wr_json_path_bytes(f, "target");
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

		wr_table_add(&t, wr_mode_text(bits | (uint32_t)wr_json_get_u64(f, "mode", 0)).s);
		wr_table_add(&t, dir ? "-" : wr_fmt_bytes(wr_json_get_u64(f, "size", 0)).s);
		wr_table_add(&t, wr_json_get_str(f, "mtime", "-"));
		wr_name_add(&b, name ? name : "?", strlen(name ? name : "?"));
		if (dir)
			wr_buf_add8(&b, '/');
		if (target) {
			wr_buf_adds(&b, " -> ");
			wr_name_add(&b, target, strlen(target));
		}
		wr_table_add(&t, wr_buf_str(&b));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_files(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	const json_t *list;
	uint64_t total;

	if (begin(&l, a, WR_API_FILES, err) < 0)
		return -1;
	wr_ask_flag(&l.req, "hidden", wr_arg_flag(a, "hidden"));
	wr_ask_str(&l.req, "sort", wr_arg_str(a, "sort"));
	wr_ask_flag(&l.req, "reverse", wr_arg_flag(a, "reverse"));
	if (wr_arg_str(a, "start"))
		wr_ask_u64(&l.req, "start", wr_arg_u64(a, "start", 0));
	if (wr_arg_str(a, "limit"))
		wr_ask_u64(&l.req, "limit", wr_arg_u64(a, "limit", 0));
	if (wr_client_ask(&l.client, &l.req, NULL, &o, err) < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	list = wr_json_get_arr(o, "files");
	files_table(list);
	total = wr_json_get_u64(o, "total", 0);
	if (total > wr_arg_u64(a, "start", 0) + json_array_size(list))
		wr_remark("%s of %s; --start and --limit show the rest",
			  wr_fmt_count(json_array_size(list)).s, wr_fmt_count(total).s);
	return 0;
}

int
wr_cmd_mkdir(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};

	if (begin(&l, a, WR_API_MKDIR, err) < 0)
		return -1;
	return wr_operate(&l.client, a, &l.req, err);
}

/* ---- read ---- */

/* The stream into a new file, which is there whole or not at all. */
static int
read_to(struct wr_about *l, const char *file, struct wr_err *err)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666), ended = 0, rc;
	bool begun;

	if (fd < 0 && errno == EEXIST)
		return wr_err_set(err, WR_E_EXISTS, "'%s' is there already", WR_Q(file));
	if (fd < 0)
		return wr_err_sys(err, "make '%s'", WR_Q(file));
	rc = wr_client_stream(&l->client, &l->req, fd, &ended, &begun, err);
	if (close(fd) < 0 && rc == 0)
		rc = wr_err_sys(err, "write '%s'", WR_Q(file));
	if (rc < 0)
		(void)unlink(file); /* the error that is told matters more */
	return rc < 0 ? -1 : ended;
}

int
wr_cmd_read(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about l = {0};
	bool tar = wr_arg_flag(a, "tar"), zip = wr_arg_flag(a, "zip");
	const char *file = wr_arg_str(a, "output");

	if (tar && zip)
		return wr_err_set(err, WR_E_USAGE, "--tar and --zip exclude each other");
	if (!file && (tar || zip) && wr_out_tty()) {
		wr_err_set(err, WR_E_USAGE, "an archive is not printed on a terminal");
		return wr_err_hint(err, "write it to a file with -o FILE");
	}
	if (begin(&l, a, WR_API_READ, err) < 0)
		return -1;
	if (tar || zip)
		wr_ask_str(&l.req, "format", tar ? "tar" : "zip");
	if (wr_arg_str(a, "max-size"))
		wr_ask_u64(&l.req, "max_size", wr_arg_u64(a, "max-size", 0));
	return file && strcmp(file, "-") != 0 ? read_to(&l, file, err)
					      : wr_client_show(&l.client, &l.req, err);
}
