/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes: starting our own image (and programs of users) with exactly the descriptors,
 * environment and rights that are listed, and recognising a process again later.
 */
#ifndef WR_PROC_H
#define WR_PROC_H

#include <sys/types.h>

#include "base/err.h"

struct wr_sandbox;

struct wr_spawn {
	const char *path;        /* NULL: our own image (/proc/self/exe); no search in PATH */
	const char *const *argv; /* ends with NULL */
	/* Ends with NULL; NULL: the usual PATH, and LANG and TZ as they are here. */
	const char *const *envp;
	/* Becomes descriptor i of the child; -1: /dev/null for 0..2, closed above. Everything else
	 * is closed. */
	int fd[8];
	size_t fd_count;
	bool new_session; /* setsid: not reached by the caller's terminal or group signals */
	bool detach;      /* twice forked: not a child of ours, *out_pid is the real one */
	int cgroup_fd;    /* directory of a cgroup v2 to be born in; -1: the caller's */
	const char *dir;  /* working directory; NULL: "/" */
	int dir_fd;       /* used if >= 0 and dir is NULL */
	const struct wr_sandbox *sandbox; /* applied last before exec; NULL: none */
};
#define WR_SPAWN_INIT                                                                   \
	{                                                                               \
		.fd = {-1, -1, -1, -1, -1, -1, -1, -1}, .fd_count = 3, .cgroup_fd = -1, \
		.dir_fd = -1                                                            \
	}

/* The child resets signals and its mask. Returns after exec succeeded; a failure before or at exec
 * comes back as *err ("run 'x': No such file or directory"). Safe in threaded callers. */
int wr_spawn(const struct wr_spawn *s, pid_t *out_pid, struct wr_err *err);

/* A process that is not confused with a later one of the same number: start time in clock ticks
 * since boot (/proc/PID/stat field 22) and the boot id's hash. */
struct wr_proc_id {
	pid_t pid; /* 0: none */
	uint64_t start;
	uint64_t boot; /* first 8 bytes of boot_id */
};
int wr_proc_id_of(pid_t pid, struct wr_proc_id *out, struct wr_err *err); /* WR_E_NOT_FOUND */
bool wr_proc_alive(const struct wr_proc_id *p); /* zombies are not alive */
/* pidfd of exactly that process, -1 if it is gone; readable when it ends. */
int wr_proc_pidfd(const struct wr_proc_id *p);
/* Signal it; true if it was there. */
bool wr_proc_signal(const struct wr_proc_id *p, int sig);
/* "PID:START:BOOT" and back. */
struct wr_proc_text {
	char s[64];
};
struct wr_proc_text wr_proc_format(const struct wr_proc_id *p);
bool wr_proc_parse(const char *s, struct wr_proc_id *out);

/* All processes below root_pid by parenthood (not itself), and all whose real or effective uid is
 * uid (uid_t)-1: none. Gives the count; pids may be NULL. */
size_t wr_proc_descendants(pid_t root_pid, pid_t **out_pids);
size_t wr_proc_of_uid(uid_t uid, pid_t **out_pids);
/* Bytes resident and CPU seconds of one process; false if gone. */
bool wr_proc_usage(pid_t pid, uint64_t *out_rss, double *out_cpu_s);
/* End a process (SIGKILL) with the thread that started it; to be called by the child itself after
 * exec, for a set-uid exec or wr_sandbox_apply would undo it. Exits at once if the parent (expected
 * pid, 0 = do not check) is gone already. */
void wr_proc_die_with_parent(pid_t expected_parent);

#endif
