/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/sock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sys/fs.h"

/* ---- named sockets ---- */

/* A socket's name holds 107 bytes; a longer path goes through a descriptor of its directory, which
 * has to stay open until the address was used. */
struct place {
	int dir_fd;
	const char *name; /* points into the caller's path */
	struct sockaddr_un addr;
};

static void
place_fini(struct place *p)
{
	wr_closep(&p->dir_fd);
}

/* how: O_RDONLY, or O_PATH where only passing through the directory may be allowed. */
static int
place_find(struct place *p, const char *path, int how, struct wr_err *err)
{
	const char *slash = strrchr(path, '/');
	WR_SCOPED(wr_freep) char *dir = wr_strdup(slash ? path : ".");
	char *at = p->addr.sun_path;
	const size_t room = sizeof(p->addr.sun_path);

	if (slash)
		dir[WR_MAX(slash - path, 1)] = '\0';
	p->name = slash ? slash + 1 : path;
	p->addr.sun_family = AF_UNIX;
	p->dir_fd = open(dir, how | O_DIRECTORY | O_CLOEXEC);
	if (p->dir_fd < 0)
		return wr_err_sys(err, "open directory '%s'", WR_Q(dir));
	if (strlen(path) < room)
		memcpy(at, path, strlen(path) + 1);
	else if ((size_t)snprintf(at, room, "/proc/self/fd/%d/%s", p->dir_fd, p->name) >= room)
		return wr_err_set(err, WR_E_INVALID, "the name of socket '%s' is too long",
				  WR_Q(p->name));
	return 0;
}

static int
stream_socket(int flags, struct wr_err *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	return fd < 0 ? wr_err_sys(err, "make a socket") : fd;
}

static int
connect_to(int fd, const struct place *p)
{
	int rc;

	do
		rc = connect(fd, (const struct sockaddr *)&p->addr, sizeof(p->addr));
	while (rc < 0 && errno == EINTR);
	return rc;
}

