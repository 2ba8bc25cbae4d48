/* SPDX-License-Identifier: Apache-2.0 */
#include "host/ident/ident.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sys/fs.h"

#define PROJECT "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
#define OTHER "1a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"

/* A node as far as identities look at it. */
struct world {
	char path[64];
	struct wr_node node;
};

static int
setup(void **state)
{
	struct world *w = wr_calloc(1, sizeof(*w));

	snprintf(w->path, sizeof(w->path), "/tmp/warren-ident-XXXXXX");
	if (!mkdtemp(w->path) || wr_config_load(NULL, &w->node.config, NULL) < 0)
		return -1;
	w->node.root_mode = true;
	wr_uuid_new(&w->node.id);
	free(w->node.config.identity_accounts);
	w->node.config.identity_accounts = wr_strdup("userdb");
	w->node.config.identity_etc = wr_strdup(w->path);
	w->node.config.identity_userdb = wr_asprintf("%s/userdb", w->path);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	wr_config_fini(&w->node.config);
	(void)wr_remove_tree(AT_FDCWD, w->path, NULL);
	free(w);
	return 0;
}

static void
accounts_by(struct world *w, const char *driver)
{
	free(w->node.config.identity_accounts);
	w->node.config.identity_accounts = wr_strdup(driver);
}

static void
put(const struct world *w, const char *name, const char *text)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", w->path, name);

	assert_int_equal(wr_replace_file(AT_FDCWD, path, text, strlen(text), 0644, NULL), 0);
}

/* NULL: it is not there. The caller frees. */
static char *
get(const struct world *w, const char *name)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", w->path, name);
	struct wr_buf b = WR_BUF_INIT;

	if (wr_read_file(AT_FDCWD, path, 1 << 20, &b, NULL) < 0) {
		wr_buf_fini(&b);
		return NULL;
	}
	return wr_buf_detach(&b, NULL);
}

static void
assert_file(const struct world *w, const char *name, const char *text)
{
	WR_SCOPED(wr_freep) char *there = get(w, name);

	if (!text) {
		assert_null(there);
		return;
	}
	assert_non_null(there);
	assert_string_equal(there, text);
}

static struct wr_settings
project(const char *id, const char *name, uint32_t uid)
{
	struct wr_settings s = {.uid = uid, .gid = uid, .exclusive = true};

	assert_true(wr_uuid_parse(id, &s.id));
	snprintf(s.name, sizeof(s.name), "%s", name);
	s.set = json_object();
	return s;
}

/* ---- numbers ---- */

static void
test_ident__derived(void **state)
{
	/* printf ID | sha512sum: 8 hex digits, halved. */
	static const struct {
		const char *id;
		uint32_t uid;
	} known[] = {
	    {PROJECT, 0x976116ce / 2},
	    {OTHER, 0x6aff7195 / 2},
	};
	struct wr_uuid id;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(known); i++) {
		assert_true(wr_uuid_parse(known[i].id, &id));
		assert_int_equal(wr_ident_derived(&id), known[i].uid);
	}
	assert_true(wr_uuid_parse(PROJECT, &id));
	assert_string_equal(wr_ident_derived_account(&id).s, "0a1b2c3d4e5f4a6b8c7d9e0f1a2b3c4d");
}

