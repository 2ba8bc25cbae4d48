/* SPDX-License-Identifier: Apache-2.0 */
/* Real nodes with real files: founded, joined, damaged, killed in between. The hub's side of a join
 * is done here with fleet/trust and fleet/record. */
#include "host/auth/auth.h"

#include <signal.h>

#include "base/test_ok.h"
#include "fleet/trust/trust.h"
#include "host/node/test_node.h"
#include "sys/clock.h"

/* A hub with its fleet, and a second host. */
static struct test_root hub_root, host_root;
static struct wr_node *hub, *host;
static struct wr_auth *hub_auth;

static int
setup_node(void **state)
{
	(void)state;
	hub_root = test_root_new();
	hub = test_node_new(&hub_root);
	return 0;
}

static int
teardown_node(void **state)
{
	(void)state;
	wr_node_close(hub);
	test_root_free(&hub_root);
	return 0;
}

static int
setup_fleet(void **state)
{
	setup_node(state);
	ok(wr_auth_found(hub, NULL, err));
	ok(wr_auth_open(hub, &hub_auth, err));
	host_root = test_root_new();
	host = test_node_new(&host_root);
	return 0;
}

static int
teardown_fleet(void **state)
{
	wr_auth_close(hub_auth);
	wr_node_close(host);
	test_root_free(&host_root);
	return teardown_node(state);
}

