/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every task against a real node root, with real workers: this program is their image.  As root the
 * node, two projects and those who attack are users of their own; one test runs the whole again
 * without root.
 */
#include "host/task/task.h"

#include "host/node/test_node.h"

#include <ftw.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "engine/repo/resolve.h"
#include "engine/repo/verify.h"
#include "engine/snap/dirview.h"
#include "host/task/receipt.h"
#include "sys/clock.h"
#include "sys/proc.h"

#define UID_A 700001u
#define UID_B 700002u
#define UID_NODE 64950u
#define SECRET "what nobody else may see"
#define RACES 30 /* of each kind, as root and again without */
#define DEADLINE_NS UINT64_C(60000000000)

static struct test_root root;
static struct wr_node *node;
static struct wr_place_of a, b; /* two projects; b is the victim */
static char tree_a[256], tree_b[256];
static struct wr_err err;
static bool as_root;

/* ---- the ground ---- */

static void sh(const char *fmt, ...) WR_PRINTF(1, 2);

static int
run_sh(const char *command)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
sh(const char *fmt, ...)
{
	char command[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (run_sh(command) != 0)
		fail_msg("failed: %s", command);
}

static void
new_project(const char *id, uid_t uid, struct wr_place_of *out, char path[256])
{
	struct wr_uuid u;

	assert_true(wr_uuid_parse(id, &u));
	assert_int_equal(mkdirat(node->volume[0].projects_fd, id, 0700), 0);
	assert_int_equal(mkdirat(node->volume[0].repos_fd, id, 0700), 0);
	if (as_root) {
		assert_int_equal(fchownat(node->volume[0].projects_fd, id, uid, uid, 0), 0);
		assert_int_equal(fchownat(node->volume[0].repos_fd, id, UID_NODE, UID_NODE, 0), 0);
	}
	*out = (struct wr_place_of)WR_PLACE_OF_INIT;
	assert_ok(wr_place_of_find(node, &u, out, &err), &err);
	snprintf(path, 256, "%s/projects/%s", node->volume[0].path, id);
}

static uid_t
own(uid_t uid)
{
	return as_root ? uid : geteuid();
}

/* A task of a project; source_fd -1: none. */
static int
task_of(struct wr_place_of *p, enum wr_task_kind kind, json_t *args, int source_fd, int out_fd,
	json_t **res)
{
	WR_SCOPED(wr_json_freep) json_t *taken = args;
	struct wr_task t = WR_TASK_INIT;

	err = (struct wr_err)WR_ERR_INIT;
	t.kind = kind;
	t.place = p;
	t.uid = t.gid = own(p == &b ? UID_B : UID_A);
	if (!as_root)
		t.gid = getegid();
	t.args = taken;
	t.source_fd = source_fd;
	t.out_fd = out_fd;
	t.log_fd = STDERR_FILENO;
	return wr_task_run(&t, res, &err);
}

static json_t *
ok(enum wr_task_kind kind, json_t *args)
{
	json_t *res = NULL;

	if (task_of(&a, kind, args, -1, -1, &res) < 0)
		fail_msg("task %d: %s (%s)", kind, err.msg, wr_err_name(err.code));
	assert_non_null(res);
	return res;
}

static void
fails(enum wr_task_kind kind, json_t *args, enum wr_err_code want)
{
	json_t *res = NULL;

	assert_int_equal(task_of(&a, kind, args, -1, -1, &res), -1);
	if (err.code != want)
		fail_msg("task %d: %s (%s)", kind, err.msg, wr_err_name(err.code));
}

static json_t *
args(const char *text)
{
	json_t *o = wr_json_parse(text, strlen(text), &err);

	if (!o)
		fail_msg("%s: %s", text, err.msg);
	return o;
}

/* Arguments of a restore to the project's user. */
static json_t *
restore_args(const char *text)
{
	json_t *o = args(text);

	wr_json_u64(o, "uid", own(UID_A));
	wr_json_u64(o, "gid", as_root ? UID_A : getegid());
	return o;
}

static void
put(const char *text)
{
	json_decref(ok(WR_TASK_SAVE, args(text)));
}

static int
setup(void **state)
{
	(void)state;
	umask(022);
	as_root = geteuid() == 0;
	err = (struct wr_err)WR_ERR_INIT;
	root = test_root_new();
	node = test_node_new(&root);
	new_project("11111111-1111-4111-8111-111111111111", UID_A, &a, tree_a);
	new_project("22222222-2222-4222-8222-222222222222", UID_B, &b, tree_b);
	json_decref(ok(WR_TASK_INIT_REPO, args("{\"split_bits\":16}")));
	sh("cd %s && mkdir docs && echo one >docs/one && echo two >two && ln -s two link &&"
	   " echo h >.hidden && find . -exec touch -h -d 2001-01-01 {} + && if [ $(id -u) = 0 ]; "
	   "then chown -hR %u:%u .; fi",
	   tree_a, UID_A, UID_A);
	sh("cd %s && mkdir d && echo '%s' >secret && echo '%s' >d/secret &&"
	   " if [ $(id -u) = 0 ]; then chown -hR %u:%u .; fi",
	   tree_b, SECRET, SECRET, UID_B, UID_B);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	wr_place_of_fini(&a);
	wr_place_of_fini(&b);
	wr_node_close(node);
	test_root_free(&root);
	return 0;
}

/* What a file of the tree holds. */
static void
assert_content(const char *name, const char *want)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf buf = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", tree_a, name);

	assert_ok(wr_read_file(AT_FDCWD, path, 1 << 20, &buf, &err), &err);
	assert_string_equal(wr_buf_str(&buf), want);
}

static void
assert_sound(struct wr_place_of *p)
{
	struct wr_verify_opts vo = {.data = true, .threads = 1};
	struct wr_verify_result v = {0};
	WR_SCOPED(wr_freep) char *path = wr_repo_path_of(p);
	struct wr_repo *r;

	assert_ok(wr_repo_open(path, &r, &err), &err);
	assert_ok(wr_verify(r, &vo, &v, &err), &err);
	assert_true(wr_verify_whole(&v));
	wr_verify_result_fini(&v);
	wr_repo_close(r);
}

static const char *
str(const json_t *o, const char *key)
{
	const char *s = wr_json_get_str(o, key, NULL);

	if (!s)
		fail_msg("no member '%s'", key);
	return s;
}

/* ---- engine tasks ---- */

