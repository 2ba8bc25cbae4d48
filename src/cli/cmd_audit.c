/* SPDX-License-Identifier: Apache-2.0 */
/* warren audit: one project, or every one whose files are kept here. */
#include <pthread.h>
#include <time.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/project.h"
#include "sys/clock.h"

/* Audits at a time: each makes work on all nodes that keep a copy. */
#define PARALLEL 2
/* As a node and the fleet do: no more than a thousandth, at least this many. */
#define DAMAGED_LEAST 3

static void
print_name(const char *s)
{
	wr_name_print(s, strlen(s));
}

/* How often is looked whether a copy is whole again, and how long at most. */
#define LOOK_S 1
#define LOOK_MAX_S 15
#define REPAIR_S 900

static bool
is_marked(const json_t *audit)
{
	const json_t *k;
	size_t i;

	json_array_foreach(wr_json_get_arr(audit, "copies"), i,
			   k) if (!strcmp(wr_json_get_str(k, "is", ""), "damaged")) return true;
	return false;
}

static int
ask(struct wr_client *c, const char *project, bool data, bool repair, json_t **out,
    struct wr_err *err)
{
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};

	wr_ask_init(&r, WR_API_AUDIT, project);
	wr_ask_flag(&r, "data", data);
	wr_ask_flag(&r, "repair", repair);
	return wr_client_ask(c, &r, NULL, out, err);
}

/* Any thread. What the mark's end says is looked at once more, as thoroughly as was asked for. */
static int
audit(struct wr_client *c, const char *project, const struct wr_args *a, json_t **out,
      struct wr_err *err)
{
	bool data = wr_arg_flag(a, "data"), repair = wr_arg_flag(a, "repair");
	uint64_t end_ns = wr_clock_mono_ns() + REPAIR_S * UINT64_C(1000000000);
	struct timespec nap = {.tv_sec = LOOK_S};
	bool marked, waited = false;

	if (ask(c, project, data, repair, out, err) < 0)
		return -1;
	if (!repair || wr_arg_flag(a, "no-wait"))
		return 0;
	for (;;) {
		marked = is_marked(*out);
		if (!marked && !(waited && data))
			return 0;
		if (marked && wr_clock_mono_ns() > end_ns) {
			wr_warn("%s: still being refilled; it goes on by itself", WR_Q(project));
			return 0;
		}
		if (marked)
			nanosleep(&nap, NULL);
		nap.tv_sec = WR_MIN(nap.tv_sec * 2, (time_t)LOOK_MAX_S);
		json_decref(*out);
		*out = NULL;
		if (ask(c, project, data && !marked, false, out, err) < 0)
			return -1;
		if (!marked)
			return 0;
		waited = true;
	}
}

/* ---- one ---- */

static void
print_damage(const json_t *copy)
{
	const json_t *list = wr_json_get_arr(copy, "damage"), *d;
	size_t i;

	json_array_foreach(list, i, d)
	{
		printf("  ");
		print_name(wr_json_get_str(copy, "name", "?"));
		printf(": ");
		print_name(json_string_value(d) ? json_string_value(d) : "?");
		putchar('\n');
	}
}

