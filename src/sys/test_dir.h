/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of this folder: a directory of its own for each test, as *state. */
#ifndef WR_TEST_DIR_H
#define WR_TEST_DIR_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fs.h"

struct dir {
	char path[64];
	int fd;
};

static inline int
setup(void **state)
{
	struct dir *d = wr_calloc(1, sizeof(*d));

	snprintf(d->path, sizeof(d->path), "/tmp/warren_test.XXXXXX");
	/* Other users of a test have to get through. */
	if (!mkdtemp(d->path) || chmod(d->path, 0755) < 0)
		return -1;
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = d;
	return d->fd < 0 ? -1 : 0;
}

static inline int
teardown(void **state)
{
	struct dir *d = *state;
	int rc = wr_remove_tree(AT_FDCWD, d->path, NULL);

	close(d->fd);
	free(d);
	return rc;
}

#endif
