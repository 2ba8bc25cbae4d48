/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/apply.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/snap/fsmeta.h"
#include "sys/fs.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* Flags that only a privileged user may change. */
#define ATTR_LOCKS ((unsigned)(FS_IMMUTABLE_FL | FS_APPEND_FL))
/* The mark of a quota project: it belongs to the place, not to the files restored there. */
#define ATTR_PLACE UINT64_C(0x20000000)

/* The umask, without changing it for a moment as umask(2) would. */
static mode_t
read_umask(void)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const char *at;

	if (wr_read_file(AT_FDCWD, "/proc/self/status", 1 << 16, &b, NULL) == 0) {
		at = strstr(wr_buf_str(&b), "\nUmask:");
		if (at)
			return (mode_t)strtoul(at + 7, NULL, 8) & 0777;
	}
	return 0777; /* unknown: every mode is set explicitly */
}

/* Those that make a process of any user as good as the owner of every file. */
static bool
has_owner_caps(void)
{
	const uint32_t want =
	    UINT32_C(1) << CAP_CHOWN | UINT32_C(1) << CAP_DAC_OVERRIDE | UINT32_C(1) << CAP_FOWNER;
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}};

	return syscall(SYS_capget, &h, d) == 0 && (d[0].effective & want) == want;
}

void
wr_apply_init(struct wr_apply *a, bool no_owner, struct wr_names *names)
{
	int n;

	*a = (struct wr_apply){
	    .no_owner = no_owner,
	    .root = geteuid() == 0 || has_owner_caps(),
	    .plain = geteuid() != 0,
	    .uid = geteuid(),
	    .gid = getegid(),
	    .umask = read_umask(),
	    .names = names,
	};
	if (a->root)
		return;
	n = getgroups(0, NULL);
	if (n <= 0)
		return;
	a->groups = wr_reallocarray(NULL, (size_t)n, sizeof(*a->groups));
	n = getgroups(n, a->groups);
	a->group_count = n > 0 ? (size_t)n : 0;
}

void
wr_apply_owner(struct wr_apply *a, uid_t uid, gid_t gid)
{
	a->fixed = true;
	a->owner = uid;
	a->owner_group = gid;
}

void
wr_apply_fini(struct wr_apply *a)
{
	free(a->groups);
	a->groups = NULL;
	a->group_count = 0;
}

static bool
in_group(const struct wr_apply *a, gid_t gid)
{
	if (gid == a->gid)
		return true;
	for (size_t i = 0; i < a->group_count; i++)
		if (a->groups[i] == gid)
			return true;
	return false;
}

void
wr_apply_want(const struct wr_apply *a, mode_t type, struct wr_meta *m)
{
	uint32_t id;

	m->mode = (m->mode & 07777u) | type;
	if (a->fixed) {
		if (m->uid != a->owner)
			m->mode &= ~(uint32_t)S_ISUID;
		if (m->gid != a->owner_group && type != S_IFDIR)
			m->mode &= ~(uint32_t)S_ISGID;
		m->uid = a->owner;
		m->gid = a->owner_group;
	}
	if (!m->has_common) {
		m->mode &= ~(uint32_t)(a->umask & 0777);
		return;
	}
	if (!a->names || a->fixed)
		return;
	if (m->user.len && wr_names_find(a->names, false, m->user.p, m->user.len, &id))
		m->uid = id;
	if (m->group.len && wr_names_find(a->names, true, m->group.p, m->group.len, &id))
		m->gid = id;
}

