/* SPDX-License-Identifier: Apache-2.0 */
#include "model/api.h"

#include "base/buf.h"
#include "base/str.h"
#include "model/text.h"
#include "model/uuid.h"

static const char *const scope_names[] = {
    [WR_SCOPE_NONE] = "none",       [WR_SCOPE_PUBLIC] = "public",   [WR_SCOPE_READ] = "read",
    [WR_SCOPE_PROJECT] = "project", [WR_SCOPE_OPERATE] = "operate", [WR_SCOPE_ADMIN] = "admin",
};

const char *
wr_scope_name(enum wr_scope s)
{
	return scope_names[s];
}

/* ---- the table ---- */

#define STR(n) .name = n, .kind = WR_ARG_STR
#define CHOICE(n, c) .name = n, .kind = WR_ARG_STR, .choices = c
#define BOOL(n) .name = n, .kind = WR_ARG_BOOL
#define U64(n) .name = n, .kind = WR_ARG_U64
#define U32(n) .name = n, .kind = WR_ARG_U64, .max = UINT32_MAX - 1
#define LIMIT(n) .name = "limit", .kind = WR_ARG_U64, .max = n
#define PATH(n) .name = n, .kind = WR_ARG_PATH
#define LIST(n) .name = n, .kind = WR_ARG_LIST
#define MAP(n) .name = n, .kind = WR_ARG_MAP
#define ONE_DAY 86400
#define TEN_YEARS (3650u * ONE_DAY)
#define WAIT .name = "wait", .kind = WR_ARG_DURATION, .max = ONE_DAY
#define SETTINGS(n) .name = n, .kind = WR_ARG_LIST, .max = 20480
#define REQUIRED .required = true
/* A project's name or id. */
#define REF(n) .name = n, .kind = WR_ARG_STR, .max = 63
/* How views are printed. */
#define FORMAT CHOICE("format", "text|json")
#define TTY BOOL("tty")

#define POST (WR_API_CHANGES)
#define POST_PROJECT (WR_API_CHANGES | WR_API_PROJECT)
#define STREAM_PROJECT (WR_API_STREAM | WR_API_PROJECT)

