/* SPDX-License-Identifier: Apache-2.0 */
/*
 * X1 and X2: a copy that its project's record does not count any more.
 *
 *   candidate --after a while--> hidden (durable) --> challenge (a worker) --> ATTEST to the data
 *   members --> a majority proved --> operation `drop` judges again under the locks, to the trash
 *           \--> not enough, or anything else: un-hidden, tried again later
 *
 * Nothing of this is kept but the hidden mark: after a crash at any step the next control un-hides
 * what no operation works on, and begins anew.  In the trash a dropped copy stays hidden; that is
 * how it is told from what somebody deleted, and why it goes for good only after a second proof.
 */
#include <sys/random.h>

#include "base/log.h"
#include "base/str.h"
#include "engine/object/id.h"
#include "fleet/rules/drop.h"
#include "host/node/age.h"
#include "serve/control/drops.h"
#include "serve/control/fleet_int.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

/* LIMIT: copies that are being proved at a time. */
#define DROPPING_MAX 2
#define TICK_NS WR_SECOND
/* Longer than the worker of who is asked may take. */
#define ASK_MS 140000
#define WHOLE_NS (150 * (uint64_t)WR_SECOND)
/* What stands in the way for a moment. */
#define SOON_S 5
#define DIRTY_S 30
#define AGAIN_MAX_S 3600
#define OP_WAIT_S 60
/* X4: if the configuration does not say: a hundredth of the copies held, at least this many. */
#define DROPS_LEAST 10
#define DAY_S 86400
#define GONE_FILE "drops"
#define GONE_BYTES (1u << 20)

struct wr_drop_cand {
	struct wr_uuid project;
	bool purge;     /* it lies in the trash: out of it for good */
	bool busy;      /* being proved, or its operation is under way */
	uint64_t due_s; /* monotonic */
	unsigned tries;
	char told[128];
	struct wr_drop_cand *next;
};

struct asking {
	struct wr_dropping *d; /* NULL: it ended */
	struct wr_uuid node;
	struct asking *next;
};
struct wr_dropping {
	struct wr_control *c;
	struct wr_drop_cand *cand;
	struct wr_uuid project;
	bool purge;
	struct wr_prove *look;
	uint8_t nonce[16];
	struct wr_digest tips;
	struct wr_drop m;
	bool asks; /* m has begun */
	struct asking *asked;
	struct wr_timer wake;
	struct wr_dropping *next;
};

static void on_wake(struct wr_timer *t);

static uint64_t
now_s(void)
{
	return wr_clock_mono_ns() / WR_SECOND;
}

static struct wr_drops *
drops_of(struct wr_control *c)
{
	return c->fleet ? c->fleet->drops : NULL;
}

/* ---- candidates ---- */

static struct wr_drop_cand *
cand_find(struct wr_drops *d, const struct wr_uuid *project)
{
	struct wr_drop_cand *k = d->cands;

	while (k && strcmp(k->project.s, project->s) != 0)
		k = k->next;
	return k;
}

static void
cand_free(struct wr_drops *d, struct wr_drop_cand *k)
{
	struct wr_drop_cand **at = &d->cands;

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	free(k);
}

static void
cand_add(struct wr_drops *d, const struct wr_uuid *project, bool purge, uint64_t after_s)
{
	struct wr_drop_cand *k = cand_find(d, project);

	if (k && k->purge == purge)
		return;
	if (k && k->busy)
		return;
	if (!k) {
		k = wr_calloc(1, sizeof(*k));
		k->project = *project;
		k->next = d->cands;
		d->cands = k;
	}
	k->purge = purge;
	k->due_s = now_s() + after_s;
}

/* The same again, later each time. */
static void
cand_later(struct wr_drops *d, struct wr_drop_cand *k)
{
	uint64_t s = WR_MAX(d->c->node->config.trash_drop_after, UINT64_C(1));

	for (unsigned i = 0; i < k->tries && s < AGAIN_MAX_S; i++)
		s *= 2;
	k->tries++;
	k->busy = false;
	k->due_s = now_s() + WR_MIN(s, (uint64_t)AGAIN_MAX_S);
}

