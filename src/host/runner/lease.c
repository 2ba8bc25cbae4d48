/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon leaves for its keepers, which outlive it: until when a project may run unfrozen.
 * And what whoever freezes leaves for the next daemon.
 *
 *   RUN/run/ID.lease   "WRLE" | u32 format 1 | u64 boot | u64 until | u64 ~until
 *                      until: CLOCK_BOOTTIME of that boot, in ns.  No file: no lease is needed.
 *   RUN/frozen/ID      {"format":1,"since","why","heard","by"}
 *   RUN/frozen/ID.about   the same, of a keeper that is at it: renamed when all stand still, so
 *                      that nobody thaws what is being frozen
 *
 * A lease is written over in place: that needs no room, and a full disk must not stop what may run.
 * Half of two leases is recognised by the second copy.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/runner/keeper_int.h"
#include "host/runner/runner.h"
#include "sys/clock.h"
#include "sys/fs.h"

#define MAGIC "WRLE"
#define FORMAT 1
#define LEASE_BYTES 32
#define FROZEN "frozen"
#define ABOUT ".about"
#define MARK_MAX 4096
/* LIMIT: times that half a lease is read again; writing one takes no microsecond. */
#define READ_TRIES 100

/* ---- leases ---- */

static uint64_t
this_boot(void)
{
	static uint64_t boot;
	struct wr_proc_id self;

	if (!boot && wr_proc_id_of(getpid(), &self, NULL) == 0)
		boot = self.boot;
	return boot;
}

static char *
lease_name(const struct wr_uuid *id)
{
	return wr_asprintf("run/%s.lease", id->s);
}

int
wr_run_lease_store(struct wr_node *n, const struct wr_uuid *id, uint64_t until_ns,
		   struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = lease_name(id);
	WR_SCOPED(wr_closep) int fd = -1;
	uint8_t b[LEASE_BYTES];
	ssize_t len = -1;

	memcpy(b, MAGIC, 4);
	wr_put32be(b + 4, FORMAT);
	wr_put64be(b + 8, this_boot());
	wr_put64be(b + 16, until_ns);
	wr_put64be(b + 24, ~until_ns);
	fd = openat(n->run_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0)
		len = pwrite(fd, b, sizeof(b), 0);
	if (len >= 0 && len < (ssize_t)sizeof(b))
		errno = ENOSPC; /* half of one is none */
	return len == (ssize_t)sizeof(b)
		   ? 0
		   : wr_err_sys(err, "write '%s/%s'", WR_Q(n->run_path), name);
}

void
wr_run_lease_remove(struct wr_node *n, const struct wr_uuid *id)
{
	WR_SCOPED(wr_freep) char *name = lease_name(id);

	(void)unlinkat(n->run_fd, name, 0); /* mostly there is none; what stays is swept */
}

uint64_t
wr_run_lease_load(int run_dir, const struct wr_uuid *id)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%s.lease", id->s);
	WR_SCOPED(wr_closep) int fd = openat(run_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint8_t b[LEASE_BYTES];

	for (unsigned i = 0; fd >= 0 && i < READ_TRIES; i++) {
		if (pread(fd, b, sizeof(b), 0) != (ssize_t)sizeof(b) || memcmp(b, MAGIC, 4) != 0 ||
		    wr_get32be(b + 4) != FORMAT || wr_get64be(b + 8) != this_boot())
			return 0;
		if (wr_get64be(b + 16) == ~wr_get64be(b + 24))
			return wr_get64be(b + 16);
	}
	return 0;
}

bool
wr_run_lease_is(const char *name, struct wr_uuid *out_id)
{
	char text[sizeof(out_id->s)];
	const char *dot = strchr(name, '.');

	if (!dot || strcmp(dot, ".lease") != 0 || (size_t)(dot - name) >= sizeof(text))
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)(dot - name), name);
	return wr_uuid_parse(text, out_id);
}

/* ---- marks ---- */

int
wr_frozen_open(int run_fd)
{
	if (mkdirat(run_fd, FROZEN, 0755) < 0 && errno != EEXIST)
		return -1;
	return wr_open_dir(run_fd, FROZEN);
}

static int
mark_store(int run_fd, const char *name, const struct wr_frozen *f, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = wr_frozen_open(run_fd);
	WR_SCOPED(wr_json_freep) json_t *o = json_object();

	wr_json_u64(o, "format", FORMAT);
	wr_json_time(o, "since", f->since);
	wr_json_str(o, "why", f->why);
	if (f->heard)
		wr_json_time(o, "heard", f->heard);
	wr_json_str(o, "by", f->by_keeper ? "keeper" : "daemon");
	if (fd < 0)
		return wr_err_sys(err, "make RUN/" FROZEN);
	return wr_file_store(fd, name, o, MARK_MAX, 0644, false, err);
}

int
wr_frozen_store(int run_fd, const struct wr_uuid *id, const struct wr_frozen *f, struct wr_err *err)
{
	return mark_store(run_fd, id->s, f, err);
}

int
wr_frozen_about(int run_fd, const struct wr_uuid *id, const struct wr_frozen *f, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%s" ABOUT, id->s);

	return mark_store(run_fd, name, f, err);
}

int
wr_frozen_done(int run_fd, const struct wr_uuid *id, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = wr_frozen_open(run_fd);
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%s" ABOUT, id->s);

	if (fd < 0 || renameat(fd, name, fd, id->s) < 0)
		return wr_err_sys(err, "mark what is frozen");
	return 0;
}

void
wr_frozen_remove(int run_fd, const struct wr_uuid *id)
{
	WR_SCOPED(wr_closep) int fd = wr_frozen_open(run_fd);
	WR_SCOPED(wr_freep) char *name = wr_asprintf("%s" ABOUT, id->s);

	if (fd < 0)
		return;
	(void)unlinkat(fd, id->s, 0); /* left behind they are looked at again */
	(void)unlinkat(fd, name, 0);
}

bool
wr_frozen_is(const char *name, struct wr_uuid *out_id, bool *out_about)
{
	char text[sizeof(out_id->s)];
	const char *dot = strchr(name, '.');
	size_t len = dot ? (size_t)(dot - name) : strlen(name);

	*out_about = dot != NULL;
	if ((dot && strcmp(dot, ABOUT) != 0) || len >= sizeof(text))
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)len, name);
	return wr_uuid_parse(text, out_id);
}

void
wr_frozen_load(int frozen_dir, const char *name, struct wr_frozen *out)
{
	WR_SCOPED(wr_json_freep)
	json_t *o = wr_file_load(frozen_dir, name, MARK_MAX, "format", FORMAT, NULL);

	out->since = wr_json_get_time(o, "since", wr_clock_wall().s);
	out->heard = wr_json_get_time(o, "heard", 0);
	out->by_keeper = !strcmp(wr_json_get_str(o, "by", ""), "keeper");
	snprintf(out->why, sizeof(out->why), "%s", wr_json_get_str(o, "why", "?"));
}