const struct wr_api_call wr_api_calls[] = {
    [WR_API_NONE] = {.id = WR_API_NONE},
    [WR_API_HEALTH] = {WR_API_HEALTH, "GET", "/v1/health", WR_SCOPE_PUBLIC, 0,
		       .summary = "is the daemon there, and which version"},
    [WR_API_NODE] = {WR_API_NODE, "GET", "/v1/node", WR_SCOPE_READ, 0,
		     .summary = "the node, its volumes, its limits"},
    [WR_API_STATUS] = {WR_API_STATUS, "GET", "/v1/status", WR_SCOPE_PROJECT, 0,
		       .arg = {{REF("project")}}, .summary = "what needs attention, worst first"},
    [WR_API_TOP] = {WR_API_TOP, "GET", "/v1/top", WR_SCOPE_READ, 0,
		    .summary = "which active project costs what"},
    [WR_API_EVENTS] = {WR_API_EVENTS, "GET", "/v1/events", WR_SCOPE_PROJECT, 0,
		       .arg = {{U64("since")}, {REF("project")}, {LIMIT(1000)}},
		       .summary = "what happened"},
    [WR_API_LIST] = {WR_API_LIST, "GET", "/v1/projects", WR_SCOPE_PROJECT, 0,
		     .arg = {{LIST("label"), .max = 320},
			     {CHOICE("state", "absent|stopped|starting|running|restarting|stopping|"
					      "saving|error")},
			     {STR("name"), .max = 255},
			     {BOOL("trashed")}},
		     .summary = "projects"},
    [WR_API_CREATE] = {WR_API_CREATE, "POST", "/v1/projects", WR_SCOPE_ADMIN, POST,
		       .arg = {{STR("name"), .max = 63},
			       {PATH("from")},
			       {MAP("labels"), .max = 320},
			       {SETTINGS("settings")},
			       {U32("uid")},
			       {U32("gid")},
			       {CHOICE("identity", "range|nss|fixed|derived")},
			       {STR("account"), .max = 63},
			       {STR("volume")},
			       {BOOL("adopt")},
			       {.name = "id", .kind = WR_ARG_UUID},
			       {WAIT}},
		       .summary = "make a project"},
    [WR_API_SHOW] = {WR_API_SHOW, "GET", "/v1/projects/{id}", WR_SCOPE_PROJECT, WR_API_PROJECT,
		     .summary = "all about a project"},
    [WR_API_STATE] = {WR_API_STATE, "GET", "/v1/projects/{id}/state", WR_SCOPE_PROJECT,
		      WR_API_PROJECT, .summary = "its state, step and progress"},
    [WR_API_SETTINGS_GET] = {WR_API_SETTINGS_GET, "GET", "/v1/projects/{id}/settings",
			     WR_SCOPE_PROJECT, WR_API_PROJECT, .summary = "its settings"},
    [WR_API_SETTINGS_SET] = {WR_API_SETTINGS_SET, "PATCH", "/v1/projects/{id}/settings",
			     WR_SCOPE_PROJECT, POST_PROJECT,
			     .arg = {{SETTINGS("set"), REQUIRED}, {U64("rev")}},
			     .summary = "change settings; rev: only if they are still at that"},
    [WR_API_START] = {WR_API_START, "POST", "/v1/projects/{id}/start", WR_SCOPE_PROJECT,
		      POST_PROJECT,
		      .arg = {{STR("holder"), .max = 128}, {BOOL("accept_loss")}, {WAIT}},
		      .summary = "make it active"},
    [WR_API_STOP] = {WR_API_STOP, "POST", "/v1/projects/{id}/stop", WR_SCOPE_PROJECT, POST_PROJECT,
		     .arg = {{STR("holder"), .max = 128},
			     {BOOL("force")},
			     {BOOL("if_idle")},
			     {BOOL("no_save")},
			     {WAIT}},
		     .summary = "drop a holder; without any left, save it and make it inactive"},
    [WR_API_RESTART] = {WR_API_RESTART, "POST", "/v1/projects/{id}/restart", WR_SCOPE_PROJECT,
			POST_PROJECT, .arg = {{WAIT}, {BOOL("force")}},
			.summary = "stop its processes and start them again"},
    [WR_API_SAVE] = {WR_API_SAVE, "POST", "/v1/projects/{id}/save", WR_SCOPE_PROJECT, POST_PROJECT,
		     .arg = {{STR("message")},
			     {STR("tag"), .max = 255},
			     {LIST("targets"), .max = 63},
			     {.name = "replicate_wait", .kind = WR_ARG_DURATION, .max = ONE_DAY},
			     {WAIT}},
		     .summary = "take a snapshot of its files"},
    [WR_API_RESTORE] = {WR_API_RESTORE, "POST", "/v1/projects/{id}/restore", WR_SCOPE_PROJECT,
			POST_PROJECT,
			.arg = {{STR("snapshot"), REQUIRED},
				{PATH("path")},
				{PATH("to")},
				{BOOL("in_place")},
				{BOOL("delete")},
				{CHOICE("overwrite", "changed|always|newer|never")},
				{BOOL("live")},
				{BOOL("dry_run")},
				{WAIT}},
			.summary = "bring files of a snapshot back"},
    [WR_API_UNDO] = {WR_API_UNDO, "POST", "/v1/projects/{id}/undo", WR_SCOPE_PROJECT, POST_PROJECT,
		     .arg = {{STR("snapshot")}, {BOOL("live")}, {WAIT}},
		     .summary = "take the whole project back to a snapshot"},
    [WR_API_CHOWN] = {WR_API_CHOWN, "POST", "/v1/projects/{id}/chown", WR_SCOPE_ADMIN, POST_PROJECT,
		      .arg = {{WAIT}}, .summary = "give all files to its user"},
    [WR_API_COPY] = {WR_API_COPY, "POST", "/v1/copy", WR_SCOPE_PROJECT, POST,
		     .arg = {{REF("from"), REQUIRED},
			     {PATH("from_path")},
			     {REF("to"), REQUIRED},
			     {PATH("to_path")},
			     {CHOICE("mode", "update|overwrite|keep")},
			     {BOOL("delete")},
			     {WAIT}},
		     .summary = "copy files from one project into another"},
    [WR_API_DELETE] = {WR_API_DELETE, "POST", "/v1/projects/{id}/delete", WR_SCOPE_ADMIN,
		       POST_PROJECT, .arg = {{BOOL("force")}}, .summary = "put it into the trash"},
    [WR_API_UNDELETE] = {WR_API_UNDELETE, "POST", "/v1/projects/{id}/undelete", WR_SCOPE_ADMIN,
			 POST_PROJECT, .summary = "take it out of the trash"},
    [WR_API_PURGE] = {WR_API_PURGE, "POST", "/v1/projects/{id}/purge", WR_SCOPE_ADMIN, POST_PROJECT,
		      .arg = {{BOOL("now")}}, .summary = "remove it from the trash for good"},
    [WR_API_TRASH] = {WR_API_TRASH, "GET", "/v1/trash", WR_SCOPE_ADMIN, 0,
		      .summary = "what is in the trash, and until when"},
    [WR_API_MKDIR] = {WR_API_MKDIR, "POST", "/v1/projects/{id}/mkdir", WR_SCOPE_PROJECT,
		      POST_PROJECT, .arg = {{PATH("path"), REQUIRED}}, .summary = "make a folder"},
    [WR_API_FILES] = {WR_API_FILES, "GET", "/v1/projects/{id}/files", WR_SCOPE_PROJECT,
		      STREAM_PROJECT,
		      .arg = {{PATH("path")},
			      {BOOL("hidden")},
			      {CHOICE("sort", "name|time|size")},
			      {BOOL("reverse")},
			      {U64("start")},
			      {LIMIT(100000)}},
		      .summary = "list a folder"},
    [WR_API_READ] = {WR_API_READ, "GET", "/v1/projects/{id}/read", WR_SCOPE_PROJECT, STREAM_PROJECT,
		     .arg = {{PATH("path"), REQUIRED},
			     {CHOICE("format", "raw|tar|zip")},
			     {.name = "max_size", .kind = WR_ARG_SIZE}},
		     .summary = "a file, or a folder as tar or zip"},
    [WR_API_SNAPSHOTS] = {WR_API_SNAPSHOTS, "GET", "/v1/projects/{id}/snapshots", WR_SCOPE_PROJECT,
			  STREAM_PROJECT,
			  .arg = {{STR("branch"), .max = 255}, {LIMIT(1000000)}, {FORMAT}, {TTY}},
			  .summary = "its snapshots"},
    /* What names something inside a snapshot is a path: any bytes. */
    [WR_API_LS] = {WR_API_LS, "GET", "/v1/projects/{id}/ls", WR_SCOPE_PROJECT, STREAM_PROJECT,
		   .arg = {{PATH("spec")}, {BOOL("long")}, {BOOL("recursive")}, {FORMAT}, {TTY}},
		   .summary = "list a folder of a snapshot"},
    [WR_API_CAT] = {WR_API_CAT, "GET", "/v1/projects/{id}/cat", WR_SCOPE_PROJECT, STREAM_PROJECT,
		    .arg = {{LIST("spec"), REQUIRED}, {FORMAT}, {TTY}},
		    .summary = "contents of files of a snapshot"},
    [WR_API_DIFF] = {WR_API_DIFF, "GET", "/v1/projects/{id}/diff", WR_SCOPE_PROJECT, STREAM_PROJECT,
		     .arg = {{PATH("a"), REQUIRED},
			     {PATH("b")},
			     {BOOL("stat")},
			     {BOOL("name_only")},
			     {FORMAT},
			     {TTY}},
		     .summary = "what changed between two snapshots"},
    [WR_API_FIND] = {WR_API_FIND, "GET", "/v1/projects/{id}/find", WR_SCOPE_PROJECT, STREAM_PROJECT,
		     .arg = {{PATH("pattern"), REQUIRED},
			     {STR("branch"), .max = 255},
			     {BOOL("ignore_case")},
			     {FORMAT},
			     {TTY}},
		     .summary = "look for names in all snapshots"},
    [WR_API_HISTORY] =
	{WR_API_HISTORY, "GET", "/v1/projects/{id}/history", WR_SCOPE_PROJECT, STREAM_PROJECT,
	 .arg = {{PATH("path"), REQUIRED}, {STR("branch"), .max = 255}, {FORMAT}, {TTY}},
	 .summary = "the versions of a file"},
    [WR_API_OPS] = {WR_API_OPS, "GET", "/v1/operations", WR_SCOPE_PROJECT, 0,
		    .arg = {{REF("project")},
			    {CHOICE("state", "queued|running|done|failed|cancelled")},
			    {LIMIT(1000)}},
		    .summary = "operations, newest first"},
    [WR_API_OP_SHOW] = {WR_API_OP_SHOW, "GET", "/v1/operations/{op}", WR_SCOPE_PROJECT, WR_API_OP,
			.arg = {{WAIT}}, .summary = "an operation; wait: for its end, so long"},
    [WR_API_OP_CANCEL] = {WR_API_OP_CANCEL, "POST", "/v1/operations/{op}/cancel", WR_SCOPE_PROJECT,
			  POST | WR_API_OP, .summary = "end an operation before it is done"},
    [WR_API_OP_LOG] = {WR_API_OP_LOG, "GET", "/v1/operations/{op}/log", WR_SCOPE_PROJECT, WR_API_OP,
		       .summary = "what it and its programs printed"},
    [WR_API_OPENAPI] = {WR_API_OPENAPI, "GET", "/v1/openapi.json", WR_SCOPE_PUBLIC, 0,
			.summary = "this API as an OpenAPI document"},
    [WR_API_TOKENS] = {WR_API_TOKENS, "GET", "/v1/tokens", WR_SCOPE_PROJECT, 0,
		       .summary = "tokens, without their secrets"},
    /* The handler knows more: administrators, and the own user of a project for that project. */
    [WR_API_TOKEN_CREATE] =
	{WR_API_TOKEN_CREATE, "POST", "/v1/tokens", WR_SCOPE_PROJECT, POST,
	 .arg = {{CHOICE("scope", "read|operate|admin|project"), REQUIRED},
		 {REF("project")},
		 {STR("purpose"), .max = 128},
		 {.name = "expires", .kind = WR_ARG_DURATION, .max = TEN_YEARS}},
	 .summary = "make a token, which is told this once; expires: after"},
    [WR_API_TOKEN_REVOKE] = {WR_API_TOKEN_REVOKE, "POST", "/v1/tokens/revoke", WR_SCOPE_PROJECT,
			     POST, .arg = {{STR("token"), REQUIRED, .max = 64}},
			     .summary = "end a token, named by the first digits of its id"},
    [WR_API_CA] = {WR_API_CA, "GET", "/v1/ca", WR_SCOPE_PUBLIC, 0,
		   .summary = "the certificates of the fleet's CA"},
    /* The token, which works once, is all the right that there is. */
    [WR_API_JOIN_LOOK] = {WR_API_JOIN_LOOK, "POST", "/v1/join/look", WR_SCOPE_PUBLIC, POST,
			  .arg = {{STR("token"), REQUIRED, .max = 80},
				  {.name = "node", .kind = WR_ARG_UUID}},
			  .summary = "what a join token is for; it stays unused"},
    [WR_API_JOIN] = {WR_API_JOIN, "POST", "/v1/join", WR_SCOPE_PUBLIC, POST,
		     .arg = {{STR("token"), REQUIRED, .max = 80},
			     {.name = "node", .kind = WR_ARG_UUID, REQUIRED},
			     {STR("tls_spki"), REQUIRED, .max = 1024},
			     {STR("sign_pub"), REQUIRED, .max = 64},
			     {STR("names"), .max = 4000},
			     {STR("peer"), .max = 255},
			     {STR("api"), .max = 255}},
		     .summary = "a host that joins the fleet; its public keys in base64"},
    [WR_API_NODES] = {WR_API_NODES, "GET", "/v1/nodes", WR_SCOPE_READ, 0,
		      .summary = "the nodes of the fleet"},
    [WR_API_NODE_ADD] = {WR_API_NODE_ADD, "POST", "/v1/nodes", WR_SCOPE_ADMIN, POST,
			 .arg = {{STR("name"), .max = 63},
				 {STR("dc"), .max = 63},
				 {STR("rejoin"), .max = 63},
				 {STR("names"), .max = 511}},
			 .summary = "a token with which a host may join, once"},
    [WR_API_NODE_SET] = {WR_API_NODE_SET, "POST", "/v1/nodes/set", WR_SCOPE_ADMIN, POST,
			 .arg = {{STR("node"), REQUIRED, .max = 63},
				 {.name = "weight", .kind = WR_ARG_U64, .max = 100000},
				 {BOOL("draining")},
				 {BOOL("experimental")},
				 {STR("peer"), .max = 255},
				 {STR("api"), .max = 255},
				 {STR("names"), .max = 511}},
			 .summary = "change what the fleet knows of a node"},
    [WR_API_NODE_REMOVE] = {WR_API_NODE_REMOVE, "POST", "/v1/nodes/remove", WR_SCOPE_ADMIN, POST,
			    .arg = {{STR("node"), REQUIRED, .max = 63}, {BOOL("force")}},
			    .summary = "take a node out of the fleet for good"},
    [WR_API_FLEET] = {WR_API_FLEET, "GET", "/v1/fleet", WR_SCOPE_READ, 0,
		      .summary = "recovery points: up to when which project is safe, and where"},
    [WR_API_LOCATE] = {WR_API_LOCATE, "GET", "/v1/locate", WR_SCOPE_READ, 0,
		       .arg = {{REF("project")}},
		       .summary = "what every node really holds, asked now"},
    [WR_API_EXPLAIN] = {WR_API_EXPLAIN, "GET", "/v1/projects/{id}/explain", WR_SCOPE_PROJECT,
			WR_API_PROJECT,
			.summary = "its record, who holds what, and why it is kept there"},
    [WR_API_REPLICATE] = {WR_API_REPLICATE, "POST", "/v1/projects/{id}/replicate", WR_SCOPE_PROJECT,
			  POST_PROJECT, .arg = {{LIST("targets"), .max = 63}},
			  .summary = "send what is saved to the nodes that lack it"},
    [WR_API_MOVE] = {WR_API_MOVE, "POST", "/v1/projects/{id}/move", WR_SCOPE_OPERATE, POST_PROJECT,
		     .arg = {{STR("to"), REQUIRED, .max = 63}, {BOOL("accept_loss")}},
		     .summary = "hand it to another node that keeps a copy, and go on there"},
    [WR_API_SAVE_ALL] = {WR_API_SAVE_ALL, "POST", "/v1/save-all", WR_SCOPE_OPERATE, POST,
			 .arg = {{.name = "rf", .kind = WR_ARG_U64, .max = 9}, {LIMIT(1000000)}},
			 .summary = "save every project that may have changes; rf: copies to wait "
				    "for"},
    [WR_API_SHUTDOWN] = {WR_API_SHUTDOWN, "POST", "/v1/shutdown", WR_SCOPE_ADMIN, POST,
			 .arg = {{.name = "within", .kind = WR_ARG_DURATION, .max = 240}},
			 .summary = "this host goes down: end what is active and save it, within "
				    "that time; it comes back by itself"},
    [WR_API_REPLICAS] =
	{WR_API_REPLICAS, "POST", "/v1/projects/{id}/replicas", WR_SCOPE_ADMIN, POST_PROJECT,
	 .arg = {{STR("add"), .max = 63}, {STR("remove"), .max = 63}, {BOOL("witness")}, {WAIT}},
	 .summary = "a node that is to hold a copy from now on, or none any more; "
		    "witness: to vote only"},
    [WR_API_AUDIT] = {WR_API_AUDIT, "POST", "/v1/projects/{id}/audit", WR_SCOPE_OPERATE,
		      POST_PROJECT, .arg = {{BOOL("data")}, {BOOL("repair")}},
		      .summary = "have every member look at its copy, and compare; data: read all; "
				 "repair: refill the damaged one now"},
    [WR_API_HUB_FORCE] = {WR_API_HUB_FORCE, "POST", "/v1/hub/force", WR_SCOPE_ADMIN, POST,
			  .arg = {{STR("project"), REQUIRED, .max = 127},
				  {LIST("dead"), REQUIRED, .max = 63},
				  {STR("to"), .max = 63},
				  {STR("key")},
				  {BOOL("accept_loss")},
				  {BOOL("dry_run")}},
			  .summary = "a record without members that are gone for good; key: the "
				     "recovery key's file"},
    [WR_API_PERMIT_LOSS] = {WR_API_PERMIT_LOSS, "POST", "/v1/hub/permit-loss", WR_SCOPE_OPERATE,
			    POST,
			    .arg = {{REF("project"), REQUIRED}, {STR("node"), REQUIRED, .max = 63}},
			    .summary =
				"that node may go on without the newest saves, within an hour"},
    [WR_API_USAGE] = {WR_API_USAGE, "GET", "/v1/projects/{id}/usage", WR_SCOPE_PROJECT,
		      WR_API_PROJECT, .arg = {{BOOL("now")}, {BOOL("progress")}},
		      .summary =
			  "what its files and its history take; now: looked at, not from sums; "
			  "progress: how far such a look is"},
    [WR_API_QUOTA_AUTO] = {WR_API_QUOTA_AUTO, "POST", "/v1/quota/auto", WR_SCOPE_ADMIN, POST,
			   .arg = {{.name = "factor", .kind = WR_ARG_DECIMAL, .max = 1000000},
				   {.name = "min", .kind = WR_ARG_SIZE},
				   {.name = "within", .kind = WR_ARG_U64, .max = 100},
				   {BOOL("dry_run")}},
			   .summary = "set the disk of each project of this node by what it uses"},
};

