/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replication's two ends, in workers.  PUSH connects to another node and sends what a signed save
 * names; it brings back the other's signed answer, which it cannot make itself.  RECEIVE takes what
 * comes over a stream into the repository's quarantine, and installs it when its starter, who holds
 * the locks then, says so.
 */
#include "host/task/worker_int.h"

#include <poll.h>
#include <unistd.h>

#include "base/str.h"
#include "engine/repo/repo.h"
#include "engine/snap/latest.h"
#include "fleet/link/stream.h"
#include "fleet/record/msg.h"
#include "fleet/sync/sync.h"
#include "host/task/pushkit.h"
#include "host/task/stream.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* While the starter waits for a lock, the far side hears of us that often. */
#define ALIVE_MS 5000
/* LIMIT: of one line of the starter; the longest one has the save that was held, in base64. */
#define COMMAND_MAX (WR_SAVE_BYTES / 3 * 4 + 4096u)
#define COMMAND_STEP 65536
#define LOCK_WAIT_S 60

static void
tell_progress(void *ctx, const struct wr_sync_progress *p)
{
	(void)ctx;
	wr_worker_progress(NULL, "replicate", p->objects, p->objects_total, p->bytes,
			   p->bytes_total);
}

/* ---- REFS, OPEN ---- */

static void
add_ref(json_t *list, const char *name, const struct wr_id *id)
{
	json_t *o = json_object();

	wr_json_str(o, "name", name);
	wr_json_str(o, "id", wr_id_hex(id).s);
	json_array_append_new(list, o);
}

/* Is there a refs/warren/latest that came ahead of a history, and was not made here instead of one?
 */
static bool
is_ahead(struct wr_repo *r)
{
	struct wr_reader *rd = wr_reader_new(r);
	struct wr_latest latest = {0};
	bool ahead = wr_latest_find(r, rd, "main", NULL, &latest, NULL) == 0 && latest.there &&
		     !latest.base && latest.commit.parent_count == 0 &&
		     !wr_id_is_zero(&latest.commit.tree);

	wr_latest_fini(&latest);
	wr_reader_free(rd);
	return ahead;
}

int
wr_worker_weed(struct wr_repo *r, const json_t *how, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *ident = wr_ident("warren", "replica");
	struct wr_sync_weed w = {
	    .now = wr_json_get_i64(how, "now", wr_clock_wall().s),
	    .side_s = wr_json_get_i64(how, "side_s", INT64_MAX),
	    .floor_s = wr_json_get_i64(how, "floor_s", -1),
	    .ident = ident,
	    .ahead = is_ahead(r),
	};

	return wr_sync_weed(r, &w, err) < 0 ? wr_err_wrap(err, "weed the refs") : 0;
}

int
wr_worker_refs(struct wr_repo *r, json_t *result, struct wr_err *err)
{
	struct wr_save_rec s = WR_SAVE_REC_INIT;
	bool ahead = is_ahead(r);
	json_t *list;

	if (wr_sync_refs(r, &s, err) < 0)
		return wr_err_wrap(err, "list the refs");
	list = wr_json_array(result, "refs");
	for (size_t i = 0; i < s.ref_count; i++) {
		struct wr_id id;

		/* A list with one would have every other node go without its newest state first. */
		if (ahead && !strcmp(s.ref[i].name, WR_SYNC_LATEST))
			continue;
		memcpy(id.b, s.ref[i].id, sizeof(id.b));
		add_ref(list, s.ref[i].name, &id);
	}
	wr_save_rec_fini(&s);
	return 0;
}

/* refs/warren/fill/heads/main stands for refs/heads/main; the order stays. */
static int
fill_refs(struct wr_repo *r, json_t *result, struct wr_err *err)
{
	json_t *list = wr_json_array(result, "refs");
	struct wr_refs refs = {0};

	if (wr_refs_list(r, WR_SYNC_FILL, &refs, err) < 0)
		return wr_err_wrap(err, "list the refs");
	for (size_t i = 0; i < refs.count; i++) {
		WR_SCOPED(wr_freep)
		char *name = wr_asprintf("refs/%s", refs.ref[i].name + strlen(WR_SYNC_FILL));

		add_ref(list, name, &refs.ref[i].id);
	}
	wr_refs_fini(&refs);
	return 0;
}

static int
refs(struct wr_worker *w, struct wr_repo *r, json_t *o, struct wr_err *err)
{
	return wr_json_get_bool(w->args, "fill", false) ? fill_refs(r, o, err)
							: wr_worker_refs(r, o, err);
}

