/* SPDX-License-Identifier: Apache-2.0 */
/* A CA for tests. */
#ifndef WR_TEST_TRUST_H
#define WR_TEST_TRUST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fleet/trust/trust.h"
#include "sys/test_dir.h"

static inline struct wr_der
der(const struct wr_buf *b)
{
	return (struct wr_der){b->p, b->len};
}

static inline struct wr_ca *
new_ca(const struct dir *d, const char *name, const struct wr_uuid *id)
{
	struct wr_err e = WR_ERR_INIT;
	struct wr_ca *ca = NULL;

	if (wr_ca_new(d->fd, name, id, &e) < 0 || wr_ca_load(d->fd, name, &ca, &e) < 0)
		fail_msg("%s", e.msg);
	return ca;
}

#endif