/* Why it stays; told once. */
static void
tell_kept(struct wr_control *c, struct wr_drop_cand *k, const struct wr_err *why)
{
	if (!strncmp(k->told, why->msg, sizeof(k->told) - 1))
		return;
	snprintf(k->told, sizeof(k->told), "%.127s", why->msg);
	wr_event(c, "fleet", &k->project, k->purge ? "copy.trash-kept" : "copy.kept", why->msg,
		 NULL);
}

/* ---- X4: how many went today ---- */

static void
gone_load(struct wr_drops *d)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	char *save = NULL;
	uint64_t at;

	if (wr_read_file(d->c->node->state_fd, GONE_FILE, GONE_BYTES, &b, NULL) < 0)
		return;
	for (char *s = strtok_r(wr_buf_str(&b), "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		if (wr_parse_u64(s, &at, NULL) < 0)
			continue;
		wr_grow(&d->gone, &d->gone_cap, d->gone_count + 1, sizeof(*d->gone));
		d->gone[d->gone_count++] = (int64_t)at;
	}
}

static void
gone_trim(struct wr_drops *d)
{
	const int64_t now = wr_clock_wall().s, day = (int64_t)wr_age_span(d->c->node, DAY_S);
	size_t n = 0;

	/* What is dated later than now counts: clocks go wrong both ways. */
	while (n < d->gone_count && d->gone[n] < now - day)
		n++;
	if (n == 0)
		return;
	d->gone_count -= n;
	memmove(d->gone, d->gone + n, d->gone_count * sizeof(*d->gone));
}

/* Durable before the copy goes: what is cut off counts as gone. */
static int
gone_add(struct wr_drops *d, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_grow(&d->gone, &d->gone_cap, d->gone_count + 1, sizeof(*d->gone));
	d->gone[d->gone_count++] = wr_age_stamp(d->c->node);
	for (size_t i = 0; i < d->gone_count; i++)
		wr_buf_addf(&b, "%" PRId64 "\n", d->gone[i]);
	return wr_replace_file(d->c->node->state_fd, GONE_FILE, b.p, b.len, 0600, err);
}

static int
count_row(void *ctx, const struct wr_proj_row *r WR_UNUSED, struct wr_err *err WR_UNUSED)
{
	++*(size_t *)ctx;
	return 0;
}

static bool
may_go_today(struct wr_drops *d)
{
	size_t most = (size_t)d->c->node->config.trash_drops_per_day, held = 0;
	WR_SCOPED(wr_freep) char *text = NULL;

	gone_trim(d);
	if (!most) {
		if (wr_store_proj_each(d->c->store, 0, count_row, &held, NULL) < 0)
			return false;
		most = WR_MAX(held / 100, (size_t)DROPS_LEAST);
	}
	if (d->gone_count < most)
		return true;
	if (wr_clock_wall().s - d->limit_told >= DAY_S) {
		d->limit_told = wr_clock_wall().s;
		text = wr_asprintf("%zu copies went within a day; no more go before some of that "
				   "is a day ago ([trash] drops_per_day)",
				   d->gone_count);
		wr_event(d->c, "fleet", NULL, "copy.limit", text, NULL);
	}
	return false;
}

/* ---- hidden or not ---- */

/* false with err: it stays as it is. */
static bool
set_hidden(struct wr_control *c, const struct wr_uuid *project, bool hidden, struct wr_err *err)
{
	struct wr_lock lock = WR_LOCK_INIT;
	struct wr_member_state s;
	struct wr_member_env env;
	bool ok = false;

	wr_member_init(&s, project);
	if (wr_auth_lock_now(c->fleet->auth, project, &lock, err) < 0)
		goto out;
	if (wr_auth_load(c->fleet->auth, project, &s, err) < 0)
		goto out;
	wr_member_env_of(c, project, &env);
	if (hidden && wr_drop_need(&s, &env, err) != WR_DROP_PROVE) {
		if (err->code == WR_E_NONE)
			wr_err_set(err, WR_E_CHANGED, "the project is deleted");
		goto out;
	}
	if (s.hidden != hidden) {
		s.hidden = hidden;
		if (wr_auth_store(c->fleet->auth, project, &s, err) < 0)
			goto out;
	}
	ok = true;
out:
	wr_lock_drop(&lock);
	wr_member_fini(&s);
	return ok;
}

