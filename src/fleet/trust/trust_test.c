/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, the CA, certificates (judged by the openssl program as well), dates, join tokens. */
#include "fleet/trust/trust.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fleet/trust/test_trust.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/test_dir.h"

#define DAY INT64_C(86400)
#define FLEET "11111111-2222-4333-8444-555555555555"
#define OTHER_FLEET "11111111-2222-4333-8444-666666666666"
#define NODE "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"

static const struct wr_uuid fleet = {FLEET};
static const struct wr_node_id node = {{NODE}, 3};

/* A certificate of `node` for a new key; pem may be NULL. */
static void
issue(const struct wr_ca *ca, struct wr_cert_ask ask, struct wr_buf *pem, struct wr_buf *out)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf key = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;

	assert_int_equal(wr_tls_key_make(&key, &e), 0);
	assert_int_equal(wr_tls_key_spki(der(&key), &spki, &e), 0);
	ask.fleet = fleet;
	ask.node = node;
	ask.spki = der(&spki);
	if (wr_cert_issue(ca, &ask, out, &e) < 0)
		fail_msg("%s", e.msg);
	if (pem)
		wr_buf_add(pem, key.p, key.len);
}

static struct wr_cert_ask
ask_now(void)
{
	struct wr_cert_ask a = WR_CERT_ASK_INIT;

	a.now = wr_clock_wall().s;
	return a;
}

static struct wr_cert_info
info_of(const struct wr_buf *cert)
{
	struct wr_cert_info i;
	struct wr_err e = WR_ERR_INIT;

	if (wr_cert_info(der(cert), &i, &e) < 0)
		fail_msg("%s", e.msg);
	return i;
}

