/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL in Warren's manners: its queue of errors as one text, its objects released by scope. */
#ifndef WR_OSSL_H
#define WR_OSSL_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "fleet/trust/trust.h"

/* As wr_err_set, with the text of OpenSSL's first error behind it; empties its queue. */
int wr_ossl_err(struct wr_err *err, enum wr_err_code code, const char *fmt, ...) WR_PRINTF(3, 4);

/* For WR_SCOPED. */
void wr_pkey_freep(EVP_PKEY **k);
void wr_x509_freep(X509 **x);

/* A private key of ours; P-256 only. NULL with err. The caller frees. */
EVP_PKEY *wr_pkey_of_pem(struct wr_der pem, struct wr_err *err);
/* A certificate from outside, all of the bytes. NULL with err. The caller frees. */
X509 *wr_x509_of_der(struct wr_der der, struct wr_err *err);
/* The CAs as OpenSSL wants them to judge. NULL with err. The caller frees. */
X509_STORE *wr_store_of(const struct wr_der *ca, size_t ca_count, struct wr_err *err);
/* Of a parsed one. */
int wr_x509_info(const X509 *x, struct wr_cert_info *out, struct wr_err *err);

#endif
