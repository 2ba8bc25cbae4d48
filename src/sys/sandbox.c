/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/sandbox_int.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/btrfs.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/fs.h"

/* The C library's wrappers speak to every thread of a process it believes in, which a child of
 * fork does not have; and on 32-bit machines the plain calls take 16-bit numbers. */
#ifdef SYS_setresuid32
#define CALL_SETRESUID SYS_setresuid32
#define CALL_SETRESGID SYS_setresgid32
#define CALL_SETGROUPS SYS_setgroups32
#else
#define CALL_SETRESUID SYS_setresuid
#define CALL_SETRESGID SYS_setresgid
#define CALL_SETGROUPS SYS_setgroups
#endif

/* ---- what there is ---- */

struct caps {
	uint64_t effective, permitted;
};

static int
get_caps(struct caps *out)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{0}};

	if (syscall(SYS_capget, &h, d) < 0)
		return -1;
	out->effective = (uint64_t)d[1].effective << 32 | d[0].effective;
	out->permitted = (uint64_t)d[1].permitted << 32 | d[0].permitted;
	return 0;
}

static int
set_caps(uint64_t all)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	for (unsigned i = 0; i < 2; i++) {
		uint32_t half = (uint32_t)(all >> (32 * i));

		d[i] = (struct __user_cap_data_struct){half, half, half};
	}
	return (int)syscall(SYS_capset, &h, d);
}

static uint64_t
bit(unsigned cap)
{
	return UINT64_C(1) << cap;
}

static int
landlock_abi(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static bool
has_filters(void)
{
	uint32_t action = SECCOMP_RET_ERRNO;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

unsigned
wr_sandbox_available(void)
{
	const uint64_t ids = bit(CAP_SETUID) | bit(CAP_SETGID);
	struct caps c = {0};
	unsigned walls = 0;

	if (get_caps(&c) == 0 && (c.effective & ids) == ids) {
		walls |= WR_WALL_IDS;
		if (c.effective & bit(CAP_SETPCAP))
			walls |= WR_WALL_CAPS;
	}
	if ((c.effective & bit(CAP_SYS_ADMIN)) && access("/proc/self/ns/net", F_OK) == 0)
		walls |= WR_WALL_NETWORK;
	if (landlock_abi() >= 1)
		walls |= WR_WALL_LANDLOCK;
	if (has_filters())
		walls |= WR_WALL_SECCOMP;
	return walls;
}

/* ---- Landlock ---- */

/* Rights that came after Debian 12's headers. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (UINT64_C(1) << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (UINT64_C(1) << 15)
#endif

#define LL_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* Devices may be made here: whether they can is a matter of capabilities. */
#define LL_WRITE                                                                                  \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                          \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                          \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                              \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                            \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | \
	 LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV)
#define LL_EXEC LANDLOCK_ACCESS_FS_EXECUTE
/* All that a rule about something else than a directory may speak of. */
#define LL_OF_FILES                                                   \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	 LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | \
	 LANDLOCK_ACCESS_FS_IOCTL_DEV)

static uint64_t
known_rights(int abi)
{
	uint64_t r = LL_READ | LL_WRITE | LL_EXEC;

	if (abi < 5)
		r &= ~LANDLOCK_ACCESS_FS_IOCTL_DEV;
	if (abi < 3)
		r &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
	if (abi < 2)
		r &= ~(uint64_t)LANDLOCK_ACCESS_FS_REFER;
	return r;
}

static int
add_rule(int ruleset, int fd, uint64_t rights, struct wr_err *err)
{
	struct landlock_path_beneath_attr a = {.allowed_access = rights, .parent_fd = fd};
	struct stat st;

	if (fstat(fd, &st) < 0)
		return wr_err_sys(err, "stat a path of the sandbox");
	if (!S_ISDIR(st.st_mode))
		a.allowed_access &= LL_OF_FILES;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0) < 0)
		return wr_err_sys(err, "add a Landlock rule");
	return 0;
}

/* What the dynamic loader and the C library open. */
static const struct {
	const char *path;
	uint64_t rights;
} common[] = {
    {"/usr", LL_READ | LL_EXEC},
    {"/lib", LL_READ | LL_EXEC},
    {"/lib32", LL_READ | LL_EXEC},
    {"/lib64", LL_READ | LL_EXEC},
    {"/libx32", LL_READ | LL_EXEC},
    {"/etc", LL_READ},
    {"/proc", LL_READ},
    {"/dev/null", LL_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE},
    {"/dev/zero", LL_READ},
    {"/dev/urandom", LL_READ},
};