static void
test_save__and_inspect(void **state)
{
	json_t *r = ok(WR_TASK_INSPECT, args("{}")), *s;
	char first[41];

	(void)state;
	assert_true(json_is_null(json_object_get(r, "tip")));
	json_decref(r);
	sh("ln -s /nowhere %s/.snapshots", tree_a);
	s = ok(WR_TASK_SAVE, args("{\"op\":\"33333333-3333-4333-8333-333333333333\","
				  "\"exclude\":[\"/.snapshots\"],\"tag\":\"before-x\","
				  "\"message\":\"said\\n\\nWarren-Op: 666\"}"));
	assert_true(wr_json_get_bool(s, "made", false));
	assert_string_equal(str(s, "tag"), "before-x");
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(s, "files"), "total", 0), 4);
	snprintf(first, sizeof(first), "%s", str(s, "commit"));
	json_decref(s);
	r = ok(WR_TASK_INSPECT, args("{}"));
	assert_string_equal(str(r, "tip"), first);
	assert_string_equal(str(r, "op"), "33333333-3333-4333-8333-333333333333");
	assert_true(json_is_null(json_object_get(r, "parent")));
	assert_int_equal(wr_json_get_u64(r, "snapshots", 0), 1);
	assert_true(wr_json_get_u64(r, "repo_bytes", 0) > 0);
	json_decref(r);
	/* The stat cache is of the tree's path: nothing is read again. */
	s = ok(WR_TASK_SAVE, args("{\"exclude\":[\"/.snapshots\"]}"));
	assert_false(wr_json_get_bool(s, "made", true));
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(s, "bytes"), "read", 1), 0);
	json_decref(s);
	sh("echo three >%s/three", tree_a);
	put("{\"exclude\":[\"/.snapshots\"]}");
	{
		json_t *in = json_object();

		wr_json_str(in, "base", first);
		r = ok(WR_TASK_INSPECT, in);
	}
	assert_string_equal(str(r, "parent"), first);
	assert_true(wr_json_get_bool(r, "base_known", false));
	assert_true(wr_json_get_bool(r, "base_is_ancestor", false));
	assert_int_equal(wr_json_get_u64(r, "snapshots", 0), 2);
	json_decref(r);
	/* A branch of its own, without a parent. */
	json_decref(ok(WR_TASK_SALVAGE, args("{\"branch\":\"conflict-1.2-aaaa\"}")));
	r = ok(WR_TASK_INSPECT, args("{\"branch\":\"conflict-1.2-aaaa\"}"));
	assert_int_equal(wr_json_get_u64(r, "snapshots", 0), 1);
	json_decref(r);
	/* Again, as after a kill: what is there already is not stored twice. */
	r = ok(WR_TASK_SALVAGE, args("{\"branch\":\"conflict-1.2-aaaa\"}"));
	assert_false(wr_json_get_bool(r, "made", true));
	json_decref(r);
	fails(WR_TASK_SALVAGE, args("{}"), WR_E_INVALID);
	assert_sound(&a);
}

/* ---- proofs ---- */

#define NONCE "AAECAwQFBgcICQoLDA0ODw=="

static json_t *
question(const char *nonce, const json_t *challenge)
{
	json_t *q = json_object();

	wr_json_str(q, "nonce_b64", nonce);
	json_object_set(q, "ids", json_object_get(challenge, "ids"));
	json_object_set(q, "tips", json_object_get(challenge, "tips"));
	return q;
}

static bool
proves(const char *nonce, const json_t *challenge)
{
	json_t *r = ok(WR_TASK_PROVE, question(nonce, challenge));
	bool same = !strcmp(str(r, "digest_b64"), str(challenge, "digest_b64"));

	json_decref(r);
	return same;
}

static void
test_prove__what_refs_reach_now(void **state)
{
	json_t *c, *q, *none;
	char *path = wr_repo_path_of(&a);
	char old[41];

	(void)state;
	/* Nothing at all can be asked about, too. */
	c = ok(WR_TASK_PROVE, args("{\"nonce_b64\":\"" NONCE "\",\"pick\":16}"));
	assert_int_equal(json_array_size(json_object_get(c, "tips")), 0);
	assert_int_equal(json_array_size(json_object_get(c, "ids")), 0);
	assert_true(proves(NONCE, c));
	json_decref(c);
	put("{}");
	sh("seq 3000 >%s/more", tree_a);
	put("{}");
	c = ok(WR_TASK_PROVE, args("{\"nonce_b64\":\"" NONCE "\",\"pick\":16}"));
	/* The branch, and refs/warren/latest beside it: one tip. */
	assert_int_equal(json_array_size(json_object_get(c, "tips")), 1);
	assert_in_range(json_array_size(json_object_get(c, "ids")), 3, 16);
	assert_true(proves(NONCE, c));
	/* The answer is to this challenge alone. */
	assert_false(proves("AAECAwQFBgcICQoLDA0OEA==", c));
	snprintf(old, sizeof(old), "%s",
		 json_string_value(json_array_get(json_object_get(c, "tips"), 0)));
	/* An ancestor of a ref is held, something that no ref reaches is not. */
	sh("echo yet >%s/yet", tree_a);
	put("{}");
	assert_true(proves(NONCE, c));
	q = question(NONCE, c);
	json_array_append_new(json_object_get(q, "tips"),
			      json_string("00000000000000000000000000000000000000aa"));
	fails(WR_TASK_PROVE, q, WR_E_NOT_FOUND);
	json_array_remove(json_object_get(c, "tips"),
			  json_array_size(json_object_get(c, "tips")) - 1);
	/* The asker's list of tips moves with its refs; pick 0 looks at nothing else. */
	none = ok(WR_TASK_PROVE, args("{\"nonce_b64\":\"" NONCE "\",\"pick\":0}"));
	assert_int_equal(json_array_size(json_object_get(none, "tips")), 1);
	assert_string_not_equal(json_string_value(json_array_get(json_object_get(none, "tips"), 0)),
				old);
	json_decref(none);
	fails(WR_TASK_PROVE, args("{\"pick\":1}"), WR_E_INVALID);
	fails(WR_TASK_PROVE, args("{\"nonce_b64\":\"" NONCE "\",\"pick\":65}"), WR_E_LIMIT);
	/* Damaged bytes prove nothing. */
	sh("for p in %s/objects/pack/*.pack; do chmod u+w $p; "
	   "head -c 60 $p >$p.x && cat $p.x >$p && rm $p.x; done",
	   path);
	free(path);
	q = question(NONCE, c);
	assert_int_equal(task_of(&a, WR_TASK_PROVE, q, -1, -1, &none), -1);
	json_decref(c);
}

