/* SPDX-License-Identifier: Apache-2.0 */
/* The real database on a real file, also when its writer is killed. */
#include "host/store/store_int.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/test_ok.h"
#include "sys/clock.h"
#include "sys/fs.h"

struct dir {
	char path[64];
	char db[80];
};

static int
setup(void **state)
{
	struct dir *d = wr_calloc(1, sizeof(*d));

	snprintf(d->path, sizeof(d->path), "/tmp/store_test.XXXXXX");
	if (!mkdtemp(d->path))
		return -1;
	snprintf(d->db, sizeof(d->db), "%s/node.db", d->path);
	*state = d;
	return 0;
}

static int
teardown(void **state)
{
	struct dir *d = *state;
	int rc = wr_remove_tree(AT_FDCWD, d->path, NULL);

	free(d);
	return rc;
}

static struct wr_store *
open_store(const struct dir *d)
{
	struct wr_store *s = NULL;

	ok(wr_store_open(d->db, false, &s, err));
	return s;
}

/* Change the file behind the store's back. */
static void
meddle(const struct dir *d, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(d->db, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static struct wr_proj_row
project(const char *id, const char *name, uint32_t uid)
{
	struct wr_proj_row r = {.uid = uid, .gid = uid, .exclusive = true, .created = 5};

	snprintf(r.id.s, sizeof(r.id.s), "%s-4f50-4a6b-8c7d-9e0f1a2b3c4d", id);
	snprintf(r.name, sizeof(r.name), "%s", name);
	return r;
}

static void
put(struct wr_store *s, const char *id, const char *name, uint32_t uid)
{
	struct wr_proj_row r = project(id, name, uid);

	ok(wr_store_proj_put(s, &r, err));
}

static struct wr_op_row
operation(const struct wr_uuid *of, enum wr_op_state st)
{
	struct wr_op_row r = {.kind = WR_OP_SAVE, .state = st, .by = "uid 1000", .created = 7};

	wr_uuid_new(&r.id);
	if (of)
		r.project = *of;
	return r;
}

/* ---- the file ---- */

static void
test_open__makes_a_private_file_and_finds_it_again(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d);
	struct stat st;

	put(s, "0b1c2d3e", "zoe", 7);
	assert_int_equal(stat(d->db, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	wr_store_close(s);
	s = open_store(d);
	{
		struct wr_proj_row r;

		ok(wr_store_proj_find(s, "zoe", false, false, &r, err));
		wr_proj_row_fini(&r);
	}
	wr_store_close(s);
	wr_store_close(NULL);
}

static void
test_open__formats(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = NULL;

	refused(wr_store_open(d->db, true, &s, err), WR_E_NOT_FOUND, "node.db");
	wr_store_close(open_store(d));
	meddle(d, "PRAGMA user_version=6");
	refused(wr_store_open(d->db, false, &s, err), WR_E_UNSUPPORTED,
		"format 6, this program reads up to 5");
	refused(wr_store_open(d->db, true, &s, err), WR_E_UNSUPPORTED, "format 6");
	meddle(d, "PRAGMA user_version=5; PRAGMA application_id=7");
	refused(wr_store_open(d->db, false, &s, err), WR_E_CORRUPT, "no database of Warren");
	assert_int_equal(unlink(d->db), 0);
	meddle(d, "CREATE TABLE other(x)");
	refused(wr_store_open(d->db, false, &s, err), WR_E_CORRUPT, "no database of Warren");
	assert_null(s);
}

/* As the first release made it, with a token in it. */
static void
test_open__an_older_format(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d);
	char old[80], now[80], text[16];
	struct wr_uuid of;
	enum wr_scope scope = WR_SCOPE_NONE;

	put(s, "0b1c2d3e", "zoe", 1);
	ok(wr_store_token_new(s, WR_SCOPE_READ, NULL, "start", 0, old, err));
	wr_store_close(s);
	meddle(d, "ALTER TABLE token RENAME TO t; CREATE TABLE token(hash BLOB PRIMARY KEY, "
		  "scope INTEGER NOT NULL, project TEXT NOT NULL, purpose TEXT NOT NULL, expires "
		  "INTEGER NOT NULL, UNIQUE(scope, project, purpose)) WITHOUT ROWID; INSERT INTO "
		  "token SELECT hash,scope,project,purpose,expires FROM t; DROP TABLE t; "
		  "DROP TABLE replica; DROP TABLE growth; "
		  "PRAGMA user_version=1");
	/* Readers take it as it is. */
	ok(wr_store_open(d->db, true, &s, err));
	wr_store_close(s);
	s = open_store(d);
	ok(wr_store_token_check(s, old, 10, &scope, &of, text, err));
	assert_int_equal(scope, WR_SCOPE_READ);
	/* Still the one that the next of its kind replaces. */
	ok(wr_store_token_new(s, WR_SCOPE_READ, NULL, "start", 0, now, err));
	refused(wr_store_token_check(s, old, 10, &scope, &of, text, err), WR_E_DENIED, "unknown");
	wr_store_close(s);
}

struct grown {
	uint64_t tree, repo;
	size_t count;
};

static int
sum_growth(void *ctx, const struct wr_growth_row *r, struct wr_err *err WR_UNUSED)
{
	struct grown *g = ctx;

	g->tree += r->tree;
	g->repo += r->repo;
	g->count++;
	return 0;
}

static struct grown
grown(struct wr_store *s)
{
	struct grown g = {0};

	ok(wr_store_growth_each(s, sum_growth, &g, err));
	return g;
}

static void
sized(struct wr_store *s, uint64_t bytes, uint64_t repo)
{
	struct wr_proj_row r = project("0b1c2d3e", "zoe", 1);

	r.bytes = bytes;
	r.repo_bytes = repo;
	ok(wr_store_proj_put(s, &r, err));
	wr_proj_row_fini(&r);
}

/* By what it was half a day ago, and the one before; what shrinks did not grow. */
static void
test_growth__of_the_last_day(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d);
	struct wr_proj_row r;

	sized(s, 0, 0);
	sized(s, 1000, 300);
	assert_int_equal(grown(s).tree, 1000);
	assert_int_equal(grown(s).repo, 300);
	meddle(d, "UPDATE growth SET at=at-50000");
	sized(s, 1500, 200);
	assert_int_equal(grown(s).tree, 1500);
	meddle(d, "UPDATE growth SET at=at-50000");
	sized(s, 1600, 500);
	assert_int_equal(grown(s).tree, 100);
	assert_int_equal(grown(s).repo, 300);
	/* It was left alone since. */
	meddle(d, "UPDATE growth SET at=at-100000");
	assert_int_equal(grown(s).tree, 0);
	sized(s, 10, 10);
	assert_int_equal(grown(s).tree, 0);
	assert_int_equal(grown(s).count, 1);
	r = project("0b1c2d3e", "zoe", 1);
	ok(wr_store_proj_drop(s, &r.id, err));
	wr_proj_row_fini(&r);
	assert_int_equal(grown(s).count, 0);
	wr_store_close(s);
}

static int
count_replica(void *ctx, const struct wr_replica_row *r, struct wr_err *err)
{
	uint64_t *sum = ctx;

	(void)err;
	*sum += r->seq;
	return 0;
}

static void
test_replica__who_holds_what(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d);
	struct wr_replica_row r = {.epoch = 2, .seq = 7, .scan_started = 100, .at = 101};
	uint64_t sum = 0;

	wr_uuid_new(&r.project);
	wr_uuid_new(&r.node);
	ok(wr_store_replica_put(s, &r, err));
	wr_store_close(s);
	s = open_store(d);
	ok(wr_store_replica_each(s, &r.project, count_replica, &sum, err));
	assert_int_equal(sum, 7);
	/* NULL: those that are behind alone. */
	sum = 0;
	ok(wr_store_replica_each(s, NULL, count_replica, &sum, err));
	assert_int_equal(sum, 0);
	r.seq = 9;
	r.behind_since = 200;
	ok(wr_store_replica_put(s, &r, err));
	wr_uuid_new(&r.node);
	ok(wr_store_replica_put(s, &r, err));
	ok(wr_store_replica_each(s, NULL, count_replica, &sum, err));
	assert_int_equal(sum, 18);
	ok(wr_store_replica_drop(s, &r.project, &r.node, err));
	sum = 0;
	ok(wr_store_replica_each(s, &r.project, count_replica, &sum, err));
	assert_int_equal(sum, 9);
	ok(wr_store_replica_drop(s, &r.project, NULL, err));
	sum = 0;
	ok(wr_store_replica_each(s, &r.project, count_replica, &sum, err));
	assert_int_equal(sum, 0);
	wr_store_close(s);
}

