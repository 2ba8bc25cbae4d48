/* SPDX-License-Identifier: Apache-2.0 */
/* Making a node, opening it, and all that may be wrong with STATE and volumes. */
#include "host/node/node.h"

#include <sys/mount.h>
#include <sys/wait.h>

#include "host/node/test_node.h"

static struct test_root t;

static int
setup(void **state)
{
	(void)state;
	t = test_root_new();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	test_root_free(&t);
	return 0;
}

static void
put(const char *name, const char *text)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", t.dir, name);

	assert_int_equal(wr_replace_file(AT_FDCWD, path, text, strlen(text), 0644, NULL), 0);
}

static mode_t
mode_of(const char *name)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", t.dir, name);
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void
assert_open_fails(enum wr_err_code code, const char *msg, const char *hint)
{
	struct wr_err err = WR_ERR_INIT;
	struct wr_node *n;

	assert_int_equal(wr_node_open(t.root, 0, &n, &err), -1);
	if (err.code != code || !strstr(err.msg, msg) || !strstr(err.hint, hint))
		fail_msg("%d '%s' (%s), not %d '%s' (%s)", err.code, err.msg, err.hint, code, msg,
			 hint);
}

static void
assert_init_fails(const struct wr_node_init *o, enum wr_err_code code, const char *msg,
		  const char *hint)
{
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(wr_node_init(o, NULL, &err), -1);
	if (err.code != code || !strstr(err.msg, msg) || !strstr(err.hint, hint))
		fail_msg("%d '%s' (%s), not %d '%s' (%s)", err.code, err.msg, err.hint, code, msg,
			 hint);
}

static void
test_init_and_open(void **state)
{
	struct wr_node_init o = test_init_opts(&t);
	WR_SCOPED(wr_json_freep) json_t *receipt = NULL;
	struct wr_err err = WR_ERR_INIT;
	mode_t mask = umask(077);
	struct wr_node *n;

	(void)state;
	assert_ok(wr_node_init(&o, &receipt, &err), &err);
	umask(mask);
	assert_string_equal(wr_json_get_str(receipt, "schema", ""), "warren.init/1");
	assert_int_equal(wr_json_get_u64(wr_json_get_obj(receipt, "volume"), "reserve", 0), 8192);
	assert_int_equal(mode_of("r/state"), 0755);
	assert_int_equal(mode_of("r/state/control"), 0700);
	assert_int_equal(mode_of("r/state/op"), 0700);
	assert_int_equal(mode_of("r/state/log"), 0700);
	assert_int_equal(mode_of("r/run"), 0755);
	assert_int_equal(mode_of("v/projects"), 0711);
	assert_int_equal(mode_of("v/projects/.stage"), 0700);
	assert_int_equal(mode_of("v/projects/.trash"), 0700);
	assert_int_equal(mode_of("v/repos"), 0711);
	assert_int_equal(mode_of("v/repos/.stage"), 0700);
	assert_int_equal(mode_of("v/repos/.trash"), 0700);

	n = test_node_open(&t);
	assert_string_equal(n->id.s, wr_json_get_str(receipt, "node", ""));
	assert_string_equal(n->dc, "dc1");
	assert_string_equal(n->name, "n1");
	assert_string_equal(n->fleet.s, "");
	assert_int_equal(n->incarnation, 0);
	assert_int_equal(n->counter, 1);
	assert_int_equal(n->volume_count, 1);
	assert_string_equal(wr_node_arg(n), t.root);
	if (geteuid() == 0)
		assert_int_equal(n->uid, 64950);
	else
		assert_int_equal(n->uid, geteuid());
	assert_true(n->run_fd >= 0);
	assert_int_equal(mode_of("r/run/run"), 0700);
	assert_int_equal(wr_node_check_volumes(n, NULL), 0);
	wr_node_close(n);

	assert_init_fails(&o, WR_E_EXISTS, "there is a node at", "warren volume add");
}