static void
print_audit(const json_t *o)
{
	static const char *const heads[] = {"NODE", "DC", "COPY", "VERSION", "OBJECTS", "BYTES"};
	const json_t *list = wr_json_get_arr(o, "copies"), *k;
	struct wr_table t;
	size_t i;

	wr_table_init(&t, "llllrr", wr_out_tty() ? heads : NULL);
	json_array_foreach(list, i, k)
	{
		const char *name = wr_json_get_str(k, "name", "?");

		wr_table_add_name(&t, name, strlen(name));
		wr_table_add(&t, wr_json_get_str(k, "dc", "?"));
		wr_table_add(&t, wr_json_get_str(k, "is", "?"));
		wr_table_add(&t, wr_json_get_str(k, "version", "-"));
		wr_table_addf(&t, "%" PRIu64, wr_json_get_u64(k, "objects", 0));
		wr_table_addf(&t, "%" PRIu64, wr_json_get_u64(k, "bytes", 0));
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	json_array_foreach(list, i, k)
	{
		const char *why = wr_json_get_str(wr_json_get_obj(k, "error"), "message", NULL);

		print_damage(k);
		if (why) {
			printf("  ");
			print_name(wr_json_get_str(k, "name", "?"));
			printf(": ");
			print_name(why);
			putchar('\n');
		}
	}
}

static int
audit_one(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_about_fini) struct wr_about b = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_progress *progress;
	uint64_t wrong;
	int rc;

	if (wr_about_begin(&b, a, WR_API_AUDIT, err) < 0)
		return -1;
	progress = wr_progress_begin(a, "auditing");
	rc = audit(&b.client, b.target.id, a, &o, err);
	wr_progress_end(progress);
	if (rc < 0)
		return -1;
	wrong = wr_json_get_u64(o, "wrong", 0);
	if (!wr_out_json() && !wr_out_quiet())
		print_audit(o);
	if (wr_out_json() && wr_json_print(wr_steal(&o), err) < 0)
		return -1;
	return wrong ? WR_EXIT_WARNINGS : 0;
}

/* ---- all ---- */

struct audits {
	const struct wr_args *a;
	struct wr_client *client;
	struct wr_progress *progress;
	json_t *wanted; /* projects */
	pthread_mutex_t mutex;
	/* guarded by mutex: */
	json_t *done;
	size_t next;
	uint64_t copies, damaged, wrong;
	bool stopped;
};

static bool
is_damaged(const json_t *copy)
{
	const char *is = wr_json_get_str(copy, "is", "");

	return !strcmp(is, "damaged") || !strcmp(is, "suspect");
}

/* Takes o, the audit of a project; NULL: err. */
static void
take_locked(struct audits *s, const json_t *project, json_t *o, const struct wr_err *err)
{
	const json_t *k;
	size_t i;

	if (!o) {
		o = json_object();
		wr_json_str(o, "project", wr_json_get_str(project, "id", NULL));
		wr_json_str(o, "name", wr_json_get_str(project, "name", NULL));
		wr_json_err(o, "error", err);
		s->wrong++;
	} else {
		s->wrong += wr_json_get_u64(o, "wrong", 0) > 0;
	}
	json_array_foreach(wr_json_get_arr(o, "copies"), i, k)
	{
		s->copies++;
		s->damaged += is_damaged(k);
	}
	json_array_append_new(s->done, o);
	s->stopped = s->damaged > WR_MAX(s->copies / 1000, (uint64_t)DAMAGED_LEAST);
}

