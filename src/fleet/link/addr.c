/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/link/link.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/hostport.h"
#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* ---- text ---- */

static bool
is_host(const struct wr_hostport *h)
{
	static const char name[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
	static const char ip[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:%";

	return h->len <= 253 && strspn(h->host, h->v6 ? ip : name) >= h->len &&
	       (!h->v6 || memchr(h->host, ':', h->len));
}

int
wr_addr_parse(const char *s, char out_host[256], uint16_t *out_port, struct wr_err *err)
{
	struct wr_hostport h;
	const char *why = wr_hostport_split(s, &h);

	if (!why && !is_host(&h))
		why = "that is no host";
	if (why) {
		wr_err_set(err, WR_E_INVALID, "'%s' is no address: %s", WR_Q(s), why);
		return wr_err_hint(err, "write HOST:PORT or [IPV6]:PORT");
	}
	memcpy(out_host, h.host, h.len);
	out_host[h.len] = '\0';
	*out_port = h.port;
	return 0;
}

struct wr_addr_text
wr_addr_format(const char *host, uint16_t port)
{
	const bool v6 = strchr(host, ':');
	struct wr_addr_text t;

	snprintf(t.s, sizeof(t.s), "%s%.253s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
	return t;
}

struct wr_addr_text
wr_addr_text(const struct wr_addr *a)
{
	char host[NI_MAXHOST], port[16];

	if (getnameinfo((const struct sockaddr *)&a->ss, a->len, host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return (struct wr_addr_text){"?"};
	return wr_addr_format(host, (uint16_t)strtoul(port, NULL, 10));
}

bool
wr_addr_is_loopback(const struct wr_addr *a)
{
	union {
		struct sockaddr_storage ss;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} u = {a->ss};

	if (u.ss.ss_family == AF_INET)
		return ntohl(u.in.sin_addr.s_addr) >> 24 == 127;
	if (u.ss.ss_family != AF_INET6)
		return false;
	return IN6_IS_ADDR_LOOPBACK(&u.in6.sin6_addr) ||
	       (IN6_IS_ADDR_V4MAPPED(&u.in6.sin6_addr) && u.in6.sin6_addr.s6_addr[12] == 127);
}

/* ---- names ---- */

struct answer {
	int rc; /* EAI_ */
	int sys;
	struct wr_addr addr[WR_ADDRS_MAX];
	size_t count;
};

static void
look_up(const char *host, uint16_t port, int flags, struct answer *a)
{
	const struct addrinfo want = {
	    .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	char text[8];

	snprintf(text, sizeof(text), "%u", port);
	a->count = 0;
	a->rc = getaddrinfo(host, text, &want, &list);
	a->sys = errno;
	if (a->rc != 0)
		return;
	for (struct addrinfo *i = list; i && a->count < WR_ADDRS_MAX; i = i->ai_next) {
		struct wr_addr *to = &a->addr[a->count];

		if (i->ai_addrlen > sizeof(to->ss))
			continue;
		memcpy(&to->ss, i->ai_addr, i->ai_addrlen);
		to->len = i->ai_addrlen;
		a->count++;
	}
	freeaddrinfo(list);
}

/* A question that its asker may leave alone: the last of the two releases it. */
struct question {
	pthread_mutex_t lock;
	pthread_cond_t change;
	unsigned users; /* these two are guarded by lock */
	bool done;
	char host[256];
	uint16_t port;
	struct answer a; /* the thread's until done */
};

static void
leave(struct question *q)
{
	const bool last = --q->users == 0;

	pthread_mutex_unlock(&q->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->change);
	free(q);
}

static void *
answer_it(void *arg)
{
	struct question *q = arg;

	look_up(q->host, q->port, AI_ADDRCONFIG, &q->a);
	pthread_mutex_lock(&q->lock);
	q->done = true;
	pthread_cond_signal(&q->change);
	leave(q);
	return NULL;
}

static int
start(struct question *q)
{
	pthread_attr_t a;
	pthread_t thread;
	int rc;

	pthread_attr_init(&a);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &a, answer_it, q);
	pthread_attr_destroy(&a);
	return rc;
}

static int
ask(const char *host, uint16_t port, uint64_t deadline_ns, struct answer *out, struct wr_err *err)
{
	const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
				       .tv_nsec = (long)(deadline_ns % 1000000000u)};
	struct question *q = wr_calloc(1, sizeof(*q));
	pthread_condattr_t mono;
	bool done;
	int rc;

	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&q->change, &mono);
	pthread_condattr_destroy(&mono);
	pthread_mutex_init(&q->lock, NULL);
	snprintf(q->host, sizeof(q->host), "%s", host);
	q->port = port;
	q->users = 2;
	pthread_mutex_lock(&q->lock);
	rc = start(q);
	if (rc != 0) {
		q->users = 1;
		leave(q);
		errno = rc;
		return wr_err_sys(err, "start a thread");
	}
	while (!q->done && pthread_cond_timedwait(&q->change, &q->lock, &until) == 0)
		;
	done = q->done;
	if (done)
		*out = q->a;
	leave(q);
	if (done)
		return 0;
	errno = ETIMEDOUT;
	return wr_err_sys(err, "look up '%s'", WR_Q(host));
}

int
wr_addr_resolve(const char *s, uint64_t deadline_ns, struct wr_addr out[WR_ADDRS_MAX],
		size_t *out_count, struct wr_err *err)
{
	struct answer a = {0};
	char host[256];
	uint16_t port;

	if (wr_addr_parse(s, host, &port, err) < 0)
		return -1;
	look_up(host, port, AI_NUMERICHOST, &a);
	if (a.rc != 0 && ask(host, port, deadline_ns, &a, err) < 0)
		return -1;
	if (a.rc == EAI_SYSTEM) {
		errno = a.sys;
		return wr_err_sys(err, "look up '%s'", WR_Q(host));
	}
	if (a.rc != 0 || a.count == 0)
		return wr_err_set(err, a.rc == EAI_AGAIN ? WR_E_FAILED : WR_E_NOT_FOUND,
				  "look up '%s': %s", WR_Q(host),
				  a.rc ? gai_strerror(a.rc) : "it has no address");
	memcpy(out, a.addr, a.count * sizeof(*out));
	*out_count = a.count;
	return 0;
}

/* ---- listening ---- */

static int
refused(struct wr_err *err, const char *addr)
{
	const int e = errno;

	wr_err_sys(err, "listen at '%s'", WR_Q(addr));
	if (e == EADDRINUSE) {
		wr_err_recode(err, WR_E_BUSY);
		wr_err_hint(err, "'ss -ltnp' tells which process listens there");
	} else if (e == EADDRNOTAVAIL) {
		wr_err_recode(err, WR_E_INVALID);
		wr_err_hint(err, "'ip addr' tells which addresses this host has");
	} else if (e == EACCES) {
		wr_err_hint(err, "ports below 1024 are for root");
	}
	return -1;
}

int
wr_link_listen(const char *addr, struct wr_err *err)
{
	struct wr_addr a[WR_ADDRS_MAX];
	WR_SCOPED(wr_closep) int fd = -1;
	const int on = 1;
	size_t count;
	int out;

	if (wr_addr_resolve(addr, wr_deadline_ms(10000), a, &count, err) < 0)
		return wr_err_wrap(err, "listen at '%s'", WR_Q(addr));
	fd = socket(a[0].ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (a[0].ss.ss_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, (const struct sockaddr *)&a[0].ss, a[0].len) < 0 || listen(fd, SOMAXCONN) < 0)
		return refused(err, addr);
	out = fd;
	fd = -1;
	return out;
}

int
wr_link_local(int fd, struct wr_addr *out, struct wr_err *err)
{
	struct wr_addr a = {.len = sizeof(a.ss)};

	if (getsockname(fd, (struct sockaddr *)&a.ss, &a.len) < 0)
		return wr_err_sys(err, "ask where a socket listens");
	*out = a;
	return 0;
}

int
wr_link_accept(int listen_fd, struct wr_addr *out_from, struct wr_err *err)
{
	struct wr_addr a;
	int fd;

	do {
		a.len = sizeof(a.ss);
		fd = accept4(listen_fd, (struct sockaddr *)&a.ss, &a.len,
			     SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return wr_err_set(err, WR_E_BUSY, "nobody wants to connect now");
	if (fd < 0) {
		const bool full =
		    errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;

		wr_err_sys(err, "accept a connection");
		return full ? wr_err_recode(err, WR_E_LIMIT) : -1;
	}
	if (out_from)
		*out_from = a;
	return fd;
}
