/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer between a program and the C library (LD_PRELOAD) in which the n-th file system call fails
 * or never returns.
 *
 *   FAULT_AT=N        which call, counted over all threads; unset or 0: none, only count
 *   FAULT_HOW=enospc|eio|kill   fail with that error, or end the process as kill -9 would
 *   FAULT_KEEP=1      also every later call fails (a disk stays full)
 *   FAULT_CALLS=write|read   calls that change something (default), or calls that read
 *   FAULT_COUNT=FILE  append the number of calls at the end
 *
 * Calls on standard streams are never counted.
 */
/* The plain names and those with 64 are different symbols here, both are taken over. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_long calls;
static long fault_at;
static int fault_errno, fault_kill, fault_keep, fault_reads;

__attribute__((constructor)) static void
setup(void)
{
	const char *at = getenv("FAULT_AT"), *how = getenv("FAULT_HOW");
	const char *set = getenv("FAULT_CALLS");

	fault_at = at ? atol(at) : 0;
	fault_kill = how && !strcmp(how, "kill");
	fault_errno = how && !strcmp(how, "enospc") ? ENOSPC : EIO;
	fault_keep = getenv("FAULT_KEEP") != NULL;
	fault_reads = set && !strcmp(set, "read");
}

__attribute__((destructor)) static void
report(void)
{
	const char *file = getenv("FAULT_COUNT");
	FILE *f = file ? fopen(file, "a") : NULL;

	if (f) {
		fprintf(f, "%ld\n", (long)calls);
		fclose(f);
	}
}

/* Is it this call's turn? Sets errno. */
static int
strike(int reading)
{
	long n;

	if (reading != fault_reads)
		return 0;
	n = ++calls;
	if (!fault_at || n < fault_at || (n > fault_at && !fault_keep))
		return 0;
	if (fault_kill)
		kill(getpid(), SIGKILL);
	errno = fault_errno;
	return 1;
}

#define REAL(name)                     \
	static __typeof__(name) *real; \
	if (!real)                     \
	real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define CALL(reading, type, name, params, args)                \
	type name params                                       \
	{                                                      \
		REAL(name);                                    \
		return strike(reading) ? (type)-1 : real args; \
	}

#define CALL_FD(reading, type, name, params, args)                       \
	type name params                                                 \
	{                                                                \
		REAL(name);                                              \
		return fd > 2 && strike(reading) ? (type)-1 : real args; \
	}

CALL_FD(0, ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
CALL_FD(0, ssize_t, pwrite, (int fd, const void *p, size_t n, off_t o), (fd, p, n, o))
CALL_FD(0, ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t o), (fd, p, n, o))
CALL_FD(0, int, fsync, (int fd), (fd))
CALL_FD(0, int, fdatasync, (int fd), (fd))
CALL_FD(0, int, syncfs, (int fd), (fd))
CALL_FD(0, int, ftruncate, (int fd, off_t n), (fd, n))
CALL_FD(0, int, ftruncate64, (int fd, off64_t n), (fd, n))
CALL_FD(0, int, fchmod, (int fd, mode_t m), (fd, m))
CALL_FD(0, int, fchown, (int fd, uid_t u, gid_t g), (fd, u, g))
CALL_FD(0, int, futimens, (int fd, const struct timespec t[2]), (fd, t))
CALL(0, int, utimensat, (int d, const char *a, const struct timespec t[2], int f), (d, a, t, f))
CALL(0, int, rename, (const char *a, const char *b), (a, b))
CALL(0, int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b))
CALL(0, int, mkdir, (const char *a, mode_t m), (a, m))
CALL(0, int, mkdirat, (int d, const char *a, mode_t m), (d, a, m))
CALL(0, int, unlink, (const char *a), (a))
CALL(0, int, unlinkat, (int d, const char *a, int f), (d, a, f))
CALL(0, int, linkat, (int d, const char *a, int e, const char *b, int f), (d, a, e, b, f))
CALL(0, int, symlinkat, (const char *a, int d, const char *b), (a, d, b))
CALL(0, int, mknodat, (int d, const char *a, mode_t m, dev_t v), (d, a, m, v))
CALL_FD(1, ssize_t, read, (int fd, void *p, size_t n), (fd, p, n))
CALL_FD(1, ssize_t, pread, (int fd, void *p, size_t n, off_t o), (fd, p, n, o))
CALL_FD(1, ssize_t, pread64, (int fd, void *p, size_t n, off64_t o), (fd, p, n, o))
CALL(1, int, fstatat, (int d, const char *a, struct stat *s, int f), (d, a, s, f))
CALL(1, int, fstatat64, (int d, const char *a, struct stat64 *s, int f), (d, a, s, f))
CALL_FD(1, int, fstat, (int fd, struct stat *s), (fd, s))
CALL_FD(1, int, fstat64, (int fd, struct stat64 *s), (fd, s))

ssize_t __read_chk(int fd, void *p, size_t n, size_t max);
CALL_FD(1, ssize_t, __read_chk, (int fd, void *p, size_t n, size_t max), (fd, p, n, max))
ssize_t __pread64_chk(int fd, void *p, size_t n, off64_t o, size_t max);
CALL_FD(1, ssize_t, __pread64_chk, (int fd, void *p, size_t n, off64_t o, size_t max),
	(fd, p, n, o, max))

/* Opening for writing changes something, opening for reading does not. */
#define OPEN(name, fixed_params, fixed_args)                             \
	int name fixed_params                                            \
	{                                                                \
		mode_t mode = 0;                                         \
		va_list ap;                                              \
		REAL(name);                                              \
		va_start(ap, flags);                                     \
		if (flags & (O_CREAT | O_TMPFILE))                       \
			mode = va_arg(ap, mode_t);                       \
		va_end(ap);                                              \
		if (strike((flags & (O_ACCMODE | O_CREAT)) == O_RDONLY)) \
			return -1;                                       \
		return real fixed_args;                                  \
	}
OPEN(open, (const char *a, int flags, ...), (a, flags, mode))
OPEN(open64, (const char *a, int flags, ...), (a, flags, mode))
OPEN(openat, (int d, const char *a, int flags, ...), (d, a, flags, mode))
OPEN(openat64, (int d, const char *a, int flags, ...), (d, a, flags, mode))
