/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets: long paths, stale ones, whole messages with descriptors, their bounds. */
#include "sys/sock.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/fs.h"
#include "sys/test_dir.h"

/* ---- named ---- */

static void
talk_at(const char *path)
{
	struct wr_err e = WR_ERR_INIT;
	int server, client, conn;
	struct wr_peer peer;
	struct stat st;
	char c = 0;

	server = wr_sock_listen(path, 0640, &e);
	if (server < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
	assert_int_equal(accept(server, NULL, NULL), -1); /* does not wait */
	client = wr_sock_connect(path, &e);
	if (client < 0)
		fail_msg("%s", e.msg);
	assert_false(fcntl(client, F_GETFL) & O_NONBLOCK);
	conn = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	assert_true(conn >= 0);
	assert_int_equal(wr_sock_peer(conn, &peer, &e), 0);
	assert_int_equal(peer.pid, getpid());
	assert_int_equal(peer.uid, getuid());
	assert_int_equal(peer.gid, getgid());
	assert_int_equal(wr_write_all(client, "x", 1), 0);
	assert_int_equal(wr_read_full(conn, &c, 1), 1);
	assert_int_equal(c, 'x');

	/* It is alive, so nobody else gets the place. */
	assert_int_equal(wr_sock_listen(path, 0600, &e), -1);
	assert_int_equal(e.code, WR_E_BUSY);
	close(conn);
	close(client);
	close(server);
	/* Its file stays, as after kill -9. */
	assert_int_equal(wr_sock_connect(path, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	server = wr_sock_listen(path, 0600, &e);
	assert_true(server >= 0);
	client = wr_sock_connect(path, &e);
	assert_true(client >= 0);
	close(client);
	close(server);
}

static void
test_listen__short_path(void **state)
{
	struct dir *d = *state;
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/s", d->path);

	talk_at(path);
}

static void
test_listen__path_of_any_length(void **state)
{
	struct dir *d = *state;
	WR_SCOPED(wr_freep)
	char *dir = wr_asprintf("%s/%0200d/%0200d", d->path, 1, 2);
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/socket", dir);
	WR_SCOPED(wr_freep) char *long_name = wr_asprintf("%s/%0120d", dir, 3);
	struct wr_err e = WR_ERR_INIT;

	assert_int_equal(wr_mkdirs(AT_FDCWD, dir, 0755, &e), 0);
	talk_at(path);
	assert_int_equal(wr_sock_listen(long_name, 0600, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
}

static void
test_listen__what_is_no_socket_stays(void **state)
{
	struct dir *d = *state;
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/f", d->path);
	WR_SCOPED(wr_freep) char *none = wr_asprintf("%s/none/s", d->path);
	struct wr_err e = WR_ERR_INIT;
	struct stat st;

	assert_int_equal(wr_replace_file(d->fd, "f", "text", 4, 0644, &e), 0);
	assert_int_equal(wr_sock_listen(path, 0600, &e), -1);
	assert_int_equal(e.code, WR_E_EXISTS);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(wr_sock_listen(none, 0600, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_int_equal(wr_sock_connect(none, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
}

/* Of many that start at the same time one wins, also over an old socket. */
static void
test_listen__one_of_many(void **state)
{
	struct dir *d = *state;
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/s", d->path);
	int go[2], won = 0, rc;
	pid_t pid[8];

	rc = wr_sock_listen(path, 0600, NULL);
	assert_true(rc >= 0);
	close(rc); /* stale */
	assert_int_equal(pipe(go), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(pid); i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			char c;
			int ok;

			close(go[1]);
			(void)wr_read_full(go[0], &c, 1); /* the end of it is the start */
			ok = wr_sock_listen(path, 0600, NULL) >= 0;
			if (ok)
				pause();
			_exit(1);
		}
	}
	close(go[0]);
	close(go[1]);
	/* The losers end; the winner waits to be ended. */
	for (size_t i = 0; i + 1 < WR_ARRAY_LEN(pid); i++)
		assert_true(wait(NULL) > 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(pid); i++)
		won += kill(pid[i], SIGKILL) == 0;
	assert_int_equal(won, 1);
	assert_true(wait(NULL) > 0);
}

/* ---- messages ---- */

static void
test_msg__whole_up_to_the_limit(void **state)
{
	char *p = wr_malloc(WR_MSG_MAX + 1);
	struct wr_buf got = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	int s[2], fds[WR_MSG_FDS];
	size_t n = 9;

	(void)state;
	for (size_t i = 0; i <= WR_MSG_MAX; i++)
		p[i] = (char)(i * 7);
	assert_int_equal(wr_msg_pair(s, &e), 0);
	assert_true(fcntl(s[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(wr_msg_send(s[0], p, WR_MSG_MAX, NULL, 0, &e), 1);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), 1);
	assert_int_equal(got.len, WR_MSG_MAX);
	assert_memory_equal(got.p, p, WR_MSG_MAX);
	assert_int_equal(n, 0);
	assert_int_equal(wr_msg_send(s[1], "ab", 2, NULL, 0, &e), 1);
	assert_int_equal(wr_msg_send(s[1], "c", 1, NULL, 0, &e), 1);
	assert_int_equal(wr_msg_recv(s[0], &got, fds, &n, &e), 1);
	assert_string_equal(wr_buf_str(&got), "ab");
	assert_int_equal(wr_msg_recv(s[0], &got, fds, &n, &e), 1);
	assert_string_equal(wr_buf_str(&got), "c");
	assert_int_equal(wr_msg_send(s[0], p, WR_MSG_MAX + 1, NULL, 0, &e), -1);
	assert_int_equal(e.code, WR_E_LIMIT);
	assert_int_equal(wr_msg_send(s[0], p, 0, NULL, 0, &e), -1);
	close(s[0]);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), 0);
	assert_int_equal(wr_msg_send(s[1], "x", 1, NULL, 0, &e), -1); /* and no SIGPIPE */
	close(s[1]);
	wr_buf_fini(&got);
	free(p);
}

static void
test_msg__not_waiting(void **state)
{
	struct wr_buf got = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	int s[2], fds[WR_MSG_FDS], rc, sent = 0;
	size_t n;
	static char bytes[60000];

	(void)state;
	assert_int_equal(wr_msg_pair(s, &e), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(fcntl(s[i], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), -1);
	assert_int_equal(e.code, WR_E_BUSY);
	while ((rc = wr_msg_send(s[0], bytes, sizeof(bytes), NULL, 0, &e)) == 1 && sent < 1000)
		sent++;
	assert_int_equal(rc, 0);
	assert_true(sent > 0);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), 1);
	assert_int_equal(wr_msg_send(s[0], bytes, sizeof(bytes), NULL, 0, &e), 1);
	close(s[0]);
	close(s[1]);
	wr_buf_fini(&got);
}

static unsigned
open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void
test_msg__descriptors(void **state)
{
	struct wr_buf got = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	int s[2], p[2], send[WR_MSG_FDS], fds[WR_MSG_FDS];
	size_t n = 0;
	char c = 0;

	(void)state;
	assert_int_equal(wr_msg_pair(s, &e), 0);
	assert_int_equal(pipe(p), 0);
	for (size_t i = 0; i < WR_MSG_FDS; i++)
		send[i] = p[1];
	assert_int_equal(wr_msg_send(s[0], "m", 1, send, WR_MSG_FDS, &e), 1);
	assert_int_equal(wr_msg_send(s[0], "m", 1, p, 1, &e), 1);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), 1);
	assert_int_equal(n, WR_MSG_FDS);
	for (size_t i = 0; i < n; i++) {
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		assert_int_equal(wr_write_all(fds[i], "y", 1), 0);
		assert_int_equal(wr_read_full(p[0], &c, 1), 1);
		close(fds[i]);
	}
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), 1);
	assert_int_equal(n, 1);
	close(fds[0]);
	close(s[0]);
	close(s[1]);
	close(p[0]);
	close(p[1]);
	wr_buf_fini(&got);
}

/* What a hostile peer may send: too many descriptors, too many bytes. Nothing leaks. */
static void
test_msg__beyond_the_limits_is_refused(void **state)
{
	enum { MANY = WR_MSG_FDS + 3 };
	union {
		char bytes[CMSG_SPACE(MANY * sizeof(int))];
		struct cmsghdr align;
	} c = {{0}};
	char *big = wr_calloc(1, WR_MSG_MAX + 5000);
	struct iovec iov = {.iov_base = big, .iov_len = 10};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = c.bytes,
			   .msg_controllen = sizeof(c.bytes)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	struct wr_buf got = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	int s[2], fds[WR_MSG_FDS], room = 1 << 20, many[MANY] = {0};
	unsigned before;
	size_t n = 0;

	(void)state;
	assert_int_equal(wr_msg_pair(s, &e), 0);
	before = open_fds();
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(many));
	memcpy(CMSG_DATA(h), many, sizeof(many));
	assert_int_equal(sendmsg(s[0], &m, 0), 10);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), -1);
	assert_int_equal(e.code, WR_E_LIMIT);
	assert_int_equal(open_fds(), before);
	(void)setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	assert_int_equal(send(s[0], big, WR_MSG_MAX + 5000, 0), WR_MSG_MAX + 5000);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), -1);
	assert_int_equal(e.code, WR_E_LIMIT);
	/* The next one is whole again. */
	assert_int_equal(wr_msg_send(s[0], "ok", 2, NULL, 0, &e), 1);
	assert_int_equal(wr_msg_recv(s[1], &got, fds, &n, &e), 1);
	assert_string_equal(wr_buf_str(&got), "ok");
	close(s[0]);
	close(s[1]);
	wr_buf_fini(&got);
	free(big);
}