/* Set-id bits mean the owner: without him they are dropped. */
static uint32_t
mode_for(const struct wr_meta *want, uid_t uid, gid_t gid)
{
	uint32_t mode = want->mode & 07777u;

	if (want->has_common && uid != want->uid)
		mode &= ~(uint32_t)S_ISUID;
	if (want->has_common && gid != want->gid && !S_ISDIR(want->mode))
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

mode_t
wr_apply_create_mode(const struct wr_apply *a, const struct wr_meta *want, gid_t dir_gid)
{
	mode_t mode = want->mode & 0777;

	if (want->has_common && !a->no_owner && (want->uid != a->uid || want->gid != dir_gid))
		mode &= 0700;
	/* Attributes of a file can be set by others than root only while it is writable. */
	if (!a->root && (want->xattr_count || S_ISDIR(want->mode)))
		mode |= 0700;
	return mode;
}

/* ---- comparing ---- */

static bool
has_prefix(struct wr_bytes s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.len > n && memcmp(s.p, prefix, n) == 0;
}

static bool
is_name(struct wr_bytes s, const char *name)
{
	return s.len == strlen(name) && memcmp(s.p, name, s.len) == 0;
}

/* Attributes that this user can neither see nor set are no difference. */
static void
drop_privileged(struct wr_meta *m, struct wr_buf *store)
{
	struct wr_rd r = wr_rd(m->xattrs.p, m->xattrs.len);
	struct wr_bytes name, value;
	uint32_t kept = 0;

	if (!m->xattr_count)
		return;
	while (wr_meta_xattr_next(&r, &name, &value) > 0) {
		if (has_prefix(name, "trusted.") || has_prefix(name, "security."))
			continue;
		wr_meta_xattr_add(store, name.p, name.len, value.p, value.len);
		kept++;
	}
	m->xattr_count = kept;
	m->xattrs = (struct wr_bytes){store->p, store->len};
}

bool
wr_apply_same(const struct wr_apply *a, const struct wr_meta *want, const struct wr_meta *live)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf xw = WR_BUF_INIT;
	WR_SCOPED(wr_buf_fini) struct wr_buf xl = WR_BUF_INIT;
	struct wr_meta w = *want, l = *live;
	uid_t uid = live->uid;
	gid_t gid = live->gid;

	if (!w.has_common)
		return true;
	l.has_common = true;
	l.size = w.size;
	l.hardlink = w.hardlink;
	l.symlink = w.symlink;
	l.attr = (l.attr & ~ATTR_PLACE) | (w.attr & ATTR_PLACE);
	if (!a->no_owner && a->root)
		uid = w.uid, gid = w.gid;
	else if (!a->no_owner && in_group(a, w.gid))
		gid = w.gid;
	w.mode = (w.mode & (uint32_t)S_IFMT) | mode_for(&w, uid, gid);
	w.uid = uid;
	w.gid = gid;
	if (S_ISLNK(w.mode)) /* the system decides a link's own mode */
		l.mode = w.mode;
	if (!a->root || a->plain) {
		l.attr = (l.attr & ~(uint64_t)ATTR_LOCKS) | (w.attr & ATTR_LOCKS);
		drop_privileged(&w, &xw);
		drop_privileged(&l, &xl);
	}
	return wr_meta_same(&w, &l);
}

/* ---- system calls by descriptor or by name ---- */

/* A path that leads to exactly what is held: no other call takes an O_PATH descriptor. */
static const char *
held_path(const struct wr_apply_to *p, char buf[WR_NAME_AT_MAX])
{
	snprintf(buf, WR_NAME_AT_MAX, "/proc/self/fd/%d", p->held_fd);
	return buf;
}

static ssize_t
list_xattrs(const struct wr_apply_to *p, char *buf, size_t size)
{
	char path[WR_NAME_AT_MAX];

	if (p->fd >= 0)
		return flistxattr(p->fd, buf, size);
	if (p->held)
		return listxattr(held_path(p, path), buf, size);
	return llistxattr(wr_name_at(p->dirfd, p->name, path), buf, size);
}

static int
set_xattr(const struct wr_apply_to *p, const char *name, const void *value, size_t len)
{
	char path[WR_NAME_AT_MAX];

	if (p->fd >= 0)
		return fsetxattr(p->fd, name, value, len, 0);
	if (p->held)
		return setxattr(held_path(p, path), name, value, len, 0);
	return lsetxattr(wr_name_at(p->dirfd, p->name, path), name, value, len, 0);
}

