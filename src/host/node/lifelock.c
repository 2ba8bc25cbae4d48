/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A project's lifecycle lock, and who holds it in words for people.
 *
 * flock(2) decides.  It cannot be asked about without taking it, which would refuse those who
 * really want it; so the holder also puts a lock of the other kind on the same open file, which
 * lives and dies with it, and that one can be asked about.
 */
#include "host/node/node_int.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/clock.h"
#include "sys/fs.h"

/* "save by uid 1000 since 10:15:03 (12 s)" from "op OPID save by uid 1000 since TIME pid N"; what
 * does not look so is quoted as it is. Caller frees. */
static char *
holder_text(const char *note)
{
	char kind[32], who[128], since[32];
	int64_t at, age;

	if (sscanf(note, "op %*36s %31s by %127[^\n]", kind, who) == 2) {
		char *s = strstr(who, " since ");

		if (s && sscanf(s, " since %31s", since) == 1 &&
		    wr_parse_utc(since, &at, NULL) == 0) {
			*s = '\0';
			age = wr_clock_wall().s - at;
			since[19] = '\0'; /* as wr_parse_utc wants it: the time of day is 11..18 */
			return wr_asprintf("%s by %s since %s (%" PRId64 " s)", WR_Q(kind),
					   WR_Q(who), since + 11, WR_MAX(age, (int64_t)0));
		}
	}
	return wr_strdup(WR_Q(note));
}

static int
refuse(struct wr_place_of *p, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *note = wr_note_read(p->conf_fd, "lock");
	WR_SCOPED(wr_freep) char *holder = note ? holder_text(note) : NULL;
	struct wr_settings s = {0};
	bool named = wr_settings_load(p, &s, NULL) == 0;

	wr_err_set(err, WR_E_BUSY, "project '%s' is busy%s%s", named ? s.name : p->id.s,
		   holder ? ": " : "", holder ? holder : "");
	wr_settings_fini(&s);
	return wr_err_hint(err, "wait until it ends, or give --wait TIME");
}

int
wr_life_lock(struct wr_place_of *p, int wait_s, const char *note, struct wr_lock *out,
	     struct wr_err *err)
{
	int fd = wr_conf_fd(p, err);
	WR_SCOPED(wr_freep) char *before = NULL;
	const struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct wr_err why = WR_ERR_INIT;

	if (fd < 0)
		return -1;
	if (wr_lock_take(out, fd, "lock", wait_s, "", &before, &why) < 0) {
		if (why.code == WR_E_BUSY)
			return refuse(p, err);
		if (err)
			*err = why;
		return wr_err_wrap(err, "project %s", p->id.s);
	}
	/* For people: a full disk must not keep a project from being stopped. */
	if (wr_lock_note(out, note, &why) < 0 && why.code != WR_E_NOSPACE) {
		*err = why;
		wr_lock_drop(out);
		return wr_err_wrap(err, "project %s", p->id.s);
	}
	if (fcntl(out->fd, F_OFD_SETLK, &mark) < 0) {
		wr_err_sys(err, "mark the lock of project %s", p->id.s);
		wr_lock_drop(out);
		return -1;
	}
	/* It died: what it was writing just then stays behind. Not what is being written now, by
	 * those who need no lock for it. */
	if (before && *before)
		wr_file_sweep(fd, 5);
	return 0;
}

bool
wr_life_lock_held(struct wr_place_of *p, char **out_note)
{
	int conf = wr_conf_fd(p, NULL);
	WR_SCOPED(wr_closep)
	int fd =
	    conf < 0 ? -1 : openat(conf, "lock", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct flock mark = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	*out_note = NULL;
	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &mark) < 0 || mark.l_type == F_UNLCK)
		return false;
	*out_note = wr_note_read(conf, "lock");
	if (!*out_note)
		*out_note = wr_strdup("");
	return true;
}
