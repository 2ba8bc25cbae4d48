/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/snap/fsmeta.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sys/getent.h"

/* ---- owner names ---- */

struct name_slot {
	uint32_t id;
	bool used;
	bool unsure; /* no answer: the name is not known, and none will be asked for again */
	char *name;
};

struct name_table {
	struct name_slot *slot; /* open addressing, cap a power of two */
	size_t cap, count;
};

struct wr_names {
	pthread_mutex_t mutex;
	struct name_table table[2]; /* users, groups; guarded by mutex */
	struct {
		char *name;
		bool found;
		uint32_t id;
	} newest[2]; /* name that was looked for last; guarded by mutex */
};

struct wr_names *
wr_names_new(void)
{
	struct wr_names *n = wr_calloc(1, sizeof(*n));

	pthread_mutex_init(&n->mutex, NULL);
	return n;
}

void
wr_names_free(struct wr_names *n)
{
	if (!n)
		return;
	for (int t = 0; t < 2; t++) {
		for (size_t i = 0; i < n->table[t].cap; i++)
			free(n->table[t].slot[i].name);
		free(n->table[t].slot);
		free(n->newest[t].name);
	}
	pthread_mutex_destroy(&n->mutex);
	free(n);
}

static struct name_slot *
slot_of(struct name_table *t, uint32_t id)
{
	size_t i = (id * 2654435761u) & (t->cap - 1);

	while (t->slot[i].used && t->slot[i].id != id)
		i = (i + 1) & (t->cap - 1);
	return &t->slot[i];
}

static void
table_grow(struct name_table *t)
{
	struct name_table bigger = {.cap = t->cap ? t->cap * 2 : 64, .count = t->count};

	bigger.slot = wr_calloc(bigger.cap, sizeof(*bigger.slot));
	for (size_t i = 0; i < t->cap; i++)
		if (t->slot[i].used)
			*slot_of(&bigger, t->slot[i].id) = t->slot[i];
	free(t->slot);
	*t = bigger;
}

/* Under the mutex. */
static const struct name_slot *
slot_known(struct wr_names *n, bool group, uint32_t id)
{
	struct name_table *t = &n->table[group];
	struct wr_getent_entry e;
	struct name_slot *s;

	if (t->count * 2 >= t->cap)
		table_grow(t);
	s = slot_of(t, id);
	if (!s->used) {
		enum wr_getent_answer a = wr_getent_by_id(group, id, &e);

		*s = (struct name_slot){id, true, a == WR_GETENT_FAILED,
					wr_strdup(a == WR_GETENT_FOUND ? e.name : "")};
		t->count++;
	}
	return s;
}

const char *
wr_names_get(struct wr_names *n, bool group, uint32_t id)
{
	const char *name;

	pthread_mutex_lock(&n->mutex);
	name = slot_known(n, group, id)->name;
	pthread_mutex_unlock(&n->mutex);
	return name;
}

bool
wr_names_unsure(struct wr_names *n, bool group, uint32_t id)
{
	bool unsure;

	pthread_mutex_lock(&n->mutex);
	unsure = slot_known(n, group, id)->unsure;
	pthread_mutex_unlock(&n->mutex);
	return unsure;
}

bool
wr_names_find(struct wr_names *n, bool group, const void *name, size_t len, uint32_t *out)
{
	WR_SCOPED(wr_freep) char *s = wr_malloc(len + 1);
	struct wr_getent_entry e;
	bool found;

	memcpy(s, name, len);
	s[len] = '\0';
	pthread_mutex_lock(&n->mutex);
	/* Most of a tree is one owner's. */
	if (!n->newest[group].name || strcmp(n->newest[group].name, s) != 0) {
		free(n->newest[group].name);
		n->newest[group].name = wr_steal(&s);
		n->newest[group].found =
		    wr_getent_by_name(group, n->newest[group].name, &e) == WR_GETENT_FOUND;
		n->newest[group].id = n->newest[group].found ? e.id : 0;
	}
	found = n->newest[group].found;
	if (found)
		*out = n->newest[group].id;
	pthread_mutex_unlock(&n->mutex);
	return found;
}