/* ---- the service manager ---- */

static void
test_notify__reaches_the_manager(void **state)
{
	struct dir *d = *state;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char got[64] = "";

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/notify", d->path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	wr_notify("READY=1"); /* nobody asked for it */
	setenv("NOTIFY_SOCKET", a.sun_path, 1);
	wr_notify("READY=1");
	assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), 7);
	assert_string_equal(got, "READY=1");
	close(fd);
	/* By an abstract name. */
	snprintf(a.sun_path, sizeof(a.sun_path), "@warren-sock-test-%d", (int)getpid());
	setenv("NOTIFY_SOCKET", a.sun_path, 1);
	wr_notify("nobody is there");
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	{
		socklen_t len =
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a.sun_path));

		a.sun_path[0] = '\0';
		assert_int_equal(bind(fd, (const struct sockaddr *)&a, len), 0);
	}
	wr_notify("STATUS=up");
	assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), 9);
	close(fd);
	unsetenv("NOTIFY_SOCKET");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_listen__short_path, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_listen__path_of_any_length, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_listen__what_is_no_socket_stays, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_listen__one_of_many, setup, teardown),
	    cmocka_unit_test(test_msg__whole_up_to_the_limit),
	    cmocka_unit_test(test_msg__not_waiting),
	    cmocka_unit_test(test_msg__descriptors),
	    cmocka_unit_test(test_msg__beyond_the_limits_is_refused),
	    cmocka_unit_test_setup_teardown(test_notify__reaches_the_manager, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
