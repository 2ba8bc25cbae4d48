/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/control/rules.h"

#include "base/str.h"

#define MINUTE_NS 60000000000u
/* LIMIT: each is in the project's row, which is read and written whole. */
#define HOLDERS_MAX 100

/* ---- authority ---- */

void
wr_who_init(struct wr_who *w, uint32_t uid)
{
	*w = (struct wr_who){.uid = uid};
	snprintf(w->by, sizeof(w->by), "uid %" PRIu32, uid);
}

void
wr_who_init_nobody(struct wr_who *w, const char *address)
{
	*w = (struct wr_who){.uid = UINT32_MAX - 1, .nobody = true};
	snprintf(w->by, sizeof(w->by), "address %s", address);
}

void
wr_who_grant(struct wr_who *w, enum wr_scope scope, const struct wr_uuid *project)
{
	switch (scope) {
	case WR_SCOPE_ADMIN:
		w->rights |= WR_RIGHT_ADMIN | WR_RIGHT_OPERATE | WR_RIGHT_READ;
		break;
	case WR_SCOPE_OPERATE:
		w->rights |= WR_RIGHT_OPERATE | WR_RIGHT_READ;
		break;
	case WR_SCOPE_READ:
		w->rights |= WR_RIGHT_READ;
		break;
	case WR_SCOPE_PROJECT:
		if (project && !wr_who_owns(w, project) && w->own_count < WR_ARRAY_LEN(w->own))
			w->own[w->own_count++] = *project;
		break;
	case WR_SCOPE_NONE:
	case WR_SCOPE_PUBLIC:
		break;
	}
}

bool
wr_who_owns(const struct wr_who *w, const struct wr_uuid *project)
{
	for (size_t i = 0; i < w->own_count; i++)
		if (!strcmp(w->own[i].s, project->s))
			return true;
	return false;
}

bool
wr_who_sees(const struct wr_who *w, const struct wr_uuid *project)
{
	return (w->rights & WR_RIGHT_READ) || (project && wr_who_owns(w, project));
}

bool
wr_who_may(const struct wr_who *w, const struct wr_api_call *api, const struct wr_uuid *project)
{
	switch (api->scope) {
	case WR_SCOPE_PUBLIC:
		return true;
	case WR_SCOPE_READ:
		return w->rights & WR_RIGHT_READ;
	case WR_SCOPE_PROJECT:
		if (w->rights & WR_RIGHT_OPERATE)
			return true;
		/* Who may look at everything still does not read users' files. */
		if ((w->rights & WR_RIGHT_READ) && !(api->flags & (WR_API_CHANGES | WR_API_STREAM)))
			return true;
		return project ? wr_who_owns(w, project) : w->own_count > 0;
	case WR_SCOPE_OPERATE:
		return w->rights & WR_RIGHT_OPERATE;
	case WR_SCOPE_ADMIN:
		return w->rights & WR_RIGHT_ADMIN;
	case WR_SCOPE_NONE:
		break;
	}
	return false;
}

bool
wr_who_mints(const struct wr_who *w, const struct wr_uuid *project)
{
	if (w->rights & WR_RIGHT_ADMIN)
		return true;
	return project && *w->by_uid.s && !strcmp(w->by_uid.s, project->s);
}

/* ---- rates ---- */

unsigned
wr_tally_flush(struct wr_tally *r, uint64_t now_ns)
{
	unsigned hidden = r->hidden;

	if (now_ns - r->began_ns < MINUTE_NS)
		return 0;
	*r = (struct wr_tally){.began_ns = now_ns};
	return hidden;
}

bool
wr_tally_pass(struct wr_tally *r, uint64_t now_ns, unsigned most, unsigned *out_hidden)
{
	*out_hidden = wr_tally_flush(r, now_ns);
	if (r->told < most) {
		r->told++;
		return true;
	}
	r->hidden++;
	return false;
}

/* ---- wrong tokens ---- */

static bool
of_now(uint64_t began_ns, uint64_t now_ns)
{
	return began_ns && now_ns - began_ns < MINUTE_NS;
}

bool
wr_wrongs_too_many(const struct wr_wrongs *w, const struct wr_from *from, uint64_t now_ns,
		   unsigned most)
{
	for (size_t i = 0; i < WR_WRONGS_MAX; i++)
		if (!memcmp(&w->of[i].from, from, sizeof(*from)) &&
		    of_now(w->of[i].began_ns, now_ns))
			return w->of[i].count >= most;
	return false;
}

bool
wr_wrongs_add(struct wr_wrongs *w, const struct wr_from *from, uint64_t now_ns, unsigned most)
{
	size_t at = 0;

	for (size_t i = 0; i < WR_WRONGS_MAX; i++) {
		if (!memcmp(&w->of[i].from, from, sizeof(*from)) &&
		    of_now(w->of[i].began_ns, now_ns))
			return ++w->of[i].count == most;
		if (w->of[i].began_ns < w->of[at].began_ns)
			at = i;
	}
	w->of[at].from = *from;
	w->of[at].began_ns = now_ns;
	w->of[at].count = 1;
	return most == 1;
}

