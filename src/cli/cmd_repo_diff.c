/* SPDX-License-Identifier: Apache-2.0 */
/* warren repo diff: what changed between two snapshots, or within one file. */
#include <sys/stat.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/view.h"
#include "engine/snap/diff.h"
#include "engine/snap/textdiff.h"

enum { ADDED, REMOVED, CONTENT, METADATA, TYPE, KINDS };

struct diff {
	struct wr_view v;
	struct wr_place a, b;
	bool has_a, has_b;  /* the path exists on that side */
	const char *prefix; /* in front of every path: the one asked for, if it is the same */
	size_t prefix_len;
	bool totals_only, names_only;
	uint64_t count[KINDS];
	uint64_t bytes_added, bytes_removed;
	struct wr_buf path; /* scratch */
};

static int
kind_of(enum wr_change c)
{
	switch (c) {
	case WR_CHANGE_ADDED:
		return ADDED;
	case WR_CHANGE_REMOVED:
		return REMOVED;
	case WR_CHANGE_CONTENT:
		return CONTENT;
	case WR_CHANGE_META:
		return METADATA;
	default:
		return TYPE;
	}
}

static void
count(struct diff *d, const struct wr_diff_item *it)
{
	d->count[kind_of(it->change)]++;
	if (it->b.size > it->a.size)
		d->bytes_added += it->b.size - it->a.size;
	else
		d->bytes_removed += it->a.size - it->b.size;
}

static void
full_path(struct diff *d, const struct wr_diff_item *it)
{
	wr_buf_clear(&d->path);
	wr_buf_add(&d->path, d->prefix, d->prefix_len);
	if (d->prefix_len && it->path_len)
		wr_buf_add8(&d->path, '/');
	wr_buf_add(&d->path, it->path, it->path_len);
	if (!d->path.len)
		wr_buf_add8(&d->path, '.');
}

static enum wr_color
color_of(enum wr_change c)
{
	switch (c) {
	case WR_CHANGE_ADDED:
		return WR_GREEN;
	case WR_CHANGE_REMOVED:
		return WR_RED;
	case WR_CHANGE_CONTENT:
		return WR_YELLOW;
	case WR_CHANGE_META:
		return WR_DIM;
	default:
		return WR_CYAN;
	}
}

static void
print_sizes(const struct wr_diff_item *it)
{
	const struct wr_diff_side *a = &it->a, *b = &it->b;

	switch (it->change) {
	case WR_CHANGE_ADDED:
		if (b->kind != WR_KIND_DIR)
			printf(" (%s)", wr_fmt_bytes(b->size).s);
		break;
	case WR_CHANGE_REMOVED:
		if (a->kind != WR_KIND_DIR)
			printf(" (%s)", wr_fmt_bytes(a->size).s);
		break;
	case WR_CHANGE_CONTENT:
		if (a->size == b->size)
			printf(" (%s)", wr_fmt_bytes(a->size).s);
		else
			printf(" (%s -> %s)", wr_fmt_bytes(a->size).s, wr_fmt_bytes(b->size).s);
		break;
	case WR_CHANGE_TYPE:
		printf(" (%s -> %s)", wr_type_name(a->mode), wr_type_name(b->mode));
		break;
	default:
		break;
	}
}

static int
text_item(void *ctx, const struct wr_diff_item *it, struct wr_err *err)
{
	struct diff *d = ctx;
	const struct wr_diff_side *s = it->b.kind ? &it->b : &it->a;

	(void)err;
	count(d, it);
	if (d->totals_only)
		return 0;
	full_path(d, it);
	if (!d->names_only)
		printf("%s%c ", wr_color(color_of(it->change)), it->change);
	wr_name_print(d->path.p, d->path.len);
	if (s->kind == WR_KIND_DIR && it->change != WR_CHANGE_TYPE)
		putchar('/');
	if (!d->names_only) {
		fputs(wr_color(WR_PLAIN), stdout);
		print_sizes(it);
	}
	putchar('\n');
	return 0;
}

static void
json_side(json_t *o, const char *key, const struct wr_diff_side *s)
{
	json_t *side;

	if (s->kind == WR_KIND_NONE)
		return;
	side = wr_json_object(o, key);
	wr_json_str(side, "type", wr_type_name(s->mode));
	wr_json_mode(side, s->mode);
	if (s->kind != WR_KIND_DIR)
		wr_json_u64(side, "size", s->size);
	wr_json_id(side, "id", &s->id);
}

static int
json_item(void *ctx, const struct wr_diff_item *it, struct wr_err *err)
{
	struct diff *d = ctx;
	json_t *o;

	count(d, it);
	if (d->totals_only)
		return 0;
	full_path(d, it);
	o = json_object();
	wr_json_str(o, "change", wr_change_name(it->change));
	wr_json_path(o, "path", d->path.p, d->path.len);
	if (!d->names_only) {
		json_side(o, "a", &it->a);
		json_side(o, "b", &it->b);
	}
	return wr_json_stream_item(o, err);
}

