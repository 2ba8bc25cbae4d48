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
#define ONE_DAY 86400
#define KEEP_EXPIRED_S (30 * ONE_DAY)
/* LIMITs */
#define ASKED_MAX 1000
#define ASKED_OF_PROJECT_MAX 100

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

static void
short_of(const uint8_t hash[HASH_BYTES], char *out, size_t size)
{
	snprintf(out, size, "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
}

static int
put(struct wr_store *s, const struct wr_token_row *t, const uint8_t hash[HASH_BYTES],
    struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&s->db, WR_SQL_TOKEN_PUT, &st, err) < 0)
		return -1;
	wr_db_blob(st, 1, hash, HASH_BYTES);
	wr_db_int(st, 2, t->scope);
	wr_db_text(st, 3, t->project.s);
	wr_db_text(st, 4, t->purpose);
	wr_db_int(st, 5, t->asked);
	wr_db_int(st, 6, t->created);
	wr_db_int(st, 7, t->expires);
	return wr_db_run(&s->db, WR_SQL_TOKEN_PUT, st, err);
}

static int
replace(struct wr_store *s, const struct wr_token_row *t, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&s->db, WR_SQL_TOKEN_REPLACE, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, t->scope);
	wr_db_text(st, 2, t->project.s);
	wr_db_text(st, 3, t->purpose);
	return wr_db_run(&s->db, WR_SQL_TOKEN_REPLACE, st, err);
}

int
wr_store_token_new(struct wr_store *s, enum wr_scope scope, const struct wr_uuid *project,
		   const char *purpose, int64_t expires, char out[80], struct wr_err *err)
{
	struct wr_token_row t = {.scope = scope, .expires = expires};
	uint8_t hash[HASH_BYTES];
	char token[80];
	bool own;
	int rc;

	if (project)
		t.project = *project;
	snprintf(t.purpose, sizeof(t.purpose), "%s", purpose);
	make_token(token);
	hash_of(token, hash);
	if (wr_store_enter(s, &own, err) < 0)
		return -1;
	rc = replace(s, &t, err) < 0 || put(s, &t, hash, err) < 0 ? -1 : 0;
	if (wr_store_leave(s, own, rc, err) < 0)
		return -1;
	memcpy(out, token, sizeof(token));
	OPENSSL_cleanse(token, sizeof(token));
	return 0;
}

/* ---- tokens that people ask for ---- */

static int
trim(struct wr_store *s, int64_t before, struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&s->db, WR_SQL_TOKEN_TRIM, &st, err) < 0)
		return -1;
	wr_db_int(st, 1, before);
	return wr_db_run(&s->db, WR_SQL_TOKEN_TRIM, st, err);
}