/* ---- routes ---- */

static int
check_ref(const struct wr_api_call *c, const char *ref, struct wr_err *err)
{
	if (c->flags & WR_API_PROJECT && wr_project_ref(ref) == WR_REF_BAD)
		return wr_err_set(err, WR_E_INVALID,
				  "id: '%s' is neither a project's id nor its name", WR_Q(ref));
	if (c->flags & WR_API_OP && wr_project_ref(ref) != WR_REF_ID &&
	    wr_project_ref(ref) != WR_REF_PREFIX)
		return wr_err_set(err, WR_E_INVALID, "op: '%s' is no id of an operation",
				  WR_Q(ref));
	if (!(c->flags & (WR_API_PROJECT | WR_API_OP)) && *ref)
		return wr_err_set(err, WR_E_INVALID, "'%s': this call names nothing", WR_Q(ref));
	return 0;
}

/* Does path follow the route?  What stands for the part in braces: start and length. */
static bool
follows(const char *route, const char *path, const char **out_ref, size_t *out_len)
{
	*out_ref = "";
	*out_len = 0;
	while (*route && *path) {
		if (*route == '{') {
			*out_ref = path;
			*out_len = strcspn(path, "/");
			if (*out_len == 0)
				return false;
			path += *out_len;
			route = strchr(route, '}') + 1;
		} else if (*route++ != *path++) {
			return false;
		}
	}
	return !*route && !*path;
}