/* A copy in its place answers for what it has. */
static void
unhide(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_err err = WR_ERR_INIT;
	bool there = wr_place_of_find(c->node, project, &place, NULL) == 0;

	wr_place_of_fini(&place);
	/* Else it is hidden until it is tried again, or the next start. */
	if (there && !set_hidden(c, project, false, &err))
		wr_log_err(WR_LOG_WARNING, "un-hide a copy", &err);
}

/* ---- one copy ---- */

static void
dropping_free(struct wr_dropping *d)
{
	struct wr_drops *all = d->c->fleet->drops;
	struct wr_dropping **at = &all->list;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	all->dropping--;
	wr_prove_forget(d->look);
	for (struct asking *a = d->asked; a; a = a->next)
		a->d = NULL;
	wr_timer_off(&d->c->loop, &d->wake);
	if (d->asks)
		wr_drop_fini(&d->m);
	free(d);
}

/* It stays. */
static void
give_up(struct wr_dropping *d, const struct wr_err *why)
{
	struct wr_control *c = d->c;

	tell_kept(c, d->cand, why);
	if (!d->purge)
		unhide(c, &d->project);
	cand_later(c->fleet->drops, d->cand);
	dropping_free(d);
}

static json_t *
proof_args(const struct wr_dropping *d)
{
	WR_SCOPED(wr_freep) char *tips = wr_base64(d->tips.b, sizeof(d->tips.b));
	WR_SCOPED(wr_freep) char *random = wr_asprintf("%" PRIu64, d->m.record.n.random);
	json_t *args = json_object(), *p = wr_json_object(args, "proof");

	/* Whoever began that has looked at the time. */
	if (d->purge)
		wr_json_bool(args, "now", true);
	wr_json_u64(p, "number", d->m.record.n.number);
	wr_json_str(p, "random", random); /* numbers of JSON have fewer bits */
	wr_json_str(p, "tips_b64", tips);
	return args;
}

/* args is taken. */
static int
submit(struct wr_control *c, const struct wr_uuid *project, enum wr_op_kind kind, json_t *args,
       struct wr_err *err)
{
	struct wr_proj_row row = {0};
	struct wr_op_wish w = {.row = &row,
			       .kind = kind,
			       .args = args,
			       .by = "fleet",
			       .may_wait = true,
			       .wait_s = OP_WAIT_S};
	struct wr_uuid op;
	int rc;

	if (wr_store_proj_find(c->store, project->s, false, true, &row, err) < 0) {
		json_decref(args);
		return -1;
	}
	rc = wr_op_submit(c, &w, &op, err);
	wr_proj_row_fini(&row);
	return rc;
}

static void
proven(struct wr_dropping *d)
{
	struct wr_control *c = d->c;
	struct wr_err err = WR_ERR_INIT;

	if ((!d->purge && gone_add(c->fleet->drops, &err) < 0) ||
	    submit(c, &d->project, d->purge ? WR_OP_PURGE : WR_OP_DROP, proof_args(d), &err) < 0) {
		give_up(d, &err);
		return;
	}
	wr_crash_point("control.drop-proven");
	dropping_free(d); /* its candidate stays busy until the operation ends */
}

/* A newer record that came with an answer is judged like any other. */
static void
take_newer(struct wr_dropping *d)
{
	struct wr_msg m = WR_MSG_INIT;

	if (!d->m.has_newer)
		return;
	m.kind = WR_MSG_INSTALL;
	m.project = d->project;
	wr_record_encode(&d->m.newer, &m.record);
	wr_ask(d->c, &d->c->fleet->auth->self.id, &m, ASK_MS, NULL, NULL);
}

