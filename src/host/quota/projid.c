/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STATE/projid/NUMBER -> ID or ID.scratch.  A number is one of the few that its name leads to, the
 * first that was free: who has it is found without a list, and two who meet there cannot both have
 * it.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/quota/quota_int.h"
#include "sys/fs.h"

#define DIR_NAME "projid"
/* LIMIT: with a million projects one in 10^15 finds none. */
#define TRIES 8

#define SCRATCH ".scratch"
/* Whose it is, as the link says it. */
struct name {
	char s[sizeof(struct wr_uuid) + sizeof(SCRATCH)];
};

static struct name
name_of(const struct wr_uuid *id, bool scratch)
{
	struct name n;

	snprintf(n.s, sizeof(n.s), "%s%s", id->s, scratch ? SCRATCH : "");
	return n;
}

static uint32_t
candidate(const struct name *id, uint32_t i)
{
	uint32_t h = 2166136261u; /* FNV-1a: ids are random, it only has to take in all of them */

	for (const char *s = id->s; *s; s++)
		h = (h ^ (uint8_t)*s) * 16777619u;
	h = (h ^ i) * 16777619u;
	h ^= h >> 15;
	return WR_PROJID_FIRST | (h & (WR_PROJID_FIRST - 1));
}

static bool
owner_in(int dir, uint32_t number, struct name *out)
{
	char name[16];
	ssize_t n;

	snprintf(name, sizeof(name), "%u", number);
	n = readlinkat(dir, name, out->s, sizeof(out->s));
	if (n <= 0 || (size_t)n >= sizeof(out->s))
		return false;
	out->s[n] = '\0';
	return true;
}

static int
open_dir(int state_fd, bool add, struct wr_err *err)
{
	int fd = wr_open_dir(state_fd, DIR_NAME);

	if (fd >= 0 || errno != ENOENT || !add)
		return fd >= 0 ? fd : wr_err_sys(err, "open 'state/" DIR_NAME "'");
	if (mkdirat(state_fd, DIR_NAME, 0700) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make directory 'state/" DIR_NAME "'");
	if (wr_fsync_dir(state_fd, ".", err) < 0)
		return -1;
	fd = wr_open_dir(state_fd, DIR_NAME);
	return fd >= 0 ? fd : wr_err_sys(err, "open 'state/" DIR_NAME "'");
}

int
wr_projid_of(int state_fd, const struct wr_uuid *id, bool scratch, bool add, uint32_t *out,
	     struct wr_err *err)
{
	const struct name own = name_of(id, scratch);
	struct wr_err why = WR_ERR_INIT;
	WR_SCOPED(wr_closep) int dir = open_dir(state_fd, add, &why);
	char name[16];

	*out = 0;
	if (dir < 0 && !add && why.code == WR_E_NOT_FOUND)
		return 0;
	if (dir < 0) {
		*err = why;
		return -1;
	}
	for (uint32_t i = 0; i < TRIES; i++) {
		struct name whose;

		if (owner_in(dir, candidate(&own, i), &whose) && !strcmp(whose.s, own.s)) {
			*out = candidate(&own, i);
			return 0;
		}
	}
	for (uint32_t i = 0; add && i < TRIES; i++) {
		struct name whose;

		snprintf(name, sizeof(name), "%u", candidate(&own, i));
		if (symlinkat(own.s, dir, name) < 0 && errno != EEXIST)
			return wr_err_sys(err, "make 'state/" DIR_NAME "/%s'", name);
		/* Another may have made it meanwhile, for itself or for this very project. */
		if (!owner_in(dir, candidate(&own, i), &whose) || strcmp(whose.s, own.s) != 0)
			continue;
		/* DURABLE: before any file carries it. */
		if (wr_fsync_dir(dir, ".", err) < 0)
			return -1;
		*out = candidate(&own, i);
		return 0;
	}
	return add ? wr_err_set(err, WR_E_LIMIT, "no number is free for project %s", id->s) : 0;
}

bool
wr_projid_owner(int state_fd, uint32_t number, struct wr_uuid *out)
{
	WR_SCOPED(wr_closep) int dir = wr_open_dir(state_fd, DIR_NAME);
	struct name whose;
	char *end;

	if (dir < 0 || !owner_in(dir, number, &whose))
		return false;
	end = strchr(whose.s, '.');
	if (end && !strcmp(end, SCRATCH))
		*end = '\0';
	return wr_uuid_parse(whose.s, out);
}
