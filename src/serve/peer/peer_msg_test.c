/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over real sockets: every type, every cut, descriptors missing, too many, out of place,
 * files that are not what they have to be; setups. */
#include "serve/peer/peer_int.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "serve/ipc/test_codec.h"
#include "sys/fs.h"
#include "sys/sock.h"

static const struct wr_node_id some_node = {{"0b6d5f3e-2a51-4b0e-9d2e-7f1f5c3a9e10"}, 7};

/* One well-formed message of each type. */
static struct wr_peer_msg
example(enum wr_peer_type type)
{
	struct wr_peer_msg m = WR_PEER_MSG_INIT;

	m.type = type;
	switch (type) {
	case WR_PEER_SETUP:
		wr_buf_adds(&m.payload, "a setup");
		break;
	case WR_PEER_LISTEN:
		m.fd = pipe_end();
		break;
	case WR_PEER_SEND:
		m.id = 0xfffffffe;
		m.timeout_ms = 5000;
		memcpy(m.address, "[::1]:8735", 11);
		m.node = some_node;
		wr_buf_adds(&m.payload, "an envelope");
		break;
	case WR_PEER_REPLY:
	case WR_PEER_CALL:
		m.conn = 3;
		m.seq = 4;
		wr_buf_adds(&m.payload, "an envelope");
		break;
	case WR_PEER_GO:
		m.conn = 3;
		m.fd = pipe_end();
		break;
	case WR_PEER_REFUSE:
	case WR_PEER_STREAM:
		m.conn = 3;
		wr_buf_adds(&m.payload, "an envelope");
		break;
	case WR_PEER_QUIT:
		break;
	case WR_PEER_ANSWER:
		m.id = 1;
		wr_buf_adds(&m.payload, "an envelope");
		break;
	case WR_PEER_FAILED:
		m.id = 1;
		m.code = WR_E_DENIED;
		m.text = wr_strdup("'b:1' is refused: caf\303\251");
		m.hint = wr_strdup("");
		break;
	case WR_PEER_NOTE:
		m.text = wr_strdup("something");
		break;
	}
	return m;
}

static const int types[] = {WR_PEER_SETUP,  WR_PEER_LISTEN, WR_PEER_SEND,   WR_PEER_REPLY,
			    WR_PEER_GO,     WR_PEER_REFUSE, WR_PEER_QUIT,   WR_PEER_CALL,
			    WR_PEER_STREAM, WR_PEER_ANSWER, WR_PEER_FAILED, WR_PEER_NOTE};

static const char *
text(const char *s)
{
	return s ? s : "";
}

static void
test_every_type_over_a_socket(void **state)
{
	int s[2];

	(void)state;
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(types); i++) {
		WR_SCOPED(wr_peer_msg_fini)
		struct wr_peer_msg m = example((enum wr_peer_type)types[i]);
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg got = WR_PEER_MSG_INIT;
		bool up = types[i] >= WR_PEER_CALL;
		struct wr_err err = WR_ERR_INIT;

		assert_int_equal(wr_peer_send(s[0], &m, &err), 1);
		assert_int_equal(wr_peer_recv(s[1], up, &got, &err), 1);
		assert_int_equal(got.type, m.type);
		assert_int_equal(got.id, m.id);
		assert_int_equal(got.conn, m.conn);
		assert_int_equal(got.seq, m.seq);
		assert_int_equal(got.timeout_ms, m.timeout_ms);
		assert_string_equal(got.address, m.address);
		assert_string_equal(got.node.id.s, m.node.id.s);
		assert_int_equal(got.node.inc, m.node.inc);
		assert_int_equal(got.code, m.code);
		assert_string_equal(text(got.text), text(m.text));
		assert_string_equal(text(got.hint), text(m.hint));
		assert_int_equal(got.payload.len, m.payload.len);
		if (m.payload.len)
			assert_memory_equal(got.payload.p, m.payload.p, m.payload.len);
		assert_int_equal(got.fd >= 0, m.fd >= 0);
		/* Nobody may say what the other side says. */
		assert_int_equal(wr_peer_send(s[0], &m, &err), 1);
		assert_int_equal(wr_peer_recv(s[1], !up, &got, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
	}
	close(s[0]);
	close(s[1]);
}

TEST_CODEC(wr_peer, wr_peer_msg, wr_peer_type, WR_PEER_MSG_INIT, WR_PEER_CALL)

static void
test_long_payloads(void **state)
{
	static const size_t lens[] = {WR_PEER_INLINE - 1, WR_PEER_INLINE, WR_PEER_INLINE + 1,
				      WR_MSG_BYTES - 1,   WR_MSG_BYTES,   WR_MSG_BYTES + 1};
	int s[2];

	(void)state;
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(lens); i++) {
		size_t len = lens[i];
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = WR_PEER_MSG_INIT;
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg got = WR_PEER_MSG_INIT;
		struct wr_err err = WR_ERR_INIT;

		m.type = WR_PEER_CALL;
		wr_buf_reserve(&m.payload, len);
		memset(m.payload.p, 'x', len);
		m.payload.len = len;
		if (len > WR_MSG_BYTES) {
			assert_int_equal(wr_peer_send(s[0], &m, &err), -1);
			assert_int_equal(err.code, WR_E_LIMIT);
			continue;
		}
		assert_int_equal(wr_peer_send(s[0], &m, &err), 1);
		assert_int_equal(wr_peer_recv(s[1], true, &got, &err), 1);
		assert_int_equal(got.payload.len, len);
		assert_memory_equal(got.payload.p, m.payload.p, len);
		assert_int_equal(got.fd, -1);
	}
	close(s[0]);
	close(s[1]);
}

