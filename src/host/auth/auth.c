/* SPDX-License-Identifier: Apache-2.0 */
/* Who this node is, and the fleet as it knows it. */
#include "host/auth/auth_int.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fleet/trust/trust.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define FLEET_WAIT_S 10

/* ---- files ---- */

static int
read_checked(int fd, const char *name, size_t max, enum wr_secrecy secrecy, const struct stat *st,
	     struct wr_buf *out, struct wr_err *err)
{
	ssize_t n;

	if (!S_ISREG(st->st_mode))
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is no regular file", WR_Q(name));
	if (secrecy == WR_SECRET_FILE && (st->st_mode & 077)) {
		wr_err_set(err, WR_E_DENIED, "others may read the key '%s'", WR_Q(name));
		return wr_err_hint(err, "if nobody did: chmod 600; else this host has to come back "
					"with new keys");
	}
	if ((uint64_t)st->st_size > max)
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is larger than %zu bytes", WR_Q(name),
				  max);
	/* Files are replaced, never written into: it does not grow under us. */
	wr_buf_reserve(out, (size_t)st->st_size + 1);
	n = wr_read_full(fd, out->p + out->len, (size_t)st->st_size);
	if (n < 0)
		return wr_err_sys(err, "read '%s'", WR_Q(name));
	out->len += (size_t)n;
	return 0;
}

int
wr_auth_read(int dirfd, const char *name, size_t max, enum wr_secrecy secrecy, struct wr_buf *out,
	     uint64_t *out_ino, struct wr_ts *out_when, struct wr_err *err)
{
	/* O_NONBLOCK: a fifo in its place must not make us wait. */
	WR_SCOPED(wr_closep)
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ELOOP)
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is a link", WR_Q(name));
	if (fd < 0 || fstat(fd, &st) < 0)
		return wr_err_sys(err, "read '%s'", WR_Q(name));
	if (read_checked(fd, name, max, secrecy, &st, out, err) < 0)
		return -1;
	if (out_ino)
		*out_ino = st.st_ino;
	if (out_when)
		*out_when = (struct wr_ts){st.st_mtim.tv_sec, (uint32_t)st.st_mtim.tv_nsec};
	return 0;
}

int
wr_auth_key_load(int dirfd, const char *name, struct wr_sign_key *out, struct wr_err *err)
{
	WR_SCOPED(wr_secret_fini) struct wr_buf b = WR_BUF_INIT;

	if (wr_auth_read(dirfd, name, 1024, WR_SECRET_FILE, &b, NULL, NULL, err) < 0)
		return -1;
	if (b.len != sizeof(out->seed))
		return wr_err_set(err, WR_E_CORRUPT, "'%s' is no key of %zu bytes", name,
				  sizeof(out->seed));
	return wr_sign_key_of(b.p, out, err);
}

/* ---- the fleet record ---- */

/* Whole, as its signer signed it? Whose signature counts was judged when it was taken, by the
 * record before it: this one may have taken its own signer's rights away. */
static int
check_whole(const struct wr_fleet *f, struct wr_err *err)
{
	struct wr_fleet before = *f; /* borrows all of it */

	before.seq--;
	before.hub[0] = f->signer;
	before.hub_count = 1;
	return wr_fleet_verify(f, &before, err);
}

static int
damaged(const struct wr_node *n, struct wr_err *err)
{
	wr_err_recode(err, WR_E_CORRUPT);
	wr_err_wrap(err, "fleet record '%s/%s'", WR_Q(n->state_path), WR_FLEET_FILE);
	return wr_err_hint(err,
			   "copy the file from another node of the fleet; it holds no secrets");
}

int
wr_auth_fleet_load(const struct wr_node *n, struct wr_fleet *out, uint64_t *out_ino,
		   struct wr_ts *out_when, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_err why = WR_ERR_INIT, *why_at = err ? err : &why;
	struct wr_fleet f;

	if (wr_auth_read(n->state_fd, WR_FLEET_FILE, WR_FLEET_BYTES, WR_OPEN_FILE, &b, out_ino,
			 out_when, why_at) < 0)
		return why_at->code == WR_E_CORRUPT ? damaged(n, why_at) : -1;
	if (wr_fleet_decode(b.p, b.len, &f, why_at) < 0)
		return damaged(n, why_at);
	if (check_whole(&f, why_at) < 0) {
		wr_fleet_fini(&f);
		return damaged(n, why_at);
	}
	*out = f;
	return 0;
}

int
wr_auth_fleet_lock(struct wr_node *n, struct wr_lock *out, struct wr_err *err)
{
	return wr_lock_take(out, n->state_fd, "fleet.lock", FLEET_WAIT_S, "", NULL, err);
}

/* ---- opening ---- */

static int
no_fleet(const struct wr_node *n, struct wr_err *err)
{
	wr_err_set(err, WR_E_NOT_FOUND, "the node at '%s' belongs to no fleet",
		   WR_Q(n->state_path));
	return wr_err_hint(err,
			   "found one here with `warren init`, or let it join one: warren join "
			   "URL TOKEN");
}

static int
load_fleet(struct wr_auth *a, struct wr_err *err)
{
	struct wr_node *n = a->node;
	struct wr_err why = WR_ERR_INIT;

	if (wr_auth_fleet_load(n, &a->fleet, &a->seen.ino, &a->seen.when, &why) < 0) {
		if (err)
			*err = why;
		return why.code == WR_E_NOT_FOUND ? damaged(n, err) : -1;
	}
	if (strcmp(a->fleet.id.s, n->fleet.s) != 0) {
		wr_err_set(err, WR_E_CORRUPT, "it is of fleet %s, the node belongs to %s",
			   a->fleet.id.s, n->fleet.s);
		return damaged(n, err);
	}
	return 0;
}

