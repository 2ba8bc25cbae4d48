/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over real sockets: every type, every cut, descriptors missing, too many, out of place.
 */
#include "serve/ipc/ipc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "serve/ipc/test_codec.h"
#include "sys/fs.h"

static void
set_text(struct wr_ipc *m, const char *s)
{
	m->text = wr_strdup(s);
	m->text_len = strlen(s);
}

/* One well-formed message of each type. */
static struct wr_ipc
example(enum wr_ipc_type type)
{
	struct wr_ipc m = WR_IPC_INIT;
	struct wr_err err = WR_ERR_INIT;

	m.type = type;
	switch (type) {
	case WR_IPC_CONN:
		m.conn = 7;
		m.fd = pipe_end();
		break;
	case WR_IPC_REPLY:
		m.seq = 0xfffffffe;
		m.status = 202;
		m.exit = 3;
		set_text(&m, "{\"schema\":\"warren.operation/1\"}");
		break;
	case WR_IPC_STREAM:
		m.seq = 9;
		set_text(&m, "text/plain; charset=utf-8");
		m.fd = pipe_end();
		break;
	case WR_IPC_END:
		m.seq = 9;
		m.exit = 5;
		set_text(&m, "{\"code\":\"not_found\"}");
		break;
	case WR_IPC_QUIT:
		break;
	case WR_IPC_CALL:
		m.seq = 1;
		m.conn = 7;
		memcpy(m.token, "wrt_abc", 8);
		m.call.api = &wr_api_calls[WR_API_START];
		memcpy(m.call.ref, "demo", 5);
		assert_int_equal(wr_call_add(&m.call, "wait", "5min", 4, &err), 0);
		break;
	case WR_IPC_CLOSED:
		m.conn = 7;
		break;
	case WR_IPC_ABORT:
		m.seq = 1;
		break;
	}
	return m;
}

static const int types[] = {WR_IPC_CONN, WR_IPC_REPLY, WR_IPC_STREAM, WR_IPC_END,
			    WR_IPC_QUIT, WR_IPC_CALL,  WR_IPC_CLOSED, WR_IPC_ABORT};

static void
test_every_type_over_a_socket(void **state)
{
	int s[2];

	(void)state;
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(types); i++) {
		WR_SCOPED(wr_ipc_fini) struct wr_ipc m = example((enum wr_ipc_type)types[i]);
		WR_SCOPED(wr_ipc_fini) struct wr_ipc got = WR_IPC_INIT;
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		bool up = types[i] >= WR_IPC_CALL;
		struct wr_err err = WR_ERR_INIT;
		int fds[WR_MSG_FDS];
		size_t n;

		assert_int_equal(wr_ipc_send(s[0], &m, &err), 1);
		assert_int_equal(wr_msg_recv(s[1], &b, fds, &n, &err), 1);
		assert_int_equal(wr_ipc_decode(b.p, b.len, fds, n, up, &got, &err), 0);
		assert_int_equal(got.type, m.type);
		assert_int_equal(got.seq, m.seq);
		assert_int_equal(got.conn, m.conn);
		assert_int_equal(got.status, m.status);
		assert_int_equal(got.exit, m.exit);
		assert_string_equal(got.token, m.token);
		assert_int_equal(got.text_len, m.text_len);
		assert_string_equal(got.text ? got.text : "", m.text ? m.text : "");
		assert_int_equal(got.fd >= 0, m.fd >= 0);
		assert_ptr_equal(got.call.api, m.call.api);
		if (m.call.api) {
			assert_string_equal(got.call.ref, "demo");
			assert_int_equal(wr_call_u64(&got.call, "wait", 0), 300);
		}
		/* Nobody may say what the other side says. */
		assert_int_equal(wr_ipc_decode(b.p, b.len, NULL, 0, !up, &got, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
	}
	close(s[0]);
	close(s[1]);
}

TEST_CODEC(wr_ipc, wr_ipc, wr_ipc_type, WR_IPC_INIT, WR_IPC_CALL)

static void
test_long_bodies_go_through_a_sealed_file(void **state)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = example(WR_IPC_REPLY);
	WR_SCOPED(wr_ipc_fini) struct wr_ipc got = WR_IPC_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;
	size_t len = 3u << 20, n;
	int fds[WR_MSG_FDS], s[2];
	struct stat st;
	char *back;

	(void)state;
	free(m.text);
	m.text = wr_malloc(len + 1);
	memset(m.text, 'x', len);
	m.text[len] = '\0';
	m.text_len = len;
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	assert_int_equal(wr_ipc_send(s[0], &m, &err), 1);
	assert_int_equal(wr_msg_recv(s[1], &b, fds, &n, &err), 1);
	assert_int_equal(wr_ipc_decode(b.p, b.len, fds, n, false, &got, &err), 0);
	assert_int_equal(got.text_len, 0);
	assert_int_equal(fstat(got.fd, &st), 0);
	assert_int_equal((size_t)st.st_size, len);
	back = wr_malloc(len);
	assert_int_equal(wr_pread_full(got.fd, back, len, 0), (ssize_t)len);
	assert_memory_equal(back, m.text, len);
	free(back);
	assert_int_equal(pwrite(got.fd, "y", 1, 0), -1);
	assert_int_equal(ftruncate(got.fd, 0), -1);
	close(s[0]);
	close(s[1]);
}

