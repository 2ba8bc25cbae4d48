/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections between nodes: TLS 1.3 and nothing older, a certificate of the fleet's CA on both
 * sides, ALPN "warren-peer/1"; frames over them; deadlines on everything.  And connections of the
 * HTTPS API, where only the server shows a certificate.  Through OpenSSL's libssl; no files are
 * read, keys and certificates come as bytes.
 *
 * No session is ever resumed: a new handshake costs about half a millisecond of work on each
 * side and no round trip more, and each one checks the certificate.
 *
 * A process that only has a descriptor, a deadline and one connection uses the waiting calls; a
 * loop over many uses the others.  A link belongs to one thread at a time, a context to all.
 */
#ifndef WR_LINK_H
#define WR_LINK_H

#include <sys/socket.h>

#include "fleet/trust/trust.h"

/* ---- addresses: "host:port", "10.0.0.1:port", "[v6]:port" ---- */

struct wr_addr {
	struct sockaddr_storage ss;
	socklen_t len;
};
struct wr_addr_text {
	char s[264];
};
/* LIMIT: addresses tried for one name. */
#define WR_ADDRS_MAX 8

/* Host without brackets, port 0 .. 65535. WR_E_INVALID. Pure. */
int wr_addr_parse(const char *s, char out_host[256], uint16_t *out_port, struct wr_err *err);
/* Brackets where the host is an IPv6 address. */
struct wr_addr_text wr_addr_format(const char *host, uint16_t port);
/* Numeric addresses at once; names through the system's resolver, in a thread, until the deadline:
 * a sandbox may keep its files from it, so hand numeric ones in there. WR_E_NOT_FOUND. */
int wr_addr_resolve(const char *s, uint64_t deadline_ns, struct wr_addr out[WR_ADDRS_MAX],
		    size_t *out_count, struct wr_err *err);
struct wr_addr_text wr_addr_text(const struct wr_addr *a);
/* Only reachable from this host? */
bool wr_addr_is_loopback(const struct wr_addr *a);

/* Listening TCP socket: non-blocking, close-on-exec, an IPv6 one takes IPv6 only. Port 0: any.
 * WR_E_BUSY: someone listens there; WR_E_INVALID: no address of this host; WR_E_DENIED. */
int wr_link_listen(const char *addr, struct wr_err *err);
/* Where it listens. */
int wr_link_local(int fd, struct wr_addr *out, struct wr_err *err);
/* Next connection of a listening socket: non-blocking, close-on-exec; -1 with WR_E_BUSY: none there
 * now; WR_E_LIMIT: no descriptor left, let some time pass. out_from may be NULL. */
int wr_link_accept(int listen_fd, struct wr_addr *out_from, struct wr_err *err);

/* ---- what a connection is made with ---- */

struct wr_tls;
struct wr_tls_conf {
	struct wr_der key_pem, cert; /* ours */
	const struct wr_der *ca;     /* of the fleet: in use, planned; each is as good */
	size_t ca_count;
	struct wr_uuid fleet;
	int64_t fleet_at; /* when the fleet record was signed: tells a wrong clock; 0: unknown */
};
/* Between nodes, both directions. The bytes are copied. WR_E_INVALID. */
int wr_tls_new(const struct wr_tls_conf *c, struct wr_tls **out, struct wr_err *err);
/* For the server of the HTTPS API: clients show no certificate; the CA that signed ours is sent
 * along, for a host that is about to join and knows but its fingerprint. ALPN "http/1.1". */
int wr_tls_https_new(const struct wr_tls_conf *c, struct wr_tls **out, struct wr_err *err);
/* Links made with it stay good. NULL is fine. */
void wr_tls_free(struct wr_tls *t);

/* ---- a connection ---- */

struct wr_link;

