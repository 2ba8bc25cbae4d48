/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sys/clock.h"
#include "sys/fs.h"

/* LIMIT: how long the kernel may take to end or stop a group; more means a process that hangs in
 * the kernel. */
#define PATIENCE_MS 2000
/* LIMIT: groups in groups; each level holds a descriptor. */
#define DEPTH_MAX 64

/* ---- finding and making ---- */

/* Undo the kernel's \040 and the like, in place. */
static void
unescape(char *s)
{
	char *o = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*o++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*o++ = *s;
		}
	}
	*o = '\0';
}

/* Where the unified hierarchy is mounted; NULL: nowhere. The caller frees. */
static char *
find_mount(void)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *found = NULL;
	size_t cap = 0;

	while (f && !found && getline(&line, &cap, f) > 0) {
		char *kind = strstr(line, " - "), *s = line, *rest = NULL;

		if (!kind || strncmp(kind + 3, "cgroup2 ", 8) != 0)
			continue;
		for (int i = 0; s && i < 5; i++) /* the fifth field is the place */
			s = strtok_r(i ? NULL : line, " ", &rest);
		if (s) {
			unescape(s);
			found = wr_strdup(s);
		}
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

static int
not_here(struct wr_err *err, const char *what)
{
	return wr_err_set(err, WR_E_UNSUPPORTED, "no control groups: %s: %s", what,
			  strerror(errno));
}

static int
open_group(int parent_fd, const char *name)
{
	return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int
make_group(int parent_fd, const char *name)
{
	if (mkdirat(parent_fd, name, 0755) < 0 && errno != EEXIST)
		return -1;
	return open_group(parent_fd, name);
}

int
wr_cgroup_open(const char *slice, struct wr_err *err)
{
	const char *given = getenv("WARREN_CGROUP");
	WR_SCOPED(wr_freep) char *parent = given && *given ? wr_strdup(given) : find_mount();
	WR_SCOPED(wr_closep) int at = -1;
	struct statfs fs;
	int fd;

	if (!parent)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "no control groups: the unified hierarchy is not mounted");
	at = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0 || fstatfs(at, &fs) < 0)
		return not_here(err, WR_Q(parent));
	if (fs.f_type != CGROUP2_SUPER_MAGIC)
		return wr_err_set(err, WR_E_UNSUPPORTED,
				  "no control groups: '%s' is not in the unified hierarchy",
				  WR_Q(parent));
	fd = make_group(at, slice);
	if (fd < 0)
		return not_here(err, slice);
	if (faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) < 0) {
		not_here(err, slice);
		close(fd);
		return -1;
	}
	return fd;
}

int
wr_cgroup_open_unit(const char *path)
{
	const char *given = getenv("WARREN_CGROUP");
	WR_SCOPED(wr_freep) char *mount = given && *given ? NULL : find_mount();
	WR_SCOPED(wr_freep) char *full = mount ? wr_asprintf("%s/%s", mount, path) : NULL;
	int fd = full ? open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0 && faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) < 0)
		wr_closep(&fd);
	return fd;
}

int
wr_cgroup_make(int slice_fd, const char *name, struct wr_err *err)
{
	int fd;

	if (!*name || *name == '.' || strchr(name, '/'))
		return wr_err_set(err, WR_E_INVALID, "'%s' is no name of a group", WR_Q(name));
	fd = make_group(slice_fd, name);
	return fd < 0 ? wr_err_sys(err, "make control group '%s'", WR_Q(name)) : fd;
}

/* ---- files of a group ---- */

static int
put(int group_fd, const char *file, const char *text)
{
	WR_SCOPED(wr_closep) int fd = openat(group_fd, file, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -1 : wr_write_all(fd, text, strlen(text));
}

/* The number behind "key " at the start of a line of file. */
static bool
get(int group_fd, const char *file, const char *key, uint64_t *out)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *format = wr_asprintf("\n%s ", key);
	const char *at;

	wr_buf_add8(&b, '\n');
	if (wr_read_file(group_fd, file, 1 << 16, &b, NULL) < 0)
		return false;
	at = strstr(wr_buf_str(&b), format);
	return at && sscanf(at + strlen(format), "%" SCNu64, out) == 1;
}

