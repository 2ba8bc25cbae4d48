/* SPDX-License-Identifier: Apache-2.0 */
/* Machines over descriptors, the two ends in two processes. */
#include "fleet/sync/test_sync.h"

#include <signal.h>
#include <sys/socket.h>

#include "sys/clock.h"

/* The sender, in a child with its end of the wire. */
static pid_t
start_sender(int in, int out, int other, const struct wr_sync_limits *l)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct wr_repo *src = open_named("src");
		struct wr_save_rec list = {0};
		struct wr_sync *s;
		int rc;

		close(other);
		assert_ok(wr_sync_refs(src, &list, &err));
		s = wr_sync_send_new(src, &list, NULL);
		rc = wr_sync_pump(s, in, out, l, NULL, NULL, NULL, &err);
		_exit(rc == 0 && wr_sync_status(s) == WR_SYNC_DONE ? 0 : 1);
	}
	return pid;
}

static unsigned told;
static void
on_progress(WR_UNUSED void *ctx, const struct wr_sync_progress *p)
{
	assert_true(p->phase >= WR_SYNC_PHASE_NEGOTIATE && p->phase <= WR_SYNC_PHASE_COMMIT);
	told++;
}

/* Receive into dst from the wire; commit. */
static int
receive(int in, int out, const struct wr_sync_limits *l, const atomic_bool *cancel)
{
	struct wr_repo *src = open_named("src"), *dst = open_named("dst");
	struct wr_save_rec list = {0};
	struct wr_sync_recv_opts ro = {.mode = WR_SYNC_PUSH};
	struct wr_sync_commit c = {.now = NOW, .floor_s = -1, .ident = "T <t@t>"};
	struct wr_sync_result res;
	struct wr_sync *r;
	int rc;

	assert_ok(wr_sync_refs(src, &list, &err));
	r = wr_sync_recv_new(dst, &list, &ro);
	rc = wr_sync_pump(r, in, out, l, on_progress, NULL, cancel, &err);
	if (rc == 0) {
		wr_sync_alive(r);
		assert_ok(wr_sync_recv_commit(r, &c, &res, &err));
		rc = wr_sync_pump(r, in, out, l, on_progress, NULL, cancel, &err);
		assert_int_equal(wr_sync_status(r), WR_SYNC_DONE);
	}
	wr_sync_free(r);
	wr_repo_close(src);
	wr_repo_close(dst);
	rec_fini(&list);
	return rc;
}

static int
status_of(pid_t pid)
{
	int st;

	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_true(WIFEXITED(st));
	return WEXITSTATUS(st);
}

static void
test_socket_and_pipes(WR_UNUSED void **state)
{
	int sock[2], there[2], back[2];
	pid_t pid;

	SH("for i in $(seq 50); do bytes $i 40000 >w/f$i; done; save");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	pid = start_sender(sock[0], sock[0], sock[1], NULL);
	close(sock[0]);
	assert_ok(receive(sock[1], sock[1], NULL, NULL));
	close(sock[1]);
	assert_int_equal(status_of(pid), 0);
	SH("same; whole dst; rm -rf dst; git init -q --bare dst");
	assert_int_equal(pipe(there), 0);
	assert_int_equal(pipe(back), 0);
	pid = start_sender(back[0], there[1], there[0], NULL);
	close(back[0]);
	close(there[1]);
	assert_ok(receive(there[0], back[1], NULL, NULL));
	assert_int_equal(status_of(pid), 0);
	/* Our end is as blocking as it was. */
	assert_int_equal(fcntl(there[0], F_GETFL) & O_NONBLOCK, 0);
	close(there[0]);
	close(back[1]);
	SH("same; whole dst");
}

static void
test_rate(WR_UNUSED void **state)
{
	struct wr_sync_limits l = {.rate = 2000000, .burst = 100000};
	uint64_t start, ms;
	int sock[2];
	pid_t pid;

	SH("bytes a 1600000 >w/f; save");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	pid = start_sender(sock[0], sock[0], sock[1], &l);
	close(sock[0]);
	start = wr_clock_mono_ns();
	told = 0;
	assert_ok(receive(sock[1], sock[1], NULL, NULL));
	ms = (wr_clock_mono_ns() - start) / 1000000;
	close(sock[1]);
	assert_int_equal(status_of(pid), 0);
	/* 1.5 MB at 2 MB/s; how much longer depends on who else is at work. */
	assert_true(ms >= 700);
	assert_true(told >= 2 && told <= ms / 100 + 1);
}

