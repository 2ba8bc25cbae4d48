/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of a transfer against a far side that says anything.  The first byte chooses:
 *   0  the rest is fed to a receiver      1  the rest is fed to a sender
 *   2  a recipe for objects, which come to a receiver as a well-formed stream; what the repository
 *      then takes must be whole:
 *        per object: kind, number of references, that many pairs of bytes (which object, how)
 */
#include <fcntl.h>
#include <unistd.h>

#include "engine/object/tree.h"
#include "engine/pack/pack.h"
#include "engine/repo/verify.h"
#include "fleet/sync/sync.h"
#include "sys/fs.h"

#define OBJECTS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], path[80];
static struct wr_repo *repo;

static void
remove_all(void)
{
	wr_repo_close(repo);
	(void)wr_remove_tree(AT_FDCWD, dir, NULL);
}

/* An empty repository. */
static void
fresh(void)
{
	struct wr_err err = WR_ERR_INIT;
	const char *base = getenv("TMPDIR");
	bool existed;

	if (!*dir) {
		snprintf(dir, sizeof(dir), "%.40s/fuzz-sync-XXXXXX", base && *base ? base : "/tmp");
		wr_assert(mkdtemp(dir));
		snprintf(path, sizeof(path), "%s/repo", dir);
		atexit(remove_all);
	}
	wr_repo_close(repo);
	(void)wr_remove_tree(AT_FDCWD, path, NULL);
	wr_assert(wr_repo_init(path, 16, &existed, &err) == 0);
	wr_assert(wr_repo_open(path, &repo, &err) == 0);
}

static void
drain(struct wr_sync *m)
{
	uint8_t buf[4096];

	while (wr_sync_pull(m, buf, sizeof(buf)) || wr_sync_busy(m))
		;
}

static void
feed(struct wr_sync *m, const uint8_t *p, size_t len)
{
	drain(m);
	for (size_t at = 0, n; at < len; at += n) {
		n = WR_MIN(len - at, (size_t)97);
		wr_sync_feed(m, p + at, n);
		drain(m);
	}
	wr_sync_eof(m);
	drain(m);
	wr_assert(wr_sync_status(m) != WR_SYNC_RUNNING);
}

static void
check_whole(void)
{
	struct wr_verify_opts o = {.data = true, .threads = 1};
	struct wr_verify_result res = {0};
	struct wr_err err = WR_ERR_INIT;

	wr_assert(wr_verify(repo, &o, &res, &err) == 0);
	for (size_t i = 0; i < res.damage_count; i++)
		wr_assert(res.damage[i].kind != WR_DAMAGE_MISSING);
	wr_verify_result_fini(&res);
}

static void
receive(const struct wr_id *tip, const uint8_t *p, size_t len)
{
	char name[] = "refs/heads/main";
	struct wr_save_ref ref = {.name = name};
	struct wr_save_rec list = {.ref = &ref, .ref_count = 1};
	struct wr_sync_recv_opts o = {.mode = WR_SYNC_PUSH, .max_object = 1u << 20};
	struct wr_sync *m;

	memcpy(ref.id, tip->b, WR_ID_LEN);
	m = wr_sync_recv_new(repo, &list, &o);
	feed(m, p, len);
	if (wr_sync_status(m) == WR_SYNC_READY) {
		struct wr_sync_commit c = {.floor_s = -1, .ident = "F <f@f>"};
		struct wr_sync_result res;
		struct wr_err err = WR_ERR_INIT;

		wr_assert(wr_sync_recv_commit(m, &c, &res, &err) == 0);
		wr_sync_free(m);
		check_whole();
		fresh();
		return;
	}
	wr_sync_free(m);
}

/* ---- a stream from a recipe; frames as in doc/format/sync.md ---- */

static size_t
frame(struct wr_buf *b, uint8_t type)
{
	wr_buf_add32be(b, 0);
	wr_buf_add8(b, type);
	return b->len;
}

