/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's frame: request in, walls up, one task, one result.  The walls stand before anything
 * of a user's is looked at.
 */
#include "host/task/worker_int.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "sys/beneath.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/proc.h"
#include "sys/sandbox.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)
/* What it takes to read any file, and to be as good as the owner of each. */
#define CAPS_READ CAP(DAC_READ_SEARCH)
#define CAPS_OWNER                                                                           \
	(CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(FSETID) | \
	 CAP(LINUX_IMMUTABLE))

/* LIMIT: of address space for tasks that run as users; engines map whole packs. */
#ifdef __SANITIZE_ADDRESS__
#define USER_MEMORY 0 /* it reserves terabytes */
#else
#define USER_MEMORY (UINT64_C(2) << 30)
#endif
/* LIMIT: of what a task that reads from another node may have in memory besides maps of files, and
 * for each processor, whose thread has a stack. It needs an eighth of that, whatever comes. */
#define RECEIVE_MEMORY (UINT64_C(1) << 30)
#define RECEIVE_MEMORY_CPU (UINT64_C(16) << 20)
#define PROGRESS_NS UINT64_C(50000000)

/* What each may do.  MKNOD and SETFCAP are in none: a user's tree holds no devices and no file
 * capabilities that he could not have made. */
static const struct rights {
	wr_work_fn run;
	uint64_t caps;
	unsigned tree, repo, source; /* enum wr_fs_access */
	bool as_user;
	/* Looks up names of users, for which some systems ask a socket. Not for those who could
	 * write to any: their look-ups go to files alone, and fail softly. */
	bool names;
	bool net;     /* may make connections */
	bool bounded; /* reads what another node made up: RECEIVE_MEMORY */
	bool aside;   /* long work on bytes: at [work] rate, and users' own programs come first */
	bool no_box;  /* runs programs of others: the uid alone is the wall */
} rights[WR_TASK_KINDS] = {
    [WR_TASK_INIT_REPO] = {wr_work_init_repo, .repo = WR_FS_READ | WR_FS_WRITE},
    [WR_TASK_INSPECT] = {wr_work_inspect, .repo = WR_FS_READ},
    [WR_TASK_SAVE] = {wr_work_save, CAPS_READ, WR_FS_READ, WR_FS_READ | WR_FS_WRITE, .names = true,
		      .aside = true},
    [WR_TASK_USAGE] = {wr_work_usage, CAPS_READ, WR_FS_READ, WR_FS_READ | WR_FS_WRITE,
		       .source = WR_FS_READ},
    [WR_TASK_SALVAGE] = {wr_work_save, CAPS_READ, WR_FS_READ, WR_FS_READ | WR_FS_WRITE,
			 .names = true, .aside = true},
    [WR_TASK_RESTORE] = {wr_work_restore, CAPS_OWNER, WR_FS_READ | WR_FS_WRITE,
			 WR_FS_READ | WR_FS_WRITE, .source = WR_FS_READ, .aside = true},
    [WR_TASK_IMPORT] = {wr_work_import, CAPS_OWNER, WR_FS_READ | WR_FS_WRITE,
			WR_FS_READ | WR_FS_WRITE, .source = WR_FS_READ, .aside = true},
    [WR_TASK_ADOPT] = {wr_work_adopt, CAPS_READ, 0, WR_FS_READ | WR_FS_WRITE, WR_FS_READ,
		       .names = true},
    [WR_TASK_TAG] = {wr_work_tag, .repo = WR_FS_READ | WR_FS_WRITE, .names = true},
    [WR_TASK_REFS] = {wr_work_refs, .repo = WR_FS_READ},
    [WR_TASK_OPEN] = {wr_work_open, .repo = WR_FS_READ | WR_FS_WRITE},
    [WR_TASK_PUSH] = {wr_work_push, .repo = WR_FS_READ, .net = true},
    [WR_TASK_RECEIVE] = {wr_work_receive, .repo = WR_FS_READ | WR_FS_WRITE, .bounded = true},
    [WR_TASK_PROVE] = {wr_work_prove, .repo = WR_FS_READ},
    [WR_TASK_AUDIT] = {wr_work_audit, .repo = WR_FS_READ},
    [WR_TASK_MEND] = {wr_work_mend, .repo = WR_FS_READ | WR_FS_WRITE},
    [WR_TASK_SKEL] = {wr_work_skel, 0, WR_FS_READ | WR_FS_WRITE, 0, WR_FS_READ, .as_user = true},
    [WR_TASK_LINK] = {wr_work_link, 0, WR_FS_READ | WR_FS_WRITE, .as_user = true},
    [WR_TASK_MKDIR] = {wr_work_mkdir, 0, WR_FS_READ | WR_FS_WRITE, .as_user = true},
    [WR_TASK_FILES] = {wr_work_files, 0, WR_FS_READ, .as_user = true},
    [WR_TASK_READ] = {wr_work_read, 0, WR_FS_READ, .as_user = true},
    [WR_TASK_HOOK] = {wr_work_hook, .as_user = true, .no_box = true},
    [WR_TASK_CHOWN] = {wr_work_chown,
		       .caps = CAP(CHOWN) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(FSETID),
		       .tree = WR_FS_READ},
    [WR_TASK_MARK] = {wr_work_mark,
		      .caps = CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(LINUX_IMMUTABLE),
		      .tree = WR_FS_READ},
    [WR_TASK_CLONE] = {wr_work_clone, CAPS_OWNER | CAP(LEASE), WR_FS_READ,
		       .source = WR_FS_READ | WR_FS_WRITE},
    [WR_TASK_REMOVE] = {wr_work_remove,
			CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) |
			    CAP(LINUX_IMMUTABLE),
			.source = WR_FS_READ | WR_FS_WRITE},
};