const struct wr_api_call *
wr_api_match(const char *method, const char *path, char *out_ref, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf others = WR_BUF_INIT;
	const char *ref;
	size_t len;

	for (unsigned i = WR_API_NONE + 1; i < WR_API_CALLS; i++) {
		const struct wr_api_call *c = &wr_api_calls[i];
		char text[128];

		if (!follows(c->route, path, &ref, &len))
			continue;
		if (strcmp(method, c->method) != 0) {
			wr_buf_addf(&others, "%s%s", others.len ? ", " : "", c->method);
			continue;
		}
		if (len >= sizeof(text)) {
			wr_err_set(err, WR_E_INVALID, "id: '%s' is too long", WR_Q(ref));
			return NULL;
		}
		memcpy(text, ref, len);
		text[len] = '\0';
		if (check_ref(c, text, err) < 0)
			return NULL;
		memcpy(out_ref, text, len + 1);
		return c;
	}
	if (others.len) {
		wr_err_set(err, WR_E_UNSUPPORTED, "'%s' cannot be done to '%s'", WR_Q(method),
			   WR_Q(path));
		wr_err_hint(err, "it takes %s", wr_buf_str(&others));
	} else {
		wr_err_set(err, WR_E_NOT_FOUND, "there is no '%s' here", WR_Q(path));
	}
	return NULL;
}

