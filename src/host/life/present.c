/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The home of an active project: a bind mount of its working files, or, where we may not mount, a
 * symlink to them.
 */
#include "host/life/life_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/bind.h"

/* LIMIT: of /proc/self/mountinfo; a host with 10,000 active projects has about 2 MiB. */
#define MOUNTINFO_MAX ((size_t)64 << 20)
/* LIMIT: of mounts on one home that are taken away. */
#define STACK_MAX 16

static bool
by_mount(const struct wr_node *n)
{
	return n->root_mode && wr_mount_available();
}

/* The text of the link at path; NULL if it is none. Caller frees. */
static char *
link_text(const char *path)
{
	char buf[4096];
	ssize_t n = readlink(path, buf, sizeof(buf) - 1);

	if (n < 0)
		return NULL;
	buf[n] = '\0';
	return wr_strdup(buf);
}

/* The machine started after `when`. */
static bool
before_boot(int64_t when)
{
	struct timespec up;

	if (when <= 0 || clock_gettime(CLOCK_BOOTTIME, &up) < 0)
		return false;
	return when < wr_clock_wall().s - (int64_t)up.tv_sec - 1;
}

static bool
link_presented(struct wr_place_of *p, const char *home)
{
	WR_SCOPED(wr_freep) char *tree = wr_tree_path(p);
	WR_SCOPED(wr_freep) char *text = link_text(home);
	struct wr_status s;

	if (!text || strcmp(text, tree) != 0)
		return false;
	/* A link outlives a reboot, what ran behind it does not. */
	wr_status_load(p, &s);
	return !(s.active && before_boot(s.when));
}

bool
wr_life_presented(struct wr_place_of *p, const struct wr_settings *set)
{
	WR_SCOPED(wr_freep)
	char *home = wr_settings_home(set, p->node->root ? p->node->root : "");
	WR_SCOPED(wr_closep) int tree = -1;

	if (!by_mount(p->node))
		return link_presented(p, home);
	tree = wr_tree_open(p, NULL);
	return tree >= 0 && wr_mount_is(tree, home);
}

/* Undo the octal escapes of mountinfo in place. */
static void
unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* Does a directory projects/ID lie mounted at home, also one that was removed meanwhile? */
static bool
ours_at(const struct wr_uuid *id, const char *home)
{
	WR_SCOPED(wr_freep) char *end = wr_asprintf("/projects/%s", id->s);
	WR_SCOPED(wr_freep) char *gone = wr_asprintf("%s//deleted", end);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	bool found = false;
	char *save = NULL;

	if (wr_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &b, NULL) < 0)
		return false;
	/* Later lines are mounted on top; the last one at home decides. */
	for (char *line = strtok_r(wr_buf_str(&b), "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *word = NULL, *root = NULL, *at = NULL, *s = NULL;
		size_t n, e;

		for (unsigned i = 0; i < 5; i++) {
			word = strtok_r(i ? NULL : line, " ", &s);
			if (i == 3)
				root = word;
			at = word;
		}
		if (!root || !at)
			continue;
		unescape(root);
		unescape(at);
		if (strcmp(at, home) != 0)
			continue;
		n = strlen(root);
		e = strlen(end);
		found = n >= e && !strcmp(root + n - e, end);
		e = strlen(gone);
		found = found || (n >= e && !strcmp(root + n - e, gone));
	}
	return found;
}

/* One on top of the other, if it was presented twice. */
static int
drop_ours(struct wr_life *l, struct wr_err *err)
{
	for (unsigned i = 0; ours_at(&l->project, l->home); i++) {
		if (i == STACK_MAX)
			return wr_err_set(err, WR_E_LIMIT, "more than %u mounts lie there", i);
		bool held;

		if (wr_mount_drop(l->home, &held, err) < 0)
			return -1;
		l->held |= held;
	}
	return 0;
}

static int
in_the_way(const struct wr_life *l, const char *what, struct wr_err *err)
{
	wr_err_set(err, WR_E_EXISTS, "home '%s' of project '%s' is taken by %s", WR_Q(l->home),
		   l->set.name, what);
	return wr_err_hint(err, "move it away, or: warren settings %s home=/another/place",
			   l->set.name);
}

/* A directory with something in it would be hidden by a mount. */
static bool
has_entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	bool some = false;

	if (!d)
		return false;
	while (!some && (e = readdir(d)))
		some = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	return some;
}

static int
present_mount(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int tree = wr_tree_open(&l->place, err);
	struct stat st;

	if (tree < 0)
		return -1;
	if (wr_mount_is(tree, l->home))
		return 0;
	if (drop_ours(l, err) < 0) /* of files that were removed since */
		return -1;
	if (lstat(l->home, &st) == 0) {
		if (S_ISLNK(st.st_mode))
			return in_the_way(l, "a symlink", err);
		if (!S_ISDIR(st.st_mode))
			return in_the_way(l, "a file", err);
		if (has_entries(l->home))
			return in_the_way(l, "a directory that is not empty", err);
	}
	return wr_mount_bind(tree, l->home, err);
}

static int
present_link(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *tree = wr_tree_path(&l->place);
	WR_SCOPED(wr_freep) char *text = link_text(l->home);
	WR_SCOPED(wr_freep) char *dir = wr_strdup(l->home);
	char *slash = strrchr(dir, '/');

	if (text && !strcmp(text, tree))
		return 0;
	if (text)
		return in_the_way(l, "another symlink", err);
	if (slash && slash != dir) {
		*slash = '\0';
		if (wr_mkdirs(AT_FDCWD, dir, 0755, err) < 0)
			return -1;
	}
	if (symlink(tree, l->home) < 0) {
		if (errno == EEXIST)
			return in_the_way(l, "something else", err);
		return wr_err_sys(err, "make link '%s'", WR_Q(l->home));
	}
	return 0;
}

int
wr_life_present(struct wr_life *l, struct wr_err *err)
{
	if ((by_mount(l->node) ? present_mount(l, err) : present_link(l, err)) < 0)
		return wr_err_wrap(err, "present the home of '%s'", l->set.name);
	return 0;
}

int
wr_life_unpresent(struct wr_life *l, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *tree = wr_tree_path(&l->place);
	WR_SCOPED(wr_freep) char *text = NULL;

	if (by_mount(l->node)) {
		if (drop_ours(l, err) < 0)
			return wr_err_wrap(err, "unmount '%s'", WR_Q(l->home));
		return 0;
	}
	text = link_text(l->home);
	if (text && !strcmp(text, tree) && unlink(l->home) < 0)
		return wr_err_sys(err, "remove link '%s'", WR_Q(l->home));
	return 0;
}