static void
test_init__refusals(void **state)
{
	struct wr_node_init o = test_init_opts(&t);

	(void)state;
	o.allow_root_fs = false;
	o.volume = "/boot/../etc"; /* its own file system or not: surely not empty */
	o.root = t.root;
	{
		struct wr_err err = WR_ERR_INIT;

		assert_int_equal(wr_node_init(&o, NULL, &err), -1);
		assert_int_equal(err.code, WR_E_DENIED);
	}
	o = test_init_opts(&t);
	o.dc = "Not/a name";
	assert_init_fails(&o, WR_E_INVALID, "is no name of a data centre", "");
	o.dc = NULL;
	assert_init_fails(&o, WR_E_INVALID, "is no name of a data centre", "");
	o = test_init_opts(&t);
	o.name = "a-name-of-sixty-four-letters-is-one-more-than-a-fleet-record-hold";
	assert_init_fails(&o, WR_E_INVALID, "is no name of a node: 1 to 63", "");
	o = test_init_opts(&t);
	o.volume = t.root;
	assert_init_fails(&o, WR_E_INVALID, "apart from the node's own state", "");
	o.volume = "/nonexistent/a/b";
	assert_init_fails(&o, WR_E_NOT_FOUND, "/nonexistent/a/b", "");
	if (geteuid() == 0) {
		o = test_init_opts(&t);
		o.user = "nobody-like-this";
		assert_init_fails(&o, WR_E_NOT_FOUND, "there is no user 'nobody-like-this'",
				  "adduser --system");
		o.user = "root";
		assert_init_fails(&o, WR_E_DENIED, "is root", "");
	}
	o = test_init_opts(&t);
	assert_int_equal(mkdir(t.volume, 0755), 0);
	put("v/thesis.tex", "dear to someone");
	assert_init_fails(&o, WR_E_DENIED, "is not empty: it holds 'thesis.tex'", "--from");
	assert_int_equal(mode_of("v/thesis.tex"), 0644);
	assert_open_fails(WR_E_NOT_FOUND, "never finished", "warren init");
}

static void
test_init__root_fs(void **state)
{
	struct wr_node_init o = test_init_opts(&t);
	struct stat a, b;

	(void)state;
	if (stat("/", &a) < 0 || stat(t.dir, &b) < 0 || a.st_dev != b.st_dev)
		skip();
	o.allow_root_fs = false;
	assert_init_fails(&o, WR_E_DENIED, "is on the root file system", "--allow-root-fs");
	/* Not even the directory is made. */
	assert_int_equal(access(t.volume, F_OK), -1);
	o.volume = wr_asprintf("%s/", t.volume);
	assert_init_fails(&o, WR_E_DENIED, "is on the root file system", "--allow-root-fs");
	assert_int_equal(access(t.volume, F_OK), -1);
	free((void *)(uintptr_t)o.volume);
}

static void
test_init__lost_and_found(void **state)
{
	WR_SCOPED(wr_freep) char *lost = wr_asprintf("%s/lost+found", t.volume);

	(void)state;
	assert_int_equal(mkdir(t.volume, 0755), 0);
	assert_int_equal(mkdir(lost, 0700), 0);
	wr_node_close(test_node_new(&t));
}

static void
test_init__cut_off(void **state)
{
	static const char *const points[] = {
	    "init.state",
	    "file.replace-written",
	    "init.begun",
	    "init.sentinel",
	    "init.claimed",
	    "init.part",
	    "init.part:2",
	    "init.volume",
	    "file.replace-written:2",
	    "file.replace-renamed:2",
	    "file.replace-written:3",
	};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		struct test_root again = test_root_new();
		struct wr_node_init o = test_init_opts(&again);
		struct wr_err err = WR_ERR_INIT;
		struct wr_node *n;

		crash_at(points[i], "init", again.dir);
		assert_int_equal(wr_node_open(again.root, 0, &n, &err), -1);
		assert_non_null(strstr(err.hint, "warren init"));
		assert_ok(wr_node_init(&o, NULL, &err), &err);
		n = test_node_open(&again);
		assert_int_equal(n->volume_count, 1);
		assert_int_equal(wr_node_check_volumes(n, NULL), 0);
		wr_node_close(n);
		test_root_free(&again);
	}
}

static void
test_open__nothing_there(void **state)
{
	(void)state;
	assert_int_equal(mkdir(t.root, 0755), 0);
	assert_open_fails(WR_E_NOT_FOUND, "there is no node at", "warren init --root");
}