/* Wait until key of cgroup.events has this value. */
static int
await(int group_fd, const char *key, uint64_t value)
{
	WR_SCOPED(wr_closep) int fd = openat(group_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	const uint64_t end = wr_clock_mono_ns() + PATIENCE_MS * UINT64_C(1000000);

	if (fd < 0)
		return -1;
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLPRI};
		uint64_t now = wr_clock_mono_ns(), v;
		char drop[512];

		/* A change after this reading wakes the poll. */
		if (pread(fd, drop, sizeof(drop), 0) < 0 ||
		    !get(group_fd, "cgroup.events", key, &v))
			return -1;
		if (v == value)
			return 0;
		if (now >= end) {
			errno = EBUSY;
			return -1;
		}
		(void)poll(&p, 1, (int)WR_MIN((end - now) / 1000000 + 1, UINT64_C(100)));
	}
}

/* ---- members ---- */

struct pids {
	pid_t *p;
	size_t count, cap;
};

typedef void (*group_fn)(void *ctx, int group_fd);

/* Call fn for the group and all below it, the lowest first, and close the descriptor. */
static void
walk(int group_fd, unsigned depth, group_fn fn, void *ctx)
{
	DIR *d = depth < DEPTH_MAX ? fdopendir(group_fd) : NULL;
	struct dirent *e;

	if (!d) {
		close(group_fd);
		return;
	}
	while ((e = readdir(d))) {
		int fd = e->d_type == DT_DIR && e->d_name[0] != '.'
			     ? open_group(dirfd(d), e->d_name)
			     : -1;

		if (fd >= 0)
			walk(fd, depth + 1, fn, ctx);
	}
	fn(ctx, dirfd(d));
	closedir(d);
}

static void
add_pids(void *ctx, int group_fd)
{
	struct pids *l = ctx;
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	char *s, *rest = NULL;

	if (wr_read_file(group_fd, "cgroup.procs", 64u << 20, &b, NULL) < 0)
		return;
	s = strtok_r(wr_buf_str(&b), "\n", &rest);
	for (; s; s = strtok_r(NULL, "\n", &rest)) {
		int pid;

		/* 0: a process that this name space of processes does not show */
		if (sscanf(s, "%d", &pid) != 1 || pid <= 0)
			continue;
		wr_grow(&l->p, &l->cap, l->count + 1, sizeof(*l->p));
		l->p[l->count++] = pid;
	}
}

size_t
wr_cgroup_pids(int slice_fd, const char *name, pid_t **out_pids)
{
	struct pids l = {0};
	int fd = open_group(slice_fd, name);

	if (fd >= 0)
		walk(fd, 0, add_pids, &l);
	if (out_pids)
		*out_pids = l.p;
	else
		free(l.p);
	return l.count;
}

/* Kernels before 5.14: again and again, because members may fork meanwhile. */
static int
kill_one_by_one(int slice_fd, const char *name, int group_fd)
{
	const uint64_t end = wr_clock_mono_ns() + PATIENCE_MS * UINT64_C(1000000);
	uint64_t populated = 1;

	while (populated && wr_clock_mono_ns() < end) {
		pid_t *pids = NULL;
		size_t n = wr_cgroup_pids(slice_fd, name, &pids);

		for (size_t i = 0; i < n; i++)
			(void)kill(pids[i], SIGKILL); /* it may be gone already */
		free(pids);
		if (!get(group_fd, "cgroup.events", "populated", &populated))
			return -1;
	}
	return 0;
}

int
wr_cgroup_kill(int slice_fd, const char *name, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = open_group(slice_fd, name);
	int rc;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return wr_err_sys(err, "open control group '%s'", WR_Q(name));
	rc = put(fd, "cgroup.kill", "1");
	if (rc < 0 && errno == ENOENT)
		rc = kill_one_by_one(slice_fd, name, fd);
	if (rc == 0)
		rc = await(fd, "populated", 0);
	if (rc < 0) {
		bool busy = errno == EBUSY;

		wr_err_sys(err, "end the processes of control group '%s'", WR_Q(name));
		return busy ? wr_err_recode(err, WR_E_BUSY) : -1;
	}
	return 0;
}