static void
test_silence(WR_UNUSED void **state)
{
	struct wr_sync_limits l = {.idle_ms = 150};
	atomic_bool cancel = false;
	int sock[2];

	SH("bytes a 100000 >w/f; save");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	/* Nobody speaks. */
	assert_fails(receive(sock[1], sock[1], &l, &cancel), WR_E_FAILED);
	assert_non_null(strstr(err.msg, "nothing came"));
	l = (struct wr_sync_limits){.total_ms = 150};
	assert_fails(receive(sock[1], sock[1], &l, &cancel), WR_E_FAILED);
	atomic_store(&cancel, true);
	assert_fails(receive(sock[1], sock[1], NULL, &cancel), WR_E_CANCELLED);
	/* It has gone. */
	close(sock[0]);
	assert_int_equal(receive(sock[1], sock[1], NULL, NULL), -1);
	close(sock[1]);
}

/* "Still working" now and then is no silence, and still too little. */
static void
test_trickle(WR_UNUSED void **state)
{
	const struct wr_sync_limits l = {
	    .idle_ms = 20000, .slow_ms = 300, .slow_bytes = 1000, .total_ms = 15000};
	int sock[2], st;
	pid_t pid;

	SH("bytes a 100000 >w/f; save");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		static const uint8_t still[5] = {0, 0, 0, 0, WR_FRAME_WAIT};

		close(sock[1]);
		while (send(sock[0], still, sizeof(still), MSG_NOSIGNAL) > 0)
			usleep(20000);
		_exit(0);
	}
	close(sock[0]);
	assert_fails(receive(sock[1], sock[1], &l, NULL), WR_E_FAILED);
	assert_non_null(strstr(err.msg, "bytes came within"));
	close(sock[1]);
	assert_int_equal(waitpid(pid, &st, 0), pid);
}

static void
test_far_side_says_why(WR_UNUSED void **state)
{
	struct wr_repo *src, *dst;
	struct wr_save_rec list = {0};
	struct wr_sync_recv_opts ro = {.mode = WR_SYNC_PUSH, .max_bytes = 1000};
	struct wr_sync *r, *s;
	int sock[2], st;
	pid_t pid;

	SH("for i in $(seq 30); do bytes $i 100000 >w/f$i; done; save");
	src = open_named("src");
	dst = open_named("dst");
	assert_ok(wr_sync_refs(src, &list, &err));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(sock[0]);
		r = wr_sync_recv_new(dst, &list, &ro);
		_exit(wr_sync_pump(r, sock[1], sock[1], NULL, NULL, NULL, NULL, &err) < 0 ? 0 : 1);
	}
	close(sock[1]);
	s = wr_sync_send_new(src, &list, NULL);
	assert_fails(wr_sync_pump(s, sock[0], sock[0], NULL, NULL, NULL, NULL, &err), WR_E_LIMIT);
	assert_non_null(strstr(err.msg, "the far side: "));
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 0);
	close(sock[0]);
	wr_sync_free(s);
	/* Refused before it is looked at. */
	{
		struct wr_err why = WR_ERR_INIT;
		uint8_t buf[4096];
		size_t n;

		ro.max_bytes = 0;
		s = wr_sync_send_new(src, &list, NULL);
		r = wr_sync_recv_new(dst, &list, &ro);
		wr_err_set(&why, WR_E_DENIED, "not today");
		wr_err_hint(&why, "come back tomorrow");
		wr_sync_refuse(r, &why);
		n = wr_sync_pull(r, buf, sizeof(buf));
		wr_sync_feed(s, buf, n);
		assert_int_equal(wr_sync_status(s), WR_SYNC_FAILED);
		assert_int_equal(wr_sync_error(s)->code, WR_E_DENIED);
		assert_string_equal(wr_sync_error(s)->hint, "come back tomorrow");
		wr_sync_free(s);
		wr_sync_free(r);
	}
	wr_repo_close(src);
	wr_repo_close(dst);
	rec_fini(&list);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_sync, teardown_dir)
	    T(test_socket_and_pipes),  T(test_rate), T(test_silence), T(test_trickle),
	    T(test_far_side_says_why),
	};
	int status;

	if (is_own_tool(argc, argv, &status))
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
