/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: a secret leaves here once; what stays is its SHA-256. */
#include "host/store/store_int.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include "base/str.h"

#define SECRET_BYTES 32
#define SECRET_CHARS 43 /* of base64url, without padding */
#define PREFIX "wrt_"
#define HASH_BYTES 32

static void
hash_of(const char *token, uint8_t out[HASH_BYTES])
{
	unsigned len = 0;
	int ok = EVP_Digest(token, strlen(token), out, &len, EVP_sha256(), NULL);

	wr_assert(ok == 1 && len == HASH_BYTES);
}

/* out: 80 bytes. */
static void
make_token(char *out)
{
	uint8_t secret[SECRET_BYTES];
	char *text;
	ssize_t n;

	do
		n = getrandom(secret, sizeof(secret), 0);
	while (n < 0 && errno == EINTR);
	wr_assert(n == SECRET_BYTES);
	text = wr_base64(secret, sizeof(secret));
	for (char *c = text; *c; c++)
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	snprintf(out, 80, PREFIX "%.*s", SECRET_CHARS, text);
	OPENSSL_cleanse(secret, sizeof(secret));
	OPENSSL_cleanse(text, strlen(text));
	free(text);
}

int
wr_store_token_new(struct wr_store *s, enum wr_scope scope, const struct wr_uuid *project,
		   const char *purpose, int64_t expires, char out[80], struct wr_err *err)
{
	uint8_t hash[HASH_BYTES];
	sqlite3_stmt *st;
	char token[80];

	if (wr_sql_get(s, WR_SQL_TOKEN_PUT, &st, err) < 0)
		return -1;
	make_token(token);
	hash_of(token, hash);
	wr_sql_blob(st, 1, hash, sizeof(hash));
	wr_sql_int(st, 2, scope);
	wr_sql_text(st, 3, project ? project->s : "");
	wr_sql_text(st, 4, purpose);
	wr_sql_int(st, 5, expires);
	if (wr_sql_run(s, WR_SQL_TOKEN_PUT, st, err) < 0)
		return -1;
	memcpy(out, token, sizeof(token));
	OPENSSL_cleanse(token, sizeof(token));
	return 0;
}

int
wr_store_token_check(struct wr_store *s, const char *token, int64_t now, enum wr_scope *out_scope,
		     struct wr_uuid *out_project, char out_short[16], struct wr_err *err)
{
	static const char denied[] = "the token is unknown or has expired";
	uint8_t hash[HASH_BYTES];
	struct wr_uuid project;
	int64_t scope = 0, expires = 0;
	sqlite3_stmt *st;
	int rc;

	if (strlen(token) != strlen(PREFIX) + SECRET_CHARS ||
	    strncmp(token, PREFIX, strlen(PREFIX)) != 0)
		return wr_err_set(err, WR_E_DENIED, denied);
	hash_of(token, hash);
	if (wr_sql_get(s, WR_SQL_TOKEN_BY_HASH, &st, err) < 0)
		return -1;
	wr_sql_blob(st, 1, hash, sizeof(hash));
	rc = wr_sql_step(s, st, err);
	if (rc > 0) {
		scope = wr_sql_col_int(st, 0);
		wr_sql_col_copy(st, 1, project.s, sizeof(project.s));
		expires = wr_sql_col_int(st, 2);
	}
	wr_sql_put(s, WR_SQL_TOKEN_BY_HASH, st);
	if (rc < 0)
		return -1;
	if (rc == 0 || (expires && now >= expires) || scope <= WR_SCOPE_NONE ||
	    scope > WR_SCOPE_ADMIN)
		return wr_err_set(err, WR_E_DENIED, denied);
	*out_scope = (enum wr_scope)scope;
	*out_project = project;
	/* Enough to tell tokens apart in a log, useless to guess one. */
	snprintf(out_short, 16, "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
	return 0;
}

int
wr_store_token_drop(struct wr_store *s, const struct wr_uuid *project, const char *purpose,
		    struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_sql_get(s, WR_SQL_TOKEN_DROP, &st, err) < 0)
		return -1;
	wr_sql_text(st, 1, project ? project->s : "");
	wr_sql_text(st, 2, purpose);
	return wr_sql_run(s, WR_SQL_TOKEN_DROP, st, err);
}