static int
load_key(struct wr_auth *a, struct wr_err *err)
{
	struct wr_node *n = a->node;
	const struct wr_fleet_node *own;

	if (wr_auth_key_load(n->state_fd, WR_SIGN_KEY_FILE, &a->key, err) < 0) {
		wr_err_wrap(err, "signing key of the node at '%s'", WR_Q(n->state_path));
		if (err && (err->code == WR_E_NOT_FOUND || err->code == WR_E_CORRUPT)) {
			wr_err_recode(err, WR_E_CORRUPT);
			wr_err_hint(err, "there is no other copy of it: this host has to come back "
					 "to the fleet as a new incarnation");
		}
		return -1;
	}
	own = wr_auth_own(a);
	if (own && memcmp(own->pub.b, a->key.pub.b, sizeof(own->pub.b)) != 0) {
		wr_err_set(err, WR_E_CORRUPT,
			   "the signing key of the node at '%s' is not the one that the fleet "
			   "record names: %s, not %s",
			   WR_Q(n->state_path), wr_pub_short(&a->key.pub).s,
			   wr_pub_short(&own->pub).s);
		return wr_err_hint(err, "was its STATE put together from two hosts?");
	}
	return 0;
}

static uint64_t
random64(void)
{
	uint64_t r = 0;

	while (r == 0 && getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		r = 0;
	return r;
}

int
wr_auth_open(struct wr_node *n, struct wr_auth **out, struct wr_err *err)
{
	struct wr_auth *a;

	if (!n->fleet.s[0])
		return no_fleet(n, err);
	a = wr_calloc(1, sizeof(*a));
	a->node = n;
	a->self.id = n->id;
	a->self.inc = n->incarnation;
	a->counter = n->counter;
	a->nonce = random64();
	if (load_fleet(a, err) < 0 || load_key(a, err) < 0) {
		wr_auth_close(a);
		return -1;
	}
	*out = a;
	return 0;
}

void
wr_auth_close(struct wr_auth *a)
{
	if (!a)
		return;
	wr_sign_key_fini(&a->key);
	wr_fleet_fini(&a->fleet);
	free(a);
}

const struct wr_fleet_node *
wr_auth_own(const struct wr_auth *a)
{
	const struct wr_fleet_node *f = wr_fleet_find(&a->fleet, &a->self.id);

	return f && f->node.inc == a->self.inc ? f : NULL;
}

/* ---- changes ---- */

bool
wr_auth_refresh(struct wr_auth *a)
{
	struct wr_fleet f;
	struct wr_ts when;
	struct stat st;
	uint64_t ino;

	if (fstatat(a->node->state_fd, WR_FLEET_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (st.st_ino == a->seen.ino && st.st_mtim.tv_sec == a->seen.when.s &&
	     (uint32_t)st.st_mtim.tv_nsec == a->seen.when.ns))
		return false;
	/* What cannot be read now is no reason to forget what is held. */
	if (wr_auth_fleet_load(a->node, &f, &ino, &when, NULL) < 0)
		return false;
	a->seen.ino = ino;
	a->seen.when = when;
	if (strcmp(f.id.s, a->fleet.id.s) != 0 || f.seq <= a->fleet.seq) {
		wr_fleet_fini(&f);
		return false;
	}
	wr_fleet_fini(&a->fleet);
	a->fleet = f;
	return true;
}

/* Under the lock. */
static int
take_newer(struct wr_auth *a, const struct wr_fleet *f, const void *p, size_t len, bool *out_newer,
	   struct wr_err *err)
{
	(void)wr_auth_refresh(a);
	if (!strcmp(f->id.s, a->fleet.id.s) && f->seq <= a->fleet.seq) {
		*out_newer = false;
		return 0;
	}
	if (wr_fleet_verify(f, &a->fleet, err) < 0)
		return -1;
	wr_crash_point("auth.fleet");
	/* DURABLE: who was removed stays removed, also for who reads this after a crash. */
	if (wr_replace_file(a->node->state_fd, WR_FLEET_FILE, p, len, 0600, err) < 0)
		return wr_err_wrap(err, "keep the fleet record");
	wr_crash_point("auth.fleet-stored");
	*out_newer = true;
	return 0;
}

int
wr_auth_fleet_put(struct wr_auth *a, const void *p, size_t len, bool *out_newer, struct wr_err *err)
{
	WR_SCOPED(wr_lock_drop) struct wr_lock lock = WR_LOCK_INIT;
	struct wr_fleet f;
	bool newer = false;
	int rc;

	if (wr_fleet_decode(p, len, &f, err) < 0)
		return -1;
	rc = wr_auth_fleet_lock(a->node, &lock, err);
	if (rc == 0)
		rc = take_newer(a, &f, p, len, &newer, err);
	wr_fleet_fini(&f);
	if (rc < 0)
		return -1;
	if (newer)
		(void)wr_auth_refresh(a);
	if (out_newer)
		*out_newer = newer;
	return 0;
}

int
wr_auth_count(struct wr_auth *a, struct wr_err *err)
{
	if (wr_node_count(a->node, err) < 0)
		return -1;
	a->counter = a->node->counter;
	return 0;
}

bool
wr_auth_set_back(const struct wr_auth *a)
{
	return faccessat(a->node->state_fd, WR_AUTH_BEHIND, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}
