/* SPDX-License-Identifier: Apache-2.0 */
/* A link from inside, for tls.c (never waits) and wait.c (does). */
#ifndef WR_LINK_INT_H
#define WR_LINK_INT_H

#include <openssl/ssl.h>

#include "fleet/link/link.h"

struct wr_link {
	struct wr_tls *t; /* shared */
	SSL *ssl;
	int fd;
	enum { LINK_CONNECTING, LINK_GREETING, LINK_OPEN, LINK_BROKEN } state;
	bool server, eof, goodbye;
	short wait_read, wait_write; /* poll events after a WAIT */
	uint64_t in, out;            /* bytes of the socket */

	/* who it has to be */
	bool any_node;
	struct wr_node_id node;
	struct wr_addr_text name; /* for messages */
	bool clock_known;
	int64_t clock_ahead_s;
	bool has_print;
	uint8_t ca_print[WR_JOIN_PRINT_LEN];

	/* who it is */
	bool has_its;
	struct wr_cert_info its;
	struct wr_buf ca;        /* DER */
	STACK_OF(X509) * pinned; /* owned list of a borrowed certificate, during the handshake */
	const char *refusal;     /* NULL: its certificate was not refused */
	bool refused_date;       /* because of a date */

	/* waiting calls */
	uint64_t idle_ms, quiet_ns, seen;
	struct wr_buf frames;
	size_t frames_used;
};

/* For a connection to a server of the HTTPS API. */
int wr_tls_https_client(const struct wr_https *h, struct wr_tls **out, struct wr_err *err);
int wr_link_begin_https(struct wr_tls *t, const struct wr_addr *to, const struct wr_https *h,
			struct wr_link **out, struct wr_err *err);

#endif