/* ---- telling ---- */

static struct {
	pthread_mutex_t mutex;
	atomic_ullong last;
	bool ended; /* guarded by mutex: nothing comes behind the result */
} tell = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static int
write_line(const json_t *o)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;

	wr_json_write(o, &b);
	wr_buf_add8(&b, '\n');
	return wr_write_all(WR_WORKER_RESULT, b.p, b.len);
}

void
wr_worker_progress(void *ctx, const char *step, uint64_t files, uint64_t files_total,
		   uint64_t bytes, uint64_t bytes_total)
{
	unsigned long long last = tell.last, now = wr_clock_mono_ns();
	json_t *o, *g;

	(void)ctx;
	if ((last && now - last < PROGRESS_NS) ||
	    !atomic_compare_exchange_strong(&tell.last, &last, now))
		return;
	o = json_object();
	g = wr_json_object(o, "progress");
	wr_json_str(g, "step", step);
	wr_json_u64(g, "files", files);
	wr_json_u64(g, "files_total", files_total);
	wr_json_u64(g, "bytes", bytes);
	wr_json_u64(g, "bytes_total", bytes_total);
	pthread_mutex_lock(&tell.mutex);
	if (!tell.ended)
		(void)write_line(o); /* who listens no more ends us anyway */
	pthread_mutex_unlock(&tell.mutex);
	json_decref(o);
}

void
wr_worker_say(const json_t *o)
{
	pthread_mutex_lock(&tell.mutex);
	(void)write_line(o); /* who listens no more ends us anyway */
	pthread_mutex_unlock(&tell.mutex);
}

static int
finish(json_t *taken_result, const struct wr_err *err)
{
	WR_SCOPED(wr_json_freep) json_t *o = json_object();
	int rc;

	if (taken_result)
		wr_json_take(o, "result", taken_result);
	else
		wr_json_err(o, "error", err);
	pthread_mutex_lock(&tell.mutex);
	tell.ended = true;
	rc = write_line(o);
	pthread_mutex_unlock(&tell.mutex);
	return rc == 0 && taken_result ? 0 : 1;
}

/* ---- pace ---- */

/* LIMIT: of one wait, so that a new rate is heard of soon. */
#define PACE_NAP_NS UINT64_C(100000000)

static struct {
	pthread_mutex_t mutex;
	const uint64_t *rate; /* mapped; NULL: there is none */
	const char *step;     /* guarded by mutex, as is what follows */
	uint64_t bytes, due_ns;
} pace = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Before the walls, for the file is nothing that tasks may see. Without it there is no rate. */
static void
map_rate(const char *run_path)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/" WR_RATE_FILE, run_path);
	WR_SCOPED(wr_closep) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(*pace.rate))
		return;
	p = mmap(NULL, sizeof(*pace.rate), PROT_READ, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		pace.rate = p;
}

