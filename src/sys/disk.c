/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/fs.h"

/* LIMITs: arrays of volume groups of arrays; what sysfs and mountinfo say. */
#define DEPTH_MAX 8
#define TEXT_MAX 4096
#define MOUNTS_MAX (16u << 20)

/* ---- texts of the kernel ---- */

bool
wr_disk_scheduler(const char *list, char *out, size_t size)
{
	const char *open = strchr(list, '['), *close = open ? strchr(open, ']') : NULL;
	size_t n = close ? (size_t)(close - open - 1) : strcspn(list, " \n");

	/* A single one stands without brackets. */
	if ((!close && list[n + strspn(list + n, " \n")]) || n == 0 || n >= size)
		return false;
	memcpy(out, close ? open + 1 : list, n);
	out[n] = '\0';
	return true;
}

bool
wr_disk_io_cost(const char *qos, unsigned major, unsigned minor)
{
	while (*qos) {
		size_t len = strcspn(qos, "\n");
		WR_SCOPED(wr_freep) char *line = wr_memdup(qos, len + 1);
		unsigned a, b, on = 0;

		line[len] = '\0';
		if (sscanf(line, "%9u:%9u enable=%1u", &a, &b, &on) == 3 && a == major &&
		    b == minor)
			return on == 1;
		qos += len + (qos[len] == '\n');
	}
	return false;
}

/* ---- which device ---- */

/* Where st_dev is none, as on btrfs: the mount says what it was made from. */
static bool
device_of_mount(int fd, dev_t *out)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct statx sx;
	char *line, *rest = NULL;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & STATX_MNT_ID) ||
	    wr_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTS_MAX, &b, NULL) < 0)
		return false;
	wr_buf_add8(&b, 0);
	for (line = strtok_r((char *)b.p, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		const char *dash = strstr(line, " - ");
		char source[TEXT_MAX];
		struct stat st;

		if (strtoull(line, NULL, 10) != sx.stx_mnt_id || !dash)
			continue;
		if (sscanf(dash, " - %*s %4095s", source) != 1 || *source != '/' ||
		    stat(source, &st) < 0 || !S_ISBLK(st.st_mode))
			return false;
		*out = st.st_rdev;
		return true;
	}
	return false;
}

struct look {
	struct wr_disk *out;
	size_t count, max;
};

static bool
read_text(int dir_fd, const char *name, struct wr_buf *b)
{
	wr_buf_clear(b);
	return wr_read_file(dir_fd, name, TEXT_MAX, b, NULL) == 0;
}

static void
add_disk(struct look *l, int dir_fd, const char *name, unsigned major, unsigned minor)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct wr_disk d = {0};

	for (size_t i = 0; i < l->count; i++)
		if (!strcmp(l->out[i].name, name))
			return;
	snprintf(d.name, sizeof(d.name), "%s", name);
	if (l->count == l->max || !read_text(dir_fd, "queue/scheduler", &b) ||
	    !wr_disk_scheduler(wr_buf_str(&b), d.scheduler, sizeof(d.scheduler)))
		return;
	d.weights =
	    !strcmp(d.scheduler, "bfq") || (read_text(AT_FDCWD, "/sys/fs/cgroup/io.cost.qos", &b) &&
					    wr_disk_io_cost(wr_buf_str(&b), major, minor));
	l->out[l->count++] = d;
}

/* dir_fd: the device in sysfs. What has slaves is made of them. */
static void
look_device(struct look *l, int dir_fd, unsigned depth)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *self = wr_asprintf("/proc/self/fd/%d", dir_fd);
	int slaves = openat(dir_fd, "slaves", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = slaves < 0 ? NULL : fdopendir(slaves);
	char path[TEXT_MAX], *name;
	const struct dirent *e;
	unsigned major, minor;
	size_t parts = 0;
	ssize_t n;

	while (d && (e = readdir(d))) {
		WR_SCOPED(wr_closep) int fd = -1;

		if (e->d_name[0] == '.' || depth == DEPTH_MAX)
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			look_device(l, fd, depth + 1);
		parts++;
	}
	if (d)
		closedir(d);
	else
		wr_closep(&slaves);
	if (parts)
		return;
	if (faccessat(dir_fd, "partition", F_OK, 0) == 0) {
		WR_SCOPED(wr_closep)
		int whole = openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (whole >= 0 && depth < DEPTH_MAX)
			look_device(l, whole, depth + 1);
		return;
	}
	n = readlink(self, path, sizeof(path) - 1);
	if (n <= 0 || !read_text(dir_fd, "dev", &b) ||
	    sscanf(wr_buf_str(&b), "%9u:%9u", &major, &minor) != 2)
		return;
	path[n] = '\0';
	name = strrchr(path, '/');
	add_disk(l, dir_fd, name ? name + 1 : path, major, minor);
}

size_t
wr_disks_below(const char *path, struct wr_disk *out, size_t max)
{
	WR_SCOPED(wr_closep) int fd = open(path, O_PATH | O_CLOEXEC);
	WR_SCOPED(wr_closep) int device = -1;
	WR_SCOPED(wr_freep) char *where = NULL;
	struct look l = {.out = out, .max = max};
	struct stat st;
	dev_t dev;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	dev = st.st_dev;
	if (major(dev) == 0 && !device_of_mount(fd, &dev))
		return 0;
	where = wr_asprintf("/sys/dev/block/%u:%u", major(dev), minor(dev));
	device = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (device >= 0)
		look_device(&l, device, 0);
	return l.count;
}