static void
test_restore__in_place_beside_whole(void **state)
{
	struct stat st;
	json_t *r;

	(void)state;
	put("{}");
	sh("cd %s && echo changed >two && rm docs/one && echo extra >extra", tree_a);
	/* Beside, for something is there. */
	r = ok(WR_TASK_RESTORE,
	       restore_args("{\"snap\":\"main/latest\",\"path\":\"two\",\"beside\":true}"));
	assert_non_null(strstr(str(r, "dest"), "two.from-"));
	assert_content(str(r, "dest"), "two\n");
	assert_content("two", "changed\n");
	sh("rm %s/two.from-*", tree_a);
	json_decref(r);
	/* At its place, for nothing is there. */
	r = ok(WR_TASK_RESTORE,
	       restore_args("{\"snap\":\"main/latest\",\"path\":\"docs/one\",\"beside\":true}"));
	assert_string_equal(str(r, "dest"), "docs/one");
	assert_content("docs/one", "one\n");
	json_decref(r);
	/* To another place that is not there yet, given as base64. */
	r = ok(WR_TASK_RESTORE, restore_args("{\"snap\":\"main/latest\",\"path\":\"docs\","
					     "\"dest_b64\":\"bmV3L/8=\"}"));
	assert_content("new/\xff/one", "one\n");
	sh("test $(stat -c %%u %s/new) = %u && rm -r %s/new", tree_a, own(UID_A), tree_a);
	json_decref(r);
	/* A dry run changes nothing. */
	r = ok(WR_TASK_RESTORE,
	       restore_args("{\"snap\":\"main/latest\",\"delete_extra\":true,\"dry_run\":true}"));
	assert_int_equal(wr_json_get_u64(r, "deleted", 0), 1);
	assert_content("two", "changed\n");
	json_decref(r);
	r = ok(WR_TASK_RESTORE,
	       restore_args("{\"snap\":\"main/latest\",\"dest\":\"nope\",\"dry_run\":true}"));
	assert_true(wr_json_get_u64(r, "created", 0) > 3);
	json_decref(r);
	/* The whole, guarded: what came after the snapshot stays. */
	r = ok(WR_TASK_SAVE, args("{\"tag\":\"before-y\"}"));
	sh("echo later >%s/later", tree_a);
	{
		json_t *in = restore_args("{\"snap\":\"main/latest\",\"delete_extra\":true}");

		wr_json_str(in, "snap", "main/1h");
		json_object_del(in, "snap");
		wr_json_str(in, "guard", str(r, "commit"));
		json_decref(r);
		r = ok(WR_TASK_INSPECT, args("{}"));
		wr_json_str(in, "snap", str(r, "parent"));
		json_decref(r);
		r = ok(WR_TASK_RESTORE, in);
	}
	assert_content("two", "two\n");
	assert_content("later", "later\n");
	assert_int_equal(wr_json_get_u64(r, "deleted", 0), 1);
	assert_int_equal(json_array_size(wr_json_get_arr(r, "skipped")), 1);
	json_decref(r);
	sh("rm %s/later", tree_a);
	put("{}");
	/* Exact, its stat cache is the tree's: the next save reads nothing. */
	sh("cd %s && echo changed >two && echo extra >extra", tree_a);
	json_decref(
	    ok(WR_TASK_RESTORE, restore_args("{\"snap\":\"main/latest\",\"delete_extra\":true}")));
	r = ok(WR_TASK_SAVE, args("{}"));
	assert_false(wr_json_get_bool(r, "made", true));
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(r, "bytes"), "read", 1), 0);
	json_decref(r);
	snprintf(err.msg, sizeof(err.msg), "%s/two", tree_a);
	assert_int_equal(stat(err.msg, &st), 0);
	assert_int_equal(st.st_uid, own(UID_A));
	fails(WR_TASK_RESTORE, restore_args("{\"snap\":\"main/latest\",\"path\":\"none\"}"),
	      WR_E_NOT_FOUND);
	fails(WR_TASK_RESTORE, restore_args("{\"snap\":\"main/latest\",\"dest\":\"../x\"}"),
	      WR_E_INVALID);
	assert_sound(&a);
}

static void
test_import__belongs_to_its_user(void **state)
{
	WR_SCOPED(wr_freep) char *src = wr_asprintf("%s/src", root.dir);
	WR_SCOPED(wr_closep) int fd = -1;
	WR_SCOPED(wr_closep) int none = -1;
	json_t *r = NULL;

	(void)state;
	sh("mkdir -p %s/sub && cd %s && echo x >sub/x && ln -s x sub/l && ln sub/x sub/hard &&"
	   " echo s >suid && chmod 4755 suid && mkfifo pipe &&"
	   " if [ $(id -u) = 0 ]; then mknod dev c 1 3; fi",
	   src, src);
	sh("rm -rf %s/* %s/.h*", tree_a, tree_a);
	fd = open(src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	{
		json_t *in = restore_args("{\"op\":\"33333333-3333-4333-8333-333333333333\"}");

		if (task_of(&a, WR_TASK_IMPORT, in, fd, -1, &r) < 0)
			fail_msg("%s", err.msg);
	}
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(r, "imported"), "files", 0),
			 as_root ? 6 : 5);
	/* The device, which is no user's. */
	assert_int_equal(json_array_size(wr_json_get_arr(r, "skipped")), as_root);
	json_decref(r);
	sh("cd %s && test -z \"$(find . ! -uid %u)\" && cmp sub/x %s/sub/x && test ! -e dev &&"
	   " test \"$(readlink sub/l)\" = x && test -p pipe && test $(stat -c %%h sub/x) = 2 &&"
	   " test $(stat -c %%a .) = 700",
	   tree_a, own(UID_A), src);
	if (as_root)
		sh("test ! -u %s/suid", tree_a);
	r = ok(WR_TASK_SAVE, args("{}"));
	assert_false(wr_json_get_bool(r, "made", true));
	json_decref(r);
	assert_sound(&a);
	(void)none;
}

