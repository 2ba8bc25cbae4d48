/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line cannot provoke: changes in the middle of a restore, the parts by
 * themselves. */
#include "engine/snap/restore.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/snap/apply.h"
#include "engine/snap/fsmeta.h"
#include "engine/snap/hardlink.h"
#include "sys/fs.h"

static struct {
	char dir[256];
	struct wr_repo *repo;
	struct wr_reader *rd;
	struct wr_restore_result res;
} t;

static const char *
at(const char *name)
{
	static char path[4][512];
	static int i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", t.dir, name);
	return path[i];
}

static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	bool existed;

	(void)state;
	snprintf(t.dir, sizeof(t.dir), "%s/wr-restore-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(t.dir) || wr_repo_init(at("repo"), 13, &existed, NULL) < 0 ||
	    wr_repo_open(at("repo"), &t.repo, NULL) < 0 || mkdir(at("src"), 0755) < 0)
		return -1;
	t.rd = wr_reader_new(t.repo);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	wr_restore_result_fini(&t.res);
	memset(&t.res, 0, sizeof(t.res));
	wr_reader_free(t.rd);
	wr_repo_close(t.repo);
	return wr_remove_tree(AT_FDCWD, t.dir, NULL);
}

static void
put(const char *name, const void *p, size_t len)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(wr_write_all(fd, p, len), 0);
	close(fd);
}

static void
put_text(const char *name, const char *text)
{
	put(name, text, strlen(text));
}

static void
assert_text(const char *name, const char *text)
{
	struct wr_buf b = WR_BUF_INIT;

	assert_int_equal(wr_read_file(AT_FDCWD, at(name), 1 << 20, &b, NULL), 0);
	assert_string_equal(wr_buf_str(&b), text);
	wr_buf_fini(&b);
}

static void
save(const char *branch)
{
	struct wr_save_opts o = WR_SAVE_OPTS_INIT;
	struct wr_save_result r;
	struct wr_err err = WR_ERR_INIT;

	o.branch = branch;
	if (wr_save(t.repo, at("src"), &o, &r, &err) < 0)
		fail_msg("%s", err.msg);
	wr_save_result_fini(&r);
}

static int
restore(const char *spec, const char *dest, struct wr_restore_opts *o, struct wr_err *err)
{
	struct wr_snap snap = {0};
	char *path = NULL;
	int rc;

	wr_restore_result_fini(&t.res);
	memset(&t.res, 0, sizeof(t.res));
	if (wr_resolve(t.rd, spec, 0, &snap, &path, err) < 0)
		fail_msg("%s", err->msg);
	rc = wr_restore(t.repo, &snap, path, at(dest), o, &t.res, err);
	wr_snap_fini(&snap);
	free(path);
	return rc;
}

static void
restore_ok(const char *spec, const char *dest, struct wr_restore_opts *o)
{
	struct wr_err err = WR_ERR_INIT;

	if (restore(spec, dest, o, &err) < 0)
		fail_msg("%s", err.msg);
}

/* ---- changes under way ---- */

static void
change_the_last(void *ctx, const char *op, const char *path, size_t len)
{
	(void)ctx;
	(void)op;
	if (len == 1 && *path == 'a') {
		put_text("src/z", "written just now");
		put_text("src/new", "appeared just now");
		put_text("src/y", "written just now, and unwanted");
	}
}

