/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What limits cost with many projects on a volume: each step over all of them in turn; prints one
 * line of JSON for bench/limits. limits_bench DIR WANT PROJECTS    DIR: empty, on the file system
 * in question
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/quota/quota.h"
#include "sys/clock.h"

#define UID_FIRST 1400000000u
#define LIMIT (UINT64_C(1) << 30)

enum step { MAKE, SET, USAGE, AGAIN, CLEAR_ALL, REMOVE, STEPS };
static const char *const names[STEPS] = {"make",      "set",       "usage",
					 "set_again", "clear_all", "remove"};

struct bench {
	struct wr_quota q;
	int projects_fd;
	size_t count;
	double *us; /* of one step, by project */
};

static void
die(const char *what, const struct wr_err *err)
{
	fprintf(stderr, "limits_bench: %s: %s\n", what, err->msg);
	exit(1);
}

static struct wr_quota_tree
tree(const struct bench *b, size_t i)
{
	struct wr_quota_tree t = {
	    .parent_fd = b->projects_fd, .uid = UID_FIRST + (uid_t)i, .exclusive = true};

	snprintf(t.id.s, sizeof(t.id.s), "%08" PRIx32 "-0000-4000-8000-000000000000", (uint32_t)i);
	return t;
}

/* A file in each, as a home has; where the driver left the directory it goes with it. */
static void
touch(const struct bench *b, const struct wr_quota_tree *t)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%s/file", t->id.s);
	fd = openat(b->projects_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || fchown(fd, t->uid, t->uid) < 0)
		perror("limits_bench: make a file");
	close(fd);
}

static void
leave(const struct bench *b, const struct wr_quota_tree *t)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/file", t->id.s);
	if (unlinkat(b->projects_fd, name, 0) < 0 ||
	    unlinkat(b->projects_fd, t->id.s, AT_REMOVEDIR) < 0)
		perror("limits_bench: remove a tree");
}

static void
one(struct bench *b, enum step s, size_t i)
{
	const struct wr_quota_limits limits = {.bytes = LIMIT, .inodes = 100000};
	const struct wr_quota_tree t = tree(b, i);
	struct wr_err err = WR_ERR_INIT;
	struct wr_quota_usage u;
	uint64_t bytes;
	bool gone;
	int rc = 0;

	switch (s) {
	case MAKE:
		rc = wr_quota_make_tree(&b->q, &t, 0700, &err);
		if (rc == 0)
			touch(b, &t);
		break;
	case SET:
	case AGAIN:
		rc = wr_quota_set(&b->q, &t, &limits, &err);
		break;
	case USAGE:
		rc = wr_quota_usage(&b->q, &t, &u, &err);
		if (rc < 0 && err.code == WR_E_UNSUPPORTED)
			rc = 0; /* nobody counts */
		break;
	default:
		rc = wr_quota_remove_tree(&b->q, &t, &gone, &bytes, &err);
		if (rc == 0 && !gone)
			leave(b, &t);
		break;
	}
	if (rc < 0)
		die(names[s], &err);
}

static double
now_us(void)
{
	return (double)wr_clock_mono_ns() / 1e3;
}

static void
clear_all(struct bench *b)
{
	struct wr_quota_owner *all = calloc(b->count, sizeof(*all));
	struct wr_err err = WR_ERR_INIT;
	size_t cleared;

	for (size_t i = 0; all && i < b->count; i++) {
		const struct wr_quota_tree t = tree(b, i);

		all[i] =
		    (struct wr_quota_owner){.id = t.id, .uid = t.uid, .exclusive = t.exclusive};
	}
	if (!all || wr_quota_clear_all(&b->q, all, b->count, &cleared, &err) < 0)
		die("clear_all", &err);
	free(all);
}

static int
by_size(const void *x, const void *y)
{
	const double a = *(const double *)x, b = *(const double *)y;

	return a < b ? -1 : a > b;
}

static void
run(struct bench *b, enum step s)
{
	const double begin = now_us();
	size_t n = b->count;

	if (s == CLEAR_ALL) {
		clear_all(b);
		b->us[0] = now_us() - begin;
		n = 1;
	} else {
		for (size_t i = 0; i < n; i++) {
			const double t = now_us();

			one(b, s, i);
			b->us[i] = now_us() - t;
		}
	}
	qsort(b->us, n, sizeof(*b->us), by_size);
	printf("%s\"%s\": {\"median_us\": %.1f, \"p95_us\": %.1f, \"total_ms\": %.1f}",
	       s ? ", " : "", names[s], b->us[n / 2], b->us[n - 1 - n / 20],
	       (now_us() - begin) / 1e3);
}

int
main(int argc, char **argv)
{
	struct bench b = {.q = WR_QUOTA_INIT};
	struct wr_err err = WR_ERR_INIT;
	int dir;

	if (argc < 4 || argc > 5 || !(b.count = strtoul(argv[3], NULL, 10))) {
		fprintf(stderr, "usage: limits_bench DIR btrfs|prjquota|none PROJECTS [keep]\n");
		return 2;
	}
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || mkdirat(dir, "projects", 0755) < 0 || mkdirat(dir, "state", 0700) < 0) {
		perror(argv[1]);
		return 1;
	}
	b.projects_fd = openat(dir, "projects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b.us = calloc(b.count, sizeof(*b.us));
	int state = openat(dir, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!b.us || wr_quota_open(b.projects_fd, state, argv[1], argv[2], true, &b.q, &err) < 0)
		die("open", &err);
	if (strcmp(b.q.caps.driver, argv[2]) != 0) {
		fprintf(stderr, "limits_bench: no %s here: %s\n", argv[2], b.q.why);
		return 1;
	}
	printf("{\"driver\": \"%s\", \"simple\": %s, \"projects\": %zu, ", b.q.caps.driver,
	       b.q.simple ? "true" : "false", b.count);
	for (enum step s = MAKE; s < (argc == 5 ? USAGE : STEPS); s++)
		run(&b, s);
	printf("}\n");
	wr_quota_close(&b.q);
	free(b.us);
	close(state);
	close(b.projects_fd);
	close(dir);
	return 0;
}