/* When what is done by now may be over; 0: at once. */
static uint64_t
due(const char *step, uint64_t bytes, uint64_t rate)
{
	uint64_t now = wr_clock_mono_ns(), more, at;

	pthread_mutex_lock(&pace.mutex);
	/* Threads tell in any order, and each step counts anew. */
	if (!pace.step || strcmp(pace.step, step) != 0)
		pace.bytes = 0;
	more = bytes > pace.bytes ? bytes - pace.bytes : 0;
	pace.step = step;
	pace.bytes += more;
	pace.due_ns = WR_MAX(pace.due_ns, now);
	if (rate)
		pace.due_ns += (uint64_t)((double)more / (double)rate * 1e9);
	at = rate ? pace.due_ns : 0;
	pthread_mutex_unlock(&pace.mutex);
	return at;
}

/* Another rate: what was waited for by the old one is forgotten. */
static void
forget_due(void)
{
	pthread_mutex_lock(&pace.mutex);
	pace.due_ns = 0;
	pthread_mutex_unlock(&pace.mutex);
}

void
wr_worker_pace(const char *step, uint64_t bytes)
{
	uint64_t rate = pace.rate ? __atomic_load_n(pace.rate, __ATOMIC_RELAXED) : 0;
	uint64_t at, now;

	if (!pace.rate)
		return;
	at = due(step, bytes, rate);
	while ((now = wr_clock_mono_ns()) < at) {
		struct timespec t = {0, (long)WR_MIN(at - now, PACE_NAP_NS)};

		if (__atomic_load_n(pace.rate, __ATOMIC_RELAXED) != rate) {
			forget_due();
			return;
		}
		(void)nanosleep(&t, NULL);
	}
}

/* ---- arguments ---- */

int
wr_worker_path(const struct wr_worker *w, const char *key, char **out, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *key64 = wr_asprintf("%s_b64", key);
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	const char *text = wr_json_get_str(w->args, key, NULL);
	const char *text64 = wr_json_get_str(w->args, key64, NULL);

	*out = NULL;
	if (!text && !text64)
		return 0;
	if (text64 && !wr_base64_decode(&b, text64, strlen(text64)))
		return wr_err_set(err, WR_E_INVALID, "%s: not base64", key64);
	*out = text64 ? wr_beneath_clean(wr_buf_str(&b), b.len, err)
		      : wr_beneath_clean(text, strlen(text), err);
	return *out ? 0 : wr_err_wrap(err, "%s", key);
}

int
wr_worker_name(const char *name, struct wr_err *err)
{
	if (!name || !*name || strlen(name) > 255 || strchr(name, '/') || !strcmp(name, ".") ||
	    !strcmp(name, ".."))
		return wr_err_set(err, WR_E_INVALID, "'%s' is no name for an entry",
				  WR_Q(name ? name : ""));
	return 0;
}

/* ---- walls ---- */

static void
add_path(struct wr_sandbox *s, int fd, unsigned access)
{
	if (!access || fd < 0)
		return;
	s->path[s->path_count].fd = fd;
	s->path[s->path_count].access = access;
	s->path_count++;
}

static int
bound_memory(struct wr_err *err)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const rlim_t most = RECEIVE_MEMORY + RECEIVE_MEMORY_CPU * (rlim_t)WR_MAX(cpus, 1L);
	const struct rlimit rl = {most, most};

	/* A sanitizer's own memory counts, too. */
	if (USER_MEMORY == 0 || setrlimit(RLIMIT_DATA, &rl) == 0)
		return 0;
	return wr_err_sys(err, "bound the memory of what another node sends");
}

