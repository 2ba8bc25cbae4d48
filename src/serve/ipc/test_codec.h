/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of every table of messages: for ipc_test and peer_msg_test. */
#ifndef WR_TEST_CODEC_H
#define WR_TEST_CODEC_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

/* Messages of one table, each in memory of their own. */
struct test_codec {
	const int *type;
	size_t type_count;
	int first_below;
	void *(*example)(int type); /* a well-formed one */
	int *(*fd)(void *m);        /* NULL: m is none */
	void (*encode)(const void *m, struct wr_buf *out);
	/* Decode into an empty one, and release it. */
	int (*decode)(const void *p, size_t len, const int *fds, size_t fd_count, bool up,
		      struct wr_err *err);
	void (*free)(void *m);
};

/* The table of `struct msg`, whose functions are pre_encode and so on, and its tests; `types` and
 * example() stand in front of it. */
#define TEST_CODEC(pre, msg, type_enum, empty, first)                                             \
	static void *new_example(int type)                                                        \
	{                                                                                         \
		struct msg m = example((enum type_enum)type);                                     \
		return wr_memdup(&m, sizeof(m));                                                  \
	}                                                                                         \
	static int *fd_of(void *m)                                                                \
	{                                                                                         \
		return &((struct msg *)m)->fd;                                                    \
	}                                                                                         \
	static void encode(const void *m, struct wr_buf *out)                                     \
	{                                                                                         \
		pre##_encode(m, out);                                                             \
	}                                                                                         \
	static int decode(const void *p, size_t len, const int *fds, size_t fd_count, bool up,    \
			  struct wr_err *err)                                                     \
	{                                                                                         \
		WR_SCOPED(msg##_fini) struct msg got = empty;                                     \
		return pre##_decode(p, len, fds, fd_count, up, &got, err);                        \
	}                                                                                         \
	static void free_example(void *m)                                                         \
	{                                                                                         \
		msg##_fini(m);                                                                    \
		free(m);                                                                          \
	}                                                                                         \
	static const struct test_codec codec = {                                                  \
	    types, WR_ARRAY_LEN(types), first, new_example, fd_of, encode, decode, free_example}; \
	static void test_every_cut_and_one_byte_more(void **state)                                \
	{                                                                                         \
		(void)state;                                                                      \
		codec_every_cut_and_one_byte_more(&codec);                                        \
	}                                                                                         \
	static void test_descriptors_out_of_place(void **state)                                   \
	{                                                                                         \
		(void)state;                                                                      \
		codec_descriptors_out_of_place(&codec);                                           \
	}

static int
pipe_end(void)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	close(p[1]);
	return p[0];
}

static void
codec_every_cut_and_one_byte_more(const struct test_codec *t)
{
	for (size_t i = 0; i < t->type_count; i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		bool up = t->type[i] >= t->first_below;
		void *m = t->example(t->type[i]);

		t->encode(m, &b);
		wr_buf_add8(&b, 0);
		for (size_t len = 0; len <= b.len; len++) {
			struct wr_err err = WR_ERR_INIT;
			uint8_t *p = wr_memdup(b.p, len);
			int fd = *t->fd(m) >= 0 ? dup(*t->fd(m)) : -1;
			int rc = t->decode(p, len, &fd, fd >= 0, up, &err);

			free(p);
			assert_int_equal(rc, len == b.len - 1 ? 0 : -1);
			assert_int_equal(err.code, rc < 0 ? WR_E_INVALID : WR_E_NONE);
			/* What is refused leaves no descriptor, nor does what is released. */
			if (fd >= 0)
				assert_int_equal(fcntl(fd, F_GETFD), -1);
		}
		t->free(m);
	}
}

static void
codec_descriptors_out_of_place(const struct test_codec *t)
{
	for (size_t i = 0; i < t->type_count; i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
		bool up = t->type[i] >= t->first_below;
		void *m = t->example(t->type[i]);

		t->encode(m, &b);
		for (size_t n = 0; n <= 4; n++) {
			struct wr_err err = WR_ERR_INIT;
			int fds[4];

			for (size_t k = 0; k < n; k++)
				fds[k] = pipe_end();
			assert_int_equal(t->decode(b.p, b.len, fds, n, up, &err),
					 n == (*t->fd(m) >= 0) ? 0 : -1);
			for (size_t k = 0; k < n; k++)
				assert_int_equal(fcntl(fds[k], F_GETFD), -1);
		}
		t->free(m);
	}
}

/* Bytes that no side of ours writes. */
struct test_garbage {
	bool up;
	const char *p;
	size_t len;
};
static void
codec_what_is_no_message(const struct test_codec *t, const struct test_garbage *g, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct wr_err err = WR_ERR_INIT;

		assert_int_equal(t->decode(g[i].p, g[i].len, NULL, 0, g[i].up, &err), -1);
		assert_int_equal(err.code, WR_E_INVALID);
		assert_true(strlen(err.msg) > 0);
	}
}

#endif
