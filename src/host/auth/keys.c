/* SPDX-License-Identifier: Apache-2.0 */
/* Key files, made or found: who repeats what was cut off finds the keys of the first run. */
#include "host/auth/auth_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fleet/trust/trust.h"
#include "sys/fs.h"

#define KEYS_WAIT_S 10

const char *const wr_hub_key_files[WR_HUB_KEY_FILES] = {WR_HUB_KEYS "/1", WR_HUB_KEYS "/2"};

int
wr_auth_dir(int dirfd, const char *name, struct wr_err *err)
{
	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make directory '%s'", name);
	return wr_fsync_dir(dirfd, ".", err);
}

/* One process at a time makes keys. */
int
wr_auth_keys_lock(struct wr_node *n, struct wr_lock *out, struct wr_err *err)
{
	if (wr_auth_dir(n->state_fd, "tls", err) < 0)
		return -1;
	return wr_lock_take(out, n->state_fd, "tls/lock", KEYS_WAIT_S, "", NULL, err);
}

int
wr_auth_sign_key_need(int dirfd, const char *name, struct wr_sign_key *out, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_auth_key_load(dirfd, name, out, &why) == 0)
		return 0;
	if (why.code != WR_E_NOT_FOUND) {
		if (err)
			*err = why;
		return -1;
	}
	if (wr_sign_key_new(out, err) < 0)
		return -1;
	if (wr_replace_file(dirfd, name, out->seed, sizeof(out->seed), 0600, err) < 0) {
		wr_sign_key_fini(out);
		return -1;
	}
	return 0;
}

static int
need_tls_key(int dirfd, struct wr_buf *out_pem, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	if (wr_tls_key_load(dirfd, WR_TLS_KEY_FILE, out_pem, &why) == 0)
		return 0;
	if (why.code == WR_E_NOT_FOUND)
		return wr_tls_key_new(dirfd, WR_TLS_KEY_FILE, out_pem, err);
	if (err)
		*err = why;
	return -1;
}

void
wr_own_keys_fini(struct wr_own_keys *o)
{
	wr_secret_fini(&o->pem);
	wr_buf_fini(&o->spki);
	wr_sign_key_fini(&o->sign);
}

int
wr_own_keys_need(struct wr_node *n, struct wr_own_keys *out, struct wr_err *err)
{
	if (need_tls_key(n->state_fd, &out->pem, err) < 0 ||
	    wr_auth_sign_key_need(n->state_fd, WR_SIGN_KEY_FILE, &out->sign, err) < 0)
		return -1;
	return wr_tls_key_spki((struct wr_der){out->pem.p, out->pem.len}, &out->spki, err);
}

int
wr_auth_keys(struct wr_node *n, struct wr_buf *out_spki, struct wr_pub *out_sign,
	     struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;
	WR_SCOPED(wr_own_keys_fini) struct wr_own_keys own = {0};

	if (wr_auth_keys_lock(n, &lock, err) < 0 || wr_own_keys_need(n, &own, err) < 0)
		return wr_err_wrap(err, "keys of the node at '%s'", WR_Q(n->state_path));
	wr_buf_add(out_spki, own.spki.p, own.spki.len);
	*out_sign = own.sign.pub;
	return 0;
}
