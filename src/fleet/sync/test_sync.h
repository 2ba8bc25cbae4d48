/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of this folder: two repositories, "src" and "dst", and a transfer in memory. */
#ifndef WR_SYNC_TEST_SYNC_H
#define WR_SYNC_TEST_SYNC_H

#include "engine/repo/test_repo.h"

#include "fleet/sync/sync.h"
#include "fleet/sync/sync_int.h"

#define NOW 1800000000 /* 20270115T080000Z */

#define sh(...)                                                          \
	do {                                                             \
		WR_SCOPED(wr_buf_fini) struct wr_buf cmd_ = WR_BUF_INIT; \
		wr_buf_addf(&cmd_, __VA_ARGS__);                         \
		must_run(wr_buf_str(&cmd_));                             \
	} while (0)

/* Shell functions that the commands below use: g REPO ..., save [NAME [DATE]] of the tree "w". */
#define LIB                                                                                \
	"g() { r=$1; shift; git --git-dir=\"$r\" -c gc.auto=0 -c user.name=T "             \
	"-c user.email=t@t \"$@\"; }\n"                                                    \
	"save() { BUP_DIR=$PWD/src bup -d $PWD/src index -f $PWD/idx w && "                \
	"BUP_DIR=$PWD/src bup -d $PWD/src save -q -f $PWD/idx --strip -n ${1:-main} "      \
	"-d ${2:-1700000000} w; }\n"                                                       \
	"gsave() { git --git-dir=src --work-tree=w add -A && "                             \
	"GIT_COMMITTER_DATE=\"${1:-1700000000} +0000\" "                                   \
	"GIT_AUTHOR_DATE=\"${1:-1700000000} +0000\" g src --work-tree=w commit -qm c; }\n" \
	"same() { g src for-each-ref refs/heads refs/tags refs/warren/latest >a; "         \
	"g dst for-each-ref refs/heads refs/tags refs/warren/latest >b; cmp a b; }\n"      \
	"whole() { g \"$1\" fsck --full --strict --no-dangling 2>&1 | "                    \
	"grep -v '^notice\\|unborn' >f || true; if [ -s f ]; then cat f; return 1; fi; "   \
	"for p in \"$1\"/objects/pack/*.pack; do [ ! -e \"${p%.pack}.idx\" ] || "          \
	"git verify-pack \"$p\" || return 1; done; }\n"                                    \
	"bytes() { \"$SYNC_TEST\" bytes \"$1\" \"$2\"; }\n"

#define SH(...)                                                                     \
	do {                                                                        \
		WR_SCOPED(wr_buf_fini) struct wr_buf text_ = WR_BUF_INIT;           \
		WR_SCOPED(wr_buf_fini) struct wr_buf said_ = WR_BUF_INIT;           \
		wr_buf_addf(&text_, __VA_ARGS__);                                   \
		write_file("cmd", text_.p, text_.len);                              \
		if (run(&said_, "{ . ./lib && set -e && . ./cmd; } 2>&1") != 0)     \
			fail_msg("%s: %s", wr_buf_str(&text_), wr_buf_str(&said_)); \
	} while (0)

static struct wr_repo *
open_named(const char *name)
{
	struct wr_repo *r;

	assert_ok(wr_repo_open(path_of(name).s, &r, &err));
	return r;
}

static int
setup_sync(void **state)
{
	char exe[4096] = "";
	bool existed;

	setup_dir(state);
	assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
	setenv("SYNC_TEST", exe, 1);
	write_file("lib", LIB, strlen(LIB));
	assert_ok(wr_repo_init(path_of("src").s, 13, &existed, &err));
	assert_ok(wr_repo_init(path_of("dst").s, 13, &existed, &err));
	must_run("mkdir w");
	return 0;
}

static void
rec_fini(struct wr_save_rec *s)
{
	for (size_t i = 0; i < s->ref_count; i++)
		free(s->ref[i].name);
	free(s->ref);
	*s = (struct wr_save_rec){0};
}

/* What goes wrong on the way. */
struct port {
	uint64_t to_recv, to_send; /* bytes so far */
	unsigned turns;            /* times that the sender spoke after the receiver */
	size_t piece;              /* cut into pieces of this size; 0: large */
	uint64_t cut_at;           /* of to_recv: closed there; 0: never */
	uint64_t flip_at;          /* of to_recv: this byte gets changed; 0: none */
	uint64_t flip_back_at;     /* of to_send */
	uint8_t flip;
};

