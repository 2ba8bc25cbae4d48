/* SPDX-License-Identifier: Apache-2.0 */
/* What a hub signs with. */
#include "host/auth/auth_int.h"

#include <fcntl.h>
#include <unistd.h>

#include "fleet/trust/trust.h"
#include "sys/fs.h"

static void
ca_freep(struct wr_ca **ca)
{
	wr_ca_free(*ca);
	*ca = NULL;
}

bool
wr_auth_is_hub(const struct wr_auth *a)
{
	return faccessat(a->node->state_fd, "hub", F_OK, 0) == 0;
}

int
wr_auth_hub_ca(const struct wr_auth *a, struct wr_ca **out, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = wr_open_dir(a->node->state_fd, WR_HUB_CA);
	WR_SCOPED(ca_freep) struct wr_ca *ca = NULL;
	struct wr_cert_info info;

	if (fd < 0)
		return wr_err_sys(err, "the fleet's CA: open '%s'", WR_HUB_CA);
	if (wr_ca_load(fd, "current", &ca, err) < 0 || wr_cert_info(wr_ca_cert(ca), &info, err) < 0)
		return wr_err_wrap(err, "the fleet's CA");
	if (strcmp(info.fleet.s, a->fleet.id.s) != 0)
		return wr_err_set(err, WR_E_CORRUPT, "the CA in '%s' is of fleet %s", WR_HUB_CA,
				  info.fleet.s);
	*out = wr_steal(&ca);
	return 0;
}

static bool
is_hub_key(const struct wr_fleet *f, const struct wr_pub *pub)
{
	for (size_t i = 0; i < f->hub_count; i++)
		if (!memcmp(f->hub[i].b, pub->b, sizeof(pub->b)))
			return true;
	return false;
}

int
wr_auth_hub_key(const struct wr_auth *a, struct wr_sign_key *out, struct wr_err *err)
{
	struct wr_err why = WR_ERR_INIT;

	for (size_t i = 0; i < WR_HUB_KEY_FILES; i++) {
		struct wr_sign_key k;

		if (wr_auth_key_load(a->node->state_fd, wr_hub_key_files[i], &k, &why) < 0) {
			if (why.code == WR_E_NOT_FOUND)
				continue;
			if (err)
				*err = why;
			return wr_err_wrap(err, "a key of this hub");
		}
		if (is_hub_key(&a->fleet, &k.pub)) {
			*out = k;
			return 0;
		}
		wr_sign_key_fini(&k);
	}
	return wr_err_set(err, WR_E_DENIED, "no key in '%s' is one that the fleet record names",
			  WR_HUB_KEYS);
}

/* ---- the offline key ---- */

/* One digit, or -1. */
static int
hex_digit(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
wr_auth_recovery_load(const char *path, struct wr_sign_key *out, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf b = WR_BUF_INIT;
	size_t at = 0, end;
	uint8_t seed[32];

	/* It may come from a stick that knows no modes. */
	if (wr_auth_read(AT_FDCWD, path, 4096, WR_OPEN_FILE, &b, NULL, NULL, err) < 0)
		return wr_err_wrap(err, "recovery key");
	wr_buf_add8(&b, '\n');
	while (at < b.len && (b.p[at] == '#' || b.p[at] == '\n'))
		at += (size_t)((uint8_t *)memchr(b.p + at, '\n', b.len - at) - (b.p + at)) + 1;
	end = at;
	while (end < b.len && hex_digit(b.p[end]) >= 0)
		end++;
	if (end - at != 2 * sizeof(seed))
		return wr_err_set(err, WR_E_CORRUPT, "'%s' holds no recovery key", WR_Q(path));
	for (size_t i = 0; i < sizeof(seed); i++)
		seed[i] =
		    (uint8_t)(hex_digit(b.p[at + 2 * i]) << 4 | hex_digit(b.p[at + 2 * i + 1]));
	return wr_sign_key_of(seed, out, err);
}
