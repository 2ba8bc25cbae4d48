/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes below the client's HTTP: a unix socket, or TLS to the HTTPS API.  What is at the other
 * end is settled before the first byte of ours goes out: the socket by where it lies, a server by
 * its certificate.
 */
#ifndef WR_WIRE_H
#define WR_WIRE_H

#include <signal.h>

#include "fleet/link/link.h"

/* LIMIT: certificates in a file of CAs. */
#define WR_WIRE_CAS 8

struct wr_wire_to {
	char *socket; /* path; owned; NULL: */
	char *host;   /* name or address without brackets; owned */
	uint16_t port;
	struct wr_buf ca[WR_WIRE_CAS]; /* DER; owned */
	size_t ca_count;
	/* Or the first bytes of the CA's fingerprint. */
	bool by_print;
	uint8_t ca_print[WR_JOIN_PRINT_LEN];
};
void wr_wire_to_fini(struct wr_wire_to *to); /* harmless twice */
/* https://HOST[:PORT][/], unix:PATH. WR_E_USAGE; what: where it was written. */
int wr_wire_to_url(struct wr_wire_to *to, const char *what, const char *url, struct wr_err *err);
/* Which CA the server's certificate has to come from: a file of certificates (PEM, or one in DER),
 * or the CA's fingerprint. */
int wr_wire_to_ca(struct wr_wire_to *to, const char *what, const char *ca, struct wr_err *err);
/* "warren" or "HOST:PORT": what stands in the header Host. */
struct wr_addr_text wr_wire_name(const struct wr_wire_to *to);

struct wr_wire;
/* stop: becomes nonzero by a signal, which ends whatever waits with WR_E_CANCELLED; may be NULL. */
int wr_wire_open(const struct wr_wire_to *to, const volatile sig_atomic_t *stop,
		 struct wr_wire **out, struct wr_err *err);
void wr_wire_close(struct wr_wire *w); /* NULL is fine */
/* 0 also if the other end has closed: it may have answered before it did. */
int wr_wire_write(struct wr_wire *w, const void *p, size_t len, struct wr_err *err);
/* Bytes read, 0 at the end, -1. */
ssize_t wr_wire_read(struct wr_wire *w, void *p, size_t len, struct wr_err *err);
/* The CA behind the server's certificate; empty with a socket. Borrowed. */
struct wr_der wr_wire_ca(const struct wr_wire *w);

#endif