static void drive(struct wr_dropping *d);

static void
on_answer(void *ctx, const struct wr_msg *answer, const struct wr_err *why WR_UNUSED)
{
	struct asking *a = ctx;
	struct wr_dropping *d = a->d;
	struct asking **at = d ? &d->asked : NULL;
	struct wr_member_env env;

	while (at && *at != a)
		at = &(*at)->next;
	if (at)
		*at = a->next;
	free(a);
	if (!d)
		return;
	/* Who is busy is asked again. */
	if (answer && !(answer->kind == WR_MSG_ERROR && answer->code == WR_E_BUSY)) {
		wr_member_env_of(d->c, &d->project, &env);
		wr_drop_answer(&d->m, &env, answer);
	}
	drive(d);
}

static bool
is_asked(const struct wr_dropping *d, const struct wr_uuid *node)
{
	for (const struct asking *a = d->asked; a; a = a->next)
		if (!strcmp(a->node.s, node->s))
			return true;
	return false;
}

static void
drive(struct wr_dropping *d)
{
	struct wr_msg m = WR_MSG_INIT;
	struct wr_node_id to;

	while (wr_drop_next(&d->m, &to, &m)) {
		struct asking *a;

		if (!is_asked(d, &to.id)) { /* else it is being answered */
			a = wr_calloc(1, sizeof(*a));
			*a = (struct asking){d, to.id, d->asked};
			d->asked = a;
			wr_ask(d->c, &to.id, &m, ASK_MS, on_answer, a);
		}
		wr_msg_fini(&m);
	}
	switch (wr_drop_tick(&d->m, wr_clock_boot_ns())) {
	case WR_DROP_PROVEN:
		proven(d);
		return;
	case WR_DROP_KEEP: {
		struct wr_err why = d->m.why;

		take_newer(d);
		give_up(d, &why);
		return;
	}
	case WR_DROP_WAIT:
		break;
	}
	wr_timer_on(&d->c->loop, &d->wake, TICK_NS, on_wake);
}

static void
on_wake(struct wr_timer *t)
{
	drive(WR_OWNER(t, struct wr_dropping, wake));
}

/* ---- what is to be proved ---- */

/* The tips as a list of refs, for that is what members can be asked about; where they come from is
 * nobody's business. */
static int
list_of(struct wr_dropping *d, const struct wr_member_state *s, const json_t *tips,
	struct wr_buf *out, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec list = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	const json_t *e;
	size_t i;

	if (json_array_size(tips) > WR_SAVE_REFS_MAX)
		return wr_err_set(err, WR_E_LIMIT, "more than %d refs cannot be proved",
				  WR_SAVE_REFS_MAX);
	list.project = d->project;
	list.v.n = s->record.n;
	list.writer = d->c->fleet->auth->self;
	list.ref = wr_calloc(json_array_size(tips) + 1, sizeof(*list.ref));
	json_array_foreach(tips, i, e)
	{
		struct wr_save_ref *r = &list.ref[list.ref_count++];
		const char *hex = json_string_value(e);
		struct wr_id id;

		r->name = wr_asprintf("refs/tags/tip-%06zu", i);
		if (!hex || !wr_id_parse(hex, &id))
			return wr_err_set(err, WR_E_CORRUPT, "a tip without id");
		memcpy(r->id, id.b, sizeof(r->id));
		wr_buf_adds(&text, hex);
	}
	d->tips = wr_digest_of(text.p, text.len);
	wr_save_rec_encode(&list, out);
	return 0;
}

static int
take_ids(const json_t *list, uint8_t (*ids)[20], size_t *out_count, struct wr_err *err)
{
	const json_t *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		const char *hex = json_string_value(e);
		struct wr_id id;

		if (i >= WR_MSG_IDS || !hex || !wr_id_parse(hex, &id))
			return wr_err_set(err, WR_E_CORRUPT, "a challenge that is none");
		memcpy(ids[i], id.b, sizeof(ids[i]));
	}
	*out_count = i;
	return 0;
}