json_t *
wr_work_refs(struct wr_worker *w, struct wr_err *err)
{
	return wr_worker_with_repo(w, refs, err);
}

static int
read_save(const json_t *args, const char *key, struct wr_save_rec *out, struct wr_err *err)
{
	const char *text = wr_json_get_str(args, key, "");
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (!wr_base64_decode(&b, text, strlen(text)))
		return wr_err_set(err, WR_E_INVALID, "%s: not base64", key);
	return wr_save_rec_decode(b.p, b.len, out, err);
}

/* What the receiver is to do with the refs that were there. 1: done; 0: they have moved meanwhile;
 * -1. */
static int
commit(struct wr_sync *m, struct wr_repo *repo, const json_t *how, json_t *result,
       struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *ident = wr_ident("warren", "replica");
	struct wr_save_rec held = WR_SAVE_REC_INIT;
	struct wr_sync_commit c = {
	    .now = wr_json_get_i64(how, "now", wr_clock_wall().s),
	    .floor_s = wr_json_get_i64(how, "floor_s", -1),
	    .ident = ident,
	    .side = wr_json_get_str(how, "side", NULL),
	    .lock_wait_s = LOCK_WAIT_S,
	};
	struct wr_sync_result r = {0};
	int rc;

	if (wr_json_get_str(how, "held_b64", NULL)) {
		if (read_save(how, "held_b64", &held, err) < 0)
			return -1;
		c.held = &held;
	}
	rc = wr_sync_recv_commit(m, &c, &r, err);
	wr_save_rec_fini(&held);
	if (rc < 0)
		return err->code == WR_E_CHANGED ? 0 : -1;
	if (repo && wr_json_get_bool(how, "refs", false) && wr_worker_refs(repo, result, err) < 0)
		return -1;
	wr_json_u64(result, "objects", r.objects);
	wr_json_u64(result, "bytes", r.bytes);
	wr_json_u64(result, "refs_moved", r.refs_moved);
	wr_json_u64(result, "kept", r.refs_kept);
	wr_json_u64(result, "sides", r.sides);
	return 1;
}

/* A sender and a receiver of one repository talk to each other: nothing has to be sent, and the
 * receiver knows how refs are moved and what is kept. */
static int
talk(struct wr_sync *from, struct wr_sync *to, const json_t *how, json_t *result,
     struct wr_err *err)
{
	uint8_t b[16384];

	while (wr_sync_status(to) != WR_SYNC_DONE) {
		size_t n = wr_sync_pull(to, b, sizeof(b));

		(void)wr_sync_feed(from, b, n);
		n = wr_sync_pull(from, b, sizeof(b));
		(void)wr_sync_feed(to, b, n);
		if (wr_sync_status(from) == WR_SYNC_FAILED) {
			*err = *wr_sync_error(from);
			return -1;
		}
		if (wr_sync_status(to) == WR_SYNC_FAILED) {
			*err = *wr_sync_error(to);
			return -1;
		}
		if (wr_sync_status(to) == WR_SYNC_READY && commit(to, NULL, how, result, err) < 0)
			return -1;
	}
	return 0;
}

json_t *
wr_work_open(struct wr_worker *w, struct wr_err *err)
{
	struct wr_sync_recv_opts o = {.mode = WR_SYNC_PUSH, .now = wr_clock_wall().s};
	WR_SCOPED(wr_json_freep) json_t *result = json_object();
	struct wr_save_rec target = WR_SAVE_REC_INIT;
	struct wr_repo *there = NULL, *here = NULL;
	struct wr_sync *from, *to;
	int rc = -1;

	if (read_save(w->args, "save_b64", &target, err) == 0 &&
	    wr_repo_open(WR_WORKER_REPO_PATH, &there, err) == 0 &&
	    wr_repo_open(WR_WORKER_REPO_PATH, &here, err) == 0) {
		from = wr_sync_send_new(there, &target, NULL);
		to = wr_sync_recv_new(here, &target, &o);
		rc = talk(from, to, w->args, result, err);
		wr_sync_free(from);
		wr_sync_free(to);
	}
	wr_repo_close(there);
	wr_repo_close(here);
	wr_save_rec_fini(&target);
	return rc < 0 ? NULL : wr_steal(&result);
}

/* ---- PUSH ---- */