static void
assert_mode(const char *name, mode_t mode)
{
	struct stat st;

	assert_int_equal(fstatat(hub->state_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	if ((st.st_mode & 07777) != mode)
		fail_msg("%s has mode %o", name, st.st_mode & 07777);
}

static void
read_state(const struct wr_node *n, const char *name, struct wr_buf *out)
{
	wr_buf_clear(out);
	ok(wr_read_file(n->state_fd, name, 1 << 22, out, err));
}

static void
put_state(const struct wr_node *n, const char *name, const void *p, size_t len)
{
	ok(wr_replace_file(n->state_fd, name, p, len, 0600, err));
}

/* ---- founding ---- */

static void
test_open__no_fleet(void **state)
{
	struct wr_auth *a = NULL;

	(void)state;
	refused(wr_auth_open(hub, &a, err), WR_E_NOT_FOUND, "belongs to no fleet");
	refused(wr_auth_open(hub, &a, err), WR_E_NOT_FOUND, "warren join");
	wr_auth_close(NULL);
}

static void
test_found(void **state)
{
	WR_SCOPED(wr_json_freep) json_t *receipt = NULL;
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key key = {0}, recovery = {0};
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/hub/recovery.key", hub->state_path);
	WR_SCOPED(wr_buf_fini) struct wr_buf crt = WR_BUF_INIT;
	const struct wr_fleet_node *own;
	struct wr_der ca[2];
	struct wr_cert_info info;
	struct wr_auth *a;
	struct wr_ca *loaded;

	(void)state;
	ok(wr_auth_found(hub, &receipt, err));
	assert_string_equal(wr_json_get_str(receipt, "schema", ""), "warren.found/1");
	assert_string_equal(wr_json_get_str(receipt, "fleet", ""), hub->fleet.s);
	assert_string_equal(wr_json_get_str(receipt, "recovery_key", ""), path);
	assert_int_equal(hub->incarnation, 1);
	assert_mode("hub", 0700);
	assert_mode("hub/ca", 0700);
	assert_mode("hub/ca/current.key", 0600);
	assert_mode("hub/ca/next.key", 0600);
	assert_mode("hub/keys/1", 0600);
	assert_mode("hub/keys/2", 0600);
	assert_mode("hub/recovery.key", 0600);
	assert_mode("tls", 0700);
	assert_mode("tls/node.key", 0600);
	assert_mode("tls/sign.key", 0600);
	assert_mode("fleet.bin", 0600);

	ok(wr_auth_open(hub, &a, err));
	own = wr_auth_own(a);
	assert_non_null(own);
	assert_string_equal(own->name, "n1");
	assert_string_equal(own->dc, "dc1");
	assert_string_equal(own->peer, "");
	assert_int_equal(own->flags, WR_FLEET_HUB);
	assert_memory_equal(own->pub.b, a->key.pub.b, WR_PUB_LEN);
	assert_int_equal(a->fleet.seq, 1);
	assert_int_equal(a->fleet.hub_count, 2);
	assert_int_equal(a->fleet.replicas, 3);
	assert_true(a->nonce != 0);
	ok(wr_auth_recovery_load(path, &recovery, err));
	assert_memory_equal(recovery.pub.b, a->fleet.recovery.b, WR_PUB_LEN);
	assert_true(wr_auth_is_hub(a));
	ok(wr_auth_hub_key(a, &key, err));
	assert_memory_equal(key.pub.b, a->fleet.hub[0].b, WR_PUB_LEN);
	/* The certificate is by the CA whose fingerprint was told. */
	ok(wr_auth_hub_ca(a, &loaded, err));
	assert_int_equal(wr_fleet_cas(&a->fleet, ca), 2);
	ok(wr_cert_info(ca[0], &info, err));
	assert_string_equal(wr_print_text(&info.print).s,
			    wr_json_get_str(receipt, "ca_fingerprint", ""));
	assert_memory_equal(wr_ca_cert(loaded).p, ca[0].p, ca[0].len);
	wr_ca_free(loaded);
	read_state(hub, "tls/node.crt", &crt);
	ok(wr_cert_verify((struct wr_der){crt.p, crt.len}, ca, 1, err));
	ok(wr_cert_info((struct wr_der){crt.p, crt.len}, &info, err));
	assert_true(wr_node_id_eq(&info.node, &a->self));
	wr_auth_close(a);

	refused(wr_auth_found(hub, NULL, err), WR_E_EXISTS, hub->fleet.s);
}

static void
test_found__where_others_reach_it(void **state)
{
	WR_SCOPED(wr_freep) char *conf = wr_asprintf("%s/warren.conf", hub_root.root);
	static const char text[] = "[listen]\npeer = 0.0.0.0:7444\napi = 0.0.0.0:7443\n"
				   "name = hub.example.org, 10.0.0.1\n";
	struct wr_auth *a;

	(void)state;
	ok(wr_replace_file(AT_FDCWD, conf, text, strlen(text), 0644, err));
	wr_node_close(hub);
	hub = test_node_open(&hub_root);
	ok(wr_auth_found(hub, NULL, err));
	ok(wr_auth_open(hub, &a, err));
	assert_string_equal(wr_auth_own(a)->peer, "hub.example.org:7444");
	assert_string_equal(wr_auth_own(a)->api, "hub.example.org:7443");
	wr_auth_close(a);
}

static void
test_found__cut_off(void **state)
{
	static const char *const points[] = {
	    "found.ca",
	    "found.hub-keys",
	    "found.keys",
	    "found.record",
	    "file.replace-written",
	    "file.replace-written:3",
	    "file.replace-written:5",
	    "file.replace-written:7",
	    "file.replace-renamed:7",
	    "file.replace-written:9",
	    "file.replace-renamed:9",
	    "file.replace-written:10",
	};
	WR_SCOPED(wr_buf_fini) struct wr_buf ca = WR_BUF_INIT, again = WR_BUF_INIT;

	(void)state;
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		struct test_root r = test_root_new();
		struct wr_node *n = test_node_new(&r);
		struct wr_auth *a = NULL;
		bool made;

		crash_at(points[i], "found", r.dir);
		wr_node_close(n);
		n = test_node_open(&r);
		/* Nobody takes it for a member yet. */
		assert_string_equal(n->fleet.s, "");
		made = faccessat(n->state_fd, "hub/ca/current.key", F_OK, 0) == 0;
		if (made)
			read_state(n, "hub/ca/current.key", &ca);
		ok(wr_auth_found(n, NULL, err));
		read_state(n, "hub/ca/current.key", &again);
		if (made) {
			assert_int_equal(ca.len, again.len);
			assert_memory_equal(ca.p, again.p, ca.len);
		}
		ok(wr_auth_open(n, &a, err));
		assert_non_null(wr_auth_own(a));
		wr_auth_close(a);
		wr_node_close(n);
		test_root_free(&r);
	}
}

static void
test_found__damaged_key(void **state)
{
	(void)state;
	crash_at("found.keys", "found", hub_root.dir);
	put_state(hub, "hub/keys/2", "short", 5);
	refused(wr_auth_found(hub, NULL, err), WR_E_CORRUPT, "hub/keys/2");
}

/* ---- what may lie in STATE ---- */

static void
assert_no_open(enum wr_err_code code, const char *says)
{
	struct wr_auth *a = NULL;

	refused(wr_auth_open(hub, &a, err), code, says);
}

static void
test_open__damage(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf fleet = WR_BUF_INIT, key = WR_BUF_INIT;
	struct wr_auth *a;

	(void)state;
	read_state(hub, "fleet.bin", &fleet);
	read_state(hub, "tls/sign.key", &key);
	put_state(hub, "fleet.bin", fleet.p, fleet.len / 2);
	assert_no_open(WR_E_CORRUPT, "fleet.bin");
	assert_no_open(WR_E_CORRUPT, "copy the file from another node");
	put_state(hub, "fleet.bin", "", 0);
	assert_no_open(WR_E_CORRUPT, "fleet.bin");
	/* Any one bit. */
	for (size_t i = 0; i < fleet.len; i += 7) {
		fleet.p[i] ^= 0x10;
		put_state(hub, "fleet.bin", fleet.p, fleet.len);
		fleet.p[i] ^= 0x10;
		assert_no_open(WR_E_CORRUPT, "fleet.bin");
	}
	assert_int_equal(unlinkat(hub->state_fd, "fleet.bin", 0), 0);
	assert_no_open(WR_E_CORRUPT, "fleet.bin");
	assert_int_equal(symlinkat("/dev/zero", hub->state_fd, "fleet.bin"), 0);
	assert_no_open(WR_E_CORRUPT, "is a link");
	assert_int_equal(unlinkat(hub->state_fd, "fleet.bin", 0), 0);
	assert_int_equal(mkfifoat(hub->state_fd, "fleet.bin", 0600), 0);
	assert_no_open(WR_E_CORRUPT, "no regular file");
	put_state(hub, "fleet.bin", fleet.p, fleet.len);

	put_state(hub, "tls/sign.key", key.p, 31);
	assert_no_open(WR_E_CORRUPT, "tls/sign.key");
	put_state(hub, "tls/sign.key", "this one is not the key of this.", 32);
	assert_no_open(WR_E_CORRUPT, "is not the one that the fleet record names");
	assert_int_equal(unlinkat(hub->state_fd, "tls/sign.key", 0), 0);
	assert_no_open(WR_E_CORRUPT, "no other copy");
	put_state(hub, "tls/sign.key", key.p, key.len);
	assert_int_equal(fchmodat(hub->state_fd, "tls/sign.key", 0644, 0), 0);
	assert_no_open(WR_E_DENIED, "others may read");
	assert_int_equal(fchmodat(hub->state_fd, "tls/sign.key", 0600, 0), 0);
	ok(wr_auth_open(hub, &a, err));
	wr_auth_close(a);
}

static void
test_count(void **state)
{
	uint64_t was = hub_auth->counter;
	struct wr_node *n;

	(void)state;
	ok(wr_auth_count(hub_auth, err));
	assert_int_equal(hub_auth->counter, was + 1);
	n = test_node_open(&hub_root);
	assert_int_equal(n->counter, was + 1);
	wr_node_close(n);
}

/* ---- newer fleet records ---- */

/* The hub's record, changed and signed by key. */
static void
next_fleet(uint64_t seq, uint32_t replicas, const struct wr_sign_key *key, struct wr_buf *out)
{
	struct wr_fleet f = {0};

	wr_fleet_copy(&f, &hub_auth->fleet);
	f.seq = seq;
	f.replicas = replicas;
	ok(wr_fleet_sign(&f, key, err));
	wr_buf_clear(out);
	wr_fleet_encode(&f, out);
	wr_fleet_fini(&f);
}

static void
test_fleet_put(void **state)
{
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key key = {0}, stranger = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_auth *other = NULL;
	bool newer = false;

	(void)state;
	ok(wr_auth_hub_key(hub_auth, &key, err));
	ok(wr_sign_key_new(&stranger, err));
	ok(wr_auth_open(hub, &other, err));
	assert_false(wr_auth_refresh(other));
	next_fleet(3, 5, &key, &b);
	ok(wr_auth_fleet_put(hub_auth, b.p, b.len, &newer, err));
	assert_true(newer);
	assert_int_equal(hub_auth->fleet.seq, 3);
	assert_int_equal(hub_auth->fleet.replicas, 5);
	/* Others see it when they look. */
	assert_int_equal(other->fleet.seq, 1);
	assert_true(wr_auth_refresh(other));
	assert_int_equal(other->fleet.seq, 3);
	assert_false(wr_auth_refresh(other));
	/* Again, and an older one. */
	ok(wr_auth_fleet_put(hub_auth, b.p, b.len, &newer, err));
	assert_false(newer);
	next_fleet(2, 4, &key, &b);
	ok(wr_auth_fleet_put(hub_auth, b.p, b.len, NULL, err));
	assert_int_equal(hub_auth->fleet.seq, 3);
	/* One that another process took meanwhile counts, too. */
	next_fleet(5, 7, &key, &b);
	ok(wr_auth_fleet_put(other, b.p, b.len, &newer, err));
	next_fleet(4, 6, &key, &b);
	ok(wr_auth_fleet_put(hub_auth, b.p, b.len, &newer, err));
	assert_false(newer);
	assert_int_equal(hub_auth->fleet.seq, 5);
	/* Strangers. */
	next_fleet(9, 6, &stranger, &b);
	refused(wr_auth_fleet_put(hub_auth, b.p, b.len, &newer, err), WR_E_DENIED, "no hub key");
	refused(wr_auth_fleet_put(hub_auth, "x", 1, &newer, err), WR_E_INVALID, "");
	{
		struct wr_fleet f = {0};

		wr_fleet_copy(&f, &hub_auth->fleet);
		wr_uuid_new(&f.id);
		f.seq = 99;
		ok(wr_fleet_sign(&f, &key, err));
		wr_buf_clear(&b);
		wr_fleet_encode(&f, &b);
		wr_fleet_fini(&f);
	}
	refused(wr_auth_fleet_put(hub_auth, b.p, b.len, &newer, err), WR_E_DENIED, "of fleet");
	assert_int_equal(hub_auth->fleet.seq, 5);
	wr_auth_close(other);
}

static void
test_fleet_put__cut_off(void **state)
{
	static const struct {
		const char *point;
		uint64_t seq;
	} points[] = {{"auth.fleet", 1}, {"file.replace-written", 1}, {"auth.fleet-stored", 2}};
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key key = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	(void)state;
	ok(wr_auth_hub_key(hub_auth, &key, err));
	next_fleet(2, 5, &key, &b);
	put_state(hub, "newer", b.p, b.len);
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		struct wr_auth *a = NULL;

		crash_at(points[i].point, "fleet-put", hub_root.dir);
		ok(wr_auth_open(hub, &a, err));
		assert_int_equal(a->fleet.seq, points[i].seq);
		wr_auth_close(a);
	}
}

