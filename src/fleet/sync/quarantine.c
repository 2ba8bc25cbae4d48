/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What came and is not part of the repository yet.  The pack grows by whole entries that were
 * hashed before; behind the last one there may be anything after a crash, so a resumption reads it
 * all again and cuts it where the first bad entry begins.  What the next stream has no use for goes
 * out of it then, in place: a crash in between loses entries, which come again, and makes none up,
 * since each is hashed.  The lock tells those in use from those that may be removed.
 *
 * DURABLE: pack, index and directory are synced before READY; commit only renames.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fleet/sync/sync_int.h"
#include "sys/crash.h"
#include "sys/fs.h"

#define INCOMING "warren/incoming"
#define HEAD_LEN 12
#define OUT_LEN ((size_t)1 << 20)
#define FLUSH_BYTES ((uint64_t)8 << 20)
/* One part in so many. */
#define FEW 256
#define TYPE_SHIFT 61
/* LIMIT: unused quarantines that may lie there. */
#define UNUSED_MAX 4

static struct wr_id_hex
dir_name(const struct wr_stream_id *id)
{
	struct wr_id copy;

	memcpy(copy.b, id->b, WR_ID_LEN);
	return wr_id_hex(&copy);
}

/* ---- those that lie there ---- */

struct lying {
	struct wr_stream_id id;
	int64_t mtime;
	uint64_t bytes;
};

static struct lying *
list_all(struct wr_repo *r, size_t *out_count)
{
	int fd = openat(wr_repo_fd(r), INCOMING, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct lying *all = NULL;
	size_t count = 0, cap = 0;
	struct dirent *e;

	if (!d)
		wr_closep(&fd);
	while (d && (e = readdir(d))) {
		char path[80];
		struct stat st;
		struct wr_id id;

		if (strlen(e->d_name) != 2 * WR_ID_LEN || !wr_id_parse(e->d_name, &id))
			continue;
		snprintf(path, sizeof(path), "%s/pack", e->d_name);
		if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			st.st_size = 0;
			if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
				continue;
			st.st_size = 0;
		}
		wr_grow(&all, &cap, count + 1, sizeof(*all));
		memcpy(all[count].id.b, id.b, WR_ID_LEN);
		all[count].mtime = st.st_mtim.tv_sec;
		all[count++].bytes = (uint64_t)st.st_size;
	}
	if (d)
		closedir(d);
	*out_count = count;
	return all;
}