/* ---- values ---- */

void
wr_call_fini(struct wr_call *c)
{
	for (size_t i = 0; i < c->val_count; i++)
		free(c->val[i].value);
	free(c->val);
	c->val = NULL;
	c->val_count = c->val_cap = 0;
}

static size_t
arg_count(const struct wr_api_call *api)
{
	size_t n = 0;

	while (n < WR_API_ARGS && api->arg[n].name)
		n++;
	return n;
}

/* Is s one of the words of "a|b|c"? */
static bool
one_of(const char *words, const char *s)
{
	size_t n = strlen(s);

	for (const char *w = words; *w; w += *w == '|') {
		size_t len = strcspn(w, "|");

		if (len == n && !memcmp(w, s, n))
			return true;
		w += len;
	}
	return false;
}

static int
bad(const struct wr_api_arg *a, const char *value, const char *what, struct wr_err *err)
{
	return wr_err_set(err, WR_E_INVALID, "%s: '%s' %s", a->name, WR_Q(value), what);
}

static int
parse_number(const struct wr_api_arg *a, const char *value, uint64_t *out, struct wr_err *err)
{
	switch (a->kind) {
	case WR_ARG_DECIMAL:
		return wr_parse_decimal(value, out, err);
	case WR_ARG_SIZE:
		return wr_parse_size(value, out, err);
	case WR_ARG_DURATION:
		return wr_parse_duration(value, out, err);
	default:
		return wr_parse_u64(value, out, err);
	}
}