/* Remove what a dead process left at the place. */
static int
clear_place(const struct place *p, const char *path, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = -1;
	struct stat st;

	if (fstatat(p->dir_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : wr_err_sys(err, "stat '%s'", WR_Q(path));
	if (!S_ISSOCK(st.st_mode))
		return wr_err_set(err, WR_E_EXISTS, "'%s' exists and is no socket", WR_Q(path));
	fd = stream_socket(SOCK_NONBLOCK, err);
	if (fd < 0)
		return -1;
	/* A full queue (EAGAIN) is a sign of life, too. */
	if (connect_to(fd, p) == 0 || errno == EAGAIN || errno == EPROTOTYPE)
		return wr_err_set(err, WR_E_BUSY, "another process listens at '%s'", WR_Q(path));
	if (errno != ECONNREFUSED)
		return wr_err_sys(err, "try socket '%s'", WR_Q(path));
	if (unlinkat(p->dir_fd, p->name, 0) < 0 && errno != ENOENT)
		return wr_err_sys(err, "remove stale socket '%s'", WR_Q(path));
	return 0;
}

int
wr_sock_listen(const char *path, mode_t mode, struct wr_err *err)
{
	struct place p WR_SCOPED(place_fini) = {.dir_fd = -1};
	int fd = -1;

	if (place_find(&p, path, O_RDONLY, err) < 0)
		return wr_err_wrap(err, "listen at '%s'", WR_Q(path));
	/* Two that start at once must not both find the old socket stale. It is let go with the
	 * descriptor. */
	while (flock(p.dir_fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return wr_err_sys(err, "lock the directory of '%s'", WR_Q(path));
	if (clear_place(&p, path, err) < 0)
		return -1;
	fd = stream_socket(SOCK_NONBLOCK, err);
	if (fd < 0)
		return -1;
	/* Nobody can connect before listen, so the mode is in force in time. */
	if (bind(fd, (const struct sockaddr *)&p.addr, sizeof(p.addr)) < 0 ||
	    fchmodat(p.dir_fd, p.name, mode, 0) < 0 || listen(fd, SOMAXCONN) < 0) {
		wr_err_sys(err, "listen at '%s'", WR_Q(path));
		close(fd);
		return -1;
	}
	return fd;
}

int
wr_sock_connect(const char *path, struct wr_err *err)
{
	struct place p WR_SCOPED(place_fini) = {.dir_fd = -1};
	int fd, e;

	if (place_find(&p, path, O_PATH, err) < 0)
		return wr_err_wrap(err, "connect to '%s'", WR_Q(path));
	fd = stream_socket(0, err);
	if (fd < 0)
		return -1;
	if (connect_to(fd, &p) == 0)
		return fd;
	e = errno;
	wr_err_sys(err, "connect to '%s'", WR_Q(path));
	if (e == ECONNREFUSED)
		wr_err_recode(err, WR_E_NOT_FOUND);
	close(fd);
	return -1;
}

int
wr_sock_peer(int fd, struct wr_peer *out, struct wr_err *err)
{
	struct ucred c;
	socklen_t len = sizeof(c);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0)
		return wr_err_sys(err, "ask who is at the other end");
	*out = (struct wr_peer){.pid = c.pid, .uid = c.uid, .gid = c.gid};
	return 0;
}

/* ---- messages ---- */

/* The kernel counts its own overhead in; one message has to fit with room to spare. */
#define MSG_ROOM (WR_MSG_MAX + 4096)

static int
make_room(int fd)
{
	const int want = MSG_ROOM;
	int have = 0;
	socklen_t len = sizeof(have);

	/* The system's limit may be lower; only root passes it. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &want, sizeof(want));
	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &have, &len) == 0 && have < want)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &want, sizeof(want));
	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &have, &len) < 0)
		return -1;
	if (have < want) {
		errno = ENOBUFS;
		return -1;
	}
	return 0;
}

int
wr_msg_pair(int out_fd[2], struct wr_err *err)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) < 0)
		return wr_err_sys(err, "make a pair of sockets");
	if (make_room(fd[0]) < 0 || make_room(fd[1]) < 0) {
		wr_err_sys(err, "make room for messages");
		if (err && err->sys_errno == ENOBUFS)
			wr_err_hint(err, "raise the system's net.core.wmem_max to %u", MSG_ROOM);
		close(fd[0]);
		close(fd[1]);
		return -1;
	}
	out_fd[0] = fd[0];
	out_fd[1] = fd[1];
	return 0;
}

/* Room for the descriptors of one message, aligned as the kernel wants it. */
union control {
	char bytes[CMSG_SPACE(WR_MSG_FDS * sizeof(int))];
	struct cmsghdr align;
};

int
wr_msg_send(int fd, const void *p, size_t len, const int *fds, size_t fd_count, struct wr_err *err)
{
	union {
		const void *in;
		void *out;
	} bytes = {p}; /* sendmsg only reads it */
	struct iovec iov = {.iov_base = bytes.out, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	union control c = {{0}};
	ssize_t n;

	wr_assert(fd_count <= WR_MSG_FDS);
	/* An empty message would read as the end of the stream. */
	if (len == 0 || len > WR_MSG_MAX)
		return wr_err_set(err, WR_E_LIMIT, "a message of %zu bytes; 1 to %u are possible",
				  len, WR_MSG_MAX);
	if (fd_count) {
		struct cmsghdr *h;

		m.msg_control = c.bytes;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(h), fds, fd_count * sizeof(int));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 1;
	if (errno == EAGAIN)
		return 0;
	return wr_err_sys(err, "send a message");
}

/* The descriptors that came along; what is above the limit the kernel has cut off. */
static size_t
take_fds(struct msghdr *m, int fds[WR_MSG_FDS])
{
	size_t count = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t n;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		wr_assert(count + n <= WR_MSG_FDS);
		memcpy(fds + count, CMSG_DATA(h), n * sizeof(int));
		count += n;
	}
	return count;
}

int
wr_msg_recv(int fd, struct wr_buf *out, int fds[WR_MSG_FDS], size_t *out_fd_count,
	    struct wr_err *err)
{
	struct iovec iov;
	union control c;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = c.bytes,
			   .msg_controllen = sizeof(c.bytes)};
	size_t count;
	ssize_t n;

	wr_buf_clear(out);
	wr_buf_reserve(out, WR_MSG_MAX);
	iov = (struct iovec){.iov_base = out->p, .iov_len = WR_MSG_MAX};
	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return wr_err_set(err, WR_E_BUSY, "no message is there");
	if (n < 0)
		return wr_err_sys(err, "receive a message");
	count = take_fds(&m, fds);
	if (n == 0 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		while (count)
			close(fds[--count]);
		if (n == 0)
			return 0;
		return wr_err_set(err, WR_E_LIMIT, "a message of more than %u bytes or %d files",
				  WR_MSG_MAX, WR_MSG_FDS);
	}
	out->len = (size_t)n;
	*out_fd_count = count;
	return 1;
}

/* ---- the service manager ---- */

void
wr_notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;
	WR_SCOPED(wr_closep) int fd = -1;

	if (n < 2 || n >= sizeof(a.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(a.sun_path, path, n);
	if (*path == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* A manager that does not listen will find out by its own means. */
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&a,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}
