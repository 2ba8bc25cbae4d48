/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a PUSH worker is given beside its request: the node's TLS key and certificates, and the
 * envelope that its starter signed.  One blob in a memfd; the worker has no files of its own.
 */
#ifndef WR_PUSHKIT_H
#define WR_PUSHKIT_H

#include "base/buf.h"
#include "model/uuid.h"

struct wr_push_kit {
	struct wr_buf key_pem, cert_der;
	struct wr_buf ca_der[2]; /* the second may be empty */
	struct wr_uuid fleet;
	int64_t fleet_at;
	struct wr_buf envelope;
};
void wr_push_kit_fini(struct wr_push_kit *k); /* wipes the key; harmless twice */
/* A memfd with it, ready to be a task's source; -1 with err. */
int wr_push_kit_store(const struct wr_push_kit *k, struct wr_err *err);
int wr_push_kit_load(int fd, struct wr_push_kit *out, struct wr_err *err);

#endif
