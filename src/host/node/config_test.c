/* SPDX-License-Identifier: Apache-2.0 */
/* warren.conf: defaults, a whole file, what is wrong and where, the environment on top. */
#include "host/node/node.h"

#include <fcntl.h>
#include <setjmp.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/fs.h"

static char path[] = "/tmp/config_test.XXXXXX";

static int
setup(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int
teardown(void **state)
{
	(void)state;
	return unlink(path);
}

static int
load(const char *text, struct wr_config *c, struct wr_err *err)
{
	assert_int_equal(wr_replace_file(AT_FDCWD, path, text, strlen(text), 0644, NULL), 0);
	return wr_config_load(path, c, err);
}

static void
assert_refused(const char *text, const char *msg, const char *hint)
{
	struct wr_config c;
	struct wr_err err = WR_ERR_INIT;

	assert_int_equal(load(text, &c, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	if (strncmp(err.msg, path, strlen(path)) != 0 || !strstr(err.msg, msg) ||
	    !strstr(err.hint, hint))
		fail_msg("'%s' (%s) for '%s' (%s)", err.msg, err.hint, msg, hint);
}

static void
assert_value(const struct wr_config *c, const char *name, const char *value)
{
	WR_SCOPED(wr_freep) char *s = NULL;

	assert_int_equal(wr_config_get(c, name, &s, NULL), 0);
	assert_string_equal(s, value);
}

static void
test_defaults(void **state)
{
	struct wr_config c;

	(void)state;
	assert_int_equal(wr_config_load(NULL, &c, NULL), 0);
	assert_string_equal(c.home_pattern, "/home/{name}");
	assert_int_equal(c.uid_first, 2100000000);
	assert_int_equal(c.uid_last, 2100999999);
	assert_null(c.listen_socket);
	assert_int_equal(c.socket_mode, 0666);
	assert_int_equal(c.save_every, 300);
	assert_int_equal(c.save_min_interval, 90);
	assert_int_equal(c.trash_keep, 30 * 86400);
	assert_null(c.hook_started);
	assert_null(c.listen_api);
	assert_null(c.listen_peer);
	assert_null(c.listen_name);
	assert_int_equal(c.replica_rate, 20 << 20);
	assert_int_equal(c.replica_floor, 30 * 86400);
	assert_int_equal(c.replica_timeout, 30);
	assert_int_equal(c.replica_retry_max, 600);
	assert_int_equal(c.replica_uid_first, 1000);
	assert_int_equal(c.replica_uid_last, UINT32_MAX - 1);
	assert_int_equal(c.replica_max_size, 0);
	assert_int_equal(c.replica_tree_after, 600);
	assert_int_equal(c.replica_parallel, 4);
	/* Every default is written as the program itself would write it. */
	for (const struct wr_config_key *k = wr_config_keys; k->key; k++) {
		WR_SCOPED(wr_freep) char *name = wr_asprintf("%s.%s", k->section, k->key);

		if (strcmp(name, "front.idle") != 0) /* 60s, which is said as 1min */
			assert_value(&c, name, k->fallback);
		assert_true(strlen(k->help) > 10);
	}
	wr_config_fini(&c);
	wr_config_fini(&c);
	assert_int_equal(wr_config_load("/nonexistent/warren.conf", &c, NULL), 0);
	wr_config_fini(&c);
}

static void
test_whole_file(void **state)
{
	struct wr_config c;

	(void)state;
	assert_int_equal(
	    load("# a host\n[node]\nhome = /srv/homes/{id}\nadmins = root, ann , 1000\n"
		 "uid_range=5-5\nsocket = /run/x.sock\nsocket_mode = 0660\n"
		 "[save]\nevery = never\nparallel = 8\n[hooks]\nstarted = /bin/true\n"
		 "[runner]\ncgroup = none\n[front]\nidle = 2min\n"
		 "[listen]\napi = [::]:7443\npeer = 0.0.0.0:7444\nname = a.example.org, 10.0.0.1\n"
		 "[replica]\nrate = 0\nmax_size = 1T\nfloor = never\n",
		 &c, NULL),
	    0);
	assert_value(&c, "node.home", "/srv/homes/{id}");
	assert_value(&c, "node.admins", "root, ann , 1000");
	assert_value(&c, "node.uid_range", "5-5");
	assert_value(&c, "node.socket_mode", "0660");
	assert_value(&c, "save.every", "never");
	assert_int_equal(c.save_every, 0);
	assert_int_equal(c.save_parallel, 8);
	assert_string_equal(c.hook_started, "/bin/true");
	assert_string_equal(c.cgroup, "none");
	assert_value(&c, "front.idle", "2min");
	assert_value(&c, "listen.api", "[::]:7443");
	assert_value(&c, "listen.name", "a.example.org, 10.0.0.1");
	assert_value(&c, "replica.rate", "0");
	assert_value(&c, "replica.max_size", "1T");
	assert_value(&c, "replica.floor", "never");
	wr_config_fini(&c);
}

static void
test_refusals(void **state)
{
	(void)state;
	assert_refused("[node]\nhom = /x/{id}\n", ":2: section [node] has no key 'hom'",
		       "did you mean 'home'?");
	assert_refused("\n[nod]\nhome = /x/{id}\n", ":3: there is no section [nod]",
		       "did you mean [node]?");
	assert_refused("[node]\nqqqqqqqqq = 1\n", ":2: section [node] has no key", "");
	assert_refused("home = /x\n", ":1: key 'home' stands before the first [section]", "");
	assert_refused("[node]\nhome = /x\n", ":2: key 'home': '/x' holds neither", "");
	assert_refused("[node]\nhome = x/{id}\n", "is not an absolute path", "");
	assert_refused("[node]\nuid_range = 9-3\n", "is no range", "");
	assert_refused("[node]\nuid_range = 0-3\n", "is no range", "");
	assert_refused("[node]\nuid_range = 1-4294967295\n", "is no range", "");
	assert_refused("[node]\nsocket_mode = 0999\n", "is no mode", "");
	assert_refused("[node]\nsocket_mode = 07777\n", "is no mode", "");
	assert_refused("[save]\nevery = 5 parsecs\n", ":2: key 'every': ", "durations are written");
	assert_refused("[save]\nparallel = 0\n", "less than 1", "");
	assert_refused("[save]\nparallel = 65\n", "more than 64", "");
	assert_refused("[save]\nparallel = 2\n\n[save]\nparallel = 3\n",
		       ":5: key 'parallel' was "
		       "given in line 2 already",
		       "");
	assert_refused("[hooks]\nstarted = true\n", "is not an absolute path", "");
	assert_refused("[runner]\ncgroup = some\n", "is not an absolute path", "");
	assert_refused("[listen]\napi = 7443\n", ":2: key 'api': '7443' is no HOST:PORT", "7443");
	assert_refused("[listen]\npeer = ::1:7443\n", "is no HOST:PORT", "[::]:7443");
	assert_refused("[listen]\nname = a,,b\n", "is no list of at most 32 names", "");
	assert_refused("[replica]\nrate = fast\n", ":2: key 'rate': ", "");
	assert_refused("[replica]\ntimeout = never\n", "less than 1", "");
	assert_refused("nonsense\n", ":1: ", "");
}

static void
test_environment(void **state)
{
	struct wr_config c;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	setenv("WARREN_SAVE_MIN_INTERVAL", "7s", 1);
	assert_int_equal(load("[save]\nmin_interval = 1h\n", &c, NULL), 0);
	assert_int_equal(c.save_min_interval, 7);
	wr_config_fini(&c);
	setenv("WARREN_SAVE_MIN_INTERVAL", "soon", 1);
	assert_int_equal(wr_config_load(NULL, &c, &err), -1);
	assert_non_null(strstr(err.msg, "$WARREN_SAVE_MIN_INTERVAL: "));
	unsetenv("WARREN_SAVE_MIN_INTERVAL");
}

static void
test_get__unknown(void **state)
{
	struct wr_config c;
	struct wr_err err = WR_ERR_INIT;
	char *s;

	(void)state;
	assert_int_equal(wr_config_load(NULL, &c, NULL), 0);
	assert_int_equal(wr_config_get(&c, "node.nothing", &s, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	wr_config_fini(&c);
}

/* Numbers of what runs are taken over, places and names are not. */
static void
test_take__numbers_only(void **state)
{
	struct wr_config a, b;
	struct wr_err err = WR_ERR_INIT;
	size_t left;

	(void)state;
	assert_int_equal(load("[work]\nrate = 1M\n", &a, &err), 0);
	assert_int_equal(load("[work]\nrate = 2M\n[save]\nparallel = 7\nevery = 9min\n"
			      "[node]\nadmins = ann\n[front]\nidle = 5s\n",
			      &b, &err),
			 0);
	assert_int_equal(wr_config_take(&a, &b, &left), 3);
	assert_int_equal(left, 2);
	assert_value(&a, "work.rate", "2M");
	assert_value(&a, "save.parallel", "7");
	assert_value(&a, "save.every", "9min");
	assert_value(&a, "node.admins", "root");
	assert_value(&a, "front.idle", "1min");
	assert_int_equal(wr_config_take(&a, &b, &left), 0);
	wr_config_fini(&a);
	wr_config_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),     cmocka_unit_test(test_whole_file),
	    cmocka_unit_test(test_refusals),     cmocka_unit_test(test_environment),
	    cmocka_unit_test(test_get__unknown), cmocka_unit_test(test_take__numbers_only),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