/* ---- projects ---- */

static const struct wr_uuid project = {"0f1e2d3c-4b5a-4978-8a6b-5c4d3e2f1a0b"};

/* A state with a record of epoch n, whose promise is s epochs further. */
static struct wr_member_state
member_state(uint64_t n, uint64_t s)
{
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key key = {0};
	struct wr_member_state m;

	wr_member_init(&m, &project);
	m.record = (struct wr_record){.project = project,
				      .n = {n, 5},
				      .member_count = 1,
				      .member = {{hub_auth->self, WR_ROLE_DATA}},
				      .writer = hub_auth->self,
				      .state = WR_RECORD_LIVE,
				      .settings_rev = 1,
				      .at = 1800000000};
	ok(wr_auth_hub_key(hub_auth, &key, err));
	ok(wr_record_sign(&m.record, &key, err));
	wr_record_encode(&m.record, &m.record_bytes);
	m.has_record = true;
	m.promised = (struct wr_epoch){n + s, 5};
	return m;
}

static void
assert_promised(struct wr_auth *a, uint64_t n)
{
	struct wr_member_state m;

	ok(wr_auth_load(a, &project, &m, err));
	assert_int_equal(m.promised.number, n);
	wr_member_fini(&m);
}

static void
test_store_and_load(void **state)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s.auth", project.s);
	struct wr_member_state m = member_state(7, 2), got;

	(void)state;
	refused(wr_auth_load(hub_auth, &project, &got, err), WR_E_NOT_FOUND, project.s);
	assert_false(got.has_record);
	wr_member_fini(&got);
	ok(wr_auth_store(hub_auth, &project, &m, err));
	assert_mode(name, 0600);
	ok(wr_auth_load(hub_auth, &project, &got, err));
	assert_true(got.has_record);
	assert_int_equal(got.record.n.number, 7);
	assert_int_equal(got.promised.number, 9);
	assert_false(got.hidden);
	wr_member_fini(&got);
	m.hidden = true;
	ok(wr_auth_store(hub_auth, &project, &m, err));
	ok(wr_auth_load(hub_auth, &project, &got, err));
	assert_true(got.hidden);
	wr_member_fini(&got);
	wr_member_fini(&m);
}