static int
begin_asking(struct wr_dropping *d, const json_t *result, struct wr_err *err)
{
	struct wr_control *c = d->c;
	const char *text = wr_json_get_str(result, "digest_b64", "");
	WR_SCOPED(wr_buf_fini) struct wr_buf digest = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf list = WR_BUF_INIT;
	struct wr_drop_opts o = {.request = 1, .timeout_ns = WHOLE_NS};
	uint8_t ids[WR_MSG_IDS][20];
	struct wr_member_state s;
	struct wr_member_env env;
	int rc = -1;

	wr_member_init(&s, &d->project);
	if (!wr_base64_decode(&digest, text, strlen(text)) || digest.len != sizeof(o.expected.b)) {
		wr_err_set(err, WR_E_CORRUPT, "a challenge without answer");
		goto out;
	}
	memcpy(o.expected.b, digest.p, digest.len);
	memcpy(o.nonce, d->nonce, sizeof(o.nonce));
	if (wr_auth_load(c->fleet->auth, &d->project, &s, err) < 0 ||
	    list_of(d, &s, wr_json_get_arr(result, "tips"), &list, err) < 0 ||
	    take_ids(wr_json_get_arr(result, "ids"), ids, &o.id_count, err) < 0)
		goto out;
	o.save = list;
	o.ids = (const uint8_t(*)[20])ids;
	wr_member_env_of(c, &d->project, &env);
	rc = wr_drop_begin(&d->m, &s, &env, &o, err);
	d->asks = rc == 0;
out:
	wr_member_fini(&s);
	return rc;
}

static void
on_look(void *ctx, const json_t *result, const struct wr_err *why)
{
	struct wr_dropping *d = ctx;
	struct wr_err err = WR_ERR_INIT;

	d->look = NULL;
	if (why)
		give_up(d, why);
	else if (begin_asking(d, result, &err) < 0)
		give_up(d, &err);
	else
		drive(d);
}

/* The copy is hidden. */
static void
begin_proving(struct wr_control *c, struct wr_drop_cand *k)
{
	struct wr_drops *all = c->fleet->drops;
	struct wr_dropping *d = wr_calloc(1, sizeof(*d));
	WR_SCOPED(wr_freep) char *nonce = NULL;
	json_t *args = json_object();
	struct wr_err err = WR_ERR_INIT;

	d->c = c;
	d->cand = k;
	d->project = k->project;
	d->purge = k->purge;
	d->next = all->list;
	all->list = d;
	all->dropping++;
	k->busy = true;
	while (getrandom(d->nonce, sizeof(d->nonce), 0) != (ssize_t)sizeof(d->nonce))
		;
	nonce = wr_base64(d->nonce, sizeof(d->nonce));
	wr_json_str(args, "nonce_b64", nonce);
	wr_json_u64(args, "pick", WR_CHALLENGE_IDS);
	d->look = wr_prove_begin(c, &d->project, d->purge, args, on_look, d, &err);
	if (!d->look)
		give_up(d, &err);
}

/* ---- when ---- */

/* 0: it may begin; else the seconds after which to look again. */
static uint64_t
in_the_way(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_proj *p = wr_proj_find(c, project);
	struct wr_proj_row row = {0};
	struct wr_status st = {0};
	struct wr_work work = {0};
	uint64_t s = 0;

	if (p && (p->run || p->first || p->copying))
		return SOON_S;
	if (wr_row_find(c, project, &row, NULL) < 0)
		return AGAIN_MAX_S;
	wr_row_status(c, &row, &st);
	if (st.active || wr_lease_lives(c, project))
		s = DIRTY_S;
	else if (wr_work_load(c->node, project, &work, NULL) < 0 || work.dirty)
		s = DIRTY_S; /* the next update of the copy sees to that */
	wr_work_fini(&work);
	wr_proj_row_fini(&row);
	return s;
}