/* A file that another may change, block or shrink while control reads it is not read. */
static void
test_files_that_are_not_sealed(void **state)
{
	static const int seals[] = {0, F_SEAL_SEAL, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW,
				    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE};
	static const uint8_t call[] = {WR_PEER_CALL, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0};
	struct wr_err err = WR_ERR_INIT;
	int fd;

	(void)state;
	for (size_t i = 0; i <= WR_ARRAY_LEN(seals) + 1; i++) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg got = WR_PEER_MSG_INIT;
		/* The last ones: empty, too long. */
		off_t size = i < WR_ARRAY_LEN(seals)   ? 1000
			     : i > WR_ARRAY_LEN(seals) ? WR_MSG_BYTES + 1
						       : 0;
		int all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

		fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(ftruncate(fd, size), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, i < WR_ARRAY_LEN(seals) ? seals[i] : all),
				 0);
		assert_int_equal(wr_peer_decode(call, sizeof(call), &fd, 1, true, &got, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
	}
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(
	    wr_peer_decode(call, sizeof(call), &fd, 1, true, &(struct wr_peer_msg){0}, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
}

/* Bytes that no side of ours writes. */
static void
test_what_is_no_message(void **state)
{
	static const struct test_garbage garbage[] = {
	    {false, "\0", 1},
	    {false, "\x08", 1},
	    {false, "\x07\0", 2},
	    {true, "\x45", 1},
	    /* a failure without a code, with one that is none; texts that act on terminals */
	    {true, "\103\0\0\0\1\0\0\0\0\0\0\0\0\0\0", 15},
	    {true, "\103\0\0\0\1\377\377\0\0\0\0\0\0\0\0", 15},
	    {true, "\104\0\0\0\1\33", 6},
	    {true, "\104\0\0\0\1\377", 6},
	    {true, "\104\0\0\0\3\342\200\256", 8},
	    /* a length beyond the end */
	    {true, "\100\0\0\0\1\0\0\0\1\377\377\377\377x", 14},
	    /* an address with a blank, none at all */
	    {false, "\3\0\0\0\1\0\0\0\1\0\0\0\1 \0\0\0\0\0\0\0\1\0\0\0\1x", 27},
	    {false, "\3\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\1x", 26},
	    /* a node that is none */
	    {false, "\3\0\0\0\1\0\0\0\1\0\0\0\1a\0\0\0\1x\0\0\0\1\0\0\0\1x", 28},
	};

	(void)state;
	codec_what_is_no_message(&codec, garbage, WR_ARRAY_LEN(garbage));
}

static void
test_a_full_channel_would_block(void **state)
{
	WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg m = example(WR_PEER_CALL);
	struct wr_err err = WR_ERR_INIT;
	int s[2], rc, sent = 0;

	(void)state;
	assert_int_equal(wr_msg_pair(s, NULL), 0);
	assert_int_equal(fcntl(s[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(fcntl(s[1], F_SETFL, O_NONBLOCK), 0);
	while ((rc = wr_peer_send(s[0], &m, &err)) == 1 && sent < 1000000)
		sent++;
	assert_int_equal(rc, 0);
	for (; sent; sent--) {
		WR_SCOPED(wr_peer_msg_fini) struct wr_peer_msg got = WR_PEER_MSG_INIT;

		assert_int_equal(wr_peer_recv(s[1], true, &got, &err), 1);
	}
	assert_int_equal(wr_peer_recv(s[1], true, &m, &err), -1);
	assert_int_equal(err.code, WR_E_BUSY);
	close(s[0]);
	assert_int_equal(wr_peer_recv(s[1], true, &m, &err), 0);
	close(s[1]);
}

static void
test_setup(void **state)
{
	struct wr_peer_setup s = {.self = some_node, .fleet_at = 1700000000, .node_count = 3};
	struct wr_peer_setup got;
	struct wr_node_id nodes[3] = {some_node, some_node, some_node};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	memcpy(s.fleet, some_node.id.s, sizeof(s.fleet));
	wr_buf_adds(&s.key_pem, "key");
	wr_buf_adds(&s.cert_der, "certificate");
	wr_buf_adds(&s.ca_der[0], "ca");
	nodes[1].inc = 8;
	s.node = nodes;
	wr_peer_setup_encode(&s, &b);
	wr_buf_add8(&b, 0);
	for (size_t len = 0; len <= b.len; len++) {
		uint8_t *p = wr_memdup(b.p, len);
		int rc = wr_peer_setup_decode(p, len, &got, &err);

		free(p);
		assert_int_equal(rc, len == b.len - 1 ? 0 : -1);
		if (rc < 0) {
			assert_int_equal(err.code, WR_E_INVALID);
			continue;
		}
		assert_true(wr_node_id_eq(&got.self, &some_node));
		assert_string_equal(got.fleet, s.fleet);
		assert_int_equal(got.key_pem.len, 3);
		assert_int_equal(got.cert_der.len, 11);
		assert_int_equal(got.ca_der[0].len, 2);
		assert_int_equal(got.ca_der[1].len, 0);
		assert_int_equal(got.fleet_at, s.fleet_at);
		assert_int_equal(got.node_count, 3);
		assert_int_equal(got.node[1].inc, 8);
		wr_peer_setup_fini(&got);
	}
	wr_buf_fini(&s.key_pem);
	wr_buf_fini(&s.cert_der);
	wr_buf_fini(&s.ca_der[0]);
}

/* The largest fleet still fits. */
static void
test_setup_of_many(void **state)
{
	struct wr_peer_setup s = {.self = some_node, .node_count = WR_NODES_MAX};
	struct wr_peer_setup got;
	WR_SCOPED(wr_freep) struct wr_node_id *nodes = wr_calloc(WR_NODES_MAX + 1, sizeof(*nodes));
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	for (size_t i = 0; i <= WR_NODES_MAX; i++)
		nodes[i] = some_node;
	s.node = nodes;
	wr_peer_setup_encode(&s, &b);
	assert_true(b.len < WR_MSG_BYTES - (256u << 10));
	assert_int_equal(wr_peer_setup_decode(b.p, b.len, &got, &err), 0);
	assert_int_equal(got.node_count, WR_NODES_MAX);
	wr_peer_setup_fini(&got);
	wr_buf_clear(&b);
	s.node_count++;
	wr_peer_setup_encode(&s, &b);
	assert_int_equal(wr_peer_setup_decode(b.p, b.len, &got, &err), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_type_over_a_socket),
	    cmocka_unit_test(test_every_cut_and_one_byte_more),
	    cmocka_unit_test(test_descriptors_out_of_place),
	    cmocka_unit_test(test_long_payloads),
	    cmocka_unit_test(test_files_that_are_not_sealed),
	    cmocka_unit_test(test_what_is_no_message),
	    cmocka_unit_test(test_a_full_channel_would_block),
	    cmocka_unit_test(test_setup),
	    cmocka_unit_test(test_setup_of_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
