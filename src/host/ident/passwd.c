/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of passwd and group.  Ours have the mark in place of a password, which none can match; a
 * line of passwd says in its fifth field whose it is:
 *   NAME:!warren:UID:GID:warren PROJECT:HOME:SHELL
 *   NAME:!warren:GID:
 * Everything else is copied byte by byte, under the lock that useradd and vipw take.  The group is
 * made first and goes first, so a line of passwd is there for what is left of a half-done change.
 */
#include "host/ident/ident_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/fs.h"

#define MARK "!warren"
/* LIMIT: of passwd and group: 100,000 accounts and more. */
#define FILE_MAX ((size_t)64 << 20)
/* As lckpwdf(3) does. */
#define LOCK_WAIT_S 15
#define LOCK_AGAIN_MS 20
#define FIELDS 7

struct files {
	int dir, lock;
};

static void
files_fini(struct files *f)
{
	wr_closep(&f->lock);
	wr_closep(&f->dir);
}

/* The lock file of lckpwdf, which knows one directory only. */
static int
files_open(const struct wr_node *n, struct files *f, struct wr_err *err)
{
	const struct timespec again = {.tv_nsec = LOCK_AGAIN_MS * 1000000};
	WR_SCOPED(wr_freep)
	char *path = n->config.identity_etc ? wr_strdup(n->config.identity_etc)
		     : n->root              ? wr_asprintf("%s/etc", n->root)
					    : wr_strdup("/etc");
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	f->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dir < 0)
		return wr_err_sys(err, "open '%s'", path);
	f->lock = openat(f->dir, ".pwd.lock", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->lock < 0)
		return wr_err_sys(err, "open '%s/.pwd.lock'", path);
	for (unsigned i = 0; i < LOCK_WAIT_S * 1000 / LOCK_AGAIN_MS; i++) {
		if (fcntl(f->lock, F_OFD_SETLK, &l) == 0)
			return 0;
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return wr_err_sys(err, "lock '%s/.pwd.lock'", path);
		(void)nanosleep(&again, NULL);
	}
	return wr_err_set(err, WR_E_BUSY, "'%s/.pwd.lock' is held by another program", path);
}

struct line {
	char *copy;
	const char *field[FIELDS];
	size_t count;
};

static void
line_fini(struct line *l)
{
	free(l->copy);
	l->copy = NULL;
}

static void
line_of(const uint8_t *p, size_t len, struct line *out)
{
	char *at;

	out->copy = wr_malloc(len + 1);
	memcpy(out->copy, p, len);
	out->copy[len] = '\0';
	out->count = 0;
	for (at = out->copy; at && out->count < FIELDS;) {
		char *colon = strchr(at, ':');

		out->field[out->count++] = at;
		if (colon)
			*colon++ = '\0';
		at = colon;
	}
	for (size_t i = out->count; i < FIELDS; i++)
		out->field[i] = "";
}

static bool
is_ours(const struct line *l)
{
	return !strcmp(l->field[1], MARK);
}

/* What to do about each line: true keeps it. */
typedef int (*keep_fn)(void *ctx, const struct line *l, struct wr_err *err);

/* Copy dir/name without the lines that keep gives 0 for (-1: an error), with add (or NULL) behind
 * them; a file that stays the same is not written. */
