/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet record: who belongs to the fleet, and whose keys count. */
#include "base/hostport.h"
#include "fleet/record/record_int.h"

#define MAGIC_FLEET "WRF1"
#define CA_BYTES (16u << 10) /* LIMIT of a certificate */
/* A node without its names and addresses, but with their lengths. */
#define NODE_BYTES (20 + 5 * 2 + WR_PUB_LEN + 4 + 1)
#define FLAGS (WR_FLEET_DRAINING | WR_FLEET_EXPERIMENTAL | WR_FLEET_REMOVED | WR_FLEET_HUB)

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

void
wr_fleet_fini(struct wr_fleet *f)
{
	free(f->node);
	free(f->ca[0]);
	free(f->ca[1]);
	*f = (struct wr_fleet){0};
}

void
wr_fleet_copy(struct wr_fleet *to, const struct wr_fleet *from)
{
	*to = *from;
	to->node = wr_calloc(from->node_count, sizeof(*to->node));
	if (from->node_count)
		memcpy(to->node, from->node, from->node_count * sizeof(*to->node));
	for (size_t i = 0; i < WR_ARRAY_LEN(to->ca); i++)
		to->ca[i] = from->ca_len[i] ? wr_memdup(from->ca[i], from->ca_len[i]) : NULL;
}

static int
cmp_node(const struct wr_node_id *a, const struct wr_node_id *b)
{
	int c = strcmp(a->id.s, b->id.s);

	return c ? c : (a->inc > b->inc) - (a->inc < b->inc);
}

