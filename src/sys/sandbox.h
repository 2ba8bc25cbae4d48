/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rights of a process, given up before it runs: identity, capabilities, file system (Landlock),
 * network, system calls (seccomp).  What the kernel or missing privilege cannot give is left out
 * and told by bits: the same code runs rootless with fewer walls.
 */
#ifndef WR_SANDBOX_H
#define WR_SANDBOX_H

#include <sys/types.h>

#include "base/err.h"

enum wr_fs_access { WR_FS_READ = 1, WR_FS_WRITE = 2, WR_FS_EXEC = 4 };
#define WR_SANDBOX_PATHS 12

/* Single calls that take files out of what they are counted in (host/quota). */
enum wr_deny {
	WR_DENY_PROJECT_ID = 1, /* give a file another project id */
	WR_DENY_FILE_FLAGS = 2, /* change its flags, one of which hands the id on to new files */
	WR_DENY_SUBVOLUMES = 4, /* make subvolumes and snapshots of them */
};

struct wr_sandbox {
	bool set_ids; /* become uid, gid (with `groups` supplementary groups); needs root */
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t group_count;
	/* Kept across exec as ambient capabilities when set_ids: bits 1 << CAP_x. 0: none.
	 * Rootless: ignored. */
	uint64_t caps;
	bool no_new_privs; /* implied where Landlock or seccomp is used */
	bool no_network;   /* a network namespace of its own without any interface; needs root */
	/* Landlock: nothing below / but these. count 0: not restricted. What the dynamic loader and
	 * libc need (/usr, /lib*, /etc read-only, /dev/null, /dev/zero, /dev/urandom, /proc) is
	 * added by itself, and the program that is about to be executed. fd: O_PATH or a directory
	 * descriptor. EXEC lets files be executed; scripts and libraries want READ as well. */
	struct {
		int fd;
		unsigned access;
	} path[WR_SANDBOX_PATHS];
	size_t path_count;
	bool no_exec_new; /* seccomp: no execve after the first, no ptrace, mount, module, keyring,
			     bpf, reboot, kexec, unshare, setns, userfaultfd, perf, io_uring; no
			     sockets but AF_UNIX */
	bool inet;        /* with it: sockets of IPv4 and IPv6 as well */
	bool no_sockets;  /* with it: no new sockets of any kind (inherited ones stay usable) */
	unsigned deny;    /* enum wr_deny, seccomp: for all that descends from it. As root without
			     no_new_privs, so that set-uid programs are still what they are */
	uint64_t max_memory; /* RLIMIT_AS, 0: none */
	uint64_t max_files;  /* RLIMIT_NOFILE, 0: as it is */
};

enum wr_wall {
	WR_WALL_IDS = 1,
	WR_WALL_CAPS = 2,
	WR_WALL_NETWORK = 4,
	WR_WALL_LANDLOCK = 8,
	WR_WALL_SECCOMP = 16
};
/* What this kernel and this process's rights can give. */
unsigned wr_sandbox_available(void);
/*
 * In the process itself, before it starts any thread.  before_exec: execve and execveat stay open,
 * for the program that follows (wr_spawn does it so in the child); a program that was started with
 * no_exec_new closes them as its first act with
 *   wr_sandbox_apply(&(struct wr_sandbox){.no_exec_new = true}, false, &err).
 * -1 only if something that is available failed; what was given up until then stays given up.
 */
int wr_sandbox_apply(const struct wr_sandbox *s, bool before_exec, struct wr_err *err);

#endif