struct push {
	struct wr_push_kit kit;
	struct wr_tls *tls;
	struct wr_stream *stream;
	struct wr_repo *repo;
	struct wr_msg q;
	struct wr_save_rec target;
	struct wr_sync *m;
	size_t rest_at; /* of what came behind its end */
	bool told_first;
	struct wr_buf answer;
};

static size_t
push_feed(void *ctx, const void *p, size_t len)
{
	wr_sync_feed(((struct push *)ctx)->m, p, len);
	return len;
}

static void
push_eof(void *ctx)
{
	wr_sync_eof(((struct push *)ctx)->m);
}

static size_t
push_pull(void *ctx, void *p, size_t cap)
{
	return wr_sync_pull(((struct push *)ctx)->m, p, cap);
}

static bool
push_busy(void *ctx)
{
	return wr_sync_busy(((struct push *)ctx)->m);
}

static bool
push_done(void *ctx)
{
	enum wr_sync_status s = wr_sync_status(((struct push *)ctx)->m);

	return s == WR_SYNC_DONE || s == WR_SYNC_FAILED;
}

/* Said once: it holds also if the history never gets there. */
static void
tell_first(struct push *p, int64_t time)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;

	if (!time || p->told_first)
		return;
	o = json_object();
	wr_json_time(o, "latest", time);
	wr_worker_say(o);
	p->told_first = true;
}

static void
push_progress(void *ctx)
{
	struct wr_sync_progress p;

	wr_sync_progress(((struct push *)ctx)->m, &p);
	tell_progress(NULL, &p);
	tell_first(ctx, p.first);
}

/* What the machine was fed behind its end comes first. */
static int
read_exactly(struct push *p, void *out, size_t len, struct wr_err *err)
{
	uint8_t *at = out;
	size_t rest = 0;
	const uint8_t *b = p->m ? wr_sync_rest(p->m, &rest) : NULL;

	if (rest > p->rest_at) {
		size_t n = WR_MIN(len, rest - p->rest_at);

		memcpy(at, b + p->rest_at, n);
		p->rest_at += n;
		at += n;
		len -= n;
	}
	while (len) {
		size_t n;
		int rc = wr_stream_read(p->stream, at, len, &n, err);

		if (rc < 0)
			return -1;
		if (rc == 0)
			return wr_err_set(err, WR_E_FAILED, "the other node ended without answer");
		at += n;
		len -= n;
	}
	return 0;
}

static int
read_answer(struct push *p, struct wr_err *err)
{
	uint8_t head[4];
	uint32_t len;

	if (read_exactly(p, head, sizeof(head), err) < 0)
		return -1;
	len = wr_get32be(head);
	if (len == 0 || len > WR_MSG_BYTES)
		return wr_err_set(err, WR_E_INVALID, "an answer of %" PRIu32 " bytes", len);
	wr_buf_clear(&p->answer);
	wr_buf_reserve(&p->answer, len);
	if (read_exactly(p, p->answer.p, len, err) < 0)
		return -1;
	p->answer.len = len;
	return 0;
}

/* What keeps the far side's stream from the answer is worth more than that there was none. */
static int
send_objects(struct push *p, struct wr_err *err)
{
	const struct wr_stream_machine machine = {.ctx = p,
						  .feed = push_feed,
						  .eof = push_eof,
						  .pull = push_pull,
						  .busy = push_busy,
						  .done = push_done};
	/* A fill is there to be built on, not to be found after a loss. */
	struct wr_sync_send_opts o = {.newest_first = p->q.kind == WR_MSG_PUSH && !p->q.flag};
	struct wr_err why = WR_ERR_INIT;

	if (wr_repo_open(WR_WORKER_REPO_PATH, &p->repo, err) < 0)
		return -1;
	p->m = wr_sync_send_new(p->repo, &p->target, &o);
	if (wr_stream_pump(p->stream, &machine, push_progress, NULL, err) < 0)
		return -1;
	if (wr_sync_status(p->m) == WR_SYNC_FAILED)
		why = *wr_sync_error(p->m);
	if (wr_stream_end(p->stream, err) < 0 || read_answer(p, err) < 0) {
		if (why.code != WR_E_NONE)
			*err = why;
		return -1;
	}
	return 0;
}