static int
check_number(const struct wr_api_arg *a, const char *value, struct wr_err *err)
{
	uint64_t v, max = a->max ? a->max : INT64_MAX;

	if (parse_number(a, value, &v, err) < 0)
		return wr_err_wrap(err, "%s", a->name);
	if (v <= max)
		return 0;
	(void)bad(a, value, "is too large", err);
	return wr_err_hint(err, "%s is at most %s", a->name,
			   a->kind == WR_ARG_DURATION  ? wr_fmt_duration(max).s
			   : a->kind == WR_ARG_SIZE    ? wr_fmt_size(max).s
			   : a->kind == WR_ARG_DECIMAL ? wr_fmt_count(max / 1000).s
						       : wr_fmt_count(max).s);
}

/* value: NUL-terminated, without NUL inside, not too long. */
static int
check_value(const struct wr_api_arg *a, const char *value, struct wr_err *err)
{
	struct wr_uuid id;
	bool b;

	switch (a->kind) {
	case WR_ARG_STR:
		if (!wr_text_plain(value, strlen(value), true))
			return bad(a, value, "is not UTF-8 text", err);
		if (!a->choices || one_of(a->choices, value))
			return 0;
		(void)bad(a, value, "is no choice", err);
		return wr_err_hint(err, "%s is one of %s", a->name, a->choices);
	case WR_ARG_BOOL:
		return wr_parse_bool(value, &b, err) < 0 ? wr_err_wrap(err, "%s", a->name) : 0;
	case WR_ARG_U64:
	case WR_ARG_DECIMAL:
	case WR_ARG_SIZE:
	case WR_ARG_DURATION:
		return check_number(a, value, err);
	case WR_ARG_UUID:
		return wr_uuid_parse(value, &id) ? 0 : bad(a, value, "is no UUID v4", err);
	case WR_ARG_MAP:
		if (!strchr(value, '=') || *value == '=' ||
		    !wr_text_plain(value, strlen(value), true))
			return bad(a, value, "is not KEY=VALUE", err);
		return 0;
	case WR_ARG_PATH:
	case WR_ARG_LIST:
		return 0;
	}
	return bad(a, value, "is of no kind", err);
}