static void
test_open__damage_and_what_is_no_file(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d);
	struct wr_err err = WR_ERR_INIT;
	char junk[8192];
	int fd;

	for (int i = 0; i < 200; i++) {
		struct wr_op_row r = operation(NULL, WR_OPS_DONE);

		assert_int_equal(wr_store_op_put(s, &r, &err), 0);
	}
	wr_store_close(s);
	memset(junk, 0x5a, sizeof(junk));
	fd = open(d->db, O_WRONLY | O_CLOEXEC);
	assert_int_equal(wr_pwrite_all(fd, junk, sizeof(junk), 8192), 0);
	assert_int_equal(wr_store_open(d->db, false, &s, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	assert_non_null(strstr(err.hint, "found again on the disks"));
	assert_int_equal(wr_pwrite_all(fd, junk, sizeof(junk), 0), 0);
	close(fd);
	assert_int_equal(wr_store_open(d->db, false, &s, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	assert_int_equal(unlink(d->db), 0);
	assert_int_equal(symlink("/tmp/elsewhere", d->db), 0);
	assert_int_equal(wr_store_open(d->db, false, &s, &err), -1);
	assert_int_equal(access("/tmp/elsewhere", F_OK), -1);
	assert_int_equal(unlink(d->db), 0);
	assert_int_equal(mkdir(d->db, 0700), 0);
	assert_int_equal(wr_store_open(d->db, false, &s, &err), -1);
}

static void
test_read_only__beside_the_writer_and_alone(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d), *reader = NULL;
	struct wr_proj_row r;

	put(s, "0b1c2d3e", "zoe", 7);
	ok(wr_store_open(d->db, true, &reader, err));
	ok(wr_store_proj_find(reader, "zoe", false, false, &r, err));
	wr_proj_row_fini(&r);
	/* A group that is open neither hinders the reader nor is seen by him. */
	ok(wr_store_begin(s, err));
	put(s, "1b1c2d3e", "yan", 8);
	refused(wr_store_proj_find(reader, "yan", false, false, &r, err), WR_E_NOT_FOUND, "'yan'");
	ok(wr_store_commit(s, err));
	ok(wr_store_proj_find(reader, "yan", false, false, &r, err));
	refused(wr_store_proj_put(reader, &r, err), WR_E_DENIED, "readonly");
	wr_proj_row_fini(&r);
	wr_store_close(reader);
	wr_store_close(s);
	ok(wr_store_open(d->db, true, &reader, err));
	ok(wr_store_proj_find(reader, "yan", false, false, &r, err));
	wr_proj_row_fini(&r);
	wr_store_close(reader);
}

/* ---- groups, and death in them ---- */

static int
count_op(void *ctx, const struct wr_op_row *r, struct wr_err *err)
{
	(void)r;
	(void)err;
	++*(unsigned *)ctx;
	return 0;
}

static unsigned
ops(struct wr_store *s, const struct wr_uuid *of, enum wr_op_state st, uint32_t limit)
{
	unsigned n = 0;

	ok(wr_store_op_each(s, of, st, limit, count_op, &n, err));
	return n;
}

static void
test_group__all_or_nothing(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_op_row r = operation(NULL, WR_OPS_QUEUED);

	ok(wr_store_begin(s, err));
	ok(wr_store_op_put(s, &r, err));
	ok(wr_store_event(s, "uid 1", NULL, "a.b", "because", NULL, err));
	wr_store_abort(s);
	assert_int_equal(ops(s, NULL, WR_OPS_UNSET, 0), 0);
	ok(wr_store_begin(s, err));
	ok(wr_store_op_put(s, &r, err));
	ok(wr_store_commit(s, err));
	assert_int_equal(ops(s, NULL, WR_OPS_UNSET, 0), 1);
	/* Closing without commit undoes. */
	ok(wr_store_begin(s, err));
	r = operation(NULL, WR_OPS_QUEUED);
	ok(wr_store_op_put(s, &r, err));
	wr_store_close(s);
	s = open_store(*state);
	assert_int_equal(ops(s, NULL, WR_OPS_UNSET, 0), 1);
	wr_store_close(s);
}

static void
test_full__refused_and_whole(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_err e = WR_ERR_INIT;
	struct wr_op_row r;
	unsigned n = 0, left;

	assert_int_equal(sqlite3_exec(s->db.sqlite, "PRAGMA max_page_count=40", NULL, NULL, NULL),
			 0);
	do
		r = operation(NULL, WR_OPS_QUEUED);
	while (wr_store_op_put(s, &r, &e) == 0 && n++ < 10000);
	assert_int_equal(e.code, WR_E_NOSPACE);
	assert_non_null(strstr(e.hint, "free space"));
	assert_int_equal(ops(s, NULL, WR_OPS_UNSET, 0), n);
	/* The error undoes the group that it comes in, which then cannot be committed in part. */
	if (wr_store_begin(s, &e) == 0) {
		while (wr_store_op_put(s, &r, &e) == 0)
			wr_uuid_new(&r.id);
		assert_int_equal(e.code, WR_E_NOSPACE);
		wr_store_abort(s);
	}
	left = ops(s, NULL, WR_OPS_UNSET, 0);
	assert_int_equal(left, n);
	assert_int_equal(sqlite3_exec(s->db.sqlite, "PRAGMA max_page_count=4000", NULL, NULL, NULL),
			 0);
	wr_uuid_new(&r.id);
	ok(wr_store_op_put(s, &r, err));
	wr_store_close(s);
}

static pid_t
child(const struct dir *d, int *out_fd, void (*fn)(struct wr_store *, int))
{
	int p[2];
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct wr_store *s = NULL;

		close(p[0]);
		if (wr_store_open(d->db, false, &s, NULL) == 0)
			fn(s, p[1]);
		_exit(9);
	}
	close(p[1]);
	*out_fd = p[0];
	return pid;
}

static void
kill_child(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void
many_in_a_group(struct wr_store *s, int fd)
{
	struct wr_op_row first = operation(NULL, WR_OPS_QUEUED);

	if (wr_store_op_put(s, &first, NULL) < 0 || wr_store_begin(s, NULL) < 0)
		return;
	/* More than the cache holds, so that some of it is in the log on disk. */
	for (int i = 0; i < 5000; i++) {
		struct wr_op_row r = operation(NULL, WR_OPS_RUNNING);
		int rc;

		r.args = wr_asprintf("{\"n\":\"%01000d\"}", i);
		rc = wr_store_op_put(s, &r, NULL);
		wr_op_row_fini(&r);
		if (rc < 0)
			return;
	}
	if (wr_write_all(fd, "x", 1) == 0)
		pause();
}

static void
test_kill__in_the_middle_of_a_group(void **state)
{
	struct wr_store *s;
	char c;
	int fd;
	pid_t pid;

	wr_store_close(open_store(*state));
	pid = child(*state, &fd, many_in_a_group);
	assert_int_equal(wr_read_full(fd, &c, 1), 1);
	close(fd);
	kill_child(pid);
	s = open_store(*state);
	assert_int_equal(ops(s, NULL, WR_OPS_RUNNING, 0), 0);
	assert_int_equal(ops(s, NULL, WR_OPS_QUEUED, 0), 1);
	wr_store_close(s);
}

static void
one_by_one(struct wr_store *s, int fd)
{
	for (;;) {
		struct wr_op_row r = operation(NULL, WR_OPS_QUEUED);

		if (wr_store_op_put(s, &r, NULL) < 0 || wr_write_all(fd, r.id.s, 36) < 0)
			return;
	}
}

/* Whatever was said to be stored is stored, whenever the writer dies. */
static void
test_kill__nothing_that_was_reported_is_lost(void **state)
{
	wr_store_close(open_store(*state));
	for (int round = 0; round < 5; round++) {
		char id[37] = "";
		struct wr_store *s;
		size_t known = 0;
		int fd;
		pid_t pid = child(*state, &fd, one_by_one);

		for (int i = 0; i < 20 + 7 * round; i++)
			assert_int_equal(wr_read_full(fd, id, 36), 36);
		kill_child(pid);
		s = open_store(*state);
		do {
			struct wr_op_row r;

			ok(wr_store_op_find(s, id, &r, err));
			wr_op_row_fini(&r);
			known++;
		} while (wr_read_full(fd, id, 36) == 36);
		assert_true(known >= 1);
		close(fd);
		wr_store_close(s);
	}
}

/* ---- projects ---- */

static void
test_proj__every_field_there_and_back(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_proj_row r = project("0b1c2d3e", "zoe", 4000000000u), back;

	r.tree_vol = 1;
	r.repo_vol = 2;
	r.gid = 12;
	r.desired = r.autostart = r.save_ok = true;
	r.save_began = 13;
	r.save_ended = 14;
	r.used = 15;
	snprintf(r.commit, sizeof(r.commit), "%040d", 7);
	snprintf(r.snapshot, sizeof(r.snapshot), "2026-11-22-101530");
	r.files = 16;
	r.bytes = (uint64_t)1 << 50;
	r.repo_bytes = 17;
	r.settings = wr_strdup("{\"a\":1}");
	r.holders = wr_strdup("[{\"name\":\"x\"}]");
	ok(wr_store_proj_put(s, &r, err));
	ok(wr_store_proj_find(s, r.id.s, false, false, &back, err));
	assert_string_equal(back.settings, r.settings);
	assert_string_equal(back.holders, r.holders);
	wr_proj_row_fini(&r);
	wr_proj_row_fini(&back);
	assert_string_equal(back.id.s, r.id.s);
	assert_string_equal(back.name, r.name);
	assert_string_equal(back.commit, r.commit);
	assert_string_equal(back.snapshot, r.snapshot);
	assert_true(back.uid == r.uid && back.gid == r.gid && back.tree_vol == 1 &&
		    back.repo_vol == 2 && back.exclusive && back.desired && back.autostart &&
		    back.created == 5 && back.deleted == 0 && back.save_began == 13 &&
		    back.save_ended == 14 && back.save_ok && back.files == 16 &&
		    back.bytes == r.bytes && back.repo_bytes == 17 && back.used == 15);
	wr_store_close(s);
}

static void
test_proj__names_are_unique_also_in_the_trash(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_proj_row a = project("0b1c2d3e", "zoe", 1), b = project("1b1c2d3e", "zoe", 2);

	ok(wr_store_proj_put(s, &a, err));
	refused(wr_store_proj_put(s, &b, err), WR_E_EXISTS, "named 'zoe' already");
	a.deleted = 9;
	ok(wr_store_proj_put(s, &a, err));
	refused(wr_store_proj_put(s, &b, err), WR_E_EXISTS, "named 'zoe' already");
	/* A refusal inside a group leaves the group as it was. */
	ok(wr_store_begin(s, err));
	put(s, "2b1c2d3e", "yan", 3);
	refused(wr_store_proj_put(s, &b, err), WR_E_EXISTS, "zoe");
	ok(wr_store_commit(s, err));
	snprintf(a.name, sizeof(a.name), "zoe2");
	ok(wr_store_proj_put(s, &a, err));
	ok(wr_store_proj_put(s, &b, err));
	wr_store_close(s);
}

static void
test_proj__find(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_err e = WR_ERR_INIT;
	struct wr_proj_row r;

	put(s, "0b1c2d3e", "zoe", 1);
	put(s, "0b1c2d3f", "yan", 2);
	put(s, "fb1c2d3f", "xu", 3);
	r = project("ab1c2d3f", "gone", 4);
	r.deleted = 9;
	ok(wr_store_proj_put(s, &r, err));

	ok(wr_store_proj_find(s, "0b1c2d3e", true, false, &r, err));
	assert_string_equal(r.name, "zoe");
	wr_proj_row_fini(&r);
	ok(wr_store_proj_find(s, "fb1c", true, false, &r, err));
	assert_string_equal(r.name, "xu");
	wr_proj_row_fini(&r);
	refused(wr_store_proj_find(s, "fb1c", false, false, &r, err), WR_E_INVALID,
		"only the beginning");
	assert_int_equal(wr_store_proj_find(s, "0b1c", true, false, &r, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	assert_non_null(strstr(e.hint, "zoe (0b1c2d3e-"));
	assert_non_null(strstr(e.hint, "yan (0b1c2d3f-"));
	assert_int_equal(wr_store_proj_find(s, "zeo", true, false, &r, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_string_equal(e.hint, "did you mean 'zoe'?");
	refused(wr_store_proj_find(s, "1234", true, false, &r, err), WR_E_NOT_FOUND, "'1234'");
	refused(wr_store_proj_find(s, "z%", true, false, &r, err), WR_E_INVALID, "'z%'");
	refused(wr_store_proj_find(s, "_oe", true, false, &r, err), WR_E_NOT_FOUND, "'_oe'");

	assert_int_equal(wr_store_proj_find(s, "gone", true, false, &r, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_non_null(strstr(e.hint, "undelete ab1c2d3f-"));
	refused(wr_store_proj_find(s, "ab1c", true, false, &r, err), WR_E_NOT_FOUND, "'ab1c'");
	ok(wr_store_proj_find(s, "gone", true, true, &r, err));
	wr_proj_row_fini(&r);
	ok(wr_store_proj_find(s, "ab1c", true, true, &r, err));
	wr_proj_row_fini(&r);
	wr_store_close(s);
}

static void
test_proj__by_uid(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_proj_row r;

	put(s, "0b1c2d3e", "zoe", 7);
	put(s, "1b1c2d3e", "yan", 8);
	put(s, "2b1c2d3e", "xu", 8);
	ok(wr_store_proj_by_uid(s, 7, &r, err));
	assert_string_equal(r.name, "zoe");
	r.deleted = 5;
	ok(wr_store_proj_put(s, &r, err));
	wr_proj_row_fini(&r);
	refused(wr_store_proj_by_uid(s, 7, &r, err), WR_E_NOT_FOUND, "uid 7 has no");
	refused(wr_store_proj_by_uid(s, 8, &r, err), WR_E_NOT_FOUND, "more than one");
	wr_store_close(s);
}

static int
join_name(void *ctx, const struct wr_proj_row *r, struct wr_err *err)
{
	(void)err;
	wr_buf_addf(ctx, "%s ", r->name);
	return !strcmp(r->name, "stop") ? 7 : 0;
}

static void
names(struct wr_store *s, int what, const char *expected)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	ok(wr_store_proj_each(s, what, join_name, &b, err));
	assert_string_equal(wr_buf_str(&b), expected);
}

struct nested {
	struct wr_store *s;
	unsigned n;
};

static int
ask_again(void *ctx, const struct wr_proj_row *r, struct wr_err *err)
{
	struct nested *x = ctx;
	struct wr_proj_row changed = *r;

	names(x->s, 0, "yan zoe ");
	changed.used++;
	x->n++;
	return wr_store_proj_put(x->s, &changed, err);
}

static void
test_proj__each(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_proj_row r = project("2b1c2d3e", "xu", 3);
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct nested x = {.s = s};

	put(s, "0b1c2d3e", "zoe", 1);
	put(s, "1b1c2d3e", "yan", 2);
	r.desired = true;
	ok(wr_store_proj_put(s, &r, err));
	names(s, 0, "xu yan zoe ");
	names(s, 3, "xu ");
	r.deleted = 4;
	ok(wr_store_proj_put(s, &r, err));
	names(s, 0, "yan zoe ");
	names(s, 1, "xu ");
	names(s, 2, "xu yan zoe ");
	names(s, 3, "");
	ok(wr_store_proj_each(s, 0, ask_again, &x, err));
	assert_int_equal(x.n, 2);
	put(s, "3b1c2d3e", "stop", 5);
	assert_int_equal(wr_store_proj_each(s, 0, join_name, &b, NULL), 7);
	assert_string_equal(wr_buf_str(&b), "stop ");
	wr_store_close(s);
}

static void
test_uid__free_ones_and_tombstones(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_proj_row r = project("2b1c2d3e", "xu", 102);
	uint32_t uid = 0;

	ok(wr_store_uid_next(s, 100, 103, 1000, &uid, err));
	assert_int_equal(uid, 100);
	put(s, "0b1c2d3e", "zoe", 100);
	put(s, "1b1c2d3e", "yan", 99);
	r.deleted = 4;
	ok(wr_store_proj_put(s, &r, err));
	ok(wr_store_uid_next(s, 100, 103, 1000, &uid, err));
	assert_int_equal(uid, 101);
	put(s, "3b1c2d3e", "wim", 101);
	ok(wr_store_uid_next(s, 100, 103, 1000, &uid, err));
	assert_int_equal(uid, 103);
	refused(wr_store_uid_next(s, 100, 102, 1000, &uid, err), WR_E_LIMIT, "from 100 to 102");
	/* A purged project's uid rests for a while. */
	ok(wr_store_proj_drop(s, &r.id, err));
	refused(wr_store_uid_next(s, 100, 102, 1000, &uid, err), WR_E_LIMIT, "no uid");
	wr_store_close(s);
	meddle(*state, "UPDATE tombstone SET dropped=dropped-2000");
	s = open_store(*state);
	ok(wr_store_uid_next(s, 100, 102, 1000, &uid, err));
	assert_int_equal(uid, 102);
	wr_store_close(s);
}

static void
test_proj__ten_thousand(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	struct wr_proj_row r;
	uint64_t began;
	uint32_t uid;
	char name[64];

	ok(wr_store_begin(s, err));
	for (uint32_t i = 0; i < 10000; i++) {
		r = project("0b1c2d3e", "", 700000 + i);
		wr_uuid_new(&r.id);
		snprintf(r.name, sizeof(r.name), "user%05" PRIu32, i);
		r.settings =
		    wr_asprintf("{\"format\":1,\"name\":\"%s\",\"pad\":\"%0300d\"}", r.name, 0);
		ok(wr_store_proj_put(s, &r, err));
		wr_proj_row_fini(&r);
	}
	ok(wr_store_commit(s, err));
	began = wr_clock_mono_ns();
	ok(wr_store_proj_each(s, 0, join_name, &b, err));
	print_message("# list of 10,000: %.1f ms\n", (double)(wr_clock_mono_ns() - began) / 1e6);
	assert_int_equal(b.len, 10000 * 10);
	began = wr_clock_mono_ns();
	for (uint32_t i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "user%05" PRIu32, i * 10);
		ok(wr_store_proj_find(s, name, false, false, &r, err));
		wr_proj_row_fini(&r);
	}
	print_message("# find by name: %.3f ms\n", (double)(wr_clock_mono_ns() - began) / 1e9);
	began = wr_clock_mono_ns();
	refused(wr_store_proj_find(s, "usre00001", false, false, &r, err), WR_E_NOT_FOUND, "usre");
	ok(wr_store_uid_next(s, 700000, 799999, 1, &uid, err));
	print_message("# near name and free uid: %.1f ms\n",
		      (double)(wr_clock_mono_ns() - began) / 1e6);
	assert_int_equal(uid, 710000);
	print_message("# memory of the database: %.1f MiB\n",
		      (double)sqlite3_memory_used() / 1048576);
	assert_true(sqlite3_memory_used() < 3 << 20);
	wr_store_close(s);
}

/* ---- operations ---- */

static void
test_op__every_field_and_find(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_uuid of = {"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"};
	struct wr_op_row r = operation(&of, WR_OPS_RUNNING), back;
	char prefix[9];

	r.args = wr_strdup("{\"tag\":\"x\"}");
	r.started = 8;
	r.joined = 3;
	snprintf(r.proc, sizeof(r.proc), "1:2:3");
	snprintf(r.step, sizeof(r.step), "scan");
	ok(wr_store_op_put(s, &r, err));
	snprintf(prefix, sizeof(prefix), "%.8s", r.id.s);
	ok(wr_store_op_find(s, prefix, &back, err));
	assert_string_equal(back.id.s, r.id.s);
	assert_string_equal(back.project.s, of.s);
	assert_string_equal(back.by, "uid 1000");
	assert_string_equal(back.args, r.args);
	assert_string_equal(back.proc, "1:2:3");
	assert_string_equal(back.step, "scan");
	assert_null(back.receipt);
	assert_null(back.error);
	assert_true(back.kind == WR_OP_SAVE && back.state == WR_OPS_RUNNING && back.created == 7 &&
		    back.started == 8 && back.finished == 0 && back.joined == 3);
	wr_op_row_fini(&back);
	r.state = WR_OPS_FAILED;
	r.finished = 9;
	r.receipt = wr_strdup("{}");
	r.error = wr_strdup("{\"code\":\"failed\"}");
	ok(wr_store_op_put(s, &r, err));
	ok(wr_store_op_find(s, r.id.s, &back, err));
	assert_string_equal(back.error, r.error);
	assert_string_equal(back.receipt, "{}");
	assert_int_equal(back.state, WR_OPS_FAILED);
	wr_op_row_fini(&back);
	wr_op_row_fini(&r);
	refused(wr_store_op_find(s, "0000", &back, err), WR_E_NOT_FOUND, "'0000'");
	refused(wr_store_op_find(s, "%", &back, err), WR_E_INVALID, "'%'");
	wr_store_close(s);
}

static int
newest_first(void *ctx, const struct wr_op_row *r, struct wr_err *err)
{
	int64_t *last = ctx;

	(void)err;
	assert_true(r->started < *last);
	*last = r->started;
	return 0;
}

static void
test_op__each_and_trim(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_uuid a = {"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"},
		       b = {"1b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"}, *ids = NULL, oldest = {""};
	struct wr_op_row r;
	int64_t last = INT64_MAX;
	size_t count = 0;

	for (int i = 0; i < 30; i++) {
		r = operation(i % 3 ? &a : &b, i == 1  ? WR_OPS_RUNNING
					       : i % 2 ? WR_OPS_DONE
						       : WR_OPS_CANCELLED);
		r.started = i;
		if (i == 2)
			oldest = r.id;
		ok(wr_store_op_put(s, &r, err));
	}
	assert_int_equal(ops(s, NULL, WR_OPS_UNSET, 0), 30);
	assert_int_equal(ops(s, NULL, WR_OPS_UNSET, 4), 4);
	assert_int_equal(ops(s, &a, WR_OPS_UNSET, 0), 20);
	assert_int_equal(ops(s, NULL, WR_OPS_RUNNING, 0), 1);
	assert_int_equal(ops(s, &b, WR_OPS_RUNNING, 0), 0);
	ok(wr_store_op_each(s, &a, WR_OPS_UNSET, 0, newest_first, &last, err));
	ok(wr_store_op_trim(s, &a, 5, &ids, &count, err));
	/* Of 20, one runs: 14 of 19 are too old. */
	assert_int_equal(count, 14);
	assert_string_equal(ids[13].s, oldest.s);
	free(ids);
	assert_int_equal(ops(s, &a, WR_OPS_UNSET, 0), 6);
	assert_int_equal(ops(s, &a, WR_OPS_RUNNING, 0), 1);
	assert_int_equal(ops(s, &b, WR_OPS_UNSET, 0), 10);
	ok(wr_store_op_trim(s, &a, 5, &ids, &count, err));
	assert_int_equal(count, 0);
	assert_null(ids);
	wr_store_close(s);
}

/* ---- events ---- */

static json_t *
events(struct wr_store *s, uint64_t since, const struct wr_uuid *of, uint32_t limit)
{
	json_t *list = NULL;

	ok(wr_store_events(s, since, of, limit, &list, err));
	return list;
}

static uint64_t
seq_at(const json_t *list, size_t i)
{
	return wr_json_get_u64(json_array_get(list, i), "seq", 0);
}

static void
test_event__since_limit_project(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_uuid a = {"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"};
	json_t *list, *o;

	for (int i = 0; i < 10; i++) {
		o = json_object();
		wr_json_u64(o, "i", (uint64_t)i);
		ok(wr_store_event(s, "uid 1000", i % 2 ? &a : NULL, "op.failed", "it broke", o,
				  err));
	}
	ok(wr_store_event(s, "warren", NULL, "node.started", NULL, NULL, err));
	list = events(s, 0, NULL, 3);
	assert_int_equal(json_array_size(list), 3);
	assert_int_equal(seq_at(list, 0), 1);
	o = json_array_get(list, 1);
	assert_string_equal(wr_json_get_str(o, "project", ""), a.s);
	assert_string_equal(wr_json_get_str(o, "who", ""), "uid 1000");
	assert_string_equal(wr_json_get_str(o, "what", ""), "op.failed");
	assert_string_equal(wr_json_get_str(o, "why", ""), "it broke");
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(o, "detail"), "i", 9), 1);
	assert_true(wr_json_get_time(o, "at", 0) > 0);
	json_decref(list);
	list = events(s, 9, NULL, 100);
	assert_int_equal(json_array_size(list), 2);
	assert_true(json_is_null(json_object_get(json_array_get(list, 1), "detail")));
	assert_true(json_is_null(json_object_get(json_array_get(list, 1), "project")));
	json_decref(list);
	list = events(s, 3, &a, 2);
	assert_int_equal(json_array_size(list), 2);
	assert_int_equal(seq_at(list, 0), 4);
	assert_int_equal(seq_at(list, 1), 6);
	json_decref(list);
	list = events(s, UINT64_MAX, NULL, 2);
	assert_int_equal(seq_at(list, 0), 10);
	assert_int_equal(seq_at(list, 1), 11);
	json_decref(list);
	list = events(s, UINT64_MAX, &a, 2);
	assert_int_equal(seq_at(list, 1), 10);
	json_decref(list);
	list = events(s, UINT64_MAX - 1, NULL, 2);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	wr_store_close(s);
}

static void
test_event__bounded_texts_and_foreign_bytes(void **state)
{
	struct wr_store *s = open_store(*state);
	char large[9000];
	json_t *list, *o = json_object();

	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	wr_json_str(o, "x", large);
	ok(wr_store_event(s, large, NULL, "refused", large, o, err));
	ok(wr_store_event(s, "\xff", NULL, "refused", "a\xff", NULL, err));
	list = events(s, 0, NULL, 9);
	o = json_array_get(list, 0);
	assert_int_equal(strlen(wr_json_get_str(o, "why", "")), 1024);
	assert_true(wr_json_get_u64(wr_json_get_obj(o, "detail"), "too_long", 0) > 8192);
	assert_string_equal(wr_json_get_str(json_array_get(list, 1), "why", ""), "a\xef\xbf\xbd");
	json_decref(list);
	wr_store_close(s);
}

static void
test_event__the_newest_hundred_thousand_are_kept(void **state)
{
	struct wr_store *s = open_store(*state);
	uint64_t oldest, newest;
	json_t *list;

	wr_store_close(s);
	meddle(*state, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE "
		       "i<100100) INSERT INTO event(at,who,what,why) SELECT 1,'x','y','z' FROM n");
	s = open_store(*state);
	for (unsigned i = 0; i < 100; i++)
		ok(wr_store_event(s, "x", NULL, "y", "z", NULL, err));
	list = events(s, 0, NULL, 1);
	oldest = seq_at(list, 0);
	json_decref(list);
	list = events(s, UINT64_MAX, NULL, 1);
	newest = seq_at(list, 0);
	json_decref(list);
	assert_int_equal(newest, 100200);
	assert_in_range(newest - oldest, 99900, 100000);
	wr_store_close(s);
}

static void
test_event__one_project_does_not_wash_away_the_others(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_uuid a, b;
	json_t *list;

	wr_uuid_new(&a);
	wr_uuid_new(&b);
	ok(wr_store_event(s, "x", &b, "y", "theirs", NULL, err));
	ok(wr_store_event(s, "x", NULL, "refused", "nobody's", NULL, err));
	ok(wr_store_begin(s, err));
	for (unsigned i = 0; i < 6000; i++)
		ok(wr_store_event(s, "x", &a, "settings", "again", NULL, err));
	ok(wr_store_commit(s, err));
	list = events(s, 0, NULL, 10000);
	assert_int_equal(json_array_size(list), 5002);
	assert_int_equal(seq_at(list, 0), 1);
	assert_int_equal(seq_at(list, 1), 2);
	assert_int_equal(seq_at(list, 5001), 6002);
	json_decref(list);
	wr_store_close(s);
}

/* ---- tokens ---- */

static bool
file_holds(const char *path, const char *text)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	if (wr_read_file(AT_FDCWD, path, 1 << 26, &b, NULL) < 0)
		return false;
	return memmem(b.p, b.len, text, strlen(text)) != NULL;
}

static void
test_token__only_its_hash_is_on_disk(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d);
	struct wr_uuid a = {"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"};
	char token[80] = "", wal[96];

	ok(wr_store_token_new(s, WR_SCOPE_PROJECT, &a, "start", 0, token, err));
	assert_int_equal(strlen(token), 47);
	assert_int_equal(strspn(token + 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					   "0123456789-_"),
			 43);
	snprintf(wal, sizeof(wal), "%s-wal", d->db);
	assert_true(file_holds(wal, a.s));
	assert_false(file_holds(wal, token + 4));
	wr_store_close(s);
	assert_true(file_holds(d->db, a.s));
	assert_false(file_holds(d->db, token + 4));
}

static void
test_token__what_it_may(void **state)
{
	struct wr_store *s = open_store(*state);
	struct wr_uuid a = {"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"}, of;
	char first[80], second[80], admin[80], text[16];
	enum wr_scope scope = WR_SCOPE_NONE;

	ok(wr_store_token_new(s, WR_SCOPE_PROJECT, &a, "start", 0, first, err));
	ok(wr_store_token_check(s, first, 10, &scope, &of, text, err));
	assert_int_equal(scope, WR_SCOPE_PROJECT);
	assert_string_equal(of.s, a.s);
	assert_int_equal(strlen(text), 8);
	/* The next for the same takes its place. */
	ok(wr_store_token_new(s, WR_SCOPE_PROJECT, &a, "start", 0, second, err));
	assert_string_not_equal(first, second);
	refused(wr_store_token_check(s, first, 10, &scope, &of, text, err), WR_E_DENIED, "unknown");
	ok(wr_store_token_check(s, second, 10, &scope, &of, text, err));
	ok(wr_store_token_new(s, WR_SCOPE_ADMIN, NULL, "cli", 100, admin, err));
	ok(wr_store_token_check(s, admin, 99, &scope, &of, text, err));
	assert_int_equal(scope, WR_SCOPE_ADMIN);
	assert_string_equal(of.s, "");
	refused(wr_store_token_check(s, admin, 100, &scope, &of, text, err), WR_E_DENIED,
		"expired");
	refused(wr_store_token_check(s, "", 1, &scope, &of, text, err), WR_E_DENIED, "unknown");
	refused(wr_store_token_check(s, "wrt_", 1, &scope, &of, text, err), WR_E_DENIED, "unknown");
	second[20] ^= 1;
	refused(wr_store_token_check(s, second, 1, &scope, &of, text, err), WR_E_DENIED, "unknown");
	second[20] ^= 1;
	ok(wr_store_token_drop(s, &a, "other", err));
	ok(wr_store_token_check(s, second, 10, &scope, &of, text, err));
	ok(wr_store_token_drop(s, &a, NULL, err));
	refused(wr_store_token_check(s, second, 1, &scope, &of, text, err), WR_E_DENIED, "unknown");
	ok(wr_store_token_check(s, admin, 1, &scope, &of, text, err));
	/* A project's tokens go with it. */
	put(s, "0b1c2d3e", "zoe", 1);
	ok(wr_store_token_new(s, WR_SCOPE_PROJECT, &a, "start", 0, first, err));
	ok(wr_store_proj_drop(s, &a, err));
	refused(wr_store_token_check(s, first, 1, &scope, &of, text, err), WR_E_DENIED, "unknown");
	wr_store_close(s);
}

static int
collect_token(void *ctx, const struct wr_token_row *t, struct wr_err *err WR_UNUSED)
{
	struct wr_token_row *at = ctx;

	while (*at->id)
		at++;
	*at = *t;
	return 0;
}

static void
test_token__asked_for(void **state)
{
	const struct dir *d = *state;
	struct wr_store *s = open_store(d);
	struct wr_uuid a = {"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"}, of;
	struct wr_token_row one = {.scope = WR_SCOPE_PROJECT,
				   .project = a,
				   .purpose = "start",
				   .created = 1000,
				   .expires = 2000000};
	struct wr_token_row two = one, found[4] = {{.id = ""}}, t;
	char first[80], second[80], own[80], text[16];
	enum wr_scope scope = WR_SCOPE_NONE;

	ok(wr_store_token_make(s, &one, first, err));
	two.created = 1001;
	ok(wr_store_token_make(s, &two, second, err));
	assert_string_not_equal(one.id, two.id);
	/* Warren's own of the same kind neither replaces them nor takes them with it. */
	ok(wr_store_token_new(s, WR_SCOPE_PROJECT, &a, "start", 0, own, err));
	ok(wr_store_token_drop(s, &a, "start", err));
	refused(wr_store_token_check(s, own, 1, &scope, &of, text, err), WR_E_DENIED, "unknown");
	ok(wr_store_token_check(s, first, 3 * 86400 + 7, &scope, &of, text, err));
	assert_string_equal(text, one.id);
	ok(wr_store_token_each(s, NULL, collect_token, found, err));
	assert_string_equal(found[0].id, one.id);
	assert_int_equal(found[0].used, 3 * 86400);
	assert_int_equal(found[0].created, 1000);
	assert_int_equal(found[0].expires, 2000000);
	assert_true(found[0].asked);
	assert_string_equal(found[0].purpose, "start");
	assert_string_equal(found[1].id, two.id);
	assert_int_equal(found[1].used, 0);
	assert_int_equal(*found[2].id, 0);
	ok(wr_store_token_find(s, one.id, &t, err));
	assert_string_equal(t.project.s, a.s);
	refused(wr_store_token_find(s, "12", &t, err), WR_E_INVALID, "no id of a token");
	refused(wr_store_token_revoke(s, first, err), WR_E_INVALID, "no id of a token");
	ok(wr_store_token_revoke(s, one.id, err));
	refused(wr_store_token_revoke(s, one.id, err), WR_E_NOT_FOUND, one.id);
	refused(wr_store_token_check(s, first, 9, &scope, &of, text, err), WR_E_DENIED, "unknown");
	/* Those that expired long ago make room. */
	one.created = 2000000 + 31 * 86400;
	one.expires = 0;
	ok(wr_store_token_make(s, &one, first, err));
	refused(wr_store_token_find(s, two.id, &t, err), WR_E_NOT_FOUND, two.id);
	for (int i = 1; i < 100; i++)
		ok(wr_store_token_make(s, &one, first, err));
	refused(wr_store_token_make(s, &one, first, err), WR_E_LIMIT,
		"100 tokens for this project");
	wr_store_close(s);
}

#define UNIT(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    UNIT(test_open__makes_a_private_file_and_finds_it_again),
	    UNIT(test_open__formats),
	    UNIT(test_open__an_older_format),
	    UNIT(test_growth__of_the_last_day),
	    UNIT(test_replica__who_holds_what),
	    UNIT(test_open__damage_and_what_is_no_file),
	    UNIT(test_read_only__beside_the_writer_and_alone),
	    UNIT(test_group__all_or_nothing),
	    UNIT(test_full__refused_and_whole),
	    UNIT(test_kill__in_the_middle_of_a_group),
	    UNIT(test_kill__nothing_that_was_reported_is_lost),
	    UNIT(test_proj__every_field_there_and_back),
	    UNIT(test_proj__names_are_unique_also_in_the_trash),
	    UNIT(test_proj__find),
	    UNIT(test_proj__by_uid),
	    UNIT(test_proj__each),
	    UNIT(test_uid__free_ones_and_tombstones),
	    UNIT(test_proj__ten_thousand),
	    UNIT(test_op__every_field_and_find),
	    UNIT(test_op__each_and_trim),
	    UNIT(test_event__since_limit_project),
	    UNIT(test_event__bounded_texts_and_foreign_bytes),
	    UNIT(test_event__the_newest_hundred_thousand_are_kept),
	    UNIT(test_event__one_project_does_not_wash_away_the_others),
	    UNIT(test_token__only_its_hash_is_on_disk),
	    UNIT(test_token__what_it_may),
	    UNIT(test_token__asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