/* The largest first. */
static int
by_bytes(const void *a, const void *b)
{
	const struct lying *x = a, *y = b;

	return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

/* Its directory with the lock held, or -1. */
static int
take_dir(struct wr_repo *r, const struct wr_stream_id *id, bool make, struct wr_lock *lock,
	 struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf(INCOMING "/%s", dir_name(id).s);

	for (int i = 0; i < 8; i++) {
		WR_SCOPED(wr_closep) int fd = -1;
		struct stat mine, now;

		if (make && wr_mkdirs(wr_repo_fd(r), path, 0755, err) < 0)
			return -1;
		fd = wr_open_dir(wr_repo_fd(r), path);
		if (fd < 0 && errno == ENOENT && make)
			continue;
		if (fd < 0)
			return wr_err_sys(err, "open '%s'", path);
		if (wr_lock_take(lock, fd, "lock", 0, "receiving\n", NULL, err) < 0)
			return wr_err_wrap(err, "another transfer of the same");
		/* Whoever held it before may have removed it. */
		if (fstat(fd, &mine) == 0 &&
		    fstatat(wr_repo_fd(r), path, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
		    mine.st_ino == now.st_ino && mine.st_dev == now.st_dev) {
			int out = fd;

			fd = -1;
			return out;
		}
		wr_lock_drop(lock);
	}
	return wr_err_set(err, WR_E_BUSY, "'%s' comes and goes", path);
}

static void
remove_dir(struct wr_repo *r, const struct wr_stream_id *id)
{
	WR_SCOPED(wr_freep) char *path = wr_asprintf(INCOMING "/%s", dir_name(id).s);

	/* Best effort: what stays is found again by its age. */
	(void)wr_remove_tree(wr_repo_fd(r), path, NULL);
}

static void
remove_unused(struct wr_repo *r, const struct wr_stream_id *id)
{
	struct wr_lock lock = WR_LOCK_INIT;
	WR_SCOPED(wr_closep) int fd = take_dir(r, id, false, &lock, NULL);

	if (fd >= 0)
		remove_dir(r, id);
	wr_lock_drop(&lock);
}

void
wr_quar_tidy(struct wr_repo *r, int64_t now, int64_t stale_s)
{
	size_t count;
	WR_SCOPED(wr_freep) struct lying *all = list_all(r, &count);

	for (size_t i = 0; i < count; i++)
		if (stale_s >= 0 && now - all[i].mtime > stale_s)
			remove_unused(r, &all[i].id);
}

static int
by_age(const void *a, const void *b)
{
	const struct lying *x = a, *y = b;

	return x->mtime < y->mtime ? -1 : x->mtime > y->mtime;
}

/* Before a new one begins: older ones of the same list will not be resumed, and there must not be
 * too many others. */
static void
make_room(struct wr_repo *r, const struct wr_stream_id *id)
{
	size_t count, kept = 0;
	WR_SCOPED(wr_freep) struct lying *all = list_all(r, &count);

	if (count)
		qsort(all, count, sizeof(*all), by_age);
	for (size_t i = count; i-- > 0;) {
		if (memcmp(all[i].id.b, id->b, WR_ID_LEN) == 0)
			continue;
		if (memcmp(all[i].id.b, id->b, WR_STREAM_LIST_LEN) == 0 || ++kept > UNUSED_MAX)
			remove_unused(r, &all[i].id);
	}
}

/* ---- opening ---- */

/*
 * What was written goes to the disk while more comes, one piece behind: at the end little is left
 * to be synced.  Pages that are on the disk are given back where hardly anything will be read again
 * (the check reads all but blobs): memory that stays in use is faster to fill than new memory is to
 * get, and what others have cached stays.
 */
static int
start_writeback(struct wr_quar *q, struct wr_err *err)
{
	const off_t at = (off_t)q->settled, n = (off_t)(q->flushed - q->settled);

	/* Without waiting: failure shows later. */
	(void)sync_file_range(q->fd, (off_t)q->flushed, (off_t)(q->out_off - q->flushed),
			      SYNC_FILE_RANGE_WRITE);
	/* One that this has told of no fsync tells of again. */
	if (n > 0 &&
	    sync_file_range(q->fd, at, n,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				SYNC_FILE_RANGE_WAIT_AFTER) < 0 &&
	    errno != ENOSYS)
		return wr_err_sys(err, "write an incoming pack");
	if (n > 0 && q->bytes / FEW > q->others)
		wr_uncache(q->fd, q->settled, q->flushed - q->settled);
	q->settled = q->flushed;
	q->flushed = q->out_off;
	return 0;
}

static int
flush_out(struct wr_quar *q, struct wr_err *err)
{
	if (wr_pwrite_all(q->fd, q->out.p, q->out.len, q->out_off) < 0)
		return wr_err_sys(err, "write an incoming pack");
	q->out_off += q->out.len;
	wr_buf_clear(&q->out);
	if (q->out.cap > 2 * OUT_LEN)
		wr_buf_fini(&q->out);
	if (q->out_off - q->flushed >= FLUSH_BYTES && start_writeback(q, err) < 0)
		return -1;
	wr_crash_point("sync.written");
	return 0;
}

void
wr_quar_close(struct wr_quar *q)
{
	if (!q)
		return;
	/* For a resumption; what is lost comes again. */
	if (q->fd >= 0 && !q->sealed && q->out.len > 0)
		(void)flush_out(q, NULL);
	wr_idx_close(&q->idx);
	wr_pack_close(&q->pack);
	wr_pack_reader_free(q->pr);
	wr_closep(&q->fd);
	wr_closep(&q->dir_fd);
	wr_lock_drop(&q->lock);
	wr_buf_fini(&q->out);
	wr_buf_fini(&q->payload);
	wr_buf_fini(&q->raw);
	free(q->e);
	free(q->type);
	free(q);
}

void
wr_quar_drop(struct wr_quar *q)
{
	if (!q)
		return;
	remove_dir(q->repo, &q->stream);
	wr_quar_close(q);
}

static void
put_head(const struct wr_quar *q, uint8_t head[HEAD_LEN])
{
	memcpy(head, "PACK", 4);
	wr_put32be(head + 4, 2);
	wr_put32be(head + 8, (uint32_t)q->total);
}

/* Of the entries, of what is written and of what is on its way to the disk. */
static void
set_end(struct wr_quar *q, uint64_t end)
{
	q->bytes = q->out_off = q->flushed = q->settled = end;
}

static struct wr_quar *
quar_new(struct wr_repo *r, const struct wr_stream_id *id)
{
	struct wr_quar *q = wr_calloc(1, sizeof(*q));

	q->repo = r;
	q->stream = *id;
	q->lock = (struct wr_lock)WR_LOCK_INIT;
	q->dir_fd = q->fd = -1;
	q->pack = (struct wr_pack)WR_PACK_INIT;
	set_end(q, HEAD_LEN);
	return q;
}

static int
open_pack(struct wr_quar *q, int flags, struct wr_err *err)
{
	(void)unlinkat(q->dir_fd, "idx", 0);
	/* One that was complete when its transfer died is read-only. */
	if (fchmodat(q->dir_fd, "pack", 0644, 0) < 0 && errno != ENOENT)
		return wr_err_sys(err, "take up an incoming pack");
	q->fd = openat(q->dir_fd, "pack", O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0644);
	return q->fd < 0 ? wr_err_sys(err, "open an incoming pack") : 0;
}

struct wr_quar *
wr_quar_take(struct wr_repo *r, uint64_t max_bytes)
{
	size_t count;
	WR_SCOPED(wr_freep) struct lying *all = list_all(r, &count);

	if (count)
		qsort(all, count, sizeof(*all), by_bytes);
	for (size_t i = 0; i < count && all[i].bytes > HEAD_LEN; i++) {
		struct wr_quar *q;

		if (all[i].bytes > max_bytes)
			continue;
		q = quar_new(r, &all[i].id);
		q->dir_fd = take_dir(r, &all[i].id, false, &q->lock, NULL);
		if (q->dir_fd >= 0 && open_pack(q, 0, NULL) == 0)
			return q;
		wr_quar_close(q);
	}
	return NULL;
}

struct wr_quar *
wr_quar_new(struct wr_repo *r, const struct wr_stream_id *id, uint64_t total, struct wr_err *err)
{
	struct wr_quar *q = quar_new(r, id);
	uint8_t head[HEAD_LEN];

	q->total = total;
	put_head(q, head);
	q->dir_fd = take_dir(r, id, true, &q->lock, err);
	if (q->dir_fd < 0)
		goto fail;
	make_room(r, id);
	if (open_pack(q, O_CREAT, err) < 0)
		goto fail;
	if (ftruncate(q->fd, 0) < 0 || wr_pwrite_all(q->fd, head, HEAD_LEN, 0) < 0) {
		wr_err_sys(err, "write an incoming pack");
		goto fail;
	}
	wr_sha1_init(&q->sha);
	wr_sha1_add(&q->sha, head, HEAD_LEN);
	return q;
fail:
	wr_quar_close(q);
	return NULL;
}

int
wr_quar_unseal(struct wr_quar *q, struct wr_err *err)
{
	wr_assert(q->sealed);
	wr_idx_close(&q->idx);
	wr_pack_close(&q->pack);
	wr_pack_reader_free(wr_steal(&q->pr));
	free(wr_steal(&q->type));
	q->sealed = false;
	q->count = q->cap = 0;
	set_end(q, HEAD_LEN);
	if (unlinkat(q->dir_fd, "idx", 0) < 0 || fchmod(q->fd, 0644) < 0)
		return wr_err_sys(err, "take up an incoming pack");
	return 0;
}

static void
note_entry(struct wr_quar *q, enum wr_obj_type type, const struct wr_id *id, uint32_t crc,
	   size_t len)
{
	wr_grow(&q->e, &q->cap, q->count + 1, sizeof(*q->e));
	q->e[q->count++] = (struct wr_idx_entry){
	    .id = *id, .crc = crc, .off = q->bytes | (uint64_t)type << TYPE_SHIFT};
	q->bytes += len;
	if (type != WR_OBJ_BLOB)
		q->others += len;
}

int
wr_quar_load(struct wr_quar *q, size_t budget, struct wr_err *err)
{
	if (q->pack.fd < 0) {
		/* Too short for a pack: nothing to load. */
		if (wr_pack_open(&q->pack, q->dir_fd, "pack", NULL) < 0)
			goto end;
		q->pr = wr_pack_reader_new();
	}
	while (q->count < WR_SYNC_HELD_MAX) {
		enum wr_obj_type type;
		struct wr_id id;
		uint32_t crc;

		if (budget-- == 0)
			return 1;
		if (wr_pack_scan(&q->pack, q->pr, q->bytes, &type, &crc, &q->payload, &q->raw,
				 NULL) < 0)
			break;
		id = wr_obj_id(type, q->payload.p, q->payload.len);
		note_entry(q, type, &id, crc, q->raw.len);
	}
end:
	wr_pack_close(&q->pack);
	wr_pack_reader_free(wr_steal(&q->pr));
	wr_buf_fini(&q->payload);
	wr_buf_fini(&q->raw);
	if (ftruncate(q->fd, (off_t)q->bytes) < 0)
		return wr_err_sys(err, "cut an incoming pack");
	return 0;
}

static uint64_t
entry_off(const struct wr_quar *q, size_t i)
{
	return q->e[i].off & ((UINT64_C(1) << TYPE_SHIFT) - 1);
}

/* Entry i, which ends at end, goes behind those that were kept. What is written lies before what
 * is still to be read. */
static int
keep_entry(struct wr_quar *q, size_t i, uint64_t end, struct wr_err *err)
{
	uint64_t off = entry_off(q, i);
	size_t len = (size_t)(end - off);
	struct wr_idx_entry e = q->e[i];

	wr_buf_clear(&q->raw);
	wr_buf_reserve(&q->raw, len);
	if (wr_pread_full(q->fd, q->raw.p, len, off) != (ssize_t)len)
		return wr_err_sys(err, "read an incoming pack");
	wr_sha1_add(&q->sha, q->raw.p, len);
	if (off == q->bytes)
		q->out_off = q->flushed = q->settled = end;
	else
		wr_buf_add(&q->out, q->raw.p, len);
	e.off = q->bytes | (e.off & ~((UINT64_C(1) << TYPE_SHIFT) - 1));
	q->e[q->count++] = e;
	q->bytes += len;
	return q->out.len >= OUT_LEN ? flush_out(q, err) : 0;
}

static int
start_keeping(struct wr_quar *q, uint64_t total, struct wr_err *err)
{
	uint8_t head[HEAD_LEN];

	q->keeping = true;
	q->total = total;
	q->keep_at = 0;
	q->keep_count = q->count;
	q->keep_end = q->bytes;
	q->count = 0;
	set_end(q, HEAD_LEN);
	put_head(q, head);
	wr_sha1_init(&q->sha);
	wr_sha1_add(&q->sha, head, HEAD_LEN);
	return wr_pwrite_all(q->fd, head, HEAD_LEN, 0) < 0
		   ? wr_err_sys(err, "write an incoming pack")
		   : 0;
}

int
wr_quar_keep(struct wr_quar *q, const uint8_t *bits, uint64_t total, size_t budget,
	     struct wr_err *err)
{
	if (!q->keeping && start_keeping(q, total, err) < 0)
		return -1;
	for (; q->keep_at < q->keep_count; q->keep_at++) {
		size_t i = q->keep_at;

		if (budget-- == 0)
			return 1;
		if ((bits[i / 8] >> (i % 8) & 1) &&
		    keep_entry(q, i, i + 1 < q->keep_count ? entry_off(q, i + 1) : q->keep_end,
			       err) < 0)
			return -1;
		wr_crash_point("sync.sorted");
	}
	q->keeping = false;
	wr_buf_fini(&q->raw);
	if (flush_out(q, err) < 0)
		return -1;
	if (ftruncate(q->fd, (off_t)q->bytes) < 0)
		return wr_err_sys(err, "cut an incoming pack");
	return 0;
}

/* ---- filling ---- */

struct wr_id
wr_quar_hash(struct wr_quar *q, enum wr_obj_type type, const struct wr_buf *payload,
	     const void *raw, size_t len)
{
	struct wr_sha1 id;

	wr_sha1_init_obj(&id, type, payload->len);
	wr_sha1_add_two(&id, payload->p, payload->len, &q->sha, raw, len);
	return wr_sha1_end(&id);
}

int
wr_quar_add(struct wr_quar *q, enum wr_obj_type type, const struct wr_id *id, uint32_t crc,
	    const void *raw, size_t len, struct wr_err *err)
{
	wr_assert(!q->sealed);
	wr_buf_add(&q->out, raw, len);
	note_entry(q, type, id, crc, len);
	return q->out.len >= OUT_LEN ? flush_out(q, err) : 0;
}

static int
entry_cmp(const void *a, const void *b)
{
	return wr_id_cmp(&((const struct wr_idx_entry *)a)->id,
			 &((const struct wr_idx_entry *)b)->id);
}

static int
write_idx(struct wr_quar *q, struct wr_err *err)
{
	WR_SCOPED(wr_buf_fini) struct wr_buf text = WR_BUF_INIT;
	WR_SCOPED(wr_closep) int fd = -1;

	qsort(q->e, q->count, sizeof(*q->e), entry_cmp);
	q->type = wr_calloc(q->count, 1);
	for (size_t i = 0; i < q->count; i++) {
		if (i > 0 && wr_id_eq(&q->e[i - 1].id, &q->e[i].id))
			return wr_err_set(err, WR_E_CORRUPT, "object %s came twice",
					  wr_id_hex(&q->e[i].id).s);
		q->type[i] = (uint8_t)(q->e[i].off >> TYPE_SHIFT);
		q->e[i].off &= (UINT64_C(1) << TYPE_SHIFT) - 1;
	}
	wr_idx_format(&text, q->e, q->count, &q->sum);
	free(wr_steal(&q->e));
	fd = openat(q->dir_fd, "idx", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0444);
	if (fd < 0 || wr_write_all(fd, text.p, text.len) < 0 || fsync(fd) < 0)
		return wr_err_sys(err, "write the index of an incoming pack");
	return 0;
}

int
wr_quar_seal(struct wr_quar *q, struct wr_err *err)
{
	wr_assert(!q->sealed && q->count == q->total && q->count > 0);
	q->sum = wr_sha1_end(&q->sha);
	wr_buf_add(&q->out, q->sum.b, WR_ID_LEN);
	if (flush_out(q, err) < 0 || write_idx(q, err) < 0)
		return -1;
	if (wr_pack_open(&q->pack, q->dir_fd, "pack", err) < 0 ||
	    wr_idx_open(&q->idx, q->dir_fd, "idx", err) < 0)
		return wr_err_wrap(err, "incoming pack");
	q->pr = wr_pack_reader_new();
	q->sealed = true;
	return 0;
}

int
wr_quar_sync(struct wr_quar *q, struct wr_err *err)
{
	if (fchmod(q->fd, 0444) < 0 || fsync(q->fd) < 0)
		return wr_err_sys(err, "sync an incoming pack");
	return wr_fsync_dir(q->dir_fd, ".", err);
}

int64_t
wr_quar_find_id(const struct wr_quar *q, const struct wr_id *id)
{
	return q->sealed ? wr_idx_find(&q->idx, id) : -1;
}

int
wr_quar_read(struct wr_quar *q, uint32_t pos, enum wr_obj_type *out_type, struct wr_buf *out,
	     struct wr_err *err)
{
	return wr_pack_read(&q->pack, &q->idx, q->pr, wr_idx_offset(&q->idx, pos), out_type, out,
			    err);
}

int
wr_quar_install(struct wr_quar *q, struct wr_err *err)
{
	WR_SCOPED(wr_freep) char *name = wr_asprintf("pack-%s", wr_id_hex(&q->sum).s);

	wr_crash_point("sync.install");
	if (wr_pack_publish(q->dir_fd, wr_repo_objects_fd(q->repo), name, err) < 0)
		return -1;
	wr_crash_point("sync.installed");
	wr_quar_drop(q);
	return 0;
}