static void
print_totals(const struct diff *d)
{
	static const char *const name[KINDS] = {"added", "removed", "changed", "metadata only",
						"other type"};
	struct wr_table t;

	wr_table_init(&t, "lr", NULL);
	for (int i = 0; i < KINDS; i++) {
		wr_table_add(&t, name[i]);
		wr_table_add(&t, wr_fmt_count(d->count[i]).s);
	}
	wr_table_add(&t, "bytes more");
	wr_table_add(&t, wr_fmt_bytes(d->bytes_added).s);
	wr_table_add(&t, "bytes less");
	wr_table_add(&t, wr_fmt_bytes(d->bytes_removed).s);
	wr_table_print(&t);
	wr_table_fini(&t);
}

static json_t *
json_totals(const struct diff *d)
{
	static const char *const name[KINDS] = {"added", "removed", "content", "metadata", "type"};
	json_t *o = json_object(), *t = wr_json_object(o, "totals");

	for (int i = 0; i < KINDS; i++)
		wr_json_u64(t, name[i], d->count[i]);
	wr_json_u64(t, "bytes_more", d->bytes_added);
	wr_json_u64(t, "bytes_less", d->bytes_removed);
	return o;
}

static json_t *
json_head(const struct diff *d)
{
	json_t *o = wr_json_begin("warren.diff/1");
	const struct wr_place *p[2] = {&d->a, &d->b};

	for (int i = 0; i < 2; i++) {
		json_t *side = wr_json_object(o, i ? "b" : "a");

		wr_json_snap(side, &p[i]->snap);
		wr_json_path(side, "path", p[i]->path ? p[i]->path : "",
			     p[i]->path ? strlen(p[i]->path) : 0);
	}
	return o;
}

/* ---- one file against another ---- */

struct text {
	struct wr_buf bytes;
	bool too_large;
};

static int
take_piece(void *ctx, const void *p, size_t len, struct wr_err *err)
{
	struct text *t = ctx;

	(void)err;
	if (len > WR_TEXTDIFF_MAX - t->bytes.len) {
		t->too_large = true;
		return 1;
	}
	wr_buf_add(&t->bytes, p, len);
	return 0;
}

static int
print_diff_line(void *ctx, char sign, const char *text, size_t len, struct wr_err *err)
{
	enum wr_color c = sign == '@'   ? WR_CYAN
			  : sign == '+' ? WR_GREEN
			  : sign == '-' ? WR_RED
					: WR_PLAIN;

	(void)ctx;
	(void)err;
	if (c != WR_PLAIN)
		fputs(wr_color(c), stdout);
	if (sign != '@')
		putchar(sign);
	if (wr_out_tty()) { /* tabs are wanted; all else that acts on the terminal is not */
		for (const char *tab; (tab = memchr(text, '\t', len));) {
			wr_name_print(text, (size_t)(tab - text));
			putchar('\t');
			len -= (size_t)(tab + 1 - text);
			text = tab + 1;
		}
	}
	wr_name_print(text, len);
	if (c != WR_PLAIN)
		fputs(wr_color(WR_PLAIN), stdout);
	putchar('\n');
	return 0;
}

static int
keep_diff_line(void *ctx, char sign, const char *text, size_t len, struct wr_err *err)
{
	struct wr_buf *out = ctx;

	(void)err;
	if (sign != '@')
		wr_buf_add8(out, (uint8_t)sign);
	wr_buf_add(out, text, len);
	wr_buf_add8(out, '\n');
	return 0;
}

static void
print_label(const char *lead, const struct wr_place *p)
{
	struct wr_snap_name name = wr_snap_name(&p->snap);

	printf("%s%s", wr_color(WR_BOLD), lead);
	wr_name_print(name.s, strlen(name.s));
	putchar(':');
	wr_name_print(p->path, strlen(p->path));
	fputs(wr_color(WR_PLAIN), stdout);
}

/* Why no lines can be shown, or NULL. */
static const char *
no_text(const struct text *a, const struct text *b)
{
	if (a->too_large || b->too_large)
		return "too large to compare";
	if (wr_text_is_binary(a->bytes.p, a->bytes.len) ||
	    wr_text_is_binary(b->bytes.p, b->bytes.len))
		return "binary";
	return NULL;
}

static int
json_texts(struct diff *d, const struct text *a, const struct text *b, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	const char *why = no_text(a, b);
	struct wr_textdiff_stats st;
	json_t *o;

	wr_buf_reserve(&out, 1);
	if (!why && wr_textdiff(a->bytes.p, a->bytes.len, b->bytes.p, b->bytes.len, keep_diff_line,
				&out, &st, err) < 0)
		return -1;
	o = json_head(d);
	wr_json_bool(o, "same", !why && out.len == 0);
	wr_json_bool(o, "text", !why);
	if (!why) {
		wr_json_u64(o, "lines_added", st.added);
		wr_json_u64(o, "lines_removed", st.removed);
		wr_json_path(o, "unified", out.p, out.len);
	}
	return wr_json_print(o, err);
}

