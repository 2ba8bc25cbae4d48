/* SPDX-License-Identifier: Apache-2.0 */
/* The small files of projects and operations: torn, foreign, newer, cut off while being written. */
#include "host/node/node.h"

#include <dirent.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/str.h"
#include "host/node/test_node.h"
#include "sys/clock.h"

static struct test_root t;
static struct wr_node *node;
static struct wr_uuid id;
static struct wr_place_of place;

static int
setup(void **state)
{
	(void)state;
	t = test_root_new();
	node = test_node_new(&t);
	wr_uuid_new(&id);
	place = test_project(node, &id);
	return wr_conf_fd(&place, NULL) < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	(void)state;
	wr_place_of_fini(&place);
	wr_node_close(node);
	test_root_free(&t);
	return 0;
}

static void
put_at(int dirfd, const char *name, const char *text)
{
	assert_int_equal(wr_replace_file(dirfd, name, text, strlen(text), 0644, NULL), 0);
}

static size_t
count_entries(int dirfd, const char *part)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *e;
	size_t n = 0;

	while ((e = readdir(d)))
		n += strstr(e->d_name, part) != NULL;
	closedir(d);
	return n;
}

static struct wr_settings
some_settings(void)
{
	struct wr_settings s = {.id = id, .name = "thesis", .rev = 1, .epoch = 1};

	s.uid = s.gid = 700001;
	s.created = 1700000000;
	s.set = json_object();
	return s;
}

/* ---- settings ---- */

