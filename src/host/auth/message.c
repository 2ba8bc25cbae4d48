/* SPDX-License-Identifier: Apache-2.0 */
/* Envelopes from here, and those that came. */
#include "host/auth/auth.h"

#include <stdatomic.h>

/* Of this process, as its nonce is. */
static atomic_uint_least64_t last_request;

void
wr_auth_msg(const struct wr_auth *a, struct wr_msg *m, const struct wr_uuid *to, uint64_t to_nonce,
	    enum wr_msg_kind kind)
{
	*m = (struct wr_msg)WR_MSG_INIT;
	m->from = a->self;
	m->to = *to;
	m->to_nonce = to_nonce;
	m->nonce = a->nonce;
	m->counter = a->counter;
	m->kind = kind;
	/* Rising, so that who gets them knows what was here, for ever, by one number. */
	m->request = atomic_fetch_add(&last_request, 1) + 1;
}

int
wr_auth_seal(const struct wr_auth *a, const struct wr_msg *m, struct wr_buf *out,
	     struct wr_err *err)
{
	return wr_msg_seal(m, &a->key, out, err);
}

int
wr_auth_open_msg(const struct wr_auth *a, const void *p, size_t len, struct wr_msg *out,
		 struct wr_err *err)
{
	struct wr_msg m = WR_MSG_INIT;

	if (wr_msg_open(p, len, &m, err) < 0)
		return -1;
	if (strcmp(m.to.s, a->self.id.s) != 0) {
		wr_err_set(err, WR_E_DENIED, "the message is for node %s, this is node %s", m.to.s,
			   a->self.id.s);
		wr_msg_fini(&m);
		return -1;
	}
	if (wr_msg_verify(p, len, &m, &a->fleet, err) < 0) {
		wr_msg_fini(&m);
		return -1;
	}
	*out = m;
	return 0;
}