/* ---- counters of other nodes ---- */

void
wr_counters_init(struct wr_counters *k, uint64_t settled)
{
	*k = (struct wr_counters){.settled = settled};
}

uint64_t
wr_counters_newest(const struct wr_counters *k)
{
	return k->count ? k->young[k->count - 1].counter : k->settled;
}

uint64_t
wr_counters_see(struct wr_counters *k, uint64_t counter, uint64_t now_ns)
{
	size_t old = 0;

	while (old < k->count && now_ns - k->young[old].at_ns > MINUTE_NS)
		k->settled = k->young[old++].counter;
	k->count -= old;
	memmove(k->young, k->young + old, k->count * sizeof(k->young[0]));
	if (counter < k->settled)
		return k->settled;
	/* Who runs ahead of the pace is noticed again when there is room. */
	if (counter > wr_counters_newest(k) && k->count < WR_COUNTER_SLOTS) {
		k->young[k->count].counter = counter;
		k->young[k->count++].at_ns = now_ns;
	}
	return 0;
}

/* ---- saves ---- */

/* Can one value stand for both? An absent one asks for nothing. */
static bool
agree(const json_t *a, const json_t *b, const char *key)
{
	const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);

	return !x || !y || json_equal(x, y);
}

static bool
same(const json_t *a, const json_t *b, const char *key)
{
	const json_t *x = json_object_get(a, key), *y = json_object_get(b, key);

	return x == y || (x && y && json_equal(x, y));
}

bool
wr_save_joins(const json_t *waiting, const json_t *wish, json_t **out_merged)
{
	/* Who named targets wants those alone, who named none all of them. */
	if (!agree(waiting, wish, "tag") || !agree(waiting, wish, "message") ||
	    !same(waiting, wish, "targets") || !same(waiting, wish, "replicate_wait") ||
	    !same(waiting, wish, "rf"))
		return false;
	if (out_merged) {
		*out_merged = json_copy((json_t *)(uintptr_t)waiting);
		json_object_update_missing(*out_merged, (json_t *)(uintptr_t)wish);
	}
	return true;
}

uint64_t
wr_save_due(uint64_t last_s, uint64_t every_s, uint64_t min_s, const struct wr_uuid *id)
{
	uint64_t hash = 14695981039346656037u, due;

	if (every_s == 0)
		return UINT64_MAX;
	for (const char *p = id->s; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 1099511628211u;
	due = last_s - last_s % every_s + (hash >> 16) % every_s;
	if (due <= last_s)
		due += every_s;
	return WR_MAX(due, last_s + WR_MIN(min_s, every_s));
}

/* ---- holders ---- */

json_t *
wr_holders_parse(const char *text)
{
	json_t *a = text ? wr_json_parse(text, strlen(text), NULL) : NULL;

	if (json_is_array(a))
		return a;
	json_decref(a);
	return json_array();
}

static size_t
holder_find(const json_t *holders, const char *name)
{
	size_t i;
	json_t *h;

	json_array_foreach(holders, i,
			   h) if (!strcmp(wr_json_get_str(h, "name", ""), name)) return i;
	return SIZE_MAX;
}

bool
wr_holders_add(json_t *holders, const char *name, int64_t now)
{
	json_t *h;

	if (holder_find(holders, name) != SIZE_MAX)
		return false;
	h = wr_json_item(holders);
	wr_json_str(h, "name", name);
	wr_json_time(h, "since", now);
	return true;
}

bool
wr_holders_drop(json_t *holders, const char *name)
{
	size_t i = holder_find(holders, name);

	return i != SIZE_MAX && json_array_remove(holders, i) == 0;
}

char *
wr_holders_text(const json_t *holders)
{
	struct wr_buf b = WR_BUF_INIT;

	wr_json_write(holders, &b);
	return wr_buf_detach(&b, NULL);
}

int
wr_holder_room(const json_t *holders, const char *name, struct wr_err *err)
{
	if (json_array_size(holders) < HOLDERS_MAX || holder_find(holders, name) != SIZE_MAX)
		return 0;
	wr_err_set(err, WR_E_LIMIT, "holder: %d hold this project already", HOLDERS_MAX);
	return wr_err_hint(err, "stop it for one of them: warren stop ID --holder NAME");
}

int
wr_holder_check(const char *name, struct wr_err *err)
{
	size_t n = strlen(name);

	if (n < 1 || n > 64 || !wr_utf8_valid(name, n))
		return wr_err_set(err, WR_E_INVALID, "holder: '%s' is not 1 to 64 bytes of UTF-8",
				  WR_Q(name));
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return wr_err_set(err, WR_E_INVALID, "holder: '%s' has control characters",
					  WR_Q(name));
	return 0;
}

/* Linear in both: one star to go back to is enough. */
bool
wr_glob_name(const char *pattern, const char *name)
{
	const char *star = NULL, *mark = NULL;

	while (*name) {
		if (*pattern == '*') {
			star = pattern++;
			mark = name;
		} else if (*pattern == '?' || *pattern == *name) {
			pattern++;
			name++;
		} else if (star) {
			pattern = star + 1;
			name = ++mark;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}