static void
test_adopt__a_repository_of_bup(void **state)
{
	WR_SCOPED(wr_freep) char *src = wr_asprintf("%s/bup", root.dir);
	WR_SCOPED(wr_closep) int fd = -1;
	json_t *r = NULL;

	(void)state;
	if (run_sh("command -v bup >/dev/null") != 0)
		skip();
	sh("export BUP_DIR=%s HOME=%s; bup init 2>/dev/null && bup index %s 2>/dev/null &&"
	   " bup save -q --strip -n main %s && echo more >%s/docs/more &&"
	   " bup index %s 2>/dev/null && bup save -q --strip -n main %s &&"
	   " git --git-dir=%s tag good main && git --git-dir=%s config core.fsmonitor /bin/evil",
	   src, root.dir, tree_a, tree_a, tree_a, tree_a, tree_a, src, src);
	sh("rm -rf %s/repos/%s/*", node->volume[0].path, a.id.s);
	fd = open(src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (task_of(&a, WR_TASK_ADOPT, args("{}"), fd, -1, &r) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(wr_json_get_u64(r, "refs", 0), 2);
	json_decref(r);
	r = ok(WR_TASK_INSPECT, args("{}"));
	assert_int_equal(wr_json_get_u64(r, "snapshots", 0), 2);
	json_decref(r);
	sh("! grep -r evil %s/repos/%s/config", node->volume[0].path, a.id.s);
	sh("rm -rf %s/*", tree_a);
	json_decref(ok(WR_TASK_RESTORE, restore_args("{\"snap\":\"main/latest\"}")));
	assert_content("docs/more", "more\n");
	put("{}");
	assert_sound(&a);
	/* A damaged one is not taken. */
	sh("p=$(ls %s/objects/pack/*.pack | head -n 1); chmod u+w $p; printf xxxx |"
	   " dd of=$p bs=1 seek=60 conv=notrunc 2>/dev/null; rm -rf %s/repos/%s/*",
	   src, node->volume[0].path, a.id.s);
	assert_int_equal(task_of(&a, WR_TASK_ADOPT, args("{}"), fd, -1, &r), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
}

static void
test_tag__set_expire(void **state)
{
	json_t *s, *r, *in = json_object();

	(void)state;
	s = ok(WR_TASK_SAVE, args("{\"tag\":\"before-1a2b3c4d\"}"));
	/* A user's own, which nothing expires. */
	json_decref(ok(WR_TASK_SAVE, args("{\"tag\":\"before-upgrade\"}")));
	wr_json_str(in, "name", "before-2");
	wr_json_str(in, "commit", str(s, "commit"));
	json_decref(ok(WR_TASK_TAG, json_incref(in)));
	json_decref(ok(WR_TASK_TAG, in)); /* again: nothing */
	fails(WR_TASK_TAG, args("{\"name\":\"a/b\",\"commit\":\"x\"}"), WR_E_INVALID);
	r = ok(WR_TASK_TAG, args("{\"name\":\"before-2\",\"delete\":true}"));
	assert_int_equal(json_array_size(wr_json_get_arr(r, "dropped")), 1);
	json_decref(r);
	r = ok(WR_TASK_TAG, args("{\"expire_before\":1000,\"prefix\":\"before-\"}"));
	assert_int_equal(json_array_size(wr_json_get_arr(r, "dropped")), 0);
	json_decref(r);
	r = ok(WR_TASK_TAG, args("{\"expire_before\":99999999999,\"prefix\":\"before-\"}"));
	assert_int_equal(json_array_size(wr_json_get_arr(r, "dropped")), 1);
	json_decref(r);
	json_decref(s);
}

static void
test_copy__from_another_project(void **state)
{
	WR_SCOPED(wr_closep) int fd = -1;
	json_t *r = NULL;

	(void)state;
	assert_ok(task_of(&b, WR_TASK_INIT_REPO, args("{}"), -1, -1, NULL), &err);
	assert_ok(task_of(&b, WR_TASK_SAVE, args("{}"), -1, -1, NULL), &err);
	fd = wr_repo_dir_open(&b, &err);
	if (task_of(&a, WR_TASK_RESTORE,
		    restore_args("{\"snap\":\"main/latest\",\"path\":\"d\",\"dest\":\"got\"}"), fd,
		    -1, &r) < 0)
		fail_msg("%s", err.msg);
	json_decref(r);
	assert_content("got/secret", SECRET "\n");
	sh("test -z \"$(find %s/got ! -uid %u)\"", tree_a, own(UID_A));
}

/* ---- user tasks ---- */

/* Run with standard output into a file; its text. */
static int
to_text(enum wr_task_kind kind, json_t *in, struct wr_buf *out, json_t **res)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/out", root.dir);
	WR_SCOPED(wr_closep) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = task_of(&a, kind, in, -1, fd, res);

	wr_buf_clear(out);
	assert_ok(wr_read_file(AT_FDCWD, path, 64 << 20, out, &err), &err);
	(void)wr_buf_str(out);
	return rc;
}

static json_t *
files(const char *text)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	json_t *o;

	if (to_text(WR_TASK_FILES, args(text), &out, NULL) < 0)
		fail_msg("%s", err.msg);
	o = wr_json_parse(out.p, out.len, &err);
	assert_non_null(o);
	return o;
}

static const char *
name_of(const json_t *o, size_t i)
{
	return str(json_array_get(wr_json_get_arr(o, "files"), i), "name");
}

static void
test_files__order_and_part(void **state)
{
	json_t *o = files("{}");

	(void)state;
	assert_int_equal(wr_json_get_u64(o, "total", 0), 3);
	assert_string_equal(name_of(o, 0), "docs");
	assert_string_equal(name_of(o, 2), "two");
	json_decref(o);
	o = files("{\"hidden\":true,\"start\":1,\"limit\":2}");
	assert_int_equal(wr_json_get_u64(o, "total", 0), 4);
	assert_int_equal(json_array_size(wr_json_get_arr(o, "files")), 2);
	assert_string_equal(name_of(o, 0), "docs");
	assert_true(wr_json_get_bool(o, "more", false));
	json_decref(o);
	sh("cd %s && touch -d 2001-01-01 two && touch -h -d 2002-01-01 link &&"
	   " touch -d 2003-01-01 docs && head -c 9999 /dev/zero >docs/big",
	   tree_a);
	sh("touch -d 2003-01-01 %s/docs", tree_a);
	o = files("{\"sort\":\"time\"}");
	assert_string_equal(name_of(o, 0), "docs");
	assert_string_equal(name_of(o, 2), "two");
	json_decref(o);
	o = files("{\"sort\":\"time\",\"reverse\":true}");
	assert_string_equal(name_of(o, 0), "two");
	json_decref(o);
	o = files("{\"sort\":\"size\",\"path\":\"docs\",\"start\":9}");
	assert_int_equal(json_array_size(wr_json_get_arr(o, "files")), 0);
	json_decref(o);
	o = files("{\"sort\":\"size\",\"path\":\"docs\"}");
	assert_string_equal(name_of(o, 0), "big");
	json_decref(o);
	fails(WR_TASK_FILES, args("{\"path\":\"docs/../..\"}"), WR_E_INVALID);
	fails(WR_TASK_FILES, args("{\"path\":\"none\"}"), WR_E_NOT_FOUND);
	fails(WR_TASK_FILES, args("{\"sort\":\"colour\"}"), WR_E_INVALID);
}

static void
test_read__raw_tar_zip(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	const char *dir = root.dir;
	json_t *r = NULL;

	(void)state;
	assert_ok(to_text(WR_TASK_READ, args("{\"path\":\"docs/one\"}"), &out, &r), &err);
	assert_string_equal((char *)out.p, "one\n");
	assert_int_equal(wr_json_get_u64(r, "bytes", 0), 4);
	json_decref(r);
	sh("cd %s/docs && head -c 300000 /dev/urandom >big && ln -s one sym && mkfifo pipe &&"
	   " mkdir -p deep/er && echo z >deep/er/z && touch \"$(printf 'b\\377d')\" ünï &&"
	   " if [ $(id -u) = 0 ]; then chown -hR %u:%u .; fi",
	   tree_a, UID_A, UID_A);
	r = NULL;
	assert_ok(to_text(WR_TASK_READ, args("{\"path\":\"docs\",\"format\":\"tar\"}"), &out, &r),
		  &err);
	assert_int_equal(json_array_size(wr_json_get_arr(r, "skipped")), 1);
	json_decref(r);
	sh("cd %s && mkdir t && tar -xf out -C t && rm -f t/docs/pipe && rm %s/docs/pipe &&"
	   " diff -r --no-dereference t/docs %s/docs && rm -r t",
	   dir, tree_a, tree_a);
	r = NULL;
	assert_ok(to_text(WR_TASK_READ, args("{\"path\":\"docs\",\"format\":\"zip\"}"), &out, &r),
		  &err);
	json_decref(r);
	sh("cd %s && python3 -c 'import zipfile; z = zipfile.ZipFile(\"out\"); z.testzip();"
	   " n = z.namelist(); assert \"docs/deep/er/z\" in n, n; assert \"docs/ünï\" in n, n;"
	   " assert z.read(\"docs/one\") == b\"one\\n\"; assert len(z.read(\"docs/big\")) == "
	   "300000'",
	   dir);
	/* The whole home, without a name of its own. */
	assert_ok(to_text(WR_TASK_READ, args("{\"path\":\"\",\"format\":\"tar\"}"), &out, NULL),
		  &err);
	sh("cd %s && tar -tf out | grep -qx docs/one", dir);
	/* One file as an archive. */
	assert_ok(to_text(WR_TASK_READ, args("{\"path\":\"two\",\"format\":\"tar\"}"), &out, NULL),
		  &err);
	sh("cd %s && test \"$(tar -xOf out two)\" = two", dir);
	/* Limits, before the first byte. */
	assert_int_equal(to_text(WR_TASK_READ,
				 args("{\"path\":\"docs\",\"format\":\"zip\","
				      "\"max_size\":1000}"),
				 &out, NULL),
			 -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	assert_int_equal(out.len, 0);
	assert_int_equal(
	    to_text(WR_TASK_READ, args("{\"path\":\"docs/big\",\"max_size\":1000}"), &out, NULL),
	    -1);
	assert_int_equal(out.len, 0);
	fails(WR_TASK_READ, args("{\"path\":\"docs\"}"), WR_E_INVALID);
	fails(WR_TASK_READ, args("{\"path\":\"link\"}"), WR_E_DENIED);
	fails(WR_TASK_READ, args("{\"path\":\"two\",\"format\":\"rar\"}"), WR_E_INVALID);
}

static void
test_small__skel_link_mkdir_hook(void **state)
{
	WR_SCOPED(wr_freep) char *skel = wr_asprintf("%s/skel", root.dir);
	WR_SCOPED(wr_freep) char *hook = wr_asprintf("%s/hook", root.dir);
	json_t *in, *r;

	(void)state;
	sh("mkdir -p %s/docs %s/new && cd %s && echo S >docs/one && echo S >docs/three &&"
	   " ln -s three docs/l && echo p >new/p && chmod 755 new/p && mkdir link && echo q "
	   ">link/q",
	   skel, skel, skel);
	in = json_object();
	wr_json_str(in, "template", skel);
	r = ok(WR_TASK_SKEL, json_incref(in));
	assert_int_equal(wr_json_get_u64(r, "copied", 0), 4);
	/* "link" is a link in the home: not followed, and said. */
	assert_int_equal(json_array_size(wr_json_get_arr(r, "skipped")), 1);
	json_decref(r);
	assert_content("docs/one", "one\n");
	assert_content("docs/three", "S\n");
	assert_content("new/p", "p\n");
	r = ok(WR_TASK_SKEL, in);
	assert_int_equal(wr_json_get_u64(r, "copied", 1), 0);
	json_decref(r);
	r = ok(WR_TASK_LINK, args("{\"name\":\".snapshots\",\"target\":\"/run/x\"}"));
	assert_true(wr_json_get_bool(r, "made", false));
	json_decref(r);
	r = ok(WR_TASK_LINK, args("{\"name\":\"two\",\"target\":\"/run/x\"}"));
	assert_false(wr_json_get_bool(r, "made", true));
	json_decref(r);
	fails(WR_TASK_LINK, args("{\"name\":\"a/b\",\"target\":\"x\"}"), WR_E_INVALID);
	json_decref(ok(WR_TASK_MKDIR, args("{\"path\":\"x/y//z\"}")));
	r = ok(WR_TASK_MKDIR, args("{\"path\":\"x/y/z\"}"));
	assert_true(wr_json_get_bool(r, "existed", false));
	json_decref(r);
	fails(WR_TASK_MKDIR, args("{\"path\":\"two/z\"}"), WR_E_EXISTS);
	sh("test -z \"$(find %s ! -uid %u)\"", tree_a, own(UID_A));
	/* Hooks: environment, place, status, time. */
	sh("printf '#!/bin/sh\\necho \"$X $(id -u)\" >hooked; exit $STATUS\\n' >%s && chmod 755 %s",
	   hook, hook);
	in = args("{\"env\":[\"X=7\",\"STATUS=0\",\"PATH=/usr/bin:/bin\"],\"timeout\":20}");
	wr_json_str(in, "program", hook);
	json_decref(ok(WR_TASK_HOOK, in));
	snprintf(err.msg, sizeof(err.msg), "7 %u\n", own(UID_A));
	assert_content("hooked", err.msg);
	in = args("{\"env\":[\"STATUS=9\",\"PATH=/usr/bin:/bin\"],\"timeout\":20}");
	wr_json_str(in, "program", hook);
	fails(WR_TASK_HOOK, in, WR_E_FAILED);
	assert_non_null(strstr(err.msg, "status 9"));
	sh("printf '#!/bin/sh\\nsleep 100\\n' >%s", hook);
	in = args("{\"env\":[\"PATH=/usr/bin:/bin\"],\"timeout\":1}");
	wr_json_str(in, "program", hook);
	fails(WR_TASK_HOOK, in, WR_E_FAILED);
	assert_non_null(strstr(err.msg, "longer than"));
}

static void
test_chown__foreign_links_stay(void **state)
{
	WR_SCOPED(wr_freep) char *foreign = wr_asprintf("%s/foreign", root.dir);
	struct stat st;
	json_t *r;

	(void)state;
	if (!as_root)
		skip();
	sh("cd %s && chown -hR 12345:12345 . && echo f >%s && ln %s stolen && ln docs/one own &&"
	   " chown 12345:12345 docs/one && chmod 4755 two && mkdir locked && chmod 0 locked",
	   tree_a, foreign, foreign);
	r = ok(WR_TASK_CHOWN, args("{\"uid\":700001,\"gid\":700001,\"from_uid\":12345}"));
	assert_int_equal(json_array_size(wr_json_get_arr(r, "left")), 1);
	assert_string_equal(str(json_array_get(wr_json_get_arr(r, "left"), 0), "path"), "stolen");
	json_decref(r);
	assert_int_equal(stat(foreign, &st), 0);
	assert_int_equal(st.st_uid, 0);
	sh("cd %s && test \"$(find . ! -uid %u)\" = ./stolen && test -u two", tree_a, UID_A);
	r = ok(WR_TASK_CHOWN, args("{\"uid\":700001,\"gid\":700001}"));
	assert_int_equal(wr_json_get_u64(r, "changed", 1), 0);
	json_decref(r);
}

static void
test_remove__whatever_is_in_it(void **state)
{
	WR_SCOPED(wr_freep) char *trash = wr_asprintf("%s/trash", root.dir);
	struct wr_task t = WR_TASK_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	json_t *r = NULL;
	int at;

	(void)state;
	sh("mkdir -p %s/x/locked && cd %s/x && echo y >locked/y && ln -s / up && chmod 0 locked &&"
	   " if [ $(id -u) = 0 ]; then chown %u . locked; chattr +i locked/y 2>/dev/null; fi; true",
	   trash, trash, UID_B);
	fd = open(trash, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Deeper than a path can name, or descriptors reach. */
	at = openat(fd, "x", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 6000; i++) {
		int down;

		assert_int_equal(mkdirat(at, "d", 0700), 0);
		down = openat(at, "d", O_RDONLY | O_DIRECTORY);
		assert_true(down >= 0);
		close(at);
		at = down;
	}
	close(at);
	t.kind = WR_TASK_REMOVE;
	t.args = args("{\"name\":\"x\"}");
	t.source_fd = fd;
	if (wr_task_run(&t, &r, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(wr_json_get_u64(r, "files", 0) >= 6003);
	assert_int_equal(faccessat(fd, "x", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	json_decref(r);
	json_decref(t.args);
}

static void
test_view__as_the_nodes_user(void **state)
{
	const char *const argv[] = {"ls", "main/latest", NULL};
	pid_t pid;
	int status, p[2];
	char text[256];
	ssize_t n;

	(void)state;
	put("{}");
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_ok(wr_view_begin(&a, argv, true, false, p[1], STDERR_FILENO, &pid, &err), &err);
	close(p[1]);
	n = wr_read_full(p[0], text, sizeof(text) - 1);
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	text[WR_MAX(n, 0)] = '\0';
	snprintf(err.msg, sizeof(err.msg), "repo ls -r /proc/self/fd/3 --json main/latest uid %u\n",
		 own(UID_NODE));
	assert_string_equal(text, err.msg);
}

/* ---- progress, cancelling, dying ---- */

static unsigned progress_lines;
static volatile int cancel;

static void
on_progress(void *ctx, const char *step, uint64_t files_done, uint64_t files_total, uint64_t bytes,
	    uint64_t bytes_total)
{
	(void)ctx, (void)step, (void)files_done, (void)files_total, (void)bytes, (void)bytes_total;
	progress_lines++;
	cancel = 1;
}

static void
many_files(void)
{
	sh("cd %s && mkdir many && cd many && for i in $(seq 300); do head -c 200000 /dev/urandom"
	   " >$i; done; if [ $(id -u) = 0 ]; then chown -R %u:%u .; fi",
	   tree_a, UID_A, UID_A);
}

static void
test_cancel__ends_the_worker(void **state)
{
	struct wr_task t = WR_TASK_INIT;

	(void)state;
	many_files();
	cancel = 0;
	t.kind = WR_TASK_SAVE;
	t.place = &a;
	t.uid = own(UID_A);
	t.gid = as_root ? UID_A : getegid();
	t.args = args("{}");
	t.progress = on_progress;
	t.cancel = &cancel;
	assert_int_equal(wr_task_run(&t, NULL, &err), -1);
	assert_int_equal(err.code, WR_E_CANCELLED);
	json_decref(t.args);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
	put("{}");
	assert_sound(&a);
}

static void
test_starter__takes_the_worker_along(void **state)
{
	uint64_t end = wr_clock_mono_ns() + DEADLINE_NS;
	struct wr_proc_id id;
	pid_t starter, worker = 0;
	int p[2];

	(void)state;
	many_files();
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	starter = fork();
	if (starter == 0) {
		struct wr_task t = WR_TASK_INIT;
		int fd;

		t.kind = WR_TASK_SAVE;
		t.place = &a;
		t.uid = own(UID_A);
		t.gid = as_root ? UID_A : getegid();
		t.args = json_object();
		if (wr_task_begin(&t, &worker, &fd, &err) < 0 ||
		    wr_write_all(p[1], &worker, sizeof(worker)) < 0)
			_exit(1);
		pause();
		_exit(0);
	}
	assert_int_equal(wr_read_full(p[0], &worker, sizeof(worker)), sizeof(worker));
	assert_ok(wr_proc_id_of(worker, &id, &err), &err);
	kill(starter, SIGKILL);
	assert_int_equal(waitpid(starter, NULL, 0), starter);
	while (wr_proc_alive(&id) && wr_clock_mono_ns() < end)
		poll(NULL, 0, 5);
	assert_false(wr_proc_alive(&id));
	close(p[0]);
	close(p[1]);
	put("{}");
	assert_sound(&a);
}

static void
test_end__what_workers_may_say(void **state)
{
	static const char good[] = "{\"progress\":{}}\n{\"result\":{\"x\":1}}\n";
	static const char bad[] = "{\"error\":{\"code\":\"busy\",\"message\":\"m\"}}\n";
	static const char *const none[] = {
	    "", "{\"result\":{}}", "[1]\n", "{\"result\":3}\n", "{\"result\":{}}\nx\n", "\n"};
	json_t *r = NULL;

	(void)state;
	assert_int_equal(wr_task_end(good, strlen(good), 0, &r, &err), 0);
	assert_int_equal(wr_json_get_u64(r, "x", 0), 1);
	json_decref(r);
	assert_int_equal(wr_task_end(bad, strlen(bad), 256, &r, &err), -1);
	assert_int_equal(err.code, WR_E_BUSY);
	for (size_t i = 0; i < WR_ARRAY_LEN(none); i++) {
		assert_int_equal(wr_task_end(none[i], strlen(none[i]), SIGKILL, &r, &err), -1);
		assert_int_equal(err.code, WR_E_FAILED);
		assert_non_null(strstr(err.msg, "signal 9"));
	}
}

/* ---- escapes, tried as the project's own user ---- */

static uint64_t print_sum;

static void
mix(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		print_sum = (print_sum ^ ((const uint8_t *)p)[i]) * UINT64_C(1099511628211);
}

static int
print_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const uint64_t v[] = {st->st_mode,
			      st->st_uid,
			      st->st_gid,
			      (uint64_t)st->st_size,
			      (uint64_t)st->st_mtim.tv_sec,
			      (uint64_t)st->st_mtim.tv_nsec,
			      (uint64_t)st->st_ctim.tv_sec,
			      (uint64_t)st->st_ctim.tv_nsec,
			      st->st_nlink};

	(void)type, (void)ftw;
	mix(path, strlen(path));
	mix(v, sizeof(v));
	return 0;
}

/* All that writing, owning or linking would change. */
static uint64_t
fingerprint(const char *dir)
{
	print_sum = UINT64_C(14695981039346656037);
	assert_int_equal(nftw(dir, print_one, 50, FTW_PHYS), 0);
	return print_sum;
}

static char outside[256]; /* like /etc: root's, readable */

static void
make_outside(void)
{
	snprintf(outside, sizeof(outside), "%s/outside", root.dir);
	sh("mkdir -p %s/d && cd %s && echo '%s' >secret && echo '%s' >d/secret && echo x >two &&"
	   " chmod 666 two",
	   outside, outside, SECRET, SECRET);
}

static void
test_escape__links_dots_mounts(void **state)
{
	static const char *const paths[] = {"abs/secret", "rel/secret",  "mid/d/secret", "end",
					    "abs",        "docs/rel2/x", "mnt/secret",   "mnt/d"};
	WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
	uint64_t before_out, before_b;
	bool mounted;
	json_t *in, *r;

	(void)state;
	make_outside();
	sh("cd %s && ln -s %s abs && ln -s ../../../outside rel && ln -s %s mid &&"
	   " ln -s %s/secret end && ln -s ../../ docs/rel2 && mkdir mnt &&"
	   " if [ $(id -u) = 0 ]; then chown -hR %u:%u .; fi",
	   tree_a, outside, outside, outside, UID_A, UID_A);
	put("{}");
	snprintf(err.msg, sizeof(err.msg), "%s/mnt", tree_a);
	mounted = as_root && mount(outside, err.msg, NULL, MS_BIND, NULL) == 0;
	before_out = fingerprint(outside);
	before_b = fingerprint(tree_b);
	for (size_t i = 0; i < WR_ARRAY_LEN(paths); i++) {
		bool is_mount = !strncmp(paths[i], "mnt", 3);

		if (is_mount && !mounted)
			continue;
		in = json_object();
		wr_json_str(in, "path", paths[i]);
		assert_int_equal(to_text(WR_TASK_READ, json_incref(in), &out, NULL), -1);
		assert_int_equal(out.len, 0);
		wr_json_str(in, "format", "tar");
		r = NULL;
		if (to_text(WR_TASK_READ, json_incref(in), &out, &r) == 0)
			assert_null(memmem(out.p, out.len, SECRET, strlen(SECRET)));
		json_decref(r);
		assert_int_equal(to_text(WR_TASK_FILES, json_incref(in), &out, NULL), -1);
		assert_int_equal(task_of(&a, WR_TASK_MKDIR, json_incref(in), -1, -1, NULL), -1);
		json_decref(in);
		in = restore_args("{\"snap\":\"main/latest\",\"path\":\"two\"}");
		wr_json_str(in, "dest", paths[i]);
		r = NULL;
		/* A link at the very end is replaced, which is the user's own. */
		(void)task_of(&a, WR_TASK_RESTORE, in, -1, -1, &r);
		json_decref(r);
		in = restore_args("{\"snap\":\"main/latest\",\"path\":\"docs\"}");
		wr_json_str(in, "dest", paths[i]);
		assert_int_equal(task_of(&a, WR_TASK_RESTORE, in, -1, -1, NULL), -1);
	}
	/* Everything at once, through and over all of that. */
	assert_ok(to_text(WR_TASK_READ, args("{\"path\":\"\",\"format\":\"tar\"}"), &out, NULL),
		  &err);
	assert_null(memmem(out.p, out.len, SECRET, strlen(SECRET)));
	r = ok(WR_TASK_SAVE, args("{}"));
	json_decref(r);
	json_decref(
	    ok(WR_TASK_RESTORE, restore_args("{\"snap\":\"main/latest\",\"delete_extra\":true,"
					     "\"overwrite\":\"always\"}")));
	in = args("{}");
	wr_json_u64(in, "uid", own(UID_A));
	wr_json_u64(in, "gid", as_root ? UID_A : getegid());
	r = ok(WR_TASK_CHOWN, in);
	if (mounted)
		assert_int_equal(json_array_size(wr_json_get_arr(r, "left")), 1);
	json_decref(r);
	in = json_object();
	wr_json_str(in, "template", outside);
	json_decref(ok(WR_TASK_SKEL, in));
	fails(WR_TASK_MKDIR, args("{\"path\":\"a/../../b\"}"), WR_E_INVALID);
	assert_true(fingerprint(outside) == before_out);
	assert_true(fingerprint(tree_b) == before_b);
	if (mounted) {
		snprintf(err.msg, sizeof(err.msg), "%s/mnt", tree_a);
		assert_int_equal(umount2(err.msg, MNT_DETACH), 0);
		/* In the snapshot the mount is an empty directory. */
		sh("rm -rf %s/mnt", tree_a);
		json_decref(ok(WR_TASK_RESTORE,
			       restore_args("{\"snap\":\"main/latest\",\"path\":\"mnt\"}")));
		sh("test -d %s/mnt && test -z \"$(ls -A %s/mnt)\"", tree_a, tree_a);
	}
}

static void
test_escape__hard_links(void **state)
{
	struct stat st;
	json_t *r;

	(void)state;
	if (!as_root)
		skip();
	make_outside();
	put("{}");
	/* As where fs.protected_hardlinks is off. */
	sh("cd %s && ln %s/secret mine && rm two && ln %s/two two && chown %u %s/two", tree_a,
	   outside, outside, UID_B, outside);
	r = ok(WR_TASK_SAVE, args("{}"));
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(r, "not_protected"), "count", 0), 2);
	json_decref(r);
	json_decref(ok(WR_TASK_RESTORE,
		       restore_args("{\"snap\":\"main/latest\",\"path\":\"\",\"dest\":\"copy\"}")));
	sh("! grep -rq '%s' %s/copy", SECRET, tree_a);
	r = ok(WR_TASK_INSPECT, args("{}"));
	{
		json_t *in = restore_args("{}");

		wr_json_str(in, "snap", str(r, "parent"));
		json_decref(ok(WR_TASK_RESTORE, in));
	}
	json_decref(r);
	assert_content("two", "two\n");
	snprintf(err.msg, sizeof(err.msg), "%s/two", outside);
	assert_int_equal(stat(err.msg, &st), 0);
	assert_int_equal(st.st_uid, UID_B);
	assert_int_equal(st.st_size, 2);
	assert_int_equal(st.st_nlink, 1);
}

/* The project's user: a process that swaps names as fast as it can, until it is ended. */
static pid_t
attack(void)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (chdir(tree_a) < 0)
		_exit(1);
	if (as_root && (setgid(UID_A) < 0 || setuid(UID_A) < 0))
		_exit(1);
	wr_proc_die_with_parent(0);
	for (unsigned i = 0;; i++) {
		(void)syscall(SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "to-b", 2u /* EXCHANGE */);
		(void)syscall(SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "to-out", 2u);
		if (!as_root)
			continue; /* it would be he himself who writes through the links */
		(void)syscall(SYS_renameat2, AT_FDCWD, "d/e", AT_FDCWD, "d/out", 2u);
		(void)syscall(SYS_renameat2, AT_FDCWD, "d/two", AT_FDCWD, "d/l", 2u);
		(void)unlink("d/two");
		if (link("rw", "d/two") < 0 || symlink("rw", "d/s.tmp") < 0)
			continue; /* others are at work here too */
		(void)rename("d/s.tmp", "d/sym");
	}
}

static void
race(enum wr_task_kind kind, const char *text, const char *source)
{
	for (int i = 0; i < RACES; i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf out = WR_BUF_INIT;
		WR_SCOPED(wr_closep) int fd = source ? open(source, O_RDONLY | O_DIRECTORY) : -1;
		json_t *in = restore_args(text), *r = NULL;

		if (kind == WR_TASK_READ || kind == WR_TASK_FILES) {
			(void)to_text(kind, in, &out, &r);
			assert_null(memmem(out.p, out.len, SECRET, strlen(SECRET)));
		} else {
			if (kind == WR_TASK_SKEL)
				wr_json_str(in, "template", source);
			(void)task_of(&a, kind, in, kind == WR_TASK_IMPORT ? fd : -1, -1, &r);
		}
		json_decref(r);
	}
}

/* No snapshot may hold what the user has no right to. */
static void
assert_no_secret(void)
{
	static const char *const paths[] = {"d/secret", "d/d/secret", "d/e/secret", "d/out/secret",
					    "d/e/d/secret"};
	WR_SCOPED(wr_freep) char *path = wr_repo_path_of(&a);
	struct wr_snaps s = {0};
	struct wr_reader *rd;
	struct wr_repo *r;

	assert_ok(wr_repo_open(path, &r, &err), &err);
	rd = wr_reader_new(r);
	assert_ok(wr_snaps_list(rd, NULL, &s, &err), &err);
	assert_true(s.count > 1);
	for (size_t i = 0; i < s.count; i++)
		for (size_t k = 0; k < WR_ARRAY_LEN(paths); k++) {
			struct wr_at at = WR_AT_INIT;

			assert_int_equal(
			    wr_at_find(rd, &s.snap[i].tree, paths[k], strlen(paths[k]), &at, NULL),
			    -1);
		}
	wr_snaps_fini(&s);
	wr_reader_free(rd);
	wr_repo_close(r);
}

static void
test_escape__rename_races(void **state)
{
	WR_SCOPED(wr_freep) char *source = wr_asprintf("%s/source", root.dir);
	uint64_t before_out, before_b;
	pid_t attacker;
	int status;

	(void)state;
	make_outside();
	/* rw: a foreign file that the user may write to, so he may link it. */
	sh("cd %s && mkdir -p d/e && echo m >d/mine && echo m >d/e/mine && echo 2 >d/two &&"
	   " ln -s two d/l && ln -s mine d/sym && mkfifo d/fifo && ln -s %s to-b && ln -s %s "
	   "to-out &&"
	   " ln -s %s d/out && chmod 711 d && setfattr -n user.x -v y d/mine 2>/dev/null;"
	   " if [ $(id -u) = 0 ]; then chown -hR %u:%u .; ln %s/two rw; fi; true",
	   tree_a, tree_b, outside, outside, UID_A, UID_A, outside);
	sh("mkdir -p %s/d/e && cd %s && echo i >d/two && echo i >d/e/new && ln -s x d/sym", source,
	   source);
	put("{}");
	before_b = fingerprint(tree_b);
	/* Links come and go on "two": look at the rest of it by hand. */
	attacker = attack();
	race(WR_TASK_RESTORE,
	     "{\"snap\":\"main/latest\",\"path\":\"d\",\"delete_extra\":true,"
	     "\"overwrite\":\"always\"}",
	     NULL);
	race(WR_TASK_RESTORE, "{\"snap\":\"main/latest\",\"delete_extra\":true}", NULL);
	race(WR_TASK_RESTORE, "{\"snap\":\"main/latest\",\"path\":\"d/two\",\"dest\":\"d/e/two\"}",
	     NULL);
	race(WR_TASK_READ, "{\"path\":\"d/secret\"}", NULL);
	race(WR_TASK_READ, "{\"path\":\"d\",\"format\":\"tar\"}", NULL);
	race(WR_TASK_FILES, "{\"path\":\"d/d\"}", NULL);
	race(WR_TASK_MKDIR, "{\"path\":\"d/made/by\"}", NULL);
	race(WR_TASK_CHOWN, "{}", NULL);
	race(WR_TASK_SKEL, "{}", source);
	race(WR_TASK_SAVE, "{}", NULL);
	race(WR_TASK_IMPORT, "{}", source);
	kill(attacker, SIGKILL);
	assert_int_equal(waitpid(attacker, &status, 0), attacker);
	assert_true(WIFSIGNALED(status)); /* it had not failed before */
	before_out = fingerprint(tree_b);
	assert_true(before_out == before_b);
	sh("cd %s && test \"$(find . | sort | tr '\\n' ' ')\" = '. ./d ./d/secret ./secret ./two ' "
	   "&&"
	   " test -z \"$(find . ! -uid %u)\" && test \"$(cat two)\" = x &&"
	   " test $(stat -c %%a two) = 666 && test $(stat -c %%a .) = 755",
	   outside, as_root ? 0u : geteuid());
	assert_no_secret();
	assert_sound(&a);
}

/* ---- both ways ---- */

static int run_all(void);

static void
test_rootless__everything_again(void **state)
{
	const char *const argv[] = {"task_test", "@rootless", NULL};
	pid_t pid;
	int status;

	(void)state;
	if (!as_root)
		skip();
	pid = fork();
	if (pid == 0) {
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
    T(test_save__and_inspect),
    T(test_prove__what_refs_reach_now),
    T(test_restore__in_place_beside_whole),
    T(test_import__belongs_to_its_user),
    T(test_adopt__a_repository_of_bup),
    T(test_tag__set_expire),
    T(test_copy__from_another_project),
    T(test_files__order_and_part),
    T(test_read__raw_tar_zip),
    T(test_small__skel_link_mkdir_hook),
    T(test_chown__foreign_links_stay),
    T(test_remove__whatever_is_in_it),
    T(test_view__as_the_nodes_user),
    T(test_cancel__ends_the_worker),
    T(test_starter__takes_the_worker_along),
    T(test_end__what_workers_may_say),
    T(test_escape__links_dots_mounts),
    T(test_escape__hard_links),
    T(test_escape__rename_races),
    T(test_rootless__everything_again),
};

static int
run_all(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}

int
main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "@worker"))
		return wr_worker_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "repo")) { /* a view: what it was called with */
		for (int i = 1; i < argc; i++)
			printf("%s ", argv[i]);
		printf("uid %u\n", geteuid());
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "@rootless")) {
		/* Its output is not part of ours. */
		return dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ? 1 : run_all();
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return run_all();
}