static void
test_sentinel__missing(void **state)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/volume.json", t.volume);
	WR_SCOPED(wr_freep) char *away = wr_asprintf("%s/away", t.dir);
	WR_SCOPED(wr_freep)
	char *msg =
	    wr_asprintf("volume '%s' has no volume.json: is its file system mounted?", t.volume);
	struct wr_err err = WR_ERR_INIT;
	struct wr_node *n = test_node_new(&t);

	(void)state;
	assert_int_equal(unlink(path), 0);
	assert_open_fails(WR_E_NOT_FOUND, msg, "mount the file system");
	assert_int_equal(wr_node_check_volumes(n, &err), -1);
	assert_non_null(strstr(err.msg, msg));
	wr_node_close(n);
	/* Clients do not look. */
	assert_int_equal(wr_node_open(t.root, WR_NODE_NO_VOLUMES, &n, NULL), 0);
	wr_node_close(n);
	assert_int_equal(rename(t.volume, away), 0);
	assert_open_fails(WR_E_NOT_FOUND, t.volume, "mount the file system");
	/* Nothing was made in the place where the volume should be. */
	assert_int_equal(access(t.volume, F_OK), -1);
}

static void
test_sentinel__of_others(void **state)
{
	static const char other[] = "11111111-2222-4333-8444-555555555555";
	struct wr_node *n = test_node_new(&t);
	WR_SCOPED(wr_freep) char *id = wr_strdup(n->volume[0].id.s);
	WR_SCOPED(wr_freep) char *node_id = wr_strdup(n->id.s);
	WR_SCOPED(wr_freep)
	char *foreign =
	    wr_asprintf("{\"format\":1,\"min_reader\":1,\"id\":\"%s\",\"node\":\"%s\"}", id, other);
	WR_SCOPED(wr_freep)
	char *swapped = wr_asprintf("{\"format\":1,\"min_reader\":1,\"id\":\"%s\",\"node\":\"%s\"}",
				    other, node_id);
	WR_SCOPED(wr_freep)
	char *later = wr_asprintf("{\"format\":9,\"min_reader\":1,\"id\":\"%s\",\"node\":\"%s\"}",
				  id, node_id);

	(void)state;
	wr_node_close(n);
	put("v/volume.json", foreign);
	assert_open_fails(WR_E_DENIED, other, "this node's volume");
	assert_open_fails(WR_E_DENIED, node_id, "");
	put("v/volume.json", swapped);
	assert_open_fails(WR_E_DENIED, other, "in each other's place");
	put("v/volume.json", "{\"format\":3,\"min_reader\":2}");
	assert_open_fails(WR_E_UNSUPPORTED, "format 2, this program reads up to 1", "newer");
	put("v/volume.json", "{\"format\":1,\"min_re");
	assert_open_fails(WR_E_CORRUPT, t.volume, "");
	put("v/volume.json", "");
	assert_open_fails(WR_E_CORRUPT, t.volume, "");
	/* A newer writer that says old readers will do. */
	put("v/volume.json", later);
	wr_node_close(test_node_open(&t));
}

static void
test_sentinel__link(void **state)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/volume.json", t.volume);
	WR_SCOPED(wr_freep) char *away = wr_asprintf("%s/away.json", t.dir);

	(void)state;
	wr_node_close(test_node_new(&t));
	assert_int_equal(rename(path, away), 0);
	assert_int_equal(symlink(away, path), 0);
	assert_open_fails(WR_E_CORRUPT, "is a link", "");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0644), 0);
	assert_open_fails(WR_E_CORRUPT, "is no regular file", "");
}

static void
test_open__newer_node(void **state)
{
	(void)state;
	wr_node_close(test_node_new(&t));
	put("r/state/node.json", "{\"format\":2}");
	assert_open_fails(WR_E_UNSUPPORTED, "has format 2, this program reads up to 1", "newer");
	put("r/state/node.json", "{\"format\":1,\"id\":\"x\"}");
	assert_open_fails(WR_E_CORRUPT, "has no usable 'id'", "");
	put("r/warren.conf", "[node]\nhom = 1\n");
	assert_open_fails(WR_E_INVALID, "warren.conf:2:", "did you mean");
}

/* ---- membership and counter ---- */

static const struct wr_uuid fleet_a = {"0f1e2d3c-4b5a-4978-8a6b-5c4d3e2f1a0b"},
			    fleet_b = {"aaaaaaaa-4b5a-4978-8a6b-5c4d3e2f1a0b"};