static int
plan_ruleset(const struct wr_sandbox *s, int program_fd, int *out_fd, struct wr_err *err)
{
	const uint64_t known = known_rights(landlock_abi());
	/* The oldest shape of the attributes; every kernel takes it. */
	const struct {
		uint64_t handled_access_fs;
	} attr = {known};
	WR_SCOPED(wr_closep) int ruleset = -1;

	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return wr_err_sys(err, "make a Landlock ruleset");
	for (size_t i = 0; i < WR_ARRAY_LEN(common); i++) {
		WR_SCOPED(wr_closep) int fd = open(common[i].path, O_PATH | O_CLOEXEC);

		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			return wr_err_sys(err, "open '%s'", common[i].path);
		if (add_rule(ruleset, fd, common[i].rights & known, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < s->path_count; i++) {
		unsigned access = s->path[i].access;
		uint64_t rights = (access & WR_FS_READ ? LL_READ : 0) |
				  (access & WR_FS_WRITE ? LL_WRITE : 0) |
				  (access & WR_FS_EXEC ? LL_EXEC : 0);

		if (add_rule(ruleset, s->path[i].fd, rights & known, err) < 0)
			return -1;
	}
	if (program_fd >= 0 &&
	    add_rule(ruleset, program_fd, LL_EXEC | LANDLOCK_ACCESS_FS_READ_FILE, err) < 0)
		return -1;
	*out_fd = ruleset;
	ruleset = -1;
	return 0;
}

/* ---- seccomp ---- */

/* By name, so that an older library may know fewer. */
static const char *const closed[] = {
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    /* mounts and namespaces */
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "unshare",
    "setns",
    /* the kernel itself */
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "reboot",
    "kexec_load",
    "kexec_file_load",
    "swapon",
    "swapoff",
    "acct",
    "syslog",
    "quotactl",
    "quotactl_fd",
    "iopl",
    "ioperm",
    "settimeofday",
    "clock_settime",
    "clock_settime64",
    "adjtimex",
    "clock_adjtime",
    "clock_adjtime64",
    "stime",
    "sethostname",
    "setdomainname",
    /* doors with a history */
    "add_key",
    "request_key",
    "keyctl",
    "bpf",
    "userfaultfd",
    "perf_event_open",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "modify_ldt",
    "vm86",
    "vm86old",
};

static int
rule(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned count,
     const struct scmp_arg_cmp *args, struct wr_err *err)
{
	int nr = seccomp_syscall_resolve_name(name), rc;

	if (nr == __NR_SCMP_ERROR)
		return 0;
	rc = seccomp_rule_add_array(ctx, action, nr, count, args);
	if (rc < 0)
		return wr_err_set(err, WR_E_FAILED, "seccomp rule for %s: %s", name, strerror(-rc));
	return 0;
}

/* No sockets of other families: one argument may be compared once in a rule only. */
static int
add_families(scmp_filter_ctx ctx, bool inet, struct wr_err *err)
{
	const uint32_t no = SCMP_ACT_ERRNO(EPERM);
	const struct scmp_arg_cmp not_unix = SCMP_A0(SCMP_CMP_NE, AF_UNIX, 0);
	const struct scmp_arg_cmp above = SCMP_A0(SCMP_CMP_GT, AF_INET6, 0);

	if (!inet)
		return rule(ctx, no, "socket", 1, &not_unix, err);
	for (uint64_t family = 0; family < AF_INET6; family++) {
		const struct scmp_arg_cmp is = SCMP_A0(SCMP_CMP_EQ, family, 0);

		if (family != AF_UNIX && family != AF_INET &&
		    rule(ctx, no, "socket", 1, &is, err) < 0)
			return -1;
	}
	return rule(ctx, no, "socket", 1, &above, err);
}

static int
add_no_exec_new(scmp_filter_ctx ctx, const struct wr_sandbox *s, bool exec_follows,
		struct wr_err *err)
{
	static const uint64_t spaces[] = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
					  CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
					  CLONE_NEWNET};
	const uint32_t no = SCMP_ACT_ERRNO(EPERM);

	for (size_t i = 0; i < WR_ARRAY_LEN(closed); i++)
		if (rule(ctx, no, closed[i], 0, NULL, err) < 0)
			return -1;
	for (size_t i = 0; i < WR_ARRAY_LEN(spaces); i++) {
		const struct scmp_arg_cmp with = SCMP_A0(SCMP_CMP_MASKED_EQ, spaces[i], spaces[i]);

		if (rule(ctx, no, "clone", 1, &with, err) < 0)
			return -1;
	}
	/* Its flags lie in memory, out of a filter's sight; the C library falls back to clone. */
	if (rule(ctx, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL, err) < 0)
		return -1;
	if (!exec_follows && (rule(ctx, no, "execve", 0, NULL, err) < 0 ||
			      rule(ctx, no, "execveat", 0, NULL, err) < 0))
		return -1;
	return add_families(ctx, s->inet, err);
}

/* The library compiles into a descriptor only; the child must find the filter in its memory. */
static int
compile(scmp_filter_ctx ctx, struct wr_sandbox_plan *out, struct wr_err *err)
{
	WR_SCOPED(wr_closep) int fd = memfd_create("seccomp", MFD_CLOEXEC);
	struct stat st;
	int rc;

	if (fd < 0)
		return wr_err_sys(err, "make a memfd");
	rc = seccomp_export_bpf(ctx, fd);
	if (rc < 0)
		return wr_err_set(err, WR_E_FAILED, "compile the seccomp filter: %s",
				  strerror(-rc));
	if (fstat(fd, &st) < 0)
		return wr_err_sys(err, "read the seccomp filter");
	out->filter = wr_malloc((size_t)st.st_size);
	if (wr_pread_full(fd, out->filter, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
		return wr_err_sys(err, "read the seccomp filter");
	out->filter_len = (unsigned short)((size_t)st.st_size / sizeof(*out->filter));
	return 0;
}

static int
plan_filter(const struct wr_sandbox *s, bool exec_follows, struct wr_sandbox_plan *out,
	    struct wr_err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int rc = -1;

	if (!ctx)
		return wr_err_set(err, WR_E_FAILED, "make a seccomp filter");
	/* A call of another machine type (32 bits) would pass by the rules. */
	if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0) {
		wr_err_set(err, WR_E_FAILED, "set up the seccomp filter");
		goto out;
	}
	if (s->no_exec_new && add_no_exec_new(ctx, s, exec_follows, err) < 0)
		goto out;
	if (s->no_sockets && (rule(ctx, SCMP_ACT_ERRNO(EPERM), "socketpair", 0, NULL, err) < 0 ||
			      rule(ctx, SCMP_ACT_ERRNO(EPERM), "socket", 0, NULL, err) < 0))
		goto out;
	rc = compile(ctx, out, err);
out:
	seccomp_release(ctx);
	return rc;
}

/* ---- single calls ---- */

/*
 * Made by hand, for the library knows no calls younger than itself, and kills programs of other
 * machine types: these are users' programs, some of which have 32 bits.
 *
 *   for each way to call: arch and number fit -> look, or deny
 *   a machine type that is not listed -> ENOSYS
 *   look: the low 32 bits of the second argument, all that the kernel takes; listed -> deny
 */
#define CALL_FILE_SETATTR 469 /* everywhere, since Linux 6.17 */
#define X32 0x40000000u
#define FLAGS32 _IOW('f', 2, int) /* as 32-bit programs write FS_IOC_SETFLAGS */

static const struct way {
	uint32_t arch, ioctl, setattr;
} ways[] = {
#if defined(__x86_64__)
    {AUDIT_ARCH_X86_64, 16, CALL_FILE_SETATTR},
    {AUDIT_ARCH_X86_64, X32 | 514, X32 | CALL_FILE_SETATTR},
    {AUDIT_ARCH_I386, 54, CALL_FILE_SETATTR},
#elif defined(__aarch64__)
    {AUDIT_ARCH_AARCH64, 29, CALL_FILE_SETATTR},
    {AUDIT_ARCH_ARM, 54, CALL_FILE_SETATTR},
#else
    {0}, /* not known: nothing is denied */
#endif
};

static const struct denied {
	unsigned deny;
	uint32_t command;
} denied[] = {
    {WR_DENY_PROJECT_ID, (uint32_t)FS_IOC_FSSETXATTR},
    {WR_DENY_FILE_FLAGS, (uint32_t)FS_IOC_SETFLAGS},
    {WR_DENY_FILE_FLAGS, (uint32_t)FLAGS32},
    {WR_DENY_SUBVOLUMES, (uint32_t)BTRFS_IOC_SUBVOL_CREATE},
    {WR_DENY_SUBVOLUMES, (uint32_t)BTRFS_IOC_SUBVOL_CREATE_V2},
    {WR_DENY_SUBVOLUMES, (uint32_t)BTRFS_IOC_SNAP_CREATE},
    {WR_DENY_SUBVOLUMES, (uint32_t)BTRFS_IOC_SNAP_CREATE_V2},
};

#define RULE_MAX (6 * WR_ARRAY_LEN(ways) + 2 * WR_ARRAY_LEN(denied) + 8)

static void
emit(struct wr_sandbox_plan *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	wr_assert(p->deny_len < RULE_MAX);
	p->deny[p->deny_len++] = (struct sock_filter){code, yes, no, k};
}

static void
plan_deny(unsigned deny, struct wr_sandbox_plan *out)
{
	const uint16_t load = BPF_LD | BPF_W | BPF_ABS, same = BPF_JMP | BPF_JEQ | BPF_K,
		       give = BPF_RET | BPF_K, go = BPF_JMP | BPF_JA;
	const uint32_t no = SECCOMP_RET_ERRNO | EPERM, nosys = SECCOMP_RET_ERRNO | ENOSYS;
	const uint32_t arch = offsetof(struct seccomp_data, arch);
	size_t look[WR_ARRAY_LEN(ways)];

	out->deny = wr_calloc(RULE_MAX, sizeof(*out->deny));
	for (size_t i = 0; i < WR_ARRAY_LEN(ways); i++) {
		const bool setattr = deny & WR_DENY_PROJECT_ID;

		emit(out, load, arch, 0, 0);
		emit(out, same, ways[i].arch, 0, setattr ? 5 : 3);
		emit(out, load, offsetof(struct seccomp_data, nr), 0, 0);
		if (setattr) {
			emit(out, same, ways[i].setattr, 0, 1);
			emit(out, give, no, 0, 0);
		}
		emit(out, same, ways[i].ioctl, 0, 1);
		look[i] = out->deny_len;
		emit(out, go, 0, 0, 0);
	}
	emit(out, load, arch, 0, 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(ways); i++)
		emit(out, same, ways[i].arch, (uint8_t)(WR_ARRAY_LEN(ways) - i), 0);
	emit(out, give, nosys, 0, 0);
	emit(out, give, SECCOMP_RET_ALLOW, 0, 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(ways); i++)
		out->deny[look[i]].k = (uint32_t)(out->deny_len - look[i] - 1);
	/* Both machines are little-endian. */
	emit(out, load, offsetof(struct seccomp_data, args[1]), 0, 0);
	for (size_t i = 0; i < WR_ARRAY_LEN(denied); i++)
		if (deny & denied[i].deny) {
			emit(out, same, denied[i].command, 0, 1);
			emit(out, give, no, 0, 0);
		}
	emit(out, give, SECCOMP_RET_ALLOW, 0, 0);
}

/* ---- plan and enter ---- */

int
wr_sandbox_plan(const struct wr_sandbox *s, int program_fd, struct wr_sandbox_plan *out,
		struct wr_err *err)
{
	struct wr_sandbox_plan p = WR_SANDBOX_PLAN_INIT;
	struct caps have = {0};
	unsigned want = 0;

	wr_assert(s->path_count <= WR_SANDBOX_PATHS);
	if (s->set_ids)
		want |= WR_WALL_IDS | WR_WALL_CAPS;
	if (s->no_network)
		want |= WR_WALL_NETWORK;
	if (s->path_count)
		want |= WR_WALL_LANDLOCK;
	if (s->no_exec_new || s->no_sockets || s->deny)
		want |= WR_WALL_SECCOMP;
	p.s = s;
	p.walls = want & wr_sandbox_available();
	if (get_caps(&have) == 0)
		p.caps = s->caps & have.permitted;
	if ((p.walls & WR_WALL_LANDLOCK) && plan_ruleset(s, program_fd, &p.ruleset_fd, err) < 0)
		goto fail;
	if ((p.walls & WR_WALL_SECCOMP) && (s->no_exec_new || s->no_sockets) &&
	    plan_filter(s, program_fd >= 0, &p, err) < 0)
		goto fail;
	if ((p.walls & WR_WALL_SECCOMP) && s->deny && ways[0].arch)
		plan_deny(s->deny, &p);
	*out = p;
	return 0;
fail:
	wr_sandbox_plan_fini(&p);
	return -1;
}

void
wr_sandbox_plan_fini(struct wr_sandbox_plan *p)
{
	wr_closep(&p->ruleset_fd);
	free(p->filter);
	free(p->deny);
	p->filter = p->deny = NULL;
}

static int
limit(__rlimit_resource_t what, uint64_t most)
{
	struct rlimit rl;

	if (getrlimit(what, &rl) < 0)
		return -1;
	rl.rlim_max = WR_MIN(rl.rlim_max, (rlim_t)most);
	rl.rlim_cur = rl.rlim_max;
	return setrlimit(what, &rl);
}

/* Nobody below may gain what is not in p->caps, not even as root or by a set-uid file. */
static const char *
close_bounds(const struct wr_sandbox_plan *p)
{
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;

	for (unsigned cap = 0; cap < 64; cap++)
		if (!(p->caps & bit(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL) /* past the last one */
				break;
			return "drop capabilities";
		}
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return "set secure bits";
	return NULL;
}

static const char *
enter_ids(const struct wr_sandbox_plan *p)
{
	const struct wr_sandbox *s = p->s;
	const bool caps = p->walls & WR_WALL_CAPS;
	const char *what;

	/* Without no_new_privs a set-uid program may still be what the user is after; but root
	 * with its usual powers would be no sandbox at all. */
	if (caps && (s->no_new_privs || s->uid == 0) && (what = close_bounds(p)))
		return what;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return "keep capabilities";
	if (syscall(CALL_SETGROUPS, s->group_count, s->groups) < 0)
		return "set groups";
	if (syscall(CALL_SETRESGID, s->gid, s->gid, s->gid) < 0)
		return "set group id";
	if (syscall(CALL_SETRESUID, s->uid, s->uid, s->uid) < 0)
		return "set user id";
	if (set_caps(caps ? p->caps : 0) < 0)
		return "set capabilities";
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* none is left of others */
	for (unsigned cap = 0; caps && cap < 64; cap++)
		if ((p->caps & bit(cap)) &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return "keep capabilities across exec";
	return NULL;
}

const char *
wr_sandbox_enter(const struct wr_sandbox_plan *p)
{
	const struct wr_sandbox *s = p->s;
	const struct sock_fprog prog = {.len = p->filter_len, .filter = p->filter};
	const struct sock_fprog deny = {.len = p->deny_len, .filter = p->deny};
	const bool early = (p->walls & WR_WALL_IDS) && !s->no_new_privs;
	const char *what;

	if (s->max_memory && limit(RLIMIT_AS, s->max_memory) < 0)
		return "limit memory";
	if (s->max_files && limit(RLIMIT_NOFILE, s->max_files) < 0)
		return "limit open files";
	if ((p->walls & WR_WALL_NETWORK) && unshare(CLONE_NEWNET) < 0)
		return "leave the network";
	/* While we still may without renouncing. */
	if (p->deny && early && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &deny, 0, 0) < 0)
		return "install the filter of single calls";
	if ((p->walls & WR_WALL_IDS) && (what = enter_ids(p)))
		return what;
	/* The kernel takes rule sets and filters only from those who renounced. */
	if ((s->no_new_privs || p->ruleset_fd >= 0 || p->filter || (p->deny && !early)) &&
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return "set no_new_privs";
	if (p->ruleset_fd >= 0 && syscall(SYS_landlock_restrict_self, p->ruleset_fd, 0) < 0)
		return "enter the Landlock ruleset";
	if (p->deny && !early && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &deny, 0, 0) < 0)
		return "install the filter of single calls";
	/* Last: from here on calls are missing. */
	if (p->filter && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) < 0)
		return "install the seccomp filter";
	return NULL;
}

int
wr_sandbox_apply(const struct wr_sandbox *s, bool before_exec, struct wr_err *err)
{
	struct wr_sandbox_plan p = WR_SANDBOX_PLAN_INIT;
	WR_SCOPED(wr_closep) int self = -1;
	const char *what;

	if (before_exec) {
		self = open("/proc/self/exe", O_PATH | O_CLOEXEC);
		if (self < 0)
			return wr_err_sys(err, "open /proc/self/exe");
	}
	if (wr_sandbox_plan(s, self, &p, err) < 0)
		return wr_err_wrap(err, "prepare the sandbox");
	what = wr_sandbox_enter(&p);
	if (what)
		wr_err_sys(err, "%s", what);
	wr_sandbox_plan_fini(&p);
	return what ? -1 : 0;
}
