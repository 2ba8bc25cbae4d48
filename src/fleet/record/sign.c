/* SPDX-License-Identifier: Apache-2.0 */
/* Ed25519 and SHA-256, through libcrypto's EVP. */
#include "fleet/record/record_int.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

static void
free_key(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
}

static void
free_ctx(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}

static int
crypto_failed(struct wr_err *err, const char *what)
{
	char text[256];
	unsigned long code = ERR_peek_last_error();

	ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	return wr_err_set(err, WR_E_FAILED, "%s: %s", what, code ? text : "libcrypto refused");
}

int
wr_sign_key_of(const uint8_t seed[32], struct wr_sign_key *out, struct wr_err *err)
{
	WR_SCOPED(free_key)
	EVP_PKEY *k = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
	struct wr_pub pub;
	size_t len = sizeof(pub.b);

	if (!k || EVP_PKEY_get_raw_public_key(k, pub.b, &len) != 1 || len != sizeof(pub.b))
		return crypto_failed(err, "make a signing key");
	memmove(out->seed, seed, sizeof(out->seed)); /* it may be its own */
	out->pub = pub;
	return 0;
}

int
wr_sign_key_new(struct wr_sign_key *out, struct wr_err *err)
{
	uint8_t seed[32];
	int ret;

	if (RAND_priv_bytes(seed, sizeof(seed)) != 1)
		return crypto_failed(err, "make a signing key");
	ret = wr_sign_key_of(seed, out, err);
	OPENSSL_cleanse(seed, sizeof(seed));
	return ret;
}

void
wr_sign_key_fini(struct wr_sign_key *k)
{
	OPENSSL_cleanse(k, sizeof(*k));
}

/* What is signed: the domain with its NUL, then the bytes.  Ed25519 takes its input in one piece.
 */
static void
input_of(const char *domain, const void *p, size_t len, struct wr_buf *out)
{
	size_t n = strlen(domain) + 1;

	wr_buf_reserve(out, n + len);
	wr_buf_add(out, domain, n);
	wr_buf_add(out, p, len);
}

int
wr_sign(const struct wr_sign_key *k, const char *domain, const void *p, size_t len,
	struct wr_sig *out, struct wr_err *err)
{
	WR_SCOPED(free_key)
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, k->seed, 32);
	WR_SCOPED(free_ctx) EVP_MD_CTX *c = EVP_MD_CTX_new();
	WR_SCOPED(wr_buf_fini) struct wr_buf in = WR_BUF_INIT;
	struct wr_sig sig;
	size_t n = sizeof(sig.b);

	input_of(domain, p, len, &in);
	if (!key || !c || EVP_DigestSignInit(c, NULL, NULL, NULL, key) != 1 ||
	    EVP_DigestSign(c, sig.b, &n, in.p, in.len) != 1 || n != sizeof(sig.b))
		return crypto_failed(err, "sign");
	*out = sig;
	return 0;
}

bool
wr_sign_ok(const struct wr_pub *pub, const char *domain, const void *p, size_t len,
	   const struct wr_sig *sig)
{
	WR_SCOPED(free_key) EVP_PKEY *key = NULL;
	WR_SCOPED(free_ctx) EVP_MD_CTX *c = NULL;
	WR_SCOPED(wr_buf_fini) struct wr_buf in = WR_BUF_INIT;
	bool ok;

	/* A key that was never set is a point of small order: anybody can sign for it. */
	if (wr_zeros(pub->b, sizeof(pub->b)))
		return false;
	key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub->b, sizeof(pub->b));
	c = EVP_MD_CTX_new();
	input_of(domain, p, len, &in);
	ok = key && c && EVP_DigestVerifyInit(c, NULL, NULL, NULL, key) == 1 &&
	     EVP_DigestVerify(c, sig->b, sizeof(sig->b), in.p, in.len) == 1;
	if (!ok)
		ERR_clear_error();
	return ok;
}

int
wr_signed_by(const struct wr_pub *k, const char *domain, const char *what, const struct wr_buf *b,
	     const struct wr_sig *sig, struct wr_err *err)
{
	if (!wr_sign_ok(k, domain, b->p, b->len, sig))
		return wr_err_set(err, WR_E_DENIED, "%s: the signature is not of key %s", what,
				  wr_pub_short(k).s);
	return 0;
}

struct wr_digest
wr_digest_of(const void *p, size_t len)
{
	struct wr_digest d;
	unsigned n = sizeof(d.b);

	wr_assert(EVP_Digest(p, len, d.b, &n, EVP_sha256(), NULL) == 1 && n == sizeof(d.b));
	return d;
}

struct wr_pub_text
wr_pub_short(const struct wr_pub *pub)
{
	struct wr_digest d = wr_digest_of(pub->b, sizeof(pub->b));
	struct wr_pub_text t;

	snprintf(t.s, sizeof(t.s), "%08" PRIx32, wr_get32be(d.b));
	return t;
}