static size_t
carry(struct wr_sync *from, struct wr_sync *to, struct port *p, bool to_recv)
{
	static uint8_t buf[1 << 16];
	uint64_t *count = to_recv ? &p->to_recv : &p->to_send;
	uint64_t flip_at = to_recv ? p->flip_at : p->flip_back_at;
	size_t n = wr_sync_pull(from, buf, p->piece ? p->piece : sizeof(buf));

	if (flip_at && flip_at >= *count && flip_at < *count + n)
		buf[flip_at - *count] ^= p->flip;
	if (to_recv && p->cut_at && *count + n >= p->cut_at) {
		n = (size_t)(p->cut_at - *count);
		*count += n;
		wr_sync_feed(to, buf, n);
		wr_sync_eof(to);
		wr_sync_eof(from);
		return n;
	}
	*count += n;
	if (n)
		wr_sync_feed(to, buf, n);
	return n;
}

/* Move bytes until nobody has anything to say or to do. */
static void
shuttle(struct wr_sync *s, struct wr_sync *r, struct port *p)
{
	size_t a, b;

	do {
		bool cut = p->cut_at && p->to_recv >= p->cut_at;

		b = cut ? 0 : carry(r, s, p, false);
		a = cut ? 0 : carry(s, r, p, true);
		if (a && b)
			p->turns++;
		if (cut) {
			uint8_t drop[4096];

			/* What is still said goes nowhere. */
			while (wr_sync_pull(s, drop, sizeof(drop)) || wr_sync_busy(s))
				;
			while (wr_sync_pull(r, drop, sizeof(drop)) || wr_sync_busy(r))
				;
			return;
		}
	} while (a || b || wr_sync_busy(s) || wr_sync_busy(r));
}

struct push {
	struct wr_save_rec list; /* taken from src if empty */
	struct wr_sync_recv_opts recv;
	struct wr_sync_send_opts send;
	struct wr_sync_commit commit;
	struct wr_sync_result result;
	struct port port;
	struct wr_err err;
	enum wr_sync_status sent;
};
/* recv.now: older than any file here, so nothing is stale. */
#define PUSH_INIT                                                          \
	{                                                                  \
		.recv = {.mode = WR_SYNC_PUSH},                            \
		.commit = {.now = NOW, .floor_s = -1, .ident = "T <t@t>"}, \
	}

/* 0: committed. */
static int
push_between(struct wr_repo *src, struct wr_repo *dst, struct push *p)
{
	struct wr_sync *s, *r;
	int rc = -1;

	p->err = (struct wr_err)WR_ERR_INIT;
	if (p->list.ref_count == 0)
		assert_ok(wr_sync_refs(src, &p->list, &err));
	s = wr_sync_send_new(src, &p->list, &p->send);
	r = wr_sync_recv_new(dst, &p->list, &p->recv);
	for (int i = 0; i < 5 && rc < 0; i++) {
		shuttle(s, r, &p->port);
		if (wr_sync_status(r) != WR_SYNC_READY) {
			p->err = *wr_sync_error(r);
			break;
		}
		rc = wr_sync_recv_commit(r, &p->commit, &p->result, &p->err);
		if (rc < 0 && p->err.code != WR_E_CHANGED)
			break;
	}
	if (rc == 0)
		shuttle(s, r, &p->port);
	p->sent = wr_sync_status(s);
	if (p->err.code == WR_E_NONE && p->sent == WR_SYNC_FAILED)
		p->err = *wr_sync_error(s);
	wr_sync_free(s);
	wr_sync_free(r);
	return rc;
}

static int
push(struct push *p)
{
	struct wr_repo *src = open_named("src"), *dst = open_named("dst");
	int rc = push_between(src, dst, p);

	wr_repo_close(src);
	wr_repo_close(dst);
	return rc;
}

static WR_UNUSED void
push_ok(struct push *p)
{
	if (push(p) < 0)
		fail_msg("%s", p->err.msg);
	assert_int_equal(p->sent, WR_SYNC_DONE);
	rec_fini(&p->list);
}

static WR_UNUSED void
push_same(void)
{
	struct push p = PUSH_INIT;

	push_ok(&p);
	SH("same; whole dst");
}

/* The test program also makes noise, and pushes by itself: "bytes SEED COUNT", "push DIR". */
static WR_UNUSED bool
is_own_tool(int argc, char **argv, int *out_status)
{
	if (argc == 4 && !strcmp(argv[1], "bytes")) {
		struct wr_id h = wr_obj_id(WR_OBJ_BLOB, argv[2], strlen(argv[2]));
		uint64_t seed = wr_get64be(h.b) | 1;

		for (unsigned long n = strtoul(argv[3], NULL, 10); n > 0; n--)
			putchar((int)(test_random(&seed) & 0xff));
		*out_status = fflush(stdout);
		return true;
	}
	if (argc == 3 && !strcmp(argv[1], "push")) {
		struct push p = PUSH_INIT;

		snprintf(test_dir, sizeof(test_dir), "%s", argv[2]);
		*out_status = push(&p) == 0 ? 0 : 3;
		return true;
	}
	return false;
}

#endif
