/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/trust/trust.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/str.h"
#include "fleet/trust/trust_int.h"
#include "sys/clock.h"

/* Clocks of hosts may differ so much before we speak of it. */
#define CLOCK_SLACK_S 300

/* ---- reading ---- */

X509 *
wr_x509_of_der(struct wr_der der, struct wr_err *err)
{
	const unsigned char *p = der.p;
	X509 *x = NULL;

	if (der.len == 0 || der.len > WR_CERT_BYTES) {
		wr_err_set(err, WR_E_INVALID, "a certificate of %zu bytes; 1 to %d are possible",
			   der.len, WR_CERT_BYTES);
		return NULL;
	}
	x = d2i_X509(NULL, &p, (long)der.len);
	if (!x) {
		wr_ossl_err(err, WR_E_INVALID, "read a certificate");
		return NULL;
	}
	if (p != (const unsigned char *)der.p + der.len) {
		wr_err_set(err, WR_E_INVALID, "there are bytes behind a certificate");
		X509_free(x);
		return NULL;
	}
	return x;
}

/* warren:FLEET, or warren:FLEET/NODE/INC. */
static bool
parse_uri(const char *s, struct wr_cert_info *out)
{
	const size_t uuid = sizeof(out->fleet.s) - 1;
	char text[sizeof(out->fleet.s)] = "";
	struct wr_err ignored = WR_ERR_INIT;
	uint64_t inc;

	s += strlen("warren:");
	memcpy(text, s, WR_MIN(strlen(s), uuid));
	if (!wr_uuid_parse(text, &out->fleet))
		return false;
	s += uuid;
	if (!*s) {
		out->node = (struct wr_node_id){{""}, 0};
		return true;
	}
	if (*s++ != '/' || strlen(s) <= uuid || s[uuid] != '/')
		return false;
	memcpy(text, s, uuid);
	s += uuid + 1;
	if (!wr_uuid_parse(text, &out->node.id) || *s == '0' ||
	    wr_parse_u64(s, &inc, &ignored) < 0 || inc > UINT32_MAX)
		return false;
	out->node.inc = (uint32_t)inc;
	return true;
}

static void
names_freep(GENERAL_NAMES **n)
{
	GENERAL_NAMES_free(*n);
}

static void
add_name(const ASN1_STRING *v, int type, struct wr_cert_info *out)
{
	const unsigned char *p = ASN1_STRING_get0_data(v);
	const size_t len = (size_t)ASN1_STRING_length(v), used = strlen(out->names);
	char host[256] = "";

	if (type == GEN_DNS && len < sizeof(host) && strlen((const char *)p) == len)
		memcpy(host, p, len + 1);
	else if (type == GEN_IPADD && (len == 4 || len == 16))
		(void)inet_ntop(len == 4 ? AF_INET : AF_INET6, p, host, sizeof(host));
	if (*host && used + strlen(host) + 2 <= sizeof(out->names))
		snprintf(out->names + used, sizeof(out->names) - used, "%s%s", used ? "," : "",
			 host);
}

/* Exactly one URI of ours. */
static bool
find_identity(const X509 *x, struct wr_cert_info *out)
{
	WR_SCOPED(names_freep)
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	size_t found = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		int type;
		const ASN1_STRING *v =
		    GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
		const char *s;

		if (type != GEN_URI) {
			add_name(v, type, out);
			continue;
		}
		s = (const char *)ASN1_STRING_get0_data(v); /* OpenSSL ends it with a NUL */
		if (strncmp(s, "warren:", 7) != 0)
			continue;
		if (strlen(s) != (size_t)ASN1_STRING_length(v) || !parse_uri(s, out))
			return false;
		found++;
	}
	return found == 1;
}

static bool
seconds_of(const ASN1_TIME *t, int64_t *out)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 &&
	       wr_utc_seconds(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			      tm.tm_sec, out);
}

int
wr_x509_info(const X509 *x, struct wr_cert_info *out, struct wr_err *err)
{
	struct wr_cert_info c = {0};
	union {
		const X509 *in;
		X509 *out;
	} cert = {x}; /* X509_check_ca only fills its cache */

	ERR_clear_error();
	if (!find_identity(x, &c))
		return wr_ossl_err(
		    err, WR_E_INVALID,
		    "the certificate is not one of a fleet: no single URI 'warren:'");
	c.ca = X509_check_ca(cert.out) == 1;
	if (c.ca != (c.node.inc == 0))
		return wr_err_set(err, WR_E_INVALID,
				  "the certificate is neither that of a node nor that of a CA");
	if (!seconds_of(X509_get0_notBefore(x), &c.not_before) ||
	    !seconds_of(X509_get0_notAfter(x), &c.not_after))
		return wr_ossl_err(err, WR_E_INVALID, "the dates of the certificate are no dates");
	if (X509_digest(x, EVP_sha256(), c.print.b, NULL) != 1)
		return wr_ossl_err(err, WR_E_FAILED, "digest a certificate");
	*out = c;
	return 0;
}

