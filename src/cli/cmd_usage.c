/* SPDX-License-Identifier: Apache-2.0 */
/* warren usage, quota: what projects take, and limits that follow from it. */
#include <pthread.h>
#include <time.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/out.h"
#include "cli/project.h"

/* "84 %", "-" without a limit. */
static struct wr_short
percent(uint64_t used, uint64_t of)
{
	struct wr_short s = {"-"};

	if (of)
		snprintf(s.s, sizeof(s.s), "%.0f %%", (double)used / (double)of * 100);
	return s;
}

static void
print_live(const json_t *o)
{
	const json_t *live = wr_json_get_obj(o, "live");
	uint64_t bytes = wr_json_get_u64(live, "bytes", 0), disk = wr_json_get_u64(live, "disk", 0);
	uint64_t inodes = wr_json_get_u64(live, "inodes", 0),
		 most = wr_json_get_u64(live, "inodes_limit", 0);

	printf("  live           %s of %s (%s), %s of %s files\n", wr_fmt_bytes(bytes).s,
	       wr_fmt_bytes(disk).s, percent(bytes, disk).s, wr_fmt_count(inodes).s,
	       wr_fmt_count(most).s);
}

static void
print_history(const json_t *o)
{
	const json_t *h = wr_json_get_obj(o, "history");
	uint64_t all = wr_json_get_u64(h, "repository", 0), quota = wr_json_get_u64(h, "quota", 0);

	printf("  repository     %s", wr_fmt_bytes(all).s);
	if (quota)
		printf(" of %s (%s)", wr_fmt_bytes(quota).s, percent(all, quota).s);
	printf("\n  history        %s%s of it, what only older snapshots need\n",
	       wr_json_get_bool(h, "exact", false) ? "" : "about ",
	       wr_fmt_bytes(wr_json_get_u64(h, "bytes", 0)).s);
}

static void
print_folders(const json_t *list)
{
	static const char *const heads[] = {"LIVE", "STORED", "FILES", "FOLDER"};
	struct wr_table t;
	const json_t *f;
	size_t i;

	if (!json_array_size(list))
		return;
	wr_table_init(&t, "rrrl", heads);
	json_array_foreach(list, i, f)
	{
		WR_SCOPED(wr_freep) char *path = wr_json_path_bytes(f, "path");

		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(f, "bytes", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(f, "stored", 0)).s);
		wr_table_add(&t, wr_fmt_count(wr_json_get_u64(f, "files", 0)).s);
		wr_table_add_name(&t, path ? path : "?", strlen(path ? path : "?"));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

static void
print_scratch(const json_t *o)
{
	const json_t *s = wr_json_get_obj(o, "scratch");
	uint64_t used = wr_json_get_u64(s, "bytes", 0), quota = wr_json_get_u64(s, "quota", 0);
	WR_SCOPED(wr_freep) char *path = s ? wr_json_path_bytes(s, "path") : NULL;
	const bool counted = json_is_integer(json_object_get(s, "bytes"));
	int64_t until = wr_json_get_time(s, "trash_until", 0);

	if (!s)
		return;
	printf("  scratch        %s", counted ? wr_fmt_bytes(used).s : "not counted");
	if (until) {
		printf(", in the trash until %s\n", wr_fmt_utc(until).s);
		return;
	}
	if (quota)
		printf(" of %s", wr_fmt_bytes(quota).s);
	if (quota && counted)
		printf(" (%s)", percent(used, quota).s);
	printf(", not saved, in ");
	wr_name_print(path ? path : "?", strlen(path ? path : "?"));
	printf("\n");
}

static void
print_usage(const json_t *o)
{
	const json_t *out = wr_json_get_obj(o, "not_protected"),
		     *trash = wr_json_get_obj(o, "trash");
	const char *name = wr_json_get_str(o, "name", "?");
	int64_t at = wr_json_get_time(o, "at", 0);

	wr_name_print(name, strlen(name));
	if (trash) {
		printf(" is in the trash, with %s, until %s\n",
		       wr_fmt_bytes(wr_json_get_u64(trash, "bytes", 0)).s,
		       wr_fmt_utc(wr_json_get_time(trash, "until", 0)).s);
		return;
	}
	if (at)
		printf(", as of %s\n", wr_when_text(at).s);
	else
		printf(", not saved yet\n");
	print_live(o);
	print_history(o);
	printf("  not protected  %s files, %s\n", wr_fmt_count(wr_json_get_u64(out, "count", 0)).s,
	       wr_fmt_bytes(wr_json_get_u64(out, "bytes", 0)).s);
	print_scratch(o);
	print_folders(wr_json_get_arr(o, "folders"));
}

/* ---- how far a look is, asked for beside it ---- */

#define POLL_NS 500000000L

struct watch {
	const struct wr_args *args;
	struct wr_client *client;
	struct wr_ask req;
	struct wr_progress *line;
	char verb[64];
	pthread_t thread;
	pthread_mutex_t mutex; /* guards stop */
	pthread_cond_t wake;
	bool stop, on;
};

static void
watch_show(struct watch *w, const json_t *p)
{
	const bool scan = !strcmp(wr_json_get_str(p, "step", ""), "scan");
	const char *verb = scan ? "counting: files" : "counting: history";

	if (strcmp(w->verb, verb) != 0) {
		wr_progress_end(w->line);
		snprintf(w->verb, sizeof(w->verb), "%s", verb);
		w->line = wr_progress_begin(w->args, w->verb);
	}
	wr_progress_total(w->line, wr_json_get_u64(p, "files_total", 0),
			  wr_json_get_u64(p, "bytes_total", 0));
	wr_progress_set(w->line, wr_json_get_u64(p, "files", 0), wr_json_get_u64(p, "bytes", 0));
}

static bool
watch_wait(struct watch *w)
{
	struct timespec until;
	bool stop;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += POLL_NS;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&w->mutex);
	if (!w->stop)
		(void)pthread_cond_timedwait(&w->wake, &w->mutex, &until);
	stop = w->stop;
	pthread_mutex_unlock(&w->mutex);
	return !stop;
}

