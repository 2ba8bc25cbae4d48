/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: the table, changes as typed, the file. */
#include "model/settings.h"

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#define ID "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"

static struct wr_settings
make(void)
{
	struct wr_settings s = {.id = {ID},
				.name = "zoe",
				.rev = 1,
				.epoch = 1,
				.uid = 700000,
				.gid = 700000,
				.exclusive = true,
				.created = 1795342530,
				.set = json_object()};

	return s;
}

static void
change(struct wr_settings *s, const char *assignment)
{
	struct wr_err err = WR_ERR_INIT;

	if (wr_settings_change(s, assignment, false, false, &err) < 0)
		fail_msg("%s: %s", assignment, err.msg);
}

static json_t *
parse(const char *text)
{
	json_t *o = wr_json_parse(text, strlen(text), NULL);

	assert_non_null(o);
	return o;
}

static void
test_table__is_sorted_and_its_defaults_are_values(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	const char *before = "";

	(void)state;
	for (const struct wr_set_key *k = wr_set_keys; k->key; k++) {
		assert_true(strcmp(before, k->key) < 0);
		before = k->key;
		assert_ptr_equal(wr_set_key_find(k->key), k);
		assert_true(k->help && *k->help);
		if (k->fallback) {
			char *text = wr_asprintf("%s=%s", k->key, k->fallback);

			assert_int_equal(wr_settings_change(&s, text, false, true, NULL), 0);
			free(text);
		}
	}
	assert_null(wr_set_key_find("nothing"));
	/* A default that was set is no difference. */
	assert_int_equal(json_object_size(s.set), 0);
}

static void
test_values__defaults(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	const char *const *list;

	(void)state;
	assert_int_equal(wr_settings_u64(&s, "disk"), (uint64_t)3000 << 20);
	assert_int_equal(wr_settings_u64(&s, "inodes"), 200000);
	assert_int_equal(wr_settings_u64(&s, "idle_timeout"), 0);
	assert_int_equal(wr_settings_u64(&s, "save_every"), 300);
	assert_int_equal(wr_settings_u64(&s, "max_file_size"), (uint64_t)1 << 40);
	assert_false(wr_settings_bool(&s, "autostart"));
	assert_string_equal(wr_settings_str(&s, "command"), "");
	assert_string_equal(wr_settings_str(&s, "snapshots_link"), ".snapshots");
	assert_int_equal(wr_settings_list(&s, "exclude", &list), 0);
	free((void *)(uintptr_t)list);
}

static void
test_values__changed(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	const char *const *list;

	(void)state;
	change(&s, "disk=4G");
	change(&s, "save_every=90s");
	change(&s, "idle_timeout=never");
	change(&s, "autostart=yes");
	change(&s, "command=sleep 1000; echo a=b");
	change(&s, "exclude=*.o,[ab].tmp,cache/");
	change(&s, "env=[\"A=1\",\"B=x y\"]");
	change(&s, "snapshots_link=\"\"");
	assert_int_equal(wr_settings_u64(&s, "disk"), (uint64_t)4 << 30);
	assert_int_equal(wr_settings_u64(&s, "save_every"), 90);
	assert_true(wr_settings_bool(&s, "autostart"));
	assert_string_equal(wr_settings_str(&s, "command"), "sleep 1000; echo a=b");
	assert_string_equal(wr_settings_str(&s, "snapshots_link"), "");
	assert_int_equal(wr_settings_list(&s, "exclude", &list), 3);
	assert_string_equal(list[1], "[ab].tmp");
	assert_null(list[3]);
	free((void *)(uintptr_t)list);
	assert_int_equal(wr_settings_list(&s, "env", &list), 2);
	assert_string_equal(list[1], "B=x y");
	free((void *)(uintptr_t)list);
	/* Seven that differ: idle_timeout was never before. */
	assert_int_equal(s.rev, 8);
	change(&s, "disk=4096M");
	assert_int_equal(s.rev, 8);
	change(&s, "disk=");
	assert_int_equal(s.rev, 9);
	assert_int_equal(wr_settings_u64(&s, "disk"), (uint64_t)3000 << 20);
	assert_null(json_object_get(s.set, "disk"));
}