/* Does the record count it, or not? */
static enum wr_drop_need
need_of(struct wr_control *c, const struct wr_uuid *project, bool *out_hidden)
{
	struct wr_member_state s;
	struct wr_member_env env;
	enum wr_drop_need need = WR_DROP_NEVER;

	wr_member_init(&s, project);
	if (wr_auth_load(c->fleet->auth, project, &s, NULL) == 0) {
		wr_member_env_of(c, project, &env);
		need = wr_drop_need(&s, &env, NULL);
		/* A learner is none that votes, but it is wanted. */
		if (need == WR_DROP_PROVE && wr_record_has(&s.record, &env.self))
			need = WR_DROP_NEVER;
	}
	if (out_hidden)
		*out_hidden = s.hidden;
	wr_member_fini(&s);
	return need;
}

/* false: k is gone. */
static bool
try_one(struct wr_drops *d, struct wr_drop_cand *k)
{
	struct wr_control *c = d->c;
	struct wr_err err = WR_ERR_INIT;
	enum wr_drop_need need = need_of(c, &k->project, NULL);
	uint64_t wait;

	/* What is deleted goes as a whole (deletion.c). */
	if (need == WR_DROP_NEVER || (need == WR_DROP_FREE && !k->purge)) {
		cand_free(d, k);
		return false;
	}
	wait = k->purge ? 0 : in_the_way(c, &k->project);
	if (!wait && !k->purge && !may_go_today(d))
		wait = AGAIN_MAX_S;
	if (wait) {
		k->due_s = now_s() + wait;
		return true;
	}
	if (need == WR_DROP_FREE) {
		k->busy = true;
		if (submit(c, &k->project, WR_OP_PURGE, json_object(), &err) < 0) {
			tell_kept(c, k, &err);
			cand_later(d, k);
		}
		return true;
	}
	if (!k->purge && !set_hidden(c, &k->project, true, &err)) {
		k->due_s = now_s() + SOON_S;
		if (err.code != WR_E_BUSY) {
			tell_kept(c, k, &err);
			cand_later(d, k);
		}
		return true;
	}
	wr_crash_point("control.drop-hidden");
	begin_proving(c, k);
	return true;
}

static void
on_tick(struct wr_timer *t)
{
	struct wr_drops *d = WR_OWNER(t, struct wr_drops, tick);
	struct wr_drop_cand *k, *next;
	uint64_t now = now_s();

	wr_timer_on(&d->c->loop, t, TICK_NS, on_tick);
	if (d->c->draining || d->c->fleet->amnesia)
		return;
	wr_fills_tick(d->c);
	wr_mends_tick(d->c);
	for (k = d->cands; k && d->dropping < DROPPING_MAX; k = next) {
		next = k->next;
		if (!k->busy && k->due_s <= now)
			(void)try_one(d, k);
	}
}

void
wr_drop_learn(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_drops *d = drops_of(c);
	struct wr_drop_cand *k = d ? cand_find(d, project) : NULL;
	struct wr_proj_row row = {0};
	struct wr_err err = WR_ERR_INIT;
	bool hidden;

	if (!d || wr_store_proj_find(c->store, project->s, false, true, &row, NULL) < 0)
		return;
	if (need_of(c, project, &hidden) != WR_DROP_NEVER) {
		if (!row.deleted)
			cand_add(d, project, false, c->node->config.trash_drop_after);
	} else {
		if (k && !k->busy)
			cand_free(d, k);
		/* It counts again, and lies in the trash: what is there need not be sent. */
		if (row.deleted && hidden &&
		    submit(c, project, WR_OP_UNDELETE, json_object(), &err) < 0)
			wr_log_err(WR_LOG_WARNING, "take a copy out of the trash", &err);
	}
	wr_proj_row_fini(&row);
}

