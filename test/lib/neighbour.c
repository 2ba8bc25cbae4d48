/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long small pieces of work take, beside whatever else goes on:
 *
 *   neighbour FILE WORK MS    for MS milliseconds, again and again: a nap, some work of the
 * processor (WORK thousand steps), 4 KiB of FILE written through to its disk
 *
 * Prints microseconds: "cpu P50 P95 disk P50 P95 rounds N".  That it was woken late counts with the
 * work of the processor.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAP_US 20000
#define ROUNDS_MAX 1000

static uint64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t
work(uint64_t steps)
{
	uint64_t x = 88172645463325252u;

	while (steps--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}

static int
ascending(const void *x, const void *y)
{
	const uint64_t *a = x, *b = y;

	return (*a > *b) - (*a < *b);
}

static uint64_t
percentile(uint64_t *list, size_t n, size_t p)
{
	qsort(list, n, sizeof(*list), ascending);
	return list[(n - 1) * p / 100];
}

int
main(int argc, char **argv)
{
	const struct timespec nap = {0, NAP_US * 1000};
	static uint64_t cpu[ROUNDS_MAX], disk[ROUNDS_MAX];
	uint64_t steps, until, sum = 0;
	char block[4096];
	bool failed;
	size_t n = 0;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: neighbour FILE WORK MS\n");
		return 2;
	}
	steps = strtoull(argv[2], NULL, 10) * 1000;
	until = now_us() + strtoull(argv[3], NULL, 10) * 1000;
	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	failed = fd < 0;
	while (!failed && n < ROUNDS_MAX && (n == 0 || now_us() < until)) {
		uint64_t at = now_us() + NAP_US, done;

		nanosleep(&nap, NULL);
		sum += work(steps);
		done = now_us();
		memset(block, (int)sum, sizeof(block));
		failed = pwrite(fd, block, sizeof(block), 0) != sizeof(block) || fsync(fd) < 0;
		cpu[n] = done > at ? done - at : 0;
		disk[n++] = now_us() - done;
	}
	if (failed) {
		fprintf(stderr, "neighbour: '%s': %s\n", argv[1], strerror(errno));
		return 1;
	}
	printf("cpu %" PRIu64 " %" PRIu64, percentile(cpu, n, 50), percentile(cpu, n, 95));
	printf(" disk %" PRIu64 " %" PRIu64 " rounds %zu\n", percentile(disk, n, 50),
	       percentile(disk, n, 95), n);
	return 0;
}