static void *
audit_some(void *ctx)
{
	struct audits *s = ctx;

	pthread_mutex_lock(&s->mutex);
	while (!s->stopped && s->next < json_array_size(s->wanted)) {
		const json_t *p = json_array_get(s->wanted, s->next++);
		struct wr_err err = WR_ERR_INIT;
		json_t *o = NULL;

		pthread_mutex_unlock(&s->mutex);
		if (audit(s->client, wr_json_get_str(p, "id", ""), s->a, &o, &err) < 0)
			o = NULL;
		wr_progress_add(s->progress, 1, wr_json_get_u64(p, "bytes", 0));
		pthread_mutex_lock(&s->mutex);
		take_locked(s, p, o, &err);
	}
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

/* Those whose writer is this node: "safe" is told of them alone. */
static int
find_wanted(struct audits *s, struct wr_err *err)
{
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	json_t *p;
	uint64_t bytes = 0;
	size_t i;

	wr_ask_init(&r, WR_API_LIST, NULL);
	if (wr_client_ask(s->client, &r, NULL, &o, err) < 0)
		return -1;
	json_array_foreach(wr_json_get_arr(o, "projects"), i, p) if (wr_json_get_obj(p, "safe"))
	{
		json_array_append(s->wanted, p);
		bytes += wr_json_get_u64(p, "bytes", 0);
	}
	wr_progress_total(s->progress, json_array_size(s->wanted), bytes);
	return 0;
}

static void
print_audits(const struct audits *s)
{
	static const char *const heads[] = {"PROJECT", "NODE", "COPY", "VERSION"};
	const json_t *o, *k;
	struct wr_table t;
	size_t i, n;

	wr_table_init(&t, "llll", wr_out_tty() ? heads : NULL);
	json_array_foreach(s->done, i, o)
	{
		const char *name = wr_json_get_str(o, "name", "?");
		const char *why = wr_json_get_str(wr_json_get_obj(o, "error"), "message", NULL);

		if (why)
			wr_warn("%s: %s", WR_Q(name), WR_Q(why));
		json_array_foreach(wr_json_get_arr(o, "copies"), n, k)
		{
			const char *node = wr_json_get_str(k, "name", "?");

			if (!strcmp(wr_json_get_str(k, "is", ""), "same"))
				continue;
			wr_table_add_name(&t, name, strlen(name));
			wr_table_add_name(&t, node, strlen(node));
			wr_table_add(&t, wr_json_get_str(k, "is", "?"));
			wr_table_add(&t, wr_json_get_str(k, "version", "-"));
		}
	}
	wr_table_print(&t);
	wr_table_fini(&t);
	printf("%s of %s projects: %s copies, %s damaged; %s projects with something wrong\n",
	       wr_fmt_count(json_array_size(s->done)).s, wr_fmt_count(json_array_size(s->wanted)).s,
	       wr_fmt_count(s->copies).s, wr_fmt_count(s->damaged).s, wr_fmt_count(s->wrong).s);
}

static int
tell_all(struct audits *s, struct wr_err *err)
{
	json_t *o;

	if (s->stopped)
		wr_warn("stopped: %" PRIu64 " of %" PRIu64
			" copies look damaged; look at memory, disks and versions first",
			s->damaged, s->copies);
	if (!wr_out_json()) {
		if (!wr_out_quiet())
			print_audits(s);
		return 0;
	}
	o = wr_json_begin("warren.audits/1");
	wr_json_u64(o, "projects", json_array_size(s->wanted));
	wr_json_u64(o, "audited", json_array_size(s->done));
	wr_json_u64(o, "copies", s->copies);
	wr_json_u64(o, "damaged", s->damaged);
	wr_json_u64(o, "wrong", s->wrong);
	wr_json_bool(o, "stopped", s->stopped);
	json_object_set(o, "audits", s->done);
	return wr_json_print(o, err);
}

static int
audit_all(const struct wr_args *a, struct wr_err *err)
{
	WR_SCOPED(wr_client_fini) struct wr_client client = {0};
	WR_SCOPED(wr_json_freep) json_t *wanted = json_array();
	WR_SCOPED(wr_json_freep) json_t *done = json_array();
	struct audits s = {.a = a, .client = &client, .wanted = wanted, .done = done};
	pthread_t thread[PARALLEL];
	size_t n = 0;
	int rc;

	if (wr_target_given(a))
		return wr_err_set(err, WR_E_USAGE, "--all is all of them: it takes no ID");
	if (wr_client_init(&client, a, err) < 0)
		return -1;
	pthread_mutex_init(&s.mutex, NULL);
	s.progress = wr_progress_begin(a, "auditing");
	rc = find_wanted(&s, err);
	while (rc == 0 && n < PARALLEL && pthread_create(&thread[n], NULL, audit_some, &s) == 0)
		n++;
	if (rc == 0 && n == 0)
		audit_some(&s);
	while (n > 0)
		pthread_join(thread[--n], NULL);
	wr_progress_end(s.progress);
	pthread_mutex_destroy(&s.mutex);
	if (rc < 0 || tell_all(&s, err) < 0)
		return -1;
	return s.wrong || s.stopped ? WR_EXIT_WARNINGS : 0;
}

int
wr_cmd_audit(const struct wr_args *a, struct wr_err *err)
{
	return wr_arg_flag(a, "all") ? audit_all(a, err) : audit_one(a, err);
}