static void
test_fleet(void **state)
{
	struct wr_node *n = test_node_new(&t), *other = test_node_open(&t);
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_ok(wr_node_set_fleet(n, &fleet_a, 1, &err), &err);
	assert_int_equal(n->incarnation, 1);
	assert_string_equal(n->fleet.s, fleet_a.s);
	/* Who opened it before does not undo that. */
	assert_ok(wr_node_count(other, &err), &err);
	assert_int_equal(other->counter, 2);
	assert_string_equal(other->fleet.s, fleet_a.s);
	wr_node_close(other);
	other = test_node_open(&t);
	assert_int_equal(other->incarnation, 1);
	assert_int_equal(other->counter, 2);
	wr_node_close(other);
	/* Repeated, and come again. */
	assert_ok(wr_node_set_fleet(n, &fleet_a, 1, &err), &err);
	assert_ok(wr_node_set_fleet(n, &fleet_a, 3, &err), &err);
	assert_int_equal(wr_node_set_fleet(n, &fleet_a, 2, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	assert_int_equal(wr_node_set_fleet(n, &fleet_b, 4, &err), -1);
	assert_int_equal(err.code, WR_E_EXISTS);
	assert_non_null(strstr(err.msg, fleet_a.s));
	assert_int_equal(n->incarnation, 3);
	wr_node_close(n);
}

static void
test_count__at_once(void **state)
{
	struct wr_node *n = test_node_new(&t);
	struct wr_err err = WR_ERR_INIT;
	pid_t pid = fork();
	int status;

	(void)state;
	assert_true(pid >= 0);
	for (int i = 0; i < 20; i++)
		if (wr_node_count(n, &err) < 0) {
			if (pid == 0)
				_exit(1);
			fail_msg("%s", err.msg);
		}
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	wr_node_close(n);
	n = test_node_open(&t);
	assert_int_equal(n->counter, 41);
	wr_node_close(n);
}

static void
test_count__cut_off(void **state)
{
	struct wr_node *n = test_node_new(&t);

	(void)state;
	crash_at("file.replace-written", "count", t.dir);
	assert_ok(wr_node_count(n, NULL), NULL);
	assert_int_equal(n->counter, 2);
	crash_at("file.replace-renamed", "count", t.dir);
	assert_ok(wr_node_count(n, NULL), NULL);
	assert_int_equal(n->counter, 4);
	wr_node_close(n);
}

/* As the first release wrote it: a text, and no fleet. */
static void
test_membership__in_node_json(void **state)
{
	static const struct {
		const char *text, *msg;
	} cases[] = {
	    {"\"incarnation\":\"00ff00ff00ff00ff00ff00ff00ff00ff\",\"counter\":1", NULL},
	    {"\"incarnation\":0,\"counter\":1,\"fleet\":\"\"", NULL},
	    {"\"incarnation\":-1,\"counter\":1", "'incarnation'"},
	    {"\"incarnation\":4294967296,\"counter\":1", "'incarnation'"},
	    {"\"incarnation\":0", "'counter'"},
	    {"\"incarnation\":0,\"counter\":-5", "'counter'"},
	    {"\"incarnation\":1,\"counter\":1,\"fleet\":\"x\"", "'fleet'"},
	    {"\"incarnation\":1,\"counter\":1", "without the other"},
	};
	struct wr_node *n = test_node_new(&t);
	WR_SCOPED(wr_freep) char *id = wr_strdup(n->id.s), *vol = wr_strdup(n->volume[0].id.s);

	(void)state;
	wr_node_close(n);
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		WR_SCOPED(wr_freep)
		char *text =
		    wr_asprintf("{\"format\":1,\"id\":\"%s\",%s,\"dc\":\"dc1\",\"name\":\"n1\","
				"\"user\":\"64950\",\"volumes\":[{\"id\":\"%s\",\"path\":\"%s\"}]}",
				id, cases[i].text, vol, t.volume);

		put("r/state/node.json", text);
		if (cases[i].msg) {
			assert_open_fails(WR_E_CORRUPT, cases[i].msg, "");
			continue;
		}
		n = test_node_open(&t);
		assert_int_equal(n->incarnation, 0);
		assert_ok(wr_node_set_fleet(n, &fleet_a, 1, NULL), NULL);
		wr_node_close(n);
	}
}

static void
test_hostport(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} cases[] = {
	    {"0.0.0.0:7443", "0.0.0.0", 7443},
	    {"[::1]:1", "::1", 1},
	    {"node-1.example.org:65535", "node-1.example.org", 65535},
	    {"::1:80", NULL, 0},
	    {"[::1]", NULL, 0},
	    {"[10.0.0.1]:80", NULL, 0},
	    {"host:0", NULL, 0},
	    {"host:65536", NULL, 0},
	    {"host:-1", NULL, 0},
	    {"host", NULL, 0},
	    {":80", NULL, 0},
	    {"a..b:80", NULL, 0},
	    {"-a:80", NULL, 0},
	    {"a b:80", NULL, 0},
	    {"", NULL, 0},
	};
	char host[WR_HOST_SIZE];
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		bool good = wr_hostport_parse(cases[i].text, host, &port);

		if (good != (cases[i].host != NULL))
			fail_msg("'%s'", cases[i].text);
		if (!good)
			continue;
		assert_string_equal(host, cases[i].host);
		assert_int_equal(port, cases[i].port);
	}
}