static void
test_ident__taken(void **state)
{
	struct world *w = *state;
	struct wr_ident_taken t = {0};
	const struct wr_ident_range *r;

	/* Without files: what is never a project's. */
	assert_int_equal(wr_ident_taken_load(&w->node, &t, NULL), 0);
	assert_non_null(wr_ident_taken_find(&t, 0, 0));
	assert_null(wr_ident_taken_find(&t, 1, 61183));
	assert_non_null(wr_ident_taken_find(&t, 61184, 61184));
	assert_non_null(wr_ident_taken_find(&t, 65534, 65534));
	assert_null(wr_ident_taken_find(&t, 65536, UINT32_MAX - 1));
	wr_ident_taken_fini(&t);
	put(w, "subuid",
	    "alice:100000:65536\n\nbroken\nx:y:z\nnone:5000:0\nfar:4294967000:100000\n"
	    "huge:99999999999:5\nlast:300000:1");
	put(w, "subgid", "bob:200000:10\n");
	assert_int_equal(wr_ident_taken_load(&w->node, &t, NULL), 0);
	r = wr_ident_taken_find(&t, 165535, 400000);
	assert_non_null(r);
	assert_int_equal(r->first, 100000);
	assert_int_equal(r->last, 165535);
	assert_non_null(strstr(r->whose, "alice's in "));
	assert_null(wr_ident_taken_find(&t, 5000, 5000));
	assert_null(wr_ident_taken_find(&t, 165536, 199999));
	assert_non_null(wr_ident_taken_find(&t, 200009, 200009));
	assert_null(wr_ident_taken_find(&t, 200010, 200010));
	assert_non_null(wr_ident_taken_find(&t, 300000, 300000));
	assert_non_null(wr_ident_taken_find(&t, UINT32_MAX - 1, UINT32_MAX - 1));
	wr_ident_taken_fini(&t);
	wr_ident_taken_fini(&t);
}

static void
test_ident__default_range_is_nobodys(void **state)
{
	struct world *w = *state;
	const struct wr_config *c = &w->node.config;
	struct wr_ident_taken t = {0};
	WR_SCOPED(wr_freep) char *dir = wr_asprintf("%s/sssd", w->path);

	assert_int_equal(mkdir(dir, 0755), 0);
	put(w, "sssd/sssd.conf", "[domain/a]\n");
	assert_int_equal(wr_ident_doubtful_load(&w->node, &t, NULL), 0);
	assert_null(wr_ident_taken_find(&t, c->uid_first, c->uid_last));
	assert_non_null(wr_ident_taken_find(&t, 2000199999, 2000199999));
	assert_null(wr_ident_taken_find(&t, 2000200000, 2000200000));
	wr_ident_taken_fini(&t);
	put(w, "sssd/sssd.conf", "[domain/a]\n  ldap_idmap_range_max = 2100000001 \n");
	assert_int_equal(wr_ident_doubtful_load(&w->node, &t, NULL), 0);
	assert_non_null(wr_ident_taken_find(&t, c->uid_first, c->uid_first));
	assert_null(wr_ident_taken_find(&t, c->uid_first + 1, c->uid_last));
	wr_ident_taken_fini(&t);
}

/* As the index does it: the first that is not used. */
static int
first_free(void *ctx, uint32_t first, uint32_t last, uint32_t *out, struct wr_err *err)
{
	const uint32_t *used_until = ctx;

	*out = WR_MAX(first, *used_until + 1);
	return *out <= last ? 0 : wr_err_set(err, WR_E_LIMIT, "none is free");
}

