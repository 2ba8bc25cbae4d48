/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warren join: this host becomes a node of a fleet.
 *
 *   1  the server shows a CA with the fingerprint that the token names; nothing was sent so far
 *   2  what is the token for?  name and data centre; it stays unused
 *   3  the node: state, volume, keys; they never leave this host
 *   4  the public keys go out, certificate and fleet record come back
 *   5  both are kept, node.json last
 *
 * A run that was cut off anywhere is repeated as it was.
 */
#include <fcntl.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/out.h"
#include "host/auth/auth.h"
#include "sys/fs.h"

#define TOKEN_MAX 256

struct joining {
	const struct wr_args *a;
	struct wr_client c;
	struct wr_join_token token;
	char text[TOKEN_MAX];
	struct wr_digest ca; /* fingerprint of the CA that was met */
	json_t *look;        /* what the token is for */
	struct wr_node *n;
	struct wr_uuid had; /* the fleet that n belonged to before; s[0] = 0: none */
};

/* ---- what was typed ---- */

/* The token itself, or "-": from standard input, where no list of processes shows it. */
static int
read_token(struct joining *j, const char *s, struct wr_err *err)
{
	ssize_t n;

	if (strcmp(s, "-") != 0) {
		snprintf(j->text, sizeof(j->text), "%s", s);
	} else {
		n = wr_read_full(STDIN_FILENO, j->text, sizeof(j->text) - 1);
		if (n < 0)
			return wr_err_sys(err, "read the token from standard input");
		j->text[n] = '\0';
		j->text[strcspn(j->text, " \t\r\n")] = '\0';
	}
	if (wr_join_token_parse(j->text, &j->token, err) < 0) {
		wr_err_recode(err, WR_E_USAGE);
		return wr_err_hint(err, "'warren node add' on a hub of the fleet makes one");
	}
	memcpy(j->c.to.ca_print, j->token.ca_print, sizeof(j->c.to.ca_print));
	j->c.to.by_print = true;
	return 0;
}

/* ---- 1: whom do we speak to? ---- */

static int
meet(struct joining *j, struct wr_err *err)
{
	struct wr_wire *w = NULL;
	struct wr_der ca;

	if (wr_wire_open(&j->c.to, NULL, &w, err) < 0) {
		wr_err_wrap(err, "nothing was sent");
		return -1;
	}
	ca = wr_wire_ca(w);
	j->ca = wr_digest_of(ca.p, ca.len);
	wr_wire_close(w);
	wr_remark("the fleet's CA has the fingerprint %s, which is the one that the token names",
		  wr_print_text(&j->ca).s);
	return 0;
}

/* ---- 2: what is the token for? ---- */

static int
look(struct joining *j, struct wr_err *err)
{
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	const char *name, *wanted = wr_arg_str(j->a, "name"), *fleet;

	wr_ask_init(&r, WR_API_JOIN_LOOK, NULL);
	wr_ask_str(&r, "token", j->text);
	if (j->n)
		wr_ask_str(&r, "node", j->n->id.s);
	if (wr_client_ask(&j->c, &r, NULL, &j->look, err) < 0)
		return -1;
	name = wr_json_get_str(j->look, "name", "");
	fleet = wr_json_get_str(j->look, "fleet", "");
	if (wanted && strcmp(wanted, name) != 0)
		return wr_err_set(err, WR_E_DENIED, "the token is for a node '%s', not '%s'",
				  WR_Q(name), WR_Q(wanted));
	if (*j->had.s && strcmp(j->had.s, fleet) != 0)
		return wr_err_set(err, WR_E_EXISTS, "this host is a node of fleet %s already",
				  j->had.s);
	return 0;
}

/* ---- 3: the node ---- */

static const struct {
	const char *option, *key;
} listens[] = {{"listen-peer", "peer"}, {"listen-api", "api"}, {"listen-name", "name"}};

static bool
differs(const char *set, const char *wanted)
{
	return wanted && strcmp(set ? set : "", wanted) != 0;
}

