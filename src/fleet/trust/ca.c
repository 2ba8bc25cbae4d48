/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/trust/trust.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "fleet/trust/trust_int.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define DAY 86400
/* LIMIT: key and certificate. */
#define CA_BYTES (WR_TLS_KEY_BYTES + 2 * WR_CERT_BYTES)

struct wr_ca {
	EVP_PKEY *key;
	X509 *cert;
	struct wr_buf der;
	struct wr_cert_info info;
};

/* ---- what both kinds of certificates have ---- */

static int
add_ext(X509 *x, const X509 *issuer, int nid, const char *value, struct wr_err *err)
{
	union {
		const X509 *in;
		X509 *out;
	} from = {issuer}; /* the context only reads it */
	X509V3_CTX ctx;
	X509_EXTENSION *e;
	int ok;

	X509V3_set_ctx(&ctx, from.out, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok ? 0 : wr_ossl_err(err, WR_E_FAILED, "add '%s'", OBJ_nid2sn(nid));
}

/* Takes v, also on failure. */
static int
add_name(GENERAL_NAMES *names, int type, ASN1_STRING *v, struct wr_err *err)
{
	GENERAL_NAME *g = v ? GENERAL_NAME_new() : NULL;

	if (g) {
		GENERAL_NAME_set0_value(g, type, v);
		if (sk_GENERAL_NAME_push(names, g) > 0)
			return 0;
		GENERAL_NAME_free(g);
	} else {
		ASN1_STRING_free(v);
	}
	return wr_ossl_err(err, WR_E_FAILED, "add a name");
}

static int
add_string(GENERAL_NAMES *names, int type, const void *p, size_t len, struct wr_err *err)
{
	ASN1_STRING *v =
	    ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);

	if (v && ASN1_STRING_set(v, p, (int)len) != 1) {
		ASN1_STRING_free(v);
		v = NULL;
	}
	return add_name(names, type, v, err);
}

static bool
is_dns_name(const char *s)
{
	const size_t n = strlen(s);

	return n >= 1 && n <= 253 && s[0] != '.' && s[0] != '-' && !strstr(s, "..") &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

/* A listener's: an IP address or a DNS name. */
static int
add_host(GENERAL_NAMES *names, const char *s, struct wr_err *err)
{
	uint8_t ip[16];

	if (inet_pton(AF_INET, s, ip) == 1)
		return add_string(names, GEN_IPADD, ip, 4, err);
	if (inet_pton(AF_INET6, s, ip) == 1)
		return add_string(names, GEN_IPADD, ip, 16, err);
	if (!is_dns_name(s))
		return wr_err_set(err, WR_E_INVALID,
				  "'%s' is neither an IP address nor a name of a host", WR_Q(s));
	return add_string(names, GEN_DNS, s, strlen(s), err);
}

static void
names_freep(GENERAL_NAMES **n)
{
	GENERAL_NAMES_free(*n);
}

static int
add_names(X509 *x, const char *uri, const char *const *host, size_t count, struct wr_err *err)
{
	WR_SCOPED(names_freep) GENERAL_NAMES *names = GENERAL_NAMES_new();

	if (!names)
		return wr_ossl_err(err, WR_E_FAILED, "make a list of names");
	if (add_string(names, GEN_URI, uri, strlen(uri), err) < 0)
		return -1;
	for (size_t i = 0; i < count; i++)
		if (add_host(names, host[i], err) < 0)
			return -1;
	if (X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) != 1)
		return wr_ossl_err(err, WR_E_FAILED, "add names");
	return 0;
}

static int
set_serial(X509 *x)
{
	ASN1_INTEGER *at = X509_get_serialNumber(x);
	uint8_t b[20];
	BIGNUM *n = NULL;
	int ok;

	if (RAND_bytes(b, sizeof(b)) != 1)
		return 0;
	b[0] = (uint8_t)((b[0] & 0x7f) | 0x40); /* positive, always 20 bytes */
	n = BN_bin2bn(b, sizeof(b), NULL);
	ok = n && BN_to_ASN1_INTEGER(n, at);
	BN_free(n);
	return ok;
}

static int
set_name(X509_NAME *n, const char *field, const char *value)
{
	return X509_NAME_add_entry_by_txt(n, field, MBSTRING_ASC, (const unsigned char *)value, -1,
					  -1, 0);
}

/* Version, serial number, life, key, subject. */
static X509 *
begin(const char *fleet, const char *cn, int64_t from, int64_t to, EVP_PKEY *key,
      struct wr_err *err)
{
	X509 *x = X509_new();
	X509_NAME *n = x ? X509_get_subject_name(x) : NULL;

