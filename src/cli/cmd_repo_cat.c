/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo cat: the bytes of files. */
#include <sys/stat.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/view.h"

#define JSON_MAX (64u << 20) /* LIMIT: bytes of one file within --json */

static int
write_piece(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	(void)ctx;
	if (fwrite(p, 1, len, stdout) == len)
		return 0;
	wr_err_sys(err, "write standard output");
	return wr_err_hint(err, "%s", ""); /* the one for full disks speaks of repositories */
}

static int
keep_piece(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	struct wr_buf *out = ctx;

	if (len > JSON_MAX - out->len) {
		wr_err_set(err, WR_E_LIMIT, "the file is larger than %u MiB", JSON_MAX >> 20);
		return wr_err_hint(err, "without --json files of any size are printed");
	}
	wr_buf_add(out, p, len);
	return 0;
}

static int
refuse_link(struct wr_view *v, const struct wr_place *p, const char *spec, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf target = WR_BUF_INIT;

	if (wr_content_each(v->rd, &p->at.ent->id, false, keep_piece, &target, err) < 0)
		return -1;
	wr_err_set(err, WR_E_INVALID, "'%s' is a symlink to '%s'", WR_Q(spec),
		   wr_quote(target.p, target.len).s);
	return wr_err_hint(err, "symlinks are not followed; name what it points to");
}

/* Refuse what has no bytes to print. */
static int
check_file(struct wr_view *v, const struct wr_place *p, const char *spec, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf scratch = WR_BUF_INIT;
	struct wr_meta m;

	if (p->at.is_dir) {
		wr_err_set(err, WR_E_INVALID, "'%s' is a directory", WR_Q(spec));
		return p->path && *p->path
			   ? wr_err_hint(err, "'warren repo ls' lists it")
			   : wr_err_hint(err, "name a file in it: %s:PATH", WR_Q(spec));
	}
	if (wr_dirent_kind(p->at.ent) == WR_KIND_LINK)
		return refuse_link(v, p, spec, err);
	if (wr_dirent_meta(p->at.ent, &m, &scratch, err) < 0)
		return -1;
	if (!S_ISREG(m.mode))
		return wr_err_set(err, WR_E_INVALID, "'%s' is a %s and has no content", WR_Q(spec),
				  wr_type_name(m.mode));
	return 0;
}

static int
json_file(struct wr_view *v, const struct wr_place *p, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const struct wr_dirent *e = p->at.ent;
	json_t *o;

	if (wr_content_each(v->rd, &e->id, e->chunked, keep_piece, &b, err) < 0)
		return -1;
	o = json_object();
	wr_json_snap(o, &p->snap);
	wr_json_path(o, "path", p->path, strlen(p->path));
	wr_json_u64(o, "size", b.len);
	wr_buf_str(&b);
	if (wr_utf8_valid(b.p, b.len) && !memchr(b.p, '\0', b.len)) {
		wr_json_str(o, "content", (const char *)b.p);
	} else {
		WR_SCOPED(wr_freep) char *text = wr_base64(b.p, b.len);

		wr_json_str(o, "content_b64", text);
	}
	return wr_json_stream_item(o, err);
}

int
wr_cmd_repo_cat(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_view_close) struct wr_view v = {0};

	if (wr_view_open(a, &v, err) < 0)
		return -1;
	if (wr_out_json())
		wr_json_stream_begin(wr_json_begin("warren.cat/1"), "files");
	for (size_t i = 0; i < a->pos_count; i++) {
		WR_SCOPED(wr_place_fini) struct wr_place p = {0};
		const struct wr_dirent *e;

		if (wr_place_find(&v, a->pos[i], &p, err) < 0 ||
		    check_file(&v, &p, a->pos[i], err) < 0)
			return -1;
		e = p.at.ent;
		if (wr_out_json()) {
			if (json_file(&v, &p, err) < 0)
				return -1;
		} else if (wr_content_each(v.rd, &e->id, e->chunked, write_piece, NULL, err) < 0) {
			return wr_err_wrap(err, "'%s'", WR_Q(a->pos[i]));
		}
	}
	return wr_out_json() ? wr_json_stream_end(NULL, err) : 0;
}
