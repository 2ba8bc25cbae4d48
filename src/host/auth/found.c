/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Founding a fleet.  Each step is durable and finds what an earlier run left, so that one that was
 * cut off is repeated:
 *
 *   CA -> planned CA -> hub keys -> recovery key -> own keys -> certificate -> fleet.bin ->
 * node.json
 *
 * node.json comes last: before it the node belongs to no fleet, and nobody has seen what was made.
 * The fleet's id is that of the first CA's certificate.
 */
#include "host/auth/auth_int.h"

#include "fleet/trust/trust.h"
#include "sys/clock.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define REPLICAS 3 /* policy of a new fleet: copies of a project, while there are as many nodes */
#define WEIGHT 100

/* ---- the recovery key, as text ---- */

static int
store_recovery(const struct wr_node *n, const struct wr_uuid *fleet, const struct wr_sign_key *k,
	       struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf b = WR_BUF_INIT;

	wr_buf_reserve(&b, 1024); /* so that it does not grow and leave a copy behind */
	wr_buf_addf(&b,
		    "# The recovery key of fleet %s.\n"
		    "# Who has it can take every project of the fleet over, also when its hubs are "
		    "lost.\n"
		    "# Move it off this host, to where only you get at it: print it, or put it on "
		    "a stick.\n",
		    fleet->s);
	for (size_t i = 0; i < sizeof(k->seed); i++)
		wr_buf_addf(&b, "%02x", k->seed[i]);
	wr_buf_add8(&b, '\n');
	return wr_replace_file(n->state_fd, WR_RECOVERY_FILE, b.p, b.len, 0600, err);
}

/* ---- founding ---- */

struct founding {
	struct wr_node *n;
	int ca_fd;
	struct wr_uuid fleet;
	struct wr_ca *ca, *next;
	struct wr_sign_key hub[WR_HUB_KEY_FILES], recovery;
	struct wr_own_keys own;
	struct wr_cert_info ca_info;
};

static void
founding_fini(struct founding *f)
{
	wr_closep(&f->ca_fd);
	wr_ca_free(f->ca);
	wr_ca_free(f->next);
	for (size_t i = 0; i < WR_HUB_KEY_FILES; i++)
		wr_sign_key_fini(&f->hub[i]);
	wr_sign_key_fini(&f->recovery);
	wr_own_keys_fini(&f->own);
}

static int
need_ca(int dirfd, const char *name, const struct wr_uuid *fleet, struct wr_ca **out,
	struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_ca_load(dirfd, name, out, &why) == 0)
		return 0;
	if (why.code != WR_E_NOT_FOUND) {
		if (err)
			*err = why;
		return -1;
	}
	if (wr_ca_new(dirfd, name, fleet, err) < 0)
		return -1;
	return wr_ca_load(dirfd, name, out, err);
}

static int
need_cas(struct founding *f, struct wr_err *err)
{
	int fd = f->n->state_fd;
	struct wr_uuid id;

	if (wr_auth_dir(fd, "hub", err) < 0 || wr_auth_dir(fd, WR_HUB_CA, err) < 0 ||
	    wr_auth_dir(fd, WR_HUB_KEYS, err) < 0)
		return -1;
	f->ca_fd = wr_open_dir(fd, WR_HUB_CA);
	if (f->ca_fd < 0)
		return wr_err_sys(err, "open '%s'", WR_HUB_CA);
	wr_uuid_new(&id);
	if (need_ca(f->ca_fd, "current", &id, &f->ca, err) < 0 ||
	    wr_cert_info(wr_ca_cert(f->ca), &f->ca_info, err) < 0)
		return -1;
	f->fleet = f->ca_info.fleet; /* of an earlier run, if there was one */
	wr_crash_point("found.ca");
	return need_ca(f->ca_fd, "next", &f->fleet, &f->next, err);
}

static int
need_recovery(struct founding *f, struct wr_err *err)
{
	WR_SCOPED(wr_freep)
	char *path = wr_asprintf("%s/" WR_RECOVERY_FILE, f->n->state_path);
	struct wr_err why = WR_ERR_INIT;

	if (wr_auth_recovery_load(path, &f->recovery, &why) == 0)
		return 0;
	if (why.code != WR_E_NOT_FOUND) {
		if (err)
			*err = why;
		return -1;
	}
	if (wr_sign_key_new(&f->recovery, err) < 0)
		return -1;
	return store_recovery(f->n, &f->fleet, &f->recovery, err);
}

static int
need_keys(struct founding *f, struct wr_err *err)
{
	for (size_t i = 0; i < WR_HUB_KEY_FILES; i++)
		if (wr_auth_sign_key_need(f->n->state_fd, wr_hub_key_files[i], &f->hub[i], err) < 0)
			return -1;
	wr_crash_point("found.hub-keys");
	if (need_recovery(f, err) < 0 || wr_own_keys_need(f->n, &f->own, err) < 0)
		return -1;
	wr_crash_point("found.keys");
	return 0;
}

