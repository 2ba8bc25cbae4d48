/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control reads no objects: whether a copy holds what another one has, and what a challenge's
 * answer is, workers find out (host/task/worker_prove.c), few at a time.
 */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "engine/object/id.h"
#include "host/task/task.h"
#include "serve/control/drops.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* LIMITs: of one look; of what a worker says. */
#define PROVE_S 120
#define SAID_MAX (1u << 20)

struct wr_prove {
	struct wr_control *c;
	struct wr_child child;
	int fd;
	struct wr_watch watch;
	struct wr_buf said;
	struct wr_timer end;
	wr_prove_fn fn; /* NULL: forgotten */
	void *ctx;
	bool audit;
	struct wr_prove *next;
};

static void
prove_free(struct wr_prove *p)
{
	struct wr_drops *d = p->c->fleet->drops;
	struct wr_prove **at = &d->proves;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	--*(p->audit ? &d->auditing : &d->proving);
	wr_timer_off(&p->c->loop, &p->end);
	wr_watch_off(&p->c->loop, &p->watch);
	wr_closep(&p->fd);
	wr_child_off(&p->child);
	wr_buf_fini(&p->said);
	free(p);
}

/* false: there is no more to come. */
static bool
hear(struct wr_prove *p)
{
	char block[4096];
	ssize_t n = read(p->fd, block, sizeof(block));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n > 0)
		wr_buf_add(&p->said, block, (size_t)n);
	/* Progress is not told on; the result is the last line. */
	if (p->said.len > SAID_MAX) {
		uint8_t *lf = memrchr(p->said.p, '\n', p->said.len - 1);
		size_t cut = lf ? (size_t)(lf - p->said.p) + 1 : p->said.len;

		memmove(p->said.p, p->said.p + cut, p->said.len - cut);
		p->said.len -= cut;
	}
	return n > 0;
}

static void
on_said(struct wr_watch *w, uint32_t events WR_UNUSED)
{
	struct wr_prove *p = WR_OWNER(w, struct wr_prove, watch);

	if (!hear(p))
		wr_watch_off(&p->c->loop, &p->watch);
}

static void
on_ended(struct wr_child *ch, int wait_status)
{
	struct wr_prove *p = WR_OWNER(ch, struct wr_prove, child);
	WR_SCOPED(wr_json_freep) json_t *result = NULL;
	struct wr_err err = WR_ERR_INIT;
	wr_prove_fn fn = p->fn;
	void *ctx = p->ctx;
	int rc;

	for (size_t before = SIZE_MAX; before != p->said.len;) {
		before = p->said.len;
		if (!hear(p))
			break;
	}
	rc = wr_task_end(p->said.p, p->said.len, wait_status, &result, &err);
	prove_free(p);
	if (fn)
		fn(ctx, rc < 0 ? NULL : result, rc < 0 ? &err : NULL);
}

static void
on_late(struct wr_timer *t)
{
	wr_child_kill(&WR_OWNER(t, struct wr_prove, end)->child);
}

/* repos/ID, or repos/.trash/ID on whichever volume; never through a link. */
static int
open_repo(struct wr_control *c, const struct wr_uuid *project, bool trashed,
	  struct wr_place_of *place, struct wr_err *err)
{
	if (!trashed)
		return wr_place_of_find(c->node, project, place, err) < 0
			   ? -1
			   : wr_repo_dir_open(place, err);
	*place = (struct wr_place_of){.node = c->node, .id = *project, .conf_fd = -1};
	for (size_t i = 0; i < c->node->volume_count; i++) {
		WR_SCOPED(wr_closep) int trash = wr_open_dir(c->node->volume[i].repos_fd, ".trash");
		int fd = trash < 0 ? -1 : wr_open_dir(trash, project->s);

		if (fd < 0)
			continue;
		place->tree_vol = place->repo_vol = i;
		return fd;
	}
	return wr_err_set(err, WR_E_NOT_FOUND, "project '%s' is not in the trash", project->s);
}

struct wr_prove *
wr_prove_begin(struct wr_control *c, const struct wr_uuid *project, bool trashed, json_t *args,
	       wr_prove_fn fn, void *ctx, struct wr_err *err)
{
	return wr_look_begin(c, WR_TASK_PROVE, project, trashed, args, fn, ctx, err);
}