/* What changes between the safety snapshot and its turn is not in the snapshot: hands off. */
static void
test_restore__changed_since_the_safety_snapshot(void **state)
{
	struct wr_restore_opts o = WR_RESTORE_OPTS_INIT;
	bool z = false, y = false;

	(void)state;
	put_text("src/a", "old");
	put_text("src/z", "old");
	save("main");
	put_text("src/a", "newer a");
	put_text("src/y", "extra");
	put_text("src/z", "newer z");
	o.threads = 1;
	o.delete_extra = true;
	o.action = change_the_last;
	restore_ok("main", "src", &o);
	assert_text("src/a", "old");
	assert_text("src/z", "written just now");
	assert_text("src/y", "written just now, and unwanted");
	assert_text("src/new", "appeared just now");
	assert_int_equal(t.res.skipped.count, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct wr_note *n = &t.res.skipped.note[i];

		assert_string_equal(n->reason, "changed since the safety snapshot");
		z |= *n->path == 'z';
		y |= *n->path == 'y';
	}
	assert_true(z && y);
	assert_true(t.res.has_safety);
	/* Nothing of that is known to the cache as if it were in order. */
	o.action = NULL;
	restore_ok("main", "src", &o);
	assert_text("src/z", "old");
	assert_int_equal(access(at("src/new"), F_OK), -1);
	assert_int_equal(access(at("src/y"), F_OK), -1);
	assert_int_equal(t.res.skipped.count, 0);
}

static void
swap_for_link(void *ctx, const char *op, const char *path, size_t len)
{
	(void)ctx;
	(void)op;
	if (len == 1 && *path == 'd') {
		assert_int_equal(rename(at("out/d"), at("moved")), 0);
		assert_int_equal(symlink(at("victim"), at("out/d")), 0);
	}
}

/* A directory that becomes a link while it is restored: nothing is written through the link. */
static void
test_restore__directory_swapped_for_a_link(void **state)
{
	struct wr_restore_opts o = WR_RESTORE_OPTS_INIT;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_int_equal(mkdir(at("src/d"), 0755) | mkdir(at("src/d/e"), 0755), 0);
	put_text("src/d/f", "x");
	put_text("src/d/e/g", "x");
	save("main");
	assert_int_equal(mkdir(at("victim"), 0755), 0);
	o.threads = 1;
	o.action = swap_for_link;
	(void)restore("main", "out", &o, &err);
	assert_int_equal(access(at("victim/f"), F_OK), -1);
	assert_int_equal(access(at("victim/e"), F_OK), -1);
}

/* A second restore of many hard links on several threads gives the groups that were saved. */
static void
test_restore__hard_links_on_many_threads(void **state)
{
	struct wr_restore_opts o = WR_RESTORE_OPTS_INIT;
	struct stat first, st;
	char name[64], other[64];

	(void)state;
	for (int d = 0; d < 20; d++) {
		snprintf(name, sizeof(name), "src/d%02d", d);
		assert_int_equal(mkdir(at(name), 0755), 0);
		for (int i = 0; i < 50; i++) {
			snprintf(name, sizeof(name), "src/d%02d/%d", d, i);
			snprintf(other, sizeof(other), "src/d00/%d", i);
			if (d == 0)
				put(name, &i, sizeof(i));
			else
				assert_int_equal(link(at(other), at(name)), 0);
		}
	}
	save("main");
	o.threads = 8;
	for (int round = 0; round < 2; round++) {
		restore_ok("main", "out", &o);
		for (int i = 0; i < 50; i++) {
			snprintf(name, sizeof(name), "out/d00/%d", i);
			assert_int_equal(stat(at(name), &first), 0);
			assert_int_equal(first.st_nlink, 20);
			snprintf(name, sizeof(name), "out/d19/%d", i);
			assert_int_equal(stat(at(name), &st), 0);
			assert_int_equal(st.st_ino, first.st_ino);
		}
		/* Break some of them for the second round. */
		for (int d = 0; d < 20 && round == 0; d += 3) {
			snprintf(name, sizeof(name), "out/d%02d/%d", d, d);
			assert_int_equal(unlink(at(name)), 0);
			if (d % 2)
				put(name, &d, sizeof(d));
		}
	}
}

/* ---- content ---- */