int
wr_cgroup_freeze(int slice_fd, const char *name, bool frozen, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = open_group(slice_fd, name);

	if (fd < 0)
		return wr_err_sys(err, "open control group '%s'", WR_Q(name));
	if (put(fd, "cgroup.freeze", frozen ? "1" : "0") < 0 || await(fd, "frozen", frozen) < 0) {
		bool busy = errno == EBUSY;

		wr_err_sys(err, "%s control group '%s'", frozen ? "freeze" : "thaw", WR_Q(name));
		return busy ? wr_err_recode(err, WR_E_BUSY) : -1;
	}
	return 0;
}

/* Remove the groups right below; those below them are gone by then. */
static void
remove_below(void *ctx, int group_fd)
{
	WR_SCOPED(wr_closep) int fd = openat(group_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	(void)ctx;
	if (!d)
		return;
	fd = -1;
	while ((e = readdir(d)))
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			(void)unlinkat(group_fd, e->d_name, AT_REMOVEDIR); /* the top one tells */
	closedir(d);
}

int
wr_cgroup_remove(int slice_fd, const char *name, struct wr_err *err)
{
	int fd = open_group(slice_fd, name);
	bool busy;

	if (fd >= 0)
		walk(fd, 0, remove_below, NULL);
	if (unlinkat(slice_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	busy = errno == EBUSY;
	wr_err_sys(err, "remove control group '%s'", WR_Q(name));
	return busy ? wr_err_recode(err, WR_E_BUSY) : -1;
}

bool
wr_cgroup_cpu(int slice_fd, const char *name, double *out_s)
{
	WR_SCOPED(wr_closep) int fd = open_group(slice_fd, name);
	uint64_t us;

	if (fd < 0 || !get(fd, "cpu.stat", "usage_usec", &us))
		return false;
	*out_s = (double)us / 1e6;
	return true;
}

/* ---- limits ---- */

/* On its way down a limit of memory stays a 32nd above what is in use. */
#define ROOM_SHIFT 5
/* LIMIT: of a weight for the BFQ scheduler, whose files are its own. */
#define BFQ_WEIGHT_MAX 1000
/* Of cpu.max, in microseconds. */
#define PERIOD_US 100000

const char *const wr_cgroup_ctl_name[] = {"cpu", "io", "memory", "pids", NULL};

static bool
has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = list; (s = strstr(s, word)); s += n)
		if ((s == list || s[-1] == ' ') && (!s[n] || s[n] == ' ' || s[n] == '\n'))
			return true;
	return false;
}

static unsigned
read_controllers(int group_fd, const char *file)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;
	unsigned have = 0;

	if (wr_read_file(group_fd, file, 4096, &b, NULL) < 0)
		return 0;
	for (unsigned i = 0; wr_cgroup_ctl_name[i]; i++)
		if (has_word(wr_buf_str(&b), wr_cgroup_ctl_name[i]))
			have |= 1u << i;
	return have;
}

unsigned
wr_cgroup_controllers(int slice_fd)
{
	return read_controllers(slice_fd, "cgroup.subtree_control");
}

unsigned
wr_cgroup_available(int group_fd)
{
	return read_controllers(group_fd, "cgroup.controllers");
}

/* One by one: what one controller lacks is no reason to go without the others. Where processes live
 * in the group itself the kernel refuses. */
static void
enable(int group_fd)
{
	unsigned have = wr_cgroup_controllers(group_fd);

	for (unsigned i = 0; wr_cgroup_ctl_name[i]; i++) {
		char word[16];

		snprintf(word, sizeof(word), "+%s", wr_cgroup_ctl_name[i]);
		if (!(have & 1u << i))
			(void)put(group_fd, "cgroup.subtree_control", word);
	}
}

unsigned
wr_cgroup_enable(int slice_fd, bool above)
{
	WR_SCOPED(wr_closep) int parent = above ? open_group(slice_fd, "..") : -1;

	if (wr_cgroup_controllers(slice_fd) != WR_CGROUP_ALL) {
		if (parent >= 0)
			enable(parent);
		enable(slice_fd);
	}
	return wr_cgroup_controllers(slice_fd);
}