static void
test_project__damage(void **state)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s.auth", project.s);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_member_state m = member_state(7, 0), got;

	(void)state;
	ok(wr_auth_store(hub_auth, &project, &m, err));
	wr_member_fini(&m);
	read_state(hub, name, &b);
	for (size_t i = 0; i < b.len; i += 5) {
		b.p[i] ^= 1;
		put_state(hub, name, b.p, b.len);
		b.p[i] ^= 1;
		refused(wr_auth_load(hub_auth, &project, &got, err), WR_E_CORRUPT, name);
		wr_member_fini(&got);
	}
	for (size_t len = 0; len < b.len; len += 11) {
		put_state(hub, name, b.p, len);
		refused(wr_auth_load(hub_auth, &project, &got, err), WR_E_CORRUPT,
			"nothing is guessed");
		wr_member_fini(&got);
	}
	assert_int_equal(unlinkat(hub->state_fd, name, 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", hub->state_fd, name), 0);
	refused(wr_auth_load(hub_auth, &project, &got, err), WR_E_CORRUPT, "is a link");
	assert_int_equal(unlinkat(hub->state_fd, name, 0), 0);
	/* The file of another project in its place. */
	{
		struct wr_uuid other;
		WR_SCOPED(wr_freep) char *its = NULL;

		wr_uuid_new(&other);
		its = wr_asprintf("control/%s.auth", other.s);
		put_state(hub, its, b.p, b.len);
		refused(wr_auth_load(hub_auth, &other, &got, err), WR_E_CORRUPT, its);
		wr_member_fini(&got);
	}
	/* An emptied STATE is no node that never heard of it. */
	assert_int_equal(renameat(hub->state_fd, "control", hub->state_fd, "gone"), 0);
	refused(wr_auth_load(hub_auth, &project, &got, err), WR_E_CORRUPT, "control");
	assert_int_equal(renameat(hub->state_fd, "gone", hub->state_fd, "control"), 0);
}

static void
test_project__cut_off(void **state)
{
	static const struct {
		const char *point;
		uint64_t promised;
	} points[] = {{"auth.store", 3},
		      {"file.replace-written", 3},
		      {"file.replace-renamed", 4},
		      {"auth.stored", 5}};
	struct wr_member_state m = member_state(3, 0);

	(void)state;
	ok(wr_auth_store(hub_auth, &project, &m, err));
	wr_member_fini(&m);
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		crash_at(points[i].point, "promise", hub_root.dir);
		assert_promised(hub_auth, points[i].promised);
	}
}

/* Read, judge, write, under the lock; as a member does that promises the next epoch. */
static int
promise_next(struct wr_auth *a, struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;
	struct wr_member_state m;
	int rc;

	if (wr_auth_lock(a, &project, &lock, err) < 0)
		return -1;
	rc = wr_auth_load(a, &project, &m, err);
	m.promised.number++;
	if (rc == 0)
		rc = wr_auth_store(a, &project, &m, err);
	wr_member_fini(&m);
	return rc;
}

static void
test_project__at_once(void **state)
{
	struct wr_member_state m = member_state(3, 0);
	pid_t pid;
	int status;

	(void)state;
	ok(wr_auth_store(hub_auth, &project, &m, err));
	wr_member_fini(&m);
	pid = fork();
	assert_true(pid >= 0);
	for (int i = 0; i < 25; i++) {
		struct wr_err err = WR_ERR_INIT;

		if (promise_next(hub_auth, &err) < 0) {
			if (pid == 0)
				_exit(1);
			fail_msg("%s", err.msg);
		}
	}
	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_promised(hub_auth, 53);
}