static void
test_restore__content_of_many_chunks(void **state)
{
	const size_t len = 5000003;
	uint8_t *p = wr_malloc(len), *q;
	struct wr_restore_opts o = WR_RESTORE_OPTS_INIT;
	struct wr_buf b = WR_BUF_INIT;
	uint32_t seed = 1;

	(void)state;
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
	/* Holes of all alignments, at chunk borders and at the end. */
	for (size_t i = 0; i < 60; i++)
		memset(p + i * 80000 + i * 37, 0, i * 700);
	memset(p + len - 100000, 0, 100000);
	put("src/f", p, len);
	save("main");
	for (o.threads = 1; o.threads <= 4; o.threads += 3) {
		restore_ok("main", o.threads == 1 ? "one" : "four", &o);
		wr_buf_clear(&b);
		assert_int_equal(
		    wr_read_file(AT_FDCWD, at(o.threads == 1 ? "one/f" : "four/f"), len, &b, NULL),
		    0);
		q = b.p;
		assert_int_equal(b.len, len);
		assert_memory_equal(p, q, len);
	}
	wr_buf_fini(&b);
	free(p);
}

/* ---- metadata ---- */

static void
test_apply__same_as_this_user_can_have_it(void **state)
{
	gid_t groups[] = {7};
	struct wr_apply root = {.root = true},
			user = {.uid = 5, .gid = 6, .groups = groups, .group_count = 1};
	struct wr_meta want = {.has_common = true, .mode = S_IFREG | 06755, .uid = 1, .gid = 2};
	struct wr_meta live = want;

	(void)state;
	assert_true(wr_apply_same(&root, &want, &live));
	live.uid = 5;
	live.gid = 6;
	live.mode = S_IFREG | 0755; /* without the owner, no set-id bits */
	assert_false(wr_apply_same(&root, &want, &live));
	assert_true(wr_apply_same(&user, &want, &live));
	live.mode = S_IFREG | 06755;
	assert_false(wr_apply_same(&user, &want, &live));
	live.mode = S_IFREG | 0755;
	want.gid = 7; /* a group of ours can be set */
	assert_false(wr_apply_same(&user, &want, &live));
	live.gid = 7;
	live.mode = S_IFREG | 02755;
	assert_true(wr_apply_same(&user, &want, &live));
	live.mtime.ns = 1;
	assert_false(wr_apply_same(&user, &want, &live));
	want.has_common = false; /* nothing is known, so nothing differs */
	assert_true(wr_apply_same(&root, &want, &live));
	user.no_owner = true;
	want = (struct wr_meta){.has_common = true, .mode = S_IFREG | 0644, .uid = 1, .gid = 7};
	live = want;
	live.gid = 6;
	assert_true(wr_apply_same(&user, &want, &live));
}

static void
test_apply__mode_at_creation_hides_until_the_owner_is_set(void **state)
{
	struct wr_apply a = {.root = true, .uid = 0, .gid = 0};
	struct wr_meta m = {.has_common = true, .mode = S_IFREG | 04664};

	(void)state;
	assert_int_equal(wr_apply_create_mode(&a, &m, 0), 0664);
	m.uid = 1;
	assert_int_equal(wr_apply_create_mode(&a, &m, 0), 0600);
	a.no_owner = true;
	assert_int_equal(wr_apply_create_mode(&a, &m, 0), 0664);
}