/* What cannot be asked for is not drawn. */
static void *
watch_main(void *arg)
{
	struct watch *w = arg;

	while (watch_wait(w)) {
		WR_SCOPED(wr_json_freep) json_t *o = NULL;
		struct wr_err err = WR_ERR_INIT;
		const json_t *p;

		if (wr_client_ask(w->client, &w->req, NULL, &o, &err) < 0)
			break;
		p = wr_json_get_obj(o, "progress");
		if (p)
			watch_show(w, p);
	}
	wr_progress_end(w->line);
	return NULL;
}

static void
watch_begin(struct watch *w, const struct wr_args *a, struct wr_about *b)
{
	*w = (struct watch){.args = a, .client = &b->client};
	if (!wr_arg_flag(a, "now") || !wr_progress_wanted(a))
		return;
	wr_ask_init(&w->req, WR_API_USAGE, b->target.id);
	wr_ask_flag(&w->req, "progress", true);
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->wake, NULL);
	w->on = pthread_create(&w->thread, NULL, watch_main, w) == 0;
}

static void
watch_end(struct watch *w)
{
	if (w->on) {
		pthread_mutex_lock(&w->mutex);
		w->stop = true;
		pthread_cond_signal(&w->wake);
		pthread_mutex_unlock(&w->mutex);
		pthread_join(w->thread, NULL);
	}
	wr_ask_fini(&w->req);
}

int
wr_cmd_usage(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct watch w;
	int rc;

	if (wr_about_begin(&b, a, WR_API_USAGE, err) < 0)
		return -1;
	wr_ask_flag(&b.req, "now", wr_arg_flag(a, "now"));
	watch_begin(&w, a, &b);
	rc = wr_client_ask(&b.client, &b.req, NULL, &o, err);
	watch_end(&w);
	if (rc < 0)
		return -1;
	if (wr_out_json())
		return wr_json_print(wr_steal(&o), err);
	print_usage(o);
	return 0;
}

/* ---- quota auto ---- */

static const char *
what_of(const json_t *p, bool dry_run)
{
	const uint64_t old = wr_json_get_u64(p, "old", 0), new = wr_json_get_u64(p, "new", 0);

	if (old == new)
		return wr_json_get_u64(p, "wanted", new) == new ? "as it is" : "near enough";
	return dry_run ? "would be set" : "set";
}

static void
print_quotas(const json_t *o)
{
	static const char *const heads[] = {"PROJECT", "USED", "OLD", "NEW", ""};
	const json_t *list = wr_json_get_arr(o, "projects"), *total, *p;
	const bool dry_run = wr_json_get_bool(o, "dry_run", false);
	struct wr_table t;
	size_t i;

	wr_table_init(&t, "lrrrl", json_array_size(list) ? heads : NULL);
	json_array_foreach(list, i, p)
	{
		const json_t *e = wr_json_get_obj(p, "error");
		const char *name = wr_json_get_str(p, "name", "?");
		const char *says = e ? wr_json_get_str(e, "message", "?") : what_of(p, dry_run);

		wr_table_add_name(&t, name, strlen(name));
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "used", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "old", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(p, "new", 0)).s);
		wr_table_add_name(&t, says, strlen(says));
	}
	total = wr_json_get_obj(o, "total");
	if (json_array_size(list)) {
		wr_table_add(&t, "(total)");
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(total, "used", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(total, "old", 0)).s);
		wr_table_add(&t, wr_fmt_bytes(wr_json_get_u64(total, "new", 0)).s);
		wr_table_add(&t, "");
	}
	wr_table_print(&t);
	wr_table_fini(&t);
}

int
wr_cmd_quota_auto(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client c = {0};
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	int status;

	if (wr_client_init(&c, a, err) < 0)
		return -1;
	wr_ask_init(&r, WR_API_QUOTA_AUTO, NULL);
	wr_ask_str(&r, "factor", wr_arg_str(a, "factor"));
	wr_ask_str(&r, "min", wr_arg_str(a, "min"));
	if (wr_arg_str(a, "within"))
		wr_ask_u64(&r, "within", wr_arg_u64(a, "within", 0));
	wr_ask_flag(&r, "dry_run", wr_arg_flag(a, "dry-run"));
	if (wr_client_ask(&c, &r, NULL, &o, err) < 0)
		return -1;
	status = (int)wr_json_get_u64(o, "exit", 0);
	if (!wr_out_json() && !wr_out_quiet())
		print_quotas(o);
	if (wr_out_json() && wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return status;
}