static int
push(struct wr_worker *w, struct push *p, struct wr_err *err)
{
	const char *name = wr_json_get_str(w->args, "name", NULL);
	struct wr_node_id node = {.inc = (uint32_t)wr_json_get_u64(w->args, "inc", 0)};
	struct wr_link_peer peer = {.node = &node, .name = name};
	struct wr_stream_limits l = WR_STREAM_LIMITS_INIT;
	struct wr_der ca[2];
	struct wr_tls_conf conf = {.ca = ca};
	uint8_t first;
	int rc;

	l.total_ms = wr_json_get_u64(w->args, "total_ms", 0);
	l.rate = wr_json_get_u64(w->args, "rate", 0);
	if (wr_json_get_u64(w->args, "idle_ms", 0))
		l.idle_ms = wr_json_get_u64(w->args, "idle_ms", 0);
	if (!wr_uuid_parse(wr_json_get_str(w->args, "node", ""), &node.id))
		return wr_err_set(err, WR_E_INVALID, "node: no id");
	if (wr_push_kit_load(WR_WORKER_SOURCE, &p->kit, err) < 0 ||
	    wr_msg_open(p->kit.envelope.p, p->kit.envelope.len, &p->q, err) < 0 ||
	    wr_save_rec_decode(p->q.save.p, p->q.save.len, &p->target, err) < 0)
		return -1;
	conf.key_pem = (struct wr_der){p->kit.key_pem.p, p->kit.key_pem.len};
	conf.cert = (struct wr_der){p->kit.cert_der.p, p->kit.cert_der.len};
	for (size_t i = 0; i < WR_ARRAY_LEN(ca); i++)
		if (p->kit.ca_der[i].len)
			ca[conf.ca_count++] =
			    (struct wr_der){p->kit.ca_der[i].p, p->kit.ca_der[i].len};
	conf.fleet = p->kit.fleet;
	conf.fleet_at = p->kit.fleet_at;
	if (wr_tls_new(&conf, &p->tls, err) < 0)
		return -1;
	rc =
	    wr_stream_open(p->tls, wr_json_get_str(w->args, "address", ""), &peer,
			   p->kit.envelope.p, p->kit.envelope.len, &l, &p->stream, &p->answer, err);
	if (rc <= 0)
		return rc;
	if (read_exactly(p, &first, 1, err) < 0)
		return -1;
	if (first == WR_STREAM_ANSWER)
		return read_answer(p, err);
	if (first != WR_STREAM_SYNC)
		return wr_err_set(err, WR_E_INVALID, "the other node begins with byte %u", first);
	return send_objects(p, err);
}

json_t *
wr_work_push(struct wr_worker *w, struct wr_err *err)
{
	struct push p = {.rest_at = 0};
	uint64_t began = wr_clock_mono_ns();
	json_t *o = NULL;

	if (push(w, &p, err) == 0) {
		WR_SCOPED(wr_freep) char *answer = wr_base64(p.answer.p, p.answer.len);

		o = json_object();
		wr_json_str(o, "answer_b64", answer);
		wr_json_u64(o, "bytes", p.stream ? wr_stream_bytes_out(p.stream) : 0);
		wr_json_real(o, "seconds", (double)(wr_clock_mono_ns() - began) / 1e9);
	}
	wr_sync_free(p.m);
	wr_repo_close(p.repo);
	wr_stream_close(p.stream);
	wr_tls_free(p.tls);
	wr_save_rec_fini(&p.target);
	wr_msg_fini(&p.q);
	wr_push_kit_fini(&p.kit);
	wr_buf_fini(&p.answer);
	return o;
}

/* ---- RECEIVE ---- */

static void
limits_of(const json_t *args, struct wr_sync_limits *l)
{
	*l = (struct wr_sync_limits){.idle_ms = wr_json_get_u64(args, "idle_ms", 0),
				     .total_ms = wr_json_get_u64(args, "total_ms", 0)};
}

/* LIMIT: who sends less than that takes a place from others. It may have to read much before it
 * says much. */
#define SLOW_MS 600000
#define SLOW_BYTES (64u << 10)

/* The starter's next line; NULL with err when it is gone or says something else. Meanwhile the far
 * side hears that we are here. */
