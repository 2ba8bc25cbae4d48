/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/crash.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *want; /* NULL: none; fixed after the first passage */
static size_t want_len;
static atomic_ulong left;

static void
setup(void)
{
	const char *colon;

	want = getenv("WARREN_CRASH");
	if (!want)
		return;
	colon = strrchr(want, ':');
	want_len = colon ? (size_t)(colon - want) : strlen(want);
	left = colon ? strtoul(colon + 1, NULL, 10) : 1;
}

void
wr_crash_point(const char *name)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, setup);
	if (!want || strlen(name) != want_len || memcmp(name, want, want_len) != 0)
		return;
	if (atomic_fetch_sub(&left, 1) == 1)
		kill(getpid(), SIGKILL);
}