/* Was it given before?  Of a map each key once. */
static bool
given(const struct wr_call *c, size_t arg, const char *value)
{
	enum wr_arg_kind kind = c->api->arg[arg].kind;
	size_t n = strcspn(value, "=") + 1;

	for (size_t i = 0; kind != WR_ARG_LIST && i < c->val_count; i++)
		if (c->val[i].arg == arg &&
		    (kind != WR_ARG_MAP || !strncmp(c->val[i].value, value, n)))
			return true;
	return false;
}

static int
add(struct wr_call *c, size_t arg, const void *bytes, size_t len, struct wr_err *err)
{
	const struct wr_api_arg *a = &c->api->arg[arg];
	bool number = a->kind == WR_ARG_U64 || a->kind == WR_ARG_DECIMAL ||
		      a->kind == WR_ARG_SIZE || a->kind == WR_ARG_DURATION;
	size_t max = a->max && !number ? a->max : 4096, total = len;
	WR_SCOPED(wr_freep) char *value = NULL;

	if (len > max) {
		wr_err_set(err, WR_E_INVALID, "%s: more than %zu bytes", a->name, max);
		return -1;
	}
	if (len && memchr(bytes, 0, len))
		return wr_err_set(err, WR_E_INVALID, "%s: a NUL byte", a->name);
	for (size_t i = 0; i < c->val_count; i++)
		total += strlen(c->val[i].value);
	if (c->val_count >= WR_CALL_VALUES || total > WR_CALL_BYTES)
		return wr_err_set(err, WR_E_INVALID,
				  "%s: a call has at most %d values and %u bytes of them", a->name,
				  WR_CALL_VALUES, WR_CALL_BYTES);
	value = wr_malloc(len + 1);
	if (len)
		memcpy(value, bytes, len);
	value[len] = '\0';
	if (check_value(a, value, err) < 0)
		return -1;
	if (given(c, arg, value))
		return wr_err_set(err, WR_E_INVALID, "%s: given twice", a->name);
	wr_grow(&c->val, &c->val_cap, c->val_count + 1, sizeof(*c->val));
	c->val[c->val_count].arg = (uint8_t)arg;
	c->val[c->val_count++].value = wr_steal(&value);
	return 0;
}

/* Position of an argument, -1 if the call has none of that name. */
static int
arg_at(const struct wr_api_call *api, const char *name)
{
	for (size_t i = 0; i < arg_count(api); i++)
		if (!strcmp(api->arg[i].name, name))
			return (int)i;
	return -1;
}

int
wr_call_add(struct wr_call *c, const char *name, const char *value, size_t len, struct wr_err *err)
{
	const char *names[WR_API_ARGS + 1], *near;
	int at = arg_at(c->api, name);
	size_t n = arg_count(c->api);

	if (at >= 0)
		return add(c, (size_t)at, value, len, err);
	for (size_t i = 0; i < n; i++)
		names[i] = c->api->arg[i].name;
	names[n] = NULL;
	near = wr_near(name, names);
	wr_err_set(err, WR_E_INVALID, "%s: there is no such field", WR_Q(name));
	return near ? wr_err_hint(err, "did you mean '%s'?", near) : -1;
}

