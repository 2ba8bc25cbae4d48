/* SPDX-License-Identifier: Apache-2.0 */
/* A request as the front reads it: lines of method, target, type and token, then the body. */
#include "serve/front/request.h"

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next line, as a string; a NUL ends it as it would in the library. */
static char *
line(const uint8_t **p, size_t *left)
{
	const uint8_t *end = memchr(*p, '\n', *left);
	size_t len = end ? (size_t)(end - *p) : *left;
	char *s = wr_malloc(len + 1);

	memcpy(s, *p, len);
	s[len] = '\0';
	*p += len + (end != NULL);
	*left -= len + (end != NULL);
	return s;
}

static void
refused(const struct wr_refusal *no)
{
	wr_assert(no->status >= 400 && no->status < 600 && no->err.msg[0]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t empty[1];
	const uint8_t *p = data ? data : empty;
	WR_SCOPED(wr_freep) char *method = line(&p, &size);
	WR_SCOPED(wr_freep) char *target = line(&p, &size);
	WR_SCOPED(wr_freep) char *type = line(&p, &size);
	WR_SCOPED(wr_freep) char *header = line(&p, &size);
	WR_SCOPED(wr_call_fini) struct wr_call c = {0};
	WR_SCOPED(wr_call_fini) struct wr_call back = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_refusal no = {0};
	struct wr_rd r;
	char token[128];

	if (wr_request_token(header, token, sizeof(token), &no) < 0)
		refused(&no);
	if (wr_request_target(method, target, &c, &no) < 0 ||
	    wr_request_body(&c, type, p, WR_MIN(size, WR_BODY_MAX), &no) < 0) {
		refused(&no);
		return 0;
	}
	/* What the front takes, control takes. */
	wr_call_encode(&c, &b);
	r = wr_rd(b.p, b.len);
	wr_assert(wr_call_decode(&r, &back, &no.err) == 0 && r.left == 0);
	wr_assert(back.api == c.api && back.val_count == c.val_count);
	return 0;
}