/* Whom we want at the other end. */
struct wr_link_peer {
	const struct wr_node_id *node; /* NULL: any node of the fleet; inc 0: any incarnation */
	const char *name;              /* for messages; NULL: the address */
	bool clock_known;              /* an earlier HELLO told: */
	int64_t clock_ahead_s;         /* its clock minus ours */
};
#define WR_LINK_PEER_INIT \
	{                 \
		0         \
	}

/* Over an accepted socket; takes fd, also on failure. Then wr_link_handshake. */
int wr_link_serve(struct wr_tls *t, int fd, struct wr_link **out, struct wr_err *err);
/* Begin to connect; then wr_link_handshake. */
int wr_link_begin(struct wr_tls *t, const struct wr_addr *to, const struct wr_link_peer *peer,
		  struct wr_link **out, struct wr_err *err);
/*
 * Says goodbye if that needs no waiting. NULL is fine. What the other side has sent and nobody read
 * may cost it our last bytes; where these matter: wr_link_goodbye, read until END, close.
 */
void wr_link_close(struct wr_link *l);

enum wr_link_io {
	WR_LINK_FAILED = -1, /* *err says why; only wr_link_close is left */
	WR_LINK_WAIT = 0,    /* poll for wr_link_wants, then call again */
	WR_LINK_OK = 1,
	WR_LINK_END = 2 /* the other side said goodbye; nothing was lost */
};
/*
 * OK: the other end is who it has to be. For a client that is before the server has looked at *its*
 * certificate: a refusal comes with the first read, as WR_E_DENIED.
 */
enum wr_link_io wr_link_handshake(struct wr_link *l, struct wr_err *err);
/* Some bytes. Poll only after WAIT: bytes may lie in the link that no poll tells of. */
enum wr_link_io wr_link_read(struct wr_link *l, void *p, size_t len, size_t *out_n,
			     struct wr_err *err);
enum wr_link_io wr_link_write(struct wr_link *l, const void *p, size_t len, size_t *out_n,
			      struct wr_err *err);
/* Append what is there to *in until that holds max bytes (OK), nothing more is there (WAIT; bytes
 * may have come), END or FAILED. */
enum wr_link_io wr_link_pull(struct wr_link *l, struct wr_buf *in, size_t max, struct wr_err *err);
/* Write out[*off..]; all gone: OK, and *out is empty again, *off 0. */
enum wr_link_io wr_link_push(struct wr_link *l, struct wr_buf *out, size_t *off,
			     struct wr_err *err);
/* OK: nothing more will be written, the other side will read END. Reading goes on. */
enum wr_link_io wr_link_goodbye(struct wr_link *l, struct wr_err *err);
/* poll(2) events that those of handshake/reading and writing that gave WAIT wait for. */
short wr_link_wants(const struct wr_link *l, bool reading, bool writing);
int wr_link_fd(const struct wr_link *l); /* borrowed */
/* Its certificate: believed after the handshake was OK; after a failure what it showed. NULL: none.
 */
const struct wr_cert_info *wr_link_cert(const struct wr_link *l);
/* Certificate of the CA that vouches for it, after the handshake; empty: none. Borrowed. */
struct wr_der wr_link_ca(const struct wr_link *l);
/* Bytes that went over the wire, handshake and all. */
uint64_t wr_link_bytes_in(const struct wr_link *l);
uint64_t wr_link_bytes_out(const struct wr_link *l);

/* ---- frames: u32 length of the payload, u8 type, payload ---- */

enum wr_frame_type {
	WR_FRAME_MSG = 1,    /* an envelope: a request */
	WR_FRAME_MSG_REPLY,  /* its answer; answers come in the order of requests */
	WR_FRAME_STREAM,     /* an envelope with a PUSH */
	WR_FRAME_STREAM_GO,  /* from now on the connection is a stream of: */
	WR_FRAME_DATA,       /* opaque bytes, both ways */
	WR_FRAME_STREAM_END, /* nothing more from this side */
};
/* LIMIT: of a payload. */
#define WR_FRAME_MAX (1u << 20)
#define WR_FRAME_HEAD 5
/* Payload of a full DATA frame: with its head it fills four records of TLS. */
#define WR_FRAME_DATA_LEN ((64u << 10) - WR_FRAME_HEAD)