/* The first node that does not stand before want. */
static size_t
lower_bound(const struct wr_fleet *f, const struct wr_node_id *want)
{
	size_t lo = 0, hi = f->node_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (cmp_node(&f->node[mid].node, want) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct wr_fleet_node *
wr_fleet_has(const struct wr_fleet *f, const struct wr_node_id *node)
{
	size_t i = lower_bound(f, node);

	return i < f->node_count && wr_node_id_eq(&f->node[i].node, node) ? &f->node[i] : NULL;
}

const struct wr_fleet_node *
wr_fleet_find(const struct wr_fleet *f, const struct wr_uuid *id)
{
	struct wr_node_id last = {*id, UINT32_MAX};
	size_t i = lower_bound(f, &last);

	/* It stands there, if its incarnation is the greatest of all, or before. */
	if (i < f->node_count && strcmp(f->node[i].node.id.s, id->s) == 0)
		return &f->node[i];
	return i && strcmp(f->node[i - 1].node.id.s, id->s) == 0 ? &f->node[i - 1] : NULL;
}

const struct wr_fleet_node *
wr_fleet_by_name(const struct wr_fleet *f, const char *name)
{
	const struct wr_fleet_node *gone = NULL;

	for (size_t i = 0; i < f->node_count; i++) {
		const struct wr_fleet_node *n = &f->node[i];

		if (strcmp(n->name, name) != 0)
			continue;
		if (!(n->flags & WR_FLEET_REMOVED))
			return n;
		gone = n;
	}
	return gone;
}

static void
put_text(struct wr_buf *out, const char *s)
{
	wr_enc_str(out, s, strlen(s));
}

static void
put_fleet(const struct wr_fleet *f, struct wr_buf *out)
{
	wr_assert(f->hub_count <= WR_HUB_KEYS_MAX && f->node_count <= UINT32_MAX);
	wr_buf_adds(out, MAGIC_FLEET);
	wr_enc_uuid(out, &f->id);
	wr_buf_add64be(out, f->seq);
	wr_buf_add64be(out, (uint64_t)f->at);
	wr_buf_add32be(out, f->replicas);
	wr_buf_add(out, f->recovery.b, sizeof(f->recovery.b));
	wr_buf_add8(out, (uint8_t)f->hub_count);
	for (size_t i = 0; i < f->hub_count; i++)
		wr_buf_add(out, f->hub[i].b, sizeof(f->hub[i].b));
	for (size_t i = 0; i < WR_ARRAY_LEN(f->ca); i++)
		wr_enc_str(out, f->ca[i], f->ca_len[i]);
	wr_buf_add32be(out, (uint32_t)f->node_count);
	for (size_t i = 0; i < f->node_count; i++) {
		const struct wr_fleet_node *n = &f->node[i];

		wr_enc_node(out, &n->node);
		put_text(out, n->name);
		put_text(out, n->dc);
		put_text(out, n->peer);
		put_text(out, n->api);
		put_text(out, n->names);
		wr_buf_add(out, n->pub.b, sizeof(n->pub.b));
		wr_buf_add32be(out, n->weight);
		wr_buf_add8(out, (uint8_t)n->flags);
	}
	wr_buf_add(out, f->signer.b, sizeof(f->signer.b));
}

void
wr_fleet_encode(const struct wr_fleet *f, struct wr_buf *out)
{
	put_fleet(f, out);
	wr_buf_add(out, f->sig.b, sizeof(f->sig.b));
}

/* A copy with its NUL; what is too long or has one inside fails. */
static void
get_text(struct wr_dec *d, const char *field, char *out, size_t size)
{
	size_t len;
	const char *s = wr_dec_str(d, field, size - 1, &len);

	if (memchr(s, 0, len)) {
		wr_dec_fail(d, field, "is binary");
		len = 0;
	}
	memcpy(out, s, len);
	out[len] = '\0';
}

/* Of a node, of a data center. */
static void
get_name(struct wr_dec *d, const char *field, char out[64])
{
	get_text(d, field, out, 64);
	if (!*out || !strchr(LOWER DIGITS, *out) || out[strspn(out, LOWER DIGITS ".-")])
		wr_dec_fail(d, field, "is '%s'; it has a-z 0-9 . - and begins with one of a-z 0-9",
			    WR_Q(out));
}

/* HOST:PORT or [V6]:PORT. Whether the host is one, whoever connects will see; here it must be fit
 * for messages, files and command lines. */
static bool
address_ok(const char *s)
{
	struct wr_hostport h;

	if (wr_hostport_split(s, &h) || h.port == 0)
		return false;
	if (h.v6)
		return strspn(h.host, DIGITS "abcdefABCDEF:.") == h.len;
	return strspn(h.host, LOWER UPPER DIGITS ".-_") == h.len && *h.host != '-';
}

static void
get_address(struct wr_dec *d, const char *field, char out[256])
{
	get_text(d, field, out, 256);
	if (*out && !address_ok(out))
		wr_dec_fail(d, field, "is '%s', not HOST:PORT", WR_Q(out));
}

/* Names and addresses, each of what may stand in them: a certificate's maker looks closer. */
static void
get_names(struct wr_dec *d, char out[WR_FLEET_NAMES])
{
	size_t len;

	get_text(d, "names", out, WR_FLEET_NAMES);
	len = strlen(out);
	if (out[strspn(out, LOWER DIGITS ".-_:,")] || *out == ',' || strstr(out, ",,") ||
	    (len && out[len - 1] == ','))
		wr_dec_fail(d, "names", "are '%s', no names with commas between", WR_Q(out));
}

static int
by_name(const void *a, const void *b)
{
	const struct wr_fleet_node *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* A name that two nodes have would lead an order to the wrong one. */
static void
check_names(struct wr_dec *d, const struct wr_fleet *f)
{
	WR_SCOPED(wr_freep)
	const struct wr_fleet_node **list = wr_calloc(f->node_count, sizeof(*list));
	size_t n = 0;

	for (size_t i = 0; i < f->node_count; i++)
		if (!(f->node[i].flags & WR_FLEET_REMOVED))
			list[n++] = &f->node[i];
	if (n)
		qsort(list, n, sizeof(*list), by_name);
	for (size_t i = 1; i < n; i++)
		if (by_name(&list[i - 1], &list[i]) == 0)
			wr_dec_fail(d, "node name", "'%s' is there twice", list[i]->name);
}

static void
get_nodes(struct wr_dec *d, struct wr_fleet *f)
{
	size_t count = wr_dec_count(d, "nodes", WR_NODES_MAX, NODE_BYTES);

	f->node = wr_calloc(count, sizeof(*f->node));
	while (f->node_count < count && !d->failed) {
		struct wr_fleet_node *n = &f->node[f->node_count++];

		n->node = wr_dec_node(d, "node", WR_DEC_MUST);
		get_name(d, "node name", n->name);
		get_name(d, "data center", n->dc);
		get_address(d, "peer address", n->peer);
		get_address(d, "api address", n->api);
		get_names(d, n->names);
		n->pub = wr_dec_pub(d, "node key", WR_DEC_MUST);
		n->weight = wr_dec32(d, "weight");
		n->flags = wr_dec_max(d, "flags", 0, FLAGS);
		if (f->node_count < 2)
			continue;
		if (cmp_node(&n[-1].node, &n->node) >= 0)
			wr_dec_fail(d, "nodes", "are not in ascending order");
		if (strcmp(n[-1].node.id.s, n->node.id.s) == 0 && !(n[-1].flags & WR_FLEET_REMOVED))
			wr_dec_fail(d, "nodes", "have an older incarnation that is not removed");
	}
	if (!d->failed)
		check_names(d, f);
}

static void
get_hubs(struct wr_dec *d, struct wr_fleet *f)
{
	f->hub_count = wr_dec_max(d, "hub keys", 1, WR_HUB_KEYS_MAX);
	for (size_t i = 0; i < f->hub_count; i++) {
		f->hub[i] = wr_dec_pub(d, "hub key", WR_DEC_MUST);
		for (size_t j = 0; j < i; j++)
			if (memcmp(f->hub[i].b, f->hub[j].b, WR_PUB_LEN) == 0)
				wr_dec_fail(d, "hub key", "is there twice");
		/* Else whatever took a hub could force, too. */
		if (memcmp(f->hub[i].b, f->recovery.b, WR_PUB_LEN) == 0)
			wr_dec_fail(d, "hub key", "is the recovery key");
	}
}

int
wr_fleet_decode(const void *p, size_t len, struct wr_fleet *out, struct wr_err *err)
{
	WR_SCOPED(wr_fleet_fini) struct wr_fleet f = {0};
	struct wr_dec d = wr_dec("fleet record", MAGIC_FLEET, p, len, WR_FLEET_BYTES, err);

	f.id = wr_dec_uuid(&d, "id", WR_DEC_MUST);
	f.seq = wr_dec64(&d, "seq");
	f.at = wr_dec_time(&d, "time");
	f.replicas = wr_dec32(&d, "replicas");
	if (f.replicas < 1 || f.replicas > WR_MEMBERS_MAX)
		wr_dec_fail(&d, "replicas", "are %" PRIu32 ", not 1 to %d", f.replicas,
			    WR_MEMBERS_MAX);
	f.recovery = wr_dec_pub(&d, "recovery key", WR_DEC_MAY);
	get_hubs(&d, &f);
	for (size_t i = 0; i < WR_ARRAY_LEN(f.ca); i++) {
		size_t n;
		const char *der = wr_dec_str(&d, "ca", CA_BYTES, &n);

		f.ca[i] = n ? wr_memdup(der, n) : NULL;
		f.ca_len[i] = n;
	}
	get_nodes(&d, &f);
	f.signer = wr_dec_pub(&d, "signer", WR_DEC_MUST);
	f.sig = wr_dec_sig(&d);
	if (wr_dec_end(&d) < 0)
		return -1;
	*out = f;
	f = (struct wr_fleet){0};
	return 0;
}

int
wr_fleet_sign(struct wr_fleet *f, const struct wr_sign_key *hub, struct wr_err *err)
{
	WR_SCOPED(wr_fleet_fini) struct wr_fleet again = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	if (f->hub_count > WR_HUB_KEYS_MAX || f->ca_len[0] > CA_BYTES || f->ca_len[1] > CA_BYTES)
		return wr_err_set(
		    err, WR_E_LIMIT,
		    "sign a fleet record: too many hub keys or too large a certificate");
	for (size_t i = 0; i < f->node_count; i++)
		if (f->node[i].flags & ~(unsigned)FLAGS)
			return wr_err_set(err, WR_E_INVALID,
					  "sign a fleet record: node '%s' has unknown flags",
					  f->node[i].name);
	f->signer = hub->pub;
	put_fleet(f, &b);
	if (wr_sign(hub, WR_DOMAIN_FLEET, b.p, b.len, &f->sig, err) < 0)
		return -1;
	wr_buf_add(&b, f->sig.b, sizeof(f->sig.b));
	if (wr_fleet_decode(b.p, b.len, &again, err) < 0)
		return wr_err_wrap(err, "sign");
	return 0;
}

bool
wr_fleet_hub_key(const struct wr_fleet *f, const struct wr_pub *k)
{
	for (size_t i = 0; i < f->hub_count; i++)
		if (memcmp(f->hub[i].b, k->b, sizeof(k->b)) == 0)
			return true;
	return false;
}

int
wr_fleet_verify(const struct wr_fleet *next, const struct wr_fleet *have, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const struct wr_fleet *judge = have ? have : next;

	if (have && strcmp(next->id.s, have->id.s) != 0)
		return wr_err_set(err, WR_E_DENIED, "fleet record: it is of fleet %s, not of %s",
				  next->id.s, have->id.s);
	if (have && next->seq <= have->seq)
		return wr_err_set(err, WR_E_DENIED,
				  "fleet record: number %" PRIu64 " is not newer than %" PRIu64,
				  next->seq, have->seq);
	if (!wr_fleet_hub_key(judge, &next->signer) &&
	    memcmp(judge->recovery.b, next->signer.b, WR_PUB_LEN) != 0)
		return wr_err_set(err, WR_E_DENIED, "fleet record: %s is no hub key of the fleet",
				  wr_pub_short(&next->signer).s);
	put_fleet(next, &b);
	return wr_signed_by(&next->signer, WR_DOMAIN_FLEET, "fleet record", &b, &next->sig, err);
}