/* Where it listens belongs into the configuration.  A file that is there is its owner's. */
static int
configure(struct joining *j, struct wr_err *err)
{
	const char *root = wr_client_root(j->a);
	WR_SCOPED(wr_freep)
	char *path =
	    root ? wr_asprintf("%s/warren.conf", root) : wr_strdup("/etc/warren/warren.conf");
	WR_SCOPED(wr_freep) char *dir = wr_strdup(path);
	WR_SCOPED(wr_config_fini) struct wr_config config = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = -1;
	const char *value[WR_ARRAY_LEN(listens)];
	bool missing = false;

	for (size_t i = 0; i < WR_ARRAY_LEN(listens); i++)
		value[i] = wr_arg_str(j->a, listens[i].option);
	if (wr_config_load(path, &config, err) < 0)
		return -1;
	missing |= differs(config.listen_peer, value[0]);
	missing |= differs(config.listen_api, value[1]);
	missing |= differs(config.listen_name, value[2]);
	if (!missing)
		return 0;
	if (access(path, F_OK) == 0) {
		wr_err_set(err, WR_E_EXISTS, "'%s' says otherwise where to listen", WR_Q(path));
		return wr_err_hint(err, "change its section [listen], and leave the options out");
	}
	wr_buf_adds(&b, "[listen]\n");
	for (size_t i = 0; i < WR_ARRAY_LEN(listens); i++)
		if (value[i])
			wr_buf_addf(&b, "%s = %s\n", listens[i].key, value[i]);
	*strrchr(dir, '/') = '\0';
	if (wr_mkdirs(AT_FDCWD, dir, 0755, err) < 0)
		return -1;
	fd = wr_open_dir(AT_FDCWD, dir);
	if (fd < 0)
		return wr_err_sys(err, "open '%s'", WR_Q(dir));
	if (wr_replace_file(fd, "warren.conf", b.p, b.len, 0644, err) < 0)
		return -1;
	/* Now by its own rules. */
	wr_config_fini(&config);
	config = (struct wr_config){0};
	if (wr_config_load(path, &config, err) == 0)
		return 0;
	(void)unlink(path); /* it was made a moment ago, from what is wrong */
	return -1;
}

static int
make_node(struct joining *j, struct wr_err *err)
{
	struct wr_node_init o = {.root = wr_client_root(j->a),
				 .dc = wr_json_get_str(j->look, "dc", ""),
				 .name = wr_json_get_str(j->look, "name", ""),
				 .user = wr_arg_str(j->a, "user"),
				 .volume = wr_arg_str(j->a, "volume"),
				 .allow_root_fs = wr_arg_flag(j->a, "allow-root-fs"),
				 .reserve_bytes = wr_arg_u64(j->a, "reserve", 0)};
	json_t *receipt = NULL;

	if (j->n)
		return 0;
	if (!o.volume) {
		wr_err_set(err, WR_E_USAGE, "option '--volume' is missing");
		return wr_err_hint(err,
				   "it names the directory for projects, best a file system of "
				   "its own");
	}
	if (wr_node_init(&o, &receipt, err) < 0)
		return -1;
	json_decref(receipt);
	return wr_node_open(o.root, WR_NODE_NO_VOLUMES, &j->n, err);
}

/* ---- 4, 5: join ---- */

static int
ask_join(struct joining *j, json_t **out, struct wr_err *err)
{
	WR_SCOPED(wr_ask_fini) struct wr_ask r = {0};
	WR_SCOPED(wr_buf_fini) struct wr_buf spki = WR_BUF_INIT, names = WR_BUF_INIT;
	WR_SCOPED(wr_reach_fini) struct wr_reach reach = {0};
	WR_SCOPED(wr_freep) char *spki_text = NULL;
	WR_SCOPED(wr_freep) char *pub_text = NULL;
	struct wr_pub pub;

	if (wr_auth_keys(j->n, &spki, &pub, err) < 0)
		return -1;
	spki_text = wr_base64(spki.p, spki.len);
	pub_text = wr_base64(pub.b, sizeof(pub.b));
	wr_reach_of(j->n, &reach);
	for (size_t i = 0; i < reach.name_count; i++)
		wr_buf_addf(&names, "%s%s", i ? "," : "", reach.name[i]);
	wr_ask_init(&r, WR_API_JOIN, NULL);
	wr_ask_str(&r, "token", j->text);
	wr_ask_str(&r, "node", j->n->id.s);
	wr_ask_str(&r, "tls_spki", spki_text);
	wr_ask_str(&r, "sign_pub", pub_text);
	wr_ask_str(&r, "names", names.len ? wr_buf_str(&names) : NULL);
	wr_ask_str(&r, "peer", *reach.peer ? reach.peer : NULL);
	wr_ask_str(&r, "api", *reach.api ? reach.api : NULL);
	return wr_client_ask(&j->c, &r, NULL, out, err);
}

static int
member_bytes(const json_t *o, const char *key, struct wr_buf *out, struct wr_err *err)
{
	const char *s = wr_json_get_str(o, key, "");

	if (*s && wr_base64_decode(out, s, strlen(s)))
		return 0;
	return wr_err_set(err, WR_E_FAILED, "the hub's answer has no %s", key);
}