static int
diff_texts(struct diff *d, struct wr_err *err)
{
	const struct wr_dirent *ea = d->a.at.ent, *eb = d->b.at.ent;
	struct text a = {.bytes = WR_BUF_INIT}, b = {.bytes = WR_BUF_INIT};
	const char *why;
	int rc = -1;

	wr_buf_reserve(&a.bytes, 1);
	wr_buf_reserve(&b.bytes, 1);
	if (wr_content_each(d->v.rd, &ea->id, ea->chunked, take_piece, &a, err) < 0 ||
	    wr_content_each(d->v.rd, &eb->id, eb->chunked, take_piece, &b, err) < 0)
		goto out;
	if (wr_out_json()) {
		rc = json_texts(d, &a, &b, err);
		goto out;
	}
	rc = 0;
	why = no_text(&a, &b);
	if (why) {
		print_label("", &d->a);
		fputs(" and ", stdout);
		print_label("", &d->b);
		printf(" differ (%s)\n", why);
		goto out;
	}
	print_label("--- ", &d->a);
	putchar('\n');
	print_label("+++ ", &d->b);
	putchar('\n');
	rc = wr_textdiff(a.bytes.p, a.bytes.len, b.bytes.p, b.bytes.len, print_diff_line, NULL,
			 NULL, err);
out:
	wr_buf_fini(&a.bytes);
	wr_buf_fini(&b.bytes);
	return rc;
}

/* ---- the places to compare ---- */

/* What both sides address; a path typed on one side only holds for both.  It may be missing on one
 * side: then everything there was added or removed. */
static int
find_sides(struct diff *d, const char *spec_a, const char *spec_b, struct wr_err *err)
{
	struct wr_place *p[2] = {&d->a, &d->b};
	const char *spec[2] = {spec_a, spec_b};
	bool has[2];

	for (int i = 0; i < 2; i++)
		if (wr_resolve(d->v.rd, spec[i], d->v.now, &p[i]->snap, &p[i]->path, err) < 0)
			return -1;
	for (int i = 0; i < 2; i++)
		if (!p[i]->path && p[!i]->path)
			p[i]->path = wr_strdup(p[!i]->path);
	for (int i = 0; i < 2; i++) {
		const char *path = p[i]->path ? p[i]->path : "";
		struct wr_err e = WR_ERR_INIT;

		has[i] =
		    wr_at_find(d->v.rd, &p[i]->snap.tree, path, strlen(path), &p[i]->at, &e) == 0;
		if (has[i] || (e.code == WR_E_NOT_FOUND && (i == 0 || has[0])))
			continue;
		*err = e;
		return wr_err_wrap(err, "snapshot '%s'", WR_Q(wr_snap_name(&p[i]->snap).s));
	}
	d->has_a = has[0];
	d->has_b = has[1];
	return 0;
}

static bool
is_regular(const struct wr_at *at)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf scratch = WR_BUF_INIT;
	struct wr_meta m;

	return !at->is_dir && wr_dirent_meta(at->ent, &m, &scratch, NULL) == 0 && S_ISREG(m.mode);
}

static void
set_prefix(struct diff *d)
{
	const char *a = d->a.path ? d->a.path : "", *b = d->b.path ? d->b.path : "";

	d->prefix = "";
	if (strcmp(a, b) != 0)
		return; /* two places: paths below them */
	a += strspn(a, "/");
	d->prefix = a;
	d->prefix_len = strlen(a);
	while (d->prefix_len && a[d->prefix_len - 1] == '/')
		d->prefix_len--;
}

static int
diff_places(struct diff *d, struct wr_err *err)
{
	const struct wr_at *a = d->has_a ? &d->a.at : NULL, *b = d->has_b ? &d->b.at : NULL;
	int rc;

	set_prefix(d);
	if (wr_out_json())
		wr_json_stream_begin(json_head(d), "changes");
	rc = wr_diff(d->v.rd, a, b, 0, wr_out_json() ? json_item : text_item, d, err);
	if (rc < 0)
		return -1;
	if (wr_out_json())
		return wr_json_stream_end(json_totals(d), err);
	if (d->totals_only)
		print_totals(d);
	return 0;
}

int
wr_cmd_repo_diff(const struct wr_args *a, struct wr_err *err)
{
	struct diff d = {.totals_only = wr_arg_flag(a, "stat"),
			 .names_only = wr_arg_flag(a, "name-only")};
	int rc = -1;

	if (d.totals_only && d.names_only)
		return wr_err_set(err, WR_E_USAGE, "--stat and --name-only exclude each other");
	if (wr_view_open(a, &d.v, err) < 0)
		return -1;
	if (find_sides(&d, a->pos[0], a->pos[1], err) == 0) {
		bool texts = d.has_a && d.has_b && !d.totals_only && !d.names_only &&
			     is_regular(&d.a.at) && is_regular(&d.b.at) &&
			     !wr_id_eq(&d.a.at.ent->id, &d.b.at.ent->id);

		rc = texts ? diff_texts(&d, err) : diff_places(&d, err);
	}
	wr_buf_fini(&d.path);
	wr_place_fini(&d.a);
	wr_place_fini(&d.b);
	wr_view_close(&d.v);
	return rc;
}
