/* SPDX-License-Identifier: Apache-2.0 */
#include "host/node/room.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/str.h"
#include "host/node/node_int.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define FILE_NAME "reserve"
#define SPARE_NAME "reserve.d"
#define RESERVE_LEAST (UINT64_C(1) << 30)
#define STATE_MOST (UINT64_C(64) << 20)
#define PIECE_LEAST (UINT64_C(1) << 20)
#define PIECE_MOST (UINT64_C(32) << 20)
/* LIMIT: files of reserve.d. On btrfs each lies within the metadata, 2 KiB at most by default. */
#define SPARE_MOST 128
#define SPARE_MOST_BTRFS 512
#define SPARE_BYTES 2000
#define BLOCK 4096

/* One of the places where something is set aside. */
struct place {
	int fd;          /* directory of the reserve */
	uint64_t wanted; /* bytes; 0: by the size of the file system */
	uint64_t most;   /* 0: no bound */
	bool with_spare;
};

static struct place
of_volume(const struct wr_volume *v)
{
	return (struct place){.fd = v->fd, .wanted = v->reserve_bytes, .with_spare = true};
}

/* A small reserve was asked for: a trial, or a test. */
static struct place
of_state(const struct wr_node *n)
{
	const uint64_t asked = n->volume_count ? n->volume[0].reserve_bytes : 0;

	return (struct place){.fd = n->state_fd,
			      .wanted = asked,
			      .most = asked ? WR_MIN(asked, STATE_MOST) : STATE_MOST};
}

/* ---- what is there ---- */

static uint64_t
wanted_bytes(const struct place *p, const struct statvfs *fs)
{
	const uint64_t all = (uint64_t)fs->f_blocks * fs->f_frsize;
	uint64_t size = p->wanted;

	if (!size)
		size = WR_MIN(WR_MAX(all / 100, RESERVE_LEAST), all / 10);
	if (p->most)
		size = WR_MIN(size, p->most);
	return size - size % BLOCK;
}

static uint32_t
wanted_files(const struct place *p, const struct statvfs *fs, uint64_t bytes)
{
	uint64_t n = fs->f_files ? WR_MIN((uint64_t)fs->f_files / 50, (uint64_t)SPARE_MOST)
				 : SPARE_MOST_BTRFS;

	return p->with_spare ? (uint32_t)WR_MIN(n, bytes / BLOCK) : 0;
}