int
wr_cert_info(struct wr_der cert, struct wr_cert_info *out, struct wr_err *err)
{
	WR_SCOPED(wr_x509_freep) X509 *x = wr_x509_of_der(cert, err);

	return x ? wr_x509_info(x, out, err) : -1;
}

/* ---- judging ---- */

static void
store_freep(X509_STORE **s)
{
	X509_STORE_free(*s);
}

static void
store_ctx_freep(X509_STORE_CTX **s)
{
	X509_STORE_CTX_free(*s);
}

X509_STORE *
wr_store_of(const struct wr_der *ca, size_t ca_count, struct wr_err *err)
{
	WR_SCOPED(store_freep) X509_STORE *s = X509_STORE_new();

	if (!s) {
		wr_ossl_err(err, WR_E_FAILED, "make a list of CAs");
		return NULL;
	}
	for (size_t i = 0; i < ca_count; i++) {
		WR_SCOPED(wr_x509_freep) X509 *x = wr_x509_of_der(ca[i], err);

		if (!x) {
			wr_err_wrap(err, "certificate of a CA");
			return NULL;
		}
		if (X509_check_ca(x) != 1) {
			wr_err_set(err, WR_E_INVALID, "that is no certificate of a CA");
			return NULL;
		}
		if (X509_STORE_add_cert(s, x) != 1) {
			wr_ossl_err(err, WR_E_FAILED, "take a CA");
			return NULL;
		}
	}
	return wr_steal(&s);
}

/* at: the certificate whose time it is not, the node's or that of a CA. */
static int
refuse_date(X509 *at, const struct wr_cert_info *leaf, struct wr_err *err)
{
	const int64_t now = wr_clock_wall().s;
	struct wr_cert_info info = *leaf;
	char whose[64];

	if (at && wr_x509_info(at, &info, NULL) < 0)
		info = *leaf;
	if (info.ca)
		snprintf(whose, sizeof(whose), "of the fleet's CA");
	else
		snprintf(whose, sizeof(whose), "of node %s", leaf->node.id.s);
	if (now < info.not_before)
		wr_err_set(err, WR_E_DENIED,
			   "this host's clock says %s, the certificate %s is valid from %s on",
			   wr_fmt_utc(now).s, whose, wr_fmt_utc(info.not_before).s);
	else
		wr_err_set(err, WR_E_DENIED,
			   "this host's clock says %s, the certificate %s expired at %s",
			   wr_fmt_utc(now).s, whose, wr_fmt_utc(info.not_after).s);
	return wr_err_hint(err, "check the clock of this host; a time service keeps it right");
}

int
wr_cert_verify(struct wr_der cert, const struct wr_der *ca, size_t ca_count, struct wr_err *err)
{
	WR_SCOPED(wr_x509_freep) X509 *x = wr_x509_of_der(cert, err);
	WR_SCOPED(store_freep) X509_STORE *store = x ? wr_store_of(ca, ca_count, err) : NULL;
	WR_SCOPED(store_ctx_freep) X509_STORE_CTX *ctx = NULL;
	struct wr_cert_info info;

	if (!store || wr_x509_info(x, &info, err) < 0)
		return -1;
	if (info.ca)
		return wr_err_set(err, WR_E_DENIED, "the certificate is that of a CA");
	ctx = X509_STORE_CTX_new();
	if (!ctx || X509_STORE_CTX_init(ctx, store, x, NULL) != 1)
		return wr_ossl_err(err, WR_E_FAILED, "check a certificate");
	if (X509_verify_cert(ctx) != 1) {
		const int why = X509_STORE_CTX_get_error(ctx);

		ERR_clear_error();
		if (why == X509_V_ERR_CERT_NOT_YET_VALID || why == X509_V_ERR_CERT_HAS_EXPIRED)
			return refuse_date(X509_STORE_CTX_get_current_cert(ctx), &info, err);
		return wr_err_set(err, WR_E_DENIED, "the certificate of node %s is refused: %s",
				  info.node.id.s, X509_verify_cert_error_string(why));
	}
	return 0;
}

int
wr_cert_fits(struct wr_der cert, struct wr_der key_pem, struct wr_err *err)
{
	WR_SCOPED(wr_x509_freep) X509 *x = wr_x509_of_der(cert, err);
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *k = x ? wr_pkey_of_pem(key_pem, err) : NULL;

	if (!k)
		return -1;
	if (X509_check_private_key(x, k) != 1)
		return wr_ossl_err(err, WR_E_INVALID, "the certificate is for another key");
	return 0;
}

bool
wr_cert_renew_due(const struct wr_cert_info *c, int64_t now)
{
	return now >= c->not_before + (c->not_after - c->not_before) / 4;
}

struct wr_print_text
wr_print_text(const struct wr_digest *print)
{
	struct wr_print_text t;

	for (size_t i = 0; i < sizeof(print->b); i++)
		snprintf(t.s + 3 * i, sizeof(t.s) - 3 * i, "%02X:", print->b[i]);
	t.s[3 * sizeof(print->b) - 1] = '\0';
	return t;
}