static void
test_change__errors_name_the_field(void **state)
{
	static const struct {
		const char *text, *says, *hint;
	} bad[] = {
	    {"disk=12X", "setting 'disk': '12X' is no size", "sizes are written 500M, 4G"},
	    {"disk=12", "setting 'disk': '12' is too small", "disk is at least 1M"},
	    {"disk=-1", "setting 'disk': '-1' is no size", ""},
	    {"disk=8192P", "'8192P' is too large", ""},
	    {"save_every=5 min", "setting 'save_every': '5 min' is no duration", "5min"},
	    {"save_every=1000000w", "is too large", "at most 3650d"},
	    {"inodes=many", "setting 'inodes': 'many' is no number", "at least 100"},
	    {"cpu_weight=0", "setting 'cpu_weight': '0' is too small", "from 1 to 10000"},
	    {"cpu_weight=10001", "is too large", "from 1 to 10000"},
	    {"autostart=maybe", "setting 'autostart': 'maybe' is neither yes nor no", "yes or no"},
	    {"home=relative", "is no absolute, clean path", "without '//'"},
	    {"home=/a/../b", "is no absolute, clean path", ""},
	    {"home=/a//b", "is no absolute, clean path", ""},
	    {"home=/a/", "is no absolute, clean path", ""},
	    {"home=/", "is no absolute, clean path", ""},
	    {"home=/./a", "is no absolute, clean path", ""},
	    {"command=a\x01", "setting 'command': 'a\\x01' is not text", "control characters"},
	    {"command=\xff", "is not text", ""},
	    {"snapshots_link=a/b", "is no name of a file in the home", ""},
	    {"snapshots_link=..", "is no name of a file in the home", ""},
	    {"env=1A=x", "'1A=x' is not NAME=VALUE", ""},
	    {"env=novalue", "'novalue' is not NAME=VALUE", ""},
	    {"env==x", "is not NAME=VALUE", ""},
	    {"env=WARREN_TOKEN=x", "has a name that Warren itself sets", ""},
	    {"exclude=a,,b", "'' is no item of a list", ""},
	    {"exclude=a,", "'' is no item of a list", ""},
	    {"exclude=[1]", "'[1]' is no list of texts", ""},
	    {"exclude=[\"a,b\"]", "'a,b' is no item of a list", ""},
	    {"name=UP", "setting 'name': name 'UP' does not begin", "names have"},
	    {"label.=x", "'' is no key of a label", ""},
	    {"dsik=1G", "unknown setting 'dsik'", "did you mean 'disk'?"},
	    {"xyzzy=1G", "unknown setting 'xyzzy'", "lists all of them"},
	    {"=1G", "unknown setting ''", ""},
	    {"disk", "'disk' is no assignment", "KEY=VALUE"},
	    {"split_bits=14", "setting 'split_bits' is decided when", ""},
	};
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	struct wr_err err = WR_ERR_INIT;
	char *text, *after;

	(void)state;
	change(&s, "disk=1G");
	text = json_dumps(s.set, 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		if (wr_settings_change(&s, bad[i].text, false, false, &err) != -1)
			fail_msg("%s was taken", bad[i].text);
		assert_int_equal(err.code, WR_E_INVALID);
		if (!strstr(err.msg, bad[i].says) || !strstr(err.hint, bad[i].hint))
			fail_msg("%s: %s (%s)", bad[i].text, err.msg, err.hint);
	}
	after = json_dumps(s.set, 0);
	assert_string_equal(text, after);
	assert_string_equal(s.name, "zoe");
	assert_int_equal(s.rev, 2);
	free(text);
	free(after);
}

static void
test_change__bounds_of_texts_and_lists(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	(void)state;
	wr_buf_adds(&b, "command=");
	for (int i = 0; i < 4096; i++)
		wr_buf_add8(&b, 'x');
	change(&s, wr_buf_str(&b));
	wr_buf_add8(&b, 'x');
	assert_int_equal(wr_settings_change(&s, wr_buf_str(&b), false, false, NULL), -1);
	wr_buf_clear(&b);
	wr_buf_adds(&b, "exclude=");
	for (int i = 0; i < 8191; i++)
		wr_buf_adds(&b, "x,");
	wr_buf_adds(&b, "x");
	change(&s, wr_buf_str(&b));
	wr_buf_adds(&b, ",x");
	assert_int_equal(wr_settings_change(&s, wr_buf_str(&b), false, false, NULL), -1);
}