struct wr_prove *
wr_look_begin(struct wr_control *c, enum wr_task_kind kind, const struct wr_uuid *project,
	      bool trashed, json_t *args, wr_prove_fn fn, void *ctx, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *own = args;
	struct wr_place_of place = WR_PLACE_OF_INIT;
	struct wr_task t = WR_TASK_INIT;
	WR_SCOPED(wr_closep) int repo = -1;
	struct wr_drops *d = c->fleet->drops;
	struct wr_prove *p;
	int fd, rc = -1;
	pid_t pid;

	bool audit = kind != WR_TASK_PROVE;

	if (audit ? d->auditing >= WR_AUDITING_MAX : d->proving >= WR_PROVING_MAX) {
		wr_err_set(err, WR_E_BUSY, "%d copies are being looked at already",
			   audit ? WR_AUDITING_MAX : WR_PROVING_MAX);
		return NULL;
	}
	repo = open_repo(c, project, trashed, &place, err);
	if (repo >= 0) {
		t.kind = kind;
		t.place = &place;
		t.repo_fd = repo;
		t.args = own;
		rc = wr_task_begin(&t, &pid, &fd, err);
	}
	wr_place_of_fini(&place);
	if (rc < 0)
		return NULL;
	p = wr_calloc(1, sizeof(*p));
	p->c = c;
	p->fd = fd;
	p->fn = fn;
	p->ctx = ctx;
	p->next = d->proves;
	d->proves = p;
	p->audit = audit;
	++*(audit ? &d->auditing : &d->proving);
	p->watch.fd = -1;
	(void)fcntl(fd, F_SETFL, O_NONBLOCK); /* a pipe of ours: cannot fail */
	wr_watch_on(&c->loop, &p->watch, fd, EPOLLIN, on_said);
	wr_child_on(&c->loop, &p->child, pid, -1, on_ended);
	wr_timer_on(&c->loop, &p->end, (audit ? WR_AUDIT_S : PROVE_S) * (uint64_t)WR_SECOND,
		    on_late);
	return p;
}

void
wr_prove_forget(struct wr_prove *p)
{
	if (!p)
		return;
	p->fn = NULL;
	wr_child_kill(&p->child); /* freed when it is reaped */
}

void
wr_proves_end(struct wr_control *c)
{
	struct wr_drops *d = c->fleet->drops;
	struct wr_err why = WR_ERR_INIT;

	wr_err_set(&why, WR_E_CANCELLED, "the daemon ends");
	while (d->proves) {
		struct wr_prove *p = d->proves;
		pid_t pid = p->child.pid;
		wr_prove_fn fn = p->fn;
		void *ctx = p->ctx;

		wr_child_kill(&p->child);
		while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		prove_free(p);
		if (fn)
			fn(ctx, NULL, &why);
	}
}

/* ---- who is asked ---- */

struct facts {
	struct wr_asked *k;
	wr_attested_fn fn;
};

static void
told(struct facts *f, const struct wr_digest *proof)
{
	static const struct wr_digest none;
	struct wr_asked *k = f->k;
	wr_attested_fn fn = f->fn;

	free(f);
	fn(k, proof != NULL, proof ? proof : &none);
}

static void
on_proved(void *ctx, const json_t *result, const struct wr_err *why)
{
	struct facts *f = ctx;
	const char *text = wr_json_get_str(result, "digest_b64", "");
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_digest d;

	if (why && why->code != WR_E_NOT_FOUND)
		wr_log_err(WR_LOG_WARNING, "a copy that another node asks about", why);
	if (!result || !wr_base64_decode(&b, text, strlen(text)) || b.len != sizeof(d.b)) {
		told(f, NULL);
		return;
	}
	memcpy(d.b, b.p, sizeof(d.b));
	told(f, &d);
}

static void
add_id(json_t *list, const uint8_t b[20])
{
	struct wr_id id;

	memcpy(id.b, b, sizeof(id.b));
	wr_json_add_str(list, wr_id_hex(&id).s);
}

/* What the worker is asked; NULL: the question does not fit together. */
static json_t *
question(const struct wr_msg *q, struct wr_err *err)
{
	WR_SCOPED(wr_save_rec_fini) struct wr_save_rec save = WR_SAVE_REC_INIT;
	WR_SCOPED(wr_freep) char *nonce = wr_base64(q->challenge, sizeof(q->challenge));
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	json_t *list;

	if (q->save.len) {
		struct wr_digest d;

		if (wr_save_rec_decode(q->save.p, q->save.len, &save, err) < 0)
			return NULL;
		d = wr_save_refs_digest(&save);
		if (strcmp(save.project.s, q->project.s) != 0 ||
		    memcmp(d.b, q->digest.b, sizeof(d.b)) != 0) {
			wr_err_set(err, WR_E_INVALID, "its list is another one than it says");
			return NULL;
		}
	}
	wr_json_str(o, "nonce_b64", nonce);
	list = wr_json_array(o, "ids");
	for (size_t i = 0; i < q->id_count; i++)
		add_id(list, q->ids[i]);
	list = wr_json_array(o, "tips");
	for (size_t i = 0; i < save.ref_count; i++)
		add_id(list, save.ref[i].id);
	return wr_steal(&o);
}

void
wr_attest_facts(struct wr_asked *k, wr_attested_fn fn)
{
	struct facts *f = wr_calloc(1, sizeof(*f));
	struct wr_err err = WR_ERR_INIT;
	json_t *args = question(&k->q, &err);

	f->k = k;
	f->fn = fn;
	if (args && wr_prove_begin(k->c, &k->q.project, false, args, on_proved, f, &err))
		return;
	if (err.code == WR_E_BUSY) {
		free(f);
		wr_asked_fail(k, &err);
		return;
	}
	wr_log_err(WR_LOG_WARNING, "a copy that another node asks about", &err);
	told(f, NULL);
}