/* What was answered is there, whenever it ends. */
static void
test_project__killed(void **state)
{
	struct wr_member_state m = member_state(1, 0);
	uint64_t told = 0, n = 1;
	int status, pipe_fd[2];
	struct wr_member_state got;
	pid_t pid;

	(void)state;
	ok(wr_auth_store(hub_auth, &project, &m, err));
	wr_member_fini(&m);
	assert_int_equal(pipe(pipe_fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		while (promise_next(hub_auth, NULL) == 0 && ++n &&
		       write(pipe_fd[1], &n, sizeof(n)) == sizeof(n))
			;
		_exit(1);
	}
	close(pipe_fd[1]);
	while (told < 40 && read(pipe_fd[0], &n, sizeof(n)) == sizeof(n))
		told = n;
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	while (read(pipe_fd[0], &n, sizeof(n)) == sizeof(n))
		told = n;
	close(pipe_fd[0]);
	assert_true(told >= 40);
	ok(wr_auth_load(hub_auth, &project, &got, err));
	assert_true(got.promised.number == told || got.promised.number == told + 1);
	wr_member_fini(&got);
	ok(promise_next(hub_auth, err)); /* its lock went with it */
}

static int
gather(void *ctx, const struct wr_uuid *id, struct wr_err *err)
{
	(void)err;
	wr_buf_addf(ctx, "%.8s ", id->s);
	return 0;
}

static int
stop(void *ctx, const struct wr_uuid *id, struct wr_err *err)
{
	(void)ctx;
	(void)id;
	(void)err;
	return 7;
}

static void
test_each(void **state)
{
	static const struct wr_uuid ids[] = {{"bbbbbbbb-4b5a-4978-8a6b-5c4d3e2f1a0b"},
					     {"aaaaaaaa-4b5a-4978-8a6b-5c4d3e2f1a0b"}};
	WR_SCOPED(wr_buf_fini) struct wr_buf seen = WR_BUF_INIT;
	struct wr_work w = {.dirty = true};

	(void)state;
	ok(wr_auth_each(hub_auth, gather, &seen, err));
	assert_string_equal(wr_buf_str(&seen), "");
	for (size_t i = 0; i < WR_ARRAY_LEN(ids); i++) {
		struct wr_lock lock = WR_LOCK_INIT;
		struct wr_member_state m;

		wr_member_init(&m, &ids[i]);
		ok(wr_auth_lock(hub_auth, &ids[i], &lock, err));
		ok(wr_auth_store(hub_auth, &ids[i], &m, err));
		wr_lock_drop(&lock);
		wr_member_fini(&m);
	}
	/* Work records and temporary files are something else. */
	ok(wr_work_store(hub, &project, &w, err));
	put_state(hub, "control/cccccccc-4b5a-4978-8a6b-5c4d3e2f1a0b.auth.tmp-abcdefghijkl", "", 0);
	ok(wr_auth_each(hub_auth, gather, &seen, err));
	assert_string_equal(wr_buf_str(&seen), "aaaaaaaa bbbbbbbb ");
	assert_int_equal(wr_auth_each(hub_auth, stop, NULL, NULL), 7);
}

static void
test_readable_copy(void **state)
{
	struct wr_place_of p = test_project(hub, &project);
	struct wr_member_state m = member_state(7, 0);
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	json_t *first;

	(void)state;
	ok(wr_auth_store(hub_auth, &project, &m, err));
	o = wr_file_load(wr_conf_fd(&p, NULL), "replicas.json", 65536, "format", 1, NULL);
	assert_non_null(o);
	assert_int_equal(wr_json_get_u64(o, "epoch", 0), 7);
	assert_string_equal(wr_json_get_str(o, "state", ""), "live");
	first = json_array_get(wr_json_get_arr(o, "members"), 0);
	assert_string_equal(wr_json_get_str(first, "node", ""), hub->id.s);
	assert_string_equal(wr_json_get_str(first, "name", ""), "n1");
	assert_string_equal(wr_json_get_str(first, "role", ""), "data");
	assert_true(wr_json_get_bool(first, "writer", false));
	wr_member_fini(&m);
	wr_place_of_fini(&p);
}

/* What a node promised is gone, and what lies beside the repository tells of it. */
static void
test_forgot(void **state)
{
	struct wr_place_of p = test_project(hub, &project);
	WR_SCOPED(wr_freep) char *name = wr_asprintf("control/%s.auth", project.s);
	struct wr_member_state m = member_state(7, 0);

	(void)state;
	assert_false(wr_auth_forgot(hub_auth, &project));
	ok(wr_auth_store(hub_auth, &project, &m, err));
	assert_int_equal(unlinkat(hub->state_fd, name, 0), 0);
	assert_false(wr_auth_forgot(hub_auth, &project)); /* it was alone */
	m.record.member[m.record.member_count++] =
	    (struct wr_member){{{"1f1e2d3c-4b5a-4978-8a6b-5c4d3e2f1a0b"}, 1}, WR_ROLE_DATA};
	ok(wr_auth_store(hub_auth, &project, &m, err));
	assert_false(wr_auth_forgot(hub_auth, &project));
	assert_int_equal(unlinkat(hub->state_fd, name, 0), 0);
	assert_true(wr_auth_forgot(hub_auth, &project));
	hub_auth->self.inc++; /* it came back, and is a member no more */
	assert_false(wr_auth_forgot(hub_auth, &project));
	hub_auth->self.inc--;
	wr_member_fini(&m);
	wr_place_of_fini(&p);
}

/* ---- joining: what a hub does, by hand ---- */

struct answer {
	struct wr_buf cert, fleet;
};
static void
answer_fini(struct answer *a)
{
	wr_buf_fini(&a->cert);
	wr_buf_fini(&a->fleet);
}

static int
by_node(const void *a, const void *b)
{
	const struct wr_fleet_node *x = a, *y = b;

	return strcmp(x->node.id.s, y->node.id.s);
}

/* The hub's record with the host in it, taken by the hub. */
static void
register_host(uint32_t inc, const struct wr_pub *pub, unsigned flags, struct wr_buf *out)
{
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key key = {0};
	struct wr_fleet f = {0};
	struct wr_fleet_node *own;

	wr_fleet_copy(&f, &hub_auth->fleet);
	own = NULL;
	for (size_t i = 0; i < f.node_count; i++)
		if (!strcmp(f.node[i].node.id.s, host->id.s))
			own = &f.node[i];
	if (!own) {
		f.node = wr_reallocarray(f.node, f.node_count + 1, sizeof(*f.node));
		own = &f.node[f.node_count++];
	}
	*own = (struct wr_fleet_node){
	    .node = {host->id, inc}, .name = "n2", .dc = "dc2", .pub = *pub, .weight = 100};
	own->flags = flags;
	qsort(f.node, f.node_count, sizeof(*f.node), by_node);
	f.seq++;
	ok(wr_auth_hub_key(hub_auth, &key, err));
	ok(wr_fleet_sign(&f, &key, err));
	wr_buf_clear(out);
	wr_fleet_encode(&f, out);
	wr_fleet_fini(&f);
	ok(wr_auth_fleet_put(hub_auth, out->p, out->len, NULL, err));
}

static void
issue(uint32_t inc, const struct wr_buf *spki, struct wr_buf *out)
{
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;
	struct wr_ca *ca;

	ok(wr_auth_hub_ca(hub_auth, &ca, err));
	ask.fleet = hub->fleet;
	ask.node = (struct wr_node_id){host->id, inc};
	ask.spki = (struct wr_der){spki->p, spki->len};
	ask.now = wr_clock_wall().s;
	wr_buf_clear(out);
	ok(wr_cert_issue(ca, &ask, out, err));
	wr_ca_free(ca);
}

static struct answer
ask_hub(uint32_t inc)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	struct answer a = {0};
	struct wr_pub pub;

	ok(wr_auth_keys(host, &spki, &pub, err));
	issue(inc, &spki, &a.cert);
	register_host(inc, &pub, 0, &a.fleet);
	return a;
}

