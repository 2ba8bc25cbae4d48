/* SPDX-License-Identifier: Apache-2.0 */
/* Commit objects, and identities made from any bytes. */
#include "engine/object/commit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What we write we can read, and the parts survive. */
static void
round_trip(const char *ident, const char *message, int64_t seconds)
{
	struct wr_id tree = {{1, 2, 3}}, parent = {{4, 5, 6}};
	struct wr_buf b = WR_BUF_INIT;
	struct wr_commit c = WR_COMMIT_INIT;

	wr_commit_format(&b, &tree, &parent, ident, seconds, message);
	wr_assert(wr_commit_parse(b.p, b.len, &c, NULL) == 0);
	wr_assert(wr_id_eq(&c.tree, &tree));
	wr_assert(c.parent_count == 1 && wr_id_eq(&c.parent[0], &parent));
	wr_assert(c.author_time == seconds && c.committer_time == seconds);
	wr_assert(!strcmp(c.author, ident) && !strcmp(c.committer, ident));
	wr_assert(!strncmp(c.message, message, strlen(message)));
	wr_commit_fini(&c);
	wr_buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_commit c = WR_COMMIT_INIT;
	struct wr_err err = WR_ERR_INIT;
	char *text = wr_malloc(size + 1), *mail, *ident;

	if (wr_commit_parse(data, size, &c, &err) == 0) {
		free(wr_commit_trailer(&c, "Warren-Version"));
		free(wr_commit_trailer(&c, ""));
		wr_commit_fini(&c);
	} else {
		wr_assert(err.code == WR_E_CORRUPT);
	}

	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	mail = strchr(text, '\n');
	if (mail)
		*mail++ = '\0';
	ident = wr_ident(text, mail ? mail : "");
	round_trip(ident, "message\n", (int64_t)size);
	free(ident);
	(void)wr_ref_name_check(text, NULL);
	free(text);
	return 0;
}
