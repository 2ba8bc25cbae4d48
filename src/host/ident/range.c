/* SPDX-License-Identifier: Apache-2.0 */
#include "host/ident/ident_int.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/str.h"
#include "sys/fs.h"
#include "sys/getent.h"

/* LIMIT: of subuid and sssd.conf; hosts with 100,000 users have some MiB. */
#define FILE_MAX ((size_t)16 << 20)
/* LIMIT: of numbers that are asked after before we give up: a directory has the whole range. */
#define TRIES_MAX 1000

/* As systemd's UIDS-GIDS.md gives them away. */
#define DYNAMIC_FIRST 61184u
#define DYNAMIC_LAST 65519u
#define NOBODY_FIRST 65534u /* and what 16 bits take for -1 */
#define NOBODY_LAST 65535u
#define CONTAINER_FIRST 524288u
#define CONTAINER_LAST 1879048191u
#define FOREIGN_FIRST 2147352576u
#define FOREIGN_LAST 2147418111u
/* Of sssd's ldap_idmap_range_min and _max, the latter not included. */
#define SSSD_FIRST 200000u
#define SSSD_LAST 2000199999u

const char *
wr_ident_etc(const struct wr_node *n)
{
	return n->config.identity_etc ? n->config.identity_etc : "/etc";
}

void
wr_ident_taken_fini(struct wr_ident_taken *t)
{
	free(t->range);
	*t = (struct wr_ident_taken){0};
}

static void WR_PRINTF(4, 5)
    add(struct wr_ident_taken *t, uint64_t first, uint64_t last, const char *fmt, ...)
{
	struct wr_ident_range *r;
	va_list ap;

	if (first > UINT32_MAX || last < first)
		return;
	if ((t->count & (t->count - 1)) == 0)
		t->range =
		    wr_reallocarray(t->range, t->count ? t->count * 2 : 1, sizeof(*t->range));
	r = &t->range[t->count++];
	r->first = (uint32_t)first;
	r->last = (uint32_t)WR_MIN(last, (uint64_t)UINT32_MAX);
	va_start(ap, fmt);
	vsnprintf(r->whose, sizeof(r->whose), fmt, ap);
	va_end(ap);
}

/* OWNER:FIRST:COUNT; lines that are none give nothing away, as for newuidmap. */
static int
add_sub(const struct wr_node *n, const char *name, struct wr_ident_taken *t, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/%s", wr_ident_etc(n), name);
	struct wr_err why = WR_ERR_INIT;
	char *save = NULL;

	if (wr_read_file(AT_FDCWD, path, FILE_MAX, &b, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	wr_buf_add8(&b, '\0');
	for (char *line = strtok_r((char *)b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *first = strchr(line, ':'), *count = first ? strchr(first + 1, ':') : NULL;
		uint64_t from, many;

		if (!count)
			continue;
		*first++ = *count++ = '\0';
		if (wr_parse_u64(first, &from, NULL) < 0 || wr_parse_u64(count, &many, NULL) < 0 ||
		    !many || from > UINT32_MAX)
			continue;
		add(t, from, from + WR_MIN(many, (uint64_t)UINT32_MAX) - 1, "%.40s's in %.40s",
		    WR_Q(line), path);
	}
	return 0;
}

int
wr_ident_taken_load(const struct wr_node *n, struct wr_ident_taken *out, struct wr_err *err)
{
	struct wr_ident_taken t = {0};

	add(&t, 0, 0, "root's");
	add(&t, DYNAMIC_FIRST, DYNAMIC_LAST, "systemd's, for users of services");
	add(&t, NOBODY_FIRST, NOBODY_LAST, "nobody's");
	add(&t, UINT32_MAX, UINT32_MAX, "the kernel's");
	if (add_sub(n, "subuid", &t, err) < 0 || add_sub(n, "subgid", &t, err) < 0) {
		wr_ident_taken_fini(&t);
		return -1;
	}
	*out = t;
	return 0;
}

int
wr_ident_doubtful_load(const struct wr_node *n, struct wr_ident_taken *out, struct wr_err *err)
{
	static const char key[] = "ldap_idmap_range_m";
	WR_SCOPED(wr_freep) char *path = wr_asprintf("%s/sssd/sssd.conf", wr_ident_etc(n));
	WR_SCOPED(wr_buf_fini) struct wr_buf b = WR_BUF_INIT;
	uint64_t first = SSSD_FIRST, last = SSSD_LAST, v;
	struct wr_err why = WR_ERR_INIT;
	char *save = NULL;

	*out = (struct wr_ident_taken){0};
	add(out, CONTAINER_FIRST, CONTAINER_LAST, "systemd's, for containers");
	add(out, FOREIGN_FIRST, FOREIGN_LAST, "systemd's, for foreign images");
	if (wr_read_file(AT_FDCWD, path, FILE_MAX, &b, &why) < 0) {
		if (why.code == WR_E_NOT_FOUND)
			return 0;
		wr_ident_taken_fini(out);
		*err = why;
		return -1;
	}
	wr_buf_add8(&b, '\0');
	for (char *line = strtok_r((char *)b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, '='), *end;
		bool is_min;

		line += strspn(line, " \t");
		if (!value || strncmp(line, key, sizeof(key) - 1) != 0)
			continue;
		is_min = !strncmp(line + sizeof(key) - 1, "in", 2);
		value += 1 + strspn(value + 1, " \t");
		end = value + strspn(value, "0123456789");
		*end = '\0';
		if (wr_parse_u64(value, &v, NULL) < 0)
			continue;
		if (is_min)
			first = v;
		else
			last = v ? v - 1 : 0;
	}
	add(out, first, last, "sssd's, by %.60s", path);
	return 0;
}

const struct wr_ident_range *
wr_ident_taken_find(const struct wr_ident_taken *t, uint32_t first, uint32_t last)
{
	const struct wr_ident_range *best = NULL;

	for (size_t i = 0; i < t->count; i++)
		if (t->range[i].first <= last && t->range[i].last >= first &&
		    (!best || t->range[i].first < best->first))
			best = &t->range[i];
	return best;
}

int
wr_ident_next(const struct wr_node *n, wr_ident_free_fn fn, void *ctx, uint32_t *out,
	      struct wr_err *err)
{
	WR_SCOPED(wr_ident_taken_fini) struct wr_ident_taken taken = {0};
	uint64_t first = n->config.uid_first;
	const uint32_t last = n->config.uid_last;
	const struct wr_ident_range *r = NULL;
	struct wr_getent_entry e;
	uint32_t uid;

	if (wr_ident_taken_load(n, &taken, err) < 0)
		return wr_err_wrap(err, "choose a uid");
	for (unsigned tries = 0; first <= last && tries < TRIES_MAX;) {
		if (fn(ctx, (uint32_t)first, last, &uid, err) < 0)
			return -1;
		r = wr_ident_taken_find(&taken, uid, uid);
		if (r) {
			first = (uint64_t)r->last + 1;
			continue;
		}
		/* The gid is to be the same. Failed: it is not known to be somebody's. */
		if (wr_getent_by_id(false, uid, &e) != WR_GETENT_FOUND &&
		    wr_getent_by_id(true, uid, &e) != WR_GETENT_FOUND) {
			*out = uid;
			return 0;
		}
		tries++;
		first = (uint64_t)uid + 1;
	}
	wr_err_set(err, WR_E_LIMIT, "[node] uid_range %u-%u: what is free of it is %s",
		   n->config.uid_first, last,
		   r ? r->whose : "known to the name service as others'");
	return wr_err_hint(err, "choose a range that is nobody's: see warren doctor");
}