static int
build_walls(const struct wr_worker *w, const struct rights *r, struct wr_err *err)
{
	struct wr_sandbox s = {.set_ids = geteuid() == 0, .no_new_privs = true};
	const struct rlimit no_core = {0, 0};
	struct stat st;

	s.uid = r->as_user ? w->uid : (uid_t)wr_json_get_u64(w->request, "node_uid", geteuid());
	s.gid = r->as_user ? w->gid : (gid_t)wr_json_get_u64(w->request, "node_gid", getegid());
	if (r->as_user && s.set_ids && (s.uid == 0 || s.gid == 0))
		return wr_err_set(err, WR_E_DENIED, "a project's user cannot be root");
	s.caps = r->caps;
	s.no_exec_new = !r->no_box;
	/* Without sockets there is no network; a namespace of one's own takes longer. */
	s.no_network = !r->no_box && !r->net && !(wr_sandbox_available() & WR_WALL_SECCOMP);
	s.no_sockets = !r->no_box && !r->names && !r->net;
	s.inet = r->net;
	s.deny = r->no_box ? (unsigned)wr_json_get_u64(w->args, "deny", 0) : 0;
	s.max_memory = r->as_user && !r->no_box ? USER_MEMORY : 0;
	if (!r->no_box) {
		add_path(&s, WR_WORKER_TREE, r->tree);
		/* Another project's history is looked at, not written to. */
		add_path(&s, WR_WORKER_REPO, w->copied ? 0 : r->repo);
		add_path(&s, WR_WORKER_SOURCE, fstat(WR_WORKER_SOURCE, &st) == 0 ? r->source : 0);
	}
	wr_raise_fd_limit();
	(void)setrlimit(RLIMIT_CORE, &no_core); /* files of users do not belong into cores */
	if (r->bounded && bound_memory(err) < 0)
		return -1;
	return wr_sandbox_apply(&s, false, err);
}

/* ---- entry ---- */

static int
read_request(struct wr_worker *w, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	struct stat st;
	uint64_t kind;

	if (fstat(WR_WORKER_REQUEST, &st) < 0 || !S_ISREG(st.st_mode))
		return wr_err_set(err, WR_E_USAGE, "this is started by Warren itself");
	wr_buf_reserve(&b, (size_t)st.st_size);
	if (wr_pread_full(WR_WORKER_REQUEST, b.p, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
		return wr_err_sys(err, "read the request");
	w->request = wr_json_parse(b.p, (size_t)st.st_size, err);
	if (!w->request)
		return wr_err_wrap(err, "the request");
	kind = wr_json_get_u64(w->request, "kind", 0);
	if (kind >= WR_TASK_KINDS || !rights[kind].run)
		return wr_err_set(err, WR_E_INVALID, "no such task: %" PRIu64, kind);
	w->kind = (enum wr_task_kind)kind;
	w->args = wr_json_get_obj(w->request, "args");
	w->uid = (uid_t)wr_json_get_u64(w->request, "uid", (uid_t)-1);
	w->gid = (gid_t)wr_json_get_u64(w->request, "gid", (gid_t)-1);
	w->tree_path = wr_json_get_str(w->request, "tree", "/");
	w->copied = w->kind == WR_TASK_RESTORE && wr_json_get_bool(w->request, "source", false);
	return 0;
}

static json_t *
work(struct wr_worker *w, pid_t starter, struct wr_err *err)
{
	if (read_request(w, err) < 0)
		return NULL;
	if (rights[w->kind].aside) {
		map_rate(wr_json_get_str(w->request, "run", ""));
		wr_worker_step_aside();
	}
	if (build_walls(w, &rights[w->kind], err) < 0)
		return NULL;
	/* Who changes his identity is forgotten by the kernel's list of whom to end. */
	wr_proc_die_with_parent(starter);
	return rights[w->kind].run(w, err);
}

int
wr_worker_main(int argc, char **argv)
{
	struct wr_worker w = {.out_fd = STDOUT_FILENO};
	struct wr_err err = WR_ERR_INIT;
	uint64_t starter = 0;
	json_t *result;
	int rc;

	if (argc > 1 && wr_parse_u64(argv[1], &starter, NULL) < 0)
		starter = 0;
	wr_proc_die_with_parent((pid_t)starter);
	signal(SIGPIPE, SIG_IGN); /* an error like any other */
	umask(022);
	result = work(&w, (pid_t)starter, &err);
	rc = finish(result, &err);
	json_decref(w.request);
	return rc;
}