static void
test_reach(void **state)
{
	static const struct {
		const char *conf, *names, *peer, *api;
	} cases[] = {
	    {"", "n1", "", ""},
	    {"[listen]\npeer = 0.0.0.0:7444\n", "n1", "n1:7444", ""},
	    {"[listen]\npeer = [::]:7444\napi = 127.0.0.1:7443\n", "127.0.0.1", "127.0.0.1:7444",
	     "127.0.0.1:7443"},
	    {"[listen]\npeer = 10.0.0.9:7444\napi = 10.0.0.9:7443\n", "10.0.0.9", "10.0.0.9:7444",
	     "10.0.0.9:7443"},
	    {"[listen]\npeer = 10.0.0.9:7444\nname = 2001:db8::9, a.example.org , 10.0.0.9\n",
	     "2001:db8::9,a.example.org,10.0.0.9", "[2001:db8::9]:7444", ""},
	};

	(void)state;
	wr_node_close(test_node_new(&t));
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf names = WR_BUF_INIT;
		struct wr_reach r;
		struct wr_node *n;

		put("r/warren.conf", cases[i].conf);
		n = test_node_open(&t);
		wr_reach_of(n, &r);
		for (size_t k = 0; k < r.name_count; k++)
			wr_buf_addf(&names, "%s%s", k ? "," : "", r.name[k]);
		assert_string_equal(wr_buf_str(&names), cases[i].names);
		assert_string_equal(r.peer, cases[i].peer);
		assert_string_equal(r.api, cases[i].api);
		wr_reach_fini(&r);
		wr_node_close(n);
	}
}

static void
test_volume_remounted(void **state)
{
	struct wr_node *n;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdir(t.volume, 0755), 0);
	if (mount("warren", t.volume, "tmpfs", 0, "size=4m") < 0)
		skip();
	n = test_node_new(&t);
	assert_int_equal(wr_node_check_volumes(n, NULL), 0);
	/* Gone under us: what is seen at the path is the empty directory below. */
	assert_int_equal(umount2(t.volume, MNT_DETACH), 0);
	assert_int_equal(wr_node_check_volumes(n, &err), -1);
	assert_non_null(strstr(err.msg, "is its file system mounted?"));
	assert_int_equal(mount("warren", t.volume, "tmpfs", 0, "size=4m"), 0);
	{
		WR_SCOPED(wr_freep)
		char *same =
		    wr_asprintf("{\"format\":1,\"min_reader\":1,\"id\":\"%s\",\"node\":\"%s\"}",
				n->volume[0].id.s, n->id.s);

		put("v/volume.json", same);
	}
	assert_int_equal(wr_node_check_volumes(n, &err), -1);
	assert_int_equal(err.code, WR_E_CHANGED);
	wr_node_close(n);
	assert_int_equal(umount2(t.volume, MNT_DETACH), 0);
}