/* ---- the thread's own working directory ---- */

const char *
wr_name_at(int dirfd, const char *name, char buf[WR_NAME_AT_MAX])
{
	static _Thread_local bool own;

	own = own || unshare(CLONE_FS) == 0;
	if (own && fchdir(dirfd) == 0)
		return name;
	snprintf(buf, WR_NAME_AT_MAX, "/proc/self/fd/%d/%s", dirfd, name);
	return buf;
}

/* ---- reading ---- */

void
wr_metabuf_fini(struct wr_metabuf *b)
{
	wr_buf_fini(&b->link);
	wr_buf_fini(&b->acl);
	wr_buf_fini(&b->xattrs);
	wr_buf_fini(&b->list);
	wr_buf_fini(&b->value);
}

static bool
no_such_feature(int e)
{
	return e == ENOTSUP || e == ENOTTY || e == ENOSYS || e == EINVAL;
}

static ssize_t
xattr_list(const struct wr_live *l, void *p, size_t size)
{
	return l->fd >= 0 ? flistxattr(l->fd, p, size) : llistxattr(l->name, p, size);
}

static ssize_t
xattr_get(const struct wr_live *l, const char *attr, void *p, size_t size)
{
	return l->fd >= 0 ? fgetxattr(l->fd, attr, p, size) : lgetxattr(l->name, attr, p, size);
}

/* Fill b->list with the NUL-separated names. */
static int
read_list(const struct wr_live *l, struct wr_metabuf *b, struct wr_err *err)
{
	wr_buf_clear(&b->list);
	wr_buf_reserve(&b->list, 256);
	for (;;) {
		ssize_t n = xattr_list(l, b->list.p, b->list.cap);

		if (n >= 0) {
			b->list.len = (size_t)n;
			return 0;
		}
		if (no_such_feature(errno))
			return 0;
		if (errno != ERANGE)
			return wr_err_sys(err, "list extended attributes");
		wr_buf_reserve(&b->list, b->list.cap * 2); /* the kernel's limit is 64 KiB */
	}
}

static int
read_value(const struct wr_live *l, const char *attr, struct wr_metabuf *b, bool *out_there,
	   struct wr_err *err)
{
	wr_buf_clear(&b->value);
	wr_buf_reserve(&b->value, 256);
	for (;;) {
		ssize_t n = xattr_get(l, attr, b->value.p, b->value.cap);

		if (n >= 0) {
			b->value.len = (size_t)n;
			*out_there = true;
			return 0;
		}
		if (errno == ENODATA || no_such_feature(errno)) {
			*out_there = false; /* removed since it was listed */
			return 0;
		}
		if (errno != ERANGE)
			return wr_err_sys(err, "read extended attribute '%s'", WR_Q(attr));
		wr_buf_reserve(&b->value, b->value.cap * 2);
	}
}

static const char *
name_of(void *ctx, bool group, uint32_t id)
{
	const char *s = wr_names_get(ctx, group, id);

	return *s ? s : NULL;
}

/* The four texts of bup's ACL record: access by name and by id, default by name and by id. */
static int
add_acls(const struct wr_buf *access, const struct wr_buf *deflt, uint32_t mode,
	 struct wr_names *names, struct wr_metabuf *b, struct wr_err *err)
{
	const struct wr_buf *value[4] = {access, access, deflt, deflt};

	wr_buf_clear(&b->acl);
	for (int i = 0; i < 4; i++) {
		b->acl_off[i] = b->acl.len;
		if (value[i]->len) {
			if (wr_acl_text(value[i]->p, value[i]->len, i % 2 ? NULL : name_of, names,
					&b->acl, err) < 0)
				return -1;
		} else if (i < 2) {
			wr_acl_text_of_mode(mode, &b->acl);
		}
	}
	b->acl_off[4] = b->acl.len;
	return 0;
}