static int
remove_xattr(const struct wr_apply_to *p, const char *name)
{
	char path[WR_NAME_AT_MAX];

	if (p->fd >= 0)
		return fremovexattr(p->fd, name);
	if (p->held)
		return removexattr(held_path(p, path), name);
	return lremovexattr(wr_name_at(p->dirfd, p->name, path), name);
}

static int
set_owner(struct wr_apply_to *p, uid_t uid, gid_t gid)
{
	int rc = p->fd >= 0 ? fchown(p->fd, uid, gid)
		 : p->held  ? fchownat(p->held_fd, "", uid, gid, AT_EMPTY_PATH)
			    : fchownat(p->dirfd, p->name, uid, gid, AT_SYMLINK_NOFOLLOW);

	if (rc < 0)
		return -1;
	if (uid != (uid_t)-1)
		p->st.st_uid = uid;
	if (gid != (gid_t)-1)
		p->st.st_gid = gid;
	if (!S_ISDIR(p->st.st_mode))
		p->st.st_mode &= ~(mode_t)(S_ISUID | S_ISGID);
	return 0;
}

static int
set_mode(struct wr_apply_to *p, mode_t mode)
{
	char path[WR_NAME_AT_MAX];
	int rc = p->fd >= 0 ? fchmod(p->fd, mode)
		 : p->held  ? chmod(held_path(p, path), mode)
			    : fchmodat(p->dirfd, p->name, mode, AT_SYMLINK_NOFOLLOW);

	if (rc == 0)
		p->st.st_mode = (p->st.st_mode & (mode_t)S_IFMT) | mode;
	return rc;
}

/* Failures that mean "not here, not by you": noted, not an end. */
static bool
denied(int e)
{
	return e == EPERM || e == EACCES || e == EINVAL || e == EOPNOTSUPP || e == ENOSYS ||
	       e == E2BIG || e == ERANGE || e == ENOTTY;
}

/* ---- the steps ---- */

bool
wr_apply_unlock(int fd)
{
	unsigned flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & ATTR_LOCKS))
		return false;
	flags &= ~ATTR_LOCKS;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

uint64_t
wr_apply_locks(const struct wr_meta *m)
{
	return S_ISREG(m->mode) || S_ISDIR(m->mode) ? m->attr & ATTR_LOCKS : 0;
}

bool
wr_apply_lock(int fd, uint64_t locks)
{
	unsigned flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return true; /* a file system without flags has none to restore */
	flags |= (unsigned)locks;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0 || errno != EPERM;
}

static int
apply_owner(const struct wr_apply *a, struct wr_apply_to *p, const struct wr_meta *want,
	    unsigned *lost, struct wr_err *err)
{
	bool user = p->st.st_uid != want->uid;
	bool group = p->st.st_gid != want->gid;

	if (a->no_owner || (!user && !group))
		return 0;
	if (set_owner(p, user ? want->uid : (uid_t)-1, group ? want->gid : (gid_t)-1) == 0)
		return 0;
	if (!denied(errno))
		return wr_err_sys(err, "set the owner");
	*lost |= WR_LOST_OWNER;
	if (user && group && in_group(a, want->gid))
		(void)set_owner(p, (uid_t)-1, want->gid); /* better than nothing */
	return 0;
}

/* May a restore remove this attribute where the snapshot has none?  Labels that the system itself
 * puts on every file stay. */
static bool
removable(const char *name)
{
	return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 ||
	       strcmp(name, "security.capability") == 0 || strcmp(name, ACL_ACCESS) == 0 ||
	       strcmp(name, ACL_DEFAULT) == 0;
}