static void
test_ident__next(void **state)
{
	struct world *w = *state;
	struct wr_err err = WR_ERR_INIT;
	uint32_t used = 3000000004u, uid = 0;

	w->node.config.uid_first = 3000000000u;
	w->node.config.uid_last = 3000000029u;
	put(w, "subuid", "a:3000000005:10\n");
	put(w, "subgid", "b:3000000015:5\n");
	assert_int_equal(wr_ident_next(&w->node, first_free, &used, &uid, &err), 0);
	assert_int_equal(uid, 3000000020u);
	used = uid;
	assert_int_equal(wr_ident_next(&w->node, first_free, &used, &uid, &err), 0);
	assert_int_equal(uid, 3000000021u);
	/* Looked at each time. */
	put(w, "subgid", "b:3000000015:100\n");
	uid = 7;
	assert_int_equal(wr_ident_next(&w->node, first_free, &used, &uid, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	assert_non_null(strstr(err.msg, "b's in "));
	assert_int_equal(uid, 7);
	/* Up to the end of the numbers. */
	w->node.config.uid_first = UINT32_MAX - 2;
	w->node.config.uid_last = UINT32_MAX - 1;
	put(w, "subuid", "a:4294967293:100\n");
	used = 0;
	wr_err_clear(&err);
	assert_int_equal(wr_ident_next(&w->node, first_free, &used, &uid, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
}

static void
test_ident__account_of_the_host(void **state)
{
	struct wr_settings s = project(PROJECT, "notes", 4711);
	struct wr_err err = WR_ERR_INIT;
	uint32_t uid = 7, gid = 7;
	char *doubt = NULL;

	(void)state;
	assert_int_equal(wr_ident_look_up("root", &uid, &gid, &err), 0);
	assert_int_equal(uid, 0);
	assert_int_equal(wr_ident_look_up("nobody-has-this", &uid, &gid, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	/* Others do not look. */
	snprintf(s.account, sizeof(s.account), "nobody-has-this");
	wr_err_clear(&err);
	assert_int_equal(wr_ident_check(&s, &doubt, &err), 0);
	s.identity = WR_IDENTITY_NSS;
	assert_int_equal(wr_ident_check(&s, &doubt, &err), -1);
	assert_int_equal(err.code, WR_E_DENIED);
	snprintf(s.account, sizeof(s.account), "root");
	wr_err_clear(&err);
	assert_int_equal(wr_ident_check(&s, &doubt, &err), -1);
	assert_int_equal(err.code, WR_E_DENIED);
	assert_non_null(strstr(err.msg, "uid 0, gid 0"));
	assert_non_null(strstr(err.msg, "uid 4711, gid 4711"));
	s.uid = s.gid = 0;
	wr_err_clear(&err);
	assert_int_equal(wr_ident_check(&s, &doubt, &err), 0);
	assert_null(doubt);
	wr_settings_fini(&s);
}

/* ---- accounts ---- */

static void
make(const struct world *w, const struct wr_settings *s)
{
	struct wr_err err = WR_ERR_INIT;
	bool made = false;

	if (wr_account_make(&w->node, s, &made, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(made);
}

static void
refused(const struct world *w, const struct wr_settings *s)
{
	struct wr_err err = WR_ERR_INIT;
	bool made = true;

	assert_int_equal(wr_account_make(&w->node, s, &made, &err), -1);
	assert_int_equal(err.code, WR_E_EXISTS);
	assert_false(made);
}

static bool
is_project(void *ctx, const struct wr_uuid *id)
{
	return !strcmp(id->s, ctx);
}

static char none[] = "", first[] = PROJECT;

static void
test_userdb__make_and_drop(void **state)
{
	struct world *w = *state;
	struct wr_settings s = project(PROJECT, "notes", 3000000001u),
			   t = project(OTHER, "notes", 3000000002u);
	WR_SCOPED(wr_freep) char *text = NULL;

	/* Nothing there is fine. */
	assert_int_equal(wr_account_drop(&w->node, &s, true, NULL), 0);
	assert_int_equal(wr_accounts_sweep(&w->node, is_project, none, NULL), 0);
	make(w, &s);
	make(w, &s);
	text = get(w, "userdb/3000000001.user");
	assert_non_null(text);
	assert_non_null(strstr(text, "\"userName\":\"notes\""));
	assert_non_null(strstr(text, "\"uid\":3000000001"));
	assert_non_null(strstr(text, "\"homeDirectory\":\"/home/notes\""));
	/* Another project of that name, as two nodes of a fleet may have it for a moment. */
	refused(w, &t);
	assert_file(w, "userdb/3000000002.user", NULL);
	/* Renamed. */
	snprintf(s.name, sizeof(s.name), "paper");
	make(w, &s);
	assert_file(w, "userdb/notes.user", NULL);
	assert_file(w, "userdb/notes.group", NULL);
	make(w, &t);
	assert_int_equal(wr_account_drop(&w->node, &s, false, NULL), 0);
	assert_file(w, "userdb/paper.user", NULL);
	assert_file(w, "userdb/3000000001.user", NULL);
	assert_file(w, "userdb/3000000001.group", NULL);
	assert_int_equal(wr_accounts_sweep(&w->node, is_project, none, NULL), 0);
	assert_file(w, "userdb/notes.user", NULL);
	assert_file(w, "userdb/3000000002.group", NULL);
	wr_settings_fini(&s);
	wr_settings_fini(&t);
}

static void
test_userdb__not_for_all(void **state)
{
	struct world *w = *state;
	struct wr_settings s = project(PROJECT, "notes", 3000000001u);
	bool made = true;

	s.exclusive = false;
	assert_int_equal(wr_account_make(&w->node, &s, &made, NULL), 0);
	assert_false(made);
	s.exclusive = true;
	s.identity = WR_IDENTITY_NSS;
	assert_int_equal(wr_account_make(&w->node, &s, &made, NULL), 0);
	assert_false(made);
	s.identity = WR_IDENTITY_RANGE;
	accounts_by(w, "none");
	assert_int_equal(wr_account_make(&w->node, &s, &made, NULL), 0);
	assert_false(made);
	accounts_by(w, "userdb");
	w->node.root_mode = false;
	assert_int_equal(wr_account_make(&w->node, &s, &made, NULL), 0);
	assert_false(made);
	w->node.root_mode = true;
	assert_file(w, "userdb/notes.user", NULL);
	/* A group of others needs no record. */
	s.gid = 100;
	make(w, &s);
	assert_file(w, "userdb/notes.group", NULL);
	/* A name of the host. */
	snprintf(s.name, sizeof(s.name), "root");
	refused(w, &s);
	/* A number that was given, of somebody whom the host knows. */
	snprintf(s.name, sizeof(s.name), "notes");
	s.identity = WR_IDENTITY_FIXED;
	s.uid = 1; /* daemon's */
	assert_int_equal(wr_account_make(&w->node, &s, &made, NULL), 0);
	assert_false(made);
	s.identity = WR_IDENTITY_RANGE;
	refused(w, &s);
	wr_settings_fini(&s);
}

static void
test_userdb__others(void **state)
{
	struct world *w = *state;
	struct wr_settings s = project(PROJECT, "notes", 3000000001u);
	struct world other = *w;

	make(w, &s);
	/* Another node of this host. */
	wr_uuid_new(&other.node.id);
	assert_int_equal(wr_accounts_sweep(&other.node, is_project, none, NULL), 0);
	assert_int_equal(wr_account_drop(&other.node, &s, true, NULL), 0);
	refused(&other, &s);
	assert_int_equal(wr_accounts_sweep(&w->node, is_project, first, NULL), 0);
	assert_int_equal(wr_account_drop(&w->node, &s, false, NULL), 0);
	put(w, "userdb/notes.user", "{\"userName\":\"notes\"}");
	put(w, "userdb/3000000001.user", "not even JSON");
	refused(w, &s);
	assert_int_equal(wr_account_drop(&w->node, &s, true, NULL), 0);
	assert_int_equal(wr_accounts_sweep(&w->node, is_project, none, NULL), 0);
	assert_file(w, "userdb/notes.user", "{\"userName\":\"notes\"}");
	assert_file(w, "userdb/3000000001.user", "not even JSON");
	assert_file(w, "userdb/notes.group", NULL);
	wr_settings_fini(&s);
}

/* Killed between a record and its link: the next make mends it, and so does a sweep. */
static void
test_userdb__killed(void **state)
{
	struct world *w = *state;
	struct wr_settings s = project(PROJECT, "notes", 3000000001u);

	/* Crash points are read at the first passage of a process: all of them are the children's,
	 * as long as none is passed here. */
	for (int i = 1; i <= 3; i++) {
		char point[32];
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			bool made;

			snprintf(point, sizeof(point), "ident.record:%d", i % 2 + 1);
			setenv("WARREN_CRASH", point, 1);
			(void)wr_account_make(&w->node, &s, &made, NULL);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		if (i == 3)
			make(w, &s);
		assert_int_equal(wr_accounts_sweep(&w->node, is_project, none, NULL), 0);
		assert_file(w, "userdb/notes.user", NULL);
		assert_file(w, "userdb/notes.group", NULL);
		assert_file(w, "userdb/3000000001.user", NULL);
		assert_file(w, "userdb/3000000001.group", NULL);
	}
	wr_settings_fini(&s);
}

#define PASSWD "root:x:0:0:root:/root:/bin/sh\n+::::::\n\nodd\n"
#define GROUP "root:x:0:\n"
#define OURS "notes:!warren:3000000001:3000000001:warren " PROJECT ":/home/notes:/bin/sh\n"

static void
test_passwd__lines(void **state)
{
	struct world *w = *state;
	struct wr_settings s = project(PROJECT, "notes", 3000000001u),
			   t = project(OTHER, "tables", 3000000002u);

	accounts_by(w, "passwd");
	put(w, "passwd", PASSWD);
	put(w, "group", GROUP);
	make(w, &s);
	make(w, &s);
	assert_file(w, "passwd", PASSWD OURS);
	assert_file(w, "group", GROUP "notes:!warren:3000000001:\n");
	make(w, &t);
	assert_int_equal(wr_account_drop(&w->node, &t, false, NULL), 0); /* stopped: it stays */
	snprintf(s.name, sizeof(s.name), "paper");
	make(w, &s);
	assert_file(w, "group", GROUP "tables:!warren:3000000002:\npaper:!warren:3000000001:\n");
	assert_int_equal(wr_account_drop(&w->node, &s, true, NULL), 0);
	assert_int_equal(wr_account_drop(&w->node, &t, true, NULL), 0);
	assert_int_equal(wr_account_drop(&w->node, &t, true, NULL), 0);
	assert_file(w, "passwd", PASSWD);
	assert_file(w, "group", GROUP);
	wr_settings_fini(&s);
	wr_settings_fini(&t);
}

static void
test_passwd__others(void **state)
{
	struct world *w = *state;
	struct wr_settings s = project(PROJECT, "notes", 3000000001u);
	static const char *const theirs[] = {
	    "notes:x:5:5:::\n",
	    "else:x:3000000001:5:::\n",
	    "notes:!warren:3000000001:3000000001:warren " OTHER ":/:\n",
	};

	accounts_by(w, "passwd");
	for (size_t i = 0; i < WR_ARRAY_LEN(theirs); i++) {
		put(w, "passwd", theirs[i]);
		put(w, "group", GROUP);
		refused(w, &s);
		assert_int_equal(wr_account_drop(&w->node, &s, true, NULL), 0);
		assert_file(w, "passwd", theirs[i]);
	}
	put(w, "passwd", PASSWD);
	put(w, "group", "notes:x:77:\n");
	refused(w, &s);
	assert_file(w, "passwd", PASSWD);
	assert_file(w, "group", "notes:x:77:\n");
	wr_settings_fini(&s);
}

/* What no line can hold is no line. */
static void
test_passwd__colons(void **state)
{
	struct world *w = *state;
	struct wr_settings s = project(PROJECT, "notes", 3000000001u);
	struct wr_err err = WR_ERR_INIT;
	bool made;

	accounts_by(w, "passwd");
	put(w, "passwd", PASSWD);
	put(w, "group", GROUP);
	assert_int_equal(wr_settings_change(&s, "home=/home/a:0:0", false, true, NULL), 0);
	assert_int_equal(wr_account_make(&w->node, &s, &made, &err), -1);
	assert_int_equal(err.code, WR_E_INVALID);
	assert_file(w, "passwd", PASSWD);
	assert_file(w, "group", GROUP);
	wr_settings_fini(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    /* The first: see there. */
	    cmocka_unit_test_setup_teardown(test_userdb__killed, setup, teardown),
	    cmocka_unit_test(test_ident__derived),
	    cmocka_unit_test_setup_teardown(test_ident__taken, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ident__default_range_is_nobodys, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_ident__next, setup, teardown),
	    cmocka_unit_test(test_ident__account_of_the_host),
	    cmocka_unit_test_setup_teardown(test_userdb__make_and_drop, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_userdb__not_for_all, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_userdb__others, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_passwd__lines, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_passwd__others, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_passwd__colons, setup, teardown),
	};

	return cmocka_run_group_tests_name("ident", tests, NULL, NULL);
}