static int
read_xattrs(const struct wr_live *l, struct wr_names *names, struct wr_metabuf *b,
	    struct wr_meta *out, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf access = WR_BUF_INIT, deflt = WR_BUF_INIT;

	if (read_list(l, b, err) < 0)
		return -1;
	if (!b->list.len)
		return 0;
	wr_buf_clear(&b->xattrs);
	for (size_t i = 0; i < b->list.len;) {
		const char *attr = (const char *)b->list.p + i;
		size_t len = strnlen(attr, b->list.len - i);
		bool there;

		if (len == b->list.len - i)
			break; /* the kernel ends every name with NUL */
		i += len + 1;
		if (read_value(l, attr, b, &there, err) < 0)
			return -1;
		if (!there)
			continue;
		wr_meta_xattr_add(&b->xattrs, attr, len, b->value.p, b->value.len);
		out->xattr_count++;
		if (!strcmp(attr, "system.posix_acl_access"))
			wr_buf_add(&access, b->value.p, b->value.len);
		else if (!strcmp(attr, "system.posix_acl_default"))
			wr_buf_add(&deflt, b->value.p, b->value.len);
	}
	out->xattrs = (struct wr_bytes){b->xattrs.p, b->xattrs.len};
	if (!access.len && !deflt.len)
		return 0;
	if (add_acls(&access, &deflt, out->mode, names, b, err) < 0)
		return -1;
	for (int i = 0; i < 4; i++)
		out->acl[i] =
		    (struct wr_bytes){b->acl.p + b->acl_off[i], b->acl_off[i + 1] - b->acl_off[i]};
	return 0;
}

static int
read_link(const struct wr_live *l, struct wr_metabuf *b, struct wr_meta *out, struct wr_err *err)
{
	size_t want = (size_t)WR_MAX(l->st.st_size, 0) + 1;

	wr_buf_clear(&b->link);
	for (;;) {
		ssize_t n;

		wr_buf_reserve(&b->link, WR_MAX(want, (size_t)128));
		n = readlinkat(l->dirfd, l->name, (char *)b->link.p, b->link.cap);
		if (n < 0)
			return wr_err_sys(err, "read link");
		if ((size_t)n < b->link.cap) {
			b->link.len = (size_t)n;
			break;
		}
		want = b->link.cap * 2;
	}
	out->symlink = (struct wr_bytes){b->link.p, b->link.len};
	out->size = (int64_t)b->link.len;
	return 0;
}

static struct wr_bytes
bytes_of(const char *s)
{
	return (struct wr_bytes){(const uint8_t *)s, strlen(s)};
}

int
wr_fsmeta_read(const struct wr_live *l, struct wr_names *names, struct wr_metabuf *b,
	       struct wr_meta *out, struct wr_err *err)
{
	const struct stat *st = &l->st;
	struct wr_meta m = {.has_common = true, .size = -1};
	struct wr_live by_name = *l;
	char path[WR_NAME_AT_MAX];
	int attr = 0;

	m.mode = st->st_mode;
	m.uid = st->st_uid;
	m.gid = st->st_gid;
	m.user = bytes_of(wr_names_get(names, false, st->st_uid));
	m.group = bytes_of(wr_names_get(names, true, st->st_gid));
	m.mtime = wr_st_mtime(st);
	m.ctime = wr_st_ctime(st);
	m.atime = (struct wr_ts){st->st_atim.tv_sec, (uint32_t)st->st_atim.tv_nsec};
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		m.rdev = st->st_rdev;
	if (S_ISREG(st->st_mode))
		m.size = st->st_size;
	if (S_ISLNK(st->st_mode) && read_link(l, b, &m, err) < 0)
		return -1;
	if (l->fd < 0) {
		by_name.name = wr_name_at(l->dirfd, l->name, path);
		l = &by_name;
	}
	if (read_xattrs(l, names, b, &m, err) < 0)
		return -1;
	if (l->fd >= 0 && (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))) {
		if (ioctl(l->fd, FS_IOC_GETFLAGS, &attr) == 0)
			m.attr = (uint32_t)attr;
		else if (!no_such_feature(errno) && errno != EPERM && errno != EACCES)
			return wr_err_sys(err, "read attribute flags");
	}
	*out = m;
	return 0;
}

uint64_t
wr_mount_of(int fd)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &x) < 0 || !(x.stx_mask & STATX_MNT_ID))
		return 0;
	return x.stx_mnt_id;
}