/* The fleet that the token is of: the CA that we met is one of its own. */
static int
check_fleet(const struct joining *j, const struct wr_buf *b, struct wr_err *err)
{
	struct wr_der ca[2];
	struct wr_fleet f;
	bool same = false;
	size_t n;

	if (wr_fleet_decode(b->p, b->len, &f, err) < 0)
		return wr_err_wrap(err, "the fleet record from the hub");
	n = wr_fleet_cas(&f, ca);
	for (size_t i = 0; i < n; i++)
		same |= wr_join_token_ca_ok(&j->token, ca[i]);
	wr_fleet_fini(&f);
	return same ? 0
		    : wr_err_set(err, WR_E_DENIED,
				 "the fleet record from the hub has another CA than the token");
}

static int
take(struct joining *j, const json_t *o, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf cert = WR_BUF_INIT, fleet = WR_BUF_INIT;
	uint64_t inc = wr_json_get_u64(o, "incarnation", 0);

	if (member_bytes(o, "cert_b64", &cert, err) < 0 ||
	    member_bytes(o, "fleet_b64", &fleet, err) < 0 || check_fleet(j, &fleet, err) < 0)
		return -1;
	if (inc == 0 || inc > UINT32_MAX)
		return wr_err_set(err, WR_E_FAILED, "the hub's answer has no incarnation");
	return wr_auth_join(j->n, (uint32_t)inc, &cert, &fleet, err);
}

/* ---- the command ---- */

static int
report(const struct joining *j, const json_t *o, struct wr_err *err)
{
	json_t *out;
	const char *name = wr_json_get_str(o, "name", "?"), *dc = wr_json_get_str(o, "dc", "?");

	if (wr_out_json()) {
		out = wr_json_begin("warren.joined/1");
		wr_json_str(out, "node", j->n->id.s);
		wr_json_str(out, "name", name);
		wr_json_str(out, "dc", dc);
		wr_json_str(out, "fleet", j->n->fleet.s);
		wr_json_u64(out, "incarnation", j->n->incarnation);
		wr_json_str(out, "ca_fingerprint", wr_print_text(&j->ca).s);
		wr_json_path(out, "state", j->n->state_path, strlen(j->n->state_path));
		wr_json_path(out, "config", j->n->config_path, strlen(j->n->config_path));
		return wr_json_print(out, err);
	}
	if (wr_out_quiet())
		return 0;
	printf("this host is node ");
	wr_name_print(name, strlen(name));
	printf(" in ");
	wr_name_print(dc, strlen(dc));
	printf(" of fleet %.36s now\n", j->n->fleet.s);
	if (j->n->root) {
		printf("start its daemon with 'warren serve --root ");
		wr_name_print(j->n->root, strlen(j->n->root));
		printf("'\n");
	} else {
		printf("start its daemon with 'systemctl start warren'\n");
	}
	if (!j->n->config.listen_peer || !*j->n->config.listen_peer)
		wr_warn("no other node can reach this one: set 'peer' in [listen] of '%s' and "
			"repeat this command with a token of 'warren node add --rejoin'",
			WR_Q(j->n->config_path));
	return 0;
}

static int
join(struct joining *j, struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = NULL;
	struct wr_err why = WR_ERR_INIT;

	if (wr_wire_to_url(&j->c.to, "URL", j->a->pos[0], err) < 0)
		return -1;
	if (!j->c.to.host) {
		wr_err_set(err, WR_E_USAGE, "URL: a fleet is joined by https");
		return wr_err_hint(err, "'warren node add' on a hub tells the URL");
	}
	if (read_token(j, j->a->pos[1], err) < 0)
		return -1;
	if (wr_node_open(wr_client_root(j->a), WR_NODE_NO_VOLUMES, &j->n, &why) < 0) {
		j->n = NULL;
		if (why.code != WR_E_NOT_FOUND) {
			*err = why;
			return -1;
		}
	} else {
		j->had = j->n->fleet;
	}
	if (meet(j, err) < 0 || look(j, err) < 0 || configure(j, err) < 0 ||
	    make_node(j, err) < 0 || ask_join(j, &o, err) < 0 || take(j, o, err) < 0)
		return -1;
	return report(j, o, err);
}

int
wr_cmd_join(const struct wr_args *a, struct wr_err *err)
{
	struct joining j = {.a = a};
	int rc = join(&j, err);

	wr_node_close(j.n);
	wr_client_fini(&j.c);
	json_decref(j.look);
	wr_join_token_fini(&j.token);
	explicit_bzero(j.text, sizeof(j.text));
	return rc;
}