static void
frame_end(struct wr_buf *b, size_t at)
{
	wr_put32be(b->p + at - 5, (uint32_t)(b->len - at));
}

/* Payload of the next object; references go to earlier ones, or nowhere. */
static enum wr_obj_type
payload(struct wr_rd *r, const struct wr_id *id, size_t count, struct wr_buf *out)
{
	static const uint32_t mode[] = {WR_MODE_FILE, WR_MODE_TREE, WR_MODE_LINK, 0160000};
	enum wr_obj_type type = 1 + wr_rd8(r) % 4;
	unsigned refs = wr_rd8(r) % 8;
	struct wr_id to[8] = {{{0}}};
	uint8_t how[8] = {0};

	for (unsigned i = 0; i < refs; i++) {
		uint8_t which = wr_rd8(r);

		how[i] = wr_rd8(r);
		if (which < count)
			to[i] = id[which];
		else
			memset(to[i].b, which, WR_ID_LEN);
	}
	wr_buf_clear(out);
	if (type == WR_OBJ_COMMIT)
		wr_commit_format(out, &to[0], refs > 1 ? &to[1] : NULL, "F <f@f>", how[0], "m\n");
	else if (type == WR_OBJ_TAG)
		wr_buf_addf(out, "object %s\ntype %s\ntag t\n\n", wr_id_hex(&to[0]).s,
			    wr_obj_type_name(1 + how[0] % 4));
	else if (type == WR_OBJ_BLOB)
		wr_buf_add(out, how, sizeof(how));
	for (unsigned i = 0; i < refs && type == WR_OBJ_TREE; i++) {
		char name[] = {(char)('a' + i), '.', 'b', 'u', 'p'};

		wr_tree_add(out, mode[how[i] & 3], name, how[i] & 4 ? 5 : 1, &to[i]);
	}
	return type;
}

static void
recipe(struct wr_rd r)
{
	struct wr_buf b = WR_BUF_INIT, objects = WR_BUF_INIT, p = WR_BUF_INIT;
	struct wr_deflater *d = wr_deflater_new(0);
	struct wr_id id[OBJECTS_MAX] = {{{0}}};
	size_t count = 0, at;

	while (r.left > 0 && count < OBJECTS_MAX) {
		enum wr_obj_type type = payload(&r, id, count, &p);
		size_t start = objects.len;

		id[count++] = wr_obj_id(type, p.p, p.len);
		wr_buf_add32be(&objects, 0);
		wr_pack_entry_make(d, type, p.p, p.len, &objects);
		wr_put32be(objects.p + start, (uint32_t)(objects.len - start - 4));
	}
	if (count > 0) {
		at = frame(&b, 5);
		for (unsigned i = 0; i < WR_ID_LEN; i++)
			wr_buf_add8(&b, 1);
		wr_buf_add64be(&b, count);
		wr_buf_add64be(&b, objects.len);
		wr_buf_add32be(&b, 0);
		frame_end(&b, at);
		at = frame(&b, 7);
		wr_buf_add(&b, objects.p, objects.len);
		frame_end(&b, at);
		at = frame(&b, 8);
		wr_buf_add64be(&b, count);
		frame_end(&b, at);
		receive(&id[count - 1], b.p, b.len);
	}
	wr_deflater_free(d);
	wr_buf_fini(&b);
	wr_buf_fini(&objects);
	wr_buf_fini(&p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wr_id tip = {{1}};

	if (size == 0)
		return 0;
	if (!repo)
		fresh();
	if (data[0] % 3 == 2) {
		recipe(wr_rd(data + 1, size - 1));
	} else if (data[0] % 3 == 1) {
		struct wr_save_rec none = {0};
		struct wr_sync *m = wr_sync_send_new(repo, &none, NULL);

		feed(m, data + 1, size - 1);
		wr_sync_free(m);
	} else {
		receive(&tip, data + 1, size - 1);
	}
	return 0;
}