static bool
put_number(int group_fd, const char *file, uint64_t value)
{
	char text[24] = "max";

	if (value)
		snprintf(text, sizeof(text), "%" PRIu64, value);
	return put(group_fd, file, text) == 0;
}

/* "max" is 0. */
static bool
read_number(int group_fd, const char *file, uint64_t *out)
{
	struct wr_buf b WR_SCOPED(wr_buf_fini) = WR_BUF_INIT;

	*out = 0;
	return wr_read_file(group_fd, file, 64, &b, NULL) == 0 &&
	       (sscanf(wr_buf_str(&b), "%" SCNu64, out) == 1 || !strcmp(wr_buf_str(&b), "max\n"));
}

static bool
limit_memory(int group_fd, uint64_t most)
{
	uint64_t used, before, now = most;

	if (!read_number(group_fd, "memory.current", &used) ||
	    !read_number(group_fd, "memory.max", &before))
		return false;
	/* No number that somebody types ends a process: on its way down the limit stays above what
	 * is in use. But it never goes up for that, or nothing would ever meet it. */
	if (most && (!before || most < before)) {
		now = WR_MAX(most, used + (used >> ROOM_SHIFT));
		if (before)
			now = WR_MIN(now, before);
	}
	/* Half a program is worse than none; and what goes to the swap goes at its neighbours'
	 * cost. Both files are absent in some kernels. */
	(void)put(group_fd, "memory.oom.group", "1");
	(void)put(group_fd, "memory.swap.max", most ? "0" : "max");
	/* It only matters on the way down: there who wants more is slowed. A hog that was slowed
	 * below its limit would go on for minutes, at the cost of the disk from which its program
	 * is read again and again. */
	return put_number(group_fd, "memory.high", most) &&
	       put_number(group_fd, "memory.max", now) && now == most;
}

static bool
limit_cpu(int group_fd, uint64_t percent, uint64_t weight)
{
	char text[48] = "max";

	if (percent)
		snprintf(text, sizeof(text), "%" PRIu64 " %d", percent * (PERIOD_US / 100),
			 PERIOD_US);
	return (!weight || put_number(group_fd, "cpu.weight", weight)) &&
	       put(group_fd, "cpu.max", text) == 0;
}

/* Which file counts depends on the scheduler of each disk; a disk without such goes without. */
static bool
limit_io(int group_fd, uint64_t weight)
{
	bool cost, bfq;

	if (!weight)
		return faccessat(group_fd, "io.stat", F_OK, 0) == 0;
	cost = put_number(group_fd, "io.weight", weight);
	bfq = put_number(group_fd, "io.bfq.weight", WR_MIN(weight, (uint64_t)BFQ_WEIGHT_MAX));
	return cost || bfq;
}

unsigned
wr_cgroup_limit(int group_fd, const struct wr_cgroup_limits *l)
{
	unsigned on = 0;

	if (limit_cpu(group_fd, l->cpu_percent, l->cpu_weight))
		on |= WR_CGROUP_CPU;
	if (limit_io(group_fd, l->io_weight))
		on |= WR_CGROUP_IO;
	if (limit_memory(group_fd, l->memory))
		on |= WR_CGROUP_MEMORY;
	if (put_number(group_fd, "pids.max", l->pids))
		on |= WR_CGROUP_PIDS;
	return on;
}

bool
wr_cgroup_hits(int slice_fd, const char *name, struct wr_cgroup_hits *out)
{
	WR_SCOPED(wr_closep) int fd = open_group(slice_fd, name);

	if (fd < 0)
		return false;
	*out = (struct wr_cgroup_hits){0};
	/* How often a group ended as one, else how many processes ended. */
	if (!get(fd, "memory.events", "oom_group_kill", &out->oom) || !out->oom)
		(void)get(fd, "memory.events", "oom_kill", &out->oom);
	(void)get(fd, "pids.events", "max", &out->pids);
	return true;
}