static void
test_keys(void **state)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf a = WR_BUF_INIT, b = WR_BUF_INIT;
	struct wr_pub pa, pb;
	struct stat st;

	(void)state;
	ok(wr_auth_keys(host, &a, &pa, err));
	ok(wr_auth_keys(host, &b, &pb, err));
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.p, b.p, a.len);
	assert_memory_equal(pa.b, pb.b, sizeof(pa.b));
	assert_int_equal(fstatat(host->state_fd, "tls/sign.key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	crash_at("file.replace-written", "keys", hub_root.dir);
}

static void
test_join(void **state)
{
	WR_SCOPED(answer_fini) struct answer a = ask_hub(1);
	struct wr_auth *h = NULL;

	(void)state;
	ok(wr_auth_join(host, 1, &a.cert, &a.fleet, err));
	assert_string_equal(host->fleet.s, hub->fleet.s);
	assert_int_equal(host->incarnation, 1);
	ok(wr_auth_open(host, &h, err));
	assert_string_equal(wr_auth_own(h)->name, "n2");
	assert_false(wr_auth_is_hub(h));
	{
		struct wr_sign_key none;

		refused(wr_auth_hub_key(h, &none, err), WR_E_DENIED, "no key");
	}
	wr_auth_close(h);
	/* The answer came twice. */
	ok(wr_auth_join(host, 1, &a.cert, &a.fleet, err));
	refused(wr_auth_found(host, NULL, err), WR_E_EXISTS, hub->fleet.s);
}

static void
test_join__comes_back(void **state)
{
	WR_SCOPED(answer_fini) struct answer a = ask_hub(1), b = {0};
	struct wr_auth *h = NULL;

	(void)state;
	ok(wr_auth_join(host, 1, &a.cert, &a.fleet, err));
	b = ask_hub(2);
	ok(wr_auth_join(host, 2, &b.cert, &b.fleet, err));
	ok(wr_auth_open(host, &h, err));
	assert_int_equal(h->self.inc, 2);
	assert_non_null(wr_auth_own(h));
	wr_auth_close(h);
	/* What was said to the one before. */
	refused(wr_auth_join(host, 1, &a.cert, &a.fleet, err), WR_E_INVALID, "incarnation 1");
	refused(wr_auth_join(host, 2, &b.cert, &a.fleet, err), WR_E_DENIED, "not newer");
}

static void
test_join__refusals(void **state)
{
	WR_SCOPED(answer_fini) struct answer a = ask_hub(1);
	WR_SCOPED(wr_buf_fini)
	struct wr_buf pem = WR_BUF_INIT, spki = WR_BUF_INIT, bad = WR_BUF_INIT, keep = WR_BUF_INIT;
	WR_SCOPED(wr_sign_key_fini) struct wr_sign_key other = {0};
	struct wr_auth *h = NULL;

	(void)state;
	refused(wr_auth_join(host, 0, &a.cert, &a.fleet, err), WR_E_INVALID, "incarnation 0");
	refused(wr_auth_join(host, 2, &a.cert, &a.fleet, err), WR_E_DENIED, "does not name");
	refused(wr_auth_join(host, 1, &bad, &a.fleet, err), WR_E_INVALID, "certificate");
	refused(wr_auth_join(host, 1, &a.cert, &bad, err), WR_E_INVALID, "fleet record");
	/* A certificate for another key, or of another incarnation. */
	ok(wr_tls_key_make(&pem, err));
	ok(wr_tls_key_spki((struct wr_der){pem.p, pem.len}, &spki, err));
	issue(1, &spki, &bad);
	refused(wr_auth_join(host, 1, &bad, &a.fleet, err), WR_E_INVALID, "certificate");
	{
		WR_SCOPED(wr_buf_fini) struct wr_buf own = WR_BUF_INIT;
		struct wr_pub pub;

		ok(wr_auth_keys(host, &own, &pub, err));
		issue(7, &own, &bad);
		refused(wr_auth_join(host, 1, &bad, &a.fleet, err), WR_E_DENIED, "incarnation 7");
	}
	/* A record with another key for us, or that removed us, or altered. */
	wr_buf_add(&keep, a.fleet.p, a.fleet.len);
	ok(wr_sign_key_new(&other, err));
	register_host(1, &other.pub, 0, &a.fleet);
	refused(wr_auth_join(host, 1, &a.cert, &a.fleet, err), WR_E_DENIED, "does not name");
	a.fleet.p[a.fleet.len - 1] ^= 1;
	refused(wr_auth_join(host, 1, &a.cert, &a.fleet, err), WR_E_DENIED, "signature");
	/* Nothing of that was kept. */
	assert_string_equal(host->fleet.s, "");
	refused(wr_auth_open(host, &h, err), WR_E_NOT_FOUND, "no fleet");
	ok(wr_auth_join(host, 1, &a.cert, &keep, err));
	/* Into another fleet. */
	{
		struct wr_fleet f = {0};

		wr_fleet_copy(&f, &hub_auth->fleet);
		wr_uuid_new(&f.id);
		ok(wr_fleet_sign(&f, &other, err));
		wr_buf_clear(&keep);
		wr_fleet_encode(&f, &keep);
		wr_fleet_fini(&f);
	}
	refused(wr_auth_join(host, 1, &a.cert, &keep, err), WR_E_EXISTS, hub->fleet.s);
}

static void
test_join__cut_off(void **state)
{
	static const char *const points[] = {"join.cert",
					     "file.replace-written",
					     "join.fleet",
					     "file.replace-written:2",
					     "file.replace-renamed:2",
					     "join.node",
					     "file.replace-written:3"};
	WR_SCOPED(answer_fini) struct answer a = ask_hub(1);
	struct wr_auth *h = NULL;

	(void)state;
	put_state(host, "answer.cert", a.cert.p, a.cert.len);
	put_state(host, "answer.fleet", a.fleet.p, a.fleet.len);
	for (size_t i = 0; i < WR_ARRAY_LEN(points); i++) {
		struct wr_node *n;

		crash_at(points[i], "join", host_root.dir);
		n = test_node_open(&host_root);
		refused(wr_auth_open(n, &h, err), WR_E_NOT_FOUND, "no fleet");
		wr_node_close(n);
	}
	ok(wr_auth_join(host, 1, &a.cert, &a.fleet, err));
	ok(wr_auth_open(host, &h, err));
	wr_auth_close(h);
}

/* Founding was cut off, and the host then joins another fleet: it must not pass for a hub. */
static void
test_join__after_half_a_founding(void **state)
{
	struct answer a;
	struct wr_auth *h = NULL;

	(void)state;
	crash_at("found.keys", "found", host_root.dir);
	a = ask_hub(1);
	ok(wr_auth_join(host, 1, &a.cert, &a.fleet, err));
	ok(wr_auth_open(host, &h, err));
	assert_false(wr_auth_is_hub(h));
	wr_auth_close(h);
	answer_fini(&a);
}

static void
test_cert_put(void **state)
{
	WR_SCOPED(answer_fini) struct answer a = ask_hub(1);
	WR_SCOPED(wr_buf_fini)
	struct wr_buf spki = WR_BUF_INIT, renewed = WR_BUF_INIT, got = WR_BUF_INIT;
	struct wr_auth *h = NULL;
	struct wr_pub pub;

	(void)state;
	ok(wr_auth_join(host, 1, &a.cert, &a.fleet, err));
	ok(wr_auth_open(host, &h, err));
	ok(wr_auth_keys(host, &spki, &pub, err));
	issue(1, &spki, &renewed);
	ok(wr_auth_cert_put(h, renewed.p, renewed.len, err));
	read_state(host, "tls/node.crt", &got);
	assert_int_equal(got.len, renewed.len);
	assert_memory_equal(got.p, renewed.p, got.len);
	issue(2, &spki, &renewed);
	refused(wr_auth_cert_put(h, renewed.p, renewed.len, err), WR_E_DENIED, "incarnation 2");
	refused(wr_auth_cert_put(h, "x", 1, err), WR_E_INVALID, "");
	wr_auth_close(h);
}

/* ---- messages ---- */

static void
test_messages(void **state)
{
	WR_SCOPED(answer_fini) struct answer a = ask_hub(1);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT, removed = WR_BUF_INIT;
	struct wr_auth *h = NULL;
	struct wr_msg m, got = WR_MSG_INIT;

	(void)state;
	ok(wr_auth_join(host, 1, &a.cert, &a.fleet, err));
	ok(wr_auth_open(host, &h, err));
	wr_auth_msg(h, &m, &hub->id, 42, WR_MSG_HELLO);
	m.fleet_seq = 3;
	ok(wr_auth_seal(h, &m, &b, err));
	ok(wr_auth_open_msg(hub_auth, b.p, b.len, &got, err));
	assert_true(wr_node_id_eq(&got.from, &h->self));
	assert_int_equal(got.kind, WR_MSG_HELLO);
	assert_true(got.to_nonce == 42 && got.nonce == h->nonce && got.request == m.request);
	assert_true(got.counter == h->counter);
	assert_int_equal(got.fleet_seq, 3);
	wr_msg_fini(&got);
	/* For somebody else; altered; of one who was removed. */
	refused(wr_auth_open_msg(h, b.p, b.len, &got, err), WR_E_DENIED, hub->id.s);
	b.p[b.len - 1] ^= 1;
	refused(wr_auth_open_msg(hub_auth, b.p, b.len, &got, err), WR_E_DENIED, "sign");
	b.p[b.len - 1] ^= 1;
	refused(wr_auth_open_msg(hub_auth, b.p, b.len / 2, &got, err), WR_E_INVALID, "");
	register_host(1, &h->key.pub, WR_FLEET_REMOVED, &removed);
	refused(wr_auth_open_msg(hub_auth, b.p, b.len, &got, err), WR_E_DENIED, "removed");
	wr_auth_close(h);
}

/* ---- what a test lets end in the middle; arg is the directory of a test's root ---- */

static int
do_join(struct wr_node *n)
{
	WR_SCOPED(answer_fini) struct answer a = {0};

	return wr_read_file(n->state_fd, "answer.cert", 1 << 20, &a.cert, NULL) < 0 ||
	       wr_read_file(n->state_fd, "answer.fleet", 1 << 20, &a.fleet, NULL) < 0 ||
	       wr_auth_join(n, 1, &a.cert, &a.fleet, NULL) < 0;
}

static int
do_fleet_put(struct wr_node *n)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_auth *a = NULL;

	return wr_read_file(n->state_fd, "newer", 1 << 20, &b, NULL) < 0 ||
	       wr_auth_open(n, &a, NULL) < 0 || wr_auth_fleet_put(a, b.p, b.len, NULL, NULL) < 0;
}