static bool
wants_xattr(const struct wr_meta *want, const char *name)
{
	struct wr_rd r = wr_rd(want->xattrs.p, want->xattrs.len);
	struct wr_bytes n, v;

	if (want->acl[0].p && strcmp(name, ACL_ACCESS) == 0)
		return true;
	if (want->acl[0].p && want->acl[3].len && strcmp(name, ACL_DEFAULT) == 0)
		return true;
	if (want->xattr_count)
		while (wr_meta_xattr_next(&r, &n, &v) > 0)
			if (is_name(n, name))
				return true;
	return false;
}

static void
remove_extra(struct wr_apply_to *p, const struct wr_meta *want, unsigned *lost)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf list = WR_BUF_INIT;
	ssize_t n;

	wr_buf_reserve(&list, 1024);
	n = list_xattrs(p, (char *)list.p, list.cap);
	if (n < 0 && errno == ERANGE) {
		wr_buf_reserve(&list, 1 << 16); /* the kernel's own limit */
		n = list_xattrs(p, (char *)list.p, list.cap);
	}
	for (ssize_t at = 0; at < n;) {
		const char *name = (const char *)list.p + at;

		at += (ssize_t)strlen(name) + 1;
		if (removable(name) && !wants_xattr(want, name) && remove_xattr(p, name) < 0)
			*lost |= WR_LOST_XATTR;
	}
}

static int
put_xattr(struct wr_apply_to *p, const char *name, struct wr_bytes value, unsigned *lost,
	  struct wr_err *err)
{
	if (set_xattr(p, name, value.p, value.len) == 0)
		return 0;
	if (!denied(errno))
		return wr_err_sys(err, "set attribute '%s'", WR_Q(name));
	*lost |= WR_LOST_XATTR;
	return 0;
}

/* One round over the stored attributes: those that are ACLs, or those that are not. */
static int
put_xattrs(struct wr_apply_to *p, const struct wr_meta *want, bool acls, unsigned *lost,
	   struct wr_err *err)
{
	struct wr_rd r = wr_rd(want->xattrs.p, want->xattrs.len);
	struct wr_bytes n, v;
	int more;

	if (!want->xattr_count)
		return 0;
	while ((more = wr_meta_xattr_next(&r, &n, &v)) > 0) {
		char name[256]; /* XATTR_NAME_MAX and its end */

		if (acls != (is_name(n, ACL_ACCESS) || is_name(n, ACL_DEFAULT)))
			continue;
		if (n.len == 0 || n.len >= sizeof(name) || memchr(n.p, '\0', n.len)) {
			*lost |= WR_LOST_XATTR;
			continue;
		}
		memcpy(name, n.p, n.len);
		name[n.len] = '\0';
		if (put_xattr(p, name, v, lost, err) < 0)
			return -1;
	}
	if (more < 0)
		*lost |= WR_LOST_XATTR;
	return 0;
}

/* ACLs of a record that has them only as text. */
static int
put_acl_text(struct wr_apply_to *p, const struct wr_meta *want, unsigned *lost, struct wr_err *err)
{
	static const struct {
		const char *name;
		size_t text;
	} kind[] = {{ACL_ACCESS, 1}, {ACL_DEFAULT, 3}};
	struct wr_meta xattrs = *want;

	if (!want->acl[0].p || S_ISLNK(want->mode))
		return 0;
	xattrs.acl[0].p = NULL; /* ask for the attribute, not the text */
	for (size_t i = 0; i < WR_ARRAY_LEN(kind); i++) {
		WR_SCOPED(wr_buf_fini) struct wr_buf v = WR_BUF_INIT;
		struct wr_bytes text = want->acl[kind[i].text];

		if (!text.len || wants_xattr(&xattrs, kind[i].name))
			continue;
		if (wr_acl_parse(text.p, text.len, &v, NULL) < 0)
			*lost |= WR_LOST_XATTR;
		else if (put_xattr(p, kind[i].name, (struct wr_bytes){v.p, v.len}, lost, err) < 0)
			return -1;
	}
	return 0;
}

