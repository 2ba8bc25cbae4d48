/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/trust/ossl.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "fleet/trust/trust_int.h"
#include "sys/fs.h"

int
wr_ossl_err(struct wr_err *err, enum wr_err_code code, const char *fmt, ...)
{
	const unsigned long e = ERR_peek_error();
	const char *why = e ? ERR_reason_error_string(e) : NULL;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return wr_err_set(err, code, "%s%s%s", text, why ? ": " : "", why ? why : "");
}

void
wr_pkey_freep(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
	*k = NULL;
}

void
wr_x509_freep(X509 **x)
{
	X509_free(*x);
	*x = NULL;
}

void
wr_bio_freep(BIO **b)
{
	BIO_free(*b);
	*b = NULL;
}

void
wr_secret_fini(struct wr_buf *b)
{
	if (b->p)
		OPENSSL_cleanse(b->p, b->cap);
	wr_buf_fini(b);
}

/* ---- private keys ---- */

/* Without it OpenSSL would ask the terminal. */
int
wr_pem_no_pass(char *buf, int size, int rw, void *u)
{
	(void)buf;
	(void)size;
	(void)rw;
	(void)u;
	return -1;
}

BIO *
wr_bio_of(struct wr_der bytes, struct wr_err *err)
{
	BIO *b = bytes.len <= INT_MAX ? BIO_new_mem_buf(bytes.p, (int)bytes.len) : NULL;

	if (!b)
		wr_ossl_err(err, WR_E_FAILED, "read bytes");
	return b;
}

static bool
is_p256(const EVP_PKEY *k)
{
	char group[32];
	size_t n;

	return EVP_PKEY_is_a(k, "EC") &&
	       EVP_PKEY_get_group_name(k, group, sizeof(group), &n) == 1 &&
	       strcmp(group, SN_X9_62_prime256v1) == 0;
}

EVP_PKEY *
wr_pkey_of_pem(struct wr_der pem, struct wr_err *err)
{
	WR_SCOPED(wr_bio_freep) BIO *b = wr_bio_of(pem, err);
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *k = NULL;

	if (!b)
		return NULL;
	k = PEM_read_bio_PrivateKey(b, NULL, wr_pem_no_pass, NULL);
	if (!k) {
		wr_ossl_err(err, WR_E_CORRUPT, "read a private key");
		return NULL;
	}
	if (!is_p256(k)) {
		wr_err_set(err, WR_E_CORRUPT, "the private key is not of ECDSA P-256");
		return NULL;
	}
	return wr_steal(&k);
}

EVP_PKEY *
wr_pkey_new(struct wr_err *err)
{
	EVP_PKEY *k = EVP_EC_gen(SN_X9_62_prime256v1);

	if (!k)
		wr_ossl_err(err, WR_E_FAILED, "make a key");
	return k;
}

int
wr_pkey_to_pem(EVP_PKEY *k, struct wr_buf *out, struct wr_err *err)
{
	WR_SCOPED(wr_bio_freep) BIO *b = BIO_new(BIO_s_mem());
	char *p;
	long n;

	if (!b || PEM_write_bio_PKCS8PrivateKey(b, k, NULL, NULL, 0, NULL, NULL) != 1)
		return wr_ossl_err(err, WR_E_FAILED, "write a private key");
	n = BIO_get_mem_data(b, &p);
	wr_buf_add(out, p, (size_t)n);
	return 0;
}

int
wr_tls_key_make(struct wr_buf *out_pem, struct wr_err *err)
{
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *k = wr_pkey_new(err);

	return k ? wr_pkey_to_pem(k, out_pem, err) : -1;
}

int
wr_tls_key_new(int dirfd, const char *name, struct wr_buf *out_pem, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf pem = WR_BUF_INIT;

	if (wr_tls_key_make(&pem, err) < 0 ||
	    wr_replace_file(dirfd, name, pem.p, pem.len, 0600, err) < 0)
		return wr_err_wrap(err, "make key file '%s'", WR_Q(name));
	if (out_pem)
		wr_buf_add(out_pem, pem.p, pem.len);
	return 0;
}

int
wr_tls_key_load(int dirfd, const char *name, struct wr_buf *out_pem, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf pem = WR_BUF_INIT;
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *k = NULL;

	if (wr_read_file(dirfd, name, WR_TLS_KEY_BYTES, &pem, err) < 0)
		return -1;
	k = wr_pkey_of_pem((struct wr_der){pem.p, pem.len}, err);
	if (!k)
		return wr_err_wrap(err, "load key file '%s'", WR_Q(name));
	wr_buf_add(out_pem, pem.p, pem.len);
	return 0;
}

int
wr_tls_key_spki(struct wr_der pem, struct wr_buf *out_spki, struct wr_err *err)
{
	WR_SCOPED(wr_pkey_freep) EVP_PKEY *k = wr_pkey_of_pem(pem, err);
	unsigned char *der = NULL;
	int n;

	if (!k)
		return -1;
	n = i2d_PUBKEY(k, &der);
	if (n <= 0)
		return wr_ossl_err(err, WR_E_FAILED, "write a public key");
	wr_buf_add(out_spki, der, (size_t)n);
	OPENSSL_free(der);
	return 0;
}

/* ---- public keys from outside ---- */

/* What stands before the 64 bytes of a P-256 point, in the one form that everybody writes. Checked
 * before any parser sees the rest: no other curves, no parameters spelled out. */
static const uint8_t spki_head[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
				    0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
				    0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
#define SPKI_LEN (sizeof(spki_head) + 64)

EVP_PKEY *
wr_pkey_of_spki(struct wr_der spki, struct wr_err *err)
{
	const unsigned char *p = spki.p;
	EVP_PKEY *k = NULL;

	if (spki.len == SPKI_LEN && memcmp(p, spki_head, sizeof(spki_head)) == 0)
		k = d2i_PUBKEY(NULL, &p, (long)spki.len);
	if (!k)
		wr_ossl_err(err, WR_E_INVALID, "that is no public key of ECDSA P-256");
	return k;
}