/* Is there room for one more? project NULL: among all. */
static int
room(struct wr_store *s, const char *project, int64_t most, struct wr_err *err)
{
	sqlite3_stmt *st;
	int64_t n = 0;
	int rc;

	if (wr_db_get(&s->db, WR_SQL_TOKEN_COUNT, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, project);
	rc = wr_db_step(&s->db, st, err);
	if (rc > 0)
		n = sqlite3_column_int64(st, 0);
	wr_db_put(&s->db, WR_SQL_TOKEN_COUNT, st);
	if (rc < 0 || n < most)
		return rc < 0 ? -1 : 0;
	wr_err_set(err, WR_E_LIMIT, "there are %" PRId64 " tokens %s", n,
		   project ? "for this project already" : "already");
	return wr_err_hint(err, "end those that nobody uses: 'warren token list' says which, "
				"'warren token revoke' ends them");
}

int
wr_store_token_make(struct wr_store *s, struct wr_token_row *t, char out[80], struct wr_err *err)
{
	uint8_t hash[HASH_BYTES];
	char token[80];
	bool own;
	int rc = 0;

	t->asked = true;
	t->used = 0;
	make_token(token);
	hash_of(token, hash);
	short_of(hash, t->id, sizeof(t->id));
	if (wr_store_enter(s, &own, err) < 0)
		return -1;
	if (trim(s, t->created - KEEP_EXPIRED_S, err) < 0 || room(s, NULL, ASKED_MAX, err) < 0 ||
	    (*t->project.s && room(s, t->project.s, ASKED_OF_PROJECT_MAX, err) < 0) ||
	    put(s, t, hash, err) < 0)
		rc = -1;
	if (wr_store_leave(s, own, rc, err) < 0)
		return -1;
	memcpy(out, token, sizeof(token));
	OPENSSL_cleanse(token, sizeof(token));
	return 0;
}

/* The hash and what stands beside it; false if it is no row of ours. */
static bool
row_of(sqlite3_stmt *st, struct wr_token_row *t, uint8_t hash[HASH_BYTES])
{
	const void *p = sqlite3_column_blob(st, 0);

	if (!p || sqlite3_column_bytes(st, 0) != HASH_BYTES)
		return false;
	memcpy(hash, p, HASH_BYTES);
	*t = (struct wr_token_row){.scope = (enum wr_scope)sqlite3_column_int64(st, 1),
				   .asked = sqlite3_column_int64(st, 4) != 0,
				   .created = sqlite3_column_int64(st, 5),
				   .expires = sqlite3_column_int64(st, 6),
				   .used = sqlite3_column_int64(st, 7)};
	short_of(hash, t->id, sizeof(t->id));
	wr_db_col_copy(st, 2, t->project.s, sizeof(t->project.s));
	wr_db_col_copy(st, 3, t->purpose, sizeof(t->purpose));
	return t->scope > WR_SCOPE_NONE && t->scope <= WR_SCOPE_ADMIN;
}

int
wr_store_token_each(struct wr_store *s, const struct wr_uuid *project, wr_token_fn fn, void *ctx,
		    struct wr_err *err)
{
	uint8_t hash[HASH_BYTES];
	struct wr_token_row t;
	sqlite3_stmt *st;
	int rc;

	if (wr_db_get(&s->db, WR_SQL_TOKEN_EACH, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, project ? project->s : NULL);
	while ((rc = wr_db_step(&s->db, st, err)) > 0) {
		if (!row_of(st, &t, hash))
			continue;
		rc = fn(ctx, &t, err);
		if (rc)
			break;
	}
	wr_db_put(&s->db, WR_SQL_TOKEN_EACH, st);
	return rc;
}

/* The least and the greatest hash that begin with these digits. */
static bool
hash_range(const char *prefix, uint8_t low[HASH_BYTES], uint8_t high[HASH_BYTES])
{
	size_t n = strlen(prefix);

	if (n < 4 || n > 2 * (size_t)HASH_BYTES || strspn(prefix, "0123456789abcdef") != n)
		return false;
	memset(low, 0, HASH_BYTES);
	memset(high, 0xff, HASH_BYTES);
	for (size_t i = 0; i < n; i++) {
		unsigned d = (unsigned)(prefix[i] <= '9' ? prefix[i] - '0' : prefix[i] - 'a' + 10);
		unsigned shift = i % 2 ? 0 : 4;

		low[i / 2] = (uint8_t)(low[i / 2] | d << shift);
		high[i / 2] = (uint8_t)((high[i / 2] & ~(15u << shift)) | d << shift);
	}
	return true;
}

static int
find(struct wr_store *s, const char *prefix, struct wr_token_row *out, uint8_t hash[HASH_BYTES],
     struct wr_err *err)
{
	uint8_t low[HASH_BYTES], high[HASH_BYTES], other[HASH_BYTES];
	struct wr_token_row t, second;
	sqlite3_stmt *st;
	int rc, more = 0;

	if (!hash_range(prefix, low, high)) {
		wr_err_set(err, WR_E_INVALID, "token: '%s' is no id of a token", WR_Q(prefix));
		return wr_err_hint(err, "its first four or more hex digits, as in 'warren token "
					"list'; not the token itself");
	}
	if (wr_db_get(&s->db, WR_SQL_TOKEN_BY_PREFIX, &st, err) < 0)
		return -1;
	wr_db_blob(st, 1, low, sizeof(low));
	wr_db_blob(st, 2, high, sizeof(high));
	rc = wr_db_step(&s->db, st, err);
	if (rc > 0 && !row_of(st, &t, hash))
		rc = 0;
	if (rc > 0) {
		more = wr_db_step(&s->db, st, err);
		more = more > 0 && row_of(st, &second, other);
	}
	wr_db_put(&s->db, WR_SQL_TOKEN_BY_PREFIX, st);
	if (rc < 0)
		return -1;
	if (rc == 0)
		return wr_err_set(err, WR_E_NOT_FOUND, "there is no token '%s'", WR_Q(prefix));
	if (more)
		return wr_err_set(err, WR_E_INVALID, "token: several ids begin with '%s'",
				  WR_Q(prefix));
	*out = t;
	return 0;
}

int
wr_store_token_find(struct wr_store *s, const char *prefix, struct wr_token_row *out,
		    struct wr_err *err)
{
	uint8_t hash[HASH_BYTES];

	return find(s, prefix, out, hash, err);
}

int
wr_store_token_revoke(struct wr_store *s, const char *prefix, struct wr_err *err)
{
	uint8_t hash[HASH_BYTES];
	struct wr_token_row t;
	sqlite3_stmt *st;

	if (find(s, prefix, &t, hash, err) < 0 ||
	    wr_db_get(&s->db, WR_SQL_TOKEN_REVOKE, &st, err) < 0)
		return -1;
	wr_db_blob(st, 1, hash, sizeof(hash));
	return wr_db_run(&s->db, WR_SQL_TOKEN_REVOKE, st, err);
}

/* Once a day, and as a hint only: it need not be durable, and a failure is none of the call's. */
static void
note_use(struct wr_store *s, const uint8_t hash[HASH_BYTES], int64_t day)
{
	sqlite3_stmt *st;

	if (s->in_group || wr_db_get(&s->db, WR_SQL_TOKEN_USED, &st, NULL) < 0)
		return;
	wr_store_relax(s, true);
	wr_db_blob(st, 1, hash, HASH_BYTES);
	wr_db_int(st, 2, day);
	(void)wr_db_run(&s->db, WR_SQL_TOKEN_USED, st, NULL);
	wr_store_relax(s, false);
}

/* ---- what one may ---- */

int
wr_store_token_check(struct wr_store *s, const char *token, int64_t now, enum wr_scope *out_scope,
		     struct wr_uuid *out_project, char out_short[16], struct wr_err *err)
{
	static const char denied[] = "the token is unknown or has expired";
	uint8_t hash[HASH_BYTES];
	struct wr_uuid project;
	int64_t scope = 0, expires = 0, used = 0;
	sqlite3_stmt *st;
	int rc;

	if (strlen(token) != strlen(PREFIX) + SECRET_CHARS ||
	    strncmp(token, PREFIX, strlen(PREFIX)) != 0)
		return wr_err_set(err, WR_E_DENIED, denied);
	hash_of(token, hash);
	if (wr_db_get(&s->db, WR_SQL_TOKEN_BY_HASH, &st, err) < 0)
		return -1;
	wr_db_blob(st, 1, hash, sizeof(hash));
	rc = wr_db_step(&s->db, st, err);
	if (rc > 0) {
		scope = sqlite3_column_int64(st, 0);
		wr_db_col_copy(st, 1, project.s, sizeof(project.s));
		expires = sqlite3_column_int64(st, 2);
		used = sqlite3_column_int64(st, 3);
	}
	wr_db_put(&s->db, WR_SQL_TOKEN_BY_HASH, st);
	if (rc < 0)
		return -1;
	if (rc == 0 || (expires && now >= expires) || scope <= WR_SCOPE_NONE ||
	    scope > WR_SCOPE_ADMIN)
		return wr_err_set(err, WR_E_DENIED, denied);
	*out_scope = (enum wr_scope)scope;
	*out_project = project;
	/* Enough to tell tokens apart in a log, useless to guess one. */
	short_of(hash, out_short, 16);
	if (used != now - now % ONE_DAY)
		note_use(s, hash, now - now % ONE_DAY);
	return 0;
}

int
wr_store_token_drop(struct wr_store *s, const struct wr_uuid *project, const char *purpose,
		    struct wr_err *err)
{
	sqlite3_stmt *st;

	if (wr_db_get(&s->db, WR_SQL_TOKEN_DROP, &st, err) < 0)
		return -1;
	wr_db_text(st, 1, project ? project->s : "");
	wr_db_text(st, 2, purpose);
	return wr_db_run(&s->db, WR_SQL_TOKEN_DROP, st, err);
}