void wr_frame_head(uint8_t out[WR_FRAME_HEAD], enum wr_frame_type type, size_t len);
void wr_frame_add(struct wr_buf *out, enum wr_frame_type type, const void *p, size_t len);
struct wr_frame {
	enum wr_frame_type type;
	const uint8_t *p; /* borrowed from the input */
	size_t len;
};
/* First frame of the bytes. 1: *out, and *out_used bytes are done; 0: not whole yet; -1 with
 * WR_E_INVALID: longer than allowed, or of no known type. Pure. */
int wr_frame_next(const void *p, size_t len, struct wr_frame *out, size_t *out_used,
		  struct wr_err *err);

/* ---- waiting calls, for processes with one connection ---- */

/* A point of wr_clock_mono_ns, from now. */
uint64_t wr_deadline_ms(uint64_t ms);
/*
 * When the deadline has passed, or no byte moved for the link's idle time, all of these fail with
 * WR_E_SYS and sys_errno ETIMEDOUT.
 */
/* Resolve, connect (every address of a name gets its share of the time), handshake. */
int wr_link_connect(struct wr_tls *t, const char *addr, const struct wr_link_peer *peer,
		    uint64_t deadline_ns, struct wr_link **out, struct wr_err *err);
/* Finish the handshake of wr_link_serve. */
int wr_link_greet(struct wr_link *l, uint64_t deadline_ns, struct wr_err *err);
void wr_link_set_idle(struct wr_link *l, uint64_t ms); /* 0, as at first: the deadline alone */
int wr_link_send(struct wr_link *l, const void *p, size_t len, uint64_t deadline_ns,
		 struct wr_err *err);
/* At least one byte: 1; 0: the other side said goodbye. */
int wr_link_recv(struct wr_link *l, void *p, size_t len, size_t *out_n, uint64_t deadline_ns,
		 struct wr_err *err);
int wr_link_frame_send(struct wr_link *l, enum wr_frame_type type, const void *p, size_t len,
		       uint64_t deadline_ns, struct wr_err *err);
/* *out replaced by the payload: 1; 0: goodbye between two frames. Bytes behind the frame stay in
 * the link for the next call; do not mix with wr_link_recv or wr_link_read. */
int wr_link_frame_recv(struct wr_link *l, enum wr_frame_type *out_type, struct wr_buf *out,
		       uint64_t deadline_ns, struct wr_err *err);
/* Say goodbye and wait until the other side has: it has read all. What comes is thrown away. Then
 * wr_link_close. */
int wr_link_finish(struct wr_link *l, uint64_t deadline_ns, struct wr_err *err);

/* ---- the client of the HTTPS API ---- */

struct wr_https {
	const char *host; /* name or IP address without brackets; the certificate has to name it */
	uint16_t port;
	const struct wr_der *ca; /* the server's has to come from one of these */
	size_t ca_count;
	/* Or, of a host about to join: from the CA that the server sends along and whose
	 * fingerprint begins so (wr_join_token.ca_print); wr_link_ca gives it. NULL: not so. */
	const uint8_t *ca_print;
	int64_t fleet_at; /* as in wr_tls_conf */
};
int wr_https_connect(const struct wr_https *h, uint64_t deadline_ns, struct wr_link **out,
		     struct wr_err *err);

/* ---- a rate limit; pure ---- */

struct wr_flow {
	uint64_t per_s;   /* bytes; 0: no limit */
	uint64_t free_ns; /* when all that went so far is paid for; begins at 0 */
};
/* Account for bytes that go now. Gives how many ns to wait before any more go: none, while what was
 * not used of the last quarter of a second lasts. */
uint64_t wr_flow_take(struct wr_flow *f, uint64_t bytes, uint64_t now_ns);

#endif