static int
apply_mode(struct wr_apply_to *p, const struct wr_meta *want, unsigned *lost, struct wr_err *err)
{
	mode_t mode = mode_for(want, p->st.st_uid, p->st.st_gid);

	if (S_ISLNK(want->mode) || (p->st.st_mode & 07777) == mode)
		return 0;
	if (set_mode(p, mode) < 0) {
		if (!denied(errno))
			return wr_err_sys(err, "set the mode");
		*lost |= WR_LOST_MODE;
	}
	return 0;
}

static int
apply_times(struct wr_apply_to *p, const struct wr_meta *want, unsigned *lost, struct wr_err *err)
{
	struct timespec ts[2] = {{want->atime.s, want->atime.ns}, {want->mtime.s, want->mtime.ns}};
	int rc = p->fd >= 0 ? futimens(p->fd, ts)
		 : p->held  ? utimensat(p->held_fd, "", ts, AT_EMPTY_PATH)
			    : utimensat(p->dirfd, p->name, ts, AT_SYMLINK_NOFOLLOW);

	if (rc == 0)
		return 0;
	if (!denied(errno))
		return wr_err_sys(err, "set the times");
	*lost |= WR_LOST_TIME;
	return 0;
}

static void
apply_flags(const struct wr_apply *a, struct wr_apply_to *p, const struct wr_meta *want,
	    unsigned *lost)
{
	uint64_t visible = want->attr & WR_ATTR_VISIBLE;
	unsigned now = 0, next;

	if (p->fd < 0 || (p->fresh && !p->inherits && !visible))
		return;
	if (ioctl(p->fd, FS_IOC_GETFLAGS, &now) < 0)
		return; /* a file system without flags has none to restore */
	next = (unsigned)((now & (~WR_ATTR_VISIBLE | ATTR_PLACE)) | visible);
	if (next == now || ioctl(p->fd, FS_IOC_SETFLAGS, &next) == 0)
		return;
	/* The rest without what only root may set, or the file system may not know. */
	if (errno == EPERM || !a->root || a->plain)
		*lost |= WR_LOST_FLAGS;
	next = (next & ~ATTR_LOCKS) | (now & ATTR_LOCKS);
	(void)ioctl(p->fd, FS_IOC_SETFLAGS, &next);
}

int
wr_apply_meta(const struct wr_apply *a, struct wr_apply_to *p, const struct wr_meta *want,
	      unsigned *out_lost, struct wr_err *err)
{
	unsigned lost = 0;

	if (!p->fresh && p->fd >= 0)
		(void)wr_apply_unlock(p->fd); /* if it cannot be, the next step says so */
	if (!want->has_common) {
		*out_lost = 0;
		if (p->fresh && a->fixed && apply_owner(a, p, want, out_lost, err) < 0)
			return -1;
		return p->fresh ? apply_mode(p, want, out_lost, err) : 0;
	}
	if (apply_owner(a, p, want, &lost, err) < 0)
		return -1;
	if (!p->fresh || p->inherits)
		remove_extra(p, want, &lost);
	if (want->xattr_count || want->acl[0].p) {
		if (!a->root && !S_ISLNK(want->mode) && !(p->st.st_mode & 0200))
			(void)set_mode(p, (p->st.st_mode & 07777) | 0200);
		if (put_xattrs(p, want, false, &lost, err) < 0 ||
		    apply_mode(p, want, &lost, err) < 0 ||
		    put_xattrs(p, want, true, &lost, err) < 0 ||
		    put_acl_text(p, want, &lost, err) < 0)
			return -1;
	} else if (apply_mode(p, want, &lost, err) < 0) {
		return -1;
	}
	if (apply_times(p, want, &lost, err) < 0)
		return -1;
	apply_flags(a, p, want, &lost);
	*out_lost = lost;
	return 0;
}
