/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An operation's log: whoever holds the write end of a pipe may write what he likes, a thread
 * copies the first mebibyte of it and reads the rest away, so nobody is ever held up or stopped by
 * the bound.  The end does not wait for those who still hold the pipe: a hook may have left a
 * process behind.
 */
#include "host/node/node_int.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fs.h"

#define LOG_MAX (1u << 20)
#define CHUNK (64u << 10)

static const char cut_note[] = "\n[the log is full at 1 MiB; what followed was dropped]\n";

struct wr_oplog {
	pthread_t thread;
	int file_fd, read_fd, stop_fd;
	uint64_t room; /* bytes that still fit before the note; the thread's, once it runs */
	bool full;     /* likewise */
	uint8_t chunk[CHUNK];
};

static void
oplog_free(struct wr_oplog *l)
{
	wr_closep(&l->file_fd);
	wr_closep(&l->read_fd);
	wr_closep(&l->stop_fd);
	free(l);
}

/* A log that cannot be written (a full disk) must not end the operation. */
static void
keep(struct wr_oplog *l, size_t len)
{
	size_t n = (size_t)WR_MIN((uint64_t)len, l->room);

	if (l->full)
		return;
	if (wr_write_all(l->file_fd, l->chunk, n) < 0) {
		l->full = true;
		return;
	}
	l->room -= n;
	if (n < len) {
		(void)wr_write_all(l->file_fd, cut_note, strlen(cut_note));
		l->full = true;
	}
}

/* false: nothing there now, or the end. */
static bool
copy_some(struct wr_oplog *l, bool *out_end)
{
	ssize_t n = read(l->read_fd, l->chunk, sizeof(l->chunk));

	if (n > 0) {
		keep(l, (size_t)n);
		return true;
	}
	*out_end = n == 0 || (errno != EAGAIN && errno != EINTR);
	return n < 0 && errno == EINTR;
}

static void *
copy_loop(void *arg)
{
	struct wr_oplog *l = arg;
	struct pollfd p[2] = {{.fd = l->read_fd, .events = POLLIN},
			      {.fd = l->stop_fd, .events = POLLIN}};
	bool end = false;

	while (!end) {
		if (poll(p, 2, -1) < 0)
			continue; /* EINTR */
		if (p[1].revents) {
			/* What was written before the end came; a flood does not keep us. */
			for (unsigned i = 0; i < LOG_MAX / CHUNK && copy_some(l, &end); i++)
				;
			break;
		}
		if (p[0].revents)
			(void)copy_some(l, &end);
	}
	return NULL;
}

int
wr_oplog_begin(int dirfd, const char *name, struct wr_oplog **out, int *out_fd, struct wr_err *err)
{
	struct wr_oplog *l = wr_calloc(1, sizeof(*l));
	struct stat st;
	int p[2], rc;

	l->read_fd = l->stop_fd = -1;
	l->file_fd =
	    openat(dirfd, name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (l->file_fd < 0 || fstat(l->file_fd, &st) < 0) {
		wr_err_sys(err, "open log '%s'", WR_Q(name));
		goto fail;
	}
	/* The note fits below the bound too. */
	l->room = LOG_MAX - sizeof(cut_note);
	l->room -= WR_MIN((uint64_t)st.st_size, l->room);
	l->full = (uint64_t)st.st_size >= LOG_MAX - sizeof(cut_note);
	l->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (l->stop_fd < 0 || pipe2(p, O_CLOEXEC) < 0) {
		wr_err_sys(err, "make the pipe of log '%s'", WR_Q(name));
		goto fail;
	}
	l->read_fd = p[0];
	/* Ours alone: the writers' end is another open file. */
	if (fcntl(p[0], F_SETFL, O_NONBLOCK) < 0) {
		wr_err_sys(err, "make the pipe of log '%s'", WR_Q(name));
		close(p[1]);
		goto fail;
	}
	rc = pthread_create(&l->thread, NULL, copy_loop, l);
	if (rc != 0) {
		errno = rc;
		wr_err_sys(err, "start a thread");
		close(p[1]);
		goto fail;
	}
	*out = l;
	*out_fd = p[1];
	return 0;
fail:
	oplog_free(l);
	return -1;
}

void
wr_oplog_end(struct wr_oplog *l)
{
	const uint64_t one = 1;

	if (!l)
		return;
	(void)wr_write_all(l->stop_fd, &one, sizeof(one)); /* an eventfd takes a first 1 always */
	pthread_join(l->thread, NULL);
	oplog_free(l);
}