static void
test_a_call_that_is_too_long(void **state)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = example(WR_IPC_END);
	struct wr_err err = WR_ERR_INIT;
	int s[2];

	(void)state;
	free(m.text);
	m.text_len = WR_MSG_MAX;
	m.text = wr_calloc(1, m.text_len + 1);
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	assert_int_equal(wr_ipc_send(s[0], &m, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	close(s[0]);
	close(s[1]);
}

static void
test_a_full_channel_would_block(void **state)
{
	WR_SCOPED(wr_ipc_fini) struct wr_ipc m = example(WR_IPC_REPLY);
	struct wr_err err = WR_ERR_INIT;
	int s[2], rc, sent = 0;

	(void)state;
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	assert_int_equal(fcntl(s[0], F_SETFL, O_NONBLOCK), 0);
	while ((rc = wr_ipc_send(s[0], &m, &err)) == 1 && sent < 1000000)
		sent++;
	assert_int_equal(rc, 0);
	assert_true(sent > 0);
	close(s[1]);
	assert_int_equal(wr_ipc_send(s[0], &m, &err), -1);
	close(s[0]);
}

/* Bytes that no side of ours writes. */
static void
test_what_is_no_message(void **state)
{
	static const struct test_garbage garbage[] = {
	    {false, "\0", 1},
	    {false, "\x06", 1},
	    {false, "\x05\0", 2},
	    {true, "\x05", 1},
	    {true, "\xff\0\0\0\1", 5},
	    /* a status that HTTP has not; one that would be no answer */
	    {false, "\2\0\0\0\1\0\0\0\0\0\0\0", 12},
	    {false, "\2\0\0\0\1\0\144\0\0\0\0\0", 12},
	    {false, "\2\0\0\0\1\2\130\0\0\0\0\0", 12},
	    /* a length beyond the end */
	    {false, "\2\0\0\0\1\0\310\0\377\377\377\377{}", 14},
	    /* a NUL in a text */
	    {false, "\4\0\0\0\1\0\0\0\0\1\0", 11},
	    /* a token with a blank, with a line end */
	    {true, "\100\0\0\0\1\0\0\0\1\0\0\0\1 \0\1\0\0\0\0\0\0\0\0", 24},
	    {true, "\100\0\0\0\1\0\0\0\1\0\0\0\1\n\0\1\0\0\0\0\0\0\0\0", 24},
	    /* a call that the table has not */
	    {true, "\100\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 23},
	    {true, "\100\0\0\0\1\0\0\0\1\0\0\0\0\177\377\0\0\0\0\0\0\0\0", 23},
	};

	(void)state;
	codec_what_is_no_message(&codec, garbage, WR_ARRAY_LEN(garbage));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_type_over_a_socket),
	    cmocka_unit_test(test_every_cut_and_one_byte_more),
	    cmocka_unit_test(test_descriptors_out_of_place),
	    cmocka_unit_test(test_long_bodies_go_through_a_sealed_file),
	    cmocka_unit_test(test_a_call_that_is_too_long),
	    cmocka_unit_test(test_a_full_channel_would_block),
	    cmocka_unit_test(test_what_is_no_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