/* What the openssl program prints in the directory; its exit status. */
static int
openssl(const struct dir *d, const char *const *argv, char *out, size_t size)
{
	struct wr_spawn s = WR_SPAWN_INIT;
	struct wr_err e = WR_ERR_INIT;
	int p[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	s.path = "/usr/bin/openssl";
	s.argv = argv;
	s.fd[1] = s.fd[2] = p[1];
	s.dir_fd = d->fd;
	if (wr_spawn(&s, &pid, &e) < 0)
		fail_msg("%s", e.msg);
	close(p[1]);
	n = wr_read_full(p[0], out, size - 1);
	assert_true(n >= 0);
	out[n] = '\0';
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
must_say(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("'%s' is not in: %s", what, text);
}

static void
put(const struct dir *d, const char *name, struct wr_der bytes)
{
	assert_int_equal(wr_replace_file(d->fd, name, bytes.p, bytes.len, 0600, NULL), 0);
}

/* ---- the CA ---- */

static void
test_ca(void **state)
{
	const struct dir *d = *state;
	WR_SCOPED(wr_buf_fini) struct wr_buf file = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	struct wr_cert_info i;
	struct wr_ca *ca = new_ca(d, "current", &fleet), *none = NULL;
	struct stat st;
	char text[16384];

	assert_int_equal(fstatat(d->fd, "current.key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(wr_cert_info(wr_ca_cert(ca), &i, &e), 0);
	assert_true(i.ca);
	assert_string_equal(i.fleet.s, FLEET);
	assert_int_equal(i.node.inc, 0);
	assert_true(i.not_after - wr_clock_wall().s > 3649 * DAY);

	/* What others make of it. */
	put(d, "ca.der", wr_ca_cert(ca));
	assert_int_equal(
	    openssl(d,
		    (const char *[]){"openssl", "x509", "-inform", "DER", "-in", "ca.der", "-noout",
				     "-text", "-fingerprint", "-sha256", NULL},
		    text, sizeof(text)),
	    0);
	must_say(text, "CA:TRUE, pathlen:0");
	must_say(text, "X509v3 Basic Constraints: critical");
	must_say(text, "NIST CURVE: P-256");
	must_say(text, "Certificate Sign, CRL Sign");
	must_say(text, "URI:warren:" FLEET);
	must_say(text, wr_print_text(&i.print).s);

	/* It is there once. */
	assert_int_equal(wr_ca_new(d->fd, "current", &fleet, &e), -1);
	assert_int_equal(e.code, WR_E_EXISTS);
	wr_ca_free(ca);

	/* Damage. */
	assert_int_equal(wr_ca_load(d->fd, "absent", &none, &e), -1);
	assert_int_equal(e.code, WR_E_NOT_FOUND);
	assert_int_equal(wr_read_file(d->fd, "current.key", 65536, &file, &e), 0);
	for (size_t cut = 0; cut < file.len - 1; cut += 97) {
		put(d, "cut.key", (struct wr_der){file.p, cut});
		assert_int_equal(wr_ca_load(d->fd, "cut", &none, &e), -1);
		assert_int_equal(e.code, WR_E_CORRUPT);
	}
	/* Key of one, certificate of another. */
	wr_ca_free(new_ca(d, "next", &fleet));
	{
		WR_SCOPED(wr_buf_fini) struct wr_buf next = WR_BUF_INIT;
		char *at;

		assert_int_equal(wr_read_file(d->fd, "next.key", 65536, &next, &e), 0);
		at = strstr(wr_buf_str(&next), "-----BEGIN CERT");
		assert_non_null(at);
		next.len = (size_t)(at - (char *)next.p);
		at = strstr(wr_buf_str(&file), "-----BEGIN CERT");
		wr_buf_adds(&next, at);
		put(d, "mixed.key", der(&next));
		assert_int_equal(wr_ca_load(d->fd, "mixed", &none, &e), -1);
		assert_int_equal(e.code, WR_E_CORRUPT);
		must_say(e.msg, "do not belong together");
	}
}

/* ---- certificates ---- */

static void
test_cert(void **state)
{
	static const char *const names[] = {"hub.example.org", "10.1.2.3", "fd00::7"};
	const struct dir *d = *state;
	struct wr_ca *ca = new_ca(d, "current", &fleet), *next = new_ca(d, "next", &fleet);
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf pem = WR_BUF_INIT;
	const struct wr_der cas[2] = {wr_ca_cert(next), wr_ca_cert(ca)};
	struct wr_cert_ask ask = ask_now();
	struct wr_err e = WR_ERR_INIT;
	struct wr_cert_info i;
	char text[16384];

	ask.name = names;
	ask.name_count = 3;
	issue(ca, ask, &pem, &cert);
	i = info_of(&cert);
	assert_false(i.ca);
	assert_string_equal(i.fleet.s, FLEET);
	assert_true(wr_node_id_eq(&i.node, &node));
	assert_int_equal(i.not_before, ask.now - WR_CERT_SLACK_S);
	assert_int_equal(i.not_after, ask.now + 400 * DAY);
	assert_int_equal(wr_cert_verify(der(&cert), cas, 2, &e), 0);
	assert_int_equal(wr_cert_fits(der(&cert), der(&pem), &e), 0);
	assert_int_equal(wr_cert_verify(der(&cert), cas, 1, &e), -1);
	assert_int_equal(e.code, WR_E_DENIED);
	assert_int_equal(wr_cert_verify(cas[1], cas, 2, &e), -1);
	assert_int_equal(e.code, WR_E_DENIED);

	/* Day 100 of 400. */
	assert_false(wr_cert_renew_due(&i, ask.now));
	assert_false(wr_cert_renew_due(&i, ask.now + 99 * DAY));
	assert_true(wr_cert_renew_due(&i, ask.now + 100 * DAY));

	/* What others make of it. */
	put(d, "n.der", der(&cert));
	assert_int_equal(
	    openssl(d,
		    (const char *[]){"openssl", "x509", "-inform", "DER", "-in", "n.der", "-noout",
				     "-text", "-fingerprint", "-sha256", NULL},
		    text, sizeof(text)),
	    0);
	must_say(text, "CA:FALSE");
	must_say(text, "TLS Web Server Authentication, TLS Web Client Authentication");
	must_say(text, "URI:warren:" FLEET "/" NODE "/3, DNS:hub.example.org, "
		       "IP Address:10.1.2.3, IP Address:FD00:0:0:0:0:0:0:7");
	must_say(text, "ecdsa-with-SHA256");
	must_say(text, wr_print_text(&i.print).s);
	assert_int_equal(
	    openssl(d,
		    (const char *[]){"openssl", "verify", "-x509_strict", "-CAfile", "current.key",
				     "-purpose", "sslserver", "n.der", NULL},
		    text, sizeof(text)),
	    0);
	assert_int_equal(
	    openssl(d,
		    (const char *[]){"openssl", "verify", "-x509_strict", "-CAfile", "current.key",
				     "-purpose", "sslclient", "n.der", NULL},
		    text, sizeof(text)),
	    0);
	assert_int_not_equal(
	    openssl(d, (const char *[]){"openssl", "verify", "-CAfile", "next.key", "n.der", NULL},
		    text, sizeof(text)),
	    0);
	wr_ca_free(ca);
	wr_ca_free(next);
}

static void
test_cert__dates(void **state)
{
	struct wr_ca *ca = new_ca(*state, "current", &fleet);
	const struct wr_der cas[1] = {wr_ca_cert(ca)};
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	struct wr_cert_ask ask = ask_now();
	struct wr_err e = WR_ERR_INIT;
	struct wr_cert_info of_ca;

	assert_int_equal(wr_cert_info(cas[0], &of_ca, &e), 0);
	ask.now -= 401 * DAY;
	issue(ca, ask, NULL, &cert);
	assert_int_equal(wr_cert_verify(der(&cert), cas, 1, &e), -1);
	assert_int_equal(e.code, WR_E_DENIED);
	must_say(e.msg, "expired");
	must_say(e.msg, "this host's clock says");

	wr_buf_clear(&cert);
	ask.now += 410 * DAY;
	issue(ca, ask, NULL, &cert);
	assert_int_equal(wr_cert_verify(der(&cert), cas, 1, &e), -1);
	must_say(e.msg, "this host's clock says");
	must_say(e.msg, "is valid from");
	must_say(e.hint, "check the clock");

	/* Not longer than its CA; from day 100 of 400 at the latest it asks for another. */
	wr_buf_clear(&cert);
	ask.now += 3500 * DAY;
	issue(ca, ask, NULL, &cert);
	assert_int_equal(info_of(&cert).not_after, of_ca.not_after);
	ask.now = of_ca.not_after + 1;
	{
		WR_SCOPED(wr_buf_fini) struct wr_buf key = WR_BUF_INIT, spki = WR_BUF_INIT;

		assert_int_equal(wr_tls_key_make(&key, &e), 0);
		assert_int_equal(wr_tls_key_spki(der(&key), &spki, &e), 0);
		ask.fleet = fleet;
		ask.node = node;
		ask.spki = der(&spki);
		assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	wr_ca_free(ca);
}

static void
test_cert__refused(void **state)
{
	static const char *const bad_name[] = {"*.example.org", "", "a b", "x/y", "-x", "a..b"};
	struct wr_ca *ca = new_ca(*state, "current", &fleet);
	WR_SCOPED(wr_buf_fini) struct wr_buf key = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf copy = WR_BUF_INIT;
	struct wr_cert_ask ask = ask_now();
	struct wr_err e = WR_ERR_INIT;
	struct wr_cert_info i;
	size_t changed = 0;

	assert_int_equal(wr_tls_key_make(&key, &e), 0);
	assert_int_equal(wr_tls_key_spki(der(&key), &spki, &e), 0);
	assert_int_equal(spki.len, 91);
	ask.fleet = fleet;
	ask.node = node;
	ask.spki = der(&spki);
	ask.name_count = 1;
	for (size_t n = 0; n < WR_ARRAY_LEN(bad_name); n++) {
		ask.name = &bad_name[n];
		assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	ask.name_count = 0;
	/* Keys from outside: cut, longer, another curve's name, a point beside the curve. */
	wr_buf_add(&copy, spki.p, spki.len);
	wr_buf_add8(&copy, 0);
	for (size_t n = 0; n <= copy.len; n++) {
		ask.spki = (struct wr_der){copy.p, n};
		if (n == spki.len)
			continue;
		assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
	}
	for (size_t n = 0; n < spki.len; n++) {
		ask.spki = (struct wr_der){copy.p, spki.len};
		copy.p[n] ^= 1;
		assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), -1);
		assert_int_equal(e.code, WR_E_INVALID);
		copy.p[n] ^= 1;
	}
	ask.spki = der(&spki);
	ask.fleet = (struct wr_uuid){OTHER_FLEET};
	assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	ask.fleet = fleet;
	assert_int_equal(cert.len, 0);
	assert_int_equal(wr_cert_issue(ca, &ask, &cert, &e), 0);
	assert_int_equal(wr_cert_fits(der(&cert), der(&key), &e), 0);

	/* Certificates from outside: cut, longer, altered. */
	for (size_t n = 0; n < cert.len; n++)
		assert_int_equal(wr_cert_info((struct wr_der){cert.p, n}, &i, &e), -1);
	wr_buf_clear(&copy);
	wr_buf_add(&copy, cert.p, cert.len);
	wr_buf_add8(&copy, 0);
	assert_int_equal(wr_cert_info(der(&copy), &i, &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	copy.len--;
	for (size_t n = 0; n < copy.len; n++) {
		const struct wr_der cas[1] = {wr_ca_cert(ca)};

		copy.p[n] ^= 1;
		changed += wr_cert_verify(der(&copy), cas, 1, &e) == 0;
		copy.p[n] ^= 1;
	}
	assert_int_equal(changed, 0);

	/* A key that is none of ours. */
	wr_buf_clear(&key);
	assert_int_equal(wr_tls_key_make(&key, &e), 0);
	assert_int_equal(wr_cert_fits(der(&cert), der(&key), &e), -1);
	assert_int_equal(e.code, WR_E_INVALID);
	wr_ca_free(ca);
}

static void
test_key(void **state)
{
	const struct dir *d = *state;
	WR_SCOPED(wr_buf_fini) struct wr_buf pem = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf again = WR_BUF_INIT;
	struct wr_err e = WR_ERR_INIT;
	struct stat st;
	char text[4096];

	assert_int_equal(wr_tls_key_new(d->fd, "tls.key", &pem, &e), 0);
	assert_int_equal(fstatat(d->fd, "tls.key", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(wr_tls_key_load(d->fd, "tls.key", &again, &e), 0);
	assert_int_equal(again.len, pem.len);
	assert_memory_equal(again.p, pem.p, pem.len);
	assert_int_equal(openssl(d,
				 (const char *[]){"openssl", "pkey", "-in", "tls.key", "-check",
						  "-noout", "-text", NULL},
				 text, sizeof(text)),
			 0);
	must_say(text, "NIST CURVE: P-256");

	/* Of another kind, or under a password that nobody is asked for. */
	assert_int_equal(openssl(d,
				 (const char *[]){"openssl", "genpkey", "-algorithm", "ed25519",
						  "-out", "ed.key", NULL},
				 text, sizeof(text)),
			 0);
	assert_int_equal(wr_tls_key_load(d->fd, "ed.key", &again, &e), -1);
	assert_int_equal(e.code, WR_E_CORRUPT);
	assert_int_equal(openssl(d,
				 (const char *[]){"openssl", "pkey", "-in", "tls.key", "-aes256",
						  "-passout", "pass:x", "-out", "locked.key", NULL},
				 text, sizeof(text)),
			 0);
	assert_int_equal(wr_tls_key_load(d->fd, "locked.key", &again, &e), -1);
	assert_int_equal(e.code, WR_E_CORRUPT);
	assert_int_equal(again.len, pem.len);
}

/* ---- expired, or a wrong clock? ---- */

static void
explains(const struct wr_cert_case *c, const char *what)
{
	struct wr_err e = WR_ERR_INIT;

	if (!wr_cert_explain(c, &e))
		fail_msg("nothing is said of: %s", what);
	assert_int_equal(e.code, WR_E_DENIED);
	assert_true(e.hint[0]);
	must_say(e.msg, what);
}

static void
test_explain(void **state)
{
	/* Made on day 0, told in seconds since. */
	const struct wr_cert_info mine = {.not_before = 0, .not_after = 400 * DAY};
	const struct wr_cert_info its = {.not_before = 50 * DAY, .not_after = 450 * DAY};
	const struct wr_cert_case usual = {
	    .now = 60 * DAY, .peer = "n2", .own = &mine, .its = &its, .fleet_at = 55 * DAY};
	struct wr_cert_case c = usual;
	struct wr_err e = WR_ERR_INIT;

	(void)state;
	wr_err_set(&e, WR_E_FAILED, "before");
	assert_false(wr_cert_explain(&c, &e));
	assert_string_equal(e.msg, "before");
	c.clock_known = true;
	c.its_now = c.now + 3600;
	assert_false(wr_cert_explain(&c, &e));

	/* Our own clock is behind. */
	c = usual;
	c.now = -1;
	explains(&c, "this host's clock says 1969-12-31T23:59:59Z, but its own certificate");
	c.now = 54 * DAY;
	explains(&c, "but the fleet record was signed at 1970-02-25T00:00:00Z");
	c.now = 55 * DAY - 60; /* as clocks differ */
	assert_false(wr_cert_explain(&c, &e));
	c.fleet_at = 0;
	c.now = 49 * DAY;
	explains(&c, "but the certificate of 'n2' was made for the time from");

	/* Really expired: the clocks agree, or nobody knows better. */
	c = usual;
	c.now = 451 * DAY;
	c.own = NULL;
	explains(&c, "the certificate of 'n2' expired at 1971-03-27T00:00:00Z");
	c.clock_known = true;
	c.its_now = c.now - 20;
	explains(&c, "the certificate of 'n2' expired");
	c.own = &mine;
	explains(&c, "its own certificate expired at 1971-02-05T00:00:00Z and that of 'n2'");
	c.now = 401 * DAY;
	c.its_now = c.now;
	explains(&c, "this host's certificate expired at 1971-02-05T00:00:00Z");

	/* The clocks do not agree. */
	c.its_now = 60 * DAY;
	explains(&c, "this host's clock says 1971-02-06T00:00:00Z, that of 'n2' says "
		     "1970-03-02T00:00:00Z");
	c.its_now = 54 * DAY;
	explains(&c, "the clock of 'n2' says 1970-02-24T00:00:00Z, but the fleet record");

	/* The other one finds ours bad. */
	c = usual;
	c.it_says_expired = true;
	explains(&c, "by this host's clock (1970-03-02T00:00:00Z) it is good until 1971-02-05");
	c = usual;
	c.it_says_bad = true;
	explains(&c, "the clock there may be behind");
	c.clock_known = true;
	c.its_now = -DAY;
	c.fleet_at = 0;
	explains(&c, "that of 'n2' says 1969-12-31T00:00:00Z");
}

/* ---- join tokens ---- */

static void
test_join_token(void **state)
{
	struct wr_ca *ca = new_ca(*state, "current", &fleet),
		     *next = new_ca(*state, "next", &fleet);
	struct wr_err e = WR_ERR_INIT;
	struct wr_join_token t, u;
	struct wr_join_text text;
	struct wr_digest a, b;

	for (int i = 0; i < 50; i++) {
		wr_join_token_new(wr_ca_cert(ca), &t);
		text = wr_join_token_text(&t);
		assert_int_equal(strlen(text.s), 68);
		assert_int_equal(strspn(text.s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
						"WXYZ0123456789-_"),
				 68);
		assert_int_equal(wr_join_token_parse(text.s, &u, &e), 0);
		assert_memory_equal(&t, &u, sizeof(t));
	}
	assert_true(wr_join_token_ca_ok(&t, wr_ca_cert(ca)));
	assert_false(wr_join_token_ca_ok(&t, wr_ca_cert(next)));
	a = wr_join_token_hash(&t);
	b = wr_join_token_hash(&u);
	assert_memory_equal(&a, &b, sizeof(a));
	/* The hash is of the secret alone. */
	u.ca_print[0] ^= 1;
	b = wr_join_token_hash(&u);
	assert_memory_equal(&a, &b, sizeof(a));
	u.secret[31] ^= 1;
	b = wr_join_token_hash(&u);
	assert_memory_not_equal(&a, &b, sizeof(a));

	text = wr_join_token_text(&t);
	for (size_t i = 4; i < 68; i++) {
		const char was = text.s[i];

		for (const char *c = "+/=. \xc3"; *c; c++) {
			text.s[i] = *c;
			assert_int_equal(wr_join_token_parse(text.s, &u, &e), -1);
			assert_int_equal(e.code, WR_E_INVALID);
		}
		text.s[i] = '\0';
		assert_int_equal(wr_join_token_parse(text.s, &u, &e), -1);
		assert_true(i < 8 || !strstr(e.msg, text.s + 4)); /* never quoted */
		text.s[i] = was;
	}
	assert_int_equal(wr_join_token_parse("", &u, &e), -1);
	assert_int_equal(wr_join_token_parse("wrt_", &u, &e), -1);
	wr_join_token_fini(&t);
	wr_ca_free(ca);
	wr_ca_free(next);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_ca, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cert, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cert__dates, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cert__refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_key, setup, teardown),
	    cmocka_unit_test(test_explain),
	    cmocka_unit_test_setup_teardown(test_join_token, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
