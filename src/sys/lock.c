/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/fs.h"

/* Lock files hold a note of a line or two; more is not ours. */
#define NOTE_MAX 4096

static char *
read_note(int fd)
{
	char *s = wr_malloc(NOTE_MAX + 1);
	ssize_t n = wr_pread_full(fd, s, NOTE_MAX, 0);

	s[n > 0 ? n : 0] = '\0';
	return s;
}

int
wr_lock_note(struct wr_lock *l, const char *note, struct wr_err *err)
{
	/* Write before cutting the tail: a reader never meets an empty note of a live holder. */
	if (wr_pwrite_all(l->fd, note, strlen(note), 0) < 0 ||
	    ftruncate(l->fd, (off_t)strlen(note)) < 0)
		return wr_err_sys(err, "write lock file");
	return 0;
}

int
wr_lock_take(struct wr_lock *l, int dirfd, const char *name, int wait_s, const char *note,
	     char **out_prev, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = -1;
	uint64_t end = wr_clock_mono_ns() + (uint64_t)WR_MAX(wait_s, 0) * 1000000000u;
	WR_SCOPED(wr_freep) char *prev = NULL;

	/* Who may open it, if only to read, may lock it, and a lease on it shall not hold us up. */
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return wr_err_sys(err, "open lock file '%s'", name);
	while (flock(fd, wait_s < 0 ? LOCK_EX : LOCK_EX | LOCK_NB) < 0) {
		struct timespec nap = {0, 20000000};

		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return wr_err_sys(err, "lock '%s'", name);
		if (wait_s == 0 || wr_clock_mono_ns() >= end) {
			prev = read_note(fd);
			prev[strcspn(prev, "\n")] = '\0';
			wr_err_set(err, WR_E_BUSY, "in use by another writer (%s)",
				   *prev ? prev : "it left no note");
			return wr_err_hint(err, "wait until it ends, or give --wait SECONDS");
		}
		nanosleep(&nap, NULL);
	}
	prev = read_note(fd);
	l->fd = fd;
	if (wr_lock_note(l, note, err) < 0) {
		l->fd = -1;
		return -1;
	}
	fd = -1;
	if (out_prev)
		*out_prev = wr_steal(&prev);
	return 0;
}

void
wr_lock_drop(struct wr_lock *l)
{
	if (l->fd >= 0) {
		/* An empty note says that nothing was left unfinished; where it cannot be
		 * emptied the next holder just looks once too often. */
		int ignored WR_UNUSED = ftruncate(l->fd, 0);

		close(l->fd);
	}
	l->fd = -1;
}
