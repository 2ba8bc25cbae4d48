/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/listing.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fs.h"

#define DENTS_BYTES (128u << 10)
#define IGNORE_FILE ".warrenignore"
#define CACHEDIR_TAG "CACHEDIR.TAG"
/* bford.info/cachedir: the first bytes of the tag file */
#define CACHEDIR_SIGNATURE "Signature: 8a477f597d28d172789f06886806bc55"

void
wr_listing_fini(struct wr_listing *l)
{
	free(l->ent);
	wr_buf_fini(&l->names);
	wr_buf_fini(&l->dents);
	*l = (struct wr_listing)WR_LISTING_INIT;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct wr_name *)a)->name, ((const struct wr_name *)b)->name);
}

static uint8_t
type_of(int fd, const char *name)
{
	struct stat st;

	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint8_t)IFTODT(st.st_mode)
								: DT_UNKNOWN;
}

int
wr_listing_read(struct wr_listing *l, int fd, struct wr_err *err)
{
	bool sorted = true;

	l->count = 0;
	wr_buf_clear(&l->names);
	wr_buf_reserve(&l->dents, DENTS_BYTES);
	for (;;) {
		ssize_t n = getdents64(fd, l->dents.p, DENTS_BYTES);

		if (n < 0)
			return wr_err_sys(err, "read directory");
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n;) {
			const struct dirent64 *d = (const void *)(l->dents.p + i);
			size_t len = strlen(d->d_name);

			i += d->d_reclen;
			if (d->d_name[0] == '.' && (len == 1 || (len == 2 && d->d_name[1] == '.')))
				continue;
			wr_grow(&l->ent, &l->cap, l->count + 1, sizeof(*l->ent));
			/* The names may still move: keep their offset for now. */
			l->ent[l->count++] = (struct wr_name){(const char *)(uintptr_t)l->names.len,
							      (uint16_t)len, d->d_type};
			wr_buf_add(&l->names, d->d_name, len + 1);
		}
	}
	for (size_t i = 0; i < l->count; i++) {
		l->ent[i].name = (const char *)l->names.p + (uintptr_t)l->ent[i].name;
		if (l->ent[i].type == DT_UNKNOWN) /* a file system that does not tell */
			l->ent[i].type = type_of(fd, l->ent[i].name);
		if (i && sorted)
			sorted = strcmp(l->ent[i - 1].name, l->ent[i].name) < 0;
	}
	if (!sorted)
		qsort(l->ent, l->count, sizeof(*l->ent), by_name);
	return 0;
}

static bool
has_name(const struct wr_listing *l, const char *name)
{
	struct wr_name key = {.name = name};

	return l->count && bsearch(&key, l->ent, l->count, sizeof(*l->ent), by_name);
}

static bool
is_cachedir(int dirfd)
{
	char head[sizeof(CACHEDIR_SIGNATURE) - 1];
	WR_SCOPED(wr_closep)
	int fd = openat(dirfd, CACHEDIR_TAG, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 && wr_pread_full(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
	       memcmp(head, CACHEDIR_SIGNATURE, sizeof(head)) == 0;
}

void
wr_rules_enter(struct wr_rules *out, struct wr_ignore *above, int dirfd, const char *path,
	       const struct wr_listing *l)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	ssize_t n;

	out->level = above ? wr_ignore_ref(above) : NULL;
	out->cachedir = has_name(l, CACHEDIR_TAG) && is_cachedir(dirfd);
	if (!has_name(l, IGNORE_FILE))
		return;
	fd = openat(dirfd, IGNORE_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	wr_buf_reserve(&text, WR_IGNORE_FILE_MAX);
	n = wr_pread_full(fd, text.p, WR_IGNORE_FILE_MAX, 0);
	if (n == WR_IGNORE_FILE_MAX) /* half a line could leave out more than the whole */
		while (n > 0 && text.p[n - 1] != '\n')
			n--;
	if (n <= 0)
		return;
	wr_ignore_unref(out->level);
	out->level = wr_ignore_new(above, path);
	/* Lines past a limit are not honoured: too much is saved rather than too little. */
	(void)wr_ignore_add_file(out->level, text.p, (size_t)n, NULL);
}

void
wr_rules_fini(struct wr_rules *r)
{
	wr_ignore_unref(r->level);
	r->level = NULL;
}

const char *
wr_rules_out(const struct wr_rules *r, const char *path, size_t path_len, const char *name,
	     bool is_dir)
{
	if (r->cachedir && strcmp(name, CACHEDIR_TAG) != 0)
		return "cache directory";
	if (r->level && !wr_ignore_empty(r->level) &&
	    wr_ignore_match(r->level, path, path_len, name, is_dir))
		return "excluded";
	return NULL;
}