static int
do_it(const char *what, const char *arg)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	struct wr_auth *a = NULL;
	struct wr_pub pub;
	struct wr_node *n;
	char root[80];

	snprintf(root, sizeof(root), "%s/r", arg);
	if (wr_node_open(root, 0, &n, NULL) < 0)
		return 1;
	if (!strcmp(what, "found"))
		return wr_auth_found(n, NULL, NULL) < 0;
	if (!strcmp(what, "join"))
		return do_join(n);
	if (!strcmp(what, "fleet-put"))
		return do_fleet_put(n);
	if (!strcmp(what, "keys"))
		return unlinkat(n->state_fd, "tls/sign.key", 0) < 0 ||
		       wr_auth_keys(n, &spki, &pub, NULL) < 0;
	return wr_auth_open(n, &a, NULL) < 0 || promise_next(a, NULL) < 0;
}

#define NODE_TEST(f) cmocka_unit_test_setup_teardown(f, setup_node, teardown_node)
#define FLEET_TEST(f) cmocka_unit_test_setup_teardown(f, setup_fleet, teardown_fleet)

static int
run_all(void)
{
	const struct CMUnitTest tests[] = {
	    NODE_TEST(test_open__no_fleet),
	    NODE_TEST(test_found),
	    NODE_TEST(test_found__where_others_reach_it),
	    NODE_TEST(test_found__cut_off),
	    NODE_TEST(test_found__damaged_key),
	    FLEET_TEST(test_open__damage),
	    FLEET_TEST(test_count),
	    FLEET_TEST(test_fleet_put),
	    FLEET_TEST(test_fleet_put__cut_off),
	    FLEET_TEST(test_store_and_load),
	    FLEET_TEST(test_project__damage),
	    FLEET_TEST(test_project__cut_off),
	    FLEET_TEST(test_project__at_once),
	    FLEET_TEST(test_project__killed),
	    FLEET_TEST(test_each),
	    FLEET_TEST(test_readable_copy),
	    FLEET_TEST(test_forgot),
	    FLEET_TEST(test_keys),
	    FLEET_TEST(test_join),
	    FLEET_TEST(test_join__comes_back),
	    FLEET_TEST(test_join__refusals),
	    FLEET_TEST(test_join__cut_off),
	    FLEET_TEST(test_join__after_half_a_founding),
	    FLEET_TEST(test_cert_put),
	    FLEET_TEST(test_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int
main(int argc, char **argv)
{
	return argc == 4 && !strcmp(argv[1], "@do") ? do_it(argv[2], argv[3]) : run_all();
}