int
wr_call_check(const struct wr_call *c, struct wr_err *err)
{
	if (check_ref(c->api, c->ref, err) < 0)
		return -1;
	for (size_t i = 0; i < arg_count(c->api); i++) {
		bool there = !c->api->arg[i].required;

		for (size_t v = 0; !there && v < c->val_count; v++)
			there = c->val[v].arg == i;
		if (!there)
			return wr_err_set(err, WR_E_INVALID, "%s: is missing", c->api->arg[i].name);
	}
	return 0;
}

const char *
wr_call_str(const struct wr_call *c, const char *name)
{
	int at = arg_at(c->api, name);

	wr_assert(at >= 0); /* asking for what the table does not have is our mistake */
	for (size_t i = 0; i < c->val_count; i++)
		if (c->val[i].arg == at)
			return c->val[i].value;
	return NULL;
}

bool
wr_call_bool(const struct wr_call *c, const char *name, bool otherwise)
{
	const char *s = wr_call_str(c, name);
	bool v = otherwise;

	if (s)
		(void)wr_parse_bool(s, &v, NULL); /* checked when it was added */
	return v;
}

uint64_t
wr_call_u64(const struct wr_call *c, const char *name, uint64_t otherwise)
{
	const char *s = wr_call_str(c, name);
	uint64_t v = otherwise;

	if (s)
		(void)parse_number(&c->api->arg[arg_at(c->api, name)], s, &v, NULL); /* as above */
	return v;
}

size_t
wr_call_list(const struct wr_call *c, const char *name, const char *const **out)
{
	const char **list = wr_calloc(c->val_count + 1, sizeof(*list));
	int at = arg_at(c->api, name);
	size_t n = 0;

	wr_assert(at >= 0);
	for (size_t i = 0; i < c->val_count; i++)
		if (c->val[i].arg == at)
			list[n++] = c->val[i].value;
	*out = list;
	return n;
}

/* ---- binary form ---- */

void
wr_call_encode(const struct wr_call *c, struct wr_buf *out)
{
	wr_buf_add8(out, (uint8_t)(c->api->id >> 8));
	wr_buf_add8(out, (uint8_t)c->api->id);
	wr_buf_add32be(out, (uint32_t)strlen(c->ref));
	wr_buf_adds(out, c->ref);
	wr_buf_add32be(out, (uint32_t)c->val_count);
	for (size_t i = 0; i < c->val_count; i++) {
		wr_buf_add8(out, c->val[i].arg);
		wr_buf_add32be(out, (uint32_t)strlen(c->val[i].value));
		wr_buf_adds(out, c->val[i].value);
	}
}

static int
decode_values(struct wr_rd *r, struct wr_call *c, struct wr_err *err)
{
	uint32_t count = wr_rd32be(r);

	for (uint32_t i = 0; i < count && !r->bad; i++) {
		size_t arg = wr_rd8(r), len = wr_rd32be(r);
		const uint8_t *p = wr_rd_bytes(r, len);

		if (r->bad)
			break;
		if (arg >= arg_count(c->api))
			return wr_err_set(err, WR_E_INVALID, "call: '%s' has no field %zu",
					  c->api->route, arg);
		if (add(c, arg, p, len, err) < 0)
			return -1;
	}
	return 0;
}

int
wr_call_decode(struct wr_rd *r, struct wr_call *out, struct wr_err *err)
{
	WR_SCOPED(wr_call_fini) struct wr_call c = {0};
	unsigned id = wr_rd16be(r);
	size_t len = wr_rd32be(r);
	const uint8_t *p = wr_rd_bytes(r, len);

	if (!r->bad && (id == WR_API_NONE || id >= WR_API_CALLS))
		return wr_err_set(err, WR_E_INVALID, "call: there is no number %u", id);
	if (!r->bad && (len >= sizeof(c.ref) || (len && memchr(p, 0, len))))
		return wr_err_set(err, WR_E_INVALID, "call: what it names is too long or binary");
	if (!r->bad) {
		c.api = &wr_api_calls[id];
		if (len)
			memcpy(c.ref, p, len);
		if (decode_values(r, &c, err) < 0)
			return -1;
	}
	if (r->bad)
		return wr_err_set(err, WR_E_INVALID, "call: it is cut off");
	if (wr_call_check(&c, err) < 0)
		return -1;
	*out = c;
	c = (struct wr_call){0};
	return 0;
}