size_t
wr_fleet_cas(const struct wr_fleet *f, struct wr_der out[2])
{
	size_t n = 0;

	for (size_t i = 0; i < WR_ARRAY_LEN(f->ca); i++)
		if (f->ca_len[i])
			out[n++] = (struct wr_der){f->ca[i], f->ca_len[i]};
	return n;
}

/* ---- expired, or a wrong clock? ---- */

static bool say(struct wr_err *err, const char *hint, const char *fmt, ...) WR_PRINTF(3, 4);
static bool
say(struct wr_err *err, const char *hint, const char *fmt, ...)
{
	char text[sizeof(err->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	wr_err_clear(err);
	wr_err_set(err, WR_E_DENIED, "%s", text);
	wr_err_hint(err, "%s", hint);
	return true;
}

#define SET_OUR_CLOCK "set the clock of this host; a time service keeps it right"
#define RENEW                                                                               \
	"'warren serve' renews it by itself as long as it reaches a hub; if that is over, " \
	"'warren join' with a new token of 'warren node add'"

/* Two clocks that we know, and they differ. */
static bool
say_clocks(const struct wr_cert_case *c, struct wr_err *err)
{
	if (c->fleet_at && c->its_now + CLOCK_SLACK_S < c->fleet_at)
		return say(err, "set the clock of that host",
			   "the clock of '%s' says %s, but the fleet record was signed at %s",
			   WR_Q(c->peer), wr_fmt_utc(c->its_now).s, wr_fmt_utc(c->fleet_at).s);
	return say(err, "set the clock that is wrong; certificates are judged by it",
		   "this host's clock says %s, that of '%s' says %s", wr_fmt_utc(c->now).s,
		   WR_Q(c->peer), wr_fmt_utc(c->its_now).s);
}

bool
wr_cert_explain(const struct wr_cert_case *c, struct wr_err *err)
{
	const bool own_early = c->own && c->now < c->own->not_before;
	const bool own_late = c->own && c->now > c->own->not_after;
	const bool its_early = c->its && c->now < c->its->not_before;
	const bool its_late = c->its && c->now > c->its->not_after;
	const int64_t apart = c->its_now > c->now ? c->its_now - c->now : c->now - c->its_now;

	/* What was made cannot have been made later than now. */
	if (own_early)
		return say(err, SET_OUR_CLOCK,
			   "this host's clock says %s, but its own certificate was made for the "
			   "time from %s on",
			   wr_fmt_utc(c->now).s, wr_fmt_utc(c->own->not_before).s);
	if (c->fleet_at && c->now + CLOCK_SLACK_S < c->fleet_at)
		return say(err, SET_OUR_CLOCK,
			   "this host's clock says %s, but the fleet record was signed at %s",
			   wr_fmt_utc(c->now).s, wr_fmt_utc(c->fleet_at).s);
	if (!own_late && !its_early && !its_late && !c->it_says_expired && !c->it_says_bad)
		return false;
	if (c->clock_known && apart > CLOCK_SLACK_S)
		return say_clocks(c, err);
	if (own_late && its_late)
		return say(
		    err,
		    "if that clock is wrong, set it; otherwise both hosts need certificates: "
		    "'warren join' with new tokens of 'warren node add'",
		    "by this host's clock (%s) its own certificate expired at %s and that of "
		    "'%s' at %s",
		    wr_fmt_utc(c->now).s, wr_fmt_utc(c->own->not_after).s, WR_Q(c->peer),
		    wr_fmt_utc(c->its->not_after).s);
	if (its_late)
		return say(err, "on that host: " RENEW,
			   "the certificate of '%s' expired at %s (this host's clock says %s)",
			   WR_Q(c->peer), wr_fmt_utc(c->its->not_after).s, wr_fmt_utc(c->now).s);
	if (own_late)
		return say(err, RENEW, "this host's certificate expired at %s (its clock says %s)",
			   wr_fmt_utc(c->own->not_after).s, wr_fmt_utc(c->now).s);
	if (its_early)
		return say(
		    err, "set the clock of this host, or that of the hub which made it",
		    "this host's clock says %s, but the certificate of '%s' was made for the "
		    "time from %s on",
		    wr_fmt_utc(c->now).s, WR_Q(c->peer), wr_fmt_utc(c->its->not_before).s);
	if (c->own && c->it_says_expired)
		return say(err, "one of the two clocks is wrong: compare and set them",
			   "'%s' says that this host's certificate has expired, but by this host's "
			   "clock (%s) it is good until %s",
			   WR_Q(c->peer), wr_fmt_utc(c->now).s, wr_fmt_utc(c->own->not_after).s);
	if (c->own && c->it_says_bad)
		return say(err, "compare the clocks of both hosts and set the wrong one",
			   "'%s' refuses this host's certificate; it is good from %s on, and the "
			   "clock there may be behind",
			   WR_Q(c->peer), wr_fmt_utc(c->own->not_before).s);
	return false;
}