static int
rewrite(const struct files *f, const char *name, keep_fn keep, void *ctx, const char *add,
	struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf in = WR_BUF_INIT, out = WR_BUF_INIT;
	struct stat st;

	if (wr_read_file(f->dir, name, FILE_MAX, &in, err) < 0)
		return -1;
	if (fstatat(f->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return wr_err_set(err, WR_E_UNSUPPORTED, "'%s' is not a plain file", name);
	for (size_t i = 0; i < in.len;) {
		const uint8_t *lf = memchr(in.p + i, '\n', in.len - i);
		size_t len = lf ? (size_t)(lf - (in.p + i)) : in.len - i;
		WR_SCOPED(line_fini) struct line l = {0};
		int rc;

		line_of(in.p + i, len, &l);
		rc = keep(ctx, &l, err);
		if (rc < 0)
			return -1;
		if (rc > 0) {
			wr_buf_add(&out, in.p + i, len);
			if (lf || add)
				wr_buf_add8(&out, '\n');
		}
		i += len + 1;
	}
	if (add)
		wr_buf_adds(&out, add);
	if (out.len == in.len && memcmp(out.p, in.p, in.len) == 0)
		return 0;
	return wr_replace_file(f->dir, name, out.p, out.len, (int)(st.st_mode & 07777), err);
}

struct entry {
	const char *name;
	uint32_t id;
	char mark[64]; /* fifth field of passwd; "" of group: any line of ours */
	char found[256];
};

static bool
is_mine(const struct entry *e, const struct line *l)
{
	return is_ours(l) && (!*e->mark || (l->count > 4 && !strcmp(l->field[4], e->mark)));
}

/* Ours goes, to be written again; another's with the name or the number stands in the way. */
static int
make_room(void *ctx, const struct line *l, struct wr_err *err)
{
	const struct entry *e = ctx;
	uint64_t id;
	bool same_id = wr_parse_u64(l->field[2], &id, NULL) == 0 && id == e->id,
	     same_name = !strcmp(l->field[0], e->name);

	if (is_mine(e, l) && (*e->mark || same_id))
		return 0;
	if (!same_id && !same_name)
		return 1;
	return wr_err_set(err, WR_E_EXISTS, "%s: '%s' with number %s is somebody else's",
			  *e->mark ? "passwd" : "group", WR_Q(l->field[0]), WR_Q(l->field[2]));
}

static void
entry_of(struct entry *e, const struct wr_uuid *project)
{
	snprintf(e->mark, sizeof(e->mark), "warren %s", project->s);
}

int
wr_passwd_make(const struct wr_node *n, const struct wr_settings *s, struct wr_err *err)
{
	WR_SCOPED(files_fini) struct files f = {-1, -1};
	WR_SCOPED(wr_freep) char *home = wr_settings_home(s, n->root ? n->root : "");
	const char *name = wr_account_of(s), *shell = wr_ident_shell(s);
	struct entry user = {.name = name, .id = s->uid}, group = {.name = name, .id = s->gid};
	WR_SCOPED(wr_freep) char *line = NULL;
	WR_SCOPED(wr_freep) char *group_line = wr_asprintf("%s:" MARK ":%u:\n", name, s->gid);

	if (strpbrk(home, ":\n") || strpbrk(shell, ":\n"))
		return wr_err_set(err, WR_E_INVALID, "passwd: home '%s' or shell '%s' has a colon",
				  WR_Q(home), WR_Q(shell));
	entry_of(&user, &s->id);
	line = wr_asprintf("%s:" MARK ":%u:%u:%s:%s:%s\n", name, s->uid, s->gid, user.mark, home,
			   shell);
	if (files_open(n, &f, err) < 0)
		return -1;
	if (s->gid == s->uid && rewrite(&f, "group", make_room, &group, group_line, err) < 0)
		return -1;
	return rewrite(&f, "passwd", make_room, &user, line, err);
}

static int
find_mine(void *ctx, const struct line *l, struct wr_err *err WR_UNUSED)
{
	struct entry *e = ctx;
	uint64_t gid;

	if (is_mine(e, l) && strlen(l->field[0]) < sizeof(e->found) &&
	    wr_parse_u64(l->field[3], &gid, NULL) == 0) {
		memcpy(e->found, l->field[0], strlen(l->field[0]) + 1);
		e->id = (uint32_t)gid;
	}
	return 1;
}

static int
drop_mine(void *ctx, const struct line *l, struct wr_err *err WR_UNUSED)
{
	return !is_mine(ctx, l);
}

static int
drop_group(void *ctx, const struct line *l, struct wr_err *err WR_UNUSED)
{
	const struct entry *e = ctx;
	uint64_t gid;

	return !(is_ours(l) && !strcmp(l->field[0], e->found) &&
		 wr_parse_u64(l->field[2], &gid, NULL) == 0 && gid == e->id);
}

int
wr_passwd_drop(const struct wr_node *n, const struct wr_uuid *project, struct wr_err *err)
{
	WR_SCOPED(files_fini) struct files f = {-1, -1};
	struct entry e = {.name = ""};

	entry_of(&e, project);
	if (files_open(n, &f, err) < 0 || rewrite(&f, "passwd", find_mine, &e, NULL, err) < 0)
		return -1;
	if (!*e.found)
		return 0;
	if (rewrite(&f, "group", drop_group, &e, NULL, err) < 0)
		return -1;
	return rewrite(&f, "passwd", drop_mine, &e, NULL, err);
}