	if (n && X509_set_version(x, X509_VERSION_3) && set_serial(x) &&
	    ASN1_TIME_set(X509_getm_notBefore(x), from) &&
	    ASN1_TIME_set(X509_getm_notAfter(x), to) && X509_set_pubkey(x, key) &&
	    set_name(n, "O", fleet) && set_name(n, "CN", cn))
		return x;
	wr_ossl_err(err, WR_E_FAILED, "make a certificate");
	X509_free(x);
	return NULL;
}

static int
finish(X509 *x, EVP_PKEY *ca_key, struct wr_buf *out, struct wr_err *err)
{
	unsigned char *der = NULL;
	int n;

	if (X509_sign(x, ca_key, EVP_sha256()) <= 0 || (n = i2d_X509(x, &der)) <= 0)
		return wr_ossl_err(err, WR_E_FAILED, "sign a certificate");
	wr_buf_add(out, der, (size_t)n);
	OPENSSL_free(der);
	return 0;
}

/* ---- the CA ---- */

/* Two CAs of a fleet must not have the same name: verifiers look them up by it. */
static struct wr_pub_text
key_tag(EVP_PKEY *key)
{
	unsigned char *der = NULL;
	const int n = i2d_PUBKEY(key, &der);
	struct wr_pub_text t = {""};

	if (n > 0) {
		const struct wr_digest d = wr_digest_of(der, (size_t)n);

		snprintf(t.s, sizeof(t.s), "%02x%02x%02x%02x", d.b[0], d.b[1], d.b[2], d.b[3]);
	}
	OPENSSL_free(der);
	return t;
}