/* One that is no regular file is none. */
static uint64_t
size_now(int fd)
{
	struct stat st;

	if (fstatat(fd, FILE_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return 0;
	return WR_MIN((uint64_t)st.st_size, (uint64_t)st.st_blocks * 512);
}

static void
spare_path(char out[32], uint32_t i)
{
	snprintf(out, 32, SPARE_NAME "/%03u", (unsigned)i);
}

/* Their names are numbers without gaps: made upwards, removed downwards. */
static uint32_t
spare_now(int fd)
{
	uint32_t low = 0, high = SPARE_MOST_BTRFS;
	char path[32];

	while (low < high) {
		uint32_t at = low + (high - low) / 2;

		spare_path(path, at);
		if (faccessat(fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			low = at + 1;
		else
			high = at;
	}
	return low;
}

static unsigned
permille(uint64_t used, uint64_t all)
{
	return all ? (unsigned)((double)used * 1000 / (double)all) : 0;
}

static int
look(const struct place *p, struct wr_room *out, struct wr_err *err)
{
	struct statvfs fs;
	struct wr_room r = {0};
	uint64_t missing;
	unsigned of_bytes, of_inodes;

	if (fstatvfs(p->fd, &fs) < 0)
		return wr_err_sys(err, "ask for free space");
	r.reserve = size_now(p->fd);
	r.reserve_wanted = wanted_bytes(p, &fs);
	r.spare_wanted = wanted_files(p, &fs, r.reserve_wanted);
	r.spare = r.spare_wanted ? spare_now(p->fd) : 0;
	r.used = ((uint64_t)fs.f_blocks - fs.f_bfree) * fs.f_frsize;
	r.free = (uint64_t)fs.f_bavail * fs.f_frsize;
	r.bytes = r.used + r.free;
	missing = r.reserve_wanted - WR_MIN(r.reserve, r.reserve_wanted);
	of_bytes = permille(WR_MIN(r.used + missing, r.bytes), r.bytes);
	r.inodes = fs.f_files;
	r.inodes_free = fs.f_favail;
	missing = r.spare_wanted - WR_MIN(r.spare, r.spare_wanted);
	of_inodes = permille(WR_MIN(r.inodes - WR_MIN(r.inodes_free, r.inodes) + missing, r.inodes),
			     r.inodes);
	r.of_inodes = of_inodes > of_bytes;
	r.permille = WR_MAX(of_inodes, of_bytes);
	*out = r;
	return 0;
}

int
wr_room_look(const struct wr_volume *v, struct wr_room *out, struct wr_err *err)
{
	struct place p = of_volume(v);
	WR_SCOPED(wr_closep) int fd = -1;
	struct wr_uuid id, node;

	if (p.fd < 0) {
		p.fd = fd = open(v->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return wr_err_sys(err, "volume '%s'", WR_Q(v->path));
		if (wr_sentinel_load(fd, v->path, &id, &node, &p.wanted, err) < 0)
			return wr_err_wrap(err, "volume '%s'", WR_Q(v->path));
	}
	return look(&p, out, err) < 0 ? wr_err_wrap(err, "volume '%s'", WR_Q(v->path)) : 0;
}

struct wr_short
wr_room_text(const struct wr_room *r)
{
	struct wr_short out;

	snprintf(out.s, sizeof(out.s), "%u %%%s", r->permille / 10,
		 r->of_inodes ? " of the inodes" : "");
	return out;
}

/* ---- marks ---- */

const char *
wr_mark_name(enum wr_mark m)
{
	static const char *const name[WR_MARKS] = {
	    [WR_MARK_NONE] = "none",
	    [WR_MARK_NEW] = "new",
	    [WR_MARK_ALARM] = "alarm",
	    [WR_MARK_SNAPSHOT] = "snapshot",
	};

	return name[m];
}

unsigned
wr_mark_percent(const struct wr_config *c, enum wr_mark m)
{
	return m == WR_MARK_NONE ? 0 : c->volume_mark[m - 1];
}

enum wr_mark
wr_mark_of(const struct wr_config *c, const struct wr_room *r, enum wr_mark now)
{
	enum wr_mark m = WR_MARK_SNAPSHOT;

	while (m != WR_MARK_NONE && r->permille < wr_mark_percent(c, m) * 10 - (m <= now ? 10 : 0))
		m--;
	return m;
}

/* Before the last mark, so that it is this node's own work that has the rest. */
unsigned
wr_mark_copies_percent(const struct wr_config *c)
{
	const unsigned last = wr_mark_percent(c, WR_MARK_SNAPSHOT);

	return WR_MAX(last - WR_MIN(last, 2u), wr_mark_percent(c, WR_MARK_NEW));
}

/* ---- taking ---- */

static uint64_t
piece_of(const struct wr_room *r)
{
	return WR_MIN(WR_MAX(r->reserve_wanted / 8, PIECE_LEAST), PIECE_MOST);
}

static uint32_t
spare_piece_of(const struct wr_room *r)
{
	return (r->spare_wanted + 7) / 8;
}

static bool
has_room(const struct wr_room *r)
{
	return r->free >= piece_of(r) && (!r->inodes || r->inodes_free >= spare_piece_of(r));
}

/* -1: there is none, or (wait false) somebody else is at it. */
static int
lock_reserve(int fd, bool make, bool wait)
{
	int file =
	    openat(fd, FILE_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC | (make ? O_CREAT : 0), 0600);
	struct stat st;

	if (file < 0)
		return -1;
	if (fstat(file, &st) < 0 || !S_ISREG(st.st_mode) ||
	    flock(file, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0)
		wr_closep(&file);
	return file;
}

static void
take_spare(int fd, uint32_t have, uint32_t piece)
{
	char path[32];

	for (uint32_t i = have; i > 0 && piece > 0; piece--) {
		spare_path(path, --i);
		if (unlinkat(fd, path, 0) < 0)
			return;
	}
}

static void
make_room(const struct place *p)
{
	WR_SCOPED(wr_closep) int file = -1;
	struct wr_room r;

	if (look(p, &r, NULL) < 0 || has_room(&r) || (!r.reserve && !r.spare))
		return;
	file = lock_reserve(p->fd, false, true);
	/* Somebody else may have made room meanwhile. */
	if (file < 0 || look(p, &r, NULL) < 0 || has_room(&r))
		return;
	wr_crash_point("room.take");
	/* Where files lie within the metadata, that is short when bytes are. */
	if (r.spare && (!r.inodes || r.inodes_free < spare_piece_of(&r)))
		take_spare(p->fd, r.spare, spare_piece_of(&r));
	if (r.reserve && r.free < piece_of(&r) &&
	    ftruncate(file, (off_t)((r.reserve - 1) / piece_of(&r) * piece_of(&r))) < 0)
		return;
	/* What was freed can be used when the file system has written that down. */
	(void)syncfs(p->fd);
	wr_crash_point("room.taken");
}

void
wr_room_make(const struct wr_volume *v)
{
	const struct place p = of_volume(v);

	make_room(&p);
}

void
wr_room_make_state(const struct wr_node *n)
{
	const struct place p = of_state(n);

	make_room(&p);
}

void
wr_room_hurry(const struct wr_volume *v)
{
	struct statfs fs;
	uint64_t transaction;

	if (fstatfs(v->fd, &fs) < 0 || fs.f_type != BTRFS_SUPER_MAGIC)
		return;
	/* Only the end of a transaction wakes who frees, so that there has to be one. */
	(void)utimensat(v->fd, FILE_NAME, NULL, AT_SYMLINK_NOFOLLOW);
	(void)ioctl(v->fd, BTRFS_IOC_START_SYNC, &transaction);
}

/* ---- setting aside ---- */

static int
add_spare(int fd, uint32_t have, uint32_t wanted, bool filled, struct wr_err *err)
{
	static const char bytes[SPARE_BYTES];
	char path[32];

	if (mkdirat(fd, SPARE_NAME, 0711) < 0 && errno != EEXIST)
		return wr_err_sys(err, "make '" SPARE_NAME "'");
	for (; have < wanted; have++) {
		WR_SCOPED(wr_closep) int one = -1;

		spare_path(path, have);
		one = openat(fd, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (one < 0 || (filled && wr_write_all(one, bytes, sizeof(bytes)) < 0))
			return wr_err_sys(err, "write '%s'", path);
	}
	return 0;
}

/* Piece by piece: on btrfs an allocation is freed as a whole, when nothing of it is left. */
static int
add_bytes(int file, uint64_t from, uint64_t to, uint64_t piece, struct wr_err *err)
{
	while (from < to) {
		/* One that was cut short by a full disk is made whole. */
		uint64_t step = WR_MIN(piece - from % piece, to - from);

		if (fallocate(file, 0, (off_t)from, (off_t)step) < 0) {
			/* Where space cannot be set aside there is none: volume list says so. */
			if (errno == EOPNOTSUPP)
				return 0;
			return wr_err_sys(err, "set %" PRIu64 " bytes aside in 'reserve'", step);
		}
		from += step;
	}
	return 0;
}

/* Room for what is missing and as much again, and a piece besides: else the next who needs it has
 * to take it out again. */
static bool
worth_it(const struct wr_room *r, uint64_t missing, uint32_t files)
{
	return r->free >= 2 * missing + piece_of(r) &&
	       (!r->inodes || r->inodes_free >= 2 * (uint64_t)files + spare_piece_of(r));
}

static int
refill(const struct place *p, uint64_t most, bool force, bool *out_more, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int file = -1;
	uint64_t missing, step;
	uint32_t files;
	struct wr_room r;

	if (out_more)
		*out_more = false;
	if (look(p, &r, err) < 0)
		return -1;
	missing = r.reserve_wanted - WR_MIN(r.reserve, r.reserve_wanted);
	files = r.spare_wanted - WR_MIN(r.spare, r.spare_wanted);
	if (!force && ((!missing && !files) || !worth_it(&r, missing, files)))
		return 0;
	file = lock_reserve(p->fd, true, false);
	if (file < 0)
		return errno == EWOULDBLOCK ? 0 : wr_err_sys(err, "open 'reserve'");
	wr_crash_point("room.refill");
	if (files && add_spare(p->fd, r.spare, r.spare_wanted, !r.inodes, err) < 0)
		return -1;
	step = WR_MIN(missing, most);
	if (add_bytes(file, r.reserve, r.reserve + step, piece_of(&r), err) < 0)
		return -1;
	if (fsync(file) < 0)
		return wr_err_sys(err, "write 'reserve'");
	wr_crash_point("room.refilled");
	if (out_more)
		*out_more = size_now(p->fd) > r.reserve && step < missing;
	return 0;
}

int
wr_room_refill(const struct wr_volume *v, uint64_t most, bool *out_more, struct wr_err *err)
{
	const struct place p = of_volume(v);

	if (refill(&p, most, false, out_more, err) < 0)
		return wr_err_wrap(err, "volume '%s'", WR_Q(v->path));
	return 0;
}

int
wr_room_set_aside(int fd, uint64_t wanted, struct wr_err *err)
{
	const struct place p = {.fd = fd, .wanted = wanted, .with_spare = true};

	return refill(&p, UINT64_MAX, true, NULL, err);
}

int
wr_room_refill_state(const struct wr_node *n, struct wr_err *err)
{
	const struct place p = of_state(n);

	if (refill(&p, STATE_MOST, false, NULL, err) < 0)
		return wr_err_wrap(err, "'%s'", WR_Q(n->state_path));
	return 0;
}