static json_t *
command(struct wr_sync *m, int stream, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	while (b.len < COMMAND_MAX) {
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
		int n = poll(&p, 1, ALIVE_MS);
		ssize_t got;

		if (n < 0 && errno != EINTR) {
			wr_err_sys(err, "wait for the starter");
			return NULL;
		}
		if (n == 0) {
			uint8_t out[64];
			size_t len;

			wr_sync_alive(m);
			len = wr_sync_pull(m, out, sizeof(out));
			/* It would show at the commit's answer if it could not be said. */
			if (len)
				(void)wr_write_all(stream, out, len);
			continue;
		}
		if (n < 0)
			continue;
		wr_buf_reserve(&b, COMMAND_STEP);
		got = read(STDIN_FILENO, b.p + b.len, COMMAND_STEP);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		b.len += (size_t)got;
		/* One line at a time: the next one comes when we have answered. */
		if (b.p[b.len - 1] == '\n')
			return wr_json_parse(b.p, b.len - 1, err);
	}
	wr_err_set(err, WR_E_CANCELLED, "who started the transfer is gone");
	return NULL;
}

static void
say_ready(struct wr_repo *repo, bool again)
{
	struct wr_id id;
	WR_SCOPED(wr_json_freep) json_t *o = json_object();

	wr_json_bool(o, again ? "again" : "ready", true);
	wr_json_bool(o, "latest", wr_ref_read(repo, WR_SYNC_LATEST, &id, NULL) == 0);
	wr_worker_say(o);
}

static json_t *
receive(struct wr_worker *w, struct wr_repo *repo, struct wr_sync *m, struct wr_err *err)
{
	const int stream = WR_WORKER_SOURCE;
	WR_SCOPED(wr_json_freep) json_t *result = json_object();
	struct wr_sync_limits l;
	int done = 0;

	limits_of(w->args, &l);
	l.slow_ms = SLOW_MS;
	l.slow_bytes = SLOW_BYTES;
	while (!done) {
		WR_SCOPED(wr_json_freep) json_t *c = NULL;
		const json_t *go;

		if (wr_sync_pump(m, stream, stream, &l, tell_progress, NULL, NULL, err) < 0)
			return NULL;
		say_ready(repo, false);
		c = command(m, stream, err);
		if (!c)
			return NULL;
		go = wr_json_get_obj(c, "commit");
		if (!go) {
			struct wr_err why = WR_ERR_INIT;

			wr_json_get_err(wr_json_get_obj(c, "abort"), &why);
			if (why.code == WR_E_NONE)
				wr_err_set(&why, WR_E_CANCELLED, "given up");
			wr_sync_refuse(m, &why);
			(void)wr_sync_pump(m, stream, stream, &l, NULL, NULL, NULL, err);
			*err = why;
			return NULL;
		}
		done = commit(m, repo, go, result, err);
		if (done < 0)
			return NULL;
		if (!done)
			say_ready(repo, true);
	}
	/* It is installed, whether the far side still hears of it or not. */
	if (wr_sync_pump(m, stream, stream, &l, NULL, NULL, NULL, err) < 0)
		wr_json_str(result, "unheard", err->msg);
	return wr_steal(&result);
}

json_t *
wr_work_receive(struct wr_worker *w, struct wr_err *err)
{
	const json_t *packs = wr_json_get_arr(w->args, "packs");
	WR_SCOPED(wr_freep)
	const char **suspect = wr_calloc(json_array_size(packs) + 1, sizeof(*suspect));
	struct wr_sync_recv_opts o = {
	    .mode = wr_json_get_bool(w->args, "mend", false)    ? WR_SYNC_MEND
		    : wr_json_get_bool(w->args, "sides", false) ? WR_SYNC_AS_SIDES
		    : wr_json_get_bool(w->args, "fill", false)  ? WR_SYNC_AS_FILL
								: WR_SYNC_PUSH,
	    .suspect = suspect,
	    .suspect_count = json_array_size(packs),
	    .all_suspect = !packs,
	    .now = wr_clock_wall().s,
	    .max_bytes = wr_json_get_u64(w->args, "max_bytes", 0),
	    .min_free = wr_json_get_u64(w->args, "min_free", 0),
	};
	struct wr_save_rec target = WR_SAVE_REC_INIT;
	struct wr_repo *repo = NULL;
	struct wr_sync *m;
	json_t *result;

	for (size_t i = 0; i < o.suspect_count; i++)
		suspect[i] = json_string_value(json_array_get(packs, i));
	if (read_save(w->args, "save_b64", &target, err) < 0 ||
	    wr_repo_open(WR_WORKER_REPO_PATH, &repo, err) < 0) {
		wr_save_rec_fini(&target);
		return NULL;
	}
	m = wr_sync_recv_new(repo, &target, &o);
	result = receive(w, repo, m, err);
	wr_sync_free(m);
	wr_repo_close(repo);
	wr_save_rec_fini(&target);
	return result;
}
