/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of ignore files, read as gitignore(5) says and as git does where it says little. */
#include "engine/snap/ignore.h"

#include <stdatomic.h>

#include "engine/snap/glob.h"

#define PATTERNS_MAX 10000 /* LIMIT: of one level */

struct rule {
	struct wr_glob glob;
	bool negated;   /* `!`: takes back */
	bool dirs_only; /* `/` at its end */
	bool by_path;   /* a `/` elsewhere: matched against the path below the level's directory */
};

struct wr_ignore {
	atomic_uint refs;
	struct wr_ignore *parent; /* a reference */
	char *dir;
	size_t dir_len;
	struct rule *rule;
	size_t count, cap;
};

struct wr_ignore *
wr_ignore_new(struct wr_ignore *parent, const char *dir)
{
	struct wr_ignore *ig = wr_calloc(1, sizeof(*ig));

	atomic_init(&ig->refs, 1);
	ig->parent = parent ? wr_ignore_ref(parent) : NULL;
	ig->dir = wr_strdup(dir);
	ig->dir_len = strlen(dir);
	return ig;
}

struct wr_ignore *
wr_ignore_ref(struct wr_ignore *ig)
{
	atomic_fetch_add_explicit(&ig->refs, 1, memory_order_relaxed);
	return ig;
}

void
wr_ignore_unref(struct wr_ignore *ig)
{
	/* A loop, not recursion: levels are as many as directories are deep. */
	while (ig && atomic_fetch_sub_explicit(&ig->refs, 1, memory_order_acq_rel) == 1) {
		struct wr_ignore *parent = ig->parent;

		for (size_t i = 0; i < ig->count; i++)
			wr_glob_fini(&ig->rule[i].glob);
		free(ig->rule);
		free(ig->dir);
		free(ig);
		ig = parent;
	}
}

/* Length without trailing spaces, unless a backslash protects them. */
static size_t
trim(const char *line, size_t len)
{
	size_t keep = 0;

	for (size_t i = 0; i < len; i++) {
		if (line[i] == ' ')
			continue;
		if (line[i] == '\\' && i + 1 < len)
			i++;
		keep = i + 1;
	}
	return keep;
}

int
wr_ignore_add(struct wr_ignore *ig, const char *line, size_t len, struct wr_err *err)
{
	struct rule r = {.glob = WR_GLOB_INIT};

	len = strnlen(line, len); /* no name holds a NUL: git cuts there */
	if (len == 0 || line[0] == '#')
		return 0;
	len = trim(line, len);
	if (len > 0 && line[0] == '!')
		r.negated = true, line++, len--;
	if (len > 0 && line[len - 1] == '/')
		r.dirs_only = true, len--;
	if (len == 0)
		return 0; /* names nothing */
	r.by_path = memchr(line, '/', len) != NULL;
	if (r.by_path && line[0] == '/')
		line++, len--;
	if (ig->count == PATTERNS_MAX)
		return wr_err_set(err, WR_E_LIMIT, "more than %d patterns in one place",
				  PATTERNS_MAX);
	if (wr_glob_compile(&r.glob, line, len, r.by_path ? WR_GLOB_PATHS : 0, err) < 0)
		return -1;
	wr_grow(&ig->rule, &ig->cap, ig->count + 1, sizeof(*ig->rule));
	ig->rule[ig->count++] = r;
	return 0;
}

int
wr_ignore_add_file(struct wr_ignore *ig, const void *p, size_t len, struct wr_err *err)
{
	const char *at = p, *end = at + len;
	size_t number = 0;

	if (len > WR_IGNORE_FILE_MAX)
		return wr_err_set(err, WR_E_LIMIT, "ignore file is larger than %u bytes",
				  WR_IGNORE_FILE_MAX);
	if (len >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
		at += 3;
	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t n = (size_t)((nl ? nl : end) - at), cr = n > 0 && at[n - 1] == '\r';

		number++;
		if (wr_ignore_add(ig, at, n - cr, err) < 0)
			return wr_err_wrap(err, "line %zu", number);
		at += n + 1;
	}
	return 0;
}

bool
wr_ignore_empty(const struct wr_ignore *ig)
{
	for (; ig; ig = ig->parent)
		if (ig->count)
			return false;
	return true;
}

bool
wr_ignore_match(const struct wr_ignore *ig, const char *path, size_t path_len, const char *name,
		bool is_dir)
{
	size_t name_len = strlen(name);

	for (; ig; ig = ig->parent) {
		const char *below = path;
		size_t below_len = path_len;

		if (ig->dir_len) {
			if (path_len <= ig->dir_len || path[ig->dir_len] != '/' ||
			    memcmp(path, ig->dir, ig->dir_len) != 0)
				continue;
			below += ig->dir_len + 1;
			below_len -= ig->dir_len + 1;
		}
		for (size_t i = ig->count; i-- > 0;) {
			const struct rule *r = &ig->rule[i];

			if (r->dirs_only && !is_dir)
				continue;
			if (r->by_path ? wr_glob_match(&r->glob, below, below_len)
				       : wr_glob_match(&r->glob, name, name_len))
				return !r->negated;
		}
	}
	return false;
}