static void
test_settings(void **state)
{
	struct wr_settings s = some_settings(), back = {0};
	struct wr_err err = WR_ERR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(wr_settings_load(&place, &back, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_ok(wr_settings_store(&place, &s, &err), &err);
	assert_ok(wr_settings_load(&place, &back, &err), &err);
	assert_string_equal(back.name, "thesis");
	assert_int_equal(back.uid, 700001);
	wr_settings_fini(&back);
	assert_int_equal(fstatat(place.conf_fd, "settings.json", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);

	/* Those of another project, brought here by hand. */
	wr_uuid_new(&s.id);
	assert_ok(wr_settings_store(&place, &s, &err), &err);
	assert_int_equal(wr_settings_load(&place, &back, &err), -1);
	assert_int_equal(err.code, WR_E_CORRUPT);
	assert_non_null(strstr(err.msg, s.id.s));
	wr_settings_fini(&s);

	put_at(place.conf_fd, "settings.json", "{\"format\":2}");
	assert_int_equal(wr_settings_load(&place, &back, &err), -1);
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "format 2, this program reads up to 1"));

	assert_int_equal(unlinkat(place.conf_fd, "settings.json", 0), 0);
	assert_int_equal(symlinkat("/etc/hostname", place.conf_fd, "settings.json"), 0);
	assert_int_equal(wr_settings_load(&place, &back, &err), -1);
	assert_non_null(strstr(err.msg, "is a link"));
}

/* A node of the fleet that lies has its settings signed by a hub as all do. */
static void
test_settings__of_others(void **state)
{
	const struct {
		uint32_t uid, gid;
		const char *key, *value;
		bool ok;
	} cases[] = {
	    {700001, 700001, NULL, NULL, true},
	    {0, 700001, NULL, NULL, false},
	    {700001, 0, NULL, NULL, false},
	    {999, 700001, NULL, NULL, false},
	    {700001, 27, NULL, NULL, false},
	    {UINT32_MAX - 1, 700001, NULL, NULL, true},
	    {700001, 700001, "home", "/srv/{name}", true},
	    {700001, 700001, "home", "/root/.ssh", false},
	    {700001, 700001, "home", "/etc", false},
	    {700001, 700001, "home", "/", false},
	    {700001, 700001, "home", "/var/spool/cron/crontabs", false},
	    {700001, 700001, "template", "/etc/skel", true},
	    {700001, 700001, "template", "/root", false},
	    {700001, 700001, "template", "/etc", false},
	};
	struct wr_node n = *place.node;

	(void)state;
	n.root_mode = true; /* nothing is done, only said */
	n.uid = n.gid = 650;
	n.config.replica_uid_first = 1000;
	n.config.replica_uid_last = UINT32_MAX - 1;
	for (size_t i = 0; i < WR_ARRAY_LEN(cases); i++) {
		struct wr_settings s = some_settings(), have = some_settings();
		struct wr_err err = WR_ERR_INIT;

		s.uid = cases[i].uid;
		s.gid = cases[i].gid;
		if (cases[i].key)
			wr_json_str(s.set, cases[i].key, cases[i].value);
		if ((wr_settings_admit(&n, &s, NULL, &err) == 0) != cases[i].ok)
			fail_msg("case %zu: %s", i, err.msg);
		/* Whose it is never changes; paths that were accepted may stay. */
		have.uid = have.gid = 700002;
		assert_int_equal(wr_settings_admit(&n, &s, &have, NULL), -1);
		have.uid = s.uid;
		have.gid = s.gid;
		if (cases[i].key)
			wr_json_str(have.set, cases[i].key, cases[i].value);
		assert_int_equal(wr_settings_admit(&n, &s, &have, NULL), 0);
		wr_settings_fini(&s);
		wr_settings_fini(&have);
	}
}

/* Flags of projects: by kind, listed, and nothing else that lies there. */
static void
test_flags(void **state)
{
	struct wr_node *n = place.node;
	struct wr_uuid a, b, *of;
	struct wr_err err = WR_ERR_INIT;
	WR_SCOPED(wr_json_freep) json_t *packs = json_array();
	WR_SCOPED(wr_json_freep) json_t *back = NULL;
	size_t count;

	(void)state;
	wr_uuid_new(&a);
	wr_uuid_new(&b);
	assert_int_equal(wr_flag_list(n, WR_FLAG_SIDES, &of, &count, &err), 0);
	assert_int_equal(count, 0);
	assert_int_equal(wr_flag_clear(n, WR_FLAG_SIDES, &a, &err), 0);
	for (int i = 0; i < 2; i++) /* twice is once */
		assert_int_equal(wr_flag_set(n, WR_FLAG_SIDES, &a, "", 0, &err), 0);
	assert_true(wr_flag_is(n, WR_FLAG_SIDES, &a));
	assert_false(wr_flag_is(n, WR_FLAG_SIDES, &b));
	assert_false(wr_flag_is(n, WR_FLAG_DAMAGED, &a));
	assert_int_equal(mkdirat(n->state_fd, "sides/x", 0700), 0);
	assert_int_equal(wr_flag_list(n, WR_FLAG_SIDES, &of, &count, &err), 0);
	assert_int_equal(count, 1);
	assert_string_equal(of[0].s, a.s);
	free(of);
	assert_int_equal(wr_flag_clear(n, WR_FLAG_SIDES, &a, &err), 0);
	assert_false(wr_flag_is(n, WR_FLAG_SIDES, &a));
	/* One that says more. */
	json_array_append_new(packs, json_string("pack-1"));
	assert_int_equal(wr_damage_set(n, &b, packs, &err), 0);
	back = wr_damage_packs(n, &b);
	assert_true(json_equal(back, packs));
	assert_int_equal(wr_damage_set(n, &b, NULL, &err), 0);
	assert_null(wr_damage_packs(n, &b));
	assert_true(wr_flag_is(n, WR_FLAG_DAMAGED, &b));
}

static void
test_file__bounds(void **state)
{
	WR_SCOPED(wr_freep) char *big = wr_malloc((64u << 10) + 1);
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	memset(big, 'x', 64u << 10);
	big[64u << 10] = '\0';
	wr_json_str(o, "text", big);
	assert_int_equal(wr_file_store(place.conf_fd, "big.json", o, 64u << 10, 0644, true, &err),
			 -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	put_at(place.conf_fd, "big.json", "x");
	{
		int fd = openat(place.conf_fd, "big.json", O_WRONLY | O_CLOEXEC);

		assert_int_equal(ftruncate(fd, 1 << 30), 0);
		close(fd);
	}
	assert_null(wr_file_load(place.conf_fd, "big.json", 64u << 10, "format", 1, &err));
	assert_int_equal(err.code, WR_E_CORRUPT);
	assert_non_null(strstr(err.msg, "larger than"));
}

/* ---- state ---- */

static void
assert_state_unreadable(enum wr_err_code code)
{
	struct wr_status s;

	wr_status_load(&place, &s);
	assert_int_equal(s.state, WR_ST_ERROR);
	assert_int_equal(s.error.code, code);
	assert_non_null(strstr(s.error.msg, "cannot be read"));
	assert_string_not_equal(s.error.hint, "");
	assert_string_equal(s.node, node->id.s);
}

static void
test_state(void **state)
{
	struct wr_status s, back;
	struct wr_err err = WR_ERR_INIT;
	struct stat st;

	(void)state;
	wr_status_load(&place, &s);
	assert_int_equal(s.state, WR_ST_STOPPED);
	assert_int_equal(fstat(place.conf_fd, &st), 0);
	assert_int_equal(s.when, st.st_mtim.tv_sec);

	s.state = WR_ST_RUNNING;
	s.active = true;
	s.when = 1700000000;
	assert_ok(wr_status_store(&place, &s, true, &err), &err);
	wr_status_load(&place, &back);
	assert_int_equal(back.state, WR_ST_RUNNING);
	assert_true(back.active);
	assert_int_equal(back.when, 1700000000);
	s.done = 7;
	for (int i = 0; i < 50; i++)
		assert_ok(wr_status_store(&place, &s, false, &err), &err);
	assert_int_equal(count_entries(place.conf_fd, "state.json"), 1);
}

static void
test_state__unreadable(void **state)
{
	static const char whole[] =
	    "{\"v\":1,\"state\":\"running\",\"when\":\"2026-11-22T10:00:00Z\"";

	(void)state;
	for (size_t n = 0; n < sizeof(whole); n++) {
		WR_SCOPED(wr_freep) char *torn = wr_strdup(whole);

		torn[n < sizeof(whole) - 1 ? n : sizeof(whole) - 1] = '\0';
		put_at(place.conf_fd, "state.json", torn);
		assert_state_unreadable(WR_E_CORRUPT);
	}
	put_at(place.conf_fd, "state.json", "\x80\x81garbage");
	assert_state_unreadable(WR_E_CORRUPT);
	put_at(place.conf_fd, "state.json", "[]");
	assert_state_unreadable(WR_E_CORRUPT);
	put_at(place.conf_fd, "state.json", "{\"v\":2,\"state\":\"running\"}");
	assert_state_unreadable(WR_E_UNSUPPORTED);
	assert_int_equal(unlinkat(place.conf_fd, "state.json", 0), 0);
	assert_int_equal(mkfifoat(place.conf_fd, "state.json", 0644), 0);
	assert_state_unreadable(WR_E_CORRUPT);
	assert_int_equal(unlinkat(place.conf_fd, "state.json", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", place.conf_fd, "state.json"), 0);
	assert_state_unreadable(WR_E_CORRUPT);
}

/* ---- the lifecycle lock ---- */

static void
test_life_lock(void **state)
{
	struct wr_place_of other = WR_PLACE_OF_INIT;
	struct wr_lock a = WR_LOCK_INIT, b = WR_LOCK_INIT;
	struct wr_settings s = some_settings();
	WR_SCOPED(wr_freep) char *since = wr_strdup(wr_fmt_utc(wr_clock_wall().s - 12).s);
	WR_SCOPED(wr_freep)
	char *note =
	    wr_asprintf("op %s save by uid 1000 since %s pid %d", id.s, since, (int)getpid());
	WR_SCOPED(wr_freep) char *seen = NULL;
	WR_SCOPED(wr_freep) char *text = NULL;
	struct wr_err err = WR_ERR_INIT;
	char *none;

	(void)state;
	assert_ok(wr_place_of_find(node, &id, &other, &err), &err);
	assert_ok(wr_settings_store(&place, &s, &err), &err);
	wr_settings_fini(&s);
	assert_false(wr_life_lock_held(&place, &none));
	assert_null(none);
	assert_ok(wr_life_lock(&place, 0, note, &a, &err), &err);
	assert_true(wr_life_lock_held(&other, &seen));
	assert_string_equal(seen, note);
	assert_int_equal(wr_life_lock(&other, 0, "x", &b, &err), -1);
	assert_int_equal(err.code, WR_E_BUSY);
	since[19] = '\0';
	text = wr_asprintf("project 'thesis' is busy: save by uid 1000 since %s (1", since + 11);
	if (strncmp(err.msg, text, strlen(text)) != 0)
		fail_msg("'%s', not '%s...'", err.msg, text);
	assert_ok(wr_lock_note(&a, "strange \x1b[1m note", &err), &err);
	assert_int_equal(wr_life_lock(&other, 0, "x", &b, &err), -1);
	assert_null(strchr(err.msg, '\x1b'));
	assert_non_null(strstr(err.msg, "strange"));
	wr_lock_drop(&a);
	assert_false(wr_life_lock_held(&other, &none));
	assert_ok(wr_life_lock(&other, 0, "x", &b, &err), &err);
	wr_lock_drop(&b);
	wr_place_of_fini(&other);
}

/* Many who only ask never refuse the one who takes. */
static void
test_life_lock__probes(void **state)
{
	unsigned refused = 0;
	pid_t pid[2];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0) {
			struct wr_place_of p = WR_PLACE_OF_INIT;
			char *note;

			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			alarm(30);
			if (wr_place_of_find(node, &id, &p, NULL) < 0)
				_exit(1);
			for (;;) {
				(void)wr_life_lock_held(&p, &note);
				free(note);
			}
		}
	}
	for (unsigned i = 0; i < 300; i++) {
		struct wr_lock l = WR_LOCK_INIT;

		refused += wr_life_lock(&place, 0, "op", &l, NULL) < 0;
		wr_lock_drop(&l);
	}
	for (size_t i = 0; i < 2; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	assert_int_equal(refused, 0);
}

static void
test_life_lock__dead_holder(void **state)
{
	const struct timespec old[2] = {{1000, 0}, {1000, 0}};
	struct wr_lock l = WR_LOCK_INIT;
	struct wr_err err = WR_ERR_INIT;
	char *note;

	(void)state;
	crash_at("file.replace-written:1", "locked-write", t.dir);
	assert_false(wr_life_lock_held(&place, &note));
	assert_int_equal(count_entries(place.conf_fd, "state.json.tmp-"), 1);
	put_at(place.conf_fd, "new.tmp-aaaaaaaaaaaa", "being written");
	/* Age what the dead one left. */
	{
		int fd = openat(place.conf_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fdopendir(fd);
		struct dirent *e;

		while ((e = readdir(d)))
			if (strstr(e->d_name, "state.json.tmp-"))
				assert_int_equal(utimensat(place.conf_fd, e->d_name, old, 0), 0);
		closedir(d);
	}
	assert_ok(wr_life_lock(&place, 0, "op", &l, &err), &err);
	assert_int_equal(count_entries(place.conf_fd, "state.json.tmp-"), 0);
	assert_int_equal(count_entries(place.conf_fd, "new.tmp-"), 1);
	wr_lock_drop(&l);
}

/* ---- the work record ---- */

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static struct wr_work
some_work(void)
{
	struct wr_work w = {.base = COMMIT, .dirty = true};

	memcpy(w.saving, id.s, sizeof(w.saving));
	w.applying.on = true;
	memcpy(w.applying.op, id.s, sizeof(w.applying.op));
	memcpy(w.applying.commit, COMMIT, sizeof(w.applying.commit));
	w.applying.path = wr_strdup("d\xffr/\n\"x");
	w.applying.delete_extra = true;
	w.applying.overwrite = 2;
	w.deleted = true;
	w.deleted_at = 1700000000;
	return w;
}

static void
test_work(void **state)
{
	struct wr_work w = some_work(), back;
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_ok(wr_work_load(node, &id, &back, &err), &err);
	assert_string_equal(back.base, "");
	assert_false(back.dirty || back.applying.on || back.deleted || back.purged);
	assert_ok(wr_work_store(node, &id, &w, &err), &err);
	assert_ok(wr_work_load(node, &id, &back, &err), &err);
	assert_string_equal(back.base, COMMIT);
	assert_true(back.dirty);
	assert_string_equal(back.saving, id.s);
	assert_true(back.applying.on);
	assert_string_equal(back.applying.commit, COMMIT);
	assert_string_equal(back.applying.path, w.applying.path);
	assert_null(back.applying.dest);
	assert_true(back.applying.delete_extra);
	assert_int_equal(back.applying.overwrite, 2);
	assert_true(back.deleted);
	assert_int_equal(back.deleted_at, 1700000000);
	assert_false(back.purged);
	wr_work_fini(&w);
	wr_work_fini(&back);
	wr_work_fini(&back);
}

static void
test_work__garbage(void **state)
{
#define REST "\"applying\":null,\"deleted\":null,\"purged\":false}"
	static const char *const bad[] = {
	    "",
	    "{",
	    "garbage",
	    "[]",
	    "{\"format\":1}",
	    "{\"format\":1,\"base\":\"xyz\",\"dirty\":false,\"saving\":\"\"," REST,
	    "{\"format\":1,\"base\":\"\",\"dirty\":0,\"saving\":\"\"," REST,
	    "{\"format\":1,\"base\":\"\",\"dirty\":false,\"saving\":\"..\"," REST,
	    "{\"format\":1,\"base\":\"\",\"dirty\":false,\"saving\":\"\",\"applying\":{},"
	    "\"deleted\":null,\"purged\":false}",
	    "{\"format\":1,\"base\":\"\",\"dirty\":false,\"saving\":\"\",\"deleted\":null}",
	};
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s", id.s);
	struct wr_err err = WR_ERR_INIT;
	struct wr_work w;

	(void)state;
	put_at(node->state_fd, name,
	       "{\"format\":1,\"base\":\"\",\"dirty\":false,\"saving\":\"\"," REST);
	assert_ok(wr_work_load(node, &id, &w, &err), &err);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		put_at(node->state_fd, name, bad[i]);
		if (wr_work_load(node, &id, &w, &err) == 0 || err.code != WR_E_CORRUPT)
			fail_msg("%zu: '%s' was taken (%s)", i, bad[i], err.msg);
		assert_non_null(strstr(err.msg, id.s));
		assert_non_null(strstr(err.hint, "nothing touches them"));
	}
	put_at(node->state_fd, name, "{\"format\":2}");
	assert_int_equal(wr_work_load(node, &id, &w, &err), -1);
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	/* A lost directory is not an empty record. */
	assert_int_equal(wr_remove_tree(node->state_fd, "control", NULL), 0);
	assert_int_equal(wr_work_load(node, &id, &w, &err), -1);
}

static void
test_work__cut_off(void **state)
{
	static const struct {
		const char *point;
		bool fresh;
	} points[] = {{"work.store", false},
		      {"file.replace-written", false},
		      {"file.replace-renamed", true},
		      {"work.stored", true}};
	struct wr_work w = {0};
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		assert_ok(wr_work_store(node, &id, &w, &err), &err);
		crash_at(points[i].point, "work", t.dir);
		assert_ok(wr_work_load(node, &id, &w, &err), &err);
		assert_int_equal(w.dirty, points[i].fresh);
		w = (struct wr_work){0};
	}
}

/* ---- operations ---- */

static void
test_opdir(void **state)
{
	WR_SCOPED(wr_json_freep) json_t *request = json_object();
	WR_SCOPED(wr_json_freep) json_t *back = NULL;
	WR_SCOPED(wr_json_freep) json_t *result = json_object();
	WR_SCOPED(wr_json_freep) json_t *seen = NULL;
	struct wr_err err = WR_ERR_INIT;
	struct wr_status s = {.state = WR_ST_SAVING,
			      .when = 5,
			      .unit = "files",
			      .done = 3,
			      .epoch = 1},
			 s2;
	struct wr_uuid op;
	int fd;

	(void)state;
	wr_uuid_new(&op);
	wr_json_str(request, "kind", "save");
	assert_ok(wr_opdir_make(node, &op, request, &err), &err);
	assert_null(json_object_get(request, "format"));
	assert_int_equal(wr_opdir_make(node, &op, request, &err), -1);
	assert_int_equal(err.code, WR_E_EXISTS);
	fd = wr_opdir_open(node, &op, &err);
	assert_true(fd >= 0);
	back = wr_opdir_request(fd, &err);
	assert_non_null(back);
	assert_string_equal(wr_json_get_str(back, "kind", ""), "save");
	assert_string_equal(wr_json_get_str(back, "id", ""), op.s);
	assert_int_equal(wr_json_get_u64(back, "format", 0), 1);

	assert_null(wr_opdir_result(fd, &err));
	assert_int_equal(err.code, WR_E_NOT_FOUND);
	assert_int_equal(wr_opdir_progress(fd, &s2, &err), -1);
	assert_ok(wr_opdir_progress_store(fd, &s, &err), &err);
	assert_ok(wr_opdir_progress(fd, &s2, &err), &err);
	assert_int_equal(s2.done, 3);
	wr_json_bool(result, "ok", true);
	assert_ok(wr_opdir_result_store(fd, result, &err), &err);
	seen = wr_opdir_result(fd, &err);
	assert_true(wr_json_get_bool(seen, "ok", false));
	assert_int_equal(wr_opdir_result_store(fd, result, &err), -1);
	assert_int_equal(err.code, WR_E_EXISTS);
	close(fd);
	assert_ok(wr_opdir_drop(node, &op, &err), &err);
	assert_ok(wr_opdir_drop(node, &op, &err), &err);
	assert_int_equal(wr_opdir_open(node, &op, &err), -1);
	assert_int_equal(err.code, WR_E_NOT_FOUND);
}

static void
test_opdir__cut_off(void **state)
{
	static const struct {
		const char *point;
		bool fresh;
	} points[] = {
	    {"result.store", false}, {"file.replace-written", false}, {"result.stored", true}};
	WR_SCOPED(wr_json_freep) json_t *request = json_object();
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		WR_SCOPED(wr_json_freep) json_t *seen = NULL;
		WR_SCOPED(wr_closep) int fd = -1;

		assert_ok(wr_opdir_drop(node, &id, &err), &err);
		assert_ok(wr_opdir_make(node, &id, request, &err), &err);
		crash_at(points[i].point, "result", t.dir);
		fd = wr_opdir_open(node, &id, &err);
		seen = wr_opdir_result(fd, &err);
		assert_int_equal(seen != NULL, points[i].fresh);
	}
}

static void
test_oplog__flood(void **state)
{
	static char chunk[64u << 10];
	struct wr_err err = WR_ERR_INIT;
	struct wr_oplog *l;
	struct stat st;
	int fd, left;

	(void)state;
	memset(chunk, 'y', sizeof(chunk));
	for (int round = 0; round < 2; round++) {
		assert_ok(wr_oplog_begin(place.conf_fd, "log", &l, &fd, &err), &err);
		for (int i = 0; i < 64; i++) /* 4 MiB */
			assert_int_equal(wr_write_all(fd, chunk, sizeof(chunk)), 0);
		close(fd);
		wr_oplog_end(l);
		assert_int_equal(fstatat(place.conf_fd, "log", &st, 0), 0);
		assert_true(st.st_size <= 1 << 20);
		assert_true(st.st_size > (1 << 20) - 100);
	}
	/* The end does not wait for those who hold the pipe, and takes what they wrote. */
	assert_ok(wr_oplog_begin(place.conf_fd, "small", &l, &fd, &err), &err);
	left = dup(fd);
	assert_int_equal(wr_write_all(fd, "last words\n", 11), 0);
	wr_oplog_end(l);
	close(left);
	close(fd);
	assert_int_equal(fstatat(place.conf_fd, "small", &st, 0), 0);
	assert_int_equal(st.st_size, 11);
}

/* What a test lets end in the middle; arg is the directory of a test's root with one project. */
static int
do_it(const char *what, const char *arg)
{
	WR_SCOPED(wr_freep) char *root = wr_asprintf("%s/r", arg);
	WR_SCOPED(wr_json_freep) json_t *result = json_object();
	struct wr_lock l = WR_LOCK_INIT;
	struct wr_work w = {.dirty = true};
	struct wr_status s = {.state = WR_ST_SAVING};
	struct dirent *e;
	DIR *d;

	if (wr_node_open(root, 0, &node, NULL) < 0)
		return 1;
	d = fdopendir(dup(node->volume[0].repos_fd));
	while ((e = readdir(d)) && !wr_uuid_parse(e->d_name, &id))
		;
	if (!strcmp(what, "work"))
		return wr_work_store(node, &id, &w, NULL);
	if (!strcmp(what, "result"))
		return wr_opdir_result_store(wr_opdir_open(node, &id, NULL), result, NULL);
	return wr_place_of_find(node, &id, &place, NULL) < 0 ||
	       wr_life_lock(&place, 0, "op", &l, NULL) < 0 ||
	       wr_status_store(&place, &s, true, NULL) < 0;
}

#define FILES_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int
run_all(void)
{
	const struct CMUnitTest tests[] = {
	    FILES_TEST(test_settings),
	    FILES_TEST(test_settings__of_others),
	    FILES_TEST(test_flags),
	    FILES_TEST(test_file__bounds),
	    FILES_TEST(test_state),
	    FILES_TEST(test_state__unreadable),
	    FILES_TEST(test_life_lock),
	    FILES_TEST(test_life_lock__probes),
	    FILES_TEST(test_life_lock__dead_holder),
	    FILES_TEST(test_work),
	    FILES_TEST(test_work__garbage),
	    FILES_TEST(test_work__cut_off),
	    FILES_TEST(test_opdir),
	    FILES_TEST(test_opdir__cut_off),
	    FILES_TEST(test_oplog__flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int
main(int argc, char **argv)
{
	return argc == 4 && !strcmp(argv[1], "@do") ? do_it(argv[2], argv[3]) : run_all();
}
