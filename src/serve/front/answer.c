/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: what goes into status, headers and body. */
#include "serve/front/front_int.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"

#define JSON_TYPE "application/json"

void
wr_answer_fini(struct wr_answer *a)
{
	free(wr_steal(&a->error));
	wr_buf_fini(&a->body);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

/* {"schema":"warren.error/1","error":OBJECT}; the object's reference is taken. */
static void
error_body(struct wr_answer *a, json_t *error)
{
	WR_SCOPED(wr_json_freep) json_t *o = wr_json_begin("warren.error/1");

	wr_json_take(o, "error", error);
	a->type = JSON_TYPE;
	wr_buf_clear(&a->body);
	wr_json_write(o, &a->body);
}

void
wr_answer_error(struct wr_answer *a, unsigned status, const struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();

	wr_json_err(o, "error", err);
	wr_answer_fini(a);
	*a = (struct wr_answer)WR_ANSWER_INIT;
	a->status = status;
	a->exit = wr_err_exit(err->code);
	error_body(a, json_incref(json_object_get(o, "error")));
}

void
wr_answer_refusal(struct wr_answer *a, const struct wr_refusal *no)
{
	wr_answer_error(a, no->status, &no->err);
	memcpy(a->allow, no->allow, sizeof(a->allow));
}

/* The error object in what control said; a new reference, NULL: it said none. */
static json_t *
error_of(const char *text, size_t len)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	WR_SCOPED(wr_json_freep) json_t *made = NULL;
	struct wr_err err = WR_ERR_INIT;
	json_t *inner;

	if (!len)
		return NULL;
	o = wr_json_parse(text, len, &err);
	inner = wr_json_get_obj(o, "error");
	if (inner)
		return json_incref(inner);
	if (json_is_object(o))
		return json_incref(o);
	/* An error that cannot be read is one all the same. */
	made = json_object();
	wr_err_set(&err, WR_E_FAILED, "%s", wr_quote(text, len).s);
	wr_json_err(made, "error", &err);
	return json_incref(json_object_get(made, "error"));
}

void
wr_answer_end(struct wr_answer *a, int exit, const char *text, size_t len)
{
	WR_SCOPED(wr_json_freep) json_t *error = error_of(text, len);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	a->exit = exit;
	a->status = 200;
	if (!error)
		return;
	wr_json_write(error, &b);
	free(a->error);
	a->error = wr_buf_detach(&b, NULL);
	/* Exit 3: done, but not all of it; then what there is counts. */
	if (exit == 3 && a->body.len)
		return;
	wr_json_get_err(error, &err);
	a->status = wr_http_status(err.code);
	error_body(a, json_incref(error));
}

char *
wr_answer_header(const char *json)
{
	for (const char *s = json; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			return wr_base64(json, strlen(json));
	return wr_strdup(json);
}

static struct MHD_Response *
body_response(struct wr_answer *a)
{
	struct MHD_Response *r;
	struct stat st;
	size_t len;
	char *p;

	if (a->fd >= 0) {
		if (fstat(a->fd, &st) < 0)
			return NULL;
		r = wr_mhd.MHD_create_response_from_fd64((uint64_t)st.st_size, a->fd);
		if (r)
			a->fd = -1; /* the library's now */
		return r;
	}
	p = wr_buf_detach(&a->body, &len);
	r = wr_mhd.MHD_create_response_from_buffer(len, p, MHD_RESPMEM_MUST_FREE);
	if (!r)
		free(p);
	return r;
}

struct MHD_Response *
wr_answer_response(struct wr_answer *a)
{
	struct MHD_Response *r = body_response(a);
	char number[16];

	if (!r)
		return NULL;
	(void)wr_mhd.MHD_add_response_header(r, "Content-Type", a->type ? a->type : JSON_TYPE);
	(void)wr_mhd.MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	if (a->allow[0])
		(void)wr_mhd.MHD_add_response_header(r, "Allow", a->allow);
	if (a->exit >= 0) {
		snprintf(number, sizeof(number), "%d", a->exit);
		(void)wr_mhd.MHD_add_response_header(r, "Warren-Exit", number);
	}
	if (a->error) {
		WR_SCOPED(wr_freep) char *text = wr_answer_header(a->error);

		(void)wr_mhd.MHD_add_response_header(r, "Warren-Error", text);
	}
	return r;
}
