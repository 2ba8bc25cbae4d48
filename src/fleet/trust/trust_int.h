/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WR_TRUST_INT_H
#define WR_TRUST_INT_H

#include <openssl/bio.h>

#include "fleet/trust/ossl.h"

void wr_bio_freep(BIO **b);
/* Borrows the bytes. */
BIO *wr_bio_of(struct wr_der bytes, struct wr_err *err);
int wr_pem_no_pass(char *buf, int size, int rw, void *u);

EVP_PKEY *wr_pkey_new(struct wr_err *err);
int wr_pkey_to_pem(EVP_PKEY *k, struct wr_buf *out, struct wr_err *err);
/* From outside. */
EVP_PKEY *wr_pkey_of_spki(struct wr_der spki, struct wr_err *err);

#endif
