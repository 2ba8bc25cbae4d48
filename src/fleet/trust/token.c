/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/trust/trust.h"

#include <openssl/crypto.h>
#include <sys/random.h>

#include "base/str.h"

#define PREFIX "wrj_"
#define TOKEN_BYTES (WR_JOIN_SECRET_LEN + WR_JOIN_PRINT_LEN)
/* 48 bytes make 64 characters without padding. */
#define TOKEN_CHARS (TOKEN_BYTES / 3 * 4)
_Static_assert(TOKEN_BYTES % 3 == 0, "no padding");

static void
swap_chars(char *s, char a1, char b1, char a2, char b2)
{
	for (; *s; s++)
		*s = *s == a1 ? b1 : *s == a2 ? b2 : *s;
}

void
wr_join_token_new(struct wr_der ca, struct wr_join_token *out)
{
	const struct wr_digest d = wr_digest_of(ca.p, ca.len);

	while (getrandom(out->secret, sizeof(out->secret), 0) != (ssize_t)sizeof(out->secret))
		; /* so few bytes are never cut short once the pool is ready */
	memcpy(out->ca_print, d.b, sizeof(out->ca_print));
}

void
wr_join_token_fini(struct wr_join_token *t)
{
	OPENSSL_cleanse(t, sizeof(*t));
}

struct wr_join_text
wr_join_token_text(const struct wr_join_token *t)
{
	struct wr_join_text out;
	uint8_t b[TOKEN_BYTES];
	char *s;

	memcpy(b, t->secret, WR_JOIN_SECRET_LEN);
	memcpy(b + WR_JOIN_SECRET_LEN, t->ca_print, WR_JOIN_PRINT_LEN);
	s = wr_base64(b, sizeof(b));
	swap_chars(s, '+', '-', '/', '_');
	snprintf(out.s, sizeof(out.s), PREFIX "%s", s);
	OPENSSL_cleanse(b, sizeof(b));
	OPENSSL_cleanse(s, strlen(s));
	free(s);
	return out;
}

int
wr_join_token_parse(const char *s, struct wr_join_token *out, struct wr_err *err)
{
	const size_t head = sizeof(PREFIX) - 1;
	WR_SCOPED(wr_secret_fini) struct wr_buf b = WR_BUF_INIT;
	char text[TOKEN_CHARS + 1];

	/* Never quoted: most of a wrong token may be a good one's secret. */
	if (strncmp(s, PREFIX, head) != 0)
		return wr_err_set(err, WR_E_INVALID, "a join token begins with " PREFIX);
	s += head;
	if (strlen(s) != TOKEN_CHARS)
		return wr_err_set(err, WR_E_INVALID,
				  "a join token has %d characters after " PREFIX ", not %zu",
				  TOKEN_CHARS, strlen(s));
	memcpy(text, s, sizeof(text));
	wr_buf_reserve(&b, TOKEN_BYTES + 3); /* once: no copies are left behind */
	if (!strpbrk(text, "+/=")) {
		swap_chars(text, '-', '+', '_', '/');
		if (wr_base64_decode(&b, text, TOKEN_CHARS) && b.len == TOKEN_BYTES) {
			memcpy(out->secret, b.p, WR_JOIN_SECRET_LEN);
			memcpy(out->ca_print, b.p + WR_JOIN_SECRET_LEN, WR_JOIN_PRINT_LEN);
			OPENSSL_cleanse(text, sizeof(text));
			return 0;
		}
	}
	OPENSSL_cleanse(text, sizeof(text));
	return wr_err_set(err, WR_E_INVALID,
			  "a join token holds only letters, digits, - and _ after " PREFIX);
}

bool
wr_join_token_ca_ok(const struct wr_join_token *t, struct wr_der ca)
{
	const struct wr_digest d = wr_digest_of(ca.p, ca.len);

	return memcmp(d.b, t->ca_print, sizeof(t->ca_print)) == 0;
}

struct wr_digest
wr_join_token_hash(const struct wr_join_token *t)
{
	static const char domain[] = "warren join 1"; /* with its NUL */
	uint8_t b[sizeof(domain) + WR_JOIN_SECRET_LEN];
	struct wr_digest d;

	memcpy(b, domain, sizeof(domain));
	memcpy(b + sizeof(domain), t->secret, WR_JOIN_SECRET_LEN);
	d = wr_digest_of(b, sizeof(b));
	OPENSSL_cleanse(b, sizeof(b));
	return d;
}