static void
test_change__who_may(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	struct wr_err err = WR_ERR_INIT;

	(void)state;
	assert_int_equal(wr_settings_change(&s, "exclude=*.o", true, false, &err), 0);
	assert_int_equal(wr_settings_change(&s, "description=mine", true, false, &err), 0);
	assert_int_equal(wr_settings_change(&s, "disk=1T", true, false, &err), -1);
	assert_int_equal(err.code, WR_E_DENIED);
	assert_non_null(strstr(err.msg, "'disk'"));
	assert_int_equal(wr_settings_change(&s, "name=bob", true, false, &err), -1);
	assert_int_equal(err.code, WR_E_DENIED);
	assert_int_equal(wr_settings_change(&s, "label.a=b", true, false, &err), -1);
	assert_int_equal(err.code, WR_E_DENIED);
	assert_int_equal(wr_settings_change(&s, "split_bits=14", false, true, &err), 0);
	assert_int_equal(wr_settings_u64(&s, "split_bits"), 14);
}

static void
test_labels__sorted_replaced_removed(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	struct wr_settings copy WR_SCOPED(wr_settings_fini) = {0};
	struct wr_err err = WR_ERR_INIT;
	char text[32];

	(void)state;
	change(&s, "label.course=math");
	change(&s, "label.a=1");
	change(&s, "label.z=\"\"");
	change(&s, "label.course=logic=hard");
	assert_int_equal(s.label_count, 3);
	assert_string_equal(s.label[0].key, "a");
	assert_string_equal(s.label[1].value, "logic=hard");
	assert_string_equal(s.label[2].value, "");
	wr_settings_copy(&copy, &s);
	change(&s, "label.a=");
	change(&s, "label.none=");
	assert_int_equal(s.label_count, 2);
	assert_string_equal(s.label[0].key, "course");
	assert_int_equal(copy.label_count, 3);
	for (int i = 0; i < 62; i++) {
		snprintf(text, sizeof(text), "label.n%d=x", i);
		change(&s, text);
	}
	assert_int_equal(wr_settings_change(&s, "label.many=x", false, false, &err), -1);
	assert_int_equal(err.code, WR_E_LIMIT);
	change(&s, "label.n1=y");
}

static void
test_home__prefix_only_for_the_default(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	char *home = wr_settings_home(&s, "/srv/root");

	(void)state;
	assert_string_equal(home, "/srv/root/home/zoe");
	free(home);
	change(&s, "home=/u/{id}/{name}/{x}");
	home = wr_settings_home(&s, "/srv/root");
	assert_string_equal(home, "/u/" ID "/zoe/{x}");
	free(home);
}

static void
test_file__there_and_back(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	struct wr_settings back WR_SCOPED(wr_settings_fini) = {0};
	struct wr_err err = WR_ERR_INIT;
	json_t *o, *again;

	(void)state;
	snprintf(s.account, sizeof(s.account), "zoe");
	change(&s, "disk=4G");
	change(&s, "label.k=v");
	change(&s, "exclude=a,b");
	wr_json_take(s.set, "of_a_later_release", json_string("kept"));
	o = wr_settings_json(&s);
	assert_int_equal(wr_settings_parse(o, &back, &err), 0);
	again = wr_settings_json(&back);
	assert_true(json_equal(o, again));
	assert_string_equal(
	    wr_json_get_str(json_object_get(again, "settings"), "of_a_later_release", ""), "kept");
	json_decref(o);
	json_decref(again);
}

