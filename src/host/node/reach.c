/* SPDX-License-Identifier: Apache-2.0 */
/* By which names and addresses others reach this node. */
#include "host/node/node.h"

#include <arpa/inet.h>

#include "base/hostport.h"
#include "base/str.h"

static bool
is_address(const char *s, bool *out_v6)
{
	struct in6_addr room;

	*out_v6 = inet_pton(AF_INET6, s, &room) == 1;
	return *out_v6 || inet_pton(AF_INET, s, &room) == 1;
}

static bool
is_wildcard(const char *host)
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_pton(AF_INET, host, &four) == 1)
		return four.s_addr == INADDR_ANY;
	return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_UNSPECIFIED(&six);
}

/* Labels of 1 to 63 letters, digits, dashes and underscores. */
static bool
is_dns_name(const char *s)
{
	static const char good[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

	for (;; s++) {
		size_t n = strspn(s, good);

		if (n == 0 || n > 63 || *s == '-')
			return false;
		s += n;
		if (!*s)
			return true;
		if (*s != '.')
			return false;
	}
}

static bool
take_host(const char *s, size_t len, char host[WR_HOST_SIZE])
{
	bool v6;

	if (len == 0 || len >= WR_HOST_SIZE)
		return false;
	memcpy(host, s, len);
	host[len] = '\0';
	return is_address(host, &v6) || is_dns_name(host);
}

bool
wr_hostport_parse(const char *s, char host[WR_HOST_SIZE], uint16_t *out_port)
{
	struct wr_hostport h;
	bool v6;

	if (wr_hostport_split(s, &h) || h.port == 0 || !take_host(h.host, h.len, host) ||
	    (h.v6 && (!is_address(host, &v6) || !v6)))
		return false;
	*out_port = h.port;
	return true;
}

bool
wr_host_next(const char **at, char host[WR_HOST_SIZE])
{
	const char *s = *at + strspn(*at, " \t"), *end = s + strcspn(s, ",");
	size_t len = (size_t)(end - s);

	while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	if (!take_host(s, len, host))
		return false;
	*at = *end ? end + 1 : end;
	return true;
}

void
wr_host_spell(const char *host, char out[WR_HOST_SIZE])
{
	struct in6_addr v6;
	struct in_addr v4;
	size_t i;

	if (inet_pton(AF_INET6, host, &v6) == 1 && inet_ntop(AF_INET6, &v6, out, WR_HOST_SIZE))
		return;
	if (inet_pton(AF_INET, host, &v4) == 1 && inet_ntop(AF_INET, &v4, out, WR_HOST_SIZE))
		return;
	for (i = 0; i < WR_HOST_SIZE - 1 && host[i]; i++)
		out[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] - 'A' + 'a' : host[i]);
	out[i] = '\0';
}

bool
wr_names_have(const char *names, const char *host)
{
	char want[WR_HOST_SIZE], is[WR_HOST_SIZE];

	wr_host_spell(host, want);
	while (wr_host_next(&names, is))
		if (!strcmp(is, want))
			return true;
	return false;
}

bool
wr_names_spell(const char *const *name, size_t count, char *out, size_t size)
{
	char host[WR_HOST_SIZE];
	bool all = true;

	*out = '\0';
	for (size_t i = 0; i < count; i++) {
		size_t used = strlen(out);

		wr_host_spell(name[i], host);
		if (wr_names_have(out, host))
			continue;
		if (used + strlen(host) + 2 > size) {
			all = false;
			continue;
		}
		snprintf(out + used, size - used, "%s%s", used ? "," : "", host);
	}
	return all;
}

/* ---- the node's own ---- */

static void
add_name(struct wr_reach *r, const char *name)
{
	for (size_t i = 0; i < r->name_count; i++)
		if (!strcmp(r->name[i], name))
			return;
	r->name = wr_reallocarray(r->name, r->name_count + 1, sizeof(*r->name));
	r->name[r->name_count++] = wr_strdup(name);
}

static void
add_listened(struct wr_reach *r, const char *hostport)
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (hostport && wr_hostport_parse(hostport, host, &port) && !is_wildcard(host))
		add_name(r, host);
}

static void
put_hostport(const struct wr_reach *r, const char *listened, char out[WR_HOST_SIZE + 8])
{
	char host[WR_HOST_SIZE];
	uint16_t port;

	if (!listened || !r->name_count || !wr_hostport_parse(listened, host, &port))
		return;
	snprintf(out, WR_HOST_SIZE + 8, strchr(r->name[0], ':') ? "[%s]:%u" : "%s:%u", r->name[0],
		 port);
}

void
wr_reach_of(const struct wr_node *n, struct wr_reach *out)
{
	const struct wr_config *c = &n->config;
	const char *at = c->listen_name ? c->listen_name : "";
	struct wr_reach r = {0};
	char host[WR_HOST_SIZE];

	while (r.name_count < WR_HOSTS_MAX && wr_host_next(&at, host))
		add_name(&r, host);
	if (!r.name_count) {
		add_listened(&r, c->listen_api);
		add_listened(&r, c->listen_peer);
	}
	if (!r.name_count && take_host(n->name, strlen(n->name), host))
		add_name(&r, host);
	put_hostport(&r, c->listen_peer, r.peer);
	put_hostport(&r, c->listen_api, r.api);
	*out = r;
}

void
wr_reach_fini(struct wr_reach *r)
{
	for (size_t i = 0; i < r->name_count; i++)
		free(r->name[i]);
	free(r->name);
	r->name = NULL;
	r->name_count = 0;
}