static void
test_volume_add(void **state)
{
	WR_SCOPED(wr_freep) char *second = wr_asprintf("%s/v2", t.dir);
	WR_SCOPED(wr_freep) char *stray = wr_asprintf("%s/v2/repos/stray", t.dir);
	WR_SCOPED(wr_json_freep) json_t *receipt = NULL;
	struct wr_err err = WR_ERR_INIT;
	struct wr_node *n = test_node_new(&t), *before = test_node_open(&t);

	(void)state;
	assert_int_equal(wr_volume_add(n, t.volume, true, NULL, &err), -1);
	assert_int_equal(err.code, WR_E_EXISTS);
	/* Half added, and taken up. */
	crash_at("init.part", "add", t.dir);
	assert_ok(wr_volume_add(n, second, true, &receipt, &err), &err);
	assert_string_equal(wr_json_get_str(receipt, "schema", ""), "warren.volume/1");
	assert_int_equal(n->volume_count, 2);
	/* Another process's node does not forget it. */
	assert_ok(wr_node_count(before, &err), &err);
	wr_node_close(before);
	wr_node_close(n);
	n = test_node_open(&t);
	assert_int_equal(n->volume_count, 2);
	assert_string_equal(n->volume[1].path, second);
	wr_node_close(n);
	assert_int_equal(mkdir(stray, 0700), 0);
}