static int
store_first_cert(const struct founding *f, const struct wr_reach *reach, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf der = WR_BUF_INIT;
	WR_SCOPED(wr_freep) const char **name = wr_calloc(reach->name_count, sizeof(*name));
	struct wr_cert_ask ask = WR_CERT_ASK_INIT;

	for (size_t i = 0; i < reach->name_count; i++)
		name[i] = reach->name[i];
	ask.fleet = f->fleet;
	ask.node = (struct wr_node_id){f->n->id, 1};
	ask.spki = (struct wr_der){f->own.spki.p, f->own.spki.len};
	ask.name = name;
	ask.name_count = reach->name_count;
	ask.now = wr_clock_wall().s;
	if (wr_cert_issue(f->ca, &ask, &der, err) < 0)
		return -1;
	return wr_replace_file(f->n->state_fd, WR_CERT_FILE, der.p, der.len, 0600, err);
}

static int
first_node(const struct founding *f, const struct wr_reach *reach, struct wr_fleet_node *out,
	   struct wr_err *err)
{
	const struct wr_node *n = f->n;
	struct wr_fleet_node r = {
	    .node = {n->id, 1}, .pub = f->own.sign.pub, .weight = WEIGHT, .flags = WR_FLEET_HUB};

	if (strlen(n->name) >= sizeof(r.name))
		return wr_err_set(err, WR_E_INVALID,
				  "the node's name '%s' is longer than the %zu bytes that a fleet "
				  "takes",
				  WR_Q(n->name), sizeof(r.name) - 1);
	snprintf(r.name, sizeof(r.name), "%.63s", n->name);
	snprintf(r.dc, sizeof(r.dc), "%s", n->dc);
	snprintf(r.peer, sizeof(r.peer), "%.255s", reach->peer);
	snprintf(r.api, sizeof(r.api), "%.255s", reach->api);
	(void)wr_names_spell((const char *const *)reach->name, reach->name_count, r.names,
			     sizeof(r.names)); /* those that have room */
	*out = r;
	return 0;
}

static void
add_ca(struct wr_fleet *f, size_t i, const struct wr_ca *ca)
{
	struct wr_der der = wr_ca_cert(ca);

	f->ca[i] = wr_memdup(der.p, der.len);
	f->ca_len[i] = der.len;
}

static int
store_first_record(const struct founding *f, const struct wr_reach *reach, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_fleet r = {.id = f->fleet,
			     .seq = 1,
			     .at = wr_clock_wall().s,
			     .hub_count = WR_HUB_KEY_FILES,
			     .recovery = f->recovery.pub,
			     .replicas = REPLICAS};
	int rc;

	r.node = wr_calloc(1, sizeof(*r.node));
	r.node_count = 1;
	for (size_t i = 0; i < WR_HUB_KEY_FILES; i++)
		r.hub[i] = f->hub[i].pub;
	add_ca(&r, 0, f->ca);
	add_ca(&r, 1, f->next);
	rc = first_node(f, reach, &r.node[0], err);
	if (rc == 0)
		rc = wr_fleet_sign(&r, &f->hub[0], err);
	if (rc == 0)
		wr_fleet_encode(&r, &b);
	wr_fleet_fini(&r);
	if (rc < 0)
		return -1;
	return wr_replace_file(f->n->state_fd, WR_FLEET_FILE, b.p, b.len, 0600, err);
}

static int
found(struct founding *f, struct wr_err *err)
{
	struct wr_reach reach;
	int rc;

	if (need_cas(f, err) < 0 || need_keys(f, err) < 0)
		return -1;
	wr_reach_of(f->n, &reach);
	rc = store_first_cert(f, &reach, err);
	if (rc == 0)
		rc = store_first_record(f, &reach, err);
	wr_reach_fini(&reach);
	if (rc < 0)
		return -1;
	wr_crash_point("found.record");
	return wr_node_set_fleet(f->n, &f->fleet, 1, err);
}

static json_t *
found_receipt(const struct founding *f)
{
	WR_SCOPED(wr_freep)
	char *recovery = wr_asprintf("%s/" WR_RECOVERY_FILE, f->n->state_path);
	json_t *o = wr_json_begin("warren.found/1");

	wr_json_str(o, "fleet", f->fleet.s);
	wr_json_str(o, "ca_fingerprint", wr_print_text(&f->ca_info.print).s);
	wr_json_path(o, "recovery_key", recovery, strlen(recovery));
	return o;
}

int
wr_auth_found(struct wr_node *n, json_t **out_receipt, struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;
	WR_SCOPED(founding_fini) struct founding f = {.n = n, .ca_fd = -1};

	if (n->fleet.s[0])
		return wr_err_set(err, WR_E_EXISTS, "this node belongs to fleet %s already",
				  n->fleet.s);
	if (wr_auth_keys_lock(n, &lock, err) < 0 || found(&f, err) < 0)
		return wr_err_wrap(err, "found a fleet at '%s'", WR_Q(n->state_path));
	if (out_receipt)
		*out_receipt = found_receipt(&f);
	return 0;
}
