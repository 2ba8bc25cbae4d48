/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One host's data root: configuration, STATE, volumes with their sentinels, where a project's
 * things lie.
 *
 *   ROOT unset: /etc/warren/warren.conf, /var/lib/warren (STATE), /run/warren (RUN)
 *   --root DIR: DIR/warren.conf, DIR/state, DIR/run; default homes are DIR/home/NAME
 *
 *   STATE/node.json
 * {"format":1,"id","incarnation","counter","fleet","dc","name","user","volumes":[{"id","path"}]}
 *   STATE/node.lock (who changes node.json)
 *   STATE/node.db   STATE/lock (the daemon's)   STATE/control/ID   STATE/op/OPID/   STATE/log/ID
 *   RUN/warren.sock   RUN/run/ID.json (keepers)
 *   VOLUME/volume.json {"format":1,"min_reader":1,"id","node","reserve"}   VOLUME/reserve,
 * reserve.d VOLUME/projects/{ID,.stage,.trash}   VOLUME/repos/{ID,.trash}
 *   VOLUME/scratch/{ID,.trash,.gone}
 * repos/ID/conf/{settings,state}.json, lock
 */
#ifndef WR_NODE_H
#define WR_NODE_H

#include <sys/types.h>

#include "base/json.h"
#include "model/settings.h"
#include "model/state.h"
#include "sys/lock.h"

/* ---- configuration (config.c) ---- */

struct wr_config {
	char *home_pattern; /* [node] home = /home/{name} */
	char *admins;       /* [node] admins = "root" plus names or uids, comma separated */
	uint32_t uid_first, uid_last; /* [node] uid_range = 2100000000-2100999999 */
	char *listen_socket;          /* NULL: RUN/warren.sock. [node] socket_mode = 0666 */
	uint32_t socket_mode;
	/* [listen] api, peer: HOST:PORT; name: names and addresses; NULL: none. See wr_reach. */
	char *listen_api, *listen_peer, *listen_name;
	uint64_t save_every, save_min_interval; /* [save] every = 5min (default of new projects),
						   min_interval = 90s */
	uint64_t save_parallel;                 /* [save] parallel = 2 */
	uint64_t start_parallel;      /* [start] parallel = 2: of what comes back after a reboot */
	uint64_t trash_keep;          /* [trash] keep = 30d */
	uint64_t trash_drop_after;    /* [trash] drop_after = 10min */
	uint64_t trash_drops_per_day; /* [trash] drops_per_day = 0: by what is held */
	uint64_t safety_keep;         /* [restore] safety_keep = 30d */
	uint64_t replica_rate;      /* [replica] rate = 20M: bytes/s of one transfer, 0: no bound */
	uint64_t replica_floor;     /* [replica] floor = 30d: how long refs/warren/keep stays */
	uint64_t replica_timeout;   /* [replica] timeout = 30s: nothing moved */
	uint64_t replica_retry_max; /* [replica] retry_max = 10min */
	uint32_t replica_uid_first, replica_uid_last; /* [replica] uids = 1000-4294967294 */
	uint64_t replica_max_size;   /* [replica] max_size = 0: bytes of one repository */
	uint64_t replica_tree_after; /* [replica] tree_after = 10min */
	uint64_t hub_creates;        /* [hub] creates = 1000: of another node, within an hour */
	uint64_t replica_parallel;   /* [replica] parallel = 4: incoming transfers */
	char *notice_command;        /* [notice] command: NULL: none */
	uint64_t notice_interval;    /* [notice] interval = 1h */
	uint64_t op_keep;            /* [op] keep = 20 */
	char *identity_driver;       /* [identity] driver = range: of new projects */
	char *identity_accounts;     /* [identity] accounts = auto | userdb | passwd | none */
	char *identity_userdb;       /* [identity] userdb, etc: directories; NULL: the usual */
	char *identity_etc;
	char *volume_quota;      /* [volume] quota = auto | btrfs | prjquota | none */
	uint32_t volume_mark[3]; /* [volume] marks = 85,92,97: percent, ascending; see room.h */
	char *hook_started,
	    *hook_stopping; /* [hooks] started, stopping: absolute paths of programs; NULL: none */
	char *cgroup;       /* [runner] cgroup = auto | none | /path */
	uint64_t work_idle; /* [work] idle = 2min */
	uint64_t work_rate; /* [work] rate = 0: bytes/s of one save or restore, 0: no bound */
	uint64_t work_shutdown_save; /* [work] shutdown_save = 1min: for all projects; 0: none */
	uint64_t front_idle;         /* [front] idle = 60s: then the front of a user ends */
};
/* Every key with its text form, default, help: for `config get`, the man page and the test that
 * compares them. */
struct wr_config_key {
	const char *section, *key, *fallback, *help;
};
extern const struct wr_config_key wr_config_keys[]; /* ends with key NULL */
void wr_config_fini(struct wr_config *c);
/* path NULL or absent file: defaults. The whole file is checked; WR_E_INVALID names file, line,
 * key. $WARREN_SECTION_KEY (upper case) overrides. */
int wr_config_load(const char *path, struct wr_config *out, struct wr_err *err);
/* Numbers, sizes and times that a running daemon takes over from a file read anew: those of [save],
 * [start], [work], [trash], [restore], [replica] and [op]. Gives how many changed; *out_left: how
 * many others differ and wait for the next start. */
size_t wr_config_take(struct wr_config *c, const struct wr_config *fresh, size_t *out_left);
/* The effective value of "section.key" as text; caller frees. WR_E_NOT_FOUND. */
int wr_config_get(const struct wr_config *c, const char *name, char **out, struct wr_err *err);

/* ---- who reaches us where (reach.c) ---- */

#define WR_HOST_SIZE 254 /* a DNS name or an address, with its NUL */
#define WR_HOSTS_MAX 32  /* LIMIT: names of one host, as many as a certificate takes */

/* HOST:PORT or [V6]:PORT; host comes without brackets. False if it is something else. */
bool wr_hostport_parse(const char *s, char host[WR_HOST_SIZE], uint16_t *out_port);
/* The next of a list that commas separate; *at moves behind it. False at its end and at what is no
 * name or address (then *at stays). */
bool wr_host_next(const char **at, char host[WR_HOST_SIZE]);

/* One name or address as the fleet record spells it: lower case, addresses as inet_ntop does. */
void wr_host_spell(const char *host, char out[WR_HOST_SIZE]);
/* All of them so, each once, commas between. False: they are longer than size allows; those that
 * have room are there. */
bool wr_names_spell(const char *const *name, size_t count, char *out, size_t size);
/* Does such a list have the host, however that is spelled? */
bool wr_names_have(const char *names, const char *host);

struct wr_node;
/* What stands in certificates and in the fleet record, from [listen]: names as given, else the
 * hosts listened at if they are no wildcards, else the node's name. */
struct wr_reach {
	char **name; /* without brackets; what others verify */
	size_t name_count;
	char peer[WR_HOST_SIZE + 8], api[WR_HOST_SIZE + 8]; /* first name and port; "": none */
};
void wr_reach_of(const struct wr_node *n, struct wr_reach *out);
void wr_reach_fini(struct wr_reach *r); /* harmless twice */

/* ---- the node ---- */

struct wr_volume {
	struct wr_uuid id;
	char *path;
	int fd, projects_fd, repos_fd;
	uint64_t reserve_bytes; /* as volume.json has it; 0: by the size of the file system */
};
struct wr_node {
	char *root; /* --root, absolute; NULL: the system's places */
	char *config_path, *state_path, *run_path, *socket_path;
	struct wr_uuid id;
	uint32_t incarnation; /* given by the fleet's hub, from 1; 0: in no fleet yet */
	uint64_t counter;     /* grows durably: a node restored from an image is behind its own */
	struct wr_uuid fleet; /* s[0] = 0: in none */
	char dc[64], name[256];
	char user[64]; /* who owns repositories, as in node.json; "" when rootless */
	uid_t uid;     /* of user; our own when rootless */
	gid_t gid;
	bool root_mode; /* effective uid 0: identities, mounts, walls */
	int state_fd, run_fd;
	struct wr_config config;
	struct wr_volume *volume;
	size_t volume_count;
};

struct wr_node_init {
	const char *root, *dc, *name, *user; /* user NULL: "warren" when root */
	const char *volume;                  /* path of the first volume */
	bool allow_root_fs;
	uint64_t reserve_bytes; /* 0: by the size of the file system, see room.h */
};
/* Make STATE, RUN and the first volume. WR_E_EXISTS: there is a node already; WR_E_DENIED: the root
 * file system (hint:
 * --allow-root-fs) or a directory that is not empty; WR_E_NOT_FOUND: no such user (hint: the
 * adduser command). A run that was cut off can be repeated. receipt: new reference. */
int wr_node_init(const struct wr_node_init *o, json_t **out_receipt, struct wr_err *err);
/* Add a volume: same checks. */
int wr_volume_add(struct wr_node *n, const char *path, bool allow_root_fs, json_t **out_receipt,
		  struct wr_err *err);

enum wr_node_flag {
	WR_NODE_NO_VOLUMES = 1, /* do not look at the volumes (clients) */
	/* For a process of a daemon that runs: where warren.conf is wrong by now, as it was when
	 * that daemon read it last. */
	WR_NODE_OF_DAEMON = 2,
	/* For those who work on one project: a volume that is not there has descriptors of -1.
	 * Nothing may be concluded from what is not found then (wr_node_missing). */
	WR_NODE_SOME_VOLUMES = 4,
};
/* WR_E_NOT_FOUND with the hint `warren init`. A volume whose sentinel is missing (not mounted?),
 * unreadable, of another node or of a newer format is an error that names the volume and what to
 * do; nothing is ever made there. */
int wr_node_open(const char *root, unsigned flags, struct wr_node **out, struct wr_err *err);
void wr_node_close(struct wr_node *n);
/* By a daemon that has just read it: its parts go by this copy, RUN/warren.conf, should somebody
 * break the file. */
int wr_config_keep(const struct wr_node *n, struct wr_err *err);
/* 0: all volumes are there. -1: err says which is not, and what helps. */
int wr_node_missing(const struct wr_node *n, struct wr_err *err);
/* Check the sentinels again (a volume unmounted under us). */
int wr_node_check_volumes(struct wr_node *n, struct wr_err *err);
/* Changes of node.json: read again under STATE/node.lock, so that none of another process is lost;
 * durable, and n knows of it, when they return. */
int wr_node_count(struct wr_node *n, struct wr_err *err); /* counter + 1 */
/* WR_E_EXISTS: it belongs to another fleet; WR_E_INVALID: it had a later incarnation. */
int wr_node_set_fleet(struct wr_node *n, const struct wr_uuid *fleet, uint32_t inc,
		      struct wr_err *err);
/* Of a node with volumes, as init gives it: a new reference. */
json_t *wr_node_receipt(const struct wr_node *n);
/* The argument that makes another process open the same node: root or "-". */
const char *wr_node_arg(const struct wr_node *n);
/* This node's daemon lock, STATE/lock: WR_E_BUSY names the holder. */
int wr_node_lock(struct wr_node *n, struct wr_lock *out, struct wr_err *err);

/* ---- small JSON files (file.c) ---- */

/* A regular file at dirfd/name of at most max bytes, whose member `format_key` is a number of at
 * most `format`. WR_E_NOT_FOUND, WR_E_UNSUPPORTED with both numbers, WR_E_CORRUPT (names the file;
 * also for a link); nothing in its place can make it hang. */
json_t *wr_file_load(int dirfd, const char *name, size_t max, const char *format_key,
		     uint64_t format, struct wr_err *err);
/* Replace dirfd/name. WR_E_LIMIT for what wr_file_load would not read again. durable: else only
 * atomic. */
int wr_file_store(int dirfd, const char *name, const json_t *o, size_t max, mode_t mode,
		  bool durable, struct wr_err *err);

/* ---- a project's places (place.c) ---- */

struct wr_place_of {
	struct wr_node *node;
	struct wr_uuid id;
	size_t tree_vol, repo_vol;
	int conf_fd; /* repos/ID/conf, -1 until opened */
};
#define WR_PLACE_OF_INIT      \
	{                     \
		.conf_fd = -1 \
	}
void wr_place_of_fini(struct wr_place_of *p);
/* Find on which volumes it lies. WR_E_NOT_FOUND if no volume has repos/ID. A tree may be missing:
 * then tree_vol = repo_vol; but what is missing while a volume is, lies there: that volume's error.
 */
int wr_place_of_find(struct wr_node *n, const struct wr_uuid *id, struct wr_place_of *out,
		     struct wr_err *err);
/* Do other nodes' objects still go onto its volume?  p NULL or not found: is there a volume that
 * takes a new copy? By the marks, see room.h. */
bool wr_volume_takes(const struct wr_node *n, const struct wr_place_of *p);
/* That mark as bytes that stay free on its repository's volume. */
uint64_t wr_volume_mark_free(const struct wr_node *n, const struct wr_place_of *p);
/* VOLUME/projects/ID, VOLUME/repos/ID; callers free. */
char *wr_tree_path(const struct wr_place_of *p);
char *wr_repo_path_of(const struct wr_place_of *p);
/* The directories themselves, never through a link: descriptor or -1 with err. */
int wr_tree_open(const struct wr_place_of *p, struct wr_err *err);
int wr_repo_dir_open(const struct wr_place_of *p, struct wr_err *err);
/* repos/ID/conf, opened once; borrowed. */
int wr_conf_fd(struct wr_place_of *p, struct wr_err *err);
int wr_settings_load(struct wr_place_of *p, struct wr_settings *out, struct wr_err *err);
int wr_settings_store(struct wr_place_of *p, const struct wr_settings *s, struct wr_err *err);
/*
 * May a project be here as settings say that another node made?  A hub has signed them, but what
 * root does here by them is this host's: whose the files are, and where they are presented. have:
 * as it is here by now, or NULL.
 */
int wr_settings_admit(const struct wr_node *n, const struct wr_settings *s,
		      const struct wr_settings *have, struct wr_err *err);

/* ---- scratch (scratch.c) ---- */

enum wr_scratch_part {
	WR_SCRATCH_LIVE = 0,
	WR_SCRATCH_TRASH, /* set aside: a start here may bring it back */
	WR_SCRATCH_GONE,  /* nobody does, it is to be removed */
};
/* The directory in which projects have theirs: descriptor or -1 with err (WR_E_NOT_FOUND: nobody
 * has any there). make: that of a volume where there is none yet. */
int wr_scratch_dir(const struct wr_volume *v, enum wr_scratch_part part, bool make,
		   struct wr_err *err);
/* Is there one, and on which volume? */
bool wr_scratch_find(const struct wr_node *n, const struct wr_uuid *id, enum wr_scratch_part part,
		     size_t *out_vol);
/* Is there nothing in it? False also where that cannot be seen. */
bool wr_scratch_is_empty(const struct wr_volume *v, const struct wr_uuid *id);
/* VOLUME/scratch/ID; caller frees. */
char *wr_scratch_path(const struct wr_volume *v, const struct wr_uuid *id);
/* Durably. WR_E_NOT_FOUND: it is not there (any more); WR_E_EXISTS: there is one already. */
int wr_scratch_move(const struct wr_volume *v, const struct wr_uuid *id, enum wr_scratch_part from,
		    enum wr_scratch_part to, struct wr_err *err);
/* When it came into the trash; 0: it is not there. */
int64_t wr_scratch_since(const struct wr_volume *v, const struct wr_uuid *id);

/* ---- conf/state.json (statefile.c) ---- */

/* Absent: state stopped, when = the directory's mtime. Unreadable or foreign: WR_ST_ERROR with an
 * explanation, never a failure: a broken file makes no project unreachable. */
void wr_status_load(struct wr_place_of *p, struct wr_status *out);
/* Atomic; durable only if told (transitions are, progress is not). */
int wr_status_store(struct wr_place_of *p, const struct wr_status *s, bool durable,
		    struct wr_err *err);

/* ---- the lifecycle lock, conf/lock ---- */

/* note: "op OPID kind by WHO since TIME pid N". WR_E_BUSY: "project 'x' is busy: save by uid 1000
 * since 10:15:03 (12 s)". */
int wr_life_lock(struct wr_place_of *p, int wait_s, const char *note, struct wr_lock *out,
		 struct wr_err *err);
/* Is it held by anyone, without taking it from anyone who wants it? *out_note (caller frees) is the
 * holder's. */
bool wr_life_lock_held(struct wr_place_of *p, char **out_note);

/* ---- the work record, STATE/control/ID (work.c; protocol D4) ---- */

struct wr_work {
	char base[41];   /* commit whose state the working files derive from; "" = none yet */
	bool dirty;      /* processes ran (or may have run) since base was saved */
	char saving[37]; /* operation whose save may have moved the tip past base; "" = none */
	struct {
		bool on;
		char op[37], commit[41];
		char *path, *dest; /* inside the snapshot; beneath the home; NULL = whole tree */
		bool delete_extra;
		int overwrite; /* enum wr_overwrite */
	} applying;
	bool deleted; /* tombstone: in the trash since when, by op */
	int64_t deleted_at;
	bool purged;
};
void wr_work_fini(struct wr_work *w);
/* A project without the file: all empty. WR_E_CORRUPT is an error: nothing may be guessed here. */
int wr_work_load(struct wr_node *n, const struct wr_uuid *id, struct wr_work *out,
		 struct wr_err *err);
/* Durable when it returns: temporary, fsync, rename, fsync of the directory. */
int wr_work_store(struct wr_node *n, const struct wr_uuid *id, const struct wr_work *w,
		  struct wr_err *err);

/* ---- operation files, STATE/op/OPID (opdir.c) ---- */

/* Make the directory and request.json (not durable):
 * {"format":1,"id","project","kind","by","created","args":{...}}. */
int wr_opdir_make(struct wr_node *n, const struct wr_uuid *op, const json_t *request,
		  struct wr_err *err);
int wr_opdir_open(struct wr_node *n, const struct wr_uuid *op, struct wr_err *err); /* descriptor */
json_t *wr_opdir_request(int dirfd, struct wr_err *err);
/* result.json: {"format":1,"ok":bool,"exit":N,"receipt":{}|null,"error":{}|null,"step"}: durable,
 * written once. */
int wr_opdir_result_store(int dirfd, const json_t *result, struct wr_err *err);
json_t *wr_opdir_result(int dirfd, struct wr_err *err); /* WR_E_NOT_FOUND while there is none */
/* progress: a struct wr_status as JSON, replaced without fsync. */
int wr_opdir_progress_store(int dirfd, const struct wr_status *s, struct wr_err *err);
int wr_opdir_progress(int dirfd, struct wr_status *out, struct wr_err *err);
int wr_opdir_drop(struct wr_node *n, const struct wr_uuid *op, struct wr_err *err);
/* A descriptor (the caller's to close) to be standard error of the operation and its children: what
 * is written is appended to the file, at most 1 MiB (then a line says so and the rest is dropped).
 * A thread copies; end takes what was written before and does not wait for those who still hold the
 * pipe. NULL is fine. */
struct wr_oplog;
int wr_oplog_begin(int dirfd, const char *name, struct wr_oplog **out, int *out_fd,
		   struct wr_err *err);
void wr_oplog_end(struct wr_oplog *l);

/* ---- flags of projects (flag.c) ---- */

enum wr_flag {
	WR_FLAG_SIDES = 1, /* side branches may lie here that no other node has */
	WR_FLAG_DAMAGED,   /* the copy was found damaged, see below */
	WR_FLAG_ASKED,     /* a hub may keep a name for it that this node asked for */
	WR_FLAG_PLAIN,     /* its files could not be brought into a subvolume: when, and why */
};
bool wr_flag_is(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project);
/* Durable. What it holds is replaced. */
int wr_flag_set(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project, const void *p,
		size_t len, struct wr_err *err);
int wr_flag_load(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project, size_t max,
		 struct wr_buf *out, struct wr_err *err);
/* Not durable: it may be there again after a crash. None: fine. */
int wr_flag_clear(struct wr_node *n, enum wr_flag kind, const struct wr_uuid *project,
		  struct wr_err *err);
/* All that have one; *out is the caller's. */
int wr_flag_list(struct wr_node *n, enum wr_flag kind, struct wr_uuid **out, size_t *out_count,
		 struct wr_err *err);

/* ---- damaged copies (damage.c) ---- */

/* packs: names of those that are damaged; NULL, or too many: none is to be trusted. */
int wr_damage_set(struct wr_node *n, const struct wr_uuid *project, const json_t *packs,
		  struct wr_err *err);
/* New reference; NULL: trust none. */
json_t *wr_damage_packs(struct wr_node *n, const struct wr_uuid *project);

#endif
