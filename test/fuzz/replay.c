/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds every file of the directories named as arguments to the fuzz target it is linked with; the
 * target reports by crashing or not.  Prints TAP. */
#include <dirent.h>
#include <fcntl.h>

#include "base/buf.h"
#include "sys/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (64u << 20)

static int
not_hidden(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static unsigned
replay(const char *dir, unsigned number)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, not_hidden, alphasort);
	WR_SCOPED(wr_closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < n; i++) {
		struct wr_buf b = WR_BUF_INIT;
		struct wr_err err = WR_ERR_INIT;

		if (wr_read_file(fd, list[i]->d_name, INPUT_MAX, &b, &err) < 0) {
			printf("not ok %u - %s: %s\n", ++number, list[i]->d_name, err.msg);
		} else {
			/* An exact copy on the heap, so that a sanitizer sees a read past it. */
			uint8_t *p = wr_memdup(b.p, b.len);

			(void)LLVMFuzzerTestOneInput(p, b.len);
			free(p);
			printf("ok %u - %s\n", ++number, list[i]->d_name);
		}
		fflush(stdout); /* a crash in the next input must not hide this one */
		wr_buf_fini(&b);
		free(list[i]);
	}
	free(list);
	return number;
}

int
main(int argc, char **argv)
{
	unsigned n = 0;

	/* The empty input is in every corpus. */
	(void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	printf("ok %u - empty input\n", ++n);
	for (int i = 1; i < argc; i++)
		n = replay(argv[i], n);
	printf("1..%u\n", n);
	return 0;
}
