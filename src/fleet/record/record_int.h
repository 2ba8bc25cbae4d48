/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec that all kinds share.  Encoding appends to a buffer and asserts what no caller may get
 * wrong; decoding remembers its first error, after which every read gives zeros, so that a decoder
 * reads straight on and asks once, at the end.
 *
 * There is one encoding of each value: what is absent is zeros, lists are ascending, flags that
 * mean nothing are refused.  So a value that was decoded encodes to the bytes it came from, and
 * these are what was signed.
 */
#ifndef WR_RECORD_INT_H
#define WR_RECORD_INT_H

#include "fleet/record/record.h"

#define WR_MAGIC_LEN 4
#define WR_REF_NAME_LEN 1024              /* LIMIT of a ref in a save record; as in a repository */
#define WR_TIME_MAX INT64_C(253402300799) /* the end of the year 9999 */

/* ---- encoding ---- */

void wr_enc16(struct wr_buf *b, size_t v);
void wr_enc_uuid(struct wr_buf *b, const struct wr_uuid *u); /* "": zeros */
void wr_enc_node(struct wr_buf *b, const struct wr_node_id *n);
void wr_enc_epoch(struct wr_buf *b, const struct wr_epoch *e);
void wr_enc_version(struct wr_buf *b, const struct wr_version *v);
void wr_enc_str(struct wr_buf *b, const void *p, size_t len);  /* u16 length, bytes */
void wr_enc_blob(struct wr_buf *b, const void *p, size_t len); /* u32 length, bytes */

/* ---- decoding ---- */

struct wr_dec {
	struct wr_rd rd;
	const char *kind; /* for messages: "record" */
	struct wr_err *err;
	bool failed;
};
/* What stands behind its magic; len above max is WR_E_LIMIT. */
struct wr_dec wr_dec(const char *kind, const char *magic, const void *p, size_t len, size_t max,
		     struct wr_err *err);
/* The first failure counts. */
void wr_dec_fail(struct wr_dec *d, const char *field, const char *fmt, ...) WR_PRINTF(3, 4);
uint8_t wr_dec8(struct wr_dec *d, const char *field);
uint32_t wr_dec32(struct wr_dec *d, const char *field);
uint64_t wr_dec64(struct wr_dec *d, const char *field);
uint8_t wr_dec_max(struct wr_dec *d, const char *field, uint8_t min, uint8_t max);
bool wr_dec_bool(struct wr_dec *d, const char *field);
int64_t wr_dec_time(struct wr_dec *d, const char *field); /* 0 to WR_TIME_MAX */
void wr_dec_copy(struct wr_dec *d, const char *field, void *out, size_t len);
/* May it be none (all zeros)? */
enum wr_dec_need { WR_DEC_MUST, WR_DEC_MAY };
struct wr_uuid wr_dec_uuid(struct wr_dec *d, const char *field, enum wr_dec_need need);
struct wr_node_id wr_dec_node(struct wr_dec *d, const char *field, enum wr_dec_need need);
struct wr_epoch wr_dec_epoch(struct wr_dec *d, const char *field, enum wr_dec_need need);
struct wr_version wr_dec_version(struct wr_dec *d, const char *field, enum wr_dec_need need);
/* Borrowed from the input, at most max bytes; after a failure "" of length 0. */
const char *wr_dec_str(struct wr_dec *d, const char *field, size_t max, size_t *out_len);
const uint8_t *wr_dec_blob(struct wr_dec *d, const char *field, size_t max, size_t *out_len);
/* A u32 count of items that take at least item_len bytes each; 0 after a failure. */
size_t wr_dec_count(struct wr_dec *d, const char *field, size_t max, size_t item_len);
struct wr_pub wr_dec_pub(struct wr_dec *d, const char *field, enum wr_dec_need need);
struct wr_sig wr_dec_sig(struct wr_dec *d);
/* 0 if all was well and nothing is left. */
int wr_dec_end(struct wr_dec *d);

bool wr_zeros(const void *p, size_t len);

/* What a signature is one of. */
#define WR_DOMAIN_RECORD "warren record 1"
#define WR_DOMAIN_SAVE "warren save 1"
#define WR_DOMAIN_SETTINGS "warren settings 1"
#define WR_DOMAIN_GRANT "warren grant 1"
#define WR_DOMAIN_FLEET "warren fleet 1"
#define WR_DOMAIN_MESSAGE "warren message 1"
/* WR_E_DENIED unless k signed b; what begins the message. */
int wr_signed_by(const struct wr_pub *k, const char *domain, const char *what,
		 const struct wr_buf *b, const struct wr_sig *sig, struct wr_err *err);

#endif