static X509 *
make_ca_cert(EVP_PKEY *key, const struct wr_uuid *fleet, struct wr_err *err)
{
	const int64_t now = wr_clock_wall().s;
	WR_SCOPED(wr_x509_freep) X509 *x = NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf der = WR_BUF_INIT;
	char cn[64], uri[64];

	snprintf(cn, sizeof(cn), "Warren CA %s", key_tag(key).s);
	snprintf(uri, sizeof(uri), "warren:%s", fleet->s);
	x = begin(fleet->s, cn, now - WR_CERT_SLACK_S, now + (int64_t)WR_CA_DAYS * DAY, key, err);
	if (!x)
		return NULL;
	if (X509_set_issuer_name(x, X509_get_subject_name(x)) != 1) {
		wr_ossl_err(err, WR_E_FAILED, "name the issuer");
		return NULL;
	}
	if (add_ext(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0", err) < 0 ||
	    add_ext(x, x, NID_key_usage, "critical,keyCertSign,cRLSign", err) < 0 ||
	    add_ext(x, x, NID_subject_key_identifier, "hash", err) < 0 ||
	    add_names(x, uri, NULL, 0, err) < 0 || finish(x, key, &der, err) < 0)
		return NULL;
	return wr_steal(&x);
}

/* "NAME.key". */
struct file_name {
	char s[80];
};

static int
file_of(const char *name, struct file_name *out, struct wr_err *err)
{
	if ((size_t)snprintf(out->s, sizeof(out->s), "%s.key", name) >= sizeof(out->s))
		return wr_err_set(err, WR_E_INVALID, "the name of CA '%s' is too long", WR_Q(name));
	return 0;
}

int
wr_ca_new(int dirfd, const char *name, const struct wr_uuid *fleet, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf file = WR_BUF_INIT;
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *key = NULL;
	WR_SCOPED(wr_x509_freep) X509 *cert = NULL;
	WR_SCOPED(wr_bio_freep) BIO *pem = NULL;
	struct file_name f;
	char *p;
	long n;

	if (file_of(name, &f, err) < 0)
		return -1;
	if (faccessat(dirfd, f.s, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return wr_err_set(err, WR_E_EXISTS, "CA '%s' exists", WR_Q(f.s));
	key = wr_pkey_new(err);
	cert = key ? make_ca_cert(key, fleet, err) : NULL;
	if (!cert)
		return wr_err_wrap(err, "make CA '%s'", WR_Q(f.s));
	pem = BIO_new(BIO_s_mem());
	if (!pem || PEM_write_bio_X509(pem, cert) != 1)
		return wr_ossl_err(err, WR_E_FAILED, "write CA '%s'", WR_Q(f.s));
	wr_buf_reserve(&file, CA_BYTES); /* once: no copies of the key are left behind */
	if (wr_pkey_to_pem(key, &file, err) < 0)
		return -1;
	n = BIO_get_mem_data(pem, &p);
	wr_buf_add(&file, p, (size_t)n);
	return wr_replace_file(dirfd, f.s, file.p, file.len, 0600, err);
}

static int
load(struct wr_ca *ca, struct wr_der file, struct wr_err *err)
{
	WR_SCOPED(wr_bio_freep) BIO *b = wr_bio_of(file, err);
	unsigned char *der = NULL;
	int n;

	if (!b)
		return -1;
	ca->key = wr_pkey_of_pem(file, err);
	if (!ca->key)
		return -1;
	ca->cert = PEM_read_bio_X509(b, NULL, wr_pem_no_pass, NULL);
	if (!ca->cert || (n = i2d_X509(ca->cert, &der)) <= 0)
		return wr_ossl_err(err, WR_E_CORRUPT, "read its certificate");
	wr_buf_add(&ca->der, der, (size_t)n);
	OPENSSL_free(der);
	if (X509_check_private_key(ca->cert, ca->key) != 1)
		return wr_ossl_err(err, WR_E_CORRUPT, "key and certificate do not belong together");
	if (wr_x509_info(ca->cert, &ca->info, err) < 0)
		return -1;
	return ca->info.ca ? 0 : wr_err_set(err, WR_E_CORRUPT, "its certificate is not of a CA");
}

int
wr_ca_load(int dirfd, const char *name, struct wr_ca **out, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf file = WR_BUF_INIT;
	struct wr_ca *ca;
	struct file_name f;

	if (file_of(name, &f, err) < 0 || wr_read_file(dirfd, f.s, CA_BYTES, &file, err) < 0)
		return -1;
	ca = wr_calloc(1, sizeof(*ca));
	if (load(ca, (struct wr_der){file.p, file.len}, err) < 0) {
		wr_ca_free(ca);
		wr_err_wrap(err, "load CA '%s'", WR_Q(f.s));
		return wr_err_recode(err, WR_E_CORRUPT);
	}
	*out = ca;
	return 0;
}

void
wr_ca_free(struct wr_ca *ca)
{
	if (!ca)
		return;
	EVP_PKEY_free(ca->key);
	X509_free(ca->cert);
	wr_buf_fini(&ca->der);
	free(ca);
}

struct wr_der
wr_ca_cert(const struct wr_ca *ca)
{
	return (struct wr_der){ca->der.p, ca->der.len};
}

/* ---- certificates of nodes ---- */

int
wr_cert_issue(const struct wr_ca *ca, const struct wr_cert_ask *ask, struct wr_buf *out,
	      struct wr_err *err)
{
	const int64_t to = WR_MIN(ask->now + (int64_t)ask->days * DAY, ca->info.not_after);
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *key = NULL;
	WR_SCOPED(wr_x509_freep) X509 *x = NULL;
	char uri[128];

	if (strcmp(ask->fleet.s, ca->info.fleet.s) != 0)
		return wr_err_set(err, WR_E_INVALID, "this CA is of fleet %s, not %s",
				  ca->info.fleet.s, ask->fleet.s);
	if (ask->node.inc == 0 || ask->name_count > WR_CERT_NAMES)
		return wr_err_set(err, WR_E_INVALID, "no such certificate can be made");
	if (to <= ask->now)
		return wr_err_set(err, WR_E_INVALID,
				  "the certificate would be expired from the first");
	key = wr_pkey_of_spki(ask->spki, err);
	if (!key)
		return -1;
	snprintf(uri, sizeof(uri), "warren:%s/%s/%" PRIu32, ask->fleet.s, ask->node.id.s,
		 ask->node.inc);
	x = begin(ask->fleet.s, ask->node.id.s, ask->now - ask->slack_s, to, key, err);
	if (!x)
		return -1;
	if (X509_set_issuer_name(x, X509_get_subject_name(ca->cert)) != 1)
		return wr_ossl_err(err, WR_E_FAILED, "name the issuer");
	if (add_ext(x, ca->cert, NID_basic_constraints, "critical,CA:FALSE", err) < 0 ||
	    add_ext(x, ca->cert, NID_key_usage, "critical,digitalSignature", err) < 0 ||
	    add_ext(x, ca->cert, NID_ext_key_usage, "serverAuth,clientAuth", err) < 0 ||
	    add_ext(x, ca->cert, NID_authority_key_identifier, "keyid:always", err) < 0 ||
	    add_names(x, uri, ask->name, ask->name_count, err) < 0)
		return -1;
	return finish(x, ca->key, out, err);
}