/* The order matters for each of these: capability after owner, ACL after mode, times after all. */
static void
test_apply__everything_on_an_existing_file(void **state)
{
	struct wr_buf x = WR_BUF_INIT;
	struct wr_apply a;
	struct wr_meta m = {.has_common = true,
			    .mode = S_IFREG | 04640,
			    .uid = 1234,
			    .gid = 4321,
			    .mtime = {-5, 7},
			    .atime = {99, 8}};
	struct wr_apply_to p = {.dirfd = AT_FDCWD};
	struct wr_err err = WR_ERR_INIT;
	unsigned lost;
	char value[64];

	(void)state;
	if (geteuid() != 0)
		skip();
	put_text("f", "x");
	if (setxattr(at("f"), "user.old", "v", 1, 0) < 0)
		skip(); /* no attributes here */
	wr_meta_xattr_add(&x, "user.new", 8, "abc", 3);
	wr_meta_xattr_add(&x, "trusted.t", 9, "", 0);
	m.xattrs = (struct wr_bytes){x.p, x.len};
	m.xattr_count = 2;
	m.acl[0] = m.acl[1] =
	    (struct wr_bytes){(const uint8_t *)"u::rw-,u:77:r--,g::r--,m::r--,o::---", 36};
	p.name = at("f");
	p.fd = open(p.name, O_RDONLY);
	assert_int_equal(fstat(p.fd, &p.st), 0);
	wr_apply_init(&a, false, NULL);
	assert_int_equal(wr_apply_meta(&a, &p, &m, &lost, &err), 0);
	assert_int_equal(lost, 0);
	assert_int_equal(fstat(p.fd, &p.st), 0);
	assert_int_equal(p.st.st_mode, S_IFREG | 04640);
	assert_int_equal(p.st.st_uid, 1234);
	assert_int_equal(p.st.st_gid, 4321);
	assert_int_equal(p.st.st_mtim.tv_sec, -5);
	assert_int_equal(p.st.st_mtim.tv_nsec, 7);
	assert_int_equal(fgetxattr(p.fd, "user.old", value, sizeof(value)), -1);
	assert_int_equal(fgetxattr(p.fd, "user.new", value, sizeof(value)), 3);
	assert_int_equal(fgetxattr(p.fd, "trusted.t", value, sizeof(value)), 0);
	assert_true(fgetxattr(p.fd, "system.posix_acl_access", value, sizeof(value)) > 0);
	/* A record with names that no attribute can have is told, not obeyed. */
	wr_buf_clear(&x);
	wr_meta_xattr_add(&x, "user.a\0b", 8, "abc", 3);
	wr_meta_xattr_add(&x, "", 0, "abc", 3);
	m.xattrs = (struct wr_bytes){x.p, x.len};
	assert_int_equal(wr_apply_meta(&a, &p, &m, &lost, &err), 0);
	assert_int_equal(lost, WR_LOST_XATTR);
	wr_apply_fini(&a);
	close(p.fd);
	wr_buf_fini(&x);
}

/* ---- hard links ---- */

static void
test_links__identity_is_key_content_and_looks(void **state)
{
	struct wr_buf x = WR_BUF_INIT, y = WR_BUF_INIT;
	struct wr_meta a = {.has_common = true,
			    .mode = S_IFREG | 0644,
			    .hardlink = {(const uint8_t *)"/k", 2}},
		       b = a;
	struct wr_id c1 = wr_obj_id(WR_OBJ_BLOB, "1", 1), c2 = wr_obj_id(WR_OBJ_BLOB, "2", 1);
	struct wr_id ga, gb;

	(void)state;
	wr_relink_group(&a, &c1, false, &ga);
	wr_relink_group(&b, &c2, false, &gb);
	assert_false(wr_id_eq(&ga, &gb));
	wr_relink_group(&b, &c1, true, &gb);
	assert_false(wr_id_eq(&ga, &gb));
	b.uid = 1;
	wr_relink_group(&b, &c1, false, &gb);
	assert_false(wr_id_eq(&ga, &gb));
	b = a;
	b.ctime.s = b.atime.s = 77;
	wr_relink_group(&b, &c1, false, &gb);
	assert_true(wr_id_eq(&ga, &gb));
	/* Attributes in whatever order. */
	wr_meta_xattr_add(&x, "user.a", 6, "1", 1);
	wr_meta_xattr_add(&x, "user.b", 6, "2", 1);
	wr_meta_xattr_add(&y, "user.b", 6, "2", 1);
	wr_meta_xattr_add(&y, "user.a", 6, "1", 1);
	a.xattr_count = b.xattr_count = 2;
	a.xattrs = (struct wr_bytes){x.p, x.len};
	b.xattrs = (struct wr_bytes){y.p, y.len};
	wr_relink_group(&a, &c1, false, &ga);
	wr_relink_group(&b, &c1, false, &gb);
	assert_true(wr_id_eq(&ga, &gb));
	wr_buf_fini(&x);
	wr_buf_fini(&y);
}

