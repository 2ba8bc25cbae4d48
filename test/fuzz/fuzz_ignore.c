/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ignore files: the first line is a path, what follows is the file.  Every prefix of the path is
 * matched as a file and as a directory, with both letter cases apart and together.
 */
#include "engine/snap/glob.h"
#include "engine/snap/ignore.h"

#define PATH_BYTES 512 /* the pattern limit is 4096: this keeps an input fast */

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

static void
try_glob(const char *pattern, size_t pattern_len, const char *text, size_t text_len)
{
	for (unsigned flags = 0; flags < 4; flags++) {
		struct wr_glob g = WR_GLOB_INIT;

		if (wr_glob_compile(&g, pattern, pattern_len, flags, NULL) == 0)
			(void)wr_glob_match(&g, text, text_len);
		wr_glob_fini(&g);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	const uint8_t *nl = len ? memchr(p, '\n', len) : NULL;
	size_t path_len = nl ? (size_t)(nl - p) : len;
	const uint8_t *file = nl ? nl + 1 : p + len;
	size_t file_len = (size_t)(p + len - file);
	struct wr_ignore *top, *below;
	struct wr_err err = WR_ERR_INIT;
	char *path;

	path_len = WR_MIN(path_len, (size_t)PATH_BYTES);
	path = wr_malloc(path_len + 1);
	if (path_len)
		memcpy(path, p, path_len);
	path[path_len] = '\0';
	top = wr_ignore_new(NULL, "");
	below = wr_ignore_new(top, "a");
	(void)wr_ignore_add_file(top, file, file_len, &err);
	(void)wr_ignore_add_file(below, file, file_len, &err);
	for (size_t end = 1; end <= path_len; end++) {
		const char *name;
		char *part;

		if (end < path_len && path[end] != '/')
			continue;
		part = wr_memdup(path, end + 1);
		part[end] = '\0';
		name = strrchr(part, '/');
		name = name ? name + 1 : part;
		(void)wr_ignore_match(below, part, end, name, true);
		(void)wr_ignore_match(top, part, end, name, end < path_len);
		free(part);
	}
	nl = file_len ? memchr(file, '\n', file_len) : NULL;
	try_glob((const char *)file, nl ? (size_t)(nl - file) : file_len, path, path_len);
	wr_ignore_unref(below);
	wr_ignore_unref(top);
	free(path);
	return 0;
}