bool
wr_drop_purges(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_drops *d = drops_of(c);
	bool hidden;

	if (!d)
		return false;
	switch (need_of(c, project, &hidden)) {
	case WR_DROP_PROVE:
		if (!hidden)
			return false;
		cand_add(d, project, true, 0);
		return true;
	case WR_DROP_NEVER:
		return hidden; /* it counts again: it is to come back, not to go */
	case WR_DROP_FREE:
		break;
	}
	return false;
}

/* Somebody asked for it, before its time. */
static bool
asked_now(const struct wr_op_row *op)
{
	WR_SCOPED(wr_json_freep) json_t *args = NULL;

	if (!strcmp(op->by, "fleet") || !op->args)
		return false;
	args = wr_json_parse(op->args, strlen(op->args), NULL);
	return wr_json_get_bool(args, "now", false);
}

void
wr_drop_op_ended(struct wr_control *c, const struct wr_op_row *op, const struct wr_err *why)
{
	struct wr_drops *d = drops_of(c);
	struct wr_drop_cand *k;

	if (!d || (op->kind != WR_OP_DROP && op->kind != WR_OP_PURGE))
		return;
	k = cand_find(d, &op->project);
	if (op->state == WR_OPS_DONE) {
		if (op->kind == WR_OP_DROP)
			wr_event(c, "fleet", &op->project, "copy.dropped",
				 "its copy here went to the trash: others hold all of it", NULL);
		if (k)
			cand_free(d, k);
		return;
	}
	if (op->kind == WR_OP_DROP)
		unhide(c, &op->project);
	else if (!k && asked_now(op))
		(void)wr_drop_purges(c, &op->project); /* the proofs that it lacked */
	if (k && k->busy) {
		if (why)
			tell_kept(c, k, why);
		cand_later(d, k);
	}
}

/* ---- beginning and end ---- */

struct ids {
	struct wr_uuid *id;
	size_t count, cap;
};

static int
take_id(void *ctx, const struct wr_proj_row *r, struct wr_err *err WR_UNUSED)
{
	struct ids *l = ctx;

	wr_grow(&l->id, &l->cap, l->count + 1, sizeof(*l->id));
	l->id[l->count++] = r->id;
	return 0;
}

/* What a control that ended in between left. */
static void
look_at(struct wr_control *c, const struct wr_uuid *project)
{
	struct wr_drops *d = c->fleet->drops;
	struct wr_proj *p = wr_proj_find(c, project);
	struct wr_op *op = p ? p->run ? p->run : p->first : NULL;
	bool hidden;
	enum wr_drop_need need = need_of(c, project, &hidden);
	bool works = op && op->row.kind == WR_OP_DROP;

	if (hidden && !works)
		unhide(c, project);
	if (need != WR_DROP_NEVER) {
		cand_add(d, project, false, c->node->config.trash_drop_after);
		cand_find(d, project)->busy = works;
	}
	wr_fill_learn(c, project);
}

void
wr_drops_begin(struct wr_control *c)
{
	struct wr_drops *d = wr_calloc(1, sizeof(*d));
	struct wr_err err = WR_ERR_INIT;
	struct ids l = {0};

	d->c = c;
	c->fleet->drops = d;
	gone_load(d);
	if (wr_store_proj_each(c->store, 0, take_id, &l, &err) < 0)
		wr_log_err(WR_LOG_ERROR, "look for copies that may go", &err);
	for (size_t i = 0; i < l.count; i++)
		look_at(c, &l.id[i]);
	free(l.id);
	wr_mends_begin(c);
	wr_timer_on(&c->loop, &d->tick, TICK_NS, on_tick);
}

void
wr_drops_end(struct wr_control *c)
{
	struct wr_drops *d = drops_of(c);

	if (!d)
		return;
	wr_timer_off(&c->loop, &d->tick);
	/* Hidden as they are: the next start sees to them. */
	while (d->list)
		dropping_free(d->list);
	wr_mends_end(c);
	wr_audits_end(c);
	wr_proves_end(c);
	wr_fills_end(c);
	while (d->cands)
		cand_free(d, d->cands);
	free(d->gone);
	free(d);
	c->fleet->drops = NULL;
}