static void
test_file__malformed_members_are_named(void **state)
{
	static const char good[] = "{\"format\":1,\"id\":\"" ID
				   "\",\"name\":\"zoe\",\"rev\":1,\"epoch\":1,\"uid\":5,\"gid\":5,"
				   "\"exclusive\":true,\"account\":\"\",\"created\":\"2026-11-"
				   "22T10:15:30Z\",\"labels\":{},"
				   "\"settings\":{}}";
	static const struct {
		const char *member, *value, *says;
	} bad[] = {
	    {"format", "\"1\"", "'format'"},
	    {"id", "\"x\"", "'id'"},
	    {"name", "\"../x\"", "'name'"},
	    {"rev", "0", "'rev'"},
	    {"epoch", "-1", "'epoch'"},
	    {"uid", "4294967295", "'uid'"},
	    {"gid", "-1", "'gid'"},
	    {"exclusive", "1", "'exclusive'"},
	    {"account", "\"a:b\"", "'account'"},
	    {"created", "\"yesterday\"", "'created'"},
	    {"labels", "[]", "'labels'"},
	    {"labels", "{\"A\":\"x\"}", "'labels'"},
	    {"labels", "{\"a\":1}", "'labels'"},
	    {"settings", "null", "'settings'"},
	    {"settings", "{\"disk\":\"4G\"}", "setting 'disk'"},
	    {"settings", "{\"disk\":-4}", "setting 'disk'"},
	    {"settings", "{\"disk\":5}", "setting 'disk': '5' is too small"},
	    {"settings", "{\"autostart\":1}", "setting 'autostart'"},
	    {"settings", "{\"exclude\":\"a\"}", "setting 'exclude'"},
	    {"settings", "{\"exclude\":[1]}", "setting 'exclude'"},
	    {"settings", "{\"home\":\"/a/..\"}", "setting 'home'"},
	    {"settings", "{\"command\":[]}", "setting 'command'"},
	};
	struct wr_settings s WR_SCOPED(wr_settings_fini) = {0};
	struct wr_err err = WR_ERR_INIT;
	json_t *o = parse(good);

	(void)state;
	assert_int_equal(wr_settings_parse(o, &s, &err), 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(bad); i++) {
		json_t *hurt = json_deep_copy(o);

		wr_json_take(hurt, bad[i].member, parse(bad[i].value));
		assert_int_equal(wr_settings_parse(hurt, &s, &err), -1);
		assert_int_equal(err.code, WR_E_CORRUPT);
		if (!strstr(err.msg, bad[i].says))
			fail_msg("%s: %s", bad[i].says, err.msg);
		json_decref(hurt);
	}
	wr_json_u64(o, "format", 2);
	assert_int_equal(wr_settings_parse(o, &s, &err), -1);
	assert_int_equal(err.code, WR_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "format 2, this program reads up to 1"));
	json_decref(o);
}

static void
test_show__every_key_with_text(void **state)
{
	struct wr_settings s WR_SCOPED(wr_settings_fini) = make();
	json_t *all, *o;
	size_t n = 0;

	(void)state;
	change(&s, "disk=4G");
	change(&s, "exclude=a,b");
	all = wr_settings_show(&s);
	for (const struct wr_set_key *k = wr_set_keys; k->key; k++, n++)
		assert_true(json_is_object(json_object_get(all, k->key)));
	assert_int_equal(json_object_size(all), n);
	o = json_object_get(all, "disk");
	assert_string_equal(wr_json_get_str(o, "text", ""), "4G");
	assert_int_equal(wr_json_get_u64(o, "value", 0), (uint64_t)4 << 30);
	assert_false(wr_json_get_bool(o, "default", true));
	o = json_object_get(all, "idle_timeout");
	assert_string_equal(wr_json_get_str(o, "text", ""), "never");
	assert_true(wr_json_get_bool(o, "default", false));
	assert_string_equal(wr_json_get_str(json_object_get(all, "exclude"), "text", ""), "a,b");
	assert_string_equal(wr_json_get_str(json_object_get(all, "memory"), "text", ""), "2G");
	json_decref(all);
}

static void
test_cpu__parts_of_processors(void **state)
{
	static const struct {
		const char *text;
		uint64_t percent; /* 0: refused */
	} c[] = {{"2", 200},     {"0.5", 50},        {"1.25", 125}, {"50%", 50}, {"350%", 350},
		 {"0.01", 1},    {"1000", 100000},   {"0", 0},      {"", 0},     {"%", 0},
		 {"1000.01", 0}, {"100001%", 0},     {"1.", 0},     {".5", 0},   {"1.234", 0},
		 {"-1", 0},      {"99999999999", 0}, {"2 ", 0},     {"1.5%", 0}, {"max", 0}};

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(c); i++) {
		uint64_t percent = 0;

		if (wr_cpu_parse(c[i].text, &percent) != (c[i].percent > 0) ||
		    percent != c[i].percent)
			fail_msg("'%s': %" PRIu64, c[i].text, percent);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table__is_sorted_and_its_defaults_are_values),
	    cmocka_unit_test(test_values__defaults),
	    cmocka_unit_test(test_values__changed),
	    cmocka_unit_test(test_change__errors_name_the_field),
	    cmocka_unit_test(test_change__bounds_of_texts_and_lists),
	    cmocka_unit_test(test_change__who_may),
	    cmocka_unit_test(test_labels__sorted_replaced_removed),
	    cmocka_unit_test(test_home__prefix_only_for_the_default),
	    cmocka_unit_test(test_file__there_and_back),
	    cmocka_unit_test(test_file__malformed_members_are_named),
	    cmocka_unit_test(test_show__every_key_with_text),
	    cmocka_unit_test(test_cpu__parts_of_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