struct claim {
	struct wr_relinks *l;
	struct wr_id id;
	bool was_first;
};

static void *
claim_it(void *arg)
{
	struct claim *c = arg;
	struct wr_relink_at found = {0};

	c->was_first = wr_relinks_claim(c->l, &c->id, &found);
	if (!c->was_first)
		free(found.path);
	else
		wr_relinks_done(c->l, &c->id, "second", 6, 1, 2);
	return NULL;
}

static void
test_links__others_wait_for_the_first(void **state)
{
	struct claim c = {wr_relinks_new(), wr_obj_id(WR_OBJ_BLOB, "", 0), false};
	struct wr_relink_at found = {0};
	pthread_t thread;

	(void)state;
	assert_true(wr_relinks_claim(c.l, &c.id, &found));
	assert_int_equal(pthread_create(&thread, NULL, claim_it, &c), 0);
	wr_relinks_failed(c.l, &c.id); /* the next in line takes over */
	pthread_join(thread, NULL);
	assert_true(c.was_first);
	assert_false(wr_relinks_claim(c.l, &c.id, &found));
	assert_string_equal(found.path, "second");
	free(found.path);
	/* One inode serves one identity. */
	assert_true(wr_relinks_take_inode(c.l, 1, 2, &c.id));
	assert_true(wr_relinks_take_inode(c.l, 1, 2, &c.id));
	assert_false(wr_relinks_take_inode(c.l, 1, 2, NULL));
	assert_true(wr_relinks_take_inode(c.l, 1, 3, NULL));
	assert_false(wr_relinks_take_inode(c.l, 1, 3, NULL));
	wr_relinks_free(c.l);
}

static void
test_links__not_through_a_link(void **state)
{
	struct wr_relink_at found = {.path = (char *)(uintptr_t) "sub/f"};
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(mkdir(at("root"), 0755) | mkdir(at("real"), 0755), 0);
	put_text("real/f", "x");
	assert_int_equal(stat(at("real/f"), &st), 0);
	found.dev = st.st_dev;
	found.ino = st.st_ino;
	assert_int_equal(symlink("../real", at("root/sub")), 0);
	fd = open(at("root"), O_RDONLY | O_DIRECTORY);
	assert_int_equal(wr_relinks_make(fd, &found, fd, "g"), -1);
	assert_int_equal(access(at("root/g"), F_OK), -1);
	/* And what lies there must be the inode that was meant. */
	assert_int_equal(unlink(at("root/sub")) | mkdir(at("root/sub"), 0755), 0);
	put_text("root/sub/f", "other");
	assert_int_equal(wr_relinks_make(fd, &found, fd, "g"), -1);
	assert_int_equal(errno, ESTALE);
	assert_int_equal(access(at("root/g"), F_OK), -1);
	assert_int_equal(rename(at("real/f"), at("root/sub/f")), 0);
	assert_int_equal(wr_relinks_make(fd, &found, fd, "g"), 0);
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_restore__changed_since_the_safety_snapshot),
	    TEST(test_restore__directory_swapped_for_a_link),
	    TEST(test_restore__hard_links_on_many_threads),
	    TEST(test_restore__content_of_many_chunks),
	    TEST(test_apply__same_as_this_user_can_have_it),
	    TEST(test_apply__mode_at_creation_hides_until_the_owner_is_set),
	    TEST(test_apply__everything_on_an_existing_file),
	    TEST(test_links__identity_is_key_content_and_looks),
	    TEST(test_links__others_wait_for_the_first),
	    TEST(test_links__not_through_a_link),
	};

	return cmocka_run_group_tests_name("restore", tests, NULL, NULL);
}