static void
test_places(void **state)
{
	WR_SCOPED(wr_freep) char *second = wr_asprintf("%s/v2", t.dir);
	struct wr_err err = WR_ERR_INIT;
	struct wr_node *n = test_node_new(&t);
	struct wr_place_of p = WR_PLACE_OF_INIT;
	WR_SCOPED(wr_freep) char *tree = NULL;
	struct wr_uuid id;

	(void)state;
	assert_ok(wr_volume_add(n, second, true, NULL, &err), &err);
	wr_uuid_new(&id);
	assert_int_equal(wr_place_of_find(n, &id, &p, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_int_equal(mkdirat(n->volume[1].repos_fd, id.s, 0700), 0);
	assert_ok(wr_place_of_find(n, &id, &p, &err), &err);
	assert_int_equal(p.repo_vol, 1);
	assert_int_equal(p.tree_vol, 1);
	assert_int_equal(wr_tree_open(&p, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_int_equal(mkdirat(n->volume[0].projects_fd, id.s, 0700), 0);
	assert_ok(wr_place_of_find(n, &id, &p, &err), &err);
	assert_int_equal(p.tree_vol, 0);
	tree = wr_tree_path(&p);
	assert_int_equal(strncmp(tree, t.volume, strlen(t.volume)), 0);
	assert_int_equal(close(wr_tree_open(&p, &err)), 0);
	/* conf as a link to someone else's is not followed. */
	{
		WR_SCOPED(wr_freep) char *conf = wr_asprintf("%s/conf", id.s);

		assert_int_equal(symlinkat("/etc", n->volume[1].repos_fd, conf), 0);
		assert_int_equal(wr_conf_fd(&p, &err), -1);
	}
	assert_int_equal(mkdirat(n->volume[0].repos_fd, id.s, 0700), 0);
	assert_int_equal(wr_place_of_find(n, &id, &p, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	wr_node_close(n);
}

/* Nothing is concluded from what is not found while a volume is missing. */
static void
test_places__volume_missing(void **state)
{
	WR_SCOPED(wr_freep) char *second = wr_asprintf("%s/v2", t.dir);
	WR_SCOPED(wr_freep) char *sentinel = wr_asprintf("%s/volume.json", second);
	WR_SCOPED(wr_freep) char *kept = wr_asprintf("%s/kept", t.dir);
	struct wr_err err = WR_ERR_INIT;
	struct wr_node *n = test_node_new(&t);
	struct wr_place_of p = WR_PLACE_OF_INIT;
	struct wr_uuid here, split;

	(void)state;
	assert_ok(wr_volume_add(n, second, true, NULL, &err), &err);
	wr_uuid_new(&here);
	wr_uuid_new(&split);
	assert_int_equal(mkdirat(n->volume[0].repos_fd, here.s, 0700), 0);
	assert_int_equal(mkdirat(n->volume[0].projects_fd, here.s, 0700), 0);
	assert_int_equal(mkdirat(n->volume[0].repos_fd, split.s, 0700), 0);
	assert_int_equal(mkdirat(n->volume[1].projects_fd, split.s, 0700), 0);
	assert_int_equal(wr_node_missing(n, &err), 0);
	wr_node_close(n);

	assert_int_equal(rename(sentinel, kept), 0);
	assert_int_equal(wr_node_open(t.root, 0, &n, &err), -1);
	assert_ok(wr_node_open(t.root, WR_NODE_SOME_VOLUMES, &n, &err), &err);
	assert_int_equal(n->volume[1].fd, -1);
	assert_ok(wr_place_of_find(n, &here, &p, &err), &err);
	assert_int_equal(wr_place_of_find(n, &split, &p, &err), -1);
	assert_int_equal(err.code, WR_E_FAILED);
	assert_non_null(strstr(err.msg, second));
	wr_node_close(n);

	assert_int_equal(rename(kept, sentinel), 0);
	assert_ok(wr_node_open(t.root, WR_NODE_SOME_VOLUMES, &n, &err), &err);
	assert_ok(wr_place_of_find(n, &split, &p, &err), &err);
	assert_int_equal(p.tree_vol, 1);
	/* Nor from a volume that is there and does not tell. */
	assert_true(dup2(open(sentinel, O_RDONLY | O_CLOEXEC), n->volume[1].projects_fd) >= 0);
	assert_int_equal(wr_place_of_find(n, &split, &p, &err), -1);
	assert_int_equal(err.code, WR_E_FAILED);
	assert_non_null(strstr(err.msg, second));
	wr_node_close(n);
}

static void
test_lock(void **state)
{
	struct wr_node *n = test_node_new(&t);
	struct wr_lock a = WR_LOCK_INIT, b = WR_LOCK_INIT;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_ok(wr_node_lock(n, &a, &err), &err);
	assert_int_equal(wr_node_lock(n, &b, &err), -1);
	assert_int_equal(err.code, WR_E_BUSY);
	assert_non_null(strstr(err.msg, "already (pid "));
	wr_lock_drop(&a);
	assert_ok(wr_node_lock(n, &b, &err), &err);
	wr_lock_drop(&b);
	wr_node_close(n);
}

#define NODE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* What a test lets end in the middle; arg is the directory of a test's root. */
static int
do_it(const char *what, const char *arg)
{
	struct test_root r;
	struct wr_node_init o;
	struct wr_node *n;

	snprintf(r.dir, sizeof(r.dir), "%s", arg);
	snprintf(r.root, sizeof(r.root), "%s/r", arg);
	snprintf(r.volume, sizeof(r.volume), "%s/v%s", arg, strcmp(what, "add") ? "" : "2");
	o = test_init_opts(&r);
	if (!strcmp(what, "init"))
		return wr_node_init(&o, NULL, NULL) < 0;
	if (!strcmp(what, "count"))
		return wr_node_open(r.root, 0, &n, NULL) < 0 || wr_node_count(n, NULL) < 0;
	return wr_node_open(r.root, 0, &n, NULL) < 0 ||
	       wr_volume_add(n, r.volume, true, NULL, NULL) < 0;
}

static int
run_all(void)
{
	const struct CMUnitTest tests[] = {
	    NODE_TEST(test_init_and_open),
	    NODE_TEST(test_init__refusals),
	    NODE_TEST(test_init__root_fs),
	    NODE_TEST(test_init__lost_and_found),
	    NODE_TEST(test_init__cut_off),
	    NODE_TEST(test_open__nothing_there),
	    NODE_TEST(test_sentinel__missing),
	    NODE_TEST(test_sentinel__of_others),
	    NODE_TEST(test_sentinel__link),
	    NODE_TEST(test_open__newer_node),
	    NODE_TEST(test_fleet),
	    NODE_TEST(test_count__at_once),
	    NODE_TEST(test_count__cut_off),
	    NODE_TEST(test_membership__in_node_json),
	    NODE_TEST(test_hostport),
	    NODE_TEST(test_reach),
	    NODE_TEST(test_volume_remounted),
	    NODE_TEST(test_volume_add),
	    NODE_TEST(test_places),
	    NODE_TEST(test_places__volume_missing),
	    NODE_TEST(test_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int
main(int argc, char **argv)
{
	return argc == 4 && !strcmp(argv[1], "@do") ? do_it(argv[2], argv[3]) : run_all();
}
